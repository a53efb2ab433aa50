//! The fallback gets what fails, and what there is no room for.

use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex};

use tidegate::embedded::Fault;
use tidegate::{
    Acks, Backoff, Certainty, CloseError, Compression, DeliveryErrorCause, ErrorCode, EveryTopic,
    Fallback, PartitionRequest, Pressure, PressureScope, Purge, SendErrorKind, UndeliveredRecord,
    UseFallback,
};

use super::*;

/// The error code of a leader that has been deposed.
const NOT_LEADER: i16 = 6;
const MESSAGE_TOO_LARGE: i16 = 10;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// What the fallback got.
#[derive(Debug, PartialEq)]
struct Got {
    partition: Option<i32>,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
    timestamp: i64,
    error: DeliveryError,
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A fallback that passes on what it gets.
fn fallback() -> (impl Fallback + 'static, Receiver<Got>) {
    let (sender, receiver) = mpsc::channel();
    (keeper(sender), receiver)
}

fn keeper(sender: Sender<Got>) -> impl Fn(&UndeliveredRecord<'_>) + Send + Sync + 'static {
    move |record: &UndeliveredRecord<'_>| {
        assert_eq!(record.topic(), record.error().topic());
        let headers = record.headers().iter();
        let _ = sender.send(Got {
            partition: record.partition(),
            key: text(record.key()),
            value: text(record.value()),
            headers: headers.map(|it| (it.key.to_owned(), text(it.value))).collect(),
            timestamp: record.timestamp_ms(),
            error: record.error().clone(),
        });
    }
}

fn next(got: &Receiver<Got>) -> Got {
    got.recv_timeout(LONG).expect("the fallback gets it")
}

fn next_values(got: &Receiver<Got>, count: usize) -> Vec<String> {
    (0..count).map(|_| next(got).value.expect("no null here")).collect()
}

/// Nothing more comes: the producer is closed, and has called for everything.
fn rest(got: &Receiver<Got>) -> Vec<String> {
    got.try_iter().map(|got| got.value.expect("no null here")).collect()
}

/// A record in flight at a broker that stands still, one that waits behind it, and one of a topic
/// that is not known.
fn stalled(cluster: &EmbeddedCluster, fallback: impl Fallback + 'static) -> (Producer, Topic) {
    let one = |c: &mut tidegate::ProducerConfig| c.max_in_flight = 1;
    let producer = patient(cluster).configure(one).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    drop(topic.send("k", "flying").unwrap());
    eventually("it is in flight", || producer.metrics().brokers[0].in_flight == 1);
    drop(topic.send("k", "waits").unwrap());
    drop(producer.topic("unknown").unwrap().send("k", "stashed").unwrap());
    (producer, topic)
}

/// What a close hands back, whose time is up at once.
fn handed_back(producer: &Producer) -> Vec<String> {
    let (sender, back) = mpsc::channel();
    let close = producer.close_handing_back(millis(50), move |record| {
        sender.send(text(record.value()).unwrap()).unwrap();
    });
    assert!(close.wait().is_err());
    back.iter().collect()
}

fn is_all_free(producer: &Producer) -> bool {
    producer.memory().free == producer.memory().capacity
}

#[test]
fn what_is_not_acknowledged_in_time_goes_to_the_fallback_in_order() {
    let cluster = cluster(1, 2);
    let (fallback, got) = fallback();
    let timeouts = |c: &mut tidegate::ProducerConfig| c.request_timeout = millis(500);
    let builder = builder(&cluster).configure(timeouts).delivery_timeout(secs(2));
    let producer = builder.batch_size(4_096).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for partition in 0..2 {
        goes_on(&topic, partition, "warm");
    }
    stop(&cluster, &producer);
    let mut deliveries = Vec::new();
    for n in 0..1_000 {
        let (key, value) = (format!("key {n}"), format!("value {n}"));
        let record = Record::new().key(&key).value(&value).header("n", &key).header("null", ());
        deliveries.push(topic.send_record(record.partition(n % 2).timestamp(77)).unwrap());
    }
    deliveries.push(topic.send_record(Record::new().partition(1)).unwrap());
    let (mut all, mut errors) = ([Vec::new(), Vec::new()], Vec::new());
    // Where the machine is slow, records of the beginning have failed as well.
    let is_warm = |it: &Got| it.value.as_deref() == Some("warm");
    let failed_now = std::iter::repeat_with(|| next(&got)).filter(|it| !is_warm(it));
    for got in failed_now.take(deliveries.len()) {
        all[got.partition.unwrap() as usize].push(got);
    }
    for (partition, of_it) in (0..).zip(&mut all) {
        let last = if partition == 1 { of_it.pop() } else { None };
        assert!(last.is_none_or(|last| last.key.is_none() && last.value.is_none()));
        for (got, n) in of_it.iter().zip((partition..1_000).step_by(2)) {
            assert_eq!(got.key.as_ref().unwrap(), &format!("key {n}"));
            assert_eq!(got.value.as_ref().unwrap(), &format!("value {n}"));
            let n = ("n".to_owned(), Some(format!("key {n}")));
            assert_eq!(
                (&got.headers[..], got.timestamp),
                (&[n, ("null".to_owned(), None)][..], 77)
            );
            errors.push(got.error.clone());
        }
        assert_eq!(of_it.len(), 500);
    }
    for error in errors {
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    deliveries.into_iter().for_each(|delivery| drop(failed(delivery)));
    eventually("its memory is free again", || is_all_free(&producer));
    assert!(producer.metrics().fallback_records >= 1_001);
    close(&producer);
    assert!(rest(&got).iter().all(|value| value == "warm"));
}

#[test]
fn records_of_an_unknown_topic_go_to_the_fallback() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let (fallback, got) = fallback();
    let soon = |c: &mut tidegate::ProducerConfig| c.topic_unknown_max = millis(300);
    let producer = builder(&cluster).configure(soon).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let large = "x".repeat(200_000);
    for value in ["first", large.as_str(), "last"] {
        drop(topic.send_record(Record::new().value(value).header("h", "v")).unwrap());
    }
    drop(topic.send_record(to(3, "named")).unwrap());
    let first = next(&got);
    assert!(matches!(first.error.cause(), DeliveryErrorCause::UnknownTopic { .. }));
    assert_eq!((first.partition, first.value.as_deref()), (None, Some("first")));
    assert_eq!(first.headers, [("h".to_owned(), Some("v".to_owned()))]);
    assert_eq!(next_values(&got, 2), [&large, "last"]);
    assert_eq!(next(&got).partition, Some(3));
    eventually("its memory is free again", || is_all_free(&producer));
    close(&producer);
}

#[test]
fn what_a_broker_refuses_for_good_goes_to_the_fallback() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let producer = patient(&cluster).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([Fault::produce_error("t", 0, TOPIC_AUTHORIZATION_FAILED)]);
    failed(topic.send("k", "refused").unwrap());
    let refused = next(&got);
    let code = ErrorCode(TOPIC_AUTHORIZATION_FAILED);
    assert!(
        matches!(refused.error.cause(), DeliveryErrorCause::Broker { code: it, .. } if *it == code)
    );
    assert_eq!((refused.value.as_deref(), refused.partition), (Some("refused"), Some(0)));
    acked(topic.send("k", "goes on").unwrap());
    close(&producer);
    assert_eq!(rest(&got), [""; 0]);
}

