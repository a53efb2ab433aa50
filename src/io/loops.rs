//! Which event loops there are, and where they run.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mio::Poll;

use super::event_loop::{EventLoop, LoopMessage, LoopShared, PollWaker};
use super::pinning::{self, Pinning};
use super::sys_fork::PerProcess;
use super::threads::{OwnThread, Watch};
use crate::logging as log;
use crate::sync::{Doorbell, Generation};
use crate::user_code::Whereabouts;

/// Whoever drops the last handle of event loops waits so long for one that is stuck in code of the
/// application's.
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
/// share. Threads start when a broker needs them, and end when the last producer that uses this
/// value has closed and the value itself is dropped. A fork's child that builds a producer with a
/// value of its parent's gets threads of its own.
#[derive(Clone)]
pub struct EventLoops(Arc<Inner>);

struct Inner {
    mode: Mode,
    pinning: Pinning,
    /// Threads do not survive a fork: each process has its own.
    loops: PerProcess<Mutex<Vec<Arc<LoopHandle>>>>,
}

/// One running loop.
pub struct LoopHandle {
    pub(super) shared: Arc<LoopShared>,
    /// `None` once it was left behind.
    thread: Mutex<Option<OwnThread>>,
    pub(super) whereabouts: Arc<Whereabouts>,
    born: Generation,
}

impl EventLoops {
    fn with(mode: Mode, pinning: Pinning) -> Self {
        EventLoops(Arc::new(Inner { mode, pinning, loops: PerProcess::new() }))
    }

    /// A thread for every broker, however many there are.
    pub fn per_broker() -> Self {
        EventLoops::with(Mode::PerBroker, Pinning::Automatic)
    }

    /// At most `loops` threads; brokers are spread over them. 0 counts as 1.
    pub fn shared(loops: usize) -> Self {
        EventLoops::with(Mode::Shared(loops.max(1)), Pinning::Automatic)
    }

    /// The same, with loop N pinned to the Nth of these cores, beginning again after the last. Core
    /// numbers are the system's own.
    pub fn pinned_to(self, cores: impl Into<Vec<usize>>) -> Self {
        let cores = cores.into();
        let pinning = if cores.is_empty() { Pinning::Off } else { Pinning::Cores(cores) };
        EventLoops::with(self.0.mode, pinning)
    }

    /// The same, without pinning.
    pub fn unpinned(self) -> Self {
        EventLoops::with(self.0.mode, Pinning::Off)
    }

    /// How many loops brokers are spread over at the most.
    pub(crate) fn loops_max(&self) -> usize {
        match self.0.mode {
            Mode::PerBroker => usize::MAX,
            Mode::Shared(loops) => loops,
            Mode::AllowedCores => pinning::allowed_cores(),
        }
    }

    /// The loop number `index`, started if it is not running: for the first time, or again after
    /// it panicked.
    pub(crate) fn start(&self, index: usize) -> io::Result<Arc<LoopHandle>> {
        let mut loops = self.0.loops.get().lock().unwrap_or_else(PoisonError::into_inner);
        while loops.len() <= index {
            let number = loops.len();
            loops.push(Arc::new(LoopHandle::start(number, self.0.pinning.clone())?));
        }
        let mut panicked = None;
        if loops[index].shared.has_ended() {
            let fresh = Arc::new(LoopHandle::start(index, self.0.pinning.clone())?);
            panicked = Some(std::mem::replace(&mut loops[index], fresh));
        }
        let running = loops[index].clone();
        drop(loops);
        // Joins its thread, unless a producer still has it: not with the lock held, as that thread
        // may be waking a task that is about to build a producer.
        drop(panicked);
        Ok(running)
    }
}

impl Default for EventLoops {
    /// As many loops as brokers, up to the cores that the process may use.
    fn default() -> Self {
        EventLoops::with(Mode::AllowedCores, Pinning::Automatic)
    }
}

impl std::fmt::Debug for EventLoops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("EventLoops");
        shown.field("mode", &self.0.mode).field("pinning", &self.0.pinning).finish()
    }
}

impl LoopHandle {
    fn start(number: usize, pinning: Pinning) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(PollWaker::new(&poll)?);
        let bell = Arc::new(Doorbell::new());
        let shared = LoopShared::new(bell, waker);
        let event_loop = EventLoop::new(poll, shared.clone());
        let ended = shared.clone();
        let name = format!("tidegate-loop-{number}");
        let thread = OwnThread::spawn(&name, move || {
            let core = pinning::pin_current(&pinning, number);
            event_loop.run();
            ended.waker.close();
            if let Some(core) = core {
                pinning::unpin(&pinning, core);
            }
        })?;
        let (whereabouts, born) = (thread.whereabouts().clone(), Generation::current());
        Ok(LoopHandle { shared, thread: Mutex::new(Some(thread)), whereabouts, born })
    }

    /// Nobody waits for its thread: that is stuck in code of the application's. It ends by itself
    /// if it ever returns.
    pub(super) fn leave_behind(&self) {
        drop(self.take_thread());
    }

    fn take_thread(&self) -> Option<OwnThread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for LoopHandle {
    fn drop(&mut self) {
        if !self.born.is_current() {
            // The thread is the parent's.
            return;
        }
        self.shared.send(LoopMessage::Stop);
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
