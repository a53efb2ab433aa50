//! The head of a lane, from which its shard sends: attempts in flight, retries, and how batches are
//! numbered.

use std::collections::VecDeque;
use std::sync::Arc;

use super::doubt::Proved;
use super::{Batch, EpochsUsed, LaneTail, ResolveWindow, Sequencer, ShardId};
use crate::engine::buffer::AccountId;
use crate::engine::protocol::{BrokerId, ProducerIdentity, TopicId};
use crate::engine::sync::WakeList;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};

/// Who leads a partition, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The broker.
    pub broker: BrokerId,
    /// The leader epoch, -1 where the broker is too old to say.
    pub epoch: i32,
}

/// Limits that decide when a lane may be drained.
#[derive(Clone, Copy, Debug)]
pub struct DrainRules {
    /// Batches carry identity and sequences.
    pub idempotent: bool,
    /// Batches in flight per lane at the most.
    pub in_flight_max: u32,
    /// After this long without a success, in nanoseconds, a lane has one batch in flight until the
    /// next success: its leader may have forgotten the producer (`producer.id.expiration.ms`).
    pub producer_id_idle_max: u64,
    /// The connection that the batch will go over, counted by the shard.
    pub connection: u32,
}

/// Whether a lane can give a batch now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drainable {
    /// It can.
    Now,
    /// Not before this time (nanoseconds, monotonic).
    At(u64),
    /// Not before something settles, arrives or is published.
    Later,
    /// Not before a new producer id is published.
    NeedsIdentity,
}

/// The end of a lane from which the loop sends. One shard owns it, or one message to a shard.
/// Dropping it fails everything in it.
pub struct LaneHead {
    /// The other end, where senders append.
    pub tail: Arc<LaneTail>,
    /// Who leads the partition; `None` while nobody does.
    pub leader: Option<Leader>,
    /// The generation of the last view that it followed. An older view changes nothing: a head can
    /// reach its new shard before the view by which it moves.
    pub seen: u64,
    /// The shard that it will be sent to once nothing is in flight.
    pub moving_to: Option<ShardId>,
    /// Nothing is drained before this time, after an error of the partition itself.
    pub backoff_until: u64,
    /// The leader answered the last attempt with an error after it had waited for followers. It may
    /// wait again, so the lane shares requests with suspect lanes only and holds up no others.
    pub suspect: bool,
    /// Batches to be sent again before any new one, ordered by their number.
    pub(super) retries: VecDeque<Box<Batch>>,
    pub(super) in_flight: u32,
    /// The attempts in flight went to an earlier leader, or an earlier topic of this name. No batch
    /// is sent until they settle: it could be appended before one that must be sent again.
    pub(super) settling: bool,
    /// The attempt in flight is a retry, or a piece of a split batch. A broker recognises
    /// duplicates only among a producer's last five batches, so nothing new is pipelined beside a
    /// batch that may be sent again under its old number.
    retrying: bool,
    /// No attempt of this epoch has succeeded at the present leader, so one batch goes at a time. A
    /// broker that does not know the producer accepts any sequence from it: if two batches were in
    /// flight and it refused the first, it would append the second alone.
    pub(super) proving_leader: bool,
    /// When an attempt last succeeded, in nanoseconds, monotonic.
    pub(super) succeeded_at: u64,
    /// A batch of this epoch failed although the log may hold it, or may still get it from a
    /// connection that was given up. Earlier attempts of batches behind it may then be appended as
    /// well, so OUT_OF_ORDER answers do not prove that the log lacks those.
    pub(super) failed_in_doubt: bool,
    /// The attempts in flight went to an earlier topic of the same name.
    pub(super) asked_earlier_topic: bool,
    /// Which batches later successes have proved to be in the log.
    pub(super) proved: Proved,
    /// The number of the first batch of this epoch that was refused for good and certainly is in no
    /// log. No log can append a later batch in this epoch.
    pub(super) gap_at: Option<u64>,
    /// Counts the leaders that the lane has had.
    pub(super) leader_ordinal: u32,
    /// Which of the producer's clusters the partition is at.
    pub(super) cluster: u64,
    /// Set until the lane's attempts at an earlier cluster have settled and it begins anew. The
    /// number says how many of the producer's ids came from earlier clusters: the lane uses none of
    /// those again.
    pub(super) starts_over: Option<u64>,
    /// The topic that the partition is of, by its id; zero where brokers are too old to say.
    pub(super) topic_id: TopicId,
    /// Which of the topics that were seen under its name; 0 before the first.
    incarnation: u64,
    /// Until then its topic is taken for one of an old message format, which takes no numbers.
    pub unnumbered_until: u64,
    pub(super) sequencer: Sequencer,
    window: ResolveWindow,
}

