//! The metadata loop's other half: which broker runs on which shard, and lanes for new partitions.

use std::io;
use std::sync::{Arc, PoisonError};

use super::event_loop::{Ended, LoopMessage, ShardContext};
use super::metadata_loop::{MetadataLoop, RunningShard};
use crate::batch::{ShardId, TopicLanes};
use crate::buffer::{AccountKind, BufferPool, ScratchSlot};
use crate::cluster::ClusterSnapshot;
use crate::error::DeliveryErrorCause;
use crate::shard::{Control, Placement, Shard, ShardParts, ShardPort};

impl MetadataLoop {
    /// Gives every new broker a shard and an account.
    pub(super) fn place(&mut self, snapshot: &ClusterSnapshot) {
        for (&id, address) in &snapshot.brokers {
            if let Some(placement) = self.placements.get_mut(&id) {
                placement.address = address.clone();
                continue;
            }
            if self.placements.len() >= self.parts.brokers_max {
                log::error!("broker {id} is left out: brokers_max is reached");
                continue;
            }
            let pool = &self.parts.accumulator.pool;
            let account = match pool.open_account(AccountKind::Broker) {
                Ok(account) => account,
                Err(error) => {
                    log::error!("broker {id} is left out: {error}");
                    continue;
                }
            };
            self.parts.accumulator.add_broker(id, account);
            let shard = self.shard_for(self.placements.len());
            let placement = Placement { shard, account, address: address.clone() };
            self.placements.insert(id, placement);
        }
    }

    /// The shard for the broker that is the `ordinal`th to be seen.
    fn shard_for(&mut self, ordinal: usize) -> ShardId {
        let loops_max = self.parts.loops.loops_max().min(self.parts.shards_max);
        let index = ordinal % loops_max;
        let shard = ShardId(index as u16);
        if self.parts.ports.port(shard).is_some() {
            return shard;
        }
        match self.start_shard(index) {
            Ok(()) => shard,
            Err(error) => {
                log::warn!("no further event loop ({error}): brokers share those there are");
                ShardId(0)
            }
        }
    }

    /// Starts the shard number `index` on the loop of that number.
    pub(super) fn start_shard(&self, index: usize) -> io::Result<()> {
        let parts = &self.parts;
        let pool: &BufferPool = &parts.accumulator.pool;
        let scratch = match parts.scratch_bytes {
            // Records need room too: what loops compress in stays below half of the pool.
            Some(bytes) if index > 0 && (index + 1) * bytes > pool.capacity() / 2 => {
                return Err(io::Error::other("buffer_memory is too small to compress on more"));
            }
            Some(bytes) => {
                let scratch = pool.carve_scratch(bytes).map_err(io::Error::other)?;
                Some(ScratchSlot::new(scratch))
            }
            None => None,
        };
        let event_loop = parts.loops.start(index)?;
        let id = ShardId(index as u16);
        let shared = &event_loop.shared;
        let lanes_max = parts.accumulator.config.lanes_max;
        let port = ShardPort::new(lanes_max, shared.bell.clone(), shared.waker.clone());
        let shard_parts = ShardParts {
            config: parts.shard.clone(),
            retry_policy: parts.retry_policy.clone(),
            pool: pool.clone(),
            scratch,
            random: parts.random.rotate_left(index as u32 + 1),
        };
        let ended = Arc::new(Ended::default());
        let context = ShardContext {
            ports: parts.ports.clone(),
            metadata: self.mailbox.clone(),
            resolver: self.resolver.clone(),
            sockets: parts.sockets.clone(),
            accumulator: parts.accumulator.clone(),
        };
        shared.send(LoopMessage::Add {
            shard: Box::new(Shard::new(id, shard_parts)),
            port: port.clone(),
            context: Arc::new(context),
            ended: ended.clone(),
        });
        parts.ports.set(id, port);
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.push(RunningShard { _event_loop: event_loop, ended });
        Ok(())
    }

    /// Makes lanes for the partitions of `topic` that are new, and lets its senders go to them.
    pub(super) fn grow(&self, topic: &TopicLanes, snapshot: &ClusterSnapshot) {
        let Some(known) = snapshot.topics.get(&topic.name) else { return };
        let partitions = known.partitions.len() as u32;
        if partitions > topic.partitions() {
            let owner = |partition| {
                let leader = snapshot.partition(&topic.name, partition).and_then(|p| p.leader);
                let placement = leader.and_then(|leader| self.placements.get(&leader));
                placement.map_or(ShardId(0), |placement| placement.shard)
            };
            match self.parts.accumulator.new_lanes(topic, partitions, owner) {
                Ok(halves) => {
                    let lanes: Vec<_> = halves.iter().map(|half| half.lane.clone()).collect();
                    for half in halves {
                        let port = self.parts.ports.port(half.lane.owner());
                        port.expect("placements name shards that exist").send(Control::Lane(half));
                    }
                    topic.grow(lanes);
                }
                Err(limit) => {
                    log::error!("topic {}: lanes_max = {} is reached", topic.name, limit.lanes_max);
                    if topic.partitions() == 0 {
                        let lanes_max = limit.lanes_max;
                        self.fail_stash(
                            topic,
                            u64::MAX,
                            &DeliveryErrorCause::TooManyLanes { lanes_max },
                        );
                        return;
                    }
                }
            }
        }
        let stash = topic.lock_stash();
        topic.set_known(&stash);
        let draining = !stash.is_empty();
        drop(stash);
        if draining && let Some(topic) = self.parts.accumulator.known_topic(&topic.name) {
            self.parts.service.drain(topic);
        }
    }
}
