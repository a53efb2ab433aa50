//! Decompression of a batch's records, bounded, with the compression crates themselves and not the
//! client's code around them.

use std::io::Read;

use bytes::Bytes;

/// The most bytes that the records of one batch may have when decompressed.
const DECOMPRESSED_BYTES_MAX: usize = 128 << 20;

const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// Bytes of a xerial header: magic, version and the oldest version that can read it.
const XERIAL_HEADER_BYTES: usize = 16;
const LZ4_MAGIC: u32 = 0x184D_2204;

/// What the header checksum of an lz4 frame covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lz4Header {
    /// The frame's descriptor, as lz4 defines it.
    Standard,
    /// The frame's magic number and the descriptor: Kafka's mistake (KAFKA-3160), which messages of
    /// magic 0 keep (KIP-57). Kafka knew no content size then.
    Kafka3160,
}

/// Decompresses `payload`, which a batch says is of `codec`.
pub(super) fn decompress(codec: i16, payload: &Bytes) -> Result<Bytes, &'static str> {
    decompress_with(codec, payload, Lz4Header::Standard)
}

/// The same, where lz4 may be Kafka's old one.
pub(super) fn decompress_with(
    codec: i16,
    payload: &Bytes,
    lz4_header: Lz4Header,
) -> Result<Bytes, &'static str> {
    match codec {
        0 => Ok(payload.clone()),
        1 => read_bounded(flate2::read::MultiGzDecoder::new(&payload[..])),
        2 => snappy(payload),
        3 => lz4(payload, lz4_header),
        #[cfg(feature = "zstd")]
        4 => read_bounded(
            zstd::stream::read::Decoder::new(&payload[..]).map_err(|_| "zstd did not start")?,
        ),
        _ => Err("a compression codec that this build does not have"),
    }
}

fn read_bounded(reader: impl Read) -> Result<Bytes, &'static str> {
    let mut out = Vec::new();
    let mut reader = reader.take(DECOMPRESSED_BYTES_MAX as u64 + 1);
    reader.read_to_end(&mut out).map_err(|_| "the compressed records are malformed")?;
    match out.len() > DECOMPRESSED_BYTES_MAX {
        true => Err("the decompressed records are too large"),
        false => Ok(out.into()),
    }
}

/// Blocks in xerial's framing, as Java writes them, or one raw block.
fn snappy(payload: &[u8]) -> Result<Bytes, &'static str> {
    let mut out = Vec::new();
    if !payload.starts_with(XERIAL_MAGIC) {
        snappy_block(payload, &mut out)?;
        return Ok(out.into());
    }
    let mut rest = payload.get(XERIAL_HEADER_BYTES..).ok_or("a xerial header cut short")?;
    while !rest.is_empty() {
        let (size, after) = rest.split_first_chunk().ok_or("a xerial block cut short")?;
        let size = u32::from_be_bytes(*size) as usize;
        let block = after.get(..size).ok_or("a xerial block longer than its batch")?;
        snappy_block(block, &mut out)?;
        rest = &after[size..];
    }
    Ok(out.into())
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let size = snap::raw::decompress_len(block).map_err(|_| "a malformed snappy block")?;
    // Snappy's longest copy makes 64 bytes of 3: no block grows by more than that.
    if size > block.len().saturating_mul(64) || out.len() + size > DECOMPRESSED_BYTES_MAX {
        return Err("the decompressed records are too large");
    }
    let start = out.len();
    out.resize(start + size, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(|_| "a malformed snappy block")?;
    Ok(())
}

