//! The stash thread: empties the stashes of topics that have become known, and fails what has
//! waited there for too long. The application's own partitioners are asked by others
//! (`partition_workers`), so that one that never returns holds up its own topic only.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::clock::Clock;
use super::partition_workers::Workers;
use super::threads::{OwnThread, Watch};
use crate::engine::batch::{
    Destination, Drained, NeedRoom, RecordAccumulator, TopicLanes, drain_stash, take_room_through,
};
use crate::engine::buffer::{AccountId, Segment, WaitTicket};
use crate::engine::shard::PortTable;
use crate::engine::sync::{Mailbox, Parker, WakeList};
use crate::error::DeliveryErrorCause;
use crate::locking::lock;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// Bytes moved before another thread may have the stash.
const BYTES_PER_LOCK: usize = 256 * 1_024;

enum Message {
    /// This topic's stash is to be emptied.
    Drain(Arc<TopicLanes>),
    Stop,
}

/// How other threads reach the stash thread.
pub struct StashMailbox {
    messages: Mailbox<Message>,
    /// Where the thread sleeps.
    parker: Arc<Parker>,
}

impl StashMailbox {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        let parker = Arc::<Parker>::default();
        let messages = Mailbox::new(Arc::default(), parker.clone());
        Arc::new(StashMailbox { messages, parker })
    }

    /// Has the topic's stash emptied.
    pub(super) fn drain(&self, topic: Arc<TopicLanes>) {
        self.messages.send(Message::Drain(topic));
    }

    /// By a partition worker: a job is done.
    pub(super) fn ring(&self) {
        self.messages.ring();
    }
}

/// What the stash thread is made of.
pub struct StashThreadParts {
    /// Topics, pool.
    pub accumulator: Arc<RecordAccumulator>,
    /// Where lanes are posted.
    pub ports: Arc<PortTable>,
    /// Its mailbox.
    pub mailbox: Arc<StashMailbox>,
}

/// A running stash thread, and those that it has.
pub struct StashThread {
    mailbox: Arc<StashMailbox>,
    thread: Mutex<Option<OwnThread>>,
    workers: Arc<Workers>,
}

impl StashThread {
    /// Starts the thread.
    pub fn start(parts: StashThreadParts) -> io::Result<Self> {
        let (mailbox, workers) = (parts.mailbox.clone(), Arc::<Workers>::default());
        let mut keeper = StashKeeper {
            parts: Arc::new(parts),
            jobs: VecDeque::new(),
            away: Vec::new(),
            workers: workers.clone(),
            watch: Watch::begin(Duration::ZERO),
            stopped: false,
        };
        let ended = mailbox.clone();
        let thread = OwnThread::spawn("tidegate-stash", move || {
            if catch_unwind(AssertUnwindSafe(|| keeper.run())).is_err() {
                log::error!("the stash thread panicked: stashed records will time out");
            }
            ended.messages.end();
        })?;
        Ok(StashThread { mailbox, thread: Mutex::new(Some(thread)), workers })
    }

    /// Ends the threads; with `watch`, returns when they have ended or are stuck in code of the
    /// application's.
    pub fn stop(&self, mut watch: Option<&mut Watch>) {
        self.mailbox.messages.send(Message::Stop);
        let thread = lock(&self.thread).take();
        if let (Some(thread), Some(watch)) = (thread, &mut watch) {
            thread.join(watch);
        }
        self.workers.stop(watch);
    }

    /// Whether one of the threads is stuck in code of the application's.
    pub fn is_stuck(&self, watch: &mut Watch) -> bool {
        let thread = lock(&self.thread);
        let stuck = thread.as_ref().is_some_and(|thread| watch.is_stuck(thread.whereabouts()));
        stuck | self.workers.is_stuck(watch)
    }
}

/// How long the stash thread waits before it looks again whether another thread has finished
/// asking the partitioner, or whether a partition worker is free.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A topic whose stash is to be emptied.
pub(super) struct Job {
    topic: Arc<TopicLanes>,
    /// Room that the topic's next record waits for.
    waits: Option<(WaitTicket, NeedRoom)>,
    spare: Vec<Segment>,
    /// Another thread was asking the user's partitioner ([`Drained::Elsewhere`]): look again soon.
    elsewhere: bool,
}

/// A topic whose job another thread has.
struct Away {
    topic: Arc<TopicLanes>,
    /// It was asked for meanwhile: once more when the job is back.
    again: bool,
}

struct StashKeeper {
    parts: Arc<StashThreadParts>,
    jobs: VecDeque<Job>,
    away: Vec<Away>,
    workers: Arc<Workers>,
    /// Of the workers.
    watch: Watch,
    stopped: bool,
}

impl StashThreadParts {
    /// Moves what is stashed, and what comes of that.
    pub(super) fn drain(&self, job: &mut Job) -> Drained {
        let accumulator = &self.accumulator;
        let context = accumulator.append_context(&job.topic.settings, &Clock);
        let mut wakes = WakeList::new();
        let drained = drain_stash(
            accumulator,
            &job.topic,
            &context,
            (BYTES_PER_LOCK, &mut job.spare),
            &mut |lane| self.ports.post(lane),
            &mut wakes,
        );
        wakes.wake_all();
        if wakes.take_flushers() {
            accumulator.flush.notify();
        }
        drained
    }
}

