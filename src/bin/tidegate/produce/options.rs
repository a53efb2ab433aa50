//! The arguments of `tidegate produce`.

use std::path::PathBuf;

use clap::Args;

use crate::connect::Connect;
use crate::failure::Failure;

/// The arguments of `tidegate produce`, as given.
#[derive(Args)]
#[command(after_help = "\
Without FILE, every line of the standard input is a record. Records are bytes: they need not be
text. With FILE, each file is one record; with -l every line of each file is one.

Delimiters may have the escapes \\n, \\r, \\t, \\0, \\\\ and \\xHH.

Examples:
  echo 'customer-42:paid' | tidegate produce -b localhost:9092 -t orders -K :
  tidegate produce -b localhost:9092 -t pages -z zstd -H type=html index.html about.html
  tail -F app.log | tidegate produce -F producer.properties -t logs -k \"$HOSTNAME\"

Ctrl-C ends the reading, waits up to 10 s for what was read, and says what was not sent. A second
one ends the command at once.")]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) connect: Connect,

    /// The topic
    #[arg(short, long)]
    pub(crate) topic: String,

    /// Files to send, in order
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Send the lines of the files, not each file as a whole
    #[arg(short, long, requires = "files")]
    pub(crate) lines: bool,

    /// What ends the key in a line; a line without it has no key
    #[arg(short = 'K', long, value_name = "DELIM")]
    pub(crate) key_delimiter: Option<String>,

    /// What ends a record
    #[arg(short = 'D', long, value_name = "DELIM", default_value = "\\n")]
    pub(crate) delimiter: String,

    /// The key of all records that have none of their own
    #[arg(short, long)]
    pub(crate) key: Option<String>,

    /// A header of all records; may be repeated. NAME alone: its value is null
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,

    /// The partition of all records. Default: by key, or spread evenly
    #[arg(short, long)]
    pub(crate) partition: Option<i32>,

    /// Send an empty value or key as null
    #[arg(short = 'Z', long)]
    pub(crate) null: bool,

    /// Compression: none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC")]
    pub(crate) compression: Option<String>,

    /// How many replicas must have a record: all, 1 or 0
    #[arg(long, value_name = "ACKS", allow_hyphen_values = true)]
    pub(crate) acks: Option<String>,

    /// Say nothing but what fails
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print where each record was written; -vv and -vvv: more of the client's log
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// A text with escapes, as bytes.
///
/// # Errors
/// An escape that is none, or nothing at all.
pub(crate) fn unescape(option: &str, text: &str) -> Result<Vec<u8>, Failure> {
    let wrong = |why| Err(Failure::usage(format_args!("{option} {text:?}: {why}")));
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, length) = match rest {
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => return wrong("\\x needs two hexadecimal digits"),
            },
            [b'x', ..] => return wrong("\\x needs two hexadecimal digits"),
            _ => return wrong("the escapes are \\n, \\r, \\t, \\0, \\\\ and \\xHH"),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    if bytes.is_empty() {
        return wrong("a delimiter has at least one byte");
    }
    Ok(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        for (text, bytes) in [
            ("\\n", &b"\n"[..]),
            ("\\t|\\0", b"\t|\0"),
            ("\\x1f\\xFF", &[0x1f, 0xff]),
            ("\\\\n", b"\\n"),
            ("ä", "ä".as_bytes()),
        ] {
            assert_eq!(unescape("-D", text).expect("it is one"), bytes, "{text}");
        }
        for wrong in ["", "\\", "\\x1", "\\xg0", "\\q"] {
            assert!(unescape("-D", wrong).is_err(), "{wrong}");
        }
    }
}
