//! Code of the application's that sees each record before it is encoded, and what becomes of it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{Header, Length, RecordParts};
use crate::error::{DeliveryError, SendErrorKind};

/// Sees each record of a producer before it is encoded, may change it, and may ask to hear what
/// becomes of it: for headers that carry a trace, for audits, for counting. Java's
/// `ProducerInterceptor`.
///
/// Closures `Fn(&mut InterceptedRecord<'_>) -> Option<OnOutcome>` are interceptors too. They are
/// called in the order in which they were given to
/// [`ProducerBuilder::interceptor`](crate::ProducerBuilder::interceptor); each sees what those
/// before it have changed. A panic in one is logged, and the record goes on as it was before it.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::{Duration, Instant};
///
/// use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{InterceptedRecord, OnOutcome, Producer};
///
/// let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// let tracing = |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
///     record.add_header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
///     let began = Instant::now();
///     Some(Box::new(move |outcome| println!("{outcome:?} after {:?}", began.elapsed())))
/// };
/// let producer =
///     Producer::builder(&cluster.bootstrap_servers()).interceptor(tracing).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// producer.close(Duration::from_secs(10)).wait()?;
/// assert_eq!(cluster.records("orders", 0)[0].headers[0].0, "traceparent");
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
pub trait Interceptor: Send + Sync {
    /// A record is about to be sent. Called on the sending thread, or in the sending task, outside
    /// of any lock and before the partitioner; once for each record, however often its batch is
    /// sent. What is returned is called once with the record's outcome: on the thread of the
    /// producer's that calls [`Delivery::on_complete`](crate::Delivery::on_complete)'s closures
    /// too; or at once, where `send` refuses the record. It is dropped uncalled with a task that is
    /// dropped while it waits for room in `send_async`, which has sent nothing. It counts against
    /// [`ProducerConfig::callbacks_max`](crate::ProducerConfig::callbacks_max): beyond that it is
    /// dropped, with a warning.
    fn on_send(&self, record: &mut InterceptedRecord<'_>) -> Option<OnOutcome>;
}

/// What an interceptor does once a record's outcome is known.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::sync::mpsc;
/// use tidegate::{InterceptedRecord, OnOutcome};
///
/// let (outcomes, received) = mpsc::channel();
/// let audit = move |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
///     let (outcomes, key) = (outcomes.clone(), record.key()?.to_vec());
///     Some(Box::new(move |outcome| drop(outcomes.send((key, format!("{outcome:?}"))))))
/// };
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).interceptor(audit).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let expected = (b"customer-42".to_vec(), "acknowledged: orders-0@0".to_owned());
/// assert_eq!(received.recv()?, expected);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type OnOutcome = Box<dyn FnOnce(&RecordOutcome<'_>) + Send>;

/// What became of a record, for an [`Interceptor`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::sync::mpsc;
/// # use tidegate::{InterceptedRecord, OnOutcome, RecordOutcome};
/// let (offsets, received) = mpsc::channel();
/// let follow = move |_: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
///     let offsets = offsets.clone();
///     Some(Box::new(move |outcome| match outcome {
///         RecordOutcome::Acknowledged { offset, .. } => drop(offsets.send(*offset)),
///         RecordOutcome::Failed(error) => eprintln!("{error}"),
///         other => eprintln!("{other:?}"),
///     }))
/// };
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).interceptor(follow).build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(received.recv()?, Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum RecordOutcome<'a> {
    /// It is in the log.
    Acknowledged {
        /// Its topic.
        topic: &'a str,
        /// Its partition.
        partition: i32,
        /// Its offset, as [`RecordMetadata::offset`](crate::RecordMetadata::offset).
        offset: Option<i64>,
        /// Its timestamp, in milliseconds since the Unix epoch.
        timestamp: i64,
    },
    /// It was accepted, and failed.
    Failed(&'a DeliveryError),
    /// `send` refused it: it is in no buffer and will never be written.
    Refused(&'a SendErrorKind),
}

impl fmt::Debug for RecordOutcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordOutcome::Acknowledged { topic, partition, offset: Some(offset), .. } => {
                write!(f, "acknowledged: {topic}-{partition}@{offset}")
            }
            RecordOutcome::Acknowledged { topic, partition, .. } => {
                write!(f, "acknowledged: {topic}-{partition}")
            }
            RecordOutcome::Failed(error) => write!(f, "failed: {error}"),
            RecordOutcome::Refused(kind) => write!(f, "refused: {kind}"),
        }
    }
}

