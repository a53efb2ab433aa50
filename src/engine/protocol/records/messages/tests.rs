use super::super::Records;
use super::*;
use crate::engine::protocol::compression::{Compression, Compressor};

/// A message, as the protocol guide has it.
fn message(
    (magic, attributes): (u8, u8),
    offset: i64,
    timestamp: i64,
    (key, value): (Option<&[u8]>, Option<&[u8]>),
) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic > 0 {
        body.extend(timestamp.to_be_bytes());
    }
    for field in [key, value] {
        body.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
        body.extend(field.unwrap_or_default());
    }
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend((body.len() as i32 + 4).to_be_bytes());
    bytes.extend(crc32fast::hash(&body).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// Messages without key, which have these offsets, and their offsets for timestamps.
fn set(magic: u8, offsets: &[i64]) -> Vec<u8> {
    let one = |&offset: &i64| message((magic, 0), offset, offset, (None, Some(b"value")));
    offsets.iter().flat_map(one).collect()
}

fn gzip(set: &[u8]) -> Vec<u8> {
    let mut room = vec![0; set.len()];
    let mut compressor = Compressor::new();
    let len = compressor.compress(&Compression::gzip(), [set].into_iter(), set.len(), &mut room);
    room.truncate(len.expect("it becomes smaller"));
    room
}

fn compressed(magic: u8, offset: i64, timestamp: i64, set: &[u8]) -> Vec<u8> {
    message((magic, Codec::Gzip.id()), offset, timestamp, (None, Some(&gzip(set))))
}

/// What the run at the front of `bytes` has: the length of the run, and offset and timestamp of
/// each of its records.
fn read(bytes: &[u8]) -> Result<(usize, Vec<(i64, i64)>), BatchError> {
    let run = MessageRun::at_front(bytes)?;
    let (header, plain) = read_messages(&bytes[..run.len], 1 << 20)?;
    let records: Result<Vec<_>, _> = Records::of_plain(&header, &plain).collect();
    let records = records.expect("they were encoded here");
    assert_eq!(records.last().map(|record| record.offset), Some(run.last_offset));
    assert_eq!(header.base_offset + i64::from(header.last_offset_delta), run.last_offset);
    Ok((run.len, records.iter().map(|record| (record.offset, record.timestamp)).collect()))
}

#[test]
fn plain_messages_in_a_row_are_a_batch() {
    let plain = set(1, &[7, 8, 12]);
    assert_eq!(read(&plain), Ok((plain.len(), vec![(7, 7), (8, 8), (12, 12)])));
    let timeless = set(0, &[7, 8, 12]);
    assert_eq!(read(&timeless), Ok((timeless.len(), vec![(7, -1), (8, -1), (12, -1)])));
}

#[test]
fn keys_and_values_are_as_they_were_written() {
    let fields: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"\x00\xff")];
    for magic in [0, 1] {
        for (key, value) in fields.iter().flat_map(|&key| fields.map(|value| (key, value))) {
            let bytes = message((magic, 0), 5, 9, (key, value));
            let (header, plain) = read_messages(&bytes, 100).expect("a good message");
            assert!(plain.len() <= bytes.len());
            let record = Records::of_plain(&header, &plain).next();
            let record = record.expect("one record").expect("a good one");
            assert_eq!((record.key, record.value, record.headers.len()), (key, value, 0));
        }
    }
}

#[test]
fn any_time_comes_back_as_it_was() {
    let at = |offset, timestamp| message((1, 0), offset, timestamp, (None, None));
    let bytes = [at(0, 1), at(1, i64::MIN), at(2, i64::MAX)].concat();
    assert_eq!(read(&bytes).expect("good").1, [(0, 1), (1, i64::MIN), (2, i64::MAX)]);
}

#[test]
fn offsets_within_a_compressed_message_count_from_its_first_in_magic_1_only() {
    let of_magic_1 = compressed(1, 12, 12, &set(1, &[0, 2, 3]));
    assert_eq!(read(&of_magic_1).expect("good").1, [(9, 0), (11, 2), (12, 3)]);
    // The first and the last were compacted away.
    let compacted = compressed(1, 11, 12, &set(1, &[1, 2]));
    assert_eq!(read(&compacted).expect("good").1, [(10, 1), (11, 2)]);
    let outer_above = compressed(0, 20, 12, &set(0, &[9, 11, 12]));
    let (header, _) = read_messages(&outer_above, 1 << 20).expect("good");
    assert_eq!((header.base_offset, header.last_offset_delta), (9, 11), "it ends with the outer");
    let of_magic_0 = compressed(0, 12, 12, &set(0, &[9, 11, 12]));
    assert_eq!(read(&of_magic_0).expect("good").1, [(9, -1), (11, -1), (12, -1)]);
}

