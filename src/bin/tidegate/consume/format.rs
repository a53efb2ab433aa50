//! How a record is printed.

use std::fmt::Display;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidegate::{ConsumedBatch, ConsumedRecord};

use crate::failure::Failure;
use crate::produce::unescape;

/// The parts that `-f` knows, for its errors.
const PARTS: &str = "%t, %p, %o, %k, %K, %s, %S, %h, %T and %%";

/// What is printed for a record: parts and text (`-f`, `-K`, `-D`), or JSON (`-J`).
#[derive(Debug)]
pub(crate) enum Format {
    Shape(Shape),
    /// An object for each, on a line of its own, with the names that kcat gives its parts.
    Json,
}

/// Parts of a record, and what stands between them.
#[derive(Debug)]
pub(crate) struct Shape {
    parts: Vec<Part>,
    /// What stands for null.
    null: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Key,
    KeyLength,
    Value,
    ValueLength,
    Headers,
    Timestamp,
}

impl Shape {
    /// The key and what is behind it, if wanted; the value and what is behind that.
    pub(crate) fn line(key_delimiter: Option<Vec<u8>>, delimiter: Vec<u8>, null: &str) -> Shape {
        let key = key_delimiter.map(|delimiter| [Part::Key, Part::Text(delimiter)]);
        let value = [Part::Value, Part::Text(delimiter)];
        Shape { parts: key.into_iter().flatten().chain(value).collect(), null: null.into() }
    }

    /// A format of `-f`.
    ///
    /// # Errors
    /// An escape or a part that does not exist.
    pub(crate) fn parse(text: &str, null: &str) -> Result<Shape, Failure> {
        let wrong =
            |why: &str| Failure::usage(format_args!("-f {text:?}: {why}; the parts are {PARTS}"));
        let between = |text: &str| match text {
            "" => Ok(None),
            text => unescape("-f", text).map(|bytes| Some(Part::Text(bytes))),
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            parts.extend(between(before)?);
            parts.push(match after.chars().next() {
                Some('t') => Part::Topic,
                Some('p') => Part::Partition,
                Some('o') => Part::Offset,
                Some('k') => Part::Key,
                Some('K') => Part::KeyLength,
                Some('s') => Part::Value,
                Some('S') => Part::ValueLength,
                Some('h') => Part::Headers,
                Some('T') => Part::Timestamp,
                Some('%') => Part::Text(b"%".to_vec()),
                Some(other) => return Err(wrong(&format!("there is no %{other}"))),
                None => return Err(wrong("it ends with half a part")),
            });
            // Each of these letters is one byte.
            rest = &after[1..];
        }
        parts.extend(between(rest)?);
        Ok(Shape { parts, null: null.into() })
    }

    fn write(&self, batch: &ConsumedBatch, record: &ConsumedRecord<'_>, line: &mut Vec<u8>) {
        let bytes = |bytes: Option<&[u8]>, line: &mut Vec<u8>| {
            line.extend_from_slice(bytes.unwrap_or(&self.null));
        };
        for part in &self.parts {
            match part {
                Part::Text(text) => line.extend_from_slice(text),
                Part::Topic => line.extend_from_slice(batch.topic().as_bytes()),
                Part::Partition => number(batch.partition(), line),
                Part::Offset => number(record.offset, line),
                Part::Key => bytes(record.key, line),
                Part::KeyLength => number(length(record.key), line),
                Part::Value => bytes(record.value, line),
                Part::ValueLength => number(length(record.value), line),
                Part::Timestamp => number(record.timestamp_ms, line),
                Part::Headers => {
                    for (index, header) in record.headers().enumerate() {
                        if index > 0 {
                            line.push(b',');
                        }
                        line.extend_from_slice(header.key.as_bytes());
                        line.push(b'=');
                        bytes(header.value, line);
                    }
                }
            }
        }
    }
}

impl Format {
    /// Appends a record of a batch to a line.
    pub(crate) fn write(
        &self,
        batch: &ConsumedBatch,
        record: &ConsumedRecord<'_>,
        line: &mut Vec<u8>,
    ) {
        match self {
            Format::Shape(shape) => shape.write(batch, record, line),
            Format::Json => json(batch, record, line),
        }
    }
}

fn json(batch: &ConsumedBatch, record: &ConsumedRecord<'_>, line: &mut Vec<u8>) {
    let time = if batch.is_log_append_time() { "logappend" } else { "create" };
    line.extend_from_slice(b"{\"topic\":");
    string(batch.topic(), line);
    // Writing to a `Vec` does not fail.
    let _ = write!(
        line,
        ",\"partition\":{},\"offset\":{},\"tstype\":\"{time}\",\"ts\":{},\"headers\":[",
        batch.partition(),
        record.offset,
        record.timestamp_ms,
    );
    for (index, header) in record.headers().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        line.extend_from_slice(b"{\"key\":");
        string(header.key, line);
        line.push(b',');
        value("value", header.value, line);
        line.push(b'}');
    }
    line.extend_from_slice(b"],");
    value("key", record.key, line);
    line.push(b',');
    value("payload", record.value, line);
    line.extend_from_slice(b"}\n");
}

/// A member for bytes: their text, or in base64 if they are none.
fn value(name: &str, bytes: Option<&[u8]>, line: &mut Vec<u8>) {
    let (suffix, text) = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => ("", None),
        Some((_, Ok(text))) => ("", Some(text.to_owned())),
        Some((bytes, Err(_))) => ("_base64", Some(STANDARD.encode(bytes))),
    };
    let _ = write!(line, "\"{name}{suffix}\":");
    match text {
        Some(text) => string(&text, line),
        None => line.extend_from_slice(b"null"),
    }
}

fn string(text: &str, line: &mut Vec<u8>) {
    // Neither a string nor a `Vec` gives it a reason to fail.
    let _ = serde_json::to_writer(line, text);
}

fn number(number: impl Display, line: &mut Vec<u8>) {
    let _ = write!(line, "{number}");
}

fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_has_parts_and_text() {
        let parts = |text| Shape::parse(text, "").expect("it is one").parts;
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(parts("%p %o\\n"), [Part::Partition, text(" "), Part::Offset, text("\n")]);
        assert_eq!(parts("100%%%s"), [text("100"), text("%"), Part::Value]);
        assert_eq!(parts("ä"), [text("ä")]);
        assert_eq!(parts(""), []);
        for wrong in ["%", "a%", "%q", "%ä", "\\q"] {
            assert!(Shape::parse(wrong, "").is_err(), "{wrong}");
        }
    }
}