impl StashKeeper {
    fn run(&mut self) {
        let waker = Waker::from(self.parts.mailbox.parker.clone());
        loop {
            self.take_messages();
            if self.stopped {
                return;
            }
            let mut progress = self.take_done();
            for _ in 0..self.jobs.len() {
                let Some(job) = self.jobs.pop_front() else { break };
                progress |= self.work(job, &waker);
            }
            for away in &self.away {
                self.expire(&away.topic);
            }
            if !progress {
                self.wait();
            }
        }
    }

    fn take_messages(&mut self) {
        while let Some(message) = self.parts.mailbox.messages.pop() {
            let topic = match message {
                Message::Drain(topic) => topic,
                Message::Stop => {
                    self.stopped = true;
                    return;
                }
            };
            let is_same = |other: &Arc<TopicLanes>| Arc::ptr_eq(other, &topic);
            if let Some(away) = self.away.iter_mut().find(|away| is_same(&away.topic)) {
                away.again = true;
            } else if !self.jobs.iter().any(|job| is_same(&job.topic)) {
                let (waits, spare) = (None, Vec::new());
                self.jobs.push_back(Job { topic, waits, spare, elsewhere: false });
            }
        }
    }

    /// Takes back what other threads have moved. Returns whether there was anything.
    fn take_done(&mut self) -> bool {
        let done = self.workers.take_done();
        let any = !done.is_empty();
        for (job, drained) in done {
            let away = self.away.iter().position(|away| Arc::ptr_eq(&away.topic, &job.topic));
            let again = away.is_some_and(|index| self.away.swap_remove(index).again);
            let drained = if again && drained == Drained::Empty { Drained::More } else { drained };
            self.follow_up(job, drained);
        }
        any
    }

    fn wait(&mut self) {
        let waiting = self.workers.has_waiting();
        if waiting {
            self.workers.reinforce(&self.parts, &mut self.watch);
        }
        let timeout = match waiting || self.jobs.iter().any(|job| job.elsewhere) {
            true => Some(LOOK_AGAIN),
            false => self
                .next_expiry()
                .map(|at| Duration::from_nanos(at.saturating_sub(Clock.now()).max(1_000_000))),
        };
        let StashMailbox { messages, parker } = &*self.parts.mailbox;
        messages.prepare_to_sleep();
        // Room that a job waits for wakes the parker itself, which then does not sleep.
        if messages.is_empty() && !self.workers.has_done() {
            match timeout {
                Some(timeout) => parker.park_timeout(timeout),
                None => parker.park(),
            }
        }
        messages.awake();
    }

    /// Returns whether anything was done.
    fn work(&mut self, mut job: Job, waker: &Waker) -> bool {
        job.elsewhere = false;
        self.expire(&job.topic);
        if let Some((ticket, need)) = &mut job.waits {
            match ticket.poll(&mut Context::from_waker(waker)) {
                Poll::Pending => {
                    self.jobs.push_back(job);
                    return false;
                }
                Poll::Ready(()) => {
                    // Through the ticket, whose pledge keeps the room for it.
                    let need = *need;
                    if need != NeedRoom::LEVEL {
                        take_room_through(ticket, need, &mut job.spare);
                    }
                    job.waits = None;
                }
            }
        }
        if job.topic.partitioner.is_own() {
            let topic = job.topic.clone();
            match self.workers.hand_over(job, &self.parts, &mut self.watch) {
                Ok(()) => {
                    self.away.push(Away { topic, again: false });
                    return true;
                }
                Err(back) => job = back,
            }
        }
        let drained = self.parts.drain(&mut job);
        self.follow_up(job, drained)
    }

    /// Returns whether anything was done.
    fn follow_up(&mut self, mut job: Job, drained: Drained) -> bool {
        let progress = match drained {
            Drained::Empty => return true,
            Drained::More => true,
            Drained::NoRoom(account, need) => self.await_room(&mut job, account, need),
            Drained::Elsewhere => {
                job.elsewhere = true;
                false
            }
        };
        self.jobs.push_back(job);
        progress
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
                // A record that never fits, which was refused at send.
                log::warn!("topic {}: {error}", job.topic.name);
                false
            }
        }
    }

    fn expire(&self, topic: &TopicLanes) {
        let timeout = topic.settings.delivery_timeout;
        let Some(came_before) = Clock.now().checked_sub(timeout) else { return };
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let after = Duration::from_nanos(timeout);
        let text = "buffer_memory had no room to move it from its topic's stash to a batch";
        let problem = Problem::new(ProblemKind::Limit, text);
        let cause = DeliveryErrorCause::TimedOut { after, last: Some(problem) };
        let mut wakes = WakeList::new();
        let failed = topic.lock_stash().fail(came_before, &destination, &cause, &mut wakes);
        topic.failed_in_stash.add_shared(failed.records as u64);
        topic.give_back(failed);
        wakes.wake_all();
        if wakes.take_flushers() {
            self.parts.accumulator.flush.notify();
        }
    }

    fn next_expiry(&self) -> Option<u64> {
        let jobs = self.jobs.iter().map(|job| &job.topic);
        let topics = jobs.chain(self.away.iter().map(|away| &away.topic));
        let due = topics.filter_map(|topic| {
            let oldest = topic.lock_stash().oldest_at()?;
            Some(oldest.saturating_add(topic.settings.delivery_timeout))
        });
        due.min()
    }
}
