use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use super::*;

mod loads;
mod model;

const KIB: usize = 1024;

fn pool(chunks: usize) -> BufferPool {
    BufferPool::new(&BufferPoolOptions {
        bytes: chunks * CHUNK_BYTES,
        accounts_max: 8,
        ..BufferPoolOptions::default()
    })
    .expect("a small pool can be mapped")
}

fn broker(pool: &BufferPool) -> AccountId {
    pool.open_account(AccountKind::Broker).expect("an account is left")
}

/// A waker that counts its calls.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Counter {
    fn woken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll(ticket: &mut WaitTicket, counter: &Arc<Counter>) -> Poll<()> {
    let waker = Waker::from(Arc::clone(counter));
    ticket.poll(&mut Context::from_waker(&waker))
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn park(ticket: &mut WaitTicket) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    while ticket.poll(&mut Context::from_waker(&waker)).is_pending() {
        thread::park();
    }
}

/// Takes single pages while the account is writable.
fn fill(pool: &BufferPool, account: AccountId) -> Vec<Segment> {
    let mut held = Vec::new();
    while pool.is_writable(account) {
        match pool.take_one(account, Class::Kib4) {
            Some(segment) => held.push(segment),
            None => break,
        }
    }
    held
}

#[test]
fn options_are_checked() {
    let build = |change: fn(&mut BufferPoolOptions)| {
        let mut options = BufferPoolOptions { bytes: CHUNK_BYTES, ..Default::default() };
        change(&mut options);
        BufferPool::new(&options).map(|pool| pool.capacity())
    };
    assert_eq!(build(|o| o.bytes = 3 * CHUNK_BYTES - 1), Ok(2 * CHUNK_BYTES));
    let bytes = CHUNK_BYTES - 1;
    assert_eq!(build(|o| o.bytes = CHUNK_BYTES - 1), Err(PoolError::TooSmall { bytes }));
    assert!(matches!(build(|o| o.bytes = usize::MAX), Err(PoolError::TooLarge { .. })));
    for accounts_max in [2, 65_536] {
        let options = BufferPoolOptions { bytes: CHUNK_BYTES, accounts_max, ..Default::default() };
        let refused = BufferPool::new(&options).map(drop);
        assert_eq!(refused, Err(PoolError::AccountsMax { accounts_max }));
    }
    let crossed = build(|o| (o.low, o.high) = (Some(2), Some(1)));
    assert_eq!(crossed, Err(PoolError::LevelsCrossed { low: 2, high: 1 }));
}

#[test]
fn best_effort_requests_are_reported() {
    let options = BufferPoolOptions {
        bytes: CHUNK_BYTES,
        huge_pages: true,
        populate: true,
        lock: true,
        ..Default::default()
    };
    let asked = BufferPool::new(&options).expect("best effort never fails a pool");
    let report = asked.report();
    for outcome in [&report.huge_pages, &report.populated, &report.locked] {
        assert_ne!(*outcome, Outcome::NotAsked);
    }
    let plain = pool(1);
    assert_eq!(plain.report().bytes, CHUNK_BYTES);
    assert_eq!(plain.report().locked, Outcome::NotAsked);
}

#[test]
fn a_fresh_segment_is_zero_and_a_recycled_one_is_still_in_cache() {
    let pool = pool(2);
    let mut first = pool.take_one(AccountId::LEADERLESS, Class::Kib16).expect("room");
    assert_eq!(first.len(), 16 * KIB);
    assert!(first.iter().all(|&byte| byte == 0));
    first.fill(7);
    let address = first.as_ptr();
    drop(first);
    let again = pool.take_one(AccountId::LEADERLESS, Class::Kib16).expect("room");
    assert_eq!(again.as_ptr(), address, "last in, first out");
    drop(again);
    pool.assert_all_free();
}

