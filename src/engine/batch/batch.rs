//! One record batch: its memory, its header, its completion cell.

use super::fallback::GivenBackLater;
use super::pieces::Pieces;
use super::{BatchCell, CellHandle, IssuedHandle};
use crate::engine::buffer::{AccountId, Segment, WaitTicket};
use crate::engine::protocol::compression::Codec;
use crate::engine::protocol::records::{
    self, BATCH_HEADER_LEN, BatchHeader, RecordFormat, RecordParts, RecordSize,
};
use crate::engine::protocol::{BrokerId, ProducerIdentity};
use crate::engine::sync::WakeList;
use crate::error::{Certainty, DeliveryError};
use crate::problem::Problem;

/// One piece of a batch's memory: a run of encoded bytes in one segment, from the segment's start.
pub struct Link {
    segment: Segment,
    len: usize,
}

impl Link {
    /// An empty link over `segment`.
    pub fn new(segment: Segment) -> Self {
        Link { segment, len: 0 }
    }

    /// The bytes written so far.
    pub fn bytes(&self) -> &[u8] {
        &self.segment[..self.len]
    }

    /// The same, to be changed in place.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.segment[..self.len]
    }

    fn room(&self) -> usize {
        self.segment.len() - self.len
    }

    /// Writes `bytes` at `from`, where the link ends then.
    pub(super) fn fill(&mut self, from: usize, bytes: &[u8]) {
        self.len = from + bytes.len();
        self.segment[from..self.len].copy_from_slice(bytes);
    }
}

/// Whom an attempt asked: answers of one leader over one connection may be put together. Another
/// leader, or the same broker after a restart, may know more or less of the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedLeader {
    /// The lane's leader, by [`LaneHead`](super::LaneHead)'s count of them.
    pub leader_ordinal: u32,
    /// The connection, counted for each broker by its shard.
    pub connection: u32,
}

/// What is known about the attempts to send a batch.
#[derive(Clone, Debug, Default)]
pub struct BatchState {
    /// Attempts begun, the one in flight included.
    pub attempts: u32,
    /// Waits that the retry policy was asked for so far. A lost connection is followed by none.
    pub waits: u32,
    /// It went plain because the loop's scratch was lent: compressed it may be small enough.
    pub uncompressed: bool,
    /// The batch is in doubt: an attempt was written whole, and nothing has proved since that the
    /// log does not hold it.
    pub unanswered: bool,
    /// It may be in the log without numbers, which no later answer can rule out.
    pub unanswered_unnumbered: bool,
    /// The connection that its present or last attempt went over.
    pub connection: u32,
    /// Who answered it with an error last, whatever the error was.
    pub refused_by: Option<AskedLeader>,
    /// Who answered OUT_OF_ORDER_SEQUENCE_NUMBER last.
    pub out_of_order_at: Option<AskedLeader>,
    /// Connections that were lost, since its last answer, while its request was the next that the
    /// broker was to answer.
    pub losses: u32,
    /// Attempts that were answered CORRUPT_MESSAGE.
    pub corrupt: u32,
    /// The broker that was last asked.
    pub broker: Option<BrokerId>,
    /// The last thing that went wrong.
    pub last_problem: Option<Problem>,
}

/// A record batch, from its first record until its segments return to the pool.
pub struct Batch {
    pub(super) links: Vec<Link>,
    /// `None` once resolved: a batch that expired in flight keeps its segments, but no cell.
    pub(super) cell: Option<BatchCell>,
    /// The position of this batch in its lane, from 0; flush waits by it.
    pub number: u64,
    /// When its deliveries fail if nothing acknowledged them (monotonic clock, nanoseconds).
    pub deadline: u64,
    pub(super) records: u32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Length on the wire, header included.
    pub(super) len: usize,
    pub(super) records_crc: Option<u32>,
    pub(super) codec: Codec,
    /// What its records were compressed as, or tried to be. Plain records are those of a batch,
    /// whatever they are sent as.
    pub(super) packed_as: RecordFormat,
    /// Its records were sent together, and fail together: it is never taken apart.
    pub(super) together: bool,
    producer: ProducerIdentity,
    pub(super) base_sequence: i32,
    /// Set once the batch could not be sent as one. The fields above then describe its present
    /// piece.
    pub(super) pieces: Option<Box<Pieces>>,
    /// Its place in the line for segments that it is to be unpacked into.
    pub(super) room_to_unpack: Option<Box<WaitTicket>>,
    /// It failed in flight, and the application wants what nobody acknowledges.
    pub(super) given_back_later: Option<Box<GivenBackLater>>,
    /// Attempts and their outcomes.
    pub state: BatchState,
}

