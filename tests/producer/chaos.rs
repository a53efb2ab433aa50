//! Everything at once, by seeded chance: leaders move, connections break, brokers stand still or
//! are gone, answers are errors or missing. Whatever happens, deliveries tell the truth.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate::embedded::Fault;
use tidegate::{Certainty, Compression};

use super::*;

const BROKERS: u64 = 3;
const PARTITIONS: u64 = 4;
const SENDERS: u32 = 3;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One thing that goes wrong. Brokers that lie are left out: an error that says that nothing was
/// written never comes after an append.
fn disturb(cluster: &EmbeddedCluster, random: &mut Random) {
    let broker = 1 + random.below(BROKERS) as i32;
    let partition = random.below(PARTITIONS) as i32;
    let pause = Duration::from_millis(random.below(60));
    match random.below(13) {
        0..=2 => drop(cluster.move_leader("t", partition, broker)),
        3 => cluster.script(Fault::produce_error("t", partition, 7).after_append()),
        4 => cluster.script(Fault::produce_error("t", partition, 19).times(2)),
        5 => cluster.script(Fault::close_after_append().broker(broker)),
        6 => cluster.script(Fault::close_before_response().broker(broker)),
        7 => cluster.script(Fault::omit_partition().partition("t", partition).after_append()),
        8 if random.below(2) == 0 => cluster.script(Fault::silence().broker(broker)),
        8 => cluster.script(Fault::silence().broker(broker).after_append()),
        9 => cluster.script(Fault::delay(pause).broker(broker).after_append()),
        10 => {
            cluster.pause_broker(broker);
            std::thread::sleep(pause);
            cluster.resume_broker(broker);
        }
        11 => {
            cluster.stop_broker(broker);
            std::thread::sleep(pause / 4);
            cluster.restart_broker(broker).unwrap();
        }
        _ => {
            cluster.set_leaderless("t", partition);
            std::thread::sleep(pause / 4);
            cluster.move_leader("t", partition, broker);
        }
    }
}

struct Sent {
    value: String,
    partition: i32,
    delivery: Delivery,
}

fn send(topic: &Topic, thread: u32, seed: u64, stop: &AtomicBool) -> Vec<Sent> {
    let mut random = Random(seed.wrapping_mul(31) + u64::from(thread) + 1);
    let mut sent = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let partition = random.below(PARTITIONS) as i32;
        let padding = "x".repeat(random.below(300) as usize);
        let value = format!("{thread} {} {padding}", sent.len());
        let delivery = topic.send_record(to(partition, &value)).unwrap();
        sent.push(Sent { value, partition, delivery });
        if random.below(20) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(1_500)));
        }
    }
    sent
}

fn check(seed: u64, cluster: &EmbeddedCluster, sent: Vec<Vec<Sent>>, must_succeed: bool) {
    let logs: Vec<Vec<String>> =
        (0..PARTITIONS as i32).map(|p| values(&cluster.records("t", p))).collect();
    let mut at: HashMap<&str, (usize, usize)> = HashMap::new();
    for (partition, log) in logs.iter().enumerate() {
        for (offset, value) in log.iter().enumerate() {
            let before = at.insert(value, (partition, offset));
            assert_eq!(before, None, "seed {seed}: {value:?} is there twice");
        }
    }
    let (mut resolved, mut unknown, mut not_written) = (0, 0, 0);
    for sent in sent {
        let mut last = [None; PARTITIONS as usize];
        for Sent { value, partition, delivery } in sent {
            let found = at.get(value.as_str()).copied();
            if let Some((in_partition, offset)) = found {
                assert_eq!(in_partition, partition as usize, "seed {seed}");
                let last = &mut last[in_partition];
                assert!(*last < Some(offset), "seed {seed}: {value:?} was overtaken");
                *last = Some(offset);
            }
            resolved += 1;
            match outcome(delivery) {
                Ok(metadata) => {
                    assert!(found.is_some(), "seed {seed}: {value:?} is lost: {metadata}");
                    let offset = metadata.offset().map(|offset| offset as usize);
                    let right = offset.is_none_or(|offset| found.unwrap().1 == offset);
                    assert!(right, "seed {seed}: {value:?} is not at {metadata}");
                }
                Err(error) => {
                    assert!(!must_succeed, "seed {seed}: {error}");
                    let written = found.is_some();
                    match error.certainty() {
                        Certainty::Unknown => unknown += 1,
                        Certainty::NotWritten => not_written += 1,
                    }
                    let allowed = error.certainty() == Certainty::Unknown || !written;
                    assert!(allowed, "seed {seed}: {value:?} is in the log: {error}");
                }
            }
        }
    }
    let duplicates = cluster.stats().duplicates();
    println!(
        "seed {seed}: {resolved} resolved, {unknown} unknown, {not_written} not written, \
         {duplicates} repeated batches"
    );
}

