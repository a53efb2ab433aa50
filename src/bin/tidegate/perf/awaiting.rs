//! Takes the time of acknowledgements on the thread that handles them.
//!
//! The sender hands records over in groups of neighbours. Of a group it awaits the first and the
//! last record with the group's [`Mark`] as waker: neighbours lie in the same batch, or in two. The
//! event loop that resolves a batch calls the waker, which notes the time and the group; the
//! reaper's thread then takes the outcomes. So the time is the event loop's, also if the reaper is
//! late. Records in between that a wake leaves open are awaited then.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_queue::SegQueue;
use tidegate::{Delivery, DeliveryError, RecordMetadata};

/// Records of a group at the most.
pub(super) const GROUP_MAX: usize = 64;
/// Records between sender and reaper at the most. What is not acknowledged is in the producer's
/// buffer; this bounds what is, where the reaper cannot keep up.
const RECORDS_MAX: u64 = 1 << 20;
/// How soon a sender looks again that waits for the reaper.
const SENDER_WAIT: Duration = Duration::from_micros(200);

type Outcome = Result<RecordMetadata, DeliveryError>;

/// A record on its way.
pub(super) struct Awaited {
    /// Which one, from 0.
    pub(super) index: u64,
    /// When its latency begins, in nanoseconds of the [`Board`]'s clock.
    pub(super) begun: u64,
    /// Bytes of its value.
    pub(super) bytes: usize,
    way: Way,
}

enum Way {
    Unawaited(Delivery),
    /// The group's waker will be called.
    Awaited(Delivery),
    /// It had resolved when it was to be awaited, at this time.
    Resolved(u64, Outcome),
    /// The outcome was given out.
    Over,
}

/// A record that is resolved.
pub(super) struct Resolved {
    /// Which one, from 0.
    pub(super) index: u64,
    /// When its latency began, and when it ended: nanoseconds of the [`Board`]'s clock.
    pub(super) begun: u64,
    pub(super) at: u64,
    /// Bytes of its value.
    pub(super) bytes: usize,
    pub(super) outcome: Outcome,
}

impl Awaited {
    /// Registers the waker, unless the record has resolved: then takes the outcome.
    fn register(&mut self, waker: &Waker, board: &Board) {
        self.way = match std::mem::replace(&mut self.way, Way::Over) {
            Way::Unawaited(mut delivery) => {
                match Pin::new(&mut delivery).poll(&mut Context::from_waker(waker)) {
                    Poll::Ready(outcome) => Way::Resolved(board.now(), outcome),
                    Poll::Pending => Way::Awaited(delivery),
                }
            }
            way => way,
        };
    }

    /// The outcome and its time, if it is known; `at` is the time of those that just became known.
    /// One that was awaited and is not known is awaited again: a wake may only say that the record
    /// went from the stash to its batch, or that the batch was split.
    fn take(&mut self, at: u64, waker: &Waker) -> Option<Resolved> {
        let (at, outcome) = match &mut self.way {
            Way::Unawaited(delivery) => (at, delivery.try_take()?),
            Way::Awaited(delivery) => {
                match Pin::new(delivery).poll(&mut Context::from_waker(waker)) {
                    Poll::Ready(outcome) => (at, outcome),
                    Poll::Pending => return None,
                }
            }
            Way::Resolved(..) => match std::mem::replace(&mut self.way, Way::Over) {
                Way::Resolved(at, outcome) => (at, outcome),
                _ => return None,
            },
            Way::Over => return None,
        };
        self.way = Way::Over;
        let (index, begun, bytes) = (self.index, self.begun, self.bytes);
        Some(Resolved { index, begun, at, bytes, outcome })
    }

    fn is_over(&self) -> bool {
        matches!(self.way, Way::Over)
    }

    fn is_awaited(&self) -> bool {
        matches!(self.way, Way::Awaited(_))
    }
}

/// What sender, event loops and reaper share.
pub(super) struct Board {
    start: Instant,
    reaper: Thread,
    groups: SegQueue<Group>,
    woken: SegQueue<u64>,
    sent: AtomicU64,
    reaped: AtomicU64,
    pub(super) sending_ended: AtomicBool,
}

