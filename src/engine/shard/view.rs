//! Which broker belongs to which shard, and how lanes follow their leaders.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::broker::{Broker, Connectivity};
use super::shard::{Action, LaneEntry, Shard, Token};
use crate::engine::batch::{LaneHead, LaneId, Leader, ShardId};
use crate::engine::buffer::AccountId;
use crate::engine::cluster::{BrokerAddress, ClusterSnapshot, ForeignCluster};
use crate::engine::protocol::{BrokerId, ProducerIdentity};
use crate::error::DeliveryErrorCause;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// Where a broker's lanes live, and what their memory is charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The shard that has the broker's connection.
    pub shard: ShardId,
    /// The broker's account in the pool.
    pub account: AccountId,
    /// Where it listens. Placements outlive a broker's absence from the snapshot for a while.
    pub address: BrokerAddress,
}

/// What the metadata thread publishes to every shard.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Counts views. A lane goes by no older one than it has seen.
    pub generation: u64,
    /// The cluster.
    pub snapshot: Arc<ClusterSnapshot>,
    /// The brokers of the cluster, and those that are not listed only since a short time.
    pub placements: Arc<BTreeMap<BrokerId, Placement>>,
    /// Brokers for which there was no place, and why.
    pub left_out: Arc<BTreeMap<BrokerId, Problem>>,
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
    /// No broker gives an id, and the producer does without.
    pub without_identity: bool,
    /// What is wrong with the metadata channel, for errors.
    pub last_problem: Option<Problem>,
}

impl View {
    /// Warns once for each change since `before` that the user must learn of: records go elsewhere,
    /// or are less safe.
    pub(super) fn warn_of_changes(&self, before: &View) {
        let name = |view: &View| view.snapshot.cluster_id.clone().unwrap_or_default();
        if before.snapshot.cluster != self.snapshot.cluster {
            log::warn!(
                "the brokers are of another cluster: {} instead of {}; records go there from now \
                 on, and what may have been written to the old one fails",
                name(self),
                name(before)
            );
        }
        if let (None, Some(clusters)) = (&before.changed_to, &self.changed_to) {
            log::warn!(
                "the brokers are of another cluster: {} instead of {}; records fail until the old \
                 one is back (on_cluster_change, tidegate.cluster.change, is fail)",
                clusters.found,
                clusters.known
            );
        }
        if self.without_identity && !before.without_identity {
            log::warn!(
                "no broker knows idempotence (Kafka 0.11): a lost acknowledgement may double \
                 records; with enable_idempotence (enable.idempotence) set to false this is not \
                 said, set to true it is an error"
            );
        }
    }
}

/// Why a lane cannot have a leader: there is nothing that could be led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// The topic does not exist.
    Topic,
    /// The topic was created again with so many partitions, and the lane's is not among them.
    Partition(i32),
}

impl Shard {
    /// A newer picture of the cluster. Looks only at the lanes of topics that changed in it, unless
    /// all lanes are concerned: otherwise a thousand topics that become known one after the other
    /// would cost a thousand looks at each lane.
    pub fn handle_view(&mut self, now: u64, view: Arc<View>) {
        let old = std::mem::replace(&mut self.view, view);
        let view = self.view.clone();
        let every_lane = old.identity != view.identity
            || old.identity_ordinal != view.identity_ordinal
            || old.identity_denied != view.identity_denied
            || old.without_identity != view.without_identity
            || old.identity_floor != view.identity_floor
            || old.changed_to != view.changed_to
            || old.snapshot.cluster != view.snapshot.cluster
            || !Arc::ptr_eq(&old.placements, &view.placements);
        self.update_brokers(now);
        if old.snapshot.cluster != view.snapshot.cluster {
            self.leave_cluster(now);
        }
        if every_lane {
            for index in 0..self.lanes.len() {
                if self.lanes[index].is_some() {
                    self.follow_leader(now, LaneId(index as u32));
                }
            }
            return;
        }
        for (name, _) in view.snapshot.changed_since(&old.snapshot) {
            let lanes: Vec<_> = self.by_topic.get(name).into_iter().flatten().copied().collect();
            lanes.into_iter().for_each(|id| self.follow_leader(now, id));
        }
    }

