//! Records that are sent together: one batch, one outcome.

use std::sync::Mutex;
use std::thread;

use tidegate::embedded::Fault;
use tidegate::{
    Certainty, Compression, DeliveryErrorCause, DropRecords, EveryTopic, InterceptedRecord,
    OnOutcome, PartitionRequest, RecordOutcome, RejectRecords, SendErrorKind,
};

use super::*;

const MESSAGE_TOO_LARGE: i16 = 10;

fn texts(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("{n}")).collect()
}

fn records(values: &[String]) -> impl Iterator<Item = Record<'_>> {
    values.iter().map(|value| Record::new().value(value))
}

#[test]
fn what_is_sent_together_stays_together() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let single = topic.clone();
    let others = thread::spawn(move || {
        let sent: Vec<_> =
            (0..20_000).map(|_| single.send_record(to(0, "other")).unwrap()).collect();
        sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    });
    for round in 0..200 {
        let values = texts(round * 7, round * 7 + 7);
        let batch = records(&values).map(|record| record.partition(0).header("h", "1"));
        let mut delivery = topic.send_all(batch).unwrap();
        assert_eq!(delivery.records(), 7);
        let first = delivery.wait_timeout(LONG).expect("it resolves").unwrap();
        let at = first.offset().unwrap() as usize;
        assert_eq!(values_at(&cluster, at, 7), values);
    }
    others.join().unwrap();
    // The first one's key places them all.
    let keyed = texts(0, 3);
    let placed = topic.send_all(keyed.iter().map(|key| Record::new().key(key))).unwrap();
    let expected = acked(topic.send("0", "v").unwrap()).partition();
    assert_eq!(placed.wait().unwrap().partition(), expected);
    close(&producer);
}

fn values_at(cluster: &EmbeddedCluster, at: usize, count: usize) -> Vec<String> {
    values(&cluster.records("t", 0)[at..at + count])
}

#[test]
fn large_batches_span_segments_and_are_compressed() {
    for compression in [Compression::None, Compression::lz4()] {
        let cluster = cluster(1, 1);
        let producer = builder(&cluster).compression(compression).build().unwrap();
        let topic = producer.topic("t").unwrap();
        // Twice: before the topic is known and after.
        for round in 0..2 {
            let values: Vec<_> =
                (0..300).map(|n| format!("{round} {n} {}", "x".repeat(n * 11))).collect();
            let sent = topic.send_all(records(&values)).unwrap().wait().unwrap();
            let at = sent.offset().unwrap() as usize;
            assert_eq!(values_at(&cluster, at, 300), values);
        }
        assert_eq!(cluster.stats().batches(), 2);
        close(&producer);
        assert_eq!(producer.memory().free, producer.memory().capacity);
    }
}

#[test]
fn what_waits_for_its_topic_stays_together_and_in_order() {
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let own = || {
        let count = count.clone();
        EveryTopic::new(move |_: &PartitionRequest<'_>| {
            *count.lock().unwrap() += 1;
            0
        })
    };
    for is_own in [false, true] {
        let cluster = EmbeddedCluster::builder().start().unwrap();
        let builder = builder(&cluster);
        let builder = if is_own { builder.partitioner(own()) } else { builder };
        let producer = builder.build().unwrap();
        let topic = producer.topic("t").unwrap();
        let first = topic.send((), "before").unwrap();
        let values_together = texts(0, 50);
        let together = topic.send_all(records(&values_together)).unwrap();
        let last = topic.send((), "after").unwrap();
        cluster.create_topic("t", 1);
        for delivery in [first, last] {
            acked(delivery);
        }
        assert_eq!(together.wait().unwrap().offset(), Some(1));
        let stored = values(&cluster.records("t", 0));
        assert_eq!((stored[0].as_str(), stored[51].as_str()), ("before", "after"));
        assert_eq!(stored[1..51], values_together);
        close(&producer);
    }
    assert_eq!(*asked.lock().unwrap(), 3, "asked once for those that go together");
}

