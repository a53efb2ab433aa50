//! The user's own policies, well behaved and not.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};

use tidegate::{
    Backoff, CloseError, DeliveryErrorCause, EveryTopic, FlushError, PartitionRequest, Partitioner,
    PartitionerFactory, Pressure, PressureScope, SendErrorKind,
};

use super::*;

#[test]
fn the_default_partitioner_is_javas() {
    let cluster = cluster(1, 12);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for n in 0..200_u32 {
        let key = format!("key-{n}");
        let expected = (tidegate::murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % 12;
        assert_eq!(acked(topic.send(&key, "v").unwrap()).partition(), expected);
    }
    // An empty key is a key.
    let expected = (tidegate::murmur2(b"") & 0x7fff_ffff) as i32 % 12;
    assert_eq!(acked(topic.send("", "v").unwrap()).partition(), expected);
}

#[test]
fn records_without_a_key_stick_and_then_move_on() {
    let cluster = cluster(1, 8);
    let producer = builder(&cluster).batch_size(10_000).linger(millis(20)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let deliveries: Vec<_> = (0..12_000).map(|_| topic.send((), &[0_u8; 100]).unwrap()).collect();
    let partitions: Vec<i32> = deliveries.into_iter().map(|d| acked(d).partition()).collect();
    let changes = partitions.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((60..=180).contains(&changes), "{changes} changes for some 120 batches");
    // By chance one is left out once in ten million runs.
    for partition in 0..8 {
        assert!(partitions.contains(&partition), "partition {partition} got nothing");
    }
}

#[test]
fn records_that_are_all_headers_spread_too() {
    let cluster = cluster(1, 4);
    let producer = builder(&cluster).batch_size(16_384).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let header = [7; 1_024];
    let send = |_| topic.send_record(Record::new().header("payload", &header)).unwrap();
    let deliveries: Vec<_> = (0..4_000).map(send).collect();
    let partitions: Vec<i32> = deliveries.into_iter().map(|d| acked(d).partition()).collect();
    for partition in 0..4 {
        // Some 250 batches' worth: each gets a quarter, and a tenth but by a miracle.
        let count = partitions.iter().filter(|p| **p == partition).count();
        assert!(count >= 400, "partition {partition} got {count} of 4,000");
    }
}

/// A batch's worth would take minutes here.
#[test]
fn few_records_spread_over_partitions_within_seconds() {
    let cluster = cluster(1, 4);
    let mut started = Vec::new();
    let inner = tidegate::DefaultPartitioner::new();
    let wrapper = move |request: &PartitionRequest<'_>| inner.partition(request);
    // Its own, a wrapper that is told of appends, and one that tells nobody.
    started.push(producer(&cluster));
    started.push(builder(&cluster).partitioner(tidegate::DefaultPartitioners).build().unwrap());
    started.push(builder(&cluster).partitioner(EveryTopic::new(wrapper)).build().unwrap());
    for (index, producer) in started.into_iter().enumerate() {
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        let (mut seen, mut sent) = ([0; 4], 0);
        eventually("each partition gets something", || {
            seen[acked(topic.send((), "v").unwrap()).partition() as usize] += 1;
            sent += 1;
            std::thread::sleep(millis(10));
            seen.iter().all(|&count| count > 0)
        });
        // By their bytes they would still be where the first one went.
        assert!(sent < 16 * 1_024 / 33, "{index}: after {sent} records: {seen:?}");
        close(&producer);
    }
}

#[test]
fn a_partitioner_of_ones_own_for_each_topic() {
    struct ByTopic;
    impl PartitionerFactory for ByTopic {
        fn for_topic(&self, topic: &str) -> Arc<dyn Partitioner> {
            let fixed = if topic == "a" { 1 } else { 2 };
            Arc::new(move |request: &PartitionRequest<'_>| {
                assert_eq!(request.partitions.count(), 3);
                fixed
            })
        }
    }
    let cluster = EmbeddedCluster::builder().topic("a", 3).topic("b", 3).start().unwrap();
    let producer = builder(&cluster).partitioner(ByTopic).build().unwrap();
    for (name, partition) in [("a", 1), ("b", 2)] {
        let topic = producer.topic(name).unwrap();
        for _ in 0..5 {
            assert_eq!(acked(topic.send("k", "v").unwrap()).partition(), partition);
        }
        // A partition that the record names goes before it.
        assert_eq!(acked(topic.send_record(to(0, "v")).unwrap()).partition(), 0);
    }
}

/// Panics on records whose value says so.
struct Panics(AtomicUsize);

impl Partitioner for Panics {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        assert_ne!(request.value, Some(&b"panic"[..]), "a panic that belongs to the test");
        0
    }

    fn on_appended(&self, _partition: i32, _bytes: usize, _batch_size: usize) {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        assert_ne!(count, 2, "a panic that belongs to the test");
    }
}

