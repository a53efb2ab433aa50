//! The metadata channel: its own thread, and a connection or two. Drives the metadata machine and
//! the publisher, which tells shards what the machine learns.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mio::{Events, Poll};

use super::clock::{Clock, SleepWatch};
use super::dialer::Dialer;
use super::loop_mailbox::PollWaker;
use super::metadata_link::{Link, send_query, token_of};
use super::metadata_mailbox::{Message, MetadataMailbox};
use super::metadata_parts::MetadataParts;
use super::notices::Notices;
use super::shard_host::{LoopHost, RunningShard};
use super::socket::{Progress, Socket, SocketNews};
use super::threads::{OwnThread, Watch};
use super::topic_creator::TopicCreator;
use super::warnings::Warnings;
use crate::engine::batch::ShardId;
use crate::engine::cluster::{BrokerAddress, ChannelId, MetadataMachine, MetadataQuery};
use crate::engine::connection::{Connection, Incoming, LoginAnswer};
use crate::engine::protocol::ApiKey;
use crate::engine::shard::{Control, PortTable, Publisher, PublisherLimits, ShardHost};
use crate::locking::lock;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// How often the machine is asked for questions while a login is under way, in nanoseconds.
const LOGIN_LOOK: u64 = 50_000_000;

/// A running metadata loop, and the shards that it started.
pub struct MetadataHandle {
    mailbox: Arc<MetadataMailbox>,
    ports: Arc<PortTable>,
    shards: Arc<Mutex<Vec<RunningShard>>>,
    thread: Mutex<Option<OwnThread>>,
}

impl MetadataHandle {
    /// Starts the thread, and shard 0, which owns lanes before their first leader is known.
    pub fn start(parts: MetadataParts) -> io::Result<Self> {
        parts.accumulator.meters.set_producer(parts.connection.client_id.clone(), Clock.now());
        let poll = Poll::new()?;
        let waker = Arc::new(PollWaker::new(&poll)?);
        let mailbox = MetadataMailbox::new(waker.clone());
        let shards = Arc::new(Mutex::new(Vec::new()));
        let ports = parts.ports.clone();
        let mut metadata_loop = MetadataLoop::new(parts, poll, mailbox.clone(), shards.clone());
        metadata_loop.host.start_shard(ShardId(0))?;
        let ended = mailbox.clone();
        let thread = OwnThread::spawn("tidegate-meta", move || {
            if catch_unwind(AssertUnwindSafe(|| metadata_loop.run())).is_err() {
                log::error!("the metadata loop panicked: leaders are not followed any more");
            }
            ended.messages.end();
            waker.close();
        });
        // The loop may be another producer's as well, and live on.
        let thread = thread.inspect_err(|_| stop_shards(&ports))?;
        Ok(MetadataHandle { mailbox, ports, shards, thread: Mutex::new(Some(thread)) })
    }

    /// Where topics are asked for.
    pub fn mailbox(&self) -> &Arc<MetadataMailbox> {
        &self.mailbox
    }

    /// Ends the thread and the shards; with `watch`, returns when they have ended or are stuck in
    /// code of the application's.
    pub fn stop(&self, mut watch: Option<&mut Watch>) {
        self.mailbox.send(Message::Stop);
        let thread = lock(&self.thread).take();
        if let (Some(thread), Some(watch)) = (thread, &mut watch) {
            thread.join(watch);
        }
        stop_shards(&self.ports);
        let shards: Vec<_> = self.lock_shards().drain(..).collect();
        let Some(watch) = watch else { return };
        for shard in &shards {
            if !watch.wait(&shard.place.event_loop.whereabouts, || shard.ended.is_set()) {
                shard.place.event_loop.leave_behind();
            }
        }
    }

    /// Whether the thread or one that drives a shard is stuck in code of the application's.
    pub fn is_stuck(&self, watch: &mut Watch) -> bool {
        let shards = self.lock_shards();
        let stuck =
            shards.iter().filter(|shard| watch.is_stuck(&shard.place.event_loop.whereabouts));
        let any = stuck.count() > 0;
        let thread = lock(&self.thread);
        any | thread.as_ref().is_some_and(|thread| watch.is_stuck(thread.whereabouts()))
    }

    fn lock_shards(&self) -> MutexGuard<'_, Vec<RunningShard>> {
        lock(&self.shards)
    }
}

fn stop_shards(ports: &PortTable) {
    for port in ports.iter() {
        port.send(Control::Stop);
    }
}

