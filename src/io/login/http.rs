//! A small client for HTTP/1.1 (RFC 9112), for the services that give tokens and credentials: one
//! request on one connection, which then ends.
//!
//! A library was not taken: what writes requests in the best kept one, ureq, logs their bytes at
//! the level trace, and they hold secrets. Nothing here is logged.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{CertificateError, ClientConnection, StreamOwned};
use zeroize::Zeroizing;

use super::super::tls::TlsClient;
use super::url::Url;

/// Bytes of one line of a response that are read. Of a whole response as many are read as this and
/// [`BODY_BYTES_MAX`] together.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a response's body that are read. Tokens have some thousand.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// Headers of one response.
const HEADERS_MAX: usize = 100;

/// What is asked.
pub(super) struct Request<'a> {
    pub method: &'static str,
    pub url: &'a Url,
    /// Besides `Host`, `Content-Length` and the like.
    pub headers: Vec<(&'static str, Zeroizing<String>)>,
    pub body: Zeroizing<String>,
}

/// What was answered.
pub(super) struct Response {
    pub status: u16,
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) struct Failure {
    /// In words that name the host, and hold nothing of the request or the response.
    pub words: String,
    /// The service's certificate was not accepted.
    pub is_about_trust: bool,
}

/// How long a request may take.
#[derive(Clone, Copy)]
pub(super) struct Timeouts {
    /// For a connection to one address.
    pub connect: Duration,
    /// From then to the end of the response.
    pub answer: Duration,
}

/// No service is waited for longer than this: a day.
const TIME_MAX: Duration = Duration::from_secs(86_400);

/// Sends a request and waits for the response. `tls` is for URLs of `https`.
pub(super) fn send(
    request: &Request<'_>,
    tls: Option<&Arc<TlsClient>>,
    timeouts: Timeouts,
) -> Result<Response, Failure> {
    let url = request.url;
    let failure = |what: &dyn std::fmt::Display, is_about_trust| Failure {
        words: format!("{}: {what}", url.authority()),
        is_about_trust,
    };
    let told = |what: &dyn std::fmt::Display| failure(what, false);
    let text = head(request).map_err(|error| told(&error))?;
    let limit = timeouts.connect.min(TIME_MAX);
    let stream = connect(url, limit).map_err(|error| told(&error))?;
    let deadline = Instant::now() + timeouts.answer.min(TIME_MAX);
    let stream = Timed { stream, deadline };
    if !url.is_https() {
        return exchange(stream, &text, &request.body).map_err(|error| told(&error));
    }
    let tls = tls.ok_or_else(|| told(&"https needs a TLS configuration"))?;
    let connection = tls.connect(url.host()).map_err(|problem| told(&problem.message()))?;
    let stream = StreamOwned::<ClientConnection, _>::new(connection, stream);
    exchange(stream, &text, &request.body).map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        // The words of `TlsClient::explain` are about brokers, and name their settings.
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) => match why {
                CertificateError::UnknownIssuer | CertificateError::Other(_) => {
                    failure(&"its certificate is of an authority that is not trusted", true)
                }
                why => failure(&format_args!("its certificate is not accepted: {why}"), true),
            },
            Some(error) => told(&format_args!("no TLS connection: {error}")),
            None => told(&error),
        }
    })
}

/// Tries the addresses of the URL's host, one after the other.
fn connect(url: &Url, timeout: Duration) -> Result<TcpStream, String> {
    let addresses = (url.host(), url.port()).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("its name cannot be looked up: {error}"))?;
    let mut problem = "its name has no addresses".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(problem)
}

/// A socket that gives up at a deadline.
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(late()) } else { Ok(Some(left)) }
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time")
}

