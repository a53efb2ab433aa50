//! Broker addresses as they are written in a configuration. Syntax only: names are resolved later,
//! on a thread of their own, and a host that cannot be resolved is an event, not a build error.

use std::fmt;

use super::security::SecurityProtocol;
use crate::error::BuildError;

/// A host and a port, as written: a name, an IPv4 or an IPv6 address.
///
/// ```
/// use tidegate::HostPort;
///
/// let broker = HostPort { host: "fe80::1".to_owned(), port: 9092 };
/// assert_eq!(broker.to_string(), "[fe80::1]:9092"); // as in `bootstrap_servers`
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host's name or address; an IPv6 address without its brackets.
    pub host: String,
    /// The port, from 1.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Splits a comma-separated list into its entries, without spaces and empty ones.
pub fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// Parses one `host:port`, with an IPv6 host in brackets, and a protocol allowed in front as the
/// Java client does (`SASL_SSL://`). One that is not the configuration's is an error: a record must
/// not leave unencrypted by mistake.
pub fn parse_address(address: &str, protocol: SecurityProtocol) -> Result<HostPort, BuildError> {
    let invalid = |reason| BuildError::InvalidAddress { address: address.to_owned(), reason };
    let bare = match address.split_once("://") {
        None => address,
        Some((scheme, rest)) => {
            let contradiction = contradiction(scheme, protocol);
            contradiction.map_or(Ok(rest), |reason| Err(invalid(reason)))?
        }
    };
    let (host, port) = match bare.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(invalid("the bracket is not closed"))?;
            if !is_ipv6_text(host) {
                return Err(invalid("the brackets hold no IPv6 address"));
            }
            (host, port.strip_prefix(':').ok_or(invalid("the port is missing"))?)
        }
        None => {
            let (host, port) = bare.rsplit_once(':').ok_or(invalid("the port is missing"))?;
            if host.contains(':') {
                return Err(invalid("write an IPv6 address in brackets, as in [::1]:9092"));
            }
            if host.is_empty() {
                return Err(invalid("the host is missing"));
            }
            if !host.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_')) {
                return Err(invalid("the host has a character that no name has"));
            }
            (host, port)
        }
    };
    let number = port.bytes().all(|digit| digit.is_ascii_digit()).then(|| port.parse::<u16>());
    match number {
        Some(Ok(port)) if port > 0 => Ok(HostPort { host: host.to_owned(), port }),
        _ => Err(invalid("the port is not a number from 1 to 65535")),
    }
}

/// Why an address may not begin with this, where the configuration comes to `protocol`.
fn contradiction(scheme: &str, protocol: SecurityProtocol) -> Option<&'static str> {
    use SecurityProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
    Some(match SecurityProtocol::from_name(scheme) {
        Some(named) if named == protocol => return None,
        Some(Plaintext) => "PLAINTEXT:// contradicts the configuration: TLS or a login is set up",
        Some(Ssl) => "SSL:// needs TLS, and no login: set tls (security.protocol=SSL)",
        Some(SaslPlaintext) => {
            "SASL_PLAINTEXT:// needs a login, and no TLS: set sasl \
             (security.protocol=SASL_PLAINTEXT)"
        }
        Some(SaslSsl) => {
            "SASL_SSL:// needs TLS and a login: set tls and sasl (security.protocol=SASL_SSL)"
        }
        None => "only PLAINTEXT://, SSL://, SASL_PLAINTEXT:// or SASL_SSL:// may stand in front",
    })
}

/// Whether it looks like an IPv6 address, with or without a zone. The resolver checks it for good.
fn is_ipv6_text(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "eth0"));
    address.contains(':')
        && !zone.is_empty()
        && address.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_and_addresses() {
        for (address, host, port) in [
            ("kafka:9092", "kafka", 9092),
            ("kafka-1.example.org:1", "kafka-1.example.org", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:9092", "::1", 9092),
            ("[fe80::1%eth0]:9092", "fe80::1%eth0", 9092),
            ("PLAINTEXT://kafka_2:9092", "kafka_2", 9092),
        ] {
            let parsed = parse_address(address, SecurityProtocol::Plaintext).expect(address);
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            let bare = address.trim_start_matches("PLAINTEXT://");
            assert_eq!(parsed.to_string(), bare);
        }
        let entries: Vec<&str> = split_list(" a:1 ,, b:2,").collect();
        assert_eq!(entries, ["a:1", "b:2"]);
    }

    #[test]
    fn refuses_what_is_no_address() {
        for (address, part) in [
            ("kafka", "port is missing"),
            (":9092", "host is missing"),
            ("kafka:", "not a number"),
            ("kafka:0", "not a number"),
            ("kafka:65536", "not a number"),
            ("kafka:+92", "not a number"),
            ("::1:9092", "in brackets"),
            ("[::1]", "port is missing"),
            ("[::1:9092", "not closed"),
            ("[kafka]:9092", "no IPv6 address"),
            ("kaf ka:9092", "character"),
            ("SSL://kafka:9093", "security.protocol=SSL"),
            ("SASL_SSL://kafka:9093", "needs TLS and a login"),
        ] {
            let error =
                parse_address(address, SecurityProtocol::Plaintext).expect_err(address).to_string();
            assert!(error.contains(address) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_address_may_say_the_protocol_that_is_configured_and_no_other() {
        let parsed =
            parse_address("SSL://kafka:9093", SecurityProtocol::Ssl).expect("it is as configured");
        for named in SecurityProtocol::ALL {
            assert_eq!(parse_address("kafka:9093", named).as_ref(), Ok(&parsed));
            for configured in SecurityProtocol::ALL {
                let address = format!("{named}://kafka:9093");
                let result = parse_address(&address, configured);
                assert_eq!(result.is_ok(), named == configured, "{address}: {configured}");
                if let Err(error) = result {
                    assert!(error.to_string().contains(&format!("{named}://")), "{error}");
                }
            }
        }
    }
}
