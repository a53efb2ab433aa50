//! What all lanes of a producer share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lane::{AppendContext, MonotonicClock};
use super::{
    Cells, Destination, Failures, FlushWaiters, Lane, LaneHalf, LaneId, ShardId, TopicLanes,
};
use crate::buffer::{AccountId, BufferPool};
use crate::error::{DeliveryError, DeliveryErrorCause};
use crate::policy::Chooser;
use crate::protocol::{BrokerId, PartitionId};

/// Sizes in bytes, times in nanoseconds.
#[derive(Clone, Debug)]
pub struct AccumulatorConfig {
    /// A batch is full at this length.
    pub batch_size: usize,
    /// From a batch's first record until its deliveries fail.
    pub delivery_timeout: u64,
    /// Lanes of the producer at the most.
    pub lanes_max: usize,
    /// What lanes without a leader are charged to.
    pub leaderless_account: AccountId,
    /// What stashed records are charged to.
    pub stash_account: AccountId,
}

/// The limit of lanes is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyLanes {
    /// The limit.
    pub lanes_max: usize,
}

/// Pool, cells, topics and lanes of one producer.
pub struct RecordAccumulator {
    /// Its settings.
    pub config: AccumulatorConfig,
    /// Where segments come from.
    pub pool: BufferPool,
    /// Where completion cells come from.
    pub cells: Cells,
    /// Who waits in `flush` or `close`.
    pub flush: FlushWaiters,
    /// What failed, and what of that nobody looked at.
    pub failures: Arc<Failures>,
    topics: Mutex<BTreeMap<Arc<str>, Arc<TopicLanes>>>,
    lanes: Mutex<Vec<Arc<Lane>>>,
    brokers: Mutex<Vec<(BrokerId, AccountId)>>,
    lane_count: AtomicU32,
    closed: AtomicBool,
}

impl RecordAccumulator {
    /// Without topics.
    pub fn new(config: AccumulatorConfig, pool: BufferPool) -> Arc<Self> {
        let failures = Arc::<Failures>::default();
        Arc::new(RecordAccumulator {
            config,
            pool,
            cells: Cells::observed_by(failures.clone()),
            flush: FlushWaiters::default(),
            failures,
            topics: Mutex::default(),
            lanes: Mutex::default(),
            brokers: Mutex::default(),
            lane_count: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        })
    }

    /// What an append needs besides the record.
    #[inline]
    pub fn append_context<'a>(&'a self, clock: &'a dyn MonotonicClock) -> AppendContext<'a> {
        AppendContext {
            batch_size: self.config.batch_size,
            delivery_timeout: self.config.delivery_timeout,
            cells: &self.cells,
            clock,
            accepted_at: None,
        }
    }

    /// The topic of this name, made with `partitioner` at its first mention. That is a user's code:
    /// it runs under no lock, so several threads may run it for the same topic; one's is taken.
    pub fn topic<P: Into<Chooser>>(
        &self,
        name: &str,
        partitioner: impl FnOnce() -> P,
    ) -> Arc<TopicLanes> {
        if let Some(topic) = self.known_topic(name) {
            return topic;
        }
        // The user's code: it may ask for topics itself.
        let partitioner = partitioner().into();
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(name) {
            return topic.clone();
        }
        let name: Arc<str> = name.into();
        let topic = TopicLanes::new(name.clone(), partitioner, self.pool.clone());
        if self.is_closed() {
            topic.lock_stash().closed = true;
        }
        topics.insert(name, topic.clone());
        topic
    }

    /// A topic that was mentioned before.
    pub fn known_topic(&self, name: &str) -> Option<Arc<TopicLanes>> {
        lock(&self.topics).get(name).cloned()
    }

    /// Every topic, in the order of the names.
    pub fn topics(&self) -> Vec<Arc<TopicLanes>> {
        lock(&self.topics).values().cloned().collect()
    }

    /// Every lane.
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        lock(&self.lanes).clone()
    }

    /// Lanes for the partitions that a topic has not got yet, owned by `owner`. The caller sends
    /// the halves there and then publishes the lanes with [`TopicLanes::grow`].
    #[allow(clippy::vec_box, reason = "a half moves between shards in its box")]
    pub fn new_lanes(
        &self,
        topic: &TopicLanes,
        partitions: u32,
        owner: impl Fn(PartitionId) -> ShardId,
    ) -> Result<Vec<Box<LaneHalf>>, TooManyLanes> {
        let missing = topic.lane_count()..partitions;
        let lanes_max = self.config.lanes_max;
        if lock(&self.lanes).len() + missing.len() > lanes_max {
            return Err(TooManyLanes { lanes_max });
        }
        let halves = missing.map(|index| {
            let partition = PartitionId(index as i32);
            let id = LaneId(self.lane_count.fetch_add(1, Ordering::Relaxed));
            let account = self.config.leaderless_account;
            let lane = Lane::new(id, topic.name.clone(), partition, owner(partition), account);
            lock(&self.lanes).push(lane.clone());
            // While a stash waits to be drained into its lanes they take its records; close() marks
            // them afterwards.
            if self.is_closed() && topic.lock_stash().is_empty() {
                lane.seal(true);
            }
            LaneHalf::new(lane)
        });
        Ok(halves.collect())
    }

    /// A broker got an account.
    pub fn add_broker(&self, broker: BrokerId, account: AccountId) {
        lock(&self.brokers).push((broker, account));
    }

    /// Every broker that was seen, and its account.
    pub fn brokers(&self) -> Vec<(BrokerId, AccountId)> {
        lock(&self.brokers).clone()
    }

    /// Whose account it is.
    pub fn broker_of(&self, account: AccountId) -> Option<BrokerId> {
        lock(&self.brokers).iter().find(|entry| entry.1 == account).map(|entry| entry.0)
    }

    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Refuses everything from now on. Returns whether this was the first call.
    pub fn set_closed(&self) -> bool {
        !self.closed.swap(true, Ordering::SeqCst)
    }

    /// A delivery that has failed already: the strategy dropped its record.
    pub fn dropped_error(&self, topic: &Arc<str>) -> (Destination, DeliveryError) {
        let destination = Destination { topic: topic.clone(), partition: None };
        let error =
            destination.error(DeliveryErrorCause::Dropped, crate::error::Certainty::NotWritten);
        (destination, error)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Only collections are changed under these locks, each in one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
