//! Reads a topic from a time on, and goes on with what is written meanwhile; with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example tail
//! ```
//!
//! Starts two brokers within this process, and a producer that writes a line each millisecond. A
//! consumer reads the lines from a moment in between, follows a leader that moves, and ends when it
//! has come to the end of the log.

use std::error::Error;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Consumer, Producer, StartAt};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
tail [--count N]

  --count N  how many lines to write; default 1000";

const TOPIC: &str = "lines";

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    let cluster = EmbeddedCluster::builder().brokers(2).topic(TOPIC, 2).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    let lines = producer.topic(TOPIC)?;

    let half = count / 2;
    for n in 0..half {
        lines.send((), format!("line {n}"))?.wait()?;
    }
    let since = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    // A producer's timestamps may be some milliseconds old: it reads a clock that is cheap.
    thread::sleep(Duration::from_millis(50));

    let consumer = Consumer::builder(&cluster.bootstrap_servers())
        .topic(TOPIC, StartAt::Time(since))
        .build()?;
    let writer = thread::spawn(move || -> Result<(), String> {
        for n in half..count {
            let sent = lines.send((), format!("line {n}")).map_err(|error| error.to_string())?;
            sent.wait().map_err(|error| error.to_string())?;
        }
        Ok(())
    });
    cluster.move_leader(TOPIC, 0, 2);

    let mut read = 0;
    while !(writer.is_finished() && consumer.lag() == Some(0)) {
        // Returns at once if a batch is there.
        let Some(batch) = consumer.poll(Duration::from_millis(100)) else { continue };
        let batch = batch?;
        for record in &batch {
            let record = record?;
            if read < 3 {
                let line = String::from_utf8_lossy(record.value.unwrap_or_default());
                println!("{}-{}@{}: {line}", batch.topic(), batch.partition(), record.offset);
            }
            read += 1;
        }
    }
    writer.join().map_err(|_| "the writer panicked")??;
    println!("{read} lines were written since");
    for partition in consumer.partitions() {
        let (index, position) = (partition.partition, partition.position.unwrap_or_default());
        println!("partition {index}: read up to offset {position}, {:?} behind", partition.lag());
    }
    if read != count - half {
        return Err(format!("{read} lines were read of {}", count - half).into());
    }
    Ok(())
}