#[test]
fn of_a_refused_batch_only_the_culprits_go_to_the_fallback() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let producer = lingering(&cluster).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    cluster.script([Fault::record_errors([3, 7]).partition("t", 0)]);
    let sent: Vec<_> =
        (0..10).map(|n| topic.send_record(to(0, &format!("value {n}"))).unwrap()).collect();
    topic.flush().wait().unwrap();
    assert_eq!(sent.into_iter().filter_map(|it| outcome(it).err()).count(), 2);
    assert_eq!(next_values(&got, 2), ["value 3", "value 7"]);
    assert_eq!(cluster.high_watermark("t", 0), 8);
    close(&producer);
    assert_eq!(rest(&got), [""; 0]);
}

/// A batch that was split, and whose second half waits behind the first, which is refused.
#[test]
fn both_halves_of_a_split_batch_go_to_the_fallback() {
    for compression in [Compression::None, Compression::lz4()] {
        let cluster = cluster(1, 1);
        let (fallback, got) = fallback();
        let producer = lingering(&cluster).request_timeout(FAR).acks(Acks::Leader);
        let producer = producer.compression(compression).fallback(fallback);
        let producer = producer.configure(|config| config.retry_backoff = millis(1));
        let producer = producer.build().unwrap();
        let topic = producer.topic("t").unwrap();
        let codes = [MESSAGE_TOO_LARGE, TOPIC_AUTHORIZATION_FAILED, TOPIC_AUTHORIZATION_FAILED];
        cluster.script(codes.map(|code| Fault::produce_error("t", 0, code)));
        let sent: Vec<_> = (0..100).map(|n| format!("value {n}")).collect();
        sent.iter().for_each(|value| drop(topic.send_record(to(0, value)).unwrap()));
        topic.flush().wait().unwrap();
        assert_eq!(next_values(&got, 100), sent, "{compression:?}");
        close(&producer);
        assert!(is_all_free(&producer));
        assert_eq!(rest(&got), [""; 0]);
    }
}

