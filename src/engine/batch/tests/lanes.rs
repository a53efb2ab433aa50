//! Appending, growing and sealing.

use super::*;
use crate::engine::buffer::Class;

fn classes(batch: &Batch) -> Vec<usize> {
    batch.segment_sizes().collect()
}

#[test]
fn a_batch_grows_by_segments_as_large_as_all_before() {
    let bench = Bench::new(1 << 22, 1 << 18);
    let mut head = bench.led_head();
    while !head.tail.has_sealed() {
        bench.append(&head.tail, &[7; 1_000]).expect("there is room");
    }
    let batch = drain(&mut head);
    let kib = 1 << 10;
    assert_eq!(classes(&batch)[..6], [4 * kib, 4 * kib, 16 * kib, 64 * kib, 64 * kib, 64 * kib]);
    assert!(batch.len() <= 1 << 18);
    ack(&mut head, batch, 0);
    // The record that filled it began the next with a larger segment; after a small one that is
    // over.
    assert!(head.tail.try_seal());
    bench.sealed(&head.tail, b"small");
    let sizes = [drain(&mut head), drain(&mut head)].map(|batch| classes(&batch));
    assert_eq!(sizes, [[64 * kib], [4 * kib]]);
}

#[test]
fn a_low_traffic_lane_holds_one_small_segment() {
    let bench = Bench::new(1 << 20, 1 << 18);
    let head = bench.led_head();
    drop(bench.append(&head.tail, b"x"));
    let used = bench.pool().capacity() - bench.pool().free_bytes();
    assert_eq!(used, Class::Kib4.bytes());
}

#[test]
fn segments_return_exactly_when_the_batch_is_dropped() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    let handle = bench.sealed(&head.tail, b"x");
    let batch = drain(&mut head);
    let free = bench.pool().free_bytes();
    assert!(free < bench.pool().capacity());
    head.settle_for_retry(batch);
    assert_eq!(bench.pool().free_bytes(), free);
    let batch = drain(&mut head);
    ack(&mut head, batch, 3);
    bench.assert_all_free();
    assert_eq!(handle.offset(), Some(3), "a handle pins no segment");
}

#[test]
fn records_that_span_segments_stand_beside_small_ones() {
    let bench = Bench::new(8 << 20, 1 << 20);
    let mut head = bench.led_head();
    let large: Vec<u8> = (0..900 << 10).map(|i| (i % 251) as u8).collect();
    let sent: [&[u8]; 5] = [b"small", &large, b"after", &large, b"last"];
    let handles: Vec<_> =
        sent.iter().map(|value| bench.append(&head.tail, value).expect("room")).collect();
    head.tail.try_seal();
    let mut received = Vec::new();
    let mut base = 0;
    while head.tail.has_sealed() {
        let mut batch = drain(&mut head);
        assert!(batch.len() <= 1 << 20);
        received.extend(values(&mut batch));
        let records = i64::from(batch.records());
        ack(&mut head, batch, base);
        base += records;
    }
    assert!(received == sent, "every byte is where it was");
    let offsets: Vec<_> = handles.iter().map(|handle| handle.offset()).collect();
    assert_eq!(offsets, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    drop(head);
    bench.assert_all_free();
}

#[test]
fn a_record_over_the_batch_size_goes_alone_and_at_once() {
    let bench = Bench::new(8 << 20, 1 << 14);
    let mut head = bench.led_head();
    let large = vec![1; 900 << 10];
    let handles =
        [b"a".as_slice(), &large, b"b"].map(|value| bench.append(&head.tail, value).expect("room"));
    let (mut first, records) = (drain(&mut head), 1);
    assert_eq!((first.records(), values(&mut first)), (records, vec![b"a".to_vec()]));
    ack(&mut head, first, 0);
    let mut second = drain(&mut head);
    assert!(values(&mut second) == [large]);
    assert!(!head.tail.has_sealed() && head.tail.open_since().is_some(), "b waits for more");
    drop(handles);
}

#[test]
fn without_room_nothing_is_taken_and_the_full_batch_is_sealed() {
    let bench = Bench::new(64 << 10, 48 << 10);
    let mut head = bench.led_head();
    let parts = RecordParts { value: Some(&[0; 3_000]), ..RecordParts::default() };
    let (mut sent, mut spare) = (0, Vec::new());
    loop {
        head.tail.clear_posted();
        let appended = head.tail.append(&bench.context(), 0, &parts, &mut spare);
        let full = head.tail.has_sealed();
        match appended.result {
            Ok(_) => sent += 1,
            Err(Refusal::NeedRoom(_)) if full => {
                assert!(appended.post, "the loop hears of it, linger or not");
                break;
            }
            Err(Refusal::NeedRoom(need)) => {
                assert!(take_room(bench.pool(), head.tail.account(), need, &mut spare));
            }
            Err(Refusal::Closed) => panic!("nobody closed the lane"),
        }
    }
    head.tail.try_seal();
    let mut received = 0;
    while head.tail.has_sealed() {
        let mut batch = drain(&mut head);
        received += values(&mut batch).len();
        ack(&mut head, batch, 0);
    }
    assert_eq!(received, sent);
    bench.assert_all_free();
}

#[test]
fn a_lane_is_posted_for_the_first_record_and_for_every_seal_but_once_at_a_time() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let head = bench.led_head();
    let append = |value: &[u8]| {
        let mut spare = Vec::new();
        let parts = RecordParts { key: None, value: Some(value), headers: &[] };
        let first = head.tail.append(&bench.context(), 0, &parts, &mut spare);
        let Err(Refusal::NeedRoom(need)) = first.result else { return first.post };
        assert!(take_room(bench.pool(), head.tail.account(), need, &mut spare));
        first.post | head.tail.append(&bench.context(), 0, &parts, &mut spare).post
    };
    assert!(append(b"first"));
    assert!(!append(b"second"));
    assert!(!append(&[0; 16_000]), "sealed, but posted already");
    head.tail.clear_posted();
    assert!(!append(b"into the open batch") || head.tail.has_sealed());
    head.tail.clear_posted();
    let (_, post) = head.tail.seal(false);
    assert!(post);
    head.tail.clear_posted();
    assert!(!head.tail.seal(false).1, "nothing was open");
    assert!(append(b"again"));
}

