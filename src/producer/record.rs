//! A record with everything that Kafka lets one have.

use super::payload::Payload;
use crate::engine::protocol::records::Header;

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

    /// Sets the record's timestamp, in milliseconds since the Unix epoch; a negative one is refused
    /// by `send`. A topic with `message.timestamp.type=LogAppendTime` replaces it.
    #[must_use]
    pub fn timestamp(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
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

    /// Key and value, for handing them back.
    pub fn into_payloads(self) -> (Payload<'a>, Payload<'a>) {
        (self.key, self.value)
    }
}

/// What can be a header's value: borrowed bytes or text, or null as `()` or `None`.
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
    use bytes::Bytes;

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
    fn an_empty_record_is_all_null_and_takes_no_memory() {
        let record = Record::new();
        assert!(record.key_payload().is_null() && record.value_payload().is_null());
        assert_eq!((record.timestamp_ms(), record.partition_index()), (None, None));
        assert_eq!(record.headers.capacity(), 0);
    }
}
