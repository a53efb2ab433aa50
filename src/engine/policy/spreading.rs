//! Partitioners that do not look at the record: round robin, random, and none at all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{PartitionRequest, Partitioner};
use crate::engine::random;

/// Random draws before the first available partition behind the last of them is taken.
const DRAWS_MAX: u32 = 8;

/// Each record of one topic, with key or without, to the next partition, all threads together: the
/// Java client's `RoundRobinPartitioner`. It begins with partition 0.
///
/// Partitions that are not available are left out, and the rest share evenly; where none is, all
/// count. Batches fill more slowly than with a [`StickyPartitioner`](crate::StickyPartitioner), and
/// requests have more of them.
///
/// ```
/// use tidegate::{PartitionRequest, Partitioner, Partitions, RoundRobinPartitioner};
/// # struct OneIsDown;
/// # impl tidegate::PartitionView for OneIsDown {
/// #     fn count(&self) -> i32 {
/// #         3
/// #     }
/// #     fn is_available(&self, partition: i32) -> bool {
/// #         partition == 0 || partition == 2
/// #     }
/// # }
///
/// let round_robin = RoundRobinPartitioner::new();
/// let partitions = Partitions::new(&OneIsDown); // 0 and 2 are available, 1 is not
/// let record = PartitionRequest::new("clicks", Some(b"a key"), None, partitions);
/// assert_eq!([0; 4].map(|_| round_robin.partition(&record)), [0, 2, 0, 2]);
/// ```
#[derive(Debug, Default)]
pub struct RoundRobinPartitioner {
    next: AtomicU64,
}

impl RoundRobinPartitioner {
    /// One that begins with partition 0.
    pub fn new() -> Self {
        RoundRobinPartitioner::default()
    }
}

impl Partitioner for RoundRobinPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let count = request.partitions.count().max(1);
        let turn = || (self.next.fetch_add(1, Relaxed) % count as u64) as i32;
        let first = turn();
        if request.partitions.is_available(first) {
            return first;
        }
        // As if all were, and without using up the turns of others: those that are passed over
        // here would come to a whole round, and the same one would have the next turn.
        let Some(next) = request.partitions.next_available(first, count) else { return first };
        // The turn of one that is not available is passed over, not given to its neighbour, which
        // would get twice its share.
        let mut others = (1..count).map(|_| turn());
        others.find(|&other| request.partitions.is_available(other)).unwrap_or(next)
    }
}

/// Each record of one topic, with key or without, to an available partition at random, all equally
/// likely: librdkafka's `random`. Where none is available, all are.
///
/// Batches fill more slowly than with a [`StickyPartitioner`](crate::StickyPartitioner), and
/// requests have more of them.
///
/// ```
/// use tidegate::{PartitionRequest, Partitioner, Partitions, RandomPartitioner};
/// # struct Two;
/// # impl tidegate::PartitionView for Two {
/// #     fn count(&self) -> i32 {
/// #         2
/// #     }
/// #     fn is_available(&self, partition: i32) -> bool {
/// #         (0..2).contains(&partition)
/// #     }
/// # }
///
/// let random = RandomPartitioner::new();
/// let record = PartitionRequest::new("clicks", None, None, Partitions::new(&Two));
/// let ones: i32 = (0..1_000).map(|_| random.partition(&record)).sum();
/// assert!((400..600).contains(&ones));
/// ```
#[derive(Debug)]
pub struct RandomPartitioner {
    next: AtomicU64,
}

impl RandomPartitioner {
    /// A partitioner whose choices differ from process to process.
    pub fn new() -> Self {
        Self::with_seed(random::seed())
    }

    /// A partitioner that makes the same choices in every run, for simulations and tests.
    pub fn with_seed(seed: u64) -> Self {
        RandomPartitioner { next: AtomicU64::new(seed) }
    }
}

impl Default for RandomPartitioner {
    fn default() -> Self {
        RandomPartitioner::new()
    }
}

impl Partitioner for RandomPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let count = request.partitions.count().max(1);
        // Threads share a counter: each of its numbers is drawn from once.
        let draw = |range| random::below(random::scatter(self.next.fetch_add(1, Relaxed)), range);
        let is_available = |partition: &i32| request.partitions.is_available(*partition);
        let drawn = (0..DRAWS_MAX).map(|_| draw(count)).find(is_available);
        drawn.unwrap_or_else(|| {
            // Few are available, or none: all are looked at, so that they share evenly.
            let available = (0..count).filter(is_available).count() as i32;
            let nth = draw(available.max(1)) as usize;
            (0..count).filter(is_available).nth(nth).unwrap_or_else(|| draw(count))
        })
    }
}

