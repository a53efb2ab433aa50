//! All records to one partition for a while, then to the next.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{PartitionRequest, Partitioner};
use crate::engine::random;

/// By so much a thread's clock may lie behind that of the one which began the turn.
const AHEAD_MS: u32 = 1_000;

/// A partitioner that has not been asked yet.
const NOT_BEGUN: u64 = u64::MAX;

/// All records of one topic, with key or without, to one partition, until it is time for the next.
///
/// So a process that sends few records sends them together, and its batches are as large as they
/// can be; over the time, and over many processes, each partition has its share. One that sends
/// more than one broker takes is better off with a
/// [`StickyPartitioner`](crate::StickyPartitioner).
///
/// Each process begins with a partition of its own, at random. A partition that is not available is
/// passed over, and left at once where another one is available.
///
/// ```
/// use std::time::Duration;
///
/// use tidegate::{PartitionRequest, Partitioner, Partitions, RotatingPartitioner};
/// # struct Three;
/// # impl tidegate::PartitionView for Three {
/// #     fn count(&self) -> i32 {
/// #         3
/// #     }
/// #     fn is_available(&self, partition: i32) -> bool {
/// #         (0..3).contains(&partition)
/// #     }
/// # }
///
/// let each_minute = RotatingPartitioner::every(Duration::from_secs(60));
/// let record = PartitionRequest::new("logs", None, None, Partitions::new(&Three));
/// let first = each_minute.partition(&record.at_ms(0));
/// assert_eq!(each_minute.partition(&record.at_ms(59_999)), first);
/// assert_eq!(each_minute.partition(&record.at_ms(60_000)), (first + 1) % 3);
/// ```
#[derive(Debug)]
pub struct RotatingPartitioner {
    turn: Turn,
    seed: u64,
    /// The partition in the upper half; in the lower one the time, or the count of refreshes, at
    /// which its turn began. One word, so that threads agree on both.
    state: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Milliseconds.
    Lasts(u32),
    UntilRefresh,
}

