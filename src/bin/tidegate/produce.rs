//! `tidegate produce`: sends lines or files as records, and tells what became of each.
//!
//! Two threads: one reads the input and sends, the other waits for the deliveries in order. What is
//! between them is bounded, and so is the producer's buffer: memory does not grow with the input.

mod input;
mod options;
mod sending;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Certainty, Delivery, DeliveryError, Producer, RecordMetadata};

pub(crate) use options::{Options, unescape};
use sending::{Chunk, News, Sending, Sent, Shape};

use crate::failure::Failure;
use crate::failures::Failures;
use crate::output::Output;
use crate::signals::{LOOK_EVERY, Stop};
use crate::terminal::{Progress, say, show_log};

/// Chunks of records between the two threads.
const CHUNKS_MAX: usize = 64;
/// How long an interrupted command waits for what it has read.
const INTERRUPTED_WAIT: Duration = Duration::from_secs(10);
/// How long a sender waits for room, in milliseconds, unless `max.block.ms` is given: longer than
/// any delivery takes, so that it is the deliveries that fail.
const MAX_BLOCK_MS: &str = "2147483647";

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    show_log(options.quiet, options.verbose.saturating_sub(1));
    let stop = Stop::on_signals()?;
    let defaults = [("max.block.ms", MAX_BLOCK_MS), ("client.id", "tidegate-produce")];
    let mut connect = options.connect.clone();
    let given = [("compression.type", &options.compression), ("acks", &options.acks)];
    for (name, value) in given {
        if let Some(value) = value {
            connect.properties.push(format!("{name}={value}"));
        }
    }
    let config = connect.config(&defaults)?;
    let shape = shape(options, config.max_request_size)?;
    let producer = Producer::from_config(config)?;
    let topic = producer.topic(&options.topic).map_err(Failure::usage)?;
    let (news_in, news) = sync_channel(CHUNKS_MAX);
    let (is_reading, is_enough) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let sending = Sending {
        topic,
        shape,
        stop: stop.clone(),
        is_reading: is_reading.clone(),
        is_enough: is_enough.clone(),
        news: news_in,
    };
    let (files, lines) = (options.files.clone(), options.lines);
    thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || sending.run(&files, lines))
        .map_err(|error| Failure::failed(format_args!("no thread to read on: {error}")))?;
    let mut reaper = Reaper {
        producer,
        stop,
        is_reading,
        is_enough,
        closing: None,
        output: (options.verbose > 0).then(Output::new),
        output_failed: None,
        progress: Progress::begin(None, !options.quiet && options.verbose == 0),
        counts: Counts::default(),
        failures: Failures::default(),
    };
    let complete = reaper.reap(&news);
    reaper.finish(complete, options.quiet)
}

fn shape(options: &Options, bytes_max: usize) -> Result<Shape, Failure> {
    let header = |text: &String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.clone(), None),
    };
    let key_delimiter = options.key_delimiter.as_deref();
    Ok(Shape {
        delimiter: unescape("-D", &options.delimiter)?,
        key_delimiter: key_delimiter.map(|text| unescape("-K", text)).transpose()?,
        key: options.key.clone(),
        headers: options.headers.iter().map(header).collect(),
        partition: options.partition,
        empty_is_null: options.null,
        bytes_max,
    })
}

/// What became of the records.
#[derive(Default)]
struct Counts {
    acknowledged: u64,
    /// Of those that failed, the ones that may be in the log nevertheless.
    unknown: u64,
    /// Read, and not sent because the command ended.
    too_late: u64,
    /// The last record that was read, by its name.
    last_read: Option<String>,
}

/// Waits for the deliveries, in order.
struct Reaper {
    producer: Producer,
    stop: Stop,
    is_reading: Arc<AtomicBool>,
    /// Nobody wants to see more: nothing more is to be read.
    is_enough: Arc<AtomicBool>,
    closing: Option<tidegate::Close>,
    output: Option<Output>,
    /// Why the output took no more.
    output_failed: Option<Failure>,
    progress: Progress,
    counts: Counts,
    failures: Failures,
}

