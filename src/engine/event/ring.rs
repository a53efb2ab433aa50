//! A bounded queue of events with one reader.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::Event;
use crate::locking::lock;

/// A queue that never holds a writer up: what it has no room for is counted, and told to the
/// reader in its place.
pub struct EventRing {
    state: Mutex<State>,
    events_max: usize,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// Events since the last one in the queue for which there was no room.
    missed: u64,
    ended: bool,
    /// Of the reader, while it waits.
    waker: Option<Waker>,
}

impl EventRing {
    /// A ring for so many events, at least one.
    pub fn new(events_max: usize) -> Self {
        EventRing { state: Mutex::default(), events_max: events_max.max(1) }
    }

    /// Adds an event. The caller wakes the reader, when it holds no lock.
    #[must_use = "the reader sleeps on"]
    pub fn push(&self, event: Event) -> Option<Waker> {
        let mut state = self.lock();
        if state.ended {
            return None;
        }
        // What was missed comes before what follows: it takes a place of its own.
        if state.events.len() + usize::from(state.missed > 0) >= self.events_max {
            // An event may itself tell of others that were missed on their way here.
            state.missed += if let Event::Missed { events } = event { events } else { 1 };
            return None;
        }
        if state.missed > 0 {
            let events = std::mem::take(&mut state.missed);
            state.events.push_back(Event::Missed { events });
        }
        state.events.push_back(event);
        state.waker.take()
    }

    /// Nothing is added any more. What is in it can still be read.
    #[must_use = "the reader sleeps on"]
    pub fn end(&self) -> Option<Waker> {
        let mut state = self.lock();
        state.ended = true;
        state.waker.take()
    }

    /// The next event; `None` once the ring has ended and is empty.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.lock();
        if let Some(event) = state.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if state.missed > 0 {
            let events = std::mem::take(&mut state.missed);
            return Poll::Ready(Some(Event::Missed { events }));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Wakers are only cloned and taken under it, which cannot leave it half changed.
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(ring: &EventRing) -> Option<Event> {
        match ring.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => panic!("nothing is there"),
        }
    }

    fn broker(event: Option<Event>) -> i32 {
        match event {
            Some(Event::Writable { broker }) => broker,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let ring = EventRing::new(3);
        for broker in 0..10 {
            assert!(ring.push(Event::Writable { broker }).is_none());
        }
        assert_eq!([0; 3].map(|_| broker(next(&ring))), [0, 1, 2]);
        assert!(ring.push(Event::Writable { broker: 10 }).is_none());
        assert!(matches!(next(&ring), Some(Event::Missed { events: 7 })));
        assert_eq!(broker(next(&ring)), 10);
        for broker in 0..5 {
            assert!(ring.push(Event::Writable { broker }).is_none());
        }
        // What another ring has missed before counts as it is.
        assert!(ring.push(Event::Missed { events: 40 }).is_none());
        assert!(ring.end().is_none());
        assert_eq!([0; 3].map(|_| broker(next(&ring))), [0, 1, 2]);
        assert!(matches!(next(&ring), Some(Event::Missed { events: 42 })));
        assert!(next(&ring).is_none());
    }
}
