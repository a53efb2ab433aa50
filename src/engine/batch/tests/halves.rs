//! A lane's loop half: order of retries, windows, epochs, expiry, what flush waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use super::*;
use crate::engine::protocol::TopicId;
use crate::error::Certainty;

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(batch: &Batch) -> (i16, i32) {
    (batch.producer().epoch, batch.base_sequence())
}

/// A half whose leader has proved itself, with nothing in flight.
fn proved(bench: &Bench) -> Box<LaneHalf> {
    let mut half = bench.led_half();
    drop(bench.sealed(&half.lane, b"first"));
    let batch = drain(&mut half);
    ack(&mut half, batch, 0);
    half
}

#[test]
fn c01_a_retry_holds_the_same_bytes() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = bench.led_half();
    bench.sealed(&half.lane, b"a");
    let mut batch = drain(&mut half);
    let first = wire(&mut batch);
    half.settle_for_retry(batch);
    let mut batch = drain(&mut half);
    assert_eq!(wire(&mut batch), first);
    assert_eq!((number(&batch), batch.state.attempts), ((0, 0), 2));
}

#[test]
fn c03_and_c04_one_in_flight_until_a_success_then_five() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = bench.led_half();
    for _ in 0..8 {
        bench.sealed(&half.lane, b"x");
    }
    let first = drain(&mut half);
    assert_eq!(half.drainable(0, RULES), Drainable::Later);
    ack(&mut half, first, 0);
    let batches: Vec<_> = (0..5).map(|_| drain(&mut half)).collect();
    assert_eq!(half.drainable(0, RULES), Drainable::Later);
    let sequences: Vec<_> = batches.iter().map(|batch| batch.base_sequence()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
}

#[test]
fn c05_retries_go_in_order_one_at_a_time_and_before_anything_new() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["a", "b", "c", "new"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let batches: Vec<_> = (0..3).map(|_| drain(&mut half)).collect();
    // However they come back, they go out by their number.
    for batch in batches.into_iter().rev() {
        half.settle_for_retry(batch);
    }
    for (value, sequence) in [("a", 1), ("b", 2), ("c", 3), ("new", 4)] {
        let mut batch = drain(&mut half);
        assert_eq!(values(&mut batch), [value.as_bytes()]);
        assert_eq!(number(&batch), (0, sequence));
        if value != "c" && value != "new" {
            assert_eq!(half.drainable(0, RULES), Drainable::Later, "{value} goes alone");
        }
        ack(&mut half, batch, 0);
    }
}

#[test]
fn c05_while_something_is_in_flight_no_retry_goes_out() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["a", "b"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let (a, b) = (drain(&mut half), drain(&mut half));
    half.settle_for_retry(a);
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "b is not settled");
    half.settle_for_retry(b);
    assert_eq!(values(&mut drain(&mut half)), [b"a"]);
}

#[test]
fn c17_nothing_goes_to_a_new_leader_before_the_attempts_at_the_old_one_settled() {
    for rules in [RULES, DrainRules { idempotent: false, ..RULES }] {
        let bench = Bench::new(1 << 20, 1 << 14);
        let mut half = proved(&bench);
        for value in ["a", "b", "c"] {
            bench.sealed(&half.lane, value.as_bytes());
        }
        let (a, b) = (drain(&mut half), drain(&mut half));
        half.lead_by(leader(2, 2));
        assert_eq!(half.drainable(0, rules), Drainable::Later);
        // What the old leader still acknowledges proves nothing about the new one.
        ack(&mut half, a, 1);
        assert_eq!(half.drainable(0, rules), Drainable::Later);
        assert!(half.is_settling());
        half.settle_for_retry(b);
        assert!(!half.is_settling());
        assert_eq!(half.drainable(0, rules), Drainable::Now);
    }
}

#[test]
fn c04_a_success_at_the_old_leader_does_not_prove_the_new_one() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["a", "b", "c"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let a = drain(&mut half);
    half.lead_by(leader(2, 2));
    ack(&mut half, a, 1);
    let b = drain(&mut half);
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "b goes alone");
    ack(&mut half, b, 2);
    drain(&mut half);
}

