//! Message sets: what brokers before Kafka 0.11 take in place of record batches.
//!
//! A set is a run of messages, each with its offset, its size and a CRC-32 of its own (Kafka's
//! protocol guide, "Message sets"). Kafka 0.8 and 0.9 take messages of magic 0; those of magic 1
//! have a timestamp (KIP-32, Kafka 0.10). A compressed set is one message, the wrapper, whose value
//! is a set of its own.
//!
//! Batches stay encoded as record batches. [`MessageSetCursor`] writes the set that a batch comes
//! to while its request is sent, a piece at a time, so a batch takes no more memory for being sent
//! to an old broker, and can go to a newer one afterwards.

use super::RecordParts;
use super::head::{RECORD_HEAD_LEN_MAX, RecordHead};
use super::size::RecordSize;
use super::slices::SliceReader;
use super::varint::{VARINT_LEN_MAX, length_len, take_i32};
use crate::engine::protocol::compression::Chunks;

/// How a Produce request carries a batch's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordFormat {
    /// Messages of magic 0: no timestamps.
    MessagesV0,
    /// Messages of magic 1 (KIP-32).
    MessagesV1,
    /// A record batch (KIP-98).
    #[default]
    Batch,
}

impl RecordFormat {
    /// What a version of Produce carries.
    pub fn of_produce(version: i16) -> RecordFormat {
        match version {
            ..2 => RecordFormat::MessagesV0,
            2 => RecordFormat::MessagesV1,
            3.. => RecordFormat::Batch,
        }
    }

    /// Whether records become a message set.
    pub fn is_message_set(self) -> bool {
        self != RecordFormat::Batch
    }

    fn has_timestamps(self) -> bool {
        self != RecordFormat::MessagesV0
    }
}

/// Offset and size in front of a message, which its size does not count.
const LOG_OVERHEAD: usize = 8 + 4;

/// Bytes of a message besides its key and value, offset and size included.
const fn overhead(timestamps: bool) -> usize {
    // CRC, magic, attributes, timestamp, length of the key, length of the value.
    LOG_OVERHEAD + 4 + 1 + 1 + if timestamps { 8 } else { 0 } + 4 + 4
}

/// Bytes of a message up to its key: less room [`MessageSetCursor::write`] may leave unused.
pub const MESSAGE_HEAD_MAX: usize = overhead(true) - 4;

/// The least bytes that a record takes in a batch: seven numbers of one byte.
const RECORD_LEN_MIN: usize = 7;

/// Bytes of a message besides its key and value.
pub const MESSAGE_OVERHEAD_MAX: usize = overhead(true);

/// A record takes at most so many bytes more in a message set than in a batch.
pub const RECORD_GROWTH_MAX: usize = MESSAGE_OVERHEAD_MAX - RECORD_LEN_MIN;

/// A set is at most this many times as long as its batch.
pub const MESSAGE_SET_GROWTH_MAX: usize = 5;
const _: () = assert!(MESSAGE_OVERHEAD_MAX <= RECORD_LEN_MIN * MESSAGE_SET_GROWTH_MAX);

/// What is to be written as a message set.
#[derive(Clone, Debug)]
pub struct MessageSource<I> {
    /// Its records as a batch has them, without the batch's header, slice by slice; or, compressed,
    /// the set that the wrapper holds.
    pub slices: I,
    /// How many records there are.
    pub records: u32,
    /// The codec's number if `slices` are compressed already, else 0.
    pub codec: u8,
    /// The batch's base timestamp, in milliseconds.
    pub base_timestamp: i64,
    /// The latest timestamp, which the wrapper has.
    pub max_timestamp: i64,
}

/// What a message set will be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageSetSurvey {
    /// Its length in bytes.
    pub len: usize,
    /// The records, by their place, whose headers no message can have.
    pub with_headers: Vec<u32>,
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> MessageSource<I> {
    /// How long the set will be.
    pub fn survey(&self, format: RecordFormat) -> MessageSetSurvey {
        let overhead = overhead(format.has_timestamps());
        if self.codec != 0 {
            let value: usize = self.slices.clone().map(<[u8]>::len).sum();
            return MessageSetSurvey { len: overhead + value, with_headers: Vec::new() };
        }
        let mut survey = MessageSetSurvey::default();
        let mut reader = SliceReader::new(self.slices.clone());
        for place in 0..self.records {
            let record = Record::read(&mut reader);
            survey.len += overhead + record.key.unwrap_or(0) + record.value.unwrap_or(0);
            if record.headers > 0 {
                survey.with_headers.push(place);
            }
        }
        survey
    }
}

/// What a record holds, in bytes, and its number of headers.
struct Record {
    key: Option<usize>,
    value: Option<usize>,
    headers: usize,
}

const ENCODED_HERE: &str = "the batch holds what was encoded into it";

