//! A producer's counters, for whoever asks.

use super::producer::{Producer, Shared};
use crate::engine::batch::Metrics;

impl Producer {
    /// Everything that was counted since the producer was built, for each topic, partition and
    /// broker, and what it holds now. It can be asked for at any time, after the close too; the
    /// cost grows with the partitions, about a microsecond for ten of them.
    pub fn metrics(&self) -> Metrics {
        self.shared().metrics()
    }
}

impl Shared {
    /// See [`Producer::metrics`].
    pub(super) fn metrics(&self) -> Metrics {
        let metrics = self.accumulator.metrics(self.clock.now());
        Metrics { time_ms: self.clock.wall_ms(), ..metrics }
    }
}
