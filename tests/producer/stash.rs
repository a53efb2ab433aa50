//! Records sent before their topic is known.

use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::{Certainty, DeliveryErrorCause, EveryTopic, PartitionRequest, Partitioner, Record};

use super::*;

/// A producer whose topic stays unknown until the broker is resumed.
fn held(brokers: usize, partitions: i32) -> (EmbeddedCluster, Producer, Topic) {
    let cluster = cluster(brokers, partitions);
    (1..=brokers as i32).for_each(|id| cluster.pause_broker(id));
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    (cluster, producer, topic)
}

#[test]
fn records_wait_for_their_topic_in_order() {
    let (cluster, producer, topic) = held(2, 3);
    let deliveries: Vec<_> =
        (0..3_000).map(|n| topic.send_record(to(n % 3, &n.to_string())).unwrap()).collect();
    assert_eq!(topic.partitions(), 0);
    (1..=2).for_each(|id| cluster.resume_broker(id));
    // While the stash empties, more come, behind it.
    let mut n = 3_000;
    while topic.partitions() == 0 || n < 6_000 {
        drop(topic.send_record(to(n % 3, &n.to_string())).unwrap());
        n += 1;
    }
    for (at, delivery) in deliveries.into_iter().enumerate() {
        let metadata = acked(delivery);
        assert_eq!((metadata.partition(), metadata.offset()), (at as i32 % 3, Some(at as i64 / 3)));
    }
    close(&producer);
    for partition in 0..3 {
        let expected: Vec<String> =
            (0..n).filter(|n| n % 3 == partition).map(|n| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", partition)), expected);
    }
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn stashed_records_without_a_key_spread() {
    let cluster = cluster(1, 4);
    cluster.pause_broker(1);
    let producer = builder(&cluster).batch_size(16_384).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..4_000).map(|_| topic.send((), &[7; 1_024]).unwrap()).collect();
    assert_eq!(topic.partitions(), 0);
    cluster.resume_broker(1);
    let partitions: Vec<i32> = deliveries.into_iter().map(|d| acked(d).partition()).collect();
    for partition in 0..4 {
        // Some 250 batches' worth: each gets a quarter, and a tenth but by a miracle.
        let count = partitions.iter().filter(|p| **p == partition).count();
        assert!(count >= 400, "partition {partition} got {count} of 4,000");
    }
}

/// Counts what it is told of, and panics every time.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Partitioner for Counts {
    fn partition(&self, _request: &PartitionRequest<'_>) -> i32 {
        0
    }

    fn on_appended(&self, _partition: i32, bytes: usize, _batch_size: usize) {
        self.0.fetch_add(bytes, Ordering::SeqCst);
        panic!("a panic that belongs to the test");
    }
}

/// A worker moves a part of it at a time, and the stash thread hands it the rest.
#[test]
fn a_partitioner_of_the_applications_places_a_long_stash_to_its_end() {
    let cluster = cluster(1, 2);
    cluster.pause_broker(1);
    let second = |_: &PartitionRequest<'_>| 1;
    let producer = builder(&cluster).partitioner(EveryTopic::new(second)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..2_000).map(|_| topic.send((), &[7; 1_024]).unwrap()).collect();
    assert_eq!(topic.partitions(), 0);
    cluster.resume_broker(1);
    for (at, delivery) in deliveries.into_iter().enumerate() {
        let metadata = acked(delivery);
        assert_eq!((metadata.partition(), metadata.offset()), (1, Some(at as i64)));
    }
}

#[test]
fn a_hook_hears_of_stashed_records_and_may_panic() {
    let cluster = cluster(1, 1);
    cluster.pause_broker(1);
    let counts = Arc::new(Counts::default());
    let shared = counts.clone();
    let factory = move |_: &str| -> Arc<dyn Partitioner> { shared.clone() };
    let producer = builder(&cluster).partitioner(factory).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let record = || Record::new().key("key").value("value").header("name", "four");
    let deliveries: Vec<_> = (0..10).map(|_| topic.send_record(record()).unwrap()).collect();
    cluster.resume_broker(1);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(counts.0.load(Ordering::SeqCst), 10 * 16);
    close(&producer);
}

