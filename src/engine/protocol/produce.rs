//! Produce v3–13: the request's bytes around the record batches, and the response.
//!
//! A request is written to the socket from many places of memory: the batches from where they were
//! encoded, and between them the *framing* that [`ProduceEncoder`] makes. A response is decoded
//! into a [`ProduceResponse`] that is used again and again, so that an answer without errors takes
//! no memory from the heap.

use super::api::ApiKey;
use super::header::{begin_frame, encode_request_header, end_frame};
use super::primitives::{DecodeError, Reader, Writer};
use super::{BrokerId, ErrorCode, PartitionId, TopicId};

// The least bytes of an element in any version, for the check of counts.
/// Flexible: empty name, partition count, tag count.
const TOPIC_BYTES_MIN: usize = 1 + 1 + 1;
/// Classic v0: index, error, base offset.
const PARTITION_BYTES_MIN: usize = 4 + 2 + 8;
/// Classic: batch index, null message; flexible ones have as many.
const RECORD_ERROR_BYTES_MIN: usize = 4 + 2;
/// Flexible: node id, empty host, port, null rack, tag count.
const ENDPOINT_BYTES_MIN: usize = 4 + 1 + 4 + 1 + 1;

/// A reused [`ProduceResponse`] keeps room for so many partitions; what a larger response needed is
/// given back before the next one.
const PARTITIONS_KEPT: usize = 1 << 14;

/// The first version that names topics by id (KIP-516) instead of by name.
pub const VERSION_TOPIC_IDS_MIN: i16 = 13;

/// The first version with record batches (KIP-98, Kafka 0.11). Those below carry message sets.
pub const VERSION_BATCHES_MIN: i16 = 3;

/// The first version of brokers that remember a producer's last five batches (Kafka 1.0); those
/// before remember one.
pub const VERSION_FIVE_REMEMBERED_MIN: i16 = 5;

/// Bytes of a request before its first topic and behind its last, in any version, without the
/// client id: size, API key, version, correlation id, the client id's length, tags, no
/// transactional id, acks, timeout, number of topics, tags.
pub const PRODUCE_HEAD_MAX: usize = 4 + 2 + 2 + 4 + 2 + 1 + 2 + 2 + 4 + 4 + 1;

/// Bytes around a batch that is its topic's only one, in any version, without the topic's name: the
/// name's length or the topic's id, the number of partitions, the index, the records' length, and
/// the tags of partition and topic.
pub const PRODUCE_AROUND_BATCH_MAX: usize = 16 + 4 + 4 + 5 + 1 + 1;

/// Writes the framing of one Produce request.
///
/// After [`begin`](Self::begin), for each topic: [`topic`](Self::topic), then for each of its
/// partitions [`partition`](Self::partition) and [`end_partition`](Self::end_partition), then
/// [`end_topic`](Self::end_topic); at last [`finish`](Self::finish). On the wire the records of a
/// partition stand at the offset of the framing that `partition` returned. Panics where the numbers
/// of topics and partitions are not those that were announced.
#[derive(Debug)]
pub struct ProduceEncoder<'a> {
    out: &'a mut Vec<u8>,
    version: i16,
    /// Where the frame's size field is in `out`.
    start: usize,
    /// Bytes of records that are not in `out`.
    records_bytes: usize,
    topics_left: usize,
    partitions_left: usize,
}

