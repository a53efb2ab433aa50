//! Why records wait: what a shard answers to who asks, and what it tells of itself unasked.
//!
//! Nothing is kept for this but the connection's state, which changes seldom. The rest is computed
//! when somebody asks, out of what the shard goes by anyway.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::broker::{Broker, Connectivity};
use super::shard::{LaneEntry, Shard};
use crate::engine::batch::{Batch, BatchStanding, Drainable, LaneId};
use crate::engine::connection::{Connection, Request};
use crate::engine::event::Event;
use crate::engine::meter::{BrokerStanding, ConnectionState, WaitsFor};
use crate::engine::protocol::{BrokerId, PartitionId};
use crate::engine::sync::CellId;
use crate::problem::Problem;

/// A question to a shard. It answers through `answer`, unless it ends before.
pub struct Question {
    /// What is asked about.
    pub about: About,
    /// Where the answer goes.
    pub answer: Sender<Answer>,
}

/// What a shard is asked about.
#[derive(Clone, Copy, Debug)]
pub enum About {
    /// The batch of this lane that has this cell.
    Record(LaneId, CellId),
    /// Every lane with records that have not resolved: so many of them at the most.
    Lanes(usize),
}

/// What a shard says.
#[derive(Debug, Default)]
pub struct Answer {
    /// The lanes. None, where the lane that was asked about is not here.
    pub lanes: Vec<LaneStanding>,
    /// Lanes besides those.
    pub more: usize,
}

/// How a lane stands.
#[derive(Debug)]
pub struct LaneStanding {
    /// The topic's name.
    pub topic: std::sync::Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it.
    pub leader: Option<BrokerId>,
    /// Batches that wait, the open one included.
    pub waiting: usize,
    /// Batches in flight.
    pub in_flight: u32,
    /// The batch that was asked about, or the oldest: `None` where it has just resolved.
    pub batch: Option<BatchStanding>,
    /// What that batch waits for.
    pub waits_for: WaitsFor,
}

/// The oldest batch in flight of each lane, with its request and its broker.
type InFlight<'a> = HashMap<LaneId, (BrokerId, &'a Request, &'a Batch)>;

/// Where a batch is.
enum Place<'a> {
    InFlight(BrokerId, &'a Request),
    Waiting { is_open: bool },
}

impl Shard {
    /// Somebody asks why records wait.
    pub(super) fn explain(&self, now: u64, question: &Question) {
        let mut answer = Answer::default();
        match question.about {
            About::Record(id, cell) => {
                let entry = self.lanes.get(id.0 as usize).and_then(Option::as_ref);
                let in_flight = self.in_flight(|lane, batch| lane == id && batch.has_cell(cell));
                answer.lanes.extend(
                    entry.map(|entry| self.standing_of(now, entry, Some(cell), &in_flight)),
                );
            }
            About::Lanes(limit) => {
                let in_flight = self.in_flight(|_, batch| !batch.is_resolved());
                let busy =
                    |entry: &&LaneEntry| entry.head.has_records() || entry.head.in_flight() > 0;
                let mut busy = self.lanes.iter().flatten().filter(busy);
                let shown = busy.by_ref().take(limit);
                answer
                    .lanes
                    .extend(shown.map(|entry| self.standing_of(now, entry, None, &in_flight)));
                answer.more = busy.count();
            }
        }
        // Who asked may have given up waiting.
        let _ = question.answer.send(answer);
    }

    fn standing_of(
        &self,
        now: u64,
        entry: &LaneEntry,
        cell: Option<CellId>,
        in_flight: &InFlight<'_>,
    ) -> LaneStanding {
        let head = &entry.head;
        let in_flight = in_flight.get(&head.tail.id);
        // A batch that is asked about and in flight does not wait.
        let waiting = match (cell, in_flight) {
            (Some(_), Some(_)) => None,
            _ => head.standing_of_waiting(cell),
        };
        let (place, batch) = match (in_flight, waiting) {
            (Some((.., flying)), Some((waiting, is_open))) if waiting.number < flying.number => {
                (Place::Waiting { is_open }, Some(waiting))
            }
            (Some(&(broker, request, flying)), _) => {
                let mut batch = flying.standing();
                // What was written, in part even, may be in the log before the answer is here.
                batch.in_doubt |= request.written() > 0;
                (Place::InFlight(broker, request), Some(batch))
            }
            (None, Some((waiting, is_open))) => (Place::Waiting { is_open }, Some(waiting)),
            (None, None) => (Place::Waiting { is_open: false }, None),
        };
        let waits_for = match place {
            Place::InFlight(broker, request) => WaitsFor::Answer {
                broker: broker.0,
                since: Duration::from_nanos(now.saturating_sub(request.sent_at)),
                is_written: request.is_written(),
            },
            Place::Waiting { is_open } => self.what_holds_back(now, entry, is_open),
        };
        LaneStanding {
            topic: head.tail.topic.clone(),
            partition: head.tail.partition,
            leader: head.leader.map(|leader| leader.broker),
            waiting: head.waiting_batches(),
            in_flight: head.in_flight(),
            batch,
            waits_for,
        }
    }

