//! Leaders move, brokers come and go, partitions are added.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use super::*;
use tidegate::{Certainty, DeliveryErrorCause, SendErrorKind};

fn quick(cluster: &EmbeddedCluster) -> ProducerBuilder {
    builder(cluster).batch_size(2_000).configure(|c| {
        c.retry_backoff = millis(5);
        c.retry_backoff_max = millis(50);
        c.reconnect_backoff = millis(5);
        c.reconnect_backoff_max = millis(50);
        c.metadata_min_refresh = millis(10);
    })
}

/// Sends from a thread of its own, in turn over `partitions`, until told to stop; then checks that
/// each record is in the log once and in order.
fn under_traffic(
    cluster: &EmbeddedCluster,
    builder: ProducerBuilder,
    partitions: i32,
    disturb: impl FnOnce(&dyn Fn(i32)),
) {
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicI32::new(0));
    let deliveries = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut deliveries = Vec::new();
            while !stop.load(Ordering::Relaxed) && deliveries.len() < 2_000_000 {
                let n = deliveries.len() as i32;
                deliveries.push(topic.send_record(to(n % partitions, &n.to_string())).unwrap());
                sent.store(n, Ordering::Relaxed);
                if n % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
            deliveries
        });
        let more = |records: i32| {
            let until = sent.load(Ordering::Relaxed) + records;
            eventually("the sender goes on", || sent.load(Ordering::Relaxed) > until);
        };
        more(1_000);
        disturb(&more);
        more(2_000);
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    let total = deliveries.len() as i32;
    let mut offsets = Vec::new();
    for delivery in deliveries {
        offsets.push(acked(delivery).offset());
    }
    close(&producer);
    for partition in 0..partitions {
        let expected: Vec<String> =
            (partition..total).step_by(partitions as usize).map(|n| n.to_string()).collect();
        let stored = values(&cluster.records("t", partition));
        assert_eq!(stored.len(), expected.len(), "partition {partition}: lost or doubled");
        assert!(stored == expected, "partition {partition} is out of order");
    }
    for (n, offset) in offsets.iter().enumerate() {
        let expected = i64::from(n as i32 / partitions);
        assert!(offset.is_none_or(|offset| offset == expected));
    }
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn leaders_move_while_records_are_sent() {
    for loops in [EventLoops::per_broker(), EventLoops::shared(1)] {
        let cluster = cluster(3, 3);
        let builder = quick(&cluster).event_loops(loops.unpinned());
        under_traffic(&cluster, builder, 3, |more| {
            for round in 0..12 {
                for partition in 0..3 {
                    assert!(cluster.move_leader("t", partition, 1 + (round + partition) % 3));
                }
                more(500);
            }
        });
    }
}

#[test]
fn f03_a_leader_swings_without_a_pause() {
    let cluster = cluster(2, 1);
    let builder = quick(&cluster).event_loops(EventLoops::per_broker().unpinned());
    under_traffic(&cluster, builder, 1, |more| {
        for round in 0..200 {
            cluster.move_leader("t", 0, 1 + round % 2);
            more(20);
        }
    });
}

#[test]
fn leaders_move_while_connections_break() {
    use tidegate::embedded::Fault;
    let cluster = cluster(2, 2);
    let builder = quick(&cluster).event_loops(EventLoops::per_broker().unpinned());
    under_traffic(&cluster, builder, 2, |more| {
        for round in 0..20 {
            cluster.script([
                Fault::close_after_append(),
                Fault::produce_error("t", 0, 7).after_append(),
                Fault::omit_partition().after_append(),
            ]);
            cluster.move_leader("t", round % 2, 1 + (round / 2) % 2);
            more(300);
        }
        cluster.clear_faults();
    });
}

