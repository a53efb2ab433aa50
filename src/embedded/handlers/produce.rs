//! Produce: Kafka's checks in Kafka's order, the append, and scripted faults in between.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse, TopicName};

use super::super::batch;
use super::super::fault::{Action, Fault};
use super::super::log::{Appended, Incoming, Refusal, Submitted, error};
use super::super::message_set::{self, Limits};
use super::super::state::{Node, Shared, Topic};
use super::super::stats::add;
use super::{Broken, Envelope, decode, encode, old_produce, text};

/// A produce request, as either way of reading it gives it.
#[derive(Debug)]
pub(crate) struct Call {
    pub acks: i16,
    pub topics: Vec<TopicCall>,
}

#[derive(Debug)]
pub(crate) struct TopicCall {
    pub key: TopicKey,
    pub partitions: Vec<(i32, Submitted)>,
}

/// How a request names a topic: by id from version 13 on.
#[derive(Debug)]
pub(crate) enum TopicKey {
    Name(String),
    Id([u8; 16]),
}

impl TopicKey {
    fn find(&self, shared: &Shared) -> Option<Arc<Topic>> {
        shared.topics(|topics| match self {
            TopicKey::Name(name) => topics.by_name(name).cloned(),
            TopicKey::Id(id) => topics.by_id(id).cloned(),
        })
    }
}

impl Call {
    /// Decodes a whole request, with `kafka-protocol` where that has the version.
    pub(crate) fn decode(envelope: &Envelope, frame: Bytes) -> Result<Call, Broken> {
        if envelope.version <= old_produce::VERSION_MAX {
            return old_produce::decode(frame);
        }
        let request: ProduceRequest = decode(envelope, frame)?;
        let topics = request.topic_data.into_iter().map(|topic| TopicCall {
            key: match envelope.version {
                ..=12 => TopicKey::Name(topic.name.as_str().to_owned()),
                _ => TopicKey::Id(*topic.topic_id.as_bytes()),
            },
            partitions: topic
                .partition_data
                .into_iter()
                .map(|partition| (partition.index, Submitted::Whole(partition.records)))
                .collect(),
        });
        Ok(Call { acks: request.acks, topics: topics.collect() })
    }

    /// Whether one of its partitions, by topic name and index, satisfies the predicate.
    pub(crate) fn contains(&self, shared: &Shared, predicate: &dyn Fn(&str, i32) -> bool) -> bool {
        self.topics.iter().any(|topic| {
            let name = topic_name(&topic.key, topic.key.find(shared).as_deref()).to_owned();
            topic.partitions.iter().any(|(index, _)| predicate(&name, *index))
        })
    }
}

/// Handles a request; `None` with acks=0, which has no response. An error under acks=0 closes the
/// connection: it is the only way that a broker has of telling.
pub(crate) fn handle(
    shared: &Shared,
    node: &Node,
    envelope: &Envelope,
    call: &Call,
    throttle_ms: i32,
) -> Result<Option<Vec<u8>>, Broken> {
    let mut handling = Handling {
        shared,
        node,
        version: envelope.version,
        acks: call.acks,
        hinted: BTreeSet::new(),
        seen: HashSet::new(),
        failed: 0,
    };
    let topics = call.topics.iter().map(|topic| handling.topic(topic)).collect();
    add(&node.counters.errors, handling.failed);
    if call.acks == 0 {
        return match handling.failed {
            0 => Ok(None),
            _ => Err(Broken("an error under acks=0")),
        };
    }
    let endpoint = |id: i32| {
        let address = shared.node(id)?.advertised();
        Some(
            NodeEndpoint::default()
                .with_node_id(BrokerId(id))
                .with_host(text(&address.ip().to_string()))
                .with_port(i32::from(address.port())),
        )
    };
    let response = ProduceResponse::default()
        .with_responses(topics)
        .with_throttle_time_ms(throttle_ms)
        .with_node_endpoints(handling.hinted.iter().filter_map(|&id| endpoint(id)).collect());
    match envelope.version {
        ..=old_produce::VERSION_MAX => old_produce::encode(envelope, &response).map(Some),
        _ => encode(envelope, envelope.version, &response).map(Some),
    }
}

