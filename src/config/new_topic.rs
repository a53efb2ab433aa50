//! What a topic is created with.

use std::time::Duration;

use super::names::GivenNames;
use super::property::{Origin, Property, Show, Unit};
use crate::error::BuildError;

/// What its parts are called where code sets them.
const PARTITIONS: &str = "NewTopic::partitions";
const REPLICATION_FACTOR: &str = "NewTopic::replication_factor";
const TIMEOUT_PART: &str = "NewTopic::timeout";

/// How long creating a topic may take, unless another time is given: `default.api.timeout.ms` of
/// Java's admin client.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a topic is created with: see [`Producer::create_topic`](crate::Producer::create_topic) and
/// [`ProducerConfig::create_topics`](crate::ProducerConfig::create_topics).
///
/// ```
/// use tidegate::NewTopic;
///
/// let events = NewTopic::new()
///     .partitions(12)
///     .replication_factor(3)
///     .setting("min.insync.replicas", "2")
///     .setting("retention.ms", "86400000");
/// # drop(events);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub(crate) partitions: Option<i32>,
    pub(crate) replication_factor: Option<i16>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) timeout: Duration,
}

impl NewTopic {
    /// With everything as the brokers have it: their `num.partitions`, their
    /// `default.replication.factor`, their defaults for all settings. Brokers before Kafka 2.4 must
    /// be given the first two.
    pub fn new() -> Self {
        NewTopic {
            partitions: None,
            replication_factor: None,
            settings: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// How many partitions it has.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How many brokers hold each partition.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// A setting of the topic by Kafka's name, such as `retention.ms` or `cleanup.policy`. The
    /// last value given for a name counts.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.settings.retain(|(present, _)| *present != name);
        self.settings.push((name, value));
        self
    }

    /// How long creating it may take, whatever stands in the way. 60 s unless it is set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Refuses what no broker takes. `named` is what the user calls a part.
    pub(crate) fn validate(&self, named: impl Fn(&str) -> String) -> Result<(), BuildError> {
        let invalid = |part: &str, value: String, reason: &str| {
            let (name, reason) = (named(part), reason.to_owned());
            Err(BuildError::InvalidSetting { name, value, reason })
        };
        match (self.partitions, self.replication_factor) {
            (Some(count), _) if count < 1 => {
                invalid(PARTITIONS, count.to_string(), "a topic has at least one partition")
            }
            (_, Some(count)) if count < 1 => {
                let reason = "at least one broker has to hold each partition";
                invalid(REPLICATION_FACTOR, count.to_string(), reason)
            }
            _ if self.timeout.is_zero() => {
                invalid(TIMEOUT_PART, "0".to_owned(), "no topic is created in no time")
            }
            _ => Ok(()),
        }
    }
}

/// What properties said of it, put together at the end.
#[derive(Default)]
pub(super) struct NewTopicDraft {
    creates: bool,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
}

impl NewTopicDraft {
    /// What topics are created with, if they are.
    ///
    /// # Errors
    ///
    /// [`BuildError::Conflict`] where they are not, and a part of it is given.
    pub(super) fn finish(self, names: &GivenNames<'_>) -> Result<Option<NewTopic>, BuildError> {
        let creates = "tidegate.create.topics";
        if !self.creates {
            let parts = [
                (self.partitions.is_some(), "tidegate.create.topics.partitions"),
                (self.replication_factor.is_some(), "tidegate.create.topics.replication.factor"),
            ];
            return match parts.into_iter().find(|(given, _)| *given) {
                None => Ok(None),
                Some((_, part)) => Err(BuildError::Conflict(format!(
                    "{} needs {}=true",
                    names.of(part),
                    names.of(creates),
                ))),
            };
        }
        let (partitions, replication_factor) = (self.partitions, self.replication_factor);
        Ok(Some(NewTopic { partitions, replication_factor, ..NewTopic::new() }))
    }
}

/// The properties of topics that are created at first use.
pub(super) const CREATE_TOPICS: &[Property] = &[
    Property::read(
        "tidegate.create.topics",
        Origin::Tidegate,
        "create_topics",
        Unit::None,
        Show::Draft(|draft| draft.create_topics.creates.to_string()),
        "Whether a topic that does not exist is created when the first record for it is sent. \
         Settings of new topics are set in code (`NewTopic::setting`).",
        |draft, setting| {
            draft.create_topics.creates = setting.boolean()?;
            Ok(())
        },
    ),
    Property::read(
        "tidegate.create.topics.partitions",
        Origin::Tidegate,
        PARTITIONS,
        Unit::None,
        Show::Unset,
        "How many partitions it gets; unless it is set, as many as the brokers give \
         (`num.partitions`).",
        |draft, setting| {
            let partitions = setting.integer(1, i64::from(i32::MAX))?;
            draft.create_topics.partitions = i32::try_from(partitions).ok();
            Ok(())
        },
    ),
    Property::read(
        "tidegate.create.topics.replication.factor",
        Origin::Tidegate,
        REPLICATION_FACTOR,
        Unit::None,
        Show::Unset,
        "How many brokers hold each of its partitions; unless it is set, as many as the brokers \
         give (`default.replication.factor`).",
        |draft, setting| {
            let replicas = setting.integer(1, i64::from(i16::MAX))?;
            draft.create_topics.replication_factor = i16::try_from(replicas).ok();
            Ok(())
        },
    ),
];

impl Default for NewTopic {
    fn default() -> Self {
        NewTopic::new()
    }
}
