//! The threads that the producer starts, and waiting for their end.

use std::io;
use std::sync::Arc;
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use super::clock::Clock;
use super::mark_own_thread;
use crate::engine::sync::Generation;
use crate::logging as log;
use crate::user_code::Whereabouts;

/// A thread that has been in one call of the application's code for so long is not waited for any
/// further when it should end. Wakers, policies and loggers take microseconds; this leaves room for
/// a machine that is busy, and is half of what a close may take beyond its timeout.
const STUCK_AFTER: Duration = Duration::from_millis(50);

/// The tidegate's own code on a thread that should end takes a turn at the most. One that takes
/// longer than this is broken, and is left behind as well.
const TURN_MAX: Duration = Duration::from_secs(10);

/// How often the end of a thread is looked for, at first and at last.
const LOOKS: [Duration; 2] = [Duration::from_micros(20), Duration::from_millis(1)];

/// A running thread of tidegate's own.
#[derive(Debug)]
pub(super) struct OwnThread {
    handle: Option<JoinHandle<()>>,
    whereabouts: Arc<Whereabouts>,
    born: Generation,
}

impl OwnThread {
    /// Starts it. It counts as own: [`super::is_own_thread`].
    pub(super) fn spawn(name: &str, job: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let whereabouts = Whereabouts::new(name);
        let own = whereabouts.clone();
        let marked = move || {
            mark_own_thread();
            own.follow();
            job();
        };
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(marked)?;
        Ok(OwnThread { handle: Some(handle), whereabouts, born: Generation::current() })
    }

    /// To unpark it by.
    pub(super) fn thread(&self) -> &Thread {
        self.handle().thread()
    }

    /// Whether it is in code of the application's.
    pub(super) fn whereabouts(&self) -> &Arc<Whereabouts> {
        &self.whereabouts
    }

    /// Waits for its end, as `watch` allows; else it is left behind.
    pub(super) fn join(mut self, watch: &mut Watch) {
        let ended = watch.wait(&self.whereabouts.clone(), || self.handle().is_finished());
        if ended
            && self.born.is_current()
            && let Some(handle) = self.handle.take()
        {
            // A panic was reported by the thread that had it.
            let _ = handle.join();
        }
    }

    /// Waits for its end as long as `watch` is patient, whatever it does; else it is left behind,
    /// and goes on.
    pub(super) fn join_in_time(mut self, watch: &mut Watch) {
        let ended = watch.wait_in_time(&self.whereabouts.clone(), || self.handle().is_finished());
        if ended
            && self.born.is_current()
            && let Some(handle) = self.handle.take()
        {
            let _ = handle.join();
        }
    }

    fn handle(&self) -> &JoinHandle<()> {
        self.handle.as_ref().expect("only joining takes it, and consumes this")
    }
}

impl Drop for OwnThread {
    /// Detaches it. Not in a fork's child, where it does not exist: its id may be that of one of
    /// the child's threads by now.
    fn drop(&mut self) {
        if !self.born.is_current() {
            std::mem::forget(self.handle.take());
        }
    }
}

/// Runs `job` on a thread of its own, and waits for it as `watch` allows.
pub fn run_watched(name: &str, watch: &mut Watch, job: impl FnOnce() + Send + 'static) {
    match OwnThread::spawn(name, job) {
        Ok(thread) => thread.join(watch),
        Err(error) => log::error!("no thread {name}: {error}"),
    }
}

/// Watches threads that should end, and tells those that are stuck in code of the application's.
#[derive(Debug)]
pub struct Watch {
    /// Until then, nanoseconds, monotonic, a thread that is stuck may still come back.
    patience: u64,
    /// Threads that were inside when they were looked at, in which call, and since when.
    seen: Vec<(Arc<Whereabouts>, u64, u64)>,
    left_behind: Vec<String>,
}

impl Watch {
    /// Begins to watch. Threads that are stuck are waited for until `patience` has passed.
    pub fn begin(patience: Duration) -> Self {
        let patience = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let patience = Clock.now().saturating_add(patience);
        Watch { patience, seen: Vec::new(), left_behind: Vec::new() }
    }

    /// The names of those that were not waited for.
    pub fn left_behind(&self) -> &[String] {
        &self.left_behind
    }

    /// Looks at a thread: whether it has been in the same call for [`STUCK_AFTER`], as far as it
    /// was looked at.
    pub(super) fn is_stuck(&mut self, whereabouts: &Arc<Whereabouts>) -> bool {
        let now = Clock.now();
        let known = self.seen.iter().position(|(known, ..)| Arc::ptr_eq(known, whereabouts));
        match (whereabouts.inside(), known) {
            (None, None) => false,
            (None, Some(index)) => {
                self.seen.swap_remove(index);
                false
            }
            (Some(call), None) => {
                self.seen.push((whereabouts.clone(), call, now));
                false
            }
            (Some(call), Some(index)) => {
                let (_, seen, since) = &mut self.seen[index];
                if *seen != call {
                    (*seen, *since) = (call, now);
                }
                now - *since >= STUCK_AFTER.as_nanos() as u64
            }
        }
    }

    /// Waits until `ended`, which returns true; false, and the thread's name is noted, if it is
    /// stuck.
    pub(super) fn wait(
        &mut self,
        whereabouts: &Arc<Whereabouts>,
        mut ended: impl FnMut() -> bool,
    ) -> bool {
        let give_up = Clock.now().max(self.patience).saturating_add(TURN_MAX.as_nanos() as u64);
        self.wait_until(whereabouts, give_up, &mut ended)
    }

    /// The same for a thread that calls the application all the time: it may have as much to do as
    /// it likes, and is left behind when patience ends.
    pub(super) fn wait_in_time(
        &mut self,
        whereabouts: &Arc<Whereabouts>,
        mut ended: impl FnMut() -> bool,
    ) -> bool {
        let give_up = Clock.now().saturating_add(STUCK_AFTER.as_nanos() as u64).max(self.patience);
        self.wait_until(whereabouts, give_up, &mut ended)
    }

    fn wait_until(
        &mut self,
        whereabouts: &Arc<Whereabouts>,
        give_up: u64,
        ended: &mut dyn FnMut() -> bool,
    ) -> bool {
        let mut pause = LOOKS[0];
        while !ended() {
            let stuck = self.is_stuck(whereabouts);
            let now = Clock.now();
            if stuck && now >= self.patience || now >= give_up {
                let name = whereabouts.thread();
                if !self.left_behind.iter().any(|known| known == name) {
                    self.left_behind.push(name.to_owned());
                }
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LOOKS[1]);
        }
        true
    }
}
