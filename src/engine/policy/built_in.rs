//! Every partitioner that is built in, by name, made for each topic.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{
    DefaultPartitioner, ExplicitPartitioner, KeyHash, KeyPartitioner, Keyless, Partitioner,
    PartitionerFactory, RandomPartitioner, RotatingPartitioner, RoundRobinPartitioner,
    StickyPartitioner,
};

/// Makes one of the built-in partitioners for each topic.
///
/// ```
/// use tidegate::{BuiltInPartitioners, KeyHash, Keyless, Producer};
///
/// // Keys where a program with librdkafka's defaults puts them.
/// let partitioners = BuiltInPartitioners::keys(KeyHash::Crc32, Keyless::Sticky);
/// let builder = Producer::builder("kafka:9092").partitioner(partitioners);
/// # drop(builder);
/// assert_eq!(BuiltInPartitioners::named("consistent_random"), Some(partitioners));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BuiltInPartitioners {
    kind: Kind,
    is_adaptive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Default,
    Keys(KeyHash, Keyless),
    Sticky,
    Random,
    RoundRobin,
    RotateEvery(Duration),
    RotateOnRefresh,
    Explicit,
}

/// The names that [`BuiltInPartitioners::named`] knows: first those of librdkafka.
const NAMES: &[(&str, Kind)] = &[
    ("random", Kind::Random),
    ("consistent", Kind::Keys(KeyHash::Crc32, Keyless::Hashed)),
    ("consistent_random", Kind::Keys(KeyHash::Crc32, Keyless::Sticky)),
    ("murmur2", Kind::Keys(KeyHash::Murmur2, Keyless::Hashed)),
    ("murmur2_random", Kind::Default),
    ("fnv1a", Kind::Keys(KeyHash::Fnv1a, Keyless::Hashed)),
    ("fnv1a_random", Kind::Keys(KeyHash::Fnv1a, Keyless::Sticky)),
    ("sticky", Kind::Sticky),
    ("round_robin", Kind::RoundRobin),
    ("rotate_on_refresh", Kind::RotateOnRefresh),
    ("explicit", Kind::Explicit),
];

impl BuiltInPartitioners {
    /// Whether records with a key are placed by it.
    pub(crate) fn hashes_keys(&self) -> bool {
        matches!(self.kind, Kind::Default | Kind::Keys(..))
    }

    const fn of(kind: Kind) -> Self {
        BuiltInPartitioners { kind, is_adaptive: true }
    }

    /// A [`DefaultPartitioner`] for each topic. (A producer without a factory has these too, and
    /// calls them directly.)
    pub const fn default_partitioner() -> Self {
        Self::of(Kind::Default)
    }

    /// A [`KeyPartitioner`] for each topic.
    pub const fn keys(hash: KeyHash, keyless: Keyless) -> Self {
        match (hash, keyless) {
            (KeyHash::Murmur2, Keyless::Sticky) => Self::default_partitioner(),
            (hash, keyless) => Self::of(Kind::Keys(hash, keyless)),
        }
    }

    /// A [`StickyPartitioner`] for each topic.
    pub const fn sticky() -> Self {
        Self::of(Kind::Sticky)
    }

    /// A [`RandomPartitioner`] for each topic.
    pub const fn random() -> Self {
        Self::of(Kind::Random)
    }

    /// A [`RoundRobinPartitioner`] for each topic.
    pub const fn round_robin() -> Self {
        Self::of(Kind::RoundRobin)
    }

    /// A [`RotatingPartitioner::every`] for each topic.
    pub const fn rotate_every(time: Duration) -> Self {
        Self::of(Kind::RotateEvery(time))
    }

    /// A [`RotatingPartitioner::on_refresh`] for each topic.
    pub const fn rotate_on_refresh() -> Self {
        Self::of(Kind::RotateOnRefresh)
    }

    /// An [`ExplicitPartitioner`].
    pub const fn explicit() -> Self {
        Self::of(Kind::Explicit)
    }

    /// Whether records that stick leave slow brokers more; see [`StickyPartitioner::adaptive`].
    /// Without effect on those that do not stick. Default: yes.
    #[must_use]
    pub const fn adaptive(self, is_adaptive: bool) -> Self {
        BuiltInPartitioners { is_adaptive, ..self }
    }

    /// By the name that librdkafka's property `partitioner` gives it: `random`, `consistent`,
    /// `consistent_random`, `murmur2`, `murmur2_random`, `fnv1a`, `fnv1a_random`; or `sticky`,
    /// `round_robin`, `rotate_on_refresh`, `explicit`. `None` for any other name.
    ///
    /// One difference: `random` draws for each record, where librdkafka sticks with those without a
    /// key for 10 ms, unless `sticky.partitioning.linger.ms` is 0.
    ///
    /// ```
    /// use tidegate::BuiltInPartitioners;
    ///
    /// let names: Vec<_> = BuiltInPartitioners::names().collect();
    /// assert!(names.contains(&"fnv1a_random"));
    /// assert!(names.iter().all(|name| BuiltInPartitioners::named(name).is_some()));
    /// assert_eq!(BuiltInPartitioners::named("md5"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| Self::of(*kind))
    }

    /// Every name that [`BuiltInPartitioners::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }
}

