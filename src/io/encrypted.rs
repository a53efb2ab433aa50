//! An encrypted connection (TLS): rustls over a non-blocking TCP stream.
//!
//! Encrypted bytes are kept in one buffer until the kernel takes them, [`KEPT_BACK_MAX`] bytes at
//! the most. What is in it counts as written by the connection that gave it: a broker may get it at
//! any time.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConnection;

use super::tls::TlsClient;
use super::transport::{closed, receive, send};
use crate::problem::Problem;

/// Encrypted bytes that wait for the kernel. Larger requests go through it piece by piece. As large
/// as this a piece costs little more than its encryption, and is still in cache when it is sent.
const KEPT_BACK_MAX: usize = 64 << 10;

/// See the module.
pub(super) struct Encrypted {
    stream: TcpStream,
    tls: ClientConnection,
    /// For texts.
    host: Box<str>,
    /// Knows what its errors mean.
    client: Arc<TlsClient>,
    /// Bytes taken since everything was last written.
    taken: usize,
    /// Decrypted bytes that were not read.
    received: usize,
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
        Encrypted { stream, tls, host, client, taken: 0, received: 0, problem: None }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Goes on with the handshake, as far as the kernel gives and takes bytes now.
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
        loop {
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
    }

    pub(super) fn has_received(&self) -> bool {
        self.received > 0
    }

    /// Takes what is in the socket, and decrypts what is complete of it. Returns whether there was
    /// anything, or the end of the stream.
    fn receive(&mut self) -> Result<bool, Problem> {
        match self.tls.read_tls(&mut Received(&mut self.stream)) {
            Ok(0) if self.tls.is_handshaking() => return Err(self.client.explain_end()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        match self.tls.process_new_packets() {
            Ok(state) => self.received = state.plaintext_bytes_to_read(),
            Err(error) => {
                // What was decrypted before is read before this is told.
                self.problem = Some(self.client.explain(&error, &self.host));
                // The alert that tells the broker. It takes it or not.
                let _ = self.flush();
            }
        }
        Ok(true)
    }

    /// Encrypts bytes. `Ok(None)` while earlier ones wait for the kernel.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<Option<usize>, Problem> {
        if !self.flush()? {
            return Ok(None);
        }
        let taken = self.tls.writer().write_vectored(slices)?;
        self.taken += taken;
        self.flush()?;
        Ok(Some(taken))
    }

    /// Writes what waits for the kernel, as far as it takes it now.
    pub(super) fn flush(&mut self) -> Result<bool, Problem> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Sent(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
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
            let _ = self.flush();
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
