//! A non-blocking TCP connection in the making or made: tries every address of a name.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

/// A write to a connection that the broker has ended is an error (EPIPE). Without this flag the
/// kernel also sends SIGPIPE, which ends every process that has left it at its default: any whose
/// `main` is not Rust's, such as C, Go or Python with this library inside.
#[cfg(all(unix, not(target_vendor = "apple")))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
/// Apple's systems have no such flag: there mio sets SO_NOSIGPIPE on every socket that it makes.
/// Windows has no such signal.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const SEND_FLAGS: std::ffi::c_int = 0;

/// Options set on every socket.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// SO_SNDBUF, in bytes; the system's own choice if `None`.
    pub send_buffer: Option<usize>,
    /// SO_RCVBUF, in bytes; the system's own choice if `None`.
    pub receive_buffer: Option<usize>,
    /// Idle time before the kernel probes the peer.
    pub keepalive: Option<Duration>,
    /// How long the kernel may try in vain to get bytes acknowledged (Linux).
    pub user_timeout: Duration,
    /// How long one address may take to connect, in nanoseconds.
    pub setup_timeout: u64,
}

/// What came of an event or a deadline.
#[derive(Debug)]
pub(super) enum Progress {
    /// Still connecting.
    Connecting,
    /// Connected just now.
    Connected,
    /// It was connected before.
    Unchanged,
    /// No address answered, or the connection is gone.
    Failed(String),
}

/// See the module.
pub(super) struct Socket {
    stream: Option<TcpStream>,
    connected: bool,
    addresses: VecDeque<SocketAddr>,
    /// When the present attempt is given up, nanoseconds, monotonic.
    deadline: u64,
    /// Set until a write would block, and again by an event.
    pub writable: bool,
    last_problem: String,
    /// How much longer than [`SocketOptions::user_timeout`] the kernel tries, as it was told last.
    patience: Duration,
}

impl Socket {
    /// Starts with the first address that lets itself be tried.
    pub(super) fn connect(addresses: Vec<SocketAddr>) -> Socket {
        Socket {
            stream: None,
            connected: false,
            addresses: addresses.into(),
            deadline: u64::MAX,
            writable: false,
            last_problem: "no address".to_owned(),
            patience: Duration::ZERO,
        }
    }

    /// Tries the next address.
    pub(super) fn try_next(
        &mut self,
        registry: &Registry,
        token: Token,
        options: &SocketOptions,
        now: u64,
    ) -> Progress {
        self.close(registry);
        while let Some(address) = self.addresses.pop_front() {
            match open(address, options).and_then(|mut stream| {
                registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                Ok(stream)
            }) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    self.deadline = now.saturating_add(options.setup_timeout);
                    self.last_problem = format!("{address} does not answer");
                    return Progress::Connecting;
                }
                Err(error) => self.last_problem = format!("{address}: {error}"),
            }
        }
        Progress::Failed(std::mem::take(&mut self.last_problem))
    }

    /// The socket got an event.
    pub(super) fn handle_event(
        &mut self,
        registry: &Registry,
        token: Token,
        options: &SocketOptions,
        now: u64,
    ) -> Progress {
        if self.connected {
            return Progress::Unchanged;
        }
        let Some(stream) = &self.stream else { return Progress::Connecting };
        if let Ok(Some(error)) | Err(error) = stream.take_error() {
            self.last_problem = match stream.peer_addr() {
                Ok(address) => format!("{address}: {error}"),
                Err(_) => error.to_string(),
            };
            return self.try_next(registry, token, options, now);
        }
        match stream.peer_addr() {
            Ok(_) => {
                self.connected = true;
                self.deadline = u64::MAX;
                self.writable = true;
                Progress::Connected
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Progress::Connecting,
            Err(error) => {
                self.last_problem = error.to_string();
                self.try_next(registry, token, options, now)
            }
        }
    }

    /// When [`Socket::try_next`] must be called because an address does not answer.
    pub(super) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Reads; `WouldBlock` is `Ok(None)`, the end of the stream an error.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        loop {
            return match stream.read(into) {
                Ok(0) => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the broker closed the connection",
                )),
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Writes; `WouldBlock` is `Ok(None)`.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let Some(stream) = &self.stream else { return Ok(None) };
        let socket = SockRef::from(stream);
        loop {
            // `writev`, which std's vectored write is, has no flags: hence `sendmsg`.
            return match stream.try_io(|| socket.send_vectored_with_flags(slices, SEND_FLAGS)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    Ok(None)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Has the poll report once more what is ready: not everything was read.
    pub(super) fn rearm(&mut self, registry: &Registry, token: Token) {
        if let Some(stream) = &mut self.stream {
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = registry.reregister(stream, token, interest) {
                log::error!("a socket could not be polled again: {error}");
            }
        }
    }

    /// Something was received, and for so many nanoseconds from now the broker reads nothing (it
    /// throttles). The kernel must not take the full buffers of a throttled broker for a dead
    /// peer: it counts the time without room there against TCP_USER_TIMEOUT.
    pub(super) fn expect_silence(&mut self, options: &SocketOptions, nanos: u64) {
        let patience = Duration::from_nanos(nanos);
        if patience == self.patience {
            return;
        }
        self.patience = patience;
        #[cfg(target_os = "linux")]
        if let Some(stream) = &self.stream {
            let timeout = options.user_timeout.saturating_add(patience);
            if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(timeout)) {
                log::debug!("TCP_USER_TIMEOUT could not be changed: {error}");
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = options;
    }

    /// Whether bytes can be sent and received.
    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Closes what is open.
    pub(super) fn close(&mut self, registry: &Registry) {
        if let Some(mut stream) = self.stream.take() {
            end(&stream);
            // The descriptor is closed next, which deregisters it in any case.
            let _ = registry.deregister(&mut stream);
        }
        self.connected = false;
        self.deadline = u64::MAX;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            end(stream);
        }
    }
}

/// Ends the connection, and not only this descriptor of it: a fork's child has another, with which
/// the peer would see the connection open for as long as the child lives.
fn end(stream: &TcpStream) {
    // One that never came about refuses, and leaves nothing.
    let _ = stream.shutdown(Shutdown::Both);
}

fn open(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(idle) = options.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(idle))?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(options.user_timeout))?;
    Ok(stream)
}
