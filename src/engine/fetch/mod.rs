//! Reading: which partitions are asked for, of whom, from which offset, and what is made of the
//! answers. Pure, as all of the engine: `io/` drives it for `consumer/`.
//!
//! * [`Fetcher`]: one consumer's partitions, and the brokers that lead them.
//! * `questions`: what a broker is asked next.
//! * `answers`: what becomes of a partition after an answer.
//! * `lookups`: offsets that the application asks for; `patience`: how long it waits for them.
//! * [`Coordinator`]: the offsets that a group keeps, and the broker that keeps them.
//! * `batches`: the records of an answer, cut into batches.
//! * [`FetchQueue`]: what was fetched and not taken yet, between the loop and the consumer.

mod answers;
mod batches;
mod coordinator;
mod fetcher;
mod lookups;
mod patience;
mod questions;
mod queue;
#[cfg(test)]
mod tests;

pub use batches::FetchedBatch;
pub use coordinator::{Coordinator, GroupCall, GroupQuestion, TopicPartition};
pub use fetcher::{Abilities, FetchConfig, Fetcher, SlotId};
pub use lookups::CallId;
pub use questions::Question;
pub use queue::{FetchQueue, Item, PartitionStatus};

use crate::error::ConsumeErrorCause;

/// What the loop has for the consumer.
#[derive(Debug)]
pub enum Fetched {
    /// A batch.
    Batch(FetchedBatch),
    /// Nothing for a consumer is before this offset: marks of transactions, records that were
    /// aborted, what compaction took away.
    Passed(i64),
    /// The partition is not read any more, unless it is sought.
    Failed(ConsumeErrorCause),
}
