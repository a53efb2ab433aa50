//! What a producer can be told: every setting with its unit, default, cost and use.
//!
//! [`reference()`] lists all properties; the types of the settings are at the root of the crate,
//! [`ProducerConfig`] first of all.
//!
//! Fed by the application (fields, properties from a map or a file, the environment where it asks
//! for that); feeds every layer, which read the fields and never change them.
//! [`ProducerConfig::validate`] finds what cannot work before anything is started. Policies are
//! values of `policy/` that it only carries.

pub(crate) mod address;
pub(crate) mod broker_version;
// Without TLS these are carried and refused, not read.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod cipher_suites;
pub(crate) mod consumer_config;
mod consumer_properties;
mod environment;
pub(crate) mod login;
mod names;
pub(crate) mod new_topic;
pub(crate) mod producer_config;
mod properties;
mod properties_file;
mod property;
mod property_draft;
mod property_krackle;
mod property_librdkafka;
mod property_oauth;
mod property_own;
mod property_parse;
mod property_partitioner;
mod property_sasl;
mod property_socks5;
mod property_table;
mod property_tls;
pub(crate) mod reconnect;
mod reference;
pub(crate) mod security;
pub(crate) mod socks5;
pub(crate) mod spill;
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
pub(crate) mod tls;
pub(crate) mod topic;
mod topic_properties;
mod validate;
pub(crate) mod wait_strategy;

// The root of the crate exports these by their own modules: each type has one path.
pub(crate) use address::HostPort;
pub(crate) use broker_version::BrokerVersion;
pub(crate) use consumer_config::{ConsumerConfig, IsolationLevel, OffsetReset, StartAt};
#[cfg(feature = "aws-msk-iam")]
pub(crate) use login::AwsMskIam;
pub(crate) use login::Login;
#[cfg(feature = "oidc")]
pub(crate) use login::{Oidc, TokenFile};
pub(crate) use new_topic::NewTopic;
pub(crate) use producer_config::{Acks, ClusterChange, OnDrop, ProducerConfig};
pub use property::Origin;
pub(crate) use reconnect::{JITTER_PERCENT, ReconnectBackoff, ReconnectWaits};
pub use reference::{Answer, Entry, Reference, reference};
pub(crate) use socks5::Socks5;
pub(crate) use spill::{SpillConfig, SpillFull, SpillInDoubt, SpillSync};
pub(crate) use tls::TlsConfig;
#[cfg(feature = "tls")]
pub(crate) use tls::{IdentitySource, Material, Source, StoreType, TlsVersion};
pub(crate) use topic::{TopicConfig, check_topic_name, of_topic};
pub(crate) use wait_strategy::WaitStrategy;
