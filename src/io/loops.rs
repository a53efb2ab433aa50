//! Which event loops there are, and where they run.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mio::Poll;

use super::event_loop::EventLoop;
use super::loop_mailbox::{LoopMailbox, LoopMessage, PollWaker};
use super::pinning::{self, Pinning};
use super::sys_fork::PerProcess;
use super::threads::{OwnThread, Watch};
use crate::config::WaitStrategy;
use crate::engine::sync::{Generation, Mailbox};
use crate::locking::lock;
use crate::logging as log;
use crate::user_code::Whereabouts;

/// A thread that drops the last handle of an event loop waits so long for a loop that is stuck in
/// code of the application's.
const LEFT_ALONE_AFTER: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    PerBroker,
    Shared(usize),
    AllowedCores,
}

/// The threads that talk to brokers. A value: several producers may share it.
///
/// Each loop is one thread, named `tidegate-loop-N`. A broker's connection stays on one loop. The
/// default is as many loops as brokers, up to the cores that the process may use; further brokers
/// share. A producer that shares the value begins with the loop that has the least on it. Threads
/// start when a broker needs them, and end when the last producer that uses this value has closed
/// and the value itself is dropped. A fork's child that builds a producer with a value of its
/// parent's gets threads of its own.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::embedded::EmbeddedCluster;
/// use tidegate::{EventLoops, Producer};
///
/// # let cluster = EmbeddedCluster::builder().brokers(3).topic("orders", 3).start()?;
/// # let servers = cluster.bootstrap_servers();
/// // Two producers, and one thread that talks to all of their brokers.
/// let loops = EventLoops::shared(1).unpinned();
/// let orders = Producer::builder(&servers).event_loops(loops.clone()).build()?;
/// let audit = Producer::builder(&servers).event_loops(loops).build()?;
/// for producer in [orders, audit] {
///     let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
///     assert!(at.offset().is_some());
/// }
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct EventLoops(Arc<Inner>);

struct Inner {
    mode: Mode,
    pinning: Pinning,
    wait_strategy: WaitStrategy,
    /// Threads do not survive a fork: each process has its own.
    loops: PerProcess<Mutex<Vec<Arc<LoopHandle>>>>,
}

/// What is on a loop: shards, and how many of them are their producer's first. Those have its first
/// broker, and one more than the others where there are more brokers than loops.
type Load = (usize, usize);

/// A shard's place on a loop, which it keeps alive.
pub(super) struct Place {
    pub(super) event_loop: Arc<LoopHandle>,
    is_first: bool,
}

/// One running loop.
pub struct LoopHandle {
    pub(super) mailbox: Arc<LoopMailbox>,
    /// `None` once it was left behind.
    thread: Mutex<Option<OwnThread>>,
    pub(super) whereabouts: Arc<Whereabouts>,
    load: Mutex<Load>,
    born: Generation,
}

impl EventLoops {
    fn with(mode: Mode, pinning: Pinning, wait_strategy: WaitStrategy) -> Self {
        EventLoops(Arc::new(Inner { mode, pinning, wait_strategy, loops: PerProcess::new() }))
    }

    /// A thread for every broker, however many there are.
    pub fn per_broker() -> Self {
        EventLoops::with(Mode::PerBroker, Pinning::Automatic, WaitStrategy::Block)
    }

    /// At most `loops` threads; brokers are spread over them. 0 counts as 1.
    pub fn shared(loops: usize) -> Self {
        EventLoops::with(Mode::Shared(loops.max(1)), Pinning::Automatic, WaitStrategy::Block)
    }

    /// The same, with loop N pinned to the Nth of these cores, beginning again after the last. Core
    /// numbers are the system's own.
    pub fn pinned_to(self, cores: impl Into<Vec<usize>>) -> Self {
        let cores = cores.into();
        let pinning = if cores.is_empty() { Pinning::Off } else { Pinning::Cores(cores) };
        EventLoops::with(self.0.mode, pinning, self.0.wait_strategy)
    }

