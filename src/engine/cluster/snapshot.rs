//! An immutable picture of the cluster.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use super::doubt::Doubts;
use crate::engine::protocol::{
    BrokerId, ErrorCode, MetadataResponse, PartitionId, TopicId, TopicMetadata,
};

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerAddress {
    /// A name or an IP address.
    pub host: Arc<str>,
    /// A TCP port.
    pub port: u16,
}

impl std::fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A partition, as metadata describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Who leads it; `None` while nobody does.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, -1 where the broker is too old to say.
    pub epoch: i32,
}

/// A topic, as metadata describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicView {
    /// Its id; zero where the broker is too old to say.
    pub id: TopicId,
    /// Tells a topic from an earlier one of the same name where brokers tell no ids: the generation
    /// of the snapshot in which this one was first seen.
    pub incarnation: u64,
    /// Its partitions, by index. Those at and above `count` belonged to a topic of the same name
    /// that was deleted: nobody leads them, until this one has as many. A broker that has not heard
    /// of all partitions of a new topic lists some, so they are kept for a while.
    pub partitions: Vec<PartitionView>,
    /// How many partitions it has.
    pub count: i32,
    /// The id of the topic of the same name before it; zero if there was none.
    pub replaced: TopicId,
}

/// A leader that a broker named in a Produce response (KIP-951).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The topic.
    pub topic: Arc<str>,
    /// The topic's id when the request was made; zero if it was not known. A broker that was asked
    /// by name, before Produce v13, may mean an older topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it now.
    pub leader: BrokerId,
    /// In which epoch.
    pub epoch: i32,
    /// Where it listens, if the response said so.
    pub address: Option<BrokerAddress>,
}

/// An immutable picture of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSnapshot {
    /// Grows with every change.
    pub generation: u64,
    /// Which of the clusters that the producer was at, from 0 on. Broker ids, topics, sequences and
    /// producer ids of one mean nothing at another.
    pub cluster: u64,
    /// The cluster's id, once a broker has told it.
    pub cluster_id: Option<Arc<str>>,
    /// The brokers and where they listen.
    pub brokers: BTreeMap<BrokerId, BrokerAddress>,
    /// The topics that were asked for and are known. A topic that did not change is shared with the
    /// picture before.
    pub topics: BTreeMap<Arc<str>, Arc<TopicView>>,
}

/// What a response made of a picture.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// The new picture, if anything changed.
    pub snapshot: Option<ClusterSnapshot>,
    /// The brokers are others than before, or lead others of the partitions that were known.
    pub moved: bool,
    /// A partition that had a leader, or was not there before, has none.
    pub lost_leader: bool,
    /// Topics that the response does not describe, and that lost leaders all the same.
    pub unled: Vec<Arc<str>>,
}

/// A response, and what is needed to believe it.
pub(super) struct Answer<'a> {
    pub response: &'a MetadataResponse,
    /// When it came, nanoseconds, monotonic.
    pub now: u64,
    /// Who gave it.
    pub peer: Option<&'a BrokerAddress>,
}

impl ClusterSnapshot {
    /// A partition's leader.
    pub fn partition(&self, topic: &str, partition: PartitionId) -> Option<PartitionView> {
        self.topics.get(topic)?.partitions.get(partition.index()).copied()
    }

    /// What `answer` makes of the picture. Topics that are not `wanted` are passed over: a broker
    /// that invents them must not fill memory, nor have their leaders asked for.
    pub(super) fn merged(
        &self,
        answer: &Answer<'_>,
        wanted: impl Fn(&str) -> bool,
        doubts: &mut Doubts,
    ) -> Merged {
        let mut merged = Merged::default();
        let told = answer.response.cluster_id.as_deref();
        if let Some(id) = told.filter(|id| !id.is_empty() && self.cluster_id.is_none()) {
            merged.change(self).cluster_id = Some(id.into());
        }
        let brokers = listed_brokers(answer.response);
        if !brokers.is_empty() && brokers != self.brokers {
            merged.change(self).brokers = brokers;
            merged.moved = true;
            self.take_leaders_from_absent(&mut merged);
        }
        for topic in &answer.response.topics {
            let Some(name) = topic.name.as_deref().filter(|name| wanted(name)) else { continue };
            if planted!(ForgetsUnknownTopic) && topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            {
                merged.change(self).topics.remove(name);
            }
            if is_described(topic) {
                self.merge_into(&mut merged, name, topic, answer, doubts);
            }
        }
        merged
    }

    /// Takes the leader from partitions whose leader is not among the brokers any more: a broker
    /// that is not listed cannot be reached. That includes topics that the response does not
    /// describe, since a question need not be about all topics.
    fn take_leaders_from_absent(&self, merged: &mut Merged) {
        let Some(next) = &mut merged.snapshot else { return };
        if self.brokers.keys().all(|id| next.brokers.contains_key(id)) {
            return;
        }
        let brokers = &next.brokers;
        let is_absent = |partition: &PartitionView| {
            partition.leader.is_some_and(|leader| !brokers.contains_key(&leader))
        };
        for (name, topic) in &mut next.topics {
            if topic.partitions.iter().any(is_absent) {
                let partitions = &mut Arc::make_mut(topic).partitions;
                let absent = partitions.iter_mut().filter(|partition| is_absent(partition));
                absent.for_each(|partition| partition.leader = None);
                merged.unled.push(name.clone());
                merged.lost_leader = true;
            }
        }
    }