#[test]
fn what_a_close_leaves_goes_to_the_fallback_before_it_ends() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let (producer, _topic) = stalled(&cluster, fallback);
    let outcome = producer.close(millis(50)).wait();
    assert!(matches!(outcome, Err(CloseError::TimedOut { .. })), "{outcome:?}");
    let mut all: Vec<_> = got.try_iter().collect();
    all.sort_by(|one, other| one.value.cmp(&other.value));
    let certainties = all.iter().map(|got| (got.value.as_deref().unwrap(), got.error.certainty()));
    let expected = [
        ("flying", Certainty::Unknown),
        ("stashed", Certainty::NotWritten),
        ("waits", Certainty::NotWritten),
    ];
    assert!(certainties.eq(expected), "{all:?}");
    cluster.resume_broker(1);
}

#[test]
fn what_a_close_hands_back_does_not_go_to_the_fallback() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let (producer, _topic) = stalled(&cluster, fallback);
    assert_eq!(handed_back(&producer), ["waits", "stashed"]);
    assert_eq!(rest(&got), ["flying"]);
    cluster.resume_broker(1);
}

#[test]
fn a_half_in_flight_and_what_waits_behind_it_part_at_a_close_that_hands_back() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let producer = lingering(&cluster).request_timeout(FAR).acks(Acks::Leader).fallback(fallback);
    let waits = |c: &mut tidegate::ProducerConfig| {
        (c.retry_backoff, c.retry_backoff_max) = (secs(3), secs(3));
    };
    let producer = producer.configure(waits).build().unwrap();
    let topic = producer.topic("t").unwrap();
    cluster.script([MESSAGE_TOO_LARGE, NOT_LEADER].map(|code| Fault::produce_error("t", 0, code)));
    let sent: Vec<_> = (0..100).map(|n| format!("value {n}")).collect();
    sent.iter().for_each(|value| drop(topic.send_record(to(0, value)).unwrap()));
    drop(topic.flush());
    eventually("the first half was refused", || cluster.faults_left() == 0);
    cluster.pause_broker(1);
    eventually("the first half is in flight", || producer.metrics().brokers[0].in_flight == 1);
    let back = handed_back(&producer);
    let flying = rest(&got);
    assert!((30..70).contains(&flying.len()), "{} in flight", flying.len());
    assert_eq!([flying, back].concat(), sent);
    cluster.resume_broker(1);
}

#[test]
fn dropping_the_last_handle_gives_what_is_left_to_the_fallback() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let soon = tidegate::OnDrop::Wait(millis(50));
    let producer = patient(&cluster).on_drop(soon).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stop(&cluster, &producer);
    drop(topic.send("k", "left").unwrap());
    drop((topic, producer));
    assert_eq!(rest(&got), ["left"]);
}

