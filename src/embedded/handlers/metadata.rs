//! Metadata: brokers, topics, leaders.

use std::sync::PoisonError;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

use super::super::log::error;
use super::super::state::{Node, Shared, Topic, Topics, topic_name_is_valid};
use super::{Broken, Envelope, decode, encode, text};

/// Answers with what is asked for. A topic that is missing and may be created is created, and said
/// to be unknown this once, as brokers with KRaft do; older ones say that it has no leader yet.
pub(crate) fn handle(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: MetadataRequest = decode(envelope, frame)?;
    let (broker, age) = (node.id, node.age());
    let creates = shared.config.auto_create_topics && request.allow_auto_topic_creation;
    let mut missing = Missing {
        names: Vec::new(),
        code: match creates && age.creates_topics_leaderless() {
            true => error::LEADER_NOT_AVAILABLE,
            false => error::UNKNOWN_TOPIC_OR_PARTITION,
        },
    };
    let lists_brokers =
        age.lists_brokers_without_topics() || shared.topics(|topics| topics.all().next().is_some());
    let topics = shared.topics(|topics| match request.topics {
        // In version 0 an empty list asks for everything.
        Some(asked) if envelope.version > 0 || !asked.is_empty() => {
            asked.into_iter().map(|t| answer(shared, broker, topics, t, &mut missing)).collect()
        }
        _ => topics.all().map(|topic| described(shared, broker, topic)).collect(),
    });
    if creates {
        for name in missing.names {
            shared.create_topic(&name, shared.config.default_partitions, false);
        }
    }
    let listed = shared.registered().filter(|_| lists_brokers).map(|node| {
        let address = node.advertised();
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(&address.ip().to_string()))
            .with_port(i32::from(address.port()))
    });
    let response = MetadataResponse::default()
        .with_brokers(listed.collect())
        .with_cluster_id(Some(text(&shared.config.cluster_id)))
        .with_controller_id(BrokerId(shared.registered().next().map_or(-1, |node| node.id)))
        .with_topics(topics);
    encode(envelope, envelope.version, &response)
}

/// Refuses what a broker before 0.10 cannot parse: also a null list of topics, which came with
/// version 1.
pub(crate) fn check_old(envelope: &Envelope, frame: &Bytes) -> Result<(), Broken> {
    let request: MetadataRequest = decode(envelope, frame.clone())?;
    match request.topics {
        Some(_) => Ok(()),
        None => Err(Broken("a malformed request")),
    }
}

/// Topics that were asked for and are not there, and what is said of each.
struct Missing {
    names: Vec<String>,
    code: i16,
}

fn answer(
    shared: &Shared,
    broker: i32,
    topics: &Topics,
    asked: MetadataRequestTopic,
    missing: &mut Missing,
) -> MetadataResponseTopic {
    let id = *asked.topic_id.as_bytes();
    let by_id = id != [0; 16];
    let name = asked.name.as_ref().map_or("", |name| name.as_str());
    let found = if by_id { topics.by_id(&id) } else { topics.by_name(name) };
    if let Some(topic) = found {
        return described(shared, broker, topic);
    }
    let code = match shared.faults.take_metadata_error(broker, name) {
        Some(code) => code,
        None if by_id => error::UNKNOWN_TOPIC_ID,
        None if !topic_name_is_valid(name) => error::INVALID_TOPIC_EXCEPTION,
        None => {
            missing.names.push(name.to_owned());
            missing.code
        }
    };
    let name = if by_id { None } else { asked.name };
    MetadataResponseTopic::default()
        .with_error_code(code)
        .with_name(name)
        .with_topic_id(asked.topic_id)
}

fn described(shared: &Shared, broker: i32, topic: &Topic) -> MetadataResponseTopic {
    let described = MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        // Infallible: a UUID is 16 bytes.
        .with_topic_id(topic.id.to_vec().try_into().unwrap_or_default());
    if let Some(code) = shared.faults.take_metadata_error(broker, &topic.name) {
        return described.with_error_code(code);
    }
    let all: Vec<BrokerId> = shared.nodes.iter().map(|node| BrokerId(node.id)).collect();
    let live: Vec<BrokerId> = shared.registered().map(|node| BrokerId(node.id)).collect();
    let offline: Vec<BrokerId> = all.iter().filter(|id| !live.contains(id)).copied().collect();
    let picture = shared.node(broker).map(|node| &node.picture);
    let picture = picture.map(|known| known.lock().unwrap_or_else(PoisonError::into_inner));
    let old = |index: i32| {
        let leaders = picture.as_ref()?.as_ref()?.get(&topic.id)?;
        leaders.get(usize::try_from(index).ok()?).copied()
    };
    let partition = |(index, partition): (i32, &std::sync::Arc<std::sync::Mutex<_>>)| {
        let (leader, epoch) = old(index).unwrap_or_else(|| leadership(partition));
        MetadataResponsePartition::default()
            .with_error_code(if leader < 0 { error::LEADER_NOT_AVAILABLE } else { error::NONE })
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(epoch)
            .with_replica_nodes(all.clone())
            .with_isr_nodes(live.clone())
            .with_offline_replicas(offline.clone())
    };
    described.with_partitions((0..).zip(&topic.partitions).map(partition).collect())
}

fn leadership(partition: &std::sync::Mutex<super::super::log::Partition>) -> (i32, i32) {
    let partition = partition.lock().unwrap_or_else(PoisonError::into_inner);
    (partition.leader, partition.leader_epoch)
}
