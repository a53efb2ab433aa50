//! What happens to a record for which there is no room: the strategy decides, and this acts.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::producer::Shared;
use super::record::Record;
use crate::engine::batch::{
    CellHandle, CopiedRecord, FallbackQueue, LaneTail, NeedRoom, Reserved, TopicLanes, TopicState,
    is_placing, take_room_through,
};
use crate::engine::buffer::{AccountId, PoolError, Segment, WaitTicket};
use crate::engine::meter::Counter;
use crate::engine::policy::{Backoff, Pressure};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{RecordParts, single_record_batch_size};
use crate::engine::sync::{Generation, wait_until};
use crate::error::{PressureScope, SendErrorKind};
use crate::io::{ThreadDeadline, is_own_thread};
use crate::user_code;

/// What a caller may be held up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// The strategy decides, and may park the thread.
    Thread,
    /// The strategy decides, and where it would park, the task waits.
    Task,
    /// Nothing: without room the record is refused.
    AtOnce,
}

/// How a record is sent, as far as that is not in its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// What its sender may be held up by.
    pub waits: Waits,
    /// For the strategy: see [`Pressure`].
    pub priority: i32,
    /// For the strategy: see [`Pressure`].
    pub tag: u64,
}

impl How {
    /// See [`Waits::Thread`].
    pub const THREAD: How = How { waits: Waits::Thread, priority: 0, tag: 0 };
    /// See [`Waits::Task`].
    pub const TASK: How = How { waits: Waits::Task, priority: 0, tag: 0 };
    /// See [`Waits::AtOnce`].
    pub const AT_ONCE: How = How { waits: Waits::AtOnce, priority: 0, tag: 0 };

    /// The same for a record that has these.
    #[inline]
    pub(super) fn of(self, record: &Record<'_>) -> How {
        How { priority: record.priority_value(), tag: record.tag_value(), ..self }
    }
}

/// Runs a future that waits for nobody's waker: what is sent [`How::THREAD`] or [`How::AT_ONCE`].
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("only tasks wait for their waker"),
    }
}

/// The refusals of one record so far.
pub(super) struct Admission<'a> {
    pub(super) shared: &'a Shared,
    pub(super) lanes: &'a Arc<TopicLanes>,
    pub(super) how: How,
    pub(super) records: Sent<'a>,
    parts: &'a RecordParts<'a>,
    record_size: usize,
    /// Of all of them.
    headers: usize,
    attempt: u32,
    /// When it was first refused, nanoseconds, monotonic.
    pub(super) refused_at: Option<u64>,
}

/// What is sent.
#[derive(Clone, Copy)]
pub(super) enum Sent<'a> {
    /// A record, with its timestamp.
    One([(i64, RecordParts<'a>); 1]),
    /// Records that are sent together.
    Together(&'a [(i64, RecordParts<'a>)]),
}

impl<'a> Sent<'a> {
    pub(super) fn all(&self) -> &[(i64, RecordParts<'a>)] {
        match self {
            Sent::One(record) => record,
            Sent::Together(records) => records,
        }
    }
}

/// The strategy's decision, carried out.
pub(super) enum Admitted {
    /// The wait is over, for room or because another account is to be charged: try again.
    Again,
    /// It is not sent.
    LeftOut(LeftOut),
}

/// What the strategy does with a record that is not sent.
pub(super) enum LeftOut {
    /// The record is dropped, and counted as such.
    Dropped,
    /// The fallback gets it.
    Given(ForFallback),
    /// It is in the spill folder.
    Spilled(Vec<CellHandle>),
}

/// What is needed to copy a record for the fallback.
pub(super) struct ForFallback {
    pub queue: Arc<FallbackQueue>,
    pub reserved: Reserved,
    pub partition: Option<PartitionId>,
    pub full: PressureScope,
}

impl<'a> Admission<'a> {
    pub(super) fn new(
        (shared, lanes): (&'a Shared, &'a Arc<TopicLanes>),
        how: How,
        timestamp: i64,
        parts: &'a RecordParts<'a>,
    ) -> Self {
        let record_size = single_record_batch_size(parts);
        Admission {
            shared,
            lanes,
            how,
            records: Sent::One([(timestamp, *parts)]),
            parts,
            record_size,
            headers: parts.headers.len(),
            attempt: 0,
            refused_at: None,
        }
    }