#[test]
fn what_the_application_throws_away_does_not_go_to_the_fallback() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let (producer, topic) = stalled(&cluster, fallback);
    producer.purge(Purge::QueuedAndInFlight);
    eventually("all of it failed", || producer.failed_records().total == 3);
    cluster.resume_broker(1);
    acked(topic.send("k", "goes on").unwrap());
    close(&producer);
    assert_eq!(rest(&got), [""; 0]);
}

/// The partitioner names the partition behind the last.
#[test]
fn what_has_no_partition_goes_to_the_fallback() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let (fallback, got) = fallback();
    let wrong = EveryTopic::new(|request: &PartitionRequest<'_>| request.partitions.count());
    let producer = builder(&cluster).partitioner(wrong).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    drop(topic.send("k", "alone").unwrap());
    drop(topic.send_all(["a", "b"].map(|value| Record::new().value(value))).unwrap());
    drop(topic.send_record(to(7, "named")).unwrap());
    cluster.create_topic("t", 1);
    let values = next_values(&got, 4);
    assert_eq!(values, ["alone", "a", "b", "named"]);
    close(&producer);
}

/// A producer with 4 MiB of memory that gives records without room to the fallback.
fn small(cluster: &EmbeddedCluster) -> ProducerBuilder {
    patient(cluster).buffer_memory(4 << 20).batch_size(16_384).backoff(UseFallback)
}

#[test]
fn what_there_is_no_room_for_goes_to_the_fallback() {
    let cluster = cluster(1, 1);
    let (fallback, got) = fallback();
    let producer = small(&cluster).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let mut sent = 0;
    let mut deliveries = Vec::new();
    let full = loop {
        let value = format!("{sent} {}", "x".repeat(10_000));
        let record = Record::new().key("k").value(&value).header("h", "v").timestamp(5);
        let delivery = topic.send_record(record).unwrap();
        sent += 1;
        let is_given = delivery.status().waits_for.is_none();
        deliveries.push(delivery);
        if is_given {
            break next(&got);
        }
    };
    // Only the last one went there.
    let last = format!("{} {}", sent - 1, "x".repeat(10_000));
    let cause = DeliveryErrorCause::GivenToFallback { full: PressureScope::Broker(1) };
    assert_eq!((full.error.cause(), full.error.certainty()), (&cause, Certainty::NotWritten));
    assert_eq!((full.key.as_deref(), full.value.as_ref()), (Some("k"), Some(&last)));
    assert_eq!((full.partition, full.timestamp, full.headers.len()), (Some(0), 5, 1));
    // Together, and in async code.
    let together = ["a", "b"].map(|value| Record::new().value(value).partition(0));
    let error = topic.send_all(together).unwrap().wait().unwrap_err();
    assert_eq!(*error.cause(), cause);
    assert_eq!(next_values(&got, 2), ["a", "b"]);
    let task = block_on(topic.send_async("k", "task")).unwrap();
    assert_eq!(*failed(task).cause(), cause);
    assert_eq!(next_values(&got, 1), ["task"]);
    // `try_send` asks no strategy.
    let refused = topic.try_send("k", "tried").unwrap_err();
    assert!(matches!(refused.kind(), SendErrorKind::Rejected { .. }));
    // It was never accepted, and is no failed record.
    assert_eq!((producer.failed_records().total, producer.dropped_records()), (0, 0));
    cluster.resume_broker(1);
    let outcomes: Vec<_> = deliveries.into_iter().map(outcome).collect();
    let acknowledged = outcomes.iter().filter(|it| it.is_ok()).count();
    assert_eq!(acknowledged, sent - 1);
    close(&producer);
    assert_eq!(rest(&got), [""; 0]);
    assert_eq!(producer.metrics().fallback_records, 4);
}

#[test]
fn what_the_stash_has_no_room_for_goes_to_the_fallback() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let (fallback, got) = fallback();
    let producer = small(&cluster).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let first = loop {
        let delivery = topic.send("k", "x".repeat(100_000)).unwrap();
        if delivery.status().waits_for.is_none() {
            break next(&got);
        }
    };
    let cause = DeliveryErrorCause::GivenToFallback { full: PressureScope::Stash };
    assert_eq!((first.error.cause(), first.partition), (&cause, None));
    let together = [Record::new().value("a".repeat(100_000)), Record::new().value("b")];
    drop(topic.send_all(together).unwrap());
    assert_eq!(next_values(&got, 2)[1], "b");
    drop(producer.close(Duration::ZERO).wait());
}

