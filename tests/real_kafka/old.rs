//! Brokers of old releases, each for what it does differently.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate::{Delivery, Producer};

use crate::extent;
use crate::kafka::{ClusterConfig, Kafka, V0_11, unique_topic, wait_until};
use crate::proxy::{Act, Proxy, api};
use crate::streams::{Pace, Streams, patient};

const LIMIT: Duration = Duration::from_secs(120);

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
pub fn c63_throttled_once(kafka: &Kafka) {
    /// A full batch is over three seconds' worth, so that each is throttled by itself.
    const QUOTA: f64 = 80_000.0;
    const RECORD: usize = 1_000;
    /// What waits: several full batches.
    const WAITING: usize = 1_000;
    /// Less than the pause behind a batch, and more than any between records of one.
    const PAUSE: Duration = Duration::from_millis(700);
    let span = Duration::from_secs(extent::pick(7, 60));
    let config = ClusterConfig::single().release(&V0_11);
    let cluster = kafka.start(&config.property("quota.producer.default", &QUOTA.to_string()));
    let topic = unique_topic("throttled");
    cluster.create_topic(&topic, 1, 1, &[]);
    // A request that is on the way already would hide a wait of the client behind the broker's.
    let producer = patient(Producer::builder(&cluster.bootstrap_servers()))
        .configure(|config| config.max_in_flight = 1)
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
    println!("c63: {rate:.0} B/s of the {QUOTA:.0} B/s that the quota allows");
    assert!(rate > 0.9 * QUOTA, "{rate:.0} B/s of {QUOTA:.0} B/s");
}
