//! No client, but what one thread reaches that encodes records into one request after the other,
//! with their CRC, and writes it to a blocking socket: no queue, no deliveries, no idempotence, no
//! faults. It copies the values, as clients do. A client with a thread for each of the two could
//! exceed it.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

use crc_fast::{CrcAlgorithm, Digest};

use crate::measure::{Measured, Stopwatch};
use crate::settings::{Settings, TOPIC};

/// Produce.
const API_KEY: i16 = 0;
/// Its last version without compact lengths.
const API_VERSION: i16 = 8;
/// Requests that wait for their answers, at most: as many as Kafka's clients have by default.
const IN_FLIGHT_MAX: u64 = 5;
/// Bytes of the records of one batch, about.
const BATCH_BYTES: usize = 64 * 1024;
/// A batch's bytes before its records.
const BATCH_HEAD: usize = 61;
/// Where in a batch its length stands.
const LENGTH_AT: usize = 8;
/// The length counts what comes from here on.
const LENGTH_FROM: usize = 12;
/// Where the CRC stands.
const CRC_AT: usize = 17;
/// The CRC covers what comes from here on.
const COVERED_FROM: usize = 21;

pub fn run(settings: &Settings, bootstrap: &str) -> Result<Measured, Box<dyn Error>> {
    let value = settings.value();
    let mut limit = Limit::new(bootstrap, settings.partitions as usize)?;
    // As the other clients: one record for each partition before the measurement begins.
    limit.send(&value, 1, settings.partitions as u64)?;
    limit.finish()?;
    limit.acked = 0;
    let stopwatch = Stopwatch::start();
    let in_batch = (BATCH_BYTES / (value.len() + 10)).max(1) as u64;
    let mut left = settings.records;
    while left > 0 {
        let now = left.min(in_batch * settings.partitions as u64);
        limit.send(&value, in_batch, now)?;
        left -= now;
    }
    limit.finish()?;
    Ok(stopwatch.stop(limit.acked, 0))
}

struct Limit {
    stream: TcpStream,
    partitions: usize,
    request: Vec<u8>,
    response: Vec<u8>,
    /// Records of the requests that are not answered, oldest first.
    in_flight: std::collections::VecDeque<u64>,
    acked: u64,
}

impl Limit {
    fn new(bootstrap: &str, partitions: usize) -> Result<Limit, Box<dyn Error>> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        let (request, response) = (Vec::with_capacity(4 << 20), Vec::new());
        let in_flight = std::collections::VecDeque::new();
        Ok(Limit { stream, partitions, request, response, in_flight, acked: 0 })
    }

    /// Sends one request with so many records, at most `in_batch` to each partition.
    fn send(&mut self, value: &[u8], in_batch: u64, records: u64) -> Result<(), Box<dyn Error>> {
        let batches = records.div_ceil(in_batch) as usize;
        assert!(batches <= self.partitions, "one batch for each partition");
        let out = &mut self.request;
        out.clear();
        out.extend([0; 4]);
        [API_KEY, API_VERSION].iter().for_each(|number| out.extend(number.to_be_bytes()));
        out.extend(0_i32.to_be_bytes()); // correlation id
        put_string(out, "raw");
        out.extend((-1_i16).to_be_bytes()); // no transaction
        out.extend((-1_i16).to_be_bytes()); // acks=all
        out.extend(30_000_i32.to_be_bytes());
        out.extend(1_i32.to_be_bytes());
        put_string(out, TOPIC);
        out.extend((batches as i32).to_be_bytes());
        let mut left = records;
        for partition in 0..batches {
            out.extend((partition as i32).to_be_bytes());
            put_batch(out, value, left.min(in_batch) as u32);
            left -= left.min(in_batch);
        }
        let len = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&len.to_be_bytes());
        if self.in_flight.len() as u64 == IN_FLIGHT_MAX {
            self.receive()?;
        }
        self.stream.write_all(&self.request)?;
        self.in_flight.push_back(records);
        Ok(())
    }

    /// Waits for the oldest answer.
    fn receive(&mut self) -> Result<(), Box<dyn Error>> {
        let mut len = [0; 4];
        self.stream.read_exact(&mut len)?;
        self.response.resize(i32::from_be_bytes(len) as usize, 0);
        self.stream.read_exact(&mut self.response)?;
        // Correlation id, number of topics, the topic's name, number of partitions.
        let at = 4 + 4 + 2 + TOPIC.len();
        let partitions = i32_at(&self.response, at);
        // Index, error, three numbers of 64 bits, no record errors, no message.
        const ANSWER_LEN: usize = 4 + 2 + 3 * 8 + 4 + 2;
        for answer in self.response[at + 4..].chunks(ANSWER_LEN).take(partitions as usize) {
            if answer[4..6] != [0, 0] {
                return Err(format!("the broker answered error {}", answer[5]).into());
            }
        }
        self.acked += self.in_flight.pop_front().ok_or("an answer to nothing")?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        while !self.in_flight.is_empty() {
            self.receive()?;
        }
        Ok(())
    }
}

/// A batch with its length in front.
fn put_batch(out: &mut Vec<u8>, value: &[u8], records: u32) {
    let length_at = out.len();
    out.extend([0; 4]);
    let start = out.len();
    out.resize(start + BATCH_HEAD, 0);
    // What a record can take at most besides its value.
    let mut at = out.len();
    out.resize(at + records as usize * (value.len() + 24), 0);
    for offset in 0..records {
        at = put_record(out, at, value, offset);
    }
    out.truncate(at);
    let batch = &mut out[start..];
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    let length = (batch.len() - LENGTH_FROM) as i32;
    batch[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2; // the format's version
    batch[23..27].copy_from_slice(&(records as i32 - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&now.to_be_bytes());
    batch[35..43].copy_from_slice(&now.to_be_bytes());
    batch[43..57].fill(0xff); // no producer id, epoch and sequence
    batch[57..61].copy_from_slice(&(records as i32).to_be_bytes());
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&batch[COVERED_FROM..]);
    let crc = digest.finalize() as u32;
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    let length = (out.len() - start) as i32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Writes a record without key and headers at `at`; returns the position behind it.
#[inline(always)]
fn put_record(out: &mut [u8], at: usize, value: &[u8], offset: u32) -> usize {
    let rest = varint_len(offset << 1) + varint_len((value.len() as u32) << 1) + value.len();
    // Attributes, timestamp delta, null key and no headers take a byte each.
    let at = put_varint(out, at, (rest as u32 + 4) << 1);
    out[at..at + 2].fill(0);
    let at = put_varint(out, at + 2, offset << 1);
    out[at] = 1;
    let at = put_varint(out, at + 1, (value.len() as u32) << 1);
    out[at..at + value.len()].copy_from_slice(value);
    out[at + value.len()] = 0;
    at + value.len() + 1
}

fn varint_len(raw: u32) -> usize {
    (31 - (raw | 1).leading_zeros() as usize) / 7 + 1
}

#[inline(always)]
fn put_varint(out: &mut [u8], mut at: usize, mut raw: u32) -> usize {
    while raw >= 0x80 {
        out[at] = raw as u8 | 0x80;
        raw >>= 7;
        at += 1;
    }
    out[at] = raw as u8;
    at + 1
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
