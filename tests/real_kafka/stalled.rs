//! Brokers that are stopped (SIGSTOP): they accept bytes, and nobody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate::{
    BackoffStrategy, Delivery, DeliveryErrorCause, DropRecords, ParkSender, Pressure, Producer,
    ProducerBuilder, RejectRecords, SendErrorKind, Topic,
};

use crate::kafka::{Cluster, Kafka, unique_topic, wait_until};
use crate::streams::{Pace, Streams, patient};

const MIB: usize = 1 << 20;
const POOL: usize = 16 * MIB;
const VALUE: usize = 1_000;
/// Records that fill the pool several times over.
const MANY: usize = 5 * POOL / VALUE;
const PARTITIONS: i32 = 6;
const PARK: Duration = Duration::from_secs(1);
/// Brokers took 6 s to go on on two busy cores, and stood still for ten on a slow disk.
const LIMIT: Duration = Duration::from_secs(240);

/// All brokers stand still, and each strategy does what it says.
pub fn all_brokers(kafka: &Kafka) {
    let cluster = kafka.private_three();
    dropping(&cluster);
    rejecting(&cluster);
    parking(&cluster);
    parked_when_they_go_on(&cluster);
}

/// A producer on a fresh topic, which has sent a record to each partition already.
fn warm(
    cluster: &Cluster,
    change: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
) -> (Producer, Topic) {
    let name = unique_topic("stalled");
    cluster.create_topic(&name, PARTITIONS, 3, &[]);
    let builder = patient(Producer::builder(&cluster.bootstrap_servers())).buffer_memory(POOL);
    let producer = change(builder).build().expect("the settings work");
    let topic = producer.topic(&name).expect("a legal name");
    for key in 0..100_u32 {
        let delivery = topic.send(key.to_be_bytes(), "warm").expect("there is room");
        delivery.wait().expect("acknowledged by a healthy cluster");
    }
    (producer, topic)
}

fn stop_all(cluster: &Cluster) {
    for broker in cluster.broker_ids() {
        cluster.stop(broker);
    }
}

fn go_on(cluster: &Cluster) {
    for broker in cluster.broker_ids() {
        cluster.cont(broker);
    }
    cluster.wait_ready();
}

/// Memory has not grown beyond the pool since it was `before`.
#[track_caller]
fn assert_flat(before: usize, producer: &Producer) {
    let grown = resident().saturating_sub(before);
    let memory = producer.memory();
    assert_eq!(memory.capacity, POOL);
    // The handles that the test holds, and what the allocator rounds up, come on top.
    assert!(grown <= POOL + 16 * MIB, "grown by {grown} bytes");
}

/// Everything that was accepted is acknowledged; gives how many were dropped.
#[track_caller]
fn settle(deliveries: Vec<Delivery>) -> u64 {
    let mut dropped = 0;
    for mut delivery in deliveries {
        match delivery.wait_timeout(LIMIT).expect("resolved within the limit") {
            Ok(_) => {}
            Err(error) if *error.cause() == DeliveryErrorCause::Dropped => dropped += 1,
            Err(error) => panic!("accepted, and then: {error}"),
        }
    }
    dropped
}

fn dropping(cluster: &Cluster) {
    let (producer, topic) = warm(cluster, |builder| builder.backoff(DropRecords));
    stop_all(cluster);
    let before = resident();
    let value = vec![7; VALUE];
    let sent: Vec<Delivery> =
        (0..MANY).map(|_| topic.send((), &value).expect("dropping accepts")).collect();
    assert_flat(before, &producer);
    assert!(producer.dropped_records() > 0);
    go_on(cluster);
    assert_eq!(settle(sent), producer.dropped_records());
    assert!(producer.dropped_records() < MANY as u64, "not all were dropped");
    producer.close(LIMIT).wait().expect("everything is resolved");
    assert_eq!(producer.memory().free, POOL, "every segment is back");
}

fn rejecting(cluster: &Cluster) {
    let (producer, topic) = warm(cluster, |builder| builder.backoff(RejectRecords));
    stop_all(cluster);
    let before = resident();
    let value = Bytes::from(vec![7; VALUE]);
    let mut sent = Vec::new();
    let error = loop {
        match topic.send((), value.clone()) {
            Ok(delivery) => sent.push(delivery),
            Err(error) => break error,
        }
        assert!(sent.len() < MANY, "nothing was rejected");
    };
    assert_flat(before, &producer);
    assert!(matches!(error.kind(), SendErrorKind::Rejected { .. }), "{error}");
    assert!(error.is_retriable());
    let returned = error.into_record().value.expect("an owned value comes back");
    assert_eq!(returned.as_ptr(), value.as_ptr(), "without a copy");
    go_on(cluster);
    assert_eq!(settle(sent), 0);
    let delivery = topic.send((), returned).expect("there is room again");
    delivery.wait().expect("acknowledged");
    producer.close(LIMIT).wait().expect("everything is resolved");
}

