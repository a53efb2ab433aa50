//! What the metadata machine asks, when and whom, and what it makes of the answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::channel::{ChannelId, ChannelState, News};
use super::doubt::Doubts;
use super::machine::{MetadataMachine, MetadataQuery};
use super::snapshot::Answer;
use super::troubled::TroubledTopics;
use super::wanted::{TopicQuestion, Want};
use crate::engine::protocol::MetadataResponse;
use crate::problem::Problem;

/// Once a broker has closed the idle connection, metadata older than this is asked for again, in
/// nanoseconds: a producer that sends nothing would else take a cluster that is gone for a healthy
/// one until `metadata_max_age`. Not at once: something between client and broker may close
/// connections after each answer.
const CLOSED_IDLE_AGE_MAX: u64 = 5_000_000_000;

/// Which topics a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those that something waits for, and no other.
    Wanted,
    /// All that are in use.
    All,
    /// Those with partitions that nobody leads.
    Leaderless,
    /// All that are in use, and those that something waits for, due or not.
    Everything,
}

impl MetadataMachine {
    /// When the next question is due, in the past if it is due now.
    pub(super) fn asks_at(&self) -> u64 {
        let metadata = self.asks_metadata_at();
        self.asks_identity_at().map_or(metadata, |identity| identity.min(metadata))
    }

    /// Metadata comes first: lanes need leaders before they need an identity.
    fn asks_identity_at(&self) -> Option<u64> {
        self.identity.asks_at().filter(|_| self.last_answered.is_some())
    }

    /// What to ask on a connection, if anything is due.
    pub fn poll_query(&mut self, id: ChannelId, now: u64) -> Option<MetadataQuery> {
        let channel = self.channel(id);
        if channel.state != ChannelState::Ready || channel.in_flight.is_some() || channel.is_left {
            return None;
        }
        let is_beside = id != self.present;
        if !is_beside && self.asks_at() > now {
            return None;
        }
        // What is due for longer goes first, so that neither can starve the other. A second broker
        // is asked what the first one owes.
        let (metadata_at, scope) = self.next_question(now);
        let owed = self.channel(self.present).in_flight.clone().filter(|_| is_beside);
        // A producer id is asked for only where this very connection has answered metadata. The
        // address may be another cluster's by now, and its ids mean nothing in ours; and a broker
        // that is only taken for an old one has not shown that it is one.
        let may_ask_identity = self.channel(id).is_of_cluster;
        let identity_at = self.asks_identity_at().filter(|_| may_ask_identity);
        let query = match owed {
            Some(MetadataQuery::InitProducerId) if !may_ask_identity => {
                MetadataQuery::Metadata(self.question(id, now, scope))
            }
            Some(MetadataQuery::InitProducerId) => MetadataQuery::InitProducerId,
            Some(MetadataQuery::Metadata(owed)) => {
                let present = self.channel(self.present);
                let (in_part, about_leaders) = (present.in_part, present.about_leaders);
                let channel = self.channel_mut(id);
                (channel.in_part, channel.about_leaders) = (in_part, about_leaders);
                MetadataQuery::Metadata(owed)
            }
            None if !is_beside && identity_at.is_some_and(|at| at < metadata_at) => {
                MetadataQuery::InitProducerId
            }
            // The first one owes nothing, and its answers have helped nobody, or nothing is due:
            // the second is asked for all that could help.
            None if is_beside && (metadata_at > now || self.second.is_fruitless()) => {
                MetadataQuery::Metadata(self.question(id, now, Scope::Everything))
            }
            None => MetadataQuery::Metadata(self.question(id, now, scope)),
        };
        let asks_identity = query == MetadataQuery::InitProducerId;
        let for_trouble = !asks_identity && std::mem::take(&mut self.in_trouble);
        let channel = self.channel_mut(id);
        channel.for_trouble = for_trouble || is_beside;
        channel.in_flight = Some(query.clone());
        channel.owes_since.get_or_insert(now);
        Some(query)
    }

