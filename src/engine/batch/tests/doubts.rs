//! What a lane asks its leader, and concludes, before it renumbers what may be in the log.

use super::*;
use crate::engine::batch::Batch;

/// A head whose leader has taken `first`, with what was drained of `values` behind it.
#[expect(clippy::vec_box, reason = "batches live in boxes")]
fn in_flight(bench: &Bench, values: &[&str]) -> (Box<LaneHead>, Vec<CellHandle>, Vec<Box<Batch>>) {
    let mut head = bench.led_head();
    drop(bench.sealed(&head.tail, b"first"));
    let batch = drain(&mut head);
    ack(&mut head, batch, 0);
    let handles = values.iter().map(|value| bench.sealed(&head.tail, value.as_bytes())).collect();
    let batches = values.iter().map(|_| drain(&mut head)).collect();
    (head, handles, batches)
}

/// The connection is lost, with all of them written.
#[expect(clippy::vec_box, reason = "batches live in boxes")]
fn lose(head: &mut LaneHead, batches: Vec<Box<Batch>>) {
    for mut batch in batches {
        batch.state.unanswered = true;
        head.settle_for_retry(batch);
    }
}

/// What goes out next over this connection.
fn ask(head: &mut LaneHead, connection: u32) -> Box<Batch> {
    let rules = DrainRules { connection, ..RULES };
    assert_eq!(head.drainable(0, rules), Drainable::Now);
    head.drain(rules).expect("drainable() said so")
}

fn refuse(head: &mut LaneHead, mut batch: Box<Batch>) {
    head.note_out_of_order(&mut batch);
    head.settle_refused(batch);
}

fn number(batch: &Batch) -> (i16, i32) {
    (batch.producer().epoch, batch.base_sequence())
}

#[test]
fn c49_f42_after_a_long_silence_one_batch_goes_alone() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, _handles, batches) = in_flight(&bench, &["a"]);
    let [batch] = <[_; 1]>::try_from(batches).unwrap_or_else(|_| unreachable!("one was drained"));
    let now = 5 * MS;
    head.settle_acked(now, batch, (Some(1), None), &mut WakeList::default());
    for value in ["b", "c", "d"] {
        drop(bench.sealed(&head.tail, value.as_bytes()));
    }
    let due = now + RULES.producer_id_idle_max;
    let batch = head.drain(RULES).expect("it has three");
    assert_eq!(head.drainable(due, RULES), Drainable::Now, "it was heard of lately enough");
    assert_eq!(head.drainable(due + 1, RULES), Drainable::Later, "the broker may have forgotten");
    head.settle_acked(due + 2, batch, (Some(2), None), &mut WakeList::default());
    head.drain(RULES).expect("it has two more");
    assert_eq!(head.drainable(due + 3, RULES), Drainable::Now, "it is proved again");
}

#[test]
fn c50_a_batch_behind_what_was_cut_off_goes_into_a_new_epoch_at_once() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, handles, batches) = in_flight(&bench, &["b3"]);
    lose(&mut head, batches);
    head.lead_by(leader(2, 2));
    let batch = ask(&mut head, 1);
    assert_eq!(number(&batch), (0, 1), "under its old number first");
    refuse(&mut head, batch);
    let batch = ask(&mut head, 1);
    assert_eq!(number(&batch), (1, 0), "the leader has neither it nor what was before it");
    ack(&mut head, batch, 0);
    assert_eq!(handles[0].offset(), Some(0));
}

#[test]
fn c50_a_leader_that_remembers_the_last_batch_only_is_asked_for_one_after_the_other() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, handles, batches) = in_flight(&bench, &["b1", "b2", "b3", "b4"]);
    lose(&mut head, batches);
    // It has b1 and b2, and remembers b2.
    for (sequence, offset) in [(1, None), (2, Some(2)), (3, Some(3)), (4, Some(4))] {
        let batch = ask(&mut head, 1);
        assert_eq!(number(&batch), (0, sequence));
        match offset {
            None => refuse(&mut head, batch),
            Some(offset) => ack(&mut head, batch, offset),
        }
    }
    assert!(handles[0].error().is_none(), "b1 is in the log too");
    assert!(handles[0].try_outcome().is_some());
    assert_eq!(handles[0].offset(), None, "nobody knows where");
    let offsets: Vec<_> = handles[1..].iter().map(|handle| handle.offset()).collect();
    assert_eq!(offsets, [Some(2), Some(3), Some(4)]);
}

#[test]
fn c50_only_the_refusals_of_one_leader_over_one_connection_count_together() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, _handles, batches) = in_flight(&bench, &["b1", "b2"]);
    lose(&mut head, batches);
    let batch = ask(&mut head, 1);
    refuse(&mut head, batch);
    // The broker restarts before it was asked for the other.
    for (connection, sequence) in [(2, 1), (2, 2)] {
        let batch = ask(&mut head, connection);
        assert_eq!(number(&batch), (0, sequence), "it begins again");
        refuse(&mut head, batch);
    }
    assert_eq!(number(&ask(&mut head, 2)), (1, 0));
}

