//! `tidegate perf`: sends records as `kafka-producer-perf-test` does, and measures.
//!
//! Two threads besides the producer's: the main one waits for acknowledgements and counts, the
//! other one sends.

mod awaiting;
mod html;
mod numbers;
mod options;
mod payload;
mod plot;
mod report;

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tidegate::{Close, Producer, ProducerConfig, SendError, SendErrorKind, Topic};

pub(crate) use options::Options;

use awaiting::{Board, Groups, Reaper, Resolved};
use numbers::Numbers;
use payload::Payload;

use crate::failure::Failure;
use crate::failures::Failures;
use crate::output::Output;
use crate::signals::{LOOK_EVERY, Stop};
use crate::terminal::{Progress, say, show_log};

/// How long an interrupted run waits for what it has sent.
const INTERRUPTED_WAIT: Duration = Duration::from_secs(10);
/// The sender sleeps in pieces of this, so that it notices a signal.
const SLEEP_MAX: Duration = Duration::from_millis(100);

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    show_log(false, 0);
    if options.throughput == 0.0 || !options.throughput.is_finite() {
        return Err(Failure::usage("--throughput: a rate, or -1 for as fast as possible"));
    }
    let json = options.json.iter().filter(|path| path.as_os_str() != "-");
    for path in options.report.iter().chain(json) {
        // Before the run, whose numbers would be lost.
        let opened = OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| not_written(path, &error))?;
    }
    let stop = Stop::on_signals()?;
    let payload = Payload::new(options)?;
    let config = options.config()?;
    let settings = settings_of(&config);
    let producer = Producer::from_config(config)?;
    let topic = producer.topic(&options.topic).map_err(Failure::usage)?;
    let board = Board::new();
    let mut sender = Sender {
        topic,
        payload,
        board: board.clone(),
        groups: Groups::new(board.clone()),
        limit: options.limit(),
        stop: stop.clone(),
    };
    let count = options.num_records;
    let sending = thread::Builder::new().name("sender".to_owned()).spawn(move || {
        // Also if a panic ends the thread: the other one waits for this.
        let _ends = EndSending(sender.board.clone());
        let refused = sender.run(count);
        sender.groups.hand_over();
        refused
    });
    let sending =
        sending.map_err(|error| Failure::failed(format_args!("no thread to send on: {error}")))?;
    let mut counting = Counting {
        numbers: Numbers::new(options.warmup_records, options.reporting_interval * 1_000_000),
        failures: Failures::default(),
        producer,
        stop,
        closing: None,
        output: (!options.json_to_output()).then(Output::new),
        output_failed: None,
        goes_on_unseen: options.report.is_some() || options.json.is_some(),
        progress: Progress::begin(Some(count), true),
    };
    counting.run(&board);
    let refused = sending.join().map_err(|_| Failure::failed("the sending thread panicked"))?;
    counting.finish(options, refused, settings)
}

/// The settings that a reader of a report wants to know.
fn settings_of(config: &ProducerConfig) -> Vec<(&'static str, String)> {
    vec![
        ("acks", format!("{:?}", config.acks).to_ascii_lowercase()),
        ("idempotence", if config.is_idempotent() { "on" } else { "off" }.to_owned()),
        ("linger.ms", config.linger.as_secs_f64().mul_add(1_000.0, 0.0).to_string()),
        ("batch.size", config.batch_size.to_string()),
        ("buffer.memory", config.buffer_memory.to_string()),
        ("compression.type", format!("{:?}", config.compression).to_ascii_lowercase()),
        ("TLS", if config.tls.is_some() { "yes" } else { "no" }.to_owned()),
    ]
}

/// Tells that nothing more is sent when it is dropped.
struct EndSending(Arc<Board>);

impl Drop for EndSending {
    fn drop(&mut self) {
        self.0.end_sending();
    }
}

/// Sends the records.
struct Sender {
    topic: Topic,
    payload: Payload,
    board: Arc<Board>,
    groups: Groups,
    limit: Option<f64>,
    stop: Stop,
}

impl Sender {
    /// Sends `count` records, or fewer if the command is to end; the error of one that was refused
    /// ends it as well.
    fn run(&mut self, count: u64) -> Option<SendError> {
        let start = self.board.now();
        for index in 0..count {
            if self.stop.is_set() {
                return None;
            }
            let begun = match self.limit {
                Some(rate) => self.wait_for_turn(start, index as f64 / rate)?,
                None => self.board.now(),
            };
            let value = self.payload.value(index);
            let bytes = value.len();
            let sent = match self.topic.try_send((), value) {
                Err(error) if matches!(error.kind(), SendErrorKind::Rejected { .. }) => {
                    // What is acknowledged while this thread waits for room must be seen.
                    self.groups.hand_over();
                    self.topic.send((), self.payload.value(index))
                }
                sent => sent,
            };
            match sent {
                Ok(delivery) => self.groups.add(index, begun, bytes, delivery),
                Err(error) if self.stop.is_set() && *error.kind() == SendErrorKind::Closed => {
                    return None;
                }
                Err(error) => return Some(error),
            }
        }
        None
    }

    /// Waits until a record is due, so many seconds after the start; when its latency begins. A
    /// sender that slept for it was in time, give or take what the system takes to wake it; one
    /// that comes late was held up, and the record's latency counts that.
    fn wait_for_turn(&mut self, start: u64, seconds: f64) -> Option<u64> {
        let due = start.saturating_add((seconds * numbers::SECOND as f64) as u64);
        let now = self.board.now();
        if now >= due {
            return Some(due);
        }
        self.groups.hand_over();
        loop {
            let now = self.board.now();
            if now >= due {
                return Some(now);
            }
            if self.stop.is_set() {
                return None;
            }
            thread::sleep(Duration::from_nanos(due - now).min(SLEEP_MAX));
        }
    }
}

