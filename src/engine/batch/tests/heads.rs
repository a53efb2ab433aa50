//! The head of a lane: order of retries, windows, epochs, expiry, what flush waits for.

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

/// A head whose leader has proved itself, with nothing in flight.
fn proved(bench: &Bench) -> Box<LaneHead> {
    let mut head = bench.led_head();
    drop(bench.sealed(&head.tail, b"first"));
    let batch = drain(&mut head);
    ack(&mut head, batch, 0);
    head
}

#[test]
fn c01_a_retry_holds_the_same_bytes() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    bench.sealed(&head.tail, b"a");
    let mut batch = drain(&mut head);
    let first = wire(&mut batch);
    head.settle_for_retry(batch);
    let mut batch = drain(&mut head);
    assert_eq!(wire(&mut batch), first);
    assert_eq!((number(&batch), batch.state.attempts), ((0, 0), 2));
}

#[test]
fn c03_and_c04_one_in_flight_until_a_success_then_five() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    for _ in 0..8 {
        bench.sealed(&head.tail, b"x");
    }
    let first = drain(&mut head);
    assert_eq!(head.drainable(0, RULES), Drainable::Later);
    ack(&mut head, first, 0);
    let batches: Vec<_> = (0..5).map(|_| drain(&mut head)).collect();
    assert_eq!(head.drainable(0, RULES), Drainable::Later);
    let sequences: Vec<_> = batches.iter().map(|batch| batch.base_sequence()).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
}

#[test]
fn c05_retries_go_in_order_one_at_a_time_and_before_anything_new() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["a", "b", "c", "new"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let batches: Vec<_> = (0..3).map(|_| drain(&mut head)).collect();
    // However they come back, they go out by their number.
    for batch in batches.into_iter().rev() {
        head.settle_for_retry(batch);
    }
    for (value, sequence) in [("a", 1), ("b", 2), ("c", 3), ("new", 4)] {
        let mut batch = drain(&mut head);
        assert_eq!(values(&mut batch), [value.as_bytes()]);
        assert_eq!(number(&batch), (0, sequence));
        if value != "c" && value != "new" {
            assert_eq!(head.drainable(0, RULES), Drainable::Later, "{value} goes alone");
        }
        ack(&mut head, batch, 0);
    }
}

#[test]
fn c05_while_something_is_in_flight_no_retry_goes_out() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["a", "b"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let (a, b) = (drain(&mut head), drain(&mut head));
    head.settle_for_retry(a);
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "b is not settled");
    head.settle_for_retry(b);
    assert_eq!(values(&mut drain(&mut head)), [b"a"]);
}

#[test]
fn c17_nothing_goes_to_a_new_leader_before_the_attempts_at_the_old_one_settled() {
    for rules in [RULES, DrainRules { idempotent: false, ..RULES }] {
        let bench = Bench::new(1 << 20, 1 << 14);
        let mut head = proved(&bench);
        for value in ["a", "b", "c"] {
            bench.sealed(&head.tail, value.as_bytes());
        }
        let (a, b) = (drain(&mut head), drain(&mut head));
        head.lead_by(leader(2, 2));
        assert_eq!(head.drainable(0, rules), Drainable::Later);
        // What the old leader still acknowledges proves nothing about the new one.
        ack(&mut head, a, 1);
        assert_eq!(head.drainable(0, rules), Drainable::Later);
        assert!(head.is_settling());
        head.settle_for_retry(b);
        assert!(!head.is_settling());
        assert_eq!(head.drainable(0, rules), Drainable::Now);
    }
}

#[test]
fn c04_a_success_at_the_old_leader_does_not_prove_the_new_one() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["a", "b", "c"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let a = drain(&mut head);
    head.lead_by(leader(2, 2));
    ack(&mut head, a, 1);
    let b = drain(&mut head);
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "b goes alone");
    ack(&mut head, b, 2);
    drain(&mut head);
}

