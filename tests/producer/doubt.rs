//! NOT_LEADER_OR_FOLLOWER leaves it open whether a batch was written: so answers also a leader that
//! is deposed while it waits for its followers, and they may have the batch.

use super::*;
use tidegate::embedded::{ClusterStats, Fault};
use tidegate::{Certainty, DeliveryErrorCause};

const PRODUCE: i16 = 0;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const NOT_ENOUGH_REPLICAS: i16 = 19;

fn not_leader_after_append() -> Fault {
    Fault::produce_error("t", 0, NOT_LEADER_OR_FOLLOWER).after_append()
}

/// Of the only partition.
fn log(cluster: &EmbeddedCluster) -> Vec<String> {
    values(&cluster.records("t", 0))
}

#[test]
fn a_deposed_leaders_answer_is_no_proof_when_retries_are_used_up() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).configure(|c| c.retries = 0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(not_leader_after_append());
    let error = failed(topic.send((), "doubtful").unwrap());
    assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
    acked(topic.send((), "next").unwrap());
    close(&producer);
    assert_eq!(log(&cluster), ["warm", "doubtful", "next"]);
}

#[test]
fn a_deposed_leaders_answer_is_no_proof_when_the_record_expires() {
    in_time(|| {
        let cluster = cluster(1, 1);
        let producer = builder(&cluster)
            .request_timeout(millis(500))
            .delivery_timeout(secs(1))
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        goes_on(&topic, 0, "warm");
        let before = log(&cluster).len();
        cluster.script(not_leader_after_append().times(1_000_000));
        let error = failed(topic.send((), "doubtful").unwrap());
        cluster.clear_faults();
        goes_on(&topic, 0, "next");
        close(&producer);
        let log = log(&cluster);
        let written = log.iter().filter(|value| *value == "doubtful").count();
        assert!(written <= 1, "{log:?}");
        // A slow machine may not have got round to sending it.
        let in_time = written == 1 && log[before] == "doubtful";
        if in_time {
            assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
            assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
        }
        in_time
    });
}

/// The first record is given up after an answer that proves nothing, while the one behind it is on
/// its way: given a new sequence at once, that one would be appended twice.
#[test]
fn nothing_is_doubled_behind_a_record_that_a_deposed_leader_may_have_written() {
    let cluster = cluster(1, 1);
    let backoff = millis(5);
    let producer = patient(&cluster)
        .configure(|c| {
            // Each record is a batch.
            c.batch_size = 0;
            c.retries = 1;
            (c.retry_backoff, c.retry_backoff_max) = (backoff, backoff);
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let before = cluster.stats().requests_of(PRODUCE);
    cluster.script([
        Fault::produce_error("t", 0, NOT_ENOUGH_REPLICAS),
        Fault::delay(Duration::ZERO),
        // The second attempt: time for the other record to follow it.
        Fault::delay(secs(1)),
        not_leader_after_append().times(2),
    ]);
    let first = topic.send((), "first").unwrap();
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(PRODUCE) == before + 2));
    let behind = topic.send((), "behind").unwrap();
    let error = failed(first);
    acked(behind);
    acked(topic.send((), "next").unwrap());
    close(&producer);
    assert_eq!(cluster.faults_left(), 0);
    assert_eq!(log(&cluster), ["warm", "first", "behind", "next"]);
    assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
}

