//! What cannot be read, and how that is told.

use std::time::Duration;

use tidegate::embedded::{EmbeddedCluster, Fault, KafkaVersion};
use tidegate::{
    BrokerVersion, BuildError, ConsumeErrorCause, Consumer, ConsumerConfig, IsolationLevel,
    OffsetReset, ProblemKind, StartAt,
};

use super::{
    cluster, consumer, error, eventually, next, nothing_comes, numbered, producer, read, send,
};

#[test]
fn an_offset_that_is_not_there_is_an_error_of_its_partition_only() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..3));
    send(&producer, 1, numbered(0..3));
    let consumer = consumer(&cluster)
        .partitions("t", [0], StartAt::Offset(100))
        .partitions("t", [1], StartAt::Offset(3))
        .build()
        .unwrap();
    let error = error(&consumer);
    assert_eq!(*error.cause(), ConsumeErrorCause::OffsetOutOfRange { offset: 100 });
    let told = "t-0: offset 100 is not in the log: seek elsewhere, or set auto_offset_reset to \
                earliest or latest";
    assert_eq!(error.to_string(), told);
    send(&producer, 1, numbered(3..4));
    assert_eq!(read(&consumer, 1), [(1, 3, "3".to_owned())]);
    nothing_comes(&consumer);
    assert!(consumer.seek("t", 0, StartAt::Earliest));
    assert_eq!(read(&consumer, 3)[0].0, 0);
}

#[test]
fn an_offset_that_is_not_there_is_left_where_that_is_set() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..3));
    for (reset, first, count) in [(OffsetReset::Earliest, 0, 4), (OffsetReset::Latest, 4, 1)] {
        let consumer = consumer(&cluster)
            .topic("t", StartAt::Offset(100))
            .auto_offset_reset(reset)
            .build()
            .unwrap();
        let goes_on = || consumer.partitions().first().is_some_and(|it| it.position < Some(100));
        eventually("it knows where to go on", || goes_on() && consumer.lag().is_some());
        send(&producer, 0, numbered(9..10));
        assert_eq!(read(&consumer, count)[0].1, first, "{reset:?}");
    }
}

#[test]
fn a_topic_that_does_not_exist_is_told_and_found_once_it_does() {
    let cluster = EmbeddedCluster::builder().topic("there", 1).start().unwrap();
    let consumer = consumer(&cluster)
        .topic("misspelt", StartAt::Earliest)
        .topic("there", StartAt::Earliest)
        .client(|client| client.topic_unknown_max = Duration::from_millis(300))
        .build()
        .unwrap();
    let error = error(&consumer);
    assert_eq!((error.topic(), error.partition()), ("misspelt", None));
    let ConsumeErrorCause::Topic(Some(problem)) = error.cause() else { panic!("{error}") };
    assert!(matches!(problem.kind(), ProblemKind::Broker(_)), "{error}");
    assert!(error.to_string().starts_with("misspelt: the topic cannot be read"), "{error}");
    let producer = producer(&cluster);
    let topic = producer.topic("there").unwrap();
    topic.send("k", "v").unwrap().wait().unwrap();
    assert_eq!(next(&consumer).unwrap().topic(), "there");
    assert_eq!(cluster.stats().requests_of(19), 0, "nothing was created");
}

#[test]
fn a_topic_that_is_deleted_is_told_and_one_that_is_created_anew_begins_anew() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).topic("other", 1).start().unwrap();
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..3));
    let build = |reset| {
        let consumer = consumer(&cluster).topic("t", StartAt::Earliest).auto_offset_reset(reset);
        let consumer = consumer.client(|client| {
            client.topic_unknown_max = Duration::from_millis(500);
        });
        consumer.build().unwrap()
    };
    let (told, goes_on) = (build(OffsetReset::None), build(OffsetReset::Latest));
    read(&told, 3);
    read(&goes_on, 3);
    assert!(cluster.delete_topic("t") && cluster.create_topic("t", 1));
    send(&producer, 0, numbered(10..12));
    let error = super::error(&told);
    assert_eq!(*error.cause(), ConsumeErrorCause::Truncated { offset: 3, end: 0 }, "{error}");
    assert_eq!(read(&goes_on, 2)[0], (0, 0, "10".to_owned()));
    assert!(told.seek("t", 0, StartAt::Earliest));
    read(&told, 2);

    assert!(cluster.delete_topic("t"));
    for consumer in [told, goes_on] {
        let error = super::error(&consumer);
        assert!(matches!(error.cause(), ConsumeErrorCause::Topic(Some(_))), "{error}");
    }
}

#[test]
fn a_partition_that_does_not_exist_is_told() {
    let cluster = cluster(1, 2);
    let consumer = consumer(&cluster).partitions("t", [1, 5], StartAt::Earliest).build().unwrap();
    let error = error(&consumer);
    assert_eq!(
        error.to_string(),
        "t-5: it cannot be read: the topic has 2 partitions, and it is none of them"
    );
    send(&producer(&cluster), 1, numbered(0..1));
    read(&consumer, 1);
}

