//! The resolving side of a completion cell.
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::NonNull;

use super::cell::{Cell, Counted, Resolution};
use super::cell_store::StoreInner;
use super::forward::Target;
use super::handle::{CellId, Handle};
use super::{ForwardTable, WakeList};

/// An error type with a value for a cell that nobody resolved: its event loop panicked.
pub trait Abandon<C>: Sized {
    /// The error of the cell that is about `context`.
    fn abandoned(context: &C) -> Self;
}

/// The one who issues a cell's handles and resolves it; lives in the batch.
///
/// Records have indices from 0, in the order of [`issue`](Self::issue),
/// [`issue_bare`](Self::issue_bare) and [`ForwardTable::forward`]. Dropped unresolved, the cell
/// fails as [`Abandon`]ed and its waiters are woken at once.
pub struct CellOwner<C, E: Abandon<C>> {
    /// Live and unresolved.
    cell: NonNull<Cell<C, E>>,
    /// Given out, those that are dropped included. Not more than `issued`.
    counts: u32,
    /// The next record's index.
    issued: u32,
}

// SAFETY: the owner gives shared access to `C` and puts an `E` where any thread can read and drop
// it, which the bounds allow; the rest of the cell is atomics or guarded by them.
unsafe impl<C: Send + Sync, E: Abandon<C> + Send + Sync> Send for CellOwner<C, E> {}
// SAFETY: as above; a shared owner only gives shared access to `C`.
unsafe impl<C: Send + Sync, E: Abandon<C> + Send + Sync> Sync for CellOwner<C, E> {}

impl<C, E: Abandon<C>> CellOwner<C, E> {
    /// # Safety
    /// The cell is live and unresolved, and has no other owner.
    pub(super) unsafe fn new(cell: NonNull<Cell<C, E>>) -> Self {
        Self { cell, counts: 0, issued: 0 }
    }

    /// The handle of the next record. `timestamp` is the record's, in milliseconds since the epoch.
    /// No atomic operation: the caller has the owner to itself, under the lane's lock.
    ///
    /// # Panics
    /// After 2³² − 1 records; a batch counts its records in 31 bits.
    #[inline]
    pub fn issue(&mut self, timestamp: i64) -> Handle<C, E> {
        let index = self.skip(1);
        Handle::new(self.count(), timestamp, index)
    }

    /// What the next record's handle is made of, once its timestamp is at hand.
    ///
    /// # Panics
    /// As [`CellOwner::issue`].
    #[inline(always)]
    pub fn issue_bare(&mut self) -> Issued<C, E> {
        let index = self.skip(1);
        self.counts += 1;
        Issued { cell: self.cell, index }
    }

    /// How many records have an index, those forwarded to this cell included.
    #[inline]
    pub fn issued(&self) -> u32 {
        self.issued
    }

    /// What the cell is about.
    #[inline]
    pub fn context(&self) -> &C {
        self.cell().context()
    }

    /// A pending cell of the same store and about the same, for records that part from this one's.
    pub fn sibling(&self) -> CellOwner<C, E>
    where
        C: Clone,
    {
        StoreInner::allocate(self.cell().store().clone(), self.context().clone())
    }

    /// The batch was written. `base_offset` is its first record's, unless the broker did not say
    /// (acks=0, a duplicate); `append_time` the broker's, in milliseconds since the epoch, if the
    /// topic has log-append time.
    pub fn ack(self, base_offset: Option<i64>, append_time: Option<i64>, wakes: &mut WakeList) {
        self.resolve(Resolution::Acked { base_offset, append_time }, wakes);
    }

    /// The batch failed, all of it.
    pub fn fail(self, error: E, wakes: &mut WakeList) {
        let records = self.issued;
        self.resolve(Resolution::Failed(error, records), wakes);
    }

    /// The batch's records went different ways. Their waiters are woken, to follow the table.
    ///
    /// # Panics
    /// If `table` does not cover exactly the records issued, or names a cell of another store. The
    /// cell fails as abandoned then.
    pub fn forward(self, mut table: ForwardTable<C, E>, wakes: &mut WakeList) {
        assert_eq!(table.records(), self.issued, "a table covers every record of its cell");
        for target in table.targets() {
            if let Target::Cell { cell, .. } = target {
                assert!(cell.is_beside(self.cell()), "a cell is forwarded within its store");
            }
        }
        table.shrink();
        self.resolve(Resolution::Forwarded(Box::new(table)), wakes);
    }