pub(super) struct MetadataLoop {
    pub(super) parts: Arc<MetadataParts>,
    poll: Poll,
    pub(super) mailbox: Arc<MetadataMailbox>,
    clock: Clock,
    pub(super) machine: MetadataMachine,
    publisher: Publisher,
    host: LoopHost,
    dialer: Arc<Dialer>,
    attempts: u64,
    /// By [`ChannelId::index`].
    links: [Link; 2],
    pub(super) creator: TopicCreator,
    warnings: Warnings,
    notices: Notices,
    sleep_watch: SleepWatch,
    stopped: bool,
}

impl MetadataLoop {
    fn new(
        parts: MetadataParts,
        poll: Poll,
        mailbox: Arc<MetadataMailbox>,
        shards: Arc<Mutex<Vec<RunningShard>>>,
    ) -> Self {
        let parts = Arc::new(parts);
        let security = parts.security.clone();
        let dialer = Dialer::new(parts.sockets.clone(), security, parts.random);
        let dialer =
            Arc::new(dialer.with_map(parts.address_map.clone()).through(parts.socks5.clone()));
        let creator = TopicCreator::new(parts.to_probe(), parts.connection.request_timeout);
        let shards_max = parts.loops.loops_max().min(parts.shards_max);
        let (accumulator, ports) = (parts.accumulator.clone(), parts.ports.clone());
        let notices = Notices::new(Clock.now(), accumulator.clone(), parts.metrics_log_interval);
        let news = mailbox.clone();
        accumulator.failures.set_reporter(move || news.tell_unread());
        let (brokers_max, topic_idle_max) = (parts.brokers_max, parts.topic_idle_max);
        let limits = PublisherLimits { shards_max, brokers_max, topic_idle_max };
        let host = LoopHost {
            parts: parts.clone(),
            mailbox: mailbox.clone(),
            dialer: dialer.clone(),
            shards,
        };
        MetadataLoop {
            machine: MetadataMachine::new(parts.machine.clone(), parts.random),
            publisher: Publisher::new(accumulator, ports, limits),
            host,
            parts,
            poll,
            mailbox,
            clock: Clock,
            dialer,
            attempts: 0,
            links: [Link::default(), Link::default()],
            creator,
            warnings: Warnings::default(),
            notices,
            sleep_watch: SleepWatch::new(),
            stopped: false,
        }
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(16);
        while !self.stopped {
            self.turn(&mut events);
        }
        self.notices.end();
    }

    fn turn(&mut self, events: &mut Events) {
        let now = self.clock.now();
        self.check_suspended(now);
        self.receive(now, events);
        while let Some(message) = self.mailbox.messages.pop() {
            self.handle(now, message);
        }
        self.check_timeouts(now);
        if let Some(id) = self.machine.wants_rebootstrap() {
            let text = "the broker asks to go back to the bootstrap servers";
            self.lose(id, now, Problem::new(ProblemKind::Closed, text));
        }
        // Read the clock again. A question must not be dated before the records that it is asked
        // for: its answer would be taken for older than they are, and asked for once more.
        let now = self.clock.now();
        while let Some(id) = self.machine.poll_close(now) {
            self.close(id);
        }
        while let Some((id, address)) = self.machine.poll_connect(now) {
            self.connect(id, now, address);
        }
        for id in ChannelId::ALL {
            self.ask(id, now);
            self.write(id, now);
        }
        self.create_wanted(now);
        self.publisher.fail_unknown(now, &mut self.machine);
        // First what `Producer::health` reads, then what lets shards send: else a record could be
        // acknowledged while `health` still says that brokers give no producer id.
        self.notices.handle_turn(now, &self.machine);
        self.publisher.publish(now, &mut self.machine, &mut self.host);
        self.wait(events, now);
    }

    /// After the machine was asleep: what is known is old, and connections that were idle for too
    /// long are gone.
    fn check_suspended(&mut self, now: u64) {
        let span = self.sleep_watch.look();
        if span == 0 {
            return;
        }
        log::debug!("the machine was asleep for {:?}", Duration::from_nanos(span));
        self.machine.handle_refresh_wanted();
        let idle_max = self.parts.shard.idle_max;
        for id in ChannelId::ALL {
            let Some(connection) = &mut self.links[id.index()].connection else { continue };
            connection.handle_suspended(span);
            if self.machine.is_idle(id) && connection.idle_at(idle_max) <= now {
                let text = "idle while the machine was asleep";
                self.lose(id, now, Problem::new(ProblemKind::Closed, text));
            }
        }
    }

