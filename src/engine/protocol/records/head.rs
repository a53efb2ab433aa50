//! The numbers in front of an encoded record: read and written again when a record changes its
//! place, because its batch was split or lost other records.

use super::varint::{
    VARINT_LEN_MAX, VARLONG_LEN_MAX, put_length, put_signed, signed_len, take_i32, take_i64,
};

/// The most bytes that a [`RecordHead`] takes.
pub const RECORD_HEAD_LEN_MAX: usize = VARINT_LEN_MAX + 1 + VARLONG_LEN_MAX + VARINT_LEN_MAX;

/// What stands in front of a record's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Bytes of these numbers.
    pub len: usize,
    /// Bytes of key, value and headers.
    pub rest: usize,
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// The record's place in its batch.
    pub offset_delta: i32,
}

impl RecordHead {
    /// Reads the head of the record at the front of `bytes`; `None` if they hold none.
    pub fn read(bytes: &[u8]) -> Option<RecordHead> {
        let mut input = bytes;
        let body = usize::try_from(take_i32(&mut input)?).ok()?;
        let body_from = bytes.len() - input.len();
        let (_attributes, after) = input.split_first()?;
        input = after;
        let timestamp_delta = take_i64(&mut input)?;
        let offset_delta = take_i32(&mut input)?;
        let len = bytes.len() - input.len();
        let rest = body.checked_sub(len - body_from)?;
        Some(RecordHead { len, rest, timestamp_delta, offset_delta })
    }

    /// Bytes of the whole record.
    pub fn record_len(&self) -> usize {
        self.len + self.rest
    }

    /// Writes the head as that of the record at place `offset_delta` of its batch. Returns its
    /// length: not more than [`RecordHead::len`] if the place is not behind the old one.
    pub fn write_at_place(&self, out: &mut [u8; RECORD_HEAD_LEN_MAX], offset_delta: u32) -> usize {
        let delta = i64::from(offset_delta);
        let body = 1 + signed_len(self.timestamp_delta) + signed_len(delta) + self.rest;
        let at = put_length(out, 0, body);
        out[at] = 0;
        let at = put_signed(out, at + 1, self.timestamp_delta);
        put_signed(out, at, delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::protocol::records::{RecordParts, RecordSize, encode_contiguous};

    #[test]
    fn a_record_reads_the_same_at_an_earlier_place() {
        let parts = RecordParts { key: Some(b"key"), value: Some(&[7; 60]), headers: &[] };
        for (from, to) in [(0_u32, 0_u32), (64, 63), (9_000, 1), (70_000, 0)] {
            let size = RecordSize::of(from, -300, &parts).expect("small");
            let mut old = vec![0; size.total];
            encode_contiguous(&mut old, size, from, -300, &parts);
            let head = RecordHead::read(&old).expect("a record");
            assert_eq!((head.record_len(), head.timestamp_delta), (size.total, -300));
            assert_eq!(head.offset_delta, from as i32);

            let mut bytes = [0; RECORD_HEAD_LEN_MAX];
            let len = head.write_at_place(&mut bytes, to);
            assert!(len <= head.len);
            let mut moved = bytes[..len].to_vec();
            moved.extend_from_slice(&old[head.len..]);
            let size = RecordSize::of(to, -300, &parts).expect("small");
            let mut expected = vec![0; size.total];
            encode_contiguous(&mut expected, size, to, -300, &parts);
            assert_eq!(moved, expected, "from {from} to {to}");
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        assert_eq!(RecordHead::read(&[]), None);
        assert_eq!(RecordHead::read(&[2, 0, 0, 0]), None, "the body is shorter than its numbers");
        assert_eq!(RecordHead::read(&[1, 0, 0, 0]), None, "a negative length");
        assert_eq!(RecordHead::read(&[0x80; 20]), None);
    }
}
