//! Connections that break: at every byte, before and after the append, all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Cuts the next frame that `chosen` picks at byte `at`. Returns where the length of that frame is
/// told: 0 as long as there was none.
fn cut_once(
    proxy: &Proxy,
    at: usize,
    chosen: impl Fn(&Frame<'_>) -> bool + Send + 'static,
) -> Arc<AtomicUsize> {
    let length = Arc::new(AtomicUsize::new(0));
    let tells = length.clone();
    proxy.script(move |frame| {
        if tells.load(Ordering::SeqCst) > 0 || !chosen(frame) {
            return Act::Pass;
        }
        tells.store(frame.bytes.len(), Ordering::SeqCst);
        Act::CutAt(at)
    });
    length
}

/// Three records at a time, the next frame of Produce cut at byte 0, 1, 2, … up to its last.
fn cut_produce_at_every_byte(chosen: fn(&Frame<'_>) -> bool) {
    let stage = Stage::new(1, 1);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let mut sent = Vec::new();
    for at in 0.. {
        let length = cut_once(stage.proxy(1), at, chosen);
        for n in 0..3 {
            sent.push(send(&topic, 0, format!("{at} {n}")));
        }
        let start = Instant::now();
        drop(producer.flush().wait());
        // Far less than request_timeout: a loss is noticed, not waited out.
        assert!(start.elapsed() < secs(20), "cut at {at}: {:?}", start.elapsed());
        let length = length.load(Ordering::SeqCst);
        assert!(length > 20, "a frame was cut");
        if at >= length {
            break;
        }
    }
    assert!(sent.len() > 3 * 50, "every byte had its turn");
    stage.judge_all_acked(sent);
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn f18_a_reset_at_every_byte_of_a_produce_request() {
    cut_produce_at_every_byte(|frame| frame.asks(api::PRODUCE));
}

#[test]
fn f18_a_reset_at_every_byte_of_a_produce_response() {
    cut_produce_at_every_byte(|frame| frame.answers(api::PRODUCE));
}

/// A fresh producer for each byte of a frame of its start; the frame is cut there.
fn cut_a_start_at_every_byte(chosen: fn(&Frame<'_>) -> bool) {
    let stage = Stage::new(1, 1);
    let mut sent = Vec::new();
    for at in 0.. {
        let length = cut_once(stage.proxy(1), at, chosen);
        let producer = stage.producer();
        let start = Instant::now();
        let one = send(&producer.topic("t").unwrap(), 0, format!("{at}"));
        drop(producer.flush().wait());
        assert!(start.elapsed() < secs(20), "cut at {at}: {:?}", start.elapsed());
        sent.push(one);
        let length = length.load(Ordering::SeqCst);
        assert!(length > 10, "a frame was cut");
        if at >= length {
            break;
        }
    }
    stage.judge_all_acked(sent);
}

#[test]
fn f18_a_reset_at_every_byte_of_api_versions() {
    // The metadata channel's, as it is the first to connect.
    cut_a_start_at_every_byte(|frame| frame.asks(api::API_VERSIONS));
    cut_a_start_at_every_byte(|frame| frame.answers(api::API_VERSIONS));
    // That of the connection that batches go by: the second.
    let second =
        |frame: &Frame<'_>| frame.asks(api::API_VERSIONS) && frame.connection.is_multiple_of(2);
    cut_a_start_at_every_byte(second);
}

#[test]
fn f18_a_reset_at_every_byte_of_metadata() {
    cut_a_start_at_every_byte(|frame| frame.asks(api::METADATA));
    cut_a_start_at_every_byte(|frame| frame.answers(api::METADATA));
}

#[test]
fn f18_a_reset_at_every_byte_of_a_request_for_a_producer_id() {
    cut_a_start_at_every_byte(|frame| frame.asks(api::INIT_PRODUCER_ID));
    cut_a_start_at_every_byte(|frame| frame.answers(api::INIT_PRODUCER_ID));
}

#[test]
fn f14_a_lost_acknowledgement_doubles_nothing() {
    let stage = Stage::new(3, 6);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 6);
    for (seed, proxy) in (1..).zip(&stage.proxies) {
        let mut random = Random(seed);
        proxy.script(move |frame| match frame.answers(api::PRODUCE) && random.below(4) == 0 {
            true => Act::CutAt(0),
            false => Act::Pass,
        });
    }
    let sent: Vec<_> = (0..3_000).map(|n| send(&topic, n % 6, n.to_string())).collect();
    stage.judge_all_acked(sent);
    let duplicates = stage.cluster.stats().duplicates();
    assert!(duplicates > 10, "{duplicates} batches were sent again though they had been written");
    producer.close(LONG).wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity);
}

#[test]
fn f21_connections_that_live_for_moments() {
    let stage = Stage::new(3, 6);
    for (seed, proxy) in (1..).zip(&stage.proxies) {
        proxy.lifetimes(seed, millis(20)..millis(60));
        // One acknowledgement of fifty is lost as well.
        let mut random = Random(seed);
        proxy.script(move |frame| match frame.answers(api::PRODUCE) && random.below(50) == 0 {
            true => Act::CutAt(0),
            false => Act::Pass,
        });
    }
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    let start = Instant::now();
    let mut sent = Vec::new();
    let accepted = || stage.proxies.iter().map(|proxy| proxy.seen().accepted).sum::<u64>();
    while accepted() < 90 {
        assert!(start.elapsed() < LONG, "{} connections", accepted());
        for partition in 0..6 {
            sent.push(send(&topic, partition, sent.len().to_string()));
        }
        if sent.len().is_multiple_of(600) {
            drop(producer.flush().wait());
        }
    }
    stage.proxies.iter().for_each(Proxy::live_long);
    stage.judge_all_acked(sent);
}

#[test]
fn c24_a_request_timeout_closes_the_connection_and_tries_all_of_it_again() {
    let stage = Stage::new(1, 1);
    let producer = stage.builder().request_timeout(millis(300)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let before = stage.proxy(1).seen();
    // The broker writes them, and nothing of what it says comes through on this connection.
    let mut muted = None;
    stage.proxy(1).script(move |frame| {
        if muted.is_none() && frame.answers(api::PRODUCE) {
            muted = Some(frame.connection);
            return Act::Mute;
        }
        Act::Pass
    });
    let start = Instant::now();
    let sent: Vec<_> = (0..20).map(|n| send(&topic, 0, n.to_string())).collect();
    stage.judge_all_acked(sent);
    assert!(start.elapsed() >= millis(300), "{:?}", start.elapsed());
    assert!(stage.proxy(1).seen().accepted > before.accepted, "a new connection");
    assert!(stage.proxy(1).wait_until(LONG, |seen| seen.open == before.open), "the old one went");
    // What was in flight was written, and recognised when it came again.
    let duplicates = stage.cluster.stats().duplicates();
    assert!(duplicates >= 1, "{duplicates}");
}

#[test]
fn c24_what_a_timed_out_request_held_may_have_been_written() {
    let stage = Stage::new(1, 1);
    let producer =
        stage.builder().request_timeout(millis(200)).delivery_timeout(millis(600)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    stage.proxy(1).script(|frame| match frame.answers(api::PRODUCE) {
        true => Act::Swallow,
        false => Act::Pass,
    });
    let error = failed(topic.send((), "v").unwrap());
    assert_eq!(error.certainty(), Certainty::Unknown);
    assert_eq!((error.partition(), error.broker()), (Some(0), Some(1)));
    let text = error.to_string();
    let address = stage.proxy(1).address().to_string();
    assert!(text.contains(&address) && text.contains("request_timeout = 200ms"), "{text}");
}

#[test]
fn f23_a_broker_that_refuses_is_come_back_to() {
    let stage = Stage::new(2, 2);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 2);
    let mut sent = Vec::new();
    for round in 0..5 {
        stage.proxy(1).refuse();
        stage.proxy(1).cut_all();
        for n in 0..100 {
            sent.push(send(&topic, n % 2, format!("{round} {n}")));
        }
        // The other broker's records do not wait for it.
        let others = 1 + 50 * (round + 1);
        assert!(stage.cluster.wait_until(LONG, |stats| stats.broker(2).records == others));
        stage.proxy(1).listen();
    }
    stage.judge_all_acked(sent);
}