#[test]
fn c43_a_partitioner_that_panics_fails_its_record_only() {
    let cluster = cluster(1, 1);
    cluster.pause_broker(1);
    let factory = EveryTopic::new(Panics(AtomicUsize::new(0)));
    let producer = builder(&cluster).partitioner(factory).build().unwrap();
    let topic = producer.topic("t").unwrap();
    // In the stash it is the stash thread that meets the panic.
    let (before, stashed) = (topic.send((), "a").unwrap(), topic.send((), "panic").unwrap());
    let behind = topic.send((), "b").unwrap();
    cluster.resume_broker(1);
    acked(before);
    let error = failed(stashed);
    assert_eq!(*error.cause(), DeliveryErrorCause::PartitionerPanicked);
    acked(behind);
    // And here the sender.
    eventually("the topic is ready", || topic.send((), "panic").is_err());
    let error = topic.send((), "panic").unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::PolicyPanicked("partitioner"));
    // One of these panics in the hook: the record is appended all the same.
    for _ in 0..6 {
        acked(topic.send((), "c").unwrap());
    }
    close(&producer);
    assert_eq!(values(&cluster.records("t", 0)), ["a", "b", "c", "c", "c", "c", "c", "c"]);
}

/// Does, in the partitioner, all that a partitioner should leave alone.
struct Meddles {
    world: OnceLock<(Producer, Topic, Topic)>,
    found: mpsc::Sender<(Option<SendErrorKind>, FlushError, CloseError, DeliveryErrorCause)>,
}

impl Partitioner for Meddles {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        if request.topic == "t" && request.value == Some(b"meddle") {
            let (producer, own, ready) = self.world.get().unwrap();
            let sent = own.send_record(to(0, "of the partitioner's own"));
            let elsewhere = ready.send_record(to(0, "of the partitioner's own")).unwrap();
            let waited = elsewhere.wait().unwrap_err().cause().clone();
            let flushed = producer.flush().wait().unwrap_err();
            let closed = producer.close(LONG).wait().unwrap_err();
            let refused = sent.err().map(|error| error.kind().clone());
            self.found.send((refused, flushed, closed, waited)).unwrap();
        }
        0
    }
}

/// Whoever empties the stash, the stash thread or the next sender, holds its lock meanwhile.
#[test]
fn a_partitioner_that_sends_flushes_and_closes_deadlocks_nothing() {
    watched(partitioner_that_meddles);
}

fn partitioner_that_meddles() {
    let cluster = EmbeddedCluster::builder().topic("ready", 1).start().unwrap();
    let (found, finds) = mpsc::channel();
    let meddles = Arc::new(Meddles { world: OnceLock::new(), found });
    let shared = meddles.clone();
    let factory = move |_: &str| -> Arc<dyn Partitioner> { shared.clone() };
    // What is sent in the partitioner lingers: a wait for it could not end by itself.
    let producer = lingering(&cluster).partitioner(Factory(factory)).build().unwrap();
    let (topic, ready) = (producer.topic("t").unwrap(), producer.topic("ready").unwrap());
    let first = ready.send((), "first").unwrap();
    producer.flush().wait().unwrap();
    acked(first);
    assert!(meddles.world.set((producer.clone(), topic.clone(), ready)).is_ok());
    let meddling = topic.send((), "meddle").unwrap();
    let behind = topic.send((), "behind").unwrap();
    cluster.create_topic("t", 1);
    let (sent, flushed, closed, waited) = finds.recv_timeout(LONG).expect("no deadlock");
    assert_eq!(sent, Some(SendErrorKind::SentByPartitioner));
    assert_eq!((flushed, closed), (FlushError::OwnThread, CloseError::OwnThread));
    assert_eq!(waited, DeliveryErrorCause::WaitedOnOwnThread);
    acked(meddling);
    acked(behind);
    // The closing that was begun there goes on.
    producer.close(LONG).wait().unwrap();
    assert_eq!(values(&cluster.records("t", 0)), ["meddle", "behind"]);
    assert_eq!(values(&cluster.records("ready", 0)), ["first", "of the partitioner's own"]);
}

