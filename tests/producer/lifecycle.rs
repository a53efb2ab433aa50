//! Flush, close, drop, and what outlives what.

use std::sync::Mutex;
use std::sync::mpsc;

use tidegate::{CloseError, DeliveryErrorCause, FlushError, OnDrop, SendErrorKind, WaitStrategy};

use super::*;

#[test]
fn c42_close_delivers_what_was_accepted() {
    let cluster = cluster(2, 4);
    let producer = lingering(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let mut deliveries: Vec<_> =
        (0..10_000_u32).map(|n| topic.send(n.to_be_bytes(), "v").unwrap()).collect();
    close(&producer);
    assert!(deliveries.iter_mut().all(|delivery| delivery.try_take().unwrap().is_ok()));
    let stored: i64 = (0..4).map(|p| cluster.high_watermark("t", p)).sum();
    assert_eq!(stored, 10_000);
    // The outcome of the first is that of all others.
    close(&producer);
    block_on(producer.clone().close(Duration::ZERO)).unwrap();
}

#[test]
fn c42_close_fails_the_rest_within_its_timeout() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let deliveries: Vec<_> = (0..5_000).map(|_| topic.send((), "v").unwrap()).collect();
    let start = Instant::now();
    let error = producer.close(millis(200)).wait().unwrap_err();
    let took = start.elapsed();
    assert!(matches!(error, CloseError::TimedOut { timeout, .. } if timeout == millis(200)));
    assert!(error.to_string().contains("200ms"));
    assert!(took >= millis(200) && took < LONG, "{took:?}");
    for delivery in deliveries {
        let error = failed(delivery);
        assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }), "{error}");
        assert_eq!((error.topic(), error.partition()), ("t", Some(0)));
    }
    assert_eq!(producer.close(LONG).wait(), Err(error), "a second call gives the same");
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn close_with_nothing_to_do_is_quick() {
    let cluster = cluster(1, 1);
    let start = Instant::now();
    for _ in 0..20 {
        close(&producer(&cluster));
    }
    let unused = Producer::builder("127.0.0.1:1").build().unwrap();
    let _topic = unused.topic("t").unwrap();
    close(&unused);
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
}

#[test]
fn dropping_the_last_clone_closes() {
    let cluster = cluster(1, 1);
    let producer =
        lingering(&cluster).configure(|c| c.on_drop = OnDrop::Wait(LONG)).build().unwrap();
    let clone = producer.clone();
    let topic = producer.topic("t").unwrap();
    let mut delivery = topic.send((), "first").unwrap();
    drop(producer);
    assert!(delivery.wait_timeout(millis(50)).is_none(), "a clone keeps it open");
    let mut second = topic.send((), "second").unwrap();
    drop(clone);
    assert!(delivery.try_take().unwrap().is_ok() && second.try_take().unwrap().is_ok());
    let error = topic.send((), "a topic that outlives its producer").unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::Closed);
    assert_eq!(values(&cluster.records("t", 0)), ["first", "second"]);
}

#[test]
fn dropping_waits_for_so_long_and_no_longer() {
    let cluster = cluster(1, 1);
    let producer =
        patient(&cluster).configure(|c| c.on_drop = OnDrop::Wait(millis(100))).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let deliveries: Vec<_> = (0..1_000).map(|_| topic.send((), "v").unwrap()).collect();
    let start = Instant::now();
    drop(producer);
    assert!(start.elapsed() < LONG);
    for delivery in deliveries {
        assert!(matches!(*failed(delivery).cause(), DeliveryErrorCause::Closed { .. }));
    }
}

#[test]
fn a_dropped_producer_that_detaches_goes_on_in_the_background() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).on_drop(OnDrop::Detach).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let deliveries: Vec<_> = (0..1_000).map(|_| topic.send((), "v").unwrap()).collect();
    let start = Instant::now();
    drop(producer);
    assert!(start.elapsed() < secs(1), "it took {:?}", start.elapsed());
    let error = topic.send((), "too late").unwrap_err();
    assert_eq!(*error.kind(), SendErrorKind::Closed);
    cluster.resume_broker(1);
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    // A close that was begun goes on as it was asked to.
    let producer = patient(&cluster).on_drop(OnDrop::Detach).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let delivery = topic.send((), "v").unwrap();
    let closing = producer.close(millis(100));
    drop(producer);
    let closed = closing.wait();
    assert!(matches!(closed, Err(CloseError::TimedOut { timeout, .. }) if timeout == millis(100)));
    assert!(matches!(*failed(delivery).cause(), DeliveryErrorCause::Closed { .. }));
}

