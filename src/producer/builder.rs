//! From settings to a running producer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::callbacks::Callbacks;
use super::fallback::FallbackHandle;
use super::intercepted::Interceptors;
use super::producer::{Producer, Running, Shared};
use super::topic_maker::TopicMaker;
use crate::config::{
    Acks, BrokerVersion, Login, NewTopic, OnDrop, ProducerConfig, Socks5, SpillConfig, TlsConfig,
    TopicConfig,
};
use crate::engine::batch::{AccumulatorConfig, FallbackQueue, RecordAccumulator, TopicSettings};
use crate::engine::buffer::{AccountId, BufferPool, BufferPoolOptions};
use crate::engine::connection::ConnectionConfig;
use crate::engine::policy::{
    AddressMap, BackoffStrategy, Fallback, Interceptor, PartitionerFactory, RetryPolicy,
};
use crate::engine::protocol::compression::Compression;
use crate::engine::protocol::records::PLAIN_BATCH_OVERHEAD_MAX;
use crate::engine::shard::{PortTable, ShardConfig};
use crate::engine::sync::Generation;
use crate::error::BuildError;
use crate::io::{
    ClientParts, Clock, EventLoops, EventThread, MetadataHandle, MetadataParts, RecoveredTopic,
    Spill, StashMailbox, StashThread, StashThreadParts, Watch, metadata_config, nanos,
    reconnect_backoff, watch_forks,
};
use crate::logging as log;
use crate::problem::Problem;

/// A request takes no further batch once it is this long, in bytes.
const REQUEST_BYTES: usize = 1 << 20;

/// Accounts of brokers that are gone, and that something is still charged to.
const LEAVING_MAX: usize = 64;

/// `retries` from which on a batch that is tried every 100 ms does not use them up within days.
const RETRIES_MANY: u32 = 10_000_000;

/// Where records that find no room go to disk, none expires: this is 36 years.
const NEVER: u64 = 1 << 60;

/// Builds a [`Producer`]. Every setting has a method here or a field in [`ProducerConfig`], which
/// documents units, defaults and costs.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// use std::time::Duration;
/// use tidegate::{Acks, RejectRecords};
///
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .client_id("shop")
///     .acks(Acks::All)
///     .linger(Duration::from_millis(2))
///     .backoff(RejectRecords)
///     .configure(|config| config.retries = 10) // any field of `ProducerConfig`
///     .build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProducerBuilder {
    config: ProducerConfig,
    event_loops: Option<EventLoops>,
}

impl ProducerBuilder {
    pub(super) fn new(bootstrap_servers: &str) -> Self {
        ProducerBuilder { config: ProducerConfig::new(bootstrap_servers), event_loops: None }
    }

    /// A builder that starts from these settings.
    pub fn from_config(config: ProducerConfig) -> Self {
        ProducerBuilder { config, event_loops: None }
    }

    /// Changes any setting, in place.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ProducerConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// See [`ProducerConfig::client_id`].
    #[must_use]
    pub fn client_id(self, client_id: &str) -> Self {
        self.configure(|config| config.client_id = client_id.to_owned())
    }

    /// See [`ProducerConfig::acks`].
    #[must_use]
    pub fn acks(self, acks: Acks) -> Self {
        self.configure(|config| config.acks = acks)
    }

    /// See [`ProducerConfig::enable_idempotence`].
    #[must_use]
    pub fn enable_idempotence(self, enable: bool) -> Self {
        self.configure(|config| config.enable_idempotence = Some(enable))
    }

