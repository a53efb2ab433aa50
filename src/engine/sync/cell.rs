//! A completion cell, its counts, and when it is freed.
//!
//! One signed number per cell: every count that is dropped subtracts 1, one that is made from
//! another adds 1, and resolution adds the counts that the owner issued and [`RESOLVED`]. Whoever
//! makes it exactly [`RESOLVED`] frees the cell. Before resolution it is far below that, so nobody
//! frees a cell that has an owner. Issuing costs no atomic operation: the owner counts plainly.
//!
//! Who may touch what: `resolution` is written by the one who resolves, before the phase says so,
//! and only read from then on; `live` is written by [`CellStore`](super::CellStore) before anybody
//! else knows the cell and taken by the one who frees it; `next` belongs to whoever holds the cell
//! while it has no counts, and to the store while it is free.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;

use super::WakeList;
use super::cell_store::{FailureObserver, StoreInner};
use super::forward::{ForwardTable, Target};
use super::loom::{Arc, AtomicI64, AtomicU32, Ordering, UnsafeCell};
use super::waiter_list::{Phase, WaiterPool};

/// What resolution adds to a cell's number, besides the counts. Counts are 32 bits wide, and those
/// made from others are far fewer than the rest of it allows.
const RESOLVED: i64 = 1 << 62;

/// Two cells never share a cache line: their handles are dropped by different threads.
#[repr(align(64))]
pub(super) struct Cell<C, E> {
    counts: AtomicI64,
    phase: Phase,
    resolution: UnsafeCell<Resolution<C, E>>,
    /// Handles that gave out why their record failed.
    read: AtomicU32,
    live: UnsafeCell<Option<Live<C, E>>>,
    pub(super) next: UnsafeCell<NextCell<C, E>>,
}

/// The next in a list of free cells.
pub(super) type NextCell<C, E> = Option<NonNull<Cell<C, E>>>;

/// What a cell holds from its allocation until it is freed.
struct Live<C, E> {
    context: C,
    /// Keeps the cell's own memory alive.
    store: Arc<StoreInner<C, E>>,
}

/// How a cell ends.
pub(super) enum Resolution<C, E> {
    /// It has not ended.
    None,
    Acked {
        base_offset: Option<i64>,
        append_time: Option<i64>,
    },
    /// All of its records, so many.
    Failed(E, u32),
    /// Boxed, because it is rare and the cell small.
    Forwarded(Box<ForwardTable<C, E>>),
}

impl<C, E> Resolution<C, E> {
    /// Calls `each` with every error that records ended with, and how many.
    pub(super) fn visit_failures(&self, mut each: impl FnMut(&E, u32)) {
        match self {
            Resolution::None | Resolution::Acked { .. } => {}
            Resolution::Failed(error, records) => each(error, *records),
            Resolution::Forwarded(table) => table.visit_failures(each),
        }
    }

    /// The cell's handles are gone, and `read` of them gave out why their record failed. Where
    /// records failed of several causes those that were read are taken for the first ones.
    fn report_unread(&self, read: u32, observer: &dyn FailureObserver<E>) {
        let mut read = read;
        self.visit_failures(|error, records| {
            let unread = records.saturating_sub(read);
            read -= records - unread;
            if unread > 0 {
                observer.unread(error, unread);
            }
        });
    }
}

const _: () = {
    type Context = (std::sync::Arc<str>, i32);
    assert!(cfg!(loom) || size_of::<Cell<Context, std::sync::Arc<str>>>() <= 128);
    assert!(size_of::<super::Handle<Context, std::sync::Arc<str>>>() == 24);
};

impl<C, E> Cell<C, E> {
    /// A free cell.
    pub(super) fn new() -> Self {
        Self {
            counts: AtomicI64::new(0),
            phase: Phase::new(),
            resolution: UnsafeCell::new(Resolution::None),
            read: AtomicU32::new(0),
            live: UnsafeCell::new(None),
            next: UnsafeCell::new(None),
        }
    }

    /// Makes a free cell live and pending.
    ///
    /// # Safety
    /// `cell` points to a free cell that only the caller knows of.
    pub(super) unsafe fn occupy(cell: NonNull<Self>, context: C, store: Arc<StoreInner<C, E>>) {
        // SAFETY: it points to a cell, which nobody else accesses, as the caller promises.
        let cell = unsafe { cell.as_ref() };
        cell.counts.store(0, Ordering::Relaxed);
        cell.read.store(0, Ordering::Relaxed);
        cell.phase.reset();
        // SAFETY: nobody else accesses the cell.
        cell.live.with_mut(|live| unsafe { *live = Some(Live { context, store }) });
    }

