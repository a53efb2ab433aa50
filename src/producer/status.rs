//! Why one record waits.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::delivery::Delivery;
use super::producer::Shared;
use crate::engine::batch::{CellHandle, TopicState};
use crate::engine::meter::{MetadataStanding, Short, WaitsFor};
use crate::engine::shard::{About, Answer, Control, LaneStanding, Question};
use crate::io::is_own_thread;
use crate::problem::Problem;

/// An event loop has this long to answer. It takes some microseconds, unless it is held up in code
/// of the application's.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(100);

/// How one record stands: [`Delivery::status`]. Its `Display` is a sentence for a person.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # cluster.pause_broker(1);
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let delivery = producer.topic("orders")?.send("customer-42", "paid")?;
/// // No broker answers.
/// let status = delivery.status();
/// println!("{status}");
/// assert!(status.waits_for.is_some());
/// assert!(!status.maybe_written); // Were it to fail now, it could be sent again.
/// # cluster.resume_broker(1);
/// # delivery.wait()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryStatus {
    /// The record's topic.
    pub topic: Arc<str>,
    /// Its partition; `None` while that is not known.
    pub partition: Option<i32>,
    /// What it waits for; `None` once its outcome is known.
    pub waits_for: Option<WaitsFor>,
    /// Attempts to send its batch so far, one in flight included.
    pub attempts: u32,
    /// Batches of its partition that wait before it; those in flight are not counted.
    pub batches_ahead: usize,
    /// What went wrong with its batch last.
    pub last_problem: Option<Problem>,
    /// Whether its batch may be in the log by now: an attempt was written, and never answered.
    pub maybe_written: bool,
    /// When it fails unless it is acknowledged: what is left of `delivery_timeout`. `None` where
    /// that is not known.
    pub fails_in: Option<Duration>,
}

impl DeliveryStatus {
    fn new(topic: Arc<str>, partition: Option<i32>, waits_for: Option<WaitsFor>) -> Self {
        DeliveryStatus {
            topic,
            partition,
            waits_for,
            attempts: 0,
            batches_ahead: 0,
            last_problem: None,
            maybe_written: false,
            fails_in: None,
        }
    }
}

impl Delivery {
    /// Why the record is not acknowledged yet: what it waits for, what went wrong last, and when it
    /// fails.
    ///
    /// Computed on demand, by asking the event loop that has the partition. That takes some
    /// microseconds, and at most 100 ms where the loop is held up; a task that must not wait so
    /// long asks from a thread of its own. The answer is as of that moment.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn example(mut delivery: tidegate::Delivery) {
    /// if delivery.wait_timeout(Duration::from_secs(1)).is_none() {
    ///     // orders-3: broker 2 at kafka-2:9092: not connected (4 attempts failed), next attempt
    ///     // in 180 ms: connection refused; it fails in 118 s
    ///     eprintln!("{}", delivery.status());
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> DeliveryStatus {
        let handle = self.handle();
        let context = handle.context();
        let (topic, partition) = (context.topic.clone(), context.partition.map(|it| it.0));
        if handle.try_outcome().is_some() || handle.is_inherited() {
            return DeliveryStatus::new(topic, partition, None);
        }
        let Some(shared) = self.producer() else {
            // The producer is gone, and its loops are about to fail what is left.
            return DeliveryStatus::new(topic, partition, Some(WaitsFor::EventLoop));
        };
        match partition {
            None => DeliveryStatus::new(topic.clone(), None, Some(shared.holds_back_stash(&topic))),
            Some(_) => shared.status_of(handle, topic, partition),
        }
    }
}

/// A year, in nanoseconds: no deadline that an application has set is so far.
const FAR: u64 = 366 * 24 * 3_600 * 1_000_000_000;

