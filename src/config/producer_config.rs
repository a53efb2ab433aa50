//! The settings of a producer, and their defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::address::split_list;
use super::broker_version::BrokerVersion;
use super::login::Login;
use super::names::Names;
use super::new_topic::NewTopic;
use super::security::SecurityProtocol;
use super::socks5::Socks5;
use super::spill::SpillConfig;
use super::tls::TlsConfig;
use super::topic::TopicConfig;
use super::wait_strategy::WaitStrategy;
use crate::engine::policy::{
    AddressMap, BackoffStrategy, BuiltInPartitioners, ExponentialRetry, Fallback, Interceptor,
    ParkSender, PartitionerFactory, RetryPolicy, SpillRecords,
};
use crate::engine::protocol::compression::Compression;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What dropping a producer's last handle does. Either way the producer closes: nothing more is
/// accepted.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{OnDrop, Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .on_drop(OnDrop::Detach)
///     .build()?;
/// let delivery = producer.topic("orders")?.send("customer-42", "paid")?;
/// drop(producer); // It waits for nothing, and the record is sent all the same.
/// assert_eq!(delivery.wait()?.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrop {
    /// The thread waits until everything is acknowledged or has failed, for at most so long; then
    /// what is left fails. A program that ends after that has lost nothing unseen. A
    /// [`Fallback`] is waited for beyond that time, as by a close.
    Wait(Duration),
    /// The thread goes on at once, and the producer goes on in the background until everything has
    /// resolved, for at most `delivery_timeout`. For async code, where a thread must not wait. If
    /// the process ends before that, what is left is lost; the log then tells how much memory held
    /// it, where the process ends by returning from `main` or by `exit`.
    Detach,
}

impl Default for OnDrop {
    fn default() -> Self {
        OnDrop::Wait(Duration::from_secs(5))
    }
}

/// How many replicas must have a record before its delivery resolves.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Acks, Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("load", 1).start()?;
/// let producer = Producer::builder(&cluster.bootstrap_servers()).acks(Acks::None).build()?;
/// let at = producer.topic("load")?.send("host-7", "0.97")?.wait()?;
/// assert_eq!(at.offset(), None); // no broker was asked to say where the record is
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// `acks=0`: none. A delivery resolves when its last byte was written, without an offset; what
    /// the broker then does with it is not known. A broker that refuses some records closes the
    /// connection: tidegate then looks for the leader again and warns, at most every 10 s for each
    /// broker, how many records may be lost.
    None,
    /// `acks=1`: the leader alone. A record is lost if the leader fails before it was copied.
    Leader,
    /// `acks=all`: every replica in sync. The default.
    #[default]
    All,
}

/// What a producer does when its brokers turn out to be of another cluster.
///
/// ```
/// use tidegate::{ClusterChange, ProducerConfig};
///
/// let properties = [("bootstrap.servers", "kafka:9092"), ("tidegate.cluster.change", "fail")];
/// let config = ProducerConfig::from_properties(properties)?;
/// assert_eq!(config.on_cluster_change, ClusterChange::Fail);
/// # Ok::<(), tidegate::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClusterChange {
    /// `follow`: it goes on there, with a new producer id. What waits is sent there. Records that
    /// may have been written to the old cluster fail, as `Unknown`. The default.
    #[default]
    Follow,
    /// `fail`: what waits fails, and what is sent from then on, until the old cluster is back.
    Fail,
}