#[test]
fn c15_a_newer_epoch_cancels_the_backoff() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    head.backoff_until = 500;
    head.lead_by(leader(1, 1));
    assert_eq!(head.drainable(100, RULES), Drainable::At(500), "nothing new");
    head.lead_by(leader(1, 2));
    assert_eq!(head.drainable(100, RULES), Drainable::Now);
    head.lead_by(None);
    assert_eq!(head.drainable(600, RULES), Drainable::Later);
}

#[test]
fn c07_after_a_gap_a_new_epoch_begins_once_nothing_is_in_flight() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["bad", "b", "c", "d"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let bad = drain(&mut head);
    let (b, c) = (drain(&mut head), drain(&mut head));
    let error = batch_error(&head.tail, &bad, ANY_ERROR, Certainty::NotWritten);
    head.settle_failed(bad, error, &mut WakeList::default());
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "b and c are in flight");
    head.settle_for_retry(b);
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "c is in flight");
    head.settle_for_retry(c);
    for (value, sequence) in [("b", 0), ("c", 1), ("d", 2)] {
        let mut batch = drain(&mut head);
        assert_eq!(values(&mut batch), [value.as_bytes()]);
        assert_eq!(number(&batch), (1, sequence));
        ack(&mut head, batch, 0);
    }
}

#[test]
fn c12_a_new_epoch_is_proved_like_a_new_leader() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["a", "b"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    head.want_bump();
    let a = drain(&mut head);
    assert_eq!(number(&a), (1, 0));
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "a broker may know nothing of the id");
    ack(&mut head, a, 1);
    assert_eq!(number(&drain(&mut head)), (1, 1));
}

#[test]
fn c11_an_unanswered_batch_is_asked_about_under_its_old_triple_first() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["refused", "unanswered", "new"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let (refused, mut unanswered) = (drain(&mut head), drain(&mut head));
    unanswered.state.unanswered = true;
    head.want_bump();
    head.settle_refused(refused);
    head.settle_for_retry(unanswered);
    let asked = drain(&mut head);
    assert_eq!(number(&asked), (0, 2), "the old triple");
    assert_eq!(head.drainable(0, RULES), Drainable::Later);
    ack(&mut head, asked, 2);
    // Only now is everything else certainly not in the log.
    assert_eq!(number(&drain(&mut head)), (1, 0));
}

#[test]
fn c02_used_up_epochs_wait_for_another_id_and_renumber() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.topic("t", 1).1.remove(0);
    head.lead_by(leader(1, 1));
    head.offer_identity(identity(7, i16::MAX), 1);
    bench.sealed(&head.tail, b"a");
    let batch = drain(&mut head);
    head.want_bump();
    head.settle_for_retry(batch);
    assert!(head.drain(RULES).is_none());
    assert_eq!(head.drainable(0, RULES), Drainable::NeedsIdentity);
    assert_eq!(head.used_up_identity(), Some(identity(7, i16::MAX)));
    head.offer_identity(identity(7, i16::MAX), 1);
    assert_eq!(head.drainable(0, RULES), Drainable::NeedsIdentity, "that one is used up");
    head.offer_identity(identity(8, 0), 2);
    let batch = drain(&mut head);
    assert_eq!((batch.producer(), batch.base_sequence()), (identity(8, 0), 0));
}

#[test]
fn without_identity_nothing_is_drained_and_deadlines_run() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.topic("t", 1).1.remove(0);
    head.lead_by(leader(1, 1));
    let handle = bench.sealed(&head.tail, b"a");
    assert_eq!(head.drainable(0, RULES), Drainable::NeedsIdentity);
    assert_eq!(head.next_deadline(), Some(DELIVERY_TIMEOUT));
    assert_eq!(head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default()), 1);
    let error = handle.error().expect("it has failed");
    assert_eq!(error.certainty(), Certainty::NotWritten);
}

