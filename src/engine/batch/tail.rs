//! One partition as senders see it.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::open::{OpenState, Refusal};
use super::{Batch, BatchStanding, CellHandle, Cells, EpochsUsed, IssuedHandle, TopicSettings};
use crate::engine::buffer::{AccountId, BufferPool, Segment};
use crate::engine::meter::LaneMeter;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::engine::sync::OpenLock;
use crate::engine::sync::loom::{
    AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence, lock,
};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause, DeliveryFailure};

/// A lane of one producer. Unique among live lanes: an id is used again once its lane and the
/// lane's head are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u32);

/// The value of `open_since` while the open batch is empty.
const NOT_OPEN: u64 = u64::MAX;

/// A shard of one producer: its state on one event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// Where batches get the time they open at; `io/` has the real one, tests their own.
pub trait MonotonicClock {
    /// Nanoseconds since an arbitrary start.
    fn monotonic(&self) -> u64;
}

/// What an append needs besides the record.
#[derive(Clone, Copy)]
pub struct AppendContext<'a> {
    /// The topic's settings.
    pub settings: &'a TopicSettings,
    /// Where completion cells come from.
    pub cells: &'a Cells,
    /// Read once for each opened batch.
    pub clock: &'a dyn MonotonicClock,
    /// The record comes from the stash, where it has been since then (nanoseconds, monotonic): its
    /// deadline runs from there, and a lane that `close` has marked takes it all the same.
    pub accepted_at: Option<u64>,
}

/// What [`LaneTail::append`] did.
pub struct Appended {
    /// The record's delivery, or what is missing.
    pub result: Result<CellHandle, Refusal>,
    /// The caller must put the lane's id into its owner's queue.
    pub post: bool,
}

/// One partition as a producer's senders see it.
///
/// It has two locks, `open` and `fifo`: the manual's page `architecture` has the order of locks.
pub struct LaneTail {
    /// Names the lane in queues.
    pub id: LaneId,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The settings of its topic.
    pub settings: Arc<TopicSettings>,
    /// What is counted for it.
    pub meter: LaneMeter,
    /// What its `unlock` is given runs only if the loop asked for a seal while the sender held the
    /// lock (`try_seal`).
    open: CachePadded<OpenLock<OpenState>>,
    fifo: Mutex<VecDeque<Box<Batch>>>,
    /// Sealed batches in `fifo`: lets the loop pass by without the lock.
    sealed: AtomicUsize,
    /// The lane's id is in its owner's queue.
    posted: AtomicBool,
    owner: AtomicU16,
    account: AtomicU16,
    has_leader: AtomicBool,
    /// When the open batch got its first record; [`NOT_OPEN`] while it is empty.
    open_since: AtomicU64,
    /// Every batch with a smaller number was opened.
    opened: AtomicU64,
    /// See [`EpochsUsed`].
    epochs_used: AtomicU64,
    /// Nobody can send to it any more: its head is dropped once nothing is in flight.
    given_up: AtomicBool,
    /// Every batch with a smaller number is resolved.
    resolved: AtomicU64,
    /// A flush waits for every batch with a smaller number.
    flushed_below: AtomicU64,
}

impl LaneTail {
    /// A lane without leader, owned by `owner`.
    pub fn new(
        id: LaneId,
        (topic, settings): (Arc<str>, Arc<TopicSettings>),
        partition: PartitionId,
        owner: ShardId,
        account: AccountId,
    ) -> Arc<LaneTail> {
        Arc::new(LaneTail {
            id,
            topic,
            partition,
            settings,
            meter: LaneMeter::default(),
            open: CachePadded::new(OpenLock::new(OpenState::default())),
            fifo: Mutex::new(VecDeque::with_capacity(8)),
            sealed: AtomicUsize::new(0),
            posted: AtomicBool::new(false),
            owner: AtomicU16::new(owner.0),
            account: AtomicU16::new(account.to_raw()),
            has_leader: AtomicBool::new(false),
            open_since: AtomicU64::new(NOT_OPEN),
            opened: AtomicU64::new(0),
            epochs_used: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            resolved: AtomicU64::new(0),
            flushed_below: AtomicU64::new(0),
        })
    }