    fn merge_into(
        &self,
        merged: &mut Merged,
        name: &str,
        topic: &TopicMetadata,
        answer: &Answer<'_>,
        doubts: &mut Doubts,
    ) {
        let present = merged.snapshot.as_ref().unwrap_or(self);
        let old = present.topics.get_key_value(name);
        let known = old.map(|(_, view)| &**view);
        if known.is_some_and(|old| !topic.id.is_zero() && topic.id == old.replaced) {
            return;
        }
        let another = known.is_some_and(|old| {
            is_another(old.id, topic.id) || doubts.believes(name, old, topic, answer)
        });
        let incarnation = match known {
            Some(old) if !another => old.incarnation,
            _ => self.generation + 1,
        };
        let view = merge_topic(known, another, incarnation, topic, &present.brokers);
        // Indexes that make no sense leave the topic as it was.
        if view.count == 0 || known == Some(&view) {
            return;
        }
        let before = known.map_or(&[][..], |old| &old.partitions);
        merged.moved |= !view.partitions.starts_with(before);
        merged.lost_leader |= view.partitions.iter().enumerate().any(|(index, partition)| {
            let had = before.get(index).is_none_or(|before| before.leader.is_some());
            had && partition.leader.is_none()
        });
        let name = old.map_or_else(|| name.into(), |(name, _)| name.clone());
        merged.change(self).topics.insert(name, Arc::new(view));
    }

    /// The picture without a topic that does not exist any more.
    pub(super) fn remove_topic(&mut self, topic: &str) {
        if self.topics.remove(topic).is_some() {
            self.generation += 1;
        }
    }

    /// Forgets the partitions that a topic lacks and that an earlier one of its name had.
    pub(super) fn forget_lacking(&mut self, topic: &str) {
        if let Some(view) = self.topics.get_mut(topic)
            && view.partitions.len() > view.count as usize
        {
            let view = Arc::make_mut(view);
            view.partitions.truncate(view.count as usize);
            self.generation += 1;
        }
    }

    /// The topics that are not the same in `older`, with what is known of them now: `None` if they
    /// do not exist any more. A walk along both, that compares pointers.
    pub fn changed_since<'a>(
        &'a self,
        older: &'a ClusterSnapshot,
    ) -> impl Iterator<Item = (&'a Arc<str>, Option<&'a Arc<TopicView>>)> {
        let mut changes =
            Changes { new: self.topics.iter().peekable(), old: older.topics.iter().peekable() };
        std::iter::from_fn(move || changes.next_change())
    }

    /// The picture that an answer gives of another cluster than this one. Topics of which it says
    /// nothing are in it without partitions: they may exist there.
    pub(super) fn of_another(
        &self,
        answer: &Answer<'_>,
        wanted: impl Fn(&str) -> bool,
    ) -> ClusterSnapshot {
        let (generation, cluster) = (self.generation + 1, self.cluster + 1);
        let empty = ClusterSnapshot { generation, cluster, ..ClusterSnapshot::default() };
        let merged = empty.merged(answer, wanted, &mut Doubts::default());
        let mut next = merged.snapshot.unwrap_or(empty);
        for name in self.topics.keys() {
            let nothing =
                || Arc::new(TopicView { incarnation: generation, ..TopicView::default() });
            next.topics.entry(name.clone()).or_insert_with(nothing);
        }
        next
    }

    /// Whether a leader hint says something newer, and not of a topic of the same name that was
    /// deleted meanwhile: epochs begin anew with each.
    pub fn is_news(&self, hint: &LeaderHint) -> bool {
        let topic = self.topics.get(&hint.topic);
        let old = self.partition(&hint.topic, hint.partition);
        let (Some(topic), Some(old)) = (topic, old) else { return false };
        let address_known = hint.address.is_some() || self.brokers.contains_key(&hint.leader);
        let newer = hint.epoch > old.epoch && hint.leader.0 >= 0;
        newer && address_known && !is_another(topic.id, hint.topic_id)
    }

    /// The picture after a leader hint that is news.
    pub fn apply(&mut self, hint: &LeaderHint) {
        if let Some(address) = &hint.address {
            self.brokers.insert(hint.leader, address.clone());
        }
        let index = hint.partition.index();
        let topic = self.topics.get_mut(&hint.topic);
        if let Some(topic) = topic.filter(|topic| index < topic.partitions.len()) {
            let known = &mut Arc::make_mut(topic).partitions[index];
            *known = PartitionView { leader: Some(hint.leader), epoch: hint.epoch };
            self.generation += 1;
        }
    }
}