    /// See [`ProducerConfig::linger`].
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        self.configure(|config| config.linger = linger)
    }

    /// See [`ProducerConfig::batch_size`].
    #[must_use]
    pub fn batch_size(self, bytes: usize) -> Self {
        self.configure(|config| config.batch_size = bytes)
    }

    /// See [`ProducerConfig::buffer_memory`].
    #[must_use]
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.configure(|config| config.buffer_memory = bytes)
    }

    /// See [`ProducerConfig::high_watermark`] and [`ProducerConfig::low_watermark`].
    #[must_use]
    pub fn watermarks(self, low: usize, high: usize) -> Self {
        self.configure(|config| {
            (config.low_watermark, config.high_watermark) = (Some(low), Some(high));
        })
    }

    /// See [`ProducerConfig::compression`].
    #[must_use]
    pub fn compression(self, compression: Compression) -> Self {
        self.configure(|config| config.compression = compression)
    }

    /// See [`ProducerConfig::compression_fallback`].
    #[must_use]
    pub fn compression_fallback(self, compressions: impl Into<Vec<Compression>>) -> Self {
        self.configure(|config| config.compression_fallback = compressions.into())
    }

    /// See [`ProducerConfig::tls`].
    #[must_use]
    pub fn tls(self, tls: TlsConfig) -> Self {
        self.configure(|config| config.tls = Some(tls))
    }

    /// See [`ProducerConfig::delivery_timeout`].
    #[must_use]
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.configure(|config| config.delivery_timeout = timeout)
    }

    /// See [`ProducerConfig::request_timeout`].
    #[must_use]
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.configure(|config| config.request_timeout = timeout)
    }

    /// Topics that do not exist are created like this when the first record for them is sent: see
    /// [`ProducerConfig::create_topics`].
    #[must_use]
    pub fn create_topics(self, topic: NewTopic) -> Self {
        self.configure(|config| config.create_topics = Some(topic))
    }

    /// See [`ProducerConfig::allow_auto_create_topics`].
    #[must_use]
    pub fn allow_auto_create_topics(self, allow: bool) -> Self {
        self.configure(|config| config.allow_auto_create_topics = allow)
    }

    /// See [`ProducerConfig::socks5`].
    #[must_use]
    pub fn socks5(self, proxy: Socks5) -> Self {
        self.configure(|config| config.socks5 = Some(proxy))
    }

    /// See [`ProducerConfig::broker_version_fallback`].
    #[must_use]
    pub fn broker_version_fallback(self, version: BrokerVersion) -> Self {
        self.configure(|config| config.broker_version_fallback = Some(version))
    }

    /// See [`ProducerConfig::api_version_request`].
    #[must_use]
    pub fn api_version_request(self, ask: bool) -> Self {
        self.configure(|config| config.api_version_request = ask)
    }

    /// Chooses partitions; makes one partitioner for each topic. See
    /// [`BuiltInPartitioners`](crate::BuiltInPartitioners) for those that are there already, and
    /// [`ProducerConfig::partitioner`].
    #[must_use]
    pub fn partitioner(self, factory: impl PartitionerFactory + 'static) -> Self {
        self.configure(|config| config.partitioner = Some(Arc::new(factory)))
    }

    /// See [`ProducerConfig::partitioner_ignore_keys`].
    #[must_use]
    pub fn partitioner_ignore_keys(self, ignore: bool) -> Self {
        self.configure(|config| config.partitioner_ignore_keys = ignore)
    }

    /// See [`ProducerConfig::partitioner_adaptive`].
    #[must_use]
    pub fn partitioner_adaptive(self, adaptive: bool) -> Self {
        self.configure(|config| config.partitioner_adaptive = adaptive)
    }

    /// See [`ProducerConfig::partitioner_availability_timeout`].
    #[must_use]
    pub fn partitioner_availability_timeout(self, timeout: Duration) -> Self {
        self.configure(|config| config.partitioner_availability_timeout = timeout)
    }

    /// Settings of one topic, over those of the producer: see [`TopicConfig`].
    #[must_use]
    pub fn topic_config(self, topic: &str, settings: TopicConfig) -> Self {
        self.configure(|config| {
            config.topics.insert(topic.to_owned(), settings);
        })
    }

    /// Decides what happens when there is no room. Default: park for at most `max_block` (60 s).
    #[must_use]
    pub fn backoff(self, strategy: impl BackoffStrategy + 'static) -> Self {
        self.shared_backoff(Arc::new(strategy))
    }

    /// The same with a strategy that is shared: with other producers, or with code that reads what
    /// it counts.
    #[must_use]
    pub fn shared_backoff(self, strategy: Arc<dyn BackoffStrategy>) -> Self {
        self.configure(|config| config.backoff = Some(strategy))
    }

    /// Gets the records that fail, so that they can be kept elsewhere: see [`Fallback`].
    #[must_use]
    pub fn fallback(self, fallback: impl Fallback + 'static) -> Self {
        self.configure(|config| config.fallback = Some(Arc::new(fallback)))
    }

    /// Keeps records on disk while there is no room for them in memory, also over a restart: see
    /// [`SpillConfig`].
    #[must_use]
    pub fn spill(self, spill: SpillConfig) -> Self {
        self.configure(|config| config.spill = Some(spill))
    }

    /// Decides when a failed batch is sent again.
    #[must_use]
    pub fn retry_policy(self, policy: impl RetryPolicy + 'static) -> Self {
        self.configure(|config| config.retry_policy = Some(Arc::new(policy)))
    }

    /// Adds an interceptor behind those that there are: see [`Interceptor`].
    #[must_use]
    pub fn interceptor(self, interceptor: impl Interceptor + 'static) -> Self {
        self.configure(|config| config.interceptors.push(Arc::new(interceptor)))
    }

    /// See [`ProducerConfig::on_drop`].
    #[must_use]
    pub fn on_drop(self, on_drop: OnDrop) -> Self {
        self.configure(|config| config.on_drop = on_drop)
    }

    /// How to log in at brokers: see [`ProducerConfig::sasl`].
    #[must_use]
    pub fn sasl(self, login: impl Into<Login>) -> Self {
        self.configure(|config| config.sasl = Some(login.into()))
    }

    /// Where brokers are reached, if not where they say: see [`AddressMap`].
    #[must_use]
    pub fn address_map(self, map: impl AddressMap + 'static) -> Self {
        self.configure(|config| config.address_map = Some(Arc::new(map)))
    }

    /// The threads to run on. Pass clones of one value to several producers to share its threads;
    /// it then says itself where they are pinned and how they wait, and `cores`, `pinning` and
    /// `wait_strategy` have no effect.
    #[must_use]
    pub fn event_loops(mut self, event_loops: EventLoops) -> Self {
        self.event_loops = Some(event_loops);
        self
    }

    /// Checks the settings, maps the buffer memory and starts the threads. Brokers are not
    /// contacted before this returns: an unreachable or unknown host is reported by the deliveries
    /// it affects.
    ///
    /// # Errors
    /// [`BuildError`] says which setting cannot work, and what to change.
    pub fn build(self) -> Result<Producer, BuildError> {
        let config = self.config;
        config.validate()?;
        warn_of_idempotence(&config);
        let client = ClientParts::of(&config)?;
        let event_loops = self.event_loops.unwrap_or_else(|| default_loops(&config));
        watch_forks();
        let has_identity = has_identity(&config);
        let callbacks = Callbacks::new(config.callbacks_max);
        let fallback = FallbackHandle::start(&config, callbacks.thread())
            .map_err(|error| system("a thread", error.into()))?;
        let queue = FallbackHandle::queue_of(&fallback);
        let accumulator = accumulator(&config, has_identity, queue.clone())?;
        let ports = PortTable::new(config.brokers_max);
        let mailbox = StashMailbox::new();
        let (spill, recovered) = OpenSpill::open(&config, &mailbox)?;
        let stash_thread = stash_thread(&accumulator, &ports, &mailbox)?;
        let connection = client.connection.clone();
        let started = MetadataHandle::start(MetadataParts {
            machine: metadata_config(&config, has_identity, client.bootstrap),
            shard: Arc::new(shard_config(&config, has_identity, connection.clone())),
            connection,
            sockets: client.sockets,
            security: client.security,
            address_map: client.address_map,
            socks5: client.socks5,
            retry_policy: config.retry_policy_in_effect(),
            scratch_bytes: config.scratch_bytes(),
            scratch_bytes_max: config.scratch_bytes_max(),
            accumulator: accumulator.clone(),
            loops: event_loops,
            ports: ports.clone(),
            shards_max: config.brokers_max,
            brokers_max: config.brokers_max,
            topic_idle_max: nanos(config.metadata_max_idle),
            metrics_log_interval: config.metrics_log_interval,
            stashes: mailbox,
            random: client.random,
        });
        let metadata = match started {
            Ok(metadata) => metadata,
            Err(error) => {
                stash_thread.stop(Some(&mut Watch::begin(Duration::ZERO)));
                return Err(system("a thread or a descriptor", error.into()));
            }
        };
        let (on_drop, timeout) = (config.on_drop, config.longest_delivery());
        let events = EventThread::new(accumulator.failures.events.clone(), config.events_max);
        let shared = Arc::new(Shared {
            accumulator,
            ports,
            metadata: metadata.mailbox().clone(),
            clock: Clock,
            max_request_size: config.max_request_size,
            fits_below: config.max_request_size.saturating_sub(PLAIN_BATCH_OVERHEAD_MAX),
            born: Generation::current(),
            watches_stalls: !config.partitioner_availability_timeout.is_zero(),
            callbacks,
            interceptors: Interceptors(config.interceptors.clone()),
            fallback,
            spill: spill.keep(),
            missing_fallback_told: AtomicBool::new(false),
            topics: TopicMaker::new(config, has_identity, queue),
        });
        shared.restore(recovered);
        Ok(Producer::start(Running { shared, metadata, stash_thread, events }, on_drop, timeout))
    }
}

