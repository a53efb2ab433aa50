//! Batches that the broker refuses and that still get through, as a whole or in part.

use tidegate::embedded::Fault;
use tidegate::{Certainty, Compression, DeliveryErrorCause, ErrorCode};

use super::*;

/// Text that compresses to about half, so that batches stay too large when compressed.
fn text(n: usize) -> String {
    let mut random = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        char::from(b'a' + (random % 16) as u8)
    };
    (0..200 + n % 300).map(|_| next()).collect()
}

/// 2,000 records in batches of up to 256 KiB through a topic that takes 20,000 bytes at once.
fn gets_through_in_parts(compression: Compression) {
    let cluster =
        EmbeddedCluster::builder().topic("t", 1).message_bytes_max(20_000).start().unwrap();
    let producer = builder(&cluster).linger(millis(50)).compression(compression).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let texts: Vec<_> = (0..2_000).map(text).collect();
    let deliveries: Vec<_> = texts.iter().map(|text| topic.send((), text).unwrap()).collect();
    producer.flush().wait().unwrap();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(acked(delivery).offset(), Some(n as i64), "in order, each where it says");
    }
    assert_eq!(values(&cluster.records("t", 0)), texts);
    close(&producer);
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn c39_batches_too_large_for_the_topic_are_split_in_order() {
    gets_through_in_parts(Compression::None);
}

#[test]
fn c39_compressed_batches_too_large_for_the_topic_are_split_in_order() {
    for compression in [Compression::gzip(), Compression::lz4(), Compression::zstd()] {
        gets_through_in_parts(compression);
    }
}

#[test]
fn c39_a_single_record_too_large_for_the_topic_fails_and_its_neighbours_do_not() {
    let cluster =
        EmbeddedCluster::builder().topic("t", 1).message_bytes_max(20_000).start().unwrap();
    let producer = builder(&cluster).linger(millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let send = |n: usize| {
        let length = if n == 50 { 30_000 } else { 100 };
        topic.send((), format!("{n:0length$}")).unwrap()
    };
    let deliveries: Vec<_> = (0..100).map(send).collect();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match (n, outcome(delivery)) {
            (50, Err(error)) => {
                let DeliveryErrorCause::Broker { code, .. } = error.cause() else {
                    panic!("{error}")
                };
                assert_eq!(*code, ErrorCode::MESSAGE_TOO_LARGE);
                assert_eq!(error.certainty(), Certainty::NotWritten);
            }
            (50, Ok(at)) => panic!("{at}"),
            (_, outcome) => drop(outcome.unwrap()),
        }
    }
    let expected: Vec<_> = (0..100).filter(|&n| n != 50).map(|n| format!("{n:0100}")).collect();
    assert_eq!(values(&cluster.records("t", 0)), expected);
}

#[test]
fn c41_of_a_refused_batch_only_the_culprits_fail() {
    for compression in [Compression::None, Compression::lz4()] {
        let cluster = cluster(1, 1);
        let producer =
            builder(&cluster).linger(millis(50)).compression(compression).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        let fault = Fault::record_errors([3, 7]).partition("t", 0);
        cluster.script(fault.message("this record has no key"));
        let deliveries: Vec<_> = (0..10).map(|n| topic.send((), n.to_string()).unwrap()).collect();
        for (n, delivery) in deliveries.into_iter().enumerate() {
            match outcome(delivery) {
                Ok(at) if n != 3 && n != 7 => assert!(at.offset().is_some()),
                Err(error) if n == 3 || n == 7 => {
                    assert!(error.to_string().contains("this record has no key"), "{error}");
                    assert_eq!(error.certainty(), Certainty::NotWritten);
                }
                other => panic!("{n}: {other:?}"),
            }
        }
        acked(topic.send((), "after").unwrap());
        let expected = ["warm", "0", "1", "2", "4", "5", "6", "8", "9", "after"];
        assert_eq!(values(&cluster.records("t", 0)), expected);
    }
}

