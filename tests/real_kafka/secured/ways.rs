//! Every way in carries records.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Delivery, ProducerBuilder, Record};

use super::stage::Stage;
use crate::extent;
use crate::kafka::{Cluster, Kafka, unique_topic};
use crate::streams::patient;

pub const PARTITIONS: u64 = 3;
/// Over ten times what a run took on two busy cores.
const LIMIT: Duration = Duration::from_secs(240);

/// Records by each mechanism over SASL_PLAINTEXT and SASL_SSL, over TLS, and over TLS with a
/// certificate of the client's.
pub fn all_carry_records(kafka: &Kafka) {
    let stage = Stage::start(kafka);
    carry(&stage.cluster, stage.ways(), extent::pick(2_000, 100_000));
}

/// Sends so many records on each way, all ways at once, and finds each once and in order.
pub fn carry(cluster: &Cluster, ways: Vec<(String, ProducerBuilder)>, count: u64) {
    let topic = unique_topic("ways");
    cluster.create_topic(&topic, PARTITIONS as i32, 1, &[]);
    let names: Vec<String> = ways.iter().map(|(name, _)| name.clone()).collect();
    thread::scope(|scope| {
        let send = |(name, builder): (String, ProducerBuilder)| {
            let topic = &topic;
            scope.spawn(move || send(builder, topic, &name, count))
        };
        let senders: Vec<_> = ways.into_iter().map(send).collect();
        for (sender, name) in senders.into_iter().zip(&names) {
            let took = sender.join().unwrap_or_else(|_| panic!("{name} failed"));
            println!("{name}: {count} records acknowledged in {took:.2?}");
        }
    });
    let mut next: BTreeMap<(String, i32), u64> = BTreeMap::new();
    let read = cluster.read_back_each(&topic, |record| {
        let value = std::str::from_utf8(record.value.expect("a value")).expect("text");
        let (name, number) = value.rsplit_once(": ").expect("a way and a number");
        let place = (name.to_owned(), record.partition);
        let next = next.entry(place).or_insert(record.partition as u64);
        assert_eq!(number, next.to_string(), "{name}, partition {}", record.partition);
        *next += PARTITIONS;
    });
    assert_eq!(read, names.len() as u64 * count);
    let places = names.iter().flat_map(|name| (0..PARTITIONS).map(move |p| (name, p)));
    assert_eq!(next.len(), places.count(), "each way reached each partition");
}

/// Sends and awaits records whose values say their way and number; a number's partition is known.
fn send(builder: ProducerBuilder, topic: &str, name: &str, count: u64) -> Duration {
    let producer = patient(builder).build().expect("the settings work");
    let topic = producer.topic(topic).expect("a legal name");
    let start = Instant::now();
    let send = |number: u64| {
        let value = format!("{name}: {number}");
        let record = Record::new().value(&value).partition((number % PARTITIONS) as i32);
        topic.send_record(record).expect("there is room in time")
    };
    let sent: Vec<Delivery> = (0..count).map(send).collect();
    for mut delivery in sent {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let took = start.elapsed();
    producer.close(LIMIT).wait().expect("everything is acknowledged");
    took
}
