//! The clocks: monotonic nanoseconds for deadlines, wall milliseconds for record timestamps.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::sys;
use crate::engine::batch::MonotonicClock;
use crate::engine::sync::Parker;

/// The process's clock. All threads of all producers count from the same start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

static START: OnceLock<Instant> = OnceLock::new();

impl Clock {
    /// Nanoseconds since an arbitrary start, never 0.
    #[inline]
    pub fn now(self) -> u64 {
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
    }

    /// Milliseconds since the Unix epoch, to the kernel's tick (1 to 4 ms): a few nanoseconds to
    /// read.
    #[inline]
    pub fn wall_ms(self) -> i64 {
        sys::wall_coarse_ms()
    }
}

impl MonotonicClock for Clock {
    fn monotonic(&self) -> u64 {
        self.now()
    }
}

/// Shorter sleeps of the machine are not told of. Readings are exact to a tenth of a second, and no
/// connection dies of this.
const SUSPEND_MIN: u64 = 1_000_000_000;

/// Notices that the machine was asleep, which [`Clock`] does not count.
#[derive(Debug)]
pub(super) struct SleepWatch {
    /// How long it had been asleep when that was last told.
    told: Option<u64>,
}

impl SleepWatch {
    /// One that tells of sleeps from now on.
    pub(super) fn new() -> Self {
        SleepWatch { told: asleep_ns() }
    }

    /// How long the machine was asleep since this was last told; 0 if it was not.
    pub(super) fn look(&mut self) -> u64 {
        asleep_ns().map_or(0, |asleep| self.observe(asleep))
    }

    fn observe(&mut self, asleep: u64) -> u64 {
        let span = asleep.saturating_sub(*self.told.get_or_insert(asleep));
        if span < SUSPEND_MIN {
            return 0;
        }
        self.told = Some(asleep);
        span
    }
}

/// What the system says, and tests have planted.
fn asleep_ns() -> Option<u64> {
    let asleep = sys::asleep_ns();
    #[cfg(feature = "internals")]
    let asleep = asleep.map(|asleep| asleep + crate::engine::planted::asleep_ns());
    asleep
}

/// Parks the calling thread until it is unparked or a time has passed.
#[derive(Clone, Copy, Debug)]
pub struct ThreadDeadline(Option<Instant>);

impl ThreadDeadline {
    /// `None`: no deadline. A time too far away to express counts as none.
    pub fn after(timeout: Option<Duration>) -> Self {
        ThreadDeadline(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left until then; `None`: no deadline.
    pub fn left(&self) -> Option<Duration> {
        self.0.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Parks. Returns false once the deadline has passed.
    pub fn park(&self, parker: &Parker) -> bool {
        match self.0 {
            None => parker.park(),
            Some(deadline) => {
                let now = Instant::now();
                if now >= deadline {
                    return false;
                }
                parker.park_timeout(deadline - now);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspend_is_told_once_and_noise_never() {
        const S: u64 = 1_000_000_000;
        let mut watch = SleepWatch { told: None };
        let spans = [7 * S, 7 * S + S / 10, 6 * S, 7 * S + S / 20].map(|at| watch.observe(at));
        assert_eq!(spans, [0; 4], "what was before, and inexact readings");
        assert_eq!(watch.observe(3_607 * S), 3_600 * S);
        assert_eq!(watch.observe(3_607 * S), 0);
        // Short ones add up.
        assert_eq!(
            [0, 6, 12].map(|tenths| watch.observe(3_607 * S + tenths * S / 10))[2],
            12 * S / 10
        );
        // Nobody suspends the machine while this runs.
        assert_eq!(SleepWatch::new().look(), 0);
    }
}