struct Group {
    mark: Arc<Mark>,
    records: Vec<Awaited>,
}

/// A group's waker.
struct Mark {
    group: u64,
    /// When it was last woken; 0 if it was not since the reaper looked.
    at: AtomicU64,
    board: Arc<Board>,
}

impl Wake for Mark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.at.store(self.board.now(), Ordering::Release);
        self.board.woken.push(self.group);
        self.board.reaper.unpark();
    }
}

impl Board {
    /// For a reaper on the calling thread.
    pub(super) fn new() -> Arc<Board> {
        Arc::new(Board {
            start: Instant::now(),
            reaper: thread::current(),
            groups: SegQueue::new(),
            woken: SegQueue::new(),
            sent: AtomicU64::new(0),
            reaped: AtomicU64::new(0),
            sending_ended: AtomicBool::new(false),
        })
    }

    /// Nanoseconds since the start; never 0.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// The sender sends no more.
    pub(super) fn end_sending(&self) {
        self.sending_ended.store(true, Ordering::Release);
        self.reaper.unpark();
    }
}

/// The sender's end.
pub(super) struct Groups {
    board: Arc<Board>,
    mark: Arc<Mark>,
    waker: Waker,
    records: Vec<Awaited>,
}

impl Groups {
    pub(super) fn new(board: Arc<Board>) -> Groups {
        let (mark, waker) = Groups::mark(&board, 0);
        Groups { board, mark, waker, records: Vec::with_capacity(GROUP_MAX) }
    }

    fn mark(board: &Arc<Board>, group: u64) -> (Arc<Mark>, Waker) {
        let mark = Arc::new(Mark { group, at: AtomicU64::new(0), board: board.clone() });
        let waker = Waker::from(mark.clone());
        (mark, waker)
    }

    /// Adds a record that was just sent.
    pub(super) fn add(&mut self, index: u64, begun: u64, bytes: usize, delivery: Delivery) {
        self.records.push(Awaited { index, begun, bytes, way: Way::Unawaited(delivery) });
        match self.records.len() {
            1 => self.await_last(),
            GROUP_MAX => self.hand_over(),
            _ => {}
        }
    }

    fn await_last(&mut self) {
        if let Some(record) = self.records.last_mut() {
            record.register(&self.waker, &self.board);
        }
    }

    /// Hands what was added to the reaper; waits where that is far behind.
    pub(super) fn hand_over(&mut self) {
        if self.records.is_empty() {
            return;
        }
        self.await_last();
        let board = &self.board;
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(GROUP_MAX));
        let sent = board.sent.fetch_add(records.len() as u64, Ordering::Relaxed);
        let next = self.mark.group + 1;
        board.groups.push(Group { mark: self.mark.clone(), records });
        board.reaper.unpark();
        while sent.saturating_sub(board.reaped.load(Ordering::Relaxed)) > RECORDS_MAX {
            thread::sleep(SENDER_WAIT);
        }
        (self.mark, self.waker) = Groups::mark(&self.board, next);
    }
}

/// The reaper's end.
pub(super) struct Reaper {
    board: Arc<Board>,
    /// By number, from `first` on; `None` once all of it is resolved.
    groups: VecDeque<Option<Group>>,
    first: u64,
}

impl Reaper {
    pub(super) fn new(board: Arc<Board>) -> Reaper {
        Reaper { board, groups: VecDeque::new(), first: 0 }
    }

    /// Gives what has resolved to `each`; whether there was any work.
    pub(super) fn turn(&mut self, mut each: impl FnMut(Resolved)) -> bool {
        let mut worked = false;
        while let Some(group) = self.board.groups.pop() {
            worked = true;
            let number = group.mark.group;
            debug_assert_eq!(number, self.first + self.groups.len() as u64);
            self.groups.push_back(Some(group));
            // It may have been woken before it came here.
            self.sweep(number, &mut each);
        }
        while let Some(number) = self.board.woken.pop() {
            worked = true;
            self.sweep(number, &mut each);
        }
        worked
    }

    /// Whether everything that was sent is resolved and no more will come.
    pub(super) fn is_done(&self) -> bool {
        let ended = self.board.sending_ended.load(Ordering::Acquire);
        ended && self.groups.is_empty() && self.board.groups.is_empty()
    }

