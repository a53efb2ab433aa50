//! What is not delivered is given back: to the fallback, or at a close that hands back.

use super::*;
use crate::engine::batch::{FallbackQueue, Undelivered, Unsent};
use crate::error::DeliveryError;

const CLOSED: DeliveryErrorCause = DeliveryErrorCause::Closed { last: None };

/// A value of its own for each record, of many lengths.
fn value(index: usize) -> Vec<u8> {
    format!("{index} {}", "x".repeat(100 + index * 97 % 3_000)).into_bytes()
}

fn fill(bench: &Bench, head: &LaneHead, count: usize) -> Vec<CellHandle> {
    let append = |index| bench.append(&head.tail, &value(index)).expect("the pool has room");
    let handles = (0..count).map(append).collect();
    assert!(head.tail.try_seal());
    handles
}

/// A lane of a topic that has a fallback.
fn with_fallback() -> (Bench, Box<LaneHead>, Arc<FallbackQueue>) {
    let queue = FallbackQueue::new(0);
    let fallback = Some(queue.clone());
    let settings = TopicSettings { batch_size: 1 << 17, fallback, ..TopicSettings::default() };
    let bench = Bench::with(1 << 22, settings);
    let head = bench.led_head();
    (bench, head, queue)
}

fn given(queue: &FallbackQueue) -> Vec<(Vec<u8>, Certainty)> {
    std::iter::from_fn(|| queue.take()).flat_map(|(undelivered, _)| shown(&undelivered)).collect()
}

fn shown(undelivered: &Undelivered) -> Vec<(Vec<u8>, Certainty)> {
    let mut all = Vec::new();
    undelivered.for_each(&mut |record| {
        all.push((record.value().expect("no null here").to_vec(), record.error().certainty()));
    });
    all
}

/// What failed is what was given back, each record once and with its own certainty, in order.
fn assert_given(handles: &[CellHandle], given: Vec<(Vec<u8>, Certainty)>) {
    let failed = handles.iter().enumerate().filter_map(|(index, handle)| {
        handle.error().map(|error| (value(index), error.certainty()))
    });
    let failed: Vec<_> = failed.collect();
    let place = |value: &[u8]| {
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_usize, |number, digit| 10 * number + usize::from(digit - b'0'))
    };
    let numbers =
        |of: &[(Vec<u8>, Certainty)]| -> Vec<usize> { of.iter().map(|it| place(&it.0)).collect() };
    assert_eq!(numbers(&given), numbers(&failed));
    assert!(given == failed, "other bytes or certainties");
}

/// Sends a batch in ever smaller pieces, and stops after so many steps. Returns what is in flight.
fn go(head: &mut LaneHead, steps: usize, stop_in_flight: bool) -> Option<Box<Batch>> {
    let mut offset = 0;
    for step in 0.. {
        if !head.has_sealed() {
            return None;
        }
        if step == steps && !stop_in_flight {
            return None;
        }
        let batch = drain(head);
        if step == steps {
            return Some(batch);
        }
        if batch.len() > 12_000 && batch.records() > 1 {
            head.settle_too_large(batch, &mut WakeList::default());
        } else {
            let records = batch.records();
            ack(head, batch, offset);
            offset += i64::from(records);
        }
    }
    None
}

#[test]
fn pieces_that_were_split_again_are_given_back_whole() {
    for steps in 0..16 {
        let (bench, mut head, queue) = with_fallback();
        let handles = fill(&bench, &head, 40);
        assert!(go(&mut head, steps, false).is_none());
        head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default());
        assert_given(&handles, given(&queue));
        drop((handles, head));
        bench.assert_all_free();
    }
}

#[test]
fn pieces_that_were_split_again_are_handed_back_whole_at_a_close() {
    for steps in 0..16 {
        let bench = Bench::new(1 << 22, 1 << 17);
        let mut head = bench.led_head();
        let handles = fill(&bench, &head, 40);
        assert!(go(&mut head, steps, false).is_none());
        let unsent = Unsent::default();
        head.fail_all_or_leave(Some(&unsent), &CLOSED, &mut WakeList::default());
        assert_given(&handles, unsent.take().iter().flat_map(shown).collect());
        drop((handles, head));
        bench.assert_all_free();
    }
}

