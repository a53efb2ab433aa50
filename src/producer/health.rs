//! Whether a producer can do its work now.

use std::fmt;
use std::time::Duration;

use super::producer::{BrokerLevels, Producer};
use crate::engine::meter::{ConnectionState, Short, counted};
use crate::problem::Problem;

/// A connection that is being made for records that wait is worth telling after this time.
const CONNECTING_MAX: u64 = 1_000_000_000;

/// Unknown topics that are named.
const NAMED_MAX: usize = 16;

/// Whether a producer can do its work: [`Producer::health`]. Its `Display` names each reason.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # cluster.pause_broker(1);
/// use tidegate::{HealthReason, HealthState};
///
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let health = producer.health();
/// println!("{health}"); // down: no broker has answered yet, 127.0.0.1:36251 is asked
/// assert_eq!(health.state, HealthState::Down);
/// assert!(matches!(health.reasons[..], [HealthReason::Metadata { .. }]));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// The state.
    pub state: HealthState,
    /// What stands in the way; empty where all is well.
    pub reasons: Vec<HealthReason>,
}

/// How healthy a producer is.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().start()?;
/// # cluster.pause_broker(1);
/// use tidegate::HealthState;
///
/// /// For a readiness probe: a service some of whose records wait still does its work.
/// fn is_ready(producer: &Producer) -> bool {
///     producer.health().state < HealthState::Down
/// }
///
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// assert!(!is_ready(&producer)); // no broker has answered yet
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HealthState {
    /// It knows the cluster, and nothing stands in the way of any record.
    Ready,
    /// It works in part: some records wait longer than they should. The reasons say which.
    Degraded,
    /// Nothing can be delivered now.
    Down,
}

/// Something that stands in the way of records.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use std::time::Duration;
/// use tidegate::HealthReason;
///
/// producer.close(Duration::from_secs(10)).wait()?;
/// let health = producer.health();
/// assert!(matches!(health.reasons[..], [HealthReason::Closed]));
/// assert_eq!(health.to_string(), "down: the producer is closed");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HealthReason {
    /// The producer was closed, or the process is a fork of the one that built it.
    Closed,
    /// No broker has answered since the producer was built, or the one that is asked does not
    /// answer any more.
    Metadata {
        /// The broker that is asked, or connected to.
        asks: Option<String>,
        /// How old the last answer is; `None` if there was none.
        answered: Option<Duration>,
        /// What went wrong.
        problem: Option<Problem>,
    },
    /// Brokers give no producer id, without which nothing can be sent (idempotence).
    ProducerId {
        /// Why.
        problem: Option<Problem>,
    },
    /// There is no connection to a broker that records wait for, or that was tried last.
    Broker {
        /// Its node id.
        broker: i32,
        /// Where it listens.
        address: String,
        /// How far the connection is.
        state: ConnectionState,
        /// Attempts that failed since the last connection that was of use.
        failures: u32,
        /// What went wrong last.
        problem: Option<Problem>,
    },
    /// A broker asked for a pause: the client is over its quota.
    Throttled {
        /// Its node id.
        broker: i32,
        /// How much of the pause is left.
        left: Duration,
    },
    /// A broker is over its high watermark, or was and is not below the low one yet: what is sent
    /// there waits, or is dropped or rejected, as the backoff strategy says.
    Unwritable {
        /// Its node id.
        broker: i32,
        /// Bytes that wait or are in flight for it.
        charged: usize,
        /// The high watermark.
        high: usize,
    },
    /// Records wait for topics that brokers do not know.
    UnknownTopics {
        /// The first few, by name.
        topics: Vec<String>,
        /// How many they are.
        count: usize,
    },
    /// Partitions of topics in use have no leader.
    Leaderless {
        /// How many.
        partitions: usize,
    },
}

impl Producer {
    /// Whether the producer can do its work, and what stands in its way: for readiness probes and
    /// status pages.
    ///
    /// It asks nobody: it reads what the producer's threads noted when it changed, which takes some
    /// microseconds and a few more for each broker. Until the first broker has answered the state
    /// is [`HealthState::Down`]. Of partitions and single records it knows nothing: that is what
    /// [`Producer::report`] and [`Delivery::status`](crate::Delivery::status) are for.
    pub fn health(&self) -> Health {
        let shared = self.shared();
        if !shared.born.is_current() || shared.accumulator.is_closed() {
            return Health { state: HealthState::Down, reasons: vec![HealthReason::Closed] };
        }
        let now = shared.clock.now();
        let metadata = shared.accumulator.meters.metadata();
        let mut reasons = Vec::new();
        let is_known = metadata.answered_at.is_some();
        let lasts = |since: u64| now.saturating_sub(since) > CONNECTING_MAX;
        // Losing one broker and asking another takes no longer.
        let has_problem = metadata.problem_since.is_some_and(lasts);
        if !is_known || has_problem && metadata.has_identity {
            reasons.push(HealthReason::Metadata {
                asks: metadata.asks,
                answered: metadata
                    .answered_at
                    .map(|at| Duration::from_nanos(now.saturating_sub(at))),
                problem: metadata.problem.clone(),
            });
        }
        let lacks_identity = is_known && !metadata.has_identity;
        if lacks_identity {
            reasons.push(HealthReason::ProducerId { problem: metadata.problem });
        }
        let (reachable, any_ready) = self.add_brokers(now, &mut reasons);
        // One that was just asked for, or just created, is no trouble.
        let unknown = metadata.unknown_topics.iter();
        let unknown: Vec<_> = unknown.filter(|it| it.unknown_since.is_some_and(lasts)).collect();
        if !unknown.is_empty() && is_known {
            let names = unknown.iter().take(NAMED_MAX);
            let topics = names.map(|entry| entry.topic.to_string()).collect();
            reasons.push(HealthReason::UnknownTopics { topics, count: unknown.len() });
        }
        if metadata.leaderless > 0 {
            reasons.push(HealthReason::Leaderless { partitions: metadata.leaderless });
        }
        // An idle producer needs no broker, and so has no trouble with one: what its metadata
        // channel finds tells whether there is a cluster at all.
        let is_cut_off = has_problem && !metadata.is_connected && !any_ready;
        let state = match () {
            () if !is_known || lacks_identity || !reachable || is_cut_off => HealthState::Down,
            () if reasons.is_empty() => HealthState::Ready,
            () => HealthState::Degraded,
        };
        Health { state, reasons }
    }

