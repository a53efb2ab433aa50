//! Fetch: batches of partitions from an offset on, and the wait for them.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};

use super::super::gate::Gate;
use super::super::log::{Partition, error};
use super::super::state::{Node, Shared, Topic};
use super::{Envelope, decode, encode, text};

/// The first version that names topics by id.
const VERSION_TOPIC_IDS_MIN: i16 = 13;
/// The first version whose answer says where the known log ends that a reader has left.
const VERSION_DIVERGING_MIN: i16 = 12;
/// While a fetch waits it looks whether its broker was stopped this often.
const LOOK: Duration = Duration::from_millis(20);

/// Answers with what there is, as soon as that is `min_bytes` or the request's wait is over. There
/// are no fetch sessions: a client that asks for one gets none, as from a broker whose cache of
/// them is full.
pub(crate) fn handle(
    shared: &Shared,
    node: &Node,
    gate: &Gate,
    (envelope, frame): (&Envelope, Bytes),
    throttle_ms: i32,
) -> io::Result<Vec<u8>> {
    let request: FetchRequest = decode(envelope, frame)?;
    let response = FetchResponse::default().with_throttle_time_ms(throttle_ms);
    if request.session_id != 0 {
        let response = response.with_error_code(error::FETCH_SESSION_ID_NOT_FOUND);
        return Ok(encode(envelope, envelope.version, &response)?);
    }
    let fetch = Fetch { shared, node, version: envelope.version, request: &request };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let until = Instant::now() + wait;
    while !fetch.is_due() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        shared.observers.wait_until(left.min(LOOK), || fetch.is_due());
        gate.pass()?;
    }
    let mut answer =
        Answer { fetch: &fetch, left: bytes(request.max_bytes), hinted: BTreeSet::new() };
    let responses = request.topics.iter().map(|topic| answer.topic(topic)).collect();
    let endpoint = |id: i32| {
        let address = shared.node(id)?.advertised();
        Some(
            NodeEndpoint::default()
                .with_node_id(BrokerId(id))
                .with_host(text(&address.ip().to_string()))
                .with_port(i32::from(address.port())),
        )
    };
    let endpoints = answer.hinted.iter().filter_map(|&id| endpoint(id)).collect();
    let response = response.with_responses(responses).with_node_endpoints(endpoints);
    Ok(encode(envelope, envelope.version, &response)?)
}

fn bytes(limit: i32) -> usize {
    usize::try_from(limit).unwrap_or(0)
}

struct Fetch<'a> {
    shared: &'a Shared,
    node: &'a Node,
    version: i16,
    request: &'a FetchRequest,
}

/// What a partition is asked for, if the request is in order.
struct Readable {
    offset: i64,
    diverging: Option<EpochEndOffset>,
}

impl Fetch<'_> {
    fn find(&self, topic: &FetchTopic) -> Option<Arc<Topic>> {
        self.shared.topics(|topics| match self.version {
            ..VERSION_TOPIC_IDS_MIN => topics.by_name(topic.topic.as_str()).cloned(),
            _ => topics.by_id(topic.topic_id.as_bytes()).cloned(),
        })
    }

    /// Whether there is as much as was asked for, or something that must be told at once.
    fn is_due(&self) -> bool {
        let mut ready = 0;
        for asked in &self.request.topics {
            let Some(topic) = self.find(asked) else { return true };
            for asked in &asked.partitions {
                let Some(partition) = topic.partition(asked.partition) else { return true };
                match self.check(&partition, asked) {
                    Ok(Readable { diverging: None, offset }) => {
                        ready += partition.readable(offset, bytes(asked.partition_max_bytes));
                    }
                    _ => return true,
                }
            }
        }
        ready >= bytes(self.request.min_bytes)
    }

    fn check(&self, partition: &Partition, asked: &FetchPartition) -> Result<Readable, i16> {
        check_leader(self.node.id, partition, asked.current_leader_epoch)?;
        let offset = asked.fetch_offset;
        // First, as in Kafka: a log that was cut off has neither the offset nor the epoch.
        if self.version >= VERSION_DIVERGING_MIN && asked.last_fetched_epoch >= 0 {
            let (epoch, end) = partition.end_of_epoch(asked.last_fetched_epoch);
            if end < 0 {
                return Err(error::OFFSET_OUT_OF_RANGE);
            }
            if epoch < asked.last_fetched_epoch || end < offset {
                let diverging = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                return Ok(Readable { offset, diverging: Some(diverging) });
            }
        }
        if !(partition.log_start()..=partition.high_watermark()).contains(&offset) {
            return Err(error::OFFSET_OUT_OF_RANGE);
        }
        Ok(Readable { offset, diverging: None })
    }
}

