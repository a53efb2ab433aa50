//! How other threads reach a shard: a queue of lane ids, a queue of control messages, a bell.

use std::sync::{Arc, OnceLock};

use super::View;
use super::explain::Question;
use crate::engine::batch::{LaneHead, LaneId, LaneTail, ShardId, Unsent};
use crate::engine::sync::loom::{AtomicU64, Ordering};
use crate::engine::sync::{LaneQueue, Mailbox};
use crate::error::DeliveryErrorCause;

/// A message to a shard; rare, so its queue may allocate.
pub enum Control {
    /// A newer picture of the cluster.
    View(Arc<View>),
    /// A lane that this shard owns from now on.
    Lane(Box<LaneHead>),
    /// These lanes were given up: the shard drops those that it owns.
    GivenUp(Arc<[LaneId]>),
    /// A posted lane that found the lane queue full.
    Posted(LaneId),
    /// Somebody asks why records wait.
    Explain(Question),
    /// Everything unresolved fails now. What is certainly in no log is left with the second, if
    /// somebody wants it.
    FailAll(DeliveryErrorCause, Option<Arc<Unsent>>),
    /// What waits fails now: of one topic, or of all.
    Purge(PurgeOrder),
    /// The producer is done: the shard ends, and fails what it still has.
    Stop,
}

/// What is to be thrown away.
#[derive(Clone)]
pub struct PurgeOrder {
    /// The lanes, and the number of the first batch of each that stays: those before it were sealed
    /// when the purge began.
    pub below: Arc<[(Arc<LaneTail>, u64)]>,
    /// Also what is in flight.
    pub in_flight: bool,
}

/// The senders' side of a shard.
pub struct ShardPort {
    lanes: LaneQueue,
    /// Ends with the shard.
    control: Mailbox<Control>,
    /// The generation of the view that the shard goes by.
    applied: AtomicU64,
}

impl ShardPort {
    /// A port for at most `lanes_max` lanes, on the loop that `control` belongs to.
    pub fn new(lanes_max: usize, control: Mailbox<Control>) -> Arc<Self> {
        let (lanes, applied) = (LaneQueue::new(lanes_max), AtomicU64::new(0));
        Arc::new(ShardPort { lanes, control, applied })
    }

    /// Tells the shard to look at a lane whose `posted` flag the caller has set.
    #[inline]
    pub fn post(&self, lane: &LaneTail) {
        // Full only with stale ids of lanes that left and came back: see `LaneQueue`. The id must
        // not be lost, since no sender posts the lane again while its flag is set.
        match self.lanes.push(lane.id.0) {
            Ok(()) => self.ring(),
            Err(id) => self.control.send(Control::Posted(LaneId(id))),
        }
    }

    /// Sends a control message. Once the shard has ended it is dropped, and with it a lane's head,
    /// which fails what is in it.
    pub fn send(&self, message: Control) {
        self.control.send(message);
    }

    /// The shard has ended: drops what was sent to it, now and from now on.
    pub fn close(&self) {
        self.control.end();
    }

    /// Has the loop take a turn.
    #[inline]
    pub fn ring(&self) {
        self.control.ring();
    }

    /// By the loop: it goes by the view of this generation, or a newer one, from now on.
    pub fn set_applied(&self, generation: u64) {
        // Behind what the view changed: accounts that lanes name, above all.
        self.applied.store(generation, Ordering::Release);
    }

    /// The generation of the view that the shard goes by.
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// By the loop: the next control message.
    pub fn pop_control(&self) -> Option<Control> {
        self.control.pop()
    }

    /// By the loop: hands out at most `max` posted lanes. Returns how many there were.
    pub fn drain_lanes(&self, max: usize, mut visit: impl FnMut(u32)) -> usize {
        self.lanes.drain(max, &mut visit)
    }

    /// By the loop, after it announced its sleep: whether something came meanwhile.
    pub fn has_news(&self) -> bool {
        !self.lanes.is_empty() || !self.control.is_empty()
    }
}

/// The ports of a producer's shards: append-only, read without a lock.
pub struct PortTable {
    ports: Box<[OnceLock<Arc<ShardPort>>]>,
}

