//! Brokers that are killed while records are sent at full speed.

use std::time::{Duration, Instant};

use tidegate::Producer;

use crate::kafka::{Cluster, Kafka, unique_topic};
use crate::streams::{Pace, Streams, patient};

const PARTITIONS: i32 = 6;
/// A failover took 6 s on two busy cores; brokers on a slow disk stood still for ten more. How long
/// partitions were without acknowledgement is printed.
const LIMIT: Duration = Duration::from_secs(240);
/// 300,000 records a second, of three replicas each: three brokers that share two cores with the
/// senders took 120,000 to 500,000.
const PACE: Pace = Pace { records: 1_000, every: Duration::from_millis(20) };

pub fn killed_leader(kafka: &Kafka) {
    let cluster = kafka.private_three();
    let topic = unique_topic("killed");
    cluster.create_topic(&topic, PARTITIONS, 3, &[]);
    let builder = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = builder.build().expect("the settings work");
    let streams = Streams::start(&producer, &topic, PARTITIONS, PACE);
    let all: Vec<usize> = (0..PARTITIONS as usize).collect();
    streams.wait_for_more(&all, 5_000, LIMIT, "before the kill");

    let killed = cluster.leader(&topic, 0).expect("a created topic has leaders");
    let led = led_by(&cluster, &topic, killed);
    streams.reset_gaps();
    let start = Instant::now();
    cluster.kill(killed);
    cluster.wait_for_leader(&topic, 0, |leader| leader != killed);
    let elected = start.elapsed();
    streams.wait_for_more(&all, 5_000, LIMIT, "after the kill");
    let gap = led.iter().map(|&p| streams.gap(p)).max().unwrap_or_default();
    println!("SIGKILL of a leader: new one seen after {elected:.2?}, longest gap {gap:.2?}");

    cluster.restart(killed);
    cluster.wait_in_sync(&topic);
    cluster.move_leader(&topic, 0, killed);
    streams.wait_for_more(&[0], 5_000, LIMIT, "back at the restarted broker");
    let summary = streams.finish(&cluster);
    println!("{} acknowledged, {} failed", summary.acked, summary.failed());
    assert_eq!(summary.failed(), 0, "a failover is within every timeout");
    assert_eq!(summary.dropped, 0);
    producer.close(LIMIT).wait().expect("everything is resolved");
}

/// Each broker in turn is gone for a moment, the metadata channel's among them.
pub fn each_broker_in_turn(kafka: &Kafka) {
    let cluster = kafka.private_three();
    let topic = unique_topic("turns");
    cluster.create_topic(&topic, PARTITIONS, 3, &[]);
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()))
        .configure(|config| config.metadata_max_age = Duration::from_millis(500))
        .build()
        .expect("the settings work");
    let streams = Streams::start(&producer, &topic, PARTITIONS, PACE);
    let all: Vec<usize> = (0..PARTITIONS as usize).collect();
    for broker in cluster.broker_ids() {
        cluster.kill(broker);
        for partition in 0..PARTITIONS {
            cluster.wait_for_leader(&topic, partition, |leader| leader != broker);
        }
        streams.wait_for_more(&all, 3_000, LIMIT, "with a broker gone");
        cluster.restart(broker);
        cluster.wait_in_sync(&topic);
    }
    let summary = streams.finish(&cluster);
    assert_eq!((summary.failed(), summary.dropped), (0, 0));

    // Only the last address of three is alive when a producer starts. The topic is older: the
    // controller would place a new one on brokers that it does not know to be dead yet.
    let alone = unique_topic("alone");
    cluster.create_topic(&alone, 1, 3, &[("min.insync.replicas", "1")]);
    cluster.kill(1);
    cluster.kill(2);
    cluster.wait_for_leader(&alone, 0, |leader| leader == 3);
    let builder = patient(Producer::builder(&cluster.bootstrap_servers()));
    let second = builder.build().expect("the settings work");
    let mut delivery = second.topic(&alone).expect("legal").send("k", "v").expect("room");
    let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
    assert_eq!(outcome.expect("acknowledged by the one that lives").offset(), Some(0));
}

fn led_by(cluster: &Cluster, topic: &str, broker: i32) -> Vec<usize> {
    let led = |partition: &usize| cluster.leader(topic, *partition as i32) == Some(broker);
    (0..PARTITIONS as usize).filter(led).collect()
}
