//! A record with everything that Kafka lets one have.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::payload::Payload;
use crate::engine::protocol::records::{Header, Length};

/// A record to be sent, for callers that need more than a key and a value.
///
/// ```no_run
/// # fn send(topic: &tidegate::Topic, id: &[u8]) -> Result<(), tidegate::SendError> {
/// use tidegate::Record;
///
/// let record = Record::new().key("customer-42").value("paid").header("trace", id);
/// let delivery = topic.send_record(record)?;
/// # drop(delivery);
/// # Ok(())
/// # }
/// ```
///
/// Everything is optional: without a key the partitioner spreads, without a value it is null (a
/// tombstone), without a timestamp it is the time of sending. It borrows what it is given, and
/// takes from the heap only when it has headers.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::Record;
///
/// let record = Record::new().value("restock").header("source", "shelf 7").partition(2);
/// let at = producer.topic("orders")?.send_record(record)?.wait()?;
/// assert_eq!(at.partition(), 2);
/// assert_eq!(cluster.records("orders", 2)[0].headers[0].0, "source");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    key: Payload<'a>,
    value: Payload<'a>,
    headers: Vec<Header<'a>>,
    timestamp: Option<i64>,
    partition: Option<i32>,
    priority: i32,
    tag: u64,
}

impl<'a> Record<'a> {
    /// A record with null key and null value.
    pub fn new() -> Self {
        Record::default()
    }

    /// Sets the key. Records with equal keys go to the same partition, in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Payload<'a>>) -> Self {
        self.key = key.into();
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Payload<'a>>) -> Self {
        self.value = value.into();
        self
    }

    /// Adds a header. Headers keep their order, and names may repeat. A value of `None` is null.
    #[must_use]
    pub fn header<V>(mut self, name: &'a str, value: V) -> Self
    where
        V: IntoHeaderValue<'a>,
    {
        self.headers.push(Header { key: name, value: value.into_header_value() });
        self
    }

    /// Sets the record's timestamp: milliseconds since the Unix epoch, or a
    /// [`SystemTime`]. One before 1970 is refused by `send`. A topic with
    /// `message.timestamp.type=LogAppendTime` replaces it.
    #[must_use]
    pub fn timestamp(mut self, at: impl IntoTimestamp) -> Self {
        self.timestamp = Some(at.into_timestamp_ms());
        self
    }

    /// Sends the record to this partition and asks no partitioner. A negative number is refused by
    /// `send_record`.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets what a [`BackoffStrategy`](crate::BackoffStrategy) finds in
    /// [`Pressure::priority`](crate::Pressure::priority) if there is no room for the record. 0 by
    /// default. tidegate itself prefers no record to another, and does not send it along.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Sets what a [`BackoffStrategy`](crate::BackoffStrategy) finds in
    /// [`Pressure::tag`](crate::Pressure::tag): whatever the application tells its records apart
    /// by, such as a tenant. 0 by default. It is not sent along.
    #[must_use]
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// The key as it was set.
    pub fn key_payload(&self) -> &Payload<'a> {
        &self.key
    }

    /// The value as it was set.
    pub fn value_payload(&self) -> &Payload<'a> {
        &self.value
    }

    /// The headers, in order: name, and value or null.
    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// The timestamp that was set, in milliseconds since the Unix epoch.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp
    }

    /// The partition that was set.
    pub fn partition_index(&self) -> Option<i32> {
        self.partition
    }

    /// The priority that was set, or 0.
    pub fn priority_value(&self) -> i32 {
        self.priority
    }

    /// The tag that was set, or 0.
    pub fn tag_value(&self) -> u64 {
        self.tag
    }

    /// A record that owns all it has, to be kept or passed to another thread.
    pub fn into_owned(self) -> OwnedRecord {
        let headers = self.headers.iter();
        OwnedRecord {
            key: owned(self.key),
            value: owned(self.value),
            headers: headers
                .map(|header| {
                    (header.key.to_owned(), OwnedPayload(header.value.map(Bytes::copy_from_slice)))
                })
                .collect(),
            timestamp: self.timestamp,
            partition: self.partition,
            priority: self.priority,
            tag: self.tag,
        }
    }

    /// Key and value, for handing them back.
    pub fn into_payloads(self) -> (Payload<'a>, Payload<'a>) {
        (self.key, self.value)
    }
}

