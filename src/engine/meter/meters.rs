//! All that is counted for one producer.

use std::sync::{Arc, Mutex, OnceLock};

use super::{BrokerMeter, LaneMeter};
use crate::locking::lock;
use crate::problem::Problem;

/// Unknown topics that are named, 32 bytes each; there may be more.
const UNKNOWN_NAMED_MAX: usize = 10_000;

/// The meters of one producer's brokers and of its metadata channel, and what those have counted
/// that are gone. The lanes have theirs themselves.
#[derive(Default)]
pub struct Meters {
    producer: OnceLock<MeteredProducer>,
    brokers: Mutex<Brokers>,
    gone_topics: Mutex<RecordCounts>,
    metadata: Mutex<MetadataStanding>,
}

/// Whose meters they are.
#[derive(Clone, Debug, Default)]
pub struct MeteredProducer {
    /// By what name brokers know it.
    pub client_id: Arc<str>,
    /// When it was built, in nanoseconds of the monotonic clock.
    pub built_at: u64,
}

#[derive(Default)]
struct Brokers {
    live: Vec<Arc<BrokerMeter>>,
    gone: BrokerTotals,
}

/// What all brokers together have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerTotals {
    /// See [`BrokerMeter::requests`].
    pub requests: u64,
    /// See [`BrokerMeter::request_bytes`].
    pub request_bytes: u64,
    /// See [`BrokerMeter::connects`].
    pub connects: u64,
    /// See [`BrokerMeter::failures`].
    pub failures: u64,
}

/// Records and batches of one partition, one topic, or a whole producer, since the producer was
/// built. Bytes are those of record batches, their headers of 61 bytes included.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let orders = producer.topic("orders")?;
/// let before = producer.metrics().records;
/// for item in ["2 pairs of shoes", "1 hat", "a discount"] {
///     orders.send("customer-42", item)?.wait()?;
/// }
/// let now = producer.metrics().records;
/// assert_eq!(now.acked_records - before.acked_records, 3);
/// assert_eq!((now.failed_records, now.dropped_records, now.retries), (0, 0, 0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordCounts {
    /// Records in batches that were closed to further records. Those of the open batch, and those
    /// that wait for their topic to become known, are not counted yet.
    pub records: u64,
    /// Bytes of those batches, before compression.
    pub bytes: u64,
    /// Those batches.
    pub batches: u64,
    /// Records that are in the log; with `acks=0`, that were written to the socket.
    pub acked_records: u64,
    /// Bytes of their batches as they were sent, compressed where they were.
    pub acked_bytes: u64,
    /// Their batches.
    pub acked_batches: u64,
    /// Records that failed. Of a topic and a producer, also those that failed before they had a
    /// partition, which are not among `records`.
    pub failed_records: u64,
    /// Attempts to send a batch beyond its first.
    pub retries: u64,
    /// Records that the backoff strategy dropped. They are not among `records`.
    pub dropped_records: u64,
}

/// What the metadata channel says of itself. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct MetadataStanding {
    /// The broker that is asked, or that a connection is being made to.
    pub asks: Option<String>,
    /// Whether that connection is ready.
    pub is_connected: bool,
    /// When the last answer about all topics came.
    pub answered_at: Option<u64>,
    /// What is wrong, while something is to be asked.
    pub problem: Option<Problem>,
    /// Since when something is.
    pub problem_since: Option<u64>,
    /// The cluster's id, where brokers tell it.
    pub cluster_id: Option<Arc<str>>,
    /// Whether the producer has an id, does without one, or needs none.
    pub has_identity: bool,
    /// Topics that records wait for and that are not known, by name: 10,000 at the most.
    pub unknown_topics: Vec<UnknownTopicStanding>,
    /// Partitions of topics in use that have no leader.
    pub leaderless: usize,
}

/// A topic that is asked for, and not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTopicStanding {
    /// Its name.
    pub topic: Arc<str>,
    /// Since when brokers say that it does not exist; `None` while none has answered.
    pub unknown_since: Option<u64>,
}

impl Meters {
    /// The producer of this `client_id` starts now, in nanoseconds of the monotonic clock.
    pub fn set_producer(&self, client_id: Arc<str>, now: u64) {
        let producer = MeteredProducer { client_id, built_at: now };
        let is_first = self.producer.set(producer).is_ok();
        debug_assert!(is_first, "meters are of one producer");
    }

