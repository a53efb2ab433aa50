//! A loop's own room: to compress into, and for a batch that has to be unpacked again.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

use super::arena::Region;
use super::pool::PoolShared;
use crate::locking::lock;

/// A contiguous part of the pool that belongs to no account: a loop's room to compress into.
/// Returned on drop.
pub struct Scratch {
    pub(super) pool: Arc<PoolShared>,
    pub(super) region: Region,
}

impl Deref for Scratch {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.pool.arena.slice(&self.region)
    }
}

impl DerefMut for Scratch {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pool.arena.slice_mut(&mut self.region)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.pool.release_scratch(self.region.take());
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("bytes", &self.region.bytes()).finish_non_exhaustive()
    }
}

/// Where a loop's scratch lies while nobody has borrowed it.
#[derive(Clone, Debug)]
pub struct ScratchSlot {
    bytes: usize,
    scratch: Arc<Mutex<Option<Scratch>>>,
}

impl ScratchSlot {
    /// A slot with its scratch in it.
    pub fn new(scratch: Scratch) -> Self {
        ScratchSlot { bytes: scratch.len(), scratch: Arc::new(Mutex::new(Some(scratch))) }
    }

    /// The scratch's length in bytes, whoever has it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What `work` makes of the scratch; `None` while it is lent.
    pub fn with<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> Option<R> {
        self.lock().as_mut().map(work)
    }

    /// Lends the scratch, if it is there. It comes back when what was lent is dropped, wherever
    /// that is.
    pub fn lend(&self) -> Option<LentScratch> {
        let scratch = self.lock().take();
        scratch.map(|scratch| LentScratch { scratch: Some(scratch), slot: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Scratch>> {
        // A compressor that panics leaves nothing half done but bytes nobody reads.
        lock(&self.scratch)
    }
}

/// A loop's scratch in other hands: a batch that was unpacked lies in it.
#[derive(Debug)]
pub struct LentScratch {
    scratch: Option<Scratch>,
    slot: ScratchSlot,
}

impl Deref for LentScratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.scratch.as_deref().expect("it is given back by the drop only")
    }
}

impl DerefMut for LentScratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.scratch.as_deref_mut().expect("it is given back by the drop only")
    }
}

impl Drop for LentScratch {
    fn drop(&mut self) {
        *self.slot.lock() = self.scratch.take();
    }
}
