//! A batch that cannot be written as it is: too large for its topic, or with records that the
//! broker will not have.
//!
//! Both are mended where the batch lies. A record only ever moves towards the front, and the
//! numbers at its head only ever get shorter there, so no memory has to be found while there may be
//! none. The pieces of a split batch are sent one after the other, the first from the place of the
//! whole, each later one after it has moved up over the one before. A compressed batch is unpacked
//! first, into segments or, where there are none, into its loop's scratch; its pieces go plain.

use std::collections::VecDeque;

use super::undelivered::Behind;
use super::{Batch, BatchCell, BatchState, Link, sequence_after};
use crate::engine::buffer::{AccountId, BufferPool, LentScratch, ScratchSlot, Segment};
use crate::engine::protocol::ProducerIdentity;
use crate::engine::protocol::compression::{Codec, decompress};
use crate::engine::protocol::records::{
    BATCH_HEADER_LEN, RECORD_HEAD_LEN_MAX, RecordFormat, RecordHead, records_of_message_set,
};
use crate::engine::sync::CellId;
use crate::engine::sync::{ForwardTable, WakeList};
use crate::error::{Certainty, DeliveryError};

/// Bytes that move through the stack at a time.
const MOVED_AT_ONCE: usize = 1 << 10;

/// The length of a key that is null, -1, as a zigzag varint.
const NULL_LENGTH: u8 = 1;

/// A later part of a split batch.
struct Piece {
    cell: BatchCell,
    records: u32,
    /// Where its first record is, counted from the batch's first byte.
    at: usize,
}

/// What a batch that was taken apart remembers besides its present piece.
#[derive(Default)]
pub(super) struct Pieces {
    /// In the order of their records.
    waiting: VecDeque<Piece>,
    /// An attempt to send the whole went unanswered: as long as no piece is acknowledged, all of
    /// them may be in the log.
    pub(super) unanswered: bool,
    /// The same of an attempt without numbers, which no answer to a piece can rule out.
    unanswered_unnumbered: bool,
    /// A piece of this length, header included, was refused as too large.
    refused_len: Option<usize>,
    /// The whole batch lies here, and not in its segments.
    pub(super) unpacked: Option<LentScratch>,
}

impl Pieces {
    /// Whether an attempt to send the whole may be in the log.
    fn is_in_doubt(&self) -> bool {
        self.unanswered || self.unanswered_unnumbered
    }

    /// What is known of those that wait, if they fail.
    fn certainty(&self) -> Certainty {
        if self.is_in_doubt() { Certainty::Unknown } else { Certainty::NotWritten }
    }
}

/// Why a batch was not unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotUnpacked {
    /// Another batch of the loop has the scratch: try again later.
    ScratchIsLent,
    /// The bytes are not what was compressed.
    Damaged,
}

impl Batch {
    /// How its records are compressed.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether it was taken apart: what is sent is not all of its memory, and is not compressed.
    pub fn is_in_pieces(&self) -> bool {
        self.pieces.is_some()
    }

