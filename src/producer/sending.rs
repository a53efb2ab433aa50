//! The whole way of one record from the application into a batch, on which a thread or a task may
//! wait for room. The usual case is in `fast_path`.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::admission::{Admission, Admitted, How, Place, at_once};
use super::delivery::Delivery;
use super::stashing::{Stashed, Stashing};
use super::topic::Topic;
use crate::engine::batch::{CellHandle, LaneTail, Refusal, TopicState, take_room};
use crate::engine::buffer::Segment;
use crate::engine::policy::{ExplicitPartitioner, Moment};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{RecordParts, single_record_batch_size};
use crate::error::SendErrorKind;

thread_local! {
    /// Where the sending thread's segments wait between the pool and the batch: kept for its
    /// memory.
    static SPARE: Cell<Vec<Segment>> = const { Cell::new(Vec::new()) };
}

/// Segments between the pool and a batch, in a vector whose memory is kept with the thread. What is
/// left of them goes back to the pool.
struct Spare(Vec<Segment>);

impl Spare {
    /// A send in the destructor of another thread-local may find [`SPARE`] gone already: its record
    /// does with a vector of its own.
    fn take() -> Self {
        Spare(SPARE.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let mut spare = std::mem::take(&mut self.0);
        spare.clear();
        // Gone with its thread: see `take`.
        let _ = SPARE.try_with(|kept| kept.set(spare));
    }
}

/// Where a task's record has to wait.
pub(super) enum Held {
    /// For room in the stash.
    InStash { timestamp: i64 },
    /// For room at this lane's broker, or, once that has a level below its watermark, for a
    /// segment.
    AtLane { lane: Arc<LaneTail>, has_level: bool, timestamp: i64 },
}

/// How a record is sent, and, for a task's, where it turned out to have to wait.
#[derive(Clone, Copy)]
pub(super) enum Sender<'a> {
    /// The calling thread carries it through: it parks, or is refused, as this says.
    Waits(How),
    /// What would have to wait is put here, and the result means nothing then.
    Task(&'a Cell<Option<Held>>),
}

/// What is returned beside a [`Held`], and looked at by nobody.
const HELD: SendErrorKind = SendErrorKind::Closed;

impl Topic {
    /// A record with a key whose partition the caller has found before. That is a hint, and no
    /// partition that the record names: where the topic has fewer or more by now, the key is hashed
    /// again.
    #[inline]
    pub(super) fn send_keyed(
        &self,
        sender: Sender<'_>,
        found: Option<PartitionId>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if let Some(delivery) = self.send_usual((None, found), None, parts) {
            return Ok(delivery);
        }
        self.send_whole_way(sender, (None, found), None, parts)
    }

