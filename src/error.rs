//! Every error the library reports, each saying who is at fault and what to do about it.
//!
//! * [`BuildError`]: the configuration cannot work; nothing was started.
//! * [`SendError`]: a record was not accepted; it is not in any buffer and will never be written.
//! * [`DeliveryError`]: an accepted record failed; [`DeliveryError::certainty`] says whether it may
//!   be in the log.
//! * [`FlushError`], [`CloseError`]: what `flush` and `close` report.
//! * [`CreateTopicError`]: a topic was not created.

mod ends;
mod topics;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::engine::protocol::records::Length;
use crate::engine::protocol::{BrokerId, ErrorCode, PartitionId};
use crate::problem::{Problem, ProblemKind};
pub use ends::{CloseError, FlushError};
pub use topics::{CreateTopicError, CreateTopicErrorKind};
use words::{
    NOT_NAMED, did_you_mean, in_its_words, last_cause, level, not_together, obstruction,
    out_of_range,
};

/// Whether a record whose delivery failed may nevertheless be in the partition's log.
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
#[derive(Clone, Debug, thiserror::Error)]
#[error("record for topic \"{topic}\" was not accepted: {kind}")]
pub struct SendError {
    topic: Arc<str>,
    kind: SendErrorKind,
    returned: Option<Box<ReturnedRecord>>,
}

/// The owned parts of a rejected record, handed back without a copy. A payload that was passed as a
/// borrowed slice is still the caller's own, and `None` here.
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
        matches!(self.kind, SendErrorKind::Rejected { .. } | SendErrorKind::ParkTimedOut { .. })
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

/// An accepted record that was not, or not certainly, written. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct DeliveryError(Arc<DeliveryFailure>);

/// The parts of a [`DeliveryError`], made once per failed batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeliveryFailure {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<PartitionId>,
    pub(crate) broker: Option<BrokerId>,
    pub(crate) cause: DeliveryErrorCause,
    pub(crate) certainty: Certainty,
}

/// What made a delivery fail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryErrorCause {
    /// The broker answered with an error that a retry cannot mend, or that outlasted the retries.
    #[error("the broker answered {code}{}", in_its_words(message))]
    Broker {
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, if it sent any.
        message: Option<Arc<str>>,
    },
    /// The broker takes nothing of the kind, however often it is sent: it is older than what the
    /// configuration asks for.
    #[error("the broker is too old: {0}")]
    BrokerTooOld(#[source] Problem),
    /// `delivery_timeout` passed. `last` is what stood in the way.
    #[error(
        "not acknowledged within delivery_timeout (delivery.timeout.ms) = {after:?}{}",
        last_cause(last)
    )]
    TimedOut {
        /// The configured `delivery_timeout`.
        after: Duration,
        /// The last thing that went wrong: a lost connection, an unknown host, an error code.
        #[source]
        last: Option<Problem>,
    },
    /// The connection was lost, or the broker's answer left the partition out, and no retry is left
    /// (`retries`).
    #[error("no answer, and no retry is left: {0}")]
    Disconnected(#[source] Problem),
    /// Brokers said for `topic_unknown_max` that the topic does not exist: it never did, or it was
    /// deleted.
    #[error(
        "the topic does not exist, {after:?} after it was first asked for: check its name, create \
         it, have this producer create it (create_topics, tidegate.create.topics), or allow \
         auto-creation (allow_auto_create_topics, tidegate.allow.auto.create.topics, and \
         auto.create.topics.enable at the brokers){}",
        last_cause(last)
    )]
    UnknownTopic {
        /// For how long brokers said so.
        after: Duration,
        /// What was last said of it.
        #[source]
        last: Option<Problem>,
    },
    /// The topic does not exist, and this producer, which was to create it (`create_topics`), could
    /// not.
    #[error("the topic does not exist, and {0}")]
    TopicNotCreated(#[source] Problem),
    /// The brokers turned out to be of another cluster: the record may be in the old one's log, or
    /// `on_cluster_change` says to fail.
    #[error("the brokers are of another cluster now: {found}")]
    ClusterChanged {
        /// The id of the cluster that answers now.
        found: Arc<str>,
    },
    /// The partition does not exist.
    #[error("{}", out_of_range(*partition, *partitions, *by_partitioner))]
    PartitionOutOfRange {
        /// The partition asked for.
        partition: i32,
        /// How many the topic has.
        partitions: i32,
        /// Whether the partitioner chose it; else the record named it.
        by_partitioner: bool,
    },
    /// The record names no partition, and the producer's partitioner wants it to:
    /// [`ExplicitPartitioner`](crate::ExplicitPartitioner).
    #[error("{NOT_NAMED}")]
    PartitionNotNamed,
    /// The backoff strategy dropped the record.
    #[error("dropped by the backoff strategy")]
    Dropped,
    /// The application threw it away: [`Producer::purge`](crate::Producer::purge).
    #[error("purged by the application")]
    Purged,
    /// The producer was closed before the record was acknowledged. `last` is what stood in the way
    /// until then.
    #[error("the producer was closed before the record was acknowledged{}", last_cause(last))]
    Closed {
        /// The last thing that went wrong, if anything did.
        #[source]
        last: Option<Problem>,
    },
    /// The event loop that owned the partition ended after a panic.
    #[error("the event loop that owned the partition panicked; please report this")]
    LoopPanicked,
    /// The user's partitioner panicked on this record.
    #[error("the partitioner panicked")]
    PartitionerPanicked,
    /// The topic's partitions would exceed the producer's limit.
    #[error(
        "the producer's limit of {lanes_max} partitions (lanes_max, tidegate.lanes.max) is reached"
    )]
    TooManyLanes {
        /// The limit.
        lanes_max: usize,
    },
    /// `wait` was called in a waker, on a thread of the producer itself, or by a partitioner that
    /// places records which waited for their topic.
    #[error("wait was called on a thread of the producer itself, where it would wait for ever")]
    WaitedOnOwnThread,
    /// `wait` was called in a fork's child, which has none of the producer's threads.
    #[error(
        "this process is a fork of the one that sent the record, and will not hear of it: send \
         from a producer that is built here"
    )]
    Forked,
}