    /// Appends one record. On [`Refusal::NeedRoom`] the caller takes segments into `spare`, with no
    /// lock held, and calls again. Whatever the result, the caller posts the lane if `post` says
    /// so.
    #[inline]
    pub fn append(
        &self,
        context: &AppendContext<'_>,
        timestamp: i64,
        parts: &RecordParts<'_>,
        spare: &mut Vec<Segment>,
    ) -> Appended {
        let mut open = self.open.lock();
        let mut news = false;
        let result = open.append(self, context, timestamp, parts, spare, &mut news);
        open.unlock(|open| news |= open.seal_into(self));
        Appended { result, post: news && self.mark_posted() }
    }

    /// The usual case of [`LaneTail::append`] by itself: a small record that has no headers, and an
    /// open batch that surely has room for it. `None`: it is not that; nothing was appended, and
    /// the caller goes the whole way. Either way a batch was sealed if the loop had asked for it
    /// meanwhile, and the caller posts the lane if `post` is set.
    #[inline(never)]
    pub fn append_plain(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        post: &mut bool,
    ) -> Option<IssuedHandle> {
        let batch_size = self.settings.batch_size;
        let mut open = self.open.lock();
        let issued = open.append_plain(timestamp, (key, value), batch_size);
        open.unlock(|open| {
            if open.seal_into(self) {
                *post = self.mark_posted();
            }
        });
        issued
    }

