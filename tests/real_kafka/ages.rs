//! Brokers of every age of Kafka, each read back by the consumer of its own release.

use std::time::Duration;

use tidegate::{
    BrokerVersion, Compression, Consumer, ConsumerBuilder, Delivery, DeliveryError,
    DeliveryErrorCause, ProblemKind, Producer, ProducerBuilder, Record, RecordMetadata,
};

use crate::consuming;
use crate::kafka::{
    Cluster, ClusterConfig, Kafka, RecordView, Release, TimestampType, V0_8, V0_9, V0_10, V0_10_0,
    V0_11, V1_1, V2_0, V2_8, V3_9, V4_3, unique_topic,
};
use crate::records::{self, Made};
use crate::streams::{Pace, Streams, patient};

const PARTITIONS: i32 = 3;
const RECORDS: u64 = 10_000;
/// Over ten times what a run took on two busy cores.
const LIMIT: Duration = Duration::from_secs(240);

/// What a release's brokers take.
struct Age {
    release: &'static Release,
    /// What a producer is told of brokers that do not know ApiVersions.
    fallback: Option<BrokerVersion>,
    /// Of what they store: there are timestamps since 1, headers since 2.
    magic: u8,
    zstd: bool,
}

impl Age {
    const fn new(release: &'static Release, magic: u8) -> Age {
        Age { release, fallback: None, magic, zstd: false }
    }

    const fn told(self, release: BrokerVersion) -> Age {
        Age { fallback: Some(release), ..self }
    }

    const fn with_zstd(self) -> Age {
        Age { zstd: true, ..self }
    }
}

pub fn kafka_0_8_2(kafka: &Kafka) {
    everything(kafka, &Age::new(&V0_8, 0).told(BrokerVersion::V0_8));
}

pub fn kafka_0_9(kafka: &Kafka) {
    everything(kafka, &Age::new(&V0_9, 0).told(BrokerVersion::V0_9));
}

pub fn kafka_0_10_0(kafka: &Kafka) {
    everything(kafka, &Age::new(&V0_10_0, 1));
}

pub fn kafka_0_10_2(kafka: &Kafka) {
    everything(kafka, &Age::new(&V0_10, 1));
}

pub fn kafka_0_11(kafka: &Kafka) {
    everything(kafka, &Age::new(&V0_11, 2));
}

pub fn kafka_1_1(kafka: &Kafka) {
    everything(kafka, &Age::new(&V1_1, 2));
}

pub fn kafka_2_0(kafka: &Kafka) {
    everything(kafka, &Age::new(&V2_0, 2));
}

pub fn kafka_2_8(kafka: &Kafka) {
    everything(kafka, &Age::new(&V2_8, 2).with_zstd());
}

pub fn kafka_3_9(kafka: &Kafka) {
    everything(kafka, &Age::new(&V3_9, 2).with_zstd());
}

pub fn kafka_4_3(kafka: &Kafka) {
    everything(kafka, &Age::new(&V4_3, 2).with_zstd());
}

/// Records of every kind that these brokers take, with each codec that they know.
fn everything(kafka: &Kafka, age: &Age) {
    let cluster = kafka.start(&ClusterConfig::single().release(age.release));
    let mut codecs =
        vec![Compression::None, Compression::gzip(), Compression::snappy(), Compression::lz4()];
    codecs.extend(age.zstd.then(Compression::zstd));
    for compression in codecs {
        // Where nobody answers, asking takes ten seconds of each connection: once is enough.
        let asks = compression == Compression::None;
        let mut builder = patient(Producer::builder(&cluster.bootstrap_servers()));
        if let Some(release) = age.fallback {
            builder = builder.broker_version_fallback(release).api_version_request(asks);
        }
        return_from(&cluster, age, builder.compression(compression), compression);
    }
}

/// What a record's acknowledgement said, at the place where the record must be.
#[derive(Clone, Copy)]
struct Acknowledged {
    id: u64,
    timestamp: i64,
}

