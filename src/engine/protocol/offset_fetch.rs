//! OffsetFetch v1–7: the offsets that are kept for a group.

use super::api::ApiKey;
use super::by_topic::read_by_topic;
use super::primitives::{DecodeError, Reader, Writer};
use super::{ErrorCode, PartitionId};

/// The least that a partition takes: index, offset, metadata, error.
const PARTITION_BYTES_MIN: usize = 4 + 8 + 1 + 2;

/// Asks for offsets.
#[derive(Clone, Copy, Debug)]
pub struct OffsetFetchRequest<'a> {
    /// The group's name.
    pub group: &'a str,
    /// The topics, by name, with their partitions.
    pub topics: &'a [(&'a str, Vec<PartitionId>)],
}

impl OffsetFetchRequest<'_> {
    /// Appends the body. Panics if this codec does not speak the version.
    pub fn encode(&self, version: i16, out: &mut Vec<u8>) {
        assert!(ApiKey::OffsetFetch.versions().contains(version));
        let mut w = Writer::new(out, ApiKey::OffsetFetch.is_flexible(version));
        w.string(self.group);
        w.length(self.topics.len());
        for (name, partitions) in self.topics {
            w.string(name);
            w.length(partitions.len());
            for partition in partitions {
                w.i32(partition.0);
            }
            w.no_tags();
        }
        if version >= 7 {
            // An offset that a transaction has not committed yet is waited for (KIP-447).
            w.bool(true);
        }
        w.no_tags();
    }
}

/// The offsets that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetFetchResponse {
    /// How long the broker throttles this client, in milliseconds; 0 below v3.
    pub throttle_time_ms: i32,
    /// Why there is no answer at all, or NONE, as always below v2.
    pub error: ErrorCode,
    /// Each topic, by name, with its partitions.
    pub topics: Vec<(String, Vec<KeptOffset>)>,
}

/// The answer about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptOffset {
    /// Its index.
    pub partition: PartitionId,
    /// Why there is no answer, or NONE.
    pub error: ErrorCode,
    /// The offset that is read next, -1 where none is kept.
    pub offset: i64,
    /// The epoch of the leader that wrote the record before, -1 where it is not told.
    pub leader_epoch: i32,
}

impl OffsetFetchResponse {
    /// Reads a body. Panics if this codec does not speak the version.
    pub fn decode(version: i16, body: &[u8]) -> Result<Self, DecodeError> {
        assert!(ApiKey::OffsetFetch.versions().contains(version));
        let mut r = Reader::new(body, ApiKey::OffsetFetch.is_flexible(version));
        let throttle_time_ms = if version >= 3 { r.i32("throttle_time_ms")? } else { 0 };
        let topics = read_by_topic(&mut r, PARTITION_BYTES_MIN, |r| {
            let partition = PartitionId(r.i32("partition_index")?);
            let offset = r.i64("committed_offset")?;
            let leader_epoch = if version >= 5 { r.i32("committed_leader_epoch")? } else { -1 };
            r.nullable_string("metadata")?;
            let error = ErrorCode(r.i16("error_code")?);
            r.skip_tags("partition_tags")?;
            Ok(KeptOffset { partition, error, offset, leader_epoch })
        })?;
        let error = if version >= 2 { ErrorCode(r.i16("error_code")?) } else { ErrorCode::NONE };
        r.skip_tags("tags")?;
        r.finish("offset_fetch_response")?;
        Ok(OffsetFetchResponse { throttle_time_ms, error, topics })
    }
}
