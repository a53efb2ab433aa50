//! Connections of one thread: their sockets, handshakes and logins, whomever they are to and
//! whatever they are asked.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use mio::event::Event;
use mio::{Registry, Token};
use slab::Slab;

use super::dialer::Dialer;
use super::socket::{Progress, Socket, SocketNews};
use crate::engine::cluster::BrokerAddress;
use crate::engine::connection::{Connection, ConnectionConfig, Incoming, LoginAnswer};
use crate::problem::{Problem, ProblemKind};

/// How often it is looked whether a login is over, while one is under way, in nanoseconds.
const LOGIN_LOOK: u64 = 50_000_000;

/// Slices of one vectored write: requests here are small.
const SLICES_MAX: usize = 16;

/// What other threads have found out, for [`Links::handle_news`].
pub(super) enum LinkNews {
    Socket(u64, SocketNews),
    Login(u64, LoginAnswer),
}

/// What happens to a connection.
pub(super) enum LinkEvent {
    /// Requests can be sent.
    Ready,
    /// A request was answered.
    Answer(Incoming),
    /// No connection came about, or it is gone: its number is free.
    Down(Problem),
    /// The same: the address may not be tried before.
    Postponed { until: u64, problem: Problem },
}

struct Link {
    /// Which attempt of all: what other threads find out is for it alone.
    attempt: u64,
    peer: BrokerAddress,
    /// The cluster that the broker must belong to.
    cluster_id: Option<Arc<str>>,
    socket: Socket,
    connection: Option<Connection>,
    is_ready: bool,
}

/// See the module. Numbers name connections; each is the token of its socket's events.
pub(super) struct Links {
    dialer: Arc<Dialer>,
    config: Arc<ConnectionConfig>,
    post: Arc<dyn Fn(LinkNews) + Send + Sync>,
    links: Slab<Link>,
    attempts: u64,
    events: VecDeque<(usize, LinkEvent)>,
}

impl Links {
    /// None yet. What other threads find out comes to `post`.
    pub(super) fn new(
        dialer: Arc<Dialer>,
        config: Arc<ConnectionConfig>,
        post: impl Fn(LinkNews) + Send + Sync + 'static,
    ) -> Self {
        let (links, events) = (Slab::new(), VecDeque::new());
        Links { dialer, config, post: Arc::new(post), links, attempts: 0, events }
    }

    /// Begins to connect to a broker, whose id and whose cluster's id may be known.
    pub(super) fn open(
        &mut self,
        registry: &Registry,
        now: u64,
        (id, address): (Option<i32>, BrokerAddress),
        cluster_id: Option<Arc<str>>,
    ) -> usize {
        self.attempts += 1;
        let (post, attempt, peer) = (self.post.clone(), self.attempts, address.clone());
        let socket = Socket::dial(id, address, &self.dialer, now, move |news| {
            post(LinkNews::Socket(attempt, news));
        });
        let link = Link { attempt, peer, cluster_id, socket, connection: None, is_ready: false };
        let number = self.links.insert(link);
        self.advance(registry, now, number);
        number
    }

    /// Closes a connection. Its number is free, and nothing more is told of it.
    pub(super) fn close(&mut self, registry: &Registry, number: usize) {
        self.remove(registry, number);
        self.events.retain(|event| event.0 != number);
    }

    fn remove(&mut self, registry: &Registry, number: usize) {
        if let Some(mut link) = self.links.try_remove(number) {
            link.socket.close(registry);
        }
    }

    /// Gives a connection up for this reason.
    pub(super) fn give_up(&mut self, registry: &Registry, now: u64, number: usize, why: Problem) {
        if self.links.contains(number) {
            self.lose(registry, now, number, why);
        }
    }

    /// Whom a connection is to.
    pub(super) fn peer(&self, number: usize) -> Option<&BrokerAddress> {
        self.links.get(number).map(|link| &link.peer)
    }

    /// A connection that is ready for requests.
    pub(super) fn connection(&mut self, number: usize) -> Option<&mut Connection> {
        self.links.get_mut(number).filter(|link| link.is_ready)?.connection.as_mut()
    }

