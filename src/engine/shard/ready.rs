//! Which lanes may be sent, and when a part-filled batch is sealed.

use std::cmp::Reverse;
use std::time::Duration;

use super::broker::{Connectivity, Queued};
use super::shard::{Action, Shard, Token};
use super::timers::TimerKind;
use super::view::Absence;
use crate::engine::batch::{Drainable, LaneId};
use crate::engine::connection::Connection;
use crate::engine::protocol::ErrorCode;
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

/// Lanes sealed per turn under pressure.
const PRESSURE_SEALS_MAX: usize = 64;

/// Lanes whose linger ends in one turn.
const LINGER_ENDS_MAX: usize = 1_024;

impl Shard {
    /// Looks at a lane after anything about it changed, and queues it where it can go on. A lane
    /// that was brought to another cluster by a view that this shard does not have yet is looked at
    /// again when the view arrives.
    pub(super) fn examine(&mut self, now: u64, id: LaneId) {
        self.arm_expiry(id);
        if self.fail_absent(id) {
            return;
        }
        let (identity, ordinal) = (self.view.identity, self.view.identity_ordinal);
        if self.fail_at_foreign_cluster(id) {
            return;
        }
        let Some(entry) = self.lane_mut(id).filter(|entry| !entry.in_full) else { return };
        let leader = entry.head.leader.and_then(|leader| self.broker_index(leader.broker));
        let rules = self.drain_rules(now, id, leader);
        let Some(entry) = self.lane_mut(id) else { return };
        let mut drainable = entry.head.drainable(now, rules);
        if drainable == Drainable::NeedsIdentity
            && let Some(identity) = identity
        {
            entry.head.offer_identity(identity, ordinal);
            drainable = entry.head.drainable(now, rules);
        }
        match drainable {
            Drainable::Now => {}
            Drainable::At(at) => {
                // One timer for each backoff: senders may post the lane many times meanwhile.
                if entry.backoff_armed != at {
                    entry.backoff_armed = at;
                    self.set_timer(at, TimerKind::Examine, id);
                }
                return;
            }
            Drainable::Later => return,
            Drainable::NeedsIdentity => {
                if let Some(used_up) = entry.head.used_up_identity() {
                    self.actions.push_back(Action::NewIdentity(used_up));
                }
                if let Some(cause) = self.view.identity_denied.clone() {
                    self.fail_denied(id, &cause);
                } else if let Some(index) = leader {
                    self.want_age(now, id, index);
                }
                return;
            }
        }
        let Some(index) = leader else { return };
        let cluster = self.brokers[index].cluster;
        let Some(entry) = self.lane_mut(id) else { return };
        if entry.head.cluster() != cluster {
            return;
        }
        if entry.head.has_sealed() {
            entry.in_full = true;
            let (suspect, queued) = (entry.head.suspect, entry.queued());
            self.brokers[index].add_sealed(queued, suspect);
        } else if let Some(since) = entry.head.tail.open_since() {
            let linger = entry.head.tail.settings.linger;
            if linger == 0 {
                if !entry.in_part_filled {
                    entry.in_part_filled = true;
                    let queued = entry.queued();
                    self.brokers[index].part_filled.push_back(queued);
                }
            } else if entry.lingers_for != Some(since) {
                entry.lingers_for = Some(since);
                self.brokers[index].add_lingering(since.saturating_add(linger), id);
            }
        } else {
            return;
        }
        self.want_connection(now, index);
    }

    /// A lane waits for an identity. If it has records its leader is connected already: it may be
    /// too old for an identity, which shows with the connection.
    fn want_age(&mut self, now: u64, id: LaneId, index: usize) {
        if !self.lane_mut(id).is_some_and(|entry| entry.head.has_records()) {
            return;
        }
        let broker = &mut self.brokers[index];
        broker.is_age_wanted = !broker.connection().is_some_and(Connection::is_ready);
        self.want_connection(now, index);
    }

