//! Failed records on their way to the application's [`Fallback`](crate::Fallback).
//!
//! They are put here where they fail, on event loops mostly, and taken out by the thread that calls
//! back. A batch that waited comes with its segments, which stay charged to buffer memory until the
//! fallback has seen the records: so a slow fallback holds senders up, and does not fill the heap.
//!
//! What was in flight when it failed lies in memory that its request goes on owning: it comes once
//! the request has ended without an acknowledgement.
//!
//! Some are copied. Records for which there was no room have no memory here; what their copies take
//! is bounded ([`FallbackQueue::reserve`]). Single records that a broker refuses, pieces of a batch
//! that goes on, records that fail on their way out of a stash, and what has failed in flight when
//! an event loop ends are copied without a bound.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;

use super::undelivered::{Behind, CopiedRecord, Undelivered, UndeliveredBatch, copy_records};
use super::{Batch, FailedRuns, LaneHead, TopicLanes};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};

/// Has the queue looked at.
type Announce = Box<dyn Fn(&Arc<FallbackQueue>) + Send + Sync>;

/// The failed records of one producer that has a fallback.
pub struct FallbackQueue {
    undelivered: SegQueue<(Undelivered, Option<Reserved>)>,
    /// Something was put here since the thread began to look.
    announced: AtomicBool,
    announce: OnceLock<Announce>,
    /// Bytes of records that were refused for lack of room, and copied.
    copied: Arc<AtomicUsize>,
    copied_max: usize,
    records: AtomicU64,
}

/// Room for copies; it is free again when this is dropped.
pub struct Reserved {
    /// [`FallbackQueue::copied`].
    copied: Arc<AtomicUsize>,
    bytes: usize,
}

impl FallbackQueue {
    /// An empty one, whose copies of refused records take at most `copied_max` bytes.
    pub fn new(copied_max: usize) -> Arc<Self> {
        Arc::new(FallbackQueue {
            undelivered: SegQueue::new(),
            announced: AtomicBool::new(false),
            announce: OnceLock::new(),
            copied: Arc::default(),
            copied_max,
            records: AtomicU64::new(0),
        })
    }

    /// Sets what is called, on whatever thread, when something is put here and nothing was since
    /// the last [`FallbackQueue::begin_look`]. Only the first call counts.
    pub fn set_announce(&self, announce: impl Fn(&Arc<FallbackQueue>) + Send + Sync + 'static) {
        let _ = self.announce.set(Box::new(announce));
    }

    /// Whoever takes begins to look: what is put here from now on is announced again.
    pub fn begin_look(&self) {
        self.announced.store(false, Ordering::SeqCst);
    }

    /// The oldest, with the room that it keeps.
    pub fn take(&self) -> Option<(Undelivered, Option<Reserved>)> {
        self.undelivered.pop()
    }

    /// Whether nothing waits, and no sender has reserved room to put something here.
    pub fn is_idle(&self) -> bool {
        self.undelivered.is_empty() && self.copied.load(Ordering::SeqCst) == 0
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.undelivered.is_empty()
    }

