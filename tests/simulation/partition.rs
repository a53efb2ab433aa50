//! One partition of the model: its log, its replicas, and what its leader remembers of producers,
//! after Kafka's `UnifiedLog`, `ProducerStateManager` and `ProducerAppendInfo`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const BROKERS_MAX: usize = 5;
/// Kafka's error codes, as far as the model answers with them.
pub mod code {
    pub const NONE: i16 = 0;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const NOT_LEADER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const MESSAGE_TOO_LARGE: i16 = 10;
    pub const NETWORK_EXCEPTION: i16 = 13;
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
    pub const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub const OUT_OF_ORDER: i16 = 45;
    pub const DUPLICATE: i16 = 46;
    pub const INVALID_EPOCH: i16 = 47;
    pub const KAFKA_STORAGE_ERROR: i16 = 56;
    pub const UNKNOWN_PRODUCER_ID: i16 = 59;
    pub const INVALID_RECORD: i16 = 87;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// One batch in a log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub pid: i64,
    pub epoch: i16,
    pub first: i32,
    pub last: i32,
    pub offset: i64,
    /// The numbers of its records.
    pub records: Vec<u32>,
}

impl Entry {
    /// The offset behind it.
    pub fn end(&self) -> i64 {
        self.offset + self.records.len() as i64
    }
}

#[derive(Default)]
struct ProducerState {
    epoch: i16,
    /// First sequence, last sequence, and the batch's place in the log.
    batches: VecDeque<(i32, i32, usize)>,
    /// When it wrote last.
    wrote_at: u64,
}

/// Who leads a partition, as a broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub leader: Option<usize>,
    pub epoch: i32,
}

/// A batch was appended, or had been before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place in the log.
    pub index: usize,
    pub duplicate: bool,
}

/// An error that waits for a batch.
#[derive(Clone, Copy, Debug)]
pub struct Injected {
    pub code: i16,
    /// The batch is appended all the same.
    pub appends: bool,
}

pub struct Partition {
    pub known: Known,
    pub replicas: Vec<usize>,
    /// Which brokers are in sync.
    pub isr: [bool; BROKERS_MAX],
    /// How many batches of the log each replica has.
    pub have: [usize; BROKERS_MAX],
    /// What each broker believes.
    pub believed: [Known; BROKERS_MAX],
    /// A fetch of the replica is on its way.
    pub fetching: [bool; BROKERS_MAX],
    pub log: Vec<Entry>,
    /// Batches that every replica in sync has: they are never lost.
    pub high: usize,
    /// Batches at the front that retention has deleted. (Kept for the oracle.)
    pub deleted: usize,
    /// Its leaders forget producers of which nothing is left, as they did before Kafka 2.5.
    pub forgets: bool,
    /// Batches of a producer that its leaders remember.
    pub remembered: usize,
    /// Its leaders forget a producer that wrote nothing for so long.
    pub producer_expiry: u64,
    /// How many batches of the log each replica had when it last restarted in good order.
    pub restarted_at: [usize; BROKERS_MAX],
    /// Records that were committed, and cut off by an election that should not have been.
    pub cut_off: BTreeSet<u32>,
    producers: BTreeMap<i64, ProducerState>,
    pub injected: VecDeque<Injected>,
    /// Batches longer than this are refused.
    pub bytes_max: usize,
    /// Something that was acknowledged by the leader alone was cut off.
    pub lost_tail: bool,
}

impl Partition {
    pub fn new(leader: usize, replicas: Vec<usize>) -> Partition {
        let known = Known { leader: Some(leader), epoch: 0 };
        let mut isr = [false; BROKERS_MAX];
        replicas.iter().for_each(|&replica| isr[replica] = true);
        Partition {
            known,
            replicas,
            isr,
            have: [0; BROKERS_MAX],
            believed: [known; BROKERS_MAX],
            fetching: [false; BROKERS_MAX],
            log: Vec::new(),
            high: 0,
            deleted: 0,
            forgets: false,
            remembered: 5,
            producer_expiry: u64::MAX,
            restarted_at: [0; BROKERS_MAX],
            cut_off: BTreeSet::new(),
            producers: BTreeMap::new(),
            injected: VecDeque::new(),
            bytes_max: usize::MAX,
            lost_tail: false,
        }
    }

    pub fn in_sync(&self) -> usize {
        self.isr.iter().filter(|&&is| is).count()
    }

    fn end_offset(&self) -> i64 {
        self.log.last().map_or(0, Entry::end)
    }

