//! gzip, by zlib-rs. Which fields a writer's header has is of no interest to any reader.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::output::BoundedOutput;
use super::{Chunks, Codec, DecompressError};

/// The base-2 logarithm of the window, the format's largest.
const WINDOW_BITS: u8 = 15;
/// What zlib's own choice of level, -1, stands for.
const LEVEL_DEFAULT: u32 = 6;
/// The least memory a decoder takes at a time.
const STEP_LEN_MIN: usize = 16 * 1024;

/// A compressor that is reset for each batch.
pub(super) struct Encoder {
    raw: Compress,
    level: i32,
}

impl Encoder {
    pub(super) fn new(level: i32) -> Encoder {
        Encoder { raw: Compress::new_gzip(flate2_level(level), WINDOW_BITS), level }
    }

    pub(super) fn encode<'a>(
        &mut self,
        level: i32,
        mut input: impl Chunks<'a>,
        out: &mut [u8],
    ) -> Option<usize> {
        self.raw.reset();
        if level != self.level {
            // Between two streams this only sets parameters.
            self.raw.set_level(flate2_level(level)).ok()?;
            self.level = level;
        }
        let mut written = 0;
        while let Some(mut slice) = input.next_chunk() {
            while !slice.is_empty() {
                let (taken, made, _) =
                    self.step(slice, &mut out[written..], FlushCompress::None)?;
                if taken == 0 && made == 0 {
                    return None;
                }
                slice = &slice[taken..];
                written += made;
            }
        }
        loop {
            let (_, made, status) = self.step(&[], &mut out[written..], FlushCompress::Finish)?;
            written += made;
            match status {
                Status::StreamEnd => return Some(written),
                _ if made == 0 => return None,
                _ => {}
            }
        }
    }

    /// The bytes taken, the bytes made, and whether the stream is at its end.
    fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        flush: FlushCompress,
    ) -> Option<(usize, usize, Status)> {
        let (total_in, total_out) = (self.raw.total_in(), self.raw.total_out());
        let status = self.raw.compress(input, out, flush).ok()?;
        let taken = (self.raw.total_in() - total_in) as usize;
        let made = (self.raw.total_out() - total_out) as usize;
        Some((taken, made, status))
    }
}

fn flate2_level(level: i32) -> Compression {
    match u32::try_from(level) {
        Ok(level) => Compression::new(level.clamp(1, 9)),
        Err(_) => Compression::new(LEVEL_DEFAULT),
    }
}

/// Decompresses all members.
pub(super) fn decode(input: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut output = BoundedOutput::new(max);
    let mut rest = input;
    loop {
        rest = decode_member(rest, &mut output)?;
        if rest.is_empty() {
            return Ok(output.into_bytes());
        }
    }
}

/// Decompresses the member at the front of `input` and returns what follows it.
fn decode_member<'a>(
    mut input: &'a [u8],
    output: &mut BoundedOutput,
) -> Result<&'a [u8], DecompressError> {
    let mut raw = Decompress::new_gzip(WINDOW_BITS);
    loop {
        let (total_in, total_out) = (raw.total_in(), raw.total_out());
        let full = output.room() == 0;
        let status = if full {
            // Only the trailer may still come: one byte of room shows whether it is so.
            raw.decompress(input, &mut [0], FlushDecompress::None)
        } else {
            let step = output.room().min(STEP_LEN_MIN.max(input.len()));
            output.reserve(step)?;
            raw.decompress_vec(input, output.bytes_mut(), FlushDecompress::None)
        };
        let status = status.map_err(|_| malformed("the stream is damaged"))?;
        let made = raw.total_out() - total_out;
        // An allocator may give more than was asked for, and the decoder then fills it.
        if (full && made > 0) || output.len() > output.max() {
            return Err(output.too_large());
        }
        let taken = (raw.total_in() - total_in) as usize;
        input = &input[taken..];
        match status {
            Status::StreamEnd => return Ok(input),
            _ if taken == 0 && made == 0 => return Err(malformed("the stream is cut off")),
            _ => {}
        }
    }
}

fn malformed(reason: &'static str) -> DecompressError {
    DecompressError::Malformed { codec: Codec::Gzip, reason }
}
