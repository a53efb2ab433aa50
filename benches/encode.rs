//! What the send path pays for the bytes: encoding a record into a 64 KiB segment, the CRC of the
//! records, and a new header in front of them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::internals::protocol::ProducerIdentity;
use tidegate::internals::protocol::compression::{Compression, Compressor};
use tidegate::internals::protocol::records::{
    BATCH_HEADER_LEN, BatchHeader, RecordParts, RecordSize, encode_contiguous, encode_plain,
    records_crc,
};

const SEGMENT_LEN: usize = 64 * 1024;

/// Fills a segment with records of that value and returns how many fit it.
#[inline(never)]
fn fill(segment: &mut [u8], key: Option<&[u8]>, value: &[u8]) -> u32 {
    let mut at = 0;
    let mut count = 0;
    loop {
        let parts = RecordParts { key, value: Some(value), headers: &[] };
        let timestamp_delta = i64::from(count >> 6);
        let size = RecordSize::of(count, timestamp_delta, &parts).expect("small");
        if segment.len() - at < size.total {
            return count;
        }
        at += encode_contiguous(&mut segment[at..], size, count, timestamp_delta, &parts);
        count += 1;
    }
}

/// The same as most records are written: see `encode_plain`.
#[inline(never)]
fn fill_plain(segment: &mut [u8], key: Option<&[u8]>, value: &[u8]) -> u32 {
    let (mut at, mut count) = (0, 0);
    while let Some(written) =
        encode_plain(&mut segment[at..], count, i64::from(count >> 6), key, Some(value))
    {
        at += written;
        count += 1;
    }
    count
}

fn records(c: &mut Criterion) {
    let mut segment = vec![0; SEGMENT_LEN];
    let mut group = c.benchmark_group("encode");
    for (name, key, len) in [
        ("100 B, null key", None, 100),
        ("100 B, 8 B key", Some(b"customer".as_slice()), 100),
        ("1 KiB, null key", None, 1024),
    ] {
        let value = vec![b'v'; len];
        let count = fill(&mut segment, key, &value);
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(name, |b| {
            b.iter(|| fill(black_box(&mut segment), black_box(key), black_box(&value)))
        });
        let count = fill_plain(&mut segment, key, &value);
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(format!("{name}, plain"), |b| {
            b.iter(|| fill_plain(black_box(&mut segment), black_box(key), black_box(&value)))
        });
    }
    group.finish();
}

fn headers(c: &mut Criterion) {
    let segments = vec![0x5a; 4 * SEGMENT_LEN];
    let mut group = c.benchmark_group("seal");
    group.bench_function("CRC of 256 KiB in 4 segments", |b| {
        b.iter(|| records_crc(black_box(&segments).chunks(SEGMENT_LEN)))
    });
    let crc = records_crc(segments.chunks(SEGMENT_LEN));
    let header = BatchHeader {
        producer: ProducerIdentity { id: 7, epoch: 0 },
        record_count: 2400,
        last_offset_delta: 2399,
        records_len: segments.len() - 21,
        ..BatchHeader::default()
    };
    let mut out = [0; BATCH_HEADER_LEN];
    group.bench_function("header with a combined CRC", |b| {
        b.iter(|| black_box(&header).write(black_box(&mut out), black_box(crc)))
    });
    group.finish();
}

fn compression(c: &mut Criterion) {
    let mut segments = vec![0; 4 * SEGMENT_LEN];
    let text: Vec<u8> =
        (0..60u32).flat_map(|n| (n * 7919 % 1000).to_string().into_bytes()).collect();
    for segment in segments.chunks_mut(SEGMENT_LEN) {
        fill(segment, Some(b"customer"), &text);
    }
    let mut out = vec![0; segments.len()];
    let mut compressor = Compressor::new();
    let mut group = c.benchmark_group("compress 256 KiB");
    group.throughput(Throughput::Bytes(segments.len() as u64));
    for compression in
        [Compression::gzip(), Compression::snappy(), Compression::lz4(), Compression::zstd()]
    {
        group.bench_function(compression.codec().name(), |b| {
            b.iter(|| {
                let pieces = segments.chunks(SEGMENT_LEN - 100);
                compressor.compress(&compression, pieces, segments.len(), &mut out)
            })
        });
    }
    group.finish();
}

criterion_group!(benches, records, headers, compression);
criterion_main!(benches);
