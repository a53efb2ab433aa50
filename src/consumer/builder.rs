//! From settings to a running consumer.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::consumer::Consumer;
use crate::config::{
    ConsumerConfig, IsolationLevel, OffsetReset, ProducerConfig, StartAt, check_topic_name,
};
use crate::engine::connection::ConnectionConfig;
use crate::engine::fetch::{FetchConfig, FetchQueue};
use crate::engine::protocol::PartitionId;
use crate::error::BuildError;
use crate::io::{
    ClientParts, FetchHandle, FetchParts, metadata_config, nanos, reconnect_backoff, watch_forks,
};

/// A topic that is not known, or that nobody can be asked about, is waited for: records do not
/// expire that are in a log.
const NEVER: u64 = 1 << 60;

/// What a response has besides records.
const RESPONSE_OVERHEAD: usize = 1 << 20;

/// Builds a [`Consumer`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let producer = Producer::builder(&servers).build()?;
/// # for item in ["2 pairs of shoes", "1 hat", "a discount"] {
/// #     producer.topic("orders")?.send("customer-42", item)?.wait()?;
/// # }
/// # use std::time::Duration;
/// use tidegate::{Consumer, StartAt};
///
/// let consumer = Consumer::builder(&servers)
///     .topic("orders", StartAt::Earliest)
///     .client(|client| client.client_id = "audit".to_owned())
///     .configure(|config| config.queue_max_bytes = 8 << 20)
///     .build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// assert_eq!(batch.topic(), "orders");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConsumerBuilder {
    config: ConsumerConfig,
    topics: Vec<(String, Option<Vec<i32>>, StartAt)>,
}

impl ConsumerBuilder {
    /// A builder that starts from these settings.
    pub fn from_config(config: ConsumerConfig) -> Self {
        ConsumerBuilder { config, topics: Vec::new() }
    }

    /// Reads all partitions of a topic, those that are added later as well.
    #[must_use]
    pub fn topic(mut self, name: &str, start: StartAt) -> Self {
        self.topics.push((name.to_owned(), None, start));
        self
    }

    /// Reads these partitions of a topic, and no other.
    #[must_use]
    pub fn partitions(
        mut self,
        topic: &str,
        partitions: impl IntoIterator<Item = i32>,
        start: StartAt,
    ) -> Self {
        self.topics.push((topic.to_owned(), Some(partitions.into_iter().collect()), start));
        self
    }

    /// Changes any setting, in place.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ConsumerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// How brokers are found and reached: see [`ConsumerConfig::client`].
    #[must_use]
    pub fn client(self, change: impl FnOnce(&mut ProducerConfig)) -> Self {
        self.configure(|config| change(&mut config.client))
    }

    /// See [`ConsumerConfig::isolation_level`].
    #[must_use]
    pub fn isolation_level(self, level: IsolationLevel) -> Self {
        self.configure(|config| config.isolation_level = level)
    }

    /// See [`ConsumerConfig::group_id`].
    #[must_use]
    pub fn group_id(self, group: &str) -> Self {
        self.configure(|config| config.group_id = Some(group.to_owned()))
    }

    /// See [`ConsumerConfig::auto_offset_reset`].
    #[must_use]
    pub fn auto_offset_reset(self, reset: OffsetReset) -> Self {
        self.configure(|config| config.auto_offset_reset = reset)
    }

