//! One outcome that any number of threads and tasks wait for.

use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::WakeList;
use crate::locking::lock;

/// See the module.
pub struct OneShot<T>(Mutex<State<T>>);

struct State<T> {
    outcome: Option<T>,
    /// The outcome was given to somebody.
    seen: bool,
    wakers: Vec<Waker>,
}

impl<T> Default for OneShot<T> {
    fn default() -> Self {
        OneShot(Mutex::new(State { outcome: None, seen: false, wakers: Vec::new() }))
    }
}

impl<T: Clone> OneShot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Each change is one assignment or push.
        lock(&self.0)
    }

    /// Sets the outcome, unless there is one, and wakes those who wait.
    pub fn set(&self, outcome: T) {
        let wakers = {
            let mut state = self.lock();
            state.outcome.get_or_insert(outcome);
            std::mem::take(&mut state.wakers)
        };
        WakeList::from(wakers).wake_all();
    }

    /// Whether somebody was given the outcome.
    pub fn is_seen(&self) -> bool {
        self.lock().seen
    }

    /// The outcome, or the promise to call the waker.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        match state.outcome.clone() {
            Some(outcome) => {
                state.seen = true;
                Poll::Ready(outcome)
            }
            None => {
                if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}
