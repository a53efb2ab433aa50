//! Layer 6: what an application holds.
//!
//! Fed by the application's threads; feeds lanes (`batch/`) with records and posts them to their
//! shards. Starts and ends the threads of `io/`.
//!
//! * [`ProducerBuilder`] → [`Producer`] → [`Topic`] → [`Delivery`] → [`RecordMetadata`].
//! * `sending`: the way of a record into its batch; `fast_path`: the usual case of it; `together`:
//!   of several into one; `stashing`: of those whose topic is not known yet;
//!   `spilling`: to disk; `intercepted`: past
//!   interceptors. `admission`: what happens to a record for which there is no room, whether a
//!   thread or a task sends it.
//! * `metrics`, `health`, `report`, `status`: what a producer tells of itself.
//! * `exposition`: every metric's name; `prometheus`, `collector`, `facade` write them out.
//!   `librdkafka` and `serialize` tell metrics, the latter also the rest, as JSON.
//! * `topic_maker`: what topics are made of; `topic_creation`: having one created; `ready`: waiting
//!   until one takes records.
//! * `flush`, `close`: waiting for everything that was sent; `unsent`: giving it up.
//! * `probing`: a [`Probe`](crate::probe::Probe) with a producer's settings.

mod admission;
mod builder;
mod callbacks;
mod close;
#[cfg(feature = "prometheus-client")]
mod collector;
mod delivery;
mod events;
mod exposition;
#[cfg(feature = "metrics")]
mod facade;
mod fallback;
mod fast_path;
mod flush;
mod health;
mod intercepted;
mod json;
mod keyed;
mod librdkafka;
mod metrics;
mod payload;
mod probing;
#[allow(clippy::module_inception)]
mod producer;
mod prometheus;
mod ready;
mod record;
mod report;
mod sending;
#[cfg(feature = "serde")]
mod serialize;
#[cfg(feature = "tracing")]
mod spans;
mod spilling;
mod stashing;
mod status;
mod together;
mod topic;
mod topic_creation;
mod topic_maker;
mod unsent;

pub use builder::ProducerBuilder;
pub use callbacks::CallbackRefused;
pub use close::Close;
#[cfg(feature = "prometheus-client")]
pub use collector::PrometheusCollector;
pub use delivery::{Delivery, RecordMetadata};
pub use events::Events;
#[cfg(feature = "metrics")]
pub use facade::MetricsFacade;
pub use flush::Flush;
pub use health::{Health, HealthReason, HealthState};
pub use keyed::KeyedTopic;
pub use librdkafka::LibrdkafkaJson;
pub use payload::{InlineBytes, Payload};
pub use producer::{BrokerLevels, Memory, Producer};
pub use prometheus::PrometheusText;
pub use record::{IntoHeaderValue, IntoTimestamp, OwnedRecord, Record};
pub use report::{BrokerReport, MetadataReport, PartitionReport, Report, TopicReport};
#[cfg(feature = "tracing")]
pub use spans::TraceRecords;
pub use status::DeliveryStatus;
pub use together::BatchDelivery;
pub use topic::Topic;
pub use topic_creation::TopicCreation;
pub use unsent::Purge;
