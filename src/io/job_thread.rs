//! A thread that runs jobs one after the other, started with the first.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crossbeam_queue::SegQueue;

use super::threads::{OwnThread, Watch};
use crate::engine::sync::block_on;
use crate::locking::lock;
use crate::logging as log;

/// Something to be done on the thread.
pub trait Job: Send + Sync {
    /// Does it.
    fn run(self: Arc<Self>);
}

/// The thread and its queue. Whoever adds jobs bounds their number.
///
/// The queue is no [`Mailbox`](crate::engine::sync::Mailbox): that drops what comes after its end,
/// and a job that is dropped is a callback that is never called. Here the thread ends only once the
/// queue is empty, and another thread is started for what comes later.
pub struct JobThread {
    name: &'static str,
    queue: Arc<Queue>,
    thread: Mutex<Option<OwnThread>>,
}

#[derive(Default)]
struct Queue {
    jobs: SegQueue<Arc<dyn Job>>,
    /// Of the thread, while it waits.
    waker: Mutex<Option<Waker>>,
    started: AtomicBool,
    ended: AtomicBool,
    /// The thread takes no more jobs: for one that is added now, another thread is started.
    finished: AtomicBool,
}

impl JobThread {
    /// Without a thread.
    pub fn new(name: &'static str) -> Self {
        JobThread { name, queue: Arc::default(), thread: Mutex::default() }
    }

    /// Starts the thread, unless it runs. Returns false once it has ended.
    ///
    /// # Errors
    /// The system starts no thread.
    #[inline]
    pub fn start(&self) -> io::Result<bool> {
        if self.queue.finished.load(Ordering::SeqCst) {
            return Ok(false);
        }
        if !self.queue.started.load(Ordering::Acquire) {
            self.spawn()?;
        }
        Ok(true)
    }

    #[cold]
    fn spawn(&self) -> io::Result<()> {
        let mut thread = lock(&self.thread);
        if !self.queue.started.load(Ordering::Acquire) {
            let queue = self.queue.clone();
            let name = self.name;
            *thread = Some(OwnThread::spawn(name, move || queue.run(name))?);
            self.queue.started.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Adds a job, on any thread. Once this thread has ended, as after a close that left an event
    /// loop behind, another one is started for what comes late: no event loop runs jobs. Two such
    /// threads may run side by side: the order of jobs holds until the close only.
    pub fn push(&self, job: Arc<dyn Job>) {
        self.queue.jobs.push(job);
        // Either this sees that the thread takes no more, or the thread sees the job.
        fence(Ordering::SeqCst);
        if !self.queue.finished.load(Ordering::SeqCst) {
            return self.queue.wake();
        }
        let (queue, name) = (self.queue.clone(), self.name);
        if OwnThread::spawn(name, move || queue.run_all(name)).is_err() {
            log::error!("no thread {name}: what came after the close is told to nobody");
        }
    }

    /// Ends the thread when its queue is empty; with `watch`, returns when it has ended or is stuck
    /// in code of the application's.
    pub fn stop(&self, watch: Option<&mut Watch>) {
        self.queue.ended.store(true, Ordering::SeqCst);
        self.queue.wake();
        let thread = {
            let mut thread = lock(&self.thread);
            if !self.queue.started.load(Ordering::Acquire) {
                // It never ran, and never will. In this order: who sees that it was started, and
                // adds a job, sees that it takes none.
                self.queue.finished.store(true, Ordering::SeqCst);
                self.queue.started.store(true, Ordering::SeqCst);
            }
            thread.take()
        };
        if let (Some(thread), Some(watch)) = (thread, watch) {
            thread.join_in_time(watch);
        }
    }
}

impl Queue {
    fn wake(&self) {
        let waker = lock(&self.waker).take();
        if let Some(own) = waker {
            own.wake();
        }
    }

    fn run(&self, name: &str) {
        let next = |context: &mut std::task::Context<'_>| {
            if let Some(job) = self.jobs.pop() {
                return Poll::Ready(Some(job));
            }
            // Registered first: a job that is added after the next look finds the waker.
            *lock(&self.waker) = Some(context.waker().clone());
            match self.jobs.pop() {
                Some(job) => Poll::Ready(Some(job)),
                None if self.ended.load(Ordering::SeqCst) => Poll::Ready(None),
                None => Poll::Pending,
            }
        };
        while let Some(job) = block_on(next) {
            run(job, name);
        }
        self.finished.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.run_all(name);
    }

    fn run_all(&self, name: &str) {
        while let Some(job) = self.jobs.pop() {
            run(job, name);
        }
    }
}

fn run(job: Arc<dyn Job>, name: &str) {
    if catch_unwind(AssertUnwindSafe(|| job.run())).is_err() {
        log::error!("{name}: a job panicked");
    }
}
