//! The consumer against real Kafka, beside Java's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate::{
    Compression, ConsumedBatch, Consumer, ConsumerBuilder, IsolationLevel, Producer, Record,
    StartAt,
};

use crate::ages;
use crate::kafka::{
    Cluster, ClusterConfig, Kafka, ReadRecord, RecordView, Release, TimestampType, V0_11, V2_0,
    V2_8, unique_topic,
};
use crate::streams::{Pace, Streams, patient};

/// Far over what anything takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Reads a topic from its beginning to the ends that its partitions have now, as `ReadBack` does.
/// Gives the number of records.
pub fn read_each(
    servers: &str,
    topic: &str,
    isolation: IsolationLevel,
    each: impl FnMut(RecordView<'_>),
) -> u64 {
    read_through(Consumer::builder(servers).isolation_level(isolation), topic, each)
}

/// The same through a consumer that is set up otherwise.
pub fn read_through(
    builder: ConsumerBuilder,
    topic: &str,
    mut each: impl FnMut(RecordView<'_>),
) -> u64 {
    let consumer = builder.topic(topic, StartAt::Earliest).build().expect("the settings work");
    let mut count = 0;
    let start = Instant::now();
    while consumer.lag() != Some(0) {
        let Some(batch) = consumer.poll(Duration::from_millis(100)) else {
            assert!(start.elapsed() < LIMIT, "{:?}", consumer.partitions());
            continue;
        };
        count += view_each(&batch.expect("it can be read"), &mut each);
    }
    count
}

fn view_each(batch: &ConsumedBatch, each: &mut dyn FnMut(RecordView<'_>)) -> u64 {
    let mut count = 0;
    for record in batch {
        let record = record.expect("its producer encoded it well");
        count += 1;
        each(RecordView {
            partition: batch.partition(),
            offset: record.offset,
            timestamp: record.timestamp_ms,
            timestamp_type: match batch.is_log_append_time() {
                true => TimestampType::LogAppendTime,
                false => TimestampType::CreateTime,
            },
            key: record.key,
            value: record.value,
            headers: record.headers().map(|header| (header.key, header.value)).collect(),
        });
    }
    count
}

fn read_all(cluster: &Cluster, topic: &str, isolation: IsolationLevel) -> Vec<ReadRecord> {
    let mut records = Vec::new();
    let servers = cluster.running_servers();
    read_each(&servers, topic, isolation, |record| records.push(record.to_owned()));
    records.sort_by_key(|record| record.partition);
    records
}

/// Of transactions that Java's producer has written, some of them aborted, the consumer hands out
/// what Java's does.
pub fn transactions(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("transactions");
    cluster.create_topic(&topic, 1, 1, &[]);
    cluster.write_transactions(&topic, 20);
    let committed = read_all(&cluster, &topic, IsolationLevel::ReadCommitted);
    assert_eq!(committed, cluster.read_back(&topic));
    let is_aborted = |record: &&ReadRecord| {
        record.value.as_ref().is_some_and(|value| value.starts_with(b"aborted"))
    };
    assert_eq!(committed.iter().filter(is_aborted).count(), 0);
    let all = read_all(&cluster, &topic, IsolationLevel::ReadUncommitted);
    assert_eq!(all.iter().filter(is_aborted).count(), 7 * 5);
    assert_eq!(all.len(), 2 * 20 * 5);
}

/// A leader is killed, comes back and leads again while its partitions are read: each record comes
/// once, in order.
pub fn killed_leader(kafka: &Kafka) {
    const PARTITIONS: i32 = 4;
    let cluster = kafka.private_three();
    let topic = unique_topic("read_over");
    cluster.create_topic(&topic, PARTITIONS, 3, &[]);
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = producer.build().expect("the settings work");
    let consumer = Consumer::builder(&cluster.bootstrap_servers());
    let consumer = consumer.topic(&topic, StartAt::Earliest).build().expect("the settings work");
    let streams = Streams::start(&producer, &topic, PARTITIONS, Pace::per_second(2_000));
    let mut next = BTreeMap::new();
    let mut read = |until: &dyn Fn(&BTreeMap<i32, i64>) -> bool| {
        let start = Instant::now();
        while !until(&next) {
            assert!(start.elapsed() < LIMIT, "{next:?} {:?}", consumer.partitions());
            let Some(batch) = consumer.poll(Duration::from_millis(100)) else { continue };
            view_each(&batch.expect("it can be read"), &mut |record| {
                let next = next.entry(record.partition).or_insert(0);
                assert_eq!(record.offset, *next, "partition {}", record.partition);
                *next += 1;
            });
        }
    };
    let beyond = |offset: i64| {
        move |next: &BTreeMap<i32, i64>| {
            (0..PARTITIONS).all(|partition| next.get(&partition).is_some_and(|&at| at > offset))
        }
    };
    read(&beyond(2_000));
    let killed = cluster.leader(&topic, 0).expect("a created topic has leaders");
    cluster.kill(killed);
    read(&beyond(8_000));
    cluster.restart(killed);
    cluster.wait_in_sync(&topic);
    cluster.move_leader(&topic, 0, killed);
    read(&beyond(16_000));
    let summary = streams.finish(&cluster);
    assert_eq!(summary.failed(), 0);
    let acked = summary.acked as i64;
    read(&|next| next.values().sum::<i64>() >= acked);
    assert_eq!(consumer.lag(), Some(0), "what is acknowledged is all there is");
}

/// Topics that keep the format of Kafka 0.10 at newer brokers are read, also where the broker sets
/// the time, and from the midst of a compressed set on.
pub fn old_formats(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::single().release(&V2_8));
    for (times, compression) in [
        ("CreateTime", Compression::None),
        ("CreateTime", Compression::gzip()),
        ("CreateTime", Compression::snappy()),
        ("LogAppendTime", Compression::lz4()),
        ("LogAppendTime", Compression::None),
    ] {
        let topic = unique_topic("format");
        let config = [("message.format.version", "0.10.2"), ("message.timestamp.type", times)];
        cluster.create_topic(&topic, 1, 1, &config);
        let producer = patient(Producer::builder(&cluster.bootstrap_servers()));
        let producer = producer.compression(compression).build().expect("the settings work");
        let sent = producer.topic(&topic).expect("a legal name");
        let records = (0..500).map(|n| sent.send(n.to_string(), "value ".repeat(20)));
        let deliveries: Vec<_> = records.map(|sent| sent.expect("there is room")).collect();
        deliveries.into_iter().for_each(|delivery| drop(delivery.wait().expect("acknowledged")));
        let (compressed, plain) = ages::stored(&cluster, &topic, 1, compression);
        assert!(compressed + plain > 0);
        assert_eq!(compressed > 0, compression != Compression::None, "{compression:?}");
        let read = read_all(&cluster, &topic, IsolationLevel::ReadCommitted);
        assert_eq!(read, cluster.read_back(&topic), "{compression:?} {times}");
        assert_eq!(read.len(), 500);
        let consumer = Consumer::builder(&cluster.bootstrap_servers());
        let consumer = consumer.partitions(&topic, [0], StartAt::Offset(250)).build();
        let batch = consumer.expect("the settings work").poll(LIMIT).expect("there are more");
        let batch = batch.expect("it can be read");
        let first = batch.records().next().expect("a batch has records").expect("a good one");
        assert_eq!((batch.first_offset(), first.offset), (250, 250));
        producer.close(LIMIT).wait().expect("everything is resolved");
    }
}

/// Brokers of 0.11, 2.0 and 2.8 are read.
pub fn old_brokers(kafka: &Kafka) {
    for release in [&V0_11, &V2_0, &V2_8] {
        of_release(kafka, release);
    }
}

fn of_release(kafka: &Kafka, release: &'static Release) {
    let cluster = kafka.start(&ClusterConfig::single().release(release));
    let topic = unique_topic("old");
    cluster.create_topic(&topic, 2, 1, &[]);
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()))
        .compression(Compression::lz4())
        .build()
        .expect("the settings work");
    let sent = producer.topic(&topic).expect("a legal name");
    let record = |n: u32| {
        let (key, value) = (n.to_string(), format!("value {n}"));
        let record = Record::new().key(&key).value(&value).header("n", value.as_str());
        sent.send_record(record).expect("there is room")
    };
    for delivery in (0..2_000).map(record).collect::<Vec<_>>() {
        delivery.wait().expect("acknowledged");
    }
    for isolation in [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted] {
        let read = read_all(&cluster, &topic, isolation);
        assert_eq!(read, cluster.read_back(&topic), "Kafka {}", release.version);
        assert_eq!(read.len(), 2_000);
    }
}
