//! The LZ4 frame format, as Kafka's own reader takes it: independent blocks of 64 KiB, a true
//! checksum of the frame's descriptor, no checksum of the content (the batch has its CRC).
//!
//! The container is written here because the block compressor alone is twice as fast as the
//! library's frame writer on small batches, and writes to where the caller wants it.

use std::hash::Hasher;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use twox_hash::XxHash32;

use super::blocks::{BlockBuffers, SliceWriter};
use super::lz4_block::decode_block;
use super::output::BoundedOutput;
use super::{Chunks, Codec, DecompressError};

const MAGIC: u32 = 0x184d_2204;
const VERSION: u8 = 0b01 << 6;
const VERSION_MASK: u8 = 0b11 << 6;
const BLOCKS_INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUMS: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const FLAG_RESERVED: u8 = 1 << 1;
const DICTIONARY_ID: u8 = 1;

/// The block size's number in the descriptor: 4 is 64 KiB, each further one four times as much.
const BLOCK_LEN_ID: u8 = 4;
const BLOCK_LEN: usize = 64 * 1024;
/// Set in the length of a block that is stored as it is.
const STORED: u32 = 1 << 31;

/// The library's tables, which it would otherwise allocate for every block.
#[derive(Default)]
pub(super) struct Encoder {
    /// For blocks below [`TABLE_SMALL_BELOW`], with 16-bit positions.
    small: Option<CompressTable>,
    large: Option<CompressTable>,
}

/// Above this the library needs the table of 32-bit positions.
const TABLE_SMALL_BELOW: usize = u16::MAX as usize;

impl Encoder {
    pub(super) fn encode<'a>(
        &mut self,
        blocks: &mut BlockBuffers,
        input: impl Chunks<'a>,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut writer = SliceWriter::new(out);
        let descriptor = [VERSION | BLOCKS_INDEPENDENT, BLOCK_LEN_ID << 4];
        writer.put(&MAGIC.to_le_bytes())?;
        writer.put(&descriptor)?;
        writer.put(&[descriptor_checksum(&descriptor)])?;
        blocks.for_each(BLOCK_LEN, input, |block, scratch| {
            self.encode_block(block, scratch, &mut writer)
        })?;
        writer.put(&[0; 4])?; // The mark of the frame's end: a block of no bytes.
        Some(writer.written())
    }

    fn encode_block(
        &mut self,
        block: &[u8],
        scratch: &mut [u8],
        writer: &mut SliceWriter<'_>,
    ) -> Option<()> {
        let table = match block.len() < TABLE_SMALL_BELOW {
            true => self.small.get_or_insert_with(CompressTable::small),
            false => self.large.get_or_insert_with(CompressTable::large),
        };
        let in_place = writer.room_after(4, get_maximum_output_size(block.len()));
        let compressed_in_place = in_place.is_some();
        let target = in_place.unwrap_or(&mut scratch[..]);
        let len = compress_into_with_table(block, target, table).ok()?;
        if len >= block.len() {
            writer.put(&(block.len() as u32 | STORED).to_le_bytes())?;
            return writer.put(block);
        }
        if compressed_in_place {
            return writer.commit(&(len as u32).to_le_bytes(), len);
        }
        writer.put(&(len as u32).to_le_bytes())?;
        writer.put(&scratch[..len])
    }
}

/// The second byte of the xxHash of what lies between the magic and the checksum.
fn descriptor_checksum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}

/// The same over the magic number as well.
fn descriptor_checksum_of_magic_0(descriptor: &[u8]) -> u8 {
    let mut hash = XxHash32::with_seed(0);
    hash.write(&MAGIC.to_le_bytes());
    hash.write(descriptor);
    (hash.finish() >> 8) as u8
}

/// See [`use_lz4_header_of_magic_0`](super::use_lz4_header_of_magic_0).
pub(super) fn use_header_of_magic_0(frame: &mut [u8]) {
    let descriptor = [VERSION | BLOCKS_INDEPENDENT, BLOCK_LEN_ID << 4];
    assert_eq!(frame[4..6], descriptor, "the caller has made the frame here");
    frame[6] = descriptor_checksum_of_magic_0(&descriptor);
}

/// Decompresses one or more frames, whatever optional parts they have, but no dictionaries.
pub(super) fn decode(input: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = BoundedOutput::new(max);
    let mut rest = input;
    loop {
        decode_frame(&mut rest, &mut output)?;
        if rest.is_empty() {
            return Ok(output.into_bytes());
        }
    }
}

