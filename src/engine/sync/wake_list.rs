//! Wakers to be called at the end of a loop's turn.

use std::fmt;
use std::task::Waker;

use crate::user_code;

/// Wakers of the application's, as those of all deliveries that were resolved during a turn. They
/// are a user's code, which may send, drop handles, panic or never return: so they are called with
/// no lock held and nothing half done. A loop reuses its list from turn to turn: it keeps its
/// capacity.
///
/// Dropping it calls what it holds: a loop that panics leaves nobody asleep.
#[derive(Default)]
pub struct WakeList {
    wakers: Vec<Waker>,
    /// Something has resolved that a flush waits for.
    flushers: bool,
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
    #[cfg(feature = "internals")]
    pub fn len(&self) -> usize {
        self.wakers.len()
    }

    /// Calls every waker, in the order in which they began to wait, and forgets them. One that
    /// panics does not keep the others from being called; returns how many did.
    pub fn wake_all(&mut self) -> usize {
        if self.wakers.is_empty() {
            return 0;
        }
        let _inside = user_code::enter();
        self.wakers.drain(..).filter_map(|waker| user_code::call(|| waker.wake()).err()).count()
    }

    /// Something has resolved that a flush waits for. The caller of [`WakeList::wake_all`] tells
    /// `FlushWaiters` afterwards.
    pub fn wake_flushers(&mut self) {
        self.flushers = true;
    }

    /// Whether a flush must look again, since the last call.
    pub fn take_flushers(&mut self) -> bool {
        std::mem::take(&mut self.flushers)
    }

    /// Adds a waker.
    pub fn push(&mut self, waker: Waker) {
        self.wakers.push(waker);
    }
}

impl From<Vec<Waker>> for WakeList {
    fn from(wakers: Vec<Waker>) -> Self {
        WakeList { wakers, flushers: false }
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
