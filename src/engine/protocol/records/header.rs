//! The 61 bytes in front of a batch's records.

use super::checksum::{combine_crc, records_crc};
use crate::engine::protocol::ProducerIdentity;
use crate::engine::protocol::compression::Codec;

/// The bytes of a batch's header.
pub const BATCH_HEADER_LEN: usize = 61;

/// The bytes of base offset and batch length, which the batch length does not count.
pub(super) const LOG_OVERHEAD: usize = 12;
/// Where the bytes begin that the CRC covers: with the attributes, to the end of the batch.
pub(super) const CRC_START: usize = 21;

pub(super) const MAGIC: u8 = 2;

pub(super) const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;

/// Who set a batch's timestamps (KIP-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer.
    #[default]
    CreateTime,
    /// The broker: every record's time is the batch's maximum.
    LogAppendTime,
}

/// What the header of a batch says, apart from lengths and checksum.
///
/// The default is an empty batch of a producer without identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record; 0 in what a producer sends.
    pub base_offset: i64,
    /// The leader's epoch when it appended the batch; -1 in what a producer sends.
    pub partition_leader_epoch: i32,
    /// How the records are compressed.
    pub codec: Codec,
    /// Who set the timestamps.
    pub timestamp_type: TimestampType,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the records are the broker's own marks, no user's.
    pub control: bool,
    /// The last record's offset less the base offset: one less than the count in what a producer
    /// sends, more after compaction.
    pub last_offset_delta: i32,
    /// The first record's timestamp, in ms since 1970.
    pub base_timestamp: i64,
    /// The largest timestamp of any record, in ms since 1970.
    pub max_timestamp: i64,
    /// Under which identity the broker checks the sequence.
    pub producer: ProducerIdentity,
    /// The first record's sequence; -1 in a batch without identity.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: u32,
    /// The bytes that follow the header: records, compressed if a codec is named.
    pub records_len: usize,
}

impl Default for BatchHeader {
    fn default() -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            partition_leader_epoch: -1,
            codec: Codec::None,
            timestamp_type: TimestampType::CreateTime,
            transactional: false,
            control: false,
            last_offset_delta: -1,
            base_timestamp: -1,
            max_timestamp: -1,
            producer: ProducerIdentity::NONE,
            base_sequence: -1,
            record_count: 0,
            records_len: 0,
        }
    }
}

impl BatchHeader {
    /// Writes the header in front of records whose CRC-32C, over all their `records_len` bytes, is
    /// `records_crc`. Called again with another identity or sequence, it makes the same batch
    /// theirs without a look at its records.
    ///
    /// # Panics
    ///
    /// If the batch is longer, or has more records, than Kafka's 32-bit numbers can say.
    pub fn write(&self, out: &mut [u8; BATCH_HEADER_LEN], records_crc: u32) {
        let batch_len = i32::try_from(self.records_len + BATCH_HEADER_LEN - LOG_OVERHEAD)
            .expect("a batch is limited to far less than 2 GiB");
        let record_count =
            i32::try_from(self.record_count).expect("a batch has fewer records than bytes");
        let mut fields = FieldWriter { out, at: 0 };
        fields.put(self.base_offset.to_be_bytes());
        fields.put(batch_len.to_be_bytes());
        fields.put(self.partition_leader_epoch.to_be_bytes());
        fields.put([MAGIC]);
        fields.put([0; 4]);
        fields.put(self.attributes().to_be_bytes());
        fields.put(self.last_offset_delta.to_be_bytes());
        fields.put(self.base_timestamp.to_be_bytes());
        fields.put(self.max_timestamp.to_be_bytes());
        fields.put(self.producer.id.to_be_bytes());
        fields.put(self.producer.epoch.to_be_bytes());
        fields.put(self.base_sequence.to_be_bytes());
        fields.put(record_count.to_be_bytes());
        debug_assert_eq!(fields.at, BATCH_HEADER_LEN);
        let own_crc = self::records_crc([&out[CRC_START..]]);
        let crc = combine_crc(own_crc, records_crc, self.records_len as u32);
        out[CRC_START - 4..CRC_START].copy_from_slice(&crc.to_be_bytes());
    }

    fn attributes(&self) -> i16 {
        let mut attributes = i16::from(self.codec.id());
        if self.timestamp_type == TimestampType::LogAppendTime {
            attributes |= TIMESTAMP_TYPE_BIT;
        }
        if self.transactional {
            attributes |= TRANSACTIONAL_BIT;
        }
        if self.control {
            attributes |= CONTROL_BIT;
        }
        attributes
    }
}

struct FieldWriter<'a> {
    out: &'a mut [u8; BATCH_HEADER_LEN],
    at: usize,
}

impl FieldWriter<'_> {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        self.out[self.at..self.at + N].copy_from_slice(&field);
        self.at += N;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_identity_gives_the_crc_of_all_the_bytes() {
        let records = vec![0x5a; 3000];
        let crc_of_records = records_crc([records.as_slice()]);
        let mut header = BatchHeader {
            base_timestamp: 1_700_000_000_000,
            record_count: 3,
            last_offset_delta: 2,
            records_len: records.len(),
            ..BatchHeader::default()
        };
        let mut batch = vec![0; BATCH_HEADER_LEN];
        batch.extend_from_slice(&records);
        for (id, epoch, base_sequence) in [(-1, -1, -1), (7, 0, 0), (7, 1, i32::MAX)] {
            header.producer = ProducerIdentity { id, epoch };
            header.base_sequence = base_sequence;
            let front = batch.first_chunk_mut().expect("longer than a header");
            header.write(front, crc_of_records);
            let named = u32::from_be_bytes([batch[17], batch[18], batch[19], batch[20]]);
            assert_eq!(named, records_crc([&batch[CRC_START..]]));
            let front = batch.first_chunk().expect("longer than a header");
            assert_eq!(BatchHeader::read(front).expect("just written"), (header, named));
        }
    }

    #[test]
    fn attributes_are_kafkas_bits() {
        let header = BatchHeader {
            codec: Codec::Zstd,
            timestamp_type: TimestampType::LogAppendTime,
            transactional: true,
            ..BatchHeader::default()
        };
        assert_eq!(header.attributes(), 0b01_1100);
        assert_eq!(BatchHeader { control: true, ..header }.attributes(), 0b11_1100);
    }
}
