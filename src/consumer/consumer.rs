//! The consumer.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::batch::ConsumedBatch;
use super::builder::ConsumerBuilder;
use crate::config::{ConsumerConfig, StartAt};
use crate::engine::fetch::{FetchQueue, Fetched, PartitionStatus};
use crate::engine::sync::{Generation, wait_until};
use crate::error::{ConsumeError, ConsumeErrorCause};
use crate::io::{FetchHandle, ThreadDeadline, Watch};

/// How long its end waits for code of the application's that is stuck on the consumer's thread: an
/// address map, a login.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a batch was fetched for, or what is wrong.
type Next = Result<ConsumedBatch, ConsumeError>;

/// Reads partitions, each from an offset on: all of a topic's, or chosen ones. It joins no
/// consumer group: who reads what is the application's to say. How far it has come the application
/// keeps itself, or has Kafka keep ([`Consumer::commit`]).
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tidegate::{Consumer, StartAt};
/// # use tidegate::Producer;
/// # use tidegate::embedded::EmbeddedCluster;
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let producer = Producer::builder(&servers).build()?;
/// # let orders = producer.topic("orders")?;
/// # for id in 0..10 { orders.send("customer-42", format!("order {id}"))?.wait()?; }
///
/// let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let mut seen = 0;
/// for batch in &consumer {
///     for record in &batch? {
///         let record = record?;
///         assert_eq!(record.key, Some(&b"customer-42"[..]));
///         seen += 1;
///     }
///     if seen == 10 {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
///
/// Batches of a partition come in the order of its log, none twice and none left out; those of
/// several partitions mix. Connections are made, leaders followed and lost brokers waited for
/// without a word to the application but in the log (WARN). What cannot go on is an error of one
/// partition ([`ConsumeError`]); the others go on, and that one does when it is sought.
///
/// It has one thread of its own, which fetches ahead as far as
/// [`queue_max_bytes`](ConsumerConfig::queue_max_bytes) allows. Batches are checked (CRC) and
/// decompressed on the thread that takes them. Several threads may take from one consumer.
/// Dropping it ends its thread.
pub struct Consumer {
    pub(super) handle: FetchHandle,
    queue: Arc<FetchQueue>,
    batch_max_bytes: usize,
    pub(super) born: Generation,
}

impl Consumer {
    /// A builder with default settings, for these brokers: `host:port,host:port`.
    pub fn builder(bootstrap_servers: &str) -> ConsumerBuilder {
        ConsumerBuilder::from_config(ConsumerConfig::new(bootstrap_servers))
    }

    pub(super) fn new(handle: FetchHandle, queue: Arc<FetchQueue>, batch_max_bytes: usize) -> Self {
        Consumer { handle, queue, batch_max_bytes, born: Generation::current() }
    }

    /// Waits for the next batch, at most for `timeout`. `None` if there is none within that time.
    ///
    /// # Errors
    /// [`ConsumeError`] if a partition cannot be read any further. The other partitions can.
    pub fn poll(&self, timeout: Duration) -> Option<Next> {
        let deadline = ThreadDeadline::after(Some(timeout));
        wait_until(|context| self.poll_next(context), |parker| deadline.park(parker)).flatten()
    }

    /// The next batch, for a task.
    ///
    /// # Errors
    /// As for [`Consumer::poll`].
    pub async fn next_batch(&self) -> Next {
        let next = std::future::poll_fn(|context| self.poll_next(context)).await;
        next.expect("it does not end")
    }

    /// What a `Stream` does: the next batch, or the promise to call the waker. It does not end.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Next>> {
        let of_all = |cause| ConsumeError { topic: "".into(), partition: None, cause };
        if !self.born.is_current() {
            return Poll::Ready(Some(Err(of_all(ConsumeErrorCause::Forked))));
        }
        let (taken, has_room) = self.queue.poll_take(context);
        if has_room {
            self.handle.tell_room();
        }
        let Poll::Ready(item) = taken else { return Poll::Pending };
        let Some(item) = item else {
            return Poll::Ready(Some(Err(of_all(ConsumeErrorCause::ThreadPanicked))));
        };
        let next = match (item.fetched, item.partition) {
            (Fetched::Batch(fetched), Some(partition)) => {
                let opened =
                    ConsumedBatch::open(item.topic, partition, &fetched, self.batch_max_bytes);
                if let (Err(_), Some(slot)) = (&opened, item.slot) {
                    self.queue.fail(slot, item.generation, fetched.from);
                    self.handle.fail(slot, item.generation);
                }
                opened
            }
            (Fetched::Failed(cause), partition) => {
                Err(ConsumeError { topic: item.topic, partition: partition.map(|it| it.0), cause })
            }
            // Nothing else leaves the queue.
            _ => return self.poll_next(context),
        };
        Poll::Ready(Some(next))
    }

    /// Reads a partition from elsewhere. What was fetched of it and not taken yet is left out.
    /// Returns whether the partition is among those that this consumer reads, as far as they are
    /// known by now: of a consumer that was just built, none is. Where to begin is said when it is
    /// built.
    pub fn seek(&self, topic: &str, partition: i32, start: StartAt) -> bool {
        if !self.born.is_current() {
            return false;
        }
        let slot = self.queue.seek(topic, partition);
        slot.inspect(|&slot| self.handle.seek(slot, start)).is_some()
    }

    /// Asks for no more of a partition. What was fetched of it is still handed out. Returns as
    /// [`Consumer::seek`].
    pub fn pause(&self, topic: &str, partition: i32) -> bool {
        self.set_paused(topic, partition, true)
    }

    /// Goes on with a partition that was paused. Returns as [`Consumer::seek`].
    pub fn resume(&self, topic: &str, partition: i32) -> bool {
        self.set_paused(topic, partition, false)
    }

    fn set_paused(&self, topic: &str, partition: i32, paused: bool) -> bool {
        if !self.born.is_current() {
            return false;
        }
        let slot = self.queue.set_paused(topic, partition, paused);
        slot.inspect(|&slot| self.handle.set_paused(slot, paused)).is_some()
    }

    /// The partitions that are read, as far as they are known by now, and how far each has come.
    /// None in a fork's child.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        if self.born.is_current() { self.queue.statuses() } else { Vec::new() }
    }

    /// How many offsets all partitions together are behind the ends of their logs. `None` until
    /// all topics and their partitions are known, and where each of those ends.
    ///
    /// Where a log ends is told with its records. While the queue is full nothing is asked for, so
    /// the ends stay as they were, or unknown, until something is taken.
    pub fn lag(&self) -> Option<u64> {
        if self.born.is_current() { self.queue.lag() } else { None }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.born.is_current() {
            self.handle.stop(&mut Watch::begin(PATIENCE));
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("partitions", &self.partitions()).finish_non_exhaustive()
    }
}

/// The batches of a consumer, one after the other: what `for batch in &consumer` goes through. It
/// waits for the next one, and does not end.
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
/// use tidegate::{Batches, Consumer, StartAt};
///
/// let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let batches: Batches<'_> = (&consumer).into_iter(); // as `for` does
/// for (number, batch) in batches.take(3).enumerate() {
///     assert_eq!(batch?.first_offset(), number as i64);
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Batches<'a>(&'a Consumer);

impl Iterator for Batches<'_> {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        let deadline = ThreadDeadline::after(None);
        wait_until(|context| self.0.poll_next(context), |parker| deadline.park(parker)).flatten()
    }
}

impl<'a> IntoIterator for &'a Consumer {
    type Item = Next;
    type IntoIter = Batches<'a>;

    fn into_iter(self) -> Batches<'a> {
        Batches(self)
    }
}
