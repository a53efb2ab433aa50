//! An independent judge of what became of every record through faults.
//!
//! Each partition is written by one sender, its stream. A payload carries the run, the stream, its
//! number in the stream and a checksum over all of it, so that a record tells by itself where it
//! belongs. The sender notes what each delivery said; [`Judgement::of`] compares notes and log.

use std::collections::BTreeMap;

use crate::records::Random;

const HEAD: usize = 20;

/// What a delivery said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Written, at this offset where it is known.
    Acked(Option<i64>),
    /// Certainly not written.
    NotWritten,
    /// Failed, and perhaps written all the same.
    Unknown,
}

/// What was read from a partition's log.
#[derive(Clone, Debug)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    pub value: Vec<u8>,
}

/// What is wrong, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Acknowledged and not in the log.
    pub lost: usize,
    /// More than once in the log.
    pub doubled: usize,
    /// After a record of the same stream that was sent later.
    pub reordered: usize,
    /// In another partition than the sender chose.
    pub misrouted: usize,
    /// Of another run, or with a wrong checksum.
    pub corrupt: usize,
    /// Acknowledged with another offset than it has.
    pub misplaced: usize,
    /// In the log although its delivery said that it is not, or was never sent.
    pub unexpected: usize,
}

/// The payload of a record: `length` bytes of filler between head and checksum.
pub fn payload(run: u64, stream: u32, number: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + length + 4);
    bytes.extend_from_slice(&run.to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    let mut random = Random::new(run ^ (u64::from(stream) << 32) ^ u64::from(number));
    while bytes.len() < HEAD + length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(HEAD + length);
    bytes.extend_from_slice(&checksum(&bytes).to_be_bytes());
    bytes
}

/// Stream and number of a payload of this run, if it is whole.
fn open(run: u64, bytes: &[u8]) -> Option<(u32, u32)> {
    let (body, sum) = bytes.split_last_chunk::<4>()?;
    let (ran, rest) = body.split_first_chunk::<8>()?;
    let (stream, rest) = rest.split_first_chunk::<4>()?;
    let (number, _) = rest.split_first_chunk::<4>()?;
    let whole = u32::from_be_bytes(*sum) == checksum(body) && u64::from_be_bytes(*ran) == run;
    whole.then(|| (u32::from_be_bytes(*stream), u32::from_be_bytes(*number)))
}

/// FNV-1a: unrelated to the CRC that the client and the brokers use.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl Judgement {
    /// Compares the notes of each stream, by the record's number, with the log. The log is in the
    /// order of offsets within each partition.
    pub fn of(run: u64, notes: &[Vec<Note>], log: &[Stored]) -> Judgement {
        let mut judgement = Judgement::default();
        let mut found: BTreeMap<(u32, u32), i64> = BTreeMap::new();
        let mut highest: BTreeMap<u32, u32> = BTreeMap::new();
        for stored in log {
            let Some((stream, number)) = open(run, &stored.value) else {
                judgement.corrupt += 1;
                continue;
            };
            if i64::from(stored.partition) != i64::from(stream) {
                judgement.misrouted += 1;
                continue;
            }
            if found.insert((stream, number), stored.offset).is_some() {
                judgement.doubled += 1;
                continue;
            }
            let before = highest.entry(stream).or_insert(number);
            if *before > number {
                judgement.reordered += 1;
            }
            *before = (*before).max(number);
            let note = notes.get(stream as usize).and_then(|notes| notes.get(number as usize));
            match note {
                Some(Note::Acked(Some(offset))) if *offset != stored.offset => {
                    judgement.misplaced += 1;
                }
                Some(Note::Acked(_) | Note::Unknown) => {}
                Some(Note::NotWritten) | None => judgement.unexpected += 1,
            }
        }
        let all = notes.iter().enumerate().flat_map(|(stream, notes)| {
            notes.iter().enumerate().map(move |(number, note)| (stream, number, note))
        });
        judgement.lost = all
            .filter(|(_, _, note)| matches!(note, Note::Acked(_)))
            .filter(|(stream, number, _)| !found.contains_key(&(*stream as u32, *number as u32)))
            .count();
        judgement
    }
}

/// The judge itself: each fabricated fault is seen, and only that one.
pub fn sees_every_fault(_: &crate::kafka::Kafka) {
    const RUN: u64 = 42;
    let notes = vec![vec![
        Note::Acked(Some(0)),
        Note::Acked(Some(1)),
        Note::NotWritten,
        Note::Acked(None),
        Note::Unknown,
    ]];
    let stored = |partition, offset, number| Stored {
        partition,
        offset,
        value: payload(RUN, 0, number, 50),
    };
    let good = vec![stored(0, 0, 0), stored(0, 1, 1), stored(0, 2, 3)];
    let none = Judgement::default();
    let judge = |change: &dyn Fn(&mut Vec<Stored>)| {
        let mut log = good.clone();
        change(&mut log);
        Judgement::of(RUN, &notes, &log)
    };
    assert_eq!(judge(&|_| {}), none);
    assert_eq!(judge(&|log| log.push(stored(0, 3, 4))), none, "an unknown one may be there");
    assert_eq!(judge(&|log| _ = log.pop()), Judgement { lost: 1, ..none });
    assert_eq!(judge(&|log| log.push(stored(0, 3, 1))), Judgement { doubled: 1, ..none });
    let swap = |log: &mut Vec<Stored>| (log[1], log[2]) = (stored(0, 1, 3), stored(0, 2, 1));
    assert_eq!(judge(&swap), Judgement { reordered: 1, misplaced: 1, ..none });
    let misroute = |log: &mut Vec<Stored>| log[2].partition = 1;
    assert_eq!(judge(&misroute), Judgement { misrouted: 1, lost: 1, ..none });
    let flip = |log: &mut Vec<Stored>| log[2].value[30] ^= 1;
    assert_eq!(judge(&flip), Judgement { corrupt: 1, lost: 1, ..none });
    let of_another_run = |log: &mut Vec<Stored>| log[2].value = payload(RUN + 1, 0, 3, 50);
    assert_eq!(judge(&of_another_run), Judgement { corrupt: 1, lost: 1, ..none });
    assert_eq!(judge(&|log| log[2].offset = 9), none, "no offset was promised for it");
    assert_eq!(judge(&|log| log[1].offset = 9), Judgement { misplaced: 1, ..none });
    let refused = |log: &mut Vec<Stored>| log.insert(2, stored(0, 2, 2));
    assert_eq!(judge(&refused), Judgement { unexpected: 1, ..none });
    assert_eq!(judge(&|log| log.push(stored(0, 3, 5))), Judgement { unexpected: 1, ..none });
}