impl RotatingPartitioner {
    /// A turn lasts as long as `time`, in whole milliseconds, from 1 ms to 49 days. Records that
    /// waited for their topic all go to the partition whose turn it is.
    pub fn every(time: Duration) -> Self {
        Self::new(Turn::Lasts(u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)))
    }

    /// A turn lasts until the producer's metadata is refreshed for all its topics: every
    /// [`metadata_max_age`](crate::ProducerConfig::metadata_max_age), 5 minutes unless set, and
    /// sooner after errors that say that it is out of date. The Java clients of Kafka 0.8 placed
    /// records without a key so.
    ///
    /// ```
    /// use tidegate::{PartitionRequest, Partitioner, Partitions, RotatingPartitioner};
    /// # struct Topic {
    /// #     refreshes: u32,
    /// # }
    /// # impl tidegate::PartitionView for Topic {
    /// #     fn count(&self) -> i32 {
    /// #         3
    /// #     }
    /// #     fn is_available(&self, partition: i32) -> bool {
    /// #         (0..3).contains(&partition)
    /// #     }
    /// #     fn refreshes(&self) -> u32 {
    /// #         self.refreshes
    /// #     }
    /// # }
    ///
    /// let rotating = RotatingPartitioner::on_refresh();
    /// let place = |topic| {
    ///     rotating.partition(&PartitionRequest::new("logs", None, None, Partitions::new(topic)))
    /// };
    /// let (before, after) = (Topic { refreshes: 7 }, Topic { refreshes: 8 });
    /// let first = place(&before);
    /// assert_eq!(place(&before), first);
    /// assert_eq!(place(&after), (first + 1) % 3);
    /// ```
    pub fn on_refresh() -> Self {
        Self::new(Turn::UntilRefresh)
    }

    fn new(turn: Turn) -> Self {
        RotatingPartitioner { turn, seed: random::seed(), state: AtomicU64::new(NOT_BEGUN) }
    }

    /// The time, or the count of refreshes, that turns are measured by, if it is known.
    fn now(&self, request: &PartitionRequest<'_>) -> Option<u32> {
        match self.turn {
            Turn::Lasts(_) => request.moment.map(|moment| moment.now_ms),
            Turn::UntilRefresh => Some(request.partitions.refreshes()),
        }
    }

    /// Whether a turn that began at `since` is over.
    fn is_over(&self, since: u32, now: u32) -> bool {
        match self.turn {
            // A clock that was set back ends it too. But a thread that looked at the clock just
            // before another began the turn is not ahead of it by seven weeks.
            Turn::Lasts(ms) => {
                let age = now.wrapping_sub(since);
                age >= ms && age < u32::MAX - AHEAD_MS
            }
            Turn::UntilRefresh => now != since,
        }
    }

    /// What follows on `state`, or itself if the turn goes on.
    fn follow(&self, state: u64, request: &PartitionRequest<'_>) -> u64 {
        let partitions = request.partitions;
        let count = partitions.count().max(1);
        let now = self.now(request);
        if state == NOT_BEGUN {
            let first = random::below(random::scatter(self.seed), count);
            let first = partitions.next_available(first, count).unwrap_or(first);
            return pack(first, now.unwrap_or_default());
        }
        let (held, since) = unpack(state);
        let is_over = now.is_some_and(|now| self.is_over(since, now));
        let is_known = (0..count).contains(&held);
        if !is_over && is_known && partitions.is_available(held) {
            return state;
        }
        let behind = if is_known { (held + 1) % count } else { 0 };
        match partitions.next_available(behind, count) {
            Some(next) => pack(next, now.unwrap_or(since)),
            // None is available: the turns go on as if all were.
            None if is_over || !is_known => pack(behind, now.unwrap_or(since)),
            None => state,
        }
    }
}

impl Partitioner for RotatingPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let state = self.state.load(Relaxed);
        let next = self.follow(state, request);
        if next == state {
            return unpack(state).0;
        }
        // Several threads may find the turn over: the first one's successor is everybody's.
        match self.state.compare_exchange(state, next, Relaxed, Relaxed) {
            Ok(_) => unpack(next).0,
            Err(other) => unpack(other).0,
        }
    }
}

fn pack(partition: i32, since: u32) -> u64 {
    u64::from(partition.cast_unsigned()) << 32 | u64::from(since)
}

fn unpack(state: u64) -> (i32, u32) {
    (((state >> 32) as u32).cast_signed(), state as u32)
}

#[cfg(test)]
mod tests {
    use super::super::test_topic::{Topic, request};
    use super::*;

    fn place_at(partitioner: &RotatingPartitioner, topic: &Topic, ms: i64) -> i32 {
        partitioner.partition(&request(topic, Some(b"a key")).at_ms(ms))
    }

    #[test]
    fn each_partition_has_its_turn_of_the_time_asked_for() {
        let topic = Topic::new(4);
        let partitioner = RotatingPartitioner::every(Duration::from_millis(50));
        // Milliseconds of today: more than 32 bits hold.
        let start = 1_700_000_000_000;
        let first = place_at(&partitioner, &topic, start);
        for record in 0..2_000 {
            let turns = i32::try_from(record / 50).expect("it is small");
            let placed = place_at(&partitioner, &topic, start + record);
            assert_eq!(placed, (first + turns) % 4, "after {record} ms");
        }
    }

    #[test]
    fn without_the_time_a_turn_goes_on_and_a_clock_set_back_ends_it() {
        let topic = Topic::new(4);
        let partitioner = RotatingPartitioner::every(Duration::from_secs(1));
        let first = place_at(&partitioner, &topic, 500_000);
        assert_eq!(partitioner.partition(&request(&topic, None)), first);
        assert_eq!(place_at(&partitioner, &topic, 500_999), first);
        assert_eq!(place_at(&partitioner, &topic, 400_000), (first + 1) % 4);
        assert_eq!(place_at(&partitioner, &topic, 400_999), (first + 1) % 4);
    }

