//! The bytes of spill files. The manual's page `spill` has the format as a table.
//!
//! A file begins with a header, which names its topic and how much of it is done with. Records
//! follow, each with its length and a CRC-32. Reading trusts nothing: what a crash or a disk has
//! left is found out, and no length is believed before there are so many bytes.

use super::stash::StashedRecord;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{Header, RecordParts};

/// The first bytes of every file; the last of them is the version of the format.
const MAGIC: [u8; 8] = *b"TGSPILL\x01";

/// Where the mark stands.
pub const MARK_AT: u64 = 16;

/// Bytes of the mark.
pub const MARK_LEN: usize = 20;

/// Bytes of the header before the topic's name.
const HEADER_FIXED: usize = 48;

/// Bytes before a record's body: its length, and its checksum.
pub const FRAME_HEADER: usize = 8;

/// The body's shortest length: timestamp, partition, flags, and one byte each for key, value and
/// the number of headers.
const BODY_MIN: usize = 8 + 4 + 1 + 3;

/// Set in the flags of each record that was sent together with the one behind it.
const GOES_ON: u8 = 1;

/// Stands for no partition.
const NO_PARTITION: i32 = -1;

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpillDamage {
    /// They end before the record does, as after a crash in the midst of writing.
    Torn,
    /// They are not what was written.
    Damaged,
}

/// How much of a file is done with. Offsets in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillMark {
    /// Records before this have resolved: they are not sent again.
    pub done: u64,
    /// Records from here on were never given to a connection. Those between `done` and this may
    /// have been written by a broker.
    pub handed: u64,
}

impl SpillMark {
    /// As it stands in the file, with a checksum of its own: it is written over and over.
    pub fn encode(self) -> [u8; MARK_LEN] {
        let mut out = [0; MARK_LEN];
        out[..8].copy_from_slice(&self.done.to_le_bytes());
        out[8..16].copy_from_slice(&self.handed.to_le_bytes());
        let crc = crc32fast::hash(&out[..16]);
        out[16..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads it. `None` if it was cut short or damaged.
    pub fn decode(bytes: &[u8]) -> Option<SpillMark> {
        let crc = u32::from_le_bytes(array(bytes, 16)?);
        let is_whole = crc == crc32fast::hash(bytes.get(..16)?);
        let done = u64::from_le_bytes(array(bytes, 0)?);
        let handed = u64::from_le_bytes(array(bytes, 8)?);
        (is_whole && done <= handed).then_some(SpillMark { done, handed })
    }
}

/// A file's header: the topic of its records. Its mark says that nothing was handed over.
pub fn encode_spill_header(topic: &str) -> Vec<u8> {
    let len = (HEADER_FIXED + topic.len()) as u64;
    let mut out = Vec::with_capacity(len as usize);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(topic.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&SpillMark { done: len, handed: len }.encode());
    out.resize(HEADER_FIXED - 4, 0);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[..16]);
    crc.update(topic.as_bytes());
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(topic.as_bytes());
    out
}

/// Reads a header: the topic, and the header's length. `None`: these are not the first bytes of a
/// spill file of this version.
pub fn decode_spill_header(bytes: &[u8]) -> Option<(&str, usize)> {
    let len = u32::from_le_bytes(array(bytes, 8)?) as usize;
    let end = HEADER_FIXED.checked_add(len)?;
    let topic = bytes.get(HEADER_FIXED..end)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..16]);
    crc.update(topic);
    let is_whole = bytes.starts_with(&MAGIC)
        && crc.finalize() == u32::from_le_bytes(array(bytes, HEADER_FIXED - 4)?);
    is_whole.then(|| Some((std::str::from_utf8(topic).ok()?, end)))?
}

