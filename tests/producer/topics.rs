//! Topics and partitions come and go.

use std::sync::atomic::{AtomicBool, Ordering};

use tidegate::embedded::Fault;
use tidegate::{Certainty, DeliveryErrorCause, PressureScope, RejectRecords, SendErrorKind};

use super::*;

/// The API key of Metadata.
const METADATA: i16 = 3;

#[test]
fn f54_a_deleted_topic_leaves_the_others_of_its_leader_their_rate() {
    let cluster = EmbeddedCluster::builder().topic("a", 2).topic("b", 2);
    let cluster = cluster.discard_payloads(true).start().unwrap();
    let unknown_max = secs(4);
    let producer = builder(&cluster)
        .buffer_memory(8 << 20)
        .configure(|c| c.topic_unknown_max = unknown_max)
        .build()
        .unwrap();
    let (a, b) = (producer.topic("a").unwrap(), producer.topic("b").unwrap());
    warm(&a, 2);
    warm(&b, 2);
    let stop = AtomicBool::new(false);
    let acked_of_b = || cluster.high_watermark("b", 0) + cluster.high_watermark("b", 1);
    let rate = |time: Duration| {
        let before = acked_of_b();
        std::thread::sleep(time);
        acked_of_b() - before
    };
    // Parked while there is no room; what is refused in the end fails here, or later.
    let hammer = |topic: &Topic| {
        while !stop.load(Ordering::Relaxed) {
            drop(topic.send((), &[7; 1_000]));
        }
    };
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| hammer(&a));
        scope.spawn(|| hammer(&b));
        let start = Instant::now();
        let under_way = || acked_of_b() > 20_000 && cluster.high_watermark("a", 0) > 1_000;
        while !under_way() && start.elapsed() < LONG {
            std::thread::sleep(millis(1));
        }
        let before = rate(secs(1));
        cluster.delete_topic("a");
        // Before brokers have said for long enough that it is gone, and from then on.
        let after: Vec<_> = (0..8).map(|_| rate(secs(1))).collect();
        stop.store(true, Ordering::Relaxed);
        // Whoever is parked for a topic that is gone goes on.
        cluster.create_topic("a", 2);
        (before, after)
    });
    assert!(after.iter().all(|&rate| rate > before / 4), "{before} a second, then {after:?}");
    close(&producer);
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

/// The rate of the other topic is far below what the machine can, so that every span must have it,
/// whatever else runs.
#[test]
fn f54_a_topic_with_a_steady_rate_keeps_it_while_another_of_its_leader_is_deleted() {
    const PER_SECOND: u32 = 500;
    // A tenth of it is what a busy machine may hold the test up.
    const SPAN: Duration = Duration::from_secs(4);
    let cluster = EmbeddedCluster::builder().topic("a", 2).topic("b", 2);
    let cluster = cluster.discard_payloads(true).start().unwrap();
    let producer = builder(&cluster)
        .buffer_memory(8 << 20)
        .configure(|c| c.topic_unknown_max = 2 * SPAN)
        .build()
        .unwrap();
    let (a, b) = (producer.topic("a").unwrap(), producer.topic("b").unwrap());
    warm(&a, 2);
    warm(&b, 2);
    let stop = AtomicBool::new(false);
    // As fast as there is room.
    let hammer = || {
        while !stop.load(Ordering::Relaxed) {
            drop(a.send((), &[7; 1_000]));
        }
    };
    // One after the other when it is due, several at once if it was kept from it.
    let steady = || {
        let start = Instant::now();
        let mut sent = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let due = Duration::from_secs(1) * sent.len() as u32 / PER_SECOND;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            sent.push(b.send((), &[7; 1_000]).expect("there is room in time"));
        }
        sent
    };
    let acked_of_b = || cluster.high_watermark("b", 0) + cluster.high_watermark("b", 1);
    // Of what is due, in per cent.
    let share = || {
        let (start, before) = (Instant::now(), acked_of_b());
        std::thread::sleep(SPAN);
        let due = start.elapsed().as_secs_f64() * f64::from(PER_SECOND);
        100.0 * (acked_of_b() - before) as f64 / due
    };
    let (shares, sent) = std::thread::scope(|scope| {
        scope.spawn(hammer);
        let steady = scope.spawn(steady);
        let start = Instant::now();
        let under_way = || acked_of_b() > 500 && cluster.high_watermark("a", 0) > 1_000;
        while !under_way() && start.elapsed() < LONG {
            std::thread::sleep(millis(1));
        }
        cluster.delete_topic("a");
        // Before brokers have said for long enough that it is gone, and from then on.
        let shares: Vec<_> = (0..4).map(|_| share()).collect();
        stop.store(true, Ordering::Relaxed);
        // Whoever is parked for a topic that is gone goes on.
        cluster.create_topic("a", 2);
        (shares, steady.join().unwrap())
    });
    assert!(shares.iter().all(|&share| share >= 90.0), "per cent of what is due: {shares:?}");
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
}

