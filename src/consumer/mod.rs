//! Layer 6: what an application holds to read.
//!
//! Fed by `io/fetch_loop`, through a queue of batches that were fetched; feeds the application.
//! Batches are checked and decompressed on the thread that takes them.
//!
//! * `offsets`: offsets that are asked for and committed; [`ConsumerAnswer`]: what is waited for
//!   then.
//! * [`ConsumerBuilder`] → [`Consumer`] → [`ConsumedBatch`] → [`ConsumedRecord`].

mod answer;
mod batch;
mod builder;
#[allow(clippy::module_inception)]
mod consumer;
mod offsets;

pub use answer::ConsumerAnswer;
pub use batch::{ConsumedBatch, ConsumedRecord, ConsumedRecords};
pub use builder::ConsumerBuilder;
pub use consumer::{Batches, Consumer};