impl PortTable {
    /// A table for at most `shards_max` shards.
    pub fn new(shards_max: usize) -> Arc<Self> {
        Arc::new(PortTable { ports: (0..shards_max).map(|_| OnceLock::new()).collect() })
    }

    /// Adds a shard's port.
    pub fn set(&self, shard: ShardId, port: Arc<ShardPort>) {
        let fresh = self.ports[usize::from(shard.0)].set(port).is_ok();
        assert!(fresh, "a shard is added once");
    }

    /// A shard's port, if the shard exists.
    #[inline]
    pub fn port(&self, shard: ShardId) -> Option<&Arc<ShardPort>> {
        self.ports.get(usize::from(shard.0))?.get()
    }

    /// Posts a lane to its owner.
    #[inline]
    pub fn post(&self, lane: &LaneTail) {
        let port = self.port(lane.owner());
        port.expect("a lane's owner is a shard that exists").post(lane);
    }

    /// Has a shard's loop take a turn.
    pub fn ring(&self, shard: ShardId) {
        if let Some(port) = self.port(shard) {
            port.ring();
        }
    }

    /// Has every loop take a turn: memory is short, and sleeping loops hold lingering batches.
    pub fn ring_all(&self) {
        for port in self.iter() {
            port.ring();
        }
    }

    /// Every port.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ShardPort>> {
        self.ports.iter().filter_map(OnceLock::get)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::engine::buffer::AccountId;
    use crate::engine::protocol::PartitionId;
    use crate::engine::sync::{Doorbell, WakeLoop};

    /// Counts.
    #[derive(Default)]
    struct CountingWaker(AtomicUsize);

    impl WakeLoop for CountingWaker {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn port_for(lanes_max: usize) -> Arc<ShardPort> {
        let waker = Arc::new(CountingWaker::default());
        ShardPort::new(lanes_max, Mailbox::new(Arc::default(), waker))
    }

    fn head() -> Box<LaneHead> {
        head_of(0)
    }

    fn head_of(id: u32) -> Box<LaneHead> {
        let id = LaneId(id);
        let account = AccountId::LEADERLESS;
        LaneHead::new(LaneTail::new(
            id,
            ("t".into(), Arc::default()),
            PartitionId(0),
            ShardId(0),
            account,
        ))
    }

    #[test]
    fn c46_a_head_sent_to_a_shard_that_has_ended_fails_what_is_in_it() {
        let port = port_for(4);
        let (before, after) = (head(), head());
        let lanes = [before.tail.clone(), after.tail.clone()];
        port.send(Control::Lane(before));
        assert_eq!(lanes[0].resolved(), 0);
        port.close();
        port.send(Control::Lane(after));
        assert_eq!(lanes.each_ref().map(|lane| lane.resolved()), [u64::MAX; 2]);
        assert!(port.pop_control().is_none());
    }

    #[test]
    fn whatever_comes_wakes_a_loop_that_sleeps_and_no_other() {
        let (bell, waker) = (Arc::new(Doorbell::new()), Arc::new(CountingWaker::default()));
        let port = ShardPort::new(4, Mailbox::new(bell.clone(), waker.clone()));
        let lane = head().tail.clone();
        let actions: [&dyn Fn(); 3] =
            [&|| port.post(&lane), &|| port.send(Control::Stop), &|| port.ring()];
        for (index, act) in actions.iter().enumerate() {
            act();
            assert_eq!(waker.0.load(Ordering::Relaxed), index, "it is awake");
            bell.prepare_to_sleep();
            act();
            assert_eq!(waker.0.load(Ordering::Relaxed), index + 1);
        }
    }

    #[test]
    fn a_lane_that_finds_the_queue_full_is_posted_all_the_same() {
        let port = port_for(2);
        (0..40).for_each(|id| port.post(&head_of(id).tail));
        let mut posted = Vec::new();
        while port.has_news() {
            port.drain_lanes(100, |id| posted.push(id));
            match port.pop_control() {
                Some(Control::Posted(id)) => posted.push(id.0),
                Some(_) => panic!("nothing else was sent"),
                None => {}
            }
        }
        posted.sort_unstable();
        assert_eq!(posted, (0..40).collect::<Vec<_>>());
    }
}
