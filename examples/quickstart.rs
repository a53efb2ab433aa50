//! The whole producer in one sitting, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Starts three brokers within this process, sends a million records to them from two threads,
//! waits for the delivery of every single one, reads everything back, and says what happened.
//! `--bootstrap-server HOST:PORT` sends to a real cluster instead.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tidegate::embedded::EmbeddedCluster;
use tidegate::{Delivery, DeliveryError, Producer, RecordMetadata, Topic};

#[path = "support/flags.rs"]
mod flags;
#[path = "support/numbered.rs"]
mod numbered;
#[path = "quickstart/read_back.rs"]
mod read_back;
#[path = "quickstart/report.rs"]
mod report;

use flags::Flags;
use numbered::NumberedValue;

const USAGE: &str = "\
quickstart [--records N] [--value-size BYTES] [--bootstrap-server HOST:PORT[,…]] [--topic NAME]

  --records N         how many records to send (also --count); default 1000000
  --value-size BYTES  the size of each value; default 100, at least 16
  --bootstrap-server  a real cluster to send to; default: three brokers within this process,
                      which keep every record in memory
  --topic NAME        the topic in the real cluster; default quickstart";

/// The sending threads.
const THREADS: u32 = 2;
/// The topic, and its partitions on the embedded brokers.
const TOPIC: &str = "quickstart";
const PARTITIONS: i32 = 12;
/// A thread sends no further record while so many of its deliveries are unresolved. More of them
/// fill larger batches and wait longer: this trades latency for throughput.
const UNRESOLVED_MAX: usize = 16_384;
/// How often a sending thread looks for deliveries that have resolved, in records.
const LOOK_EVERY: usize = 32;

/// Everything but "it went wrong somehow": threads hand their errors to the main one.
type Failure = Box<dyn Error + Send + Sync>;

struct Settings {
    bootstrap_servers: Option<String>,
    topic: String,
    records: u32,
    value_size: usize,
}

/// What became of one record.
struct Acknowledged {
    partition: i32,
    /// From the call of `send` until the sending thread saw that the delivery had resolved.
    latency_us: u32,
    offset: i64,
}

fn main() -> ExitCode {
    match settings().map_err(Failure::from).and_then(|settings| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: &Settings) -> Result<(), Failure> {
    let cluster = match settings.bootstrap_servers {
        Some(_) => None,
        None => Some(EmbeddedCluster::builder().brokers(3).topic(TOPIC, PARTITIONS).start()?),
    };
    let bootstrap_servers = match (&settings.bootstrap_servers, &cluster) {
        (None, Some(cluster)) => cluster.bootstrap_servers(),
        (given, _) => given.clone().unwrap_or_default(),
    };

    // A producer and its topics are made once, and shared by every thread.
    let producer = Producer::builder(&bootstrap_servers).allow_auto_create_topics(true).build()?;
    let topic = producer.topic(&settings.topic)?;

    let mut out = std::io::stdout().lock();
    let start = Instant::now();
    let acknowledged = send_from_all_threads(&topic, settings)?;
    let elapsed = start.elapsed();

    report::rate(&mut out, settings, elapsed)?;
    report::latency(&mut out, &acknowledged)?;
    report::producer(&mut out, &producer, cluster.is_some())?;
    producer.close(Duration::from_secs(10)).wait()?;

    match &cluster {
        Some(cluster) => {
            report::brokers(&mut out, &cluster.stats())?;
            read_back::check(cluster, TOPIC, &acknowledged)?;
            let records = HumanCount(settings.records.into());
            writeln!(
                out,
                "read back   {records} records: each present once, where it was acknowledged"
            )?;
        }
        None => writeln!(out, "read back   skipped: this example reads embedded brokers only")?,
    }
    Ok(())
}

/// Returns what became of every record, by thread and by its number within the thread.
fn send_from_all_threads(
    topic: &Topic,
    settings: &Settings,
) -> Result<Vec<Vec<Acknowledged>>, Failure> {
    let progress = progress_bar(settings.records);
    let acknowledged = thread::scope(|scope| {
        let spawn = |thread: u32| {
            let records =
                settings.records / THREADS + u32::from(thread < settings.records % THREADS);
            let value = NumberedValue::new(thread, settings.value_size);
            let progress = &progress;
            scope.spawn(move || send(topic, value, records, progress))
        };
        let threads: Vec<_> = (0..THREADS).map(spawn).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<_, Failure>>| {
            thread.join().unwrap_or_else(|_| Err("a sending thread panicked".into()))
        };
        threads.into_iter().map(join).collect()
    });
    progress.finish_and_clear();
    acknowledged
}

/// One thread's work: sends its records and waits for the delivery of each.
fn send(
    topic: &Topic,
    mut value: NumberedValue,
    records: u32,
    progress: &ProgressBar,
) -> Result<Vec<Acknowledged>, Failure> {
    let mut backlog = Backlog::new(records, progress);
    for sequence in 0..records {
        let sent_at = Instant::now();
        // `()` is no key: the records are spread over the partitions, a batch at a time.
        let delivery = topic.send((), value.numbered(sequence))?;
        backlog.push(sent_at, delivery)?;
    }
    backlog.finish()
}

/// The deliveries that a thread has not seen resolved yet, oldest first.
///
/// Async code would just `.await` each delivery in a task of its own; a thread that wants to go on
/// sending keeps them and looks at them later.
struct Backlog<'a> {
    unresolved: VecDeque<(Instant, Delivery)>,
    acknowledged: Vec<Acknowledged>,
    progress: &'a ProgressBar,
}