    /// The oldest batch in flight of each lane, among those that `is_it`. One walk through all that
    /// is in flight, however many lanes are asked about.
    fn in_flight(&self, is_it: impl Fn(LaneId, &Batch) -> bool) -> InFlight<'_> {
        let mut oldest = InFlight::new();
        for (_, broker) in &self.brokers {
            for request in broker.connection().into_iter().flat_map(Connection::requests) {
                for entry in &request.batches {
                    let is_older =
                        |known: &(BrokerId, &Request, &Batch)| known.2.number > entry.batch.number;
                    if is_it(entry.lane, &entry.batch)
                        && oldest.get(&entry.lane).is_none_or(is_older)
                    {
                        oldest.insert(entry.lane, (broker.id, request, &*entry.batch));
                    }
                }
            }
        }
        oldest
    }

    /// What stands between a batch that waits in the lane and the next request. In the order in
    /// which [`Shard::examine`] and [`Shard::pump`] look.
    fn what_holds_back(&self, now: u64, entry: &LaneEntry, is_open: bool) -> WaitsFor {
        let head = &entry.head;
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(now));
        let Some(leader) = head.leader else { return WaitsFor::Leader };
        if head.moving_to.is_some() || head.is_settling() {
            return WaitsFor::EarlierAttempts { in_flight: head.in_flight() };
        }
        if head.backoff_until > now {
            let problem = head.last_problem().cloned();
            return WaitsFor::Backoff { left: left(head.backoff_until), problem };
        }
        let Some(index) = self.broker_index(leader.broker) else {
            return self.without_place(leader.broker);
        };
        let broker = &self.brokers[index];
        let is_ready = broker.connection().is_some_and(Connection::is_ready);
        if !is_ready && broker.last_problem.is_some() {
            return self.connection_to(now, broker);
        }
        let rules = self.drain_rules(now, head.tail.id, Some(index));
        if head.drainable(now, rules) == Drainable::NeedsIdentity {
            return WaitsFor::ProducerId { problem: self.view.last_problem.clone() };
        }
        let Some(connection) = broker.connection().filter(|it| it.is_ready() && !it.logs_in())
        else {
            return self.connection_to(now, broker);
        };
        if connection.throttled_until() > now {
            let left = left(connection.throttled_until());
            return WaitsFor::Throttle { broker: broker.id.0, left };
        }
        let lingers_until =
            head.tail.open_since().map(|at| at.saturating_add(head.tail.settings.linger));
        if is_open && let Some(until) = lingers_until.filter(|&until| until > now) {
            return WaitsFor::Linger { left: left(until) };
        }
        WaitsFor::Turn {
            broker: broker.id.0,
            requests_in_flight: connection.in_flight(),
            batches_in_flight: head.in_flight(),
        }
    }

    /// The leader is none of this shard's brokers: there was no place for it, or the lane is on its
    /// way to the shard that has it.
    fn without_place(&self, broker: BrokerId) -> WaitsFor {
        let address = self.view.snapshot.brokers.get(&broker);
        WaitsFor::Connection {
            broker: broker.0,
            address: address.map(ToString::to_string).unwrap_or_default(),
            state: ConnectionState::Down,
            failures: 0,
            next_attempt: None,
            problem: self.view.left_out.get(&broker).cloned(),
        }
    }

    fn connection_to(&self, now: u64, broker: &Broker) -> WaitsFor {
        let standing = standing_of(broker);
        let is_down = standing.state == ConnectionState::Down;
        WaitsFor::Connection {
            broker: broker.id.0,
            address: standing.address,
            state: standing.state,
            failures: standing.failures,
            next_attempt: is_down
                .then(|| Duration::from_nanos(standing.retry_at.saturating_sub(now))),
            problem: standing.problem,
        }
    }

    /// The connection to a broker has changed: says so where everybody can read it.
    pub(super) fn tell_standing(&self, now: u64, index: usize) {
        if let Some(broker) = self.brokers.get(index) {
            broker.meter.set_standing(now, standing_of(broker));
        }
    }

    /// A broker that is down is looked at: if its lanes have left for another one, it is nobody's
    /// trouble any more, and says so once.
    pub(super) fn tell_unwanted(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        if broker.told_wanted && !broker.is_wanted() {
            broker.told_wanted = false;
            self.tell_standing(now, index);
        }
    }

    /// A request is about to be sent.
    pub(super) fn count_request(&self, now: u64, index: usize, request: &Request) {
        let meter = &self.brokers[index].meter;
        let mut records = 0;
        for entry in &request.batches {
            let in_batch = u64::from(entry.batch.records());
            records += in_batch;
            meter.batch_records.record(in_batch);
            meter.batch_bytes.record(entry.wire_len as u64);
            if entry.batch.state.attempts == 1 {
                let lane = self.lanes.get(entry.lane.0 as usize).and_then(Option::as_ref);
                let timeout = lane.map_or(0, |lane| lane.head.tail.settings.delivery_timeout);
                let opened_at = entry.batch.deadline.saturating_sub(timeout);
                meter.queue_time_us.record(now.saturating_sub(opened_at) / 1_000);
            }
        }
        meter.requests.add(1);
        meter.request_bytes.add(request.wire_len as u64);
        meter.request_records.add(records);
    }

    /// A request was answered.
    pub(super) fn count_response(&self, now: u64, index: usize, request: &Request, pause_ms: i32) {
        let meter = &self.brokers[index].meter;
        meter.responses.add(1);
        meter.request_latency_us.record(now.saturating_sub(request.sent_at) / 1_000);
        self.count_in_flight(index);
        if pause_ms > 0 {
            meter.throttles.add(1);
            meter.throttle_ms.add(pause_ms as u64);
            let (broker, pause) = (meter.broker, Duration::from_millis(pause_ms as u64));
            self.events.publish(|| Event::Throttled { broker, pause });
            self.tell_standing(now, index);
        }
    }

    /// The connection is gone. One that was closed while idle had no problem: that is no reason why
    /// a record waits later on.
    pub(super) fn count_loss_of_connection(
        &mut self,
        now: u64,
        index: usize,
        problem: Option<&Problem>,
    ) {
        let broker = &mut self.brokers[index];
        broker.last_problem = problem.cloned();
        broker.meter.failures.add(u64::from(problem.is_some()));
        if let Some(problem) = problem {
            self.events.publish(|| Event::Disconnected {
                broker: broker.id.0,
                address: broker.address.to_string(),
                problem: problem.clone(),
            });
        }
        self.count_in_flight(index);
        self.tell_standing(now, index);
    }

    /// Something is in flight, or is not any more.
    pub(super) fn count_in_flight(&self, index: usize) {
        let broker = &self.brokers[index];
        broker.meter.in_flight.set(broker.connection().map_or(0, Connection::in_flight) as u64);
    }
}

fn standing_of(broker: &Broker) -> BrokerStanding {
    let (state, retry_at) = match &broker.connectivity {
        Connectivity::Down { retry_at } => (ConnectionState::Down, *retry_at),
        Connectivity::Connecting => (ConnectionState::Connecting, 0),
        Connectivity::Up(connection) if connection.logs_in() => (ConnectionState::LoggingIn, 0),
        Connectivity::Up(connection) if connection.is_ready() => (ConnectionState::Ready, 0),
        Connectivity::Up(_) => (ConnectionState::Handshaking, 0),
    };
    BrokerStanding {
        address: broker.address.to_string(),
        state,
        since: 0,
        retry_at,
        failures: broker.waits.failures(),
        problem: broker.last_problem.clone(),
        is_wanted: broker.is_wanted(),
        throttled_until: broker.connection().map_or(0, Connection::throttled_until),
    }
}
