//! Records go out as they were given, and their deliveries say where they are.

use bytes::Bytes;
use tidegate::embedded::{EmbeddedCluster, EmbeddedRecord};
use tidegate::{Acks, EventLoops, Payload, Producer, Record};

use super::*;

#[test]
fn metadata_names_topic_partition_offset_and_time() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let at = topic.send("key", "value").unwrap().wait().unwrap();
    assert_eq!(at.to_string(), "t-0@0");
    let at = topic.send("key", "value").unwrap().wait().unwrap();
    assert_eq!((at.topic(), at.partition(), at.offset()), ("t", 0, Some(1)));
    let record = &cluster.records("t", 0)[1];
    assert_eq!(at.timestamp(), record.timestamp);
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((wall.as_millis() as i64 - record.timestamp).abs() < 60_000);
    assert_eq!((topic.name(), topic.partitions()), ("t", 1));
    close(&producer);
    // It outlives producer, topic and cluster.
    drop((producer, topic, cluster));
    assert_eq!(at.to_string(), "t-0@1");
}

#[test]
fn deliveries_are_futures_for_any_runtime() {
    let cluster = cluster(2, 4);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let sum = block_on(async {
        let mut offsets = 0;
        for round in 0..20_u8 {
            let deliveries: Vec<_> =
                (0..10_u8).map(|n| topic.send([n], [round]).unwrap()).collect();
            for delivery in deliveries {
                offsets += delivery.await.unwrap().offset().unwrap();
            }
        }
        producer.flush().await.unwrap();
        producer.close(LONG).await.unwrap();
        offsets
    });
    let expected: i64 =
        (0..4).flat_map(|partition| cluster.records("t", partition)).map(|r| r.offset).sum();
    assert_eq!(sum, expected);
}

#[test]
fn many_tasks_await_records_of_one_batch() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).linger(secs(10)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..16_u8).map(|n| topic.send((), [n]).unwrap()).collect();
    let tasks: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| std::thread::spawn(move || block_on(delivery).unwrap().offset()))
        .collect();
    producer.flush().wait().unwrap();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.join().unwrap(), Some(n as i64));
    }
}

#[test]
fn a_wait_that_times_out_can_be_repeated() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    // The read that was under way may still take the first.
    let mut deliveries: Vec<_> = (0..3_u8).map(|n| topic.send((), [n]).unwrap()).collect();
    let last = deliveries.last_mut().unwrap();
    assert!(last.wait_timeout(millis(20)).is_none());
    assert!(last.wait_timeout(Duration::ZERO).is_none());
    assert!(last.try_take().is_none());
    cluster.resume_broker(1);
    assert_eq!(last.wait_timeout(LONG).unwrap().unwrap().offset(), Some(3));
    let first = &mut deliveries[0];
    assert_eq!(first.try_take().unwrap().unwrap().offset(), Some(1));
}

#[test]
fn c34_null_empty_and_full_are_three_things() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let choices: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"x")];
    let mut expected = Vec::new();
    for key in choices {
        for value in choices {
            drop(topic.send(key, value).unwrap());
            expected.push((key.map(Bytes::from_static), value.map(Bytes::from_static)));
        }
    }
    // All the types that a payload can come as.
    drop(topic.send((), Payload::Null).unwrap());
    drop(topic.send("text", String::from("owned")).unwrap());
    drop(topic.send(vec![1_u8], Bytes::from_static(b"shared")).unwrap());
    drop(topic.send([2_u8; 2], None::<&str>).unwrap());
    expected.push((None, None));
    expected.push((Some("text".into()), Some("owned".into())));
    expected.push((Some(vec![1].into()), Some("shared".into())));
    expected.push((Some(vec![2, 2].into()), None));
    producer.flush().wait().unwrap();
    let records = cluster.records("t", 0);
    let got: Vec<_> = records.into_iter().map(|r| (r.key, r.value)).collect();
    assert_eq!(got, expected);
}