/// Here senders empty a part of the stash as well, each before its own record.
#[test]
fn a_partitioner_that_sends_deadlocks_no_sender() {
    watched(partitioner_that_sends);
}

fn partitioner_that_sends() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let own = Arc::new(OnceLock::<Topic>::new());
    let (refused, accepted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (slot, no, yes) = (own.clone(), refused.clone(), accepted.clone());
    let sends = move |_: &PartitionRequest<'_>| {
        match slot.get().unwrap().send_record(to(0, "of the partitioner's own")) {
            Ok(_) => yes.fetch_add(1, Ordering::SeqCst),
            Err(error) => {
                assert_eq!(*error.kind(), SendErrorKind::SentByPartitioner);
                no.fetch_add(1, Ordering::SeqCst)
            }
        };
        0
    };
    let producer = builder(&cluster).partitioner(EveryTopic::new(sends)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    assert!(own.set(topic.clone()).is_ok());
    let value = vec![7; 1_000];
    let mut sent: Vec<_> = (0..5_000).map(|_| topic.send((), &value).unwrap()).collect();
    cluster.create_topic("t", 1);
    eventually("the topic is ready", || {
        sent.push(topic.send((), "more").unwrap());
        accepted.load(Ordering::SeqCst) > 0
    });
    assert!(refused.load(Ordering::SeqCst) >= 5_000);
    let count = sent.len() + accepted.load(Ordering::SeqCst);
    sent.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    assert_eq!(cluster.records("t", 0).len(), count);
}

struct Factory<F>(F);

impl<F: Fn(&str) -> Arc<dyn Partitioner> + Send + Sync> PartitionerFactory for Factory<F> {
    fn for_topic(&self, topic: &str) -> Arc<dyn Partitioner> {
        (self.0)(topic)
    }
}

#[test]
fn a_factory_may_ask_for_topics_itself() {
    watched(|| {
        let cluster = cluster(1, 1);
        let producer = Arc::new(OnceLock::<Producer>::new());
        let own = producer.clone();
        let factory = move |topic: &str| -> Arc<dyn Partitioner> {
            if topic != "other" {
                own.get().unwrap().topic("other").unwrap();
            }
            Arc::new(|_: &PartitionRequest<'_>| 0)
        };
        let built = builder(&cluster).partitioner(Factory(factory)).build().unwrap();
        producer.set(built).unwrap();
        let topic = producer.get().unwrap().topic("t").unwrap();
        acked(topic.send((), "v").unwrap());
        close(producer.get().unwrap());
    });
}

/// Tasks that wait for stashed records are woken without the stash's lock.
#[test]
fn a_waker_may_send_to_a_topic_that_is_not_ready() {
    watched(waker_that_sends);
}

fn waker_that_sends() {
    struct Sends(Topic, mpsc::Sender<()>);
    impl Wake for Sends {
        fn wake(self: Arc<Self>) {
            drop(self.0.send_record(to(0, "from a waker")));
            let _ = self.1.send(());
        }
    }
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::from(Arc::new(Sends(topic.clone(), sender)));
    let mut first = topic.send_record(to(0, "first")).unwrap();
    let polled = std::pin::Pin::new(&mut first).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    // Some megabytes, which are moved in several steps: the topic is not ready after the first.
    let value = "x".repeat(100_000);
    let rest: Vec<_> = (0..60).map(|_| topic.send_record(to(0, &value)).unwrap()).collect();
    cluster.create_topic("t", 1);
    receiver.recv_timeout(LONG).expect("no deadlock");
    acked(first);
    rest.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
}

#[test]
fn a_partitioner_that_names_no_partition_fails_its_record() {
    let cluster = cluster(1, 2);
    let wrong = |request: &PartitionRequest<'_>| match request.value {
        Some(b"wrong") => 7,
        _ => 1,
    };
    let producer = builder(&cluster).partitioner(EveryTopic::new(wrong)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "right").unwrap());
    let error = topic.send((), "wrong").unwrap_err();
    let (partition, partitions, by_partitioner) = (7, 2, true);
    let kind = SendErrorKind::PartitionOutOfRange { partition, partitions, by_partitioner };
    assert_eq!(*error.kind(), kind);
    assert!(error.to_string().contains("chosen by the partitioner"), "{error}");
}

