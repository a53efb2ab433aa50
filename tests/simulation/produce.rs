//! The model's brokers answering Produce and ApiVersions requests.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tidegate::internals::protocol::records::RecordBatchReader;

use super::answers::{api_versions, respond};
use super::cluster::{Cluster, host, id};
use super::oracle::Content;
use super::partition::{Entry, code, last_sequence};
use super::plan::Plan;
use super::rng::Rng;

/// How far a broker is with one partition of a request.
#[derive(Clone, Debug)]
enum State {
    Done {
        code: i16,
        offset: i64,
    },
    /// Appended; it waits for the replicas.
    Waits {
        index: usize,
        epoch: i32,
        code: i16,
    },
    /// The broker leads no longer and does not know it yet.
    Deposed,
}

#[derive(Debug)]
#[expect(dead_code, reason = "traces show all of it")]
struct Part {
    topic: usize,
    /// The topic's id when the request was taken.
    id: [u8; 16],
    partition: i32,
    state: State,
    /// Records that the broker does not take, by their place in the batch.
    refused: Vec<i32>,
    /// What was received.
    batch: Received,
}

#[derive(Debug)]
#[expect(dead_code, reason = "traces show all of it")]
struct Received {
    epoch: i16,
    first: i32,
    records: Vec<u32>,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct Pending {
    broker: usize,
    correlation: i32,
    version: i16,
    pub acks: i16,
    pub timeout_ms: i32,
    /// The response's topics, without their partitions.
    topics: Vec<(usize, TopicProduceResponse)>,
    parts: Vec<Part>,
}

/// What a broker makes of a request.
pub enum Served {
    Response(Vec<u8>),
    Produce(Pending),
}

/// One request frame, without its size, received by `broker`.
pub fn serve(
    cluster: &mut Cluster,
    plan: &Plan,
    now: u64,
    broker: usize,
    frame: Vec<u8>,
) -> Served {
    let key = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let api = ApiKey::try_from(key).expect("the client asks what Kafka knows");
    let mut body = Bytes::from(frame);
    let header = RequestHeader::decode(&mut body, api.request_header_version(version));
    let correlation = header.expect("the header can be read").correlation_id;
    match api {
        ApiKey::ApiVersions => {
            let mut response = api_versions(plan.produce_max);
            if cluster.id.is_some() {
                let metadata = ApiVersion::default().with_api_key(ApiKey::Metadata as i16);
                response.api_keys.push(metadata.with_max_version(8));
            }
            Served::Response(respond(api, version, correlation, &response))
        }
        ApiKey::Metadata => {
            let id = cluster.cluster_id().map(StrBytes::from_string);
            let response = MetadataResponse::default().with_cluster_id(id);
            Served::Response(respond(api, version, correlation, &response))
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut body, version);
            assert!(!body.has_remaining(), "nothing stands behind the request");
            let mut request = request.expect("the request can be read");
            // The client's order of topics is no part of the seed.
            request.topic_data.sort_by(|a, b| (&a.name, a.topic_id).cmp(&(&b.name, b.topic_id)));
            let (acks, timeout_ms) = (request.acks, request.timeout_ms);
            let (topics, parts) = (Vec::new(), Vec::new());
            let mut pending =
                Pending { broker, correlation, version, acks, timeout_ms, topics, parts };
            pending.append_all(cluster, plan, now, request);
            Served::Produce(pending)
        }
        api => panic!("shards ask only ApiVersions and Produce, not {api:?}"),
    }
}

