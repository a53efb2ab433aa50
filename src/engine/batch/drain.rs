//! Moving stashed records into their lanes, once their topic is known.
//!
//! The stash is unlocked while the user's partitioner is asked, so a slow partitioner holds up only
//! the records behind. `Stash::asking` is set meanwhile, and every other thread that comes to move
//! records returns with [`Drained::Elsewhere`]: two movers would change the records' order.
//!
//! A partitioner that is asked here and waits for a stashed record's delivery, or for a flush,
//! would wait for ever: the record moves only once the partitioner has returned. So calls of this
//! library that wait look at [`is_placing`] and return an error.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};

use super::open::{NeedRoom, Refusal};
use super::spilled::{SpillFile, read_unlocked};
use super::stash::{DrainingRun, FailedRun, Run, StashedRecord};
use super::tail::{AppendContext, LaneTail};
use super::{CellHandle, Destination, RecordAccumulator, Stash, TopicLanes, TopicState};
use crate::engine::buffer::{AccountId, BufferPool, Segment};
use crate::engine::policy::ExplicitPartitioner;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{Header, RecordParts};
use crate::engine::sync::{ForwardTable, WakeList};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};
use crate::user_code::{self, Inside};

/// How a call of [`drain_stash`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing is stashed any more: the topic is ready.
    Empty,
    /// The budget is used up, and something is left.
    More,
    /// The next record needs this room, charged to this account.
    NoRoom(AccountId, NeedRoom),
    /// Another thread is asking the partitioner where the next record goes, or the next record is
    /// on disk and cannot be read now: look again soon.
    Elsewhere,
}