    /// Whether an attempt to send the whole, before it was split, may be in the log.
    pub(super) fn was_split_in_doubt(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.is_in_doubt())
    }

    /// Its number is void: what is in doubt under it stays so, whatever an answer says.
    pub(super) fn void_number(&mut self) {
        self.state.unanswered_unnumbered |= self.state.unanswered;
        if let Some(pieces) = &mut self.pieces {
            pieces.unanswered_unnumbered |= pieces.unanswered;
        }
        self.set_number(ProducerIdentity::NONE, -1);
    }

    /// The batch is about to be numbered anew, since nothing of it is in the log under the old
    /// numbers, also not as a whole.
    pub(super) fn forget_doubts(&mut self) {
        if let Some(pieces) = &mut self.pieces {
            pieces.unanswered = false;
        }
    }

    /// Records that are not resolved: of the present piece and of those behind it. Their sequences
    /// are given together.
    pub fn records_left(&self) -> u32 {
        let waiting = self.pieces.iter().flat_map(|pieces| &pieces.waiting);
        self.records + waiting.map(|piece| piece.records).sum::<u32>()
    }

    /// Which of the records that are to be sent have no key, by their place. The batch must not be
    /// compressed.
    pub fn records_without_key(&mut self) -> Vec<u32> {
        assert!(self.codec == Codec::None, "checked by the caller");
        let (records, mut at) = (self.records, BATCH_HEADER_LEN);
        let mut chain = Chain::of(self);
        let mut found = Vec::new();
        for index in 0..records {
            let head = chain.head_at(at);
            let mut key_len = [0];
            chain.read(at + head.len, &mut key_len);
            if key_len == [NULL_LENGTH] {
                found.push(index);
            }
            at += head.record_len();
        }
        found
    }

    /// Splits what is to be sent, of several records, in two. The second half waits until the first
    /// is resolved. Deliveries follow their halves. The batch must not be compressed.
    pub fn split(&mut self, wakes: &mut WakeList) {
        assert!(self.codec == Codec::None && self.records > 1, "checked by the caller");
        let BatchState { unanswered, unanswered_unnumbered, .. } = self.state;
        let refused = self.len;
        let pieces = self.pieces.get_or_insert_default();
        pieces.refused_len = Some(refused);
        pieces.unanswered |= unanswered;
        pieces.unanswered_unnumbered |= unanswered_unnumbered;
        self.halve(wakes);
    }

    /// Halves by bytes, with at least one record on either side.
    fn halve(&mut self, wakes: &mut WakeList) {
        let (records, half) = (self.records, self.len / 2);
        let (mut first, mut end, mut latest) = (0, BATCH_HEADER_LEN, i64::MIN);
        let mut chain = Chain::of(self);
        while first + 1 < records {
            let head = chain.head_at(end);
            if first > 0 && end + head.record_len() > half {
                break;
            }
            end += head.record_len();
            latest = latest.max(head.timestamp_delta);
            first += 1;
        }
        let Some(cell) = self.cell.take() else { return };
        let mut front = cell.sibling();
        let mut back = cell.sibling();
        let mut table = ForwardTable::with_capacity(2);
        table.forward(first, &mut front);
        table.forward(records - first, &mut back);
        cell.forward(table, wakes);
        let behind = Piece { cell: back, records: records - first, at: end };
        self.pieces.get_or_insert_default().waiting.push_front(behind);
        self.set_piece(front, first, end, latest);
    }

    /// Goes on to the next piece, once the present one is resolved; false if it was the last. The
    /// piece has the sequences behind the last one's, and begins with its own attempts.
    pub fn next_piece(&mut self, wakes: &mut WakeList) -> bool {
        let Some(pieces) = &mut self.pieces else { return false };
        let Some(Piece { cell, records, at }) = pieces.waiting.pop_front() else { return false };
        let Pieces { refused_len, unanswered, unanswered_unnumbered, .. } = **pieces;
        if self.is_numbered() {
            self.base_sequence = sequence_after(self.base_sequence, self.records);
        }
        let (mut read, mut written, mut latest) = (at, BATCH_HEADER_LEN, i64::MIN);
        let mut chain = Chain::of(self);
        for place in 0..records {
            let head = chain.head_at(read);
            written = chain.move_record(read, written, &head, place);
            read += head.record_len();
            latest = latest.max(head.timestamp_delta);
        }
        self.set_piece(cell, records, written, latest);
        self.state = BatchState { unanswered, unanswered_unnumbered, ..BatchState::default() };
        while self.records > 1 && refused_len.is_some_and(|refused| self.len >= refused) {
            self.halve(wakes);
        }
        true
    }

    /// Takes the records out that the broker will not have, each with its error; `culprits` names
    /// each once, in order. Returns whether a record is left to be sent.
    pub fn remove(&mut self, culprits: &[(u32, DeliveryError)], wakes: &mut WakeList) -> bool {
        assert!(self.codec == Codec::None, "checked by the caller");
        let Some(cell) = self.cell.take() else { return false };
        let mut innocent = cell.sibling();
        let mut table = ForwardTable::with_capacity(2 * culprits.len() + 1);
        let mut culprits = culprits.iter().peekable();
        let (mut read, mut written) = (BATCH_HEADER_LEN, BATCH_HEADER_LEN);
        let (mut place, mut latest) = (0, i64::MIN);
        let records = self.records;
        let mut chain = Chain::of(self);
        for index in 0..records {
            let head = chain.head_at(read);
            if let Some((_, error)) = culprits.next_if(|culprit| culprit.0 == index) {
                table.fail(1, error.clone());
            } else {
                written = chain.move_record(read, written, &head, place);
                table.forward(1, &mut innocent);
                latest = latest.max(head.timestamp_delta);
                place += 1;
            }
            read += head.record_len();
        }
        cell.forward(table, wakes);
        self.pieces.get_or_insert_default();
        if place > 0 {
            self.set_piece(innocent, place, written, latest);
        }
        place > 0
    }

    /// What is sent from now on: `records` records up to `len`.
    fn set_piece(&mut self, cell: BatchCell, records: u32, len: usize, latest: i64) {
        self.cell = Some(cell);
        self.records = records;
        self.len = len;
        self.max_timestamp = self.base_timestamp.saturating_add(latest);
        self.records_crc = None;
    }

    /// Whether records of it, or of a piece that waits behind the present one, have this cell.
    pub fn has_cell(&self, id: CellId) -> bool {
        let pieces = self.pieces.iter().flat_map(|pieces| &pieces.waiting);
        self.cell_id() == Some(id) || pieces.map(|piece| piece.cell.cell_id()).any(|it| it == id)
    }

    /// The pieces behind the present one, which fails with `error`: they fail of the same cause.
    pub(super) fn behind(&self, error: &DeliveryError) -> Option<Behind> {
        let pieces = self.pieces.as_ref()?;
        let waiting: Vec<_> =
            pieces.waiting.iter().map(|piece| (piece.at, piece.records)).collect();
        let error = error.with_certainty(pieces.certainty());
        (!waiting.is_empty()).then_some(Behind { pieces: waiting, error })
    }

    /// Fails the pieces that wait behind the present one, of the same cause. Returns how many
    /// records those have.
    pub(super) fn fail_waiting_pieces(
        &mut self,
        error: &DeliveryError,
        wakes: &mut WakeList,
    ) -> u32 {
        let Some(pieces) = &mut self.pieces else { return 0 };
        let error = &error.with_certainty(pieces.certainty());
        let mut records = 0;
        for piece in pieces.waiting.drain(..) {
            piece.cell.fail(error.clone(), wakes);
            records += piece.records;
        }
        records
    }

    /// Unpacks a compressed batch into segments of `account`, as if it had never been compressed.
    /// Where the pool has none to give it goes into its loop's scratch, if `may_borrow`, and keeps
    /// that until it is resolved. Meanwhile other batches that have to be unpacked wait, in the
    /// line for segments as well, and new ones go uncompressed. The memory of the compressed
    /// records returns to the pool.
    pub fn unpack(
        &mut self,
        pool: &BufferPool,
        account: AccountId,
        slot: &ScratchSlot,
        may_borrow: bool,
    ) -> Result<(), NotUnpacked> {
        let packed: Vec<u8> = self.record_slices().flatten().copied().collect();
        let room = slot.bytes().saturating_sub(BATCH_HEADER_LEN);
        let plain = decompress(self.codec, &packed, self.set_len_max(room));
        let mut plain = plain.map_err(|_| NotUnpacked::Damaged)?;
        if self.packed_as.is_message_set() {
            let records = records_of_message_set(&plain, self.packed_as, self.base_timestamp);
            plain = records.ok_or(NotUnpacked::Damaged)?;
        }
        let len = BATCH_HEADER_LEN + plain.len();
        if let Some(segments) = self.take_room_to_unpack(pool, account, len) {
            self.links = lay_out(segments, &plain);
        } else if may_borrow && let Some(mut scratch) = slot.lend() {
            scratch[BATCH_HEADER_LEN..len].copy_from_slice(&plain);
            self.pieces.get_or_insert_default().unpacked = Some(scratch);
            self.links.clear();
        } else {
            // Without a place in the line, senders could take whatever becomes free. (It keeps
            // nothing while the account is not writable, as no sender's does.) One batch of a lane
            // is enough: the others wait for it anyway.
            if may_borrow && self.room_to_unpack.is_none() {
                self.room_to_unpack = pool.wait(account, len).ok().map(Box::new);
            }
            return Err(NotUnpacked::ScratchIsLent);
        }
        self.room_to_unpack = None;
        (self.codec, self.packed_as) = (Codec::None, RecordFormat::Batch);
        self.len = len;
        self.records_crc = None;
        Ok(())
    }

    /// Segments for `len` bytes: those that were kept for this batch, or any that are free.
    fn take_room_to_unpack(
        &mut self,
        pool: &BufferPool,
        account: AccountId,
        len: usize,
    ) -> Option<Vec<Segment>> {
        let mut segments = Vec::new();
        // Another leader's account has another line.
        self.room_to_unpack = self.room_to_unpack.take().filter(|it| it.account() == account);
        let kept = self.room_to_unpack.as_mut();
        let is_taken = kept.is_some_and(|ticket| ticket.take_bytes(len, &mut segments))
            || pool.take_bytes(account, len, &mut segments);
        is_taken.then_some(segments)
    }
}