    /// Another cluster answers, and the user has chosen not to go on there: fails what waits in the
    /// lane now. Returns whether it did.
    fn fail_at_foreign_cluster(&mut self, id: LaneId) -> bool {
        let Some(clusters) = self.view.changed_to.clone() else { return false };
        let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) else { return false };
        // A sender that holds the lane seals it, and posts.
        entry.head.tail.try_seal();
        let cause = DeliveryErrorCause::ClusterChanged { found: clusters.found };
        entry.head.fail_all(&cause, &mut self.wakes);
        true
    }

    /// The brokers deny the producer an id, without which nothing of the lane can be written: fails
    /// what waits now, with the broker's reason. The metadata machine asks for the id again, so
    /// later records may be sent.
    fn fail_denied(&mut self, id: LaneId, cause: &DeliveryErrorCause) {
        let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) else { return };
        // A sender that holds the lane seals it, and posts.
        entry.head.tail.try_seal();
        entry.head.fail_all(cause, &mut self.wakes);
    }

    /// Fails what waits in a lane whose partition does not exist. Returns whether that is so.
    fn fail_absent(&mut self, id: LaneId) -> bool {
        let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) else { return false };
        let Some(absence) = entry.absence else { return false };
        let cause = match absence {
            Absence::Topic => DeliveryErrorCause::UnknownTopic {
                after: Duration::from_nanos(
                    self.config.topic_unknown_max.min(entry.head.tail.settings.delivery_timeout),
                ),
                last: Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into()),
            },
            Absence::Partition(partitions) => {
                let partition = entry.head.tail.partition.0;
                let by_partitioner = false;
                DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner }
            }
        };
        // A sender that holds the lane seals it, and posts.
        entry.head.tail.try_seal();
        entry.head.fail_all(&cause, &mut self.wakes);
        true
    }

    /// Seals the open batches whose linger is over.
    pub(super) fn end_lingers(&mut self, now: u64) {
        let mut left = LINGER_ENDS_MAX;
        for index in 0..self.brokers.capacity() {
            while let Some(broker) = self.brokers.get_mut(index)
                && let Some(&Reverse((due, id))) = broker.lingering.peek()
                && due <= now
            {
                broker.lingering.pop();
                self.end_linger(now, due, id);
                left -= 1;
                if left == 0 {
                    return;
                }
            }
        }
    }

    fn end_linger(&mut self, now: u64, due: u64, id: LaneId) {
        let Some(entry) = self.lane_mut(id) else { return };
        let linger = entry.head.tail.settings.linger;
        entry.lingers_for = None;
        let since = entry.head.tail.open_since();
        if since.is_none_or(|since| since.saturating_add(linger) > due) {
            // The batch that lingered was sealed meanwhile, by a sender, who posted the lane. The
            // batch that is open now has a linger, and an entry, of its own.
            return;
        }
        // If a sender holds the lane's lock it seals the batch when it unlocks, and posts the lane.
        if entry.head.tail.try_seal() {
            self.examine(now, id);
        }
    }

    /// While a broker's memory is short, linger is ignored: its oldest lingering batches are
    /// sealed, a bounded number a turn. Returns whether some are left.
    pub(super) fn seal_under_pressure(&mut self, now: u64) -> bool {
        let mut left = PRESSURE_SEALS_MAX;
        for index in 0..self.brokers.capacity() {
            while let Some(broker) = self.brokers.get_mut(index)
                && broker.is_lingering_under_pressure(&self.pool)
                && let Some(Reverse((due, id))) = broker.lingering.pop()
            {
                self.end_linger(now, due, id);
                left -= 1;
                if left == 0 {
                    return self.is_under_pressure();
                }
            }
        }
        false
    }

    /// Whether a lingering batch would be sealed now because memory is short.
    pub fn is_under_pressure(&self) -> bool {
        self.brokers.iter().any(|(_, broker)| broker.is_lingering_under_pressure(&self.pool))
    }

    /// Asks the driver for a connection, if there is none and it is time.
    pub(super) fn want_connection(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        match broker.connectivity {
            Connectivity::Down { retry_at } if retry_at <= now => {}
            _ => return,
        }
        broker.connectivity = Connectivity::Connecting;
        broker.told_wanted = true;
        let token = Token { broker: index, generation: broker.generation };
        let (broker, address) = (broker.id, broker.address.clone());
        self.actions.push_back(Action::Connect { token, broker, address });
        self.tell_standing(now, index);
    }

    /// Times a broker's connection out, closes it when it is idle, and connects again.
    pub(super) fn check_broker(&mut self, now: u64, index: usize) {
        if self.brokers[index].leaving {
            self.leave_broker(now, index);
            if !self.brokers.contains(index) {
                return;
            }
        }
        let idle_max = self.config.idle_max;
        self.leave_old_address(now, index);
        if let Connectivity::Down { retry_at } = self.brokers[index].connectivity
            && retry_at <= now
        {
            self.forget_moved_lanes(index);
            self.tell_unwanted(now, index);
        }
        let broker = &mut self.brokers[index];
        let wanted = broker.is_wanted();
        match &mut broker.connectivity {
            Connectivity::Down { .. } if wanted => self.want_connection(now, index),
            Connectivity::Down { .. } | Connectivity::Connecting => {}
            Connectivity::Up(connection) => {
                let result = connection.handle_timeout(now);
                let idle = connection.has_nothing_to_do() && connection.idle_at(idle_max) <= now;
                if let Err(error) = result {
                    self.close(now, index, &error);
                } else if idle && !wanted {
                    self.close(now, index, &Problem::new(ProblemKind::Closed, "idle"));
                }
            }
        }
    }

    /// The machine was asleep for `span`, in nanoseconds, which `now` does not count. Closes
    /// connections that were idle for too long meanwhile, even if records wait for them by now:
    /// brokers and firewalls have dropped them. The deadlines of records do not move, since nobody
    /// could have answered during the sleep; requests in flight have the rest of their
    /// `request_timeout` for an answer.
    pub fn handle_suspended(&mut self, now: u64, span: u64) {
        for index in 0..self.brokers.capacity() {
            let Some(broker) = self.brokers.get_mut(index) else { continue };
            let Some(connection) = broker.connection_mut() else { continue };
            connection.handle_suspended(span);
            if connection.in_flight() == 0 && connection.idle_at(self.config.idle_max) <= now {
                let text = "idle while the machine was asleep";
                self.close(now, index, &Problem::new(ProblemKind::Closed, text));
            }
        }
    }

    /// Forgets lanes that no longer wait for a broker that is down. Otherwise it would count as
    /// wanted, and the shard would try to connect to it although no lane needs it.
    fn forget_moved_lanes(&mut self, index: usize) {
        let (broker, lanes) = (&mut self.brokers[index], &self.lanes);
        let waits = |queued: &Queued| {
            let entry = lanes.get(queued.lane.0 as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| entry.visit == queued.visit)
        };
        broker.full.retain(waits);
        broker.suspect.retain(waits);
        broker.part_filled.retain(waits);
        if broker.is_age_wanted {
            let id = broker.id;
            broker.is_age_wanted = lanes.iter().flatten().any(|entry| {
                let is_led = entry.head.leader.is_some_and(|leader| leader.broker == id);
                is_led && entry.head.has_records()
            });
        }
    }

    pub(super) fn broker_timeout(&self, broker: &super::broker::Broker) -> Option<u64> {
        match &broker.connectivity {
            Connectivity::Down { retry_at } => broker.is_wanted().then_some(*retry_at),
            Connectivity::Connecting => None,
            Connectivity::Up(connection) => {
                let idle = connection.idle_at(self.config.idle_max);
                let idle =
                    Some(idle).filter(|_| connection.has_nothing_to_do() && !broker.is_wanted());
                let throttled = Some(connection.throttled_until())
                    .filter(|&until| until > self.now && broker.is_wanted());
                let deadline = Connection::poll_timeout(connection);
                let unsent = connection.poll_unsent();
                [idle, throttled, deadline, unsent, broker.part_filled_at]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }
}