/// A [`Record`] that borrows nothing: [`Record::into_owned`].
///
/// ```no_run
/// # fn example(topic: tidegate::Topic) -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::mpsc;
/// use tidegate::Record;
///
/// let (sender, receiver) = mpsc::channel();
/// let id = String::from("4bf92f");
/// sender.send(Record::new().value("paid").header("trace", &id).into_owned())?;
/// for record in receiver.try_iter() {
///     drop(topic.send_record(record.as_record())?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::{OwnedRecord, Record};
///
/// // Nothing of it is borrowed, so that it can be kept and sent by another thread.
/// let kept: OwnedRecord = Record::new().key("customer-42").value("paid").into_owned();
/// let orders = producer.topic("orders")?;
/// let sender = std::thread::spawn(move || orders.send_record(kept.as_record()));
/// let delivery = sender.join().expect("it does not panic")?;
/// assert_eq!(delivery.wait()?.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    key: OwnedPayload,
    value: OwnedPayload,
    headers: Vec<(String, OwnedPayload)>,
    timestamp: Option<i64>,
    partition: Option<i32>,
    priority: i32,
    tag: u64,
}

impl OwnedRecord {
    /// The record, borrowed from this one but for its key and value, which are shared: a record
    /// that is not accepted has them in its error.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            key: self.key.shared(),
            value: self.value.shared(),
            headers: self
                .headers
                .iter()
                .map(|(key, value)| Header { key, value: value.0.as_deref() })
                .collect(),
            timestamp: self.timestamp,
            partition: self.partition,
            priority: self.priority,
            tag: self.tag,
        }
    }
}

/// Bytes of a record that owns them, or null. Its `Debug` shows their number only: they may be
/// confidential.
#[derive(Clone, Default, PartialEq, Eq)]
struct OwnedPayload(Option<Bytes>);

impl OwnedPayload {
    fn shared(&self) -> Payload<'static> {
        self.0.clone().map_or(Payload::Null, Payload::Shared)
    }
}

impl std::fmt::Debug for OwnedPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Length(self.0.as_deref()).fmt(f)
    }
}

fn owned(payload: Payload<'_>) -> OwnedPayload {
    OwnedPayload(match payload {
        Payload::Null => None,
        Payload::Slice(slice) => Some(Bytes::copy_from_slice(slice)),
        Payload::Shared(bytes) => Some(bytes),
        Payload::Inline(bytes) => Some(Bytes::copy_from_slice(bytes.as_slice())),
    })
}

/// What can be a record's timestamp.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use tidegate::Record;
///
/// let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000); // a `SystemTime`
/// let record = Record::new().value("paid").timestamp(time);
/// assert_eq!(record.timestamp_ms(), Some(1_700_000_000_000));
/// assert_eq!(record, Record::new().value("paid").timestamp(1_700_000_000_000));
/// ```
pub trait IntoTimestamp {
    /// Milliseconds since the Unix epoch; negative before it.
    fn into_timestamp_ms(self) -> i64;
}

impl IntoTimestamp for i64 {
    fn into_timestamp_ms(self) -> i64 {
        self
    }
}

impl IntoTimestamp for SystemTime {
    fn into_timestamp_ms(self) -> i64 {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        match self.duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            // Before the epoch, if only by a part of a millisecond.
            Err(before) => -millis(before.duration()).max(1),
        }
    }
}

/// What can be a header's value: borrowed bytes or text, or null as `()` or `None`.
///
/// ```
/// use tidegate::{IntoHeaderValue, Record};
///
/// struct TraceId([u8; 16]);
///
/// impl<'a> IntoHeaderValue<'a> for &'a TraceId {
///     fn into_header_value(self) -> Option<&'a [u8]> {
///         Some(&self.0)
///     }
/// }
///
/// let id = TraceId([7; 16]);
/// let record = Record::new().value("paid").header("trace", &id).header("note", ());
/// assert_eq!(record.headers()[0].value, Some(&[7; 16][..]));
/// assert_eq!(record.headers()[1].value, None);
/// ```
pub trait IntoHeaderValue<'a> {
    /// The bytes, or `None` for null.
    fn into_header_value(self) -> Option<&'a [u8]>;
}

impl<'a> IntoHeaderValue<'a> for &'a [u8] {
    fn into_header_value(self) -> Option<&'a [u8]> {
        Some(self)
    }
}

impl<'a, const N: usize> IntoHeaderValue<'a> for &'a [u8; N] {
    fn into_header_value(self) -> Option<&'a [u8]> {
        Some(self)
    }
}

