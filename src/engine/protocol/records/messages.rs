//! Reading messages of before Kafka 0.11, as brokers still keep them.
//!
//! A broker hands a log out as it was written, so a topic that is older than its brokers has
//! messages of magic 0 (Kafka 0.8 and 0.9) or 1 (0.10, KIP-32) in front of its record batches. Each
//! has an offset, a size and a CRC-32 of its own (Kafka's protocol guide, "Message sets"). The
//! value of a compressed message is a set of messages. The offsets in there are the true ones in
//! magic 0; in magic 1 they count from the first of the set (KIP-31), and the compressed message
//! has the offset of the last.
//!
//! What is read becomes the records of a batch, so that nobody behind this needs to know of it. A
//! message takes more bytes than the record that it becomes.

use super::header::{BatchHeader, TimestampType};
use super::message_set::{take, take_nullable};
use super::reader::BatchError;
use super::size::RecordSize;
use super::{RecordParts, encode_contiguous};
use crate::engine::protocol::compression::{Codec, decompress};

/// Set in the attributes if the broker set the timestamp.
const LOG_APPEND_TIME: u8 = 1 << 3;

/// One message, nothing but its lengths checked.
#[derive(Clone, Copy)]
struct Message<'a> {
    offset: i64,
    crc: u32,
    /// What the CRC is of.
    checked: &'a [u8],
    magic: u8,
    attributes: u8,
    /// -1 in magic 0, which has none.
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Takes the message at the front of `rest`.
    fn take(rest: &mut &'a [u8]) -> Result<Message<'a>, BatchError> {
        Message::try_take(rest).ok_or(BatchError::Message("its lengths do not fit together"))
    }

    fn try_take(rest: &mut &'a [u8]) -> Option<Message<'a>> {
        let offset = i64::from_be_bytes(*take(rest, 8)?.first_chunk()?);
        let size = u32::from_be_bytes(*take(rest, 4)?.first_chunk()?);
        let mut body = take(rest, size as usize)?;
        let crc = u32::from_be_bytes(*take(&mut body, 4)?.first_chunk()?);
        let checked = body;
        let [magic, attributes] = *take(&mut body, 2)?.first_chunk()?;
        let timestamp = match magic {
            0 => -1,
            _ => i64::from_be_bytes(*take(&mut body, 8)?.first_chunk()?),
        };
        let (key, value) = (take_nullable(&mut body)?, take_nullable(&mut body)?);
        Some(Message { offset, crc, checked, magic, attributes, timestamp, key, value })
    }

    fn is_log_append_time(&self) -> bool {
        self.magic > 0 && self.attributes & LOG_APPEND_TIME != 0
    }

    fn codec(&self) -> Result<Codec, BatchError> {
        let codec = Codec::from_attributes(i16::from(self.attributes));
        codec.ok_or(BatchError::UnknownCodec(self.attributes & 7))
    }

    fn check(&self) -> Result<(), BatchError> {
        let computed = crc32fast::hash(self.checked);
        match computed == self.crc {
            true => Ok(()),
            false => Err(BatchError::MessageCrc { computed, named: self.crc }),
        }
    }
}

/// Messages that follow each other and become one batch: a compressed one, or several that are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRun {
    /// Bytes.
    pub len: usize,
    /// The offset of the last.
    pub last_offset: i64,
}

impl MessageRun {
    /// The run at the front of `bytes`, which begin with a whole message of magic 0 or 1.
    pub fn at_front(bytes: &[u8]) -> Result<MessageRun, BatchError> {
        let mut rest = bytes;
        let first = Message::take(&mut rest)?;
        let mut run = MessageRun { len: bytes.len() - rest.len(), last_offset: first.offset };
        // A damaged one is a run of its own: what is good before and behind it can be read.
        if first.codec()? != Codec::None || first.check().is_err() {
            return Ok(run);
        }
        // The next one may be cut off, or be a batch.
        while let Some(next) = Message::try_take(&mut rest) {
            let alike = next.magic == first.magic && next.attributes == first.attributes;
            let same_time = !first.is_log_append_time() || next.timestamp == first.timestamp;
            let distance = next.offset.checked_sub(first.offset);
            let fits = distance.is_some_and(|distance| i32::try_from(distance).is_ok());
            let is_behind = next.offset > run.last_offset;
            if !(alike && same_time && fits && is_behind && next.check().is_ok()) {
                break;
            }
            run = MessageRun { len: bytes.len() - rest.len(), last_offset: next.offset };
        }
        Ok(run)
    }
}

