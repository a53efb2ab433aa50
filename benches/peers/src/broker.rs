//! The broker: a process of its own, so that neither its CPU time nor its memory is a client's.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};

use crate::settings::{Settings, TOPIC};

/// The API key of Fetch, which the broker does not serve.
const FETCH: i16 = 1;

const PREFIX: &str = "bootstrap.servers=";

/// Serves until standard input is closed.
pub fn serve(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let builder = EmbeddedCluster::builder().brokers(1).discard_payloads(true);
    // Batches of a megabyte and their headers: what librdkafka's batch.size allows at most.
    let builder = builder.message_bytes_max(2 << 20).topic(TOPIC, settings.partitions);
    let builder = match settings.tls {
        Some(_) => builder.tls(EmbeddedTls::new()),
        None => builder,
    };
    let cluster = builder.start()?;
    if let Some(file) = &settings.tls {
        std::fs::write(file, cluster.authority_pem())?;
    }
    // librdkafka writes record batches (v2) only to brokers that also speak Fetch 4 or later.
    cluster.limit_api(FETCH, 4, 11);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{PREFIX}{}", cluster.bootstrap_servers())?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        if line?.trim() == "stats" {
            let stats = cluster.stats();
            writeln!(out, "records={} batches={}", stats.records(), stats.batches())?;
            out.flush()?;
        }
    }
    Ok(())
}

/// A broker process; ended when this is dropped.
pub struct Broker {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    bootstrap: String,
}

impl Broker {
    pub fn start(settings: &Settings) -> Result<Broker, Box<dyn Error>> {
        let tls = settings.tls.iter().flat_map(|file| ["--tls", file.as_str()]);
        let mut child = Command::new(std::env::current_exe()?)
            .args(["broker", "--partitions", &settings.partitions.to_string()])
            .args(tls)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("the broker has no output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let bootstrap = line.trim().strip_prefix(PREFIX).ok_or("the broker did not start")?;
        Ok(Broker { bootstrap: bootstrap.to_owned(), child, out })
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Records and batches that were appended so far.
    pub fn appended(&mut self) -> Result<(u64, u64), Box<dyn Error>> {
        let input = self.child.stdin.as_mut().ok_or("the broker has no input")?;
        input.write_all(b"stats\n")?;
        input.flush()?;
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        let (records, batches) = line.trim().split_once(' ').ok_or("the broker gave no figures")?;
        let figure = |field: &str| field.split_once('=').and_then(|(_, n)| n.parse().ok());
        figure(records).zip(figure(batches)).ok_or_else(|| "the broker gave no figures".into())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends by itself once its input is closed.
        let _ = self.child.wait();
    }
}
