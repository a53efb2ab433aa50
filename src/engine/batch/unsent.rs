//! Failing what waits in a lane; at a close that hands back, without losing what was certainly not
//! written.

use std::sync::{Arc, Mutex};

use super::undelivered::{Behind, Undelivered, UndeliveredBatch};
use super::{Batch, LaneHead, LaneTail, batch_error};
use crate::engine::sync::WakeList;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};
use crate::locking::lock;

/// What is certainly not written of the batches that shards fail at a close: it is set aside here
/// for `close_handing_back`.
#[derive(Default)]
pub struct Unsent(Mutex<Vec<Undelivered>>);

impl Unsent {
    fn push(&self, batch: UndeliveredBatch) {
        // Nothing under this lock can be left half done.
        lock(&self.0).push(Undelivered::Batch(batch));
    }

    /// Copies what waits behind the present piece of a batch in flight, if it is certainly in no
    /// log.
    pub fn copy_behind(&self, lane: &LaneTail, batch: &Batch, cause: &DeliveryErrorCause) {
        let error = batch_error(lane, batch, cause.clone(), Certainty::NotWritten);
        let behind =
            batch.behind(&error).filter(|it| it.error.certainty() == Certainty::NotWritten);
        if behind.is_some() {
            self.push(UndeliveredBatch::copy(lane.partition, batch, None, behind));
        }
    }

    /// What was left here so far: in the order of the records for each partition.
    pub fn take(&self) -> Vec<Undelivered> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl LaneHead {
    /// Fails all sealed batches and retries. What is certainly in no log is left in `unsent`, if
    /// somebody wants it.
    pub fn fail_all_or_leave(
        &mut self,
        unsent: Option<&Unsent>,
        cause: &DeliveryErrorCause,
        wakes: &mut WakeList,
    ) {
        match unsent {
            Some(unsent) => self.fail_all_into(unsent, cause, wakes),
            None => {
                self.fail_all(cause, wakes);
            }
        }
    }

    /// Fails all sealed batches and retries, and leaves those in `unsent` that are certainly not in
    /// the partition's log: their memory stays charged until `unsent` drops them. The fallback gets
    /// the others.
    fn fail_all_into(&mut self, unsent: &Unsent, cause: &DeliveryErrorCause, wakes: &mut WakeList) {
        let tail: Arc<LaneTail> = self.tail.clone();
        while let Some(batch) = self.retries.pop_front().or_else(|| tail.pop_sealed()) {
            let number = batch.number;
            let Some(failed) = self.fail_waiting_unmarked(batch, cause, wakes) else { continue };
            let (batch, present, behind) = failed;
            let is_certain = |error: &DeliveryError| error.certainty() == Certainty::NotWritten;
            let (certain, doubted) = match is_certain(&present) {
                true => (Some(present), None),
                false => (None, Some(present)),
            };
            let (certain_behind, doubted_behind) = match behind {
                Some(behind) if is_certain(&behind.error) => (Some(behind), None),
                behind => (None, behind),
            };
            if certain.is_none() && certain_behind.is_none() {
                self.give_back(batch, doubted, doubted_behind);
            } else {
                if doubted.is_some() || doubted_behind.is_some() {
                    self.give_copy_back(&batch, doubted, doubted_behind);
                }
                let certain =
                    UndeliveredBatch::take(tail.partition, batch, certain, certain_behind);
                unsent.push(certain);
            }
            // Only now: the closing thread takes what is in `unsent` once every number is resolved.
            self.mark_resolved(number, wakes);
        }
    }

    /// Fails what was sent before a purge: the batches with smaller numbers.
    pub fn fail_below(&mut self, number: u64, cause: &DeliveryErrorCause, wakes: &mut WakeList) {
        while let Some(at) = self.retries.iter().position(|batch| batch.number < number) {
            if let Some(batch) = self.retries.remove(at) {
                self.fail_waiting(batch, cause, wakes);
            }
        }
        while let Some(batch) = self.tail.pop_sealed_below(number) {
            self.fail_waiting(batch, cause, wakes);
        }
    }

    /// Fails a batch that waits. The fallback gets it, if there is one.
    pub(super) fn fail_waiting(
        &mut self,
        batch: Box<Batch>,
        cause: &DeliveryErrorCause,
        wakes: &mut WakeList,
    ) {
        let number = batch.number;
        if let Some((batch, present, behind)) = self.fail_waiting_unmarked(batch, cause, wakes) {
            self.give_back(batch, Some(present), behind);
            self.mark_resolved(number, wakes);
        }
    }

    /// As [`LaneHead::fail_unmarked`], of a batch that waits. Returns it with what its present
    /// piece failed with, and what is behind that, unless it was resolved before.
    pub(super) fn fail_waiting_unmarked(
        &mut self,
        mut batch: Box<Batch>,
        cause: &DeliveryErrorCause,
        wakes: &mut WakeList,
    ) -> Option<(Box<Batch>, DeliveryError, Option<Behind>)> {
        let error = batch_error(&self.tail, &batch, cause.clone(), batch.certainty());
        let in_doubt = batch.certainty() == Certainty::Unknown || batch.was_split_in_doubt();
        self.failed_in_doubt |= batch.is_numbered() && in_doubt;
        let behind = batch.behind(&error);
        let is_failed = self.fail_unmarked(&mut batch, error.clone(), wakes);
        is_failed.then_some((batch, error, behind))
    }
}
