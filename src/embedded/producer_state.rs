//! What a partition remembers of its idempotent producers (KIP-98).
//!
//! The rules are those of Kafka's `ProducerStateManager`: epochs never go back, a new epoch starts
//! at sequence 0, within an epoch sequences have no gaps, and the last five batches are remembered,
//! so that a repeated one is answered with its first offset and not written again.

use std::collections::{HashMap, VecDeque};

use super::log::{Refusal, error};

/// How many batches of a producer are remembered for finding duplicates, as in Kafka.
const BATCHES_REMEMBERED: usize = 5;

/// What a batch claims about its place in a producer's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub producer_id: i64,
    pub epoch: i16,
    /// The sequence of the batch's first record.
    pub sequence_first: i32,
    /// Records in the batch, at least 1.
    pub records: i32,
}

impl Claim {
    /// The sequence of the batch's last record: after `i32::MAX` comes 0.
    fn sequence_last(&self) -> i32 {
        wrapping_sequence(self.sequence_first, self.records - 1)
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Append,
    /// It is in the log already, at this base offset.
    Duplicate { base_offset: i64 },
}

#[derive(Debug)]
struct Remembered {
    sequence_first: i32,
    sequence_last: i32,
    base_offset: i64,
}

#[derive(Debug)]
struct Entry {
    epoch: i16,
    /// Oldest first, at most [`BATCHES_REMEMBERED`], never empty: all of `epoch`.
    batches: VecDeque<Remembered>,
}

/// The producers of one partition.
#[derive(Debug, Default)]
pub(super) struct ProducerStates {
    entries: HashMap<i64, Entry>,
}

impl ProducerStates {
    /// Judges a batch before it is appended. Changes nothing.
    pub(super) fn check(&self, claim: &Claim) -> Result<Verdict, Refusal> {
        let Some(entry) = self.entries.get(&claim.producer_id) else {
            // Nothing is known of this producer, perhaps because retention took its records: any
            // sequence may be its first.
            return Ok(Verdict::Append);
        };
        if let Some(base_offset) = entry.find(claim) {
            return Ok(Verdict::Duplicate { base_offset });
        }
        if claim.epoch < entry.epoch {
            return Err(Refusal::new(error::INVALID_PRODUCER_EPOCH, "a lower epoch than the last"));
        }
        if claim.epoch > entry.epoch {
            return match claim.sequence_first {
                0 => Ok(Verdict::Append),
                _ => Err(Refusal::new(
                    error::OUT_OF_ORDER_SEQUENCE_NUMBER,
                    "a new epoch starts at sequence 0",
                )),
            };
        }
        let next = wrapping_sequence(entry.sequence_last(), 1);
        if claim.sequence_first == next {
            return Ok(Verdict::Append);
        }
        // Also what is older than the batches that are remembered is out of order to a broker.
        let words = "neither the next batch nor one that is remembered";
        Err(Refusal::new(error::OUT_OF_ORDER_SEQUENCE_NUMBER, words))
    }

    /// Forgets every producer, as if each had been idle for `producer.id.expiration.ms`.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
    }

    /// Forgets all but the last batch of each producer, as a broker does that restarts in good
    /// order: its snapshot holds no more.
    pub(super) fn keep_last(&mut self) {
        for entry in self.entries.values_mut() {
            entry.batches.drain(..entry.batches.len() - 1);
        }
    }

    /// Remembers a batch that [`ProducerStates::check`] let through and that was appended.
    pub(super) fn appended(&mut self, claim: &Claim, base_offset: i64) {
        let entry = self
            .entries
            .entry(claim.producer_id)
            .or_insert_with(|| Entry { epoch: claim.epoch, batches: VecDeque::new() });
        if entry.epoch != claim.epoch {
            entry.epoch = claim.epoch;
            entry.batches.clear();
        }
        if entry.batches.len() == BATCHES_REMEMBERED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered {
            sequence_first: claim.sequence_first,
            sequence_last: claim.sequence_last(),
            base_offset,
        });
    }
}

impl Entry {
    fn find(&self, claim: &Claim) -> Option<i64> {
        if claim.epoch != self.epoch {
            return None;
        }
        let last = claim.sequence_last();
        self.batches
            .iter()
            .find(|b| b.sequence_first == claim.sequence_first && b.sequence_last == last)
            .map(|b| b.base_offset)
    }

