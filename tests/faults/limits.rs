//! Brokers and proxies that take only requests up to a length, and what bounds the length of ours.

use std::sync::{Arc, Mutex};

use tidegate::{ConnectionState, ProducerConfig};

use super::*;

const PARTITIONS: i32 = 16;

/// The lengths of Produce requests as a broker compares them with `socket.request.max.bytes`:
/// without the four bytes in front that say the length.
#[derive(Clone, Debug, Default)]
struct Lengths(Arc<Mutex<Vec<usize>>>);

impl Lengths {
    fn add(&self, frame: &Frame<'_>) -> usize {
        let len = frame.bytes.len() - 4;
        self.0.lock().unwrap().push(len);
        len
    }

    fn over(&self, limit: usize) -> Vec<usize> {
        self.0.lock().unwrap().iter().copied().filter(|&len| len > limit).collect()
    }
}

/// A request over the limit ends its connection, without a word and unread by the broker.
fn refuse_over(limit: usize, proxy: &Proxy) -> Lengths {
    let lengths = Lengths::default();
    let seen = lengths.clone();
    proxy.script(move |frame| {
        let is_refused = frame.asks(api::PRODUCE) && seen.add(frame) > limit;
        if is_refused { Act::CutAt(0) } else { Act::Pass }
    });
    lengths
}

/// Each record fills a batch of its own; all partitions have some before the first request can go.
fn send_to_all(stage: &Stage, producer: &Producer, value_len: usize) -> Vec<Sent> {
    let topic = &producer.topic("t").unwrap();
    stage.proxy(1).refuse();
    stage.proxy(1).cut_all();
    // What is sent before it is noticed may go over the connection that is lost, and comes later.
    let start = Instant::now();
    while producer.report().brokers.iter().any(|it| it.state == ConnectionState::Ready) {
        assert!(start.elapsed() < LONG, "{}", producer.report());
        std::thread::sleep(millis(1));
    }
    let value = |n: i32| format!("{n} {}", "x".repeat(value_len));
    let sent = (0..10 * PARTITIONS).map(|n| send(topic, n % PARTITIONS, value(n))).collect();
    stage.proxy(1).listen();
    sent
}

#[test]
fn requests_over_a_limit_that_nobody_told_us_become_shorter_until_they_get_through() {
    const LIMIT: usize = 100_000;
    let stage = Stage::new(1, PARTITIONS);
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, PARTITIONS);
    let lengths = refuse_over(LIMIT, stage.proxy(1));
    // One batch of each partition: 320,000 bytes.
    let sent = send_to_all(&stage, &producer, 20_000);
    stage.judge_all_acked(sent);
    let refused = lengths.over(LIMIT);
    // Two connections are lost before requests are halved. Two halvings are enough; the rest is
    // for what was in flight beside.
    assert!((2..=10).contains(&refused.len()), "{refused:?}");
    assert!(refused[0] > 3 * LIMIT && refused.is_sorted_by(|a, b| a >= b), "{refused:?}");
    producer.close(LONG).wait().unwrap();
}

#[test]
fn a_batch_over_the_limit_fails_with_the_size_and_the_settings_to_change() {
    const LIMIT: usize = 50_000;
    let stage = Stage::new(1, 1);
    // By count, so that no time decides how often it was tried.
    let producer = stage.builder().configure(|c| c.retries = 4).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let lengths = refuse_over(LIMIT, stage.proxy(1));
    let error = failed(topic.send((), "x".repeat(60_000)).unwrap());
    let refused = lengths.over(LIMIT);
    assert_eq!(refused.len(), 5, "{refused:?}");
    let text = error.to_string();
    let whole_frame = refused[0] + 4;
    for words in [
        &format!("a request of {whole_frame} bytes"),
        "socket.request.max.bytes",
        "max.request.size",
        "batch.size",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    // Shorter ones go the same way, and are taken.
    acked(topic.send((), "short").unwrap());
    producer.close(LONG).wait().unwrap();
}

#[test]
fn no_request_under_load_is_longer_than_max_request_size() {
    const LIMIT: usize = 100_000;
    let stage = Stage::new(1, PARTITIONS);
    let servers = stage.bootstrap_servers();
    let from_properties = ProducerConfig::from_properties([
        ("bootstrap.servers", servers.as_str()),
        ("max.request.size", &LIMIT.to_string()),
        ("batch.size", "0"),
        ("tidegate.pinning", "false"),
    ]);
    for producer in [
        stage.builder().configure(|c| c.max_request_size = LIMIT).build().unwrap(),
        Producer::from_config(from_properties.unwrap()).unwrap(),
    ] {
        let topic = producer.topic("t").unwrap();
        warm(&topic, PARTITIONS);
        let lengths = refuse_over(usize::MAX, stage.proxy(1));
        let sent = send_to_all(&stage, &producer, 20_000);
        for sent in sent {
            acked(sent.delivery);
        }
        assert_eq!(lengths.over(LIMIT), [0; 0]);
        assert!(!lengths.over(LIMIT / 2).is_empty(), "there was enough for long requests");
        producer.close(LONG).wait().unwrap();
    }
}