/// Whether this broker leads the partition, in the epoch that the client believes in; -1 for one
/// that does not know.
pub(super) fn check_leader(broker: i32, partition: &Partition, epoch: i32) -> Result<(), i16> {
    if partition.leader != broker {
        return Err(error::NOT_LEADER_OR_FOLLOWER);
    }
    match epoch {
        -1 => Ok(()),
        epoch if epoch < partition.leader_epoch => Err(error::FENCED_LEADER_EPOCH),
        epoch if epoch > partition.leader_epoch => Err(error::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

struct Answer<'a> {
    fetch: &'a Fetch<'a>,
    /// Bytes of records that the response may still hold.
    left: usize,
    /// Leaders that the response points to, and whose endpoints it must name.
    hinted: BTreeSet<i32>,
}

impl Answer<'_> {
    fn topic(&mut self, asked: &FetchTopic) -> FetchableTopicResponse {
        let topic = self.fetch.find(asked);
        let partitions = asked.partitions.iter();
        let partitions = partitions.map(|asked| self.partition(topic.as_deref(), asked)).collect();
        FetchableTopicResponse::default()
            .with_topic(asked.topic.clone())
            .with_topic_id(asked.topic_id)
            .with_partitions(partitions)
    }

    fn partition(&mut self, topic: Option<&Topic>, asked: &FetchPartition) -> PartitionData {
        let data = PartitionData::default()
            .with_partition_index(asked.partition)
            .with_high_watermark(-1)
            .with_last_stable_offset(-1)
            .with_log_start_offset(-1)
            .with_aborted_transactions(None)
            .with_preferred_read_replica(BrokerId(-1))
            .with_records(Some(Bytes::new()));
        let Some(topic) = topic else {
            let by_id = self.fetch.version >= VERSION_TOPIC_IDS_MIN;
            return data.with_error_code(match by_id {
                true => error::UNKNOWN_TOPIC_ID,
                false => error::UNKNOWN_TOPIC_OR_PARTITION,
            });
        };
        let faults = &self.fetch.shared.faults;
        if let Some(code) =
            faults.take_fetch_error(self.fetch.node.id, &topic.name, asked.partition)
        {
            return data.with_error_code(code);
        }
        let Some(partition) = topic.partition(asked.partition) else {
            return data.with_error_code(error::UNKNOWN_TOPIC_OR_PARTITION);
        };
        match self.fetch.check(&partition, asked) {
            Err(code) => {
                let is_elsewhere =
                    matches!(code, error::NOT_LEADER_OR_FOLLOWER | error::FENCED_LEADER_EPOCH);
                let data = data.with_error_code(code);
                if !is_elsewhere {
                    return data;
                }
                self.hinted.insert(partition.leader);
                let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(partition.leader));
                data.with_current_leader(leader.with_leader_epoch(partition.leader_epoch))
            }
            Ok(readable) => {
                let end = partition.high_watermark();
                let data = data
                    .with_high_watermark(end)
                    .with_last_stable_offset(end)
                    .with_log_start_offset(partition.log_start());
                if let Some(diverging) = readable.diverging {
                    return data.with_diverging_epoch(diverging);
                }
                // The first batch of a response is whole, or a client could never read it.
                let is_first = self.left == bytes(self.fetch.request.max_bytes);
                let max = self.left.min(bytes(asked.partition_max_bytes));
                let records = partition.read(readable.offset, max, is_first);
                self.left = self.left.saturating_sub(records.len());
                data.with_records(Some(records))
            }
        }
    }
}