#[test]
fn c43_a_dropped_delivery_does_not_cancel_its_record() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for n in 0..1_000 {
        let mut delivery = topic.send((), n.to_string()).unwrap();
        if n % 3 == 0 {
            // Also one that was polled, and whose waker is registered.
            drop(delivery.wait_timeout(Duration::ZERO));
        }
        drop(delivery);
    }
    producer.flush().wait().unwrap();
    let expected: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    assert_eq!(values(&cluster.records("t", 0)), expected);
}

#[test]
fn c42_flush_waits_only_for_what_was_sent_before() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                drop(topic.send((), "without end").unwrap());
            }
        });
        for _ in 0..20 {
            let mut delivery = topic.send((), "mine").unwrap();
            producer.flush().wait().unwrap();
            assert!(delivery.try_take().is_some(), "flushed, and not resolved");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        sender.join().unwrap();
    });
    close(&producer);
    // Afterwards there is nothing to wait for.
    producer.flush().wait().unwrap();
}

#[test]
fn c42_flush_waits_for_failures_too() {
    use tidegate::embedded::Fault;
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.script(Fault::produce_error("t", 0, 29));
    let mut delivery = topic.send((), "fails").unwrap();
    producer.flush().wait().unwrap();
    assert!(delivery.try_take().unwrap().is_err());
}

#[test]
fn flush_and_close_have_begun_before_they_are_polled() {
    let cluster = cluster(1, 1);
    let producer = lingering(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let delivery = topic.send((), "v").unwrap();
    let flush = producer.flush();
    acked(delivery);
    let delivery = topic.send((), "v").unwrap();
    let closing = producer.close(LONG);
    acked(delivery);
    drop(flush);
    closing.wait().unwrap();
}

/// A waker that runs a closure.
struct Runs<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Runs<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

fn poll_with(delivery: &mut Delivery, act: impl Fn() + Send + Sync + 'static) {
    let waker = Waker::from(Arc::new(Runs(act)));
    let polled = std::pin::Pin::new(delivery).poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending(), "it is in flight: the broker stands still");
}

#[test]
fn c43_a_waker_that_panics_harms_nobody() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let mut deliveries: Vec<_> = (0..10).map(|_| topic.send((), "v").unwrap()).collect();
    let (sender, receiver) = mpsc::channel();
    for (n, delivery) in deliveries.iter_mut().enumerate() {
        let sender = sender.clone();
        poll_with(delivery, move || {
            sender.send(n).unwrap();
            panic!("a panic that belongs to the test");
        });
    }
    cluster.resume_broker(1);
    let mut woken: Vec<_> = (0..10).map(|_| receiver.recv_timeout(LONG).unwrap()).collect();
    woken.sort_unstable();
    assert!(woken.into_iter().eq(0..10));
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    acked(topic.send((), "after").unwrap());
    close(&producer);
}

#[test]
fn waiting_in_a_waker_is_an_error_and_sending_is_not() {
    let cluster = cluster(1, 2);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    cluster.pause_broker(1);
    let mut delivery = topic.send_record(to(0, "v")).unwrap();
    let (sender, receiver) = mpsc::channel();
    let (in_waker, its_topic) = (producer.clone(), topic.clone());
    poll_with(&mut delivery, move || {
        let other = its_topic.send_record(to(1, "from a waker")).unwrap();
        let waited = other.wait().unwrap_err();
        let flushed = in_waker.flush().wait().unwrap_err();
        drop(its_topic.send_record(to(1, "from a waker")).unwrap());
        let closed = in_waker.close(LONG).wait().unwrap_err();
        sender.send((waited, flushed, closed)).unwrap();
    });
    cluster.resume_broker(1);
    let (waited, flushed, closed) = receiver.recv_timeout(LONG).expect("no deadlock");
    assert_eq!(*waited.cause(), DeliveryErrorCause::WaitedOnOwnThread);
    assert!(waited.to_string().contains("wait for ever"));
    assert_eq!((flushed, closed), (FlushError::OwnThread, CloseError::OwnThread));
    // The closing that was begun there goes on.
    producer.close(LONG).wait().unwrap();
    acked(delivery);
    assert_eq!(values(&cluster.records("t", 1))[1..], ["from a waker", "from a waker"]);
}

