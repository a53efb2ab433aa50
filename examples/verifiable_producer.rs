//! Kafka's `VerifiableProducer` on tidegate: sends increasing numbers and prints a JSON line for
//! what becomes of each, so that a test can compare what was acknowledged with what can be read.
//!
//! ```text
//! verifiable_producer --bootstrap-server localhost:9092 --topic numbers --max-messages 1000
//! ```
//!
//! Flags and lines are those of `org.apache.kafka.tools.VerifiableProducer` in Kafka 4.3. Two
//! things differ: without `--bootstrap-server` it runs embedded brokers, so that it works with no
//! Kafka at hand; and records are retried until `delivery.timeout.ms`, where Kafka's tool sets
//! `retries` to 0 (put `retries=0` into the properties file for that).
//!
//! SIGTERM and SIGINT end it once everything that was sent is resolved.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tidegate::embedded::EmbeddedCluster;
use tidegate::{Delivery, Producer, Record, SendError, SendErrorKind, Topic};

#[path = "support/flags.rs"]
mod flags;
#[path = "verifiable_producer/options.rs"]
mod options;
#[path = "verifiable_producer/printer.rs"]
mod printer;

use options::Options;
use printer::Printer;

/// Of the topic, where the brokers are embedded.
const PARTITIONS: i32 = 12;
/// Records between the sending thread and the printing one.
const QUEUE_MAX: usize = 1_024;
/// How soon the sending thread notices a signal while it waits for its next record's time.
const SIGNAL_LATENCY: Duration = Duration::from_millis(10);

/// A record that was sent, or refused, on its way to the printer.
struct Sent {
    key: Option<String>,
    value: String,
    outcome: Result<Delivery, SendError>,
}

fn main() -> ExitCode {
    let outcome = Options::from_arguments().map_err(Into::into).and_then(|options| run(&options));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verifiable_producer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let stop = stop_on_signals()?;
    let mut config = options.config()?;
    let cluster = match config.bootstrap_servers.is_empty() {
        true => Some(embedded_cluster(&options.topic)?),
        false => None,
    };
    if let Some(cluster) = &cluster {
        eprintln!("no --bootstrap-server: running embedded brokers, with no Kafka at hand");
        let ids = cluster.broker_ids().into_iter();
        config.bootstrap_servers = ids.map(|id| cluster.address(id).to_string()).collect();
    }
    // By then every record has resolved, so that closing fails none.
    let close_timeout = config.delivery_timeout;
    let producer = Producer::from_config(config)?;
    let topic = producer.topic(&options.topic)?;

    let start = Instant::now();
    let mut printer = Printer::new(&options.topic, std::io::stdout());
    printer.startup_complete()?;
    let (queue_in, queue) = sync_channel(QUEUE_MAX);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| send(&topic, options, &stop, queue_in));
        // Closing also ends the wait of a sender for which there is no room.
        let mut closing = None;
        let printed = printer.print_records(&queue, || {
            if closing.is_none() && stop.load(Ordering::Relaxed) {
                closing = Some(producer.close(close_timeout));
            }
        });
        if printed.is_err() {
            // Nobody reads the lines any more.
            stop.store(true, Ordering::Relaxed);
            drop(queue);
            producer.close(Duration::ZERO).wait().ok();
        }
        let sent = sender.join().map_err(|_| "the sending thread panicked")?;
        printed.map(|()| sent).map_err(Box::<dyn Error>::from)
    })?;
    producer.close(close_timeout).wait()?;
    printer.shutdown_complete(sent, options.throughput, start.elapsed())?;
    Ok(())
}

/// Three brokers with the topic, unless its name is one that the producer will refuse.
fn embedded_cluster(topic: &str) -> Result<EmbeddedCluster, std::io::Error> {
    let cluster = EmbeddedCluster::builder().brokers(3);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let refused = topic.is_empty() || topic.len() > 249 || topic == "." || topic == "..";
    match !refused && topic.bytes().all(legal) {
        true => cluster.topic(topic, PARTITIONS).start(),
        false => cluster.start(),
    }
}

/// A flag that becomes true with the first SIGTERM or SIGINT. Further ones do nothing: whoever ends
/// a whole group of processes, as timeout(1) does, often sends two.
fn stop_on_signals() -> Result<Arc<AtomicBool>, std::io::Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        flag::register(signal, stop.clone())?;
    }
    Ok(stop)
}

/// Sends until all is sent or `stop` is true. Returns how many records it tried to send.
fn send(topic: &Topic, options: &Options, stop: &AtomicBool, queue: SyncSender<Sent>) -> u64 {
    let start = Instant::now();
    let mut timestamps = options.timestamps();
    let mut sent = 0;
    while options.wants(sent) && wait_for_turn(options.throughput, start, sent, stop) {
        let (key, value) = (options.key(sent), options.value(sent));
        let mut record = Record::new().key(key.as_deref()).value(&value);
        if let Some(timestamp) = timestamps.next() {
            record = record.timestamp(timestamp);
        }
        let outcome = topic.send_record(record);
        let closed =
            outcome.as_ref().is_err_and(|refused| *refused.kind() == SendErrorKind::Closed);
        if closed && stop.load(Ordering::Relaxed) {
            break;
        }
        sent += 1;
        if queue.send(Sent { key, value, outcome }).is_err() {
            break;
        }
    }
    sent
}

/// Waits until record number `index` is due at `throughput` records a second. False if it is to
/// stop instead.
fn wait_for_turn(throughput: i32, start: Instant, index: u64, stop: &AtomicBool) -> bool {
    let due = match throughput {
        ..0 => Some(Duration::ZERO),
        // Kafka's tool, too, then waits until it is killed.
        0 => None,
        _ => Some(Duration::from_secs_f64(index as f64 / f64::from(throughput))),
    };
    while !stop.load(Ordering::Relaxed) {
        let left = due.map_or(SIGNAL_LATENCY, |due| due.saturating_sub(start.elapsed()));
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(SIGNAL_LATENCY));
    }
    false
}
