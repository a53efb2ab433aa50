//! The settings of a consumer.

use std::time::Duration;

use super::ProducerConfig;
use super::validate::TIME_MAX;
use crate::error::BuildError;

/// Kafka's sizes are 32-bit signed.
const SIZE_MAX: usize = i32::MAX as usize;

/// So are the lengths of its names, in 16 bits.
const GROUP_BYTES_MAX: usize = i16::MAX as usize;

/// A broker with nothing to tell is asked at most so often.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// Where to begin to read a partition.
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
/// // Where an earlier run of the program had come to.
/// let start = StartAt::Offset(2);
/// let consumer = Consumer::builder(&servers).partitions("orders", [0], start).build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// assert_eq!(batch.first_offset(), 2);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartAt {
    /// With the first record that is still there.
    Earliest,
    /// With the next record that is written. Partitions that are added to the topic later are read
    /// from their first record on.
    Latest,
    /// With the record of this offset.
    Offset(i64),
    /// With the first record that is not older: milliseconds since the Unix epoch. An error where
    /// the partition's leader is older than Kafka 0.10.1.
    Time(i64),
    /// With the offset that is committed for the consumer's group
    /// ([`group_id`](ConsumerConfig::group_id)), where
    /// [`Consumer::commit`](crate::Consumer::commit) or another client of the group had come to.
    /// Where none is, [`auto_offset_reset`](ConsumerConfig::auto_offset_reset) says where to begin;
    /// by default that is an error.
    Committed,
}

/// What to do when the log does not have the offset that comes next.
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
/// use tidegate::{Consumer, OffsetReset, StartAt};
///
/// let consumer = Consumer::builder(&servers)
///     .topic("orders", StartAt::Offset(1_000)) // The log ends before that.
///     .auto_offset_reset(OffsetReset::Earliest)
///     .build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// assert_eq!(batch.first_offset(), 0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetReset {
    /// It is an error, and the partition is not read until it is sought.
    #[default]
    None,
    /// Go on with the first record that is there, and say so in the log (WARN).
    Earliest,
    /// Go on with the next record that is written, and say so in the log (WARN).
    Latest,
}

/// Whether records of transactions are read that may still be aborted.
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
/// use tidegate::{Consumer, IsolationLevel, StartAt};
///
/// let consumer = Consumer::builder(&servers)
///     .topic("orders", StartAt::Earliest)
///     .isolation_level(IsolationLevel::ReadCommitted)
///     .build()?;
/// // Records of no transaction are read too.
/// assert!(consumer.poll(Duration::from_secs(10)).is_some_and(|batch| batch.is_ok()));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All records, also those of transactions that are open or were aborted.
    #[default]
    ReadUncommitted,
    /// Records of transactions that were committed, and those of none; only up to the first record
    /// of a transaction that is still open.
    ReadCommitted,
}