/// A fallback that blocks in its first call, until it may go on.
fn gated() -> (impl Fallback + 'static, SyncSender<()>, Receiver<Got>) {
    let (open, gate) = mpsc::sync_channel(1);
    let (sender, got) = mpsc::channel();
    let (gate, keep) = (Mutex::new(Some(gate)), keeper(sender));
    let fallback = move |record: &UndeliveredRecord<'_>| {
        let gate = gate.lock().unwrap().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        keep(record);
    };
    (fallback, open, got)
}

#[test]
fn a_fallback_that_is_behind_makes_records_be_refused() {
    let cluster = cluster(1, 1);
    let (fallback, open, got) = gated();
    let little = |c: &mut tidegate::ProducerConfig| c.fallback_memory = 100_000;
    let producer = small(&cluster).configure(little).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let value = "x".repeat(10_000);
    let mut given = 0;
    let refused = loop {
        match topic.send("k", value.clone()) {
            Ok(delivery) => given += usize::from(delivery.status().waits_for.is_none()),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused.kind(), SendErrorKind::Rejected { .. }), "{refused}");
    assert_eq!(refused.into_record().value.unwrap(), value.as_bytes());
    assert!((5..10).contains(&given), "{given} records of 10,000 bytes in 100,000");
    open.send(()).unwrap();
    assert_eq!(next_values(&got, given).len(), given);
    // There is room for copies again.
    eventually("it is taken again", || topic.send("k", value.clone()).is_ok());
    cluster.resume_broker(1);
    close(&producer);
}

#[test]
fn a_fallback_that_is_slow_keeps_memory_and_loses_nothing() {
    let cluster = cluster(1, 1);
    let (fallback, open, got) = gated();
    let producer = patient(&cluster).buffer_memory(4 << 20).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script([Fault::produce_error("t", 0, TOPIC_AUTHORIZATION_FAILED).times(1_000)]);
    let (large, start) = ("x".repeat(100_000), Instant::now());
    let mut accepted = 0;
    // All of the memory is taken by records that have failed.
    loop {
        match topic.try_send("k", large.clone()) {
            Ok(_) => accepted += 1,
            Err(_) if producer.failed_records().total == accepted => break,
            Err(_) => assert!(start.elapsed() < LONG, "records leave, and nobody got them"),
        }
    }
    open.send(()).unwrap();
    assert_eq!(next_values(&got, accepted as usize).len() as u64, accepted);
    eventually("its memory is free again", || is_all_free(&producer));
    close(&producer);
}

#[test]
fn a_panic_in_the_fallback_costs_one_record() {
    let cluster = cluster(1, 1);
    let (sender, got) = mpsc::channel();
    let keep = keeper(sender);
    let fallback = move |record: &UndeliveredRecord<'_>| {
        assert_ne!(record.value(), Some(&b"second"[..]), "as the test wants");
        keep(record);
    };
    let producer = patient(&cluster).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stop(&cluster, &producer);
    for value in ["first", "second", "third"] {
        drop(topic.send("k", value).unwrap());
    }
    assert!(producer.close(Duration::ZERO).wait().is_err());
    assert_eq!(rest(&got), ["first", "third"]);
    assert_eq!(producer.metrics().fallback_records, 3);
}

#[test]
fn a_close_waits_for_a_fallback_that_takes_its_time() {
    let cluster = cluster(1, 1);
    let (sender, got) = mpsc::channel();
    let keep = keeper(sender);
    let producer = patient(&cluster).fallback(move |record: &UndeliveredRecord<'_>| {
        std::thread::sleep(millis(200));
        keep(record);
    });
    let producer = producer.build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stop(&cluster, &producer);
    (0..5).for_each(|n| drop(topic.send("k", format!("{n}")).unwrap()));
    let outcome = producer.close(Duration::ZERO).wait();
    assert!(matches!(outcome, Err(CloseError::TimedOut { .. })), "{outcome:?}");
    assert_eq!(rest(&got), ["0", "1", "2", "3", "4"]);
}

