//! The end of a producer: drain within a timeout, fail the rest, end the threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::flush::Progress;
use super::producer::{Running, Shared};
use super::unsent::{HandBack, Left};
use crate::engine::batch::{Destination, is_placing};
use crate::engine::meter::ConnectionState;
use crate::engine::shard::Control;
use crate::engine::sync::{Generation, OneShot, WakeList, block_on, wait_until};
use crate::error::{CloseError, DeliveryErrorCause};
use crate::io::{
    InBackground, ThreadDeadline, Watch, as_own_thread, is_own_thread, run_watched, spawn,
};
use crate::logging as log;
use crate::problem::Problem;

/// How long failing what is left may take: loops answer within a turn.
const FAIL_ALL_MAX: Duration = Duration::from_secs(10);

/// A thread that is stuck in code of the application's may come back for so long after the timeout.
/// A close ends 100 ms after its timeout; the other half is for the rest of its work.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often threads are looked at while what is left is failed.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Resolves when the producer has closed: everything resolved, all threads ended. It has begun when
/// it is returned, polled or not. Clones of it, and later calls of `close`, give the same outcome.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use std::time::Duration;
/// let orders = producer.topic("orders")?;
/// let delivery = orders.send("customer-42", "paid")?;
/// let close = producer.close(Duration::from_secs(10)); // a future too
/// assert!(orders.send("customer-42", "too late").is_err());
/// close.wait()?;
/// assert_eq!(delivery.wait()?.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "close() begins at once, but only waiting tells when and how it ended"]
pub struct Close {
    outcome: Arc<OneShot<Result<(), CloseError>>>,
    born: Generation,
}

impl Close {
    /// Begins: from now on nothing is accepted.
    pub(super) fn begin(running: Arc<Running>, timeout: Duration) -> Self {
        Close::begin_with(running, timeout, None, |_| {})
    }

    /// The same, where what was never sent goes to `hand_back`.
    pub(super) fn begin_handing_back(
        running: Arc<Running>,
        timeout: Duration,
        hand_back: HandBack,
    ) -> Self {
        Close::begin_with(running, timeout, Some(hand_back), |_| {})
    }

    /// The same where nobody waits: how it ends is told to the log, and if the process ends before,
    /// that is.
    pub(super) fn in_background(running: Arc<Running>, timeout: Duration) {
        let pool = running.shared.accumulator.pool.clone();
        let left = InBackground::begin(move || pool.capacity() - pool.free_bytes());
        let done = move |outcome: &Result<(), CloseError>| {
            drop(left);
            if let Err(error) = outcome {
                log::warn!("a producer that was dropped (OnDrop::Detach) did not finish: {error}");
            }
        };
        drop(Close::begin_with(running, timeout, None, done));
    }

    fn begin_with(
        running: Arc<Running>,
        timeout: Duration,
        hand_back: Option<HandBack>,
        done: impl FnOnce(&Result<(), CloseError>) + Send + 'static,
    ) -> Self {
        let outcome = Arc::new(OneShot::default());
        let shared = running.shared.clone();
        let hand_back = shared.keeping(hand_back);
        shared.accumulator.set_closed();
        let begin = move || {
            let progress = Progress::begin(&shared, None, true);
            shared.accumulator.pool.wake_all();
            if let Some(spill) = &shared.spill {
                // Who waits for room on disk would wait for ever: no file is deleted any more.
                spill.room.notify();
            }
            progress
        };
        // A call from inside a partitioner that places stashed records leaves the work to the
        // closing thread. (The stash is unlocked during such a call, so nothing would hang here.)
        let begun = if is_placing() { None } else { Some(begin()) };
        let setter = outcome.clone();
        let threadless = running.clone();
        let job = move || {
            let progress = begun.unwrap_or_else(|| as_own_thread(begin));
            let result = run(&running, progress, timeout, hand_back);
            done(&result);
            as_own_thread(|| setter.set(result));
        };
        if let Err(error) = spawn("tidegate-close", job) {
            // Nobody can wait for anything: what is open fails, and the loops end by themselves.
            log::error!("no thread to close the producer with: {error}");
            drop(fail_rest(&threadless, None));
            threadless.stash_thread.stop(None);
            threadless.metadata.stop(None);
            threadless.events.stop(None);
            threadless.shared.callbacks.thread().stop(None);
            outcome.set(Err(CloseError::TimedOut { timeout, last: None }));
        }
        Close { outcome, born: Generation::current() }
    }

    /// An outcome that is known already.
    pub(super) fn refused(error: CloseError) -> Self {
        let outcome = Arc::new(OneShot::default());
        outcome.set(Err(error));
        Close { outcome, born: Generation::current() }
    }

    /// Whether somebody was given the outcome.
    pub(super) fn is_seen(&self) -> bool {
        self.outcome.is_seen()
    }

    /// Blocks the calling thread until the producer has closed.
    ///
    /// # Errors
    /// [`CloseError::TimedOut`] if records had to be failed; [`CloseError::Stuck`] if a thread does
    /// not return from code of the application's; [`CloseError::OwnThread`] in a waker, where it
    /// would wait for ever (the closing itself goes on).
    pub fn wait(mut self) -> Result<(), CloseError> {
        let mut poll = |context: &mut Context<'_>| Pin::new(&mut self).poll(context);
        if is_own_thread() {
            return match poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => Err(CloseError::OwnThread),
            };
        }
        block_on(poll)
    }
}

