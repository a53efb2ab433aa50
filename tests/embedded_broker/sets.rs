//! Message sets made by hand, and produce requests that carry them.

use std::io::{self, Write};

use bytes::{Buf, Bytes};

use crate::client::Client;

pub(crate) const GZIP: u8 = 1;
pub(crate) const SNAPPY: u8 = 2;
pub(crate) const LZ4: u8 = 3;

/// A message before it is written: every field as the test wants it.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) offset: i64,
    pub(crate) magic: i8,
    pub(crate) attributes: u8,
    /// In magic 1 only.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
}

impl Message {
    pub(crate) fn new(magic: i8, offset: i64, key: Option<&str>, value: Option<&str>) -> Message {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let (key, value) = (key.map(bytes), value.map(bytes));
        Message { offset, magic, attributes: 0, timestamp: 1_000 + offset, key, value }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Message)) -> Message {
        change(&mut self);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut body = vec![self.magic as u8, self.attributes];
        if self.magic > 0 {
            body.extend(self.timestamp.to_be_bytes());
        }
        for field in [&self.key, &self.value] {
            body.extend(field.as_ref().map_or(-1, |f| f.len() as i32).to_be_bytes());
            body.extend(field.iter().flatten());
        }
        let mut out = self.offset.to_be_bytes().to_vec();
        out.extend((body.len() as i32 + 4).to_be_bytes());
        out.extend(crc32(&body).to_be_bytes());
        out.extend(body);
        out
    }
}

/// CRC-32 (IEEE 802.3), bit by bit: the broker's own is another's code.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// A plain set of these values.
pub(crate) fn plain(magic: i8, values: &[&str]) -> Vec<u8> {
    messages(magic, values).iter().flat_map(Message::bytes).collect()
}

pub(crate) fn messages(magic: i8, values: &[&str]) -> Vec<Message> {
    let message = |(offset, value): (i64, &&str)| Message::new(magic, offset, None, Some(*value));
    (0..).zip(values).map(message).collect()
}

/// One message around these, as a good client writes it.
pub(crate) fn wrapper(codec: u8, inner: &[Message]) -> Message {
    let magic = inner.first().map_or(0, |message| message.magic);
    let set: Vec<u8> = inner.iter().flat_map(Message::bytes).collect();
    Message {
        offset: inner.len() as i64 - 1,
        magic,
        attributes: codec,
        timestamp: inner.iter().map(|message| message.timestamp).max().unwrap_or(-1),
        key: None,
        value: Some(compressed(codec, &set, magic == 0)),
    }
}

pub(crate) fn compressed(codec: u8, set: &[u8], old_lz4: bool) -> Vec<u8> {
    match codec {
        GZIP => {
            let fast = flate2::Compression::fast();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), fast);
            gzip.write_all(set).unwrap();
            gzip.finish().unwrap()
        }
        SNAPPY => snap::raw::Encoder::new().compress_vec(set).unwrap(),
        LZ4 => lz4(set, old_lz4),
        _ => set.to_vec(),
    }
}

/// A frame of one independent block of at most 64 KiB, without checksums but the header's.
fn lz4(set: &[u8], old: bool) -> Vec<u8> {
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x40];
    let checked = if old { &frame[..] } else { &frame[4..] };
    frame.push((twox_hash::XxHash32::oneshot(0, checked) >> 8) as u8);
    let block = lz4_flex::block::compress(set);
    frame.extend((block.len() as u32).to_le_bytes());
    frame.extend(block);
    frame.extend([0; 4]);
    frame
}

/// What a response of Produce 0 to 2 says of one partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i16,
    pub(crate) base_offset: i64,
    /// From version 2 on.
    pub(crate) append_time: Option<i64>,
    /// From version 1 on.
    pub(crate) throttle_ms: Option<i32>,
}

/// A request of Produce 0 to 2 with one set for one partition of "t".
pub(crate) fn send(client: &mut Client, version: i16, acks: i16, partition: i32, set: &[u8]) {
    let mut body = acks.to_be_bytes().to_vec();
    body.extend(1_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    body.extend(b"\0\x01t");
    body.extend(1_i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((set.len() as i32).to_be_bytes());
    body.extend(set);
    client.send_bytes(0, version, &body);
}

/// The response, in the layout of `layout`.
pub(crate) fn receive(client: &mut Client, layout: i16) -> io::Result<Answer> {
    let mut body = client.receive_bytes()?;
    assert_eq!(body.split_to(11), b"\0\0\0\x01\0\x01t\0\0\0\x01"[..], "one topic, one partition");
    let _partition = body.get_i32();
    let answer = Answer {
        code: body.get_i16(),
        base_offset: body.get_i64(),
        append_time: (layout >= 2).then(|| body.get_i64()),
        throttle_ms: (layout >= 1).then(|| body.get_i32()),
    };
    assert!(body.is_empty(), "bytes after a response of version {layout}");
    Ok(answer)
}

/// Sends a set to partition 0 in this version, with acks=all, and gives its error code and offset.
pub(crate) fn produce(client: &mut Client, version: i16, set: &[u8]) -> (i16, i64) {
    send(client, version, -1, 0, set);
    let answer = receive(client, version).expect("a response");
    (answer.code, answer.base_offset)
}

/// The body of Metadata 0: brokers by id, and each topic's error, name and count of partitions.
pub(crate) fn metadata_v0(mut body: Bytes) -> (Vec<i32>, Vec<(i16, String, i32)>) {
    let string = |body: &mut Bytes| {
        let length = body.get_i16() as usize;
        String::from_utf8(body.split_to(length).into()).unwrap()
    };
    let mut brokers = Vec::new();
    for _ in 0..body.get_i32() {
        brokers.push(body.get_i32());
        assert_eq!(string(&mut body), "127.0.0.1");
        assert!(body.get_i32() > 0, "a port");
    }
    let mut topics = Vec::new();
    for _ in 0..body.get_i32() {
        let (code, name, partitions) = (body.get_i16(), string(&mut body), body.get_i32());
        for _ in 0..partitions {
            let _code_index_leader = body.split_to(10);
            for _replicas_then_isr in 0..2 {
                let count = body.get_i32() as usize;
                body.advance(count * 4);
            }
        }
        topics.push((code, name, partitions));
    }
    assert!(body.is_empty(), "bytes after a response of Metadata 0");
    (brokers, topics)
}
