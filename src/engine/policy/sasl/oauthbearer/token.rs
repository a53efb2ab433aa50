//! A token with what goes along.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::engine::policy::sasl::error::{SaslError, SaslErrorKind};
use crate::engine::policy::sasl::secret::Secret;

/// The name that the token itself has among the key-value pairs of a message.
const RESERVED_KEY: &str = "auth";

/// A bearer token, when it expires, and extensions (KIP-342). `Debug` does not show the token or
/// the extensions' values.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use std::time::Duration;
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{OAuthBearer, OAuthToken, Producer};
///
/// # let check = |token: &str| (token == "token-of-shop").then_some(Duration::from_secs(60));
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).check_tokens(check).start()?;
/// let login = OAuthBearer::new(|| {
///     let token = OAuthToken::new("token-of-shop").lifetime(Duration::from_secs(60));
///     Ok(token.extension("logicalCluster", "lkc-42"))
/// });
/// let producer = Producer::builder(&cluster.bootstrap_servers()).sasl(login).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OAuthToken {
    token: Secret,
    pub(super) expiry: Expiry,
    extensions: Vec<(String, String)>,
}

/// When a token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Unknown,
    At(SystemTime),
    After(Duration),
}

impl OAuthToken {
    /// A token, as it stands in an `Authorization: Bearer` header; mostly a JWT. It is checked when
    /// a login begins: only the characters of RFC 6750 section 2.1 (letters, digits, `-._~+/`, and
    /// `=` at the end) can be sent. Whether it is valid is the broker's to say.
    pub fn new(token: impl Into<Secret>) -> Self {
        OAuthToken { token: token.into(), expiry: Expiry::Unknown, extensions: Vec::new() }
    }

    /// When the token expires: `exp` of a JWT. Replaces [`lifetime`](OAuthToken::lifetime). Without
    /// either, a token serves one login only, and the client does not know when to log in again.
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expiry = Expiry::At(time);
        self
    }

    /// How long the token is valid, counted from when its fetching began: `expires_in` of a token
    /// endpoint's answer. Replaces [`expires_at`](OAuthToken::expires_at).
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.expiry = Expiry::After(lifetime);
        self
    }

    /// Adds an extension for the broker's validator (KIP-342), such as `logicalCluster` of
    /// Confluent Cloud. Checked when a login begins: a key has ASCII letters only and is not
    /// `auth`; a value has printable ASCII characters, blanks, tabs and ends of lines, at least
    /// one.
    pub fn extension(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((key.into(), value.into()));
        self
    }

    pub(super) fn bearer(&self) -> &[u8] {
        self.token.expose()
    }

    pub(super) fn extensions(&self) -> &[(String, String)] {
        &self.extensions
    }

    /// Whether a text repeats the token.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let token = self.token.expose();
        text.as_bytes().windows(token.len()).any(|window| window == token)
    }

    /// Refuses what the wire form cannot hold, without showing any of it.
    pub(super) fn check(&self) -> Result<(), SaslError> {
        if self.token.is_empty() {
            return Err(unusable("the token is empty"));
        }
        if !is_b64token(self.token.expose()) {
            return Err(unusable(
                "the token has characters that a bearer token cannot have (RFC 6750 section 2.1); \
                 blanks and ends of lines around it must be removed",
            ));
        }
        for (index, (key, value)) in self.extensions.iter().enumerate() {
            let number = index + 1;
            if key == RESERVED_KEY {
                return Err(unusable(format_args!(
                    "extension {number} is named \"auth\", which is the token's own name"
                )));
            }
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                return Err(unusable(format_args!(
                    "the name of extension {number} must be ASCII letters (RFC 7628 section 3.1)"
                )));
            }
            if self.extensions[..index].iter().any(|(other, _)| other == key) {
                return Err(unusable(format_args!("extension {number} is there twice")));
            }
            let fit = |byte: u8| matches!(byte, 0x21..=0x7e | b' ' | b'\t' | b'\r' | b'\n');
            if value.is_empty() || !value.bytes().all(fit) {
                return Err(unusable(format_args!(
                    "the value of extension {number} must be printable ASCII, and not empty (RFC \
                     7628 section 3.1)"
                )));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for OAuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.extensions.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("OAuthToken")
            .field("token", &self.token)
            .field("expiry", &self.expiry)
            .field("extensions", &names)
            .finish()
    }
}

/// RFC 6750: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &token[..token.len() - padding];
    let fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
    !body.is_empty() && body.iter().all(fit)
}

fn unusable(what: impl fmt::Display) -> SaslError {
    let words = format_args!("the application's provider gave an unusable token: {what}");
    SaslError::new(SaslErrorKind::Credentials, words)
}