impl<'a> ProduceEncoder<'a> {
    /// Appends room for the size, the header, and everything up to the number of topics.
    ///
    /// `acks` is 0, 1 or -1 (all); `timeout_ms` is how long the broker may wait for the replicas.
    /// Panics if this codec does not speak the version.
    #[expect(clippy::too_many_arguments, reason = "one argument for each field of the request")]
    pub fn begin(
        out: &'a mut Vec<u8>,
        version: i16,
        correlation_id: i32,
        client_id: &str,
        transactional_id: Option<&str>,
        acks: i16,
        timeout_ms: i32,
        topic_count: usize,
    ) -> ProduceEncoder<'a> {
        assert!(ApiKey::Produce.versions().contains(version));
        let start = begin_frame(out);
        encode_request_header(out, ApiKey::Produce, version, correlation_id, client_id);
        let mut encoder = ProduceEncoder {
            out,
            version,
            start,
            records_bytes: 0,
            topics_left: topic_count,
            partitions_left: 0,
        };
        let mut w = encoder.writer();
        if version >= VERSION_BATCHES_MIN {
            w.nullable_string(transactional_id);
        }
        w.i16(acks);
        w.i32(timeout_ms);
        w.length(topic_count);
        encoder
    }

    /// Begins a topic: by `name` up to v12, by `id` from v13 on. The other one is not sent.
    pub fn topic(&mut self, name: &str, id: TopicId, partition_count: usize) {
        assert_eq!(self.partitions_left, 0, "the last topic lacks partitions");
        self.topics_left = self.topics_left.checked_sub(1).expect("no more topics than announced");
        self.partitions_left = partition_count;
        let by_id = self.version >= VERSION_TOPIC_IDS_MIN;
        let mut w = self.writer();
        if by_id {
            w.topic_id(id);
        } else {
            w.string(name);
        }
        w.length(partition_count);
    }

    /// Writes a partition's index and the length of its records. The records themselves belong at
    /// the offset of the vector that is returned.
    pub fn partition(&mut self, partition: PartitionId, records_len: usize) -> usize {
        self.partitions_left =
            self.partitions_left.checked_sub(1).expect("no more partitions than announced");
        self.records_bytes += records_len;
        let mut w = self.writer();
        w.i32(partition.0);
        w.length(records_len);
        w.position()
    }

    /// Ends the partition, behind its records.
    pub fn end_partition(&mut self) {
        self.writer().no_tags();
    }

    /// Ends the topic.
    pub fn end_topic(&mut self) {
        assert_eq!(self.partitions_left, 0, "the topic lacks partitions");
        self.writer().no_tags();
    }

    /// Ends the request and fills in its size, framing and records. Returns the whole request's
    /// length on the wire in bytes, the size field included.
    pub fn finish(mut self) -> usize {
        assert_eq!(self.topics_left, 0, "the request lacks topics");
        self.writer().no_tags();
        end_frame(self.out, self.start, self.records_bytes)
    }

    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out, ApiKey::Produce.is_flexible(self.version))
    }
}

/// Names a topic in a response: as the request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    /// By name, up to v12.
    Name(&'a str),
    /// By id, from v13 on.
    Id(TopicId),
}

/// The answer to a Produce request. One value is meant to be decoded into again and again.
#[derive(Clone, Debug, Default)]
pub struct ProduceResponse {
    /// How long the broker throttles this client, in milliseconds.
    pub throttle_time_ms: i32,
    /// Where the leaders named by [`PartitionResponse::current_leader`] are reached (KIP-951, v10).
    pub node_endpoints: Vec<NodeEndpoint>,
    partitions: Vec<PartitionResponse>,
    /// The topics' names, one behind the other.
    names: String,
}

/// A broker and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its node id.
    pub id: BrokerId,
    /// A host name or an IP address.
    pub host: String,
    /// Its port; 0 where what was sent is none.
    pub port: u16,
}

/// What became of one partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionResponse {
    topic: TopicSpan,
    /// The partition's index.
    pub partition: PartitionId,
    /// Why the batch was not written (or not replicated), or NONE.
    pub error: ErrorCode,
    /// The offset of the batch's first record; -1 on errors, and for a duplicate whose offset the
    /// broker has forgotten.
    pub base_offset: i64,
    /// The time the broker gave all the records, in milliseconds since the epoch; -1 if they keep
    /// their own.
    pub log_append_time_ms: i64,
    /// The first offset that is still in the log; -1 where not told (below v5, and on errors).
    pub log_start_offset: i64,
    /// The records that made the broker refuse the batch, by index in it, each with the broker's
    /// words (KIP-467, v8).
    pub record_errors: Vec<(i32, Option<String>)>,
    /// The broker's words on the error (KIP-467, v8).
    pub error_message: Option<String>,
    /// The leader and its epoch, where this broker is not it any more (KIP-951, v10).
    pub current_leader: Option<(BrokerId, i32)>,
}

/// A [`TopicRef`] whose name lies in [`ProduceResponse::names`], from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TopicSpan {
    Name(u32, u32),
    Id(TopicId),
}

impl ProduceResponse {
    /// A response of no partitions, to decode into.
    #[cfg(feature = "internals")]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a body in place of what was here. After an error nothing is here. Panics if this codec
    /// does not speak the version.
    pub fn decode_into(&mut self, version: i16, body: &[u8]) -> Result<(), DecodeError> {
        assert!(ApiKey::Produce.versions().contains(version));
        self.clear();
        let result = self.decode_body(version, body);
        if result.is_err() {
            self.clear();
        }
        result
    }