    fn update_brokers(&mut self, now: u64) {
        let view = self.view.clone();
        for (&id, placement) in view.placements.iter() {
            if placement.shard != self.id {
                continue;
            }
            match self.broker_index(id) {
                Some(index) => {
                    let broker = &mut self.brokers[index];
                    broker.account = placement.account;
                    broker.leaving = false;
                    self.readdress(now, index, &placement.address);
                }
                None => {
                    let meter = self.meters.add_broker(id.0);
                    let address = placement.address.clone();
                    let mut broker = Broker::new(address, placement.account, meter);
                    broker.cluster = view.snapshot.cluster;
                    broker.generation = self.generation_next;
                    let index = self.brokers.insert(broker);
                    self.by_id.insert(id, index);
                    self.tell_standing(now, index);
                }
            }
        }
        let own = self.id;
        let gone = |id| view.placements.get(&id).is_none_or(|placement| placement.shard != own);
        let gone: Vec<_> =
            self.brokers.iter().filter(|(_, it)| gone(it.id)).map(|(index, _)| index).collect();
        for index in gone {
            self.brokers[index].leaving = true;
            self.leave_broker(now, index);
        }
    }

    /// Forgets a broker that is not in the view any more, once nothing is in flight to it.
    pub(super) fn leave_broker(&mut self, now: u64, index: usize) {
        let broker = &self.brokers[index];
        if !broker.leaving || broker.connection().is_some_and(|it| it.in_flight() > 0) {
            return;
        }
        if !matches!(broker.connectivity, Connectivity::Down { .. }) {
            let text = "the broker is in the cluster no longer";
            self.close(now, index, &Problem::new(ProblemKind::Closed, text));
        }
        let broker = self.brokers.remove(index);
        self.meters.remove_broker(&broker.meter);
        // Another broker may get its place. Connections there are counted on from here, so that the
        // driver's reports about old ones do not pass for reports about the new.
        self.generation_next = self.generation_next.max(broker.generation + 1);
        if self.by_id.get(&broker.id) == Some(&index) {
            self.by_id.remove(&broker.id);
        }
    }

    /// Metadata says that a broker listens at this address, which may be a new one.
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

    /// Gives up the connection to a broker's old address, once the attempts in flight there have
    /// settled: whatever listens there may not be part of the cluster any more.
    pub(super) fn leave_old_address(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        let Some(next) = &broker.next_address else { return };
        let problem = match &broker.connectivity {
            Connectivity::Up(connection) if connection.is_ready() && connection.in_flight() > 0 => {
                return;
            }
            Connectivity::Up(_) | Connectivity::Connecting => {
                Problem::new(ProblemKind::Closed, format_args!("the broker has moved to {next}"))
            }
            Connectivity::Down { .. } => return self.take_next_address(now, index),
        };
        let token = Token { broker: index, generation: broker.generation };
        broker.generation += 1;
        self.actions.push_back(Action::Close { token, problem });
        self.take_next_address(now, index);
    }

    /// There is no connection to the broker: if it has moved, the next one goes to its new address,
    /// and at once, since failures of the old address say nothing of the new.
    pub(super) fn take_next_address(&mut self, now: u64, index: usize) {
        let broker = &mut self.brokers[index];
        let Some(next) = broker.next_address.take() else { return };
        broker.address = next;
        broker.waits.reset();
        broker.connectivity = Connectivity::Down { retry_at: now };
    }

