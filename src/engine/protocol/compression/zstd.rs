//! Zstandard, by the reference library, with one context for all batches.

use ::zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use ::zstd::zstd_safe::{
    CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, get_frame_content_size,
};

use super::{Chunks, Codec, DecompressError};

/// The least memory a decoder takes when a frame does not say its size.
const STEP_LEN_MIN: usize = 16 * 1024;

/// The library's error 70, ZSTD_error_dstSize_tooSmall, as its functions return it.
const TARGET_TOO_SMALL: usize = 0usize.wrapping_sub(70);

/// A compressor that is reset for each batch. The library sizes its tables by level and input, so
/// they grow with the first batches only.
pub(super) struct Encoder {
    context: CCtx<'static>,
    /// The level that `context` is set to.
    level: Option<i32>,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder { context: CCtx::create(), level: None }
    }

    pub(super) fn encode<'a>(
        &mut self,
        level: i32,
        mut input: impl Chunks<'a>,
        input_len: usize,
        out: &mut [u8],
    ) -> Option<usize> {
        self.context.reset(ResetDirective::SessionOnly).ok()?;
        if self.level != Some(level) {
            self.context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
            self.level = Some(level);
        }
        // Known beforehand, the size keeps the window, and so the memory, to what is needed.
        self.context.set_pledged_src_size(Some(input_len as u64)).ok()?;
        let mut left = input_len;
        let mut output = OutBuffer::around(out);
        while let Some(slice) = input.next_chunk() {
            left = left.checked_sub(slice.len())?;
            // Told of the end with the last slice, a batch in one piece is not copied.
            match left {
                0 => return self.feed(slice, &mut output, ZSTD_EndDirective::ZSTD_e_end),
                _ => self.feed(slice, &mut output, ZSTD_EndDirective::ZSTD_e_continue)?,
            };
        }
        None
    }

    /// Takes all of `slice`, and with the end also writes all that is left. Returns the bytes
    /// written so far, or `None` when the output is full.
    fn feed(
        &mut self,
        slice: &[u8],
        output: &mut OutBuffer<'_, [u8]>,
        directive: ZSTD_EndDirective,
    ) -> Option<usize> {
        let mut input = InBuffer::around(slice);
        loop {
            let left = self.context.compress_stream2(output, &mut input, directive).ok()?;
            let done = match directive {
                ZSTD_EndDirective::ZSTD_e_end => left == 0,
                _ => input.pos() == slice.len(),
            };
            if done {
                return Some(output.pos());
            }
            if output.pos() == output.capacity() {
                return None;
            }
        }
    }
}

/// Decompresses one or more frames.
///
/// In one step and not as a stream: a stream would take a window as large as the frame names, up
/// to 128 MiB at Kafka's highest level, on top of the result. A frame that does not say its size
/// is tried with more room until it fits, which doubles the work at most.
pub(super) fn decode(input: &[u8], max: usize) -> Result<Vec<u8>, DecompressError> {
    if input.is_empty() {
        return Err(malformed("empty"));
    }
    let size = get_frame_content_size(input).map_err(|_| malformed("not a zstd frame"))?;
    let mut room = match size {
        Some(size) if size > max as u64 => return Err(DecompressError::TooLarge { max }),
        Some(size) => size as usize,
        None => STEP_LEN_MIN.max(input.len().saturating_mul(4)).min(max),
    };
    let mut context = DCtx::create();
    loop {
        let mut output = vec![0; room];
        match context.decompress(&mut output[..], input) {
            Ok(len) => {
                output.truncate(len);
                return Ok(output);
            }
            Err(TARGET_TOO_SMALL) if room < max => {
                room = STEP_LEN_MIN.max(room.saturating_mul(2)).min(max);
            }
            Err(TARGET_TOO_SMALL) => return Err(DecompressError::TooLarge { max }),
            Err(_) => return Err(malformed("a frame is damaged or cut off")),
        }
    }
}

fn malformed(reason: &'static str) -> DecompressError {
    DecompressError::Malformed { codec: Codec::Zstd, reason }
}
