//! Reads again what was written since a moment, up to where the log ended when it began; with no
//! Kafka at hand:
//!
//! ```text
//! cargo run --release --example replay_from_a_time
//! ```
//!
//! Starts a broker within this process and writes orders, one for each second of the past. A
//! consumer asks which offset a moment has and where the log ends, and reads what is between. It
//! commits how far it has come, so that a second run goes on there.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Consumer, OffsetReset, Producer, Record, StartAt};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
replay_from_a_time [--count N]

  --count N  how many orders to write; default 1000";

const TOPIC: &str = "orders";
/// How long each question may take.
const WITHIN: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    let cluster = EmbeddedCluster::builder().topic(TOPIC, 1).start()?;
    let begin = SystemTime::now() - Duration::from_secs(count.into());
    write_orders(&cluster.bootstrap_servers(), begin, count)?;

    // Half of the time ago.
    let moment = begin + Duration::from_secs((count / 2).into());
    let since = i64::try_from(moment.duration_since(UNIX_EPOCH)?.as_millis())?;
    let consumer = Consumer::builder(&cluster.bootstrap_servers())
        .topic(TOPIC, StartAt::Time(since))
        .group_id("replay")
        .build()?;
    // All three are asked at once.
    let first = consumer.find_offset(TOPIC, 0, StartAt::Time(since), WITHIN);
    let end = consumer.find_offset(TOPIC, 0, StartAt::Latest, WITHIN);
    let later = consumer.find_offset(TOPIC, 0, StartAt::Time(since + 86_400_000), WITHIN);
    let end = end.wait()?.ok_or("every log has an end")?;
    println!("of the moment: {:?}, of the next day: {:?}", first.wait()?, later.wait()?);
    println!("the log ends at {end}");

    let (mut read, mut next) = (0, 0);
    while next < end {
        let batch = consumer.poll(WITHIN).ok_or("no order within 10 s")??;
        for record in &batch {
            let record = record?;
            if read == 0 {
                let order = String::from_utf8_lossy(record.value.unwrap_or_default());
                println!("it begins with {order} at offset {}", record.offset);
            }
            read += 1;
        }
        next = batch.next_offset();
        consumer.commit(&[(batch.topic(), batch.partition(), next)], WITHIN).wait()?;
    }
    println!("{read} orders were read again");

    // Another run would find nothing new.
    let again = Consumer::builder(&cluster.bootstrap_servers())
        .topic(TOPIC, StartAt::Committed)
        .group_id("replay")
        .auto_offset_reset(OffsetReset::Earliest)
        .build()?;
    println!("committed: {:?}", again.committed(TOPIC, 0, WITHIN).wait()?);
    Ok(())
}

/// Writes an order for each second.
fn write_orders(servers: &str, begin: SystemTime, count: u32) -> Result<(), Box<dyn Error>> {
    let producer = Producer::builder(servers).build()?;
    let orders = producer.topic(TOPIC)?;
    let mut sent = Vec::new();
    for n in 0..count {
        let at = begin + Duration::from_secs(n.into());
        let order = format!("order {n}");
        sent.push(orders.send_record(Record::new().value(&order).timestamp(at))?);
    }
    for delivery in sent {
        delivery.wait()?;
    }
    producer.close(WITHIN).wait()?;
    Ok(())
}
