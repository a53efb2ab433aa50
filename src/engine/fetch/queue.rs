//! What was fetched and not taken yet, between the loop and the consumer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::{Fetched, FetchedBatch, SlotId};
use crate::engine::protocol::PartitionId;
use crate::engine::sync::WakeList;
use crate::locking::lock;
use crate::logging as log;

/// How far a consumer has come in one partition.
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
/// # use tidegate::{Consumer, StartAt};
/// # let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let batch = consumer.poll(Duration::from_secs(10)).ok_or("no record within 10 s")??;
/// assert_eq!(batch.next_offset(), 1);
/// let status = &consumer.partitions()[0];
/// assert_eq!((status.position, status.high_watermark), (Some(1), Some(3)));
/// assert_eq!(status.lag(), Some(2));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its index.
    pub partition: i32,
    /// The offset that comes next: one after the last batch that was handed out. `None` until it is
    /// known where the partition begins.
    pub position: Option<i64>,
    /// The offset that the next record gets which all replicas in sync have, as the last answer
    /// said. `None` before the first.
    pub high_watermark: Option<i64>,
    /// The first offset that is still in the log; `None` where no broker has said.
    pub log_start: Option<i64>,
    /// Nothing is asked for: see [`Consumer::pause`](crate::Consumer::pause).
    pub is_paused: bool,
    /// It failed, and is not read until it is sought: see
    /// [`Consumer::seek`](crate::Consumer::seek).
    pub has_failed: bool,
}

impl PartitionStatus {
    /// How many offsets are between the position and the high watermark, as far as both are known.
    /// Fewer records than that may be left: compaction and transactions take offsets.
    pub fn lag(&self) -> Option<u64> {
        let lag = self.high_watermark?.saturating_sub(self.position?);
        Some(u64::try_from(lag).unwrap_or(0))
    }
}

/// What is taken: of which partition, and what it is.
#[derive(Debug)]
pub struct Item {
    /// Its place in the consumer's list; `None` for what is of the topic as a whole.
    pub slot: Option<SlotId>,
    /// How often the partition was sought when this was asked for.
    pub generation: u32,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its index, if it is of one partition.
    pub partition: Option<PartitionId>,
    /// What it is.
    pub fetched: Fetched,
}

#[derive(Debug)]
struct Progress {
    status: PartitionStatus,
    generation: u32,
    /// What of it is in the queue.
    queued: usize,
}

impl Progress {
    /// Takes note of what the consumer takes, or need not take. Returns false if that is from
    /// before the last seek, or of a partition that has failed: it is for nobody then.
    fn advance(&mut self, generation: u32, fetched: &Fetched) -> bool {
        if self.generation != generation || self.status.has_failed {
            return false;
        }
        match fetched {
            Fetched::Batch(batch) => self.status.position = Some(batch.next_offset()),
            Fetched::Passed(next) => self.status.position = Some(*next),
            Fetched::Failed(_) => self.status.has_failed = true,
        }
        true
    }
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    /// Of the batches in it.
    bytes: usize,
    progress: Vec<Progress>,
    /// Threads and tasks that wait for something to take.
    waiting: Vec<Waker>,
    /// The loop asks for nothing until there is room.
    lacks_room: bool,
    /// All topics that are to be read are known, and so are their partitions.
    is_complete: bool,
    /// Nothing more comes.
    has_ended: bool,
}

impl Queue {
    /// Takes note that nothing for a consumer is before an offset. Returns false if that has to
    /// wait in the queue, behind batches of the same partition.
    fn pass(&mut self, item: &Item, next_offset: i64) -> bool {
        let Some(progress) = item.slot.and_then(|slot| self.progress.get_mut(slot.0)) else {
            return false;
        };
        if progress.queued == 0 {
            progress.advance(item.generation, &item.fetched);
            return true;
        }
        // Where the last one that waits is of this kind too, it says the later offset now. Marks of
        // transactions may come without end while nothing is taken.
        let last = self.items.iter_mut().rev().find(|last| last.slot == item.slot);
        match last {
            Some(Item { fetched: Fetched::Passed(next), generation, .. })
                if *generation == item.generation =>
            {
                *next = next_offset;
                true
            }
            _ => false,
        }
    }

