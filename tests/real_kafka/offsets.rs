//! Offsets that the consumer asks real Kafka for, beside Java's.

use std::time::{Duration, SystemTime};

use tidegate::{Consumer, IsolationLevel, Producer, Record, StartAt};

use crate::kafka::{Kafka, unique_topic};
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
