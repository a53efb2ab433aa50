//! When to ask for metadata, whom, and for what.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::channel::{Channel, ChannelId, ChannelState, SecondOpinion};
use super::doubt::Doubts;
use super::foreign::{ForeignCluster, ForeignWatch};
use super::identity::IdentityQuestion;
use super::troubled::TroubledTopics;
use super::wanted::{Arrived, TopicQuestion, UnknownTopic, WantedTopics};
use super::{BrokerAddress, ClusterSnapshot, LeaderHint};
use crate::config::{ClusterChange, ReconnectBackoff, ReconnectWaits};
use crate::engine::meter::MetadataStanding;
use crate::engine::protocol::{ErrorCode, MetadataResponse};
use crate::engine::random::Random;
use crate::problem::{Problem, ProblemKind};

/// A question that is due within this time counts as open (nanoseconds).
const SOON: u64 = 1_000_000_000;

/// The shortest wait after every address failed (nanoseconds), whatever is configured.
const WAIT_MIN: u64 = 1_000_000;

/// Settings of the metadata channel. Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct MetadataConfig {
    /// Where to start, and where to return to when no known broker answers.
    pub bootstrap: Vec<BrokerAddress>,
    /// Metadata older than this is asked for again.
    pub age_max: u64,
    /// At least this long between two requests.
    pub interval_min: u64,
    /// The longest wait between two questions about unknown topics, or about partitions without
    /// leader. Waits begin at `interval_min` and grow with the time for which the topic is unknown
    /// or the partition without leader.
    pub leaderless_interval_max: u64,
    /// A topic that stays unknown for this long fails what waits for it.
    pub topic_unknown_max: u64,
    /// What waits for a topic of which no broker has said anything fails after this.
    pub delivery_timeout: u64,
    /// Waits after every address failed.
    pub reconnect_backoff: ReconnectBackoff,
    /// Whether asking for a topic may create it.
    pub auto_create: bool,
    /// Whether a producer id is needed.
    pub idempotent: bool,
    /// Whether records fail where there is none.
    pub idempotence_required: bool,
    /// What happens when the brokers turn out to be of another cluster.
    pub on_cluster_change: ClusterChange,
    /// Another cluster is believed no earlier than this after a broker first told of it.
    pub cluster_change_hold: u64,
}

/// What to ask on the connection that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataQuery {
    /// Metadata.
    Metadata(TopicQuestion),
    /// A new producer id.
    InitProducerId,
}

/// Decides when to ask for metadata and whom. Pure: the metadata loop feeds and obeys it.
///
/// It asks on one connection, the present one. If that broker owes an answer for a second, or its
/// answers help no lane in trouble, the machine asks another broker on a second connection. The
/// connection whose answer comes first and tells more is the present one from then on, and the
/// driver closes the other: [`MetadataMachine::poll_close`].
pub struct MetadataMachine {
    pub(super) config: MetadataConfig,
    pub(super) snapshot: Arc<ClusterSnapshot>,
    published: u64,
    pub(super) wanted: WantedTopics,
    pub(super) troubled: TroubledTopics,
    /// Known topics that nothing was sent to for long: they are not asked about until they are
    /// wanted again.
    pub(super) asleep: BTreeSet<Arc<str>>,
    pub(super) doubts: Doubts,
    /// By [`ChannelId::index`].
    pub(super) channels: [Channel; 2],
    pub(super) present: ChannelId,
    pub(super) second: SecondOpinion,
    candidates: VecDeque<BrokerAddress>,
    /// How long to wait after all candidates failed.
    waits: ReconnectWaits,
    pub(super) refresh_wanted: bool,
    /// A broker closed the connection while it owed nothing, and nobody was asked since: that one,
    /// or all of them, may be gone.
    pub(super) closed_idle: bool,
    /// It is wanted because lanes are in trouble.
    pub(super) in_trouble: bool,
    /// When all topics were asked about last.
    pub(super) last_asked: Option<u64>,
    /// When anything was.
    pub(super) last_asked_any: Option<u64>,
    /// When the last answer about all of them came.
    pub(super) last_answered: Option<u64>,
    /// Answers about all topics in use; it wraps around.
    refreshes: u32,
    pub(super) identity: IdentityQuestion,
    pub(super) foreign: ForeignWatch,
    /// Another cluster answers in the place of the known one, and is not followed.
    changed_to: Option<ForeignCluster>,
    /// A broker said that what is known of the brokers is of no use (KIP-1102).
    rebootstrap: bool,
    last_problem: Option<Problem>,
    /// A random number that varies the wait after the last question: clients that lost the same
    /// leader must not ask in step.
    pub(super) spread: u64,
    pub(super) random: Random,
}

