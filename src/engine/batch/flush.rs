//! Who waits for lanes to be flushed.

use std::task::Waker;

use crate::engine::sync::WakeList;
use crate::engine::sync::loom::{AtomicUsize, Mutex, MutexGuard, Ordering, fence, lock};

/// Tasks that wait until lanes have resolved what they held. Loops look here at the end of a turn
/// in which a lane has resolved something that a flush waits for.
#[derive(Default)]
pub struct FlushWaiters {
    waiting: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
}

impl FlushWaiters {
    /// Registers a waker; the caller looks again afterwards, then sleeps.
    pub fn register(&self, waker: &Waker) {
        let mut wakers = self.lock();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        self.waiting.store(wakers.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Something was resolved: whoever waits looks again.
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let wakers = {
            let mut wakers = self.lock();
            self.waiting.store(0, Ordering::SeqCst);
            std::mem::take(&mut *wakers)
        };
        WakeList::from(wakers).wake_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        // A push cannot leave the list broken.
        lock(&self.wakers)
    }
}