    /// The same for records that are sent together: `parts` are the first one's.
    pub(super) fn together(
        lanes: (&'a Shared, &'a Arc<TopicLanes>),
        how: How,
        parts: &'a RecordParts<'a>,
        all: &'a [(i64, RecordParts<'a>)],
    ) -> Self {
        let headers = all.iter().map(|(_, parts)| parts.headers.len()).sum();
        let timestamp = all.first().map_or(0, |(timestamp, _)| *timestamp);
        let records = Sent::Together(all);
        Admission { records, headers, ..Admission::new(lanes, how, timestamp, parts) }
    }

    /// Records that are sent together take this much where they are to go now.
    pub(super) fn set_size(&mut self, size: usize) {
        self.record_size = size;
    }

    /// Asks the strategy and obeys. With `need`, room for it is taken into `spare` after a wait.
    /// The wait ends as well once another account is to be charged.
    pub(super) async fn admit(
        &mut self,
        place: Place<'_>,
        need: Option<NeedRoom>,
        spare: &mut Vec<Segment>,
    ) -> Result<Admitted, SendErrorKind> {
        let mut timed_out = None;
        loop {
            if self.shared.accumulator.is_closed() {
                return Err(SendErrorKind::Closed);
            }
            let account = place.account();
            let pressure = self.next_pressure(place, account);
            if self.how.waits == Waits::AtOnce {
                return Err(rejected(&pressure));
            }
            let strategy = &self.lanes.strategy;
            let decision = user_code::call(|| strategy.decide(&pressure))
                .map_err(|_| SendErrorKind::PolicyPanicked("backoff strategy"))?;
            match decision {
                Backoff::Spill => match self.try_spill(place)? {
                    Ok(left_out) => return Ok(Admitted::LeftOut(left_out)),
                    Err((problem, _)) => {
                        let waits_for = (place, account, need, &mut *spare);
                        return self.handle_full_spill(problem, &pressure, waits_for).await;
                    }
                },
                Backoff::Drop => {
                    self.count_dropped((place, account), pressure.scope);
                    return Ok(Admitted::LeftOut(LeftOut::Dropped));
                }
                // A task would wait for the partitioner that sends it, and that for the task.
                Backoff::Park { at_most } if self.how.waits == Waits::Task => {
                    if at_most.is_zero() || is_placing() {
                        return Err(rejected(&pressure));
                    }
                    self.wait((place, account), need, spare).await?;
                    return Ok(Admitted::Again);
                }
                Backoff::Park { at_most } if !is_own_thread() => {
                    let left = at_most.saturating_sub(pressure.elapsed);
                    if let Some(error) = timed_out.take_if(|_| left.is_zero()) {
                        return Err(error);
                    }
                    match self.park((place, account), need, spare, (left, pressure.scope)) {
                        // The time that the strategy gave is over: it is asked again.
                        Err(error @ SendErrorKind::ParkTimedOut { .. }) => timed_out = Some(error),
                        parked => return parked.map(|()| Admitted::Again),
                    }
                }
                Backoff::Fallback => {
                    let given = self.give_to_fallback(place, pressure.scope);
                    return match given {
                        Some(given) => Ok(Admitted::LeftOut(LeftOut::Given(given))),
                        None if self.shared.accumulator.is_closed() => Err(SendErrorKind::Closed),
                        None => Err(rejected(&pressure)),
                    };
                }
                // Where waiting would stop the loop that makes room.
                Backoff::Park { .. } | Backoff::Reject => return Err(rejected(&pressure)),
            }
        }
    }

    /// What the strategy is told next.
    pub(super) fn next_pressure(&mut self, place: Place<'_>, account: AccountId) -> Pressure<'a> {
        let now = self.shared.clock.now();
        let refused_at = *self.refused_at.get_or_insert(now);
        let pressure = self.pressure((account, place.partition()), now - refused_at);
        self.attempt += 1;
        pressure
    }

    /// The strategy drops what is sent, because this was full.
    pub(super) fn count_dropped(
        &self,
        (place, account): (Place<'_>, AccountId),
        full: PressureScope,
    ) {
        let records = self.records.all().len() as u64;
        place.dropped_records().add_shared(records);
        let accumulator = &self.shared.accumulator;
        if let PressureScope::Broker(_) = full {
            accumulator.pool.count_dropped(account, records);
        }
        accumulator.failures.count_dropped(full, records);
    }

    /// Reserves memory for what is sent, to be copied for the fallback.
    fn give_to_fallback(&self, place: Place<'_>, full: PressureScope) -> Option<ForFallback> {
        let Some(queue) = self.lanes.settings.fallback.clone() else {
            self.shared.warn_of_missing_fallback();
            return None;
        };
        let overhead = CopiedRecord::overhead(self.records.all().len(), self.headers);
        let reserved = queue.reserve(self.record_size.saturating_add(overhead))?;
        if self.shared.accumulator.is_closed() {
            // Nobody may wait for the fallback any more.
            return None;
        }
        self.shared.accumulator.failures.count_given_to_fallback(self.records.all().len() as u64);
        Some(ForFallback { queue, reserved, partition: place.partition(), full })
    }

    fn pressure(
        &self,
        (account, partition): (AccountId, Option<PartitionId>),
        elapsed: u64,
    ) -> Pressure<'a> {
        let accumulator = &self.shared.accumulator;
        let pool = &accumulator.pool;
        let levels = pool.levels(account);
        let mut pressure = Pressure::new(PressureScope::Pool, self.record_size);
        pressure.topic = &self.lanes.name;
        pressure.partition = partition.map(|partition| partition.0);
        (pressure.key, pressure.headers) = (self.parts.key, self.parts.headers);
        (pressure.priority, pressure.tag) = (self.how.priority, self.how.tag);
        pressure.attempt = self.attempt;
        pressure.elapsed = Duration::from_nanos(elapsed);
        let scope = match account {
            AccountId::STASH => PressureScope::Stash,
            AccountId::LEADERLESS => PressureScope::Leaderless,
            account => accumulator
                .broker_of(account)
                .map_or(PressureScope::Pool, |broker| PressureScope::Broker(broker.0)),
        };
        // A stash has no watermarks, only a share, which is full where the record does not fit.
        let is_full = match account {
            AccountId::STASH => levels.charged + self.record_size > levels.high,
            _ => !levels.writable,
        };
        if !is_full {
            // The level is fine, the pool is not.
            pressure.charged = pool.capacity() - pool.free_bytes();
            pressure.high = pool.capacity();
            pressure.low = pool.capacity();
        } else {
            pressure.scope = scope;
            pressure.charged = levels.charged;
            pressure.high = levels.high;
            pressure.low = levels.low;
        }
        pressure
    }

    /// Holds the calling thread until there is room, the producer is closed, or `at_most` is over.
    pub(super) fn park(
        &self,
        (place, account): (Place<'_>, AccountId),
        need: Option<NeedRoom>,
        spare: &mut Vec<Segment>,
        (at_most, scope): (Duration, PressureScope),
    ) -> Result<(), SendErrorKind> {
        let mut ticket = self.register(account, need)?;
        if !place.is_charged_to(account) {
            return Ok(());
        }
        let deadline = ThreadDeadline::after(Some(at_most));
        let ready = wait_until(|context| ticket.poll(context), |parker| deadline.park(parker));
        if ready.is_some() || self.shared.accumulator.is_closed() {
            return self.take_kept(place, (ticket, account), need, spare);
        }
        let now = self.shared.clock.now();
        let waited = Duration::from_nanos(now - self.refused_at.unwrap_or(now));
        Err(SendErrorKind::ParkTimedOut { waited, scope })
    }

    /// Holds the calling task until there is room or the producer is closed. A task that is dropped
    /// meanwhile leaves its place in the line to the next.
    pub(super) async fn wait(
        &self,
        (place, account): (Place<'_>, AccountId),
        need: Option<NeedRoom>,
        spare: &mut Vec<Segment>,
    ) -> Result<(), SendErrorKind> {
        let ticket = self.register(account, need)?;
        if !place.is_charged_to(account) {
            return Ok(());
        }
        let mut ticket = TaskTicket::new(ticket);
        poll_fn(|context| ticket.poll(context)).await;
        match ticket.into_inner() {
            Some(ticket) => self.take_kept(place, (ticket, account), need, spare),
            None => Err(SendErrorKind::Forked),
        }
    }

    /// Takes a place in the line for room, which threads and tasks share.
    fn register(
        &self,
        account: AccountId,
        need: Option<NeedRoom>,
    ) -> Result<WaitTicket, SendErrorKind> {
        let accumulator = &self.shared.accumulator;
        let bytes = need.map_or(0, |need| need.bytes);
        let ticket = accumulator.pool.wait(account, bytes).map_err(|error| {
            let max = match error {
                PoolError::NeverFits { max, .. } => max,
                _ => accumulator.pool.capacity(),
            };
            SendErrorKind::RecordTooLarge { size: bytes, max }
        })?;
        // Registered first, then tested: close() wakes whoever it finds.
        if accumulator.is_closed() {
            return Err(SendErrorKind::Closed);
        }
        // Loops that sleep over lingering batches must hear that memory is short.
        self.shared.ports.ring_all();
        Ok(ticket)
    }

    /// The wait is over: takes what was kept, unless the producer's close ended it, or another
    /// account is to be charged by now.
    fn take_kept(
        &self,
        place: Place<'_>,
        (mut ticket, account): (WaitTicket, AccountId),
        need: Option<NeedRoom>,
        spare: &mut Vec<Segment>,
    ) -> Result<(), SendErrorKind> {
        if self.shared.accumulator.is_closed() {
            return Err(SendErrorKind::Closed);
        }
        if let Some(need) = need.filter(|_| place.is_charged_to(account)) {
            take_room_through(&mut ticket, need, spare);
        }
        Ok(())
    }
}

/// A task's place in the line. In a fork's child it is nobody's: the pool's lock may be held there
/// for ever, by a thread of the parent's.
pub(super) struct TaskTicket {
    ticket: Option<WaitTicket>,
    born: Generation,
}

impl TaskTicket {
    pub(super) fn new(ticket: WaitTicket) -> Self {
        TaskTicket { ticket: Some(ticket), born: Generation::current() }
    }

    /// Ready as well where there is nothing to wait for.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.ticket {
            Some(ticket) if self.born.is_current() => ticket.poll(context),
            _ => Poll::Ready(()),
        }
    }

    /// The ticket, unless this is a child.
    fn into_inner(mut self) -> Option<WaitTicket> {
        if self.born.is_current() { self.ticket.take() } else { None }
    }
}