#[test]
fn c50_a_success_that_leaves_no_room_before_it_proves_nothing() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, handles, batches) = in_flight(&bench, &["b1", "b2"]);
    lose(&mut head, batches);
    let batch = ask(&mut head, 1);
    refuse(&mut head, batch);
    // The leader took it as the first that it ever saw of the producer: right behind "first".
    let batch = ask(&mut head, 1);
    ack(&mut head, batch, 1);
    let error = handles[0].error().expect("it was not appended before b2, and cannot be any more");
    assert_eq!(error.certainty(), Certainty::Unknown);
    assert_eq!(handles[1].offset(), Some(1));
}

#[test]
fn c50_a_later_batch_that_was_acknowledged_proves_an_earlier_one() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, _handles, batches) = in_flight(&bench, &["b1", "b2"]);
    let [b1, b2] = <[_; 2]>::try_from(batches).unwrap_or_else(|_| unreachable!("two were drained"));
    // REQUEST_TIMED_OUT for b1, while b2 behind it is acknowledged.
    lose(&mut head, vec![b1]);
    ack(&mut head, b2, 2);
    let batch = ask(&mut head, 1);
    assert_eq!(number(&batch), (0, 1));
    assert!(head.is_in_log(&batch), "whatever a leader says that has forgotten it");
}

#[test]
fn c50_what_failed_in_doubt_keeps_those_behind_it_in_doubt() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, handles, batches) = in_flight(&bench, &["b1", "b2"]);
    let [mut b1, b2] =
        <[_; 2]>::try_from(batches).unwrap_or_else(|_| unreachable!("two were drained"));
    // b1 expires in flight. Both may still be carried out, from a connection that is given up.
    let error = batch_error(&head.tail, &b1, ANY_ERROR, Certainty::Unknown);
    head.fail_in_flight(&mut b1, error, &mut WakeList::default());
    lose(&mut head, vec![b1, b2]);
    for _ in 0..3 {
        let batch = ask(&mut head, 1);
        assert_eq!(number(&batch), (0, 2), "asked for again, never renumbered");
        refuse(&mut head, batch);
    }
    assert!(handles[1].try_outcome().is_none());
}

#[test]
fn c50_what_the_old_leader_still_acknowledges_proves_what_stood_before_it() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let (mut head, _handles, batches) = in_flight(&bench, &["b1", "b2"]);
    let [b1, b2] = <[_; 2]>::try_from(batches).unwrap_or_else(|_| unreachable!("two were drained"));
    // Another leader is known before the old one's answers are in.
    head.lead_by(leader(2, 2));
    lose(&mut head, vec![b1]);
    ack(&mut head, b2, 2);
    let batch = ask(&mut head, 1);
    assert!(head.is_in_log(&batch), "however little the new leader remembers");
}

/// The whole was refused as too large. A leader that forgot the producer then took the later batch
/// as the first that it ever saw, and no piece can go before that any more.
#[test]
fn c50_a_piece_that_was_never_sent_is_not_proved_by_a_later_batch() {
    for whole_in_doubt in [false, true] {
        let bench = Bench::new(1 << 20, 1 << 14);
        let (mut head, _, _) = in_flight(&bench, &[]);
        let mut wakes = WakeList::default();
        let append = |value: &[u8]| bench.append(&head.tail, value).expect("the pool has room");
        let split = [append(b"sent"), append(b"never sent")];
        assert!(head.tail.try_seal());
        let _later = bench.sealed(&head.tail, b"later");
        let (mut whole, later) = (drain(&mut head), drain(&mut head));
        whole.state.unanswered = whole_in_doubt;
        head.settle_too_large(whole, &mut wakes);
        lose(&mut head, vec![later]);
        // The first piece is lost on the way, and refused when it is asked for.
        let piece = ask(&mut head, 1);
        lose(&mut head, vec![piece]);
        let piece = ask(&mut head, 1);
        assert_eq!((number(&piece), piece.records()), ((0, 1), 1));
        refuse(&mut head, piece);
        let later = ask(&mut head, 1);
        assert_eq!(number(&later), (0, 3));
        // DUPLICATE_SEQUENCE_NUMBER.
        head.settle_acked(0, later, (None, None), &mut wakes);
        assert!(split[0].error().is_none() && split[0].try_outcome().is_some());
        assert!(split[1].try_outcome().is_some(), "it waits for nothing");
        let certainty = split[1].error().map(|error| error.certainty());
        assert_eq!(certainty, (!whole_in_doubt).then_some(Certainty::NotWritten));
    }
}