impl MetadataMachine {
    /// A machine that knows the bootstrap list only. `random` spreads clients over brokers.
    pub fn new(config: MetadataConfig, random: u64) -> Self {
        MetadataMachine {
            identity: IdentityQuestion::new(config.idempotent),
            second: SecondOpinion::new(config.reconnect_backoff.longest),
            config,
            snapshot: Arc::default(),
            published: 0,
            wanted: WantedTopics::default(),
            troubled: TroubledTopics::default(),
            asleep: BTreeSet::new(),
            doubts: Doubts::default(),
            channels: [Channel::new(), Channel::new()],
            present: ChannelId::FIRST,
            candidates: VecDeque::new(),
            waits: ReconnectWaits::default(),
            refresh_wanted: true,
            closed_idle: false,
            in_trouble: false,
            last_asked: None,
            last_asked_any: None,
            last_answered: None,
            refreshes: 0,
            foreign: ForeignWatch::default(),
            changed_to: None,
            rebootstrap: false,
            last_problem: None,
            spread: 0,
            random: Random::new(random),
        }
    }

    #[cfg(test)]
    pub(super) fn config(&self) -> &MetadataConfig {
        &self.config
    }

    #[cfg(test)]
    pub(super) fn set_auto_create(&mut self, auto_create: bool) {
        self.config.auto_create = auto_create;
    }

    /// The newest picture.
    pub fn snapshot(&self) -> &Arc<ClusterSnapshot> {
        &self.snapshot
    }

    /// What is wrong; `None` once all is well again.
    pub fn last_problem(&self) -> Option<&Problem> {
        self.last_problem.as_ref().or(self.identity.problem())
    }

    /// Whether it was ever answered, whether something is wrong, and whether batches can be
    /// numbered, or need not be.
    pub fn vital(&self) -> (bool, bool, bool) {
        (self.last_answered.is_some(), self.last_problem().is_some(), self.has_identity())
    }

    fn has_identity(&self) -> bool {
        let has = self.identity.identity().is_some() || self.identity.is_done_without();
        has || !self.config.idempotent
    }

    /// How the metadata channel stands. `leaderless` is counted by the caller, for whom that is
    /// worth a walk through all topics.
    pub fn standing(&self, now: u64, leaderless: usize) -> MetadataStanding {
        let present = self.channel(self.present);
        let mut standing = MetadataStanding {
            asks: present.address.as_ref().map(ToString::to_string),
            is_connected: present.state == ChannelState::Ready,
            answered_at: self.last_answered,
            // A connection that was lost while nothing is to be asked is no trouble.
            problem: self.last_problem().filter(|_| self.asks_at() <= now + SOON).cloned(),
            cluster_id: self.snapshot.cluster_id.clone(),
            has_identity: self.has_identity(),
            leaderless,
            ..MetadataStanding::default()
        };
        self.wanted.add_unknown(&mut standing);
        standing
    }

    /// An error says that the picture is out of date.
    pub fn handle_refresh_wanted(&mut self) {
        self.refresh_wanted = true;
        self.in_trouble = true;
    }

    /// A Produce response named a leader.
    pub fn handle_hint(&mut self, hint: &LeaderHint) {
        if self.snapshot.is_news(hint) {
            // Not copied again while nobody else has it: many hints may come at once.
            Arc::make_mut(&mut self.snapshot).apply(hint);
            self.second.handle_moved();
            self.troubled.handle_leaders(&hint.topic, &self.snapshot);
        }
    }

    /// Whom to connect to, if it is time for that, and as which connection.
    pub fn poll_connect(&mut self, now: u64) -> Option<(ChannelId, BrokerAddress)> {
        let present = self.present;
        if self.channels.iter().any(|channel| channel.is_left) {
            return None;
        }
        if let ChannelState::Down { retry_at } = self.channel(present).state {
            if retry_at > now || self.asks_at() > now {
                return None;
            }
            if self.candidates.is_empty() {
                self.fill_candidates();
            }
            let address = self.candidates.pop_front()?;
            return Some((present, self.begin(now, present, address)));
        }
        let beside = present.other();
        if !self.channel(beside).is_down() || self.second_due_at().is_none_or(|at| at > now) {
            return None;
        }
        if self.candidates.is_empty() {
            self.fill_candidates();
        }
        let asked = self.channel(present).address.clone();
        self.candidates.retain(|address| Some(address) != asked.as_ref());
        let address = self.candidates.pop_front()?;
        self.second.handle_begun(now);
        Some((beside, self.begin(now, beside, address)))
    }

