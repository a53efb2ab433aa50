use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use crate::engine::sync::{
    Abandon, CellOwner, CellStore, ForwardTable, Handle, Outcome, WakeList, block_on,
};

/// Counts how many of its clones are alive.
struct Counting {
    name: u32,
    alive: Arc<AtomicUsize>,
}

impl Counting {
    fn new(name: u32, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { name, alive: alive.clone() }
    }
}

impl Clone for Counting {
    fn clone(&self) -> Self {
        Self::new(self.name, &self.alive)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Underflow on a double drop shows in the final comparison with 0.
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Abandon<Counting> for Counting {
    fn abandoned(context: &Counting) -> Self {
        Counting::new(ABANDONED + context.name, &context.alive)
    }
}

const ABANDONED: u32 = 1_000;

type Store = CellStore<Counting, Counting>;
type Owner = CellOwner<Counting, Counting>;
type Delivery = Handle<Counting, Counting>;

/// A store, and checks at the end that nothing is left in it and everything was dropped once.
fn with_store(test: impl FnOnce(&Store, &dyn Fn(u32) -> Counting)) {
    let alive = Arc::new(AtomicUsize::new(0));
    let store = Store::new();
    test(&store, &|name| Counting::new(name, &alive));
    let (live, _, waiters) = store.usage();
    assert_eq!((live, waiters), (0, 0), "cells and waiters left");
    assert_eq!(alive.load(Ordering::Relaxed), 0, "contexts and errors left");
}

/// An outcome as something that can be compared: offset and append time, or the error's name.
type Comparable = Result<(Option<i64>, Option<i64>), u32>;

fn outcome(handle: &Delivery) -> Option<Comparable> {
    Some(match handle.try_outcome()? {
        Outcome::Acked { offset, append_time } => Ok((offset, append_time)),
        Outcome::Failed(error) => Err(error.name),
    })
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counting_waker() -> (Arc<CountingWaker>, Waker) {
    let counter = Arc::new(CountingWaker::default());
    (counter.clone(), Waker::from(counter))
}

fn is_pending(handle: &mut Delivery, waker: &Waker) -> bool {
    handle.poll(&mut Context::from_waker(waker)).is_pending()
}

#[test]
fn an_acknowledged_batch_gives_each_record_its_offset() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(3));
        let handles: Vec<_> = (0..3).map(|n| owner.issue(100 + n)).collect();
        assert_eq!(owner.issued(), 3);
        assert_eq!(outcome(&handles[0]), None);
        let mut wakes = WakeList::new();
        owner.ack(Some(40), Some(7), &mut wakes);
        assert!(wakes.is_empty());
        for (n, handle) in (0..).zip(&handles) {
            assert_eq!(outcome(handle), Some(Ok((Some(40 + n), Some(7)))));
            assert_eq!((handle.offset(), handle.append_time()), (Some(40 + n), Some(7)));
            assert_eq!((handle.timestamp(), i64::from(handle.index())), (100 + n, n));
            assert_eq!(handle.context().name, 3);
            assert!(handle.error().is_none());
        }
    });
}

#[test]
fn offsets_that_the_broker_did_not_say_are_none() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let handle = owner.issue(0);
        owner.ack(None, None, &mut WakeList::new());
        assert_eq!(outcome(&handle), Some(Ok((None, None))));
    });
}

#[test]
fn whoever_comes_last_frees_the_cell() {
    with_store(|store, new| {
        // All handles before the resolution.
        let mut owner = store.allocate(new(1));
        drop((owner.issue(0), owner.issue(0)));
        assert_eq!(store.usage().0, 1);
        owner.fail(new(9), &mut WakeList::new());
        assert_eq!(store.usage().0, 0);
        // One before, one after.
        let mut owner = store.allocate(new(1));
        let (first, second) = (owner.issue(0), owner.issue(0));
        drop(first);
        owner.fail(new(9), &mut WakeList::new());
        assert_eq!(store.usage().0, 1);
        assert_eq!(second.error().map(|error| error.name), Some(9));
        drop(second);
        assert_eq!(store.usage().0, 0);
        // No handle at all.
        store.allocate(new(1)).ack(None, None, &mut WakeList::new());
        assert_eq!(store.usage().0, 0);
    });
}

