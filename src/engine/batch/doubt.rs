//! What a lane asks before it begins a new epoch, so that no batch is written twice.
//!
//! A new epoch renumbers every batch that is still to be sent. The log may already hold one that is
//! in doubt ([`BatchState::unanswered`]); under a new number the broker would not recognise it, and
//! the log would hold it twice. So the lane first *asks for* such batches: it sends them again
//! under their old numbers, one at a time and in their order.
//!
//! OUT_OF_ORDER_SEQUENCE_NUMBER alone says little about the batch that it answers. The leader may
//! lack it, because something before it was cut off (an unclean election, or the only replica lost
//! power). Or the leader has it and forgot it: after a clean restart a broker remembers only the
//! last batch of each producer (Kafka's `ProducerStateManager`), and refuses every earlier one.
//!
//! As long as a leader remembers the producer at all, it remembers the producer's last batch. If
//! its log had any of the batches in doubt, the last one in the log would be that batch, and the
//! leader would call it a duplicate. So when one leader has answered OUT_OF_ORDER to every batch in
//! doubt, its log has none of them, and the lane may renumber all. All answers must have come over
//! one connection: a broker that restarted in between has lost its connections, and what it
//! remembered.
//!
//! When the leader appends one of them, or calls it a duplicate, its log has the batches before
//! that one as well. For it refused those, so it knows the producer; and a leader that knows the
//! producer appends only the next sequence.
//!
//! A leader that has forgotten the producer takes any first sequence, so a success alone does not
//! prove that the batches before it are in the log. [`Proved`] therefore compares offsets as well:
//! from the last acknowledged batch to this one, offsets must grow by at least as much as
//! sequences. Records of other producers take offsets too, so this check can pass although a batch
//! is missing; but only if the leader forgot the producer between two attempts over one connection.

use super::head::LaneHead;
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
        // Sequences wrap at 2^31. A batch that seems more than half of that ahead lies behind: it
        // comes before the last acknowledged one, and proves nothing more.
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

impl LaneHead {
    /// Whom the batch's last attempt asked, if that is the present leader.
    pub(super) fn asked_leader(&self, batch: &Batch) -> Option<AskedLeader> {
        let leader_ordinal = self.leader_ordinal;
        let connection = batch.state.connection;
        (!self.settling).then_some(AskedLeader { leader_ordinal, connection })
    }

    /// Whether a batch in doubt is known to be in the log, because the log took a later batch of
    /// its epoch. A leader that no longer remembers the batch may refuse its retry all the same.
    pub fn is_in_log(&self, batch: &Batch) -> bool {
        batch.state.unanswered && batch.number < self.proved.below
    }

    /// A leader refused a batch that is known to be in the log: its deliveries resolve as written.
    /// The refusal is no success at this leader, so `proving_leader` and `succeeded_at` stay.
    pub fn settle_in_log(&mut self, mut batch: Box<Batch>, wakes: &mut WakeList) {
        self.end_attempt();
        batch.note_late_success();
        self.resolve_whole(batch, None, wakes);
    }

    /// Resolves a batch with its pieces. Those that were never sent share its outcome if an attempt
    /// of the whole had gone unanswered: the log may have them as part of it. Else no log has them,
    /// and they fail, since a later batch was appended and they cannot go before it any more.
    fn resolve_whole(
        &mut self,
        mut batch: Box<Batch>,
        mut error: Option<DeliveryError>,
        wakes: &mut WakeList,
    ) {
        if batch.is_resolved() {
            // It expired in flight.
            return self.end_resolved(batch);
        }
        let whole_in_doubt = batch.was_split_in_doubt();
        loop {
            match &error {
                None => {
                    batch.ack(None, None, wakes);
                    self.count_acked(&batch);
                }
                Some(error) => {
                    batch.fail(error.clone(), wakes);
                    self.count_failed(batch.records());
                    self.give_copy_back(&batch, Some(error.clone()), None);
                }
            }
            if !batch.next_piece(wakes) {
                return self.go_on(batch, wakes);
            }
            if !whole_in_doubt {
                error = Some(self.out_of_order(&batch, Certainty::NotWritten));
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
    /// once the leader has refused all of them: then it also marks them all as not in the log, and
    /// the caller may renumber them.
    pub(super) fn next_to_ask(&mut self, connection: u32) -> Option<usize> {
        if planted!(RenumbersUnanswered) {
            return None;
        }
        let last = self.retries.iter().rposition(|batch| batch.can_be_asked_for())?;
        let asked = Some(AskedLeader { leader_ordinal: self.leader_ordinal, connection });
        // A batch that is in no log is asked for as well, while a later one is in doubt: a leader
        // that knows nothing of the producer would take the later one first.
        let is_to_be_asked = |state: &BatchState| match state.unanswered {
            true => state.out_of_order_at != asked,
            false => state.refused_by != asked,
        };
        let mut up_to_last = self.retries.iter().take(last + 1);
        let next = up_to_last.position(|batch| batch.is_numbered() && is_to_be_asked(&batch.state));
        let next = match next {
            Some(at) if at > 0 && planted!(HeadAloneProves) => None,
            Some(at) if at > 0 && planted!(LastAloneProves) => {
                Some(last).filter(|&last| is_to_be_asked(&self.retries[last].state))
            }
            next => next,
        };
        if next.is_some() {
            return next;
        }
        // The leader refused all of them, so its log has none now. Two cases prove nothing: a batch
        // that failed in doubt, and earlier attempts of these batches behind it, may still arrive
        // from a connection that was given up; and the log may hold a split batch as a whole, while
        // the leader does not recognise its pieces. There the lane goes on asking.
        let is_split = self.retries.iter().any(|batch| batch.was_split_in_doubt());
        if self.failed_in_doubt || is_split || planted!(OutOfOrderNeverProves) {
            return self.retries.iter().position(|batch| batch.can_be_asked_for());
        }
        for batch in self.retries.iter_mut().filter(|batch| batch.is_numbered()) {
            batch.state.unanswered = false;
        }
        None
    }

    /// `batch` was appended, at `offset` if the leader told it. Resolves the batches in doubt that
    /// come before it and that this leader answered OUT_OF_ORDER to over the same connection: as
    /// written, without offset; or, if the offsets leave no room for them, as possibly written.
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
            let is_proved = earlier.number < self.proved.below;
            let error = (!is_proved).then(|| self.out_of_order(&earlier, Certainty::Unknown));
            self.resolve_whole(earlier, error, wakes);
        }
    }

    fn out_of_order(&self, batch: &Batch, certainty: Certainty) -> DeliveryError {
        let code = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
        let cause = DeliveryErrorCause::Broker { code, message: None };
        batch_error(&self.tail, batch, cause, certainty)
    }
}
