//! Layer 1: every extension point, in one folder.
//!
//! A policy is asked and answers with a decision; the mechanism acts on it. Policies are told what
//! they need as arguments (levels, elapsed time, random numbers), so they read no clock, take no
//! lock and can be driven by a simulation. All traits are object-safe, and closures are accepted.
//!
//! * [`Partitioner`] chooses a record's partition; a [`PartitionerFactory`] makes one per topic.
//!   [`BuiltInPartitioners`] makes those that are there already.
//! * [`BackoffStrategy`] says what happens to a record for which there is no room.
//! * [`Fallback`] gets the records that fail.
//! * [`RetryPolicy`] says how long a failed attempt waits before the next.
//! * [`AddressMap`] says where a broker is reached, if not where it says.
//! * [`SaslMechanism`] logs in at brokers; it may wait and hold locks (`sasl/mod.rs`).
//!
//! Fed by `producer/` (records, pressure), `batch/` (stashed records) and `shard/` (failed
//! attempts); feeds its decisions back to them. A user's policy runs under no lock: partitioners
//! and strategies on the sending thread, a partitioner also on the threads that empty stashes
//! (`batch/drain.rs`), the retry policy on event loops. A panic costs that one call.

mod address_map;
mod backoff;
mod built_in;
mod chooser;
mod default_partitioner;
mod fallback;
mod interceptor;
mod key_hash;
mod key_partitioner;
mod murmur2;
mod partitioner;
mod retry;
mod rotating;
mod sasl;
mod spreading;
mod sticky_partitioner;
#[cfg(test)]
mod test_topic;

pub use address_map::{AddressMap, BrokerPlace};
pub use backoff::{
    Backoff, BackoffStrategy, DropRecords, ParkSender, Pressure, RejectRecords, SpillRecords,
    UseFallback,
};
pub use built_in::BuiltInPartitioners;
pub use chooser::Chooser;
pub use default_partitioner::{DefaultPartitioner, DefaultPartitioners};
pub use fallback::{Fallback, UndeliveredRecord};
pub use interceptor::{InterceptedRecord, Interceptor, OnOutcome, RecordOutcome};
pub use key_hash::KeyHash;
pub use key_partitioner::{KeyPartitioner, Keyless};
pub use murmur2::murmur2;
pub use partitioner::{
    EveryTopic, Moment, PartitionRequest, PartitionView, Partitioner, PartitionerFactory,
    Partitions,
};
pub use retry::{ExponentialRetry, RetryPolicy};
pub use rotating::RotatingPartitioner;
#[cfg(feature = "aws-msk-iam")]
pub use sasl::{AwsCredentials, AwsCredentialsProvider, MskIam};
pub use sasl::{
    Credentials, CredentialsProvider, JaasConfig, OAuthBearer, OAuthToken, Plain,
    ReplaceableCredentials, SaslError, SaslErrorKind, SaslExchange, SaslMechanism, SaslPeer, Scram,
    Secret, TokenProvider,
};
#[cfg(feature = "aws-msk-iam")]
pub(crate) use sasl::{Fetched, Kept, Serves};
pub use spreading::{ExplicitPartitioner, RandomPartitioner, RoundRobinPartitioner};
pub use sticky_partitioner::{STAY_MS_MIN, StickyPartitioner};