impl LaneHead {
    /// The head of a new lane.
    pub fn new(tail: Arc<LaneTail>) -> Box<LaneHead> {
        Box::new(LaneHead {
            tail,
            leader: None,
            seen: 0,
            moving_to: None,
            backoff_until: 0,
            suspect: false,
            retries: VecDeque::new(),
            in_flight: 0,
            settling: false,
            retrying: false,
            proving_leader: true,
            succeeded_at: 0,
            failed_in_doubt: false,
            asked_earlier_topic: false,
            proved: Proved::nothing(),
            gap_at: None,
            leader_ordinal: 0,
            cluster: 0,
            starts_over: None,
            topic_id: TopicId::ZERO,
            incarnation: 0,
            unnumbered_until: 0,
            sequencer: Sequencer::default(),
            window: ResolveWindow::default(),
        })
    }

    /// A lane of the same partition was given up that had used these epochs: this one begins above.
    pub fn begin_above(&mut self, used: EpochsUsed) {
        self.sequencer.begin_above(used);
    }

    /// Attempts that have not settled.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether a batch waits to be sent, for the first time or again.
    pub fn has_sealed(&self) -> bool {
        !self.retries.is_empty() || self.tail.has_sealed()
    }

    /// Whether records wait in it, in a sealed batch or an open one.
    pub fn has_records(&self) -> bool {
        self.has_sealed() || self.tail.open_since().is_some()
    }

    /// Whether a batch waits to be sent again.
    #[cfg(feature = "internals")]
    pub fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    /// Batches that wait to be sent again.
    #[cfg(test)]
    pub fn retry_count(&self) -> usize {
        self.retries.len()
    }

    /// An upper bound of the length of the batch that [`LaneHead::drain`] gives next, in bytes.
    /// Before a new epoch that may be any of the retries, so it is the longest of them.
    pub fn next_len(&self) -> Option<usize> {
        let candidates = if self.sequencer.bump_wanted() { self.retries.len() } else { 1 };
        let retries = self.retries.iter().take(candidates);
        retries.map(|batch| batch.len()).max().or_else(|| self.tail.peek_sealed_len())
    }

    /// By how many bytes at most that batch is longer as a message set.
    pub fn next_growth(&self) -> usize {
        let retries = self.retries.iter().map(|batch| batch.message_set_growth()).max();
        retries.or_else(|| self.tail.peek_sealed_growth()).unwrap_or(0)
    }

    /// Takes a leader. If its broker or its epoch is another, the backoff ends, since this leader
    /// has refused nothing, and one batch goes first alone (`proving_leader`).
    pub fn lead_by(&mut self, leader: Option<Leader>) {
        if leader == self.leader {
            return;
        }
        if leader.is_some() {
            self.backoff_until = 0;
            self.proving_leader = !planted!(MovesWithInFlights);
        }
        self.settling = self.in_flight > 0 && !planted!(MovesWithInFlights);
        self.leader = leader;
        self.leader_ordinal = self.leader_ordinal.wrapping_add(1);
    }

    /// Takes the topic's id. If it is another, the topic was created again and the new log knows
    /// none of this lane's sequences. So the lane begins a new epoch: an attempt for the old topic
    /// that still arrives is not taken for a new batch. Where brokers are too old to tell ids, a
    /// change of `incarnation` tells the same.
    pub fn belong_to(&mut self, topic_id: TopicId, incarnation: u64) {
        let before = std::mem::replace(&mut self.incarnation, incarnation);
        let another = if topic_id.is_zero() || self.topic_id.is_zero() {
            before != 0 && before != incarnation && topic_id == self.topic_id
        } else {
            topic_id != self.topic_id
        };
        if another {
            self.settling = self.in_flight > 0;
            self.leader_ordinal = self.leader_ordinal.wrapping_add(1);
            self.asked_earlier_topic = self.in_flight > 0;
            // Offsets begin anew, and the topic may be of another format.
            self.unnumbered_until = 0;
            self.proved = Proved::nothing();
            self.sequencer.want_bump();
        }
        if !topic_id.is_zero() {
            self.topic_id = topic_id;
        }
    }

