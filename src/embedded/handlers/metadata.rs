//! Metadata: brokers, topics, leaders.

use std::sync::PoisonError;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};

use super::super::log::error;
use super::super::state::{Shared, Topic, Topics, topic_name_is_valid};
use super::{Broken, Envelope, decode, encode, text};

/// Answers with what is asked for. A topic that is missing and may be created is created, and said
/// to be unknown this once, as brokers with KRaft do.
pub(crate) fn handle(
    shared: &Shared,
    broker: i32,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: MetadataRequest = decode(envelope, frame)?;
    let mut missing = Vec::new();
    let topics = shared.topics(|topics| match request.topics {
        // In version 0 an empty list asks for everything.
        Some(asked) if envelope.version > 0 || !asked.is_empty() => {
            asked.into_iter().map(|t| answer(shared, broker, topics, t, &mut missing)).collect()
        }
        _ => topics.all().map(|topic| described(shared, broker, topic)).collect(),
    });
    if shared.config.auto_create_topics && request.allow_auto_topic_creation {
        for name in missing {
            shared.create_topic(&name, shared.config.default_partitions, false);
        }
    }
    let listed = shared.registered().map(|node| {
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

fn answer(
    shared: &Shared,
    broker: i32,
    topics: &Topics,
    asked: MetadataRequestTopic,
    missing: &mut Vec<String>,
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
            missing.push(name.to_owned());
            error::UNKNOWN_TOPIC_OR_PARTITION
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