#[test]
fn truncation_returns_the_surplus_and_keeps_the_front() {
    let pool = pool(1);
    let account = broker(&pool);
    for (used, kept) in [(0, 4), (5 * KIB, 16), (16 * KIB, 16), (16 * KIB + 1, 64), (99 * KIB, 64)]
    {
        let mut segment = pool.take_one(account, Class::Kib64).expect("room");
        segment[..4].copy_from_slice(b"tide");
        segment.truncate_to(used);
        assert_eq!((segment.len(), segment.class().bytes()), (kept * KIB, kept * KIB));
        assert_eq!(&segment[..4], b"tide");
        assert_eq!(pool.levels(account).charged, kept * KIB);
        assert_eq!(pool.free_bytes(), (64 - kept) * KIB);
        segment.truncate_to(1);
        assert_eq!(segment.len(), 4 * KIB);
        drop(segment);
        pool.assert_all_free();
    }
}

#[test]
fn take_falls_to_a_smaller_class_only_if_one_segment_still_does() {
    let pool = pool(1);
    let account = broker(&pool);
    let page = pool.take_one(account, Class::Kib4).expect("room");
    assert!(pool.take_one(account, Class::Kib64).is_none());
    assert!(pool.take(account, 17 * KIB, Class::Kib64).is_none());
    assert_eq!(pool.take(account, 5 * KIB, Class::Kib64).map(|s| s.len()), Some(16 * KIB));
    assert_eq!(pool.take(account, 0, Class::Kib4).map(|s| s.len()), Some(4 * KIB));
    drop(page);
    pool.assert_all_free();
}

#[test]
fn whatever_is_free_can_be_had_in_pieces() {
    let pool = pool(2);
    let account = broker(&pool);
    let mut pages: Vec<_> =
        (0..32).map(|_| pool.take_one(account, Class::Kib4).expect("room")).collect();
    let mut odd = 0;
    pages.retain(|_| {
        odd += 1;
        odd % 2 == 0
    });
    assert_eq!(pool.stats().blocks_free, [16, 0, 0]);
    let mut large = Vec::new();
    assert!(!pool.take_bytes(account, 64 * KIB + 1, &mut large));
    assert!(large.is_empty(), "all or nothing");
    assert!(pool.take_bytes(account, 64 * KIB, &mut large));
    assert_eq!((large.len(), pool.free_bytes()), (16, 0));
    pool.release_all(pages.into_iter().chain(large));
    pool.assert_all_free();
    let mut large = Vec::new();
    assert!(pool.take_bytes(account, 101 * KIB, &mut large));
    let sizes: Vec<_> = large.iter().map(|segment| segment.len() / KIB).collect();
    assert_eq!(sizes, [64, 16, 16, 4, 4], "104 KiB, not more");
}

#[test]
fn release_all_takes_segments_of_other_pools_home_too() {
    let (ours, theirs) = (pool(1), pool(1));
    let mixed = [&ours, &theirs, &ours, &theirs]
        .map(|pool| pool.take_one(AccountId::LEADERLESS, Class::Kib4).expect("room"));
    ours.release_all(mixed);
    ours.assert_all_free();
    theirs.assert_all_free();
}

#[test]
fn a_segment_outlives_every_handle() {
    let pool = pool(1);
    let mut segment = pool.take_one(AccountId::LEADERLESS, Class::Kib64).expect("room");
    drop(pool);
    segment.fill(1);
    assert!(segment.iter().step_by(511).all(|&byte| byte == 1));
}

#[test]
fn scratches_are_contiguous_and_belong_to_no_account() {
    let pool = pool(4);
    let account = broker(&pool);
    let mut scratch = pool.carve_scratch(CHUNK_BYTES + 1).expect("half of the pool");
    assert_eq!(scratch.len(), 2 * CHUNK_BYTES);
    scratch.fill(3);
    let held = fill(&pool, account);
    assert!(scratch.iter().step_by(511).all(|&byte| byte == 3));
    assert!(held.iter().all(|segment| segment.iter().step_by(511).all(|&byte| byte == 0)));
    drop(held);
    assert_eq!(pool.stats().scratch, 2 * CHUNK_BYTES);
    let refused = PoolError::NoScratch { bytes: 3 * CHUNK_BYTES, free: 2 * CHUNK_BYTES };
    assert_eq!(pool.carve_scratch(3 * CHUNK_BYTES).map(drop), Err(refused));
    assert!(pool.carve_scratch(usize::MAX).is_err());
    let never = PoolError::NeverFits { bytes: 3 * CHUNK_BYTES, max: 2 * CHUNK_BYTES };
    assert_eq!(pool.wait(account, 3 * CHUNK_BYTES).map(drop), Err(never));
    drop(scratch);
    pool.assert_all_free();
}

