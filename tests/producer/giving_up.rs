//! Records that are given up: thrown away, or handed back at a close.

use std::sync::mpsc;

use tidegate::embedded::Fault;
use tidegate::{
    Acks, Certainty, CloseError, Compression, DeliveryErrorCause, EveryTopic, PartitionRequest,
    Purge, UndeliveredRecord,
};

use super::*;

/// The error code of a leader that has been deposed.
const NOT_LEADER: i16 = 6;
const MESSAGE_TOO_LARGE: i16 = 10;

/// What came back, as text: partition, key, value, headers.
type Back = (Option<i32>, String, String, Vec<String>);

fn described(record: &UndeliveredRecord<'_>) -> Back {
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    assert_eq!(record.error().certainty(), Certainty::NotWritten);
    assert_eq!(record.topic(), "t");
    let headers = record.headers().iter();
    let headers = headers.map(|header| format!("{}={}", header.key, text(header.value))).collect();
    (record.partition(), text(record.key()), text(record.value()), headers)
}

/// Closes within `timeout`, and returns what came back.
fn handed_back(producer: &Producer, timeout: Duration) -> (Result<(), CloseError>, Vec<Back>) {
    let (sender, receiver) = mpsc::channel();
    let close = producer.close_handing_back(timeout, move |record| {
        sender.send(described(record)).unwrap();
    });
    let outcome = close.wait();
    (outcome, receiver.into_iter().collect())
}

fn values_of(back: &[Back]) -> Vec<&str> {
    back.iter().map(|(_, _, value, _)| value.as_str()).collect()
}

fn is_purged(error: &DeliveryError, certainty: Certainty) {
    assert_eq!(*error.cause(), DeliveryErrorCause::Purged);
    assert_eq!(error.certainty(), certainty, "{error}");
}

#[test]
fn a_purge_throws_away_what_waits_and_nothing_else() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).topic("other", 1).start().unwrap();
    let producer = patient(&cluster).configure(|config| config.max_in_flight = 1).build().unwrap();
    let [topic, other] = ["t", "other"].map(|topic| producer.topic(topic).unwrap());
    warm(&topic, 1);
    warm(&other, 1);
    cluster.pause_broker(1);
    let flying = topic.send("k", "flying").unwrap();
    eventually("one is in flight", || producer.metrics().brokers[0].in_flight == 1);
    let waiting: Vec<_> =
        (0..100).map(|n| topic.send("k", format!("waits {n}")).unwrap()).collect();
    let others = other.send("k", "stays").unwrap();
    let unknown = producer.topic("unknown").unwrap().send("k", "v").unwrap();
    topic.purge(Purge::Queued);
    for delivery in waiting {
        is_purged(&failed(delivery), Certainty::NotWritten);
    }
    let later = topic.send("k", "later").unwrap();
    cluster.resume_broker(1);
    for delivery in [flying, others, later] {
        acked(delivery);
    }
    producer.purge(Purge::Queued);
    is_purged(&failed(unknown), Certainty::NotWritten);
    assert_eq!(values(&cluster.records("t", 0)), ["warm", "flying", "later"]);
    assert_eq!(producer.memory().free, producer.memory().capacity);
    close(&producer);
}

#[test]
fn a_purge_of_what_is_in_flight_leaves_open_whether_it_is_written() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let flying = topic.send("k", "flying").unwrap();
    eventually("it is in flight", || producer.metrics().brokers[0].in_flight == 1);
    producer.purge(Purge::QueuedAndInFlight);
    is_purged(&failed(flying), Certainty::Unknown);
    cluster.resume_broker(1);
    // The lane goes on, under a new epoch, behind what it gave up.
    acked(topic.send("k", "later").unwrap());
    assert_eq!(values(&cluster.records("t", 0)), ["warm", "flying", "later"]);
    close(&producer);
}

#[test]
fn what_is_sent_after_a_purge_is_sent() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    for what in [Purge::Queued, Purge::QueuedAndInFlight] {
        for n in 0..500 {
            producer.purge(what);
            acked(topic.send("k", format!("after {n}")).unwrap());
        }
    }
    assert_eq!(cluster.high_watermark("t", 0), 1_001);
    close(&producer);
}