fn decode_frame(rest: &mut &[u8], output: &mut BoundedOutput) -> Result<(), DecompressError> {
    let (flags, block_len_max) = take_descriptor(rest)?;
    let frame_start = output.bytes().len();
    loop {
        let length = take_u32(rest)?;
        if length == 0 {
            break;
        }
        let block_start = output.bytes().len();
        let block = take(rest, (length & !STORED) as usize)?;
        if block.len() > block_len_max {
            return Err(malformed("a block is larger than the frame allows"));
        }
        if flags & BLOCK_CHECKSUMS != 0 && take_u32(rest)? != XxHash32::oneshot(0, block) {
            return Err(malformed("a block's checksum is wrong"));
        }
        if length & STORED != 0 {
            output.extend(block)?;
            continue;
        }
        let independent = flags & BLOCKS_INDEPENDENT != 0;
        let window_start = if independent { block_start } else { frame_start };
        decode_block(block, output, window_start, block_start + block_len_max)?;
    }
    let content = &output.bytes()[frame_start..];
    if flags & CONTENT_CHECKSUM != 0 && take_u32(rest)? != XxHash32::oneshot(0, content) {
        return Err(malformed("the content's checksum is wrong"));
    }
    Ok(())
}

/// Takes all in front of the first block: the frame's flags and its largest block.
fn take_descriptor(rest: &mut &[u8]) -> Result<(u8, usize), DecompressError> {
    if take_u32(rest)? != MAGIC {
        return Err(malformed("not an LZ4 frame"));
    }
    let start = *rest;
    let (flags, block_len_id) = match *take(rest, 2)? {
        [flags, block_len] => (flags, block_len >> 4 & 7),
        _ => return Err(malformed("cut off")),
    };
    if flags & VERSION_MASK != VERSION || flags & FLAG_RESERVED != 0 {
        return Err(malformed("unknown version of the frame"));
    }
    if flags & DICTIONARY_ID != 0 {
        return Err(malformed("the frame needs a dictionary"));
    }
    if block_len_id < BLOCK_LEN_ID {
        return Err(malformed("unknown block size"));
    }
    if flags & CONTENT_SIZE != 0 {
        // What really comes out is bounded anyway.
        take(rest, 8)?;
    }
    let descriptor = &start[..start.len() - rest.len()];
    let checksum = take(rest, 1)?;
    let of_magic_0 = || checksum == [descriptor_checksum_of_magic_0(descriptor)];
    if checksum != [descriptor_checksum(descriptor)] && !of_magic_0() {
        return Err(malformed("the descriptor's checksum is wrong"));
    }
    Ok((flags, BLOCK_LEN << (2 * (block_len_id - BLOCK_LEN_ID))))
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecompressError> {
    let (bytes, behind) = rest.split_at_checked(len).ok_or(malformed("cut off"))?;
    *rest = behind;
    Ok(bytes)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, DecompressError> {
    let (number, behind) = rest.split_first_chunk().ok_or(malformed("cut off"))?;
    *rest = behind;
    Ok(u32::from_le_bytes(*number))
}

pub(super) fn malformed(reason: &'static str) -> DecompressError {
    DecompressError::Malformed { codec: Codec::Lz4, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8, blocks: &[&[u8]], trailer: &[u8]) -> Vec<u8> {
        let descriptor = [VERSION | flags, BLOCK_LEN_ID << 4];
        let mut out = MAGIC.to_le_bytes().to_vec();
        out.extend_from_slice(&descriptor);
        out.push(descriptor_checksum(&descriptor));
        for block in blocks {
            out.extend_from_slice(&(block.len() as u32).to_le_bytes());
            out.extend_from_slice(block);
        }
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(trailer);
        out
    }

    #[test]
    fn the_descriptor_is_the_one_kafkas_producer_writes() {
        let descriptor = [VERSION | BLOCKS_INDEPENDENT, BLOCK_LEN_ID << 4];
        assert_eq!(descriptor, [0x60, 0x40]);
        assert_eq!(descriptor_checksum(&descriptor), 0x82);
    }

    #[test]
    fn linked_blocks_reach_back_and_independent_ones_may_not() {
        // "abcd", then a block that copies it: no literals, distance 4, 8 bytes; then "e".
        let blocks: [&[u8]; 2] = [b"\x40abcd", b"\x04\x04\x00\x10e"];
        let linked = frame(0, &blocks, &[]);
        assert_eq!(decode(&linked, 100).expect("linked"), b"abcdabcdabcde");
        let independent = frame(BLOCKS_INDEPENDENT, &blocks, &[]);
        assert!(decode(&independent, 100).is_err());
    }

    #[test]
    fn the_contents_checksum_is_checked_where_there_is_one() {
        let checksum = XxHash32::oneshot(0, b"abcd");
        let blocks: [&[u8]; 1] = [b"\x40abcd"];
        let right = frame(CONTENT_CHECKSUM, &blocks, &checksum.to_le_bytes());
        assert_eq!(decode(&right, 100).expect("checked"), b"abcd");
        let wrong = frame(CONTENT_CHECKSUM, &blocks, &(checksum ^ 1).to_le_bytes());
        assert_eq!(decode(&wrong, 100), Err(malformed("the content's checksum is wrong")));
    }
}
