//! The partitioners that are built in, by their names, and what one of the user's own is shown.

use super::*;
use tidegate::embedded::Fault;
use tidegate::{
    BuiltInPartitioners, DeliveryErrorCause, EveryTopic, PartitionRequest, ProducerConfig,
    SendErrorKind,
};

const PRODUCE: i16 = 0;
const KIB: usize = 1_024;

/// A producer of a properties file's.
fn configured(cluster: &EmbeddedCluster, properties: &str) -> Producer {
    let servers = cluster.bootstrap_servers();
    let text = format!("bootstrap.servers={servers}\ntidegate.pinning=false\n{properties}\n");
    Producer::from_config(ProducerConfig::from_properties_text(&text).unwrap()).unwrap()
}

/// The partitions of `count` records without key, one after the other was acknowledged.
fn spread(topic: &Topic, count: usize) -> Vec<i32> {
    (0..count).map(|_| acked(topic.send((), "v").unwrap()).partition()).collect()
}

fn changes(partitions: &[i32]) -> usize {
    partitions.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

/// The keys and hashes of librdkafka's test 0048-partitioner, and its 17 partitions.
#[test]
fn each_of_librdkafkas_names_places_keys_where_librdkafka_does() {
    let cluster = cluster(1, 17);
    let long = "this is another string with more length to it perhaps";
    let keys = ["23456", long, "hejsan"];
    let crc32 = [0xb1b4_51d7, 0xb015_0df7, 0xd077_037e_i64];
    let murmur2 = [0x058d_780f, 0x4f77_03da, 0x5ec1_9395];
    let fnv1a = [0x27e6_f469, 0x155e_3e5f, 0x17b1_e27a];
    let (murmur2_of_empty, fnv1a_of_empty) = (0x106e_08d9 % 17, 0x7ee3_623b % 17);
    for (name, hashes, of_empty, of_null) in [
        ("consistent", crc32, Some(0), Some(0)),
        ("consistent_random", crc32, None, None),
        ("murmur2", murmur2, Some(murmur2_of_empty), Some(murmur2_of_empty)),
        ("murmur2_random", murmur2, Some(murmur2_of_empty), None),
        ("fnv1a", fnv1a, Some(fnv1a_of_empty), Some(fnv1a_of_empty)),
        ("fnv1a_random", fnv1a, Some(fnv1a_of_empty), None),
    ] {
        let producer = configured(&cluster, &format!("partitioner={name}"));
        let topic = producer.topic("t").unwrap();
        // Once by whoever empties the stash, once by this thread.
        for _ in 0..2 {
            for (key, hash) in keys.iter().zip(hashes) {
                let at = acked(topic.send(*key, "v").unwrap());
                assert_eq!(i64::from(at.partition()), hash % 17, "{name}: {key}");
            }
        }
        let empty = acked(topic.send("", "v").unwrap()).partition();
        assert!(of_empty.is_none_or(|expected| empty == expected), "{name}: the empty key");
        // Without a key: all to one partition, or to each of them in time.
        match of_null {
            Some(expected) => assert_eq!(spread(&topic, 20), [expected; 20], "{name}"),
            None => eventually("records without key spread", || {
                std::thread::sleep(millis(10));
                acked(topic.send((), "v").unwrap()).partition() != empty
            }),
        }
        close(&producer);
    }
}

#[test]
fn round_robin_random_and_sticky_do_not_look_at_keys() {
    let cluster = cluster(1, 4);
    let places = |properties: &str| {
        let producer = configured(&cluster, properties);
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        let send = |n: u32| topic.send(n.to_string(), "v").unwrap();
        let sent: Vec<_> = (0..400).map(send).collect();
        let partitions: Vec<i32> = sent.into_iter().map(|it| acked(it).partition()).collect();
        close(&producer);
        partitions
    };
    let class = "partitioner.class=org.apache.kafka.clients.producer";
    let round_robin = places(&format!("{class}.RoundRobinPartitioner"));
    let in_turn = (0..400).map(|n| n % 4);
    assert!(round_robin.iter().copied().eq(in_turn), "{round_robin:?}");
    let random = places("partitioner=random");
    assert!((200..390).contains(&changes(&random)), "{random:?}");
    for sticky in ["partitioner.ignore.keys=true", "partitioner=sticky"] {
        let sticky = places(sticky);
        assert!(changes(&sticky) < 40, "{sticky:?}");
    }
}

#[test]
fn explicit_refuses_a_record_that_names_no_partition() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let producer = configured(&cluster, "partitioner=explicit");
    let topic = producer.topic("t").unwrap();
    // The topic is not known yet.
    let (named, not_named) = (topic.send_record(to(1, "a")).unwrap(), topic.send("k", "b"));
    cluster.create_topic("t", 2);
    assert_eq!(acked(named).partition(), 1);
    let error = failed(not_named.unwrap());
    assert_eq!(*error.cause(), DeliveryErrorCause::PartitionNotNamed);
    // And now it is.
    warm(&topic, 2);
    let error = topic.send("k", "c").unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::PartitionNotNamed);
    assert!(error.to_string().contains("set one with Record::partition"), "{error}");
    close(&producer);
    assert_eq!(values(&cluster.records("t", 1)), ["a", "warm"]);
}

