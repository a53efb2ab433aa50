//! A batch as a message set, for brokers before Kafka 0.11.
//!
//! Its memory stays as it is: the set is made while it is written.

use super::Batch;
use crate::engine::protocol::compression::{Chunks, Codec};
use crate::engine::protocol::records::{
    MESSAGE_OVERHEAD_MAX, MESSAGE_SET_GROWTH_MAX, MessageSetChunks, MessageSetCursor,
    MessageSetSurvey, MessageSource, RECORD_GROWTH_MAX, RecordFormat,
};

impl Batch {
    /// Whether its bytes can be sent in this format. Plain ones can in each.
    pub fn is_packed_for(&self, format: RecordFormat) -> bool {
        self.codec == Codec::None || self.packed_as == format
    }

    /// What the set will be. The batch must be packed for the format.
    pub fn survey(&self, format: RecordFormat) -> MessageSetSurvey {
        self.source().survey(format)
    }

    /// By how many bytes at most its set is longer than the batch, before it is compressed for it.
    pub(super) fn message_set_growth(&self) -> usize {
        self.records_left() as usize * RECORD_GROWTH_MAX + MESSAGE_OVERHEAD_MAX
    }

    /// Appends what comes next of its set to `out`, up to `room` bytes. Returns whether the set is
    /// at its end.
    pub fn write_message_set(
        &self,
        format: RecordFormat,
        cursor: &mut MessageSetCursor,
        out: &mut Vec<u8>,
        room: usize,
    ) -> bool {
        cursor.write(&self.source(), format, out, room)
    }

    /// Its plain set, to be compressed.
    pub fn message_set_chunks(&self, format: RecordFormat) -> impl Chunks<'_> {
        MessageSetChunks::new(self.source(), format)
    }

    /// The most bytes that its records come to once unpacked, where they are to fit into `room`.
    pub(super) fn set_len_max(&self, room: usize) -> usize {
        if self.packed_as.is_message_set() && self.codec != Codec::None {
            room * MESSAGE_SET_GROWTH_MAX
        } else {
            room
        }
    }

    fn source(&self) -> MessageSource<impl Iterator<Item = &[u8]> + Clone> {
        MessageSource {
            slices: self.record_slices(),
            records: self.records,
            codec: self.codec.id(),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
        }
    }
}
