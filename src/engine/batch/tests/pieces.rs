//! Batches that cannot be written as they are.

use super::*;
use crate::engine::buffer::ScratchSlot;
use crate::engine::protocol::compression::{Codec, Compression, Compressor};
use crate::engine::protocol::records::{BATCH_HEADER_LEN, RecordFormat};

/// Values of many lengths: some segments end within a record, some records span segments.
fn value(index: usize) -> Vec<u8> {
    vec![b'a' + (index % 26) as u8; 100 + index * 97 % 3_000]
}

/// A sealed batch of `count` records with timestamps that go up and down, the latest of all near
/// the end, and its deliveries.
fn filled(bench: &Bench, head: &LaneHead, count: usize) -> Vec<CellHandle> {
    let append = |index: usize| {
        let value = value(index);
        let parts = RecordParts { value: Some(&value), ..RecordParts::default() };
        let timestamp = 1_000 + (index * 7 % 20 + index * 2) as i64;
        bench.append_parts(&head.tail, timestamp, &parts).expect("the pool has room")
    };
    let handles = (0..count).map(append).collect();
    assert!(head.tail.try_seal());
    handles
}

/// Acknowledges piece after piece, each at the next offset; returns their values and base
/// sequences, and checks what their headers say.
fn drain_pieces(head: &mut LaneHead, mut offset: i64) -> Vec<(Vec<Vec<u8>>, i32)> {
    let mut pieces = Vec::new();
    while head.has_sealed() {
        let mut batch = drain(head);
        assert_eq!(batch.state.attempts, 1, "a split charges no retry");
        let bytes = wire(&mut batch);
        let (reader, _) = RecordBatchReader::read(&bytes, 1 << 24).expect("it can be read");
        let records: Vec<_> = reader.records().map(|r| r.expect("it can be read")).collect();
        let latest = records.iter().map(|record| record.timestamp).max();
        assert_eq!(Some(reader.header().max_timestamp), latest);
        let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..records.len() as i64).collect::<Vec<_>>());
        pieces.push((values(&mut batch), batch.base_sequence()));
        let records = batch.records();
        ack(head, batch, offset);
        offset += i64::from(records);
    }
    pieces
}

#[test]
fn c39_a_batch_that_is_too_large_is_split_in_order() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let handles = filled(&bench, &head, 40);
    let batch = drain(&mut head);
    head.settle_too_large(batch, &mut WakeList::default());
    assert!(handles.iter().all(|handle| handle.try_outcome().is_none()));
    assert_eq!(head.tail.resolved(), 0);

    let pieces = drain_pieces(&mut head, 500);
    assert_eq!(pieces.len(), 2);
    let mut sequence = 0;
    for (values, base) in &pieces {
        assert_eq!(*base, sequence, "together they have the sequences of the whole");
        sequence += values.len() as i32;
    }
    let sent: Vec<_> = pieces.into_iter().flat_map(|(values, _)| values).collect();
    assert_eq!(sent, (0..40).map(value).collect::<Vec<_>>());
    let offsets: Vec<_> = handles.iter().map(CellHandle::offset).collect();
    assert_eq!(offsets, (500..540).map(Some).collect::<Vec<_>>());
    assert_eq!(head.tail.resolved(), 1, "flush waits for all pieces");
    drop((handles, head));
    bench.assert_all_free();
}

#[test]
fn c39_pieces_are_split_until_they_are_small_enough() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let handles = filled(&bench, &head, 40);
    let (mut wakes, limit) = (WakeList::default(), 6_000);
    let mut sent = Vec::new();
    let mut refused = 0;
    while head.has_sealed() {
        let mut batch = drain(&mut head);
        if batch.len() > limit && batch.records() > 1 {
            head.settle_too_large(batch, &mut wakes);
            refused += 1;
        } else {
            let offset = sent.len() as i64;
            sent.extend(values(&mut batch));
            ack(&mut head, batch, offset);
        }
    }
    assert_eq!(sent, (0..40).map(value).collect::<Vec<_>>());
    assert!(refused <= 6, "what was refused once is not tried again: {refused}");
    let offsets: Vec<_> = handles.iter().map(CellHandle::offset).collect();
    assert_eq!(offsets, (0..40).map(Some).collect::<Vec<_>>());
}

#[test]
fn c39_a_piece_that_fails_takes_no_other_with_it_and_a_deadline_takes_all() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let mut wakes = WakeList::default();
    let handles = filled(&bench, &head, 10);
    let batch = drain(&mut head);
    head.settle_too_large(batch, &mut wakes);
    let batch = drain(&mut head);
    let first = batch.records() as usize;
    let error = batch_error(&head.tail, &batch, ANY_ERROR, batch.certainty());
    head.settle_failed(batch, error, &mut wakes);
    assert!(handles[..first].iter().all(|handle| handle.error().is_some()));
    assert!(handles[first..].iter().all(|handle| handle.try_outcome().is_none()));
    let mut batch = drain(&mut head);
    assert_eq!((batch.producer().epoch, batch.base_sequence()), (1, 0), "the gap is closed");
    assert_eq!(values(&mut batch), (first..10).map(value).collect::<Vec<_>>());

    head.settle_too_large(batch, &mut wakes);
    assert_eq!(head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut wakes), 1);
    assert!(handles.iter().all(|handle| handle.error().is_some()));
    assert_eq!(head.tail.resolved(), 1);
    drop((handles, head));
    bench.assert_all_free();
}

