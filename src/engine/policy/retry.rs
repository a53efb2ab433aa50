//! How long a failed attempt waits before the next.

use std::time::Duration;

/// Says how long a batch's partition waits before the batch is sent again, after the broker
/// answered with an error that a retry can mend. `retries` and `delivery_timeout` limit how often
/// that happens.
///
/// The policy is asked about nothing else. A batch whose connection was lost is sent again as soon
/// as there is a connection; waits between connections are set with `reconnect_backoff` and
/// `reconnect_backoff_max`, those between metadata requests with `metadata_min_refresh`.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::time::Duration;
/// # use tidegate::embedded::Fault;
/// # cluster.script(Fault::produce_error("orders", 0, 6));
/// // The broker says once that it does not lead the partition.
/// let fixed = |_attempt: u32, _random: u64| Duration::from_millis(1);
/// let producer = Producer::builder(&cluster.bootstrap_servers()).retry_policy(fixed).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!((at.offset(), producer.metrics().records.retries), (Some(0), 1));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait RetryPolicy: Send + Sync {
    /// The wait before the batch's next attempt. `attempt` is the number of waits that the batch
    /// has had: 0 for the first. `random` is evenly spread over all of `u64`; it is an argument so
    /// that a simulation decides it.
    ///
    /// Called on event loops, where a call that blocks stops all partitions of the loop: compute
    /// the wait and return. If the call panics, [`ExponentialRetry::default`] gives the wait.
    fn backoff(&self, attempt: u32, random: u64) -> Duration;
}

impl<F> RetryPolicy for F
where
    F: Fn(u32, u64) -> Duration + Send + Sync,
{
    fn backoff(&self, attempt: u32, random: u64) -> Duration {
        self(attempt, random)
    }
}

/// Exponential backoff with jitter, as KIP-580 defines it: the wait grows by `multiplier` from
/// `initial`, is varied by the share `jitter` to either side, and never exceeds `max`.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{ExponentialRetry, RetryPolicy};
///
/// let retry = ExponentialRetry {
///     jitter: 0.0,
///     ..ExponentialRetry::new(Duration::from_millis(50), Duration::from_millis(300))
/// };
/// let waits = [0, 1, 2, 3, 4].map(|attempt| retry.backoff(attempt, 0).as_millis());
/// assert_eq!(waits, [50, 100, 200, 300, 300]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExponentialRetry {
    /// The first wait, before jitter.
    pub initial: Duration,
    /// The longest wait, after jitter.
    pub max: Duration,
    /// The growth from one wait to the next; below 1 counts as 1.
    pub multiplier: f64,
    /// The share by which a wait may be shorter or longer, from 0 to 1.
    pub jitter: f64,
}

impl ExponentialRetry {
    /// Doubling from `initial` to `max` with ±20% jitter, which is what Kafka's clients do.
    pub fn new(initial: Duration, max: Duration) -> Self {
        ExponentialRetry { initial, max, multiplier: 2.0, jitter: 0.2 }
    }
}

impl Default for ExponentialRetry {
    /// From 100 ms to 1 s: Kafka's `retry.backoff.ms` and `retry.backoff.max.ms`.
    fn default() -> Self {
        ExponentialRetry::new(Duration::from_millis(100), Duration::from_secs(1))
    }
}

impl RetryPolicy for ExponentialRetry {
    fn backoff(&self, attempt: u32, random: u64) -> Duration {
        // A NaN becomes 1 here; in `jitter` it fails the conversion below, which answers `max`.
        let multiplier = self.multiplier.max(1.0);
        let jitter = self.jitter.clamp(0.0, 1.0);
        let max = self.max.as_secs_f64();
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        // The growth is cut off at `max` before jitter, so that late waits vary too: clients that
        // lost the same broker must not come back in step.
        let growth = multiplier.powi(exponent).min(f64::MAX);
        let grown = (self.initial.as_secs_f64() * growth).min(max);
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let wait = grown * (1.0 - jitter + 2.0 * jitter * share);
        Duration::try_from_secs_f64(wait).unwrap_or(self.max).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u64 = 1 << 63;

    #[test]
    fn doubles_from_100_ms_to_1_s() {
        let policy = ExponentialRetry::default();
        let waits: Vec<u128> =
            (0..6).map(|attempt| policy.backoff(attempt, MIDDLE).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(policy.backoff(u32::MAX, MIDDLE), Duration::from_secs(1));
    }

    #[test]
    fn jitter_is_a_fifth_to_either_side_and_below_the_maximum() {
        let policy = ExponentialRetry::default();
        assert_eq!(policy.backoff(0, 0).as_millis(), 80);
        let longest = policy.backoff(0, u64::MAX);
        assert!(longest > Duration::from_micros(119_999) && longest <= Duration::from_millis(120));
        assert_eq!(policy.backoff(9, 0).as_millis(), 800);
        assert_eq!(policy.backoff(9, u64::MAX), Duration::from_secs(1));
    }

    #[test]
    fn odd_settings_stay_within_bounds() {
        let max = Duration::from_secs(1);
        let odd = ExponentialRetry {
            initial: Duration::from_secs(5),
            max,
            multiplier: f64::NAN,
            jitter: f64::NAN,
        };
        assert_eq!(odd.backoff(3, MIDDLE), max);
        let zero = ExponentialRetry::new(Duration::ZERO, max);
        assert_eq!(zero.backoff(u32::MAX, u64::MAX), Duration::ZERO);
    }
}