/// A second and a half of chaos. With `hurried`, records may expire on the way.
fn disturbed(
    seed: u64,
    cluster: &EmbeddedCluster,
    hurried: bool,
    change: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
) -> (Producer, Vec<Vec<Sent>>) {
    let quick = builder(cluster).request_timeout(millis(150)).configure(|c| {
        c.retry_backoff = millis(3);
        c.retry_backoff_max = millis(30);
        c.reconnect_backoff = millis(3);
        c.reconnect_backoff_max = millis(30);
        c.metadata_min_refresh = millis(10);
        if hurried {
            c.delivery_timeout = millis(200);
        }
    });
    let producer = change(quick).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let (topic, stop) = (&topic, &stop);
        let senders: Vec<_> = (0..SENDERS)
            .map(|thread| scope.spawn(move || send(topic, thread, seed, stop)))
            .collect();
        let mut random = Random(seed | 1);
        let start = Instant::now();
        while start.elapsed() < millis(1_500) {
            disturb(cluster, &mut random);
            std::thread::sleep(Duration::from_micros(random.below(8_000)));
        }
        cluster.clear_faults();
        stop.store(true, Ordering::Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    close(&producer);
    (producer, sent)
}

fn chaos(seed: u64, hurried: bool, change: impl FnOnce(ProducerBuilder) -> ProducerBuilder) {
    let cluster = cluster(BROKERS as usize, PARTITIONS as i32);
    let (producer, sent) = disturbed(seed, &cluster, hurried, change);
    check(seed, &cluster, sent, !hurried);
    assert_eq!(producer.memory().free, producer.memory().capacity, "seed {seed}");
}

/// `TIDEGATE_CHAOS_SEED` repeats one run.
fn seed(default: u64) -> u64 {
    std::env::var("TIDEGATE_CHAOS_SEED").map_or(default, |seed| seed.parse().unwrap())
}

#[test]
fn nothing_is_lost_doubled_or_overtaken() {
    chaos(seed(11), false, |builder| builder.batch_size(1_000));
}

#[test]
fn nor_with_a_loop_per_broker() {
    let loops = EventLoops::per_broker().unpinned();
    chaos(seed(22), false, |builder| builder.batch_size(1_000).event_loops(loops));
}

#[test]
fn nor_with_large_batches_linger_and_compression() {
    chaos(seed(33), false, |builder| {
        builder.linger(millis(3)).compression(Compression::Lz4 { level: 1 })
    });
}

#[test]
fn nor_when_memory_is_short() {
    chaos(seed(44), false, |builder| builder.buffer_memory(2 << 20).batch_size(5_000));
}

#[test]
fn nor_when_records_expire_on_the_way() {
    chaos(seed(55), true, |builder| builder.batch_size(1_000));
}

#[test]
fn without_idempotence_deliveries_tell_the_truth_as_well() {
    let seed = seed(66);
    let cluster = cluster(BROKERS as usize, PARTITIONS as i32);
    let (producer, sent) = disturbed(seed, &cluster, true, |builder| {
        builder.batch_size(1_000).acks(tidegate::Acks::Leader)
    });
    let logs: Vec<Vec<String>> =
        (0..PARTITIONS as i32).map(|p| values(&cluster.records("t", p))).collect();
    let written: HashSet<&str> = logs.iter().flatten().map(String::as_str).collect();
    for Sent { value, partition, delivery } in sent.into_iter().flatten() {
        match outcome(delivery) {
            Ok(metadata) => {
                let offset = metadata.offset().expect("a leader's answer has one") as usize;
                assert_eq!(logs[partition as usize][offset], value, "seed {seed}: {metadata}");
            }
            Err(error) => {
                let written = written.contains(value.as_str());
                let allowed = error.certainty() == Certainty::Unknown || !written;
                assert!(allowed, "seed {seed}: {value:?} is in the log: {error}");
            }
        }
    }
    assert_eq!(producer.memory().free, producer.memory().capacity, "seed {seed}");
}
