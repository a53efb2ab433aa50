//! Records that were not delivered, and are to be given back: most of them still in the batch in
//! which they waited, the others copied.

use std::borrow::Cow;

use super::batch::Link;
use super::{Batch, FailedRuns, LaneTail};
use crate::engine::policy::UndeliveredRecord;
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::compression::{Codec, decompress};
use crate::engine::protocol::records::{
    BATCH_HEADER_LEN, BatchHeader, Header, RecordParts, Records, records_of_message_set,
};
use crate::error::DeliveryError;
use crate::logging as log;

/// Records to be given back. Dropping it releases their memory, which may call wakers.
pub enum Undelivered {
    /// Those of a batch, or some of them.
    Batch(UndeliveredBatch),
    /// Those that waited for their topic or their partition.
    Runs(FailedRuns),
    /// Single ones.
    Copied(Vec<CopiedRecord>),
}

impl Undelivered {
    /// Calls `each` with every record, in order.
    pub fn for_each(&self, each: &mut dyn FnMut(&UndeliveredRecord<'_>)) {
        match self {
            Undelivered::Batch(batch) => batch.for_each(each),
            Undelivered::Runs(runs) => runs.for_each(each),
            Undelivered::Copied(records) => records.iter().for_each(|record| record.show(each)),
        }
    }
}

/// What an allocation costs its allocator, in bytes.
const ALLOCATION: usize = 16;

/// Name and value.
type CopiedHeader = (Box<str>, Option<Box<[u8]>>);

/// A record with memory of its own.
pub struct CopiedRecord {
    partition: Option<PartitionId>,
    timestamp: i64,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Vec<CopiedHeader>,
    error: DeliveryError,
}

impl CopiedRecord {
    /// Copies a record, which failed with `error`.
    pub fn new(
        partition: Option<PartitionId>,
        timestamp: i64,
        parts: &RecordParts<'_>,
        error: DeliveryError,
    ) -> Self {
        let headers = parts.headers.iter();
        CopiedRecord {
            partition,
            timestamp,
            key: parts.key.map(Into::into),
            value: parts.value.map(Into::into),
            headers: headers.map(|it| (it.key.into(), it.value.map(Into::into))).collect(),
            error,
        }
    }

    /// What so many records with so many headers take besides their bytes.
    pub fn overhead(records: usize, headers: usize) -> usize {
        let allocations = 3 * records + 2 * headers;
        records * size_of::<CopiedRecord>()
            + headers * size_of::<CopiedHeader>()
            + allocations * ALLOCATION
    }

    fn show(&self, each: &mut dyn FnMut(&UndeliveredRecord<'_>)) {
        let headers = self.headers.iter();
        each(&UndeliveredRecord {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: headers.map(|(key, value)| Header { key, value: value.as_deref() }).collect(),
            timestamp: self.timestamp,
            partition: self.partition.map(|partition| partition.0),
            error: &self.error,
        });
    }
}

/// The pieces behind the present one of a batch that was split.
pub(super) struct Behind {
    /// Of each piece, in order: where it begins, counted from the batch's first byte, and how many
    /// records it has. What lies between two of them is left over: pieces move up to be sent.
    pub pieces: Vec<(usize, u32)>,
    /// What they failed with.
    pub error: DeliveryError,
}

impl Behind {
    /// Calls `each` with the bytes of each piece, which may go on behind it, and its records.
    fn for_each(&self, memory: &[u8], mut each: impl FnMut(&[u8], u32)) {
        let ends = self.pieces.iter().skip(1).map(|next| next.0).chain([memory.len()]);
        for (&(at, records), end) in self.pieces.iter().zip(ends) {
            if let Some(plain) = memory.get(at..end) {
                each(plain, records);
            }
        }
    }
}

/// Records of a batch that failed: of its present piece, behind that, or both.
pub struct UndeliveredBatch {
    partition: PartitionId,
    base_timestamp: i64,
    records: Place,
}

/// Where the records are.
enum Place {
    /// In the batch, which keeps its memory.
    Batch { batch: Box<Batch>, present: Option<DeliveryError>, behind: Option<Behind> },
    /// Copied from a batch whose memory is needed for something else.
    Copied(Vec<(Vec<u8>, u32, DeliveryError)>),
}

impl UndeliveredBatch {
    /// Takes the batch with its memory; it has failed. `present` is what its present piece failed
    /// with, if that is to be given back. A batch that lies in its loop's scratch is copied: other
    /// batches wait for the scratch.
    pub(super) fn take(
        partition: PartitionId,
        batch: Box<Batch>,
        present: Option<DeliveryError>,
        behind: Option<Behind>,
    ) -> Self {
        if batch.is_in_scratch() {
            return UndeliveredBatch::copy(partition, &batch, present, behind);
        }
        UndeliveredBatch {
            partition,
            base_timestamp: batch.base_timestamp,
            records: Place::Batch { batch, present, behind },
        }
    }

