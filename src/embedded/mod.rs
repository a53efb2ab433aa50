//! An in-process Kafka cluster: brokers that speak Kafka's protocol over real TCP on the loopback
//! interface, for tests, examples and benchmarks that have no Kafka at hand.
//!
//! ```
//! use tidegate::embedded::EmbeddedCluster;
//!
//! let cluster = EmbeddedCluster::builder().brokers(3).topic("orders", 12).start()?;
//! let bootstrap = cluster.bootstrap_servers();
//! // … a producer sends to `bootstrap` …
//! assert_eq!(cluster.high_watermark("orders", 0), 0);
//! assert!(cluster.records("orders", 0).is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Fed by whatever client connects, and by the test that scripts it; feeds nothing in this crate.
//! It shares no code with the client: requests and responses go through the `kafka-protocol` crate,
//! and batches and message sets through decoders of its own, so that client and broker do not agree
//! on a mistake.
//!
//! # What it is
//!
//! For those that write it speaks ApiVersions, Metadata, CreateTopics, InitProducerId (without
//! transactions), Produce from version 3, each up to what Kafka 4.1 has unless it is told to be of
//! an age, and logins: PLAIN, SCRAM, OAUTHBEARER and AWS_MSK_IAM, also over TLS. It is strict where
//! Kafka is: CRC-32C and well-formed records, one batch a partition, leadership, `acks`,
//! `message.max.bytes`, and the sequences of idempotent producers. It goes further in three points,
//! which a client must not run into: a request with leftover bytes ends the connection, a partition
//! that occurs twice in one is refused, and message sets are judged as strictly as batches. One
//! answer differs from Kafka 4: a duplicate's log append time is always -1.
//!
//! Any client can read it that reads partitions of its own choice: it speaks Fetch from version 4,
//! ListOffsets and OffsetForLeaderEpoch. A fetch waits for `min_bytes`, its limits cut batches as
//! Kafka's do, leader epochs are judged, and a reader of records that an unclean election took
//! away is told where to go back to. Offsets are kept for groups (FindCoordinator, OffsetCommit,
//! OffsetFetch), and groups have no members (so `assign`, not `subscribe`). There are no fetch
//! sessions and no transactions.
//!
//! # How old it is
//!
//! A broker can be told to be of an age between Kafka 0.8.2 and 4.3 ([`KafkaVersion`]): it
//! advertises that version's APIs, takes message sets of magic 0 and 1 in Produce 0 to 2, and
//! treats what it does not speak as that version does. Brokers of a cluster may differ, and change
//! while it runs: [`EmbeddedClusterBuilder::kafka_version`],
//! [`EmbeddedCluster::set_kafka_version`]. An age is one of the protocol: what a broker remembers
//! of producers, and when an answer is throttled, does not change with it.
//!
//! # What it does not do
//!
//! There is no replication: a partition's log moves with its leader, nothing is lost with a broker,
//! and everything is in memory until the cluster is dropped. What a real cluster does when replicas
//! are missing is scripted, with [`Fault`].
//!
//! # What can be done to it
//!
//! Leaders move, brokers stop, pause and come back on the same port, also as another version of
//! Kafka, topics are created, deleted and extended, and scripted [`Fault`]s go wrong at an exact
//! place. [`EmbeddedCluster::wait_until`] waits for what brokers have seen, so that tests need no
//! sleeps.

mod age;
mod batch;
mod broker;
mod builder;
mod cluster;
mod connection;
mod decompress;
mod discard;
mod fault;
mod gate;
mod handlers;
#[cfg(feature = "tls")]
mod keys;
mod log;
mod login;
mod message_set;
mod msk_iam;
mod producer_state;
mod reader;
mod records;
mod scram;
mod state;
mod stats;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub use age::KafkaVersion;
pub use builder::EmbeddedClusterBuilder;
pub use cluster::EmbeddedCluster;
pub use fault::Fault;
pub use records::EmbeddedRecord;
pub use stats::{BrokerStats, ClusterStats};
#[cfg(feature = "tls")]
pub use tls::EmbeddedTls;
