//! The completion future of one record.

use std::fmt;
use std::future::Future;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::producer::Shared;
use crate::engine::batch::{CellHandle, Failures};
use crate::engine::sync::{Outcome, wait_until};
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};
use crate::io::{ThreadDeadline, is_own_thread};

/// What becomes of one record: resolves exactly once, to where it was written or to an error.
///
/// A future for any runtime; threads use [`Delivery::wait`]. Dropping it does not cancel the
/// record: if it fails then, a warning in the application's log says so, and
/// [`Producer::failed_records`](super::Producer::failed_records) counts it. Keeping it costs 24
/// bytes and, for each batch, one completion cell of 128 bytes; it holds no buffer memory. Its
/// waker is called on an event loop, which waits until it returns: those of the usual runtimes only
/// queue the task.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let orders = producer.topic("orders")?;
/// let first = orders.send("customer-42", "2 pairs of shoes")?;
/// let second = orders.send("customer-42", "1 hat")?;
/// assert_eq!(first.wait()?.offset(), Some(0)); // holds the thread
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// assert_eq!(second.await?.offset(), Some(1)); // holds the task, in async code
/// # Ok::<(), tidegate::DeliveryError>(())
/// # })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropped, a record's error reaches only the log and `Producer::failed_records`"]
pub struct Delivery {
    /// `None` once the outcome was given out.
    handle: Option<CellHandle>,
}

/// Where a record was written.
///
/// Displays as `topic-partition@offset`.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use tidegate::Record;
/// let record = Record::new().value("paid").timestamp(1_700_000_000_000);
/// let at = producer.topic("orders")?.send_record(record)?.wait()?;
/// assert_eq!((at.topic(), at.partition(), at.offset()), ("orders", 0, Some(0)));
/// assert_eq!(at.timestamp(), 1_700_000_000_000);
/// assert_eq!(at.to_string(), "orders-0@0");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RecordMetadata {
    handle: CellHandle,
}

impl Delivery {
    pub(super) fn new(handle: CellHandle) -> Self {
        Delivery { handle: Some(handle) }
    }

    /// Another one for the same record, whose outcome is taken with [`Delivery::watched`] only: the
    /// first one decides whether anybody took its error.
    pub(super) fn watcher(&self) -> Delivery {
        Delivery::new(self.handle().again())
    }

    /// The outcome of a record that somebody else has the delivery of.
    pub(super) fn watched(mut self) -> Option<Result<RecordMetadata, DeliveryError>> {
        let error = match self.handle().try_outcome()? {
            Outcome::Acked { .. } => None,
            Outcome::Failed(error) => Some(error.clone()),
        };
        let handle = self.handle.take()?;
        Some(error.map_or_else(|| Ok(RecordMetadata { handle }), Err))
    }

    /// Blocks the calling thread until the outcome is known, at the latest about
    /// `delivery_timeout` after `send` returned.
    ///
    /// # Errors
    /// [`DeliveryErrorCause::WaitedOnOwnThread`] on a thread of the producer itself (in a waker),
    /// where it would wait for ever, [`DeliveryErrorCause::Forked`] in a fork's child, or else what
    /// happened to the record.
    ///
    /// # Panics
    /// If the outcome was taken before, by polling, `try_take` or `wait_timeout`.
    #[inline(always)]
    pub fn wait(mut self) -> Result<RecordMetadata, DeliveryError> {
        match self.take_acked() {
            Some(metadata) => Ok(metadata),
            None => self.wait_for_it(),
        }
    }

    /// The rest of [`Delivery::wait`]: the record failed, its batch was split, or nothing is known.
    #[inline(never)]
    fn wait_for_it(mut self) -> Result<RecordMetadata, DeliveryError> {
        let deadline = ThreadDeadline::after(is_own_thread().then_some(Duration::ZERO));
        let outcome =
            wait_until(|context| self.poll_outcome(context), |parker| deadline.park(parker));
        outcome.unwrap_or_else(|| {
            // Only a wait that is refused has a deadline.
            Err(self.unheard(DeliveryErrorCause::WaitedOnOwnThread))
        })
    }

    /// Blocks for at most `timeout`; `None` if the outcome is not known by then. The delivery can
    /// be waited for again. It returns at once on a thread of the producer itself, as in a waker,
    /// where [`Delivery::wait`] is refused; in a fork's child with the same error as that.
    ///
    /// # Panics
    /// If the outcome was taken before.
    pub fn wait_timeout(
        &mut self,
        timeout: Duration,
    ) -> Option<Result<RecordMetadata, DeliveryError>> {
        let timeout = if is_own_thread() { Duration::ZERO } else { timeout };
        let deadline = ThreadDeadline::after(Some(timeout));
        wait_until(|context| self.poll_outcome(context), |parker| deadline.park(parker))
    }

    /// The outcome, if it is known.
    ///
    /// # Panics
    /// If the outcome was taken before.
    #[inline(always)]
    pub fn try_take(&mut self) -> Option<Result<RecordMetadata, DeliveryError>> {
        match self.take_acked() {
            Some(metadata) => Some(Ok(metadata)),
            None => self.take_if_known(),
        }
    }

