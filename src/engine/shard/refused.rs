//! What becomes of a batch that the broker refused and that is not just sent again as it is.

use std::sync::Arc;

use super::shard::Shard;
use crate::engine::batch::{Batch, LaneId, NotUnpacked, batch_error};
use crate::engine::buffer::AccountId;
use crate::engine::protocol::compression::Codec;
use crate::engine::protocol::{ErrorCode, PartitionResponse};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};

/// So often a batch that was answered CORRUPT_MESSAGE is sent again as it is. Bytes may be damaged
/// on the way once, hardly several times in a row.
const CORRUPT_RETRIES: u32 = 3;

/// What Java's client asks, too.
const NO_KEY: &str = "a record without key: is the topic compacted?";

/// The broker's answer as the cause of an error.
pub(super) fn answer_cause(answer: &PartitionResponse) -> DeliveryErrorCause {
    let message = answer.error_message.as_deref().map(Arc::from);
    DeliveryErrorCause::Broker { code: answer.error, message }
}

/// Whether the log may hold the batch, under its number or without one.
fn is_in_doubt(batch: &Batch) -> bool {
    batch.certainty() == Certainty::Unknown
}

impl Shard {
    /// UNKNOWN_PRODUCER_ID: brokers before 2.5 forget a producer whose records are all deleted.
    pub(super) fn settle_unknown_producer(
        &mut self,
        now: u64,
        id: LaneId,
        batch: Box<Batch>,
        answer: &PartitionResponse,
    ) {
        if answer.log_start_offset < 0 {
            // It could not say where its log begins: the partition is just coming or going.
            return self.retry_after_error(now, id, batch, answer.error);
        }
        // Deleted by retention or lost, it comes to the same: the log has nothing of the producer
        // that a new epoch could contradict.
        self.bump_or_fail(now, id, batch, answer.error, answer_cause(answer));
    }

    /// The batch goes into the next epoch. One that the log may hold already cannot: nobody will
    /// ever tell, under the old epoch, whether it does.
    pub(super) fn bump_or_fail(
        &mut self,
        now: u64,
        id: LaneId,
        batch: Box<Batch>,
        code: ErrorCode,
        cause: DeliveryErrorCause,
    ) {
        if is_in_doubt(&batch) {
            return self.failed(now, id, batch, cause);
        }
        if let Some(entry) = self.lane_mut(id) {
            entry.head.want_bump();
        }
        self.retry_after_error(now, id, batch, code);
    }

