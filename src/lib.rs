//! An Apache Kafka producer for processes that must send a lot of records without giving up their
//! latency, their memory budget or their cores: pinned event loops, pooled off-heap buffers, and a
//! completion future for every record. With a lean consumer: chosen partitions, no groups joined.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use tidegate::{Producer, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder("host1:9092,host2:9092")
//!     .client_id("shop")
//!     .linger(Duration::from_millis(2))
//!     .build()?;
//! let orders = producer.topic("orders")?;
//!
//! // A key and a value. The delivery is a future for any runtime; threads call `wait`.
//! let delivery = orders.send("customer-42", "2 pairs of shoes")?;
//! println!("{}", delivery.wait()?); // orders-3@1742: topic, partition, offset
//!
//! // Headers, a timestamp, a partition; no key.
//! let record = Record::new().value("restock").header("source", "shelf 7").partition(0);
//! match orders.send_record(record)?.wait() {
//!     Ok(at) => println!("{at}"),
//!     Err(error) => eprintln!("{error} (may it be in the log: {:?})", error.certainty()),
//! }
//!
//! producer.flush().wait()?; // everything sent so far has resolved
//! producer.close(Duration::from_secs(10)).wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `embedded`, brokers run in the same process. This example runs as a test:
//!
//! ```
//! # #[cfg(feature = "embedded")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use tidegate::Producer;
//! use tidegate::embedded::EmbeddedCluster;
//!
//! let cluster = EmbeddedCluster::builder().brokers(2).topic("orders", 1).start()?;
//! let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
//! let orders = producer.topic("orders")?;
//!
//! let deliveries = (0..100)
//!     .map(|n| orders.send("customer-42", &format!("order {n}")))
//!     .collect::<Result<Vec<_>, _>>()?;
//! for (n, delivery) in deliveries.into_iter().enumerate() {
//!     assert_eq!(delivery.wait()?.offset(), Some(n as i64));
//! }
//! producer.close(Duration::from_secs(10)).wait()?;
//!
//! let records = cluster.records("orders", 0);
//! assert_eq!(records[99].value.as_deref(), Some(&b"order 99"[..]));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "embedded"))]
//! # fn main() {}
//! ```
//!
//! # Five things to know
//!
//! * **Producer.** A [`Producer`] has the threads, the connections and the memory. It is cheap to
//!   clone, and one is enough for a process; [`ProducerBuilder`] and [`ProducerConfig`] say how it
//!   is set up. Building one waits for no broker: it connects in the background, at once, and what
//!   is sent meanwhile is kept.
//! * **Topic.** A [`Topic`] is where records are sent from, by any number of threads. It need not
//!   exist yet: [`Topic::send`] never waits for the network. What is wrong with a record at once
//!   (too large, no such partition, producer closed) is a [`SendError`]; everything later is the
//!   delivery's.
//! * **Delivery.** A [`Delivery`] resolves exactly once, within `delivery_timeout` of `send`'s
//!   return: to [`RecordMetadata`] or to a [`DeliveryError`], which names topic, partition, broker
//!   and cause and says whether the record may have been written ([`Certainty`]). Dropping it
//!   cancels nothing. Keeping it holds no buffer memory.
//! * **Watermarks and strategy.** Everything that waits is in one pool of `buffer_memory` bytes,
//!   and every broker has a level in it. A broker whose level goes over its high watermark takes
//!   no records until it is below the low one. What then happens to a record is what the
//!   [`BackoffStrategy`] decides: [`ParkSender`] holds the thread, up to a limit (the default),
//!   [`DropRecords`] drops and counts, [`RejectRecords`] gives an error that hands shared payloads
//!   back, [`UseFallback`] gives the record to the producer's [`Fallback`], which also gets those
//!   that fail later. [`Producer::memory`] and [`Producer::broker_levels`] show the state.
//! * **Event loops.** Threads that talk to brokers, pinned to cores where there are some to spare.
//!   [`EventLoops`] is a value: one thread for each broker, or a number of them, for one producer
//!   or shared by several.
//!
//! # From `send` to the acknowledgement
//!
//! 1. [`Topic::send`] asks the [`Partitioner`] for a partition. If that partition's broker is over
//!    its watermark, or the pool is empty, the [`BackoffStrategy`] decides.
//! 2. The calling thread encodes the record into the partition's open batch, in buffer memory, and
//!    returns the [`Delivery`]. While the topic's partitions are not known the record is kept as it
//!    is instead, and a thread of the producer moves it into its batch once they are.
//! 3. A batch goes when it is full, or part-filled when the broker's connection has little to do
//!    and the batch has waited for `linger`. The event loop puts such batches of many partitions
//!    into one request and writes it to the socket straight from buffer memory (with TLS through
//!    the encryption's own buffer).
//! 4. The broker's answer says for each batch whether it is written, to be sent again, or refused.
//! 5. The loop resolves the deliveries of a batch together, its memory returns to the pool, and the
//!    loop calls the wakers of the tasks that await them.
//!
//! Meanwhile a thread and a connection of its own follow the leaders of partitions.
//!
//! [`manual::architecture`] tells the same with the names of the source: the threads and their
//! queues, the way of a record, the life of a batch. [`manual::memory`] says what all of it costs.
//!
//! # Configuration
//!
//! In code with [`ProducerBuilder`] and [`ProducerConfig`]; by properties in the names of Kafka,
//! librdkafka and Krackle ([`ProducerConfig::from_properties`]); from the environment where that is
//! asked for ([`ProducerConfig::from_env`]). [`manual::configuration`] has every name,
//! [`manual::tuning`] what to change for which symptom, [`manual::migrating`] what other clients
//! call it. Some settings may differ from topic to topic: [`TopicConfig`].
//!
//! A topic that does not exist is an error, unless it is to be created:
//! [`Producer::create_topic`], [`ProducerConfig::create_topics`].
//!
//! # Async code
//!
//! [`Topic::send_async`] waits for room without holding its thread, [`Topic::try_send`] does not
//! wait; deliveries, [`Producer::flush`] and [`Producer::close`] are futures. No runtime is needed.
//! [`manual::async_code`] says what waits and what does not, and how to shut down.
//!
//! [`Delivery::on_complete`] calls a closure instead. [`Topic::with_key`] is the cheapest way to
//! send many values of one key, [`Topic::send_all`] keeps records together in one batch.
//!
//! # Reading
//!
//! A [`Consumer`] reads the partitions that it is told, each from an offset, a time or an end of
//! the log on, without joining a consumer group; it can commit offsets for one.
//! [`manual::reading`] says what can be relied on.
//!
//! # Secured clusters
//!
//! [`ProducerBuilder::tls`] encrypts, [`ProducerBuilder::sasl`] logs in: with a password, a token,
//! a client of an identity provider, or AWS's IAM. [`manual::connecting`] has a configuration for
//! each kind of cluster, and what to do about each error.
//!
//! # Observing
//!
//! [`Delivery::status`] says why a record waits, [`Producer::report`] what waits and for what,
//! [`Producer::health`] whether all is well, [`Producer::metrics`] what was counted.
//! [`manual::observing`] has the costs, and what to do about each answer; [`manual::errors`] has
//! every error, [`manual::guarantees`] what an acknowledgement promises.
//!
//! # Extending
//!
//! [`Partitioner`] (through a [`PartitionerFactory`], one for each topic), [`BackoffStrategy`],
//! [`RetryPolicy`] and [`AddressMap`] are traits; closures are accepted too. They return decisions
//! and are told all that they need. An [`Interceptor`] sees each record before it is encoded, may
//! change it, and hears what becomes of it. [`SaslMechanism`] is a way to log in of your own.
//!
//! A partitioner sees topic, key, value, headers and the partitions, with their availability and
//! their brokers' load. [`BuiltInPartitioners`] has the partitioners of the Java client and of
//! librdkafka, under their names, and more; a partitioner of your own may ask one of them for some
//! of its records, as `examples/custom_partitioner.rs` does.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `gzip`, `snappy`, `lz4` | yes | compression, without a C compiler |
//! | `zstd` | no | compression; needs a C compiler |
//! | `tls` | yes | [TLS](TlsConfig), without a C compiler on x86-64 and AArch64 |
//! | `tls-ring` | no | its cryptography from `ring`, for other processors; needs a C compiler |
//! | `pkcs12` | no | truststores and keystores in PKCS#12; adds to the build time |
//! | `oidc` | no | OAUTHBEARER with tokens that the client fetches from an identity provider |
//! | `aws-msk-iam` | no | logins at Amazon MSK with IAM |
//! | `serde` | no | `Serialize` for reports, health, metrics, events and record metadata |
//! | `metrics` | no | metrics for the facade of the crate `metrics` |
//! | `prometheus-client` | no | metrics for a registry of the crate `prometheus-client` |
//! | `tracing` | no | a span of the crate `tracing` for each record: `TraceRecords` |
//! | `embedded` | no | brokers in the process, for tests and examples |
//! | `cli` | no | the command `tidegate`: sends, measures, checks; brokers for tests |
//! | `internals` | no | opens the inner layers to this crate's own tests; no promise of stability |
//!
//! The target must be 64-bit. Messages go to the `log` crate.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("tidegate needs a 64-bit target: its arena is addressed with 64-bit pointers");

