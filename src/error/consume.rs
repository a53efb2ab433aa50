//! What a consumer could not read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::words::last_cause;
use crate::problem::Problem;

/// Something that a consumer could not read. Its other partitions go on.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let producer = Producer::builder(&servers).build()?;
/// # for item in ["2 pairs of shoes", "1 hat", "a discount"] {
/// #     producer.topic("orders")?.send("customer-42", item)?.wait()?;
/// # }
/// # use std::time::Duration;
/// # use tidegate::{Consumer, StartAt};
/// let start = StartAt::Offset(1_000); // The log ends before that.
/// let consumer = Consumer::builder(&servers).topic("orders", start).build()?;
/// let next = consumer.poll(Duration::from_secs(10)).ok_or("no answer within 10 s")?;
/// let error = next.unwrap_err();
/// assert_eq!((error.topic(), error.partition()), ("orders", Some(0)));
/// println!("{error}");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConsumeError {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Option<i32>,
    pub(crate) cause: ConsumeErrorCause,
}

/// Why something could not be read.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let producer = Producer::builder(&servers).build()?;
/// # for item in ["2 pairs of shoes", "1 hat", "a discount"] {
/// #     producer.topic("orders")?.send("customer-42", item)?.wait()?;
/// # }
/// # use std::time::Duration;
/// use tidegate::{ConsumeErrorCause, Consumer, StartAt};
///
/// let start = StartAt::Offset(1_000); // The log ends before that.
/// let consumer = Consumer::builder(&servers).topic("orders", start).build()?;
/// let mut poll = || consumer.poll(Duration::from_secs(10)).ok_or("no answer within 10 s");
/// let error = poll()?.unwrap_err();
/// match error.cause() {
///     ConsumeErrorCause::OffsetOutOfRange { .. } => {
///         consumer.seek("orders", 0, StartAt::Earliest);
///     }
///     _ => return Err(error.into()),
/// }
/// assert_eq!(poll()??.first_offset(), 0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeErrorCause {
    /// The log does not have the offset that comes next: retention took it away, or it was never
    /// there. Seek, or say what is to be done with
    /// [`auto_offset_reset`](crate::ConsumerConfig::auto_offset_reset).
    #[error(
        "offset {offset} is not in the log: seek elsewhere, or set auto_offset_reset to earliest \
         or latest"
    )]
    OffsetOutOfRange {
        /// The offset.
        offset: i64,
    },
    /// Records that were read are not in the log any more: a replica leads that never had them (an
    /// unclean election). Others may be at their offsets by now.
    #[error(
        "records before offset {offset} that were read are not in the log any more (an unclean \
         election): it goes on at offset {end}; seek there, or set auto_offset_reset"
    )]
    Truncated {
        /// The offset that would have come next.
        offset: i64,
        /// The log has the same records up to here.
        end: i64,
    },
    /// Brokers say that the topic does not exist, or nobody could be asked for long.
    #[error("the topic cannot be read{}", last_cause(.0))]
    Topic(#[source] Option<Problem>),
    /// A broker does not let this client read it, or speaks no version of what it has to be asked.
    #[error("it cannot be read: {0}")]
    Refused(#[source] Problem),
    /// What is in the log cannot be read. To go on behind it, seek to a later offset.
    #[error("what is at offset {offset} cannot be read: {problem}")]
    Unreadable {
        /// Where the batch begins, or the first offset in it that was not handed out.
        offset: i64,
        /// The offset after the batch, where that is known: seek there to leave it out.
        next: Option<i64>,
        /// What is wrong with it.
        #[source]
        problem: Problem,
    },
    /// No broker has answered a call of the application's in the time that it gave.
    #[error("not answered within {after:?}{}", last_cause(.problem))]
    TimedOut {
        /// The time that the call was given.
        after: Duration,
        /// What stood in the way last, where that is known.
        #[source]
        problem: Option<Problem>,
    },
    /// An offset is to be committed, or read from where one was, and the consumer has no
    /// [`group_id`](crate::ConsumerConfig::group_id).
    #[error("offsets are committed for a group, and no group_id (group.id) is set")]
    NoGroup,
    /// A partition is to be read from the offset that is committed for its group
    /// ([`StartAt::Committed`](crate::StartAt::Committed)), and none is. Seek, or say what is to be
    /// done with [`auto_offset_reset`](crate::ConsumerConfig::auto_offset_reset).
    #[error(
        "no offset is committed for the group: seek, or set auto_offset_reset to earliest or \
         latest"
    )]
    NoCommittedOffset,
    /// The group has members that read: its offsets are theirs to commit. A consumer of tidegate
    /// commits for groups without members only.
    #[error("the group has members, which commit its offsets: use another group_id ({0})")]
    GroupInUse(#[source] Problem),
    /// A call names a topic of which this consumer reads no partition.
    #[error("this consumer does not read the topic")]
    NotRead,
    /// The consumer was dropped before the call was answered.
    #[error("the consumer was dropped before brokers had answered")]
    Dropped,
    /// [`ConsumerAnswer::wait`](crate::ConsumerAnswer::wait) was called on a thread of this
    /// library's, in a waker for example, where it would wait for itself. The call goes on: await
    /// the future elsewhere.
    #[error("one of tidegate's own threads must not wait for an answer: await the future")]
    OwnThread,
    /// The thread that fetches has ended by a mistake of this library; the log has more.
    #[error("the consumer's thread ended by a mistake of this library")]
    ThreadPanicked,
    /// The process was forked: the child has none of the consumer's threads.
    #[error("this process is a fork of the one that built the consumer: build a new one here")]
    Forked,
}

impl ConsumeError {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition, if it is of one.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// Why.
    pub fn cause(&self) -> &ConsumeErrorCause {
        &self.cause
    }
}

impl fmt::Display for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)?;
        if let Some(partition) = self.partition {
            write!(f, "-{partition}")?;
        }
        match self.topic.is_empty() {
            true => self.cause.fmt(f),
            false => write!(f, ": {}", self.cause),
        }
    }
}

/// Its sentence: what a program prints that ends with it.
impl fmt::Debug for ConsumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsumeError({self})")
    }
}

impl std::error::Error for ConsumeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}
