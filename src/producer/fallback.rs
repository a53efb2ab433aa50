//! Calling the application's fallback with the records that failed.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::admission::{GivenToFallback, LeftOut};
use super::delivery::Delivery;
use super::producer::Shared;
use super::topic::Topic;
use crate::config::ProducerConfig;
use crate::engine::batch::{CellHandle, CopiedRecord, Destination, FallbackQueue};
use crate::engine::policy::{Fallback, UndeliveredRecord};
use crate::engine::protocol::records::RecordParts;
use crate::error::{Certainty, DeliveryErrorCause};
use crate::io::{Job, JobThread};
use crate::locking::lock;
use crate::logging as log;
use crate::user_code;

/// A call of the fallback that takes longer than this counts as stuck when the producer closes.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Calls before other jobs of the thread get their turn.
const CALLS_PER_TURN: u64 = 1_024;

/// The application's fallback, and what waits for it.
pub(super) struct FallbackCaller {
    queue: Arc<FallbackQueue>,
    fallback: Arc<dyn Fallback>,
    thread: Arc<JobThread>,
    /// A thread calls the fallback. After a close there may be two, and one at a time does.
    is_running: Mutex<bool>,
    /// It may have nothing left to do.
    paused: Condvar,
    calls: AtomicU64,
    panic_told: AtomicBool,
}

impl FallbackCaller {
    /// Has the application's fallback called on this thread, which is started. `None`: there is no
    /// fallback.
    pub(super) fn start(
        config: &ProducerConfig,
        thread: &Arc<JobThread>,
    ) -> io::Result<Option<Arc<Self>>> {
        let Some(fallback) = config.fallback.clone() else { return Ok(None) };
        thread.start()?;
        let queue = FallbackQueue::new(config.fallback_memory);
        let caller = Arc::new(FallbackCaller {
            queue: queue.clone(),
            fallback,
            thread: thread.clone(),
            is_running: Mutex::new(false),
            paused: Condvar::new(),
            calls: AtomicU64::new(0),
            panic_told: AtomicBool::new(false),
        });
        // The caller keeps the queue alive, and not the other way round.
        let weak = Arc::downgrade(&caller);
        queue.set_announce(move || {
            if let Some(caller) = weak.upgrade() {
                caller.thread.clone().push(caller);
            }
        });
        Ok(Some(caller))
    }

    /// Where records go that it is to be called with.
    pub(super) fn queue_of(caller: &Option<Arc<Self>>) -> Option<Arc<FallbackQueue>> {
        caller.as_ref().map(|caller| caller.queue.clone())
    }

    /// Waits until the fallback has got everything, however long that takes; but not longer than
    /// [`STUCK_AFTER`] for a single call. No records may come any more.
    pub(super) fn wait_until_done(&self) {
        let mut is_running = lock(&self.is_running);
        while *is_running || !self.queue.is_empty() {
            let before = self.calls.load(Ordering::SeqCst);
            let waited = self.paused.wait_timeout(is_running, STUCK_AFTER);
            let (guard, timeout) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
            is_running = guard;
            if timeout.timed_out() && self.calls.load(Ordering::SeqCst) == before {
                return;
            }
        }
    }

    fn call(&self, record: &UndeliveredRecord<'_>) {
        let _inside = user_code::enter();
        self.queue.count(1);
        if user_code::call(|| self.fallback.take(record)).is_err()
            && !self.panic_told.swap(true, Ordering::Relaxed)
        {
            log::error!("the fallback panicked, and a record is lost; this is said once");
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    /// Calls the fallback with what waits. Returns whether all of it was called for.
    fn call_for_all(&self) -> bool {
        self.queue.begin_look();
        let before = self.calls.load(Ordering::SeqCst);
        while self.calls.load(Ordering::SeqCst) - before < CALLS_PER_TURN {
            let Some((undelivered, _room)) = self.queue.take() else { return true };
            undelivered.for_each(&mut |record| self.call(record));
            // Here its memory goes back to the pool.
        }
        false
    }
}

impl Drop for FallbackCaller {
    /// A close has stopped the thread before; not so if the producer could not be built.
    fn drop(&mut self) {
        self.thread.stop(None);
    }
}

impl Job for FallbackCaller {
    fn run(self: Arc<Self>) {
        if std::mem::replace(&mut *lock(&self.is_running), true) {
            // The other thread looks once more before it ends.
            return;
        }
        let mut is_done = self.call_for_all();
        loop {
            let mut is_running = lock(&self.is_running);
            if !is_done || self.queue.is_empty() {
                *is_running = false;
                self.paused.notify_all();
                break;
            }
            drop(is_running);
            is_done = self.call_for_all();
        }
        if !is_done {
            self.thread.clone().push(self);
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
        let GivenToFallback { queue, reserved, partition, full } = match left_out {
            LeftOut::Given(given) => given,
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