impl TopicView {
    /// Whether some partition has no leader.
    pub fn has_leaderless(&self) -> bool {
        self.partitions.iter().any(|partition| partition.leader.is_none())
    }

    /// Whether partitions are kept that it lacks and that an earlier topic of its name had.
    pub(super) fn has_lacking(&self) -> bool {
        self.partitions.len() > self.count as usize
    }
}

impl Merged {
    /// The new picture, which begins as a copy of the old one.
    fn change(&mut self, old: &ClusterSnapshot) -> &mut ClusterSnapshot {
        self.snapshot.get_or_insert_with(|| {
            let mut next = old.clone();
            next.generation += 1;
            next
        })
    }
}

type Topics<'a> = std::collections::btree_map::Iter<'a, Arc<str>, Arc<TopicView>>;

/// Walks along the topics of two pictures.
struct Changes<'a> {
    new: Peekable<Topics<'a>>,
    old: Peekable<Topics<'a>>,
}

impl<'a> Changes<'a> {
    fn next_change(&mut self) -> Option<(&'a Arc<str>, Option<&'a Arc<TopicView>>)> {
        loop {
            let order = match (self.new.peek(), self.old.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((new, _)), Some((old, _))) if Arc::ptr_eq(new, old) => Ordering::Equal,
                (Some((new, _)), Some((old, _))) => new.cmp(old),
            };
            match order {
                Ordering::Less => return self.new.next().map(|(name, view)| (name, Some(view))),
                Ordering::Greater => return self.old.next().map(|(name, _)| (name, None)),
                Ordering::Equal => {
                    let (new, old) = (self.new.next(), self.old.next());
                    if let (Some((name, new)), Some((_, old))) = (new, old)
                        && !Arc::ptr_eq(new, old)
                    {
                        return Some((name, Some(new)));
                    }
                }
            }
        }
    }
}

/// What Metadata says of a topic of which some partition has no leader.
const LEADERLESS: ErrorCode = ErrorCode::LEADER_NOT_AVAILABLE;

/// A partition of which nothing was said.
const UNKNOWN_PARTITION: PartitionView = PartitionView { leader: None, epoch: -1 };

/// Whether two ids, if both are known, are those of different topics.
fn is_another(one: TopicId, other: TopicId) -> bool {
    !one.is_zero() && !other.is_zero() && one != other
}

/// Whether an answer says something of a topic's partitions.
pub(super) fn is_described(topic: &TopicMetadata) -> bool {
    let usable = topic.error == ErrorCode::NONE || topic.error == LEADERLESS;
    usable && !topic.partitions.is_empty()
}

fn listed_brokers(response: &MetadataResponse) -> BTreeMap<BrokerId, BrokerAddress> {
    let usable = response.brokers.iter().filter(|broker| broker.id.0 >= 0);
    let usable = usable.filter(|broker| !broker.host.is_empty() && broker.port != 0);
    let address = |host: &str, port| BrokerAddress { host: host.into(), port };
    usable.map(|broker| (broker.id, address(&broker.host, broker.port))).collect()
}

/// What an answer makes of a topic; `recreated`, if it is another one than was known.
fn merge_topic(
    old: Option<&TopicView>,
    recreated: bool,
    incarnation: u64,
    topic: &TopicMetadata,
    brokers: &BTreeMap<BrokerId, BrokerAddress>,
) -> TopicView {
    // Partitions do not vanish at once. Those that a recreated topic lacks have no leader, and it
    // is asked whether they have got one.
    let mut partitions = old.map(|old| old.partitions.clone()).unwrap_or_default();
    if recreated {
        partitions.fill(UNKNOWN_PARTITION);
    }
    let mut view = TopicView {
        // An older broker that does not tell the id does not take it away.
        id: if topic.id.is_zero() { old.map_or(topic.id, |old| old.id) } else { topic.id },
        replaced: match old {
            Some(old) if recreated => old.id,
            Some(old) => old.replaced,
            None => TopicId::ZERO,
        },
        incarnation,
        partitions,
        count: old.filter(|_| !recreated).map_or(0, |old| old.count),
    };
    for partition in &topic.partitions {
        let index = partition.partition.index();
        // A negative index is a lie, and so is a gap in the indexes: no more partitions than
        // entries in the response.
        if index >= topic.partitions.len().max(view.partitions.len()) {
            continue;
        }
        if index >= view.partitions.len() {
            view.partitions.resize(index + 1, UNKNOWN_PARTITION);
        }
        view.count = view.count.max(partition.partition.0 + 1);
        let known = &mut view.partitions[index];
        let leader = partition.leader.filter(|leader| brokers.contains_key(leader));
        // A lower epoch of the same topic is older news, from a broker that lags behind.
        let older = partition.leader_epoch < known.epoch && partition.leader_epoch >= 0;
        if !older || planted!(TakesOlderLeaderEpoch) {
            *known = PartitionView { leader, epoch: partition.leader_epoch };
        }
    }
    view
}
