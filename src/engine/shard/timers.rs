//! When lanes are looked at again without being posted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::engine::batch::LaneId;

/// Timers of lanes that have left are thrown out once there are more than this, and more of them
/// than of others.
const STALE_MIN: usize = 64;

/// Why a lane is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TimerKind {
    /// Its backoff is over.
    Examine,
    /// Its earliest deadline.
    Expiry,
}

/// A lane as it is in a shard from its arrival until it leaves. When it comes back it is another
/// stay, which the timers of the one before say nothing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stay {
    pub lane: LaneId,
    /// The number of the stay, among all of the shard.
    pub arrival: u32,
}

/// The timers of a shard's lanes. Those of a lane that leaves stay until they are due or are many.
#[derive(Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, TimerKind, Stay)>>,
    /// How many were set for lanes that have left since, about.
    stale: usize,
}

impl Timers {
    /// Sets a timer, for a time in nanoseconds.
    pub(super) fn push(&mut self, at: u64, kind: TimerKind, stay: Stay) {
        self.heap.push(Reverse((at, kind, stay)));
    }

    /// The earliest time for which a timer is set.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes a timer that is due.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(TimerKind, Stay)> {
        if self.earliest()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, kind, stay))| (kind, stay))
    }

    /// How many are set.
    #[cfg(feature = "internals")]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// A lane left that has so many timers. `is_here` tells of a stay whether it lasts.
    pub(super) fn leave(&mut self, timers: usize, is_here: impl Fn(Stay) -> bool) {
        self.stale += timers;
        if self.stale > STALE_MIN.max(self.heap.len() / 2) {
            self.heap.retain(|Reverse((_, _, stay))| is_here(*stay));
            self.stale = 0;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn stay(lane: u32, arrival: u32) -> Stay {
        Stay { lane: LaneId(lane), arrival }
    }

    #[test]
    fn a_lane_that_comes_and_goes_does_not_pile_timers_up() {
        let mut timers = Timers::default();
        timers.push(1_000, TimerKind::Expiry, stay(0, 0));
        for arrival in 1..100_000 {
            timers.push(500, TimerKind::Expiry, stay(1, arrival));
            timers.push(500, TimerKind::Examine, stay(1, arrival));
            timers.leave(2, |stay| stay.lane == LaneId(0));
            assert!(timers.len() <= 2 * STALE_MIN + 1, "{}", timers.len());
        }
        assert!(timers.pop_due(499).is_none());
        let mut here = 0;
        while let Some((_, due)) = timers.pop_due(1_000) {
            here += usize::from(due == stay(0, 0));
        }
        assert_eq!(here, 1, "the timer of the lane that stayed");
    }
}
