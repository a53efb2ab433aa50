//! Reading a batch that a broker, or a test, wrote.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::Length;
use super::checksum::records_crc;
use super::header::*;
#[cfg(feature = "internals")]
use super::record::Records;
use super::record::{BadRecord, RECORD_LEN_MIN};
use crate::engine::protocol::ProducerIdentity;
use crate::engine::protocol::compression::{Codec, DecompressError, decompress};

/// Why bytes are not a batch of format v2. All of these are the sender's fault, or the wire's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch is cut off: {available} bytes of {needed}")]
    Truncated {
        /// The bytes that the batch, or its header, takes.
        needed: usize,
        /// The bytes that are there.
        available: usize,
    },
    /// Another format's magic byte; 0 and 1 are message sets.
    #[error("magic {0} is not that of a v2 batch")]
    Magic(u8),
    /// A batch length that does not even hold the header.
    #[error("batch length {0} is impossible")]
    Length(i32),
    /// A count that is negative, or larger than the bytes could hold.
    #[error("record count {0} is impossible")]
    Count(i32),
    /// The bytes are not those that were written.
    #[error("CRC-32C is {computed:08x}, the batch says {named:08x}")]
    Crc {
        /// The checksum of the bytes that are there.
        computed: u32,
        /// The checksum in the batch's header.
        named: u32,
    },
    /// A codec number that Kafka does not define.
    #[error("unknown compression codec {0}")]
    UnknownCodec(u8),
    /// The records could not be decompressed.
    #[error("records cannot be decompressed: {0}")]
    Decompress(#[from] DecompressError),
    /// The bytes of a message of before Kafka 0.11 are not those that were written.
    #[error("the message's CRC-32 is {computed:08x}, it says {named:08x}")]
    MessageCrc {
        /// The checksum of the bytes that are there.
        computed: u32,
        /// The checksum in the message.
        named: u32,
    },
    /// A message of before Kafka 0.11, or a set of them, is not as the protocol has it.
    #[error("a message of before Kafka 0.11: {0}")]
    Message(&'static str),
    /// A record's inside is not what its lengths say.
    #[error(transparent)]
    Record(#[from] BadRecord),
}

/// One batch, its CRC checked and its records decompressed.
#[derive(Clone)]
pub struct RecordBatchReader<'a> {
    header: BatchHeader,
    records: Cow<'a, [u8]>,
}

impl<'a> RecordBatchReader<'a> {
    /// Reads the batch at the front of `bytes` and returns it with what follows it.
    ///
    /// Its records may take at most `decompressed_max` bytes once decompressed.
    ///
    /// # Errors
    ///
    /// Any [`BatchError`] but `Record`, which [`records`](Self::records) yields.
    pub fn read(
        bytes: &'a [u8],
        decompressed_max: usize,
    ) -> Result<(RecordBatchReader<'a>, &'a [u8]), BatchError> {
        let front = bytes
            .first_chunk::<BATCH_HEADER_LEN>()
            .ok_or(BatchError::Truncated { needed: BATCH_HEADER_LEN, available: bytes.len() })?;
        let (header, named) = BatchHeader::read(front)?;
        let needed = BATCH_HEADER_LEN + header.records_len;
        let (batch, rest) = bytes
            .split_at_checked(needed)
            .ok_or(BatchError::Truncated { needed, available: bytes.len() })?;
        let computed = records_crc([&batch[CRC_START..]]);
        if computed != named {
            return Err(BatchError::Crc { computed, named });
        }
        let payload = &batch[BATCH_HEADER_LEN..];
        let records = match header.codec {
            Codec::None => Cow::Borrowed(payload),
            codec => Cow::Owned(decompress(codec, payload, decompressed_max)?),
        };
        if header.record_count as usize > records.len() / RECORD_LEN_MIN {
            return Err(BatchError::Count(header.record_count as i32));
        }
        Ok((RecordBatchReader { header, records }, rest))
    }

    /// Its header, and its records, which are those bytes that it was read from unless they were
    /// compressed.
    pub fn into_parts(self) -> (BatchHeader, Cow<'a, [u8]>) {
        (self.header, self.records)
    }

    /// What the batch's header says.
    #[cfg(feature = "internals")]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch's records, in order. Ends after the first error.
    #[cfg(feature = "internals")]
    pub fn records(&self) -> Records<'_> {
        Records::of_plain(&self.header, &self.records)
    }
}