    /// The same, without pinning.
    pub fn unpinned(self) -> Self {
        EventLoops::with(self.0.mode, Pinning::Off, self.0.wait_strategy)
    }

    /// The same, with loops that wait like this while they have nothing to do. Without this call
    /// they sleep ([`WaitStrategy::Block`]).
    pub fn waiting(self, strategy: WaitStrategy) -> Self {
        EventLoops::with(self.0.mode, self.0.pinning.clone(), strategy)
    }

    /// How many loops brokers are spread over at the most.
    pub(crate) fn loops_max(&self) -> usize {
        match self.0.mode {
            Mode::PerBroker => usize::MAX,
            Mode::Shared(loops) => loops,
            Mode::AllowedCores => pinning::allowed_cores(),
        }
    }

    /// A place for a shard of a producer whose other shards are on the loops `own`. It is on
    /// another loop: one that has nothing on it, else a new one if there may be more, else the one
    /// with the least on it.
    pub(super) fn place(&self, own: &[Arc<LoopHandle>]) -> io::Result<Place> {
        let mut loops = lock(self.0.loops.get());
        let is_own = |handle: &Arc<LoopHandle>| own.iter().any(|own| Arc::ptr_eq(own, handle));
        let others = loops.iter().enumerate().filter(|(_, handle)| !is_own(handle));
        let emptiest = others.min_by_key(|(_, handle)| handle.load()).map(|(index, _)| index);
        let may_grow = match self.0.mode {
            // As many as one producer has brokers, however many share them.
            Mode::PerBroker => false,
            Mode::Shared(_) | Mode::AllowedCores => loops.len() < self.loops_max(),
        };
        let index = match emptiest {
            Some(index) if !may_grow || loops[index].load() == Load::default() => index,
            _ => loops.len(),
        };
        let mut gone = None;
        if index == loops.len() {
            loops.push(Arc::new(LoopHandle::start(index, &self.0)?));
        } else if loops[index].is_gone() {
            let fresh = Arc::new(LoopHandle::start(index, &self.0)?);
            gone = Some(std::mem::replace(&mut loops[index], fresh));
        }
        // Counted under the lock: two producers that begin at once see each other.
        let place = Place::take(loops[index].clone(), own.is_empty());
        drop(loops);
        // Joins its thread, unless a producer still has it: not with the lock held, as that thread
        // may be waking a task that is about to build a producer.
        drop(gone);
        Ok(place)
    }
}

impl Default for EventLoops {
    /// As many loops as brokers, up to the cores that the process may use.
    fn default() -> Self {
        EventLoops::with(Mode::AllowedCores, Pinning::Automatic, WaitStrategy::Block)
    }
}

impl std::fmt::Debug for EventLoops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("EventLoops");
        shown.field("mode", &self.0.mode).field("pinning", &self.0.pinning);
        shown.field("wait_strategy", &self.0.wait_strategy).finish()
    }
}

impl LoopHandle {
    fn start(number: usize, loops: &Inner) -> io::Result<Self> {
        let pinning = loops.pinning.clone();
        let poll = Poll::new()?;
        let waker = Arc::new(PollWaker::new(&poll)?);
        let mailbox = Arc::new(Mailbox::new(Arc::default(), waker.clone()));
        let event_loop = EventLoop::new(poll, mailbox.clone(), loops.wait_strategy);
        let name = format!("tidegate-loop-{number}");
        let thread = OwnThread::spawn(&name, move || {
            let core = pinning::pin_current(&pinning, number);
            event_loop.run();
            waker.close();
            if let Some(core) = core {
                pinning::unpin(&pinning, core);
            }
        })?;
        let (whereabouts, born) = (thread.whereabouts().clone(), Generation::current());
        let (thread, load) = (Mutex::new(Some(thread)), Mutex::default());
        Ok(LoopHandle { mailbox, thread, whereabouts, load, born })
    }

    /// Nobody waits for its thread: that is stuck in code of the application's. It ends by itself
    /// if it ever returns.
    pub(super) fn leave_behind(&self) {
        drop(self.take_thread());
    }