#[test]
fn cells_are_reused() {
    with_store(|store, new| {
        for round in 0..if cfg!(miri) { 20 } else { 200 } {
            let mut owners: Vec<_> = (0..3).map(|n| store.allocate(new(n))).collect();
            let handle = owners[1].issue(0);
            for owner in owners {
                owner.ack(Some(round), None, &mut WakeList::new());
            }
            assert_eq!(handle.offset(), Some(round));
        }
        let (_, cells, _) = store.usage();
        assert_eq!(cells, 64, "one chunk serves them all");
        let owners: Vec<_> = (0..65).map(|n| store.allocate(new(n))).collect();
        assert_eq!(store.usage().1, 128);
        drop(owners);
    });
}

#[test]
fn an_owner_dropped_unresolved_fails_as_abandoned_and_wakes() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(5));
        let mut handle = owner.issue(0);
        let (count, waker) = counting_waker();
        assert!(is_pending(&mut handle, &waker));
        drop(owner);
        assert_eq!(outcome(&handle), Some(Err(ABANDONED + 5)));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_handle_outlives_its_store() {
    let alive = Arc::new(AtomicUsize::new(0));
    let store = Store::new();
    let mut owner = store.allocate(Counting::new(4, &alive));
    let handle = owner.issue(0);
    drop(store);
    owner.ack(Some(1), None, &mut WakeList::new());
    assert_eq!((handle.offset(), handle.context().name), (Some(1), 4));
    drop(handle);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_shared_failure_issues_handles_that_are_resolved() {
    with_store(|store, new| {
        let failure = store.allocate_failed(new(2), new(8));
        let (mut first, second) = (failure.issue(11), failure.issue(12));
        assert!(!is_pending(&mut first, Waker::noop()));
        drop(first);
        drop(failure);
        assert_eq!((outcome(&second), second.timestamp()), (Some(Err(8)), 12));
        assert_eq!(second.context().name, 2);
    });
}

#[test]
fn waiters_are_woken_once_in_order_of_arrival() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let mut handles: Vec<_> = (0..3).map(|_| owner.issue(0)).collect();
        let (count, waker) = counting_waker();
        for handle in &mut handles {
            assert!(is_pending(handle, &waker));
            // The same waker again takes no second slot.
            assert!(is_pending(handle, &waker));
        }
        assert_eq!(store.usage().2, 4, "three waiters and their root");
        let mut wakes = WakeList::new();
        owner.ack(Some(0), None, &mut wakes);
        assert_eq!((wakes.len(), count.0.load(Ordering::Relaxed)), (3, 0));
        assert_eq!(wakes.wake_all(), 0);
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        for handle in &mut handles {
            assert!(!is_pending(handle, &waker));
        }
        assert_eq!(store.usage().2, 0);
    });
}

#[test]
fn only_the_last_polls_waker_is_called() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let mut handle = owner.issue(0);
        let ((old_count, old), (new_count, newer)) = (counting_waker(), counting_waker());
        assert!(is_pending(&mut handle, &old));
        assert!(is_pending(&mut handle, &newer));
        drop(old);
        assert_eq!(Arc::strong_count(&old_count), 1, "the old waker is dropped");
        let mut wakes = WakeList::new();
        owner.ack(Some(0), None, &mut wakes);
        wakes.wake_all();
        let counts = [old_count, new_count].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(counts, [0, 1]);
    });
}

