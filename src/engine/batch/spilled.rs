//! Records of a stash that lie in files, because there was no room for them in memory.
//!
//! To the stash they are runs like others, behind those in memory: each has a completion cell, and
//! is moved into the lanes in its turn. Only their bytes are elsewhere. They are read through a
//! window, with the stash unlocked, and the window is dropped when the mover has to wait.

use std::sync::{Arc, MutexGuard};

use super::drain::{Draining, Mover, unlocked};
use super::spill_format::{SpillDamage, decode_spilled, spilled_len};
use super::stash::{Run, StashedRecord};
use super::{CellHandle, Cells, Destination, LaneTail, Stash, TopicLanes};
use crate::engine::protocol::PartitionId;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};
use crate::problem::{Problem, ProblemKind};

/// A run in a file takes no further record beyond this length: it is moved in one go where there is
/// room.
pub const SPILL_RUN_BYTES_MAX: usize = 256 << 10;

/// Bytes that are read at once, unless a record, or records that were sent together, are longer.
const WINDOW_BYTES: usize = 64 << 10;

/// A file that holds spilled records of one topic.
pub trait SpillFile: Send + Sync {
    /// Reads `len` bytes from `at` on into `out`. Before it returns the file says that these
    /// records may be given to connections from now on: after a crash they are in doubt.
    ///
    /// # Errors
    /// [`NotRead`].
    fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) -> Result<(), NotRead>;

    /// The records before `end` were moved into these lanes, below these batches: they are done
    /// with when those have resolved. Records from `end` on were moved nowhere.
    fn handle_moved(&self, end: u64, lanes: Vec<(Arc<LaneTail>, u64)>);

    /// What lies from `at` up to `end` is not what was written: it is kept aside, and not sent.
    fn handle_damaged(&self, at: u64, end: u64, problem: &Problem);
}

/// Why bytes of a file are not at hand.
pub enum NotRead {
    /// The file is gone, or shorter than it was: they are nowhere.
    Gone(Problem),
    /// The system does not give them now, for lack of descriptors for instance. The log was told.
    Later,
}

/// Where a run lies in a file.
#[derive(Clone)]
pub struct SpilledRange {
    /// The file.
    pub file: Arc<dyn SpillFile>,
    /// The first byte.
    pub at: u64,
    /// How many bytes.
    pub len: usize,
}

impl SpilledRange {
    fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    fn is_of(&self, file: &Arc<dyn SpillFile>) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.file), Arc::as_ptr(file))
    }
}

/// The part of a run that has been read from its file.
#[derive(Default)]
pub(super) struct Window {
    /// Where it begins, counted from the run's first byte.
    at: usize,
    bytes: Vec<u8>,
    damage: Option<SpillDamage>,
}

impl Window {
    /// The window's bytes from `at` on, counted from the run's first byte.
    fn from(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(self.at).and_then(|from| self.bytes.get(from..));
        from.unwrap_or_default()
    }

    /// The record that begins at `at`, which moves on behind it. `None` at the end of the run,
    /// which is `len` bytes long, and for what is not a record.
    pub(super) fn record_at(&mut self, at: &mut usize, len: usize) -> Option<StashedRecord<'_>> {
        if *at >= len {
            return None;
        }
        let from = at.checked_sub(self.at).filter(|&from| from < self.bytes.len());
        match decode_spilled(&self.bytes[from.unwrap_or(self.bytes.len())..]) {
            Ok((record, _, len)) => {
                *at += len;
                Some(record)
            }
            Err(damage) => {
                self.damage = Some(damage);
                None
            }
        }
    }

    /// What was wrong with the bytes that were read last.
    pub(super) fn damage(&self) -> Option<SpillDamage> {
        self.damage
    }

    /// The same in words.
    pub(super) fn problem(&self) -> Problem {
        let text = match self.damage {
            Some(SpillDamage::Torn) => "the file ends in the midst of a record",
            _ => "the file does not hold what was written to it: the checksum differs",
        };
        Problem::new(ProblemKind::System, text)
    }
}

impl Stash {
    /// Whether records lie in files: what is sent now goes behind them, into a file too.
    pub fn is_spilled(&self) -> bool {
        // None in memory come behind those in files.
        let last = self.runs.back().or(self.draining.as_ref().map(Draining::run));
        last.is_some_and(|run| run.spilled.is_some())
    }

    /// Records were written to a file, behind all others of this topic: those of `timestamps`, in
    /// this range. Returns their handles. With `together` they go into a batch of their own.
    pub fn push_spilled(
        &mut self,
        cells: &Cells,
        destination: &Destination,
        range: SpilledRange,
        timestamps: impl Iterator<Item = i64>,
        (now, together): (u64, bool),
    ) -> Vec<CellHandle> {
        let goes_on = self.runs.back_mut().filter(|_| !together).and_then(|run| {
            let is_plain = !run.is_together;
            let spilled = run.spilled.as_mut().filter(|_| is_plain)?;
            let fits = spilled.len + range.len <= SPILL_RUN_BYTES_MAX;
            let follows = spilled.is_of(&range.file) && spilled.end() == range.at;
            (fits && follows).then(|| spilled.len += range.len)
        });
        if goes_on.is_none() {
            self.begin_spilled(Run::spilled(cells, destination, range, now, together));
        }
        let run = self.runs.back_mut().expect("a run was pushed if none goes on");
        run.last_at = now;
        timestamps.map(|timestamp| run.cell.issue(timestamp)).collect()
    }

    /// The same for records that an earlier process wrote: nobody waits for them.
    pub fn push_recovered(
        &mut self,
        cells: &Cells,
        destination: &Destination,
        (range, records): (SpilledRange, u32),
        (now, together): (u64, bool),
    ) {
        let mut run = Run::spilled(cells, destination, range, now, together);
        run.cell.skip(records);
        self.begin_spilled(run);
    }

