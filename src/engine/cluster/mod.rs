//! Layer 1: what is known of the cluster, and when and whom to ask for more.
//!
//! Fed by the metadata loop in `io/` (responses, failures, topics wanted, the time) and by leader
//! hints from Produce responses. Feeds shards with immutable [`ClusterSnapshot`]s, and the loop
//! with what to connect to and what to ask.

mod channel;
#[cfg(test)]
mod channel_tests;
mod doubt;
mod foreign;
#[cfg(test)]
mod foreign_tests;
mod identity;
#[cfg(test)]
mod identity_tests;
mod machine;
mod questions;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod topic_tests;
mod troubled;
mod wanted;

#[cfg(feature = "internals")]
pub use crate::config::reconnect::ReconnectBackoff;
pub use channel::ChannelId;
pub use foreign::ForeignCluster;
pub use machine::{MetadataConfig, MetadataMachine, MetadataQuery};
#[cfg(feature = "internals")]
pub use snapshot::PartitionView;
pub use snapshot::{BrokerAddress, ClusterSnapshot, LeaderHint, TopicView};
#[cfg(feature = "internals")]
pub use wanted::TopicQuestion;
pub use wanted::{Arrived, UnknownTopic, Want};
