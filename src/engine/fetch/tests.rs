//! What is asked of whom, and what becomes of the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

use super::batches::cut;
use super::*;
use crate::config::{OffsetReset, ReconnectBackoff, StartAt};
use crate::engine::cluster::tests::{machine, metadata, topic};
use crate::engine::cluster::{ChannelId, ClusterSnapshot, Want};
use crate::engine::protocol::records::{
    BATCH_HEADER_LEN, BatchHeader, RecordParts, RecordSize, encode_contiguous, records_crc,
};
use crate::engine::protocol::{
    AbortedTransaction, BrokerId, ErrorCode, FetchResponse, FetchedPartition, FoundOffset,
    ListOffsetsResponse, PartitionId, ProducerIdentity,
};

pub(super) const MS: u64 = 1_000_000;
pub(super) const ONE: BrokerId = BrokerId(1);
pub(super) const TWO: BrokerId = BrokerId(2);
pub(super) const ABLE: Abilities = Abilities { bounds_answers: true, finds_times: true };

pub(super) fn config() -> FetchConfig {
    FetchConfig {
        max_bytes: 1_000,
        partition_max_bytes: 500,
        batch_max_bytes: 4_000,
        queue_max_bytes: 4_000,
        reset: OffsetReset::None,
        retry_backoff: 100 * MS,
        reconnect: ReconnectBackoff {
            first: 50 * MS,
            longest: 1_000 * MS,
            quick: 0,
            jitter_percent: 0,
        },
    }
}

/// The picture of the topic "t" with these partitions: index, leader, epoch.
pub(super) fn snapshot(partitions: &[(i32, Option<i32>, i32)]) -> Arc<ClusterSnapshot> {
    let mut machine = machine(&["boot"], false);
    machine.handle_wanted(0, "t".into(), Want::Record);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(ChannelId::FIRST);
    machine.poll_query(ChannelId::FIRST, 0).expect("it asks");
    let answer = metadata(&[1, 2], vec![topic("t", partitions)]);
    machine.handle_metadata(ChannelId::FIRST, 0, &answer);
    machine.snapshot().clone()
}

/// A fetcher that reads partition 0 of "t" from an offset on, and is connected to its leader, 1.
fn reading(config: FetchConfig) -> Fetcher {
    let mut fetcher = Fetcher::new(config, 7);
    fetcher.want("t".into(), None, StartAt::Offset(0));
    assert_eq!(fetcher.handle_snapshot(&snapshot(&[(0, Some(1), 5)])), [SlotId(0)]);
    assert_eq!(taken(&mut fetcher), [(-1, 0)], "it is told where it begins");
    assert_eq!(fetcher.poll_connect(0), Some(ONE));
    assert_eq!(fetcher.poll_connect(0), None);
    fetcher.handle_ready(ONE, ABLE);
    fetcher
}

/// The offset that a broker is asked for; the question names one partition.
fn asks(fetcher: &mut Fetcher, now: u64, broker: BrokerId) -> Option<i64> {
    match fetcher.poll_question(now, broker, 0)? {
        Question::Records(_, topics) => Some(topics[0].1[0].offset),
        Question::Offsets(_) => panic!("it asks for offsets"),
    }
}

fn answer(partition: FetchedPartition) -> FetchResponse {
    FetchResponse { topics: vec![("t".to_owned(), vec![partition])], ..Default::default() }
}

fn fails(error: ErrorCode) -> FetchResponse {
    answer(FetchedPartition { error, ..Default::default() })
}

/// A batch of records whose values are one byte long.
fn batch(change: impl FnOnce(&mut BatchHeader), count: u32) -> Vec<u8> {
    let mut records = Vec::new();
    for index in 0..count {
        let parts = RecordParts { value: Some(b"v"), ..Default::default() };
        let size = RecordSize::of(index, 0, &parts).expect("small");
        let start = records.len();
        records.resize(start + size.total, 0);
        encode_contiguous(&mut records[start..], size, index, 0, &parts);
    }
    let mut header = BatchHeader {
        record_count: count,
        last_offset_delta: count as i32 - 1,
        records_len: records.len(),
        partition_leader_epoch: 5,
        ..BatchHeader::default()
    };
    change(&mut header);
    let mut front = [0; BATCH_HEADER_LEN];
    header.write(&mut front, records_crc([records.as_slice()]));
    [&front[..], &records].concat()
}

