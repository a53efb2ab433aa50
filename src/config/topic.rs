//! Settings of one topic, over those of its producer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::new_topic::NewTopic;
use super::producer_config::{Acks, ProducerConfig};
use crate::engine::policy::{BackoffStrategy, PartitionerFactory};
use crate::engine::protocol::compression::Compression;
use crate::error::BuildError;

/// A topic's name has at most this many bytes (Kafka's `Topic.MAX_NAME_LENGTH`).
const NAME_LEN_MAX: usize = 249;

/// Settings of one topic. What is not set here is as the producer has it.
///
/// They are given when the producer is built, with
/// [`ProducerBuilder::topic_config`](crate::ProducerBuilder::topic_config) or in
/// [`ProducerConfig::topics`]; or with the first handle to a topic, by
/// [`Producer::topic_with`](crate::Producer::topic_with). As properties they are called
/// `tidegate.topic.NAME.SETTING`, as in `tidegate.topic.audit.acks=all`.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Acks, Compression, DropRecords, Producer, TopicConfig};
///
/// # #[cfg(feature = "lz4")]
/// # fn main() -> Result<(), tidegate::BuildError> {
/// let telemetry = TopicConfig::new()
///     .acks(Acks::Leader)
///     .linger(Duration::from_millis(20))
///     .compression(Compression::lz4())
///     .backoff(DropRecords);
/// let builder = Producer::builder("localhost:9092").topic_config("telemetry", telemetry);
/// let producer = builder.build()?;
/// # drop(producer);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "lz4"))]
/// # fn main() {}
/// ```
///
/// Records of one topic with other `acks` than those of another go in requests of their own: a
/// request has one `acks` (Kafka's protocol, Produce).
#[derive(Clone, Default)]
pub struct TopicConfig {
    acks: Option<Acks>,
    linger: Option<Duration>,
    batch_size: Option<usize>,
    delivery_timeout: Option<Duration>,
    compression: Option<Vec<Compression>>,
    partitioner: Option<Arc<dyn PartitionerFactory>>,
    backoff: Option<Arc<dyn BackoffStrategy>>,
    create: Option<NewTopic>,
}

impl TopicConfig {
    /// Everything as the producer has it.
    pub fn new() -> Self {
        TopicConfig::default()
    }

    /// How many replicas must have a record. With less than all the topic's records are sent
    /// without idempotence: see [`ProducerConfig::acks`]. `acks`.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.acks = Some(acks);
        self
    }

    /// How long a batch may wait for more records: see [`ProducerConfig::linger`]. `linger.ms`.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }

    /// Bytes at which a batch is full: see [`ProducerConfig::batch_size`]. `batch.size`.
    #[must_use]
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.batch_size = Some(bytes);
        self
    }

    /// How long a record may take to be acknowledged: see [`ProducerConfig::delivery_timeout`].
    /// `delivery.timeout.ms`.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = Some(timeout);
        self
    }

    /// How batches are compressed, and at which level: see [`ProducerConfig::compression`].
    /// `compression.type` and `compression.*.level`.
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        self.compressions([compression])
    }

    /// The same as a list, in order of preference: each broker gets the first that it takes. An
    /// empty list is none. See [`ProducerConfig::compression_fallback`].
    #[must_use]
    pub fn compressions(mut self, compressions: impl Into<Vec<Compression>>) -> Self {
        self.compression = Some(compressions.into());
        self
    }

    /// Who chooses partitions: see [`ProducerConfig::partitioner`]. `partitioner`.
    #[must_use]
    pub fn partitioner(self, factory: impl PartitionerFactory + 'static) -> Self {
        self.shared_partitioner(Arc::new(factory))
    }

    /// What happens to a record without room: see [`ProducerConfig::backoff`].
    /// `tidegate.backoff.strategy`.
    #[must_use]
    pub fn backoff(self, strategy: impl BackoffStrategy + 'static) -> Self {
        self.shared_backoff(Arc::new(strategy))
    }

    /// What it is created with if it does not exist: see [`ProducerConfig::create_topics`].
    #[must_use]
    pub fn create(mut self, topic: NewTopic) -> Self {
        self.create = Some(topic);
        self
    }

    /// The same with a factory that is shared: with other topics, or with the code that set it.
    #[must_use]
    pub fn shared_partitioner(mut self, factory: Arc<dyn PartitionerFactory>) -> Self {
        self.partitioner = Some(factory);
        self
    }

    /// The same with a strategy that is shared: with other topics, or with code that reads what it
    /// counts.
    #[must_use]
    pub fn shared_backoff(mut self, strategy: Arc<dyn BackoffStrategy>) -> Self {
        self.backoff = Some(strategy);
        self
    }

    pub(crate) fn own_acks(&self) -> Option<Acks> {
        self.acks
    }

    pub(super) fn own_batch_size(&self) -> Option<usize> {
        self.batch_size
    }

    pub(super) fn own_delivery_timeout(&self) -> Option<Duration> {
        self.delivery_timeout
    }

    pub(super) fn own_compressions(&self) -> impl Iterator<Item = Compression> {
        self.compression.iter().flatten().copied()
    }

    /// Whether both set the same. A partitioner or a strategy is the same if it is the same value.
    pub(crate) fn is_same(&self, other: &TopicConfig) -> bool {
        let partitioners = match (&self.partitioner, &other.partitioner) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let strategies = match (&self.backoff, &other.backoff) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        partitioners
            && strategies
            && self.acks == other.acks
            && self.linger == other.linger
            && self.batch_size == other.batch_size
            && self.delivery_timeout == other.delivery_timeout
            && self.compression == other.compression
            && self.create == other.create
    }
}

