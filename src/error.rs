//! Every error the library reports, each saying who is at fault and what to do about it.
//!
//! * [`BuildError`]: the configuration cannot work; nothing was started.
//! * [`SendError`]: a record was not accepted; it is not in any buffer and will never be written.
//! * [`DeliveryError`]: an accepted record failed; [`DeliveryError::certainty`] says whether it may
//!   be in the log.
//! * [`FlushError`], [`CloseError`]: what `flush` and `close` report.
//! * [`CreateTopicError`]: a topic was not created.
//! * [`ConsumeError`]: something could not be read.

mod consume;
mod delivery;
mod ends;
mod topics;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::protocol::records::Length;
use crate::problem::Problem;
pub use consume::{ConsumeError, ConsumeErrorCause};
pub(crate) use delivery::DeliveryFailure;
pub use delivery::{DeliveryError, DeliveryErrorCause};
pub use ends::{CloseError, FlushError};
pub use topics::{CreateTopicError, CreateTopicErrorKind};
use words::{NOT_NAMED, did_you_mean, level, not_together, obstruction, out_of_range};

/// Whether a record whose delivery failed may nevertheless be in the partition's log.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::Certainty;
/// use tidegate::embedded::Fault;
///
/// // Once, the broker answers MESSAGE_TOO_LARGE, which says that it has written nothing.
/// cluster.script(Fault::produce_error("orders", 0, 10));
/// let orders = producer.topic("orders")?;
/// let error = orders.send("customer-42", "paid")?.wait().unwrap_err();
/// if error.certainty() == Certainty::NotWritten {
///     orders.send("customer-42", "paid")?.wait()?; // doubles nothing
/// }
/// assert_eq!(cluster.high_watermark("orders", 0), 1);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// The record is certainly not in the log: it was never written to a connection, or the broker
    /// refused it with an error that proves so. Sending it again cannot double it.
    NotWritten,
    /// An attempt to write it went unanswered, or was answered so that it stays open, as by
    /// UNKNOWN_SERVER_ERROR. Sending it again may double it.
    Unknown,
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Certainty::NotWritten => "not written",
            Certainty::Unknown => "may have been written",
        })
    }
}

/// Which level was full.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Backoff, BackoffStrategy, Pressure, PressureScope};
///
/// // Where the topic is not known yet, nobody waits: its name may be misspelt.
/// let strategy = |full: &Pressure<'_>| match full.scope {
///     PressureScope::Stash => Backoff::Reject,
///     _ => Backoff::Park { at_most: Duration::from_secs(10) },
/// };
/// let unknown_topic = Pressure::new(PressureScope::Stash, 200);
/// assert_eq!(strategy.decide(&unknown_topic), Backoff::Reject);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PressureScope {
    /// The bytes queued or in flight for one broker, by its node id, are over its high watermark.
    Broker(i32),
    /// The pool has no segments left for the record, whichever broker it is for.
    Pool,
    /// The topic is not known yet, and the records that wait for such topics have used up their
    /// share: a quarter of `buffer_memory`.
    Stash,
    /// The partition has no leader, and the records that wait for one have used up their share.
    Leaderless,
}

/// A configuration that cannot work. Nothing was started.
///
/// ```
/// use tidegate::{BuildError, ProducerConfig};
///
/// let error = ProducerConfig::from_properties([("linger.sm", "5")]).unwrap_err();
/// assert!(matches!(error, BuildError::UnknownProperty { .. }));
/// assert!(error.to_string().contains("did you mean \"linger.ms\"?"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// `bootstrap_servers` holds no address.
    #[error("the bootstrap list is empty: give at least one broker as \"host:port\"")]
    NoBootstrapServers,
    /// An entry of `bootstrap_servers` is not `host:port`.
    #[error("bootstrap address \"{address}\" is not \"host:port\": {reason}")]
    InvalidAddress {
        /// The entry as it was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A single setting has a value outside its range.
    #[error("{name} = {value} cannot be used: {reason}")]
    InvalidSetting {
        /// The setting, by the name that it was set by: a property, a variable of the environment,
        /// or a field.
        name: String,
        /// The value as it was given.
        value: String,
        /// The range or the rule, and what to change.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Conflict(String),
    /// A property name, or a variable of the environment, that this client does not know.
    #[error("unknown property \"{name}\"{}", did_you_mean(nearest))]
    UnknownProperty {
        /// The name as it was given.
        name: String,
        /// The known name that is most like it, if any is.
        nearest: Option<String>,
    },
    /// A line of a properties file that cannot be read.
    #[error("line {line} of the properties cannot be read: {reason}")]
    InvalidProperties {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A codec that this build was compiled without.
    #[error("compression {codec} needs the feature \"{codec}\" of the tidegate crate")]
    CodecNotBuilt {
        /// The codec's name, which is the feature's name too.
        codec: &'static str,
    },
    /// Something that this build was compiled without.
    #[error("{what} needs the feature \"{feature}\" of the tidegate crate")]
    FeatureNotBuilt {
        /// What was asked for.
        what: &'static str,
        /// The feature's name.
        feature: &'static str,
    },
    /// The pool cannot hold what the loops need at the least.
    #[error(
        "{} = {buffer_memory} bytes is too small: it must hold {} batches of {largest_batch} bytes \
         (the larger of {} and {}), one for each of {loops} event loops and one that is being \
         filled, and a largest record twice, as it moves from its topic's stash to its batch: set \
         {} to at least {required} bytes, or lower {} and {}",
        names[0], loops + 1, names[1], names[2], names[0], names[1], names[2]
    )]
    PoolTooSmall {
        /// The configured `buffer_memory`, in bytes.
        buffer_memory: usize,
        /// The least that works, in bytes.
        required: usize,
        /// `max(batch_size, max_request_size)`, in bytes.
        largest_batch: usize,
        /// Event loops that each need one. `build()` asks for one, as it does not know how many
        /// there will be.
        loops: usize,
        /// By which names `buffer_memory`, `max_request_size` and `batch_size` were set.
        names: Box<[String; 3]>,
    },
    /// The operating system refused memory, a thread or a descriptor.
    #[error("the operating system refused {what}: {problem}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        #[source]
        problem: Problem,
    },
}

