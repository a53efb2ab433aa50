//! Settings of one topic over those of its producer.

use tidegate::{
    Acks, Backoff, BuildError, Compression, DeliveryErrorCause, DropRecords, EveryTopic,
    PartitionRequest, Pressure, ProducerConfig, RejectRecords, SendErrorKind, TopicConfig,
};

use super::*;

const TOPICS: [&str; 3] = ["all", "leader", "none"];

fn three_topics(partitions: i32) -> EmbeddedCluster {
    let builder = TOPICS
        .iter()
        .fold(EmbeddedCluster::builder(), |builder, topic| builder.topic(topic, partitions));
    builder.start().unwrap()
}

/// Sends `count` records to each topic in turn.
fn send_all(topics: &[Topic], count: usize) -> Vec<Vec<Delivery>> {
    let mut deliveries: Vec<_> = topics.iter().map(|_| Vec::new()).collect();
    for n in 0..count {
        for (topic, sent) in topics.iter().zip(&mut deliveries) {
            sent.push(topic.send((), format!("{n}")).unwrap());
        }
    }
    deliveries
}

#[test]
fn topics_with_other_acks_share_a_producer() {
    let cluster = three_topics(3);
    let producer = builder(&cluster)
        .topic_config("leader", TopicConfig::new().acks(Acks::Leader))
        .topic_config("none", TopicConfig::new().acks(Acks::None))
        .build()
        .unwrap();
    let topics = TOPICS.map(|topic| producer.topic(topic).unwrap());
    let deliveries = send_all(&topics, 5_000);
    for (topic, deliveries) in TOPICS.iter().zip(deliveries) {
        for delivery in deliveries {
            // With acks=0 no broker tells an offset.
            assert_eq!(acked(delivery).offset().is_some(), *topic != "none", "{topic}");
        }
    }
    close(&producer);
    for topic in TOPICS {
        // What was sent with acks=0 may come after the close.
        let count =
            || (0..3).map(|partition| cluster.high_watermark(topic, partition)).sum::<i64>();
        eventually("all records are in the log", || count() == 5_000);
        for record in (0..3).flat_map(|partition| cluster.records(topic, partition)) {
            assert_eq!(record.producer_id >= 0, topic == "all", "only acks=all is idempotent");
        }
    }
}

#[test]
fn a_topic_is_idempotent_although_its_producer_is_not() {
    let cluster = three_topics(1);
    let producer = builder(&cluster)
        .acks(Acks::Leader)
        .topic_config("all", TopicConfig::new().acks(Acks::All))
        .build()
        .unwrap();
    for topic in ["all", "leader"] {
        acked(producer.topic(topic).unwrap().send("k", "v").unwrap());
        let has_identity = cluster.records(topic, 0)[0].producer_id >= 0;
        assert_eq!(has_identity, topic == "all");
    }
    close(&producer);
}

#[test]
fn each_topic_lingers_and_fills_its_batches_as_it_is_told() {
    let cluster = three_topics(1);
    let producer = lingering(&cluster)
        .topic_config("leader", TopicConfig::new().linger(Duration::ZERO))
        .topic_config("none", TopicConfig::new().batch_size(2_000))
        .build()
        .unwrap();
    let [patient, quick, small] = TOPICS.map(|topic| producer.topic(topic).unwrap());
    let mut waits = patient.send("k", "v").unwrap();
    acked(quick.send("k", "v").unwrap());
    let value = "v".repeat(1_000);
    let filled = [(); 3].map(|()| small.send("k", &value).unwrap());
    let [first, second, mut third] = filled;
    // One fills a batch with the next, which it has no room for.
    acked(first);
    acked(second);
    assert!(waits.try_take().is_none() && third.try_take().is_none());
    small.flush().wait().unwrap();
    acked(third);
    assert!(waits.try_take().is_none(), "flush() is of one topic");
    close(&producer);
    acked(waits);
}

#[test]
fn a_topics_records_expire_by_its_own_delivery_timeout() {
    let cluster = EmbeddedCluster::builder().topic("short", 1).topic("t", 1).start().unwrap();
    let short = TopicConfig::new().delivery_timeout(millis(300));
    let producer = builder(&cluster)
        .request_timeout(millis(200))
        .delivery_timeout(FAR)
        .topic_config("short", short.clone())
        .topic_config("unknown", short)
        .build()
        .unwrap();
    let [short, long] = ["short", "t"].map(|topic| producer.topic(topic).unwrap());
    goes_on(&short, 0, "warm");
    warm(&long, 1);
    cluster.stop_broker(1);
    // In the stash as in a lane.
    let unknown = producer.topic("unknown").unwrap().send("k", "v").unwrap();
    let mut stays = long.send("k", "v").unwrap();
    for delivery in [short.send("k", "v").unwrap(), unknown] {
        let error = failed(delivery);
        let DeliveryErrorCause::TimedOut { after, .. } = error.cause() else { panic!("{error}") };
        assert_eq!(*after, millis(300));
    }
    assert!(stays.try_take().is_none());
    cluster.restart_broker(1).unwrap();
    acked(stays);
    close(&producer);
}

