//! Code of the application's that runs on the producer's threads: wakers, policies, the logger.
//!
//! A panic in it harms nothing else ([`call`]), and while it runs the thread says so ([`enter`]):
//! a close does not wait for a thread that never returns from it, and can name it.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether a thread of the producer's own is in code of the application's.
#[derive(Debug)]
pub struct Whereabouts {
    thread: String,
    /// Counts entering and leaving: odd while inside.
    steps: AtomicU64,
}

thread_local! {
    /// Set on the producer's own threads.
    static OWN: RefCell<Option<Arc<Whereabouts>>> = const { RefCell::new(None) };
    /// Calls within calls: a waker may log.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

impl Whereabouts {
    /// Of a thread of this name, which is not inside.
    pub fn new(thread: &str) -> Arc<Self> {
        Arc::new(Whereabouts { thread: thread.to_owned(), steps: AtomicU64::new(0) })
    }

    /// By the thread itself, as its first act.
    pub fn follow(self: &Arc<Self>) {
        let _ = OWN.try_with(|own| *own.borrow_mut() = Some(self.clone()));
    }

    /// The thread's name.
    pub fn thread(&self) -> &str {
        &self.thread
    }

    /// `Some` while the thread is inside, another number for each time.
    pub fn inside(&self) -> Option<u64> {
        let steps = self.steps.load(Ordering::Relaxed);
        (steps % 2 == 1).then_some(steps)
    }
}

/// While it lives, the calling thread is in code of the application's.
#[derive(Debug)]
pub struct Inside(());

/// Notes that code of the application's runs from now on.
pub fn enter() -> Inside {
    step(1);
    Inside(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        step(-1);
    }
}

fn step(change: i32) {
    // The locals may be gone: a waker can be called in the destructor of another one.
    let _ = DEPTH.try_with(|depth| {
        let (before, after) = (depth.get(), depth.get().wrapping_add_signed(change));
        depth.set(after);
        if before == 0 || after == 0 {
            let _ = OWN.try_with(|own| {
                if let Some(own) = &*own.borrow() {
                    own.steps.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

/// The application's code panicked. It was told by the panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Calls code of the application's, which may panic.
///
/// # Errors
/// It did.
#[inline]
pub fn call<T>(act: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|payload| {
        // A payload is the application's too: one that panics when it is dropped has to leak what
        // that panic carries.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        dropped.unwrap_or_else(std::mem::forget);
        Panicked
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_inside_from_the_first_entry_to_the_last_exit() {
        let whereabouts = Whereabouts::new("t");
        let own = whereabouts.clone();
        std::thread::spawn(move || {
            own.follow();
            assert_eq!(own.inside(), None);
            let outer = enter();
            let first = own.inside().expect("entered");
            assert_eq!(call(|| drop(enter())), Ok(()));
            assert_eq!(own.inside(), Some(first), "still the same time");
            drop(outer);
            assert_eq!(own.inside(), None);
            let _again = enter();
            assert_ne!(own.inside(), Some(first));
        })
        .join()
        .expect("it does not panic");
        assert_eq!(whereabouts.inside(), None, "left by unwinding or return alike");
        drop(enter());
    }

    struct Rude;

    impl Drop for Rude {
        fn drop(&mut self) {
            panic!("a panic that belongs to the test");
        }
    }

    #[test]
    fn c43_a_panic_whose_payload_panics_when_it_is_dropped_stays_inside() {
        assert_eq!(call(|| std::panic::panic_any(Rude)), Err::<(), _>(Panicked));
        assert_eq!(call(|| 7), Ok(7));
    }
}