#[test]
fn c10_a_batch_that_was_never_sent_expires_without_a_new_epoch() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    let old = bench.sealed(&head.tail, b"old");
    bench.set_now(10);
    let young = bench.sealed(&head.tail, b"young");
    assert_eq!(head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default()), 1);
    assert!(old.error().is_some() && young.try_outcome().is_none());
    let batch = drain(&mut head);
    assert_eq!(number(&batch), (0, 1), "the sequence was never given to the other");
    ack(&mut head, batch, 41);
    assert_eq!(young.offset(), Some(41));
}

#[test]
fn c09_a_batch_that_expires_in_flight_holds_its_memory_and_the_lane_until_it_settles() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    let handle = bench.sealed(&head.tail, b"slow");
    let next = bench.sealed(&head.tail, b"next");
    let mut slow = drain(&mut head);
    let error = batch_error(&head.tail, &slow, ANY_ERROR, Certainty::Unknown);
    head.fail_in_flight(&mut slow, error, &mut WakeList::default());
    assert_eq!(handle.error().map(|error| error.certainty()), Some(Certainty::Unknown));
    assert_eq!(head.tail.resolved(), 2);
    assert!(bench.pool().free_bytes() < bench.pool().capacity(), "the kernel may still read it");
    assert_eq!(head.drainable(0, RULES), Drainable::Later);
    // An answer that comes now changes nothing for the user.
    ack(&mut head, slow, 9);
    assert!(handle.error().is_some());
    let batch = drain(&mut head);
    assert_eq!(number(&batch), (1, 0), "its sequence is not given to other records");
    ack(&mut head, batch, 10);
    assert!(next.offset().is_some());
    drop(head);
    bench.assert_all_free();
}

#[test]
fn a_batch_that_expired_in_flight_is_not_sent_again() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    bench.sealed(&head.tail, b"slow");
    let mut slow = drain(&mut head);
    let error = batch_error(&head.tail, &slow, ANY_ERROR, Certainty::Unknown);
    head.fail_in_flight(&mut slow, error, &mut WakeList::default());
    head.settle_for_retry(slow);
    assert!(!head.has_retries());
    assert!(head.is_idle());
    bench.assert_all_free();
}

#[test]
fn c09_an_expired_retry_says_whether_it_may_be_written_and_is_never_renumbered() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    let unanswered = bench.sealed(&head.tail, b"unanswered");
    let refused = bench.sealed(&head.tail, b"refused");
    let (mut a, b) = (drain(&mut head), drain(&mut head));
    a.state.unanswered = true;
    head.settle_for_retry(a);
    head.settle_for_retry(b);
    assert_eq!(head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default()), 2);
    let certainty = |handle: &CellHandle| handle.error().map(|error| error.certainty());
    assert_eq!(certainty(&unanswered), Some(Certainty::Unknown));
    assert_eq!(certainty(&refused), Some(Certainty::NotWritten));
    bench.sealed(&head.tail, b"next");
    assert_eq!(number(&drain(&mut head)), (1, 0));
}

#[test]
fn c42_flush_sees_what_is_resolved_in_the_order_of_the_batches() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for _ in 0..3 {
        bench.sealed(&head.tail, b"x");
    }
    drop(bench.append(&head.tail, b"open"));
    let (target, _) = head.tail.seal(false);
    assert_eq!(target, 5);
    let batches: Vec<_> = (0..4).map(|_| drain(&mut head)).collect();
    let mut seen = Vec::new();
    for batch in batches.into_iter().rev() {
        ack(&mut head, batch, 0);
        seen.push(head.tail.resolved());
    }
    assert_eq!(seen, [1, 1, 1, 5]);
}

