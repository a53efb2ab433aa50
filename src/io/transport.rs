//! What carries a connection's bytes: TCP as it is, or encrypted (TLS).

use std::io::{self, IoSlice, Read};

use mio::net::TcpStream;
use socket2::SockRef;

#[cfg(feature = "tls")]
use super::encrypted::Encrypted;
use crate::problem::Problem;

/// A write to a connection that the broker has ended is an error (EPIPE). Without this flag the
/// kernel also sends SIGPIPE, which ends every process that has left it at its default: any whose
/// `main` is not Rust's, such as C, Go or Python with this library inside.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
/// Apple's systems have no such flag: there mio sets SO_NOSIGPIPE on every socket that it makes.
/// Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: std::ffi::c_int = 0;

/// See the module.
pub(super) enum Transport {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Encrypted(Box<Encrypted>),
}

impl Transport {
    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Transport::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.stream(),
        }
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        match self {
            Transport::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.stream_mut(),
        }
    }

    /// Goes on with what comes before the first request. Returns whether that is complete.
    #[cfg(feature = "tls")]
    pub(super) fn shake_hands(&mut self) -> Result<bool, Problem> {
        match self {
            Transport::Plain(_) => Ok(true),
            Transport::Encrypted(encrypted) => encrypted.shake_hands(),
        }
    }

    /// Reads. `Ok(None)` if there is nothing now; the end of the stream is an error.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Problem> {
        match self {
            Transport::Plain(stream) => Ok(receive(stream, into)?),
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.read(into),
        }
    }

    /// Whether a read that gave fewer bytes than it had room for has emptied the socket. Encrypted
    /// bytes come in records: another may be there.
    pub(super) fn short_read_empties(&self) -> bool {
        matches!(self, Transport::Plain(_))
    }

    /// Whether bytes wait that no event will tell of: they have left the socket already.
    pub(super) fn has_received(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.has_received(),
        }
    }

    /// Takes bytes, of which it may keep some back for [`flush`](Self::flush). `Ok(None)` if there
    /// is no room now.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<Option<usize>, Problem> {
        match self {
            Transport::Plain(stream) => Ok(send(stream, slices)?),
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.write(slices),
        }
    }

    /// Writes what was kept back. Returns whether nothing is any more.
    pub(super) fn flush(&mut self) -> Result<bool, Problem> {
        match self {
            Transport::Plain(_) => Ok(true),
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.flush(),
        }
    }

    /// Whether it keeps nothing back.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Transport::Plain(_) => true,
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.is_flushed(),
        }
    }

    /// How many of the bytes that it took it keeps back; a few more are possible.
    pub(super) fn kept_back(&self) -> usize {
        match self {
            Transport::Plain(_) => 0,
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => encrypted.kept_back(),
        }
    }

    /// Says goodbye, if the protocol has a word for it and the kernel takes it.
    pub(super) fn end(&mut self) {
        #[cfg(feature = "tls")]
        if let Transport::Encrypted(encrypted) = self {
            encrypted.end();
        }
    }
}

/// Reads; `WouldBlock` is `Ok(None)`, the end of the stream an error.
pub(super) fn receive(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match stream.read(into) {
            Ok(0) => Err(closed()),
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed the connection")
}

/// Writes; `WouldBlock` is `Ok(None)`.
pub(super) fn send(stream: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let socket = SockRef::from(stream);
    loop {
        // `writev`, which std's vectored write is, has no flags: hence `sendmsg`.
        return match stream.try_io(|| socket.send_vectored_with_flags(slices, SEND_FLAGS)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}
