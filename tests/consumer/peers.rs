//! Brokers that answer as no good one does.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tidegate::{ConsumeErrorCause, Consumer, ConsumerBuilder, OffsetReset, StartAt};

use super::peer::{Peer, asked, batch, peer};
use super::{LONG, error, next};

fn reader(peer: &Peer) -> ConsumerBuilder {
    Consumer::builder(&peer.address.to_string()).topic("t", StartAt::Earliest)
}

#[test]
fn a_broker_that_closes_behind_each_answer_is_read() {
    let peer = peer(true, |_, request| (0, batch(asked(request), 0, 10)));
    let consumer = reader(&peer).build().unwrap();
    let found = consumer.poll(LONG);
    let fetches = peer.fetches.load(Ordering::SeqCst);
    assert!(found.is_some_and(|it| it.is_ok()), "{fetches} answers, each dropped");
}

#[test]
fn a_broker_that_never_has_the_offset_is_asked_with_a_backoff() {
    let peer = peer(false, |_, _| (1, Vec::new()));
    let consumer = reader(&peer).auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    thread::sleep(Duration::from_secs(2));
    let fetches = peer.fetches.load(Ordering::SeqCst);
    drop(consumer);
    assert!(fetches < 100, "{fetches} resets in 2 s, each with a WARN");
}

#[test]
fn a_broker_that_answers_with_what_is_before_the_offset() {
    let peer = peer(false, |_, _| (0, batch(0, 0, 1)));
    let consumer = reader(&peer).build().unwrap();
    next(&consumer).unwrap();
    thread::sleep(Duration::from_secs(2));
    let fetches = peer.fetches.load(Ordering::SeqCst);
    drop(consumer);
    assert!(fetches < 100, "{fetches} fetches in 2 s, in silence");
}

#[test]
fn a_broker_that_never_completes_a_batch_is_told() {
    let peer = peer(false, |_, request| {
        let mut whole = batch(asked(request), 0, 1_000);
        whole.truncate(500);
        (0, whole)
    });
    let consumer = reader(&peer).build().unwrap();
    let found = consumer.poll(LONG);
    let fetches = peer.fetches.load(Ordering::SeqCst);
    assert!(found.is_some(), "silence after {fetches} fetches");
}

#[test]
fn a_broker_whose_batch_is_too_large_for_a_response_is_told() {
    let peer = peer(false, |_, request| (0, batch(asked(request), 0, 3 << 20)));
    let consumer = reader(&peer)
        .configure(|config| {
            config.max_partition_fetch_bytes = 100_000;
            config.batch_max_bytes = 100_000;
            config.fetch_max_bytes = 100_000;
        })
        .build()
        .unwrap();
    let told = consumer.poll(LONG);
    let fetches = peer.fetches.load(Ordering::SeqCst);
    assert!(told.is_some(), "silence; {fetches} fetches, each on a new connection, in 5 s");
}

#[test]
fn no_lengths_or_offsets_of_a_broker_make_the_consumer_panic() {
    // The batch's length; or, where that is `None`, its last offset less its first.
    let cases = [Some(-1), Some(0), Some(48), Some(i32::MIN), Some(i32::MAX), None];
    for length in cases {
        let peer = peer(false, move |_, request| {
            let mut bad = batch(asked(request), 0, 10);
            match length {
                Some(length) => bad[8..12].copy_from_slice(&i32::to_be_bytes(length)),
                None => bad[23..27].copy_from_slice(&(-5_i32).to_be_bytes()),
            }
            (0, bad)
        });
        let consumer = reader(&peer).build().unwrap();
        let error = error(&consumer);
        let ConsumeErrorCause::Unreadable { offset: 0, .. } = error.cause() else {
            panic!("{length:?}: {error}")
        };
    }
    let at_the_end = peer(false, |_, request| {
        let mut bad = batch(asked(request).max(i64::MAX - 3), 0, 10);
        bad[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
        (0, bad)
    });
    let consumer = reader(&at_the_end).build().unwrap();
    // Its CRC is wrong, too.
    error(&consumer);
}
