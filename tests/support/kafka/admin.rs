//! Administration over the wire, 30 to 110 ms where a command-line tool takes a second.
//!
//! Each change returns when every running broker shows it, so that a test that goes on does not
//! depend on which broker it asks. Errors that pass by themselves are tried again; any other
//! panics in the caller's name.

use std::io;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, ElectLeadersRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Request, StrBytes};

use super::cluster::Cluster;
use super::node::Node;
use super::release::Quorum;
use super::wire::Wire;

/// The slowest change measured, a new leader after a SIGSTOP, took 4.6 s; a broker on a slow disk
/// was seen to stand still for ten.
const CHANGE_LIMIT: Duration = Duration::from_secs(180);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// What the broker itself waits for the controller.
const BROKER_LIMIT_MS: i32 = 30_000;

/// The topic that brokers before 0.9 are asked for.
const FIRST_TOPIC: &str = "first";

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Why an attempt did not succeed.
pub(super) enum Trouble {
    /// It may the next time.
    Passing(String),
    /// It never will.
    Lasting(String),
}

/// A partition as one broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number in the topic.
    pub partition: i32,
    /// The leader, if it has one.
    pub leader: Option<i32>,
    /// The epoch of that leadership.
    pub leader_epoch: i32,
    /// The brokers that hold it; the first is the preferred leader.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
}