    /// The topic's id; zero where brokers are too old to say.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Whether the attempts in flight went to an earlier leader, or to an earlier topic of the
    /// name. Nothing is sent until they have settled.
    pub fn is_settling(&self) -> bool {
        self.settling
    }

    /// Whether the rules allow [`LaneHead::drain`] to give a batch now. The lane may have none.
    pub fn drainable(&self, now: u64, rules: DrainRules) -> Drainable {
        let has_old_attempts = self.settling || self.starts_over.is_some();
        if self.moving_to.is_some() || self.leader.is_none() || has_old_attempts {
            return Drainable::Later;
        }
        if now < self.backoff_until {
            return Drainable::At(self.backoff_until);
        }
        let silent_for = now.saturating_sub(self.succeeded_at);
        let forgotten = silent_for > rules.producer_id_idle_max && !planted!(ProofNeverAges);
        let proving = (self.proving_leader || forgotten) && !planted!(ManyBeforeFirstSuccess);
        let bumping = self.sequencer.bump_wanted() && !planted!(BumpsBesideInFlights);
        let retrying = self.retrying && !planted!(OutOfOrderProves) || !self.retries.is_empty();
        let alone = rules.idempotent && (proving || bumping) || retrying;
        let limit = if alone { 1 } else { rules.in_flight_max };
        if self.in_flight >= limit {
            return Drainable::Later;
        }
        if rules.idempotent && !self.sequencer.has_identity() && !self.has_unanswered() {
            return Drainable::NeedsIdentity;
        }
        Drainable::Now
    }

    /// The identity whose epochs this lane has used up, while it waits for another.
    pub fn used_up_identity(&self) -> Option<ProducerIdentity> {
        self.sequencer.used_up()
    }

    pub(super) fn has_unanswered(&self) -> bool {
        self.retries.iter().any(|batch| batch.can_be_asked_for())
    }

    pub(super) fn begin_attempt(&mut self, mut batch: Box<Batch>, connection: u32) -> Box<Batch> {
        batch.state.attempts += 1;
        batch.state.connection = connection;
        // Forget an OUT_OF_ORDER answer to an earlier attempt: only this attempt's answer counts.
        batch.state.out_of_order_at = None;
        self.in_flight += 1;
        self.retrying |= batch.state.attempts > 1 || batch.is_in_pieces();
        self.tail.meter.retries.add(u64::from(batch.state.attempts > 1));
        batch
    }

    /// One attempt less in flight.
    pub(super) fn end_attempt(&mut self) {
        self.in_flight -= 1;
        self.settling &= self.in_flight > 0;
        self.asked_earlier_topic &= self.in_flight > 0;
        self.retrying &= self.in_flight > 0;
    }

    /// An attempt settled with success. `offset` is `None` where the broker did not tell.
    pub fn settle_acked(
        &mut self,
        now: u64,
        mut batch: Box<Batch>,
        (offset, append_time): (Option<i64>, Option<i64>),
        wakes: &mut WakeList,
    ) {
        self.succeeded_at = now;
        self.settle_what_it_proves(&batch, offset, wakes);
        // A success at an earlier leader says nothing about the present one.
        self.proving_leader &= self.settling;
        self.end_attempt();
        self.suspect = false;
        batch.note_late_success();
        let resolved = batch.ack(offset, append_time, wakes);
        if resolved {
            self.count_acked(&batch);
        }
        if resolved || planted!(CompletesTwice) {
            self.go_on(batch, wakes);
        } else {
            self.end_resolved(batch);
        }
    }

    /// A batch, or its present piece, is in the log.
    pub(super) fn count_acked(&self, batch: &Batch) {
        let meter = &self.tail.meter;
        meter.acked_records.add(u64::from(batch.records()));
        meter.acked_bytes.add(batch.len() as u64);
        meter.acked_batches.add(1);
    }

    /// So many records have failed.
    pub(super) fn count_failed(&self, records: u32) {
        self.tail.meter.failed_records.add(u64::from(records));
    }

    /// A batch, or its present piece, is resolved: queues the next piece, if there is one.
    pub(super) fn go_on(&mut self, mut batch: Box<Batch>, wakes: &mut WakeList) {
        if batch.next_piece(wakes) {
            if planted!(SplitsOutOfOrder) {
                return self.retries.push_back(batch);
            }
            self.insert_retry(batch);
        } else {
            let number = batch.number;
            // First: a flush on another thread may see the number at once, and whoever waited for
            // it finds the memory free.
            drop(batch);
            self.mark_resolved(number, wakes);
        }
    }

