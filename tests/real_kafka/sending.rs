//! Settings of one topic, records that stay together, interceptors and records that come back:
//! against a real broker, read by Java's consumer.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::Duration;

use tidegate::{
    Acks, Certainty, Compression, InterceptedRecord, OnOutcome, Producer, ProducerConfig, Record,
    UndeliveredRecord, UseFallback,
};

use crate::kafka::{ClusterConfig, Kafka, ReadRecord, unique_topic, wait_until};

/// Far over what anything takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Three topics with other acks and codecs than one another's, records that are sent together and
/// an interceptor that adds a header: Java reads all of it.
pub fn topics_with_settings(kafka: &Kafka) {
    const COUNT: usize = 2_000;
    const TOGETHER: usize = 5;
    let cluster = kafka.shared_single();
    let names = ["none", "leader", "all"].map(unique_topic);
    for name in &names {
        cluster.create_topic(name, 3, 1, &[]);
    }
    let [none, leader, _] = &names;
    let servers = cluster.bootstrap_servers();
    let config = ProducerConfig::from_properties([
        ("bootstrap.servers", servers.as_str()),
        ("compression.type", "gzip"),
        (&format!("tidegate.topic.{none}.acks"), "0"),
        (&format!("tidegate.topic.{leader}.acks"), "1"),
        (&format!("tidegate.topic.{leader}.compression.type"), "lz4"),
        (&format!("tidegate.topic.{leader}.linger.ms"), "20"),
    ]);
    let mut config = config.expect("the properties are known");
    let traced = |record: &mut InterceptedRecord<'_>| -> Option<OnOutcome> {
        record.add_header("trace", "1");
        None
    };
    config.interceptors.push(std::sync::Arc::new(traced));
    assert_eq!(config.for_topic(none).acks, Acks::None);
    assert_eq!(config.for_topic(leader).compression, Compression::lz4());
    let producer = Producer::from_config(config).expect("the settings work");
    let topics = names.each_ref().map(|name| producer.topic(name).expect("a legal name"));
    let mut deliveries = Vec::new();
    let mut batches = Vec::new();
    for n in 0..COUNT {
        for topic in &topics {
            let value = n.to_string();
            if n % 10 == 0 {
                let records = (0..TOGETHER).map(|_| Record::new().value(&value).partition(1));
                batches.push(topic.send_all(records).expect("there is room"));
            }
            deliveries.push(topic.send(value.as_bytes(), &value).expect("there is room"));
        }
    }
    for batch in batches {
        let at = batch.wait().expect("acknowledged");
        assert_eq!(at.offset().is_some(), at.topic() != none);
    }
    for delivery in deliveries {
        delivery.wait().expect("acknowledged");
    }
    producer.close(LIMIT).wait().expect("all is acknowledged");
    let expected = COUNT + COUNT / 10 * TOGETHER;
    for name in &names {
        // With acks=0 the last ones may still be on their way.
        let mut records = Vec::new();
        let is_there = wait_until(LIMIT, || {
            records = cluster.read_back(name);
            records.len() == expected
        });
        assert!(is_there, "{name}: {} of {expected}", records.len());
        for record in &records {
            assert!(record.headers.iter().any(|header| header.0 == "trace"), "{record:?}");
        }
        // Those without a key were sent together: each group stands together.
        let alone: Vec<_> = records.iter().filter(|record| record.partition == 1).collect();
        let keyless = |at: usize| alone.get(at).is_some_and(|record| record.key.is_none());
        let mut at = 0;
        while at < alone.len() {
            if keyless(at) {
                let group = &alone[at..at + TOGETHER];
                assert!(group.iter().all(|record| record.value == group[0].value), "{name}");
                at += TOGETHER;
            } else {
                at += 1;
            }
        }
    }
}

