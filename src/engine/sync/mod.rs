//! Layer 0: the concurrency parts, each small enough to be modelled on its own.
//!
//! * [`OpenLock`]: the lock around a lane's open batch. Senders take it; an event loop only
//!   tries, and otherwise leaves the wish that whoever holds it seals the batch.
//! * [`CellStore`], [`CellOwner`], [`Handle`]: completion cells, one for each batch. The batch
//!   holds the owner and resolves it once; every delivery holds a handle. (With the content that a
//!   producer's cells have, `batch/` calls the three `Cells`, `BatchCell` and `CellHandle`.)
//! * [`LaneQueue`], [`Mailbox`] and [`Doorbell`]: "this lane has something" from senders to a loop,
//!   messages to it until it ends, and a wake only for a loop that sleeps.
//! * [`wait_until`], [`block_on`]: a thread that waits for what futures wait for.
//! * [`OneShot`]: one outcome that any number of threads and tasks wait for.
//! * [`Generation`]: whether what is at hand was made by this process or by one it is a fork of.
//!
//! Fed by `batch/` (lanes lock, issue and resolve), `shard/` and `io/` (queues, sleeping) and
//! `producer/` (polling, waiting). Feeds the wakers of the application's tasks, through
//! [`WakeList`], at the end of a loop's turn. Knows no record, no socket and no clock: a deadline
//! comes in as a closure.
//!
//! Everything that shares memory takes its atomics from `loom.rs`, so that
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib interleavings` walks through them.
//! `unsafe` is confined to `open_lock.rs` and the cell's files, `cell.rs`, `cell_store.rs` and
//! `owner.rs`.

mod cell;
mod cell_store;
mod doorbell;
mod forward;
mod generation;
mod handle;
mod lane_queue;
pub(crate) mod loom;
mod mailbox;
mod one_shot;
mod open_lock;
mod owner;
mod parker;
mod waiter_list;
mod wake_list;

pub use cell_store::{CellStore, FailureObserver};
pub use doorbell::Doorbell;
pub use forward::ForwardTable;
pub use generation::Generation;
pub use handle::{CellId, Handle, Outcome};
pub use lane_queue::LaneQueue;
pub use mailbox::{Mailbox, WakeLoop};
pub use one_shot::OneShot;
#[cfg(feature = "internals")]
pub use open_lock::OpenGuard;
pub use open_lock::OpenLock;
pub use owner::{Abandon, CellOwner, Issued, SharedFailure};
pub use parker::{Parker, block_on, wait_until};
pub use wake_list::WakeList;

#[cfg(test)]
mod tests;
