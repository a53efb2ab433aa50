//! Records of every kind, each made again at any time from a seed and its number.

use tidegate::{Delivery, Record, SendError, Topic};

use crate::kafka::RecordView;

/// One of so many is large: 200 of a million.
const LARGE_EVERY: u64 = 5_000;
const KIB: u64 = 1024;

/// The timestamps lie around this time, milliseconds since 1970.
const TIMESTAMP_BASE: i64 = 1_700_000_000_000;

/// A record as it is sent, and as it must come back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
    pub partition: Option<i32>,
}

/// A small generator of random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes of which half the bits are fixed, so that codecs have something to do.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&(self.next() & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// 100 bytes in the median, from 7 to 1,600 on a logarithmic scale.
    fn size(&mut self) -> usize {
        let spread = (self.below(4_001) + self.below(4_001)) as f64 / 1_000.0 - 4.0;
        (100.0 * spread.exp2()) as usize
    }
}

/// Record `id` of the run `seed` for a topic of `partitions`.
pub fn make(seed: u64, id: u64, partitions: i32) -> Made {
    let mut random = Random::new(seed ^ id.wrapping_mul(0xd134_2543_de82_ef95));
    let key = match random.below(10) {
        0..4 => None,
        4 => Some(Vec::new()),
        _ => {
            let length = 1 + random.below(30) as usize;
            Some(random.bytes(length))
        }
    };
    let value = match random.below(40) {
        _ if id % LARGE_EVERY == 77 => {
            let length = 100 * KIB + random.below(800 * KIB);
            Some(random.bytes(length as usize))
        }
        0 => None,
        1 => Some(Vec::new()),
        _ => {
            let length = random.size();
            Some(random.bytes(length))
        }
    };
    let mut headers = Vec::new();
    if random.below(8) == 0 {
        headers.push(("trace", Some(random.bytes(16))));
        headers.push(("none", None));
        headers.push(("größe", Some(Vec::new())));
        headers.push(("trace", Some(id.to_be_bytes().to_vec())));
    }
    let timestamp = random.below(3) == 0;
    let timestamp = timestamp.then(|| TIMESTAMP_BASE + random.below(100_000_000) as i64);
    let partition = random.below(3) == 0;
    let partition = partition.then(|| random.below(partitions as u64) as i32);
    Made { key, value, headers, timestamp, partition }
}

impl Made {
    pub fn send(&self, topic: &Topic) -> Result<Delivery, SendError> {
        let mut record = Record::new().key(self.key.as_ref()).value(self.value.as_ref());
        for (name, value) in &self.headers {
            record = record.header(name, value.as_ref());
        }
        if let Some(timestamp) = self.timestamp {
            record = record.timestamp(timestamp);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        topic.send_record(record)
    }

    /// Fails unless the record that was read is this one.
    #[track_caller]
    pub fn assert_read(&self, id: u64, read: &RecordView<'_>, timestamp: i64) {
        self.assert_content(id, read);
        let place = format!("record {id} at {}@{}", read.partition, read.offset);
        assert_eq!(read.timestamp, timestamp, "{place}: another timestamp");
        if let Some(wanted) = self.timestamp {
            assert_eq!(timestamp, wanted, "{place}: acknowledged with another timestamp");
        }
    }

    /// The same, its timestamp aside.
    #[track_caller]
    pub fn assert_content(&self, id: u64, read: &RecordView<'_>) {
        let place = format!("record {id} at {}@{}", read.partition, read.offset);
        assert!(read.key == self.key.as_deref(), "{place}: another key");
        assert!(read.value == self.value.as_deref(), "{place}: another value");
        let headers = self.headers.iter().map(|(name, value)| (*name, value.as_deref()));
        assert!(read.headers.iter().copied().eq(headers), "{place}: other headers");
        if let Some(wanted) = self.partition {
            assert_eq!(i64::from(read.partition), i64::from(wanted), "{place}: misrouted");
        }
    }
}