#[test]
fn a_timestamp_that_cannot_be_told_by_a_difference_begins_a_batch() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    for timestamp in [i64::MIN, i64::MAX] {
        let parts = RecordParts { key: None, value: Some(b"v"), headers: &[] };
        bench.append_parts(&head.tail, timestamp, &parts).expect("there is room");
    }
    head.tail.try_seal();
    let first = drain(&mut head);
    assert_eq!(first.records(), 1);
    ack(&mut head, first, 0);
    assert_eq!(drain(&mut head).records(), 1);
}

/// A call that was on its way when the producer closed.
#[test]
fn c42_a_topic_and_a_partition_that_come_after_close_take_no_record() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (before, mut heads) = bench.topic("before", 1);
    assert!(!before.lock_stash().closed);
    assert!(bench.append(&heads[0].tail, b"x").is_ok());
    assert!(bench.accumulator.set_closed());
    heads.extend(bench.grow(&before, 2));
    assert!(matches!(bench.append(&heads[1].tail, b"x"), Err(Refusal::Closed)));
    let (after, _) = bench.topic("after", 0);
    assert!(after.lock_stash().closed);
}

#[test]
fn there_are_no_more_lanes_than_the_limit() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (topic, _halves) = bench.topic("t", 98);
    let heads = bench.accumulator.new_lanes(&topic, 105, |_| ShardId(0));
    let partitions: Vec<_> = heads.iter().map(|head| head.tail.partition.0).collect();
    assert_eq!(partitions, [98, 99]);
    topic.grow(heads.iter().map(|head| head.tail.clone()));
    assert!(bench.accumulator.new_lanes(&topic, 105, |_| ShardId(0)).is_empty());
}

#[test]
fn f32_a_wall_clock_that_is_set_a_day_back_or_forth_moves_no_deadline() {
    const DAY_MS: i64 = 24 * 3_600 * 1_000;
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    let noon = 1_700_000_000_000;
    let mut handles = Vec::new();
    for (turn, wall) in [noon, noon - DAY_MS, noon + DAY_MS].into_iter().enumerate() {
        bench.set_now(turn as u64 * MS);
        let parts = RecordParts { key: None, value: Some(b"v"), headers: &[] };
        handles.push(bench.append_parts(&head.tail, wall, &parts).expect("there is room"));
        assert_eq!(head.next_deadline(), Some(DELIVERY_TIMEOUT), "the first's");
    }
    let timestamps: Vec<i64> = handles.iter().map(|handle| handle.timestamp()).collect();
    assert_eq!(timestamps, [noon, noon - DAY_MS, noon + DAY_MS]);
    assert!(head.tail.try_seal());
    let mut wakes = WakeList::default();
    assert_eq!(head.expire(DELIVERY_TIMEOUT - 1, &ANY_ERROR, &mut wakes), 0);
    assert_eq!(head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut wakes), 1);
    assert!(handles.iter().all(|handle| handle.try_outcome().is_some()));
}

