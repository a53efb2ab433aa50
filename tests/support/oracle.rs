//! An independent judge of what became of every record through faults.
//!
//! Records come in streams, each sent by one thread: to one partition, or to whichever the
//! partitioner chooses. A payload carries the run, the topic, the stream, the partition that was
//! meant, its number in the stream, an id that no other record has, and a checksum over all of it,
//! so that a record tells by itself where it belongs. The sender notes, in order and for good, what
//! each delivery said; a [`Judge`] compares notes and log.

// A module of the test binary, whose items are public within it; no binary uses every one.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;

const HEAD: usize = 36;
/// In a payload, for a record whose partition the partitioner chooses.
const ANY: i32 = -1;
/// How many faults are described in words; all are counted.
const DESCRIBED: usize = 12;

/// What a delivery said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Written to this partition, at this offset where it is known, else -1.
    Acked { partition: i32, offset: i64 },
    /// Certainly not written.
    NotWritten,
    /// Failed, and perhaps written all the same.
    Unknown,
    /// Acknowledged in a topic that was deleted since.
    Gone,
    /// Said nothing in all the time it had.
    Unresolved,
}

/// A stream and what was noted of its records, by their numbers.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Where its records are meant to go; none if the partitioner chooses.
    pub partition: Option<i32>,
    pub notes: Vec<Note>,
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
    /// In another topic or partition than the sender chose or the acknowledgement named.
    pub misrouted: usize,
    /// Of another run, or with a wrong checksum.
    pub corrupt: usize,
    /// Acknowledged with another offset than it has.
    pub misplaced: usize,
    /// In the log although its delivery said that it is not, or was never sent.
    pub unexpected: usize,
    /// Deliveries that said nothing.
    pub unresolved: usize,
}

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    pub run: u64,
    /// See [`topic_hash`].
    pub topic: u32,
    pub stream: u32,
    /// Where it is meant to go; none if the partitioner chooses.
    pub partition: Option<i32>,
    pub number: u32,
    /// Counts from 0 over all streams.
    pub id: u64,
}

/// A number for a topic's name.
pub fn topic_hash(name: &str) -> u32 {
    checksum(name.as_bytes())
}

impl Label {
    /// The payload of a record: `length` bytes of filler between head and checksum.
    pub fn payload(&self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD + length + 12);
        bytes.extend_from_slice(&self.run.to_be_bytes());
        bytes.extend_from_slice(&self.topic.to_be_bytes());
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.partition.unwrap_or(ANY).to_be_bytes());
        bytes.extend_from_slice(&self.number.to_be_bytes());
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(&(length as u32).to_be_bytes());
        let mut filler = self.run ^ self.id;
        while bytes.len() < HEAD + length {
            filler = filler.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            bytes.extend_from_slice(&filler.to_le_bytes());
        }
        bytes.truncate(HEAD + length);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// Reads a payload, if it is whole.
    fn open(bytes: &[u8]) -> Option<Label> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if u32::from_be_bytes(*sum) != checksum(body) {
            return None;
        }
        let mut rest = body;
        let run = u64::from_be_bytes(take(&mut rest)?);
        let topic = u32::from_be_bytes(take(&mut rest)?);
        let stream = u32::from_be_bytes(take(&mut rest)?);
        let partition = Some(i32::from_be_bytes(take(&mut rest)?)).filter(|&p| p != ANY);
        let number = u32::from_be_bytes(take(&mut rest)?);
        let id = u64::from_be_bytes(take(&mut rest)?);
        Some(Label { run, topic, stream, partition, number, id })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

/// FNV-1a: unrelated to the CRC that the client and the brokers use.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn with_room_for(count: usize) -> Self {
        Bits(vec![0; count.div_ceil(64)])
    }

    /// Says whether it is new; nothing for a number that there is no room for.
    fn insert(&mut self, number: u64) -> Option<bool> {
        let word = self.0.get_mut(usize::try_from(number / 64).ok()?)?;
        let bit = 1 << (number % 64);
        let new = *word & bit == 0;
        *word |= bit;
        Some(new)
    }

    fn contains(&self, number: usize) -> bool {
        self.0[number / 64] & (1 << (number % 64)) != 0
    }
}