    /// An attempt settled without success, and the batch is to be sent again. A batch that expired
    /// in flight is resolved, and ends here.
    pub fn settle_for_retry(&mut self, batch: Box<Batch>) {
        self.end_attempt();
        match batch.is_resolved() {
            true => self.end_resolved(batch),
            false => self.insert_retry(batch),
        }
    }

    /// The same, where the leader's answer was an error.
    pub fn settle_refused(&mut self, mut batch: Box<Batch>) {
        batch.state.refused_by = self.asked_leader(&batch).or(batch.state.refused_by);
        self.settle_for_retry(batch);
    }

    fn insert_retry(&mut self, batch: Box<Batch>) {
        let mut position = self.retries.partition_point(|other| other.number < batch.number);
        if planted!(RetriesOutOfOrder) {
            position = 0;
        }
        self.retries.insert(position, batch);
    }

    /// An attempt settled, and what was sent failed for good: the batch, or its present piece. The
    /// gap that it leaves in the sequences is closed by a new epoch.
    pub fn settle_failed(
        &mut self,
        mut batch: Box<Batch>,
        error: DeliveryError,
        wakes: &mut WakeList,
    ) {
        self.end_attempt();
        self.note_gap(&batch);
        if !batch.fail(error.clone(), wakes) {
            return self.end_resolved(batch);
        }
        self.count_failed(batch.records());
        if batch.behind(&error).is_some() {
            self.give_copy_back(&batch, Some(error), None);
            return self.go_on(batch, wakes);
        }
        let number = batch.number;
        self.give_back(batch, Some(error), None);
        self.mark_resolved(number, wakes);
    }

    /// An attempt settled: the batch was too large, and is sent again in two parts, which together
    /// have its sequences. The attempt is not charged against `retries`.
    pub fn settle_too_large(&mut self, mut batch: Box<Batch>, wakes: &mut WakeList) {
        self.end_attempt();
        if batch.is_resolved() {
            return self.end_resolved(batch);
        }
        batch.split(wakes);
        batch.state.attempts -= 1;
        self.insert_retry(batch);
    }

    /// An attempt settled: the broker refused the batch because of some of its records (KIP-467).
    /// They fail, each with its error. The others are sent again, in a new epoch, because they take
    /// fewer sequences than the batch was given.
    pub fn settle_without(
        &mut self,
        mut batch: Box<Batch>,
        culprits: &[(u32, DeliveryError)],
        wakes: &mut WakeList,
    ) {
        let refused_by = self.asked_leader(&batch);
        self.end_attempt();
        self.note_gap(&batch);
        if batch.is_resolved() {
            return self.end_resolved(batch);
        }
        self.count_failed(culprits.len() as u32);
        self.give_records_back(&batch, culprits);
        if batch.remove(culprits, wakes) {
            batch.state.attempts -= 1;
            batch.state.refused_by = refused_by.or(batch.state.refused_by);
            self.insert_retry(batch);
        } else {
            self.go_on(batch, wakes);
        }
    }

    /// The sequences of a batch will be in no log, or not all of them: a new epoch closes the gap.
    fn note_gap(&mut self, batch: &Batch) {
        if !batch.is_numbered() {
            return;
        }
        self.sequencer.want_bump();
        if batch.certainty() == Certainty::NotWritten && !batch.was_split_in_doubt() {
            let first = self.gap_at.map_or(batch.number, |first| first.min(batch.number));
            self.gap_at = Some(first);
        } else {
            self.failed_in_doubt = true;
        }
    }

    /// Whether an earlier batch of the epoch was refused for good, so that the log will never have
    /// its sequences: a broker that gets this batch under its present numbers can only answer
    /// OUT_OF_ORDER.
    pub fn is_cut_off(&self, batch: &Batch) -> bool {
        self.gap_at.is_some_and(|gap| gap < batch.number)
    }

    /// Whether a batch is the next that the broker expects: nothing earlier waits for its retry.
    /// (Answers come in the order of the requests, so nothing earlier is in flight either.)
    pub fn is_next_expected(&self, batch: &Batch) -> bool {
        self.retries.front().is_none_or(|first| first.number > batch.number)
    }

    /// The lane needs a new epoch once its attempts have settled.
    pub fn want_bump(&mut self) {
        self.sequencer.want_bump();
    }

    /// Whether a new epoch begins once the lane's attempts have settled.
    pub fn bump_wanted(&self) -> bool {
        self.sequencer.bump_wanted()
    }