    fn begin(&mut self, now: u64, id: ChannelId, address: BrokerAddress) -> BrokerAddress {
        let channel = self.channel_mut(id);
        channel.clear(now);
        channel.state = ChannelState::Connecting;
        channel.address = Some(address.clone());
        channel.owes_since = Some(now);
        address
    }

    /// When another broker is asked beside the present one, if there is another.
    fn second_due_at(&self) -> Option<u64> {
        let present = self.channel(self.present);
        let is_other = |address: &BrokerAddress| Some(address) != present.address.as_ref();
        let others = self.snapshot.brokers.values().chain(&self.config.bootstrap).any(is_other);
        self.second.due_at(present).filter(|_| others && !present.is_down())
    }

    pub(super) fn channel(&self, id: ChannelId) -> &Channel {
        &self.channels[id.index()]
    }

    pub(super) fn channel_mut(&mut self, id: ChannelId) -> &mut Channel {
        &mut self.channels[id.index()]
    }

    /// A connection that the driver must close: another one answered, or it was tried for long
    /// enough. Nothing more is to be reported of it.
    pub fn poll_close(&mut self, now: u64) -> Option<ChannelId> {
        let beside = self.present.other();
        if !self.channel(beside).is_down() && self.second.gives_up_at() <= now {
            self.second.handle_failed(now, !self.candidates.is_empty());
            self.channel_mut(beside).is_left = true;
        }
        let id = ChannelId::ALL.into_iter().find(|&id| self.channel(id).is_left)?;
        match self.channel(id).state {
            ChannelState::Down { .. } => self.channel_mut(id).is_left = false,
            _ => self.channel_mut(id).clear(now),
        }
        Some(id)
    }