#[test]
fn c09_the_pieces_of_a_batch_in_doubt_are_in_doubt_until_one_is_acknowledged() {
    for acked in [false, true] {
        let bench = Bench::new(1 << 20, 1 << 16);
        let mut head = bench.led_head();
        let mut wakes = WakeList::default();
        let handles = filled(&bench, &head, 10);
        let mut batch = drain(&mut head);
        batch.state.unanswered = true;
        head.settle_too_large(batch, &mut wakes);
        let piece = drain(&mut head);
        let first = piece.records() as usize;
        if acked {
            ack(&mut head, piece, 0);
        } else {
            head.settle_for_retry(piece);
        }
        head.expire(DELIVERY_TIMEOUT, &ANY_ERROR, &mut wakes);
        let expected = if acked { Certainty::NotWritten } else { Certainty::Unknown };
        for handle in &handles[first..] {
            assert_eq!(handle.error().map(|error| error.certainty()), Some(expected));
        }
        assert_eq!(handles[0].offset().is_some(), acked);
    }
}

#[test]
fn c39_in_a_new_epoch_the_pieces_keep_their_sequences_from_other_batches() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let mut wakes = WakeList::default();
    let _split = filled(&bench, &head, 10);
    let batch = drain(&mut head);
    head.settle_too_large(batch, &mut wakes);
    head.want_bump();
    let piece = drain(&mut head);
    assert_eq!((piece.producer().epoch, piece.base_sequence()), (1, 0));
    ack(&mut head, piece, 0);
    let _next = bench.sealed(&head.tail, b"next");
    let piece = drain(&mut head);
    let next = piece.base_sequence() + piece.records() as i32;
    ack(&mut head, piece, 5);
    assert_eq!(drain(&mut head).base_sequence(), next);
}

#[test]
fn c41_culprits_fail_with_their_own_words_and_the_innocent_are_sent_again() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let mut wakes = WakeList::default();
    let handles = filled(&bench, &head, 12);
    let after = bench.sealed(&head.tail, b"after");
    let batch = drain(&mut head);
    let culprit = |message: &str| {
        let code = crate::engine::protocol::ErrorCode::INVALID_RECORD;
        let cause = DeliveryErrorCause::Broker { code, message: Some(message.into()) };
        batch_error(&head.tail, &batch, cause, Certainty::NotWritten)
    };
    let culprits = [(0, culprit("no key")), (5, culprit("no value")), (11, culprit("too old"))];
    head.settle_without(batch, &culprits, &mut wakes);
    for (index, error) in &culprits {
        assert_eq!(handles[*index as usize].error(), Some(error));
    }
    let mut batch = drain(&mut head);
    assert_eq!((batch.producer().epoch, batch.base_sequence()), (1, 0), "their number changed");
    assert_eq!(batch.state.attempts, 1, "no retry is charged");
    let innocent: Vec<_> = (0..12).filter(|index| ![0, 5, 11].contains(index)).collect();
    assert_eq!(values(&mut batch), innocent.iter().map(|&at| value(at)).collect::<Vec<_>>());
    ack(&mut head, batch, 70);
    let offsets: Vec<_> = innocent.iter().map(|&at| handles[at].offset()).collect();
    assert_eq!(offsets, (70..79).map(Some).collect::<Vec<_>>());
    let batch = drain(&mut head);
    assert_eq!(batch.base_sequence(), 9);
    ack(&mut head, batch, 79);
    assert_eq!((after.offset(), head.tail.resolved()), (Some(79), 2));
}

#[test]
fn c41_the_innocent_never_go_under_the_number_of_the_whole() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    let mut wakes = WakeList::default();
    bench.sealed(&head.tail, b"proves the leader");
    let batch = drain(&mut head);
    ack(&mut head, batch, 0);
    drop(filled(&bench, &head, 2));
    bench.sealed(&head.tail, b"unanswered");
    let (refused, mut unanswered) = (drain(&mut head), drain(&mut head));
    unanswered.state.unanswered = true;
    let error = batch_error(&head.tail, &refused, ANY_ERROR, Certainty::NotWritten);
    head.settle_without(refused, &[(0, error)], &mut wakes);
    head.settle_for_retry(unanswered);
    // The log may have the batch behind: it is asked for, alone, before the new epoch begins.
    let asked = drain(&mut head);
    assert_eq!((asked.producer().epoch, asked.base_sequence()), (0, 3));
    ack(&mut head, asked, 1);
    let innocent = drain(&mut head);
    assert_eq!((innocent.producer().epoch, innocent.base_sequence()), (1, 0));
    assert_eq!(innocent.records(), 1);
}