impl Cluster {
    /// Creates a topic and waits until every running broker shows all partitions with a leader
    /// and a full set of replicas in sync. Even so the first Produce may be answered with
    /// NOT_LEADER_OR_FOLLOWER for some milliseconds.
    #[track_caller]
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configs: &[(&str, &str)],
    ) {
        if !self.release().creates_topics() {
            return self.create_topic_in_zookeeper(topic, partitions, replication, configs);
        }
        let request = create_topic_request(topic, partitions, replication, configs);
        let mut asked_before = false;
        insist(&format!("creating topic {topic}"), || {
            let answer = self.ask_any(2, &request);
            let again = std::mem::replace(&mut asked_before, true);
            let result = &first(answer?.topics)?;
            // The first try may have been carried out though its answer was lost.
            if again && result.error_code == ResponseError::TopicAlreadyExists.code() {
                return Ok(());
            }
            check(result.error_code, result.error_message.as_ref())
        });
        self.wait_for_partitions(topic, partitions);
    }

    #[track_caller]
    fn create_topic_in_zookeeper(
        &self,
        topic: &str,
        partitions: i32,
        replication: i16,
        configs: &[(&str, &str)],
    ) {
        let (count, replicas) = (partitions.to_string(), replication.to_string());
        let command = ["--create", "--topic", topic];
        let configs: Vec<String> = configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut values = vec!["--partitions", &count, "--replication-factor", &replicas];
        values.extend(configs.iter().flat_map(|config| ["--config", config]));
        self.run_zookeeper_tool("kafka.admin.TopicCommand", &command, &values)
            .unwrap_or_else(|reason| panic!("creating topic {topic}: {reason}"));
        self.wait_for_partitions(topic, partitions);
    }

    /// Raises the number of partitions and waits until every running broker shows the new ones.
    #[track_caller]
    pub fn create_partitions(&self, topic: &str, partitions: i32) {
        let mut wanted = CreatePartitionsTopic::default();
        wanted.name = name(topic);
        wanted.count = partitions;
        wanted.assignments = None;
        let mut request = CreatePartitionsRequest::default();
        request.topics = vec![wanted];
        request.timeout_ms = BROKER_LIMIT_MS;
        insist(&format!("raising {topic} to {partitions} partitions"), || {
            let result = first(self.ask_any(1, &request)?.results)?;
            check(result.error_code, result.error_message.as_ref())
        });
        self.wait_for_partitions(topic, partitions);
    }

    /// Deletes a topic and waits until no running broker shows it.
    #[track_caller]
    pub fn delete_topic(&self, topic: &str) {
        let mut request = DeleteTopicsRequest::default();
        request.topic_names = vec![name(topic)];
        request.timeout_ms = BROKER_LIMIT_MS;
        let mut asked_before = false;
        insist(&format!("deleting topic {topic}"), || {
            let answer = self.ask_any(1, &request);
            let again = std::mem::replace(&mut asked_before, true);
            let result = first(answer?.responses)?;
            if again && result.error_code == ResponseError::UnknownTopicOrPartition.code() {
                return Ok(());
            }
            check(result.error_code, result.error_message.as_ref())
        });
        self.wait_everywhere(&format!("topic {topic} to be gone"), |id| {
            Ok(self.topic_at(id, topic)?.error_code
                == ResponseError::UnknownTopicOrPartition.code())
        });
        if self.release().quorum == Quorum::ZooKeeper {
            self.wait_until_creatable(topic);
        }
    }

    /// Makes a broker the leader of a partition without killing anything: it becomes the first of
    /// the replicas (in place of the last, if it was none of them), then an election prefers it.
    #[track_caller]
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) {
        let what = format!("moving the leader of {topic}-{partition} to {to}");
        let before = insist(&what, || {
            let id = self.running_broker()?;
            Ok(self.partition_at(id, topic, partition)?)
        });
        let mut replicas = vec![to];
        replicas.extend(before.replicas.iter().copied().filter(|&id| id != to));
        replicas.truncate(before.replicas.len());
        self.reassign(topic, partition, &replicas);
        self.elect(topic, partition, PREFERRED);
        self.wait_everywhere(&what, |id| {
            Ok(self.partition_at(id, topic, partition)?.leader == Some(to))
        });
    }

    /// Makes a replica that runs the leader of a partition that has none, also one that is not in
    /// sync: what it does not have is cut off.
    #[track_caller]
    pub fn elect_unclean(&self, topic: &str, partition: i32) {
        self.elect(topic, partition, UNCLEAN);
    }

    #[track_caller]
    fn elect(&self, topic: &str, partition: i32, election_type: i8) {
        let mut wanted = TopicPartitions::default();
        wanted.topic = name(topic);
        wanted.partitions = vec![partition];
        let mut request = ElectLeadersRequest::default();
        request.election_type = election_type;
        request.topic_partitions = Some(vec![wanted]);
        request.timeout_ms = BROKER_LIMIT_MS;
        insist(&format!("electing a leader of {topic}-{partition}"), || {
            let answer = self.ask_any(1, &request)?;
            check(answer.error_code, None)?;
            let result = first(first(answer.replica_election_results)?.partition_result)?;
            let code = result.error_code;
            if code == ResponseError::ElectionNotNeeded.code() {
                return Ok(());
            }
            // The broker may have to start, or to catch up, before it can lead.
            let later = [
                ResponseError::PreferredLeaderNotAvailable.code(),
                ResponseError::EligibleLeadersNotAvailable.code(),
            ];
            if later.contains(&code) {
                return Err(Trouble::Passing("no replica can lead yet".to_owned()));
            }
            check(code, result.error_message.as_ref())
        });
    }

    /// Gives a partition these replicas, the preferred leader first, and waits until every
    /// running broker shows them, and all of them in sync.
    #[track_caller]
    pub fn reassign(&self, topic: &str, partition: i32, replicas: &[i32]) {
        let mut wanted = ReassignablePartition::default();
        wanted.partition_index = partition;
        wanted.replicas = Some(replicas.iter().copied().map(BrokerId).collect());
        let mut in_topic = ReassignableTopic::default();
        in_topic.name = name(topic);
        in_topic.partitions = vec![wanted];
        let mut request = AlterPartitionReassignmentsRequest::default();
        request.timeout_ms = BROKER_LIMIT_MS;
        request.topics = vec![in_topic];
        let what = format!("reassigning {topic}-{partition} to {replicas:?}");
        insist(&what, || {
            let answer = self.ask_any(0, &request)?;
            check(answer.error_code, answer.error_message.as_ref())?;
            let result = first(first(answer.responses)?.partitions)?;
            check(result.error_code, result.error_message.as_ref())
        });
        self.wait_everywhere(&what, |id| {
            let view = self.partition_at(id, topic, partition)?;
            let in_sync = view.replicas.iter().all(|id| view.in_sync.contains(id));
            Ok(view.replicas == replicas && in_sync)
        });
    }

    /// Asks for other leaders of several partitions at once, each the first of its replicas from
    /// now on, and waits for nothing. A broker that cannot lead at the moment does not.
    #[track_caller]
    pub fn swing_leaders(&self, topic: &str, replicas: &[(i32, Vec<i32>)]) {
        let mut in_topic = ReassignableTopic::default();
        in_topic.name = name(topic);
        for (partition, ids) in replicas {
            let mut wanted = ReassignablePartition::default();
            wanted.partition_index = *partition;
            wanted.replicas = Some(ids.iter().copied().map(BrokerId).collect());
            in_topic.partitions.push(wanted);
        }
        let mut reassign = AlterPartitionReassignmentsRequest::default();
        reassign.timeout_ms = BROKER_LIMIT_MS;
        reassign.topics = vec![in_topic];
        let mut wanted = TopicPartitions::default();
        wanted.topic = name(topic);
        wanted.partitions = replicas.iter().map(|(partition, _)| *partition).collect();
        let mut elect = ElectLeadersRequest::default();
        elect.election_type = PREFERRED;
        elect.topic_partitions = Some(vec![wanted]);
        elect.timeout_ms = BROKER_LIMIT_MS;
        insist(&format!("swinging the leaders of {topic}"), || {
            let answer = self.ask_any(0, &reassign)?;
            check(answer.error_code, answer.error_message.as_ref())?;
            check(self.ask_any(1, &elect)?.error_code, None)
        });
    }

    /// What one broker shows of a topic's partitions now, in ascending order.
    pub fn partitions_seen_by(&self, id: i32, topic: &str) -> io::Result<Vec<PartitionView>> {
        self.partitions_at(id, topic)
    }

    /// The leader of a partition, as a running broker sees it now.
    #[track_caller]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.partition(topic, partition).leader
    }

    /// The leader of a partition, as this broker tells it now.
    #[track_caller]
    pub fn leader_told_by(&self, id: i32, topic: &str, partition: i32) -> Option<i32> {
        insist(&format!("{topic}-{partition} at {id}"), || {
            Ok(self.partition_at(id, topic, partition)?.leader)
        })
    }

    /// A partition, as a running broker sees it now.
    #[track_caller]
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionView {
        insist(&format!("{topic}-{partition}"), || {
            let id = self.running_broker()?;
            Ok(self.partition_at(id, topic, partition)?)
        })
    }

    /// Waits until all running brokers name the same leader, which `accept` agrees to and which
    /// runs; gives its id.
    #[track_caller]
    pub fn wait_for_leader(
        &self,
        topic: &str,
        partition: i32,
        accept: impl Fn(i32) -> bool,
    ) -> i32 {
        let mut leader = None;
        self.wait_everywhere(&format!("a leader of {topic}-{partition}"), |id| {
            let seen = self.partition_at(id, topic, partition)?.leader;
            // The first broker asked in a round sets it, the others must agree.
            if self.running().find_map(|node| node.address().map(|_| node.id())) == Some(id) {
                leader = seen;
            }
            let runs = seen.is_some_and(|seen| self.running().any(|node| node.id() == seen));
            Ok(seen == leader && runs && seen.is_some_and(&accept))
        });
        leader.expect("the wait ends only when every broker names a leader")
    }

    /// Waits until every replica of every partition is in sync, as all running brokers see it.
    #[track_caller]
    pub fn wait_in_sync(&self, topic: &str) {
        self.wait_everywhere(&format!("all replicas of {topic} to be in sync"), |id| {
            Ok(self.partitions_at(id, topic)?.iter().all(is_complete))
        });
    }

    /// The ids of the brokers that one broker lists.
    pub(super) fn brokers_listed_by(&self, id: i32) -> io::Result<Vec<i32>> {
        // A broker that lists nobody until there is a topic creates the one that is asked for, as
        // soon as there are brokers for all of its replicas.
        let any = (!self.release().has_listeners).then(|| wanted(FIRST_TOPIC));
        let answer = self.metadata_at(id, any.into_iter().collect())?;
        Ok(answer.brokers.iter().map(|broker| broker.node_id.0).collect())
    }

    /// Waits until a topic that no broker shows any more is gone from ZooKeeper too.
    #[track_caller]
    fn wait_until_creatable(&self, topic: &str) {
        let mut request = create_topic_request(topic, 1, 1, &[]);
        request.validate_only = true;
        insist(&format!("waiting until {topic} can be created again"), || {
            let result = first(self.ask_any(2, &request)?.topics)?;
            if result.error_code == ResponseError::TopicAlreadyExists.code() {
                return Err(Trouble::Passing("it is being deleted".to_owned()));
            }
            check(result.error_code, result.error_message.as_ref())
        });
    }

    #[track_caller]
    fn wait_for_partitions(&self, topic: &str, partitions: i32) {
        self.wait_everywhere(&format!("{partitions} partitions of {topic}"), |id| {
            let views = self.partitions_at(id, topic)?;
            let running = |id: &i32| self.running().any(|node| node.id() == *id);
            // A broker that a test holds down cannot be in sync.
            let complete = |view: &PartitionView| {
                view.leader.is_some()
                    && view
                        .replicas
                        .iter()
                        .filter(|&id| running(id))
                        .all(|id| view.in_sync.contains(id))
            };
            Ok(i32::try_from(views.len()) == Ok(partitions) && views.iter().all(complete))
        });
    }

    /// Asks every running broker, in ascending order, again and again, until all say yes in one
    /// round.
    #[track_caller]
    pub(super) fn wait_everywhere(
        &self,
        what: &str,
        mut done: impl FnMut(i32) -> io::Result<bool>,
    ) {
        insist(&format!("waiting for {what}"), || {
            let mut asked = 0;
            for node in self.running().filter(|node| node.address().is_some()) {
                asked += 1;
                if !done(node.id())? {
                    return Err(Trouble::Passing(format!("not so for broker {}", node.id())));
                }
            }
            if asked == 0 {
                return Err(Trouble::Lasting("no broker runs".to_owned()));
            }
            Ok(())
        });
    }

    fn partition_at(&self, id: i32, topic: &str, partition: i32) -> io::Result<PartitionView> {
        let views = self.partitions_at(id, topic)?;
        let view = views.into_iter().find(|view| view.partition == partition);
        view.ok_or_else(|| io::Error::other(format!("{topic} has no partition {partition}")))
    }

    /// The partitions in ascending order.
    fn partitions_at(&self, id: i32, topic: &str) -> io::Result<Vec<PartitionView>> {
        let topic = self.topic_at(id, topic)?;
        if topic.error_code != 0 {
            return Err(io::Error::other(describe(topic.error_code)));
        }
        let mut views: Vec<PartitionView> = topic.partitions.iter().map(view).collect();
        views.sort_by_key(|view| view.partition);
        Ok(views)
    }

    fn topic_at(&self, id: i32, topic: &str) -> io::Result<MetadataResponseTopic> {
        let answer = self.metadata_at(id, vec![wanted(topic)])?;
        answer.topics.into_iter().next().ok_or_else(|| io::Error::other("no topic in the answer"))
    }

    fn metadata_at(
        &self,
        id: i32,
        topics: Vec<MetadataRequestTopic>,
    ) -> io::Result<MetadataResponse> {
        let version = self.release().metadata;
        let mut request = MetadataRequest::default();
        request.topics = Some(topics);
        // Versions before 4 have no such field: whatever is asked for may be created.
        request.allow_auto_topic_creation = version < 4;
        Wire::connect(self.address(id))?.call(version, &request)
    }

    pub(super) fn running_broker(&self) -> Result<i32, Trouble> {
        let node = self.running().find(|node| node.address().is_some());
        node.map(Node::id).ok_or_else(|| Trouble::Lasting("no broker runs".to_owned()))
    }

    /// Asks the first running broker that answers; where brokers do not forward what only the
    /// controller can do, the controller.
    pub(super) fn ask_any<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, Trouble> {
        let mut trouble = Trouble::Lasting("no broker runs".to_owned());
        let mut nodes: Vec<_> = self.running().collect();
        if self.release().quorum == Quorum::ZooKeeper {
            let controller = self.metadata_at(self.running_broker()?, Vec::new())?.controller_id.0;
            nodes.retain(|node| node.id() == controller);
            trouble = Trouble::Passing(format!("the controller {controller} does not run"));
        }
        for address in nodes.into_iter().filter_map(Node::address) {
            match Wire::connect(address).and_then(|mut wire| wire.call(version, request)) {
                Ok(answer) => return Ok(answer),
                Err(error) => trouble = error.into(),
            }
        }
        Err(trouble)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Passing(error.to_string())
    }
}

