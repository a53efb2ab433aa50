//! Has topics created by the cluster, on helper threads with connections of their own: a controller
//! takes its time, and no answer about leaders must wait for that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::client_parts::ClientParts;
use super::helper_threads::HelperThreads;
use super::probe::Probe;
use super::probe_link::{Limit, ProbeLink};
use super::probe_types::ProbeFailure;
use crate::config::NewTopic;
use crate::engine::cluster::BrokerAddress;
use crate::engine::protocol::{CreateTopicsResponse, ErrorCode, TopicToCreate};
use crate::error::CreateTopicErrorKind;
use crate::problem::{Problem, ProblemKind};

/// So many calls of the application's, and so many rounds of the producer's own, go on at once; a
/// further one waits until one of them ends.
const THREADS_MAX: usize = 32;
/// The wait after all brokers were asked in vain, at first and at the most.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// An attempt gets this part of the time that is left: a broker that hangs must leave some for the
/// others.
const SHARE: u32 = 3;
/// What goes in one request. Kafka refuses all topics of a request with more than 10,000 partitions
/// together.
const TOPICS_MAX: usize = 100;
const PARTITIONS_MAX: u64 = 5_000;
/// What a topic counts as whose number of partitions is left to the brokers.
const PARTITIONS_UNKNOWN: u64 = 50;

/// Topics by name, each with what it is created with.
pub(super) type Wishes = BTreeMap<Arc<str>, Arc<NewTopic>>;

/// What became of a topic.
pub(super) type Outcome = Result<(), CreateTopicErrorKind>;

/// Who is told of it.
type Told<'a> = &'a dyn Fn(&Arc<str>, Outcome);

/// Whom to ask.
pub(super) struct Whom {
    /// Brokers, each of which may be asked for the controller.
    pub servers: Vec<BrokerAddress>,
    /// Their cluster, if it is known: another one must not get the topics.
    pub cluster_id: Option<Arc<str>>,
}

/// See the module. Dropped, it gives up what it is at.
pub(super) struct TopicCreator {
    /// For the producer's own topics, and for those that the application asks for: neither holds
    /// up the other.
    own: HelperThreads,
    asked_for: HelperThreads,
    probe: Arc<Probe>,
    request_timeout: Duration,
    abandoned: Arc<AtomicBool>,
}

/// Who wants topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanting {
    Producer,
    Application,
}

impl TopicCreator {
    pub(super) fn new(parts: ClientParts, request_timeout: u64) -> Self {
        TopicCreator {
            own: HelperThreads::new("tidegate-topics", THREADS_MAX),
            asked_for: HelperThreads::new("tidegate-topics", THREADS_MAX),
            probe: Arc::new(Probe::from_parts(parts)),
            request_timeout: Duration::from_nanos(request_timeout),
            abandoned: Arc::default(),
        }
    }

    /// Begins to create topics. `told` gets each one's outcome, on a helper thread; if there is no
    /// thread to be had, at once.
    pub(super) fn begin(
        &self,
        wanting: Wanting,
        topics: Wishes,
        whom: Whom,
        told: impl Fn(&Arc<str>, Outcome) + Send + Sync + 'static,
    ) {
        let names: Vec<_> = topics.keys().cloned().collect();
        let open = topics.into_iter().map(|(name, topic)| {
            let limit = Limit::after(topic.timeout, self.abandoned.clone());
            (name, Open { topic, limit })
        });
        let mut job = Creation {
            probe: self.probe.clone(),
            cluster_id: whom.cluster_id,
            servers: whom.servers.into(),
            request_timeout: self.request_timeout,
            abandoned: self.abandoned.clone(),
            open: open.collect(),
            topics_max: TOPICS_MAX,
            unanswered: false,
            last: None,
        };
        let told = Arc::new(told);
        let tell = told.clone();
        let helpers = match wanting {
            Wanting::Producer => &self.own,
            Wanting::Application => &self.asked_for,
        };
        if let Err(error) = helpers.run(move || job.run(&*tell)) {
            let text = format!("no thread to create topics on: {error}");
            let problem = Problem::told_by(ProblemKind::System, text, error);
            let outcome = Err(CreateTopicErrorKind::Failed(problem));
            names.iter().for_each(|name| told(name, outcome.clone()));
        }
    }
}

