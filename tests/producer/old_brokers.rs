//! Brokers that are too old for what the configuration asks for.

use tidegate::embedded::Fault;
use tidegate::{Acks, Certainty, Compression, DeliveryErrorCause};

use super::*;

const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
const CORRUPT_MESSAGE: i16 = 2;

/// The delivery fails soon, because the broker is too old; returns why.
fn too_old(delivery: Delivery) -> String {
    let start = Instant::now();
    let error = failed(delivery);
    assert!(start.elapsed() < secs(30), "not only after delivery_timeout: {error}");
    assert!(matches!(error.cause(), DeliveryErrorCause::BrokerTooOld(_)), "{error}");
    assert_eq!(error.certainty(), Certainty::NotWritten);
    error.to_string()
}

#[test]
fn c66_zstd_for_a_broker_before_2_1_is_an_error_at_once() {
    for acks in [Acks::All, Acks::Leader, Acks::None] {
        let cluster = cluster(1, 2);
        cluster.limit_api(PRODUCE, 3, 6);
        let zstd = builder(&cluster).compression(Compression::zstd()).acks(acks).build().unwrap();
        let topic = zstd.topic("t").unwrap();
        for n in 0..20 {
            let error = too_old(topic.send_record(to(n % 2, "x")).unwrap());
            assert!(error.contains("zstd") && error.contains("compression.type"), "{error}");
        }
        close(&zstd);
        assert_eq!(cluster.stats().requests_of(PRODUCE), 0, "{acks:?}");
        let gzip = builder(&cluster).compression(Compression::gzip()).build().unwrap();
        acked(gzip.topic("t").unwrap().send((), "x").unwrap());
    }
}

#[test]
fn c66_a_broker_with_no_version_in_common_is_an_error_at_once() {
    let cluster = cluster(1, 1);
    cluster.limit_api(PRODUCE, 90, 99);
    let producer = builder(&cluster).enable_idempotence(false).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for n in 0..20 {
        let error = too_old(topic.send((), n.to_string()).unwrap());
        assert!(error.contains("no version of Produce"), "{error}");
    }
    let accepted = cluster.stats().broker(1).connections_accepted;
    assert!(accepted <= 2, "no connection was given up for it: {accepted}");
}

#[test]
fn c66_brokers_without_producer_ids_are_an_error_at_once() {
    let cluster = cluster(2, 2);
    cluster.limit_api(INIT_PRODUCER_ID, 1, 0);
    let producer = builder(&cluster).enable_idempotence(true).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for n in 0..20 {
        let error = too_old(topic.send_record(to(n % 2, "x")).unwrap());
        assert!(error.contains("enable.idempotence"), "{error}");
    }
    let accepted = (1..=2).map(|id| cluster.stats().broker(id).connections_accepted);
    let accepted: u64 = accepted.sum();
    assert!(accepted <= 12, "{accepted} connections");
    // Upgraded, one after the other.
    cluster.limit_api(INIT_PRODUCER_ID, 0, 5);
    for id in 1..=2 {
        cluster.stop_broker(id);
        cluster.restart_broker(id).unwrap();
    }
    eventually("it goes on", || outcome(topic.send((), "granted").unwrap()).is_ok());
    close(&producer);
}

#[test]
fn a_batch_that_stays_corrupt_loses_its_records_without_key_and_no_other() {
    for (compression, idempotent) in
        [(Compression::None, true), (Compression::gzip(), true), (Compression::None, false)]
    {
        let cluster = cluster(1, 1);
        let producer = lingering(&cluster)
            .compression(compression)
            .enable_idempotence(idempotent)
            .configure(|c| c.retry_backoff_max = millis(10))
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        let first = topic.send("key", "warm").unwrap();
        producer.flush().wait().unwrap();
        acked(first);
        // As brokers before 2.4 refuse records without key to a compacted topic.
        cluster.script(Fault::produce_error("t", 0, CORRUPT_MESSAGE).times(4));
        let is_keyless = |n: usize| n % 5 == 3;
        let sent: Vec<_> = (0..20)
            .map(|n| match is_keyless(n) {
                true => topic.send((), n.to_string()).unwrap(),
                false => topic.send("key", n.to_string()).unwrap(),
            })
            .collect();
        producer.flush().wait().unwrap();
        for (n, delivery) in sent.into_iter().enumerate() {
            match outcome(delivery) {
                Ok(at) => assert!(!is_keyless(n) && at.offset().is_some(), "{n}: {at}"),
                Err(error) => {
                    assert!(is_keyless(n), "{n}: {error}");
                    assert!(error.to_string().contains("is the topic compacted?"), "{error}");
                    assert_eq!(error.certainty(), Certainty::NotWritten);
                }
            }
        }
        let kept: Vec<String> =
            (0..20).filter(|n| !is_keyless(*n)).map(|n| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", 0))[1..], kept);
        close(&producer);
    }
}

#[test]
fn a_corrupt_message_is_sent_again_a_few_times_and_then_in_halves() {
    let cluster = cluster(1, 1);
    let producer =
        lingering(&cluster).configure(|c| c.retry_backoff_max = millis(10)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let first = topic.send("key", "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(first);
    // Damaged on the way three times: nothing is taken apart.
    cluster.script(Fault::produce_error("t", 0, CORRUPT_MESSAGE).times(3));
    let sent: Vec<_> = (0..8).map(|n| topic.send("key", n.to_string()).unwrap()).collect();
    producer.flush().wait().unwrap();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(cluster.stats().batches(), 2);
    // A batch that is refused until it is of one record loses this one only.
    cluster.script(Fault::produce_error("t", 0, CORRUPT_MESSAGE).times(7));
    let sent: Vec<_> = (0..8).map(|n| topic.send("key", n.to_string()).unwrap()).collect();
    producer.flush().wait().unwrap();
    let acked = sent.into_iter().map(outcome).filter(Result::is_ok).count();
    assert_eq!(acked, 7);
    close(&producer);
}
