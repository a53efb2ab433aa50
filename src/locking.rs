//! Taking a lock whatever became of those who held it before.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose holders leave what it guards consistent at every step: a panic of one of
/// them, in code of the application's say, is no reason for another to fail.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
