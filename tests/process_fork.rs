//! A fork's child has none of the producer's threads: the parent's handles give errors there, and
//! it can build a producer of its own. The parent goes on.

#![cfg(unix)]
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{
    CloseError, ConsumeErrorCause, Consumer, Delivery, DeliveryErrorCause, EventLoops, FlushError,
    Producer, SendErrorKind, StartAt,
};

const LONG: Duration = Duration::from_secs(60);

/// Forks. The child does `act`, which tells what it found (0: all is as it should be), and ends
/// without running what belongs to the parent.
fn fork(act: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: the child calls only what these tests are about, and then _exit; that it hangs on no
    // lock that another thread of the parent held is what they would find out.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // A panic must not unwind into the copy of the test.
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).unwrap_or(100);
        // SAFETY: ends the child, whatever else the copy of the parent would do.
        unsafe { libc::_exit(found) };
    }
    child
}

/// What a child found. One that hangs is ended.
fn found_by(child: libc::pid_t) -> i32 {
    let start = Instant::now();
    let mut status = 0;
    // SAFETY: `status` is writable, `child` is a child of this process.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > LONG {
            // SAFETY: it is still our child, which hangs.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 1_000 + status }
}

/// What a child finds of its parent's handles.
fn try_inherited(producer: Producer, topic: tidegate::Topic, pending: Vec<Delivery>) -> i32 {
    let forked = |error: tidegate::SendError| *error.kind() == SendErrorKind::Forked;
    if !topic.send("k", "from the child").is_err_and(forked) {
        return 1;
    }
    if !producer.topic("t").is_err_and(forked) {
        return 2;
    }
    if producer.flush().wait() != Err(FlushError::Forked) {
        return 3;
    }
    if producer.close(LONG).wait() != Err(CloseError::Forked) {
        return 4;
    }
    for (way, mut delivery) in pending.into_iter().enumerate() {
        let outcome = match way % 3 {
            0 => Some(delivery.wait()),
            1 => delivery.wait_timeout(LONG),
            _ => delivery.try_take(),
        };
        let Some(Err(error)) = outcome else { return 5 };
        if *error.cause() != DeliveryErrorCause::Forked {
            return 6;
        }
    }
    if !producer.broker_levels().is_empty() || producer.memory().capacity == 0 {
        return 7;
    }
    // Neither waits for threads that are not there.
    drop(topic);
    drop(producer);
    0
}

/// A child's own producer, on event loops of its own.
fn use_own(bootstrap: &str, loops: EventLoops, records: usize) -> i32 {
    let Ok(producer) = Producer::builder(bootstrap).event_loops(loops).build() else { return 20 };
    let Ok(topic) = producer.topic("t") else { return 21 };
    for _ in 0..records {
        let Ok(mut delivery) = topic.send("k", "from a child") else { return 22 };
        match delivery.wait_timeout(LONG) {
            Some(Ok(_)) => {}
            Some(Err(_)) => return 23,
            None => return 24,
        }
    }
    if producer.flush().wait().is_err() {
        return 25;
    }
    if producer.close(LONG).wait().is_err() {
        return 26;
    }
    0
}

#[test]
fn c44_f33_a_forks_child_gets_errors_and_the_parent_goes_on() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    topic.send("k", "before").unwrap().wait().unwrap();
    cluster.pause_broker(1);
    let mut pending: Vec<_> = (0..3).map(|_| topic.send("k", "pending").unwrap()).collect();
    // Awaited before the fork: the delivery has a waker in the parent's list.
    assert!(pending[0].wait_timeout(Duration::from_millis(1)).is_none());
    let (flush, close) = (producer.flush(), Producer::builder("127.0.0.1:1").build().unwrap());
    let closing = close.close(Duration::from_millis(1));
    let held = (producer.clone(), topic.clone());
    let child = fork(move || {
        if flush.wait() != Err(FlushError::Forked) {
            return 8;
        }
        if closing.wait() != Err(CloseError::Forked) {
            return 9;
        }
        drop(close);
        let pending = std::mem::take(&mut pending);
        try_inherited(held.0, held.1, pending)
    });
    assert_eq!(found_by(child), 0);
    // And here nothing has changed.
    cluster.resume_broker(1);
    for n in 4..104 {
        assert_eq!(topic.send("k", "after").unwrap().wait().unwrap().offset(), Some(n));
    }
    producer.close(LONG).wait().unwrap();
    assert_eq!(cluster.records("t", 0).len(), 104);
}

#[test]
fn c44_a_task_that_waits_for_room_waits_for_nothing_in_a_child() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    let builder = Producer::builder(&cluster.bootstrap_servers()).buffer_memory(8 << 20);
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    topic.send("k", "before").unwrap().wait().unwrap();
    cluster.pause_broker(1);
    while topic.try_send("k", &[7; 5_000]).is_ok() {}
    let mut context = Context::from_waker(Waker::noop());
    let send = || Box::pin(topic.send_async("k", &[7; 5_000]));
    let (mut polled, mut dropped) = (send(), send());
    assert!(polled.as_mut().poll(&mut context).is_pending());
    assert!(dropped.as_mut().poll(&mut context).is_pending());
    let child = fork(|| {
        drop(dropped);
        match polled.as_mut().poll(&mut context) {
            Poll::Ready(Err(error)) if *error.kind() == SendErrorKind::Forked => 0,
            _ => 1,
        }
    });
    assert_eq!(found_by(child), 0);
    cluster.resume_broker(1);
    producer.close(LONG).wait().unwrap();
}

