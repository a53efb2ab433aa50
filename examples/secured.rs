//! TLS and a login (SCRAM), with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example secured
//! ```
//!
//! Starts two brokers within this process that encrypt and want a login, sends records to them and
//! reads them back. Then it shows what a wrong password and an unknown authority look like.
//! `--properties FILE` sends to the cluster of a properties file instead, to a topic that
//! `--topic` names.

use std::error::Error;
use std::time::Duration;

use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};
use tidegate::{Plain, Producer, ProducerBuilder, ProducerConfig, Scram, TlsConfig};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
secured [--count N] [--properties FILE [--topic NAME]]

  --count N          how many records to send; default 10000
  --properties FILE  a configuration in Kafka's names, of a cluster of your own
  --topic NAME       the topic there; default secured";

const TOPIC: &str = "secured";
/// The brokers are in this process: whatever takes longer does not work.
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count", "--properties", "--topic"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(10_000);
    if let Some(path) = flags.text("--properties") {
        let config = ProducerConfig::from_properties_file(path)?;
        let topic = flags.text("--topic").unwrap_or(TOPIC);
        return send(ProducerBuilder::from_config(config), topic, count);
    }
    let cluster = EmbeddedCluster::builder()
        .brokers(2)
        .topic(TOPIC, 4)
        .tls(EmbeddedTls::new())
        .user("alice", "open sesame")
        .start()?;
    // Without this the authorities of the system are trusted.
    let tls = TlsConfig::new().truststore_pem(cluster.authority_pem());
    let login = Scram::sha_512("alice", "open sesame");
    let builder = || Producer::builder(&cluster.bootstrap_servers());
    send(builder().tls(tls.clone()).sasl(login), TOPIC, count)?;
    let held: usize = (0..4).map(|partition| cluster.records(TOPIC, partition).len()).sum();
    println!("the brokers hold {held} records");

    let wrong = Plain::new("alice", "open barley");
    println!("a wrong password:     {}", refusal(builder().tls(tls).sasl(wrong))?);
    let unknown = TlsConfig::new();
    let login = Scram::sha_512("alice", "open sesame");
    println!("an unknown authority: {}", refusal(builder().tls(unknown).sasl(login))?);
    Ok(())
}

fn send(builder: ProducerBuilder, topic: &str, count: u32) -> Result<(), Box<dyn Error>> {
    let producer = builder.build()?;
    let topic = producer.topic(topic)?;
    let send = |n: u32| topic.send(n.to_string(), "2 pairs of shoes");
    let deliveries: Vec<_> = (0..count).map(send).collect::<Result<_, _>>()?;
    for delivery in deliveries {
        delivery.wait()?;
    }
    println!("{count} records sent and acknowledged");
    producer.close(TIMEOUT).wait()?;
    Ok(())
}

/// Why the producer's records do not arrive.
fn refusal(builder: ProducerBuilder) -> Result<String, Box<dyn Error>> {
    let producer = builder.request_timeout(TIMEOUT / 2).delivery_timeout(TIMEOUT / 2).build()?;
    let delivery = producer.topic(TOPIC)?.send("key", "value")?;
    match delivery.wait() {
        Ok(at) => Err(format!("nobody should have got in, and a record is at {at}").into()),
        Err(error) => Ok(error.problem().map_or(error.to_string(), |problem| problem.to_string())),
    }
}