    /// Known brokers first, in random order, then the bootstrap list, with fresh names (KIP-899).
    fn fill_candidates(&mut self) {
        let mut known: Vec<_> = self.snapshot.brokers.values().cloned().collect();
        if self.rebootstrap {
            known.clear();
        }
        let mut bootstrap = self.config.bootstrap.clone();
        self.shuffle(&mut known);
        self.shuffle(&mut bootstrap);
        // First those that may have what others lack.
        known.sort_by_key(|broker| self.identity.is_lacking(broker));
        self.candidates.extend(known);
        self.candidates.extend(bootstrap);
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.random.draw() % (last as u64 + 1)) as usize);
        }
    }

    /// The connection is ready for requests.
    pub fn handle_ready(&mut self, id: ChannelId) {
        let channel = self.channel_mut(id);
        channel.state = ChannelState::Ready;
        (channel.answered, channel.is_of_cluster) = (false, false);
    }

    /// The connection is of use: the next time one is needed, the search starts over.
    pub(super) fn handle_answer(&mut self, now: u64, id: ChannelId) {
        let channel = self.channel_mut(id);
        channel.in_flight = None;
        channel.answered = true;
        let took = channel.owes_since.take().map_or(0, |since| now.saturating_sub(since));
        self.waits.reset();
        self.candidates.clear();
        let other = id.other();
        let keeps_other = id == self.present && self.second.is_fruitless();
        if !keeps_other && !self.channel(other).is_down() {
            self.channel_mut(other).is_left = true;
        }
        if id != self.present {
            self.present = id;
            self.second.handle_switched();
        }
        self.second.handle_answer(took);
    }

    /// No connection could be made, or it is gone.
    pub fn handle_down(&mut self, id: ChannelId, now: u64, problem: Problem) {
        // A peer that only shakes hands counts as one that could not be reached.
        let channel = self.channel_mut(id);
        let was_useful = channel.state == ChannelState::Ready && channel.answered;
        let in_flight = channel.in_flight.take();
        let address = channel.address.take();
        self.foreign.handle_down(address.as_ref());
        if id != self.present {
            self.second.handle_failed(now, !self.candidates.is_empty());
            return self.channel_mut(id).clear(now);
        }
        let problem = match in_flight {
            Some(MetadataQuery::InitProducerId) => problem.at("InitProducerId"),
            _ => problem,
        };
        self.last_problem = Some(problem.clone());
        let in_part = self.channel(id).in_part;
        match in_flight {
            Some(MetadataQuery::Metadata(question)) => {
                self.wanted.handle_lost(&question);
                self.refresh_wanted |= !in_part;
                self.last_asked = None;
            }
            Some(MetadataQuery::InitProducerId) => {
                let random = self.random.draw();
                self.identity.handle_lost(now, &self.config, random, problem);
            }
            None => self.closed_idle |= was_useful,
        }
        let mut wait = 0;
        if !was_useful && self.candidates.is_empty() {
            let random = self.random.draw();
            let backoff = &self.config.reconnect_backoff;
            // Never none: a driver goes on as long as there is somebody to connect to.
            wait = backoff.vary(self.waits.fail(now, backoff), random).max(WAIT_MIN);
        }
        self.go_on_without(id, now.saturating_add(wait));
    }

    /// The present channel has no connection, and gets none before `retry_at`.
    fn go_on_without(&mut self, id: ChannelId, retry_at: u64) {
        self.channel_mut(id).clear(retry_at);
        if !self.channel(id.other()).is_down() {
            self.present = id.other();
            self.second.handle_switched();
        }
    }

    /// The address may not be tried before `until`: another connection of the producer's found it
    /// wanting just now. The others are tried meanwhile.
    pub fn handle_postponed(&mut self, id: ChannelId, now: u64, until: u64, problem: Problem) {
        if id != self.present {
            return self.handle_down(id, now, problem);
        }
        self.last_problem.get_or_insert(problem);
        self.go_on_without(id, if self.candidates.is_empty() { until } else { now });
    }

    /// Whether a topic may be created for a record that waits for it.
    pub fn auto_create(&self) -> bool {
        self.config.auto_create
    }

    /// Whether a connection was made and owes nothing: brokers close such as they please.
    pub fn is_idle(&self, id: ChannelId) -> bool {
        let channel = self.channel(id);
        channel.state == ChannelState::Ready && channel.in_flight.is_none()
    }

    /// Metadata arrived.
    pub fn handle_metadata(&mut self, id: ChannelId, now: u64, response: &MetadataResponse) {
        let cluster_id = response.cluster_id.as_deref();
        if let Some(found) = self.foreign.foreign_id(&self.snapshot, cluster_id)
            && !self.follows(id, now, &found, response)
        {
            return;
        }
        let for_trouble = self.channel(id).for_trouble;
        let in_part = std::mem::take(&mut self.channel_mut(id).in_part);
        // The first connection owes a producer id, and the second was asked for metadata only to be
        // asked for an id as well: whichever gives one first is kept. To switch to it now would
        // give up what the first one was asked, again and again where ids take their time.
        let owes_identity =
            self.channel(self.present).in_flight == Some(MetadataQuery::InitProducerId);
        let is_candidate = id != self.present && owes_identity;
        if is_candidate {
            let channel = self.channel_mut(id);
            (channel.in_flight, channel.owes_since) = (None, None);
            // The next is tried in its place.
            channel.is_left |= response.error != ErrorCode::NONE;
        } else {
            self.handle_answer(now, id);
        }
        self.channel_mut(id).is_of_cluster = response.error == ErrorCode::NONE;
        self.changed_to = None;
        if !in_part || self.last_answered.is_none() {
            self.last_answered = Some(now);
            self.refreshes = self.refreshes.wrapping_add(1);
        }
        self.rebootstrap = response.error == ErrorCode::REBOOTSTRAP_REQUIRED;
        if response.error != ErrorCode::NONE {
            self.last_problem = Some(Problem::from(response.error).at("metadata"));
            self.refresh_wanted = true;
            return;
        }
        self.last_problem = None;
        let news = self.merge(id, now, response);
        let asked = self.channel(id).address.clone();
        let is_alone = self.snapshot.brokers.len() < 2;
        self.wanted.handle_metadata(now, response, &self.snapshot, asked.filter(|_| !is_alone));
        let for_lanes =
            for_trouble || self.channel(id).about_leaders && self.troubled.has_leaderless();
        let for_topics = self.wanted.has_waiting();
        if !is_candidate {
            self.second.handle_metadata(now, news, for_lanes, for_topics);
        }
    }

    /// A broker of another cluster than the known one answered. Returns whether the producer goes
    /// on there; else the connection is of no use.
    fn follows(
        &mut self,
        id: ChannelId,
        now: u64,
        found: &Arc<str>,
        response: &MetadataResponse,
    ) -> bool {
        let address = self.channel(id).address.clone();
        let hold = self.config.cluster_change_hold;
        let address = address.as_ref();
        let is_believed = self.foreign.handle_foreign(now, hold, found, address, &self.snapshot);
        let known = self.snapshot.cluster_id.clone().unwrap_or_default();
        if is_believed && self.config.on_cluster_change == ClusterChange::Follow {
            self.go_to_another(now, response);
            return true;
        }
        let text = format_args!("it belongs to the cluster {found}, not to {known}");
        let problem = Problem::new(ProblemKind::OtherCluster, text);
        if is_believed {
            self.changed_to = Some(ForeignCluster { known, found: found.clone() });
        }
        // The next is asked, the known brokers first.
        let channel = self.channel_mut(id);
        channel.answered = false;
        if !self.foreign.is_heard_again() {
            self.candidates.clear();
        }
        self.handle_down(id, now, problem);
        self.channel_mut(id).is_left = true;
        self.refresh_wanted = true;
        false
    }

    /// How often brokers answered about all topics in use, with or without news; it wraps around.
    pub fn refreshes(&self) -> u32 {
        self.refreshes
    }

    /// The clusters, if another one answers in the place of the known one and is not followed.
    pub fn changed_to(&self) -> Option<&ForeignCluster> {
        self.changed_to.as_ref()
    }

    /// The connection that must be closed, and the bootstrap list gone through: its broker says
    /// that it does not belong to the cluster any more.
    pub fn wants_rebootstrap(&self) -> Option<ChannelId> {
        let present = self.channel(self.present);
        let wants = self.rebootstrap && self.is_idle(self.present) && present.answered;
        wants.then_some(self.present)
    }

    /// The picture, if it changed since the last call.
    pub fn take_snapshot(&mut self) -> Option<Arc<ClusterSnapshot>> {
        if self.snapshot.generation == self.published {
            return None;
        }
        self.published = self.snapshot.generation;
        Some(self.snapshot.clone())
    }

    /// Topics that something waited for, and that were found to exist since the last call.
    pub fn take_arrived(&mut self) -> Vec<Arrived> {
        self.wanted.take_arrived()
    }

    /// Topics that something waits for in vain. Those that brokers say do not exist are in the
    /// picture no longer.
    pub fn poll_unknown(&mut self, now: u64) -> Vec<UnknownTopic> {
        for topic in self.troubled.poll_lacking(now, &self.config) {
            Arc::make_mut(&mut self.snapshot).forget_lacking(&topic);
            self.troubled.handle_changed(now, &topic, &self.snapshot);
        }
        let unknown = self.wanted.poll_unknown(now, &self.config, self.last_problem.as_ref());
        for UnknownTopic { topic, cause, .. } in &unknown {
            if cause.is_topic_missing() && self.snapshot.topics.contains_key(topic) {
                self.forget(topic);
            }
        }
        unknown
    }

    /// Topics of which the log should say that they are unknown: each once, until it is known.
    pub fn poll_suspicious(&mut self, now: u64) -> Vec<Arc<str>> {
        self.wanted.poll_suspicious(now)
    }

    /// When to call the `poll_*` functions again, nanoseconds, monotonic.
    pub fn poll_timeout(&self, now: u64) -> Option<u64> {
        let unknown = self.wanted.poll_timeout(now, &self.config);
        let lacking = self.troubled.poll_timeout(&self.config);
        let present = self.channel(self.present);
        let next = match present.state {
            ChannelState::Down { retry_at } => Some(self.asks_at().max(retry_at)),
            ChannelState::Connecting => None,
            ChannelState::Ready if present.in_flight.is_some() => None,
            ChannelState::Ready => Some(self.asks_at()),
        };
        let second = match self.channel(self.present.other()).is_down() {
            true => self.second_due_at(),
            false => Some(self.second.gives_up_at()).filter(|&at| at != u64::MAX),
        };
        [unknown, lacking, next, second].into_iter().flatten().min()
    }
}
