//! A hash for records with a key, and a way to spread those without.

use super::{
    KeyHash, PartitionRequest, Partitioner, RandomPartitioner, RoundRobinPartitioner,
    StickyPartitioner,
};

/// Where records without a key go.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("load", 3).start()?;
/// use tidegate::{BuiltInPartitioners, KeyHash, Keyless};
///
/// let partitioner = BuiltInPartitioners::keys(KeyHash::Murmur2, Keyless::RoundRobin);
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).partitioner(partitioner).build()?;
/// let load = producer.topic("load")?;
/// for value in ["0.97", "0.98", "0.99"] {
///     load.send((), value)?.wait()?; // without a key
/// }
/// assert!((0..3).all(|partition| cluster.high_watermark("load", partition) == 1));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Keyless {
    /// As a [`StickyPartitioner`] spreads them. librdkafka's `…_random`, which sticks too.
    #[default]
    Sticky,
    /// As a [`RandomPartitioner`] does: each record anywhere.
    Random,
    /// As a [`RoundRobinPartitioner`] does: one after the other.
    RoundRobin,
    /// All to one partition, that of the empty key: librdkafka's `consistent`, `murmur2` and
    /// `fnv1a`.
    Hashed,
}

/// Places records of one topic by a hash of their keys, and spreads those without.
///
/// An empty key is a key, and hashed. But with [`KeyHash::Crc32`] it counts as none, unless those
/// without are hashed themselves: so does librdkafka's `consistent_random`.
///
/// ```
/// use tidegate::{KeyHash, KeyPartitioner, Keyless, PartitionRequest, Partitioner, Partitions};
/// # struct Seventeen;
/// # impl tidegate::PartitionView for Seventeen {
/// #     fn count(&self) -> i32 {
/// #         17
/// #     }
/// #     fn is_available(&self, partition: i32) -> bool {
/// #         (0..17).contains(&partition)
/// #     }
/// # }
///
/// // Keys as librdkafka places them unless told otherwise, the rest one after the other.
/// let partitioner = KeyPartitioner::new(KeyHash::Crc32, Keyless::RoundRobin);
/// let place = |key| {
///     let partitions = Partitions::new(&Seventeen); // of a topic with 17 partitions
///     partitioner.partition(&PartitionRequest::new("orders", key, None, partitions))
/// };
/// assert_eq!(i64::from(place(Some(b"hejsan"))), 0xd077_037e % 17);
/// assert_eq!([place(None), place(None), place(None)], [0, 1, 2]);
/// ```
pub struct KeyPartitioner {
    hash: KeyHash,
    spread: Spread,
}

enum Spread {
    Sticky(StickyPartitioner),
    Random(RandomPartitioner),
    RoundRobin(RoundRobinPartitioner),
    Hashed,
}

impl KeyPartitioner {
    /// Keys by `hash`, records without by `keyless`.
    pub fn new(hash: KeyHash, keyless: Keyless) -> Self {
        let spread = match keyless {
            Keyless::Sticky => Spread::Sticky(StickyPartitioner::new()),
            Keyless::Random => Spread::Random(RandomPartitioner::new()),
            Keyless::RoundRobin => Spread::RoundRobin(RoundRobinPartitioner::new()),
            Keyless::Hashed => Spread::Hashed,
        };
        KeyPartitioner { hash, spread }
    }

    /// See [`StickyPartitioner::adaptive`]; without effect where records without a key do not
    /// stick.
    #[must_use]
    pub fn adaptive(self, is_adaptive: bool) -> Self {
        let spread = match self.spread {
            Spread::Sticky(sticky) => Spread::Sticky(sticky.adaptive(is_adaptive)),
            other => other,
        };
        KeyPartitioner { spread, ..self }
    }
}

impl Partitioner for KeyPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let hashed = |key| self.hash.partition(key, request.partitions.count());
        let key = match request.key {
            Some([]) if self.hash == KeyHash::Crc32 => None,
            key => key,
        };
        match (key, &self.spread) {
            (Some(key), _) => hashed(key),
            (None, Spread::Hashed) => hashed(&[]),
            (None, Spread::Sticky(sticky)) => sticky.partition(request),
            (None, Spread::Random(random)) => random.partition(request),
            (None, Spread::RoundRobin(round_robin)) => round_robin.partition(request),
        }
    }

    fn on_appended(&self, partition: i32, bytes: usize, batch_size: usize) {
        if let Spread::Sticky(sticky) = &self.spread {
            sticky.on_appended(partition, bytes, batch_size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_topic::{Topic, request};
    use super::*;

    /// Librdkafka's test 0048-partitioner: its keys, and where each of its partitioners puts them
    /// among 17 partitions. `None` is anywhere.
    #[test]
    fn keys_go_where_librdkafka_sends_them() {
        let long = "this is another string with more length to it perhaps";
        let keys = [None, Some(""), Some("23456"), Some(long), Some("hejsan")];
        let (crc32, murmur2, fnv1a) = (
            [0, 0xb1b4_51d7, 0xb015_0df7, 0xd077_037e],
            [0x106e_08d9, 0x058d_780f, 0x4f77_03da, 0x5ec1_9395],
            [0x7ee3_623b, 0x27e6_f469, 0x155e_3e5f, 0x17b1_e27a_i64],
        );
        let topic = Topic::new(17);
        for (hash, hashes) in
            [(KeyHash::Crc32, crc32), (KeyHash::Murmur2, murmur2), (KeyHash::Fnv1a, fnv1a)]
        {
            let of_empty = Some(hashes[0]);
            let [empty, rest @ ..] = hashes.map(Some);
            let empty_spread = empty.filter(|_| hash != KeyHash::Crc32);
            for (keyless, expected) in [
                (Keyless::Hashed, [of_empty, empty, rest[0], rest[1], rest[2]]),
                (Keyless::Sticky, [None, empty_spread, rest[0], rest[1], rest[2]]),
            ] {
                let partitioner = KeyPartitioner::new(hash, keyless);
                for (key, expected) in keys.iter().zip(expected) {
                    let placed = partitioner.partition(&request(&topic, key.map(str::as_bytes)));
                    assert!((0..17).contains(&placed));
                    let expected = expected.map(|hash| hash % 17);
                    let is_right = expected.is_none_or(|expected| i64::from(placed) == expected);
                    assert!(is_right, "{hash:?} {keyless:?} {key:?}: {placed}, not {expected:?}");
                }
            }
        }
    }

    #[test]
    fn records_without_key_are_spread_as_asked() {
        let topic = Topic::new(12);
        let place = |keyless| {
            let partitioner = KeyPartitioner::new(KeyHash::Fnv1a, keyless);
            (0..1_200).map(|_| partitioner.partition(&request(&topic, None))).collect::<Vec<_>>()
        };
        let changes = |placed: &[i32]| placed.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(changes(&place(Keyless::Hashed)), 0);
        let sticky = changes(&place(Keyless::Sticky));
        assert!((1..100).contains(&sticky), "{sticky} changes");
        let random = changes(&place(Keyless::Random));
        assert!((1_000..1_199).contains(&random), "{random} changes");
        let round_robin = place(Keyless::RoundRobin);
        assert!(round_robin.iter().enumerate().all(|(n, placed)| n as i32 % 12 == *placed));
    }
}