    /// Whether it panicked or was left behind, so that no shard may be placed on it.
    fn is_gone(&self) -> bool {
        let left_behind = || lock(&self.thread).is_none();
        self.mailbox.has_ended() || left_behind()
    }

    /// Nothing is on a loop that would be replaced.
    fn load(&self) -> Load {
        if self.is_gone() { Load::default() } else { *self.lock_load() }
    }

    fn lock_load(&self) -> MutexGuard<'_, Load> {
        lock(&self.load)
    }

    fn take_thread(&self) -> Option<OwnThread> {
        lock(&self.thread).take()
    }
}

impl Place {
    fn take(event_loop: Arc<LoopHandle>, is_first: bool) -> Self {
        let mut load = event_loop.lock_load();
        *load = (load.0 + 1, load.1 + usize::from(is_first));
        drop(load);
        Place { event_loop, is_first }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.event_loop.born.is_current() {
            let mut load = self.event_loop.lock_load();
            *load = (load.0 - 1, load.1 - usize::from(self.is_first));
        }
    }
}

impl Drop for LoopHandle {
    fn drop(&mut self) {
        if !self.born.is_current() {
            // The thread is the parent's.
            return;
        }
        self.mailbox.send(LoopMessage::Stop);
        // Dropped on one of our own threads: it ends by itself, and nobody waits.
        if let Some(thread) = self.take_thread()
            && !super::is_own_thread()
        {
            let mut watch = Watch::begin(LEFT_ALONE_AFTER);
            thread.join(&mut watch);
            if let [name, ..] = watch.left_behind() {
                log::error!("{name} is stuck in code of the application's, and is left behind");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The places of the first shards of producers that begin one after the other.
    fn firsts(loops: &EventLoops, count: usize) -> Vec<Place> {
        (0..count).map(|_| loops.place(&[]).expect("the system has threads")).collect()
    }

    fn names(places: &[Place]) -> Vec<&str> {
        places.iter().map(|place| place.event_loop.whereabouts.thread()).collect()
    }

    #[test]
    fn producers_that_share_loops_begin_with_the_one_that_has_the_least_on_it() {
        let loops = EventLoops::shared(3).unpinned();
        let mut places = firsts(&loops, 7);
        let [zero, one, two] = [0, 1, 2].map(|n| format!("tidegate-loop-{n}"));
        assert_eq!(names(&places), [&zero, &one, &two, &zero, &one, &two, &zero]);
        // One ends: the next takes its place.
        drop(places.remove(1));
        places.remove(3);
        assert_eq!(names(&firsts(&loops, 2)), [&one, &one]);
        drop(places);
        // A producer's own shards are on loops of their own, as long as there are others.
        let first = loops.place(&[]).expect("the system has threads");
        let own = [first.event_loop.clone()];
        let second = loops.place(&own).expect("the system has threads");
        assert!(!Arc::ptr_eq(&first.event_loop, &second.event_loop));
        // Of two that have one shard each, the one without a first one.
        let other = loops.place(&[]).expect("the system has threads");
        assert_eq!(other.event_loop.lock_load().1, 1);
        let next = loops.place(&[]).expect("the system has threads");
        assert!(Arc::ptr_eq(&next.event_loop, &second.event_loop));
    }

    #[test]
    fn loops_per_broker_are_as_many_as_one_producer_has_brokers() {
        let loops = EventLoops::per_broker().unpinned();
        let places = firsts(&loops, 3);
        assert_eq!(names(&places), ["tidegate-loop-0"; 3]);
        let own = [places[0].event_loop.clone()];
        let second = loops.place(&own).expect("the system has threads");
        assert_eq!(names(&[second]), ["tidegate-loop-1"]);
    }

    #[test]
    fn a_loop_that_was_left_behind_is_replaced() {
        let loops = EventLoops::shared(1).unpinned();
        let place = loops.place(&[]).expect("the system has threads");
        place.event_loop.leave_behind();
        let next = loops.place(&[]).expect("the system has threads");
        assert!(!Arc::ptr_eq(&place.event_loop, &next.event_loop));
        assert_eq!(*next.event_loop.lock_load(), (1, 1));
    }
}
