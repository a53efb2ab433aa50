//! What happens to a record for which there is no room.

use std::fmt;
use std::time::Duration;

use crate::engine::protocol::records::{Header, Length};
use crate::error::PressureScope;

/// What a [`BackoffStrategy`] is told about a record for which there is no room.
///
/// ```
/// use tidegate::{Backoff, BackoffStrategy, Pressure, PressureScope, RejectRecords};
///
/// // A test of a strategy: small records are dropped, large ones are handed back.
/// let strategy = |full: &Pressure<'_>| match full.record_size {
///     0..10_000 => Backoff::Drop,
///     _ => RejectRecords.decide(full),
/// };
/// assert_eq!(strategy.decide(&Pressure::new(PressureScope::Pool, 200)), Backoff::Drop);
/// assert_eq!(strategy.decide(&Pressure::new(PressureScope::Pool, 20_000)), Backoff::Reject);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure<'a> {
    /// The record's topic.
    pub topic: &'a str,
    /// Its partition; `None` while the topic's partitions are not known, unless the record names
    /// one.
    pub partition: Option<i32>,
    /// Its key; `None` for a null key.
    pub key: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: &'a [Header<'a>],
    /// What the application gave it with [`Record::priority`](crate::Record::priority); else 0.
    pub priority: i32,
    /// What the application gave it with [`Record::tag`](crate::Record::tag); else 0.
    pub tag: u64,
    /// Which level was full.
    pub scope: PressureScope,
    /// Bytes charged to that level now: queued and in flight, in whole segments.
    pub charged: usize,
    /// Its high watermark, in bytes; for the pool its size.
    pub high: usize,
    /// Its low watermark, in bytes: below it records are taken again.
    pub low: usize,
    /// How often this record was refused before: 0 at first.
    pub attempt: u32,
    /// Time since this record was first refused; 0 at first.
    pub elapsed: Duration,
    /// Bytes of the record: key, value, headers and what the format adds.
    pub record_size: usize,
}

impl Pressure<'_> {
    /// The first refusal of a record: nothing charged, no watermarks, no time elapsed, no topic and
    /// no key. The fields are public, so that a test of a strategy can set them.
    pub fn new(scope: PressureScope, record_size: usize) -> Self {
        Pressure {
            topic: "",
            partition: None,
            key: None,
            headers: &[],
            priority: 0,
            tag: 0,
            scope,
            charged: 0,
            high: 0,
            low: 0,
            attempt: 0,
            elapsed: Duration::ZERO,
            record_size,
        }
    }
}

impl fmt::Debug for Pressure<'_> {
    /// The lengths of key and headers only: their bytes may be confidential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pressure")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key", &Length(self.key))
            .field("headers", &self.headers)
            .field("priority", &self.priority)
            .field("tag", &self.tag)
            .field("scope", &self.scope)
            .field("charged", &self.charged)
            .field("high", &self.high)
            .field("low", &self.low)
            .field("attempt", &self.attempt)
            .field("elapsed", &self.elapsed)
            .field("record_size", &self.record_size)
            .finish()
    }
}

/// What is to be done with a record for which there is no room.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Backoff, BackoffStrategy, Pressure, PressureScope};
///
/// // One broker that is slow holds nobody up; where all of the memory is used up, senders wait.
/// let strategy = |full: &Pressure<'_>| match full.scope {
///     PressureScope::Broker(_) => Backoff::Drop,
///     _ => Backoff::Park { at_most: Duration::from_secs(10) },
/// };
/// let slow_broker = Pressure::new(PressureScope::Broker(3), 200);
/// assert_eq!(strategy.decide(&slow_broker), Backoff::Drop);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backoff {
    /// The delivery resolves at once as dropped, which is counted. `send` itself succeeds.
    Drop,
    /// The sending thread waits until there is room, the producer is closed, or `at_most` has
    /// passed since the record was first refused. Then the strategy is asked again: it may drop
    /// the record, give it to the fallback, or allow a longer wait, for which the sender goes to
    /// the end of the line; if it answers with a time that is over, `send` fails with
    /// `ParkTimedOut`. On the producer's own threads, which must
    /// not wait, it acts as [`Backoff::Reject`]. A task in
    /// [`Topic::send_async`](crate::Topic::send_async) waits instead of its thread, and without
    /// limit, unless `at_most` is zero: then it is refused.
    Park {
        /// The longest wait, counted from the first refusal of this record. Answering with the
        /// same value again does not extend it.
        at_most: Duration,
    },
    /// `send` fails at once with `Rejected` and hands an owned record back.
    Reject,
    /// The record is copied for the producer's [`Fallback`](crate::Fallback), and its delivery
    /// resolves at once as [`GivenToFallback`](crate::DeliveryErrorCause::GivenToFallback). `send`
    /// itself succeeds. Where the producer has no fallback, or its copies would take more than
    /// [`fallback_memory`](crate::ProducerConfig::fallback_memory), it acts as [`Backoff::Reject`].
    Fallback,
    /// The record goes to the producer's spill folder, and all later ones of its topic behind it,
    /// until the folder has none of that topic any more. Its delivery resolves when it is
    /// acknowledged, however long that takes. `send` writes to a file, which takes some
    /// microseconds, or as long as the disk needs with [`SpillSync::Always`](crate::SpillSync).
    /// What becomes of records that do not fit says [`SpillFull`](crate::SpillFull). Where the
    /// producer has no folder ([`spill`](crate::ProducerConfig::spill)), the record is refused as
    /// [`SpillFull`](crate::SendErrorKind::SpillFull).
    Spill,
}