    /// Counts records that the fallback was called with.
    pub fn count_called(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// How many records the fallback was called with.
    pub fn records_called(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Room for copies of refused records. `None` if they would take more than `copied_max`, with
    /// those that wait.
    pub fn reserve(&self, bytes: usize) -> Option<Reserved> {
        let fits = |copied: usize| copied.checked_add(bytes).filter(|&sum| sum <= self.copied_max);
        // Before the caller looks whether the producer was closed: either it sees that, or the
        // close sees the room that is taken.
        let taken = self.copied.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        let is_taken = taken.is_ok();
        is_taken.then(|| Reserved { copied: self.copied.clone(), bytes })
    }

    /// Puts records here that were refused for lack of room.
    pub fn put_refused(self: &Arc<Self>, records: Vec<CopiedRecord>, reserved: Reserved) {
        self.put(Undelivered::Copied(records), Some(reserved));
    }

    fn put(self: &Arc<Self>, undelivered: Undelivered, reserved: Option<Reserved>) {
        self.undelivered.push((undelivered, reserved));
        if !self.announced.swap(true, Ordering::SeqCst)
            && let Some(announce) = self.announce.get()
        {
            announce(self);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.copied.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

/// By identity. It is part of a topic's settings, which are compared.
impl PartialEq for FallbackQueue {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for FallbackQueue {}

impl fmt::Debug for FallbackQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackQueue")
            .field("records", &self.records_called())
            .finish_non_exhaustive()
    }
}

/// What is given back of a batch that failed in flight, once its request has ended without an
/// acknowledgement.
pub(super) struct GivenBackLater {
    queue: Arc<FallbackQueue>,
    partition: PartitionId,
    /// Of its present piece; `None` once that was acknowledged after all.
    present: Option<DeliveryError>,
    behind: Option<Behind>,
}

impl Batch {
    /// A batch that failed in flight is dropped, and its request has not ended: its event loop has.
    /// The kernel may still read its memory, so the records are copied.
    fn give_back_now(&mut self) {
        let Some(later) = self.given_back_later.take() else { return };
        let GivenBackLater { queue, partition, present, behind } = *later;
        if present.is_some() || behind.is_some() {
            let copy = UndeliveredBatch::copy(partition, self, present, behind);
            queue.put(Undelivered::Batch(copy), None);
        }
    }

    /// It was acknowledged after it had failed: its present piece is not given back.
    pub(super) fn note_late_success(&mut self) {
        if let Some(later) = &mut self.given_back_later {
            later.present = None;
        }
    }

    /// `close_handing_back` gives back what is behind the present piece of a batch that it has
    /// failed in flight ([`Unsent::copy_behind`](super::Unsent::copy_behind)): the fallback does
    /// not get that too.
    pub fn leave_behind_to_close(&mut self) {
        let is_left = |behind: &mut Behind| {
            let is_close = matches!(
                behind.error.cause(),
                DeliveryErrorCause::Closed { .. } | DeliveryErrorCause::LeftInSpill
            );
            is_close && behind.error.certainty() == Certainty::NotWritten
        };
        if let Some(later) = &mut self.given_back_later {
            later.behind.take_if(is_left);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.give_back_now();
    }
}

impl LaneHead {
    /// Gives a batch back that has failed and is not needed any more: its present piece, what is
    /// behind that, or both, which fail for one cause.
    pub(super) fn give_back(
        &self,
        batch: Box<Batch>,
        present: Option<DeliveryError>,
        behind: Option<Behind>,
    ) {
        if let Some(queue) = self.fallback_for(&present, &behind) {
            let batch = UndeliveredBatch::take(self.tail.partition, batch, present, behind);
            queue.put(Undelivered::Batch(batch), None);
        }
    }

    /// The same, of a batch that goes on.
    pub(super) fn give_copy_back(
        &self,
        batch: &Batch,
        present: Option<DeliveryError>,
        behind: Option<Behind>,
    ) {
        if let Some(queue) = self.fallback_for(&present, &behind) {
            let copy = UndeliveredBatch::copy(self.tail.partition, batch, present, behind);
            queue.put(Undelivered::Batch(copy), None);
        }
    }

    /// The queue for what fails with these errors. `None`: there is no fallback, or the application
    /// purged it.
    fn fallback_for(
        &self,
        present: &Option<DeliveryError>,
        behind: &Option<Behind>,
    ) -> Option<&Arc<FallbackQueue>> {
        let error = present.as_ref().or(behind.as_ref().map(|behind| &behind.error))?;
        let is_purged = *error.cause() == DeliveryErrorCause::Purged;
        self.tail.settings.fallback.as_ref().filter(|_| !is_purged)
    }

    /// The request has ended of a batch that had failed in flight.
    pub(super) fn end_resolved(&self, mut batch: Box<Batch>) {
        if let Some(later) = batch.given_back_later.take() {
            let GivenBackLater { present, behind, .. } = *later;
            self.give_back(batch, present, behind);
        }
    }

    /// Gives back the records at these places of a batch, which its broker rejected.
    pub(super) fn give_records_back(&self, batch: &Batch, failed: &[(u32, DeliveryError)]) {
        let Some(queue) = &self.tail.settings.fallback else { return };
        queue.put(Undelivered::Copied(copy_records(&self.tail, batch, failed)), None);
    }

    /// A batch has failed in flight: it is given back once its request has ended, unless that
    /// brings an acknowledgement.
    pub(super) fn give_back_later(
        &self,
        batch: &mut Batch,
        present: DeliveryError,
        behind: Option<Behind>,
    ) {
        let present = Some(present);
        if let Some(queue) = self.fallback_for(&present, &behind) {
            let (queue, partition) = (queue.clone(), self.tail.partition);
            let later = GivenBackLater { queue, partition, present, behind };
            batch.given_back_later = Some(Box::new(later));
        }
    }
}

impl TopicLanes {
    /// Gives runs back that have failed. Their memory may go back to the pool here, which calls
    /// wakers: the stash must not be locked.
    pub fn give_back(&self, runs: FailedRuns) {
        match &self.settings.fallback {
            Some(queue) if runs.records > 0 => queue.put(Undelivered::Runs(runs), None),
            _ => drop(runs),
        }
    }

    /// Gives a record back that failed when it was moved out of the stash.
    pub(super) fn give_record_back(
        &self,
        partition: Option<PartitionId>,
        timestamp: i64,
        parts: &RecordParts<'_>,
        error: &DeliveryError,
    ) {
        if let Some(queue) = &self.settings.fallback {
            let copy = CopiedRecord::new(partition, timestamp, parts, error.clone());
            queue.put(Undelivered::Copied(vec![copy]), None);
        }
    }
}
