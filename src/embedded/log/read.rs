//! Reading a partition: what a fetch gets, and where offsets, times and leader epochs are.

use bytes::Bytes;

use super::super::batch::{CRC_COVERS_FROM, HEADER_BYTES};
use super::super::records::{EmbeddedRecord, encode};
use super::{Contents, Partition, Stored};

/// Where a batch says which leader wrote it.
const LEADER_EPOCH_AT: usize = 12;
/// Where its CRC is.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
/// In the lower of the two bytes of the attributes.
const LOG_APPEND_TIME: u8 = 0x08;

/// A record's place: what a question for a time is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

impl Stored {
    /// The batch as a consumer gets it: with its offset, its leader's epoch and, in a topic with
    /// log append time, the broker's time.
    fn wire(&self) -> Vec<u8> {
        let mut batch = match &self.incoming.contents {
            Contents::Discarded => return Vec::new(),
            Contents::Batch(_, bytes) => bytes.to_vec(),
            Contents::Messages(messages) => encode(messages),
        };
        batch[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        batch[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4]
            .copy_from_slice(&self.leader_epoch.to_be_bytes());
        if let Some(time) = self.append_time {
            batch[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME;
            batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&time.to_be_bytes());
            let crc = crc_fast::crc32_iscsi(&batch[CRC_COVERS_FROM..]);
            batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        }
        batch
    }

    /// About the size of [`Stored::wire`].
    fn size(&self) -> usize {
        match self.incoming.contents {
            Contents::Discarded => 0,
            _ => self.incoming.size.max(HEADER_BYTES),
        }
    }
}

impl Partition {
    /// The first offset that can be read: where payloads are discarded, that of the next record.
    pub(crate) fn log_start(&self) -> i64 {
        let keeps = self.offset_next == 0 || !self.batches.is_empty();
        if keeps { 0 } else { self.offset_next }
    }

    /// Bytes that a fetch from this offset on could get, counted up to `enough`.
    pub(crate) fn readable(&self, offset: i64, enough: usize) -> usize {
        let mut bytes = 0;
        for stored in self.from(offset) {
            bytes += stored.size();
            if bytes >= enough {
                return enough;
            }
        }
        bytes
    }

    /// What a fetch from this offset gets: batches from the one on that holds it, up to about
    /// `max` bytes, the last one cut off there as by Kafka. The first is whole, however large, if
    /// `whole_first`.
    pub(crate) fn read(&self, offset: i64, max: usize, whole_first: bool) -> Bytes {
        let mut out = Vec::new();
        for stored in self.from(offset) {
            let batch = stored.wire();
            let room = max.saturating_sub(out.len());
            if batch.len() <= room || out.is_empty() && whole_first {
                out.extend_from_slice(&batch);
            } else {
                out.extend_from_slice(&batch[..room]);
                break;
            }
        }
        out.into()
    }

    /// The first record that is not older than `time`, in milliseconds since the epoch.
    pub(crate) fn first_since(&self, time: i64) -> Option<Found> {
        self.found().find(|found| found.timestamp >= time)
    }

    /// The newest record by its timestamp; of several the first.
    pub(crate) fn newest(&self) -> Option<Found> {
        self.found().reduce(|newest, found| match found.timestamp > newest.timestamp {
            true => found,
            false => newest,
        })
    }

    /// The last leader epoch up to this one that wrote anything, and the offset after its last
    /// record: where a reader that got as far as `epoch` may have to go back to. (-1, -1) if none
    /// of them did.
    pub(crate) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        if epoch == self.leader_epoch {
            return (epoch, self.offset_next);
        }
        let written = self.batches.iter().filter(|batch| batch.leader_epoch <= epoch);
        written.last().map_or((-1, -1), |batch| (batch.leader_epoch, batch.end()))
    }

    fn from(&self, offset: i64) -> impl Iterator<Item = &Stored> {
        let first = self.batches.partition_point(|batch| batch.end() <= offset);
        self.batches[first..].iter()
    }

    fn found(&self) -> impl Iterator<Item = Found> {
        self.batches.iter().flat_map(|batch| {
            let mut records: Vec<EmbeddedRecord> = Vec::new();
            batch.records(&mut records);
            let leader_epoch = batch.leader_epoch;
            records.into_iter().map(move |record| Found {
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch,
            })
        })
    }
}
