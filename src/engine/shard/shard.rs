//! The shard's state, and its inputs and outputs.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::broker::{Broker, Queued};
use super::load::LoopLoad;
use super::port::{Control, ShardPort};
use super::timers::{Stay, TimerKind, Timers};
use super::under_min_isr::UnderMinIsr;
use super::view::{Absence, View};
use crate::config::ReconnectBackoff;
use crate::engine::batch::{DrainRules, LaneHead, LaneId, ShardId, Unsent};
use crate::engine::buffer::{BufferPool, ScratchSlot};
use crate::engine::cluster::{BrokerAddress, LeaderHint};
use crate::engine::connection::{Connection, ConnectionConfig, LoginTask, Request};
use crate::engine::event::EventHub;
use crate::engine::meter::Meters;
use crate::engine::policy::RetryPolicy;
use crate::engine::protocol::compression::Compressor;
use crate::engine::protocol::{BrokerId, ProducerIdentity};
use crate::engine::random::Random;
use crate::engine::sync::WakeList;
use crate::error::DeliveryErrorCause;
use crate::problem::Problem;

/// Posted lanes taken in one turn.
const LANES_PER_TURN: usize = 1_024;
/// Control messages taken in one turn.
const CONTROL_PER_TURN: usize = 64;

/// Settings of a shard. Times in nanoseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// The producer has an identity, which topics may do without
    /// ([`TopicSettings`](crate::engine::batch::TopicSettings)).
    pub idempotent: bool,
    /// Brokers that know no idempotence are not used.
    pub idempotence_required: bool,
    /// Requests in flight on a connection, and batches in flight of a lane.
    pub in_flight_max: usize,
    /// A lane without success for longer than this is proved again.
    pub producer_id_idle_max: u64,
    /// For how long brokers said that a topic does not exist before it is absent from the view.
    pub topic_unknown_max: u64,
    /// How long the broker may wait for its followers.
    pub request_timeout_ms: i32,
    /// Part-filled batches leave at least this long after the connection's last request. `None`: as
    /// long as the loop's load says.
    pub part_filled_floor: Option<u64>,
    /// A broker that has not taken a ready batch for so long is passed over by senders that may
    /// choose another. `None`: never.
    pub availability_timeout: Option<u64>,
    /// A request takes no further batch once it is this long.
    pub request_bytes: usize,
    /// A request is never longer than this, unless a single batch is.
    pub request_bytes_max: usize,
    /// Attempts after the first.
    pub retries: u32,
    /// While a broker lacks followers, one of its lanes is tried for all. Not with a retry policy
    /// of the user's own, which sets the pace of each, or where attempts are limited.
    pub tries_for_all: bool,
    /// Waits between attempts to connect.
    pub reconnect_backoff: ReconnectBackoff,
    /// A connection without traffic is closed after this.
    pub idle_max: u64,
    /// For every connection.
    pub connection: Arc<ConnectionConfig>,
}

/// What a shard is made of.
pub struct ShardParts {
    /// Its settings.
    pub config: Arc<ShardConfig>,
    /// When a failed batch is sent again.
    pub retry_policy: Arc<dyn RetryPolicy>,
    /// Where segments come from.
    pub pool: BufferPool,
    /// Room for one largest batch, if batches are compressed.
    pub scratch: Option<ScratchSlot>,
    /// A seed for jitter.
    pub random: u64,
}

/// A connection of a shard, for its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The broker's place in the shard.
    pub broker: usize,
    /// Which of its connections, counted from 0.
    pub generation: u32,
}

/// What the driver must do.
pub enum Action {
    /// Connect, and report with `handle_connected` or `handle_down`.
    Connect {
        /// The connection to be.
        token: Token,
        /// The broker.
        broker: BrokerId,
        /// Where it listens.
        address: BrokerAddress,
    },
    /// Close a connection that the shard has given up already.
    Close {
        /// The connection.
        token: Token,
        /// Why it was given up.
        problem: Problem,
    },
    /// Compute the next step of a connection's login, where waiting harms nobody, and report with
    /// `handle_login`.
    Login {
        /// The connection.
        token: Token,
        /// The step.
        task: LoginTask,
    },
    /// Hand a lane to its new owner.
    SendLane {
        /// The new owner.
        shard: ShardId,
        /// The lane.
        head: Box<LaneHead>,
    },
    /// Ask for metadata: the picture is out of date.
    RefreshMetadata,
    /// Ask for the metadata of a topic: its leader says that it does not exist.
    WantTopic(Arc<str>),
    /// Tell the metadata machine of a leader.
    Hint(LeaderHint),
    /// Ask for a new producer id: this one's epochs are used up.
    NewIdentity(ProducerIdentity),
    /// Ask again for a producer id that no broker could give: one says that it can.
    AskIdentity,
}