/// What a batch is opened with.
pub struct Opening {
    /// The cell that its deliveries resolve through.
    pub cell: BatchCell,
    /// Its position in the lane.
    pub number: u64,
    /// When its deliveries fail, in nanoseconds of the monotonic clock.
    pub deadline: u64,
    /// The first record's timestamp, in milliseconds since the epoch.
    pub base_timestamp: i64,
}

impl Batch {
    /// An empty batch whose first link has room for the header.
    pub fn open(opening: Opening, first: Segment, links_expected: usize) -> Box<Batch> {
        let mut links = Vec::with_capacity(links_expected);
        links.push(Link { segment: first, len: BATCH_HEADER_LEN });
        Box::new(Batch {
            links,
            cell: Some(opening.cell),
            number: opening.number,
            deadline: opening.deadline,
            records: 0,
            base_timestamp: opening.base_timestamp,
            max_timestamp: opening.base_timestamp,
            len: BATCH_HEADER_LEN,
            records_crc: None,
            codec: Codec::None,
            packed_as: RecordFormat::Batch,
            together: false,
            producer: ProducerIdentity::NONE,
            base_sequence: -1,
            pieces: None,
            room_to_unpack: None,
            given_back_later: None,
            state: BatchState::default(),
        })
    }

    /// The encoded size of `parts` as this batch's next record, or `None` where its timestamp or
    /// its position cannot be expressed relative to the batch's first.
    #[inline]
    pub fn size_of_next(&self, timestamp: i64, parts: &RecordParts<'_>) -> Option<RecordSize> {
        let delta = timestamp.checked_sub(self.base_timestamp)?;
        RecordSize::of(self.records, delta, parts)
    }

    /// Bytes that can be appended without another segment.
    #[inline]
    pub fn tail_room(&self) -> usize {
        self.links.last().map_or(0, Link::room)
    }

    /// Charges its memory to another account.
    pub(super) fn charge_to(&mut self, account: AccountId) {
        for link in &mut self.links {
            link.segment.charge_to(account);
        }
    }

    /// Makes room: the next record is written from `segment` on.
    pub fn push_segment(&mut self, segment: Segment) {
        self.links.push(Link::new(segment));
    }