impl Acks {
    /// The number on the wire: 0, 1 or -1.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// All settings of a producer. Times are [`Duration`]s, sizes are bytes.
///
/// The defaults are those of Kafka 4.3's `ProducerConfig` unless a field says otherwise. Start from
/// [`ProducerConfig::new`], [`ProducerConfig::from_properties`] or [`ProducerConfig::from_env`] and
/// change fields; nothing is checked until [`ProducerConfig::validate`], so their order does not
/// matter. [`manual::configuration`](crate::manual::configuration) has the names of the properties.
///
/// ```
/// use std::time::Duration;
/// use tidegate::ProducerConfig;
///
/// let properties = [("bootstrap.servers", "host1:9092,host2:9092"), ("linger.ms", "5")];
/// let mut config = ProducerConfig::from_properties(properties)?;
/// config.buffer_memory = 256 << 20;
/// config.validate()?; // `Producer::from_config` does so too
/// assert_eq!(config.linger, Duration::from_millis(5));
/// # Ok::<(), tidegate::BuildError>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// Brokers to start from, each as `host:port`, an IPv6 host in brackets; an entry may be a list
    /// of them with commas between. Default: none, one is
    /// needed. The rest of the cluster is learned from any one of them that answers; list two or
    /// three, so that a start does not depend on a single one. `bootstrap.servers`.
    pub bootstrap_servers: Vec<String>,
    /// The name under which brokers log, meter and throttle this producer. Default: `tidegate`
    /// (Java: empty). Change it to tell applications apart. `client.id`.
    pub client_id: String,
    /// How many replicas must have a record before it is acknowledged. Default: all. Less is
    /// quicker to acknowledge and turns idempotence off. `acks`.
    pub acks: Acks,
    /// Whether brokers drop repeated batches, so that a retry neither doubles nor reorders records.
    /// Default: `None`, on where the other settings allow it: with `acks` = all, `retries` > 0 and
    /// at most 5 in flight. Brokers before Kafka 0.11 do not know it: there a lost acknowledgement
    /// may double a batch, and one batch at a time keeps the order. `Some(true)` makes it an error
    /// where it cannot be had. It costs nothing worth measuring. `enable.idempotence`.
    pub enable_idempotence: Option<bool>,
    /// How often a batch is sent again at most. Default: 2,147,483,647, that is, until
    /// `delivery_timeout`, which is the better limit to change. `retries`.
    pub retries: u32,
    /// Requests on their way on one connection. Default: 5, from 1 to 1,024; with idempotence at
    /// most 5. Each costs a slot of a few hundred bytes. Without idempotence only 1 keeps the order
    /// through retries. `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// How long a batch may wait for more records. Default: 0 (Java: 5 ms): a lone record leaves at
    /// once, and a busy partition fills its batches anyway. Raise it to some milliseconds for
    /// fewer, larger requests where many partitions each get little. `linger.ms`.
    pub linger: Duration,
    /// Bytes at which a batch is full. Default: 256 KiB (Java: 16 KiB). Memory is taken in segments
    /// of 4 to 64 KiB as records arrive, so a quiet partition does not pay for it. Lower it where
    /// latency under load counts more than throughput; keep it at most the broker's
    /// `message.max.bytes` (1 MiB). `batch.size`.
    pub batch_size: usize,
    /// Memory for records that are queued or in flight, mapped once. Default: 64 MiB (Java: 32
    /// MiB). It is a hard limit: the strategy decides what happens when it is reached. Raise it to
    /// ride out longer stalls: rate × seconds. `buffer.memory`.
    pub buffer_memory: usize,
    /// The largest record, in bytes, as a batch of its own before compression, and the largest
    /// request, a single larger batch aside. Default: 1 MiB. Raise it with the topic's
    /// `max.message.bytes`. `max.request.size`.
    pub max_request_size: usize,
    /// The largest request, in bytes on the wire; a single larger batch goes alone. Default:
    /// `None`, as `max_request_size`, which it cannot exceed. A request takes no further batch once
    /// it holds 1 MiB. Keep both at most the brokers' `socket.request.max.bytes` (100 MiB; 1 MiB at
    /// some hosted services). Lower it for smoother latency on slow links.
    /// `tidegate.request.bytes.max`.
    pub request_bytes_max: Option<usize>,
    /// What to take a broker for that does not answer ApiVersions, as Kafka before 0.10 does not.
    /// Default: `None`: such a broker cannot be used. Each broker is asked before the first use,
    /// and again after an hour and after two connections that answered nothing: Kafka 0.8 closes
    /// the connection over the question, 0.9 says nothing until `connection_setup_timeout`. A
    /// broker that answers is taken for what it says. Not together with a login, which brokers that
    /// old do not know. `broker.version.fallback`.
    pub broker_version_fallback: Option<BrokerVersion>,
    /// Whether brokers are asked for the versions that they speak (ApiVersions, KIP-35). Default:
    /// true. With false all of them are taken for `broker_version_fallback`, which must be set; for
    /// clusters of Kafka 0.8 or 0.9 alone, which lose no time then. `api.version.request`.
    pub api_version_request: bool,
    /// How long a broker may take to answer a request before its connection is closed and its
    /// batches are tried again, from the request's last byte that left this machine (a slow link
    /// has all the time that it needs, as long as bytes leave), and not counting the time for which
    /// it throttles. Default: 30 s. Lower it to notice silent brokers sooner; keep it
    /// above the brokers' `replica.lag.time.max.ms`. `request.timeout.ms`.
    pub request_timeout: Duration,
    /// How long a record may take to be acknowledged, waiting and retries included, from when
    /// `send` returned: the time that the strategy parked it there is not counted. It is counted
    /// for a batch, from its first record, so one that joins a waiting batch late has less.
    /// Default: 120 s. At least `linger` + `request_timeout`. Without effect where `spill` is set.
    /// `delivery.timeout.ms`.
    pub delivery_timeout: Duration,
    /// How long the default strategy parks a sender for which there is no room. Default: 60 s. A
    /// task in `send_async` waits without this limit. Without effect where `strategy` is set.
    /// `max.block.ms`.
    pub max_block: Duration,
    /// The first wait before a retry. Default: 100 ms. `retry.backoff.ms`.
    pub retry_backoff: Duration,
    /// The longest wait before a retry. Default: 1 s. While a broker has too few followers in sync,
    /// one of its partitions at a time is tried every `retry_backoff` nevertheless.
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// The first wait before a broker is connected to again, give or take a fifth; each further one
    /// is twice as long. Default: 50 ms. `reconnect.backoff.ms`.
    pub reconnect_backoff: Duration,
    /// The longest wait before a broker is connected to again, give or take a fifth. Default: 1 s.
    /// Raise it where thousands of producers share a cluster. `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// For so long after a broker was lost waits before it is connected to again are at most 200 ms
    /// (or `reconnect_backoff`, if that is more), so that one that restarts is used at once.
    /// Default: 30 s (Java: 0). It costs five connection attempts a second for each broker that is
    /// away; lower it where thousands of producers share a cluster. `tidegate.reconnect.quick.ms`.
    pub reconnect_quick: Duration,
    /// How long each address of a broker may take to accept a connection and to answer its first
    /// request, give or take a fifth at random; and how long a name may take to be looked up.
    /// Default: 10 s. `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout: Duration,
    /// What `connection_setup_timeout` grows to, twice as long with each failure in a row of an
    /// address (KIP-601). Default: 30 s. Below `connection_setup_timeout` it has no effect.
    /// `socket.connection.setup.timeout.max.ms`.
    pub connection_setup_timeout_max: Duration,
    /// A connection unused for so long is closed. Default: 9 min, a little under the brokers' own
    /// 10 min. Lower it behind a firewall that forgets sooner. `connections.max.idle.ms`.
    pub connections_max_idle: Duration,
    /// Metadata is asked for again at this age, errors or not. Default: 5 min. Lower it to notice
    /// new partitions sooner. `metadata.max.age.ms`.
    pub metadata_max_age: Duration,
    /// A topic that nothing was sent to for so long is not asked about any more; its next record
    /// asks for it again, and waits for the answer. If nobody has a handle to it then it is
    /// forgotten with its partitions, which count against `lanes_max`. Default: 5 min, at least
    /// 5 s. Raise it where topics are used seldom and their first record must not wait.
    /// `metadata.max.idle.ms`.
    pub metadata_max_idle: Duration,
    /// Callbacks ([`Delivery::on_complete`](crate::Delivery::on_complete)) that may be outstanding:
    /// given, and not returned. Further ones are refused. 1,048,576 by default; each takes what the
    /// closure holds and about 100 bytes. `tidegate.callbacks.max`.
    pub callbacks_max: usize,
    /// How many events wait for a listener ([`Producer::events`](crate::Producer::events)) that is
    /// slow; further ones are counted. 1,024 by default, about 200 bytes each. Nothing is kept
    /// while nobody listens. `tidegate.events.max`.
    pub events_max: usize,
    /// How often [`Metrics`](crate::Metrics) are written to the log, at INFO. `None` by default:
    /// never. At least 1 s. `tidegate.metrics.log.interval.ms`, where 0 is never.
    pub metrics_log_interval: Option<Duration>,
    /// The least time between two metadata requests, and their interval while a partition has lost
    /// its leader, which grows to 1 s within ten. Default: 100 ms.
    /// `tidegate.metadata.min.refresh.ms`.
    pub metadata_min_refresh: Duration,
    /// How long brokers may say that a topic does not exist before the records that wait for it
    /// fail. While no broker can be asked only `delivery_timeout` counts. Default: 30 s; in effect
    /// at most `delivery_timeout`. `tidegate.topic.unknown.max.ms`.
    pub topic_unknown_max: Duration,
    /// What happens when the brokers turn out to be of another cluster (another cluster id), as
    /// after a name was given to another one: go on there, or fail. A changed id is believed when
    /// no known broker answers with the old one any more. Default: [`ClusterChange::Follow`].
    /// `tidegate.cluster.change`.
    pub on_cluster_change: ClusterChange,
    /// Whether asking for an unknown topic may create it, where the brokers allow that too.
    /// Default: no (Java producers: yes): a misspelt name is an error.
    /// `tidegate.allow.auto.create.topics`.
    pub allow_auto_create_topics: bool,
    /// What a topic is created with when the first record for it is sent and brokers say that it
    /// does not exist: the producer then creates it itself, whatever `auto.create.topics.enable` is
    /// at the brokers. Needs the right to create topics. `None`, the default: it creates none. Of
    /// one topic: [`TopicConfig::create`](crate::TopicConfig::create).
    /// `tidegate.create.topics`, `tidegate.create.topics.partitions` and
    /// `tidegate.create.topics.replication.factor`.
    pub create_topics: Option<NewTopic>,
    /// How long a partition may go without an acknowledgement before its next batch goes alone, and
    /// others follow once that one is acknowledged: the broker may have forgotten the producer, and
    /// would take batches in any order. Default: 15 min. Keep it below the brokers'
    /// `producer.id.expiration.ms` (1 day). `tidegate.producer.id.idle.max.ms`.
    pub producer_id_idle_max: Duration,
    /// How batches are compressed. Default: not. It costs processor time on the event loops and one
    /// batch of scratch memory each; it pays where the network or the brokers' disks are the limit.
    /// `compression.type` and `compression.*.level`.
    pub compression: Compression,
    /// How batches are compressed for a broker that does not take `compression` (zstd before Kafka
    /// 2.1): as the first of these that it takes. Default: none, so that records for such a broker
    /// fail. `compression.type` as a list in order of preference: `zstd,lz4`.
    pub compression_fallback: Vec<Compression>,
    /// Encrypts connections, and verifies brokers by their certificates. Default: `None`, records
    /// and answers travel in the clear. Costs processor time on the event loops, some microseconds
    /// for each 16 KiB, and a handshake of some milliseconds for each connection.
    /// `security.protocol` and `ssl.…`.
    pub tls: Option<TlsConfig>,
    /// How the producer logs in at brokers (SASL): [`Plain`](crate::Plain),
    /// [`Scram`](crate::Scram), [`OAuthBearer`](crate::OAuthBearer) or a mechanism of your own;
    /// with the features for them, tokens of an identity provider and signatures of AWS: see
    /// [`Login`]. Without TLS the login can be read, and with `PLAIN` the password, by everything
    /// between here and the broker. Default: `None`, no login. `sasl.mechanism` with
    /// `sasl.jaas.config`, or with `sasl.username` and `sasl.password`.
    pub sasl: Option<Login>,
    /// Where brokers are reached, if not where they say. Default: `None`, where they say. In code
    /// only.
    pub address_map: Option<Arc<dyn AddressMap>>,
    /// A SOCKS5 proxy through which all brokers are reached. Default: none. Brokers' names, those
    /// of `bootstrap_servers` too, are looked up by the proxy, after `address_map`.
    /// `tidegate.socks5` with `tidegate.socks5.username` and `tidegate.socks5.password`.
    pub socks5: Option<Socks5>,
    /// What the other settings must come to: with `SaslSsl`, for instance, a producer without
    /// [`tls`](Self::tls) or without [`sasl`](Self::sasl) is not built. Default: `None`, which
    /// leaves it to them. `security.protocol`.
    pub security_protocol: Option<SecurityProtocol>,
    /// The socket's send buffer, in bytes. Default: `None`, the system's own sizing (Java: 128
    /// KiB, which on Linux ends that sizing). Set it on long fat links. `send.buffer.bytes`.
    pub send_buffer: Option<usize>,
    /// The socket's receive buffer, in bytes. Default: `None`, the system's own (Java: 32 KiB). A
    /// producer receives little. `receive.buffer.bytes`.
    pub receive_buffer: Option<usize>,
    /// The quiet time after which TCP probes a connection. Default: 30 s; `None` for never. It
    /// finds connections whose other end vanished. `tidegate.tcp.keepalive.ms`, 0 for never.
    pub tcp_keepalive: Option<Duration>,
    /// What dropping the last handle does. Default: it waits for unacknowledged records, at most
    /// 5 s. Call `close` instead to choose, and to hear of failures. `tidegate.close.on.drop.ms`,
    /// in milliseconds or `detach`.
    pub on_drop: OnDrop,
    /// Partitions that a producer may use in all; further ones are refused with an error. Default:
    /// 65,536. Each event loop keeps a queue of so many ids, 16 bytes each.
    /// `tidegate.lanes.max`.
    pub lanes_max: usize,
    /// Brokers that a producer may know at one time. Default: 1,024. Each costs an account and a
    /// connection's state, a few KiB; one that has left the cluster gives both back.
    /// `tidegate.brokers.max`.
    pub brokers_max: usize,
    /// Bytes charged to a broker above which it is not writable. Default: `None`: twice what is
    /// free in the pool, eight times while only one broker is known, so that one that stalls leaves
    /// room for the others. `tidegate.high.watermark`.
    pub high_watermark: Option<usize>,
    /// Bytes below which it is writable again. Default: `None`: half of the high watermark in
    /// effect. Needs `high_watermark`. `tidegate.low.watermark`.
    pub low_watermark: Option<usize>,
    /// The least time between requests that carry part-filled batches on a busy connection.
    /// Default: `None`: none while the broker's event loop has time to spare, up to 100 µs when it
    /// has not. Set it (to 200 µs) for less processor time, or to 0 for the least latency under any
    /// load. `tidegate.part.filled.floor.us`.
    pub part_filled_floor: Option<Duration>,
    /// The processor cores that event loops are pinned to, by number. Default: `None`: chosen among
    /// those allowed to the process. `tidegate.cores`, as in `0,2-5`.
    pub cores: Option<Vec<usize>>,
    /// Whether event loops are pinned to cores at all. Default: yes, where the process may use four
    /// cores or more, and at most half of them; processes begin at different ones. On two cores it
    /// costs latency. Turn it off on machines shared with other busy processes.
    /// `tidegate.pinning`.
    pub pinning: bool,
    /// How event loops wait while they have nothing to do: sleep, spin, or one after the other.
    /// Default: [`WaitStrategy::Block`]. `tidegate.loop.wait`: `block`, `spin`, or for how many
    /// microseconds a loop spins before it sleeps.
    pub wait_strategy: WaitStrategy,
    /// Who chooses partitions. Default: `None`, a
    /// [`DefaultPartitioner`](crate::DefaultPartitioner) for each topic, or, with
    /// `partitioner_ignore_keys`, a [`StickyPartitioner`](crate::StickyPartitioner). In properties
    /// `partitioner`, by a name of librdkafka's or of
    /// [`BuiltInPartitioners::named`](crate::BuiltInPartitioners::named), or `partitioner.class`,
    /// by the name of a class of the Java client's.
    pub partitioner: Option<Arc<dyn PartitionerFactory>>,
    /// Whether records with a key are spread as those without. Default: no. Without effect where
    /// `partitioner` is set. `partitioner.ignore.keys`.
    pub partitioner_ignore_keys: bool,
    /// Whether records without a key are sent less often to brokers that are slow (KIP-794): see
    /// [`StickyPartitioner`](crate::StickyPartitioner). Default: yes. Without effect where
    /// `partitioner` is set in code. `partitioner.adaptive.partitioning.enable`.
    pub partitioner_adaptive: bool,
    /// A broker that has not taken a ready batch for so long counts as not available: records that
    /// may go elsewhere do, until it takes one (KIP-794). Default: 0, which is never; a broker over
    /// its high watermark, or without a leader's role, is not available in any case. Above what a
    /// request takes at the slowest broker that is in order. `partitioner.availability.timeout.ms`.
    pub partitioner_availability_timeout: Duration,
    /// What happens to a record without room. Default: `None`: [`ParkSender`] for `max_block`, or
    /// with `spill` [`SpillRecords`]. `tidegate.backoff.strategy`: `park`, `drop`, `reject`,
    /// `fallback` or `spill`.
    pub backoff: Option<Arc<dyn BackoffStrategy>>,
    /// Who gets the records that fail, to keep them elsewhere. Default: `None`. In code only.
    pub fallback: Option<Arc<dyn Fallback>>,
    /// How much memory records may take that [`Backoff::Fallback`](crate::Backoff::Fallback) copies
    /// because there is no room for them, as long as the fallback has not seen them; while it is
    /// used up, such records are refused. In bytes, about 200 a record more than its own. Default:
    /// 8 MiB. `tidegate.fallback.memory`.
    pub fallback_memory: usize,
    /// Where records go on disk for which there is no room. Default: `None`. With it records do not
    /// expire: `delivery_timeout` does not hold for them, and [`SpillRecords`] is the default of
    /// `backoff`. `tidegate.spill.directory` and its like.
    pub spill: Option<SpillConfig>,
    /// How long a retry waits. Default: `None`: [`ExponentialRetry`] from `retry_backoff` to
    /// `retry_backoff_max`. In code only.
    pub retry_policy: Option<Arc<dyn RetryPolicy>>,
    /// Who sees records before they are encoded, in this order. Default: none. In code only.
    pub interceptors: Vec<Arc<dyn Interceptor>>,
    /// Settings of topics, by their names: what differs there. Default: none.
    /// `tidegate.topic.NAME.SETTING`, as in `tidegate.topic.audit.acks`.
    pub topics: BTreeMap<String, TopicConfig>,
    /// Under which names the fields were set.
    pub(crate) names: Names,
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Default for ProducerConfig {
    fn default() -> Self {
        ProducerConfig {
            bootstrap_servers: Vec::new(),
            client_id: "tidegate".to_owned(),
            acks: Acks::All,
            enable_idempotence: None,
            retries: i32::MAX as u32,
            max_in_flight: 5,
            linger: Duration::ZERO,
            batch_size: 256 * KIB,
            buffer_memory: 64 * MIB,
            max_request_size: MIB,
            request_bytes_max: None,
            broker_version_fallback: None,
            api_version_request: true,
            request_timeout: seconds(30),
            delivery_timeout: seconds(120),
            max_block: seconds(60),
            retry_backoff: millis(100),
            retry_backoff_max: seconds(1),
            reconnect_backoff: millis(50),
            reconnect_backoff_max: seconds(1),
            reconnect_quick: seconds(30),
            connection_setup_timeout: seconds(10),
            connection_setup_timeout_max: seconds(30),
            connections_max_idle: seconds(9 * 60),
            metadata_max_age: seconds(5 * 60),
            metadata_max_idle: seconds(5 * 60),
            callbacks_max: 1 << 20,
            events_max: 1_024,
            metrics_log_interval: None,
            metadata_min_refresh: millis(100),
            topic_unknown_max: seconds(30),
            on_cluster_change: ClusterChange::Follow,
            allow_auto_create_topics: false,
            create_topics: None,
            producer_id_idle_max: seconds(15 * 60),
            compression: Compression::None,
            compression_fallback: Vec::new(),
            tls: None,
            security_protocol: None,
            send_buffer: None,
            receive_buffer: None,
            tcp_keepalive: Some(seconds(30)),
            on_drop: OnDrop::default(),
            lanes_max: 65_536,
            brokers_max: 1_024,
            high_watermark: None,
            low_watermark: None,
            part_filled_floor: None,
            cores: None,
            pinning: true,
            wait_strategy: WaitStrategy::Block,
            partitioner: None,
            partitioner_ignore_keys: false,
            partitioner_adaptive: true,
            partitioner_availability_timeout: Duration::ZERO,
            backoff: None,
            fallback: None,
            fallback_memory: 8 * MIB,
            spill: None,
            retry_policy: None,
            sasl: None,
            address_map: None,
            socks5: None,
            interceptors: Vec::new(),
            topics: BTreeMap::new(),
            names: Names::default(),
        }
    }
}

impl ProducerConfig {
    /// The default settings, with these brokers to start from: a list such as
    /// `"host1:9092,host2:9092"`, which [`ProducerConfig::validate`] checks.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::ProducerConfig;
    ///
    /// let mut config = ProducerConfig::new("host1:9092,host2:9092");
    /// config.linger = Duration::from_millis(5);
    /// assert_eq!(config.validate(), Ok(()));
    /// ```
    pub fn new(servers: &str) -> Self {
        let bootstrap_servers = split_list(servers).map(str::to_owned).collect();
        ProducerConfig { bootstrap_servers, ..ProducerConfig::default() }
    }

