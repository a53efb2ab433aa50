//! Brokers from Kafka 0.8.2 to 4.3: the same program works with all of them.

use tidegate::embedded::{EmbeddedClusterBuilder, Fault, KafkaVersion};
use tidegate::{Acks, BrokerVersion, Certainty, Compression, DeliveryErrorCause, ProblemKind};

use super::*;

const PRODUCE: i16 = 0;
const BASE: i64 = 1_700_000_000_000;

const ALL: [KafkaVersion; 10] = [
    KafkaVersion::V0_8_2,
    KafkaVersion::V0_9,
    KafkaVersion::V0_10_0,
    KafkaVersion::V0_10_2,
    KafkaVersion::V0_11,
    KafkaVersion::V1_1,
    KafkaVersion::V2_0,
    KafkaVersion::V2_7,
    KafkaVersion::V3_9,
    KafkaVersion::V4_3,
];

fn of(version: KafkaVersion, brokers: usize) -> EmbeddedClusterBuilder {
    EmbeddedCluster::builder().brokers(brokers).topic("t", 3).kafka_version(version)
}

/// Which release a broker is taken for that does not tell.
fn fallback_of(version: KafkaVersion) -> Option<BrokerVersion> {
    match version {
        KafkaVersion::V0_8_2 => Some(BrokerVersion::V0_8),
        KafkaVersion::V0_9 => Some(BrokerVersion::V0_9),
        _ => None,
    }
}

/// A producer for a cluster that is all of this version, which loses no time over ApiVersions.
fn for_all(cluster: &EmbeddedCluster, version: KafkaVersion) -> ProducerBuilder {
    builder(cluster).configure(|config| {
        config.broker_version_fallback = fallback_of(version);
        config.api_version_request = fallback_of(version).is_none();
    })
}

fn has_timestamps(version: KafkaVersion) -> bool {
    fallback_of(version).is_none()
}

fn has_zstd(version: KafkaVersion) -> bool {
    matches!(version, KafkaVersion::V2_7 | KafkaVersion::V3_9 | KafkaVersion::V4_3)
}

fn codecs(version: KafkaVersion) -> Vec<Compression> {
    let mut codecs =
        vec![Compression::None, Compression::gzip(), Compression::snappy(), Compression::lz4()];
    codecs.extend(has_zstd(version).then(Compression::zstd));
    codecs
}

type Sent = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

/// Keys and values of every shape, a large one among them.
fn shape(n: usize) -> Sent {
    let text = format!("record {n} of many that look alike").into_bytes();
    let key = [None, Some(Vec::new()), Some(text.clone())][n % 3].clone();
    let value = match n % 5 {
        0 => None,
        1 => Some(Vec::new()),
        2 if n % 500 == 2 => Some(vec![n as u8; 100_000]),
        _ => Some(text.repeat(n % 7 + 1)),
    };
    (key, value, BASE + n as i64 * 7 - 3_000)
}

#[test]
fn records_of_every_shape_and_codec_reach_brokers_of_every_age() {
    for version in ALL {
        for codec in codecs(version) {
            let cluster = of(version, 2).start().unwrap();
            let producer = for_all(&cluster, version).compression(codec).build().unwrap();
            let topic = producer.topic("t").unwrap();
            let mut sent: [Vec<Sent>; 3] = Default::default();
            let mut deliveries = Vec::new();
            for n in 0..1_500 {
                let partition = n % 3;
                let (key, value, timestamp) = shape(n / 3);
                let mut record = Record::new().partition(partition as i32).timestamp(timestamp);
                if let Some(key) = &key {
                    record = record.key(key.as_slice());
                }
                if let Some(value) = &value {
                    record = record.value(value.as_slice());
                }
                deliveries.push(topic.send_record(record).unwrap());
                sent[partition].push((key, value, timestamp));
            }
            for (n, delivery) in deliveries.into_iter().enumerate() {
                let metadata = acked(delivery);
                assert_eq!(metadata.offset(), Some(n as i64 / 3), "{version}, {codec:?}");
            }
            for (partition, sent) in sent.into_iter().enumerate() {
                let stored = cluster.records("t", partition as i32);
                let stored = stored.into_iter().map(|it| {
                    let bytes = |it: Option<bytes::Bytes>| it.map(|it| it.to_vec());
                    (bytes(it.key), bytes(it.value), it.timestamp)
                });
                let expected = sent.into_iter().map(|(key, value, timestamp)| {
                    (key, value, if has_timestamps(version) { timestamp } else { -1 })
                });
                assert!(stored.eq(expected), "{version}, {codec:?}, partition {partition}");
            }
            close(&producer);
        }
    }
}

