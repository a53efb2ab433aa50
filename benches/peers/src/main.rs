//! tidegate measured against librdkafka on one machine: each client in a process of its own,
//! against an embedded broker in another process that answers everything and keeps nothing.
//!
//! ```text
//! tidegate-peers compare [--rounds 3] [--clients A,B,…] [settings]
//! tidegate-peers run --client C [--bootstrap HOST:PORT] [settings]
//! tidegate-peers broker [--partitions P]
//! ```
//!
//! Clients: `tidegate`, `rdkafka-batch` (`rd_kafka_produce_batch`), `rdkafka-produce`
//! (`rd_kafka_produce`), `rdkafka-threaded` (`rdkafka::producer::ThreadedProducer`), and `raw`: no
//! client, but one thread that encodes and writes.
//!
//! Every other one runs with acks=all, idempotence and 64 MiB of buffer, and every acknowledgement
//! is checked. What is measured begins when a first record has been acknowledged, so neither side
//! is charged for connecting.

mod broker;
mod compare;
mod measure;
mod native;
mod raw;
mod settings;
mod threaded;
mod tidegate_client;

use std::error::Error;

use measure::Measured;
use settings::{Client, Settings};

const USAGE: &str = "tidegate-peers compare|run|broker
  compare  [--rounds 3] [--clients tidegate,rdkafka-batch,rdkafka-produce] and the settings below
  run      --client tidegate|rdkafka-batch|rdkafka-produce|rdkafka-threaded|raw
           [--bootstrap HOST:PORT]; without --bootstrap it starts a broker process
  broker   [--partitions P]: prints bootstrap.servers, ends when standard input is closed
settings:
  --records N      records to send, by each client (default 10,000,000)
  --value-size B   bytes of a value (100)
  --partitions P   (12)
  --threads T      sending threads (1)
  --spread S       sticky: no key, the client chooses; random: a random partition for each record
  --tls FILE       encrypt; the brokers' authority is written to FILE
  --backlog N      tidegate: deliveries that a thread keeps at most before it waits (131,072)
  --call N         rdkafka-batch: messages of one call (1,000)
  --set NAME=VALUE another setting of librdkafka; may be repeated
  --set-tidegate NAME=VALUE another of tidegate's, as in a properties file";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let settings = match Settings::parse(arguments) {
        Ok(settings) => settings,
        Err(problem) => return Err(format!("{problem}\n\n{USAGE}").into()),
    };
    match command.as_str() {
        "compare" => compare::compare(&settings),
        "broker" => broker::serve(&settings),
        "run" => {
            println!("{}", run(&settings)?.line());
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn run(settings: &Settings) -> Result<Measured, Box<dyn Error>> {
    let client = settings.client.ok_or("run needs --client")?;
    let started = match &settings.bootstrap {
        Some(_) => None,
        None => Some(broker::Broker::start(settings)?),
    };
    let bootstrap = match (&settings.bootstrap, &started) {
        (Some(bootstrap), _) => bootstrap.as_str(),
        (None, Some(broker)) => broker.bootstrap(),
        (None, None) => unreachable!("a broker was started just now"),
    };
    match client {
        Client::Tidegate => tidegate_client::run(settings, bootstrap),
        Client::Batch | Client::Produce => native::run(settings, bootstrap, client),
        Client::Threaded => threaded::run(settings, bootstrap),
        Client::Raw => raw::run(settings, bootstrap),
    }
}
