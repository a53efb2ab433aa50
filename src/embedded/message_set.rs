//! Message sets (magic 0 and 1), as Produce carried them before version 3: read whole, judged
//! strictly, and decoded at once.
//!
//! Feeds on the bytes of one partition in a request; gives records to the partition's log. It
//! shares no code with the client's encoder, whose judge it is.

use bytes::{Buf, Bytes};

use super::decompress::{self, Lz4Header};
use super::log::{Refusal, error};
use super::records::EmbeddedRecord;

/// Bytes of a message that its size does not count: offset and the size itself.
const PREFIX_BYTES: usize = 12;
/// Where the magic stands behind these: after the CRC.
const MAGIC_AT: usize = 4;

const ATTRIBUTE_CODEC: i8 = 0x07;
/// Brokers set this in what they store (KIP-32); a client must not.
const ATTRIBUTE_LOG_APPEND_TIME: i8 = 0x08;
/// "Not known", in magic 1.
const NO_TIMESTAMP: i64 = -1;

const CODEC_LZ4: i16 = 3;
const CODEC_ZSTD: i16 = 4;

/// What a broker lets pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The newest format.
    pub magic_max: i8,
    /// `message.max.bytes`, for each message of the set, its prefix included.
    pub message_bytes_max: usize,
}

struct Message {
    offset: i64,
    magic: i8,
    codec: i16,
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

/// The records of a set, their offsets counted from 0. A set is either a number of plain messages
/// or one compressed message around them.
pub(super) fn read(set: &Bytes, limits: Limits) -> Result<Vec<EmbeddedRecord>, Refusal> {
    let mut messages = all(set.clone(), limits)?;
    let first = messages.first().ok_or(corrupt("a message set without a message"))?;
    let magic = first.magic;
    if messages.iter().any(|message| message.magic != magic) {
        return Err(corrupt("a message set of several formats"));
    }
    if messages.iter().any(|message| message.codec != 0) {
        match (messages.pop(), messages.is_empty()) {
            (Some(wrapper), true) => messages = unwrapped(wrapper, limits)?,
            _ => return Err(corrupt("a message beside a compressed one")),
        }
    }
    Ok((0..).zip(messages).map(|(offset, message)| message.into_record(offset)).collect())
}

/// The messages of a set until its last byte.
fn all(mut rest: Bytes, limits: Limits) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::new();
    while !rest.is_empty() {
        messages.push(Message::read(&mut rest, limits)?);
    }
    Ok(messages)
}

/// The messages in a compressed one (KIP-31 for their offsets, KIP-32 for the times).
fn unwrapped(wrapper: Message, limits: Limits) -> Result<Vec<Message>, Refusal> {
    if wrapper.codec == CODEC_ZSTD {
        let words = "zstd needs produce version 7";
        return Err(Refusal::new(error::UNSUPPORTED_COMPRESSION_TYPE, words));
    }
    if wrapper.codec > CODEC_ZSTD {
        return Err(corrupt("an unknown compression codec"));
    }
    if wrapper.key.is_some() {
        return Err(corrupt("the key of a compressed message is null"));
    }
    let value = wrapper.value.ok_or(corrupt("a compressed message holds a message set"))?;
    let lz4_header = match wrapper.magic {
        0 if wrapper.codec == CODEC_LZ4 => Lz4Header::Kafka3160,
        _ => Lz4Header::Standard,
    };
    let set = decompress::decompress_with(wrapper.codec, &value, lz4_header).map_err(corrupt)?;
    // The size that is limited is that of the wrapper.
    let messages = all(set, Limits { message_bytes_max: usize::MAX, ..limits })?;
    let last = messages.last().ok_or(corrupt("a compressed message without a message in it"))?;
    if wrapper.magic > 0 && wrapper.offset != last.offset {
        return Err(corrupt("a compressed message has the offset of the last in it"));
    }
    for (offset, message) in (0..).zip(&messages) {
        if message.magic != wrapper.magic {
            return Err(corrupt("a message of another format than the one around it"));
        }
        if message.codec != 0 {
            return Err(corrupt("a compressed message in a compressed one"));
        }
        if message.offset != offset {
            return Err(corrupt("offsets in a compressed message count from 0"));
        }
    }
    let newest = messages.iter().map(|message| message.timestamp).max();
    if wrapper.magic > 0 && newest != Some(wrapper.timestamp) {
        return Err(corrupt("a compressed message has the largest timestamp of those in it"));
    }
    Ok(messages)
}