#[test]
fn a_producer_id_that_is_refused_fails_records_with_the_reason_and_is_asked_for_again() {
    let cluster = cluster(1, 1);
    cluster.script(Fault::init_producer_id_error(31).times(1_000_000));
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let start = Instant::now();
    for value in ["stashed", "in a lane"] {
        let error = failed(topic.send((), value).unwrap());
        let DeliveryErrorCause::Broker { code, .. } = error.cause() else { panic!("{error}") };
        assert_eq!(*code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert!(start.elapsed() < secs(60), "not only after delivery_timeout");
    cluster.clear_faults();
    // It takes as long as it takes to be asked for again.
    while outcome(topic.send((), "granted").unwrap()).is_err() {}
    close(&producer);
    assert_eq!(values(&cluster.records("t", 0)), ["granted"]);
}

#[test]
fn c08_a_forgotten_producer_begins_a_new_epoch_or_asks_again() {
    // The log's start: not known; where it was; behind what was acknowledged last (retention).
    for (log_start, epoch) in [(-1, 0), (0, 1), (50, 1)] {
        let cluster = cluster(1, 1);
        let producer = builder(&cluster).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        cluster.script(Fault::produce_error("t", 0, 59).log_start(log_start));
        assert_eq!(acked(topic.send((), "a").unwrap()).offset(), Some(1), "{log_start}");
        acked(topic.send((), "b").unwrap());
        let records = cluster.records("t", 0);
        assert_eq!(values(&records), ["warm", "a", "b"]);
        assert_eq!(records[2].producer_epoch, epoch, "{log_start}");
    }
}

#[test]
fn c08_a_record_that_may_have_been_written_and_deleted_since_is_not_written_again() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([
        Fault::produce_error("t", 0, 7).after_append(),
        Fault::produce_error("t", 0, 59).log_start(50),
    ]);
    let error = failed(topic.send((), "a").unwrap());
    assert_eq!(error.certainty(), Certainty::Unknown, "{error}");
    acked(topic.send((), "b").unwrap());
    assert_eq!(values(&cluster.records("t", 0)), ["warm", "a", "b"]);
}

#[test]
fn c20_topics_are_named_by_id_where_it_is_known() {
    for (metadata_max, spoken) in [(13, 13), (9, 12)] {
        let cluster = cluster(1, 2);
        cluster.limit_api(3, 1, metadata_max);
        let producer = builder(&cluster).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 2);
        let versions = cluster.stats().broker(1).api_versions.clone();
        let produce: Vec<_> = versions.keys().filter(|(api, _)| *api == 0).collect();
        assert_eq!(produce, [&(0, spoken)], "Metadata up to {metadata_max}");
    }
}

/// What stalls until then fails: an error instead of a wait.
const STALL: Duration = Duration::from_secs(20);

fn impatient(cluster: &EmbeddedCluster) -> ProducerBuilder {
    builder(cluster).delivery_timeout(STALL).request_timeout(secs(3))
}