thread_local! {
    static PLACING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread runs a partitioner that places stashed records. Such a thread must
/// wait for nothing that needs these records to move.
pub fn is_placing() -> bool {
    // Destructors of other thread-locals ask too. Where the system implements thread-locals with
    // keys, this one may be destroyed before them; no record is being placed then.
    PLACING.try_with(Cell::get).unwrap_or(false)
}

fn set_placing(placing: bool) {
    let _ = PLACING.try_with(|flag| flag.set(placing));
}

/// While it lives, [`is_placing`].
struct Placing(#[allow(dead_code, reason = "held until the partitioner has answered")] Inside);

impl Placing {
    fn begin() -> Self {
        set_placing(true);
        Placing(user_code::enter())
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        set_placing(false);
    }
}

/// A run that is partly moved.
pub struct Draining {
    pub(super) run: DrainingRun,
    pub(super) table: ForwardTable<Destination, DeliveryError>,
    /// The next record to move, already taken out of the run: the pool had no room for it, or the
    /// partitioner has just chosen its partition.
    waiting: Option<Waiting>,
    /// Where the records of a run go that were sent together, once that is known.
    pub(super) together_at: Option<PartitionId>,
    /// The partitioner is being asked about the last record that was taken out of the run.
    pub(super) is_asking: bool,
    /// The partition and the length of the record that was appended last, which the partitioner has
    /// not heard of yet.
    pub(super) untold: Option<(PartitionId, usize)>,
    /// The lanes that records of a run in a file were moved to.
    pub(super) lanes: BTreeMap<PartitionId, Arc<LaneTail>>,
}

/// How far a run was moved.
pub(super) enum Moved {
    All,
    Part,
    NoRoom(AccountId, NeedRoom),
    /// The partitioner must be asked, or told, without the stash's lock.
    Ask(Question),
    /// So many bytes must be read from a file, from there on, without the stash's lock.
    Read(Arc<dyn SpillFile>, u64, usize),
    /// A file has something else in the place of the next record.
    Damaged,
}

/// What the user's partitioner is called for.
pub(super) enum Question {
    /// Where a record goes. Its `partition` is filled in with the answer.
    Place(Waiting),
    /// A record of this length was appended to this partition.
    Tell(PartitionId, usize),
}

pub(super) struct Waiting {
    partition: PartitionId,
    pub(super) timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Moves stashed records of `topic` into its lanes, oldest first, up to about `budget` bytes, using
/// the segments in `spare` first. Lanes that must be posted go to `post`. The caller calls what is
/// in `wakes` afterwards.
pub fn drain_stash(
    accumulator: &RecordAccumulator,
    topic: &TopicLanes,
    context: &AppendContext<'_>,
    (budget, spare): (usize, &mut Vec<Segment>),
    post: &mut dyn FnMut(&LaneTail),
    wakes: &mut WakeList,
) -> Drained {
    // Both are dropped after the stash is unlocked, as they call wakers of the application's.
    let _waiting = AdmitWaiting { pool: &accumulator.pool, topic };
    let mut mover = Mover::new((accumulator, topic), *context, post, spare);
    let mut left = budget;
    let mut stash = topic.lock_stash();
    if stash.asking {
        return Drained::Elsewhere;
    }
    loop {
        let Some(mut draining) = stash.take_draining() else {
            topic.set_drained(&stash);
            if std::mem::take(&mut stash.flush_wanted) {
                seal_all(topic, mover.post);
            }
            return Drained::Empty;
        };
        match mover.move_run(&mut draining, &mut left) {
            Moved::All => {
                draining.tell_file();
                let (cell, mut segments) = draining.run.into_parts();
                cell.forward(draining.table, wakes);
                stash.end(wakes);
                mover.released.append(&mut segments);
                if left == 0 && !stash.is_empty() {
                    return Drained::More;
                }
                // This run's memory first: the next may need it. Returning it calls wakers.
                drop(stash);
                mover.released.clear();
                stash = topic.lock_stash();
                if stash.asking {
                    return Drained::Elsewhere;
                }
            }
            Moved::Part => {
                stash.put_back(draining.without_window());
                return Drained::More;
            }
            Moved::NoRoom(account, need) => {
                stash.put_back(draining.without_window());
                return Drained::NoRoom(account, need);
            }
            Moved::Damaged => {
                draining.fail_damaged(topic, draining.run.window.problem());
                stash.put_back(draining);
            }
            Moved::Read(file, at, len) => {
                match read_unlocked(topic, stash, draining, (&*file, at, len)) {
                    Some(locked) => stash = locked,
                    None => return Drained::Elsewhere,
                }
            }
            Moved::Ask(question) => {
                let ask = || (mover.ask(&question), question);
                let then = |draining: &mut Draining, (answer, question)| {
                    draining.take_answer(topic, question, answer);
                };
                stash = unlocked(topic, stash, draining, ask, then);
            }
        }
    }
}

/// Runs `act` with the stash unlocked, while no other thread moves records, and then `then`, unless
/// the run has expired meanwhile, or a close or a purge has failed it: what came out of `act` is
/// for records that do not wait any more then.
pub(super) fn unlocked<'t, T>(
    topic: &'t TopicLanes,
    mut stash: MutexGuard<'t, Stash>,
    draining: Draining,
    act: impl FnOnce() -> T,
    then: impl FnOnce(&mut Draining, T),
) -> MutexGuard<'t, Stash> {
    stash.put_back(draining);
    stash.asking = true;
    let failed_before = stash.drainings_failed;
    drop(stash);
    let outcome = act();
    let mut stash = topic.lock_stash();
    stash.asking = false;
    if stash.drainings_failed == failed_before
        && let Some(mut draining) = stash.take_draining()
    {
        then(&mut draining, outcome);
        stash.put_back(draining);
    }
    stash
}

/// A flush began while records were stashed: seals their batches, which would linger otherwise. The
/// flush seals them itself only if its future is polled, and nobody need poll it.
fn seal_all(topic: &TopicLanes, post: &mut dyn FnMut(&LaneTail)) {
    for lane in topic.lanes() {
        if lane.seal(false).1 {
            post(lane);
        }
    }
}

impl Draining {
    pub(super) fn run(&self) -> &Run {
        self.run.run()
    }

    /// Runs of records that its table has heap for.
    #[cfg(test)]
    pub(super) fn forward_capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Records that have not moved yet.
    pub(super) fn records_left(&self) -> u32 {
        self.run.records() - self.table.records()
    }

    /// What has not moved fails; what has is forwarded. The run's memory is left.
    pub(super) fn fail_rest(mut self, error: DeliveryError, wakes: &mut WakeList) -> FailedRun {
        let left = self.records_left();
        self.table.fail(left, error);
        let (cell, rest) = self.run.into_rest(self.waiting.take(), self.is_asking);
        cell.forward(self.table, wakes);
        rest
    }

    /// How far the run was moved, in bytes: to behind the last record that is in a lane.
    pub(super) fn moved_bytes(&self) -> usize {
        let is_out = self.waiting.is_some() || self.is_asking;
        if is_out { self.run.last_position() } else { self.run.position() }
    }

    /// The next records fail.
    pub(super) fn fail_records(&mut self, records: u32, error: DeliveryError) {
        (self.waiting, self.is_asking) = (None, false);
        self.table.fail(records, error);
    }

    /// A run of which nothing has moved yet.
    pub(super) fn new(run: DrainingRun) -> Self {
        // As many entries as the run has records would be needed only where no two neighbours go
        // to the same partition.
        Draining {
            run,
            table: ForwardTable::new(),
            waiting: None,
            together_at: None,
            is_asking: false,
            untold: None,
            lanes: BTreeMap::new(),
        }
    }

    fn take_answer(
        &mut self,
        topic: &TopicLanes,
        question: Question,
        answer: Result<PartitionId, DeliveryError>,
    ) {
        self.is_asking = false;
        match (question, answer) {
            (Question::Place(_), Ok(partition)) if self.run.is_together() => {
                self.together_at = Some(partition);
            }
            (Question::Place(_), Err(error)) if self.run.is_together() => {
                self.fail_together(topic, error);
            }
            (Question::Place(record), Ok(partition)) => {
                self.waiting = Some(Waiting { partition, ..record });
            }
            (Question::Place(record), Err(error)) => {
                topic.failed_in_stash.add_shared(1);
                let headers = record.headers();
                let parts = record.parts(&headers);
                topic.give_record_back(None, record.timestamp, &parts, &error);
                self.table.fail(1, error);
            }
            (Question::Tell(..), _) => {}
        }
    }
}

pub(super) struct Mover<'a> {
    pub(super) accumulator: &'a RecordAccumulator,
    pub(super) topic: &'a TopicLanes,
    pub(super) context: AppendContext<'a>,
    pub(super) post: &'a mut dyn FnMut(&LaneTail),
    pub(super) spare: &'a mut Vec<Segment>,
    /// Segments that are not needed any more. Returning one to the pool calls the wakers of tasks
    /// that wait for room, so it happens while the stash is not locked.
    pub(super) released: Vec<Segment>,
    /// The run that is being moved lies in a file.
    pub(super) is_spilled: bool,
}

