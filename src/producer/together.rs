//! Records that are sent together: one batch, one outcome.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::admission::{Admission, Admitted, How, Place, at_once};
use super::delivery::{Delivery, RecordMetadata};
use super::record::Record;
use super::stashing::{Stashable, Stashed, Stashing};
use super::topic::{Topic, destination, parts};
use crate::engine::batch::{CellHandle, LaneTail, Refusal, TopicState, take_room, together_size};
use crate::engine::buffer::Segment;
use crate::engine::policy::Moment;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::error::{DeliveryError, SendError, SendErrorKind};

/// What becomes of records that were sent together: [`Topic::send_all`]. It resolves once for all
/// of them, to where the first one is, whose offset the others follow one by one, or to an error.
///
/// As a [`Delivery`] it is a future for any runtime, and dropping it cancels nothing.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// use tidegate::Record;
///
/// let lines = ["2 pairs of shoes", "1 hat", "a discount"];
/// let records = lines.map(|line| Record::new().key("order-17").value(line));
/// let delivery = producer.topic("orders")?.send_all(records)?;
/// assert_eq!(delivery.records(), 3);
/// let first = delivery.wait()?;
/// assert_eq!(cluster.high_watermark("orders", first.partition()), 3);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the records' error is lost if nobody looks at their delivery"]
pub struct BatchDelivery {
    first: Delivery,
    /// For counting, once somebody takes the error, that he did so for all records.
    all: CellHandle,
    records: u32,
}

impl BatchDelivery {
    /// How many records there are.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Blocks the calling thread until the outcome is known: as [`Delivery::wait`].
    ///
    /// # Errors
    /// What happened to all of the records; else as [`Delivery::wait`].
    ///
    /// # Panics
    /// If the outcome was taken before, by polling.
    pub fn wait(self) -> Result<RecordMetadata, DeliveryError> {
        let outcome = self.first.wait();
        count_read(&self.all, self.records, &outcome);
        outcome
    }

    /// Blocks for at most `timeout`: as [`Delivery::wait_timeout`].
    ///
    /// # Panics
    /// If the outcome was taken before.
    pub fn wait_timeout(
        &mut self,
        timeout: Duration,
    ) -> Option<Result<RecordMetadata, DeliveryError>> {
        let outcome = self.first.wait_timeout(timeout)?;
        count_read(&self.all, self.records, &outcome);
        Some(outcome)
    }
}

/// The first record's delivery has counted that its own error was taken.
fn count_read(all: &CellHandle, records: u32, outcome: &Result<RecordMetadata, DeliveryError>) {
    let is_resolved = all.try_outcome().is_some();
    if outcome.is_err() && is_resolved {
        all.count_reads(records - 1);
    }
}

impl Future for BatchDelivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.first).poll(context);
        if let Poll::Ready(outcome) = &outcome {
            count_read(&this.all, this.records, outcome);
        }
        outcome
    }
}

impl fmt::Debug for BatchDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchDelivery")
            .field("records", &self.records)
            .field("first", &self.first)
            .finish()
    }
}

/// The records of one call, as they are encoded.
struct Together<'a> {
    partition: Option<PartitionId>,
    records: Vec<(i64, RecordParts<'a>)>,
    /// Bytes of the batch that they make.
    total: usize,
}

impl Topic {
    /// Sends records as a batch of their own: they stay together and have one outcome. Either all
    /// of them are in the log, one behind the other, or none is certain to be. A batch that a
    /// broker refuses for one of its records, or for its size, fails as a whole.
    ///
    /// All go to one partition: the one that the records name, or that the first one's key or the
    /// partitioner gives. They leave at once, without lingering, behind what was sent to it before.
    /// As with [`Topic::send`] nothing waits for the network, and the backoff strategy decides
    /// where there is no room; it is told of the first record, with the size of all.
    ///
    /// ```no_run
    /// # fn example(orders: tidegate::Topic) -> Result<(), Box<dyn std::error::Error>> {
    /// use tidegate::Record;
    ///
    /// let lines = ["2 pairs of shoes", "1 hat", "a discount"];
    /// let records = lines.map(|line| Record::new().key("order-17").value(line));
    /// let at = orders.send_all(records)?.wait()?;
    /// println!("all three, the first at {at}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Topic::send`], for all of them; [`SendErrorKind::NotTogether`] if they name different
    /// partitions, or if there are none; [`SendErrorKind::RecordTooLarge`] if they are too many for
    /// `max_request_size`. While the topic is not known they also have to fit its stash, a quarter
    /// of `buffer_memory` in which each record takes 32 bytes more than its own. Interceptors see
    /// each of them; one that changes the partition has to change it for all. The error does not
    /// hand payloads back: keep the records for another attempt.
    pub fn send_all<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<BatchDelivery, SendError> {
        at_once(self.send_together(How::THREAD, records))
    }