pub mod config;
mod consumer;
mod engine;
mod error;
mod io;
mod locking;
mod logging;
mod problem;
mod producer;
mod user_code;

pub mod manual;

#[cfg(feature = "embedded")]
pub mod embedded;

/// Looks at a cluster step by step: what is there, and what is wrong on the way to it.
pub mod probe {
    pub use crate::io::{
        BrokerDescription, ClusterDescription, PartitionDescription, Probe, ProbeError,
        ProbeFailure, ProbeFinding, ProbeStage, ProbeStep, SpokenVersions, TlsDescription,
        TopicDescription,
    };
}

/// The pure half of the client, for this crate's own tests, fuzz targets and benches. It is no
/// interface: it changes with any version.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::engine::*;
    pub use crate::io::{NameAnswer, answer_name};
}

pub use config::address::HostPort;
pub use config::broker_version::BrokerVersion;
pub use config::consumer_config::{ConsumerConfig, IsolationLevel, OffsetReset, StartAt};
#[cfg(feature = "aws-msk-iam")]
pub use config::login::AwsMskIam;
pub use config::login::Login;
#[cfg(feature = "oidc")]
pub use config::login::{Oidc, TokenFile};
pub use config::new_topic::NewTopic;
pub use config::producer_config::{Acks, ClusterChange, OnDrop, ProducerConfig};
pub use config::security::SecurityProtocol;
pub use config::socks5::Socks5;
pub use config::spill::{SpillConfig, SpillFull, SpillInDoubt, SpillSync};
pub use config::tls::{StoreType, TlsConfig, TlsVersion};
pub use config::topic::TopicConfig;
pub use config::wait_strategy::WaitStrategy;
pub use consumer::{
    Batches, ConsumedBatch, ConsumedRecord, ConsumedRecords, Consumer, ConsumerAnswer,
    ConsumerBuilder,
};
pub use engine::batch::{
    BrokerMetrics, DroppedRecords, FailedRecords, Metrics, PartitionMetrics, TopicMetrics,
};
pub use engine::event::Event;
pub use engine::fetch::PartitionStatus;
pub use engine::meter::{ConnectionState, Histogram, RecordCounts, WaitsFor};
pub use engine::policy::{
    AddressMap, Backoff, BackoffStrategy, BrokerPlace, BuiltInPartitioners, DefaultPartitioner,
    DefaultPartitioners, DropRecords, EveryTopic, ExplicitPartitioner, ExponentialRetry, Fallback,
    InterceptedRecord, Interceptor, KeyHash, KeyPartitioner, Keyless, OnOutcome, ParkSender,
    PartitionRequest, PartitionView, Partitioner, PartitionerFactory, Partitions, Pressure,
    RandomPartitioner, RecordOutcome, RejectRecords, RetryPolicy, RotatingPartitioner,
    RoundRobinPartitioner, SpillRecords, StickyPartitioner, UndeliveredRecord, UseFallback,
    murmur2,
};
#[cfg(feature = "aws-msk-iam")]
pub use engine::policy::{AwsCredentials, AwsCredentialsProvider};
pub use engine::policy::{
    Credentials, CredentialsProvider, JaasConfig, OAuthBearer, OAuthToken, Plain,
    ReplaceableCredentials, SaslError, SaslErrorKind, SaslExchange, SaslMechanism, SaslPeer, Scram,
    Secret, TokenProvider,
};
pub use engine::protocol::ErrorCode;
pub use engine::protocol::compression::{Codec, Compression, LevelOutOfRange};
pub use engine::protocol::records::Header;
pub use error::{
    BuildError, Certainty, CloseError, ConsumeError, ConsumeErrorCause, CreateTopicError,
    CreateTopicErrorKind, DeliveryError, DeliveryErrorCause, FlushError, PressureScope,
    ReturnedRecord, SendError, SendErrorKind,
};
pub use io::{EventLoops, SpillStatus};
pub use problem::{Problem, ProblemKind};
#[cfg(feature = "metrics")]
pub use producer::MetricsFacade;
#[cfg(feature = "prometheus-client")]
pub use producer::PrometheusCollector;
#[cfg(feature = "tracing")]
pub use producer::TraceRecords;
pub use producer::{
    BatchDelivery, BrokerLevels, BrokerReport, CallbackRefused, Close, Delivery, DeliveryStatus,
    Events, Flush, Health, HealthReason, HealthState, InlineBytes, IntoHeaderValue, IntoTimestamp,
    KeyedTopic, LibrdkafkaJson, Memory, MetadataReport, OwnedRecord, PartitionReport, Payload,
    Producer, ProducerBuilder, PrometheusText, Purge, Record, RecordMetadata, Report, Topic,
    TopicCreation, TopicReport,
};

// The code in the README must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
