//! `tidegate broker`: the embedded cluster as a process, for tests in any language.

use std::io::{self, Read};
use std::thread;

use clap::Args;
use tidegate::embedded::{EmbeddedCluster, EmbeddedClusterBuilder, KafkaVersion};

use crate::failure::Failure;
use crate::output::Output;
use crate::signals::{LOOK_EVERY, Stop};

/// Brokers at the most: each has threads of its own.
const BROKERS_MAX: usize = 64;
/// Partitions of a topic at the most.
const PARTITIONS_MAX: i32 = 10_000;

const AGES: [KafkaVersion; 10] = [
    KafkaVersion::V0_8_2,
    KafkaVersion::V0_9,
    KafkaVersion::V0_10_0,
    KafkaVersion::V0_10_2,
    KafkaVersion::V0_11,
    KafkaVersion::V1_1,
    KafkaVersion::V2_0,
    KafkaVersion::V2_7,
    KafkaVersion::V3_9,
    KafkaVersion::V4_3,
];

/// The arguments of `tidegate broker`.
#[derive(Args)]
#[command(after_help = "\
The brokers speak the part of Kafka's protocol that producers need, over TCP on 127.0.0.1. Records
are checked, kept in memory and gone at the end: no consumer can read them.

The first line on the standard output is `bootstrap.servers=HOST:PORT,...`, once all brokers take
connections. The command ends with SIGINT or SIGTERM.

Example, in a script:
  tidegate broker --topic orders:6 --until-eof")]
pub(crate) struct Options {
    /// How many brokers, with the ids 1 to N
    #[arg(long, value_name = "N", default_value_t = 1)]
    brokers: usize,

    /// The port of the first broker; the others have the next ones. 0: any that are free
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,

    /// A topic and how many partitions it has; may be repeated
    #[arg(long = "topic", value_name = "NAME:PARTITIONS")]
    topics: Vec<String>,

    /// Create topics that producers ask for
    #[arg(long)]
    auto_create: bool,

    /// The version of Kafka whose protocol the brokers speak, such as 0.10.2 or 3.9
    ///
    /// Known: 0.8.2, 0.9, 0.10.0, 0.10.2, 0.11, 1.1, 2.0, 2.7, 3.9, 4.3; 0.8 and 0.10 stand for
    /// the first of theirs. Default: everything that is implemented of today's protocol.
    #[arg(long, value_name = "VERSION")]
    age: Option<String>,

    /// A user and password that producers must log in with (PLAIN or SCRAM), as NAME:PASSWORD
    #[arg(long = "user", value_name = "NAME:PASSWORD")]
    users: Vec<String>,

    /// Drop records unseen: for measuring producers
    #[arg(long)]
    discard: bool,

    /// End when the standard input ends: with whoever started this
    #[arg(long)]
    until_eof: bool,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let cluster = builder(options)?.start();
    let cluster = cluster
        .map_err(|error| Failure::failed(format_args!("the brokers cannot be started: {error}")))?;
    let mut output = Output::new();
    output.line(format_args!("bootstrap.servers={}", cluster.bootstrap_servers()))?;
    output.flush()?;
    if options.until_eof {
        end_with_input(stop.clone());
    }
    while !stop.is_set() {
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn builder(options: &Options) -> Result<EmbeddedClusterBuilder, Failure> {
    if !(1..=BROKERS_MAX).contains(&options.brokers) {
        return Err(Failure::usage(format_args!("--brokers: from 1 to {BROKERS_MAX}")));
    }
    if options.port != 0 && usize::from(options.port) + options.brokers > 1 << 16 {
        let (port, brokers) = (options.port, options.brokers);
        return Err(Failure::usage(format_args!(
            "--port {port}: there are no {brokers} ports from there on"
        )));
    }
    let mut builder = EmbeddedCluster::builder()
        .brokers(options.brokers)
        .first_port(options.port)
        .auto_create_topics(options.auto_create)
        .discard_payloads(options.discard);
    for topic in &options.topics {
        let (name, partitions) = topic_of(topic)?;
        builder = builder.topic(name, partitions);
    }
    if let Some(name) = &options.age {
        builder = builder.kafka_version(age_of(name)?);
    }
    for user in &options.users {
        let Some((name, password)) = user.split_once(':') else {
            return Err(Failure::usage("--user: a user is NAME:PASSWORD"));
        };
        builder = builder.user(name, password);
    }
    Ok(builder)
}

fn topic_of(text: &str) -> Result<(&str, i32), Failure> {
    let wrong = |why: &str| Err(Failure::usage(format_args!("--topic {text}: {why}")));
    let (name, partitions) = match text.rsplit_once(':') {
        None => (text, 1),
        Some((name, partitions)) => match partitions.parse() {
            Ok(partitions) if (1..=PARTITIONS_MAX).contains(&partitions) => (name, partitions),
            _ => return wrong("a topic is NAME:PARTITIONS, with 1 to 10000 partitions"),
        },
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name {
        "" | "." | ".." => wrong("Kafka does not allow this name"),
        name if name.len() > 249 => wrong("a name has 249 characters at the most"),
        name if !name.bytes().all(legal) => {
            wrong("only ASCII letters, digits, '.', '_' and '-' are allowed in a name")
        }
        name => Ok((name, partitions)),
    }
}

/// The version of that name, or the first one whose name goes on from there.
fn age_of(name: &str) -> Result<KafkaVersion, Failure> {
    let text = |age: &KafkaVersion| age.to_string();
    let exact = AGES.into_iter().find(|age| text(age) == name);
    let longer = || AGES.into_iter().find(|age| text(age).starts_with(&format!("{name}.")));
    exact.or_else(longer).ok_or_else(|| {
        let known = AGES.map(|age| age.to_string()).join(", ");
        Failure::usage(format_args!("--age {name}: known are {known}"))
    })
}

/// Sets `stop` at the end of the standard input, or when that cannot be read.
fn end_with_input(stop: Stop) {
    let ended = stop.clone();
    let read = move || {
        let mut input = io::stdin().lock();
        let mut bytes = [0; 1024];
        loop {
            match input.read(&mut bytes) {
                Ok(read) if read > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return ended.set(),
            }
        }
    };
    if thread::Builder::new().spawn(read).is_err() {
        stop.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_by_name_and_by_the_beginning_of_it() {
        let found = |name| age_of(name).map(|age| age.to_string()).ok();
        for (name, age) in [("0.10", "0.10.0"), ("0.10.2", "0.10.2"), ("0.8", "0.8.2")] {
            assert_eq!(found(name).as_deref(), Some(age));
        }
        for name in ["", "0", "4", "4.2", "trunk"] {
            let age = found(name);
            assert!(age.is_none() || age.is_some_and(|age| age.starts_with(name)), "{name}");
        }
    }

    #[test]
    fn a_topic_that_kafka_would_not_take_is_wrong_usage() {
        assert_eq!(topic_of("orders:3").ok(), Some(("orders", 3)));
        assert_eq!(topic_of("orders").ok(), Some(("orders", 1)));
        for wrong in ["orders:0", "orders:x", ":3", "..:1", "a b:1", "a:b:c", "orders:99999"] {
            assert!(topic_of(wrong).is_err(), "{wrong}");
        }
    }
}
