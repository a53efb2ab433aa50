//! Layer 6: what an application holds.
//!
//! Fed by the application's threads; feeds lanes (`batch/`) with records and posts them to their
//! shards. Starts and ends the threads of `io/`.
//!
//! * [`ProducerBuilder`] → [`Producer`] → [`Topic`] → [`Delivery`] → [`RecordMetadata`].
//! * `sending`: the way of a record into its batch; `admission`: what happens to one for which
//!   there is no room, whether a thread or a task sends it.
//! * `flush`, `close`: waiting for everything that was sent.
//! * `probing`: a [`Probe`](crate::probe::Probe) with a producer's settings.

mod admission;
mod builder;
mod close;
mod delivery;
mod flush;
mod payload;
mod probing;
#[allow(clippy::module_inception)]
mod producer;
mod record;
mod sending;
mod topic;

pub use builder::ProducerBuilder;
pub use close::Close;
pub use delivery::{Delivery, RecordMetadata};
pub use flush::Flush;
pub use payload::Payload;
pub use producer::{BrokerLevels, Memory, Producer};
pub use record::{IntoHeaderValue, Record};
pub use topic::Topic;
