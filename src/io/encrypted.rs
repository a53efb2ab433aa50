//! An encrypted connection (TLS): rustls over a non-blocking TCP stream.
//!
//! Encrypted bytes are kept in one buffer until the kernel takes them: those of at most
//! [`KEPT_BACK_MAX`] plain bytes, and what encryption adds. What is in it counts as written by the
//! connection that gave it: a broker may get it at any time.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConnection;

use super::probe_types::TlsDescription;
use super::tls::{TlsClient, certificate_words};
use super::transport::{closed, receive, send};
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// Encrypted bytes that wait for the kernel. Larger requests go through it piece by piece. As large
/// as this a piece costs little more than its encryption, and is still in cache when it is sent.
const KEPT_BACK_MAX: usize = 64 << 10;

/// So many receives in a row without data are an attack: session tickets and new keys are few.
const EMPTY_RECEIVES_MAX: usize = 1_000;

/// Receives that are tried after a write has failed.
const LAST_RECEIVES_MAX: usize = 8;

/// See the module.
pub(super) struct Encrypted {
    stream: TcpStream,
    tls: ClientConnection,
    /// For texts.
    host: Box<str>,
    /// Knows what its errors mean.
    client: Arc<TlsClient>,
    /// Plain bytes taken since the buffer was last empty. The kernel may have some of them already.
    taken: usize,
    /// Decrypted bytes that were not read.
    received: usize,
    /// The peer has said that nothing more comes.
    has_ended: bool,
    /// What `tls` found wrong, once it has.
    problem: Option<Problem>,
}