    /// Whose they are.
    pub fn producer(&self) -> MeteredProducer {
        self.producer.get().cloned().unwrap_or_default()
    }

    /// A meter for a broker that a shard begins to look after.
    pub fn add_broker(&self, broker: i32) -> Arc<BrokerMeter> {
        let meter = Arc::new(BrokerMeter::new(broker));
        lock(&self.brokers).live.push(meter.clone());
        meter
    }

    /// The shard has forgotten the broker: its totals stay.
    pub fn remove_broker(&self, meter: &Arc<BrokerMeter>) {
        let mut brokers = lock(&self.brokers);
        brokers.live.retain(|live| !Arc::ptr_eq(live, meter));
        brokers.gone.add(meter);
    }

    /// Every broker that some shard looks after, once, and what all have counted, those included
    /// that are gone.
    pub fn brokers(&self) -> (Vec<Arc<BrokerMeter>>, BrokerTotals) {
        let brokers = lock(&self.brokers);
        let mut totals = brokers.gone;
        let mut latest: Vec<Arc<BrokerMeter>> = Vec::with_capacity(brokers.live.len());
        for meter in &brokers.live {
            totals.add(meter);
            // A shard may still have a broker in flight that another has got meanwhile.
            match latest.iter_mut().find(|known| known.broker == meter.broker) {
                Some(known) => *known = meter.clone(),
                None => latest.push(meter.clone()),
            }
        }
        (latest, totals)
    }

    /// The topic is forgotten: what it has counted stays in the producer's sums.
    pub fn remove_topic(&self, counts: RecordCounts) {
        *lock(&self.gone_topics) += counts;
    }

    /// What topics have counted that are forgotten.
    pub fn gone_topics(&self) -> RecordCounts {
        *lock(&self.gone_topics)
    }

    /// What the metadata channel said last.
    pub fn metadata(&self) -> MetadataStanding {
        lock(&self.metadata).clone()
    }

    /// By the metadata channel.
    pub fn set_metadata(&self, standing: MetadataStanding) {
        *lock(&self.metadata) = standing;
    }
}

impl BrokerTotals {
    fn add(&mut self, meter: &BrokerMeter) {
        self.requests += meter.requests.get();
        self.request_bytes += meter.request_bytes.get();
        self.connects += meter.connects.get();
        self.failures += meter.failures.get();
    }
}

impl RecordCounts {
    /// What a lane has counted.
    pub(crate) fn of(meter: &LaneMeter) -> Self {
        RecordCounts {
            records: meter.records.get(),
            bytes: meter.bytes.get(),
            batches: meter.batches.get(),
            acked_records: meter.acked_records.get(),
            acked_bytes: meter.acked_bytes.get(),
            acked_batches: meter.acked_batches.get(),
            failed_records: meter.failed_records.get(),
            retries: meter.retries.get(),
            dropped_records: meter.dropped_records.get(),
        }
    }
}

impl std::ops::AddAssign for RecordCounts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.acked_records += other.acked_records;
        self.acked_bytes += other.acked_bytes;
        self.acked_batches += other.acked_batches;
        self.failed_records += other.failed_records;
        self.retries += other.retries;
        self.dropped_records += other.dropped_records;
    }
}

impl MetadataStanding {
    /// Names a topic that is not known, as long as there is room.
    pub fn add_unknown(&mut self, topic: &Arc<str>, unknown_since: Option<u64>) {
        if self.unknown_topics.len() < UNKNOWN_NAMED_MAX {
            let topic = topic.clone();
            self.unknown_topics.push(UnknownTopicStanding { topic, unknown_since });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_or_a_topic_counted_stays_when_it_is_gone() {
        let meters = Meters::default();
        let (one, two) = (meters.add_broker(1), meters.add_broker(2));
        one.requests.add(3);
        two.requests.add(4);
        meters.remove_broker(&one);
        let (live, totals) = meters.brokers();
        assert_eq!((live.len(), live[0].broker, totals.requests), (1, 2, 7));

        let lane = LaneMeter::default();
        lane.acked_records.add(5);
        meters.remove_topic(RecordCounts::of(&lane));
        assert_eq!(meters.gone_topics().acked_records, 5);
    }

    #[test]
    fn a_bounded_number_of_unknown_topics_is_named() {
        let mut standing = MetadataStanding::default();
        for number in 0..11_000 {
            standing.add_unknown(&format!("t{number}").into(), None);
        }
        assert_eq!(standing.unknown_topics.len(), 10_000);
    }
}
