//! The open batch of a lane: what senders do under the lane's `open` lock.

use super::batch::Opening;
use super::tail::{AppendContext, LaneTail};
use super::{Batch, CellHandle, Destination, IssuedHandle};
use crate::engine::buffer::{AccountId, BufferPool, Class, Segment, WaitTicket};
use crate::engine::protocol::records::{
    BATCH_HEADER_LEN, RecordParts, RecordSize, single_record_batch_size,
};

/// Under the lane's `open` lock.
#[derive(Default)]
pub struct OpenState {
    batch: Option<Box<Batch>>,
    /// The number of the next batch to be opened; all below it exist or existed.
    pub next_number: u64,
    /// Set by `close`: nothing is appended any more.
    pub closed: bool,
    /// Set when the lane's head is gone: not even what was accepted before is appended.
    pub ended: bool,
    /// Length of the last sealed batch: a lane that filled it starts with a larger segment.
    last_len: usize,
    /// Segments of the last sealed batch: the next one is expected to need as many.
    last_links: usize,
}

/// Segments that must be taken from the pool before the append can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedRoom {
    /// The least that is needed, contiguous if it fits one chunk, in bytes.
    pub bytes: usize,
    /// The class that suits the batch as it grows.
    pub class: Class,
}

impl NeedRoom {
    /// No bytes: the account's level has to be low again.
    pub const LEVEL: NeedRoom = NeedRoom { bytes: 0, class: Class::Kib4 };

    /// Room for `bytes`, best in a segment that holds `suits` bytes.
    pub fn new(bytes: usize, suits: usize) -> Self {
        NeedRoom { bytes, class: Class::for_bytes(suits).unwrap_or(Class::Kib64) }
    }
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Take this much and call again.
    NeedRoom(NeedRoom),
    /// The lane was closed.
    Closed,
}

impl OpenState {
    /// Appends one record, sealing and opening batches as needed. `spare` holds segments that were
    /// taken for it; what is not used stays there. `news` is set if a batch was opened or sealed:
    /// the lane's loop must hear of it.
    #[inline]
    pub fn append(
        &mut self,
        lane: &LaneTail,
        context: &AppendContext<'_>,
        timestamp: i64,
        parts: &RecordParts<'_>,
        spare: &mut Vec<Segment>,
        news: &mut bool,
    ) -> Result<CellHandle, Refusal> {
        if let Some(batch) = &mut self.batch
            && let Some(size) = batch.size_of_next(timestamp, parts)
            && batch.len() + size.total <= context.settings.batch_size
        {
            if size.total <= batch.tail_room() {
                return Ok(batch.append(timestamp, size, parts));
            }
            return grow(batch, timestamp, size, parts, spare);
        }
        // Seal the full batch before looking for room: it may hold what the pool has left, and a
        // sender that waited for room first would wait for its own batch.
        *news |= self.seal_into(lane);
        self.append_to_new(lane, context, timestamp, parts, spare, news)
    }

    /// Appends a small record without headers to the open batch, if there is one that surely has
    /// room for it. `None`: nothing was appended.
    #[inline(always)]
    pub fn append_plain(
        &mut self,
        timestamp: i64,
        payloads: (Option<&[u8]>, Option<&[u8]>),
        batch_size: usize,
    ) -> Option<IssuedHandle> {
        self.batch.as_mut()?.append_plain(timestamp, payloads, batch_size)
    }

    #[cold]
    #[inline(never)]
    fn append_to_new(
        &mut self,
        lane: &LaneTail,
        context: &AppendContext<'_>,
        timestamp: i64,
        parts: &RecordParts<'_>,
        spare: &mut Vec<Segment>,
        news: &mut bool,
    ) -> Result<CellHandle, Refusal> {
        if self.ended || self.closed && context.accepted_at.is_none() {
            return Err(Refusal::Closed);
        }
        let needed = single_record_batch_size(parts);
        let room: usize = spare.iter().map(|segment| segment.len()).sum();
        if room < needed {
            let suits = needed.max(self.last_len / 4);
            return Err(Refusal::NeedRoom(NeedRoom::new(needed, suits)));
        }
        *news = true;
        let opened_at = context.accepted_at.unwrap_or_else(|| context.clock.monotonic());
        let opening = self.opening(lane, context, opened_at, timestamp);
        let mut batch = Batch::open(opening, spare.remove(0), self.last_links.max(1));
        let size = batch
            .size_of_next(timestamp, parts)
            .expect("send() checked the record against max_request_size");
        let handle = if size.total <= batch.tail_room() {
            batch.append(timestamp, size, parts)
        } else {
            let mut room = batch.tail_room();
            while room < size.total {
                let segment = spare.remove(0);
                room += segment.len();
                batch.push_segment(segment);
            }
            batch.append_spanning(0, timestamp, size, parts)
        };
        let full = batch.len() >= context.settings.batch_size;
        self.batch = Some(batch);
        lane.set_open_since(Some(opened_at));
        if full {
            self.seal_into(lane);
        }
        Ok(handle)
    }