/// Reads a [`MessageRun`] as a batch, which belongs to no producer and to no transaction. What is
/// compressed may take at most `decompressed_max` bytes; the records take no more than the
/// messages.
///
/// # Errors
///
/// Any [`BatchError`] that is not about batches.
pub fn read_messages(
    run: &[u8],
    decompressed_max: usize,
) -> Result<(BatchHeader, Vec<u8>), BatchError> {
    let first = Message::take(&mut { run })?;
    let codec = first.codec()?;
    if codec == Codec::None {
        return gather(run, &first, None);
    }
    first.check()?;
    let value =
        first.value.ok_or(BatchError::Message("it is compressed, and its value is null"))?;
    let set = decompress(codec, value, decompressed_max)?;
    gather(&set, &first, Some(&first))
}

/// The records of a set of plain messages like `model`, which came within `wrapper` if there is
/// one.
fn gather(
    set: &[u8],
    model: &Message<'_>,
    wrapper: Option<&Message<'_>>,
) -> Result<(BatchHeader, Vec<u8>), BatchError> {
    let (mut rest, mut bounds, mut max_timestamp) = (set, None, i64::MIN);
    while !rest.is_empty() {
        let message = Message::take(&mut rest)?;
        message.check()?;
        if message.magic != model.magic || message.codec()? != Codec::None {
            return Err(BatchError::Message("one of another kind is in the same set"));
        }
        let (first, last, timestamp) = bounds.unwrap_or((message.offset, -1, message.timestamp));
        if bounds.is_some() && message.offset <= last {
            return Err(BatchError::Message("its offset is not above that of the one before"));
        }
        bounds = Some((first, message.offset, timestamp));
        max_timestamp = max_timestamp.max(message.timestamp);
    }
    let (first, last, base_timestamp) = bounds.ok_or(BatchError::Message("the set is empty"))?;
    let delta = |offset: i64| {
        let delta = offset.checked_sub(first).and_then(|delta| i32::try_from(delta).ok());
        delta.ok_or(BatchError::Message("its offset is too far from the first one's"))
    };
    let (base_offset, last_offset_delta) = match wrapper {
        None => (first, delta(last)?),
        Some(wrapper) if wrapper.magic == 0 && last > wrapper.offset => {
            return Err(BatchError::Message("an offset in it is above its own"));
        }
        Some(wrapper) if wrapper.magic == 0 => (first, delta(wrapper.offset)?),
        Some(wrapper) => (wrapper.offset.saturating_sub(delta(last)?.into()), delta(last)?),
    };
    if base_offset < 0 {
        return Err(BatchError::Message("its offset is negative"));
    }
    let (mut records, mut count, mut rest) = (Vec::with_capacity(set.len()), 0, set);
    while !rest.is_empty() {
        let message = Message::take(&mut rest)?;
        let parts = RecordParts { key: message.key, value: message.value, headers: &[] };
        let place = delta(message.offset)? as u32;
        // It is read with the same arithmetic, so any time comes back as it was.
        let time = message.timestamp.wrapping_sub(base_timestamp);
        let size = RecordSize::of(place, time, &parts);
        let size = size.ok_or(BatchError::Message("it is too large to be a record"))?;
        let at = records.len();
        records.resize(at + size.total, 0);
        encode_contiguous(&mut records[at..], size, place, time, &parts);
        count += 1;
    }
    let timestamps_of = wrapper.unwrap_or(model);
    let is_log_append_time = timestamps_of.is_log_append_time();
    let header = BatchHeader {
        base_offset,
        last_offset_delta,
        timestamp_type: match is_log_append_time {
            true => TimestampType::LogAppendTime,
            false => TimestampType::CreateTime,
        },
        base_timestamp,
        max_timestamp: if is_log_append_time { timestamps_of.timestamp } else { max_timestamp },
        record_count: count,
        records_len: records.len(),
        ..BatchHeader::default()
    };
    Ok((header, records))
}

#[cfg(test)]
mod tests;
