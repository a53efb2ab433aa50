//! What went wrong once, or might: topics that come late, wakers, room, brokers that fall silent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::embedded::{EmbeddedCluster, Fault};
use tidegate::{ConsumeErrorCause, Consumer, ProblemKind, Record, StartAt};

use super::{LONG, cluster, consumer, error, eventually, next, numbered, producer, read, send};

#[test]
fn a_topic_that_comes_after_its_error_is_read() {
    let cluster = EmbeddedCluster::builder().topic("there", 1).start().unwrap();
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Latest)
        .client(|client| client.topic_unknown_max = Duration::from_millis(1_500))
        .build()
        .unwrap();
    error(&consumer);
    assert!(cluster.create_topic("t", 1));
    send(&producer(&cluster), 0, numbered(0..1));
    let found = consumer.poll(LONG);
    let seekable = consumer.seek("t", 0, StartAt::Earliest);
    assert!(found.is_some(), "never read; seek says {seekable}: {:?}", consumer.partitions());
}

#[test]
fn a_missing_partition_that_is_sought_is_told_again() {
    let cluster = cluster(1, 2);
    let consumer = consumer(&cluster).partitions("t", [5], StartAt::Earliest).build().unwrap();
    error(&consumer);
    assert!(consumer.seek("t", 5, StartAt::Earliest));
    let told = consumer.poll(LONG);
    assert!(told.is_some(), "silence; {:?}", consumer.partitions());
}

#[test]
fn a_partition_that_is_added_after_its_error_is_read() {
    let cluster = cluster(1, 2);
    let consumer = consumer(&cluster).partitions("t", [3], StartAt::Earliest).build().unwrap();
    error(&consumer);
    assert!(cluster.add_partitions("t", 4));
    send(&producer(&cluster), 3, numbered(0..1));
    assert!(consumer.seek("t", 3, StartAt::Earliest));
    assert!(consumer.poll(LONG).is_some(), "{:?}", consumer.partitions());
}

#[test]
fn a_topic_that_may_not_be_seen_is_told_with_its_code() {
    let cluster = cluster(1, 1);
    cluster.script([Fault::metadata_error("t", 29).times(3)]);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let error = error(&consumer);
    let ConsumeErrorCause::Topic(Some(problem)) = error.cause() else { panic!("{error}") };
    let ProblemKind::Broker(code) = problem.kind() else { panic!("{error}") };
    assert_eq!(code.0, 29, "{error}");
}

#[test]
fn a_server_error_of_the_moment_does_not_end_a_partition() {
    let cluster = cluster(1, 1);
    send(&producer(&cluster), 0, numbered(0..1));
    cluster.script([Fault::fetch_error("t", 0, -1)]);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    next(&consumer).expect("Java's client logs UNKNOWN_SERVER_ERROR and asks again");
}

#[test]
fn lag_is_unknown_while_a_topic_is() {
    let cluster = cluster(1, 1);
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .topic("nope", StartAt::Earliest)
        .build()
        .unwrap();
    eventually("t is known", || consumer.partitions().iter().any(|it| it.lag().is_some()));
    assert_eq!(consumer.lag(), None);
}

#[test]
fn lag_of_a_consumer_that_goes_on_at_the_end() {
    let cluster = cluster(1, 1);
    send(&producer(&cluster), 0, numbered(0..3));
    let consumer = consumer(&cluster).topic("t", StartAt::Offset(3)).build().unwrap();
    eventually("it is known to be at the end", || consumer.lag() == Some(0));
}

#[test]
fn a_record_that_comes_between_the_two_questions_for_a_time_is_read() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    send(&producer, 0, numbered(0..3));
    // Later than those: the year 2096.
    let time = 4_000_000_000_000;
    cluster.script([
        Fault::delay(Duration::from_millis(1)).api(2),
        Fault::delay(Duration::from_secs(2)).api(2),
    ]);
    let consumer = consumer(&cluster).topic("t", StartAt::Time(time)).build().unwrap();
    // Its second question is answered 2 s after it came.
    eventually("it asks again", || cluster.faults_left() == 0);
    let record = Record::new().value("3").timestamp(time);
    producer.topic("t").unwrap().send_record(record).unwrap().wait().unwrap();
    let found = consumer.poll(LONG);
    assert!(found.is_some(), "offset 3 is newer and was lost: {:?}", consumer.partitions());
}

#[test]
fn the_end_of_a_task_does_not_take_another_ones_waker_along() {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let cluster = cluster(1, 1);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let flag = || Arc::new(Flag(AtomicBool::new(false)));
    let (a, b) = (flag(), flag());
    let (wake_a, wake_b) = (Waker::from(a.clone()), Waker::from(b.clone()));
    assert!(consumer.poll_next(&mut Context::from_waker(&wake_a)).is_pending());
    // Another task asks, and is cancelled: select! does that.
    let mut cancelled = Box::pin(consumer.next_batch());
    let mut context = Context::from_waker(&wake_b);
    assert!(matches!(cancelled.as_mut().poll(&mut context), Poll::Pending));
    drop(cancelled);
    send(&producer(&cluster), 0, numbered(0..1));
    eventually("the task that still waits is woken", || a.0.load(Ordering::SeqCst));
}