impl Drop for TopicCreator {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// A topic whose outcome is not known yet.
struct Open {
    topic: Arc<NewTopic>,
    limit: Limit,
}

/// What an attempt came to.
enum Attempt {
    /// Some outcomes are known by it: the next may follow at once.
    Settled,
    /// Nothing is known by it, which may be different soon.
    InVain,
    /// The broker will never be of use.
    Useless(Problem),
}

/// Topics that are created together.
struct Creation {
    probe: Arc<Probe>,
    cluster_id: Option<Arc<str>>,
    /// Whom to ask; the first is the next.
    servers: VecDeque<BrokerAddress>,
    request_timeout: Duration,
    abandoned: Arc<AtomicBool>,
    open: BTreeMap<Arc<str>, Open>,
    /// Topics that go in one request at the most.
    topics_max: usize,
    /// A controller was asked, and did not say in time what became of them: they may have been
    /// created.
    unanswered: bool,
    last: Option<Problem>,
}

impl Creation {
    /// Asks brokers in turn, again and again, until each topic's outcome is known.
    fn run(&mut self, told: Told<'_>) {
        let mut wait = WAIT_FIRST;
        loop {
            self.ask_in_turn(told);
            self.expire(told);
            let Some(left) = self.left() else { return };
            std::thread::sleep(wait.min(left));
            wait = (2 * wait).min(WAIT_MAX);
            self.expire(told);
        }
    }

    /// The time until the first topic's is over. `None`: no outcome is open.
    fn left(&self) -> Option<Duration> {
        self.open.values().map(|open| open.limit.left()).min()
    }

    /// Tells the outcome of topics whose time is over.
    fn expire(&mut self, told: Told<'_>) {
        let is_closed = self.abandoned.load(Ordering::Relaxed);
        let last = &self.last;
        self.open.retain(|name, open| {
            let is_over = open.limit.left().is_zero();
            if is_over {
                told(
                    name,
                    Err(match is_closed {
                        true => CreateTopicErrorKind::Closed,
                        false => CreateTopicErrorKind::TimedOut {
                            after: open.topic.timeout,
                            last: last.clone(),
                        },
                    }),
                );
            }
            !is_over
        });
    }

    /// Asks one broker after the other, each once, and goes on with one that settles something.
    fn ask_in_turn(&mut self, told: Told<'_>) {
        let (mut tried, mut useless) = (0, 0);
        while tried < self.servers.len() && self.left().is_some_and(|left| !left.is_zero()) {
            let Some(server) = self.servers.front().cloned() else { return };
            match self.attempt(&server, told) {
                Attempt::Settled => {
                    (tried, useless) = (0, 0);
                    continue;
                }
                Attempt::InVain => {}
                Attempt::Useless(problem) => {
                    useless += 1;
                    if useless == self.servers.len() {
                        let failed = CreateTopicErrorKind::Failed(problem);
                        let open = std::mem::take(&mut self.open);
                        return open.keys().for_each(|name| told(name, Err(failed.clone())));
                    }
                }
            }
            tried += 1;
            self.servers.rotate_left(1);
        }
    }

    fn attempt(&mut self, server: &BrokerAddress, told: Told<'_>) -> Attempt {
        let Some(left) = self.left() else { return Attempt::InVain };
        let failure = match self.ask(server, left / SHARE, told) {
            Ok(is_settled) if is_settled => return Attempt::Settled,
            Ok(_) => return Attempt::InVain,
            Err(failure) => failure,
        };
        let problem = failure.problem.at(&failure.server);
        // A share of the time that ran out tells less of what is wrong than what was met before.
        if problem.kind() == ProblemKind::TimedOut {
            self.last.get_or_insert(problem);
            return Attempt::InVain;
        }
        self.last = Some(problem.clone());
        match problem.kind() {
            ProblemKind::BrokerTooOld | ProblemKind::Authentication => Attempt::Useless(problem),
            _ => Attempt::InVain,
        }
    }

    /// Asks this server who the controller is, and that one for topics. Returns whether it settled
    /// anything.
    fn ask(
        &mut self,
        server: &BrokerAddress,
        share: Duration,
        told: Told<'_>,
    ) -> Result<bool, ProbeFailure> {
        let limit = Limit::after(share, self.abandoned.clone());
        let mut tell = |_| ();
        let mut link = self.probe.open(None, server, &mut tell)?.within(limit.clone());
        link.make_ready(self.cluster_id.clone())?;
        let described = link.ask_brokers()?;
        let controller = described.controller.and_then(|id| {
            let broker = described.brokers.iter().find(|broker| broker.id == id)?;
            let address = BrokerAddress { host: broker.host.as_str().into(), port: broker.port };
            Some((id.0, address))
        });
        // Brokers of a cluster with ZooKeeper that are not the controller refuse the request; with
        // KRaft each of them names one that passes it on.
        let Some((id, address)) = controller.filter(|(_, address)| address != server) else {
            return self.ask_controller(&mut link, &limit, told);
        };
        link.close();
        let mut tell = |_| ();
        let mut link = self.probe.open(Some(id), &address, &mut tell)?.within(limit.clone());
        link.make_ready(described.cluster_id.as_deref().map(Arc::from))?;
        self.ask_controller(&mut link, &limit, told)
    }

