//! Waiting for batches, how much is fetched ahead, and the end.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tidegate::StartAt;

use super::{LONG, SHORT, cluster, consumer, eventually, next, numbered, producer, read, send};

#[test]
fn a_poll_comes_back_in_time() {
    let cluster = cluster(1, 1);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let start = Instant::now();
    assert!(consumer.poll(Duration::from_millis(50)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(consumer.poll(Duration::ZERO).is_none());
    assert!(start.elapsed() < LONG / 2);
}

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_is_woken_when_a_batch_has_come() {
    let cluster = cluster(1, 1);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let counted = Arc::new(Counted(AtomicUsize::new(0)));
    let waker = Waker::from(counted.clone());
    let mut context = Context::from_waker(&waker);
    let mut next = pin!(consumer.next_batch());
    assert!(next.as_mut().poll(&mut context).is_pending());
    send(&producer(&cluster), 0, numbered(0..1));
    let start = Instant::now();
    let batch = loop {
        match next.as_mut().poll(&mut context) {
            Poll::Ready(batch) => break batch.unwrap(),
            Poll::Pending => assert!(start.elapsed() < LONG),
        }
        let before = counted.0.load(Ordering::SeqCst);
        eventually("the task is woken", || counted.0.load(Ordering::SeqCst) > before);
    };
    assert_eq!(batch.first_offset(), 0);
}

#[test]
fn only_as_much_is_fetched_as_there_is_room_for() {
    const RECORDS: u32 = 400;
    let cluster = cluster(2, 4);
    let producer = producer(&cluster);
    let value = "x".repeat(1_000);
    for partition in 0..4 {
        send(&producer, partition, (0..RECORDS / 4).map(|_| value.clone()));
    }
    let fetch = |queue_max_bytes: usize| {
        let consumer = consumer(&cluster).topic("t", StartAt::Earliest);
        let consumer = consumer.configure(|config| {
            config.fetch_max_bytes = 10_000;
            config.max_partition_fetch_bytes = 5_000;
            config.queue_max_bytes = queue_max_bytes;
        });
        consumer.build().unwrap()
    };
    let before = cluster.stats().requests_of(1);
    let consumer = fetch(40_000);
    // Each fetch brings at most 10,000 bytes: with five and more there would be no room for it.
    eventually("something was fetched", || cluster.stats().requests_of(1) > before);
    std::thread::sleep(SHORT);
    let fetches = cluster.stats().requests_of(1) - before;
    assert!(fetches <= 8, "{fetches} fetches for a queue of four");
    read(&consumer, RECORDS as usize);
    eventually("the end is known", || consumer.lag() == Some(0));
}

#[test]
fn several_threads_share_a_consumer() {
    const RECORDS: u32 = 2_000;
    let cluster = cluster(1, 4);
    let producer = producer(&cluster);
    for partition in 0..4 {
        send(&producer, partition, numbered(0..RECORDS / 4));
    }
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let seen = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while seen.load(Ordering::SeqCst) < RECORDS as usize {
                    let Some(batch) = consumer.poll(Duration::from_millis(20)) else { continue };
                    let records = batch.unwrap().records().count();
                    seen.fetch_add(records, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(seen.into_inner(), RECORDS as usize);
}

#[test]
fn a_thread_that_gave_up_waiting_takes_nothing_from_those_that_still_do() {
    let cluster = cluster(1, 1);
    let producer = producer(&cluster);
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    std::thread::scope(|scope| {
        let patient: Vec<_> = (0..3).map(|_| scope.spawn(|| consumer.poll(LONG))).collect();
        // Waits later than they do, and gives up.
        std::thread::sleep(SHORT);
        assert!(consumer.poll(Duration::from_millis(10)).is_none());
        // Each of them takes one batch, and comes for no other.
        for number in 0..3 {
            send(&producer, 0, numbered(number..number + 1));
        }
        for thread in patient {
            assert!(thread.join().unwrap().is_some(), "it slept on");
        }
    });
}

#[test]
fn the_end_of_a_consumer_is_quick_and_leaves_nothing() {
    let cluster = cluster(2, 2);
    let start = Instant::now();
    for _ in 0..5 {
        let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
        eventually("it is connected", || consumer.lag() == Some(0));
        drop(consumer);
    }
    assert!(start.elapsed() < LONG / 2, "a fetch that waits is not waited for");
    let closed = |stats: &tidegate::embedded::ClusterStats| stats.connections_open() == 0;
    assert!(cluster.wait_until(LONG, closed));
    // A batch lives longer than its consumer.
    send(&producer(&cluster), 0, numbered(0..1));
    let consumer = consumer(&cluster).topic("t", StartAt::Earliest).build().unwrap();
    let batch = next(&consumer).unwrap();
    drop(consumer);
    assert_eq!(super::records(&batch), [(0, 0, "0".to_owned())]);
}
