//! The partitioner that is used unless another is set: murmur2 for keys, uniform stickiness else.

use std::sync::Arc;

use super::{
    KeyHash, Moment, PartitionRequest, PartitionView, Partitioner, PartitionerFactory,
    StickyPartitioner, sticky_partitioner::Stay,
};

/// The default partitioner of one topic.
///
/// * A record with a key goes to `murmur2(key) & 0x7fffffff` modulo all partitions, leaderless ones
///   included, as with the Java client: equal keys stay together whichever client sent them. An
///   empty key is hashed like any other.
/// * Records without a key are spread by a [`StickyPartitioner`].
///
/// It is `murmur2_random` in librdkafka's words. A partitioner of your own may ask one of these for
/// some of its records.
///
/// ```
/// use tidegate::{DefaultPartitioner, EveryTopic, PartitionRequest, Partitioner, Producer};
///
/// // Whatever says that it is urgent goes to partition 0.
/// let default = DefaultPartitioner::new();
/// let urgent_first = move |request: &PartitionRequest<'_>| {
///     match request.headers.iter().any(|header| header.key == "urgent") {
///         true => 0,
///         false => default.partition(request),
///     }
/// };
/// let builder = Producer::builder("kafka:9092").partitioner(EveryTopic::new(urgent_first));
/// # drop(builder);
/// ```
#[derive(Default)]
pub struct DefaultPartitioner {
    sticky: StickyPartitioner,
}

impl DefaultPartitioner {
    /// A partitioner whose choices differ from process to process.
    pub fn new() -> Self {
        DefaultPartitioner::default()
    }

    /// A partitioner that makes the same choices in every run, for simulations and tests.
    pub fn with_seed(seed: u64) -> Self {
        DefaultPartitioner { sticky: StickyPartitioner::with_seed(seed) }
    }

    /// See [`StickyPartitioner::adaptive`].
    #[must_use]
    pub fn adaptive(self, is_adaptive: bool) -> Self {
        DefaultPartitioner { sticky: self.sticky.adaptive(is_adaptive) }
    }

    /// What [`Partitioner::partition`] does, for callers that know their view of the partitions and
    /// tell of every append.
    #[inline]
    pub(crate) fn choose<V: PartitionView>(
        &self,
        key: Option<&[u8]>,
        view: &V,
        moment: Option<Moment>,
    ) -> i32 {
        match key {
            Some(key) => KeyHash::Murmur2.partition(key, view.count()),
            None => self.sticky.choose(view, moment),
        }
    }

    /// See [`StickyPartitioner::stay`].
    #[inline]
    pub(crate) fn stay(&self, moment: Moment) -> Option<Stay<'_>> {
        self.sticky.stay(moment)
    }

    /// What [`Partitioner::on_appended`] does.
    #[inline]
    pub(crate) fn count_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        self.sticky.count_appended(partition, bytes, batch_size);
    }
}

impl Partitioner for DefaultPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        match request.key {
            Some(key) => KeyHash::Murmur2.partition(key, request.partitions.count()),
            None => self.sticky.partition(request),
        }
    }

    fn on_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        self.sticky.on_appended(partition, bytes, batch_size);
    }
}

/// Gives every topic a [`DefaultPartitioner`] of its own.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("audit", 6).start()?;
/// use std::sync::Arc;
/// use tidegate::{DefaultPartitioners, PartitionRequest, Partitioner, PartitionerFactory};
///
/// // The records of one topic all go to one partition, those of others where Java sends them.
/// let factory = |topic: &str| -> Arc<dyn Partitioner> {
///     match topic {
///         "audit" => Arc::new(|_: &PartitionRequest<'_>| 0),
///         topic => DefaultPartitioners.for_topic(topic),
///     }
/// };
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).partitioner(factory).build()?;
/// let at = producer.topic("audit")?.send("customer-42", "logged in")?.wait()?;
/// assert_eq!(at.partition(), 0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultPartitioners;

impl PartitionerFactory for DefaultPartitioners {
    fn for_topic(&self, _topic: &str) -> Arc<dyn Partitioner> {
        Arc::new(DefaultPartitioner::new())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_topic::{Topic, request};
    use super::*;

    const BATCH: usize = 1_000;

    #[test]
    fn c35_keys_go_where_java_sends_them() {
        let partitioner = DefaultPartitioner::with_seed(1);
        let ask = |topic: &Topic, key| partitioner.partition(&request(topic, Some(key)));
        // murmur2("21") is negative: masked, not negated, and over the leaderless ones as well.
        let expected = ((-973_932_308_i32) & 0x7fff_ffff) % 12;
        assert_eq!(ask(&Topic::new(12), b"21"), expected);
        let all_down = Topic { down: (0..12).collect(), ..Topic::new(12) };
        assert_eq!(ask(&all_down, b"21"), expected);
        // An empty key is a key: it does not stick, and does not move when a batch is full.
        let empty = KeyHash::Murmur2.partition(b"", 12);
        for _ in 0..20 {
            assert_eq!(ask(&Topic::new(12), b""), empty);
            partitioner.on_appended(empty, BATCH, BATCH);
        }
        assert!(!partitioner.sticky.has_begun(), "keyed records took memory for stickiness");
    }

    #[test]
    fn records_without_key_stick_and_move_on() {
        let (partitioner, topic) = (DefaultPartitioner::new(), Topic::new(12));
        let ask = || partitioner.partition(&request(&topic, None));
        let first = ask();
        partitioner.on_appended(first, BATCH / 2, BATCH);
        assert_eq!(ask(), first);
        partitioner.on_appended(first, BATCH / 2, BATCH);
        assert_ne!(ask(), first);
    }
}
