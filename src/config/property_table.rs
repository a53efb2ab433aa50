//! Every property name, and what it sets.

use std::sync::Arc;

use super::address::split_list;
use super::broker_version::NamedVersion;
use super::producer_config::{OnDrop, ProducerConfig};
use super::property_parse::Setting;
use super::property_partitioner::PartitionerDraft;
use super::property_socks5::Socks5Draft;
use super::property_tls::SecurityDraft;
use crate::engine::policy::{DropRecords, RejectRecords};
use crate::engine::protocol::compression::Compression;
use crate::error::BuildError;
use crate::logging as log;

/// A configuration in the making: what depends on several properties is put together at the end,
/// so that their order does not matter.
pub(super) struct Draft {
    pub(super) config: ProducerConfig,
    pub(super) security: SecurityDraft,
    pub(super) socks5: Socks5Draft,
    pub(super) partitioner: PartitionerDraft,
    codecs: Vec<Codec>,
    gzip_level: i32,
    lz4_level: i32,
    zstd_level: i32,
    delivery_timeout_set: bool,
}

#[derive(Clone, Copy)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Draft {
    pub(super) fn new() -> Self {
        // The levels are Kafka's defaults; its -1 for gzip is zlib's 6.
        Draft {
            config: ProducerConfig::default(),
            security: SecurityDraft::default(),
            socks5: Socks5Draft::default(),
            partitioner: PartitionerDraft::default(),
            codecs: Vec::new(),
            gzip_level: 6,
            lz4_level: 9,
            zstd_level: 3,
            delivery_timeout_set: false,
        }
    }

    pub(super) fn finish(self) -> Result<ProducerConfig, BuildError> {
        let mut config = self.config;
        let protection = self.security.finish()?;
        config.security_protocol = protection.protocol;
        (config.tls, config.sasl) = (protection.tls, protection.sasl);
        config.socks5 = self.socks5.finish()?;
        self.partitioner.finish(&mut config)?;
        let compression = |codec| match codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip { level: self.gzip_level },
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4 { level: self.lz4_level },
            Codec::Zstd => Compression::Zstd { level: self.zstd_level },
        };
        let mut codecs = self.codecs.iter().copied().map(compression);
        config.compression = codecs.next().unwrap_or_default();
        config.compression_fallback = codecs.collect();
        // As the Java client does: a default gives way to what was asked for, a value does not.
        let least = config.linger.saturating_add(config.request_timeout);
        if !self.delivery_timeout_set && config.delivery_timeout < least {
            log::warn!(
                "delivery.timeout.ms is raised to linger.ms + request.timeout.ms: {least:?}"
            );
            config.delivery_timeout = least;
        }
        Ok(config)
    }
}

/// One property: its name, and what reads its value.
pub(super) type Property = (&'static str, fn(&mut Draft, Setting<'_>) -> Result<(), BuildError>);

/// Makes a table entry that stores what `$read` makes of the value in a field of the configuration.
macro_rules! field {
    ($name:literal, $field:ident, $read:ident) => {
        ($name, |draft, setting| {
            draft.config.$field = setting.$read()?.into();
            Ok(())
        })
    };
}

/// The names of Kafka's own `ProducerConfig`.
pub(super) const KAFKA: &[Property] = &[
    ("bootstrap.servers", |draft, setting| {
        draft.config.bootstrap_servers = split_list(setting.value).map(str::to_owned).collect();
        Ok(())
    }),
    ("client.id", |draft, setting| {
        draft.config.client_id = setting.value.to_owned();
        Ok(())
    }),
    field!("acks", acks, acks),
    field!("enable.idempotence", enable_idempotence, boolean),
    ("retries", |draft, setting| {
        draft.config.retries = setting.integer(0, i64::from(i32::MAX))? as u32;
        Ok(())
    }),
    field!("max.in.flight.requests.per.connection", max_in_flight, size),
    field!("linger.ms", linger, milliseconds),
    field!("batch.size", batch_size, size),
    field!("buffer.memory", buffer_memory, size),
    field!("max.request.size", max_request_size, size),
    field!("request.timeout.ms", request_timeout, milliseconds),
    ("delivery.timeout.ms", |draft, setting| {
        draft.config.delivery_timeout = setting.milliseconds()?;
        draft.delivery_timeout_set = true;
        Ok(())
    }),
    field!("max.block.ms", max_block, milliseconds),
    field!("retry.backoff.ms", retry_backoff, milliseconds),
    field!("retry.backoff.max.ms", retry_backoff_max, milliseconds),
    field!("reconnect.backoff.ms", reconnect_backoff, milliseconds),
    field!("reconnect.backoff.max.ms", reconnect_backoff_max, milliseconds),
    field!("socket.connection.setup.timeout.ms", connection_setup_timeout, milliseconds),
    field!("socket.connection.setup.timeout.max.ms", connection_setup_timeout_max, milliseconds),
    field!("connections.max.idle.ms", connections_max_idle, milliseconds_or_never),
    field!("metadata.max.age.ms", metadata_max_age, milliseconds),
    field!("metadata.max.idle.ms", metadata_max_idle, milliseconds),
    field!("send.buffer.bytes", send_buffer, socket_buffer),
    field!("receive.buffer.bytes", receive_buffer, socket_buffer),
    ("broker.version.fallback", |draft, setting| {
        draft.config.broker_version_fallback = match NamedVersion::read(setting.value) {
            Some(NamedVersion::Old(version)) => Some(version),
            // Brokers since then say themselves what they speak.
            Some(NamedVersion::AsksVersions) => None,
            None => return Err(setting.refuse("it must be a version of Kafka, such as 0.9.0")),
        };
        Ok(())
    }),
    field!("api.version.request", api_version_request, boolean),
    ("compression.type", |draft, setting| {
        let names = setting.value.split(',').map(str::trim);
        draft.codecs = names.map(|name| codec(setting, name)).collect::<Result<_, _>>()?;
        Ok(())
    }),
    ("compression.gzip.level", |draft, setting| {
        let level = setting.integer(-1, 9)? as i32;
        if level == 0 {
            return Err(setting.refuse("it must be from 1 to 9, or -1 for the default"));
        }
        draft.gzip_level = if level == -1 { 6 } else { level };
        Ok(())
    }),
    ("compression.lz4.level", |draft, setting| {
        draft.lz4_level = setting.integer(1, 17)? as i32;
        log::warn!(
            "compression.lz4.level has no effect in this client: every level compresses alike"
        );
        Ok(())
    }),
    ("compression.zstd.level", |draft, setting| {
        draft.zstd_level = setting.integer(-131_072, 22)? as i32;
        Ok(())
    }),
    // Accepted for the sake of existing files: they name Java classes, and records are bytes here.
    ("key.serializer", |_, _| Ok(())),
    ("value.serializer", |_, _| Ok(())),
    ("client.dns.lookup", |_, setting| {
        let reason = "every address of a name is tried: only use_all_dns_ips can be had";
        setting.only(&["use_all_dns_ips"], reason)
    }),
];

