//! Records that come before their topic is known.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, Weak};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::engine::cluster::Want;
use crate::engine::cluster::tests::{LIMIT, machine};
use crate::engine::policy::PartitionRequest;
use crate::engine::protocol::records::Header;
use crate::engine::shard::{PortTable, Publisher, PublisherLimits};
use crate::engine::sync::Outcome;

fn destination() -> Destination {
    Destination { topic: "t".into(), partition: None }
}

/// Stashes one record as a sender does.
fn stash(
    bench: &Bench,
    topic: &TopicLanes,
    partition: Option<i32>,
    now: u64,
    parts: &RecordParts<'_>,
) -> CellHandle {
    let mut stash = topic.lock_stash();
    let mut spare = Vec::new();
    let missing = stash.missing(parts, now);
    if missing > 0 {
        assert!(bench.pool().take_bytes(AccountId::STASH, missing, &mut spare));
    }
    let cells = &bench.accumulator.cells;
    let record = (partition.map(PartitionId), 5, parts);
    stash.append(cells, &destination(), record, &mut spare, now)
}

fn stash_value(bench: &Bench, topic: &TopicLanes, value: &[u8]) -> CellHandle {
    stash(bench, topic, None, 0, &RecordParts { key: None, value: Some(value), headers: &[] })
}

fn drain_all(bench: &Bench, topic: &TopicLanes, budget: usize) -> Drained {
    let context = bench.context();
    let mut spare = Vec::new();
    let budget = (budget, &mut spare);
    let mut wakes = WakeList::new();
    drain_stash(&bench.accumulator, topic, &context, budget, &mut |_| {}, &mut wakes)
}

fn unknown(bench: &Bench, partitioner: impl Partitioner + 'static) -> Arc<TopicLanes> {
    bench.accumulator.topic("t", || Arc::new(partitioner) as Arc<dyn Partitioner>)
}

fn to_zero(_: &PartitionRequest<'_>) -> i32 {
    0
}

/// Seals and acknowledges everything in a lane; its values.
fn resolve(head: &mut LaneHead, base: i64) -> Vec<Vec<u8>> {
    head.lead_by(leader(1, 1));
    head.offer_identity(identity(7, 0), 1);
    head.tail.try_seal();
    let mut all = Vec::new();
    while head.tail.has_sealed() {
        let mut batch = drain(head);
        let offset = base + all.len() as i64;
        all.extend(values(&mut batch));
        ack(head, batch, offset);
    }
    all
}

#[test]
fn a_drained_record_is_what_was_stashed_and_its_delivery_follows_it() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let headers = [Header { key: "h", value: None }, Header { key: "", value: Some(b"") }];
    let long = vec![9; 100 << 10];
    let records = [
        (None, RecordParts { key: Some(b"k"), value: None, headers: &headers }),
        (Some(1), RecordParts { key: None, value: Some(b""), headers: &[] }),
        (None, RecordParts { key: Some(b""), value: Some(&long), headers: &[] }),
    ];
    let handles =
        records.each_ref().map(|(partition, parts)| stash(&bench, &topic, *partition, 0, parts));
    assert_eq!(handles[0].context().partition, None);
    let mut heads = bench.grow(&topic, 2);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
    assert_eq!(topic.state(), TopicState::Ready);
    let mut read = Vec::new();
    for head in &mut heads {
        head.lead_by(leader(1, 1));
        head.offer_identity(identity(7, 0), 1);
        head.tail.try_seal();
        while head.tail.has_sealed() {
            let mut batch = drain(head);
            let bytes = wire(&mut batch);
            let (reader, _) = RecordBatchReader::read(&bytes, 0).expect("it can be read");
            for record in reader.records().map(|record| record.expect("it can be read")) {
                let headers: Vec<_> = record
                    .headers
                    .map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec)))
                    .collect();
                assert_eq!(record.timestamp, 5);
                let key = record.key.map(<[u8]>::to_vec);
                read.push((head.tail.partition.0, key, record.value.map(<[u8]>::to_vec), headers));
            }
            ack(head, batch, read.len() as i64 - 1);
        }
    }
    let header = vec![("h".to_owned(), None), (String::new(), Some(Vec::new()))];
    assert_eq!(read[0], (0, Some(b"k".to_vec()), None, header));
    assert!(read[1] == (0, Some(Vec::new()), Some(long), Vec::new()));
    assert_eq!(read[2], (1, None, Some(Vec::new()), Vec::new()));
    let offsets = handles.each_ref().map(|handle| handle.offset());
    assert_eq!(offsets, [Some(0), Some(2), Some(1)]);
    assert_eq!(handles[1].context().partition, Some(crate::engine::protocol::PartitionId(1)));
    drop(heads);
    bench.assert_all_free();
}

