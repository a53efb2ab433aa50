//! A model of a cluster: bytes of requests in, bytes of responses out. One log per partition, which
//! all brokers replicate at once; each broker answers for the partitions that it leads.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{Buf, Bytes};
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, BrokerId, ProduceRequest, ProduceResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tidegate::internals::protocol as tide;
use tidegate::internals::protocol::records::RecordBatchReader;

use crate::answers::{api_versions, respond};

/// The only topic.
pub const TOPIC: &str = "orders";
const PORT: u16 = 9092;
const PRODUCE_VERSION: i16 = 12;
const BATCHES_REMEMBERED: usize = 5;

const NONE: i16 = 0;
const NOT_LEADER: i16 = 6;
const OUT_OF_ORDER: i16 = 45;
const INVALID_EPOCH: i16 = 47;

/// What a broker does with what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// It reads, but does nothing and answers nothing.
    Hung,
    /// It appends, but answers nothing.
    Mute,
    /// It refuses connections.
    Dead,
    /// It appends, but its answers leave every partition out.
    Forgetful,
    /// It closes the connection on every Produce request, without doing anything.
    Closing,
}

/// A batch's sequences, and where it went.
struct Remembered {
    first: i32,
    last: i32,
    offset: i64,
}

#[derive(Default)]
struct ProducerState {
    epoch: i16,
    batches: VecDeque<Remembered>,
}

pub struct Partition {
    pub leader: i32,
    pub epoch: i32,
    /// The values, by offset.
    pub log: Vec<String>,
    producers: HashMap<i64, ProducerState>,
    /// The next batch is refused with this error.
    pub refuses_once: Option<i16>,
    /// Every batch is refused with this error.
    pub refuses: Option<i16>,
}

/// What a broker did with one partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub broker: i32,
    pub partition: i32,
    pub values: Vec<String>,
    pub error: i16,
}

pub struct Model {
    topic_id: [u8; 16],
    pub partitions: BTreeMap<i32, Partition>,
    pub moods: BTreeMap<i32, Mood>,
    /// Whether NOT_LEADER names the new leader (KIP-951).
    pub hints: bool,
}

impl Model {
    /// So many brokers, numbered from 1, that lead so many partitions in turn.
    pub fn new(brokers: i32, partitions: i32) -> Model {
        let mut model = Model {
            topic_id: [1; 16],
            partitions: BTreeMap::new(),
            moods: (1..=brokers).map(|id| (id, Mood::Well)).collect(),
            hints: false,
        };
        model.add_partitions(partitions);
        model
    }

    /// From now on the topic has `total` partitions; the new ones are led in turn.
    pub fn add_partitions(&mut self, total: i32) {
        let brokers = self.moods.len() as i32;
        for index in self.partitions.len() as i32..total {
            let partition = Partition {
                leader: 1 + index % brokers,
                epoch: 1,
                log: Vec::new(),
                producers: HashMap::new(),
                refuses_once: None,
                refuses: None,
            };
            self.partitions.insert(index, partition);
        }
    }

    /// Another broker leads the partition from now on.
    pub fn move_leader(&mut self, partition: i32, to: i32) {
        let partition = self.partitions.get_mut(&partition).expect("the test names a partition");
        partition.leader = to;
        partition.epoch += 1;
    }

    /// The topic is deleted and made again: another id, empty logs, epochs from the start.
    pub fn recreate(&mut self, leader: i32) {
        self.topic_id[0] += 1;
        for partition in self.partitions.values_mut() {
            partition.leader = leader;
            partition.epoch = 0;
            partition.log.clear();
            partition.producers.clear();
        }
    }

    /// What any broker says of the cluster.
    pub fn metadata(&self) -> tide::MetadataResponse {
        let brokers = self.moods.keys().map(|&id| tide::BrokerMetadata {
            id: tide::BrokerId(id),
            host: host(id),
            port: PORT,
            rack: None,
        });
        let partitions = self.partitions.iter().map(|(&index, partition)| {
            let leader = tide::BrokerId(partition.leader);
            tide::PartitionMetadata {
                error: tide::ErrorCode::NONE,
                partition: tide::PartitionId(index),
                leader: Some(leader),
                leader_epoch: partition.epoch,
                replicas: vec![leader],
                isr: vec![leader],
            }
        });
        let topic = tide::TopicMetadata {
            error: tide::ErrorCode::NONE,
            name: Some(TOPIC.to_owned()),
            id: tide::TopicId(self.topic_id),
            is_internal: false,
            partitions: partitions.collect(),
        };
        let brokers = brokers.collect();
        tide::MetadataResponse { brokers, topics: vec![topic], ..Default::default() }
    }

