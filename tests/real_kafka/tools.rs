//! The examples that take `--bootstrap-server`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::example::example;
use crate::kafka::{Kafka, unique_topic};

/// What it prints is what Java's consumer reads.
pub fn verifiable_producer(kafka: &Kafka) {
    const RECORDS: u64 = 5_000;
    let cluster = kafka.shared_three();
    let topic = unique_topic("verifiable");
    cluster.create_topic(&topic, 3, 3, &[]);
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::io::Write::write_all(&mut file, b"compression.type=lz4\nacks=all\n").expect("and written");
    let output = example("verifiable_producer")
        .args(["--bootstrap-server", &cluster.bootstrap_servers(), "--topic", &topic])
        .args(["--max-messages", &RECORDS.to_string(), "--acks", "1", "--repeating-keys", "7"])
        .arg("--producer.config")
        .arg(file.path())
        .output()
        .expect("the example can be started");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let mut printed = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let event: Value = serde_json::from_str(line).expect("each line is JSON");
        if event["name"] != "producer_send_success" {
            continue;
        }
        let number = |field: &str| event[field].as_i64().expect("it is a number");
        let text = |field: &str| event[field].as_str().expect("it is text").as_bytes().to_vec();
        let before =
            printed.insert((number("partition"), number("offset")), (text("key"), text("value")));
        assert_eq!(before, None, "two records at one offset: {line}");
    }
    assert_eq!(printed.len() as u64, RECORDS, "{stderr}");
    let read = cluster.read_back_each(&topic, |record| {
        let place = (i64::from(record.partition), record.offset);
        let (key, value) = printed.remove(&place).expect("it was printed");
        assert_eq!((record.key, record.value), (Some(&key[..]), Some(&value[..])), "{place:?}");
    });
    assert_eq!((read, printed.len()), (RECORDS, 0));
}