#[test]
fn one_broker_may_use_eight_ninths_and_several_two_thirds_each_of_the_rest() {
    let pool = pool(if cfg!(miri) { 9 } else { 288 });
    let near = |held: &[Segment], numerator: usize, denominator: usize| {
        let (held, share) = (held.len() * PAGE_BYTES, pool.capacity() * numerator / denominator);
        assert!(held.abs_diff(share) <= PAGE_BYTES, "{held} of {share}");
    };
    let first = broker(&pool);
    let held = fill(&pool, first);
    near(&held, 8, 9);
    assert!(!pool.is_writable(first));
    drop(held);
    assert!(pool.is_writable(first));
    let second = broker(&pool);
    let stalled = fill(&pool, first);
    near(&stalled, 2, 3);
    let next = fill(&pool, second);
    near(&next, 2, 9);
    let third = broker(&pool);
    near(&fill(&pool, third), 2, 27);
    drop((stalled, next));
    pool.assert_all_free();
}

#[test]
fn levels_have_hysteresis_and_count_transitions() {
    let options = BufferPoolOptions {
        bytes: 4 * CHUNK_BYTES,
        high: Some(32 * KIB),
        low: Some(12 * KIB),
        ..Default::default()
    };
    let pool = BufferPool::new(&options).expect("valid");
    let account = broker(&pool);
    let mut held = Vec::new();
    let mut take = || held.push(pool.take_one(account, Class::Kib4).expect("room"));
    (0..6).for_each(|_| take());
    assert!(!pool.under_pressure(account), "24 KiB are three quarters");
    take();
    assert!(pool.under_pressure(account));
    take();
    assert!(pool.is_writable(account), "32 KiB are not above the high watermark");
    take();
    assert!(!pool.is_writable(account));
    while held.len() > 3 {
        held.pop();
        assert!(!pool.is_writable(account), "12 KiB are not below the low watermark");
    }
    held.pop();
    assert!(pool.is_writable(account));
    let levels = pool.levels(account);
    assert_eq!((levels.charged, levels.high, levels.low), (8 * KIB, 32 * KIB, 12 * KIB));
    assert_eq!((levels.times_unwritable, levels.times_writable), (1, 1));
}

#[test]
fn an_account_with_nothing_charged_is_writable_whatever_its_levels() {
    let options =
        BufferPoolOptions { bytes: CHUNK_BYTES, high: Some(0), low: None, ..Default::default() };
    let pool = BufferPool::new(&options).expect("valid");
    let account = broker(&pool);
    assert!(pool.is_writable(account));
    let segment = pool.take_one(account, Class::Kib4);
    assert!(segment.is_some() && !pool.is_writable(account));
    drop(segment);
    assert!(pool.is_writable(account));
}

#[test]
fn the_release_of_another_account_reopens_one_whose_level_rose() {
    let pool = pool(4);
    let (first, second) = (broker(&pool), broker(&pool));
    let other = pool.take_one(second, Class::Kib64);
    let also = pool.take_one(second, Class::Kib64);
    let mut held = fill(&pool, first);
    // 68 KiB charged, 60 free: not below half of twice that.
    held.truncate(17);
    assert!(!pool.is_writable(first));
    drop((other, also));
    assert!(pool.is_writable(first));
    drop(held);
    pool.assert_all_free();
}