/// A socket tells that its time is over in one of two ways.
fn in_time<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
        _ => error,
    })
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(self.left()?)?;
            match in_time(self.stream.read(buf)) {
                // By a signal.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        in_time(self.stream.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// The request's first line and its headers.
fn head(request: &Request<'_>) -> Result<Zeroizing<String>, String> {
    let Request { method, url, headers, body } = request;
    let mut text = Zeroizing::new(String::with_capacity(4 * 1024));
    let _ = write!(
        text,
        "{method} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tidegate/{}\r\nConnection: close\r\n",
        url.target(),
        url.authority(),
        env!("CARGO_PKG_VERSION"),
    );
    for (name, value) in headers {
        if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
            return Err(format!("what is to be sent as {name} has control characters"));
        }
        let _ = write!(text, "{name}: {}\r\n", value.as_str());
    }
    if *method != "GET" {
        let _ = write!(text, "Content-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    Ok(text)
}

fn exchange(mut stream: impl Read + Write, head: &str, body: &str) -> io::Result<Response> {
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()?;
    let mut received = Received { stream, bytes: Zeroizing::new(Vec::new()), begin: 0 };
    // A response of 1xx announces another one (RFC 9110 section 15.2).
    loop {
        let head = received.head()?;
        if head.status >= 200 {
            let body = received.body(&head)?;
            return Ok(Response { status: head.status, body });
        }
    }
}

/// What is known of a response before its body.
struct Head {
    status: u16,
    length: Option<usize>,
    is_chunked: bool,
}

/// Bytes of a response, as they come.
struct Received<S> {
    stream: S,
    bytes: Zeroizing<Vec<u8>>,
    /// Those before this were used.
    begin: usize,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its answer is no HTTP response: {what}"))
}

impl<S: Read> Received<S> {
    /// Waits for more bytes; false at the end of the connection.
    fn more(&mut self) -> io::Result<bool> {
        if self.bytes.len() > HEAD_BYTES_MAX + BODY_BYTES_MAX {
            return Err(broken("it is too long"));
        }
        let mut chunk = Zeroizing::new([0; 4 * 1024]);
        let count = self.stream.read(&mut *chunk)?;
        // Grown by hand, so that no copy of a token stays behind.
        if self.bytes.len() + count > self.bytes.capacity() {
            let mut larger = Vec::with_capacity((self.bytes.len() + count) * 2);
            larger.extend_from_slice(&self.bytes);
            self.bytes = Zeroizing::new(larger);
        }
        self.bytes.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    }

    /// The next line, without its end.
    fn line(&mut self, max: usize) -> io::Result<Zeroizing<String>> {
        loop {
            let rest = &self.bytes[self.begin..];
            if let Some(len) = rest.iter().position(|byte| *byte == b'\n') {
                let line = &rest[..len];
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let text = Zeroizing::new(String::from_utf8_lossy(line).into_owned());
                self.begin += len + 1;
                return Ok(text);
            }
            if rest.len() > max {
                return Err(broken("a line has no end"));
            }
            if !self.more()? {
                return Err(broken("it ends too early"));
            }
        }
    }

    fn head(&mut self) -> io::Result<Head> {
        let first = self.line(HEAD_BYTES_MAX)?;
        let mut words = first.split(' ');
        let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|code| code.parse().ok()).filter(|_| is_http);
        let status = status.ok_or_else(|| broken("it has no status"))?;
        let mut head = Head { status, length: None, is_chunked: false };
        for _ in 0..HEADERS_MAX {
            let line = self.line(HEAD_BYTES_MAX)?;
            if line.is_empty() {
                return Ok(head);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken("a bad header"))?;
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| broken("a bad length"))?;
                head.length = Some(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if !value.eq_ignore_ascii_case("chunked") {
                    return Err(broken("an encoding that was not asked for"));
                }
                head.is_chunked = true;
            }
        }
        Err(broken("too many headers"))
    }

    fn body(&mut self, head: &Head) -> io::Result<Zeroizing<Vec<u8>>> {
        if head.status == 204 || head.status == 304 {
            return Ok(Zeroizing::default());
        }
        if head.is_chunked {
            return self.chunks();
        }
        if let Some(length) = head.length {
            return self.take(length);
        }
        while self.more()? {
            self.check_size(self.bytes.len() - self.begin)?;
        }
        self.take(self.bytes.len() - self.begin)
    }

    fn check_size(&self, bytes: usize) -> io::Result<()> {
        if bytes > BODY_BYTES_MAX {
            return Err(broken("it is too long"));
        }
        Ok(())
    }

    /// The next `length` bytes.
    fn take(&mut self, length: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        self.check_size(length)?;
        while self.bytes.len() - self.begin < length {
            if !self.more()? {
                return Err(broken("it ends too early"));
            }
        }
        let taken = Zeroizing::new(self.bytes[self.begin..self.begin + length].to_vec());
        self.begin += length;
        Ok(taken)
    }

    /// A body in chunks (RFC 9112 section 7.1). What follows the last one is of no use here.
    fn chunks(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_BYTES_MAX));
        loop {
            let line = self.line(HEAD_BYTES_MAX)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| broken("a bad chunk"))?;
            if size == 0 {
                return Ok(body);
            }
            self.check_size(size.saturating_add(body.len()))?;
            body.extend_from_slice(&self.take(size)?);
            if !self.line(2)?.is_empty() {
                return Err(broken("a bad chunk"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