/// The broker is gone: what comes back is sent elsewhere, and each record is there once.
pub fn handed_back(kafka: &Kafka) {
    const COUNT: usize = 1_000;
    let (cluster, elsewhere) = (kafka.start(&ClusterConfig::single()), kafka.shared_single());
    let name = unique_topic("back");
    cluster.create_topic(&name, 1, 1, &[]);
    elsewhere.create_topic(&name, 1, 1, &[]);
    let producer = Producer::builder(&cluster.bootstrap_servers()).build();
    let producer = producer.expect("the settings work");
    let topic = producer.topic(&name).expect("a legal name");
    topic.send("k", "warm").expect("there is room").wait().expect("acknowledged");
    cluster.kill(cluster.broker_ids()[0]);
    let send = |n| topic.send("k", format!("value {n}")).expect("there is room");
    let deliveries: Vec<_> = (0..COUNT).map(send).collect();
    let (sender, back) = mpsc::channel();
    let close = producer.close_handing_back(Duration::from_millis(500), move |record| {
        sender.send(record.to_record().into_owned()).expect("the test takes them");
    });
    assert!(close.wait().is_err(), "not all could be sent");
    let outcomes = deliveries.into_iter().map(|delivery| delivery.wait().expect_err("not sent"));
    let unsent = outcomes.filter(|error| error.certainty() == Certainty::NotWritten).count();
    let back: Vec<_> = back.iter().collect();
    println!("{} of {COUNT} records came back", back.len());
    assert_eq!(back.len(), unsent, "all that are certainly not written, and no other");
    let second = Producer::builder(&elsewhere.bootstrap_servers()).build();
    let second = second.expect("the settings work");
    let topic = second.topic(&name).expect("a legal name");
    for record in &back {
        drop(topic.send_record(record.as_record()).expect("there is room"));
    }
    second.close(LIMIT).wait().expect("all is acknowledged");
    assert_eq!(elsewhere.read_back(&name).len(), back.len());
}

/// The broker is killed while records are sent, and what does not get there goes to another cluster
/// at once: each record is in one of the two, and in both only if it was in doubt.
pub fn fallback_to_another_cluster(kafka: &Kafka) {
    const COUNT: usize = 20_000;
    let (cluster, elsewhere) = (kafka.start(&ClusterConfig::single()), kafka.shared_single());
    let name = unique_topic("fallback");
    cluster.create_topic(&name, 3, 1, &[]);
    elsewhere.create_topic(&name, 3, 1, &[]);
    let second = Producer::builder(&elsewhere.bootstrap_servers()).build();
    let second = second.expect("the settings work");
    let other = second.topic(&name).expect("a legal name");
    let (sender, doubts) = mpsc::channel();
    let fallback = move |record: &UndeliveredRecord<'_>| {
        drop(other.send_record(record.to_record()).expect("there is room"));
        if record.error().certainty() == Certainty::Unknown {
            let value = record.value().expect("no null was sent");
            sender.send(value.to_vec()).expect("the test takes them");
        }
    };
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .buffer_memory(4 << 20)
        .request_timeout(Duration::from_secs(1))
        .delivery_timeout(Duration::from_secs(3))
        .backoff(UseFallback)
        .fallback(fallback)
        .configure(|config| config.fallback_memory = 64 << 20)
        .build()
        .expect("the settings work");
    let topic = producer.topic(&name).expect("a legal name");
    topic.send("k", "0").expect("there is room").wait().expect("acknowledged");
    let mut acknowledged = 1;
    let mut deliveries = Vec::new();
    for n in 1..COUNT {
        if n == COUNT / 10 {
            topic.flush().wait().expect("the broker is there");
            cluster.kill(cluster.broker_ids()[0]);
        }
        let value = format!("{n} {}", "x".repeat(500));
        deliveries.push(topic.send(value.as_bytes(), &value).expect("the fallback takes the rest"));
    }
    for delivery in deliveries {
        acknowledged += usize::from(delivery.wait().is_ok());
    }
    drop(producer.close(LIMIT).wait());
    let given = producer.metrics().fallback_records as usize;
    second.close(LIMIT).wait().expect("all is acknowledged");
    cluster.restart(cluster.broker_ids()[0]);
    let number = |value: &[u8]| {
        let text = String::from_utf8_lossy(value).into_owned();
        text.split(' ').next().and_then(|n| n.parse::<usize>().ok()).expect("a number")
    };
    let read = |records: Vec<ReadRecord>| -> Vec<usize> {
        records.iter().map(|it| number(it.value.as_deref().expect("no null"))).collect()
    };
    let (here, there) = (read(cluster.read_back(&name)), read(elsewhere.read_back(&name)));
    let doubts: BTreeSet<usize> = doubts.try_iter().map(|value| number(&value)).collect();
    println!(
        "{acknowledged} acknowledged, {given} given to the fallback, {} of them in doubt; {} and \
         {} in the logs",
        doubts.len(),
        here.len(),
        there.len()
    );
    let [here_once, there_once] = [&here, &there].map(|it| it.iter().collect::<BTreeSet<_>>());
    assert_eq!((here_once.len(), there_once.len()), (here.len(), there.len()), "none twice");
    assert_eq!(here_once.union(&there_once).count(), COUNT, "none is lost");
    assert_eq!((acknowledged + given, there.len()), (COUNT, given));
    assert!(here_once.intersection(&there_once).all(|n| doubts.contains(n)));
}