#[test]
fn headers_timestamp_and_partition_arrive() {
    let cluster = cluster(1, 4);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let record = Record::new()
        .key("k")
        .value("v")
        .header("a", "1")
        .header("null", ())
        .header("", b"")
        .header("a", "2")
        .timestamp(1_234_567_890_123)
        .partition(3);
    let at = acked(topic.send_record(record).unwrap());
    assert_eq!((at.partition(), at.timestamp()), (3, 1_234_567_890_123));
    let stored = &cluster.records("t", 3)[0];
    let header =
        |name: &str, value: Option<&'static str>| (name.to_owned(), value.map(Bytes::from));
    let expected = [
        header("a", Some("1")),
        header("null", None),
        header("", Some("")),
        header("a", Some("2")),
    ];
    assert_eq!(stored.headers, expected);
    assert_eq!(stored.timestamp, 1_234_567_890_123);
    close(&producer);
}

#[test]
fn c36_timestamps_may_jump_as_they_like() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).linger(secs(10)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm_flush(&producer, &topic);
    let times = [0, i64::MAX, 5, i64::MAX - 1, 1_700_000_000_000, 0, 4, 3];
    let deliveries: Vec<_> = times
        .iter()
        .map(|&time| topic.send_record(Record::new().value("v").timestamp(time)).unwrap())
        .collect();
    producer.flush().wait().unwrap();
    for (delivery, time) in deliveries.into_iter().zip(times) {
        assert_eq!(acked(delivery).timestamp(), time);
    }
    let stored: Vec<i64> = cluster.records("t", 0)[1..].iter().map(|r| r.timestamp).collect();
    assert_eq!(stored, times);
}

fn warm_flush(producer: &Producer, topic: &tidegate::Topic) {
    let delivery = topic.send((), "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(delivery);
}

#[test]
fn c36_the_brokers_time_wins_where_the_topic_says_so() {
    let cluster =
        EmbeddedCluster::builder().topic_with_log_append_time("logged", 1).start().unwrap();
    let producer = producer(&cluster);
    let topic = producer.topic("logged").unwrap();
    let at = acked(topic.send_record(Record::new().value("v").timestamp(5)).unwrap());
    assert_ne!(at.timestamp(), 5);
    assert_eq!(at.timestamp(), cluster.records("logged", 0)[0].timestamp);
}

#[test]
fn many_topics_on_one_producer() {
    // Requests name topics by their ids from version 13 on.
    for produce_max in [13, 12, 3] {
        many_topics(produce_max);
    }
}

fn many_topics(produce_max: i16) {
    let mut cluster = EmbeddedCluster::builder().brokers(2);
    for n in 0..20 {
        cluster = cluster.topic(&format!("t{n}"), 1 + n % 3);
    }
    let cluster = cluster.start().unwrap();
    cluster.limit_api(0, 3, produce_max);
    let producer = producer(&cluster);
    let topics: Vec<_> = (0..20).map(|n| producer.topic(&format!("t{n}")).unwrap()).collect();
    let mut deliveries = Vec::new();
    for round in 0..50 {
        for topic in &topics {
            let value = format!("{}/{round}", topic.name());
            deliveries.push((topic.name(), topic.clone().send(&value, &value).unwrap()));
        }
    }
    for (name, delivery) in deliveries {
        assert_eq!(acked(delivery).topic(), name);
    }
    close(&producer);
    for topic in &topics {
        let partitions = 0..topic.partitions();
        let records: Vec<_> = partitions.flat_map(|p| cluster.records(topic.name(), p)).collect();
        assert_eq!(records.len(), 50);
        let prefix = format!("{}/", topic.name());
        assert!(values(&records).iter().all(|value| value.starts_with(&prefix)));
    }
}

#[test]
fn two_handles_to_a_topic_share_its_partitions() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let (first, second) = (producer.topic("t").unwrap(), producer.clone().topic("t").unwrap());
    for n in 0..100 {
        let topic = if n % 2 == 0 { &first } else { &second };
        drop(topic.send((), n.to_string()).unwrap());
    }
    close(&producer);
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(values(&cluster.records("t", 0)), expected);
}