#[test]
fn with_a_fallback_callbacks_still_have_the_time_that_a_close_gives() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).fallback(|_: &UndeliveredRecord<'_>| {}).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let (sender, called) = mpsc::channel();
    for n in 0..20 {
        let sender = sender.clone();
        let slow = move |outcome: Result<_, _>| {
            std::thread::sleep(millis(20));
            sender.send((n, outcome.is_ok())).unwrap();
        };
        topic.send("k", "v").unwrap().on_complete(slow).unwrap();
    }
    producer.close(LONG).wait().unwrap();
    assert!(called.try_iter().eq((0..20).map(|n| (n, true))));
}

/// The broker answers nothing, records expire in flight, and the fallback does not return: what has
/// failed keeps its memory.
#[test]
fn what_fails_in_flight_does_not_fill_the_heap() {
    let cluster = cluster(1, 1);
    let (fallback, open, got) = gated();
    let producer = builder(&cluster).buffer_memory(4 << 20).backoff(tidegate::RejectRecords);
    let short = |c: &mut tidegate::ProducerConfig| {
        (c.request_timeout, c.delivery_timeout) = (millis(100), millis(150));
    };
    let producer = producer.configure(short).fallback(fallback).build().unwrap();
    let topic = producer.topic("t").unwrap();
    goes_on(&topic, 0, "warm");
    cluster.pause_broker(1);
    let (large, start) = ("x".repeat(100_000), Instant::now());
    let (mut accepted, mut refused_since) = (0, None);
    // At some time all of it is taken by what has failed, and stays so for several timeouts.
    while refused_since.is_none_or(|since: Instant| since.elapsed() < millis(600)) {
        match topic.send("k", large.clone()) {
            Ok(_) => (accepted, refused_since) = (accepted + 1, None),
            Err(_) => {
                refused_since.get_or_insert_with(Instant::now);
                std::thread::sleep(millis(1));
            }
        }
        assert!(start.elapsed() < LONG, "{accepted} records of 100 kB were accepted");
    }
    assert!(accepted < 100, "{accepted} records of 100 kB in 4 MiB");
    open.send(()).unwrap();
    let mut large = 0;
    while large < accepted {
        large += usize::from(next(&got).value.unwrap().len() == 100_000);
    }
    cluster.resume_broker(1);
    drop(producer.close(secs(5)).wait());
}

#[test]
fn without_a_fallback_the_strategy_refuses() {
    let cluster = cluster(1, 1);
    let producer = small(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let refused = loop {
        if let Err(error) = topic.send("k", "x".repeat(10_000)) {
            break error;
        }
    };
    assert!(matches!(refused.kind(), SendErrorKind::Rejected { .. }), "{refused}");
    cluster.resume_broker(1);
    close(&producer);
}

#[test]
fn the_fallback_can_be_another_cluster() {
    let (broken, whole) = (cluster(1, 1), cluster(1, 1));
    let second = builder(&whole).build().unwrap();
    let elsewhere = Arc::new(second.topic("t").unwrap());
    let producer = patient(&broken).fallback(move |record: &UndeliveredRecord<'_>| {
        drop(elsewhere.send_record(record.to_record()).unwrap());
    });
    // A record waits for a moment, and then it goes elsewhere.
    let strategy = |full: &Pressure<'_>| match full.elapsed < millis(2) {
        true => Backoff::Park { at_most: millis(2) },
        false => Backoff::Fallback,
    };
    let producer = producer.buffer_memory(4 << 20).backoff(strategy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stop(&broken, &producer);
    let count = 500_i64;
    let value = |n: i64| format!("{n} {}", "x".repeat(10_000));
    (0..count).for_each(|n| drop(topic.send("k", value(n)).unwrap()));
    assert!(producer.close(Duration::ZERO).wait().is_err());
    close(&second);
    let mut all = values(&whole.records("t", 0));
    all.sort_by_key(|value| value.split(' ').next().unwrap().parse::<i64>().unwrap());
    assert_eq!(all.len() as i64, count);
    assert!(all.iter().zip(0..).all(|(it, n)| *it == value(n)));
}
