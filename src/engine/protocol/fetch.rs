//! Fetch v0–12: record batches of partitions, from offsets on, and below v4 messages of before
//! Kafka 0.11. Topics are named by name, which v13 no longer does. There are no fetch sessions
//! (KIP-227): each request names all its partitions.

use bytes::Bytes;

use super::api::ApiKey;
use super::primitives::{DecodeError, Reader, Writer};
use super::{BrokerId, ErrorCode, PartitionId};

// The least bytes of an element in any version, for the check of counts.
/// Flexible: empty name, partition count, tag count.
const TOPIC_BYTES_MIN: usize = 1 + 1 + 1;
/// Classic v0: index, error, an offset, no records.
const PARTITION_BYTES_MIN: usize = 4 + 2 + 8 + 4;
/// Producer id and first offset.
const ABORTED_BYTES_MIN: usize = 8 + 8;

/// The first version that bounds a whole response. Below it each partition's records do, and a
/// first message that is longer comes cut off (KIP-74).
pub const FETCH_VERSION_BOUNDED_MIN: i16 = 3;

/// Consumers are no replica.
const NO_REPLICA: i32 = -1;

/// Asks for records.
#[derive(Clone, Copy, Debug)]
pub struct FetchRequest<'a> {
    /// How long the broker may wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// It answers once it has so many bytes.
    pub min_bytes: i32,
    /// Bytes of records in the response, about: a first batch that is larger comes all the same.
    /// From [`FETCH_VERSION_BOUNDED_MIN`] on.
    pub max_bytes: i32,
    /// Records of open and of aborted transactions are not wanted. The broker answers with what is
    /// before the first open one, and says which were aborted. From v4 on: brokers of before have
    /// no transactions. (One that is only taken for an old broker may have some, so `fetch_loop`
    /// does not ask it at all where this is set.)
    pub read_committed: bool,
    /// Topics and partitions. The response follows their order, and the first get what there is
    /// room for.
    pub topics: &'a [FetchTopic<'a>],
}

/// A topic of a [`FetchRequest`].
#[derive(Clone, Debug)]
pub struct FetchTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its partitions.
    pub partitions: Vec<FetchPartition>,
}

/// A partition of a [`FetchRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its index.
    pub partition: PartitionId,
    /// The leader's epoch as the client knows it, -1 for none (KIP-320, from v9 on).
    pub leader_epoch: i32,
    /// The offset to read from.
    pub offset: i64,
    /// The leader's epoch of the record before that offset, -1 for not known (from v12 on).
    pub last_epoch: i32,
    /// Bytes of its records, about.
    pub max_bytes: i32,
}

impl FetchRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::Fetch.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::Fetch.is_flexible(version));
        w.i32(NO_REPLICA);
        w.i32(self.max_wait_ms);
        w.i32(self.min_bytes);
        if version >= FETCH_VERSION_BOUNDED_MIN {
            w.i32(self.max_bytes);
        }
        if version >= 4 {
            w.i8(i8::from(self.read_committed));
        }
        if version >= 7 {
            w.i32(0); // session_id
            w.i32(-1); // session_epoch: no session is wanted
        }
        w.length(self.topics.len());
        for topic in self.topics {
            w.string(topic.name);
            w.length(topic.partitions.len());
            for partition in &topic.partitions {
                w.i32(partition.partition.0);
                if version >= 9 {
                    w.i32(partition.leader_epoch);
                }
                w.i64(partition.offset);
                if version >= 12 {
                    w.i32(partition.last_epoch);
                }
                if version >= 5 {
                    w.i64(-1); // log_start_offset, which a replica tells
                }
                w.i32(partition.max_bytes);
                w.no_tags();
            }
            w.no_tags();
        }
        if version >= 7 {
            w.length(0); // forgotten_topics_data
        }
        if version >= 11 {
            w.string(""); // rack_id
        }
        w.no_tags();
    }
}

