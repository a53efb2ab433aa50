//! Loom models. `RUSTFLAGS="--cfg loom" cargo test --release --lib sync::`

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use loom::sync::Arc;
use loom::thread;

use crate::engine::sync::{
    Abandon, CellStore, ForwardTable, Mailbox, OpenLock, WakeList, WakeLoop,
};

fn model(bound: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(test);
}

#[test]
fn a_seal_wanted_during_an_unlock_is_served_or_the_lock_is_had() {
    model(5, || {
        let lock = Arc::new(OpenLock::new(0));
        let sender = {
            let lock = lock.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    lock.lock().unlock(|seals| *seals += 1);
                }
            })
        };
        if let Some(mut guard) = lock.try_lock_or_want_seal() {
            *guard += 1;
            guard.unlock(|_| unreachable!("nobody else asks"));
        }
        sender.join().expect("the sender does not panic");
        assert_eq!(*lock.lock(), 1);
    });
}

#[test]
fn parked_threads_get_the_lock() {
    model(5, || {
        let lock = Arc::new(OpenLock::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let lock = lock.clone();
                thread::spawn(move || {
                    let mut guard = lock.lock();
                    *guard += 1;
                    guard.unlock(|_| unreachable!("nobody asks"));
                })
            })
            .collect();
        *lock.lock() += 1;
        threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
        assert_eq!(*lock.lock(), 3);
    });
}

