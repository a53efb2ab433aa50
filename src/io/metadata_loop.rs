//! The metadata channel: its own thread and connection. Drives the metadata machine and the
//! publisher, which tells shards what the machine learns.

use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::{Events, Poll};

use super::clock::Clock;
use super::event_loop::PollWaker;
use super::loops::EventLoops;
use super::metadata_mailbox::{Message, MetadataMailbox};
use super::resolver::{Resolved, Resolver};
use super::service::ServiceMailbox;
use super::shard_host::{LoopHost, RunningShard};
use super::socket::{Progress, Socket, SocketOptions};
use super::threads::OwnThread;
use super::warnings::Warnings;
use crate::batch::{RecordAccumulator, ShardId};
use crate::cluster::{BrokerAddress, MetadataConfig, MetadataMachine, MetadataQuery};
use crate::connection::{Connection, ConnectionConfig, ConnectionError, Incoming, RequestKind};
use crate::policy::RetryPolicy;
use crate::protocol::{
    ApiKey, InitProducerIdRequest, MetadataRequest, MetadataTopics, ProducerIdentity,
};
use crate::shard::{Control, PortTable, Publisher, ShardConfig, ShardHost};

const SOCKET: mio::Token = mio::Token(0);

/// What a metadata loop is made of.
pub struct MetadataParts {
    /// When to ask and whom.
    pub machine: MetadataConfig,
    /// For its connection.
    pub connection: Arc<ConnectionConfig>,
    /// For every connection of the producer.
    pub sockets: SocketOptions,
    /// For every shard.
    pub shard: Arc<ShardConfig>,
    /// For every shard.
    pub retry_policy: Arc<dyn RetryPolicy>,
    /// Bytes of one largest batch, if batches are compressed.
    pub scratch_bytes: Option<usize>,
    /// Lanes, topics, pool.
    pub accumulator: Arc<RecordAccumulator>,
    /// Where shards run.
    pub loops: EventLoops,
    /// The shards' ports.
    pub ports: Arc<PortTable>,
    /// Shards at the most.
    pub shards_max: usize,
    /// Brokers at the most.
    pub brokers_max: usize,
    /// Empties stashes.
    pub service: Arc<ServiceMailbox>,
    /// A seed.
    pub random: u64,
}

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
        let poll = Poll::new()?;
        let waker = PollWaker::new(&poll)?;
        let mailbox = MetadataMailbox::new(waker);
        let shards = Arc::new(Mutex::new(Vec::new()));
        let ports = parts.ports.clone();
        let mut metadata_loop = MetadataLoop::new(parts, poll, mailbox.clone(), shards.clone());
        metadata_loop.host.start_shard(ShardId(0))?;
        let ended = mailbox.clone();
        let thread = OwnThread::spawn("tidegate-meta", move || {
            if catch_unwind(AssertUnwindSafe(|| metadata_loop.run())).is_err() {
                log::error!("the metadata loop panicked: leaders are not followed any more");
            }
            ended.waker.close();
        });
        // The loop may be another producer's as well, and live on.
        let thread = thread.inspect_err(|_| stop_shards(&ports))?;
        Ok(MetadataHandle { mailbox, ports, shards, thread: Mutex::new(Some(thread)) })
    }

    /// Where topics are asked for.
    pub fn mailbox(&self) -> &Arc<MetadataMailbox> {
        &self.mailbox
    }

    /// Ends the thread and the shards; with `wait`, returns when they have ended.
    pub fn stop(&self, wait: bool) {
        self.mailbox.send(Message::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && wait
        {
            thread.join();
        }
        stop_shards(&self.ports);
        let shards: Vec<_> = {
            let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
            shards.drain(..).collect()
        };
        if wait {
            for shard in &shards {
                shard.ended.wait();
            }
        }
    }
}

fn stop_shards(ports: &PortTable) {
    for port in ports.iter() {
        port.send(Control::Stop);
    }
}

