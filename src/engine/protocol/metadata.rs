//! Metadata v0–13: brokers, topics, partitions and their leaders.

use super::api::ApiKey;
use super::primitives::{DecodeError, Reader, Writer};
use super::{BrokerId, ErrorCode, PartitionId, TopicId};

// The least bytes of an element in any version, for the check of counts.
/// Classic v0: node id, empty host, port; flexible ones have one byte more.
const BROKER_BYTES_MIN: usize = 4 + 2 + 4;
/// Classic v0: error, empty name, partition count.
const TOPIC_BYTES_MIN: usize = 2 + 2 + 4;
/// Classic: error, index, leader, two counts; flexible ones have as many.
const PARTITION_BYTES_MIN: usize = 2 + 4 + 4 + 4 + 4;
/// A broker id.
const ID_BYTES: usize = 4;

/// The first version in which topics may be asked for by id; brokers refuse ids in v10 and v11.
#[cfg(feature = "internals")]
const VERSION_IDS_MIN: i16 = 12;

/// The first version, that of Kafka 2.4, whose leader epochs are to be relied on.
const VERSION_EPOCHS_MIN: i16 = 9;

/// Asks for the cluster's brokers and for topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataRequest<'a> {
    /// The topics to be told of. The brokers come in any case.
    pub topics: MetadataTopics<'a>,
    /// Whether the broker may create the topics that do not exist, if it is configured to. Sent
    /// from v4 on; below, brokers behave as if it were true.
    pub allow_auto_topic_creation: bool,
}

/// The topics that a [`MetadataRequest`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataTopics<'a> {
    /// Every topic the principal may see.
    All,
    /// These, which may be none. In v0 an empty list stands for all topics: there is no way to ask
    /// for none.
    Names(&'a [&'a str]),
    /// These, by id (KIP-516): v12 and above only.
    #[cfg(feature = "internals")]
    Ids(&'a [TopicId]),
}

impl MetadataRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version, or if topics are asked
    /// for by id below v12.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::Metadata.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::Metadata.is_flexible(version));
        match self.topics {
            MetadataTopics::All if version == 0 => w.length(0),
            MetadataTopics::All => w.null_length(),
            MetadataTopics::Names(names) => {
                w.length(names.len());
                for name in names {
                    if version >= 10 {
                        w.topic_id(TopicId::ZERO);
                    }
                    w.string(name);
                    w.no_tags();
                }
            }
            #[cfg(feature = "internals")]
            MetadataTopics::Ids(ids) => {
                assert!(version >= VERSION_IDS_MIN, "topic ids need Metadata v12");
                w.length(ids.len());
                for id in ids {
                    w.topic_id(*id);
                    w.nullable_string(None);
                    w.no_tags();
                }
            }
        }
        if version >= 4 {
            w.bool(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&version) {
            w.bool(false); // include_cluster_authorized_operations
        }
        if version >= 8 {
            w.bool(false); // include_topic_authorized_operations
        }
        w.no_tags();
    }
}

/// The cluster as one broker sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataResponse {
    /// An error of the whole request (v13; REBOOTSTRAP_REQUIRED, say), else NONE.
    pub error: ErrorCode,
    /// How long the broker throttles this client, in milliseconds; 0 below v3.
    pub throttle_time_ms: i32,
    /// The brokers that are alive.
    pub brokers: Vec<BrokerMetadata>,
    /// The cluster's id, from v2 on where the broker knows it.
    pub cluster_id: Option<String>,
    /// The active controller, or a random broker in its place under KRaft; none in v0.
    pub controller: Option<BrokerId>,
    /// The topics that were asked for.
    pub topics: Vec<TopicMetadata>,
}

/// A broker and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerMetadata {
    /// Its node id.
    pub id: BrokerId,
    /// A host name or an IP address.
    pub host: String,
    /// Its port; 0 where what was sent is none.
    pub port: u16,
    /// The rack it says it stands in.
    pub rack: Option<String>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Why the topic is not described, or NONE.
    pub error: ErrorCode,
    /// Its name; none if it was asked for by an id that the broker does not know.
    pub name: Option<String>,
    /// Its id; [`TopicId::ZERO`] below v10 and where the broker has none.
    pub id: TopicId,
    /// Whether the topic belongs to Kafka itself.
    pub is_internal: bool,
    /// Its partitions, in the broker's order, which need not be that of their indices.
    pub partitions: Vec<PartitionMetadata>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// LEADER_NOT_AVAILABLE, say, or NONE.
    pub error: ErrorCode,
    /// Its index.
    pub partition: PartitionId,
    /// The broker that leads it, if any does.
    pub leader: Option<BrokerId>,
    /// The leader's epoch (KIP-320); -1 below v7 and where the broker does not know it.
    pub leader_epoch: i32,
    /// The brokers that hold it.
    pub replicas: Vec<BrokerId>,
    /// Those of them that are in sync with the leader.
    pub isr: Vec<BrokerId>,
}

impl MetadataResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::Metadata.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::Metadata.is_flexible(version));
        let throttle_time_ms = if version >= 3 { r.i32("throttle_time_ms")? } else { 0 };
        let count = r.array("brokers", BROKER_BYTES_MIN)?;
        let mut brokers = Vec::with_capacity(count);
        for _ in 0..count {
            brokers.push(broker(version, &mut r)?);
        }
        let cluster_id = match version {
            2.. => r.nullable_string("cluster_id")?.map(str::to_owned),
            _ => None,
        };
        let controller = match version {
            1.. => broker_if_any(r.i32("controller_id")?),
            _ => None,
        };
        let count = r.array("topics", TOPIC_BYTES_MIN)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            topics.push(topic(version, &mut r)?);
        }
        if (8..=10).contains(&version) {
            r.i32("cluster_authorized_operations")?;
        }
        let error = ErrorCode(if version >= 13 { r.i16("error_code")? } else { 0 });
        r.skip_tags("tags")?;
        r.finish("metadata_response")?;
        Ok(MetadataResponse { error, throttle_time_ms, brokers, cluster_id, controller, topics })
    }
}

