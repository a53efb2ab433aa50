//! The lock around a lane's open batch: one atomic word with the bits *locked*, *seal wanted* and
//! *parked*.
//!
//! An event loop must never wait for a sender that was descheduled while it encoded, so the loop
//! only ever tries. When it finds the lock taken it leaves the bit *seal wanted* behind, and the
//! holder seals before it lets go. Setting the bit and learning that there is no holder are one
//! read-modify-write, so no request falls between a holder's last look and its release.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::loom::{AtomicU32, Condvar, Mutex, Ordering, UnsafeCell, lock, spin_loop};
use crate::locking::ignore_poison;

/// Somebody holds the lock.
const LOCKED: u32 = 1;
/// Whoever unlocks next seals first.
const SEAL_WANTED: u32 = 1 << 1;
/// At least one thread sleeps until the lock is free.
const PARKED: u32 = 1 << 2;

/// Looks at a taken lock before the thread sleeps. A holder encodes one record, 10 to 100 ns; a
/// spin hint takes 10 to 50. Longer only delays a holder that shares the core.
const SPINS_MAX: u32 = if cfg!(loom) { 0 } else { 60 };

/// A mutual exclusion lock that an event loop only tries, and through which it can ask the holder
/// to seal what the lock protects.
///
/// There is no poisoning: a holder that panics releases the lock, and `T` is as the holder left it.
/// A request to seal that such a holder had not served stays for the next unlock.
pub struct OpenLock<T> {
    state: AtomicU32,
    /// Threads that sleep for the lock; touched only when it is contended.
    parked: Mutex<u32>,
    released: Condvar,
    value: UnsafeCell<T>,
}

// SAFETY: the bit LOCKED gives at most one guard at a time, which is the only way to the value, so
// sharing the lock between threads moves `T` between them and never shares it.
unsafe impl<T: Send> Sync for OpenLock<T> {}
// SAFETY: the lock owns its value; nothing in it belongs to a thread.
unsafe impl<T: Send> Send for OpenLock<T> {}

impl<T> OpenLock<T> {
    /// An unlocked lock around `value`.
    pub fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(0),
            parked: Mutex::new(0),
            released: Condvar::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock; waits while another thread holds it: a short spin, then asleep. Not fair,
    /// not reentrant.
    #[inline(always)]
    pub fn lock(&self) -> OpenGuard<'_, T> {
        if self.state.compare_exchange(0, LOCKED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended();
        }
        OpenGuard { lock: self }
    }

    /// Takes the lock if nobody holds it. Otherwise asks the holder to seal and returns `None`:
    /// that holder, or a thread that takes the lock after it, will call its `seal` after this call
    /// began. Never waits.
    #[inline]
    pub fn try_lock_or_want_seal(&self) -> Option<OpenGuard<'_, T>> {
        let mut state = 0;
        loop {
            // Either way a read-modify-write of the very state that was tested: if the holder
            // leaves in between, the exchange fails, and the next round gets the lock itself. It
            // exchanges also when the bit is set already, for else the holder could be past its
            // last look.
            let wanted = if state & LOCKED == 0 { state | LOCKED } else { state | SEAL_WANTED };
            // Acquire for the lock. Release pairs with the clearing of the bit, so that the one who
            // seals sees what was done before the request.
            match self.state.compare_exchange(state, wanted, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if state & LOCKED == 0 => return Some(OpenGuard { lock: self }),
                Ok(_) => return None,
                Err(now) => state = now,
            }
        }
    }

    #[cold]
    fn lock_contended(&self) {
        for _ in 0..SPINS_MAX {
            let state = self.state.load(Ordering::Relaxed);
            if state & LOCKED == 0 && self.try_lock_from(state, state | LOCKED) {
                return;
            }
            spin_loop();
        }
        let mut parked = lock(&self.parked);
        *parked += 1;
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state & LOCKED == 0 {
                // Whoever released the lock woke one thread and cleared PARKED; the others still
                // sleep, so the bit is set again for them.
                let others = if *parked > 1 { PARKED } else { 0 };
                if self.try_lock_from(state, state & !PARKED | LOCKED | others) {
                    *parked -= 1;
                    return;
                }
            } else if state & PARKED != 0 || self.try_lock_from(state, state | PARKED) {
                // The holder cannot signal before this thread sleeps: it does so under `parked`.
                parked = ignore_poison(self.released.wait(parked));
            }
        }
    }

    #[inline]
    fn try_lock_from(&self, before: u32, after: u32) -> bool {
        self.state.compare_exchange(before, after, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Releases a lock whose state was found not to be plain `LOCKED`. SEAL_WANTED stays.
    #[cold]
    fn release_contended(&self) {
        let before = self.state.fetch_and(!(LOCKED | PARKED), Ordering::Release);
        if before & PARKED != 0 {
            self.wake_one();
        }
    }

    #[cold]
    fn wake_one(&self) {
        // Under the mutex: a thread that set PARKED is asleep by the time this gets it.
        let _parked = lock(&self.parked);
        self.released.notify_one();
    }
}

impl<T> fmt::Debug for OpenLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Ordering::Relaxed);
        f.debug_struct("OpenLock")
            .field("locked", &(state & LOCKED != 0))
            .field("seal_wanted", &(state & SEAL_WANTED != 0))
            .field("parked", &(state & PARKED != 0))
            .finish_non_exhaustive()
    }
}

/// The right to use what an [`OpenLock`] protects. [`unlock`](Self::unlock) is the regular end.
/// Dropping it, as a panic does, releases the lock too, but leaves a request to seal for the next
/// holder.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct OpenGuard<'a, T> {
    lock: &'a OpenLock<T>,
}

impl<T> OpenGuard<'_, T> {
    /// Releases the lock. Before that, still holding it, calls `seal` once for all requests to seal
    /// that came in so far, and again if another came in meanwhile. Returns whether `seal` was
    /// called: the lane is to be posted then.
    #[inline(always)]
    pub fn unlock(mut self, seal: impl FnMut(&mut T)) -> bool {
        let state = &self.lock.state;
        if state.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_ok() {
            std::mem::forget(self);
            return false;
        }
        let sealed = self.unlock_contended(seal);
        std::mem::forget(self);
        sealed
    }

    #[cold]
    fn unlock_contended(&mut self, mut seal: impl FnMut(&mut T)) -> bool {
        let mut sealed = false;
        loop {
            let state = self.lock.state.load(Ordering::Relaxed);
            if state & SEAL_WANTED != 0 {
                // Cleared first: a request that comes while sealing is a new one. Acquire pairs
                // with the request's release.
                self.lock.state.fetch_and(!SEAL_WANTED, Ordering::Acquire);
                seal(&mut *self);
                sealed = true;
                continue;
            }
            let released =
                self.lock.state.compare_exchange(state, 0, Ordering::Release, Ordering::Relaxed);
            if released.is_ok() {
                if state & PARKED != 0 {
                    self.lock.wake_one();
                }
                return sealed;
            }
        }
    }
}

impl<T> Deref for OpenGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one, so nobody writes the value while `self` is borrowed.
        self.lock.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for OpenGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only one and borrowed exclusively, so nobody else reads or
        // writes the value meanwhile.
        self.lock.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for OpenGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let state = &self.lock.state;
        if state.compare_exchange(LOCKED, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            self.lock.release_contended();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OpenGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