fn timed_out(head: &LaneHead, batch: &Batch) -> DeliveryError {
    batch_error(&head.tail, batch, ANY_ERROR, Certainty::Unknown)
}

#[test]
fn what_fails_in_flight_is_given_back_once_its_request_has_ended() {
    for steps in 0..16 {
        let (bench, mut head, queue) = with_fallback();
        let handles = fill(&bench, &head, 40);
        let Some(mut batch) = go(&mut head, steps, true) else { return };
        let error = timed_out(&head, &batch);
        head.fail_in_flight(&mut batch, error, &mut WakeList::default());
        assert!(queue.is_empty(), "its request may still be answered");
        head.settle_for_retry(batch);
        assert_given(&handles, given(&queue));
        drop((handles, head));
        bench.assert_all_free();
    }
}

#[test]
fn what_is_acknowledged_after_it_failed_is_not_given_back_but_what_is_behind_it_is() {
    for steps in 0..16 {
        let (bench, mut head, queue) = with_fallback();
        let handles = fill(&bench, &head, 40);
        let Some(mut batch) = go(&mut head, steps, true) else { return };
        let (first, records) = (40 - batch.records_left() as usize, batch.records() as usize);
        let error = timed_out(&head, &batch);
        head.fail_in_flight(&mut batch, error, &mut WakeList::default());
        ack(&mut head, batch, 100);
        assert!(handles[first..].iter().all(|handle| handle.error().is_some()));
        let behind: Vec<_> = given(&queue).into_iter().map(|it| it.0).collect();
        assert!(behind == (first + records..40).map(value).collect::<Vec<_>>());
    }
}

#[test]
fn what_is_in_flight_when_its_loop_ends_is_given_back() {
    let (bench, mut head, queue) = with_fallback();
    let handles = fill(&bench, &head, 3);
    let mut batch = drain(&mut head);
    let error = timed_out(&head, &batch);
    head.fail_in_flight(&mut batch, error, &mut WakeList::default());
    drop(batch);
    assert_given(&handles, given(&queue));
}

#[test]
fn a_piece_in_doubt_and_what_was_never_sent_behind_it_part_at_a_close() {
    for is_whole_in_doubt in [false, true] {
        let (bench, mut head, queue) = with_fallback();
        let handles = fill(&bench, &head, 10);
        let mut batch = drain(&mut head);
        batch.state.unanswered = is_whole_in_doubt;
        head.settle_too_large(batch, &mut WakeList::default());
        let mut piece = drain(&mut head);
        // A piece whose own attempt is in doubt, or one of a whole in doubt whose own is not.
        piece.state.unanswered = !is_whole_in_doubt;
        head.settle_for_retry(piece);
        let unsent = Unsent::default();
        head.fail_all_or_leave(Some(&unsent), &CLOSED, &mut WakeList::default());
        let handed_back: Vec<_> = unsent.take().iter().flat_map(shown).collect();
        assert!(handed_back.iter().all(|it| it.1 == Certainty::NotWritten));
        let given = given(&queue);
        assert!(given.iter().all(|it| it.1 == Certainty::Unknown));
        assert!(!handed_back.is_empty() && !given.is_empty());
        let all = if is_whole_in_doubt { [handed_back, given] } else { [given, handed_back] };
        assert_given(&handles, all.concat());
    }
}

#[test]
fn a_close_that_hands_back_leaves_what_failed_before_it_to_the_fallback() {
    let (bench, mut head, queue) = with_fallback();
    let handles = fill(&bench, &head, 10);
    let batch = drain(&mut head);
    head.settle_too_large(batch, &mut WakeList::default());
    let mut piece = drain(&mut head);
    let error = timed_out(&head, &piece);
    head.fail_in_flight(&mut piece, error, &mut WakeList::default());
    // What a shard does at such a close with what is in flight.
    let unsent = Unsent::default();
    unsent.copy_behind(&head.tail, &piece, &CLOSED);
    piece.leave_behind_to_close();
    assert!(unsent.take().is_empty());
    head.settle_for_retry(piece);
    assert_given(&handles, given(&queue));
}