#[test]
fn c15_a_newer_epoch_cancels_the_backoff() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = bench.led_half();
    half.backoff_until = 500;
    half.lead_by(leader(1, 1));
    assert_eq!(half.drainable(100, RULES), Drainable::At(500), "nothing new");
    half.lead_by(leader(1, 2));
    assert_eq!(half.drainable(100, RULES), Drainable::Now);
    half.lead_by(None);
    assert_eq!(half.drainable(600, RULES), Drainable::Later);
}

#[test]
fn c07_after_a_gap_a_new_epoch_begins_once_nothing_is_in_flight() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["bad", "b", "c", "d"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let bad = drain(&mut half);
    let (b, c) = (drain(&mut half), drain(&mut half));
    let error = batch_error(&half.lane, &bad, ANY_ERROR, Certainty::NotWritten);
    half.settle_failed(bad, error, &mut WakeList::default());
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "b and c are in flight");
    half.settle_for_retry(b);
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "c is in flight");
    half.settle_for_retry(c);
    for (value, sequence) in [("b", 0), ("c", 1), ("d", 2)] {
        let mut batch = drain(&mut half);
        assert_eq!(values(&mut batch), [value.as_bytes()]);
        assert_eq!(number(&batch), (1, sequence));
        ack(&mut half, batch, 0);
    }
}

#[test]
fn c12_a_new_epoch_is_proved_like_a_new_leader() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["a", "b"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    half.want_bump();
    let a = drain(&mut half);
    assert_eq!(number(&a), (1, 0));
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "a broker may know nothing of the id");
    ack(&mut half, a, 1);
    assert_eq!(number(&drain(&mut half)), (1, 1));
}

#[test]
fn c11_an_unanswered_batch_is_asked_about_under_its_old_triple_first() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["refused", "unanswered", "new"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let (refused, mut unanswered) = (drain(&mut half), drain(&mut half));
    unanswered.state.unanswered = true;
    half.want_bump();
    half.settle_refused(refused);
    half.settle_for_retry(unanswered);
    let asked = drain(&mut half);
    assert_eq!(number(&asked), (0, 2), "the old triple");
    assert_eq!(half.drainable(0, RULES), Drainable::Later);
    ack(&mut half, asked, 2);
    // Only now is everything else certainly not in the log.
    assert_eq!(number(&drain(&mut half)), (1, 0));
}

#[test]
fn c02_used_up_epochs_wait_for_another_id_and_renumber() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = bench.topic("t", 1).1.remove(0);
    half.lead_by(leader(1, 1));
    half.offer_identity(identity(7, i16::MAX), 1);
    bench.sealed(&half.lane, b"a");
    let batch = drain(&mut half);
    half.want_bump();
    half.settle_for_retry(batch);
    assert!(half.drain(RULES).is_none());
    assert_eq!(half.drainable(0, RULES), Drainable::NeedsIdentity);
    assert_eq!(half.used_up_identity(), Some(identity(7, i16::MAX)));
    half.offer_identity(identity(7, i16::MAX), 1);
    assert_eq!(half.drainable(0, RULES), Drainable::NeedsIdentity, "that one is used up");
    half.offer_identity(identity(8, 0), 2);
    let batch = drain(&mut half);
    assert_eq!((batch.producer(), batch.base_sequence()), (identity(8, 0), 0));
}

#[test]
fn without_identity_nothing_is_drained_and_deadlines_run() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = bench.topic("t", 1).1.remove(0);
    half.lead_by(leader(1, 1));
    let handle = bench.sealed(&half.lane, b"a");
    assert_eq!(half.drainable(0, RULES), Drainable::NeedsIdentity);
    assert_eq!(half.next_deadline(DELIVERY_TIMEOUT), Some(DELIVERY_TIMEOUT));
    assert_eq!(half.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default()), 1);
    let error = handle.error().expect("it has failed");
    assert_eq!(error.certainty(), Certainty::NotWritten);
}

