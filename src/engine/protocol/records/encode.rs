//! Writing one record, straight to where the socket is written from.

use super::varint::{VARINT_LEN_MAX, VARLONG_LEN_MAX, put_length, put_raw, put_signed};
use super::{Header, RecordParts, RecordSize};

/// A null length, zigzagged: -1.
const NULL_RAW: u64 = 1;

/// Length, attributes, timestamp delta and offset delta at their widest.
const PREFIX_LEN_MAX: usize = VARINT_LEN_MAX + 1 + VARLONG_LEN_MAX + VARINT_LEN_MAX;

/// Writes a record at the front of `out` and returns its bytes, `size.total`.
///
/// `size` is [`RecordSize::of`] of the same arguments. Nothing behind `size.total` is touched.
///
/// # Panics
///
/// If `out` is shorter than `size.total`, or `size` is that of another record.
#[inline(always)]
pub fn encode_contiguous(
    out: &mut [u8],
    size: RecordSize,
    offset_delta: u32,
    timestamp_delta: i64,
    parts: &RecordParts<'_>,
) -> usize {
    let out = &mut out[..size.total];
    let at = put_prefix(out, size, offset_delta, timestamp_delta);
    let at = put_field(out, at, parts.key);
    let at = put_field(out, at, parts.value);
    let end = if parts.headers.is_empty() {
        out[at] = 0;
        at + 1
    } else {
        put_headers(out, at, parts.headers)
    };
    assert_eq!(end, size.total, "the size is that of another record");
    end
}

#[inline(always)]
fn put_prefix(out: &mut [u8], size: RecordSize, offset_delta: u32, timestamp_delta: i64) -> usize {
    let at = put_length(out, 0, size.body);
    out[at] = 0; // The record's attributes: none are defined.
    let at = put_signed(out, at + 1, timestamp_delta);
    put_signed(out, at, i64::from(offset_delta))
}

#[inline(always)]
fn put_field(out: &mut [u8], at: usize, field: Option<&[u8]>) -> usize {
    match field {
        Some(bytes) => put_bytes(out, at, bytes),
        None => put_raw(out, at, NULL_RAW),
    }
}

#[inline(always)]
fn put_bytes(out: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let at = put_length(out, at, bytes.len());
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

#[inline(never)]
fn put_headers(out: &mut [u8], at: usize, headers: &[Header<'_>]) -> usize {
    let at = put_length(out, at, headers.len());
    headers.iter().fold(at, |at, header| {
        let at = put_bytes(out, at, header.key.as_bytes());
        put_field(out, at, header.value)
    })
}

/// Writes a record over several pieces of memory, each filled before the next is begun, and
/// returns its bytes, `size.total`: for records that are larger than one segment.
///
/// # Panics
///
/// If the pieces together are shorter than `size.total`, or `size` is that of another record: the
/// caller takes all of a record's memory before it writes any of it.
pub fn encode_spanning<'a>(
    pieces: impl Iterator<Item = &'a mut [u8]>,
    size: RecordSize,
    offset_delta: u32,
    timestamp_delta: i64,
    parts: &RecordParts<'_>,
) -> usize {
    let mut writer = ScatterWriter::new(pieces);
    let mut prefix = [0; PREFIX_LEN_MAX];
    let prefix_len = put_prefix(&mut prefix, size, offset_delta, timestamp_delta);
    writer.put(&prefix[..prefix_len]);
    writer.put_field(parts.key);
    writer.put_field(parts.value);
    writer.put_length(parts.headers.len());
    for header in parts.headers {
        writer.put_field(Some(header.key.as_bytes()));
        writer.put_field(header.value);
    }
    assert_eq!(writer.written(), size.total, "the size is that of another record");
    size.total
}

/// Writes bytes one after the other over several pieces of memory.
#[derive(Debug)]
pub struct ScatterWriter<'a, I> {
    /// What is left of the piece being filled.
    current: &'a mut [u8],
    pieces: I,
    written: usize,
}

impl<'a, I: Iterator<Item = &'a mut [u8]>> ScatterWriter<'a, I> {
    /// Starts at the front of the first piece.
    pub fn new(pieces: I) -> ScatterWriter<'a, I> {
        ScatterWriter { current: &mut [], pieces, written: 0 }
    }

    /// Writes `bytes`, going on in the next piece wherever one is full.
    ///
    /// # Panics
    ///
    /// If the pieces end before the bytes do.
    pub fn put(&mut self, mut bytes: &[u8]) {
        self.written += bytes.len();
        while !bytes.is_empty() {
            if self.current.is_empty() {
                self.current = self.pieces.next().expect("the caller took memory for all of it");
                continue;
            }
            let fits = bytes.len().min(self.current.len());
            let (now, later) = std::mem::take(&mut self.current).split_at_mut(fits);
            now.copy_from_slice(&bytes[..fits]);
            self.current = later;
            bytes = &bytes[fits..];
        }
    }

    /// The bytes written so far.
    pub fn written(&self) -> usize {
        self.written
    }

    fn put_field(&mut self, field: Option<&[u8]>) {
        match field {
            Some(bytes) => {
                self.put_length(bytes.len());
                self.put(bytes);
            }
            None => self.put(&[NULL_RAW as u8]),
        }
    }

    fn put_length(&mut self, length: usize) {
        let mut number = [0; VARINT_LEN_MAX];
        let len = put_length(&mut number, 0, length);
        self.put(&number[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_of_the_memory_gives_the_same_bytes() {
        let headers = [Header { key: "trace", value: Some(b"1") }, Header { key: "", value: None }];
        let parts = RecordParts { key: Some(b"key"), value: Some(&[7; 200]), headers: &headers };
        let size = RecordSize::of(300, -5, &parts).expect("small");
        let mut whole = vec![0; size.total];
        assert_eq!(encode_contiguous(&mut whole, size, 300, -5, &parts), size.total);
        for piece_len in 1..=size.total {
            let mut cut = vec![0; size.total];
            let pieces = cut.chunks_mut(piece_len);
            assert_eq!(encode_spanning(pieces, size, 300, -5, &parts), size.total);
            assert_eq!(cut, whole, "in pieces of {piece_len}");
        }
    }

    #[test]
    fn nothing_behind_the_record_is_touched() {
        let parts = RecordParts { value: Some(b"v"), ..RecordParts::default() };
        let size = RecordSize::of(1, 1, &parts).expect("small");
        let mut out = [0xaa; 64];
        encode_contiguous(&mut out, size, 1, 1, &parts);
        assert_eq!(out[..size.total], [14, 0, 2, 2, 1, 2, b'v', 0]);
        assert!(out[size.total..].iter().all(|byte| *byte == 0xaa));
    }

    #[test]
    #[should_panic(expected = "the caller took memory for all of it")]
    fn too_little_memory_is_the_callers_error() {
        let parts = RecordParts { value: Some(&[0; 40]), ..RecordParts::default() };
        let size = RecordSize::of(0, 0, &parts).expect("small");
        let mut memory = [0; 20];
        encode_spanning(memory.chunks_mut(8), size, 0, 0, &parts);
    }
}
