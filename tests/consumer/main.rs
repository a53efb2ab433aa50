//! The consumer on the embedded broker: what a user sees.

mod edges;
mod errors;
mod groups;
mod moves;
mod offsets;
mod peer;
mod peers;
mod reading;
mod waiting;

use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{
    Compression, ConsumeError, ConsumedBatch, Consumer, ConsumerBuilder, Producer, Record,
};

/// Longer than anything that works takes, also on a machine that is busy, shared and slow.
const LONG: Duration = Duration::from_secs(60);
/// How long nothing must come where nothing may.
const SHORT: Duration = Duration::from_millis(300);

/// A cluster with one topic, `t`.
fn cluster(brokers: usize, partitions: i32) -> EmbeddedCluster {
    EmbeddedCluster::builder().brokers(brokers).topic("t", partitions).start().unwrap()
}

fn consumer(cluster: &EmbeddedCluster) -> ConsumerBuilder {
    Consumer::builder(&cluster.bootstrap_servers())
}

fn producer(cluster: &EmbeddedCluster) -> Producer {
    Producer::builder(&cluster.bootstrap_servers())
        .configure(|config| config.pinning = false)
        .build()
        .unwrap()
}

/// Sends values to a partition of `t`, and waits until they are there.
fn send(producer: &Producer, partition: i32, values: impl IntoIterator<Item = String>) {
    let topic = producer.topic("t").unwrap();
    let record = |value: String| {
        topic.send_record(Record::new().value(value.as_str()).partition(partition)).unwrap()
    };
    let sent: Vec<_> = values.into_iter().map(record).collect();
    for delivery in sent {
        delivery.wait().unwrap();
    }
}

fn numbered(range: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    range.map(|number| number.to_string())
}

/// Compressed, so that a batch is not what is sent.
fn compressing(cluster: &EmbeddedCluster, compression: Compression) -> Producer {
    Producer::builder(&cluster.bootstrap_servers())
        .configure(|config| config.pinning = false)
        .compression(compression)
        .linger(Duration::from_millis(5))
        .build()
        .unwrap()
}

/// A record as it was read: partition, offset, value.
type Read = (i32, i64, String);

fn records(batch: &ConsumedBatch) -> Vec<Read> {
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let read = batch.records().map(|record| record.unwrap());
    read.map(|record| (batch.partition(), record.offset, text(record.value))).collect()
}

fn next(consumer: &Consumer) -> Result<ConsumedBatch, ConsumeError> {
    consumer.poll(LONG).expect("something comes")
}

fn error(consumer: &Consumer) -> ConsumeError {
    next(consumer).expect_err("an error comes")
}

/// Reads so many records; they come in the order of their offsets, without gaps.
fn read(consumer: &Consumer, count: usize) -> Vec<Read> {
    let mut all: Vec<Read> = Vec::new();
    while all.len() < count {
        let batch = next(consumer).unwrap();
        for record in records(&batch) {
            let before = all.iter().rev().find(|before| before.0 == record.0);
            assert!(before.is_none_or(|before| before.1 + 1 == record.1), "{before:?} {record:?}");
            all.push(record);
        }
    }
    assert_eq!(all.len(), count);
    all
}

fn values(read: &[Read]) -> Vec<&str> {
    read.iter().map(|record| record.2.as_str()).collect()
}

/// Nothing is there, and nothing comes.
fn nothing_comes(consumer: &Consumer) {
    if let Some(next) = consumer.poll(SHORT) {
        panic!("{next:?}");
    }
}

/// Waits until something holds.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
