//! Logging in at brokers by SASL (RFC 4422): mechanisms, and the credentials they present.
//!
//! A [`SaslMechanism`] begins one [`SaslExchange`] for each login; the connection carries the
//! messages of the exchange to the broker and back. [`Plain`], [`Scram`] and [`OAuthBearer`] are
//! provided. [`JaasConfig`] reads what Java programs write as `sasl.jaas.config`.
//!
//! Unlike other policies, mechanisms are asked on a thread of tidegate's that may wait: a user's
//! provider may fetch a token over the network, and SCRAM computes for milliseconds. So
//! mechanisms may hold locks; the time is still given to them ([`SaslPeer::now`]), and what they
//! say of an error never holds a password or a token.

mod credentials;
mod error;
mod jaas;
mod kept;
mod mechanism;
#[cfg(feature = "aws-msk-iam")]
mod msk_iam;
mod oauthbearer;
mod plain;
mod scram;
mod secret;

pub use credentials::{Credentials, CredentialsProvider, ReplaceableCredentials};
pub use error::{SaslError, SaslErrorKind};
pub use jaas::JaasConfig;
#[cfg(feature = "aws-msk-iam")]
pub(crate) use kept::{Fetched, Kept, Serves};
pub use mechanism::{SaslExchange, SaslMechanism, SaslPeer};
#[cfg(feature = "aws-msk-iam")]
pub use msk_iam::{AwsCredentials, AwsCredentialsProvider, MskIam};
pub use oauthbearer::{OAuthBearer, OAuthToken, TokenProvider};
pub use plain::Plain;
pub use scram::Scram;
pub use secret::Secret;
