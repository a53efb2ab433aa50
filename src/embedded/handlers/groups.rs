//! FindCoordinator, OffsetCommit and OffsetFetch: offsets that are kept for groups without members.
//! The registered broker with the lowest id keeps those of all groups.

use bytes::Bytes;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::log::error;
use super::super::state::{KeptOffset, Node, Shared};
use super::{Broken, Envelope, decode, encode, text};

/// The first version of FindCoordinator that asks about several groups.
const FIND_BATCHES_MIN: i16 = 4;
/// The first version of OffsetFetch that does.
const FETCH_BATCHES_MIN: i16 = 8;

fn coordinator(shared: &Shared) -> Option<&Node> {
    shared.registered().next()
}

/// Names the coordinator.
pub(crate) fn handle_find(
    shared: &Shared,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: FindCoordinatorRequest = decode(envelope, frame)?;
    let (code, id, host, port) = match coordinator(shared) {
        Some(node) => {
            let address = node.advertised();
            (error::NONE, node.id, text(&address.ip().to_string()), i32::from(address.port()))
        }
        None => (error::COORDINATOR_NOT_AVAILABLE, -1, text(""), -1),
    };
    let response = if envelope.version < FIND_BATCHES_MIN {
        FindCoordinatorResponse::default()
            .with_error_code(code)
            .with_node_id(BrokerId(id))
            .with_host(host)
            .with_port(port)
    } else {
        let found = request.coordinator_keys.into_iter().map(|key| {
            Coordinator::default()
                .with_key(key)
                .with_error_code(code)
                .with_node_id(BrokerId(id))
                .with_host(host.clone())
                .with_port(port)
        });
        FindCoordinatorResponse::default().with_coordinators(found.collect())
    };
    encode(envelope, envelope.version, &response)
}

/// Why a broker does not answer for groups: a scripted error, or it is not the coordinator.
fn refusal(shared: &Shared, node: &Node) -> Option<i16> {
    let is_coordinator = coordinator(shared).is_some_and(|it| it.id == node.id);
    let not = (!is_coordinator).then_some(error::NOT_COORDINATOR);
    not.or_else(|| shared.faults.take_group_error(node.id))
}

/// Keeps offsets. There are no members, so nobody can be one.
pub(crate) fn handle_commit(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: OffsetCommitRequest = decode(envelope, frame)?;
    let is_member = request.generation_id_or_member_epoch >= 0 || !request.member_id.is_empty();
    let refused = refusal(shared, node).or(is_member.then_some(error::UNKNOWN_MEMBER_ID));
    let topics = request.topics.into_iter().map(|topic| {
        let found = shared.topics(|topics| topics.by_name(topic.name.as_str()).cloned());
        let each = topic.partitions.into_iter().map(|it| {
            let index = it.partition_index;
            let is_there = found.as_ref().is_some_and(|topic| topic.partition(index).is_some());
            let missing = (!is_there).then_some(error::UNKNOWN_TOPIC_OR_PARTITION);
            let code = refused.or(missing).unwrap_or(error::NONE);
            if code == error::NONE {
                let offset = it.committed_offset;
                let metadata = it.committed_metadata.map_or(String::new(), |text| text.to_string());
                let kept = KeptOffset { offset, leader_epoch: it.committed_leader_epoch, metadata };
                shared.keep_offset(&request.group_id, &topic.name, index, kept);
            }
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code)
        });
        let each = each.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(each)
    });
    let response = OffsetCommitResponse::default().with_topics(topics.collect());
    encode(envelope, envelope.version, &response)
}

/// What is kept for a partition: code, offset, epoch, metadata.
type Answer = (i16, i64, i32, StrBytes);

fn kept(shared: &Shared, refused: Option<i16>, group: &str, topic: &str, index: i32) -> Answer {
    match (refused, shared.kept_offset(group, topic, index)) {
        (None, Some(kept)) => (error::NONE, kept.offset, kept.leader_epoch, text(&kept.metadata)),
        (refused, _) => (refused.unwrap_or(error::NONE), -1, -1, text("")),
    }
}

/// Tells what is kept of the partitions that are asked for.
pub(crate) fn handle_fetch(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    frame: Bytes,
) -> Result<Vec<u8>, Broken> {
    let request: OffsetFetchRequest = decode(envelope, frame)?;
    let refused = refusal(shared, node);
    let tells_epochs = envelope.version >= 5;
    let epoch = |epoch| if tells_epochs { epoch } else { -1 };
    let code = refused.filter(|_| envelope.version >= 2).unwrap_or(error::NONE);
    let mut response = OffsetFetchResponse::default();
    if envelope.version < FETCH_BATCHES_MIN {
        let topics = request.topics.into_iter().flatten().map(|topic| {
            let each = topic.partition_indexes.iter().map(|&index| {
                let (code, offset, leader_epoch, metadata) =
                    kept(shared, refused, &request.group_id, &topic.name, index);
                OffsetFetchResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(code)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(epoch(leader_epoch))
                    .with_metadata(Some(metadata))
            });
            let each = each.collect();
            OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(each)
        });
        response = response.with_topics(topics.collect()).with_error_code(code);
    } else {
        let groups = request.groups.into_iter().map(|group| {
            let topics = group.topics.into_iter().flatten().map(|topic| {
                let each = topic.partition_indexes.iter().map(|&index| {
                    let (code, offset, leader_epoch, metadata) =
                        kept(shared, refused, &group.group_id, &topic.name, index);
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_error_code(code)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch(leader_epoch))
                        .with_metadata(Some(metadata))
                });
                let each = each.collect();
                OffsetFetchResponseTopics::default()
                    .with_name(topic.name.clone())
                    .with_partitions(each)
            });
            OffsetFetchResponseGroup::default()
                .with_group_id(group.group_id.clone())
                .with_topics(topics.collect())
                .with_error_code(code)
        });
        response = response.with_groups(groups.collect());
    }
    encode(envelope, envelope.version, &response)
}
