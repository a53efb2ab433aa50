//! All that a producer knows of why records wait.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::health::Health;
use super::producer::{Memory, Producer};
use super::status::ANSWER_MAX;
use crate::engine::meter::{ConnectionState, Short, WaitsFor, counted};
use crate::engine::shard::{About, Control, LaneStanding, Question};
use crate::io::is_own_thread;
use crate::problem::Problem;

/// Partitions that a report names; it counts the others.
const PARTITIONS_MAX: usize = 256;

/// Topics with stashed records that a report names.
const TOPICS_MAX: usize = 256;

/// How a producer stands, as of one moment: [`Producer::report`]. Its `Display` is a page for a
/// person.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # cluster.pause_broker(1);
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let delivery = producer.topic("orders")?.send("customer-42", "paid")?;
/// // No broker answers.
/// let report = producer.report();
/// println!("{report}");
/// assert_eq!(report.topics.len(), 1);
/// # cluster.resume_broker(1);
/// # delivery.wait()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Whether it can do its work, and what stands in the way.
    pub health: Health,
    /// Buffer memory.
    pub memory: Memory,
    /// The metadata channel.
    pub metadata: MetadataReport,
    /// Every broker.
    pub brokers: Vec<BrokerReport>,
    /// Topics whose records wait for their partitions to be known: 256 at the most.
    pub topics: Vec<TopicReport>,
    /// Partitions with records that are not resolved: 256 of each event loop at the most.
    pub partitions: Vec<PartitionReport>,
    /// Such partitions that are not listed.
    pub more_partitions: usize,
    /// Event loops that did not answer within 100 ms, so that their partitions are missing: held up
    /// in code of the application's.
    pub silent_loops: usize,
}

/// The metadata channel.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let metadata = producer.report().metadata;
/// assert_eq!(metadata.cluster_id.as_deref(), Some("tidegate-embedded"));
/// assert!(metadata.answered.is_some() && metadata.problem.is_none());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MetadataReport {
    /// The cluster's id, where brokers tell it.
    pub cluster_id: Option<Arc<str>>,
    /// The broker that is asked, or connected to.
    pub asks: Option<String>,
    /// Whether that connection is ready.
    pub is_connected: bool,
    /// How old the last answer about all topics is; `None` if there was none.
    pub answered: Option<Duration>,
    /// What is wrong.
    pub problem: Option<Problem>,
}

/// One broker.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::ConnectionState;
///
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let broker = &producer.report().brokers[0];
/// println!("{broker}"); // broker 1 at 127.0.0.1:36251: connected for 2 ms, 0 requests in ...
/// assert_eq!((broker.state, broker.failures), (ConnectionState::Ready, 0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerReport {
    /// Its node id.
    pub broker: i32,
    /// Where it listens.
    pub address: String,
    /// How far the connection is.
    pub state: ConnectionState,
    /// For how long it has been so.
    pub state_for: Duration,
    /// Attempts that failed since the last connection that was of use.
    pub failures: u32,
    /// Why the last connection failed, until there is one again.
    pub problem: Option<Problem>,
    /// What is left of a pause that it asked for (a quota).
    pub throttled_for: Option<Duration>,
    /// Produce requests in flight.
    pub requests_in_flight: u64,
    /// Bytes that wait or are in flight for it.
    pub charged: usize,
    /// Whether records for it are taken without asking the backoff strategy.
    pub writable: bool,
}

/// A topic whose records wait for its partitions to be known.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use tidegate::WaitsFor;
/// # cluster.pause_broker(1);
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let delivery = producer.topic("orders")?.send("customer-42", "paid")?;
/// // No broker has said yet which partitions the topic has.
/// let topic = &producer.report().topics[0];
/// assert_eq!(&*topic.topic, "orders");
/// assert!(matches!(topic.waits_for, WaitsFor::Metadata { .. }));
/// # cluster.resume_broker(1);
/// # delivery.wait()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicReport {
    /// Its name.
    pub topic: Arc<str>,
    /// How long the oldest of them have waited.
    pub oldest: Duration,
    /// What they wait for.
    pub waits_for: WaitsFor,
}

