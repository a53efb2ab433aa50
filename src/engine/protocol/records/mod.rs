//! Record batches, format v2 (KIP-98): the bytes a record becomes, and back; and the message sets
//! that batches become for brokers before Kafka 0.11 (`message_set`).
//!
//! Fed by `batch/`, which encodes each record once, straight into pool segments
//! ([`encode_contiguous`], [`encode_spanning`]), and writes the 61-byte header when a batch is
//! sealed and again whenever its identity or sequence change ([`BatchHeader::write`]). Feeds the
//! Produce request with finished bytes. [`Records`] is the way back, by which a close hands records
//! back. `RecordBatchReader` reads whole batches; the producer does not need it, tests do.
//!
//! One record: its length, an attributes byte, the differences of its timestamp and offset to the
//! batch's, its key, value and headers. All numbers but the attributes are zigzag varints; a length
//! of -1 is null.

mod checksum;
mod encode;
mod head;
mod header;
mod message_set;
mod messages;
mod plain;
mod reader;
mod record;
mod size;
mod slices;
mod varint;

use std::fmt;

#[cfg(feature = "internals")]
pub use checksum::combine_crc;
pub use checksum::records_crc;
#[cfg(feature = "internals")]
pub use encode::ScatterWriter;
pub use encode::{encode_contiguous, encode_spanning};
pub use head::{RECORD_HEAD_LEN_MAX, RecordHead};
pub use header::{BATCH_HEADER_LEN, BatchHeader, TimestampType};
pub use message_set::{
    MESSAGE_HEAD_MAX, MESSAGE_OVERHEAD_MAX, MESSAGE_SET_GROWTH_MAX, MessageSetChunks,
    MessageSetCursor, MessageSetSurvey, MessageSource, RECORD_GROWTH_MAX, RecordFormat,
    records_of_message_set,
};
pub use messages::{MessageRun, read_messages};
pub use plain::{PLAIN_PAYLOAD_MAX, encode_plain};
pub use reader::{BatchError, RecordBatchReader};
#[cfg(feature = "internals")]
pub use record::{BadRecord, Record};
pub use record::{Headers, Records};
#[cfg(feature = "internals")]
pub use size::max_size;
pub use size::{PLAIN_BATCH_OVERHEAD_MAX, RecordSize, single_record_batch_size};

/// A header of a record (KIP-82). Keys may repeat; their order is kept.
///
/// ```
/// use tidegate::{Header, Record};
///
/// let record = Record::new().value("paid").header("source", "shelf 7").header("source", ());
/// let source = |value| Header { key: "source", value };
/// assert_eq!(record.headers(), [source(Some(b"shelf 7")), source(None)]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, never null.
    pub key: &'a str,
    /// The value; `None` is null, which is not the same as empty.
    pub value: Option<&'a [u8]>,
}

/// What a user gives as a record, borrowed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordParts<'a> {
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [Header<'a>],
}

impl RecordParts<'_> {
    /// Bytes of what the user gave: key, value, headers.
    #[inline]
    pub fn payload_len(&self) -> usize {
        let headers = self.headers.iter().map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len));
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers.sum::<usize>()
    }
}

/// Shows how many bytes there are, and never which: what users send is not for logs, and errors
/// with records in them end up there.
pub(crate) struct Length<'a>(pub Option<&'a [u8]>);

impl fmt::Debug for Length<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("null"),
            Some(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

impl fmt::Debug for Header<'_> {
    /// Its value's length only: it may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("key", &self.key)
            .field("value", &Length(self.value))
            .finish()
    }
}

impl fmt::Debug for RecordParts<'_> {
    /// Lengths only: the bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordParts")
            .field("key", &Length(self.key))
            .field("value", &Length(self.value))
            .field("headers", &self.headers)
            .finish()
    }
}