#[test]
fn the_stash_never_holds_more_than_a_quarter() {
    let pool = pool(4);
    let held = fill(&pool, AccountId::STASH);
    assert_eq!(held.len() * PAGE_BYTES, CHUNK_BYTES);
    assert!(!pool.is_writable(AccountId::STASH), "a take was refused for the cap");
    assert!(!pool.take_bytes(AccountId::STASH, 1, &mut Vec::new()));
    let mut ticket = pool.wait(AccountId::STASH, 4 * KIB).expect("fits an empty stash");
    let never = PoolError::NeverFits { bytes: 68 * KIB, max: 64 * KIB };
    assert_eq!(pool.wait(AccountId::STASH, 65 * KIB).map(drop), Err(never));
    let counter = Arc::default();
    assert!(poll(&mut ticket, &counter).is_pending());
    assert_eq!(pool.stats().pledged, 0, "it waits for its level, not for the pool");
    drop(held);
    assert!(poll(&mut ticket, &counter).is_ready());
    assert_eq!(counter.woken(), 1);
}

#[test]
fn accounts_are_closed_and_used_again() {
    let pool = pool(2);
    let ids: Vec<_> = (0..6).map(|_| broker(&pool)).collect();
    let full = pool.open_account(AccountKind::Broker);
    assert_eq!(full, Err(PoolError::NoAccountLeft { accounts_max: 8 }));
    let held = fill(&pool, ids[0]);
    assert!(!pool.is_writable(ids[0]));
    let mut waiting = pool.wait(ids[0], 0).expect("valid");
    let counter = Arc::default();
    assert!(poll(&mut waiting, &counter).is_pending());
    pool.close_account(ids[0]);
    assert!(pool.is_writable(ids[0]) && waiting.is_ready(), "nobody waits for a broker that left");
    assert_eq!(counter.woken(), 1);
    assert!(pool.open_account(AccountKind::Broker).is_err(), "bytes are still charged to it");
    drop(held);
    assert!(pool.open_account(AccountKind::Broker).is_err(), "a ticket still names it");
    drop(waiting);
    assert_eq!(pool.open_account(AccountKind::Broker), Ok(ids[0]));
    assert_eq!(pool.levels(ids[0]).times_unwritable, 0);
    ids[1..].iter().for_each(|&id| pool.close_account(id));
    assert_eq!(pool.levels(ids[0]).high, 8 * pool.capacity(), "it is the only broker now");
}

#[test]
fn freed_bytes_gather_for_the_head() {
    let pool = pool(2);
    let account = AccountId::LEADERLESS;
    let mut held: Vec<_> =
        (0..32).map(|_| pool.take_one(account, Class::Kib4).expect("room")).collect();
    pool.release_all(held.drain(..8));
    // 96 of 128 KiB are charged: not more than eight times the free 32.
    assert!(pool.is_writable(account));
    let counter: Arc<Counter> = Arc::default();
    let mut head = pool.wait(account, 40 * KIB).expect("fits");
    let mut behind = pool.wait(account, 4 * KIB).expect("fits");
    let mut level_only = pool.wait(account, 0).expect("fits");
    assert!(poll(&mut head, &counter).is_pending() && poll(&mut behind, &counter).is_pending());
    assert!(poll(&mut level_only, &counter).is_ready(), "it needs none of the pool's bytes");
    assert!(pool.has_waiters() && pool.under_pressure(account));
    assert!(pool.take_one(account, Class::Kib4).is_none(), "32 free KiB are pledged");
    assert!(head.take_bytes(4, &mut Vec::new()).eq(&false), "it is not ready yet");
    held.pop();
    assert_eq!((head.is_ready(), counter.woken()), (false, 0));
    held.pop();
    assert_eq!((head.is_ready(), behind.is_ready(), counter.woken()), (true, false, 1));
    assert!(pool.take_one(account, Class::Kib4).is_none());
    let mut large = Vec::new();
    assert!(head.take_bytes(40 * KIB, &mut large));
    drop(head);
    assert!(!behind.is_ready());
    pool.release_all(large);
    assert!(behind.is_ready());
    assert_eq!(behind.take(100, Class::Kib16).map(|s| s.len()), Some(16 * KIB));
    assert_eq!(pool.stats().pledged, 0, "it took more than was kept");
    assert!(pool.take_one(account, Class::Kib4).is_some());
    drop((behind, level_only, held));
    pool.assert_all_free();
}

