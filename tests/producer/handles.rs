//! Topics with a key, flushes of one topic, and whether a topic takes records.

use tidegate::{Certainty, DeliveryErrorCause, EveryTopic, PartitionRequest};

use super::*;

#[test]
fn a_topic_with_a_key_sends_where_the_topic_would_and_follows_new_partitions() {
    let cluster = cluster(2, 7);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let keys = ["", "a", "customer-42", "XAU", "a much longer key than the others"];
    // Before the topic is known, too.
    let early = topic.with_key("early").send("1").unwrap();
    assert_eq!(acked(early).partition(), acked(topic.send("early", "2").unwrap()).partition());
    for partitions in [7, 12] {
        cluster.add_partitions("t", partitions);
        acked(topic.send_record(to(partitions - 1, "wake")).unwrap());
        let keyed: Vec<_> = keys.iter().map(|key| topic.with_key(*key)).collect();
        for (key, keyed) in keys.iter().zip(&keyed) {
            let at = [
                keyed.send("1").unwrap(),
                keyed.try_send("2").unwrap(),
                block_on(keyed.send_async("3")).unwrap(),
                topic.send(*key, "4").unwrap(),
            ]
            .map(|delivery| acked(delivery).partition());
            assert_eq!(at, [at[0]; 4], "{key:?} of {partitions}");
            let records = cluster.records("t", at[0]);
            assert_eq!(records.last().unwrap().key.as_deref(), Some(key.as_bytes()));
        }
    }
    assert!(!format!("{:?}", topic.with_key("confidential")).contains("confidential"));
    // No key: spread as any other.
    let keyless = topic.with_key(());
    assert!(keyless.key().is_none());
    acked(keyless.send("5").unwrap());
    close(&producer);
    assert!(topic.with_key("a").send("6").is_err(), "closed");
}

#[test]
fn a_topic_with_a_key_asks_a_partitioner_of_ones_own_for_each_record() {
    let cluster = cluster(1, 3);
    let by_value = |request: &PartitionRequest<'_>| {
        request.value.map_or(0, |value| i32::from(value[0] - b'0'))
    };
    let producer = builder(&cluster).partitioner(EveryTopic::new(by_value)).build().unwrap();
    let keyed = producer.topic("t").unwrap().with_key("k");
    for value in ["0", "2", "1", "2"] {
        let at = acked(keyed.send(value).unwrap());
        assert_eq!(at.partition().to_string(), value);
    }
}

#[test]
fn a_flush_of_one_topic_leaves_the_others_lingering() {
    let cluster = EmbeddedCluster::builder().topic("t", 2).topic("u", 1).start().unwrap();
    let producer = lingering(&cluster).build().unwrap();
    let (t, u) = (producer.topic("t").unwrap(), producer.topic("u").unwrap());
    // Stashed at first: their topics are not known.
    let mut first = t.send_record(to(0, "1")).unwrap();
    let mut other = u.send("k", "v").unwrap();
    let mut second = t.send_record(to(1, "2")).unwrap();
    t.flush().wait().unwrap();
    assert!(first.try_take().unwrap().is_ok() && second.try_take().unwrap().is_ok());
    assert!(other.wait_timeout(millis(20)).is_none(), "it lingers");
    producer.flush().wait().unwrap();
    assert!(other.try_take().unwrap().is_ok());
}

#[test]
fn a_topic_is_writable_while_a_partition_takes_records() {
    let cluster = cluster(2, 2);
    let producer = patient(&cluster)
        .configure(|config| {
            (config.high_watermark, config.low_watermark) = (Some(64 << 10), Some(32 << 10));
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    assert!(topic.is_writable(), "the stash has room");
    warm(&topic, 2);
    let paused = cluster.leader("t", 0).unwrap();
    let other = cluster.leader("t", 1).unwrap();
    cluster.pause_broker(paused);
    let big = "x".repeat(8_000);
    let fill = |partition| {
        let mut sent = Vec::new();
        while topic.is_available(partition) {
            sent.push(topic.send_record(to(partition, &big)).unwrap());
        }
        sent
    };
    let mut waiting = fill(0);
    assert!(topic.is_writable(), "the other broker takes records");
    cluster.pause_broker(other);
    waiting.extend(fill(1));
    assert!(!topic.is_writable());
    let refused = topic.try_send((), "v").unwrap_err();
    assert!(refused.to_string().contains("high watermark"), "{refused}");
    cluster.resume_broker(paused);
    cluster.resume_broker(other);
    for delivery in waiting {
        let outcome = outcome(delivery);
        assert!(
            outcome.is_ok(),
            "{:?}",
            outcome.map_err(|error| error.certainty() == Certainty::Unknown)
        );
    }
    eventually("it is writable again", || topic.is_writable());
}

/// A topic that does not exist any more is unknown again, and may come back another.
#[test]
fn a_topic_with_a_key_finds_its_partition_anew_when_its_topic_was_gone() {
    let cluster = cluster(2, 3);
    let producer = builder(&cluster)
        .configure(|config| config.topic_unknown_max = millis(100))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let keys: Vec<String> = (0..40).map(|n| format!("key {n}")).collect();
    let keyed: Vec<_> = keys.iter().map(|key| topic.with_key(key)).collect();
    keyed.iter().for_each(|keyed| drop(acked(keyed.send("1").unwrap())));
    cluster.delete_topic("t");
    eventually("the topic is gone", || {
        let error = outcome(topic.send("k", "v").unwrap()).err();
        matches!(error.map(|it| it.cause().clone()), Some(DeliveryErrorCause::UnknownTopic { .. }))
    });
    cluster.create_topic("t", 2);
    for (key, keyed) in keys.iter().zip(&keyed) {
        let at = acked(keyed.send("2").unwrap()).partition();
        assert_eq!(at, acked(topic.send(key, "3").unwrap()).partition(), "{key}");
    }
}
