//! The identifiers of Kafka's protocol, each a type of its own.

use std::fmt;

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerId(pub i32);

/// A partition's number within its topic, from 0. A user's record or partitioner may name a
/// negative one, which no topic has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub i32);

impl PartitionId {
    /// The partition at `index` of a table of partitions.
    pub fn from_index(index: usize) -> Self {
        PartitionId(i32::try_from(index).expect("Kafka counts partitions in an i32"))
    }

    /// Where a table of partitions has this one. A negative number gives an index above
    /// `i32::MAX`, which no table reaches: `get` answers `None`, as for a number that is too large.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as u32 as usize
    }

    /// Whether a topic with so many partitions has this one. The send path asks for each record:
    /// without its sign a negative number is larger than every count, so one comparison is enough.
    #[inline]
    pub fn is_among(self, partitions: i32) -> bool {
        (self.0 as u32) < partitions as u32
    }
}

/// A topic's id (KIP-516): a UUID as 16 bytes, all zero where the broker gave none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// No id is known.
    pub const ZERO: TopicId = TopicId([0; 16]);

    /// Whether no id is known.
    pub fn is_zero(&self) -> bool {
        *self == TopicId::ZERO
    }
}

/// What a broker gives out in InitProducerId (KIP-98): the identity under which it checks
/// sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerIdentity {
    /// The producer id; -1 in a batch without identity.
    pub id: i64,
    /// Its epoch; -1 in a batch without identity.
    pub epoch: i16,
}

impl ProducerIdentity {
    /// The mark of a batch that has no identity: not idempotent.
    pub const NONE: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