/// Sees the log record by record, and then judges.
#[derive(Debug)]
pub struct Judge<'a> {
    run: u64,
    topic: u32,
    streams: &'a [Stream],
    found: Vec<Bits>,
    ids: Bits,
    /// The highest number that was seen of a stream in a partition.
    highest: BTreeMap<(u32, i32), u32>,
    judgement: Judgement,
    described: Vec<String>,
}

impl<'a> Judge<'a> {
    /// A judge of a run's streams to one topic.
    pub fn new(run: u64, topic: &str, streams: &'a [Stream]) -> Self {
        let total = streams.iter().map(|stream| stream.notes.len()).sum();
        Judge {
            run,
            topic: topic_hash(topic),
            streams,
            found: streams.iter().map(|s| Bits::with_room_for(s.notes.len())).collect(),
            ids: Bits::with_room_for(total),
            highest: BTreeMap::new(),
            judgement: Judgement::default(),
            described: Vec::new(),
        }
    }

    /// The next record of the log: offsets ascend within each partition.
    pub fn see(&mut self, partition: i32, offset: i64, value: &[u8]) {
        let at = format_args!("{partition}@{offset}");
        let Some(label) = Label::open(value).filter(|label| label.run == self.run) else {
            self.judgement.corrupt += 1;
            return describe(&mut self.described, format_args!("{at} is corrupt"));
        };
        let mut wrong = |counter: fn(&mut Judgement) -> &mut usize, what: &str| {
            *counter(&mut self.judgement) += 1;
            describe(&mut self.described, format_args!("{at} {what}: {label:?}"));
        };
        let meant = label.partition.is_none_or(|meant| meant == partition);
        if !meant || label.topic != self.topic {
            return wrong(|j| &mut j.misrouted, "is misrouted");
        }
        let stream = label.stream as usize;
        let note = self.streams.get(stream).and_then(|s| s.notes.get(label.number as usize));
        let Some(note) = note else {
            return wrong(|j| &mut j.unexpected, "was never sent");
        };
        let known = self.found[stream].insert(u64::from(label.number)) == Some(false);
        if known {
            return wrong(|j| &mut j.doubled, "is doubled");
        }
        if self.ids.insert(label.id) != Some(true) {
            return wrong(|j| &mut j.corrupt, "has the id of another record");
        }
        let highest = self.highest.entry((label.stream, partition)).or_insert(label.number);
        if *highest > label.number {
            wrong(|j| &mut j.reordered, "is reordered");
        }
        *highest = (*highest).max(label.number);
        match *note {
            Note::Acked { partition: acked, .. } if acked != partition => {
                wrong(|j| &mut j.misrouted, "was acknowledged elsewhere");
            }
            Note::Acked { offset: acked, .. } if acked != -1 && acked != offset => {
                wrong(|j| &mut j.misplaced, "was acknowledged with another offset");
            }
            Note::Acked { .. } | Note::Unknown | Note::Unresolved => {}
            Note::NotWritten => wrong(|j| &mut j.unexpected, "was said not to be written"),
            Note::Gone => wrong(|j| &mut j.unexpected, "was acknowledged before"),
        }
    }

    /// What is wrong, and the first few faults in words.
    pub fn finish(mut self) -> (Judgement, Vec<String>) {
        for (stream, found) in self.streams.iter().zip(&self.found) {
            for (number, note) in stream.notes.iter().enumerate() {
                let what = match note {
                    Note::Acked { .. } if !found.contains(number) => {
                        self.judgement.lost += 1;
                        "is lost"
                    }
                    Note::Unresolved => {
                        self.judgement.unresolved += 1;
                        "is unresolved"
                    }
                    _ => continue,
                };
                let to = stream.partition;
                describe(&mut self.described, format_args!("{number} to {to:?} {what}: {note:?}"));
            }
        }
        (self.judgement, self.described)
    }
}

fn describe(described: &mut Vec<String>, what: std::fmt::Arguments<'_>) {
    if described.len() < DESCRIBED {
        described.push(what.to_string());
    }
}

