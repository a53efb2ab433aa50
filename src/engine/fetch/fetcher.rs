//! One consumer's partitions, and the brokers that lead them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Fetched;
use super::lookups::Lookups;
use crate::config::{OffsetReset, ReconnectBackoff, ReconnectWaits, StartAt};
use crate::engine::batch::Leader;
use crate::engine::cluster::ClusterSnapshot;
use crate::engine::protocol::{
    BrokerId, ErrorCode, FETCH_VERSION_BOUNDED_MIN, LIST_OFFSETS_VERSION_TIMES_MIN, PartitionId,
    TopicId,
};
use crate::engine::random::Random;
use crate::error::ConsumeErrorCause;
use crate::problem::{Problem, ProblemKind};

/// Settings of a fetcher. Times in nanoseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// Records that one response may have, about.
    pub max_bytes: usize,
    /// The same of one partition.
    pub partition_max_bytes: usize,
    /// Up to which a partition's limit grows where one batch alone is larger.
    pub batch_max_bytes: usize,
    /// What is fetched and not taken yet, together with what is asked for.
    pub queue_max_bytes: usize,
    /// What to do where an offset is not in the log any more, or not yet.
    pub reset: OffsetReset,
    /// After an error of a partition it is not asked about for so long.
    pub retry_backoff: u64,
    /// Waits between attempts to connect.
    pub reconnect: ReconnectBackoff,
}

/// A broker that was lost is not tried again within this time, in nanoseconds, whatever is
/// configured.
const WAIT_MIN: u64 = 1_000_000;

/// What a broker of before Kafka 0.10.1 would find is when the segment was last written that the
/// record is in, and no more.
pub(super) const TOO_OLD_FOR_TIMES: &str =
    "its broker does not find the record of a time: Kafka does from 0.10.1 on";

/// A partition of one consumer: its place in the consumer's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// Where a partition is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The first offset, or the next, has to be asked for first.
    Find(Edge),
    /// So has the first record that is not older than this, in milliseconds since the epoch. Where
    /// the log ends is asked for before that: what is written between the two answers is new
    /// enough.
    FindTime { time: i64, end: Option<i64> },
    /// So has the offset that the group's coordinator keeps. It is not the leader that is asked.
    Committed { is_asked: bool },
    At {
        offset: i64,
        /// The leader's epoch of the record before, -1 where it is not known.
        last_epoch: i32,
    },
}

/// An end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    Earliest,
    Latest,
}

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Slot {
    pub topic: Arc<str>,
    pub partition: PartitionId,
    pub leader: Option<Leader>,
    /// The topic's id; zero where brokers are too old to say.
    topic_id: TopicId,
    pub position: Position,
    /// How often it was sought: an answer to a question from before says nothing.
    pub generation: u32,
    pub is_paused: bool,
    /// A question about it is under way.
    pub is_asked: bool,
    /// How often its leader changed: an answer of an earlier one says nothing.
    pub leaders: u32,
    /// It is asked about alone: an answer about several could not be read, or was too long.
    pub is_alone: bool,
    /// A warning said that it goes on elsewhere; the next one is due once something has come.
    pub told_reset: bool,
    /// It is not asked about before.
    pub retry_at: u64,
    /// It failed, and is not asked about until it is sought.
    pub has_failed: bool,
    /// What a fetch of it may have.
    pub max_bytes: usize,
}

impl Slot {
    pub(super) fn is_active(&self) -> bool {
        !self.is_paused && !self.has_failed
    }

    pub(super) fn asked(&self) -> Asked {
        (self.generation, self.leaders, self.position)
    }
}

/// A topic that is read.
#[derive(Debug)]
struct Wanted {
    topic: Arc<str>,
    /// Which of its partitions; all of them, new ones too, if there is no list.
    partitions: Option<Vec<PartitionId>>,
    start: StartAt,
    /// So many of all have a slot already.
    known: i32,
    /// Brokers said that it does not exist: whatever is in it is new.
    was_absent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Down { retry_at: u64 },
    Connecting,
    Ready,
}

/// How a partition stood when it was asked for. An answer counts only if it still stands so.
pub(super) type Asked = (u32, u32, Position);

/// What brokers of before Kafka 0.10.1 cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It bounds a whole answer with records. Others bound what each partition has in it, and may
    /// cut off its first message.
    pub bounds_answers: bool,
    /// It finds the record of a time.
    pub finds_times: bool,
}

