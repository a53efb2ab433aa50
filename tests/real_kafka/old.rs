//! Brokers of old releases, each for what it does differently.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate::{Delivery, Producer};

use crate::extent;
use crate::kafka::{ClusterConfig, Kafka, V0_11, unique_topic};
use crate::streams::patient;

const LIMIT: Duration = Duration::from_secs(120);

/// Brokers before 2.0 answer when the throttle is over: waiting once more halves the rate.
pub fn c63_throttled_once(kafka: &Kafka) {
    /// A full batch is over three seconds' worth, so that each is throttled by itself.
    const QUOTA: f64 = 80_000.0;
    const RECORD: usize = 1_000;
    /// What waits: several full batches.
    const WAITING: usize = 1_500;
    let span = Duration::from_secs(extent::pick(12, 60));
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
    // The first batches find the quota's windows empty.
    let mut begin = None;
    let (mut acked, mut before) = (0, 0);
    while begin.is_none_or(|begin: Instant| begin.elapsed() < span) {
        while waiting.len() < WAITING {
            waiting.push_back(handle.send((), &value).expect("there is room"));
        }
        let mut oldest = waiting.pop_front().expect("it is full");
        let outcome = oldest.wait_timeout(LIMIT).expect("resolved within the limit");
        outcome.expect("acknowledged");
        acked += 1;
        if begin.is_none() && acked > WAITING {
            (begin, before) = (Some(Instant::now()), acked);
        }
    }
    let took = begin.expect("the loop sets it").elapsed();
    let rate = ((acked - before) * RECORD) as f64 / took.as_secs_f64();
    println!("c63: {rate:.0} B/s of the {QUOTA:.0} B/s that the quota allows");
    assert!(rate > 0.9 * QUOTA, "{rate:.0} B/s of {QUOTA:.0} B/s");
}
