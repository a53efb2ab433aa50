//! The hash that decides the partition of a keyed record.

/// MurmurHash2 (32 bits) with the seed and the byte order of the Java client's `Utils.murmur2`.
///
/// The Java client treats the result as signed; for a partition it is masked with `0x7fff_ffff`
/// and taken modulo the number of partitions, so that equal keys land in the same partition
/// whichever client sent them.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 12).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::murmur2;
///
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let hash = murmur2(b"customer-42") & 0x7fff_ffff;
/// assert_eq!(at.partition() as u32, hash % 12);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Java's length is an int; a key is never longer than that.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    #[test]
    fn c35_equals_the_java_client() {
        // The vectors of Kafka's own UtilsTest.testMurmur2.
        let golden: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, expected) in golden {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "murmur2({key:?})");
        }
    }

    #[test]
    fn every_tail_byte_counts() {
        for length in 1..=9 {
            let zeros = vec![0_u8; length];
            for index in 0..length {
                let mut changed = zeros.clone();
                changed[index] = 0x80;
                assert_ne!(murmur2(&zeros), murmur2(&changed), "byte {index} of {length}");
            }
        }
    }
}