/// Counts what is acknowledged, and prints.
struct Counting {
    numbers: Numbers,
    failures: Failures,
    producer: Producer,
    stop: Stop,
    closing: Option<Close>,
    output: Option<Output>,
    output_failed: Option<Failure>,
    /// A report is wanted, also if nobody reads the lines.
    goes_on_unseen: bool,
    progress: Progress,
}

impl Counting {
    /// Returns when everything that was sent has resolved.
    fn run(&mut self, board: &Arc<Board>) {
        let mut reaper = Reaper::new(board.clone());
        while !reaper.is_done() {
            let worked = reaper.turn(|resolved| self.resolved(resolved));
            self.look(board.now());
            if !worked {
                thread::park_timeout(LOOK_EVERY);
            }
        }
    }

    fn resolved(&mut self, resolved: Resolved) {
        let Resolved { index, begun, at, bytes, outcome } = resolved;
        match outcome {
            Ok(_) => self.numbers.acknowledged(index, begun, at, bytes),
            Err(error) => {
                self.failures.add(format_args!("record {index}"), &error);
                self.numbers.failed = self.failures.count();
                if error.cause().is_topic_missing() {
                    // Every further record would only tell the same.
                    self.stop.set();
                }
            }
        }
    }

    fn look(&mut self, now: u64) {
        if self.stop.is_set() && self.closing.is_none() {
            // This also ends a send that waits for room.
            self.closing = Some(self.producer.close(INTERRUPTED_WAIT));
        }
        self.progress.set(self.numbers.total.records);
        if let Some(line) = self.numbers.poll_line(now) {
            self.print(&line);
        }
    }

    fn print(&mut self, line: &str) {
        let Some(output) = &mut self.output else { return };
        let printed = self.progress.above(|| output.line(line).and_then(|()| output.flush()));
        if let Err(failure) = printed {
            self.output = None;
            self.output_failed = Some(failure);
            if !self.goes_on_unseen {
                self.stop.set();
            }
        }
    }

    fn finish(
        mut self,
        options: &Options,
        refused: Option<SendError>,
        settings: Vec<(&'static str, String)>,
    ) -> Result<(), Failure> {
        let metrics = self.producer.metrics();
        let closing = self.closing.take();
        let closed = closing.unwrap_or_else(|| self.producer.close(INTERRUPTED_WAIT)).wait();
        self.progress.clear();
        let run = report::Run::new(options, &self.numbers, settings, report::Batches::of(&metrics));
        let mut lines = Vec::new();
        if self.numbers.total.records > 0 {
            lines = self.numbers.summary_lines();
            lines.extend(run.detail_lines());
        }
        // Both are written, whatever becomes of one of them.
        let json = match &options.json {
            _ if options.json_to_output() => Output::new().bytes(run.json().as_bytes()),
            Some(path) => write(path, &run.json()),
            None => Ok(()),
        };
        let page = options.report.as_ref().map_or(Ok(()), |path| write(path, &html::page(&run)));
        let metrics = options.print_metrics.then(|| report::lines(&metrics));
        for line in lines.into_iter().chain(metrics.into_iter().flatten()) {
            self.print(&line);
        }
        if let Some(error) = &refused {
            say(format_args!("tidegate: a record was refused, the rest was not sent: {error}"));
        }
        let (wanted, records, failed) =
            (options.num_records, self.numbers.total.records, self.numbers.failed);
        // A reader that leaves ends a run of which nothing else is wanted: no failure of it.
        let is_left = matches!(self.output_failed, Some(Failure::OutputClosed));
        if is_left && failed == 0 && refused.is_none() && !self.goes_on_unseen {
            return Err(Failure::OutputClosed);
        }
        if records < wanted {
            let unsent = wanted - records - failed;
            return Err(Failure::failed(format_args!(
                "of {wanted} records {records} were acknowledged, {failed} failed and {unsent} \
                 were not sent"
            )));
        }
        if let Some(failure) = self.output_failed.filter(|_| !is_left) {
            return Err(failure);
        }
        json.and(page)?;
        closed.map_err(Failure::failed)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| not_written(path, &error))
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format_args!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::embedded::EmbeddedCluster;

    #[test]
    fn a_record_that_is_sent_late_counts_from_when_it_was_due() {
        let cluster = EmbeddedCluster::builder().topic("t", 1).start().expect("brokers start");
        let producer = Producer::builder(&cluster.bootstrap_servers()).build().expect("it can");
        let board = Board::new();
        let mut sender = Sender {
            topic: producer.topic("t").expect("it is a name"),
            payload: Payload::Number(String::new()),
            board: board.clone(),
            groups: Groups::new(board.clone()),
            limit: Some(1_000.0),
            stop: Stop::on_signals().expect("signals can be watched for"),
        };
        let start = board.now();
        while board.now() < start + 50_000_000 {
            std::hint::spin_loop();
        }
        assert_eq!(sender.wait_for_turn(start, 0.01), Some(start + 10_000_000));
        let in_time = sender.wait_for_turn(start, 0.2).expect("nobody stops it");
        assert!(in_time >= start + 200_000_000);
        sender.stop.set();
        assert_eq!(sender.wait_for_turn(start, 3_600.0), None);
    }
}
