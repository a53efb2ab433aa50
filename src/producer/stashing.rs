//! The way of records into the stash of a topic whose partitions are not known yet.

use std::sync::Arc;

use super::admission::{Admission, Admitted, LeftOut, Place};
use super::producer::Shared;
use crate::engine::batch::{
    CellHandle, Cells, Destination, NeedRoom, Stash, TopicLanes, TopicState, drain_stash,
    is_placing, stashed_len, take_room,
};
use crate::engine::buffer::{AccountId, Segment};
use crate::engine::cluster::Want;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::engine::sync::WakeList;
use crate::error::SendErrorKind;
use crate::logging as log;

/// How much of a stash a sender moves out of its own way.
const STASH_BYTES_PER_SEND: usize = 64 * 1_024;

/// What is stashed in one piece: a record, or records that are sent together.
pub(super) trait Stashable {
    /// The handles of its records.
    type Handles;

    /// Bytes that it takes.
    fn stashed_len(&self) -> usize;

    /// Bytes that have to be taken before it is appended.
    fn missing(&self, stash: &Stash, now: u64) -> usize;

    /// Appends it; `spare` holds what is missing.
    fn append(
        &self,
        stash: &mut Stash,
        cells: &Cells,
        destination: &Destination,
        partition: Option<PartitionId>,
        spare: &mut Vec<Segment>,
        now: u64,
    ) -> Self::Handles;
}

/// A record: its timestamp and its parts.
impl Stashable for (i64, &RecordParts<'_>) {
    type Handles = CellHandle;

    fn stashed_len(&self) -> usize {
        stashed_len(self.1)
    }

    fn missing(&self, stash: &Stash, now: u64) -> usize {
        stash.missing(self.1, now)
    }

    fn append(
        &self,
        stash: &mut Stash,
        cells: &Cells,
        destination: &Destination,
        partition: Option<PartitionId>,
        spare: &mut Vec<Segment>,
        now: u64,
    ) -> CellHandle {
        stash.append(cells, destination, (partition, self.0, self.1), spare, now)
    }
}

/// Records that are sent together: they get a run of their own.
impl Stashable for &[(i64, RecordParts<'_>)] {
    type Handles = Vec<CellHandle>;

    fn stashed_len(&self) -> usize {
        self.iter().map(|(_, parts)| stashed_len(parts)).sum()
    }

    fn missing(&self, _stash: &Stash, _now: u64) -> usize {
        self.stashed_len()
    }

    fn append(
        &self,
        stash: &mut Stash,
        cells: &Cells,
        destination: &Destination,
        partition: Option<PartitionId>,
        spare: &mut Vec<Segment>,
        now: u64,
    ) -> Vec<CellHandle> {
        stash.append_together(cells, destination, (partition, self), spare, now)
    }
}

/// The stash of a topic that is not ready, or has not the partition that is named.
pub(super) struct Stashing<'a> {
    pub shared: &'a Shared,
    pub lanes: &'a Arc<TopicLanes>,
    pub partition: Option<PartitionId>,
}

/// What became of it.
pub(super) enum Stashed<H> {
    /// It waits in the stash.
    Handles(H),
    /// It is not sent.
    LeftOut(LeftOut),
    /// The topic is ready after all.
    Ready,
    /// There is no such partition: brokers said so just now, or it is negative.
    NoPartition(PartitionId),
}

impl Stashing<'_> {
    pub(super) async fn stash<S: Stashable>(
        &self,
        admission: &mut Admission<'_>,
        what: &S,
        spare: &mut Vec<Segment>,
    ) -> Result<Stashed<S::Handles>, SendErrorKind> {
        // No answer of a broker can make a negative number a partition: the record must not wait
        // for one.
        if let Some(negative) = self.partition.filter(|partition| partition.0 < 0) {
            return Ok(Stashed::NoPartition(negative));
        }
        if is_placing() {
            return Err(SendErrorKind::SentByPartitioner);
        }
        let accumulator = &self.shared.accumulator;
        let pool = &accumulator.pool;
        let needed = what.stashed_len();
        let need = NeedRoom::new(needed, needed);
        loop {
            if accumulator.is_closed() {
                return Err(SendErrorKind::Closed);
            }
            if self.is_spilled() {
                match admission.spill_behind(Place::Stash(self.lanes, self.partition)).await? {
                    Some(left_out) => return Ok(Stashed::LeftOut(left_out)),
                    None => continue,
                }
            }
            self.help_draining();
            if let Some(stashed) = self.try_append(what, spare) {
                return Ok(stashed);
            }
            spare.clear();
            let place = Place::Stash(self.lanes, self.partition);
            if !take_room(pool, AccountId::STASH, need, spare)
                && let Admitted::LeftOut(left_out) =
                    admission.admit(place, Some(need), spare).await?
            {
                return Ok(Stashed::LeftOut(left_out));
            }
        }
    }

    /// Whether records of this topic lie on disk, so that this one goes behind them.
    fn is_spilled(&self) -> bool {
        self.shared.spill.is_some() && self.lanes.lock_stash().is_spilled()
    }

    /// While the stash is being emptied, a sender moves some of it first.
    fn help_draining(&self) {
        if self.lanes.state() != TopicState::Draining {
            return;
        }
        let accumulator = &self.shared.accumulator;
        let context = accumulator.append_context(&self.lanes.settings, &self.shared.clock);
        let (mut spare, mut wakes) = (Vec::new(), WakeList::new());
        drain_stash(
            accumulator,
            self.lanes,
            &context,
            (STASH_BYTES_PER_SEND, &mut spare),
            &mut |lane| self.shared.ports.post(lane),
            &mut wakes,
        );
        if wakes.wake_all() > 0 {
            log::error!("the waker of a task that awaits a delivery panicked");
        }
        if wakes.take_flushers() {
            accumulator.flush.notify();
        }
    }

    /// Appends behind what is stashed. `None`: room must be taken first.
    fn try_append<S: Stashable>(
        &self,
        what: &S,
        spare: &mut Vec<Segment>,
    ) -> Option<Stashed<S::Handles>> {
        let accumulator = &self.shared.accumulator;
        let now = self.shared.clock.now();
        let mut stash = self.lanes.lock_stash();
        let ready = self.lanes.state() == TopicState::Ready;
        if ready {
            match self.partition.filter(|partition| !partition.is_among(self.lanes.partitions())) {
                None => return Some(Stashed::Ready),
                Some(partition) if stash.knows_partitions(now) => {
                    return Some(Stashed::NoPartition(partition));
                }
                Some(_) => {}
            }
        }
        let room: usize = spare.iter().map(|segment| segment.len()).sum();
        // A closed stash takes nothing; the caller sees that the producer is closed. Neither does
        // one with records on disk; the caller goes behind those.
        if stash.closed || stash.is_spilled() || what.missing(&stash, now) > room {
            return None;
        }
        let first = stash.is_empty();
        let destination = Destination { topic: self.lanes.name.clone(), partition: None };
        let cells = &accumulator.cells;
        let handles = what.append(&mut stash, cells, &destination, self.partition, spare, now);
        drop(stash);
        if first {
            let why = if ready { Want::Partition } else { Want::Record };
            self.shared.metadata.want(self.lanes.name.clone(), why);
        }
        Some(Stashed::Handles(handles))
    }
}
