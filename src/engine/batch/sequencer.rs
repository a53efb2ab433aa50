//! Identity and sequences of one lane (KIP-98, KIP-360).
//!
//! The broker checks (producer id, epoch, sequence) for each partition, so all three belong to the
//! lane. An epoch bump is local to it: it needs no broker, since the broker takes a higher epoch of
//! a known id when its first sequence is 0.

use crate::engine::protocol::ProducerIdentity;

/// What a lane's next batch is numbered with.
#[derive(Clone, Copy, Debug)]
pub struct Sequencer {
    identity: ProducerIdentity,
    /// Which of the ids that the producer was given: the first is 1, 0 is none.
    ordinal: u64,
    /// The next sequence to be given.
    next: i32,
    /// A sequence was given that the log will never hold, or that nobody knows the fate of: once
    /// nothing is in flight the lane begins a new epoch.
    bump_wanted: bool,
    /// The identity whose epochs are used up; the lane waits for another id.
    used_up: Option<ProducerIdentity>,
    /// The partition's log may know the producer in epochs up to this one.
    floor: EpochsUsed,
}

/// Epochs of a producer id that a lane has numbered batches in: all up to one. Ordered by the id,
/// then the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochsUsed(u64);

impl EpochsUsed {
    fn new(ordinal: u64, epoch: i16) -> Self {
        EpochsUsed(ordinal << 16 | u64::from(epoch.max(0).unsigned_abs()))
    }

    /// As a number, for an atomic to hold; the larger one is the later.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// What [`EpochsUsed::to_raw`] gave.
    pub fn from_raw(raw: u64) -> Self {
        EpochsUsed(raw)
    }

    fn ordinal(self) -> u64 {
        self.0 >> 16
    }

    fn epoch(self) -> i16 {
        (self.0 & 0x7fff) as i16
    }
}

impl Default for Sequencer {
    fn default() -> Self {
        Sequencer {
            identity: ProducerIdentity::NONE,
            ordinal: 0,
            next: 0,
            bump_wanted: false,
            used_up: None,
            floor: EpochsUsed::default(),
        }
    }
}

/// `sequence + count`, from `i32::MAX` on to 0.
pub fn sequence_after(sequence: i32, count: u32) -> i32 {
    if planted!(WrapsSequenceToNegative) {
        return sequence.wrapping_add(count as i32);
    }
    ((i64::from(sequence) + i64::from(count)) % (1_i64 << 31)) as i32
}

impl Sequencer {
    /// The identity that the next batch gets.
    pub fn identity(&self) -> ProducerIdentity {
        self.identity
    }

    /// Whether the lane has an identity.
    pub fn has_identity(&self) -> bool {
        self.identity != ProducerIdentity::NONE
    }

    /// The identity whose epochs were used up, until another id is adopted.
    pub fn used_up(&self) -> Option<ProducerIdentity> {
        self.used_up
    }

    /// Whether a producer id came after the one that it has. (A lane may meet older news at the
    /// shard it moves to; an id that was left is never taken on again: its sequences are used.)
    pub fn is_newer(&self, ordinal: u64) -> bool {
        ordinal > self.ordinal
    }

    /// Takes on a producer id, the `ordinal`th that the producer was given; sequences start over.
    pub fn adopt(&mut self, identity: ProducerIdentity, ordinal: u64) {
        let (next, floor) = (first_sequence!(), self.floor);
        *self = Sequencer { identity, ordinal, next, floor, ..Sequencer::default() };
        if floor.ordinal() == ordinal && floor.epoch() >= identity.epoch {
            self.identity.epoch = floor.epoch();
            self.bump_wanted = true;
        }
    }

    /// A lane of the same partition was given up that had used these epochs: this one begins above.
    pub fn begin_above(&mut self, used: EpochsUsed) {
        self.floor = used;
    }

    /// The epochs that it has used, of its present id.
    pub fn used(&self) -> EpochsUsed {
        if self.has_identity() {
            EpochsUsed::new(self.ordinal, self.identity.epoch)
        } else {
            self.floor
        }
    }