#[test]
fn each_topic_has_its_partitioner_and_its_strategy() {
    let cluster = EmbeddedCluster::builder()
        .topic("drops", 4)
        .topic("rejects", 4)
        .topic("t", 4)
        .start()
        .unwrap();
    let last = EveryTopic::new(|request: &PartitionRequest<'_>| request.partitions.count() - 1);
    let producer = builder(&cluster)
        .buffer_memory(4 << 20)
        .backoff(RejectRecords)
        .topic_config("drops", TopicConfig::new().backoff(DropRecords).partitioner(last))
        .build()
        .unwrap();
    let [drops, rejects] = ["drops", "rejects"].map(|topic| producer.topic(topic).unwrap());
    for n in 0..20 {
        assert_eq!(acked(drops.send(format!("{n}"), "v").unwrap()).partition(), 3);
    }
    warm(&rejects, 4);
    cluster.pause_broker(1);
    let value = vec![0; 50_000];
    let refused = (0..200).map(|_| rejects.send((), &value)).find_map(Result::err);
    let refused = refused.expect("the broker's level is full");
    assert!(matches!(refused.kind(), SendErrorKind::Rejected { .. }), "{refused}");
    let dropped = drops.send((), &value).unwrap();
    assert_eq!(*failed(dropped).cause(), DeliveryErrorCause::Dropped);
    let metrics = producer.metrics();
    let of_topic = |name: &str| metrics.topics.iter().find(|topic| &*topic.topic == name).unwrap();
    assert_eq!(of_topic("drops").records.dropped_records, 1);
    assert_eq!(of_topic("rejects").records.dropped_records, 0);
    let dropped = metrics.dropped;
    assert_eq!((dropped.total, dropped.broker, dropped.pool), (1, 1, 0), "{dropped:?}");
    assert_eq!(metrics.brokers[0].dropped_records, 1);
    cluster.resume_broker(1);
    close(&producer);
}

#[test]
fn a_strategy_is_told_of_the_record() {
    let cluster = cluster(1, 2);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = told.clone();
    let strategy = move |full: &Pressure<'_>| {
        let key = full.key.map(<[u8]>::to_vec);
        let headers: Vec<_> = full.headers.iter().map(|header| header.key.to_owned()).collect();
        let told = (full.topic.to_owned(), full.partition, key, headers, full.priority, full.tag);
        listener.lock().unwrap().push(told);
        if full.priority > 0 { Backoff::Reject } else { Backoff::Drop }
    };
    let producer = builder(&cluster).buffer_memory(4 << 20).backoff(strategy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    cluster.pause_broker(1);
    let value = vec![0; 50_000];
    while producer.dropped_records() == 0 {
        drop(topic.send("fill", &value).unwrap());
    }
    told.lock().unwrap().clear();
    let record = || Record::new().key("k").header("h", "v").partition(1).tag(77);
    drop(topic.send_record(record()).unwrap());
    let refused = topic.send_record(record().priority(3));
    assert!(matches!(refused.unwrap_err().kind(), SendErrorKind::Rejected { .. }));
    let one = |priority| {
        ("t".to_owned(), Some(1), Some(b"k".to_vec()), vec!["h".to_owned()], priority, 77)
    };
    assert_eq!(*told.lock().unwrap(), [one(0), one(3)]);
    // A task's record is told of likewise.
    let refused = pin!(topic.send_record_async(record().priority(4)));
    let refused = refused.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(refused, Poll::Ready(Err(_))));
    assert_eq!(told.lock().unwrap().last(), Some(&one(4)));
    cluster.resume_broker(1);
    close(&producer);
}

#[test]
fn settings_come_with_the_first_handle_and_stay() {
    let cluster = EmbeddedCluster::builder().auto_create_topics(true).start().unwrap();
    let producer = builder(&cluster)
        .allow_auto_create_topics(true)
        .topic_config("declared", TopicConfig::new().batch_size(1 << 20))
        .build()
        .unwrap();
    let slow = TopicConfig::new().acks(Acks::Leader);
    let first = producer.topic_with("own", slow.clone()).unwrap();
    assert!(producer.topic_with("own", slow).is_ok(), "the same settings");
    acked(first.send("k", "v").unwrap());
    acked(producer.topic("own").unwrap().send("k", "v").unwrap());
    assert!(cluster.records("own", 0).iter().all(|record| record.producer_id == -1));

    let refused = |name: &str, config| match producer.topic_with(name, config) {
        Ok(_) => panic!("{name} is accepted"),
        Err(error) => match error.kind() {
            SendErrorKind::TopicConfig(cause) => (error.to_string(), (**cause).clone()),
            _ => panic!("{error}"),
        },
    };
    let (text, cause) = refused("own", TopicConfig::new().acks(Acks::None));
    assert!(matches!(cause, BuildError::Conflict(_)), "{text}");
    assert!(text.contains("topic \"own\" has other settings already"), "{text}");
    drop(producer.topic("plain").unwrap());
    let (text, _) = refused("plain", TopicConfig::new().linger(secs(1)));
    assert!(text.contains("has other settings already"), "{text}");
    // What needs memory that was not reserved.
    assert!(producer.topic_with("fits", TopicConfig::new().batch_size(1 << 20)).is_ok());
    let (text, _) = refused("large", TopicConfig::new().batch_size((1 << 20) + 1));
    assert!(text.contains("batches of at most 1048576 bytes"), "{text}");
    let (text, _) = refused("packed", TopicConfig::new().compression(Compression::gzip()));
    assert!(text.contains("without memory to compress in"), "{text}");
    let (text, _) = refused("late", TopicConfig::new().linger(secs(100)));
    assert!(text.contains("topic \"late\": delivery_timeout"), "{text}");
    close(&producer);
}

