//! Code of the application's that sees each record before it is encoded, and what becomes of it.

use std::sync::Mutex;

use bytes::Bytes;
use tidegate::{
    InterceptedRecord, OnOutcome, RecordOutcome, RejectRecords, SendErrorKind, murmur2,
};

use super::*;

/// What interceptors were told, in order.
type Told = Arc<Mutex<Vec<String>>>;

fn told(list: &Told) -> Vec<String> {
    std::mem::take(&mut *list.lock().unwrap())
}

/// An interceptor that adds a header and tells of outcomes.
fn watching(
    list: &Told,
) -> impl Fn(&mut InterceptedRecord<'_>) -> Option<OnOutcome> + Send + Sync + 'static {
    let list = list.clone();
    move |record| {
        record.add_header("seen", "yes");
        let (list, value) = (list.clone(), record.value().unwrap_or_default().to_vec());
        Some(Box::new(move |outcome| {
            let value = String::from_utf8(value).unwrap();
            let outcome = match outcome {
                RecordOutcome::Acknowledged { topic, partition, offset, timestamp } => {
                    assert!(*timestamp > 0);
                    format!("{topic}-{partition}@{offset:?}")
                }
                RecordOutcome::Failed(error) => format!("failed: {}", error.certainty()),
                RecordOutcome::Refused(SendErrorKind::Rejected { .. }) => "refused".to_owned(),
                other => panic!("{other:?}"),
            };
            list.lock().unwrap().push(format!("{value}: {outcome}"));
        }))
    }
}

#[test]
fn what_interceptors_change_is_what_is_sent() {
    let cluster = cluster(1, 4);
    let first = |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
        assert_eq!(record.topic(), "t");
        let before: Vec<_> = record.headers().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(before, ["kept", "gone", "gone"]);
        assert_eq!(record.remove_headers("gone"), 2);
        record.add_header("first", [1]);
        record.set_key(Some(Bytes::from_static(b"changed")));
        record.set_timestamp(1_234);
        None
    };
    let second = |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
        assert_eq!(record.key(), Some(&b"changed"[..]));
        assert_eq!((record.timestamp_ms(), record.partition()), (Some(1_234), Some(0)));
        let name = format!("second after {}", record.headers().count());
        record.add_header(name, "2");
        record.set_value(None);
        record.set_partition(None);
        None
    };
    let producer = builder(&cluster).interceptor(first).interceptor(second).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let record = Record::new().key("k").value("v").header("kept", "1");
    let record = record.header("gone", "2").header("gone", ()).partition(0);
    // The first waits for the topic to be known, the second does not, and the third is a task's.
    let stashed = acked(topic.send_record(record.clone()).unwrap());
    let known = acked(topic.send_record(record.clone()).unwrap());
    let sent = pin!(topic.send_record_async(record));
    let Poll::Ready(sent) = sent.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("there is room")
    };
    let task = acked(sent.unwrap());
    // The partition that the record named was taken away, and its new key hashed.
    let expected = (murmur2(b"changed") & 0x7fff_ffff) as i32 % 4;
    for at in [stashed, known, task] {
        assert_eq!((at.partition(), at.timestamp()), (expected, 1_234));
    }
    for record in cluster.records("t", expected) {
        assert_eq!(record.key.as_deref(), Some(&b"changed"[..]));
        assert_eq!(record.value, None);
        let headers: Vec<_> = record.headers.iter().map(|header| header.0.as_str()).collect();
        assert_eq!(headers, ["kept", "first", "second after 2"]);
    }
    close(&producer);
}

#[test]
fn outcomes_are_told_whoever_has_the_delivery() {
    let cluster = cluster(1, 1);
    let list = Told::default();
    let producer = patient(&cluster)
        .interceptor(watching(&list))
        .buffer_memory(4 << 20)
        .backoff(RejectRecords)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    // One is awaited, one is dropped at once, one is called with.
    acked(topic.send("k", "awaited").unwrap());
    drop(topic.send("k", "dropped").unwrap());
    topic.send("k", "called").unwrap().on_complete(|outcome| drop(outcome.unwrap())).unwrap();
    acked(topic.with_key("k").send("keyed").unwrap());
    producer.flush().wait().unwrap();
    let outcomes: Vec<_> = ["awaited", "dropped", "called", "keyed"]
        .iter()
        .enumerate()
        .map(|(offset, value)| format!("{value}: t-0@Some({offset})"))
        .collect();
    assert_eq!(told(&list), outcomes, "flush waits until they were told, in order");
    assert!(cluster.records("t", 0).iter().all(|record| record.headers.len() == 1));

    cluster.pause_broker(1);
    let value = "x".repeat(100_000);
    let refused = (0..100).find_map(|_| topic.send("k", &value).err());
    assert!(matches!(refused.expect("no room").kind(), SendErrorKind::Rejected { .. }));
    assert_eq!(told(&list), [format!("{value}: refused")], "told at once");
    drop(producer.close(Duration::ZERO).wait());
    let failures = told(&list);
    assert!(failures.len() > 5, "{} failed", failures.len());
    assert!(failures.iter().all(|line| line.contains(": failed: ")));
    // Nobody looked at the deliveries: an interceptor that was told does not change that.
    let counts = producer.failed_records();
    assert_eq!((counts.unread, counts.total), (failures.len() as u64, failures.len() as u64));
    cluster.resume_broker(1);
}

#[test]
fn a_panic_leaves_the_record_as_it_was() {
    let cluster = cluster(1, 1);
    let list = Told::default();
    let panics = |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
        record.set_value(None);
        panic!("as the test wants")
    };
    let then_panics = |_: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
        Some(Box::new(|_| panic!("as the test wants")))
    };
    let producer = builder(&cluster)
        .interceptor(panics)
        .interceptor(then_panics)
        .interceptor(watching(&list))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send("k", "v").unwrap());
    close(&producer);
    assert_eq!(values(&cluster.records("t", 0)), ["v"]);
    assert_eq!(told(&list), ["v: t-0@Some(0)"], "the one behind is told nevertheless");
}
