//! A snapshot of all that was counted.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{DroppedRecords, FailedRecords, RecordAccumulator};
use crate::engine::buffer::AccountId;
use crate::engine::meter::{
    BrokerMeter, ConnectionState, Counter, Histogram, RecordCounts, Short, counted,
};
use crate::engine::protocol::BrokerId;

/// What a producer has counted since it was built, and what it holds now:
/// [`Producer::metrics`](crate::Producer::metrics).
///
/// The counters are written as the producer works, mostly once for each batch; a snapshot asks
/// nobody and stops nobody. Numbers that belong together may have been read a moment apart. Its
/// `Display` is a few lines for a log; [`Metrics::prometheus`] is a page for Prometheus.
///
/// ```no_run
/// # fn example(producer: &tidegate::Producer) {
/// let before = producer.metrics();
/// // ... a minute later:
/// let now = producer.metrics();
/// println!("{} records acknowledged", now.records.acked_records - before.records.acked_records);
/// for broker in &now.brokers {
///     let p99 = broker.request_latency_us.quantile(0.99);
///     println!("broker {}: p99 of its answers is {p99} us", broker.broker);
/// }
/// # }
/// ```
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let metrics = producer.metrics();
/// println!("{metrics}");
/// assert_eq!((metrics.records.acked_records, metrics.failed.total), (1, 0));
/// assert_eq!((metrics.topics.len(), metrics.brokers.len()), (1, 1));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The producer's `client_id`.
    pub client_id: Arc<str>,
    /// When this was counted, in milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// How long ago the producer was built.
    pub age: Duration,
    /// All topics together, those included that are forgotten since.
    pub records: RecordCounts,
    /// Failed records by cause.
    pub failed: FailedRecords,
    /// Records that the backoff strategy dropped, by what was full.
    pub dropped: DroppedRecords,
    /// Records that the [`Fallback`](crate::Fallback) was called with: those that failed, and those
    /// without room that the backoff strategy gave it.
    pub fallback_records: u64,
    /// Every topic in use, by name.
    pub topics: Vec<TopicMetrics>,
    /// Every broker of the cluster that has been placed on an event loop, by node id.
    pub brokers: Vec<BrokerMetrics>,
    /// Produce requests to all brokers, those included that are gone.
    pub requests: u64,
    /// Bytes of those requests.
    pub request_bytes: u64,
    /// Connections that got ready, likewise.
    pub connects: u64,
    /// Connections that could not be made, or were lost while in use, likewise.
    pub connection_failures: u64,
    /// Bytes of buffer memory: `buffer_memory` in whole chunks.
    pub memory_capacity: usize,
    /// Bytes of it that are not taken.
    pub memory_free: usize,
    /// How old the last answer about all topics is; `None` before the first.
    pub metadata_age: Option<Duration>,
}

/// What was counted for one topic.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let topic = &producer.metrics().topics[0];
/// assert_eq!((&*topic.topic, topic.partitions.len()), ("orders", 3));
/// assert_eq!(topic.records.acked_records, 1);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopicMetrics {
    /// Its name.
    pub topic: Arc<str>,
    /// All partitions together, and what failed or was dropped before it had one.
    pub records: RecordCounts,
    /// Each partition, by its number.
    pub partitions: Vec<PartitionMetrics>,
}

/// What was counted for one partition.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let topic = &producer.metrics().topics[0];
/// for partition in &topic.partitions {
///     let expected = u64::from(partition.partition == at.partition());
///     assert_eq!(partition.records.acked_records, expected);
///     assert_eq!(partition.leader, Some(1));
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// Its number.
    pub partition: i32,
    /// Who leads it, as far as is known.
    pub leader: Option<i32>,
    /// Its records.
    pub records: RecordCounts,
    /// Batches that are not resolved, the open one included.
    pub unresolved_batches: u64,
    /// How long its open batch has been open; `None` while there is none.
    pub open_for: Option<Duration>,
}