fn stash_thread(
    accumulator: &Arc<RecordAccumulator>,
    ports: &Arc<PortTable>,
    mailbox: &Arc<StashMailbox>,
) -> Result<StashThread, BuildError> {
    let (accumulator, ports, mailbox) = (accumulator.clone(), ports.clone(), mailbox.clone());
    StashThread::start(StashThreadParts { accumulator, ports, mailbox })
        .map_err(|error| system("a thread", error.into()))
}

/// A spill folder that is given up again if the producer cannot be built.
struct OpenSpill(Option<Arc<Spill>>);

impl OpenSpill {
    /// Opens the folder, if there is to be one.
    fn open(
        config: &ProducerConfig,
        stashes: &Arc<StashMailbox>,
    ) -> Result<(Self, Vec<RecoveredTopic>), BuildError> {
        let Some(spill) = &config.spill else { return Ok((OpenSpill(None), Vec::new())) };
        let (spill, recovered) = Spill::open(spill, stashes.clone())?;
        Ok((OpenSpill(Some(spill)), recovered))
    }

    fn keep(mut self) -> Option<Arc<Spill>> {
        self.0.take()
    }
}

impl Drop for OpenSpill {
    fn drop(&mut self) {
        if let Some(spill) = &self.0 {
            spill.finish(&mut Watch::begin(Duration::ZERO));
        }
    }
}