/// A record that was not accepted. It is in no buffer and will never be written.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let orders = producer.topic("orders")?;
/// let error = orders.send("customer-42", vec![0; 2_000_000]).unwrap_err(); // too large
/// assert_eq!(error.topic(), "orders");
/// assert!(!error.is_retriable());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("record for topic \"{topic}\" was not accepted: {kind}")]
pub struct SendError {
    topic: Arc<str>,
    kind: SendErrorKind,
    returned: Option<Box<ReturnedRecord>>,
}

/// The owned parts of a rejected record, handed back without a copy. A payload that was passed as a
/// borrowed slice is still the caller's own, and `None` here.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use bytes::Bytes;
///
/// let value = Bytes::from(vec![0; 2_000_000]); // larger than `max_request_size`
/// let error = producer.topic("orders")?.send("customer-42", value.clone()).unwrap_err();
/// let returned = error.into_record();
/// assert_eq!(returned.value, Some(value)); // the same bytes, not copied
/// assert_eq!(returned.key, None); // it was borrowed, and is still at hand
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReturnedRecord {
    /// The key, if it was passed as [`Payload::Shared`](crate::Payload::Shared).
    pub key: Option<Bytes>,
    /// The value, if it was passed as [`Payload::Shared`](crate::Payload::Shared).
    pub value: Option<Bytes>,
}

impl fmt::Debug for ReturnedRecord {
    /// Lengths only: errors are logged, and the bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReturnedRecord")
            .field("key", &Length(self.key.as_deref()))
            .field("value", &Length(self.value.as_deref()))
            .finish()
    }
}

