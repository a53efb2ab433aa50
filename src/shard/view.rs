//! Which broker belongs to which shard, and how lanes follow their leaders.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::broker::{Broker, Connectivity};
use super::shard::{Action, Shard, Token};
use crate::batch::{LaneHalf, LaneId, Leader, ShardId};
use crate::buffer::AccountId;
use crate::cluster::{BrokerAddress, ClusterSnapshot, ForeignCluster};
use crate::error::DeliveryErrorCause;
use crate::logging as log;
use crate::protocol::{BrokerId, ProducerIdentity};

/// Where a broker's lanes live, and what their memory is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The shard that has the broker's connection.
    pub shard: ShardId,
    /// The broker's account in the pool.
    pub account: AccountId,
    /// Where it listens. Placements outlive a broker's absence from the snapshot.
    pub address: BrokerAddress,
}

/// What the metadata loop publishes to every shard.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Counts views. A lane goes by no older one than it has seen.
    pub generation: u64,
    /// The cluster.
    pub snapshot: Arc<ClusterSnapshot>,
    /// Every broker that was ever seen.
    pub placements: BTreeMap<BrokerId, Placement>,
    /// The producer id to number batches with.
    pub identity: Option<ProducerIdentity>,
    /// Which of the ids that the producer was given that is, from 1 on.
    pub identity_ordinal: u64,
    /// How many of those ids were given by clusters that the producer has left.
    pub identity_floor: u64,
    /// Another cluster answers in the place of the known one, and is not followed.
    pub changed_to: Option<ForeignCluster>,
    /// Why the producer may not have an id, until it is given one.
    pub identity_denied: Option<DeliveryErrorCause>,
    /// What is wrong with the metadata channel, in words, for errors.
    pub last_problem: Option<Arc<str>>,
}

impl Shard {
    /// A newer picture of the cluster.
    pub fn handle_view(&mut self, now: u64, view: Arc<View>) {
        let is_another = view.snapshot.cluster != self.view.snapshot.cluster;
        self.view = view;
        self.update_brokers(now);
        if is_another {
            self.leave_cluster(now);
        }
        for index in 0..self.lanes.len() {
            if self.lanes[index].is_some() {
                self.follow_leader(now, LaneId(index as u32));
            }
        }
    }

    fn update_brokers(&mut self, now: u64) {
        let view = self.view.clone();
        for (&id, placement) in &view.placements {
            if placement.shard != self.id {
                continue;
            }
            match self.broker_index(id) {
                Some(index) => self.readdress(now, index, &placement.address),
                None => {
                    let mut broker = Broker::new(id, placement.address.clone(), placement.account);
                    broker.cluster = view.snapshot.cluster;
                    let index = self.brokers.insert(broker);
                    self.by_id.insert(id, index);
                }
            }
        }
    }

    /// A broker listens at this address, perhaps another one than it did.
    fn readdress(&mut self, now: u64, index: usize, address: &BrokerAddress) {
        let broker = &mut self.brokers[index];
        if planted!(StaysAtOldAddress) {
            broker.address = address.clone();
            return;
        }
        if broker.next_address.as_ref().unwrap_or(&broker.address) == address {
            return;
        }
        log::info!("broker {} has moved from {} to {address}", broker.id, broker.address);
        broker.next_address = Some(address.clone()).filter(|next| *next != broker.address);
        self.leave_old_address(now, index);
    }

    /// Gives the connection to a broker's old address up, once what is in flight there has settled:
    /// whatever answers there may not be part of the cluster any more.
    pub(super) fn leave_old_address(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        let Some(next) = &broker.next_address else { return };
        let problem: Arc<str> = match &broker.connectivity {
            Connectivity::Up(connection) if connection.is_ready() && connection.in_flight() > 0 => {
                return;
            }
            Connectivity::Up(_) | Connectivity::Connecting => {
                format!("the broker has moved to {next}").into()
            }
            Connectivity::Down { .. } => return self.take_next_address(now, index),
        };
        let token = Token { broker: index, generation: broker.generation };
        broker.generation += 1;
        self.actions.push_back(Action::Close { token, problem });
        self.take_next_address(now, index);
    }