    /// MESSAGE_TOO_LARGE: a batch of several records is split, without a retry being charged.
    pub(super) fn settle_too_large(
        &mut self,
        now: u64,
        id: LaneId,
        mut batch: Box<Batch>,
        answer: &PartitionResponse,
    ) {
        // An earlier attempt that went unanswered may have been written, before the limit was
        // lowered. Then the broker refuses the first part, whose sequences are the whole's first
        // ones, and it stays unanswered.
        if batch.state.uncompressed && !batch.is_in_pieces() && !batch.is_resolved() {
            batch.compress_again();
            return self.ask_again(now, id, batch);
        }
        if batch.records() < 2 || batch.is_together() || batch.is_resolved() {
            return self.failed(now, id, batch, answer_cause(answer));
        }
        match self.unpack(id, &mut batch) {
            Ok(()) => {
                if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
                    entry.head.settle_too_large(batch, &mut self.wakes);
                }
                self.after_settling(now, id);
            }
            Err(NotUnpacked::ScratchIsLent) => self.ask_again(now, id, batch),
            Err(NotUnpacked::Damaged) => self.failed(now, id, batch, answer_cause(answer)),
        }
    }

    /// CORRUPT_MESSAGE. Brokers before 2.4 name no culprits when a compacted topic gets a record
    /// without key: such records fail, the others of the batch are sent again. Where all have keys,
    /// halves are tried, so that one bad record does not take the others along.
    pub(super) fn settle_corrupt(
        &mut self,
        now: u64,
        id: LaneId,
        mut batch: Box<Batch>,
        answer: &PartitionResponse,
    ) {
        batch.state.corrupt += 1;
        if batch.state.corrupt <= CORRUPT_RETRIES || batch.is_resolved() {
            return self.retry_after_error(now, id, batch, answer.error);
        }
        if batch.is_together() {
            return self.failed(now, id, batch, answer_cause(answer));
        }
        match self.unpack(id, &mut batch) {
            Ok(()) => {}
            Err(NotUnpacked::ScratchIsLent) => return self.ask_again(now, id, batch),
            Err(NotUnpacked::Damaged) => return self.failed(now, id, batch, answer_cause(answer)),
        }
        let keyless = batch.records_without_key();
        if keyless.is_empty() {
            return self.settle_too_large(now, id, batch, answer);
        }
        let message = answer.error_message.as_deref().map(Arc::from);
        let message = message.or_else(|| Some(NO_KEY.into()));
        let cause = DeliveryErrorCause::Broker { code: answer.error, message };
        if keyless.len() == batch.records() as usize || is_in_doubt(&batch) {
            return self.failed(now, id, batch, cause);
        }
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            let head = &mut entry.head;
            let error = batch_error(&head.tail, &batch, cause, Certainty::NotWritten);
            let culprits: Vec<_> = keyless.iter().map(|&index| (index, error.clone())).collect();
            head.settle_without(batch, &culprits, &mut self.wakes);
        }
        self.after_settling(now, id);
    }

    /// No retry can mend it. Where the broker names the records that it will not have (KIP-467),
    /// only those fail.
    pub(super) fn settle_refused_for_good(
        &mut self,
        now: u64,
        id: LaneId,
        mut batch: Box<Batch>,
        answer: &PartitionResponse,
    ) {
        let culprits = self.culprits(id, &batch, answer);
        let is_whole = is_in_doubt(&batch) || batch.is_together();
        if culprits.is_empty() || is_whole || batch.is_resolved() {
            return self.failed(now, id, batch, answer_cause(answer));
        }
        match self.unpack(id, &mut batch) {
            Ok(()) => {
                if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
                    entry.head.settle_without(batch, &culprits, &mut self.wakes);
                }
                self.after_settling(now, id);
            }
            Err(NotUnpacked::ScratchIsLent) => self.ask_again(now, id, batch),
            Err(NotUnpacked::Damaged) => self.failed(now, id, batch, answer_cause(answer)),
        }
    }

    /// The records that the answer names, in order, each with its error.
    fn culprits(
        &mut self,
        id: LaneId,
        batch: &Batch,
        answer: &PartitionResponse,
    ) -> Vec<(u32, DeliveryError)> {
        let Some(entry) = self.lane_mut(id) else { return Vec::new() };
        let mut named: Vec<_> = answer
            .record_errors
            .iter()
            .filter_map(|(index, message)| Some((u32::try_from(*index).ok()?, message)))
            .filter(|(index, _)| *index < batch.records())
            .collect();
        named.sort_by_key(|(index, _)| *index);
        named.dedup_by_key(|(index, _)| *index);
        let error = |message: &Option<String>| {
            let words = message.as_deref().or(answer.error_message.as_deref());
            let message = words.map(Arc::from);
            let cause = DeliveryErrorCause::Broker { code: answer.error, message };
            batch_error(&entry.head.tail, batch, cause, Certainty::NotWritten)
        };
        named.into_iter().map(|(index, message)| (index, error(message))).collect()
    }

    /// A compressed batch is unpacked before it is taken apart.
    pub(super) fn unpack(&self, id: LaneId, batch: &mut Batch) -> Result<(), NotUnpacked> {
        let entry = self.lanes.get(id.0 as usize).and_then(Option::as_ref);
        let is_first = entry.is_none_or(|entry| entry.head.is_next_expected(batch));
        match &self.scratch {
            _ if batch.codec() == Codec::None => Ok(()),
            Some(slot) => {
                let account =
                    entry.map_or(AccountId::LEADERLESS, |entry| entry.head.tail.account());
                // One that is not the first of its lane would keep the scratch from the very batch
                // that it must wait for.
                batch.unpack(&self.pool, account, slot, is_first)
            }
            None => Err(NotUnpacked::Damaged),
        }
    }

    /// Another batch is being taken apart. This one is refused as often as it is sent, until it has
    /// its turn; that is no retry.
    pub(super) fn ask_again(&mut self, now: u64, id: LaneId, mut batch: Box<Batch>) {
        self.back_off(now, id, &mut batch.state);
        batch.state.waits -= 1;
        batch.state.attempts -= 1;
        if let Some(entry) = self.lane_mut(id) {
            entry.head.settle_refused(batch);
        }
        self.after_settling(now, id);
    }
}