pub(super) struct LaneEntry {
    pub head: Box<LaneHead>,
    /// The number of the lane's arrival here. Timers carry it, and those of earlier stays lapse.
    pub arrival: u32,
    /// Another number with each leader. Queue entries carry it, and earlier ones are passed over.
    pub visit: u32,
    /// The lane is in its broker's `full` or `suspect` queue.
    pub in_full: bool,
    /// The lane is in its broker's `part_filled` queue.
    pub in_part_filled: bool,
    /// The open batch (by its first append) that the lane lingers for.
    pub lingers_for: Option<u64>,
    /// The last request that took a batch of the lane: a request takes one.
    pub in_request: u64,
    /// A timer for the lane's earliest deadline is set.
    pub expiry_armed: bool,
    /// The end of a backoff for which a timer is set.
    pub backoff_armed: u64,
    /// The lane waits for its leader's followers.
    pub under_min_isr: Option<UnderMinIsr>,
    /// There is no such partition: what waits in the lane fails.
    pub absence: Option<Absence>,
    /// How often in a row the leader said that there is no such topic or partition.
    pub unknown_answers: u32,
}

impl LaneEntry {
    pub(super) fn new(head: Box<LaneHead>, arrival: u32) -> Self {
        LaneEntry {
            head,
            arrival,
            visit: arrival,
            in_full: false,
            in_part_filled: false,
            lingers_for: None,
            in_request: 0,
            expiry_armed: false,
            backoff_armed: 0,
            under_min_isr: None,
            absence: None,
            unknown_answers: 0,
        }
    }

    /// How a queue of its broker names the lane.
    pub(super) fn queued(&self) -> Queued {
        Queued { lane: self.head.tail.id, visit: self.visit }
    }
}

/// One producer's state on one event loop. Inputs are `handle_*`, outputs `poll_*`.
///
/// Its driver first says what happened to its connections: [`Shard::handle_connected`] or
/// [`Shard::handle_down`]; [`Shard::space`], the read into it and [`Shard::handle_filled`], which
/// settles the batches of every response that is complete; [`Shard::handle_unsent`] for each that
/// [`Shard::wants_unsent`]. Then it takes a [`turn`](super::turn()):
///
/// 1. `begin_turn`: `handle_control` for each message, `handle_posted` for each lane id (`examine`
///    sorts the lane into its broker's queues, or sets a timer for it), and `handle_timeout`:
///    deadlines, backoffs, lingers, connections.
/// 2. `finish_turn`: `pump` packs queued lanes' batches into requests, as many as each connection's
///    window takes, and hands them to the connections.
/// 3. `to_write` says which connections have bytes to write. For each, [`Shard::slices`] lends
///    those bytes (headers, and batches right in their segments), the driver writes, and
///    [`Shard::handle_taken`] tells how many went, and [`Shard::handle_flushed`] that none of them
///    are kept back for encryption. That makes room for more: 2 and 3 repeat until nothing more
///    goes, a bounded number of times.
/// 4. [`Shard::poll_action`] until it is empty, and `wakes`.
///
/// [`Shard::poll_timeout`] says when the next turn is due if nothing else happens.
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) config: Arc<ShardConfig>,
    pub(super) retry_policy: Arc<dyn RetryPolicy>,
    pub(super) pool: BufferPool,
    pub(super) meters: Arc<Meters>,
    pub(super) events: Arc<EventHub>,
    pub(super) compressor: Compressor,
    pub(super) scratch: Option<ScratchSlot>,
    pub(super) view: Arc<View>,
    /// By lane id; ids are dense and small.
    pub(super) lanes: Vec<Option<LaneEntry>>,
    pub(super) lane_count: usize,
    /// The lanes that are here, by their topics.
    pub(super) by_topic: HashMap<Arc<str>, BTreeSet<LaneId>>,
    pub(super) brokers: Slab<Broker>,
    pub(super) by_id: HashMap<BrokerId, usize>,
    /// A new broker counts its connections from here on: no number is used twice in one place.
    pub(super) generation_next: u32,
    pub(super) timers: Timers,
    /// The next number for a lane that arrives, or visits another broker.
    visit_next: u32,
    pub(super) actions: VecDeque<Action>,
    pub(super) wakes: WakeList,
    pub(super) settled: Vec<Request>,
    pub(super) random: Random,
    /// Requests made so far.
    pub(super) requests: u64,
    /// Batches that were drained for a broker that takes message sets, and cannot go as they are.
    pub(super) turned_away: u64,
    /// The time of the last turn.
    pub(super) now: u64,
    /// Of the loop that drives the shard.
    pub(super) load: LoopLoad,
    /// When it was last warned of batches that expired.
    pub(super) expiry_warned_at: Option<u64>,
    /// Everything unresolved was failed, and so is what still arrives.
    pub(super) failing: Option<(DeliveryErrorCause, Option<Arc<Unsent>>)>,
    stopped: bool,
}

