//! The producer on the embedded broker: what a user sees.

use std::time::Duration;

use tidegate::Producer;
use tidegate::embedded::EmbeddedCluster;

#[test]
fn a_record_goes_out_and_comes_back() {
    let cluster = EmbeddedCluster::builder().brokers(1).topic("orders", 1).start().unwrap();
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().unwrap();
    let orders = producer.topic("orders").unwrap();
    let delivery = orders.send("key", "value").unwrap();
    let at = delivery.wait().unwrap();
    assert_eq!(at.to_string(), "orders-0@0");
    let at = orders.send("key", "value").unwrap().wait().unwrap();
    assert_eq!(at.to_string(), "orders-0@1");
    producer.close(Duration::from_secs(10)).wait().unwrap();
    let records = cluster.records("orders", 0);
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
}

#[test]
fn many_records_over_many_partitions() {
    let cluster = EmbeddedCluster::builder().brokers(3).topic("orders", 12).start().unwrap();
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().unwrap();
    let orders = producer.topic("orders").unwrap();
    let deliveries: Vec<_> =
        (0..200_000_u32).map(|n| orders.send((), &n.to_be_bytes()).unwrap()).collect();
    let mut per_partition = [0_u64; 12];
    for delivery in deliveries {
        per_partition[delivery.wait().unwrap().partition() as usize] += 1;
    }
    assert_eq!(per_partition.iter().sum::<u64>(), 200_000);
    producer.close(Duration::from_secs(10)).wait().unwrap();
    let stored: i64 = (0..12).map(|p| cluster.high_watermark("orders", p)).sum();
    assert_eq!(stored, 200_000);
}