    /// As [`Topic::send_all`], and never waits: without room the records are refused, and the
    /// backoff strategy is not asked.
    ///
    /// # Errors
    /// As [`Topic::send_all`].
    pub fn try_send_all<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<BatchDelivery, SendError> {
        at_once(self.send_together(How::AT_ONCE, records))
    }

    /// As [`Topic::send_all`], for async code: where the strategy would park the thread, the task
    /// waits instead, as in [`Topic::send_async`].
    ///
    /// # Errors
    /// As [`Topic::send_all`].
    pub async fn send_all_async<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<BatchDelivery, SendError> {
        self.send_together(How::TASK, records).await
    }

    async fn send_together<'r>(
        &self,
        how: How,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<BatchDelivery, SendError> {
        let records: Vec<Record<'r>> = records.into_iter().collect();
        let sent = self.send_intercepted_together(how, &records).await;
        let refuse = |kind| SendError::new(self.lanes.name.clone(), kind);
        let handles = sent.map_err(refuse)?;
        let records = handles.len() as u32;
        let first = handles.into_iter().next().expect("together() refuses an empty batch");
        let all = first.again();
        Ok(BatchDelivery { first: Delivery::new(first), all, records })
    }

    /// Sends what is left of the records once interceptors have seen them.
    async fn send_intercepted_together(
        &self,
        how: How,
        records: &[Record<'_>],
    ) -> Result<Vec<CellHandle>, SendErrorKind> {
        let how = records.first().map_or(how, |record| how.of(record));
        // All of them, before an interceptor sees the first: what it returns must be called.
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            let (partition, timestamp) = destination(record)?;
            all.push((partition, timestamp, parts(record)));
        }
        if !self.is_intercepted {
            return self.send_plain_together(how, &all).await;
        }
        let see = |(partition, timestamp, parts): &_| self.intercept(*partition, *timestamp, parts);
        let seen: Vec<_> = all.iter().map(see).collect();
        let headers: Vec<_> = seen.iter().map(|seen| seen.record.encoded_headers()).collect();
        let all = seen.iter().zip(&headers).map(|(seen, headers)| {
            let (partition, timestamp) = super::intercepted::checked(&seen.record)?;
            Ok((partition, timestamp, seen.record.parts(headers)))
        });
        let sent = match all.collect::<Result<Vec<_>, SendErrorKind>>() {
            Ok(all) => self.send_plain_together(how, &all).await,
            Err(kind) => Err(kind),
        };
        let watchers = seen.into_iter().map(|seen| seen.watchers);
        match &sent {
            Ok(handles) => {
                for (handle, watchers) in handles.iter().zip(watchers) {
                    let delivery = Delivery::new(handle.again());
                    super::intercepted::watch(&self.shared.callbacks, watchers, Ok(&delivery));
                }
            }
            Err(kind) => watchers.for_each(|watchers| {
                super::intercepted::watch(&self.shared.callbacks, watchers, Err(kind));
            }),
        }
        sent
    }

