//! A consumer's settings in the names that Kafka gives them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::consumer_config::{ConsumerConfig, IsolationLevel, OffsetReset};
use super::producer_config::ProducerConfig;
use super::properties::read_file;
use super::properties_file;
use crate::error::BuildError;

/// Names that files for consumers have and that mean nothing here, by their beginnings, with the
/// reason.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("group.instance.id", GROUPS),
    ("group.protocol", GROUPS),
    ("group.remote.assignor", GROUPS),
    ("session.timeout.ms", GROUPS),
    ("heartbeat.interval.ms", GROUPS),
    ("enable.auto.", GROUPS),
    ("auto.commit.", GROUPS),
    ("partition.assignment.", GROUPS),
    ("max.poll.", "batches are handed out as they were written, whenever they are asked for"),
    ("key.deserializer", BYTES),
    ("value.deserializer", BYTES),
    ("check.crcs", "checksums are always checked"),
    ("client.rack", "leaders are read from"),
    ("allow.auto.create.topics", "no topic is created by being read"),
    ("exclude.internal.topics", "topics are named one by one"),
    ("default.api.timeout.ms", "calls that wait have their own time limits"),
    ("fetch.", "this consumer has no such setting"),
];

const GROUPS: &str = "no consumer group is joined, and offsets are committed by calls";
const BYTES: &str = "keys and values are bytes here";

/// A property: its name and its value.
type Pair<'a> = (&'a str, &'a str);

impl ConsumerConfig {
    /// Reads settings in Kafka's names. Those of a consumer are in
    /// [`manual::reading`](crate::manual::reading); those that say how brokers are found and
    /// reached, and all others, are read as
    /// [`ProducerConfig::from_properties`](ProducerConfig::from_properties) does. Of two values of
    /// one name the last one counts. What is of consumer groups, and what else means nothing here,
    /// is a warning in the log.
    ///
    /// ```
    /// use tidegate::{ConsumerConfig, IsolationLevel};
    ///
    /// let config = ConsumerConfig::from_properties([
    ///     ("bootstrap.servers", "host1:9092,host2:9092"),
    ///     ("isolation.level", "read_committed"),
    ///     ("fetch.max.wait.ms", "100"),
    /// ])?;
    /// assert_eq!(config.isolation_level, IsolationLevel::ReadCommitted);
    /// # Ok::<(), tidegate::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// [`BuildError`] names the property that is unknown, or whose value cannot be used.
    pub fn from_properties<K, V>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BuildError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let properties: Vec<(K, V)> = properties.into_iter().collect();
        let pairs = properties.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let mut own = ConsumerConfig::for_client(ProducerConfig::default());
        let (mut of_client, mut said) = (Vec::new(), BTreeMap::new());
        for (name, value) in pairs {
            let pair = (name.trim(), value.trim());
            if !own.read(pair)? {
                of_client.push((name, value));
                continue;
            }
            match said.insert(kafkas_name(pair.0), pair) {
                Some(other) if other.0 != pair.0 && other.1 != pair.1 => {
                    return Err(BuildError::Conflict(format!(
                        "{} = {} and {} = {} set the same thing to different values: leave one of \
                         them out",
                        other.0, other.1, pair.0, pair.1
                    )));
                }
                _ => {}
            }
        }
        own.client = ProducerConfig::from_properties(of_client)?;
        Ok(own)
    }

    /// Reads the text of a `.properties` file: see [`Self::from_properties`].
    ///
    /// ```
    /// use tidegate::{ConsumerConfig, OffsetReset};
    ///
    /// let text = "bootstrap.servers = host1:9092\nauto.offset.reset = earliest\n";
    /// let config = ConsumerConfig::from_properties_text(text)?;
    /// assert_eq!(config.auto_offset_reset, OffsetReset::Earliest);
    /// # Ok::<(), tidegate::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Self::from_properties`]; also what is not written as such a file is.
    pub fn from_properties_text(text: &str) -> Result<Self, BuildError> {
        Self::from_properties(properties_file::parse(text)?)
    }

    /// Reads a `.properties` file: see [`Self::from_properties`].
    ///
    /// ```
    /// use tidegate::{BuildError, ConsumerConfig};
    ///
    /// let missing = ConsumerConfig::from_properties_file("no-such-file.properties");
    /// assert!(matches!(missing, Err(BuildError::System { .. })));
    /// ```
    ///
    /// # Errors
    /// As for [`Self::from_properties_text`]; also a file that cannot be read.
    pub fn from_properties_file(path: impl AsRef<Path>) -> Result<Self, BuildError> {
        Self::from_properties_text(&read_file(path.as_ref())?)
    }

    /// Takes a property if it is a consumer's; whether it is.
    fn read(&mut self, pair: Pair<'_>) -> Result<bool, BuildError> {
        let (name, value) = pair;
        match kafkas_name(name) {
            "isolation.level" => {
                self.isolation_level = match value {
                    "read_uncommitted" => IsolationLevel::ReadUncommitted,
                    "read_committed" => IsolationLevel::ReadCommitted,
                    _ => return Err(wrong(pair, "it is read_uncommitted or read_committed")),
                }
            }
            "group.id" => self.group_id = Some(value.to_owned()).filter(|it| !it.is_empty()),
            "auto.offset.reset" => {
                self.auto_offset_reset = match value {
                    "none" | "error" => OffsetReset::None,
                    "earliest" | "beginning" | "smallest" => OffsetReset::Earliest,
                    "latest" | "end" | "largest" => OffsetReset::Latest,
                    _ => return Err(wrong(pair, "it is none, earliest or latest")),
                }
            }
            "fetch.max.wait.ms" => {
                self.fetch_max_wait = Duration::from_millis(size(pair)? as u64);
            }
            "fetch.min.bytes" => self.fetch_min_bytes = size(pair)?,
            "fetch.max.bytes" => self.fetch_max_bytes = size(pair)?,
            "max.partition.fetch.bytes" => self.max_partition_fetch_bytes = size(pair)?,
            "tidegate.consumer.batch.max.bytes" => self.batch_max_bytes = size(pair)?,
            "tidegate.consumer.queue.max.bytes" => self.queue_max_bytes = size(pair)?,
            _ => {
                let is_named = |known: &&Pair<'_>| name.starts_with(known.0);
                let Some((_, reason)) = WITHOUT_EFFECT.iter().find(is_named) else {
                    return Ok(false);
                };
                log::warn!("{name} has no effect: {reason}");
            }
        }
        Ok(true)
    }
}