/// The broker takes a batch, cannot tell, and refuses the same batch because of one of its records:
/// its topic has got stricter meanwhile. Sent again without that record, in a new epoch, the others
/// would be in the log twice.
#[test]
fn the_innocent_of_a_batch_that_may_be_written_are_not_sent_again() {
    let cluster = cluster(1, 1);
    // Only a flush ends it: the records are one batch.
    let producer = patient(&cluster).linger(LONG).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let warm = topic.send((), "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(warm);
    let culprit = Fault::record_errors([1]).partition("t", 0);
    cluster.script([not_leader_after_append(), culprit]);
    let deliveries = ["0", "1", "2"].map(|value| topic.send((), value).unwrap());
    producer.flush().wait().unwrap();
    for delivery in deliveries {
        let error = failed(delivery);
        assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
    }
    assert_eq!(cluster.faults_left(), 0);
    let after = topic.send((), "after").unwrap();
    close(&producer);
    acked(after);
    assert_eq!(log(&cluster), ["warm", "0", "1", "2", "after"]);
}

/// Waits until so many Produce requests were received.
fn received(cluster: &EmbeddedCluster, requests: u64) {
    let all = |stats: &ClusterStats| stats.requests_of(PRODUCE) >= requests;
    assert!(cluster.wait_until(secs(60), all), "{requests} requests arrive");
}

#[test]
fn c50_f43_after_an_unclean_election_records_flow_again_at_once() {
    let cluster = cluster(1, 1);
    let producer =
        builder(&cluster).request_timeout(millis(500)).delivery_timeout(secs(110)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "kept").unwrap());
    acked(topic.send((), "cut off").unwrap());
    let before = cluster.stats().requests_of(PRODUCE);
    cluster.script(Fault::silence());
    let unanswered = topic.send((), "unanswered").unwrap();
    received(&cluster, before + 1);
    cluster.cut_off("t", 0, 1);
    let start = Instant::now();
    assert_eq!(acked(unanswered).offset(), Some(1));
    assert!(start.elapsed() < secs(50), "long before it would have expired");
    acked(topic.send((), "next").unwrap());
    close(&producer);
    assert_eq!(log(&cluster), ["kept", "unanswered", "next"]);
}

#[test]
fn c50_f55_a_clean_restart_beside_several_unanswered_batches_doubles_none() {
    let cluster = cluster(1, 1);
    // Each record is a batch of its own.
    let producer = patient(&cluster).batch_size(1).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "first").unwrap());
    let before = cluster.stats().requests_of(PRODUCE);
    cluster.script(Fault::silence().after_append().times(4));
    let values = ["a", "b", "c", "d"];
    let sent: Vec<_> = values.iter().map(|value| topic.send((), *value).unwrap()).collect();
    received(&cluster, before + 4);
    cluster.stop_broker(1);
    cluster.forget_all_but_last_batches("t", 0);
    cluster.restart_broker(1).unwrap();
    for delivery in sent {
        acked(delivery);
    }
    acked(topic.send((), "last").unwrap());
    close(&producer);
    assert_eq!(log(&cluster), ["first", "a", "b", "c", "d", "last"]);
}

/// Kafka forgets a producer that was idle for `producer.id.expiration.ms`, and takes whatever
/// sequence comes first from one that it does not know. Sent beside the first batch, which is
/// refused, a second one would be that.
#[test]
fn c49_f42_a_burst_to_a_broker_that_forgot_the_producer_keeps_its_order_over_a_refusal() {
    let idle_max = millis(200);
    let cluster = cluster(1, 1);
    // Each record is a batch of its own.
    let producer = patient(&cluster).batch_size(1).configure(|c| c.producer_id_idle_max = idle_max);
    let producer = producer.build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut expected = Vec::new();
    for round in 0..5 {
        let value = format!("{round} before");
        acked(topic.send((), &*value).unwrap());
        expected.push(value);
        // Idle for long enough: nothing but time makes it so. Longer does no harm.
        std::thread::sleep(idle_max + idle_max / 2);
        cluster.forget_producers("t", 0);
        cluster.script(Fault::produce_error("t", 0, NOT_ENOUGH_REPLICAS));
        // As many as may be in flight are so before the first is answered.
        cluster.pause_broker(1);
        let burst: Vec<_> = (0..5).map(|n| format!("{round} {n}")).collect();
        let sent: Vec<_> = burst.iter().map(|value| topic.send((), &**value).unwrap()).collect();
        cluster.resume_broker(1);
        sent.into_iter().for_each(|delivery| drop(acked(delivery)));
        assert_eq!(cluster.faults_left(), 0, "one was refused");
        expected.extend(burst);
    }
    close(&producer);
    assert_eq!(log(&cluster), expected);
}
