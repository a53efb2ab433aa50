//! Waiting until everything that was sent before has resolved.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::producer::Shared;
use crate::engine::batch::{LaneTail, TopicLanes, is_placing};
use crate::engine::sync::wait_until;
use crate::error::FlushError;
use crate::io::{ThreadDeadline, is_own_thread};

/// Resolves when every record sent before [`Producer::flush`](super::Producer::flush) was called
/// has resolved, successfully or not. It has begun when it is returned, polled or not.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// let orders = producer.topic("orders")?;
/// for number in 0..100 {
///     drop(orders.send("customer-42", &format!("item {number}"))?);
/// }
/// producer.flush().wait()?; // a future too
/// assert_eq!(cluster.high_watermark("orders", 0), 100);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "flush() begins at once, but only waiting tells when it is done"]
pub struct Flush {
    progress: Progress,
    refused: Option<FlushError>,
}

/// What is still to be waited for.
pub(super) struct Progress {
    shared: Arc<Shared>,
    /// Stashes that were not empty: done when `ended` has reached this number of runs.
    stashes: Vec<(Arc<TopicLanes>, u64)>,
    /// The callbacks that a flush waits for, once the records have resolved.
    callbacks: Option<u64>,
    /// The only topic that counts, if not all do.
    only: Option<Arc<TopicLanes>>,
    /// Lanes, and the batch number below which everything must have resolved.
    lanes: Vec<(Arc<LaneTail>, u64)>,
}

impl Progress {
    /// Seals every open batch and notes what to wait for. With `close`, nothing more is taken.
    pub(super) fn begin(shared: &Arc<Shared>, only: Option<&Arc<TopicLanes>>, close: bool) -> Self {
        let only = only.cloned();
        let mut progress = Progress {
            shared: shared.clone(),
            stashes: Vec::new(),
            callbacks: None,
            only,
            lanes: Vec::new(),
        };
        for topic in progress.topics() {
            let mut stash = topic.lock_stash();
            stash.closed |= close;
            if !stash.is_empty() {
                stash.flush_wanted = true;
                let target = stash.begun;
                drop(stash);
                progress.stashes.push((topic, target));
            }
        }
        // What is stashed was accepted, and goes to its lanes although they are marked.
        progress.seal(close);
        progress
    }

    fn topics(&self) -> Vec<Arc<TopicLanes>> {
        match &self.only {
            Some(topic) => vec![topic.clone()],
            None => self.shared.accumulator.topics(),
        }
    }

    fn seal(&mut self, close: bool) {
        let lanes = match &self.only {
            Some(topic) => topic.lanes().cloned().collect(),
            None => self.shared.accumulator.lanes(),
        };
        for lane in lanes {
            let (target, post) = lane.seal(close);
            if post {
                self.shared.ports.post(&lane);
            }
            if !lane.is_resolved_below(target) {
                self.lanes.push((lane, target));
            }
        }
    }

    /// Whether everything has resolved; if not, the task is woken when something has.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.shared.accumulator.flush.register(context.waker());
        if !self.stashes.is_empty() {
            self.stashes.retain(|(topic, target)| topic.lock_stash().ended < *target);
            if !self.stashes.is_empty() {
                return Poll::Pending;
            }
            // What was stashed is in the lanes now.
            let close = self.shared.accumulator.is_closed();
            self.seal(close);
        }
        self.lanes.retain(|(lane, target)| lane.resolved() < *target);
        let callbacks = &self.shared.callbacks;
        self.callbacks = self.callbacks.filter(|&flush| !callbacks.have_returned(flush));
        let is_done = self.lanes.is_empty() && self.callbacks.is_none();
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Flush {
    pub(super) fn begin(shared: &Arc<Shared>, only: Option<&Arc<TopicLanes>>) -> Self {
        let nothing = || Progress {
            shared: shared.clone(),
            stashes: Vec::new(),
            callbacks: None,
            only: None,
            lanes: Vec::new(),
        };
        if !shared.born.is_current() {
            return Flush { progress: nothing(), refused: Some(FlushError::Forked) };
        }
        // This thread is inside a partitioner that places a stashed record: a flush would wait for
        // that record.
        if is_placing() {
            return Flush { progress: nothing(), refused: Some(FlushError::OwnThread) };
        }
        let mut progress = Progress::begin(shared, only, false);
        // Those of other topics may be for records that linger on.
        progress.callbacks = only.map_or_else(|| shared.callbacks.begin_flush(), |_| None);
        Flush { progress, refused: None }
    }

    /// Blocks the calling thread until it is done: at most `delivery_timeout` for the records, and
    /// then until callbacks that were given before have returned.
    ///
    /// # Errors
    /// [`FlushError::OwnThread`] in a waker or a callback, and in a partitioner that places records
    /// which waited for their topic: there it would wait for ever.
    pub fn wait(mut self) -> Result<(), FlushError> {
        let timeout = is_own_thread().then_some(Duration::ZERO);
        let deadline = ThreadDeadline::after(timeout);
        let done =
            wait_until(|context| Pin::new(&mut self).poll(context), |parker| deadline.park(parker));
        done.unwrap_or(Err(FlushError::OwnThread))
    }
}

impl Future for Flush {
    type Output = Result<(), FlushError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(error) = &self.refused {
            return Poll::Ready(Err(error.clone()));
        }
        if !self.progress.shared.born.is_current() {
            return Poll::Ready(Err(FlushError::Forked));
        }
        self.progress.poll(context).map(Ok)
    }
}

impl std::fmt::Debug for Flush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flush").field("lanes", &self.progress.lanes.len()).finish_non_exhaustive()
    }
}
