//! A topic: where records are sent from.

use std::sync::Arc;

use super::admission::How;
use super::delivery::Delivery;
use super::flush::Flush;
use super::payload::Payload;
use super::producer::Shared;
use super::record::Record;
use super::sending::Sender;
use crate::engine::batch::TopicLanes;
use crate::engine::buffer::AccountId;
use crate::engine::policy::PartitionView;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::engine::sync::SharedFailure;
use crate::error::{DeliveryError, SendError, SendErrorKind};

/// A topic of one producer: cheap to clone, shared by any number of threads.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let orders = producer.topic("orders")?;
/// std::thread::scope(|scope| {
///     for customer in ["customer-42", "customer-43"] {
///         let orders = &orders; // or a clone of it, which is cheap
///         scope.spawn(move || orders.send(customer, "paid").map(|delivery| delivery.wait()));
///     }
/// });
/// assert_eq!((orders.partitions(), cluster.high_watermark("orders", 0)), (1, 2));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Topic {
    pub(super) lanes: Arc<TopicLanes>,
    pub(super) shared: Arc<Shared>,
    /// Records pass the application's interceptors first.
    pub(super) is_intercepted: bool,
    /// Nothing of how it was made rules out [`Topic::send_fast`].
    pub(super) has_fast_path: bool,
    pub(super) dropped: Arc<SharedFailure<crate::engine::batch::Destination, DeliveryError>>,
}

impl Topic {
    pub(super) fn new(lanes: Arc<TopicLanes>, shared: Arc<Shared>) -> Self {
        let (destination, error) = shared.accumulator.dropped_error(&lanes.name);
        let dropped = Arc::new(shared.accumulator.cells.allocate_failed(destination, error));
        let is_intercepted = !shared.interceptors.0.is_empty();
        let has_fast_path =
            !is_intercepted && !shared.watches_stalls && !lanes.partitioner.is_own();
        Topic { lanes, shared, is_intercepted, has_fast_path, dropped }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.lanes.name
    }

    /// How many partitions the topic is known to have; 0 before the first metadata. It is known
    /// once a record has been acknowledged, and [`Event::TopicFound`](crate::Event::TopicFound)
    /// tells it.
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
    #[inline(always)]
    pub fn send<'k, 'v>(
        &self,
        key: impl Into<Payload<'k>>,
        value: impl Into<Payload<'v>>,
    ) -> Result<Delivery, SendError> {
        self.send_pair(How::THREAD, key.into(), value.into())
    }

    /// Sends a record with headers, a timestamp or a partition of its own. As [`Topic::send`].
    ///
    /// # Errors
    /// As [`Topic::send`].
    #[inline]
    pub fn send_record(&self, record: Record<'_>) -> Result<Delivery, SendError> {
        self.send_whole(How::THREAD, record)
    }

    /// As [`Topic::send`], and never waits: where there is no room, the record is refused at once,
    /// and the backoff strategy is not asked.
    ///
    /// # Errors
    /// As [`Topic::send`]; [`SendErrorKind::Rejected`] says where there is no room.
    #[inline(always)]
    pub fn try_send<'k, 'v>(
        &self,
        key: impl Into<Payload<'k>>,
        value: impl Into<Payload<'v>>,
    ) -> Result<Delivery, SendError> {
        self.send_pair(How::AT_ONCE, key.into(), value.into())
    }

    /// [`Topic::try_send`] for a whole record.
    ///
    /// # Errors
    /// As [`Topic::try_send`].
    #[inline]
    pub fn try_send_record(&self, record: Record<'_>) -> Result<Delivery, SendError> {
        self.send_whole(How::AT_ONCE, record)
    }

