//! The values that are sent.

use std::fs;

use super::options::Options;
use crate::failure::Failure;
use crate::produce::unescape;

/// Values of a random sequence are told by their seed; any will do.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where the next value comes from.
pub(super) enum Payload {
    /// Always the same.
    Fixed(Vec<u8>),
    /// One of these at random.
    Of(Vec<Vec<u8>>, Random),
    /// The record's number.
    Number(String),
}

impl Payload {
    /// # Errors
    /// The file cannot be read or has no value in it; the size cannot be sent.
    pub(super) fn new(options: &Options) -> Result<Payload, Failure> {
        if options.payload_monotonic {
            return Ok(Payload::Number(String::new()));
        }
        if let Some(file) = &options.payload_file {
            let name = file.display();
            let bytes = fs::read(file)
                .map_err(|error| Failure::failed(format_args!("{name} cannot be read: {error}")))?;
            let delimiter = unescape("--payload-delimiter", &options.payload_delimiter)?;
            let values = split(&bytes, &delimiter);
            if values.is_empty() {
                return Err(Failure::usage(format_args!("{name} holds no value")));
            }
            return Ok(Payload::Of(values, Random(SEED)));
        }
        let size = options.record_size.unwrap_or(0);
        if size == 0 {
            return Err(Failure::usage("--record-size: a record has at least one byte"));
        }
        let mut random = Random(SEED);
        let letter = |_| b'A' + (random.next() % 26) as u8;
        Ok(Payload::Fixed((0..size).map(letter).collect()))
    }

    /// The value of record number `index`.
    pub(super) fn value(&mut self, index: u64) -> &[u8] {
        match self {
            Payload::Fixed(value) => value,
            Payload::Of(values, random) => {
                let count = values.len() as u64;
                &values[(random.next() % count) as usize]
            }
            Payload::Number(text) => {
                *text = index.to_string();
                text.as_bytes()
            }
        }
    }
}

/// The parts between delimiters. As in Java's `split`, what would be empty at the end is none.
fn split(bytes: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(delimiter.len()).position(|window| window == delimiter) {
        values.push(rest[..at].to_vec());
        rest = &rest[at + delimiter.len()..];
    }
    values.push(rest.to_vec());
    while values.last().is_some_and(Vec::is_empty) {
        values.pop();
    }
    values
}

/// Numbers that look random: SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_as_kafkas_tool_does() {
        let values = |text: &str| split(text.as_bytes(), b"\n");
        assert_eq!(values("a\n\nb\n\n"), [b"a".to_vec(), Vec::new(), b"b".to_vec()]);
        assert_eq!(values("a"), [b"a".to_vec()]);
        assert!(values("\n\n").is_empty() && values("").is_empty());
    }
}