impl Abilities {
    /// Those of a broker that speaks these versions of Fetch and ListOffsets.
    pub fn of_versions(fetch: i16, list_offsets: i16) -> Self {
        Abilities {
            bounds_answers: fetch >= FETCH_VERSION_BOUNDED_MIN,
            finds_times: list_offsets >= LIST_OFFSETS_VERSION_TIMES_MIN,
        }
    }
}

/// A broker that leads partitions which are read.
#[derive(Debug)]
pub(super) struct Broker {
    pub link: Link,
    pub abilities: Abilities,
    waits: ReconnectWaits,
    /// What its answer is about: partitions, and where they were to be read when they were asked
    /// for; none where the question is a call's.
    pub asked: Option<Vec<(SlotId, Asked)>>,
    /// Bytes that the answer may have.
    pub reserved: usize,
    /// Where the next question begins in the consumer's list.
    pub turn: usize,
}

/// See the module. Pure: the loop feeds and obeys it.
pub struct Fetcher {
    pub(super) config: FetchConfig,
    wanted: Vec<Wanted>,
    pub(super) slots: Vec<Slot>,
    pub(super) brokers: BTreeMap<BrokerId, Broker>,
    pub(super) lookups: Lookups,
    pub(super) fetched: VecDeque<(SlotId, u32, Fetched)>,
    /// Ends of logs that answers told: the high watermark, and the first offset or -1.
    pub(super) ends: VecDeque<(SlotId, i64, i64)>,
    pub(super) refresh_wanted: bool,
    /// Topics that leaders say do not exist.
    pub(super) denied: Vec<Arc<str>>,
    /// A broker was asked for nothing, as there was no room for it.
    pub(super) lacks_room: bool,
    random: Random,
}

impl Fetcher {
    /// A fetcher without partitions.
    pub fn new(config: FetchConfig, random: u64) -> Self {
        Fetcher {
            config,
            wanted: Vec::new(),
            slots: Vec::new(),
            brokers: BTreeMap::new(),
            lookups: Lookups::default(),
            fetched: VecDeque::new(),
            ends: VecDeque::new(),
            refresh_wanted: false,
            denied: Vec::new(),
            lacks_room: false,
            random: Random::new(random),
        }
    }

    /// Reads a topic from there on: these partitions, or all, with those that are added later.
    pub fn want(&mut self, topic: Arc<str>, partitions: Option<Vec<PartitionId>>, start: StartAt) {
        self.wanted.push(Wanted { topic, partitions, start, known: 0, was_absent: false });
    }

    /// Topic, partition, and how often it was sought.
    pub fn slot(&self, id: SlotId) -> (&Arc<str>, PartitionId, u32) {
        let slot = &self.slots[id.0];
        (&slot.topic, slot.partition, slot.generation)
    }

    /// Follows leaders. Returns the partitions that are new: their topics have become known, or
    /// partitions were added to them.
    pub fn handle_snapshot(&mut self, snapshot: &ClusterSnapshot) -> Vec<SlotId> {
        let mut new = Vec::new();
        for wanted in &mut self.wanted {
            let Some(view) = snapshot.topics.get(&wanted.topic) else { continue };
            let known = wanted.known;
            wanted.known = known.max(view.count);
            let found: Vec<_> = match &wanted.partitions {
                Some(_) if known > 0 => Vec::new(),
                Some(partitions) if view.count > 0 => partitions.clone(),
                Some(_) => Vec::new(),
                None => (known..view.count).map(PartitionId).collect(),
            };
            for partition in found {
                // Of what was added meanwhile nothing is to be missed.
                let was_added = known > 0 || wanted.was_absent;
                let was_added = was_added && wanted.start == StartAt::Latest;
                let start = if was_added { StartAt::Earliest } else { wanted.start };
                new.push(SlotId(self.slots.len()));
                if let StartAt::Offset(offset) = start {
                    let id = SlotId(self.slots.len());
                    self.fetched.push_back((id, 0, Fetched::Passed(offset)));
                }
                self.slots.push(Slot {
                    topic: wanted.topic.clone(),
                    partition,
                    leader: None,
                    topic_id: view.id,
                    position: position_of(start),
                    generation: 0,
                    is_paused: false,
                    is_asked: false,
                    leaders: 0,
                    is_alone: false,
                    told_reset: false,
                    retry_at: 0,
                    has_failed: false,
                    max_bytes: self.config.partition_max_bytes,
                });
            }
        }
        for slot in &mut self.slots {
            let view = snapshot.partition(&slot.topic, slot.partition);
            let leader = view
                .and_then(|view| view.leader.map(|broker| Leader { broker, epoch: view.epoch }));
            if leader != slot.leader {
                (slot.leader, slot.retry_at) = (leader, 0);
                // The new leader is asked at once, whatever the old one still answers.
                (slot.leaders, slot.is_asked) = (slot.leaders.wrapping_add(1), false);
            }
        }
        self.lookups.follow(snapshot);
        self.leave_gone(snapshot);
        new
    }

