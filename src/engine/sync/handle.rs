//! The waiting side of a completion cell: what a delivery is made of.

use std::fmt;
use std::task::{Context, Poll};

use super::FailureObserver;
use super::cell::{Cell, Counted, Resolution};
use super::forward::Target;
use super::waiter_list::NO_WAITER;

/// One record's share in a completion cell: 24 bytes. Dropping it costs one subtraction; it does
/// not cancel the record. After resolution it keeps the result and the context alive, so that
/// nothing needs to be cloned.
///
/// The order of the fields is for speed. A handle is copied as 16 bytes and 8. A load takes what it
/// needs from stores that are not in the cache yet only where one store covers all of it. With the
/// cell in front, taking an outcome loaded timestamp, index and waiter across the two stores of the
/// copy before, and stood still for some twenty cycles (measured on an AMD EPYC).
#[repr(C)]
pub struct Handle<C, E> {
    timestamp: i64,
    index: u32,
    waiter: u32,
    cell: Counted<C, E>,
}

/// Names a completion cell, as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellId(pub(super) usize);

/// How a record ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a, E> {
    /// It is in the log.
    Acked {
        /// Its own offset, unless the broker did not say (acks=0, a duplicate).
        offset: Option<i64>,
        /// The broker's time in milliseconds since the epoch, if the topic has log-append time.
        append_time: Option<i64>,
    },
    /// It failed.
    Failed(&'a E),
}

impl<E> Clone for Outcome<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Outcome<'_, E> {}

impl<C, E> Handle<C, E> {
    #[inline]
    pub(super) fn new(cell: Counted<C, E>, timestamp: i64, index: u32) -> Self {
        Self { cell, timestamp, index, waiter: NO_WAITER }
    }

    /// The outcome, or a promise to call the context's waker once it is worth polling again. Only
    /// the waker of the last poll is called. On a resolved cell this is one load.
    #[inline]
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome<'_, E>> {
        let Self { cell, index, waiter, .. } = self;
        let outcome = loop {
            match follow(cell, *index) {
                (_, Some(outcome)) => break outcome,
                (last, None) => {
                    if last.waiters().register(last.phase(), waiter, context.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        };
        forget_waiter(cell, waiter);
        Poll::Ready(outcome)
    }

    /// The outcome, if there is one yet.
    #[inline]
    pub fn try_outcome(&self) -> Option<Outcome<'_, E>> {
        follow(&self.cell, self.index).1
    }

    /// Whether its cell was acknowledged as it is: not forwarded to others.
    #[inline(always)]
    pub fn is_acked_whole(&self) -> bool {
        matches!(self.cell.resolution(), Some(Resolution::Acked { .. }))
    }

    /// Another handle of the same record, for somebody who watches what becomes of it: one atomic
    /// operation. Only one of the two is to call [`Handle::count_read`].
    pub fn again(&self) -> Self {
        Handle::new(self.cell.again(), self.timestamp, self.index)
    }

    /// Names the record's cell, of the last one if it was forwarded. While the handle is there no
    /// other cell has this name.
    pub fn cell_id(&self) -> CellId {
        CellId(std::ptr::from_ref(follow(&self.cell, self.index).0).addr())
    }

    /// Who hears of the failures of the producer whose record it is.
    pub fn observer(&self) -> Option<&std::sync::Arc<dyn FailureObserver<E>>> {
        self.cell.observer()
    }

    /// Whether it was made in a process that this one is a fork of: its record is that process's,
    /// and nobody here will resolve it. It must not be polled then.
    pub fn is_inherited(&self) -> bool {
        self.cell.is_inherited()
    }

    /// What the record's cell is about; of the last cell, if it was forwarded.
    #[inline]
    pub fn context(&self) -> &C {
        follow(&self.cell, self.index).0.context()
    }

    /// The record's offset, once it is in the log and if the broker said.
    pub fn offset(&self) -> Option<i64> {
        match self.try_outcome()? {
            Outcome::Acked { offset, .. } => offset,
            Outcome::Failed(_) => None,
        }
    }

    /// The broker's time for the record in milliseconds since the epoch, once it is in the log and
    /// if its topic has log-append time.
    pub fn append_time(&self) -> Option<i64> {
        match self.try_outcome()? {
            Outcome::Acked { append_time, .. } => append_time,
            Outcome::Failed(_) => None,
        }
    }

    /// Why the record failed, once it has.
    #[cfg(feature = "internals")]
    pub fn error(&self) -> Option<&E> {
        match self.try_outcome()? {
            Outcome::Acked { .. } => None,
            Outcome::Failed(error) => Some(error),
        }
    }

    /// The error was given to whoever waits for the record. Once at the most for each handle, and
    /// only for a record that has failed.
    pub fn count_read(&self) {
        follow(&self.cell, self.index).0.count_read();
    }

    /// As [`Handle::count_read`], for so many other records of the same batch.
    pub fn count_reads(&self, records: u32) {
        follow(&self.cell, self.index).0.count_reads(records);
    }

    /// The record's index in the batch that it was first put into.
    #[inline]
    #[cfg(feature = "internals")]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The record's own timestamp, in milliseconds since the epoch.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }
}

/// Follows the forwards from record `index` of `cell`: the last cell, and the outcome there. Each
/// cell on the way is kept alive by the table of the one before it.
#[inline]
fn follow<C, E>(mut cell: &Cell<C, E>, mut index: u32) -> (&Cell<C, E>, Option<Outcome<'_, E>>) {
    loop {
        let outcome = match cell.resolution() {
            None | Some(Resolution::None) => None,
            Some(&Resolution::Acked { base_offset, append_time }) => {
                let offset = base_offset.map(|base| base.wrapping_add(i64::from(index)));
                Some(Outcome::Acked { offset, append_time })
            }
            Some(Resolution::Failed(error, _)) => Some(Outcome::Failed(error)),
            Some(Resolution::Forwarded(table)) => match table.find(index) {
                (Target::Cell { cell: next, index: start }, place) => {
                    cell = next;
                    index = start + place;
                    continue;
                }
                (Target::Failed(error), _) => Some(Outcome::Failed(error)),
            },
        };
        return (cell, outcome);
    }
}

impl<C, E> Handle<C, E> {
    /// Its count and its index, for a table that forwards to them.
    pub(super) fn into_counted(mut self) -> (Counted<C, E>, u32) {
        self.forget_waiter();
        let index = self.index;
        (Counted::move_out(self, |handle| &handle.cell), index)
    }

    /// Nobody waits with it any more.
    #[inline]
    pub fn forget_waiter(&mut self) {
        forget_waiter(&self.cell, &mut self.waiter);
    }
}

#[inline]
fn forget_waiter<C, E>(cell: &Cell<C, E>, waiter: &mut u32) {
    // A parent's thread may have held the list's lock at the fork.
    if *waiter != NO_WAITER && !cell.is_inherited() {
        cell.waiters().release(std::mem::replace(waiter, NO_WAITER));
    }
}

impl<C, E> Drop for Handle<C, E> {
    #[inline]
    fn drop(&mut self) {
        self.forget_waiter();
    }
}

impl<C: fmt::Debug, E: fmt::Debug> fmt::Debug for Handle<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("context", self.context())
            .field("timestamp", &self.timestamp)
            .field("index", &self.index)
            .field("outcome", &self.try_outcome())
            .finish()
    }
}
