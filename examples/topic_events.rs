//! What a producer tells of its cluster as it happens, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example topic_events
//! ```
//!
//! Starts two brokers within this process. A leader moves, a partition is added, and a broker stops
//! and comes back, while records are sent. A thread prints the producer's events.

use std::error::Error;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Event, Producer, Record, Topic};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
topic_events [--count N]

  --count N  how many records to send at first; default 1000";

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 2;
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    let cluster = EmbeddedCluster::builder().brokers(2).topic(TOPIC, PARTITIONS).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;

    // The iterator ends when the producer has closed, and with it the thread.
    let events = producer.events()?;
    let (sender, seen) = mpsc::channel();
    let listener = thread::spawn(move || {
        for event in events {
            println!("  event: {event}");
            // Nobody listens any more once all that was expected has come.
            let _ = sender.send(event);
        }
    });

    println!("{count} records are sent");
    let orders = producer.topic(TOPIC)?;
    for n in 0..count {
        drop(orders.send((), format!("order {n}"))?);
    }
    producer.flush().wait()?;
    expect(&seen, "the topic's partitions", |event| {
        matches!(event, Event::TopicFound { partitions: PARTITIONS, .. })
    })?;

    let old = cluster.leader(TOPIC, 0).ok_or("partition 0 has no leader")?;
    let new = 3 - old;
    println!("the leader of {TOPIC}-0 moves from broker {old} to broker {new}");
    cluster.move_leader(TOPIC, 0, new);
    // Leaders are asked for when a broker says that it leads no more, and every few minutes.
    send_to(&orders, 0)?;
    let now = Some(new);
    expect(
        &seen,
        "the new leader",
        |event| matches!(event, Event::LeaderMoved { partition: 0, now: to, .. } if *to == now),
    )?;

    println!("{TOPIC} gets a third partition");
    cluster.add_partitions(TOPIC, PARTITIONS + 1);
    // A record that names a partition which is not known has the brokers asked for it.
    send_to(&orders, PARTITIONS)?;
    expect(&seen, "the third partition", |event| {
        matches!(event, Event::PartitionsChanged { before: PARTITIONS, now: 3, .. })
    })?;

    println!("broker {new} stops; a record waits for it");
    cluster.stop_broker(new);
    let delivery = orders.send_record(Record::new().value("it waits").partition(0))?;
    expect(
        &seen,
        "the lost connection",
        |event| matches!(event, Event::Disconnected { broker, .. } if *broker == new),
    )?;

    println!("broker {new} comes back");
    cluster.restart_broker(new)?;
    expect(
        &seen,
        "the new connection",
        |event| matches!(event, Event::Connected { broker, .. } if *broker == new),
    )?;
    println!("the record is at {}", delivery.wait()?);

    producer.close(TIMEOUT).wait()?;
    listener.join().map_err(|_| "the listener panicked")?;
    Ok(())
}

fn send_to(orders: &Topic, partition: i32) -> Result<(), Box<dyn Error>> {
    orders.send_record(Record::new().value("an order").partition(partition))?.wait()?;
    Ok(())
}

/// Passes over events until the one that is looked for.
fn expect(
    seen: &Receiver<Event>,
    what: &str,
    is_it: impl Fn(&Event) -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match seen.recv_timeout(left) {
            Ok(event) if is_it(&event) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(format!("no event told of {what}")),
        }
    }
}
