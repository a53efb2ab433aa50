//! Lanes beside others that have more to send than a broker takes: nobody waits for ever.

use super::*;
use tidegate::embedded::Fault;

/// Lanes that saturate the broker, numbered from 1: lane 0 is the one that must not starve.
const BUSY: i32 = 11;
/// What a broker says of a lane in trouble after it waited for the followers, and at once.
const REQUEST_TIMED_OUT: i16 = 7;
const NOT_ENOUGH_REPLICAS: i16 = 19;

/// What keeps the broker busy.
struct Backlog {
    /// Full batches of each lane.
    batches: u32,
    in_flight: usize,
    /// How long each answer takes.
    answer: Duration,
}

/// The window stays full until the backlog is gone.
const BACKLOG: Backlog = Backlog { batches: 200, in_flight: 5, answer: millis(2) };

/// Sends `send_quiet` into a backlog of full batches. Returns how many of the backlog's records the
/// broker appended before the quiet one, which is the last in partition 0: the broker's own clock
/// tells, so it does not matter how slow this thread is.
fn passed_by(backlog: &Backlog, faults: &[Fault], quiet_first: bool) -> usize {
    let cluster =
        EmbeddedCluster::builder().topic_with_log_append_time("t", 1 + BUSY).start().unwrap();
    let retry = millis(1);
    let producer = patient(&cluster)
        .configure(|c| {
            c.batch_size = 4 * 1_024;
            c.max_in_flight = backlog.in_flight;
            (c.retry_backoff, c.retry_backoff_max) = (retry, retry);
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1 + BUSY);
    cluster.script(faults.iter().cloned());
    // One answer at a time.
    cluster.script(Fault::delay(backlog.answer).times(1_000_000));
    cluster.pause_broker(1);
    let quiet = || topic.send_record(to(0, "quiet")).unwrap();
    let mut lone = quiet_first.then(quiet);
    // Two of them do not fit into one batch.
    let value = "v".repeat(3_000);
    let mut busy = Vec::new();
    for _ in 0..backlog.batches {
        let round = (1..=BUSY).map(|lane| topic.send_record(to(lane, &value)).unwrap());
        busy.extend(round);
    }
    let lone = lone.take().unwrap_or_else(quiet);
    cluster.resume_broker(1);
    acked(lone);
    busy.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    let at = cluster.records("t", 0).last().unwrap().timestamp;
    let before = |lane| {
        let records = cluster.records("t", lane);
        assert_eq!(records.len(), 1 + backlog.batches as usize);
        records.iter().skip(1).filter(|record| record.timestamp < at).count()
    };
    (1..=BUSY).map(before).sum()
}

/// What may pass: half of the backlog. Some ten requests of 200 are expected to.
const MAY_PASS: usize = BUSY as usize * BACKLOG.batches as usize / 2;

#[test]
fn a_quiet_lane_beside_lanes_that_saturate_a_broker_has_its_turn() {
    let passed = passed_by(&BACKLOG, &[], false);
    assert!(passed <= MAY_PASS, "{passed} records of other partitions went first");
}

#[test]
fn a_lane_that_was_in_trouble_has_its_turn_beside_lanes_that_saturate_a_broker() {
    for code in [REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS] {
        let passed = passed_by(&BACKLOG, &[Fault::produce_error("t", 0, code)], true);
        assert!(passed <= MAY_PASS, "{passed} records of other partitions went first");
    }
}

/// The broker answers slowly, and the wait for the next attempt is over long before its next
/// answer.
#[test]
fn a_lane_that_was_refused_at_once_is_not_passed_over() {
    let backlog = Backlog { batches: 20, in_flight: 1, answer: millis(100) };
    let fault = Fault::produce_error("t", 0, NOT_ENOUGH_REPLICAS);
    let passed = passed_by(&backlog, &[fault], true);
    assert!(passed <= 5 * BUSY as usize, "{passed} records of other partitions went first");
}

/// More slices than a turn of the event loop writes, to a socket that takes all of them.
#[test]
fn a_request_of_thousands_of_small_batches_is_written_whole() {
    let partitions = 6_000;
    let cluster = cluster(1, partitions);
    // One request at a time: what comes meanwhile is gathered for the next.
    let producer = patient(&cluster).configure(|c| c.max_in_flight = 1).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let mut deliveries = vec![topic.send_record(to(0, "first")).unwrap()];
    deliveries.extend((0..partitions).map(|n| topic.send_record(to(n, "value")).unwrap()));
    cluster.resume_broker(1);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(cluster.stats().records(), partitions as u64 + 2);
    close(&producer);
}