    async fn send_plain_together(
        &self,
        how: How,
        all: &[(Option<PartitionId>, Option<i64>, RecordParts<'_>)],
    ) -> Result<Vec<CellHandle>, SendErrorKind> {
        if !self.shared.born.is_current() {
            return Err(SendErrorKind::Forked);
        }
        let together = self.together(all)?;
        let Some((_, first)) = together.records.first() else {
            return Err(SendErrorKind::NotTogether { partition: None, other: None });
        };
        let lanes = (&*self.shared, &self.lanes);
        let mut admission = Admission::together(lanes, how, first, &together.records);
        let mut spare = Vec::new();
        loop {
            if self.shared.accumulator.is_closed() {
                return Err(SendErrorKind::Closed);
            }
            let named = together.partition;
            let is_known = named.is_none_or(|it| it.is_among(self.lanes.partitions()));
            if self.lanes.state() != TopicState::Ready || !is_known {
                if let Some(handles) =
                    self.stash_together(&mut admission, &together, &mut spare).await?
                {
                    return Ok(handles);
                }
                // It is empty by now: the records go to their lane.
                continue;
            }
            let clock = self.shared.clock;
            let moment = Some(Moment::new(clock.wall_ms(), self.lanes.stay_ms));
            let chosen = self.choose(named, first, moment)?;
            if !chosen.is_among(self.lanes.partitions()) {
                return Err(self.out_of_range(chosen, named.is_none()));
            }
            let Some(lane) = self.lanes.lane(chosen) else { return Err(self.no_lane(chosen)) };
            return self.append_together(&mut admission, lane, &together, &mut spare).await;
        }
    }

    /// Checks that they can be one batch.
    fn together<'a>(
        &self,
        all: &[(Option<PartitionId>, Option<i64>, RecordParts<'a>)],
    ) -> Result<Together<'a>, SendErrorKind> {
        let now = self.shared.clock.wall_ms();
        let partition = all.iter().find_map(|(partition, ..)| *partition);
        for (other, ..) in all {
            if let Some(other) = other.filter(|other| Some(*other) != partition) {
                let partition = partition.map(|partition| partition.0);
                return Err(SendErrorKind::NotTogether { partition, other: Some(other.0) });
            }
        }
        let records: Vec<_> =
            all.iter().map(|&(_, timestamp, parts)| (timestamp.unwrap_or(now), parts)).collect();
        let max = self.shared.max_request_size;
        let total = if records.is_empty() { Some(0) } else { together_size(&records) };
        match total {
            Some(total) if total <= max => Ok(Together { partition, records, total }),
            total => Err(SendErrorKind::RecordTooLarge { size: total.unwrap_or(usize::MAX), max }),
        }
    }

    async fn append_together(
        &self,
        admission: &mut Admission<'_>,
        lane: &Arc<LaneTail>,
        together: &Together<'_>,
        spare: &mut Vec<Segment>,
    ) -> Result<Vec<CellHandle>, SendErrorKind> {
        admission.set_size(together.total);
        let pool = &self.shared.accumulator.pool;
        while !pool.is_writable(lane.account()) {
            let place = Place::Lane(lane);
            if let Admitted::LeftOut(left_out) = admission.admit(place, None, spare).await? {
                return Ok(self.leave_out_all(left_out, &together.records));
            }
        }
        loop {
            let settings = &*self.lanes.settings;
            let (result, post) = {
                let clock = &self.shared.clock;
                let context = self.shared.accumulator.append_context(settings, clock);
                lane.append_together(&context, (&together.records, together.total), spare)
            };
            if post {
                self.shared.ports.post(lane);
            }
            let need = match result {
                Ok(handles) => {
                    let payloads = together.records.iter().map(|(_, parts)| parts.payload_len());
                    self.tell_appended(lane.partition, payloads.sum());
                    return Ok(handles);
                }
                Err(Refusal::Closed) => return Err(SendErrorKind::Closed),
                Err(Refusal::NeedRoom(need)) => need,
            };
            spare.clear();
            let account = lane.account();
            if take_room(pool, account, need, spare) {
                if pool.under_pressure(account) {
                    self.shared.ports.ring(lane.owner());
                }
                continue;
            }
            let place = Place::Lane(lane);
            if let Admitted::LeftOut(left_out) = admission.admit(place, Some(need), spare).await? {
                return Ok(self.leave_out_all(left_out, &together.records));
            }
        }
    }

    /// They wait for their topic, or for their partition, to be known. `None`: it is.
    async fn stash_together(
        &self,
        admission: &mut Admission<'_>,
        together: &Together<'_>,
        spare: &mut Vec<Segment>,
    ) -> Result<Option<Vec<CellHandle>>, SendErrorKind> {
        let records = &together.records[..];
        admission.set_size(records.stashed_len());
        let partition = together.partition;
        let stashing = Stashing { shared: &self.shared, lanes: &self.lanes, partition };
        let stashed = stashing.stash(admission, &records, spare).await?;
        // Segments of the stash's account are of no use in a lane.
        spare.clear();
        match stashed {
            Stashed::Handles(handles) => Ok(Some(handles)),
            Stashed::LeftOut(left_out) => Ok(Some(self.leave_out_all(left_out, records))),
            Stashed::Ready => Ok(None),
            Stashed::NoPartition(partition) => Err(self.out_of_range(partition, false)),
        }
    }
}
