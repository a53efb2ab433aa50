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