#[test]
fn c55_a_child_and_its_child_use_producers_of_their_own_also_on_loops_that_were_shared() {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 4).start().unwrap();
    let bootstrap = cluster.bootstrap_servers();
    for shared in [false, true] {
        let loops = EventLoops::shared(2);
        let value = || if shared { loops.clone() } else { EventLoops::default() };
        let producer = Producer::builder(&bootstrap).event_loops(value()).build().unwrap();
        let topic = producer.topic("t").unwrap();
        topic.send("k", "of the parent").unwrap().wait().unwrap();
        let child = fork(|| {
            let own = match Producer::builder(&bootstrap).event_loops(value()).build() {
                Ok(own) => own,
                Err(_) => return 10,
            };
            let Ok(own_topic) = own.topic("t") else { return 11 };
            if !own_topic.send("k", "of the child").is_ok_and(|sent| sent.wait().is_ok()) {
                return 12;
            }
            let grandchild = fork(|| {
                for (producer, topic) in [(&producer, &topic), (&own, &own_topic)] {
                    let found = try_inherited(producer.clone(), topic.clone(), Vec::new());
                    if found != 0 {
                        return found;
                    }
                }
                use_own(&bootstrap, value(), 10)
            });
            let found = found_by(grandchild);
            if found != 0 {
                return 40 + found;
            }
            let found = try_inherited(producer.clone(), topic.clone(), Vec::new());
            if found != 0 {
                return found;
            }
            // The grandchild has changed nothing here.
            if !own_topic.send("k", "of the child").is_ok_and(|sent| sent.wait().is_ok()) {
                return 13;
            }
            if own.close(LONG).wait().is_err() {
                return 14;
            }
            use_own(&bootstrap, value(), 10)
        });
        assert_eq!(found_by(child), 0, "shared: {shared}");
        topic.send("k", "of the parent").unwrap().wait().unwrap();
        producer.close(LONG).wait().unwrap();
    }
    let logged: i64 = (0..4).map(|partition| cluster.high_watermark("t", partition)).sum();
    assert_eq!(logged, 2 * (2 + 2 + 10 + 10));
}

#[test]
fn c55_children_that_are_forked_while_other_threads_hold_locks_do_not_hang() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    let bootstrap = cluster.bootstrap_servers();
    let loops = EventLoops::shared(2);
    let producer = Producer::builder(&bootstrap).event_loops(loops.clone()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let goes_on = || !stop.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        // Cells, waiters, lanes, pool.
        scope.spawn(|| {
            while goes_on() {
                let deliveries: Vec<_> = (0..50).map(|_| topic.send("k", "v").unwrap()).collect();
                sent.fetch_add(deliveries.len(), Ordering::SeqCst);
                deliveries.into_iter().for_each(|delivery| drop(delivery.wait().unwrap()));
            }
        });
        // The loops' list, and the table of cores.
        scope.spawn(|| {
            while goes_on() {
                let shared = Producer::builder(&bootstrap).event_loops(loops.clone()).build();
                let own = Producer::builder(&bootstrap).build().unwrap();
                drop((shared.unwrap(), own));
            }
        });
        let mut found = Vec::new();
        for _ in 0..30 {
            let delivery = topic.send("k", "v").unwrap();
            sent.fetch_add(1, Ordering::SeqCst);
            let child = fork(|| {
                drop(delivery);
                match try_inherited(producer.clone(), topic.clone(), Vec::new()) {
                    0 => use_own(&bootstrap, loops.clone(), 3),
                    found => found,
                }
            });
            found.push(found_by(child));
        }
        stop.store(true, Ordering::SeqCst);
        assert!(found.iter().all(|found| *found == 0), "{found:?}");
    });
    producer.close(LONG).wait().unwrap();
    let logged = cluster.records("t", 0).len();
    assert_eq!(logged, sent.load(Ordering::SeqCst) + 30 * 3);
}

#[test]
fn c55_a_connection_ends_when_its_owner_closes_it_though_a_child_has_its_descriptor() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    let producer = Producer::builder(&cluster.bootstrap_servers()).build().unwrap();
    producer.topic("t").unwrap().send("k", "v").unwrap().wait().unwrap();
    // SAFETY: sleeps until it is ended.
    let child = fork(|| unsafe { libc::pause() });
    producer.close(LONG).wait().unwrap();
    let all_ended = cluster.wait_until(LONG, |stats| stats.connections_open() == 0);
    // SAFETY: it is our child.
    unsafe { libc::kill(child, libc::SIGKILL) };
    assert_eq!(found_by(child), 1_000 + libc::SIGKILL);
    assert!(all_ended, "the broker sees connections that their owner has closed");
}

/// A consumer's calls are errors in the child, those that were begun before too, and go on in the
/// parent.
#[test]
fn a_childs_calls_of_a_consumer_are_errors() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    cluster.stop_broker(1);
    let consumer = Consumer::builder(&cluster.bootstrap_servers()).topic("t", StartAt::Latest);
    let consumer = consumer.group_id("g").build().unwrap();
    let find = || consumer.find_offset("t", 0, StartAt::Latest, LONG);
    let (inherited, kept) = (find(), find());
    let child = fork(|| {
        let causes = [
            inherited.wait().map(drop),
            find().wait().map(drop),
            consumer.commit(&[("t", 0, 1)], LONG).wait(),
            consumer.committed("t", 0, LONG).wait().map(drop),
        ];
        let is_told = |outcome: &Result<(), tidegate::ConsumeError>| {
            outcome.as_ref().is_err_and(|error| *error.cause() == ConsumeErrorCause::Forked)
        };
        causes.iter().position(|outcome| !is_told(outcome)).map_or(0, |at| at as i32 + 1)
    });
    assert_eq!(found_by(child), 0);
    cluster.restart_broker(1).unwrap();
    assert_eq!(kept.wait(), Ok(Some(0)));
}
