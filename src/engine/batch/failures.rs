//! Records that failed: how many, of what, and which of them nobody looked at.
//!
//! A delivery that is dropped takes its record's error along. The cells report here, when a record
//! fails and when the last delivery of a batch is gone, and a thread of the producer tells the log
//! from time to time: whoever sends and forgets still hears of it.

use std::any::Any;
use std::fmt;
use std::mem::{discriminant, take};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::engine::event::{Event, EventHub};
use crate::engine::meter::counted;
use crate::engine::sync::FailureObserver;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause, PressureScope};
use crate::locking::lock;

/// Partitions and causes that are told apart between two reports. What fails of further ones is
/// counted together: a cluster that is away must not cost memory for each of its partitions.
const KINDS_MAX: usize = 64;

/// Why there was no room for records.
const TOO_SLOW: &str = "brokers take them slower than they are sent, or not at all";

/// Lines of one report.
const LINES_MAX: usize = 8;

/// What a record can fail of, as far as the counters tell.
const TIMED_OUT: usize = 0;
const REFUSED: usize = 1;
const DISCONNECTED: usize = 2;
const UNKNOWN_TOPIC: usize = 3;
const CLOSED: usize = 4;
const OTHER: usize = 5;

/// The failed records of one producer.
#[derive(Default)]
pub struct Failures {
    by_cause: [AtomicU64; OTHER + 1],
    maybe_written: AtomicU64,
    unread: AtomicU64,
    /// By what was full: see [`dropped_kind`].
    dropped: [AtomicU64; 4],
    /// Records without room that the fallback got.
    given_to_fallback: AtomicU64,
    /// Something was noted since the last [`Failures::take_unread`], and the reporter called.
    announced: AtomicBool,
    noted: Mutex<Noted>,
    reporter: OnceLock<Box<dyn Fn() + Send + Sync>>,
    origin: OnceLock<Weak<dyn Any + Send + Sync>>,
    /// Where failures, and whatever else happens, are told to who listens.
    pub events: Arc<EventHub>,
}

/// What is to be told.
#[derive(Default)]
struct Noted {
    unread: Vec<UnreadFailure>,
    /// Records of further partitions or causes.
    others: u64,
    /// Records dropped by the strategy, as of the last report.
    dropped_told: u64,
    /// See [`Failures::given_to_fallback`], as of the last report.
    given_to_fallback_told: u64,
}

/// Records of one partition that failed of one cause, and whose deliveries were dropped unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadFailure {
    /// The first one's error.
    pub error: DeliveryError,
    /// How many.
    pub records: u64,
}

/// What happened since the last report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnreadFailures {
    /// By partition and cause, in the order of their first failure.
    pub unread: Vec<UnreadFailure>,
    /// Records of partitions or causes for which there was no room in the list.
    pub others: u64,
    /// Records that the backoff strategy dropped.
    pub dropped: u64,
    /// Records that it gave to the fallback.
    pub given_to_fallback: u64,
}

/// How many records failed, since the producer was built.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # cluster.script(tidegate::embedded::Fault::produce_error("orders", 0, 10));
/// let outcome = producer.topic("orders")?.send("customer-42", "paid")?.wait();
/// assert!(outcome.is_err()); // The broker answers with an error.
/// let failed = producer.failed_records();
/// assert_eq!((failed.total, failed.refused), (1, 1));
/// assert_eq!((failed.unread, failed.maybe_written), (0, 0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedRecords {
    /// All of them: the sum of the causes below. Records that `send` refused, and those that the
    /// backoff strategy dropped, were never accepted and do not count.
    pub total: u64,
    /// Those whose deliveries were dropped before anybody took the error. They are in a warning of
    /// the log, too.
    pub unread: u64,
    /// Those that may be in the log of their partition nevertheless
    /// ([`Certainty::Unknown`]).
    pub maybe_written: u64,
    /// Not acknowledged within `delivery_timeout`.
    pub timed_out: u64,
    /// The broker answered with an error, and no retry helped.
    pub refused: u64,
    /// The connection was lost and no retries were left.
    pub disconnected: u64,
    /// The topic does not exist.
    pub unknown_topic: u64,
    /// The producer was closed first.
    pub closed: u64,
    /// Everything else: no such partition, too many of them or none named, a broker that is too
    /// old, another cluster, a purge, a panic.
    pub other: u64,
}