fn at(offset: i64, count: u32) -> Vec<u8> {
    batch(|header| header.base_offset = offset, count)
}

fn fetched(records: Vec<u8>) -> FetchedPartition {
    FetchedPartition { high_watermark: 100, records: records.into(), ..Default::default() }
}

/// The offsets of what was handed over: of a batch where it is read from and where it ends.
fn taken(fetcher: &mut Fetcher) -> Vec<(i64, i64)> {
    std::iter::from_fn(|| fetcher.poll_fetched())
        .map(|(_, _, fetched)| match fetched {
            Fetched::Batch(batch) => (batch.from, batch.next_offset()),
            Fetched::Passed(next) => (-1, next),
            Fetched::Failed(cause) => panic!("{cause}"),
        })
        .collect()
}

#[test]
fn a_partition_is_asked_for_where_the_last_answer_ended() {
    let mut fetcher = reading(config());
    assert_eq!(asks(&mut fetcher, 0, ONE), Some(0));
    assert_eq!(asks(&mut fetcher, 0, ONE), None, "one question at a time");
    fetcher.handle_records(0, ONE, &answer(fetched([at(0, 2), at(2, 3)].concat())));
    assert_eq!(taken(&mut fetcher), [(0, 2), (2, 5)]);
    assert_eq!(asks(&mut fetcher, 0, ONE), Some(5));
    // The batch that holds the offset comes whole, and one before it a second time.
    fetcher.handle_records(0, ONE, &answer(fetched([at(2, 3), at(4, 4)].concat())));
    assert_eq!(taken(&mut fetcher), [(5, 8)]);
    // An answer that does not name the partition, and one without records.
    assert_eq!(asks(&mut fetcher, 0, ONE), Some(8));
    fetcher.handle_records(0, ONE, &FetchResponse::default());
    assert_eq!((asks(&mut fetcher, 0, ONE), fetcher.poll_timeout(0)), (None, Some(100 * MS)));
    assert_eq!(asks(&mut fetcher, 100 * MS, ONE), Some(8));
    fetcher.handle_records(100 * MS, ONE, &answer(fetched(Vec::new())));
    assert_eq!(asks(&mut fetcher, 100 * MS, ONE), Some(8), "at once: the broker has waited");
}

