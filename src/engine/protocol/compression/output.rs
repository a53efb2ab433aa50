//! A result that grows with what really comes out, up to a limit.

use super::DecompressError;

/// Decompressed bytes, never more than a maximum.
#[derive(Debug)]
pub(super) struct BoundedOutput {
    bytes: Vec<u8>,
    max: usize,
}

impl BoundedOutput {
    pub(super) fn new(max: usize) -> BoundedOutput {
        BoundedOutput { bytes: Vec::new(), max }
    }

    #[cfg(any(feature = "gzip", feature = "snappy"))]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[cfg(feature = "gzip")]
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many more bytes are allowed.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.bytes.len())
    }

    pub(super) fn too_large(&self) -> DecompressError {
        DecompressError::TooLarge { max: self.max }
    }

    #[cfg(any(feature = "gzip", feature = "snappy"))]
    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    #[cfg(feature = "lz4")]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes memory for `more` bytes, which must be allowed: at least as much again as there is,
    /// so that the whole is copied a few times at most, and never beyond the maximum.
    pub(super) fn reserve(&mut self, more: usize) -> Result<(), DecompressError> {
        if more > self.room() {
            return Err(self.too_large());
        }
        if self.bytes.capacity() - self.bytes.len() < more {
            let doubled = more.max(self.bytes.len()).min(self.room());
            self.bytes.reserve_exact(doubled);
        }
        Ok(())
    }

    #[cfg(feature = "lz4")]
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), DecompressError> {
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends `len` bytes that begin `distance` before the end; they may overlap what is being
    /// appended, which repeats it.
    #[cfg(feature = "lz4")]
    pub(super) fn repeat(&mut self, distance: usize, len: usize) -> Result<(), DecompressError> {
        self.reserve(len)?;
        let mut period = distance;
        let mut left = len;
        while left > 0 {
            let start = self.bytes.len() - period;
            let now = left.min(period);
            self.bytes.extend_from_within(start..start + now);
            left -= now;
            // The end now repeats itself over twice the distance: the next round copies more.
            period += now;
        }
        Ok(())
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