/// Metadata has the topic, its leader denies it: that may last as long as deliveries do.
#[test]
fn f54_what_a_leader_denies_again_and_again_takes_the_stashs_room_and_not_the_leaders() {
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    let cluster = EmbeddedCluster::builder().topic("a", 1).topic("b", 1).start().unwrap();
    let producer = patient(&cluster)
        .buffer_memory(8 << 20)
        .backoff(RejectRecords)
        .configure(|c| {
            (c.retry_backoff, c.retry_backoff_max) = (millis(1), millis(10));
            c.topic_unknown_max = FAR;
        })
        .build()
        .unwrap();
    let (a, b) = (producer.topic("a").unwrap(), producer.topic("b").unwrap());
    warm(&a, 1);
    warm(&b, 1);
    let charged = || producer.broker_levels()[0].charged;
    let denied = Fault::produce_error("a", 0, UNKNOWN_TOPIC_OR_PARTITION);
    cluster.script(denied.times(1_000_000));
    cluster.pause_broker(1);
    let mut sent = vec![a.send((), "first").unwrap()];
    assert!(charged() > 0, "it is the leader's until that has denied it often enough");
    cluster.resume_broker(1);
    eventually("the leader has its room back", || charged() == 0);
    let error = loop {
        match a.send((), &[7; 1_000]) {
            Ok(delivery) => sent.push(delivery),
            Err(error) => break error,
        }
    };
    let SendErrorKind::Rejected { scope: PressureScope::Stash, .. } = error.kind() else {
        panic!("{error}")
    };
    let memory = producer.memory();
    let taken = memory.capacity - memory.free;
    assert!(taken > 1_000_000 && taken <= memory.capacity / 4, "{taken} of {}", memory.capacity);
    (0..100).for_each(|_| drop(acked(b.send((), &[7; 1_000]).unwrap())));
    eventually("nothing of it is the leader's", || charged() == 0);
    cluster.clear_faults();
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    // From then on it is a lane as any other.
    cluster.pause_broker(1);
    let last = a.send((), "last").unwrap();
    assert!(charged() > 0);
    cluster.resume_broker(1);
    acked(last);
    close(&producer);
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn f54_what_waits_in_lanes_of_a_deleted_topic_fails_as_of_an_unknown_one() {
    let cluster = cluster(1, 1);
    let producer =
        builder(&cluster).configure(|c| c.topic_unknown_max = millis(500)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.delete_topic("t");
    let in_lane = topic.send((), "in a lane").unwrap();
    let error = failed(in_lane);
    assert!(matches!(error.cause(), DeliveryErrorCause::UnknownTopic { .. }), "{error}");
    assert_eq!(error.partition(), Some(0));
    // From now on it is as a topic that never was.
    let stashed = topic.send((), "in the stash").unwrap();
    let error = failed(stashed);
    assert!(matches!(error.cause(), DeliveryErrorCause::UnknownTopic { .. }), "{error}");
    assert_eq!((error.partition(), error.certainty()), (None, Certainty::NotWritten));
    let waits = topic.send((), "waits").unwrap();
    cluster.create_topic("t", 3);
    acked(waits);
    warm(&topic, 3);
    assert_eq!(topic.partitions(), 3);
    close(&producer);
}

#[test]
fn c13_a_topic_that_is_hidden_for_a_while_goes_on_where_it_was() {
    let cluster = cluster(1, 1);
    let producer =
        builder(&cluster).configure(|c| c.metadata_max_age = millis(20)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let unknown = Fault::metadata_error("t", 3).times(20);
    cluster.script(unknown);
    let mut n = 0;
    while cluster.faults_left() > 0 {
        n += 1;
        assert_eq!(acked(topic.send((), "v").unwrap()).offset(), Some(n));
    }
    assert_eq!(acked(topic.send((), "v").unwrap()).offset(), Some(n + 1));
    close(&producer);
}

#[test]
fn c60_a_partition_that_was_just_added_is_used_at_once() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    for total in 2..6 {
        cluster.add_partitions("t", total);
        let newest = total - 1;
        // Brokers are asked at most once a second.
        let mut first = None;
        eventually("it is there", || {
            first = topic.send_record(to(newest, "first")).ok();
            first.is_some()
        });
        let second = topic.send_record(to(newest, "second")).unwrap();
        assert_eq!(acked(first.unwrap()).offset(), Some(0), "partition {newest}");
        assert_eq!(acked(second).offset(), Some(1));
    }
    close(&producer);
}

#[test]
fn c60_a_wrong_number_in_a_loop_makes_no_storm_of_questions() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let before = cluster.stats().requests_of(METADATA);
    let start = Instant::now();
    let (mut refused, mut failures) = (0, 0);
    while refused < 10_000 {
        match topic.send_record(to(2, "v")) {
            Ok(delivery) => {
                let error = failed(delivery);
                let cause = error.cause();
                let is_it = matches!(cause, DeliveryErrorCause::PartitionOutOfRange { .. });
                assert!(is_it, "{error}");
                failures += 1;
            }
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, SendErrorKind::PartitionOutOfRange { .. }), "{error}");
                refused += 1;
            }
        }
        // Others go on meanwhile.
        drop(topic.send_record(to(1, "fine")).unwrap());
    }
    let questions = cluster.stats().requests_of(METADATA) - before;
    let seconds = start.elapsed().as_secs();
    assert!(questions <= 2 + seconds, "{questions} questions in {seconds} s");
    assert!(failures <= 2 + seconds);
    close(&producer);
}

