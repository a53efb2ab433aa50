//! An embedded cluster as a process of its own, so that a benchmark's brokers do not share its
//! cores' scheduling and memory.
//!
//! ```text
//! embedded_broker [--brokers N] [--topic NAME:PARTITIONS]… [--discard]
//! ```
//!
//! Prints one line, `bootstrap.servers=host:port,…`, when it is ready, and ends when its standard
//! input is closed: whoever started it holds the other end, so that it never outlives them. A line
//! `stats` on standard input prints the counters of the whole cluster.

use std::error::Error;
use std::io::{BufRead, Write};

use tidegate::embedded::{EmbeddedCluster, EmbeddedClusterBuilder};

const USAGE: &str = "embedded_broker [--brokers N] [--topic NAME:PARTITIONS]… [--discard]";

fn main() -> Result<(), Box<dyn Error>> {
    let cluster = settings(std::env::args().skip(1))?.start()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "bootstrap.servers={}", cluster.bootstrap_servers())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        if line?.trim() == "stats" {
            let stats = cluster.stats();
            let (records, batches, bytes) = (stats.records(), stats.batches(), stats.bytes());
            writeln!(out, "records={records} batches={batches} bytes={bytes}")?;
            out.flush()?;
        }
    }
    Ok(())
}

fn settings(
    mut arguments: impl Iterator<Item = String>,
) -> Result<EmbeddedClusterBuilder, Box<dyn Error>> {
    let mut builder = EmbeddedCluster::builder().brokers(1);
    while let Some(flag) = arguments.next() {
        builder = match flag.as_str() {
            "--discard" => builder.discard_payloads(true),
            "--brokers" => builder.brokers(arguments.next().ok_or(USAGE)?.parse()?),
            "--topic" => {
                let topic = arguments.next().ok_or(USAGE)?;
                let (name, partitions) = topic.rsplit_once(':').ok_or(USAGE)?;
                builder.topic(name, partitions.parse()?)
            }
            _ => return Err(USAGE.into()),
        };
    }
    Ok(builder)
}
