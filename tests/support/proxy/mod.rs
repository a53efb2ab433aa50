//! A proxy that knows Kafka's frames, and does to them what a test says: real TCP, in front of an
//! embedded or a real broker, which advertises the proxy's address in place of its own.
//!
//! A test binary has `#[path = "…/support/proxy/mod.rs"] mod proxy;`. What happens is decided frame
//! by frame by a closure ([`Proxy::script`]), and connection by connection by [`Welcome`],
//! [`Proxy::lifetimes`], [`Proxy::bandwidth`], [`Proxy::refuse`], [`Proxy::cut_all`],
//! [`Proxy::end_all`].
//!
//! * In front of embedded brokers: [`Proxy::to`] the broker's address, then
//!   `cluster.advertise(id, proxy.address())`.
//! * In front of real ones: [`Proxy::start`] for each, `ClusterConfig::three().behind(&ports)` with
//!   their ports, then [`Proxy::forward_to`] each broker's `proxied_address`.
//!
//! `frame` is what a script sees and says; `rewrite` has scripts that change what a response says;
//! `pump` carries bytes from one side to the other. Two threads a connection, two a proxy; all of
//! them end when the proxy is dropped.

// A module of the test binary, whose items are public within it; no binary uses every one.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod frame;
mod pump;
pub mod rewrite;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

pub use frame::{Act, Direction, Frame, Welcome, api};
use pump::Link;

/// What a script is: asked about each frame, by one thread at a time.
type Script = Box<dyn FnMut(&Frame<'_>) -> Act + Send>;

/// See the module.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Bound and never listening, so that nobody else gets the port while it refuses.
    _reserved: Socket,
    reaper: Option<JoinHandle<()>>,
}

/// What a proxy has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Whole requests by API key, whatever became of them.
    pub requests: BTreeMap<i16, u64>,
    /// Whole responses by the API key of their request, likewise.
    pub responses: BTreeMap<i16, u64>,
    /// Directions that were stalled and have bytes that nobody reads.
    pub unread: u64,
}

impl Seen {
    /// Requests of one kind.
    pub fn requests_of(&self, api_key: i16) -> u64 {
        self.requests.get(&api_key).copied().unwrap_or(0)
    }