    /// Takes the next, past what is for nobody any more.
    fn take(&mut self, room_below: usize, tells: &mut bool) -> Poll<Option<Item>> {
        while let Some(item) = self.items.pop_front() {
            if let Fetched::Batch(batch) = &item.fetched {
                self.bytes -= size_of_queued(batch);
                let has_room = self.bytes <= room_below;
                *tells |= has_room && std::mem::take(&mut self.lacks_room);
            }
            let progress = item.slot.and_then(|slot| self.progress.get_mut(slot.0));
            if let Some(progress) = progress {
                progress.queued -= 1;
                if !progress.advance(item.generation, &item.fetched) {
                    continue;
                }
            }
            if !matches!(item.fetched, Fetched::Passed(_)) {
                return Poll::Ready(Some(item));
            }
        }
        if self.has_ended { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Calls wakers of the application's. One that panics does not end the consumer's thread.
fn wake(wakers: Vec<Waker>) {
    if WakeList::from(wakers).wake_all() > 0 {
        log::error!("the waker of a task that awaits records panicked");
    }
}

/// So many threads and tasks are remembered that wait. One that has given up stays remembered until
/// something comes.
const WAITING_MAX: usize = 1_024;

/// See the module. One consumer takes, on any number of threads; one loop puts.
#[derive(Debug)]
pub struct FetchQueue {
    queue: Mutex<Queue>,
    /// The loop goes on once no more than so many bytes are left.
    room_below: usize,
}

impl FetchQueue {
    /// An empty queue for up to so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        FetchQueue { queue: Mutex::default(), room_below: max_bytes / 2 }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// By the loop: a partition that is read from now on, the next in the list.
    pub fn add_partition(&self, topic: Arc<str>, partition: PartitionId) {
        let status = PartitionStatus {
            topic,
            partition: partition.0,
            position: None,
            high_watermark: None,
            log_start: None,
            is_paused: false,
            has_failed: false,
        };
        self.lock().progress.push(Progress { status, generation: 0, queued: 0 });
    }

    /// By the loop: something has come.
    pub fn put(&self, item: Item) {
        let mut queue = self.lock();
        if let Fetched::Batch(batch) = &item.fetched {
            queue.bytes += size_of_queued(batch);
        }
        if let Fetched::Passed(next) = item.fetched
            && queue.pass(&item, next)
        {
            return;
        }
        if let Some(progress) = item.slot.and_then(|slot| queue.progress.get_mut(slot.0)) {
            progress.queued += 1;
        }
        queue.items.push_back(item);
        let waiting = std::mem::take(&mut queue.waiting);
        // A waker may run anything: none is called under the lock.
        drop(queue);
        // All of them: one may belong to a `poll` that has given up, which would take nothing.
        wake(waiting);
    }

    /// By the loop: an answer told where a log ends and begins.
    pub fn set_ends(&self, slot: SlotId, high_watermark: i64, log_start: i64) {
        let mut queue = self.lock();
        let Some(progress) = queue.progress.get_mut(slot.0) else { return };
        progress.status.high_watermark = (high_watermark >= 0).then_some(high_watermark);
        progress.status.log_start = (log_start >= 0).then_some(log_start);
    }

    /// By the loop: whether all topics that are to be read are known.
    pub fn set_complete(&self, is_complete: bool) {
        self.lock().is_complete = is_complete;
    }

    /// By the loop: how many bytes wait.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// By the loop, which found too little room when there were `seen` bytes, and is about to wait
    /// for more: the consumer tells it. Returns false if the consumer has taken something since.
    pub fn wait_for_room(&self, seen: usize) -> bool {
        let mut queue = self.lock();
        queue.lacks_room = queue.bytes >= seen;
        queue.lacks_room
    }

    /// By the loop: nothing more comes.
    pub fn end(&self) {
        let mut queue = self.lock();
        queue.has_ended = true;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        wake(waiting);
    }

    /// By the consumer: the next, `None` if nothing more comes. Also whether the loop is to be told
    /// that there is room.
    pub fn poll_take(&self, context: &mut Context<'_>) -> (Poll<Option<Item>>, bool) {
        let mut tells = false;
        if let Poll::Ready(item) = self.lock().take(self.room_below, &mut tells) {
            return (Poll::Ready(item), tells);
        }
        // Wakers are the application's: they are cloned, woken and dropped without the lock.
        let waker = context.waker().clone();
        let mut queue = self.lock();
        let taken = queue.take(self.room_below, &mut tells);
        let mut surplus = Some(waker);
        if taken.is_pending() {
            let is_known = queue.waiting.iter().any(|known| known.will_wake(context.waker()));
            if !is_known {
                queue.waiting.extend(surplus.take());
                let oldest = queue.waiting.len() > WAITING_MAX;
                surplus = oldest.then(|| queue.waiting.remove(0));
            }
        }
        drop(queue);
        // One that was pushed out looks again, and waits again if it still does.
        if let Some(waker) = surplus.filter(|waker| !waker.will_wake(context.waker())) {
            wake(vec![waker]);
        }
        (taken, tells)
    }

    /// By the consumer: what a batch holds cannot be read, and its partition has failed, unless it
    /// was sought since.
    pub fn fail(&self, slot: SlotId, generation: u32, from: i64) {
        if let Some(progress) = self.lock().progress.get_mut(slot.0)
            && progress.generation == generation
        {
            (progress.status.has_failed, progress.status.position) = (true, Some(from));
        }
    }

    /// By the consumer: the partition is sought. Returns its place in the list.
    pub fn seek(&self, topic: &str, partition: i32) -> Option<SlotId> {
        self.change(topic, partition, |progress| {
            progress.generation = progress.generation.wrapping_add(1);
            progress.status.has_failed = false;
            progress.status.position = None;
        })
    }

    /// By the consumer: the partition is paused, or goes on. Returns its place in the list.
    pub fn set_paused(&self, topic: &str, partition: i32, paused: bool) -> Option<SlotId> {
        self.change(topic, partition, |progress| progress.status.is_paused = paused)
    }

    fn change(
        &self,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut Progress),
    ) -> Option<SlotId> {
        let mut queue = self.lock();
        let is_it = |it: &Progress| it.status.partition == partition && *it.status.topic == *topic;
        let at = queue.progress.iter().position(is_it)?;
        change(&mut queue.progress[at]);
        Some(SlotId(at))
    }

    /// How far the consumer has come.
    pub fn statuses(&self) -> Vec<PartitionStatus> {
        self.lock().progress.iter().map(|progress| progress.status.clone()).collect()
    }

    /// How far it is behind in all, if that is known.
    pub fn lag(&self) -> Option<u64> {
        let queue = self.lock();
        let lags = queue.progress.iter().map(|progress| progress.status.lag());
        if queue.is_complete { lags.sum() } else { None }
    }
}

/// What a batch counts for: many small ones take more than their bytes.
fn size_of_queued(batch: &FetchedBatch) -> usize {
    batch.bytes.len() + size_of::<Item>()
}
