//! What connections are made of, from the settings of a producer: those of a producer, of a
//! consumer, and of who looks at a cluster.

use std::sync::Arc;
use std::time::Duration;

use super::security::Security;
use super::socket_options::SocketOptions;
use crate::config::{Acks, JITTER_PERCENT, ProducerConfig, ReconnectBackoff, Socks5, TopicConfig};
use crate::engine::cluster::{BrokerAddress, MetadataConfig};
use crate::engine::connection::{ConnectionConfig, Peers, Steps};
use crate::engine::policy::AddressMap;
use crate::engine::protocol::FRAME_SIZE_MAX_DEFAULT;
use crate::engine::random;
use crate::error::BuildError;
use crate::logging as log;

/// Another cluster is believed no earlier after it was first heard: so long a restart of all
/// brokers may take while another bootstrap name leads to another cluster.
const CLUSTER_CHANGE_HOLD: u64 = 5_000_000_000;

/// A partition that has had no leader for long is asked for this often, or as often as
/// `metadata_min_refresh` allows.
const LEADERLESS_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Login mechanisms that send the password or the token itself.
const SENT_AS_THEY_ARE: [&str; 2] = ["PLAIN", "OAUTHBEARER"];

/// What the connections of one client are made of.
#[derive(Clone)]
pub struct ClientParts {
    /// Brokers to start from.
    pub bootstrap: Vec<BrokerAddress>,
    /// For each connection.
    pub connection: Arc<ConnectionConfig>,
    /// For each connection.
    pub sockets: SocketOptions,
    /// How connections are encrypted, and how to log in.
    pub security: Security,
    /// Where brokers are reached, if not where they say.
    pub address_map: Option<Arc<dyn AddressMap>>,
    /// A proxy through which brokers are reached.
    pub socks5: Option<Socks5>,
    /// A seed.
    pub random: u64,
}

impl ClientParts {
    /// The parts that a producer with these settings would have.
    ///
    /// # Errors
    /// [`BuildError`] if an address, a certificate or a login cannot work.
    pub fn of(config: &ProducerConfig) -> Result<ClientParts, BuildError> {
        Ok(ClientParts {
            bootstrap: bootstrap(config)?,
            connection: Arc::new(connection_config(config)),
            sockets: socket_options(config),
            security: security(config)?,
            address_map: config.address_map.clone(),
            socks5: config.socks5.clone(),
            random: random::seed(),
        })
    }
}

fn bootstrap(config: &ProducerConfig) -> Result<Vec<BrokerAddress>, BuildError> {
    let addresses = config.bootstrap_addresses()?.into_iter();
    Ok(addresses.map(|it| BrokerAddress { host: it.host.into(), port: it.port }).collect())
}

fn security(config: &ProducerConfig) -> Result<Security, BuildError> {
    let mut security = Security::default();
    #[cfg(feature = "tls")]
    if let Some(tls) = &config.tls {
        security = security.with_tls(super::TlsClient::new(tls)?);
    }
    if let Some(login) = &config.sasl {
        let mechanism = super::mechanism(login)?;
        let name = mechanism.name();
        if config.tls.is_none() && SENT_AS_THEY_ARE.contains(&name) {
            log::warn!(
                "{name} without TLS: the password or token can be read by everything between this \
                 machine and the brokers"
            );
        }
        security = security.with_login(mechanism);
    }
    Ok(security)
}

fn connection_config(config: &ProducerConfig) -> ConnectionConfig {
    ConnectionConfig {
        client_id: config.client_id.as_str().into(),
        request_timeout: nanos(config.request_timeout),
        handshake_timeout: nanos(config.connection_setup_timeout),
        throttle_max: nanos(config.longest_delivery()),
        response_bytes_max: FRAME_SIZE_MAX_DEFAULT,
        sasl_mechanism: config.sasl.as_ref().map(|it| it.mechanism_name().into()),
        is_tls: config.tls.is_some(),
        is_proxied: config.socks5.is_some(),
        peers: Arc::new(Peers::new(match config.broker_version_fallback {
            None => Steps::Asked,
            Some(version) if config.api_version_request => Steps::AskedOrAssumed(version),
            Some(version) => Steps::Assumed(version),
        })),
    }
}

/// When to ask for metadata, and whom.
pub fn metadata_config(
    config: &ProducerConfig,
    has_identity: bool,
    bootstrap: Vec<BrokerAddress>,
) -> MetadataConfig {
    MetadataConfig {
        bootstrap,
        age_max: nanos(config.metadata_max_age),
        interval_min: nanos(config.metadata_min_refresh),
        leaderless_interval_max: nanos(LEADERLESS_INTERVAL_MAX),
        on_cluster_change: config.on_cluster_change,
        cluster_change_hold: CLUSTER_CHANGE_HOLD,
        topic_unknown_max: nanos(config.topic_unknown_max.min(config.longest_delivery())),
        delivery_timeout: nanos(config.delivery_timeout),
        reconnect_backoff: reconnect_backoff(config),
        auto_create: config.allow_auto_create_topics,
        idempotent: has_identity,
        idempotence_required: config.requires_idempotence(),
    }
}

/// How long the kernel tries in vain. Where brokers answer, requests have a timeout of their own,
/// and the kernel is only to notice what that cannot. It must not be quicker: a peer that reads
/// slowly, with a small window, is out of room all the time by the kernel's count, although bytes
/// leave.
fn user_timeout(config: &ProducerConfig) -> Duration {
    let of_topics = config.topics.values().filter_map(TopicConfig::own_acks);
    match std::iter::once(config.acks).chain(of_topics).all(|acks| acks == Acks::None) {
        true => config.request_timeout,
        false => config.request_timeout.max(config.longest_delivery()),
    }
}

fn socket_options(config: &ProducerConfig) -> SocketOptions {
    SocketOptions {
        send_buffer: config.send_buffer,
        receive_buffer: config.receive_buffer,
        keepalive: config.tcp_keepalive,
        user_timeout: user_timeout(config),
        setup_timeout: nanos(config.connection_setup_timeout),
        setup_timeout_max: nanos(config.connection_setup_timeout_max),
        reconnect: reconnect_backoff(config),
    }
}

/// The waits between attempts to connect.
pub fn reconnect_backoff(config: &ProducerConfig) -> ReconnectBackoff {
    ReconnectBackoff {
        first: nanos(config.reconnect_backoff),
        longest: nanos(config.reconnect_backoff_max),
        quick: nanos(config.reconnect_quick),
        jitter_percent: JITTER_PERCENT,
    }
}

/// A time in nanoseconds.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c31_a_throttle_is_believed_up_to_delivery_timeout() {
        for seconds in [60, 120, 600] {
            let delivery_timeout = Duration::from_secs(seconds);
            let config = ProducerConfig { delivery_timeout, ..ProducerConfig::default() };
            assert_eq!(connection_config(&config).throttle_max, nanos(delivery_timeout));
        }
    }
}
