//! Questions for an offset that nothing is read from: where a log begins, where it ends, and which
//! record is the first of a time. The leader of the partition answers them, between fetches.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::answers::FINAL;
use super::fetcher::{Fetcher, TOO_OLD_FOR_TIMES};
use super::patience::Patience;
use crate::config::StartAt;
use crate::engine::batch::Leader;
use crate::engine::cluster::ClusterSnapshot;
use crate::engine::protocol::{
    BrokerId, ErrorCode, FoundOffset, ListOffsetsResponse, OffsetQuestion, PartitionId,
    TIME_EARLIEST, TIME_LATEST,
};
use crate::error::ConsumeErrorCause;
use crate::problem::{Problem, ProblemKind};

/// One question is about so many partitions at the most; the others wait for the next one.
const QUESTION_MAX: usize = 1_000;

/// A call of the application's, which is answered once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// An offset, `None` where no record is so new; or why it is not known.
type Found = Result<Option<i64>, ConsumeErrorCause>;

/// Questions by topic, as a request has them.
type Questions = Vec<(Arc<str>, Vec<OffsetQuestion>)>;

#[derive(Debug)]
struct Lookup {
    topic: Arc<str>,
    partition: PartitionId,
    /// As ListOffsets has it: a time, or what stands in place of one.
    time: i64,
    leader: Option<Leader>,
    /// The broker whose answer is awaited.
    asked: Option<BrokerId>,
    /// The leader is not asked before.
    retry_at: u64,
    patience: Patience,
}

impl Lookup {
    fn is_led_by(&self, id: BrokerId) -> bool {
        self.leader.is_some_and(|leader| leader.broker == id)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    calls: BTreeMap<CallId, Lookup>,
    found: VecDeque<(CallId, Found)>,
}

impl Lookups {
    /// The brokers that have something to be asked.
    pub(super) fn leaders(&self) -> impl Iterator<Item = Leader> {
        self.calls.values().filter_map(|lookup| lookup.leader)
    }

    /// When to look again what can be asked, and which calls are over.
    pub(super) fn timeouts(&self) -> impl Iterator<Item = u64> {
        self.calls.values().flat_map(|lookup| [lookup.retry_at, lookup.patience.deadline])
    }

    /// Follows leaders. A call about a partition that its topic does not have is over.
    pub(super) fn follow(&mut self, snapshot: &ClusterSnapshot) {
        let mut missing = Vec::new();
        for (&id, lookup) in &mut self.calls {
            match leader_in(snapshot, &lookup.topic, lookup.partition) {
                // The new leader is asked at once, whatever the old one still answers.
                Ok(leader) if leader != lookup.leader => {
                    (lookup.leader, lookup.asked, lookup.retry_at) = (leader, None, 0);
                }
                Ok(_) => {}
                Err(cause) => missing.push((id, cause)),
            }
        }
        missing.into_iter().for_each(|(id, cause)| self.end(id, Err(cause)));
    }

    fn end(&mut self, id: CallId, found: Found) {
        if self.calls.remove(&id).is_some() {
            self.found.push_back((id, found));
        }
    }

    fn fail_where(&mut self, cause: &ConsumeErrorCause, is_it: impl Fn(&Lookup) -> bool) {
        let failed = self.calls.iter().filter(|(_, lookup)| is_it(lookup));
        for id in failed.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.end(id, Err(cause.clone()));
        }
    }

    pub(super) fn fail_topic(&mut self, topic: &str, cause: &ConsumeErrorCause) {
        self.fail_where(cause, |lookup| *lookup.topic == *topic);
    }

    pub(super) fn fail_led_by(&mut self, id: BrokerId, cause: &ConsumeErrorCause) {
        self.fail_where(cause, |lookup| lookup.is_led_by(id));
    }

    /// The connection to a broker is gone, and with it the answer that was awaited.
    pub(super) fn lose(&mut self, id: BrokerId) {
        for lookup in self.calls.values_mut().filter(|lookup| lookup.asked == Some(id)) {
            lookup.asked = None;
        }
    }

    /// What a leader is asked next, if it has something to be asked.
    pub(super) fn question(
        &mut self,
        now: u64,
        id: BrokerId,
        finds_times: bool,
    ) -> Option<Questions> {
        if !finds_times {
            let problem = Problem::new(ProblemKind::BrokerTooOld, TOO_OLD_FOR_TIMES);
            let cause = ConsumeErrorCause::Refused(problem);
            self.fail_where(&cause, |lookup| lookup.is_led_by(id) && lookup.time >= 0);
        }
        let mut topics: BTreeMap<Arc<str>, Vec<OffsetQuestion>> = BTreeMap::new();
        let mut seen = HashSet::new();
        for lookup in self.calls.values_mut() {
            let Some(leader) = lookup.leader.filter(|leader| leader.broker == id) else { continue };
            if lookup.asked.is_some() || lookup.retry_at > now || seen.len() == QUESTION_MAX {
                continue;
            }
            // A broker refuses a request that names a partition twice.
            if !seen.insert((lookup.topic.clone(), lookup.partition)) {
                continue;
            }
            lookup.asked = Some(id);
            let (partition, time) = (lookup.partition, lookup.time);
            let question = OffsetQuestion { partition, leader_epoch: leader.epoch, time };
            topics.entry(lookup.topic.clone()).or_default().push(question);
        }
        (!topics.is_empty()).then(|| topics.into_iter().collect())
    }
}