#[test]
fn stashed_records_keep_all_that_they_have() {
    let (cluster, producer, topic) = held(1, 2);
    let big = vec![b'b'; 900 * 1_024];
    let full = Record::new().key("").value(()).header("h", "x").header("n", ()).timestamp(77);
    let deliveries = vec![
        topic.send_record(full.partition(1)).unwrap(),
        topic.send((), &big).unwrap(),
        topic.send("key", &big).unwrap(),
        topic.send((), ()).unwrap(),
    ];
    cluster.resume_broker(1);
    let at: Vec<_> = deliveries.into_iter().map(acked).collect();
    let stored = |at: &RecordMetadata| {
        cluster.records("t", at.partition()).swap_remove(at.offset().unwrap() as usize)
    };
    let first = stored(&at[0]);
    assert_eq!((at[0].partition(), first.timestamp, at[0].timestamp()), (1, 77, 77));
    assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b""[..]), None));
    assert_eq!(first.headers.len(), 2);
    assert!(stored(&at[1]).value.as_deref() == Some(&big[..]));
    assert_eq!(stored(&at[2]).key.as_deref(), Some(&b"key"[..]));
    assert_eq!((stored(&at[3]).key, stored(&at[3]).value), (None, None));
    close(&producer);
}

#[test]
fn a_stash_takes_many_big_records() {
    let (cluster, producer, topic) = held(1, 4);
    // 14 MiB, which is most of a quarter of 64 MiB.
    let big = |n: u8| vec![n; 900 * 1_024];
    let deliveries: Vec<_> = (0..16_u8).map(|n| topic.send((), big(n)).unwrap()).collect();
    cluster.resume_broker(1);
    for (n, delivery) in deliveries.into_iter().enumerate() {
        let at = acked(delivery);
        let record = &cluster.records("t", at.partition())[at.offset().unwrap() as usize];
        assert!(record.value.as_deref() == Some(&big(n as u8)[..]));
    }
    close(&producer);
}

#[test]
fn a_partition_out_of_range_fails_that_record_only() {
    let (cluster, producer, topic) = held(1, 2);
    let good = topic.send_record(to(1, "good")).unwrap();
    let bad = topic.send_record(to(2, "bad")).unwrap();
    let behind = topic.send_record(to(0, "behind")).unwrap();
    cluster.resume_broker(1);
    let error = failed(bad);
    let (partition, partitions, by_partitioner) = (2, 2, false);
    let cause = DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner };
    assert_eq!((error.cause(), error.certainty()), (&cause, Certainty::NotWritten));
    acked(good);
    acked(behind);
    close(&producer);
    assert_eq!(values(&cluster.records("t", 0)), ["behind"]);
}

#[test]
fn a_stash_is_flushed_and_closed_like_everything_else() {
    let (cluster, producer, topic) = held(1, 2);
    let mut deliveries: Vec<_> = (0..100_u8).map(|n| topic.send([n], "v").unwrap()).collect();
    let flush = producer.flush();
    let resumer = std::thread::scope(|scope| {
        let flusher = scope.spawn(|| flush.wait());
        cluster.resume_broker(1);
        flusher.join().unwrap()
    });
    resumer.unwrap();
    assert!(deliveries.iter_mut().all(|delivery| delivery.try_take().is_some()));

    let (cluster, producer, topic) = held(1, 2);
    let mut deliveries: Vec<_> = (0..100_u8).map(|n| topic.send([n], "v").unwrap()).collect();
    let closing = producer.close(LONG);
    assert!(topic.send("k", "too late").is_err());
    drop(topic);
    cluster.resume_broker(1);
    closing.wait().unwrap();
    assert!(deliveries.iter_mut().all(|delivery| delivery.try_take().unwrap().is_ok()));
    assert_eq!(cluster.stats().records(), 100);
}

