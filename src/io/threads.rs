//! The threads that the producer starts.

use std::io;
use std::thread::{JoinHandle, Thread};

use super::mark_own_thread;
use crate::sync::Generation;

/// A running thread of tidegate's own.
#[derive(Debug)]
pub(super) struct OwnThread {
    handle: Option<JoinHandle<()>>,
    born: Generation,
}

impl OwnThread {
    /// Starts it. It counts as own: [`super::is_own_thread`].
    pub(super) fn spawn(name: &str, job: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let marked = move || {
            mark_own_thread();
            job();
        };
        let handle = std::thread::Builder::new().name(name.to_owned()).spawn(marked)?;
        Ok(OwnThread { handle: Some(handle), born: Generation::current() })
    }

    /// To unpark it by.
    pub(super) fn thread(&self) -> &Thread {
        self.handle().thread()
    }

    /// Whether joining it would not wait.
    pub(super) fn is_finished(&self) -> bool {
        self.handle().is_finished()
    }

    /// Waits for its end.
    pub(super) fn join(mut self) {
        if self.born.is_current()
            && let Some(handle) = self.handle.take()
        {
            // A panic was reported by the thread that had it.
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
