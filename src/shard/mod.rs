//! Layer 4: everything an event loop does for one producer, except poll, read and write.
//!
//! Fed by the loop in `io/`: posted lanes, control messages (views of the cluster, lanes that
//! arrive, close), bytes received and written, connections up and down, the time. Feeds it with
//! [`Action`]s (connect, close, hand a lane over, refresh metadata), bytes to write, the next
//! deadline, and wakers to call at the end of the turn. Pure: a test drives several shards on a
//! virtual clock.
//!
//! * `view`: which broker belongs to which shard, and how a lane moves.
//! * `ready`: which lanes may be sent, and when a part-filled batch is sealed.
//! * `pack`: Produce requests out of ready lanes.
//! * `settle`: what a response, a lost connection or a deadline means for each batch.

mod broker;
mod expiry;
#[cfg(all(test, loom))]
#[path = "tests/interleavings.rs"]
mod interleavings;
mod pack;
mod port;
mod ready;
mod settle;
#[allow(clippy::module_inception)]
mod shard;
mod verdict;
mod view;

pub use port::{Control, PortTable, ShardPort, WakeLoop};
pub use shard::{Action, Shard, ShardConfig, ShardParts, Token};
pub use view::{Placement, View};