fn append(
    cluster: &mut Cluster,
    plan: &Plan,
    (broker, topic, index): (usize, usize, i32),
    (entry, bytes): (Entry, usize),
    (acks, now): (i16, u64),
    refused: &mut Vec<i32>,
) -> State {
    let failed = |code| State::Done { code, offset: -1 };
    let poison = cluster.poison;
    let is_poison = |id: &u32| poison > 0 && id.is_multiple_of(poison);
    let partition = match cluster.topics[topic].partitions.get_mut(index as usize) {
        Some(partition) if partition.believed[broker].epoch >= 0 => partition,
        _ => return failed(code::UNKNOWN_TOPIC_OR_PARTITION),
    };
    if partition.believed[broker].leader != Some(broker) {
        return failed(code::NOT_LEADER);
    }
    if partition.known.leader != Some(broker) {
        partition.lost_tail |= acks == 1;
        let done = State::Done { code: code::NONE, offset: i64::from(i32::MAX) };
        return if acks == 1 { done } else { State::Deposed };
    }
    if bytes > partition.bytes_max {
        return failed(code::MESSAGE_TOO_LARGE);
    }
    if entry.records.iter().any(is_poison) {
        let ids = entry.records.iter().enumerate();
        refused.extend(ids.filter(|(_, id)| is_poison(id)).map(|(place, _)| place as i32));
        return failed(code::INVALID_RECORD);
    }
    if acks == -1 && partition.in_sync() < plan.min_isr {
        return failed(code::NOT_ENOUGH_REPLICAS);
    }
    let injected = partition.injected.pop_front();
    if let Some(injected) = injected.filter(|injected| !injected.appends) {
        return failed(injected.code);
    }
    let told = injected.map_or(code::NONE, |injected| injected.code);
    match partition.append(now, entry) {
        Err(code) => failed(code),
        Ok(appended) => {
            let tells = appended.duplicate && plan.tells_duplicates;
            let code = if tells && told == code::NONE { code::DUPLICATE } else { told };
            State::Waits { index: appended.index, epoch: partition.known.epoch, code }
        }
    }
}

/// Reads a batch, and checks that its records are those that were sent to this partition.
fn read_batch(topic: usize, partition: i32, bytes: &[u8]) -> Entry {
    let (reader, rest) =
        RecordBatchReader::read(bytes, 1 << 24).expect("the batch arrives as it was made");
    assert!(rest.is_empty(), "one batch for each partition");
    let header = *reader.header();
    let records = reader.records().map(|record| {
        let record = record.expect("records can be read");
        Content::read(record.value.unwrap_or_default(), topic, partition as usize)
    });
    let records: Vec<u32> = records.collect();
    let first = header.base_sequence;
    Entry {
        pid: header.producer.id,
        epoch: header.producer.epoch,
        first,
        last: last_sequence(first, records.len()),
        offset: 0,
        records,
    }
}

impl Pending {
    fn append_all(
        &mut self,
        cluster: &mut Cluster,
        plan: &Plan,
        now: u64,
        request: ProduceRequest,
    ) {
        for data in request.topic_data {
            let by_id = self.version >= 13;
            // The last byte counts topics of one name.
            let topic = cluster.topics.iter().position(|topic| match by_id {
                true => topic.id[..15] == data.topic_id.as_bytes()[..15],
                false => topic.name == data.name.as_str(),
            });
            let topic = topic.expect("the client names topics that exist, or did");
            let id = cluster.topics[topic].id;
            let is_gone = by_id && id != *data.topic_id.as_bytes();
            let named = TopicProduceResponse::default().with_name(data.name);
            self.topics.push((topic, named.with_topic_id(data.topic_id)));
            for data in data.partition_data {
                let records = data.records.expect("a batch is never null");
                let mut refused = Vec::new();
                let place = (self.broker, topic, data.index);
                let entry = read_batch(topic, data.index, &records);
                cluster.check_newcomer(&entry);
                let Entry { epoch, first, .. } = entry;
                let batch = Received { epoch, first, records: entry.records.clone() };
                let bytes = records.len();
                let state = match is_gone {
                    true => State::Done { code: code::UNKNOWN_TOPIC_ID, offset: -1 },
                    false => {
                        let request = (self.acks, now);
                        append(cluster, plan, place, (entry, bytes), request, &mut refused)
                    }
                };
                self.parts.push(Part { topic, id, partition: data.index, state, refused, batch });
            }
        }
    }

    /// Looks again at what waits. Returns whether everything is done.
    pub fn progress(&mut self, cluster: &Cluster, min_isr: usize) -> bool {
        let mut done = true;
        for part in &mut self.parts {
            if matches!(part.state, State::Done { .. }) {
                continue;
            }
            let it = &cluster.topics[part.topic].partitions[part.partition as usize];
            let state = part.state.clone();
            let mut finish = |code, offset| part.state = State::Done { code, offset };
            let is_gone = part.id != cluster.topics[part.topic].id;
            let leads = it.believed[self.broker].leader == Some(self.broker);
            match state {
                _ if is_gone => finish(code::UNKNOWN_TOPIC_OR_PARTITION, -1),
                _ if !leads => finish(code::NOT_LEADER, -1),
                State::Waits { index, epoch, code } if epoch == it.known.epoch => {
                    let offset = it.log[index].offset;
                    if self.acks != -1 {
                        finish(code, offset);
                    } else if it.high <= index {
                        done = false;
                    } else if it.in_sync() < min_isr {
                        finish(code::NOT_ENOUGH_REPLICAS_AFTER_APPEND, -1);
                    } else {
                        finish(code, if code == code::NONE { offset } else { -1 });
                    }
                }
                _ => done = false,
            }
        }
        done
    }

