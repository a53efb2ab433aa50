//! A thread that waits for what futures wait for.
//!
//! The parking token is not the standard library's: `std::thread::park` panics on a thread whose
//! thread-locals are destroyed, and a send in an `atexit` handler may have to wait. The token is
//! under a mutex of the standard library, so it stands outside of the loom switch.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::WakeLoop;
use crate::locking::{ignore_poison, lock};

thread_local! {
    /// Made at a thread's first wait; later waits clone the reference and allocate nothing.
    static PARKER: Arc<Parker> = Arc::default();
}

/// Where one thread sleeps until its waker is called.
#[derive(Debug, Default)]
pub struct Parker {
    token: Mutex<Token>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Token {
    /// The waker was called since the last park.
    woken: bool,
    /// The thread sleeps. Waking one that does not is no system call.
    asleep: bool,
}

impl Parker {
    /// Sleeps until the thread's waker is called; not at all if it was called since the last time.
    pub fn park(&self) {
        let mut token = self.lock();
        token.asleep = true;
        while !token.woken {
            token = ignore_poison(self.changed.wait(token));
        }
        *token = Token::default();
    }

    /// [`Parker::park`] for at most `timeout`, and maybe for less.
    pub fn park_timeout(&self, timeout: Duration) {
        let mut token = self.lock();
        if !token.woken {
            token.asleep = true;
            let waited = self.changed.wait_timeout(token, timeout);
            token = ignore_poison(waited).0;
        }
        *token = Token::default();
    }

    fn unpark(&self) {
        let mut token = self.lock();
        token.woken = true;
        let asleep = token.asleep;
        drop(token);
        if asleep {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Token> {
        // Each change is one assignment.
        lock(&self.token)
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}

impl WakeLoop for Parker {
    fn wake(&self) {
        self.unpark();
    }
}

/// Polls until it is ready, and calls `park` between the polls. `park` sleeps until the parker is
/// woken, spuriously or not, and returns `false` once the caller's deadline has passed; then
/// `poll` gets one last chance. `None` if that was in vain.
pub fn wait_until<T>(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    mut park: impl FnMut(&Parker) -> bool,
) -> Option<T> {
    let parker = thread_parker();
    let waker = Waker::from(parker.clone());
    let mut context = Context::from_waker(&waker);
    let mut in_time = true;
    loop {
        if let Poll::Ready(value) = poll(&mut context) {
            return Some(value);
        }
        if !in_time {
            return None;
        }
        in_time = park(&parker);
    }
}

/// [`wait_until`] without a deadline.
pub fn block_on<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let forever = |parker: &Parker| {
        parker.park();
        true
    };
    wait_until(poll, forever).expect("parking without a deadline always says true")
}

/// The calling thread's parker; a new one if its thread-locals are destroyed.
fn thread_parker() -> Arc<Parker> {
    PARKER.try_with(Arc::clone).unwrap_or_default()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn sleeps_until_another_thread_wakes_it() {
        let (wakers, woken_by) = mpsc::channel::<Waker>();
        let ready = AtomicBool::new(false);
        let ready = &ready;
        thread::scope(|scope| {
            scope.spawn(move || {
                let waker = woken_by.recv().expect("the waiting thread sends its waker");
                ready.store(true, Ordering::Release);
                waker.wake();
            });
            let mut first = Some(wakers);
            let value = block_on(|context| {
                if ready.load(Ordering::Acquire) {
                    return Poll::Ready(7);
                }
                if let Some(wakers) = first.take() {
                    wakers.send(context.waker().clone()).expect("the other thread waits for it");
                }
                Poll::Pending
            });
            assert_eq!(value, 7);
        });
    }

    #[test]
    fn a_passed_deadline_ends_the_wait_after_one_more_poll() {
        let mut polls = 0;
        let waited = wait_until::<()>(
            |_| {
                polls += 1;
                Poll::Pending
            },
            |_| false,
        );
        assert_eq!((waited, polls), (None, 2));

        let mut polls = 0;
        let waited = wait_until(
            |_| {
                polls += 1;
                if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
            },
            |_| false,
        );
        assert_eq!(waited, Some(2));
    }

    #[test]
    fn a_thread_keeps_its_parker() {
        assert!(Arc::ptr_eq(&thread_parker(), &thread_parker()));
        let other = thread::spawn(thread_parker).join().expect("it does not panic");
        assert!(!Arc::ptr_eq(&thread_parker(), &other));
    }

    #[test]
    fn a_wake_before_the_park_is_not_lost_and_counts_once() {
        let parker = Arc::new(Parker::default());
        parker.clone().wake();
        parker.wake_by_ref();
        parker.park();
        let timeout = Duration::from_millis(1);
        parker.park_timeout(timeout);
        assert!(!parker.lock().woken && !parker.lock().asleep, "it is over, and leaves nothing");
        parker.wake_by_ref();
        parker.park_timeout(Duration::from_secs(3_600));
        assert!(!parker.lock().woken);
    }
}