/// A partition with records that are not resolved.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 2).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use tidegate::{Record, WaitsFor};
/// cluster.set_leaderless("orders", 1);
/// let orders = producer.topic("orders")?;
/// orders.send_record(Record::new().value("paid").partition(0))?.wait()?;
/// let delivery = orders.send_record(Record::new().value("paid").partition(1))?;
/// let partition = &producer.report().partitions[0];
/// assert_eq!((&*partition.topic, partition.partition), ("orders", 1));
/// assert!(matches!(partition.waits_for, WaitsFor::Leader));
/// # producer.close(std::time::Duration::ZERO).wait().ok();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartitionReport {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number.
    pub partition: i32,
    /// Who leads it.
    pub leader: Option<i32>,
    /// Batches that wait, the open one included.
    pub batches_waiting: usize,
    /// Batches in flight.
    pub batches_in_flight: u32,
    /// Attempts to send the oldest batch.
    pub attempts: u32,
    /// What went wrong with the oldest batch last.
    pub last_problem: Option<Problem>,
    /// When the oldest batch fails unless it is acknowledged.
    pub fails_in: Option<Duration>,
    /// What the oldest batch waits for.
    pub waits_for: WaitsFor,
}

impl Producer {
    /// Why records wait: for every broker, topic and partition with something unresolved. It asks
    /// the event loops, which takes some microseconds for each, and at most 100 ms where one is
    /// held up; a call on a thread of the producer itself (in a waker) has no partitions.
    ///
    /// ```no_run
    /// # fn example(producer: &tidegate::Producer) {
    /// eprintln!("{}", producer.report());
    /// # }
    /// ```
    pub fn report(&self) -> Report {
        let shared = self.shared();
        let health = self.health();
        let (lanes, more_partitions, silent_loops) = self.ask_loops();
        let now = shared.clock.now();
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(now));
        let ago = |at: u64| Duration::from_nanos(now.saturating_sub(at));
        let metadata = shared.accumulator.meters.metadata();
        let levels = self.broker_levels();
        let (meters, _) = shared.accumulator.meters.brokers();
        let brokers = meters.iter().map(|meter| {
            let standing = meter.standing();
            let level = levels.iter().find(|level| level.broker == meter.broker);
            BrokerReport {
                broker: meter.broker,
                address: standing.address,
                state: standing.state,
                state_for: ago(standing.since),
                failures: standing.failures,
                problem: standing.problem,
                throttled_for: (standing.throttled_until > now)
                    .then(|| left(standing.throttled_until)),
                requests_in_flight: meter.in_flight.get(),
                charged: level.map_or(0, |level| level.charged),
                writable: level.is_none_or(|level| level.writable),
            }
        });
        let stashed = shared.accumulator.topics().into_iter().filter_map(|topic| {
            let oldest = topic.lock_stash().oldest_at()?;
            let waits_for = shared.holds_back_stash(&topic.name);
            Some(TopicReport { topic: topic.name.clone(), oldest: ago(oldest), waits_for })
        });
        Report {
            health,
            memory: self.memory(),
            brokers: brokers.collect(),
            topics: stashed.take(TOPICS_MAX).collect(),
            partitions: lanes.into_iter().map(|lane| partition_report(now, lane)).collect(),
            more_partitions,
            silent_loops,
            metadata: MetadataReport {
                cluster_id: metadata.cluster_id,
                asks: metadata.asks,
                is_connected: metadata.is_connected,
                answered: metadata.answered_at.map(ago),
                problem: metadata.problem,
            },
        }
    }

    /// The lanes of every loop, how many more there are, and how many loops have not answered.
    fn ask_loops(&self) -> (Vec<LaneStanding>, usize, usize) {
        let shared = self.shared();
        if !shared.born.is_current() || is_own_thread() {
            return (Vec::new(), 0, 0);
        }
        let (answer, answers) = mpsc::channel();
        let mut asked = 0;
        for port in shared.ports.iter() {
            let about = About::Lanes(PARTITIONS_MAX);
            port.send(Control::Explain(Question { about, answer: answer.clone() }));
            asked += 1;
        }
        drop(answer);
        let (mut lanes, mut more) = (Vec::new(), 0);
        let until = shared.clock.now().saturating_add(ANSWER_MAX.as_nanos() as u64);
        for answered in 0..asked {
            let left = Duration::from_nanos(until.saturating_sub(shared.clock.now()));
            match answers.recv_timeout(left) {
                Ok(mut part) => {
                    lanes.append(&mut part.lanes);
                    more += part.more;
                }
                // The loops that are left have ended: what they had is resolved.
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => return (lanes, more, asked - answered),
            }
        }
        lanes.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        (lanes, more, 0)
    }
}

