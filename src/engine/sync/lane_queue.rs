//! The lock-free queue of a shard: ids of lanes that have something.

use std::fmt;

use crossbeam_queue::ArrayQueue;

/// Lane ids from any number of senders to one event loop. It carries no records and no order: those
/// are in the lane.
///
/// Each lane's `posted` flag keeps senders from pushing an id twice, so a queue with room for every
/// lane of the producer is full only in one rare case: a lane that left for another shard and came
/// back may have a stale id in the queue besides its present one.
pub struct LaneQueue {
    ids: ArrayQueue<u32>,
}

impl LaneQueue {
    /// A queue for `lanes_max` ids; takes its 16 bytes for each of them now and no memory later.
    ///
    /// # Panics
    /// If `lanes_max` is 0.
    pub fn new(lanes_max: usize) -> Self {
        Self { ids: ArrayQueue::new(lanes_max) }
    }

    /// Posts a lane. The caller has set the lane's `posted` flag, and rings the loop's
    /// [`Doorbell`](super::Doorbell) afterwards.
    ///
    /// # Errors
    /// Hands the id back if the queue is full. The caller must post it another way, as `ShardPort`
    /// does: the flag is set, so nobody else would.
    #[inline]
    pub fn push(&self, lane: u32) -> Result<(), u32> {
        self.ids.push(lane)
    }

    /// Takes up to `max` ids, oldest first, and returns how many there were. `visit` clears the
    /// lane's `posted` flag before it looks at the lane.
    pub fn drain(&self, max: usize, mut visit: impl FnMut(u32)) -> usize {
        for drained in 0..max {
            match self.ids.pop() {
                Some(lane) => visit(lane),
                None => return drained,
            }
        }
        max
    }

    /// Whether no lane is posted. A loop asks once more between
    /// [`prepare_to_sleep`](super::Doorbell::prepare_to_sleep) and its sleep.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl fmt::Debug for LaneQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneQueue")
            .field("posted", &self.ids.len())
            .field("lanes_max", &self.ids.capacity())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn drains_in_order_up_to_the_limit() {
        let queue = LaneQueue::new(4);
        for lane in 0..4 {
            queue.push(lane).expect("it has room for four");
        }
        assert_eq!(queue.push(9), Err(9));
        let mut seen = Vec::new();
        assert_eq!(queue.drain(3, |lane| seen.push(lane)), 3);
        assert!(!queue.is_empty());
        assert_eq!(queue.drain(3, |lane| seen.push(lane)), 1);
        assert_eq!(seen, [0, 1, 2, 3]);
        assert!(queue.is_empty());
        assert_eq!(queue.drain(3, |_| unreachable!()), 0);
    }
}