#[test]
fn c41_a_batch_of_culprits_only_ends() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    let handle = bench.sealed(&head.tail, b"bad");
    let batch = drain(&mut head);
    let error = batch_error(&head.tail, &batch, ANY_ERROR, Certainty::NotWritten);
    head.settle_without(batch, &[(0, error.clone())], &mut WakeList::default());
    assert_eq!((handle.error(), head.is_idle()), (Some(&error), true));
    assert_eq!(head.tail.resolved(), 1);
}

/// A drained batch of 40 records, compressed in the scratch, and its length before.
fn compressed(head: &mut LaneHead, slot: &ScratchSlot) -> (Box<Batch>, usize) {
    let mut batch = drain(head);
    let plain_len = batch.len();
    slot.with(|scratch| {
        let (records, len) = (batch.record_slices(), plain_len - BATCH_HEADER_LEN);
        let packed = Compressor::new().compress(&Compression::lz4(), records, len, scratch);
        batch.replace_records(
            Codec::Lz4,
            RecordFormat::Batch,
            &scratch[..packed.expect("it becomes smaller")],
        );
    });
    (batch, plain_len)
}

#[test]
fn c39_compressed_batches_are_unpacked_into_segments_and_wait_for_no_scratch() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let slot = ScratchSlot::new(bench.pool().carve_scratch(1 << 17).expect("a fresh pool"));
    let handles = filled(&bench, &head, 40);
    let (mut batch, plain_len) = compressed(&mut head, &slot);
    let lent = slot.lend();
    assert_eq!(batch.unpack(bench.pool(), bench.account, &slot, false), Ok(()));
    assert_eq!(batch.len(), plain_len);
    assert!(batch.segment_bytes() >= plain_len);
    head.settle_too_large(batch, &mut WakeList::default());
    let sent: Vec<_> = drain_pieces(&mut head, 0).into_iter().flat_map(|piece| piece.0).collect();
    assert_eq!(sent, (0..40).map(value).collect::<Vec<_>>());
    assert!(handles.iter().all(|handle| handle.offset().is_some()));
    drop((handles, head, lent, slot));
    bench.assert_all_free();
}

#[test]
fn c39_without_a_free_segment_a_batch_is_unpacked_into_the_scratch_and_gives_it_back() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let slot = ScratchSlot::new(bench.pool().carve_scratch(1 << 17).expect("a fresh pool"));
    let handles = filled(&bench, &head, 40);
    let (mut batch, plain_len) = compressed(&mut head, &slot);
    let mut taken = Vec::new();
    let account = bench.account;
    while bench.pool().take_bytes(account, 4_096, &mut taken) {}
    let unpacked = batch.unpack(bench.pool(), account, &slot, false);
    assert_eq!(unpacked, Err(NotUnpacked::ScratchIsLent), "it may not borrow it");
    assert_eq!(batch.unpack(bench.pool(), account, &slot, true), Ok(()));
    assert_eq!((batch.len(), batch.segment_bytes()), (plain_len, 0));
    assert!(slot.lend().is_none(), "another has to wait");
    head.settle_too_large(batch, &mut WakeList::default());
    let sent: Vec<_> = drain_pieces(&mut head, 0).into_iter().flat_map(|piece| piece.0).collect();
    assert_eq!(sent, (0..40).map(value).collect::<Vec<_>>());
    assert!(handles.iter().all(|handle| handle.offset().is_some()));
    assert!(slot.lend().is_some(), "the last piece gave it back");
    drop((handles, head, slot, taken));
    bench.assert_all_free();
}

/// The scratch may be lent for long: to a batch whose broker is away.
#[test]
fn c39_a_batch_that_finds_the_scratch_lent_gets_what_becomes_free_before_senders_do() {
    let bench = Bench::new(1 << 22, 1 << 17);
    let mut head = bench.led_head();
    let slot = ScratchSlot::new(bench.pool().carve_scratch(1 << 17).expect("a fresh pool"));
    let handles = filled(&bench, &head, 40);
    let (mut batch, _) = compressed(&mut head, &slot);
    let lent = slot.lend();
    let (pool, account) = (bench.pool(), bench.account);
    let other = pool.open_account(AccountKind::Broker).expect("a fresh pool");
    let (mut taken, mut more) = (Vec::new(), Vec::new());
    while pool.take_bytes(other, 4_096, &mut taken) {}
    for _ in 0..3 {
        assert_eq!(batch.unpack(pool, account, &slot, true), Err(NotUnpacked::ScratchIsLent));
        taken.pop();
        assert!(!pool.take_bytes(other, 4_096, &mut more), "that is kept for the batch");
    }
    // By now there is room, with what other batches leave.
    taken.truncate(1);
    assert_eq!(batch.unpack(pool, account, &slot, true), Ok(()));
    assert!(pool.take_bytes(other, 4_096, &mut more), "nothing is kept any more");
    head.settle_too_large(batch, &mut WakeList::default());
    let sent: Vec<_> = drain_pieces(&mut head, 0).into_iter().flat_map(|piece| piece.0).collect();
    assert_eq!(sent, (0..40).map(value).collect::<Vec<_>>());
    drop((handles, head, lent, slot, taken, more));
    bench.assert_all_free();
}
