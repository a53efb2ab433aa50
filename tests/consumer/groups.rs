//! Offsets that are committed for a group without members.

use std::time::Duration;

use tidegate::embedded::{EmbeddedCluster, Fault, KafkaVersion};
use tidegate::{
    BuildError, ConsumeError, ConsumeErrorCause, Consumer, OffsetReset, ProblemKind, StartAt,
};

use super::{
    LONG, SHORT, cluster, consumer, error, eventually, next, nothing_comes, numbered, producer,
    read, send,
};

fn of_group(cluster: &EmbeddedCluster, start: StartAt) -> Consumer {
    consumer(cluster)
        .topic("t", start)
        .group_id("g")
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .unwrap()
}

fn commit(consumer: &Consumer, offset: i64) -> Result<(), ConsumeError> {
    consumer.commit(&[("t", 0, offset)], LONG).wait()
}

fn committed(consumer: &Consumer, partition: i32) -> Result<Option<i64>, ConsumeError> {
    consumer.committed("t", partition, LONG).wait()
}

#[test]
fn each_run_goes_on_where_the_one_before_has_committed() {
    let cluster = cluster(2, 3);
    let producer = producer(&cluster);
    for partition in 0..3 {
        send(&producer, partition, numbered(0..20));
    }
    let mut seen = Vec::new();
    while seen.len() < 60 {
        let consumer = of_group(&cluster, StartAt::Committed);
        for _ in 0..5 {
            if seen.len() < 60 {
                let batch = next(&consumer).unwrap();
                let first = batch.first_offset();
                seen.extend((first..batch.next_offset()).map(|at| (batch.partition(), at)));
                let next = (batch.topic(), batch.partition(), batch.next_offset());
                consumer.commit(&[next], LONG).wait().unwrap();
            }
        }
    }
    seen.sort();
    let all: Vec<_> = (0..3).flat_map(|index| (0..20).map(move |at| (index, at))).collect();
    assert_eq!(seen, all, "each record is read once");
    nothing_comes(&of_group(&cluster, StartAt::Committed));
    assert_eq!(cluster.committed("g", "t", 2), Some(20));
}

#[test]
fn commits_are_kept_in_the_order_of_the_calls() {
    let cluster = cluster(1, 2);
    let consumer = of_group(&cluster, StartAt::Latest);
    let commits: Vec<_> = (0..50)
        .map(|n| consumer.commit(&[("t", 0, n), ("t", 1, 2 * n), ("t", 0, n + 1)], LONG))
        .collect();
    // It is asked for behind them.
    assert_eq!(committed(&consumer, 0), Ok(Some(50)));
    assert_eq!(consumer.find_offset("t", 1, StartAt::Committed, LONG).wait(), Ok(Some(98)));
    commits.into_iter().for_each(|commit| commit.wait().unwrap());
    consumer.commit(&[], LONG).wait().unwrap();
}

#[test]
fn where_nothing_was_committed_the_reset_says_where_to_begin() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..3));
    assert_eq!(read(&of_group(&cluster, StartAt::Committed), 3)[0].1, 0);
    let begun = |reset| {
        let consumer = consumer(&cluster).topic("t", StartAt::Committed).group_id("other");
        consumer.auto_offset_reset(reset).build().unwrap()
    };
    let at_the_end = begun(OffsetReset::Latest);
    eventually("it knows the end", || at_the_end.lag() == Some(0));
    send(&producer, 0, numbered(3..4));
    assert_eq!(read(&at_the_end, 1)[0].1, 3);
    let refuses = begun(OffsetReset::None);
    let told = error(&refuses);
    assert_eq!(*told.cause(), ConsumeErrorCause::NoCommittedOffset);
    assert!(told.to_string().starts_with("t-0: no offset is committed"), "{told}");
    commit(&refuses, 2).unwrap();
    assert!(refuses.seek("t", 0, StartAt::Committed));
    assert_eq!(read(&refuses, 2)[0].1, 2);
}

#[test]
fn without_a_group_nothing_is_committed() {
    let cluster = cluster(1, 1);
    send(&producer(&cluster), 0, numbered(0..1));
    let refused = consumer(&cluster).topic("t", StartAt::Committed).build().unwrap_err();
    assert!(matches!(refused, BuildError::Conflict(text) if text.contains("group_id")));
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    read(&consumer, 1);
    assert_eq!(*commit(&consumer, 1).unwrap_err().cause(), ConsumeErrorCause::NoGroup);
    assert_eq!(*committed(&consumer, 0).unwrap_err().cause(), ConsumeErrorCause::NoGroup);
    assert!(consumer.seek("t", 0, StartAt::Committed));
    assert_eq!(*error(&consumer).cause(), ConsumeErrorCause::NoGroup);
}

