//! A non-blocking TCP connection in the making or made: opens what its [`Dial`] says.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::logging as log;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::dial::{Dial, Step};
use super::dialer::Dialer;
#[cfg(feature = "tls")]
use super::encrypted::Encrypted;
use super::probe_types::TlsDescription;
use super::resolver::{Resolved, Resolver};
use super::socket_options::open;
use super::transport::Transport;
use super::tunnel::{Advanced, Tunnel};
use crate::engine::cluster::BrokerAddress;
use crate::problem::{Problem, ProblemKind};

/// What came of an event or a deadline.
#[derive(Debug)]
pub(super) enum Progress {
    /// Still connecting.
    Connecting,
    /// Connected just now.
    Connected,
    /// It was connected before.
    Unchanged,
    /// No address is of use, or the peer did not agree on TLS or answer ApiVersions in time.
    Failed(Problem),
    /// No address may be tried before `until`, as others of the producer know.
    Postponed { until: u64, problem: Problem },
}

/// How long files of the TLS configuration that have changed may take to be read again, before a
/// connection goes on with what was read earlier. In nanoseconds.
#[cfg(feature = "tls")]
const REFRESH_PATIENCE: u64 = 1_000_000_000;

/// How far a connection is that has a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The proxy is asked for a connection to the broker.
    Tunnelling,
    /// The files that the encryption needs are read again.
    #[cfg(feature = "tls")]
    Refreshing,
    /// The encryption is agreed on.
    #[cfg(feature = "tls")]
    ShakingHands,
    /// Requests can be sent.
    Connected,
}

/// What another thread has found out for a socket.
pub(super) enum SocketNews {
    /// Its name was looked up.
    Resolved(Resolved),
    /// The files that its encryption needs were read again.
    #[cfg(feature = "tls")]
    TlsRefreshed,
}

/// Brings news to the thread that drives the socket.
type Post = Arc<dyn Fn(SocketNews) + Send + Sync>;

/// See the module. A driver makes one with [`Socket::dial`], calls [`Socket::advance`] at its
/// [`deadline`](Socket::deadline), [`Socket::handle_event`] for events and
/// [`Socket::handle_news`] for what other threads found out; tells it with
/// [`Socket::handle_ready`] that the handshake is complete, and with [`Socket::lost`] why the
/// connection is given up.
pub(super) struct Socket {
    #[cfg(feature = "tls")]
    post: Post,
    dialer: Arc<Dialer>,
    /// Whom the certificate must be for, wherever the broker is reached.
    #[cfg(feature = "tls")]
    host: Arc<str>,
    dial: Dial,
    /// The look-up that this waits for; dropped, its answer is not wanted any more.
    asked: Option<Arc<()>>,
    /// Connections in the making.
    attempts: Vec<(SocketAddr, TcpStream)>,
    transport: Option<Transport>,
    /// Whom it is connected to.
    peer: Option<SocketAddr>,
    /// Until a proxy has made the connection to the broker.
    tunnel: Option<Tunnel>,
    stage: Stage,
    /// When this time comes, TLS begins with the certificates that were read earlier.
    #[cfg(feature = "tls")]
    refreshed_by: u64,
    /// By when TLS must be agreed on and ApiVersions answered; `u64::MAX` afterwards. What follows
    /// (a login, the question for the cluster) has time limits of its own.
    ready_by: u64,
    is_ready: bool,
    /// Set until a write would block, and again by an event.
    pub writable: bool,
    /// How much longer than the configured `user_timeout` the kernel tries, as it was told last.
    patience: Duration,
}

