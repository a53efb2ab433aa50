//! Which acknowledgements the next request to a broker asks for.
//!
//! A Produce request has one `acks` for all its batches, and topics may differ in it. Lanes whose
//! topics ask for something else than the request at hand wait for another request. The kind that
//! was served longest ago then has its turn, so that none starves while others always have records.

use crate::engine::connection::{Request, RequestKind};

/// The values of `acks`: -1, 0 and 1.
const KINDS: usize = 3;

/// The turns at one broker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AcksTurns {
    /// The kind that the request at hand is for, until it has a batch. `None`: whichever comes
    /// first.
    turn: Option<i16>,
    /// Kinds that were passed over since the request at hand began.
    passed_over: [bool; KINDS],
    /// The number of the request that last served each kind.
    served: [u64; KINDS],
    requests: u64,
}

fn slot(acks: i16) -> usize {
    usize::from((acks + 1).clamp(0, 2).unsigned_abs())
}

impl AcksTurns {
    /// A request is begun. If it is the turn of a queue that was passed over for long, the kind of
    /// that queue's first lane goes before the turns of kinds.
    pub(super) fn begin_request(&mut self, is_turn_of_queue: bool) {
        let waiting = (-1..=1).filter(|&acks| self.passed_over[slot(acks)]);
        self.turn = waiting.min_by_key(|&acks| self.served[slot(acks)]);
        if is_turn_of_queue {
            self.turn = None;
        }
        self.passed_over = [false; KINDS];
    }

    /// Whether a batch that asks for `acks` may go with what is in the request. If not, its kind
    /// has its turn later.
    pub(super) fn may_join(&mut self, request: &Request, acks: i16) -> bool {
        let wanted = match request.kind {
            RequestKind::Produce { acks } if !request.batches.is_empty() => Some(acks),
            _ => self.turn,
        };
        let may = wanted.is_none_or(|wanted| wanted == acks);
        self.passed_over[slot(acks)] |= !may;
        may
    }

    /// The request goes, and asks for `acks`.
    pub(super) fn served(&mut self, acks: i16) {
        self.requests += 1;
        self.served[slot(acks)] = self.requests;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds that `count` requests are made for, while lanes of all of `waiting` always have
    /// more, the first of them always at the front of the queue.
    fn served(waiting: &[i16], count: usize) -> Vec<i16> {
        let mut turns = AcksTurns::default();
        let mut kinds = Vec::new();
        for _ in 0..count {
            turns.begin_request(false);
            let request = Request::default();
            let joins = |turns: &mut AcksTurns, acks| turns.may_join(&request, acks);
            let first: Vec<_> =
                waiting.iter().copied().filter(|&acks| joins(&mut turns, acks)).collect();
            // The first that may go makes the request one of its kind; the others wait.
            let kind = first[0];
            waiting.iter().filter(|&&acks| acks != kind).for_each(|&acks| {
                turns.passed_over[slot(acks)] = true;
            });
            turns.served(kind);
            kinds.push(kind);
        }
        kinds
    }

    #[test]
    fn no_kind_starves_while_another_always_has_records() {
        assert_eq!(served(&[-1, 1], 6), [-1, 1, -1, 1, -1, 1]);
        assert_eq!(served(&[1, 0, -1], 6), [1, -1, 0, 1, -1, 0]);
        assert_eq!(served(&[0], 3), [0, 0, 0]);
    }
}
