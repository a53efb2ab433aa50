//! CreateTopics v2–7 (KIP-4): new topics, with their partitions, replicas and settings.

use super::ErrorCode;
use super::api::ApiKey;
use super::primitives::{DecodeError, Reader, Writer};

/// The first version in which a broker fills in its own defaults for partitions and replicas that
/// are not given (KIP-464, Kafka 2.4).
pub const VERSION_TOPIC_DEFAULTS_MIN: i16 = 4;

/// The least that a topic takes in a response: its name's length and an error code.
const TOPIC_BYTES_MIN: usize = 3;
/// The least that one setting of a topic takes in a response.
const SETTING_BYTES_MIN: usize = 5;

/// Asks for new topics.
#[derive(Clone, Copy, Debug)]
pub struct CreateTopicsRequest<'a> {
    /// The topics, each by another name.
    pub topics: &'a [TopicToCreate<'a>],
    /// How long the broker may take, in milliseconds.
    pub timeout_ms: i32,
}

/// A topic to be created.
#[derive(Clone, Copy, Debug)]
pub struct TopicToCreate<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions it gets; the broker's default (`num.partitions`) if none is given, from
    /// v4 on.
    pub partitions: Option<i32>,
    /// How many replicas each of them gets; the broker's default (`default.replication.factor`) if
    /// none is given, from v4 on.
    pub replication_factor: Option<i16>,
    /// Its settings, by Kafka's names.
    pub settings: &'a [(String, String)],
}

impl CreateTopicsRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::CreateTopics.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::CreateTopics.is_flexible(version));
        w.length(self.topics.len());
        for topic in self.topics {
            w.string(topic.name);
            w.i32(topic.partitions.unwrap_or(-1));
            w.i16(topic.replication_factor.unwrap_or(-1));
            // Which broker holds which replica is left to the cluster.
            w.length(0);
            w.length(topic.settings.len());
            for (name, value) in topic.settings {
                w.string(name);
                w.nullable_string(Some(value));
                w.no_tags();
            }
            w.no_tags();
        }
        w.i32(self.timeout_ms);
        // It is to be created, not only to be checked.
        w.bool(false);
        w.no_tags();
    }
}

/// What became of the topics that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopicsResponse {
    /// How long the broker throttles this client, in milliseconds.
    pub throttle_time_ms: i32,
    /// Each topic.
    pub topics: Vec<CreatedTopic>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its name.
    pub name: String,
    /// Why it was not created, or NONE.
    pub error: ErrorCode,
    /// The same in the broker's words.
    pub message: Option<String>,
}

impl CreateTopicsResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::CreateTopics.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::CreateTopics.is_flexible(version));
        let throttle_time_ms = r.i32("throttle_time_ms")?;
        let count = r.array("topics", TOPIC_BYTES_MIN)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(topic(version, &mut r)?);
        }
        r.skip_tags("tags")?;
        r.finish("create_topics_response")?;
        Ok(CreateTopicsResponse { throttle_time_ms, topics })
    }
}

fn topic(version: i16, r: &mut Reader<'_>) -> Result<CreatedTopic, DecodeError> {
    let name = r.string("name")?.to_owned();
    if version >= 7 {
        r.topic_id("topic_id")?;
    }
    let error = ErrorCode(r.i16("error_code")?);
    let message = r.nullable_string("error_message")?.map(str::to_owned);
    if version >= 5 {
        r.i32("num_partitions")?;
        r.i16("replication_factor")?;
        for _ in 0..r.nullable_array("configs", SETTING_BYTES_MIN)?.unwrap_or(0) {
            r.string("config_name")?;
            r.nullable_string("config_value")?;
            r.bool("read_only")?;
            r.take(1, "config_source")?;
            r.bool("is_sensitive")?;
            r.skip_tags("config_tags")?;
        }
    }
    r.skip_tags("topic_tags")?;
    Ok(CreatedTopic { name, error, message })
}
