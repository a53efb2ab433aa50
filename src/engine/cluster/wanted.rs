//! The topics that brokers are asked about one by one: those that something waits for, and those
//! that brokers say do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::snapshot::is_described;
use super::{BrokerAddress, ClusterSnapshot, MetadataConfig};
use crate::engine::meter::MetadataStanding;
use crate::engine::protocol::{ErrorCode, MetadataResponse};
use crate::error::DeliveryErrorCause;
use crate::problem::Problem;

/// A topic for which what waits must fail: it does not exist, no broker said anything of it in
/// time, or this client may not use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTopic {
    /// The topic.
    pub topic: Arc<str>,
    /// Only what came before this time (nanoseconds, monotonic).
    pub came_before: u64,
    /// Why.
    pub cause: DeliveryErrorCause,
}

/// Why a topic is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The application got a handle. No record waits, so the topic must not be created for it.
    Handle,
    /// Records wait in the topic's stash.
    Record,
    /// Records wait in the topic's stash for a partition that is not known, of a topic that is.
    Partition,
    /// Records wait in a lane whose leader says that there is no such topic.
    Lane,
}

/// A topic that something waited for, and that was found to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The topic.
    pub topic: Arc<str>,
    /// When brokers were asked about it, nanoseconds, monotonic: what came later waits for another
    /// answer, if this one does not say enough.
    pub asked_at: u64,
}

/// Topics to ask about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicQuestion {
    /// Their names (none: the question is about brokers only).
    pub topics: Vec<Arc<str>>,
    /// Whether brokers may create those that do not exist: records wait for each of them.
    pub may_create: bool,
}

/// The part of the time since a question came up that passes until it is asked again.
const PACE_SHARE: u64 = 10;

/// When a question that came up at `since` and was asked last at `asked` is asked again: after a
/// tenth of the time that it has been open, within the limits of `config`. `spread` varies that, so
/// that clients with the same question do not ask in step.
pub(super) fn asks_again_at(config: &MetadataConfig, since: u64, asked: u64, spread: u64) -> u64 {
    let (least, most) = (config.interval_min, config.leaderless_interval_max);
    let wait = (asked.saturating_sub(since) / PACE_SHARE).clamp(least, most.max(least));
    asked + config.reconnect_backoff.lengthen(wait, spread)
}

#[derive(Debug)]
struct Wanted {
    /// When the question came up.
    since: u64,
    /// Something waits in its stash since then.
    waiting_since: Option<u64>,
    /// How long records of this topic may wait, in nanoseconds, if not as long as others.
    delivery_timeout: Option<u64>,
    /// Something waits, in the stash or in a lane.
    record_waits: bool,
    /// Records wait for a partition that is not known ([`Want::Partition`]). Only the answer to a
    /// question that was sent after they came counts: an older one would fail a record for a
    /// partition that has just been added.
    must_ask: bool,
    /// The next question, if it was not sent yet, does not wait for `interval_min`. It goes as soon
    /// as the metadata connection owes no answer.
    at_once: bool,
    /// When the present question was sent; `None` while it must still be sent.
    asked_at: Option<u64>,
    /// Since when brokers say that there is no such topic.
    unknown_since: Option<u64>,
    /// What the last response said about it.
    error: ErrorCode,
    /// The first broker that said so, as long as no other one has confirmed it.
    said_by: Option<BrokerAddress>,
    /// The log was told that it is unknown.
    warned: bool,
    /// Whether this client creates it.
    creation: Creation,
}

/// How far this client is with creating a topic.
#[derive(Debug)]
enum Creation {
    /// It does not.
    No,
    /// It does as soon as records wait and brokers say that there is no such topic.
    Due,
    /// The cluster was asked to, in this round.
    Asked(u64),
    /// The cluster has created it, and brokers may not have heard of that yet.
    Done,
    /// The cluster refused.
    Refused(Problem),
}

/// At most so many requests for new topics are under way at once. One would not do: a broker that
/// does not answer it would hold up the topics of all later records.
const CREATIONS_MAX: usize = 4;

/// A topic that could not be created is not tried again within this time, in nanoseconds: a program
/// that sends on and on must not keep the controller busy.
const CREATION_INTERVAL_MIN: u64 = 1_000_000_000;

