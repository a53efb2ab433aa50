//! What the brokers of one embedded cluster share: topics, leaders, identities, configuration.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::age::{Age, KafkaVersion, Range};
use super::fault::Script;
use super::log::Partition;
use super::login::Logins;
use super::stats::{Counters, Observers};
use super::wire::Wire;

/// What a builder settled.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub auto_create_topics: bool,
    pub default_partitions: i32,
    pub discard_payloads: bool,
    /// What the brokers are of at first.
    pub age: Age,
    pub message_bytes_max: usize,
    pub cluster_id: String,
    pub logins: Logins,
    #[cfg(feature = "tls")]
    pub tls: Option<Arc<super::tls::ServerTls>>,
}

impl Config {
    /// What carries the bytes of a connection.
    pub(super) fn wire<'a>(&self, stream: &'a TcpStream) -> std::io::Result<Wire<'a>> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return Ok(Wire::encrypted(tls.accept()?, stream));
        }
        Ok(Wire::Plain(stream))
    }
}

/// A broker as the others know it.
#[derive(Debug)]
pub(super) struct Node {
    pub id: i32,
    pub address: SocketAddr,
    /// Where clients are told to find it.
    pub advertised: Mutex<SocketAddr>,
    /// Listed in metadata and able to lead. A stopped broker stays registered until failed over, as
    /// one whose session has not timed out.
    pub registered: AtomicBool,
    /// What it knows of leaders, if it is cut off from the others.
    pub picture: Mutex<Option<Picture>>,
    pub counters: Counters,
    age: Mutex<Age>,
}

/// Leaders and their epochs, by topic id and partition, as they were at one time.
pub(super) type Picture = HashMap<[u8; 16], Vec<(i32, i32)>>;

impl Node {
    /// Where clients are told to find it.
    pub(super) fn advertised(&self) -> SocketAddr {
        *self.advertised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old it is.
    pub(super) fn age(&self) -> Age {
        *self.age.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it a broker of another version. Connections that are open keep to the old one.
    pub(super) fn set_version(&self, version: KafkaVersion) {
        *self.age.lock().unwrap_or_else(PoisonError::into_inner) = Age(Some(version));
    }

    /// Tells clients another address from now on.
    pub(super) fn advertise(&self, address: SocketAddr) {
        *self.advertised.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub name: String,
    pub id: [u8; 16],
    pub log_append_time: bool,
    pub partitions: Vec<Arc<Mutex<Partition>>>,
}

impl Topic {
    /// The partition's state, locked.
    pub(super) fn partition(&self, index: i32) -> Option<MutexGuard<'_, Partition>> {
        let partition = self.partitions.get(usize::try_from(index).ok()?)?;
        Some(partition.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: BTreeMap<String, Arc<Topic>>,
    name_of: HashMap<[u8; 16], String>,
}

impl Topics {
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub(super) fn by_id(&self, id: &[u8; 16]) -> Option<&Arc<Topic>> {
        self.by_name.get(self.name_of.get(id)?)
    }

    /// All, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    fn insert(&mut self, topic: Topic) {
        self.name_of.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), Arc::new(topic));
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some(topic) = self.by_name.remove(name) else { return false };
        self.name_of.remove(&topic.id);
        true
    }
}

/// An offset that is kept for a group.
#[derive(Clone, Debug)]
pub(super) struct KeptOffset {
    pub offset: i64,
    /// The epoch of the leader that wrote the record before, or -1.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// The state of one cluster.
#[derive(Debug)]
pub(super) struct Shared {
    pub config: Config,
    pub nodes: Vec<Node>,
    pub faults: Script,
    pub observers: Observers,
    /// API key → what is advertised whatever a broker's age has; an empty range for nothing.
    pub limits: RwLock<BTreeMap<i16, Range>>,
    topics: RwLock<Topics>,
    /// By group, topic and partition.
    kept_offsets: Mutex<BTreeMap<(String, String, i32), KeptOffset>>,
    producer_id_next: AtomicI64,
    topic_id_high: u64,
    topic_id_next: AtomicU64,
}

impl Shared {
    pub(super) fn new(config: Config, addresses: &[(i32, SocketAddr)]) -> Shared {
        let node = |&(id, address): &(i32, SocketAddr)| Node {
            id,
            address,
            advertised: Mutex::new(address),
            registered: AtomicBool::new(true),
            picture: Mutex::new(None),
            counters: Counters::new(),
            age: Mutex::new(config.age),
        };
        let nodes = addresses.iter().map(node).collect();
        Shared {
            config,
            nodes,
            faults: Script::default(),
            observers: Observers::default(),
            limits: RwLock::default(),
            topics: RwLock::default(),
            kept_offsets: Mutex::default(),
            producer_id_next: AtomicI64::new(1000),
            topic_id_high: RandomState::new().build_hasher().finish(),
            topic_id_next: AtomicU64::new(1),
        }
    }

