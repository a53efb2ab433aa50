//! Loom models of senders against loops: the real lanes, heads and ports, and a loop that takes
//! its turns as [`Shard`] does. `RUSTFLAGS="--cfg loom" cargo test --release --lib interleavings`

use std::sync::Arc;
use std::task::Waker;

use loom::thread;

use super::*;
use crate::engine::batch::{
    AppendContext, Cells, FlushWaiters, LaneHead, LaneId, LaneTail, MonotonicClock, ShardId,
    TopicSettings,
};
use crate::engine::buffer::{AccountId, BufferPool, BufferPoolOptions, CHUNK_BYTES, Class};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::engine::sync::loom::{AtomicBool, Ordering};
use crate::engine::sync::{Doorbell, Mailbox, WakeLoop};

fn model(bound: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(test);
}

struct StandsStill;

impl MonotonicClock for StandsStill {
    fn monotonic(&self) -> u64 {
        1
    }
}

/// Remembers that it was called.
struct Woken(AtomicBool);

impl WakeLoop for Woken {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A producer's memory, one lane, and the ports of two shards.
struct World {
    pool: BufferPool,
    cells: Cells,
    lane: Arc<LaneTail>,
    ports: Arc<PortTable>,
    bells: [Arc<Doorbell>; 2],
    woken: [Arc<Woken>; 2],
}

impl World {
    fn new() -> (Arc<World>, Box<LaneHead>) {
        let bytes = 2 * CHUNK_BYTES;
        let options = BufferPoolOptions { bytes, accounts_max: 3, ..Default::default() };
        let pool = BufferPool::new(&options).expect("a small pool can be mapped");
        let settings = TopicSettings {
            batch_size: CHUNK_BYTES,
            delivery_timeout: 100,
            ..TopicSettings::default()
        };
        let lane = LaneTail::new(
            LaneId(0),
            ("t".into(), Arc::new(settings)),
            PartitionId(0),
            ShardId(0),
            AccountId::LEADERLESS,
        );
        let ports = PortTable::new(2);
        let bells = [(); 2].map(|()| Arc::new(Doorbell::new()));
        let woken = [(); 2].map(|()| Arc::new(Woken(AtomicBool::new(false))));
        for shard in 0..2 {
            let control = Mailbox::new(bells[shard].clone(), woken[shard].clone());
            ports.set(ShardId(shard as u16), ShardPort::new(1, control));
        }
        let head = LaneHead::new(lane.clone());
        (Arc::new(World { pool, cells: Cells::new(), lane, ports, bells, woken }), head)
    }

    /// `Topic::send`, as far as it concerns loops.
    fn send(&self) {
        let context = AppendContext {
            settings: &self.lane.settings,
            cells: &self.cells,
            clock: &StandsStill,
            accepted_at: None,
        };
        let mut post = false;
        let issued = self.lane.append_plain(0, None, Some(b"v"), &mut post);
        if post {
            self.ports.post(&self.lane);
        }
        if let Some(issued) = issued {
            return drop(issued.into_handle(0));
        }
        let parts = RecordParts { key: None, value: Some(b"v"), headers: &[] };
        let segment = self.pool.take_one(AccountId::LEADERLESS, Class::Kib4);
        let mut spare = vec![segment.expect("the pool is large enough")];
        let appended = self.lane.append(&context, 0, &parts, &mut spare);
        appended.result.map(drop).expect("it is open, and has room");
        if appended.post {
            self.ports.post(&self.lane);
        }
    }

    fn port(&self, shard: usize) -> &ShardPort {
        self.ports.port(ShardId(shard as u16)).expect("both are set")
    }
}

/// A loop's own state.
struct Loop {
    world: Arc<World>,
    shard: usize,
    head: Option<Box<LaneHead>>,
    records: u32,
    /// A batch to be sealed was held by a sender, which posts again.
    asked: bool,
}

impl Loop {
    fn new(world: &Arc<World>, shard: usize, head: Option<Box<LaneHead>>) -> Loop {
        Loop { world: world.clone(), shard, head, records: 0, asked: false }
    }

    /// Messages, then posted lanes: `EventLoop::drive`, `Shard::handle_lane`,
    /// `Shard::handle_posted`.
    fn turn(&mut self) {
        let world = self.world.clone();
        let port = world.port(self.shard);
        while let Some(message) = port.pop_control() {
            match message {
                Control::Lane(head) => {
                    head.tail.clear_posted();
                    self.head = Some(head);
                    self.examine();
                }
                Control::Posted(_) => self.posted(),
                _ => unreachable!("nothing else is sent here"),
            }
        }
        port.drain_lanes(8, |_| self.posted());
    }

    fn posted(&mut self) {
        if let Some(head) = &self.head {
            head.tail.clear_posted();
            self.examine();
        }
    }

    /// No linger: what is there is sealed and taken.
    fn examine(&mut self) {
        let lane = &self.head.as_ref().expect("only with the head").tail;
        if lane.open_since().is_some() && !lane.try_seal() {
            self.asked = true;
        }
        while let Some(batch) = lane.pop_sealed() {
            self.records += batch.records();
        }
    }

