//! Writing a small record without headers, which nearly all are: the numbers of its head are put
//! together in one register and stored at once, where
//! [`encode_contiguous`](super::encode_contiguous) writes byte after byte.

use super::varint::zigzag;

/// The head, which is what comes before a record's key, fits one word: the record's length takes at
/// most 2 bytes, attributes 1, timestamp delta 2, offset delta 3.
const WORD: usize = size_of::<u64>();

/// The bytes of a key's or value's length.
const LENGTH_MAX: usize = 2;

/// What [`encode_plain`] needs of memory besides the payloads: the head, the lengths of key and
/// value, and a whole word for the number of headers, which is a single byte of it.
const PLAIN_OVERHEAD: usize = WORD + 2 * LENGTH_MAX + WORD;

/// A record's body besides key and value, at most: attributes, deltas, two lengths, no headers.
const BODY_OVERHEAD_MAX: usize = 1 + 2 + 3 + 2 * LENGTH_MAX + 1;

/// The most bytes of key and value together that [`encode_plain`] takes: with them the length of
/// the body, zigzagged, fits two bytes of a varint.
pub const PLAIN_PAYLOAD_MAX: usize = TWO_BYTES_END as usize / 2 - 1 - BODY_OVERHEAD_MAX;

/// Two bytes of a varint hold numbers below this.
const TWO_BYTES_END: u64 = 1 << 14;

/// Three bytes of a varint hold numbers below this.
const THREE_BYTES_END: u64 = 1 << 21;

/// A null key's or value's length, zigzagged: -1.
const NULL: (u64, usize) = (1, 1);

/// A record's headers: none.
const NO_HEADERS: u64 = 0;