    /// The broker with this id.
    pub(super) fn node(&self, id: i32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The brokers that metadata lists.
    pub(super) fn registered(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.registered.load(Ordering::Acquire))
    }

    /// API key → the versions that a broker of this age advertises.
    pub(super) fn advertised(&self, age: Age) -> BTreeMap<i16, Range> {
        let mut advertised = age.advertised();
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        advertised.extend(limits.iter().map(|(&key, &range)| (key, range)));
        advertised.retain(|_, (oldest, newest)| oldest <= newest);
        advertised
    }

    /// The same for one API; the range may be empty.
    pub(super) fn advertised_of(&self, age: Age, api_key: i16) -> Option<Range> {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.get(&api_key).copied().or_else(|| age.advertised_of(api_key))
    }

    /// A producer id that was never given out.
    pub(super) fn producer_id(&self) -> i64 {
        self.producer_id_next.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps a partition's offset for a group.
    pub(super) fn keep_offset(&self, group: &str, topic: &str, partition: i32, kept: KeptOffset) {
        let at = (group.to_owned(), topic.to_owned(), partition);
        self.kept_offsets.lock().unwrap_or_else(PoisonError::into_inner).insert(at, kept);
    }

    /// The offset of a partition that is kept for a group.
    pub(super) fn kept_offset(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<KeptOffset> {
        let at = (group.to_owned(), topic.to_owned(), partition);
        self.kept_offsets.lock().unwrap_or_else(PoisonError::into_inner).get(&at).cloned()
    }

    /// Looks at the topics.
    pub(super) fn topics<R>(&self, look: impl FnOnce(&Topics) -> R) -> R {
        look(&self.topics.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Creates a topic, its partitions led by the registered brokers in turn. False if there is one
    /// of that name.
    pub(super) fn create_topic(&self, name: &str, partitions: i32, log_append_time: bool) -> bool {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if topics.by_name.contains_key(name) {
            return false;
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.topic_id_high.to_be_bytes());
        let low = self.topic_id_next.fetch_add(1, Ordering::Relaxed);
        id[8..].copy_from_slice(&low.to_be_bytes());
        let partitions = (0..partitions).map(|index| self.partition(index)).collect();
        topics.insert(Topic { name: name.to_owned(), id, log_append_time, partitions });
        true
    }

    /// Deletes a topic with its log. False if there is none.
    pub(super) fn delete_topic(&self, name: &str) -> bool {
        self.topics.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Raises the count of partitions to `total`. False if there is no such topic.
    pub(super) fn add_partitions(&self, name: &str, total: i32) -> bool {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = topics.by_name.get(name) else { return false };
        let mut partitions = old.partitions.clone();
        let first = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
        partitions.extend((first..total).map(|index| self.partition(index)));
        let (id, log_append_time) = (old.id, old.log_append_time);
        topics.insert(Topic { name: name.to_owned(), id, log_append_time, partitions });
        true
    }

    /// Who leads what at present.
    pub(super) fn picture(&self) -> Picture {
        let all: Vec<Arc<Topic>> = self.topics(|topics| topics.all().cloned().collect());
        let leaders = |topic: &Arc<Topic>| {
            let known = (0..).map_while(|index| topic.partition(index));
            (topic.id, known.map(|it| (it.leader, it.leader_epoch)).collect())
        };
        all.iter().map(leaders).collect()
    }

    /// Moves the lead of everything `id` leads to the next registered brokers, or to none.
    pub(super) fn fail_over(&self, id: i32) {
        if let Some(node) = self.node(id) {
            node.registered.store(false, Ordering::Release);
        }
        let live: Vec<i32> = self.registered().map(|node| node.id).collect();
        let mut turn = 0;
        let all: Vec<Arc<Topic>> = self.topics(|topics| topics.all().cloned().collect());
        for partition in all.iter().flat_map(|topic| &topic.partitions) {
            let mut partition = partition.lock().unwrap_or_else(PoisonError::into_inner);
            if partition.leader == id {
                let leader = live.get(turn % live.len().max(1)).copied().unwrap_or(-1);
                partition.lead(leader);
                turn += 1;
            }
        }
    }

    fn partition(&self, index: i32) -> Arc<Mutex<Partition>> {
        let live: Vec<i32> = self.registered().map(|node| node.id).collect();
        let turn = usize::try_from(index).unwrap_or(0) % live.len().max(1);
        Arc::new(Mutex::new(Partition::new(live.get(turn).copied().unwrap_or(-1))))
    }
}

/// Whether Kafka takes this as a topic's name.
pub(super) fn topic_name_is_valid(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.chars().all(legal)
}