/// Tries until it succeeds, and panics where it cannot.
#[track_caller]
pub(super) fn insist<T>(what: &str, mut attempt: impl FnMut() -> Result<T, Trouble>) -> T {
    let end = Instant::now() + CHANGE_LIMIT;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(Trouble::Lasting(reason)) => panic!("{what}: {reason}"),
            Err(Trouble::Passing(reason)) if Instant::now() >= end => {
                panic!("{what} took over {CHANGE_LIMIT:?}: {reason}")
            }
            Err(Trouble::Passing(_)) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

pub(super) fn check(code: i16, message: Option<&StrBytes>) -> Result<(), Trouble> {
    let Some(error) = ResponseError::try_from_code(code) else {
        return Ok(());
    };
    let reason = match message {
        Some(message) => format!("{}: {}", describe(code), message.as_str()),
        None => describe(code),
    };
    // Retriable for a client that awaits a topic, but here the topic's name is wrong.
    let unknown = matches!(error, ResponseError::UnknownTopicOrPartition);
    if error.is_retriable() && !unknown {
        Err(Trouble::Passing(reason))
    } else {
        Err(Trouble::Lasting(reason))
    }
}

pub(super) fn describe(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(error) => format!("error {code} ({error:?})"),
        None => format!("error {code}"),
    }
}

