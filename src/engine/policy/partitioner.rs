//! The interface of partitioners, and what they are shown.

use std::fmt;
use std::sync::Arc;

use super::STAY_MS_MIN;
use crate::engine::protocol::records::{Header, Length};

/// What a partitioner may ask about the partitions of its topic. The mechanism implements it on
/// its own tables, so that asking costs a load or two and touches no snapshot.
///
/// ```
/// use tidegate::{PartitionRequest, PartitionView, Partitioner, Partitions, RoundRobinPartitioner};
///
/// /// A topic with four partitions, of which one cannot take records: for tests of partitioners.
/// struct Four;
///
/// impl PartitionView for Four {
///     fn count(&self) -> i32 {
///         4
///     }
///
///     fn is_available(&self, partition: i32) -> bool {
///         partition != 2
///     }
/// }
///
/// let partitioner = RoundRobinPartitioner::new();
/// let request = PartitionRequest::new("orders", None, None, Partitions::new(&Four));
/// let places = [(); 4].map(|()| partitioner.partition(&request));
/// assert_eq!(places, [0, 1, 3, 0]);
/// ```
pub trait PartitionView {
    /// All partitions of the topic, those without a leader included; at least 1.
    fn count(&self) -> i32;

    /// Whether `partition` has a leader, that leader's account is writable (below its high
    /// watermark), and the leader takes batches
    /// ([`ProducerConfig::partitioner_availability_timeout`]). A partition out of range is not
    /// available.
    ///
    /// [`ProducerConfig::partitioner_availability_timeout`]:
    ///     crate::ProducerConfig::partitioner_availability_timeout
    fn is_available(&self, partition: i32) -> bool;

    /// How much is queued and in flight for the leader of `partition`: its level, in thousandths of
    /// its high watermark, from 0 to 1,000. Partitions of one leader have one level. Without an
    /// implementation of its own: 0, which is to say that all are alike.
    fn load(&self, partition: i32) -> u32 {
        let _ = partition;
        0
    }

    /// How often the producer's metadata was refreshed so far, from some start on; it wraps around.
    /// Without an implementation of its own: 0.
    fn refreshes(&self) -> u32 {
        0
    }
}

/// The partitions of one topic, as a partitioner sees them. Cheap to copy.
///
/// ```
/// use tidegate::{PartitionRequest, PartitionView, Partitioner, Partitions};
/// # struct Loads([u32; 3]);
/// # impl PartitionView for Loads {
/// #     fn count(&self) -> i32 {
/// #         3
/// #     }
/// #     fn is_available(&self, partition: i32) -> bool {
/// #         (0..3).contains(&partition)
/// #     }
/// #     fn load(&self, partition: i32) -> u32 {
/// #         self.0[partition as usize]
/// #     }
/// # }
///
/// // Each record to the partition whose leader has the least to do.
/// let least = |request: &PartitionRequest<'_>| {
///     let partitions = request.partitions;
///     let available = (0..partitions.count()).filter(|it| partitions.is_available(*it));
///     available.min_by_key(|it| partitions.load(*it)).unwrap_or(0)
/// };
/// let loads = Loads([700, 20, 350]); // thousandths of their high watermarks
/// let request = PartitionRequest::new("orders", None, None, Partitions::new(&loads));
/// assert_eq!(least.partition(&request), 1);
/// ```
#[derive(Clone, Copy)]
pub struct Partitions<'a> {
    view: &'a dyn PartitionView,
}

impl<'a> Partitions<'a> {
    /// Wraps a view; a test of a partitioner can bring its own.
    pub fn new(view: &'a dyn PartitionView) -> Self {
        Partitions { view }
    }

    /// All partitions of the topic, those without a leader included; at least 1. It grows when
    /// partitions are added, and shrinks only when the topic is deleted and created again.
    pub fn count(&self) -> i32 {
        self.view.count()
    }

    /// Whether `partition` has a leader that takes records now. A record for one that does not is
    /// kept and sent once it has; the backoff strategy decides when there is no room left.
    pub fn is_available(&self, partition: i32) -> bool {
        self.view.is_available(partition)
    }

