//! The model's brokers: who leads, who replicates, who knows what.

use std::collections::BTreeSet;

use tidegate::internals::protocol as tide;

use super::events::{Event, Queue};
use super::partition::{BROKERS_MAX, Entry, Known, Partition, code};
use super::plan::{MS, Plan};
use super::rng::Rng;

pub const PORT: u16 = 9092;

#[derive(Default)]
pub struct Broker {
    /// How many faults keep it down, paused, behind, and closed to new connections.
    pub down: u32,
    pub paused: u32,
    pub lags: u32,
    pub refuses: u32,
    /// Responses that will be odd, or ask for quiet.
    pub odd: u32,
    pub throttles: u32,
    /// What it says of the cluster, once and for all: it is cut off from the others.
    pub picture: Option<tide::MetadataResponse>,
    /// How often its address has changed, and how many of the old ones still answer.
    pub moves: u16,
    pub old_addresses: u16,
    /// What reached it while it was paused.
    pub deferred: Vec<Event>,
}

impl Broker {
    /// Where it listens, as far as others are told.
    pub fn port(&self) -> u16 {
        PORT + self.moves
    }

    /// Whether it answers at this port, of which others may have been told long ago.
    pub fn answers_at(&self, port: u16) -> bool {
        port >= self.port() - self.old_addresses
    }

    pub fn is_away(&self) -> bool {
        self.down > 0 || self.paused > 0
    }

    fn fetches(&self) -> bool {
        !self.is_away() && self.lags == 0
    }
}

pub struct Topic {
    pub name: String,
    /// The last byte counts the topics of this name.
    pub id: [u8; 16],
    pub partitions: Vec<Partition>,
    /// How many faults hide it from metadata.
    pub hidden: u32,
}

impl Topic {
    /// Whether it is not the first of its name.
    pub fn is_recreated(&self) -> bool {
        self.id[15] > 0
    }
}

pub struct Cluster {
    pub brokers: Vec<Broker>,
    pub topics: Vec<Topic>,
    /// Partitions of topics that were deleted, with their places.
    pub gone: Vec<(usize, usize, Partition)>,
    forgets: bool,
    /// Which cluster the brokers are of, if they tell.
    pub id: Option<u32>,
    /// Producer ids up to this were given by an earlier cluster. Here they are somebody else's.
    pub foreign_ids: i64,
    /// Records that are in a log of an earlier cluster.
    pub left: BTreeSet<u32>,
    /// Records that brokers refuse, one of so many; 0 for none.
    pub poison: u32,
}

impl Cluster {
    pub fn new(plan: &Plan, rng: &mut Rng) -> Cluster {
        let topics = plan.topics.iter().enumerate().map(|(index, topic)| {
            let partitions = (0..topic.partitions).map(|_| {
                let replicas = replicas(rng, plan.brokers, topic.replicas);
                let mut partition = Partition::new(replicas[0], replicas);
                partition.bytes_max = plan.bytes_max;
                partition.forgets = plan.forgets;
                partition.remembered = plan.batches_remembered();
                partition.producer_expiry = plan.producer_expiry;
                partition
            });
            let partitions = partitions.collect();
            let mut id = [1 + index as u8; 16];
            id[15] = 0;
            Topic { name: name(index), id, partitions, hidden: 0 }
        });
        let topics = topics.collect();
        let brokers = (0..plan.brokers).map(|_| Broker::default()).collect();
        let (gone, forgets) = (Vec::new(), plan.forgets);
        let (id, foreign_ids) = (plan.changes_cluster.then_some(0), -1);
        let (left, poison) = (BTreeSet::new(), plan.poison);
        Cluster { brokers, topics, gone, forgets, id, foreign_ids, left, poison }
    }

    pub fn partition(&mut self, topic: usize, partition: usize) -> &mut Partition {
        &mut self.topics[topic].partitions[partition]
    }

    /// Every partition, by its topic's index and its own.
    pub fn all(&self) -> Vec<(usize, usize)> {
        let topics = self.topics.iter().enumerate();
        topics.flat_map(|(t, topic)| (0..topic.partitions.len()).map(move |p| (t, p))).collect()
    }

    /// Replicas that lack something fetch it.
    pub fn fetch(&mut self, queue: &mut Queue, rng: &mut Rng, topic: usize, partition: usize) {
        let brokers = &self.brokers;
        let it = &mut self.topics[topic].partitions[partition];
        let Some(leader) = it.known.leader.filter(|&leader| !brokers[leader].is_away()) else {
            return;
        };
        for index in 0..it.replicas.len() {
            let replica = it.replicas[index];
            let behind = it.have[replica] < it.log.len() || !it.isr[replica];
            if replica != leader && behind && !it.fetching[replica] && brokers[replica].fetches() {
                it.fetching[replica] = true;
                let after = rng.range(MS / 10, 3 * MS / 2);
                queue.push(after, Event::Fetch { topic, partition, replica });
            }
        }
    }

