//! A topic's lanes, and what happens to records before the topic is known.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::{LaneTail, Stash, TopicSettings};
use crate::engine::buffer::BufferPool;
use crate::engine::meter::{Counter, RecordCounts};
use crate::engine::policy::{BackoffStrategy, Chooser, ParkSender, PartitionView};
use crate::engine::protocol::PartitionId;
use crate::locking::lock;

/// Whether senders go to the lanes or to the stash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TopicState {
    /// The partitions are not known: records go to the stash.
    Unknown = 0,
    /// They are known; the stash is being emptied, and new records go behind it.
    Draining = 1,
    /// Records go to their lanes.
    Ready = 2,
}

/// What is set for one topic, and what a user may have written for it.
pub struct TopicParts {
    /// Its settings; `None` for the producer's.
    pub settings: Option<Arc<TopicSettings>>,
    /// Chooses partitions.
    pub partitioner: Chooser,
    /// Decides what happens to a record for which there is no room.
    pub strategy: Arc<dyn BackoffStrategy>,
}

impl<P: Into<Chooser>> From<P> for TopicParts {
    fn from(partitioner: P) -> Self {
        let strategy = Arc::new(ParkSender::default());
        TopicParts { settings: None, partitioner: partitioner.into(), strategy }
    }
}

/// Lanes of the first chunk; each further chunk is twice as large as the one before.
const FIRST_CHUNK: usize = 16;
const CHUNKS: usize = 20;

/// Lanes by their offset, each set once.
type Chunk = Box<[OnceLock<Arc<LaneTail>>]>;

/// A topic as a producer's senders see it.
pub struct TopicLanes {
    /// The topic's name.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: Arc<TopicSettings>,
    /// See [`TopicSettings::stay_ms`].
    pub stay_ms: u32,
    /// Chooses partitions for this topic.
    pub partitioner: Chooser,
    /// Decides what happens to a record for which there is no room.
    pub strategy: Arc<dyn BackoffStrategy>,
    /// Records that failed in the stash.
    pub failed_in_stash: Counter,
    /// Records that the backoff strategy dropped before they had a partition.
    pub dropped_at_stash: Counter,
    chunks: [OnceLock<Chunk>; CHUNKS],
    lane_count: AtomicUsize,
    /// Partitions of the topic, which may be fewer than there are lanes: it was created again with
    /// fewer; or more: the limit of lanes is reached.
    count: AtomicI32,
    state: AtomicU8,
    stash: Mutex<Stash>,
    pool: BufferPool,
    /// How often the producer's metadata was refreshed.
    refreshes: Arc<AtomicU32>,
}

