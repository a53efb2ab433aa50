//! Callbacks: an application that is called with each record's outcome.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tidegate::embedded::Fault;

use super::*;

#[test]
fn each_callback_is_called_once_and_those_of_a_partition_in_order() {
    let cluster = cluster(2, 3);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    let early = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        // Stashed: their topic is not known yet, or only just.
        let early = early.clone();
        let called = move |outcome: Result<_, _>| {
            assert!(outcome.is_ok());
            early.fetch_add(1, Ordering::SeqCst);
        };
        topic.send_record(to(0, "early")).unwrap().on_complete(called).unwrap();
    }
    producer.flush().wait().unwrap();
    let (sender, heard) = mpsc::channel();
    for n in 0..30_000_i64 {
        let sender = sender.clone();
        let delivery = topic.send_record(to((n % 3) as i32, &n.to_string())).unwrap();
        let called = move |outcome: Result<RecordMetadata, DeliveryError>| {
            let at = outcome.unwrap();
            let thread = std::thread::current().name().map(str::to_owned);
            sender.send((n, at.partition(), at.offset().unwrap(), thread)).unwrap();
        };
        delivery.on_complete(called).unwrap();
    }
    drop(sender);
    close(&producer);
    let told: Vec<_> = heard.iter().collect();
    assert_eq!(told.len(), 30_000);
    assert_eq!(early.load(Ordering::SeqCst), 100);
    let mut next = [100, 0, 0];
    for (n, partition, offset, thread) in told {
        assert_eq!(i64::from(partition), n % 3);
        assert_eq!(offset, next[partition as usize], "in the order of the partition");
        next[partition as usize] += 1;
        assert_eq!(thread.as_deref(), Some("tidegate-call"), "no loop calls the application");
    }
}

#[test]
fn a_callback_hears_why_its_record_failed_and_a_panic_costs_nothing_else() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    // MESSAGE_TOO_LARGE, of a single record.
    cluster.script([Fault::produce_error("t", 0, 10)]);
    let (sender, heard) = mpsc::channel();
    topic
        .send("k", "v")
        .unwrap()
        .on_complete(move |outcome| {
            sender.send(outcome.map(|at| at.offset())).unwrap();
            panic!("the application's own fault: part of the test");
        })
        .unwrap();
    let error = heard.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(error.to_string().contains("MESSAGE_TOO_LARGE"), "{error}");
    let (sender, heard) = mpsc::channel();
    let again = topic.send("k", "v").unwrap();
    again.on_complete(move |outcome| sender.send(outcome.is_ok()).unwrap()).unwrap();
    assert!(heard.recv_timeout(LONG).unwrap());
    assert_eq!(producer.failed_records().unread, 0, "the callback has read the error");
    close(&producer);
}

#[test]
fn what_a_close_fails_is_told_to_callbacks_before_the_close_ends() {
    let cluster = cluster(1, 1);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    cluster.pause_broker(1);
    let called = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let called = called.clone();
        let delivery = topic.send((), format!("{n}")).unwrap();
        delivery
            .on_complete(move |outcome| {
                assert!(outcome.is_err());
                called.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
    }
    producer.close(millis(10)).wait().unwrap_err();
    assert_eq!(called.load(Ordering::SeqCst), 100);
    cluster.resume_broker(1);
}

#[test]
fn more_callbacks_than_allowed_are_refused_with_their_deliveries() {
    let cluster = cluster(1, 1);
    let producer = builder(&cluster).configure(|config| config.callbacks_max = 1).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let (block, blocked) = mpsc::channel::<()>();
    let (sender, entered) = mpsc::channel();
    let slow = topic.send("k", "1").unwrap();
    slow.on_complete(move |_| {
        sender.send(()).unwrap();
        let _ = blocked.recv();
    })
    .unwrap();
    entered.recv_timeout(LONG).unwrap();
    let refused = topic.send("k", "2").unwrap().on_complete(|_| panic!("it is refused"));
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("tidegate.callbacks.max"), "{refused}");
    assert_eq!(acked(refused.delivery).offset(), Some(2), "the record is sent all the same");
    // Records go on, whatever a callback does.
    warm(&topic, 1);
    drop(block);
    eventually("a callback is taken again", || {
        topic.send("k", "3").unwrap().on_complete(|_| ()).is_ok()
    });
    close(&producer);
}