#[test]
fn each_threads_records_keep_their_order_in_each_partition() {
    const THREADS: u32 = 4;
    const RECORDS: u32 = 8_000;
    let cluster = cluster(3, 6);
    let producer = builder(&cluster).batch_size(4_096).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let send = |thread: u32| {
        let topic = topic.clone();
        move || {
            let send = |n: u32| {
                let value = format!("{thread} {n}");
                let partition = (n.wrapping_mul(2_654_435_761) >> 8) as i32;
                (n, topic.send_record(to(partition % 6, &value)).unwrap())
            };
            let sent: Vec<_> = (0..RECORDS).map(send).collect();
            sent.into_iter().map(|(n, delivery)| (n, acked(delivery))).collect::<Vec<_>>()
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| std::thread::spawn(send(thread))).collect();
    let sent: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    close(&producer);
    let stored: Vec<Vec<String>> = (0..6).map(|p| values(&cluster.records("t", p))).collect();
    assert_eq!(stored.iter().map(Vec::len).sum::<usize>(), (THREADS * RECORDS) as usize);
    for (thread, sent) in sent.iter().enumerate() {
        let mut next = [0; 6];
        for (n, at) in sent {
            let (partition, offset) = (at.partition() as usize, at.offset().unwrap());
            assert_eq!(stored[partition][offset as usize], format!("{thread} {n}"));
            assert!(offset >= next[partition], "order within a thread and a partition");
            next[partition] = offset + 1;
        }
    }
}

#[test]
fn acks_of_none_resolve_without_an_offset() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).acks(Acks::None).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..1_000_u32)
        .map(|n| topic.send_record(to(0, "v").timestamp(i64::from(n))).unwrap())
        .collect();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        let at = acked(delivery);
        assert_eq!((at.offset(), at.timestamp()), (None, n as i64));
        assert_eq!(at.to_string(), "t-0@?");
    }
    close(&producer);
    assert!(cluster.wait_until(LONG, |stats| stats.records() == 1_000));
}

#[test]
fn acks_of_the_leader_are_sent_without_identity() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).acks(Acks::Leader).build().unwrap();
    let topic = producer.topic("t").unwrap();
    assert_eq!(acked(topic.send((), "v").unwrap()).offset(), Some(0));
    let record = &cluster.records("t", 0)[0];
    assert_eq!((record.producer_id, record.producer_epoch, record.sequence), (-1, -1, -1));
    assert_eq!(cluster.stats().requests_of(22), 0, "no producer id was asked for");
}

#[test]
fn idempotence_is_on_by_default_and_can_be_turned_off() {
    let cluster = cluster(2, 2);
    let producer = builder(&cluster).batch_size(500).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for n in 0..200 {
        drop(topic.send_record(to(n % 2, "some value")).unwrap());
    }
    close(&producer);
    let records: Vec<EmbeddedRecord> = (0..2).flat_map(|p| cluster.records("t", p)).collect();
    let id = records[0].producer_id;
    assert!(id >= 0);
    for record in &records {
        assert_eq!((record.producer_id, record.producer_epoch), (id, 0));
        assert_eq!(i64::from(record.sequence), record.offset, "sequences count from 0 in a lane");
    }
    let plain = builder(&cluster).enable_idempotence(false).build().unwrap();
    acked(plain.topic("t").unwrap().send_record(to(0, "plain")).unwrap());
    let record = cluster.records("t", 0).pop().unwrap();
    assert_eq!((record.producer_id, record.sequence), (-1, -1));
}

