//! A topic: where records are sent from.

use std::cell::Cell;
use std::sync::Arc;

use super::admission::{Admission, Admitted};
use super::delivery::Delivery;
use super::payload::Payload;
use super::producer::Shared;
use super::record::Record;
use crate::engine::batch::{CellHandle, LaneTail, Refusal, TopicLanes, TopicState, take_room};
use crate::engine::buffer::Segment;
use crate::engine::policy::{Moment, PartitionView};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::{RecordParts, single_record_batch_size};
use crate::engine::sync::SharedFailure;
use crate::error::{DeliveryError, SendError, SendErrorKind};

/// Parts shorter than this together cannot be over any permitted `max_request_size`.
pub(super) const SURELY_SMALL: usize = 1_024;

thread_local! {
    /// Where the sending thread's segments wait between the pool and the batch: kept for its
    /// memory.
    static SPARE: Cell<Vec<Segment>> = const { Cell::new(Vec::new()) };
}

/// The sending thread's [`SPARE`]. In the destructor of another thread-local it may be gone
/// already: then the record does with a vector of its own.
fn take_spare() -> Vec<Segment> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

/// A topic of one producer: cheap to clone, shared by any number of threads.
#[derive(Clone)]
pub struct Topic {
    lanes: Arc<TopicLanes>,
    shared: Arc<Shared>,
    dropped: Arc<SharedFailure<crate::engine::batch::Destination, DeliveryError>>,
}

impl Topic {
    pub(super) fn new(lanes: Arc<TopicLanes>, shared: Arc<Shared>) -> Self {
        let (destination, error) = shared.accumulator.dropped_error(&lanes.name);
        let dropped = Arc::new(shared.accumulator.cells.allocate_failed(destination, error));
        Topic { lanes, shared, dropped }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.lanes.name
    }

    /// How many partitions the topic is known to have; 0 before the first metadata.
    pub fn partitions(&self) -> i32 {
        self.lanes.partitions()
    }

    /// Sends a record: encodes it into its partition's open batch and returns its completion
    /// future. Never waits for the network or for metadata; it blocks only where the backoff
    /// strategy parks the thread for room. It works in destructors of thread-locals and in `atexit`
    /// handlers too, though nothing waits then for what was sent: flush.
    ///
    /// A partition that is named and not known may just have been added: brokers are asked, and the
    /// record waits for the answer. It fails through its delivery if there is no such partition;
    /// for a second from then on such a record is refused here. No partition can have a negative
    /// number: a record that names one is refused at once.
    ///
    /// Null, empty and non-empty are three things: `()` and `None` are null, `""` is empty.
    ///
    /// # Errors
    /// [`SendError`]: the record was not accepted and will not be written. Payloads that were
    /// passed as [`Payload::Shared`] are in the error.
    pub fn send<'k, 'v>(
        &self,
        key: impl Into<Payload<'k>>,
        value: impl Into<Payload<'v>>,
    ) -> Result<Delivery, SendError> {
        let (key, value) = (key.into(), value.into());
        let parts = RecordParts { key: key.as_option(), value: value.as_option(), headers: &[] };
        match self.send_parts(None, None, &parts) {
            Ok(delivery) => Ok(delivery),
            Err(kind) => Err(self.refuse(kind, key, value)),
        }
    }