impl Encrypted {
    pub(super) fn new(
        stream: TcpStream,
        mut tls: ClientConnection,
        host: &str,
        client: &Arc<TlsClient>,
    ) -> Self {
        tls.set_buffer_limit(Some(KEPT_BACK_MAX));
        let (host, client) = (host.into(), client.clone());
        Encrypted {
            stream,
            tls,
            host,
            client,
            taken: 0,
            received: 0,
            has_ended: false,
            problem: None,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// How it is encrypted, once that is agreed on, and the broker's certificate.
    pub(super) fn describe(&self) -> TlsDescription {
        let name = |name: Option<String>| name.unwrap_or_default();
        let mut description = TlsDescription {
            version: name(self.tls.protocol_version().map(|version| format!("{version:?}"))),
            cipher: name(
                self.tls.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
            ),
            ..TlsDescription::default()
        };
        let certificate = self.tls.peer_certificates().and_then(|chain| chain.first());
        if let Some(words) = certificate.and_then(|certificate| certificate_words(certificate)) {
            (description.subject, description.issuer) = (words.subject, words.issuer);
            (description.names, description.expires_unix) = (words.names, words.expires);
        }
        description
    }

    /// Goes on with the handshake, as far as the kernel gives and takes bytes now. Returns whether
    /// it is complete.
    pub(super) fn shake_hands(&mut self) -> Result<bool, Problem> {
        while self.tls.is_handshaking() {
            self.flush()?;
            if !self.receive()? {
                return Ok(false);
            }
            if let Some(problem) = &self.problem {
                return Err(problem.clone());
            }
        }
        self.flush()?;
        Ok(true)
    }

    /// Reads decrypted bytes.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Problem> {
        for _ in 0..EMPTY_RECEIVES_MAX {
            match self.tls.reader().read(into) {
                Ok(0) => return Err(closed().into()),
                Ok(bytes) => {
                    self.received = self.received.saturating_sub(bytes);
                    return Ok(Some(bytes));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // rustls's word for a stream that ends without its closing alert.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(closed().into());
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(problem) = &self.problem {
                return Err(problem.clone());
            }
            if !self.receive()? {
                return Ok(None);
            }
        }
        let text = "the peer keeps sending TLS messages without data";
        Err(Problem::new(ProblemKind::Protocol, text))
    }

    /// Whether bytes wait, or the end, or a problem: none of them is told by an event.
    pub(super) fn has_received(&self) -> bool {
        self.received > 0 || self.has_ended || self.problem.is_some()
    }

    /// Takes what is in the socket, and decrypts what is complete of it. Returns whether there was
    /// anything, or the end of the stream.
    fn receive(&mut self) -> Result<bool, Problem> {
        match self.tls.read_tls(&mut Received(&mut self.stream)) {
            Ok(0) if self.tls.is_handshaking() => return Err(self.client.explain_end()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(self.broken(error)),
        }
        self.process();
        Ok(true)
    }

    /// Decrypts what was received. Returns how many encrypted bytes wait to be written.
    fn process(&mut self) -> usize {
        // The configuration may be the application's own, and so may what verifies and signs.
        let processed = {
            let _inside = user_code::enter();
            user_code::call(|| self.tls.process_new_packets())
        };
        match processed {
            Ok(Ok(state)) => {
                self.received = state.plaintext_bytes_to_read();
                self.has_ended = state.peer_has_closed();
                return state.tls_bytes_to_write();
            }
            Ok(Err(error)) => {
                // What was decrypted before is read before this is told.
                self.problem = Some(self.client.explain(&error, &self.host));
                // The alert that tells the broker. It takes it or not.
                let _ = self.write_out();
            }
            Err(_) => {
                let text = "the TLS configuration that the application gave panicked";
                self.problem = Some(Problem::new(ProblemKind::Tls, text));
            }
        }
        0
    }

    /// What an error of the stream means. A peer that does not speak TLS, or refuses a certificate,
    /// may break the connection off with bytes of this side's unread: then no orderly end comes.
    fn broken(&self, error: io::Error) -> Problem {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match error.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe if self.tls.is_handshaking() => {
                self.client.explain_end()
            }
            _ => error.into(),
        }
    }

    /// Encrypts bytes. `Ok(None)` while earlier ones wait for the kernel. An error means that none
    /// of these bytes can have left.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<Option<usize>, Problem> {
        if !self.flush()? {
            return Ok(None);
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        // With TLS 1.2, rustls stops encrypting when the key's limit is reached. It still reports
        // the bytes as taken, drops all of them and queues an alert. Fewer bytes queued than taken
        // shows it, and then none of these can have left.
        if self.process() < taken {
            let text = "the encryption's key is used up, another connection has another one";
            let used_up = Problem::new(ProblemKind::Closed, text);
            return Err(self.problem.clone().unwrap_or(used_up));
        }
        self.taken += taken;
        // Some of it may have left before this failed: the next call tells the problem.
        if let Err(problem) = self.flush() {
            self.problem.get_or_insert(problem);
        }
        Ok(Some(taken))
    }

    /// Writes what waits for the kernel. Returns whether the kernel has taken everything.
    pub(super) fn flush(&mut self) -> Result<bool, Problem> {
        match self.write_out() {
            Ok(flushed) => Ok(flushed),
            Err(error) => {
                // What the broker said before it went tells more: why it refuses a certificate.
                for _ in 0..LAST_RECEIVES_MAX {
                    if self.problem.is_some() || !self.receive().is_ok_and(|any| any) {
                        break;
                    }
                }
                Err(self.problem.clone().unwrap_or_else(|| self.broken(error)))
            }
        }
    }

    fn write_out(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Sent(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.taken = 0;
        Ok(true)
    }

    pub(super) fn is_flushed(&self) -> bool {
        !self.tls.wants_write()
    }

    pub(super) fn kept_back(&self) -> usize {
        self.taken
    }

    /// Sends the alert that ends a connection in an orderly way.
    pub(super) fn end(&mut self) {
        if self.problem.is_none() && self.taken == 0 {
            self.tls.send_close_notify();
            // The kernel takes it or not: the connection is closed either way.
            let _ = self.write_out();
        }
    }
}

/// The stream as rustls reads it: the end of the stream is 0 bytes again.
struct Received<'a>(&'a mut TcpStream);

impl Read for Received<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match receive(self.0, into) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// The stream as rustls writes it.
struct Sent<'a>(&'a TcpStream);

impl Write for Sent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send(self.0, slices)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