    /// Checks the settings and starts the consumer's thread. Brokers are not contacted before this
    /// returns.
    ///
    /// # Errors
    /// [`BuildError`] says which setting cannot work, and what to change. A partition that is named
    /// twice is one too.
    pub fn build(self) -> Result<Consumer, BuildError> {
        let config = self.config;
        config.validate()?;
        let topics = wanted(self.topics)?;
        let from_committed = topics.iter().any(|(_, _, start)| *start == StartAt::Committed);
        if from_committed && config.group_id.is_none() {
            let text = "to begin at committed offsets a group_id is needed: whose offsets?";
            return Err(BuildError::Conflict(text.to_owned()));
        }
        let mut client = ClientParts::of(&config.client)?;
        client.connection = Arc::new(ConnectionConfig {
            // What is larger is refused before memory is taken for it.
            response_bytes_max: config
                .batch_max_bytes
                .saturating_add(config.fetch_max_bytes)
                .saturating_add(RESPONSE_OVERHEAD)
                .min(i32::MAX as usize),
            ..(*client.connection).clone()
        });
        watch_forks();
        let queue = Arc::new(FetchQueue::new(config.queue_max_bytes));
        let mut machine = metadata_config(&config.client, false, client.bootstrap.clone());
        // No topic is created by being read.
        (machine.auto_create, machine.delivery_timeout) = (false, NEVER);
        let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        let wait_ms = i32::try_from(config.fetch_max_wait.as_millis()).unwrap_or(i32::MAX);
        let handle = FetchHandle::start(FetchParts {
            client,
            machine,
            idle_max: nanos(config.client.connections_max_idle),
            fetch: FetchConfig {
                max_bytes: config.fetch_max_bytes,
                partition_max_bytes: config.max_partition_fetch_bytes,
                batch_max_bytes: config.batch_max_bytes,
                queue_max_bytes: config.queue_max_bytes,
                reset: config.auto_offset_reset,
                retry_backoff: nanos(config.client.metadata_min_refresh),
                reconnect: reconnect_backoff(&config.client),
            },
            wait: (wait_ms, size(config.fetch_min_bytes)),
            group: config.group_id.as_deref().map(Arc::from),
            read_committed: config.isolation_level == IsolationLevel::ReadCommitted,
            topics,
            queue: queue.clone(),
        });
        let handle = handle.map_err(|error| BuildError::System {
            what: "a thread or a descriptor",
            problem: error.into(),
        })?;
        Ok(Consumer::new(handle, queue, config.batch_max_bytes))
    }
}

type Wanted = (Arc<str>, Option<Vec<PartitionId>>, StartAt);

fn wanted(topics: Vec<(String, Option<Vec<i32>>, StartAt)>) -> Result<Vec<Wanted>, BuildError> {
    if topics.is_empty() {
        return Err(BuildError::Conflict("nothing to read: name a topic".to_owned()));
    }
    let mut seen = BTreeSet::new();
    let mut wanted = Vec::with_capacity(topics.len());
    for (name, partitions, start) in topics {
        check_topic_name(&name)
            .map_err(|error| BuildError::Conflict(format!("topic {name:?}: {error}")))?;
        let invalid = |value: String, reason: &str| BuildError::InvalidSetting {
            name: format!("the start in {name}"),
            value,
            reason: reason.to_owned(),
        };
        match start {
            StartAt::Offset(offset @ ..0) => {
                return Err(invalid(offset.to_string(), "offsets begin with 0"));
            }
            StartAt::Time(time @ ..0) => {
                return Err(invalid(time.to_string(), "times begin with 0, the year 1970"));
            }
            _ => {}
        }
        let listed = partitions.clone().unwrap_or_default();
        if let Some(partition) = listed.iter().find(|&&partition| partition < 0) {
            let text = format!("partition {partition} of {name} does not exist: they begin with 0");
            return Err(BuildError::Conflict(text));
        }
        let names = match &partitions {
            None => vec![None],
            Some(_) => listed.iter().copied().map(Some).collect(),
        };
        let is_whole = seen.contains(&(name.clone(), None));
        let any_twice = names.into_iter().any(|it| {
            let is_part = it.is_none() && seen.iter().any(|(topic, _)| *topic == name);
            is_whole || is_part || !seen.insert((name.clone(), it))
        });
        if any_twice {
            let text = format!("a partition of {name} is to be read twice by one consumer");
            return Err(BuildError::Conflict(text));
        }
        let partitions = partitions.map(|list| list.into_iter().map(PartitionId).collect());
        wanted.push((name.into(), partitions, start));
    }
    Ok(wanted)
}
