//! A cluster whose brokers all stay up, and change what they lead, hold and allow.

use std::thread;
use std::time::{Duration, Instant};

use tidegate::ProducerBuilder;

use crate::failover::spread;
use crate::kafka::{Kafka, wait_until};
use crate::stage::{self, LIMIT, PACE, PARTITIONS, Stage};
use crate::streams::Streams;

const SWING: Duration = Duration::from_millis(500);
/// Bytes a second that each broker takes from the throttled producer: an eighth of what comes.
const QUOTA: f64 = 100_000.0;
const RECORD_BYTES: f64 = 100.0;

fn curious(builder: ProducerBuilder) -> ProducerBuilder {
    builder.configure(|config| config.metadata_max_age = Duration::from_millis(500))
}

pub fn f03_swinging(kafka: &Kafka) {
    let stage = Stage::beside_others(kafka);
    let producer = stage.producer(|builder| builder);
    let (topic, streams) = stage.streams(&producer, "swinging");
    let mut swings = 0;
    for round in stage::rounds(10) {
        let next = Instant::now() + SWING;
        spread(&stage.cluster, &topic, round);
        swings += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    streams.all_go_on(500, LIMIT, "after the swings");
    let gap = streams.longest_gap();
    let summary = streams.finish(&stage.cluster);
    println!("f03: {swings} swings, longest gap {gap:.2?}: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
    stage::close(&producer);
}

pub fn f07_created_again(kafka: &Kafka) {
    let stage = Stage::beside_others(kafka);
    let cluster = &stage.cluster;
    for round in stage::rounds(1) {
        let producer = stage.producer(curious);
        let (topic, streams) = stage.streams(&producer, "created-again");
        cluster.delete_topic(&topic);
        cluster.create_topic(&topic, PARTITIONS, 3, &[]);
        let start = Instant::now();
        streams.all_go_on(2_000, LIMIT, "in the new topic");
        let went_on = start.elapsed();
        let mut noted = streams.end();
        noted.forget_deleted();
        let summary = noted.judge(cluster);
        println!("f07 round {round}: went on within {went_on:.2?}: {summary:?}");
        assert!(summary.gone > 0 && summary.acked > 0);
        stage::close(&producer);
    }
}

pub fn f08_partitions_added(kafka: &Kafka) {
    const BEFORE: i32 = 4;
    const AFTER: i32 = 12;
    let stage = Stage::beside_others(kafka);
    let cluster = &stage.cluster;
    for round in stage::rounds(1) {
        let producer = stage.producer(curious);
        let topic = stage.topic("grows", BEFORE);
        let mut streams = Streams::start(&producer, &topic, BEFORE, PACE);
        streams.add(&producer, None);
        streams.add(&producer, None);
        streams.all_go_on(500, LIMIT, "with four partitions");
        cluster.create_partitions(&topic, AFTER);
        let start = Instant::now();
        for partition in BEFORE..AFTER {
            streams.add(&producer, Some(partition));
        }
        streams.all_go_on(500, LIMIT, "with twelve partitions");
        let added = start.elapsed();
        let free = [BEFORE as usize, BEFORE as usize + 1];
        let new = |stream: usize| streams.reached(stream) >> BEFORE;
        let found = wait_until(LIMIT, || free.iter().all(|&stream| new(stream) != 0));
        assert!(found, "records without key keep to the old partitions");
        let summary = streams.finish(cluster);
        println!("f08 round {round}: all twelve acknowledged within {added:.2?}: {summary:?}");
        assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
        stage::close(&producer);
    }
}

pub fn f12_throttled(kafka: &Kafka) {
    let stage = Stage::beside_others(kafka);
    let cluster = &stage.cluster;
    let client = "throttled";
    let producer = stage.producer(|b| b.client_id(client).buffer_memory(4 << 20));
    let (_, streams) = stage.streams(&producer, "throttled");
    cluster.set_client_quota(Some(client), "producer_byte_rate", Some(QUOTA));
    // The quota takes hold when its windows have seen some traffic.
    let before = streams.acked_in_all();
    assert!(wait_until(LIMIT, || streams.acked_in_all() > before + 20_000), "nothing passes");
    let (start, before) = (Instant::now(), streams.acked_in_all());
    for _ in stage::rounds(20) {
        thread::sleep(SWING / 2);
    }
    let passed = (streams.acked_in_all() - before) as f64;
    let rate = passed * RECORD_BYTES / start.elapsed().as_secs_f64();
    cluster.set_client_quota(Some(client), "producer_byte_rate", None);
    streams.all_go_on(500, LIMIT, "after the quota");
    let gap = streams.longest_gap();
    let summary = streams.finish(cluster);
    println!("f12: {rate:.0} bytes/s of {} a broker, longest gap {gap:.2?}: {summary:?}", QUOTA);
    // Of three brokers, and a request that takes a broker over its quota still passes.
    assert!(rate < 3.0 * QUOTA * 2.0, "{rate} bytes a second passed");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered), "no time-out");
    stage::close(&producer);
}