/// Large records are runs of their own: the budget is looked at between them too.
#[test]
fn draining_stops_at_its_budget_between_runs() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let long = vec![9; 60 << 10];
    let handles = [(); 3].map(|()| stash_value(&bench, &topic, &long));
    let mut heads = bench.grow(&topic, 1);
    assert_eq!(drain_all(&bench, &topic, 1), Drained::More);
    assert_eq!(drain_all(&bench, &topic, 1), Drained::More);
    assert_ne!(topic.state(), TopicState::Ready);
    assert_eq!(drain_all(&bench, &topic, 1), Drained::Empty);
    assert_eq!(resolve(&mut heads[0], 0).len(), 3);
    assert_eq!(handles.each_ref().map(|handle| handle.offset()), [Some(0), Some(1), Some(2)]);
}

#[test]
fn draining_stops_at_its_budget_and_goes_on_where_it_stopped() {
    let bench = Bench::new(4 << 20, 1 << 16);
    let topic = unknown(&bench, to_zero);
    let sent: Vec<Vec<u8>> = (0..50).map(|i| vec![i; 500]).collect();
    let handles: Vec<_> = sent.iter().map(|value| stash_value(&bench, &topic, value)).collect();
    let mut head = bench.grow(&topic, 1).remove(0);
    topic.set_known(&topic.lock_stash(), 1);
    assert_eq!(topic.state(), TopicState::Draining);
    let mut calls = 1;
    while drain_all(&bench, &topic, 2_000) == Drained::More {
        assert_eq!(topic.state(), TopicState::Draining);
        calls += 1;
    }
    assert!(calls > 5, "{calls}");
    assert_eq!(topic.state(), TopicState::Ready);
    assert!(resolve(&mut head, 0) == sent, "in order, each once");
    let offsets: Vec<_> = handles.iter().map(|handle| handle.offset()).collect();
    assert!(offsets == (0..50).map(Some).collect::<Vec<_>>());
    let stash = topic.lock_stash();
    assert_eq!(stash.begun, stash.ended);
}

#[test]
fn without_room_the_record_waits_and_is_tried_again() {
    let bench = Bench::new(256 << 10, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let handles: Vec<_> = (0..3).map(|i| stash_value(&bench, &topic, &[i; 100])).collect();
    let mut head = bench.grow(&topic, 1).remove(0);
    let mut all = Vec::new();
    while let Some(segment) =
        bench.pool().take_one(bench.account, crate::engine::buffer::Class::Kib4)
    {
        all.push(segment);
    }
    let Drained::NoRoom(account, need) = drain_all(&bench, &topic, usize::MAX) else {
        panic!("the pool is empty");
    };
    assert_eq!(account, bench.account);
    assert!(need.bytes > 100);
    assert!(handles.iter().all(|handle| handle.try_outcome().is_none()));
    drop(all);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
    assert_eq!(resolve(&mut head, 10).len(), 3, "none is lost, none doubled");
    let offsets: Vec<_> = handles.iter().map(|handle| handle.offset()).collect();
    assert_eq!(offsets, [Some(10), Some(11), Some(12)]);
}

#[test]
fn c43_a_partitioner_that_panics_or_lies_fails_its_record_only() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, |request: &PartitionRequest<'_>| match request.value {
        Some(b"panic") => panic!("the test's partitioner panics here"),
        Some(b"far") => 9,
        Some(b"negative") => -5,
        _ => 0,
    });
    let handles = [b"good".as_slice(), b"panic", b"far", b"fine", b"negative"]
        .map(|value| stash_value(&bench, &topic, value));
    let mut head = bench.grow(&topic, 1).remove(0);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let drained = drain_all(&bench, &topic, usize::MAX);
    std::panic::set_hook(hook);
    assert_eq!(drained, Drained::Empty);
    assert_eq!(resolve(&mut head, 0), [b"good", b"fine"]);
    assert_eq!((handles[0].offset(), handles[3].offset()), (Some(0), Some(1)));
    let cause = |handle: &CellHandle| handle.error().expect("it has failed").cause().clone();
    assert_eq!(cause(&handles[1]), DeliveryErrorCause::PartitionerPanicked);
    for (partition, handle) in [(9, &handles[2]), (-5, &handles[4])] {
        let (partitions, by_partitioner) = (1, true);
        let lie = DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner };
        assert_eq!(cause(handle), lie);
    }
}

