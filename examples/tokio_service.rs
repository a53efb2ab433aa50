//! A service on a single thread of tokio's, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example tokio_service
//! ```
//!
//! Requests come over a channel and are answered once their record is acknowledged. Meanwhile the
//! broker stands still for a while, buffers run full and requests wait. A heartbeat on the same
//! thread shows that it never stands still with them. Then the service shuts down within a limit.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{OnDrop, Producer, Topic};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, sleep, timeout};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
tokio_service [--count N]

  --count N  how many requests come; default 1000, at least 500";

const TOPIC: &str = "orders";
const BROKER: i32 = 1;
const VALUE_SIZE: usize = 1_024;
/// The requests that come while the broker stands still do not fit.
const HIGH_WATERMARK: usize = 128 << 10;
const LOW_WATERMARK: usize = 64 << 10;
/// How long the broker stands still.
const OUTAGE: Duration = Duration::from_millis(600);
const HEARTBEAT: Duration = Duration::from_millis(10);
/// Requests that have come and wait for the service.
const REQUESTS_MAX: usize = 64;
/// How long a request waits for room before it is refused.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the service may take to shut down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// A request, and where its answer goes: where the order was written, or what went wrong.
struct Request {
    order: String,
    answer: oneshot::Sender<Result<String, String>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    if count < 500 {
        return Err(format!("--count {count} does not fill the buffers\n{USAGE}").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(run(count))
}

async fn run(count: u32) -> Result<(), Box<dyn Error>> {
    let cluster = EmbeddedCluster::builder().brokers(1).topic(TOPIC, 1).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .watermarks(LOW_WATERMARK, HIGH_WATERMARK)
        // Should the service end early, the drop must not hold the runtime's thread for 5 s.
        .on_drop(OnDrop::Detach)
        .build()?;
    let orders = producer.topic(TOPIC)?;
    orders.send_async("customer-42", "the first order").await?.await?;

    let longest_gap = Arc::new(AtomicU64::new(0));
    let heartbeat = tokio::spawn(beat(longest_gap.clone()));
    let (requests, received) = mpsc::channel(REQUESTS_MAX);
    let service = tokio::spawn(serve(orders, received));

    cluster.pause_broker(BROKER);
    let clients = tokio::spawn(call(requests, count));
    sleep(OUTAGE).await;
    let level = producer.broker_levels()[0];
    println!("after {OUTAGE:?} without an answer {} bytes wait for the broker", level.charged);
    assert!(!level.writable, "the level rose over the high watermark");
    cluster.resume_broker(BROKER);

    // The service ends when no more requests come. One that gets SIGTERM lets go of its listener
    // or calls `close` on the receiver, which has the same effect.
    service.await?;
    let began = Instant::now();
    // Delivers what is unacknowledged within the limit. A flush before it would have no limit.
    producer.close(SHUTDOWN_LIMIT).await?;
    println!("closed within {:.1?}", began.elapsed());
    let answers = clients.await?;
    heartbeat.abort();

    let answered = answers.iter().filter(|answer| answer.is_ok()).count();
    println!("{answered} of {count} requests answered; the last: {:?}", answers.last());
    assert_eq!(answered, count as usize);
    assert_eq!(cluster.stats().records(), u64::from(count) + 1);
    let gap = Duration::from_micros(longest_gap.load(Ordering::Relaxed));
    println!("a heartbeat every {HEARTBEAT:?}; the longest gap between two was {gap:.1?}");
    assert!(gap < OUTAGE / 2, "the runtime's thread stood still");
    Ok(())
}

/// Takes requests as long as they can be sent; those that cannot stay in the channel, and hold up
/// those who call.
async fn serve(orders: Topic, mut requests: mpsc::Receiver<Request>) {
    loop {
        if let Err(error) = orders.ready().await {
            println!("the service ends: {error}");
            return;
        }
        let Some(Request { order, answer }) = requests.recv().await else { return };
        // One after the other, so that orders are written as they came. Only the answers are
        // awaited side by side.
        match timeout(ROOM_TIMEOUT, orders.send_async("customer-42", order)).await {
            Ok(Ok(delivery)) => {
                tokio::spawn(async move {
                    let outcome = delivery.await;
                    let told = outcome.map(|at| at.to_string()).map_err(|error| error.to_string());
                    // Who called may have gone meanwhile.
                    let _ = answer.send(told);
                });
            }
            Ok(Err(error)) => drop(answer.send(Err(error.to_string()))),
            Err(_) => drop(answer.send(Err("the service is busy: try again later".to_owned()))),
        }
    }
}

/// The clients: they send their requests and await the answers.
async fn call(requests: mpsc::Sender<Request>, count: u32) -> Vec<Result<String, String>> {
    let mut answers = Vec::new();
    for n in 0..count {
        let (answer, answered) = oneshot::channel();
        let order = format!("{:<VALUE_SIZE$}", format!("order {n}"));
        if requests.send(Request { order, answer }).await.is_err() {
            break;
        }
        answers.push(answered);
    }
    drop(requests);
    let mut outcomes = Vec::new();
    for answer in answers {
        outcomes.push(answer.await.unwrap_or_else(|_| Err("no answer came".to_owned())));
    }
    outcomes
}

/// Measures how long the runtime's thread did not get round to this task.
async fn beat(longest_gap_us: Arc<AtomicU64>) {
    let mut ticks = interval(HEARTBEAT);
    let mut before = ticks.tick().await;
    loop {
        ticks.tick().await;
        let now = tokio::time::Instant::now();
        let gap = u64::try_from(now.duration_since(before).as_micros()).unwrap_or(u64::MAX);
        longest_gap_us.fetch_max(gap, Ordering::Relaxed);
        before = now;
    }
}
