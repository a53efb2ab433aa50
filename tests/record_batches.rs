//! Record batches against Apache Kafka's own classes (golden bytes, tests/golden) and against the
//! `kafka-protocol` crate.

use std::fmt::Write as _;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as other;
use proptest::prelude::*;
use tidegate::internals::protocol::ProducerIdentity;
use tidegate::internals::protocol::compression::{Codec, Compression, Compressor};
use tidegate::internals::protocol::records::{
    BATCH_HEADER_LEN, BatchHeader, Header, RecordBatchReader, RecordParts, RecordSize,
    TimestampType, encode_contiguous, encode_spanning, max_size, records_crc,
};

const DECOMPRESSED_MAX: usize = 1 << 20;

/// A record with its own memory.
#[derive(Clone, Debug, PartialEq)]
struct OwnedRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A batch as the golden file describes it.
#[derive(Clone, Debug)]
struct OwnedBatch {
    codec: Codec,
    producer: ProducerIdentity,
    base_sequence: i32,
    transactional: bool,
    records: Vec<OwnedRecord>,
}

/// Encodes the records as a lane does, in segments of `segment_len` bytes, compresses them if the
/// batch names a codec, and puts the header in front.
fn encode(batch: &OwnedBatch, segment_len: usize, compressor: &mut Compressor) -> Vec<u8> {
    let base_timestamp = batch.records.first().map_or(-1, |record| record.timestamp);
    let mut records = Vec::new();
    for (offset_delta, record) in batch.records.iter().enumerate() {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        let parts = RecordParts {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let offset_delta = offset_delta as u32;
        let timestamp_delta = record.timestamp.wrapping_sub(base_timestamp);
        let size = RecordSize::of(offset_delta, timestamp_delta, &parts).expect("far below 2 GiB");
        let (key_len, value_len) = (parts.key.map(<[u8]>::len), parts.value.map(<[u8]>::len));
        assert!(size.total <= max_size(key_len, value_len, &headers));
        let mut contiguous = vec![0; size.total];
        encode_contiguous(&mut contiguous, size, offset_delta, timestamp_delta, &parts);
        let start = records.len();
        records.resize(start + size.total, 0);
        let pieces = records[start..].chunks_mut(segment_len);
        encode_spanning(pieces, size, offset_delta, timestamp_delta, &parts);
        assert!(records[start..] == contiguous);
    }
    let mut codec = Codec::None;
    if batch.codec != Codec::None {
        let mut out = vec![0; records.len()];
        let pieces = records.chunks(segment_len);
        let compression = Compression::from(batch.codec);
        if let Some(len) = compressor.compress(&compression, pieces, records.len(), &mut out) {
            out.truncate(len);
            records = out;
            codec = batch.codec;
        }
    }
    let header = BatchHeader {
        codec,
        transactional: batch.transactional,
        last_offset_delta: batch.records.len() as i32 - 1,
        base_timestamp,
        max_timestamp: batch.records.iter().map(|record| record.timestamp).max().unwrap_or(-1),
        producer: batch.producer,
        base_sequence: batch.base_sequence,
        record_count: batch.records.len() as u32,
        records_len: records.len(),
        ..BatchHeader::default()
    };
    let mut front = [0; BATCH_HEADER_LEN];
    header.write(&mut front, records_crc(records.chunks(segment_len)));
    [&front[..], &records].concat()
}

/// Reads a batch back; asserts what every producer's batch has in common.
fn decode(bytes: &[u8]) -> OwnedBatch {
    let (reader, rest) = RecordBatchReader::read(bytes, DECOMPRESSED_MAX).expect("well-formed");
    assert!(rest.is_empty());
    let header = reader.header();
    let records: Vec<_> = reader
        .records()
        .enumerate()
        .map(|(index, record)| {
            let record = record.expect("well-formed");
            assert_eq!(record.offset, index as i64);
            let headers = record
                .headers
                .map(|Header { key, value }| (key.to_owned(), value.map(<[u8]>::to_vec)));
            OwnedRecord {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers.collect(),
            }
        })
        .collect();
    assert_eq!(header.base_offset, 0);
    assert_eq!(header.partition_leader_epoch, -1);
    assert_eq!(header.timestamp_type, TimestampType::CreateTime);
    assert_eq!(header.last_offset_delta, records.len() as i32 - 1);
    let max_timestamp = records.iter().map(|record| record.timestamp).max();
    assert_eq!(Some(header.max_timestamp), max_timestamp);
    OwnedBatch {
        codec: header.codec,
        producer: header.producer,
        base_sequence: header.base_sequence,
        transactional: header.transactional,
        records,
    }
}

/// The golden file's batches, each with Kafka's bytes.
fn golden() -> Vec<(OwnedBatch, Vec<u8>)> {
    let text = include_str!("golden/batches.txt");
    let mut batches = Vec::new();
    let mut batch = None;
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        match (words.as_slice(), &mut batch) {
            (["batch", codec, id, epoch, sequence, transactional], open @ None) => {
                *open = Some(OwnedBatch {
                    codec: Codec::from_name(codec).expect("Kafka's name"),
                    producer: ProducerIdentity {
                        id: id.parse().expect("a number"),
                        epoch: epoch.parse().expect("a number"),
                    },
                    base_sequence: sequence.parse().expect("a number"),
                    transactional: transactional.parse().expect("true or false"),
                    records: Vec::new(),
                });
            }
            (["record", timestamp, key, value, headers @ ..], Some(batch)) => {
                let header = |header: &&str| {
                    let (key, value) = header.split_once('=').expect("KEY=VALUE");
                    let key = parse(key).expect("not null");
                    (String::from_utf8(key).expect("UTF-8"), parse(value))
                };
                batch.records.push(OwnedRecord {
                    timestamp: timestamp.parse().expect("a number"),
                    key: parse(key),
                    value: parse(value),
                    headers: headers.iter().map(header).collect(),
                });
            }
            (["bytes", bytes], batch) => {
                let batch = batch.take().expect("a batch was begun");
                batches.push((batch, parse(bytes).expect("not null")));
            }
            _ => panic!("not a line of this file: {line}"),
        }
    }
    batches
}

