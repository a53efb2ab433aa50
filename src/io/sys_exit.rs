//! The end of the process, for producers that go on in the background: what they lose by it is told
//! to the log.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::engine::sync::Generation;
use crate::locking::lock;
use crate::logging as log;

/// Tells how many bytes of buffer memory hold records that a producer has not delivered yet.
type Left = Arc<dyn Fn() -> usize + Send + Sync>;

/// What would be lost. Held for moments only.
static BACKGROUND: Mutex<Vec<(Generation, Left)>> = Mutex::new(Vec::new());

/// While this lives, the end of the process tells the log what `left` says.
pub struct InBackground {
    born: Generation,
    left: Left,
}

impl InBackground {
    /// `left` is called when the process ends, on the thread that ends it, and must not wait.
    pub fn begin(left: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        watch_exit();
        let (born, left): (_, Left) = (Generation::current(), Arc::new(left));
        let mut all = lock(&BACKGROUND);
        all.push((born, left.clone()));
        InBackground { born, left }
    }
}

impl Drop for InBackground {
    fn drop(&mut self) {
        // The parent's is none of a child's business, and may be locked for ever.
        if self.born.is_current() {
            let mut all = lock(&BACKGROUND);
            all.retain(|(_, left)| !Arc::ptr_eq(left, &self.left));
        }
    }
}

/// What is lost if the process ends now.
fn told() {
    // Nobody waits here: another thread may hold the lock and be gone.
    let Ok(all) = BACKGROUND.try_lock() else { return };
    let bytes: usize =
        all.iter().filter(|(born, _)| born.is_current()).map(|(_, left)| left()).sum();
    if bytes > 0 {
        log::warn!(
            "the process ends while producers that were dropped (OnDrop::Detach) go on: {bytes} \
             bytes of buffer memory hold records that were not acknowledged, and may be lost"
        );
    }
}

fn watch_exit() {
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.swap(true, Ordering::AcqRel) {
        return;
    }
    extern "C" fn at_exit() {
        told();
    }
    // SAFETY: the handler is a function of this program, which is never unloaded. It takes no lock
    // that it would have to wait for, and what panics in it (the application's logger) is caught.
    let result = unsafe { libc::atexit(at_exit) };
    if result != 0 {
        log::warn!("atexit failed ({result}): what a process loses at its end will not be told");
    }
}
