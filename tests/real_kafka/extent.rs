//! How long scenarios go on: some seconds, or with `--long` as long as it takes to see the figures
//! that the manual and the issues speak of.

use std::sync::atomic::{AtomicBool, Ordering};

static LONG: AtomicBool = AtomicBool::new(false);

/// Scenarios take their full time from now on.
pub fn set_long() {
    LONG.store(true, Ordering::Relaxed);
}

/// The first in a short run, the second in a long one.
pub fn pick<T>(short: T, long: T) -> T {
    if LONG.load(Ordering::Relaxed) { long } else { short }
}