    #[test]
    fn a_refresh_ends_a_turn_and_nothing_else_does() {
        let partitioner = RotatingPartitioner::on_refresh();
        let mut topic = Topic { refreshes: u32::MAX, ..Topic::new(3) };
        let first = place_at(&partitioner, &topic, 0);
        for turn in 0..7 {
            for record in 0..100 {
                let placed = place_at(&partitioner, &topic, record * 1_000_000);
                assert_eq!(placed, (first + turn) % 3);
            }
            topic.refreshes = topic.refreshes.wrapping_add(1);
        }
    }

    #[test]
    fn what_is_not_available_is_passed_over_and_left_at_once() {
        let partitioner = RotatingPartitioner::every(Duration::from_secs(1));
        let all = Topic::new(4);
        let first = place_at(&partitioner, &all, 0);
        let (second, third) = ((first + 1) % 4, (first + 2) % 4);
        let two_down = Topic { down: vec![first, second], ..Topic::new(4) };
        assert_eq!(place_at(&partitioner, &two_down, 500), third);
        // It has a whole turn, although the second one is back.
        assert_eq!(place_at(&partitioner, &all, 1_499), third);
        assert_eq!(place_at(&partitioner, &all, 1_500), (first + 3) % 4);
        // With nothing available the turns go on.
        let none = Topic { down: vec![0, 1, 2, 3], ..Topic::new(4) };
        assert_eq!(place_at(&partitioner, &none, 2_499), (first + 3) % 4);
        assert_eq!(place_at(&partitioner, &none, 2_500), first);
    }

    #[test]
    fn a_topic_that_grew_or_was_made_anew_with_fewer_partitions_is_followed() {
        let partitioner = RotatingPartitioner::every(Duration::from_millis(1));
        let seen = |count: i32, from: i64| {
            let place = |ms| place_at(&partitioner, &Topic::new(count), from + ms);
            (0..100).map(place).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(seen(2, 0).len(), 2);
        assert_eq!(seen(5, 100), (0..5).collect());
        assert_eq!(seen(1, 200), [0].into());
        assert_eq!(seen(0, 300), [0].into(), "nobody asks where there is none, and it holds");
    }

    #[test]
    fn threads_are_all_at_one_partition() {
        let topic = Topic::new(1_000);
        let partitioner = RotatingPartitioner::every(Duration::from_millis(1));
        for ms in 0..200 {
            let placed = std::thread::scope(|scope| {
                let place = || scope.spawn(|| place_at(&partitioner, &topic, ms));
                [place(), place()].map(|thread| thread.join().expect("no thread panics"))
            });
            assert_eq!(placed[0], placed[1]);
        }
    }

    #[test]
    fn processes_begin_with_partitions_of_their_own() {
        let topic = Topic::new(1_000);
        let first = || place_at(&RotatingPartitioner::on_refresh(), &topic, 0);
        let firsts: std::collections::BTreeSet<i32> = (0..10).map(|_| first()).collect();
        assert!(firsts.len() > 5, "{firsts:?}");
    }

    #[test]
    fn it_rotates_when_a_wrapper_falls_back_on_it() {
        let inner = RotatingPartitioner::every(Duration::from_millis(100));
        let wrapper = |request: &PartitionRequest<'_>| match request.key {
            Some(b"special") => 0,
            _ => inner.partition(request),
        };
        let topic = Topic::new(4);
        let mut shares = [0; 4];
        for ms in 0..4_000 {
            shares[Partitioner::partition(&wrapper, &request(&topic, None).at_ms(ms)) as usize] +=
                1;
        }
        assert_eq!(shares, [1_000; 4]);
    }
}
