//! Who waits for a cell: one list of wakers for each cell, all in storage that is pooled and
//! reused.
//!
//! A cell holds two words, its [`Phase`]; the wakers are in the slots of a [`WaiterPool`], linked
//! into a ring for each cell that somebody waits for. A handle remembers the number of its slot. A
//! slot belongs to its handle until that gives it back, also after the cell has taken the waker
//! out; so numbers need no generation.
//!
//! No waker is cloned or dropped under the pool's locks: both run a user's code, which may drop a
//! handle and come back here.

use std::task::Waker;

use crossbeam_utils::CachePadded;

use super::WakeList;
use super::loom::{AtomicU32, Mutex, Ordering, lock};

/// The waiter number of a handle that does not wait.
pub(super) const NO_WAITER: u32 = u32::MAX;

const PENDING: u32 = 0;
/// Pending, and the cell has a ring.
const AWAITED: u32 = 1;
const RESOLVED: u32 = 2;

/// Locks among which the cells of a store are spread, by address: tasks on many threads wait at the
/// same time.
const SHARD_BITS: u32 = if cfg!(loom) { 0 } else { 3 };
const SHARDS: usize = 1 << SHARD_BITS;

/// Whether a cell is resolved, and who waits for it.
#[derive(Debug)]
pub(super) struct Phase {
    state: AtomicU32,
    /// The ring's root slot; valid under the shard's lock while the state is AWAITED.
    root: AtomicU32,
}

impl Phase {
    pub(super) fn new() -> Self {
        Self { state: AtomicU32::new(PENDING), root: AtomicU32::new(NO_WAITER) }
    }

    /// Whether what was written before [`resolve`](Self::resolve) may be read.
    #[inline(always)]
    pub(super) fn is_resolved(&self) -> bool {
        self.state.load(Ordering::Acquire) == RESOLVED
    }

    /// Makes everything written before visible as the result, then moves the waiters' wakers to
    /// `wakes`. Called once.
    pub(super) fn resolve(&self, pool: &WaiterPool, wakes: &mut WakeList) {
        if self.state.swap(RESOLVED, Ordering::AcqRel) == AWAITED {
            lock(pool.shard_of(self)).take_ring(&self.root, wakes);
        }
    }

    /// Pending again, for a cell that nobody else knows of.
    pub(super) fn reset(&self) {
        self.state.store(PENDING, Ordering::Relaxed);
    }
}

/// The slots for all waiters of a store. Grows with the number that wait at once, up to its peak.
#[derive(Debug)]
pub(super) struct WaiterPool {
    shards: [CachePadded<Mutex<Slots>>; SHARDS],
}

impl WaiterPool {
    pub(super) fn new() -> Self {
        Self { shards: std::array::from_fn(|_| CachePadded::new(Mutex::new(Slots::new()))) }
    }

    /// Registers `waker` with an unresolved cell and notes the slot in `waiter`, or finds that the
    /// cell is resolved by now and returns `false`. A handle that is registered already, here or
    /// with a cell that is about to call it, keeps its slot.
    pub(super) fn register(&self, phase: &Phase, waiter: &mut u32, waker: &Waker) -> bool {
        if *waiter != NO_WAITER {
            if self.is_waiting_with(*waiter, waker) {
                return true;
            }
            self.release(std::mem::replace(waiter, NO_WAITER));
        }
        // Declared before the guard, so that it is dropped after it on every way out.
        let waker = waker.clone();
        let shard = Self::shard_index(phase);
        let mut slots = lock(&self.shards[shard]);
        // The state is tested again under the lock. AWAITED read here means that the ring is still
        // there: who resolves takes it under this lock, and after that the load sees RESOLVED.
        let state = phase.state.load(Ordering::Acquire);
        if state == PENDING {
            let awaited =
                phase.state.compare_exchange(PENDING, AWAITED, Ordering::AcqRel, Ordering::Acquire);
            if awaited.is_err() {
                return false;
            }
            phase.root.store(slots.allocate(None), Ordering::Relaxed);
        } else if state == RESOLVED {
            return false;
        }
        let slot = slots.allocate(Some(waker));
        slots.link_before(phase.root.load(Ordering::Relaxed), slot);
        *waiter = slot << SHARD_BITS | shard as u32;
        true
    }