    /// How much is queued and in flight for the leader of `partition`: its level, in thousandths of
    /// its high watermark, from 0 to 1,000. A broker that is slow has more waiting than others.
    pub fn load(&self, partition: i32) -> u32 {
        self.view.load(partition)
    }

    /// How often the producer's metadata was refreshed so far, with or without a change; it wraps
    /// around. See [`ProducerConfig::metadata_max_age`](crate::ProducerConfig::metadata_max_age).
    pub fn refreshes(&self) -> u32 {
        self.view.refreshes()
    }

    /// The first available partition of `count` from `first` on, around the end.
    pub(super) fn next_available(&self, first: i32, count: i32) -> Option<i32> {
        (first..count).chain(0..first).find(|&partition| self.is_available(partition))
    }
}

impl PartitionView for Partitions<'_> {
    fn count(&self) -> i32 {
        self.view.count()
    }

    fn is_available(&self, partition: i32) -> bool {
        self.view.is_available(partition)
    }

    fn load(&self, partition: i32) -> u32 {
        self.view.load(partition)
    }

    fn refreshes(&self) -> u32 {
        self.view.refreshes()
    }
}

impl fmt::Debug for Partitions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// When a record is sent, for partitioners that stay with a partition for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds of the wall clock, as many as fit.
    pub(super) now_ms: u32,
    /// How long a sender stays with a partition.
    pub(super) stay_ms: u32,
}

impl Moment {
    /// A moment of the wall clock, for stays of that length. Both in milliseconds.
    #[inline]
    pub fn new(wall_ms: i64, stay_ms: u32) -> Self {
        Moment { now_ms: wall_ms as u32, stay_ms }
    }
}

/// One record that needs a partition.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 4).start()?;
/// # use tidegate::{EveryTopic, PartitionRequest, Record};
/// // By a header, and without it to partition 0.
/// let by_region = |request: &PartitionRequest<'_>| {
///     let region = request.headers.iter().find(|header| header.key == "region");
///     match region.and_then(|header| header.value) {
///         Some(b"eu") => 1,
///         Some(b"us") => 2,
///         _ => 0,
///     }
/// };
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .partitioner(EveryTopic::new(by_region))
///     .build()?;
/// let record = Record::new().value("paid").header("region", "us");
/// assert_eq!(producer.topic("orders")?.send_record(record)?.wait()?.partition(), 2);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct PartitionRequest<'a> {
    /// The record's topic.
    pub topic: &'a str,
    /// The key's bytes; `None` for a null key. An empty key is a key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` for a null value.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header<'a>],
    /// The partitions to choose from.
    pub partitions: Partitions<'a>,
    /// When it is sent, where that is known.
    pub(super) moment: Option<Moment>,
}

impl<'a> PartitionRequest<'a> {
    /// A request, as the producer makes one for each record that names no partition; without
    /// headers, and at no time in particular. Tests of partitioners make them.
    pub fn new(
        topic: &'a str,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        partitions: Partitions<'a>,
    ) -> Self {
        PartitionRequest { topic, key, value, headers: &[], partitions, moment: None }
    }

    /// The same for a record with these headers.
    #[must_use]
    pub fn with_headers(self, headers: &'a [Header<'a>]) -> Self {
        PartitionRequest { headers, ..self }
    }

    /// The same for a record that is sent at this time: milliseconds of the wall clock.
    /// Partitioners that stay with a partition for a while go by it.
    #[must_use]
    pub fn at_ms(self, wall_ms: i64) -> Self {
        self.at(Some(Moment::new(wall_ms, STAY_MS_MIN)))
    }

    /// The same with these partitions to choose from: to have another partitioner choose among some
    /// of them. `examples/custom_partitioner.rs` does so.
    #[must_use]
    pub fn with_partitions(self, partitions: Partitions<'a>) -> Self {
        PartitionRequest { partitions, ..self }
    }

    /// The same for a record with this key: to have another partitioner place a record by a key of
    /// your making, or, with `None`, as one without.
    ///
    /// ```
    /// use tidegate::{DefaultPartitioner, PartitionRequest, Partitioner};
    ///
    /// // Records of a tenant stay together: its name is what stands before the first colon.
    /// let default = DefaultPartitioner::new();
    /// let by_tenant = move |request: &PartitionRequest<'_>| {
    ///     let tenant = request.key.and_then(|key| key.split(|byte| *byte == b':').next());
    ///     default.partition(&request.with_key(tenant))
    /// };
    /// # let _: &dyn Partitioner = &by_tenant;
    /// ```
    #[must_use]
    pub fn with_key(self, key: Option<&'a [u8]>) -> Self {
        PartitionRequest { key, ..self }
    }

    pub(super) fn at(self, moment: Option<Moment>) -> Self {
        PartitionRequest { moment, ..self }
    }
}