#[test]
fn what_may_not_be_read_is_told_in_the_brokers_words() {
    let cluster = cluster(1, 1);
    // TOPIC_AUTHORIZATION_FAILED
    cluster.script([Fault::fetch_error("t", 0, 29)]);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let error = error(&consumer);
    assert!(matches!(error.cause(), ConsumeErrorCause::Refused(_)), "{error}");
    assert!(error.to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
    nothing_comes(&consumer);
    send(&producer(&cluster), 0, numbered(0..1));
    assert!(consumer.seek("t", 0, StartAt::Earliest), "it is tried again");
    read(&consumer, 1);
}

#[test]
fn a_broker_that_is_too_old_is_named_as_such() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).kafka_version(KafkaVersion::V0_10_2);
    let cluster = cluster.start().unwrap();
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let error = error(&consumer);
    let ConsumeErrorCause::Refused(problem) = error.cause() else { panic!("{error}") };
    assert_eq!(problem.kind(), ProblemKind::BrokerTooOld);
    assert!(error.to_string().contains("speaks no version of Fetch"), "{error}");
}

/// It may be a newer one, with transactions, of which it would tell nothing.
#[test]
fn a_broker_that_is_only_taken_for_an_old_one_gives_no_committed_records() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).kafka_version(KafkaVersion::V0_9);
    let cluster = cluster.start().unwrap();
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Offset(0))
        .isolation_level(IsolationLevel::ReadCommitted)
        .client(|client| {
            client.broker_version_fallback = Some(BrokerVersion::V0_9);
            client.api_version_request = false;
        });
    let error = error(&consumer.build().unwrap());
    let ConsumeErrorCause::Refused(problem) = error.cause() else { panic!("{error}") };
    assert_eq!(problem.kind(), ProblemKind::BrokerTooOld);
    assert!(error.to_string().contains("read_committed needs a broker that says"), "{error}");
}

#[test]
fn every_age_from_0_11_on_is_read() {
    use KafkaVersion::*;
    for version in [V0_11, V1_1, V2_0, V2_7, V3_9, V4_3] {
        let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).kafka_version(version);
        let cluster = cluster.start().unwrap();
        let producer = producer(&cluster);
        for partition in [0, 1] {
            send(&producer, partition, numbered(0..10));
        }
        for isolation in [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted] {
            let consumer = consumer(&cluster).topic("t", StartAt::Earliest);
            let consumer = consumer.isolation_level(isolation).build().unwrap();
            read(&consumer, 20);
            assert!(consumer.seek("t", 1, StartAt::Latest), "Kafka {version}");
        }
    }
}

#[test]
fn a_batch_that_is_larger_than_what_is_taken_is_told() {
    let cluster = cluster(1, 1);
    let producer = super::compressing(&cluster, tidegate::Compression::lz4());
    send(&producer, 0, ["x".repeat(500_000), "after".to_owned()]);
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| {
            (config.max_partition_fetch_bytes, config.batch_max_bytes) = (100_000, 100_000);
        })
        .build()
        .unwrap();
    let error = error(&consumer);
    let ConsumeErrorCause::Unreadable { offset: 0, next: Some(_), .. } = error.cause() else {
        panic!("{error}")
    };
    assert!(error.to_string().contains("what is at offset 0 cannot be read"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |change: fn(&mut ConsumerConfig)| {
        let builder = Consumer::builder("localhost:9092").topic("t", StartAt::Earliest);
        builder.configure(change).build().expect_err("it is refused").to_string()
    };
    let text = refused(|config| config.queue_max_bytes = 0);
    assert!(text.starts_with("queue_max_bytes = 0 cannot be used: it must be between"), "{text}");
    let text = refused(|config| config.fetch_min_bytes = 0);
    assert!(text.starts_with("fetch_min_bytes = 0 cannot be used"), "{text}");
    let text = refused(|config| config.fetch_max_wait = Duration::ZERO);
    assert!(text.contains("it must be 1ms or more"), "{text}");
    let text = refused(|config| config.fetch_max_wait = Duration::from_secs(3_600));
    assert!(text.contains("below request_timeout"), "{text}");
    let text = refused(|config| config.client.bootstrap_servers.clear());
    assert!(text.contains("bootstrap"), "{text}");

    let none = Consumer::builder("localhost:9092").build().unwrap_err();
    assert!(matches!(none, BuildError::Conflict(_)), "{none}");
    let builder = || Consumer::builder("localhost:9092").topic("t", StartAt::Earliest);
    let twice = builder().partitions("t", [0], StartAt::Latest).build().unwrap_err();
    assert_eq!(twice.to_string(), "a partition of t is to be read twice by one consumer");
    builder().topic("a/b", StartAt::Latest).build().unwrap_err();
    builder().partitions("u", [-1], StartAt::Latest).build().unwrap_err();
    let before = builder().topic("u", StartAt::Offset(-1)).build().unwrap_err();
    assert_eq!(before.to_string(), "the start in u = -1 cannot be used: offsets begin with 0");
}
