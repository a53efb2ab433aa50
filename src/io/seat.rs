//! A shard on an event loop, with what its actions reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::dialer::Dialer;
use super::metadata_mailbox::MetadataMailbox;
use crate::engine::batch::RecordAccumulator;
use crate::engine::shard::{PortTable, Shard, ShardPort};

/// What a shard's actions reach.
pub(super) struct ShardContext {
    pub ports: Arc<PortTable>,
    pub metadata: Arc<MetadataMailbox>,
    pub dialer: Arc<Dialer>,
    pub accumulator: Arc<RecordAccumulator>,
}

/// Set when a shard has ended.
#[derive(Default)]
pub(super) struct Ended(AtomicBool);

impl Ended {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Ends a seat when its shard was dropped, even if the loop unwinds or never took the seat: what is
/// still sent to the shard is dropped, flushes look again, and [`Ended`] is set.
struct EndOnDrop {
    port: Arc<ShardPort>,
    accumulator: Arc<RecordAccumulator>,
    ended: Arc<Ended>,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.port.close();
        self.accumulator.flush.notify();
        self.ended.set();
    }
}

/// A shard on a loop.
pub(super) struct Seat {
    pub shard: Box<Shard>,
    pub port: Arc<ShardPort>,
    pub context: Arc<ShardContext>,
    /// Given by the loop.
    pub serial: u64,
    /// By the broker's place in the shard: generation, and the socket's key.
    pub sockets: Vec<Option<(u32, usize)>>,
    /// Dropped after the shard.
    _ended: EndOnDrop,
}

impl Seat {
    /// `ended` is set when the shard has ended, however that comes about.
    pub(super) fn new(
        shard: Shard,
        port: Arc<ShardPort>,
        context: ShardContext,
        ended: Arc<Ended>,
    ) -> Box<Self> {
        let accumulator = context.accumulator.clone();
        let _ended = EndOnDrop { port: port.clone(), accumulator, ended };
        let (shard, context) = (Box::new(shard), Arc::new(context));
        Box::new(Seat { shard, port, context, serial: 0, sockets: Vec::new(), _ended })
    }
}
