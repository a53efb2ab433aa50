//! Partition numbers: `i32` wherever a user meets one, and negative ones are refused.

use tidegate::{DeliveryErrorCause, EveryTopic, PartitionRequest, SendErrorKind};

use super::*;

const NEGATIVE: [i32; 3] = [-1, -16, i32::MIN];

fn out_of_range(partition: i32, partitions: i32, by_partitioner: bool) -> SendErrorKind {
    SendErrorKind::PartitionOutOfRange { partition, partitions, by_partitioner }
}

#[test]
fn the_partition_of_an_acknowledgement_is_one_that_a_record_can_name() {
    let cluster = cluster(2, 6);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for n in 0..20 {
        let at = acked(topic.send(format!("key {n}"), "v").unwrap());
        let beside = Record::new().value("beside").partition(at.partition());
        assert_eq!(acked(topic.send_record(beside).unwrap()).partition(), at.partition());
        assert!((0..topic.partitions()).contains(&at.partition()));
        assert!(topic.is_available(at.partition()));
    }
}

#[test]
fn a_negative_partition_is_refused_where_the_topic_is_known() {
    let cluster = cluster(1, 3);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    let asked = cluster.stats().requests_of(3);
    for partition in NEGATIVE {
        let error = topic.send_record(to(partition, "v")).unwrap_err();
        assert_eq!(*error.kind(), out_of_range(partition, 3, false));
        let words = format!("partition {partition}, named by the record, does not exist");
        assert!(error.to_string().contains(&words), "{error}");
        assert!(!error.is_retriable() && !topic.is_available(partition));
    }
    acked(topic.send_record(to(2, "v")).unwrap());
    assert_eq!(cluster.stats().requests_of(3), asked, "brokers were asked for a negative number");
}

/// A partition that is too large may exist once the topic is known; a negative one never will.
#[test]
fn a_negative_partition_is_refused_where_the_topic_is_not_known() {
    let cluster = cluster(1, 3);
    cluster.pause_broker(1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let far = topic.send_record(to(3, "far")).unwrap();
    for partition in NEGATIVE {
        let error = topic.send_record(to(partition, "v")).unwrap_err();
        assert_eq!(*error.kind(), out_of_range(partition, 0, false));
        let words = format!("partition {partition}, named by the record, does not exist");
        assert!(error.to_string().contains(&words), "{error}");
        assert!(!error.to_string().contains("has 0"), "nobody knows how many it has: {error}");
    }
    let last = topic.send_record(to(2, "last")).unwrap();
    cluster.resume_broker(1);
    assert_eq!(acked(last).partition(), 2);
    let (partition, partitions, by_partitioner) = (3, 3, false);
    let cause = DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner };
    assert_eq!(*failed(far).cause(), cause);
    close(&producer);
    let stored: Vec<_> = (0..3).flat_map(|p| values(&cluster.records("t", p))).collect();
    assert_eq!(stored, ["last"], "a refused record was written");
}

#[test]
fn a_partitioner_that_returns_a_negative_number_fails_its_record_only() {
    let cluster = cluster(1, 3);
    cluster.pause_broker(1);
    let by_value = |request: &PartitionRequest<'_>| match request.value {
        Some(b"negative") => -5,
        _ => request.partitions.count() - 1,
    };
    let producer = patient(&cluster).partitioner(EveryTopic::new(by_value)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    // The partitioner is asked once the topic is known: the record waits until then.
    let stashed = topic.send("k", "negative").unwrap();
    let behind = topic.send("k", "v").unwrap();
    cluster.resume_broker(1);
    assert_eq!(acked(behind).partition(), 2);
    let error = failed(stashed);
    let (partition, partitions, by_partitioner) = (-5, 3, true);
    let cause = DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner };
    assert_eq!(*error.cause(), cause);
    let words = "partition -5, chosen by the partitioner, does not exist";
    assert!(error.to_string().contains(words), "{error}");
    let error = topic.send("k", "negative").unwrap_err();
    assert_eq!(*error.kind(), out_of_range(-5, 3, true));
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(acked(topic.send("k", "v").unwrap()).partition(), 2);
}
