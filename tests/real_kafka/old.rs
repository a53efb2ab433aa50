//! Brokers of old releases, each for what it does differently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::{Acks, Compression, Delivery, Producer, RecordMetadata};

use crate::extent;
use crate::kafka::{
    ClusterConfig, Kafka, Release, V0_9, V0_11, V2_0, V2_3, V2_7, unique_topic, wait_until,
};
use crate::proxy::{Act, Proxy, api};
use crate::streams::{Pace, Streams, patient};

const LIMIT: Duration = Duration::from_secs(120);
/// Ten times what a clear error may take.
const SOON: Duration = Duration::from_secs(30);

type Outcome = Result<RecordMetadata, tidegate::DeliveryError>;

#[track_caller]
fn outcome(mut delivery: Delivery) -> Outcome {
    delivery.wait_timeout(LIMIT).expect("resolved within the limit")
}

/// Kafka 0.11 remembers one batch of a producer, not five: a connection is lost with an
/// acknowledgement while more than one may be on the way.
pub fn c03_one_remembered(kafka: &Kafka) {
    let proxy = Proxy::start();
    let port = proxy.address().port();
    let cluster = kafka.start(&ClusterConfig::single().release(&V0_11).behind(&[port]));
    proxy.forward_to(cluster.proxied_address(1));
    let topic = unique_topic("remembered");
    cluster.create_topic(&topic, 2, 1, &[]);
    let builder = patient(Producer::builder(&proxy.address().to_string()));
    let producer = builder.build().expect("the settings work");
    let streams = Streams::start(&producer, &topic, 2, Pace::per_second(4_000));
    streams.all_go_on(500, LIMIT, "at the start");
    for _ in 0..extent::pick(1, 20) {
        let eaten = Arc::new(AtomicBool::new(false));
        let (eats, mut answers) = (eaten.clone(), 0);
        proxy.script(move |frame| {
            if !frame.answers(api::PRODUCE) {
                return Act::Pass;
            }
            answers += 1;
            // Slow answers, so that as much is on the way as may be; then one is lost.
            if answers < 20 {
                return Act::Delay(Duration::from_millis(20));
            }
            if eats.swap(true, Ordering::Relaxed) { Act::Pass } else { Act::CutAt(0) }
        });
        assert!(wait_until(LIMIT, || eaten.load(Ordering::Relaxed)), "nothing was lost");
        streams.reset_gaps();
        streams.all_go_on(2_000, LIMIT, "after a lost connection");
    }
    println!("c03: longest gap after a lost connection {:.2?}", streams.longest_gap());
    let summary = streams.finish(&cluster);
    println!("c03: {summary:?}");
    assert_eq!((summary.failed(), summary.acked), (0, summary.offered));
}

/// Brokers before 2.0 answer when the throttle is over: waiting once more halves the rate.
pub fn c63_throttled_by_0_11(kafka: &Kafka) {
    throttled_once(kafka, &V0_11, Acks::All, Duration::from_secs(30));
}

/// Brokers since 2.0 answer at once and then read nothing from the connection for a while: a
/// request that goes out meanwhile must not be given up and sent again. Throttles are longer than
/// the request timeout. With acks=1 there is no idempotence: a broker writes what is sent twice.
pub fn c63_throttled_by_2_0(kafka: &Kafka) {
    throttled_once(kafka, &V2_0, Acks::Leader, Duration::from_secs(2));
}

/// As 2.0, with the last protocol before topic ids.
pub fn c63_throttled_by_2_7(kafka: &Kafka) {
    throttled_once(kafka, &V2_7, Acks::Leader, Duration::from_secs(2));
}

/// The rate is what the quota allows, and each record is in the log once.
fn throttled_once(kafka: &Kafka, release: &'static Release, acks: Acks, request_timeout: Duration) {
    /// A full batch is over three seconds' worth, so that each is throttled by itself.
    const QUOTA: f64 = 80_000.0;
    const RECORD: usize = 1_000;
    /// What waits: several full batches.
    const WAITING: usize = 1_000;
    /// Less than the pause behind a batch, and more than any between records of one.
    const PAUSE: Duration = Duration::from_millis(700);
    let span = Duration::from_secs(extent::pick(7, 60));
    let config = ClusterConfig::single().release(release);
    let cluster = kafka.start(&config.property("quota.producer.default", &QUOTA.to_string()));
    let topic = unique_topic("throttled");
    cluster.create_topic(&topic, 1, 1, &[]);
    // A request that is on the way already would hide a wait of the client behind the broker's.
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()))
        .configure(|config| config.max_in_flight = 1)
        .acks(acks)
        .request_timeout(request_timeout)
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let value = [7_u8; RECORD];
    let mut waiting: VecDeque<Delivery> = VecDeque::new();
    let mut acked = 0;
    // Batches are acknowledged seconds apart: the rate is that between the first records of two.
    let mut first: Option<(Instant, usize)> = None;
    let (took, records) = loop {
        while waiting.len() < WAITING {
            waiting.push_back(handle.send((), &value).expect("there is room"));
        }
        let mut oldest = waiting.pop_front().expect("it is full");
        let start = Instant::now();
        let outcome = oldest.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("acknowledged");
        // The very first batch finds the quota's windows empty.
        if start.elapsed() > PAUSE && acked > 0 {
            match first {
                None => first = Some((Instant::now(), acked)),
                Some((begin, before)) if begin.elapsed() > span => {
                    break (begin.elapsed(), acked - before);
                }
                Some(_) => {}
            }
        }
        acked += 1;
    };
    let rate = (records * RECORD) as f64 / took.as_secs_f64();
    println!("c63, {}: {rate:.0} B/s, the quota allows {QUOTA:.0} B/s", release.version);
    assert!(rate > 0.9 * QUOTA, "{rate:.0} B/s of {QUOTA:.0} B/s");
    let sent = acked + 1 + waiting.len();
    for mut delivery in waiting {
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("acknowledged");
    }
    assert_eq!(cluster.read_back(&topic).len(), sent, "lost or doubled");
}

