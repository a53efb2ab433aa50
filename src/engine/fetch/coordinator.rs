//! The offsets that a group keeps at its coordinator: which broker that is, and what it is asked,
//! one question at a time, in the order of the calls. The consumer is no member of the group.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::CallId;
use super::patience::Patience;
use crate::engine::cluster::{BrokerAddress, ClusterSnapshot};
use crate::engine::protocol::{
    BrokerId, ErrorCode, FindCoordinatorResponse, OffsetCommitResponse, OffsetFetchResponse,
    PartitionId,
};
use crate::error::ConsumeErrorCause;
use crate::problem::{Problem, ProblemKind};

/// One question asks for the offsets of so many partitions at the most.
const QUESTION_MAX: usize = 1_000;

/// The errors of a group that has members: its offsets are theirs to commit.
const IN_USE: [ErrorCode; 6] = [
    ErrorCode::UNKNOWN_MEMBER_ID,
    ErrorCode::ILLEGAL_GENERATION,
    ErrorCode::REBALANCE_IN_PROGRESS,
    ErrorCode::FENCED_INSTANCE_ID,
    ErrorCode::FENCED_MEMBER_EPOCH,
    ErrorCode::STALE_MEMBER_EPOCH,
];

/// A partition: its topic and its index.
pub type TopicPartition = (Arc<str>, PartitionId);

/// An offset that is kept, and the epoch of the leader of the record before, or -1. `None` where
/// none is kept, and for what was committed.
pub type Kept = Option<(i64, i32)>;

/// What is wanted of the coordinator.
#[derive(Clone, Debug)]
pub enum GroupCall {
    /// That it keeps these offsets.
    Commit(BTreeMap<TopicPartition, i64>),
    /// The offset that it keeps of a partition.
    Committed(TopicPartition),
}

/// What is asked of partitions, by topic.
type ByTopic<T> = Vec<(Arc<str>, Vec<T>)>;

/// What to ask the broker at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupQuestion {
    /// Which broker is the coordinator.
    Find,
    /// To keep offsets.
    Commit(ByTopic<(PartitionId, i64)>),
    /// The offsets that it keeps.
    Fetch(ByTopic<PartitionId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Connecting,
    Ready,
}

/// See the module. Pure: the loop feeds and obeys it.
///
/// Each turn: `poll_close`, `poll_connect`, `poll_question`, `poll_over`; `handle_*` as things
/// happen.
pub struct Coordinator {
    group: Option<Arc<str>>,
    /// After an error nobody is asked for so long, in nanoseconds.
    retry_backoff: u64,
    retry_at: u64,
    calls: BTreeMap<CallId, (GroupCall, Patience)>,
    over: VecDeque<(CallId, Result<Kept, ConsumeErrorCause>)>,
    link: Link,
    /// Whom the connection is to, and whether that is the coordinator.
    peer: Option<BrokerId>,
    is_coordinator: bool,
    /// Where the coordinator is, once it is known.
    place: Option<(BrokerId, BrokerAddress)>,
    /// The calls whose answer is awaited; none while the coordinator is asked for.
    asked: Option<Vec<CallId>>,
    /// Which broker is asked next who the coordinator is.
    turn: usize,
    leaves: bool,
}

impl Coordinator {
    /// Of this group, if there is one.
    pub fn new(group: Option<Arc<str>>, retry_backoff: u64, random: u64) -> Self {
        Coordinator {
            group,
            retry_backoff,
            retry_at: 0,
            calls: BTreeMap::new(),
            over: VecDeque::new(),
            link: Link::Down,
            peer: None,
            is_coordinator: false,
            place: None,
            asked: None,
            // Consumers that begin together do not all ask the same broker.
            turn: (random % 1_024) as usize,
            leaves: false,
        }
    }

    /// The group's name.
    pub fn group(&self) -> Option<&Arc<str>> {
        self.group.as_ref()
    }

    /// Begins a call, which may take so many nanoseconds.
    pub fn begin(&mut self, now: u64, id: CallId, call: GroupCall, timeout: u64) {
        if self.group.is_none() {
            return self.over.push_back((id, Err(ConsumeErrorCause::NoGroup)));
        }
        match call {
            GroupCall::Commit(offsets) if offsets.is_empty() => self.over.push_back((id, Ok(None))),
            call => {
                self.calls.insert(id, (call, Patience::new(now, timeout)));
            }
        }
    }