/// Decides what happens to a record when the level it belongs to is above its high watermark, or
/// the pool is empty.
///
/// It is asked on the sending thread, outside of any lock, when a record is refused, and again if
/// the record is refused again after a wait. A panic fails that record only. Closures
/// `Fn(&Pressure<'_>) -> Backoff` are strategies too.
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Backoff, Pressure, Producer, Record};
///
/// // Important records wait, others are dropped.
/// let by_priority = |full: &Pressure<'_>| match full.priority {
///     0 => Backoff::Drop,
///     _ => Backoff::Park { at_most: Duration::from_secs(10) },
/// };
/// let producer = Producer::builder("localhost:9092").backoff(by_priority).build()?;
/// let payment = Record::new().key("customer-42").value("paid").priority(1);
/// producer.topic("orders")?.send_record(payment)?;
/// # producer.close(Duration::ZERO);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait BackoffStrategy: Send + Sync {
    /// The decision for this record, now.
    fn decide(&self, pressure: &Pressure<'_>) -> Backoff;
}

impl<F> BackoffStrategy for F
where
    F: Fn(&Pressure<'_>) -> Backoff + Send + Sync,
{
    fn decide(&self, pressure: &Pressure<'_>) -> Backoff {
        self(pressure)
    }
}

/// Drops every record for which there is no room: for data that is worth less than the time of the
/// thread that sends it.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("load", 1).start()?;
/// # use std::time::Duration;
/// # use tidegate::DropRecords;
/// # cluster.pause_broker(1);
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).backoff(DropRecords).build()?;
/// let load = producer.topic("load")?;
/// // No broker answers, so that there is no room left at some time.
/// while producer.dropped_records() == 0 {
///     drop(load.send("host-7", vec![0; 1_000_000])?); // never waits, and is no error
/// }
/// # producer.close(Duration::ZERO).wait().ok();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropRecords;

impl BackoffStrategy for DropRecords {
    fn decide(&self, _pressure: &Pressure<'_>) -> Backoff {
        Backoff::Drop
    }
}

/// Makes the sending thread wait for room, or in `send_async` the task; the default, with Kafka's
/// `max.block.ms` of 60 s, which is for threads.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::time::Duration;
/// # use tidegate::{ParkSender, SendErrorKind};
/// # cluster.pause_broker(1);
/// let strategy = ParkSender::for_at_most(Duration::from_millis(1)); // elsewhere some seconds
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).backoff(strategy).build()?;
/// let orders = producer.topic("orders")?;
/// // No broker answers, so that there is no room left at some time.
/// let error = loop {
///     if let Err(error) = orders.send("customer-42", vec![0; 1_000_000]) {
///         break error;
///     }
/// };
/// assert!(matches!(error.kind(), SendErrorKind::ParkTimedOut { .. }));
/// # producer.close(Duration::ZERO).wait().ok();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkSender {
    at_most: Duration,
}

impl ParkSender {
    /// Waits up to `at_most` for each record. 0 fails at once, like [`RejectRecords`], though with
    /// `ParkTimedOut` on a thread.
    pub fn for_at_most(at_most: Duration) -> Self {
        ParkSender { at_most }
    }
}

impl Default for ParkSender {
    fn default() -> Self {
        ParkSender::for_at_most(Duration::from_secs(60))
    }
}

impl BackoffStrategy for ParkSender {
    fn decide(&self, _pressure: &Pressure<'_>) -> Backoff {
        Backoff::Park { at_most: self.at_most }
    }
}

