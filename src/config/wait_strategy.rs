//! How event loops wait.

use std::time::Duration;

/// How an event loop waits while it has nothing to do.
///
/// A loop that sleeps has to be woken: the first record after a pause costs its sender a system
/// call, and the system some microseconds until the loop runs; so does each answer of a broker. A
/// loop that spins sees both at once, and uses its core all the while: it pays only where each loop
/// has a core of its own, which nothing else needs ([`ProducerConfig::cores`]). On a machine where
/// others wait for that core it makes everything slower.
///
/// [`ProducerConfig::cores`]: crate::ProducerConfig::cores
///
/// ```
/// use std::time::Duration;
/// use tidegate::{ProducerConfig, WaitStrategy};
///
/// let properties = [("bootstrap.servers", "kafka:9092"), ("tidegate.loop.wait", "50")];
/// let config = ProducerConfig::from_properties(properties)?;
/// let spin = WaitStrategy::SpinThenBlock(Duration::from_micros(50));
/// assert_eq!(config.wait_strategy, spin);
/// # Ok::<(), tidegate::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// It sleeps until something happens.
    #[default]
    Block,
    /// It looks for news again and again for so long, and then sleeps.
    SpinThenBlock(Duration),
    /// It never sleeps. Its core is busy also while nothing is sent.
    Spin,
}