#[test]
fn the_last_clone_may_be_dropped_in_a_waker() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let mut deliveries: Vec<_> = (0..100).map(|_| topic.send((), "v").unwrap()).collect();
    let (sender, receiver) = mpsc::channel();
    let held = Mutex::new(Some(producer));
    poll_with(&mut deliveries[0], move || {
        drop(held.lock().unwrap().take());
        sender.send(()).unwrap();
    });
    cluster.resume_broker(1);
    receiver.recv_timeout(LONG).expect("no deadlock");
    deliveries.into_iter().for_each(|delivery| drop(outcome(delivery)));
    eventually("it is closed", || topic.send((), "v").is_err());
    eventually("its connections are gone", || cluster.stats().connections_open() == 0);
}

#[test]
fn deliveries_may_be_kept_for_ever_and_hold_no_memory() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).buffer_memory(4 << 20).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let value = [0_u8; 100];
    let kept: Vec<_> = (0..300_000).map(|_| topic.send((), &value).unwrap()).collect();
    producer.flush().wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
    close(&producer);
    drop((producer, topic));
    for (n, mut delivery) in kept.into_iter().enumerate() {
        assert_eq!(delivery.try_take().unwrap().unwrap().offset(), Some(n as i64));
    }
}

#[test]
fn c46_many_threads_send_flush_and_drop_at_once() {
    let cluster = cluster(2, 6);
    for round in 0..10 {
        let producer = producer(&cluster);
        let topic = producer.topic("t").unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (producer, topic) = (producer.clone(), topic.clone());
                std::thread::spawn(move || {
                    let mut accepted = Vec::new();
                    for n in 0..500_u32 {
                        match topic.send(n.to_be_bytes(), "v") {
                            Ok(delivery) => accepted.push(delivery),
                            Err(error) => {
                                assert_eq!(*error.kind(), SendErrorKind::Closed);
                                break;
                            }
                        }
                        if n == 100 + thread * 50 {
                            producer.flush().wait().unwrap();
                        }
                        if n == 250 && thread == round % 4 {
                            producer.close(LONG).wait().unwrap();
                        }
                    }
                    accepted.into_iter().for_each(|delivery| drop(acked(delivery)));
                })
            })
            .collect();
        drop((producer, topic));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Counts its wakes.
#[derive(Default)]
struct Wakes(std::sync::atomic::AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A flush that waits for one broker looks again when something of that has ended, and not each
/// time that another broker answers: it looks at every lane.
#[test]
fn a_flush_is_not_woken_by_what_it_does_not_wait_for() {
    let cluster = cluster(2, 2);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let paused = cluster.leader("t", 0).expect("it has one");
    assert_ne!(cluster.leader("t", 1), Some(paused));
    cluster.pause_broker(paused);
    let held = topic.send_record(to(0, "held")).unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut flush = pin!(producer.flush());
    for _ in 0..200 {
        assert!(flush.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        acked(topic.send_record(to(1, "passes")).unwrap());
    }
    let wakes = wakes.0.load(std::sync::atomic::Ordering::SeqCst);
    assert!(wakes <= 2, "woken {wakes} times for nothing");
    cluster.resume_broker(paused);
    block_on(flush).unwrap();
    acked(held);
    close(&producer);
}

#[test]
fn a_loop_that_spins_before_it_sleeps_is_not_late() {
    let (linger, spin) = (Duration::from_secs(2), millis(1_900));
    let cluster = cluster(1, 1);
    let producer = builder(&cluster)
        .linger(linger)
        .configure(|config| config.wait_strategy = WaitStrategy::SpinThenBlock(spin))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let start = Instant::now();
    acked(topic.send("k", "v").unwrap());
    // It would be so late if it slept for what it had spun through.
    assert!(start.elapsed() < linger + spin / 2, "{:?}", start.elapsed());
    close(&producer);
}
