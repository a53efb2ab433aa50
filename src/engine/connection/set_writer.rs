//! Writing a request whose batches go as message sets.
//!
//! The sets are made here while the request is written, a window at a time, so that a batch has its
//! records in memory once only.

use super::request::Request;
use crate::engine::protocol::records::{MESSAGE_HEAD_MAX, MessageSetCursor};

/// Bytes of a request that are made at once. Each connection to an old broker keeps as many.
const WINDOW: usize = 64 << 10;

/// What comes next of a request.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The framing from this place on, up to the splice of this batch, or the request's end.
    Framing { from: usize, batch: usize },
    /// The set of this batch.
    Set { batch: usize, cursor: MessageSetCursor },
}

/// The window over the first request that is not wholly written.
#[derive(Debug, Default)]
pub(super) struct SetWriter {
    /// Which request the window is of.
    correlation: Option<i32>,
    bytes: Vec<u8>,
    /// Where in the request the window ends.
    end: usize,
    next: Option<Next>,
}

impl SetWriter {
    /// Moves the window on if all of it is written.
    pub(super) fn advance(&mut self, request: &Request) {
        if self.correlation != Some(request.correlation) {
            self.correlation = Some(request.correlation);
            self.bytes.clear();
            (self.end, self.next) = (0, Some(Next::Framing { from: 0, batch: 0 }));
        }
        if request.written() < self.end {
            return;
        }
        self.bytes.clear();
        self.bytes.reserve_exact(WINDOW);
        while let Some(next) = self.next
            && self.bytes.len() + MESSAGE_HEAD_MAX <= WINDOW
        {
            self.next = self.make(request, next);
        }
        self.end += self.bytes.len();
    }

    /// The bytes of the window that are not written.
    pub(super) fn unwritten(&self, request: &Request) -> &[u8] {
        let left = self.end - request.written();
        &self.bytes[self.bytes.len() - left..]
    }

    /// Makes what comes next, as far as there is room. Returns what comes behind it.
    fn make(&mut self, request: &Request, next: Next) -> Option<Next> {
        let room = WINDOW - self.bytes.len();
        match next {
            Next::Framing { from, batch } => {
                let splice = request.splices.get(batch).copied();
                let to = splice.unwrap_or(request.framing.len()).min(from + room);
                self.bytes.extend_from_slice(&request.framing[from..to]);
                if splice == Some(to) {
                    return Some(Next::Set { batch, cursor: MessageSetCursor::default() });
                }
                (to < request.framing.len()).then_some(Next::Framing { from: to, batch })
            }
            Next::Set { batch, mut cursor } => {
                let set = &request.batches[batch].batch;
                let bytes = &mut self.bytes;
                let at_end = set.write_message_set(request.format(), &mut cursor, bytes, room);
                if !at_end {
                    return Some(Next::Set { batch, cursor });
                }
                Some(Next::Framing { from: request.splices[batch], batch: batch + 1 })
            }
        }
    }
}