#[test]
fn c10_a_batch_that_was_never_sent_expires_without_a_new_epoch() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    let old = bench.sealed(&half.lane, b"old");
    bench.set_now(10);
    let young = bench.sealed(&half.lane, b"young");
    assert_eq!(half.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default()), 1);
    assert!(old.error().is_some() && young.try_outcome().is_none());
    let batch = drain(&mut half);
    assert_eq!(number(&batch), (0, 1), "the sequence was never given to the other");
    ack(&mut half, batch, 41);
    assert_eq!(young.offset(), Some(41));
}

#[test]
fn c09_a_batch_that_expires_in_flight_holds_its_memory_and_the_lane_until_it_settles() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    let handle = bench.sealed(&half.lane, b"slow");
    let next = bench.sealed(&half.lane, b"next");
    let mut slow = drain(&mut half);
    let error = batch_error(&half.lane, &slow, ANY_ERROR, Certainty::Unknown);
    half.fail_in_flight(&mut slow, error, &mut WakeList::default());
    assert_eq!(handle.error().map(|error| error.certainty()), Some(Certainty::Unknown));
    assert_eq!(half.lane.resolved(), 2);
    assert!(bench.pool().free_bytes() < bench.pool().capacity(), "the kernel may still read it");
    assert_eq!(half.drainable(0, RULES), Drainable::Later);
    // An answer that comes now changes nothing for the user.
    ack(&mut half, slow, 9);
    assert!(handle.error().is_some());
    let batch = drain(&mut half);
    assert_eq!(number(&batch), (1, 0), "its sequence is not given to other records");
    ack(&mut half, batch, 10);
    assert!(next.offset().is_some());
    drop(half);
    bench.assert_all_free();
}

#[test]
fn a_batch_that_expired_in_flight_is_not_sent_again() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    bench.sealed(&half.lane, b"slow");
    let mut slow = drain(&mut half);
    let error = batch_error(&half.lane, &slow, ANY_ERROR, Certainty::Unknown);
    half.fail_in_flight(&mut slow, error, &mut WakeList::default());
    half.settle_for_retry(slow);
    assert!(!half.has_retries());
    assert!(half.is_idle());
    bench.assert_all_free();
}

#[test]
fn c09_an_expired_retry_says_whether_it_may_be_written_and_is_never_renumbered() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    let unanswered = bench.sealed(&half.lane, b"unanswered");
    let refused = bench.sealed(&half.lane, b"refused");
    let (mut a, b) = (drain(&mut half), drain(&mut half));
    a.state.unanswered = true;
    half.settle_for_retry(a);
    half.settle_for_retry(b);
    assert_eq!(half.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default()), 2);
    let certainty = |handle: &CellHandle| handle.error().map(|error| error.certainty());
    assert_eq!(certainty(&unanswered), Some(Certainty::Unknown));
    assert_eq!(certainty(&refused), Some(Certainty::NotWritten));
    bench.sealed(&half.lane, b"next");
    assert_eq!(number(&drain(&mut half)), (1, 0));
}

#[test]
fn c42_flush_sees_what_is_resolved_in_the_order_of_the_batches() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for _ in 0..3 {
        bench.sealed(&half.lane, b"x");
    }
    drop(bench.append(&half.lane, b"open"));
    let (target, _) = half.lane.seal(false);
    assert_eq!(target, 5);
    let batches: Vec<_> = (0..4).map(|_| drain(&mut half)).collect();
    let mut seen = Vec::new();
    for batch in batches.into_iter().rev() {
        ack(&mut half, batch, 0);
        seen.push(half.lane.resolved());
    }
    assert_eq!(seen, [1, 1, 1, 5]);
}

