//! How connections to brokers are protected.

use std::fmt;

/// Kafka's `security.protocol`: whether connections are encrypted, and whether the client logs in.
///
/// ```
/// use tidegate::{ProducerConfig, Scram, SecurityProtocol};
///
/// let mut config = ProducerConfig::new("broker-1:9093");
/// config.security_protocol = Some(SecurityProtocol::SaslSsl);
/// config.sasl = Some(Scram::sha_512("shop", "secret").into());
/// assert!(config.validate().is_err()); // TLS was forgotten: nothing is sent in the clear
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    /// `PLAINTEXT`: neither. The default.
    #[default]
    Plaintext,
    /// `SSL`: TLS; a client certificate, if there is one, says who the client is.
    Ssl,
    /// `SASL_PLAINTEXT`: a login, without encryption.
    SaslPlaintext,
    /// `SASL_SSL`: a login over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// All of them, in Kafka's order.
    pub const ALL: [SecurityProtocol; 4] = [
        SecurityProtocol::Plaintext,
        SecurityProtocol::Ssl,
        SecurityProtocol::SaslPlaintext,
        SecurityProtocol::SaslSsl,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The one of this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    /// Whether connections are encrypted.
    pub fn has_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    /// Whether the client logs in.
    pub fn has_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_known_by_kafkas_names_in_any_case() {
        for protocol in SecurityProtocol::ALL {
            let name = protocol.to_string();
            assert_eq!(SecurityProtocol::from_name(&name), Some(protocol));
            assert_eq!(SecurityProtocol::from_name(&name.to_lowercase()), Some(protocol));
            assert_eq!(protocol.has_tls(), name.ends_with("SSL"));
            assert_eq!(protocol.has_sasl(), name.starts_with("SASL"));
        }
        assert_eq!(SecurityProtocol::from_name("TLS"), None);
    }
}