/// Why a record was not accepted.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::SendErrorKind;
///
/// let orders = producer.topic("orders")?;
/// let error = orders.send("customer-42", vec![0; 2_000_000]).unwrap_err();
/// match error.kind() {
///     SendErrorKind::RecordTooLarge { max, .. } => assert_eq!(*max, 1 << 20),
///     _ => return Err(error.into()),
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The producer is closing or closed.
    #[error("the producer is closed and takes no more: build another one")]
    Closed,
    /// The process was forked: the child has none of the producer's threads.
    #[error("this process is a fork of the one that built the producer: build a new one here")]
    Forked,
    /// The record cannot fit any request.
    #[error(
        "its {size} bytes are over max_request_size (max.request.size) = {max}: raise it here and \
         max.message.bytes at the topic, or send less"
    )]
    RecordTooLarge {
        /// Bytes of the record as a batch of its own.
        size: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// The partition does not exist.
    #[error("{}", out_of_range(*partition, *partitions, *by_partitioner))]
    PartitionOutOfRange {
        /// The partition asked for.
        partition: i32,
        /// How many the topic has; 0 while that is not known.
        partitions: i32,
        /// Whether the partitioner chose it; else the record named it.
        by_partitioner: bool,
    },
    /// The record names no partition, and the producer's partitioner wants it to:
    /// [`ExplicitPartitioner`](crate::ExplicitPartitioner).
    #[error("{NOT_NAMED}")]
    PartitionNotNamed,
    /// The record's timestamp is negative: Kafka's begin with 1970.
    #[error("its timestamp is {timestamp} ms: Kafka takes none below 0, the start of 1970")]
    NegativeTimestamp {
        /// The timestamp as it was given, in milliseconds since the Unix epoch.
        timestamp: i64,
    },
    /// The topic has the partition, and the producer has as many as it may.
    #[error(
        "partition {partition} is beyond the producer's limit of {lanes_max} partitions \
         (lanes_max, tidegate.lanes.max): raise it"
    )]
    TooManyLanes {
        /// The record's partition.
        partition: i32,
        /// The limit.
        lanes_max: usize,
    },
    /// No room, and the backoff strategy said [`Backoff::Reject`](crate::Backoff::Reject); or it
    /// was [`Topic::try_send`](crate::Topic::try_send), or the calling thread is one that must not
    /// wait, or a task whose strategy parks for no time at all.
    #[error("no room: {}", level(*scope, *queued, *low, *high))]
    Rejected {
        /// Which level was full.
        scope: PressureScope,
        /// Bytes charged to it: queued and in flight. They are counted in whole segments of 4 to
        /// 64 KiB, so a segment that holds one small record counts in full.
        queued: usize,
        /// Its high watermark, in bytes; the default one moves with the free memory, so it need not
        /// be the one that was passed.
        high: usize,
        /// Its low watermark, in bytes: below it records are taken again.
        low: usize,
    },
    /// No room within the time that [`Backoff::Park`](crate::Backoff::Park) allowed.
    #[error("no room within {waited:.1?}: {}", obstruction(*scope))]
    ParkTimedOut {
        /// How long the caller was held.
        waited: Duration,
        /// Which level was full.
        scope: PressureScope,
    },
    /// No room in memory, and none on disk: the folder's quota is used up, or the system takes
    /// nothing ([`SpillFull`](crate::SpillFull)).
    #[error("no room in memory, and none on disk: {0}")]
    SpillFull(#[source] Problem),
    /// Kafka does not allow the topic's name.
    #[error("its topic's name is illegal: {0}")]
    InvalidTopic(&'static str),
    /// Records that were to be sent together cannot be: they name different partitions, or there
    /// are none.
    #[error("{}", not_together(*partition, *other))]
    NotTogether {
        /// The partition that one of them names.
        partition: Option<i32>,
        /// What another one names.
        other: Option<i32>,
    },
    /// The topic's own settings cannot work with this producer's.
    #[error("its topic's settings cannot be used: {0}")]
    TopicConfig(Box<BuildError>),
    /// A partitioner sent it while it placed records that had waited for their topic, and this
    /// record's topic is not ready either: its records could not be kept in order.
    #[error(
        "it was sent by a partitioner that places records which waited for their topic, and its \
         own topic is not ready yet: send it from elsewhere"
    )]
    SentByPartitioner,
    /// The user's partitioner, its factory or the strategy panicked; only this call is affected.
    #[error("the {0} panicked")]
    PolicyPanicked(&'static str),
}

impl SendError {
    pub(crate) fn new(topic: Arc<str>, kind: SendErrorKind) -> Self {
        SendError { topic, kind, returned: None }
    }

    pub(crate) fn with_returned(mut self, key: Option<Bytes>, value: Option<Bytes>) -> Self {
        if key.is_some() || value.is_some() {
            self.returned = Some(Box::new(ReturnedRecord { key, value }));
        }
        self
    }

    /// The topic the record was meant for.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Why it was not accepted.
    pub fn kind(&self) -> &SendErrorKind {
        &self.kind
    }

    /// Whether sending the same record again, later, may succeed.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self.kind,
            SendErrorKind::Rejected { .. }
                | SendErrorKind::ParkTimedOut { .. }
                | SendErrorKind::SpillFull(_)
        )
    }

    /// The owned parts of the record, handed back: those that were passed as
    /// [`Payload::Shared`](crate::Payload::Shared). Beware: a key or value that was borrowed does
    /// not come back, and `None` where it stood would be null, which goes to another partition.
    /// Keep what is borrowed for the next attempt, or pass both as [`Bytes`], a `Vec` or a
    /// `String`. Headers, timestamp and partition do not come back either.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use tidegate::{Delivery, SendError, Topic};
    ///
    /// /// The key is borrowed: it is at hand for the second attempt. The value moves.
    /// fn send(topic: &Topic, key: &str, value: Bytes) -> Result<Delivery, SendError> {
    ///     match topic.send(key, value) {
    ///         Err(error) if error.is_retriable() => {
    ///             std::thread::yield_now(); // or whatever makes room meanwhile
    ///             topic.send(key, error.into_record().value)
    ///         }
    ///         result => result,
    ///     }
    /// }
    /// # let _ = send;
    /// ```
    pub fn into_record(self) -> ReturnedRecord {
        self.returned.map(|boxed| *boxed).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_no_payload() {
        let kind = SendErrorKind::Closed;
        let (key, value) = (Bytes::from_static(b"iban"), Bytes::from_static(b"secret"));
        let error = SendError::new("orders".into(), kind).with_returned(Some(key), Some(value));
        let shown = format!("{error:?} {error} {error:#?} {:?}", error.clone().into_record());
        assert!(!shown.contains("iban") && !shown.contains("secret"), "{shown}");
        assert!(shown.contains("key: 4 bytes, value: 6 bytes"), "{shown}");
        let nothing = format!("{:?}", ReturnedRecord::default());
        assert_eq!(nothing, "ReturnedRecord { key: null, value: null }");
    }
}
