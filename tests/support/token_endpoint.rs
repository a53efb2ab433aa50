//! An identity provider's token endpoint: HTTPS on a loopback port of its own, with a certificate
//! of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the endpoint is asked: the head of the request, and its body.
pub struct Question {
    pub head: String,
    pub body: String,
}

type Answers = dyn FnMut(&Question) -> (u16, String) + Send;

/// See the module. Dropping it ends it.
pub struct TokenEndpoint {
    address: SocketAddr,
    ca_pem: String,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TokenEndpoint {
    /// Answers each question with a status and a body.
    pub fn start(
        answers: impl FnMut(&Question) -> (u16, String) + Send + 'static,
    ) -> TokenEndpoint {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("names");
        let certificate = params.self_signed(&key).expect("a certificate");
        let provider = Arc::new(rustls_graviola::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("its own key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, config) = (is_over.clone(), Arc::new(config));
        let answers: Mutex<Box<Answers>> = Mutex::new(Box::new(answers));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // A client that does not trust it closes.
                let _ = answer(stream, config.clone(), &answers);
            }
        });
        TokenEndpoint { address, ca_pem: certificate.pem(), is_over, thread: Some(thread) }
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/oauth/token", self.address.port())
    }

    /// Whom to trust.
    pub fn ca_pem(&self) -> String {
        self.ca_pem.clone()
    }
}

fn answer(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answers: &Mutex<Box<Answers>>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().expect("a number");
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let question = Question { head, body: String::from_utf8(body).expect("a form") };
    let (status, text) = answers.lock().expect("no answer panics")(&question);
    let stream = stream.get_mut();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
    stream.conn.send_close_notify();
    stream.flush()
}

impl Drop for TokenEndpoint {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}