impl Socket {
    /// Begins to connect. What other threads find out for it they hand to `post`;
    /// [`Socket::advance`] says what comes of it until then.
    pub(super) fn dial(
        id: Option<i32>,
        broker: BrokerAddress,
        dialer: &Arc<Dialer>,
        now: u64,
        post: impl Fn(SocketNews) + Send + Sync + 'static,
    ) -> Socket {
        let post: Post = Arc::new(post);
        #[cfg(feature = "tls")]
        let host = broker.host.clone();
        let (dial, asked) = match dialer.route(id, broker.clone()) {
            Err(problem) => (Dial::refused(broker, problem), None),
            Ok(route) => match Resolver::literal(&route.0) {
                Some(address) => (Dial::literal(route, address), None),
                None => {
                    let reply = post.clone();
                    let reply = move |result| reply(SocketNews::Resolved(result));
                    let asked = dialer.resolver.ask(&route.0.host, reply);
                    let timeout = dialer.options.setup_timeout;
                    let dial = Dial::named(now, route, asked.known, timeout, &dialer.book());
                    (dial, Some(asked.ticket))
                }
            },
        };
        Socket {
            dialer: dialer.clone(),
            #[cfg(feature = "tls")]
            host,
            dial,
            asked,
            #[cfg(feature = "tls")]
            post,
            attempts: Vec::new(),
            transport: None,
            peer: None,
            tunnel: None,
            stage: Stage::Connected,
            #[cfg(feature = "tls")]
            refreshed_by: u64::MAX,
            ready_by: u64::MAX,
            is_ready: false,
            writable: false,
            patience: Duration::ZERO,
        }
    }

    /// Another thread has found something out for it.
    pub(super) fn handle_news(
        &mut self,
        registry: &Registry,
        token: Token,
        now: u64,
        news: SocketNews,
    ) -> Progress {
        match news {
            #[cfg(feature = "tls")]
            SocketNews::TlsRefreshed if self.stage == Stage::Refreshing => self.begin_tls(),
            #[cfg(feature = "tls")]
            SocketNews::TlsRefreshed => Progress::Unchanged,
            SocketNews::Resolved(result) => {
                self.asked = None;
                if self.peer.is_some() {
                    return Progress::Unchanged;
                }
                self.dial.handle_resolved(result, &self.dialer.book());
                self.advance(registry, token, now)
            }
        }
    }

    /// Does what is due: tries addresses, gives those up that do not answer.
    pub(super) fn advance(&mut self, registry: &Registry, token: Token, now: u64) -> Progress {
        if self.peer.is_some() {
            #[cfg(feature = "tls")]
            if self.stage == Stage::Refreshing {
                if now < self.refreshed_by {
                    return Progress::Unchanged;
                }
                log::warn!(
                    "the files of the TLS configuration take long to read; going on without"
                );
                return self.begin_tls();
            }
            if now < self.ready_by {
                return Progress::Unchanged;
            }
            let problem = match self.stage {
                Stage::Connected => {
                    "it accepted the connection and did not answer ApiVersions within \
                     connection_setup_timeout: a broker older than 0.10?"
                }
                Stage::Tunnelling => {
                    "the SOCKS5 proxy made no connection to the broker within \
                     connection_setup_timeout"
                }
                #[cfg(feature = "tls")]
                _ => {
                    "it accepted the connection and did not complete the TLS handshake within \
                     connection_setup_timeout: a listener without TLS?"
                }
            };
            self.ready_by = u64::MAX;
            return Progress::Failed(Problem::new(ProblemKind::TimedOut, problem));
        }
        loop {
            let step = self.dial.poll(now, &mut self.dialer.book());
            match step {
                Step::Wait => return Progress::Connecting,
                Step::Failed(problem) => return Progress::Failed(self.explain(problem)),
                Step::Postponed { until, problem } => {
                    return Progress::Postponed { until, problem };
                }
                Step::Close(address) => self.close_attempts(registry, |other| other == address),
                Step::Open(address) => {
                    let opened = open(address, &self.dialer.options).and_then(|mut stream| {
                        let interest = Interest::READABLE | Interest::WRITABLE;
                        registry.register(&mut stream, token, interest)?;
                        Ok(stream)
                    });
                    match opened {
                        Ok(stream) => self.attempts.push((address, stream)),
                        Err(error) => self.attempt_failed(now, address, error.into()),
                    }
                }
            }
        }
    }