#[test]
fn a_topic_cannot_become_idempotent_in_a_producer_without_identity() {
    let cluster = three_topics(1);
    let producer = builder(&cluster).acks(Acks::Leader).build().unwrap();
    let refused = producer.topic_with("all", TopicConfig::new().acks(Acks::All)).unwrap_err();
    assert!(refused.to_string().contains("without an identity"), "{refused}");
    close(&producer);
}

/// A lone record with `quiet` acks, behind a backlog of full batches with two kinds of acks: how
/// many records of the backlog were appended before it, of how many.
fn passed_by(quiet: Acks, busy: [Acks; 2]) -> (usize, usize) {
    const ROUNDS: i64 = 300;
    let cluster = EmbeddedCluster::builder()
        .topic_with_log_append_time("one", 6)
        .topic_with_log_append_time("two", 6)
        .topic_with_log_append_time("t", 1)
        .start()
        .unwrap();
    let producer = patient(&cluster)
        .topic_config("one", TopicConfig::new().acks(busy[0]))
        .topic_config("two", TopicConfig::new().acks(busy[1]))
        .topic_config("t", TopicConfig::new().acks(quiet))
        .configure(|config| {
            config.batch_size = 4 * 1_024;
            config.buffer_memory = 512 << 20;
            config.request_bytes_max = Some(20_000);
        })
        .build()
        .unwrap();
    let [one, two, t] = ["one", "two", "t"].map(|name| producer.topic(name).unwrap());
    warm(&one, 6);
    warm(&two, 6);
    warm(&t, 1);
    cluster.script([tidegate::embedded::Fault::delay(millis(2)).times(1_000_000)]);
    cluster.pause_broker(1);
    let value = "v".repeat(3_000);
    let mut backlog = Vec::new();
    for _ in 0..ROUNDS {
        for partition in 0..6 {
            backlog.push(one.send_record(to(partition, &value)).unwrap());
            backlog.push(two.send_record(to(partition, &value)).unwrap());
        }
    }
    let lone = t.send_record(to(0, "quiet")).unwrap();
    cluster.resume_broker(1);
    acked(lone);
    let count = backlog.len();
    backlog.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    let at = cluster.records("t", 0).last().unwrap().timestamp;
    let before = ["one", "two"].iter().flat_map(|topic| {
        (0..6).flat_map(|partition| cluster.records(topic, partition).into_iter().skip(1))
    });
    (before.filter(|record| record.timestamp < at).count(), count)
}

#[test]
fn a_lone_record_has_its_turn_beside_two_other_kinds_of_acks() {
    for (quiet, busy) in [
        (Acks::None, [Acks::All, Acks::Leader]),
        (Acks::Leader, [Acks::All, Acks::None]),
        (Acks::All, [Acks::Leader, Acks::Leader]),
    ] {
        let (before, count) = passed_by(quiet, busy);
        assert!(before < count / 2, "{quiet:?} beside {busy:?}: {before} of {count} went before");
    }
}

#[test]
fn properties_set_a_topic_apart() {
    let cluster = three_topics(1);
    let servers = cluster.bootstrap_servers();
    let config = ProducerConfig::from_properties([
        ("bootstrap.servers", servers.as_str()),
        ("compression.type", "gzip"),
        ("tidegate.pinning", "false"),
        ("tidegate.topic.all.compression.type", "none"),
    ])
    .unwrap();
    let producer = Producer::from_config(config).unwrap();
    let value = "v".repeat(10_000);
    let bytes = || cluster.stats().bytes();
    acked(producer.topic("leader").unwrap().send("k", &value).unwrap());
    let packed = bytes();
    assert!(packed < 5_000, "{packed}");
    acked(producer.topic("all").unwrap().send("k", &value).unwrap());
    assert!(bytes() > packed + 10_000, "{}", bytes());
    close(&producer);
}