#[test]
fn a_dropped_handle_is_not_woken() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let mut handles: Vec<_> = (0..3).map(|_| owner.issue(0)).collect();
        let (count, waker) = counting_waker();
        for handle in &mut handles {
            assert!(is_pending(handle, &waker));
        }
        drop(handles.remove(1));
        assert_eq!(store.usage().2, 3, "its slot is free at once");
        let mut wakes = WakeList::new();
        owner.ack(Some(0), None, &mut wakes);
        // Woken, and dropped before it polls again.
        drop(handles);
        wakes.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_waker_may_drop_handles_of_the_same_store() {
    struct Holding {
        _handle: Delivery,
    }
    impl Wake for Holding {
        fn wake(self: Arc<Self>) {}
    }
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let (mut inner, mut outer) = (owner.issue(0), owner.issue(0));
        assert!(is_pending(&mut inner, Waker::noop()));
        // The registered waker is the only owner of a handle with a waiter of its own.
        let holding = Waker::from(Arc::new(Holding { _handle: inner }));
        assert!(is_pending(&mut outer, &holding));
        drop(holding);
        drop(outer);
        assert_eq!(store.usage().2, 1, "only the root is left");
        owner.ack(None, None, &mut WakeList::new());
    });
}

#[test]
fn a_panicking_waker_does_not_stop_the_others() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            // Of no size, so that giving this payload up leaks nothing.
            std::panic::resume_unwind(Box::new(()));
        }
    }
    struct Panicking;
    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            std::panic::panic_any(Payload);
        }
    }
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let (mut first, mut second) = (owner.issue(0), owner.issue(0));
        let (count, waker) = counting_waker();
        assert!(is_pending(&mut first, &Waker::from(Arc::new(Panicking))));
        assert!(is_pending(&mut second, &waker));
        let mut wakes = WakeList::new();
        owner.ack(Some(0), None, &mut wakes);
        assert_eq!(wakes.wake_all(), 1);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(wakes.is_empty());
    });
}

#[test]
fn a_dropped_wake_list_wakes() {
    with_store(|store, new| {
        let mut owner = store.allocate(new(1));
        let mut handle = owner.issue(0);
        let (count, waker) = counting_waker();
        assert!(is_pending(&mut handle, &waker));
        owner.ack(Some(0), None, &mut WakeList::new());
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    });
}

fn forward_in_two(owner: Owner, left: &mut Owner, right: &mut Owner, wakes: &mut WakeList) {
    let half = owner.issued() / 2;
    let mut table = ForwardTable::with_capacity(2);
    table.forward(half, left);
    table.forward(owner.issued() - half, right);
    owner.forward(table, wakes);
}

#[test]
fn a_share_becomes_a_handle_after_its_cell_was_resolved_or_split_too() {
    with_store(|store, new| {
        let mut wakes = WakeList::new();
        let mut owner = store.allocate(new(1));
        let (first, second) = (owner.issue_bare(), owner.issue_bare());
        owner.ack(Some(40), None, &mut wakes);
        // The only share that is left keeps the cell.
        let first = first.into_handle(5);
        assert_eq!((outcome(&first), first.timestamp()), (Some(Ok((Some(40), None))), 5));
        drop(first);
        assert_eq!(outcome(&second.into_handle(6)), Some(Ok((Some(41), None))));

        let mut whole = store.allocate(new(2));
        let shares = [whole.issue_bare(), whole.issue_bare()];
        let (mut left, mut right) = (store.allocate(new(3)), store.allocate(new(4)));
        forward_in_two(whole, &mut left, &mut right, &mut wakes);
        left.ack(Some(7), None, &mut wakes);
        right.fail(new(9), &mut wakes);
        let outcomes = shares.map(|share| outcome(&share.into_handle(0)));
        assert_eq!(outcomes, [Some(Ok((Some(7), None))), Some(Err(9))]);
    });
}

