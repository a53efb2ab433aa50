//! Leaders that are killed, and brokers that are restarted in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::kafka::{Cluster, Kafka, PartitionView, wait_until};
use crate::stage::{self, LIMIT, PARTITIONS, RECOVERY_MAX, Stage};
use crate::streams::Streams;

/// What a leader's end did to the partitions that it led.
pub struct Failover {
    /// These partitions.
    pub led: Vec<i32>,
    /// When each had a leader that knew of it.
    pub served: BTreeMap<i32, Instant>,
    /// From the kill to the moment when each of them had a leader that knew of it.
    pub elected: Duration,
    /// The longest time that one of them was without acknowledgement.
    pub gap: Duration,
    /// The longest from a partition's new leader to its first acknowledgement.
    pub recovery: Duration,
}

/// Kills a broker and waits until records flow again in every partition.
#[track_caller]
pub fn kill_leader(cluster: &Cluster, streams: &Streams, topic: &str, broker: i32) -> Failover {
    let views = cluster.partitions_seen_by(broker, topic).expect("it is up still");
    let led: Vec<i32> =
        views.iter().filter(|v| v.leader == Some(broker)).map(|v| v.partition).collect();
    streams.reset_gaps();
    let start = Instant::now();
    cluster.kill(broker);
    let others: Vec<i32> = cluster.broker_ids().into_iter().filter(|&id| id != broker).collect();
    let [served] = wait_served(cluster, [topic], &led, &others, 0);
    streams.all_go_on(200, LIMIT, "after the kill");
    let after = |p: &i32| streams.gap_end(*p as usize).saturating_duration_since(served[p]);
    Failover {
        elected: served.values().max().map_or(Duration::ZERO, |at| *at - start),
        gap: led.iter().map(|&p| streams.gap(p as usize)).max().unwrap_or_default(),
        recovery: led.iter().map(after).max().unwrap_or_default(),
        led,
        served,
    }
}

/// When each of these partitions of each topic was first seen to have a leader that itself knew of
/// it, and so many replicas in sync.
#[track_caller]
pub fn wait_served<const N: usize>(
    cluster: &Cluster,
    topics: [&str; N],
    partitions: &[i32],
    brokers: &[i32],
    in_sync: usize,
) -> [BTreeMap<i32, Instant>; N] {
    let mut served = topics.map(|_| BTreeMap::new());
    let all = wait_until(LIMIT, || {
        for (topic, served) in topics.iter().zip(&mut served) {
            for &id in brokers {
                let views = cluster.partitions_seen_by(id, topic).unwrap_or_default();
                let serves = |v: &PartitionView| v.leader == Some(id) && v.in_sync.len() >= in_sync;
                for view in views.iter().filter(|view| serves(view)) {
                    if partitions.contains(&view.partition) {
                        served.entry(view.partition).or_insert_with(Instant::now);
                    }
                }
            }
        }
        served.iter().all(|served| served.len() == partitions.len())
    });
    assert!(all, "only {served:?} of {partitions:?} found a leader in {LIMIT:?}");
    served
}

/// Gives each broker its share of the partitions again.
#[track_caller]
pub fn spread(cluster: &Cluster, topic: &str, turn: usize) {
    let ids = cluster.broker_ids();
    let replicas = (0..PARTITIONS).map(|partition| {
        let mut replicas = ids.clone();
        replicas.rotate_left((partition as usize + turn) % ids.len());
        (partition, replicas)
    });
    cluster.swing_leaders(topic, &replicas.collect::<Vec<_>>());
}

pub fn f01_killed(kafka: &Kafka) {
    let stage = Stage::alone(kafka);
    let cluster = &stage.cluster;
    let producer = stage.producer(|builder| builder);
    let (topic, streams) = stage.streams(&producer, "killed");
    for round in stage::rounds(2) {
        let killed = cluster.wait_for_leader(&topic, round as i32 % 6, |_| true);
        let failover = kill_leader(cluster, &streams, &topic, killed);
        println!(
            "f01 kill {round}: broker {killed}, leader of {}, elected after {:.2?}, gap {:.2?}, \
             acknowledged {:.3?} after a new leader was there",
            failover.led.len(),
            failover.elected,
            failover.gap,
            failover.recovery
        );
        assert!(failover.recovery < RECOVERY_MAX, "{:?}", failover.recovery);
        cluster.restart(killed);
        cluster.wait_in_sync(&topic);
        spread(cluster, &topic, round);
        streams.all_go_on(200, LIMIT, "with all brokers");
    }
    let summary = streams.finish(cluster);
    println!("f01: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
    stage::close(&producer);
}

pub fn f02_restarted(kafka: &Kafka) {
    let stage = Stage::alone(kafka);
    let cluster = &stage.cluster;
    let producer = stage.producer(|builder| builder);
    let (topic, streams) = stage.streams(&producer, "restarted");
    for round in stage::rounds(3) {
        let broker = round as i32 % 3 + 1;
        streams.reset_gaps();
        cluster.terminate(broker);
        streams.all_go_on(200, LIMIT, "without the broker");
        cluster.restart(broker);
        cluster.wait_in_sync(&topic);
        spread(cluster, &topic, round);
        streams.all_go_on(200, LIMIT, "with all brokers");
        let gap = streams.longest_gap();
        println!("f02 restart {round}: broker {broker}, longest gap {gap:.2?}");
        assert!(gap < RECOVERY_MAX, "{gap:?}");
    }
    let summary = streams.finish(cluster);
    println!("f02: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered), "no error is seen");
    stage::close(&producer);
}