    /// Adds why the look-up has not answered, if it has not.
    fn explain(&self, problem: Problem) -> Problem {
        let Some(_) = &self.asked else { return problem };
        let why = self.dialer.resolver.why(&self.dial.target().host);
        problem.in_words(format_args!("{problem}: {why}"))
    }

    fn attempt_failed(&mut self, now: u64, address: SocketAddr, problem: Problem) {
        self.dial.handle_failed(now, address, problem, &mut self.dialer.book());
    }

    /// The socket got an event.
    pub(super) fn handle_event(&mut self, registry: &Registry, token: Token, now: u64) -> Progress {
        if self.peer.is_some() {
            return match self.stage {
                Stage::Tunnelling => self.drive_tunnel(now),
                #[cfg(feature = "tls")]
                Stage::ShakingHands => self.shake_hands(),
                _ => Progress::Unchanged,
            };
        }
        // All attempts have the same token: the event may be of any of them.
        for index in (0..self.attempts.len()).rev() {
            let (address, stream) = &self.attempts[index];
            let address = *address;
            match state(stream) {
                Ok(false) => {}
                Ok(true) => return self.connected(registry, now, address),
                Err(error) => {
                    self.close_attempts(registry, |other| other == address);
                    self.attempt_failed(now, address, error.into());
                }
            }
        }
        self.advance(registry, token, now)
    }

    fn connected(&mut self, registry: &Registry, now: u64, address: SocketAddr) -> Progress {
        let at = self.attempts.iter().position(|(other, _)| *other == address);
        let stream = at.map(|at| self.attempts.swap_remove(at).1);
        self.transport = stream.map(Transport::Plain);
        self.close_attempts(registry, |_| true);
        self.ready_by = self.dial.handle_connected(address, &mut self.dialer.book());
        self.asked = None;
        self.peer = Some(address);
        self.writable = true;
        let (proxy, broker) = (self.dialer.proxy.clone(), self.dial.beyond().cloned());
        let (Some(proxy), Some(broker)) = (proxy, broker) else {
            return self.begin_encryption(now);
        };
        match Tunnel::new(proxy, broker) {
            Ok(tunnel) => {
                (self.tunnel, self.stage) = (Some(tunnel), Stage::Tunnelling);
                self.drive_tunnel(now)
            }
            Err(problem) => Progress::Failed(problem),
        }
    }

    /// Goes on with the proxy, until it has made the connection to the broker.
    fn drive_tunnel(&mut self, now: u64) -> Progress {
        let (Some(tunnel), Some(Transport::Plain(stream))) =
            (&mut self.tunnel, &mut self.transport)
        else {
            return Progress::Unchanged;
        };
        loop {
            match tunnel.advance(stream) {
                Ok(Advanced::Blocked) => return Progress::Connecting,
                Ok(Advanced::Moved) => {}
                Ok(Advanced::Open) => break,
                Err(problem) => return Progress::Failed(problem),
            }
        }
        (self.tunnel, self.stage) = (None, Stage::Connected);
        // The broker has as much time as if it were reached without the proxy.
        self.ready_by = now.saturating_add(self.dialer.options.setup_timeout);
        self.begin_encryption(now)
    }

    #[cfg(not(feature = "tls"))]
    fn begin_encryption(&mut self, _now: u64) -> Progress {
        Progress::Connected
    }

    /// The next connection uses the certificates that are on the disk by now.
    #[cfg(feature = "tls")]
    fn begin_encryption(&mut self, now: u64) -> Progress {
        let Some(encryption) = &self.dialer.security.encryption else {
            return Progress::Connected;
        };
        if encryption.client.has_changed() {
            let tls = encryption.client.clone();
            let post = self.post.clone();
            let refresh = move || {
                tls.refresh();
                post(SocketNews::TlsRefreshed);
            };
            match encryption.files.run(refresh) {
                Ok(()) => {
                    self.stage = Stage::Refreshing;
                    self.refreshed_by = now.saturating_add(REFRESH_PATIENCE).min(self.ready_by);
                    return Progress::Connecting;
                }
                Err(error) => log::warn!("certificates have changed, and cannot be read: {error}"),
            }
        }
        self.begin_tls()
    }