impl<'a> Mover<'a> {
    fn new(
        (accumulator, topic): (&'a RecordAccumulator, &'a TopicLanes),
        context: AppendContext<'a>,
        post: &'a mut dyn FnMut(&LaneTail),
        spare: &'a mut Vec<Segment>,
    ) -> Self {
        let (released, is_spilled) = (Vec::new(), false);
        Mover { accumulator, topic, context, post, spare, released, is_spilled }
    }
}

impl Mover<'_> {
    fn move_run(&mut self, draining: &mut Draining, left: &mut usize) -> Moved {
        self.is_spilled = draining.run().spilled.is_some();
        self.context.accepted_at = Some(match self.is_spilled {
            true => self.context.clock.monotonic(),
            false => draining.run().last_at(),
        });
        loop {
            if let Some((partition, bytes)) = draining.untold.take() {
                if self.topic.partitioner.is_own() {
                    return Moved::Ask(Question::Tell(partition, bytes));
                }
                self.tell(partition, bytes);
            }
            if let Some(waiting) = draining.waiting.take() {
                if let Err(no_room) = self.move_waiting(draining, waiting) {
                    return no_room;
                }
                continue;
            }
            if *left == 0 && draining.table.records() < draining.run.records() {
                return Moved::Part;
            }
            if let Some((file, at, len)) = draining.wants() {
                return Moved::Read(file, at, len);
            }
            if draining.run.is_together() && draining.table.records() == 0 {
                if let Some(ended) = self.move_together(draining, left) {
                    return ended;
                }
                continue;
            }
            let Some(record) = draining.run.next_record() else {
                return match draining.run.window.damage() {
                    None => Moved::All,
                    Some(_) => Moved::Damaged,
                };
            };
            let parts =
                RecordParts { key: record.key, value: record.value, headers: &record.headers };
            *left = left.saturating_sub(super::stashed_len(&parts));
            if record.partition.is_none() && self.topic.partitioner.is_own() {
                let record = Waiting::copy(PartitionId(0), &record);
                draining.is_asking = true;
                return Moved::Ask(Question::Place(record));
            }
            match self.partition_of(record.partition, &parts) {
                Err(error) => {
                    let (topic, timestamp) = (self.topic, record.timestamp);
                    topic.failed_in_stash.add_shared(1);
                    topic.give_record_back(record.partition, timestamp, &parts, &error);
                    draining.table.fail(1, error);
                }
                Ok(partition) => match self.move_record(partition, record.timestamp, &parts) {
                    Ok(handle) => {
                        draining.table.forward_handle(handle);
                        draining.untold = Some((partition, parts.payload_len()));
                        draining.note_moved(self.topic, partition);
                    }
                    Err((account, need)) => {
                        draining.waiting = Some(Waiting::copy(partition, &record));
                        return Moved::NoRoom(account, need);
                    }
                },
            }
        }
    }

    /// Moves a record that was taken out of the run before.
    fn move_waiting(&mut self, draining: &mut Draining, waiting: Waiting) -> Result<(), Moved> {
        let headers: Vec<_> = waiting.headers();
        let parts = waiting.parts(&headers);
        match self.move_record(waiting.partition, waiting.timestamp, &parts) {
            Ok(handle) => {
                draining.table.forward_handle(handle);
                draining.note_moved(self.topic, waiting.partition);
                draining.untold = Some((waiting.partition, parts.payload_len()));
                Ok(())
            }
            Err((account, need)) => {
                draining.waiting = Some(waiting);
                Err(Moved::NoRoom(account, need))
            }
        }
    }

    /// Calls the partitioner, with no lock held.
    fn ask(&self, question: &Question) -> Result<PartitionId, DeliveryError> {
        let _placing = Placing::begin();
        match question {
            Question::Place(record) => {
                let headers = record.headers();
                self.partition_of(None, &record.parts(&headers))
            }
            Question::Tell(partition, bytes) => {
                self.tell(*partition, *bytes);
                Ok(*partition)
            }
        }
    }

    pub(super) fn partition_of(
        &self,
        asked: Option<PartitionId>,
        parts: &RecordParts<'_>,
    ) -> Result<PartitionId, DeliveryError> {
        let partitions = self.topic.partitions();
        let fail = |cause| {
            let destination = Destination { topic: self.topic.name.clone(), partition: None };
            destination.error(cause, Certainty::NotWritten)
        };
        let chosen = match asked {
            Some(partition) => partition,
            None => {
                let (name, chooser) = (&self.topic.name, &self.topic.partitioner);
                chooser
                    .partition(name, parts, self.topic, None, || None)
                    .map_err(|_| fail(DeliveryErrorCause::PartitionerPanicked))?
            }
        };
        if !chosen.is_among(partitions) {
            let (partition, by_partitioner) = (chosen.0, asked.is_none());
            let cause = match partition {
                ExplicitPartitioner::MUST_BE_NAMED if by_partitioner => {
                    DeliveryErrorCause::PartitionNotNamed
                }
                _ => DeliveryErrorCause::PartitionOutOfRange {
                    partition,
                    partitions,
                    by_partitioner,
                },
            };
            return Err(fail(cause));
        }
        if self.topic.lane(chosen).is_none() {
            let lanes_max = self.accumulator.config.lanes_max;
            return Err(fail(DeliveryErrorCause::TooManyLanes { lanes_max }));
        }
        Ok(chosen)
    }

    /// Tells the partitioner of an append, as `send` does: a sticky one counts the appended bytes,
    /// and changes its partition after so many. If it heard of none it would stay for ever.
    fn tell(&self, partition: PartitionId, bytes: usize) {
        let batch_size = self.topic.settings.batch_size;
        let (name, chooser) = (&self.topic.name, &self.topic.partitioner);
        chooser.on_appended(name, partition, bytes, batch_size);
    }

    fn move_record(
        &mut self,
        partition: PartitionId,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<CellHandle, (AccountId, NeedRoom)> {
        let lane: &Arc<LaneTail> = self.topic.lane(partition).expect("partition_of() found it");
        if !self.takes_spilled(lane) {
            return Err((lane.account(), NeedRoom::LEVEL));
        }
        loop {
            let appended = lane.append(&self.context, timestamp, parts, self.spare);
            if appended.post {
                (self.post)(lane);
            }
            match appended.result {
                Ok(handle) => return Ok(handle),
                Err(Refusal::NeedRoom(need)) => {
                    let account = lane.account();
                    if !self.take_room_for(account, need) {
                        return Err((account, need));
                    }
                }
                Err(Refusal::Closed) => {
                    let (destination, error) = self.ended(lane);
                    let mut cell = self.context.cells.allocate(destination);
                    let handle = cell.issue(timestamp);
                    self.topic.failed_in_stash.add_shared(1);
                    self.topic.give_record_back(Some(partition), timestamp, parts, &error);
                    cell.fail(error, &mut WakeList::default());
                    return Ok(handle);
                }
            }
        }
    }

    /// Takes room in the place of what is spare. Returns whether there was enough.
    pub(super) fn take_room_for(&mut self, account: AccountId, need: NeedRoom) -> bool {
        self.released.append(self.spare);
        // The broker's watermark does not hold the record back: it is in buffer memory already, and
        // records for other brokers wait behind it. They must not wait for one broker that stalls.
        self.accumulator.pool.take_quietly(account, need.bytes, need.class, self.spare)
    }

    /// A lane takes nothing. Unless the producer closes, the loop that owned it has panicked.
    pub(super) fn ended(&self, lane: &LaneTail) -> (Destination, DeliveryError) {
        let destination =
            Destination { topic: lane.topic.clone(), partition: Some(lane.partition) };
        let cause = match self.accumulator.is_closed() {
            true => DeliveryErrorCause::Closed { last: None },
            false => DeliveryErrorCause::LoopPanicked,
        };
        let error = destination.error(cause, Certainty::NotWritten);
        (destination, error)
    }
}

