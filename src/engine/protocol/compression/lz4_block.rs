//! Decompressing one LZ4 block.
//!
//! Written here, and not taken from the library that compresses: as this crate builds it, the
//! library decodes with unchecked memory accesses, and what is decoded came from a peer.

use super::DecompressError;
use super::lz4::malformed;
use super::output::BoundedOutput;

/// The shortest match; a token's lower half counts from it.
const MATCH_LEN_MIN: usize = 4;
/// The largest number a token's half holds; then bytes follow that are added to it.
const HALF_MAX: usize = 15;

/// Appends what `block` holds to `output`. Matches reach back to `window_start` at most, and the
/// output may grow to `end_max` at most, both positions in `output`.
pub(super) fn decode_block(
    block: &[u8],
    output: &mut BoundedOutput,
    window_start: usize,
    end_max: usize,
) -> Result<(), DecompressError> {
    let mut rest = block;
    loop {
        let [token] = *take(&mut rest, 1)? else { return Err(malformed("a block is cut off")) };
        let literal_len = take_length(&mut rest, usize::from(token >> 4))?;
        output_fits(output, literal_len, end_max)?;
        output.extend(take(&mut rest, literal_len)?)?;
        if rest.is_empty() {
            // Every block ends with literals.
            return Ok(());
        }
        let distance = match *take(&mut rest, 2)? {
            [low, high] => usize::from(u16::from_le_bytes([low, high])),
            _ => return Err(malformed("a block is cut off")),
        };
        if distance == 0 || distance > output.bytes().len() - window_start {
            return Err(malformed("a match reaches back too far"));
        }
        let match_len = take_length(&mut rest, usize::from(token & 15))? + MATCH_LEN_MIN;
        output_fits(output, match_len, end_max)?;
        output.repeat(distance, match_len)?;
    }
}

fn output_fits(output: &BoundedOutput, len: usize, end_max: usize) -> Result<(), DecompressError> {
    if len > end_max - output.bytes().len() {
        return Err(malformed("a block holds more than the frame allows"));
    }
    Ok(())
}

/// A length of which the token held `half`. At most 255 for each byte of the block: no overflow.
fn take_length(rest: &mut &[u8], half: usize) -> Result<usize, DecompressError> {
    let mut length = half;
    if half == HALF_MAX {
        loop {
            let [byte] = *take(rest, 1)? else { return Err(malformed("a block is cut off")) };
            length += usize::from(byte);
            if byte != u8::MAX {
                break;
            }
        }
    }
    Ok(length)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecompressError> {
    let (bytes, behind) = rest.split_at_checked(len).ok_or(malformed("a block is cut off"))?;
    *rest = behind;
    Ok(bytes)
}