/// As context and as error: counts the drops.
struct Dropped(StdArc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Abandon<Dropped> for Dropped {
    fn abandoned(context: &Dropped) -> Self {
        Dropped(context.0.clone())
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Store = CellStore<Dropped, Dropped>;

#[test]
fn a_resolution_is_seen_or_wakes() {
    model(5, || {
        let drops = StdArc::new(AtomicUsize::new(0));
        let store = Store::new();
        let mut owner = store.allocate(Dropped(drops.clone()));
        let (mut handle, other) = (owner.issue(0), owner.issue(0));
        let error = Dropped(drops.clone());
        let resolver = thread::spawn(move || owner.fail(error, &mut WakeList::new()));
        drop(other);
        let count = StdArc::new(Count::default());
        let waker = Waker::from(count.clone());
        let pending = handle.poll(&mut Context::from_waker(&waker)).is_pending();
        if pending {
            resolver.join().expect("it does not panic");
            assert_eq!(count.0.load(Ordering::Relaxed), 1, "a lost wake-up");
            assert!(handle.poll(&mut Context::from_waker(&waker)).is_ready());
            drop(handle);
        } else {
            // Races with the rest of the resolution.
            drop(handle);
            resolver.join().expect("it does not panic");
        }
        assert_eq!(drops.load(Ordering::Relaxed), 2, "context and error, once each");
        assert_eq!(store.usage().0, 0);
    });
}

#[test]
fn a_waiter_that_goes_during_the_resolution() {
    model(5, || {
        let drops = StdArc::new(AtomicUsize::new(0));
        let store = Store::new();
        let mut owner = store.allocate(Dropped(drops.clone()));
        let mut handle = owner.issue(0);
        let waiting = thread::spawn(move || {
            let _ = handle.poll(&mut Context::from_waker(Waker::noop()));
            drop(handle);
        });
        owner.ack(Some(1), None, &mut WakeList::new());
        waiting.join().expect("it does not panic");
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        let (live, _, waiters) = store.usage();
        assert_eq!((live, waiters), (0, 0));
    });
}

#[test]
fn two_tasks_wait_for_one_batch() {
    model(5, || {
        let store = Store::new();
        let mut owner = store.allocate(Dropped(StdArc::default()));
        let (mut first, mut second) = (owner.issue(0), owner.issue(0));
        let other = thread::spawn(move || {
            let count = StdArc::new(Count::default());
            let waker = Waker::from(count.clone());
            let pending = second.poll(&mut Context::from_waker(&waker)).is_pending();
            (pending, count, second)
        });
        let resolver = thread::spawn(move || owner.ack(Some(1), None, &mut WakeList::new()));
        let count = StdArc::new(Count::default());
        let waker = Waker::from(count.clone());
        let pending = first.poll(&mut Context::from_waker(&waker)).is_pending();
        let (other_pending, other_count, second) = other.join().expect("it does not panic");
        resolver.join().expect("it does not panic");
        assert_eq!(count.0.load(Ordering::Relaxed), usize::from(pending));
        assert_eq!(other_count.0.load(Ordering::Relaxed), usize::from(other_pending));
        drop((first, second));
        let (live, _, waiters) = store.usage();
        assert_eq!((live, waiters), (0, 0));
    });
}

#[test]
fn a_forward_is_followed_to_its_end() {
    model(5, || {
        let drops = StdArc::new(AtomicUsize::new(0));
        let store = Store::new();
        let mut owner = store.allocate(Dropped(drops.clone()));
        let mut target = store.allocate(Dropped(drops.clone()));
        let mut handle = owner.issue(0);
        let resolver = thread::spawn(move || {
            let mut wakes = WakeList::new();
            let mut table = ForwardTable::with_capacity(1);
            table.forward(1, &mut target);
            owner.forward(table, &mut wakes);
            wakes.wake_all();
            target.ack(Some(3), None, &mut wakes);
        });
        let count = StdArc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut polls = 0;
        while handle.poll(&mut Context::from_waker(&waker)).is_pending() {
            polls += 1;
            while count.0.load(Ordering::Relaxed) < polls {
                thread::yield_now();
            }
        }
        assert_eq!(handle.offset(), Some(3));
        drop(handle);
        resolver.join().expect("it does not panic");
        assert_eq!(drops.load(Ordering::Relaxed), 2);
        assert_eq!(store.usage().0, 0);
    });
}

#[test]
fn a_handle_made_from_another_keeps_the_cell() {
    model(5, || {
        let drops = StdArc::new(AtomicUsize::new(0));
        let store = Store::new();
        let mut owner = store.allocate(Dropped(drops.clone()));
        let handle = owner.issue(0);
        // As soon as there are two, either may be the last, before the resolution or after it.
        let watcher = handle.again();
        let watching = thread::spawn(move || {
            let offset = watcher.again().offset();
            drop(watcher);
            offset
        });
        let resolver = thread::spawn(move || owner.ack(Some(1), None, &mut WakeList::new()));
        drop(handle);
        let offset = watching.join().expect("it does not panic");
        assert!(offset.is_none_or(|offset| offset == 1));
        resolver.join().expect("it does not panic");
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert_eq!(store.usage().0, 0);
    });
}

/// Sleeps as a poll does: once woken, it does not sleep. Loom reports a sleep without end.
#[derive(Default)]
struct Poll {
    woken: loom::sync::Mutex<bool>,
    changed: loom::sync::Condvar,
}

impl Poll {
    fn sleep(&self) {
        let mut woken = self.woken.lock().expect("nobody panics with it");
        while !*woken {
            woken = self.changed.wait(woken).expect("nobody panics with it");
        }
    }
}

impl WakeLoop for Poll {
    fn wake(&self) {
        *self.woken.lock().expect("nobody panics with it") = true;
        self.changed.notify_one();
    }
}

fn mailbox<T>() -> (Mailbox<T>, StdArc<Poll>) {
    let poll = StdArc::new(Poll::default());
    (Mailbox::new(StdArc::default(), poll.clone()), poll)
}

/// The loop sleeps once at the most. More would be too much for loom: the next announcement of a
/// sleep is a plain store, which it does not order behind a swap that a sender did before.
#[test]
fn messages_that_are_sent_while_their_loop_goes_to_sleep_wake_it() {
    model(5, || {
        let (own, poll) = mailbox();
        let (other, own) = (StdArc::new(own.beside()), StdArc::new(own));
        let senders =
            [own.clone(), other.clone()].map(|mailbox| thread::spawn(move || mailbox.send(())));
        let taken = || [&own, &other].into_iter().filter_map(|mailbox| mailbox.pop()).count();
        let mut count = taken();
        own.prepare_to_sleep();
        if count == 0 && own.is_empty() && other.is_empty() {
            poll.sleep();
            assert!(!own.is_empty() || !other.is_empty(), "woken for nothing");
        }
        own.awake();
        senders.into_iter().for_each(|sender| sender.join().expect("it does not panic"));
        count += taken();
        assert_eq!(count, 2);
    });
}

#[test]
fn messages_that_are_sent_while_their_loop_ends_are_dropped_once() {
    model(5, || {
        let drops = StdArc::new(AtomicUsize::new(0));
        let mailbox = StdArc::new(mailbox().0);
        let senders = [(); 2].map(|()| {
            let (mailbox, message) = (mailbox.clone(), Dropped(drops.clone()));
            thread::spawn(move || mailbox.send(message))
        });
        let taken = mailbox.pop();
        mailbox.end();
        senders.into_iter().for_each(|sender| sender.join().expect("it does not panic"));
        let dropped = drops.load(Ordering::Relaxed);
        assert_eq!(dropped + usize::from(taken.is_some()), 2, "left behind, or dropped twice");
        assert!(mailbox.is_empty());
    });
}
