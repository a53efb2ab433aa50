//! Code of the application's that panics or stands still.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate::{
    Backoff, Certainty, CloseError, DeliveryErrorCause, EveryTopic, PartitionRequest, Partitioner,
    Payload, Pressure, PressureScope, SendErrorKind,
};

use super::*;

#[test]
fn c43_a_factory_that_panics_fails_its_call_only() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).topic("u", 1).start().unwrap();
    let rude = AtomicBool::new(true);
    let factory = move |name: &str| -> Arc<dyn Partitioner> {
        let panics = name == "t" && rude.swap(false, Ordering::SeqCst);
        assert!(!panics, "a panic that belongs to the test");
        Arc::new(|_: &PartitionRequest<'_>| 0)
    };
    let producer = builder(&cluster).partitioner(factory).build().unwrap();
    let error = producer.topic("t").unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::PolicyPanicked("partitioner factory"));
    for name in ["u", "t"] {
        acked(producer.topic(name).unwrap().send((), "v").unwrap());
    }
    producer.close(LONG).wait().unwrap();
}

#[test]
fn f33_a_factory_may_use_its_producer_and_stand_still() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).topic("slow", 1).start().unwrap();
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    let (stalls, own) = (gate.clone(), Arc::new(Mutex::new(None::<Producer>)));
    let inside = own.clone();
    let factory = move |name: &str| -> Arc<dyn Partitioner> {
        if name == "slow" {
            // Of another topic, before this one is made.
            let producer = inside.lock().unwrap().take().expect("the test put it here");
            drop(acked(producer.topic("t").unwrap().send((), "from the factory").unwrap()));
            stalls.stall();
        }
        Arc::new(|_: &PartitionRequest<'_>| 0)
    };
    let producer = builder(&cluster).partitioner(factory).build().unwrap();
    *own.lock().unwrap() = Some(producer.clone());
    let stalled = {
        let producer = producer.clone();
        std::thread::spawn(move || producer.topic("slow").map(drop))
    };
    gate.await_stalled(1);
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "v").unwrap());
    producer.flush().wait().unwrap();
    producer.close(LONG).wait().unwrap();
    gate.open();
    // Made or refused: it does not matter any more.
    drop(stalled.join().unwrap());
    assert_eq!(cluster.records("t", 0).len(), 2);
}

/// Something of the application's that becomes a payload.
struct Rude;

impl From<Rude> for Payload<'_> {
    fn from(_: Rude) -> Self {
        panic!("a panic that belongs to the test")
    }
}

#[test]
fn c43_a_conversion_that_panics_takes_nothing_with_it() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    for round in 0..100 {
        assert!(catch_unwind(AssertUnwindSafe(|| topic.send("k", Rude))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| topic.send(Rude, "v"))).is_err());
        assert_eq!(acked(topic.send("k", "v").unwrap()).offset(), Some(round));
    }
    producer.flush().wait().unwrap();
    eventually("all memory is back", || producer.memory().free == producer.memory().capacity);
    producer.close(LONG).wait().unwrap();
}

/// Stands still for records that say so, where it is told to.
struct Stalls {
    gate: Gate,
    in_hook: bool,
}

impl Partitioner for Stalls {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        if !self.in_hook && request.value == Some(b"stall") {
            self.gate.stall();
        }
        0
    }

    fn on_appended(&self, partition: i32, _bytes: usize, _batch_size: usize) {
        if self.in_hook && partition == 1 {
            self.gate.stall();
        }
    }
}

