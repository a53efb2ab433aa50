//! The producer on the embedded broker: what a user sees.

mod ages;
#[cfg(feature = "aws-msk-iam")]
mod aws;
mod backpressure;
mod callbacks;
mod chaos;
mod compression;
mod connecting;
mod creation;
mod delivery;
mod doubt;
mod encryption;
mod errors;
mod events;
mod explain;
#[cfg(all(feature = "serde", feature = "metrics", feature = "prometheus-client"))]
mod exports;
mod extremes;
mod fairness;
mod fallback;
mod faults;
mod giving_up;
mod handles;
mod interceptors;
mod lifecycle;
mod logins;
mod metadata;
mod old_brokers;
mod partitioners;
mod partitions;
mod policies;
mod proxies;
mod recovery;
#[cfg(feature = "tracing")]
mod spans;
mod spill;
mod stash;
mod steady;
mod tasks;
mod together;
#[cfg(feature = "oidc")]
#[path = "../support/token_endpoint.rs"]
mod token_endpoint;
#[cfg(feature = "oidc")]
mod tokens;
mod topic_settings;
mod topics;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tidegate::embedded::{EmbeddedCluster, EmbeddedRecord};
use tidegate::{
    Delivery, DeliveryError, EventLoops, Producer, ProducerBuilder, Record, RecordMetadata, Topic,
};

/// Longer than anything that works takes, also on a machine that is busy, shared and slow.
const LONG: Duration = Duration::from_secs(60);
/// A time that no test lives to see: whoever waits so long does not come back within [`LONG`].
const FAR: Duration = Duration::from_secs(600);

/// A cluster with one topic, `t`.
fn cluster(brokers: usize, partitions: i32) -> EmbeddedCluster {
    EmbeddedCluster::builder().brokers(brokers).topic("t", partitions).start().unwrap()
}

/// Unpinned: tests run side by side.
fn builder(cluster: &EmbeddedCluster) -> ProducerBuilder {
    Producer::builder(&cluster.bootstrap_servers()).configure(|config| config.pinning = false)
}

/// Batches that are not full, flushed or wanted for their memory wait for longer than any test.
fn lingering(cluster: &EmbeddedCluster) -> ProducerBuilder {
    builder(cluster).linger(FAR).delivery_timeout(2 * FAR)
}

/// No timeout of a request or a record passes while a test runs.
fn patient(cluster: &EmbeddedCluster) -> ProducerBuilder {
    builder(cluster).request_timeout(FAR).delivery_timeout(2 * FAR)
}

fn producer(cluster: &EmbeddedCluster) -> Producer {
    builder(cluster).build().unwrap()
}

/// Stops the only broker, and waits until the producer has noticed: what it sends from then on is
/// certainly not written.
fn stop(cluster: &EmbeddedCluster, producer: &Producer) {
    cluster.stop_broker(1);
    eventually("the connection is gone", || {
        producer.metrics().brokers.iter().all(|broker| !broker.is_connected)
    });
}

fn close(producer: &Producer) {
    producer.close(LONG).wait().unwrap();
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What became of a delivery, which must not take for ever.
fn outcome(mut delivery: Delivery) -> Result<RecordMetadata, DeliveryError> {
    delivery.wait_timeout(LONG).expect("every delivery resolves")
}

fn acked(delivery: Delivery) -> RecordMetadata {
    outcome(delivery).unwrap()
}

fn failed(delivery: Delivery) -> DeliveryError {
    outcome(delivery).expect_err("this delivery must fail")
}

fn to(partition: i32, value: &str) -> Record<'_> {
    Record::new().value(value).partition(partition)
}

/// Sends `value` to `partition` and waits for it, so that the topic is known afterwards.
fn warm(topic: &Topic, partitions: i32) {
    for partition in 0..partitions {
        acked(topic.send_record(to(partition, "warm")).unwrap());
    }
}

/// Waits until a record is acknowledged by a producer whose records expire so soon that a busy
/// machine may be too slow for one or the other.
fn goes_on(topic: &Topic, partition: i32, value: &str) {
    eventually("a record is acknowledged in time", || {
        outcome(topic.send_record(to(partition, value)).unwrap()).is_ok()
    });
}

/// Repeats, a few times, what a machine may be too slow for; it says so by returning false.
fn in_time(mut attempt: impl FnMut() -> bool) {
    assert!((0..5).any(|_| attempt()), "nothing came in time, five times in a row");
}

fn values(records: &[EmbeddedRecord]) -> Vec<String> {
    let text = |record: &EmbeddedRecord| {
        String::from_utf8(record.value.clone().expect("no null here").to_vec()).unwrap()
    };
    records.iter().map(text).collect()
}

/// Waits for something that no statistic of the cluster tells.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(millis(1));
    }
}

/// Runs a test that hangs, its clean-up included, if what it is about is broken.
fn watched(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(3 * LONG) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("a deadlock"),
        // It has panicked, or it is done.
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest runtime there is.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let start = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(start.elapsed() < LONG, "the future was never woken");
        std::thread::park_timeout(LONG);
    }
}

#[test]
fn the_smoke_test() {
    let cluster = cluster(3, 12);
    let producer = builder(&cluster).event_loops(EventLoops::shared(2).unpinned()).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> =
        (0..200_000_u32).map(|n| topic.send((), n.to_be_bytes()).unwrap()).collect();
    let mut per_partition = [0_u64; 12];
    for delivery in deliveries {
        per_partition[acked(delivery).partition() as usize] += 1;
    }
    close(&producer);
    let mut seen: Vec<u32> = Vec::new();
    for (partition, &count) in per_partition.iter().enumerate() {
        let records = cluster.records("t", partition as i32);
        assert_eq!(records.len() as u64, count);
        let number = |record: &EmbeddedRecord| {
            u32::from_be_bytes(record.value.as_deref().unwrap().try_into().unwrap())
        };
        let numbers: Vec<u32> = records.iter().map(number).collect();
        assert!(numbers.is_sorted(), "one thread's records keep their order");
        seen.extend(numbers);
    }
    seen.sort_unstable();
    assert!(seen.iter().copied().eq(0..200_000));
}