/// W is refused for good while X, behind it on the same connection, is left in doubt.
fn a_doubt_behind_a_gap(doubt: Fault) {
    let cluster = cluster(1, 1);
    let producer = impatient(&cluster).batch_size(0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    // Of whole requests, which the first takes, and of partitions.
    cluster.script([Fault::delay(millis(1)), Fault::produce_error("t", 0, 29), doubt]);
    let (w, x) = (topic.send((), "W").unwrap(), topic.send((), "X").unwrap());
    cluster.resume_broker(1);
    assert_eq!(failed(w).certainty(), Certainty::NotWritten);
    acked(x);
    acked(topic.send((), "Y").unwrap());
    assert_eq!(values(&cluster.records("t", 0)), ["warm", "X", "Y"]);
}

#[test]
fn c09_what_is_behind_a_gap_is_freed_from_its_doubts() {
    a_doubt_behind_a_gap(Fault::produce_error("t", 0, 6));
    a_doubt_behind_a_gap(Fault::produce_error("t", 0, 7));
    a_doubt_behind_a_gap(Fault::close_before_response());
}

/// The new epoch closes the gap: what is left in doubt from then on may well be in the log.
#[test]
fn a_gap_of_an_earlier_epoch_frees_no_batch_from_its_doubts() {
    let cluster = cluster(1, 1);
    let producer = impatient(&cluster).batch_size(0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 29));
    assert_eq!(failed(topic.send((), "refused").unwrap()).certainty(), Certainty::NotWritten);
    acked(topic.send((), "next").unwrap());
    // Both are appended and go unanswered. Then the broker remembers the second only, and says of
    // the first that it is out of order.
    cluster.script(Fault::silence().after_append().times(2));
    let before = cluster.high_watermark("t", 0);
    let doubtful = ["a", "b"].map(|value| topic.send((), value).unwrap());
    assert!(cluster.wait_until(secs(60), |_| cluster.high_watermark("t", 0) == before + 2));
    cluster.stop_broker(1);
    cluster.forget_all_but_last_batches("t", 0);
    cluster.restart_broker(1).unwrap();
    doubtful.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(values(&cluster.records("t", 0)), ["warm", "next", "a", "b"]);
}

#[test]
fn c39_a_later_batch_does_not_keep_the_scratch_from_an_earlier_one() {
    let cluster =
        EmbeddedCluster::builder().topic("t", 1).message_bytes_max(20_000).start().unwrap();
    let producer =
        impatient(&cluster).batch_size(65_536).compression(Compression::zstd()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    // The first comes back without having been split, and finds the scratch with the second.
    cluster.pause_broker(1);
    cluster.script(Fault::produce_error("t", 0, 19));
    let texts: Vec<_> = (0..1_000).map(text).collect();
    let deliveries: Vec<_> = texts.iter().map(|text| topic.send((), text).unwrap()).collect();
    cluster.resume_broker(1);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(values(&cluster.records("t", 0))[1..], texts);
}

#[test]
fn a_record_that_fits_when_compressed_does_not_fail_while_the_scratch_is_lent() {
    let cluster =
        EmbeddedCluster::builder().topic("t", 2).message_bytes_max(20_000).start().unwrap();
    let producer =
        impatient(&cluster).batch_size(65_536).compression(Compression::lz4()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let compressible = "x".repeat(30_000);
    let mut deliveries = Vec::new();
    for round in 0..20 {
        for n in 0..200 {
            deliveries.push(topic.send_record(to(0, &text(200 * round + n))).unwrap());
        }
        deliveries.push(topic.send_record(to(1, &compressible)).unwrap());
    }
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(cluster.records("t", 1).len(), 21);
}

#[test]
fn lanes_that_left_a_brokers_queue_do_not_stop_it() {
    let cluster = cluster(2, 8);
    for partition in 0..8 {
        cluster.move_leader("t", partition, 1);
    }
    let producer = impatient(&cluster)
        .batch_size(4_096)
        .configure(|c| {
            c.max_in_flight = 1;
            c.metadata_max_age = millis(50);
            c.metadata_min_refresh = millis(10);
            c.retry_backoff = millis(1);
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 8);
    // Partition 0 is in trouble, waits in a queue of its own, and moves away.
    cluster.script(Fault::produce_error("t", 0, 7));
    cluster.script(Fault::delay(millis(20)).times(60));
    let mut deliveries = vec![topic.send_record(to(0, "in trouble")).unwrap()];
    let value = "x".repeat(3_900);
    for _ in 0..30 {
        for partition in 1..8 {
            deliveries.push(topic.send_record(to(partition, &value)).unwrap());
        }
    }
    eventually("it waits, and the others are served", || cluster.faults_left() < 57);
    cluster.move_leader("t", 0, 2);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
}
