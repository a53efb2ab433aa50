//! Most or all brokers gone or silent for a while.

use std::time::{Duration, Instant};

use tidegate::RejectRecords;

use crate::failover::wait_served;
use crate::kafka::{Kafka, wait_until};
use crate::stage::{self, LIMIT, PARTITIONS, RECOVERY_MAX, Stage};
use crate::streams::Streams;

const MIB: usize = 1 << 20;
/// Small enough to be full within seconds.
const POOL: usize = 4 * MIB;
/// So many records are turned away before an outage ends, in a short run and in a long one.
const TURNED_AWAY: (u64, u64) = (10_000, 500_000);
/// What a sender and a collector of the test keep for each record.
const KEPT_PER_RECORD: usize = 100;

pub fn f04_two_stopped(kafka: &Kafka) {
    let stage = Stage::alone(kafka);
    let cluster = &stage.cluster;
    // Short enough for records to expire while the brokers stand still.
    let impatient = Duration::from_secs(if stage::is_long() { 30 } else { 3 });
    let producer = stage
        .producer(|builder| builder.delivery_timeout(impatient).request_timeout(impatient / 3));
    let (topic, streams) = stage.streams(&producer, "two-stopped");
    for round in stage::rounds(1) {
        let stopped = [round as i32 % 3 + 1, (round as i32 + 1) % 3 + 1];
        let failed = streams.failed();
        stopped.iter().for_each(|&broker| cluster.stop(broker));
        let expired = wait_until(LIMIT, || streams.failed() > failed);
        stopped.iter().for_each(|&broker| cluster.cont(broker));
        assert!(expired, "nothing expired in {LIMIT:?}");
        let start = Instant::now();
        cluster.wait_ready();
        streams.all_go_on(500, LIMIT, "after two of three stood still");
        println!("f04: brokers {stopped:?} went on, and {:.2?} later all did", start.elapsed());
        cluster.wait_in_sync(&topic);
    }
    let summary = streams.finish(cluster);
    println!("f04: {summary:?}");
    assert!(summary.unknown > 0, "what was in flight then may be written");
    assert_eq!(summary.refused, 0);
    stage::close(&producer);
}

/// Two producers live through the same outages: senders of one park, of the other are refused.
pub fn f05_all_down(kafka: &Kafka) {
    let stage = Stage::alone(kafka);
    let cluster = &stage.cluster;
    let parking = stage.producer(|builder| builder.buffer_memory(POOL));
    let rejecting = stage.producer(|b| b.buffer_memory(POOL).backoff(RejectRecords));
    let (park_topic, parked) = stage.streams(&parking, "parked");
    let (reject_topic, rejected) = stage.streams(&rejecting, "rejected");
    let ids = cluster.broker_ids();
    for round in stage::rounds(1) {
        ids.iter().for_each(|&id| cluster.kill(id));
        let full = (sent(&parked), rejected.turned_away());
        assert!(wait_until(LIMIT, || rejected.turned_away() > full.1), "nothing was rejected");
        let before = (resident(), sent(&rejected));
        let turned_away = if stage::is_long() { TURNED_AWAY.1 } else { TURNED_AWAY.0 };
        let enough = || rejected.turned_away() >= full.1 + turned_away;
        assert!(wait_until(LIMIT, enough), "not enough was rejected");
        let kept = (sent(&rejected) - before.1) as usize * KEPT_PER_RECORD;
        let grown = resident().saturating_sub(before.0);
        assert!(grown < kept + 2 * POOL, "grown by {grown} bytes, {kept} for the test itself");
        let queued = (sent(&parked) - full.0) as usize;
        assert!(queued < 2 * POOL / 100, "{queued} records went in, and nothing came out");

        parked.reset_gaps();
        rejected.reset_gaps();
        cluster.restart_all(&ids);
        let all: Vec<i32> = (0..PARTITIONS).collect();
        let topics = [park_topic.as_str(), reject_topic.as_str()];
        let served = wait_served(cluster, topics, &all, &ids, 2);
        for (name, streams, served) in
            [("parked", &parked, &served[0]), ("rejected", &rejected, &served[1])]
        {
            streams.all_go_on(500, LIMIT, "after the outage");
            let after = |(&p, &at)| streams.gap_end(p as usize).saturating_duration_since(at);
            let recovery: Duration = served.iter().map(after).max().unwrap_or_default();
            println!("f05 outage {round}: {name} went on {recovery:.3?} after the brokers did");
            assert!(recovery < RECOVERY_MAX, "{name}: {recovery:?}");
        }
        println!("f05 outage {round}: memory grew by {} KiB", grown / 1024);
        cluster.wait_in_sync(&park_topic);
        cluster.wait_in_sync(&reject_topic);
    }
    let summary = parked.finish(cluster);
    println!("f05 parked: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
    let summary = rejected.finish(cluster);
    println!("f05 rejected: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered - summary.refused));
    stage::close(&parking);
    stage::close(&rejecting);
}

fn sent(streams: &Streams) -> u64 {
    (0..streams.len()).map(|stream| streams.sent(stream)).sum()
}

/// Bytes of anonymous memory of this process that are resident.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).expect("in kB");
    kib.trim().parse::<usize>().expect("a number") * 1024
}