#[test]
fn a_leader_hint_is_followed_without_asking() {
    use tidegate::embedded::Fault;
    let cluster = cluster(2, 1);
    // Nobody is asked for metadata before the topic is wanted: afterwards it would be too late.
    (1..=2).for_each(|id| cluster.pause_broker(id));
    let producer = patient(&cluster).configure(|c| c.metadata_min_refresh = FAR).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let first = topic.send((), "first").unwrap();
    (1..=2).for_each(|id| cluster.resume_broker(id));
    acked(first);
    cluster.move_leader("t", 0, 2);
    let epoch = cluster.leader_epoch("t", 0).unwrap();
    cluster.script(Fault::produce_error("t", 0, 6).leader_hint(2, epoch));
    let at = acked(topic.send((), "moved").unwrap());
    assert_eq!(at.offset(), Some(1));
    assert!(cluster.stats().broker(2).records == 1);
}

#[test]
fn f09_a_partition_without_leader_waits_for_one() {
    let cluster = cluster(2, 2);
    cluster.set_leaderless("t", 0);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut waiting: Vec<_> =
        (0..100).map(|n: u32| topic.send_record(to(0, &n.to_string())).unwrap()).collect();
    // The other partition goes on, and records without a key avoid the one without leader.
    for _ in 0..100 {
        acked(topic.send_record(to(1, "fine")).unwrap());
        assert_eq!(acked(topic.send((), "sticky").unwrap()).partition(), 1);
    }
    assert!(!topic.is_available(0) && topic.is_available(1) && !topic.is_available(2));
    assert!(waiting.iter_mut().all(|delivery| delivery.try_take().is_none()));
    cluster.move_leader("t", 0, 2);
    for (n, delivery) in waiting.into_iter().enumerate() {
        assert_eq!(acked(delivery).offset(), Some(n as i64));
    }
    assert!(topic.is_available(0));
    // And one that loses its leader later.
    cluster.set_leaderless("t", 0);
    let late = topic.send_record(to(0, "late")).unwrap();
    acked(topic.send_record(to(1, "fine")).unwrap());
    cluster.move_leader("t", 0, 1);
    acked(late);
    close(&producer);
}

