//! The clocks: monotonic nanoseconds for deadlines, wall milliseconds for record timestamps.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::sys;
use crate::batch::MonotonicClock;
use crate::sync::Parker;

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