    /// Passes over the indices of `records` records; returns the first.
    pub fn skip(&mut self, records: u32) -> u32 {
        let first = self.issued;
        self.issued = first.checked_add(records).expect("a batch counts its records in 31 bits");
        first
    }

    /// One more count, for a handle or a table's entry.
    pub(super) fn count(&mut self) -> Counted<C, E> {
        self.counts += 1;
        // SAFETY: the cell is live while it has an owner, and resolution adds `counts`.
        unsafe { Counted::new(self.cell) }
    }

    /// Names the cell: see [`Handle::cell_id`](super::Handle::cell_id).
    pub fn cell_id(&self) -> CellId {
        CellId(self.cell.addr().get())
    }

    pub(super) fn owns(&self, count: &Counted<C, E>) -> bool {
        count.is_for(self.cell)
    }

    fn resolve(self, resolution: Resolution<C, E>, wakes: &mut WakeList) {
        let Self { cell, counts, .. } = self;
        self.report(&resolution);
        std::mem::forget(self);
        // SAFETY: the owner is gone, so this is the only time the cell is resolved.
        unsafe { Cell::resolve(cell, resolution, counts, wakes) };
    }

    /// Before anybody can see the outcome: who sees it finds it counted.
    fn report(&self, resolution: &Resolution<C, E>) {
        if let Some(observer) = &self.cell().store().observer {
            resolution.visit_failures(|error, records| observer.failed(error, records));
        }
    }

    fn cell(&self) -> &Cell<C, E> {
        // SAFETY: the cell is live while it has an owner; nobody has exclusive access to it.
        unsafe { self.cell.as_ref() }
    }
}

impl<C, E: Abandon<C>> Drop for CellOwner<C, E> {
    fn drop(&mut self) {
        let resolution = Resolution::Failed(E::abandoned(self.context()), self.issued);
        self.report(&resolution);
        let mut wakes = WakeList::new();
        // SAFETY: `resolve` forgets the owner, so the cell is unresolved and nobody else will.
        unsafe { Cell::resolve(self.cell, resolution, self.counts, &mut wakes) };
    }
}

impl<C: fmt::Debug, E: Abandon<C>> fmt::Debug for CellOwner<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CellOwner")
            .field("context", self.context())
            .field("issued", &self.issued)
            .finish()
    }
}

/// One record's share in a completion cell that is still to become a [`Handle`]. Two words, which a
/// function returns in registers; a handle's three go through memory, and whoever copies them from
/// there at once waits for what was just written.
#[must_use = "dropped, it keeps its cell for ever"]
pub struct Issued<C, E> {
    /// The owner has counted this share, so the cell stays live until `into_handle` has made a
    /// handle of it and that is dropped. A share has no destructor: one that is dropped leaks its
    /// cell.
    cell: NonNull<Cell<C, E>>,
    index: u32,
}

impl<C, E> Issued<C, E> {
    /// The handle. `timestamp` is the record's, in milliseconds since the epoch.
    #[inline(always)]
    pub fn into_handle(self, timestamp: i64) -> Handle<C, E> {
        // SAFETY: the owner has counted this share, and nobody gives that count up but the handle
        // made here. A share cannot be copied, so it becomes one handle.
        let count = unsafe { Counted::new(self.cell) };
        Handle::new(count, timestamp, self.index)
    }
}

/// A cell that has failed and goes on to give out handles, one atomic operation each.
#[derive(Debug)]
pub struct SharedFailure<C, E> {
    cell: Counted<C, E>,
}

impl<C, E> SharedFailure<C, E> {
    pub(super) fn new(cell: Counted<C, E>) -> Self {
        Self { cell }
    }

    /// A handle that is resolved from the start, for record 0.
    pub fn issue(&self, timestamp: i64) -> Handle<C, E> {
        Handle::new(self.cell.again(), timestamp, 0)
    }
}