    /// Appends records that were sent together, as a batch of their own: else as
    /// [`LaneTail::append`]. `total` is what [`together_size`](super::together_size) says.
    pub fn append_together(
        &self,
        context: &AppendContext<'_>,
        (records, total): (&[(i64, RecordParts<'_>)], usize),
        spare: &mut Vec<Segment>,
    ) -> (Result<Vec<CellHandle>, Refusal>, bool) {
        let mut open = self.open.lock();
        let mut news = false;
        let result = open.append_together(self, context, (records, total), spare, &mut news);
        open.unlock(|open| news |= open.seal_into(self));
        (result, news && self.mark_posted())
    }

    /// Seals the open batch for a flush or a close, waiting for the lock. Returns the flush's
    /// target, below which every batch was opened before this call, and whether the lane must be
    /// posted.
    pub fn seal(&self, close: bool) -> (u64, bool) {
        let mut open = self.open.lock();
        open.closed |= close;
        let mut sealed = open.seal_into(self);
        let target = open.next_number;
        open.unlock(|open| sealed |= open.seal_into(self));
        (target, sealed && self.mark_posted())
    }

    /// How many batches were opened so far.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    pub(super) fn set_opened(&self, batches: u64) {
        self.opened.store(batches, Ordering::Release);
    }

    /// By the owner: sealed batches are charged to another account from now on.
    pub(super) fn charge_sealed_to(&self, account: AccountId) {
        let mut sealed = std::mem::take(&mut *self.lock_fifo());
        // Without the lock: this may admit senders, whose wakers are called.
        sealed.iter_mut().for_each(|batch| batch.charge_to(account));
        let mut fifo = self.lock_fifo();
        sealed.append(&mut fifo);
        *fifo = sealed;
        // A sender that sealed one meanwhile counted only that.
        self.sealed.store(fifo.len(), Ordering::Release);
    }

    /// Ends the lane: its head is gone, and nothing that is appended would ever be sent.
    pub(super) fn end(&self) {
        let mut open = self.open.lock();
        open.ended = true;
        open.seal_into(self);
        open.unlock(|open| {
            open.seal_into(self);
        });
    }

    /// Seals from the loop, which must not wait for a sender that was descheduled: if a sender
    /// holds the lock, that sender seals when it unlocks, and posts. Returns whether a batch was
    /// sealed here and now.
    pub fn try_seal(&self) -> bool {
        match self.open.try_lock_or_want_seal() {
            Some(mut open) => {
                let mut sealed = open.seal_into(self);
                open.unlock(|open| sealed |= open.seal_into(self));
                sealed
            }
            None => false,
        }
    }

    /// When the open batch got its first record, in nanoseconds, monotonic; `None` if it is empty.
    /// A hint read without the lock, exact once the lane was posted for that batch.
    pub fn open_since(&self) -> Option<u64> {
        match self.open_since.load(Ordering::Acquire) {
            NOT_OPEN => None,
            since => Some(since),
        }
    }

    pub(super) fn set_open_since(&self, since: Option<u64>) {
        self.open_since.store(since.unwrap_or(NOT_OPEN), Ordering::Release);
    }

    /// Under the `open` lock, which also makes the caller the only writer of these counters.
    pub(super) fn push_sealed(&self, batch: Box<Batch>) {
        self.meter.records.add(u64::from(batch.records()));
        self.meter.bytes.add(batch.len() as u64);
        self.meter.batches.add(1);
        let mut fifo = self.lock_fifo();
        fifo.push_back(batch);
        self.sealed.store(fifo.len(), Ordering::Release);
    }

    /// Takes the oldest sealed batch.
    pub fn pop_sealed(&self) -> Option<Box<Batch>> {
        if !self.has_sealed() {
            return None;
        }
        let mut fifo = self.lock_fifo();
        let batch = fifo.pop_front();
        self.sealed.store(fifo.len(), Ordering::Release);
        batch
    }

    /// Takes the oldest sealed batch if its number is smaller than this.
    pub(super) fn pop_sealed_below(&self, number: u64) -> Option<Box<Batch>> {
        let mut fifo = self.lock_fifo();
        let is_meant = fifo.front().is_some_and(|batch| batch.number < number);
        let batch = if is_meant { fifo.pop_front() } else { None };
        self.sealed.store(fifo.len(), Ordering::Release);
        batch
    }

    /// Length in bytes of the oldest sealed batch.
    pub fn peek_sealed_len(&self) -> Option<usize> {
        if !self.has_sealed() {
            return None;
        }
        self.lock_fifo().front().map(|batch| batch.len())
    }

    /// By how many bytes at most the oldest sealed batch is longer as a message set.
    pub fn peek_sealed_growth(&self) -> Option<usize> {
        self.lock_fifo().front().map(|batch| batch.message_set_growth())
    }

    /// The deadline of the oldest sealed batch. None is earlier: batches open in the order in which
    /// their records were accepted.
    pub fn sealed_deadline(&self) -> Option<u64> {
        if !self.has_sealed() {
            return None;
        }
        self.lock_fifo().front().map(|batch| batch.deadline)
    }

    /// Whether a sealed batch waits.
    #[inline]
    pub fn has_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire) > 0
    }

    /// Sealed batches that wait.
    pub(super) fn sealed_batches(&self) -> usize {
        self.sealed.load(Ordering::Acquire)
    }

    /// The first sealed batch that `is_it`, and how many wait before it.
    pub(super) fn standing_of_sealed(
        &self,
        is_it: impl Fn(&Batch) -> bool,
    ) -> Option<(usize, BatchStanding)> {
        let fifo = self.lock_fifo();
        let place = fifo.iter().position(|batch| is_it(batch))?;
        Some((place, fifo[place].standing()))
    }

