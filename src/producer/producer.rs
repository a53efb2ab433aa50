//! The producer itself.

use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, TryLockError, Weak};
use std::time::Duration;

use super::builder::ProducerBuilder;
use super::callbacks::Callbacks;
use super::close::Close;
use super::fallback::FallbackHandle;
use super::flush::Flush;
use super::intercepted::Interceptors;
use super::topic_maker::TopicMaker;
use crate::config::{OnDrop, ProducerConfig};
use crate::engine::batch::{FailedRecords, RecordAccumulator, is_placing};
use crate::engine::shard::PortTable;
use crate::engine::sync::Generation;
use crate::error::{BuildError, CloseError};
use crate::io::{
    Clock, EventThread, MetadataHandle, MetadataMailbox, Spill, SpillStatus, StashThread,
    is_own_thread,
};
use crate::locking::lock;
use crate::logging as log;

/// What senders need, and what outlives the producer while a topic is held.
pub(super) struct Shared {
    pub accumulator: Arc<RecordAccumulator>,
    pub ports: Arc<PortTable>,
    pub metadata: Arc<MetadataMailbox>,
    /// What the topics are made of.
    pub topics: TopicMaker,
    pub clock: Clock,
    pub max_request_size: usize,
    /// A record without headers is not over `max_request_size` if its key and value have fewer
    /// bytes than this together.
    pub fits_below: usize,
    /// In a fork's child nothing of this is used: its threads are the parent's.
    pub born: Generation,
    /// Brokers are watched for batches that they do not take (`partitioner_availability_timeout`).
    pub watches_stalls: bool,
    /// Who is called when records are resolved.
    pub callbacks: Arc<Callbacks>,
    /// Who sees records before they are encoded.
    pub interceptors: Interceptors,
    /// Who gets the records that fail.
    pub fallback: Option<FallbackHandle>,
    /// Where records go on disk.
    pub spill: Option<Arc<Spill>>,
    /// The log was told that the strategy gives records to a fallback that there is not.
    pub missing_fallback_told: AtomicBool,
}

/// The threads of a producer.
pub(super) struct Running {
    pub shared: Arc<Shared>,
    pub metadata: MetadataHandle,
    pub stash_thread: StashThread,
    pub events: EventThread,
}

struct Inner {
    running: Arc<Running>,
    on_drop: OnDrop,
    /// As long as the background may go on with what a dropped producer left.
    delivery_timeout: Duration,
    closing: Mutex<Option<Close>>,
}

/// A Kafka producer: cheap to clone, shared by any number of threads and topics.
///
/// ```no_run
/// use tidegate::Producer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let producer = Producer::builder("host1:9092,host2:9092").build()?;
/// let orders = producer.topic("orders")?;
/// let delivery = orders.send("customer-42", "...")?;
/// println!("{}", delivery.wait()?); // orders-3@1742
/// # Ok(())
/// # }
/// ```
///
/// Dropping the last clone closes it: [`ProducerConfig::on_drop`] says whether that waits. A
/// [`Topic`](crate::Topic) that outlives it gets errors.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use std::time::Duration;
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::Producer;
///
/// let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?; // in place of Kafka
/// let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.to_string(), "orders-0@0");
/// producer.close(Duration::from_secs(10)).wait()?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

/// Buffer memory, in bytes.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .buffer_memory(128 << 20)
///     .build()?;
/// let memory = producer.memory();
/// assert_eq!(memory.capacity, 128 << 20);
/// let percent = 100 * (memory.capacity - memory.free) / memory.capacity;
/// println!("{percent} % of the buffer memory are in use");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// All of it: `buffer_memory`, in whole chunks of 64 KiB.
    pub capacity: usize,
    /// What is not taken by queued or in-flight batches, by stashes or for compression.
    pub free: usize,
}

/// The level of one broker: bytes queued and in flight for it, and its watermarks.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .watermarks(1 << 20, 4 << 20)
///     .build()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// let levels = &producer.broker_levels()[0];
/// assert_eq!((levels.broker, levels.low, levels.high), (1, 1 << 20, 4 << 20));
/// assert!(levels.writable && levels.times_unwritable == 0);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerLevels {
    /// The broker's node id.
    pub broker: i32,
    /// Bytes of segments queued or in flight for it.
    pub charged: usize,
    /// A record that is charged above this makes it not writable. By default it follows the free
    /// memory, so it may sink below `charged` without making it not writable.
    pub high: usize,
    /// Below this it is writable again.
    pub low: usize,
    /// Whether records for it are taken without asking the backoff strategy.
    pub writable: bool,
    /// How often it became not writable.
    pub times_unwritable: u64,
    /// How often it became writable again.
    pub times_writable: u64,
}

impl Producer {
    /// A builder with every setting at its default. `bootstrap_servers` is a list such as
    /// `"host1:9092,host2:9092"`; it is checked by [`ProducerBuilder::build`].
    pub fn builder(bootstrap_servers: &str) -> ProducerBuilder {
        ProducerBuilder::new(bootstrap_servers)
    }

    /// A producer with these settings, on event loops of its own.
    ///
    /// # Errors
    /// [`BuildError`] if the settings cannot work. Brokers are not contacted here.
    pub fn from_config(config: ProducerConfig) -> Result<Producer, BuildError> {
        ProducerBuilder::from_config(config).build()
    }

