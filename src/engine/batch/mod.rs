//! Layer 2: lanes, and the life of a batch, which the manual's page `architecture` shows as a
//! picture.
//!
//! Fed by `producer/` (records to append, in the callers' threads), by `io/` (which has stashes
//! emptied) and by `shard/` (which drains, retries and resolves). Feeds `connection/` with finished
//! batches and users with resolved deliveries. Knows no socket, clock or thread: time comes in as
//! nanoseconds.
//!
//! A *lane*, one partition as a producer sees it, has two halves:
//!
//! * [`Lane`]: the senders' half, which any thread may use and which never moves. Its open batch is
//!   under [`OpenLock`], its sealed batches in a FIFO of their own.
//! * [`LaneHalf`]: the loop's half, which its one owning shard has to itself: what is in flight,
//!   what waits for a retry, identity and sequences. It moves between shards as a message. It holds
//!   its [`Lane`] and takes sealed batches from there, never the other way round.
//!
//! Where the docs say that a lane is posted, queued or sent they mean its id; where a lane moves or
//! is handed over they mean its half.
//!
//! * [`Batch`]: a chain of [`Link`]s (pool segments and how far each is filled) with one completion
//!   cell. It owns its segments, and whatever has the batch (lane, half, or in-flight request) owns
//!   it: so they return to the pool when it is dropped, never while the kernel may still read them.
//! * [`TopicLanes`]: a topic's append-only table of lanes, and the [`Stash`] for records that come
//!   before the topic is known.
//!
//! [`OpenLock`]: crate::engine::sync::OpenLock

mod accumulator;
#[allow(clippy::module_inception)]
mod batch;
mod doubt;
mod drain;
mod failures;
mod flush;
mod half;
mod lane;
mod open;
mod pieces;
mod resolve_window;
mod sequencer;
mod start_over;
mod stash;
#[cfg(test)]
mod tests;
mod topic;

use std::sync::Arc;

pub use accumulator::{AccumulatorConfig, RecordAccumulator};
pub use batch::{AskedLeader, Batch, BatchState, Link};
pub use drain::{Drained, drain_stash, is_placing};
pub use failures::{FailedRecords, Failures};
#[cfg(feature = "internals")]
pub use failures::{UnreadFailure, UnreadFailures};
pub use flush::FlushWaiters;
pub use half::{DrainRules, Drainable, LaneHalf, Leader};
#[cfg(feature = "internals")]
pub use lane::{AppendContext, Appended};
pub use lane::{Lane, LaneId, MonotonicClock, ShardId, batch_error};
pub use open::{NeedRoom, Refusal, take_room, take_room_through};
pub use pieces::NotUnpacked;
use resolve_window::ResolveWindow;
pub use sequencer::EpochsUsed;
use sequencer::{Sequencer, sequence_after};
pub use stash::{Stash, stashed_len};
pub use topic::{TopicLanes, TopicState};

use crate::engine::protocol::PartitionId;
use crate::engine::sync::{Abandon, CellOwner, CellStore, Handle};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause, DeliveryFailure};

/// What a completion cell knows about its records: where they go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition; `None` while the topic is not known yet.
    pub partition: Option<PartitionId>,
}

// `sync/` knows cells of any content; these are what all other layers mean. Beware of one name:
// `Cell` here is the owner's end of a cell (`CellOwner` there), not its memory, which is private to
// `sync/` and called `Cell` there.

/// The cells of one producer.
pub type Cells = CellStore<Destination, DeliveryError>;
/// The resolving side of a cell: a batch holds it, and resolves it once.
pub type Cell = CellOwner<Destination, DeliveryError>;
/// The waiting side of a cell: the inside of a `Delivery`.
pub type CellHandle = Handle<Destination, DeliveryError>;

impl Destination {
    /// An error for a record on its way here.
    pub fn error(&self, cause: DeliveryErrorCause, certainty: Certainty) -> DeliveryError {
        DeliveryError::new(DeliveryFailure {
            topic: self.topic.clone(),
            partition: self.partition,
            broker: None,
            cause,
            certainty,
        })
    }
}

impl Abandon<Destination> for DeliveryError {
    /// A cell dropped unresolved: its loop ended after a panic, so nobody knows what was written.
    fn abandoned(destination: &Destination) -> Self {
        destination.error(DeliveryErrorCause::LoopPanicked, Certainty::Unknown)
    }
}
