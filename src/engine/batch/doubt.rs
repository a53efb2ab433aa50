//! What a lane asks before it begins a new epoch, so that no batch is written twice.
//!
//! A new epoch gives new numbers to all that is still to be sent. A batch whose attempt went
//! unanswered may be in the log already; under new numbers the broker would not recognise it, and
//! the log would hold it twice. So such batches are asked for first, under their old numbers, one
//! at a time and in their order.
//!
//! OUT_OF_ORDER_SEQUENCE_NUMBER alone says little about the batch that it answers. The leader may
//! lack it, because something before it was cut off (an unclean election, or the only replica lost
//! power). Or the leader has it and forgot it: after a clean restart a broker remembers only the
//! last batch of each producer (Kafka's `ProducerStateManager`), and refuses every earlier one. But
//! the last of what is in the log is always remembered. So when one leader, over one connection,
//! has answered OUT_OF_ORDER to every batch in doubt, it has none of them, and all may be
//! renumbered. When it takes one of them, or knows it for a duplicate, it has all before that one
//! as well: it knew the producer, since it had refused those.
//!
//! A success alone does not prove what stands before it: a leader that knows nothing of a producer
//! takes any first sequence. So the offsets must leave room for what is said to be there, between
//! the last acknowledged batch and this one. That is necessary and not sufficient: records of other
//! producers make room as well. But such a leader would have to forget the producer between two
//! questions over one connection.

use super::half::LaneHalf;
use super::{AskedLeader, Batch, BatchState, batch_error, sequence_after};
use crate::engine::protocol::ErrorCode;
use crate::engine::sync::WakeList;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};

/// How far the log is known to hold an epoch's batches without a gap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proved {
    /// The sequence behind the last batch that was acknowledged with its offset.
    sequence: i32,
    /// The offset behind it.
    offset: i64,
    /// Every batch of the epoch with a smaller number is or was in the log, if an attempt of it
    /// went unanswered.
    below: u64,
}

impl Proved {
    /// Nothing was acknowledged yet.
    pub(super) fn nothing() -> Self {
        Proved { sequence: 0, offset: 0, below: 0 }
    }

    /// A new epoch has begun at this sequence.
    pub(super) fn begin_epoch(&mut self, sequence: i32) {
        (self.sequence, self.below) = (sequence, 0);
    }

    /// The batch was appended at `offset`.
    fn handle_success(&mut self, batch: &Batch, offset: Option<i64>) {
        let Some(offset) = offset else {
            // DUPLICATE_SEQUENCE_NUMBER: the leader knows of later batches than this one.
            self.below = self.below.max(batch.number);
            return;
        };
        // Sequences live on a circle of 2^31: what is more than half of it away lies behind.
        let missing = batch.base_sequence().wrapping_sub(self.sequence) & i32::MAX;
        if missing >= 1 << 30 {
            return;
        }
        if offset.saturating_sub(self.offset) >= i64::from(missing) {
            self.below = self.below.max(batch.number);
        }
        self.sequence = sequence_after(batch.base_sequence(), batch.records());
        self.offset = offset.saturating_add(i64::from(batch.records()));
    }
}

impl LaneHalf {
    /// Whom the batch's last attempt asked, if that is the present leader.
    pub(super) fn asked_leader(&self, batch: &Batch) -> Option<AskedLeader> {
        let leader_ordinal = self.leader_ordinal;
        let connection = batch.state.connection;
        (!self.settling).then_some(AskedLeader { leader_ordinal, connection })
    }

    /// Whether a later batch of its epoch was appended behind the batch, after an attempt of it
    /// had gone unanswered. The leader may refuse it all the same, once it has forgotten it.
    pub fn is_in_log(&self, batch: &Batch) -> bool {
        batch.state.unanswered && batch.number < self.proved.below
    }

    /// A leader refused a batch that is in the log. That says nothing of what this leader knows, so
    /// it counts as no success there.
    pub fn settle_in_log(&mut self, batch: Box<Batch>, wakes: &mut WakeList) {
        self.end_attempt();
        self.resolve_whole(batch, None, wakes);
    }

    /// Resolves a batch with all its pieces: also those that were never sent have sequences of the
    /// whole, an attempt of which had gone unanswered.
    fn resolve_whole(
        &mut self,
        mut batch: Box<Batch>,
        error: Option<DeliveryError>,
        wakes: &mut WakeList,
    ) {
        if batch.is_resolved() {
            // It expired in flight.
            return;
        }
        loop {
            match &error {
                None => batch.ack(None, None, wakes),
                Some(error) => batch.fail(error.clone(), wakes),
            };
            if !batch.next_piece(wakes) {
                return self.go_on(batch, wakes);
            }
        }
    }

