//! What cannot work, found before anything is started.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::address::{HostPort, parse_address, split_list};
use super::producer_config::{Acks, OnDrop, ProducerConfig};
use super::property_parse::HIDDEN;
use super::security::SecurityProtocol;
use super::socks5::{LOGIN_BYTES_MAX, Socks5};
use super::tls::TlsConfig;
use crate::engine::protocol::compression::{Codec, Compression};
use crate::error::BuildError;

/// The broker remembers so many batches of a producer for each partition.
const IN_FLIGHT_IDEMPOTENT_MAX: usize = 5;
/// In-flight slots are preallocated.
const IN_FLIGHT_MAX: usize = 1_024;
/// The protocol's sizes are 32-bit signed; the rest is for a request's own fields.
const SIZE_MAX: usize = i32::MAX as usize - 64 * 1024;
/// Lane ids are 32 bits wide, and every loop has a queue with room for all of them.
const LANES_MAX: usize = 1 << 24;
/// Accounts, of which two are not a broker's, are counted in 16 bits.
const BROKERS_MAX: usize = u16::MAX as usize - 2;
/// Pages of buffer memory are counted in 32 bits.
const BUFFER_MEMORY_MAX: usize = 1 << 44;
/// Buffer memory is mapped in chunks and given out in pages of so many bytes.
const CHUNK: usize = 64 * 1024;
const PAGE: usize = 4 * 1024;
/// Kafka's own least `metadata.max.idle.ms`.
const METADATA_IDLE_MIN: Duration = Duration::from_secs(5);

/// Events that wait for a slow listener are kept to be read soon: more of them help nobody.
const EVENTS_MAX: usize = 1 << 20;

/// Metrics are logged at most so often.
const METRICS_LOG_MIN: Duration = Duration::from_secs(1);
/// Kafka's times are 64-bit milliseconds; a year is beyond any use and safe to add to any clock.
pub(super) const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

impl ProducerConfig {
    /// Checks every setting, and those that depend on each other. Names are not resolved and
    /// nothing is opened.
    ///
    /// # Errors
    ///
    /// The first thing that cannot work, naming the setting as it was set (by a field, a property
    /// or a variable of the environment), and its range.
    pub fn validate(&self) -> Result<(), BuildError> {
        self.bootstrap_addresses()?;
        self.validate_names()?;
        self.validate_sizes()?;
        self.validate_times()?;
        self.validate_idempotence()?;
        self.validate_watermarks()?;
        self.validate_compression()?;
        self.tls.as_ref().map_or(Ok(()), TlsConfig::validate)?;
        self.validate_protocol()?;
        self.validate_broker_version()?;
        self.validate_socks5()?;
        if let Some(spill) = &self.spill {
            spill.validate(|part| self.names.of_part(part, part))?;
        }
        if let Some(topic) = &self.create_topics {
            topic.validate(|part| self.names.of_part(part, part))?;
        }
        self.validate_topics()?;
        self.validate_pool(1)
    }

    fn validate_socks5(&self) -> Result<(), BuildError> {
        let Some((user, password)) = self.socks5.as_ref().and_then(Socks5::credentials) else {
            return Ok(());
        };
        for (part, in_code, len) in [
            ("Socks5::login (user)", "the user of Socks5::login", user.len()),
            ("Socks5::login (password)", "the password of Socks5::login", password.expose().len()),
        ] {
            if !(1..=LOGIN_BYTES_MAX).contains(&len) {
                let reason = format!("it must be of 1 to {LOGIN_BYTES_MAX} bytes");
                let (name, value) = (self.names.of_part(part, in_code), HIDDEN.to_owned());
                return Err(BuildError::InvalidSetting { name, value, reason });
            }
        }
        Ok(())
    }

    fn validate_broker_version(&self) -> Result<(), BuildError> {
        if !self.api_version_request && self.broker_version_fallback.is_none() {
            return Err(BuildError::Conflict(format!(
                "{}=false needs {}=0.8.2 or 0.9.0: brokers since 0.10 are always asked",
                self.name_of("api_version_request"),
                self.name_of("broker_version_fallback"),
            )));
        }
        if let (Some(version), Some(_)) = (self.broker_version_fallback, &self.sasl) {
            return Err(BuildError::Conflict(format!(
                "{}={version} and {} exclude each other: Kafka {version} takes no login that this \
                 client speaks",
                self.name_of("broker_version_fallback"),
                self.names.of_part("sasl (mechanism)", "sasl"),
            )));
        }
        Ok(())
    }

