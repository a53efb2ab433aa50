//! Brokers that cannot say which versions of the protocol they speak.

use std::fmt;

/// A release of Kafka before 0.10, whose brokers do not know ApiVersions. Both are spoken to alike,
/// so a cluster may have brokers of either: see
/// [`broker_version_fallback`](crate::ProducerConfig::broker_version_fallback).
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::{EmbeddedCluster, KafkaVersion};
/// use tidegate::{BrokerVersion, Producer};
///
/// # let old = KafkaVersion::V0_9;
/// # let cluster = EmbeddedCluster::builder().kafka_version(old).topic("orders", 1).start()?;
/// // All brokers are of Kafka 0.9: none of them is asked which versions it speaks.
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .broker_version_fallback(BrokerVersion::V0_9)
///     .api_version_request(false)
///     .build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BrokerVersion {
    /// Kafka 0.8, 0.8.1 and 0.8.2.
    V0_8,
    /// Kafka 0.9.
    V0_9,
}

/// A version of Kafka as `broker.version.fallback` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedVersion {
    /// Its brokers do not know ApiVersions.
    Old(BrokerVersion),
    /// 0.10 or later.
    AsksVersions,
}

impl NamedVersion {
    /// Reads a version of Kafka: `0.9.0`, say. `None` if it is none.
    pub(super) fn read(name: &str) -> Option<NamedVersion> {
        let parts: Option<Vec<u32>> = name.split('.').map(|part| part.parse().ok()).collect();
        match parts?.as_slice() {
            [0, 8, ..] => Some(NamedVersion::Old(BrokerVersion::V0_8)),
            [0, 9, ..] => Some(NamedVersion::Old(BrokerVersion::V0_9)),
            [major, minor, ..] if *major > 0 || *minor > 9 => Some(NamedVersion::AsksVersions),
            _ => None,
        }
    }
}

impl fmt::Display for BrokerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BrokerVersion::V0_8 => "0.8",
            BrokerVersion::V0_9 => "0.9",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_librdkafka_writes_them() {
        let old = |version| Some(NamedVersion::Old(version));
        for (name, version) in [
            ("0.8.0", old(BrokerVersion::V0_8)),
            ("0.8.2.2", old(BrokerVersion::V0_8)),
            ("0.9.0", old(BrokerVersion::V0_9)),
            ("0.9.0.1", old(BrokerVersion::V0_9)),
            ("0.10.0", Some(NamedVersion::AsksVersions)),
            ("0.11.0.3", Some(NamedVersion::AsksVersions)),
            ("4.3.0", Some(NamedVersion::AsksVersions)),
        ] {
            assert_eq!(NamedVersion::read(name), version, "{name}");
        }
        for name in ["", "0", "0.7.2", "9", "0.9.x", "v0.9", "0.9.", "-1.2"] {
            assert_eq!(NamedVersion::read(name), None, "{name}");
        }
    }
}