/// The judge itself: each fabricated fault is seen, and only that one.
pub fn sees_every_fault(_: &crate::kafka::Kafka) {
    const RUN: u64 = 42;
    const TOPIC: &str = "judged";
    let acked = |partition, offset| Note::Acked { partition, offset };
    let unknown_offset = acked(0, -1);
    let notes =
        vec![acked(0, 0), acked(0, 1), Note::NotWritten, unknown_offset, Note::Unknown, Note::Gone];
    let mut streams = vec![
        Stream { partition: Some(0), notes },
        Stream { partition: None, notes: vec![acked(1, 0), acked(0, 3)] },
    ];
    let label = |stream: u32, number: u32| Label {
        run: RUN,
        topic: topic_hash(TOPIC),
        stream,
        partition: (stream == 0).then_some(0),
        number,
        id: u64::from(stream * 6 + number),
    };
    let stored =
        |partition, offset, label: Label| Stored { partition, offset, value: label.payload(50) };
    let good = vec![
        stored(0, 0, label(0, 0)),
        stored(0, 1, label(0, 1)),
        stored(0, 2, label(0, 3)),
        stored(0, 3, label(1, 1)),
        stored(1, 0, label(1, 0)),
    ];
    let none = Judgement::default();
    let judge_of = |streams: &[Stream], log: &[Stored]| {
        let mut judge = Judge::new(RUN, TOPIC, streams);
        for stored in log {
            judge.see(stored.partition, stored.offset, &stored.value);
        }
        let (judgement, described) = judge.finish();
        assert_eq!(described.is_empty(), judgement == none, "{described:?}");
        judgement
    };
    let judge = |change: &dyn Fn(&mut Vec<Stored>)| {
        let mut log = good.clone();
        change(&mut log);
        judge_of(&streams, &log)
    };
    assert_eq!(judge(&|_| {}), none);
    assert_eq!(judge(&|log| log.push(stored(0, 4, label(0, 4)))), none, "an unknown one may be");
    // The six: dropped, doubled, swapped, flipped, misrouted; unresolved below.
    assert_eq!(judge(&|log| _ = log.remove(2)), Judgement { lost: 1, ..none });
    assert_eq!(judge(&|log| log.push(log[1].clone())), Judgement { doubled: 1, ..none });
    let swap = |log: &mut Vec<Stored>| {
        (log[1], log[2]) = (stored(0, 1, label(0, 3)), stored(0, 2, label(0, 1)));
    };
    assert_eq!(judge(&swap), Judgement { reordered: 1, misplaced: 1, ..none });
    let flip = |log: &mut Vec<Stored>| log[2].value[50] ^= 1;
    assert_eq!(judge(&flip), Judgement { corrupt: 1, lost: 1, ..none });
    let misroute = |log: &mut Vec<Stored>| log[2].partition = 1;
    assert_eq!(judge(&misroute), Judgement { misrouted: 1, lost: 1, ..none });
    // The same in other ways.
    let elsewhere = |log: &mut Vec<Stored>| log[4].partition = 2;
    assert_eq!(judge(&elsewhere), Judgement { misrouted: 1, ..none });
    let other = |log: &mut Vec<Stored>| {
        log[2] = stored(0, 2, Label { topic: topic_hash("other"), ..label(0, 3) });
    };
    assert_eq!(judge(&other), Judgement { misrouted: 1, lost: 1, ..none });
    let of_another_run = |log: &mut Vec<Stored>| {
        log[2] = stored(0, 2, Label { run: RUN + 1, ..label(0, 3) });
    };
    assert_eq!(judge(&of_another_run), Judgement { corrupt: 1, lost: 1, ..none });
    let same_id = |log: &mut Vec<Stored>| {
        log[2] = stored(0, 2, Label { id: 0, ..label(0, 3) });
    };
    assert_eq!(judge(&same_id), Judgement { corrupt: 1, ..none });
    assert_eq!(judge(&|log| log[2].offset = 9), none, "no offset was promised for it");
    assert_eq!(judge(&|log| log[1].offset = 9), Judgement { misplaced: 1, ..none });
    for (at, number) in [(2, 2), (5, 5), (5, 6)] {
        let there = |log: &mut Vec<Stored>| log.insert(at, stored(0, 4, label(0, number)));
        assert_eq!(judge(&there), Judgement { unexpected: 1, ..none }, "{number}");
    }
    streams[0].notes[4] = Note::Unresolved;
    assert_eq!(judge_of(&streams, &good), Judgement { unresolved: 1, ..none });
}
