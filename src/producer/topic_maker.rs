//! Handles to topics, and what the topics are made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::builder::topic_settings;
use super::producer::{Producer, Shared};
use super::topic::Topic;
use crate::config::{ProducerConfig, TopicConfig, check_topic_name, of_topic};
use crate::engine::batch::{FallbackQueue, TopicLanes, TopicParts, TopicSettings};
use crate::engine::cluster::Want;
use crate::engine::policy::{BackoffStrategy, Chooser, DefaultPartitioner, PartitionerFactory};
use crate::error::{BuildError, SendError, SendErrorKind};
use crate::locking::lock;
use crate::logging as log;
use crate::user_code;

/// Makes topics as the producer's configuration, and their own, say.
pub(super) struct TopicMaker {
    /// The producer's, without those of topics.
    config: ProducerConfig,
    /// Bytes of the largest batch that the producer has memory for.
    largest_batch: usize,
    /// Event loops have memory to compress in.
    compresses: bool,
    /// The producer has an identity, which the topics that want it share.
    has_identity: bool,
    /// Where records of all topics go that fail.
    fallback: Option<Arc<FallbackQueue>>,
    /// For topics that have none of their own.
    strategy: Arc<dyn BackoffStrategy>,
    /// The same; `None` for the default.
    partitioners: Option<Arc<dyn PartitionerFactory>>,
    /// What the builder and [`Producer::topic_with`] were given, by topic. It stays when a topic is
    /// forgotten.
    given: Mutex<BTreeMap<String, TopicConfig>>,
}

impl TopicMaker {
    pub(super) fn new(
        config: ProducerConfig,
        has_identity: bool,
        fallback: Option<Arc<FallbackQueue>>,
    ) -> Self {
        TopicMaker {
            largest_batch: config.largest_batch(),
            compresses: config.compresses(),
            has_identity,
            fallback,
            strategy: config.backoff_in_effect(),
            partitioners: config.partitioner_in_effect(),
            config: config.without_topics(),
            given: Mutex::new(config.topics),
        }
    }

