//! Rounds of all clients in turn, each with a fresh broker process; medians and ratios.

use std::error::Error;
use std::process::Command;

use crate::broker::Broker;
use crate::measure::Measured;
use crate::settings::{Client, Settings};

pub fn compare(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let clients = &settings.clients;
    let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); clients.len()];
    for round in 0..settings.rounds {
        // Each round begins with another client, so that no place in the order is always the same.
        for turn in 0..clients.len() {
            let at = (round + turn) % clients.len();
            let measured = run_in_process(settings, clients[at])?;
            println!("round {} {:<16} {}", round + 1, clients[at].name(), measured.line());
            runs[at].push(measured);
        }
    }
    println!(
        "\n{:<16} {:>12} {:>10} {:>10} {:>9}",
        "median", "records/s", "CPU ns", "system ns", "RSS MiB"
    );
    let medians: Vec<Medians> = runs.iter().map(|runs| Medians::of(runs)).collect();
    for (client, m) in clients.iter().zip(&medians) {
        println!(
            "{:<16} {:>12.0} {:>10.1} {:>10.1} {:>9.0}",
            client.name(),
            m.per_second,
            m.cpu,
            m.cpu_system,
            m.peak_mib
        );
    }
    let Some(ours) = clients.iter().position(|client| *client == Client::Tidegate) else {
        return Ok(());
    };
    for (at, client) in clients.iter().enumerate().filter(|(at, _)| *at != ours) {
        println!(
            "tidegate / {}: {:.2} x the records/s, {:.2} x the CPU per record (by rounds: {}, {})",
            client.name(),
            medians[ours].per_second / medians[at].per_second,
            medians[ours].cpu / medians[at].cpu,
            range(&runs[ours], &runs[at], |run| run.per_second),
            range(&runs[ours], &runs[at], |run| run.cpu),
        );
    }
    Ok(())
}

/// The least and the greatest ratio of one round.
fn range(ours: &[Measured], theirs: &[Measured], figure: impl Fn(&Measured) -> f64) -> String {
    let mut ratios: Vec<f64> =
        ours.iter().zip(theirs).map(|(ours, theirs)| figure(ours) / figure(theirs)).collect();
    ratios.sort_by(f64::total_cmp);
    match (ratios.first(), ratios.last()) {
        (Some(least), Some(greatest)) => format!("{least:.2} to {greatest:.2}"),
        _ => String::new(),
    }
}

struct Medians {
    per_second: f64,
    cpu: f64,
    cpu_system: f64,
    peak_mib: f64,
}

impl Medians {
    fn of(runs: &[Measured]) -> Medians {
        Medians {
            per_second: median(runs, |run| run.per_second),
            cpu: median(runs, |run| run.cpu),
            cpu_system: median(runs, |run| run.cpu_system),
            peak_mib: median(runs, |run| run.peak_kib as f64 / 1024.0),
        }
    }
}

fn median(runs: &[Measured], figure: impl Fn(&Measured) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let (low, high) = ((figures.len() - 1) / 2, figures.len() / 2);
    (figures[low] + figures[high]) / 2.0
}

/// One run of one client, and a check that the broker saw what the client says it delivered.
fn run_in_process(settings: &Settings, client: Client) -> Result<Measured, Box<dyn Error>> {
    let mut broker = Broker::start(settings)?;
    let output = Command::new(std::env::current_exe()?)
        .arg("run")
        .args(settings.arguments(client, broker.bootstrap()))
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let measured = Measured::parse(&text);
    let measured = measured.ok_or_else(|| format!("{} failed: {text}", client.name()))?;
    if measured.errors > 0 || measured.acked != settings.records {
        return Err(format!("{} lost records: {}", client.name(), measured.line()).into());
    }
    let (records, batches) = broker.appended()?;
    let warm_up = settings.partitions as u64;
    if records != settings.records + warm_up {
        return Err(format!("{}: the broker took {records} records", client.name()).into());
    }
    println!(
        "        {:<16} {:.1} records a batch",
        client.name(),
        records as f64 / batches as f64
    );
    Ok(measured)
}