#[test]
fn c18_only_what_is_old_enough_fails() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let parts = RecordParts { key: None, value: Some(b"v"), headers: &[] };
    let old = stash(&bench, &topic, None, 0, &parts);
    let beside = stash(&bench, &topic, None, 10, &parts);
    let young = stash(&bench, &topic, None, 5_000 * MS, &parts);
    let fail = |came_before| {
        let mut wakes = WakeList::default();
        let failed = topic.lock_stash().fail(came_before, &destination(), &ANY_ERROR, &mut wakes);
        failed.records
    };
    assert_eq!(fail(10), 0, "a run expires by its last record");
    assert_eq!(fail(11), 2);
    assert!(matches!(old.try_outcome(), Some(Outcome::Failed(_))) && beside.error().is_some());
    assert_eq!(old.error().map(|e| e.certainty()), Some(Certainty::NotWritten));
    assert!(young.try_outcome().is_none());
    assert_eq!(topic.lock_stash().oldest_at(), Some(5_000 * MS));
    assert_eq!(fail(u64::MAX), 1);
    assert!(young.error().is_some());
    let stash = topic.lock_stash();
    assert_eq!((stash.begun, stash.ended), (2, 2), "flush waits for no more");
    drop(stash);
    bench.assert_all_free();
}

#[test]
fn c18_what_comes_later_to_an_unknown_topic_has_a_limit_of_its_own() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let mut machine = machine(&[], true);
    let limit = 4 * LIMIT;
    let ports = PortTable::new(1);
    let limits = PublisherLimits { shards_max: 1, brokers_max: 16, topic_idle_max: u64::MAX };
    let mut publisher = Publisher::new(bench.accumulator.clone(), ports, limits);
    let parts = RecordParts { key: None, value: Some(b"v"), headers: &[] };
    // Nobody answers, and the topic is mentioned once.
    let old = stash(&bench, &topic, None, 0, &parts);
    machine.handle_wanted(0, "t".into(), Want::Record);
    let young = stash(&bench, &topic, None, 5_000 * MS, &parts);
    publisher.fail_unknown(limit, &mut machine);
    assert!(old.error().is_some() && young.try_outcome().is_none());
    publisher.fail_unknown(limit + 4_999 * MS, &mut machine);
    assert!(young.try_outcome().is_none());
    publisher.fail_unknown(limit + 5_000 * MS, &mut machine);
    assert!(young.error().is_some());
}

#[test]
fn c46_a_half_drained_run_fails_only_what_has_not_moved() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let handles: Vec<_> = (0..4).map(|i| stash_value(&bench, &topic, &[i; 500])).collect();
    let mut head = bench.grow(&topic, 1).remove(0);
    assert_eq!(drain_all(&bench, &topic, 600), Drained::More);
    let mut wakes = WakeList::default();
    let failed = topic.lock_stash().fail(u64::MAX, &destination(), &ANY_ERROR, &mut wakes);
    drop(failed);
    let moved = resolve(&mut head, 0).len();
    assert!(moved > 0 && moved < 4);
    for (index, handle) in handles.iter().enumerate() {
        assert_eq!(handle.offset().is_some(), index < moved);
        assert_eq!(handle.error().is_some(), index >= moved);
    }
    assert!(topic.lock_stash().is_empty());
    drop(head);
    bench.assert_all_free();
}

#[test]
fn a_deadline_runs_from_when_the_record_was_accepted_not_from_when_it_was_moved() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let handle = stash_value(&bench, &topic, b"waited");
    bench.set_now(DELIVERY_TIMEOUT - MS);
    let mut head = bench.grow(&topic, 1).remove(0);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
    head.tail.try_seal();
    let mut wakes = WakeList::default();
    assert_eq!(head.expire(DELIVERY_TIMEOUT - MS, &ANY_ERROR, &mut wakes), 0);
    assert_eq!(head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut wakes), 1);
    assert!(handle.error().is_some());
}