#[test]
fn a_strategy_of_ones_own_is_told_what_it_needs() {
    let cluster = cluster(1, 1);
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    let strategy = move |pressure: &Pressure| {
        assert_eq!(pressure.scope, PressureScope::Broker(1));
        assert!(pressure.charged >= pressure.high && pressure.low < pressure.high);
        assert!(pressure.record_size > 1_000 && pressure.record_size < 1_200);
        match seen.fetch_add(1, Ordering::SeqCst) {
            0 => {
                assert_eq!((pressure.attempt, pressure.elapsed), (0, Duration::ZERO));
                Backoff::Drop
            }
            1 => Backoff::Reject,
            2 => panic!("a panic that belongs to the test"),
            _ => Backoff::Park { at_most: millis(30) },
        }
    };
    let producer = builder(&cluster).backoff(strategy).watermarks(50_000, 200_000).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let value = [0_u8; 1_000];
    let mut deliveries = Vec::new();
    let rejected = loop {
        match topic.send((), &value) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
    };
    let dropped = deliveries.pop().unwrap();
    assert_eq!(*failed(dropped).cause(), DeliveryErrorCause::Dropped);
    assert_eq!(producer.dropped_records(), 1);
    assert!(matches!(rejected.kind(), SendErrorKind::Rejected { .. }), "{rejected}");
    let error = topic.send((), &value).unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::PolicyPanicked("backoff strategy"));
    let error = topic.send((), &value).unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::ParkTimedOut { .. }), "{error}");
    assert!(asked.load(Ordering::SeqCst) >= 4);
    cluster.resume_broker(1);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
}

#[test]
fn a_retry_policy_of_ones_own_sets_the_pace() {
    use tidegate::embedded::Fault;
    let cluster = cluster(1, 1);
    let asked = Arc::new(AtomicU32::new(0));
    let seen = asked.clone();
    let policy = move |attempt: u32, _random: u64| {
        seen.fetch_max(attempt + 1, Ordering::SeqCst);
        millis(60)
    };
    let producer = builder(&cluster).retry_policy(policy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 19).times(3));
    let start = Instant::now();
    acked(topic.send((), "v").unwrap());
    assert!(start.elapsed() >= millis(180));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn an_attempt_that_went_unanswered_lengthens_no_wait() {
    use tidegate::embedded::Fault;
    const PRODUCE: i16 = 0;
    let cluster = cluster(1, 1);
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let policy = move |attempt: u32, _random: u64| {
        seen.lock().unwrap().push(attempt);
        millis(1)
    };
    let producer = builder(&cluster).retry_policy(policy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::close_before_response().api(PRODUCE).times(2));
    cluster.script(Fault::produce_error("t", 0, 19).times(3));
    acked(topic.send((), "v").unwrap());
    assert_eq!(*asked.lock().unwrap(), [0, 1, 2]);
}

#[test]
fn c43_a_retry_policy_that_panics_does_not_end_the_producer() {
    use tidegate::embedded::Fault;
    let cluster = cluster(1, 1);
    let policy = |_attempt: u32, _random: u64| -> Duration { panic!("belongs to the test") };
    let producer = builder(&cluster).retry_policy(policy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 19));
    drop(outcome(topic.send((), "v").unwrap()));
    acked(topic.send((), "after").unwrap());
}
