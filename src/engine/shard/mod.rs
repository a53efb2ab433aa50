//! Layer 4: everything an event loop does for one producer, except poll, read and write.
//!
//! Fed by the loop in `io/`: posted lanes, control messages (views of the cluster, lanes that
//! arrive, close), bytes received and written, connections up and down, the time. Feeds it with
//! [`Action`]s (connect, close, hand a lane over, refresh metadata), bytes to write, the next
//! deadline, and wakers to call at the end of the turn. Pure: a test drives several shards on a
//! virtual clock.
//!
//! How a posted lane becomes bytes on a socket: `handle_posted` puts it into one of its broker's
//! queues (`ready`). At the end of the turn the loop calls `finish_turn`; that calls `pump` for
//! each broker, which moves batches out of queued lanes into a request (`pack`) and the request
//! into a slot of the broker's [`Connection`]. The loop then asks `poll_transmit` which connections
//! have something to write, borrows the bytes with `slices`, writes them, and reports with
//! `handle_written`. The doc of [`Shard`] lists all calls of a turn in their order.
//!
//! * `broker`: a broker as a shard sees it: its connection, and the lanes queued for it.
//! * `port`: the shard's inbox, which any thread may put lane ids and messages into.
//! * `shard`: the state, and the calls that the loop makes.
//! * `publisher`: what the metadata thread does for shards: places brokers, makes lanes, publishes.
//! * `view`: which broker belongs to which shard, and how a lane moves.
//! * `ready`: which lanes may be sent, and when a part-filled batch is sealed.
//! * `pack`: Produce requests out of ready lanes.
//! * `request_limit`: shorter requests, where long ones are lost.
//! * `settle`, `verdict`: what a response or a lost connection means for each batch.
//! * `unfit`: what a broker is too old for.
//! * `timers`, `expiry`: deadlines, and what they mean for it.
//!
//! [`Connection`]: crate::engine::connection::Connection

mod answers;
mod aside;
mod broker;
mod clusters;
mod expiry;
mod idle;
#[cfg(all(test, loom))]
#[path = "tests/interleavings.rs"]
mod interleavings;
mod pack;
mod placements;
mod port;
mod publisher;
mod ready;
mod refused;
mod request_limit;
mod settle;
#[allow(clippy::module_inception)]
mod shard;
mod short;
mod timers;
mod unfit;
mod verdict;
mod view;

#[cfg(feature = "internals")]
pub use crate::config::ReconnectBackoff;
pub use port::{Control, PortTable, ShardPort, WakeLoop};
pub use publisher::{Publisher, PublisherLimits, ShardHost};
pub use shard::{Action, Shard, ShardConfig, ShardParts, Token};
#[cfg(feature = "internals")]
pub use view::Placement;
pub use view::View;