/// The partitioner takes so long that the record that it is asked about expires meanwhile. Its
/// answer is for nobody: least of all for the run behind.
#[test]
fn a_record_that_expires_while_its_partition_is_chosen_is_not_sent() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let slow: Arc<OnceLock<Weak<TopicLanes>>> = Arc::default();
    let known = slow.clone();
    let topic = unknown(&bench, move |request: &PartitionRequest<'_>| {
        if request.value == Some(b"old")
            && let Some(topic) = known.get().and_then(Weak::upgrade)
        {
            let mut wakes = WakeList::default();
            let failed =
                topic.lock_stash().fail(1_000 * MS, &destination(), &ANY_ERROR, &mut wakes);
            assert_eq!(failed.records, 1);
        }
        0
    });
    slow.set(Arc::downgrade(&topic)).expect("it is set once");
    let value = |value| RecordParts { key: None, value: Some(value), headers: &[] };
    let old = stash(&bench, &topic, None, 0, &value(b"old"));
    let young = [b"y0", b"y1"]
        .map(|record| stash(&bench, &topic, None, 5_000 * MS, &value(record.as_slice())));
    let mut head = bench.grow(&topic, 1).remove(0);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
    assert_eq!(resolve(&mut head, 0), [b"y0", b"y1"], "what was reported as failed is not sent");
    assert_eq!(old.error().map(|error| error.certainty()), Some(Certainty::NotWritten));
    assert_eq!(young.each_ref().map(|handle| handle.offset()), [Some(0), Some(1)]);
    drop(head);
    bench.assert_all_free();
}

/// A partition that a record named is never taken for none, whatever its number. Senders refuse
/// negative ones; the stash does not rely on that.
#[test]
fn every_partition_number_is_a_number_like_another() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let parts = RecordParts { key: None, value: Some(b"v"), headers: &[] };
    let numbers = [i32::MAX, -1, i32::MIN];
    let named = numbers.map(|number| stash(&bench, &topic, Some(number), 0, &parts));
    let none = stash(&bench, &topic, None, 0, &parts);
    let mut head = bench.grow(&topic, 1).remove(0);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
    for (partition, handle) in numbers.into_iter().zip(named) {
        let (partitions, by_partitioner) = (1, false);
        let cause =
            DeliveryErrorCause::PartitionOutOfRange { partition, partitions, by_partitioner };
        assert_eq!(handle.error().map(|error| error.cause().clone()), Some(cause));
    }
    assert_eq!(resolve(&mut head, 0), [b"v"]);
    assert_eq!(none.offset(), Some(0));
}

