//! What a connection wrote that no broker confirms: requests with acks=0.

/// Records are counted by spans of this length, in nanoseconds. What counts as recent is the
/// present span and the one before it, so the last 15 to 30 s. The kernel gives up a connection
/// that carries acks=0 only after `request_timeout`, 30 s by default: what was written earlier has
/// reached the broker, or the connection would be gone.
const SPAN: u64 = 15_000_000_000;

/// Records written with acks=0 over one connection. A broker says that it refused some of them by
/// closing the connection, and in no other way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unconfirmed {
    first_at: Option<u64>,
    span_began: u64,
    in_span: u64,
    in_span_before: u64,
    /// Of the last request that was counted.
    last_correlation: i32,
}

impl Unconfirmed {
    /// So many records were written, with a request of this correlation id.
    pub(super) fn add(&mut self, now: u64, correlation: i32, records: u64) {
        self.last_correlation = correlation;
        self.first_at.get_or_insert(now);
        let passed = now.saturating_sub(self.span_began) / SPAN;
        if passed > 0 {
            self.in_span_before = if passed == 1 { self.in_span } else { 0 };
            self.in_span = 0;
            self.span_began = now - now % SPAN;
        }
        self.in_span += records;
    }

    /// A request was answered. A broker takes the requests of a connection in their order: if all
    /// that was counted went before that request, the broker has refused none of it.
    pub(super) fn handle_answer(&mut self, correlation: i32) {
        if correlation.wrapping_sub(self.last_correlation) > 0 {
            *self = Unconfirmed::default();
        }
    }

    /// Whether any were.
    pub fn is_any(&self) -> bool {
        self.first_at.is_some()
    }

    /// Whether the connection has outlived the first of them by so long: the broker took it.
    pub fn has_lasted(&self, now: u64, time: u64) -> bool {
        self.first_at.is_some_and(|first| now.saturating_sub(first) > time)
    }

    /// How many were written in the present span and the one before it.
    pub fn recent(&self, now: u64) -> u64 {
        match now.saturating_sub(self.span_began) / SPAN {
            0 => self.in_span + self.in_span_before,
            1 => self.in_span,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c47_what_was_written_lately_is_counted() {
        let mut unconfirmed = Unconfirmed::default();
        assert!(!unconfirmed.is_any() && !unconfirmed.has_lasted(u64::MAX, 0));
        unconfirmed.add(100 * SPAN + 5, 1, 3);
        unconfirmed.add(100 * SPAN + 6, 2, 4);
        assert!(unconfirmed.is_any());
        assert_eq!(unconfirmed.recent(100 * SPAN + 7), 7);
        unconfirmed.add(101 * SPAN, 3, 10);
        assert_eq!(unconfirmed.recent(101 * SPAN + 1), 17);
        assert_eq!(unconfirmed.recent(102 * SPAN), 10);
        assert_eq!(unconfirmed.recent(103 * SPAN), 0);
        unconfirmed.add(110 * SPAN, 4, 1);
        assert_eq!(unconfirmed.recent(110 * SPAN), 1);
        assert!(unconfirmed.has_lasted(100 * SPAN + 8, 2));
        assert!(!unconfirmed.has_lasted(100 * SPAN + 7, 2));
    }

    #[test]
    fn c47_an_answer_proves_what_was_written_before_its_request() {
        let mut unconfirmed = Unconfirmed::default();
        unconfirmed.add(5, 7, 3);
        unconfirmed.handle_answer(6);
        assert_eq!((unconfirmed.is_any(), unconfirmed.recent(6)), (true, 3));
        unconfirmed.handle_answer(8);
        assert_eq!((unconfirmed.is_any(), unconfirmed.recent(6)), (false, 0));
    }
}