    pub(super) fn start(running: Running, on_drop: OnDrop, delivery_timeout: Duration) -> Self {
        let origin: Weak<dyn Any + Send + Sync> = Arc::<Shared>::downgrade(&running.shared);
        running.shared.accumulator.failures.set_origin(origin);
        let running = Arc::new(running);
        Producer(Arc::new(Inner { running, on_drop, delivery_timeout, closing: Mutex::default() }))
    }

    pub(super) fn running(&self) -> &Running {
        &self.0.running
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.running.shared
    }

    /// Resolves when every record that was sent before this call has resolved, and the callbacks
    /// ([`Delivery::on_complete`](crate::Delivery::on_complete)) that were given before it have
    /// returned, however long those take: hold no lock meanwhile that a callback takes. Open
    /// batches are sealed at once, whatever their linger.
    pub fn flush(&self) -> Flush {
        Flush::begin(&self.0.running.shared, None)
    }

    /// Closes the producer: nothing is accepted from now on, and what was accepted is delivered, or
    /// failed with [`DeliveryErrorCause::Closed`](crate::DeliveryErrorCause::Closed) once `timeout`
    /// has passed. Then the threads end. It ends within 100 ms of the timeout, also if one of them
    /// is stuck in code of the application's, and says which: for a hard limit give it 100 ms less.
    /// Only a [`Fallback`](crate::Fallback) is given the time that it takes for what was left.
    /// A second call gives the outcome of the first.
    pub fn close(&self, timeout: Duration) -> Close {
        self.close_with(|running| Close::begin(running, timeout))
    }

    /// Begins the close, unless that was done before.
    pub(super) fn close_with(&self, begin: impl FnOnce(Arc<Running>) -> Close) -> Close {
        if !self.0.running.shared.born.is_current() {
            return Close::refused(CloseError::Forked);
        }
        let mut closing = match self.0.closing.try_lock() {
            // Another thread is beginning the close. This one is inside a partitioner that places
            // stashed records, which must not wait for other threads.
            Err(TryLockError::WouldBlock) if is_placing() => {
                return Close::refused(CloseError::OwnThread);
            }
            Ok(closing) => closing,
            Err(_) => lock(&self.0.closing),
        };
        match &*closing {
            // What `begin` holds is dropped behind the lock: it may be the application's.
            Some(begun) => begun.clone(),
            None => closing.insert(begin(self.0.running.clone())).clone(),
        }
    }

    /// Buffer memory in use.
    pub fn memory(&self) -> Memory {
        let pool = &self.0.running.shared.accumulator.pool;
        Memory { capacity: pool.capacity(), free: pool.free_bytes() }
    }

    /// The level of every broker of the cluster; none in a fork's child.
    pub fn broker_levels(&self) -> Vec<BrokerLevels> {
        if !self.0.running.shared.born.is_current() {
            return Vec::new();
        }
        let accumulator = &self.0.running.shared.accumulator;
        let brokers = accumulator.brokers();
        let levels = brokers.into_iter().map(|(broker, account)| {
            let levels = accumulator.pool.levels(account);
            BrokerLevels {
                broker: broker.0,
                charged: levels.charged,
                high: levels.high,
                low: levels.low,
                writable: levels.writable,
                times_unwritable: levels.times_unwritable,
                times_writable: levels.times_writable,
            }
        });
        levels.collect()
    }

    /// What is in the spill folder. `None` where the producer has none
    /// ([`spill`](ProducerConfig::spill)), and in a fork's child.
    pub fn spill_status(&self) -> Option<SpillStatus> {
        let shared = &self.0.running.shared;
        shared.spill.as_ref().filter(|_| shared.born.is_current()).map(|spill| spill.status())
    }

    /// Records that the backoff strategy dropped. [`Metrics::dropped`](crate::Metrics::dropped) has
    /// them by what was full, and [`Metrics`](crate::Metrics) by topic, partition and broker too.
    pub fn dropped_records(&self) -> u64 {
        self.0.running.shared.accumulator.failures.dropped().total
    }

    /// Records that were accepted and failed, by cause, and how many of them nobody looked at. A
    /// delivery that is dropped takes its record's error along; what is lost that way is counted
    /// here and told to the log, in one warning for each partition and cause, at most every 10 s.
    pub fn failed_records(&self) -> FailedRecords {
        self.0.running.shared.accumulator.failures.counts()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.running.shared.born.is_current() {
            // The threads are the parent's.
            return;
        }
        let closing = lock(&self.closing).take();
        let was_closed = closing.is_some();
        let close = match (closing, self.on_drop) {
            (Some(close), OnDrop::Wait(_)) => close,
            (None, OnDrop::Wait(time)) => Close::begin(self.running.clone(), time),
            // A close that the application began goes on as it is.
            (Some(_), OnDrop::Detach) => return,
            (None, OnDrop::Detach) => {
                Close::in_background(self.running.clone(), self.delivery_timeout);
                return;
            }
        };
        // Whoever closed it, and waited, knows how that went.
        let is_known = close.is_seen();
        // On one of its own threads it detaches: the closing thread ends the others.
        if !is_own_thread()
            && let Err(error) = close.wait()
            && !is_known
        {
            if was_closed {
                log::warn!("the producer was closed, and nobody waited to hear how: {error}");
            } else {
                log::warn!("the producer was dropped, which closes it (on_drop): {error}");
            }
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("memory", &self.memory()).finish_non_exhaustive()
    }
}