    fn handle(&mut self, now: u64, message: Message) {
        match message {
            Message::Wanted(topic, why) => {
                self.publisher.handle_wanted(now, topic, why, &mut self.machine, &mut self.host);
            }
            Message::Refresh => self.machine.handle_refresh_wanted(),
            Message::Hint(hint) => self.machine.handle_hint(&hint),
            Message::NewIdentity(used_up) => self.machine.handle_identity_wanted(used_up),
            Message::AskIdentity => self.machine.handle_identity_possible(now),
            Message::Socket { attempt, news } => {
                if let Some(id) = self.link_of(attempt) {
                    self.handle_news(id, now, news);
                }
            }
            Message::Login { attempt, answer } => {
                if let Some(id) = self.link_of(attempt) {
                    self.handle_login(id, now, answer);
                }
            }
            Message::Unread => self.notices.handle_unread(now),
            Message::CreateTopic(name, topic, tell) => self.create_topic(name, topic, tell),
            Message::Created(topic, round, outcome) => {
                self.machine.handle_created(&topic, round, outcome);
            }
            Message::TopicThere(topic) => self.machine.handle_there(&topic),
            Message::CreationOver(round) => self.machine.handle_creation_over(round),
            Message::Stop => self.stopped = true,
        }
    }

    fn connect(&mut self, id: ChannelId, now: u64, address: BrokerAddress) {
        self.attempts += 1;
        let (mailbox, attempt) = (self.mailbox.clone(), self.attempts);
        let peer = Some(address.clone());
        let socket = Socket::dial(None, address, &self.dialer, now, move |news| {
            mailbox.send(Message::Socket { attempt, news });
        });
        self.links[id.index()] = Link { attempt, peer, socket: Some(socket), connection: None };
        self.advance(id, now);
    }

    /// The link that an attempt to connect was made for, unless it was given up meanwhile.
    fn link_of(&self, attempt: u64) -> Option<ChannelId> {
        ChannelId::ALL.into_iter().find(|id| self.links[id.index()].attempt == attempt)
    }

    fn handle_news(&mut self, id: ChannelId, now: u64, news: SocketNews) {
        let Some(socket) = &mut self.links[id.index()].socket else { return };
        let progress = socket.handle_news(self.poll.registry(), token_of(id), now, news);
        self.progressed(id, now, progress);
        if let Err(problem) = self.read(id, now) {
            self.lose(id, now, problem);
        }
    }

    fn handle_login(&mut self, id: ChannelId, now: u64, answer: LoginAnswer) {
        let link = &mut self.links[id.index()];
        let Some(connection) = &mut link.connection else { return };
        match connection.handle_login(now, answer) {
            Ok(Incoming::Ready) => self.handle_ready(id, now),
            Ok(_) => {}
            Err(problem) => self.lose(id, now, problem),
        }
    }

    /// A link's handshake is complete.
    fn handle_ready(&mut self, id: ChannelId, now: u64) {
        log::debug!("metadata channel: connected");
        let link = &mut self.links[id.index()];
        if let Some(socket) = &mut link.socket {
            socket.handle_ready(now);
        }
        if let (Some(after), Some(peer)) = (self.warnings.end(now), &link.peer) {
            log::info!("metadata channel: {peer}: connected again, after {after:?}");
        }
        self.machine.handle_ready(id);
    }

    /// Has the next step of the link's login computed, if there is one.
    fn ask_login(&mut self, id: ChannelId) {
        let link = &mut self.links[id.index()];
        let task = link.connection.as_mut().and_then(Connection::poll_login);
        let logins = self.dialer.security.logins.clone();
        if let (Some(task), Some(logins), Some(peer)) = (task, logins, link.peer.clone()) {
            let (mailbox, attempt) = (self.mailbox.clone(), link.attempt);
            logins.compute(peer, task, move |answer| {
                mailbox.send(Message::Login { attempt, answer });
            });
        }
    }

    /// Goes on with a connection in the making, as far as it is due.
    fn advance(&mut self, id: ChannelId, now: u64) {
        let Some(socket) = &mut self.links[id.index()].socket else { return };
        let progress = socket.advance(self.poll.registry(), token_of(id), now);
        self.progressed(id, now, progress);
    }