#[test]
fn a_broker_that_set_the_time_did_so_on_the_compressed_message() {
    let attributes = Codec::Gzip.id() | LOG_APPEND_TIME;
    let value = gzip(&set(1, &[0, 1, 2, 3]));
    let bytes = message((1, attributes), 3, 77, (None, Some(&value)));
    assert_eq!(read(&bytes).expect("good").1, [(0, 77), (1, 77), (2, 77), (3, 77)]);
}

#[test]
fn a_run_ends_where_the_next_message_is_of_another_kind() {
    let one = set(1, &[4]);
    let at = |timestamp| message((1, LOG_APPEND_TIME), 5, timestamp, (None, None));
    let far = i64::from(i32::MAX) + 5;
    for next in [
        compressed(1, 20, 1, &set(1, &[0, 1, 2, 3])),
        set(0, &[5]),
        at(9),
        set(1, &[4]),
        set(1, &[far]),
        set(1, &[5])[..20].to_vec(),
        Vec::new(),
    ] {
        let bytes = [&one[..], &next].concat();
        assert_eq!(read(&bytes), Ok((one.len(), vec![(4, 4)])), "{next:?}");
    }
    // Those that the broker appended at different times.
    let bytes = [at(9), message((1, LOG_APPEND_TIME), 6, 10, (None, None))].concat();
    assert_eq!(read(&bytes).expect("good").1, [(5, 9)]);
    let alone = compressed(1, 3, 1, &set(1, &[0, 1, 2, 3]));
    let bytes = [&alone[..], &set(1, &[4])].concat();
    assert_eq!(read(&bytes).expect("good").0, alone.len());
}

#[test]
fn what_is_wrong_is_told() {
    let good = set(1, &[0, 1, 2, 3]);
    let words = |bytes: &[u8]| read(bytes).expect_err("it is bad").to_string();
    let mut damaged = good.clone();
    *damaged.last_mut().expect("there are bytes") ^= 1;
    // What is good before it is read, and then it alone is not.
    let (before, _) = read(&damaged).expect("the first three are good");
    assert_eq!(before, good.len() / 4 * 3);
    assert!(words(&damaged[before..]).contains("CRC-32"));
    let followed = [&damaged[before..], &good].concat();
    assert_eq!(MessageRun::at_front(&followed).map(|run| run.len), Ok(good.len() / 4));
    assert!(words(&compressed(1, 3, 0, &damaged)).contains("CRC-32"), "within, too");
    let null = message((1, Codec::Gzip.id()), 0, 0, (None, None));
    assert!(words(&null).contains("its value is null"));
    let nested = compressed(1, 3, 0, &[&good[..], &null].concat());
    assert!(words(&nested).contains("another kind"));
    assert!(words(&compressed(0, 3, 0, &good)).contains("another kind"));
    let back = compressed(1, 3, 0, &[&good[..], &good].concat());
    assert!(words(&back).contains("not above"));
    assert!(words(&compressed(1, 2, 0, &good)).contains("negative"));
    assert!(words(&compressed(0, 3, 0, &set(0, &[2, 3, 4]))).contains("above its own"));
    let cut = compressed(1, 3, 0, &good[..good.len() - 1]);
    assert!(words(&cut).contains("lengths"));
    let bomb = compressed(1, 3, 0, &vec![0; 2 << 20]);
    assert!(words(&bomb).contains("decompress"), "it is larger than what is allowed");
    assert!(words(&good[..10]).contains("lengths"));
}

#[test]
fn no_bytes_make_it_panic() {
    for good in [set(0, &[3, 4]), set(1, &[3, 4]), compressed(1, 4, 9, &set(1, &[0, 1, 2, 3]))] {
        for length in 0..good.len() {
            let _ = read_messages(&good[..length], 1 << 20);
            let _ = MessageRun::at_front(&good[..length]);
        }
        for place in 0..good.len() {
            for byte in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[place] = byte;
                if let Ok(run) = MessageRun::at_front(&bytes) {
                    let _ = read_messages(&bytes[..run.len], 1 << 20);
                }
                // A damage that the CRC does not see: it was there when the message was written.
                let size = u32::from_be_bytes(bytes[8..12].try_into().expect("four")) as usize;
                if let Some(body) = bytes.get(16..12 + size) {
                    let crc = crc32fast::hash(body).to_be_bytes();
                    bytes[12..16].copy_from_slice(&crc);
                    let _ = read_messages(&bytes, 1 << 20);
                }
            }
        }
    }
}