    /// The addresses of `bootstrap_servers`, parsed.
    ///
    /// # Errors
    ///
    /// [`BuildError::NoBootstrapServers`] if there is none, [`BuildError::InvalidAddress`] for one
    /// that is not `host:port`.
    pub fn bootstrap_addresses(&self) -> Result<Vec<HostPort>, BuildError> {
        // An entry may be a list itself: so it stands in a properties file and in most variables.
        let entries = self.bootstrap_servers.iter().flat_map(|entry| split_list(entry));
        let addresses = entries.map(|entry| parse_address(entry, self.protocol_in_effect()));
        let addresses: Vec<_> = addresses.collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(BuildError::NoBootstrapServers);
        }
        Ok(addresses)
    }

    /// What `tls` and `sasl` come to.
    fn protocol_in_effect(&self) -> SecurityProtocol {
        match (self.tls.is_some(), self.sasl.is_some()) {
            (false, false) => SecurityProtocol::Plaintext,
            (true, false) => SecurityProtocol::Ssl,
            (false, true) => SecurityProtocol::SaslPlaintext,
            (true, true) => SecurityProtocol::SaslSsl,
        }
    }

    /// Bytes that stashed records may always take: one largest record, in whole pages.
    pub fn stash_bytes_min(&self) -> usize {
        self.max_request_size.div_ceil(PAGE).saturating_mul(PAGE)
    }

    /// What each loop compresses in: a largest batch, in whole chunks; `None` without compression.
    pub fn scratch_bytes(&self) -> Option<usize> {
        self.compresses().then(|| self.largest_batch().div_ceil(CHUNK).saturating_mul(CHUNK))
    }

    /// Bytes of the pool that loops may compress in, all together. Half of it at the most, and a
    /// largest record must find room beside it twice: in its topic's stash, where it stays until it
    /// has moved, and in its batch.
    pub fn scratch_bytes_max(&self) -> usize {
        let twice = self.stash_bytes_min().saturating_mul(2);
        (self.buffer_memory / 2).min(self.buffer_memory.saturating_sub(twice))
    }

    /// Checks that the pool can hold a largest batch for each of `loops` event loops and one more
    /// that is being filled, and that a largest record can move from its topic's stash to its
    /// batch.
    ///
    /// # Errors
    ///
    /// [`BuildError::PoolTooSmall`], with the least that works.
    pub fn validate_pool(&self, loops: usize) -> Result<(), BuildError> {
        let largest_batch = self.largest_batch();
        let batches = largest_batch.saturating_mul(loops.saturating_add(1));
        let scratch = self.scratch_bytes().unwrap_or(0);
        // A record stays in its topic's stash until it has moved to its batch.
        let moved = self.stash_bytes_min().saturating_mul(2).saturating_add(scratch);
        let required = batches.max(moved).div_ceil(CHUNK).saturating_mul(CHUNK);
        if self.buffer_memory >= required {
            return Ok(());
        }
        let buffer_memory = self.buffer_memory;
        let fields = ["buffer_memory", "max_request_size", "batch_size"];
        let names = Box::new(fields.map(|field| self.name_of(field)));
        Err(BuildError::PoolTooSmall { buffer_memory, required, largest_batch, loops, names })
    }

    /// What keeps the producer from being idempotent, if anything does.
    pub(super) fn idempotence_obstacle(&self) -> Option<String> {
        if self.acks != Acks::All {
            return Some(format!("{}=all (it is {})", self.name_of("acks"), self.acks.code()));
        }
        if self.retries == 0 {
            return Some(format!("{} over 0 (they are 0)", self.name_of("retries")));
        }
        if self.max_in_flight > IN_FLIGHT_IDEMPOTENT_MAX {
            let window = self.max_in_flight;
            let name = self.name_of("max_in_flight");
            return Some(format!("{name} of at most {IN_FLIGHT_IDEMPOTENT_MAX} (it is {window})"));
        }
        None
    }

    /// What keeps the producer from being idempotent though nobody said that it need not be.
    pub(crate) fn idempotence_given_up(&self) -> Option<String> {
        self.idempotence_obstacle().filter(|_| self.enable_idempotence.is_none())
    }

    fn validate_idempotence(&self) -> Result<(), BuildError> {
        match (self.enable_idempotence, self.idempotence_obstacle()) {
            (Some(true), Some(obstacle)) => Err(BuildError::Conflict(format!(
                "{}=true needs {obstacle}: change one of the two",
                self.name_of("enable_idempotence"),
            ))),
            _ => Ok(()),
        }
    }

    fn validate_names(&self) -> Result<(), BuildError> {
        if self.client_id.len() > i16::MAX as usize {
            let value = format!("{}...", self.client_id.chars().take(20).collect::<String>());
            let reason = format!("at most {} bytes fit the protocol", i16::MAX);
            let name = self.name_of("client_id");
            return Err(BuildError::InvalidSetting { name, value, reason });
        }
        let Some(cores) = &self.cores else { return Ok(()) };
        let repeated = cores.iter().enumerate().any(|(index, core)| cores[..index].contains(core));
        if cores.is_empty() || repeated {
            return Err(BuildError::InvalidSetting {
                name: self.name_of("cores"),
                value: format!("{cores:?}"),
                reason: "name at least one core, and none twice".to_owned(),
            });
        }
        Ok(())
    }

    fn validate_sizes(&self) -> Result<(), BuildError> {
        self.in_range("retries", self.retries, 0..=i32::MAX as u32)?;
        self.in_range("max_in_flight", self.max_in_flight, 1..=IN_FLIGHT_MAX)?;
        self.in_range("batch_size", self.batch_size, 0..=SIZE_MAX)?;
        self.in_range("max_request_size", self.max_request_size, 1..=SIZE_MAX)?;
        let request_bytes_max = self.request_bytes_max.unwrap_or(SIZE_MAX);
        self.in_range("request_bytes_max", request_bytes_max, 1..=SIZE_MAX)?;
        self.in_range("buffer_memory", self.buffer_memory, 1..=BUFFER_MEMORY_MAX)?;
        self.in_range("lanes_max", self.lanes_max, 1..=LANES_MAX)?;
        self.in_range("events_max", self.events_max, 1..=EVENTS_MAX)?;
        self.in_range("brokers_max", self.brokers_max, 1..=BROKERS_MAX)?;
        let socket_buffers = 1..=i32::MAX as usize;
        self.in_range("send_buffer", self.send_buffer.unwrap_or(1), socket_buffers.clone())?;
        self.in_range("receive_buffer", self.receive_buffer.unwrap_or(1), socket_buffers)
    }

    fn drop_waits(&self) -> Duration {
        match self.on_drop {
            OnDrop::Wait(time) => time,
            OnDrop::Detach => Duration::ZERO,
        }
    }

    fn validate_times(&self) -> Result<(), BuildError> {
        let least = Duration::from_millis(1);
        for (field, time, min) in [
            ("linger", self.linger, Duration::ZERO),
            ("request_timeout", self.request_timeout, least),
            ("delivery_timeout", self.delivery_timeout, least),
            ("max_block", self.max_block, Duration::ZERO),
            ("retry_backoff", self.retry_backoff, Duration::ZERO),
            ("retry_backoff_max", self.retry_backoff_max, Duration::ZERO),
            ("reconnect_backoff", self.reconnect_backoff, Duration::ZERO),
            ("reconnect_backoff_max", self.reconnect_backoff_max, Duration::ZERO),
            ("reconnect_quick", self.reconnect_quick, Duration::ZERO),
            ("connection_setup_timeout", self.connection_setup_timeout, least),
            ("connection_setup_timeout_max", self.connection_setup_timeout_max, least),
            ("connections_max_idle", self.connections_max_idle, least),
            ("metadata_max_age", self.metadata_max_age, Duration::ZERO),
            ("metadata_max_idle", self.metadata_max_idle, METADATA_IDLE_MIN),
            ("metadata_min_refresh", self.metadata_min_refresh, least),
            ("topic_unknown_max", self.topic_unknown_max, Duration::ZERO),
            ("producer_id_idle_max", self.producer_id_idle_max, least),
            ("tcp_keepalive", self.tcp_keepalive.unwrap_or(least), least),
            ("on_drop", self.drop_waits(), Duration::ZERO),
            (
                "partitioner_availability_timeout",
                self.partitioner_availability_timeout,
                Duration::ZERO,
            ),
            (
                "metrics_log_interval",
                self.metrics_log_interval.unwrap_or(METRICS_LOG_MIN),
                METRICS_LOG_MIN,
            ),
        ] {
            self.in_time_range(field, time, min, TIME_MAX)?;
        }
        let floor_max = Duration::from_millis(100);
        let floor = self.part_filled_floor.unwrap_or_default();
        self.in_time_range("part_filled_floor", floor, Duration::ZERO, floor_max)?;
        let least_delivery = self.linger + self.request_timeout;
        if self.delivery_timeout < least_delivery {
            let fields = ["delivery_timeout", "linger", "request_timeout"];
            let [delivery, linger, request] = fields.map(|field| self.name_of(field));
            return Err(BuildError::Conflict(format!(
                "{delivery} = {:?} is less than {linger} + {request} = {least_delivery:?}, so that \
                 a record could expire before its first attempt was answered: lower {request} or \
                 raise {delivery}",
                self.delivery_timeout,
            )));
        }
        Ok(())
    }

    fn validate_protocol(&self) -> Result<(), BuildError> {
        let Some(protocol) = self.security_protocol else { return Ok(()) };
        let missing = match (protocol.has_tls(), protocol.has_sasl()) {
            (true, _) if self.tls.is_none() => "needs TLS: set ProducerConfig::tls",
            (_, true) if self.sasl.is_none() => {
                "needs a login: set sasl.mechanism and sasl.jaas.config, or ProducerConfig::sasl"
            }
            (false, _) if self.tls.is_some() => "leaves TLS out, which is set up",
            (_, false) if self.sasl.is_some() => "leaves the login out, which is set up",
            _ => return Ok(()),
        };
        let name = self.name_of("security_protocol");
        Err(BuildError::Conflict(format!("{name} = {protocol} {missing}")))
    }

    fn validate_watermarks(&self) -> Result<(), BuildError> {
        let Some(high) = self.high_watermark else {
            return match self.low_watermark {
                None => Ok(()),
                Some(low) => Err(BuildError::Conflict(format!(
                    "{} = {low} needs {}: the default one moves with the free memory and may fall \
                     below it",
                    self.name_of("low_watermark"),
                    self.name_of("high_watermark"),
                ))),
            };
        };
        self.in_range("high_watermark", high, 1..=self.buffer_memory)?;
        self.in_range("low_watermark", self.low_watermark.unwrap_or(0), 0..=high)
    }

    fn in_range<T: PartialOrd + Display>(
        &self,
        field: &'static str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<(), BuildError> {
        if range.contains(&value) {
            return Ok(());
        }
        let reason = format!("it must be from {} to {}", range.start(), range.end());
        let name = self.name_of(field);
        Err(BuildError::InvalidSetting { name, value: value.to_string(), reason })
    }

    fn in_time_range(
        &self,
        field: &'static str,
        value: Duration,
        min: Duration,
        max: Duration,
    ) -> Result<(), BuildError> {
        if (min..=max).contains(&value) {
            return Ok(());
        }
        let reason = format!("it must be from {min:?} to {max:?}");
        let name = self.name_of(field);
        Err(BuildError::InvalidSetting { name, value: format!("{value:?}"), reason })
    }

    fn validate_compression(&self) -> Result<(), BuildError> {
        self.compressions().try_for_each(Self::validate_codec)
    }

    fn validate_codec(compression: Compression) -> Result<(), BuildError> {
        let (codec, built) = match compression {
            Compression::None => return Ok(()),
            Compression::Gzip { level } => {
                // -1 is Kafka's default, the library's own choice, and what `gzip()` gives.
                if level != -1 {
                    in_level_range(Codec::Gzip, level, 1..=9)?;
                }
                ("gzip", cfg!(feature = "gzip"))
            }
            Compression::Snappy => ("snappy", cfg!(feature = "snappy")),
            Compression::Lz4 { level } => {
                in_level_range(Codec::Lz4, level, 1..=17)?;
                ("lz4", cfg!(feature = "lz4"))
            }
            Compression::Zstd { level } => {
                in_level_range(Codec::Zstd, level, -131_072..=22)?;
                ("zstd", cfg!(feature = "zstd"))
            }
        };
        if built { Ok(()) } else { Err(BuildError::CodecNotBuilt { codec }) }
    }
}

