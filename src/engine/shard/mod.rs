//! Layer 4: everything an event loop does for one producer, except poll, read and write.
//!
//! Fed by the loop in `io/`: posted lanes, control messages (views of the cluster, lanes that
//! arrive, close), bytes received and written, connections up and down, the time. Feeds it with
//! [`Action`]s (connect, close, hand a lane over, refresh metadata), bytes to write, the next
//! deadline, and wakers to call at the end of the turn. Pure: a test drives several shards on a
//! virtual clock.
//!
//! The doc of [`Shard`] lists the calls of a turn in their order. How a posted lane becomes bytes
//! on a socket stands in the manual's page `architecture`, under "The way of a record".
//!
//! * `port`: the shard's inbox, which any thread may put lane ids and messages into.
//! * `shard`: the state, and the calls that the loop makes; `turn`: their order in a turn.
//! * `broker`: a broker as a shard sees it: its connection, and the lanes queued for it.
//! * `view`: what the shard is told of the cluster, and how a lane moves; `clusters`: its brokers
//!   turn out to be of another cluster.
//! * `ready`: which lanes may be sent, and when a part-filled batch is sealed.
//! * `pack`: Produce requests out of ready lanes; `old_format`: those that carry message sets;
//!   `unfit`: brokers that are too old for what is to be sent;
//!   `request_limit`: shorter requests, where long ones are lost.
//! * `settle`, `verdict`, `answers`, `refused`: what a response or a lost connection means for each
//!   batch.
//! * `under_min_isr`: lanes that wait for followers; `aside`: lanes whose leader denies their
//!   topic.
//! * `stalls`: brokers that take nothing, of which senders without a key are told.
//! * `timers`, `expiry`: when lanes are looked at without being posted, and their deadlines.
//! * `publisher`, `placements`, `idle`: what the metadata thread does for shards: makes lanes and
//!   publishes, gives brokers shards and accounts, finds topics that are not used.

mod acks_turns;
mod answers;
mod aside;
mod broker;
mod changes;
mod clusters;
mod expiry;
mod explain;
mod idle;
#[cfg(all(test, loom))]
#[path = "tests/interleavings.rs"]
mod interleavings;
mod links;
mod load;
mod old_format;
mod pack;
mod placements;
mod port;
mod publisher;
mod purge;
mod ready;
mod refused;
mod request_limit;
mod settle;
#[allow(clippy::module_inception)]
mod shard;
mod stalls;
mod timers;
mod turn;
mod under_min_isr;
mod unfit;
mod verdict;
mod view;

#[cfg(feature = "internals")]
pub use crate::config::reconnect::ReconnectBackoff;
pub use explain::{About, Answer, LaneStanding, Question};
pub use load::LoopLoad;
pub use port::{Control, PortTable, PurgeOrder, ShardPort};
pub use publisher::{Publisher, PublisherLimits, ShardHost};
pub use shard::{Action, Shard, ShardConfig, ShardParts, Token};
pub use turn::{Driver, turn};
#[cfg(feature = "internals")]
pub use view::Placement;
pub use view::View;