    /// The partitions answered for, with their topics, in the order of the response.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (TopicRef<'_>, &PartitionResponse)> {
        self.partitions.iter().map(|partition| (self.topic_of(partition), partition))
    }

    /// The number of partitions answered for.
    #[cfg(feature = "internals")]
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether no partition was answered for.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    fn topic_of(&self, partition: &PartitionResponse) -> TopicRef<'_> {
        match partition.topic {
            TopicSpan::Name(from, to) => TopicRef::Name(&self.names[from as usize..to as usize]),
            TopicSpan::Id(id) => TopicRef::Id(id),
        }
    }

    fn clear(&mut self) {
        self.throttle_time_ms = 0;
        self.node_endpoints.clear();
        self.partitions.clear();
        self.partitions.shrink_to(PARTITIONS_KEPT);
        self.names.clear();
    }

    fn decode_body(&mut self, version: i16, body: &[u8]) -> Result<(), DecodeError> {
        let mut r = Reader::new(body, ApiKey::Produce.is_flexible(version));
        for _ in 0..r.array("responses", TOPIC_BYTES_MIN)? {
            let topic = self.topic(version, &mut r)?;
            let count = r.array("partition_responses", PARTITION_BYTES_MIN)?;
            self.partitions.reserve(count);
            for _ in 0..count {
                self.partitions.push(partition(version, topic, &mut r)?);
            }
            r.skip_tags("topic_tags")?;
        }
        self.throttle_time_ms = if version >= 1 { r.i32("throttle_time_ms")? } else { 0 };
        r.visit_tags("tags", |tag, content| match tag {
            0 if version >= 10 => {
                endpoints(&mut self.node_endpoints, content)?;
                Ok(true)
            }
            _ => Ok(false),
        })?;
        r.finish("produce_response")
    }

    fn topic(&mut self, version: i16, r: &mut Reader<'_>) -> Result<TopicSpan, DecodeError> {
        if version >= VERSION_TOPIC_IDS_MIN {
            return Ok(TopicSpan::Id(r.topic_id("topic_id")?));
        }
        // Names are shorter than the frame, whose size has 31 bits: the casts lose nothing.
        let from = self.names.len() as u32;
        self.names.push_str(r.string("topic_name")?);
        Ok(TopicSpan::Name(from, self.names.len() as u32))
    }
}

fn partition(
    version: i16,
    topic: TopicSpan,
    r: &mut Reader<'_>,
) -> Result<PartitionResponse, DecodeError> {
    let mut response = PartitionResponse {
        topic,
        partition: PartitionId(r.i32("index")?),
        error: ErrorCode(r.i16("error_code")?),
        base_offset: r.i64("base_offset")?,
        log_append_time_ms: if version >= 2 { r.i64("log_append_time_ms")? } else { -1 },
        log_start_offset: if version >= 5 { r.i64("log_start_offset")? } else { -1 },
        record_errors: Vec::new(),
        error_message: None,
        current_leader: None,
    };
    if version >= 8 {
        response.record_errors = record_errors(r)?;
        response.error_message = r.nullable_string("error_message")?.map(str::to_owned);
    }
    r.visit_tags("partition_tags", |tag, content| match tag {
        0 if version >= 10 => {
            response.current_leader = current_leader(content)?;
            Ok(true)
        }
        _ => Ok(false),
    })?;
    Ok(response)
}

fn record_errors(r: &mut Reader<'_>) -> Result<Vec<(i32, Option<String>)>, DecodeError> {
    let count = r.array("record_errors", RECORD_ERROR_BYTES_MIN)?;
    let mut errors = Vec::with_capacity(count);
    for _ in 0..count {
        let index = r.i32("batch_index")?;
        let message = r.nullable_string("batch_index_error_message")?.map(str::to_owned);
        r.skip_tags("record_error_tags")?;
        errors.push((index, message));
    }
    Ok(errors)
}

/// A negative id means that the broker does not know the leader.
fn current_leader(r: &mut Reader<'_>) -> Result<Option<(BrokerId, i32)>, DecodeError> {
    let id = r.i32("leader_id")?;
    let epoch = r.i32("leader_epoch")?;
    r.skip_tags("current_leader_tags")?;
    Ok((id >= 0).then_some((BrokerId(id), epoch)))
}