/// Brokers before 2.1 do not know zstd.
pub fn c66_zstd(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::single().release(&V2_0));
    for acks in [Acks::All, Acks::None] {
        let topic = unique_topic("zstd");
        cluster.create_topic(&topic, 1, 1, &[]);
        let producer = Producer::builder(&cluster.bootstrap_servers())
            .compression(Compression::zstd())
            .acks(acks)
            .linger(Duration::from_millis(50))
            .build()
            .expect("the settings work");
        let handle = producer.topic(&topic).expect("a legal name");
        let start = Instant::now();
        let value = [7_u8; 1_000];
        let sent: Vec<_> = (0..100).map(|_| handle.send((), &value).expect("room")).collect();
        let outcomes: Vec<Outcome> = sent.into_iter().map(outcome).collect();
        let took = start.elapsed();
        let acked = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let error = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        println!("c66: {acks:?}: {acked} of 100 acknowledged in {took:.2?}; {error:?}");
        producer.close(LIMIT).wait().expect("everything is resolved");
        let all_there = wait_until(SOON, || cluster.read_back(&topic).len() == acked);
        assert!(all_there, "{acked} acknowledged under {acks:?}, and they are not in the log");
        if let Some(error) = error {
            assert!(error.to_string().contains("zstd"), "{error}");
        }
        assert!(took < SOON, "{took:?}");
    }
}

/// Before 2.4 a compacted topic refuses a whole batch for one record without a key, as corrupt.
pub fn keyless_in_compacted(kafka: &Kafka) {
    const KEYED: u32 = 200;
    let cluster = kafka.start(&ClusterConfig::single().release(&V2_3));
    let topic = unique_topic("compacted");
    cluster.create_topic(&topic, 1, 1, &[("cleanup.policy", "compact")]);
    let builder = Producer::builder(&cluster.bootstrap_servers());
    let producer = builder.linger(Duration::from_millis(200)).build().expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let start = Instant::now();
    let mut keyed = Vec::new();
    let mut keyless = None;
    for number in 0..KEYED {
        keyed.push(handle.send(number.to_be_bytes(), "v").expect("there is room"));
        if number == KEYED / 2 {
            keyless = Some(handle.send((), "v").expect("there is room"));
        }
    }
    let error = outcome(keyless.expect("one was sent")).expect_err("it has no key").to_string();
    let acked = keyed.into_iter().map(outcome).filter(Result::is_ok).count();
    let took = start.elapsed();
    println!("2.3.1: {acked} of {KEYED} keyed records acknowledged in {took:.2?}; {error}");
    assert_eq!(acked, KEYED as usize);
    assert_eq!(cluster.read_back(&topic).len(), KEYED as usize);
    assert!(error.contains("key"), "{error}");
    assert!(took < SOON, "{took:?}");
}

/// Brokers before 0.10 never answer ApiVersions.
pub fn c64_silent_on_api_versions(kafka: &Kafka) {
    let cluster = kafka.start(&ClusterConfig::single().release(&V0_9));
    // Each step down waits for silence, twice.
    let builder = Producer::builder(&cluster.bootstrap_servers())
        .request_timeout(Duration::from_millis(500))
        .delivery_timeout(Duration::from_secs(10));
    let producer = builder.build().expect("the settings work");
    let handle = producer.topic("any").expect("a legal name");
    let start = Instant::now();
    let error = outcome(handle.send("k", "v").expect("there is room"));
    let error = error.expect_err("nobody said that the broker is old").to_string();
    let took = start.elapsed();
    println!("c64: after {took:.2?}: {error}");
    assert!(error.contains("0.10") && error.contains("broker.version.fallback"), "{error}");
    assert!(took < SOON, "{took:?}");
}