    /// The rest of [`Delivery::try_take`]: as there.
    #[inline(never)]
    fn take_if_known(&mut self) -> Option<Result<RecordMetadata, DeliveryError>> {
        self.take_known().or_else(|| {
            let error = self.never_resolved()?;
            Some(self.give(Some(error)))
        })
    }

    /// Where the record was written, if its batch was acknowledged whole: what becomes of nearly
    /// all. It is compiled into the caller, so that what it returns stays in registers.
    #[inline(always)]
    fn take_acked(&mut self) -> Option<RecordMetadata> {
        if !self.handle.as_ref()?.is_acked_whole() {
            return None;
        }
        let mut handle = self.handle.take()?;
        // The metadata may be kept for long, and nobody waits for it any more.
        handle.forget_waiter();
        Some(RecordMetadata { handle })
    }

    /// The outcome, if the record is resolved.
    fn take_known(&mut self) -> Option<Result<RecordMetadata, DeliveryError>> {
        let error = match self.handle().try_outcome()? {
            Outcome::Acked { .. } => None,
            Outcome::Failed(error) => Some(error.clone()),
        };
        Some(self.give(error))
    }

    /// Why a record that is not resolved never will be, if that is so. Kept apart, so that taking
    /// an outcome stays short.
    #[inline(never)]
    fn never_resolved(&self) -> Option<DeliveryError> {
        self.handle().is_inherited().then(|| self.unheard(DeliveryErrorCause::Forked))
    }

    /// The error of a record whose outcome the caller will not hear of.
    #[cold]
    fn unheard(&self, cause: DeliveryErrorCause) -> DeliveryError {
        self.handle().context().error(cause, Certainty::Unknown)
    }

    /// Gives out an outcome that is known.
    #[inline]
    fn give(&mut self, error: Option<DeliveryError>) -> Result<RecordMetadata, DeliveryError> {
        let mut handle = self.handle.take().expect("a Delivery gives its outcome once");
        // The metadata may be kept for long, and nobody waits for it any more.
        handle.forget_waiter();
        match error {
            None => Ok(RecordMetadata { handle }),
            Some(error) => Err(read(handle, error)),
        }
    }

    #[inline]
    pub(super) fn handle(&self) -> &CellHandle {
        self.handle.as_ref().expect("a Delivery gives its outcome once")
    }

    /// The producer whose record it is, while that is there.
    pub(super) fn producer(&self) -> Option<Arc<Shared>> {
        let observer = self.handle().observer().and_then(|observer| observer.as_any());
        let failures = observer.and_then(|observer| observer.downcast_ref::<Failures>())?;
        failures.origin()?.upgrade()?.downcast::<Shared>().ok()
    }

    /// Ready once the outcome is known, which stays where it is.
    pub(super) fn poll_handle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let handle = self.handle.as_mut().expect("a Delivery gives its outcome once");
        handle.poll(context).map(drop)
    }

    fn poll_outcome(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<RecordMetadata, DeliveryError>> {
        if let Some(outcome) = self.take_known() {
            return Poll::Ready(outcome);
        }
        if let Some(error) = self.never_resolved() {
            return Poll::Ready(Err(error));
        }
        let handle = self.handle.as_mut().expect("a Delivery gives its outcome once");
        let error = match handle.poll(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Outcome::Acked { .. }) => None,
            Poll::Ready(Outcome::Failed(error)) => Some(error.clone()),
        };
        Poll::Ready(self.give(error))
    }
}

/// An error that is given out: nobody has to be told that it was overlooked.
#[cold]
fn read(handle: CellHandle, error: DeliveryError) -> DeliveryError {
    handle.count_read();
    error
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let delivery = self.get_mut();
        match delivery.take_acked() {
            Some(metadata) => Poll::Ready(Ok(metadata)),
            None => delivery.poll_outcome(context),
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolved = self.handle.as_ref().is_none_or(|handle| handle.try_outcome().is_some());
        f.debug_struct("Delivery").field("resolved", &resolved).finish_non_exhaustive()
    }
}

impl RecordMetadata {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.handle.context().topic
    }

    /// The partition, from 0.
    pub fn partition(&self) -> i32 {
        let partition = self.handle.context().partition;
        partition.expect("a record is written to a partition").0
    }

    /// The record's offset in its partition. `None` with `acks=0`; and where the record is known to
    /// be in the log though no answer told its offset: the broker recognised a repeated batch, or
    /// took a later one that it could only take behind this one.
    pub fn offset(&self) -> Option<i64> {
        self.handle.offset()
    }

    /// The record's timestamp in milliseconds since the Unix epoch: the broker's, where the topic
    /// has `message.timestamp.type=LogAppendTime`, or else its own.
    pub fn timestamp(&self) -> i64 {
        self.handle.append_time().unwrap_or_else(|| self.handle.timestamp())
    }

    fn place(&self) -> (&str, i32, Option<i64>, i64) {
        (self.topic(), self.partition(), self.offset(), self.timestamp())
    }
}

/// The same place: topic, partition and offset, with the same timestamp.
impl PartialEq for RecordMetadata {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for RecordMetadata {}

impl Hash for RecordMetadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place().hash(state);
    }
}

impl fmt::Display for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}@", self.topic(), self.partition())?;
        match self.offset() {
            Some(offset) => offset.fmt(f),
            None => f.write_str("?"),
        }
    }
}

impl fmt::Debug for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordMetadata")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .finish()
    }
}
