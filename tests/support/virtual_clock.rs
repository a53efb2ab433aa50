//! Time that passes when a test says so, for shards that no thread runs.

use std::cell::Cell;

use tidegate::internals::batch::MonotonicClock;
use tidegate::internals::sync::WakeLoop;

/// Nanoseconds, as the producer's clock counts them.
#[derive(Default)]
pub struct VirtualClock(pub Cell<u64>);

impl MonotonicClock for VirtualClock {
    fn monotonic(&self) -> u64 {
        self.0.get()
    }
}

/// Shards are called when they have something to do, asleep or not.
pub struct NoWaker;

impl WakeLoop for NoWaker {
    fn wake(&self) {}
}