    /// One request frame, without its size, received by `broker`. Returns the response frame, size
    /// included, unless the broker does not answer, and what became of each batch.
    pub fn handle(&mut self, broker: i32, frame: &[u8]) -> (Option<Vec<u8>>, Vec<Received>) {
        let key = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let api = ApiKey::try_from(key).expect("the client asks what Kafka knows");
        let mut body = Bytes::copy_from_slice(frame);
        let header = RequestHeader::decode(&mut body, api.request_header_version(version));
        let correlation = header.expect("the header can be read").correlation_id;
        match (api, self.moods[&broker]) {
            (_, Mood::Hung | Mood::Dead) => (None, Vec::new()),
            (ApiKey::ApiVersions, _) => (
                Some(respond(api, version, correlation, &api_versions(PRODUCE_VERSION))),
                Vec::new(),
            ),
            (ApiKey::Produce, mood) => {
                let request = ProduceRequest::decode(&mut body, version);
                assert!(!body.has_remaining(), "nothing stands behind the request");
                let request = request.expect("the request can be read");
                let (response, received) = self.produce(broker, request);
                let answers = matches!(mood, Mood::Well | Mood::Forgetful);
                let response = match mood {
                    Mood::Forgetful => ProduceResponse::default(),
                    _ => response,
                };
                let frame = answers.then(|| respond(api, version, correlation, &response));
                (frame, received)
            }
            (api, _) => panic!("shards ask only ApiVersions and Produce, not {api:?}"),
        }
    }

    fn produce(
        &mut self,
        broker: i32,
        request: ProduceRequest,
    ) -> (ProduceResponse, Vec<Received>) {
        let (mut received, mut hinted) = (Vec::new(), BTreeSet::new());
        let mut answers = Vec::new();
        for topic in request.topic_data {
            assert_eq!(topic.name.as_str(), TOPIC);
            let mut named = BTreeSet::new();
            for data in topic.partition_data {
                assert!(named.insert(data.index), "a request has one batch of a partition");
                let partition = self.partitions.get_mut(&data.index).expect("it exists");
                let records = data.records.expect("a batch is never null");
                let (values, result) = partition.append(broker, &records);
                let mut answer = PartitionProduceResponse::default().with_index(data.index);
                match result {
                    Ok(offset) => answer = answer.with_base_offset(offset),
                    Err(code) => answer = answer.with_error_code(code).with_base_offset(-1),
                }
                if result == Err(NOT_LEADER) && self.hints {
                    hinted.insert(partition.leader);
                    let leader = LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(partition.leader))
                        .with_leader_epoch(partition.epoch);
                    answer = answer.with_current_leader(leader);
                }
                answers.push(answer);
                let error = result.err().unwrap_or(NONE);
                received.push(Received { broker, partition: data.index, values, error });
            }
        }
        let name = StrBytes::from_static_str(TOPIC).into();
        let topic = TopicProduceResponse::default().with_name(name);
        let endpoints = hinted.into_iter().map(|id| {
            let host = StrBytes::from_string(host(id));
            let endpoint = NodeEndpoint::default().with_node_id(BrokerId(id));
            endpoint.with_host(host).with_port(i32::from(PORT))
        });
        let response = ProduceResponse::default()
            .with_responses(vec![topic.with_partition_responses(answers)])
            .with_node_endpoints(endpoints.collect());
        (response, received)
    }
}

impl Partition {
    /// As Kafka checks an idempotent batch. The offset, or an error code.
    fn append(&mut self, broker: i32, bytes: &[u8]) -> (Vec<String>, Result<i64, i16>) {
        let (reader, rest) = RecordBatchReader::read(bytes, 1 << 24).expect("CRC and lengths hold");
        assert!(rest.is_empty());
        let records = reader.records().map(|record| record.expect("records can be read"));
        let values: Vec<_> = records
            .map(|record| String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned())
            .collect();
        if broker != self.leader {
            return (values, Err(NOT_LEADER));
        }
        if let Some(error) = self.refuses_once.take().or(self.refuses) {
            return (values, Err(error));
        }
        let header = reader.header();
        let offset = self.log.len() as i64;
        let first = header.base_sequence;
        if first >= 0 {
            let last = first + values.len() as i32 - 1;
            let state = self.producers.entry(header.producer.id).or_default();
            let epoch = header.producer.epoch;
            if epoch < state.epoch {
                return (values, Err(INVALID_EPOCH));
            }
            if epoch > state.epoch {
                *state = ProducerState { epoch, ..Default::default() };
            }
            let known = state.batches.iter().find(|b| (b.first, b.last) == (first, last));
            if let Some(known) = known {
                return (values, Ok(known.offset));
            }
            if state.batches.back().map_or(0, |newest| newest.last + 1) != first {
                return (values, Err(OUT_OF_ORDER));
            }
            state.batches.push_back(Remembered { first, last, offset });
            if state.batches.len() > BATCHES_REMEMBERED {
                state.batches.pop_front();
            }
        }
        self.log.extend(values.iter().cloned());
        (values, Ok(offset))
    }
}

fn host(id: i32) -> String {
    format!("10.0.0.{id}")
}