impl fmt::Debug for PartitionRequest<'_> {
    /// Key and value as lengths only, headers as their number: they may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionRequest")
            .field("topic", &self.topic)
            .field("key", &Length(self.key))
            .field("value", &Length(self.value))
            .field("headers", &self.headers.len())
            .field("partitions", &self.partitions)
            .finish()
    }
}

/// Chooses the partition of each record of one topic that does not name its own.
///
/// It is called on the sending thread, by many threads at once, before any lock is taken, and once
/// per record: it must be quick. A panic fails that record only. Closures
/// `Fn(&PartitionRequest<'_>) -> i32` are partitioners too.
///
/// Records that waited for their topic to become known are placed one after the other, by a thread
/// of the producer or by the next thread that sends to the topic. No lock is held during the call:
/// other senders do not wait, their records queue up behind. The records behind would never move if
/// the partitioner waited for them, so waiting for a delivery, flushing, and sending to a topic
/// that is not ready are errors in such a call
/// ([`SendErrorKind::SentByPartitioner`](crate::SendErrorKind::SentByPartitioner)).
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 4).start()?;
/// use tidegate::{DefaultPartitioner, EveryTopic, PartitionRequest, Partitioner};
///
/// /// Keeps partition 0 free for records that name it.
/// struct KeepFirst(DefaultPartitioner);
///
/// impl Partitioner for KeepFirst {
///     fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
///         self.0.partition(request).max(1)
///     }
/// }
///
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .partitioner(EveryTopic::new(KeepFirst(DefaultPartitioner::new())))
///     .build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_ne!(at.partition(), 0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Partitioner: Send + Sync {
    /// The partition for this record: from 0, below `request.partitions.count()`. Any other number
    /// fails the record with `PartitionOutOfRange`, but
    /// [`ExplicitPartitioner::MUST_BE_NAMED`](super::ExplicitPartitioner::MUST_BE_NAMED) says that
    /// the record should have named its partition.
    fn partition(&self, request: &PartitionRequest<'_>) -> i32;

    /// Called after a record was appended to `partition`, on the thread that did so and outside of
    /// any lock. `bytes` is the length of its key, value and headers, `batch_size` that of a full
    /// batch. Called for records that named their partition too, and for those that had waited for
    /// their topic, where the same is forbidden as in [`Partitioner::partition`] (see above). A
    /// panic is logged, and the record is sent all the same. A partitioner that asks one of the
    /// built-in ones need not pass this on: they do without.
    fn on_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        let _ = (partition, bytes, batch_size);
    }
}

impl<F> Partitioner for F
where
    F: Fn(&PartitionRequest<'_>) -> i32 + Send + Sync,
{
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        self(request)
    }
}

/// Makes the partitioner of each topic, when the topic is first used: whatever state it has
/// belongs to that topic, so partitioners need no lock and no map.
///
/// Closures `Fn(&str) -> Arc<dyn Partitioner>` are factories too; both types have to be written, as
/// here:
///
/// ```
/// use std::sync::Arc;
/// use tidegate::{PartitionRequest, PartitionView, Partitioner, Producer};
///
/// /// Records go to the partitions from the last one on.
/// struct Backwards(std::sync::atomic::AtomicI32);
///
/// impl Partitioner for Backwards {
///     fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
///         let number = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
///         number.rem_euclid(request.partitions.count())
///     }
/// }
///
/// let backwards = |_: &str| -> Arc<dyn Partitioner> { Arc::new(Backwards(0.into())) };
/// let builder = Producer::builder("kafka:9092").partitioner(backwards);
/// # drop(builder);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make partitioners",
    note = "a `Partitioner` that all topics may share: `EveryTopic::new(it)`",
    note = "one for each topic: `|_: &str| -> Arc<dyn Partitioner> {{ Arc::new(it) }}`"
)]
pub trait PartitionerFactory: Send + Sync {
    /// A partitioner for `topic`. Called when a producer's topic is first used, on the thread that
    /// does so and under no lock; where several threads do at once it may be called by each, and
    /// one of the partitioners is taken. A panic fails that call of `Producer::topic` only.
    fn for_topic(&self, topic: &str) -> Arc<dyn Partitioner>;
}

