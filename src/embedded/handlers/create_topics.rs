//! CreateTopics: new topics, whatever broker is asked, as with KRaft.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::super::log::error;
use super::super::state::{Shared, topic_name_is_valid};
use super::{Broken, Envelope, decode, encode, text};

/// More partitions than a broker of a test needs, as a mistake would ask for.
const PARTITIONS_MAX: i32 = 100_000;

/// Creates topics, each for itself. Every broker holds every partition here, so the number of
/// replicas is only checked. Settings are taken as they are; one has an effect:
/// `message.timestamp.type=LogAppendTime`.
pub(crate) fn handle(
    shared: &Shared,
    broker: i32,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: CreateTopicsRequest = decode(envelope, frame)?;
    let result = |topic: &CreatableTopic| {
        let outcome = match shared.faults.take_create_topics_error(broker) {
            Some((code, message)) => Err((code, message.unwrap_or_default())),
            None => create(shared, topic, request.validate_only),
        };
        let result = CreatableTopicResult::default().with_name(topic.name.clone());
        match outcome {
            Ok(partitions) => result
                .with_num_partitions(partitions)
                .with_replication_factor(replicas_max(shared))
                .with_configs(Some(Vec::new())),
            Err((code, message)) => result
                .with_error_code(code)
                .with_error_message((!message.is_empty()).then(|| text(&message)))
                .with_num_partitions(-1)
                .with_replication_factor(-1),
        }
    };
    let topics = request.topics.iter().map(result).collect();
    encode(envelope, envelope.version, &CreateTopicsResponse::default().with_topics(topics))
}

fn replicas_max(shared: &Shared) -> i16 {
    shared.registered().count().try_into().unwrap_or(i16::MAX)
}

/// Returns how many partitions the topic has now, or an error code with its words.
fn create(
    shared: &Shared,
    topic: &CreatableTopic,
    only_checks: bool,
) -> Result<i32, (i16, String)> {
    let name = topic.name.as_str();
    if !topic_name_is_valid(name) {
        return Err((error::INVALID_TOPIC_EXCEPTION, format!("\"{name}\" is no topic's name")));
    }
    let partitions = match topic.num_partitions {
        -1 => shared.config.default_partitions,
        count => count,
    };
    if !(1..=PARTITIONS_MAX).contains(&partitions) {
        let words = format!("{partitions} partitions are not between 1 and {PARTITIONS_MAX}");
        return Err((error::INVALID_PARTITIONS, words));
    }
    let (replicas, brokers) = (topic.replication_factor, replicas_max(shared));
    if replicas != -1 && !(1..=brokers).contains(&replicas) {
        let words = format!("{replicas} replicas need as many brokers, and there are {brokers}");
        return Err((error::INVALID_REPLICATION_FACTOR, words));
    }
    let is_append_time = topic.configs.iter().any(|config| {
        let value = config.value.as_ref().map(|value| value.as_str());
        config.name.as_str() == "message.timestamp.type" && value == Some("LogAppendTime")
    });
    let is_there = shared.topics(|topics| topics.by_name(name).is_some());
    if is_there || !only_checks && !shared.create_topic(name, partitions, is_append_time) {
        return Err((error::TOPIC_ALREADY_EXISTS, format!("topic {name} exists")));
    }
    Ok(partitions)
}
