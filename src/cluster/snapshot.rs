//! An immutable picture of the cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::protocol::{BrokerId, ErrorCode, MetadataResponse, PartitionId, TopicId, TopicMetadata};

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
    /// Its partitions, by index. Those at and above `count` belonged to a topic of the same name
    /// that was deleted: nobody leads them, until this one has as many.
    pub partitions: Vec<PartitionView>,
    /// How many partitions it has.
    pub count: u32,
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
    /// The topics that were asked for and are known.
    pub topics: HashMap<Arc<str>, TopicView>,
}

impl ClusterSnapshot {
    /// A partition's leader.
    pub fn partition(&self, topic: &str, partition: PartitionId) -> Option<PartitionView> {
        let index = usize::try_from(partition.0).ok()?;
        self.topics.get(topic)?.partitions.get(index).copied()
    }

    /// Whether some partition of a known topic has no leader.
    pub fn has_leaderless(&self) -> bool {
        self.topics.values().any(|topic| topic.partitions.iter().any(|p| p.leader.is_none()))
    }

    /// The picture after `response`, or `None` if nothing changed. Topics that are not `wanted` are
    /// passed over: a broker that invents them must not fill memory, nor have their leaders asked
    /// for.
    pub fn merged(
        &self,
        response: &MetadataResponse,
        wanted: impl Fn(&str) -> bool,
    ) -> Option<ClusterSnapshot> {
        let mut next = self.clone();
        if let Some(id) = response.cluster_id.as_deref().filter(|id| !id.is_empty())
            && next.cluster_id.is_none()
        {
            next.cluster_id = Some(id.into());
        }
        let brokers: BTreeMap<_, _> = response
            .brokers
            .iter()
            .filter(|broker| broker.id.0 >= 0 && !broker.host.is_empty())
            .filter_map(|broker| {
                let port = Some(broker.port).filter(|&port| port != 0)?;
                Some((broker.id, BrokerAddress { host: broker.host.as_str().into(), port }))
            })
            .collect();
        if !brokers.is_empty() {
            next.brokers = brokers;
        }
        for topic in &response.topics {
            if planted!(ForgetsUnknownTopic)
                && topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                && let Some(name) = topic.name.as_deref()
            {
                next.topics.remove(name);
            }
            let usable = topic.error == ErrorCode::NONE || topic.error == LEADERLESS;
            if let Some(name) = topic.name.as_deref()
                && usable
                && !topic.partitions.is_empty()
                && wanted(name)
            {
                let is_gone = |old: &TopicView| !topic.id.is_zero() && old.replaced == topic.id;
                if next.topics.get(name).is_some_and(is_gone) {
                    // A broker that is cut off goes on telling of a topic that was deleted.
                    continue;
                }
                let old = next.topics.remove(name);
                let view = merge_topic(old.as_ref(), topic, &next.brokers);
                // Indexes that make no sense leave the topic as it was.
                if let Some(view) = Some(view).filter(|view| view.count > 0).or(old) {
                    next.topics.insert(name.into(), view);
                }
            }
        }
        self.changed(next)
    }

    /// The picture that `response` gives of another cluster than this one.
    pub fn of_another(
        &self,
        response: &MetadataResponse,
        wanted: impl Fn(&str) -> bool,
    ) -> ClusterSnapshot {
        let (generation, cluster) = (self.generation + 1, self.cluster + 1);
        let empty = ClusterSnapshot { generation, cluster, ..ClusterSnapshot::default() };
        empty.merged(response, wanted).unwrap_or(empty)
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
        let index = usize::try_from(hint.partition.0).unwrap_or(usize::MAX);
        let topic = self.topics.get_mut(&hint.topic);
        if let Some(known) = topic.and_then(|topic| topic.partitions.get_mut(index)) {
            *known = PartitionView { leader: Some(hint.leader), epoch: hint.epoch };
            self.generation += 1;
        }
    }

    /// Whether a partition that had a leader in `old`, or was not there, has none.
    pub fn has_lost_leaders(&self, old: &ClusterSnapshot) -> bool {
        self.topics.iter().any(|(name, topic)| {
            let before = old.topics.get(name).map_or(&[][..], |old| &old.partitions);
            topic.partitions.iter().enumerate().any(|(index, partition)| {
                let had = before.get(index).is_none_or(|before| before.leader.is_some());
                had && partition.leader.is_none()
            })
        })
    }

    fn changed(&self, mut next: ClusterSnapshot) -> Option<ClusterSnapshot> {
        if next == *self {
            return None;
        }
        next.generation += 1;
        Some(next)
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

fn merge_topic(
    old: Option<&TopicView>,
    topic: &TopicMetadata,
    brokers: &BTreeMap<BrokerId, BrokerAddress>,
) -> TopicView {
    let recreated = old.is_some_and(|old| is_another(old.id, topic.id));
    // Partitions never vanish. Those that a recreated topic lacks have no leader, and it is asked
    // whether they have got one.
    let mut partitions = old.map(|old| old.partitions.clone()).unwrap_or_default();
    if recreated {
        partitions.fill(UNKNOWN_PARTITION);
    }
    let mut view = TopicView {
        // An older broker that does not tell the id does not take it away.
        id: if topic.id.is_zero() { old.map_or(topic.id, |old| old.id) } else { topic.id },
        partitions,
        count: old.filter(|_| !recreated).map_or(0, |old| old.count),
        replaced: old.map_or(TopicId::ZERO, |old| if recreated { old.id } else { old.replaced }),
    };
    for partition in &topic.partitions {
        let Ok(index) = usize::try_from(partition.partition.0) else { continue };
        // A gap in the indexes is a lie: no more partitions than entries in the response.
        if index >= topic.partitions.len().max(view.partitions.len()) {
            continue;
        }
        if index >= view.partitions.len() {
            view.partitions.resize(index + 1, UNKNOWN_PARTITION);
        }
        view.count = view.count.max(index as u32 + 1);
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
