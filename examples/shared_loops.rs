//! Several producers on the same threads, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example shared_loops
//! ```
//!
//! Starts three brokers within this process. Three producers with different settings send to them,
//! first with event loops of their own, then with two event loops that they share. Prints the
//! threads that talk to brokers (on Linux, where a process can list its threads).

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Acks, Compression, EventLoops, Producer, ProducerBuilder};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
shared_loops [--count N]

  --count N  how many records each producer sends; default 1000";

const BROKERS: usize = 3;
const SHARED: usize = 2;
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    let cluster = EmbeddedCluster::builder().brokers(BROKERS).topic(TOPIC, PARTITIONS).start()?;
    let servers = cluster.bootstrap_servers();

    println!("each producer with a loop for every broker:");
    send([(); 3].map(|()| EventLoops::per_broker()), &servers, count, 3 * BROKERS)?;

    println!("all producers on {SHARED} loops:");
    let shared = EventLoops::shared(SHARED);
    send([(); 3].map(|()| shared.clone()), &servers, count, SHARED)?;

    // The threads end when the last producer has closed and the value is dropped.
    drop(shared);
    println!("afterwards:");
    show_loops(0);
    assert_eq!(cluster.stats().records(), 2 * 3 * u64::from(count));
    Ok(())
}

/// Sends from three producers on these loops, shows the loops, and closes the producers.
fn send(
    loops: [EventLoops; 3],
    servers: &str,
    count: u32,
    expected: usize,
) -> Result<(), Box<dyn Error>> {
    let mut producers = Vec::new();
    for (builder, loops) in builders(servers).into_iter().zip(loops) {
        producers.push(builder.event_loops(loops).build()?);
    }
    for producer in &producers {
        let orders = producer.topic(TOPIC)?;
        for n in 0..count {
            drop(orders.send(format!("customer-{n}"), format!("order {n}"))?);
        }
    }
    for producer in &producers {
        producer.flush().wait()?;
        assert_eq!(producer.metrics().records.acked_records, u64::from(count));
    }
    show_loops(expected);
    for producer in producers {
        producer.close(TIMEOUT).wait()?;
    }
    Ok(())
}

/// Producers may differ in everything but their threads.
fn builders(servers: &str) -> [ProducerBuilder; 3] {
    [
        Producer::builder(servers).client_id("payments").acks(Acks::All),
        Producer::builder(servers).client_id("clicks").acks(Acks::Leader),
        Producer::builder(servers)
            .client_id("telemetry")
            .linger(Duration::from_millis(20))
            .compression(Compression::lz4()),
    ]
}

/// Prints the names of this process's event loops, of which there must be so many.
fn show_loops(expected: usize) {
    // The system lists a thread for a moment after it has ended.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let Some(names) = loop_names() else {
            println!("  skipped: this system does not list threads in /proc/self/task");
            return;
        };
        if names.len() == expected {
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            println!("  {expected} event loops: {names}");
            return;
        }
        assert!(Instant::now() < deadline, "{expected} event loops expected: {names:?}");
        sleep(Duration::from_millis(1));
    }
}

/// The names of the threads that talk to brokers; `None` where a process cannot list its threads.
fn loop_names() -> Option<Vec<String>> {
    let tasks = std::fs::read_dir("/proc/self/task").ok()?;
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.flatten().filter_map(name).map(|name| name.trim_end().to_owned());
    let mut loops: Vec<_> = names.filter(|name| name.starts_with("tidegate-loop")).collect();
    loops.sort();
    Some(loops)
}
