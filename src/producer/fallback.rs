//! Calling the application's fallback with the records that failed.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::admission::{ForFallback, LeftOut};
use super::delivery::Delivery;
use super::producer::Shared;
use super::topic::Topic;
use crate::config::ProducerConfig;
use crate::engine::batch::{CellHandle, CopiedRecord, Destination, FallbackQueue};
use crate::engine::policy::{Fallback, UndeliveredRecord};
use crate::engine::protocol::records::RecordParts;
use crate::engine::sync::Generation;
use crate::error::{Certainty, DeliveryErrorCause};
use crate::io::{Job, JobThread, ThreadDeadline};
use crate::locking::{ignore_poison, lock};
use crate::logging as log;
use crate::user_code;

/// A call of the fallback, or of a callback, that takes longer than this counts as stuck when the
/// producer closes.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// How often a close looks how far the fallback has come.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// After so many calls, and at the end of a batch, other jobs of the thread get their turn.
const CALLS_PER_TURN: u64 = 1_024;

/// The application's fallback, and the thread that calls it.
pub(super) struct FallbackCaller {
    fallback: Arc<dyn Fallback>,
    thread: Arc<JobThread>,
    /// A thread calls the fallback now. After a close there may be two threads, and this lets one
    /// of them in.
    is_running: Mutex<bool>,
    /// Notified when a thread has stopped calling.
    paused: Condvar,
    calls: AtomicU64,
    panic_told: AtomicBool,
    born: Generation,
}

/// A job: what waits in the queue is to be looked at.
struct Turn {
    queue: Arc<FallbackQueue>,
    caller: Arc<FallbackCaller>,
}

/// A fallback with its queue.
pub(super) struct FallbackHandle {
    pub queue: Arc<FallbackQueue>,
    caller: Arc<FallbackCaller>,
}

impl FallbackHandle {
    /// Has the application's fallback called on this thread, which is started. `None`: there is no
    /// fallback.
    pub(super) fn start(
        config: &ProducerConfig,
        thread: &Arc<JobThread>,
    ) -> io::Result<Option<Self>> {
        let Some(fallback) = config.fallback.clone() else { return Ok(None) };
        thread.start()?;
        let queue = FallbackQueue::new(config.fallback_memory);
        let caller = Arc::new(FallbackCaller {
            fallback,
            thread: thread.clone(),
            is_running: Mutex::new(false),
            paused: Condvar::new(),
            calls: AtomicU64::new(0),
            panic_told: AtomicBool::new(false),
            born: Generation::current(),
        });
        // The queue keeps the caller, as long as an event loop may put something there: also one
        // that a close left behind.
        let announced = caller.clone();
        queue.set_announce(move |queue| {
            let (queue, caller) = (queue.clone(), announced.clone());
            let thread = caller.thread.clone();
            thread.push(Arc::new(Turn { queue, caller }));
        });
        Ok(Some(FallbackHandle { queue, caller }))
    }

    /// The queue, if there is a fallback.
    pub(super) fn queue_of(fallback: &Option<Self>) -> Option<Arc<FallbackQueue>> {
        fallback.as_ref().map(|fallback| fallback.queue.clone())
    }

    /// Waits until the fallback has got everything, however long that takes; but not longer than
    /// [`STUCK_AFTER`] for a single call, of the fallback or of a callback: `callbacks` is how many
    /// of those have not returned. Event loops have ended by then, but for those that the close
    /// left behind: what they add later is not waited for.
    pub(super) fn wait_until_done(&self, callbacks: impl Fn() -> usize) {
        let caller = &self.caller;
        let progress = || (caller.calls.load(Ordering::SeqCst), callbacks());
        let patience = || ThreadDeadline::after(Some(STUCK_AFTER));
        let (mut before, mut limit) = (progress(), patience());
        let mut is_running = lock(&caller.is_running);
        while *is_running || !self.queue.is_idle() {
            let waited = caller.paused.wait_timeout(is_running, LOOK_AGAIN);
            is_running = ignore_poison(waited).0;
            let now = progress();
            if now != before {
                (before, limit) = (now, patience());
            } else if limit.left() == Some(Duration::ZERO) {
                return;
            }
        }
    }
}

