//! Why a record waits, what a producer says of its health, and the events that tell of it, with no
//! Kafka at hand:
//!
//! ```text
//! cargo run --release --example explain
//! ```
//!
//! Starts two brokers within this process, stops one, and shows what the producer tells while a
//! record waits for it. Then the broker comes back.

use std::error::Error;
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{HealthState, Producer, Record};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
explain [--count N]

  --count N  how many records to send at first; default 1000";

const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count = flags.number("--count")?.unwrap_or(1_000);
    let cluster = EmbeddedCluster::builder().brokers(2).topic("orders", 2).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    let events = producer.events()?;
    let listener = std::thread::spawn(move || {
        for event in events {
            println!("event:  {event}");
        }
    });
    let orders = producer.topic("orders")?;
    for n in 0..count {
        let told = move |outcome: Result<_, tidegate::DeliveryError>| {
            if let Err(error) = outcome {
                eprintln!("record {n}: {error}");
            }
        };
        orders.send("customer-42", "an order")?.on_complete(told)?;
    }
    producer.flush().wait()?;
    println!("health: {}", producer.health());

    let leader = cluster.leader("orders", 0).ok_or("partition 0 has a leader")?;
    cluster.stop_broker(leader);
    let delivery = orders.send_record(Record::new().value("it waits").partition(0))?;
    while producer.health().state == HealthState::Ready {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("status: {}", delivery.status());
    println!("health: {}", producer.health());
    print!("report: {}", producer.report().to_string().replace('\n', "\n        ").trim_end());
    println!();

    cluster.restart_broker(leader)?;
    println!("sent:   {}", delivery.wait()?);
    println!("{}", producer.metrics());
    producer.close(TIMEOUT).wait()?;
    listener.join().map_err(|_| "the listener panicked")?;
    Ok(())
}