struct Handling<'a> {
    shared: &'a Shared,
    node: &'a Node,
    version: i16,
    acks: i16,
    /// Leaders that the response points to, and whose endpoints it must name.
    hinted: BTreeSet<i32>,
    /// Partitions of this request so far, by the topic's place in memory and index.
    seen: HashSet<(usize, i32)>,
    failed: u64,
}

impl Handling<'_> {
    fn topic(&mut self, call: &TopicCall) -> TopicProduceResponse {
        let topic = call.key.find(self.shared);
        let mut partitions = Vec::with_capacity(call.partitions.len());
        for (index, submitted) in &call.partitions {
            partitions.extend(self.partition(&call.key, topic.as_deref(), *index, submitted));
        }
        let response = TopicProduceResponse::default().with_partition_responses(partitions);
        match &call.key {
            TopicKey::Name(name) => response.with_name(TopicName(text(name))),
            // Infallible: a UUID is 16 bytes.
            TopicKey::Id(id) => response.with_topic_id(id.to_vec().try_into().unwrap_or_default()),
        }
    }

    /// The response of one partition; `None` if a fault leaves it out.
    fn partition(
        &mut self,
        key: &TopicKey,
        topic: Option<&Topic>,
        index: i32,
        submitted: &Submitted,
    ) -> Option<PartitionProduceResponse> {
        let name = topic_name(key, topic);
        let fault = self.shared.faults.take_partition(self.node.id, name, index);
        let response = PartitionProduceResponse::default().with_index(index);
        if let Some(fault) = fault.as_ref().filter(|fault| !fault.after_append) {
            return self.faulty(response, fault);
        }
        match (self.append(key, topic, index, submitted), fault) {
            (Ok(_), Some(fault)) => self.faulty(response, &fault),
            (Ok(appended), None) => Some(
                response
                    .with_base_offset(appended.base_offset)
                    .with_log_append_time_ms(appended.append_time)
                    .with_log_start_offset(0),
            ),
            (Err(refusal), _) => {
                self.failed += 1;
                let response =
                    failed(response, refusal.code).with_error_message(Some(text(refusal.message)));
                Some(match (refusal.code, topic) {
                    (error::NOT_LEADER_OR_FOLLOWER, Some(topic)) => {
                        self.with_leader(response, topic, index)
                    }
                    _ => response,
                })
            }
        }
    }

    /// What a scripted fault makes of a response.
    fn faulty(
        &mut self,
        response: PartitionProduceResponse,
        fault: &Fault,
    ) -> Option<PartitionProduceResponse> {
        if fault.action == Action::OmitPartition {
            return None;
        }
        self.failed += u64::from(fault.code() != error::NONE);
        let message = fault.message.as_deref().map(text);
        let mut response = failed(response, fault.code());
        if let Some(offset) = fault.log_start {
            response = response.with_log_start_offset(offset);
        }
        if let Action::RecordErrors(indices) = &fault.action {
            let culprit = |&index: &i32| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(index)
                    .with_batch_index_error_message(message.clone())
            };
            response = response.with_record_errors(indices.iter().map(culprit).collect());
        }
        if let Some((leader, epoch)) = fault.leader_hint {
            self.hinted.insert(leader);
            response = response.with_current_leader(leader_and_epoch(leader, epoch));
        }
        Some(response.with_error_message(message))
    }

    fn with_leader(
        &mut self,
        response: PartitionProduceResponse,
        topic: &Topic,
        index: i32,
    ) -> PartitionProduceResponse {
        let Some(partition) = topic.partition(index) else { return response };
        self.hinted.insert(partition.leader);
        response.with_current_leader(leader_and_epoch(partition.leader, partition.leader_epoch))
    }

    fn append(
        &mut self,
        key: &TopicKey,
        topic: Option<&Topic>,
        index: i32,
        submitted: &Submitted,
    ) -> Result<Appended, Refusal> {
        // A batch is judged by its header before anything else; message sets have none.
        let header = match self.version {
            ..=old_produce::VERSION_MAX => None,
            _ => {
                let (header, size) = submitted.header()?;
                header.validate(size, self.version)?;
                Some(header)
            }
        };
        let Some(topic) = topic else {
            return Err(match key {
                TopicKey::Name(_) => {
                    Refusal::new(error::UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
                }
                TopicKey::Id(_) => Refusal::new(error::UNKNOWN_TOPIC_ID, "no topic has this id"),
            });
        };
        if !self.seen.insert((std::ptr::from_ref(topic).addr(), index)) {
            return Err(Refusal::new(error::INVALID_REQUEST, "a partition occurs twice"));
        }
        let unknown = Refusal::new(error::UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition");
        if topic.partition(index).is_none() {
            return Err(unknown);
        }
        if !matches!(self.acks, -1..=1) {
            return Err(Refusal::new(error::INVALID_REQUIRED_ACKS, "acks is -1, 0 or 1"));
        }
        if topic.partition(index).is_none_or(|partition| partition.leader != self.node.id) {
            return Err(NOT_LEADER);
        }
        let incoming = match &header {
            Some(header) => self.batch(header, submitted)?,
            None => self.message_set(submitted)?,
        };
        let (records, size) = (incoming.record_count, incoming.size);
        let append_time = (topic.log_append_time && self.knows_timestamps()).then(now_ms);
        let mut partition = topic.partition(index).ok_or(unknown)?;
        // Again, and now under the lock that the append is made under.
        if partition.leader != self.node.id {
            return Err(NOT_LEADER);
        }
        let appended = partition.append(incoming, append_time)?;
        drop(partition);
        self.count(records, size, &appended);
        Ok(appended)
    }

    fn batch(
        &self,
        header: &batch::BatchHeader,
        submitted: &Submitted,
    ) -> Result<Incoming, Refusal> {
        if header.size > self.shared.config.message_bytes_max {
            return Err(Refusal::new(
                error::MESSAGE_TOO_LARGE,
                "the batch is larger than message.max.bytes",
            ));
        }
        if let Submitted::Whole(Some(bytes)) = submitted {
            batch::validate_contents(header, bytes)?;
        }
        Ok(Incoming::batch(header, submitted))
    }

    fn message_set(&self, submitted: &Submitted) -> Result<Incoming, Refusal> {
        let Submitted::Whole(Some(set)) = submitted else {
            return Err(Refusal::new(error::CORRUPT_MESSAGE, "a message set that is null"));
        };
        let config = &self.shared.config;
        let limits = Limits {
            magic_max: self.node.age().magic_max(),
            message_bytes_max: config.message_bytes_max,
        };
        let records = message_set::read(set, limits)?;
        Ok(Incoming::messages(records, set.len(), config.discard_payloads))
    }

    /// Whether this broker is new enough for `message.timestamp.type`.
    fn knows_timestamps(&self) -> bool {
        self.node.age().magic_max() > 0
    }

    fn count(&self, records: i32, size: usize, appended: &Appended) {
        let counters = &self.node.counters;
        if appended.duplicate {
            return add(&counters.duplicates, 1);
        }
        add(&counters.batches, 1);
        add(&counters.records, u64::from(records.unsigned_abs()));
        add(&counters.bytes, size as u64);
    }
}

const NOT_LEADER: Refusal = Refusal {
    code: error::NOT_LEADER_OR_FOLLOWER,
    message: "this broker does not lead the partition",
};

fn topic_name<'a>(key: &'a TopicKey, topic: Option<&'a Topic>) -> &'a str {
    match (key, topic) {
        (TopicKey::Name(name), _) => name,
        (TopicKey::Id(_), Some(topic)) => &topic.name,
        (TopicKey::Id(_), None) => "",
    }
}

fn failed(response: PartitionProduceResponse, code: i16) -> PartitionProduceResponse {
    response
        .with_error_code(code)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
}

fn leader_and_epoch(leader: i32, epoch: i32) -> LeaderIdAndEpoch {
    LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
