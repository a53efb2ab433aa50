//! A topic and a key, with the partition found once.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;

use super::admission::How;
use super::delivery::Delivery;
use super::payload::Payload;
use super::sending::Sender;
use super::topic::Topic;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::error::SendError;

/// A topic and a key: the cheapest way to send many values of one key. Made by [`Topic::with_key`].
///
/// The partition is found once, and anew when the topic's partitions have changed, by the default
/// partitioner; one of your own is asked for each record, since it may look at the value.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("prices", 6).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let gold = producer.topic("prices")?.with_key("XAU");
/// let first = gold.send("2384.10")?.wait()?;
/// let second = gold.send("2384.35")?.wait()?;
/// assert_eq!(first.partition(), second.partition());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KeyedTopic {
    topic: Topic,
    key: Option<Bytes>,
    /// How many partitions the topic had when the partition was found, and the partition. 0 before.
    found: AtomicU64,
}

impl Topic {
    /// A handle that sends values of one key, which is kept: bytes that are
    /// [shared](Payload::Shared) are not copied.
    ///
    /// ```no_run
    /// # fn example(prices: tidegate::Topic) -> Result<(), tidegate::SendError> {
    /// let gold = prices.with_key("XAU");
    /// gold.send("2384.10")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_key<'k>(&self, key: impl Into<Payload<'k>>) -> KeyedTopic {
        let key = match key.into() {
            Payload::Null => None,
            Payload::Slice(slice) => Some(Bytes::copy_from_slice(slice)),
            shared => shared.into_shared(),
        };
        KeyedTopic { topic: self.clone(), key, found: AtomicU64::new(0) }
    }
}

impl KeyedTopic {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The key; `None` for a null key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Sends a value with the key: as [`Topic::send`].
    ///
    /// # Errors
    /// As [`Topic::send`].
    pub fn send<'v>(&self, value: impl Into<Payload<'v>>) -> Result<Delivery, SendError> {
        self.send_value(How::THREAD, value.into())
    }

    /// Sends a value with the key, and never waits: as [`Topic::try_send`].
    ///
    /// # Errors
    /// As [`Topic::try_send`].
    pub fn try_send<'v>(&self, value: impl Into<Payload<'v>>) -> Result<Delivery, SendError> {
        self.send_value(How::AT_ONCE, value.into())
    }

    /// Sends a value with the key from a task: as [`Topic::send_async`].
    ///
    /// # Errors
    /// As [`Topic::send_async`].
    pub async fn send_async<'v>(
        &self,
        value: impl Into<Payload<'v>>,
    ) -> Result<Delivery, SendError> {
        let value = value.into();
        let parts = self.parts(&value);
        match self.topic.send_keyed_async(self.partition(&parts), &parts).await {
            Ok(delivery) => Ok(delivery),
            Err(kind) => Err(self.topic.refuse(kind, Payload::Null, value)),
        }
    }

    #[inline]
    fn send_value(&self, how: How, value: Payload<'_>) -> Result<Delivery, SendError> {
        let parts = self.parts(&value);
        match self.topic.send_keyed(Sender::Waits(how), self.partition(&parts), &parts) {
            Ok(delivery) => Ok(delivery),
            Err(kind) => Err(self.topic.refuse(kind, Payload::Null, value)),
        }
    }

    #[inline]
    fn parts<'a>(&'a self, value: &'a Payload<'_>) -> RecordParts<'a> {
        RecordParts { key: self.key.as_deref(), value: value.as_option(), headers: &[] }
    }

    /// Where the default partitioner puts the key; `None` where the partitioner must be asked for
    /// each record, or the topic is not known yet.
    #[inline]
    fn partition(&self, parts: &RecordParts<'_>) -> Option<PartitionId> {
        let count = self.topic.partitions();
        let found = self.found.load(Relaxed);
        if found >> 32 == count as u64 && count > 0 {
            return Some(PartitionId(found as u32 as i32));
        }
        self.find(count, parts)
    }

    #[cold]
    fn find(&self, count: i32, parts: &RecordParts<'_>) -> Option<PartitionId> {
        let partition = self.topic.partition_of_key(parts.key?)?;
        if count > 0 && partition.0 < count {
            self.found.store((count as u64) << 32 | partition.0 as u64, Relaxed);
            return Some(partition);
        }
        None
    }
}

impl fmt::Debug for KeyedTopic {
    /// The key's length only: its bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedTopic")
            .field("topic", &self.topic.name())
            .field("key_len", &self.key.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}