    /// As Kafka checks a client's batch and appends it, or the error code.
    pub fn append(&mut self, now: u64, mut entry: Entry) -> Result<Appended, i16> {
        let expiry = self.producer_expiry;
        self.producers.retain(|_, state| state.wrote_at.saturating_add(expiry) > now);
        let index = self.log.len();
        entry.offset = self.end_offset();
        if entry.pid >= 0 {
            if entry.first < 0 {
                return Err(code::INVALID_RECORD);
            }
            let unknown = !self.producers.contains_key(&entry.pid);
            if self.forgets && unknown && entry.first != 0 {
                // Kafka 0.11 has no code of its own for it.
                let code = [code::UNKNOWN_PRODUCER_ID, code::OUT_OF_ORDER];
                return Err(code[usize::from(self.remembered == 1)]);
            }
            let state = self.producers.entry(entry.pid).or_default();
            let numbers = (entry.first, entry.last);
            if !unknown && entry.epoch == state.epoch {
                let twin = state.batches.iter().find(|known| (known.0, known.1) == numbers);
                if let Some(&(.., index)) = twin {
                    return Ok(Appended { index, duplicate: true });
                }
            }
            if !unknown {
                if entry.epoch < state.epoch {
                    return Err(code::INVALID_EPOCH);
                }
                let expected = match state.batches.back() {
                    Some(&(_, last, _)) if entry.epoch == state.epoch => after(last),
                    _ => 0,
                };
                if entry.first != expected {
                    return Err(code::OUT_OF_ORDER);
                }
            }
            state.wrote_at = now;
            remember(state, &entry, index, self.remembered);
        }
        self.log.push(entry);
        if let Some(leader) = self.known.leader {
            self.have[leader] = self.log.len();
        }
        self.advance();
        Ok(Appended { index, duplicate: false })
    }

    /// Moves the high watermark to what all replicas in sync have.
    pub fn advance(&mut self) {
        let isr = (0..BROKERS_MAX).filter(|&broker| self.isr[broker]);
        let all = isr.map(|broker| self.have[broker]).min().unwrap_or(self.high);
        self.high = self.high.max(all);
    }

    /// The number of the record at an offset, deleted ones included.
    pub fn record_at(&self, offset: i64) -> Option<u32> {
        let at = self.log.partition_point(|entry| entry.end() <= offset);
        let entry = self.log.get(at)?;
        entry.records.get(usize::try_from(offset - entry.offset).ok()?).copied()
    }

    /// Where the log begins.
    pub fn start(&self) -> i64 {
        self.log.get(self.deleted).map_or(self.end_offset(), |entry| entry.offset)
    }

    /// What is committed is deleted, and maybe producers are forgotten with it.
    pub fn delete(&mut self) {
        self.deleted = self.high;
        if self.forgets {
            let deleted = self.deleted;
            let is_left = |state: &ProducerState| state.batches.iter().any(|it| it.2 >= deleted);
            self.producers.retain(|_, state| is_left(state));
        }
    }

    /// Another replica leads; what it has not got is gone.
    pub fn elect(&mut self, now: u64, leader: Option<usize>) {
        self.known.epoch += 1;
        self.known.leader = leader;
        let Some(leader) = leader else { return };
        assert!(self.isr[leader] && self.have[leader] >= self.high, "the model loses records");
        self.lead(now, leader);
    }

    /// A replica leads that lacks what was committed (unclean.leader.election.enable).
    pub fn elect_uncleanly(&mut self, now: u64, leader: usize) {
        self.known = Known { leader: Some(leader), epoch: self.known.epoch + 1 };
        for entry in &self.log[self.have[leader].min(self.high)..self.high] {
            self.cut_off.extend(&entry.records);
        }
        self.high = self.high.min(self.have[leader]);
        self.deleted = self.deleted.min(self.have[leader]);
        // The others have what they should not have until they have fetched from this one.
        self.isr = [false; BROKERS_MAX];
        self.isr[leader] = true;
        self.lead(now, leader);
    }

    fn lead(&mut self, now: u64, leader: usize) {
        self.lost_tail |= self.have[leader] < self.log.len();
        self.log.truncate(self.have[leader]);
        for have in &mut self.have {
            *have = (*have).min(self.log.len());
        }
        for restarted_at in &mut self.restarted_at {
            *restarted_at = (*restarted_at).min(self.log.len());
        }
        self.load_producers(now, leader);
    }

    /// What a replica knows of producers: of those before its last restart, their last batch; what
    /// came afterwards it followed batch by batch.
    fn load_producers(&mut self, now: u64, leader: usize) {
        let wrote_at: BTreeMap<_, _> =
            self.producers.iter().map(|(&pid, state)| (pid, state.wrote_at)).collect();
        self.producers.clear();
        let from = if self.forgets { self.deleted } else { 0 };
        for (index, entry) in self.log.iter().enumerate().skip(from) {
            if entry.pid < 0 {
                continue;
            }
            let is_snapshot = index < self.restarted_at[leader];
            let remembered = if is_snapshot { 1 } else { self.remembered };
            let state = self.producers.entry(entry.pid).or_default();
            state.wrote_at = wrote_at.get(&entry.pid).copied().unwrap_or(now);
            remember(state, entry, index, remembered);
        }
    }
}

fn remember(state: &mut ProducerState, entry: &Entry, index: usize, remembered: usize) {
    if entry.epoch != state.epoch {
        state.batches.clear();
        state.epoch = entry.epoch;
    }
    state.batches.push_back((entry.first, entry.last, index));
    while state.batches.len() > remembered {
        state.batches.pop_front();
    }
}

/// The sequence behind `last`.
fn after(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

/// The last sequence of a batch of `count` records.
pub fn last_sequence(first: i32, count: usize) -> i32 {
    ((i64::from(first) + count as i64 - 1) % (1 << 31)) as i32
}