/// A topic is called unknown only when two brokers have said so. If after its limit no second one
/// has, the first is believed after this time, in nanoseconds: all others may be down.
const SECOND_OPINION_MAX: u64 = 2_000_000_000;

/// A topic that stays unknown for so long, in nanoseconds, is worth a warning, long before what
/// waits for it fails: its name may be misspelt. One that was just created is known sooner.
const WARNING_AFTER: u64 = 1_000_000_000;

/// The time and the reason at which what waits for a topic fails.
enum Due {
    /// A broker says that it will never be there for this client.
    Now,
    /// It does not exist, and the cluster does not let this client create it.
    Refused(Problem),
    /// Brokers say that it does not exist.
    Unknown(u64),
    /// No broker has said anything of it.
    Unanswered(u64),
}

impl Wanted {
    /// When the log is to hear that it is unknown, if it is to.
    fn warning_at(&self) -> Option<u64> {
        if self.is_being_created() {
            return None;
        }
        let is_unknown =
            matches!(self.error, ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let since = self.waiting_since?.max(self.unknown_since?);
        (is_unknown && !self.warned).then(|| since.saturating_add(WARNING_AFTER))
    }

    fn new(now: u64) -> Self {
        Wanted {
            since: now,
            waiting_since: None,
            delivery_timeout: None,
            record_waits: false,
            must_ask: false,
            at_once: false,
            asked_at: None,
            unknown_since: None,
            error: ErrorCode::NONE,
            said_by: None,
            warned: false,
            creation: Creation::No,
        }
    }

    /// Whether records wait for it to be created.
    fn is_being_created(&self) -> bool {
        matches!(self.creation, Creation::Due | Creation::Asked(_)) && self.waiting_since.is_some()
    }

    /// When it is to be created, if it is; `last` is when that was tried last.
    fn creates_at(&self, last: Option<u64>) -> Option<u64> {
        let is_unknown =
            matches!(self.error, ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let is_due = matches!(self.creation, Creation::Due) && is_unknown;
        let since = self.waiting_since?.max(self.unknown_since?);
        let earliest = last.map_or(0, |at| at.saturating_add(CREATION_INTERVAL_MIN));
        is_due.then(|| since.max(earliest))
    }

    /// A broker says that it does not exist; `asked` is which, if there are others to ask.
    fn handle_unknown(&mut self, now: u64, asked: Option<&BrokerAddress>) {
        if self.unknown_since.is_none() {
            self.said_by = asked.cloned();
        } else if self.said_by.as_ref() != asked {
            self.said_by = None;
        }
        self.unknown_since.get_or_insert(now);
    }

    fn delivery_timeout(&self, config: &MetadataConfig) -> u64 {
        self.delivery_timeout.unwrap_or(config.delivery_timeout)
    }

    /// How long brokers may say that it does not exist.
    fn unknown_max(&self, config: &MetadataConfig) -> u64 {
        config.topic_unknown_max.min(self.delivery_timeout(config))
    }

    /// The earlier of two limits: unknown for too long, or unanswered for too long. `None` while
    /// nothing waits for it and no broker says that it does not exist.
    fn due(&self, config: &MetadataConfig) -> Option<Due> {
        let since = self.waiting_since;
        let refused = matches!(
            self.error,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::INVALID_TOPIC_EXCEPTION
        );
        if since.is_some() && refused {
            return Some(Due::Now);
        }
        if let (Some(_), Creation::Refused(problem)) = (since, &self.creation) {
            return Some(Due::Refused(problem.clone()));
        }
        let unanswered = since.map(|since| since.saturating_add(self.delivery_timeout(config)));
        let unknown = self.unknown_since.map(|unknown| {
            since
                .map_or(unknown, |since| since.max(unknown))
                .saturating_add(self.unknown_max(config))
        });
        let alone = if self.said_by.is_some() { SECOND_OPINION_MAX } else { 0 };
        // What is being created has a time limit of its own.
        let unknown = unknown.filter(|_| !self.is_being_created());
        let unknown = unknown.map(|at| at.saturating_add(alone));
        match (unknown, unanswered) {
            (Some(unknown), Some(unanswered)) if unknown > unanswered => {
                Some(Due::Unanswered(unanswered))
            }
            (Some(unknown), _) => Some(Due::Unknown(unknown)),
            (None, unanswered) => unanswered.map(Due::Unanswered),
        }
    }

    fn asks_at(&self, config: &MetadataConfig, last_asked: Option<u64>, spread: u64) -> u64 {
        match self.asked_at {
            Some(asked) => asks_again_at(config, self.since, asked, spread),
            None if self.at_once => self.since,
            None => {
                let rate_limit = last_asked.map_or(0, |at| at + config.interval_min);
                self.since.max(rate_limit)
            }
        }
    }
}

/// The topics that are asked about one by one.
#[derive(Debug, Default)]
pub(super) struct WantedTopics {
    topics: BTreeMap<Arc<str>, Wanted>,
    /// Topics whose answer has come since these were taken out last.
    arrived: Vec<Arrived>,
    /// Rounds in which the cluster was asked to create topics, and not all is known yet.
    creating: BTreeSet<u64>,
    /// The number of the last round.
    creation_round: u64,
    /// When that was tried last, by topic; of late only.
    created: BTreeMap<Arc<str>, u64>,
}

impl WantedTopics {
    /// The topic is to be asked about.
    pub(super) fn want(&mut self, now: u64, topic: Arc<str>, why: Want, config: &MetadataConfig) {
        let entry = self.topics.entry(topic).or_insert_with(|| Wanted::new(now));
        let record = why != Want::Handle;
        if record && !entry.record_waits && config.auto_create && entry.asked_at.is_some() {
            // It was asked about without the permission to create it.
            entry.asked_at = None;
        }
        entry.record_waits |= record;
        entry.at_once |= why != Want::Lane;
        if matches!(why, Want::Record | Want::Partition) {
            entry.waiting_since.get_or_insert(now);
        }
        if why == Want::Partition {
            entry.must_ask = true;
            entry.asked_at = None;
        }
    }

    /// Records of the topic may wait for so long, in nanoseconds. Without effect on one that is not
    /// asked about.
    pub(super) fn set_delivery_timeout(&mut self, topic: &str, timeout: u64) {
        if let Some(wanted) = self.topics.get_mut(topic) {
            wanted.delivery_timeout = Some(timeout);
        }
    }

    /// This client creates the topic if there is none. Without effect on one that is not asked
    /// about.
    pub(super) fn set_creatable(&mut self, topic: &str) {
        if let Some(wanted) = self.topics.get_mut(topic)
            && matches!(wanted.creation, Creation::No)
        {
            wanted.creation = Creation::Due;
        }
    }

    /// Topics that the cluster is to be asked to create now, and the number of that round. While
    /// several rounds are under way others wait, and then go together.
    pub(super) fn poll_creatable(&mut self, now: u64) -> (u64, Vec<Arc<str>>) {
        if self.creating.len() >= CREATIONS_MAX {
            return (self.creation_round, Vec::new());
        }
        let round = self.creation_round + 1;
        self.created.retain(|_, at| at.saturating_add(CREATION_INTERVAL_MIN) > now);
        let mut topics = Vec::new();
        for (topic, wanted) in &mut self.topics {
            let last = self.created.get(topic).copied();
            if wanted.creates_at(last).is_some_and(|at| at <= now) {
                wanted.creation = Creation::Asked(round);
                self.created.insert(topic.clone(), now);
                topics.push(topic.clone());
            }
        }
        if !topics.is_empty() {
            self.creation_round = round;
            self.creating.insert(round);
        }
        (round, topics)
    }

    /// A topic was created in this round, or there was one; or it was refused.
    pub(super) fn handle_created(&mut self, topic: &str, round: u64, outcome: Result<(), Problem>) {
        let Some(wanted) = self.topics.get_mut(topic) else { return };
        // What was asked of another cluster says nothing of this one.
        if !matches!(wanted.creation, Creation::Asked(asked) if asked == round) {
            return;
        }
        match outcome {
            Ok(()) => self.handle_there(topic),
            Err(problem) => wanted.creation = Creation::Refused(problem),
        }
    }

    /// The topic exists, though brokers may not have heard of it.
    pub(super) fn handle_there(&mut self, topic: &str) {
        let Some(wanted) = self.topics.get_mut(topic) else { return };
        wanted.creation = Creation::Done;
        (wanted.unknown_since, wanted.said_by) = (None, None);
        wanted.error = ErrorCode::NONE;
        (wanted.asked_at, wanted.at_once) = (None, true);
    }

    /// The answer to [`WantedTopics::poll_creatable`] is complete. Topics that it says nothing of
    /// are asked for again.
    pub(super) fn handle_creation_over(&mut self, round: u64) {
        self.creating.remove(&round);
        for wanted in self.topics.values_mut() {
            if matches!(wanted.creation, Creation::Asked(asked) if asked == round) {
                wanted.creation = Creation::Due;
            }
        }
    }

    /// Names the topics that something waits for.
    pub(super) fn add_unknown(&self, standing: &mut MetadataStanding) {
        let waiting = self.topics.iter().filter(|(_, wanted)| wanted.waiting_since.is_some());
        waiting.for_each(|(name, wanted)| standing.add_unknown(name, wanted.unknown_since));
    }

    /// Whether it is among them.
    pub(super) fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// All of them.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// Whether a record waits for any, or one that was known is said not to exist.
    pub(super) fn has_waiting(&self) -> bool {
        self.topics.values().any(|it| it.record_waits || it.unknown_since.is_some())
    }

    /// When the next of them is to be asked about.
    pub(super) fn asks_at(
        &self,
        config: &MetadataConfig,
        last_asked: Option<u64>,
        spread: u64,
    ) -> Option<u64> {
        self.topics.values().map(|wanted| wanted.asks_at(config, last_asked, spread)).min()
    }

    /// The topics whose questions are due. The permission to create is for all topics of a request,
    /// so topics that no record waits for are asked about in a request of their own.
    pub(super) fn ask(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        last_asked: Option<u64>,
        spread: u64,
    ) -> TopicQuestion {
        let due = |wanted: &Wanted| {
            let at = wanted.asks_at(config, last_asked, spread);
            let creates = config.auto_create && matches!(wanted.creation, Creation::No);
            (at <= now).then_some((at, creates && wanted.record_waits))
        };
        let first = self.topics.values().filter_map(due).min_by_key(|(at, _)| *at);
        let Some((_, may_create)) = first else { return TopicQuestion::default() };
        let mut topics = Vec::new();
        for (name, wanted) in &mut self.topics {
            if due(wanted).is_some_and(|(_, creates)| creates == may_create) {
                wanted.asked_at = Some(now);
                topics.push(name.clone());
            }
        }
        TopicQuestion { topics, may_create }
    }

    /// A question went unanswered: it is asked again at once.
    pub(super) fn handle_lost(&mut self, question: &TopicQuestion) {
        for topic in &question.topics {
            if let Some(wanted) = self.topics.get_mut(topic) {
                (wanted.asked_at, wanted.at_once) = (None, true);
            }
        }
    }

    /// Metadata arrived, and `snapshot` is what is known with it. `asked` is whom it is from, if
    /// there are others to ask.
    pub(super) fn handle_metadata(
        &mut self,
        now: u64,
        response: &MetadataResponse,
        snapshot: &ClusterSnapshot,
        asked: Option<BrokerAddress>,
    ) {
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            let known = snapshot.topics.get_key_value(name);
            if known.is_some() && is_described(topic) {
                self.handle_described(name);
            } else if let Some(wanted) = self.topics.get_mut(name) {
                wanted.error = topic.error;
                if known.is_none() || topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                    wanted.handle_unknown(now, asked.as_ref());
                }
            } else if let Some((name, _)) = known
                && topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            {
                let mut missing = Wanted::new(now);
                (missing.error, missing.asked_at) = (topic.error, Some(now));
                missing.handle_unknown(now, asked.as_ref());
                self.topics.insert(name.clone(), missing);
            }
        }
        let named: BTreeSet<_> =
            response.topics.iter().filter_map(|topic| topic.name.as_deref()).collect();
        self.topics.retain(|name, wanted| {
            let known = snapshot.topics.contains_key(name);
            let answered = wanted.asked_at.is_some();
            let missing = wanted.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            let is_named = named.contains(&**name);
            if answered && !known && !is_named {
                // The answer leaves it out.
                wanted.handle_unknown(now, asked.as_ref());
            }
            // Forget a topic that nothing waits for. Keep a known one that a broker denied, until
            // it is certain whether it was deleted.
            let waits = if known { wanted.waiting_since.is_some() } else { wanted.record_waits };
            let open = known && (missing || wanted.error == ErrorCode::NONE);
            waits || open || !answered
        });
    }

