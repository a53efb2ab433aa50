//! CreateTopics: new topics, whatever broker is asked, as with KRaft.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::super::log::error;
use super::super::state::{Shared, topic_name_is_valid};
use super::{Broken, Envelope, decode, encode, text};

/// A request for more partitions, all topics together, is refused (`MAX_PARTITIONS_PER_BATCH` of
/// Kafka's controller).
const PARTITIONS_MAX: i64 = 10_000;

/// The settings of topics that Kafka 4.3 knows (`TopicConfig` of its clients, and its throttles),
/// and those that older brokers knew.
const SETTINGS: &[&str] = &[
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "index.interval.bytes",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
    "follower.replication.throttled.replicas",
    "leader.replication.throttled.replicas",
];

/// Creates topics, each for itself. Every broker holds every partition here, so the number of
/// replicas is only checked. Settings that Kafka does not know are refused, their
/// values are not looked at; one has an effect: `message.timestamp.type=LogAppendTime`.
pub(crate) fn handle(
    shared: &Shared,
    broker: i32,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: CreateTopicsRequest = decode(envelope, frame)?;
    let count = |topic: &CreatableTopic| i64::from(topic.num_partitions.max(1));
    let total: i64 = request.topics.iter().map(count).sum();
    let result = |topic: &CreatableTopic| {
        let outcome = match shared.faults.take_create_topics_error(broker, topic.name.as_str()) {
            Some((code, message)) => Err((code, message.unwrap_or_default())),
            None if total > PARTITIONS_MAX => {
                Err((error::POLICY_VIOLATION, "too many partitions in one request".to_owned()))
            }
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
    if partitions < 1 {
        let words = format!("{partitions} partitions are too few");
        return Err((error::INVALID_PARTITIONS, words));
    }
    let (replicas, brokers) = (topic.replication_factor, replicas_max(shared));
    if replicas != -1 && !(1..=brokers).contains(&replicas) {
        let words = format!("{replicas} replicas need as many brokers, and there are {brokers}");
        return Err((error::INVALID_REPLICATION_FACTOR, words));
    }
    let is_unknown = |name: &&str| !SETTINGS.contains(name);
    if let Some(name) = topic.configs.iter().map(|config| config.name.as_str()).find(is_unknown) {
        return Err((error::INVALID_CONFIG, format!("Unknown topic config name: {name}")));
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
