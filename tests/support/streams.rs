//! Senders at full speed or at a pace, one for each stream, and what became of their records.

// A module of the test binary, whose items are public within it; no binary uses every one.
#![allow(dead_code, unreachable_pub)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate::{
    Certainty, Delivery, DeliveryErrorCause, ParkSender, Producer, ProducerBuilder, Record,
    SendErrorKind, Topic,
};

use crate::kafka::{Cluster, wait_until};
use crate::oracle::{Judge, Judgement, Label, Note, Stream, topic_hash};

/// Brokers on a slow, shared disk were seen to stand still for ten seconds at a time: records and
/// parked senders may wait thirty times that.
const PATIENCE: Duration = Duration::from_secs(300);
/// Over the delivery timeout: a delivery that is not resolved by then never is.
const RESOLVE_LIMIT: Duration = Duration::from_secs(330);
/// Deliveries that a stream holds unresolved.
const HELD_MAX: usize = 200_000;
/// With the rest of a payload about a hundred bytes.
const FILLER: usize = 60;
/// A sender that is later than this gives up what it is behind.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Errors that are shown of each stream.
const SHOWN: usize = 3;

/// Settings for a producer whose records must all get through, however slow the machine is.
pub fn patient(builder: ProducerBuilder) -> ProducerBuilder {
    builder.delivery_timeout(PATIENCE).backoff(ParkSender::for_at_most(PATIENCE))
}

/// How fast a stream sends: so many records, each time that this has passed.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub records: u32,
    pub every: Duration,
}

impl Pace {
    /// So many records a second, in a hundred bursts.
    pub fn per_second(records: u32) -> Pace {
        Pace { records: (records / 100).max(1), every: Duration::from_millis(10) }
    }
}

/// Running senders. [`Streams::finish`] ends and judges them.
pub struct Streams {
    topic: String,
    pace: Pace,
    common: Arc<Common>,
    running: Vec<Running>,
}

/// What the streams of a run have in common.
struct Common {
    run: u64,
    start: Instant,
    stop: AtomicBool,
    ids: AtomicU64,
    /// Over all streams.
    progress: Progress,
}

struct Running {
    partition: Option<i32>,
    progress: Arc<Progress>,
    sender: JoinHandle<()>,
    collector: JoinHandle<Vec<Note>>,
}

/// What one stream has done so far. Times are nanoseconds since the start of the run.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// A bit for each of the first 64 partitions that acknowledged.
    reached: AtomicU64,
    last: AtomicU64,
    gap: AtomicU64,
    gap_end: AtomicU64,
}

/// What becomes of a record that a sender offered.
enum Offered {
    Accepted(Delivery),
    Refused,
}

/// What the streams did, each record counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub offered: u64,
    pub acked: u64,
    /// By the strategy, at `send`.
    pub refused: u64,
    /// By the strategy, after `send`.
    pub dropped: u64,
    /// Certainly not written.
    pub not_written: u64,
    /// Perhaps written.
    pub unknown: u64,
    /// Acknowledged in a topic that was deleted.
    pub gone: u64,
}

impl Summary {
    /// Deliveries that ended with an error.
    pub fn failed(&self) -> u64 {
        self.not_written + self.unknown
    }
}

/// What was noted of streams that have ended.
pub struct Noted {
    topic: String,
    run: u64,
    streams: Vec<Stream>,
    refused: u64,
    dropped: u64,
}

impl Streams {
    /// One sender for each partition of the topic.
    pub fn start(producer: &Producer, topic: &str, partitions: i32, pace: Pace) -> Self {
        let mut streams = Streams::new(topic, pace);
        for partition in 0..partitions {
            streams.add(producer, Some(partition));
        }
        streams
    }