    /// Ends a cell and adds the `issued` counts; frees it if they are all gone already.
    ///
    /// # Safety
    /// `cell` points to a live, unresolved cell, and only this call ever resolves it.
    pub(super) unsafe fn resolve(
        cell: NonNull<Self>,
        resolution: Resolution<C, E>,
        issued: u32,
        wakes: &mut WakeList,
    ) {
        {
            // SAFETY: it is live: it is not freed before the counts are added below.
            let cell = unsafe { cell.as_ref() };
            // SAFETY: before the phase says so nobody reads the resolution, and nobody else writes.
            cell.resolution.with_mut(|slot| unsafe { *slot = resolution });
            cell.phase.resolve(cell.waiters(), wakes);
        }
        let added = RESOLVED + i64::from(issued);
        // Release: what was done here comes before another thread's freeing. Acquire: the other
        // way round.
        // SAFETY: as above; the reference ends with the addition.
        let before = unsafe { (*cell.as_ptr()).counts.fetch_add(added, Ordering::AcqRel) };
        if before + added == RESOLVED {
            // SAFETY: resolved, and every count that was ever issued is gone.
            unsafe { free(cell) };
        }
    }

    /// The result, once there is one. The only load on the way is the phase's.
    #[inline(always)]
    pub(super) fn resolution(&self) -> Option<&Resolution<C, E>> {
        if !self.phase.is_resolved() {
            return None;
        }
        // SAFETY: written before the phase was, read here after it, and never written again while
        // the cell is live; it stays live while `self` is borrowed from a count or its owner.
        Some(self.resolution.with(|resolution| unsafe { &*resolution }))
    }

    #[inline]
    pub(super) fn context(&self) -> &C {
        &self.live().context
    }

    #[inline]
    pub(super) fn waiters(&self) -> &WaiterPool {
        &self.live().store.waiters
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// A handle gave out why its record failed. The caller's count keeps this before the freeing.
    pub(super) fn count_read(&self) {
        self.count_reads(1);
    }

    /// So many handles of it gave out why their records failed.
    pub(super) fn count_reads(&self, handles: u32) {
        self.read.fetch_add(handles, Ordering::Relaxed);
    }

    /// The store it lives in.
    pub(super) fn store(&self) -> &Arc<StoreInner<C, E>> {
        &self.live().store
    }

    /// Whether it belongs to a process that this one is a fork of.
    #[inline]
    pub(super) fn is_inherited(&self) -> bool {
        !self.live().store.born.is_current()
    }

    pub(super) fn observer(&self) -> Option<&std::sync::Arc<dyn FailureObserver<E>>> {
        self.live().store.observer.as_ref()
    }

    /// Whether both live in the same store.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live().store, &other.live().store)
    }

    #[inline]
    fn live(&self) -> &Live<C, E> {
        // SAFETY: written before the cell was handed out and taken when it is freed; it stays live
        // while `self` is borrowed from a count or its owner.
        let live = self.live.with(|live| unsafe { &*live });
        live.as_ref().expect("a cell that has an owner or counts is live")
    }
}

/// One count on a cell: keeps it and its result alive.
pub(super) struct Counted<C, E>(NonNull<Cell<C, E>>);

// SAFETY: a count gives shared access to `C` and `E` to any thread, and the thread that drops the
// last one drops them; the rest of the cell is atomics, or guarded by them or by the store's locks.
unsafe impl<C: Send + Sync, E: Send + Sync> Send for Counted<C, E> {}
// SAFETY: as above; a shared count can do nothing else.
unsafe impl<C: Send + Sync, E: Send + Sync> Sync for Counted<C, E> {}

impl<C, E> Counted<C, E> {
    /// # Safety
    /// `cell` is live, and one count is issued for the new value: added to the cell's number now,
    /// or at its resolution.
    #[inline]
    pub(super) unsafe fn new(cell: NonNull<Cell<C, E>>) -> Self {
        Self(cell)
    }