struct MetadataLoop {
    parts: Arc<MetadataParts>,
    poll: Poll,
    mailbox: Arc<MetadataMailbox>,
    clock: Clock,
    machine: MetadataMachine,
    publisher: Publisher,
    host: LoopHost,
    resolver: Arc<Resolver>,
    attempt: u64,
    /// Whom the present attempt or connection is to.
    peer: Option<BrokerAddress>,
    socket: Option<Socket>,
    connection: Option<Connection>,
    warnings: Warnings,
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
        let resolver: Arc<Resolver> = Arc::default();
        let shards_max = parts.loops.loops_max().min(parts.shards_max);
        let (accumulator, ports) = (parts.accumulator.clone(), parts.ports.clone());
        let host = LoopHost {
            parts: parts.clone(),
            mailbox: mailbox.clone(),
            resolver: resolver.clone(),
            shards,
        };
        MetadataLoop {
            machine: MetadataMachine::new(parts.machine.clone(), parts.random),
            publisher: Publisher::new(accumulator, ports, shards_max, parts.brokers_max),
            host,
            parts,
            poll,
            mailbox,
            clock: Clock,
            resolver,
            attempt: 0,
            peer: None,
            socket: None,
            connection: None,
            warnings: Warnings::default(),
            stopped: false,
        }
    }

    fn run(&mut self) {
        let mut events = Events::with_capacity(16);
        while !self.stopped {
            self.turn(&mut events);
        }
    }

    fn turn(&mut self, events: &mut Events) {
        let now = self.clock.now();
        self.receive(now, events);
        while let Some(message) = self.mailbox.messages.pop() {
            self.handle(now, message);
        }
        self.check_timeouts(now);
        if self.machine.wants_rebootstrap() {
            self.lose(now, "the broker asks to go back to the bootstrap servers");
        }
        if let Some(address) = self.machine.poll_connect(now) {
            self.connect(now, address);
        }
        self.ask(now);
        self.write(now);
        self.publisher.publish(&mut self.machine, &mut self.host);
        self.publisher.fail_unknown(now, &mut self.machine);
        self.wait(events, now);
    }

    fn handle(&mut self, now: u64, message: Message) {
        match message {
            Message::Wanted(topic) => {
                self.publisher.handle_wanted(now, topic, &mut self.machine, &mut self.host);
            }
            Message::Refresh => self.machine.handle_refresh_wanted(),
            Message::Hint(hint) => self.machine.handle_hint(&hint),
            Message::NewIdentity(used_up) => self.machine.handle_identity_wanted(used_up),
            Message::Resolved { attempt, result } if attempt == self.attempt => {
                self.handle_resolved(now, result);
            }
            Message::Resolved { .. } => {}
            Message::Stop => self.stopped = true,
        }
    }

    fn connect(&mut self, now: u64, address: BrokerAddress) {
        self.attempt += 1;
        self.peer = Some(address.clone());
        match Resolver::literal(&address) {
            Some(literal) => self.handle_resolved(now, Ok(vec![literal])),
            None => {
                let (mailbox, attempt) = (self.mailbox.clone(), self.attempt);
                self.resolver.resolve(address, move |result| {
                    mailbox.send(Message::Resolved { attempt, result });
                });
            }
        }
    }

    fn handle_resolved(&mut self, now: u64, result: Resolved) {
        match result {
            Err(problem) => self.lose(now, &problem),
            Ok(addresses) => {
                let mut socket = Socket::connect(addresses);
                let registry = self.poll.registry();
                let progress = socket.try_next(registry, SOCKET, &self.parts.sockets, now);
                self.socket = Some(socket);
                self.progressed(now, progress);
            }
        }
    }

    fn progressed(&mut self, now: u64, progress: Progress) {
        match progress {
            Progress::Connecting | Progress::Unchanged => {}
            Progress::Connected => {
                self.connection = Some(Connection::new(self.parts.connection.clone(), now));
            }
            Progress::Failed(problem) => self.lose(now, &problem),
        }
    }

    /// No connection came about, or it is gone.
    fn lose(&mut self, now: u64, problem: &str) {
        if let Some(mut socket) = self.socket.take() {
            socket.close(self.poll.registry());
        }
        self.connection = None;
        let peer = self.peer.take();
        let peer = peer.map_or_else(String::new, |peer| format!("{peer}: "));
        let text = format!("{peer}{problem}");
        if !self.machine.is_asking() && self.machine.is_ready() {
            log::debug!("metadata channel: closed while idle: {text}");
        } else if self.warnings.is_due(now, &text) {
            log::warn!("metadata channel: {text}");
        } else {
            log::debug!("metadata channel: again: {text}");
        }
        self.machine.handle_down(now, text.into());
    }

    fn receive(&mut self, now: u64, events: &Events) {
        for event in events {
            if event.token() != SOCKET {
                continue;
            }
            let Some(socket) = &mut self.socket else { continue };
            socket.writable |= event.is_writable();
            let registry = self.poll.registry();
            let progress = socket.handle_event(registry, SOCKET, &self.parts.sockets, now);
            self.progressed(now, progress);
            if let Err(error) = self.read(now) {
                self.lose(now, &error.0);
            }
        }
    }

    fn read(&mut self, now: u64) -> Result<(), ConnectionError> {
        while let (Some(socket), Some(connection)) = (&mut self.socket, &mut self.connection) {
            let Some(bytes) = socket.read(connection.space()).map_err(ConnectionError::new)? else {
                return Ok(());
            };
            connection.handle_filled(now, bytes);
            while let Some(incoming) = connection.poll_response(now)? {
                match incoming {
                    Incoming::Ready => {
                        log::debug!("metadata channel: connected");
                        self.machine.handle_ready();
                    }
                    Incoming::Metadata(response) => self.machine.handle_metadata(now, &response),
                    Incoming::InitProducerId(response) => {
                        self.machine.handle_identity(now, &response);
                    }
                    Incoming::Pending | Incoming::Produce(..) => {}
                }
            }
            let silence = connection.throttled_until().saturating_sub(now);
            socket.expect_silence(&self.parts.sockets, silence);
        }
        Ok(())
    }

    fn check_timeouts(&mut self, now: u64) {
        if let Some(socket) = &mut self.socket
            && socket.deadline() <= now
        {
            let registry = self.poll.registry();
            let progress = socket.try_next(registry, SOCKET, &self.parts.sockets, now);
            self.progressed(now, progress);
        }
        if let Some(connection) = &mut self.connection
            && let Err(error) = connection.handle_timeout(now)
        {
            self.lose(now, &error.0);
        }
    }

    fn ask(&mut self, now: u64) {
        let Some(connection) = &mut self.connection else { return };
        if !connection.is_ready() || now < connection.throttled_until() {
            return;
        }
        let Some(query) = self.machine.poll_query(now) else { return };
        let api = match query {
            MetadataQuery::Metadata(_) => ApiKey::Metadata,
            MetadataQuery::InitProducerId => ApiKey::InitProducerId,
        };
        let Some(version) = connection.version(api) else {
            let problem = format!(
                "the broker does not speak {api:?}{}",
                if api == ApiKey::InitProducerId {
                    ": it is too old for an idempotent producer; set enable_idempotence to false"
                } else {
                    ""
                }
            );
            return self.lose(now, &problem);
        };
        match query {
            MetadataQuery::Metadata(topics) => {
                let names: Vec<&str> = topics.iter().map(|name| &**name).collect();
                let request = MetadataRequest {
                    topics: MetadataTopics::Names(&names),
                    allow_auto_topic_creation: self.machine.auto_create(),
                };
                connection.send_simple(now, RequestKind::Metadata, version, |version, out| {
                    request.encode(version, out);
                });
            }
            MetadataQuery::InitProducerId => {
                let request = InitProducerIdRequest {
                    transactional_id: None,
                    transaction_timeout_ms: i32::MAX,
                    identity: ProducerIdentity::NONE,
                };
                let kind = RequestKind::InitProducerId;
                connection.send_simple(now, kind, version, |version, out| {
                    request.encode(version, out);
                });
            }
        }
    }

    fn write(&mut self, now: u64) {
        while let (Some(socket), Some(connection)) = (&mut self.socket, &mut self.connection) {
            if !connection.wants_write() || !socket.writable {
                return;
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let used = connection.slices(&mut slices);
            match socket.write(&slices[..used]) {
                Ok(None) => return,
                Ok(Some(bytes)) => connection.handle_written(now, bytes, &mut Vec::new()),
                Err(error) => return self.lose(now, &error.to_string()),
            }
        }
    }

    fn wait(&mut self, events: &mut Events, now: u64) {
        let connection = self.connection.as_ref();
        let machine = match connection {
            Some(connection) => {
                let due = self.machine.poll_timeout(now);
                due.map(|at| at.max(connection.throttled_until()))
            }
            None => self.machine.poll_timeout(now),
        };
        let setup = self.socket.as_ref().map(Socket::deadline).filter(|&at| at != u64::MAX);
        let response = connection.and_then(Connection::poll_timeout);
        let next = [machine, setup, response].into_iter().flatten().min();
        let mut timeout = next.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        self.mailbox.bell.prepare_to_sleep();
        if !self.mailbox.messages.is_empty() || self.stopped {
            timeout = Some(Duration::ZERO);
        }
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            log::error!("metadata loop: poll failed: {error}");
        }
        self.mailbox.bell.awake();
    }
}