impl Message {
    fn read(rest: &mut Bytes, limits: Limits) -> Result<Message, Refusal> {
        const SHORT: Refusal = corrupt("a message cut short");
        let offset = rest.try_get_i64().map_err(|_| SHORT)?;
        let size = rest.try_get_i32().map_err(|_| SHORT)?;
        let size = usize::try_from(size).map_err(|_| corrupt("a message of negative size"))?;
        if size > rest.len() {
            return Err(corrupt("a message longer than its set"));
        }
        if size.saturating_add(PREFIX_BYTES) > limits.message_bytes_max {
            let words = "the message is larger than message.max.bytes";
            return Err(Refusal::new(error::MESSAGE_TOO_LARGE, words));
        }
        let mut body = rest.split_to(size);
        // Before the CRC, which a record batch has elsewhere.
        let magic = *body.get(MAGIC_AT).ok_or(SHORT)? as i8;
        match magic {
            0 | 1 if magic <= limits.magic_max => {}
            1 => return Err(corrupt("magic 1 needs Kafka 0.10")),
            2 => return Err(corrupt("a record batch needs produce version 3")),
            _ => return Err(corrupt("a magic that no message set has")),
        }
        let crc = body.try_get_u32().map_err(|_| SHORT)?;
        if crc != crc32fast::hash(&body) {
            return Err(corrupt("the CRC-32 does not match"));
        }
        body.advance(1);
        let attributes = body.try_get_i8().map_err(|_| SHORT)?;
        if magic > 0 && attributes & ATTRIBUTE_LOG_APPEND_TIME != 0 {
            let words = "clients do not set log append time";
            return Err(Refusal::new(error::INVALID_TIMESTAMP, words));
        }
        if attributes & !ATTRIBUTE_CODEC != 0 {
            return Err(corrupt("attributes that are not defined"));
        }
        let timestamp = match magic {
            0 => NO_TIMESTAMP,
            _ => body.try_get_i64().map_err(|_| SHORT)?,
        };
        if timestamp < NO_TIMESTAMP {
            return Err(corrupt("a negative timestamp"));
        }
        let (key, value) = (nullable_bytes(&mut body)?, nullable_bytes(&mut body)?);
        if !body.is_empty() {
            return Err(corrupt("a message shorter than it says"));
        }
        let codec = i16::from(attributes & ATTRIBUTE_CODEC);
        Ok(Message { offset, magic, codec, timestamp, key, value })
    }

    /// The record, without an identity: message sets have none.
    fn into_record(self, offset: i64) -> EmbeddedRecord {
        EmbeddedRecord {
            offset,
            timestamp: self.timestamp,
            key: self.key,
            value: self.value,
            headers: Vec::new(),
            producer_id: -1,
            producer_epoch: -1,
            sequence: -1,
        }
    }
}

fn nullable_bytes(body: &mut Bytes) -> Result<Option<Bytes>, Refusal> {
    match body.try_get_i32() {
        Ok(-1) => Ok(None),
        Ok(size) => match usize::try_from(size) {
            Ok(size) if size <= body.len() => Ok(Some(body.split_to(size))),
            Ok(_) => Err(corrupt("a field longer than its message")),
            Err(_) => Err(corrupt("a negative length")),
        },
        Err(_) => Err(corrupt("a message cut short")),
    }
}

const fn corrupt(words: &'static str) -> Refusal {
    Refusal { code: error::CORRUPT_MESSAGE, message: words }
}
