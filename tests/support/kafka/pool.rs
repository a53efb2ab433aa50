//! How many clusters run at once, on a machine that may have two cores.
//!
//! Between processes: each process that starts clusters holds one of a few slots until it ends, so
//! that those who hold a slot never wait for another. Within a process: the two shared clusters,
//! which live to its end, and private ones, one at a time.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ports::PortLock;
use super::process;

/// Private clusters that a process runs at once.
const PRIVATE_MAX: usize = 1;

/// However many cores: a slot is a port.
const SLOTS_MAX: usize = 64;

/// A whole test binary may have to end first.
const SLOT_LIMIT: Duration = Duration::from_secs(3600);
const SLOT_NOTICE: Duration = Duration::from_secs(5);

/// Set for a child process whose parent holds a slot for both.
pub const SLOT_HELD: &str = "TIDEGATE_KAFKA_SLOT_HELD";

/// Counts the private clusters of this process.
#[derive(Debug, Default)]
pub struct Permits {
    taken: Mutex<usize>,
    returned: Condvar,
}

/// The right to run a private cluster, until it is dropped.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
}

impl Permits {
    /// Waits for a permit.
    pub fn take(self: &Arc<Self>) -> Permit {
        let mut taken = self.lock();
        while *taken >= PRIVATE_MAX {
            taken = self.returned.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Permit { permits: Arc::clone(self) }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.permits.lock() -= 1;
        self.permits.returned.notify_one();
    }
}

/// Waits for one of the machine's slots. Nothing if a parent process holds it.
pub fn take_slot() -> Result<Option<PortLock>, String> {
    if std::env::var_os(SLOT_HELD).is_some() {
        return Ok(None);
    }
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get());
    let slots = u16::try_from(cores.clamp(2, SLOTS_MAX)).expect("far below 65,536");
    let start = Instant::now();
    let (mut slot, mut told) = (None, false);
    process::wait_until(SLOT_LIMIT, || {
        slot = PortLock::try_take_slot(slots);
        if slot.is_none() && !told && start.elapsed() > SLOT_NOTICE {
            told = true;
            eprintln!("kafka: waiting for one of {slots} test processes with clusters to end");
        }
        slot.is_some()
    });
    slot.map(Some).ok_or_else(|| "other test processes hold all slots for clusters".to_owned())
}
