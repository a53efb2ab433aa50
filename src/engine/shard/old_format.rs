//! Batches for brokers before Kafka 0.11, which take message sets.
//!
//! A batch is ready for such a broker if none of its records has headers and its set is not longer
//! than a request may be.

use super::pack::bytes_around;
use super::shard::Shard;
use crate::engine::batch::{Batch, LaneId, NotUnpacked, batch_error};
use crate::engine::protocol::compression::Codec;
use crate::engine::protocol::{PRODUCE_HEAD_MAX, PartitionResponse};
use crate::error::DeliveryErrorCause;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// What a record with headers is told.
const HEADERS: &str = "it takes no record headers (Kafka 0.11, KIP-82): send the record without";

/// A topic that refused numbers is tried with them again after so long, in nanoseconds: five
/// minutes. Its message format may have been raised.
const UNNUMBERED_FOR: u64 = 300_000_000_000;

impl Shard {
    /// A broker turns out to be older than idempotence: its lanes need not wait for an identity.
    pub(super) fn handle_old_broker(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        let id = broker.id;
        if self.config.idempotent && !self.config.idempotence_required && !broker.age_told {
            broker.age_told = true;
            log::warn!(
                "broker {id} at {} knows no idempotence (Kafka 0.11): a lost acknowledgement may \
                 double records there; with enable_idempotence (enable.idempotence) set to false \
                 this is not said, set to true it is an error",
                broker.address
            );
        }
        for lane in 0..self.lanes.len() {
            let entry = self.lanes[lane].as_ref();
            let leader = entry.and_then(|entry| entry.head.leader);
            if leader.is_some_and(|leader| leader.broker == id) {
                self.examine(now, LaneId(lane as u32));
            }
        }
    }

    /// UNSUPPORTED_FOR_MESSAGE_FORMAT: the topic keeps the message format of before Kafka 0.11
    /// (`log.message.format.version`, as it does in the midst of an upgrade), which has no place
    /// for numbers. The batch goes without, unless idempotence was asked for.
    pub(super) fn settle_old_format(
        &mut self,
        now: u64,
        id: LaneId,
        batch: Box<Batch>,
        answer: &PartitionResponse,
    ) {
        if self.config.idempotence_required || !batch.is_numbered() {
            return self.settle_refused_for_good(now, id, batch, answer);
        }
        if let Some(entry) = self.lane_mut(id) {
            entry.head.unnumbered_until = now.saturating_add(UNNUMBERED_FOR);
        }
        self.retry_after_error(now, id, batch, answer.error);
    }

    /// A batch that was compressed for brokers of another age is unpacked. `None` if it has to wait
    /// for that.
    pub(super) fn unpack_for_another(
        &mut self,
        now: u64,
        id: LaneId,
        mut batch: Box<Batch>,
    ) -> Option<Box<Batch>> {
        match self.unpack(id, &mut batch) {
            Ok(()) => return Some(batch),
            Err(NotUnpacked::ScratchIsLent) => self.wait_for_scratch(now, id, batch),
            Err(NotUnpacked::Damaged) => {
                let text = "a compressed batch cannot be unpacked for a broker of another age";
                let problem = Problem::new(ProblemKind::BrokerTooOld, text);
                self.failed(now, id, batch, DeliveryErrorCause::BrokerTooOld(problem));
            }
        }
        None
    }

    /// Another batch is being taken apart where this one would be unpacked. Nothing was sent, so
    /// that is no attempt.
    fn wait_for_scratch(&mut self, now: u64, id: LaneId, mut batch: Box<Batch>) {
        self.back_off(now, id, &mut batch.state);
        batch.state.waits -= 1;
        batch.state.attempts -= 1;
        if let Some(entry) = self.lane_mut(id) {
            entry.head.settle_for_retry(batch);
        }
        self.after_settling(now, id);
    }

    /// Makes a drained batch ready to be sent as a message set: see `finish`.
    pub(super) fn fit_into_message_set(
        &mut self,
        now: u64,
        index: usize,
        id: LaneId,
        mut batch: Box<Batch>,
    ) -> Option<(Box<Batch>, usize)> {
        let format = self.brokers[index].format();
        let survey = batch.survey(format);
        if !survey.with_headers.is_empty() {
            self.fail_records_with_headers(now, index, id, batch, &survey.with_headers);
            return None;
        }
        self.compress(index, id, &mut batch, Some(survey.len));
        let len = match batch.codec() {
            Codec::None => survey.len,
            // Of one message: no record is looked at again.
            _ => batch.survey(format).len,
        };
        // Its framing counts as well.
        let client_id = self.config.connection.client_id.len();
        let around = self.lane_mut(id).map_or(0, |entry| bytes_around(&entry.head.tail));
        let framing = PRODUCE_HEAD_MAX + client_id + around;
        let room = self.config.request_bytes_max.saturating_sub(framing);
        let may_part = batch.records() > 1 && !batch.is_together();
        if len > room && may_part && batch.codec() == Codec::None {
            self.turned_away += 1;
            if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
                entry.head.settle_too_large(batch, &mut self.wakes);
            }
            self.after_settling(now, id);
            return None;
        }
        Some((batch, len))
    }

    /// The records at these places fail, the others are sent again.
    fn fail_records_with_headers(
        &mut self,
        now: u64,
        index: usize,
        id: LaneId,
        batch: Box<Batch>,
        places: &[u32],
    ) {
        self.turned_away += 1;
        let broker = &self.brokers[index];
        let place = format_args!("broker {} at {}", broker.id, broker.address);
        let problem = Problem::new(ProblemKind::BrokerTooOld, HEADERS).at(place);
        let cause = DeliveryErrorCause::BrokerTooOld(problem);
        if batch.is_together() {
            return self.failed(now, id, batch, cause);
        }
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            let head = &mut entry.head;
            let error = batch_error(&head.tail, &batch, cause, batch.certainty());
            let culprits: Vec<_> = places.iter().map(|&place| (place, error.clone())).collect();
            head.settle_without(batch, &culprits, &mut self.wakes);
        }
        self.after_settling(now, id);
    }
}
