//! What happens to records when a broker does not keep up, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example backoff_strategies
//! ```
//!
//! Starts a slow broker within this process and sends it the same load four times: under the
//! strategies that park the sender, drop records and reject them, and under one of its own, by
//! which urgent records wait and others are dropped. Each time the broker stands still for a
//! moment. A bar shows how the bytes that wait for the broker rise to the high watermark and fall
//! again.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use tidegate::embedded::{EmbeddedCluster, Fault};
use tidegate::{
    Backoff, BackoffStrategy, BrokerLevels, DropRecords, ParkSender, Pressure, Producer, Record,
    RejectRecords, SendError, Topic,
};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
backoff_strategies [--count N]

  --count N  how many records of 1 KiB to send under each strategy; default 2000, at least 500";

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 2;
const BROKER: i32 = 1;
const VALUE_SIZE: usize = 1_024;
/// The load of 500 records is above it.
const HIGH_WATERMARK: usize = 256 << 10;
const LOW_WATERMARK: usize = 64 << 10;
/// Small batches make many requests, so that the level falls in steps that the eye can follow.
const BATCH_SIZE: usize = 16 << 10;
/// How long the broker takes for each request.
const REQUEST_TIME: Duration = Duration::from_millis(5);
/// How long the broker stands still once it is over its high watermark.
const PAUSE: Duration = Duration::from_millis(120);
/// Senders rest for so long after a few records: they are quicker than a broker that stands still,
/// and slower than the broker when it works.
const REST: Duration = Duration::from_millis(2);
/// One record in so many is urgent.
const URGENT_EVERY: u32 = 10;
/// The priority of those that are; others have 0.
const URGENT: i32 = 1;
const LOOK_EVERY: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(20);

/// Urgent records wait for room, others are dropped.
#[derive(Default)]
struct UrgentWaits {
    /// What was dropped, by topic and partition.
    dropped: Mutex<BTreeMap<String, u64>>,
}

impl BackoffStrategy for UrgentWaits {
    fn decide(&self, pressure: &Pressure<'_>) -> Backoff {
        if pressure.priority >= URGENT {
            return Backoff::Park { at_most: TIMEOUT };
        }
        let place = match pressure.partition {
            Some(partition) => format!("{}-{partition}", pressure.topic),
            None => pressure.topic.to_owned(),
        };
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        *dropped.entry(place).or_default() += 1;
        Backoff::Drop
    }
}

/// What became of the load under one strategy.
struct Outcome {
    arrived: u32,
    urgent_arrived: u32,
    dropped: u64,
    refused: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(2_000);
    if count < 500 {
        return Err(format!("--count {count} does not reach the high watermark\n{USAGE}").into());
    }
    let urgent = count.div_ceil(URGENT_EVERY);

    println!("park: send holds the thread until there is room");
    let outcome = send_under(Arc::new(ParkSender::for_at_most(TIMEOUT)), count)?;
    assert_eq!((outcome.arrived, outcome.urgent_arrived), (count, urgent));

    println!("\ndrop: send succeeds, and the delivery fails");
    let outcome = send_under(Arc::new(DropRecords), count)?;
    assert!(outcome.dropped > 0 && outcome.refused == 0);

    println!("\nreject: send fails at once");
    let outcome = send_under(Arc::new(RejectRecords), count)?;
    assert!(outcome.refused > 0 && outcome.dropped == 0);

    println!("\nof one's own: urgent records wait, others are dropped");
    let strategy = Arc::new(UrgentWaits::default());
    let outcome = send_under(strategy.clone(), count)?;
    let dropped = strategy.dropped.lock().unwrap_or_else(PoisonError::into_inner);
    println!("  the strategy dropped {dropped:?}");
    assert!(outcome.dropped > 0 && outcome.dropped == dropped.values().sum::<u64>());
    assert_eq!(outcome.urgent_arrived, urgent, "urgent records all arrive");
    Ok(())
}