/// Without numbers a whole batch may be in the log although its first half was taken again. Then
/// nobody may be told that the second half is not there.
#[test]
fn what_was_split_after_a_lost_answer_without_numbers_stays_in_doubt() {
    let cluster = cluster(1, 1);
    let builder = lingering(&cluster).request_timeout(FAR).acks(Acks::Leader);
    let backoff = |c: &mut tidegate::ProducerConfig| {
        (c.retry_backoff, c.retry_backoff_max) = (FAR, FAR);
    };
    let producer = builder.configure(backoff).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let warm = topic.send_record(to(0, "warm")).unwrap();
    topic.flush().wait().unwrap();
    acked(warm);
    // The whole is appended and its answer lost; the second attempt waits until the test has told
    // how it is refused, and the first half's answer until it has told what becomes of the second.
    let (refusal, answer) = (millis(1_000), millis(2_500));
    cluster.script([
        Fault::close_after_append(),
        Fault::delay(refusal),
        Fault::delay(answer).after_append(),
    ]);
    let sent = (0..100).map(|n| topic.send_record(to(0, &format!("value {n}"))).unwrap());
    let deliveries: Vec<_> = sent.collect();
    drop(topic.flush());
    eventually("the whole is appended", || cluster.high_watermark("t", 0) == 101);
    cluster.script([Fault::produce_error("t", 0, MESSAGE_TOO_LARGE)]);
    eventually("the first half is appended", || cluster.high_watermark("t", 0) > 101);
    cluster.script([Fault::produce_error("t", 0, NOT_LEADER).times(1_000)]);
    eventually("the second half is refused", || cluster.faults_left() < 1_000);
    let (_, back) = handed_back(&producer, millis(50));
    assert_eq!(back.len(), 0, "all of it may be in the log, and is");
    let failures = deliveries.into_iter().filter_map(|delivery| outcome(delivery).err());
    assert!(failures.into_iter().all(|error| error.certainty() == Certainty::Unknown));
}

#[test]
fn what_was_never_sent_is_handed_back_in_order() {
    let cluster = cluster(1, 2);
    let producer = patient(&cluster).batch_size(4_096).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    stop(&cluster, &producer);
    let mut deliveries = Vec::new();
    for n in 0..1_000 {
        let (key, value) = (format!("key {n}"), format!("value {n}"));
        let record = Record::new().key(&key).value(&value).header("n", &key).header("null", ());
        deliveries.push(topic.send_record(record.partition(n % 2).timestamp(77)).unwrap());
    }
    deliveries.push(topic.send_record(Record::new().partition(1)).unwrap());
    let (outcome, back) = handed_back(&producer, millis(50));
    assert!(matches!(outcome, Err(CloseError::TimedOut { .. })), "{outcome:?}");
    assert_eq!(back.len(), 1_001);
    for partition in 0..2 {
        let mut of_it = back.iter().filter(|record| record.0 == Some(partition));
        for n in (0..1_000).filter(|n| n % 2 == partition) {
            let headers = vec![format!("n=key {n}"), "null=null".to_owned()];
            let expected = (Some(partition), format!("key {n}"), format!("value {n}"), headers);
            assert_eq!(of_it.next(), Some(&expected));
        }
        let last = of_it.next();
        assert_eq!(last.is_some(), partition == 1);
        assert!(last.is_none_or(|last| last.1 == "null" && last.2 == "null"));
    }
    for delivery in deliveries {
        assert_eq!(failed(delivery).certainty(), Certainty::NotWritten);
    }
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn records_of_an_unknown_topic_are_handed_back() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let large = "x".repeat(200_000);
    for value in ["first", large.as_str(), "last"] {
        drop(topic.send_record(Record::new().value(value).header("h", "v")).unwrap());
    }
    drop(topic.send_record(to(3, "named")).unwrap());
    let (_, back) = handed_back(&producer, millis(50));
    assert_eq!(values_of(&back), ["first", &large, "last", "named"]);
    assert_eq!(back[0], (None, "null".into(), "first".into(), vec!["h=v".into()]));
    assert_eq!(back[3].0, Some(3));
}

/// A partitioner of one's own is being asked about a record, and does not return in time.
#[test]
fn a_record_that_the_partitioner_is_asked_about_is_handed_back() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let (asked, released) = (mpsc::sync_channel(0), mpsc::sync_channel::<()>(0));
    let (tell, gate) = (asked.0, std::sync::Mutex::new(released.1));
    let slow = EveryTopic::new(move |_: &PartitionRequest<'_>| {
        tell.send(()).unwrap();
        // Until the test ends.
        let _ = gate.lock().unwrap().recv();
        0
    });
    let producer = builder(&cluster).partitioner(slow).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for value in ["first", "second"] {
        drop(topic.send_record(Record::new().value(value)).unwrap());
    }
    cluster.create_topic("t", 1);
    asked.1.recv().unwrap();
    let (outcome, back) = handed_back(&producer, millis(50));
    assert!(matches!(outcome, Err(CloseError::Stuck { .. })), "{outcome:?}");
    assert_eq!(values_of(&back), ["first", "second"]);
    drop(released.0);
}

#[test]
fn what_may_have_been_written_is_not_handed_back() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).configure(|config| config.max_in_flight = 1).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let flying = topic.send("k", "flying").unwrap();
    eventually("it is in flight", || producer.metrics().brokers[0].in_flight == 1);
    drop(topic.send("k", "waits").unwrap());
    let (_, back) = handed_back(&producer, millis(50));
    assert_eq!(values_of(&back), ["waits"]);
    assert_eq!(failed(flying).certainty(), Certainty::Unknown);
    cluster.resume_broker(1);
}