/// A lone record does not pay, in heap, for the batch that it might have become.
#[test]
fn a_batchs_links_follow_its_use_and_not_batch_size() {
    let bench = Bench::new(4 << 20, 1 << 30);
    let mut head = bench.led_head();
    bench.sealed(&head.tail, b"lone");
    let lone = drain(&mut head);
    assert!(lone.links_capacity() <= 4, "{} links", lone.links_capacity());
    ack(&mut head, lone, 0);
    // A lane whose batches are large makes room for as many at once.
    for _ in 0..2 {
        (0..40).for_each(|_| drop(bench.append(&head.tail, &[0; 30_000])));
        assert!(head.tail.try_seal());
    }
    let (first, second) = (drain(&mut head), head.drain(RULES).expect("another one"));
    assert_eq!(second.links().len(), first.links().len());
    assert_eq!(second.links_capacity(), first.links().len(), "no growth, and nothing unused");
}

#[test]
fn the_fast_path_makes_the_same_batches_as_the_whole_way() {
    let bench = Bench::new(8 << 20, 1 << 14);
    let (topic, mut heads) = bench.topic("t", 2);
    for head in &mut heads {
        head.lead_by(leader(1, 1));
    }
    let lanes = [0, 1].map(|at| topic.lane(PartitionId(at)).expect("it is there").clone());
    let bytes = [5; 9_000];
    let mut random = 1;
    let mut fast = 0;
    for n in 0..4_000 {
        random = crate::engine::random::step(random);
        let len = [0, 60, 100, 1_000, 9_000][random as usize % 5];
        let value = (len > 0).then(|| &bytes[..len - random as usize % 50 % len]);
        let key = (random % 3 == 0).then(|| &bytes[..random as usize % 80]);
        let timestamp = 1_000 + n / 7 + i64::from(random % 500 == 0) * 9_000;
        let mut post = false;
        let issued = lanes[0].append_plain(timestamp, key, value, &mut post);
        fast += u32::from(issued.is_some());
        let parts = RecordParts { key, value, headers: &[] };
        let first = match issued {
            Some(issued) => issued.into_handle(timestamp),
            None => bench.append_parts(&lanes[0], timestamp, &parts).expect("there is room"),
        };
        let second = bench.append_parts(&lanes[1], timestamp, &parts).expect("there is room");
        assert_eq!((first.index(), first.timestamp()), (second.index(), second.timestamp()));
        while let (Some(first), Some(second)) = (lanes[0].pop_sealed(), lanes[1].pop_sealed()) {
            let records = |batch: &Batch| batch.record_slices().collect::<Vec<_>>().concat();
            assert_eq!(records(&first), records(&second), "after record {n}");
            assert_eq!((first.records(), first.len()), (second.records(), second.len()));
            assert_eq!(classes(&first), classes(&second));
            drop([first, second]);
        }
        assert_eq!(lanes[0].sealed_batches(), lanes[1].sealed_batches(), "after record {n}");
    }
    assert!(fast > 2_000, "{fast} records took the fast path");
}

#[test]
fn the_fast_path_declines_at_a_closed_lane() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let head = bench.led_head();
    drop(bench.append(&head.tail, b"opens the batch"));
    let mut post = false;
    // Nobody asks, nothing is sealed.
    let issued = head.tail.append_plain(0, None, Some(b"joins it"), &mut post);
    assert_eq!(issued.expect("there is room").into_handle(0).index(), 1);
    assert!(!post && !head.tail.has_sealed());
    // Closed, and with its batch sealed: it declines, and the whole way says why.
    head.tail.seal(true);
    assert!(head.tail.append_plain(0, None, Some(b"late"), &mut post).is_none());
    assert!(matches!(bench.append(&head.tail, b"late"), Err(Refusal::Closed)));
}
