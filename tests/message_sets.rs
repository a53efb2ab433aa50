//! Message sets against those that Kafka's own clients made when brokers took them (golden bytes,
//! `golden/message_sets.txt`, made by `MessageSetGolden.java`).

use tidegate::internals::protocol::compression::{
    Codec, Compression, Compressor, decompress, use_lz4_header_of_magic_0,
};
use tidegate::internals::protocol::records::{
    MessageRun, MessageSetChunks, MessageSetCursor, MessageSource, RecordFormat, RecordParts,
    RecordSize, Records, encode_contiguous, read_messages, records_of_message_set,
};

const DECOMPRESSED_MAX: usize = 1 << 20;
/// Before a message's CRC.
const OFFSET_AND_SIZE: usize = 8 + 4;

type Record = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

struct Golden {
    format: RecordFormat,
    codec: Codec,
    records: Vec<Record>,
    bytes: Vec<u8>,
}

fn unhex(text: &str) -> Vec<u8> {
    let (digits, times) = text.split_once('*').map_or((text, 1), |(digits, times)| {
        (digits, times.parse().expect("a number of repetitions"))
    });
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect::<Vec<_>>().repeat(times)
}

fn nullable(text: &str) -> Option<Vec<u8>> {
    match text {
        "null" => None,
        "-" => Some(Vec::new()),
        hex => Some(unhex(hex)),
    }
}

fn golden() -> Vec<Golden> {
    let mut sets: Vec<Golden> = Vec::new();
    for line in include_str!("golden/message_sets.txt").lines() {
        let words: Vec<_> = line.split(' ').collect();
        match (words[0], sets.last_mut()) {
            ("set", _) => {
                let format = match words[1] {
                    "0" => RecordFormat::MessagesV0,
                    _ => RecordFormat::MessagesV1,
                };
                let codec = Codec::from_name(words[2]).expect("a codec");
                sets.push(Golden { format, codec, records: Vec::new(), bytes: Vec::new() });
            }
            ("record", Some(set)) => {
                let timestamp = words[1].parse().expect("a timestamp");
                set.records.push((timestamp, nullable(words[2]), nullable(words[3])));
            }
            ("bytes", Some(set)) => set.bytes = unhex(words[1]),
            _ => panic!("what is this line: {line}"),
        }
    }
    sets
}

/// The records as a batch holds them, and its base timestamp.
fn encoded(records: &[Record]) -> (Vec<u8>, i64) {
    let base = records[0].0;
    let mut bytes = Vec::new();
    for (place, (timestamp, key, value)) in records.iter().enumerate() {
        let parts = RecordParts { key: key.as_deref(), value: value.as_deref(), headers: &[] };
        let (place, delta) = (place as u32, timestamp - base);
        let size = RecordSize::of(place, delta, &parts).expect("small");
        let at = bytes.len();
        bytes.resize(at + size.total, 0);
        encode_contiguous(&mut bytes[at..], size, place, delta, &parts);
    }
    (bytes, base)
}

fn source<'a>(
    slices: impl Iterator<Item = &'a [u8]> + Clone,
    set: &Golden,
    codec: Codec,
) -> MessageSource<impl Iterator<Item = &'a [u8]> + Clone> {
    let timestamps = set.records.iter().map(|record| record.0);
    MessageSource {
        slices,
        records: set.records.len() as u32,
        codec: codec.id(),
        base_timestamp: set.records[0].0,
        max_timestamp: timestamps.max().expect("records"),
    }
}

fn written<'a>(
    source: &MessageSource<impl Iterator<Item = &'a [u8]> + Clone>,
    format: RecordFormat,
) -> Vec<u8> {
    let (mut cursor, mut out) = (MessageSetCursor::default(), Vec::new());
    assert!(cursor.write(source, format, &mut out, DECOMPRESSED_MAX));
    out
}

/// The same messages with the offsets 0, 1, 2 and so on. Brokers give a plain set's messages their
/// offsets, so clients of that time wrote none, or any.
fn with_offsets(set: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (set.to_vec(), 0);
    for offset in 0_u64.. {
        let Some(front) = out.get_mut(at..at + OFFSET_AND_SIZE) else { break };
        front[..8].copy_from_slice(&offset.to_be_bytes());
        at += OFFSET_AND_SIZE + u32::from_be_bytes(front[8..].try_into().expect("4")) as usize;
    }
    assert_eq!(at, out.len(), "whole messages");
    out
}

