//! What carries a connection's bytes: TCP as it is, or encrypted (TLS).

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// See the module.
pub(super) enum Wire<'a> {
    Plain(&'a TcpStream),
    #[cfg(feature = "tls")]
    Encrypted(Box<std::cell::RefCell<Encrypted<'a>>>),
}

/// A connection whose handshake is made with the first read or write.
#[cfg(feature = "tls")]
type Encrypted<'a> = rustls::StreamOwned<rustls::ServerConnection, OneSliceAtATime<'a>>;

/// A socket that is never written to with `writev`. A peer that has closed the connection makes
/// that end the process with SIGPIPE, where the host leaves this signal at its default; a write of
/// one slice only returns an error, for the standard library has the system told to raise none.
#[cfg(feature = "tls")]
pub(super) struct OneSliceAtATime<'a>(&'a TcpStream);

#[cfg(feature = "tls")]
impl Read for OneSliceAtATime<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

#[cfg(feature = "tls")]
impl Write for OneSliceAtATime<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a> Wire<'a> {
    #[cfg(feature = "tls")]
    pub(super) fn encrypted(tls: rustls::ServerConnection, stream: &'a TcpStream) -> Wire<'a> {
        Wire::Encrypted(Box::new(rustls::StreamOwned::new(tls, OneSliceAtATime(stream)).into()))
    }

    pub(super) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => (&mut &**stream).read(into),
            #[cfg(feature = "tls")]
            Wire::Encrypted(stream) => stream.borrow_mut().read(into),
        }
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => (&mut &**stream).write_all(bytes),
            #[cfg(feature = "tls")]
            Wire::Encrypted(stream) => {
                let mut stream = stream.borrow_mut();
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// The stream, if what is in it are the bytes themselves.
    #[cfg(target_os = "linux")]
    pub(super) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Wire::Plain(stream) => Some(stream),
            #[cfg(feature = "tls")]
            Wire::Encrypted(_) => None,
        }
    }
}
