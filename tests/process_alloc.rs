//! Heap allocations of the whole process in steady state: none per record.

#[path = "support/brokers.rs"]
mod brokers;
#[path = "support/heap.rs"]
mod heap;

use std::time::Duration;

use brokers::Brokers;
use tidegate::{Consumer, Delivery, Producer, StartAt, Topic};

#[test]
fn serves_brokers() {
    brokers::serve();
}

const RECORDS: usize = 1_000_000;
const WINDOW: usize = 10_000;

/// Sends and awaits `RECORDS` records, at most a window of them unresolved.
fn run(topic: &Topic, window: &mut Vec<Delivery>, keys: bool) {
    let value = [7_u8; 100];
    let mut resolved = 0;
    for n in 0..RECORDS {
        let key = (n as u32).wrapping_mul(2_654_435_761).to_be_bytes();
        let key = keys.then_some(&key[..]);
        window.push(topic.send(key, &value).unwrap());
        if window.len() == WINDOW {
            for delivery in window.drain(..) {
                assert!(delivery.wait().unwrap().offset().is_some());
                resolved += 1;
            }
        }
    }
    assert_eq!(resolved, RECORDS);
}

/// One after the other: what is counted is the process's.
#[test]
fn steady_state_allocates_nothing_per_record() {
    sending();
    reading();
}

fn producer(brokers: &Brokers) -> Producer {
    Producer::builder(&brokers.bootstrap_servers)
        .configure(|config| {
            config.pinning = false;
            // A loop with time to spare sends what there is at once: on a machine where it always
            // has, there would be a batch for every thirty records, and its handful of allocations.
            config.linger = Duration::from_millis(1);
        })
        .build()
        .unwrap()
}

/// A handful for each answer of the broker, and one or two for each batch.
fn reading() {
    let mut brokers = Brokers::start("serves_brokers", 1, 12, false);
    let producer = producer(&brokers);
    let topic = producer.topic("t").unwrap();
    let mut window = Vec::with_capacity(WINDOW);
    run(&topic, &mut window, false);
    producer.close(Duration::from_secs(30)).wait().unwrap();
    let (_, batches) = brokers.records_and_batches();
    let consumer = Consumer::builder(&brokers.bootstrap_servers);
    let consumer = consumer.topic("t", StartAt::Earliest).build().unwrap();
    let before = heap::allocations();
    let mut records = 0;
    while records < RECORDS {
        let batch = consumer.poll(Duration::from_secs(60)).expect("there are more").unwrap();
        for record in &batch {
            assert_eq!(record.unwrap().value.map(<[u8]>::len), Some(100));
            records += 1;
        }
    }
    let allocations = heap::allocations() - before;
    println!("reading: {allocations} allocations, {batches} batches");
    assert!(
        allocations <= 1_000 + batches * 6 && allocations < RECORDS as u64 / 20,
        "{allocations} allocations for {batches} batches"
    );
}

fn sending() {
    let mut brokers = Brokers::start("serves_brokers", 1, 12, true);
    let producer = producer(&brokers);
    let topic = producer.topic("t").unwrap();
    let mut window = Vec::with_capacity(WINDOW);
    for keys in [false, true] {
        run(&topic, &mut window, keys);
        let (before, live_before) = (heap::allocations(), heap::live());
        let (_, batches_before) = brokers.records_and_batches();
        run(&topic, &mut window, keys);
        let allocations = heap::allocations() - before;
        let live_after = heap::live();
        let (_, batches) = brokers.records_and_batches();
        let batches = batches - batches_before;
        println!("keys {keys}: {allocations} allocations, {batches} batches");
        // 0 per record: far less than one for a hundred of them, and a handful per batch at most.
        assert!(
            allocations <= batches * 6 && allocations < RECORDS as u64 / 20,
            "{allocations} allocations in {batches} batches, keys: {keys}"
        );
        assert!(
            live_after < live_before + 256 * 1_024,
            "what is live grew from {live_before} to {live_after} bytes"
        );
    }
    producer.close(Duration::from_secs(30)).wait().unwrap();
}