/// By a header, which is there also for records that waited for their topic.
#[test]
fn a_partitioner_of_ones_own_sees_headers() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let by_header = |request: &PartitionRequest<'_>| {
        let to = request.headers.iter().find(|header| header.key == "to");
        let digit = to.and_then(|header| header.value).expect("each record has it");
        i32::from(digit[0] - b'0')
    };
    let producer = builder(&cluster).partitioner(EveryTopic::new(by_header)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let send = |to: &str| {
        let record = Record::new().key("k").header("other", "9").header("to", to).value("v");
        topic.send_record(record).unwrap()
    };
    let stashed: Vec<_> = ["2", "0", "1"].map(send).into_iter().collect();
    cluster.create_topic("t", 3);
    let places: Vec<i32> = stashed.into_iter().map(|it| acked(it).partition()).collect();
    assert_eq!(places, [2, 0, 1]);
    assert_eq!(["1", "2", "0"].map(send).map(|it| acked(it).partition()), [1, 2, 0]);
    close(&producer);
}

#[test]
fn rotating_on_time_stays_with_a_partition_and_takes_the_next() {
    let cluster = cluster(1, 3);
    let partitioners = BuiltInPartitioners::rotate_every(millis(100));
    let producer = builder(&cluster).partitioner(partitioners).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    let mut placed = Vec::new();
    let start = Instant::now();
    eventually("there were six turns", || {
        // With a timestamp of its own, a record does not tell the time.
        let record = Record::new().key("k").value("v").timestamp(1);
        placed.push(acked(topic.send_record(record).unwrap()).partition());
        changes(&placed) >= 5
    });
    assert!(start.elapsed() >= millis(400), "five turns of 100 ms, and a part of one");
    let rotates = |pair: &[i32]| pair[0] == pair[1] || pair[1] == (pair[0] + 1) % 3;
    // A machine that stands still for so long misses turns, but none is taken twice.
    assert!(placed.windows(2).all(rotates), "{placed:?}");
    close(&producer);
}

#[test]
fn rotating_on_refresh_changes_with_metadata_and_not_else() {
    let cluster = cluster(1, 3);
    for (max_age, rotates) in [("100", true), ("600000", false)] {
        let properties = format!("partitioner=rotate_on_refresh\nmetadata.max.age.ms={max_age}");
        let producer = configured(&cluster, &properties);
        let topic = producer.topic("t").unwrap();
        warm(&topic, 3);
        let mut placed = Vec::new();
        if rotates {
            eventually("there were four refreshes", || {
                placed.push(acked(topic.send("k", "v").unwrap()).partition());
                changes(&placed) >= 4
            });
        } else {
            let start = Instant::now();
            while start.elapsed() < millis(500) {
                placed.push(acked(topic.send("k", "v").unwrap()).partition());
            }
            assert_eq!(changes(&placed), 0);
        }
        close(&producer);
    }
}

