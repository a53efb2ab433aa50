//! The memory of a whole process while brokers stand still: the budget and a little more.

#![cfg(target_os = "linux")]

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/resident.rs"]
mod resident;

use std::time::Duration;

use brokers::Brokers;
use resident::resident;
use tidegate::{DropRecords, Producer};

const BUDGET: usize = 32 << 20;
const OVERHEAD: usize = 10 << 20;

#[test]
fn serves_brokers() {
    brokers::serve();
}

/// One test, because what it measures is the process's.
#[test]
fn memory_stays_at_its_budget_while_brokers_stand_still() {
    let mut brokers = Brokers::start("serves_brokers", 3, 60, false);
    let before = resident();
    let mut worst = 0;
    // Small values, large keys; then records that are nearly all overhead; then large ones.
    for (key, value) in [(1_000, 10), (0, 1), (10, 100_000)] {
        let producer = Producer::builder(&brokers.bootstrap_servers)
            .buffer_memory(BUDGET)
            .backoff(DropRecords)
            .configure(|config| config.pinning = false)
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        topic.send((), "warm").unwrap().wait().unwrap();
        brokers.pause();
        let (mut key, value) = (vec![7_u8; key], vec![7_u8; value]);
        let mut sent = 0_u64;
        // Until nearly everything is refused, on every broker.
        while producer.dropped_records() < 100_000 {
            if let Some(bytes) = key.first_chunk_mut::<8>() {
                *bytes = sent.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            }
            drop(topic.send(&key, &value).unwrap());
            sent += 1;
        }
        let memory = producer.memory();
        assert!(memory.free < memory.capacity / 3, "the pool was never filled: {memory:?}");
        let grown = resident().saturating_sub(before);
        println!("{sent} records: grown by {} KiB", grown / 1_024);
        worst = worst.max(grown);
        brokers.resume();
        producer.flush().wait().unwrap();
        worst = worst.max(resident().saturating_sub(before));
        producer.close(Duration::from_secs(30)).wait().unwrap();
    }
    assert!(worst <= BUDGET + OVERHEAD, "grown by {worst} bytes with a budget of {BUDGET}");
}
