//! How a lane's batches are numbered when they are sent.

use super::{Batch, DrainRules, LaneHead};
use crate::engine::protocol::ProducerIdentity;

impl LaneHead {
    /// Adopts the `ordinal`th producer id that was published, if it is newer than the lane's and no
    /// batch that is in flight or waits for a retry is numbered under the lane's own.
    pub fn offer_identity(&mut self, identity: ProducerIdentity, ordinal: u64) {
        if !self.sequencer.is_newer(ordinal) || self.in_flight > 0 || self.has_unanswered() {
            return;
        }
        if self.sequencer.has_identity() && !self.retries.is_empty() {
            return;
        }
        self.sequencer.adopt(identity, ordinal);
        self.proved.begin_epoch(self.sequencer.next());
        self.tail.set_epochs_used(self.sequencer.used());
        self.gap_at = None;
        self.failed_in_doubt = false;
        // A broker takes any first sequence of an id that is new to it.
        self.proving_leader = true;
    }

    /// The next batch to send, numbered if the rules say so, but without its header written. Only
    /// after [`LaneHead::drainable`] said so. The attempt must end in one of the `settle_*` calls.
    pub fn drain(&mut self, rules: DrainRules) -> Option<Box<Batch>> {
        if rules.idempotent && self.sequencer.bump_wanted() {
            if let Some(doubtful) = self.next_to_ask(rules.connection) {
                let batch = self.retries.remove(doubtful)?;
                return Some(self.begin_attempt(batch, rules.connection));
            }
            if !self.begin_epoch() {
                return None;
            }
        }
        let mut batch = match self.retries.pop_front() {
            Some(batch) => batch,
            None => self.tail.pop_sealed()?,
        };
        let numbers = rules.idempotent && self.sequencer.has_identity();
        if numbers && (!batch.is_numbered() || planted!(RenumbersOnRetry)) {
            let shared = planted!(PiecesShareSequences);
            let records = if shared { batch.records() } else { batch.records_left() };
            let sequence = self.sequencer.assign(records);
            batch.set_number(self.sequencer.identity(), sequence);
        }
        Some(self.begin_attempt(batch, rules.connection))
    }

    /// A batch is sent without identity: its broker takes none. The numbers that the lane has given
    /// are void from then on, those of batches that wait too: no log will have them in their order.
    pub fn void_numbers(&mut self, batch: &mut Batch) {
        self.sequencer.want_bump();
        self.retries.iter_mut().for_each(|other| other.void_number());
        batch.void_number();
    }

    /// Whether the lane has a producer id.
    pub fn has_identity(&self) -> bool {
        self.sequencer.has_identity()
    }

    /// Begins a new epoch. Returns whether new numbers may be given.
    fn begin_epoch(&mut self) -> bool {
        let begun = self.sequencer.bump();
        self.proved.begin_epoch(self.sequencer.next());
        self.tail.set_epochs_used(self.sequencer.used());
        self.gap_at = None;
        self.failed_in_doubt = false;
        // Even if the lane must wait for another producer id: the old numbers are void.
        for batch in &mut self.retries {
            if batch.is_numbered() {
                batch.forget_doubts();
            }
            batch.set_number(ProducerIdentity::NONE, -1);
        }
        self.proving_leader = true;
        begun
    }
}