/// Writes a record without headers at the front of `out`, and returns its bytes. It is the same
/// that [`encode_contiguous`](super::encode_contiguous) writes. Behind it up to seven bytes of
/// `out` are overwritten.
///
/// `None` if it cannot do it, and `out` is as it was: key and value are longer than
/// [`PLAIN_PAYLOAD_MAX`], the timestamp is not within 8 s of the batch's first, the record is not
/// among the batch's first 2²⁰; or `out` has less than `PLAIN_OVERHEAD` besides the payloads.
#[inline(always)]
pub fn encode_plain(
    out: &mut [u8],
    offset_delta: u32,
    timestamp_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Option<usize> {
    let payload = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
    let timestamp = zigzag(timestamp_delta);
    let offset = u64::from(offset_delta) << 1;
    let is_small = payload <= PLAIN_PAYLOAD_MAX;
    if !is_small || timestamp >= TWO_BYTES_END || offset >= THREE_BYTES_END {
        return None;
    }
    if out.len() < payload + PLAIN_OVERHEAD {
        return None;
    }
    let (timestamp, timestamp_len) = varint_of_two(timestamp);
    let (offset, offset_len) = varint_of_three(offset);
    let (key_length, key_length_len) = length(key);
    let (value_length, value_length_len) = length(value);
    let deltas_len = timestamp_len + offset_len;
    let body = 1 + deltas_len + key_length_len + value_length_len + payload + 1;
    let (body_length, body_length_len) = varint_of_two((body as u64) << 1);
    // The attributes are the byte of zeros between the length and the first delta.
    let deltas = timestamp | offset << (8 * timestamp_len);
    let head = body_length | deltas << (8 * (body_length_len + 1));
    let at = put_word(out, 0, head, body_length_len + 1 + deltas_len);
    let at = put_field(out, at, (key_length, key_length_len), key);
    let at = put_field(out, at, (value_length, value_length_len), value);
    Some(put_word(out, at, NO_HEADERS, 1))
}

/// Stores `word` at `at`, of which `len` bytes count. Returns the position behind those.
#[inline(always)]
fn put_word(out: &mut [u8], at: usize, word: u64, len: usize) -> usize {
    out[at..at + WORD].copy_from_slice(&word.to_le_bytes());
    at + len
}

#[inline(always)]
fn put_field(
    out: &mut [u8],
    at: usize,
    (length, len): (u64, usize),
    field: Option<&[u8]>,
) -> usize {
    let at = put_word(out, at, length, len);
    let Some(bytes) = field else { return at };
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

/// A field's length as a varint in the low bytes, and how many of them there are.
#[inline(always)]
fn length(field: Option<&[u8]>) -> (u64, usize) {
    field.map_or(NULL, |bytes| varint_of_two((bytes.len() as u64) << 1))
}

/// A number below [`TWO_BYTES_END`] as a varint, likewise.
#[inline(always)]
fn varint_of_two(raw: u64) -> (u64, usize) {
    let is_two = u64::from(raw >= 1 << 7);
    // The bits beyond the first seven move up by one: they are added once more.
    (raw + (raw & !0x7f) + (is_two << 7), 1 + is_two as usize)
}

/// A number below [`THREE_BYTES_END`] as a varint, likewise.
#[inline(always)]
fn varint_of_three(raw: u64) -> (u64, usize) {
    if raw < TWO_BYTES_END {
        return varint_of_two(raw);
    }
    (raw & 0x7f | 0x80 | (raw >> 7 & 0x7f | 0x80) << 8 | raw >> 14 << 16, 3)
}

#[cfg(test)]
mod tests {
    use super::super::{RecordParts, RecordSize, encode_contiguous};
    use super::*;

    /// Numbers on both sides of every length of a varint.
    const EDGES: [u32; 12] =
        [0, 1, 63, 64, 127, 128, 8_191, 8_192, 16_383, 16_384, (1 << 20) - 1, 1 << 20];

    fn same_as_general(offset: u32, delta: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> bool {
        let parts = RecordParts { key, value, headers: &[] };
        let size = RecordSize::of(offset, delta, &parts).expect("small");
        let mut expected = vec![0; size.total];
        encode_contiguous(&mut expected, size, offset, delta, &parts);
        let mut out = vec![0xaa; parts.payload_len() + PLAIN_OVERHEAD];
        let Some(len) = encode_plain(&mut out, offset, delta, key, value) else { return false };
        assert_eq!(out[..len], expected, "{offset} {delta} {key:?} {value:?}");
        assert!(out[(len + WORD - 1).min(out.len())..].iter().all(|byte| *byte == 0xaa));
        true
    }

    #[test]
    fn it_writes_what_the_general_way_writes_or_declines() {
        let bytes: Vec<u8> = (0..9_000u32).map(|n| n as u8).collect();
        let fields =
            [None, Some(0), Some(1), Some(63), Some(64), Some(8_000), Some(8_180), Some(8_181)];
        let field = |len: Option<usize>| len.map(|len| &bytes[..len]);
        let mut written = 0;
        for key in fields {
            for value in fields {
                for offset in EDGES {
                    for delta in EDGES.iter().flat_map(|n| [i64::from(*n), -i64::from(*n)]) {
                        let is_small = key.unwrap_or(0) + value.unwrap_or(0) <= 8_180;
                        let is_near = (-8_192..8_192).contains(&delta);
                        let can = is_small && is_near && offset < 1 << 20;
                        let did = same_as_general(offset, delta, field(key), field(value));
                        assert_eq!(did, can, "{offset} {delta} {key:?} {value:?}");
                        written += u32::from(did);
                    }
                }
            }
        }
        assert!(written > 1_000, "{written}");
    }

    #[test]
    fn it_declines_where_it_might_write_beyond() {
        let value = [7; 100];
        for room in 0..100 + PLAIN_OVERHEAD {
            assert_eq!(encode_plain(&mut vec![0; room], 0, 0, None, Some(&value)), None);
        }
        let mut enough = [0; 100 + PLAIN_OVERHEAD];
        assert_eq!(encode_plain(&mut enough, 0, 0, None, Some(&value)), Some(109));
    }
}