/// The leader of a partition as far as it is known, or that there is no such partition.
fn leader_in(
    snapshot: &ClusterSnapshot,
    topic: &str,
    partition: PartitionId,
) -> Result<Option<Leader>, ConsumeErrorCause> {
    let count = snapshot.topics.get(topic).map_or(0, |view| view.count);
    if count > 0 && !partition.is_among(count) {
        let text = format_args!("the topic has {count} partitions, and it is none of them");
        return Err(ConsumeErrorCause::Refused(Problem::new(ProblemKind::NoLeader, text)));
    }
    let view = snapshot.partition(topic, partition);
    Ok(view.and_then(|view| view.leader.map(|broker| Leader { broker, epoch: view.epoch })))
}

impl Fetcher {
    /// Asks for an offset of a partition, within so many nanoseconds. Returns whether the topic is
    /// known, and has no such partition: it may have been added since.
    pub fn look_up(
        &mut self,
        now: u64,
        id: CallId,
        (topic, partition): (Arc<str>, PartitionId),
        at: StartAt,
        timeout: u64,
        snapshot: &ClusterSnapshot,
    ) -> bool {
        let time = match at {
            StartAt::Offset(offset) => {
                self.lookups.found.push_back((id, Ok(Some(offset))));
                return false;
            }
            StartAt::Earliest => TIME_EARLIEST,
            StartAt::Latest => TIME_LATEST,
            // The coordinator is asked for that, not the leader.
            StartAt::Committed => {
                self.lookups.found.push_back((id, Err(ConsumeErrorCause::NoGroup)));
                return false;
            }
            // Below 0 are words that stand in place of a time.
            StartAt::Time(time) => time.max(0),
        };
        let leader = match leader_in(snapshot, &topic, partition) {
            _ if !self.reads(&topic) => Err(ConsumeErrorCause::NotRead),
            leader => leader,
        };
        match leader {
            Ok(leader) => {
                let patience = Patience::new(now, timeout);
                let (asked, retry_at) = (None, 0);
                let lookup = Lookup { topic, partition, time, leader, asked, retry_at, patience };
                self.lookups.calls.insert(id, lookup);
                false
            }
            Err(cause) => {
                let is_missing = matches!(cause, ConsumeErrorCause::Refused(_));
                self.lookups.found.push_back((id, Err(cause)));
                is_missing
            }
        }
    }

    /// Gives up calls whose time is over, and returns the next call that is over, with its outcome.
    pub fn poll_found(&mut self, now: u64) -> Option<(CallId, Found)> {
        let lookups = &mut self.lookups;
        let over = lookups.calls.iter().filter(|(_, lookup)| lookup.patience.deadline <= now);
        let over: Vec<_> = over
            .map(|(&id, lookup)| {
                let text = "no leader of the partition is known";
                let unled = lookup.leader.is_none();
                let unled = unled.then(|| Problem::new(ProblemKind::NoLeader, text));
                (id, lookup.patience.timed_out(unled))
            })
            .collect();
        over.into_iter().for_each(|(id, cause)| lookups.end(id, Err(cause)));
        lookups.found.pop_front()
    }

    /// Why a broker cannot be asked, or, without one, why metadata cannot: calls that run out of
    /// time meanwhile say so.
    pub fn blame(&mut self, id: Option<BrokerId>, problem: &Problem) {
        for lookup in self.lookups.calls.values_mut() {
            if lookup.leader.map(|leader| leader.broker) == id {
                lookup.patience.problem = Some(problem.clone());
            }
        }
    }

    /// The answer of a broker, as far as calls asked for it.
    pub(super) fn take_found(&mut self, retry_at: u64, id: BrokerId, answer: &ListOffsetsResponse) {
        let answers: HashMap<_, _> = answer
            .topics
            .iter()
            .flat_map(|(topic, found)| found.iter().map(move |it| (&**topic, it)))
            .map(|(topic, it)| ((topic, it.partition), *it))
            .collect();
        let asked = self.lookups.calls.iter().filter(|(_, lookup)| lookup.asked == Some(id));
        let asked = asked.map(|(&call, lookup)| {
            (call, answers.get(&(&*lookup.topic, lookup.partition)).copied())
        });
        for (call, answer) in asked.collect::<Vec<_>>() {
            self.take_one(retry_at, call, answer);
        }
    }

    fn take_one(&mut self, retry_at: u64, call: CallId, answer: Option<FoundOffset>) {
        let Some(lookup) = self.lookups.calls.get_mut(&call) else { return };
        (lookup.asked, lookup.retry_at) = (None, retry_at);
        // The broker left it out: it is asked again.
        let Some(answer) = answer else { return };
        match answer.error {
            ErrorCode::NONE => {
                let found = (answer.offset >= 0).then_some(answer.offset);
                // Every log has ends: a broker that names none has not answered.
                if found.is_some() || lookup.time >= 0 {
                    self.lookups.end(call, Ok(found));
                }
            }
            error if FINAL.contains(&error) => {
                self.lookups.end(call, Err(ConsumeErrorCause::Refused(Problem::from(error))));
            }
            error => {
                lookup.patience.problem = Some(Problem::from(error));
                if error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                    self.denied.push(lookup.topic.clone());
                }
                self.refresh_wanted |= error.invalidates_metadata();
            }
        }
    }
}

#[cfg(test)]
mod tests;