    /// As [`Topic::send`], for async code: where the backoff strategy would park the thread, the
    /// task waits instead, and the thread goes on with others.
    ///
    /// Threads that are parked and tasks that wait are in one line, first in, first out; those that
    /// wait for one broker hold up nobody who waits for another. A task waits without limit, unless
    /// the strategy parks for no time at all: a timeout of the runtime's ends the wait.
    ///
    /// A future that is dropped before it is ready has sent nothing, and leaves its place to the
    /// next; one that is never polled sends nothing. One that was polled must be polled on, or
    /// dropped: the room that it is given is kept for it, and others wait meanwhile. So do not hold
    /// many that nobody polls, and do not call [`Topic::send`], which may park the thread, on an
    /// executor's only thread beside them. Where the order of records matters, await one before
    /// polling the next: two that wait at once may be sent in either order. In code that tidegate
    /// calls (partitioners, strategies, wakers) do not block on it.
    ///
    /// ```no_run
    /// # async fn send(topic: &tidegate::Topic) -> Result<(), Box<dyn std::error::Error>> {
    /// let delivery = topic.send_async("customer-42", "paid").await?; // there is room for it
    /// let metadata = delivery.await?; // it is acknowledged
    /// # drop(metadata);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Topic::send`]; [`SendErrorKind::Closed`] also if the producer is closed meanwhile.
    pub async fn send_async<'k, 'v>(
        &self,
        key: impl Into<Payload<'k>>,
        value: impl Into<Payload<'v>>,
    ) -> Result<Delivery, SendError> {
        let (key, value) = (key.into(), value.into());
        let parts = RecordParts { key: key.as_option(), value: value.as_option(), headers: &[] };
        match self.send_parts_async(How::TASK, None, None, &parts).await {
            Ok(delivery) => Ok(delivery),
            Err(kind) => Err(self.refuse(kind, key, value)),
        }
    }

    /// [`Topic::send_async`] for a whole record.
    ///
    /// # Errors
    /// As [`Topic::send_async`].
    pub async fn send_record_async(&self, record: Record<'_>) -> Result<Delivery, SendError> {
        let sent = match destination(&record) {
            Err(kind) => Err(kind),
            Ok((partition, timestamp)) => {
                let how = How::TASK.of(&record);
                self.send_parts_async(how, partition, timestamp, &parts(&record)).await
            }
        };
        self.accepted_or_refused(sent, record)
    }

    #[inline(always)]
    fn send_pair(
        &self,
        how: How,
        key: Payload<'_>,
        value: Payload<'_>,
    ) -> Result<Delivery, SendError> {
        let parts = RecordParts { key: key.as_option(), value: value.as_option(), headers: &[] };
        if let Some(delivery) = self.send_usual((None, None), None, &parts) {
            return Ok(delivery);
        }
        apart(|refused| self.send_pair_whole_way(how, key, value, refused))
    }

    #[inline(never)]
    fn send_pair_whole_way(
        &self,
        how: How,
        key: Payload<'_>,
        value: Payload<'_>,
        refused: &mut Option<SendError>,
    ) -> Option<Delivery> {
        let parts = RecordParts { key: key.as_option(), value: value.as_option(), headers: &[] };
        let sent = self.send_whole_way(Sender::Waits(how), (None, None), None, &parts);
        sent.map_err(|kind| *refused = Some(self.refuse(kind, key, value))).ok()
    }

    #[inline(always)]
    fn send_whole(&self, how: How, record: Record<'_>) -> Result<Delivery, SendError> {
        if let Ok((partition, timestamp)) = destination(&record)
            && let Some(delivery) = self.send_usual((partition, None), timestamp, &parts(&record))
        {
            return Ok(delivery);
        }
        apart(|refused| self.send_record_whole_way(how, record, refused))
    }

    #[inline(never)]
    fn send_record_whole_way(
        &self,
        how: How,
        record: Record<'_>,
        refused: &mut Option<SendError>,
    ) -> Option<Delivery> {
        let sent = destination(&record).and_then(|(partition, timestamp)| {
            let sender = Sender::Waits(how.of(&record));
            self.send_whole_way(sender, (partition, None), timestamp, &parts(&record))
        });
        self.accepted_or_refused(sent, record).map_err(|error| *refused = Some(error)).ok()
    }