    /// A fetch is answered. Returns whether it changed anything.
    pub fn fetched(&mut self, topic: usize, partition: usize, replica: usize) -> bool {
        let brokers = &self.brokers;
        let it = &mut self.topics[topic].partitions[partition];
        it.fetching[replica] = false;
        if !it.replicas.contains(&replica) {
            // The fetch was of an earlier topic of the name.
            return false;
        }
        let leader = it.known.leader;
        if leader.is_none_or(|leader| brokers[leader].is_away()) || !brokers[replica].fetches() {
            return false;
        }
        it.have[replica] = it.log.len();
        it.isr[replica] = true;
        it.advance();
        true
    }

    /// A new leader, and everybody hears of it sooner or later.
    pub fn elect(
        &mut self,
        queue: &mut Queue,
        rng: &mut Rng,
        (topic, partition): (usize, usize),
        leader: Option<usize>,
    ) {
        self.topics[topic].partitions[partition].elect(queue.now, leader);
        self.tell(queue, rng, topic, partition);
        self.fetch(queue, rng, topic, partition);
    }

    /// A replica that lacks something committed leads, if there is one; only so many are lost.
    pub fn elect_uncleanly(
        &mut self,
        queue: &mut Queue,
        rng: &mut Rng,
        topic: usize,
        partition: usize,
    ) {
        let brokers = &self.brokers;
        let it = &mut self.topics[topic].partitions[partition];
        let lacks = it
            .replicas
            .iter()
            .copied()
            .filter(|&replica| !brokers[replica].is_away() && it.known.leader != Some(replica));
        let Some(leader) = lacks.min_by_key(|&replica| it.have[replica]) else { return };
        it.elect_uncleanly(queue.now, leader);
        self.tell(queue, rng, topic, partition);
        self.fetch(queue, rng, topic, partition);
    }

    /// The broker stops in good order: what it leads is led by others, or by nobody until it is
    /// back.
    pub fn stop(&mut self, queue: &mut Queue, rng: &mut Rng, broker: usize) {
        for (topic, partition) in self.all() {
            let it = self.partition(topic, partition);
            it.restarted_at[broker] = it.have[broker];
            if it.known.leader == Some(broker) {
                let candidate = self.candidate(rng, topic, partition);
                let candidate = candidate.filter(|_| rng.percent(30));
                self.elect(queue, rng, (topic, partition), candidate);
            }
        }
    }

    pub fn tell(&mut self, queue: &mut Queue, rng: &mut Rng, topic: usize, partition: usize) {
        let known = self.topics[topic].partitions[partition].known;
        let id = self.topics[topic].id;
        for broker in 0..self.brokers.len() {
            let after = rng.range(0, 12 * MS);
            queue.push(after, Event::Learn { broker, topic, id, partition, known });
        }
    }

    /// A replica in sync that could lead instead of the present leader.
    pub fn candidate(&self, rng: &mut Rng, topic: usize, partition: usize) -> Option<usize> {
        let it = &self.topics[topic].partitions[partition];
        let fit = it.replicas.iter().copied().filter(|&replica| {
            it.isr[replica] && !self.brokers[replica].is_away() && it.known.leader != Some(replica)
        });
        let fit: Vec<_> = fit.collect();
        (!fit.is_empty()).then(|| rng.pick(&fit))
    }

    /// The broker has been away for so long that others take over.
    pub fn replace(&mut self, queue: &mut Queue, rng: &mut Rng, broker: usize) {
        if !self.brokers[broker].is_away() {
            return;
        }
        for (topic, partition) in self.all() {
            if self.topics[topic].partitions[partition].known.leader != Some(broker) {
                continue;
            }
            let candidate = self.candidate(rng, topic, partition);
            if candidate.is_some() || self.brokers[broker].down > 0 {
                self.elect(queue, rng, (topic, partition), candidate);
            }
        }
        queue.push(rng.range(5 * MS, 40 * MS), Event::Shrink { broker });
    }

    /// The broker is no longer in sync where others lead.
    pub fn shrink(&mut self, broker: usize) {
        if self.brokers[broker].fetches() {
            return;
        }
        for (topic, partition) in self.all() {
            let it = self.partition(topic, partition);
            if it.known.leader.is_some_and(|leader| leader != broker) && it.isr[broker] {
                it.isr[broker] = false;
                it.advance();
            }
        }
    }

    /// The broker can lead and replicate again.
    pub fn is_back(&mut self, queue: &mut Queue, rng: &mut Rng, broker: usize) {
        if self.brokers[broker].is_away() {
            return;
        }
        for (topic, partition) in self.all() {
            let it = self.partition(topic, partition);
            if it.known.leader.is_none() && it.isr[broker] {
                self.elect(queue, rng, (topic, partition), Some(broker));
            } else {
                self.fetch(queue, rng, topic, partition);
            }
        }
    }

