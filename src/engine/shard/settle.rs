//! What a response, a written acks=0 request or a lost connection means for each batch.

use super::answers::Answers;
use super::aside::is_unknown;
use super::broker::Connectivity;
use super::refused::answer_cause;
use super::request_limit::{LOSSES_MAX, LostRequest};
use super::shard::{Action, Shard, Token};
use super::verdict::{Verdict, verdict};
use crate::engine::batch::{ACKS_ALL, Batch, BatchState, LaneId, LaneTail, batch_error};
use crate::engine::cluster::{BrokerAddress, LeaderHint};
use crate::engine::connection::{Connection, InFlightBatch, Request};
use crate::engine::policy::{ExponentialRetry, RetryPolicy};
use crate::engine::protocol::{
    ErrorCode, PartitionResponse, ProduceResponse, TopicId, TopicRef, VERSION_TOPIC_IDS_MIN,
};
use crate::error::{Certainty, DeliveryErrorCause};
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// Lost connections that carried acks=0 are warned of so often for each broker, in nanoseconds.
const UNCONFIRMED_WARNING_INTERVAL: u64 = 10_000_000_000;

impl Shard {
    /// A Produce request was answered.
    pub(super) fn handle_produce(
        &mut self,
        now: u64,
        index: usize,
        mut request: Request,
        response: ProduceResponse,
    ) {
        self.brokers[index].request_limit.handle_answer(now, request.wire_len);
        self.count_response(now, index, &request, response.throttle_time_ms);
        let mut answers = Answers::new(&response, request.batches.len());
        let by_id = request.version >= VERSION_TOPIC_IDS_MIN;
        for (position, InFlightBatch { lane, topic_id, mut batch, .. }) in
            request.batches.drain(..).enumerate()
        {
            let named = self.lane_mut(lane).map(|entry| entry.head.tail.clone());
            // By the name or id that the request used: the topic's id may have changed since.
            let answer = named.as_ref().and_then(|named| {
                let topic =
                    if by_id { TopicRef::Id(topic_id) } else { TopicRef::Name(&named.topic) };
                answers.find(position, topic, named.partition)
            });
            match answer {
                Some(answer) => {
                    self.hint(lane, topic_id, answer, &response);
                    self.settle(now, lane, batch, answer);
                }
                None if planted!(DropsOmittedPartition) => {}
                None => {
                    let text = "the broker's response left the partition out";
                    let problem = Problem::new(ProblemKind::Protocol, text);
                    self.back_off(now, lane, &mut batch.state);
                    self.retry(now, lane, batch, &problem, true);
                }
            }
        }
        drop(answers);
        if let Some(connection) = self.brokers[index].connection_mut() {
            connection.recycle(request);
            connection.recycle_response(response);
        }
    }

    /// Whether the lane's records are acknowledged once all replicas in sync have them.
    fn waits_for_followers(&mut self, id: LaneId) -> bool {
        let lane = self.lane_mut(id);
        let by_all = lane.is_some_and(|lane| lane.head.tail.settings.acks == ACKS_ALL);
        by_all && !planted!(DeposedLeaderWroteNothing)
    }