    /// There is no connection to the broker: the next one goes to where it is now, at once.
    pub(super) fn take_next_address(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        let Some(next) = broker.next_address.take() else { return };
        broker.address = next;
        broker.waits.reset();
        broker.connectivity = Connectivity::Down { retry_at: now };
    }

    /// A lane that this shard owns from now on. It is looked at as if it had been posted.
    pub fn handle_lane(&mut self, now: u64, mut half: Box<LaneHalf>) {
        half.moving_to = None;
        let id = half.lane.id;
        let index = id.0 as usize;
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, || None);
        }
        assert!(self.lanes[index].is_none(), "a lane has one owner");
        half.lane.clear_posted();
        self.lanes[index] = Some(super::shard::LaneEntry::new(half));
        self.lane_count += 1;
        if let (Some(entry), Some(cause)) = (&mut self.lanes[index], &self.failing) {
            // It was on its way when everything was failed.
            entry.half.lane.seal(true);
            entry.half.fail_all(cause, &mut self.wakes);
        }
        self.follow_leader(now, id);
    }

    /// Applies what the view says of a lane's leader, and looks at the lane again.
    fn follow_leader(&mut self, now: u64, id: LaneId) {
        let (view, own) = (self.view.clone(), self.id);
        let Some(entry) = self.lane_mut(id) else { return };
        let half = &mut entry.half;
        let lane = half.lane.clone();
        let old_broker = half.leader.map(|leader| leader.broker);
        if view.generation < half.seen {
            // It is here ahead of the view that it moved by, and knows more than this one.
            self.examine(now, id);
            return;
        }
        half.seen = view.generation;
        half.belong_to_cluster(view.snapshot.cluster, view.identity_floor);
        if let Some(partition) = view.snapshot.partition(&lane.topic, lane.partition) {
            let leader = partition.leader.map(|broker| Leader { broker, epoch: partition.epoch });
            if let Some(topic) = view.snapshot.topics.get(&lane.topic) {
                half.belong_to(topic.id);
            }
            half.lead_by(leader);
        }
        #[cfg(feature = "internals")]
        if planted!(ForgetsUnknownTopic) && !view.snapshot.topics.contains_key(&lane.topic) {
            half.forget_sequences();
        }
        if half.leader.map(|leader| leader.broker) != old_broker {
            // What the old broker's queues still name is passed over when its turn comes.
            (entry.in_full, entry.in_part) = (false, false);
            entry.lingers_for = None;
        }
        match half.leader.and_then(|leader| view.placements.get(&leader.broker)) {
            Some(placement) => {
                half.lane.set_leader_account(placement.account, true);
                half.moving_to = Some(placement.shard).filter(|&shard| shard != own);
            }
            None => {
                let account = half.lane.account();
                half.lane.set_leader_account(account, false);
            }
        }
        self.start_over_if_settled(id);
        let Some(entry) = self.lane_mut(id) else { return };
        let half = &mut entry.half;
        if let Some(identity) = view.identity {
            half.offer_identity(identity, view.identity_ordinal);
        }
        if !self.leave_if_settled(id) {
            self.examine(now, id);
        }
    }

    /// Hands a lane over once its attempts have settled. Returns whether it left.
    pub(super) fn leave_if_settled(&mut self, id: LaneId) -> bool {
        let Some(entry) = self.lane_mut(id) else { return true };
        let half = &entry.half;
        let Some(shard) = half.moving_to.filter(|_| half.in_flight() == 0) else { return false };
        let Some(entry) = self.lanes[id.0 as usize].take() else { return true };
        self.lane_count -= 1;
        // The new owner is named before the half is on its way: a sender that still reads the old
        // name has appended before, and the new owner looks at the lane when it arrives.
        entry.half.lane.set_owner(shard);
        self.actions.push_back(Action::SendLane { shard, half: entry.half });
        true
    }
}