    /// What is not there is told, and not waited for: partitions that a topic does not have, topics
    /// that are gone. One that was created anew begins anew.
    fn leave_gone(&mut self, snapshot: &ClusterSnapshot) {
        for index in 0..self.slots.len() {
            let id = SlotId(index);
            if self.leave_missing(id, snapshot) {
                continue;
            }
            let slot = &mut self.slots[index];
            let Some(view) = snapshot.topics.get(&slot.topic) else { continue };
            let before = std::mem::replace(&mut slot.topic_id, view.id);
            let is_another = !before.is_zero() && !view.id.is_zero() && before != view.id;
            if let Position::At { offset, .. } = slot.position
                && is_another
                && !slot.has_failed
            {
                self.reset(id, Some(0), 0, ConsumeErrorCause::Truncated { offset, end: 0 });
            }
        }
    }

    /// Tells of a partition that is not there. Returns whether it is not.
    pub fn leave_missing(&mut self, id: SlotId, snapshot: &ClusterSnapshot) -> bool {
        let slot = &self.slots[id.0];
        let cause = match snapshot.topics.get(&slot.topic).map(|view| view.count) {
            None => {
                let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                let problem = Problem::new(ProblemKind::Broker(code), "it was deleted");
                ConsumeErrorCause::Topic(Some(problem))
            }
            Some(count) if count > 0 && !slot.partition.is_among(count) => {
                let text = format_args!("the topic has {count} partitions, and it is none of them");
                ConsumeErrorCause::Refused(Problem::new(ProblemKind::NoLeader, text))
            }
            Some(_) => return false,
        };
        if !slot.has_failed {
            self.fail(id, cause);
        }
        true
    }

    /// Brokers say that a topic does not exist.
    pub fn handle_absent(&mut self, topic: &str) {
        for wanted in self.wanted.iter_mut().filter(|wanted| *wanted.topic == *topic) {
            wanted.was_absent = true;
        }
    }

    /// Whether partitions of the topic are read.
    pub(super) fn reads(&self, topic: &str) -> bool {
        self.wanted.iter().any(|wanted| *wanted.topic == *topic)
    }

    /// Whether all topics that are to be read are known.
    pub fn knows_all(&self) -> bool {
        self.wanted.iter().all(|wanted| wanted.known > 0)
    }

    /// Reads a partition from elsewhere. What was fetched of it before is not for the consumer any
    /// more. Returns how often it was sought now.
    pub fn seek(&mut self, id: SlotId, start: StartAt) -> u32 {
        let slot = &mut self.slots[id.0];
        slot.generation = slot.generation.wrapping_add(1);
        slot.position = position_of(start);
        (slot.has_failed, slot.retry_at) = (false, 0);
        let generation = slot.generation;
        if let StartAt::Offset(offset) = start {
            self.fetched.push_back((id, generation, Fetched::Passed(offset)));
        }
        generation
    }

    /// A partition whose committed offset is to be asked for, and how often it was sought: told
    /// once.
    pub fn poll_uncommitted(&mut self) -> Option<(SlotId, u32)> {
        let wanted = Position::Committed { is_asked: false };
        let waits = |slot: &Slot| slot.is_active() && slot.position == wanted;
        let index = self.slots.iter().position(waits)?;
        let slot = &mut self.slots[index];
        slot.position = Position::Committed { is_asked: true };
        Some((SlotId(index), slot.generation))
    }

