//! What is set on every socket.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use crate::config::ReconnectBackoff;
use crate::logging as log;

/// Options set on every socket, and how long connecting may take.
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
    /// How long an address may take to connect and to answer ApiVersions, and a name to be looked
    /// up, in nanoseconds.
    pub setup_timeout: u64,
    /// To what that grows while the address fails.
    pub setup_timeout_max: u64,
    /// When an address that failed is tried again.
    pub reconnect: ReconnectBackoff,
}

/// Begins to connect, without waiting for it.
pub(super) fn open(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpStream> {
    static REFUSED: Refused = Refused(AtomicU32::new(0));
    let stream = TcpStream::connect(address)?;
    set_options(&SockRef::from(&stream), options, &REFUSED);
    Ok(stream)
}

/// Sets what the system lets be set. A connection without one of them is better than none:
/// sandboxes forbid some, and systems differ in what they take.
fn set_options(socket: &SockRef<'_>, options: &SocketOptions, refused: &Refused) {
    refused.tell(0, "TCP_NODELAY", socket.set_tcp_nodelay(true));
    if let Some(bytes) = options.send_buffer {
        refused.tell(1, "SO_SNDBUF", socket.set_send_buffer_size(bytes));
    }
    if let Some(bytes) = options.receive_buffer {
        refused.tell(2, "SO_RCVBUF", socket.set_recv_buffer_size(bytes));
    }
    if let Some(idle) = options.keepalive {
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle);
        refused.tell(3, "SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive));
    }
    #[cfg(target_os = "linux")]
    {
        let set = socket.set_tcp_user_timeout(Some(options.user_timeout));
        refused.tell(4, "TCP_USER_TIMEOUT", set);
    }
}

/// Options that the system refused: one bit for each that was warned of. Every connection meets the
/// same refusal.
struct Refused(AtomicU32);

impl Refused {
    /// Warns if the option was refused for the first time, and says so.
    fn tell(&self, bit: u32, option: &str, result: io::Result<()>) -> bool {
        let Err(error) = result else { return false };
        let first = self.0.fetch_or(1 << bit, Ordering::Relaxed) & (1 << bit) == 0;
        if first {
            log::warn!("the system refuses the socket option {option}: {error}; going on without");
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_the_system_refuses_is_told_once_and_the_others_are_set() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = std::net::TcpStream::connect(address).expect("it listens");
        let options = SocketOptions {
            send_buffer: Some(64 << 10),
            receive_buffer: None,
            // Linux takes up to 32,767 s of the one, and up to 2^31 - 1 ms of the other.
            keepalive: Some(Duration::from_secs(12 * 3_600)),
            user_timeout: Duration::from_secs(30 * 24 * 3_600),
            setup_timeout: 0,
            setup_timeout_max: 0,
            reconnect: ReconnectBackoff { first: 0, longest: 0, quick: 0, jitter_percent: 0 },
        };
        let (socket, refused) = (SockRef::from(&stream), Refused(AtomicU32::new(0)));
        set_options(&socket, &options, &refused);
        assert!(socket.tcp_nodelay().expect("a socket has it"));
        assert!(socket.send_buffer_size().expect("a socket has it") >= 64 << 10);
        if cfg!(target_os = "linux") {
            assert_eq!(refused.0.load(Ordering::Relaxed), 0b11000);
        }
        let refusal = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert!(refused.tell(0, "TCP_NODELAY", refusal()), "the first time");
        assert!(
            !refused.tell(0, "TCP_NODELAY", refusal()) && !refused.tell(1, "SO_SNDBUF", Ok(()))
        );
    }
}
