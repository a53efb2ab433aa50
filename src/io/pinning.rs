//! Which core a loop's thread runs on.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use core_affinity::CoreId;

use super::sys_fork::PerProcess;
use crate::engine::random;
use crate::locking::lock;
use crate::logging as log;

/// Cores that loops of this process were pinned to automatically, while those run: several
/// producers spread over the cores. A fork's child has none of the loops.
static TAKEN: PerProcess<Mutex<BTreeSet<usize>>> = PerProcess::new();

fn lock_taken() -> MutexGuard<'static, BTreeSet<usize>> {
    lock(TAKEN.get())
}

/// With fewer allowed cores no loop is pinned automatically.
const CORES_MIN: usize = 4;

/// Where loops may be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pinning {
    /// Nowhere.
    Off,
    /// To allowed cores, where there are some to spare: see [`take`].
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
            let first = random::seed() as usize;
            let Some(core) = take(&allowed, &mut lock_taken(), first) else {
                log::info!(
                    "event loop {index} is not pinned: {} allowed cores are too few to keep one \
                     for it",
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

/// The first of the allowed cores that is free, counted from the one in place `first`, around:
/// processes that count from different places do not all take the lowest core. `None` where there
/// are fewer than [`CORES_MIN`] cores, or half of them are taken. A thread that is pinned cannot
/// get out of the way of another one on its core, and with few cores there is one often.
fn take(allowed: &[usize], taken: &mut BTreeSet<usize>, first: usize) -> Option<usize> {
    let is_taken = |core: &&usize| taken.contains(core);
    if allowed.len() < CORES_MIN || allowed.iter().filter(is_taken).count() >= allowed.len() / 2 {
        return None;
    }
    let around = allowed.iter().cycle().skip(first % allowed.len()).take(allowed.len());
    let core = *around.clone().find(|core| !is_taken(core))?;
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
        let (allowed, mut taken) = ([2, 3, 5, 7, 8, 9], BTreeSet::new());
        let three = [(); 3].map(|()| take(&allowed, &mut taken, 0));
        assert_eq!(three, [Some(2), Some(3), Some(5)]);
        assert_eq!(take(&allowed, &mut taken, 0), None, "half of them stay free");
        // The first ends, not the last.
        taken.remove(&2);
        assert_eq!(take(&allowed, &mut taken, 0), Some(2));
        assert_eq!(take(&allowed, &mut taken, 0), None);
    }

    #[test]
    fn processes_begin_at_different_cores() {
        let allowed = [2, 3, 5, 7];
        let firsts = [0, 1, 2, 3, 4].map(|first| take(&allowed, &mut BTreeSet::new(), first));
        assert_eq!(firsts, [Some(2), Some(3), Some(5), Some(7), Some(2)]);
        let mut taken = BTreeSet::new();
        let two = [(); 2].map(|()| take(&allowed, &mut taken, 3));
        assert_eq!(two, [Some(7), Some(2)], "around");
    }

    #[test]
    fn where_cores_are_few_none_is_taken() {
        for allowed in [&[][..], &[4], &[0, 1], &[0, 1, 2]] {
            assert_eq!(take(allowed, &mut BTreeSet::new(), 0), None, "{allowed:?}");
        }
    }
}
