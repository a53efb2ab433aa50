//! Metrics for Prometheus and a readiness probe, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example metrics_prometheus -- --listen 127.0.0.1:9100
//! curl http://127.0.0.1:9100/metrics
//! curl -i http://127.0.0.1:9100/ready
//! ```
//!
//! Starts two brokers within this process and sends records to them. With `--listen` it goes on
//! sending and serves two pages until it is stopped; without, it prints both and ends.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tidegate::embedded::EmbeddedCluster;
use tidegate::{HealthState, Producer};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
metrics_prometheus [--count N] [--listen HOST:PORT]

  --count N           how many records to send; default 10000; for ever with --listen
  --listen HOST:PORT  where to serve /metrics and /ready";

const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count", "--listen"], USAGE)?;
    let count = flags.number("--count")?.unwrap_or(10_000);
    let cluster = EmbeddedCluster::builder().brokers(2).topic("orders", 6).start()?;
    let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
    send(&producer, count)?;
    if let Some(address) = flags.text("--listen") {
        let listener = TcpListener::bind(address)?;
        let served = producer.clone();
        std::thread::spawn(move || {
            // One scrape at a time is enough for an example. Use the service's own HTTP server.
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &served);
            }
        });
        loop {
            send(&producer, 100)?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    let (_, ready) = page("/ready", &producer);
    print!("{}{ready}", page("/metrics", &producer).1);
    producer.close(TIMEOUT).wait()?;
    Ok(())
}

fn send(producer: &Producer, count: u64) -> Result<(), Box<dyn Error>> {
    let orders = producer.topic("orders")?;
    for n in 0..count {
        // What fails is counted, and told in the log: an example that only counts needs no
        // delivery.
        drop(orders.send(format!("customer-{}", n % 97), "an order")?);
    }
    producer.flush().wait()?;
    Ok(())
}

/// The status line and the body of a page.
fn page(path: &str, producer: &Producer) -> (&'static str, String) {
    match path {
        "/metrics" => ("200 OK", producer.metrics().prometheus().with_partitions().to_string()),
        "/ready" => {
            let health = producer.health();
            // A producer that is degraded keeps what waits in memory: the service can go on.
            let status = match health.state {
                HealthState::Down => "503 Service Unavailable",
                _ => "200 OK",
            };
            (status, format!("{health}\n"))
        }
        _ => ("404 Not Found", String::new()),
    }
}

fn answer(stream: TcpStream, producer: &Producer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut request = String::new();
    BufReader::new(&stream).read_line(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (status, body) = page(path, producer);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body.as_bytes())
}