    fn given(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, TopicConfig>> {
        // Entries are inserted and read, each in one call.
        lock(&self.given)
    }

    /// A topic gets settings of its own, unless it has others already. Returns whether it had none
    /// before.
    fn give(&self, name: &str, topic: TopicConfig, is_in_use: bool) -> Result<bool, BuildError> {
        self.check(&topic).map_err(|error| of_topic(name, error))?;
        let mut given = self.given();
        let present = given.get(name);
        let default = TopicConfig::new();
        let is_same = present.unwrap_or(&default).is_same(&topic);
        if !is_same && (present.is_some() || is_in_use) {
            return Err(has_others(name));
        }
        Ok(given.insert(name.to_owned(), topic).is_none())
    }

    /// Whether this producer can send with these settings: memory was reserved when it was built.
    fn check(&self, topic: &TopicConfig) -> Result<(), BuildError> {
        let config = self.config.with_topic(topic);
        config.validate()?;
        let reserved = self.largest_batch;
        if config.largest_batch() > reserved {
            return Err(BuildError::InvalidSetting {
                name: "batch_size".to_owned(),
                value: config.batch_size.to_string(),
                reason: format!(
                    "the producer was built for batches of at most {reserved} bytes: give the \
                     topic's settings to the builder (topic_config)"
                ),
            });
        }
        if config.is_idempotent() && !self.has_identity {
            return Err(BuildError::Conflict(
                "the producer was built without an identity, which acks=all is idempotent by: give \
                 the topic's settings to the builder (topic_config)"
                    .to_owned(),
            ));
        }
        if config.compresses() && !self.compresses {
            return Err(BuildError::Conflict(
                "the producer was built without memory to compress in: give the topic's settings \
                 to the builder (topic_config)"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether a topic is made of the settings that it was given.
    fn check_given(&self, topic: &TopicLanes) -> Result<(), BuildError> {
        let Some(own) = self.given().get(&*topic.name).cloned() else { return Ok(()) };
        let config = self.config.with_topic(&own);
        let has_settings = *topic.settings == self.settings(&config);
        let has_strategy =
            config.backoff.is_none_or(|strategy| Arc::ptr_eq(&strategy, &topic.strategy));
        let has_partitioner = config.partitioner.is_none() || topic.partitioner.is_own();
        match has_settings && has_strategy && has_partitioner {
            true => Ok(()),
            false => Err(has_others(&topic.name)),
        }
    }

    fn settings(&self, config: &ProducerConfig) -> TopicSettings {
        topic_settings(config, self.has_identity, self.fallback.clone())
    }

    /// What the topic is made of. Runs the user's partitioner factory.
    fn parts(&self, name: &str) -> TopicParts {
        let own = self.given().get(name).cloned();
        let Some(own) = own else {
            let partitioner = self.chooser(name, self.partitioners.as_ref());
            return TopicParts { settings: None, partitioner, strategy: self.strategy.clone() };
        };
        let config = self.config.with_topic(&own);
        let settings = Arc::new(self.settings(&config));
        let partitioner = self.chooser(name, config.partitioner_in_effect().as_ref());
        TopicParts { settings: Some(settings), partitioner, strategy: config.backoff_in_effect() }
    }

    fn chooser(&self, name: &str, factory: Option<&Arc<dyn PartitionerFactory>>) -> Chooser {
        match factory {
            None => {
                let default = DefaultPartitioner::new();
                Chooser::Default(default.adaptive(self.config.partitioner_adaptive))
            }
            Some(factory) => Chooser::Own(factory.for_topic(name)),
        }
    }

    /// Says that a topic's records are not idempotent although the producer is.
    fn warn_of_idempotence(&self, topic: &TopicLanes) {
        if self.has_identity && !topic.settings.idempotent && self.config.is_idempotent() {
            log::warn!(
                "topic {}: idempotence is off for it, a retry may double or reorder its records: \
                 it needs acks=all",
                topic.name
            );
        }
    }
}

fn has_others(topic: &str) -> BuildError {
    BuildError::Conflict(format!(
        "topic \"{topic}\" has other settings already: give them with the first handle, or to the \
         builder (topic_config)"
    ))
}

impl Producer {
    /// A handle to a topic, which need not exist yet: its metadata is asked for, and records sent
    /// before it is known wait in a stash. All handles to a topic share its partitions.
    ///
    /// # Errors
    /// [`SendErrorKind::InvalidTopic`] if Kafka does not allow the name,
    /// [`SendErrorKind::Closed`], [`SendErrorKind::Forked`], and [`SendErrorKind::PolicyPanicked`]
    /// if the partitioner factory did.
    pub fn topic(&self, name: &str) -> Result<Topic, SendError> {
        let opened = self.shared_checked(name).and_then(|shared| shared.open(name));
        opened.map_err(|kind| SendError::new(name.into(), kind))
    }

    /// The same for a topic with settings of its own. They stay with the name as long as the
    /// producer lives: further handles, also those of [`Producer::topic`], have them. Settings that
    /// are known when the producer is built belong into
    /// [`ProducerBuilder::topic_config`](crate::ProducerBuilder::topic_config), which can reserve
    /// memory for them.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tidegate::{Producer, TopicConfig};
    ///
    /// # fn example(producer: &Producer, tenant: &str) -> Result<(), tidegate::SendError> {
    /// let slow = TopicConfig::new().linger(Duration::from_millis(50));
    /// let topic = producer.topic_with(&format!("usage-{tenant}"), slow)?;
    /// # drop(topic);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Producer::topic`], and [`SendErrorKind::TopicConfig`] if the settings cannot work, or
    /// if the topic has others already.
    pub fn topic_with(&self, name: &str, config: TopicConfig) -> Result<Topic, SendError> {
        let opened = self.shared_checked(name).and_then(|shared| {
            let is_in_use = shared.accumulator.known_topic(name).is_some();
            let refuse = |error| SendErrorKind::TopicConfig(Box::new(error));
            let is_new = shared.topics.give(name, config, is_in_use).map_err(refuse)?;
            let topic = shared.open(name)?;
            // Another thread may have made the topic before it had these settings.
            match shared.topics.check_given(&topic.lanes) {
                Ok(()) => Ok(topic),
                Err(error) => {
                    if is_new {
                        shared.topics.given().remove(name);
                    }
                    Err(refuse(error))
                }
            }
        });
        opened.map_err(|kind| SendError::new(name.into(), kind))
    }

    /// What a handle is made of, where there can be one.
    fn shared_checked(&self, name: &str) -> Result<&Arc<Shared>, SendErrorKind> {
        let shared = &self.running().shared;
        check_topic_name(name).map_err(SendErrorKind::InvalidTopic)?;
        match () {
            () if !shared.born.is_current() => Err(SendErrorKind::Forked),
            () if shared.accumulator.is_closed() => Err(SendErrorKind::Closed),
            () => Ok(shared),
        }
    }
}

impl Shared {
    pub(super) fn open(self: &Arc<Self>, name: &str) -> Result<Topic, SendErrorKind> {
        let lanes = match self.accumulator.known_topic(name) {
            Some(lanes) => lanes,
            None => {
                let parts = user_code::call(|| self.topics.parts(name))
                    .map_err(|_| SendErrorKind::PolicyPanicked("partitioner factory"))?;
                let lanes = self.accumulator.topic(name, || parts);
                self.topics.warn_of_idempotence(&lanes);
                lanes
            }
        };
        // Also where there was no room for its lanes, which there may be now.
        if lanes.partitions() == 0 || lanes.lane_count() < lanes.partitions() as usize {
            self.metadata.want(lanes.name.clone(), Want::Handle);
        }
        Ok(Topic::new(lanes, self.clone()))
    }
}