#[test]
fn a_callback_must_not_wait_for_records_and_one_given_after_the_close_is_called_at_once() {
    let cluster = cluster(1, 1);
    // What nobody flushes lingers on, so that no outcome is there before it is waited for.
    let producer = lingering(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let (sender, heard) = mpsc::channel();
    let again = topic.clone();
    let first = topic.send("k", "1").unwrap();
    let flush = producer.flush();
    first
        .on_complete(move |_| {
            let waited = again.send("k", "2").unwrap().wait();
            sender.send(waited.map(|at| at.offset())).unwrap();
        })
        .unwrap();
    flush.wait().unwrap();
    let error = heard.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(error.to_string().contains("on a thread of the producer itself"), "{error}");
    let kept = topic.send("k", "3").unwrap();
    close(&producer);
    let called = Arc::new(AtomicUsize::new(0));
    let counted = called.clone();
    kept.on_complete(move |outcome| {
        assert!(outcome.is_ok());
        counted.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    assert_eq!(called.load(Ordering::SeqCst), 1);
}

#[test]
fn a_flush_waits_for_the_callbacks_that_were_given_before_it() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for round in 1..=20 {
        let errors = Arc::new(AtomicUsize::new(0));
        // MESSAGE_TOO_LARGE, of a single record.
        cluster.script([Fault::produce_error("t", 0, 10)]);
        let counted = errors.clone();
        let delivery = topic.send("k", "v").unwrap();
        delivery
            .on_complete(move |outcome| {
                std::thread::yield_now();
                counted.fetch_add(usize::from(outcome.is_err()), Ordering::SeqCst);
            })
            .unwrap();
        producer.flush().wait().unwrap();
        assert_eq!(errors.load(Ordering::SeqCst), 1, "round {round}: nobody commits too early");
    }
    // A callback that does not return holds up the flushes after it, and no record.
    let (block, blocked) = mpsc::channel::<()>();
    topic
        .send("k", "v")
        .unwrap()
        .on_complete(move |_| {
            let _ = blocked.recv();
        })
        .unwrap();
    let mut flush = Box::pin(producer.flush());
    warm(&topic, 1);
    let pending = flush.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    assert!(pending, "its callback has not returned");
    drop(block);
    block_on(flush).unwrap();
    close(&producer);
}

#[test]
fn a_record_that_was_stashed_and_waits_for_a_leader_holds_up_no_other_callback() {
    let cluster = cluster(2, 2);
    cluster.set_leaderless("t", 0);
    let producer = patient(&cluster).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let (sender, heard) = mpsc::channel();
    for partition in [0, 1, 1] {
        let sender = sender.clone();
        let delivery = topic.send_record(to(partition, "early")).unwrap();
        delivery.on_complete(move |outcome| sender.send(outcome.is_ok()).unwrap()).unwrap();
    }
    assert!(heard.recv_timeout(LONG).unwrap() && heard.recv_timeout(LONG).unwrap());
    cluster.move_leader("t", 0, cluster.broker_ids()[0]);
    assert!(heard.recv_timeout(LONG).unwrap());
}

#[test]
fn a_close_is_in_time_although_callbacks_are_many() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let topic = producer.topic("t").unwrap();
    for _ in 0..50_000 {
        let slow = |_| std::thread::sleep(millis(1));
        topic.send("k", "v").unwrap().on_complete(slow).unwrap();
    }
    let start = Instant::now();
    let error = producer.close(millis(500)).wait().unwrap_err();
    assert!(start.elapsed() < secs(10), "{:?}", start.elapsed());
    assert!(error.to_string().contains("tidegate-call"), "{error}");
}
