//! The usual case of a send, by itself and as short as it can be: the topic is known, the record is
//! a small one without headers, its broker takes records, and its partition's open batch has room.
//!
//! It appends the record as the whole way does ([`super::sending`]), or appends nothing: where one
//! of these does not hold it declines, and the record goes the whole way.

use std::sync::Arc;

use super::topic::Topic;
use crate::engine::batch::{IssuedHandle, LaneTail, TopicState};
use crate::engine::policy::{DefaultPartitioner, Moment};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::PLAIN_PAYLOAD_MAX;

impl Topic {
    /// Sends a record that names neither partition nor time. `now` is in milliseconds since the
    /// epoch. `None`: the record has to go the whole way. Only for a topic with `has_fast_path`.
    #[inline(never)]
    pub(super) fn send_fast(
        &self,
        now: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Option<IssuedHandle> {
        let len = len(key, value);
        let partitioner = self.fast_partitioner(len)?;
        if key.is_some() {
            let partition = PartitionId(partitioner.choose(key, &*self.lanes, None));
            return self.append_counted(partition, now, (key, value));
        }
        if self.lanes.state() != TopicState::Ready {
            return None;
        }
        let stay = partitioner.stay(Moment::new(now, self.lanes.stay_ms))?;
        let lane = self.lanes.lane(PartitionId(stay.partition()))?;
        if !lane.has_leader() {
            return None;
        }
        let handle = self.append_fast(lane, now, (key, value));
        if handle.is_some() {
            stay.count_appended(len, self.lanes.settings.batch_size);
        }
        handle
    }

    /// [`Topic::send_fast`], for a record that goes to this partition.
    pub(super) fn send_fast_to(
        &self,
        partition: PartitionId,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
    ) -> Option<IssuedHandle> {
        self.fast_partitioner(len(key, value))?;
        self.append_counted(partition, timestamp, (key, value))
    }

    /// The partitioner, unless the record has to go the whole way wherever it goes.
    #[inline(always)]
    fn fast_partitioner(&self, len: usize) -> Option<&DefaultPartitioner> {
        let is_usual = self.shared.born.is_current()
            && len < self.shared.fits_below
            && len <= PLAIN_PAYLOAD_MAX;
        if is_usual { self.lanes.partitioner.as_default() } else { None }
    }

    /// Appends to a partition that the key or the caller gives, and tells the partitioner. Whether
    /// it has a leader makes no difference: its records wait there for one.
    #[inline(always)]
    fn append_counted(
        &self,
        partition: PartitionId,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
    ) -> Option<IssuedHandle> {
        // The state behind the partitions, for one that has just become known: see `send_plain`.
        if !partition.is_among(self.lanes.partitions()) || self.lanes.state() != TopicState::Ready {
            return None;
        }
        let lane = self.lanes.lane(partition)?;
        let handle = self.append_fast(lane, timestamp, (key, value));
        if handle.is_some() {
            self.tell_appended(partition, len(key, value));
        }
        handle
    }

    #[inline(always)]
    fn append_fast(
        &self,
        lane: &Arc<LaneTail>,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
    ) -> Option<IssuedHandle> {
        if !self.shared.accumulator.pool.is_writable(lane.account()) {
            return None;
        }
        let mut post = false;
        let handle = lane.append_plain(timestamp, key, value, &mut post);
        if post {
            self.shared.ports.post(lane);
        }
        handle
    }
}

/// Bytes of key and value.
#[inline(always)]
fn len(key: Option<&[u8]>, value: Option<&[u8]>) -> usize {
    key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)
}
