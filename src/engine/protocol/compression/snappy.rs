//! Snappy blocks in the framing of the Java library (xerial snappy-java), which Kafka's clients
//! write: a magic, two version numbers, then blocks of 32 KiB, each behind its compressed length.

use snap::raw::{Decoder, decompress_len, max_compress_len};

use super::blocks::{BlockBuffers, SliceWriter};
use super::output::BoundedOutput;
use super::{Chunks, Codec, DecompressError};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version of the framing, and the oldest one that readers must know.
const VERSION: u32 = 1;
/// Magic and two versions.
const HEADER_LEN: usize = 16;
/// What the Java library compresses at a time.
const BLOCK_LEN: usize = 32 * 1024;
/// What a byte of a snappy block can become at most, rounded up: a copy of 64 bytes takes 3.
const EXPANSION_MAX: usize = 32;

/// The library's tables.
pub(super) type Encoder = snap::raw::Encoder;

pub(super) fn encode<'a>(
    encoder: &mut Encoder,
    blocks: &mut BlockBuffers,
    input: impl Chunks<'a>,
    out: &mut [u8],
) -> Option<usize> {
    let mut writer = SliceWriter::new(out);
    writer.put(&MAGIC)?;
    writer.put(&VERSION.to_be_bytes())?;
    writer.put(&VERSION.to_be_bytes())?;
    blocks.for_each(BLOCK_LEN, input, |block, scratch| {
        if let Some(room) = writer.room_after(4, max_compress_len(block.len())) {
            let len = encoder.compress(block, room).ok()?;
            return writer.commit(&(len as u32).to_be_bytes(), len);
        }
        let len = encoder.compress(block, scratch).ok()?;
        writer.put(&(len as u32).to_be_bytes())?;
        writer.put(&scratch[..len])
    })?;
    Some(writer.written())
}

/// Decompresses framed blocks, or the one raw block that other clients write.
pub(super) fn decode(input: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = BoundedOutput::new(max);
    let Some(framed) = input.strip_prefix(&MAGIC) else {
        decode_block(input, &mut output)?;
        return Ok(output.into_bytes());
    };
    let (versions, mut rest) = framed
        .split_at_checked(HEADER_LEN - MAGIC.len())
        .ok_or(malformed("the frame's header is cut off"))?;
    // Some clients wrote the version numbers, and only those, in little-endian order.
    let known =
        |version: &[u8]| version == VERSION.to_be_bytes() || version == VERSION.to_le_bytes();
    if !versions.chunks_exact(4).all(known) {
        return Err(malformed("unknown version of the framing"));
    }
    while !rest.is_empty() {
        let (length, behind) =
            rest.split_first_chunk().ok_or(malformed("a block's length is cut off"))?;
        let (block, behind) = behind
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or(malformed("a block is cut off"))?;
        decode_block(block, &mut output)?;
        rest = behind;
    }
    Ok(output.into_bytes())
}

fn decode_block(block: &[u8], output: &mut BoundedOutput) -> Result<(), DecompressError> {
    if block.is_empty() {
        return Err(malformed("an empty block"));
    }
    let len = decompress_len(block).map_err(|_| malformed("a block's header is damaged"))?;
    if len > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(malformed("a block claims more than it could hold"));
    }
    output.reserve(len)?;
    let start = output.len();
    let bytes = output.bytes_mut();
    bytes.resize(start + len, 0);
    Decoder::new()
        .decompress(block, &mut bytes[start..])
        .map_err(|_| malformed("a block is damaged"))?;
    Ok(())
}

fn malformed(reason: &'static str) -> DecompressError {
    DecompressError::Malformed { codec: Codec::Snappy, reason }
}