    fn sequence_last(&self) -> i32 {
        self.batches.back().map_or(-1, |b| b.sequence_last)
    }
}

/// `sequence + by` on the circle of sequences 0 … `i32::MAX`.
fn wrapping_sequence(sequence: i32, by: i32) -> i32 {
    sequence.wrapping_add(by) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(epoch: i16, sequence_first: i32, records: i32) -> Claim {
        Claim { producer_id: 7, epoch, sequence_first, records }
    }

    /// Appends what is let through; the base offset is the count of records so far.
    #[derive(Default)]
    struct Partition {
        states: ProducerStates,
        offset: i64,
    }

    impl Partition {
        fn send(&mut self, epoch: i16, sequence: i32, records: i32) -> Result<Verdict, i16> {
            let claim = claim(epoch, sequence, records);
            let verdict = self.states.check(&claim).map_err(|refusal| refusal.code)?;
            if verdict == Verdict::Append {
                self.states.appended(&claim, self.offset);
                self.offset += i64::from(records);
            }
            Ok(verdict)
        }
    }

    #[test]
    fn consecutive_batches_are_appended_and_gaps_refused() {
        let mut p = Partition::default();
        assert_eq!(p.send(0, 0, 3), Ok(Verdict::Append));
        assert_eq!(p.send(0, 3, 2), Ok(Verdict::Append));
        assert_eq!(p.send(0, 6, 1), Err(error::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(p.send(0, 5, 1), Ok(Verdict::Append));
    }

    #[test]
    fn five_batches_are_remembered_and_the_sixth_is_too_old() {
        let mut p = Partition::default();
        for i in 0..6 {
            assert_eq!(p.send(0, i * 2, 2), Ok(Verdict::Append));
        }
        for i in 1..6 {
            let base_offset = i64::from(i) * 2;
            assert_eq!(p.send(0, i * 2, 2), Ok(Verdict::Duplicate { base_offset }));
        }
        assert_eq!(p.send(0, 0, 2), Err(error::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(p.offset, 12);
    }

    #[test]
    fn a_batch_of_other_length_is_no_duplicate() {
        let mut p = Partition::default();
        p.send(0, 0, 4).unwrap();
        assert_eq!(p.send(0, 0, 3), Err(error::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(p.send(0, 2, 4), Err(error::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn a_higher_epoch_starts_at_zero_and_a_lower_one_is_fenced() {
        let mut p = Partition::default();
        p.send(3, 0, 1).unwrap();
        assert_eq!(p.send(4, 1, 1), Err(error::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(p.send(4, 0, 1), Ok(Verdict::Append));
        assert_eq!(p.send(3, 1, 1), Err(error::INVALID_PRODUCER_EPOCH));
        // What was remembered of the old epoch is gone.
        assert_eq!(p.send(3, 0, 1), Err(error::INVALID_PRODUCER_EPOCH));
        assert_eq!(p.send(4, 0, 1), Ok(Verdict::Duplicate { base_offset: 1 }));
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        let mut p = Partition::default();
        assert_eq!(p.send(0, 41, 1), Ok(Verdict::Append));
        assert_eq!(p.send(0, 42, 1), Ok(Verdict::Append));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut p = Partition::default();
        p.send(0, i32::MAX - 1, 2).unwrap();
        assert_eq!(p.send(0, 1, 1), Err(error::OUT_OF_ORDER_SEQUENCE_NUMBER));
        assert_eq!(p.send(0, 0, 1), Ok(Verdict::Append));
        assert_eq!(p.send(0, i32::MAX - 1, 2), Ok(Verdict::Duplicate { base_offset: 0 }));
        // A batch across the wrap.
        let mut p = Partition::default();
        p.send(0, i32::MAX, 3).unwrap();
        assert_eq!(p.send(0, 2, 1), Ok(Verdict::Append));
        assert_eq!(p.send(0, i32::MAX, 3), Ok(Verdict::Duplicate { base_offset: 0 }));
    }

    #[test]
    fn producers_do_not_disturb_each_other() {
        let mut states = ProducerStates::default();
        states.appended(&Claim { producer_id: 1, epoch: 5, sequence_first: 9, records: 1 }, 0);
        let other = Claim { producer_id: 2, epoch: 0, sequence_first: 0, records: 1 };
        assert_eq!(states.check(&other), Ok(Verdict::Append));
    }
}