/// Appends a record to `out`. `goes_on`: the next one was sent together with it.
pub fn encode_spilled(
    out: &mut Vec<u8>,
    partition: Option<PartitionId>,
    timestamp: i64,
    parts: &RecordParts<'_>,
    goes_on: bool,
) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    out.extend_from_slice(&timestamp.to_le_bytes());
    let number = partition.map_or(NO_PARTITION, |partition| partition.0);
    out.extend_from_slice(&number.to_le_bytes());
    out.push(if goes_on { GOES_ON } else { 0 });
    put_bytes(out, parts.key);
    put_bytes(out, parts.value);
    put_length(out, parts.headers.len() as u64);
    for header in parts.headers {
        put_bytes(out, Some(header.key.as_bytes()));
        put_bytes(out, header.value);
    }
    let body = start + FRAME_HEADER;
    let len = (out.len() - body) as u32;
    let crc = crc32fast::hash(&out[body..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// Bytes of the record that begins here, its frame included. `None` if they do not tell.
pub fn spilled_len(bytes: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(array(bytes, 0)?) as usize;
    len.checked_add(FRAME_HEADER)
}

/// Reads the record that begins here: itself, whether the next one was sent together with it, and
/// its length in bytes.
///
/// # Errors
/// [`SpillDamage`].
pub fn decode_spilled(bytes: &[u8]) -> Result<(StashedRecord<'_>, bool, usize), SpillDamage> {
    let len = spilled_len(bytes).ok_or(SpillDamage::Torn)?;
    if len < FRAME_HEADER + BODY_MIN {
        return Err(SpillDamage::Damaged);
    }
    let body = bytes.get(FRAME_HEADER..len).ok_or(SpillDamage::Torn)?;
    let crc = array(bytes, 4).map(u32::from_le_bytes);
    if crc != Some(crc32fast::hash(body)) {
        return Err(SpillDamage::Damaged);
    }
    let (record, goes_on) = decode_body(body).ok_or(SpillDamage::Damaged)?;
    Ok((record, goes_on, len))
}

fn decode_body(body: &[u8]) -> Option<(StashedRecord<'_>, bool)> {
    let timestamp = i64::from_le_bytes(array(body, 0)?);
    let number = i32::from_le_bytes(array(body, 8)?);
    let flags = *body.get(12)?;
    let mut rest = body.get(13..)?;
    let key = take_bytes(&mut rest)?;
    let value = take_bytes(&mut rest)?;
    let count = take_length(&mut rest)?;
    // Each header has two bytes at the least: a count that is more than these is damage.
    if count > rest.len() as u64 / 2 {
        return None;
    }
    let mut headers = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let name = std::str::from_utf8(take_bytes(&mut rest)??).ok()?;
        headers.push(Header { key: name, value: take_bytes(&mut rest)? });
    }
    let partition = (number != NO_PARTITION).then_some(PartitionId(number));
    let record = StashedRecord { partition, timestamp, key, value, headers };
    rest.is_empty().then_some((record, flags & GOES_ON != 0))
}

/// The length plus one, then the bytes; 0 stands for null.
fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_length(out, bytes.map_or(0, |bytes| bytes.len() as u64 + 1));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Seven bits in each byte, the lowest first.
fn put_length(out: &mut Vec<u8>, mut length: u64) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn take_length(rest: &mut &[u8]) -> Option<u64> {
    let mut length = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        length |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(length);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let Some(len) = take_length(rest)?.checked_sub(1) else { return Some(None) };
    let (bytes, behind) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = behind;
    Some(Some(bytes))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let headers = [
            Header { key: "trace", value: Some(b"17") },
            Header { key: "empty", value: Some(b"") },
            Header { key: "null", value: None },
        ];
        let parts = RecordParts { key: Some(b"key"), value: None, headers: &headers };
        let mut out = Vec::new();
        encode_spilled(&mut out, Some(PartitionId(3)), 1_700_000_000_000, &parts, true);
        out
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bytes = record();
        let (read, goes_on, len) = decode_spilled(&bytes).expect("it is whole");
        assert_eq!((goes_on, len), (true, bytes.len()));
        assert_eq!((read.partition, read.timestamp), (Some(PartitionId(3)), 1_700_000_000_000));
        assert_eq!((read.key, read.value), (Some(&b"key"[..]), None));
        let headers: Vec<_> = read.headers.iter().map(|it| (it.key, it.value)).collect();
        let expected = [("trace", Some(&b"17"[..])), ("empty", Some(b"")), ("null", None)];
        assert_eq!(headers, expected);
    }

    #[test]
    fn no_partition_is_not_a_partition() {
        let mut out = Vec::new();
        encode_spilled(&mut out, None, -1, &RecordParts::default(), false);
        let (read, goes_on, _) = decode_spilled(&out).expect("it is whole");
        assert_eq!((read.partition, read.timestamp, goes_on), (None, -1, false));
    }

    #[test]
    fn every_cut_is_torn_and_every_changed_bit_is_noticed() {
        let bytes = record();
        for end in 0..bytes.len() {
            assert_eq!(decode_spilled(&bytes[..end]).err(), Some(SpillDamage::Torn), "{end}");
        }
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_spilled(&changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_header_names_its_topic_and_damage_to_it_is_noticed() {
        let bytes = encode_spill_header("orders");
        assert_eq!(decode_spill_header(&bytes), Some(("orders", bytes.len())));
        let mark = SpillMark::decode(&bytes[MARK_AT as usize..]).expect("it is whole");
        let start = bytes.len() as u64;
        assert_eq!(mark, SpillMark { done: start, handed: start });
        for end in 0..bytes.len() {
            assert_eq!(decode_spill_header(&bytes[..end]), None, "{end}");
        }
        let mark = MARK_AT as usize..MARK_AT as usize + MARK_LEN;
        for bit in 0..8 * bytes.len() {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match mark.contains(&(bit / 8)) {
                true => assert_eq!(SpillMark::decode(&changed[mark.clone()]), None, "bit {bit}"),
                // Eight bytes are kept free.
                false if (36..44).contains(&(bit / 8)) => {}
                false => assert_eq!(decode_spill_header(&changed), None, "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let mut body = Vec::new();
        body.extend_from_slice(&[0; 13]);
        body.extend_from_slice(&[0, 0]);
        put_length(&mut body, u64::from(u32::MAX));
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        assert_eq!(decode_spilled(&bytes).err(), Some(SpillDamage::Damaged));
    }
}