#[test]
fn one_who_waits_for_a_level_holds_up_nobody() {
    let pool = pool(4);
    let (stalled, healthy) = (broker(&pool), broker(&pool));
    let held = fill(&pool, stalled);
    assert!(!pool.is_writable(stalled));
    let counter = Arc::default();
    let mut first = pool.wait(stalled, 64 * KIB).expect("fits");
    assert!(poll(&mut first, &counter).is_pending());
    assert_eq!(pool.stats().pledged, 0);
    let second = pool.wait(healthy, 64 * KIB).expect("fits");
    assert!(second.is_ready());
    drop((second, held));
    assert!(first.is_ready());
    assert_eq!(counter.woken(), 1);
}

#[test]
fn an_account_that_blocks_frees_what_its_waiters_pledged() {
    let options = BufferPoolOptions {
        bytes: 2 * CHUNK_BYTES,
        high: Some(48 * KIB),
        ..BufferPoolOptions::default()
    };
    let pool = BufferPool::new(&options).expect("valid");
    let (first, second) = (broker(&pool), broker(&pool));
    let mut filler = Vec::new();
    assert!(pool.take_bytes(first, 48 * KIB, &mut filler));
    let mut early = pool.wait(first, 4 * KIB).expect("fits");
    let head = pool.wait(first, 100 * KIB).expect("fits");
    let behind = pool.wait(second, 8 * KIB).expect("fits");
    assert!(early.is_ready() && !head.is_ready() && !behind.is_ready());
    // The take of the admitted ticket brings the account above its level.
    let page = early.take(1, Class::Kib4);
    assert!(page.is_some() && !pool.is_writable(first));
    assert!(behind.is_ready() && !head.is_ready());
}

#[test]
fn a_ticket_dropped_after_its_wake_passes_it_on() {
    let pool = pool(1);
    let account = AccountId::LEADERLESS;
    let segment = pool.take_one(account, Class::Kib64);
    let counters: [Arc<Counter>; 3] = Default::default();
    let mut tickets = Vec::new();
    for counter in &counters {
        let mut ticket = pool.wait(account, 64 * KIB).expect("fits");
        assert!(poll(&mut ticket, counter).is_pending());
        tickets.push(ticket);
    }
    let woken = || counters.each_ref().map(|counter| counter.woken());
    drop(segment);
    assert_eq!(woken(), [1, 0, 0]);
    drop(tickets.remove(1));
    assert_eq!(woken(), [1, 0, 0]);
    drop(tickets.remove(0));
    assert_eq!(woken(), [1, 0, 1]);
    assert!(tickets.pop().is_some_and(|mut ticket| ticket.take(1, Class::Kib64).is_some()));
    pool.assert_all_free();
}

#[test]
fn a_waiting_head_that_gives_up_lets_the_next_in() {
    let pool = pool(2);
    let account = AccountId::LEADERLESS;
    let segment = pool.take_one(account, Class::Kib64);
    let head = pool.wait(account, 128 * KIB).expect("fits");
    let next = pool.wait(account, 64 * KIB).expect("fits");
    assert!(!next.is_ready());
    drop(head);
    assert!(next.is_ready());
    drop(segment);
}

#[test]
fn wake_all_reaches_more_waiters_than_one_round_of_wakers() {
    let pool = pool(1);
    let account = broker(&pool);
    let held = fill(&pool, account);
    let counter: Arc<Counter> = Arc::default();
    let mut tickets: Vec<_> = (0..50).map(|_| pool.wait(account, 4).expect("fits")).collect();
    assert!(tickets.iter_mut().all(|ticket| poll(ticket, &counter).is_pending()));
    pool.wake_all();
    assert!(tickets.iter().all(WaitTicket::is_ready));
    assert_eq!((counter.woken(), pool.has_waiters(), pool.stats().pledged), (50, false, 0));
    // And so does a release.
    tickets = (0..50).map(|_| pool.wait(account, 0).expect("fits")).collect();
    assert!(tickets.iter_mut().all(|ticket| poll(ticket, &counter).is_pending()));
    drop(held);
    assert_eq!(counter.woken(), 100);
}