/// When it is dropped, those go on who wait for room that takes under the lock have left them, and
/// those who waited for room in the stash of a topic that is ready by now.
struct AdmitWaiting<'a> {
    pool: &'a BufferPool,
    topic: &'a TopicLanes,
}

impl Drop for AdmitWaiting<'_> {
    fn drop(&mut self) {
        if self.topic.state() == TopicState::Ready {
            self.pool.dismiss(AccountId::STASH);
        }
        self.pool.admit_waiting();
    }
}

impl Waiting {
    pub(super) fn copy(partition: PartitionId, record: &StashedRecord<'_>) -> Self {
        Waiting {
            partition,
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    pub(super) fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect()
    }

    /// The record as it waited. Its partition may have been chosen since.
    pub(super) fn record(&self) -> StashedRecord<'_> {
        StashedRecord {
            partition: Some(self.partition),
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers(),
        }
    }

    pub(super) fn parts<'a>(&'a self, headers: &'a [Header<'a>]) -> RecordParts<'a> {
        RecordParts { key: self.key.as_deref(), value: self.value.as_deref(), headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::{
        AccumulatorConfig, MonotonicClock, NeedRoom, ShardId, TopicParts, TopicSettings,
        stashed_len,
    };
    use crate::engine::buffer::{BufferPool, BufferPoolOptions};
    use crate::engine::policy::{Chooser, DefaultPartitioner};
    use crate::engine::sync::Outcome;

    struct Noon;

    impl MonotonicClock for Noon {
        fn monotonic(&self) -> u64 {
            12
        }
    }

    #[test]
    fn a_run_that_finds_no_room_expires() {
        let options = BufferPoolOptions { bytes: 256 << 10, ..BufferPoolOptions::default() };
        let pool = BufferPool::new(&options).expect("a small mapping");
        let config = AccumulatorConfig {
            topics: Arc::default(),
            lanes_max: 1,
            leaderless_account: AccountId::LEADERLESS,
        };
        let accumulator = RecordAccumulator::new(config, pool);
        let settings = TopicSettings { delivery_timeout: 100, ..TopicSettings::default() };
        let parts = || TopicParts {
            settings: Some(Arc::new(settings)),
            ..Chooser::Default(DefaultPartitioner::new()).into()
        };
        let topic = accumulator.topic("orders", parts);
        let heads = accumulator.new_lanes(&topic, 1, |_| ShardId(0));
        topic.grow(heads.iter().map(|head| head.tail.clone()));
        topic.set_partitions(1);
        let parts = RecordParts { value: Some(b"v"), ..RecordParts::default() };
        let mut spare = Vec::new();
        let need = NeedRoom::new(stashed_len(&parts), stashed_len(&parts));
        assert!(crate::engine::batch::take_room(
            &accumulator.pool,
            AccountId::STASH,
            need,
            &mut spare
        ));
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let record = (None, 0, &parts);
        let cells = &accumulator.cells;
        let handle = topic.lock_stash().append(cells, &destination, record, &mut spare, 5);

        // Nothing is left for the lane's first batch.
        let pool = &accumulator.pool;
        let mut rest = Vec::new();
        assert!(pool.take_bytes(AccountId::LEADERLESS, pool.free_bytes(), &mut rest));
        let context = accumulator.append_context(&topic.settings, &Noon);
        let budget = (usize::MAX, &mut spare);
        let mut wakes = WakeList::default();
        let post = &mut |_: &LaneTail| ();
        let drained = drain_stash(&accumulator, &topic, &context, budget, post, &mut wakes);
        assert!(matches!(drained, Drained::NoRoom(..)), "{drained:?}");
        let mut stash = topic.lock_stash();
        assert_eq!(stash.oldest_at(), Some(5));

        let cause = DeliveryErrorCause::Dropped;
        let failed = stash.fail(5, &destination, &cause, &mut wakes);
        assert_eq!(failed.records, 0, "not due yet");
        assert!(handle.try_outcome().is_none());
        assert_eq!(stash.fail(6, &destination, &cause, &mut wakes).records, 1);
        assert!(matches!(handle.try_outcome(), Some(Outcome::Failed(_))));
        assert!(stash.is_empty());
        assert_eq!(stash.begun, stash.ended, "flush waits by them");
    }
}