#[test]
fn a_batch_that_is_refused_fails_as_a_whole() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let values_sent = texts(0, 20);
    let too_large = Fault::produce_error("t", 0, MESSAGE_TOO_LARGE);
    for fault in [too_large, Fault::record_errors([3, 4]).message("not this one")] {
        cluster.script([fault]);
        let error = topic.send_all(records(&values_sent)).unwrap().wait().unwrap_err();
        assert!(matches!(error.cause(), DeliveryErrorCause::Broker { .. }), "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert_eq!(producer.failed_records().total, 40);
    assert_eq!(producer.failed_records().unread, 0, "the error was taken, for all of them");
    cluster.script([Fault::produce_error("t", 0, MESSAGE_TOO_LARGE)]);
    drop(topic.send_all(records(&values_sent)).unwrap());
    producer.flush().wait().unwrap();
    eventually("they count as unread", || producer.failed_records().unread == 20);
    assert_eq!(values(&cluster.records("t", 0)), ["warm"]);
    acked(topic.send("k", "goes on").unwrap());
    close(&producer);
}

#[test]
fn what_cannot_be_sent_together_is_refused() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let refused = |records: Vec<Record<'_>>| topic.send_all(records).unwrap_err();
    let error = refused(vec![to(0, "a"), to(1, "b")]);
    let expected = SendErrorKind::NotTogether { partition: Some(0), other: Some(1) };
    assert_eq!(*error.kind(), expected);
    assert!(error.to_string().contains("one of them names 0, another 1"), "{error}");
    assert!(refused(Vec::new()).to_string().contains("no record"));
    let value = "x".repeat(600_000);
    let error = refused(vec![to(0, &value), to(0, &value)]);
    assert!(matches!(error.kind(), SendErrorKind::RecordTooLarge { size: 1_200_000.., .. }));
    let error = refused(vec![to(-1, "a")]);
    assert!(matches!(error.kind(), SendErrorKind::PartitionOutOfRange { .. }), "{error}");
    let error = refused(vec![Record::new().timestamp(-1)]);
    assert!(matches!(error.kind(), SendErrorKind::NegativeTimestamp { .. }), "{error}");
    // One that names a partition places those that name none.
    let sent = topic.send_all([Record::new().value("a"), to(1, "b")]).unwrap();
    assert_eq!(sent.wait().unwrap().partition(), 1);
    close(&producer);
    let error = topic.send_all([to(0, "late")]).unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::Closed);
}

#[test]
fn without_room_the_strategy_decides_for_all() {
    for drops in [false, true] {
        let cluster = cluster(1, 1);
        let builder = patient(&cluster).buffer_memory(4 << 20);
        let builder =
            if drops { builder.backoff(DropRecords) } else { builder.backoff(RejectRecords) };
        let producer = builder.build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        cluster.pause_broker(1);
        let value = "x".repeat(50_000);
        let batch = || [to(0, &value), to(0, &value), to(0, &value)];
        let mut sent = Vec::new();
        let refused = loop {
            match topic.try_send_all(batch()) {
                Ok(delivery) => sent.push(delivery),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused.kind(), SendErrorKind::Rejected { .. }), "{refused}");
        let outcome = topic.send_all(batch());
        match drops {
            true => {
                let error = outcome.unwrap().wait().unwrap_err();
                assert_eq!(*error.cause(), DeliveryErrorCause::Dropped);
                assert_eq!(producer.dropped_records(), 3);
            }
            false => assert!(matches!(outcome.unwrap_err().kind(), SendErrorKind::Rejected { .. })),
        }
        cluster.resume_broker(1);
        sent.into_iter().for_each(|delivery| drop(delivery.wait().unwrap()));
        close(&producer);
        assert_eq!(producer.memory().free, producer.memory().capacity);
    }
}

/// A topic that nobody creates has the stash's share, and another one becomes known meanwhile.
#[test]
fn what_waits_for_the_stash_goes_on_once_its_topic_is_known() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let builder = patient(&cluster).buffer_memory(4 << 20);
    let builder = builder.configure(|config| config.topic_unknown_max = secs(3));
    let producer = builder.build().unwrap();
    let [missing, topic] = ["missing", "t"].map(|name| producer.topic(name).unwrap());
    let value = "x".repeat(50_000);
    while missing.try_send((), &value).is_ok() {}
    let batch = || [to(0, &value), to(0, &value)];
    let refused = topic.try_send_all(batch()).unwrap_err();
    let stash = tidegate::PressureScope::Stash;
    assert!(matches!(refused.kind(), SendErrorKind::Rejected { scope, .. } if *scope == stash));
    let mut sending = Box::pin(topic.send_all_async(batch()));
    let mut poll = || sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    cluster.create_topic("t", 1);
    let mut sent = None;
    eventually("they go to their lane", || match poll() {
        Poll::Ready(result) => sent.insert(result.unwrap()).records() == 2,
        Poll::Pending => false,
    });
    sent.unwrap().wait().unwrap();
    // A thread that names a partition which is not there is not held for ever either.
    let parked = topic.send_record(Record::new().value(&value).partition(5));
    let outcome = parked.map(failed);
    assert!(outcome.is_ok_and(|error| error.partition().is_none()));
    drop(producer.close(Duration::ZERO).wait());
}