    /// The topic exists.
    fn handle_described(&mut self, name: &str) {
        let Some(wanted) = self.topics.get_mut(name) else { return };
        if wanted.must_ask && wanted.asked_at.is_none() {
            // The answer is older than the question.
            (wanted.unknown_since, wanted.error) = (None, ErrorCode::NONE);
            wanted.said_by = None;
        } else if let Some((topic, wanted)) = self.topics.remove_entry(name) {
            self.arrived.push(Arrived { topic, asked_at: wanted.asked_at.unwrap_or(0) });
        }
    }

    /// The cluster is another one, of which nothing was asked yet.
    pub(super) fn start_over(&mut self) {
        for wanted in self.topics.values_mut() {
            (wanted.unknown_since, wanted.said_by) = (None, None);
            (wanted.asked_at, wanted.at_once) = (None, true);
            wanted.error = ErrorCode::NONE;
            if !matches!(wanted.creation, Creation::No) {
                wanted.creation = Creation::Due;
            }
        }
        self.creating.clear();
    }

    /// Topics that something waited for, and that were found to exist since the last call.
    pub(super) fn take_arrived(&mut self) -> Vec<Arrived> {
        std::mem::take(&mut self.arrived)
    }

    /// Topics for which nothing must wait any longer. `problem` is what is wrong with the metadata
    /// channel.
    pub(super) fn poll_unknown(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        problem: Option<&Problem>,
    ) -> Vec<UnknownTopic> {
        let mut failed = Vec::new();
        self.topics.retain(|topic, wanted| {
            let Some(due) = wanted.due(config) else { return true };
            let last = match wanted.error {
                ErrorCode::NONE => problem.cloned(),
                error => Some(error.into()),
            };
            let (cause, limit, stays) = match due {
                Due::Now => {
                    let cause = DeliveryErrorCause::Broker { code: wanted.error, message: None };
                    (cause, None, false)
                }
                Due::Refused(problem) => {
                    (DeliveryErrorCause::TopicNotCreated(problem), None, false)
                }
                Due::Unknown(at) if at <= now => {
                    let limit = wanted.unknown_max(config);
                    let after = Duration::from_nanos(limit);
                    let cause = DeliveryErrorCause::UnknownTopic { after, last };
                    (cause, Some(limit), false)
                }
                Due::Unanswered(at) if at <= now => {
                    let limit = wanted.delivery_timeout(config);
                    let after = Duration::from_nanos(limit);
                    let cause = DeliveryErrorCause::TimedOut { after, last };
                    // What brokers said of it before is not forgotten.
                    (cause, Some(limit), wanted.unknown_since.is_some())
                }
                _ => return true,
            };
            let came_before = limit.map_or(u64::MAX, |limit| now.saturating_sub(limit) + 1);
            failed.push(UnknownTopic { topic: topic.clone(), came_before, cause });
            wanted.waiting_since = None;
            stays
        });
        failed
    }

    /// Topics that records wait for and that brokers have called unknown for a while, each once.
    pub(super) fn poll_suspicious(&mut self, now: u64) -> Vec<Arc<str>> {
        let due = self.topics.iter_mut().filter_map(|(topic, wanted)| {
            let is_due = wanted.warning_at().is_some_and(|at| at <= now);
            wanted.warned |= is_due;
            is_due.then(|| topic.clone())
        });
        due.collect()
    }

    /// When [`WantedTopics::poll_unknown`] or [`WantedTopics::poll_suspicious`] has something to
    /// say next.
    pub(super) fn poll_timeout(&self, now: u64, config: &MetadataConfig) -> Option<u64> {
        let due = |wanted: &Wanted| match wanted.due(config)? {
            Due::Now | Due::Refused(_) => Some(now),
            Due::Unknown(at) | Due::Unanswered(at) => Some(at),
        };
        let warnings = self.topics.values().filter_map(Wanted::warning_at);
        let creations = self.topics.iter().filter(|_| self.creating.len() < CREATIONS_MAX);
        let creations = creations
            .filter_map(|(topic, wanted)| wanted.creates_at(self.created.get(topic).copied()));
        self.topics.values().filter_map(due).chain(warnings).chain(creations).min()
    }
}
