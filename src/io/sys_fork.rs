//! What a fork's child needs: to know that it is one, and state of its own where the parent's may
//! be locked for ever.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::engine::sync::Generation;
use crate::logging as log;

/// Arranges that children of this process have a [`Generation`] of their own.
pub fn watch_forks() {
    // No `Once`: a child that is forked while another thread is in one would wait for ever. Two
    // registrations do no harm.
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if REGISTERED.load(Ordering::Acquire) {
        return;
    }
    #[cfg(unix)]
    {
        extern "C" fn in_child() {
            Generation::advance();
        }
        // SAFETY: the handler only adds to an atomic, which is async-signal-safe, and it is a
        // function of this program, which is never unloaded.
        let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if result != 0 {
            log::warn!("pthread_atfork failed ({result}): forks will not be noticed");
        }
    }
    REGISTERED.store(true, Ordering::Release);
}

/// A value of which every process of a family of forks has one, made when it is first asked for.
/// A child never touches the parent's: another thread may have held its lock, or been in the
/// middle of changing it. What it holds is leaked in the child.
pub(super) struct PerProcess<T> {
    newest: AtomicPtr<Born<T>>,
    _owns: PhantomData<T>,
}

struct Born<T> {
    at: Generation,
    value: T,
}

impl<T> PerProcess<T> {
    /// Without a value yet.
    pub(super) const fn new() -> Self {
        PerProcess { newest: AtomicPtr::new(std::ptr::null_mut()), _owns: PhantomData }
    }
}

impl<T: Default + Send + Sync> PerProcess<T> {
    /// This process's value.
    pub(super) fn get(&self) -> &T {
        loop {
            let newest = self.newest.load(Ordering::Acquire);
            // SAFETY: null, or from `Box::into_raw`, and freed only with `self`.
            if let Some(born) = unsafe { newest.as_ref() }
                && born.at.is_current()
            {
                return &born.value;
            }
            let fresh = Born { at: Generation::current(), value: T::default() };
            let fresh = Box::into_raw(Box::new(fresh));
            let swapped =
                self.newest.compare_exchange(newest, fresh, Ordering::AcqRel, Ordering::Acquire);
            if swapped.is_err() {
                // SAFETY: from `Box::into_raw` above, and nobody else has seen it.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let newest = *self.newest.get_mut();
        // SAFETY: null, or from `Box::into_raw`; nobody else has `self` any more.
        if unsafe { newest.as_ref() }.is_some_and(|born| born.at.is_current()) {
            // SAFETY: as above; it is freed once.
            drop(unsafe { Box::from_raw(newest) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn threads_of_a_process_share_its_value_which_is_dropped_with_the_last() {
        let held = Arc::new(());
        let values: PerProcess<Mutex<Vec<Arc<()>>>> = PerProcess::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (values, held) = (&values, held.clone());
                scope.spawn(move || values.get().lock().expect("nobody panics").push(held));
            }
        });
        assert_eq!(values.get().lock().expect("nobody panics").len(), 4);
        assert_eq!(Arc::strong_count(&held), 5);
        drop(values);
        assert_eq!(Arc::strong_count(&held), 1);
        drop(PerProcess::<Mutex<u8>>::new());
    }
}