    /// Another partition, led by somebody who is there.
    pub fn grow(&mut self, queue: &mut Queue, rng: &mut Rng, topic: usize) {
        let partition = self.fresh(rng, topic);
        self.topics[topic].partitions.push(partition);
        let index = self.topics[topic].partitions.len() - 1;
        self.tell(queue, rng, topic, index);
    }

    /// A partition that nobody knows of yet.
    fn fresh(&self, rng: &mut Rng, topic: usize) -> Partition {
        let like = &self.topics[topic].partitions[0];
        let replicas = replicas(rng, self.brokers.len(), like.replicas.len());
        let mut partition = Partition::new(replicas[0], replicas);
        partition.bytes_max = like.bytes_max;
        partition.forgets = self.forgets;
        partition.remembered = like.remembered;
        partition.producer_expiry = like.producer_expiry;
        partition.believed = [Known { leader: None, epoch: -1 }; BROKERS_MAX];
        partition
    }

    /// The topic is deleted, and made again with as many partitions.
    pub fn recreate(&mut self, queue: &mut Queue, rng: &mut Rng, topic: usize) {
        self.topics[topic].id[15] += 1;
        for index in 0..self.topics[topic].partitions.len() {
            let mut partition = self.fresh(rng, topic);
            std::mem::swap(&mut partition, &mut self.topics[topic].partitions[index]);
            self.gone.push((topic, index, partition));
            self.tell(queue, rng, topic, index);
        }
    }

    /// Every broker is one of another cluster. Its ids begin behind `last_id`.
    pub fn change(&mut self, queue: &mut Queue, rng: &mut Rng, last_id: i64) {
        self.id = self.id.map(|id| id + 1);
        self.foreign_ids = last_id;
        for topic in 0..self.topics.len() {
            let logs = self.topics[topic].partitions.iter().flat_map(|it| &it.log);
            self.left.extend(logs.flat_map(|entry| &entry.records));
            self.recreate(queue, rng, topic);
        }
        self.brokers.iter_mut().for_each(|broker| broker.picture = None);
    }

    /// What a cluster never sees of a producer that came from another one.
    pub fn check_newcomer(&self, entry: &Entry) {
        let (id, records) = (entry.pid, &entry.records);
        assert!(id < 0 || id > self.foreign_ids, "producer id {id} is another cluster's");
        let twice = records.iter().find(|id| self.left.contains(id));
        assert!(twice.is_none(), "record {twice:?} is in the logs of two clusters");
    }

    /// The id of the cluster, if its brokers tell.
    pub fn cluster_id(&self) -> Option<String> {
        self.id.map(|id| format!("cluster-{id}"))
    }

    /// What a broker says of the cluster.
    pub fn metadata(&self, broker: usize) -> tide::MetadataResponse {
        if let Some(picture) = &self.brokers[broker].picture {
            return picture.clone();
        }
        let brokers = self.brokers.iter().enumerate().filter(|(_, it)| it.down == 0);
        let brokers = brokers.map(|(index, it)| tide::BrokerMetadata {
            id: id(index),
            host: host(index),
            port: it.port(),
            rack: None,
        });
        let topics = self.topics.iter().map(|topic| tide::TopicMetadata {
            error: tide::ErrorCode(match topic.hidden {
                0 => code::NONE,
                _ => code::UNKNOWN_TOPIC_OR_PARTITION,
            }),
            name: Some(topic.name.clone()),
            id: tide::TopicId(topic.id),
            is_internal: false,
            partitions: if topic.hidden > 0 { Vec::new() } else { partitions(topic, broker) },
        });
        let (brokers, topics) = (brokers.collect(), topics.collect());
        let cluster_id = self.cluster_id();
        tide::MetadataResponse { brokers, topics, cluster_id, ..Default::default() }
    }
}

fn partitions(topic: &Topic, broker: usize) -> Vec<tide::PartitionMetadata> {
    // A broker that has not heard of a partition ends its list there.
    let heard = topic.partitions.iter().take_while(|it| it.believed[broker].epoch >= 0);
    let partitions = heard.enumerate().map(|(index, it)| tide::PartitionMetadata {
        error: tide::ErrorCode::NONE,
        partition: tide::PartitionId(index as i32),
        leader: it.believed[broker].leader.map(id),
        leader_epoch: it.believed[broker].epoch,
        replicas: it.replicas.iter().copied().map(id).collect(),
        isr: Vec::new(),
    });
    partitions.collect()
}

fn replicas(rng: &mut Rng, brokers: usize, count: usize) -> Vec<usize> {
    let first = rng.below(brokers);
    (0..count).map(|index| (first + index) % brokers).collect()
}

/// Brokers are numbered from 1 on the wire.
pub fn id(broker: usize) -> tide::BrokerId {
    tide::BrokerId(broker as i32 + 1)
}

pub fn host(broker: usize) -> String {
    format!("10.0.0.{}", broker + 1)
}

pub fn name(topic: usize) -> String {
    format!("topic-{topic}")
}