impl Shard {
    /// A shard without lanes.
    pub fn new(id: ShardId, parts: ShardParts) -> Self {
        Shard {
            id,
            config: parts.config,
            retry_policy: parts.retry_policy,
            pool: parts.pool,
            meters: Arc::default(),
            events: Arc::default(),
            compressor: Compressor::new(),
            scratch: parts.scratch,
            view: Arc::default(),
            lanes: Vec::new(),
            lane_count: 0,
            by_topic: HashMap::new(),
            brokers: Slab::new(),
            by_id: HashMap::new(),
            generation_next: 0,
            timers: Timers::default(),
            visit_next: 0,
            actions: VecDeque::new(),
            wakes: WakeList::default(),
            settled: Vec::new(),
            random: Random::new(parts.random),
            requests: 0,
            turned_away: 0,
            now: 0,
            load: LoopLoad::default(),
            expiry_warned_at: None,
            failing: None,
            stopped: false,
        }
    }

    /// The same shard, which counts into the meters of its producer instead of its own, and tells
    /// what happens to who listens to the producer.
    pub fn observed_by(mut self, meters: Arc<Meters>, events: Arc<EventHub>) -> Self {
        (self.meters, self.events) = (meters, events);
        self
    }

    /// The loop that drives the shard is as busy as this.
    pub fn set_load(&mut self, load: LoopLoad) {
        self.load = load;
    }

    /// Takes what was sent to the shard's port, a bounded number a turn, and what is due. Returns
    /// whether more waits.
    pub(super) fn begin_turn(&mut self, now: u64, port: &ShardPort) -> bool {
        let mut more = true;
        let mut newest = None;
        for _ in 0..CONTROL_PER_TURN {
            let Some(message) = port.pop_control() else {
                more = false;
                break;
            };
            match message {
                // Of several views the last one says everything. A lane that comes between them is
                // taken under the older view, which it may have been ahead of (`LaneHead::seen`).
                Control::View(view) => newest = Some(view),
                message => self.handle_control(now, message),
            }
        }
        if let Some(view) = newest {
            let generation = view.generation;
            self.handle_view(now, view);
            port.set_applied(generation);
        }
        let posted = port.drain_lanes(LANES_PER_TURN, |id| self.handle_posted(now, LaneId(id)));
        self.handle_timeout(now);
        more || posted == LANES_PER_TURN
    }

    /// A control message.
    fn handle_control(&mut self, now: u64, message: Control) {
        match message {
            Control::View(view) => self.handle_view(now, view),
            Control::Lane(head) => self.handle_lane(now, head),
            Control::Posted(id) => self.handle_posted(now, id),
            Control::GivenUp(lanes) => lanes.iter().for_each(|&id| self.drop_given_up(id)),
            Control::FailAll(cause, unsent) => self.fail_all(cause, unsent),
            Control::Purge(purge) => self.purge(now, &purge),
            Control::Explain(question) => self.explain(now, &question),
            Control::Stop => self.stopped = true,
        }
    }

    /// Whether the producer is done with this shard.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A posted lane. An id whose head is not here is dropped: its new owner looks at the lane when
    /// the head arrives.
    fn handle_posted(&mut self, now: u64, id: LaneId) {
        if let Some(entry) = self.lane_mut(id) {
            entry.head.tail.clear_posted();
            self.examine(now, id);
        }
    }

    /// Acts on deadlines, backoffs and lingers that are due.
    fn handle_timeout(&mut self, now: u64) {
        let mut walked = None;
        while let Some((kind, stay)) = self.timers.pop_due(now) {
            match kind {
                _ if !stays(&self.lanes, stay) => {}
                TimerKind::Examine => self.examine(now, stay.lane),
                TimerKind::Expiry => self.expire(now, stay.lane, &mut walked),
            }
        }
        self.end_lingers(now);
        for index in 0..self.brokers.capacity() {
            if self.brokers.contains(index) {
                self.check_broker(now, index);
            }
        }
    }

