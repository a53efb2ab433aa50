//! A configuration in the making.

use std::time::Duration;

use super::names::GivenNames;
use super::new_topic::NewTopicDraft;
use super::producer_config::ProducerConfig;
use super::property_parse::Setting;
use super::property_partitioner::PartitionerDraft;
use super::property_socks5::Socks5Draft;
use super::property_tls::SecurityDraft;
use crate::engine::protocol::compression::{Codec, Compression};
use crate::error::BuildError;
use crate::logging as log;

/// What properties have said so far. What depends on several of them is put together at the end,
/// so that their order does not matter.
pub(super) struct Draft {
    pub(super) config: ProducerConfig,
    pub(super) security: SecurityDraft,
    pub(super) socks5: Socks5Draft,
    pub(super) create_topics: NewTopicDraft,
    pub(super) partitioner: PartitionerDraft,
    pub(super) codecs: Vec<Codec>,
    pub(super) gzip_level: i32,
    pub(super) lz4_level: i32,
    pub(super) zstd_level: i32,
    /// librdkafka's `compression.level`, for whichever codec is used.
    pub(super) level: Option<i32>,
    /// librdkafka's `socket.keepalive.enable`.
    pub(super) keepalive: Option<bool>,
    /// `delivery_timeout` was given by a name of librdkafka's, and bounds requests too.
    pub(super) delivery_timeout_bounds: bool,
    /// Of `socket.timeout.ms`.
    pub(super) socket_timeout: Option<Duration>,
    /// Of `topic.metadata.refresh.interval.ms`.
    pub(super) refresh_interval: Option<Duration>,
    /// Of `metrics.to.console`.
    pub(super) metrics_to_console: Option<bool>,
}

/// How often Krackle writes metrics where it does.
const KRACKLE_METRICS_INTERVAL: Duration = Duration::from_secs(60);

impl Draft {
    pub(super) fn new() -> Self {
        // The levels are Kafka's defaults; its -1 for gzip is zlib's 6.
        Draft {
            config: ProducerConfig::default(),
            security: SecurityDraft::default(),
            socks5: Socks5Draft::default(),
            create_topics: NewTopicDraft::default(),
            partitioner: PartitionerDraft::default(),
            codecs: Vec::new(),
            gzip_level: 6,
            lz4_level: 9,
            zstd_level: 3,
            level: None,
            keepalive: None,
            delivery_timeout_bounds: false,
            socket_timeout: None,
            refresh_interval: None,
            metrics_to_console: None,
        }
    }

    pub(super) fn finish(mut self, names: &GivenNames<'_>) -> Result<ProducerConfig, BuildError> {
        self.apply_level(names)?;
        self.apply_keepalive(names)?;
        let mut config = self.config;
        let protection = self.security.finish(config.security_protocol, names)?;
        (config.tls, config.sasl) = (protection.tls, protection.sasl);
        config.socks5 = self.socks5.finish(names)?;
        config.create_topics = self.create_topics.finish(names)?;
        self.partitioner.finish(&mut config, names)?;
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
        if let Some(timeout) = self.socket_timeout {
            config.request_timeout = timeout;
        }
        if let Some(interval) = self.refresh_interval {
            let given = names.has("metadata.max.age.ms").then_some(config.metadata_max_age);
            config.metadata_max_age = given.map_or(interval, |given| given.min(interval));
        }
        match self.metrics_to_console {
            Some(false) => config.metrics_log_interval = None,
            Some(true) => {
                config.metrics_log_interval.get_or_insert(KRACKLE_METRICS_INTERVAL);
            }
            None => {}
        }
        settle_timeouts(&mut config, names, self.delivery_timeout_bounds);
        Ok(config)
    }