/// `null`, `-` for empty, `HEX` or `HEX*TIMES`.
fn parse(word: &str) -> Option<Vec<u8>> {
    if word == "null" || word == "-" {
        return (word == "-").then(Vec::new);
    }
    let (hex, times) = match word.split_once('*') {
        Some((hex, times)) => (hex, times.parse().expect("a number")),
        None => (word, 1),
    };
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let once: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    Some(once.repeat(times))
}

fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some([]) => "-".to_owned(),
        Some(bytes) => bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").expect("to memory");
            out
        }),
    }
}

#[test]
fn c33_uncompressed_batches_are_byte_for_byte_kafkas() {
    let mut compared = 0;
    for (batch, bytes) in golden() {
        if batch.codec == Codec::None {
            assert_eq!(hex(Some(&encode(&batch, 64, &mut Compressor::new()))), hex(Some(&bytes)));
            compared += 1;
        }
    }
    assert_eq!(compared, 6);
}

#[test]
fn kafkas_batches_are_read_in_every_codec() {
    let mut seen = [0; Codec::ALL.len()];
    for (batch, bytes) in golden() {
        let read = decode(&bytes);
        assert_eq!(read.codec, batch.codec);
        assert_eq!(read.producer, batch.producer);
        assert_eq!(read.base_sequence, batch.base_sequence);
        assert_eq!(read.transactional, batch.transactional);
        assert!(read.records == batch.records, "{batch:?}");
        seen[usize::from(batch.codec.id())] += 1;
    }
    assert!(seen.iter().all(|count| *count >= 5), "{seen:?}");
}

/// Writes the golden file's batches as this crate makes them, for Kafka's own reader to check: see
/// the head of tests/golden/BatchGolden.java.
#[test]
fn our_batches_return_and_are_written_for_kafka_to_check() {
    let mut out = String::new();
    let mut compressor = Compressor::new();
    for (batch, _) in golden() {
        for segment_len in [1000, 65_536] {
            let bytes = encode(&batch, segment_len, &mut compressor);
            let read = decode(&bytes);
            assert!(read.records == batch.records, "{batch:?}");
            describe(&mut out, &OwnedBatch { codec: read.codec, ..batch.clone() }, &bytes);
        }
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tidegate-batches.txt");
    std::fs::write(file, out).expect("the target directory can be written");
}

fn describe(out: &mut String, batch: &OwnedBatch, bytes: &[u8]) {
    let OwnedBatch { codec, producer, base_sequence, transactional, records } = batch;
    let (id, epoch) = (producer.id, producer.epoch);
    writeln!(out, "batch {codec} {id} {epoch} {base_sequence} {transactional}").expect("memory");
    for record in records {
        let (key, value) = (hex(record.key.as_deref()), hex(record.value.as_deref()));
        write!(out, "record {} {key} {value}", record.timestamp).expect("memory");
        for (key, value) in &record.headers {
            let (key, value) = (hex(Some(key.as_bytes())), hex(value.as_deref()));
            write!(out, " {key}={value}").expect("memory");
        }
        out.push('\n');
    }
    writeln!(out, "bytes {}", hex(Some(bytes))).expect("memory");
}

#[test]
fn a_batch_of_zeros_does_not_take_more_memory_than_allowed() {
    let zeros = OwnedRecord {
        timestamp: 1,
        key: None,
        value: Some(vec![0; DECOMPRESSED_MAX]),
        headers: Vec::new(),
    };
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = OwnedBatch {
            codec,
            producer: ProducerIdentity::NONE,
            base_sequence: -1,
            transactional: false,
            records: vec![zeros.clone()],
        };
        let bytes = encode(&batch, 65_536, &mut Compressor::new());
        assert!(RecordBatchReader::read(&bytes, DECOMPRESSED_MAX + 100).is_ok());
        let error = RecordBatchReader::read(&bytes, DECOMPRESSED_MAX).expect_err("too large");
        assert!(error.to_string().contains("1048576"), "{codec}: {error}");
    }
}