    /// Whether the producer is idempotent: as asked for, or else where the other settings allow it.
    pub fn is_idempotent(&self) -> bool {
        self.enable_idempotence.unwrap_or_else(|| self.idempotence_obstacle().is_none())
    }

    /// Whether a broker that knows no idempotence must not be used.
    pub fn requires_idempotence(&self) -> bool {
        self.enable_idempotence == Some(true)
    }

    /// How batches may be compressed, in order of preference.
    pub fn compressions(&self) -> impl Iterator<Item = Compression> {
        std::iter::once(self.compression).chain(self.compression_fallback.iter().copied())
    }

    /// Bytes of the largest request, a single larger batch aside.
    pub fn largest_request(&self) -> usize {
        self.request_bytes_max.unwrap_or(usize::MAX).min(self.max_request_size)
    }

    /// Bytes of the largest batch there can be: the pool and each loop need room for one.
    pub fn largest_batch(&self) -> usize {
        let of_topics = self.topics.values().filter_map(TopicConfig::own_batch_size).max();
        self.batch_size.max(self.max_request_size).max(of_topics.unwrap_or(0))
    }

    /// Whether batches are compressed, of some topic at least.
    pub(crate) fn compresses(&self) -> bool {
        let of_topics = self.topics.values().flat_map(TopicConfig::own_compressions);
        self.compressions().chain(of_topics).any(|it| it != Compression::None)
    }

