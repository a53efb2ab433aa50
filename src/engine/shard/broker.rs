//! One broker as a shard sees it: its connection and the lanes that wait for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::acks_turns::AcksTurns;
use super::request_limit::RequestLimit;
use crate::config::ReconnectWaits;
use crate::engine::batch::LaneId;
use crate::engine::buffer::{AccountId, BufferPool};
use crate::engine::cluster::BrokerAddress;
use crate::engine::connection::Connection;
use crate::engine::meter::BrokerMeter;
use crate::engine::protocol::BrokerId;
use crate::problem::Problem;

/// Whether there is a connection to a broker.
pub(super) enum Connectivity {
    /// None, and none is tried before `retry_at` (nanoseconds, monotonic).
    Down {
        /// See above.
        retry_at: u64,
    },
    /// The loop is making one.
    Connecting,
    /// There is one; it may still be in its handshake.
    Up(Box<Connection>),
}

/// A lane in a queue of its broker. Once the lane has another leader, or has left, the entry is
/// passed over, also when the lane is back: it is then in the queue by another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Queued {
    pub lane: LaneId,
    /// See `LaneEntry::visit`.
    pub visit: u32,
}

/// One broker as a shard sees it.
pub(super) struct Broker {
    pub id: BrokerId,
    pub address: BrokerAddress,
    /// Where metadata says that it listens by now, while requests at `address` are not settled.
    pub next_address: Option<BrokerAddress>,
    pub account: AccountId,
    /// What is counted for it, and what is told of its connection.
    pub meter: Arc<BrokerMeter>,
    /// Which of the producer's clusters it belongs to. A lane that has seen a newer view than this
    /// shard may be at another one already, where the same id is another broker.
    pub cluster: u64,
    /// The present connection is to a broker of a cluster that was left.
    pub is_left: bool,
    pub connectivity: Connectivity,
    /// Counts connections, so that news of an old one is not taken for news of the present one.
    pub generation: u32,
    /// How long to wait after attempts to connect that failed since the last success.
    pub waits: ReconnectWaits,
    /// Lanes with a sealed batch, in the order they got ready.
    pub full: VecDeque<Queued>,
    /// The same, for lanes whose own partition answered with an error after a wait.
    pub suspect: VecDeque<Queued>,
    /// Lanes with a part-filled batch that may go as soon as the connection is idle enough.
    pub part_filled: VecDeque<Queued>,
    /// Lanes whose open batch lingers, and until when, the earliest first. A lane that moved away
    /// is in it still, and passed over.
    pub lingering: BinaryHeap<Reverse<(u64, LaneId)>>,
    /// Since when a ready batch waits for the next request, nanoseconds, monotonic. Kept only where
    /// there is an availability timeout.
    pub waits_since: Option<u64>,
    /// Requests of full batches sent while lanes of `suspect` waited.
    pub suspects_passed_over: u32,
    /// Requests sent while lanes of `part_filled` waited, with none of theirs.
    pub part_filled_passed_over: u32,
    /// When part-filled batches may go again, if they were held back by the floor.
    pub part_filled_at: Option<u64>,
    /// Lanes that it refused for lack of followers; some may have left since.
    pub under_min_isr: Vec<LaneId>,
    /// Which acknowledgements its next request asks for, where its lanes differ in that.
    pub acks_turns: AcksTurns,
    /// Records were failed because it takes them in no way that their topics allow. It is asked
    /// anew what it speaks, before long.
    pub unfit: Option<Problem>,
    /// Until then one of `under_min_isr` waits for its next attempt, on behalf of all.
    pub tried_until: u64,
    /// The version of Produce that it is spoken to in, once a connection has told.
    pub produce_version: Option<i16>,
    /// A lane waits for a connection, to know whether its batches need an identity.
    pub is_age_wanted: bool,
    /// It was told to the log that it knows no idempotence.
    pub age_told: bool,
    /// How long its requests may be.
    pub request_limit: RequestLimit,
    /// Why the last connection failed.
    pub last_problem: Option<Problem>,
    /// When it was warned of that there is no connection, until there is one again.
    pub outage_since: Option<u64>,
    /// Records written with acks=0 to connections that were lost since it was warned of them.
    pub unconfirmed_lost: u64,
    /// When that was last.
    pub unconfirmed_warned_at: Option<u64>,
    /// It was told that records wait for it.
    pub told_wanted: bool,
    /// It is in the view no longer, and is forgotten once nothing is in flight.
    pub leaving: bool,
}

impl Broker {
    pub(super) fn new(address: BrokerAddress, account: AccountId, meter: Arc<BrokerMeter>) -> Self {
        Broker {
            id: BrokerId(meter.broker),
            meter,
            address,
            next_address: None,
            account,
            cluster: 0,
            is_left: false,
            connectivity: Connectivity::Down { retry_at: 0 },
            generation: 0,
            waits: ReconnectWaits::default(),
            full: VecDeque::new(),
            suspect: VecDeque::new(),
            part_filled: VecDeque::new(),
            lingering: BinaryHeap::new(),
            waits_since: None,
            suspects_passed_over: 0,
            part_filled_passed_over: 0,
            part_filled_at: None,
            under_min_isr: Vec::new(),
            acks_turns: AcksTurns::default(),
            unfit: None,
            tried_until: 0,
            produce_version: None,
            is_age_wanted: false,
            age_told: false,
            request_limit: RequestLimit::NONE,
            last_problem: None,
            outage_since: None,
            unconfirmed_lost: 0,
            unconfirmed_warned_at: None,
            told_wanted: false,
            leaving: false,
        }
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.connectivity {
            Connectivity::Up(connection) => Some(connection),
            _ => None,
        }
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match &mut self.connectivity {
            Connectivity::Up(connection) => Some(connection),
            _ => None,
        }
    }

    /// A lane has a sealed batch.
    pub(super) fn add_sealed(&mut self, queued: Queued, suspect: bool) {
        let queue = if suspect { &mut self.suspect } else { &mut self.full };
        queue.push_back(queued);
    }

    /// A lane's open batch lingers until `due`.
    pub(super) fn add_lingering(&mut self, due: u64, id: LaneId) {
        self.lingering.push(Reverse((due, id)));
    }

    /// When the first lingering batch is due, nanoseconds, monotonic.
    pub(super) fn next_linger_end(&self) -> Option<u64> {
        self.lingering.peek().map(|&Reverse((due, _))| due)
    }

    /// Whether a batch lingers although memory is short.
    pub(super) fn is_lingering_under_pressure(&self, pool: &BufferPool) -> bool {
        !self.lingering.is_empty() && pool.under_pressure(self.account)
    }

    /// Whether lanes wait for it.
    pub(super) fn is_wanted(&self) -> bool {
        let waits = !self.full.is_empty() || !self.suspect.is_empty();
        waits || !self.part_filled.is_empty() || self.is_age_wanted
    }
}