    fn ask_controller(
        &mut self,
        link: &mut ProbeLink<'_>,
        limit: &Limit,
        told: Told<'_>,
    ) -> Result<bool, ProbeFailure> {
        if link.lacks_topic_defaults() && self.refuse_those_left_open(told) {
            link.close();
            return Ok(true);
        }
        let timeout = limit.left().min(self.request_timeout).as_millis();
        let topics = self.next_topics();
        let response = link.create_topics(&topics, timeout.try_into().unwrap_or(i32::MAX));
        link.close();
        // A broker that is too old was not asked.
        let was_asked = |it: &ProbeFailure| it.problem.kind() != ProblemKind::BrokerTooOld;
        self.unanswered |= response.as_ref().is_err_and(was_asked);
        Ok(self.settle(&response?, told))
    }

    /// Brokers before Kafka 2.4 fill in nothing. Returns whether that concerns a topic.
    fn refuse_those_left_open(&mut self, told: Told<'_>) -> bool {
        let text = "before Kafka 2.4 brokers have no defaults for new topics: give the number of \
                    partitions and the replication factor";
        let before = self.open.len();
        self.open.retain(|name, Open { topic, .. }| {
            let is_whole = topic.partitions.is_some() && topic.replication_factor.is_some();
            if !is_whole {
                let problem = Problem::new(ProblemKind::BrokerTooOld, text);
                told(name, Err(CreateTopicErrorKind::Failed(problem)));
            }
            is_whole
        });
        self.open.len() < before
    }

    /// As many of the open topics as go in one request.
    fn next_topics(&self) -> Vec<TopicToCreate<'_>> {
        let (mut topics, mut partitions) = (Vec::new(), 0);
        for (name, Open { topic, .. }) in &self.open {
            let count = topic.partitions.and_then(|count| u64::try_from(count).ok());
            partitions += count.unwrap_or(PARTITIONS_UNKNOWN);
            let is_full = topics.len() == self.topics_max || partitions > PARTITIONS_MAX;
            if is_full && !topics.is_empty() {
                break;
            }
            topics.push(TopicToCreate {
                name,
                partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                settings: &topic.settings,
            });
        }
        topics
    }

    /// Tells the outcomes that an answer holds. What is worth another attempt stays open. Returns
    /// whether anything changed.
    fn settle(&mut self, response: &CreateTopicsResponse, told: Told<'_>) -> bool {
        let mut is_settled = false;
        let is_alone = response.topics.len() < 2;
        for topic in &response.topics {
            let Some((name, wish)) = self.open.remove_entry(&*topic.name) else { continue };
            match topic.error {
                ErrorCode::NONE => told(&name, Ok(())),
                // An earlier attempt of this call created it, and its answer was lost.
                ErrorCode::TOPIC_ALREADY_EXISTS if self.unanswered => told(&name, Ok(())),
                ErrorCode::TOPIC_ALREADY_EXISTS => {
                    told(&name, Err(CreateTopicErrorKind::AlreadyExists));
                }
                // Kafka answers so for each topic of a request that has too many partitions. Sent
                // one by one, each gets the answer that is meant for it.
                ErrorCode::POLICY_VIOLATION if !is_alone => {
                    self.topics_max = 1;
                    self.open.insert(name, wish);
                }
                code if code.is_retriable() => {
                    self.unanswered |= code == ErrorCode::REQUEST_TIMED_OUT;
                    self.last = Some(Problem::from(code).at("CreateTopics"));
                    self.open.insert(name, wish);
                    continue;
                }
                code => {
                    let message = topic.message.as_deref().filter(|words| !words.is_empty());
                    let message = message.map(Arc::from);
                    told(&name, Err(CreateTopicErrorKind::Refused { code, message }));
                }
            }
            is_settled = true;
        }
        is_settled
    }
}