/// The settings of a [`Consumer`](crate::Consumer).
///
/// ```
/// use tidegate::ConsumerConfig;
///
/// let mut config = ConsumerConfig::new("host1:9092,host2:9092");
/// config.queue_max_bytes = 8 << 20;
/// assert_eq!(config.validate(), Ok(()));
/// config.fetch_min_bytes = 0; // A broker would answer at once, also where there is nothing.
/// assert!(config.validate().is_err());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// How brokers are found and reached: `bootstrap_servers`, `client_id`, `tls`, `sasl`, time
    /// limits of connections, metadata. What is about records is not looked at.
    pub client: ProducerConfig,
    /// How long a broker may wait for [`fetch_min_bytes`](Self::fetch_min_bytes). A seek may have
    /// to wait as long: one answer of a broker is awaited before it is asked the next thing. Kafka:
    /// `fetch.max.wait.ms`; 500 ms.
    pub fetch_max_wait: Duration,
    /// A broker answers once it has so many bytes of records. More of it makes fewer and larger
    /// answers, later. Kafka: `fetch.min.bytes`; 1.
    pub fetch_min_bytes: usize,
    /// Bytes of records of one answer, about; a first batch that is larger comes all the same.
    /// Kafka: `fetch.max.bytes`, which has 50 MiB by default; 4 MiB here.
    pub fetch_max_bytes: usize,
    /// The same of one partition. Kafka: `max.partition.fetch.bytes`; 1 MiB.
    pub max_partition_fetch_bytes: usize,
    /// The largest batch that is taken, compressed or not. Larger ones are an error. Each broker's
    /// connection may need so much memory; 64 MiB.
    pub batch_max_bytes: usize,
    /// Bytes of records that were fetched and not taken yet, together with what brokers are asked
    /// for; half of it is shared out among the brokers, so that an answer may have less than
    /// `fetch_max_bytes`. While there is no room nothing is asked for. 32 MiB.
    pub queue_max_bytes: usize,
    /// The group for which offsets are committed and asked for; `None`, the default: for none. The
    /// consumer does not join it: no partition is assigned to it, and groups that other clients
    /// have joined refuse its commits. Kafka: `group.id`, with `assign`.
    pub group_id: Option<String>,
    /// Kafka: `isolation.level`; read uncommitted.
    pub isolation_level: IsolationLevel,
    /// Kafka: `auto.offset.reset`, which is `latest` by default there; an error here.
    pub auto_offset_reset: OffsetReset,
}

impl ConsumerConfig {
    /// Defaults, for these brokers: `host:port,host:port`.
    pub fn new(bootstrap_servers: &str) -> Self {
        ConsumerConfig::for_client(ProducerConfig::new(bootstrap_servers))
    }

    /// Defaults, with brokers reached as these settings say.
    pub fn for_client(client: ProducerConfig) -> Self {
        ConsumerConfig {
            client,
            fetch_max_wait: Duration::from_millis(500),
            fetch_min_bytes: 1,
            fetch_max_bytes: 4 << 20,
            max_partition_fetch_bytes: 1 << 20,
            batch_max_bytes: 64 << 20,
            queue_max_bytes: 32 << 20,
            group_id: None,
            isolation_level: IsolationLevel::default(),
            auto_offset_reset: OffsetReset::default(),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first thing that cannot work.
    pub fn validate(&self) -> Result<(), BuildError> {
        self.client.validate()?;
        let invalid = |name: &str, value: String, reason: String| {
            Err(BuildError::InvalidSetting { name: name.to_owned(), value, reason })
        };
        let sizes = [
            // With 0 a broker would answer at once, also where there is nothing.
            ("fetch_min_bytes", self.fetch_min_bytes, 1),
            ("fetch_max_bytes", self.fetch_max_bytes, 1),
            ("max_partition_fetch_bytes", self.max_partition_fetch_bytes, 1),
            ("batch_max_bytes", self.batch_max_bytes, self.max_partition_fetch_bytes),
            ("queue_max_bytes", self.queue_max_bytes, 1),
        ];
        for (name, value, min) in sizes {
            if !(min..=SIZE_MAX).contains(&value) {
                let reason = format!("it must be between {min} and {SIZE_MAX}");
                return invalid(name, value.to_string(), reason);
            }
        }
        if let Some(group) = &self.group_id
            && !(1..=GROUP_BYTES_MAX).contains(&group.len())
        {
            let reason = format!("it must be of 1 to {GROUP_BYTES_MAX} bytes");
            return invalid("group_id", format!("{group:?}"), reason);
        }
        if self.fetch_max_wait < WAIT_MIN
            || self.fetch_max_wait > TIME_MAX
            || self.fetch_max_wait >= self.client.request_timeout
        {
            let reason = format!(
                "it must be {WAIT_MIN:?} or more, and below request_timeout, {:?}, by which an \
                 answer must have come",
                self.client.request_timeout
            );
            return invalid("fetch_max_wait", format!("{:?}", self.fetch_max_wait), reason);
        }
        Ok(())
    }
}