/// What was counted for one broker. Times are in microseconds, sizes in bytes.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let broker = &producer.metrics().brokers[0];
/// assert!(broker.is_connected && broker.writable);
/// assert_eq!((broker.requests, broker.responses, broker.request_records), (1, 1, 1));
/// println!("it answers within {} us", broker.request_latency_us.max());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerMetrics {
    /// Its node id.
    pub broker: i32,
    /// Where it listens.
    pub address: String,
    /// Whether its connection is ready for requests.
    pub is_connected: bool,
    /// How far the connection is.
    pub state: ConnectionState,
    /// For how long it has been so.
    pub state_for: Duration,
    /// Bytes that wait or are in flight for it.
    pub charged: usize,
    /// The high watermark: above it the broker is not writable.
    pub high: usize,
    /// The low watermark: below it the broker is writable again.
    pub low: usize,
    /// Whether records for it are taken without asking the backoff strategy.
    pub writable: bool,
    /// Produce requests made.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// The records in them; a record counts anew with each attempt.
    pub request_records: u64,
    /// Produce requests that were answered.
    pub responses: u64,
    /// Produce requests in flight.
    pub in_flight: u64,
    /// Connections that got ready.
    pub connects: u64,
    /// Connections that could not be made, or were lost while in use.
    pub connection_failures: u64,
    /// Answers that asked for a pause (a quota).
    pub throttles: u64,
    /// The sum of those pauses.
    pub throttle_time: Duration,
    /// Records that the backoff strategy dropped while its level was over the high watermark.
    pub dropped_records: u64,
    /// Bytes of batches that were compressed, before.
    pub plain_bytes: u64,
    /// Bytes of the same batches, after.
    pub packed_bytes: u64,
    /// From a request's making until its answer.
    pub request_latency_us: Histogram,
    /// From a batch's first record until the batch is in a request for the first time.
    pub queue_time_us: Histogram,
    /// Bytes of a batch as it is sent.
    pub batch_bytes: Histogram,
    /// Records of a batch.
    pub batch_records: Histogram,
}

impl RecordAccumulator {
    /// Everything that was counted. `now` is in nanoseconds, monotonic; the wall clock is not known
    /// here.
    pub fn metrics(&self, now: u64) -> Metrics {
        let ago = |at: u64| Duration::from_nanos(now.saturating_sub(at));
        let producer = self.meters.producer();
        let (meters, totals) = self.meters.brokers();
        let accounts: HashMap<_, _> = self.brokers().into_iter().collect();
        let leaders: HashMap<_, _> =
            accounts.iter().map(|(id, account)| (*account, id.0)).collect();
        let (topics, gone) = self.topics_and_gone();
        let mut metrics = Metrics {
            records: gone,
            failed: self.failures.counts(),
            dropped: self.failures.dropped(),
            fallback_records: self
                .config
                .topics
                .fallback
                .as_ref()
                .map_or(0, |it| it.records_called()),
            brokers: meters
                .iter()
                .map(|meter| self.broker_metrics(now, meter, &accounts))
                .collect(),
            requests: totals.requests,
            request_bytes: totals.request_bytes,
            connects: totals.connects,
            connection_failures: totals.failures,
            memory_capacity: self.pool.capacity(),
            memory_free: self.pool.free_bytes(),
            metadata_age: self.meters.metadata().answered_at.map(ago),
            client_id: producer.client_id,
            age: ago(producer.built_at),
            ..Metrics::default()
        };
        for topic in topics {
            let partitions: Vec<_> = topic
                .lanes()
                .map(|lane| PartitionMetrics {
                    partition: lane.partition.0,
                    leader: leaders.get(&lane.account()).copied().filter(|_| lane.has_leader()),
                    records: RecordCounts::of(&lane.meter),
                    unresolved_batches: lane.opened().saturating_sub(lane.resolved()),
                    open_for: lane.open_since().map(ago),
                })
                .collect();
            // The sum of what was just read: the parts and the whole must agree.
            let mut records = topic.counts_in_stash();
            partitions.iter().for_each(|partition| records += partition.records);
            metrics.records += records;
            metrics.topics.push(TopicMetrics { topic: topic.name.clone(), records, partitions });
        }
        metrics.brokers.sort_by_key(|broker| broker.broker);
        metrics
    }