#[test]
fn errors_of_the_moment_wait_and_ask_for_metadata_where_the_leader_has_moved() {
    for (error, refreshes) in [
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, true),
        (ErrorCode::FENCED_LEADER_EPOCH, true),
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, true),
        (ErrorCode::UNKNOWN_LEADER_EPOCH, false),
        (ErrorCode::OFFSET_NOT_AVAILABLE, false),
    ] {
        let mut fetcher = reading(config());
        asks(&mut fetcher, 0, ONE).expect("it asks");
        fetcher.handle_records(0, ONE, &fails(error));
        assert_eq!(fetcher.take_refresh_wanted(), refreshes, "{error}");
        assert_eq!(asks(&mut fetcher, 99 * MS, ONE), None, "{error}");
        assert_eq!(asks(&mut fetcher, 100 * MS, ONE), Some(0), "{error}");
    }
    // Another leader is asked at once.
    let mut fetcher = reading(config());
    asks(&mut fetcher, 0, ONE).expect("it asks");
    fetcher.handle_records(0, ONE, &fails(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    fetcher.handle_snapshot(&snapshot(&[(0, Some(2), 6)]));
    assert_eq!(fetcher.poll_connect(0), Some(TWO));
    fetcher.handle_ready(TWO, ABLE);
    assert_eq!((asks(&mut fetcher, 0, ONE), asks(&mut fetcher, 0, TWO)), (None, Some(0)));
}

#[test]
fn a_lost_answer_is_asked_for_again_and_a_late_leader_too() {
    let mut fetcher = reading(config());
    asks(&mut fetcher, 0, ONE).expect("it asks");
    fetcher.handle_down(0, ONE);
    assert!(fetcher.take_refresh_wanted());
    assert_eq!((fetcher.poll_connect(0), fetcher.poll_timeout(0)), (None, Some(50 * MS)));
    assert_eq!(fetcher.poll_connect(50 * MS), Some(ONE));
    // One that cannot be reached is tried ever more seldom.
    for wait in [100, 200, 400] {
        fetcher.handle_down(50 * MS, ONE);
        assert_eq!(fetcher.poll_timeout(50 * MS), Some((50 + wait) * MS));
        assert_eq!(fetcher.poll_connect((50 + wait) * MS), Some(ONE));
    }
    fetcher.handle_ready(ONE, ABLE);
    assert_eq!(asks(&mut fetcher, 0, ONE), Some(0));
    // The leader moves while its answer is awaited: the new one is asked at once, and only its
    // answer counts.
    fetcher.handle_snapshot(&snapshot(&[(0, Some(2), 6)]));
    assert_eq!(fetcher.poll_connect(0), Some(TWO));
    fetcher.handle_ready(TWO, ABLE);
    assert_eq!(asks(&mut fetcher, 0, TWO), Some(0));
    fetcher.handle_records(0, ONE, &answer(fetched(at(0, 2))));
    assert_eq!((taken(&mut fetcher), asks(&mut fetcher, 0, TWO)), (vec![], None));
    fetcher.handle_records(0, TWO, &answer(fetched(at(0, 2))));
    assert_eq!(taken(&mut fetcher), [(0, 2)]);
    // Nobody leads it.
    assert_eq!(asks(&mut fetcher, 0, TWO), Some(2));
    fetcher.handle_records(0, TWO, &answer(fetched(at(2, 1))));
    fetcher.handle_snapshot(&snapshot(&[(0, None, 7)]));
    assert_eq!((asks(&mut fetcher, 0, TWO), fetcher.poll_timeout(0)), (None, None));
}

#[test]
fn a_seek_makes_the_answer_on_its_way_worthless() {
    let mut fetcher = reading(config());
    asks(&mut fetcher, 0, ONE).expect("it asks");
    assert_eq!(fetcher.seek(SlotId(0), StartAt::Offset(50)), 1);
    assert_eq!(taken(&mut fetcher), [(-1, 50)]);
    fetcher.handle_records(0, ONE, &answer(fetched(at(0, 2))));
    assert_eq!(taken(&mut fetcher), []);
    assert_eq!(asks(&mut fetcher, 0, ONE), Some(50));
    fetcher.handle_records(0, ONE, &fails(ErrorCode::OFFSET_OUT_OF_RANGE));
    let (_, generation, failed) = fetcher.poll_fetched().expect("it is told");
    assert!(matches!(failed, Fetched::Failed(ConsumeErrorCause::OffsetOutOfRange { offset: 50 })));
    assert_eq!(generation, 1);
    assert_eq!(asks(&mut fetcher, 0, ONE), None, "until it is sought");
    fetcher.seek(SlotId(0), StartAt::Latest);
    let question = fetcher.poll_question(0, ONE, 0).expect("it asks where that is");
    assert!(matches!(question, Question::Offsets(_)));
    let found = FoundOffset {
        partition: PartitionId(0),
        error: ErrorCode::NONE,
        time: -1,
        offset: 70,
        leader_epoch: 5,
    };
    let offsets = |found| ListOffsetsResponse {
        topics: vec![("t".to_owned(), vec![found])],
        ..Default::default()
    };
    fetcher.handle_offsets(0, ONE, &offsets(found));
    assert_eq!(taken(&mut fetcher), [(-1, 70)]);
    assert_eq!(asks(&mut fetcher, 0, ONE), Some(70));
}

#[test]
fn no_more_is_asked_for_than_there_is_room_for() {
    let mut fetcher = Fetcher::new(config(), 7);
    fetcher.want("t".into(), None, StartAt::Offset(0));
    fetcher.handle_snapshot(&snapshot(&[(0, Some(1), 5), (1, Some(2), 5)]));
    for _ in 0..2 {
        let broker = fetcher.poll_connect(0).expect("two lead");
        fetcher.handle_ready(broker, ABLE);
    }
    assert_eq!(fetcher.poll_question(0, ONE, 3_001), None);
    assert!(fetcher.take_lacks_room() && !fetcher.take_lacks_room());
    assert!(fetcher.poll_question(0, ONE, 3_000).is_some());
    assert_eq!(fetcher.poll_question(0, TWO, 2_001), None, "1,000 are reserved");
    assert!(fetcher.poll_question(0, TWO, 2_000).is_some());
    // What was reserved is free again with the answer, and with its loss.
    fetcher.handle_records(0, ONE, &FetchResponse::default());
    fetcher.handle_down(0, TWO);
    assert!(fetcher.poll_question(100 * MS, ONE, 3_000).is_some());
}

#[test]
fn partitions_take_turns() {
    let mut fetcher = Fetcher::new(config(), 7);
    fetcher.want("t".into(), None, StartAt::Offset(0));
    fetcher.handle_snapshot(&snapshot(&[(0, Some(1), 5), (1, Some(1), 5), (2, Some(1), 5)]));
    fetcher.poll_connect(0).expect("one leads");
    fetcher.handle_ready(ONE, ABLE);
    let mut firsts = Vec::new();
    for _ in 0..6 {
        let Some(Question::Records(_, topics)) = fetcher.poll_question(0, ONE, 0) else {
            panic!("it asks for records")
        };
        assert_eq!(topics.iter().map(|topic| topic.1.len()).sum::<usize>(), 3);
        firsts.push(topics[0].1[0].partition.0);
        let empty = |partition| FetchedPartition { partition, ..Default::default() };
        let partitions = (0..3).map(|index| empty(PartitionId(index))).collect();
        let response =
            FetchResponse { topics: vec![("t".to_owned(), partitions)], ..Default::default() };
        fetcher.handle_records(0, ONE, &response);
    }
    assert_eq!(firsts, [1, 2, 0, 1, 2, 0], "the first gets what there is room for");
}

#[test]
fn a_broker_that_bounds_partitions_only_is_asked_for_no_more_than_there_is_room_for() {
    let config = FetchConfig {
        max_bytes: 64 << 10,
        partition_max_bytes: 60 << 10,
        batch_max_bytes: 1 << 20,
        queue_max_bytes: 1 << 20,
        ..config()
    };
    let mut fetcher = Fetcher::new(config, 7);
    fetcher.want("t".into(), None, StartAt::Offset(0));
    let led: Vec<_> = (0..6).map(|index| (index, Some(1), 5)).collect();
    fetcher.handle_snapshot(&snapshot(&led));
    fetcher.poll_connect(0).expect("one leads");
    fetcher.handle_ready(ONE, Abilities::of_versions(2, 0));
    let asked = |fetcher: &mut Fetcher, now: u64| {
        let Some(Question::Records(_, topics)) = fetcher.poll_question(now, ONE, 0) else {
            panic!("it asks for records")
        };
        let partitions = topics.into_iter().flat_map(|topic| topic.1);
        partitions.map(|it| (it.partition.0, it.max_bytes)).collect::<Vec<_>>()
    };
    let even = 16 << 10;
    assert_eq!(asked(&mut fetcher, 0), [1, 2, 3, 4].map(|partition| (partition, even)));
    // A message comes cut off: the next time there is more room for it, and for nothing else.
    let cut_off =
        FetchedPartition { partition: PartitionId(2), ..fetched(at(0, 200)[..50].into()) };
    fetcher.handle_records(
        0,
        ONE,
        &FetchResponse { topics: vec![("t".to_owned(), vec![cut_off])], ..Default::default() },
    );
    // First those that there was no room for.
    assert_eq!(asked(&mut fetcher, 0), [5, 0].map(|partition| (partition, (64 << 10) / 3)));
    fetcher.handle_records(0, ONE, &FetchResponse::default());
    assert_eq!(asked(&mut fetcher, 0), [(2, 120 << 10)]);
    // Every partition has its turn, however many there are and wherever the large one stands.
    while fetcher.poll_fetched().is_some() {}
    let mut seen = BTreeSet::new();
    for now in 1..=3 {
        fetcher.handle_records(now * 100 * MS, ONE, &FetchResponse::default());
        let partitions = asked(&mut fetcher, (now + 1) * 100 * MS);
        seen.extend(partitions.into_iter().map(|it| it.0));
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
    // Times are not found by such a broker, which says so.
    fetcher.handle_records(400 * MS, ONE, &FetchResponse::default());
    while fetcher.poll_fetched().is_some() {}
    fetcher.seek(SlotId(5), StartAt::Time(7));
    assert!(!asked(&mut fetcher, 500 * MS).iter().any(|it| it.0 == 5));
    let (_, _, failed) = fetcher.poll_fetched().expect("it is told");
    let Fetched::Failed(ConsumeErrorCause::Refused(problem)) = failed else { panic!("{failed:?}") };
    assert!(problem.message().contains("0.10.1"), "{problem}");
}

#[test]
fn a_batch_that_is_cut_off_is_asked_for_with_more_room() {
    let mut fetcher = reading(config());
    let large = at(0, 200);
    for limit in [500, 1_000, 2_000, 4_000] {
        let Some(Question::Records(_, topics)) = fetcher.poll_question(0, ONE, 0) else {
            panic!("it asks for records")
        };
        assert_eq!(topics[0].1[0].max_bytes, limit);
        let part = large[..large.len().min(limit as usize)].to_vec();
        fetcher.handle_records(0, ONE, &answer(fetched(part)));
        if large.len() <= limit as usize {
            break;
        }
        assert_eq!(taken(&mut fetcher), []);
    }
    assert_eq!(taken(&mut fetcher), [(0, 200)]);
    let Some(Question::Records(_, topics)) = fetcher.poll_question(0, ONE, 0) else {
        panic!("it asks for records")
    };
    assert_eq!(topics[0].1[0].max_bytes, 500, "the next one need not be as large");
}

#[test]
fn a_log_that_was_cut_off_is_told_or_read_from_there() {
    let diverging = FetchedPartition { diverging: Some((4, 3)), ..fetched(Vec::new()) };
    let mut fetcher = reading(config());
    fetcher.seek(SlotId(0), StartAt::Offset(9));
    taken(&mut fetcher);
    asks(&mut fetcher, 0, ONE).expect("it asks");
    fetcher.handle_records(0, ONE, &answer(diverging.clone()));
    let (.., failed) = fetcher.poll_fetched().expect("it is told");
    let Fetched::Failed(ConsumeErrorCause::Truncated { offset: 9, end: 3 }) = failed else {
        panic!("{failed:?}")
    };
    let mut fetcher = reading(FetchConfig { reset: OffsetReset::Latest, ..config() });
    fetcher.seek(SlotId(0), StartAt::Offset(9));
    asks(&mut fetcher, 0, ONE).expect("it asks");
    fetcher.handle_records(0, ONE, &answer(diverging));
    assert_eq!(asks(&mut fetcher, 99 * MS, ONE), None);
    assert_eq!(asks(&mut fetcher, 100 * MS, ONE), Some(3), "where the logs part, not at the end");
}

/// A transactional batch of this producer, or the mark that ends its transaction.
fn transactional(offset: i64, producer: i64, mark: Option<u8>) -> Vec<u8> {
    let change = |header: &mut BatchHeader| {
        header.base_offset = offset;
        header.transactional = true;
        header.control = mark.is_some();
        header.producer = ProducerIdentity { id: producer, epoch: 0 };
    };
    let Some(kind) = mark else { return batch(change, 1) };
    let key = [0, 0, 0, kind];
    let parts = RecordParts { key: Some(&key), value: Some(b""), ..Default::default() };
    let size = RecordSize::of(0, 0, &parts).expect("small");
    let mut records = vec![0; size.total];
    encode_contiguous(&mut records, size, 0, 0, &parts);
    let mut header = BatchHeader {
        record_count: 1,
        last_offset_delta: 0,
        records_len: records.len(),
        ..BatchHeader::default()
    };
    change(&mut header);
    let mut front = [0; BATCH_HEADER_LEN];
    header.write(&mut front, records_crc([records.as_slice()]));
    [&front[..], &records].concat()
}

#[test]
fn records_of_aborted_transactions_and_marks_are_left_out() {
    const ABORT: Option<u8> = Some(0);
    const COMMIT: Option<u8> = Some(1);
    let records = [
        transactional(0, 7, None),
        transactional(1, 8, None),
        transactional(2, 7, ABORT),
        transactional(3, 7, None),
        transactional(4, 8, COMMIT),
        transactional(5, 7, COMMIT),
        at(6, 1),
        transactional(7, 8, None),
        transactional(8, 8, ABORT),
    ];
    let aborted = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
    let data = FetchedPartition {
        aborted: vec![aborted(8, 7), aborted(7, 0)],
        ..fetched(records.concat())
    };
    let offsets = |data: &FetchedPartition| {
        let cut = cut(data, 0, usize::MAX);
        let batches = cut.fetched.iter().filter_map(|fetched| match fetched {
            Fetched::Batch(batch) => Some(batch.header.base_offset),
            _ => None,
        });
        let batches: Vec<_> = batches.collect();
        assert_eq!(cut.next, 9);
        assert!(matches!(cut.fetched.last(), Some(Fetched::Passed(9))));
        batches
    };
    assert_eq!(offsets(&data), [1, 3, 6]);
    let uncommitted = FetchedPartition { aborted: Vec::new(), ..data };
    assert_eq!(offsets(&uncommitted), [0, 1, 3, 6, 7], "only the marks are left out");
}

#[test]
fn no_bytes_of_a_broker_make_it_panic_or_stand_still() {
    let good = [at(0, 2), at(2, 3)].concat();
    for length in 0..good.len() {
        let cut = cut(&fetched(good[..length].to_vec()), 0, 1_000);
        assert!(cut.fetched.iter().all(|it| matches!(it, Fetched::Batch(_))), "{length}");
    }
    for place in 0..BATCH_HEADER_LEN {
        for byte in [0, 1, 2, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[place] = byte;
            let cut = cut(&fetched(bytes), 0, 1_000);
            assert!(cut.next >= 0, "{place} {byte}: {cut:?}");
        }
    }
    let newer = batch(|_| (), 1);
    let newer: Vec<u8> =
        newer.iter().enumerate().map(|(at, &b)| if at == 16 { 3 } else { b }).collect();
    let cut = cut(&fetched(newer), 0, 1_000);
    let [Fetched::Failed(ConsumeErrorCause::Unreadable { offset: 0, problem, .. })] =
        &cut.fetched[..]
    else {
        panic!("{cut:?}")
    };
    assert!(problem.message().contains("magic 3"), "{problem}");
}

/// Counts how often it was called, and panics.
#[derive(Default)]
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a panic that belongs to the test");
    }
}

#[test]
fn a_waker_that_panics_harms_neither_the_loop_nor_the_others_who_wait() {
    let queue = FetchQueue::new(1_000);
    let wakers = [(); 2].map(|()| Arc::new(Panics::default()));
    let wait = || {
        for waker in &wakers {
            let waker = Waker::from(waker.clone());
            assert!(queue.poll_take(&mut Context::from_waker(&waker)).0.is_pending());
        }
    };
    let calls = || wakers.each_ref().map(|waker| waker.0.load(Ordering::Relaxed));
    wait();
    let (slot, generation, topic, partition) = (None, 0, "t".into(), None);
    queue.put(Item { slot, generation, topic, partition, fetched: Fetched::Passed(1) });
    assert_eq!(calls(), [1; 2]);
    wait();
    queue.end();
    assert_eq!(calls(), [2; 2]);
}
