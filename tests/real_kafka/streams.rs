//! Senders at full speed, one for each partition, and what became of their records.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate::{
    Certainty, Delivery, DeliveryErrorCause, ParkSender, Producer, ProducerBuilder, Record, Topic,
};

use crate::kafka::{Cluster, wait_until};
use crate::oracle::{Judgement, Note, Stored, payload};

/// Brokers on a slow, shared disk were seen to stand still for ten seconds at a time: records and
/// parked senders may wait thirty times that.
const PATIENCE: Duration = Duration::from_secs(300);
/// Over the delivery timeout: a delivery that is not resolved by then never is.
const RESOLVE_LIMIT: Duration = Duration::from_secs(330);
/// Deliveries that a stream holds unresolved.
const HELD_MAX: usize = 200_000;
const FILLER: usize = 76;

/// Settings for a producer whose records must all get through, however slow the machine is.
pub fn patient(builder: ProducerBuilder) -> ProducerBuilder {
    builder.delivery_timeout(PATIENCE).backoff(ParkSender::for_at_most(PATIENCE))
}

/// Running senders. [`Streams::finish`] ends and judges them.
pub struct Streams {
    run: u64,
    stop: Arc<AtomicBool>,
    progress: Vec<Arc<Progress>>,
    senders: Vec<JoinHandle<()>>,
    collectors: Vec<JoinHandle<Vec<Note>>>,
}

/// What one stream has done so far.
#[derive(Default)]
struct Progress {
    acked: AtomicU64,
    dropped: AtomicU64,
    /// The last acknowledgement, and the longest time between two of them.
    gap: Mutex<(Option<Instant>, Duration)>,
}

/// What the streams did.
pub struct Summary {
    pub acked: u64,
    pub dropped: u64,
    pub failed: u64,
}

impl Streams {
    /// One sender for each partition of the topic, without pause, or with `pause` after each
    /// thousand records.
    pub fn start(producer: &Producer, topic: &str, partitions: u32, pause: Duration) -> Self {
        let run = u64::from(std::process::id()) << 32 | u64::from(partitions);
        let stop = Arc::new(AtomicBool::new(false));
        let (mut senders, mut collectors, mut progress) = (Vec::new(), Vec::new(), Vec::new());
        for partition in 0..partitions {
            let (into, out) = sync_channel(HELD_MAX);
            let own = Arc::new(Progress::default());
            let topic = producer.topic(topic).expect("a legal name");
            let (stop, collecting) = (stop.clone(), own.clone());
            let send = move || send_until(&stop, &topic, run, partition, pause, &into);
            senders.push(thread::spawn(send));
            collectors.push(thread::spawn(move || collect(&out, &collecting)));
            progress.push(own);
        }
        Streams { run, stop, progress, senders, collectors }
    }

    pub fn acked(&self, partition: usize) -> u64 {
        self.progress[partition].acked.load(Ordering::Relaxed)
    }

    /// Waits until each of these partitions has acknowledged `more` from now on.
    #[track_caller]
    pub fn wait_for_more(&self, partitions: &[usize], more: u64, limit: Duration, what: &str) {
        let before: Vec<u64> = partitions.iter().map(|&p| self.acked(p)).collect();
        let went_on = || {
            let mut pairs = partitions.iter().zip(&before);
            pairs.all(|(&partition, before)| self.acked(partition) >= before + more)
        };
        assert!(wait_until(limit, went_on), "{what}: no {more} more acknowledged in {limit:?}");
    }

    /// Forgets the gaps so far.
    pub fn reset_gaps(&self) {
        for own in &self.progress {
            own.gap.lock().expect("no holder panics").1 = Duration::ZERO;
        }
    }

    /// The longest time without an acknowledgement in a partition.
    pub fn gap(&self, partition: usize) -> Duration {
        self.progress[partition].gap.lock().expect("no holder panics").1
    }

    /// Ends sending, awaits every delivery, reads everything back, and fails if anything is wrong.
    #[track_caller]
    pub fn finish(self, cluster: &Cluster, topic: &str) -> Summary {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.join().expect("no sender panics");
        }
        let notes: Vec<Vec<Note>> = self
            .collectors
            .into_iter()
            .map(|thread| thread.join().expect("every delivery resolves"))
            .collect();
        let mut log = Vec::new();
        cluster.read_back_each(topic, |record| {
            let value = record.value.unwrap_or_default().to_vec();
            log.push(Stored { partition: record.partition, offset: record.offset, value });
        });
        let judgement = Judgement::of(self.run, &notes, &log);
        let count = |wanted: fn(&Note) -> bool| {
            notes.iter().flatten().filter(|note| wanted(note)).count() as u64
        };
        let dropped = self.progress.iter().map(|own| own.dropped.load(Ordering::Relaxed)).sum();
        let summary = Summary {
            acked: count(|note| matches!(note, Note::Acked(_))),
            dropped,
            failed: count(|note| !matches!(note, Note::Acked(_))) - dropped,
        };
        assert_eq!(judgement, Judgement::default(), "of {} acknowledged records", summary.acked);
        summary
    }
}

fn send_until(
    stop: &AtomicBool,
    topic: &Topic,
    run: u64,
    partition: u32,
    pause: Duration,
    into: &SyncSender<Delivery>,
) {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let value = payload(run, partition, number, FILLER);
        let record = Record::new().value(&value).partition(partition);
        let delivery = topic.send_record(record).expect("the strategy lets every record in");
        if into.send(delivery).is_err() {
            return;
        }
        number += 1;
        if number.is_multiple_of(1_000) && !pause.is_zero() {
            thread::sleep(pause);
        }
    }
}

fn collect(out: &Receiver<Delivery>, progress: &Progress) -> Vec<Note> {
    let mut notes = Vec::new();
    for mut delivery in out {
        let outcome = delivery.wait_timeout(RESOLVE_LIMIT).expect("every delivery resolves");
        notes.push(match outcome {
            Ok(at) => {
                progress.acked.fetch_add(1, Ordering::Relaxed);
                let mut gap = progress.gap.lock().expect("no holder panics");
                let now = Instant::now();
                let since = gap.0.replace(now).map_or(Duration::ZERO, |before| now - before);
                gap.1 = gap.1.max(since);
                Note::Acked(at.offset())
            }
            Err(error) if *error.cause() == DeliveryErrorCause::Dropped => {
                progress.dropped.fetch_add(1, Ordering::Relaxed);
                Note::NotWritten
            }
            Err(error) => {
                log::warn!("{error}");
                match error.certainty() {
                    Certainty::NotWritten => Note::NotWritten,
                    Certainty::Unknown => Note::Unknown,
                }
            }
        });
    }
    notes
}
