//! Offsets that the consumer asks real Kafka for, beside Java's.

use std::time::{Duration, SystemTime};

use tidegate::{Consumer, IsolationLevel, OffsetReset, Producer, Record, StartAt};

use crate::kafka::{Cluster, Kafka, unique_topic};
use crate::streams::patient;

/// Far over what anything takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// 2023-11-14T22:13:20Z, in seconds since the epoch.
const FIRST: u64 = 1_700_000_000;

/// Where logs begin and end and what is where in them is what Java's consumer says, of logs with
/// open and aborted transactions too.
pub fn as_java(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let topic = unique_topic("offsets");
    cluster.create_topic(&topic, 3, 1, &[]);
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = producer.build().expect("the settings work");
    let sent = producer.topic(&topic).expect("a legal name");
    // The times of partition 1 go backwards; partition 2 stays empty.
    for n in 0..200 {
        for (partition, second) in [(0, FIRST + n), (1, FIRST + 200 - n)] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            let record = Record::new().value("v").timestamp(at).partition(partition);
            let delivery = sent.send_record(record).expect("there is room");
            delivery.wait().expect("acknowledged");
        }
    }
    let of_transactions = unique_topic("transactions");
    cluster.create_topic(&of_transactions, 1, 1, &[]);
    cluster.write_transactions(&of_transactions, 5);

    let first = FIRST as i64 * 1_000;
    let times = [0, first, first + 1, first + 50_000, first + 199_000, first + 200_000, i64::MAX];
    for (topic, partitions) in [(&topic, 3), (&of_transactions, 1)] {
        for (isolation, java) in [
            (IsolationLevel::ReadUncommitted, "read_uncommitted"),
            (IsolationLevel::ReadCommitted, "read_committed"),
        ] {
            let consumer = Consumer::builder(&cluster.bootstrap_servers())
                .topic(topic, StartAt::Latest)
                .isolation_level(isolation)
                .build()
                .expect("the settings work");
            let java = cluster.java_offsets(topic, java, &times);
            assert_eq!(java.len(), partitions);
            for expected in java {
                let find = |at| {
                    let found = consumer.find_offset(topic, expected.partition, at, LIMIT);
                    found.wait().expect("the leader answers")
                };
                assert_eq!(find(StartAt::Earliest), Some(expected.begin));
                assert_eq!(find(StartAt::Latest), Some(expected.end), "{expected:?}");
                let found: Vec<_> = times.iter().map(|&time| find(StartAt::Time(time))).collect();
                assert_eq!(found, expected.times, "{topic} {isolation:?} {expected:?}");
                if expected.partition == 0 && partitions == 3 {
                    let told = [Some(0), Some(0), Some(1), Some(50), Some(199), None, None];
                    assert_eq!(found, told);
                }
            }
        }
    }
}

fn write(cluster: &Cluster, topic: &str, partitions: i32, each: u32) {
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()));
    let producer = producer.build().expect("the settings work");
    let sent = producer.topic(topic).expect("a legal name");
    let record = |n: u32| {
        let partition = (n % partitions as u32) as i32;
        sent.send_record(Record::new().value("v").partition(partition)).expect("there is room")
    };
    for delivery in (0..each * partitions as u32).map(record).collect::<Vec<_>>() {
        delivery.wait().expect("acknowledged");
    }
}

fn of_group(cluster: &Cluster, topic: &str, group: &str) -> Consumer {
    Consumer::builder(&cluster.bootstrap_servers())
        .topic(topic, StartAt::Committed)
        .group_id(group)
        .auto_offset_reset(OffsetReset::Earliest)
        .build()
        .expect("the settings work")
}

/// Reads on from what was committed, commits each batch, and gives the offsets that were read.
fn read_and_commit(cluster: &Cluster, topic: &str, group: &str, count: usize) -> Vec<(i32, i64)> {
    let consumer = of_group(cluster, topic, group);
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = consumer.poll(LIMIT).expect("there are more").expect("it can be read");
        let records = batch.records().map(|record| record.expect("a good one").offset);
        seen.extend(records.map(|offset| (batch.partition(), offset)));
        let next = (batch.topic(), batch.partition(), batch.next_offset());
        consumer.commit(&[next], LIMIT).wait().expect("the coordinator keeps it");
    }
    seen
}

/// What tidegate commits Java's consumer and Kafka's tool find, and the other way round; a consumer
/// that is started anew reads each record once.
pub fn committed(kafka: &Kafka) {
    let cluster = kafka.shared_single();
    let (topic, group) = (unique_topic("committed"), unique_topic("group"));
    cluster.create_topic(&topic, 2, 1, &[]);
    write(&cluster, &topic, 2, 500);
    let consumer = of_group(&cluster, &topic, &group);
    let asks = |partition| consumer.committed(&topic, partition, LIMIT).wait();
    assert_eq!(asks(0), Ok(None));
    assert_eq!(cluster.java_committed(&group, &topic, 0), None);
    consumer.commit(&[(&topic, 0, 17), (&topic, 1, 400)], LIMIT).wait().expect("it is kept");
    assert_eq!(cluster.java_committed(&group, &topic, 0), Some(17));
    assert_eq!(cluster.described_group(&group, &topic), [[0, 17, 483], [1, 400, 100]]);
    cluster.java_commits(&group, (&topic, 1), 250);
    assert_eq!((asks(0), asks(1)), (Ok(Some(17)), Ok(Some(250))));

    let mut seen = Vec::new();
    while seen.len() < 483 + 250 {
        seen.extend(read_and_commit(&cluster, &topic, &group, 1));
    }
    seen.sort_unstable();
    let expected = (17..500).map(|at| (0, at)).chain((250..500).map(|at| (1, at)));
    assert!(seen.into_iter().eq(expected), "each record comes once");
    assert_eq!(cluster.described_group(&group, &topic), [[0, 500, 0], [1, 500, 0]]);
}

/// Each broker is killed in turn, the group's coordinator among them. Commits go on, and what was
/// committed is where the next consumer begins.
pub fn killed_coordinator(kafka: &Kafka) {
    let cluster = kafka.private_three();
    let (topic, group) = (unique_topic("committed"), unique_topic("group"));
    cluster.create_topic(&topic, 2, 3, &[]);
    write(&cluster, &topic, 2, 200);
    let consumer = of_group(&cluster, &topic, &group);
    consumer.commit(&[(&topic, 0, 1)], LIMIT).wait().expect("it is kept");
    let mut last = 1;
    for id in cluster.broker_ids() {
        // It is on its way while the broker dies.
        let begun: Vec<_> = (last + 1..last + 20)
            .map(|offset| consumer.commit(&[(&topic, 0, offset)], LIMIT))
            .collect();
        cluster.kill(id);
        last += 20;
        let after = consumer.commit(&[(&topic, 0, last)], LIMIT);
        begun.into_iter().for_each(|commit| commit.wait().expect("it is kept"));
        after.wait().expect("it is kept");
        assert_eq!(consumer.committed(&topic, 0, LIMIT).wait(), Ok(Some(last)), "broker {id}");
        cluster.restart(id);
        cluster.wait_in_sync(&topic);
    }
    drop(consumer);
    assert_eq!(cluster.java_committed(&group, &topic, 0), Some(last));
    let mut seen = read_and_commit(&cluster, &topic, &group, 200 - last as usize + 200);
    seen.sort_unstable();
    let expected = (last..200).map(|at| (0, at)).chain((0..200).map(|at| (1, at)));
    assert!(seen.into_iter().eq(expected), "each record comes once");
}
