//! Which core a loop's thread runs on.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use core_affinity::CoreId;

use super::sys_fork::PerProcess;
use crate::logging as log;

/// Cores that loops of this process were pinned to automatically, while those run: several
/// producers spread over the cores. A fork's child has none of the loops.
static TAKEN: PerProcess<Mutex<BTreeSet<usize>>> = PerProcess::new();

fn lock_taken() -> MutexGuard<'static, BTreeSet<usize>> {
    TAKEN.get().lock().unwrap_or_else(PoisonError::into_inner)
}

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
            let allowed: Vec<usize> = allowed.into_iter().map(|core| core.id).collect();
            let Some(core) = take(&allowed, &mut lock_taken()) else {
                log::info!(
                    "event loop {index} is not pinned: of {} allowed cores none would stay free",
                    allowed.len()
                );
                return None;
            };
            core
        }
    };
    if core_affinity::set_for_current(CoreId { id: core }) {
        return Some(core);
    }
    log::warn!("event loop {index} could not be pinned to core {core}");
    unpin(pinning, core);
    None
}

/// The first of the allowed cores that is free, if another stays free.
fn take(allowed: &[usize], taken: &mut BTreeSet<usize>) -> Option<usize> {
    let mut free = allowed.iter().filter(|core| !taken.contains(core));
    let (&core, _another) = (free.next()?, free.next()?);
    taken.insert(core);
    Some(core)
}

/// A loop that [`pin_current`] was to pin automatically to `core` has ended, or could not be
/// pinned: the core is free for another.
pub(super) fn unpin(pinning: &Pinning, core: usize) {
    if *pinning == Pinning::Automatic {
        lock_taken().remove(&core);
    }
}

/// Cores that this process may use.
pub(super) fn allowed_cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_has_become_free_is_taken_again_and_no_core_twice() {
        let (allowed, mut taken) = ([2, 3, 5, 7], BTreeSet::new());
        let three = [(); 3].map(|()| take(&allowed, &mut taken));
        assert_eq!(three, [Some(2), Some(3), Some(5)]);
        assert_eq!(take(&allowed, &mut taken), None, "one stays free");
        // The first ends, not the last.
        taken.remove(&2);
        assert_eq!(take(&allowed, &mut taken), Some(2));
        assert_eq!(take(&allowed, &mut taken), None);
        taken.clear();
        assert_eq!(take(&[4], &mut taken), None, "a single core is not taken");
        assert_eq!(take(&[], &mut taken), None);
    }
}