    /// The offset that is committed of a partition, with the epoch of the record before, if one is.
    pub fn handle_committed(
        &mut self,
        id: SlotId,
        generation: u32,
        found: Result<Option<(i64, i32)>, ConsumeErrorCause>,
    ) {
        let slot = &mut self.slots[id.0];
        let waits = slot.position == Position::Committed { is_asked: true } && !slot.has_failed;
        if slot.generation != generation || !waits {
            return;
        }
        match (found, self.config.reset) {
            (Err(cause), _) => self.fail(id, cause),
            (Ok(Some((offset, last_epoch))), _) => {
                slot.position = Position::At { offset, last_epoch };
                self.fetched.push_back((id, generation, Fetched::Passed(offset)));
            }
            (Ok(None), OffsetReset::None) => self.fail(id, ConsumeErrorCause::NoCommittedOffset),
            (Ok(None), OffsetReset::Earliest) => slot.position = Position::Find(Edge::Earliest),
            (Ok(None), OffsetReset::Latest) => slot.position = Position::Find(Edge::Latest),
        }
    }

    /// Asks for nothing of a partition, or goes on.
    pub fn set_paused(&mut self, id: SlotId, paused: bool) {
        self.slots[id.0].is_paused = paused;
    }

    /// A broker to connect to, because partitions or calls wait for it.
    pub fn poll_connect(&mut self, now: u64) -> Option<BrokerId> {
        let leaders = self.slots.iter().filter(|slot| slot.is_active()).filter_map(|it| it.leader);
        for leader in leaders.chain(self.lookups.leaders()) {
            let broker = self.brokers.entry(leader.broker).or_insert(Broker {
                link: Link::Down { retry_at: 0 },
                abilities: Abilities { bounds_answers: true, finds_times: true },
                waits: ReconnectWaits::default(),
                asked: None,
                reserved: 0,
                turn: 0,
            });
            if let Link::Down { retry_at } = broker.link
                && retry_at <= now
            {
                broker.link = Link::Connecting;
                return Some(leader.broker);
            }
        }
        None
    }

