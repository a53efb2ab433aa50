//! The records of a batch, decoded.

use bytes::Bytes;

use super::batch::{BatchHeader, HEADER_BYTES};
use super::decompress;

/// A record as it lies in a partition of the embedded cluster: decoded, decompressed.
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
