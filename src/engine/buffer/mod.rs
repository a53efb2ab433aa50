//! Off-heap memory: everything a producer buffers, under one bound.
//!
//! A [`BufferPool`] is one anonymous mapping, carved into chunks of 64 KiB that split into 16 and
//! 4 KiB and merge again. `batch/` takes [`Segment`]s from it to encode records into, sockets are
//! written from them, and they return when their batch is dropped.
//! `producer/` asks an account's level before each record and registers as a waiter when it is
//! told to; `io/` builds the pool and carves each loop's `Scratch` from it.
//!
//! * The arena: the mapping, and the tokens that own parts of it. All `unsafe` is there.
//! * Free lists: last in first out (segments still in cache), a buddy system of three sizes.
//! * Accounts: who holds how much, and whether senders may add to it. The manual's page `memory`
//!   has the rule and the watermarks.
//! * Waiters: one first-in first-out line. Freed bytes gather for its head.
//!
//! Everything that changes is under one mutex per pool, touched once per segment; levels are read
//! without it. Wakers are called without it, on the thread whose release admits the waiter.

mod account;
mod arena;
mod free_list;
mod loom;
mod options;
mod pool;
mod scratch;
mod segment;
mod ticket;
mod waiters;

#[cfg(all(test, loom))]
#[path = "tests/interleavings.rs"]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(feature = "internals")]
pub use account::Levels;
pub use account::{AccountId, AccountKind, LevelObserver};
pub use free_list::Class;
#[cfg(feature = "internals")]
pub use free_list::{CHUNK_BYTES, PAGE_BYTES};
pub use options::{BufferPoolOptions, PoolError};
#[cfg(feature = "internals")]
pub use options::{Outcome, PoolReport};
pub use pool::BufferPool;
#[cfg(feature = "internals")]
pub use pool::PoolStats;
#[cfg(feature = "internals")]
pub use scratch::Scratch;
pub use scratch::{LentScratch, ScratchSlot};
pub use segment::Segment;
pub use ticket::WaitTicket;