impl<'a> Backlog<'a> {
    fn new(records: u32, progress: &'a ProgressBar) -> Self {
        Backlog {
            unresolved: VecDeque::with_capacity(UNRESOLVED_MAX),
            acknowledged: Vec::with_capacity(records as usize),
            progress,
        }
    }

    fn push(&mut self, sent_at: Instant, delivery: Delivery) -> Result<(), DeliveryError> {
        self.unresolved.push_back((sent_at, delivery));
        if self.unresolved.len() == UNRESOLVED_MAX {
            self.wait_for_oldest()?;
        } else if !self.unresolved.len().is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        self.take_resolved()
    }

    /// Takes what has resolved, up to the first delivery that has not.
    fn take_resolved(&mut self) -> Result<(), DeliveryError> {
        let before = self.acknowledged.len();
        while let Some((sent_at, delivery)) = self.unresolved.front_mut() {
            let Some(outcome) = delivery.try_take() else { break };
            let acknowledged = Acknowledged::now(*sent_at, &outcome?);
            self.unresolved.pop_front();
            self.acknowledged.push(acknowledged);
        }
        self.progress.inc((self.acknowledged.len() - before) as u64);
        Ok(())
    }

    fn wait_for_oldest(&mut self) -> Result<(), DeliveryError> {
        if let Some((sent_at, delivery)) = self.unresolved.pop_front() {
            let metadata = delivery.wait()?;
            self.acknowledged.push(Acknowledged::now(sent_at, &metadata));
            self.progress.inc(1);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Acknowledged>, Failure> {
        while !self.unresolved.is_empty() {
            self.wait_for_oldest()?;
            self.take_resolved()?;
        }
        Ok(self.acknowledged)
    }
}

impl Acknowledged {
    fn now(sent_at: Instant, metadata: &RecordMetadata) -> Acknowledged {
        Acknowledged {
            partition: metadata.partition(),
            latency_us: u32::try_from(sent_at.elapsed().as_micros()).unwrap_or(u32::MAX),
            // -1, as Kafka has it, where the offset is not known.
            offset: metadata.offset().unwrap_or(-1),
        }
    }
}

/// Shows nothing unless somebody is there to see it.
fn progress_bar(records: u32) -> ProgressBar {
    if !std::io::stdout().is_terminal() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40} {human_pos}/{human_len} records, {per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template above is well-formed");
    ProgressBar::new(records.into()).with_style(style)
}

fn settings() -> Result<Settings, String> {
    let known = ["--records", "--count", "--value-size", "--bootstrap-server", "--topic"];
    let flags = Flags::from_arguments(&known, USAGE)?;
    let records = match flags.number("--records")? {
        Some(records) => Some(records),
        None => flags.number("--count")?,
    };
    let value_size = flags.number("--value-size")?.unwrap_or(100);
    if value_size < numbered::SIZE_MIN {
        return Err(format!("--value-size {value_size}: at least {}", numbered::SIZE_MIN));
    }
    if flags.text("--topic").is_some() && flags.text("--bootstrap-server").is_none() {
        return Err("--topic: give --bootstrap-server as well".to_owned());
    }
    Ok(Settings {
        bootstrap_servers: flags.text("--bootstrap-server").map(str::to_owned),
        topic: flags.text("--topic").unwrap_or(TOPIC).to_owned(),
        records: records.unwrap_or(1_000_000),
        value_size,
    })
}
