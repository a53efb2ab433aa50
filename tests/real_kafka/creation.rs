//! Topics that the client creates.

use std::time::{Duration, Instant};

use tidegate::{CreateTopicErrorKind, Delivery, ErrorCode, NewTopic, Producer};

use crate::kafka::{ClusterConfig, Kafka, V2_0, unique_topic};

/// Far over what anything takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// 2001-09-09, long before the records are sent.
const LONG_AGO: i64 = 1_000_000_000_000;

pub fn as_told(kafka: &Kafka) {
    let cluster = kafka.shared_three();
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .create_topics(NewTopic::new().partitions(4).replication_factor(3))
        .build()
        .expect("the settings work");
    let name = unique_topic("asked-for");
    let new = || {
        let topic = NewTopic::new().partitions(7).replication_factor(2);
        topic.setting("message.timestamp.type", "LogAppendTime")
    };
    let start = Instant::now();
    producer.create_topic(&name, new()).wait().expect("it is created");
    println!("created in {:.2?}", start.elapsed());
    let exists = producer.create_topic(&name, new()).wait().expect_err("it is there");
    assert_eq!(*exists.kind(), CreateTopicErrorKind::AlreadyExists);
    cluster.wait_in_sync(&name);
    assert_eq!(cluster.partition(&name, 6).replicas.len(), 2);
    // Its setting is in effect: the log's time counts.
    let topic = producer.topic(&name).expect("a legal name");
    let record = tidegate::Record::new().value("v").timestamp(LONG_AGO);
    let delivery = topic.send_record(record).expect("there is room");
    let metadata = delivery.wait().expect("acknowledged");
    assert!(metadata.timestamp() > LONG_AGO + 1_000, "{metadata:?}");

    // What the cluster refuses it refuses in its own words.
    let refused = |topic| {
        let error = producer.create_topic(&unique_topic("refused"), topic).wait();
        error.expect_err("the cluster refuses it")
    };
    let replicas = refused(NewTopic::new().replication_factor(5));
    let setting = refused(NewTopic::new().setting("retention.ms", "soon"));
    let partitions = refused(NewTopic::new().partitions(10_001).replication_factor(1));
    println!("{replicas}\n{setting}\n{partitions}");
    for (error, code, word) in [
        (replicas, 38, "broker"),
        (setting, 40, "retention.ms"),
        // Requests are kept below this.
        (partitions, 44, "partitions"),
    ] {
        let CreateTopicErrorKind::Refused { code: found, message } = error.kind() else {
            panic!("{error}")
        };
        assert_eq!(*found, ErrorCode(code), "{error}");
        assert!(message.as_deref().is_some_and(|words| words.contains(word)), "{error}");
    }

    // At first use, several at once.
    let names: Vec<_> = (0..20).map(|n| unique_topic(&format!("first-use-{n}"))).collect();
    let start = Instant::now();
    let sent: Vec<Delivery> = names
        .iter()
        .map(|name| producer.topic(name).expect("a legal name"))
        .map(|topic| topic.send("key", "value").expect("there is room"))
        .collect();
    for mut delivery in sent {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("the topic was created");
    }
    println!("20 topics created and written to in {:.2?}", start.elapsed());
    for name in &names {
        cluster.wait_in_sync(name);
        assert_eq!(cluster.partition(name, 3).replicas.len(), 3);
    }
    producer.close(LIMIT).wait().expect("nothing is left");
}

/// With ZooKeeper one broker is the controller, and the others refuse to create topics.
pub fn by_zookeepers_controller(kafka: &Kafka) {
    let config = ClusterConfig::three().release(&V2_0);
    let config = config.property("auto.create.topics.enable", "false");
    let cluster = kafka.start(&config);
    for id in cluster.broker_ids() {
        let producer = Producer::builder(&cluster.address(id).to_string())
            .create_topics(NewTopic::new().partitions(2).replication_factor(3))
            .build()
            .expect("the settings work");
        let name = unique_topic("created");
        producer.create_topic(&name, NewTopic::new()).wait().expect_err("2.0 has no defaults");
        let new = NewTopic::new().partitions(3).replication_factor(2);
        producer.create_topic(&name, new).wait().expect("it is created");
        for name in [name, unique_topic("at-first-use")] {
            let topic = producer.topic(&name).expect("a legal name");
            let mut delivery = topic.send("key", "value").expect("there is room");
            let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
            outcome.expect("the topic was created");
            assert_eq!(cluster.read_back(&name).len(), 1);
        }
        producer.close(LIMIT).wait().expect("nothing is left");
    }
}