#[test]
fn c62_no_topic_is_created_but_for_a_record() {
    let cluster = EmbeddedCluster::builder().auto_create_topics(true).start().unwrap();
    let producer = builder(&cluster)
        .allow_auto_create_topics(true)
        .configure(|c| {
            c.metadata_max_age = millis(20);
            c.topic_unknown_max = millis(500);
        })
        .build()
        .unwrap();
    let used = producer.topic("used").unwrap();
    acked(used.send((), "creates it").unwrap());
    let handle = producer.topic("handle").unwrap();
    assert!(cluster.delete_topic("used"));
    // Both are asked about, again and again.
    let asked = cluster.stats().requests_of(METADATA);
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(METADATA) > asked + 20));
    assert_eq!((cluster.topic_id("used"), cluster.topic_id("handle")), (None, None));
    acked(handle.send((), "creates it").unwrap());
    acked(used.send((), "creates it again").unwrap());
    close(&producer);
}

#[test]
fn f49_topics_that_are_made_and_deleted_do_not_add_up() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let producer = builder(&cluster)
        .configure(|c| {
            c.topic_unknown_max = millis(50);
            c.lanes_max = 64;
        })
        .build()
        .unwrap();
    for n in 0..200 {
        let name = format!("topic-{n}");
        cluster.create_topic(&name, 1);
        let topic = producer.topic(&name).unwrap();
        in_time_or_later(&topic);
        cluster.delete_topic(&name);
        drop(topic);
    }
    close(&producer);
}

/// Sends until a record is acknowledged: there is no room for its lane at once, as long as topics
/// that were deleted have not been given up.
fn in_time_or_later(topic: &Topic) {
    eventually("it has a lane", || topic.send((), "v").is_ok_and(|sent| outcome(sent).is_ok()));
}

#[test]
fn f50_thousands_of_topics_are_used_once_each_at_the_start() {
    const TOPICS: usize = 5_000;
    let mut builder_of = EmbeddedCluster::builder();
    for n in 0..TOPICS {
        builder_of = builder_of.topic(&format!("topic-{n}"), 1);
    }
    let cluster = builder_of.start().unwrap();
    let producer = producer(&cluster);
    let start = Instant::now();
    let mut deliveries = Vec::new();
    for n in 0..TOPICS {
        let topic = producer.topic(&format!("topic-{n}")).unwrap();
        let delivery = topic.send((), "v").unwrap();
        // Some one after the other, the rest at once.
        if n < 500 { drop(acked(delivery)) } else { deliveries.push(delivery) }
    }
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    // Ten seconds, where nothing else runs and the compiler has optimised.
    assert!(start.elapsed() < secs(100), "{:?}", start.elapsed());
    assert!(cluster.stats().requests_of(METADATA) <= TOPICS as u64 + 100);
    close(&producer);
}
