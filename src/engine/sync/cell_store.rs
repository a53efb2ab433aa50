//! Where completion cells live.
#![allow(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;

use super::cell::{Cell, NextCell, Resolution};
use super::loom::{Arc, Mutex, lock};
use super::waiter_list::WaiterPool;
use super::{CellOwner, Generation, SharedFailure};

/// Cells of a chunk. A chunk takes 8 KiB.
const CHUNK_CELLS: usize = if cfg!(loom) { 2 } else { 64 };

/// The completion cells of a producer. `C` is what a cell is about, its topic and partition, and is
/// dropped when the cell is freed; `E` is the error of one that failed.
///
/// Cells are allocated in chunks that grow on demand and are reused, last freed first; memory is
/// bounded by the greatest number of cells that were live at once, and in the steady state nothing
/// is allocated. The store is a shared reference, and every live cell holds one too: handles
/// outlive the producer, and the last of all gives the memory back.
pub struct CellStore<C, E> {
    inner: Arc<StoreInner<C, E>>,
}

/// Hears of records that fail, on the thread that resolves or frees their cell and under no lock of
/// the store's. It must not use cells itself.
pub trait FailureObserver<E>: Send + Sync {
    /// So many records failed, just now.
    fn failed(&self, error: &E, records: u32);
    /// The deliveries of so many records that had failed were dropped, and none gave its error out.
    fn unread(&self, error: &E, records: u32);
    /// The observer itself, for whoever has a record and looks for what it belongs to.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

impl<C, E> CellStore<C, E> {
    /// An empty store; allocates its first chunk with its first cell.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// An empty store that tells `observer` of every record that fails, but those of
    /// [`allocate_failed`](Self::allocate_failed).
    pub fn observed_by(observer: std::sync::Arc<dyn FailureObserver<E>>) -> Self {
        Self::with(Some(observer))
    }

    fn with(observer: Option<std::sync::Arc<dyn FailureObserver<E>>>) -> Self {
        let cells = Mutex::new(Cells { free: None, chunks: Vec::new() });
        let (waiters, born) = (WaiterPool::new(), Generation::current());
        Self { inner: Arc::new(StoreInner { cells, waiters, born, observer }) }
    }

    /// A pending cell. One mutex and one reference count: once per batch.
    pub fn allocate(&self, context: C) -> CellOwner<C, E>
    where
        E: super::Abandon<C>,
    {
        StoreInner::allocate(self.inner.clone(), context)
    }

    /// A cell that has failed already and still gives out handles, for records that are dropped
    /// before they reach a batch.
    pub fn allocate_failed(&self, context: C, error: E) -> SharedFailure<C, E> {
        let cell = StoreInner::occupied(self.inner.clone(), context);
        let mut nobody = super::WakeList::new();
        // SAFETY: the cell is new and resolved only here. The one count issued is the returned
        // value's.
        let count = unsafe {
            Cell::resolve(cell, Resolution::Failed(error, 0), 1, &mut nobody);
            super::cell::Counted::new(cell)
        };
        SharedFailure::new(count)
    }

    /// Live cells, all cells, waiter slots in use.
    #[cfg(test)]
    pub(super) fn usage(&self) -> (usize, usize, usize) {
        let cells = lock(&self.inner.cells);
        let all = cells.chunks.len() * CHUNK_CELLS;
        let mut free = 0;
        let mut next = cells.free;
        while let Some(cell) = next {
            free += 1;
            // SAFETY: cells of the free list are the store's, whose lock is held.
            next = unsafe { cell.as_ref().next.with(|next| *next) };
        }
        (all - free, all, self.inner.waiters.in_use())
    }
}

impl<C, E> Clone for CellStore<C, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<C, E> Default for CellStore<C, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C, E> fmt::Debug for CellStore<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = lock(&self.inner.cells).chunks.len();
        f.debug_struct("CellStore").field("cells", &(chunks * CHUNK_CELLS)).finish()
    }
}

pub(super) struct StoreInner<C, E> {
    cells: Mutex<Cells<C, E>>,
    pub(super) waiters: WaiterPool,
    /// In a fork's child its locks may be held for ever.
    pub(super) born: Generation,
    pub(super) observer: Option<std::sync::Arc<dyn FailureObserver<E>>>,
}

impl<C, E> StoreInner<C, E> {
    pub(super) fn allocate(store: Arc<Self>, context: C) -> CellOwner<C, E>
    where
        E: super::Abandon<C>,
    {
        let cell = Self::occupied(store, context);
        // SAFETY: the cell is new, so this is its only owner.
        unsafe { CellOwner::new(cell) }
    }

    fn occupied(store: Arc<Self>, context: C) -> NonNull<Cell<C, E>> {
        let cell = lock(&store.cells).take();
        // SAFETY: a cell from the free list is free, and no longer known to the list.
        unsafe { Cell::occupy(cell, context, store) };
        cell
    }

    /// # Safety
    /// The cell is one of this store's, holds neither context nor result, and only the caller knows
    /// of it.
    pub(super) unsafe fn take_back(&self, cell: NonNull<Cell<C, E>>) {
        let mut cells = lock(&self.cells);
        // SAFETY: the chunk is alive with the store, and the caller gives its link to the list.
        unsafe { cell.as_ref().next.with_mut(|next| *next = cells.free) };
        cells.free = Some(cell);
    }
}

struct Cells<C, E> {
    free: NextCell<C, E>,
    /// From `Box::into_raw`; freed only with the store.
    chunks: Vec<NonNull<[Cell<C, E>]>>,
}

// SAFETY: the pointers are to memory that the store owns; what a cell holds may be dropped by any
// thread, and is shared between them, as the bounds say.
unsafe impl<C: Send + Sync, E: Send + Sync> Send for Cells<C, E> {}

impl<C, E> Cells<C, E> {
    fn take(&mut self) -> NonNull<Cell<C, E>> {
        loop {
            if let Some(cell) = self.free {
                // SAFETY: cells of the free list are the store's, whose lock is held.
                self.free = unsafe { cell.as_ref().next.with_mut(|next| (*next).take()) };
                return cell;
            }
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let chunk: Box<[Cell<C, E>]> = (0..CHUNK_CELLS).map(|_| Cell::new()).collect();
        let chunk = NonNull::from(Box::leak(chunk));
        self.chunks.push(chunk);
        for index in (0..CHUNK_CELLS).rev() {
            // SAFETY: the index is within the chunk.
            let cell = unsafe { chunk.cast::<Cell<C, E>>().add(index) };
            // SAFETY: the cell is new, and the list's.
            unsafe { cell.as_ref().next.with_mut(|next| *next = self.free) };
            self.free = Some(cell);
        }
    }
}

impl<C, E> Drop for Cells<C, E> {
    fn drop(&mut self) {
        for chunk in self.chunks.drain(..) {
            // SAFETY: made by `Box::leak`. Every live cell holds a reference to the store, so all
            // are free and nobody points to them.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}
