//! What a record's key is hashed with, and where that puts it.

use super::murmur2;

/// How a partition is computed from a key. All are modulo all partitions, leaderless ones included:
/// equal keys stay together, whichever client sent them.
///
/// ```
/// use tidegate::KeyHash;
///
/// // Where the Java client, librdkafka's default and Sarama put a key, of 17 partitions.
/// assert_eq!(KeyHash::Murmur2.partition(b"hejsan", 17), 0x5ec1_9395 % 17);
/// assert_eq!(i64::from(KeyHash::Crc32.partition(b"hejsan", 17)), 0xd077_037e % 17);
/// assert_eq!(KeyHash::Fnv1a.partition(b"hejsan", 17), 0x17b1_e27a % 17);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyHash {
    /// [`murmur2`](crate::murmur2) without its highest bit: the Java client's, and librdkafka's
    /// `murmur2` and `murmur2_random`.
    Murmur2,
    /// CRC-32 (IEEE 802.3, as in zlib): librdkafka's default, `consistent_random`, and its
    /// `consistent`.
    Crc32,
    /// FNV-1a of 32 bits, of which the absolute value as a signed number is taken: librdkafka's
    /// `fnv1a` and `fnv1a_random`, and the hash partitioner of Sarama.
    Fnv1a,
}

impl KeyHash {
    /// The hash, as its client takes it modulo the number of partitions.
    #[inline]
    pub fn hash(self, key: &[u8]) -> u32 {
        match self {
            KeyHash::Murmur2 => murmur2(key) & 0x7fff_ffff,
            KeyHash::Crc32 => crc32fast::hash(key),
            KeyHash::Fnv1a => fnv1a(key).cast_signed().unsigned_abs(),
        }
    }

    /// The partition of a key among `count`, from 0. (0 for a `count` below 1.)
    #[inline]
    pub fn partition(self, key: &[u8], count: i32) -> i32 {
        // Below an i32, so it is one.
        (self.hash(key) % count.max(1) as u32) as i32
    }
}

/// Fowler, Noll and Vo's hash of 32 bits in its variant 1a.
fn fnv1a(data: &[u8]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    data.iter().fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::KeyHash::{Crc32, Fnv1a, Murmur2};
    use super::*;

    /// The hashes that librdkafka 2.12 expects of itself, in `unittest_murmur2` and
    /// `unittest_fnv1a`; its murmur2 is from a Java program, its FNV-1a from a Go program.
    #[test]
    fn hashes_equal_librdkafkas() {
        let golden: [(&str, u32, u32); 11] = [
            ("kafka", 0xd067_cf64, 0x0d33_c4e1),
            ("giberish123456789", 0x8f55_2b0c, 0x77a5_8295),
            ("1234", 0x9fc9_7b14, 0x023b_dd03),
            ("234", 0xe7c0_09ca, 0x2dea_3cd2),
            ("34", 0x8739_30da, 0x740f_a83e),
            ("4", 0x5a4b_5ca1, 0x310c_a263),
            ("PreAmbleWillBeRemoved,ThePrePartThatIs", 0x7842_4f1c, 0x65cb_d69c),
            ("reAmbleWillBeRemoved,ThePrePartThatIs", 0x4a62_b377, 0x6e49_c79a),
            ("eAmbleWillBeRemoved,ThePrePartThatIs", 0xe0e4_e09e, 0x69ee_d356),
            ("AmbleWillBeRemoved,ThePrePartThatIs", 0x62b8_b43f, 0x6abc_c023),
            ("", 0x106e_08d9, 0x7ee3_623b),
        ];
        for (key, expected_murmur2, expected_fnv1a) in golden {
            assert_eq!(murmur2(key.as_bytes()), expected_murmur2, "{key}");
            assert_eq!(Murmur2.hash(key.as_bytes()), expected_murmur2 & 0x7fff_ffff, "{key}");
            assert_eq!(Fnv1a.hash(key.as_bytes()), expected_fnv1a, "{key}");
        }
        // From librdkafka's test 0048-partitioner, which had them from the tool `crc32`.
        let long = "this is another string with more length to it perhaps";
        for (key, expected) in
            [("", 0), ("23456", 0xb1b4_51d7), (long, 0xb015_0df7), ("hejsan", 0xd077_037e)]
        {
            assert_eq!(Crc32.hash(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn a_hash_with_the_highest_bit_set_is_a_partition_too() {
        // Where the absolute value matters: without it this would be 0x8119_1d5b.
        assert_eq!((fnv1a(b""), Fnv1a.hash(b"")), (0x811c_9dc5, 0x7ee3_623b));
        for hash in [Murmur2, Crc32, Fnv1a] {
            for count in [1, 2, 7, i32::MAX] {
                for key in 0_u32..1_000 {
                    let partition = hash.partition(&key.to_le_bytes(), count);
                    assert!((0..count).contains(&partition), "{hash:?} of {key} among {count}");
                }
            }
            // Nobody asks for a partition where there is none; it must not panic.
            assert_eq!((hash.partition(b"k", 0), hash.partition(b"k", -1)), (0, 0));
        }
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        for hash in [Murmur2, Crc32, Fnv1a] {
            let mut shares = [0_u32; 12];
            for key in 0..12_000 {
                shares[hash.partition(format!("customer-{key}").as_bytes(), 12) as usize] += 1;
            }
            assert!(shares.iter().all(|share| (800..1_200).contains(share)), "{hash:?} {shares:?}");
        }
    }
}