impl Reaper {
    /// Returns when everything that was read has resolved; whether that was all of the input.
    fn reap(&mut self, news: &Receiver<News>) -> bool {
        let mut looked = Instant::now();
        loop {
            match news.recv_timeout(LOOK_EVERY) {
                Ok(News::Chunk(chunk)) => self.reap_chunk(chunk, &mut looked),
                Ok(News::Unreadable { input, why }) => self.failures.add(input, why),
                Ok(News::End) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    self.flush_output();
                    self.look_at_stop();
                    // The thread that sends may wait for its input for ever.
                    let ends = self.stop.is_set() || self.is_enough.load(Ordering::SeqCst);
                    if ends && self.is_reading.load(Ordering::SeqCst) {
                        return self.reap_rest(news, &mut looked);
                    }
                }
            }
        }
    }

    /// The thread that sends will send nothing more: counts what it has handed over. Returns
    /// whether it had come to the end.
    fn reap_rest(&mut self, news: &Receiver<News>, looked: &mut Instant) -> bool {
        while let Ok(told) = news.try_recv() {
            match told {
                News::Chunk(chunk) => self.reap_chunk(chunk, looked),
                News::Unreadable { input, why } => self.failures.add(input, why),
                News::End => return true,
            }
        }
        false
    }

    fn reap_chunk(&mut self, chunk: Chunk, looked: &mut Instant) {
        let Chunk { source, first, records } = chunk;
        self.counts.last_read = Some(source.name(first + records.len() as u64 - 1));
        for (index, sent) in records.into_iter().enumerate() {
            let name = || source.name(first + index as u64);
            match sent {
                Sent::Accepted(delivery) => match self.wait(delivery) {
                    Ok(at) => self.acknowledged(&at),
                    Err(error) => self.failed(&name(), &error),
                },
                Sent::Refused(why) => self.failures.add(name(), why),
                Sent::TooLate => self.counts.too_late += 1,
            }
        }
        if looked.elapsed() > LOOK_EVERY {
            *looked = Instant::now();
            self.progress.set(self.counts.acknowledged);
            self.look_at_stop();
        }
    }

    fn wait(&mut self, mut delivery: Delivery) -> Result<RecordMetadata, DeliveryError> {
        loop {
            if let Some(outcome) = delivery.try_take() {
                return outcome;
            }
            if let Some(outcome) = delivery.wait_timeout(LOOK_EVERY) {
                return outcome;
            }
            self.flush_output();
            self.progress.set(self.counts.acknowledged);
            self.look_at_stop();
        }
    }

    /// Begins to close once the command was asked to end: that also ends a send that waits for
    /// room.
    fn look_at_stop(&mut self) {
        if self.stop.is_set() && self.closing.is_none() {
            self.closing = Some(self.producer.close(INTERRUPTED_WAIT));
        }
    }

    fn acknowledged(&mut self, at: &RecordMetadata) {
        self.counts.acknowledged += 1;
        if let Some(output) = &mut self.output
            && let Err(failure) = output.line(at)
        {
            self.give_up_output(failure);
        }
    }

    fn flush_output(&mut self) {
        if let Some(output) = &mut self.output
            && let Err(failure) = output.flush()
        {
            self.give_up_output(failure);
        }
    }

    /// The output takes no more. Where its reader has left nothing more is read either; where it
    /// cannot be written, records go on: sending them is what the command is for.
    fn give_up_output(&mut self, failure: Failure) {
        self.output = None;
        if matches!(failure, Failure::OutputClosed) {
            // What was read is sent.
            self.is_enough.store(true, Ordering::SeqCst);
        }
        self.output_failed = Some(failure);
    }

    fn failed(&mut self, name: &str, error: &DeliveryError) {
        self.failures.add(name, error);
        self.counts.unknown += u64::from(error.certainty() == Certainty::Unknown);
        if error.cause().is_topic_missing() {
            // Every further record would only tell the same.
            self.stop.set();
            self.look_at_stop();
        }
    }

    /// Says how it went.
    fn finish(mut self, complete: bool, quiet: bool) -> Result<(), Failure> {
        self.flush_output();
        let closing = self.closing.take().unwrap_or_else(|| self.producer.close(INTERRUPTED_WAIT));
        // Every record has resolved by now, and was counted.
        let closed = closing.wait();
        drop(self.progress);
        let Counts { acknowledged, unknown, too_late, last_read } = self.counts;
        let failed = self.failures.count();
        let mut words = format!("{acknowledged} acknowledged");
        if failed > 0 {
            words += &format!(", {failed} failed");
        }
        if unknown > 0 {
            words += &format!(" ({unknown} of them may have been written)");
        }
        if too_late > 0 {
            words += &format!(", {too_late} not sent");
        }
        if !complete {
            words += "; the input was not read to its end";
            if let Some(last) = last_read {
                words += &format!(", but up to {last}");
            }
        }
        // A reader that leaves is no failure, unless records were read that are not sent now.
        let is_left = matches!(self.output_failed, Some(Failure::OutputClosed));
        let all_well = failed == 0 && too_late == 0 && (complete || is_left);
        if !quiet || !all_well {
            say(format_args!("tidegate: {words}"));
        }
        if let Err(error) = &closed
            && all_well
        {
            return Err(Failure::failed(error));
        }
        match self.output_failed {
            _ if !all_well => Err(Failure::Told),
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}