impl<F> Interceptor for F
where
    F: Fn(&mut InterceptedRecord<'_>) -> Option<OnOutcome> + Send + Sync,
{
    fn on_send(&self, record: &mut InterceptedRecord<'_>) -> Option<OnOutcome> {
        self(record)
    }
}

/// A header, borrowed or owned.
type AnyHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// A record on its way to be encoded: [`Interceptor::on_send`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// use tidegate::{InterceptedRecord, OnOutcome, Record};
///
/// // Whatever code sends it, this header does not leave the process.
/// let strip = |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
///     record.remove_headers("debug");
///     None
/// };
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).interceptor(strip).build()?;
/// let record = Record::new().value("paid").header("debug", "by hand");
/// producer.topic("orders")?.send_record(record)?.wait()?;
/// assert!(cluster.records("orders", 0)[0].headers.is_empty());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct InterceptedRecord<'a> {
    topic: &'a str,
    key: Option<Cow<'a, [u8]>>,
    value: Option<Cow<'a, [u8]>>,
    headers: Vec<AnyHeader<'a>>,
    timestamp: Option<i64>,
    partition: Option<i32>,
}

impl<'a> InterceptedRecord<'a> {
    pub(crate) fn new(
        topic: &'a str,
        parts: &RecordParts<'a>,
        timestamp: Option<i64>,
        partition: Option<PartitionId>,
    ) -> Self {
        let header = |header: &Header<'a>| (Cow::from(header.key), header.value.map(Cow::from));
        InterceptedRecord {
            topic,
            key: parts.key.map(Cow::from),
            value: parts.value.map(Cow::from),
            headers: parts.headers.iter().map(header).collect(),
            timestamp,
            partition: partition.map(|partition| partition.0),
        }
    }

    /// Its topic.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// Its key; `None` for a null key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// Its value; `None` for a null value.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// Its headers, in order: names, and values or null.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (&**name, value.as_deref()))
    }

    /// The timestamp that it was given, in milliseconds since the Unix epoch. `None`: it gets the
    /// time of sending.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp
    }

    /// The partition that it names; else the partitioner chooses one.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// Adds a header behind those that there are.
    pub fn add_header(&mut self, name: impl Into<Cow<'static, str>>, value: impl AsRef<[u8]>) {
        self.headers.push((name.into(), Some(value.as_ref().to_vec().into())));
    }

    /// Removes the headers of this name. Returns how many there were.
    pub fn remove_headers(&mut self, name: &str) -> usize {
        let before = self.headers.len();
        self.headers.retain(|header| header.0 != name);
        before - self.headers.len()
    }

    /// Replaces the key; `None` makes it null.
    pub fn set_key(&mut self, key: Option<Bytes>) {
        self.key = key.map(|key| Vec::from(key).into());
    }

    /// Replaces the value; `None` makes it null.
    pub fn set_value(&mut self, value: Option<Bytes>) {
        self.value = value.map(|value| Vec::from(value).into());
    }

    /// Sets the timestamp, in milliseconds since the Unix epoch.
    pub fn set_timestamp(&mut self, milliseconds: i64) {
        self.timestamp = Some(milliseconds);
    }

    /// Sends it to this partition; `None` lets the partitioner choose.
    pub fn set_partition(&mut self, partition: Option<i32>) {
        self.partition = partition;
    }

    /// The headers as they are encoded.
    pub(crate) fn encoded_headers(&self) -> Vec<Header<'_>> {
        self.headers().map(|(key, value)| Header { key, value }).collect()
    }

    pub(crate) fn parts<'s>(&'s self, headers: &'s [Header<'s>]) -> RecordParts<'s> {
        RecordParts { key: self.key(), value: self.value(), headers }
    }

    /// The same record, to go back to if an interceptor panics half-way.
    pub(crate) fn copy(&self) -> Self {
        InterceptedRecord {
            topic: self.topic,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
            timestamp: self.timestamp,
            partition: self.partition,
        }
    }
}

impl fmt::Debug for InterceptedRecord<'_> {
    /// Lengths only: the bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterceptedRecord")
            .field("topic", &self.topic)
            .field("key", &Length(self.key()))
            .field("value", &Length(self.value()))
            .field("headers", &self.headers.len())
            .field("timestamp", &self.timestamp)
            .field("partition", &self.partition)
            .finish()
    }
}
