//! The flags of Kafka's tool.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate::ProducerConfig;

use super::flags::Flags;

const USAGE: &str = "\
verifiable_producer --topic TOPIC [--bootstrap-server HOST1:PORT1[,HOST2:PORT2[...]]] [flags]

Produces increasing integers and prints what becomes of each as a line of JSON.

  --topic TOPIC              the topic; may be left out where the brokers are embedded
  --bootstrap-server LIST    brokers; without them, embedded ones are started in this process
  --max-messages N           how many (also --count); default -1: until it is killed
  --throughput N             at most about so many a second; default -1: no limit
  --acks N                   -1, 0 or 1; default -1
  --command-config FILE      Kafka properties of the producer, which win over flags
                             (also, as before Kafka 4.2, --producer.config)
  --message-create-time MS   timestamps begin there, in milliseconds since the epoch; default -1:
                             the real time
  --value-prefix N           values are N.0, N.1, ...
  --repeating-keys N         keys are 0 to N - 1, again and again; default: none";

const KNOWN: [&str; 11] = [
    "--topic",
    "--bootstrap-server",
    "--max-messages",
    "--count",
    "--throughput",
    "--acks",
    "--command-config",
    "--producer.config",
    "--message-create-time",
    "--value-prefix",
    "--repeating-keys",
];

/// What to send, and to whom. Numbers have the range of Kafka's tool.
pub struct Options {
    pub topic: String,
    bootstrap_servers: Option<String>,
    /// No limit if negative.
    max_messages: i32,
    /// No limit if negative.
    pub throughput: i32,
    acks: i32,
    properties_file: Option<String>,
    create_time: Option<i64>,
    value_prefix: Option<i32>,
    repeating_keys: Option<u32>,
}

impl Options {
    pub fn from_arguments() -> Result<Options, String> {
        let flags = Flags::from_arguments(&KNOWN, USAGE)?;
        let bootstrap_servers = flags.text("--bootstrap-server").map(str::to_owned);
        let topic = match (flags.text("--topic"), &bootstrap_servers) {
            (Some(topic), _) => topic.to_owned(),
            (None, None) => "verifiable".to_owned(),
            (None, Some(_)) => return Err(format!("--topic is required\n{USAGE}")),
        };
        let files = (flags.text("--command-config"), flags.text("--producer.config"));
        if let (Some(_), Some(_)) = files {
            return Err("--producer.config and --command-config are mutually exclusive".to_owned());
        }
        let max_messages = match flags.number("--max-messages")? {
            Some(max) => max,
            None => flags.number("--count")?.unwrap_or(-1),
        };
        let acks = flags.number("--acks")?.unwrap_or(-1);
        if !(-1..=1).contains(&acks) {
            return Err(format!("--acks {acks}: choose -1, 0 or 1"));
        }
        let repeating_keys = flags.number("--repeating-keys")?;
        if repeating_keys == Some(0) {
            return Err("--repeating-keys 0: at least 1".to_owned());
        }
        Ok(Options {
            topic,
            bootstrap_servers,
            max_messages,
            throughput: flags.number("--throughput")?.unwrap_or(-1),
            acks,
            properties_file: files.0.or(files.1).map(str::to_owned),
            create_time: flags.number("--message-create-time")?.filter(|time| *time != -1),
            value_prefix: flags.number("--value-prefix")?,
            repeating_keys,
        })
    }

    /// The producer's settings: the flags', then those of the file, which win as in Kafka's tool.
    /// No `bootstrap_servers` in it means that none were given.
    pub fn config(&self) -> Result<ProducerConfig, Box<dyn Error>> {
        let mut text = format!("acks={}\n", self.acks);
        if let Some(file) = &self.properties_file {
            // By itself first, for errors that name the file and its own lines.
            ProducerConfig::from_properties_file(file)?;
            // Of a repeated name the last one counts.
            text += &std::fs::read_to_string(file)?;
        }
        let mut config = ProducerConfig::from_properties_text(&text)?;
        if config.bootstrap_servers.is_empty() {
            // An empty list is an error: it has one address that is none.
            let given = self.bootstrap_servers.iter().flat_map(|list| list.split(','));
            config.bootstrap_servers = given.map(|server| server.trim().to_owned()).collect();
        }
        // As Java's producer does.
        config.allow_auto_create_topics = true;
        Ok(config)
    }

    /// Whether record number `index`, from 0, is to be sent.
    pub fn wants(&self, index: u64) -> bool {
        u64::try_from(self.max_messages).is_err() || index < self.max_messages as u64
    }

    pub fn key(&self, index: u64) -> Option<String> {
        self.repeating_keys.map(|keys| (index % u64::from(keys)).to_string())
    }

    pub fn value(&self, index: u64) -> String {
        match self.value_prefix {
            Some(prefix) => format!("{prefix}.{index}"),
            None => index.to_string(),
        }
    }

    pub fn timestamps(&self) -> Timestamps {
        Timestamps { next: self.create_time, start: now_ms() }
    }
}

/// The timestamps of the records, if they are not the real time.
pub struct Timestamps {
    next: Option<i64>,
    start: i64,
}

impl Timestamps {
    /// As in Kafka's tool, each is the one before plus the time since the start.
    pub fn next(&mut self) -> Option<i64> {
        let following = self.next?.saturating_add(now_ms() - self.start);
        self.next.replace(following)
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