#[test]
fn a_waker_that_is_dropped_may_use_the_consumer() {
    struct Last(Mutex<Option<Arc<Consumer>>>);
    impl Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            if let Some(consumer) = self.0.lock().unwrap().take() {
                consumer.pause("t", 0);
            }
        }
    }
    let cluster = cluster(1, 1);
    let consumer = Arc::new(consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap());
    let (tell, told) = mpsc::channel();
    let other = consumer.clone();
    thread::spawn(move || {
        let waker = Waker::from(Arc::new(Last(Mutex::new(Some(other.clone())))));
        assert!(other.poll_next(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        // The last of it is in the queue, and is replaced under the queue's lock.
        let _ = other.poll_next(&mut Context::from_waker(Waker::noop()));
        tell.send(()).unwrap();
    });
    let done = told.recv_timeout(LONG);
    if done.is_err() {
        // Its lock is held for ever.
        std::mem::forget(consumer);
    }
    done.expect("no deadlock");
}

#[test]
fn a_batch_above_batch_max_bytes_is_an_error_also_uncompressed() {
    let cluster = cluster(1, 1);
    send(&producer(&cluster), 0, ["x".repeat(500_000)]);
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| {
            (config.max_partition_fetch_bytes, config.batch_max_bytes) = (100_000, 100_000);
        })
        .build()
        .unwrap();
    next(&consumer).expect_err("it is larger than what is taken");
}

#[test]
fn the_queue_keeps_its_limit() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    for _ in 0..300 {
        send(&producer, 0, ["x".repeat(1_000)]);
    }
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| {
            config.max_partition_fetch_bytes = 50_000;
            config.fetch_max_bytes = 50_000;
            config.queue_max_bytes = 50_000;
        })
        .build()
        .unwrap();
    // Time enough to fetch too much in.
    thread::sleep(Duration::from_secs(1));
    cluster.stop_broker(1);
    let mut bytes = 0;
    while let Some(batch) = consumer.poll(Duration::from_millis(300)) {
        for record in &batch.unwrap() {
            bytes += record.unwrap().value.unwrap().len();
        }
    }
    assert!(bytes > 0, "it was stopped before anything came");
    assert!(bytes <= 50_000, "{bytes} bytes were in a queue of 50000");
}

#[test]
fn seeks_are_not_a_metadata_request_each() {
    let cluster = cluster(1, 1);
    send(&producer(&cluster), 0, numbered(0..3));
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| config.fetch_max_wait = Duration::from_millis(20))
        .build()
        .unwrap();
    read(&consumer, 3);
    let before = cluster.stats().requests_of(3);
    for _ in 0..50 {
        assert!(consumer.seek("t", 0, StartAt::Earliest));
        read(&consumer, 3);
    }
    let asked = cluster.stats().requests_of(3) - before;
    assert!(asked <= 5, "{asked} metadata requests for 50 seeks");
}

#[test]
fn a_broker_is_not_starved_while_the_queue_is_never_empty() {
    let cluster = cluster(2, 2);
    let producer = producer(&cluster);
    for _ in 0..1_500 {
        send(&producer, 0, ["x".repeat(1_000)]);
    }
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .configure(|config| {
            config.max_partition_fetch_bytes = 10_000;
            config.fetch_max_bytes = 10_000;
            config.queue_max_bytes = 20_000;
            config.fetch_max_wait = Duration::from_millis(300);
        })
        .build()
        .unwrap();
    // The first broker alone fills the queue. Whether the second one was asked before that is a
    // matter of luck, and must not matter.
    send(&producer, 1, numbered(0..1));
    let mut count = 0;
    loop {
        let batch = next(&consumer).unwrap();
        if batch.partition() == 1 {
            break;
        }
        count += 1;
        assert!(count < 400, "400 batches of the other, and none of this one");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_leader_that_falls_silent_is_left_when_another_leads() {
    let cluster = cluster(2, 2);
    let producer = producer(&cluster);
    let consumer = consumer(&cluster)
        .topic("t", StartAt::Earliest)
        .client(|client| client.metadata_max_age = Duration::from_millis(500))
        .build()
        .unwrap();
    eventually("known", || consumer.lag() == Some(0));
    // Its fetches are swallowed, and everything else is answered.
    cluster.script([Fault::silence().api(1).broker(1).times(1_000)]);
    eventually("one is", || cluster.faults_left() < 1_000);
    assert!(cluster.move_leader("t", 0, 2));
    send(&producer, 0, numbered(0..1));
    let start = Instant::now();
    next(&consumer).unwrap();
    // The old leader would be given up after request_timeout, which is 30 s.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_consumer_whose_last_owner_is_its_waker_ends() {
    struct Owner(Mutex<Option<Arc<Consumer>>>, mpsc::Sender<Duration>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {
            let consumer = self.0.lock().unwrap().take();
            let start = Instant::now();
            drop(consumer);
            let _ = self.1.send(start.elapsed());
        }
    }
    let cluster = cluster(1, 1);
    let consumer = Arc::new(consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap());
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Owner(Mutex::new(Some(consumer.clone())), tell)));
    assert!(consumer.poll_next(&mut Context::from_waker(&waker)).is_pending());
    drop(consumer);
    send(&producer(&cluster), 0, numbered(0..1));
    let took = told.recv_timeout(LONG).expect("no deadlock");
    assert!(took < Duration::from_secs(8), "its drop took {took:?}: it waited for itself");
}
