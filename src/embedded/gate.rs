//! Whether the threads of a broker may go on.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSED: u8 = 1;
const STOPPED: u8 = 2;

/// Passed by a broker's threads after every read and before every write.
#[derive(Debug, Default)]
pub(super) struct Gate {
    flags: AtomicU8,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Gate {
    /// Waits while the broker is paused; an error once it is stopped.
    pub(super) fn pass(&self) -> io::Result<()> {
        if self.flags.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.flags.load(Ordering::Acquire) {
                0 => return Ok(()),
                flags if flags & STOPPED != 0 => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                _ => guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Waits for `duration`, and while paused; an error once the broker is stopped.
    pub(super) fn delay(&self, duration: Duration) -> io::Result<()> {
        let until = Instant::now() + duration;
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while self.flags.load(Ordering::Acquire) & STOPPED == 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            guard = match self.changed.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        drop(guard);
        self.pass()
    }

    pub(super) fn pause(&self) {
        self.change(|flags| flags | PAUSED);
    }

    pub(super) fn resume(&self) {
        self.change(|flags| flags & !PAUSED);
    }

    pub(super) fn stop(&self) {
        self.change(|flags| flags | STOPPED);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.flags.load(Ordering::Acquire) & STOPPED != 0
    }

    fn change(&self, to: impl Fn(u8) -> u8) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.flags.store(to(self.flags.load(Ordering::Acquire)), Ordering::Release);
        self.changed.notify_all();
    }
}