    /// The first `ids` producer ids were given by a cluster that was left: none of them is used
    /// again, and the lane has none if its own is among them.
    pub fn start_over(&mut self, ids: u64) {
        if self.ordinal <= ids {
            *self = Sequencer { ordinal: ids, ..Sequencer::default() };
        }
    }

    /// The next sequence to be given.
    pub fn next(&self) -> i32 {
        self.next
    }

    /// The sequence of a batch of `count` records.
    pub fn assign(&mut self, count: u32) -> i32 {
        let sequence = self.next;
        self.next = sequence_after(sequence, count);
        sequence
    }

    /// The next sequence is one that was given before: only a planted bug does that.
    #[cfg(feature = "internals")]
    pub fn begin_again_at(&mut self, sequence: i32) {
        self.next = sequence;
    }

    /// Nothing is drained until the lane's attempts settle and [`Sequencer::bump`] was called.
    pub fn want_bump(&mut self) {
        self.bump_wanted = self.has_identity();
    }

    /// Whether a new epoch must begin.
    pub fn bump_wanted(&self) -> bool {
        self.bump_wanted
    }

    /// Begins a new epoch at sequence 0. Returns false when the epochs of this id are used up: the
    /// lane then needs a new producer id, and has none until it [`adopt`](Sequencer::adopt)s one.
    pub fn bump(&mut self) -> bool {
        if planted!(WrapsEpoch) && self.identity.epoch == i16::MAX {
            self.identity.epoch = -1;
        }
        if self.identity.epoch == i16::MAX {
            self.used_up = Some(self.identity);
            self.identity = ProducerIdentity::NONE;
            return false;
        }
        self.identity.epoch += 1;
        self.next = 0;
        self.bump_wanted = false;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c59_a_lane_that_follows_one_that_was_given_up_begins_in_a_newer_epoch() {
        let mut first = Sequencer::default();
        first.adopt(identity(0), 1);
        first.assign(5);
        let mut second = Sequencer::default();
        second.begin_above(first.used());
        second.adopt(identity(0), 1);
        assert!(second.bump_wanted() && second.bump());
        assert_eq!((second.identity(), second.assign(1)), (identity(1), 0));
        // A later id knows no such log.
        let mut third = Sequencer::default();
        third.begin_above(second.used());
        third.adopt(ProducerIdentity { id: 8, epoch: 0 }, 2);
        assert!(!third.bump_wanted());
        assert!(third.used() > second.used() && second.used() > first.used());
        // And an id can be used up by this.
        let mut last = Sequencer::default();
        last.begin_above(EpochsUsed::new(1, i16::MAX));
        last.adopt(identity(0), 1);
        assert!(!last.bump() && last.used_up().is_some());
    }

    fn identity(epoch: i16) -> ProducerIdentity {
        ProducerIdentity { id: 7, epoch }
    }

    #[test]
    fn c02_sequences_wrap_to_zero() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
        let mut sequencer = Sequencer { next: i32::MAX, ..Sequencer::default() };
        assert_eq!(sequencer.assign(2), i32::MAX);
        assert_eq!(sequencer.assign(1), 1);
    }

    #[test]
    fn c02_an_exhausted_epoch_asks_for_a_new_id() {
        let mut sequencer = Sequencer::default();
        sequencer.adopt(identity(i16::MAX - 1), 1);
        sequencer.assign(10);
        sequencer.want_bump();
        assert!(sequencer.bump());
        assert_eq!((sequencer.identity().epoch, sequencer.assign(1)), (i16::MAX, 0));
        sequencer.want_bump();
        assert!(!sequencer.bump());
        assert!(!sequencer.has_identity());
        assert!(!sequencer.is_newer(1), "the id that was published before is the one used up");
        assert!(sequencer.is_newer(2));
        sequencer.adopt(ProducerIdentity { id: 8, epoch: 0 }, 2);
        assert!(!sequencer.bump_wanted());
    }

    #[test]
    fn a_lane_without_identity_never_bumps() {
        let mut sequencer = Sequencer::default();
        sequencer.want_bump();
        assert!(!sequencer.bump_wanted());
    }
}