impl FallbackCaller {
    fn call(&self, queue: &FallbackQueue, record: &UndeliveredRecord<'_>) {
        let _inside = user_code::enter();
        queue.count_called(1);
        if user_code::call(|| self.fallback.take(record)).is_err()
            && !self.panic_told.swap(true, Ordering::Relaxed)
        {
            log::error!("the fallback panicked, and a record is lost; this is said once");
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    /// Calls the fallback with what waits, up to [`CALLS_PER_TURN`]. Returns whether nothing was
    /// left.
    fn call_for_all(&self, queue: &FallbackQueue) -> bool {
        queue.begin_look();
        let before = self.calls.load(Ordering::SeqCst);
        while self.calls.load(Ordering::SeqCst) - before < CALLS_PER_TURN {
            let Some((undelivered, _room)) = queue.take() else { return true };
            undelivered.for_each(&mut |record| self.call(queue, record));
            // Its memory goes back to the pool here, and the room for copies is free again.
        }
        false
    }
}

impl Drop for FallbackCaller {
    /// A close has stopped the thread before; not so if the producer could not be built. A fork's
    /// child has no such thread, and a lock may be taken there for ever.
    fn drop(&mut self) {
        if self.born.is_current() {
            self.thread.stop(None);
        }
    }
}

impl Job for Turn {
    fn run(self: Arc<Self>) {
        let Turn { queue, caller } = &*self;
        if std::mem::replace(&mut *lock(&caller.is_running), true) {
            // The other thread looks into the queue once more before it clears this flag.
            return;
        }
        let is_done = loop {
            // The application's panics are caught in `call`. One of our own loses the batch that
            // was being read.
            let called = catch_unwind(AssertUnwindSafe(|| caller.call_for_all(queue)));
            let is_done = called.unwrap_or_else(|_| {
                log::error!("records for the fallback could not be read: they are lost");
                false
            });
            let mut is_running = lock(&caller.is_running);
            if !is_done || queue.is_empty() {
                *is_running = false;
                caller.paused.notify_all();
                break is_done;
            }
        };
        if !is_done {
            caller.thread.clone().push(self);
        }
    }
}

impl Shared {
    /// The strategy gives a record to the fallback, and there is none.
    pub(super) fn warn_of_missing_fallback(&self) {
        if !self.missing_fallback_told.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the backoff strategy gives records to the fallback, and this producer has none: \
                 they are refused (set ProducerBuilder::fallback); this is said once"
            );
        }
    }
}

impl Topic {
    /// What is returned for a record that the strategy does not send.
    #[cold]
    pub(super) fn leave_out(
        &self,
        left_out: LeftOut,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Delivery {
        let mut handles = self.leave_out_all(left_out, &[(timestamp, *parts)]);
        Delivery::new(handles.pop().expect("there is one for each record"))
    }

    /// The same for records that are sent together.
    pub(super) fn leave_out_all(
        &self,
        left_out: LeftOut,
        records: &[(i64, RecordParts<'_>)],
    ) -> Vec<CellHandle> {
        let ForFallback { queue, reserved, partition, full } = match left_out {
            LeftOut::Given(given) => given,
            LeftOut::Spilled(handles) => return handles,
            LeftOut::Dropped => {
                let handles = records.iter().map(|(timestamp, _)| self.dropped.issue(*timestamp));
                return handles.collect();
            }
        };
        let destination = Destination { topic: self.lanes.name.clone(), partition };
        let cause = DeliveryErrorCause::GivenToFallback { full };
        let error = destination.error(cause, Certainty::NotWritten);
        let copies = records.iter().map(|(timestamp, parts)| {
            CopiedRecord::new(partition, *timestamp, parts, error.clone())
        });
        queue.put_refused(copies.collect(), reserved);
        let failed = self.shared.accumulator.cells.allocate_failed(destination, error);
        records.iter().map(|(timestamp, _)| failed.issue(*timestamp)).collect()
    }
}