    /// Something wants the topic, because of `why`. Returns whether what is known of it is enough
    /// for that; if not, a question about it is due.
    pub fn handle_wanted(&mut self, now: u64, topic: Arc<str>, why: Want) -> bool {
        self.in_trouble |= why == Want::Lane;
        let awake = !self.asleep.remove(&topic);
        let enough = matches!(why, Want::Handle | Want::Record);
        if enough && awake && self.snapshot.topics.contains_key(&topic) {
            return true;
        }
        self.wanted.want(now, topic, why, &self.config);
        false
    }

    /// Records of the topic, which was just wanted, may wait for so long, in nanoseconds. Where
    /// nothing is said it is the producer's `delivery_timeout`.
    pub fn set_delivery_timeout(&mut self, topic: &str, timeout: u64) {
        self.wanted.set_delivery_timeout(topic, timeout);
    }

    /// The topic, which was just wanted, is created by this client if there is none.
    pub fn set_creatable(&mut self, topic: &str) {
        self.wanted.set_creatable(topic);
    }

    /// Topics that the cluster is to be asked to create, in a round of this number. The driver
    /// tells what became of each ([`MetadataMachine::handle_created`]), and then that it has told
    /// all of them ([`MetadataMachine::handle_creation_over`]).
    pub fn poll_creatable(&mut self, now: u64) -> (u64, Vec<Arc<str>>) {
        self.wanted.poll_creatable(now)
    }

    /// A topic was created in this round, or there was one; or the cluster does not let this client
    /// create it.
    pub fn handle_created(&mut self, topic: &str, round: u64, outcome: Result<(), Problem>) {
        self.wanted.handle_created(topic, round, outcome);
    }

    /// The application has had the topic created, or found it there.
    pub fn handle_there(&mut self, topic: &str) {
        self.wanted.handle_there(topic);
    }

    /// What [`MetadataMachine::poll_creatable`] named in this round is settled.
    pub fn handle_creation_over(&mut self, round: u64) {
        self.wanted.handle_creation_over(round);
    }

    /// Nothing was sent to this topic for long.
    pub fn handle_unused(&mut self, topic: &Arc<str>) {
        if self.snapshot.topics.contains_key(topic) && !self.wanted.contains(topic) {
            self.asleep.insert(topic.clone());
            self.troubled.forget(topic);
        }
    }

    /// No handle to the topic is left, and nothing of it waits.
    pub fn forget(&mut self, topic: &str) {
        if self.snapshot.topics.contains_key(topic) {
            Arc::make_mut(&mut self.snapshot).remove_topic(topic);
        }
        self.troubled.forget(topic);
        self.doubts.forget(topic);
        self.asleep.remove(topic);
    }

    pub(super) fn asks_metadata_at(&self) -> u64 {
        self.next_question(0).0
    }

    /// Which metadata is asked for next, and when. The question that has been due for longest goes
    /// first, so that none can starve another.
    pub(super) fn next_question(&self, now: u64) -> (u64, Scope) {
        let wanted = self.wanted.asks_at(&self.config, self.last_asked_any, self.spread);
        let leaders = self.troubled.asks_at(&self.config, self.spread);
        let questions = [
            wanted.map(|at| (at, Scope::Wanted)),
            Some((self.refreshes_at(), Scope::All)),
            leaders.map(|at| (at, Scope::Leaderless)),
        ];
        let first = questions.into_iter().flatten().min_by_key(|(at, _)| *at);
        let (at, scope) = first.unwrap_or((u64::MAX, Scope::All));
        // No topic is in use, so a question about all would name none: ask about those that are
        // wanted and due.
        let scope = match wanted {
            Some(due) if due <= now && self.topics_in_use().next().is_none() => Scope::Wanted,
            _ => scope,
        };
        (at, scope)
    }