/// How many of so many records went to the slow one of three brokers, and how often its level went
/// over the high watermark.
fn sent_to_the_slow_one(is_adaptive: bool) -> (usize, u64) {
    const RECORDS: usize = 12_000;
    let cluster = cluster(3, 12);
    let producer = patient(&cluster)
        .batch_size(16 * KIB)
        .buffer_memory(4 * KIB * KIB)
        .configure(|c| {
            c.max_request_size = 64 * KIB;
            c.request_bytes_max = Some(64 * KIB);
        })
        .partitioner_adaptive(is_adaptive)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 12);
    // It answers a request of 64 KiB in 40 ms: 1.6 MB/s.
    let slow = Fault::delay(millis(40)).broker(3).api(PRODUCE);
    cluster.script(slow.times(1_000_000));
    let value = vec![7; KIB];
    let mut deliveries = Vec::new();
    for n in 0..RECORDS {
        deliveries.push(topic.send((), &value).unwrap());
        // Some 30 MB/s: the others take that with ease.
        if n % 32 == 0 {
            std::thread::sleep(millis(1));
        }
    }
    let levels = producer.broker_levels();
    let level = levels.iter().find(|level| level.broker == 3).expect("it is known");
    // Nothing is lost.
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    let counts = (0..12).map(|partition| (partition, cluster.records("t", partition).len() - 1));
    let counts: Vec<_> = counts.collect();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<usize>(), RECORDS);
    let is_slow = |partition: i32| cluster.leader("t", partition) == Some(3);
    let slow = counts.iter().filter(|(partition, _)| is_slow(*partition));
    (slow.map(|(_, count)| count).sum(), level.times_unwritable)
}

#[test]
fn a_slow_broker_gets_less_and_loses_nothing() {
    let even = 4_000;
    in_time(|| {
        let (adaptive, times_full) = sent_to_the_slow_one(true);
        let (uniform, times_full_else) = sent_to_the_slow_one(false);
        // Otherwise it gets its third until it is over its high watermark.
        let gets_less = adaptive * 2 < even && adaptive * 10 < uniform * 9;
        gets_less && times_full == 0 && times_full_else > 0
    });
}

#[test]
fn a_broker_that_takes_no_ready_batch_is_passed_over_for_as_long() {
    let cluster = cluster(2, 4);
    for (timeout, is_passed_over) in [(millis(100), true), (millis(0), false)] {
        let producer = patient(&cluster).partitioner_availability_timeout(timeout).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 4);
        let of_second = |partition: &i32| cluster.leader("t", *partition) == Some(2);
        let stuck = (0..4).find(of_second).expect("it leads some");
        assert!(topic.is_available(stuck));
        cluster.pause_broker(2);
        // Two requests leave, and the third batch waits until one of them is answered.
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(topic.send_record(to(stuck, "waits")).unwrap());
            std::thread::sleep(millis(5));
        }
        if is_passed_over {
            eventually("the broker has stalled", || !topic.is_available(stuck));
            for partition in spread(&topic, 200) {
                assert_eq!(cluster.leader("t", partition), Some(1));
            }
        } else {
            std::thread::sleep(millis(300));
            assert!(topic.is_available(stuck), "without a timeout it is waited for");
        }
        cluster.resume_broker(2);
        waiting.into_iter().for_each(|delivery| drop(acked(delivery)));
        eventually("it takes batches again", || topic.is_available(stuck));
        eventually("it is sent to again", || {
            std::thread::sleep(millis(10));
            let at = acked(topic.send((), "v").unwrap());
            cluster.leader("t", at.partition()) == Some(2)
        });
        close(&producer);
    }
}
