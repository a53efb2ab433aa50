//! What a connection needs to know of the configuration.

use std::sync::Arc;

use super::peers::Peers;

/// What a connection needs to know of the configuration. Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Sent with every request.
    pub client_id: Arc<str>,
    /// From a request's last byte that left to its response.
    pub request_timeout: u64,
    /// The same of the handshake's answer, from a peer that never completed one: silence may be its
    /// way to refuse the version (see [`Peers`]).
    pub handshake_timeout: u64,
    /// A broker's throttle time is believed up to this. It is `delivery_timeout`: by then every
    /// record that waited has been resolved, so nothing is gained by waiting longer.
    pub throttle_max: u64,
    /// Responses larger than this close the connection, in bytes.
    pub response_bytes_max: usize,
    /// The name of the login's mechanism (SASL), if one is configured.
    pub sasl_mechanism: Option<Arc<str>>,
    /// Connections are encrypted.
    pub is_tls: bool,
    /// Brokers are reached through a proxy. Some say that the connection is made before it is: a
    /// broker that is away looks like one that closes, or keeps silent.
    pub is_proxied: bool,
    /// What is remembered of peers from one connection to the next.
    pub peers: Arc<Peers>,
}
