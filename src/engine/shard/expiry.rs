//! Deadlines: every delivery resolves within `delivery_timeout`, whatever state its lane is in.

use std::collections::HashMap;
use std::time::Duration;

use super::broker::Broker;
use super::shard::Shard;
use super::timers::TimerKind;
use crate::engine::batch::LaneId;
use crate::engine::connection::Connection;
use crate::engine::protocol::BrokerId;
use crate::error::DeliveryErrorCause;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// Expired batches are a warning so often, in nanoseconds.
const EXPIRY_WARNING_INTERVAL: u64 = 10_000_000_000;

/// When each lane's next deadline in flight is.
pub(super) type InFlightDeadlines = HashMap<LaneId, u64>;

impl Shard {
    /// Sets the lane's timer for its earliest deadline, unless one is set.
    pub(super) fn arm_expiry(&mut self, id: LaneId) {
        let Some(entry) = self.lane_mut(id) else { return };
        if entry.expiry_armed {
            return;
        }
        if let Some(deadline) = entry.head.next_deadline() {
            entry.expiry_armed = true;
            self.set_timer(deadline, TimerKind::Expiry, id);
        }
    }

    /// Fails what has passed its deadline, waiting or in flight, and sets the next timer. What is
    /// in flight is walked through once a turn, however many lanes are due: nothing is sent
    /// meanwhile.
    pub(super) fn expire(&mut self, now: u64, id: LaneId, walked: &mut Option<InFlightDeadlines>) {
        let Some(entry) = self.lane_mut(id) else { return };
        entry.expiry_armed = false;
        let lane = entry.head.tail.clone();
        let timeout = lane.settings.delivery_timeout;
        let in_flight = entry.head.in_flight() > 0;
        let leader = entry.head.leader.map(|leader| leader.broker);
        if lane.open_since().is_some_and(|since| since.saturating_add(timeout) <= now) {
            // If a sender holds the lane it seals and posts, and the lane is examined again.
            lane.try_seal();
        }
        let cause = DeliveryErrorCause::TimedOut {
            after: Duration::from_nanos(timeout),
            last: self.what_stood_in_the_way(leader, lane.settings.idempotent),
        };
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            let expired = entry.head.expire(now, &cause, &mut self.wakes);
            if expired > 0 {
                let batches = if expired == 1 { "batch" } else { "batches" };
                // The same happens to every lane of a broker that is away: one warning is enough.
                let last = self.expiry_warned_at.unwrap_or(0);
                let is_due = last == 0 || last.saturating_add(EXPIRY_WARNING_INTERVAL) <= now;
                if is_due {
                    self.expiry_warned_at = Some(now);
                }
                let level = if is_due { log::Level::Warn } else { log::Level::Debug };
                let (topic, partition) = (&lane.topic, lane.partition);
                log::log!(level, "{topic}-{partition}: {expired} {batches} failed: {cause}");
            }
        }
        let mut next_in_flight = None;
        if in_flight && !planted!(InFlightNeverExpires) {
            let walked = walked.get_or_insert_with(|| self.expire_in_flight(now));
            next_in_flight = walked.get(&id).copied();
        }
        let Some(entry) = self.lane_mut(id) else { return };
        let next = [entry.head.next_deadline(), next_in_flight].into_iter().flatten().min();
        if let Some(deadline) = next {
            entry.expiry_armed = true;
            // A sender may hold the batch that is due: it seals and posts, or the timer repeats.
            let deadline = deadline.max(now + 1_000_000);
            self.set_timer(deadline, TimerKind::Expiry, id);
        }
        self.examine(now, id);
    }

    /// A close fails a lane's records: the cause, with what stood in the lane's way.
    pub(super) fn completed(&self, cause: &DeliveryErrorCause, id: LaneId) -> DeliveryErrorCause {
        match (cause, self.lanes.get(id.0 as usize)) {
            (DeliveryErrorCause::Closed { last: None }, Some(Some(entry))) => {
                let leader = entry.head.leader.map(|leader| leader.broker);
                let wants_identity = entry.head.tail.settings.idempotent;
                DeliveryErrorCause::Closed {
                    last: self.what_stood_in_the_way(leader, wants_identity),
                }
            }
            _ => cause.clone(),
        }
    }

    fn what_stood_in_the_way(
        &self,
        leader: Option<BrokerId>,
        wants_identity: bool,
    ) -> Option<Problem> {
        let broker = leader.and_then(|id| self.broker_index(id)).map(|index| &self.brokers[index]);
        match broker {
            Some(broker) => {
                let needs_one = !broker.format().is_message_set();
                let missing = || self.no_identity(wants_identity).filter(|_| needs_one);
                broker.last_problem.clone().or_else(missing).or_else(|| throttle_of(broker))
            }
            None => {
                let left_out = leader.and_then(|id| self.view.left_out.get(&id)).cloned();
                let problem = left_out.or_else(|| self.view.last_problem.clone());
                problem.or_else(|| {
                    let text = "the partition has no leader";
                    Some(Problem::new(ProblemKind::NoLeader, text))
                })
            }
        }
    }

    /// Why nothing could be numbered, if that is what stood in the way.
    fn no_identity(&self, wants_identity: bool) -> Option<Problem> {
        let wanted = wants_identity && self.config.idempotent && !self.view.without_identity;
        let missing = wanted && self.view.identity.is_none();
        let none = || Problem::new(ProblemKind::TimedOut, "no producer id yet");
        missing.then(|| self.view.last_problem.clone().unwrap_or_else(none))
    }

    /// Fails what is in flight past its deadline, of all lanes, and says for each lane when the
    /// next deadline is.
    fn expire_in_flight(&mut self, now: u64) -> InFlightDeadlines {
        let mut next = InFlightDeadlines::new();
        for index in 0..self.brokers.capacity() {
            let Some(broker) = self.brokers.get(index).map(|broker| broker.id) else { continue };
            let [without, with] =
                [false, true].map(|identity| self.what_stood_in_the_way(Some(broker), identity));
            self.fail_in_flight(index, now, |lane, _| {
                let after = Duration::from_nanos(lane.settings.delivery_timeout);
                let last = if lane.settings.idempotent { &with } else { &without };
                Some(DeliveryErrorCause::TimedOut { after, last: last.clone() })
            });
            let connection = self.brokers[index].connection_mut();
            for entry in connection.into_iter().flat_map(Connection::batches_mut) {
                if !entry.batch.is_resolved() {
                    let at = next.entry(entry.lane).or_insert(u64::MAX);
                    *at = entry.batch.deadline.min(*at);
                }
            }
        }
        next
    }
}

/// The pause that the broker asked for, if it has not ended.
fn throttle_of(broker: &Broker) -> Option<Problem> {
    let until = broker.connection().map_or(0, Connection::throttled_until);
    let (id, address) = (broker.id, &broker.address);
    let words = || format!("broker {id} at {address}: it asked for a pause, which a quota sets");
    (until > 0).then(|| Problem::new(ProblemKind::Throttled, words()))
}