pub(super) fn first<T>(items: Vec<T>) -> Result<T, Trouble> {
    let item = items.into_iter().next();
    item.ok_or_else(|| Trouble::Lasting("the answer names nothing".to_owned()))
}

fn view(partition: &MetadataResponsePartition) -> PartitionView {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    PartitionView {
        partition: partition.partition_index,
        leader: Some(partition.leader_id.0).filter(|&id| id >= 0),
        leader_epoch: partition.leader_epoch,
        replicas: ids(&partition.replica_nodes),
        in_sync: ids(&partition.isr_nodes),
    }
}

fn is_complete(view: &PartitionView) -> bool {
    view.leader.is_some() && view.replicas.iter().all(|id| view.in_sync.contains(id))
}

fn create_topic_request(
    topic: &str,
    partitions: i32,
    replication: i16,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    let mut wanted = CreatableTopic::default();
    wanted.name = name(topic);
    wanted.num_partitions = partitions;
    wanted.replication_factor = replication;
    wanted.configs = configs.iter().map(|&(name, value)| topic_config(name, value)).collect();
    let mut request = CreateTopicsRequest::default();
    request.topics = vec![wanted];
    request.timeout_ms = BROKER_LIMIT_MS;
    request
}

fn wanted(topic: &str) -> MetadataRequestTopic {
    let mut wanted = MetadataRequestTopic::default();
    wanted.name = Some(name(topic));
    wanted
}

fn topic_config(key: &str, value: &str) -> CreatableTopicConfig {
    let mut config = CreatableTopicConfig::default();
    config.name = text(key);
    config.value = Some(text(value));
    config
}

pub(super) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}
