use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;

/// A server that answers one connection with these bytes, and returns what it was asked.
fn server(answer: &'static [u8]) -> (Url, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/token?x=1")).expect("a URL");
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"BODY") && stream.read(&mut byte).expect("it is sent") == 1 {
            asked.push(byte[0]);
        }
        stream.write_all(answer).expect("it is read");
        String::from_utf8(asked).expect("text")
    });
    (url, asked)
}

fn ask(url: &Url) -> Result<Response, Failure> {
    let timeouts = Timeouts { connect: Duration::from_secs(60), answer: Duration::from_secs(60) };
    let headers = vec![("Authorization", Zeroizing::new("Basic c2VjcmV0".to_owned()))];
    let body = Zeroizing::new("BODY".to_owned());
    send(&Request { method: "POST", url, headers, body }, None, timeouts)
}

#[test]
fn a_request_is_whole_and_its_response_is_read() {
    let answers: [(&'static [u8], u16, &[u8]); 5] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", 200, b"hello"),
        (b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, b""),
        (b"HTTP/1.0 401 No\r\n\r\nuntil the end", 401, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Nothing\r\n\r\n", 204, b""),
        (
            b"HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\r\n\r\n\
            3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            200,
            b"abc0123456789",
        ),
    ];
    for (answer, status, body) in answers {
        let (url, asked) = server(answer);
        let response = ask(&url).expect("it is one");
        assert_eq!((response.status, response.body.as_slice()), (status, body));
        let asked = asked.join().expect("it was asked");
        let port = url.port();
        let expected = format!(
            "POST /token?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: tidegate/{}\r\n\
             Connection: close\r\nAuthorization: Basic c2VjcmV0\r\nContent-Length: 4\r\n\r\nBODY",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(asked, expected);
    }
}

#[test]
fn what_is_no_response_is_told_without_its_bytes() {
    for answer in [
        b"".as_slice(),
        b"SECRET",
        b"SSH-2.0-SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\nSECRET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nSECRET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nSECRET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nSECRET",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nSECRET\r\n",
    ] {
        let (url, asked) = server(answer);
        let error = ask(&url).err().expect("it is none").words;
        let port = url.port();
        assert!(error.starts_with(&format!("127.0.0.1:{port}: ")), "{error}");
        assert!(!error.contains("SECRET") && !error.contains("c2VjcmV0"), "{error}");
        asked.join().expect("it was asked");
    }
}

#[test]
fn a_long_answer_is_not_read() {
    let long = b"HTTP/1.1 200 OK\r\n\r\n".iter().copied().chain(std::iter::repeat_n(b'x', 1 << 20));
    let (url, asked) = server(long.collect::<Vec<u8>>().leak());
    assert!(ask(&url).err().expect("too long").words.contains("too long"));
    drop(asked);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a URL");
    let timeouts = Timeouts { connect: Duration::from_secs(60), answer: Duration::from_millis(20) };
    let request =
        Request { method: "GET", url: &url, headers: Vec::new(), body: Zeroizing::default() };
    let error = send(&request, None, timeouts).err().expect("nobody answers").words;
    assert!(error.contains("in time"), "{error}");
    drop(listener);
    let error = send(&request, None, timeouts).err().expect("nobody listens").words;
    assert!(error.contains("cannot connect"), "{error}");
}

#[test]
fn what_would_break_out_of_a_header_is_not_sent() {
    let url = Url::parse("http://127.0.0.1:1/").expect("a URL");
    let headers = vec![("Authorization", Zeroizing::new("a\r\nX: y".to_owned()))];
    let request = Request { method: "GET", url: &url, headers, body: Zeroizing::default() };
    assert!(head(&request).is_err_and(|error| error.contains("Authorization")));
}