#[test]
fn two_producers_have_two_identities() {
    let cluster = cluster(1, 1);
    let loops = EventLoops::shared(1).unpinned();
    let build = || builder(&cluster).event_loops(loops.clone()).build().unwrap();
    let (first, second) = (build(), build());
    let topics = [first.topic("t").unwrap(), second.topic("t").unwrap()];
    let mut deliveries = Vec::new();
    for n in 0..2_000 {
        deliveries.push(topics[n % 2].send((), "v").unwrap());
    }
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    // The loops go on for the second when the first is closed.
    close(&first);
    acked(topics[1].send((), "after").unwrap());
    close(&second);
    let mut ids: Vec<i64> = cluster.records("t", 0).iter().map(|r| r.producer_id).collect();
    assert_eq!(ids.len(), 2_001);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2);
    // And the value can be used again afterwards.
    let third = build();
    acked(third.topic("t").unwrap().send((), "third").unwrap());
}

#[test]
fn without_linger_a_lone_record_leaves_at_once() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let start = Instant::now();
            acked(topic.send((), "v").unwrap());
            start.elapsed()
        })
        .collect();
    times.sort();
    // It takes a fraction of a millisecond; anything that waits for a timer takes seconds at least.
    assert!(times[25] < millis(500), "a median round trip of {:?}", times[25]);
}

#[test]
fn linger_waits_for_more_and_flush_does_not() {
    let cluster = cluster(1, 2);
    let producer = lingering(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm_flush(&producer, &topic);
    let before = cluster.stats().batches();
    let start = Instant::now();
    let mut deliveries: Vec<_> =
        (0..100).map(|n| topic.send_record(to(n % 2, "v")).unwrap()).collect();
    assert!(deliveries[0].wait_timeout(millis(100)).is_none(), "it lingers");
    assert_eq!(cluster.stats().batches(), before);
    producer.flush().wait().unwrap();
    assert!(deliveries.iter_mut().all(|delivery| delivery.try_take().is_some()));
    assert!(start.elapsed() < LONG, "flush does not wait for linger");
    assert_eq!(cluster.stats().batches(), before + 2);
}

#[test]
fn linger_ends_by_itself() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).linger(millis(300)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "warm").unwrap());
    in_time(|| {
        let before = cluster.stats().batches();
        let start = Instant::now();
        let deliveries: Vec<_> = (0..10).map(|_| topic.send((), "v").unwrap()).collect();
        let sent_after = start.elapsed();
        deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
        assert!(start.elapsed() >= millis(300));
        if sent_after >= millis(300) {
            return false;
        }
        assert_eq!(cluster.stats().batches(), before + 1);
        true
    });
}

#[test]
fn full_batches_do_not_linger() {
    let cluster = cluster(1, 1);
    let producer = lingering(&cluster).batch_size(10_000).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm_flush(&producer, &topic);
    let value = vec![7_u8; 1_000];
    let mut deliveries: Vec<_> = (0..95).map(|_| topic.send((), &value).unwrap()).collect();
    // Nine records fill a batch; the last of the 95 are in an open one.
    for delivery in deliveries.drain(..81) {
        acked(delivery);
    }
    assert!(deliveries.last_mut().unwrap().try_take().is_none());
    let batches = cluster.stats().batches() - 1;
    assert!((9..=11).contains(&batches), "{batches} batches");
    // Nor does close wait for linger.
    close(&producer);
}

#[test]
fn records_over_the_batch_size_go_alone() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).batch_size(0).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..50).map(|_| topic.send((), "v").unwrap()).collect();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    assert_eq!(cluster.stats().batches(), 50);
}

#[test]
fn sizes_around_segments_and_batches_read_back() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let mut sizes = vec![0_usize, 1];
    for edge in [4_096, 8_192, 16_384, 65_536, 131_072, 262_144] {
        sizes.extend((edge - 80)..(edge - 60));
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    let fill =
        |n: usize, size: usize| -> Vec<u8> { (0..size).map(|i| (i * 31 + n) as u8).collect() };
    for (n, &size) in sizes.iter().enumerate() {
        drop(topic.send((), fill(n, size)).unwrap());
    }
    close(&producer);
    let records = cluster.records("t", 0);
    assert_eq!(records.len(), sizes.len());
    for (n, (record, &size)) in records.iter().zip(&sizes).enumerate() {
        assert!(record.value.as_deref() == Some(&fill(n, size)[..]), "record {n} of {size} bytes");
    }
}