    #[cfg(feature = "tls")]
    fn begin_tls(&mut self) -> Progress {
        let host = &self.host;
        let (Some(encryption), Some(Transport::Plain(stream))) =
            (&self.dialer.security.encryption, self.transport.take())
        else {
            return Progress::Unchanged;
        };
        let tls = &encryption.client;
        let session = match tls.connect(host) {
            Ok(session) => session,
            Err(problem) => {
                self.transport = Some(Transport::Plain(stream));
                return Progress::Failed(problem);
            }
        };
        let encrypted = Encrypted::new(stream, session, host, tls);
        self.transport = Some(Transport::Encrypted(Box::new(encrypted)));
        self.stage = Stage::ShakingHands;
        self.shake_hands()
    }

    #[cfg(feature = "tls")]
    fn shake_hands(&mut self) -> Progress {
        let Some(transport) = &mut self.transport else { return Progress::Unchanged };
        match transport.shake_hands() {
            Ok(false) => Progress::Connecting,
            Ok(true) => {
                self.stage = Stage::Connected;
                Progress::Connected
            }
            Err(problem) => Progress::Failed(problem),
        }
    }

    fn close_attempts(&mut self, registry: &Registry, which: impl Fn(SocketAddr) -> bool) {
        for index in (0..self.attempts.len()).rev() {
            if which(self.attempts[index].0) {
                let (_, mut stream) = self.attempts.swap_remove(index);
                end(&stream);
                // The descriptor is closed next, which deregisters it in any case.
                let _ = registry.deregister(&mut stream);
            }
        }
    }

    /// When [`Socket::advance`] must be called; `u64::MAX` for never.
    pub(super) fn deadline(&self) -> u64 {
        match self.peer {
            None => self.dial.deadline(),
            #[cfg(feature = "tls")]
            Some(_) if self.stage == Stage::Refreshing => self.refreshed_by,
            Some(_) => self.ready_by,
        }
    }

    /// Whether [`Socket::handle_ready`] was called.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The peer answered ApiVersions: what follows has time limits of its own.
    pub(super) fn handle_answered(&mut self) {
        self.ready_by = u64::MAX;
    }

    /// The peer completed its handshake: the next attempt begins with its address.
    pub(super) fn handle_ready(&mut self, now: u64) {
        let Some(peer) = self.peer.filter(|_| !self.is_ready) else { return };
        self.is_ready = true;
        self.ready_by = u64::MAX;
        self.dialer.book().succeeded(now, self.dial.route(), &self.dial.endpoint(peer));
        if !self.dial.is_literal() {
            log::debug!("{}: connected to {peer}", self.dial.target());
        }
    }

    /// The connection is given up for this reason. If it never became ready, its address counts as
    /// failed. Returns the reason with the address, if a name has several.
    pub(super) fn lost(&mut self, now: u64, problem: Problem) -> Problem {
        let Some(peer) = self.peer else { return problem };
        if !std::mem::replace(&mut self.is_ready, true) {
            let endpoint = self.dial.endpoint(peer);
            self.dialer.book().failed(now, self.dial.route(), &endpoint, &problem);
        }
        self.dial.problem_at(peer, &problem)
    }

