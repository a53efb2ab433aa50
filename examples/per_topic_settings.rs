//! Different settings for different topics of one producer, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example per_topic_settings
//! ```
//!
//! Starts two brokers within this process. Telemetry goes to its topic in large compressed batches
//! that only the leader acknowledges, audit records go at once and wait for all replicas. The
//! settings are given in code, and then once more as properties; both have the same effect.

use std::error::Error;
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Acks, Compression, Metrics, Producer, ProducerConfig, RecordCounts, TopicConfig};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
per_topic_settings [--count N]

  --count N  how many readings to send each time; default 1000, at least 100";

const TELEMETRY: &str = "telemetry";
const AUDIT: &str = "audit";
/// So many readings are sent for each audit record.
const READINGS_PER_AUDIT: u32 = 10;
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    if count < 100 {
        return Err(format!("--count {count} shows too little\n{USAGE}").into());
    }

    println!("settings in code:");
    let cluster = cluster()?;
    let telemetry = TopicConfig::new()
        .acks(Acks::Leader)
        .linger(Duration::from_millis(20))
        .compression(Compression::lz4());
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .topic_config(TELEMETRY, telemetry)
        .topic_config(AUDIT, TopicConfig::new().acks(Acks::All))
        .build()?;
    run(&cluster, &producer, count)?;

    println!("settings as properties:");
    let cluster = self::cluster()?;
    let properties = format!(
        "bootstrap.servers={}\n\
         tidegate.topic.telemetry.acks=1\n\
         tidegate.topic.telemetry.linger.ms=20\n\
         tidegate.topic.telemetry.compression.type=lz4\n\
         tidegate.topic.audit.acks=all\n",
        cluster.bootstrap_servers()
    );
    let producer = Producer::from_config(ProducerConfig::from_properties_text(&properties)?)?;
    run(&cluster, &producer, count)
}

fn cluster() -> std::io::Result<EmbeddedCluster> {
    EmbeddedCluster::builder().brokers(2).topic(TELEMETRY, 1).topic(AUDIT, 1).start()
}

fn run(cluster: &EmbeddedCluster, producer: &Producer, count: u32) -> Result<(), Box<dyn Error>> {
    let telemetry = producer.topic(TELEMETRY)?;
    let audit = producer.topic(AUDIT)?;
    for n in 0..count {
        let reading = format!("{{\"sensor\":\"boiler-7\",\"celsius\":21.5,\"reading\":{n}}}");
        drop(telemetry.send("boiler-7", reading)?);
        if n % READINGS_PER_AUDIT == 0 {
            // Work goes on when all replicas have it.
            audit.send("alice", "alice has read the boiler")?.wait()?;
        }
    }
    producer.close(TIMEOUT).wait()?;

    let metrics = producer.metrics();
    let (telemetry, audit) = (counts(&metrics, TELEMETRY)?, counts(&metrics, AUDIT)?);
    show(cluster, TELEMETRY, &telemetry);
    show(cluster, AUDIT, &audit);
    assert_eq!(telemetry.acked_records, u64::from(count));
    assert_eq!(audit.acked_batches, audit.acked_records, "each audit record goes alone");
    assert!(telemetry.acked_batches * 2 <= telemetry.acked_records, "readings are collected");
    assert!(telemetry.acked_bytes * 2 < telemetry.bytes, "readings are compressed");
    assert_eq!(audit.acked_bytes, audit.bytes, "audit records are not compressed");
    assert!(is_idempotent(cluster, AUDIT) && !is_idempotent(cluster, TELEMETRY));
    Ok(())
}

fn counts(metrics: &Metrics, name: &str) -> Result<RecordCounts, String> {
    let topic = metrics.topics.iter().find(|topic| &*topic.topic == name);
    Ok(topic.ok_or_else(|| format!("{name} is not counted"))?.records)
}

fn show(cluster: &EmbeddedCluster, name: &str, counts: &RecordCounts) {
    println!(
        "  {name:<9} {:>5} records in {:>4} batches: {:>3} in each; {} bytes, sent as {}; {}",
        counts.acked_records,
        counts.acked_batches,
        counts.acked_records / counts.acked_batches.max(1),
        counts.bytes,
        counts.acked_bytes,
        if is_idempotent(cluster, name) { "idempotent" } else { "not idempotent (acks=1)" },
    );
}

/// Brokers recognise repeated batches by the producer's id, which needs acks=all.
fn is_idempotent(cluster: &EmbeddedCluster, topic: &str) -> bool {
    cluster.records(topic, 0).iter().all(|record| record.producer_id >= 0)
}
