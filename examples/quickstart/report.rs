//! Prints what happened.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{BinaryBytes, HumanCount};
use tidegate::Producer;
use tidegate::embedded::ClusterStats;

use super::{Acknowledged, Settings, THREADS, UNRESOLVED_MAX};

/// Acknowledged records a second, from the first `send` to the last resolved delivery.
pub fn rate(out: &mut impl Write, settings: &Settings, elapsed: Duration) -> io::Result<()> {
    let records = f64::from(settings.records);
    let rate = records / elapsed.as_secs_f64();
    let bytes_rate = rate * settings.value_size as f64 / 1e6;
    writeln!(
        out,
        "rate        {} records/s, {bytes_rate:.1} MB/s: {} records with values of {} bytes, all \
         acknowledged within {elapsed:.3?}",
        HumanCount(rate as u64),
        HumanCount(settings.records.into()),
        HumanCount(settings.value_size as u64),
    )
}

/// The middle and the slow end of all latencies.
pub fn latency(out: &mut impl Write, acknowledged: &[Vec<Acknowledged>]) -> io::Result<()> {
    let mut latencies: Vec<u32> =
        acknowledged.iter().flatten().map(|record| record.latency_us).collect();
    latencies.sort_unstable();
    let Some(last) = latencies.len().checked_sub(1) else { return Ok(()) };
    let at = |share: f64| f64::from(latencies[(last as f64 * share) as usize]) / 1e3;
    writeln!(
        out,
        "latency     p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, most {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    )?;
    let backlog = HumanCount(UNRESOLVED_MAX as u64);
    writeln!(
        out,
        "            From send until its thread, which looks in order, saw it resolved. This"
    )?;
    writeln!(
        out,
        "            is at full speed: {THREADS} threads keep up to {backlog} records each on their"
    )?;
    writeln!(
        out,
        "            way, which mostly wait for one another. A lone record is far quicker."
    )
}

/// Memory, and each broker's levels as the producer sees them. `embedded` brokers are in the same
/// process.
pub fn producer(out: &mut impl Write, producer: &Producer, embedded: bool) -> io::Result<()> {
    let memory = producer.memory();
    let taken = memory.capacity - memory.free;
    writeln!(
        out,
        "memory      buffer: {} of {} taken now",
        BinaryBytes(taken as u64),
        BinaryBytes(memory.capacity as u64)
    )?;
    if let Some((now, most)) = resident() {
        let of = if embedded { ", the brokers and every record in them included" } else { "" };
        writeln!(out, "            process: {now} resident, {most} at the most{of}")?;
    }
    for levels in producer.broker_levels() {
        writeln!(
            out,
            "broker {:<5}level: {} queued or in flight now, high watermark {}, {} times above it",
            levels.broker,
            BinaryBytes(levels.charged as u64),
            // It may be over what there is: then the buffer is the limit.
            BinaryBytes(levels.high.min(memory.capacity) as u64),
            HumanCount(levels.times_unwritable),
        )?;
    }
    Ok(())
}

/// What the embedded brokers have counted.
pub fn brokers(out: &mut impl Write, stats: &ClusterStats) -> io::Result<()> {
    for broker in &stats.brokers {
        writeln!(
            out,
            "broker {:<5}got {} records in {} batches in {} produce requests",
            broker.broker,
            HumanCount(broker.records),
            HumanCount(broker.batches),
            HumanCount(broker.produce_requests),
        )?;
    }
    writeln!(
        out,
        "batches     {}, {:.1} records in each; {} requests of all kinds; {} repeated batches",
        HumanCount(stats.batches()),
        stats.records() as f64 / stats.batches().max(1) as f64,
        HumanCount(stats.requests()),
        HumanCount(stats.duplicates()),
    )
}

/// The memory that this process has in RAM: now, and at its most. Linux says; others do not.
fn resident() -> Option<(String, String)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(BinaryBytes(kib * 1024).to_string())
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}