fn endpoints(into: &mut Vec<NodeEndpoint>, r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let count = r.array("node_endpoints", ENDPOINT_BYTES_MIN)?;
    // A tag that comes twice replaces itself, as it does in Kafka's own decoder.
    into.clear();
    into.reserve(count);
    for _ in 0..count {
        let id = BrokerId(r.i32("node_id")?);
        let host = r.string("host")?.to_owned();
        let port = r.port("port")?;
        r.nullable_string("rack")?;
        r.skip_tags("node_endpoint_tags")?;
        into.push(NodeEndpoint { id, host, port });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_counts_records_that_are_elsewhere() {
        let mut out = vec![0xee; 3];
        let mut encoder = ProduceEncoder::begin(&mut out, 9, 7, "me", None, -1, 1500, 1);
        encoder.topic("t", TopicId::ZERO, 2);
        let first = encoder.partition(PartitionId(4), 1000);
        encoder.end_partition();
        let second = encoder.partition(PartitionId(5), 1);
        encoder.end_partition();
        encoder.end_topic();
        let length = encoder.finish();
        assert_eq!(length, out.len() - 3 + 1001);
        assert_eq!(out[3..7], (length as i32 - 4).to_be_bytes());
        assert_eq!(out[first - 6..first], [0, 0, 0, 4, 0xe9, 0x07], "index, then 1001 as a varint");
        assert_eq!(out[first..second], [0, 0, 0, 0, 5, 2], "tags, index, 2 as a varint");
        assert_eq!(out[second..], [0, 0, 0], "tags of the partition, the topic and the request");
    }

    #[test]
    #[should_panic(expected = "the request lacks topics")]
    fn a_missing_topic_is_a_programmer_error() {
        ProduceEncoder::begin(&mut Vec::new(), 3, 0, "", None, 1, 0, 1).finish();
    }

    #[test]
    #[should_panic(expected = "no more partitions than announced")]
    fn a_partition_too_many_is_a_programmer_error() {
        let mut out = Vec::new();
        let mut encoder = ProduceEncoder::begin(&mut out, 3, 0, "", None, 1, 0, 1);
        encoder.topic("t", TopicId::ZERO, 0);
        encoder.partition(PartitionId(0), 1);
    }

    /// A v3 body of one topic of `count` partitions that succeeded.
    fn body_v3(name: &str, count: i32) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out, false);
        w.length(1);
        w.string(name);
        w.length(count as usize);
        for index in 0..count {
            w.i32(index);
            w.i16(0);
            w.i64(100 + i64::from(index));
            w.i64(-1);
        }
        w.i32(9);
        out
    }

    #[test]
    fn a_response_is_reused_without_traces_or_new_memory() {
        let mut response = ProduceResponse::new();
        response.decode_into(3, &body_v3("long-topic-name", 40)).expect("valid");
        assert_eq!(response.len(), 40);
        let memory = (response.partitions.as_ptr(), response.names.as_ptr());
        response.decode_into(3, &body_v3("t", 2)).expect("valid");
        assert_eq!(memory, (response.partitions.as_ptr(), response.names.as_ptr()));
        let seen: Vec<_> =
            response.iter().map(|(t, p)| (t, p.partition.0, p.base_offset)).collect();
        assert_eq!(seen, [(TopicRef::Name("t"), 0, 100), (TopicRef::Name("t"), 1, 101)]);
        assert_eq!(response.throttle_time_ms, 9);
        assert!(response.decode_into(3, &[1]).is_err());
        assert!(response.is_empty());
        assert_eq!(response.throttle_time_ms, 0);
    }

    #[test]
    fn the_memory_of_a_giant_response_is_given_back() {
        let mut response = ProduceResponse::new();
        response.decode_into(3, &body_v3("t", 3 * PARTITIONS_KEPT as i32)).expect("valid");
        response.decode_into(3, &body_v3("t", 1)).expect("valid");
        assert!(response.partitions.capacity() <= PARTITIONS_KEPT);
    }

    #[test]
    fn hostile_counts_are_refused_at_every_level() {
        let mut response = ProduceResponse::new();
        let topic = [0, 0, 0, 1, 0, 1, b't'];
        let partition = [&topic[..], &[0, 0, 0, 1], &[0; 30]].concat();
        for count in [i32::MAX, i32::MIN, -1, 1000] {
            let count = count.to_be_bytes();
            for prefix in [&[][..], &topic, &partition] {
                let body = [prefix, &count, &[0; 40]].concat();
                assert!(response.decode_into(8, &body).is_err(), "{body:?}");
            }
        }
    }

    #[test]
    fn a_hostile_endpoint_count_in_a_tag_is_refused() {
        // No topics, throttle 0, one tag: 0, of 5 bytes, an array of 2^32 - 2.
        let body = [1, 0, 0, 0, 0, 1, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f];
        let mut response = ProduceResponse::new();
        assert!(response.decode_into(10, &body).is_err());
        response.decode_into(9, &body).expect("v9 does not know the tag and passes over it");
    }
}