#[test]
fn a_strategy_hears_of_their_priority_also_beside_interceptors() {
    let told = Arc::new(Mutex::new(None));
    let list = told.clone();
    let strategy = move |full: &tidegate::Pressure<'_>| {
        *list.lock().unwrap() = Some((full.priority, full.tag, full.record_size));
        tidegate::Backoff::Reject
    };
    let seeing = |_: &mut InterceptedRecord<'_>| -> Option<OnOutcome> { None };
    let cluster = cluster(1, 1);
    let builder = patient(&cluster).buffer_memory(4 << 20).backoff(strategy).interceptor(seeing);
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let value = "x".repeat(50_000);
    while topic.try_send_record(to(0, &value)).is_ok() {}
    let record = || to(0, &value).priority(7).tag(8);
    assert!(topic.send_all([record(), record()]).is_err());
    let (priority, tag, size) = told.lock().unwrap().expect("it was asked");
    assert_eq!((priority, tag), (7, 8));
    assert!((100_000..101_000).contains(&size), "{size}");
    cluster.resume_broker(1);
    close(&producer);
}

#[test]
fn a_task_waits_for_room_for_all() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).buffer_memory(4 << 20).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let value = "x".repeat(50_000);
    let batch = || [to(0, &value), to(0, &value)];
    while topic.try_send_all(batch()).is_ok() {}
    let mut sending = Box::pin(topic.send_all_async(batch()));
    let mut poll = || sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll().is_pending());
    cluster.resume_broker(1);
    let mut sent = None;
    eventually("there is room", || match poll() {
        Poll::Ready(result) => sent.insert(result.unwrap()).records() == 2,
        Poll::Pending => false,
    });
    sent.unwrap().wait().unwrap();
    close(&producer);
}

#[test]
fn what_was_sent_together_is_handed_back_in_its_place() {
    for is_known in [false, true] {
        let cluster = EmbeddedCluster::builder().start().unwrap();
        let producer = patient(&cluster).build().unwrap();
        let topic = producer.topic("t").unwrap();
        if is_known {
            cluster.create_topic("t", 1);
            warm(&topic, 1);
            stop(&cluster, &producer);
        }
        let values_together = texts(1, 9);
        drop(topic.send((), "0").unwrap());
        drop(topic.send_all(records(&values_together)).unwrap());
        drop(topic.send((), "9").unwrap());
        let (sender, back) = std::sync::mpsc::channel();
        let close = producer.close_handing_back(millis(50), move |record| {
            let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
            sender.send(value).unwrap();
        });
        assert!(close.wait().is_err());
        assert_eq!(back.iter().collect::<Vec<_>>(), texts(0, 10));
        assert_eq!(producer.memory().free, producer.memory().capacity);
    }
}

#[test]
fn interceptors_see_each_of_them() {
    let cluster = cluster(1, 1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let list = told.clone();
    let numbering = move |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
        let value = record.value().unwrap_or_default().to_vec();
        record.add_header("seen", value);
        let list = list.clone();
        Some(Box::new(move |outcome| {
            if let RecordOutcome::Acknowledged { offset, .. } = outcome {
                list.lock().unwrap().push(offset.unwrap());
            }
        }))
    };
    let producer = builder(&cluster).interceptor(numbering).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let values_sent = texts(0, 5);
    topic.send_all(records(&values_sent)).unwrap().wait().unwrap();
    producer.flush().wait().unwrap();
    assert_eq!(*told.lock().unwrap(), [0, 1, 2, 3, 4]);
    for record in cluster.records("t", 0) {
        assert_eq!(record.headers[0].1, record.value);
    }
    close(&producer);
}