/// The name that Kafka gives what librdkafka calls otherwise; others as they are.
fn kafkas_name(name: &str) -> &str {
    match name {
        "fetch.wait.max.ms" => "fetch.max.wait.ms",
        "fetch.message.max.bytes" => "max.partition.fetch.bytes",
        name => name,
    }
}

/// A number that Kafka's 32 bits can hold.
fn size(pair: Pair<'_>) -> Result<usize, BuildError> {
    let number = pair.1.parse::<i32>().ok().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| wrong(pair, &format!("it is a whole number from 0 to {}", i32::MAX)))
}

fn wrong((name, value): Pair<'_>, reason: &str) -> BuildError {
    let (name, value) = (name.to_owned(), value.to_owned());
    BuildError::InvalidSetting { name, value, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_its_name() {
        let config = ConsumerConfig::from_properties([
            ("bootstrap.servers", "h:1"),
            ("client.id", "audit"),
            ("group.id", "g"),
            (" auto.offset.reset ", " latest "),
            ("isolation.level", "read_committed"),
            ("fetch.max.wait.ms", "1"),
            ("fetch.min.bytes", "2"),
            ("fetch.max.bytes", "3"),
            ("max.partition.fetch.bytes", "4"),
            ("tidegate.consumer.batch.max.bytes", "5"),
            ("tidegate.consumer.queue.max.bytes", "6"),
            // What a file for Java's consumer has besides.
            ("enable.auto.commit", "false"),
            ("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer"),
        ])
        .expect("they are known");
        assert_eq!(config.client.bootstrap_servers, ["h:1"]);
        assert_eq!(config.client.client_id, "audit");
        assert_eq!(config.group_id.as_deref(), Some("g"));
        assert_eq!(config.auto_offset_reset, OffsetReset::Latest);
        assert_eq!(config.isolation_level, IsolationLevel::ReadCommitted);
        assert_eq!(config.fetch_max_wait, Duration::from_millis(1));
        let sizes = [config.fetch_min_bytes, config.fetch_max_bytes];
        assert_eq!((sizes, config.max_partition_fetch_bytes), ([2, 3], 4));
        assert_eq!((config.batch_max_bytes, config.queue_max_bytes), (5, 6));
    }

    #[test]
    fn the_last_value_of_a_name_counts() {
        let text = "fetch.min.bytes=1\nfetch.min.bytes=2\n";
        let config = ConsumerConfig::from_properties_text(text).expect("it can be read");
        assert_eq!(config.fetch_min_bytes, 2);
    }

    #[test]
    fn librdkafkas_names_are_known_and_must_not_say_otherwise() {
        let text = "fetch.wait.max.ms=7\nfetch.max.wait.ms=7\nfetch.message.max.bytes=8\n";
        let config = ConsumerConfig::from_properties_text(text).expect("it can be read");
        assert_eq!(config.fetch_max_wait, Duration::from_millis(7));
        assert_eq!(config.max_partition_fetch_bytes, 8);
        let text = "fetch.wait.max.ms=7\nfetch.max.wait.ms=8\n";
        let error = ConsumerConfig::from_properties_text(text).expect_err("which one?");
        let words = "fetch.wait.max.ms = 7 and fetch.max.wait.ms = 8 set the same thing";
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, value) in [
            ("isolation.level", "serializable"),
            ("auto.offset.reset", "by_duration:PT1H"),
            ("fetch.min.bytes", "-1"),
            ("fetch.max.bytes", "2147483648"),
            ("fetch.max.wait.ms", "soon"),
            ("isolation.levle", "read_committed"),
            ("linger.ms", "soon"),
        ] {
            let error = ConsumerConfig::from_properties([(name, value)]).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
