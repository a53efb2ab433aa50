//! One connection of a probe, driven to its end on the calling thread.
//!
//! The same socket, handshake and login as a producer's connections have; what is of its own here
//! is that it looks, after each turn, which step is over.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use mio::{Events, Poll, Token};

use super::clock::Clock;
use super::dialer::Dialer;
use super::loop_mailbox::PollWaker;
use super::probe_types::{
    ClusterDescription, ProbeFailure, ProbeFinding, ProbeStage, ProbeStep, SpokenVersions,
};
use super::socket::{Progress, Socket, SocketNews};
use crate::engine::cluster::BrokerAddress;
use crate::engine::connection::{Connection, ConnectionConfig, Incoming, LoginAnswer, RequestKind};
use crate::engine::protocol::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, ErrorCode, MetadataRequest,
    MetadataResponse, MetadataTopics, TopicToCreate, VERSION_TOPIC_DEFAULTS_MIN,
};
use crate::engine::sync::WakeLoop;
use crate::problem::{Problem, ProblemKind};

/// What the only socket's events carry.
const SOCKET: Token = Token(0);
/// The longest time without a look at the clock: nothing here waits without a time limit of its
/// own, and this only bounds what a mistake in one would cost.
const TURN_MAX: Duration = Duration::from_millis(500);

/// What other threads find out.
enum News {
    Socket(SocketNews),
    Login(LoginAnswer),
}

/// When a link is given up, whatever step it is at.
#[derive(Clone)]
pub(super) struct Limit {
    /// Nanoseconds, monotonic.
    deadline: u64,
    /// Set by another thread once nobody wants the link any more.
    abandoned: Arc<AtomicBool>,
}

impl Limit {
    pub(super) fn after(time: Duration, abandoned: Arc<AtomicBool>) -> Limit {
        let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Limit { deadline: Clock.now().saturating_add(time), abandoned }
    }

    /// What is left of its time.
    pub(super) fn left(&self) -> Duration {
        match self.abandoned.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => Duration::from_nanos(self.deadline.saturating_sub(Clock.now())),
        }
    }

    fn check(&self, now: u64) -> Result<(), Problem> {
        if self.abandoned.load(Ordering::Relaxed) {
            let text = "it was given up, as the producer was closed";
            return Err(Problem::new(ProblemKind::Closed, text));
        }
        match self.deadline <= now {
            true => Err(Problem::new(ProblemKind::TimedOut, "not within the time that was given")),
            false => Ok(()),
        }
    }
}

/// What the system must give for a link.
pub(super) struct System {
    poll: Poll,
    waker: Arc<PollWaker>,
}

impl System {
    pub(super) fn new() -> Result<System, Problem> {
        let made = || -> io::Result<System> {
            let poll = Poll::new()?;
            let waker = Arc::new(PollWaker::new(&poll)?);
            Ok(System { poll, waker })
        };
        made().map_err(|error| {
            let text = format!("no descriptor to poll with: {error}");
            Problem::told_by(ProblemKind::System, text, error)
        })
    }
}

/// See the module.
pub(super) struct ProbeLink<'a> {
    system: System,
    config: Arc<ConnectionConfig>,
    dialer: Arc<Dialer>,
    server: BrokerAddress,
    socket: Socket,
    connection: Option<Connection>,
    cluster_id: Option<Arc<str>>,
    sender: Sender<News>,
    news: Receiver<News>,
    stage: ProbeStage,
    stage_begun: u64,
    /// What the broker answered to what it was asked last.
    answer: Option<Incoming>,
    limit: Option<Limit>,
    tell: &'a mut dyn FnMut(ProbeStep),
}

