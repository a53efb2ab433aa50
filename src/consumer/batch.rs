//! Batches and their records, as a consumer gets them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::engine::fetch::FetchedBatch;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{
    BATCH_HEADER_LEN, BatchError, BatchHeader, Header, Headers, Length, RecordBatchReader, Records,
    TimestampType, read_messages,
};
use crate::error::{ConsumeError, ConsumeErrorCause};
use crate::problem::{Problem, ProblemKind};

/// Records of one partition that follow each other: what a producer sent as one batch, from the
/// first record on that is wanted. (Where producers of before Kafka 0.11 wrote, who had no batches,
/// it is a compressed set, or some messages in a row.) It owns its memory, and its records borrow
/// from it.
///
/// Cloning it copies no record.
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
/// # let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// assert_eq!((batch.topic(), batch.partition(), batch.first_offset()), ("orders", 0, 0));
/// assert_eq!(batch.records().count(), 1);
/// assert_eq!(batch.next_offset(), 1); // what to keep, so as to go on there later
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ConsumedBatch {
    topic: Arc<str>,
    partition: PartitionId,
    header: BatchHeader,
    /// The records, encoded one after the other.
    plain: Bytes,
    from: i64,
}

impl ConsumedBatch {
    /// Checks the batch's CRC, and decompresses its records into at most so many bytes.
    pub(super) fn open(
        topic: Arc<str>,
        partition: PartitionId,
        fetched: &FetchedBatch,
        bytes_max: usize,
    ) -> Result<ConsumedBatch, ConsumeError> {
        match read(fetched, bytes_max) {
            Ok((header, plain)) => {
                Ok(ConsumedBatch { topic, partition, header, plain, from: fetched.from })
            }
            Err(error) => {
                let problem = Problem::new(ProblemKind::Protocol, error);
                let next = Some(fetched.next_offset());
                let cause = ConsumeErrorCause::Unreadable { offset: fetched.from, next, problem };
                Err(ConsumeError { topic, partition: Some(partition.0), cause })
            }
        }
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.partition.0
    }

    /// The offset of its first record, or one before that if that one was compacted away.
    pub fn first_offset(&self) -> i64 {
        self.from.max(self.header.base_offset)
    }

    /// The offset after its last record: where to go on later.
    pub fn next_offset(&self) -> i64 {
        let last = self.header.base_offset.saturating_add(self.header.last_offset_delta.into());
        last.saturating_add(1)
    }

    /// The epoch of the leader that wrote it; -1 where brokers do not say.
    pub fn leader_epoch(&self) -> i32 {
        self.header.partition_leader_epoch
    }

    /// Whether its timestamps are those of the broker that wrote it
    /// (`message.timestamp.type=LogAppendTime`), and not the producer's.
    pub fn is_log_append_time(&self) -> bool {
        self.header.timestamp_type == TimestampType::LogAppendTime
    }

    /// Its records, in order.
    pub fn records(&self) -> ConsumedRecords<'_> {
        ConsumedRecords {
            batch: self,
            records: Records::of_plain(&self.header, &self.plain),
            next: self.from,
        }
    }
}

/// The batch's header, and its records as a batch has them, without compression.
fn read(fetched: &FetchedBatch, bytes_max: usize) -> Result<(BatchHeader, Bytes), BatchError> {
    if fetched.is_messages {
        let (header, plain) = read_messages(&fetched.bytes, bytes_max)?;
        return Ok((header, plain.into()));
    }
    let (header, plain) = RecordBatchReader::read(&fetched.bytes, bytes_max)?.0.into_parts();
    Ok((
        header,
        match plain {
            Cow::Borrowed(_) => fetched.bytes.slice(BATCH_HEADER_LEN..),
            Cow::Owned(plain) => plain.into(),
        },
    ))
}

// What users wrote is shown as lengths.
impl fmt::Debug for ConsumedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumedBatch")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("first_offset", &self.first_offset())
            .field("next_offset", &self.next_offset())
            .field("bytes", &self.plain.len())
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a ConsumedBatch {
    type Item = Result<ConsumedRecord<'a>, ConsumeError>;
    type IntoIter = ConsumedRecords<'a>;

    fn into_iter(self) -> ConsumedRecords<'a> {
        self.records()
    }
}

/// The records of a batch: [`ConsumedBatch::records`]. A record that is not encoded as Kafka's
/// protocol says is an error, and the last item: its producer wrote it so.
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
/// # let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// let values = batch.records().map(|record| record.map(|record| record.value));
/// let values = values.collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(values, [Some(&b"2 pairs of shoes"[..])]);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ConsumedRecords<'a> {
    batch: &'a ConsumedBatch,
    records: Records<'a>,
    /// Records before this offset are not wanted.
    next: i64,
}

impl<'a> Iterator for ConsumedRecords<'a> {
    type Item = Result<ConsumedRecord<'a>, ConsumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.next()? {
                Ok(record) if record.offset < self.batch.from => {}
                Ok(record) => {
                    self.next = record.offset.saturating_add(1);
                    return Some(Ok(ConsumedRecord {
                        offset: record.offset,
                        timestamp_ms: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers,
                    }));
                }
                Err(error) => {
                    let problem = Problem::new(ProblemKind::Protocol, error);
                    let (offset, next) = (self.next, Some(self.batch.next_offset()));
                    let cause = ConsumeErrorCause::Unreadable { offset, next, problem };
                    let (topic, partition) = (self.batch.topic.clone(), self.batch.partition());
                    return Some(Err(ConsumeError { topic, partition: Some(partition), cause }));
                }
            }
        }
    }
}

impl fmt::Debug for ConsumedRecords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumedRecords").field("next", &self.next).finish_non_exhaustive()
    }
}

/// A record that was read, borrowed from its batch.
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
/// # let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// for record in &batch {
///     let record = record?;
///     assert_eq!((record.offset, record.key), (0, Some(&b"customer-42"[..])));
///     assert_eq!(record.headers().len(), 0);
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ConsumedRecord<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp, in milliseconds since the Unix epoch; -1 where it has none, as it was written
    /// before Kafka 0.10 knew them.
    pub timestamp_ms: i64,
    /// Its key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is null (a tombstone).
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> ConsumedRecord<'a> {
    /// Its headers, in order; names may repeat.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'a>> + Clone + use<'a> {
        self.headers.clone()
    }
}

// What users wrote is shown as lengths.
impl fmt::Debug for ConsumedRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumedRecord")
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key", &Length(self.key))
            .field("value", &Length(self.value))
            .field("headers", &self.headers.len())
            .finish()
    }
}
