//! Has topics created by the cluster, on helper threads with connections of their own: a controller
//! takes its time, and no answer about leaders must wait for that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::helper_threads::HelperThreads;
use super::probe::{Probe, ProbeParts};
use super::probe_link::{Limit, ProbeLink};
use super::probe_types::ProbeFailure;
use crate::config::NewTopic;
use crate::engine::cluster::BrokerAddress;
use crate::engine::protocol::{CreateTopicsResponse, ErrorCode, TopicToCreate};
use crate::error::CreateTopicErrorKind;
use crate::problem::{Problem, ProblemKind};

/// One for what the producer wants, the others for calls of the application's.
const THREADS_MAX: usize = 4;
/// The wait after all brokers were asked in vain, at first and at the most.
const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Topics by name, each with what it is created with.
pub(super) type Wishes = BTreeMap<Arc<str>, Arc<NewTopic>>;

/// What became of a topic.
pub(super) type Outcome = Result<(), CreateTopicErrorKind>;

/// Whom to ask.
pub(super) struct Whom {
    /// Brokers, in the order in which they are asked for the controller.
    pub servers: Vec<BrokerAddress>,
    /// Their cluster, if it is known: another one must not get the topics.
    pub cluster_id: Option<Arc<str>>,
}

/// See the module. Dropped, it gives up what it is at.
pub(super) struct TopicCreator {
    helpers: HelperThreads,
    probe: Arc<Probe>,
    request_timeout: Duration,
    abandoned: Arc<AtomicBool>,
}

impl TopicCreator {
    pub(super) fn new(parts: ProbeParts, request_timeout: u64) -> Self {
        TopicCreator {
            helpers: HelperThreads::new("tidegate-topics", THREADS_MAX),
            probe: Arc::new(Probe::from_parts(parts)),
            request_timeout: Duration::from_nanos(request_timeout),
            abandoned: Arc::default(),
        }
    }

    /// Begins to create topics. `told` gets each one's outcome, on a helper thread; if there is no
    /// thread to be had, at once.
    pub(super) fn begin(
        &self,
        topics: Wishes,
        whom: Whom,
        told: impl Fn(&Arc<str>, Outcome) + Send + Sync + 'static,
    ) {
        let timeout = topics.values().map(|topic| topic.timeout).max().unwrap_or_default();
        let told = Arc::new(told);
        let mut job = Creation {
            probe: self.probe.clone(),
            whom,
            timeout,
            request_timeout: self.request_timeout,
            limit: Limit::after(timeout, self.abandoned.clone()),
            abandoned: self.abandoned.clone(),
            open: topics,
            unanswered: false,
            last: None,
        };
        let (names, tell) = (job.open.keys().cloned().collect::<Vec<_>>(), told.clone());
        let started = self.helpers.run(move || job.run(&*tell));
        if let Err(error) = started {
            let text = format!("no thread to create topics on: {error}");
            let last = Some(Problem::told_by(ProblemKind::System, text, error));
            let outcome = CreateTopicErrorKind::TimedOut { after: Duration::ZERO, last };
            names.iter().for_each(|name| told(name, Err(outcome.clone())));
        }
    }
}

impl Drop for TopicCreator {
    fn drop(&mut self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }
}

/// Topics that are created together.
struct Creation {
    probe: Arc<Probe>,
    whom: Whom,
    timeout: Duration,
    request_timeout: Duration,
    limit: Limit,
    abandoned: Arc<AtomicBool>,
    /// Those whose outcome is open.
    open: Wishes,
    /// A controller was asked, and did not say in time what became of them: they may have been
    /// created.
    unanswered: bool,
    last: Option<Problem>,
}

impl Creation {
    /// Asks brokers in turn, again and again, until each topic's outcome is known.
    fn run(&mut self, told: &dyn Fn(&Arc<str>, Outcome)) {
        let mut wait = WAIT_FIRST;
        loop {
            self.ask_in_turn(told);
            let left = self.limit.left();
            if self.open.is_empty() || left.is_zero() {
                break;
            }
            std::thread::sleep(wait.min(left));
            wait = (2 * wait).min(WAIT_MAX);
        }
        let last = self.last.take();
        let kind = match self.abandoned.load(Ordering::Relaxed) {
            true => CreateTopicErrorKind::Closed,
            false => CreateTopicErrorKind::TimedOut { after: self.timeout, last },
        };
        self.fail_open(&kind, told);
    }