    /// What is wrong with brokers. Returns whether some broker can be reached, as far as is known,
    /// and whether a connection is ready.
    fn add_brokers(&self, now: u64, reasons: &mut Vec<HealthReason>) -> (bool, bool) {
        let levels = self.broker_levels();
        let (meters, _) = self.shared().accumulator.meters.brokers();
        let (mut reachable, mut any_ready) = (meters.is_empty(), false);
        for meter in &meters {
            let standing = meter.standing();
            let level = levels.iter().find(|level| level.broker == meter.broker);
            let is_waited_for = level.is_some_and(|level| level.charged > 0)
                && now.saturating_sub(standing.since) > CONNECTING_MAX;
            let is_up = standing.state == ConnectionState::Ready;
            let is_away = !is_up && (standing.failures > 0 && standing.is_wanted || is_waited_for);
            any_ready |= is_up;
            reachable |= !is_away;
            if is_away {
                reasons.push(HealthReason::Broker {
                    broker: meter.broker,
                    address: standing.address,
                    state: standing.state,
                    failures: standing.failures,
                    problem: standing.problem,
                });
            } else if standing.throttled_until > now {
                let left = standing.throttled_until - now;
                let left = Duration::from_nanos(left);
                reasons.push(HealthReason::Throttled { broker: meter.broker, left });
            }
        }
        let full = levels.iter().filter(|level| !level.writable);
        reasons.extend(full.map(|&BrokerLevels { broker, charged, high, .. }| {
            HealthReason::Unwritable { broker, charged, high }
        }));
        (reachable, any_ready)
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HealthState::Ready => "ready",
            HealthState::Degraded => "degraded",
            HealthState::Down => "down",
        })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)?;
        for (index, reason) in self.reasons.iter().enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            reason.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for HealthReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = |f: &mut fmt::Formatter<'_>, problem: &Option<Problem>| match problem {
            Some(problem) => write!(f, ": {problem}"),
            None => Ok(()),
        };
        match self {
            HealthReason::Closed => f.write_str("the producer is closed"),
            HealthReason::Metadata { asks, answered, problem } => {
                match answered {
                    None => f.write_str("no broker has answered yet")?,
                    Some(age) => write!(f, "the last answer about leaders is {} old", Short(*age))?,
                }
                if let Some(asks) = asks {
                    write!(f, ", {asks} is asked")?;
                }
                because(f, problem)
            }
            HealthReason::ProducerId { problem } => {
                f.write_str("brokers give no producer id")?;
                because(f, problem)
            }
            HealthReason::Broker { broker, address, state, failures, problem } => {
                write!(f, "broker {broker} at {address}: {state}")?;
                if *failures > 0 {
                    write!(f, ", {} failed", counted(u64::from(*failures), "attempt"))?;
                }
                match problem {
                    Some(problem) => write!(f, ": {}", problem.words_at(*broker, address)),
                    None => Ok(()),
                }
            }
            HealthReason::Throttled { broker, left } => {
                write!(
                    f,
                    "broker {broker} asked for a pause (a quota), {} of it are left",
                    Short(*left)
                )
            }
            HealthReason::Unwritable { broker, charged, high } => write!(
                f,
                "broker {broker} takes records slower than they are sent: {charged} bytes wait or \
                 are in flight, and its high watermark is {high}"
            ),
            HealthReason::UnknownTopics { topics, count } => {
                let names = topics.join(", ");
                let more = count.saturating_sub(topics.len());
                write!(f, "records wait for unknown topics: {names}")?;
                if more > 0 { write!(f, " and {more} more") } else { Ok(()) }
            }
            HealthReason::Leaderless { partitions: 1 } => f.write_str("1 partition has no leader"),
            HealthReason::Leaderless { partitions } => {
                write!(f, "{partitions} partitions have no leader")
            }
        }
    }
}
