//! Where records go that this producer does not bring to a broker.

use std::fmt;

use crate::engine::protocol::records::{Header, Length};
use crate::error::DeliveryError;

/// Gets the records that fail, so that they can be kept elsewhere: in a file, or in another cluster
/// by another producer. Closures `Fn(&UndeliveredRecord<'_>)` are fallbacks too.
/// [`ProducerBuilder::fallback`](crate::ProducerBuilder::fallback) sets it; by default there is
/// none.
///
/// It gets every record that was taken into buffer memory and has failed, whatever the cause,
/// except those that the application purged ([`Producer::purge`](crate::Producer::purge)), those
/// that [`close_handing_back`](crate::Producer::close_handing_back) gives back, and those that were
/// in flight on an event loop that panicked. It also gets every record without room for which the
/// strategy says [`Backoff::Fallback`](crate::Backoff::Fallback): those are copied, up to
/// [`fallback_memory`](crate::ProducerConfig::fallback_memory). `try_send` asks no strategy, and
/// gives it none.
///
/// [`UndeliveredRecord::error`] is what the record's delivery fails with. If its certainty is
/// [`Unknown`](crate::Certainty::Unknown), the record was in flight: to send it again may double
/// it, to discard it may lose it. The fallback gets it when its request has ended, and not at all
/// if the broker acknowledges it after it failed. [`manual::guarantees`](crate::manual::guarantees)
/// has a table.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{Certainty, Producer, UndeliveredRecord};
///
/// let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// cluster.pause_broker(1); // it accepts connections, and answers nothing
/// let kept = Arc::new(Mutex::new(Vec::new()));
/// let keeper = kept.clone();
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .fallback(move |record: &UndeliveredRecord<'_>| {
///         if record.error().certainty() == Certainty::NotWritten {
///             keeper.lock().unwrap().push(record.value().map(<[u8]>::to_vec));
///         }
///     })
///     .build()?;
/// drop(producer.topic("orders")?.send("customer-42", "paid")?);
/// // What has not been sent by then fails, and the close waits for the fallback.
/// assert!(producer.close(Duration::from_millis(50)).wait().is_err());
/// assert_eq!(*kept.lock().unwrap(), [Some(b"paid".to_vec())]);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
pub trait Fallback: Send + Sync {
    /// A record has failed. Called once for each, never twice at a time, on the thread of the
    /// producer's that also calls [`Delivery::on_complete`](crate::Delivery::on_complete)'s
    /// closures; its delivery may resolve a moment earlier or later. After a close that left an
    /// event loop behind ([`CloseError::Stuck`](crate::CloseError::Stuck)), what that loop fails
    /// comes on another thread.
    ///
    /// Records of a partition that fail together come in their order. Records without room may come
    /// before earlier ones, and records that were in flight after later ones.
    ///
    /// It may block: for a file, a lock, another producer. Until it returns, most of what has
    /// failed stays in buffer memory ([`manual::memory`](crate::manual::memory) names the
    /// exceptions), so senders find less room; and callbacks wait. A close waits for it beyond its
    /// own timeout, for as long as calls return. If one call, of it or of a callback, takes more
    /// than 10 s, the close waits no longer and ends with `Stuck`. A flush does not wait for it.
    ///
    /// Do not send to this producer from here: while its brokers are away, the record comes back.
    /// To wait for it here is an error
    /// ([`WaitedOnOwnThread`](crate::DeliveryErrorCause::WaitedOnOwnThread)). A panic loses the
    /// record that it was called with; the first one is logged.
    fn take(&self, record: &UndeliveredRecord<'_>);
}

impl<F> Fallback for F
where
    F: Fn(&UndeliveredRecord<'_>) + Send + Sync,
{
    fn take(&self, record: &UndeliveredRecord<'_>) {
        self(record);
    }
}

/// A record that the producer gives back, with all that it was sent with: to a [`Fallback`], or at
/// [`Producer::close_handing_back`](crate::Producer::close_handing_back). It is there for the call
/// only: copy what is to be kept, for instance with
/// [`to_record`](UndeliveredRecord::to_record)`().into_owned()`.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::{sync::mpsc, time::Duration};
/// # cluster.pause_broker(1);
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// drop(producer.topic("orders")?.send("customer-42", "paid")?); // no broker answers
/// let (values, returned) = mpsc::channel();
/// let close = producer.close_handing_back(Duration::ZERO, move |record| {
///     drop(values.send(record.value().map(<[u8]>::to_vec)));
/// });
/// assert!(close.wait().is_err());
/// assert_eq!(returned.recv()?, Some(b"paid".to_vec()));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct UndeliveredRecord<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) timestamp: i64,
    pub(crate) partition: Option<i32>,
    pub(crate) error: &'a DeliveryError,
}

impl<'a> UndeliveredRecord<'a> {
    /// Its topic.
    pub fn topic(&self) -> &'a str {
        self.error.topic()
    }

    /// The partition that it was for; `None` if it failed before it had one, and names none.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// Its key; `None` for a null key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Its value; `None` for a null value.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Its headers, in order.
    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// Its timestamp, in milliseconds since the Unix epoch: the one that it was given, or the time
    /// of sending. If its batch was compressed for Kafka 0.8 or 0.9, which have no timestamps, it
    /// is that of the batch's first record.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp
    }

    /// What its delivery failed with. At `close_handing_back` its certainty is always
    /// [`Certainty::NotWritten`](crate::Certainty::NotWritten).
    pub fn error(&self) -> &'a DeliveryError {
        self.error
    }
}

impl fmt::Debug for UndeliveredRecord<'_> {
    /// Lengths only: the bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UndeliveredRecord")
            .field("topic", &self.topic())
            .field("partition", &self.partition)
            .field("key", &Length(self.key))
            .field("value", &Length(self.value))
            .field("headers", &self.headers)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
