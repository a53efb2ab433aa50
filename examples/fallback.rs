//! Records that cannot be delivered are kept in a file, and sent later, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example fallback
//! ```
//!
//! Starts a broker within this process, stops it, and sends records while it is away. What is not
//! acknowledged in time, and what there is no room for, goes to the fallback, which writes it to a
//! file. Once the broker is back, the file is sent. Checks that every record is in the topic then.
//!
//! The file is as simple as can be, a line for each record: it has no headers, timestamps or nulls,
//! and keys and values without tabs and line ends only.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::sync::Mutex;
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{Certainty, Producer, UndeliveredRecord, UseFallback};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
fallback [--count N]

  --count N  how many records to send while the broker is away; default 20000";

const TOPIC: &str = "orders";

/// Appends each record to a file, as a line with its key and its value.
fn keep_in(file: File) -> impl Fn(&UndeliveredRecord<'_>) + Send + Sync + 'static {
    let file = Mutex::new(BufWriter::new(file));
    move |record: &UndeliveredRecord<'_>| {
        // What may have been written is kept as well: this service would rather send a record twice
        // than never. One that would not looks at the certainty here.
        let doubt = record.error().certainty() == Certainty::Unknown;
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let (key, value) = (text(record.key()), text(record.value()));
        let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let written = writeln!(file, "{key}\t{value}").and_then(|()| file.flush());
        if written.is_err() || doubt {
            eprintln!("{key}: written {written:?}, in doubt: {doubt}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: usize = flags.number("--count")?.unwrap_or(20_000);

    let path = std::env::temp_dir().join(format!("tidegate-fallback-{}", std::process::id()));
    let cluster = EmbeddedCluster::builder().topic(TOPIC, 3).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .buffer_memory(4 << 20)
        .request_timeout(Duration::from_millis(500))
        .delivery_timeout(Duration::from_secs(1))
        // Where there is no room, records go to the fallback at once; by default senders wait.
        .backoff(UseFallback)
        .fallback(keep_in(File::create(&path)?))
        .build()?;
    let orders = producer.topic(TOPIC)?;
    orders.send("order-0", "the broker is there")?.wait()?;

    cluster.stop_broker(1);
    let mut refused = 0;
    for n in 1..=count {
        // Beyond `fallback_memory` a record is refused, and the loop waits for the file.
        while orders.send(&*format!("order-{n}"), format!("value {n}").repeat(20)).is_err() {
            refused += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    // Ends once the fallback has got what was left.
    let closed = producer.close(Duration::from_secs(5)).wait();
    let kept = BufReader::new(File::open(&path)?).lines().collect::<Result<Vec<_>, _>>()?;
    println!("{count} records sent while the broker was away; the close said: {closed:?}");
    println!("{} in {}; send refused {refused} times meanwhile", kept.len(), path.display());

    cluster.restart_broker(1)?;
    let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    let orders = producer.topic(TOPIC)?;
    let mut deliveries = Vec::with_capacity(kept.len());
    for line in &kept {
        let (key, value) = line.split_once('\t').ok_or("a line without a tab")?;
        deliveries.push(orders.send(key, value)?);
    }
    for delivery in deliveries {
        delivery.wait()?;
    }
    // Only now: each of them was acknowledged.
    std::fs::remove_file(&path)?;
    producer.close(Duration::from_secs(30)).wait()?;

    let mut keys = BTreeSet::new();
    for partition in 0..3 {
        let records = cluster.records(TOPIC, partition);
        keys.extend(records.into_iter().filter_map(|record| record.key));
    }
    println!("{} different orders in the topic", keys.len());
    if keys.len() == count + 1 { Ok(()) } else { Err("records are missing".into()) }
}
