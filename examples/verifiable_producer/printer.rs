//! Prints a line for each record as soon as it is resolved, in the fields of Kafka's tool.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::{Delivery, DeliveryError, RecordMetadata};

use super::Sent;
use super::options::now_ms;

/// Unresolved records that are looked through for resolved ones; beyond it, sending waits.
const UNRESOLVED_MAX: usize = 16_384;
/// While the oldest record is unresolved, how often to look for newer ones that are not.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long to wait for a record to be sent before `each_turn` is called again.
const TURN_MAX: Duration = Duration::from_millis(10);

pub struct Printer<W: Write> {
    topic: String,
    lines: Lines<W>,
    /// Oldest first.
    unresolved: VecDeque<Unresolved>,
}

struct Unresolved {
    key: Option<String>,
    value: String,
    delivery: Delivery,
}

/// What is printed, and how many records were acknowledged.
struct Lines<W: Write> {
    out: BufWriter<W>,
    acked: u64,
}

impl<W: Write> Printer<W> {
    pub fn new(topic: &str, out: W) -> Self {
        let lines = Lines { out: BufWriter::new(out), acked: 0 };
        Printer { topic: topic.to_owned(), lines, unresolved: VecDeque::new() }
    }

    /// Prints what becomes of every record of `queue`, until its other end is dropped and all are
    /// resolved. Calls `each_turn` every few milliseconds.
    pub fn print_records(
        &mut self,
        queue: &Receiver<Sent>,
        mut each_turn: impl FnMut(),
    ) -> io::Result<()> {
        let mut open = true;
        while open || !self.unresolved.is_empty() {
            each_turn();
            open = open && self.receive(queue)?;
            if self.print_oldest()? > 0 {
                continue;
            }
            // From here on it waits, so that everything must be out before.
            self.lines.out.flush()?;
            if self.unresolved.is_empty() {
                if open && let Ok(sent) = queue.recv_timeout(TURN_MAX) {
                    self.accept(sent)?;
                }
            } else {
                self.wait_for_oldest()?;
            }
        }
        self.lines.out.flush()
    }

    /// Takes what was sent meanwhile. False once nothing more will come.
    fn receive(&mut self, queue: &Receiver<Sent>) -> io::Result<bool> {
        while self.unresolved.len() < UNRESOLVED_MAX {
            match queue.try_recv() {
                Ok(sent) => self.accept(sent)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn accept(&mut self, sent: Sent) -> io::Result<()> {
        let Sent { key, value, outcome } = sent;
        match outcome {
            Ok(delivery) => self.unresolved.push_back(Unresolved { key, value, delivery }),
            Err(refused) => {
                let failure = ("tidegate::SendError", refused.to_string());
                self.lines.failure(&self.topic, key.as_deref(), &value, failure)?;
            }
        }
        Ok(())
    }

    /// Prints in order, up to the first record that is not resolved. Returns how many.
    fn print_oldest(&mut self) -> io::Result<usize> {
        let mut printed = 0;
        while let Some(record) = self.unresolved.front_mut() {
            let Some(outcome) = record.delivery.try_take() else { break };
            self.lines.outcome(&self.topic, record, outcome)?;
            self.unresolved.pop_front();
            printed += 1;
        }
        Ok(printed)
    }

    /// Partitions do not wait for each other: where the oldest record takes long, newer ones may be
    /// resolved.
    fn wait_for_oldest(&mut self) -> io::Result<()> {
        let Some(mut oldest) = self.unresolved.pop_front() else { return Ok(()) };
        if let Some(outcome) = oldest.delivery.wait_timeout(LOOK_EVERY) {
            return self.lines.outcome(&self.topic, &oldest, outcome);
        }
        self.unresolved.push_front(oldest);
        // Newest first: what comes before a resolved record in its partition is then found
        // resolved as well, and lines keep the order of each partition.
        let newest_first = self.unresolved.iter_mut().rev();
        let outcomes: Vec<_> = newest_first.map(|record| record.delivery.try_take()).collect();
        let mut oldest_first = outcomes.into_iter().rev();
        let mut result = Ok(());
        self.unresolved.retain(|record| match oldest_first.next().flatten() {
            None => true,
            Some(outcome) => {
                if result.is_ok() {
                    result = self.lines.outcome(&self.topic, record, outcome);
                }
                false
            }
        });
        result
    }

    pub fn startup_complete(&mut self) -> io::Result<()> {
        self.lines.print("startup_complete", &[])?;
        self.lines.out.flush()
    }

    /// The last two lines, in the order of Kafka's tool.
    pub fn shutdown_complete(&mut self, sent: u64, target: i32, ran: Duration) -> io::Result<()> {
        self.lines.print("shutdown_complete", &[])?;
        let acked = self.lines.acked;
        let fields = [
            ("sent", json!(sent)),
            ("acked", json!(acked)),
            ("target_throughput", json!(target)),
            ("avg_throughput", json!(acked as f64 / ran.as_secs_f64().max(1e-3))),
        ];
        self.lines.print("tool_data", &fields)?;
        self.lines.out.flush()
    }
}

impl<W: Write> Lines<W> {
    fn outcome(
        &mut self,
        topic: &str,
        record: &Unresolved,
        outcome: Result<RecordMetadata, DeliveryError>,
    ) -> io::Result<()> {
        match outcome {
            Ok(metadata) => self.success(record, &metadata),
            Err(error) => {
                let failure = ("tidegate::DeliveryError", error.to_string());
                self.failure(topic, record.key.as_deref(), &record.value, failure)
            }
        }
    }

    fn success(&mut self, record: &Unresolved, at: &RecordMetadata) -> io::Result<()> {
        self.acked += 1;
        let fields = [
            ("key", json!(record.key)),
            ("value", json!(record.value)),
            // -1 is Kafka's word for an offset that is not known, as with acks=0.
            ("offset", json!(at.offset().unwrap_or(-1))),
            ("topic", json!(at.topic())),
            ("partition", json!(at.partition())),
        ];
        self.print("producer_send_success", &fields)
    }

    /// `failure` is the error's type and its message.
    fn failure(
        &mut self,
        topic: &str,
        key: Option<&str>,
        value: &str,
        failure: (&str, String),
    ) -> io::Result<()> {
        let fields = [
            ("topic", json!(topic)),
            ("key", json!(key)),
            ("value", json!(value)),
            ("exception", json!(failure.0)),
            ("message", json!(failure.1)),
        ];
        self.print("producer_send_error", &fields)
    }

    /// Prints a line by hand, because a JSON object of `serde_json` sorts its fields.
    fn print(&mut self, name: &str, fields: &[(&str, Value)]) -> io::Result<()> {
        write!(self.out, r#"{{"timestamp":{},"name":"{name}""#, now_ms())?;
        for (field, value) in fields {
            write!(self.out, r#","{field}":{value}"#)?;
        }
        self.out.write_all(b"}\n")
    }
}
