//! `tidegate consume`: reads topics and prints their records.

mod format;
mod options;

use std::time::{Duration, Instant};

use tidegate::{ConsumedBatch, Consumer, ConsumerBuilder, StartAt};

use format::{Format, Shape};
pub(crate) use options::Options;
use options::Start;

use crate::failure::Failure;
use crate::output::Output;
use crate::produce::unescape;
use crate::signals::{LOOK_EVERY, Stop};
use crate::terminal::{say, show_log};

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    show_log(options.quiet, options.verbose);
    let stop = Stop::on_signals()?;
    let format = format(options)?;
    let mut config = options.connect.consumer_config(&[("client.id", "tidegate-consume")])?;
    if let Some(level) = options.isolation_level {
        config.isolation_level = level.into();
    }
    let start = match options.offset {
        Start::At(start) => start,
        // Where that is, only brokers know.
        Start::BeforeEnd(_) => StartAt::Latest,
    };
    let topics = options.topics.iter();
    let builder = topics.fold(ConsumerBuilder::from_config(config), |builder, topic| match options
        .partitions
        .as_slice()
    {
        [] => builder.topic(topic, start),
        some => builder.partitions(topic, some.iter().copied(), start),
    });
    let mut reading = Reading {
        consumer: builder.build()?,
        stop,
        format,
        output: Output::new(),
        line: Vec::new(),
        left: options.count.unwrap_or(u64::MAX),
        ends_at: None,
        read: 0,
    };
    if let Start::BeforeEnd(count) = options.offset {
        reading.go_back(count)?;
    }
    let read = reading.read(options.exit);
    let flushed = reading.output.flush();
    if !options.quiet {
        say(format_args!("tidegate: {} read", reading.read));
    }
    read.and(flushed)
}

fn format(options: &Options) -> Result<Format, Failure> {
    if options.json {
        return Ok(Format::Json);
    }
    if let Some(text) = &options.format {
        return Ok(Format::Shape(Shape::parse(text, &options.null)?));
    }
    let key_delimiter = options.key_delimiter.as_deref();
    let key_delimiter = key_delimiter.map(|text| unescape("-K", text)).transpose()?;
    let delimiter = unescape("-D", &options.delimiter)?;
    Ok(Format::Shape(Shape::line(key_delimiter, delimiter, &options.null)))
}

struct Reading {
    consumer: Consumer,
    stop: Stop,
    format: Format,
    output: Output,
    /// The record that is being printed.
    line: Vec<u8>,
    /// So many records are printed at the most.
    left: u64,
    /// Where the logs ended when all of them were first known, in the consumer's order.
    ends_at: Option<Vec<i64>>,
    read: u64,
}

impl Reading {
    /// Goes so many offsets before the end of each partition.
    fn go_back(&mut self, count: u64) -> Result<(), Failure> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        while self.consumer.lag().is_none() && !self.stop.is_set() {
            // What is written meanwhile is read again afterwards.
            if let Some(Err(error)) = self.consumer.poll(LOOK_EVERY) {
                return Err(Failure::failed(error));
            }
        }
        for status in self.consumer.partitions() {
            let end = status.position.unwrap_or_default();
            let first = status.log_start.unwrap_or_default();
            let start = StartAt::Offset(end.saturating_sub(count).max(first));
            self.consumer.seek(&status.topic, status.partition, start);
        }
        Ok(())
    }

    /// Prints records until there is a reason to end.
    fn read(&mut self, exits_at_end: bool) -> Result<(), Failure> {
        let mut looked = Instant::now();
        let mut wait = LOOK_EVERY;
        while self.left > 0 && !self.stop.is_set() {
            match self.consumer.poll(wait) {
                Some(Ok(batch)) => {
                    self.print(&batch)?;
                    // More may be there already: it is flushed together.
                    wait = Duration::ZERO;
                }
                Some(Err(error)) => return Err(Failure::failed(error)),
                None => {
                    self.output.flush()?;
                    wait = LOOK_EVERY;
                }
            }
            if exits_at_end && (wait > Duration::ZERO || looked.elapsed() > LOOK_EVERY) {
                looked = Instant::now();
                if self.is_at_end() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn print(&mut self, batch: &ConsumedBatch) -> Result<(), Failure> {
        for record in batch {
            if self.left == 0 || self.stop.is_set() {
                break;
            }
            let record = record.map_err(Failure::failed)?;
            self.line.clear();
            self.format.write(batch, &record, &mut self.line);
            self.output.write(&self.line)?;
            self.left -= 1;
            self.read += 1;
        }
        Ok(())
    }

    /// Whether all is read that was there when the ends of all partitions were first known: with
    /// writers that do not rest, the end itself is never reached.
    fn is_at_end(&mut self) -> bool {
        if self.ends_at.is_none() && self.consumer.lag().is_none() {
            return false;
        }
        let statuses = self.consumer.partitions();
        let ends_at = self.ends_at.get_or_insert_with(|| {
            statuses.iter().map(|status| status.high_watermark.unwrap_or_default()).collect()
        });
        // Partitions that were added since stand behind these.
        ends_at
            .iter()
            .zip(&statuses)
            .all(|(end, status)| status.position.is_some_and(|position| position >= *end))
    }
}
