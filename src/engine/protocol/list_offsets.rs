//! ListOffsets v0–6: where a partition's log begins and ends, and what is where in it.

use super::api::ApiKey;
use super::by_topic::read_by_topic;
use super::primitives::{DecodeError, Reader, Writer};
use super::{ErrorCode, PartitionId};

/// Stands in place of a time for the offset that the next record gets.
pub const TIME_LATEST: i64 = -1;
/// Stands in place of a time for the first offset that is still there.
pub const TIME_EARLIEST: i64 = -2;

/// The least that a partition takes, in v0: index, error, no offsets.
const PARTITION_BYTES_MIN: usize = 4 + 2 + 4;

/// The first version that finds the record of a time (KIP-79). v0 knows when segments were last
/// written, no more.
pub const LIST_OFFSETS_VERSION_TIMES_MIN: i16 = 1;

/// Consumers are no replica.
const NO_REPLICA: i32 = -1;

/// Asks for offsets.
#[derive(Clone, Copy, Debug)]
pub struct ListOffsetsRequest<'a> {
    /// The latest offset is the end of what is committed: before the first open transaction (v2).
    pub read_committed: bool,
    /// The topics, by name, with their partitions.
    pub topics: &'a [(&'a str, Vec<OffsetQuestion>)],
}

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetQuestion {
    /// Its index.
    pub partition: PartitionId,
    /// The leader's epoch as the client knows it, -1 for none (from v4 on).
    pub leader_epoch: i32,
    /// The first record that is not older is looked for: milliseconds since the epoch, or
    /// [`TIME_LATEST`] or [`TIME_EARLIEST`].
    pub time: i64,
}

impl ListOffsetsRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::ListOffsets.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::ListOffsets.is_flexible(version));
        w.i32(NO_REPLICA);
        if version >= 2 {
            w.i8(i8::from(self.read_committed));
        }
        w.length(self.topics.len());
        for (name, partitions) in self.topics {
            w.string(name);
            w.length(partitions.len());
            for question in partitions {
                w.i32(question.partition.0);
                if version >= 4 {
                    w.i32(question.leader_epoch);
                }
                w.i64(question.time);
                if version < LIST_OFFSETS_VERSION_TIMES_MIN {
                    w.i32(1); // max_num_offsets
                }
                w.no_tags();
            }
            w.no_tags();
        }
        w.no_tags();
    }
}

/// The offsets that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOffsetsResponse {
    /// How long the broker throttles this client, in milliseconds; 0 below v2.
    pub throttle_time_ms: i32,
    /// Each topic, by name, with its partitions.
    pub topics: Vec<(String, Vec<FoundOffset>)>,
}

/// The answer about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// Its index.
    pub partition: PartitionId,
    /// Why there is no answer, or NONE.
    pub error: ErrorCode,
    /// The time of the record that was found, in milliseconds since the epoch, or -1.
    pub time: i64,
    /// Its offset, or -1 if no record is so new.
    pub offset: i64,
    /// The epoch of the leader that wrote it, -1 where it is not told.
    pub leader_epoch: i32,
}

impl ListOffsetsResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::ListOffsets.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::ListOffsets.is_flexible(version));
        let throttle_time_ms = if version >= 2 { r.i32("throttle_time_ms")? } else { 0 };
        let topics = read_by_topic(&mut r, PARTITION_BYTES_MIN, |r| found(version, r))?;
        r.skip_tags("tags")?;
        r.finish("list_offsets_response")?;
        Ok(ListOffsetsResponse { throttle_time_ms, topics })
    }
}

fn found(version: i16, r: &mut Reader<'_>) -> Result<FoundOffset, DecodeError> {
    let mut found = FoundOffset {
        partition: PartitionId(r.i32("partition_index")?),
        error: ErrorCode(r.i16("error_code")?),
        time: -1,
        offset: -1,
        leader_epoch: -1,
    };
    if version < LIST_OFFSETS_VERSION_TIMES_MIN {
        for place in 0..r.array("old_style_offsets", 8)? {
            let offset = r.i64("old_style_offset")?;
            if place == 0 {
                found.offset = offset;
            }
        }
        return Ok(found);
    }
    (found.time, found.offset) = (r.i64("timestamp")?, r.i64("offset")?);
    if version >= 4 {
        found.leader_epoch = r.i32("leader_epoch")?;
    }
    r.skip_tags("partition_tags")?;
    Ok(found)
}
