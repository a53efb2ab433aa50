//! What the metadata thread tells besides its work: records that failed unread, counters, and how
//! the channel stands.

use std::sync::Arc;
use std::time::Duration;

use super::warnings::UnreadReports;
use crate::engine::batch::RecordAccumulator;
use crate::engine::cluster::{ClusterSnapshot, MetadataMachine};
use crate::engine::meter::Meters;
use crate::logging as log;

/// Everything that the thread tells, and when.
pub(super) struct Notices {
    unread: UnreadReports,
    standing: StandingTeller,
    metrics: MetricsLog,
    accumulator: Arc<RecordAccumulator>,
}

impl Notices {
    /// Metrics go to the log so often, if at all.
    pub(super) fn new(
        now: u64,
        accumulator: Arc<RecordAccumulator>,
        metrics_every: Option<Duration>,
    ) -> Self {
        let every = metrics_every.map(|every| every.as_nanos().try_into().unwrap_or(u64::MAX));
        Notices {
            unread: UnreadReports::new(accumulator.failures.clone()),
            standing: StandingTeller::default(),
            metrics: MetricsLog { every, due: every.map(|every| now.saturating_add(every)) },
            accumulator,
        }
    }

    /// Records failed whose deliveries were dropped.
    pub(super) fn handle_unread(&mut self, now: u64) {
        self.unread.handle_news(now);
    }

    /// At the end of a turn: tells what is due.
    pub(super) fn handle_turn(&mut self, now: u64, machine: &MetadataMachine) {
        self.unread.handle_timeout(now);
        self.standing.handle_turn(now, machine, &self.accumulator.meters);
        self.metrics.handle_timeout(now, &self.accumulator);
    }

    /// When the next turn is due for its sake.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        [self.unread.poll_timeout(), self.standing.due, self.metrics.due]
            .into_iter()
            .flatten()
            .min()
    }

    /// The thread ends: tells what nobody else will.
    pub(super) fn end(&self) {
        self.unread.tell();
    }
}

/// Writes the counters to the log from time to time.
struct MetricsLog {
    every: Option<u64>,
    due: Option<u64>,
}

impl MetricsLog {
    fn handle_timeout(&mut self, now: u64, accumulator: &RecordAccumulator) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = self.every.map(|every| now.saturating_add(every));
            for line in accumulator.metrics(now).to_string().lines() {
                log::info!("metrics: {line}");
            }
        }
    }
}

/// It is said at most so often, in nanoseconds: thousands of new topics take a turn each, and each
/// time all that are not known yet are counted.
const TELL_INTERVAL: u64 = 20_000_000;

/// Tells the producer's meters how the channel stands: at once when that makes a difference to the
/// whole producer, some milliseconds later when it is about single topics.
#[derive(Default)]
struct StandingTeller {
    /// When it may be said again; `None` while nothing has happened since it was.
    due: Option<u64>,
    told_at: u64,
    /// What the whole producer depends on, as it was told last.
    told: Option<Vital>,
    problem_since: Option<u64>,
    /// The picture that leaderless partitions were counted in, and how many they were.
    counted: Option<(u64, usize)>,
}

/// What the whole producer depends on.
type Vital = (bool, bool, bool);

impl StandingTeller {
    /// Something may have changed.
    fn handle_turn(&mut self, now: u64, machine: &MetadataMachine, meters: &Meters) {
        let due = *self.due.get_or_insert(self.told_at.saturating_add(TELL_INTERVAL));
        let vital = machine.vital();
        if due <= now || self.told != Some(vital) {
            (self.due, self.told_at, self.told) = (None, now, Some(vital));
            let snapshot = machine.snapshot();
            let leaderless = match self.counted {
                Some((generation, count)) if generation == snapshot.generation => count,
                _ => count_leaderless(snapshot),
            };
            self.counted = Some((snapshot.generation, leaderless));
            let mut standing = machine.standing(now, leaderless);
            self.problem_since =
                standing.problem.as_ref().map(|_| self.problem_since.unwrap_or(now));
            standing.problem_since = self.problem_since;
            meters.set_metadata(standing);
        }
    }
}

fn count_leaderless(snapshot: &ClusterSnapshot) -> usize {
    let partitions = snapshot.topics.values().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| partition.leader.is_none()).count()
}