#[test]
fn a_coordinator_that_moves_is_found_again() {
    let cluster = cluster(3, 1);
    let consumer = of_group(&cluster, StartAt::Latest);
    commit(&consumer, 1).unwrap();
    // The coordinator is the one with the lowest id.
    cluster.kill_broker(1);
    commit(&consumer, 2).unwrap();
    assert_eq!(committed(&consumer, 0), Ok(Some(2)));
    cluster.restart_broker(1).unwrap();
    commit(&consumer, 3).unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(3));
    // Not the coordinator, not available, loading, an offset of a transaction that is open.
    cluster.script([16, 15, 14, 88].map(Fault::group_error));
    commit(&consumer, 4).unwrap();
    cluster.script([16, 15, 14, 88].map(Fault::group_error));
    assert_eq!(committed(&consumer, 0), Ok(Some(4)));
    for api in [8, 9, 10] {
        cluster.script([Fault::close_before_response().api(api).times(2)]);
    }
    commit(&consumer, 5).unwrap();
    assert_eq!(committed(&consumer, 0), Ok(Some(5)));
    eventually("all faults happened", || cluster.faults_left() <= 2);
}

#[test]
fn what_a_group_refuses_is_told() {
    let cluster = cluster(1, 1);
    let consumer = of_group(&cluster, StartAt::Latest);
    // An unknown member, a generation that is over, a rebalance: the group has members.
    for code in [25, 22, 27] {
        cluster.script([Fault::group_error(code)]);
        let told = commit(&consumer, 1).unwrap_err();
        assert!(matches!(told.cause(), ConsumeErrorCause::GroupInUse(_)), "{told}");
        assert!(told.to_string().contains("the group has members"), "{told}");
    }
    for (code, name) in [(30, "GROUP_AUTHORIZATION_FAILED"), (12, "OFFSET_METADATA_TOO_LARGE")] {
        cluster.script([Fault::group_error(code)]);
        let told = commit(&consumer, 1).unwrap_err();
        assert!(matches!(told.cause(), ConsumeErrorCause::Refused(_)), "{told}");
        assert!(told.to_string().contains(name), "{told}");
    }
    assert!(commit(&consumer, -1).unwrap_err().to_string().contains("begin with 0"));
    let late = consumer.commit(&[("absent", 0, 1)], SHORT).wait().unwrap_err();
    let ConsumeErrorCause::TimedOut { problem: Some(problem), .. } = late.cause() else {
        panic!("{late}")
    };
    assert!(problem.message().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{late}");
    assert_eq!(committed(&consumer, 0), Ok(None), "nothing was kept");
}

#[test]
fn brokers_of_every_age_keep_offsets() {
    use KafkaVersion::*;
    for version in [V0_11, V1_1, V2_0, V2_7, V3_9, V4_3] {
        let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).kafka_version(version);
        let cluster = cluster.start().unwrap();
        let consumer = of_group(&cluster, StartAt::Committed);
        commit(&consumer, 7).unwrap();
        assert_eq!((committed(&consumer, 0), committed(&consumer, 1)), (Ok(Some(7)), Ok(None)));
    }
    // ApiVersions without FindCoordinator.
    let cluster = cluster(1, 1);
    cluster.limit_api(10, 1, 0);
    let told = commit(&of_group(&cluster, StartAt::Latest), 1).unwrap_err();
    let ConsumeErrorCause::Refused(problem) = told.cause() else { panic!("{told}") };
    assert_eq!(problem.kind(), ProblemKind::BrokerTooOld);
}

#[test]
fn a_commit_ends_with_its_time_and_with_its_consumer() {
    let cluster = cluster(1, 1);
    cluster.stop_broker(1);
    let consumer = of_group(&cluster, StartAt::Committed);
    let late = consumer.commit(&[("t", 0, 1)], Duration::from_millis(50)).wait().unwrap_err();
    assert!(matches!(late.cause(), ConsumeErrorCause::TimedOut { .. }), "{late}");
    let ends = consumer.commit(&[("t", 0, 1)], LONG);
    let asked = consumer.committed("t", 0, LONG);
    drop(consumer);
    assert_eq!(*ends.wait().unwrap_err().cause(), ConsumeErrorCause::Dropped);
    assert_eq!(*asked.wait().unwrap_err().cause(), ConsumeErrorCause::Dropped);
}
