//! Callbacks instead of futures, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example callbacks
//! ```
//!
//! Starts two brokers within this process and gives each record a closure that is called with its
//! outcome. Shows that those of one partition are called in the order of its records, that a panic
//! in one costs nothing else, and that `flush` waits for them.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Delivery, DeliveryError, Producer, RecordMetadata};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
callbacks [--count N]

  --count N  how many records to send; default 1000";

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;
/// The callback that takes its time.
const SLOW: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(10);

/// What callbacks have been told so far.
#[derive(Default)]
struct Told {
    /// The numbers of the records, by partition, in the order of the calls.
    numbers: BTreeMap<i32, Vec<u32>>,
    failed: u32,
    /// The threads that called.
    threads: Vec<String>,
}

impl Told {
    fn tell(&mut self, number: u32, outcome: &Result<RecordMetadata, DeliveryError>) {
        let thread = thread::current().name().unwrap_or("without a name").to_owned();
        if !self.threads.contains(&thread) {
            self.threads.push(thread);
        }
        match outcome {
            Ok(at) => self.numbers.entry(at.partition()).or_default().push(number),
            Err(_) => self.failed += 1,
        }
    }

    fn calls(&self) -> usize {
        self.numbers.values().map(Vec::len).sum::<usize>() + self.failed as usize
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        println!("the thread {name} {panic}");
    }));
    let cluster = EmbeddedCluster::builder().brokers(2).topic(TOPIC, PARTITIONS).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    let orders = producer.topic(TOPIC)?;
    // Callbacks come in order for records that are sent once the topic is known.
    orders.send("customer-0", "the first order")?.wait()?;

    let told = Arc::new(Mutex::new(Told::default()));
    for n in 0..count {
        let told = told.clone();
        orders.send(format!("customer-{n}"), format!("order {n}"))?.on_complete(
            move |outcome| {
                told.lock().unwrap_or_else(PoisonError::into_inner).tell(n, &outcome);
            },
        )?;
    }
    producer.flush().wait()?;
    {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        println!("{} callbacks for {count} records, on {:?}", told.calls(), told.threads);
        assert_eq!((told.calls(), told.failed), (count as usize, 0));
        for (partition, numbers) in &told.numbers {
            assert!(numbers.is_sorted(), "{TOPIC}-{partition}: {numbers:?}");
            println!("  {TOPIC}-{partition}: {} calls, in the order of sending", numbers.len());
        }
    }

    contain_a_panic(orders.send("customer-1", "it panics")?, orders.send("customer-1", "next")?)?;

    let began = Instant::now();
    orders.send("customer-2", "it is slow")?.on_complete(|_| thread::sleep(SLOW))?;
    producer.flush().wait()?;
    println!("flush waited {:?} for a callback that takes {SLOW:?}", began.elapsed());
    assert!(began.elapsed() >= SLOW);
    producer.close(TIMEOUT).wait()?;
    Ok(())
}

/// The first callback panics; the one behind it in the same partition is called all the same.
fn contain_a_panic(first: Delivery, second: Delivery) -> Result<(), Box<dyn Error>> {
    let (sender, outcome) = std::sync::mpsc::channel();
    first.on_complete(|_| panic!("this callback has a bug"))?;
    second.on_complete(move |outcome| {
        // The example waits for it.
        let _ = sender.send(outcome);
    })?;
    println!("the next callback is called: {}", outcome.recv_timeout(TIMEOUT)??);
    Ok(())
}
