//! Records that are given up: handed back at a close, or thrown away.

use std::sync::Arc;
use std::time::Duration;

use super::close::Close;
use super::producer::{Producer, Shared};
use super::record::Record;
use super::topic::Topic;
use crate::engine::batch::{Destination, FailedRuns, LaneTail, TopicLanes, Unsent};
use crate::engine::policy::UndeliveredRecord;
use crate::engine::shard::{Control, PurgeOrder};
use crate::engine::sync::WakeList;
use crate::error::DeliveryErrorCause;
use crate::{logging as log, user_code};

/// What an application does with records that were never sent.
pub(super) type HandBack = Box<dyn FnMut(&UndeliveredRecord<'_>) + Send>;

/// What a close left.
#[derive(Default)]
pub(super) struct Left {
    /// Of topics that were not known, or whose partitions were not.
    pub in_stashes: Vec<FailedRuns>,
    /// Of all others.
    pub in_lanes: Arc<Unsent>,
}

impl Left {
    /// Hands all of it back, and releases its memory. A panic of the application's ends that.
    pub(super) fn hand_back(self, mut hand_back: HandBack) {
        let (in_stashes, in_lanes) = (self.in_stashes, self.in_lanes.take());
        let all = user_code::call(|| {
            // What is in lanes was sent before what waits for a partition of the same topic.
            in_lanes.iter().for_each(|batch| batch.for_each(&mut *hand_back));
            in_stashes.iter().for_each(|runs| runs.for_each(&mut *hand_back));
        });
        if all.is_err() {
            log::error!(
                "what takes records back at a close panicked: the rest was not handed back"
            );
        }
    }
}

/// Which records [`Producer::purge`] throws away.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("prices", 1).start()?;
/// # cluster.pause_broker(1);
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::{DeliveryErrorCause, Purge};
///
/// let old_price = producer.topic("prices")?.send("XAU", "2384.10")?;
/// producer.purge(Purge::Queued); // No broker has it yet.
/// assert_eq!(*old_price.wait().unwrap_err().cause(), DeliveryErrorCause::Purged);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purge {
    /// Those that wait: in open and full batches, for a retry, or for their topic to be known. They
    /// fail as [`Certainty::NotWritten`](crate::Certainty::NotWritten), unless an attempt to write
    /// them went unanswered before.
    Queued,
    /// Those too that are in flight. They fail as
    /// [`Certainty::Unknown`](crate::Certainty::Unknown): nothing can be taken back from a broker.
    QueuedAndInFlight,
}

impl Producer {
    /// Throws records away: all that were sent before this call and have not resolved fail at once,
    /// with [`DeliveryErrorCause::Purged`]. What is sent afterwards is sent. The producer's event
    /// loops do it, so deliveries resolve a moment after this returns. A record whose partition
    /// moves to another event loop at this moment may be passed over.
    ///
    /// ```no_run
    /// use tidegate::{Producer, Purge};
    ///
    /// # fn example(producer: &Producer) {
    /// // These prices are old by now: better none than those.
    /// producer.purge(Purge::Queued);
    /// # }
    /// ```
    pub fn purge(&self, what: Purge) {
        purge(self.shared(), None, what);
    }

    /// As [`Producer::close`], and hands back what was never sent: `each` is called with every
    /// record that is still there once `timeout` has passed and that is certainly in no log. It
    /// borrows key, value and headers. The records stay in buffer memory until then; one batch at a
    /// time is copied to the heap, and with compression unpacked there. Records come in the order
    /// in which they were sent to their partition. Their deliveries fail as at any close. Records
    /// that may have been written are not among them
    /// ([`Certainty::Unknown`](crate::Certainty::Unknown)): sending those again could double them.
    ///
    /// `each` runs on the closing thread, before the close is over, for as long as it takes: no
    /// time limit applies to it. It may send to another producer; it must not wait for this one. If
    /// the producer was closed before, it is never called. What an event loop has that is stuck in
    /// code of the application's does not come back: the close then ends with
    /// [`CloseError::Stuck`](crate::CloseError::Stuck).
    ///
    /// ```
    /// # #[cfg(feature = "embedded")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// use tidegate::Producer;
    /// use tidegate::embedded::EmbeddedCluster;
    ///
    /// let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
    /// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    /// let orders = producer.topic("orders")?;
    /// orders.send("customer-42", "first")?.wait()?;
    ///
    /// cluster.stop_broker(1);
    /// // What is written to a connection that has just ended may be in the log.
    /// while producer.metrics().brokers.iter().any(|broker| broker.is_connected) {
    ///     std::thread::sleep(Duration::from_millis(1));
    /// }
    /// orders.send("customer-42", "second")?;
    /// let (sender, unsent) = mpsc::channel();
    /// let close = producer.close_handing_back(Duration::from_millis(100), move |record| {
    ///     let value = record.value().unwrap_or_default();
    ///     let _ = sender.send(String::from_utf8_lossy(value).into_owned());
    /// });
    /// assert!(close.wait().is_err());
    /// assert_eq!(unsent.iter().collect::<Vec<_>>(), ["second"]);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "embedded"))]
    /// # fn main() {}
    /// ```
    pub fn close_handing_back(
        &self,
        timeout: Duration,
        each: impl FnMut(&UndeliveredRecord<'_>) + Send + 'static,
    ) -> Close {
        self.close_with(|running| Close::begin_handing_back(running, timeout, Box::new(each)))
    }
}

impl Topic {
    /// [`Producer::purge`] of one topic.
    pub fn purge(&self, what: Purge) {
        purge(&self.shared, Some(&self.lanes), what);
    }
}

impl UndeliveredRecord<'_> {
    /// The record, to be sent to another topic or by another producer: with its key, value, headers
    /// and timestamp, and without its partition, which may be another one there.
    pub fn to_record(&self) -> Record<'_> {
        let record = Record::new().key(self.key()).value(self.value());
        let record = record.timestamp(self.timestamp_ms());
        self.headers().iter().fold(record, |record, header| record.header(header.key, header.value))
    }
}

fn purge(shared: &Shared, only: Option<&Arc<TopicLanes>>, what: Purge) {
    if !shared.born.is_current() {
        return;
    }
    let topics = match only {
        Some(topic) => vec![topic.clone()],
        None => shared.accumulator.topics(),
    };
    let mut wakes = WakeList::new();
    for topic in topics {
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let cause = DeliveryErrorCause::Purged;
        let failed = topic.lock_stash().fail(u64::MAX, &destination, &cause, &mut wakes);
        topic.failed_in_stash.add_shared(failed.records as u64);
        drop(failed);
    }
    wakes.wake_all();
    if wakes.take_flushers() {
        shared.accumulator.flush.notify();
    }
    // Behind the stashes: what a stash's thread has moved meanwhile is in its lane by now.
    let lanes: Vec<_> = match only {
        Some(topic) => topic.lanes().cloned().collect(),
        None => shared.accumulator.lanes(),
    };
    let seal = |lane: Arc<LaneTail>| {
        let (number, post) = lane.seal(false);
        if post {
            shared.ports.post(&lane);
        }
        (lane, number)
    };
    let below = lanes.into_iter().map(seal).collect();
    let order = PurgeOrder { below, in_flight: what == Purge::QueuedAndInFlight };
    for port in shared.ports.iter() {
        port.send(Control::Purge(order.clone()));
    }
}