#[test]
fn a_split_batch_is_followed_by_polling() {
    with_store(|store, new| {
        let mut whole = store.allocate(new(1));
        let mut handles: Vec<_> = (0..4).map(|_| whole.issue(0)).collect();
        let (count, waker) = counting_waker();
        assert!(is_pending(&mut handles[1], &waker));
        let (mut left, mut right) = (store.allocate(new(2)), store.allocate(new(3)));
        let mut wakes = WakeList::new();
        forward_in_two(whole, &mut left, &mut right, &mut wakes);
        wakes.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!((left.issued(), right.issued()), (2, 2));
        // Woken to find that it has to wait elsewhere.
        assert!(is_pending(&mut handles[1], &waker));
        left.ack(Some(10), None, &mut wakes);
        wakes.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert_eq!(outcome(&handles[2]), None);
        right.fail(new(9), &mut wakes);
        assert_eq!(outcome(&handles[0]), Some(Ok((Some(10), None))));
        assert_eq!(outcome(&handles[1]), Some(Ok((Some(11), None))));
        assert_eq!(outcome(&handles[2]), Some(Err(9)));
        let names: Vec<_> = handles.iter().map(|handle| handle.context().name).collect();
        assert_eq!(names, [2, 2, 3, 3], "the last cell names the topic");
        assert_eq!(store.usage().0, 3);
    });
}

#[test]
fn single_records_fail_and_the_others_go_on() {
    with_store(|store, new| {
        let mut first = store.allocate(new(1));
        let handles: Vec<_> = (0..5).map(|_| first.issue(0)).collect();
        let mut again = store.allocate(new(1));
        let mut table = ForwardTable::with_capacity(3);
        table.forward(1, &mut again);
        table.forward(1, &mut again);
        table.fail(1, new(7));
        table.forward(2, &mut again);
        assert!(format!("{table:?}").contains("entries: 3"), "neighbours share an entry");
        first.forward(table, &mut WakeList::new());
        again.ack(Some(50), None, &mut WakeList::new());
        let offsets: Vec<_> = handles.iter().map(|handle| handle.offset()).collect();
        assert_eq!(offsets, [Some(50), Some(51), None, Some(52), Some(53)]);
        assert_eq!(handles[2].error().map(|error| error.name), Some(7));
        assert_eq!(handles[2].context().name, 1);
    });
}

#[test]
fn a_target_gives_indices_to_its_own_records_too() {
    with_store(|store, new| {
        let (mut stash, mut batch) = (store.allocate(new(1)), store.allocate(new(2)));
        let stashed = [stash.issue(0), stash.issue(0)];
        let mut table = ForwardTable::with_capacity(2);
        table.forward(1, &mut batch);
        let direct = batch.issue(0);
        table.forward(1, &mut batch);
        stash.forward(table, &mut WakeList::new());
        assert_eq!(batch.issued(), 3);
        batch.ack(Some(0), None, &mut WakeList::new());
        assert_eq!((stashed[0].offset(), direct.offset()), (Some(0), Some(1)));
        assert_eq!(stashed[1].offset(), Some(2));
    });
}

#[test]
fn long_chains_are_followed_and_freed_without_recursion() {
    let length = if cfg!(miri) { 70 } else { 100_000 };
    with_store(|store, new| {
        let mut owner = store.allocate(new(0));
        let handle = owner.issue(0);
        for name in 1..=length {
            let mut next = store.allocate(new(name));
            let mut table = ForwardTable::with_capacity(1);
            table.forward(1, &mut next);
            std::mem::replace(&mut owner, next).forward(table, &mut WakeList::new());
        }
        owner.ack(Some(5), None, &mut WakeList::new());
        assert_eq!((handle.offset(), handle.context().name), (Some(5), length));
        drop(handle);
    });
}

#[test]
fn a_table_that_is_not_used_gives_its_counts_back() {
    with_store(|store, new| {
        let mut target = store.allocate(new(1));
        let mut table = ForwardTable::with_capacity(2);
        table.forward(3, &mut target);
        table.fail(1, new(9));
        drop(table);
        target.ack(None, None, &mut WakeList::new());
    });
}