    /// The connection to a broker is ready for questions.
    pub fn handle_ready(&mut self, id: BrokerId, abilities: Abilities) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            (broker.link, broker.abilities) = (Link::Ready, abilities);
        }
    }

    /// No connection could be made, or it is gone.
    pub fn handle_down(&mut self, now: u64, id: BrokerId) {
        let Some(broker) = self.brokers.get_mut(&id) else { return };
        let was_ready = broker.link == Link::Ready;
        // One that answers nothing counts as one that could not be reached.
        let wait = match was_ready && broker.waits.failures() == 0 {
            true => {
                broker.waits.fail(now, &self.config.reconnect);
                self.config.reconnect.first
            }
            false => broker.waits.fail(now, &self.config.reconnect),
        };
        let wait = self.config.reconnect.vary(wait, self.random.draw()).max(WAIT_MIN);
        self.lose(id, now.saturating_add(wait));
        // The broker may be gone, and others lead its partitions.
        self.refresh_wanted = true;
    }

    /// The same, because what the broker sent could not be read, or was longer than anything that
    /// is taken. If that was the answer about one partition, it is told; else its partitions are
    /// asked about one by one.
    pub fn handle_unreadable(&mut self, now: u64, id: BrokerId, problem: &Problem) {
        let asked = self.brokers.get(&id).and_then(|broker| broker.asked.clone());
        let asked = asked.unwrap_or_default();
        for &(slot_id, as_asked) in &asked {
            let slot = &mut self.slots[slot_id.0];
            if slot.asked() != as_asked {
                continue;
            }
            match slot.position {
                Position::At { offset, .. } if asked.len() == 1 => {
                    let problem = problem.clone();
                    let cause = ConsumeErrorCause::Unreadable { offset, next: None, problem };
                    self.fail(slot_id, cause);
                }
                _ => slot.is_alone = true,
            }
        }
        self.handle_down(now, id);
    }

    /// The address of a broker may not be tried before `until`.
    pub fn handle_postponed(&mut self, now: u64, id: BrokerId, until: u64) {
        self.lose(id, until.max(now.saturating_add(WAIT_MIN)));
        self.refresh_wanted = true;
    }

    fn lose(&mut self, id: BrokerId, retry_at: u64) {
        self.take_asked(id);
        self.lookups.lose(id);
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.link = Link::Down { retry_at };
        }
    }

    /// What a broker was asked about, which it is not any more.
    pub(super) fn take_asked(&mut self, id: BrokerId) -> Vec<(SlotId, Asked)> {
        let Some(broker) = self.brokers.get_mut(&id) else { return Vec::new() };
        broker.reserved = 0;
        let asked = broker.asked.take().unwrap_or_default();
        for (slot, as_asked) in &asked {
            let slot = &mut self.slots[slot.0];
            // Another leader may have been asked since.
            slot.is_asked &= slot.leaders != as_asked.1;
        }
        asked
    }

    /// A broker has answered something: it is of use.
    pub(super) fn handle_answer(&mut self, id: BrokerId) {
        if let Some(broker) = self.brokers.get_mut(&id) {
            broker.waits.reset();
        }
    }

    /// A broker lacks what it would have to be asked: its partitions are not read.
    pub fn handle_lacking(&mut self, id: BrokerId, problem: &Problem) {
        self.lookups.fail_led_by(id, &ConsumeErrorCause::Refused(problem.clone()));
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.leader.is_some_and(|leader| leader.broker == id) && slot.is_active() {
                self.fail(SlotId(index), ConsumeErrorCause::Refused(problem.clone()));
            }
        }
    }

    /// A topic does not exist, or may not be seen: its partitions are not read. Returns whether it
    /// had any.
    pub fn fail_topic(&mut self, topic: &str, cause: &ConsumeErrorCause) -> bool {
        self.lookups.fail_topic(topic, cause);
        let is_it = |slot: &Slot| *slot.topic == *topic;
        let slots: Vec<_> = (0..self.slots.len()).filter(|&at| is_it(&self.slots[at])).collect();
        for &at in slots.iter().filter(|&&at| !self.slots[at].has_failed).collect::<Vec<_>>() {
            self.fail(SlotId(at), cause.clone());
        }
        !slots.is_empty()
    }

    /// The consumer cannot read what it got of a partition, when it had been sought so often:
    /// nothing more is asked for.
    pub fn stop(&mut self, id: SlotId, generation: u32) {
        let slot = &mut self.slots[id.0];
        slot.has_failed |= slot.generation == generation;
    }

    pub(super) fn fail(&mut self, id: SlotId, cause: ConsumeErrorCause) {
        let slot = &mut self.slots[id.0];
        slot.has_failed = true;
        self.fetched.push_back((id, slot.generation, Fetched::Failed(cause)));
    }

    /// What has come for the consumer: a partition, how often it was sought when that was asked
    /// for, and what it is.
    pub fn poll_fetched(&mut self) -> Option<(SlotId, u32, Fetched)> {
        self.fetched.pop_front()
    }

    /// Where a partition's log ends and begins, as an answer has told: the high watermark, and the
    /// first offset or -1.
    pub fn poll_ends(&mut self) -> Option<(SlotId, i64, i64)> {
        self.ends.pop_front()
    }

    /// Whether an answer has shown that leaders have moved.
    pub fn take_refresh_wanted(&mut self) -> bool {
        std::mem::take(&mut self.refresh_wanted)
    }

    /// Topics that leaders say do not exist, since the last call.
    pub fn take_denied(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.denied)
    }

    /// Whether a broker was asked for nothing since the last call because there was no room.
    pub fn take_lacks_room(&mut self) -> bool {
        std::mem::take(&mut self.lacks_room)
    }

    /// When to look again what can be asked: nanoseconds, monotonic, after `now`.
    pub fn poll_timeout(&self, now: u64) -> Option<u64> {
        let active = self.slots.iter().filter(|slot| slot.is_active() && slot.leader.is_some());
        let slots = active.map(|slot| slot.retry_at);
        let brokers = self.brokers.values().filter_map(|broker| match broker.link {
            Link::Down { retry_at } => Some(retry_at),
            _ => None,
        });
        slots.chain(brokers).chain(self.lookups.timeouts()).filter(|&at| at > now).min()
    }
}

pub(super) fn position_of(start: StartAt) -> Position {
    match start {
        StartAt::Offset(offset) => Position::At { offset, last_epoch: -1 },
        StartAt::Earliest => Position::Find(Edge::Earliest),
        StartAt::Latest => Position::Find(Edge::Latest),
        StartAt::Time(time) => Position::FindTime { time, end: None },
        StartAt::Committed => Position::Committed { is_asked: false },
    }
}
