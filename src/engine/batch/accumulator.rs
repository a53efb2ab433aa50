//! What all lanes of a producer share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use super::tail::{AppendContext, MonotonicClock};
use super::{
    Cells, Destination, EpochsUsed, Failures, FlushWaiters, LaneHead, LaneId, LaneTail, ShardId,
    TopicLanes, TopicParts, TopicSettings,
};
use crate::engine::buffer::{AccountId, BufferPool, LevelObserver};
use crate::engine::event::{Event, EventHub};
use crate::engine::meter::{Meters, RecordCounts};
use crate::engine::protocol::{BrokerId, PartitionId};
use crate::error::{DeliveryError, DeliveryErrorCause};
use crate::locking::lock;
use crate::user_code;

/// Whose account is whose.
type BrokerAccounts = Arc<Mutex<Vec<(BrokerId, AccountId)>>>;

/// Sizes in bytes, times in nanoseconds.
#[derive(Clone, Debug)]
pub struct AccumulatorConfig {
    /// For topics that have no settings of their own.
    pub topics: Arc<TopicSettings>,
    /// Lanes of the producer at the most.
    pub lanes_max: usize,
    /// What lanes without a leader are charged to.
    pub leaderless_account: AccountId,
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
    /// What is counted.
    pub meters: Arc<Meters>,
    topics: Mutex<BTreeMap<Arc<str>, Arc<TopicLanes>>>,
    lanes: Mutex<Vec<Arc<LaneTail>>>,
    brokers: BrokerAccounts,
    /// How many ids lanes were given so far.
    lane_ids: AtomicU32,
    /// Lanes that were given up: their ids are used again once their heads are gone.
    given_up: Mutex<Vec<Arc<LaneTail>>>,
    /// The epochs that lanes which were given up have used.
    epochs_used: AtomicU64,
    /// How often metadata was refreshed; written by the metadata thread.
    refreshes: Arc<AtomicU32>,
    closed: AtomicBool,
}