    /// Takes a lane that this shard owns from now on, and looks at it as if it had been posted:
    /// senders may have appended, and posted it to its old owner, while the head was on its way.
    pub fn handle_lane(&mut self, now: u64, mut head: Box<LaneHead>) {
        head.moving_to = None;
        let id = head.tail.id;
        let index = id.0 as usize;
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, || None);
        }
        assert!(self.lanes[index].is_none(), "a lane has one owner");
        head.tail.clear_posted();
        self.by_topic.entry(head.tail.topic.clone()).or_default().insert(id);
        self.lanes[index] = Some(LaneEntry::new(head, self.next_visit()));
        self.lane_count += 1;
        if let (Some(entry), Some((cause, unsent))) = (&mut self.lanes[index], &self.failing) {
            // The head was on its way when the shard failed everything.
            entry.head.tail.seal(true);
            entry.head.fail_all_or_leave(unsent.as_deref(), cause, &mut self.wakes);
        }
        self.follow_leader(now, id);
        self.drop_given_up(id);
    }

    /// Drops a lane that was given up, once nothing of it is in flight. Its id is then used again.
    pub(super) fn drop_given_up(&mut self, id: LaneId) {
        let goes = |entry: &LaneEntry| entry.head.tail.is_given_up() && entry.head.in_flight() == 0;
        if self.lanes.get(id.0 as usize).and_then(Option::as_ref).is_some_and(goes) {
            drop(self.take_lane(id));
        }
    }

    /// Takes a lane out of the shard, with all that names it.
    fn take_lane(&mut self, id: LaneId) -> Option<LaneEntry> {
        let entry = self.lanes.get_mut(id.0 as usize)?.take()?;
        self.lane_count -= 1;
        self.forget_timers(&entry);
        let topic = &entry.head.tail.topic;
        if let Some(lanes) = self.by_topic.get_mut(topic) {
            lanes.remove(&id);
            if lanes.is_empty() {
                self.by_topic.remove(topic);
            }
        }
        Some(entry)
    }

    /// Applies what the view says of a lane's leader, and looks at the lane again.
    fn follow_leader(&mut self, now: u64, id: LaneId) {
        let (view, own, pool) = (self.view.clone(), self.id, self.pool.clone());
        let visit = self.next_visit();
        let Some(entry) = self.lane_mut(id) else { return };
        let head = &mut entry.head;
        let lane = head.tail.clone();
        let old_broker = head.leader.map(|leader| leader.broker);
        if view.generation < head.seen {
            // The head arrived before the view by which it moved, and has seen more than this view.
            self.examine(now, id);
            return;
        }
        head.seen = view.generation;
        head.belong_to_cluster(view.snapshot.cluster, view.identity_floor);
        let topic = view.snapshot.topics.get(&lane.topic);
        let index = lane.partition.index();
        let partition = topic.map(|topic| (topic, topic.partitions.get(index)));
        entry.absence = match partition {
            Some((topic, Some(partition))) => {
                let leader =
                    partition.leader.map(|broker| Leader { broker, epoch: partition.epoch });
                head.belong_to(topic.id, topic.incarnation);
                head.lead_by(leader);
                None
            }
            // The producer came to another cluster, where the partitions are not known yet.
            Some((topic, None)) if topic.count == 0 => {
                head.lead_by(None);
                None
            }
            Some((topic, None)) => Some(Absence::Partition(topic.count)),
            None => Some(Absence::Topic),
        };
        if entry.absence.is_some() {
            head.lead_by(None);
        }
        #[cfg(feature = "internals")]
        if planted!(ForgetsUnknownTopic) && topic.is_none() {
            head.forget_sequences();
        }
        let head = &mut entry.head;
        if head.leader.map(|leader| leader.broker) != old_broker {
            // Entries of the lane in the old broker's queues carry the old number, and are passed
            // over.
            entry.visit = visit;
            (entry.in_full, entry.in_part_filled) = (false, false);
            entry.lingers_for = None;
            entry.unknown_answers = 0;
        }
        entry.charge_to_leader(&pool, &view, own);
        self.start_over_if_settled(id);
        let Some(entry) = self.lane_mut(id) else { return };
        let head = &mut entry.head;
        if let Some(identity) = view.identity {
            head.offer_identity(identity, view.identity_ordinal);
        }
        if !self.leave_if_settled(id) {
            self.examine(now, id);
        }
    }

    /// Hands a lane over once its attempts have settled. Returns whether it left.
    pub(super) fn leave_if_settled(&mut self, id: LaneId) -> bool {
        let Some(entry) = self.lane_mut(id) else { return true };
        let head = &entry.head;
        let Some(shard) = head.moving_to.filter(|_| head.in_flight() == 0) else { return false };
        let Some(entry) = self.take_lane(id) else { return true };
        // Name the new owner before the head is on its way. A sender that still reads the old name
        // has appended before, and the new owner looks at the lane when the head arrives. The other
        // way round, a batch that is posted to the old owner later would be seen by nobody.
        entry.head.tail.set_owner(shard);
        self.actions.push_back(Action::SendLane { shard, head: entry.head });
        true
    }
}