#[test]
fn acks_0_and_1_work_with_message_sets() {
    for version in [KafkaVersion::V0_8_2, KafkaVersion::V0_10_2] {
        for acks in [Acks::None, Acks::Leader] {
            let cluster = of(version, 1).start().unwrap();
            let producer = for_all(&cluster, version).acks(acks).build().unwrap();
            let topic = producer.topic("t").unwrap();
            let sent: Vec<_> =
                (0..1_000).map(|n| topic.send_record(to(0, &n.to_string())).unwrap()).collect();
            sent.into_iter().for_each(|delivery| drop(acked(delivery)));
            close(&producer);
            eventually("all are stored", || cluster.records("t", 0).len() == 1_000);
            let expected: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
            assert_eq!(values(&cluster.records("t", 0)), expected);
        }
    }
}

#[test]
fn c66_only_records_with_headers_fail_at_an_old_broker() {
    for compression in [Compression::None, Compression::gzip()] {
        let cluster = of(KafkaVersion::V0_10_2, 1).start().unwrap();
        let producer = lingering(&cluster).compression(compression).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let has_header = |n: usize| n % 4 == 1 || n > 90;
        let sent: Vec<_> = (0..100)
            .map(|n| {
                let text = n.to_string();
                let record = to(0, &text);
                topic.send_record(if has_header(n) { record.header("h", "x") } else { record })
            })
            .map(Result::unwrap)
            .collect();
        producer.flush().wait().unwrap();
        for (n, delivery) in sent.into_iter().enumerate() {
            match outcome(delivery) {
                Ok(_) => assert!(!has_header(n), "{n}"),
                Err(error) => {
                    assert!(has_header(n), "{n}: {error}");
                    assert!(matches!(error.cause(), DeliveryErrorCause::BrokerTooOld(_)));
                    assert!(error.to_string().contains("headers (Kafka 0.11"), "{error}");
                    assert_eq!(error.certainty(), Certainty::NotWritten);
                }
            }
        }
        let kept: Vec<_> = (0..100).filter(|n| !has_header(*n)).map(|n| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", 0)), kept);
        // Batches that fail as a whole do not hold up what is behind them.
        let headed: Vec<_> = (0..50)
            .map(|_| {
                let delivery = topic.send_record(to(1, "x").header("h", "x")).unwrap();
                drop(producer.flush());
                delivery
            })
            .collect();
        let behind = topic.send_record(to(1, "behind")).unwrap();
        producer.flush().wait().unwrap();
        headed.into_iter().for_each(|delivery| drop(failed(delivery)));
        acked(behind);
        close(&producer);
    }
}

#[test]
fn c66_idempotence_that_was_asked_for_is_an_error_at_an_old_broker() {
    let cluster = of(KafkaVersion::V0_10_2, 2).start().unwrap();
    let producer = builder(&cluster).enable_idempotence(true).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for n in 0..20 {
        let error = failed(topic.send_record(to(n % 3, "x")).unwrap());
        assert!(matches!(error.cause(), DeliveryErrorCause::BrokerTooOld(_)), "{error}");
        assert!(error.to_string().contains("idempoten"), "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert_eq!(cluster.stats().requests_of(PRODUCE), 0);
}

#[test]
fn c64_a_broker_that_does_not_tell_its_versions_is_used_only_where_it_is_said_what_it_is() {
    let cluster = of(KafkaVersion::V0_8_2, 1).start().unwrap();
    let unsaid = builder(&cluster).delivery_timeout(secs(3)).request_timeout(secs(2));
    let unsaid = unsaid.build().unwrap();
    let error = failed(unsaid.topic("t").unwrap().send((), "x").unwrap());
    assert!(error.to_string().contains("broker.version.fallback"), "{error}");
    assert_eq!(cluster.stats().requests_of(PRODUCE), 0);
    let said = builder(&cluster).broker_version_fallback(BrokerVersion::V0_8).build().unwrap();
    acked(said.topic("t").unwrap().send((), "x").unwrap());
    close(&said);
}

#[test]
fn c64_silence_over_api_versions_ends_with_the_connection_setup_timeout() {
    let cluster = of(KafkaVersion::V0_9, 2).start().unwrap();
    let producer = builder(&cluster)
        .broker_version_fallback(BrokerVersion::V0_9)
        .configure(|config| config.connection_setup_timeout = millis(200))
        .build()
        .unwrap();
    warm(&producer.topic("t").unwrap(), 3);
    close(&producer);
}

#[test]
fn c64_a_broker_that_tells_its_versions_is_taken_at_its_word_whatever_the_fallback() {
    let cluster = of(KafkaVersion::V4_3, 2).start().unwrap();
    let producer = builder(&cluster).broker_version_fallback(BrokerVersion::V0_8).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    // A restart does not make it an old one.
    for id in [1, 2] {
        cluster.stop_broker(id);
        cluster.restart_broker(id).unwrap();
    }
    warm(&topic, 3);
    close(&producer);
    let records: Vec<_> = (0..3).flat_map(|partition| cluster.records("t", partition)).collect();
    assert!(records.iter().all(|record| record.producer_id >= 0), "they are idempotent");
}

#[test]
fn c64_a_broker_that_was_taken_for_an_old_one_wrongly_is_asked_again() {
    // It closes the first connections: as 0.8 does, asked for its versions. After two it is asked
    // about metadata as if it were one, which it answers; after three it has not answered that.
    for closed in [2, 3] {
        let cluster = of(KafkaVersion::V4_3, 1).start().unwrap();
        cluster.script(Fault::close_on_accept(closed));
        let producer =
            builder(&cluster).broker_version_fallback(BrokerVersion::V0_8).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 3);
        let mut sent = 0;
        eventually("it is idempotent", || {
            sent += 1;
            acked(topic.send_record(to(0, "x")).unwrap());
            cluster.records("t", 0).last().is_some_and(|record| record.producer_id >= 0)
        });
        assert!(sent < 1_000, "soon: {sent} records were not");
        close(&producer);
    }
}

#[test]
fn settings_for_old_brokers_that_cannot_work_are_refused() {
    let error = Producer::builder("localhost:9").api_version_request(false).build();
    assert!(error.unwrap_err().to_string().contains("needs broker_version_fallback"));
    let login = tidegate::Plain::new("alice", "alice-secret");
    let old = Producer::builder("localhost:9").broker_version_fallback(BrokerVersion::V0_9);
    let error = old.sasl(login).build().unwrap_err().to_string();
    assert!(error.contains("and sasl exclude") && error.contains("0.9"), "{error}");
}

#[test]
fn a_set_longer_than_a_request_may_be_is_split() {
    for version in [KafkaVersion::V0_9, KafkaVersion::V0_10_2] {
        let cluster = of(version, 1).start().unwrap();
        // 4,000 records of some bytes: 40 KB in a batch, 140 KB in a set.
        let producer = for_all(&cluster, version)
            .linger(FAR)
            .delivery_timeout(2 * FAR)
            .configure(|config| config.max_request_size = 60_000)
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        let sent: Vec<_> =
            (0..4_000).map(|n| topic.send_record(to(0, &n.to_string())).unwrap()).collect();
        producer.flush().wait().unwrap();
        sent.into_iter().for_each(|delivery| drop(acked(delivery)));
        let expected: Vec<_> = (0..4_000).map(|n| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", 0)), expected);
        let stats = cluster.stats();
        assert!(stats.requests_of(PRODUCE) >= 3, "{}", stats.requests_of(PRODUCE));
        close(&producer);
    }
}

#[test]
fn a_lost_acknowledgement_may_double_records_at_an_old_broker_and_never_reorders_them() {
    let cluster = of(KafkaVersion::V0_10_2, 1).start().unwrap();
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::close_after_append().times(3));
    let sent: Vec<_> =
        (0..5_000).map(|n| topic.send_record(to(0, &n.to_string())).unwrap()).collect();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    let mut numbers: Vec<usize> =
        values(&cluster.records("t", 0))[1..].iter().map(|it| it.parse().unwrap()).collect();
    assert!(numbers.len() > 5_000, "the test doubles some");
    // Each time a batch was written again, the log goes back to its first record.
    let mut next = 0;
    for &n in &numbers {
        assert!(n <= next, "{n} came before {next}");
        next = n + 1;
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 5_000);
}

/// Every value from 0 to `count` is there, none before an earlier one was.
fn assert_whole(cluster: &EmbeddedCluster, partition: i32, count: usize) {
    let (mut next, mut seen) = (0, vec![false; count]);
    for value in values(&cluster.records("t", partition)) {
        let n: usize = value.parse().unwrap();
        assert!(n <= next, "{n} came before {next}");
        next = n + 1;
        seen[n] = true;
    }
    assert!(seen.iter().all(|&seen| seen), "records are missing");
}

#[test]
fn c66_a_broker_that_lacks_the_codec_gets_the_next_one_of_the_list() {
    let cluster = of(KafkaVersion::V2_0, 2).start().unwrap();
    cluster.set_kafka_version(2, KafkaVersion::V2_7).unwrap();
    let producer = lingering(&cluster)
        .compression(Compression::zstd())
        .compression_fallback([Compression::lz4()])
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let text = "compressible ".repeat(10);
    let send = || {
        let send = |n| topic.send_record(to(n % 3, &text)).unwrap();
        let sent: Vec<_> = (0..300).map(send).collect();
        producer.flush().wait().unwrap();
        sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    };
    send();
    // Batches of zstd go to the broker without it, and the other way round.
    for partition in 0..3 {
        cluster.move_leader("t", partition, 3 - cluster.leader("t", partition).unwrap());
    }
    send();
    close(&producer);
    for partition in 0..3 {
        assert_eq!(values(&cluster.records("t", partition)), vec![text.clone(); 200]);
    }
}

#[test]
fn brokers_are_upgraded_one_after_the_other_while_records_flow() {
    let lz4 = Compression::lz4();
    for (compression, fallback) in
        [(Compression::None, lz4), (lz4, lz4), (Compression::zstd(), lz4)]
    {
        let cluster = of(KafkaVersion::V0_10_2, 2).start().unwrap();
        let producer = builder(&cluster)
            .compression(compression)
            .compression_fallback([fallback])
            .configure(|config| config.retry_backoff_max = millis(100))
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        let (mut sent, mut count) = (Vec::new(), 0);
        let mut send = |count: &mut usize| {
            for _ in 0..200 {
                for partition in 0..3 {
                    let text = count.to_string();
                    sent.push(topic.send_record(to(partition, &text)).unwrap());
                }
                *count += 1;
            }
        };
        send(&mut count);
        for version in [KafkaVersion::V1_1, KafkaVersion::V4_3] {
            for id in cluster.broker_ids() {
                send(&mut count);
                cluster.set_kafka_version(id, version).unwrap();
                send(&mut count);
                // Partitions go back and forth between brokers of two ages.
                for partition in 0..3 {
                    let leader = cluster.leader("t", partition).unwrap();
                    cluster.move_leader("t", partition, 3 - leader);
                    send(&mut count);
                }
            }
        }
        for delivery in sent {
            acked(delivery);
        }
        close(&producer);
        for partition in 0..3 {
            assert_whole(&cluster, partition, count);
        }
    }
}

#[test]
fn a_producer_of_a_cluster_without_ids_is_idempotent_once_one_is_given() {
    // As some hosted services, which speak today's protocol without producer ids.
    const INIT_PRODUCER_ID: i16 = 22;
    let cluster = cluster(2, 2);
    cluster.limit_api(INIT_PRODUCER_ID, 1, 0);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    assert!(cluster.records("t", 0).iter().all(|record| record.producer_id == -1));
    let required = builder(&cluster).enable_idempotence(true).build().unwrap();
    let error = failed(required.topic("t").unwrap().send((), "x").unwrap());
    assert_eq!(error.problem().map(|problem| problem.kind()), Some(ProblemKind::BrokerTooOld));
    close(&producer);
}

/// A broker that was taken for an old one is connected once, however little it answers.
#[test]
fn an_old_broker_that_answers_late_or_never_keeps_its_connection() {
    for acks in [Acks::None, Acks::All] {
        let cluster = of(KafkaVersion::V0_9, 1).start().unwrap();
        let setup = millis(200);
        let producer = for_all(&cluster, KafkaVersion::V0_9)
            .acks(acks)
            .configure(|config| config.connection_setup_timeout = setup)
            .configure(|config| config.connection_setup_timeout_max = setup)
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        cluster.script(Fault::delay(4 * setup).api(PRODUCE));
        let (start, mut sent) = (Instant::now(), Vec::new());
        while start.elapsed() < 5 * setup {
            sent.push(topic.send_record(to(0, "x")).unwrap());
            std::thread::sleep(millis(10));
        }
        let count = sent.len();
        sent.into_iter().for_each(|delivery| drop(acked(delivery)));
        close(&producer);
        eventually("all are stored", || cluster.records("t", 0).len() >= count);
        assert_eq!(cluster.records("t", 0).len(), count, "{acks:?}: doubled");
        assert_eq!(cluster.stats().broker(1).connections_accepted, 2, "{acks:?}");
    }
}

#[test]
fn a_cluster_of_0_8_and_0_9_works_with_either_as_the_fallback() {
    for fallback in [BrokerVersion::V0_8, BrokerVersion::V0_9] {
        let cluster = of(KafkaVersion::V0_8_2, 2).start().unwrap();
        cluster.set_kafka_version(2, KafkaVersion::V0_9).unwrap();
        let producer = builder(&cluster)
            .broker_version_fallback(fallback)
            .configure(|config| config.connection_setup_timeout = millis(200))
            .build()
            .unwrap();
        warm(&producer.topic("t").unwrap(), 3);
        close(&producer);
        let stored: usize = (0..3).map(|partition| cluster.records("t", partition).len()).sum();
        assert_eq!(stored, 3, "none doubled");
    }
}

#[test]
fn c66_an_unreachable_broker_holds_up_no_other_one_that_is_old() {
    let cluster = of(KafkaVersion::V0_10_2, 3).start().unwrap();
    cluster.pause_broker(3);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for partition in 0..3 {
        let leader = cluster.leader("t", partition).unwrap();
        if leader != 3 {
            acked(topic.send_record(to(partition, "x")).unwrap());
        }
    }
    cluster.resume_broker(3);
    warm(&topic, 3);
    close(&producer);
}

#[test]
fn a_mixed_cluster_numbers_what_goes_to_its_newer_brokers() {
    let cluster = of(KafkaVersion::V0_10_2, 2).start().unwrap();
    cluster.set_kafka_version(2, KafkaVersion::V2_7).unwrap();
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    eventually("there is a producer id", || {
        (0..3).for_each(|partition| drop(acked(topic.send_record(to(partition, "x")).unwrap())));
        (0..3).any(|partition| {
            cluster.records("t", partition).last().is_some_and(|record| record.producer_id >= 0)
        })
    });
    for partition in 0..3 {
        acked(topic.send_record(to(partition, "last")).unwrap());
        let is_new = cluster.leader("t", partition) == Some(2);
        let last = cluster.records("t", partition).pop().unwrap();
        assert_eq!(last.producer_id >= 0, is_new, "partition {partition}");
    }
    close(&producer);
}

#[test]
fn a_topic_of_an_old_message_format_gets_batches_without_numbers() {
    const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
    let cluster = cluster(1, 2);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    cluster.script(Fault::produce_error("t", 0, UNSUPPORTED_FOR_MESSAGE_FORMAT));
    for n in 0..100 {
        acked(topic.send_record(to(0, &n.to_string())).unwrap());
        acked(topic.send_record(to(1, &n.to_string())).unwrap());
    }
    let records = cluster.records("t", 0);
    assert!(records[1..].iter().all(|record| record.producer_id == -1), "as the topic wants it");
    assert_eq!(values(&records)[1..], (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(cluster.records("t", 1).iter().all(|record| record.producer_id >= 0), "only there");
    close(&producer);

    let required = builder(&cluster).enable_idempotence(true).build().unwrap();
    cluster.script(Fault::produce_error("t", 0, UNSUPPORTED_FOR_MESSAGE_FORMAT));
    failed(required.topic("t").unwrap().send_record(to(0, "x")).unwrap());
}