/// Sends the load to a broker that stands still for a moment, and tells what became of it.
fn send_under(strategy: Arc<dyn BackoffStrategy>, count: u32) -> Result<Outcome, Box<dyn Error>> {
    let cluster = EmbeddedCluster::builder().brokers(1).topic(TOPIC, PARTITIONS).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .batch_size(BATCH_SIZE)
        .watermarks(LOW_WATERMARK, HIGH_WATERMARK)
        // `backoff(strategy)` would take the strategy away; here its counts are read afterwards.
        .configure(|config| config.backoff = Some(strategy))
        .build()?;
    let orders = producer.topic(TOPIC)?;
    // Its acknowledgement shows that the producer knows the topic and has a connection.
    orders.send("customer-0", "the first order")?.wait()?;
    cluster.script([Fault::delay(REQUEST_TIME).times(usize::MAX)]);
    cluster.pause_broker(BROKER);
    let is_over = AtomicBool::new(false);
    let urgent = count.div_ceil(URGENT_EVERY);
    let sent = thread::scope(|scope| {
        scope.spawn(|| watch_level(&producer, &cluster, &is_over));
        // A thread that is parked with an urgent record holds no other up.
        let others = scope.spawn(|| send(&orders, 0, count - urgent, URGENT_EVERY - 1));
        let sent = send(&orders, URGENT, urgent, 1);
        let others = others.join();
        let flushed = producer.flush().wait();
        is_over.store(true, Ordering::Release);
        flushed.map(|()| (sent, others))
    });
    let (sent, others) = sent?;
    let (sent, others) = (sent?, others.map_err(|_| "a sender panicked")??);
    let refused = sent.refused + others.refused;
    let error = sent.error.or(others.error);

    let metrics = producer.metrics();
    producer.close(TIMEOUT).wait()?;
    let (arrived, urgent_arrived) = arrived(&cluster);
    let dropped = metrics.dropped;
    println!(
        "  {count} sent: {arrived} arrived, {} dropped, {refused} refused; urgent ones: \
         {urgent_arrived} of {}",
        dropped.total, urgent
    );
    println!("  dropped because the broker was over its watermark: {}", dropped.broker);
    println!("  dropped because the memory was used up: {}", dropped.pool);
    println!("  the first error: {}", error.as_deref().unwrap_or("none"));
    assert!(level(&producer).times_unwritable > 0, "the level rose over the high watermark");
    assert_eq!(u64::from(arrived + refused) + dropped.total, u64::from(count));
    Ok(Outcome { arrived, urgent_arrived, dropped: dropped.total, refused })
}

/// What a sender heard at once.
#[derive(Default)]
struct Sent {
    refused: u32,
    /// The words of the first error.
    error: Option<String>,
}

/// Sends so many records of one priority, `at_once` of them before each rest.
fn send(orders: &Topic, priority: i32, count: u32, at_once: u32) -> Result<Sent, SendError> {
    let mut sent = Sent::default();
    let word = if priority == URGENT { "urgent" } else { "order" };
    for n in 0..count {
        if n.is_multiple_of(at_once) {
            sleep(REST);
        }
        let value = format!("{word:<VALUE_SIZE$}");
        let record = Record::new().key(format!("customer-{n}")).value(value).priority(priority);
        match orders.send_record(record) {
            // A record that was dropped has failed by now. What becomes of the others is read from
            // the log of the broker; a service would look at their deliveries.
            Ok(mut delivery) => {
                if let Some(Err(error)) = delivery.try_take() {
                    sent.error.get_or_insert_with(|| error.to_string());
                }
            }
            Err(error) if error.is_retriable() => {
                sent.refused += 1;
                sent.error.get_or_insert_with(|| error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Prints the level as it changes, and lets the broker go on a moment after it was over its high
/// watermark.
fn watch_level(producer: &Producer, cluster: &EmbeddedCluster, is_over: &AtomicBool) {
    let began = Instant::now();
    let mut unwritable_since = None;
    let mut shown = String::new();
    while !is_over.load(Ordering::Acquire) {
        let level = level(producer);
        if level.times_unwritable > 0 {
            unwritable_since.get_or_insert_with(Instant::now);
        }
        let bar = bar(&level);
        if bar != shown {
            println!("  {:>4} ms {bar}", began.elapsed().as_millis());
            shown = bar;
        }
        let is_paused_enough = unwritable_since.is_some_and(|since| since.elapsed() >= PAUSE);
        if is_paused_enough || began.elapsed() > TIMEOUT {
            cluster.resume_broker(BROKER);
        }
        sleep(LOOK_EVERY);
    }
    println!("  {:>4} ms {}", began.elapsed().as_millis(), bar(&level(producer)));
}

fn level(producer: &Producer) -> BrokerLevels {
    let levels = producer.broker_levels();
    *levels.iter().find(|level| level.broker == BROKER).expect("the producer knows its broker")
}

/// 20 characters stand for the high watermark.
fn bar(level: &BrokerLevels) -> String {
    const WIDTH: usize = 20;
    let filled = (level.charged * WIDTH).div_ceil(level.high).min(WIDTH);
    let gate = if level.writable { "open" } else { "closed" };
    format!("[{}{}] {gate}", "#".repeat(filled), ".".repeat(WIDTH - filled))
}

/// How many records of the load are in the log, and how many of those are urgent.
fn arrived(cluster: &EmbeddedCluster) -> (u32, u32) {
    let (mut all, mut urgent) = (0, 0);
    for record in (0..PARTITIONS).flat_map(|partition| cluster.records(TOPIC, partition)) {
        let value = record.value.unwrap_or_default();
        all += u32::from(value.len() == VALUE_SIZE);
        urgent += u32::from(value.starts_with(b"urgent"));
    }
    (all, urgent)
}