impl<F> PartitionerFactory for F
where
    F: Fn(&str) -> Arc<dyn Partitioner> + Send + Sync,
{
    fn for_topic(&self, topic: &str) -> Arc<dyn Partitioner> {
        self(topic)
    }
}

/// A factory that gives every topic the same partitioner: for those without state, or whose state
/// may be shared. A [`DefaultPartitioner`](crate::DefaultPartitioner) works so too: all topics of a
/// thread then move on to another partition together.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 4).start()?;
/// use tidegate::{EveryTopic, PartitionRequest};
///
/// let last = |request: &PartitionRequest<'_>| request.partitions.count() - 1;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .partitioner(EveryTopic::new(last))
///     .build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.partition(), 3);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EveryTopic(Arc<dyn Partitioner>);

impl EveryTopic {
    /// Every topic uses `partitioner`.
    pub fn new(partitioner: impl Partitioner + 'static) -> Self {
        EveryTopic(Arc::new(partitioner))
    }
}

impl PartitionerFactory for EveryTopic {
    fn for_topic(&self, _topic: &str) -> Arc<dyn Partitioner> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Three;

    impl PartitionView for Three {
        fn count(&self) -> i32 {
            3
        }

        fn is_available(&self, partition: i32) -> bool {
            (0..3).contains(&partition)
        }
    }

    /// What a wrapper changes is seen by the one that it asks, and the rest stays.
    #[test]
    fn a_question_may_be_passed_on_with_another_key_or_other_partitions() {
        struct One;
        impl PartitionView for One {
            fn count(&self) -> i32 {
                1
            }
            fn is_available(&self, _: i32) -> bool {
                false
            }
        }
        let headers = [Header { key: "a", value: None }];
        let request = PartitionRequest::new("t", Some(b"k"), Some(b"v"), Partitions::new(&Three))
            .with_headers(&headers)
            .at_ms(7);
        let other = request.with_key(None).with_partitions(Partitions::new(&One));
        assert_eq!((other.key, other.value, other.headers.len()), (None, Some(&b"v"[..]), 1));
        assert_eq!(other.moment, request.moment);
        assert_eq!((other.partitions.count(), request.partitions.count()), (1, 3));
        // What a view of a test does not say: nobody has anything waiting.
        assert_eq!((other.partitions.load(0), other.partitions.refreshes()), (0, 0));
    }

    #[test]
    fn closures_are_partitioners_and_factories() {
        let by_value = |request: &PartitionRequest<'_>| {
            request.value.map_or(0, |value| value.len() as i32) % request.partitions.count()
        };
        let factory: Arc<dyn PartitionerFactory> = Arc::new(EveryTopic::new(by_value));
        let partitioner = factory.for_topic("orders");
        let request =
            PartitionRequest::new("orders", None, Some(b"12345"), Partitions::new(&Three));
        assert_eq!(partitioner.partition(&request), 2);
        let shown = format!("{request:?}");
        assert!(shown.contains("key: null, value: 5 bytes") && !shown.contains("49"), "{shown}");
        let headers = [Header { key: "whose", value: Some(b"confidential") }];
        let shown = format!("{:?}", request.with_headers(&headers));
        assert!(shown.contains("headers: 1, "), "{shown}");
        assert!(!shown.contains("whose") && !shown.contains("99, 111"), "{shown}");

        let by_topic = |topic: &str| -> Arc<dyn Partitioner> {
            let fixed = topic.len() as i32;
            Arc::new(move |_: &PartitionRequest<'_>| fixed)
        };
        let factory: Arc<dyn PartitionerFactory> = Arc::new(by_topic);
        assert_eq!(factory.for_topic("a").partition(&request), 1);
        assert_eq!(factory.for_topic("ab").partition(&request), 2);
    }
}