impl<'a> IntoHeaderValue<'a> for &'a Vec<u8> {
    fn into_header_value(self) -> Option<&'a [u8]> {
        Some(self)
    }
}

impl<'a> IntoHeaderValue<'a> for &'a str {
    fn into_header_value(self) -> Option<&'a [u8]> {
        Some(self.as_bytes())
    }
}

impl<'a> IntoHeaderValue<'a> for &'a String {
    fn into_header_value(self) -> Option<&'a [u8]> {
        Some(self.as_bytes())
    }
}

impl<'a> IntoHeaderValue<'a> for () {
    fn into_header_value(self) -> Option<&'a [u8]> {
        None
    }
}

impl<'a, V: IntoHeaderValue<'a>> IntoHeaderValue<'a> for Option<V> {
    fn into_header_value(self) -> Option<&'a [u8]> {
        self.and_then(V::into_header_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_is_given() {
        let record = Record::new()
            .key("k")
            .value(Bytes::from_static(b"v"))
            .header("a", "1")
            .header("null", ())
            .header("empty", b"")
            .header("a", Some("2"))
            .timestamp(-5)
            .partition(7)
            .priority(-1)
            .tag(9);
        assert_eq!(record.key_payload(), &Payload::Slice(b"k"));
        assert_eq!(record.value_payload(), &Payload::Shared(Bytes::from_static(b"v")));
        let headers: Vec<_> = record.headers().iter().map(|h| (h.key, h.value)).collect();
        let expected: [(&str, Option<&[u8]>); 4] =
            [("a", Some(b"1")), ("null", None), ("empty", Some(b"")), ("a", Some(b"2"))];
        assert_eq!(headers, expected);
        assert_eq!((record.timestamp_ms(), record.partition_index()), (Some(-5), Some(7)));
        assert_eq!((record.priority_value(), record.tag_value()), (-1, 9));
        let (_, value) = record.into_payloads();
        assert_eq!(value.into_shared(), Some(Bytes::from_static(b"v")));
    }

    #[test]
    fn debug_shows_lengths_and_no_payload() {
        let shared = Bytes::from_static(b"secret");
        let record = Record::new().key("iban").value(shared).header("trace", "hidden");
        let shown = format!("{record:?}");
        assert!(shown.contains("Slice(4 bytes)") && shown.contains("Shared(6 bytes)"), "{shown}");
        assert!(shown.contains(r#"key: "trace", value: 6 bytes"#), "{shown}");
        for hidden in ["iban", "secret", "hidden"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        assert!(format!("{:?}", Record::new()).contains("key: Null"));
    }

    #[test]
    fn an_owned_record_is_the_same_and_borrows_nothing() {
        let name = String::from("name");
        let shared = Bytes::from_static(b"v");
        let record = Record::new().key(name.as_str()).value(shared.clone()).header(&name, &name);
        let record = record.header("null", ()).timestamp(5).partition(6).priority(7).tag(8);
        let owned: OwnedRecord = record.clone().into_owned();
        assert_eq!(owned.as_record().headers(), record.headers());
        let again = owned.as_record();
        assert_eq!(again.key_payload().as_option(), record.key_payload().as_option());
        assert_eq!(again.clone().into_payloads().1, Payload::Shared(shared));
        assert_eq!((again.timestamp_ms(), again.partition_index()), (Some(5), Some(6)));
        assert_eq!((again.priority_value(), again.tag_value()), (7, 8));
        assert!(Record::new().into_owned().as_record().key_payload().is_null());
        let shown = format!("{owned:?}");
        assert!(shown.contains("4 bytes") && !shown.contains("\"v\""), "{shown}");
    }

    #[test]
    fn a_system_time_is_milliseconds_of_the_epoch() {
        let at = |time: SystemTime| Record::new().timestamp(time).timestamp_ms();
        assert_eq!(at(UNIX_EPOCH + Duration::from_millis(1_234)), Some(1_234));
        assert_eq!(at(UNIX_EPOCH), Some(0));
        assert_eq!(at(UNIX_EPOCH - Duration::from_nanos(1)), Some(-1));
        assert_eq!(at(UNIX_EPOCH - Duration::from_millis(2)), Some(-2));
    }

    #[test]
    fn an_empty_record_is_all_null_and_takes_no_memory() {
        let record = Record::new();
        assert!(record.key_payload().is_null() && record.value_payload().is_null());
        assert_eq!((record.timestamp_ms(), record.partition_index()), (None, None));
        assert_eq!(record.headers.capacity(), 0);
    }
}