#[test]
fn a_partition_that_stays_without_leader_times_out() {
    let cluster = cluster(1, 2);
    cluster.set_leaderless("t", 0);
    let producer =
        quick(&cluster).request_timeout(millis(100)).delivery_timeout(millis(300)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    // Known, however slow the machine is.
    goes_on(&topic, 1, "v");
    let error = failed(topic.send_record(to(0, "v")).unwrap());
    assert_eq!(error.certainty(), tidegate::Certainty::NotWritten);
    assert!(error.to_string().contains("no leader"), "{error}");
    goes_on(&topic, 1, "v");
}

#[test]
fn f08_added_partitions_get_traffic() {
    let cluster = cluster(2, 1);
    let producer = quick(&cluster).configure(|c| c.metadata_max_age = millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.add_partitions("t", 40);
    eventually("the producer sees them", || topic.partitions() == 40);
    let deliveries: Vec<_> =
        (0..2_000_u32).map(|n| topic.send(n.to_be_bytes(), "v").unwrap()).collect();
    let mut counts = [0_u32; 40];
    deliveries.into_iter().for_each(|d| counts[acked(d).partition() as usize] += 1);
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

#[test]
fn a_broker_is_restarted_and_traffic_returns() {
    let cluster = cluster(1, 1);
    let builder = quick(&cluster);
    under_traffic(&cluster, builder, 1, |more| {
        for _ in 0..3 {
            cluster.stop_broker(1);
            more(300);
            cluster.restart_broker(1).unwrap();
            more(1_000);
        }
    });
}

#[test]
fn a_leader_is_killed_while_records_are_sent() {
    let cluster = cluster(3, 3);
    let builder = quick(&cluster);
    under_traffic(&cluster, builder, 3, |more| {
        for id in 1..=3 {
            cluster.kill_broker(id);
            more(1_000);
            cluster.restart_broker(id).unwrap();
            for partition in 0..3 {
                cluster.move_leader("t", partition, id);
            }
            more(1_000);
        }
    });
}

#[test]
fn a_leader_elected_long_after_the_old_one_died_is_found() {
    let cluster = cluster(2, 2);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let metadata = |stats: &tidegate::embedded::ClusterStats| stats.requests_of(3);
    let before = metadata(&cluster.stats());
    let dead = cluster.leader("t", 0).unwrap();
    cluster.stop_broker(dead);
    let delivery = topic.send_record(to(0, "after the death")).unwrap();
    // Metadata goes on naming the dead leader until there is an election, and is asked again.
    assert!(cluster.wait_until(LONG, |stats| metadata(stats) >= before + 10));
    cluster.fail_over(dead);
    acked(delivery);
    close(&producer);
}

#[test]
fn the_metadata_brokers_death_is_survived() {
    // Whichever broker it asked, that one dies: one after the other, all of them.
    let cluster = cluster(3, 1);
    let producer = quick(&cluster).configure(|c| c.metadata_max_age = millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "before").unwrap());
    for id in [2, 3] {
        cluster.kill_broker(id);
        let name = format!("after{id}");
        cluster.create_topic(&name, 1);
        acked(producer.topic(&name).unwrap().send((), "new topic").unwrap());
        cluster.restart_broker(id).unwrap();
    }
    cluster.kill_broker(1);
    acked(topic.send((), "moved").unwrap());
    cluster.create_topic("last", 1);
    acked(producer.topic("last").unwrap().send((), "v").unwrap());
}

#[test]
fn all_brokers_come_back() {
    let cluster = cluster(2, 2);
    let producer = quick(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    (1..=2).for_each(|id| cluster.stop_broker(id));
    let deliveries: Vec<_> =
        (0..100).map(|n: i32| topic.send_record(to(n % 2, &n.to_string())).unwrap()).collect();
    let new = producer.topic("new").unwrap().send((), "v").unwrap();
    cluster.create_topic("new", 1);
    (1..=2).for_each(|id| cluster.restart_broker(id).unwrap());
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    acked(new);
    close(&producer);
    for partition in 0..2 {
        let records = cluster.records("t", partition);
        assert_eq!(records.len(), 51);
    }
}

#[test]
fn the_last_of_three_addresses_is_enough() {
    let cluster = cluster(3, 1);
    cluster.kill_broker(1);
    cluster.kill_broker(2);
    let producer = builder(&cluster).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
    assert_eq!(cluster.leader("t", 0), Some(3));
}

#[test]
fn f22_a_bootstrap_address_that_hangs_does_not_hold_up_the_others() {
    let cluster = cluster(3, 1);
    cluster.move_leader("t", 0, 3);
    cluster.pause_broker(1);
    cluster.pause_broker(2);
    let producer = quick(&cluster).request_timeout(millis(200)).build().unwrap();
    acked(producer.topic("t").unwrap().send((), "v").unwrap());
}

#[test]
fn c19_a_topic_is_deleted_and_made_anew() {
    let cluster = cluster(1, 1);
    let producer = quick(&cluster).configure(|c| c.metadata_max_age = millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.delete_topic("t");
    let waiting = topic.send((), "waits").unwrap();
    cluster.create_topic("t", 1);
    acked(waiting);
    for _ in 0..10 {
        acked(topic.send((), "v").unwrap());
    }
    close(&producer);
    assert_eq!(cluster.records("t", 0).len(), 11);
}

#[test]
fn c19_a_topic_made_anew_with_fewer_partitions_has_all_keys_in_those() {
    let cluster = cluster(1, 8);
    let quick = || quick(&cluster).configure(|c| c.metadata_max_age = millis(50)).build().unwrap();
    let producer = quick();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 8);
    cluster.delete_topic("t");
    cluster.create_topic("t", 3);
    eventually("the producer sees it", || topic.partitions() == 3);
    let fresh = quick();
    let fresh = fresh.topic("t").unwrap();
    for n in 0..100_u32 {
        let place = |topic: &Topic| acked(topic.send(n.to_be_bytes(), "v").unwrap()).partition();
        assert_eq!(place(&topic), place(&fresh));
        acked(topic.send((), "v").unwrap());
    }
    let to_the_sixth = || topic.send_record(Record::new().value("v").partition(5));
    let (partition, partitions, by_partitioner) = (5, 3, false);
    match to_the_sixth() {
        // Brokers were asked, and said so.
        Ok(delivery) => {
            let cause =
                DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner };
            assert_eq!(*failed(delivery).cause(), cause);
        }
        // They had just been asked.
        Err(error) => {
            let kind = SendErrorKind::PartitionOutOfRange { partition, partitions, by_partitioner };
            assert_eq!(*error.kind(), kind);
        }
    }
    cluster.add_partitions("t", 6);
    eventually("the producer sees the growth", || topic.partitions() == 6);
    acked(to_the_sixth().unwrap());
    close(&producer);
}

#[test]
fn old_protocol_versions_are_negotiated() {
    let cluster = cluster(1, 1);
    cluster.limit_api(0, 3, 3);
    cluster.limit_api(3, 1, 4);
    cluster.limit_api(22, 0, 0);
    cluster.limit_api(18, 0, 1);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for n in 0..10 {
        assert_eq!(acked(topic.send((), "v").unwrap()).offset(), Some(n));
    }
    assert!(cluster.stats().broker(1).api_versions.contains_key(&(0, 3)));
}

#[test]
fn c30_a_broker_without_a_version_of_produce_in_common_is_named_and_tried_again() {
    // A broker of some later age may have dropped all of them; one that is no broker may have none.
    for (min, max) in [(90, 99), (1, 0)] {
        let cluster = cluster(1, 1);
        cluster.limit_api(0, min, max);
        let builder = quick(&cluster).delivery_timeout(millis(300)).request_timeout(millis(100));
        let producer = builder.build().unwrap();
        let topic = producer.topic("t").unwrap();
        // The first may expire before metadata is there, on a busy machine.
        in_time(|| {
            let error = failed(topic.send((), "v").unwrap());
            assert_eq!(error.certainty(), Certainty::NotWritten, "{error}");
            error.to_string().contains("no version of Produce")
        });
        cluster.limit_api(0, 3, 9);
        goes_on(&topic, 0, "after");
        assert_eq!(values(&cluster.records("t", 0)).last().map(String::as_str), Some("after"));
    }
}

#[test]
fn a_move_waits_for_what_is_in_flight_at_the_old_leader() {
    use tidegate::embedded::Fault;
    for after_append in [true, false] {
        let cluster = cluster(2, 1);
        let producer = quick(&cluster)
            .batch_size(0)
            .event_loops(EventLoops::per_broker().unpinned())
            .configure(|c| c.metadata_max_age = millis(20))
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        let fault = Fault::delay(millis(300)).broker(1);
        cluster.script(if after_append { fault.after_append() } else { fault });
        let requests = cluster.stats().broker(1).produce_requests;
        let slow: Vec<_> = (0..3).map(|n: u32| topic.send((), n.to_string()).unwrap()).collect();
        let arrived =
            |stats: &tidegate::embedded::ClusterStats| stats.broker(1).produce_requests > requests;
        assert!(cluster.wait_until(LONG, arrived));
        cluster.move_leader("t", 0, 2);
        let asked = cluster.stats().requests_of(3);
        assert!(cluster.wait_until(LONG, |stats| stats.requests_of(3) > asked + 2));
        let behind: Vec<_> = (3..6).map(|n: u32| topic.send((), n.to_string()).unwrap()).collect();
        for (n, delivery) in slow.into_iter().chain(behind).enumerate() {
            assert_eq!(acked(delivery).offset(), Some(n as i64 + 1));
        }
        assert_eq!(values(&cluster.records("t", 0))[1..], ["0", "1", "2", "3", "4", "5"]);
    }
}

#[test]
fn a_leader_that_knows_nothing_of_the_producer_is_proved_by_one_batch() {
    use tidegate::embedded::Fault;
    // It takes any first sequence: were five on their way, the second would be taken for the first.
    for fault in [Fault::produce_error("t", 0, 19), Fault::omit_partition()] {
        let cluster = cluster(1, 1);
        cluster.pause_broker(1);
        let producer = quick(&cluster).batch_size(0).build().unwrap();
        let topic = producer.topic("t").unwrap();
        cluster.script(fault);
        let deliveries: Vec<_> =
            (0..30).map(|n: u32| topic.send((), n.to_string()).unwrap()).collect();
        cluster.resume_broker(1);
        for (n, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(acked(delivery).offset(), Some(n as i64));
        }
        let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(values(&cluster.records("t", 0)), expected);
    }
}

#[test]
fn c21_keys_keep_their_partition_whatever_happens_to_leaders_and_growth() {
    let cluster = cluster(2, 4);
    let producer = quick(&cluster).configure(|c| c.metadata_max_age = millis(50)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 4);
    let keys: Vec<_> = (0..40_u32).map(u32::to_be_bytes).collect();
    let send = || keys.iter().map(|key| topic.send(key, "v").unwrap()).collect::<Vec<_>>();
    let partitions: Vec<_> = send().into_iter().map(|d| acked(d).partition()).collect();
    cluster.set_leaderless("t", 1);
    eventually("it is seen", || !topic.is_available(1));
    // Those of the leaderless partition wait there, and stay there when the topic has grown.
    let waiting = send();
    cluster.add_partitions("t", 8);
    eventually("the growth is seen", || topic.partitions() == 8);
    cluster.move_leader("t", 1, 2);
    let after: Vec<_> = waiting.into_iter().map(|d| acked(d).partition()).collect();
    assert_eq!(after, partitions);
    assert!(partitions.contains(&1));
}

/// The broker that the metadata channel asks. Before there are leaders: whoever connects to those
/// asks them for their cluster.
fn asked_for_metadata(cluster: &EmbeddedCluster) -> i32 {
    let asked = |broker: &tidegate::embedded::BrokerStats| {
        broker.api_versions.iter().any(|(&(key, _), &count)| key == 3 && count > 0)
    };
    assert!(cluster.wait_until(LONG, |stats| stats.brokers.iter().any(asked)));
    let stats = cluster.stats();
    stats.brokers.iter().find(|it| asked(it)).expect("it was there").broker
}

/// The leader of a partition moves between two brokers, while the third, which the metadata channel
/// asks, is not of use. Within two seconds a second broker is asked.
fn moves_behind_the_back_of_the_broker_that_is_asked(trouble: impl Fn(&EmbeddedCluster, i32)) {
    let cluster = cluster(3, 3);
    // Before version 10 a leader that was deposed names no other.
    cluster.limit_api(0, 3, 9);
    let producer = quick(&cluster).build().unwrap();
    let asked = asked_for_metadata(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 3);
    let partition = asked % 3;
    let leader = cluster.leader("t", partition).unwrap();
    assert_ne!(leader, asked);
    trouble(&cluster, asked);
    cluster.move_leader("t", partition, 6 - leader - asked);
    let start = Instant::now();
    acked(topic.send_record(to(partition, "moved")).unwrap());
    assert!(start.elapsed() < secs(20), "{:?}", start.elapsed());
    cluster.resume_broker(asked);
    close(&producer);
}

#[test]
fn f44_a_metadata_broker_that_hangs_is_not_waited_for() {
    // The request's timeout is 30 s.
    moves_behind_the_back_of_the_broker_that_is_asked(|cluster, asked| cluster.pause_broker(asked));
}

#[test]
fn f44_a_metadata_broker_with_an_old_picture_is_left() {
    moves_behind_the_back_of_the_broker_that_is_asked(|cluster, asked| {
        cluster.isolate_broker(asked);
    });
}