/// How many records the backoff strategy dropped, since the producer was built, by what was full.
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
/// for _ in 0..20 {
///     drop(load.send("host-7", vec![0; 1_000_000])?); // no broker answers
/// }
/// let dropped = producer.metrics().dropped;
/// assert!(dropped.total > 0 && dropped.total == dropped.stash);
/// # producer.close(Duration::ZERO).wait().ok();
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedRecords {
    /// All of them: the sum of those below.
    pub total: u64,
    /// A broker was over its high watermark ([`PressureScope::Broker`]).
    pub broker: u64,
    /// `buffer_memory` was used up ([`PressureScope::Pool`]).
    pub pool: u64,
    /// Their topics were not known ([`PressureScope::Stash`]).
    pub stash: u64,
    /// Their partitions had no leader ([`PressureScope::Leaderless`]).
    pub leaderless: u64,
}

/// The place of a scope in [`Failures`]' counters.
fn dropped_kind(full: PressureScope) -> usize {
    match full {
        PressureScope::Broker(_) => 0,
        PressureScope::Pool => 1,
        PressureScope::Stash => 2,
        PressureScope::Leaderless => 3,
    }
}

fn kind_of(cause: &DeliveryErrorCause) -> usize {
    match cause {
        DeliveryErrorCause::TimedOut { .. } => TIMED_OUT,
        DeliveryErrorCause::Broker { .. } => REFUSED,
        DeliveryErrorCause::Disconnected(_) => DISCONNECTED,
        cause if cause.is_topic_missing() => UNKNOWN_TOPIC,
        DeliveryErrorCause::Closed { .. } | DeliveryErrorCause::LeftInSpill => CLOSED,
        _ => OTHER,
    }
}

impl FailureObserver<DeliveryError> for Failures {
    fn failed(&self, error: &DeliveryError, records: u32) {
        self.events.publish(|| Event::Failed { error: error.clone(), records });
        let records = u64::from(records);
        self.by_cause[kind_of(error.cause())].fetch_add(records, Relaxed);
        if error.certainty() == Certainty::Unknown {
            self.maybe_written.fetch_add(records, Relaxed);
        }
    }