// What users wrote is shown as lengths.
impl fmt::Debug for RecordBatchReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = Length(Some(&self.records));
        f.debug_struct("RecordBatchReader")
            .field("header", &self.header)
            .field("records", &records)
            .finish()
    }
}

impl BatchHeader {
    /// Reads a header and the CRC it names. Checks the magic, the codec and the lengths' signs;
    /// not the CRC, nor whether the records are there.
    pub fn read(bytes: &[u8; BATCH_HEADER_LEN]) -> Result<(BatchHeader, u32), BatchError> {
        let mut fields = FieldReader { bytes, at: 0 };
        let base_offset = i64::from_be_bytes(fields.take());
        let batch_len = i32::from_be_bytes(fields.take());
        let partition_leader_epoch = i32::from_be_bytes(fields.take());
        let [magic] = fields.take();
        if magic != MAGIC {
            return Err(BatchError::Magic(magic));
        }
        let records_len = usize::try_from(batch_len)
            .ok()
            .and_then(|len| len.checked_sub(BATCH_HEADER_LEN - LOG_OVERHEAD))
            .ok_or(BatchError::Length(batch_len))?;
        let crc = u32::from_be_bytes(fields.take());
        let attributes = i16::from_be_bytes(fields.take());
        let codec = Codec::from_attributes(attributes)
            .ok_or(BatchError::UnknownCodec((attributes & 7) as u8))?;
        let log_append = attributes & TIMESTAMP_TYPE_BIT != 0;
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch,
            codec,
            timestamp_type: match log_append {
                true => TimestampType::LogAppendTime,
                false => TimestampType::CreateTime,
            },
            transactional: attributes & TRANSACTIONAL_BIT != 0,
            control: attributes & CONTROL_BIT != 0,
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp: i64::from_be_bytes(fields.take()),
            max_timestamp: i64::from_be_bytes(fields.take()),
            producer: ProducerIdentity {
                id: i64::from_be_bytes(fields.take()),
                epoch: i16::from_be_bytes(fields.take()),
            },
            base_sequence: i32::from_be_bytes(fields.take()),
            record_count: record_count(i32::from_be_bytes(fields.take()))?,
            records_len,
        };
        Ok((header, crc))
    }
}

fn record_count(count: i32) -> Result<u32, BatchError> {
    u32::try_from(count).map_err(|_| BatchError::Count(count))
}

struct FieldReader<'a> {
    bytes: &'a [u8; BATCH_HEADER_LEN],
    at: usize,
}

