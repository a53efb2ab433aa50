//! An outage that outlasts the process goes to disk, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example spill
//! ```
//!
//! Starts a broker within this process, stops it, and sends more records than memory has room for.
//! The producer ends, and another one with the same folder sends what lies there once the broker is
//! back. Checks that every record is in the topic once, in order.

use std::error::Error;
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Producer, ProducerBuilder, SpillConfig};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
spill [--count N]

  --count N  how many records to send while the broker is away; default 200000";

const TOPIC: &str = "orders";

fn builder(cluster: &EmbeddedCluster, spill: &SpillConfig) -> ProducerBuilder {
    Producer::builder(&cluster.bootstrap_servers()).buffer_memory(4 << 20).spill(spill.clone())
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: usize = flags.number("--count")?.unwrap_or(200_000);

    let folder = std::env::temp_dir().join(format!("tidegate-spill-{}", std::process::id()));
    let spill = SpillConfig::new(&folder);
    let cluster = EmbeddedCluster::builder().topic(TOPIC, 1).start()?;
    let producer = builder(&cluster, &spill).build()?;
    let orders = producer.topic(TOPIC)?;
    orders.send("customer-42", "order 0")?.wait()?;

    cluster.stop_broker(1);
    // What is written to a connection that has just ended would be in doubt.
    while producer.metrics().brokers.iter().any(|broker| broker.is_connected) {
        std::thread::sleep(Duration::from_millis(1));
    }
    for n in 1..=count {
        drop(orders.send("customer-42", format!("order {n}"))?);
    }
    let status = producer.spill_status().ok_or("it spills")?;
    println!("{count} records sent while the broker was away, {} to disk", status.spilled_records);
    // What is still in memory goes to disk as well.
    let closed = producer.close(Duration::from_millis(100)).wait();
    println!("the close said: {closed:?}");
    drop(orders);

    cluster.restart_broker(1)?;
    let producer = builder(&cluster, &spill).build()?;
    let status = producer.spill_status().ok_or("it spills")?;
    println!("{} records found on disk, of {} bytes", status.recovered_records, status.bytes);
    producer.flush().wait()?;
    producer.close(Duration::from_secs(30)).wait()?;
    std::fs::remove_dir_all(&folder)?;

    let records = cluster.records(TOPIC, 0);
    for (n, record) in records.iter().enumerate() {
        if record.value.as_deref() != Some(format!("order {n}").as_bytes()) {
            return Err(format!("order {n} is not in its place").into());
        }
    }
    println!("{} records in the topic, each once, in order", records.len());
    if records.len() == count + 1 { Ok(()) } else { Err("records are missing".into()) }
}
