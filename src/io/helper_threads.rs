//! A few threads for what an event loop must not wait for: name servers, files, and code of the
//! application's that may take long. They start with the jobs that need them, and end when there
//! are none. A job that hangs keeps its thread, also after the owner has gone.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::engine::sync::Generation;
use crate::locking::{ignore_poison, lock};
use crate::logging as log;
use crate::user_code;

/// A thread without a job ends after this.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// See the module. Dropped, its threads end with the jobs that they are at.
pub(super) struct HelperThreads {
    name: &'static str,
    /// Jobs that hang beyond so many hold others up.
    threads_max: usize,
    shared: Arc<Shared>,
    born: Generation,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A job was queued, or the owner is gone.
    news: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Of these, those that wait for a job.
    idle: usize,
    ended: bool,
}

impl HelperThreads {
    /// At most so many threads, all of this name.
    pub(super) fn new(name: &'static str, threads_max: usize) -> Self {
        HelperThreads { name, threads_max, shared: Arc::default(), born: Generation::current() }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.shared.lock().threads
    }

    /// Runs a job soon, on one of the threads. A panic in it is reported and harms no other.
    ///
    /// # Errors
    /// There is no thread, and none can be had; the job is dropped.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.jobs.push_back(Box::new(job));
        if state.jobs.len() > state.idle
            && state.threads < self.threads_max
            && let Err(error) = self.start_thread(&mut state)
            && state.threads == 0
        {
            let dropped = state.jobs.pop_back();
            drop(state);
            drop(dropped);
            return Err(error);
        }
        drop(state);
        self.shared.news.notify_one();
        Ok(())
    }

    fn start_thread(&self, state: &mut State) -> io::Result<()> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name(self.name.into());
        thread.spawn(move || {
            super::mark_own_thread();
            shared.work();
        })?;
        state.threads += 1;
        Ok(())
    }
}

impl Drop for HelperThreads {
    fn drop(&mut self) {
        if !self.born.is_current() {
            // In a fork's child: another thread may have held the lock at the fork, and none is
            // there to be ended.
            return;
        }
        let mut state = self.shared.lock();
        state.ended = true;
        let dropped = std::mem::take(&mut state.jobs);
        drop(state);
        drop(dropped);
        self.shared.news.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A thread's whole life.
    fn work(&self) {
        while let Some(job) = self.next() {
            if user_code::call(job).is_err() {
                log::error!("a job on a helper thread panicked");
            }
        }
    }

    /// The next job; `None` if the thread is to end, which is counted then.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.ended {
                break;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            let waited = self.news.wait_timeout(state, IDLE_MAX);
            let (after, timeout) = ignore_poison(waited);
            state = after;
            state.idle -= 1;
            if timeout.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_job_that_hangs_holds_up_no_other_and_a_panic_none_at_all() {
        let helpers = HelperThreads::new("helper", 4);
        let (hold, held) = channel::<()>();
        helpers.run(move || while held.recv().is_ok() {}).expect("a thread");
        let (sender, receiver) = channel();
        for number in 0..20 {
            let sender = sender.clone();
            helpers
                .run(move || {
                    assert!(number % 3 != 0, "a panic that belongs to the test");
                    sender.send(number).expect("the test waits");
                })
                .expect("a thread");
        }
        let mut done: Vec<_> = (0..13).map(|_| receiver.recv_timeout(LONG)).collect();
        done.sort_by_key(|number| *number.as_ref().expect("every job is done"));
        assert!(helpers.count() <= 4);
        drop(hold);
    }

    #[test]
    fn threads_end_with_their_owner() {
        let helpers = HelperThreads::new("helper", 4);
        let (sender, receiver) = channel::<()>();
        helpers.run(move || drop(sender)).expect("a thread");
        assert!(receiver.recv_timeout(LONG).is_err(), "the job was done");
        let shared = Arc::downgrade(&helpers.shared);
        drop(helpers);
        let begun = std::time::Instant::now();
        while shared.upgrade().is_some() {
            assert!(begun.elapsed() < LONG, "the thread has not ended");
            std::thread::yield_now();
        }
    }
}
