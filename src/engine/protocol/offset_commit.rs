//! OffsetCommit v2–9: keeps offsets for a group, of which the client is no member.

use super::api::ApiKey;
use super::by_topic::read_by_topic;
use super::primitives::{DecodeError, Reader, Writer};
use super::{ErrorCode, PartitionId};

/// The least that a partition takes: index and error.
const PARTITION_BYTES_MIN: usize = 4 + 2;

/// Who is no member has no generation.
const NO_GENERATION: i32 = -1;
/// The broker's own `offsets.retention.minutes` counts.
const DEFAULT_RETENTION: i64 = -1;
/// The epoch of the record before is not known.
const NO_EPOCH: i32 = -1;

/// Keeps offsets.
#[derive(Clone, Copy, Debug)]
pub struct OffsetCommitRequest<'a> {
    /// The group's name.
    pub group: &'a str,
    /// The topics, by name, with partitions and the offset that each is read from next.
    pub topics: &'a [(&'a str, Vec<(PartitionId, i64)>)],
}

impl OffsetCommitRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::OffsetCommit.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::OffsetCommit.is_flexible(version));
        w.string(self.group);
        w.i32(NO_GENERATION);
        w.string(""); // member_id
        if version >= 7 {
            w.nullable_string(None); // group_instance_id
        }
        if version <= 4 {
            w.i64(DEFAULT_RETENTION);
        }
        w.length(self.topics.len());
        for (name, partitions) in self.topics {
            w.string(name);
            w.length(partitions.len());
            for (partition, offset) in partitions {
                w.i32(partition.0);
                w.i64(*offset);
                if version >= 6 {
                    w.i32(NO_EPOCH);
                }
                w.nullable_string(Some("")); // metadata
                w.no_tags();
            }
            w.no_tags();
        }
        w.no_tags();
    }
}

/// What became of the offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetCommitResponse {
    /// How long the broker throttles this client, in milliseconds; 0 below v3.
    pub throttle_time_ms: i32,
    /// Each topic, by name, with its partitions, and why an offset was not kept, or NONE.
    pub topics: Vec<(String, Vec<(PartitionId, ErrorCode)>)>,
}

impl OffsetCommitResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::OffsetCommit.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::OffsetCommit.is_flexible(version));
        let throttle_time_ms = if version >= 3 { r.i32("throttle_time_ms")? } else { 0 };
        let topics = read_by_topic(&mut r, PARTITION_BYTES_MIN, |r| {
            let partition = PartitionId(r.i32("partition_index")?);
            let error = ErrorCode(r.i16("error_code")?);
            r.skip_tags("partition_tags")?;
            Ok((partition, error))
        })?;
        r.skip_tags("tags")?;
        r.finish("offset_commit_response")?;
        Ok(OffsetCommitResponse { throttle_time_ms, topics })
    }
}
