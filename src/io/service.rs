//! The service thread: empties the stashes of topics that have become known. It calls the user's
//! partitioner, so it is no loop.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::SegQueue;

use super::clock::Clock;
use super::threads::OwnThread;
use crate::batch::{
    Destination, Drained, NeedRoom, RecordAccumulator, TopicLanes, drain_stash, take_room_through,
};
use crate::buffer::{AccountId, Segment, WaitTicket};
use crate::error::DeliveryErrorCause;
use crate::shard::PortTable;
use crate::sync::WakeList;

/// Bytes moved before another thread may have the stash.
const BYTES_PER_LOCK: usize = 256 * 1_024;

/// How other threads reach the service thread.
#[derive(Default)]
pub struct ServiceMailbox {
    topics: SegQueue<Arc<TopicLanes>>,
    stopped: AtomicBool,
    /// The thread moves stashed records, and may be in the user's partitioner.
    draining: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl ServiceMailbox {
    /// Has the topic's stash emptied.
    pub(super) fn drain(&self, topic: Arc<TopicLanes>) {
        self.topics.push(topic);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }
}

/// What the service thread is made of.
pub struct ServiceParts {
    /// Topics, pool.
    pub accumulator: Arc<RecordAccumulator>,
    /// Where lanes are posted.
    pub ports: Arc<PortTable>,
    /// Its mailbox.
    pub mailbox: Arc<ServiceMailbox>,
}

/// A running service thread.
pub struct ServiceHandle {
    mailbox: Arc<ServiceMailbox>,
    thread: Mutex<Option<OwnThread>>,
}

impl ServiceHandle {
    /// Starts the thread.
    pub fn start(parts: ServiceParts) -> io::Result<Self> {
        let mailbox = parts.mailbox.clone();
        let thread = OwnThread::spawn("tidegate-serv", move || {
            let mut service = Service { parts, jobs: VecDeque::new(), clock: Clock };
            if catch_unwind(AssertUnwindSafe(|| service.run())).is_err() {
                log::error!("the service thread panicked: stashed records will time out");
            }
        })?;
        let handle = thread.thread().clone();
        *mailbox.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
        Ok(ServiceHandle { mailbox, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread; with `wait`, returns when it has ended.
    pub fn stop(&self, wait: bool) {
        self.mailbox.stopped.store(true, Ordering::SeqCst);
        self.mailbox.unpark();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread.filter(|_| wait) else { return };
        // A partitioner that never returns must not keep the producer from closing.
        for _ in 0..PATIENCE_MS {
            if thread.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if !thread.is_finished() && self.mailbox.draining.load(Ordering::SeqCst) {
            log::error!("a partitioner does not return: its thread is left behind");
            return;
        }
        thread.join();
    }
}

/// How many milliseconds a closing producer waits for a partitioner to return.
const PATIENCE_MS: u32 = 100;

/// The wait for a sender that asks the partitioner.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

struct Job {
    topic: Arc<TopicLanes>,
    /// Room that the topic's next record waits for.
    waits: Option<(WaitTicket, NeedRoom)>,
    spare: Vec<Segment>,
    /// A sender asks the user's partitioner: look again soon.
    elsewhere: bool,
}

struct Service {
    parts: ServiceParts,
    jobs: VecDeque<Job>,
    clock: Clock,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Service {
    fn run(&mut self) {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        while !self.parts.mailbox.stopped.load(Ordering::SeqCst) {
            while let Some(topic) = self.parts.mailbox.topics.pop() {
                if !self.jobs.iter().any(|job| Arc::ptr_eq(&job.topic, &topic)) {
                    self.jobs.push_back(Job {
                        topic,
                        waits: None,
                        spare: Vec::new(),
                        elsewhere: false,
                    });
                }
            }
            let mut progress = false;
            for _ in 0..self.jobs.len() {
                let Some(mut job) = self.jobs.pop_front() else { break };
                let (done, moved) = self.work(&mut job, &waker);
                progress |= moved;
                if !done {
                    self.jobs.push_back(job);
                }
            }
            if progress || !self.parts.mailbox.topics.is_empty() {
                continue;
            }
            if self.jobs.iter().any(|job| job.elsewhere) {
                std::thread::park_timeout(LOOK_AGAIN);
                continue;
            }
            match self.next_expiry() {
                None => std::thread::park(),
                Some(at) => {
                    let wait = at.saturating_sub(self.clock.now()).max(1_000_000);
                    std::thread::park_timeout(Duration::from_nanos(wait));
                }
            }
        }
    }

    /// Returns whether the stash is empty, and whether anything was done.
    fn work(&self, job: &mut Job, waker: &Waker) -> (bool, bool) {
        job.elsewhere = false;
        self.expire(&job.topic);
        if let Some((ticket, need)) = &mut job.waits {
            match ticket.poll(&mut Context::from_waker(waker)) {
                Poll::Pending => return (false, false),
                Poll::Ready(()) => {
                    // Through the ticket, whose pledge keeps the room for it.
                    let need = *need;
                    take_room_through(ticket, need, &mut job.spare);
                    job.waits = None;
                }
            }
        }
        let accumulator = &self.parts.accumulator;
        let context = accumulator.append_context(&self.clock);
        let ports = &self.parts.ports;
        let mut wakes = WakeList::new();
        self.parts.mailbox.draining.store(true, Ordering::SeqCst);
        let outcome = drain_stash(
            accumulator,
            &job.topic,
            &context,
            (BYTES_PER_LOCK, &mut job.spare),
            &mut |lane| ports.post(lane),
            &mut wakes,
        );
        self.parts.mailbox.draining.store(false, Ordering::SeqCst);
        wakes.wake_all();
        accumulator.flush.notify();
        match outcome {
            Drained::Empty => (true, true),
            Drained::More => (false, true),
            Drained::NoRoom(account, need) => (false, self.await_room(job, account, need)),
            Drained::Elsewhere => {
                job.elsewhere = true;
                (false, false)
            }
        }
    }

    /// Registers for room. Returns whether to try again at once.
    fn await_room(&self, job: &mut Job, account: AccountId, need: NeedRoom) -> bool {
        match self.parts.accumulator.pool.wait(account, need.bytes) {
            Ok(ticket) => {
                job.waits = Some((ticket, need));
                // Loops that sleep over lingering batches must hear that memory is short.
                self.parts.ports.ring_all();
                true
            }
            Err(error) => {
                // Too many waiters, or a record that never fits: the latter was refused at send.
                log::warn!("topic {}: {error}", job.topic.name);
                false
            }
        }
    }

    fn expire(&self, topic: &TopicLanes) {
        let timeout = self.parts.accumulator.config.delivery_timeout;
        let Some(came_before) = self.clock.now().checked_sub(timeout) else { return };
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let after = Duration::from_nanos(timeout);
        let cause = DeliveryErrorCause::TimedOut { after, last: Some("no room".into()) };
        let mut wakes = WakeList::new();
        let failed = topic.lock_stash().fail(came_before, &destination, &cause, &mut wakes);
        wakes.wake_all();
        if failed > 0 {
            self.parts.accumulator.flush.notify();
        }
    }

    fn next_expiry(&self) -> Option<u64> {
        let timeout = self.parts.accumulator.config.delivery_timeout;
        let oldest = self.jobs.iter().filter_map(|job| job.topic.lock_stash().oldest_at()).min();
        oldest.map(|at| at.saturating_add(timeout))
    }
}