fn a_partitioner_that_stalls(in_hook: bool) {
    let cluster = cluster(1, 2);
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    let partitioner = Stalls { gate: gate.clone(), in_hook };
    let producer = builder(&cluster).partitioner(EveryTopic::new(partitioner)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let stalled: Vec<_> = (0..3)
        .map(|_| {
            let topic = topic.clone();
            let record = Record::new().value("stall");
            let record = if in_hook { record.partition(1) } else { record };
            std::thread::spawn(move || topic.send_record(record))
        })
        .collect();
    gate.await_stalled(3);
    // Other threads, of the same topic and of others, do not notice.
    let deliveries: Vec<_> = (0..1_000).map(|_| topic.send((), "v").unwrap()).collect();
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    producer.flush().wait().unwrap();
    if in_hook {
        // These are appended, and on their way, whatever became of their senders.
        eventually("they are delivered", || cluster.high_watermark("t", 1) == 3);
    }
    producer.close(LONG).wait().unwrap();
    gate.open();
    for sender in stalled {
        let sent = sender.join().unwrap();
        match sent {
            Ok(delivery) => assert!(in_hook && outcome(delivery).is_ok()),
            Err(error) => assert!(!in_hook && *error.kind() == SendErrorKind::Closed, "{error}"),
        }
    }
    assert_eq!(cluster.high_watermark("t", 0), 1_001);
}

#[test]
fn f33_a_partitioner_that_stands_still_holds_up_its_own_threads_only() {
    a_partitioner_that_stalls(false);
}

#[test]
fn c42_f33_a_partitioner_that_stands_still_over_a_stash_holds_up_its_topic_only() {
    let cluster = cluster(2, 1);
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    let partitioner = Stalls { gate: gate.clone(), in_hook: false };
    let producer = builder(&cluster)
        .partitioner(EveryTopic::new(partitioner))
        .configure(|c| c.metadata_max_age = millis(50))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let slow = producer.topic("slow").unwrap();
    let stashed = [slow.send((), "stall").unwrap(), slow.send((), "behind").unwrap()];
    cluster.create_topic("slow", 1);
    gate.await_stalled(1);
    // The other topic, its leaders, and the close do not wait for it.
    for leader in [2, 1, 2] {
        cluster.move_leader("t", 0, leader);
        acked(topic.send((), "v").unwrap());
    }
    let start = Instant::now();
    let closed = producer.close(millis(200)).wait();
    let threads = vec!["tidegate-part-0".to_owned()];
    assert_eq!(closed, Err(CloseError::Stuck { threads, timeout: millis(200) }));
    assert!(start.elapsed() < millis(200) + 10 * millis(100), "{:?}", start.elapsed());
    for delivery in stashed {
        let error = outcome(delivery).expect_err("it was never placed");
        assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }));
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert_eq!(cluster.high_watermark("slow", 0), 0);
}

#[test]
fn f33_a_hook_that_stands_still_holds_up_its_own_threads_only() {
    a_partitioner_that_stalls(true);
}

#[test]
fn f33_a_strategy_that_stands_still_holds_up_its_own_threads_only() {
    let cluster = cluster(2, 2);
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    let stalls = gate.clone();
    let strategy = move |pressure: &Pressure| {
        assert!(matches!(pressure.scope, PressureScope::Broker(_)));
        stalls.stall();
        Backoff::Reject
    };
    let producer = builder(&cluster).backoff(strategy).watermarks(50_000, 200_000).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let paused = cluster.leader("t", 0).unwrap();
    cluster.pause_broker(paused);
    let value = "x".repeat(1_000);
    let stalled: Vec<_> = (0..2)
        .map(|_| {
            let (topic, value) = (topic.clone(), value.clone());
            std::thread::spawn(move || {
                let mut accepted = Vec::new();
                loop {
                    let record = Record::new().value(&value).partition(0);
                    match topic.send_record(record) {
                        Ok(delivery) => accepted.push(delivery),
                        Err(error) => return (accepted, error),
                    }
                }
            })
        })
        .collect();
    gate.await_stalled(2);
    for _ in 0..100 {
        acked(send_to(&topic, 1, &value));
    }
    cluster.resume_broker(paused);
    eventually("it drains", || producer.broker_levels().iter().all(|level| level.writable));
    producer.flush().wait().unwrap();
    gate.open();
    for sender in stalled {
        let (accepted, error) = sender.join().unwrap();
        assert!(matches!(error.kind(), SendErrorKind::Rejected { .. }), "{error}");
        accepted.into_iter().for_each(|delivery| drop(acked(delivery)));
    }
    producer.close(LONG).wait().unwrap();
}

#[test]
fn f33_a_sender_that_stands_still_does_not_keep_close_from_its_timeout() {
    let cluster = cluster(1, 1);
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    let partitioner = Stalls { gate: gate.clone(), in_hook: false };
    let producer = builder(&cluster).partitioner(EveryTopic::new(partitioner)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let stalled = {
        let topic = topic.clone();
        std::thread::spawn(move || topic.send((), "stall").map(drop))
    };
    gate.await_stalled(1);
    cluster.pause_broker(1);
    let delivery = topic.send((), "v").unwrap();
    let start = Instant::now();
    let closed = producer.close(millis(100)).wait();
    assert!(matches!(closed, Err(CloseError::TimedOut { timeout, .. }) if timeout == millis(100)));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(matches!(*outcome(delivery).unwrap_err().cause(), DeliveryErrorCause::Closed { .. }));
    gate.open();
    assert_eq!(*stalled.join().unwrap().unwrap_err().kind(), SendErrorKind::Closed);
}