    /// Sends a record with headers, a timestamp or a partition of its own. As [`Topic::send`].
    ///
    /// # Errors
    /// As [`Topic::send`].
    pub fn send_record(&self, record: Record<'_>) -> Result<Delivery, SendError> {
        let parts = RecordParts {
            key: record.key_payload().as_option(),
            value: record.value_payload().as_option(),
            headers: record.headers(),
        };
        let sent = match record.timestamp_ms() {
            Some(timestamp) if timestamp < 0 => Err(SendErrorKind::NegativeTimestamp { timestamp }),
            timestamp => {
                self.send_parts(record.partition_index().map(PartitionId), timestamp, &parts)
            }
        };
        match sent {
            Ok(delivery) => Ok(delivery),
            Err(kind) => {
                let (key, value) = record.into_payloads();
                Err(self.refuse(kind, key, value))
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, kind: SendErrorKind, key: Payload<'_>, value: Payload<'_>) -> SendError {
        SendError::new(self.lanes.name.clone(), kind)
            .with_returned(key.into_shared(), value.into_shared())
    }

    /// What every send does: size, time, partition, level, append. All of it is in this function as
    /// long as the topic is known, the broker takes records and the open batch has room; each of
    /// these has a slow path of its own otherwise ([`Topic::send_to_stash`],
    /// [`Topic::send_slowly`], [`Topic::send_with_room`]).
    #[inline]
    fn send_parts(
        &self,
        partition: Option<PartitionId>,
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if !self.shared.born.is_current() {
            return Err(SendErrorKind::Forked);
        }
        let len = parts.payload_len();
        if len > SURELY_SMALL || !parts.headers.is_empty() {
            self.check_size(parts)?;
        }
        // The time counts for the record's timestamp, and for where one without key goes.
        let spread = partition.is_none() && parts.key.is_none();
        let now = (spread || timestamp.is_none()).then(|| self.shared.clock.wall_ms());
        let moment = now.map(|now| Moment::new(now, self.shared.stay_ms));
        let timestamp = timestamp.or(now).unwrap_or_default();
        if self.lanes.state() != TopicState::Ready
            && let Some(delivery) = self.send_to_stash(partition, timestamp, parts)?
        {
            return Ok(delivery);
        }
        let (partition, lane) = match self.writable_sticky(spread, moment) {
            Some(found) => found,
            None => {
                let chosen = self.choose(partition, parts, moment)?;
                let known = chosen.is_among(self.lanes.partitions());
                // A partition that is named, and that has just become known: what waits for it goes
                // first, and the state told of that before the partition was there.
                if (!known || partition.is_some() && self.lanes.state() != TopicState::Ready)
                    && let Some(delivery) =
                        self.send_elsewhere(chosen, partition, timestamp, parts)?
                {
                    return Ok(delivery);
                }
                let Some(lane) = self.lanes.lane(chosen) else {
                    return Err(self.no_lane(chosen));
                };
                if !self.shared.accumulator.pool.is_writable(lane.account()) {
                    return self.send_slowly(lane, timestamp, parts);
                }
                (chosen, lane)
            }
        };
        let context = self.shared.accumulator.append_context(&self.shared.clock);
        let mut none = Vec::new();
        let appended = lane.append(&context, timestamp, parts, &mut none);
        if appended.post {
            self.shared.ports.post(lane);
        }
        match appended.result {
            Ok(handle) => Ok(self.sent(partition, len, handle)),
            Err(Refusal::NeedRoom(_)) => self.send_with_room(lane, timestamp, parts),
            Err(Refusal::Closed) => Err(SendErrorKind::Closed),
        }
    }

    /// The record is in its batch: tells the partitioner, and makes the cell's handle a delivery.
    #[inline]
    fn sent(&self, partition: PartitionId, len: usize, handle: CellHandle) -> Delivery {
        let batch_size = self.shared.accumulator.config.batch_size;
        self.lanes.partitioner.on_appended(&self.lanes.name, partition, len, batch_size);
        Delivery::new(handle)
    }

    /// The usual case of a record that has neither partition nor key: it goes where the thread's
    /// last one went. One look at the lane tells both whether it may and whether there is room.
    #[inline]
    fn writable_sticky(
        &self,
        spread: bool,
        moment: Option<Moment>,
    ) -> Option<(PartitionId, &Arc<LaneTail>)> {
        if !spread {
            return None;
        }
        let partition = self.lanes.partitioner.sticky(moment?)?;
        let lane = self.lanes.lane(partition)?;
        let pool = &self.shared.accumulator.pool;
        (lane.has_leader() && pool.is_writable(lane.account())).then_some((partition, lane))
    }

    #[inline]
    fn choose(
        &self,
        asked: Option<PartitionId>,
        parts: &RecordParts<'_>,
        moment: Option<Moment>,
    ) -> Result<PartitionId, SendErrorKind> {
        if let Some(partition) = asked {
            return Ok(partition);
        }
        let (name, chooser) = (&self.lanes.name, &self.lanes.partitioner);
        chooser
            .partition(name, parts.key, parts.value, (&*self.lanes, moment))
            .map_err(|_| SendErrorKind::PolicyPanicked("partitioner"))
    }

    /// The partition is not known, or others wait for it. `None`: it is known, and none waits.
    #[cold]
    #[inline(never)]
    fn send_elsewhere(
        &self,
        chosen: PartitionId,
        asked: Option<PartitionId>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Option<Delivery>, SendErrorKind> {
        // A partitioner was told how many partitions there are: what it chose besides them is its
        // own mistake, and no broker is asked.
        if asked.is_none() {
            return Err(self.out_of_range(chosen, true));
        }
        self.send_to_stash(asked, timestamp, parts)
    }

    #[cold]
    fn no_lane(&self, partition: PartitionId) -> SendErrorKind {
        let lanes_max = self.shared.accumulator.config.lanes_max;
        SendErrorKind::TooManyLanes { partition: partition.0, lanes_max }
    }

    #[cold]
    fn out_of_range(&self, partition: PartitionId, by_partitioner: bool) -> SendErrorKind {
        let (partition, partitions) = (partition.0, self.lanes.partitions());
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

    /// The batch needs a segment: takes it, or asks the strategy if there is none.
    #[cold]
    #[inline(never)]
    fn send_with_room(
        &self,
        lane: &Arc<LaneTail>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        self.send_from(Admission::new(&self.shared, parts), lane, timestamp, parts)
    }

    /// The broker's level is above its high watermark: asks the strategy first.
    #[cold]
    #[inline(never)]
    fn send_slowly(
        &self,
        lane: &Arc<LaneTail>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        if self.shared.accumulator.is_closed() {
            return Err(SendErrorKind::Closed);
        }
        let mut admission = Admission::new(&self.shared, parts);
        let mut spare = take_spare();
        let admitted = admission.admit(lane.account(), None, &mut spare);
        keep(spare);
        match admitted? {
            Admitted::Dropped => Ok(self.drop_record(timestamp)),
            Admitted::Again => self.send_from(admission, lane, timestamp, parts),
        }
    }

    fn send_from(
        &self,
        mut admission: Admission<'_>,
        lane: &Arc<LaneTail>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        let mut spare = take_spare();
        let result = self.append_with(&mut admission, lane, timestamp, parts, &mut spare);
        keep(spare);
        result
    }

    fn append_with(
        &self,
        admission: &mut Admission<'_>,
        lane: &Arc<LaneTail>,
        timestamp: i64,
        parts: &RecordParts<'_>,
        spare: &mut Vec<Segment>,
    ) -> Result<Delivery, SendErrorKind> {
        let shared = &self.shared;
        let pool = &shared.accumulator.pool;
        let context = shared.accumulator.append_context(&shared.clock);
        loop {
            let appended = lane.append(&context, timestamp, parts, spare);
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
            spare.clear();
            let account = lane.account();
            if take_room(pool, account, need, spare) {
                if pool.under_pressure(account) {
                    shared.ports.ring(lane.owner());
                }
                continue;
            }
            if let Admitted::Dropped = admission.admit(account, Some(need), spare)? {
                return Ok(self.drop_record(timestamp));
            }
        }
    }

    fn drop_record(&self, timestamp: i64) -> Delivery {
        self.shared.accumulator.failures.count_dropped();
        Delivery::new(self.dropped.issue(timestamp))
    }

    /// The topic's partitions are not known yet, or not the one that the record names, or the stash
    /// is being emptied. `None`: it is empty now, and the record goes to its lane.
    #[cold]
    #[inline(never)]
    fn send_to_stash(
        &self,
        partition: Option<PartitionId>,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<Option<Delivery>, SendErrorKind> {
        // No answer of a broker can make a negative number a partition: the record must not wait
        // for one.
        if let Some(negative) = partition.filter(|partition| partition.0 < 0) {
            return Err(self.out_of_range(negative, false));
        }
        let mut admission = Admission::new(&self.shared, parts);
        let mut spare = take_spare();
        let stashing = super::admission::Stashing {
            shared: &self.shared,
            lanes: &self.lanes,
            partition,
            timestamp,
        };
        let result = stashing.stash(&mut admission, parts, &mut spare);
        keep(spare);
        match result? {
            super::admission::Stashed::Handle(handle) => Ok(Some(Delivery::new(handle))),
            super::admission::Stashed::Dropped => Ok(Some(self.drop_record(timestamp))),
            super::admission::Stashed::Ready => Ok(None),
            super::admission::Stashed::NoPartition(partition) => {
                Err(self.out_of_range(partition, false))
            }
        }
    }

    /// Whether records without a key would be sent to this partition now: it has a leader, and its
    /// broker's level is below the watermark. A partition that does not exist is not available.
    pub fn is_available(&self, partition: i32) -> bool {
        self.lanes.is_available(partition)
    }
}

/// Returns what was not used to the pool and keeps the vector's memory for the next time.
fn keep(mut spare: Vec<Segment>) {
    spare.clear();
    // Gone with its thread: see `take_spare`.
    let _ = SPARE.try_with(|kept| kept.set(spare));
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name())
            .field("partitions", &self.partitions())
            .finish_non_exhaustive()
    }
}
