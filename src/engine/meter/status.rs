//! Why a record waits.

use std::fmt;
use std::time::Duration;

use super::ConnectionState;
use crate::problem::Problem;

/// What the oldest record of a partition, or one particular record, waits for. Times are as of the
/// moment of asking.
///
/// Its `Display` is a sentence for a person: `broker 2 at kafka-2:9092: not connected (4 attempts
/// failed), next attempt in 180ms: connection refused`.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use tidegate::WaitsFor;
/// cluster.pause_broker(1); // It accepts connections, and answers nothing.
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let delivery = producer.topic("orders")?.send("customer-42", "paid")?;
/// assert!(matches!(delivery.status().waits_for, Some(WaitsFor::Metadata { .. })));
/// cluster.resume_broker(1);
/// delivery.wait()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WaitsFor {
    /// No broker has said yet what partitions the topic has.
    Metadata {
        /// The broker that is asked, or connected to.
        asks: Option<String>,
        /// Why there is no answer, if that is known.
        problem: Option<Problem>,
    },
    /// Brokers say that the topic does not exist.
    Topic {
        /// For how long.
        unknown_for: Duration,
    },
    /// The topic is known; the records that waited for that are put into their partitions one after
    /// the other, and this one is not yet. It waits for buffer memory, or for the partitioner.
    Partition,
    /// The record is on disk, and what was sent before it goes first: the broker takes records
    /// slower than they come, or not at all.
    Disk,
    /// The partition has no leader. The cluster elects one.
    Leader,
    /// The leader's connection.
    Connection {
        /// The leader's node id.
        broker: i32,
        /// Where it listens.
        address: String,
        /// How far the connection is. While it logs in, the login is what the record waits for.
        state: ConnectionState,
        /// Attempts that failed since the last connection that was of use.
        failures: u32,
        /// When the next attempt is made, where one is waited for.
        next_attempt: Option<Duration>,
        /// Why the last attempt failed.
        problem: Option<Problem>,
    },
    /// A producer id, without which nothing can be numbered (idempotence).
    ProducerId {
        /// Why there is none, if that is known.
        problem: Option<Problem>,
    },
    /// The broker asked for a pause: the client is over its quota.
    Throttle {
        /// The leader's node id.
        broker: i32,
        /// How much of the pause is left.
        left: Duration,
    },
    /// The pause after an error of the partition itself.
    Backoff {
        /// How much of it is left.
        left: Duration,
        /// The error.
        problem: Option<Problem>,
    },
    /// What is in flight at an earlier leader, or on an event loop that had the partition before.
    /// Sent beside it, records could change their order.
    EarlierAttempts {
        /// Batches in flight.
        in_flight: u32,
    },
    /// More records for its batch (`linger`).
    Linger {
        /// How much of the time is left.
        left: Duration,
    },
    /// Its turn: the connection's requests in flight are as many as may be, or other batches of the
    /// partition go first.
    Turn {
        /// The leader's node id.
        broker: i32,
        /// Requests in flight to that broker.
        requests_in_flight: usize,
        /// Batches of the same partition that are in flight.
        batches_in_flight: u32,
    },
    /// The broker's answer.
    Answer {
        /// The leader's node id.
        broker: i32,
        /// How long ago the request was made.
        since: Duration,
        /// Whether the socket has taken all of the request.
        is_written: bool,
    },
    /// The event loop that has the partition did not answer in time: it is held up, for instance in
    /// a waker of the application's; or the caller is that loop itself.
    EventLoop,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitsFor::Metadata { asks, problem } => {
                f.write_str("no broker has said what partitions the topic has")?;
                if let Some(asks) = asks {
                    write!(f, ", {asks} is asked")?;
                }
                because(f, problem.as_ref())
            }
            WaitsFor::Topic { unknown_for } => {
                write!(f, "brokers say for {} that the topic does not exist", Short(*unknown_for))
            }
            WaitsFor::Partition => f.write_str(
                "the topic is known, and its records are put into their partitions one by one",
            ),
            WaitsFor::Disk => f.write_str(
                "it is on disk, and sent when brokers have taken what was sent before it",
            ),
            WaitsFor::Leader => f.write_str("the partition has no leader"),
            WaitsFor::Connection { broker, address, state, failures, next_attempt, problem } => {
                write!(f, "broker {broker} at {address}: {state}")?;
                if *failures > 0 {
                    write!(f, " ({} failed)", counted(u64::from(*failures), "attempt"))?;
                }
                if let Some(wait) = next_attempt {
                    write!(f, ", next attempt in {}", Short(*wait))?;
                }
                match problem {
                    Some(problem) => write!(f, ": {}", problem.words_at(*broker, address)),
                    None => Ok(()),
                }
            }
            WaitsFor::ProducerId { problem } => {
                f.write_str("there is no producer id yet")?;
                because(f, problem.as_ref())
            }
            WaitsFor::Throttle { broker, left } => {
                let left = Short(*left);
                write!(f, "broker {broker} asked for a pause (a quota), {left} of it are left")
            }
            WaitsFor::Backoff { left, problem } => {
                write!(f, "it is sent again in {}", Short(*left))?;
                because(f, problem.as_ref())
            }
            WaitsFor::EarlierAttempts { in_flight } => write!(
                f,
                "the partition has moved, and what was sent before is not answered: {in_flight} in \
                 flight"
            ),
            WaitsFor::Linger { left } => {
                write!(f, "more records may join its batch for {} (linger)", Short(*left))
            }
            WaitsFor::Turn { broker, requests_in_flight, batches_in_flight } => write!(
                f,
                "its turn: broker {broker} has {} to answer, of them {batches_in_flight} with \
                 batches of the partition",
                counted(*requests_in_flight as u64, "request"),
            ),
            WaitsFor::Answer { broker, since, is_written: true } => {
                write!(f, "broker {broker} was asked {} ago and has not answered", Short(*since))
            }
            WaitsFor::Answer { broker, since, is_written: false } => write!(
                f,
                "broker {broker} was asked {} ago, and its socket has not taken all of the request",
                Short(*since)
            ),
            WaitsFor::EventLoop => f.write_str("the event loop that has the partition is held up"),
        }
    }
}

