//! The CRC-32C of a batch, in two parts: that of the records, computed once when a batch is sealed,
//! and that of the header, which changes with identity and sequence.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of bytes that lie in several pieces.
pub fn records_crc<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for piece in pieces {
        digest.update(piece);
    }
    digest.finalize() as u32
}

/// The CRC-32C of A followed by B, from those of A and of B and the bytes of B.
///
/// A CRC is a remainder of polynomials over GF(2): appending B multiplies A's remainder by x to the
/// power of B's bits. The library's own combination squares matrices at every call; with the powers
/// in a table it is one multiplication for each byte of the length that is not 0.
pub fn combine_crc(crc_a: u32, crc_b: u32, len_b: u32) -> u32 {
    let mut shifted = crc_a;
    for (powers, byte) in POWERS.iter().zip(len_b.to_le_bytes()) {
        if byte != 0 {
            shifted = multiply(shifted, powers[usize::from(byte)]);
        }
    }
    shifted ^ crc_b
}

/// The CRC-32C polynomial, reflected: the highest bit is the coefficient of x^0.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `POWERS[k][i]` is x to the power of 8 · i · 256^k: how i · 256^k bytes of zeros act.
static POWERS: [[u32; 256]; 4] = powers();

const fn powers() -> [[u32; 256]; 4] {
    let mut powers = [[1 << 31; 256]; 4];
    let mut step = 1 << (31 - 8);
    let mut k = 0;
    while k < 4 {
        let mut i = 1;
        while i < 256 {
            powers[k][i] = multiply(powers[k][i - 1], step);
            i += 1;
        }
        step = multiply(powers[k][255], step);
        k += 1;
    }
    powers
}

/// The product of two polynomials modulo the CRC's, without branches.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        product ^= b & 0u32.wrapping_sub((a >> bit) & 1);
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_check_value() {
        assert_eq!(records_crc([b"1234".as_slice(), b"", b"56789"]), 0xe306_9283);
    }

    #[test]
    fn combining_equals_computing_over_all_bytes() {
        let bytes: Vec<u8> = (0..70_000u32).map(|n| (n.wrapping_mul(n) >> 5) as u8).collect();
        for (a, b) in [(0, 0), (40, 0), (0, 9), (40, 1), (40, 255), (40, 256), (7, 65_536)] {
            let (first, second) = bytes[..a + b].split_at(a);
            let combined = combine_crc(records_crc([first]), records_crc([second]), b as u32);
            assert_eq!(combined, records_crc([&bytes[..a + b]]), "{a} + {b} bytes");
        }
    }

    #[test]
    fn lengths_up_to_the_largest_agree_with_the_librarys_own_way() {
        for len in [1, 0xff_ffff, 0x0100_0000, 0x7fff_ffff, 0xffff_ffff] {
            let expected = crc_fast::checksum_combine(
                CrcAlgorithm::Crc32Iscsi,
                0x1234_5678,
                0x9abc_def0,
                u64::from(len),
            );
            assert_eq!(u64::from(combine_crc(0x1234_5678, 0x9abc_def0, len)), expected);
        }
    }
}