    fn sweep(&mut self, number: u64, each: &mut impl FnMut(Resolved)) {
        let Some(index) = number.checked_sub(self.first) else { return };
        // Beyond the end: a group that the sender still fills. It is swept when it comes.
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(Some(group)) = self.groups.get_mut(index) else { return };
        let waker = Waker::from(group.mark.clone());
        let mut resolved = 0;
        loop {
            // Without a wake since the last look it is this look that finds it.
            let woken = group.mark.at.swap(0, Ordering::AcqRel);
            let at = if woken == 0 { self.board.now() } else { woken };
            let before = group.records.len();
            group.records.retain_mut(|record| {
                let taken = record.take(at, &waker);
                taken.into_iter().for_each(&mut *each);
                !record.is_over()
            });
            resolved += before - group.records.len();
            if group.records.is_empty() || group.records.iter().any(Awaited::is_awaited) {
                break;
            }
            // The next wake must come from those that are left.
            for at in [0, group.records.len() - 1] {
                group.records[at].register(&waker, &self.board);
            }
        }
        if group.records.is_empty() {
            self.groups[index] = None;
        }
        self.board.reaped.fetch_add(resolved as u64, Ordering::Relaxed);
        while let Some(None) = self.groups.front() {
            self.groups.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::Producer;
    use tidegate::embedded::{EmbeddedCluster, Fault};

    /// Nanoseconds of a delay that no machine takes for a wake.
    const LONG: u64 = 100_000_000;

    #[test]
    fn the_time_is_that_of_the_acknowledgement_also_if_the_reaper_is_late() {
        let cluster = EmbeddedCluster::builder().topic("t", 1).start().expect("brokers start");
        let producer = Producer::builder(&cluster.bootstrap_servers()).build().expect("it can");
        let topic = producer.topic("t").expect("it is a name");
        topic.send((), "warm").expect("there is room").wait().expect("it is written");
        let board = Board::new();
        let mut groups = Groups::new(board.clone());
        // It must be on its way still when it is handed over: else no waker is called.
        cluster.pause_broker(1);
        let delivery = topic.send((), "timed").expect("there is room");
        groups.add(0, board.now(), 5, delivery);
        groups.hand_over();
        cluster.resume_broker(1);
        // The waker unparks this thread.
        while board.woken.is_empty() {
            thread::park_timeout(Duration::from_millis(1));
        }
        let woken_by = board.now();
        while board.now() < woken_by + LONG {
            std::hint::spin_loop();
        }
        let mut times = Vec::new();
        Reaper::new(board).turn(|resolved| times.push(resolved.at));
        assert!(times.len() == 1 && times[0] <= woken_by, "{times:?} {woken_by}");
    }

    /// Every record is resolved once, whichever of its group resolves first.
    #[test]
    fn every_record_is_timed_once_and_not_before_it_was_sent() {
        let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 4).start();
        let cluster = cluster.expect("brokers start");
        cluster.script([Fault::delay(Duration::from_millis(30)).broker(1)]);
        let servers = cluster.bootstrap_servers();
        let producer = Producer::builder(&servers).batch_size(2_000).build().expect("it can");
        let topic = producer.topic("t").expect("it is a name");
        let board = Board::new();
        let mut groups = Groups::new(board.clone());
        let mut reaper = Reaper::new(board.clone());
        let mut seen = vec![0; 5_000];
        let mut note = |resolved: Resolved| {
            assert!(resolved.at >= resolved.begun && resolved.outcome.is_ok());
            seen[resolved.index as usize] += 1;
        };
        for index in 0..5_000 {
            let begun = board.now();
            let delivery = topic.send((), "some text that is of some length");
            groups.add(index, begun, 0, delivery.expect("there is room"));
            if index % 100 == 0 {
                groups.hand_over();
                reaper.turn(&mut note);
            }
        }
        groups.hand_over();
        board.end_sending();
        while !reaper.is_done() {
            if !reaper.turn(&mut note) {
                thread::park();
            }
        }
        assert_eq!(seen, [1; 5_000]);
    }
}
