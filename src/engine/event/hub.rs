//! Where a producer's events are put, and taken out by one thread.

use std::sync::OnceLock;
use std::task::{Context, Poll};

use super::{Event, EventRing};

/// The ring between the threads that work and the one that hands events out. It is made when
/// somebody begins to listen.
#[derive(Default)]
pub struct EventHub {
    ring: OnceLock<EventRing>,
}

impl EventHub {
    /// Somebody listens from now on: keeps at most so many events until they are handed out.
    /// Returns whether this was the first call.
    pub fn listen(&self, events_max: usize) -> bool {
        self.ring.set(EventRing::new(events_max)).is_ok()
    }

    /// Whether somebody listens: one load.
    #[inline]
    pub fn is_listened_to(&self) -> bool {
        self.ring.get().is_some()
    }

    /// Tells that something happened, if somebody listens. Under any lock, and on any thread: it
    /// wakes a thread of the producer's own, and calls nothing of the application's.
    #[inline]
    pub fn publish(&self, event: impl FnOnce() -> Event) {
        if let Some(ring) = self.ring.get()
            && let Some(own) = ring.push(event())
        {
            own.wake();
        }
    }

    /// Nothing more happens.
    pub fn end(&self) {
        if let Some(own) = self.ring.get().and_then(EventRing::end) {
            own.wake();
        }
    }

    /// By the thread that hands events out: the next one; `None` at the end.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.ring.get().map_or(Poll::Ready(None), |ring| ring.poll_next(context))
    }
}
