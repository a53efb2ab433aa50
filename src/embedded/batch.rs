//! A record batch (magic 2) as it was received: its header, and whether it is what it claims to be.
//!
//! Read by hand, and apart from the client's own codec: `kafka-protocol` reserves memory for counts
//! it has not checked and merges headers that have the same key.

use bytes::Bytes;

use super::log::{Refusal, error};
use super::{decompress, records};

/// Bytes of a batch before its records.
pub(super) const HEADER_BYTES: usize = 61;
/// Bytes of a batch that its length field does not count: base offset and the length itself.
pub(super) const PREFIX_BYTES: usize = 12;
/// Where the CRC-32C starts to count: at the attributes.
pub(super) const CRC_COVERS_FROM: usize = 21;

const ATTRIBUTE_CODEC: i16 = 0x07;
const ATTRIBUTE_TRANSACTIONAL: i16 = 0x10;
const ATTRIBUTE_CONTROL: i16 = 0x20;

/// The header of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHeader {
    pub base_offset: i64,
    /// Bytes of the whole batch, prefix included.
    pub size: usize,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header from a batch's first bytes. The size is refused when negative, and
    /// otherwise not checked against anything.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<BatchHeader> {
        let length = i32::from_be_bytes(array(bytes, 8));
        Some(BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size: usize::try_from(length).ok()? + PREFIX_BYTES,
            magic: bytes[16] as i8,
            crc: u32::from_be_bytes(array(bytes, 17)),
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        })
    }

    /// The number of the compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub(super) fn codec(&self) -> i16 {
        self.attributes & ATTRIBUTE_CODEC
    }

    /// Refuses what a broker refuses by looking at the header alone. `size` is what the request
    /// gave as the length of the partition's records, `version` the request's.
    pub(super) fn validate(&self, size: usize, version: i16) -> Result<(), Refusal> {
        let invalid = |what: &'static str| Err(Refusal::new(error::INVALID_RECORD, what));
        if self.magic != 2 {
            return invalid("only record batches with magic 2 are allowed");
        }
        if self.size < HEADER_BYTES {
            return Err(Refusal::new(error::CORRUPT_MESSAGE, "the batch is shorter than a header"));
        }
        if self.size > size {
            return invalid("the batch is longer than the partition's records");
        }
        if self.size < size {
            return invalid("exactly one batch per partition is allowed");
        }
        if self.codec() == 4 && version < 7 {
            return Err(Refusal::new(
                error::UNSUPPORTED_COMPRESSION_TYPE,
                "zstd needs produce version 7",
            ));
        }
        if self.codec() > 4 {
            return invalid("an unknown compression codec");
        }
        if self.attributes & ATTRIBUTE_CONTROL != 0 {
            return invalid("clients do not write control batches");
        }
        if self.base_offset != 0 {
            return invalid("the base offset of a batch is 0");
        }
        if self.record_count < 1 || self.last_offset_delta != self.record_count - 1 {
            return invalid("record count and last offset delta do not agree");
        }
        if self.producer_id >= 0 && (self.base_sequence < 0 || self.producer_epoch < 0) {
            return invalid("a producer id without sequence or epoch");
        }
        if self.producer_id < 0 && self.attributes & ATTRIBUTE_TRANSACTIONAL != 0 {
            return invalid("a transactional batch without producer id");
        }
        Ok(())
    }
}

/// Checks the CRC of a whole batch and decodes its records once, so that nothing malformed gets
/// into a log. `bytes` is the batch whose header was read and validated.
pub(super) fn validate_contents(header: &BatchHeader, bytes: &Bytes) -> Result<(), Refusal> {
    if crc_fast::crc32_iscsi(&bytes[CRC_COVERS_FROM..]) != header.crc {
        return Err(Refusal::new(error::CORRUPT_MESSAGE, "the CRC-32C does not match"));
    }
    let payload = decompress::decompress(header.codec(), &bytes.slice(HEADER_BYTES..))
        .map_err(|what| Refusal::new(error::CORRUPT_MESSAGE, what))?;
    records::walk(header, &payload, |_| {})
        .map_err(|what| Refusal::new(error::INVALID_RECORD, what))
}

fn array<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
