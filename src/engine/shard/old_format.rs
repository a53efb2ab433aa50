//! Batches for brokers before Kafka 0.11, which take message sets.
//!
//! A batch is ready for such a broker if none of its records has headers and its set is not longer
//! than a request may be.

use super::pack::bytes_around;
use super::shard::Shard;
use crate::engine::batch::{Batch, LaneId, NotUnpacked, batch_error};
use crate::engine::protocol::PRODUCE_HEAD_MAX;
use crate::engine::protocol::compression::Codec;
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

/// What a record with headers is told.
const HEADERS: &str = "it takes no record headers (Kafka 0.11, KIP-82): send the record without";

impl Shard {
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
            Err(NotUnpacked::ScratchIsLent) => self.ask_again(now, id, batch),
            Err(NotUnpacked::Damaged) => {
                let text = "a compressed batch cannot be unpacked for a broker of another age";
                let problem = Problem::new(ProblemKind::BrokerTooOld, text);
                self.failed(now, id, batch, DeliveryErrorCause::BrokerTooOld(problem));
            }
        }
        None
    }

    /// Makes a drained batch ready to be sent as a message set: see `finish`.
    pub(super) fn fit_into_message_set(
        &mut self,
        now: u64,
        index: usize,
        id: LaneId,
        mut batch: Box<Batch>,
    ) -> Option<(Box<Batch>, usize)> {
        let format = self.brokers[index].format;
        let survey = batch.survey(format);
        if !survey.with_headers.is_empty() {
            self.fail_records_with_headers(now, index, id, batch, &survey.with_headers);
            return None;
        }
        self.compress(index, &mut batch);
        let len = batch.survey(format).len;
        let limit = self.brokers[index].request_limit.bytes(self.config.request_bytes_max);
        // Its framing counts as well.
        let around = self.lane_mut(id).map_or(0, |entry| bytes_around(&entry.head.tail));
        let room = limit.saturating_sub(PRODUCE_HEAD_MAX + around);
        if len > room && batch.records() > 1 && batch.codec() == Codec::None {
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
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            let head = &mut entry.head;
            let error = batch_error(&head.tail, &batch, cause, batch.certainty());
            let culprits: Vec<_> = places.iter().map(|&place| (place, error.clone())).collect();
            head.settle_without(batch, &culprits, &mut self.wakes);
        }
        self.after_settling(now, id);
    }
}