    /// Until when nothing may be sent on a connection that is ready, if so: the broker throttles,
    /// or a login is under way.
    pub(super) fn may_not_send_until(&self, now: u64, number: usize) -> Option<u64> {
        let link = self.links.get(number).filter(|link| link.is_ready)?;
        let connection = link.connection.as_ref()?;
        let throttled = Some(connection.throttled_until()).filter(|&until| until > now);
        let login = connection.logs_in().then_some(now.saturating_add(LOGIN_LOOK));
        throttled.max(login)
    }

    /// The next thing that happened.
    pub(super) fn poll_event(&mut self) -> Option<(usize, LinkEvent)> {
        self.events.pop_front()
    }

    /// Another thread has found something out.
    pub(super) fn handle_news(&mut self, registry: &Registry, now: u64, news: LinkNews) {
        let (LinkNews::Socket(attempt, _) | LinkNews::Login(attempt, _)) = &news;
        let found = self.links.iter().find(|(_, link)| link.attempt == *attempt);
        let Some((number, _)) = found else { return };
        let link = &mut self.links[number];
        match news {
            LinkNews::Socket(_, news) => {
                let progress = link.socket.handle_news(registry, Token(number), now, news);
                self.progressed(registry, now, number, progress);
                // What came while it could not be read is told by no further event.
                self.read(registry, now, number);
            }
            LinkNews::Login(_, answer) => {
                let Some(connection) = &mut link.connection else { return };
                match connection.handle_login(now, answer) {
                    Ok(Incoming::Ready) => self.handle_ready(now, number),
                    Ok(_) => {}
                    Err(problem) => self.lose(registry, now, number, problem),
                }
            }
        }
    }

    /// A socket has an event.
    pub(super) fn handle_event(&mut self, registry: &Registry, now: u64, event: &Event) {
        let Token(number) = event.token();
        let Some(link) = self.links.get_mut(number) else { return };
        link.socket.writable |= event.is_writable();
        let progress = link.socket.handle_event(registry, event.token(), now);
        self.progressed(registry, now, number, progress);
        self.flush(registry, now, number);
        self.read(registry, now, number);
    }

    /// Does what is due: attempts to connect, time limits of requests.
    pub(super) fn handle_timeouts(&mut self, registry: &Registry, now: u64) {
        for number in 0..self.links.capacity() {
            let Some(link) = self.links.get(number) else { continue };
            if link.socket.deadline() <= now {
                self.advance(registry, now, number);
            }
            let Some(link) = self.links.get_mut(number) else { continue };
            let Some(connection) = &mut link.connection else { continue };
            if connection.poll_unsent().is_some_and(|at| at <= now)
                && let Some(unsent) = link.socket.unsent()
            {
                connection.handle_unsent(now, unsent);
            }
            if let Err(problem) = connection.handle_timeout(now) {
                self.lose(registry, now, number, problem);
            }
        }
    }

    /// The machine was asleep for `span`, which `now` does not count, in nanoseconds like
    /// `idle_max`. Gives up the connections that are hardly there any more: those that were idle
    /// for `idle_max`, and those that wait for an answer while the sleep took `request_timeout`.
    /// Nothing here is asked that could not be asked again.
    pub(super) fn handle_suspended(
        &mut self,
        registry: &Registry,
        now: u64,
        span: u64,
        idle_max: u64,
    ) {
        for number in 0..self.links.capacity() {
            let Some(link) = self.links.get_mut(number) else { continue };
            let Some(connection) = &mut link.connection else { continue };
            connection.handle_suspended(span);
            let text = match connection.in_flight() {
                0 if connection.idle_at(idle_max) <= now => "idle while the machine was asleep",
                1.. if span >= self.config.request_timeout => {
                    "a request was unanswered while the machine was asleep"
                }
                _ => continue,
            };
            self.lose(registry, now, number, Problem::new(ProblemKind::Closed, text));
        }
    }