/// One frame of independent blocks: Kafka's reader takes no other.
fn lz4(payload: &[u8], header: Lz4Header) -> Result<Bytes, &'static str> {
    const SHORT: &str = "an lz4 frame cut short";
    let mut reader = payload;
    if u32::from_le_bytes(take(&mut reader).ok_or(SHORT)?) != LZ4_MAGIC {
        return Err("no lz4 frame");
    }
    let descriptor_start = reader;
    let [flags, block_descriptor] = take(&mut reader).ok_or(SHORT)?;
    if flags >> 6 != 1 || flags & 0x20 == 0 || flags & 0x03 != 0 {
        return Err("an lz4 frame of another version, with linked blocks or with a dictionary");
    }
    let block_bytes_max = match block_descriptor >> 4 {
        size @ 4..=7 if block_descriptor & 0x0f == 0 => 1usize << (8 + 2 * size),
        _ => return Err("an lz4 block size that is not defined"),
    };
    if flags & 0x08 != 0 {
        if header == Lz4Header::Kafka3160 {
            return Err("an lz4 frame with a content size, which magic 0 does not have");
        }
        take::<8>(&mut reader).ok_or(SHORT)?;
    }
    let checked_from = match header {
        Lz4Header::Standard => descriptor_start,
        Lz4Header::Kafka3160 => payload,
    };
    let checked = &checked_from[..checked_from.len() - reader.len()];
    let [header_checksum] = take(&mut reader).ok_or(SHORT)?;
    if (xxhash(checked) >> 8) as u8 != header_checksum {
        return Err("an lz4 header checksum that does not match");
    }
    let mut out = Vec::new();
    loop {
        let size = u32::from_le_bytes(take(&mut reader).ok_or(SHORT)?);
        if size == 0 {
            break;
        }
        let (plain, size) = (size >> 31 == 1, (size & 0x7fff_ffff) as usize);
        let block = reader.get(..size).ok_or(SHORT)?;
        reader = &reader[size..];
        if flags & 0x10 != 0 && u32::from_le_bytes(take(&mut reader).ok_or(SHORT)?) != xxhash(block)
        {
            return Err("an lz4 block checksum that does not match");
        }
        lz4_block(block, plain, block_bytes_max, &mut out)?;
    }
    if flags & 0x04 != 0 && u32::from_le_bytes(take(&mut reader).ok_or(SHORT)?) != xxhash(&out) {
        return Err("an lz4 content checksum that does not match");
    }
    match reader.is_empty() {
        true => Ok(out.into()),
        false => Err("bytes after the lz4 frame"),
    }
}

fn lz4_block(
    block: &[u8],
    plain: bool,
    block_bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    if block.len() > block_bytes_max || out.len() + block_bytes_max > DECOMPRESSED_BYTES_MAX {
        return Err("the decompressed records are too large");
    }
    if plain {
        out.extend_from_slice(block);
        return Ok(());
    }
    let start = out.len();
    out.resize(start + block_bytes_max, 0);
    let size = lz4_flex::block::decompress_into(block, &mut out[start..])
        .map_err(|_| "a malformed lz4 block")?;
    out.truncate(start + size);
    Ok(())
}

fn xxhash(bytes: &[u8]) -> u32 {
    twox_hash::XxHash32::oneshot(0, bytes)
}

fn take<const N: usize>(reader: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = reader.split_first_chunk::<N>()?;
    *reader = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn frame(content: &[u8], flags: u8) -> Vec<u8> {
        let mut frame = LZ4_MAGIC.to_le_bytes().to_vec();
        frame.extend([flags, 0x40]);
        frame.push((xxhash(&[flags, 0x40]) >> 8) as u8);
        let block = lz4_flex::block::compress(content);
        frame.extend((block.len() as u32).to_le_bytes());
        frame.extend(&block);
        frame.extend(0u32.to_le_bytes());
        frame.extend(xxhash(content).to_le_bytes());
        frame
    }

    #[test]
    fn every_codec_gives_back_what_was_put_in() {
        let content = b"tide and gate and tide and gate and tide".repeat(50);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&content).unwrap();
        let block = snap::raw::Encoder::new().compress_vec(&content).unwrap();
        let mut xerial = XERIAL_MAGIC.to_vec();
        xerial.extend([0, 0, 0, 1, 0, 0, 0, 1]);
        xerial.extend((block.len() as u32).to_be_bytes());
        xerial.extend(&block);
        for (codec, bytes) in
            [(1, gzip.finish().unwrap()), (2, block), (2, xerial), (3, frame(&content, 0x64))]
        {
            assert_eq!(decompress(codec, &bytes.into()).unwrap(), content, "codec {codec}");
        }
    }

    #[test]
    fn the_old_lz4_header_checksum_is_told_apart_from_the_right_one() {
        let right = frame(b"some content", 0x64);
        let mut old = right.clone();
        old[6] = (xxhash(&right[..6]) >> 8) as u8;
        assert_ne!(old[6], right[6]);
        for (frame, header, good) in [
            (&right, Lz4Header::Standard, true),
            (&right, Lz4Header::Kafka3160, false),
            (&old, Lz4Header::Standard, false),
            (&old, Lz4Header::Kafka3160, true),
        ] {
            assert_eq!(lz4(frame, header).is_ok(), good, "{header:?}");
        }
    }

    #[test]
    fn truncated_and_altered_input_is_an_error() {
        let good = frame(b"some content", 0x64);
        for end in 0..good.len() {
            assert!(lz4(&good[..end], Lz4Header::Standard).is_err(), "{end} bytes");
        }
        assert!(lz4(&frame(b"linked blocks", 0x44), Lz4Header::Standard).is_err());
        // A snappy block that claims 4 GiB.
        assert!(snappy(&[0xff, 0xff, 0xff, 0xff, 0x0f]).is_err());
        assert!(decompress(9, &Bytes::new()).is_err());
    }
}