    /// [`Topic::send_fast`], for a record that it may be right for. One with a timestamp of its own
    /// and no partition goes the whole way: the fast path has one time, the record's and that by
    /// which it is spread.
    #[inline(always)]
    pub(super) fn send_usual(
        &self,
        (partition, found): (Option<PartitionId>, Option<PartitionId>),
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Option<Delivery> {
        if !self.has_fast_path || !parts.headers.is_empty() {
            return None;
        }
        let at = timestamp.unwrap_or_else(|| self.shared.clock.wall_ms());
        let issued = match partition.or(found) {
            Some(to) => self.send_fast_to(to, at, (parts.key, parts.value)),
            None if timestamp.is_none() => self.send_fast(at, parts.key, parts.value),
            None => None,
        };
        Some(Delivery::new(issued?.into_handle(at)))
    }

    /// What every send does that is not a usual one: interceptors, size, time, partition, level,
    /// append. `partition` is the one that the record names; `found` is one that its key was found
    /// to belong to.
    #[inline(never)]
    pub(super) fn send_whole_way(
        &self,
        sender: Sender<'_>,
        (partition, found): (Option<PartitionId>, Option<PartitionId>),
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if self.is_intercepted {
            return self.send_intercepted(sender, partition, timestamp, parts);
        }
        self.send_plain(sender, (partition, found), timestamp, parts)
    }

    /// Sends a record that interceptors have seen, or of a producer that has none. All of it is in
    /// this function as long as the topic is known, the broker takes records and the open batch has
    /// room; each of these has a slow path of its own otherwise ([`Topic::send_to_stash`],
    /// [`Topic::send_slowly`]).
    #[inline(always)]
    pub(super) fn send_plain(
        &self,
        sender: Sender<'_>,
        (partition, found): (Option<PartitionId>, Option<PartitionId>),
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if !self.shared.born.is_current() {
            return Err(SendErrorKind::Forked);
        }
        let len = parts.payload_len();
        if len >= self.shared.fits_below || !parts.headers.is_empty() {
            self.check_size(parts)?;
        }
        // The time counts for the record's timestamp, and for where one without key goes.
        let spread = partition.is_none() && parts.key.is_none();
        let now = (spread || timestamp.is_none()).then(|| self.shared.clock.wall_ms());
        let moment = now.map(|now| Moment::new(now, self.lanes.stay_ms));
        let timestamp = timestamp.or(now).unwrap_or_default();
        if self.lanes.state() != TopicState::Ready
            && let Some(delivery) = self.send_to_stash(sender, partition, timestamp, parts)?
        {
            return Ok(delivery);
        }
        let (chosen, lane) = match self.writable_sticky(spread, moment) {
            Some(found) => found,
            None => {
                let found = found.filter(|found| found.is_among(self.lanes.partitions()));
                let chosen = match found {
                    Some(found) => found,
                    None => self.choose(partition, parts, moment)?,
                };
                let known = chosen.is_among(self.lanes.partitions());
                // `TopicLanes::set_known` stores the state before the number of partitions. Where a
                // named partition has just become known, the state that was read above may be
                // older than that; read again, it tells whether stashed records have to go first.
                if (!known || partition.is_some() && self.lanes.state() != TopicState::Ready)
                    && let Some(delivery) =
                        self.send_elsewhere(sender, (chosen, partition), timestamp, parts)?
                {
                    return Ok(delivery);
                }
                let Some(lane) = self.lanes.lane(chosen) else {
                    return Err(self.no_lane(chosen));
                };
                if !self.shared.accumulator.pool.is_writable(lane.account()) {
                    return self.send_slowly(sender, (lane, false), timestamp, parts);
                }
                (chosen, lane)
            }
        };
        let settings = &*self.lanes.settings;
        let context = self.shared.accumulator.append_context(settings, &self.shared.clock);
        // An append only takes from it: it never has memory to free.
        let mut none = ManuallyDrop::new(Vec::new());
        let appended = lane.append(&context, timestamp, parts, &mut none);
        if appended.post {
            self.shared.ports.post(lane);
        }
        match appended.result {
            Ok(handle) => Ok(self.sent(chosen, len, handle)),
            Err(Refusal::NeedRoom(_)) => self.send_slowly(sender, (lane, true), timestamp, parts),
            Err(Refusal::Closed) => Err(SendErrorKind::Closed),
        }
    }

    /// The same for a task, which waits where a thread would be parked.
    pub(super) async fn send_parts_async(
        &self,
        how: How,
        partition: Option<PartitionId>,
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        self.send_hinted_async(how, (partition, None), timestamp, parts).await
    }

    /// [`Topic::send_keyed`] for a task.
    pub(super) async fn send_keyed_async(
        &self,
        found: Option<PartitionId>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        self.send_hinted_async(How::TASK, (None, found), None, parts).await
    }

    async fn send_hinted_async(
        &self,
        how: How,
        (partition, found): (Option<PartitionId>, Option<PartitionId>),
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if let Some(delivery) = self.send_usual((partition, found), timestamp, parts) {
            return Ok(delivery);
        }
        if self.is_intercepted {
            return self.send_intercepted_async(how, partition, timestamp, parts).await;
        }
        self.send_plain_async(how, (partition, found), timestamp, parts).await
    }

    /// [`Topic::send_plain`] for a task.
    pub(super) async fn send_plain_async(
        &self,
        how: How,
        (partition, found): (Option<PartitionId>, Option<PartitionId>),
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        loop {
            // The cell ends before the next await: a future that held it could not move to another
            // thread.
            let (sent, held) = {
                let held = Cell::new(None);
                let sent =
                    self.send_plain(Sender::Task(&held), (partition, found), timestamp, parts);
                (sent, held.take())
            };
            match held {
                None => return sent,
                Some(Held::AtLane { lane, has_level, timestamp }) => {
                    let full = (&lane, has_level);
                    return self.append_slowly(how, full, timestamp, parts).await;
                }
                Some(Held::InStash { timestamp }) => {
                    let stashed = self.stash(how, partition, timestamp, parts).await?;
                    if let Some(delivery) = stashed {
                        return Ok(delivery);
                    }
                    // It is empty by now: the record goes to its lane.
                }
            }
        }
    }

    /// The partition is not known, or others wait for it. `None`: it is known, and none waits.
    #[cold]
    #[inline(never)]
    fn send_elsewhere(
        &self,
        sender: Sender<'_>,
        (chosen, asked): (PartitionId, Option<PartitionId>),
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Option<Delivery>, SendErrorKind> {
        // A partitioner was told how many partitions there are: what it chose besides them is its
        // own mistake, and no broker is asked.
        if asked.is_none() {
            return Err(self.out_of_range(chosen, true));
        }
        self.send_to_stash(sender, asked, timestamp, parts)
    }

    /// The lane's broker is above its watermark, or, where `has_level` is set, the batch needs a
    /// segment: see [`Topic::append_slowly`].
    #[cold]
    #[inline(never)]
    fn send_slowly(
        &self,
        sender: Sender<'_>,
        (lane, has_level): (&Arc<LaneTail>, bool),
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        match sender {
            Sender::Waits(how) => {
                at_once(self.append_slowly(how, (lane, has_level), timestamp, parts))
            }
            Sender::Task(held) => {
                held.set(Some(Held::AtLane { lane: lane.clone(), has_level, timestamp }));
                Err(HELD)
            }
        }
    }

    /// A record whose topic is not ready: see [`Topic::stash`].
    #[cold]
    #[inline(never)]
    fn send_to_stash(
        &self,
        sender: Sender<'_>,
        partition: Option<PartitionId>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Option<Delivery>, SendErrorKind> {
        match sender {
            Sender::Waits(how) => at_once(self.stash(how, partition, timestamp, parts)),
            Sender::Task(held) => {
                held.set(Some(Held::InStash { timestamp }));
                Err(HELD)
            }
        }
    }

    /// The record is in its batch: tells the partitioner, and makes the cell's handle a delivery.
    #[inline(always)]
    fn sent(&self, partition: PartitionId, len: usize, handle: CellHandle) -> Delivery {
        self.tell_appended(partition, len);
        Delivery::new(handle)
    }

    /// Tells the partitioner that so many bytes were appended.
    #[inline]
    pub(super) fn tell_appended(&self, partition: PartitionId, len: usize) {
        let batch_size = self.lanes.settings.batch_size;
        self.lanes.partitioner.on_appended(&self.lanes.name, partition, len, batch_size);
    }

    /// The lane of the partition that this thread sticks to, for a record with neither partition
    /// nor key: if the stay goes on, the partition has a leader, and its broker takes records.
    #[inline(always)]
    fn writable_sticky(
        &self,
        spread: bool,
        moment: Option<Moment>,
    ) -> Option<(PartitionId, &Arc<LaneTail>)> {
        if !spread {
            return None;
        }
        let stay = self.lanes.partitioner.as_default()?.stay(moment?)?;
        let partition = PartitionId(stay.partition());
        let lane = self.lanes.lane(partition)?;
        let pool = &self.shared.accumulator.pool;
        let account = lane.account();
        let stalls = self.shared.watches_stalls && pool.is_stalled(account);
        (lane.has_leader() && pool.is_writable(account) && !stalls).then_some((partition, lane))
    }

    #[inline]
    pub(super) fn choose(
        &self,
        asked: Option<PartitionId>,
        parts: &RecordParts<'_>,
        moment: Option<Moment>,
    ) -> Result<PartitionId, SendErrorKind> {
        if let Some(partition) = asked {
            return Ok(partition);
        }
        let (name, chooser) = (&self.lanes.name, &self.lanes.partitioner);
        let clock = || Some(Moment::new(self.shared.clock.wall_ms(), self.lanes.stay_ms));
        chooser
            .partition(name, parts, &*self.lanes, moment, clock)
            .map_err(|_| SendErrorKind::PolicyPanicked("partitioner"))
    }

    #[cold]
    pub(super) fn no_lane(&self, partition: PartitionId) -> SendErrorKind {
        let lanes_max = self.shared.accumulator.config.lanes_max;
        SendErrorKind::TooManyLanes { partition: partition.0, lanes_max }
    }

    #[cold]
    pub(super) fn out_of_range(
        &self,
        partition: PartitionId,
        by_partitioner: bool,
    ) -> SendErrorKind {
        let (partition, partitions) = (partition.0, self.lanes.partitions());
        if by_partitioner && partition == ExplicitPartitioner::MUST_BE_NAMED {
            return SendErrorKind::PartitionNotNamed;
        }
        SendErrorKind::PartitionOutOfRange { partition, partitions, by_partitioner }
    }

    #[inline(never)]
    fn check_size(&self, parts: &RecordParts<'_>) -> Result<(), SendErrorKind> {
        let max = self.shared.max_request_size;
        let size = single_record_batch_size(parts);
        if size > max {
            return Err(SendErrorKind::RecordTooLarge { size, max });
        }
        Ok(())
    }

    /// The broker's level is above its high watermark: asks the strategy first. Else the batch
    /// needs a segment: takes it, or asks the strategy if there is none.
    async fn append_slowly(
        &self,
        how: How,
        (lane, has_level): (&Arc<LaneTail>, bool),
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if self.shared.accumulator.is_closed() {
            return Err(SendErrorKind::Closed);
        }
        let mut admission = Admission::new((&self.shared, &self.lanes), how, timestamp, parts);
        let mut spare = Spare::take();
        let shared = &self.shared;
        let pool = &shared.accumulator.pool;
        let mut has_level = has_level;
        // All who wait for a level are woken at once: those who come too late wait for the next.
        while !has_level {
            let place = Place::Lane(lane);
            if let Admitted::LeftOut(left_out) = admission.admit(place, None, &mut spare.0).await? {
                return Ok(self.leave_out(left_out, timestamp, parts));
            }
            has_level = pool.is_writable(lane.account());
        }
        loop {
            let appended = {
                let settings = &*self.lanes.settings;
                let context = shared.accumulator.append_context(settings, &shared.clock);
                lane.append(&context, timestamp, parts, &mut spare.0)
            };
            if appended.post {
                shared.ports.post(lane);
            }
            let need = match appended.result {
                Ok(handle) => {
                    return Ok(self.sent(lane.partition, parts.payload_len(), handle));
                }
                Err(Refusal::Closed) => return Err(SendErrorKind::Closed),
                Err(Refusal::NeedRoom(need)) => need,
            };
            // What was taken before was too little for what the batch has become since.
            spare.0.clear();
            let account = lane.account();
            if take_room(pool, account, need, &mut spare.0) {
                if pool.under_pressure(account) {
                    shared.ports.ring(lane.owner());
                }
                continue;
            }
            let place = Place::Lane(lane);
            if let Admitted::LeftOut(left_out) =
                admission.admit(place, Some(need), &mut spare.0).await?
            {
                return Ok(self.leave_out(left_out, timestamp, parts));
            }
        }
    }

    /// The topic's partitions are not known yet, or not the one that the record names, or the stash
    /// is being emptied. `None`: it is empty now, and the record goes to its lane.
    async fn stash(
        &self,
        how: How,
        partition: Option<PartitionId>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Option<Delivery>, SendErrorKind> {
        let mut admission = Admission::new((&self.shared, &self.lanes), how, timestamp, parts);
        let mut spare = Spare::take();
        let stashing = Stashing { shared: &self.shared, lanes: &self.lanes, partition };
        match stashing.stash(&mut admission, &(timestamp, parts), &mut spare.0).await? {
            Stashed::Handles(handle) => Ok(Some(Delivery::new(handle))),
            Stashed::LeftOut(left_out) => Ok(Some(self.leave_out(left_out, timestamp, parts))),
            Stashed::Ready => Ok(None),
            Stashed::NoPartition(partition) => Err(self.out_of_range(partition, false)),
        }
    }
}
