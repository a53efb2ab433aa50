//! What is counted for each broker, and how its connection stands.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use super::{Counter, HistogramRecorder};
use crate::locking::lock;
use crate::problem::Problem;

/// The counters of one broker, and the state of its connection. Written by the shard that has the
/// broker; 10 KiB.
pub struct BrokerMeter {
    /// The broker's node id.
    pub broker: i32,
    /// Produce requests made.
    pub requests: Counter,
    /// Their bytes.
    pub request_bytes: Counter,
    /// The records in them; a record counts anew with each attempt.
    pub request_records: Counter,
    /// Produce requests that were answered.
    pub responses: Counter,
    /// Produce requests that are in flight.
    pub in_flight: Counter,
    /// Connections that got ready.
    pub connects: Counter,
    /// Connections that could not be made, or were lost while in use.
    pub failures: Counter,
    /// Answers that asked for a pause (a quota).
    pub throttles: Counter,
    /// The sum of those pauses, in milliseconds.
    pub throttle_ms: Counter,
    /// Bytes of batches that were compressed, before.
    pub plain_bytes: Counter,
    /// Bytes of the same batches, after.
    pub packed_bytes: Counter,
    /// From a request's making until its answer, in microseconds.
    pub request_latency_us: HistogramRecorder,
    /// From a batch's first record until the batch is put into a request for the first time, in
    /// microseconds.
    pub queue_time_us: HistogramRecorder,
    /// Bytes of a batch as it is sent.
    pub batch_bytes: HistogramRecorder,
    /// Records of a batch.
    pub batch_records: HistogramRecorder,
    standing: Mutex<BrokerStanding>,
}

/// How far the connection to a broker is.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::ConnectionState;
///
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let broker = &producer.metrics().brokers[0];
/// assert_eq!(broker.state, ConnectionState::Ready);
/// assert_eq!(broker.state.to_string(), "connected"); // for people
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// There is none: nothing had to be sent lately, or the last one failed and the next attempt is
    /// some time off.
    #[default]
    Down,
    /// Its address is looked up, or the socket is being connected, or encryption is being set up.
    Connecting,
    /// The broker is asked what it speaks.
    Handshaking,
    /// The broker checks who this client is.
    LoggingIn,
    /// Requests can be sent.
    Ready,
}

/// The state of a broker's connection. Times are nanoseconds of the monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct BrokerStanding {
    /// Where the broker listens.
    pub address: String,
    /// How far the connection is.
    pub state: ConnectionState,
    /// Since when it is so.
    pub since: u64,
    /// While it is down: when the next attempt may be made.
    pub retry_at: u64,
    /// Attempts that failed since the last connection that was of use.
    pub failures: u32,
    /// Why the last connection failed, until there is one again.
    pub problem: Option<Problem>,
    /// Whether records wait for it, or did when the connection was last looked at.
    pub is_wanted: bool,
    /// Until when the broker wants nothing sent; 0 if it never said so.
    pub throttled_until: u64,
}

impl BrokerMeter {
    /// Nothing counted, and no connection.
    pub fn new(broker: i32) -> Self {
        BrokerMeter {
            broker,
            requests: Counter::default(),
            request_bytes: Counter::default(),
            request_records: Counter::default(),
            responses: Counter::default(),
            in_flight: Counter::default(),
            connects: Counter::default(),
            failures: Counter::default(),
            throttles: Counter::default(),
            throttle_ms: Counter::default(),
            plain_bytes: Counter::default(),
            packed_bytes: Counter::default(),
            request_latency_us: HistogramRecorder::default(),
            queue_time_us: HistogramRecorder::default(),
            batch_bytes: HistogramRecorder::default(),
            batch_records: HistogramRecorder::default(),
            standing: Mutex::default(),
        }
    }

    /// How the connection stands.
    pub fn standing(&self) -> BrokerStanding {
        self.lock().clone()
    }

    /// By the shard: the connection stands so from `now` on. `since` is kept while the state is
    /// the same.
    pub fn set_standing(&self, now: u64, standing: BrokerStanding) {
        let mut present = self.lock();
        let since = if present.state == standing.state { present.since } else { now };
        *present = BrokerStanding { since, ..standing };
    }

    fn lock(&self) -> MutexGuard<'_, BrokerStanding> {
        // Only assignments happen under it.
        lock(&self.standing)
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionState::Down => "not connected",
            ConnectionState::Connecting => "connecting",
            ConnectionState::Handshaking => "asked what it speaks",
            ConnectionState::LoggingIn => "logging in",
            ConnectionState::Ready => "connected",
        })
    }
}