#[test]
#[should_panic(expected = "a table covers every record of its cell")]
fn a_table_must_cover_its_cell() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut owner = Store::new().allocate(Counting::new(1, &alive));
    let _handle = owner.issue(0);
    owner.forward(ForwardTable::with_capacity(0), &mut WakeList::new());
}

#[test]
fn handles_and_owners_go_to_other_threads() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Delivery>();
    assert_send_sync::<Owner>();
    assert_send_sync::<Store>();
    assert_send_sync::<ForwardTable<Counting, Counting>>();
}

/// Four threads wait for, poll and drop handles of batches that a fifth resolves in every way.
#[test]
fn many_threads_wait_for_what_one_resolves() {
    const THREADS: usize = 4;
    let rounds = if cfg!(miri) { 6 } else { 2_000 };
    with_store(|store, new| {
        let (batches, resolver_end) = std::sync::mpsc::channel::<Owner>();
        thread::scope(|scope| {
            let (senders, receivers): (Vec<_>, Vec<_>) =
                (0..THREADS).map(|_| std::sync::mpsc::channel::<Delivery>()).unzip();
            for receiver in receivers {
                scope.spawn(move || receiver.into_iter().enumerate().for_each(wait_or_drop));
            }
            scope.spawn(move || resolve_in_turn(store, resolver_end));
            for round in 0..rounds {
                let mut owner = store.allocate(new(round));
                for sender in &senders {
                    sender.send(owner.issue(i64::from(round))).expect("the thread receives");
                }
                batches.send(owner).expect("the thread receives");
            }
            drop(batches);
        });
        let (_, _, waiters) = store.usage();
        assert_eq!(waiters, 0);
    });
}

fn wait_or_drop((n, mut handle): (usize, Delivery)) {
    match n % 3 {
        0 => drop(is_pending(&mut handle, Waker::noop())),
        1 => drop(handle),
        _ => {
            let round = handle.timestamp();
            let outcome = block_on(|context| match handle.poll(context) {
                Poll::Ready(Outcome::Acked { offset, .. }) => Poll::Ready(offset),
                Poll::Ready(Outcome::Failed(error)) => Poll::Ready(Some(i64::from(error.name))),
                Poll::Pending => Poll::Pending,
            });
            let acked = round * 10 + i64::from(handle.index());
            let abandoned = round + i64::from(ABANDONED);
            assert!(outcome == Some(acked) || outcome == Some(abandoned), "{outcome:?}");
        }
    }
}

fn resolve_in_turn(store: &Store, batches: std::sync::mpsc::Receiver<Owner>) {
    let mut wakes = WakeList::new();
    for (n, mut owner) in batches.into_iter().enumerate() {
        let base = i64::from(owner.context().name) * 10;
        if n % 4 == 3 {
            let context = owner.context().clone();
            let mut next = store.allocate(context);
            let mut table = ForwardTable::with_capacity(1);
            table.forward(owner.issued(), &mut next);
            std::mem::replace(&mut owner, next).forward(table, &mut wakes);
            wakes.wake_all();
        }
        match n % 5 {
            0 => drop(owner),
            _ => owner.ack(Some(base), None, &mut wakes),
        }
        wakes.wake_all();
    }
}

#[test]
fn a_handle_made_from_another_is_of_the_same_record() {
    with_store(|store, named| {
        let mut owner = store.allocate(named(1));
        let (first, second) = (owner.issue(10), owner.issue(20));
        let watcher = second.again();
        drop((first, second));
        assert_eq!((watcher.timestamp(), watcher.index()), (20, 1));
        let another = watcher.again();
        owner.ack(Some(7), None, &mut WakeList::new());
        assert_eq!((watcher.offset(), another.offset()), (Some(8), Some(8)));
        drop(watcher);
        assert_eq!(another.again().offset(), Some(8));
    });
}