#[test]
fn close_fails_what_is_left_in_a_stash() {
    let cluster = cluster(1, 2);
    cluster.pause_broker(1);
    let producer = patient(&cluster).configure(|c| c.topic_unknown_max = FAR).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..100_u8).map(|n| topic.send([n], "v").unwrap()).collect();
    let start = Instant::now();
    producer.close(millis(100)).wait().unwrap_err();
    assert!(start.elapsed() < LONG);
    for delivery in deliveries {
        let error = failed(delivery);
        assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }));
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn a_stash_does_not_take_the_whole_pool() {
    let cluster = cluster(1, 1);
    cluster.pause_broker(1);
    let producer = builder(&cluster).backoff(tidegate::RejectRecords).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let value = vec![0_u8; 10_000];
    let mut deliveries = Vec::new();
    let error = loop {
        match topic.send((), &value) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    assert!(error.is_retriable(), "{error}");
    let memory = producer.memory();
    let used = memory.capacity - memory.free;
    assert!(used <= memory.capacity / 4 + 65_536, "{used} bytes of {}", memory.capacity);
    assert!(deliveries.len() * 10_000 > memory.capacity / 8, "{} records", deliveries.len());
    cluster.resume_broker(1);
    let count = deliveries.len();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(cluster.records("t", 0).len(), count);
    acked(topic.send((), &value).unwrap());
}

#[test]
fn close_refuses_records_for_ready_topics_while_a_stash_waits() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let unknown = producer.topic("later").unwrap();
    let delivery = unknown.send("k", "accepted").unwrap();
    let closing = producer.close(LONG);
    assert!(topic.send((), "too late").is_err());
    assert!(unknown.send((), "too late").is_err());
    cluster.create_topic("later", 1);
    closing.wait().unwrap();
    acked(delivery);
    assert_eq!(values(&cluster.records("later", 0)), ["accepted"]);
}

#[test]
fn a_stash_that_finds_no_room_keeps_its_deadline() {
    in_time(stash_that_finds_no_room);
}

/// Returns whether the topic was known before its records expired.
fn stash_that_finds_no_room() -> bool {
    use tidegate::embedded::Fault;
    let cluster = cluster(1, 1);
    cluster.pause_broker(1);
    cluster.script(Fault::silence().times(1_000_000));
    let producer = builder(&cluster)
        .watermarks(50_000, 100_000)
        .request_timeout(millis(300))
        .delivery_timeout(millis(500))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let value = vec![0_u8; 10_000];
    let deliveries: Vec<_> = (0..300).map(|_| topic.send((), &value).unwrap()).collect();
    cluster.resume_broker(1);
    let mut known = true;
    for delivery in deliveries {
        let error = failed(delivery);
        match error.cause() {
            DeliveryErrorCause::TimedOut { .. } => {}
            DeliveryErrorCause::UnknownTopic { .. } => known = false,
            _ => panic!("{error}"),
        }
    }
    known
}

#[test]
fn a_broker_that_stalls_does_not_hold_up_a_new_topics_other_partitions() {
    let cluster =
        EmbeddedCluster::builder().brokers(2).topic("t", 2).topic("new", 2).start().unwrap();
    let producer = builder(&cluster)
        .watermarks(50_000, 100_000)
        .request_timeout(millis(300))
        .backoff(tidegate::RejectRecords)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    cluster.pause_broker(1);
    while topic.send_record(to(0, &"x".repeat(10_000))).is_ok() {}
    let new = producer.topic("new").unwrap();
    let first = new.send_record(to(0, "for the one that stalls")).unwrap();
    acked(new.send_record(to(1, "for the other")).unwrap());
    acked(new.send_record(to(1, "for the other")).unwrap());
    cluster.resume_broker(1);
    acked(first);
}
