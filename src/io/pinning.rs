//! Which core a loop's thread runs on.

use std::sync::atomic::{AtomicUsize, Ordering};

use core_affinity::CoreId;

/// Loops pinned in this process so far: several producers spread over the cores.
static PINNED: AtomicUsize = AtomicUsize::new(0);

/// Where loops may be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pinning {
    /// Nowhere.
    Off,
    /// To the allowed cores in turn, while one stays free.
    Automatic,
    /// To these cores in turn.
    Cores(Vec<usize>),
}

/// Pins the calling thread, the loop number `index` of its producer. Returns the core.
pub(super) fn pin_current(pinning: &Pinning, index: usize) -> Option<usize> {
    let core = match pinning {
        Pinning::Off => return None,
        Pinning::Cores(cores) => *cores.get(index % cores.len().max(1))?,
        Pinning::Automatic => {
            let allowed = core_affinity::get_core_ids().unwrap_or_default();
            let place = PINNED.fetch_add(1, Ordering::Relaxed);
            if place + 1 >= allowed.len() {
                PINNED.fetch_sub(1, Ordering::Relaxed);
                log::info!(
                    "event loop {index} is not pinned: of {} allowed cores none would stay free",
                    allowed.len()
                );
                return None;
            }
            allowed[place].id
        }
    };
    if core_affinity::set_for_current(CoreId { id: core }) {
        return Some(core);
    }
    log::warn!("event loop {index} could not be pinned to core {core}");
    unpin(pinning);
    None
}

/// A loop that [`pin_current`] was to pin automatically has ended, or could not be pinned: its core
/// is free for another.
pub(super) fn unpin(pinning: &Pinning) {
    if *pinning == Pinning::Automatic {
        PINNED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cores that this process may use.
pub(super) fn allowed_cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len().max(1))
}
