//! The records of a batch, decoded.

use bytes::Bytes;

use super::batch::{BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, PREFIX_BYTES};
use super::decompress;

/// A record as it lies in a partition of the embedded cluster: decoded, decompressed.
///
/// ```
/// # use tidegate::{Producer, Record, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let tombstone = Record::new().key("customer-42").header("source", "shelf 7");
/// producer.topic("orders")?.send_record(tombstone)?.wait()?;
///
/// let record = &cluster.records("orders", 0)[0];
/// assert_eq!((record.offset, record.value.as_deref()), (0, None));
/// assert_eq!(record.key.as_deref(), Some(&b"customer-42"[..]));
/// assert_eq!(record.headers[0].0, "source");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddedRecord {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch: the producer's, or the broker's in a topic with log append
    /// time.
    pub timestamp: i64,
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<Bytes>,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
    /// The headers in their order, doubled keys included.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The producer id of its batch, -1 for none.
    pub producer_id: i64,
    /// The producer epoch of its batch, -1 for none.
    pub producer_epoch: i16,
    /// Its own sequence number, -1 for none.
    pub sequence: i32,
}

/// Decodes a stored batch, whose contents were validated when it was appended.
pub(super) fn decode(
    header: &BatchHeader,
    bytes: &Bytes,
    base_offset: i64,
    append_time: Option<i64>,
    out: &mut Vec<EmbeddedRecord>,
) -> Result<(), &'static str> {
    let payload = decompress::decompress(header.codec(), &bytes.slice(HEADER_BYTES..))?;
    walk(header, &payload, |mut record| {
        record.offset += base_offset;
        if let Some(time) = append_time {
            record.timestamp = time;
        }
        out.push(record);
    })
}

/// The records of a message set as one plain batch, for a reader that takes no other format. Their
/// offsets count from 0 and they have no headers. The first offset and the leader's epoch are 0.
pub(super) fn encode(messages: &[EmbeddedRecord]) -> Vec<u8> {
    let base_timestamp = messages.first().map_or(-1, |first| first.timestamp);
    let max_timestamp = messages.iter().map(|it| it.timestamp).max().unwrap_or(-1);
    let mut out = vec![0; HEADER_BYTES];
    let mut record = Vec::new();
    for message in messages {
        record.clear();
        record.push(0);
        put_varint(&mut record, message.timestamp.wrapping_sub(base_timestamp));
        put_varint(&mut record, message.offset);
        for field in [&message.key, &message.value] {
            put_varint(&mut record, field.as_ref().map_or(-1, |bytes| bytes.len() as i64));
            record.extend_from_slice(field.as_deref().unwrap_or_default());
        }
        put_varint(&mut record, 0);
        put_varint(&mut out, record.len() as i64);
        out.extend_from_slice(&record);
    }
    let count = messages.len() as i32;
    let length = (out.len() - PREFIX_BYTES) as i32;
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &length.to_be_bytes());
    put(16, &[2]);
    put(23, &(messages.last().map_or(-1, |last| last.offset) as i32).to_be_bytes());
    put(27, &base_timestamp.to_be_bytes());
    put(35, &max_timestamp.to_be_bytes());
    put(43, &(-1i64).to_be_bytes());
    put(51, &(-1i16).to_be_bytes());
    put(53, &(-1i32).to_be_bytes());
    put(57, &count.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&out[CRC_COVERS_FROM..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Calls `each` with every record of a payload; offsets are relative to the batch.
pub(super) fn walk(
    header: &BatchHeader,
    payload: &Bytes,
    mut each: impl FnMut(EmbeddedRecord),
) -> Result<(), &'static str> {
    let mut cursor = Cursor { bytes: payload, at: 0, end: payload.len() };
    for index in 0..header.record_count {
        let record = cursor.record(header)?;
        if record.offset != i64::from(index) {
            return Err("offset deltas are not consecutive");
        }
        each(record);
    }
    match cursor.at == cursor.end {
        true => Ok(()),
        false => Err("bytes after the last record"),
    }
}

struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn record(&mut self, header: &BatchHeader) -> Result<EmbeddedRecord, &'static str> {
        let size = usize::try_from(self.varint()?).map_err(|_| "a negative record length")?;
        if size > self.end - self.at {
            return Err("a record longer than its batch");
        }
        let mut body = Cursor { bytes: self.bytes, at: self.at, end: self.at + size };
        self.at += size;
        body.byte()?; // Attributes, of which none is defined.
        let timestamp_delta = body.varint()?;
        let offset_delta = body.varint()?;
        let key = body.nullable_bytes()?;
        let value = body.nullable_bytes()?;
        let headers = body.headers()?;
        if body.at != body.end {
            return Err("a record shorter than it says");
        }
        let sequence = match header.producer_id {
            id if id < 0 => -1,
            _ => header.base_sequence.wrapping_add(offset_delta as i32) & i32::MAX,
        };
        Ok(EmbeddedRecord {
            offset: offset_delta,
            timestamp: header.base_timestamp.wrapping_add(timestamp_delta),
            key,
            value,
            headers,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            sequence,
        })
    }

    fn headers(&mut self) -> Result<Vec<(String, Option<Bytes>)>, &'static str> {
        let count = usize::try_from(self.varint()?).map_err(|_| "a negative header count")?;
        // A header takes two bytes at least.
        if count > (self.end - self.at) / 2 {
            return Err("more headers than bytes");
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = self.nullable_bytes()?.ok_or("a header key that is null")?;
            let key = String::from_utf8(key.to_vec()).map_err(|_| "a header key is not UTF-8")?;
            headers.push((key, self.nullable_bytes()?));
        }
        Ok(headers)
    }

    fn nullable_bytes(&mut self) -> Result<Option<Bytes>, &'static str> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "a negative length")?;
        if length > self.end - self.at {
            return Err("a field longer than its record");
        }
        let bytes = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(Some(bytes))
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        if self.at == self.end {
            return Err("a record ends too early");
        }
        self.at += 1;
        Ok(self.bytes[self.at - 1])
    }

    /// A zigzag varint of up to 64 bits.
    fn varint(&mut self) -> Result<i64, &'static str> {
        let mut raw = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        Err("a varint of more than ten bytes")
    }
}