    /// Whether the answer is an error, which is told by closing the connection under acks=0.
    pub fn has_failed(&self) -> bool {
        let failed =
            |part: &Part| matches!(part.state, State::Done { code, .. } if code != code::NONE);
        self.parts.iter().any(failed)
    }

    /// The request's own timeout has passed.
    pub fn time_out(&mut self) {
        for part in &mut self.parts {
            if !matches!(part.state, State::Done { .. }) {
                part.state = State::Done { code: code::REQUEST_TIMED_OUT, offset: -1 };
            }
        }
    }

    /// The partitions that it is about, as far as they exist.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let waits = |part: &&Part| !matches!(part.state, State::Done { .. });
        self.parts.iter().filter(waits).map(|part| (part.topic, part.partition as usize))
    }

    pub fn respond(&self, cluster: &Cluster, plan: &Plan, rng: &mut Rng, odd: Odd) -> Vec<u8> {
        let mut topics = Vec::new();
        let mut hinted = Vec::new();
        for (topic, named) in &self.topics {
            let parts = self.parts.iter().filter(|part| part.topic == *topic);
            let answers = parts.map(|part| self.answer(cluster, plan, part, &mut hinted));
            topics.push(named.clone().with_partition_responses(answers.collect()));
        }
        for topic in &mut topics {
            if rng.percent(30) {
                topic.partition_responses.reverse();
            }
        }
        make_odd(&mut topics, odd, rng);
        let endpoints = hinted.into_iter().map(|broker| {
            let endpoint = NodeEndpoint::default().with_node_id(BrokerId(id(broker).0));
            let port = i32::from(cluster.brokers[broker].port());
            endpoint.with_host(StrBytes::from_string(host(broker))).with_port(port)
        });
        let mut response = ProduceResponse::default().with_responses(topics);
        if self.version >= 10 {
            response = response.with_node_endpoints(endpoints.collect());
        }
        if odd == Odd::Throttles {
            response = response.with_throttle_time_ms(rng.range(1, 50) as i32);
        }
        respond(ApiKey::Produce, self.version, self.correlation, &response)
    }

    fn answer(
        &self,
        cluster: &Cluster,
        plan: &Plan,
        part: &Part,
        hinted: &mut Vec<usize>,
    ) -> PartitionProduceResponse {
        let State::Done { code, offset } = part.state else { unreachable!("progress() said so") };
        let mut answer = PartitionProduceResponse::default()
            .with_index(part.partition)
            .with_error_code(code)
            .with_base_offset(offset);
        if self.version >= 8 {
            let refused = part.refused.iter().map(|&place| {
                BatchIndexAndErrorMessage::default()
                    .with_batch_index(place)
                    .with_batch_index_error_message(Some(StrBytes::from_static_str("poison")))
            });
            answer = answer.with_record_errors(refused.collect());
        }
        let partition = cluster.topics[part.topic].partitions.get(part.partition as usize);
        if let Some(partition) = partition
            && self.version >= 5
        {
            answer = answer.with_log_start_offset(partition.start());
        }
        if code == code::NOT_LEADER
            && plan.hints
            && self.version >= 10
            && let Some(known) = partition.map(|it| it.believed[self.broker])
            && let Some(leader) = known.leader
        {
            hinted.push(leader);
            let leader = LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(id(leader).0))
                .with_leader_epoch(known.epoch);
            answer = answer.with_current_leader(leader);
        }
        answer
    }
}

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    Not,
    Omits,
    Doubles,
    Invents,
    Throttles,
}

fn make_odd(topics: &mut [TopicProduceResponse], odd: Odd, rng: &mut Rng) {
    let Some(topic) = topics.first_mut() else { return };
    let answers = &mut topic.partition_responses;
    let at = rng.below(answers.len());
    match odd {
        Odd::Not | Odd::Throttles => {}
        Odd::Omits => {
            answers.remove(at);
        }
        Odd::Doubles => {
            // What contradicts itself says nothing.
            let twin = answers[at].clone().with_error_code(code::NONE).with_base_offset(7);
            answers.push(twin);
        }
        Odd::Invents => {
            let other = PartitionProduceResponse::default().with_index(999).with_base_offset(3);
            answers.insert(at, other);
        }
    }
}