/// Records in segments that hold them, with room for the batch's header before them.
fn lay_out(segments: Vec<Segment>, records: &[u8]) -> Vec<Link> {
    let (mut rest, mut room_before) = (records, BATCH_HEADER_LEN);
    let links = segments.into_iter().map(|segment| {
        let (from, part) = (room_before, rest.len().min(segment.len() - room_before));
        let mut link = Link::new(segment);
        link.fill(from, &rest[..part]);
        (rest, room_before) = (&rest[part..], 0);
        link
    });
    let links = links.collect();
    assert!(rest.is_empty(), "the pool gave as much as was asked for");
    links
}

/// A batch's memory as if it were in one piece.
struct Chain<'a> {
    parts: Vec<&'a mut [u8]>,
}

impl<'a> Chain<'a> {
    fn of(batch: &'a mut Batch) -> Self {
        let unpacked = batch.pieces.as_mut().and_then(|pieces| pieces.unpacked.as_mut());
        let parts = match unpacked {
            Some(scratch) => vec![&mut scratch[..]],
            None => batch.links.iter_mut().map(|link| link.bytes_mut()).collect(),
        };
        Chain { parts }
    }

    /// The head of the record that begins at `at`.
    fn head_at(&mut self, at: usize) -> RecordHead {
        let mut bytes = [0; RECORD_HEAD_LEN_MAX];
        let len = self.read(at, &mut bytes);
        RecordHead::read(&bytes[..len]).expect("records stand where they were encoded")
    }