fn because(f: &mut fmt::Formatter<'_>, problem: Option<&Problem>) -> fmt::Result {
    match problem {
        Some(problem) => write!(f, ": {problem}"),
        None => Ok(()),
    }
}

/// A number and its noun, where the plural has an s more.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// A time as a person wants to read it: `3.2 s`, `180 ms`, `40 µs`.
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.0;
        if time >= Duration::from_secs(10) {
            write!(f, "{} s", time.as_secs())
        } else if time >= Duration::from_secs(1) {
            write!(f, "{:.1} s", time.as_secs_f64())
        } else if time >= Duration::from_millis(1) {
            write!(f, "{} ms", time.as_millis())
        } else {
            write!(f, "{} µs", time.as_micros())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemKind;

    #[test]
    fn a_person_reads_what_a_record_waits_for() {
        let problem = Some(Problem::new(ProblemKind::Refused, "connection refused"));
        let at_broker = problem.clone().map(|it| it.at("broker 2 at kafka-2:9092"));
        let connection = WaitsFor::Connection {
            broker: 2,
            address: "kafka-2:9092".into(),
            state: ConnectionState::Down,
            failures: 4,
            next_attempt: Some(Duration::from_millis(180)),
            problem: at_broker,
        };
        assert_eq!(
            connection.to_string(),
            "broker 2 at kafka-2:9092: not connected (4 attempts failed), next attempt in 180 ms: \
             connection refused"
        );
        let metadata = WaitsFor::Metadata { asks: Some("kafka-1:9092".into()), problem };
        assert_eq!(
            metadata.to_string(),
            "no broker has said what partitions the topic has, kafka-1:9092 is asked: connection \
             refused"
        );
        let topic = WaitsFor::Topic { unknown_for: Duration::from_millis(3_240) };
        assert_eq!(topic.to_string(), "brokers say for 3.2 s that the topic does not exist");
    }
}