fn warn_of_idempotence(config: &ProducerConfig) {
    if let Some(obstacle) = config.idempotence_given_up() {
        log::warn!(
            "idempotence is off, a retry may double or reorder records: it needs {obstacle}; with \
             {} set to false this is not said",
            config.name_of("enable_idempotence"),
        );
    }
}

fn system(what: &'static str, problem: Problem) -> BuildError {
    BuildError::System { what, problem }
}

fn default_loops(config: &ProducerConfig) -> EventLoops {
    let loops = EventLoops::default().waiting(config.wait_strategy);
    match &config.cores {
        _ if !config.pinning => loops.unpinned(),
        Some(cores) => loops.pinned_to(cores.clone()),
        None => loops,
    }
}

fn pool_options(config: &ProducerConfig) -> BufferPoolOptions {
    BufferPoolOptions {
        bytes: config.buffer_memory,
        // The two fixed accounts besides the brokers', and those of brokers that are just gone.
        accounts_max: (config.brokers_max + 2 + LEAVING_MAX).min(usize::from(u16::MAX)),
        high: config.high_watermark,
        low: config.low_watermark,
        stash_bytes_min: config.stash_bytes_min(),
        ..BufferPoolOptions::default()
    }
}

/// Whether some topic's batches carry an identity, so that the producer needs one.
fn has_identity(config: &ProducerConfig) -> bool {
    config.is_idempotent() || config.topics_in_effect().any(|(_, topic)| topic.is_idempotent())
}

/// The settings of topics that are sent to with this configuration.
pub(super) fn topic_settings(
    config: &ProducerConfig,
    has_identity: bool,
    fallback: Option<Arc<FallbackQueue>>,
) -> TopicSettings {
    TopicSettings {
        acks: config.acks.code(),
        idempotent: has_identity && config.is_idempotent(),
        linger: nanos(config.linger),
        batch_size: config.batch_size,
        delivery_timeout: match config.spill {
            Some(_) => NEVER,
            None => nanos(config.delivery_timeout),
        },
        compressions: config.compressions().collect(),
        create: config.create_topics.clone().map(Arc::new),
        fallback,
        spills: config.spill.is_some(),
    }
}

/// The buffer memory, and who keeps records in it.
fn accumulator(
    config: &ProducerConfig,
    has_identity: bool,
    fallback: Option<Arc<FallbackQueue>>,
) -> Result<Arc<RecordAccumulator>, BuildError> {
    let pool = BufferPool::new(&pool_options(config))
        .map_err(|error| system("buffer memory", error.into()))?;
    let parts = AccumulatorConfig {
        topics: Arc::new(topic_settings(config, has_identity, fallback)),
        lanes_max: config.lanes_max,
        leaderless_account: AccountId::LEADERLESS,
    };
    Ok(RecordAccumulator::new(parts, pool))
}

fn shard_config(
    config: &ProducerConfig,
    has_identity: bool,
    connection: Arc<ConnectionConfig>,
) -> ShardConfig {
    ShardConfig {
        idempotent: has_identity,
        idempotence_required: config.requires_idempotence(),
        in_flight_max: config.max_in_flight,
        producer_id_idle_max: nanos(config.producer_id_idle_max),
        topic_unknown_max: nanos(config.topic_unknown_max.min(config.longest_delivery())),
        request_timeout_ms: i32::try_from(config.request_timeout.as_millis()).unwrap_or(i32::MAX),
        part_filled_floor: config.part_filled_floor.map(nanos),
        availability_timeout: Some(nanos(config.partitioner_availability_timeout))
            .filter(|&timeout| timeout > 0),
        request_bytes: REQUEST_BYTES.min(config.largest_request()),
        request_bytes_max: config.largest_request(),
        retries: config.retries,
        tries_for_all: config.retry_policy.is_none() && config.retries >= RETRIES_MANY,
        reconnect_backoff: reconnect_backoff(config),
        idle_max: nanos(config.connections_max_idle),
        connection,
    }
}