/// What the other codec decodes, as ours.
fn decode_with_other(bytes: &[u8]) -> OwnedBatch {
    let mut bytes = Bytes::copy_from_slice(bytes);
    let set = other::RecordBatchDecoder::decode(&mut bytes).expect("well-formed");
    let first = set.records.first().expect("not empty").clone();
    OwnedBatch {
        codec: Codec::None,
        producer: ProducerIdentity { id: first.producer_id, epoch: first.producer_epoch },
        base_sequence: first.sequence,
        transactional: first.transactional,
        records: set
            .records
            .into_iter()
            .map(|record| OwnedRecord {
                timestamp: record.timestamp,
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
                headers: record
                    .headers
                    .into_iter()
                    .map(|(key, value)| (key.to_string(), value.map(|value| value.to_vec())))
                    .collect(),
            })
            .collect(),
    }
}

fn encode_with_other(batch: &OwnedBatch) -> Vec<u8> {
    let records: Vec<_> = batch
        .records
        .iter()
        .zip(0..)
        .map(|(record, index)| other::Record {
            transactional: batch.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: batch.producer.id,
            producer_epoch: batch.producer.epoch,
            timestamp_type: other::TimestampType::Creation,
            offset: i64::from(index),
            sequence: batch.base_sequence.wrapping_add(index),
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| {
                    (StrBytes::from_string(key.clone()), value.clone().map(Bytes::from))
                })
                .collect(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = other::RecordEncodeOptions { version: 2, compression: other::Compression::None };
    other::RecordBatchEncoder::encode(&mut out, &records, &options).expect("encodable");
    out.to_vec()
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    // The other codec keeps one header for each key only, hence a map.
    let headers = proptest::collection::btree_map("[a-zü]{0,12}", any_bytes(), 0..4);
    (0..1i64 << 45, any_bytes(), any_bytes(), headers).prop_map(
        |(timestamp, key, value, headers)| OwnedRecord {
            timestamp,
            key,
            value,
            headers: headers.into_iter().collect(),
        },
    )
}

fn any_batch() -> impl Strategy<Value = OwnedBatch> {
    let records = proptest::collection::vec(any_record(), 1..40);
    let identity = (0..i64::MAX, 0..i16::MAX, 0..i32::MAX - 100);
    let codec = proptest::sample::select(Codec::ALL.to_vec());
    (codec, identity, any::<bool>(), records).prop_map(
        |(codec, (id, epoch, base_sequence), transactional, records)| OwnedBatch {
            codec,
            producer: ProducerIdentity { id, epoch },
            base_sequence,
            transactional,
            records,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_returns_in_any_codec(batch in any_batch(), segment_len in 1..5000usize) {
        let read = decode(&encode(&batch, segment_len, &mut Compressor::new()));
        prop_assert_eq!(read.records, batch.records);
        prop_assert_eq!(read.producer, batch.producer);
        prop_assert_eq!(read.base_sequence, batch.base_sequence);
    }

    #[test]
    fn the_other_codec_reads_what_ours_writes_and_ours_what_it_writes(batch in any_batch()) {
        let batch = OwnedBatch { codec: Codec::None, ..batch };
        let ours = encode(&batch, 1000, &mut Compressor::new());
        for read in [decode_with_other(&ours), decode(&encode_with_other(&batch))] {
            prop_assert_eq!(&read.records, &batch.records);
            prop_assert_eq!(read.producer, batch.producer);
            prop_assert_eq!(read.base_sequence, batch.base_sequence);
            prop_assert_eq!(read.transactional, batch.transactional);
        }
    }
}