/// The value of a set that is one message without key.
fn value_of(wrapper: &[u8], format: RecordFormat) -> &[u8] {
    let head = match format {
        RecordFormat::MessagesV0 => OFFSET_AND_SIZE + 4 + 2 + 4 + 4,
        _ => OFFSET_AND_SIZE + 4 + 2 + 8 + 4 + 4,
    };
    &wrapper[head..]
}

#[test]
fn plain_sets_are_those_of_kafkas_clients() {
    let mut seen = 0;
    for set in golden().iter().filter(|set| set.codec == Codec::None) {
        let (records, base) = encoded(&set.records);
        let ours = written(&source(records.chunks(7), set, Codec::None), set.format);
        assert!(ours == with_offsets(&set.bytes), "{:?}", set.records);
        let back = records_of_message_set(&ours, set.format, base).expect("our own");
        assert!(back == records);
        seen += 1;
    }
    assert!(seen >= 10, "{seen} sets");
}

#[test]
fn compressed_sets_are_wrapped_as_kafkas_clients_wrap_them() {
    let mut seen = 0;
    for set in golden().iter().filter(|set| set.codec != Codec::None) {
        let theirs = value_of(&set.bytes, set.format);
        // Their compressed bytes in our wrapper.
        let ours = written(&source(theirs.chunks(11), set, set.codec), set.format);
        assert!(ours == set.bytes, "{:?} {}", set.format, set.codec);
        // What they compressed.
        let inner = decompress(set.codec, theirs, DECOMPRESSED_MAX).expect("Kafka's own");
        let (records, _) = encoded(&set.records);
        let plain = written(&source(records.chunks(7), set, Codec::None), set.format);
        // Kafka 0.9 left the inner offsets to the broker as well; 0.10 relies on them (KIP-31).
        let inner = match set.format {
            RecordFormat::MessagesV0 => with_offsets(&inner),
            _ => inner,
        };
        assert!(plain == inner, "{:?} {}", set.format, set.codec);
        seen += 1;
    }
    assert!(seen >= 20, "{seen} sets");
}

/// As a broker keeps them: in magic 0 it numbers the messages within a compressed one anew.
#[test]
fn what_kafkas_clients_wrote_is_read() {
    let mut seen = 0;
    for set in golden() {
        let last = set.records.len() as u64 - 1;
        let mut bytes = set.bytes.clone();
        let first = match (set.codec, set.format) {
            (Codec::None, _) => {
                bytes = with_offsets(&bytes);
                0
            }
            (_, RecordFormat::MessagesV0) => continue,
            (..) => {
                bytes[..8].copy_from_slice(&(100 + last).to_be_bytes());
                100
            }
        };
        let run = MessageRun::at_front(&bytes).expect("Kafka's own");
        assert_eq!((run.len, run.last_offset), (bytes.len(), first + last as i64));
        let (header, plain) = read_messages(&bytes, DECOMPRESSED_MAX).expect("Kafka's own");
        let records: Vec<_> =
            Records::of_plain(&header, &plain).collect::<Result<_, _>>().expect("good records");
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let read = records.iter().map(|it| (it.timestamp, owned(it.key), owned(it.value)));
        assert!(read.eq(set.records.iter().cloned()), "{:?} {}", set.format, set.codec);
        assert!(records.iter().map(|it| it.offset).eq(first..=first + last as i64));
        seen += 1;
    }
    assert!(seen >= 20, "{seen} sets");
}

#[test]
fn lz4_frames_begin_as_those_of_kafkas_clients() {
    let mut seen = 0;
    for set in golden().iter().filter(|set| set.codec == Codec::Lz4) {
        let (records, _) = encoded(&set.records);
        let plain = source(records.chunks(7), set, Codec::None);
        let len = plain.survey(set.format).len;
        let mut out = vec![0; len];
        let chunks = MessageSetChunks::new(plain, set.format);
        let made = Compressor::new().compress(&Compression::lz4(), chunks, len, &mut out);
        let Some(made) = made else { continue };
        if set.format == RecordFormat::MessagesV0 {
            use_lz4_header_of_magic_0(&mut out[..made]);
        }
        let theirs = value_of(&set.bytes, set.format);
        assert_eq!(out[..7], theirs[..7], "{:?}", set.format);
        seen += 1;
    }
    assert!(seen >= 2, "{seen} frames");
}
