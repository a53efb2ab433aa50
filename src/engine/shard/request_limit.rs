//! How long requests to one broker may be, after connections were lost over them.
//!
//! A broker that finds a request longer than its `socket.request.max.bytes` closes the connection
//! without a word, and proxies do the same. The same batches would be lost again for ever. So once
//! two connections were lost while the broker had the same batches to answer next, requests are
//! halved and go one at a time, until one is answered or, with acks=0, written. The length that was
//! lost bounds requests for ten minutes; one that no broker would refuse, until the first answer: a
//! broker that ended twice by chance looks the same.

use std::fmt;

/// Losses in a row behind the same batches after which requests shrink.
pub(super) const LOSSES_MAX: u32 = 2;

/// No broker or proxy refuses requests for being this short, in bytes.
const SHORT: usize = 64 << 10;

/// How long a length that was lost is not tried again, in nanoseconds.
const REMEMBERED_FOR: u64 = 10 * 60 * 1_000_000_000;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimit {
    /// The longest request in bytes that is made, single batches aside.
    bytes: usize,
    /// The shortest request that was lost twice.
    lost: usize,
    /// Nothing was answered since the last loss: requests go one at a time.
    alone: bool,
    /// When all this is forgotten, in nanoseconds, monotonic.
    until: u64,
}

impl RequestLimit {
    pub(super) const NONE: RequestLimit =
        RequestLimit { bytes: usize::MAX, lost: usize::MAX, alone: false, until: u64::MAX };

    /// The longest request in bytes, where the configuration allows `configured`.
    pub(super) fn bytes(&self, configured: usize) -> usize {
        self.bytes.min(configured)
    }

    /// Requests in flight, where the configuration allows `configured`.
    pub(super) fn in_flight_max(&self, configured: usize) -> usize {
        if self.alone { 1 } else { configured }
    }

    /// A request of `len` bytes was lost [`LOSSES_MAX`] times or more.
    pub(super) fn handle_loss(&mut self, now: u64, len: usize) {
        if planted!(RequestsNeverShrink) {
            return;
        }
        self.lost = self.lost.min(len);
        self.bytes = self.bytes.min(len / 2).max(1);
        self.alone = true;
        self.until = now.saturating_add(if len < SHORT { 0 } else { REMEMBERED_FOR });
    }

    /// A request of `len` bytes was answered.
    pub(super) fn handle_answer(&mut self, now: u64, len: usize) {
        self.alone = false;
        if self.until <= now {
            *self = RequestLimit::NONE;
        } else if len > self.bytes / 2 && self.bytes.saturating_mul(2) < self.lost {
            // It was long enough to say that this much gets through.
            self.bytes = self.bytes.saturating_mul(2);
        }
    }
}

/// What to tell of a request that was lost again and again, in bytes.
pub(super) struct LostRequest {
    pub(super) losses: u32,
    pub(super) len: usize,
}

impl fmt::Display for LostRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostRequest { losses, len } = self;
        write!(
            f,
            "the connection was lost {losses} times in a row over a request of {len} bytes: if the \
             broker (socket.request.max.bytes) or a proxy takes only shorter ones, lower \
             max_request_size (max.request.size) and batch_size (batch.size)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_request_that_is_lost_twice_is_halved_until_it_gets_through() {
        let mut limit = RequestLimit::NONE;
        assert_eq!((limit.bytes(MIB), limit.in_flight_max(5)), (MIB, 5));
        limit.handle_loss(0, MIB);
        assert_eq!((limit.bytes(MIB), limit.in_flight_max(5)), (MIB / 2, 1));
        limit.handle_loss(0, MIB / 2);
        assert_eq!((limit.bytes(MIB), limit.in_flight_max(5)), (MIB / 4, 1));
        limit.handle_answer(SECOND, MIB / 4);
        assert_eq!(limit.in_flight_max(5), 5);
        assert_eq!(limit.bytes(MIB), MIB / 4, "twice that was lost");
        limit.handle_answer(REMEMBERED_FOR, MIB / 4);
        assert_eq!(limit.bytes(MIB), MIB, "the broker's limit may have been raised");
    }

    #[test]
    fn requests_grow_again_up_to_the_length_that_was_lost() {
        let mut limit = RequestLimit::NONE;
        for len in [MIB, 400_000, 200_000] {
            limit.handle_loss(0, len);
        }
        assert_eq!(limit.bytes(MIB), 100_000);
        limit.lost = MIB;
        limit.handle_answer(SECOND, 1_000);
        assert_eq!(limit.bytes(MIB), 100_000, "a short request says nothing of longer ones");
        for _ in 0..10 {
            limit.handle_answer(SECOND, limit.bytes(MIB));
        }
        assert_eq!(limit.bytes(MIB), 800_000);
    }

    #[test]
    fn a_short_request_that_was_lost_by_chance_is_forgotten_with_the_next_answer() {
        let mut limit = RequestLimit::NONE;
        limit.handle_loss(0, 300);
        assert_eq!((limit.bytes(MIB), limit.in_flight_max(5)), (150, 1));
        limit.handle_answer(SECOND, 100);
        assert_eq!((limit.bytes(MIB), limit.in_flight_max(5)), (MIB, 5));
    }
}
