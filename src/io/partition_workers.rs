//! Threads that move stashed records whose partitions the application's own partitioner chooses.
//!
//! One is enough as long as partitioners return. One that does not keeps its thread, and another
//! thread takes the topics that wait behind it, up to [`WORKERS_MAX`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::stash_thread::{Job, StashThreadParts};
use super::threads::{OwnThread, Watch};
use crate::engine::batch::Drained;
use crate::locking::{ignore_poison, lock};
use crate::logging as log;

/// Threads of one producer, at the most. Once so many partitioners never return, other topics with
/// partitioners of the application's wait too. A thread costs a stack, and more than a few stuck
/// partitioners are likely to be one partitioner.
const WORKERS_MAX: usize = 16;

/// The threads, and what they share with the stash thread.
#[derive(Default)]
pub(super) struct Workers {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    done: Vec<(Job, Drained)>,
    /// Threads that wait for a job.
    idle: usize,
    threads: Vec<OwnThread>,
    started: usize,
    ended: bool,
}

impl Workers {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one push, pop or assignment.
        lock(&self.state)
    }

    /// Has a thread move what is stashed. `Err` if there is no thread and none could be started.
    pub(super) fn hand_over(
        self: &Arc<Self>,
        job: Job,
        parts: &Arc<StashThreadParts>,
        watch: &mut Watch,
    ) -> Result<(), Job> {
        self.lock().queue.push_back(job);
        self.news.notify_one();
        if self.reinforce(parts, watch) {
            return Ok(());
        }
        match self.lock().queue.pop_back() {
            Some(job) => Err(job),
            None => Ok(()),
        }
    }

    /// Starts a thread if jobs wait and all that there are are stuck. Returns whether there is one.
    pub(super) fn reinforce(
        self: &Arc<Self>,
        parts: &Arc<StashThreadParts>,
        watch: &mut Watch,
    ) -> bool {
        let mut state = self.lock();
        let stuck = state.threads.iter().filter(|thread| watch.is_stuck(thread.whereabouts()));
        let all_stuck = stuck.count() == state.threads.len();
        let full = state.threads.len() == WORKERS_MAX;
        if state.queue.is_empty() || state.idle > 0 || !all_stuck || full || state.ended {
            return true;
        }
        let before = state.threads.last().map(|thread| thread.whereabouts().clone());
        let name = format!("tidegate-part-{}", state.started);
        let (workers, for_it) = (self.clone(), parts.clone());
        let spawned = OwnThread::spawn(&name, move || workers.run(&for_it));
        let result = spawned.map(|thread| {
            state.started += 1;
            state.threads.push(thread);
        });
        let any = !state.threads.is_empty();
        drop(state);
        // Not under the lock: the logger may never return.
        if let Some(stuck) = before {
            let stuck = stuck.thread();
            log::warn!("{stuck}: a partitioner does not return; its topic waits, others go on");
        }
        if let Err(error) = result {
            log::error!("no thread to ask partitioners with: {error}");
        }
        any
    }

    /// A thread's work: moves the stashes that it is handed. Ends when the producer does, or when
    /// another thread is idle already: one is enough.
    fn run(&self, parts: &StashThreadParts) {
        let own = std::thread::current().id();
        let mut state = self.lock();
        loop {
            if state.ended {
                return;
            }
            if let Some(mut job) = state.queue.pop_front() {
                drop(state);
                let drained = parts.drain(&mut job);
                state = self.lock();
                state.done.push((job, drained));
                parts.mailbox.ring();
                continue;
            }
            if state.idle > 0 {
                state.threads.retain(|thread| thread.thread().id() != own);
                return;
            }
            state.idle += 1;
            state = ignore_poison(self.news.wait(state));
            state.idle -= 1;
        }
    }

    /// What has been moved since the last call, and how it ended.
    pub(super) fn take_done(&self) -> Vec<(Job, Drained)> {
        std::mem::take(&mut self.lock().done)
    }

    /// Whether something has been moved since the last call of [`Workers::take_done`].
    pub(super) fn has_done(&self) -> bool {
        !self.lock().done.is_empty()
    }

    /// Whether jobs wait for a thread.
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Whether one of the threads is stuck.
    pub(super) fn is_stuck(&self, watch: &mut Watch) -> bool {
        let state = self.lock();
        let stuck = state.threads.iter().filter(|thread| watch.is_stuck(thread.whereabouts()));
        stuck.count() > 0
    }

    /// Ends the threads; with `watch`, waits for those that are not stuck.
    pub(super) fn stop(&self, watch: Option<&mut Watch>) {
        let mut state = self.lock();
        state.ended = true;
        state.queue.clear();
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.news.notify_all();
        let Some(watch) = watch else { return };
        for thread in threads {
            thread.join(watch);
        }
    }
}
