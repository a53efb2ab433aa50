//! Producers that end while records are sent, or while their brokers are down.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use tidegate::{CloseError, DeliveryErrorCause, SendErrorKind};

use super::*;

#[test]
fn f33_dropped_while_threads_send_every_delivery_resolves_once() {
    let cluster = cluster(2, 4);
    for round in 0..8 {
        let producer = builder(&cluster)
            .configure(|c| c.on_drop = OnDrop::Wait(millis(2_000)))
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let topic = topic.clone();
                std::thread::spawn(move || {
                    let mut accepted = Vec::new();
                    loop {
                        match topic.send([thread], "v") {
                            Ok(delivery) => accepted.push(delivery),
                            Err(error) => {
                                assert_eq!(*error.kind(), SendErrorKind::Closed);
                                return accepted;
                            }
                        }
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            // Also while the topic is not known yet.
            warm(&topic, 1);
        }
        drop(producer);
        for thread in threads {
            for delivery in thread.join().unwrap() {
                if let Err(error) = outcome(delivery) {
                    assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }), "{error}");
                }
            }
        }
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn closes_in_time(what: &str, producer: &Producer, topic: &Topic) {
    let mut deliveries: Vec<_> = (0..500).map(|_| topic.send((), "v").unwrap()).collect();
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    for delivery in &mut deliveries {
        let polled = std::pin::Pin::new(delivery).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "{what}: nothing can have been answered");
    }
    let start = Instant::now();
    let closed = producer.close(millis(300)).wait();
    let took = start.elapsed();
    assert!(
        matches!(closed, Err(CloseError::TimedOut { timeout, .. }) if timeout == millis(300)),
        "{what}"
    );
    assert!(took >= millis(300) && took < millis(300) + Duration::from_secs(5), "{what}: {took:?}");
    for delivery in deliveries {
        let error = outcome(delivery).unwrap_err();
        assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }), "{what}: {error}");
    }
    assert_eq!(count.0.load(Ordering::SeqCst), 500, "{what}: each is woken once");
    assert_eq!(producer.memory().free, producer.memory().capacity, "{what}");
    assert_eq!(producer.close(LONG).wait(), closed, "{what}: a second call gives the same");
}

#[test]
fn c42_close_with_brokers_that_went_down_ends_within_its_timeout() {
    let cluster = cluster(3, 6);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 6);
    cluster.broker_ids().into_iter().for_each(|id| cluster.kill_broker(id));
    closes_in_time("killed", &producer, &topic);
}

#[test]
fn c42_close_with_brokers_that_stand_still_ends_within_its_timeout() {
    let cluster = cluster(3, 6);
    let producer = builder(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 6);
    cluster.broker_ids().into_iter().for_each(|id| cluster.pause_broker(id));
    closes_in_time("paused", &producer, &topic);
}

#[test]
fn c42_close_with_brokers_that_never_were_there_ends_within_its_timeout() {
    // One that refuses, and one that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    for bootstrap in ["127.0.0.1:1", &silent.to_string()] {
        let producer =
            Producer::builder(bootstrap).configure(|c| c.pinning = false).build().unwrap();
        let topic = producer.topic("t").unwrap();
        closes_in_time(bootstrap, &producer, &topic);
    }
}

#[test]
fn c46_close_and_drop_and_abandoned_closes_at_once_resolve_each_delivery_once() {
    let cluster = cluster(1, 1);
    for _ in 0..10 {
        let producer = builder(&cluster).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let deliveries: Vec<_> = (0..1_000).map(|_| topic.send((), "v").unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let producer = producer.clone();
                // Begun, and not waited for.
                scope.spawn(move || drop(producer.close(LONG)));
            }
            drop(producer);
        });
        deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    }
    assert_eq!(cluster.high_watermark("t", 0), 10_000);
}
