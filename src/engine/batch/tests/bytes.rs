//! What a batch looks like on the wire.

use super::*;
use crate::engine::protocol::compression::{Codec, Compression, Compressor};
use crate::engine::protocol::records::{BATCH_HEADER_LEN, Header, RecordFormat};

fn single(bench: &Bench, head: &mut LaneHead) -> Box<Batch> {
    head.tail.try_seal();
    let batch = drain(head);
    assert!(bench.pool().free_bytes() < bench.pool().capacity());
    batch
}

#[test]
fn c33_to_c36_the_bytes_hold_what_was_appended() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    let headers = [
        Header { key: "h", value: Some(b"1") },
        Header { key: "null", value: None },
        Header { key: "h", value: Some(b"") },
    ];
    let records: [(i64, RecordParts<'_>); 3] = [
        (1_000, RecordParts { key: Some(b"k"), value: None, headers: &headers }),
        (900, RecordParts { key: None, value: Some(b""), headers: &[] }),
        (1_500, RecordParts { key: Some(b""), value: Some(b"v"), headers: &[] }),
    ];
    for (timestamp, parts) in &records {
        bench.append_parts(&head.tail, *timestamp, parts).expect("there is room");
    }
    let mut batch = single(&bench, &mut head);
    let bytes = wire(&mut batch);
    assert_eq!(bytes.len(), batch.len());
    let (reader, rest) = RecordBatchReader::read(&bytes, 0).expect("its CRC and lengths hold");
    assert!(rest.is_empty());
    let header = reader.header();
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_500));
    assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
    assert_eq!((header.producer, header.base_sequence), (identity(7, 0), 0));
    for (read, (timestamp, parts)) in reader.records().zip(&records) {
        let read = read.expect("it can be read");
        assert_eq!((read.key, read.value, read.timestamp), (parts.key, parts.value, *timestamp));
        let headers: Vec<_> = read.headers.collect();
        assert_eq!(headers, parts.headers);
    }
}

#[test]
fn a_new_number_changes_the_header_and_nothing_else() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    drop(bench.append(&head.tail, b"value"));
    let mut batch = single(&bench, &mut head);
    let before = wire(&mut batch);
    batch.set_number(identity(7, 3), 5);
    let after = wire(&mut batch);
    assert_eq!(before[BATCH_HEADER_LEN..], after[BATCH_HEADER_LEN..]);
    let (reader, _) = RecordBatchReader::read(&after, 0).expect("its CRC was combined anew");
    assert_eq!((reader.header().producer, reader.header().base_sequence), (identity(7, 3), 5));
    batch.set_number(identity(7, 0), 0);
    assert_eq!(wire(&mut batch), before);
}

#[test]
fn c37_compressed_records_replace_the_plain_ones_and_surplus_segments_return() {
    let bench = Bench::new(1 << 22, 1 << 20);
    let mut head = bench.led_head();
    let sent: Vec<Vec<u8>> = (0..3_000).map(|i| format!("value {i:0100}").into_bytes()).collect();
    for value in &sent {
        bench.append(&head.tail, value).expect("there is room");
    }
    let mut batch = single(&bench, &mut head);
    assert!(batch.links().len() > 3, "the records span several segments");
    let (held, plain_len) = (batch.segment_bytes(), batch.len() - BATCH_HEADER_LEN);
    let mut scratch = vec![0; plain_len];
    let len = Compressor::new()
        .compress(&Compression::lz4(), batch.record_slices(), plain_len, &mut scratch)
        .expect("it compresses well");
    let free = bench.pool().free_bytes();
    batch.replace_records(Codec::Lz4, RecordFormat::Batch, &scratch[..len]);
    assert_eq!(batch.len(), BATCH_HEADER_LEN + len);
    assert!(batch.segment_bytes() < held);
    assert_eq!(bench.pool().free_bytes() - free, held - batch.segment_bytes());
    assert_eq!(values(&mut batch), sent);
    let bytes = wire(&mut batch);
    let (reader, _) = RecordBatchReader::read(&bytes, 1 << 20).expect("it can be read");
    assert_eq!(reader.header().codec, Codec::Lz4);
    drop((batch, head));
    bench.assert_all_free();
}

#[test]
#[should_panic(expected = "only a shorter form replaces")]
fn a_longer_form_never_replaces() {
    let bench = Bench::new(1 << 20, 1 << 14);
    let mut head = bench.led_head();
    drop(bench.append(&head.tail, b"value"));
    let mut batch = single(&bench, &mut head);
    let longer = vec![0; batch.len()];
    batch.replace_records(Codec::Lz4, RecordFormat::Batch, &longer);
}