    /// One more, next to this one.
    #[inline]
    pub(super) fn again(&self) -> Self {
        // Relaxed is enough, as for any reference count: `self` keeps the cell alive.
        self.counts.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }

    /// Whether this counts for the cell at `cell`.
    pub(super) fn is_for(&self, cell: NonNull<Cell<C, E>>) -> bool {
        self.0 == cell
    }

    /// The count that `owner` holds, which is forgotten instead of dropped.
    pub(super) fn move_out<T>(owner: T, count: impl FnOnce(&T) -> &Self) -> Self {
        let owner = std::mem::ManuallyDrop::new(owner);
        Self(count(&owner).0)
    }

    /// Whether both count for the same cell.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Gives the count up without freeing; the cell, if this was the last count and the caller is
    /// to free it.
    #[inline]
    fn into_unfreed(self) -> Option<NonNull<Cell<C, E>>> {
        let cell = self.0;
        std::mem::forget(self);
        // SAFETY: this count keeps the cell alive until the subtraction.
        unsafe { subtract(cell) }.then_some(cell)
    }
}

impl<C, E> Deref for Counted<C, E> {
    type Target = Cell<C, E>;

    #[inline(always)]
    fn deref(&self) -> &Cell<C, E> {
        // SAFETY: this count keeps the cell alive, and nobody has exclusive access to it.
        unsafe { self.0.as_ref() }
    }
}

impl<C, E> Drop for Counted<C, E> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this count keeps the cell alive until the subtraction.
        if unsafe { subtract(self.0) } {
            // SAFETY: exactly `RESOLVED` after the subtraction means resolved, and no counts left.
            unsafe { free(self.0) };
        }
    }
}

impl<C: fmt::Debug, E> fmt::Debug for Counted<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.context(), f)
    }
}

/// Drops one count; whether it was the last.
///
/// # Safety
/// The caller has that count, and gives it up.
#[inline]
unsafe fn subtract<C, E>(cell: NonNull<Cell<C, E>>) -> bool {
    // Release: what this thread did with the cell comes before its freeing.
    // SAFETY: alive by the caller's count; the reference ends with the subtraction.
    let before = unsafe { (*cell.as_ptr()).counts.fetch_sub(1, Ordering::Release) };
    if before != RESOLVED + 1 {
        return false;
    }
    // Only the last count comes here. A fence would do as well, but ThreadSanitizer knows none.
    // SAFETY: without counts the cell is this caller's, who has not freed it yet.
    unsafe { (*cell.as_ptr()).counts.load(Ordering::Acquire) };
    true
}

/// Drops what the cell holds and returns it to its store; then the cells that its table named and
/// that nothing else counts, without recursion, however long the chain.
///
/// # Safety
/// The cell is live and resolved and has no counts.
#[cold]
unsafe fn free<C, E>(cell: NonNull<Cell<C, E>>) {
    // SAFETY: without counts nobody else knows the cell; the reference ends with the question.
    if unsafe { cell.as_ref() }.is_inherited() {
        // Another thread of the parent may have held the store's lock at the fork: it leaks.
        return;
    }
    let mut unfreed = Some(cell);
    while let Some(cell) = unfreed {
        // SAFETY: without counts nobody else knows the cell, until the store has it back.
        let (resolution, read, live, next) = unsafe {
            let cell = cell.as_ref();
            (
                cell.resolution.with_mut(|r| std::mem::replace(&mut *r, Resolution::None)),
                cell.read.load(Ordering::Relaxed),
                cell.live.with_mut(|live| (*live).take()),
                cell.next.with_mut(|next| (*next).take()),
            )
        };
        unfreed = next;
        let Live { context, store } = live.expect("a cell is freed once");
        if let Some(observer) = &store.observer {
            resolution.report_unread(read, &**observer);
        }
        // SAFETY: the cell came from this store, holds nothing and is known to nobody else. The
        // store outlives the call; it may go, with the cell's memory, at the end of this round.
        unsafe { store.take_back(cell) };
        drop(context);
        if let Resolution::Forwarded(table) = resolution {
            for target in table.into_targets() {
                let Target::Cell { cell, .. } = target else { continue };
                if let Some(target) = cell.into_unfreed() {
                    // SAFETY: the target has no counts left, so its link is this thread's.
                    unsafe { target.as_ref().next.with_mut(|next| *next = unfreed) };
                    unfreed = Some(target);
                }
            }
        }
    }
}
