//! Brokers that do not take everything: limits on requests, quotas, and access rules.

use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Acks, Producer};

use crate::extent;
use crate::kafka::{AccessRule, ClusterConfig, Kafka, unique_topic};
use crate::load::Load;
use crate::proxy::{Proxy, api};

const LIMIT: Duration = Duration::from_secs(120);

/// Brokers that read no request over 1 MiB, as Event Hubs and some proxies: default settings work.
/// Where they read only half of that, requests become shorter after the first losses.
pub fn request_limit(kafka: &Kafka) {
    for limit in [1 << 20, 1 << 19] {
        default_settings_work_below(kafka, limit);
    }
}

fn default_settings_work_below(kafka: &Kafka, limit: usize) {
    let config = ClusterConfig::single().property("socket.request.max.bytes", &limit.to_string());
    let cluster = kafka.start(&config);
    let topic = unique_topic("limited");
    cluster.create_topic(&topic, 6, 1, &[]);
    let producer = Producer::builder(&cluster.bootstrap_servers()).build();
    let producer = producer.expect("the settings work");
    let mut load = Load::start(&producer.topic(&topic).expect("a legal name"), 2);
    load.wait_for_more(500_000, LIMIT);
    load.settle(LIMIT);
    println!("a limit of {limit} bytes: {} sent, {} acknowledged", load.sent(), load.acked());
    assert_eq!((load.failed(), load.acked()), (0, load.sent()), "{:?}", load.first_error());
    let read = cluster.read_back_each(&topic, |_| {});
    assert_eq!(read, load.sent(), "lost or doubled");
}

/// A quota so low that the broker asks for pauses of minutes: nothing is sent twice.
pub fn c31_long_throttle(kafka: &Kafka) {
    const CLIENT: &str = "throttled";
    const RECORDS: u32 = 2_500;
    /// A request takes a full batch of several: at this quota a pause of more than a minute.
    const PARTITIONS: i32 = 6;
    let cluster = kafka.shared_single();
    let topic = unique_topic("quota");
    cluster.create_topic(&topic, PARTITIONS, 1, &[]);
    cluster.set_client_quota(Some(CLIENT), "producer_byte_rate", Some(10_000.0));
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .client_id(CLIENT)
        .acks(Acks::Leader)
        .delivery_timeout(Duration::from_secs(900))
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let value = [7_u8; 1_000];
    let start = Instant::now();
    let sent: Vec<_> =
        (0..RECORDS).map(|_| handle.send((), &value).expect("there is room")).collect();
    for delivery in sent {
        delivery.wait().expect("acknowledged");
    }
    let read = cluster.read_back_each(&topic, |_| {});
    println!("a quota of 10 kB/s: {RECORDS} records in {:.2?}, {read} in the log", start.elapsed());
    assert_eq!(read, u64::from(RECORDS));
    producer.close(LIMIT).wait().expect("everything is resolved");
}

/// A client that may not write idempotently is told so, and what to do.
pub fn denied_producer_id(kafka: &Kafka) {
    const ALL: i8 = 2;
    const WRITE: i8 = 4;
    const IDEMPOTENT_WRITE: i8 = 12;
    let proxy = Proxy::start();
    let config = ClusterConfig::single()
        .property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property("allow.everyone.if.no.acl.found", "true")
        .behind(&[proxy.address().port()]);
    let cluster = kafka.start(&config);
    proxy.forward_to(cluster.proxied_address(1));
    let topic = unique_topic("denied");
    cluster.create_topic(&topic, 1, 1, &[]);
    let rule = |allow, operation, topics| AccessRule { allow, operation, topics };
    cluster.create_rules(&[
        rule(true, ALL, false),
        rule(false, IDEMPOTENT_WRITE, false),
        rule(true, ALL, true),
        // Whoever may write to any topic may do so idempotently, since 3.0.
        rule(false, WRITE, true),
    ]);
    let address = proxy.address().to_string();
    let producer = Producer::builder(&address).build().expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let mut error = String::new();
    let end = Instant::now() + extent::pick(Duration::from_secs(4), Duration::from_secs(20));
    while Instant::now() < end {
        let mut delivery = handle.send((), "denied").expect("there is room");
        let outcome = delivery.wait_timeout(LIMIT).expect("resolved within the limit");
        error = outcome.expect_err("it may not write").to_string();
        thread::sleep(Duration::from_millis(10));
    }
    let asked = proxy.seen().requests_of(api::INIT_PRODUCER_ID);
    println!("denied: asked {asked} times; {error}");
    assert!(error.contains("IdempotentWrite"), "{error}");
    assert!(error.contains("idempotence"), "{error}");
    assert!(asked < 20, "asked {asked} times for a producer id");
}
