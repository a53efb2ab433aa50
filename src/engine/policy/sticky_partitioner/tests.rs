//! Tests of stickiness, on views of made-up topics.

use super::super::test_topic::{Topic, request};
use super::*;

const BATCH: usize = 1_000;

fn topic(count: i32, down: &[i32]) -> Topic {
    Topic { down: down.to_vec(), ..Topic::new(count) }
}

fn ask(partitioner: &StickyPartitioner, topic: &Topic) -> i32 {
    partitioner.partition(&request(topic, Some(b"a key that does not matter")))
}

/// The partition of one unkeyed record that fills a batch.
fn send_batch(partitioner: &StickyPartitioner, topic: &Topic) -> i32 {
    let partition = ask(partitioner, topic);
    partitioner.on_appended(partition, BATCH, BATCH);
    partition
}

#[test]
fn sticks_until_a_batch_is_full_then_moves_on() {
    let partitioner = StickyPartitioner::with_seed(2);
    let topic = topic(12, &[]);
    let mut last = NONE;
    for _ in 0..50 {
        let first = ask(&partitioner, &topic);
        assert_ne!(first, last, "a full batch was followed by the same partition");
        for record in 1..=10 {
            assert_eq!(ask(&partitioner, &topic), first, "record {record}");
            // What is appended elsewhere does not count here.
            partitioner.on_appended((first + 1) % 12, BATCH, BATCH);
            partitioner.on_appended(first, BATCH / 10, BATCH);
        }
        last = first;
    }
}

#[test]
fn every_partition_gets_its_share() {
    let partitioner = StickyPartitioner::with_seed(3);
    let topic = topic(12, &[]);
    let mut shares = [0_u32; 12];
    for _ in 0..12_000 {
        shares[send_batch(&partitioner, &topic) as usize] += 1;
    }
    // 1,000 expected; the standard deviation is about 30.
    assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
}

/// One record a time, `each` ms apart, told of or not: where they went.
fn slowly(partitioner: &StickyPartitioner, each: i64, count: i64, told: bool) -> Vec<i32> {
    let topic = topic(12, &[]);
    let ask = |n: i64| {
        let request = PartitionRequest::new("t", None, None, Partitions::new(&topic));
        let moment = Moment::new(1_700_000_000_000 + n * each, STAY_MS_MIN);
        let partition = partitioner.partition(&request.at(Some(moment)));
        if told {
            partitioner.on_appended(partition, 100, 256 * 1_024);
        }
        partition
    };
    (0..count).map(ask).collect()
}