#[test]
fn c46_a_dropped_half_fails_what_waits_in_it_the_open_batch_too() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    let handles = [bench.sealed(&half.lane, b"retry"), bench.sealed(&half.lane, b"sealed")];
    let open = bench.append(&half.lane, b"open").expect("there is room");
    let batch = drain(&mut half);
    half.settle_for_retry(batch);
    let lane = half.lane.clone();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut waiting = bench.append(&lane, b"awaited").expect("there is room");
    assert!(waiting.poll(&mut Context::from_waker(&waker)).is_pending());
    drop(half);
    assert!(woken.0.load(Ordering::Relaxed));
    for handle in handles.iter().chain([&open]) {
        let error = handle.error().expect("it has failed");
        assert_eq!(error.cause(), &DeliveryErrorCause::LoopPanicked);
    }
    assert!(matches!(bench.append(&lane, b"late"), Err(Refusal::Closed)));
    assert_eq!(lane.resolved(), u64::MAX, "flush waits for nothing here");
    bench.assert_all_free();
}

#[test]
fn a_batch_dropped_in_flight_fails_as_perhaps_written() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    let handle = bench.sealed(&half.lane, b"x");
    drop(drain(&mut half));
    assert_eq!(handle.error().map(|error| error.certainty()), Some(Certainty::Unknown));
}

#[test]
fn c05_what_an_earlier_leader_refused_is_offered_to_the_next_before_what_comes_later() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    for value in ["a", "b"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let (refused, mut unanswered) = (drain(&mut half), drain(&mut half));
    unanswered.state.unanswered = true;
    half.want_bump();
    half.settle_refused(refused);
    half.settle_for_retry(unanswered);
    // The new leader may know nothing of the producer, and take any sequence: "b" before "a".
    half.lead_by(leader(2, 2));
    let asked = drain(&mut half);
    assert_eq!(number(&asked), (0, 1), "the earlier one, under its old triple");
    half.settle_refused(asked);
    assert_eq!(number(&drain(&mut half)), (0, 2), "refused here too: now the unanswered one");
}

#[test]
fn c12_a_new_producer_id_reaches_lanes_whose_window_is_empty() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    bench.sealed(&half.lane, b"busy");
    let batch = drain(&mut half);
    half.offer_identity(identity(8, 0), 2);
    half.settle_for_retry(batch);
    half.offer_identity(identity(8, 0), 2);
    let batch = drain(&mut half);
    assert_eq!((batch.producer(), batch.base_sequence()), (identity(7, 0), 1), "still open");
    ack(&mut half, batch, 1);
    half.offer_identity(identity(8, 0), 2);
    // News from before, at a shard that has not heard: its sequences are used.
    half.offer_identity(identity(7, 0), 1);
    bench.sealed(&half.lane, b"idle");
    let batch = drain(&mut half);
    assert_eq!((batch.producer(), batch.base_sequence()), (identity(8, 0), 0));
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "the new id is proved first");
}

#[test]
fn c19_a_recreated_topic_gets_a_new_epoch_and_sequences_from_zero() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    half.belong_to(TopicId([1; 16]), 1);
    bench.sealed(&half.lane, b"old");
    let batch = drain(&mut half);
    assert_eq!(number(&batch), (0, 1));
    half.belong_to(TopicId([2; 16]), 1);
    for rules in [RULES, DrainRules { idempotent: false, ..RULES }] {
        assert_eq!(half.drainable(0, rules), Drainable::Later, "an attempt at the old one is open");
    }
    half.settle_refused(batch);
    assert_eq!(number(&drain(&mut half)), (1, 0));
}

#[test]
fn c19_what_an_old_topic_refused_is_offered_to_the_new_one_before_what_comes_later() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    half.belong_to(TopicId([1; 16]), 1);
    for value in ["a", "b"] {
        bench.sealed(&half.lane, value.as_bytes());
    }
    let (refused, mut unanswered) = (drain(&mut half), drain(&mut half));
    unanswered.state.unanswered = true;
    half.settle_refused(refused);
    half.settle_for_retry(unanswered);
    // Its log knows nothing of the producer, and may take any sequence: "b" before "a".
    half.belong_to(TopicId([2; 16]), 1);
    assert_eq!(number(&drain(&mut half)), (0, 1), "the earlier one, under its old triple");
}