    fn unread(&self, error: &DeliveryError, records: u32) {
        let records = u64::from(records);
        self.unread.fetch_add(records, Relaxed);
        {
            let noted = &mut *lock(&self.noted);
            let is_full = noted.unread.len() >= KINDS_MAX;
            let known = noted.unread.iter_mut().find(|known| is_alike(&known.error, error));
            match known {
                Some(known) => known.records += records,
                None if !is_full => {
                    noted.unread.push(UnreadFailure { error: error.clone(), records });
                }
                None => noted.others += records,
            }
        }
        self.announce();
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// Whether two failures are told of together.
fn is_alike(one: &DeliveryError, other: &DeliveryError) -> bool {
    discriminant(one.cause()) == discriminant(other.cause())
        && one.partition() == other.partition()
        && one.certainty() == other.certainty()
        && one.topic() == other.topic()
}

impl Failures {
    /// Sets who is called, on whatever thread, when there is something to be taken after there was
    /// nothing. Only the first call counts.
    pub fn set_reporter(&self, reporter: impl Fn() + Send + Sync + 'static) {
        let _ = self.reporter.set(Box::new(reporter));
    }

    /// Sets what leads from a record's delivery to its producer. Only the first call counts.
    pub fn set_origin(&self, origin: Weak<dyn Any + Send + Sync>) {
        let _ = self.origin.set(origin);
    }

    /// What was set with [`Failures::set_origin`].
    pub fn origin(&self) -> Option<&Weak<dyn Any + Send + Sync>> {
        self.origin.get()
    }

    /// The strategy dropped so many records, because this was full.
    pub fn count_dropped(&self, full: PressureScope, records: u64) {
        self.dropped[dropped_kind(full)].fetch_add(records, Relaxed);
        self.announce();
    }

    /// The strategy gave so many records to the fallback.
    pub fn count_given_to_fallback(&self, records: u64) {
        self.given_to_fallback.fetch_add(records, Relaxed);
        self.announce();
    }

    /// Records that the backoff strategy dropped.
    pub fn dropped(&self) -> DroppedRecords {
        let [broker, pool, stash, leaderless] =
            self.dropped.each_ref().map(|count| count.load(Relaxed));
        let total = broker + pool + stash + leaderless;
        DroppedRecords { total, broker, pool, stash, leaderless }
    }

    /// The counters.
    pub fn counts(&self) -> FailedRecords {
        let [timed_out, refused, disconnected, unknown_topic, closed, other] =
            self.by_cause.each_ref().map(|count| count.load(Relaxed));
        FailedRecords {
            total: timed_out + refused + disconnected + unknown_topic + closed + other,
            unread: self.unread.load(Relaxed),
            maybe_written: self.maybe_written.load(Relaxed),
            timed_out,
            refused,
            disconnected,
            unknown_topic,
            closed,
            other,
        }
    }

    /// What nobody looked at since the last call.
    pub fn take_unread(&self) -> UnreadFailures {
        // First: what is noted from here on announces itself anew.
        self.announced.store(false, SeqCst);
        let mut noted = lock(&self.noted);
        let dropped = self.dropped().total;
        let before = std::mem::replace(&mut noted.dropped_told, dropped);
        let given = self.given_to_fallback.load(Relaxed);
        let given_before = std::mem::replace(&mut noted.given_to_fallback_told, given);
        UnreadFailures {
            unread: take(&mut noted.unread),
            others: take(&mut noted.others),
            dropped: dropped - before,
            given_to_fallback: given - given_before,
        }
    }

    fn announce(&self) {
        // The load keeps the line shared while many records fail or are dropped.
        if !self.announced.load(Relaxed)
            && !self.announced.swap(true, SeqCst)
            && let Some(reporter) = self.reporter.get()
        {
            reporter();
        }
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failures").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl UnreadFailures {
    /// The warnings for the log: few lines, whatever happened.
    pub fn lines(&self) -> Vec<String> {
        let shown = self.unread.len().min(LINES_MAX);
        let mut lines: Vec<String> = self.unread[..shown].iter().map(line).collect();
        let hidden: u64 = self.unread[shown..].iter().map(|unread| unread.records).sum();
        let others = hidden + self.others;
        if others > 0 {
            let records = counted(others, "record");
            lines.push(format!(
                "{records} of other partitions failed as well, and nobody looked at the deliveries"
            ));
        }
        if self.dropped > 0 {
            let records = counted(self.dropped, "record");
            lines.push(format!("the backoff strategy dropped {records}: {TOO_SLOW}"));
        }
        if self.given_to_fallback > 0 {
            let records = counted(self.given_to_fallback, "record");
            lines.push(format!("the backoff strategy gave {records} to the fallback: {TOO_SLOW}"));
        }
        lines
    }
}

fn line(unread: &UnreadFailure) -> String {
    let error = &unread.error;
    let records = counted(unread.records, "record");
    let deliveries = if unread.records == 1 { "its delivery" } else { "their deliveries" };
    let partition = error.partition().map(|partition| format!("-{partition}"));
    format!(
        "{}{}: {records} failed and nobody looked at {deliveries}: {} ({})",
        error.topic(),
        partition.unwrap_or_default(),
        error.cause(),
        error.certainty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::batch::{Cells, Destination};
    use crate::engine::protocol::PartitionId;
    use crate::engine::sync::{ForwardTable, WakeList};

    fn destination(topic: &str, partition: i32) -> Destination {
        Destination { topic: topic.into(), partition: Some(PartitionId(partition)) }
    }

    fn error(topic: &str, partition: i32, cause: DeliveryErrorCause) -> DeliveryError {
        destination(topic, partition).error(cause, Certainty::NotWritten)
    }

    fn cells() -> (Arc<Failures>, Cells) {
        let failures = Arc::<Failures>::default();
        (failures.clone(), Cells::observed_by(failures))
    }

    #[test]
    fn c68_what_failed_unread_is_told_with_partition_cause_and_count() {
        let (failures, cells) = cells();
        let mut wakes = WakeList::new();
        // Dropped before the batch fails, dropped afterwards, and read.
        let mut early = cells.allocate(destination("orders", 3));
        drop((early.issue(0), early.issue(0)));
        early.fail(error("orders", 3, DeliveryErrorCause::Closed { last: None }), &mut wakes);
        let mut late = cells.allocate(destination("orders", 4));
        let (kept, read) = (late.issue(0), late.issue(0));
        late.fail(error("orders", 4, DeliveryErrorCause::LoopPanicked), &mut wakes);
        assert!(read.error().is_some());
        read.count_read();
        drop(read);
        assert_eq!(failures.counts().unread, 2, "one of the batch may still be looked at");
        drop(kept);

        let counts = failures.counts();
        assert_eq!((counts.total, counts.closed, counts.other, counts.unread), (4, 2, 2, 3));
        let unread = failures.take_unread();
        assert_eq!(
            unread.lines(),
            [
                "orders-3: 2 records failed and nobody looked at their deliveries: the producer \
                 was closed before the record was acknowledged (not written)",
                "orders-4: 1 record failed and nobody looked at its delivery: the event loop that \
                 owned the partition panicked; please report this (not written)",
            ]
        );
        assert_eq!(failures.take_unread(), UnreadFailures::default(), "once");
    }

    #[test]
    fn c68_records_that_parted_ways_are_counted_where_they_ended() {
        let (failures, cells) = cells();
        let mut wakes = WakeList::new();
        let mut whole = cells.allocate(destination("t", 0));
        let handles: Vec<_> = (0..5).map(|_| whole.issue(0)).collect();
        let mut rest = whole.sibling();
        let mut table = ForwardTable::new();
        table.forward(1, &mut rest);
        table.fail(2, error("t", 0, DeliveryErrorCause::PartitionerPanicked));
        table.forward(2, &mut rest);
        whole.forward(table, &mut wakes);
        rest.fail(error("t", 0, DeliveryErrorCause::Closed { last: None }), &mut wakes);
        assert_eq!(failures.counts().total, 5);
        for index in [0, 1] {
            assert!(handles[index].error().is_some());
            handles[index].count_read();
        }
        drop(handles);
        let unread = failures.take_unread().unread;
        let counts: Vec<_> = unread.iter().map(|one| (one.error.cause(), one.records)).collect();
        let expected = [
            (&DeliveryErrorCause::PartitionerPanicked, 1),
            (&DeliveryErrorCause::Closed { last: None }, 2),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_report_is_short_and_announced_once() {
        let failures = Failures::default();
        let calls = Arc::new(AtomicU64::new(0));
        let called = calls.clone();
        failures.set_reporter(move || {
            called.fetch_add(1, SeqCst);
        });
        for partition in 0..200 {
            failures.unread(&error("t", partition, DeliveryErrorCause::Closed { last: None }), 2);
        }
        failures.count_dropped(PressureScope::Pool, 1);
        assert_eq!(calls.load(SeqCst), 1);
        let unread = failures.take_unread();
        assert_eq!((unread.unread.len(), unread.others), (KINDS_MAX, 2 * 136));
        let lines = unread.lines();
        assert_eq!(lines.len(), LINES_MAX + 2);
        assert!(lines[LINES_MAX].starts_with("384 records of other partitions"), "{lines:?}");
        assert!(lines[LINES_MAX + 1].contains("dropped 1 record:"), "{lines:?}");
        failures.unread(&error("t", 0, DeliveryErrorCause::Closed { last: None }), 1);
        assert_eq!(calls.load(SeqCst), 2);
    }
}
