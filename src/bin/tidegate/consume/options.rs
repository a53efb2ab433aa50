//! The arguments of `tidegate consume`.

use clap::{Args, ValueEnum};
use tidegate::{IsolationLevel, StartAt};

use crate::connect::Connect;

/// The arguments of `tidegate consume`, as given.
#[derive(Args)]
#[command(after_help = "\
Each value is printed as it is, with a line feed behind it. There are no consumer groups: each
call reads all partitions, or those of -p, and commits nothing.

In FORMAT these stand for a record's parts; escapes are \\n, \\r, \\t, \\0, \\\\ and \\xHH:
  %t topic      %k key               %s value               %h headers, as NAME=VALUE,...
  %p partition  %K bytes of the key  %S bytes of the value  %T timestamp, ms since 1970
  %o offset     (-1 where it is null)                       %% a percent sign

Examples:
  tidegate consume -b localhost:9092 -t orders -e
  tidegate consume -b localhost:9092 -t orders -o -10 -e -f '%p %o %k: %s\\n'
  tidegate consume -F client.properties -t orders -o @1767225600000 -J | jq .payload

With -J each record is an object on a line of its own; bytes that are no UTF-8 are in `key_base64`
and `payload_base64` instead of `key` and `payload`. Headers are an array of objects.

What cannot be read ends the command with status 1. Ctrl-C ends it with 0.")]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) connect: Connect,

    /// A topic; may be repeated
    #[arg(short, long = "topic", required = true, value_name = "TOPIC")]
    pub(crate) topics: Vec<String>,

    /// A partition of each topic; may be repeated. Default: all, new ones too
    #[arg(short, long = "partition", value_name = "N")]
    pub(crate) partitions: Vec<i32>,

    /// Where to begin: earliest, latest, an offset, -N (N before the end), or @MS
    ///
    /// `-N` are the last N offsets of each partition; transactions and compaction take some of
    /// them. `@MS` is the first record that is not older, in milliseconds since 1970.
    #[arg(
        short, long, value_name = "WHERE", default_value = "earliest", value_parser = start,
        allow_hyphen_values = true
    )]
    pub(crate) offset: Start,

    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) count: Option<u64>,

    /// End once all is read that was there at the beginning
    ///
    /// With read_committed that includes records of transactions which were open then: their ends
    /// are waited for.
    #[arg(short, long)]
    pub(crate) exit: bool,

    /// How a record is printed, with nothing behind it
    #[arg(short, long, value_name = "FORMAT", conflicts_with_all = ["key_delimiter", "delimiter"])]
    pub(crate) format: Option<String>,

    /// Print JSON
    #[arg(
        short = 'J', long,
        conflicts_with_all = ["format", "key_delimiter", "delimiter", "null"]
    )]
    pub(crate) json: bool,

    /// Print the key as well, and this behind it
    #[arg(short = 'K', long, value_name = "DELIM")]
    pub(crate) key_delimiter: Option<String>,

    /// What is printed behind each value
    #[arg(short = 'D', long, value_name = "DELIM", default_value = "\\n")]
    pub(crate) delimiter: String,

    /// What is printed for a key or a value that is null
    #[arg(short = 'Z', long, value_name = "TEXT", default_value = "")]
    pub(crate) null: String,

    /// Whether to read records of transactions that are open or were aborted
    ///
    /// As the property `isolation.level`, which is read_uncommitted by default.
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) isolation_level: Option<Level>,

    /// Say nothing but what fails
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Show more of the client's log; may be repeated
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// Kafka's names of the levels.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Level {
    ReadUncommitted,
    ReadCommitted,
}

impl From<Level> for IsolationLevel {
    fn from(level: Level) -> IsolationLevel {
        match level {
            Level::ReadUncommitted => IsolationLevel::ReadUncommitted,
            Level::ReadCommitted => IsolationLevel::ReadCommitted,
        }
    }
}

/// What `-o` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    At(StartAt),
    /// So many offsets before the end.
    BeforeEnd(u64),
}

fn start(text: &str) -> Result<Start, String> {
    let at = |start| Ok(Start::At(start));
    let wrong = |_| "it is earliest, latest, an offset, -N or @MILLISECONDS".to_owned();
    match (text, text.as_bytes().first()) {
        ("earliest" | "beginning", _) => at(StartAt::Earliest),
        ("latest" | "end", _) => at(StartAt::Latest),
        // Only digits: `--5` is no number here.
        (_, Some(b'-')) => unsigned(&text[1..]).map(Start::BeforeEnd).map_err(wrong),
        (_, Some(b'@')) => signed(&text[1..]).map_err(wrong).and_then(|ms| at(StartAt::Time(ms))),
        _ => signed(text).map_err(wrong).and_then(|offset| at(StartAt::Offset(offset))),
    }
}

/// A number without a sign.
fn unsigned(text: &str) -> Result<u64, ()> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(())
}

/// A number without a sign that Kafka's 64 bits can hold.
fn signed(text: &str) -> Result<i64, ()> {
    unsigned(text).and_then(|number| i64::try_from(number).map_err(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_an_offset_a_distance_or_a_time() {
        for (text, expected) in [
            ("earliest", Start::At(StartAt::Earliest)),
            ("beginning", Start::At(StartAt::Earliest)),
            ("latest", Start::At(StartAt::Latest)),
            ("end", Start::At(StartAt::Latest)),
            ("0", Start::At(StartAt::Offset(0))),
            ("9223372036854775807", Start::At(StartAt::Offset(i64::MAX))),
            ("-5", Start::BeforeEnd(5)),
            ("@1767225600000", Start::At(StartAt::Time(1_767_225_600_000))),
        ] {
            assert_eq!(start(text), Ok(expected), "{text}");
        }
        for wrong in ["", "-", "@", "--5", "+5", "@-5", "5x", "9223372036854775808", "Earliest"] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }
}
