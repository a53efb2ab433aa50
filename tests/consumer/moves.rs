//! Leaders that move, brokers that are lost, logs that are cut off.

use std::time::Duration;

use tidegate::embedded::Fault;
use tidegate::{ConsumeErrorCause, OffsetReset, StartAt};

use super::{cluster, consumer, error, eventually, next, numbered, producer, read, send};

#[test]
fn a_leader_that_moves_costs_no_record_and_doubles_none() {
    let cluster = cluster(3, 1);
    let producer = producer(&cluster);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    for round in 0..6 {
        send(&producer, 0, numbered(round * 10..round * 10 + 10));
        let read = read(&consumer, 10);
        assert_eq!(read[0].1, i64::from(round) * 10);
        assert!(cluster.move_leader("t", 0, 1 + (round as i32 + 1) % 3));
    }
}

#[test]
fn a_broker_that_is_gone_is_replaced_and_one_that_comes_back_is_found() {
    let cluster = cluster(2, 2);
    let producer = producer(&cluster);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    for partition in [0, 1] {
        send(&producer, partition, numbered(0..5));
    }
    read(&consumer, 10);
    cluster.kill_broker(1);
    for partition in [0, 1] {
        send(&producer, partition, numbered(5..10));
    }
    read(&consumer, 10);
    cluster.stop_broker(2);
    assert!(consumer.poll(Duration::from_millis(100)).is_none(), "nobody is there");
    cluster.restart_broker(1).unwrap();
    cluster.restart_broker(2).unwrap();
    for partition in [0, 1] {
        send(&producer, partition, numbered(10..15));
    }
    read(&consumer, 10);
    assert_eq!(consumer.lag(), Some(0));
}

#[test]
fn a_consumer_that_is_built_before_its_brokers_are_there_waits_for_them() {
    let cluster = cluster(1, 1);
    cluster.stop_broker(1);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    assert!(consumer.poll(Duration::from_millis(100)).is_none());
    cluster.restart_broker(1).unwrap();
    send(&producer(&cluster), 0, numbered(0..3));
    read(&consumer, 3);
}

#[test]
fn errors_of_the_moment_are_asked_again() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..3));
    // Not the leader, no leader yet, a leader's epoch that is too new, a disk: of both questions.
    let codes = [6, 5, 75, 56, 9, 3];
    cluster.script(codes.map(|code| Fault::fetch_error("t", 0, code)));
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    read(&consumer, 3);
    cluster.script(codes.map(|code| Fault::fetch_error("t", 0, code)));
    send(&producer, 0, numbered(3..6));
    read(&consumer, 3);
    // Connections that close instead of answering.
    cluster.script([Fault::close_before_response().api(1).times(3)]);
    send(&producer, 0, numbered(6..9));
    read(&consumer, 3);
    eventually("all faults happened", || cluster.faults_left() == 0);
}

#[test]
fn a_log_that_was_cut_off_is_told_and_read_on_where_that_is_wanted() {
    for reset in [OffsetReset::None, OffsetReset::Latest] {
        let cluster = cluster(2, 1);
        let producer = producer(&cluster);
        let consumer = consumer(&cluster)
            .topic("t", StartAt::Earliest)
            .auto_offset_reset(reset)
            .build()
            .unwrap();
        for number in 0..4 {
            send(&producer, 0, numbered(number..number + 1));
        }
        read(&consumer, 4);
        // The records 2 and 3 are lost, and another is written at offset 2.
        assert!(cluster.cut_off("t", 0, 2));
        if reset == OffsetReset::None {
            let error = error(&consumer);
            assert_eq!((error.topic(), error.partition()), ("t", Some(0)));
            let expected = ConsumeErrorCause::Truncated { offset: 4, end: 2 };
            assert_eq!(*error.cause(), expected, "{error}");
            assert!(consumer.partitions()[0].has_failed);
            assert!(consumer.seek("t", 0, StartAt::Offset(2)));
        }
        send(&producer, 0, ["instead".to_owned()]);
        assert_eq!(next(&consumer).unwrap().first_offset(), 2, "{reset:?}");
    }
}
