//! Values that tell who sent them: thread, number and a checksum over everything.

use std::ops::Range;

use crc_fast::{CrcAlgorithm, checksum};

const THREAD: Range<usize> = 0..4;
const SEQUENCE: Range<usize> = 4..8;
const CHECKSUM: Range<usize> = 8..16;

/// Bytes of the fields above; the rest of a value is filled up.
pub const SIZE_MIN: usize = CHECKSUM.end;

/// A value that is numbered anew for each record.
pub struct NumberedValue(Vec<u8>);

impl NumberedValue {
    /// A value of `size` bytes, at least [`SIZE_MIN`].
    pub fn new(thread: u32, size: usize) -> Self {
        let mut bytes: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
        bytes[THREAD].copy_from_slice(&thread.to_le_bytes());
        NumberedValue(bytes)
    }

    /// The value of the thread's record number `sequence`, from 0.
    pub fn numbered(&mut self, sequence: u32) -> &[u8] {
        self.0[SEQUENCE].copy_from_slice(&sequence.to_le_bytes());
        let sum = sum(&self.0);
        self.0[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
        &self.0
    }
}

/// The thread and the number of a value; `None` if it is not what was sent.
pub fn read(value: &[u8]) -> Option<(u32, u32)> {
    let field = |range: Range<usize>| value.get(range)?.try_into().ok().map(u32::from_le_bytes);
    let thread = field(THREAD)?;
    let sequence = field(SEQUENCE)?;
    let stored = value.get(CHECKSUM)?.try_into().ok().map(u64::from_le_bytes)?;
    (stored == sum(value)).then_some((thread, sequence))
}

/// The checksum of all bytes but its own.
fn sum(value: &[u8]) -> u64 {
    let before = checksum(CrcAlgorithm::Crc32Iscsi, &value[..CHECKSUM.start]);
    let after = checksum(CrcAlgorithm::Crc32Iscsi, &value[CHECKSUM.end..]);
    before << 32 | after
}
