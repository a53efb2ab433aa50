//! Loom models of the pool: levels and waiters against takes and releases of other threads.
//! `RUSTFLAGS="--cfg loom" cargo test --release --lib interleavings`

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ::loom::thread;

use super::*;

fn model(bound: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.check(test);
}

/// One chunk, and a broker's account that is over its high level with two pages and under its low
/// one with none.
fn pool() -> (BufferPool, AccountId) {
    let pool = BufferPool::new(&BufferPoolOptions {
        bytes: CHUNK_BYTES,
        accounts_max: 3,
        high: Some(PAGE_BYTES),
        low: Some(PAGE_BYTES),
        ..BufferPoolOptions::default()
    });
    let pool = pool.expect("a small pool can be mapped");
    let account = pool.open_account(AccountKind::Broker).expect("an account is left");
    (pool, account)
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a parked sender does: registers, looks again, sleeps. Ready at once or woken once.
struct Parked {
    ticket: WaitTicket,
    count: Arc<Count>,
    slept: bool,
}

impl Parked {
    fn new(pool: &BufferPool, account: AccountId, bytes: usize) -> Parked {
        let mut ticket = pool.wait(account, bytes).expect("that much fits");
        let count = Arc::new(Count::default());
        let slept = poll(&mut ticket, &count).is_pending();
        Parked { ticket, count, slept }
    }

    /// After all that it waited for has happened.
    fn must_be_up(&mut self) {
        let woken = self.count.0.load(Ordering::Relaxed);
        assert_eq!(woken, usize::from(self.slept), "woken, and once, if it slept");
        assert!(self.ticket.is_ready(), "it sleeps for ever");
    }
}

fn poll(ticket: &mut WaitTicket, count: &Arc<Count>) -> Poll<()> {
    let waker = Waker::from(count.clone());
    ticket.poll(&mut Context::from_waker(&waker))
}

#[test]
fn a_sender_that_parks_during_the_last_release_is_woken() {
    model(5, || {
        let (pool, account) = pool();
        let segments = [(); 2].map(|()| pool.take_one(account, Class::Kib4).expect("room"));
        assert!(!pool.is_writable(account));
        let releases = {
            let segments = segments.map(|segment| thread::spawn(move || drop(segment)));
            segments.into_iter()
        };
        let mut parked = Parked::new(&pool, account, 0);
        releases.for_each(|release| release.join().expect("it does not panic"));
        parked.must_be_up();
        assert!(pool.is_writable(account));
        let levels = pool.levels(account);
        assert_eq!((levels.charged, levels.times_unwritable, levels.times_writable), (0, 1, 1));
        drop(parked);
        assert!(!pool.has_waiters());
        pool.assert_all_free();
    });
}

#[test]
fn a_sender_that_waits_for_room_gets_it_before_those_who_do_not_wait() {
    model(5, || {
        let (pool, account) = pool();
        let all = pool.take_one(AccountId::LEADERLESS, Class::Kib64).expect("it is all free");
        let release = thread::spawn(move || drop(all));
        let other = {
            let pool = pool.clone();
            thread::spawn(move || pool.take_one(AccountId::LEADERLESS, Class::Kib4).is_some())
        };
        let mut parked = Parked::new(&pool, account, CHUNK_BYTES);
        release.join().expect("it does not panic");
        other.join().expect("it does not panic");
        parked.must_be_up();
        let segment = parked.ticket.take(CHUNK_BYTES, Class::Kib64).expect("it was kept");
        drop((segment, parked));
        pool.assert_all_free();
    });
}

#[test]
fn a_waiter_that_gives_up_while_it_is_admitted_passes_its_room_on() {
    model(5, || {
        let (pool, account) = pool();
        let all = pool.take_one(AccountId::LEADERLESS, Class::Kib64).expect("it is all free");
        let first = Parked::new(&pool, account, CHUNK_BYTES);
        let mut second = Parked::new(&pool, account, CHUNK_BYTES);
        let release = thread::spawn(move || drop(all));
        let gives_up = thread::spawn(move || drop(first));
        release.join().expect("it does not panic");
        gives_up.join().expect("it does not panic");
        second.must_be_up();
        drop(second);
        pool.assert_all_free();
    });
}

#[test]
fn a_level_crossed_to_and_fro_counts_as_often_down_as_up() {
    model(5, || {
        let (pool, account) = pool();
        let sender = {
            let pool = pool.clone();
            thread::spawn(move || {
                let taken = [(); 2].map(|()| pool.take_one(account, Class::Kib4));
                pool.release_all(taken.into_iter().flatten());
            })
        };
        for _ in 0..2 {
            drop(pool.take_one(account, Class::Kib4));
        }
        sender.join().expect("it does not panic");
        let levels = pool.levels(account);
        assert_eq!((levels.charged, levels.writable), (0, true));
        assert_eq!(levels.times_unwritable, levels.times_writable);
        pool.assert_all_free();
    });
}

#[test]
fn closing_wakes_whoever_parks_meanwhile_or_shows_its_flag() {
    model(5, || {
        let (pool, account) = pool();
        let all = pool.take_one(AccountId::LEADERLESS, Class::Kib64).expect("it is all free");
        let closed = ::loom::sync::Arc::new(::loom::sync::atomic::AtomicBool::new(false));
        let closing = {
            let (pool, closed) = (pool.clone(), closed.clone());
            thread::spawn(move || {
                closed.store(true, ::loom::sync::atomic::Ordering::Relaxed);
                pool.wake_all();
            })
        };
        let mut parked = Parked::new(&pool, account, CHUNK_BYTES);
        // Registered, then looked again.
        let seen = closed.load(::loom::sync::atomic::Ordering::Relaxed);
        closing.join().expect("it does not panic");
        assert!(seen || parked.ticket.is_ready(), "it sleeps through the end");
        if !seen {
            parked.must_be_up();
        }
        drop((parked, all));
        pool.assert_all_free();
    });
}