    /// Asks one broker after the other until one answers.
    fn ask_in_turn(&mut self, told: &dyn Fn(&Arc<str>, Outcome)) {
        for server in self.whom.servers.clone() {
            match self.ask(&server) {
                Ok(response) => return self.settle(&response, told),
                Err(ProbeFailure { server, problem, .. }) => {
                    let is_final = matches!(
                        problem.kind(),
                        ProblemKind::BrokerTooOld
                            | ProblemKind::Authentication
                            | ProblemKind::OtherCluster
                    );
                    let problem = problem.at(&server);
                    if is_final {
                        return self.fail_open(&CreateTopicErrorKind::Failed(problem), told);
                    }
                    self.last = Some(problem);
                }
            }
            if self.limit.left().is_zero() {
                return;
            }
        }
    }

    fn fail_open(&mut self, kind: &CreateTopicErrorKind, told: &dyn Fn(&Arc<str>, Outcome)) {
        std::mem::take(&mut self.open).keys().for_each(|name| told(name, Err(kind.clone())));
    }

    /// Asks this server who the controller is, and that one for the topics.
    fn ask(&mut self, server: &BrokerAddress) -> Result<CreateTopicsResponse, ProbeFailure> {
        let mut tell = |_| ();
        let mut link = self.probe.open(None, server, &mut tell)?.within(self.limit.clone());
        link.make_ready(self.whom.cluster_id.clone())?;
        let described = link.ask_brokers()?;
        let controller = described.controller.and_then(|id| {
            let broker = described.brokers.iter().find(|broker| broker.id == id)?;
            let address = BrokerAddress { host: broker.host.as_str().into(), port: broker.port };
            Some((id.0, address))
        });
        // Brokers of a cluster with ZooKeeper that are not the controller refuse the request; with
        // KRaft each of them names one that passes it on.
        if let Some((id, address)) = controller.filter(|(_, address)| address != server) {
            link.close();
            let mut tell = |_| ();
            let link = self.probe.open(Some(id), &address, &mut tell)?;
            let mut link = link.within(self.limit.clone());
            link.make_ready(described.cluster_id.as_deref().map(Arc::from))?;
            return self.ask_controller(&mut link);
        }
        self.ask_controller(&mut link)
    }

    fn ask_controller(
        &mut self,
        link: &mut ProbeLink<'_>,
    ) -> Result<CreateTopicsResponse, ProbeFailure> {
        let topics: Vec<_> = self
            .open
            .iter()
            .map(|(name, topic)| TopicToCreate {
                name,
                partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                settings: &topic.settings,
            })
            .collect();
        let timeout = self.limit.left().min(self.request_timeout).as_millis();
        let response = link.create_topics(&topics, timeout.try_into().unwrap_or(i32::MAX));
        link.close();
        self.unanswered |= response.is_err();
        response
    }

    /// Tells the outcomes that an answer holds. What is worth another attempt stays open.
    fn settle(&mut self, response: &CreateTopicsResponse, told: &dyn Fn(&Arc<str>, Outcome)) {
        for topic in &response.topics {
            let Some((name, wish)) = self.open.remove_entry(&*topic.name) else { continue };
            let message = topic.message.as_deref().filter(|words| !words.is_empty());
            match topic.error {
                ErrorCode::NONE => told(&name, Ok(())),
                // By an attempt that nobody answered.
                ErrorCode::TOPIC_ALREADY_EXISTS if self.unanswered => told(&name, Ok(())),
                ErrorCode::TOPIC_ALREADY_EXISTS => {
                    told(&name, Err(CreateTopicErrorKind::AlreadyExists));
                }
                code if code.is_retriable() => {
                    self.unanswered |= code == ErrorCode::REQUEST_TIMED_OUT;
                    self.last = Some(Problem::from(code).at("CreateTopics"));
                    self.open.insert(name, wish);
                }
                code => {
                    let message = message.map(Arc::from);
                    told(&name, Err(CreateTopicErrorKind::Refused { code, message }));
                }
            }
        }
    }
}