impl PartitionerFactory for BuiltInPartitioners {
    fn for_topic(&self, _topic: &str) -> Arc<dyn Partitioner> {
        let is_adaptive = self.is_adaptive;
        match self.kind {
            Kind::Default => Arc::new(DefaultPartitioner::new().adaptive(is_adaptive)),
            Kind::Keys(hash, keyless) => {
                Arc::new(KeyPartitioner::new(hash, keyless).adaptive(is_adaptive))
            }
            Kind::Sticky => Arc::new(StickyPartitioner::new().adaptive(is_adaptive)),
            Kind::Random => Arc::new(RandomPartitioner::new()),
            Kind::RoundRobin => Arc::new(RoundRobinPartitioner::new()),
            Kind::RotateEvery(time) => Arc::new(RotatingPartitioner::every(time)),
            Kind::RotateOnRefresh => Arc::new(RotatingPartitioner::on_refresh()),
            Kind::Explicit => Arc::new(ExplicitPartitioner),
        }
    }
}

impl fmt::Debug for BuiltInPartitioners {
    /// By its name, where it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, kind)| *kind == self.kind) {
            Some((name, _)) => f.write_str(name)?,
            None => write!(f, "{:?}", self.kind)?,
        }
        if self.is_adaptive { Ok(()) } else { f.write_str(", not adaptive") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_topic::{Topic, request};
    use super::super::{PartitionRequest, PartitionView};
    use super::*;

    #[test]
    fn names_and_constructors_are_the_same() {
        use {KeyHash::*, Keyless::*};
        for (name, expected) in [
            ("random", BuiltInPartitioners::random()),
            ("consistent", BuiltInPartitioners::keys(Crc32, Hashed)),
            ("consistent_random", BuiltInPartitioners::keys(Crc32, Sticky)),
            ("murmur2", BuiltInPartitioners::keys(Murmur2, Hashed)),
            ("murmur2_random", BuiltInPartitioners::keys(Murmur2, Sticky)),
            ("murmur2_random", BuiltInPartitioners::default_partitioner()),
            ("fnv1a", BuiltInPartitioners::keys(Fnv1a, Hashed)),
            ("fnv1a_random", BuiltInPartitioners::keys(Fnv1a, Sticky)),
            ("sticky", BuiltInPartitioners::sticky()),
            ("round_robin", BuiltInPartitioners::round_robin()),
            ("rotate_on_refresh", BuiltInPartitioners::rotate_on_refresh()),
            ("explicit", BuiltInPartitioners::explicit()),
        ] {
            assert_eq!(BuiltInPartitioners::named(name), Some(expected));
            assert_eq!(format!("{expected:?}"), name);
        }
        let shown = format!("{:?}", BuiltInPartitioners::sticky().adaptive(false));
        assert_eq!(shown, "sticky, not adaptive");
        for unknown in ["", "Random", "murmur2 ", "md5"] {
            assert_eq!(BuiltInPartitioners::named(unknown), None);
        }
    }

    proptest! {
        /// Whatever the leaders and their loads, and whatever the time and the refreshes.
        #[test]
        fn what_does_not_hash_chooses_an_available_partition_where_there_is_one(
            loads in proptest::collection::vec(0_u32..1_100, 1..40),
            down in proptest::collection::btree_set(0_i32..40, 0..40),
            asks in proptest::collection::vec((any::<bool>(), any::<i64>(), any::<u32>()), 1..60),
        ) {
            let count = loads.len() as i32;
            let down: Vec<i32> = down.into_iter().filter(|&down| down < count).collect();
            let is_any_available = (0..count).any(|partition| !down.contains(&partition));
            let minute = BuiltInPartitioners::rotate_every(Duration::from_secs(60));
            let named = BuiltInPartitioners::names().filter_map(BuiltInPartitioners::named);
            for partitioners in named.chain([minute]) {
                if partitioners == BuiltInPartitioners::explicit() {
                    continue;
                }
                let partitioner = partitioners.for_topic("t");
                for &(has_key, ms, refreshes) in &asks {
                    let (down, loads) = (down.clone(), loads.clone());
                    let topic = Topic { count, down, loads, refreshes };
                    let key = has_key.then_some(&b"a key"[..]);
                    let placed = partitioner.partition(&request(&topic, key).at_ms(ms));
                    prop_assert!((0..count).contains(&placed));
                    partitioner.on_appended(placed, 700, 1_000);
                    let hashed = match partitioners.kind {
                        Kind::Keys(_, Keyless::Hashed) => true,
                        Kind::Default | Kind::Keys(..) => has_key,
                        _ => false,
                    };
                    let is_available = topic.is_available(placed);
                    prop_assert!(hashed || is_available || !is_any_available, "{partitioners:?}");
                }
            }
        }
    }

    /// Each as it is made for a topic, behind a closure that passes only the question on.
    #[test]
    fn a_wrapper_around_any_of_them_spreads_or_says_why_not() {
        let minute = BuiltInPartitioners::rotate_every(Duration::from_secs(60));
        let named = BuiltInPartitioners::names().filter_map(BuiltInPartitioners::named);
        for partitioners in named.chain([minute]) {
            let inner = partitioners.for_topic("t");
            let wrapper = move |request: &PartitionRequest<'_>| match request.value {
                Some(b"special") => 3,
                _ => inner.partition(request),
            };
            let mut shares = [0; 4];
            for record in 0_u32..4_000 {
                let key = record.to_le_bytes();
                // With key and without: each must spread one of the two, if not both.
                let key = (record % 2 == 0).then_some(&key[..]);
                let topic = Topic { refreshes: record, ..Topic::new(4) };
                let request = request(&topic, key).at_ms(i64::from(record) * 60_000);
                let placed = Partitioner::partition(&wrapper, &request);
                if partitioners == BuiltInPartitioners::explicit() {
                    assert_eq!(placed, ExplicitPartitioner::MUST_BE_NAMED);
                } else {
                    shares[placed as usize] += 1;
                }
            }
            let spreads = shares.iter().all(|share| *share > 400);
            assert!(
                spreads || partitioners == BuiltInPartitioners::explicit(),
                "{partitioners:?}: {shares:?}"
            );
        }
    }
}
