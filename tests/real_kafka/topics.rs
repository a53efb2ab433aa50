//! Topics that go and come back, and partitions that are new.

use std::thread;
use std::time::{Duration, Instant};

use tidegate::{DeliveryErrorCause, Producer, Record, SendErrorKind, Topic};

use crate::extent;
use crate::kafka::{Cluster, ClusterConfig, Kafka, V2_7, unique_topic, wait_until};
use crate::load::Load;

/// Far over what anything takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a rate is looked at beside a deleted topic. A tenth of it is what a busy machine may
/// hold a test up.
const SPAN: Duration = Duration::from_secs(4);

/// A topic is deleted while it is sent to at full speed: another one keeps its rate, be that as
/// fast as it can or a steady one.
pub fn f54_deleted_topic(kafka: &Kafka) {
    let config = ClusterConfig::single().property("auto.create.topics.enable", "false");
    let cluster = kafka.start(&config);
    beside_deleted_at_full_speed(&cluster);
    beside_deleted_at_a_steady_rate(&cluster);
}

/// Two topics of three partitions, of which one is to be deleted, and a producer for both.
fn two_topics(cluster: &Cluster) -> (Producer, String, [Topic; 2]) {
    /// Less than the default of 30 s, so that a short run sees the records fail.
    const UNKNOWN_MAX: Duration = Duration::from_secs(3);
    let names = [unique_topic("deleted"), unique_topic("other")];
    names.iter().for_each(|name| cluster.create_topic(name, 3, 1, &[]));
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .buffer_memory(8 << 20)
        .configure(|config| config.topic_unknown_max = UNKNOWN_MAX)
        .build()
        .expect("the settings work");
    let handles = names.each_ref().map(|name| producer.topic(name).expect("a legal name"));
    let [deleted, _] = names;
    (producer, deleted, handles)
}

fn beside_deleted_at_full_speed(cluster: &Cluster) {
    let (_producer, deleted, handles) = two_topics(cluster);
    let [lost, mut kept] = handles.each_ref().map(|handle| Load::start(handle, 1));
    lost.wait_for_more(20_000, LIMIT);
    kept.wait_for_more(20_000, LIMIT);
    let before = kept.rate(SPAN);
    cluster.delete_topic(&deleted);
    let spans = extent::pick(2, 20);
    let rates: Vec<f64> = (0..spans).map(|_| kept.rate(SPAN)).collect();
    println!("f54: {before:.0}/s before the other topic was deleted, then {rates:.0?}");
    let failed = wait_until(LIMIT, || lost.failed() > 0);
    let error = lost.first_error();
    println!("f54: {} records of the deleted topic failed, the first: {error:?}", lost.failed());
    for rate in rates {
        assert!(rate >= before / 2.0, "{rate:.0}/s beside a deleted topic, {before:.0}/s before");
    }
    assert!(failed && error.is_some_and(|error| error.contains(&deleted)));
    kept.settle(LIMIT);
    assert_eq!((kept.failed(), kept.acked()), (0, kept.sent()), "{:?}", kept.first_error());
}

/// The steady rate is far below what the machine can, so that every span must have it, whatever
/// else runs.
fn beside_deleted_at_a_steady_rate(cluster: &Cluster) {
    const PER_SECOND: u64 = 1_000;
    let (_producer, deleted, [to_delete, other]) = two_topics(cluster);
    let (lost, mut kept) = (Load::start(&to_delete, 1), Load::paced(&other, PER_SECOND));
    lost.wait_for_more(20_000, LIMIT);
    kept.wait_for_more(PER_SECOND, LIMIT);
    cluster.delete_topic(&deleted);
    // Before the broker has said for long enough that it is gone, and from then on.
    let spans = extent::pick(2, 20);
    let shares: Vec<f64> =
        (0..spans).map(|_| 100.0 * kept.rate(SPAN) / PER_SECOND as f64).collect();
    println!("f54: beside a deleted topic, per cent of a steady rate: {shares:.0?}");
    assert!(shares.iter().all(|&share| share >= 90.0), "per cent of a steady rate: {shares:.1?}");
    assert!(wait_until(LIMIT, || lost.failed() > 0), "{:?}", lost.first_error());
    kept.settle(LIMIT);
    assert_eq!((kept.failed(), kept.acked()), (0, kept.sent()), "{:?}", kept.first_error());
}

/// A partition that another client has just added is used by its number.
pub fn c60_added_partition(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("grown");
    cluster.create_topic(&topic, 1, 1, &[]);
    let producer = Producer::builder(&cluster.bootstrap_servers()).build();
    let producer = producer.expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    handle.send("k", "v").expect("there is room").wait().expect("acknowledged");
    cluster.create_partitions(&topic, 2);
    let start = Instant::now();
    send_to(&handle, 1);
    println!("c60: the added partition took a record after {:.2?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20));
}

/// Sends to a partition until it takes the record.
#[track_caller]
fn send_to(topic: &Topic, partition: i32) {
    let end = Instant::now() + LIMIT;
    loop {
        let sent = topic.send_record(Record::new().value("v").partition(partition));
        let refused = match sent.map(|mut delivery| delivery.wait_timeout(LIMIT)) {
            Ok(outcome) => match outcome.expect("resolved within the limit") {
                Ok(at) => return assert_eq!(at.partition(), partition),
                Err(error) => {
                    let cause = error.cause();
                    assert!(matches!(cause, DeliveryErrorCause::PartitionOutOfRange { .. }));
                    error.to_string()
                }
            },
            Err(error) => {
                assert!(matches!(error.kind(), SendErrorKind::PartitionOutOfRange { .. }));
                error.to_string()
            }
        };
        assert!(Instant::now() < end, "{refused}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Before 2.8 topics have no ids: one that was created again is found all the same, also with
/// fewer partitions.
pub fn c58_recreated_smaller(kafka: &Kafka) {
    const KEYS: u32 = 200;
    let cluster = kafka.start(&ClusterConfig::single().release(&V2_7));
    let topic = unique_topic("recreated");
    cluster.create_topic(&topic, 4, 1, &[]);
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .request_timeout(Duration::from_secs(2))
        .delivery_timeout(Duration::from_secs(5))
        .configure(|config| config.metadata_max_age = Duration::from_millis(500))
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    assert_eq!(acked_keys(&handle, KEYS), KEYS);
    cluster.delete_topic(&topic);
    cluster.create_topic(&topic, 1, 1, &[]);
    let start = Instant::now();
    let mut rounds = 0;
    let mut acked = 0;
    let all = wait_until(LIMIT, || {
        rounds += 1;
        acked = acked_keys(&handle, KEYS);
        acked == KEYS
    });
    let took = start.elapsed();
    println!("c58: {acked} of {KEYS} keys acknowledged {took:.2?} after the topic was back");
    assert!(all, "{acked} of {KEYS} keys reach the new topic, {rounds} rounds after");
    assert!(cluster.read_back(&topic).len() >= KEYS as usize);
}

/// Sends one record for each key and gives how many were acknowledged.
fn acked_keys(topic: &Topic, keys: u32) -> u32 {
    let sent: Vec<_> = (0..keys).map(|key| topic.send(key.to_be_bytes(), "v")).collect();
    let acked = sent.into_iter().flatten().filter_map(|mut delivery| {
        delivery.wait_timeout(LIMIT).expect("resolved within the limit").ok()
    });
    acked.count() as u32
}