    /// No sender yet.
    pub fn new(topic: &str, pace: Pace) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = u64::from(std::process::id()) << 32 | RUNS.fetch_add(1, Ordering::Relaxed);
        let common = Common {
            run,
            start: Instant::now(),
            stop: AtomicBool::new(false),
            ids: AtomicU64::new(0),
            progress: Progress::default(),
        };
        let (topic, common, running) = (topic.to_owned(), Arc::new(common), Vec::new());
        Streams { topic, pace, common, running }
    }

    /// Another stream, to a partition or to where the partitioner sends records without key.
    pub fn add(&mut self, producer: &Producer, partition: Option<i32>) {
        let (into, out) = sync_channel(HELD_MAX);
        let progress = Arc::new(Progress::default());
        let sender = Sender {
            common: self.common.clone(),
            own: progress.clone(),
            topic: producer.topic(&self.topic).expect("a legal name"),
            hash: topic_hash(&self.topic),
            stream: self.running.len() as u32,
            partition,
            pace: self.pace,
        };
        let (common, own) = (self.common.clone(), progress.clone());
        self.running.push(Running {
            partition,
            progress,
            sender: thread::spawn(move || sender.run(&into)),
            collector: thread::spawn(move || collect(&out, &own, &common)),
        });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.running.len()
    }

    pub fn acked(&self, stream: usize) -> u64 {
        self.running[stream].progress.acked.load(Ordering::Relaxed)
    }

    /// Records that a stream offered, whatever became of them.
    pub fn sent(&self, stream: usize) -> u64 {
        self.running[stream].progress.sent.load(Ordering::Relaxed)
    }

    /// Records of all streams that the strategy refused or dropped.
    pub fn turned_away(&self) -> u64 {
        self.refused() + self.dropped()
    }

    /// Records of all streams whose delivery ended with an error.
    pub fn failed(&self) -> u64 {
        self.running.iter().map(|r| r.progress.failed.load(Ordering::Relaxed)).sum()
    }

    /// Which of the first 64 partitions have acknowledged records of a stream.
    pub fn reached(&self, stream: usize) -> u64 {
        self.running[stream].progress.reached.load(Ordering::Relaxed)
    }

    pub fn acked_in_all(&self) -> u64 {
        (0..self.len()).map(|stream| self.acked(stream)).sum()
    }

    /// Waits until each of these streams has acknowledged `more` from now on.
    #[track_caller]
    pub fn wait_for_more(&self, streams: &[usize], more: u64, limit: Duration, what: &str) {
        let before: Vec<u64> = streams.iter().map(|&s| self.acked(s)).collect();
        let went_on = || {
            let mut pairs = streams.iter().zip(&before);
            pairs.all(|(&stream, before)| self.acked(stream) >= before + more)
        };
        assert!(wait_until(limit, went_on), "{what}: no {more} more acknowledged in {limit:?}");
    }

    /// The same for all streams.
    #[track_caller]
    pub fn all_go_on(&self, more: u64, limit: Duration, what: &str) {
        let all: Vec<usize> = (0..self.len()).collect();
        self.wait_for_more(&all, more, limit, what);
    }

    /// Forgets the gaps so far.
    pub fn reset_gaps(&self) {
        for progress in self.running.iter().map(|running| &*running.progress) {
            progress.gap.store(0, Ordering::Relaxed);
        }
        self.common.progress.gap.store(0, Ordering::Relaxed);
    }

    /// The longest time without an acknowledgement in a stream.
    pub fn gap(&self, stream: usize) -> Duration {
        Duration::from_nanos(self.running[stream].progress.gap.load(Ordering::Relaxed))
    }

    /// The longest time without an acknowledgement in any stream.
    pub fn longest_gap(&self) -> Duration {
        (0..self.len()).map(|stream| self.gap(stream)).max().unwrap_or_default()
    }

    /// The longest time without an acknowledgement in all streams together.
    pub fn overall_gap(&self) -> Duration {
        Duration::from_nanos(self.common.progress.gap.load(Ordering::Relaxed))
    }

    /// When the longest gap of a stream ended.
    pub fn gap_end(&self, stream: usize) -> Instant {
        let end = self.running[stream].progress.gap_end.load(Ordering::Relaxed);
        self.common.start + Duration::from_nanos(end)
    }

    /// Ends sending, awaits every delivery, reads everything back, and fails if anything is wrong.
    #[track_caller]
    pub fn finish(self, cluster: &Cluster) -> Summary {
        self.end().judge(cluster)
    }

    /// Ends sending and awaits every delivery.
    #[track_caller]
    pub fn end(self) -> Noted {
        self.common.stop.store(true, Ordering::Relaxed);
        let (refused, dropped) = (self.refused(), self.dropped());
        let mut streams = Vec::new();
        for running in self.running {
            running.sender.join().expect("no sender panics");
            let notes = running.collector.join().expect("no collector panics");
            streams.push(Stream { partition: running.partition, notes });
        }
        Noted { topic: self.topic, run: self.common.run, streams, refused, dropped }
    }

    fn refused(&self) -> u64 {
        self.running.iter().map(|r| r.progress.refused.load(Ordering::Relaxed)).sum()
    }

    fn dropped(&self) -> u64 {
        self.running.iter().map(|r| r.progress.dropped.load(Ordering::Relaxed)).sum()
    }
}

impl Noted {
    /// For a topic that was deleted and created again: what was acknowledged before the offsets of
    /// a stream began again is gone with the old one, and must not be in the new one.
    pub fn forget_deleted(&mut self) {
        for stream in &mut self.streams {
            let mut last = -1;
            let begins_again = stream.notes.iter().position(|note| match *note {
                Note::Acked { offset, .. } => std::mem::replace(&mut last, offset) >= offset,
                _ => false,
            });
            for note in &mut stream.notes[..begins_again.unwrap_or(0)] {
                if matches!(note, Note::Acked { .. }) {
                    *note = Note::Gone;
                }
            }
        }
    }

    /// Reads everything back, and fails if anything is wrong.
    #[track_caller]
    pub fn judge(&self, cluster: &Cluster) -> Summary {
        let (judgement, described) = self.judgement(cluster);
        let summary = self.summary();
        assert_eq!(judgement, Judgement::default(), "{described:#?}\n{summary:?}");
        summary
    }