impl Record {
    /// Reads a record and moves behind it.
    fn read<'a>(reader: &mut SliceReader<'a, impl Iterator<Item = &'a [u8]> + Clone>) -> Record {
        let head = take_head(reader);
        let (key, key_at) = take_length(reader);
        reader.skip(key.unwrap_or(0));
        let (value, value_at) = take_length(reader);
        reader.skip(value.unwrap_or(0));
        let (headers, _) = take_length(reader);
        let read = key_at + key.unwrap_or(0) + value_at + value.unwrap_or(0);
        let behind_value = head.rest - read - length_len(headers.unwrap_or(0));
        reader.skip(behind_value);
        Record { key, value, headers: headers.unwrap_or(0) }
    }
}

fn take_head<'a>(
    reader: &mut SliceReader<'a, impl Iterator<Item = &'a [u8]> + Clone>,
) -> RecordHead {
    let mut bytes = [0; RECORD_HEAD_LEN_MAX];
    let peeked = reader.peek(&mut bytes);
    let head = RecordHead::read(&bytes[..peeked]).expect(ENCODED_HERE);
    reader.skip(head.len);
    head
}

/// A length of key or value, where `None` is null, or the number of headers; and the bytes that the
/// number itself takes.
fn take_length<'a>(
    reader: &mut SliceReader<'a, impl Iterator<Item = &'a [u8]> + Clone>,
) -> (Option<usize>, usize) {
    let mut bytes = [0; VARINT_LEN_MAX];
    let peeked = reader.peek(&mut bytes);
    let mut rest = &bytes[..peeked];
    let length = take_i32(&mut rest).expect(ENCODED_HERE);
    let used = peeked - rest.len();
    reader.skip(used);
    (usize::try_from(length).ok(), used)
}

/// How far a message set is written. It goes on where it stopped, so one value writes one set.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessageSetCursor {
    /// Where the next byte to be read is in the source.
    at: usize,
    /// Messages begun.
    begun: u32,
    stage: Stage,
}

/// What comes next in a message set.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    /// A message's first byte, or the set's end.
    #[default]
    Message,
    /// The rest of a key of this length, then a value.
    Key { left: usize, value: Option<usize>, record_end: usize },
    /// The value's length.
    ValueLength { value: Option<usize>, record_end: usize },
    /// The rest of a value of this length.
    Value { left: usize, record_end: usize },
}

impl MessageSetCursor {
    /// Appends to `out` what comes next of the set, up to `room` bytes. Returns whether the set is
    /// at its end. Stops early, by less than [`MESSAGE_HEAD_MAX`], rather than cut a message's
    /// head.
    pub fn write<'a, I: Iterator<Item = &'a [u8]> + Clone>(
        &mut self,
        source: &MessageSource<I>,
        format: RecordFormat,
        out: &mut Vec<u8>,
        room: usize,
    ) -> bool {
        let end = out.len() + room;
        let messages = if source.codec == 0 { source.records } else { 1 };
        let mut reader = SliceReader::new(source.slices.clone());
        reader.skip(self.at);
        loop {
            let room = end - out.len();
            match self.stage {
                Stage::Message if self.begun == messages => return true,
                Stage::Message => {
                    if room < MESSAGE_HEAD_MAX {
                        return false;
                    }
                    self.begin_message(source, &mut reader, format, out);
                }
                Stage::Key { left, value, record_end } => {
                    let part = reader.copy(left.min(room), out);
                    self.at += part;
                    self.stage = match left - part {
                        0 => Stage::ValueLength { value, record_end },
                        left => Stage::Key { left, value, record_end },
                    };
                    if part < left {
                        return false;
                    }
                }
                Stage::ValueLength { value, record_end } => {
                    if room < 4 {
                        return false;
                    }
                    out.extend_from_slice(&nullable_length(value));
                    if source.codec == 0 {
                        self.at += take_length(&mut reader).1;
                    }
                    self.stage = Stage::Value { left: value.unwrap_or(0), record_end };
                }
                Stage::Value { left, record_end } => {
                    let part = reader.copy(left.min(room), out);
                    self.at += part;
                    if part < left {
                        self.stage = Stage::Value { left: left - part, record_end };
                        return false;
                    }
                    // Headers stand behind the value. A set with any is not sent.
                    reader.skip(record_end - self.at);
                    self.at = record_end;
                    self.stage = Stage::Message;
                }
            }
        }
    }

    /// Writes a message up to its key.
    fn begin_message<'a, I: Iterator<Item = &'a [u8]> + Clone>(
        &mut self,
        source: &MessageSource<I>,
        reader: &mut SliceReader<'a, I>,
        format: RecordFormat,
        out: &mut Vec<u8>,
    ) {
        let message = self.next_message(source, reader);
        let (key, value) = (message.key, message.value);
        let offset = match source.codec {
            0 => self.begun,
            // The wrapper has the offset of its last message (KIP-31).
            _ => source.records - 1,
        };
        let size = overhead(format.has_timestamps()) - LOG_OVERHEAD;
        let size = size + key.unwrap_or(0) + value.unwrap_or(0);
        let start = out.len();
        out.extend_from_slice(&u64::from(offset).to_be_bytes());
        out.extend_from_slice(&(size as u32).to_be_bytes());
        let crc_at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[u8::from(format.has_timestamps()), source.codec]);
        if format.has_timestamps() {
            out.extend_from_slice(&message.timestamp.to_be_bytes());
        }
        out.extend_from_slice(&nullable_length(key));
        debug_assert!(out.len() - start <= MESSAGE_HEAD_MAX);