/// Refuses every record for which there is no room, and hands owned ones back.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::time::Duration;
/// # use tidegate::RejectRecords;
/// # cluster.pause_broker(1);
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).backoff(RejectRecords).build()?;
/// let orders = producer.topic("orders")?;
/// // No broker answers, so that there is no room left at some time.
/// let error = loop {
///     if let Err(error) = orders.send("customer-42", vec![7; 1_000_000]) {
///         break error;
///     }
/// };
/// assert!(error.is_retriable());
/// assert!(error.into_record().value.is_some_and(|value| value.len() == 1_000_000));
/// # producer.close(Duration::ZERO).wait().ok();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectRecords;

impl BackoffStrategy for RejectRecords {
    fn decide(&self, _pressure: &Pressure<'_>) -> Backoff {
        Backoff::Reject
    }
}

/// Gives every record for which there is no room to the producer's
/// [`Fallback`](crate::Fallback): see [`Backoff::Fallback`].
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("load", 1).start()?;
/// # use std::sync::mpsc;
/// # use std::time::Duration;
/// use tidegate::{UndeliveredRecord, UseFallback};
/// # cluster.pause_broker(1);
/// let (kept, keys) = mpsc::channel();
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers)
///     .backoff(UseFallback)
///     .fallback(move |record: &UndeliveredRecord<'_>| {
///         drop(kept.send(record.key().map(<[u8]>::to_vec)));
///     })
///     .build()?;
/// let load = producer.topic("load")?;
/// // No broker answers, so that there is no room left at some time.
/// let first = loop {
///     drop(load.send("host-7", vec![0; 1_000_000])?);
///     if let Ok(key) = keys.try_recv() {
///         break key;
///     }
/// };
/// assert_eq!(first, Some(b"host-7".to_vec()));
/// # producer.close(Duration::ZERO).wait().ok();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UseFallback;

impl BackoffStrategy for UseFallback {
    fn decide(&self, _pressure: &Pressure<'_>) -> Backoff {
        Backoff::Fallback
    }
}

/// Writes every record for which there is no room to the producer's spill folder: see
/// [`Backoff::Spill`]. The default of producers that have one.
///
/// ```
/// use tidegate::{Backoff, BackoffStrategy, Pressure, PressureScope, SpillRecords};
///
/// // Prices are worth nothing later.
/// let strategy = |full: &Pressure<'_>| match full.topic {
///     "prices" => Backoff::Drop,
///     _ => SpillRecords.decide(full),
/// };
/// let pressure = Pressure::new(PressureScope::Pool, 100);
/// assert_eq!(strategy.decide(&pressure), Backoff::Spill);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpillRecords;

impl BackoffStrategy for SpillRecords {
    fn decide(&self, _pressure: &Pressure<'_>) -> Backoff {
        Backoff::Spill
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn provided_strategies_decide_as_named() {
        let pressure = Pressure::new(PressureScope::Pool, 100);
        let minute = Duration::from_secs(60);
        assert_eq!(DropRecords.decide(&pressure), Backoff::Drop);
        assert_eq!(RejectRecords.decide(&pressure), Backoff::Reject);
        assert_eq!(UseFallback.decide(&pressure), Backoff::Fallback);
        assert_eq!(SpillRecords.decide(&pressure), Backoff::Spill);
        assert_eq!(ParkSender::default().decide(&pressure), Backoff::Park { at_most: minute });
        let second = Duration::from_secs(1);
        let park = ParkSender::for_at_most(second);
        assert_eq!(park.decide(&pressure), Backoff::Park { at_most: second });
    }

    #[test]
    fn a_closure_sees_the_pressure() {
        let strategy: Arc<dyn BackoffStrategy> =
            Arc::new(|pressure: &Pressure<'_>| match pressure.scope {
                PressureScope::Broker(_) if pressure.attempt < 3 => {
                    Backoff::Park { at_most: 2 * pressure.elapsed + Duration::from_millis(1) }
                }
                PressureScope::Broker(_) => Backoff::Drop,
                _ => Backoff::Reject,
            });
        let mut pressure = Pressure::new(PressureScope::Broker(7), 100);
        pressure.elapsed = Duration::from_millis(2);
        let parked = Backoff::Park { at_most: Duration::from_millis(5) };
        assert_eq!(strategy.decide(&pressure), parked);
        pressure.attempt = 3;
        assert_eq!(strategy.decide(&pressure), Backoff::Drop);
        pressure.scope = PressureScope::Stash;
        assert_eq!(strategy.decide(&pressure), Backoff::Reject);
    }
}