    /// The same, of a batch that keeps its memory.
    pub(super) fn copy(
        partition: PartitionId,
        batch: &Batch,
        present: Option<DeliveryError>,
        behind: Option<Behind>,
    ) -> Self {
        let memory = batch.memory();
        let present = present.and_then(|error| {
            Some((plain_records(batch, &memory)?.into_owned(), batch.records(), error))
        });
        let mut copies: Vec<_> = present.into_iter().collect();
        if let Some(behind) = behind {
            behind.for_each(&memory, |plain, records| {
                copies.push((plain.to_vec(), records, behind.error.clone()));
            });
        }
        UndeliveredBatch {
            partition,
            base_timestamp: batch.base_timestamp,
            records: Place::Copied(copies),
        }
    }

    /// Calls `each` with every record, in order.
    pub fn for_each(&self, each: &mut dyn FnMut(&UndeliveredRecord<'_>)) {
        match &self.records {
            Place::Copied(copies) => {
                copies.iter().for_each(|(plain, records, error)| {
                    self.read(plain, *records, error, each);
                });
            }
            Place::Batch { batch, present, behind } => {
                let memory = batch.memory();
                if let Some(error) = present
                    && let Some(plain) = plain_records(batch, &memory)
                {
                    self.read(&plain, batch.records(), error, each);
                }
                if let Some(behind) = behind {
                    behind.for_each(&memory, |plain, records| {
                        self.read(plain, records, &behind.error, each);
                    });
                }
            }
        }
    }

    fn read(
        &self,
        plain: &[u8],
        records: u32,
        error: &DeliveryError,
        each: &mut dyn FnMut(&UndeliveredRecord<'_>),
    ) {
        let header = plain_header(self.base_timestamp, records);
        for record in Records::of_plain(&header, plain).take(records as usize).flatten() {
            each(&UndeliveredRecord {
                key: record.key,
                value: record.value,
                headers: record.headers.collect(),
                timestamp: record.timestamp,
                partition: Some(self.partition.0),
                error,
            });
        }
    }
}

/// What is to be known of a batch for reading its records uncompressed.
fn plain_header(base_timestamp: i64, records: u32) -> BatchHeader {
    BatchHeader { base_timestamp, record_count: records, ..Default::default() }
}

/// Copies some records of a batch, or of its present piece, by their places, each with its error.
pub(super) fn copy_records(
    lane: &LaneTail,
    batch: &Batch,
    failed: &[(u32, DeliveryError)],
) -> Vec<CopiedRecord> {
    let memory = batch.memory();
    let Some(plain) = plain_records(batch, &memory) else { return Vec::new() };
    let header = plain_header(batch.base_timestamp, batch.records());
    let mut failed = failed.iter().peekable();
    let mut copies = Vec::with_capacity(failed.len());
    for (place, record) in (0..batch.records()).zip(Records::of_plain(&header, &plain).flatten()) {
        let Some((_, error)) = failed.next_if(|failed| failed.0 == place) else { continue };
        let headers: Vec<_> = record.headers.collect();
        let parts = RecordParts { key: record.key, value: record.value, headers: &headers };
        let (partition, timestamp) = (Some(lane.partition), record.timestamp);
        copies.push(CopiedRecord::new(partition, timestamp, &parts, error.clone()));
    }
    copies
}

/// The records of the batch or of its present piece, as they were encoded. `None`, with an error in
/// the log, where the bytes are not what was compressed: only a bug could do that.
fn plain_records<'m>(batch: &Batch, memory: &'m [u8]) -> Option<Cow<'m, [u8]>> {
    let payload = memory.get(BATCH_HEADER_LEN..batch.len)?;
    if batch.codec == Codec::None {
        return Some(payload.into());
    }
    let plain = decompress(batch.codec, payload, i32::MAX as usize).ok();
    let plain = plain.and_then(|plain| match batch.packed_as.is_message_set() {
        true => records_of_message_set(&plain, batch.packed_as, batch.base_timestamp),
        false => Some(plain),
    });
    if plain.is_none() {
        log::error!(
            "{} records could not be unpacked to be given back: they are lost; please report this",
            batch.records()
        );
    }
    plain.map(Cow::from)
}

impl Batch {
    /// Its bytes in one piece, those behind the present piece included.
    fn memory(&self) -> Vec<u8> {
        match self.pieces.as_ref().and_then(|pieces| pieces.unpacked.as_deref()) {
            Some(scratch) => scratch.to_vec(),
            None => self.links.iter().flat_map(Link::bytes).copied().collect(),
        }
    }

    /// Whether it lies in memory that its loop has only once.
    fn is_in_scratch(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.unpacked.is_some())
    }
}
