//! What a metadata loop is made of.

use std::sync::Arc;
use std::time::Duration;

use super::client_parts::ClientParts;
use super::loops::EventLoops;
use super::security::Security;
use super::socket_options::SocketOptions;
use super::stash_thread::StashMailbox;
use crate::config::Socks5;
use crate::engine::batch::RecordAccumulator;
use crate::engine::cluster::MetadataConfig;
use crate::engine::connection::ConnectionConfig;
use crate::engine::policy::{AddressMap, RetryPolicy};
use crate::engine::shard::{PortTable, ShardConfig};

/// What a metadata loop is made of.
pub struct MetadataParts {
    /// When to ask and whom.
    pub machine: MetadataConfig,
    /// For its connection.
    pub connection: Arc<ConnectionConfig>,
    /// For every connection of the producer.
    pub sockets: SocketOptions,
    /// How connections are encrypted, and how the producer logs in.
    pub security: Security,
    /// Where brokers are reached, if not where they say.
    pub address_map: Option<Arc<dyn AddressMap>>,
    /// A proxy through which brokers are reached.
    pub socks5: Option<Socks5>,
    /// For every shard.
    pub shard: Arc<ShardConfig>,
    /// For every shard.
    pub retry_policy: Arc<dyn RetryPolicy>,
    /// Bytes of one largest batch, if batches are compressed.
    pub scratch_bytes: Option<usize>,
    /// Bytes of the pool that loops may compress in, all together.
    pub scratch_bytes_max: usize,
    /// Lanes, topics, pool.
    pub accumulator: Arc<RecordAccumulator>,
    /// Where shards run.
    pub loops: EventLoops,
    /// The shards' ports.
    pub ports: Arc<PortTable>,
    /// Shards at the most.
    pub shards_max: usize,
    /// Brokers at the most.
    pub brokers_max: usize,
    /// Topics that are not used for so long are not asked about (nanoseconds).
    pub topic_idle_max: u64,
    /// Empties stashes.
    pub stashes: Arc<StashMailbox>,
    /// How often the counters go to the log, if at all.
    pub metrics_log_interval: Option<Duration>,
    /// A seed.
    pub random: u64,
}

impl MetadataParts {
    /// The same for connections that look at the cluster, or change it.
    pub(super) fn to_probe(&self) -> ClientParts {
        ClientParts {
            bootstrap: self.machine.bootstrap.clone(),
            connection: self.connection.clone(),
            sockets: self.sockets.clone(),
            security: self.security.clone(),
            address_map: self.address_map.clone(),
            socks5: self.socks5.clone(),
            random: self.random,
        }
    }
}
