//! Records of a topic whose partitions are not known yet.
//!
//! They wait raw, in pool segments charged to the stash's account. Each run of records has a
//! completion cell of its own; when the run is drained into the lanes, that cell becomes
//! `Forwarded` and its deliveries follow the lanes' cells.

use std::collections::VecDeque;

use super::drain::{Draining, Waiting};
use super::spilled::{SpilledRange, Window};
use super::{BatchCell, CellHandle, Cells, Destination};
use crate::engine::buffer::Segment;
use crate::engine::policy::UndeliveredRecord;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{Header, RecordParts};
use crate::engine::sync::WakeList;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};

/// A run takes no further record once it is this old, so that a run's records expire within this
/// time of each other. Nanoseconds.
const RUN_AGE_MAX: u64 = 1_000_000_000;

/// So long after brokers said what partitions a topic has, one that is not among them is refused
/// without another question: who sends to a wrong number in a loop makes no storm of them.
/// Nanoseconds.
const PARTITIONS_FRESH: u64 = 1_000_000_000;

/// See [`Stash::takes_answer`].
const ASKED_AGAIN_MAX: u32 = 3;

/// Length of what stands before a record's bytes: total, partition, timestamp, key, value, headers.
const ENTRY_HEADER: usize = 4 + 8 + 8 + 4 + 4 + 4;

/// The length that stands for null.
const NULL: u32 = u32::MAX;

/// Stands for no partition: every number of 32 bits is one that a caller may have named.
const NO_PARTITION: i64 = i64::MAX;

/// Records stashed together: they share a completion cell.
pub(super) struct Run {
    bytes: RunBytes,
    /// Where its records lie if that is a file; `bytes` are empty then.
    pub(super) spilled: Option<SpilledRange>,
    pub(super) cell: BatchCell,
    opened_at: u64,
    /// When the last record came, nanoseconds, monotonic: the run expires by it.
    pub(super) last_at: u64,
    /// Its records were sent together, and go into a batch of their own: no other joins it.
    pub(super) is_together: bool,
}

/// The memory of a run, and how much of it is filled.
pub(super) struct RunBytes {
    segments: Vec<Segment>,
    len: usize,
}

/// The records of one topic that wait for its partitions, oldest first.
#[derive(Default)]
pub struct Stash {
    pub(super) runs: VecDeque<Run>,
    /// The run that is being moved into the lanes.
    pub(super) draining: Option<Draining>,
    /// A thread is asking the user's partitioner where the next record goes. Until it returns no
    /// other thread moves records, or their order would change.
    pub(super) asking: bool,
    /// Runs that failed when they were partly moved. The thread that returns with the partitioner's
    /// answer compares it, and drops the answer if its run has failed meanwhile.
    pub(super) drainings_failed: u64,
    /// Runs begun, and runs that were drained or failed; flush waits by them.
    pub begun: u64,
    /// See `begun`.
    pub ended: u64,
    /// When brokers last answered a question for a partition that was not known (nanoseconds,
    /// monotonic).
    answered_at: Option<u64>,
    /// Questions for partitions that were followed by another since some record came too late.
    asked_again: u32,
    /// Set by `close`: nothing is stashed any more.
    pub closed: bool,
    /// Set by `flush`: what is stashed goes to its lanes and must not linger there.
    pub flush_wanted: bool,
}

/// A record as it waited.
pub struct StashedRecord<'a> {
    /// The partition that the caller asked for.
    pub partition: Option<PartitionId>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Key, value and headers.
    pub key: Option<&'a [u8]>,
    /// See `key`.
    pub value: Option<&'a [u8]>,
    /// See `key`.
    pub headers: Vec<Header<'a>>,
}

/// A run taken out to be drained.
pub struct DrainingRun {
    run: Run,
    /// Where the next record begins.
    at: usize,
    /// Where the last one began that was taken out.
    last: usize,
    /// Large records are put together here.
    contiguous: Vec<u8>,
    /// Of a run in a file: what has been read of it.
    pub(super) window: Window,
}

