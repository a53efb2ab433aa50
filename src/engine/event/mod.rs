//! Layer 1: what happens to a producer, for an application that listens.
//!
//! The threads that work put events into the producer's ring ([`EventHub::publish`]): a lock, a
//! push, and no code of the application's. One thread takes them out and hands them to listeners,
//! each of which has an [`EventRing`] of its own, or calls the application with them. Without a
//! listener publishing is one load.

mod hub;
mod kinds;
mod ring;

pub use hub::EventHub;
pub use kinds::Event;
pub use ring::EventRing;