impl fmt::Debug for TopicConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicConfig")
            .field("acks", &self.acks)
            .field("linger", &self.linger)
            .field("batch_size", &self.batch_size)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("compression", &self.compression)
            .field("create", &self.create)
            .finish_non_exhaustive()
    }
}

impl ProducerConfig {
    /// What a topic of this name is sent with: the producer's settings, with the topic's own in
    /// their places. Settings that no topic can have of its own are as the producer has them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::{ProducerConfig, TopicConfig};
    ///
    /// let mut config = ProducerConfig::new("localhost:9092");
    /// let slow = TopicConfig::new().linger(Duration::from_millis(50));
    /// config.topics.insert("reports".to_owned(), slow);
    /// assert_eq!(config.for_topic("reports").linger, Duration::from_millis(50));
    /// assert_eq!(config.for_topic("orders").linger, Duration::ZERO);
    /// ```
    #[must_use]
    pub fn for_topic(&self, name: &str) -> ProducerConfig {
        match self.topics.get(name) {
            Some(topic) => self.with_topic(topic),
            None => self.clone(),
        }
    }

    /// The producer's settings alone.
    pub(crate) fn without_topics(&self) -> ProducerConfig {
        let mut config = self.clone();
        config.topics.clear();
        config
    }

    /// What each topic that has settings of its own is sent with, by its name.
    pub(crate) fn topics_in_effect(&self) -> impl Iterator<Item = (&str, ProducerConfig)> {
        // A copy of all topics for each of them would be too much at thousands.
        let alone = self.without_topics();
        self.topics.iter().map(move |(name, topic)| (&**name, alone.with_topic(topic)))
    }

    /// The producer's settings with those of a topic in their places.
    pub(crate) fn with_topic(&self, topic: &TopicConfig) -> ProducerConfig {
        let mut config = self.clone();
        config.acks = topic.acks.unwrap_or(config.acks);
        config.linger = topic.linger.unwrap_or(config.linger);
        config.batch_size = topic.batch_size.unwrap_or(config.batch_size);
        config.delivery_timeout = topic.delivery_timeout.unwrap_or(config.delivery_timeout);
        if let Some(compressions) = &topic.compression {
            let mut compressions = compressions.iter().copied();
            config.compression = compressions.next().unwrap_or_default();
            config.compression_fallback = compressions.collect();
        }
        config.partitioner = topic.partitioner.clone().or(config.partitioner);
        config.backoff = topic.backoff.clone().or(config.backoff);
        config.create_topics = topic.create.clone().or(config.create_topics);
        config.topics.clear();
        config
    }

    /// Checks the settings of every topic.
    pub(super) fn validate_topics(&self) -> Result<(), BuildError> {
        self.topics_in_effect().try_for_each(|(name, config)| {
            if let Err(reason) = check_topic_name(name) {
                return Err(BuildError::InvalidSetting {
                    name: "the name of a topic".to_owned(),
                    value: format!("\"{name}\""),
                    reason: reason.to_owned(),
                });
            }
            config.validate().map_err(|error| of_topic(name, error))
        })
    }
}

/// The error, naming the topic whose settings cannot work.
pub(crate) fn of_topic(topic: &str, error: BuildError) -> BuildError {
    match error {
        BuildError::InvalidSetting { name, value, reason } => {
            let name = format!("topic \"{topic}\": {name}");
            BuildError::InvalidSetting { name, value, reason }
        }
        BuildError::Conflict(text) => BuildError::Conflict(format!("topic \"{topic}\": {text}")),
        other => other,
    }
}

/// What Kafka allows as a topic's name.
pub(crate) fn check_topic_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name == "." || name == ".." {
        return Err("\".\" and \"..\" are not allowed");
    }
    if name.len() > NAME_LEN_MAX {
        return Err("it is longer than 249 characters");
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return Err("only ASCII letters, digits, '.', '_' and '-' are allowed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["orders", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(250)] {
            assert!(check_topic_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_topic_that_cannot_work_is_named() {
        let mut config = ProducerConfig::new("kafka:9092");
        let refused = |config: &ProducerConfig| config.validate().unwrap_err().to_string();
        config.topics.insert("audit".into(), TopicConfig::new().linger(Duration::from_secs(100)));
        let text = refused(&config);
        assert!(text.starts_with("topic \"audit\": delivery_timeout"), "{text}");
        config.topics.insert("audit".into(), TopicConfig::new().batch_size(usize::MAX));
        let text = refused(&config);
        assert!(text.starts_with("topic \"audit\": batch_size"), "{text}");
        config.topics.clear();
        config.topics.insert("a b".into(), TopicConfig::new());
        let text = refused(&config);
        assert!(text.contains("name of a topic = \"a b\""), "{text}");
        config.topics.clear();
        config.enable_idempotence = Some(true);
        config.topics.insert("fast".into(), TopicConfig::new().acks(Acks::Leader));
        let text = refused(&config);
        assert!(
            text.starts_with("topic \"fast\": enable_idempotence=true needs acks=all"),
            "{text}"
        );
    }

    #[test]
    fn a_topics_largest_batch_counts_for_the_pool() {
        let mut config = ProducerConfig::new("kafka:9092");
        config.topics.insert("big".into(), TopicConfig::new().batch_size(8 << 20));
        assert_eq!(config.largest_batch(), 8 << 20);
        config.buffer_memory = 15 << 20;
        assert!(matches!(config.validate(), Err(BuildError::PoolTooSmall { .. })));
        config.buffer_memory = 16 << 20;
        assert_eq!(config.validate(), Ok(()));
    }
}