/// Properties hold their levels to these ranges themselves: one that is out of them was set in
/// code.
fn in_level_range(codec: Codec, level: i32, range: RangeInclusive<i32>) -> Result<(), BuildError> {
    if range.contains(&level) {
        return Ok(());
    }
    let reason = format!("it must be from {} to {}", range.start(), range.end());
    let name = format!("the level of compression {}", codec.name());
    Err(BuildError::InvalidSetting { name, value: level.to_string(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ProducerConfig {
        ProducerConfig { bootstrap_servers: vec!["kafka:9092".into()], ..Default::default() }
    }

    /// The message that `change` makes `validate` fail with.
    fn refused(change: impl FnOnce(&mut ProducerConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.validate().expect_err("the setting is refused").to_string()
    }

    #[test]
    fn defaults_work_once_there_is_a_broker() {
        assert_eq!(config().validate(), Ok(()));
        assert!(config().is_idempotent());
        let error = ProducerConfig::default().validate();
        assert_eq!(error, Err(BuildError::NoBootstrapServers));
        assert!(refused(|c| c.bootstrap_servers.push("kafka".into())).contains("\"kafka\""));
    }

    #[test]
    fn idempotence_gives_way_unless_it_was_asked_for() {
        type Change = fn(&mut ProducerConfig);
        let changes: [(Change, &str); 4] = [
            (|c| c.acks = Acks::Leader, "acks=all"),
            (|c| c.acks = Acks::None, "acks=all"),
            (|c| c.retries = 0, "retries"),
            (|c| c.max_in_flight = 6, "max_in_flight"),
        ];
        for (change, part) in changes {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.validate(), Ok(()));
            assert!(!config.is_idempotent(), "{part}");
            config.enable_idempotence = Some(true);
            let error = config.validate().expect_err("they contradict each other").to_string();
            assert!(error.contains("enable_idempotence") && error.contains(part), "{error}");
        }
        let mut off = config();
        off.enable_idempotence = Some(false);
        assert!(off.validate().is_ok() && !off.is_idempotent());
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert!(refused(|c| c.max_in_flight = 0).contains("max_in_flight"));
        assert!(refused(|c| c.batch_size = usize::MAX).contains("batch_size"));
        assert!(refused(|c| c.buffer_memory = usize::MAX).contains("buffer_memory"));
        assert!(refused(|c| c.lanes_max = 0).contains("lanes_max"));
        assert!(refused(|c| c.linger = Duration::MAX).contains("linger"));
        assert!(refused(|c| c.request_timeout = Duration::ZERO).contains("request_timeout"));
        assert!(refused(|c| c.metadata_max_idle = Duration::ZERO).contains("metadata_max_idle"));
        assert!(refused(|c| c.send_buffer = Some(0)).contains("send_buffer"));
        assert!(refused(|c| c.cores = Some(vec![1, 1])).contains("cores"));
        assert!(refused(|c| c.cores = Some(Vec::new())).contains("cores"));
        assert!(refused(|c| c.client_id = "x".repeat(40_000)).contains("client_id"));
        let gzip = refused(|c| c.compression = Compression::Gzip { level: 0 });
        assert!(
            gzip.contains("level of compression gzip = 0") && gzip.contains("1 to 9"),
            "{gzip}"
        );
    }

    #[test]
    fn every_codec_is_accepted_at_its_default_level() {
        let gzip = Compression::gzip();
        for compression in [gzip, Compression::lz4(), Compression::zstd(), Compression::snappy()] {
            let config = ProducerConfig { compression, ..config() };
            assert_eq!(config.validate(), Ok(()), "{compression:?}");
        }
    }

    #[test]
    fn settings_that_depend_on_each_other_are_checked() {
        assert!(refused(|c| c.delivery_timeout = Duration::from_secs(29)).contains("linger"));
        let late = refused(|c| c.linger = Duration::from_secs(91));
        assert!(late.contains("lower request_timeout or raise delivery_timeout"), "{late}");
        assert!(refused(|c| c.low_watermark = Some(1)).contains("high_watermark"));
        assert!(refused(|c| c.high_watermark = Some(c.buffer_memory + 1)).contains("high"));
        let swapped = refused(|c| (c.low_watermark, c.high_watermark) = (Some(9), Some(8)));
        assert!(swapped.contains("low_watermark"), "{swapped}");
        let mut equal = config();
        (equal.low_watermark, equal.high_watermark) = (Some(8), Some(8));
        assert_eq!(equal.validate(), Ok(()));
    }

    #[test]
    fn the_pool_holds_a_batch_for_each_loop() {
        let mut config = config();
        config.buffer_memory = 4 * config.max_request_size;
        assert_eq!(config.validate_pool(3), Ok(()));
        let error = config.validate_pool(4);
        assert!(matches!(error, Err(BuildError::PoolTooSmall { loops: 4, .. })), "{error:?}");
        let text = error.unwrap_err().to_string();
        assert!(text.contains("buffer_memory to at least 5242880 bytes"), "{text}");
        assert!(text.contains("lower max_request_size and batch_size"), "{text}");
        config.batch_size = config.buffer_memory;
        assert!(matches!(config.validate(), Err(BuildError::PoolTooSmall { loops: 1, .. })));
    }

    #[test]
    fn the_pool_holds_a_largest_record_twice_and_what_it_is_compressed_in() {
        let mut config = config();
        config.max_request_size = (1 << 20) - 1;
        config.buffer_memory = 2 << 20;
        assert_eq!(config.validate(), Ok(()));
        config.compression = Compression::gzip();
        let text = config.validate().expect_err("nothing to compress in").to_string();
        assert!(text.contains("at least 3145728 bytes"), "{text}");
        // What further loops compress in leaves that room, however much there is.
        for chunks in 48..200 {
            config.buffer_memory = chunks * CHUNK;
            assert_eq!(config.validate(), Ok(()));
            let records = config.buffer_memory - config.scratch_bytes_max();
            let stash = config.stash_bytes_min().max(config.buffer_memory / 4);
            assert!(records - stash >= config.max_request_size, "{chunks}");
        }
    }

    #[test]
    fn every_number_of_brokers_that_passes_can_be_had() {
        let refused = refused(|c| c.brokers_max = 65_534);
        assert!(refused.contains("brokers_max = 65534"), "{refused}");
        assert!(refused.contains("1 to 65533"), "{refused}");
        let most = ProducerConfig { brokers_max: 65_533, ..config() };
        assert_eq!(most.validate(), Ok(()));
    }

    #[test]
    fn a_list_of_servers_may_stand_in_one_entry() {
        let addresses = |entries: &[&str]| {
            let bootstrap_servers = entries.iter().map(|entry| (*entry).to_owned()).collect();
            let config = ProducerConfig { bootstrap_servers, ..config() };
            let addresses = config.bootstrap_addresses();
            addresses.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let four = ["a:1", "[::1]:2", "b:3", "c:4"];
        assert_eq!(addresses(&["a:1, [::1]:2", "b:3,,c:4 "]), Ok(four.map(str::to_owned).to_vec()));
        assert_eq!(addresses(&[" , ", ""]), Err(BuildError::NoBootstrapServers));
        let error = addresses(&["a:1,::1:2"]).expect_err("no brackets").to_string();
        assert!(error.contains("\"::1:2\"") && error.contains("in brackets"), "{error}");
    }
}