    /// When [`Links::handle_timeouts`] is due.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let times = self.links.iter().flat_map(|(_, link)| {
            let connection = link.connection.as_ref();
            [
                Some(link.socket.deadline()).filter(|&at| at != u64::MAX),
                connection.and_then(Connection::poll_timeout),
                connection.and_then(Connection::poll_unsent),
            ]
        });
        times.flatten().min()
    }

    /// Writes what is to be written.
    pub(super) fn write(&mut self, registry: &Registry, now: u64) {
        for number in 0..self.links.capacity() {
            while let Some(link) = self.links.get_mut(number)
                && let Some(connection) = &mut link.connection
                && connection.wants_write()
                && link.socket.writable
            {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let used = connection.slices(&mut slices);
                match link.socket.write(&slices[..used]) {
                    Ok(None) => break,
                    // All of its requests get a response: none settles with its last byte.
                    Ok(Some(bytes)) => connection.handle_taken(now, bytes),
                    Err(problem) => self.lose(registry, now, number, problem),
                }
            }
        }
    }

    /// Closes all of them.
    pub(super) fn close_all(&mut self, registry: &Registry) {
        for mut link in self.links.drain() {
            link.socket.close(registry);
        }
        self.events.clear();
    }

    fn advance(&mut self, registry: &Registry, now: u64, number: usize) {
        let progress = self.links[number].socket.advance(registry, Token(number), now);
        self.progressed(registry, now, number, progress);
    }

    fn progressed(&mut self, registry: &Registry, now: u64, number: usize, progress: Progress) {
        let Some(link) = self.links.get_mut(number) else { return };
        match progress {
            Progress::Connecting | Progress::Unchanged => {}
            Progress::Connected => {
                let connection = Connection::new(self.config.clone(), link.peer.clone(), now);
                let connection = connection.of_cluster(link.cluster_id.take());
                let is_ready = connection.is_ready();
                link.connection = Some(connection);
                if is_ready {
                    self.handle_ready(now, number);
                }
            }
            Progress::Failed(problem) => self.lose(registry, now, number, problem),
            Progress::Postponed { until, problem } => {
                let problem = problem.at(&link.peer);
                self.remove(registry, number);
                self.events.push_back((number, LinkEvent::Postponed { until, problem }));
            }
        }
    }

    fn handle_ready(&mut self, now: u64, number: usize) {
        let link = &mut self.links[number];
        link.socket.handle_ready(now);
        link.is_ready = true;
        self.events.push_back((number, LinkEvent::Ready));
    }

    fn lose(&mut self, registry: &Registry, now: u64, number: usize, problem: Problem) {
        let Some(link) = self.links.get_mut(number) else { return };
        let problem = match &mut link.connection {
            Some(connection) => connection.handle_lost(now, problem),
            None => problem,
        };
        let problem = link.socket.lost(now, problem).at(&link.peer);
        // What it has answered before still counts.
        self.remove(registry, number);
        self.events.push_back((number, LinkEvent::Down(problem)));
    }

    fn flush(&mut self, registry: &Registry, now: u64, number: usize) {
        let Some(link) = self.links.get_mut(number) else { return };
        if link.socket.is_connected()
            && let Err(problem) = link.socket.flush()
        {
            self.lose(registry, now, number, problem);
        }
    }

    fn read(&mut self, registry: &Registry, now: u64, number: usize) {
        while let Some(link) = self.links.get_mut(number)
            && let Some(connection) = &mut link.connection
        {
            match link.socket.read(connection.space()) {
                // What was read may have to be answered: an update of keys.
                Ok(None) => return self.flush(registry, now, number),
                Ok(Some(bytes)) => {
                    connection.handle_filled(now, bytes);
                    if let Err(problem) = self.take_responses(now, number) {
                        return self.lose(registry, now, number, problem);
                    }
                }
                Err(problem) => return self.lose(registry, now, number, problem),
            }
        }
    }

    fn take_responses(&mut self, now: u64, number: usize) -> Result<(), Problem> {
        while let Some(link) = self.links.get_mut(number)
            && let Some(connection) = &mut link.connection
            && let Some(incoming) = connection.poll_response(now)?
        {
            match incoming {
                Incoming::Ready => self.handle_ready(now, number),
                Incoming::Pending => {}
                answer => self.events.push_back((number, LinkEvent::Answer(answer))),
            }
        }
        let Some(link) = self.links.get_mut(number) else { return Ok(()) };
        let Some(connection) = &mut link.connection else { return Ok(()) };
        link.socket.expect_silence(connection.throttled_until().saturating_sub(now));
        if connection.has_versions() {
            link.socket.handle_answered();
        }
        if let (Some(task), Some(logins)) =
            (connection.poll_login(), self.dialer.security.logins.clone())
        {
            let (post, attempt) = (self.post.clone(), link.attempt);
            logins.compute(link.peer.clone(), task, move |answer| {
                post(LinkNews::Login(attempt, answer));
            });
        }
        Ok(())
    }
}