impl DeliveryError {
    pub(crate) fn new(failure: DeliveryFailure) -> Self {
        DeliveryError(Arc::new(failure))
    }

    /// The same error of records of which something else is certain.
    pub(crate) fn with_certainty(&self, certainty: Certainty) -> Self {
        if self.0.certainty == certainty {
            return self.clone();
        }
        DeliveryError::new(DeliveryFailure { certainty, ..DeliveryFailure::clone(&self.0) })
    }

    /// The record's topic.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The record's partition, if it had been given one.
    pub fn partition(&self) -> Option<i32> {
        self.0.partition.map(|p| p.0)
    }

    /// The broker that was last asked to write it, if any was.
    pub fn broker(&self) -> Option<i32> {
        self.0.broker.map(|b| b.0)
    }

    /// What went wrong.
    pub fn cause(&self) -> &DeliveryErrorCause {
        &self.0.cause
    }

    /// What stood in the way, if anything outside this process did: a connection, a name, a
    /// broker's answer.
    pub fn problem(&self) -> Option<Problem> {
        match &self.0.cause {
            DeliveryErrorCause::TimedOut { last, .. }
            | DeliveryErrorCause::Closed { last }
            | DeliveryErrorCause::UnknownTopic { last, .. } => last.clone(),
            DeliveryErrorCause::Disconnected(problem)
            | DeliveryErrorCause::BrokerTooOld(problem)
            | DeliveryErrorCause::TopicNotCreated(problem) => Some(problem.clone()),
            cause @ DeliveryErrorCause::Broker { code, .. } => {
                Some(Problem::new(ProblemKind::Broker(*code), cause))
            }
            cause @ DeliveryErrorCause::ClusterChanged { .. } => {
                Some(Problem::new(ProblemKind::OtherCluster, cause))
            }
            _ => None,
        }
    }

    /// Whether the record may nevertheless be in the log.
    pub fn certainty(&self) -> Certainty {
        self.0.certainty
    }
}

impl DeliveryErrorCause {
    /// Whether brokers say that the record's topic does not exist: it is neither there, nor was it
    /// created.
    pub fn is_topic_missing(&self) -> bool {
        matches!(
            self,
            DeliveryErrorCause::UnknownTopic { .. } | DeliveryErrorCause::TopicNotCreated(_)
        )
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delivery to {}", self.0.topic)?;
        if let Some(partition) = self.0.partition {
            write!(f, "-{}", partition.0)?;
        }
        if let Some(broker) = self.0.broker {
            write!(f, " at broker {}", broker.0)?;
        }
        write!(f, " failed ({}): {}", self.0.certainty, self.0.cause)
    }
}

impl fmt::Debug for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DeliveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.cause)
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