fn partition_report(now: u64, lane: LaneStanding) -> PartitionReport {
    let batch = lane.batch;
    let fails_in = |deadline: u64| Duration::from_nanos(deadline.saturating_sub(now));
    PartitionReport {
        topic: lane.topic,
        partition: lane.partition.0,
        leader: lane.leader.map(|leader| leader.0),
        batches_waiting: lane.waiting,
        batches_in_flight: lane.in_flight,
        attempts: batch.as_ref().map_or(0, |batch| batch.attempts),
        fails_in: batch.as_ref().map(|batch| fails_in(batch.deadline)),
        last_problem: batch.and_then(|batch| batch.last_problem),
        waits_for: lane.waits_for,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.health)?;
        let Memory { capacity, free } = self.memory;
        writeln!(f, "memory: {} of {capacity} bytes in use", capacity.saturating_sub(free))?;
        writeln!(f, "metadata: {}", self.metadata)?;
        for broker in &self.brokers {
            writeln!(f, "{broker}")?;
        }
        for topic in &self.topics {
            let (name, oldest) = (&topic.topic, Short(topic.oldest));
            writeln!(f, "{name}: records wait for {oldest}: {}", topic.waits_for)?;
        }
        for partition in &self.partitions {
            writeln!(f, "{partition}")?;
        }
        if self.more_partitions > 0 {
            writeln!(f, "and {} more partitions with records that wait", self.more_partitions)?;
        }
        if self.silent_loops > 0 {
            let loops = self.silent_loops;
            writeln!(
                f,
                "{loops} event loops did not answer in time: their partitions are missing"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for MetadataReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.answered {
            Some(age) => write!(f, "{} old", Short(age))?,
            None => f.write_str("none yet")?,
        }
        if let Some(id) = &self.cluster_id {
            write!(f, ", cluster {id}")?;
        }
        if let Some(asks) = &self.asks {
            let verb = if self.is_connected { "asks" } else { "connects to" };
            write!(f, ", {verb} {asks}")?;
        }
        match &self.problem {
            Some(problem) => write!(f, ": {problem}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for BrokerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, address, state) = (self.broker, &self.address, self.state);
        write!(f, "broker {id} at {address}: {state} for {}", Short(self.state_for))?;
        let requests = counted(self.requests_in_flight, "request");
        write!(f, ", {requests} in flight, {} bytes", self.charged)?;
        if !self.writable {
            f.write_str(" (over its high watermark)")?;
        }
        if let Some(left) = self.throttled_for {
            write!(f, ", pauses for {} (a quota)", Short(left))?;
        }
        if self.failures > 0 {
            write!(f, ", {} failed", counted(u64::from(self.failures), "attempt"))?;
        }
        match &self.problem {
            Some(problem) => write!(f, ": {}", problem.words_at(id, address)),
            None => Ok(()),
        }
    }
}

fn batches(number: u64) -> String {
    if number == 1 { "1 batch".to_owned() } else { format!("{number} batches") }
}

impl fmt::Display for PartitionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, in_flight) = (self.batches_waiting as u64, self.batches_in_flight);
        write!(f, "{}-{}: {} waiting", self.topic, self.partition, batches(waiting))?;
        write!(f, ", {in_flight} in flight: {}", self.waits_for)?;
        if self.attempts > 1 {
            write!(f, "; attempt {}", self.attempts)?;
        }
        match self.fails_in {
            Some(left) => write!(f, "; the oldest fails in {}", Short(left)),
            None => Ok(()),
        }
    }
}