impl FieldReader<'_> {
    /// The fields' lengths sum to the header's, so this stays inside.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        field
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Header, RecordParts, RecordSize, encode_contiguous};
    use super::*;

    const UNLIMITED: usize = 1 << 20;

    /// A batch around `records`, with a true CRC whatever they are.
    fn batch(records: &[u8], record_count: u32) -> Vec<u8> {
        let header = BatchHeader {
            record_count,
            last_offset_delta: record_count as i32 - 1,
            records_len: records.len(),
            ..BatchHeader::default()
        };
        let mut front = [0; BATCH_HEADER_LEN];
        header.write(&mut front, records_crc([records]));
        [&front[..], records].concat()
    }

    fn encoded(parts: &RecordParts<'_>) -> Vec<u8> {
        let size = RecordSize::of(0, 0, parts).expect("small");
        let mut out = vec![0; size.total];
        encode_contiguous(&mut out, size, 0, 0, parts);
        out
    }

    fn first_error(bytes: &[u8]) -> Option<BatchError> {
        match RecordBatchReader::read(bytes, UNLIMITED) {
            Ok((reader, _)) => reader.records().find_map(Result::err).map(Into::into),
            Err(error) => Some(error),
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let headers = [Header { key: "a", value: Some(b"1") }, Header { key: "a", value: None }];
        let parts = RecordParts { key: Some(b"k"), value: Some(b"value"), headers: &headers };
        let whole = batch(&encoded(&parts), 1);
        assert_eq!(first_error(&whole), None);
        for cut in 0..whole.len() {
            let error = first_error(&whole[..cut]);
            assert!(matches!(error, Some(BatchError::Truncated { .. })), "{cut}: {error:?}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // Base offset and leader epoch are the broker's to set, and outside of the CRC.
            let outside = bit / 8 < 8 || (12..16).contains(&(bit / 8));
            assert_eq!(first_error(&flipped).is_none(), outside, "bit {bit}");
        }
    }

    #[test]
    fn bytes_behind_the_batch_are_handed_back() {
        let record = encoded(&RecordParts::default());
        let two = [batch(&record, 1), batch(&record.repeat(2), 2)].concat();
        let (first, rest) = RecordBatchReader::read(&two, UNLIMITED).expect("whole");
        assert_eq!(first.records().count(), 1);
        let (second, rest) = RecordBatchReader::read(rest, UNLIMITED).expect("whole");
        assert_eq!(second.records().count(), 2);
        assert!(rest.is_empty());
    }

    #[test]
    fn damaged_records_under_a_true_crc_end_in_an_error_never_in_a_panic() {
        let headers = [Header { key: "key", value: Some(b"1") }];
        let parts = RecordParts { key: Some(b"k"), value: Some(b"value"), headers: &headers };
        let record = encoded(&parts);
        for cut in 0..record.len() {
            assert!(first_error(&batch(&record[..cut], 1)).is_some(), "cut at {cut}");
        }
        for at in 0..record.len() {
            for byte in 0..=255 {
                let mut damaged = record.clone();
                damaged[at] = byte;
                if let Ok((reader, _)) = RecordBatchReader::read(&batch(&damaged, 1), UNLIMITED) {
                    for record in reader.records().flatten() {
                        assert_eq!(record.headers.len(), record.headers.clone().count());
                    }
                }
            }
        }
    }

    #[test]
    fn counts_that_the_bytes_cannot_hold_are_refused() {
        let record = encoded(&RecordParts::default());
        assert_eq!(first_error(&batch(&record, 0)), Some(behind_last(0)));
        assert_eq!(first_error(&batch(&record, 2)), Some(BatchError::Count(2)));
        assert_eq!(first_error(&batch(&record.repeat(2), 1)), Some(behind_last(1)));
        let huge = batch(&record, i32::MAX as u32);
        assert_eq!(first_error(&huge), Some(BatchError::Count(i32::MAX)));
        let mut negative = huge;
        negative[57..61].copy_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(first_error(&negative), Some(BatchError::Count(-1)));
        // One record that says it has 2^30 headers.
        let many = [22, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x08, 0];
        assert!(matches!(first_error(&batch(&many, 1)), Some(BatchError::Record(_))));
    }

    fn behind_last(index: u32) -> BatchError {
        BadRecord { index, reason: "bytes follow the last record" }.into()
    }

    #[test]
    fn lengths_and_magic_are_checked_before_anything_else() {
        let mut bytes = batch(&[], 0);
        bytes[16] = 1;
        assert_eq!(first_error(&bytes), Some(BatchError::Magic(1)));
        bytes[16] = 2;
        for length in [-1i32, 0, 48] {
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            assert_eq!(first_error(&bytes), Some(BatchError::Length(length)));
        }
        bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
        bytes[22] = 5;
        assert_eq!(first_error(&bytes), Some(BatchError::UnknownCodec(5)));
    }

    #[test]
    fn log_append_time_is_every_records_time() {
        let record = encoded(&RecordParts::default());
        let header = BatchHeader {
            timestamp_type: TimestampType::LogAppendTime,
            base_timestamp: 5,
            max_timestamp: 9,
            record_count: 1,
            last_offset_delta: 0,
            records_len: record.len(),
            ..BatchHeader::default()
        };
        let mut front = [0; BATCH_HEADER_LEN];
        header.write(&mut front, records_crc([record.as_slice()]));
        let bytes = [&front[..], &record].concat();
        let (reader, _) = RecordBatchReader::read(&bytes, 0).expect("whole");
        let first = reader.records().next().expect("one").expect("well-formed");
        assert_eq!(first.timestamp, 9);
    }
}