        let mut crc = crc32fast::Hasher::new();
        crc.update(&out[crc_at + 4..]);
        let mut ahead = reader.clone();
        ahead.visit(key.unwrap_or(0), |part| crc.update(part));
        crc.update(&nullable_length(value));
        if source.codec == 0 {
            take_length(&mut ahead);
        }
        ahead.visit(value.unwrap_or(0), |part| crc.update(part));
        out[crc_at..crc_at + 4].copy_from_slice(&crc.finalize().to_be_bytes());

        self.begun += 1;
        self.stage = Stage::Key { left: key.unwrap_or(0), value, record_end: message.record_end };
    }

    /// Reads what stands in front of the next message's key, and looks ahead to its value.
    fn next_message<'a, I: Iterator<Item = &'a [u8]> + Clone>(
        &mut self,
        source: &MessageSource<I>,
        reader: &mut SliceReader<'a, I>,
    ) -> Message {
        if source.codec != 0 {
            let len = source.slices.clone().map(<[u8]>::len).sum();
            let timestamp = source.max_timestamp;
            return Message { timestamp, key: None, value: Some(len), record_end: len };
        }
        let head = take_head(reader);
        let record_end = self.at + head.record_len();
        let (key, key_at) = take_length(reader);
        self.at += head.len + key_at;
        let mut ahead = reader.clone();
        ahead.skip(key.unwrap_or(0));
        let (value, _) = take_length(&mut ahead);
        let timestamp = source.base_timestamp.saturating_add(head.timestamp_delta);
        Message { timestamp, key, value, record_end }
    }
}

/// A message that begins.
struct Message {
    timestamp: i64,
    key: Option<usize>,
    value: Option<usize>,
    /// Where its record ends in the source.
    record_end: usize,
}

fn nullable_length(length: Option<usize>) -> [u8; 4] {
    length.map_or(-1, |length| length as i32).to_be_bytes()
}

/// The plain set of a batch, to be compressed.
#[cfg_attr(
    not(any(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(dead_code, reason = "no codec is built that would ask for chunks")
)]
#[derive(Debug)]
pub struct MessageSetChunks<I> {
    source: MessageSource<I>,
    format: RecordFormat,
    cursor: MessageSetCursor,
    chunk: Vec<u8>,
    at_end: bool,
}

/// Bytes of a chunk: some small messages, so that a codec is not called for each.
const CHUNK_LEN: usize = 8 << 10;

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> MessageSetChunks<I> {
    /// From the first message on.
    pub fn new(source: MessageSource<I>, format: RecordFormat) -> Self {
        let (cursor, chunk) = (MessageSetCursor::default(), Vec::with_capacity(CHUNK_LEN));
        MessageSetChunks { source, format, cursor, chunk, at_end: false }
    }
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> Chunks<'a> for MessageSetChunks<I> {
    fn next_chunk<'s>(&'s mut self) -> Option<&'s [u8]>
    where
        'a: 's,
    {
        if self.at_end {
            return None;
        }
        self.chunk.clear();
        self.at_end = self.cursor.write(&self.source, self.format, &mut self.chunk, CHUNK_LEN);
        Some(&self.chunk)
    }
}

/// A plain message set that this client wrote, as the records of a batch: the way back, for a batch
/// that was compressed for an old broker and then goes to another. Messages without timestamps get
/// `base_timestamp`. `None` if it is no such set.
pub fn records_of_message_set(
    set: &[u8],
    format: RecordFormat,
    base_timestamp: i64,
) -> Option<Vec<u8>> {
    let (mut rest, mut records, mut place) = (set, Vec::new(), 0);
    while !rest.is_empty() {
        let (front, behind) = rest.split_at_checked(LOG_OVERHEAD)?;
        let size = u32::from_be_bytes(*front.last_chunk::<4>()?) as usize;
        let (mut message, behind) = behind.split_at_checked(size)?;
        rest = behind;
        let _crc_magic_attributes = take(&mut message, 4 + 1 + 1)?;
        let timestamp = match format.has_timestamps() {
            true => i64::from_be_bytes(*take(&mut message, 8)?.first_chunk::<8>()?),
            false => base_timestamp,
        };
        let key = take_nullable(&mut message)?;
        let value = take_nullable(&mut message)?;
        let parts = RecordParts { key, value, headers: &[] };
        let delta = timestamp.checked_sub(base_timestamp)?;
        let size = RecordSize::of(place, delta, &parts)?;
        let at = records.len();
        records.resize(at + size.total, 0);
        super::encode_contiguous(&mut records[at..], size, place, delta, &parts);
        place += 1;
    }
    Some(records)
}

pub(super) fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (front, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(front)
}

pub(super) fn take_nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = i32::from_be_bytes(*take(rest, 4)?.first_chunk::<4>()?);
    match usize::try_from(length) {
        Ok(length) => take(rest, length).map(Some),
        Err(_) => Some(None),
    }
}

#[cfg(test)]
mod tests;