impl MetadataResponse {
    /// Without the leader epochs of a response of a version in which they are not to be relied on:
    /// brokers that are that old tell outdated ones while a partition is reassigned, as the Java
    /// client has it.
    #[must_use]
    pub fn with_reliable_epochs(mut self, version: i16) -> Self {
        if version < VERSION_EPOCHS_MIN {
            let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            partitions.for_each(|partition| partition.leader_epoch = -1);
        }
        self
    }
}

fn broker(version: i16, r: &mut Reader<'_>) -> Result<BrokerMetadata, DecodeError> {
    let id = BrokerId(r.i32("node_id")?);
    let host = r.string("host")?.to_owned();
    let port = r.port("port")?;
    let rack = match version {
        1.. => r.nullable_string("rack")?.map(str::to_owned),
        _ => None,
    };
    r.skip_tags("broker_tags")?;
    Ok(BrokerMetadata { id, host, port, rack })
}

fn topic(version: i16, r: &mut Reader<'_>) -> Result<TopicMetadata, DecodeError> {
    let error = ErrorCode(r.i16("topic_error_code")?);
    let name = match version {
        12.. => r.nullable_string("topic_name")?,
        _ => Some(r.string("topic_name")?),
    };
    let name = name.map(str::to_owned);
    let id = if version >= 10 { r.topic_id("topic_id")? } else { TopicId::ZERO };
    let is_internal = version >= 1 && r.bool("is_internal")?;
    let count = r.array("partitions", PARTITION_BYTES_MIN)?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        partitions.push(partition(version, r)?);
    }
    if version >= 8 {
        r.i32("topic_authorized_operations")?;
    }
    r.skip_tags("topic_tags")?;
    Ok(TopicMetadata { error, name, id, is_internal, partitions })
}

fn partition(version: i16, r: &mut Reader<'_>) -> Result<PartitionMetadata, DecodeError> {
    let error = ErrorCode(r.i16("partition_error_code")?);
    let partition = PartitionId(r.i32("partition_index")?);
    let leader = broker_if_any(r.i32("leader_id")?);
    let leader_epoch = if version >= 7 { r.i32("leader_epoch")? } else { -1 };
    let replicas = broker_ids("replica_nodes", r)?;
    let isr = broker_ids("isr_nodes", r)?;
    if version >= 5 {
        let count = r.array("offline_replicas", ID_BYTES)?;
        r.take(count * ID_BYTES, "offline_replicas")?;
    }
    r.skip_tags("partition_tags")?;
    Ok(PartitionMetadata { error, partition, leader, leader_epoch, replicas, isr })
}

fn broker_ids(field: &'static str, r: &mut Reader<'_>) -> Result<Vec<BrokerId>, DecodeError> {
    let count = r.array(field, ID_BYTES)?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(BrokerId(r.i32(field)?));
    }
    Ok(ids)
}

/// A negative node id means "none".
fn broker_if_any(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c58_leader_epochs_count_from_metadata_v9_on() {
        for (version, epoch) in [(7, -1), (8, -1), (9, 5), (13, 5)] {
            let partition = PartitionMetadata {
                error: ErrorCode::NONE,
                partition: PartitionId(0),
                leader: Some(BrokerId(1)),
                leader_epoch: 5,
                replicas: Vec::new(),
                isr: Vec::new(),
            };
            let topic = TopicMetadata {
                error: ErrorCode::NONE,
                name: Some("t".to_owned()),
                id: TopicId::ZERO,
                is_internal: false,
                partitions: vec![partition],
            };
            let response = MetadataResponse { topics: vec![topic], ..Default::default() };
            let response = response.with_reliable_epochs(version);
            assert_eq!(response.topics[0].partitions[0].leader_epoch, epoch, "version {version}");
        }
    }

    #[test]
    fn all_none_and_some_topics_are_three_different_requests() {
        let encoded = |topics| {
            let mut out = Vec::new();
            MetadataRequest { topics, allow_auto_topic_creation: true }.encode(4, &mut out);
            out
        };
        assert_eq!(encoded(MetadataTopics::All), [0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(encoded(MetadataTopics::Names(&[])), [0, 0, 0, 0, 1]);
        assert_eq!(encoded(MetadataTopics::Names(&["t"])), [0, 0, 0, 1, 0, 1, b't', 1]);
    }

    #[test]
    #[should_panic(expected = "topic ids need Metadata v12")]
    fn ids_below_v12_are_a_programmer_error() {
        let topics = MetadataTopics::Ids(&[TopicId([1; 16])]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: false };
        request.encode(11, &mut Vec::new());
    }

    #[test]
    fn hostile_counts_are_refused_at_every_level() {
        let topic = [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, b't', 0];
        let partition = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for count in [i32::MAX, i32::MIN, -1, 1000] {
            let count = count.to_be_bytes();
            let bodies = [
                count.to_vec(),
                [&[0, 0, 0, 0, 0, 0, 0, 9][..], &count].concat(),
                [&topic[..], &count].concat(),
                [&topic[..], &partition, &count].concat(),
                [&topic[..], &partition, &[0; 4], &count].concat(),
            ];
            for body in bodies {
                assert!(MetadataResponse::decode(1, &body).is_err(), "{body:?}");
            }
        }
    }
}