    /// When all topics are to be asked about.
    fn refreshes_at(&self) -> u64 {
        let interval =
            self.config.reconnect_backoff.lengthen(self.config.interval_min, self.spread);
        let rate_limit = self.last_asked.map_or(0, |at| at + interval);
        let age_max = if self.closed_idle { CLOSED_IDLE_AGE_MAX } else { u64::MAX };
        let age_max = age_max.min(self.config.age_max);
        match self.last_answered {
            Some(at) if !self.refresh_wanted => (at + age_max).max(rate_limit),
            _ => rate_limit,
        }
    }

    pub(super) fn question(&mut self, id: ChannelId, now: u64, scope: Scope) -> TopicQuestion {
        let about_some = |topics| TopicQuestion { topics, may_create: false };
        let question = match scope {
            Scope::Wanted => self.wanted.ask(now, &self.config, self.last_asked_any, self.spread),
            Scope::Leaderless => about_some(self.troubled.ask(now)),
            Scope::All => about_some(self.topics_in_use().cloned().collect()),
            Scope::Everything => {
                let all: BTreeSet<_> = self.topics_in_use().chain(self.wanted.names()).collect();
                about_some(all.into_iter().cloned().collect())
            }
        };
        // While no topic is known those that are wanted are all there are.
        let in_part = matches!(scope, Scope::Wanted | Scope::Leaderless)
            && self.topics_in_use().next().is_some();
        let channel = self.channel_mut(id);
        (channel.in_part, channel.about_leaders) = (in_part, scope != Scope::Wanted);
        self.last_asked_any = Some(now);
        self.spread = self.random.draw();
        if !in_part {
            self.refresh_wanted = false;
            self.closed_idle = false;
            self.last_asked = Some(now);
            self.troubled.handle_asked(now);
        }
        question
    }

    fn topics_in_use(&self) -> impl Iterator<Item = &Arc<str>> {
        self.snapshot.topics.keys().filter(|name| !self.asleep.contains(*name))
    }

    /// Brings the picture up to date with a response. Returns what that says of the broker that
    /// gave it.
    pub(super) fn merge(&mut self, id: ChannelId, now: u64, response: &MetadataResponse) -> News {
        let (wanted, snapshot) = (&self.wanted, &self.snapshot);
        let is_wanted = |name: &str| wanted.contains(name) || snapshot.topics.contains_key(name);
        let peer = self.channels[id.index()].address.as_ref();
        let answer = Answer { response, now, peer };
        let mut merged = snapshot.merged(&answer, is_wanted, &mut self.doubts);
        let next = merged.snapshot.take();
        let news = match next {
            Some(_) if merged.moved => News::Moved,
            Some(_) => News::Added,
            None => News::Nothing,
        };
        if let Some(next) = next {
            self.snapshot = Arc::new(next);
        }
        let described = response.topics.iter().filter_map(|topic| topic.name.as_deref());
        for name in described.filter(|name| !self.asleep.contains(*name)) {
            self.troubled.handle_changed(now, name, &self.snapshot);
        }
        for name in merged.unled.iter().filter(|name| !self.asleep.contains(*name)) {
            self.troubled.handle_leaders(name, &self.snapshot);
        }
        self.troubled.handle_answer(now, merged.lost_leader);
        news
    }

    /// The picture begins anew at another cluster. Topics that its answer does not describe are
    /// asked about there.
    pub(super) fn go_to_another(&mut self, now: u64, response: &MetadataResponse) {
        let (wanted, snapshot) = (&self.wanted, &self.snapshot);
        let is_wanted = |name: &str| wanted.contains(name) || snapshot.topics.contains_key(name);
        let answer = Answer { response, now, peer: None };
        let next = snapshot.of_another(&answer, is_wanted);
        self.doubts = Doubts::default();
        self.troubled = TroubledTopics::default();
        self.troubled.handle_asked(now);
        self.wanted.start_over();
        for (name, _) in next.topics.iter().filter(|(_, view)| view.count == 0) {
            // The topic has lanes, but perhaps no record waits in them: it must not be created.
            self.wanted.want(now, name.clone(), Want::Handle, &self.config);
        }
        self.identity.start_over(self.config.idempotent);
        self.snapshot = Arc::new(next);
        self.foreign.clear();
    }
}