    /// The same without idempotence: a record may be in the log more than once, the first time
    /// where no acknowledgement says. Gives how often that is so as well.
    #[track_caller]
    pub fn judge_with_doubles(&self, cluster: &Cluster) -> (Summary, usize) {
        let (judgement, described) = self.judgement(cluster);
        let Judgement { doubled, misplaced, .. } = judgement;
        let summary = self.summary();
        let allowed = Judgement { doubled, misplaced, ..Judgement::default() };
        assert_eq!(judgement, allowed, "{described:#?}\n{summary:?}");
        assert!(misplaced <= doubled, "{judgement:?}: {described:#?}\n{summary:?}");
        (summary, doubled)
    }

    fn judgement(&self, cluster: &Cluster) -> (Judgement, Vec<String>) {
        let mut judge = Judge::new(self.run, &self.topic, &self.streams);
        cluster.read_back_each(&self.topic, |record| {
            judge.see(record.partition, record.offset, record.value.unwrap_or_default());
        });
        judge.finish()
    }

    /// What the streams did.
    pub fn summary(&self) -> Summary {
        let mut summary =
            Summary { refused: self.refused, dropped: self.dropped, ..Summary::default() };
        for note in self.streams.iter().flat_map(|stream| &stream.notes) {
            summary.offered += 1;
            match note {
                Note::Acked { .. } => summary.acked += 1,
                Note::NotWritten => summary.not_written += 1,
                Note::Unknown | Note::Unresolved => summary.unknown += 1,
                Note::Gone => summary.gone += 1,
            }
        }
        // Noted like those whose delivery failed, but these are what the strategy is for.
        summary.not_written -= self.refused + self.dropped;
        summary
    }
}

/// A thread that sends a stream.
struct Sender {
    common: Arc<Common>,
    own: Arc<Progress>,
    topic: Topic,
    hash: u32,
    stream: u32,
    partition: Option<i32>,
    pace: Pace,
}

impl Sender {
    fn run(&self, into: &SyncSender<Offered>) {
        let mut due = Instant::now();
        let mut number = 0;
        while !self.common.stop.load(Ordering::Relaxed) {
            let offered = self.offer(number);
            self.own.sent.fetch_add(1, Ordering::Relaxed);
            if into.send(offered).is_err() {
                return;
            }
            number += 1;
            if number.is_multiple_of(self.pace.records) {
                due += self.pace.every;
                let now = Instant::now();
                if now > due + BEHIND_MAX {
                    due = now;
                }
                thread::sleep(due.saturating_duration_since(now));
            }
        }
    }

    fn offer(&self, number: u32) -> Offered {
        let (stream, partition) = (self.stream, self.partition);
        let id = self.common.ids.fetch_add(1, Ordering::Relaxed);
        let label = Label { run: self.common.run, topic: self.hash, stream, partition, number, id };
        let value = label.payload(FILLER);
        let end = Instant::now() + PATIENCE;
        loop {
            let mut record = Record::new().value(&value);
            if let Some(partition) = partition {
                record = record.partition(partition);
            }
            match self.topic.send_record(record) {
                Ok(delivery) => return Offered::Accepted(delivery),
                Err(error) => match error.kind() {
                    SendErrorKind::Rejected { .. } => {
                        self.own.refused.fetch_add(1, Ordering::Relaxed);
                        return Offered::Refused;
                    }
                    // A partition that is so new that the producer has not heard of it.
                    SendErrorKind::PartitionOutOfRange { .. } if Instant::now() < end => {
                        thread::sleep(self.pace.every);
                    }
                    _ => panic!("the strategy lets every record in: {error}"),
                },
            }
        }
    }
}

fn collect(out: &Receiver<Offered>, own: &Progress, common: &Common) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut shown = 0;
    // One that never resolves must not make the others wait as long.
    let mut limit = RESOLVE_LIMIT;
    for offered in out {
        let Offered::Accepted(mut delivery) = offered else {
            notes.push(Note::NotWritten);
            continue;
        };
        notes.push(match delivery.wait_timeout(limit) {
            Some(Ok(at)) => {
                let now = common.start.elapsed().as_nanos() as u64;
                own.acknowledged(now);
                common.progress.acknowledged(now);
                let partition = at.partition();
                own.reached
                    .fetch_or(1_u64.checked_shl(partition as u32).unwrap_or(0), Ordering::Relaxed);
                Note::Acked { partition, offset: at.offset().unwrap_or(-1) }
            }
            Some(Err(error)) if *error.cause() == DeliveryErrorCause::Dropped => {
                own.dropped.fetch_add(1, Ordering::Relaxed);
                Note::NotWritten
            }
            Some(Err(error)) => {
                own.failed.fetch_add(1, Ordering::Relaxed);
                shown += 1;
                if shown <= SHOWN {
                    log::warn!("{error}");
                }
                match error.certainty() {
                    Certainty::NotWritten => Note::NotWritten,
                    Certainty::Unknown => Note::Unknown,
                }
            }
            None => {
                limit = Duration::ZERO;
                Note::Unresolved
            }
        });
    }
    notes
}

impl Progress {
    fn acknowledged(&self, now: u64) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        if last != 0 && now.saturating_sub(last) > self.gap.load(Ordering::Relaxed) {
            self.gap.store(now - last, Ordering::Relaxed);
            self.gap_end.store(now, Ordering::Relaxed);
        }
    }
}