    /// The longest `delivery_timeout` of any topic.
    pub(crate) fn longest_delivery(&self) -> Duration {
        let of_topics = self.topics.values().filter_map(TopicConfig::own_delivery_timeout);
        of_topics.fold(self.delivery_timeout, Duration::max)
    }

    /// The strategy in effect.
    pub fn backoff_in_effect(&self) -> Arc<dyn BackoffStrategy> {
        let default = || match self.spill {
            Some(_) => Arc::new(SpillRecords) as Arc<_>,
            None => Arc::new(ParkSender::for_at_most(self.max_block)) as Arc<_>,
        };
        self.backoff.clone().unwrap_or_else(default)
    }

    /// What makes partitioners, unless it is the default that does.
    pub fn partitioner_in_effect(&self) -> Option<Arc<dyn PartitionerFactory>> {
        let ignore_keys = self.partitioner_ignore_keys.then(|| {
            let sticky = BuiltInPartitioners::sticky();
            Arc::new(sticky.adaptive(self.partitioner_adaptive)) as Arc<_>
        });
        self.partitioner.clone().or(ignore_keys)
    }

    /// The retry policy in effect.
    pub fn retry_policy_in_effect(&self) -> Arc<dyn RetryPolicy> {
        let exponential = || {
            Arc::new(ExponentialRetry::new(self.retry_backoff, self.retry_backoff_max)) as Arc<_>
        };
        self.retry_policy.clone().unwrap_or_else(exponential)
    }
}

impl fmt::Debug for ProducerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("client_id", &self.client_id)
            .field("acks", &self.acks)
            .field("idempotent", &self.is_idempotent())
            .field("max_in_flight", &self.max_in_flight)
            .field("linger", &self.linger)
            .field("batch_size", &self.batch_size)
            .field("buffer_memory", &self.buffer_memory)
            .field("max_request_size", &self.max_request_size)
            .field("request_timeout", &self.request_timeout)
            .field("delivery_timeout", &self.delivery_timeout)
            .field("compression", &self.compression)
            .field("topics", &self.topics)
            .field("tls", &self.tls)
            .field("sasl", &self.sasl)
            .finish_non_exhaustive()
    }
}