    /// Reads. `Ok(None)` if there is nothing now; the end of the stream is an error.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Problem> {
        let Some(transport) = &mut self.transport else { return Ok(None) };
        transport.read(into)
    }

    /// See [`Transport::short_read_empties`].
    pub(super) fn short_read_empties(&self) -> bool {
        self.transport.as_ref().is_none_or(Transport::short_read_empties)
    }

    /// See [`Transport::has_received`].
    pub(super) fn has_received(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::has_received)
    }

    /// Writes. `Ok(None)` if there is no room now. An encrypting transport may keep some back, and
    /// not be [flushed](Self::is_flushed) then.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> Result<Option<usize>, Problem> {
        let Some(transport) = &mut self.transport else { return Ok(None) };
        let taken = transport.write(slices)?;
        self.writable = match (taken, &*transport) {
            (None, _) => false,
            // Short: the kernel's buffer is full, and an event tells when it has room.
            (Some(bytes), Transport::Plain(_)) => {
                bytes == slices.iter().map(|slice| slice.len()).sum::<usize>()
            }
            #[cfg(feature = "tls")]
            (Some(_), Transport::Encrypted(encrypted)) => encrypted.is_flushed(),
        };
        Ok(taken)
    }

    /// Writes what the transport kept back, as far as there is room now.
    pub(super) fn flush(&mut self) -> Result<(), Problem> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        self.writable &= transport.flush()?;
        Ok(())
    }

    /// Whether the transport keeps nothing back.
    pub(super) fn is_flushed(&self) -> bool {
        self.transport.as_ref().is_none_or(Transport::is_flushed)
    }

    /// Has the poll report once more what is ready: not everything was read.
    pub(super) fn rearm(&mut self, registry: &Registry, token: Token) {
        if let Some(transport) = &mut self.transport {
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = registry.reregister(transport.stream_mut(), token, interest) {
                log::error!("a socket could not be polled again: {error}");
            }
        }
    }

    /// Bytes that were written and have not been acknowledged by the other end's kernel, where the
    /// system tells.
    pub(super) fn unsent(&self) -> Option<usize> {
        let transport = self.transport.as_ref()?;
        Some(super::sys::unsent(transport.stream())? + transport.kept_back())
    }

    /// Something was received, and for so many nanoseconds from now the broker reads nothing (it
    /// throttles). The kernel must not take the full buffers of a throttled broker for a dead
    /// peer: it counts the time without room there against TCP_USER_TIMEOUT.
    pub(super) fn expect_silence(&mut self, nanos: u64) {
        let patience = Duration::from_nanos(nanos);
        if patience == self.patience {
            return;
        }
        self.patience = patience;
        #[cfg(target_os = "linux")]
        if let Some(transport) = &self.transport {
            let timeout = self.dialer.options.user_timeout.saturating_add(patience);
            if let Err(error) =
                SockRef::from(transport.stream()).set_tcp_user_timeout(Some(timeout))
            {
                log::debug!("TCP_USER_TIMEOUT could not be changed: {error}");
            }
        }
    }

    /// Whether the answer to a look-up is waited for.
    pub(super) fn is_resolving(&self) -> bool {
        self.asked.is_some()
    }

    /// Whom it is connected to over TCP, once that leads to the broker.
    pub(super) fn reached(&self) -> Option<SocketAddr> {
        self.peer.filter(|_| self.stage != Stage::Tunnelling)
    }

    /// How the connection is encrypted, if it is.
    pub(super) fn describe_tls(&self) -> Option<TlsDescription> {
        match self.transport.as_ref()? {
            Transport::Plain(_) => None,
            #[cfg(feature = "tls")]
            Transport::Encrypted(encrypted) => Some(encrypted.describe()),
        }
    }

    /// Whether bytes can be sent and received.
    pub(super) fn is_connected(&self) -> bool {
        self.peer.is_some() && self.stage == Stage::Connected
    }

    /// Closes what is open.
    pub(super) fn close(&mut self, registry: &Registry) {
        if let Some(mut transport) = self.transport.take() {
            transport.end();
            end(transport.stream());
            // The descriptor is closed next, which deregisters it in any case.
            let _ = registry.deregister(transport.stream_mut());
        }
        self.close_attempts(registry, |_| true);
        self.dial.give_up(&mut self.dialer.book());
        if let Some(peer) = self.peer.take().filter(|_| !self.is_ready) {
            self.dialer.book().left(&self.dial.endpoint(peer));
        }
    }
}

/// Whether it is connected by now, or why it will not be.
fn state(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(transport) = &self.transport {
            end(transport.stream());
        }
    }
}

/// Ends the connection, and not only this descriptor of it: a fork's child has another, with which
/// the peer would see the connection open for as long as the child lives.
fn end(stream: &TcpStream) {
    // One that never came about refuses, and leaves nothing.
    let _ = stream.shutdown(Shutdown::Both);
}