#[test]
fn wakers_may_use_the_pool_and_may_panic() {
    struct Rude(BufferPool, AtomicBool);
    impl Wake for Rude {
        fn wake(self: Arc<Self>) {
            let room = self.0.take_one(AccountId::STASH, Class::Kib4).is_some();
            self.1.store(room, Ordering::SeqCst);
            panic!("a waker of user code");
        }
    }
    let pool = pool(4);
    let account = AccountId::LEADERLESS;
    let mut held = Vec::new();
    assert!(pool.take_bytes(account, 4 * CHUNK_BYTES, &mut held));
    let rude = Arc::new(Rude(pool.clone(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&rude));
    let counter = Arc::default();
    let mut first = pool.wait(account, 4).expect("fits");
    let mut second = pool.wait(account, 4).expect("fits");
    assert!(first.poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(poll(&mut second, &counter).is_pending());
    pool.release_all(held);
    assert!(rude.1.load(Ordering::SeqCst), "called without the mutex");
    assert_eq!(counter.woken(), 1, "a panic harms nobody else");
}

#[test]
fn a_large_record_is_not_starved_by_small_ones() {
    let pool = pool(4);
    let done = AtomicBool::new(false);
    let large_rounds = if cfg!(miri) { 2 } else { 200 };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                while !done.load(Ordering::Relaxed) {
                    held.extend(pool.take_one(AccountId::LEADERLESS, Class::Kib4));
                    if held.len() > 20 || !pool.is_writable(AccountId::LEADERLESS) {
                        held.pop_front();
                    }
                    if cfg!(miri) || pool.has_waiters() {
                        held.pop_front();
                        thread::yield_now();
                    }
                }
            });
        }
        let account = broker(&pool);
        for _ in 0..large_rounds {
            let mut ticket = pool.wait(account, 240 * KIB).expect("fits");
            park(&mut ticket);
            let mut record = Vec::new();
            assert!(ticket.take_bytes(240 * KIB, &mut record), "a ready ticket gets its bytes");
            drop(ticket);
            pool.release_all(record);
        }
        done.store(true, Ordering::Relaxed);
    });
    pool.assert_all_free();
}

#[test]
fn threads_never_share_bytes_nor_lose_a_wake() {
    let pool = pool(3);
    let rounds = if cfg!(miri) { 12 } else { 4_000 };
    let accounts = [broker(&pool), broker(&pool)];
    thread::scope(|scope| {
        for id in 1..=4u8 {
            let (pool, account) = (&pool, accounts[usize::from(id) % 2]);
            scope.spawn(move || {
                let mut state = u32::from(id);
                for _ in 0..rounds {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let bytes = (state >> 8) as usize % (100 * KIB) + 1;
                    let mut record = Vec::new();
                    while !pool.is_writable(account)
                        || !pool.take_bytes(account, bytes, &mut record)
                    {
                        let mut ticket = pool.wait(account, bytes).expect("fits");
                        park(&mut ticket);
                        if ticket.take_bytes(bytes, &mut record) {
                            break;
                        }
                    }
                    for segment in &mut record {
                        let end = segment.len() - 1;
                        (segment[0], segment[end]) = (id, id);
                    }
                    thread::yield_now();
                    for segment in &mut record {
                        assert_eq!((segment[0], segment[segment.len() - 1]), (id, id));
                        segment.truncate_to(state as usize % CHUNK_BYTES);
                    }
                    pool.release_all(record);
                }
            });
        }
    });
    pool.assert_all_free();
    assert!(accounts.iter().all(|&account| pool.levels(account).charged == 0));
}