    /// Responses of one kind.
    pub fn responses_of(&self, api_key: i16) -> u64 {
        self.responses.get(&api_key).copied().unwrap_or(0)
    }
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    script: Mutex<Option<Script>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    stopped: bool,
    upstream: Option<SocketAddr>,
    listener: Option<(Arc<Socket>, JoinHandle<()>)>,
    welcome: Welcome,
    lifetimes: Option<(Random, Range<Duration>)>,
    /// Bytes a second, of each direction of each connection.
    bandwidth: Option<u64>,
    links: HashMap<u64, Arc<Link>>,
    seen: Seen,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1; connections are reset until it is told where to.
    pub fn start() -> Proxy {
        Proxy::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// As [`Proxy::start`], on this address of the machine's.
    pub fn at(address: SocketAddr) -> Proxy {
        let reserved = bind(address).expect("a free port");
        let address = reserved.local_addr().expect("it is bound").as_socket().expect("it is IP");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            script: Mutex::default(),
        });
        let reaps = shared.clone();
        let reaper = std::thread::spawn(move || reaps.reap());
        let proxy = Proxy { shared, address, _reserved: reserved, reaper: Some(reaper) };
        proxy.listen();
        proxy
    }

    /// Listens, and forwards to a broker.
    pub fn to(upstream: SocketAddr) -> Proxy {
        let proxy = Proxy::start();
        proxy.forward_to(upstream);
        proxy
    }

    /// Where it listens; the same from start to end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards connections that come from now on to this broker.
    pub fn forward_to(&self, upstream: SocketAddr) {
        self.shared.lock().upstream = Some(upstream);
    }

    /// Asks this about each frame that comes whole from now on, in place of the script before.
    pub fn script(&self, script: impl FnMut(&Frame<'_>) -> Act + Send + 'static) {
        *self.shared.lock_script() = Some(Box::new(script));
    }

    /// Frames pass as they are from now on. Directions that are mute or stalled stay so.
    pub fn clear(&self) {
        *self.shared.lock_script() = None;
    }

    /// What becomes of connections that come from now on.
    pub fn welcome(&self, welcome: Welcome) {
        self.shared.lock().welcome = welcome;
    }

    /// Connections that come from now on are reset after a time from this range, drawn from a
    /// generator with this seed.
    pub fn lifetimes(&self, seed: u64, range: Range<Duration>) {
        self.shared.lock().lifetimes = Some((Random(seed), range));
    }

    /// Connections that come from now on live as long as both sides want.
    pub fn live_long(&self) {
        self.shared.lock().lifetimes = None;
    }

    /// Each direction of each connection carries at most so many bytes a second from now on.
    pub fn bandwidth(&self, bytes_per_second: Option<u64>) {
        self.shared.lock().bandwidth = bytes_per_second;
    }

    /// Connecting is refused from now on. Open connections stay.
    pub fn refuse(&self) {
        let listener = self.shared.lock().listener.take();
        if let Some((socket, thread)) = listener {
            // On Linux this wakes the accepting thread, with an error.
            let _ = socket.shutdown(std::net::Shutdown::Both);
            drop(socket);
            let _ = thread.join();
        }
    }

    /// Connecting succeeds again.
    pub fn listen(&self) {
        let mut state = self.shared.lock();
        if state.listener.is_none() {
            let socket = bind(self.address).expect("the port is reserved");
            socket.listen(1024).expect("nobody else listens there");
            let socket = Arc::new(socket);
            let (shared, accepts) = (self.shared.clone(), socket.clone());
            let thread = std::thread::spawn(move || shared.accept(&accepts));
            state.listener = Some((socket, thread));
        }
    }

    /// Resets every connection that is open.
    pub fn cut_all(&self) {
        for link in self.shared.lock().links.values() {
            link.cut();
        }
        self.shared.changed.notify_all();
    }

    /// Closes every connection that is open in good order (FIN), as a broker that goes down does.
    /// What the client goes on to write is answered by resets.
    pub fn end_all(&self) {
        self.end_those(|_| true);
    }

    /// The same, of connections that clients have made to these of its addresses.
    pub fn end_those(&self, at: impl Fn(SocketAddr) -> bool) {
        for link in self.shared.lock().links.values().filter(|link| at(link.address())) {
            link.end();
        }
        self.shared.changed.notify_all();
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.shared.lock().seen()
    }

    /// Waits until `holds` is true of what it has seen, and says whether it came to that in time.
    pub fn wait_until(&self, timeout: Duration, mut holds: impl FnMut(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while !holds(&state.seen()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.wait(state, left);
        }
        true
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.refuse();
        self.cut_all();
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads.into_iter().chain(self.reaper.take()) {
            // A panic was already reported by the thread that had it.
            let _ = thread.join();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl State {
    fn seen(&self) -> Seen {
        Seen { open: self.links.len() as u64, ..self.seen.clone() }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_script(&self) -> MutexGuard<'_, Option<Script>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, limit) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    fn accept(self: &Arc<Self>, listener: &Socket) {
        while let Ok((socket, _)) = listener.accept() {
            self.admit(socket.into());
        }
    }

    fn admit(self: &Arc<Self>, client: TcpStream) {
        let mut state = self.lock();
        state.seen.accepted += 1;
        let number = state.seen.accepted;
        let (welcome, upstream) = (state.welcome.clone(), state.upstream);
        if state.stopped {
            return;
        }
        drop(state);
        let upstream = match (&welcome, upstream) {
            (Welcome::Forward, Some(address)) => TcpStream::connect(address).ok(),
            _ => None,
        };
        let reset = match welcome {
            Welcome::Forward => upstream.is_none(),
            Welcome::Reset => true,
            Welcome::Silent | Welcome::Say(_) => false,
        };
        let Ok(link) = Link::new(number, client, upstream) else { return };
        let link = Arc::new(link);
        let mut state = self.lock();
        if reset || state.stopped {
            link.cut();
            self.changed.notify_all();
            return;
        }
        if let Some((random, range)) = &mut state.lifetimes {
            let span = (range.end - range.start).as_nanos() as u64;
            let lives = range.start + Duration::from_nanos(random.below(span.max(1)));
            link.set_deadline(Instant::now() + lives);
        }
        state.links.insert(number, link.clone());
        state.threads.retain(|thread| !thread.is_finished());
        match welcome {
            Welcome::Say(bytes) => self.spawn(&mut state, &link, move |_, link| {
                pump::say(link, &bytes);
            }),
            Welcome::Silent => self.spawn(&mut state, &link, pump::stand_still),
            _ => {
                for direction in [Direction::Request, Direction::Response] {
                    self.spawn(&mut state, &link, move |shared, link| {
                        pump::pump(shared, link, direction);
                    });
                }
            }
        }
        self.changed.notify_all();
    }

    /// A thread of a connection; when it ends the connection does.
    fn spawn(
        self: &Arc<Self>,
        state: &mut State,
        link: &Arc<Link>,
        work: impl FnOnce(&Shared, &Link) + Send + 'static,
    ) {
        let (shared, link) = (self.clone(), link.clone());
        state.threads.push(std::thread::spawn(move || {
            work(&shared, &link);
            link.cut();
            shared.lock().links.remove(&link.number());
            shared.changed.notify_all();
        }));
    }

    /// Ends connections whose time is over.
    fn reap(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let now = Instant::now();
            let mut next = now + Duration::from_secs(3600);
            for link in state.links.values() {
                match link.deadline() {
                    Some(at) if at <= now => {
                        link.cut();
                        self.changed.notify_all();
                    }
                    Some(at) => next = next.min(at),
                    None => {}
                }
            }
            state = self.wait(state, next.saturating_duration_since(now));
        }
    }
}

/// A small generator (SplitMix64): the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
