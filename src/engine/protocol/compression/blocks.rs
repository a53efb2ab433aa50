//! Cutting a chain of slices into blocks of one size, for the codecs that compress in blocks.

use super::Chunks;

/// The bytes of one LZ4 block, the larger of the two codecs' blocks.
const BLOCK_LEN_MAX: usize = 64 * 1024;

/// What a block of incompressible bytes can become, in either codec: LZ4's bound is 110 % + 20,
/// that of snappy's half as large blocks 32 + 7/6.
const COMPRESSED_LEN_MAX: usize = BLOCK_LEN_MAX * 110 / 100 + 20;

/// Memory for a block that lies in several slices, and for one compressed block.
pub(super) struct BlockBuffers {
    carry: Box<[u8]>,
    compressed: Box<[u8]>,
}

impl Default for BlockBuffers {
    fn default() -> BlockBuffers {
        BlockBuffers {
            carry: vec![0; BLOCK_LEN_MAX].into_boxed_slice(),
            compressed: vec![0; COMPRESSED_LEN_MAX].into_boxed_slice(),
        }
    }
}

impl BlockBuffers {
    /// Calls `with` for each block of `block_len` bytes, the last one shorter, together with
    /// memory for a compressed block. Blocks that lie in one slice are not copied. Ends early
    /// when `with` returns `None`.
    pub(super) fn for_each<'a>(
        &mut self,
        block_len: usize,
        mut input: impl Chunks<'a>,
        mut with: impl FnMut(&[u8], &mut [u8]) -> Option<()>,
    ) -> Option<()> {
        assert!(block_len <= BLOCK_LEN_MAX);
        let mut carried = 0;
        while let Some(mut slice) = input.next_chunk() {
            if carried > 0 {
                let (now, later) = slice.split_at(slice.len().min(block_len - carried));
                self.carry[carried..carried + now.len()].copy_from_slice(now);
                carried += now.len();
                slice = later;
                if carried < block_len {
                    continue;
                }
                with(&self.carry[..block_len], &mut self.compressed)?;
            }
            let mut blocks = slice.chunks_exact(block_len);
            for block in &mut blocks {
                with(block, &mut self.compressed)?;
            }
            carried = blocks.remainder().len();
            self.carry[..carried].copy_from_slice(blocks.remainder());
        }
        if carried > 0 {
            with(&self.carry[..carried], &mut self.compressed)?;
        }
        Some(())
    }
}

/// Appends to a slice of fixed length; `None` when it is full.
pub(super) struct SliceWriter<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> SliceWriter<'a> {
    pub(super) fn new(out: &'a mut [u8]) -> SliceWriter<'a> {
        SliceWriter { out, at: 0 }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.out.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    pub(super) fn written(&self) -> usize {
        self.at
    }

    /// Lets `fill` write a block behind `prefix_len` bytes and returns what it returned; the
    /// block's bytes and the prefix count as written once [`commit`](Self::commit) is called.
    /// `None` when fewer than `len_max` bytes would be left for it.
    pub(super) fn room_after(&mut self, prefix_len: usize, len_max: usize) -> Option<&mut [u8]> {
        let start = self.at.checked_add(prefix_len)?;
        let room = self.out.get_mut(start..)?;
        (room.len() >= len_max).then_some(room)
    }

    /// Counts a block as written that lies in [`room_after`](Self::room_after) already, and puts
    /// its prefix in front of it.
    pub(super) fn commit(&mut self, prefix: &[u8], block_len: usize) -> Option<()> {
        self.put(prefix)?;
        self.at += block_len;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_same_however_the_input_is_cut() {
        let input: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        for piece_len in [1, 7, 63, 64, 65, 200, 1000] {
            for block_len in [64, 100, 1000, 2000] {
                let mut blocks = Vec::new();
                let done = BlockBuffers::default().for_each(
                    block_len,
                    input.chunks(piece_len),
                    |block, _| {
                        blocks.push(block.to_vec());
                        Some(())
                    },
                );
                assert_eq!(done, Some(()));
                let expected: Vec<_> = input.chunks(block_len).map(<[u8]>::to_vec).collect();
                assert_eq!(blocks, expected, "pieces of {piece_len}, blocks of {block_len}");
            }
        }
    }

    #[test]
    fn a_full_slice_refuses_and_stays_as_it_is() {
        let mut out = [0; 4];
        let mut writer = SliceWriter::new(&mut out);
        assert_eq!(writer.put(b"abc"), Some(()));
        assert_eq!(writer.put(b"de"), None);
        assert_eq!(writer.written(), 3);
        assert_eq!(writer.put(b"d"), Some(()));
        assert!(writer.room_after(0, 1).is_none());
        assert!(writer.room_after(1, 0).is_none());
        assert_eq!(out, *b"abcd");
    }
}
