//! Offsets that are asked for, and not read from.

use std::time::{Duration, SystemTime};

use tidegate::embedded::{EmbeddedCluster, Fault};
use tidegate::{ConsumeError, ConsumeErrorCause, Consumer, Record, StartAt};

use super::{
    LONG, SHORT, cluster, consumer, eventually, nothing_comes, numbered, producer, read, send,
};

fn find(consumer: &Consumer, partition: i32, at: StartAt) -> Result<Option<i64>, ConsumeError> {
    consumer.find_offset("t", partition, at, LONG).wait()
}

fn reading_the_end(cluster: &EmbeddedCluster) -> Consumer {
    consumer(cluster).topic("t", StartAt::Latest).build().unwrap()
}

/// Sends a record of each of these seconds since the epoch to partition 0.
fn send_at(cluster: &EmbeddedCluster, seconds: impl IntoIterator<Item = u64>) {
    let producer = producer(cluster);
    let topic = producer.topic("t").unwrap();
    for second in seconds {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let record = Record::new().value("v").timestamp(at).partition(0);
        topic.send_record(record).unwrap().wait().unwrap();
    }
}

#[test]
fn offsets_of_ends_and_times_are_found_while_something_else_is_read() {
    let cluster = cluster(2, 3);
    send_at(&cluster, [1_000, 2_000, 3_000]);
    let consumer = consumer(&cluster).partitions("t", [1], StartAt::Latest).build().unwrap();
    for (at, found) in [
        (StartAt::Earliest, Some(0)),
        (StartAt::Latest, Some(3)),
        (StartAt::Time(0), Some(0)),
        (StartAt::Time(1_000_001), Some(1)),
        (StartAt::Time(3_000_000), Some(2)),
        (StartAt::Time(3_000_001), None),
        (StartAt::Offset(44), Some(44)),
    ] {
        // Of a partition that is not read itself.
        assert_eq!(find(&consumer, 0, at), Ok(found), "{at:?}");
    }
    // One that is paused, and one that has failed.
    eventually("it is known", || consumer.partitions().len() == 1);
    assert!(consumer.pause("t", 1));
    assert_eq!(find(&consumer, 1, StartAt::Latest), Ok(Some(0)));
    assert!(consumer.resume("t", 1));
    nothing_comes(&consumer);
    send(&producer(&cluster), 1, numbered(0..2));
    assert_eq!(read(&consumer, 2)[0].1, 0, "it reads on as if nobody had asked");
}

#[test]
fn many_questions_at_once_get_their_own_answers() {
    let cluster = cluster(3, 8);
    let producer = producer(&cluster);
    for partition in 0..8 {
        send(&producer, partition, numbered(0..partition as u32));
    }
    let consumer = reading_the_end(&cluster);
    let ask = |n| {
        let at = if n % 2 == 0 { StartAt::Latest } else { StartAt::Earliest };
        consumer.find_offset("t", n / 2 % 8, at, LONG)
    };
    let asked: Vec<_> = (0..160).map(ask).collect();
    for (n, answer) in asked.into_iter().enumerate() {
        let found = if n % 2 == 0 { n as i64 / 2 % 8 } else { 0 };
        assert_eq!(answer.wait(), Ok(Some(found)), "{n}");
    }
}

#[test]
fn an_offset_is_found_whatever_brokers_do_meanwhile() {
    let cluster = cluster(3, 1);
    send(&producer(&cluster), 0, numbered(0..3));
    let consumer = reading_the_end(&cluster);
    assert_eq!(find(&consumer, 0, StartAt::Latest), Ok(Some(3)));
    for round in 0..3 {
        assert!(cluster.move_leader("t", 0, 1 + (round + 1) % 3));
        assert_eq!(find(&consumer, 0, StartAt::Latest), Ok(Some(3)));
    }
    let leader = cluster.leader("t", 0).unwrap();
    // Not the leader, a disk, no such topic yet; and connections that close instead.
    cluster.script([6, 56, 3].map(|code| Fault::fetch_error("t", 0, code)));
    cluster.script([Fault::close_before_response().api(2).times(2)]);
    assert_eq!(find(&consumer, 0, StartAt::Latest), Ok(Some(3)));
    eventually("all faults happened", || cluster.faults_left() == 0);
    cluster.kill_broker(leader);
    assert_eq!(find(&consumer, 0, StartAt::Earliest), Ok(Some(0)));
}

#[test]
fn an_offset_can_be_asked_for_before_a_broker_is_there() {
    let cluster = cluster(1, 1);
    cluster.stop_broker(1);
    let consumer = reading_the_end(&cluster);
    let asked = consumer.find_offset("t", 0, StartAt::Latest, LONG);
    let late = consumer.find_offset("t", 0, StartAt::Latest, SHORT).wait().unwrap_err();
    let ConsumeErrorCause::TimedOut { after, problem: Some(problem) } = late.cause() else {
        panic!("{late}")
    };
    assert_eq!((*after, late.topic(), late.partition()), (SHORT, "t", Some(0)));
    assert!(late.to_string().contains(problem.message()), "{late}");
    cluster.restart_broker(1).unwrap();
    assert_eq!(asked.wait(), Ok(Some(0)));
}

#[test]
fn what_cannot_be_found_is_an_error_that_says_why() {
    let cluster = cluster(1, 2);
    let consumer = consumer(&cluster).topic("t", StartAt::Latest).topic("absent", StartAt::Latest);
    let consumer = consumer
        .client(|client| client.topic_unknown_max = Duration::from_millis(100))
        .build()
        .unwrap();
    let asks = |topic: &str, partition| {
        consumer.find_offset(topic, partition, StartAt::Latest, LONG).wait().unwrap_err()
    };
    let error = asks("other", 0);
    assert_eq!(error.to_string(), "other-0: this consumer does not read the topic");
    assert_eq!(*error.cause(), ConsumeErrorCause::NotRead);
    assert_eq!(find(&consumer, 1, StartAt::Latest), Ok(Some(0)), "the topic is known now");
    for partition in [2, -1] {
        let error = asks("t", partition);
        assert!(matches!(error.cause(), ConsumeErrorCause::Refused(_)), "{error}");
        assert!(error.to_string().contains("2 partitions"), "{error}");
    }
    let error = asks("absent", 0);
    assert!(matches!(error.cause(), ConsumeErrorCause::Topic(Some(_))), "{error}");
    cluster.script([Fault::fetch_error("t", 0, 29).times(9)]);
    let error = asks("t", 0);
    assert!(error.to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
}

#[test]
fn a_partition_that_was_added_is_asked_for_soon() {
    let cluster = cluster(1, 1);
    let consumer = reading_the_end(&cluster);
    assert_eq!(find(&consumer, 0, StartAt::Latest), Ok(Some(0)));
    cluster.add_partitions("t", 2);
    eventually("it hears of it", || find(&consumer, 1, StartAt::Latest) == Ok(Some(0)));
}

#[test]
fn a_call_ends_with_its_consumer() {
    let cluster = cluster(1, 1);
    cluster.stop_broker(1);
    let consumer = reading_the_end(&cluster);
    let asked = consumer.find_offset("t", 0, StartAt::Latest, LONG);
    drop(consumer);
    assert_eq!(*asked.wait().unwrap_err().cause(), ConsumeErrorCause::Dropped);
}