    /// Moves the record at `from` up to `to`, as the one at `place` of its batch. Returns its end.
    fn move_record(&mut self, from: usize, to: usize, head: &RecordHead, place: u32) -> usize {
        let mut bytes = [0; RECORD_HEAD_LEN_MAX];
        let len = head.write_at_place(&mut bytes, place);
        assert!(to + len <= from + head.len, "a record only moves towards the front");
        self.write(to, &bytes[..len]);
        self.move_up(from + head.len, to + len, head.rest);
        to + len + head.rest
    }

    fn move_up(&mut self, mut from: usize, mut to: usize, mut left: usize) {
        if from == to {
            return;
        }
        let mut bytes = [0; MOVED_AT_ONCE];
        while left > 0 {
            let part = left.min(MOVED_AT_ONCE);
            let read = self.read(from, &mut bytes[..part]);
            assert_eq!(read, part, "records stand where they were encoded");
            self.write(to, &bytes[..part]);
            (from, to, left) = (from + part, to + part, left - part);
        }
    }

    /// Copies from `at` on; returns how much there was.
    fn read(&mut self, at: usize, out: &mut [u8]) -> usize {
        let mut copied = 0;
        self.visit(at, out.len(), |part| {
            out[copied..copied + part.len()].copy_from_slice(part);
            copied += part.len();
        });
        copied
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let mut rest = bytes;
        self.visit(at, bytes.len(), |part| {
            let (now, later) = rest.split_at(part.len());
            part.copy_from_slice(now);
            rest = later;
        });
        assert!(rest.is_empty(), "a record only moves to where one was");
    }

    fn visit(&mut self, at: usize, len: usize, mut each: impl FnMut(&mut [u8])) {
        let (mut skip, mut left) = (at, len);
        for part in &mut self.parts {
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let to = part.len().min(skip + left);
            each(&mut part[skip..to]);
            left -= to - skip;
            skip = 0;
            if left == 0 {
                return;
            }
        }
    }
}