fn return_from(cluster: &Cluster, age: &Age, builder: ProducerBuilder, compression: Compression) {
    let topic = unique_topic("ages");
    cluster.create_topic(&topic, PARTITIONS, 1, &[]);
    let producer = builder.build().expect("the settings work");
    let seed = u64::from(compression.codec().id());
    let handle = producer.topic(&topic).expect("a legal name");
    let sent: Vec<Delivery> = (0..RECORDS)
        .map(|id| made(age, seed, id).send(&handle).expect("there is room in time"))
        .collect();
    let mut log = vec![Vec::new(); PARTITIONS as usize];
    for (id, delivery) in (0..).zip(sent) {
        let at = outcome(delivery).expect("a healthy broker acknowledges");
        let partition: &mut Vec<Acknowledged> = &mut log[at.partition() as usize];
        // One thread has sent them all: a partition has them in that order.
        assert_eq!(at.offset(), Some(partition.len() as i64), "record {id} at {at}");
        partition.push(Acknowledged { id, timestamp: at.timestamp() });
    }
    producer.close(LIMIT).wait().expect("every record is acknowledged already");

    let by_java = look(age, seed, &log, TimestampType::None);
    let read = cluster.read_back_each(&topic, by_java);
    assert_eq!(read, RECORDS);
    // Without timestamps, which is shown as a time of -1.
    let by_tidegate = look(age, seed, &log, TimestampType::CreateTime);
    assert_eq!(consuming::read_through(consumer(cluster, age), &topic, by_tidegate), RECORDS);
    let (compressed, plain) = stored(cluster, &topic, age.magic, compression);
    let (version, codec) = (age.release.version, compression.codec());
    println!("{version}: {read} records with {codec}: {compressed} compressed, {plain} plain");
    match compression {
        Compression::None => assert!(compressed == 0 && plain > 0),
        // Where it would save nothing, batches go plain.
        _ => assert!(compressed > plain),
    }
}

/// Compares what is read with what was acknowledged.
fn look<'a>(
    age: &'a Age,
    seed: u64,
    log: &'a [Vec<Acknowledged>],
    without_time: TimestampType,
) -> impl FnMut(RecordView<'_>) + 'a {
    let mut next = [0_usize; PARTITIONS as usize];
    move |record| {
        let partition = record.partition as usize;
        assert_eq!(record.offset, next[partition] as i64, "a gap in partition {partition}");
        let acknowledged = log[partition][next[partition]];
        next[partition] += 1;
        let made = made(age, seed, acknowledged.id);
        if age.magic == 0 {
            made.assert_content(acknowledged.id, &record);
            assert_eq!(record.timestamp_type, without_time);
        } else {
            made.assert_read(acknowledged.id, &record, acknowledged.timestamp);
            assert_eq!(record.timestamp_type, TimestampType::CreateTime);
        }
    }
}

fn consumer(cluster: &Cluster, age: &Age) -> ConsumerBuilder {
    Consumer::builder(&cluster.bootstrap_servers()).client(|client| {
        client.broker_version_fallback = age.fallback;
        client.api_version_request = age.fallback.is_none();
    })
}

/// A record as these brokers take it, which every codec makes smaller: a set of messages is longer
/// than the batch that it must come to less than.
fn made(age: &Age, seed: u64, id: u64) -> Made {
    let mut made = records::make(seed, id, PARTITIONS);
    for byte in made.value.iter_mut().flatten() {
        *byte &= 1;
    }
    if age.magic < 2 {
        made.headers.clear();
    }
    made
}

/// How many messages or batches in the broker's files are compressed and plain. All are of this
/// magic, and none has another codec.
pub fn stored(cluster: &Cluster, topic: &str, magic: u8, compression: Compression) -> (u32, u32) {
    /// Offset and length before what the length counts.
    const HEAD: usize = 12;
    const MAGIC_AT: usize = 16;
    const CODEC_BITS: u8 = 7;
    // The low byte of the attributes, which follow the magic, or the checksum behind it.
    let codec_at = if magic < 2 { MAGIC_AT + 1 } else { MAGIC_AT + 6 };
    let (mut compressed, mut plain) = (0, 0);
    for file in cluster.segments(topic) {
        let bytes = std::fs::read(&file).expect("the segment is there");
        let mut rest = &bytes[..];
        while let Some(head) = rest.first_chunk::<HEAD>() {
            let length = i32::from_be_bytes(head[8..].try_into().expect("four bytes"));
            let (entry, following) = rest.split_at(HEAD + length as usize);
            rest = following;
            assert_eq!(entry[MAGIC_AT], magic, "{}", file.display());
            match entry[codec_at] & CODEC_BITS {
                0 => plain += 1,
                codec => {
                    assert_eq!(codec, compression.codec().id(), "{}", file.display());
                    compressed += 1;
                }
            }
        }
    }
    (compressed, plain)
}

/// What Kafka 0.10 lacks: a record with headers fails alone, and idempotence is had only where it
/// was not asked for by name.
pub fn lacks_of_0_10(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::single().release(&V0_10));
    let topic = unique_topic("lacks");
    cluster.create_topic(&topic, 1, 1, &[]);
    let builder = Producer::builder(&cluster.bootstrap_servers());
    let producer = builder.linger(Duration::from_millis(200)).build().expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let values = ["before", "with", "after"];
    let send = |value: &'static str| {
        let mut record = Record::new().value(value);
        if value == "with" {
            record = record.header("trace", "1");
        }
        handle.send_record(record).expect("there is room")
    };
    let outcomes = values.map(send).map(outcome);
    let error = outcomes[1].as_ref().expect_err("headers came with 0.11");
    assert_too_old(error, &["headers", "0.11"]);
    let acked = [&outcomes[0], &outcomes[2]].map(|outcome| {
        outcome.as_ref().expect("the others are sent").offset().expect("acks=all gives offsets")
    });
    assert_eq!(acked, [0, 1]);
    let read = cluster.read_back(&topic).into_iter().map(|record| record.value.expect("a value"));
    assert_eq!(read.collect::<Vec<_>>(), [b"before".to_vec(), b"after".to_vec()]);

    let builder = Producer::builder(&cluster.bootstrap_servers());
    let producer = builder.enable_idempotence(true).build().expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let error = outcome(handle.send("k", "v").expect("there is room"));
    let error = error.expect_err("idempotence came with 0.11");
    assert_too_old(&error, &["enable.idempotence", "0.11"]);
}