#[test]
fn c46_a_dropped_head_fails_what_waits_in_it_the_open_batch_too() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    let handles = [bench.sealed(&head.tail, b"retry"), bench.sealed(&head.tail, b"sealed")];
    let open = bench.append(&head.tail, b"open").expect("there is room");
    let batch = drain(&mut head);
    head.settle_for_retry(batch);
    let lane = head.tail.clone();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut waiting = bench.append(&lane, b"awaited").expect("there is room");
    assert!(waiting.poll(&mut Context::from_waker(&waker)).is_pending());
    drop(head);
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
    let mut head = proved(&bench);
    let handle = bench.sealed(&head.tail, b"x");
    drop(drain(&mut head));
    assert_eq!(handle.error().map(|error| error.certainty()), Some(Certainty::Unknown));
}

#[test]
fn c05_what_an_earlier_leader_refused_is_offered_to_the_next_before_what_comes_later() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    for value in ["a", "b"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let (refused, mut unanswered) = (drain(&mut head), drain(&mut head));
    unanswered.state.unanswered = true;
    head.want_bump();
    head.settle_refused(refused);
    head.settle_for_retry(unanswered);
    // The new leader may know nothing of the producer, and take any sequence: "b" before "a".
    head.lead_by(leader(2, 2));
    let asked = drain(&mut head);
    assert_eq!(number(&asked), (0, 1), "the earlier one, under its old triple");
    head.settle_refused(asked);
    assert_eq!(number(&drain(&mut head)), (0, 2), "refused here too: now the unanswered one");
}

#[test]
fn c12_a_new_producer_id_reaches_lanes_whose_window_is_empty() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    bench.sealed(&head.tail, b"busy");
    let batch = drain(&mut head);
    head.offer_identity(identity(8, 0), 2);
    head.settle_for_retry(batch);
    head.offer_identity(identity(8, 0), 2);
    let batch = drain(&mut head);
    assert_eq!((batch.producer(), batch.base_sequence()), (identity(7, 0), 1), "still open");
    ack(&mut head, batch, 1);
    head.offer_identity(identity(8, 0), 2);
    // News from before, at a shard that has not heard: its sequences are used.
    head.offer_identity(identity(7, 0), 1);
    bench.sealed(&head.tail, b"idle");
    let batch = drain(&mut head);
    assert_eq!((batch.producer(), batch.base_sequence()), (identity(8, 0), 0));
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "the new id is proved first");
}

#[test]
fn c19_a_recreated_topic_gets_a_new_epoch_and_sequences_from_zero() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    head.belong_to(TopicId([1; 16]), 1);
    bench.sealed(&head.tail, b"old");
    let batch = drain(&mut head);
    assert_eq!(number(&batch), (0, 1));
    head.belong_to(TopicId([2; 16]), 1);
    for rules in [RULES, DrainRules { idempotent: false, ..RULES }] {
        assert_eq!(head.drainable(0, rules), Drainable::Later, "an attempt at the old one is open");
    }
    head.settle_refused(batch);
    assert_eq!(number(&drain(&mut head)), (1, 0));
}

#[test]
fn c19_what_an_old_topic_refused_is_offered_to_the_new_one_before_what_comes_later() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    head.belong_to(TopicId([1; 16]), 1);
    for value in ["a", "b"] {
        bench.sealed(&head.tail, value.as_bytes());
    }
    let (refused, mut unanswered) = (drain(&mut head), drain(&mut head));
    unanswered.state.unanswered = true;
    head.settle_refused(refused);
    head.settle_for_retry(unanswered);
    // Its log knows nothing of the producer, and may take any sequence: "b" before "a".
    head.belong_to(TopicId([2; 16]), 1);
    assert_eq!(number(&drain(&mut head)), (0, 1), "the earlier one, under its old triple");
}

