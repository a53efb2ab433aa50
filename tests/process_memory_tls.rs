//! The memory of a whole process with a hundred encrypted connections that stand still: the budget,
//! and what the manual says of each connection.

#![cfg(target_os = "linux")]

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/resident.rs"]
mod resident;

use std::time::Duration;

use brokers::Brokers;
use resident::resident;
use tidegate::{DropRecords, Producer, TlsConfig};

const BROKERS: usize = 100;
const BUDGET: usize = 64 << 20;
/// For each connection: 64 KiB of encrypted bytes that the kernel has not taken, 64 KiB of received
/// ones that are not complete and 18 KiB of an application's, and 32 KiB of what is decrypted
/// (manual, *memory*).
const CONNECTION: usize = (64 + 64 + 18 + 32) << 10;
/// What a process has besides: see process_memory.
const OVERHEAD: usize = 10 << 20;

#[test]
fn serves_brokers() {
    brokers::serve();
}

/// One test, because what it measures is the process's.
#[test]
fn memory_stays_within_its_bound_with_a_hundred_encrypted_connections() {
    let mut brokers = Brokers::start_encrypted("serves_brokers", BROKERS, BROKERS as i32);
    let before = resident();
    let producer = Producer::builder(&brokers.bootstrap_servers)
        .tls(TlsConfig::new().truststore_pem(brokers.authority_pem.clone()))
        .buffer_memory(BUDGET)
        .backoff(DropRecords)
        .configure(|config| config.pinning = false)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let record = |partition: usize, value| {
        let record = tidegate::Record::new().partition(partition as i32).value(value);
        topic.send_record(record).unwrap()
    };
    for partition in 0..BROKERS {
        record(partition, &b"warm"[..]).wait().unwrap();
    }
    assert!(brokers.connections_open() >= BROKERS as u64, "each broker has one");
    brokers.pause();
    let value = vec![7_u8; 10_000];
    let mut sent = 0;
    while producer.dropped_records() < 100_000 {
        drop(record(sent % BROKERS, &value[..]));
        sent += 1;
    }
    let memory = producer.memory();
    assert!(memory.free < memory.capacity / 3, "the pool was never filled: {memory:?}");
    let worst = resident().saturating_sub(before);
    brokers.resume();
    producer.flush().wait().unwrap();
    let worst = worst.max(resident().saturating_sub(before));
    producer.close(Duration::from_secs(30)).wait().unwrap();
    println!("grown by {} KiB with a budget of {} KiB", worst / 1_024, BUDGET / 1_024);
    let bound = BUDGET + OVERHEAD + BROKERS * CONNECTION;
    assert!(worst <= bound, "grown by {worst} bytes, more than {bound}");
}