    fn settle(&mut self, now: u64, id: LaneId, mut batch: Box<Batch>, answer: &PartitionResponse) {
        batch.state.losses = 0;
        let in_log = self.lane_mut(id).is_some_and(|entry| entry.head.is_in_log(&batch));
        match verdict(answer.error) {
            // The leader refused the batch, but its log is known to have it: its deliveries resolve
            // as written.
            refusal if in_log && refusal.ends_batch() => {
                if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
                    entry.head.settle_in_log(batch, &mut self.wakes);
                }
                self.after_settling(now, id);
            }
            Verdict::Written => {
                let offset = Some(answer.base_offset).filter(|&offset| offset >= 0);
                let append_time = Some(answer.log_append_time_ms).filter(|&time| time >= 0);
                self.acked(now, id, batch, offset, append_time);
            }
            Verdict::Duplicate => self.acked(now, id, batch, None, None),
            Verdict::WrongLeader { written } => {
                // A leader that is deposed while it waits for its followers answers the same, and
                // the followers may have the batch.
                let by_followers = self.waits_for_followers(id);
                if written || by_followers {
                    batch.note_written();
                }
                if is_unknown(answer.error) {
                    self.note_unknown(id);
                } else {
                    self.actions.push_back(Action::RefreshMetadata);
                }
                self.retry_after_error(now, id, batch, answer.error);
                self.set_aside(id);
            }
            Verdict::Retry { written } => {
                if written {
                    batch.note_written();
                }
                // The broker waited for its followers before it answered, and may do so the next
                // time: such a batch holds up the whole request. One that is refused at once does
                // not.
                if written && let Some(entry) = self.lane_mut(id) {
                    entry.head.suspect = true;
                }
                self.retry_after_error(now, id, batch, answer.error);
            }
            Verdict::Corrupt => self.settle_corrupt(now, id, batch, answer),
            Verdict::OutOfOrder => {
                let Some(entry) = self.lane_mut(id) else { return };
                if entry.head.is_past_asking(&batch) {
                    return self.failed(now, id, batch, answer_cause(answer));
                }
                entry.head.note_out_of_order(&mut batch);
                self.retry_after_error(now, id, batch, answer.error);
            }
            Verdict::UnknownProducer => self.settle_unknown_producer(now, id, batch, answer),
            Verdict::StaleEpoch => {
                let cause = answer_cause(answer);
                self.bump_or_fail(now, id, batch, answer.error, cause);
            }
            Verdict::OldMessageFormat => self.settle_old_format(now, id, batch, answer),
            Verdict::TooLarge => self.settle_too_large(now, id, batch, answer),
            Verdict::Fail { written } => {
                if written {
                    batch.note_written();
                }
                self.settle_refused_for_good(now, id, batch, answer);
            }
        }
    }

    fn acked(
        &mut self,
        now: u64,
        id: LaneId,
        batch: Box<Batch>,
        offset: Option<i64>,
        append_time: Option<i64>,
    ) {
        let broker = batch.state.broker;
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            entry.head.settle_acked(now, batch, (offset, append_time), &mut self.wakes);
            self.take_back(id);
        }
        if self.lane_mut(id).is_some_and(|entry| entry.under_min_isr.is_some()) {
            self.end_under_min_isr(now, id, broker);
        }
        self.after_settling(now, id);
    }

    pub(super) fn failed(
        &mut self,
        now: u64,
        id: LaneId,
        batch: Box<Batch>,
        cause: DeliveryErrorCause,
    ) {
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            let error = batch_error(&entry.head.tail, &batch, cause, batch.certainty());
            entry.head.settle_failed(batch, error, &mut self.wakes);
        }
        self.after_settling(now, id);
    }

    /// The broker refused the batch: the shard sends it again after a backoff of its lane, or fails
    /// it if no attempt is left.
    pub(super) fn retry_after_error(
        &mut self,
        now: u64,
        id: LaneId,
        mut batch: Box<Batch>,
        code: ErrorCode,
    ) {
        if batch.state.attempts > self.config.retries {
            let cause = DeliveryErrorCause::Broker { code, message: None };
            return self.failed(now, id, batch, cause);
        }
        batch.state.last_problem = Some(code.into());
        match batch.state.broker {
            Some(broker) if code == ErrorCode::NOT_ENOUGH_REPLICAS && self.config.tries_for_all => {
                let wait = self.wait_for_followers(now, id, broker);
                self.hold_back(now, id, wait);
            }
            _ => self.back_off(now, id, &mut batch.state),
        }
        if let Some(entry) = self.lane_mut(id) {
            let (lane, attempts) = (&entry.head.tail, batch.state.attempts);
            log::debug!("{}-{}: {code} (attempt {attempts})", lane.topic, lane.partition);
            entry.head.settle_refused(batch);
        }
        self.after_settling(now, id);
    }

    /// Holds a lane back after an attempt failed, longer with each failure of the batch.
    pub(super) fn back_off(&mut self, now: u64, id: LaneId, state: &mut BatchState) {
        let wait = self.retry_backoff(state.waits);
        state.waits += 1;
        if let Some(entry) = self.lane_mut(id) {
            entry.under_min_isr = None;
        }
        self.hold_back(now, id, wait);
    }

    /// Sets the lane's backoff, unless the attempts in flight went to an earlier leader: the
    /// present one has refused nothing, and gets the batch as soon as they have settled.
    fn hold_back(&mut self, now: u64, id: LaneId, wait: u64) {
        if let Some(entry) = self.lane_mut(id)
            && !entry.head.is_settling()
        {
            let until = now.saturating_add(wait);
            entry.head.backoff_until = entry.head.backoff_until.max(until);
        }
    }

    /// Asks the retry policy for a wait, in nanoseconds. It may be the user's, whose panic must not
    /// end the loop.
    pub(super) fn retry_backoff(&mut self, waits: u32) -> u64 {
        let random = self.random.draw();
        let inside = user_code::enter();
        let asked = user_code::call(|| self.retry_policy.backoff(waits, random));
        drop(inside);
        let wait = asked.unwrap_or_else(|_| {
            log::error!("the retry policy panicked: the default one is used");
            ExponentialRetry::default().backoff(waits, random)
        });
        u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The attempt was not answered, or not even written: the shard sends the batch again. This
    /// sets no backoff: after a lost connection the wait for the next one is enough. A broker that
    /// answers and leaves the partition out is another matter, and its caller sets one before. With
    /// `written`, the log may have the batch from now on.
    fn retry(
        &mut self,
        now: u64,
        id: LaneId,
        mut batch: Box<Batch>,
        problem: &Problem,
        written: bool,
    ) {
        if written {
            batch.note_written();
        }
        if batch.state.attempts > self.config.retries {
            let cause = DeliveryErrorCause::Disconnected(problem.clone());
            return self.failed(now, id, batch, cause);
        }
        batch.state.last_problem = Some(problem.clone());
        if let Some(entry) = self.lane_mut(id) {
            entry.head.settle_for_retry(batch);
        }
        self.after_settling(now, id);
    }

    pub(super) fn after_settling(&mut self, now: u64, id: LaneId) {
        self.start_over_if_settled(id);
        if !self.leave_if_settled(id) {
            self.examine(now, id);
            self.drop_given_up(id);
        }
    }

    /// Passes on the new leader, if the response names it (KIP-951).
    fn hint(
        &mut self,
        id: LaneId,
        topic_id: TopicId,
        answer: &PartitionResponse,
        response: &ProduceResponse,
    ) {
        let Some((leader, epoch)) = answer.current_leader else { return };
        if !matches!(verdict(answer.error), Verdict::WrongLeader { .. }) {
            return;
        }
        let Some(entry) = self.lane_mut(id) else { return };
        let address = response
            .node_endpoints
            .iter()
            .find(|endpoint| endpoint.id == leader && endpoint.port != 0)
            .map(|endpoint| BrokerAddress {
                host: endpoint.host.as_str().into(),
                port: endpoint.port,
            });
        let lane = &entry.head.tail;
        let (topic, partition) = (lane.topic.clone(), lane.partition);
        let hint = LeaderHint { topic, topic_id, partition, leader, epoch, address };
        self.actions.push_back(Action::Hint(hint));
    }

    /// An acks=0 request was wholly written, and its deliveries wait for no more.
    pub(super) fn settle_written(&mut self, now: u64, index: usize, mut request: Request) {
        // acks=0 brings no answers, so a full write counts as an answer. Without it, the limit that
        // losses set would never be lifted, and requests would go one at a time for ever.
        self.brokers[index].request_limit.handle_answer(now, request.wire_len);
        for InFlightBatch { lane, batch, .. } in request.batches.drain(..) {
            self.acked(now, lane, batch, None, None);
        }
        self.count_in_flight(index);
        if let Some(connection) = self.brokers[index].connection_mut() {
            connection.recycle(request);
        }
    }

    /// The shard gives a connection up; the driver closes the socket.
    pub(super) fn close(&mut self, now: u64, index: usize, problem: &Problem) {
        let generation = self.brokers[index].generation;
        let token = Token { broker: index, generation };
        self.actions.push_back(Action::Close { token, problem: problem.clone() });
        self.disconnect(now, index, problem);
    }

    /// A connection is gone: settles every attempt in flight on it, and says when to connect again.
    /// That is at once only if the connection was of use: a peer that completes each handshake and
    /// then closes would be connected to in a tight loop.
    pub(super) fn disconnect(&mut self, now: u64, index: usize, problem: &Problem) {
        let random = self.random.draw();
        let broker = &mut self.brokers[index];
        // False during the handshake. So the loss of a connection that was not ready asks for
        // metadata: the broker may have moved, and another process may have its address now.
        let was_idle = broker.connection().is_some_and(Connection::is_idle);
        let idle_max = self.config.idle_max;
        let unconfirmed = broker.connection().and_then(|connection| {
            let is_idle_for_long = connection.idle_at(idle_max) <= now;
            Some(connection.unconfirmed()).filter(|sent| sent.is_any() && !is_idle_for_long)
        });
        let backoff = &self.config.reconnect_backoff;
        let was_useful = broker.connection().is_some_and(|connection| {
            connection.has_answered() || connection.unconfirmed().has_lasted(now, backoff.longest)
        });
        let wait = if was_useful {
            broker.waits.reset();
            // With acks=0 the broker may have closed because it no longer leads, and would lose the
            // next records too: wait until metadata can say so.
            if unconfirmed.is_some() { backoff.first } else { 0 }
        } else {
            broker.waits.fail(now, backoff)
        };
        let wait = backoff.vary(wait, random);
        let problem = problem.at(format_args!("broker {} at {}", broker.id, broker.address));
        let old = std::mem::replace(
            &mut broker.connectivity,
            Connectivity::Down { retry_at: now.saturating_add(wait) },
        );
        // The driver's reports about the old connection must not pass for reports about the next.
        broker.generation += 1;
        broker.is_left = false;
        self.take_next_address(now, index);
        // Each failure asks: until the cluster has elected other leaders, answers name the old
        // ones. And a broker can refuse requests with acks=0 only by closing, as one does that has
        // ceased to lead.
        if !was_idle || unconfirmed.is_some() {
            self.actions.push_back(Action::RefreshMetadata);
        }
        if let Some(unconfirmed) = unconfirmed {
            self.lose_unconfirmed(now, index, &problem, unconfirmed.recent(now));
        }
        self.tell_of_loss(now, index, &problem, was_idle);
        self.count_loss_of_connection(now, index, (!was_idle).then_some(&problem));
        let Connectivity::Up(connection) = old else { return };
        for (position, mut request) in connection.into_unsettled().enumerate() {
            let mut problem = problem.clone();
            if position == 0
                && let Some(lost) = self.count_loss(now, index, &mut request)
            {
                problem = problem.in_words(format_args!("{problem}; {lost}"));
            }
            // A broker reads a request whole before it acts on it. One that the kernel did not take
            // whole was not carried out.
            let written = request.is_written() && !planted!(DisconnectWroteNothing);
            for InFlightBatch { lane, batch, .. } in request.batches.drain(..) {
                self.retry(now, lane, batch, &problem, written);
            }
        }
    }

    /// A broker that stays down is tried several times a second: only the first failure is a
    /// warning.
    fn tell_of_loss(&mut self, now: u64, index: usize, problem: &Problem, was_idle: bool) {
        let broker = &mut self.brokers[index];
        if was_idle {
            log::debug!("connection closed: {problem}");
        } else if broker.waits.failures() > 1 {
            log::debug!("not connected: {problem}");
        } else {
            log::warn!("not connected: {problem}");
            broker.outage_since.get_or_insert(now);
        }
    }

    /// A connection that carried acks=0 is lost. The deliveries have resolved long ago, so a
    /// warning is all that tells the user.
    fn lose_unconfirmed(&mut self, now: u64, index: usize, problem: &Problem, records: u64) {
        let broker = &mut self.brokers[index];
        broker.unconfirmed_lost += records;
        let last = broker.unconfirmed_warned_at;
        let is_due = last.is_none_or(|at| at.saturating_add(UNCONFIRMED_WARNING_INTERVAL) <= now);
        if is_due && broker.unconfirmed_lost > 0 {
            let lost = std::mem::take(&mut broker.unconfirmed_lost);
            broker.unconfirmed_warned_at = Some(now);
            log::warn!(
                "records sent with acks=0 may be lost: {problem}; {lost} were written to it within \
                 half a minute before, and nothing tells which of them it took"
            );
        }
    }

    /// The connection was lost while `request` was the next that the broker was to answer. Counts
    /// that for its batches, and returns what to tell once it has happened [`LOSSES_MAX`] times.
    fn count_loss(&mut self, now: u64, index: usize, request: &mut Request) -> Option<LostRequest> {
        if request.written() == 0 {
            return None;
        }
        let batches = request.batches.iter_mut();
        let losses = batches.map(|InFlightBatch { batch, .. }| {
            batch.state.losses += 1;
            batch.state.losses
        });
        let losses = losses.max().filter(|&losses| losses >= LOSSES_MAX)?;
        let (len, batches) = (request.wire_len, request.batches.len());
        let broker = &mut self.brokers[index];
        if batches > 1 {
            broker.request_limit.handle_loss(now, len);
        }
        let lost = LostRequest { losses, len };
        log::warn!("broker {} at {}: {lost}", broker.id, broker.address);
        Some(lost)
    }

    /// Fails batches in flight whose deadline is not after `now` (`u64::MAX`: all), of the lanes
    /// for which there is a cause. The request keeps the memory, because the rest of it may still
    /// be written: if the segments went back now, another batch's bytes would go out under this
    /// batch's header.
    pub(super) fn fail_in_flight(
        &mut self,
        index: usize,
        now: u64,
        cause: impl Fn(&LaneTail, &Batch) -> Option<DeliveryErrorCause>,
    ) {
        let Some(connection) = self.brokers.get_mut(index).and_then(|b| b.connection_mut()) else {
            return;
        };
        for InFlightBatch { lane, batch, .. } in connection.batches_mut() {
            if batch.deadline > now || batch.is_resolved() {
                continue;
            }
            if let Some(Some(entry)) = self.lanes.get_mut(lane.0 as usize) {
                let head = &mut entry.head;
                let Some(cause) = cause(&head.tail, batch) else { continue };
                let error = batch_error(&head.tail, batch, cause, Certainty::Unknown);
                head.fail_in_flight(batch, error, &mut self.wakes);
            }
        }
    }
}