/// What a broker has of what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// How long the broker throttles this client, in milliseconds; 0 in v0.
    pub throttle_time_ms: i32,
    /// An error of the whole request (from v7 on), or NONE.
    pub error: ErrorCode,
    /// Each topic, by name, with its partitions.
    pub topics: Vec<(String, Vec<FetchedPartition>)>,
}

/// What a broker has of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Its index.
    pub partition: PartitionId,
    /// Why it is not read, or NONE.
    pub error: ErrorCode,
    /// The offset that the next record gets which all replicas in sync have.
    pub high_watermark: i64,
    /// The offset of the first record of a transaction that is still open; else as above. -1 where
    /// it is not told (below v4).
    pub last_stable_offset: i64,
    /// The first offset that is still in the log; -1 where it is not told (below v5).
    pub log_start_offset: i64,
    /// Aborted transactions within the records; empty where everything was asked for.
    pub aborted: Vec<AbortedTransaction>,
    /// Where the log of the leader ends that the client has read beyond (v12): the last epoch that
    /// both know, and the offset after its last record.
    pub diverging: Option<(i32, i64)>,
    /// Where the leader is (v12), if it is another.
    pub current_leader: Option<(BrokerId, i32)>,
    /// Record batches, or messages of before Kafka 0.11, the last of them perhaps cut off.
    pub records: Bytes,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

impl FetchResponse {
    /// Reads a body; the records are copied. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::Fetch.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        let mut response = FetchResponse::default();
        if version >= 1 {
            response.throttle_time_ms = r.i32("throttle_time_ms")?;
        }
        if version >= 7 {
            response.error = ErrorCode(r.i16("error_code")?);
            r.i32("session_id")?;
        }
        for _ in 0..r.array("responses", TOPIC_BYTES_MIN)? {
            let name = r.string("topic")?.to_owned();
            let count = r.array("partitions", PARTITION_BYTES_MIN)?;
            let mut partitions = Vec::with_capacity(count);
            for _ in 0..count {
                partitions.push(partition(version, &mut r)?);
            }
            r.skip_tags("topic_tags")?;
            response.topics.push((name, partitions));
        }
        r.skip_tags("tags")?;
        r.finish("fetch_response")?;
        Ok(response)
    }
}

fn partition(version: i16, r: &mut Reader<'_>) -> Result<FetchedPartition, DecodeError> {
    let mut fetched = FetchedPartition {
        partition: PartitionId(r.i32("partition_index")?),
        error: ErrorCode(r.i16("error_code")?),
        high_watermark: r.i64("high_watermark")?,
        last_stable_offset: -1,
        log_start_offset: -1,
        ..FetchedPartition::default()
    };
    if version >= 4 {
        fetched.last_stable_offset = r.i64("last_stable_offset")?;
    }
    if version >= 5 {
        fetched.log_start_offset = r.i64("log_start_offset")?;
    }
    let aborted = match version {
        ..4 => None,
        4.. => r.nullable_array("aborted_transactions", ABORTED_BYTES_MIN)?,
    };
    for _ in 0..aborted.unwrap_or(0) {
        let producer_id = r.i64("producer_id")?;
        let first_offset = r.i64("first_offset")?;
        r.skip_tags("aborted_tags")?;
        fetched.aborted.push(AbortedTransaction { producer_id, first_offset });
    }
    if version >= 11 {
        r.i32("preferred_read_replica")?;
    }
    let records = r.nullable_bytes("records")?.unwrap_or_default();
    fetched.records = Bytes::copy_from_slice(records);
    r.visit_tags("partition_tags", |tag, r| {
        match tag {
            0 => {
                let epoch = r.i32("diverging_epoch")?;
                let end_offset = r.i64("end_offset")?;
                r.skip_tags("diverging_tags")?;
                fetched.diverging = (end_offset >= 0).then_some((epoch, end_offset));
            }
            1 => {
                let leader = BrokerId(r.i32("leader_id")?);
                let epoch = r.i32("leader_epoch")?;
                r.skip_tags("leader_tags")?;
                fetched.current_leader = (leader.0 >= 0).then_some((leader, epoch));
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(fetched)
}