    fn broker_metrics(
        &self,
        now: u64,
        meter: &BrokerMeter,
        accounts: &HashMap<BrokerId, AccountId>,
    ) -> BrokerMetrics {
        let standing = meter.standing();
        let account = accounts.get(&BrokerId(meter.broker));
        let levels = account.map(|account| self.pool.levels(*account));
        let get = Counter::get;
        BrokerMetrics {
            broker: meter.broker,
            address: standing.address,
            is_connected: standing.state == ConnectionState::Ready,
            state: standing.state,
            state_for: Duration::from_nanos(now.saturating_sub(standing.since)),
            charged: levels.map_or(0, |levels| levels.charged),
            high: levels.map_or(0, |levels| levels.high),
            low: levels.map_or(0, |levels| levels.low),
            writable: levels.is_none_or(|levels| levels.writable),
            requests: get(&meter.requests),
            request_bytes: get(&meter.request_bytes),
            request_records: get(&meter.request_records),
            responses: get(&meter.responses),
            in_flight: get(&meter.in_flight),
            connects: get(&meter.connects),
            connection_failures: get(&meter.failures),
            throttles: get(&meter.throttles),
            throttle_time: Duration::from_millis(get(&meter.throttle_ms)),
            dropped_records: levels.map_or(0, |levels| levels.dropped_records),
            plain_bytes: get(&meter.plain_bytes),
            packed_bytes: get(&meter.packed_bytes),
            request_latency_us: meter.request_latency_us.snapshot(),
            queue_time_us: meter.queue_time_us.snapshot(),
            batch_bytes: meter.batch_bytes.snapshot(),
            batch_records: meter.batch_records.snapshot(),
        }
    }
}

impl Metrics {
    /// The distributions of all brokers together: request latency, time in the queue (both in
    /// microseconds), bytes of a batch, records of a batch.
    fn distributions(&self) -> [Histogram; 4] {
        let mut sums: [Histogram; 4] = Default::default();
        for broker in &self.brokers {
            sums[0] += &broker.request_latency_us;
            sums[1] += &broker.queue_time_us;
            sums[2] += &broker.batch_bytes;
            sums[3] += &broker.batch_records;
        }
        sums
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = &self.records;
        let used = self.memory_capacity.saturating_sub(self.memory_free);
        let [latency, queue, bytes, in_batch] = self.distributions();
        let time = |us: u64| Short(Duration::from_micros(us));
        let (p50, p99) = (time(latency.quantile(0.5)), time(latency.quantile(0.99)));
        writeln!(
            f,
            "records: {} acknowledged, {} failed, {} dropped; batches: {} sent again, mean {} \
             records and {} bytes",
            records.acked_records,
            self.failed.total,
            records.dropped_records,
            records.retries,
            in_batch.mean(),
            bytes.mean(),
        )?;
        writeln!(
            f,
            "requests: {}, answered after {p50} (median), {p99} (p99); batches waited {} (p99) \
             before; connections: {} made, {} failed",
            self.requests,
            time(queue.quantile(0.99)),
            self.connects,
            self.connection_failures,
        )?;
        write!(f, "memory: {used} of {} bytes in use", self.memory_capacity)?;
        for broker in &self.brokers {
            let state = if broker.is_connected { "connected" } else { "not connected" };
            let full = if broker.writable { "" } else { ", not writable" };
            write!(
                f,
                "\nbroker {}: {state}, {} in flight, {} of {} bytes{full}",
                broker.broker,
                counted(broker.in_flight, "request"),
                broker.charged,
                broker.high
            )?;
        }
        Ok(())
    }
}
