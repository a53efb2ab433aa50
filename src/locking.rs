//! Taking a lock whatever became of those who held it before.

use std::sync::{LockResult, Mutex, MutexGuard, PoisonError};

/// Locks a mutex: see [`ignore_poison`].
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    ignore_poison(mutex.lock())
}

/// What a lock, or a wait with one, gave: for locks whose holders leave what they guard consistent
/// at every step. A panic of one of them, in code of the application's say, is no reason for
/// another to fail.
pub(crate) fn ignore_poison<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