    /// Sends what can be sent. Returns whether more is to be done at once.
    pub(super) fn finish_turn(&mut self, now: u64) -> bool {
        self.now = now;
        let more = self.seal_under_pressure(now);
        for index in 0..self.brokers.capacity() {
            if self.brokers.contains(index) {
                self.pump(now, index);
                self.note_stall(now, index);
            }
        }
        more
    }

    /// What the driver must do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When the next turn must be, nanoseconds, monotonic.
    pub fn poll_timeout(&self) -> Option<u64> {
        let timer = self.timers.earliest();
        let lingers = self.brokers.iter().filter_map(|(_, broker)| broker.next_linger_end());
        let linger = lingers.min();
        let brokers = self.brokers.iter().flat_map(|(_, broker)| {
            [self.broker_timeout(broker), self.stall_timeout(broker)].into_iter().flatten()
        });
        [timer, linger].into_iter().flatten().chain(brokers).min()
    }

    /// Wakers of deliveries that resolved: to be called at the end of the turn.
    pub(super) fn wakes(&mut self) -> &mut WakeList {
        &mut self.wakes
    }

    /// Timers that are set: a few for each lane that is or was here, whatever its senders do.
    #[cfg(feature = "internals")]
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    /// Lanes that this shard owns.
    #[cfg(feature = "internals")]
    pub fn lane_count(&self) -> usize {
        self.lane_count
    }

    /// When a lane of a broker may be drained, or of one that is not known yet. Where an idempotent
    /// producer has to do without, its lane has one batch in flight, so that a retry cannot change
    /// the order.
    pub(super) fn drain_rules(&self, now: u64, id: LaneId, index: Option<usize>) -> DrainRules {
        let (config, broker) = (&self.config, index.map(|index| &self.brokers[index]));
        let takes_messages = broker.is_some_and(|broker| broker.format().is_message_set());
        let entry = self.lanes.get(id.0 as usize).and_then(Option::as_ref);
        let has_none =
            self.view.without_identity && entry.is_some_and(|entry| !entry.head.has_identity());
        let is_refused = entry.is_some_and(|entry| now < entry.head.unnumbered_until);
        let does_without = takes_messages || has_none || is_refused;
        let remembers_one = broker.is_some_and(Broker::remembers_one_batch);
        let idempotent = entry.is_some_and(|entry| entry.head.tail.settings.idempotent);
        let one_at_a_time = idempotent && (does_without || remembers_one);
        DrainRules {
            idempotent: idempotent && !does_without,
            in_flight_max: if one_at_a_time { 1 } else { config.in_flight_max as u32 },
            producer_id_idle_max: config.producer_id_idle_max,
            connection: broker.map_or(0, |broker| broker.generation),
        }
    }

    /// Sets a timer for a lane that is here.
    pub(super) fn set_timer(&mut self, at: u64, kind: TimerKind, id: LaneId) {
        if let Some(entry) = self.lane_mut(id) {
            let stay = Stay { lane: id, arrival: entry.arrival };
            self.timers.push(at, kind, stay);
        }
    }

    /// A lane has left: its timers are for nothing.
    pub(super) fn forget_timers(&mut self, entry: &LaneEntry) {
        let timers = usize::from(entry.expiry_armed) + usize::from(entry.backoff_armed > self.now);
        let lanes = &self.lanes;
        self.timers.leave(timers, |stay| stays(lanes, stay));
    }

    pub(super) fn next_visit(&mut self) -> u32 {
        self.visit_next = self.visit_next.wrapping_add(1);
        self.visit_next
    }

    pub(super) fn lane_mut(&mut self, id: LaneId) -> Option<&mut LaneEntry> {
        self.lanes.get_mut(id.0 as usize)?.as_mut()
    }

    /// A lane that its broker's queue named, if it has not left since.
    pub(super) fn visiting(&mut self, queued: Queued) -> Option<&mut LaneEntry> {
        self.lane_mut(queued.lane).filter(|entry| entry.visit == queued.visit)
    }

    pub(super) fn broker_index(&self, id: BrokerId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub(super) fn broker_of(&mut self, token: Token) -> Option<&mut Broker> {
        let broker = self.brokers.get_mut(token.broker)?;
        (broker.generation == token.generation).then_some(broker)
    }

    pub(super) fn connection_of(&self, token: Token) -> Option<&Connection> {
        let broker = self.brokers.get(token.broker)?;
        if broker.generation != token.generation {
            return None;
        }
        broker.connection()
    }
}

/// Whether the lane is here, and has not left since the stay began.
fn stays(lanes: &[Option<LaneEntry>], stay: Stay) -> bool {
    let entry = lanes.get(stay.lane.0 as usize).and_then(Option::as_ref);
    entry.is_some_and(|entry| entry.arrival == stay.arrival)
}