/// This client's own names.
pub(super) const OWN: &[Property] = &[
    field!("tidegate.request.bytes.max", request_bytes_max, size),
    field!("tidegate.reconnect.quick.ms", reconnect_quick, milliseconds),
    field!("tidegate.metadata.min.refresh.ms", metadata_min_refresh, milliseconds),
    field!("tidegate.producer.id.idle.max.ms", producer_id_idle_max, milliseconds),
    field!("tidegate.topic.unknown.max.ms", topic_unknown_max, milliseconds),
    field!("tidegate.cluster.change", on_cluster_change, cluster_change),
    field!("tidegate.allow.auto.create.topics", allow_auto_create_topics, boolean),
    ("tidegate.tcp.keepalive.ms", |draft, setting| {
        draft.config.tcp_keepalive = Some(setting.milliseconds()?).filter(|time| !time.is_zero());
        Ok(())
    }),
    ("tidegate.close.on.drop.ms", |draft, setting| {
        draft.config.on_drop = match setting.value {
            "detach" => OnDrop::Detach,
            _ => OnDrop::Wait(setting.milliseconds()?),
        };
        Ok(())
    }),
    field!("tidegate.callbacks.max", callbacks_max, size),
    field!("tidegate.events.max", events_max, size),
    ("tidegate.metrics.log.interval.ms", |draft, setting| {
        let interval = Some(setting.milliseconds()?).filter(|time| !time.is_zero());
        draft.config.metrics_log_interval = interval;
        Ok(())
    }),
    field!("tidegate.lanes.max", lanes_max, size),
    field!("tidegate.brokers.max", brokers_max, size),
    field!("tidegate.high.watermark", high_watermark, size),
    field!("tidegate.low.watermark", low_watermark, size),
    field!("tidegate.part.filled.floor.us", part_filled_floor, microseconds),
    field!("tidegate.cores", cores, cores),
    field!("tidegate.pinning", pinning, boolean),
    ("tidegate.backoff.strategy", |draft, setting| {
        draft.config.backoff = match setting.value {
            "park" => None,
            "drop" => Some(Arc::new(DropRecords)),
            "reject" => Some(Arc::new(RejectRecords)),
            _ => return Err(setting.refuse("it must be park, drop or reject")),
        };
        Ok(())
    }),
];

/// Names that Kafka knows and this client does not act on, by their beginnings, with the reason.
/// Each is an error: silently ignoring one could cost security or guarantees.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("sasl.kerberos.", "Kerberos (GSSAPI) is not there"),
    (
        "sasl.oauthbearer.",
        "it is a broker's, or of a way to fetch tokens that is not there: set an OAuthBearer with \
         ProducerBuilder::sasl",
    ),
    ("sasl.login.", "a token is fetched again after 80 % of its lifetime, without options"),
    ("security.providers", "it names Java classes"),
    ("transaction", "transactions are not there yet"),
    ("interceptor.classes", "it names Java classes"),
    ("metric.reporters", "it names Java classes"),
    ("metrics.", "metrics are read through the producer's own snapshot"),
    ("enable.metrics.push", "client telemetry (KIP-714) is not there yet"),
    ("metadata.recovery.", "falling back to the bootstrap list is always on, without options"),
    ("config.providers", "write the values themselves"),
];

fn codec(setting: Setting<'_>, name: &str) -> Result<Codec, BuildError> {
    match name {
        "none" => Ok(Codec::None),
        "gzip" => Ok(Codec::Gzip),
        "snappy" => Ok(Codec::Snappy),
        "lz4" => Ok(Codec::Lz4),
        "zstd" => Ok(Codec::Zstd),
        _ => Err(setting.refuse("it must be none, gzip, snappy, lz4 or zstd")),
    }
}