/// Runs that failed. Their memory returns to the pool when this is dropped, which calls wakers: not
/// under the stash's lock.
#[must_use = "it is dropped after the stash is unlocked"]
#[derive(Default)]
pub struct FailedRuns {
    /// How many records failed.
    pub records: usize,
    runs: Vec<FailedRun>,
    error: Option<DeliveryError>,
}

/// A run that failed, in whole or in part.
pub(super) struct FailedRun {
    bytes: RunBytes,
    /// Where the first record is that failed, unless that is `first`.
    at: usize,
    /// A record that was taken out of the run already.
    first: Option<Waiting>,
}

impl FailedRuns {
    /// Calls `each` with every record that failed, in order.
    pub fn for_each(&self, each: &mut dyn FnMut(&UndeliveredRecord<'_>)) {
        let Some(error) = &self.error else { return };
        let mut hand_over = |record: StashedRecord<'_>| {
            each(&UndeliveredRecord {
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp: record.timestamp,
                partition: record.partition.map(|partition| partition.0),
                error,
            });
        };
        let mut contiguous = Vec::new();
        for run in &self.runs {
            if let Some(first) = &run.first {
                hand_over(first.record());
            }
            let mut at = run.at;
            while let Some(record) = run.bytes.record_at(&mut at, &mut contiguous) {
                hand_over(record);
            }
        }
    }
}

/// Bytes that a record takes in the stash: not more than as a batch of its own, so that one that
/// `max_request_size` allows fits there too.
pub fn stashed_len(parts: &RecordParts<'_>) -> usize {
    let headers = parts.headers.iter().map(|header| {
        let (name, value) = header_lengths(header);
        let lengths = length_len(name) + length_len(value);
        lengths + header.key.len() + header.value.map_or(0, <[u8]>::len)
    });
    let headers: usize = headers.sum();
    ENTRY_HEADER + parts.key.map_or(0, <[u8]>::len) + parts.value.map_or(0, <[u8]>::len) + headers
}

