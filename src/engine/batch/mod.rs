//! Layer 2: lanes, and the life of a batch, which the manual's page `architecture` shows as a
//! picture.
//!
//! Fed by `producer/` (records to append, in the callers' threads), by `io/` (which has stashes
//! emptied) and by `shard/` (which drains, retries and resolves). Feeds `connection/` with finished
//! batches and users with resolved deliveries. Knows no socket, clock or thread: time comes in as
//! nanoseconds.
//!
//! A *lane*, one partition as a producer sees it, is a queue with two ends:
//!
//! * [`LaneTail`], where senders append. Any thread may use it, and it never moves. Its open batch
//!   is under [`OpenLock`], its sealed batches in a FIFO of their own.
//! * [`LaneHead`], from which the loop sends: what is in flight, what waits for a retry, identity
//!   and sequences. One shard owns it and has it to itself; it moves between shards as a message.
//!   It holds its [`LaneTail`] and takes sealed batches from there, never the other way round.
//!
//! Where the docs say that a lane is posted, queued or sent they mean its id; where a lane moves or
//! is handed over they mean its head.
//!
//! * [`Batch`]: a chain of [`Link`]s (pool segments and how far each is filled) with one completion
//!   cell. It owns its segments, and whatever has the batch (lane, head, or in-flight request) owns
//!   it: so they return to the pool when it is dropped, never while the kernel may still read them.
//! * [`TopicLanes`]: a topic's append-only table of lanes, and the [`Stash`] for records that come
//!   before the topic is known.
//! * `spilled`: runs of a stash that lie on disk; `spill_format`: their bytes there.
//!
//! [`OpenLock`]: crate::engine::sync::OpenLock

mod accumulator;
#[allow(clippy::module_inception)]
mod batch;
mod doubt;
mod drain;
mod drain_together;
mod failures;
mod fallback;
mod flush;
mod head;
mod message_set;
mod metrics;
mod numbers;
mod open;
mod pieces;
mod resolve_window;
mod sequencer;
mod settings;
mod spill_format;
mod spilled;
mod standing;
mod start_over;
mod stash;
mod tail;
#[cfg(test)]
mod tests;
mod topic;
mod undelivered;
mod unsent;

use std::sync::Arc;

pub use accumulator::{AccumulatorConfig, RecordAccumulator};
pub use batch::{AskedLeader, Batch, BatchState, Link};
pub use drain::{Drained, drain_stash, is_placing};
pub use failures::{DroppedRecords, FailedRecords, Failures};
#[cfg(feature = "internals")]
pub use failures::{UnreadFailure, UnreadFailures};
pub use fallback::{FallbackQueue, Reserved};
pub use flush::FlushWaiters;
pub use head::{DrainRules, Drainable, LaneHead, Leader};
pub use metrics::{BrokerMetrics, Metrics, PartitionMetrics, TopicMetrics};
pub use open::{NeedRoom, Refusal, take_room, take_room_through, together_size};
pub use pieces::NotUnpacked;
use resolve_window::ResolveWindow;
pub use sequencer::EpochsUsed;
use sequencer::{Sequencer, sequence_after};
pub use settings::{ACKS_ALL, TopicSettings};
pub use spill_format::{
    FRAME_HEADER, MARK_AT, SpillDamage, SpillMark, decode_spill_header, decode_spilled,
    encode_spill_header, encode_spilled, spilled_len,
};
pub use spilled::{NotRead, SPILL_RUN_BYTES_MAX, SpillFile, SpilledRange};
pub use standing::BatchStanding;
pub use stash::{FailedRuns, Stash, stashed_len};
#[cfg(feature = "internals")]
pub use tail::{AppendContext, Appended};
pub use tail::{LaneId, LaneTail, MonotonicClock, ShardId, batch_error};
pub use topic::{TopicLanes, TopicParts, TopicState};
pub use undelivered::CopiedRecord;
#[cfg(feature = "internals")]
pub use undelivered::Undelivered;
pub use unsent::Unsent;

use crate::engine::protocol::PartitionId;
use crate::engine::sync::{Abandon, CellOwner, CellStore, Handle, Issued};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause, DeliveryFailure};

/// What a completion cell knows about its records: where they go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition; `None` while the topic is not known yet.
    pub partition: Option<PartitionId>,
}

// `sync/` knows cells of any content; these are what all other layers mean.

/// The cells of one producer.
pub type Cells = CellStore<Destination, DeliveryError>;
/// The resolving side of a cell: a batch holds it, and resolves it once.
pub type BatchCell = CellOwner<Destination, DeliveryError>;
/// The waiting side of a cell: the inside of a `Delivery`.
pub type CellHandle = Handle<Destination, DeliveryError>;
/// What a [`CellHandle`] is made of.
pub type IssuedHandle = Issued<Destination, DeliveryError>;

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
