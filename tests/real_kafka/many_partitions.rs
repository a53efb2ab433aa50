//! More partitions than the pool has room for full batches, and a linger nobody can wait for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate::{Delivery, Producer};

use crate::kafka::{Kafka, unique_topic};
use crate::records::Random;

const PARTITIONS: i32 = 500;
const RECORDS: usize = 600_000;
const HELD_MAX: usize = 500_000;
/// Far longer than a broker on a slow disk needs to open 500 logs: it writes and syncs a file of
/// leader epochs and touches two fresh indexes for each, which was seen to take ten seconds.
const LINGER: Duration = Duration::from_secs(240);
const LIMIT: Duration = Duration::from_secs(120);

/// 180 MB through 32 MiB: a pool that waited for linger would hold up a `send` for minutes.
pub fn steady(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("many");
    cluster.create_topic(&topic, PARTITIONS, 1, &[]);
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .buffer_memory(32 << 20)
        .linger(LINGER)
        .delivery_timeout(LINGER * 2)
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let mut random = Random::new(11);
    let value = [7_u8; 300];
    let mut held: VecDeque<Delivery> = VecDeque::new();
    let start = Instant::now();
    let mut longest = Duration::ZERO;
    for _ in 0..RECORDS {
        let key = random.next().to_be_bytes();
        let before = Instant::now();
        held.push_back(handle.send(key, &value).expect("there is room"));
        longest = longest.max(before.elapsed());
        if held.len() == HELD_MAX {
            let oldest = held.pop_front().expect("it is full");
            oldest.wait().expect("acknowledged");
        }
    }
    let sent = start.elapsed();
    producer.flush().wait().expect("not on a thread of the producer");
    let flushed = start.elapsed();
    for mut delivery in held {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("acknowledged");
    }
    println!("{RECORDS} over {PARTITIONS} partitions: sent in {sent:.2?}, longest {longest:.2?}");
    assert!(longest < LIMIT, "a send waited {longest:?}");
    assert!(flushed - sent < LIMIT, "flush waited {:?}", flushed - sent);
    producer.close(LIMIT).wait().expect("everything is resolved");
}