impl Drop for TaskTicket {
    fn drop(&mut self) {
        if !self.born.is_current() {
            std::mem::forget(self.ticket.take());
        }
    }
}

/// Where a record waits for room.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// In this lane, on its broker's account.
    Lane(&'a LaneTail),
    /// In the stash of this topic, for the partition that it names.
    Stash(&'a TopicLanes, Option<PartitionId>),
}

impl Place<'_> {
    pub(super) fn account(self) -> AccountId {
        match self {
            Place::Lane(lane) => lane.account(),
            Place::Stash(..) => AccountId::STASH,
        }
    }

    /// Where records that are dropped here are counted.
    fn dropped_records(&self) -> &Counter {
        match self {
            Place::Lane(lane) => &lane.meter.dropped_records,
            Place::Stash(topic, _) => &topic.dropped_at_stash,
        }
    }

    pub(super) fn partition(self) -> Option<PartitionId> {
        match self {
            Place::Lane(lane) => Some(lane.partition),
            Place::Stash(_, named) => named,
        }
    }

    /// Whether the record would be charged to this account now.
    fn is_charged_to(self, account: AccountId) -> bool {
        match self {
            Place::Lane(lane) => lane.account() == account,
            Place::Stash(topic, named) => {
                let is_unknown = |it: PartitionId| !it.is_among(topic.partitions());
                topic.state() != TopicState::Ready || named.is_some_and(is_unknown)
            }
        }
    }
}

/// The error that says where there is no room.
pub(super) fn rejected(pressure: &Pressure<'_>) -> SendErrorKind {
    let &Pressure { scope, charged: queued, high, low, .. } = pressure;
    SendErrorKind::Rejected { scope, queued, high, low }
}