    /// `Shard::leave_if_settled` and `Action::SendLane`.
    fn hand_over(&mut self, to: usize) {
        let head = self.head.take().expect("it is here");
        head.tail.set_owner(ShardId(to as u16));
        self.world.port(to).send(Control::Lane(head));
    }

    /// Whether it would sleep now: `EventLoop::wait`.
    fn sleeps(&self) -> bool {
        let bell = &self.world.bells[self.shard];
        bell.prepare_to_sleep();
        let sleeps = !self.world.port(self.shard).has_news();
        if !sleeps {
            bell.awake();
        }
        sleeps
    }

    /// Turns until there is nothing that would wake it.
    fn until_quiet(&mut self) {
        while self.world.port(self.shard).has_news() {
            self.turn();
        }
    }
}

#[test]
fn a_record_posted_during_a_drain_is_drained() {
    model(5, || {
        let (world, head) = World::new();
        let sender = {
            let world = world.clone();
            thread::spawn(move || (0..2).for_each(|_| world.send()))
        };
        let mut own = Loop::new(&world, 0, Some(head));
        own.turn();
        own.turn();
        sender.join().expect("it does not panic");
        own.until_quiet();
        assert_eq!(own.records, 2, "a record nobody looks for, asked: {}", own.asked);
    });
}

#[test]
fn two_senders_and_a_drain() {
    model(5, || {
        let (world, head) = World::new();
        let senders = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || world.send())
        });
        let mut own = Loop::new(&world, 0, Some(head));
        own.turn();
        senders.into_iter().for_each(|sender| sender.join().expect("it does not panic"));
        own.until_quiet();
        assert_eq!(own.records, 2, "a record nobody looks for, asked: {}", own.asked);
    });
}

#[test]
fn a_loop_that_sleeps_is_woken_by_a_record() {
    model(5, || {
        let (world, head) = World::new();
        let sender = {
            let world = world.clone();
            thread::spawn(move || world.send())
        };
        let mut own = Loop::new(&world, 0, Some(head));
        own.turn();
        let sleeps = own.sleeps();
        sender.join().expect("it does not panic");
        let woken = world.woken[0].0.load(Ordering::SeqCst);
        assert!(own.records == 1 || !sleeps || woken, "it sleeps for ever");
        own.until_quiet();
        assert_eq!(own.records, 1);
    });
}

#[test]
fn a_lane_that_arrives_while_it_is_posted_is_looked_at() {
    model(5, || {
        let (world, head) = World::new();
        let sender = {
            let world = world.clone();
            thread::spawn(move || world.send())
        };
        let mut old = Loop::new(&world, 0, Some(head));
        let mut new = Loop::new(&world, 1, None);
        let arrival = thread::spawn(move || {
            new.turn();
            new
        });
        old.turn();
        old.hand_over(1);
        old.turn();
        sender.join().expect("it does not panic");
        let mut new = arrival.join().expect("it does not panic");
        old.until_quiet();
        new.until_quiet();
        assert_eq!(old.records + new.records, 1, "a record nobody looks for");
    });
}

#[test]
fn a_lane_that_goes_and_comes_back_is_looked_at() {
    model(5, || {
        let (world, head) = World::new();
        let sender = {
            let world = world.clone();
            thread::spawn(move || (0..2).for_each(|_| world.send()))
        };
        let mut first = Loop::new(&world, 0, Some(head));
        let mut second = Loop::new(&world, 1, None);
        first.turn();
        first.hand_over(1);
        second.turn();
        second.hand_over(0);
        first.turn();
        sender.join().expect("it does not panic");
        first.until_quiet();
        second.until_quiet();
        assert_eq!(first.records + second.records, 2, "a record nobody looks for");
    });
}

#[test]
fn a_head_that_is_sent_while_its_shard_ends_fails_what_is_in_it() {
    model(5, || {
        let (world, head) = World::new();
        world.send();
        let closing = {
            let world = world.clone();
            thread::spawn(move || world.port(1).close())
        };
        world.port(1).send(Control::Lane(head));
        closing.join().expect("it does not panic");
        assert_eq!(world.lane.resolved(), u64::MAX, "its records never resolve");
    });
}

#[test]
fn a_flush_sees_the_resolution_or_is_woken() {
    model(5, || {
        let waiters = Arc::new(FlushWaiters::default());
        let resolved = Arc::new(AtomicBool::new(false));
        let resolver = {
            let (waiters, resolved) = (waiters.clone(), resolved.clone());
            thread::spawn(move || {
                resolved.store(true, Ordering::Release);
                waiters.notify();
            })
        };
        let woken = Arc::new(Count::default());
        waiters.register(&Waker::from(woken.clone()));
        let seen = resolved.load(Ordering::Acquire);
        resolver.join().expect("it does not panic");
        let woken = woken.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!(seen || woken == 1, "it sleeps for ever");
    });
}

#[derive(Default)]
struct Count(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}