impl Shared {
    /// A record in a lane: asks the shard that has it.
    fn status_of(
        &self,
        handle: &CellHandle,
        topic: Arc<str>,
        partition: Option<i32>,
    ) -> DeliveryStatus {
        let lanes = self.accumulator.known_topic(&topic);
        let lane = lanes.and_then(|lanes| lanes.lane(handle.context().partition?).cloned());
        let answer = lane.and_then(|lane| {
            let about = About::Record(lane.id, handle.cell_id());
            let port = self.ports.port(lane.owner())?;
            let (sender, answers) = mpsc::channel();
            port.send(Control::Explain(Question { about, answer: sender }));
            if is_own_thread() { None } else { answers.recv_timeout(ANSWER_MAX).ok() }
        });
        if handle.try_outcome().is_some() {
            // Meanwhile.
            return DeliveryStatus::new(topic, partition, None);
        }
        let Some(LaneStanding { batch, waits_for, waiting: _, .. }) =
            answer.and_then(|Answer { mut lanes, .. }| lanes.pop())
        else {
            // Held up, or the lane is on its way from one loop to another.
            return DeliveryStatus::new(topic, partition, Some(WaitsFor::EventLoop));
        };
        let mut status = DeliveryStatus::new(topic, partition, Some(waits_for));
        if let Some(batch) = batch {
            let left = batch.deadline.saturating_sub(self.clock.now());
            status.attempts = batch.attempts;
            status.batches_ahead = batch.ahead;
            status.last_problem = batch.last_problem;
            status.maybe_written = batch.in_doubt;
            // Where records go to disk none fails by its age.
            status.fails_in = Some(Duration::from_nanos(left)).filter(|_| left < FAR);
        }
        status
    }

    /// What a topic's stashed records wait for.
    pub(super) fn holds_back_stash(&self, topic: &str) -> WaitsFor {
        let lanes = self.accumulator.known_topic(topic);
        let state = lanes.as_ref().map(|lanes| lanes.state());
        let is_known = matches!(state, Some(TopicState::Draining | TopicState::Ready));
        if is_known && lanes.is_some_and(|lanes| lanes.lock_stash().is_spilled()) {
            return WaitsFor::Disk;
        }
        if matches!(state, Some(TopicState::Draining | TopicState::Ready)) {
            return WaitsFor::Partition;
        }
        let MetadataStanding { asks, problem, unknown_topics, .. } =
            self.accumulator.meters.metadata();
        let entry = unknown_topics.iter().find(|entry| &*entry.topic == topic);
        match entry.and_then(|entry| entry.unknown_since) {
            Some(since) => {
                let unknown_for = Duration::from_nanos(self.clock.now().saturating_sub(since));
                WaitsFor::Topic { unknown_for }
            }
            None => WaitsFor::Metadata { asks, problem },
        }
    }
}

impl fmt::Display for DeliveryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)?;
        if let Some(partition) = self.partition {
            write!(f, "-{partition}")?;
        }
        let Some(waits_for) = &self.waits_for else {
            return f.write_str(": the outcome is known");
        };
        write!(f, ": {waits_for}")?;
        // Before the first retry there is nothing to tell of attempts.
        if self.attempts > 1 {
            write!(f, "; attempt {}", self.attempts)?;
        }
        if let Some(problem) = &self.last_problem
            && !names_problem(waits_for)
        {
            write!(f, "; before: {problem}")?;
        }
        match self.batches_ahead {
            0 => {}
            1 => f.write_str("; 1 batch of the partition goes before it")?,
            more => write!(f, "; {more} batches of the partition go before it")?,
        }
        if self.maybe_written {
            f.write_str("; it may be in the log already")?;
        }
        match self.fails_in {
            Some(left) => write!(f, "; it fails in {}", Short(left)),
            None => Ok(()),
        }
    }
}

/// Whether the sentence tells of a problem already.
fn names_problem(waits_for: &WaitsFor) -> bool {
    matches!(
        waits_for,
        WaitsFor::Connection { problem: Some(_), .. } | WaitsFor::Backoff { problem: Some(_), .. }
    )
}
