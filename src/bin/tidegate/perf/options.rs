//! The arguments of `tidegate perf`, which are those of `kafka-producer-perf-test`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use tidegate::ProducerConfig;

use crate::connect::Connect;
use crate::failure::Failure;

/// Properties whose values a report shows. Of others it shows the name: they may be secrets.
const PLAIN_PROPERTIES: [&str; 12] = [
    "acks",
    "linger.ms",
    "batch.size",
    "buffer.memory",
    "compression.type",
    "enable.idempotence",
    "max.in.flight.requests.per.connection",
    "max.request.size",
    "partitioner",
    "tidegate.high.watermark",
    "tidegate.low.watermark",
    "tidegate.part.filled.floor.us",
];

/// The arguments of `tidegate perf`, as given.
#[derive(Args)]
#[command(group(ArgGroup::new("payload").required(true)
    .args(["record_size", "payload_file", "payload_monotonic"])))]
#[command(
    override_usage = "tidegate perf -b HOST:PORT --topic TOPIC --num-records N --throughput N
       (--record-size BYTES | --payload-file FILE | --payload-monotonic) [OPTIONS]"
)]
#[command(after_help = "\
What is measured. Only records that were acknowledged count. A record's latency ends when its
acknowledgement is handled: the client's own thread takes the time then, and not when somebody gets
round to looking. It begins when the record is handed to the client, so that waiting for room in a
full buffer counts. With --throughput it begins when the record was due, also if the sender was late
by then: a stall that held up a hundred records shows in all hundred of them (coordinated omission).
What the system takes to wake a sender that slept until a record was due is left out.
Kafka's own tool counts from when each was sent, and shows such a stall in one.

Records that are sent without a pause between them share the look at the clock at their end, in
groups of 64 at the most.

The last line has the form of Kafka's tool:
  N records sent, R records/sec (M MB/sec), A ms avg latency, X ms max latency, P ms 50th, ...
A MB is 1,048,576 bytes of values.

Examples:
  tidegate perf -b localhost:9092 --topic t --num-records 1000000 --record-size 100 --throughput -1
  tidegate perf -b localhost:9092 --topic t --num-records 60000 --record-size 1000 \\
      --throughput 1000 --command-property acks=all linger.ms=5 --report perf.html")]
pub(crate) struct Options {
    /// Brokers to start from, as HOST:PORT,HOST:PORT
    #[arg(short = 'b', long = "bootstrap-server", value_name = "HOST:PORT,...")]
    servers: Option<String>,

    /// Send records to this topic
    #[arg(short, long)]
    pub(crate) topic: String,

    /// How many records to send
    #[arg(long, value_name = "N")]
    pub(crate) num_records: u64,

    /// Bytes of each value
    #[arg(long, value_name = "BYTES")]
    pub(crate) record_size: Option<usize>,

    /// A file of values, of which one is chosen at random for each record
    #[arg(long, value_name = "FILE")]
    pub(crate) payload_file: Option<PathBuf>,

    /// What stands between values in the file
    #[arg(long, value_name = "DELIM", default_value = "\\n")]
    pub(crate) payload_delimiter: String,

    /// The values are 0, 1, 2 and so on, as text
    #[arg(long)]
    pub(crate) payload_monotonic: bool,

    /// Records a second; -1: as fast as possible
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) throughput: f64,

    /// Properties of the producer, as NAME=VALUE; go before those of the file
    #[arg(long, value_name = "NAME=VALUE", num_args = 1.., visible_alias = "producer-props")]
    #[arg(short = 'X')]
    command_property: Vec<String>,

    /// A file of properties
    #[arg(short = 'F', long, value_name = "FILE", visible_alias = "producer.config")]
    command_config: Option<PathBuf>,

    /// Print what the client counts, at the end
    #[arg(long)]
    pub(crate) print_metrics: bool,

    /// Also print a summary without the first N records
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warmup_records: u64,

    /// How often to print what the last interval was like, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) reporting_interval: u64,

    /// Write a page with the numbers and plots: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE.html")]
    pub(crate) report: Option<PathBuf>,

    /// Write the numbers as JSON; - is the standard output, in place of the text
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// The producer's settings. They begin with those of Kafka's tool where the records would not
    /// arrive otherwise.
    ///
    /// # Errors
    /// Which of them cannot be used.
    pub(crate) fn config(&self) -> Result<ProducerConfig, Failure> {
        let connect = Connect {
            servers: self.servers.clone(),
            properties: self.command_property.clone(),
            file: self.command_config.clone(),
        };
        connect.config(&[("client.id", "perf-producer-client")])
    }

    /// The properties as they were given, for the report: names and values, but no value that may
    /// be a secret.
    pub(crate) fn shown_properties(&self) -> Vec<String> {
        let shown = |property: &String| {
            let (name, value) = property.split_once('=').unwrap_or((property, ""));
            let is_plain = PLAIN_PROPERTIES.contains(&name.trim());
            format!("{name}={}", if is_plain { value } else { "…" })
        };
        self.command_property.iter().map(shown).collect()
    }

    /// Records a second, if there is a limit.
    pub(crate) fn limit(&self) -> Option<f64> {
        (self.throughput > 0.0).then_some(self.throughput)
    }

    pub(crate) fn json_to_output(&self) -> bool {
        self.json.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_report_shows_no_value_that_may_be_a_secret() {
        let line = Line::parse_from([
            "perf",
            "--topic",
            "t",
            "--num-records",
            "1",
            "--throughput",
            "-1",
            "--record-size",
            "1",
            "--command-property",
            "tidegate.socks5.password=hunter2",
            "sasl.password=hunter3",
            "linger.ms=5",
        ]);
        let shown = line.options.shown_properties().join(" ");
        assert!(shown.contains("linger.ms=5") && !shown.contains("hunter"), "{shown}");
    }
}