#[test]
fn few_records_spread_as_well() {
    for told in [false, true] {
        let partitioner = StickyPartitioner::with_seed(8);
        // 100 a second: ten to a stay.
        let partitions = slowly(&partitioner, 10, 500, told);
        for (index, pair) in partitions.windows(2).enumerate() {
            assert_eq!(pair[0] != pair[1], (index + 1) % 10 == 0, "{index}, told: {told}");
        }
        // 150 stays: one of twelve is left out in one of forty thousand runs.
        let partitions = slowly(&partitioner, 10, 1_500, told);
        assert!((0..12).all(|partition| partitions.contains(&partition)), "{partitions:?}");
        // One in ten seconds: each elsewhere.
        let partitions = slowly(&partitioner, 10_000, 50, told);
        assert!(partitions.windows(2).all(|pair| pair[0] != pair[1]), "{partitions:?}");
        // And with time each partition gets its share.
        let mut shares = [0_u32; 12];
        for partition in slowly(&partitioner, 50, 24_000, told) {
            shares[partition as usize] += 1;
        }
        assert!(shares.iter().all(|share| (1_700..2_300).contains(share)), "{shares:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_ends_a_stay_and_no_more() {
    let partitioner = StickyPartitioner::with_seed(9);
    let topic = topic(12, &[]);
    let at = |ms| partitioner.choose(&topic, Some(Moment::new(ms, STAY_MS_MIN)));
    let before = at(5_000_000);
    assert_eq!(at(5_000_099), before);
    let after = at(1_000_000);
    assert_ne!(after, before);
    assert_eq!(at(1_000_099), after);
}

#[test]
fn a_wrapper_that_tells_of_no_append_spreads_its_records() {
    let inner = StickyPartitioner::with_seed(10);
    let wrapper = |request: &PartitionRequest<'_>| match request.value {
        Some(b"special") => 0,
        _ => inner.partition(request),
    };
    let topic = topic(12, &[]);
    let value = [0; 100];
    let mut shares = [0_u32; 12];
    let mut last = NONE;
    let mut changes = 0;
    for _ in 0..60_000 {
        let partitions = Partitions::new(&topic);
        let request = PartitionRequest::new("t", None, Some(&value), partitions);
        let partition = Partitioner::partition(&wrapper, &request);
        changes += u32::from(partition != last);
        (last, shares[partition as usize]) = (partition, shares[partition as usize] + 1);
    }
    // 16 KiB at a time: batches are not torn to pieces either.
    assert!((400..600).contains(&changes), "{changes}");
    assert!(shares.iter().all(|share| (3_000..7_500).contains(share)), "{shares:?}");
    // One that tells of appends keeps to a batch's worth, however large its records are.
    let told = StickyPartitioner::with_seed(11);
    let value = vec![0; 20_000];
    let ask = |_| {
        let request = PartitionRequest::new("t", None, Some(&value), Partitions::new(&topic));
        let partition = told.partition(&request);
        told.on_appended(partition, value.len(), 10 * value.len());
        partition
    };
    let partitions: Vec<i32> = (0..100).map(ask).collect();
    let changes = partitions.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(changes, 9, "{partitions:?}");
}

#[test]
fn unavailable_partitions_are_left_and_skipped() {
    let partitioner = StickyPartitioner::with_seed(4);
    let sticky = ask(&partitioner, &topic(12, &[]));
    let moved = ask(&partitioner, &topic(12, &[sticky]));
    assert_ne!(moved, sticky, "stayed with a partition that became unavailable");

    // One of many: found although random draws mostly miss it.
    let down: Vec<i32> = (0..1_000).filter(|partition| *partition != 777).collect();
    let lonely = topic(1_000, &down);
    for _ in 0..10 {
        assert_eq!(send_batch(&partitioner, &lonely), 777);
    }
    // The others share evenly, also where a scan has to find them.
    let down: Vec<i32> = (0..1_000).filter(|partition| partition % 250 != 0).collect();
    let few = topic(1_000, &down);
    let mut shares = [0_u32; 4];
    for _ in 0..4_000 {
        let partition = send_batch(&partitioner, &few);
        assert_eq!(partition % 250, 0);
        shares[partition as usize / 250] += 1;
    }
    assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
}

#[test]
fn where_nothing_is_available_yet_batches_go_to_all() {
    let (partitioner, all_down) = (StickyPartitioner::with_seed(3), topic(4, &[0, 1, 2, 3]));
    let mut batches = [0; 4];
    for _ in 0..1_000 {
        let partition = ask(&partitioner, &all_down);
        partitioner.on_appended(partition, BATCH / 2, BATCH);
        assert_eq!(ask(&partitioner, &all_down), partition, "its batch is not full");
        partitioner.on_appended(partition, BATCH / 2, BATCH);
        batches[partition as usize] += 1;
    }
    assert!(batches.iter().all(|&count| count > 150), "{batches:?}");
}

#[test]
fn nothing_available_still_answers_within_range_and_sticks() {
    let partitioner = StickyPartitioner::with_seed(5);
    let all_down = topic(3, &[0, 1, 2]);
    let first = ask(&partitioner, &all_down);
    assert!((0..3).contains(&first), "{first}");
    assert_eq!(ask(&partitioner, &all_down), first);
    assert_eq!(send_batch(&partitioner, &topic(1, &[])), 0);
    assert_eq!(send_batch(&partitioner, &topic(1, &[])), 0);
}

#[test]
fn new_partitions_join() {
    let partitioner = StickyPartitioner::with_seed(6);
    for _ in 0..10 {
        assert!((0..2).contains(&send_batch(&partitioner, &topic(2, &[]))));
    }
    let grown = topic(4, &[]);
    let seen: Vec<i32> = (0..100).map(|_| send_batch(&partitioner, &grown)).collect();
    assert!(seen.contains(&2) && seen.contains(&3), "{seen:?}");
}

#[test]
fn threads_stick_on_their_own() {
    let partitioner = StickyPartitioner::with_seed(7);
    let topic = topic(1_000, &[]);
    let mine = ask(&partitioner, &topic);
    let theirs: Vec<i32> = (0..8)
        .map(|_| {
            let other = std::thread::scope(|scope| {
                let first = scope.spawn(|| {
                    let first = ask(&partitioner, &topic);
                    partitioner.on_appended(first, 10 * BATCH, BATCH);
                    first
                });
                first.join().expect("the thread does not panic")
            });
            assert_eq!(ask(&partitioner, &topic), mine, "moved by another thread");
            other
        })
        .collect();
    assert!(theirs.iter().any(|other| *other != mine), "{theirs:?} against {mine}");
}

/// Three brokers with four partitions each, which take bytes at rates of their own, and senders
/// that send as fast as these let them.
struct Cluster {
    /// Bytes that each broker takes in a step.
    rates: [u64; 3],
    /// Bytes queued for each broker.
    queued: [u64; 3],
    /// Closed at the high watermark, and opened at the low one.
    writable: [bool; 3],
    /// How often each was closed.
    times_closed: [u32; 3],
    /// Bytes that each broker has taken.
    taken: [u64; 3],
}

/// A batch, a step's bytes of a broker that is well, and the high watermark.
const STAY: u64 = 256 << 10;
const RATE: u64 = 1 << 20;
const HIGH: u64 = 32 << 20;

impl PartitionView for Cluster {
    fn count(&self) -> i32 {
        12
    }

    fn is_available(&self, partition: i32) -> bool {
        self.writable[partition as usize % 3]
    }

    fn load(&self, partition: i32) -> u32 {
        (self.queued[partition as usize % 3] * 1_000 / HIGH).min(1_000) as u32
    }
}

impl Cluster {
    fn new(rates: [u64; 3]) -> Self {
        Cluster { rates, queued: [0; 3], writable: [true; 3], times_closed: [0; 3], taken: [0; 3] }
    }

    /// Sends `offered` bytes a step, or fewer while nobody takes any. Returns how many were chosen
    /// for each broker from step `from` on.
    fn run(
        &mut self,
        partitioner: &StickyPartitioner,
        offered: u64,
        steps: std::ops::Range<u64>,
    ) -> [u64; 3] {
        let mut chosen = [0; 3];
        for step in 0..steps.end {
            let mut left = offered;
            while left >= STAY && self.writable.contains(&true) {
                let broker = partitioner.choose(&*self, None) as usize;
                partitioner.count_appended(broker as i32, STAY as usize, STAY as usize);
                self.queued[broker % 3] += STAY;
                if self.queued[broker % 3] > HIGH {
                    self.writable[broker % 3] = false;
                    self.times_closed[broker % 3] += 1;
                }
                left -= STAY;
                if step >= steps.start {
                    chosen[broker % 3] += STAY;
                }
            }
            for broker in 0..3 {
                let taken = self.queued[broker].min(self.rates[broker]);
                self.queued[broker] -= taken;
                self.taken[broker] += taken;
                self.writable[broker] |= self.queued[broker] < HIGH / 2;
            }
        }
        chosen
    }
}

#[test]
fn a_broker_that_takes_a_tenth_gets_about_a_tenth() {
    for seed in 1..20 {
        // Two are well and one is slow, and there is a little less than all take together.
        let mut cluster = Cluster::new([RATE, RATE, RATE / 10]);
        let sticky = StickyPartitioner::with_seed(seed);
        let chosen = cluster.run(&sticky, 2 * RATE, 1_000..4_000);
        let share = chosen[2] as f64 / chosen.iter().sum::<u64>() as f64;
        // Its rate is 4.8 % of what all take.
        assert!((0.03..0.06).contains(&share), "seed {seed}: a share of {share}");
        let taken = cluster.taken.iter().sum::<u64>() as f64 / (4_000 * 2 * RATE) as f64;
        assert!(taken > 0.98, "seed {seed}: {taken} of what was offered is taken");
        // What waits for it is less than half of what might, and it was closed at no time.
        assert!(cluster.queued[2] < HIGH / 2, "seed {seed}: {} bytes wait", cluster.queued[2]);
        assert_eq!(cluster.times_closed, [0; 3], "seed {seed}");

        // The same without adaptivity: only its high watermark holds senders back.
        let mut cluster = Cluster::new([RATE, RATE, RATE / 10]);
        let sticky = StickyPartitioner::with_seed(seed).adaptive(false);
        cluster.run(&sticky, 2 * RATE, 1_000..4_000);
        assert!(cluster.times_closed[2] > 0, "seed {seed}");
    }
}

#[test]
fn senders_that_send_more_than_all_take_keep_every_broker_busy() {
    for seed in 1..20 {
        let rates = [RATE, RATE, RATE / 10];
        let mut cluster = Cluster::new(rates);
        let sticky = StickyPartitioner::with_seed(seed);
        cluster.run(&sticky, 10 * RATE, 0..4_000);
        for (broker, rate) in rates.iter().enumerate() {
            let busy = cluster.taken[broker] as f64 / (4_000 * rate) as f64;
            assert!(busy > 0.98, "seed {seed}: broker {broker} is busy {busy} of the time");
        }
    }
}

#[test]
fn brokers_that_are_alike_get_the_same() {
    // As much as they take, and more: their queues are short, and full.
    for offered in [2 * RATE, 3 * RATE, 6 * RATE] {
        for seed in 1..10 {
            let mut cluster = Cluster::new([RATE; 3]);
            let sticky = StickyPartitioner::with_seed(seed);
            let chosen = cluster.run(&sticky, offered, 0..6_000);
            let mean = chosen.iter().sum::<u64>() as f64 / 3.0;
            for share in chosen.map(|bytes| bytes as f64 / mean) {
                assert!((0.97..1.03).contains(&share), "seed {seed}, {offered}: {chosen:?}");
            }
        }
    }
}

#[test]
fn a_broker_that_has_recovered_gets_its_share_again() {
    let mut cluster = Cluster::new([RATE, RATE, RATE / 10]);
    let sticky = StickyPartitioner::with_seed(1);
    cluster.run(&sticky, 2 * RATE, 0..2_000);
    cluster.rates = [RATE; 3];
    let chosen = cluster.run(&sticky, 2 * RATE, 200..6_000);
    let mean = chosen.iter().sum::<u64>() as f64 / 3.0;
    assert!(chosen.iter().all(|&bytes| (bytes as f64 / mean - 1.0).abs() < 0.05), "{chosen:?}");
}

#[test]
fn of_two_partitions_the_one_at_a_slow_broker_gets_less() {
    let sticky = StickyPartitioner::with_seed(2);
    let topic = Topic { loads: vec![0, 500], ..Topic::new(2) };
    let slow = (0..10_000).filter(|_| send_batch(&sticky, &topic) == 1).count();
    assert!((200..1_500).contains(&slow), "{slow} of 10,000");
    // As long as both are quick, or not asked to care, they take turns.
    for (sticky, loads) in [
        (StickyPartitioner::with_seed(3), vec![0, LOAD_USUAL]),
        (StickyPartitioner::with_seed(3).adaptive(false), vec![0, 999]),
        (StickyPartitioner::with_seed(3), vec![700, 700]),
    ] {
        let topic = Topic { loads, ..Topic::new(2) };
        let batches: Vec<i32> = (0..100).map(|_| send_batch(&sticky, &topic)).collect();
        assert!(batches.windows(2).all(|pair| pair[0] != pair[1]), "{batches:?}");
    }
}

#[test]
fn a_weight_falls_with_the_load_and_is_never_nothing() {
    assert_eq!(
        [0, LOAD_USUAL, 200, 316, 1_000, u32::MAX].map(weight),
        [1_000, 1_000, 250, 100, 10, 10]
    );
    assert!((0..1_100).all(|load| weight(load) >= weight(load + 1) && weight(load) > 0));
}