    /// Appends records that were sent together, as a batch of their own, which is sealed at once.
    /// `total` is what [`together_size`] says. Else as [`OpenState::append`].
    pub fn append_together(
        &mut self,
        lane: &LaneTail,
        context: &AppendContext<'_>,
        (records, total): (&[(i64, RecordParts<'_>)], usize),
        spare: &mut Vec<Segment>,
        news: &mut bool,
    ) -> Result<Vec<CellHandle>, Refusal> {
        *news |= self.seal_into(lane);
        if self.ended || self.closed && context.accepted_at.is_none() {
            return Err(Refusal::Closed);
        }
        let room: usize = spare.iter().map(|segment| segment.len()).sum();
        if room < total {
            return Err(Refusal::NeedRoom(NeedRoom::new(total, total)));
        }
        *news = true;
        let base_timestamp = records.first().map_or(0, |(timestamp, _)| *timestamp);
        let opened_at = context.accepted_at.unwrap_or_else(|| context.clock.monotonic());
        let opening = self.opening(lane, context, opened_at, base_timestamp);
        let mut batch = Batch::open(opening, spare.remove(0), 1 + spare.len());
        let handles = batch.append_together(records, spare);
        // As if it had lingered no time at all: nothing joins it.
        let (last_len, last_links) = (self.last_len, self.last_links);
        self.batch = Some(batch);
        self.seal_into(lane);
        (self.last_len, self.last_links) = (last_len, last_links);
        Ok(handles)
    }

    /// What the lane's next batch is opened with.
    fn opening(
        &mut self,
        lane: &LaneTail,
        context: &AppendContext<'_>,
        opened_at: u64,
        base_timestamp: i64,
    ) -> Opening {
        let destination =
            Destination { topic: lane.topic.clone(), partition: Some(lane.partition) };
        let opening = Opening {
            cell: context.cells.allocate(destination),
            number: self.next_number,
            deadline: opened_at.saturating_add(context.settings.delivery_timeout),
            base_timestamp,
        };
        self.next_number += 1;
        lane.set_opened(self.next_number);
        opening
    }

    /// Moves the open batch, if it holds a record, to the lane's FIFO. Returns whether it did.
    pub fn seal_into(&mut self, lane: &LaneTail) -> bool {
        match self.batch.take() {
            Some(batch) => {
                self.last_len = batch.len();
                self.last_links = batch.links().len();
                lane.set_open_since(None);
                lane.push_sealed(batch);
                true
            }
            None => false,
        }
    }
}

/// Bytes of a batch that holds these records, its header included. `None` where no batch can.
pub fn together_size(records: &[(i64, RecordParts<'_>)]) -> Option<usize> {
    let (base, _) = records.first()?;
    let mut total = BATCH_HEADER_LEN;
    for (index, (timestamp, parts)) in records.iter().enumerate() {
        let delta = timestamp.checked_sub(*base)?;
        let size = RecordSize::of(u32::try_from(index).ok()?, delta, parts)?;
        total = total.checked_add(size.total)?;
    }
    Some(total)
}

/// Continues an open batch with fresh segments.
#[cold]
#[inline(never)]
fn grow(
    batch: &mut Batch,
    timestamp: i64,
    size: RecordSize,
    parts: &RecordParts<'_>,
    spare: &mut Vec<Segment>,
) -> Result<CellHandle, Refusal> {
    if let Some(position) = spare.iter().position(|segment| segment.len() >= size.total) {
        batch.push_segment(spare.swap_remove(position));
        return Ok(batch.append(timestamp, size, parts));
    }
    let room: usize = spare.iter().map(|segment| segment.len()).sum();
    if room < size.total {
        // Each further segment at least as large as all before it: 4, 4, 16, 64, 64 KiB, …
        let suits = batch.segment_bytes().max(size.total);
        return Err(Refusal::NeedRoom(NeedRoom::new(size.total, suits)));
    }
    let first = batch.links().len();
    let mut left = size.total;
    while left > 0 {
        let segment = spare.remove(0);
        left = left.saturating_sub(segment.len());
        batch.push_segment(segment);
    }
    Ok(batch.append_spanning(first, timestamp, size, parts))
}

/// Takes the room that an append needs: one segment if there is one that holds it, else several.
/// Returns false, and takes nothing, if there is not enough.
pub fn take_room(
    pool: &BufferPool,
    account: AccountId,
    need: NeedRoom,
    out: &mut Vec<Segment>,
) -> bool {
    if need.bytes <= need.class.bytes()
        && let Some(segment) = pool.take(account, need.bytes, need.class)
    {
        out.push(segment);
        return true;
    }
    pool.take_bytes(account, need.bytes, out)
}

/// The same, of the bytes kept for a ticket that is ready.
pub fn take_room_through(ticket: &mut WaitTicket, need: NeedRoom, out: &mut Vec<Segment>) -> bool {
    if need.bytes <= need.class.bytes()
        && let Some(segment) = ticket.take(need.bytes, need.class)
    {
        out.push(segment);
        return true;
    }
    ticket.take_bytes(need.bytes, out)
}