    /// Appends records that were sent together, continuing with the segments in `spare`, which
    /// suffice. Returns their handles, in order.
    pub fn append_together(
        &mut self,
        records: &[(i64, RecordParts<'_>)],
        spare: &mut Vec<Segment>,
    ) -> Vec<CellHandle> {
        self.together = true;
        let mut handles = Vec::with_capacity(records.len());
        for (timestamp, parts) in records {
            let size = self.size_of_next(*timestamp, parts);
            let size = size.expect("together_size() found that they fit one batch");
            if size.total <= self.tail_room() {
                handles.push(self.append(*timestamp, size, parts));
                continue;
            }
            let first = self.links.len() - 1;
            let mut room = self.tail_room();
            while room < size.total {
                let segment = spare.remove(0);
                room += segment.len();
                self.push_segment(segment);
            }
            handles.push(self.append_spanning(first, *timestamp, size, parts));
        }
        handles
    }

    /// Whether its records were sent together.
    pub fn is_together(&self) -> bool {
        self.together
    }

    /// Appends a record that fits into the last link.
    #[inline]
    pub fn append(
        &mut self,
        timestamp: i64,
        size: RecordSize,
        parts: &RecordParts<'_>,
    ) -> CellHandle {
        let delta = timestamp - self.base_timestamp;
        let link = self.links.last_mut().expect("an open batch has a link: open() pushed it");
        let start = link.len;
        let out = &mut link.segment[start..start + size.total];
        let written = records::encode_contiguous(out, size, self.records, delta, parts);
        debug_assert_eq!(written, size.total);
        link.len = start + size.total;
        self.count_record(timestamp, size.total);
        self.issue(timestamp)
    }

    /// Appends a record without headers, if it is a small one and there surely is room for it in
    /// the last link and below `batch_size`. `None`: that is not sure, and nothing was appended.
    #[inline(always)]
    pub fn append_plain(
        &mut self,
        timestamp: i64,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        batch_size: usize,
    ) -> Option<IssuedHandle> {
        let delta = timestamp.checked_sub(self.base_timestamp)?;
        let (link, cell) = (self.links.last_mut()?, self.cell.as_mut()?);
        let room = batch_size.saturating_sub(self.len);
        let out = &mut link.segment[link.len..];
        let most = room.min(out.len());
        let written = records::encode_plain(&mut out[..most], self.records, delta, key, value)?;
        link.len += written;
        let issued = cell.issue_bare();
        self.count_record(timestamp, written);
        Some(issued)
    }

    /// Appends a record that spans the links from `first_link` on, which are empty but for the
    /// first.
    pub fn append_spanning(
        &mut self,
        first_link: usize,
        timestamp: i64,
        size: RecordSize,
        parts: &RecordParts<'_>,
    ) -> CellHandle {
        let delta = timestamp - self.base_timestamp;
        let slices = self.links[first_link..].iter_mut().map(|link| {
            let start = link.len;
            &mut link.segment[start..]
        });
        records::encode_spanning(slices, size, self.records, delta, parts);
        let mut left = size.total;
        for link in &mut self.links[first_link..] {
            let part = left.min(link.room());
            link.len += part;
            left -= part;
        }
        assert_eq!(left, 0, "the caller checked that the links hold the record");
        self.count_record(timestamp, size.total);
        self.issue(timestamp)
    }

    #[inline(always)]
    fn count_record(&mut self, timestamp: i64, bytes: usize) {
        self.records += 1;
        self.len += bytes;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    #[inline]
    fn issue(&mut self, timestamp: i64) -> CellHandle {
        let cell = self.cell.as_mut().expect("an open batch is not resolved");
        cell.issue(timestamp)
    }

    /// Its memory, in the order of the bytes.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Records appended.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Length on the wire in bytes, header included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no record was appended yet.
    #[cfg(feature = "internals")]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Pool bytes held.
    pub fn segment_bytes(&self) -> usize {
        self.links.iter().map(|link| link.segment.len()).sum()
    }

    /// Links that it has heap for.
    #[cfg(test)]
    pub fn links_capacity(&self) -> usize {
        self.links.capacity()
    }

    /// Bytes of each segment it holds, in the order of the links.
    #[cfg(test)]
    pub fn segment_sizes(&self) -> impl Iterator<Item = usize> {
        self.links.iter().map(|link| link.segment.len())
    }

    /// The first sequence, -1 before the first drain or without identity.
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence
    }

    /// The identity under which it was last numbered.
    pub fn producer(&self) -> ProducerIdentity {
        self.producer
    }

    /// Whether sequences were given.
    pub fn is_numbered(&self) -> bool {
        self.base_sequence >= 0
    }

    /// Whether it is in doubt and a broker can tell by its numbers if the log has it.
    pub(super) fn can_be_asked_for(&self) -> bool {
        self.state.unanswered && self.is_numbered()
    }

    /// Whether its deliveries have resolved.
    pub fn is_resolved(&self) -> bool {
        self.cell.is_none()
    }

    /// Gives identity and first sequence; they reach the bytes with the next
    /// [`write_header`](Batch::write_header).
    pub fn set_number(&mut self, producer: ProducerIdentity, base_sequence: i32) {
        self.producer = producer;
        self.base_sequence = base_sequence;
    }

    /// Writes the 61 header bytes. The records' CRC is computed the first time and only combined
    /// afterwards.
    pub fn write_header(&mut self) {
        let crc = match self.records_crc {
            Some(crc) => crc,
            None => records::records_crc(self.record_slices()),
        };
        self.records_crc = Some(crc);
        let header = BatchHeader {
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
            base_sequence: self.base_sequence,
            record_count: self.records,
            codec: self.codec,
            last_offset_delta: self.records as i32 - 1,
            records_len: self.len - BATCH_HEADER_LEN,
            ..BatchHeader::default()
        };
        let first = match self.pieces.as_mut().and_then(|pieces| pieces.unpacked.as_mut()) {
            Some(scratch) => &mut scratch[..],
            None => &mut self.links[0].segment[..],
        };
        let out = first
            .first_chunk_mut::<BATCH_HEADER_LEN>()
            .expect("the first link begins with the header's bytes");
        header.write(out, crc);
    }

    /// Overwrites its bytes, as another batch would that was given its memory too early. Only a
    /// planted bug does that.
    #[cfg(feature = "internals")]
    pub fn overwrite(&mut self) {
        self.links.iter_mut().for_each(|link| link.bytes_mut().fill(0xee));
    }

    /// Has the batch compressed before it is sent again: a broker refused it for its length when it
    /// went uncompressed.
    pub fn compress_again(&mut self) {
        (self.records_crc, self.packed_as) = (None, RecordFormat::Batch);
    }

    /// Whether it was compressed, or was tried to be for its format, so that its bytes stay as they
    /// are.
    pub fn is_finished(&self) -> bool {
        let tried = self.records_crc.is_some() || self.packed_as.is_message_set();
        tried || self.codec != Codec::None || self.is_in_pieces()
    }

    /// It does not become smaller by compression, and is not tried again in this format.
    pub fn stays_plain(&mut self, format: RecordFormat) {
        self.packed_as = format;
    }

    /// What goes over the wire, slice by slice, the header included.
    pub fn wire_slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let unpacked = self.pieces.as_ref().and_then(|pieces| pieces.unpacked.as_deref());
        let mut left = self.len;
        unpacked.into_iter().chain(self.links.iter().map(Link::bytes)).map(move |bytes| {
            let bytes = &bytes[..bytes.len().min(left)];
            left -= bytes.len();
            bytes
        })
    }

    /// The encoded records, slice by slice, without the header.
    pub fn record_slices(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.wire_slices().enumerate().map(|(index, bytes)| {
            let from = if index == 0 { BATCH_HEADER_LEN } else { 0 };
            &bytes[from..]
        })
    }

    /// Replaces the records by their compressed form, which must be shorter; surplus segments
    /// return to the pool. `packed_as` says what was compressed: the batch's records, or the
    /// message set that they come to.
    pub fn replace_records(&mut self, codec: Codec, packed_as: RecordFormat, compressed: &[u8]) {
        assert!(compressed.len() < self.len - BATCH_HEADER_LEN, "only a shorter form replaces");
        let mut rest = compressed;
        let mut used = 0;
        for (index, link) in self.links.iter_mut().enumerate() {
            if rest.is_empty() {
                break;
            }
            let from = if index == 0 { BATCH_HEADER_LEN } else { 0 };
            let part = rest.len().min(link.segment.len() - from);
            link.segment[from..from + part].copy_from_slice(&rest[..part]);
            link.len = from + part;
            rest = &rest[part..];
            used = index + 1;
        }
        assert!(rest.is_empty(), "a shorter form fits where the longer one was");
        self.links.truncate(used);
        if let Some(last) = self.links.last_mut() {
            let len = last.len;
            last.segment.truncate_to(len);
        }
        (self.codec, self.packed_as) = (codec, packed_as);
        self.len = BATCH_HEADER_LEN + compressed.len();
        self.records_crc = None;
    }

    /// What a failure of the batch says now: `Unknown` while it is in doubt.
    pub fn certainty(&self) -> Certainty {
        match self.state.unanswered || self.state.unanswered_unnumbered {
            true => Certainty::Unknown,
            false => Certainty::NotWritten,
        }
    }

    /// An attempt may have been written.
    pub fn note_written(&mut self) {
        self.state.unanswered = true;
        self.state.unanswered_unnumbered |= !self.is_numbered();
    }

    /// Where its records go.
    #[cfg(feature = "internals")]
    pub fn cell(&self) -> Option<&BatchCell> {
        self.cell.as_ref()
    }

    /// Resolves its deliveries as written from `base_offset` on. Returns false if they had been
    /// resolved before (the batch expired in flight).
    pub fn ack(
        &mut self,
        base_offset: Option<i64>,
        append_time: Option<i64>,
        wakes: &mut WakeList,
    ) -> bool {
        if self.is_numbered()
            && let Some(pieces) = &mut self.pieces
        {
            // A log that has taken a piece under its number does not have the whole under the same.
            // Without numbers it may have both.
            pieces.unanswered = false;
        }
        match self.cell.take() {
            Some(cell) => {
                cell.ack(base_offset, append_time, wakes);
                true
            }
            None => false,
        }
    }

    /// Resolves its deliveries as failed, those of its present piece if it is in pieces. Returns
    /// false if they had been resolved before.
    pub fn fail(&mut self, error: DeliveryError, wakes: &mut WakeList) -> bool {
        match self.cell.take() {
            Some(cell) => {
                cell.fail(error, wakes);
                true
            }
            None => false,
        }
    }
}