/// The deadline of `Park` holds.
fn parking(cluster: &Cluster) {
    let (producer, topic) = warm(cluster, |builder| builder.backoff(ParkSender::for_at_most(PARK)));
    stop_all(cluster);
    let before = resident();
    let value = vec![7; VALUE];
    let mut sent = Vec::new();
    let (error, took) = loop {
        let start = Instant::now();
        match topic.send((), &value) {
            Ok(delivery) => sent.push(delivery),
            Err(error) => break (error, start.elapsed()),
        }
        assert!(sent.len() < MANY, "nobody was parked");
    };
    assert_flat(before, &producer);
    assert!(matches!(error.kind(), SendErrorKind::ParkTimedOut { .. }), "{error}");
    // The brokers have no part in it. Less than the minute that would be the default.
    assert!(took >= PARK && took < PARK * 40, "parked for {took:?} instead of {PARK:?}");
    go_on(cluster);
    assert_eq!(settle(sent), 0);
    producer.close(LIMIT).wait().expect("everything is resolved");
    assert_eq!(producer.memory().free, POOL, "every segment is back");
}

/// A sender that is parked when the brokers go on gets through, with the one `send` in which it is.
fn parked_when_they_go_on(cluster: &Cluster) {
    let parked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&parked);
    let strategy = move |pressure: &Pressure| {
        count.fetch_add(1, Ordering::AcqRel);
        ParkSender::for_at_most(LIMIT).decide(pressure)
    };
    let (producer, topic) = warm(cluster, |builder| builder.backoff(strategy));
    stop_all(cluster);
    let enough = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let value = vec![7; VALUE];
            let mut sent = Vec::new();
            while !enough.load(Ordering::Acquire) {
                sent.push(topic.send((), &value).expect("it is woken before it gives up"));
            }
            sent
        });
        // Nothing can make room now, so that whoever asks what to do stays where it is.
        assert!(wait_until(LIMIT, || parked.load(Ordering::Acquire) > 0), "nobody was parked");
        assert!(!sender.is_finished());
        enough.store(true, Ordering::Release);
        go_on(cluster);
        sender.join().expect("the parked sender gets through")
    });
    assert_eq!(settle(sent), 0);
    producer.close(LIMIT).wait().expect("everything is resolved");
    assert_eq!(producer.memory().free, POOL, "every segment is back");
}

/// One of three stands still: the partitions of the others go on.
pub fn one_broker(kafka: &Kafka) {
    let cluster = kafka.private_three();
    let topic = unique_topic("one-stalled");
    // Without further replicas: an in-sync follower that stands still would hold the others up.
    cluster.create_topic(&topic, PARTITIONS, 1, &[("min.insync.replicas", "1")]);
    let builder = patient(Producer::builder(&cluster.bootstrap_servers())).buffer_memory(POOL);
    let producer = builder.build().expect("the settings work");
    let pace = Pace { records: 1_000, every: Duration::from_millis(10) };
    let streams = Streams::start(&producer, &topic, PARTITIONS, pace);
    let all: Vec<usize> = (0..PARTITIONS as usize).collect();
    streams.wait_for_more(&all, 2_000, LIMIT, "before the stop");
    let leader = |partition: usize| cluster.leader(&topic, partition as i32);
    let stopped = leader(0).expect("a created topic has leaders");
    let others: Vec<usize> = all.iter().copied().filter(|&p| leader(p) != Some(stopped)).collect();
    cluster.stop(stopped);
    // More than the whole pool: it must not be held by the one that stands still.
    streams.wait_for_more(&others, 60_000, LIMIT, "beside a stopped broker");
    cluster.cont(stopped);
    cluster.wait_ready();
    streams.wait_for_more(&all, 2_000, LIMIT, "after it went on");
    let summary = streams.finish(&cluster);
    assert_eq!((summary.failed(), summary.dropped), (0, 0));
    producer.close(LIMIT).wait().expect("everything is resolved");
}

/// Bytes of anonymous memory of this process that are resident.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).expect("in kB");
    kib.trim().parse::<usize>().expect("a number") * 1024
}
