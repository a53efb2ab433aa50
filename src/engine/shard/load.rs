//! How busy an event loop is, and how long part-filled batches are held back for that.
//!
//! A loop with time to spare sends a part-filled batch at once: nothing is gained by waiting. On a
//! busy one each request takes time from all others, so part-filled batches wait for some records
//! more. In between the wait grows with the load. A longer wait makes fewer requests, and so a
//! lower load: the two settle at some value, where a wait that is on or off would swing.

/// How far back the load looks, in nanoseconds. Some hundreds of turns at a high rate; and short
/// enough that a burst after a quiet time is soon known for what it is.
const SPAN: u64 = 5_000_000;

/// Shares of time are counted in millionths: a turn of a microsecond still shows.
const WHOLE: u64 = 1_000_000;

/// Up to this load part-filled batches are not held back.
const FREE_UP_TO: u64 = WHOLE / 2;

/// From this load on they are held back for [`FLOOR_MAX`].
const BUSY_FROM: u64 = WHOLE * 9 / 10;

/// A shorter wait is not worth the timer and the sleep that it takes, in nanoseconds.
const FLOOR_MIN: u64 = 10_000;

/// What a busy loop holds part-filled batches back for, in nanoseconds.
const FLOOR_MAX: u64 = 100_000;

/// The share of its time that a loop did not sleep, of late. Between 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopLoad {
    millionths: u64,
    seen_at: u64,
}

impl LoopLoad {
    /// A turn begins at `now`. Of the time since the last one began the loop slept for `asleep`, or
    /// looked for something to do and found nothing. Both in nanoseconds.
    pub fn observe(&mut self, now: u64, asleep: u64) {
        let before = std::mem::replace(&mut self.seen_at, now);
        let passed = now.saturating_sub(before);
        // The first turn has none before it.
        if before == 0 || passed == 0 {
            return;
        }
        let counted = passed.min(SPAN);
        let busy = u128::from(passed - asleep.min(passed)) * u128::from(counted);
        let busy = (busy / u128::from(passed)) as u64;
        self.millionths = (self.millionths * (SPAN - counted) + WHOLE * busy) / SPAN;
    }

    /// For how long after the last request of a connection part-filled batches are held back, in
    /// nanoseconds.
    pub fn floor(self) -> u64 {
        let over = self.millionths.clamp(FREE_UP_TO, BUSY_FROM) - FREE_UP_TO;
        let floor = FLOOR_MAX * over / (BUSY_FROM - FREE_UP_TO);
        if floor < FLOOR_MIN { 0 } else { floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    /// The floor of a loop that goes on like this: so long at work, then so long asleep.
    fn floor_after(load: &mut LoopLoad, turns: u32, busy: u64, asleep: u64) -> u64 {
        for _ in 0..turns {
            load.observe(load.seen_at + busy + asleep, asleep);
        }
        load.floor()
    }

    #[test]
    fn a_loop_with_time_to_spare_holds_nothing_back_and_a_busy_one_does() {
        let mut load = LoopLoad::default();
        assert_eq!(load.floor(), 0, "nothing is known");
        assert_eq!(floor_after(&mut load, 1_000, 10 * US, 40 * US), 0);
        let halfway = floor_after(&mut load, 5_000, 7 * US, 3 * US);
        assert!((45 * US..=50 * US).contains(&halfway), "{halfway}");
        assert_eq!(floor_after(&mut load, 50_000, US, 0), 100 * US);
        assert_eq!(floor_after(&mut load, 1_000, 10 * US, 40 * US), 0, "and again");
    }

    #[test]
    fn a_burst_is_known_within_milliseconds_and_forgotten_in_one_long_sleep() {
        let mut load = LoopLoad::default();
        floor_after(&mut load, 10, 1_000 * US, 9_000 * US);
        assert!(floor_after(&mut load, 10, 1_000 * US, 0) > 90 * US);
        assert_eq!(floor_after(&mut load, 1, 10 * US, 3_600_000_000 * US), 0);
        // A reading that is impossible, and one that is empty, change nothing for the worse.
        load.observe(load.seen_at, 7);
        load.observe(load.seen_at + 1, 7);
        assert_eq!(load.floor(), 0);
    }
}
