//! Wakers to be called at the end of a loop's turn.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// The wakers of all deliveries that were resolved during a turn. Calling them is the one place
/// where an event loop runs a user's code, so it happens with no lock held and nothing half done.
/// Reused from turn to turn: it keeps its capacity.
///
/// Dropping it calls what it holds: a loop that panics leaves nobody asleep.
#[derive(Default)]
pub struct WakeList {
    wakers: Vec<Waker>,
}

impl WakeList {
    /// An empty list; allocates at the first waker.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nobody to wake.
    pub fn is_empty(&self) -> bool {
        self.wakers.is_empty()
    }

    /// How many wakers there are.
    pub fn len(&self) -> usize {
        self.wakers.len()
    }

    /// Calls every waker, in the order in which they began to wait, and forgets them. One that
    /// panics does not keep the others from being called; returns how many did.
    pub fn wake_all(&mut self) -> usize {
        let mut panicked = 0;
        for waker in self.wakers.drain(..) {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                panicked += 1;
                // A payload is the user's too: one that panics when it is dropped has to leak what
                // that panic carries.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                dropped.unwrap_or_else(std::mem::forget);
            }
        }
        panicked
    }

    /// Adds a waker.
    pub fn push(&mut self, waker: Waker) {
        self.wakers.push(waker);
    }
}

impl Drop for WakeList {
    fn drop(&mut self) {
        self.wake_all();
    }
}

impl fmt::Debug for WakeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeList").field("wakers", &self.wakers.len()).finish()
    }
}