#[test]
fn c48_at_another_cluster_a_lane_begins_anew_once_its_attempts_have_settled() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = proved(&bench);
    let mut sent: Vec<_> = ["refused", "in doubt", "in flight"]
        .into_iter()
        .map(|value| {
            bench.sealed(&head.tail, value.as_bytes());
            drain(&mut head)
        })
        .collect();
    bench.sealed(&head.tail, b"never sent");
    let (in_flight, mut in_doubt, refused) =
        (sent.pop().unwrap(), sent.pop().unwrap(), sent.pop().unwrap());
    in_doubt.state.unanswered = true;
    head.settle_refused(refused);
    head.settle_for_retry(in_doubt);
    let (cause, mut wakes) = (ANY_ERROR, WakeList::default());
    head.belong_to_cluster(1, 1);
    head.lead_by(Some(Leader { broker: BrokerId(1), epoch: 0 }));
    head.start_over_if_settled(&cause, &mut wakes);
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "one is open at the old one");
    ack(&mut head, in_flight, 9);
    let before = head.retry_count();
    head.start_over_if_settled(&cause, &mut wakes);
    assert_eq!((before, head.retry_count()), (2, 1), "what is in doubt is not sent there");
    // The old id is no good, whoever offers it, and a new one counts from zero.
    head.offer_identity(ProducerIdentity { id: 7, epoch: 0 }, 1);
    assert_eq!(head.drainable(0, RULES), Drainable::NeedsIdentity);
    head.offer_identity(ProducerIdentity { id: 7, epoch: 0 }, 2);
    let refused = drain(&mut head);
    assert_eq!(number(&refused), (0, 0));
    assert_eq!(head.drainable(0, RULES), Drainable::Later, "proved again, one at a time");
    ack(&mut head, refused, 0);
    assert_eq!(number(&drain(&mut head)), (0, 1));
}

#[test]
fn c09_what_is_behind_a_batch_that_is_in_no_log_is_cut_off() {
    for (unanswered, cut_off) in [(false, true), (true, false)] {
        let bench = Bench::new(1 << 20, 1 << 14);
        let mut head = proved(&bench);
        for value in ["before", "bad", "behind"] {
            bench.sealed(&head.tail, value.as_bytes());
        }
        let (before, mut bad) = (drain(&mut head), drain(&mut head));
        let behind = drain(&mut head);
        bad.state.unanswered = unanswered;
        let error = batch_error(&head.tail, &bad, ANY_ERROR, bad.certainty());
        head.settle_failed(bad, error, &mut WakeList::default());
        assert_eq!((head.is_cut_off(&before), head.is_cut_off(&behind)), (false, cut_off));
        ack(&mut head, before, 1);
        // A new epoch has sequences of its own, and no gap: so it is with a new id.
        head.settle_for_retry(behind);
        if !unanswered {
            let behind = drain(&mut head);
            assert_eq!(number(&behind), (1, 0));
            assert!(!head.is_cut_off(&behind));
            bench.sealed(&head.tail, b"bad too");
            ack(&mut head, behind, 2);
            let bad = drain(&mut head);
            let error = batch_error(&head.tail, &bad, ANY_ERROR, bad.certainty());
            head.settle_failed(bad, error, &mut WakeList::default());
        }
        head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut WakeList::default());
        head.offer_identity(identity(8, 0), 2);
        bench.sealed(&head.tail, b"next");
        let next = drain(&mut head);
        assert_eq!(next.producer(), identity(8, 0));
        assert!(!head.is_cut_off(&next));
    }
}

#[test]
fn c05_while_a_batch_is_sent_again_nothing_else_is() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    let _first = bench.sealed(&head.tail, b"first");
    let batch = drain(&mut head);
    ack(&mut head, batch, 0);
    let _asked_again = bench.sealed(&head.tail, b"asked again");
    let _next = bench.sealed(&head.tail, b"next");
    let batch = drain(&mut head);
    head.settle_for_retry(batch);
    let batch = drain(&mut head);
    assert_eq!(head.drainable(0, RULES), Drainable::Later);
    ack(&mut head, batch, 1);
    // Afterwards there are several again.
    bench.sealed(&head.tail, b"last");
    let _next = drain(&mut head);
    assert_eq!(head.drainable(0, RULES), Drainable::Now);
}
