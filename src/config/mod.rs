//! What a producer can be told: every setting with its unit, default, cost and use.
//!
//! Fed by the application (fields, or Kafka's property names from a map or a file); feeds every
//! layer, which read the fields and never change them. [`ProducerConfig::validate`] finds what
//! cannot work before anything is started. Policies are values of `policy/` that it only carries.

mod address;
mod broker_version;
// Without TLS these are carried and refused, not read.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod cipher_suites;
mod login;
mod producer_config;
mod properties;
mod properties_file;
mod property_oauth;
mod property_parse;
mod property_partitioner;
mod property_sasl;
mod property_socks5;
mod property_table;
mod property_tls;
mod reconnect;
mod security;
mod socks5;
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod tls;
mod validate;

pub use address::{HostPort, split_list};
pub use broker_version::BrokerVersion;
#[cfg(feature = "aws-msk-iam")]
pub use login::AwsMskIam;
pub use login::Login;
#[cfg(feature = "oidc")]
pub use login::{Oidc, TokenFile};
pub use producer_config::{Acks, ClusterChange, OnDrop, ProducerConfig};
pub use reconnect::{JITTER_PERCENT, ReconnectBackoff, ReconnectWaits};
pub use security::SecurityProtocol;
pub use socks5::Socks5;
#[cfg(feature = "tls")]
pub use tls::{IdentitySource, Material, Source};
pub use tls::{StoreType, TlsConfig, TlsVersion};