impl Future for Close {
    type Output = Result<(), CloseError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.born.is_current() {
            return Poll::Ready(Err(CloseError::Forked));
        }
        self.outcome.poll(context)
    }
}

impl std::fmt::Debug for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Close").finish_non_exhaustive()
    }
}

/// On the closing thread.
fn run(
    running: &Running,
    mut progress: Progress,
    timeout: Duration,
    hand_back: Option<HandBack>,
) -> Result<(), CloseError> {
    let deadline = ThreadDeadline::after(Some(timeout));
    let drained = wait_until(|context| progress.poll(context), |parker| deadline.park(parker));
    let drained = drained.is_some();
    let stood_in_the_way = if drained { None } else { what_is_wrong(&running.shared) };
    let mut watch = Watch::begin(deadline.left().unwrap_or(timeout).saturating_add(PATIENCE));
    if !drained {
        if let Some(spill) = &running.shared.spill {
            spill.hold();
        }
        let mut left = hand_back.is_some().then(Left::default);
        let wakes = as_own_thread(|| fail_rest(running, left.as_mut()));
        await_failed(running, &mut progress, &mut watch);
        if !wakes.is_empty() {
            // A waker that never returns blocks that helper thread only.
            run_watched("tidegate-wake", &mut watch, move || drop(wakes));
        }
        // Last, as it takes as long as the application likes.
        if let (Some(left), Some(hand_back)) = (left, hand_back) {
            left.hand_back(hand_back);
        }
    }
    running.stash_thread.stop(Some(&mut watch));
    running.metadata.stop(Some(&mut watch));
    if let Some(spill) = &running.shared.spill {
        // Nothing moves any more.
        spill.finish(&mut watch);
    }
    // After the other threads: their last events are still delivered.
    running.events.stop(Some(&mut watch));
    let mut threads = watch.left_behind().to_vec();
    if let Some(fallback) = &running.shared.fallback {
        fallback.wait_until_done(|| running.shared.callbacks.outstanding());
        // That may have used up the watch: callbacks get a new one, for what is left of the
        // timeout.
        watch = Watch::begin(deadline.left().unwrap_or(timeout).saturating_add(PATIENCE));
    }
    running.shared.callbacks.thread().stop(Some(&mut watch));
    for thread in watch.left_behind() {
        if !threads.contains(thread) {
            threads.push(thread.clone());
        }
    }
    match (threads.is_empty(), drained) {
        (false, _) => Err(CloseError::Stuck { threads, timeout }),
        (true, true) => Ok(()),
        (true, false) => Err(CloseError::TimedOut { timeout, last: stood_in_the_way }),
    }
}

/// Waits until the loops have failed what they were told to, or one cannot.
fn await_failed(running: &Running, progress: &mut Progress, watch: &mut Watch) {
    let limit = ThreadDeadline::after(Some(FAIL_ALL_MAX));
    loop {
        let look = ThreadDeadline::after(Some(LOOK_AGAIN));
        let done = wait_until(|context| progress.poll(context), |parker| look.park(parker));
        if done.is_some() || running.stash_thread.is_stuck(watch) | running.metadata.is_stuck(watch)
        {
            return;
        }
        if limit.left() == Some(Duration::ZERO) {
            log::error!("an event loop did not answer while the producer closed");
            return;
        }
    }
}

/// What is known to be wrong: with a broker, or with all of them.
fn what_is_wrong(shared: &Shared) -> Option<Problem> {
    let meters = &shared.accumulator.meters;
    let of_brokers = || {
        let standings = meters.brokers().0.into_iter().map(|meter| meter.standing());
        standings.filter(|it| it.state != ConnectionState::Ready).find_map(|it| it.problem)
    };
    meters.metadata().problem.or_else(of_brokers)
}

/// Fails what is left. Stashed records here, and their wakers are returned; the rest by the loops.
/// What is certainly not written is left in `left`, if somebody wants it.
fn fail_rest(running: &Running, left: Option<&mut Left>) -> WakeList {
    let shared = &running.shared;
    let mut wakes = WakeList::new();
    let unsent = left.as_ref().map(|left| left.in_lanes.clone());
    let mut in_stashes = Vec::new();
    for topic in shared.accumulator.topics() {
        let destination = Destination { topic: topic.name.clone(), partition: None };
        // What spills is kept, also what has waited in memory for its topic to be known.
        let cause = match &shared.spill {
            Some(_) => DeliveryErrorCause::LeftInSpill,
            None => {
                DeliveryErrorCause::Closed { last: shared.accumulator.meters.metadata().problem }
            }
        };
        let failed = topic.lock_stash().fail(u64::MAX, &destination, &cause, &mut wakes);
        topic.failed_in_stash.add_shared(failed.records as u64);
        match &unsent {
            Some(_) => in_stashes.push(failed),
            None => topic.give_back(failed),
        }
    }
    if let Some(left) = left {
        left.in_stashes = in_stashes;
    }
    if wakes.take_flushers() {
        shared.accumulator.flush.notify();
    }
    for port in shared.ports.iter() {
        let cause = DeliveryErrorCause::Closed { last: None };
        port.send(Control::FailAll(cause, unsent.clone()));
    }
    wakes
}
