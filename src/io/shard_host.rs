//! Starts shards on event loops, and has stashes emptied, for the metadata loop's publisher.

use std::io;
use std::sync::{Arc, Mutex};

use super::dialer::Dialer;
use super::loop_mailbox::LoopMessage;
use super::loops::Place;
use super::metadata_mailbox::MetadataMailbox;
use super::metadata_parts::MetadataParts;
use super::seat::{Ended, Seat, ShardContext};
use crate::engine::batch::{ShardId, TopicLanes};
use crate::engine::buffer::ScratchSlot;
use crate::engine::shard::{Shard, ShardHost, ShardParts, ShardPort};
use crate::locking::lock;

/// A shard, and the loop that drives it.
pub(super) struct RunningShard {
    pub(super) place: Place,
    pub(super) ended: Arc<Ended>,
}

/// Where a producer's shards run.
pub(super) struct LoopHost {
    pub(super) parts: Arc<MetadataParts>,
    pub(super) mailbox: Arc<MetadataMailbox>,
    pub(super) dialer: Arc<Dialer>,
    /// Those that were started.
    pub(super) shards: Arc<Mutex<Vec<RunningShard>>>,
}

impl ShardHost for LoopHost {
    /// On the loop with the least on it.
    fn start_shard(&mut self, id: ShardId) -> io::Result<()> {
        let parts = &self.parts;
        let index = usize::from(id.0);
        let pool = &parts.accumulator.pool;
        let scratch = match parts.scratch_bytes {
            // Records need room too.
            Some(bytes) if index > 0 && (index + 1) * bytes > parts.scratch_bytes_max => {
                return Err(io::Error::other("buffer_memory is too small to compress on more"));
            }
            Some(bytes) => {
                let scratch = pool.carve_scratch(bytes).map_err(io::Error::other)?;
                Some(ScratchSlot::new(scratch))
            }
            None => None,
        };
        let own: Vec<_> = {
            let shards = lock(&self.shards);
            shards.iter().map(|shard| shard.place.event_loop.clone()).collect()
        };
        let place = parts.loops.place(&own)?;
        let mailbox = &place.event_loop.mailbox;
        let lanes_max = parts.accumulator.config.lanes_max;
        let port = ShardPort::new(lanes_max, mailbox.beside());
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
            dialer: self.dialer.clone(),
            accumulator: parts.accumulator.clone(),
        };
        let accumulator = &parts.accumulator;
        let events = accumulator.failures.events.clone();
        let shard = Shard::new(id, shard_parts).observed_by(accumulator.meters.clone(), events);
        mailbox.send(LoopMessage::Add(Seat::new(shard, port.clone(), context, ended.clone())));
        parts.ports.set(id, port);
        let mut shards = lock(&self.shards);
        shards.push(RunningShard { place, ended });
        Ok(())
    }

    fn drain_stash(&mut self, topic: Arc<TopicLanes>) {
        self.parts.stashes.drain(topic);
    }
}
