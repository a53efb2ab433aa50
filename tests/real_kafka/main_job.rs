//! Records of every kind out and back, keys as Java's producer places them, and unknown topics.

use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::internals::protocol::compression::Codec;
use tidegate::internals::protocol::records::{BatchError, RecordBatchReader};
use tidegate::{Compression, Delivery, DeliveryErrorCause, IsolationLevel, Producer, Topic};

use crate::kafka::{Cluster, ClusterConfig, Kafka, RecordView, unique_topic};
use crate::streams::patient;
use crate::{consuming, records};

const PARTITIONS: i32 = 12;
const SENDERS: u64 = 2;

/// Ten times what a run took on two busy cores, and what brokers on a slow disk may stand still.
const LIMIT: Duration = Duration::from_secs(240);
/// Records with each codec; `TIDEGATE_KAFKA_RECORDS` sets another number.
const RECORDS: u64 = 1_000_000;

pub fn uncompressed(kafka: &Kafka) {
    everything(kafka, Compression::None);
}

pub fn gzip(kafka: &Kafka) {
    everything(kafka, Compression::gzip());
}

pub fn snappy(kafka: &Kafka) {
    everything(kafka, Compression::snappy());
}

pub fn lz4(kafka: &Kafka) {
    everything(kafka, Compression::lz4());
}

pub fn zstd(kafka: &Kafka) {
    everything(kafka, Compression::zstd());
}

/// What a record's acknowledgement said, at the place where the record must be.
#[derive(Clone, Copy)]
struct Acknowledged {
    id: u64,
    timestamp: i64,
}

/// Java's consumer reads the embedded brokers as it reads Kafka's.
pub fn embedded_brokers(kafka: &Kafka) {
    const EACH: u64 = 20_000;
    let java = kafka.shared_three();
    let embedded = EmbeddedCluster::builder().brokers(3).start().expect("ports are free");
    let all = [
        ("none", Compression::None),
        ("gzip", Compression::gzip()),
        ("snappy", Compression::snappy()),
        ("lz4", Compression::lz4()),
        ("zstd", Compression::zstd()),
    ];
    for (seed, (name, compression)) in (0..).zip(all) {
        embedded.create_topic(name, PARTITIONS);
        let builder = patient(Producer::builder(&embedded.bootstrap_servers()));
        let producer = builder.compression(compression).build().expect("the settings work");
        let log = send_all(&producer.topic(name).expect("a legal name"), seed, EACH);
        // Offsets and leaders change while nobody reads.
        for partition in 0..PARTITIONS {
            assert!(embedded.move_leader(name, partition, 1 + partition % 3));
        }
        let servers = embedded.bootstrap_servers();
        let read = java.read_elsewhere(&servers, name, as_acknowledged(seed, &log));
        assert_eq!(read, EACH, "{name}");
    }
}

/// Checks that records come one after the other, each as it was acknowledged.
fn as_acknowledged(
    seed: u64,
    log: &[Vec<Option<Acknowledged>>],
) -> impl FnMut(RecordView<'_>) + '_ {
    let mut next = [0_usize; PARTITIONS as usize];
    move |record| {
        let partition = record.partition as usize;
        assert_eq!(record.offset, next[partition] as i64, "a gap in partition {partition}");
        next[partition] += 1;
        let acknowledged = log[partition].get(record.offset as usize).copied().flatten();
        let acknowledged = acknowledged.expect("nothing was acknowledged at this offset");
        let made = records::make(seed, acknowledged.id, PARTITIONS);
        made.assert_read(acknowledged.id, &record, acknowledged.timestamp);
    }
}

fn everything(kafka: &Kafka, compression: Compression) {
    let asked = std::env::var("TIDEGATE_KAFKA_RECORDS").ok();
    let count = asked.map_or(RECORDS, |text| text.parse().expect("a number of records"));
    let cluster = kafka.shared_three();
    let topic = unique_topic("everything");
    cluster.create_topic(&topic, PARTITIONS, 3, &[]);
    let seed = u64::from(compression.codec().id());
    let builder = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = builder.compression(compression).build().expect("the settings work");
    let start = Instant::now();
    let log = send_all(&producer.topic(&topic).expect("a legal name"), seed, count);
    let took = start.elapsed();
    producer.close(LIMIT).wait().expect("every record is acknowledged already");

    let start = Instant::now();
    let read = cluster.read_back_each(&topic, as_acknowledged(seed, &log));
    assert_eq!(read, count);
    let took_java = start.elapsed();
    let start = Instant::now();
    let servers = cluster.running_servers();
    let committed = IsolationLevel::ReadCommitted;
    let read = consuming::read_each(&servers, &topic, committed, as_acknowledged(seed, &log));
    assert_eq!(read, count);
    assert_compressed(&cluster, &topic, compression);
    println!(
        "{:?}: {count} records acknowledged in {took:.2?} ({:.0}/s), read back by Java in \
         {took_java:.2?}, by tidegate in {:.2?}",
        compression.codec(),
        count as f64 / took.as_secs_f64(),
        start.elapsed()
    );
}

/// The batches in the brokers' files say that they are compressed so.
fn assert_compressed(cluster: &Cluster, topic: &str, compression: Compression) {
    const DECOMPRESSED_MAX: usize = 16 << 20;
    let (mut compressed, mut plain) = (0_u32, 0_u32);
    for file in cluster.segments(topic) {
        let bytes = std::fs::read(&file).expect("the segment is there");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (batch, following) = match RecordBatchReader::read(rest, DECOMPRESSED_MAX) {
                Ok(read) => read,
                // It is being replicated.
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => panic!("{}: {error}", file.display()),
            };
            rest = following;
            if batch.header().codec == Codec::None {
                plain += 1;
            } else {
                assert_eq!(batch.header().codec, compression.codec(), "{}", file.display());
                compressed += 1;
            }
        }
    }
    println!("{:?}: {compressed} batches compressed, {plain} plain", compression.codec());
    match compression {
        Compression::None => assert!(compressed == 0 && plain > 0),
        // Where it would save nothing, and where there is no memory for it, batches go plain.
        _ => assert!(compressed > plain, "{compressed} batches compressed, {plain} plain"),
    }
}

