//! Why an accepted record failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::words::{NOT_NAMED, in_its_words, last_cause, obstruction, out_of_range};
use super::{Certainty, PressureScope};
use crate::engine::protocol::{BrokerId, ErrorCode, PartitionId};
use crate::problem::{Problem, ProblemKind};

/// An accepted record that was not, or not certainly, written. Cheap to clone.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # cluster.script(tidegate::embedded::Fault::produce_error("orders", 0, 10));
/// let error = producer.topic("orders")?.send("customer-42", "paid")?.wait().unwrap_err();
/// assert_eq!((error.topic(), error.partition(), error.broker()), ("orders", Some(0), Some(1)));
/// println!("{error}"); // what happened there, and whether the record may be in the log
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # cluster.script(tidegate::embedded::Fault::produce_error("orders", 0, 10));
/// use tidegate::{DeliveryErrorCause, ErrorCode};
///
/// let error = producer.topic("orders")?.send("customer-42", "paid")?.wait().unwrap_err();
/// match error.cause() {
///     DeliveryErrorCause::Broker { code, .. } => {
///         assert_eq!(*code, ErrorCode::MESSAGE_TOO_LARGE);
///     }
///     _ => return Err(error.into()),
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// There was no room for the record, and the backoff strategy gave it to the producer's
    /// [`Fallback`](crate::Fallback).
    #[error("no room: {}; so the backoff strategy gave it to the fallback", obstruction(*full))]
    GivenToFallback {
        /// What was full.
        full: PressureScope,
    },
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
    /// The producer was closed before the record was sent. It lies in the spill folder, and the
    /// next producer that uses that folder sends it: do not send it again.
    #[error(
        "the producer was closed before the record was sent: it is kept in the spill folder, and \
         sent by the next producer that uses it"
    )]
    LeftInSpill,
    /// The record was in the spill folder, and cannot be read back: the disk has changed or lost
    /// it. What is there instead is kept in a file whose name ends in `.damaged`.
    #[error("the record was on disk and cannot be read: {0}")]
    SpillUnreadable(#[source] Problem),
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
            | DeliveryErrorCause::SpillUnreadable(problem)
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