    /// Whether nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty()
    }

    fn end(&mut self, id: CallId, outcome: Result<Kept, ConsumeErrorCause>) {
        if self.calls.remove(&id).is_some() {
            self.over.push_back((id, outcome));
        }
    }

    fn fail_all(&mut self, cause: &ConsumeErrorCause) {
        for id in self.calls.keys().copied().collect::<Vec<_>>() {
            self.end(id, Err(cause.clone()));
        }
    }

    /// Gives up calls whose time is over, and returns the next call that is over, with its outcome.
    pub fn poll_over(&mut self, now: u64) -> Option<(CallId, Result<Kept, ConsumeErrorCause>)> {
        let over = self.calls.iter().filter(|(_, (_, patience))| patience.deadline <= now);
        let over: Vec<_> =
            over.map(|(&id, (_, patience))| (id, patience.timed_out(None))).collect();
        over.into_iter().for_each(|(id, cause)| self.end(id, Err(cause)));
        self.over.pop_front()
    }

    /// Whether the connection is to be closed: the coordinator is elsewhere.
    pub fn poll_close(&mut self) -> bool {
        std::mem::take(&mut self.leaves)
    }

    /// A broker to connect to, because calls wait for it: the coordinator, or any that can name it.
    pub fn poll_connect(
        &mut self,
        now: u64,
        snapshot: &ClusterSnapshot,
    ) -> Option<(BrokerId, BrokerAddress)> {
        if self.calls.is_empty() || self.link != Link::Down || self.retry_at > now {
            return None;
        }
        let any = || {
            let at = self.turn % snapshot.brokers.len().max(1);
            snapshot.brokers.iter().nth(at).map(|(&id, address)| (id, address.clone()))
        };
        let chosen = self.place.clone().or_else(any)?;
        self.is_coordinator = self.place.is_some();
        (self.link, self.peer) = (Link::Connecting, Some(chosen.0));
        Some(chosen)
    }

    /// The connection is ready for questions.
    pub fn handle_ready(&mut self) {
        self.link = Link::Ready;
    }

    /// No connection could be made, or it is gone: another broker is asked who the coordinator is.
    pub fn handle_down(&mut self, now: u64, problem: &Problem) {
        (self.link, self.asked, self.leaves) = (Link::Down, None, false);
        self.turn = self.turn.wrapping_add(1);
        self.forget_place(now, Some(problem));
    }

    /// The coordinator is to be found anew, after a pause.
    fn forget_place(&mut self, now: u64, problem: Option<&Problem>) {
        (self.place, self.is_coordinator) = (None, false);
        self.pause(now, problem);
    }

    fn pause(&mut self, now: u64, problem: Option<&Problem>) {
        self.retry_at = now.saturating_add(self.retry_backoff);
        for (_, patience) in self.calls.values_mut() {
            patience.problem = problem.cloned().or(patience.problem.take());
        }
    }

    /// The broker speaks no version of what it would have to be asked.
    pub fn handle_lacking(&mut self, problem: &Problem) {
        self.fail_all(&ConsumeErrorCause::Refused(problem.clone()));
    }

    /// What to ask now on the connection that is ready.
    pub fn poll_question(&mut self, now: u64) -> Option<GroupQuestion> {
        if self.link != Link::Ready || self.asked.is_some() || self.retry_at > now || self.leaves {
            return None;
        }
        let (&first, (call, _)) = self.calls.first_key_value()?;
        if !self.is_coordinator {
            self.asked = Some(Vec::new());
            return Some(GroupQuestion::Find);
        }
        if let GroupCall::Commit(offsets) = call {
            let mut topics: BTreeMap<Arc<str>, Vec<_>> = BTreeMap::new();
            for ((topic, partition), &offset) in offsets {
                topics.entry(topic.clone()).or_default().push((*partition, offset));
            }
            self.asked = Some(vec![first]);
            return Some(GroupQuestion::Commit(topics.into_iter().collect()));
        }
        // All that ask before something is committed; what is asked later sees that.
        let mut topics: BTreeMap<Arc<str>, BTreeSet<PartitionId>> = BTreeMap::new();
        let mut asked = Vec::new();
        for (&id, (call, _)) in self.calls.iter().take(QUESTION_MAX) {
            let GroupCall::Committed((topic, partition)) = call else { break };
            topics.entry(topic.clone()).or_default().insert(*partition);
            asked.push(id);
        }
        self.asked = Some(asked);
        let topics = topics.into_iter().map(|(topic, set)| (topic, set.into_iter().collect()));
        Some(GroupQuestion::Fetch(topics.collect()))
    }

    /// A broker was asked who the coordinator is.
    pub fn handle_found(&mut self, now: u64, response: &FindCoordinatorResponse) {
        self.asked = None;
        if response.error != ErrorCode::NONE {
            // Another one may know more.
            self.turn = self.turn.wrapping_add(1);
            return self.take_error(now, response.error);
        }
        let address = BrokerAddress { host: response.host.as_str().into(), port: response.port };
        self.is_coordinator = self.peer == Some(response.broker);
        self.place = Some((response.broker, address));
        if !self.is_coordinator {
            (self.link, self.leaves) = (Link::Down, true);
        }
    }

    /// The coordinator was asked to keep offsets.
    pub fn handle_committed(&mut self, now: u64, response: &OffsetCommitResponse) {
        let Some(&[id]) = self.asked.take().as_deref() else { return };
        let answers: HashMap<_, _> = response
            .topics
            .iter()
            .flat_map(|(topic, each)| each.iter().map(move |it| ((&**topic, it.0), it.1)))
            .collect();
        let Some((GroupCall::Commit(offsets), _)) = self.calls.get(&id) else { return };
        let answer = |(topic, partition): &TopicPartition| {
            // What the answer leaves out is asked again.
            let missing = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            answers.get(&(&**topic, *partition)).copied().unwrap_or(missing)
        };
        let errors = offsets.keys().map(|it| (it, answer(it)));
        let errors: Vec<_> = errors.filter(|(_, error)| *error != ErrorCode::NONE).collect();
        let last = errors.iter().find(|(_, error)| final_cause(*error, None).is_some());
        match (last, errors.first()) {
            (Some((it, error)), _) => {
                if let Some(cause) = final_cause(*error, Some(it)) {
                    self.end(id, Err(cause));
                }
            }
            (None, Some(&(_, error))) => self.take_error(now, error),
            (None, None) => self.end(id, Ok(None)),
        }
    }

    /// The coordinator was asked for offsets.
    pub fn handle_fetched(&mut self, now: u64, response: &OffsetFetchResponse) {
        let asked = self.asked.take().unwrap_or_default();
        if response.error != ErrorCode::NONE {
            return self.take_error(now, response.error);
        }
        let answers: HashMap<_, _> = response
            .topics
            .iter()
            .flat_map(|(topic, kept)| kept.iter().map(move |it| ((&**topic, it.partition), it)))
            .collect();
        for id in asked {
            let Some((GroupCall::Committed(it), _)) = self.calls.get(&id) else { continue };
            let Some(kept) = answers.get(&(&*it.0, it.1)) else {
                self.pause(now, None);
                continue;
            };
            match (kept.error, final_cause(kept.error, Some(it))) {
                (ErrorCode::NONE, _) => {
                    let found = (kept.offset >= 0).then_some((kept.offset, kept.leader_epoch));
                    self.end(id, Ok(found));
                }
                (_, Some(cause)) => self.end(id, Err(cause)),
                (error, None) => self.take_error(now, error),
            }
        }
    }

    /// An error of the coordinator, or about it.
    fn take_error(&mut self, now: u64, error: ErrorCode) {
        let problem = Problem::from(error);
        match error {
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
                self.forget_place(now, Some(&problem));
            }
            error => match final_cause(error, None) {
                Some(cause) => self.fail_all(&cause),
                None => self.pause(now, Some(&problem)),
            },
        }
    }

    /// When to look again what can be asked, and which calls are over: after `now`.
    pub fn poll_timeout(&self, now: u64) -> Option<u64> {
        let deadlines = self.calls.values().map(|(_, patience)| patience.deadline);
        let retry = (!self.calls.is_empty()).then_some(self.retry_at);
        deadlines.chain(retry).filter(|&at| at > now).min()
    }
}

/// What an error is to the application, if asking again does not mend it.
fn final_cause(error: ErrorCode, of: Option<&TopicPartition>) -> Option<ConsumeErrorCause> {
    let problem = match of {
        Some((topic, partition)) => {
            let text = format_args!("{topic}-{partition}: {}", Problem::from(error));
            Problem::new(ProblemKind::Broker(error), text)
        }
        None => Problem::from(error),
    };
    match error {
        ErrorCode::NONE => None,
        error if IN_USE.contains(&error) => Some(ConsumeErrorCause::GroupInUse(problem)),
        // What brokers call unknown is over some time, as for records.
        ErrorCode::UNKNOWN_SERVER_ERROR => None,
        error if error.is_retriable() => None,
        _ => Some(ConsumeErrorCause::Refused(problem)),
    }
}

#[cfg(test)]
mod tests;