impl Stash {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.draining.is_none()
    }

    /// Brokers were asked for a partition that was not known, and answered.
    pub fn note_answer(&mut self, now: u64) {
        self.answered_at = Some(now);
    }

    /// Brokers were asked at `asked_at`, and do not name a partition more than before. Whether the
    /// answer is all that what is stashed can wait for; if not, some of it came after the question,
    /// and there must be another: a few times in a row at most, however fast records come.
    pub fn takes_answer(&mut self, asked_at: u64) -> bool {
        let youngest = self.runs.back().map(|run| run.last_at);
        if youngest.is_some_and(|at| at > asked_at) && self.asked_again < ASKED_AGAIN_MAX {
            self.asked_again += 1;
            return false;
        }
        self.asked_again = 0;
        true
    }

    /// Whether brokers need not be asked whether a partition that is not known exists: they were
    /// just now. (While a record waits here for an answer the next one waits as well.)
    pub fn knows_partitions(&self, now: u64) -> bool {
        let fresh = |at: u64| now < at.saturating_add(PARTITIONS_FRESH);
        self.is_empty() && self.answered_at.is_some_and(fresh)
    }

    /// Bytes that must be taken from the pool before the record can be appended; 0 if it fits.
    pub fn missing(&self, parts: &RecordParts<'_>, now: u64) -> usize {
        let needed = stashed_len(parts);
        match self.runs.back() {
            Some(run) if run.is_together || now >= run.opened_at + RUN_AGE_MAX => needed,
            Some(run) if run.bytes.room() >= needed => 0,
            _ => needed,
        }
    }

    /// Appends records that were sent together, as a run of their own in the segments of `spare`.
    /// Returns their handles, in order.
    pub fn append_together(
        &mut self,
        cells: &Cells,
        destination: &Destination,
        (partition, records): (Option<PartitionId>, &[(i64, RecordParts<'_>)]),
        spare: &mut Vec<Segment>,
        now: u64,
    ) -> Vec<CellHandle> {
        self.begin_run(cells, destination, spare, now, true);
        let run = self.runs.back_mut().expect("a run was just pushed");
        records.iter().map(|&(timestamp, parts)| run.add((partition, timestamp, &parts))).collect()
    }

    fn begin_run(
        &mut self,
        cells: &Cells,
        destination: &Destination,
        spare: &mut Vec<Segment>,
        now: u64,
        is_together: bool,
    ) {
        self.runs.push_back(Run {
            bytes: RunBytes { segments: std::mem::take(spare), len: 0 },
            spilled: None,
            cell: cells.allocate(destination.clone()),
            opened_at: now,
            last_at: now,
            is_together,
        });
        self.begun += 1;
    }

    /// Appends a record; `spare` holds what [`Stash::missing`] asked for.
    pub fn append(
        &mut self,
        cells: &Cells,
        destination: &Destination,
        record: (Option<PartitionId>, i64, &RecordParts<'_>),
        spare: &mut Vec<Segment>,
        now: u64,
    ) -> CellHandle {
        if self.missing(record.2, now) > 0 {
            self.begin_run(cells, destination, spare, now, false);
        }
        let run = self.runs.back_mut().expect("a run was pushed if none had room");
        run.last_at = now;
        run.add(record)
    }

    /// Takes out the run that is being moved, or the oldest. It is given back with
    /// [`Stash::put_back`] or ended with [`Stash::end`], under the same lock.
    pub(super) fn take_draining(&mut self) -> Option<Draining> {
        let oldest = || {
            let run = self.runs.pop_front()?;
            Some(Draining::new(DrainingRun::new(run)))
        };
        self.draining.take().or_else(oldest)
    }

    /// A run of which a part is left.
    pub(super) fn put_back(&mut self, draining: Draining) {
        self.draining = Some(draining);
    }

    /// A run was drained, or has failed.
    pub fn end(&mut self, wakes: &mut WakeList) {
        self.ended += 1;
        wakes.wake_flushers();
    }

    /// Fails the runs whose last record came before `came_before`; with `u64::MAX` everything.
    pub fn fail(
        &mut self,
        came_before: u64,
        destination: &Destination,
        cause: &DeliveryErrorCause,
        wakes: &mut WakeList,
    ) -> FailedRuns {
        let error = destination.error(cause.clone(), Certainty::NotWritten);
        let mut failed = FailedRuns { error: Some(error.clone()), ..FailedRuns::default() };
        // Records in files wait for as long as it takes.
        let expires = |run: &Run| run.spilled.is_none() && run.last_at < came_before;
        let due = |run: &Run| came_before == u64::MAX || expires(run);
        // A run that is partly moved may have found no room for a long time.
        if self.draining.as_ref().is_some_and(|draining| due(draining.run()))
            && let Some(draining) = self.draining.take()
        {
            match draining.leave_spilled(&error) {
                Some(error) => drop(draining.fail_rest(error, wakes)),
                None => {
                    failed.records += draining.records_left() as usize;
                    failed.runs.push(draining.fail_rest(error.clone(), wakes));
                }
            }
            self.drainings_failed += 1;
            self.end(wakes);
        }
        while self.runs.front().is_some_and(due) {
            let Some(run) = self.runs.pop_front() else { break };
            match run.leave_spilled(&error) {
                Some(error) => run.cell.fail(error, wakes),
                None => {
                    failed.records += run.cell.issued() as usize;
                    run.cell.fail(error.clone(), wakes);
                    failed.runs.push(FailedRun { bytes: run.bytes, at: 0, first: None });
                }
            }
            self.end(wakes);
        }
        failed
    }

    /// When the oldest run's last record came, nanoseconds, monotonic.
    pub fn oldest_at(&self) -> Option<u64> {
        let draining = self.draining.as_ref().map(|draining| draining.run().last_at);
        draining.or_else(|| self.runs.front().map(|run| run.last_at))
    }
}

impl Run {
    /// A run whose records lie in a file.
    pub(super) fn spilled(
        cells: &Cells,
        destination: &Destination,
        range: SpilledRange,
        now: u64,
        is_together: bool,
    ) -> Run {
        Run {
            bytes: RunBytes { segments: Vec::new(), len: 0 },
            spilled: Some(range),
            cell: cells.allocate(destination.clone()),
            opened_at: now,
            last_at: now,
            is_together,
        }
    }

    /// Adds a record, for which there is room.
    fn add(&mut self, record: (Option<PartitionId>, i64, &RecordParts<'_>)) -> CellHandle {
        let (partition, timestamp, parts) = record;
        let run = &mut self.bytes;
        run.put(&(stashed_len(parts) as u32).to_le_bytes());
        let number = partition.map_or(NO_PARTITION, |partition| i64::from(partition.0));
        run.put(&number.to_le_bytes());
        run.put(&timestamp.to_le_bytes());
        run.put(&parts.key.map_or(NULL, |k| k.len() as u32).to_le_bytes());
        run.put(&parts.value.map_or(NULL, |v| v.len() as u32).to_le_bytes());
        run.put(&(parts.headers.len() as u32).to_le_bytes());
        for header in parts.headers {
            let (name, value) = header_lengths(header);
            run.put_length(name);
            run.put_length(value);
            run.put(header.key.as_bytes());
            run.put(header.value.unwrap_or_default());
        }
        run.put(parts.key.unwrap_or_default());
        run.put(parts.value.unwrap_or_default());
        self.cell.issue(timestamp)
    }

    /// When its last record came, nanoseconds, monotonic.
    pub(super) fn last_at(&self) -> u64 {
        self.last_at
    }
}

impl RunBytes {
    fn capacity(&self) -> usize {
        self.segments.iter().map(|segment| segment.len()).sum()
    }

    fn room(&self) -> usize {
        self.capacity() - self.len
    }

    fn put(&mut self, mut bytes: &[u8]) {
        let mut start = 0;
        for segment in &mut self.segments {
            let end = start + segment.len();
            if self.len < end && !bytes.is_empty() {
                let from = self.len - start;
                let part = bytes.len().min(end - self.len);
                segment[from..from + part].copy_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                self.len += part;
            }
            start = end;
        }
        assert!(bytes.is_empty(), "room was checked before");
    }

    /// Puts a length into as few bytes as it needs, seven bits in each.
    fn put_length(&mut self, mut length: u32) {
        while length >= 0x80 {
            self.put(&[length as u8 | 0x80]);
            length >>= 7;
        }
        self.put(&[length as u8]);
    }

    fn copy_out(&self, at: usize, len: usize, out: &mut Vec<u8>) {
        out.clear();
        let mut start = 0;
        for segment in &self.segments {
            let end = start + segment.len();
            let from = at.max(start);
            let to = (at + len).min(end);
            if from < to {
                out.extend_from_slice(&segment[from - start..to - start]);
            }
            start = end;
        }
        debug_assert_eq!(out.len(), len);
    }

    /// The record that begins at `at`, which moves on behind it; `None` at the end. It is put
    /// together in `contiguous`.
    fn record_at<'a>(
        &self,
        at: &mut usize,
        contiguous: &'a mut Vec<u8>,
    ) -> Option<StashedRecord<'a>> {
        if *at >= self.len {
            return None;
        }
        self.copy_out(*at, 4, contiguous);
        let len = u32_at(contiguous, 0) as usize;
        self.copy_out(*at, len, contiguous);
        *at += len;
        Some(parse(contiguous))
    }
}

impl DrainingRun {
    fn new(run: Run) -> Self {
        let (contiguous, window) = (Vec::new(), Window::default());
        DrainingRun { run, at: 0, last: 0, contiguous, window }
    }

    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// Where the next record begins, counted from the first.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Where the record began that was taken out last.
    pub(super) fn last_position(&self) -> usize {
        self.last
    }

    /// Passes the rest by.
    pub(super) fn skip_rest(&mut self) {
        self.at = self.run.spilled.as_ref().map_or(self.run.bytes.len, |range| range.len);
    }

    /// The run's cell, through which its deliveries are forwarded, and its memory.
    pub(super) fn into_parts(self) -> (BatchCell, Vec<Segment>) {
        (self.run.cell, self.run.bytes.segments)
    }

    /// The run's cell, and what is left of its records: `first`, and those that follow; where the
    /// partitioner is being asked about the last one that was taken out, that one too.
    pub(super) fn into_rest(
        self,
        first: Option<Waiting>,
        is_asking: bool,
    ) -> (BatchCell, FailedRun) {
        let at = if is_asking { self.last } else { self.at };
        (self.run.cell, FailedRun { bytes: self.run.bytes, at, first })
    }

    /// How many records it holds.
    pub fn records(&self) -> u32 {
        self.run.cell.issued()
    }

    /// Whether its records were sent together.
    pub(super) fn is_together(&self) -> bool {
        self.run.is_together
    }

    /// Goes back to its first record.
    pub(super) fn begin_again(&mut self) {
        (self.at, self.last) = (0, 0);
    }

    /// The next record, or `None` at the end, and where a file has something else in its place
    /// ([`Window::damage`]).
    pub fn next_record(&mut self) -> Option<StashedRecord<'_>> {
        self.last = self.at;
        match &self.run.spilled {
            Some(range) => self.window.record_at(&mut self.at, range.len),
            None => self.run.bytes.record_at(&mut self.at, &mut self.contiguous),
        }
    }
}

/// The length of a header's name, and that of its value plus one; 0 stands for null.
fn header_lengths(header: &Header<'_>) -> (u32, u32) {
    (header.key.len() as u32, header.value.map_or(0, |value| value.len() as u32 + 1))
}

/// Bytes that [`RunBytes::put_length`] writes.
fn length_len(length: u32) -> usize {
    (32 - (length | 1).leading_zeros()).div_ceil(7) as usize
}

/// Reads what [`RunBytes::put_length`] wrote at `at`, and moves on behind it.
fn length_at(entry: &[u8], at: &mut usize) -> u32 {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = entry[*at];
        *at += 1;
        length |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return length;
        }
        shift += 7;
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    i64::from_le_bytes(raw)
}

fn parse(entry: &[u8]) -> StashedRecord<'_> {
    let partition = i64_at(entry, 4);
    let timestamp = i64_at(entry, 12);
    let (key_len, value_len) = (u32_at(entry, 20), u32_at(entry, 24));
    let mut at = ENTRY_HEADER;
    let take = |at: &mut usize, len: usize| {
        *at += len;
        &entry[*at - len..*at]
    };
    let header_count = u32_at(entry, 28);
    let mut headers = Vec::with_capacity(header_count as usize);
    for _ in 0..header_count {
        let (name, value) = (length_at(entry, &mut at), length_at(entry, &mut at));
        let name = take(&mut at, name as usize);
        let value = value.checked_sub(1).map(|value| take(&mut at, value as usize));
        let key = std::str::from_utf8(name).expect("append() copied it from a str");
        headers.push(Header { key, value });
    }
    let key = (key_len != NULL).then(|| take(&mut at, key_len as usize));
    let value = (value_len != NULL).then(|| take(&mut at, value_len as usize));
    StashedRecord {
        // What was put there is a number of 32 bits, or the one that stands for none.
        partition: i32::try_from(partition).ok().map(PartitionId),
        timestamp,
        key,
        value,
        headers,
    }
}
