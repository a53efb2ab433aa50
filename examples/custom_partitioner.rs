//! A partitioner of your own around the default one, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example custom_partitioner
//! ```
//!
//! Starts two brokers within this process and sends orders to them. The two partitions of the
//! lowest numbers are for urgent orders, which a header tells; the rest goes where the default
//! partitioner puts it among the others. Prints how many records each partition got.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{
    DefaultPartitioner, PartitionRequest, PartitionView, Partitioner, Partitions, Producer, Record,
};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
custom_partitioner [--count N]

  --count N  how many records to send; default 10000";

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
/// The partitions for what is urgent: those below this.
const URGENT: i32 = 2;
/// One order in so many is urgent.
const URGENT_EVERY: u32 = 50;
const TIMEOUT: Duration = Duration::from_secs(5);

/// Places the orders of one topic.
#[derive(Default)]
struct ByUrgency {
    urgent: DefaultPartitioner,
    rest: DefaultPartitioner,
}

impl Partitioner for ByUrgency {
    fn partition(&self, request: &PartitionRequest<'_>) -> i32 {
        let is_urgent = request.headers.iter().any(|header| header.key == "urgent");
        let (inner, first, end) = match is_urgent {
            true => (&self.urgent, 0, URGENT),
            false => (&self.rest, URGENT, request.partitions.count()),
        };
        // The default one is shown a topic that has these partitions only.
        let part = Part { whole: request.partitions, first, count: end - first };
        first + inner.partition(&request.with_partitions(Partitions::new(&part)))
    }

    // `on_appended` need not be passed on: the default partitioner does well without.
}

/// Some of the partitions of a topic, numbered from 0.
struct Part<'a> {
    whole: Partitions<'a>,
    first: i32,
    count: i32,
}

impl PartitionView for Part<'_> {
    fn count(&self) -> i32 {
        self.count
    }

    fn is_available(&self, partition: i32) -> bool {
        (0..self.count).contains(&partition) && self.whole.is_available(self.first + partition)
    }

    fn load(&self, partition: i32) -> u32 {
        self.whole.load(self.first + partition)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(10_000);
    let cluster = EmbeddedCluster::builder().brokers(2).topic(TOPIC, PARTITIONS).start()?;
    // A partitioner belongs to one topic: each gets its own.
    let partitioners = |_: &str| -> Arc<dyn Partitioner> { Arc::new(ByUrgency::default()) };
    let producer =
        Producer::builder(&cluster.bootstrap_servers()).partitioner(partitioners).build()?;
    let orders = producer.topic(TOPIC)?;
    let mut deliveries = Vec::new();
    for n in 0..count {
        let order = Record::new().key(n.to_string()).value("2 pairs of shoes");
        let order = if n % URGENT_EVERY == 0 { order.header("urgent", "") } else { order };
        deliveries.push(orders.send_record(order)?);
    }
    for delivery in deliveries {
        delivery.wait()?;
    }
    producer.close(TIMEOUT).wait()?;
    println!("{count} records sent and acknowledged");
    for partition in 0..PARTITIONS {
        let records = cluster.records(TOPIC, partition).len();
        let what = if partition < URGENT { "urgent" } else { "rest" };
        println!("partition {partition} ({what}): {records}");
    }
    Ok(())
}