    /// Ends a wait: gives the slot back and drops its waker, if that was not called.
    #[cold]
    pub(super) fn release(&self, waiter: u32) {
        let waker = lock(self.shard_of_waiter(waiter)).release(waiter >> SHARD_BITS);
        drop(waker);
    }

    fn is_waiting_with(&self, waiter: u32, waker: &Waker) -> bool {
        let slots = lock(self.shard_of_waiter(waiter));
        let slot = &slots.slots[(waiter >> SHARD_BITS) as usize];
        slot.waker.as_ref().is_some_and(|registered| registered.will_wake(waker))
    }

    fn shard_of_waiter(&self, waiter: u32) -> &Mutex<Slots> {
        &self.shards[waiter as usize % SHARDS]
    }

    fn shard_of(&self, phase: &Phase) -> &Mutex<Slots> {
        &self.shards[Self::shard_index(phase)]
    }

    /// Cells are 128 bytes apart.
    fn shard_index(phase: &Phase) -> usize {
        (std::ptr::from_ref(phase).addr() >> 7) % SHARDS
    }

    /// Slots that are in use, roots included.
    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).in_use()).sum()
    }
}

/// A slot of a ring, or of the free list. A root, a taken and a free slot have no waker.
#[derive(Debug)]
struct Slot {
    waker: Option<Waker>,
    next: u32,
    previous: u32,
}

#[derive(Debug)]
struct Slots {
    slots: Vec<Slot>,
    /// Linked by `next`.
    free: u32,
}

impl Slots {
    fn new() -> Self {
        Self { slots: Vec::new(), free: NO_WAITER }
    }

    /// A slot that is a ring of its own.
    fn allocate(&mut self, waker: Option<Waker>) -> u32 {
        let slot = if self.free == NO_WAITER {
            let slots_max = (NO_WAITER >> SHARD_BITS) as usize;
            assert!(self.slots.len() < slots_max, "half a thousand million tasks wait at once");
            self.slots.push(Slot { waker: None, next: 0, previous: 0 });
            (self.slots.len() - 1) as u32
        } else {
            let slot = self.free;
            self.free = self.slots[slot as usize].next;
            slot
        };
        self.slots[slot as usize] = Slot { waker, next: slot, previous: slot };
        slot
    }

    fn link_before(&mut self, root: u32, slot: u32) {
        let last = std::mem::replace(&mut self.slots[root as usize].previous, slot);
        self.slots[last as usize].next = slot;
        self.slots[slot as usize].previous = last;
        self.slots[slot as usize].next = root;
    }

    /// Unlinks and frees a slot.
    fn release(&mut self, slot: u32) -> Option<Waker> {
        let Slot { ref mut waker, next, previous } = self.slots[slot as usize];
        let waker = waker.take();
        self.slots[previous as usize].next = next;
        self.slots[next as usize].previous = previous;
        self.slots[slot as usize].next = std::mem::replace(&mut self.free, slot);
        waker
    }

    /// Takes the wakers out of a ring and frees its root; the other slots stay with their handles.
    fn take_ring(&mut self, root: &AtomicU32, wakes: &mut WakeList) {
        let root = root.load(Ordering::Relaxed);
        let mut next = self.slots[root as usize].next;
        while next != root {
            let slot = &mut self.slots[next as usize];
            wakes.push(slot.waker.take().expect("a slot in a ring has its waker"));
            let following = slot.next;
            slot.next = next;
            slot.previous = next;
            next = following;
        }
        self.slots[root as usize] = Slot { waker: None, next: self.free, previous: root };
        self.free = root;
    }

    #[cfg(test)]
    fn in_use(&self) -> usize {
        let mut free = 0;
        let mut next = self.free;
        while next != NO_WAITER {
            free += 1;
            next = self.slots[next as usize].next;
        }
        self.slots.len() - free
    }
}