#[test]
fn c48_at_another_cluster_a_lane_begins_anew_once_its_attempts_have_settled() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = proved(&bench);
    let mut sent: Vec<_> = ["refused", "in doubt", "in flight"]
        .into_iter()
        .map(|value| {
            bench.sealed(&half.lane, value.as_bytes());
            drain(&mut half)
        })
        .collect();
    bench.sealed(&half.lane, b"never sent");
    let (in_flight, mut in_doubt, refused) =
        (sent.pop().unwrap(), sent.pop().unwrap(), sent.pop().unwrap());
    in_doubt.state.unanswered = true;
    half.settle_refused(refused);
    half.settle_for_retry(in_doubt);
    let (cause, mut wakes) = (ANY_ERROR, WakeList::default());
    half.belong_to_cluster(1, 1);
    half.lead_by(Some(Leader { broker: BrokerId(1), epoch: 0 }));
    half.start_over_if_settled(&cause, &mut wakes);
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "one is open at the old one");
    ack(&mut half, in_flight, 9);
    let before = half.retry_count();
    half.start_over_if_settled(&cause, &mut wakes);
    assert_eq!((before, half.retry_count()), (2, 1), "what is in doubt is not sent there");
    // The old id is no good, whoever offers it, and a new one counts from zero.
    half.offer_identity(ProducerIdentity { id: 7, epoch: 0 }, 1);
    assert_eq!(half.drainable(0, RULES), Drainable::NeedsIdentity);
    half.offer_identity(ProducerIdentity { id: 7, epoch: 0 }, 2);
    let refused = drain(&mut half);
    assert_eq!(number(&refused), (0, 0));
    assert_eq!(half.drainable(0, RULES), Drainable::Later, "proved again, one at a time");
    ack(&mut half, refused, 0);
    assert_eq!(number(&drain(&mut half)), (0, 1));
}

#[test]
fn c09_what_is_behind_a_batch_that_is_in_no_log_is_cut_off() {
    for (unanswered, cut_off) in [(false, true), (true, false)] {
        let bench = Bench::new(1 << 20, 1 << 14);
        let mut half = proved(&bench);
        for value in ["before", "bad", "behind"] {
            bench.sealed(&half.lane, value.as_bytes());
        }
        let (before, mut bad) = (drain(&mut half), drain(&mut half));
        let behind = drain(&mut half);
        bad.state.unanswered = unanswered;
        let error = batch_error(&half.lane, &bad, ANY_ERROR, bad.certainty());
        half.settle_failed(bad, error, &mut WakeList::default());
        assert_eq!((half.is_cut_off(&before), half.is_cut_off(&behind)), (false, cut_off));
        ack(&mut half, before, 1);
        // A new epoch has sequences of its own, and no gap: so it is with a new id.
        half.settle_for_retry(behind);
        if !unanswered {
            let behind = drain(&mut half);
            assert_eq!(number(&behind), (1, 0));
            assert!(!half.is_cut_off(&behind));
            bench.sealed(&half.lane, b"bad too");
            ack(&mut half, behind, 2);
            let bad = drain(&mut half);
            let error = batch_error(&half.lane, &bad, ANY_ERROR, bad.certainty());
            half.settle_failed(bad, error, &mut WakeList::default());
        }
        half.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default());
        half.offer_identity(identity(8, 0), 2);
        bench.sealed(&half.lane, b"next");
        let next = drain(&mut half);
        assert_eq!(next.producer(), identity(8, 0));
        assert!(!half.is_cut_off(&next));
    }
}

#[test]
fn c05_while_a_batch_is_sent_again_nothing_else_is() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut half = bench.led_half();
    let _first = bench.sealed(&half.lane, b"first");
    let batch = drain(&mut half);
    ack(&mut half, batch, 0);
    let _asked_again = bench.sealed(&half.lane, b"asked again");
    let _next = bench.sealed(&half.lane, b"next");
    let batch = drain(&mut half);
    half.settle_for_retry(batch);
    let batch = drain(&mut half);
    assert_eq!(half.drainable(0, RULES), Drainable::Later);
    ack(&mut half, batch, 1);
    // Afterwards there are several again.
    bench.sealed(&half.lane, b"last");
    let _next = drain(&mut half);
    assert_eq!(half.drainable(0, RULES), Drainable::Now);
}