/// Notes, when it is called, whether the stash is locked.
struct Looks {
    topic: Arc<TopicLanes>,
    locked: AtomicU32,
    unlocked: AtomicU32,
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        let found = if self.topic.stash_is_locked() { &self.locked } else { &self.unlocked };
        found.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that is called when memory returns to the pool may send, and so need the stash's lock.
#[test]
fn memory_of_a_stash_is_returned_without_its_lock() {
    for fails in [false, true] {
        let bench = Bench::new(256 << 10, 1 << 12);
        let topic = unknown(&bench, to_zero);
        let head = bench.grow(&topic, 1).remove(0);
        // Its batch has room for what is stashed.
        bench.append(&head.tail, b"before").expect("there is room");
        let rest = bench.pool().free_bytes();
        stash_value(&bench, &topic, b"stashed");
        let mut ticket = bench.pool().wait(bench.account, rest).expect("it fits");
        let (locked, unlocked) = (AtomicU32::new(0), AtomicU32::new(0));
        let looks = Arc::new(Looks { topic: topic.clone(), locked, unlocked });
        let waker = Waker::from(looks.clone());
        assert!(ticket.poll(&mut Context::from_waker(&waker)).is_pending());
        if fails {
            let mut wakes = WakeList::default();
            let failed = topic.lock_stash().fail(u64::MAX, &destination(), &ANY_ERROR, &mut wakes);
            drop(failed);
        } else {
            assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
        }
        let seen = [&looks.locked, &looks.unlocked].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(seen, [0, 1], "fails: {fails}; called with the lock held, and without");
    }
}

/// A flush looks again when something has ended that it waits for, and not each time that a loop
/// did something.
#[test]
fn only_what_a_flush_waits_for_wakes_it() {
    let bench = Bench::new(4 << 20, 1 << 14);
    let mut head = bench.led_head();
    let mut settle = |value: &[u8], flushed: bool| {
        let handle = bench.sealed(&head.tail, value);
        if flushed {
            let (target, _) = head.tail.seal(false);
            assert!(!head.tail.is_resolved_below(target));
        }
        let batch = drain(&mut head);
        let mut wakes = WakeList::default();
        head.settle_acked(0, batch, (Some(0), None), &mut wakes);
        assert!(handle.offset().is_some());
        wakes.take_flushers()
    };
    assert_eq!(
        [false, true, false, true].map(|flushed| settle(b"v", flushed)),
        [false, true, false, true]
    );

    // Nothing of a stash ends before a whole run has moved.
    let topic = bench.accumulator.topic("s", || Arc::new(to_zero) as Arc<dyn Partitioner>);
    (0..4).for_each(|i| drop(stash_value(&bench, &topic, &[i; 500])));
    let _head = bench.grow(&topic, 1);
    let drained = |budget: usize| {
        let (mut spare, mut wakes) = (Vec::new(), WakeList::default());
        let context = bench.context();
        let budget = (budget, &mut spare);
        let accumulator = &bench.accumulator;
        drain_stash(accumulator, &topic, &context, budget, &mut |_| {}, &mut wakes);
        wakes.take_flushers()
    };
    assert_eq!([drained(600), drained(usize::MAX), drained(usize::MAX)], [false, true, false]);
}

/// What is kept for each record of a run follows where the records went, not how many there are.
#[test]
fn a_run_of_records_that_go_the_same_way_takes_little_heap() {
    let bench = Bench::new(4 << 20, 1 << 16);
    let topic = unknown(&bench, to_zero);
    (0..100).for_each(|i| drop(stash_value(&bench, &topic, &[i])));
    let _head = bench.grow(&topic, 1);
    assert_eq!(drain_all(&bench, &topic, 2_000), Drained::More);
    let moving = topic.lock_stash().take_draining().expect("a run is half moved");
    assert!(moving.forward_capacity() <= 4, "{} entries", moving.forward_capacity());
    topic.lock_stash().put_back(moving);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
}

/// The pool is checked to hold a largest record twice: in the stash and in its batch.
#[test]
fn c40_a_record_takes_no_more_room_in_the_stash_than_as_a_batch_of_its_own() {
    let bench = Bench::new(8 << 20, 1 << 14);
    let topic = unknown(&bench, to_zero);
    let long = vec![7; 70_000];
    let tiny = vec![Header { key: "k", value: None }; 10_000];
    let lengths = [0, 1, 62, 63, 64, 126, 127, 128, 8_191, 8_192, 16_383, 16_384, 70_000];
    let others = lengths.map(|len| Header { key: "", value: Some(&long[..len]) });
    let none: &[Header<'_>] = &[];
    let all = [none, &tiny, &others].map(|headers| RecordParts { key: None, value: None, headers });
    let handles = all.each_ref().map(|parts| {
        let whole = crate::engine::protocol::records::single_record_batch_size(parts);
        assert!(stashed_len(parts) <= whole, "{} of {whole}", stashed_len(parts));
        stash(&bench, &topic, None, 0, parts)
    });
    let mut head = bench.grow(&topic, 1).remove(0);
    assert_eq!(drain_all(&bench, &topic, usize::MAX), Drained::Empty);
    head.lead_by(leader(1, 1));
    head.offer_identity(identity(7, 0), 1);
    head.tail.try_seal();
    let mut read = Vec::new();
    while head.tail.has_sealed() {
        let mut batch = drain(&mut head);
        let bytes = wire(&mut batch);
        let (reader, _) = RecordBatchReader::read(&bytes, 0).expect("it can be read");
        for record in reader.records().map(|record| record.expect("it can be read")) {
            read.push(record.headers.map(|h| h.value.map(<[u8]>::len)).collect::<Vec<_>>());
        }
        ack(&mut head, batch, 0);
    }
    assert!(handles.iter().all(|handle| handle.offset().is_some()));
    assert!(read[0].is_empty() && read[1] == [None; 10_000]);
    assert_eq!(read[2], lengths.map(Some));
}

/// Dropping it asks for a topic, as code of the application's may.
struct AsksWhenDropped(Weak<RecordAccumulator>);

impl Partitioner for AsksWhenDropped {
    fn partition(&self, _: &PartitionRequest<'_>) -> i32 {
        0
    }
}

impl Drop for AsksWhenDropped {
    fn drop(&mut self) {
        let accumulator = self.0.upgrade().expect("it outlives its topics here");
        let first: Arc<dyn Partitioner> = Arc::new(|_: &PartitionRequest<'_>| 0);
        accumulator.topic("asked for", || first);
    }
}

#[test]
fn a_partitioner_whose_topic_is_forgotten_is_dropped_without_a_lock() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let accumulator = bench.accumulator.clone();
    let partitioner: Arc<dyn Partitioner> = Arc::new(AsksWhenDropped(Arc::downgrade(&accumulator)));
    drop(accumulator.topic("idle", || partitioner));
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        accumulator.forget_topics(|name| name == "idle");
        done.send(accumulator).expect("the test waits");
    });
    let accumulator = is_done.recv_timeout(std::time::Duration::from_secs(60));
    let names: Vec<_> = accumulator.expect("no deadlock").topics_by_name().into_keys().collect();
    assert_eq!(names, ["asked for".into()]);
}