    fn begin_spilled(&mut self, run: Run) {
        self.runs.push_back(run);
        self.begun += 1;
    }
}

impl Run {
    /// The error of records in a file that this process sends no more: they stay there, unless the
    /// application has thrown them away. `None` for a run in memory.
    pub(super) fn leave_spilled(&self, error: &DeliveryError) -> Option<DeliveryError> {
        let range = self.spilled.as_ref()?;
        if *error.cause() == DeliveryErrorCause::Purged {
            range.file.handle_moved(range.end(), Vec::new());
            return Some(error.clone());
        }
        Some(left_error(self.cell.context()))
    }
}

fn left_error(destination: &Destination) -> DeliveryError {
    destination.error(DeliveryErrorCause::LeftInSpill, Certainty::NotWritten)
}

impl Draining {
    /// As [`Run::leave_spilled`], of a run that is partly moved.
    pub(super) fn leave_spilled(&self, error: &DeliveryError) -> Option<DeliveryError> {
        let left = self.run().leave_spilled(error)?;
        if *error.cause() == DeliveryErrorCause::Purged {
            // What was moved is purged in its lanes, and keeps its place until then.
            let range = self.run().spilled.as_ref()?;
            range.file.handle_moved(range.end(), self.lanes());
        } else {
            self.tell_file();
        }
        Some(left)
    }

    /// Bytes of the file that have to be read before the next record is at hand: from where, and
    /// how many. `None` for a run in memory, and where they are there.
    pub(super) fn wants(&self) -> Option<(Arc<dyn SpillFile>, u64, usize)> {
        let range = self.run().spilled.as_ref()?;
        let at = self.run.position();
        let left = range.len.checked_sub(at).filter(|&left| left > 0)?;
        let there = self.run.window.from(at);
        let needed = match self.run.is_together() {
            // All of them are put together before the first is moved.
            true => left,
            // Without its first bytes nobody knows how long the record is.
            false => spilled_len(there).unwrap_or(WINDOW_BYTES).min(left),
        };
        let len = needed.max(WINDOW_BYTES).min(left);
        (there.len() < needed).then(|| (range.file.clone(), range.at + at as u64, len))
    }

    /// These bytes were read from where the next record begins, or they are nowhere. Returns false
    /// if they have to be read later: a record must not be lost to an error that passes.
    pub(super) fn take_window(
        &mut self,
        topic: &TopicLanes,
        read: Result<Vec<u8>, NotRead>,
    ) -> bool {
        match read {
            Ok(bytes) => {
                self.run.window = Window { at: self.run.position(), bytes, damage: None };
            }
            Err(NotRead::Gone(problem)) => self.fail_damaged(topic, problem),
            Err(NotRead::Later) => return false,
        }
        true
    }

    /// Gives up what was read: no memory is kept while the mover waits.
    pub(super) fn without_window(mut self) -> Self {
        self.run.window = Window::default();
        self
    }

    /// A record went there.
    pub(super) fn note_moved(&mut self, topic: &TopicLanes, partition: PartitionId) {
        if self.run().spilled.is_some()
            && !self.lanes.contains_key(&partition)
            && let Some(lane) = topic.lane(partition)
        {
            self.lanes.insert(partition, lane.clone());
        }
    }

    /// The lanes that records were moved to, and below which batches they are there.
    fn lanes(&self) -> Vec<(Arc<LaneTail>, u64)> {
        self.lanes.values().map(|lane| (lane.clone(), lane.opened())).collect()
    }

    /// Tells the file how far the run was moved, and where to.
    pub(super) fn tell_file(&self) {
        if let Some(range) = &self.run().spilled {
            range.file.handle_moved(range.at + self.moved_bytes() as u64, self.lanes());
        }
    }

    /// The rest of the run cannot be read. Its records fail, and stay in a file for people to look
    /// at.
    pub(super) fn fail_damaged(&mut self, topic: &TopicLanes, problem: Problem) {
        let records = self.records_left();
        if let Some(range) = self.run().spilled.clone() {
            // What was moved before is done with when its lanes have resolved it, and not before.
            self.tell_file();
            let at = range.at + self.moved_bytes() as u64;
            range.file.handle_damaged(at, range.end(), &problem);
        }
        self.run.skip_rest();
        self.run.window = Window::default();
        topic.failed_in_stash.add_shared(u64::from(records));
        let destination = self.run().cell.context();
        let cause = DeliveryErrorCause::SpillUnreadable(problem);
        let error = destination.error(cause, Certainty::NotWritten);
        self.fail_records(records, error);
    }
}

/// Reads the next records of a run with the stash unlocked: so many bytes of a file, from there on.
/// `None`: they have to be read later.
pub(super) fn read_unlocked<'t>(
    topic: &'t TopicLanes,
    stash: MutexGuard<'t, Stash>,
    draining: Draining,
    (file, at, len): (&dyn SpillFile, u64, usize),
) -> Option<MutexGuard<'t, Stash>> {
    let read = || {
        let mut bytes = Vec::new();
        file.read(at, len, &mut bytes).map(|()| bytes)
    };
    let mut is_there = true;
    let then = |draining: &mut Draining, read| is_there = draining.take_window(topic, read);
    let stash = unlocked(topic, stash, draining, read, then);
    is_there.then_some(stash)
}

impl Mover<'_> {
    /// Whether records of the present run may go to this lane now. Those in files are not in buffer
    /// memory yet: the broker's watermark holds them back as it does those of senders.
    pub(super) fn takes_spilled(&self, lane: &LaneTail) -> bool {
        !self.is_spilled || self.accumulator.pool.is_writable(lane.account())
    }
}