    fn progressed(&mut self, id: ChannelId, now: u64, progress: Progress) {
        match progress {
            Progress::Connecting | Progress::Unchanged => {}
            Progress::Connected => {
                let config = self.parts.connection.clone();
                let link = &mut self.links[id.index()];
                let peer = link.peer.clone().expect("it was set before the socket");
                let connection = Connection::new(config, peer, now);
                let is_ready = connection.is_ready();
                link.connection = Some(connection);
                if is_ready {
                    self.handle_ready(id, now);
                }
            }
            Progress::Failed(problem) => {
                let connection = &mut self.links[id.index()].connection;
                let problem = match connection {
                    Some(connection) => connection.handle_lost(now, problem),
                    None => problem,
                };
                self.lose(id, now, problem);
            }
            Progress::Postponed { until, problem } => {
                let peer = self.close(id);
                let problem = peer.map_or(problem.clone(), |peer| problem.at(peer));
                self.machine.handle_postponed(id, now, until, problem);
            }
        }
    }

    /// No connection came about, or it is gone.
    fn lose(&mut self, id: ChannelId, now: u64, mut problem: Problem) {
        if let Some(socket) = &mut self.links[id.index()].socket {
            problem = socket.lost(now, problem);
        }
        if let Some(peer) = self.close(id) {
            problem = problem.at(peer);
        }
        if self.machine.is_idle(id) {
            log::debug!("metadata channel: closed while idle: {problem}");
        } else if self.warnings.is_due(now, problem.message()) {
            log::warn!("metadata channel: {problem}");
        } else {
            log::debug!("metadata channel: again: {problem}");
        }
        self.machine.handle_down(id, now, problem);
    }

    /// Closes what is open, and says whom it was to.
    fn close(&mut self, id: ChannelId) -> Option<BrokerAddress> {
        let mut link = std::mem::take(&mut self.links[id.index()]);
        if let Some(socket) = &mut link.socket {
            socket.close(self.poll.registry());
        }
        link.peer
    }

    fn receive(&mut self, now: u64, events: &Events) {
        for event in events {
            let is_it = |id: &ChannelId| token_of(*id) == event.token();
            let Some(id) = ChannelId::ALL.into_iter().find(is_it) else { continue };
            let Some(socket) = &mut self.links[id.index()].socket else { continue };
            socket.writable |= event.is_writable();
            let registry = self.poll.registry();
            let progress = socket.handle_event(registry, token_of(id), now);
            self.progressed(id, now, progress);
            if let Err(problem) = self.flush(id).and_then(|()| self.read(id, now)) {
                self.lose(id, now, problem);
            }
        }
    }

    /// Writes what an encrypting transport kept back.
    fn flush(&mut self, id: ChannelId) -> Result<(), Problem> {
        match &mut self.links[id.index()].socket {
            Some(socket) if socket.is_connected() => socket.flush(),
            _ => Ok(()),
        }
    }

    fn read(&mut self, id: ChannelId, now: u64) -> Result<(), Problem> {
        loop {
            let link = &mut self.links[id.index()];
            let (Some(socket), Some(connection)) = (&mut link.socket, &mut link.connection) else {
                return Ok(());
            };
            let bytes = match socket.read(connection.space()) {
                Ok(Some(bytes)) => bytes,
                // What was read may have to be answered: an update of keys.
                Ok(None) => return socket.flush(),
                Err(problem) => return Err(connection.handle_lost(now, problem)),
            };
            connection.handle_filled(now, bytes);
            self.take_responses(id, now)?;
            self.ask_login(id);
            let link = &mut self.links[id.index()];
            if let (Some(socket), Some(connection)) = (&mut link.socket, &link.connection) {
                socket.expect_silence(connection.throttled_until().saturating_sub(now));
                if connection.has_versions() {
                    socket.handle_answered();
                }
            }
        }
    }

    fn take_responses(&mut self, id: ChannelId, now: u64) -> Result<(), Problem> {
        while let Some(connection) = &mut self.links[id.index()].connection
            && let Some(incoming) = connection.poll_response(now)?
        {
            match incoming {
                Incoming::Ready => self.handle_ready(id, now),
                Incoming::Metadata(response) => self.machine.handle_metadata(id, now, &response),
                Incoming::InitProducerId(response) => {
                    self.machine.handle_identity(id, now, &response);
                }
                // Topics are created, and records read, on connections of their own.
                Incoming::Pending
                | Incoming::Produce(..)
                | Incoming::CreateTopics(_)
                | Incoming::Fetch(_)
                | Incoming::ListOffsets(_)
                | Incoming::OffsetCommit(_)
                | Incoming::OffsetFetch(_)
                | Incoming::FindCoordinator(_) => {}
            }
        }
        Ok(())
    }