/// Sends from several threads, awaits everything, and gives each partition's acknowledgements by
/// offset.
fn send_all(topic: &Topic, seed: u64, count: u64) -> Vec<Vec<Option<Acknowledged>>> {
    let senders: Vec<Vec<(u64, Delivery)>> = std::thread::scope(|scope| {
        let send = |first: u64| {
            let ids = (first..count).step_by(SENDERS as usize);
            let send = |id| records::make(seed, id, PARTITIONS).send(topic);
            ids.map(|id| (id, send(id).expect("there is room in time"))).collect()
        };
        let threads: Vec<_> = (0..SENDERS).map(|first| scope.spawn(move || send(first))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no sender panics")).collect()
    });
    let mut log = vec![Vec::new(); PARTITIONS as usize];
    for (id, mut delivery) in senders.into_iter().flatten() {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        let at = outcome.expect("a healthy cluster acknowledges");
        let offset = at.offset().expect("acks=all gives offsets") as usize;
        let partition: &mut Vec<Option<Acknowledged>> = &mut log[at.partition() as usize];
        if partition.len() <= offset {
            partition.resize(offset + 1, None);
        }
        let before = partition[offset].replace(Acknowledged { id, timestamp: at.timestamp() });
        assert!(before.is_none(), "{at} was acknowledged twice");
    }
    log
}

pub fn keys_as_java(kafka: &Kafka) {
    let cluster = kafka.shared_three();
    let topic = unique_topic("keys");
    cluster.create_topic(&topic, 17, 3, &[]);
    let mut random = records::Random::new(7);
    let keys: Vec<Vec<u8>> = (0..10_000)
        .map(|_| (0..1 + random.below(40)).map(|_| random.next() as u8).collect())
        .collect();
    let by_java = cluster.java_partitions(&topic, &keys);
    let builder = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = builder.build().expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let sent = keys.iter().map(|key| handle.send(key, "tidegate").expect("there is room"));
    let sent: Vec<Delivery> = sent.collect();
    for ((delivery, key), java) in sent.into_iter().zip(&keys).zip(&by_java) {
        let at = delivery.wait().expect("acknowledged");
        assert_eq!(at.partition(), *java, "key {key:02x?}");
    }
    let mut places = std::collections::HashMap::new();
    let read = cluster.read_back_each(&topic, |record| {
        let key = record.key.expect("every record has a key").to_vec();
        let before = places.insert(key, record.partition);
        assert!(before.is_none_or(|before| before == record.partition), "one key, two partitions");
    });
    assert_eq!(read, 20_000);
    producer.close(LIMIT).wait().expect("everything is acknowledged");
}

pub fn unknown_topic(kafka: &Kafka) {
    const UNKNOWN_MAX: Duration = Duration::from_secs(2);
    let cluster = kafka.shared_three();
    let builder = Producer::builder(&cluster.bootstrap_servers());
    let producer = builder.configure(|config| config.topic_unknown_max = UNKNOWN_MAX).build();
    let producer = producer.expect("the settings work");
    let name = unique_topic("never-created");
    let topic = producer.topic(&name).expect("a legal name");
    let start = Instant::now();
    let mut delivery = topic.send("key", "value").expect("an unknown topic has a stash");
    let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
    let took = start.elapsed();
    let error = outcome.expect_err("the topic does not exist");
    let DeliveryErrorCause::UnknownTopic { after, .. } = error.cause() else { panic!("{error}") };
    assert_eq!(*after, UNKNOWN_MAX);
    assert_eq!(error.topic(), name);
    assert!(error.to_string().contains("create it"), "{error}");
    assert!(took >= UNKNOWN_MAX, "failed after {took:?} already");
    // A topic that comes into being later is found.
    cluster.create_topic(&name, 1, 3, &[]);
    let mut delivery = topic.send("key", "value").expect("there is room");
    let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
    assert_eq!(outcome.expect("acknowledged").to_string(), format!("{name}-0@0"));
    producer.close(LIMIT).wait().expect("nothing is left");
}

pub fn auto_creation(kafka: &Kafka) {
    let config = ClusterConfig::single().property("auto.create.topics.enable", "true");
    let config = config.property("num.partitions", "3");
    let cluster = kafka.start(&config);
    let builder = Producer::builder(&cluster.bootstrap_servers());
    let producer = builder.allow_auto_create_topics(true).build().expect("the settings work");
    let name = unique_topic("made-by-asking");
    let topic = producer.topic(&name).expect("a legal name");
    let sent: Vec<Delivery> = (0..1_000_u32)
        .map(|number| topic.send(number.to_be_bytes(), "value").expect("there is room"))
        .collect();
    for mut delivery in sent {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("the topic was created");
    }
    assert_eq!(cluster.read_back(&name).len(), 1_000);
    producer.close(LIMIT).wait().expect("nothing is left");
}

/// Prints how fast small records are acknowledged; the figure depends on the machine.
pub fn rate_of_small_records(kafka: &Kafka) {
    const COUNT: usize = 1_000_000;
    let cluster = kafka.shared_three();
    let name = unique_topic("rate");
    cluster.create_topic(&name, PARTITIONS, 3, &[]);
    let builder = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = builder.build().expect("the settings work");
    let topic = producer.topic(&name).expect("a legal name");
    topic.send((), "warm").expect("there is room").wait().expect("acknowledged");
    let value = [7_u8; 100];
    let start = Instant::now();
    let sent: Vec<Delivery> =
        (0..COUNT).map(|_| topic.send((), &value).expect("there is room")).collect();
    for mut delivery in sent {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("a healthy cluster acknowledges");
    }
    let took = start.elapsed();
    let rate = COUNT as f64 / took.as_secs_f64();
    println!("{COUNT} records of 100 bytes acknowledged in {took:.2?} ({rate:.0}/s)");
    producer.close(LIMIT).wait().expect("everything is acknowledged");
    let memory = producer.memory();
    assert_eq!(memory.free, memory.capacity, "every segment is back");
}

/// Batches of up to 256 KiB, through a topic that takes 20,000 bytes at once.
pub fn too_large(kafka: &Kafka) {
    let cluster = kafka.shared_three();
    for compression in [Compression::None, Compression::lz4()] {
        let topic = unique_topic("too-large");
        cluster.create_topic(&topic, 1, 3, &[("max.message.bytes", "20000")]);
        let builder = patient(Producer::builder(&cluster.bootstrap_servers()));
        let producer = builder
            .compression(compression)
            .linger(Duration::from_millis(100))
            .build()
            .expect("the settings work");
        let handle = producer.topic(&topic).expect("a legal name");
        let mut random = records::Random::new(5);
        // Bytes that do not shrink, or batches would fit when they are compressed.
        let values: Vec<Vec<u8>> = (0..5_000_u32)
            .map(|n| {
                let noise = (0..20).flat_map(|_| random.next().to_be_bytes());
                n.to_be_bytes().into_iter().chain(noise).collect()
            })
            .collect();
        let sent: Vec<Delivery> =
            values.iter().map(|value| handle.send((), value).expect("there is room")).collect();
        for (n, mut delivery) in sent.into_iter().enumerate() {
            let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
            assert_eq!(outcome.expect("acknowledged").offset(), Some(n as i64));
        }
        producer.close(LIMIT).wait().expect("everything is resolved");
        let read: Vec<_> =
            cluster.read_back(&topic).into_iter().filter_map(|record| record.value).collect();
        assert!(read == values, "each once, in order");
    }
}