    #[inline]
    fn accepted_or_refused(
        &self,
        sent: Result<Delivery, SendErrorKind>,
        record: Record<'_>,
    ) -> Result<Delivery, SendError> {
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
    pub(super) fn refuse(
        &self,
        kind: SendErrorKind,
        key: Payload<'_>,
        value: Payload<'_>,
    ) -> SendError {
        SendError::new(self.lanes.name.clone(), kind)
            .with_returned(key.into_shared(), value.into_shared())
    }

    /// Whether a record is taken now without asking the backoff strategy: some partition has a
    /// leader that takes records; or, while the partitions are not known, there is room in the
    /// stash.
    pub fn is_writable(&self) -> bool {
        let pool = &self.shared.accumulator.pool;
        match self.partitions() {
            0 => pool.is_writable(AccountId::STASH),
            count => (0..count).any(|partition| self.is_available(partition)),
        }
    }

    /// Resolves when every record of this topic that was sent before this call has resolved. Its
    /// open batches are sealed at once, whatever their linger; those of other topics are not. It
    /// does not wait for callbacks, as [`Producer::flush`](crate::Producer::flush) does.
    pub fn flush(&self) -> Flush {
        Flush::begin(&self.shared, Some(&self.lanes))
    }

    /// Where the default partitioner puts this key; `None` where it is not the topic's partitioner.
    pub(super) fn partition_of_key(&self, key: &[u8]) -> Option<PartitionId> {
        let chooser = &self.lanes.partitioner;
        if chooser.is_own() || self.partitions() == 0 {
            return None;
        }
        let parts = RecordParts { key: Some(key), value: None, headers: &[] };
        chooser.partition(self.name(), &parts, &*self.lanes, None, || None).ok()
    }

    /// Whether records without a key would be sent to this partition now: it has a leader, that
    /// broker's level is below the watermark, and it takes batches
    /// ([`ProducerConfig::partitioner_availability_timeout`]). A partition that does not exist is
    /// not available.
    ///
    /// [`ProducerConfig::partitioner_availability_timeout`]:
    ///     crate::ProducerConfig::partitioner_availability_timeout
    pub fn is_available(&self, partition: i32) -> bool {
        self.lanes.is_available(partition)
    }
}

/// The result of a rare way, which is a function of its own that tells its error apart from its
/// delivery. Were the whole result written by such a call, the compiler would keep it in memory for
/// the usual way too: a delivery would be stored there and loaded again at once, which takes as
/// long as a quarter of an append.
#[inline(always)]
fn apart(
    rare: impl FnOnce(&mut Option<SendError>) -> Option<Delivery>,
) -> Result<Delivery, SendError> {
    let mut refused = None;
    match rare(&mut refused) {
        Some(delivery) => Ok(delivery),
        None => Err(refused.expect("what is not sent is refused")),
    }
}

/// The partition and the timestamp that a record names.
#[inline]
pub(super) fn destination(
    record: &Record<'_>,
) -> Result<(Option<PartitionId>, Option<i64>), SendErrorKind> {
    destination_of(record.partition_index(), record.timestamp_ms())
}

/// The same of a partition's number and a timestamp in milliseconds.
#[inline]
pub(super) fn destination_of(
    partition: Option<i32>,
    timestamp: Option<i64>,
) -> Result<(Option<PartitionId>, Option<i64>), SendErrorKind> {
    match timestamp {
        Some(timestamp) if timestamp < 0 => Err(SendErrorKind::NegativeTimestamp { timestamp }),
        _ => Ok((partition.map(PartitionId), timestamp)),
    }
}

#[inline]
pub(super) fn parts<'r>(record: &'r Record<'_>) -> RecordParts<'r> {
    RecordParts {
        key: record.key_payload().as_option(),
        value: record.value_payload().as_option(),
        headers: record.headers(),
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name())
            .field("partitions", &self.partitions())
            .finish_non_exhaustive()
    }
}
