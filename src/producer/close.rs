//! The end of a producer: drain within a timeout, fail the rest, end the threads.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::flush::Progress;
use super::producer::Running;
use crate::batch::{Destination, is_placing};
use crate::error::{CloseError, DeliveryErrorCause};
use crate::io::{ThreadDeadline, is_own_thread, spawn};
use crate::shard::Control;
use crate::sync::{Generation, WakeList, block_on, wait_until};

/// How long failing what is left may take: loops answer within a turn.
const FAIL_ALL_MAX: Duration = Duration::from_secs(10);

/// Resolves when the producer has closed: everything resolved, all threads ended. It has begun when
/// it is returned, polled or not. Clones of it, and later calls of `close`, give the same outcome.
#[derive(Clone)]
#[must_use = "close() begins at once, but only waiting tells when and how it ended"]
pub struct Close {
    outcome: Arc<OneShot>,
    born: Generation,
}

#[derive(Default)]
struct OneShot(Mutex<State>);

#[derive(Default)]
struct State {
    outcome: Option<Result<(), CloseError>>,
    wakers: Vec<Waker>,
}

impl OneShot {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment or push.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, outcome: Result<(), CloseError>) {
        let wakers = {
            let mut state = self.lock();
            state.outcome.get_or_insert(outcome);
            std::mem::take(&mut state.wakers)
        };
        let mut wakes = WakeList::new();
        for waker in wakers {
            wakes.push(waker);
        }
        wakes.wake_all();
    }
}

impl Close {
    /// Begins: from now on nothing is accepted.
    pub(super) fn begin(running: Arc<Running>, timeout: Duration) -> Self {
        let outcome = Arc::new(OneShot::default());
        let shared = running.shared.clone();
        shared.accumulator.set_closed();
        let begin = move || {
            let progress = Progress::begin(&shared, true);
            shared.accumulator.pool.wake_all();
            progress
        };
        // This thread may hold the lock of a stash that is to be closed.
        let begun = if is_placing() { None } else { Some(begin()) };
        let setter = outcome.clone();
        let threadless = running.clone();
        let job = move || {
            let progress = begun.unwrap_or_else(begin);
            let result = run(&running, progress, timeout);
            setter.set(result);
        };
        if let Err(error) = spawn("tidegate-close", job) {
            // Nobody can wait for anything: what is open fails, and the loops end by themselves.
            log::error!("no thread to close the producer with: {error}");
            fail_rest(&threadless);
            threadless.service.stop(false);
            threadless.metadata.stop(false);
            outcome.set(Err(CloseError::TimedOut { timeout }));
        }
        Close { outcome, born: Generation::current() }
    }

    /// An outcome that is known already.
    pub(super) fn refused(error: CloseError) -> Self {
        let outcome = Arc::new(OneShot::default());
        outcome.set(Err(error));
        Close { outcome, born: Generation::current() }
    }

    /// Blocks the calling thread until the producer has closed.
    ///
    /// # Errors
    /// [`CloseError::TimedOut`] if records had to be failed; [`CloseError::OwnThread`] in a waker,
    /// where it would wait for ever (the closing itself goes on).
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
        let mut state = self.outcome.lock();
        match &state.outcome {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}

impl std::fmt::Debug for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Close").finish_non_exhaustive()
    }
}

/// On the closing thread.
fn run(running: &Running, mut progress: Progress, timeout: Duration) -> Result<(), CloseError> {
    let deadline = ThreadDeadline::after(Some(timeout));
    let drained =
        wait_until(|context| progress.poll(context), |parker| deadline.park(parker)).is_some();
    if !drained {
        fail_rest(running);
        let deadline = ThreadDeadline::after(Some(FAIL_ALL_MAX));
        if wait_until(|context| progress.poll(context), |parker| deadline.park(parker)).is_none() {
            log::error!("an event loop did not answer while the producer closed");
        }
    }
    running.service.stop(true);
    running.metadata.stop(true);
    if drained { Ok(()) } else { Err(CloseError::TimedOut { timeout }) }
}

fn fail_rest(running: &Running) {
    let shared = &running.shared;
    for topic in shared.accumulator.topics() {
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let mut wakes = WakeList::new();
        let cause = DeliveryErrorCause::Closed;
        topic.lock_stash().fail(u64::MAX, &destination, &cause, &mut wakes);
        wakes.wake_all();
    }
    for port in shared.ports.iter() {
        port.send(Control::FailAll(DeliveryErrorCause::Closed));
    }
}