    /// Fails all deliveries of a batch that expired in flight. Its request goes on owning its
    /// memory, and no new sequence is given until the attempts have settled.
    pub fn fail_in_flight(
        &mut self,
        batch: &mut Batch,
        error: DeliveryError,
        wakes: &mut WakeList,
    ) {
        let behind = batch.behind(&error);
        if self.fail_unmarked(batch, error.clone(), wakes) {
            self.give_back_later(batch, error, behind);
            self.mark_resolved(batch.number, wakes);
        }
        // The broker may still carry this attempt out, whatever is known of earlier ones.
        self.failed_in_doubt |= batch.is_numbered();
        #[cfg(feature = "internals")]
        if planted!(RecyclesAtExpiry) {
            batch.overwrite();
        }
    }

    /// Fails a batch, of which who waits for a flush or a close does not hear yet. Returns whether
    /// it was not resolved before: then [`LaneHead::mark_resolved`] is to be called.
    pub(super) fn fail_unmarked(
        &mut self,
        batch: &mut Batch,
        error: DeliveryError,
        wakes: &mut WakeList,
    ) -> bool {
        if batch.is_numbered() && !planted!(ReusesSequenceAfterExpiry) {
            self.sequencer.want_bump();
        }
        #[cfg(feature = "internals")]
        if batch.is_numbered() && planted!(ReusesSequenceAfterExpiry) {
            self.sequencer.begin_again_at(batch.base_sequence());
        }
        if !batch.fail(error.clone(), wakes) {
            return false;
        }
        let waiting = batch.fail_waiting_pieces(&error, wakes);
        self.count_failed(batch.records() + waiting);
        true
    }

    pub(super) fn mark_resolved(&mut self, number: u64, wakes: &mut WakeList) {
        if self.window.mark(number) && self.tail.set_resolved(self.window.below()) {
            wakes.wake_flushers();
        }
    }

    /// Fails the sealed batches and retries that have passed their deadline, and returns how many.
    /// The caller has sealed the open batch if that is due; this does not look at it.
    pub fn expire(&mut self, now: u64, cause: &DeliveryErrorCause, wakes: &mut WakeList) -> usize {
        let mut expired = 0;
        while self.retries.iter().any(|batch| batch.deadline <= now) {
            let position = self.retries.iter().position(|batch| batch.deadline <= now);
            if let Some(batch) = position.and_then(|index| self.retries.remove(index)) {
                self.fail_waiting(batch, cause, wakes);
                expired += 1;
            }
        }
        while self.tail.sealed_deadline().is_some_and(|deadline| deadline <= now) {
            if let Some(batch) = self.tail.pop_sealed() {
                self.fail_waiting(batch, cause, wakes);
                expired += 1;
            }
        }
        expired
    }

    /// Fails all sealed batches and retries, whatever their deadlines.
    pub fn fail_all(&mut self, cause: &DeliveryErrorCause, wakes: &mut WakeList) -> usize {
        self.expire(u64::MAX, cause, wakes)
    }

    /// Charges the sealed batches and retries to another account.
    pub fn charge_to(&mut self, account: AccountId) {
        self.retries.iter_mut().for_each(|batch| batch.charge_to(account));
        self.tail.charge_sealed_to(account);
    }

    /// The earliest deadline of what waits here, sealed or not.
    pub fn next_deadline(&self) -> Option<u64> {
        let delivery_timeout = self.tail.settings.delivery_timeout;
        let retry = self.retries.iter().map(|batch| batch.deadline).min();
        let sealed = self.tail.sealed_deadline();
        let open = self.tail.open_since().map(|since| since.saturating_add(delivery_timeout));
        [retry, sealed, open].into_iter().flatten().min()
    }

    /// Forgets where its sequences are.
    #[cfg(feature = "internals")]
    pub fn forget_sequences(&mut self) {
        self.sequencer.begin_again_at(0);
    }

    /// Whether nothing waits and nothing is in flight.
    #[cfg(feature = "internals")]
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.has_sealed() && self.tail.open_since().is_none()
    }
}

impl Drop for LaneHead {
    /// The head is the last that can resolve its batches: what is still in it fails here, as when a
    /// loop unwinds.
    fn drop(&mut self) {
        let mut wakes = WakeList::default();
        self.tail.end();
        self.fail_all(&DeliveryErrorCause::LoopPanicked, &mut wakes);
        // Batches in flight fail when their requests are dropped, which no flush needs to wait for.
        self.tail.set_resolved(u64::MAX);
        wakes.wake_all();
    }
}
