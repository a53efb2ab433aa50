//! Brokers that do not take everything.

use std::time::{Duration, Instant};

use tidegate::{Acks, Producer};

use crate::kafka::{Kafka, unique_topic};

const LIMIT: Duration = Duration::from_secs(120);

/// A quota so low that the broker asks for pauses of minutes: nothing is sent twice.
pub fn c31_long_throttle(kafka: &Kafka) {
    const CLIENT: &str = "throttled";
    const RECORDS: u32 = 2_500;
    let cluster = kafka.shared_single();
    let topic = unique_topic("quota");
    cluster.create_topic(&topic, 1, 1, &[]);
    cluster.set_client_quota(Some(CLIENT), "producer_byte_rate", Some(10_000.0));
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .client_id(CLIENT)
        .acks(Acks::Leader)
        .delivery_timeout(Duration::from_secs(900))
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let value = [7_u8; 1_000];
    let start = Instant::now();
    let sent: Vec<_> =
        (0..RECORDS).map(|_| handle.send((), &value).expect("there is room")).collect();
    for delivery in sent {
        delivery.wait().expect("acknowledged");
    }
    let read = cluster.read_back_each(&topic, |_| {});
    println!("a quota of 10 kB/s: {RECORDS} records in {:.2?}, {read} in the log", start.elapsed());
    assert_eq!(read, u64::from(RECORDS));
    producer.close(LIMIT).wait().expect("everything is resolved");
}