/// A batch that was compressed, refused, and waits for its next attempt.
#[test]
fn a_compressed_batch_is_handed_back_as_it_was_sent() {
    for compression in [Compression::gzip(), Compression::lz4(), Compression::snappy()] {
        let cluster = cluster(1, 1);
        let builder = patient(&cluster).acks(Acks::Leader).compression(compression);
        let producer = builder.configure(|config| config.retry_backoff = FAR).build();
        let producer = producer.unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        cluster.script([Fault::produce_error("t", 0, NOT_LEADER).times(1_000)]);
        let sent: Vec<_> = (0..100).map(|n| format!("{n} {}", "same ".repeat(20))).collect();
        sent.iter().for_each(|value| drop(topic.send("k", value).unwrap()));
        eventually("the first batch was refused", || cluster.faults_left() < 1_000);
        let (_, back) = handed_back(&producer, millis(50));
        assert_eq!(values_of(&back), sent, "{compression:?}");
    }
}

/// A hundred records in a batch that was split. The first half was refused, and is sent again after
/// `retry_backoff`.
fn split_batch(cluster: &EmbeddedCluster, retry_backoff: Duration) -> SplitBatch {
    let producer = lingering(cluster).request_timeout(FAR).acks(Acks::Leader);
    let producer = producer.configure(|config| config.retry_backoff = retry_backoff);
    let producer = producer.configure(|config| config.retry_backoff_max = retry_backoff);
    let producer = producer.build().unwrap();
    let topic = producer.topic("t").unwrap();
    let warm = topic.send_record(to(0, "warm")).unwrap();
    topic.flush().wait().unwrap();
    acked(warm);
    cluster.script([MESSAGE_TOO_LARGE, NOT_LEADER].map(|code| Fault::produce_error("t", 0, code)));
    let sent: Vec<_> = (0..100).map(|n| format!("value {n}")).collect();
    let deliveries = sent.iter().map(|value| topic.send_record(to(0, value)).unwrap()).collect();
    drop(topic.flush());
    eventually("the first half was refused", || cluster.faults_left() == 0);
    SplitBatch { producer, sent, deliveries }
}

struct SplitBatch {
    producer: Producer,
    sent: Vec<String>,
    deliveries: Vec<Delivery>,
}

#[test]
fn a_split_batch_is_handed_back_whole() {
    let cluster = cluster(1, 1);
    let SplitBatch { producer, sent, deliveries } = split_batch(&cluster, FAR);
    let (_, back) = handed_back(&producer, millis(50));
    assert_eq!(values_of(&back), sent);
    for delivery in deliveries {
        assert_eq!(failed(delivery).certainty(), Certainty::NotWritten);
    }
}

#[test]
fn what_waits_behind_a_half_in_flight_is_handed_back() {
    let cluster = cluster(1, 1);
    let SplitBatch { producer, sent, mut deliveries } = split_batch(&cluster, secs(3));
    cluster.pause_broker(1);
    eventually("the first half is in flight", || producer.metrics().brokers[0].in_flight == 1);
    let (_, back) = handed_back(&producer, millis(50));
    let first = sent.len() - back.len();
    assert!((30..70).contains(&first), "{first} in flight");
    assert_eq!(values_of(&back), sent[first..]);
    let behind = deliveries.split_off(first);
    let certainty_of = |delivery| failed(delivery).certainty();
    assert!(deliveries.into_iter().all(|it| certainty_of(it) == Certainty::Unknown));
    assert!(behind.into_iter().all(|it| certainty_of(it) == Certainty::NotWritten));
    cluster.resume_broker(1);
}

#[test]
fn a_record_that_came_back_can_be_sent_elsewhere() {
    let (broken, whole) = (cluster(1, 1), cluster(1, 1));
    let producer = builder(&broken).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stop(&broken, &producer);
    let record = Record::new().key("k").value("v").header("h", "1").timestamp(5);
    drop(topic.send_record(record).unwrap());
    let second = builder(&whole).build().unwrap();
    let elsewhere = second.topic("t").unwrap();
    let (sender, deliveries) = mpsc::channel();
    let close_first = producer.close_handing_back(millis(50), move |record| {
        sender.send(elsewhere.send_record(record.to_record()).unwrap()).unwrap();
    });
    assert!(close_first.wait().is_err());
    deliveries.iter().for_each(|delivery| drop(acked(delivery)));
    let stored = &whole.records("t", 0)[0];
    assert_eq!(stored.value.as_deref(), Some(&b"v"[..]));
    assert_eq!((stored.timestamp, stored.headers.len()), (5, 1));
    close(&second);
}

#[test]
fn a_panic_while_records_come_back_ends_only_that() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stop(&cluster, &producer);
    let delivery = topic.send("k", "v").unwrap();
    let outcome = producer.close_handing_back(millis(50), |_| panic!("as the test wants")).wait();
    assert!(matches!(outcome, Err(CloseError::TimedOut { .. })), "{outcome:?}");
    failed(delivery);
    // The first close's outcome: nothing comes back a second time.
    let (again, back) = handed_back(&producer, millis(50));
    assert_eq!((again, back.len()), (outcome, 0));
}
