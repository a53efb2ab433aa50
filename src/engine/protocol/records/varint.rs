//! Zigzag varints as records use them: at most 5 bytes for 32 bits, 10 for 64.

/// The most bytes a 32-bit varint takes.
pub(super) const VARINT_LEN_MAX: usize = 5;
/// The most bytes a 64-bit varint takes.
pub(super) const VARLONG_LEN_MAX: usize = 10;

/// Maps small magnitudes of either sign to small numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
#[inline(always)]
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline(always)]
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The bytes that `raw` (already zigzagged) takes, 1 to 10, without a branch.
///
/// With b significant bits that is ceil(b / 7); (9 (b - 1) + 73) / 64 is equal to it for every b
/// from 1 to 64 and needs no division.
#[inline(always)]
pub(super) const fn raw_len(raw: u64) -> usize {
    let last_bit = 63 - (raw | 1).leading_zeros() as usize;
    (last_bit * 9 + 73) / 64
}

/// The bytes that `value` takes as a zigzag varint.
#[inline(always)]
pub(super) const fn signed_len(value: i64) -> usize {
    raw_len(zigzag(value))
}

/// The bytes that a length takes as a zigzag varint. Lengths are at most `i32::MAX`.
#[inline(always)]
pub(super) const fn length_len(length: usize) -> usize {
    raw_len((length as u64) << 1)
}

/// Writes `raw` (already zigzagged) at `at` and returns the position behind it.
///
/// # Panics
///
/// If `out` ends before it does.
#[inline(always)]
pub(super) fn put_raw(out: &mut [u8], mut at: usize, mut raw: u64) -> usize {
    // One and two bytes are nearly all there is: lengths below 8,192, deltas of a young batch.
    if raw < 0x80 {
        out[at] = raw as u8;
        return at + 1;
    }
    if raw < 0x4000 {
        out[at..at + 2].copy_from_slice(&[raw as u8 | 0x80, (raw >> 7) as u8]);
        return at + 2;
    }
    while raw >= 0x80 {
        out[at] = raw as u8 | 0x80;
        at += 1;
        raw >>= 7;
    }
    out[at] = raw as u8;
    at + 1
}

/// Writes `value` as a zigzag varint at `at` and returns the position behind it.
///
/// # Panics
///
/// If `out` ends before it does.
#[inline(always)]
pub(super) fn put_signed(out: &mut [u8], at: usize, value: i64) -> usize {
    put_raw(out, at, zigzag(value))
}

/// Writes a length, at most `i32::MAX`, at `at` and returns the position behind it.
///
/// # Panics
///
/// If `out` ends before it does.
#[inline(always)]
pub(super) fn put_length(out: &mut [u8], at: usize, length: usize) -> usize {
    put_raw(out, at, (length as u64) << 1)
}

/// Takes a 32-bit zigzag varint from the front of `input`.
///
/// `None` when `input` ends before the number does, or when it does not fit 32 bits.
#[inline]
pub(super) fn take_i32(input: &mut &[u8]) -> Option<i32> {
    let raw = take_raw(input, VARINT_LEN_MAX)?;
    let raw = u32::try_from(raw).ok()?;
    Some(unzigzag(u64::from(raw)) as i32)
}

/// Takes a 64-bit zigzag varint from the front of `input`.
///
/// `None` when `input` ends before the number does, or when it does not fit 64 bits.
#[inline]
pub(super) fn take_i64(input: &mut &[u8]) -> Option<i64> {
    take_raw(input, VARLONG_LEN_MAX).map(unzigzag)
}

#[inline]
fn take_raw(input: &mut &[u8], len_max: usize) -> Option<u64> {
    let mut raw = 0u64;
    for (index, &byte) in input.iter().take(len_max).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if index == VARLONG_LEN_MAX - 1 && bits > 1 {
            return None;
        }
        raw |= bits << (7 * index);
        if byte < 0x80 {
            *input = &input[index + 1..];
            return Some(raw);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [i64; 17] = [
        0,
        -1,
        1,
        63,
        64,
        -64,
        -65,
        8191,
        8192,
        -8193,
        1 << 20,
        i32::MAX as i64,
        i32::MIN as i64,
        1 << 40,
        -(1 << 55),
        i64::MAX,
        i64::MIN,
    ];

    #[test]
    fn lengths_are_what_is_written_and_every_number_returns() {
        for value in EDGES {
            let mut out = [0u8; VARLONG_LEN_MAX];
            let len = put_signed(&mut out, 0, value);
            assert_eq!(len, signed_len(value), "{value}");
            let mut rest = &out[..len];
            assert_eq!(take_i64(&mut rest), Some(value));
            assert!(rest.is_empty());
            for cut in 0..len {
                assert_eq!(take_i64(&mut &out[..cut]), None, "{value} cut at {cut}");
            }
            let fits = i32::try_from(value).ok();
            assert_eq!(take_i32(&mut &out[..len]), fits, "{value}");
        }
    }

    #[test]
    fn the_length_formula_holds_at_every_width() {
        for bits in 1..=64u32 {
            let raw = u64::MAX >> (64 - bits);
            assert_eq!(raw_len(raw), bits.div_ceil(7) as usize, "{bits} bits");
        }
        assert_eq!(raw_len(0), 1);
        assert_eq!(length_len(63), 1);
        assert_eq!(length_len(64), 2);
        assert_eq!(length_len(i32::MAX as usize), 5);
    }

    #[test]
    fn numbers_that_are_too_wide_or_never_end_are_refused() {
        assert_eq!(take_i32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01][..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x10][..]), None);
        assert_eq!(take_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
        assert_eq!(take_i64(&mut &[0x80; 20][..]), None);
        let mut wide = [0xff; 10];
        wide[9] = 2;
        assert_eq!(take_i64(&mut &wide[..]), None);
        wide[9] = 1;
        assert_eq!(take_i64(&mut &wide[..]), Some(i64::MIN));
    }
}
