//! Code of the application's that never returns, or panics, on threads of the producer's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tidegate::{
    Certainty, CloseError, DeliveryErrorCause, EventLoops, PartitionRequest, Partitioner,
};

use super::*;

/// Stands still when it is called.
struct StallingWaker(Gate);

impl Wake for StallingWaker {
    fn wake(self: Arc<Self>) {
        self.0.stall();
    }
}

/// A close ends at its timeout and 100 ms; ten times as much here, on a machine that is shared.
fn closes_stuck(producer: &Producer, timeout: Duration, threads: &[&str]) {
    let start = Instant::now();
    let closed = producer.close(timeout).wait();
    let took = start.elapsed();
    let threads = threads.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(closed, Err(CloseError::Stuck { threads, timeout }));
    assert!(took >= timeout && took < timeout + 10 * millis(100), "{took:?}");
}

/// Polls a delivery with a waker that never returns.
fn await_with(delivery: &mut Delivery, waker: &Waker) {
    let polled = std::pin::Pin::new(delivery).poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending());
}

#[test]
fn c42_f51_close_ends_in_time_and_names_a_loop_that_a_waker_holds() {
    for drained in [true, false] {
        let cluster = cluster(1, 1);
        let gate = Gate::default();
        let _open = OpenAtLast(gate.clone());
        let loops = EventLoops::shared(1).unpinned();
        let producer = builder(&cluster).event_loops(loops.clone()).build().unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 1);
        cluster.pause_broker(1);
        let mut delivery = topic.send((), "v").unwrap();
        let waker = Waker::from(Arc::new(StallingWaker(gate.clone())));
        await_with(&mut delivery, &waker);
        cluster.resume_broker(1);
        gate.await_stalled(1);
        // Resolved, but for its waker.
        let behind = (!drained).then(|| topic.send((), "behind").unwrap());
        closes_stuck(&producer, millis(200), &["tidegate-loop-0"]);
        assert!(outcome(delivery).is_ok());
        // Neither waits for the loop for ever.
        drop((topic, producer, loops));
        gate.open();
        if let Some(behind) = behind {
            let error = outcome(behind).expect_err("the loop has gone on, and ended");
            assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }));
        }
    }
}

#[test]
fn c42_f51_a_waker_that_the_close_itself_calls_must_not_wait_and_may_never_return() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).build().unwrap();
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());

    /// Waits for the close that calls it, then stands still.
    struct Waits {
        producer: Producer,
        found: Mutex<Option<Result<(), CloseError>>>,
        gate: Gate,
    }
    impl Wake for Waits {
        fn wake(self: Arc<Self>) {
            *self.found.lock().unwrap() = Some(self.producer.close(LONG).wait());
            self.gate.stall();
        }
    }
    let found = Mutex::default();
    let waits = Arc::new(Waits { producer: producer.clone(), found, gate: gate.clone() });
    // Stashed: the topic never comes to be, and the close itself fails its record.
    let unknown = producer.topic("unknown").unwrap();
    let mut delivery = unknown.send((), "v").unwrap();
    await_with(&mut delivery, &Waker::from(waits.clone()));
    closes_stuck(&producer, millis(100), &["tidegate-wake"]);
    gate.await_stalled(1);
    assert_eq!(*waits.found.lock().unwrap(), Some(Err(CloseError::OwnThread)));
    assert!(matches!(*outcome(delivery).unwrap_err().cause(), DeliveryErrorCause::Closed { .. }));
}

/// Panics when it is called, and counts.
#[derive(Default)]
struct PanickingWaker(AtomicUsize);

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a panic that belongs to the test");
    }
}

#[test]
fn f51_wakers_that_panic_harm_nobody() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let panics = Arc::new(PanickingWaker::default());
    let waker = Waker::from(panics.clone());
    let mut stashed = topic.send((), "stashed").unwrap();
    // It may have arrived already.
    let polled = std::pin::Pin::new(&mut stashed).poll(&mut Context::from_waker(&waker));
    let mut called = usize::from(polled.is_pending());
    eventually("all are woken", || panics.0.load(Ordering::SeqCst) == called);
    for _ in 0..20 {
        cluster.pause_broker(1);
        let mut deliveries: Vec<_> = (0..10).map(|_| topic.send((), "v").unwrap()).collect();
        deliveries.iter_mut().for_each(|delivery| await_with(delivery, &waker));
        called += deliveries.len();
        cluster.resume_broker(1);
        // Before these are waited for: only the waker of the last poll is called.
        eventually("all are woken", || panics.0.load(Ordering::SeqCst) == called);
        deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    }
    let mut close = producer.close(LONG);
    let polled = std::pin::Pin::new(&mut close).poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending | Poll::Ready(Ok(()))), "{polled:?}");
    close.wait().unwrap();
    assert_eq!(cluster.high_watermark("t", 0), 201);
}

/// Never returns for the topics that it was told to hold up.
struct HoldsUp(Option<Gate>);

impl Partitioner for HoldsUp {
    fn partition(&self, _: &PartitionRequest<'_>) -> i32 {
        if let Some(gate) = &self.0 {
            gate.stall();
        }
        0
    }
}

#[test]
fn f51_a_partitioner_that_never_returns_holds_up_its_own_topic_only() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    let gate = Gate::default();
    let _open = OpenAtLast(gate.clone());
    let stalls = gate.clone();
    let factory = move |name: &str| -> Arc<dyn Partitioner> {
        Arc::new(HoldsUp(name.starts_with("slow").then(|| stalls.clone())))
    };
    let producer = builder(&cluster)
        .partitioner(factory)
        .configure(|c| {
            c.metadata_max_age = millis(50);
            c.metadata_min_refresh = millis(10);
        })
        .delivery_timeout(Duration::from_secs(5))
        .configure(|c| c.request_timeout = Duration::from_secs(2))
        .build()
        .unwrap();
    // Of each of these a thread is held up, one after the other.
    let slow: Vec<_> = (0..3)
        .map(|n| {
            let name = format!("slow-{n}");
            let delivery = producer.topic(&name).unwrap().send((), "v").unwrap();
            cluster.create_topic(&name, 1);
            gate.await_stalled(n + 1);
            delivery
        })
        .collect();
    // Stashes of others are emptied meanwhile, and what waits in theirs expires.
    for n in 0..3 {
        let name = format!("quick-{n}");
        let delivery = producer.topic(&name).unwrap().send((), "v").unwrap();
        cluster.create_topic(&name, 1);
        acked(delivery);
    }
    for delivery in slow {
        let error = outcome(delivery).expect_err("nobody has placed it");
        assert!(matches!(error.cause(), DeliveryErrorCause::TimedOut { .. }), "{error}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    let names = ["tidegate-part-0", "tidegate-part-1", "tidegate-part-2"];
    closes_stuck(&producer, millis(100), &names);
}