impl RecordAccumulator {
    /// Without topics.
    pub fn new(config: AccumulatorConfig, pool: BufferPool) -> Arc<Self> {
        let failures = Arc::<Failures>::default();
        let brokers = BrokerAccounts::default();
        pool.set_level_observer(level_events(brokers.clone(), failures.events.clone()));
        Arc::new(RecordAccumulator {
            config,
            pool,
            cells: Cells::observed_by(failures.clone()),
            flush: FlushWaiters::default(),
            failures,
            meters: Arc::default(),
            topics: Mutex::default(),
            lanes: Mutex::default(),
            brokers,
            lane_ids: AtomicU32::new(0),
            given_up: Mutex::default(),
            epochs_used: AtomicU64::new(0),
            refreshes: Arc::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// What an append needs besides the record.
    #[inline]
    pub fn append_context<'a>(
        &'a self,
        settings: &'a TopicSettings,
        clock: &'a dyn MonotonicClock,
    ) -> AppendContext<'a> {
        AppendContext { settings, cells: &self.cells, clock, accepted_at: None }
    }

    /// The topic of this name, made of `parts` at its first mention. That is a user's code:
    /// it runs under no lock, so several threads may run it for the same topic; one's is taken.
    pub fn topic<P: Into<TopicParts>>(
        &self,
        name: &str,
        parts: impl FnOnce() -> P,
    ) -> Arc<TopicLanes> {
        if let Some(topic) = self.known_topic(name) {
            return topic;
        }
        // The user's code: it may ask for topics itself.
        let parts = parts().into();
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(name) {
            return topic.clone();
        }
        let name: Arc<str> = name.into();
        let shared = (self.pool.clone(), self.refreshes.clone());
        let settings = parts.settings.clone().unwrap_or_else(|| self.config.topics.clone());
        let topic = TopicLanes::new(name.clone(), settings, parts, shared);
        if self.is_closed() {
            topic.lock_stash().closed = true;
        }
        topics.insert(name, topic.clone());
        topic
    }

    /// By the metadata thread: metadata was refreshed so often so far.
    pub fn set_refreshes(&self, refreshes: u32) {
        self.refreshes.store(refreshes, Ordering::Relaxed);
    }

    /// A topic that was mentioned before.
    pub fn known_topic(&self, name: &str) -> Option<Arc<TopicLanes>> {
        lock(&self.topics).get(name).cloned()
    }

    /// Every topic, in the order of the names.
    pub fn topics(&self) -> Vec<Arc<TopicLanes>> {
        lock(&self.topics).values().cloned().collect()
    }

    /// Every topic, and what those have counted that are forgotten: each counts once.
    pub fn topics_and_gone(&self) -> (Vec<Arc<TopicLanes>>, RecordCounts) {
        let topics = lock(&self.topics);
        (topics.values().cloned().collect(), self.meters.gone_topics())
    }

    /// Every topic, under its name.
    pub fn topics_by_name(&self) -> BTreeMap<Arc<str>, Arc<TopicLanes>> {
        lock(&self.topics).clone()
    }

    /// Forgets the topics that nobody has a handle to and of which nothing is unresolved, if
    /// `may_go`: what comes and goes must not add up. Returns their lanes, whose shards must hear
    /// of it.
    pub fn forget_topics(&self, may_go: impl Fn(&str) -> bool) -> Vec<Arc<LaneTail>> {
        let (mut gone, mut forgotten) = (Vec::new(), Vec::new());
        // A new handle is made under this lock: a topic that is alone here stays so.
        lock(&self.topics).retain(|name, topic| {
            let held = Arc::strong_count(topic) > 1;
            // What the last handle sent is seen from here on.
            fence(Ordering::Acquire);
            let stays = held
                || !may_go(name)
                || !topic.lock_stash().is_empty()
                || !topic.lanes().all(|lane| lane.is_resolved());
            if !stays {
                gone.extend(topic.lanes().cloned());
                self.meters.remove_topic(topic.counts());
                forgotten.push(topic.clone());
            }
            stays
        });
        // With them go the user's partitioners, whose `drop` may ask for a topic, hang or panic.
        for topic in forgotten {
            let _inside = user_code::enter();
            let _ = user_code::call(|| drop(topic));
        }
        if gone.is_empty() {
            return gone;
        }
        for lane in &gone {
            lane.give_up();
            self.epochs_used.fetch_max(lane.epochs_used().to_raw(), Ordering::AcqRel);
        }
        lock(&self.lanes).retain(|lane| !lane.is_given_up());
        lock(&self.given_up).extend(gone.iter().cloned());
        gone
    }

    /// The id of a lane that is gone, or one that was never used.
    fn lane_id(&self) -> LaneId {
        let mut given_up = lock(&self.given_up);
        // The head holds its tail: a tail without another holder has no head, at no shard.
        let free = given_up.iter().position(|lane| Arc::strong_count(lane) == 1);
        match free.map(|at| given_up.swap_remove(at)) {
            Some(lane) => lane.id,
            None => LaneId(self.lane_ids.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Every lane.
    pub fn lanes(&self) -> Vec<Arc<LaneTail>> {
        lock(&self.lanes).clone()
    }

    /// How many lanes there may be besides those that there are.
    pub fn lanes_left(&self) -> usize {
        self.config.lanes_max.saturating_sub(lock(&self.lanes).len())
    }

    /// Lanes for the partitions that a topic has not got yet, owned by `owner`, as far as
    /// `lanes_max` allows. The caller sends the heads there and then publishes the lanes with
    /// [`TopicLanes::grow`].
    #[allow(clippy::vec_box, reason = "a head moves between shards in its box")]
    pub fn new_lanes(
        &self,
        topic: &TopicLanes,
        partitions: usize,
        owner: impl Fn(PartitionId) -> ShardId,
    ) -> Vec<Box<LaneHead>> {
        let missing = (topic.lane_count()..partitions).take(self.lanes_left());
        let heads = missing.map(|index| {
            let partition = PartitionId::from_index(index);
            let id = self.lane_id();
            let account = self.config.leaderless_account;
            let of_topic = (topic.name.clone(), topic.settings.clone());
            let lane = LaneTail::new(id, of_topic, partition, owner(partition), account);
            lock(&self.lanes).push(lane.clone());
            // While a stash waits to be drained into its lanes they take its records; close() marks
            // them afterwards.
            if self.is_closed() && topic.lock_stash().is_empty() {
                lane.seal(true);
            }
            let mut head = LaneHead::new(lane);
            // Its partition's log may know lanes that were given up.
            head.begin_above(EpochsUsed::from_raw(self.epochs_used.load(Ordering::Acquire)));
            head
        });
        heads.collect()
    }

    /// A broker got an account.
    pub fn add_broker(&self, broker: BrokerId, account: AccountId) {
        lock(&self.brokers).push((broker, account));
    }

    /// A broker is gone, and its account is about to be closed.
    pub fn remove_broker(&self, broker: BrokerId) {
        lock(&self.brokers).retain(|entry| entry.0 != broker);
    }

    /// Every broker that has an account.
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

/// Tells who listens of brokers that go over their high watermark, and that are below their low one
/// again.
fn level_events(brokers: BrokerAccounts, events: Arc<EventHub>) -> LevelObserver {
    Box::new(move |account, writable, (charged, high)| {
        if !events.is_listened_to() {
            return;
        }
        let broker = lock(&brokers).iter().find(|entry| entry.1 == account).map(|entry| entry.0.0);
        // Lanes without leader and stashes have accounts too, which are no broker's.
        let Some(broker) = broker else { return };
        events.publish(|| match writable {
            true => Event::Writable { broker },
            false => Event::Unwritable { broker, charged, high },
        });
    })
}