/// The chunk of the lane at `index`, and its offset there. The index of a negative number is in a
/// chunk beyond [`CHUNKS`], also where a `usize` has 32 bits and the sum would overflow.
#[inline]
fn chunk_of(index: usize) -> (usize, usize) {
    let position = index as u64 + FIRST_CHUNK as u64;
    let chunk = (position.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    (chunk, (position - ((FIRST_CHUNK as u64) << chunk)) as usize)
}

impl TopicLanes {
    /// A topic of which only the name is known.
    pub fn new(
        name: Arc<str>,
        settings: Arc<TopicSettings>,
        parts: TopicParts,
        (pool, refreshes): (BufferPool, Arc<AtomicU32>),
    ) -> Arc<Self> {
        Arc::new(TopicLanes {
            name,
            stay_ms: settings.stay_ms(),
            settings,
            partitioner: parts.partitioner,
            strategy: parts.strategy,
            failed_in_stash: Counter::default(),
            dropped_at_stash: Counter::default(),
            chunks: [const { OnceLock::new() }; CHUNKS],
            lane_count: AtomicUsize::new(0),
            count: AtomicI32::new(0),
            state: AtomicU8::new(TopicState::Unknown as u8),
            stash: Mutex::new(Stash::default()),
            pool,
            refreshes,
        })
    }

    /// Partitions that the topic has. They grow, unless it is deleted and created again with fewer.
    /// There is not a lane for each where the limit of lanes is reached.
    #[inline]
    pub fn partitions(&self) -> i32 {
        self.count.load(Ordering::Acquire)
    }

    /// Partitions that there are lanes for. They only grow.
    pub fn lane_count(&self) -> usize {
        self.lane_count.load(Ordering::Acquire)
    }

    /// The lane of a partition. `None` where there is no such partition, or no lane for it.
    #[inline]
    pub fn lane(&self, partition: PartitionId) -> Option<&Arc<LaneTail>> {
        self.lane_at(partition.index())
    }

    #[inline(always)]
    fn lane_at(&self, index: usize) -> Option<&Arc<LaneTail>> {
        let (chunk, offset) = chunk_of(index);
        self.chunks.get(chunk)?.get()?.get(offset)?.get()
    }

    /// Every lane.
    pub fn lanes(&self) -> impl Iterator<Item = &Arc<LaneTail>> {
        (0..self.lane_count()).filter_map(|index| self.lane_at(index))
    }

    /// What failed or was dropped before it had a partition.
    pub fn counts_in_stash(&self) -> RecordCounts {
        RecordCounts {
            failed_records: self.failed_in_stash.get(),
            dropped_records: self.dropped_at_stash.get(),
            ..RecordCounts::default()
        }
    }

    /// What was counted for it, all partitions together.
    pub fn counts(&self) -> RecordCounts {
        let mut counts = self.counts_in_stash();
        self.lanes().for_each(|lane| counts += RecordCounts::of(&lane.meter));
        counts
    }

    /// Appends lanes, in the order of their partitions, for records to be put into. By the metadata
    /// thread only, as [`TopicLanes::set_known`].
    pub fn grow(&self, lanes: impl IntoIterator<Item = Arc<LaneTail>>) {
        let mut count = self.lane_count.load(Ordering::Relaxed);
        for lane in lanes {
            assert_eq!(lane.partition.index(), count, "lanes are appended in order");
            let (chunk, offset) = chunk_of(count);
            let slots = self.chunks[chunk]
                .get_or_init(|| (0..FIRST_CHUNK << chunk).map(|_| OnceLock::new()).collect());
            let fresh = slots[offset].set(lane).is_ok();
            assert!(fresh, "a lane is appended once");
            count += 1;
        }
        self.lane_count.store(count, Ordering::Release);
    }

    /// Where senders go.
    #[inline]
    pub fn state(&self) -> TopicState {
        match self.state.load(Ordering::Acquire) {
            0 => TopicState::Unknown,
            1 => TopicState::Draining,
            _ => TopicState::Ready,
        }
    }

    /// The state is read for certain, and changed, only under this lock.
    pub fn lock_stash(&self) -> MutexGuard<'_, Stash> {
        // A user's partitioner runs while the stash is unlocked, and nothing else that is called
        // under the lock is a user's: a poisoned stash is still whole.
        lock(&self.stash)
    }

    /// Whether somebody has the stash's lock.
    #[cfg(test)]
    pub fn stash_is_locked(&self) -> bool {
        self.stash.try_lock().is_err()
    }

    /// Under the stash lock, which `stash` proves: the topic has so many partitions. Senders go to
    /// the lanes from here on if nothing is stashed.
    pub fn set_known(&self, stash: &Stash, partitions: i32) {
        self.set_drained(stash);
        // Behind the state: a sender that names a partition and sees that it exists now looks at
        // the state again, and goes behind the records that wait for that partition.
        self.set_partitions(partitions);
    }

    /// The topic has so many partitions. For [`TopicLanes::set_known`], and tests of lanes alone.
    pub fn set_partitions(&self, partitions: i32) {
        self.count.store(partitions, Ordering::Release);
    }

    /// Under the stash lock: a part of what was stashed has moved, or nothing was stashed.
    pub(super) fn set_drained(&self, stash: &Stash) {
        let state = if stash.is_empty() { TopicState::Ready } else { TopicState::Draining };
        self.state.store(state as u8, Ordering::Release);
    }

    /// Under the stash lock: what is stashed goes to the lanes, and what is sent goes behind it.
    pub fn set_draining(&self, _stash: &Stash) {
        self.state.store(TopicState::Draining as u8, Ordering::Release);
    }

    /// Under the stash lock: the topic does not exist, or was not used for so long that it must be
    /// asked for again. Senders go to the stash from here on; what one of them appends to a lane
    /// at this moment the lane's shard sends or fails.
    pub fn set_unknown(&self, _stash: &Stash) {
        self.state.store(TopicState::Unknown as u8, Ordering::Release);
    }
}

impl PartitionView for TopicLanes {
    fn count(&self) -> i32 {
        self.partitions()
    }

    fn is_available(&self, partition: i32) -> bool {
        self.lane(PartitionId(partition)).is_some_and(|lane| {
            let account = lane.account();
            lane.has_leader() && self.pool.is_writable(account) && !self.pool.is_stalled(account)
        })
    }

    fn load(&self, partition: i32) -> u32 {
        self.lane(PartitionId(partition)).map_or(0, |lane| self.pool.load(lane.account()))
    }

    fn refreshes(&self) -> u32 {
        self.refreshes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_double_and_leave_no_gap() {
        assert_eq!(chunk_of(0), (0, 0));
        assert_eq!(chunk_of(15), (0, 15));
        assert_eq!(chunk_of(16), (1, 0));
        assert_eq!(chunk_of(47), (1, 31));
        assert_eq!(chunk_of(48), (2, 0));
    }

    #[test]
    fn a_negative_number_is_in_no_chunk() {
        for number in [-1, -16, -17, i32::MIN] {
            assert!(chunk_of(PartitionId(number).index()).0 >= CHUNKS, "{number}");
        }
    }
}
