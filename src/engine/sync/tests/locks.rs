use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::engine::sync::OpenLock;

const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };

#[test]
fn excludes_each_other() {
    let lock = Arc::new(OpenLock::new((0_usize, 0_usize)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let lock = lock.clone();
            thread::spawn(move || {
                for _ in 0..ROUNDS {
                    let mut both = lock.lock();
                    both.0 += 1;
                    both.1 += 1;
                    assert_eq!(both.0, both.1);
                    assert!(!both.unlock(|_| unreachable!("nobody wants a seal")));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    assert_eq!(lock.lock().0, 4 * ROUNDS);
}

#[test]
fn waiting_threads_sleep_and_are_all_woken() {
    let lock = Arc::new(OpenLock::new(0));
    let guard = lock.lock();
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let lock = lock.clone();
            thread::spawn(move || *lock.lock() += 1)
        })
        .collect();
    while !format!("{lock:?}").contains("parked: true") {
        thread::yield_now();
    }
    drop(guard);
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    assert_eq!(*lock.lock(), 3);
    assert!(format!("{lock:?}").contains("parked: false"));
}

#[test]
fn the_holder_seals_for_the_one_who_only_tried() {
    let lock = OpenLock::new(0);
    let guard = lock.lock();
    assert!(lock.try_lock_or_want_seal().is_none());
    assert!(lock.try_lock_or_want_seal().is_none());
    let mut seals = 0;
    let sealed = guard.unlock(|value| {
        *value += 1;
        seals += 1;
        // A request while sealing is a request of its own.
        if seals == 1 {
            assert!(lock.try_lock_or_want_seal().is_none());
        }
    });
    assert!(sealed);
    assert_eq!(seals, 2);
    let guard = lock.try_lock_or_want_seal().expect("the lock is free");
    assert_eq!(*guard, 2);
    assert!(!guard.unlock(|_| unreachable!("every request was served")));
}

#[test]
fn a_panicking_holder_releases_and_leaves_the_request() {
    let lock = OpenLock::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = lock.lock();
        *guard = 7;
        assert!(lock.try_lock_or_want_seal().is_none());
        panic!("while encoding");
    }));
    assert!(panicked.is_err());
    let mut sealed = 0;
    assert!(lock.lock().unlock(|value| sealed = *value));
    assert_eq!(sealed, 7);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let guard = lock.lock();
        assert!(lock.try_lock_or_want_seal().is_none());
        guard.unlock(|_| panic!("while sealing"));
    }));
    assert!(panicked.is_err());
    assert!(!lock.lock().unlock(|_| unreachable!("the request was taken")));
}

#[test]
fn no_request_to_seal_is_lost() {
    // The requester counts a request as open until a seal; seals run under the lock.
    let lock = Arc::new(OpenLock::new(()));
    let seals = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..2)
        .map(|_| {
            let (lock, seals, done) = (lock.clone(), seals.clone(), done.clone());
            thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    lock.lock().unlock(|()| {
                        seals.fetch_add(1, Ordering::Relaxed);
                    });
                }
            })
        })
        .collect();
    for _ in 0..ROUNDS / 10 {
        let before = seals.load(Ordering::Relaxed);
        match lock.try_lock_or_want_seal() {
            Some(guard) => assert!(!guard.unlock(|()| unreachable!("only this thread asks"))),
            // Spins for ever if the request got lost: the senders' next unlocks do not see it.
            None => {
                while seals.load(Ordering::Relaxed) == before {
                    thread::yield_now();
                }
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    senders.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
}