fn assert_too_old(error: &DeliveryError, words: &[&str]) {
    println!("{error}");
    assert!(matches!(error.cause(), DeliveryErrorCause::BrokerTooOld(_)), "{error:?}");
    assert_eq!(error.problem().map(|problem| problem.kind()), Some(ProblemKind::BrokerTooOld));
    for word in words {
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

/// Three brokers of 0.8.2 lose the leader under load. Nothing remembers batches there: one whose
/// acknowledgement was lost is doubled, and order holds all the same.
pub fn killed_leader_of_0_8_2(kafka: &Kafka) {
    const PACE: Pace = Pace { records: 20, every: Duration::from_millis(10) };
    let config = ClusterConfig::three().release(&V0_8);
    // Old brokers would otherwise make one a leader that has not everything.
    let cluster = kafka.start(&config.property("unclean.leader.election.enable", "false"));
    let topic = unique_topic("killed");
    cluster.create_topic(&topic, PARTITIONS, 3, &[]);
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()))
        .broker_version_fallback(BrokerVersion::V0_8)
        .build()
        .expect("the settings work");
    let streams = Streams::start(&producer, &topic, PARTITIONS, PACE);
    streams.all_go_on(2_000, LIMIT, "before the kill");
    let killed = cluster.leader(&topic, 0).expect("a created topic has leaders");
    streams.reset_gaps();
    cluster.kill(killed);
    cluster.wait_for_leader(&topic, 0, |leader| leader != killed);
    streams.all_go_on(2_000, LIMIT, "after the kill");
    println!("0.8.2: longest gap after a killed leader {:.2?}", streams.longest_gap());
    // That it is in sync again is in no broker's answer before 0.9 (KAFKA-1367).
    cluster.restart(killed);
    streams.all_go_on(2_000, LIMIT, "with all brokers back");
    let (summary, doubled) = streams.end().judge_with_doubles(&cluster);
    println!("0.8.2: {summary:?}, {doubled} doubled");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
    producer.close(LIMIT).wait().expect("everything is resolved");
}

fn outcome(mut delivery: Delivery) -> Result<RecordMetadata, DeliveryError> {
    delivery.wait_timeout(LIMIT).expect("resolved within the limit")
}
