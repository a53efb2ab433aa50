//! ListOffsets and OffsetForLeaderEpoch: where a partition's log begins and ends, and what is where
//! in it.

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};

use super::super::log::error;
use super::super::log::read::Found;
use super::super::state::{Node, Shared};
use super::fetch::check_leader;
use super::{Broken, Envelope, decode, encode};

/// The first version whose answer says which leader wrote a record.
const VERSION_EPOCHS_MIN: i16 = 4;

/// What may stand in place of a time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const NEWEST: i64 = -3;

/// Answers questions for the offset of the first record, of the next, and of that of a time.
pub(crate) fn handle(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: ListOffsetsRequest = decode(envelope, frame)?;
    let tells_epochs = envelope.version >= VERSION_EPOCHS_MIN;
    let topics = request.topics.iter().map(|topic| {
        let partition = |asked: &ListOffsetsPartition| {
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_timestamp(-1)
                .with_offset(-1)
                .with_leader_epoch(-1);
            match find(shared, node, topic.name.as_str(), asked) {
                Ok(Some(found)) => response
                    .with_timestamp(found.timestamp)
                    .with_offset(found.offset)
                    .with_leader_epoch(if tells_epochs { found.leader_epoch } else { -1 }),
                Ok(None) => response,
                Err(code) => response.with_error_code(code),
            }
        };
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(partition).collect())
    });
    let response = ListOffsetsResponse::default().with_topics(topics.collect());
    encode(envelope, envelope.version, &response)
}

/// `None` where no record is so new.
fn find(
    shared: &Shared,
    node: &Node,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<Option<Found>, i16> {
    if let Some(code) = shared.faults.take_fetch_error(node.id, topic, asked.partition_index) {
        return Err(code);
    }
    let topic = shared.topics(|topics| topics.by_name(topic).cloned());
    let topic = topic.ok_or(error::UNKNOWN_TOPIC_OR_PARTITION)?;
    let partition = topic.partition(asked.partition_index);
    let partition = partition.ok_or(error::UNKNOWN_TOPIC_OR_PARTITION)?;
    check_leader(node.id, &partition, asked.current_leader_epoch)?;
    let leader_epoch = partition.leader_epoch;
    let at = |offset| Some(Found { offset, timestamp: -1, leader_epoch });
    match asked.timestamp {
        LATEST => Ok(at(partition.high_watermark())),
        EARLIEST => Ok(at(partition.log_start())),
        NEWEST => Ok(partition.newest()),
        time if time < 0 => Err(error::UNSUPPORTED_VERSION),
        time => Ok(partition.first_since(time)),
    }
}

/// Answers where leader epochs end.
pub(crate) fn handle_epochs(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: OffsetForLeaderEpochRequest = decode(envelope, frame)?;
    let topics = request.topics.iter().map(|topic| {
        let found = shared.topics(|topics| topics.by_name(topic.topic.as_str()).cloned());
        let partition = |asked: &OffsetForLeaderPartition| {
            let response = EpochEndOffset::default()
                .with_partition(asked.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            let partition = found.as_ref().and_then(|topic| topic.partition(asked.partition));
            let Some(partition) = partition else {
                return response.with_error_code(error::UNKNOWN_TOPIC_OR_PARTITION);
            };
            match check_leader(node.id, &partition, asked.current_leader_epoch) {
                Err(code) => response.with_error_code(code),
                Ok(()) => {
                    let (epoch, end) = partition.end_of_epoch(asked.leader_epoch);
                    response.with_leader_epoch(epoch).with_end_offset(end)
                }
            }
        };
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(topic.partitions.iter().map(partition).collect())
    });
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    encode(envelope, envelope.version, &response)
}
