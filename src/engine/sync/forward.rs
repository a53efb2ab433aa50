//! Where the records of a cell went when not all of them share one end: a split batch, errors of
//! single records, records that were stashed before their partition was known.

use std::fmt;

use super::cell::Counted;
use super::{Abandon, CellOwner, Handle};

/// Says for each record of a cell which record of another cell it became, or why it failed. Filled
/// in the order of the records, then given to [`CellOwner::forward`].
///
/// Each run of records that continues in another cell takes one count of that cell. Dropping the
/// table, or freeing the cell that was resolved with it, drops those.
pub struct ForwardTable<C, E> {
    /// Sorted by `first`; the first entry's is 0.
    entries: Vec<Entry<C, E>>,
    /// How many records the entries cover.
    records: u32,
}

struct Entry<C, E> {
    /// The first record that the entry is about; the next entry's `first` ends it.
    first: u32,
    target: Target<C, E>,
}

pub(super) enum Target<C, E> {
    /// The first record became record `index` of `cell`, and so on.
    Cell {
        cell: Counted<C, E>,
        index: u32,
    },
    Failed(E),
}

impl<C, E> ForwardTable<C, E> {
    /// An empty table. It grows with the runs of records that it gets.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table, with room for `entries` runs of records.
    pub fn with_capacity(entries: usize) -> Self {
        Self { entries: Vec::with_capacity(entries), records: 0 }
    }

    /// Runs of records that it has heap for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Gives up what it has not used: it lives as long as the last delivery that it is for.
    pub(super) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// How many records it covers so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// The next `records` records become the next ones of `target`, as if handles were issued for
    /// them there. Those that directly follow each other there too share an entry.
    pub fn forward(&mut self, records: u32, target: &mut CellOwner<C, E>)
    where
        E: Abandon<C>,
    {
        if records == 0 {
            return;
        }
        let index = target.skip(records);
        let continues = self.entries.last().is_some_and(|last| match &last.target {
            Target::Cell { cell, index: start } => {
                target.owns(cell) && start + (self.records - last.first) == index
            }
            Target::Failed(_) => false,
        });
        if !continues {
            let target = Target::Cell { cell: target.count(), index };
            self.entries.push(Entry { first: self.records, target });
        }
        self.records += records;
    }

    /// The next record is what `handle` was issued for; the table takes over its count.
    pub fn forward_handle(&mut self, handle: Handle<C, E>) {
        let (cell, index) = handle.into_counted();
        let continues = self.entries.last().is_some_and(|last| match &last.target {
            Target::Cell { cell: known, index: start } => {
                known.is_same(&cell) && start + (self.records - last.first) == index
            }
            Target::Failed(_) => false,
        });
        if !continues {
            self.entries.push(Entry { first: self.records, target: Target::Cell { cell, index } });
        }
        self.records += 1;
    }

    /// The next `records` records fail.
    pub fn fail(&mut self, records: u32, error: E) {
        if records == 0 {
            return;
        }
        self.entries.push(Entry { first: self.records, target: Target::Failed(error) });
        self.records += records;
    }

    /// Where record `index` went: the target of its run, and its place in the run. `index` is below
    /// [`records`](Self::records).
    pub(super) fn find(&self, index: u32) -> (&Target<C, E>, u32) {
        let after = self.entries.partition_point(|entry| entry.first <= index);
        let entry = &self.entries[after - 1];
        (&entry.target, index - entry.first)
    }

    /// Calls `each` with every error in the table, and how many records it is of.
    pub(super) fn visit_failures(&self, mut each: impl FnMut(&E, u32)) {
        let ends = self.entries.iter().skip(1).map(|next| next.first).chain([self.records]);
        for (entry, end) in self.entries.iter().zip(ends) {
            if let Target::Failed(error) = &entry.target {
                each(error, end - entry.first);
            }
        }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Target<C, E>> {
        self.entries.iter().map(|entry| &entry.target)
    }

    pub(super) fn into_targets(self) -> impl Iterator<Item = Target<C, E>> {
        self.entries.into_iter().map(|entry| entry.target)
    }
}

impl<C, E> Default for ForwardTable<C, E> {
    fn default() -> Self {
        Self { entries: Vec::new(), records: 0 }
    }
}

impl<C, E> fmt::Debug for ForwardTable<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardTable")
            .field("entries", &self.entries.len())
            .field("records", &self.records)
            .finish()
    }
}
