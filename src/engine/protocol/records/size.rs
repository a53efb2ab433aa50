//! How many bytes a record takes, before it is written.

use super::varint::{VARINT_LEN_MAX, VARLONG_LEN_MAX, length_len, signed_len};
use super::{BATCH_HEADER_LEN, Header, RecordParts};

/// The bytes of one encoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSize {
    /// Without the leading length: the number that the leading length says.
    pub body: usize,
    /// With the leading length: what the record takes in the batch.
    pub total: usize,
}

/// A record's length, attributes and two deltas at their widest.
const OVERHEAD_MAX: usize = VARINT_LEN_MAX + 1 + VARLONG_LEN_MAX + VARINT_LEN_MAX;

/// The most bytes of a batch that holds one record without headers, besides key and value.
pub const PLAIN_BATCH_OVERHEAD_MAX: usize = BATCH_HEADER_LEN + OVERHEAD_MAX + 3 * VARINT_LEN_MAX;

const LENGTH_MAX: usize = i32::MAX as usize;

impl RecordSize {
    /// The size of `parts` at this place of its batch.
    ///
    /// `None` when the record, or a part of it, is longer than Kafka's 32-bit lengths can say.
    #[inline(always)]
    pub fn of(
        offset_delta: u32,
        timestamp_delta: i64,
        parts: &RecordParts<'_>,
    ) -> Option<RecordSize> {
        let deltas = signed_len(timestamp_delta) + signed_len(i64::from(offset_delta));
        let body = (1 + deltas).saturating_add(parts_size(parts));
        if body > LENGTH_MAX {
            return None;
        }
        Some(RecordSize { body, total: length_len(body) + body })
    }
}

/// What key, value and headers take, their lengths and count included. Saturates.
#[inline(always)]
fn parts_size(parts: &RecordParts<'_>) -> usize {
    let key_value = field_size(parts.key.map(<[u8]>::len))
        .saturating_add(field_size(parts.value.map(<[u8]>::len)));
    if parts.headers.is_empty() {
        return key_value.saturating_add(1);
    }
    key_value.saturating_add(headers_size(parts.headers))
}

#[inline(always)]
fn field_size(len: Option<usize>) -> usize {
    match len {
        // A slice's length is at most isize::MAX, so this sum cannot wrap.
        Some(len) => length_len(len) + len,
        None => 1,
    }
}

#[cold]
#[inline(never)]
fn headers_size(headers: &[Header<'_>]) -> usize {
    headers.iter().fold(length_len(headers.len()), |sum, header| {
        sum.saturating_add(field_size(Some(header.key.len())))
            .saturating_add(field_size(header.value.map(<[u8]>::len)))
    })
}

/// The most bytes that a record with these parts can take, wherever it comes in its batch and
/// whatever its timestamp. `None` lengths are null. Saturates.
pub fn max_size(key_len: Option<usize>, value_len: Option<usize>, headers: &[Header<'_>]) -> usize {
    OVERHEAD_MAX
        .saturating_add(field_size(key_len))
        .saturating_add(field_size(value_len))
        .saturating_add(headers_size(headers))
}

/// The most bytes of a batch that holds only this record: what is compared with
/// `max_request_size` when it is sent, as Kafka's producer does. Saturates.
pub fn single_record_batch_size(parts: &RecordParts<'_>) -> usize {
    let record = max_size(parts.key.map(<[u8]>::len), parts.value.map(<[u8]>::len), parts.headers);
    record.saturating_add(BATCH_HEADER_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_record_takes_seven_bytes() {
        let size = RecordSize::of(0, 0, &RecordParts::default()).expect("small");
        assert_eq!(size, RecordSize { body: 6, total: 7 });
    }

    #[test]
    fn the_upper_bound_is_reached_by_the_worst_place_only() {
        let headers = [Header { key: "k", value: Some(b"v") }, Header { key: "", value: None }];
        let value = vec![0; 1 << 21];
        let parts = RecordParts { key: Some(b"key"), value: Some(&value), headers: &headers };
        let bound = max_size(Some(3), Some(value.len()), &headers);
        let first = RecordSize::of(0, 0, &parts).expect("small");
        let worst = RecordSize::of(i32::MAX as u32, i64::MIN, &parts).expect("small");
        assert!(first.total < worst.total);
        // The bound allows 5 bytes for the leading length, and 2 MiB need 4.
        assert_eq!(worst.total + 1, bound);
        assert_eq!(single_record_batch_size(&parts), bound + 61);
    }

    #[test]
    fn what_32_bits_cannot_say_is_refused() {
        let half = Some(usize::MAX >> 1);
        assert_eq!(max_size(half, half, &[]), usize::MAX);
        // 1 MiB, named again and again: 2 GiB on the wire.
        let block = vec![0; 1 << 20];
        let headers = vec![Header { key: "", value: Some(&block) }; 2048];
        let parts = RecordParts { key: None, value: None, headers: &headers };
        assert_eq!(RecordSize::of(0, 0, &parts), None);
        let parts = RecordParts { headers: &headers[..2047], ..parts };
        assert!(RecordSize::of(0, 0, &parts).is_some());
    }
}