    fn lock_fifo(&self) -> MutexGuard<'_, VecDeque<Box<Batch>>> {
        // Nothing that can panic runs under it, so a poisoned FIFO is still whole.
        lock(&self.fifo)
    }

    /// Whether the caller is the one to post the lane.
    fn mark_posted(&self) -> bool {
        // A swap, although the flag may be set: the loop's own swap (`clear_posted`) reads it, and
        // so sees this sender's append.
        !self.posted.swap(true, Ordering::SeqCst)
    }

    /// By the loop, before it looks at the lane.
    pub fn clear_posted(&self) {
        // A swap, not a store: it reads what the last sender swapped in. So the loop sees from here
        // on what that sender appended and did not post, because the flag was set.
        self.posted.swap(false, Ordering::SeqCst);
    }

    /// The shard whose queue takes the lane's id.
    #[inline]
    pub fn owner(&self) -> ShardId {
        ShardId(self.owner.load(Ordering::SeqCst))
    }

    /// By the old owner, before it sends the head.
    pub fn set_owner(&self, owner: ShardId) {
        self.owner.store(owner.0, Ordering::SeqCst);
    }

    /// The account that new segments are charged to.
    #[inline]
    pub fn account(&self) -> AccountId {
        AccountId::from_raw(self.account.load(Ordering::Relaxed))
    }

    /// By the owner: which broker's level counts, and whether the partition has a leader.
    /// Senders that wait for room in the account that was charged before look at the new one.
    pub fn set_leader_account(&self, pool: &BufferPool, account: AccountId, has_leader: bool) {
        let before = AccountId::from_raw(self.account.swap(account.to_raw(), Ordering::Relaxed));
        self.has_leader.store(has_leader, Ordering::Relaxed);
        if before != account {
            pool.dismiss(before);
        }
    }

    /// Whether the partition had a leader when metadata was last seen.
    #[inline]
    pub fn has_leader(&self) -> bool {
        self.has_leader.load(Ordering::Relaxed)
    }

    /// The epochs in which batches of it may have been numbered.
    pub fn epochs_used(&self) -> EpochsUsed {
        EpochsUsed::from_raw(self.epochs_used.load(Ordering::Acquire))
    }

    pub(super) fn set_epochs_used(&self, used: EpochsUsed) {
        self.epochs_used.store(used.to_raw(), Ordering::Release);
    }

    /// Whether nobody can send to it any more.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    /// Whether everything that was sent to it has resolved.
    pub fn is_resolved(&self) -> bool {
        self.resolved() >= self.opened()
    }

    /// Every batch with a smaller number is resolved.
    pub fn resolved(&self) -> u64 {
        self.resolved.load(Ordering::Acquire)
    }

    /// Whether every batch with a smaller number is resolved. If not, the loop that resolves more
    /// of them tells [`FlushWaiters`](super::FlushWaiters).
    pub fn is_resolved_below(&self, number: u64) -> bool {
        self.flushed_below.fetch_max(number, Ordering::SeqCst);
        // Either this sees what the loop has resolved, or the loop sees that somebody waits.
        fence(Ordering::SeqCst);
        self.resolved() >= number
    }

    /// By the owner. Returns whether a flush waits for some of this.
    pub(super) fn set_resolved(&self, number: u64) -> bool {
        let before = self.resolved.swap(number, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        before < self.flushed_below.load(Ordering::SeqCst)
    }
}

/// An error for the records of `batch`, completing the cause of a timeout or a close with what
/// went wrong last.
pub fn batch_error(
    lane: &LaneTail,
    batch: &Batch,
    cause: DeliveryErrorCause,
    certainty: Certainty,
) -> DeliveryError {
    let cause = match cause {
        DeliveryErrorCause::TimedOut { after, last } => {
            DeliveryErrorCause::TimedOut { after, last: batch.state.last_problem.clone().or(last) }
        }
        // It is certainly in no log: the close puts it into a file.
        DeliveryErrorCause::Closed { .. }
            if lane.settings.spills && certainty == Certainty::NotWritten =>
        {
            DeliveryErrorCause::LeftInSpill
        }
        DeliveryErrorCause::Closed { last } => {
            DeliveryErrorCause::Closed { last: batch.state.last_problem.clone().or(last) }
        }
        other => other,
    };
    DeliveryError::new(DeliveryFailure {
        topic: lane.topic.clone(),
        partition: Some(lane.partition),
        broker: batch.state.broker,
        cause,
        certainty,
    })
}