    /// Whether nothing will ever tell if the log has the batch, which was just refused as out of
    /// order: it was split after an attempt of the whole had gone unanswered, its pieces are not
    /// recognised as the whole, and no later batch is in doubt that could be asked for.
    pub fn is_past_asking(&self, batch: &Batch) -> bool {
        let is_later = |other: &Batch| other.number > batch.number && other.state.unanswered;
        let is_last = !self.retries.iter().any(|other| is_later(other));
        let answers = !self.settling && self.in_flight() == 1;
        let in_doubt = batch.was_split_in_doubt() && !self.is_cut_off(batch);
        answers && is_last && in_doubt && self.is_next_expected(batch)
    }

    /// The broker answered OUT_OF_ORDER_SEQUENCE_NUMBER. Where nothing before the batch is open the
    /// log lacks something that no retry will bring, and a new epoch must begin.
    pub fn note_out_of_order(&mut self, batch: &mut Batch) {
        batch.state.unanswered &= !planted!(OutOfOrderProves);
        batch.state.unanswered &= !self.is_cut_off(batch);
        batch.state.out_of_order_at = self.asked_leader(batch);
        if self.is_next_expected(batch) || self.bump_wanted() {
            self.want_bump();
        }
    }

    /// Before a new epoch: which of the retries is to be asked for next, over `connection`. `None`
    /// if none of them may be in the log.
    pub(super) fn next_to_ask(&mut self, connection: u32) -> Option<usize> {
        if planted!(RenumbersUnanswered) {
            return None;
        }
        let last = self.retries.iter().rposition(|batch| batch.state.unanswered)?;
        let asked = Some(AskedLeader { leader_ordinal: self.leader_ordinal, connection });
        // A batch that is in no log is asked for as well, while a later one is in doubt: a leader
        // that knows nothing of the producer would take the later one first.
        let is_open = |state: &BatchState| match state.unanswered {
            true => state.out_of_order_at != asked,
            false => state.refused_by != asked,
        };
        let mut in_doubt = self.retries.iter().take(last + 1);
        let open = in_doubt.position(|batch| is_open(&batch.state));
        let open = match open {
            Some(at) if at > 0 && planted!(HeadAloneProves) => None,
            Some(at) if at > 0 && planted!(LastAloneProves) => {
                Some(last).filter(|&last| is_open(&self.retries[last].state))
            }
            open => open,
        };
        if open.is_some() {
            return open;
        }
        // The leader has none of them. But a batch that failed in doubt may still arrive from a
        // connection that was given up, and these batches behind it. And a batch that was split may
        // be in the log as a whole: the leader does not recognise its pieces as that.
        let is_split = self.retries.iter().any(|batch| batch.was_split_in_doubt());
        if self.failed_in_doubt || is_split || planted!(OutOfOrderNeverProves) {
            return self.retries.iter().position(|batch| batch.state.unanswered);
        }
        self.retries.iter_mut().for_each(|batch| batch.state.unanswered = false);
        None
    }

    /// `batch` was appended, at `offset` if the leader told it. Batches before it that this leader
    /// answered OUT_OF_ORDER to, over the same connection, are settled with it: they are in the
    /// log, at offsets that the leader no longer knows; or, where the offsets contradict that,
    /// nobody will ever know.
    pub(super) fn settle_what_it_proves(
        &mut self,
        batch: &Batch,
        offset: Option<i64>,
        wakes: &mut WakeList,
    ) {
        // The answer may be that of an earlier topic of the same name, whose offsets say nothing of
        // the present one.
        if batch.is_numbered()
            && batch.producer() == self.sequencer.identity()
            && !self.asked_earlier_topic
        {
            self.proved.handle_success(batch, offset);
        }
        let Some(asked) = self.asked_leader(batch) else { return };
        let is_settled = |earlier: &Batch| {
            earlier.number < batch.number
                && earlier.state.unanswered
                && earlier.state.out_of_order_at == Some(asked)
                && earlier.producer() == batch.producer()
        };
        while let Some(at) = self.retries.iter().position(|earlier| is_settled(earlier)) {
            let Some(earlier) = self.retries.remove(at) else { return };
            let error = || {
                let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
                let cause = DeliveryErrorCause::Broker { code, message: None };
                batch_error(&self.lane, &earlier, cause, Certainty::Unknown)
            };
            let error = (earlier.number >= self.proved.below).then(error);
            self.resolve_whole(earlier, error, wakes);
        }
    }
}
