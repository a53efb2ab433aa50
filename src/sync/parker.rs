//! A thread that waits for what futures wait for.
//!
//! Nothing here shares memory of its own: the parking token is the standard library's. So it stands
//! outside of the loom switch.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

thread_local! {
    /// Made at a thread's first wait; later waits clone the reference and allocate nothing.
    static WAKER: Waker = new_waker();
}

/// Polls until it is ready, and calls `park` between the polls. `park` sleeps until the thread is
/// unparked, spuriously or not, and returns `false` once the caller's deadline has passed; then
/// `poll` gets one last chance. `None` if that was in vain.
pub fn wait_until<T>(
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    mut park: impl FnMut() -> bool,
) -> Option<T> {
    let waker = thread_waker();
    let mut context = Context::from_waker(&waker);
    let mut in_time = true;
    loop {
        if let Poll::Ready(value) = poll(&mut context) {
            return Some(value);
        }
        if !in_time {
            return None;
        }
        in_time = park();
    }
}

/// [`wait_until`] without a deadline.
pub fn block_on<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    wait_until(poll, park_without_deadline).expect("parking without a deadline always says true")
}

/// The `park` of a wait that has no deadline.
pub fn park_without_deadline() -> bool {
    thread::park();
    true
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn new_waker() -> Waker {
    Waker::from(Arc::new(Unpark(thread::current())))
}

/// The calling thread's waker; a new one if its thread-locals are being destroyed.
fn thread_waker() -> Waker {
    WAKER.try_with(Waker::clone).unwrap_or_else(|_| new_waker())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

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
            || false,
        );
        assert_eq!((waited, polls), (None, 2));

        let mut polls = 0;
        let waited = wait_until(
            |_| {
                polls += 1;
                if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
            },
            || false,
        );
        assert_eq!(waited, Some(2));
    }

    #[test]
    fn a_thread_keeps_its_waker() {
        assert!(thread_waker().will_wake(&thread_waker()));
        let other = thread::spawn(thread_waker).join().expect("it does not panic");
        assert!(!thread_waker().will_wake(&other));
    }
}
