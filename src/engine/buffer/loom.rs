//! The loom switch of the pool: the standard library's atomics and lock, or those of the `loom`
//! model checker under `--cfg loom`.

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
#[cfg(not(loom))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
#[cfg(loom)]
pub(super) use loom::sync::{Mutex, MutexGuard};
