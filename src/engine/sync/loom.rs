//! The loom switch: the standard library's atomics, locks and cells, or those of the `loom` model
//! checker under `--cfg loom`. What shares memory in this module, in lanes and in ports imports
//! them from here and nowhere else.

#[cfg(not(loom))]
pub(crate) use crossbeam_queue::SegQueue;
#[cfg(not(loom))]
pub(crate) use std::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(not(loom))]
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(loom)]
pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

/// `std::cell::UnsafeCell` with loom's way of access: by closure, so that a model sees for how long
/// the contents are in use.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Stands for crossbeam's queue, whose atomics a model does not see: who pops sees what was done
/// before the push, and nothing else is ordered.
#[cfg(loom)]
pub(crate) struct SegQueue<T> {
    items: std::sync::Mutex<std::collections::VecDeque<T>>,
    pushes: AtomicU32,
}

#[cfg(loom)]
impl<T> SegQueue<T> {
    pub(crate) fn new() -> Self {
        Self { items: std::sync::Mutex::default(), pushes: AtomicU32::new(0) }
    }

    pub(crate) fn push(&self, item: T) {
        self.pushes.fetch_add(1, Ordering::Release);
        self.items().push_back(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        self.pushes.fetch_add(0, Ordering::Acquire);
        self.items().pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items().is_empty()
    }

    fn items(&self) -> std::sync::MutexGuard<'_, std::collections::VecDeque<T>> {
        crate::locking::lock(&self.items)
    }
}

/// [`crate::locking::lock`], for loom's mutex as well.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    crate::locking::ignore_poison(mutex.lock())
}
