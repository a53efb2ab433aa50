//! Brokers that do not take what is ready for them (the availability timeout of KIP-794).
//!
//! Senders that choose among partitions leave such a broker's out. They look at a flag of its
//! account, so that a choice reads no clock; the shard raises it, and wakes up in time to do so.

use super::broker::Broker;
use super::shard::Shard;

impl Shard {
    /// Says of a broker, after its requests were packed, whether it has stalled.
    pub(super) fn note_stall(&mut self, now: u64, index: usize) {
        let Some(timeout) = self.config.availability_timeout else { return };
        let Some(broker) = self.brokers.get_mut(index).filter(|broker| !broker.leaving) else {
            return;
        };
        broker.waits_since = match broker.waits_since {
            // The wait is for the next request: each that leaves begins it anew.
            Some(since) if broker.is_wanted() => Some(since.max(last_taken(broker))),
            None if broker.is_wanted() => Some(now),
            _ => None,
        };
        let has_stalled = broker.waits_since.is_some_and(|since| now >= since + timeout);
        // The account may come from another shard, with that shard's word on it.
        if self.pool.is_stalled(broker.account) != has_stalled {
            self.pool.set_stalled(broker.account, has_stalled);
        }
    }

    /// When a broker will have stalled, unless it takes something before.
    pub(super) fn stall_timeout(&self, broker: &Broker) -> Option<u64> {
        let timeout = self.config.availability_timeout?;
        let at = broker.waits_since?.max(last_taken(broker)) + timeout;
        Some(at).filter(|_| !broker.leaving && !self.pool.is_stalled(broker.account))
    }
}

/// When the last request left for the broker's present connection, nanoseconds, monotonic.
fn last_taken(broker: &Broker) -> u64 {
    broker.connection().map_or(0, |connection| connection.last_sent())
}