/// Chooses nothing: each record must name its partition, [`Record::partition`]. One that does not
/// is an error, [`SendErrorKind::PartitionNotNamed`], or
/// [`DeliveryErrorCause::PartitionNotNamed`] where it had to wait for its topic.
///
/// For programs that place records themselves, where a record without a partition is a mistake.
///
/// [`Record::partition`]: crate::Record::partition
/// [`SendErrorKind::PartitionNotNamed`]: crate::SendErrorKind::PartitionNotNamed
/// [`DeliveryErrorCause::PartitionNotNamed`]: crate::DeliveryErrorCause::PartitionNotNamed
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{EveryTopic, ExplicitPartitioner, Producer, Record, SendErrorKind};
///
/// let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .partitioner(EveryTopic::new(ExplicitPartitioner))
///     .build()?;
/// let orders = producer.topic("orders")?;
/// orders.send_record(Record::new().value("named").partition(2))?.wait()?;
/// let error = orders.send("a key", "not named").unwrap_err();
/// assert_eq!(*error.kind(), SendErrorKind::PartitionNotNamed);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ExplicitPartitioner;

impl ExplicitPartitioner {
    /// What a partitioner answers to say that the record should have named its partition.
    pub const MUST_BE_NAMED: i32 = i32::MIN;
}

impl Partitioner for ExplicitPartitioner {
    fn partition(&self, _request: &PartitionRequest<'_>) -> i32 {
        Self::MUST_BE_NAMED
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_topic::{Topic, request};
    use super::*;

    fn shares(partitioner: &dyn Partitioner, topic: &Topic, records: usize) -> Vec<usize> {
        let mut shares = vec![0; topic.count as usize];
        for _ in 0..records {
            shares[partitioner.partition(&request(topic, Some(b"one key"))) as usize] += 1;
        }
        shares
    }

    #[test]
    fn round_robin_takes_one_after_the_other_and_keys_do_not_matter() {
        let (partitioner, topic) = (RoundRobinPartitioner::new(), Topic::new(3));
        let keys = [None, Some(&b"k"[..]), Some(&b""[..]), Some(&b"k"[..])];
        assert_eq!(keys.map(|key| partitioner.partition(&request(&topic, key))), [0, 1, 2, 0]);
    }

    #[test]
    fn round_robin_leaves_out_what_is_not_available_and_the_rest_share_evenly() {
        let partitioner = RoundRobinPartitioner::new();
        let shares_of = |topic: &Topic| shares(&partitioner, topic, 1_200);
        assert_eq!(shares_of(&Topic::new(12)), [100; 12]);
        let expected = [0, 0, 0, 300, 0, 300, 300, 300];
        assert_eq!(shares_of(&Topic { down: vec![0, 1, 2, 4], ..Topic::new(8) }), expected);
        // Nothing is available: all count, and nothing panics.
        let all_down = Topic { down: vec![0, 1, 2], ..Topic::new(3) };
        assert_eq!(shares_of(&all_down), [400; 3]);
        assert_eq!(partitioner.partition(&request(&Topic::new(0), None)), 0);
    }

    #[test]
    fn round_robin_is_even_over_threads() {
        let (partitioner, topic) = (RoundRobinPartitioner::new(), Topic::new(6));
        let send = || shares(&partitioner, &topic, 3_000);
        let all = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(send));
            threads.map(|thread| thread.join().expect("no thread panics"))
        });
        for partition in 0..6 {
            let sum: usize = all.iter().map(|shares| shares[partition]).sum();
            assert_eq!(sum, 2_000);
        }
    }

    #[test]
    fn random_gives_each_available_partition_its_share() {
        let partitioner = RandomPartitioner::with_seed(1);
        let even = shares(&partitioner, &Topic::new(12), 12_000);
        assert!(even.iter().all(|share| (850..1_150).contains(share)), "{even:?}");
        // One in four hundred: found although random draws mostly miss it.
        let down = (0..1_200).filter(|partition| partition % 400 != 7).collect();
        let few = shares(&partitioner, &Topic { down, ..Topic::new(1_200) }, 3_000);
        let alive = [few[7], few[407], few[807]];
        assert_eq!(alive.iter().sum::<usize>(), 3_000);
        assert!(alive.iter().all(|share| (850..1_150).contains(share)), "{alive:?}");
        let down = vec![0, 1, 2];
        let none = shares(&partitioner, &Topic { down, ..Topic::new(3) }, 300);
        assert!(none.iter().all(|share| *share > 50), "{none:?}");
    }

    #[test]
    fn random_and_round_robin_spread_when_a_wrapper_falls_back_on_them() {
        let (random, round_robin) = (RandomPartitioner::new(), RoundRobinPartitioner::new());
        let inner: [&dyn Partitioner; 2] = [&random, &round_robin];
        for inner in inner {
            let wrapper = |request: &PartitionRequest<'_>| match request.key {
                Some(b"special") => 0,
                _ => inner.partition(request),
            };
            let shares = shares(&wrapper, &Topic::new(4), 4_000);
            assert!(shares.iter().all(|share| (800..1_200).contains(share)), "{shares:?}");
        }
    }
}