impl<'a> ProbeLink<'a> {
    /// Begins to connect to a server, which is a broker of that id if it is known.
    pub(super) fn open(
        system: System,
        config: Arc<ConnectionConfig>,
        dialer: Arc<Dialer>,
        (id, server): (Option<i32>, &BrokerAddress),
        now: u64,
        tell: &'a mut dyn FnMut(ProbeStep),
    ) -> ProbeLink<'a> {
        let (sender, news) = channel();
        let (post, waker) = (sender.clone(), system.waker.clone());
        let socket = Socket::dial(id, server.clone(), &dialer, now, move |news| {
            // Nobody listens once the link is gone.
            let _ = post.send(News::Socket(news));
            waker.wake();
        });
        // Not for an address, and not for a broker whose name the proxy looks up.
        let resolves = socket.is_resolving();
        ProbeLink {
            system,
            config,
            dialer,
            server: server.clone(),
            socket,
            connection: None,
            cluster_id: None,
            sender,
            news,
            stage: if resolves { ProbeStage::Resolve } else { ProbeStage::Connect },
            stage_begun: now,
            answer: None,
            limit: None,
            tell,
        }
    }

    /// Goes on until requests can be sent: connected, encrypted and logged in, at a broker of this
    /// cluster, if it is known.
    pub(super) fn make_ready(&mut self, cluster_id: Option<Arc<str>>) -> Result<(), ProbeFailure> {
        self.cluster_id = cluster_id;
        let mut progress = self.socket.advance(self.system.poll.registry(), SOCKET, Clock.now());
        loop {
            let outcome = self.progressed(Clock.now(), progress);
            self.note(outcome)?;
            if self.stage == ProbeStage::Metadata {
                return Ok(());
            }
            let outcome = self.turn();
            progress = self.note(outcome)?;
        }
    }

    /// The link is given up then.
    pub(super) fn within(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Asks for the cluster's brokers and topics.
    pub(super) fn ask(&mut self) -> Result<ClusterDescription, ProbeFailure> {
        let response = self.ask_metadata(MetadataTopics::All)?;
        Ok(ClusterDescription::new(response, self.versions()))
    }

    /// Asks for the cluster's brokers.
    pub(super) fn ask_brokers(&mut self) -> Result<MetadataResponse, ProbeFailure> {
        self.ask_metadata(MetadataTopics::Names(&[]))
    }

    fn ask_metadata(
        &mut self,
        topics: MetadataTopics<'_>,
    ) -> Result<MetadataResponse, ProbeFailure> {
        let request = MetadataRequest { topics, allow_auto_topic_creation: false };
        let response = match self.call(RequestKind::Metadata, &|version, out| {
            request.encode(version, out);
        })? {
            Incoming::Metadata(response) => response,
            _ => return self.note(Err(another_answer())),
        };
        if response.error != ErrorCode::NONE {
            let text = format_args!("the broker answered {}", response.error);
            let problem = Problem::new(ProblemKind::Broker(response.error), text);
            return self.note(Err(problem));
        }
        let (brokers, topics) = (response.brokers.len(), response.topics.len());
        self.finish(ProbeFinding::Described { brokers, topics }, ProbeStage::Metadata);
        Ok(response)
    }

    /// Whether the broker creates topics, and fills in no number of partitions or replicas.
    pub(super) fn lacks_topic_defaults(&self) -> bool {
        let connection = self.connection.as_ref();
        let version = connection.and_then(|it| it.version(ApiKey::CreateTopics));
        version.is_some_and(|version| version < VERSION_TOPIC_DEFAULTS_MIN)
    }

    /// Has topics created, within this time.
    pub(super) fn create_topics(
        &mut self,
        topics: &[TopicToCreate<'_>],
        timeout_ms: i32,
    ) -> Result<CreateTopicsResponse, ProbeFailure> {
        (self.stage, self.stage_begun) = (ProbeStage::CreateTopics, Clock.now());
        let request = CreateTopicsRequest { topics, timeout_ms };
        match self.call(RequestKind::CreateTopics, &|version, out| request.encode(version, out))? {
            Incoming::CreateTopics(response) => Ok(response),
            _ => self.note(Err(another_answer())),
        }
    }

    /// Asks something, and waits for the answer.
    fn call(
        &mut self,
        kind: RequestKind,
        encode: &dyn Fn(i16, &mut Vec<u8>),
    ) -> Result<Incoming, ProbeFailure> {
        let outcome = self.send(kind, encode);
        self.note(outcome)?;
        loop {
            if let Some(answer) = self.answer.take() {
                return Ok(answer);
            }
            let outcome = self.turn();
            let progress = self.note(outcome)?;
            let outcome = self.progressed(Clock.now(), progress);
            self.note(outcome)?;
        }
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        self.socket.close(self.system.poll.registry());
        self.system.waker.close();
    }

    fn send(
        &mut self,
        kind: RequestKind,
        encode: &dyn Fn(i16, &mut Vec<u8>),
    ) -> Result<(), Problem> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let Some(version) = connection.version(kind.api_key()) else {
            let text = match kind {
                RequestKind::CreateTopics => {
                    "it speaks no version of CreateTopics that this client knows: brokers create \
                     topics for clients from Kafka 0.11 on"
                }
                _ => {
                    "it speaks no version of Metadata that this client knows: is this the port of \
                     a KRaft controller? bootstrap.servers must name a broker's listener"
                }
            };
            return Err(Problem::new(ProblemKind::BrokerTooOld, text));
        };
        connection.send_simple(Clock.now(), kind, version, |version, out| encode(version, out));
        Ok(())
    }

    /// Waits, and does what came: what other threads found out, time limits, bytes.
    fn turn(&mut self) -> Result<Progress, Problem> {
        if let Some(limit) = &self.limit {
            limit.check(Clock.now())?;
        }
        self.write(Clock.now())?;
        let mut events = Events::with_capacity(16);
        let timeout = self.timeout(Clock.now());
        if let Err(error) = self.system.poll.poll(&mut events, Some(timeout))
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        let now = Clock.now();
        while let Ok(news) = self.news.try_recv() {
            match self.handle_news(now, news)? {
                Progress::Connecting | Progress::Unchanged => {}
                progress => return Ok(progress),
            }
        }
        let mut progress = Progress::Unchanged;
        for event in events.iter().filter(|event| event.token() == SOCKET) {
            self.socket.writable |= event.is_writable();
            progress = self.socket.handle_event(self.system.poll.registry(), SOCKET, now);
            if !matches!(progress, Progress::Connecting | Progress::Unchanged) {
                return Ok(progress);
            }
        }
        if self.socket.is_connected() {
            self.socket.flush()?;
            self.read(now)?;
        }
        if let Some(connection) = &mut self.connection {
            if connection.poll_unsent().is_some_and(|at| at <= now)
                && let Some(unsent) = self.socket.unsent()
            {
                connection.handle_unsent(now, unsent);
            }
            connection.handle_timeout(now)?;
        }
        if self.socket.deadline() <= now {
            progress = self.socket.advance(self.system.poll.registry(), SOCKET, now);
        }
        Ok(progress)
    }

    fn timeout(&self, now: u64) -> Duration {
        let connection = self.connection.as_ref();
        let times = [
            Some(self.socket.deadline()),
            self.limit.as_ref().map(|limit| limit.deadline),
            connection.and_then(Connection::poll_timeout),
            connection.and_then(Connection::poll_unsent),
        ];
        let next = match self.socket.has_received() {
            // No event will tell of what was decrypted already.
            true => 0,
            false => times.into_iter().flatten().min().unwrap_or(u64::MAX),
        };
        Duration::from_nanos(next.saturating_sub(now)).min(TURN_MAX)
    }

    fn handle_news(&mut self, now: u64, news: News) -> Result<Progress, Problem> {
        match news {
            News::Login(answer) => {
                if let Some(connection) = &mut self.connection {
                    connection.handle_login(now, answer)?;
                }
                Ok(Progress::Unchanged)
            }
            News::Socket(news) => {
                if let (ProbeStage::Resolve, SocketNews::Resolved(Ok(found))) = (self.stage, &news)
                {
                    let addresses = found.iter().map(std::net::SocketAddr::ip).collect();
                    self.finish(ProbeFinding::Addresses(addresses), ProbeStage::Connect);
                }
                Ok(self.socket.handle_news(self.system.poll.registry(), SOCKET, now, news))
            }
        }
    }

    /// Takes note of what came of the socket and the connection, and of the steps that are over.
    fn progressed(&mut self, now: u64, progress: Progress) -> Result<(), Problem> {
        let tls_wanted = self.config.is_tls;
        if self.stage == ProbeStage::Connect
            && let Some(address) = self.socket.reached()
        {
            let next = if tls_wanted { ProbeStage::Tls } else { ProbeStage::Versions };
            self.finish(ProbeFinding::Connected(address), next);
        }
        match progress {
            Progress::Connecting | Progress::Unchanged => {}
            Progress::Failed(problem) => return Err(self.lost(now, problem)),
            Progress::Postponed { problem, .. } => return Err(problem),
            Progress::Connected => {
                if let Some(tls) = self.socket.describe_tls() {
                    self.finish(ProbeFinding::Encrypted(tls), ProbeStage::Versions);
                }
                let connection = Connection::new(self.config.clone(), self.server.clone(), now);
                self.connection = Some(connection.of_cluster(self.cluster_id.take()));
            }
        }
        self.look_at_connection(now);
        Ok(())
    }

    fn look_at_connection(&mut self, now: u64) {
        let Some(connection) = &self.connection else { return };
        let is_ready = connection.is_ready() && !connection.logs_in();
        if self.stage == ProbeStage::Versions && (connection.has_versions() || is_ready) {
            let logs_in = self.config.sasl_mechanism.is_some();
            let next = if logs_in { ProbeStage::Login } else { ProbeStage::Metadata };
            if logs_in || is_ready {
                self.finish(ProbeFinding::Speaks(self.versions()), next);
            }
        }
        if self.stage == ProbeStage::Login && is_ready {
            let mechanism = self.config.sasl_mechanism.as_deref().unwrap_or_default().to_owned();
            self.finish(ProbeFinding::LoggedIn(mechanism), ProbeStage::Metadata);
        }
        if is_ready {
            self.socket.handle_ready(now);
        }
    }

    fn versions(&self) -> SpokenVersions {
        let connection = self.connection.as_ref();
        let version = |api: &ApiKey| Some((format!("{api:?}"), connection?.version(*api)?));
        SpokenVersions {
            newest: ApiKey::ALL.iter().filter_map(version).collect(),
            assumed: connection.is_some_and(Connection::is_assumed),
        }
    }

    fn read(&mut self, now: u64) -> Result<(), Problem> {
        while let Some(connection) = &mut self.connection {
            let bytes = match self.socket.read(connection.space()) {
                Ok(Some(bytes)) => bytes,
                // What was read may have to be answered: an update of keys.
                Ok(None) => return self.socket.flush(),
                Err(problem) => return Err(self.lost(now, problem)),
            };
            connection.handle_filled(now, bytes);
            while let Some(incoming) = connection.poll_response(now)? {
                if matches!(incoming, Incoming::Metadata(_) | Incoming::CreateTopics(_)) {
                    self.answer = Some(incoming);
                }
            }
            if connection.has_versions() {
                self.socket.handle_answered();
            }
            self.ask_login();
        }
        Ok(())
    }

    /// Has the next step of the login computed, if there is one.
    fn ask_login(&mut self) {
        let task = self.connection.as_mut().and_then(Connection::poll_login);
        if let (Some(task), Some(logins)) = (task, self.dialer.security.logins.clone()) {
            let (post, waker) = (self.sender.clone(), self.system.waker.clone());
            logins.compute(self.server.clone(), task, move |answer| {
                let _ = post.send(News::Login(answer));
                waker.wake();
            });
        }
    }

    fn write(&mut self, now: u64) -> Result<(), Problem> {
        while let Some(connection) = &mut self.connection {
            if !connection.wants_write() || !self.socket.writable {
                break;
            }
            let mut slices = [IoSlice::new(&[]); 16];
            let used = connection.slices(&mut slices);
            match self.socket.write(&slices[..used]) {
                Ok(None) => break,
                Ok(Some(bytes)) => connection.handle_taken(now, bytes),
                Err(problem) => return Err(self.lost(now, problem)),
            }
        }
        Ok(())
    }

    /// A step went well.
    fn finish(&mut self, finding: ProbeFinding, next: ProbeStage) {
        let now = Clock.now();
        self.step(now, Ok(finding));
        (self.stage, self.stage_begun) = (next, now);
    }

    /// What the end of the socket means, as the connection knows it.
    fn lost(&mut self, now: u64, problem: Problem) -> Problem {
        match &mut self.connection {
            Some(connection) => connection.handle_lost(now, problem),
            None => problem,
        }
    }

    /// Tells of a step that failed.
    fn note<T>(&mut self, outcome: Result<T, Problem>) -> Result<T, ProbeFailure> {
        let problem = match outcome {
            Ok(value) => return Ok(value),
            Err(problem) => problem,
        };
        let now = Clock.now();
        let problem = self.socket.lost(now, problem);
        // A broker may have gone one step on before what is wrong came up.
        self.look_at_connection(now);
        self.step(now, Err(problem.clone()));
        self.close();
        Err(ProbeFailure { server: self.server.to_string(), stage: self.stage, problem })
    }

    fn step(&mut self, now: u64, outcome: Result<ProbeFinding, Problem>) {
        let took = Duration::from_nanos(now.saturating_sub(self.stage_begun));
        let (server, stage) = (self.server.to_string(), self.stage);
        (self.tell)(ProbeStep { server, stage, took, outcome });
    }
}

fn another_answer() -> Problem {
    Problem::new(ProblemKind::Protocol, "the broker answered something else than it was asked")
}