    fn check_timeouts(&mut self, now: u64) {
        for id in ChannelId::ALL {
            let socket = self.links[id.index()].socket.as_ref();
            if socket.is_some_and(|socket| socket.deadline() <= now) {
                self.advance(id, now);
            }
            let link = &mut self.links[id.index()];
            let Some(connection) = &mut link.connection else { continue };
            if connection.poll_unsent().is_some_and(|at| at <= now)
                && let Some(unsent) = link.socket.as_ref().and_then(Socket::unsent)
            {
                connection.handle_unsent(now, unsent);
            }
            if let Err(problem) = connection.handle_timeout(now) {
                self.lose(id, now, problem);
            }
        }
    }

    fn ask(&mut self, id: ChannelId, now: u64) {
        let Some(connection) = &mut self.links[id.index()].connection else { return };
        if self.machine.poll_timeout(now).is_some_and(|at| at <= now) {
            connection.renew_login(now);
        }
        if !connection.may_send(now) {
            return;
        }
        let Some(query) = self.machine.poll_query(id, now) else { return };
        let api = match query {
            MetadataQuery::Metadata(_) => ApiKey::Metadata,
            MetadataQuery::InitProducerId => ApiKey::InitProducerId,
        };
        let Some(version) = connection.version(api) else {
            return self.leave_lacking(id, now, api);
        };
        send_query(connection, now, version, &query);
    }

    /// The broker does not speak what was to be asked: another one may.
    fn leave_lacking(&mut self, id: ChannelId, now: u64, api: ApiKey) {
        let link = &self.links[id.index()];
        let connection = link.connection.as_ref();
        if connection.is_some_and(|connection| connection.was_assumed_wrongly(now)) {
            let text = "it was taken for an old broker, and says itself by now what it speaks";
            return self.lose(id, now, Problem::new(ProblemKind::Protocol, text));
        }
        if api == ApiKey::InitProducerId
            && let Some(peer) = link.peer.clone()
            && !self.machine.handle_identity_lacking(id, now, peer)
        {
            // Nor does any other. This one is as good for metadata.
            return;
        }
        let text = format_args!("the broker does not speak {api:?}");
        self.lose(id, now, Problem::new(ProblemKind::BrokerTooOld, text));
    }

    fn write(&mut self, id: ChannelId, now: u64) {
        let link = &mut self.links[id.index()];
        while let (Some(socket), Some(connection)) = (&mut link.socket, &mut link.connection) {
            if !connection.wants_write() || !socket.writable {
                return;
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let used = connection.slices(&mut slices);
            match socket.write(&slices[..used]) {
                Ok(None) => return,
                // All of its requests get a response: none settles with its last byte.
                Ok(Some(bytes)) => connection.handle_taken(now, bytes),
                Err(problem) => {
                    let problem = connection.handle_lost(now, problem);
                    return self.lose(id, now, problem);
                }
            }
        }
    }

    fn wait(&mut self, events: &mut Events, now: u64) {
        let links = || self.links.iter();
        let connections = || links().filter_map(|link| link.connection.as_ref());
        let throttled = connections().map(Connection::throttled_until).max().unwrap_or(0);
        // Nothing can be asked while a login is under way, which the machine does not know of: look
        // again after a moment, since what it wants may be another connection.
        let logs_in = connections().any(Connection::logs_in);
        let earliest = if logs_in { now.saturating_add(LOGIN_LOOK) } else { 0 };
        let machine = self.machine.poll_timeout(now).map(|at| at.max(throttled).max(earliest));
        let setups = links().filter_map(|link| link.socket.as_ref()).map(Socket::deadline);
        let responses = connections().filter_map(Connection::poll_timeout);
        let unsent = connections().filter_map(Connection::poll_unsent);
        let own = machine.into_iter().chain(self.notices.poll_timeout());
        let own = own.chain(self.publisher.poll_timeout());
        let next = setups.filter(|&at| at != u64::MAX).chain(responses).chain(unsent);
        let next = next.chain(own).min();
        let mut timeout = next.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        self.mailbox.messages.prepare_to_sleep();
        if !self.mailbox.messages.is_empty() || self.stopped {
            timeout = Some(Duration::ZERO);
        }
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("metadata loop: poll failed: {error}");
        }
        self.mailbox.messages.awake();
    }
}
