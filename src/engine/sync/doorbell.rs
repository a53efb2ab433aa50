//! Wake-up suppression: a sender wakes a loop's poller only if the loop sleeps.
//!
//! A wake is a system call (270 ns, and 3 µs until the loop runs), a queue entry 11 ns. So the
//! loop announces its sleep and then looks at its queues again, and a sender pushes and then looks
//! whether the loop sleeps. Both put a full fence between their two steps, so at least one of them
//! sees the other.

use crossbeam_utils::CachePadded;

use super::loom::{AtomicBool, Ordering, fence};

/// One event loop's doorbell.
///
/// The loop, before it sleeps: [`prepare_to_sleep`](Self::prepare_to_sleep), a last look at every
/// queue it serves, sleep only if all were empty, [`awake`](Self::awake) in any case. A sender:
/// push, then [`ring`](Self::ring).
#[derive(Debug)]
pub struct Doorbell {
    asleep: CachePadded<AtomicBool>,
}

impl Doorbell {
    /// The doorbell of a loop that is awake.
    pub fn new() -> Self {
        Self { asleep: CachePadded::new(AtomicBool::new(false)) }
    }

    /// The loop is about to sleep. It must look at its queues again after this call.
    pub fn prepare_to_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The loop is up again, woken or not.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// After a push: whether the loop sleeps. If so the caller, and only this caller, must call the
    /// poller's waker. While the loop is awake this costs a fence and a load.
    #[inline]
    #[must_use = "on true the poller must be woken"]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_ring_wakes_a_sleeping_loop() {
        let bell = Doorbell::new();
        assert!(!bell.ring());
        bell.prepare_to_sleep();
        assert!(bell.ring());
        assert!(!bell.ring());
        bell.prepare_to_sleep();
        bell.awake();
        assert!(!bell.ring());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::loom::Arc;
    use super::*;

    #[test]
    fn a_loop_that_sleeps_with_a_lane_posted_is_woken() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new());
            // Stands for the queue. Relaxed, so that only the doorbell's fences order anything.
            let posted = Arc::new(AtomicBool::new(false));
            let sender = {
                let (bell, posted) = (bell.clone(), posted.clone());
                loom::thread::spawn(move || {
                    posted.store(true, Ordering::Relaxed);
                    bell.ring()
                })
            };
            bell.prepare_to_sleep();
            let sleeps = !posted.load(Ordering::Relaxed);
            if !sleeps {
                bell.awake();
            }
            let woken = sender.join().expect("the sender does not panic");
            assert!(!sleeps || woken, "the loop sleeps for ever");
        });
    }
}