    /// Turns keepalives on or off, where no time says so already.
    fn apply_keepalive(&mut self, names: &GivenNames<'_>) -> Result<(), BuildError> {
        let Some(on) = self.keepalive else { return Ok(()) };
        let (time, switch) = ("tidegate.tcp.keepalive.ms", "socket.keepalive.enable");
        let keepalive = &mut self.config.tcp_keepalive;
        if !names.has(time) {
            *keepalive = ProducerConfig::default().tcp_keepalive.filter(|_| on);
            return Ok(());
        }
        if on == keepalive.is_some() {
            return Ok(());
        }
        Err(BuildError::Conflict(format!(
            "{} = {} and {} = {on} contradict each other: leave one of them out",
            names.of(time),
            keepalive.unwrap_or_default().as_millis(),
            names.of(switch),
        )))
    }

    /// Gives the level of all codecs to those that are used.
    fn apply_level(&mut self, names: &GivenNames<'_>) -> Result<(), BuildError> {
        let Some(level) = self.level else { return Ok(()) };
        for codec in &self.codecs {
            let (own, slot, range) = match codec {
                Codec::None | Codec::Snappy => continue,
                Codec::Gzip => ("compression.gzip.level", &mut self.gzip_level, 1..=9),
                Codec::Lz4 => ("compression.lz4.level", &mut self.lz4_level, 1..=17),
                Codec::Zstd => ("compression.zstd.level", &mut self.zstd_level, -131_072..=22),
            };
            if !range.contains(&level) {
                return Err(BuildError::InvalidSetting {
                    name: names.of("compression.level"),
                    value: level.to_string(),
                    reason: format!(
                        "for the codec that is used it must be from {} to {}, or -1 for the \
                         default",
                        range.start(),
                        range.end()
                    ),
                });
            }
            if names.has(own) && *slot != level {
                return Err(BuildError::Conflict(format!(
                    "{} = {slot} and {} = {level} contradict each other: leave one of them out",
                    names.of(own),
                    names.of("compression.level"),
                )));
            }
            *slot = level;
        }
        Ok(())
    }
}

/// A default time gives way to one that was asked for; one that was asked for does not.
fn settle_timeouts(config: &mut ProducerConfig, names: &GivenNames<'_>, bounds: bool) {
    let least = config.linger.saturating_add(config.request_timeout);
    if config.delivery_timeout >= least {
        return;
    }
    if !names.has("delivery.timeout.ms") {
        // As the Java client does.
        log::warn!(
            "{} is raised to {} + {}: {least:?}",
            names.of("delivery.timeout.ms"),
            names.of("linger.ms"),
            names.of("request.timeout.ms"),
        );
        config.delivery_timeout = least;
    } else if bounds {
        // As librdkafka does: a request waits no longer than its records may.
        let left = config.delivery_timeout.saturating_sub(config.linger);
        let left = left.max(Duration::from_millis(1));
        if names.has("request.timeout.ms") || names.has("socket.timeout.ms") {
            log::warn!(
                "requests wait for {left:?} at the most, which {} leaves them",
                names.of("delivery.timeout.ms"),
            );
        }
        config.request_timeout = left;
    }
}

/// Takes the names of codecs, in order of preference.
pub(super) fn codecs(draft: &mut Draft, setting: Setting<'_>) -> Result<(), BuildError> {
    let codec = |name: &str| {
        let codec = Codec::ALL.into_iter().find(|codec| codec.name() == name.trim());
        codec.ok_or_else(|| setting.refuse("it must be none, gzip, snappy, lz4 or zstd"))
    };
    draft.codecs = setting.value.split(',').map(codec).collect::<Result<_, _>>()?;
    Ok(())
}

/// Takes a level of gzip, where -1 is the default.
pub(super) fn gzip_level(draft: &mut Draft, setting: Setting<'_>) -> Result<(), BuildError> {
    let level = setting.integer(-1, 9)? as i32;
    if level == 0 {
        return Err(setting.refuse("it must be from 1 to 9, or -1 for the default"));
    }
    draft.gzip_level = if level == -1 { Draft::new().gzip_level } else { level };
    Ok(())
}
