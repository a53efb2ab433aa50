//! One partition: who leads it, its log, its producers.

pub(super) mod read;

use bytes::Bytes;

use super::batch::{self, BatchHeader};
use super::producer_state::{Claim, ProducerStates, Verdict};
use super::records::{self, EmbeddedRecord};

/// The error codes that the embedded brokers answer with (from Kafka's protocol guide).
pub(super) mod error {
    pub(crate) const NONE: i16 = 0;
    pub(crate) const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub(crate) const CORRUPT_MESSAGE: i16 = 2;
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(crate) const LEADER_NOT_AVAILABLE: i16 = 5;
    pub(crate) const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub(crate) const MESSAGE_TOO_LARGE: i16 = 10;
    pub(crate) const COORDINATOR_NOT_AVAILABLE: i16 = 15;
    pub(crate) const NOT_COORDINATOR: i16 = 16;
    pub(crate) const INVALID_TOPIC_EXCEPTION: i16 = 17;
    pub(crate) const INVALID_REQUIRED_ACKS: i16 = 21;
    pub(crate) const UNKNOWN_MEMBER_ID: i16 = 25;
    pub(crate) const INVALID_TIMESTAMP: i16 = 32;
    pub(crate) const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
    pub(crate) const ILLEGAL_SASL_STATE: i16 = 34;
    pub(crate) const UNSUPPORTED_VERSION: i16 = 35;
    pub(crate) const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub(crate) const INVALID_PARTITIONS: i16 = 37;
    pub(crate) const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub(crate) const INVALID_CONFIG: i16 = 40;
    pub(crate) const INVALID_REQUEST: i16 = 42;
    pub(crate) const POLICY_VIOLATION: i16 = 44;
    pub(crate) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub(crate) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(crate) const SASL_AUTHENTICATION_FAILED: i16 = 58;
    pub(crate) const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub(crate) const FENCED_LEADER_EPOCH: i16 = 74;
    pub(crate) const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub(crate) const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
    pub(crate) const INVALID_RECORD: i16 = 87;
    pub(crate) const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: i16,
    pub message: &'static str,
}

impl Refusal {
    pub(super) fn new(code: i16, message: &'static str) -> Refusal {
        Refusal { code, message }
    }
}

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    pub base_offset: i64,
    /// -1 unless the topic has log append time.
    pub append_time: i64,
    /// It was in the log already and was not written again.
    pub duplicate: bool,
}

/// What is taken of a partition's records in a produce request.
#[derive(Clone, Debug)]
pub(super) enum Submitted {
    /// All of it; `None` is null.
    Whole(Option<Bytes>),
    /// The first bytes, and the size of all.
    HeaderOnly { size: usize, header: [u8; batch::HEADER_BYTES] },
}

impl Submitted {
    /// The header and the size, once it is clear that there is a header.
    pub(super) fn header(&self) -> Result<(BatchHeader, usize), Refusal> {
        const NONE: &str = "a partition's records hold exactly one batch";
        let none = Refusal::new(error::INVALID_RECORD, NONE);
        let (size, header) = match self {
            Submitted::Whole(None) => return Err(none),
            Submitted::Whole(Some(bytes)) => (bytes.len(), bytes.first_chunk().ok_or(none)?),
            Submitted::HeaderOnly { size, header } => (*size, header),
        };
        Ok((BatchHeader::read(header).ok_or(none)?, size))
    }
}

/// What is appended as one, valid: a batch, or a message set.
#[derive(Debug)]
pub(super) struct Incoming {
    /// At least 1.
    pub record_count: i32,
    /// Bytes as they came.
    pub size: usize,
    /// Message sets have none, and touch no producer's state.
    claim: Option<Claim>,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    Discarded,
    Batch(BatchHeader, Bytes),
    /// The offsets count from the first.
    Messages(Vec<EmbeddedRecord>),
}

impl Incoming {
    /// A batch whose header (and contents, unless discarded) are valid.
    pub(super) fn batch(header: &BatchHeader, submitted: &Submitted) -> Incoming {
        Incoming {
            record_count: header.record_count,
            size: header.size,
            claim: claim_of(header),
            contents: match submitted {
                Submitted::Whole(Some(bytes)) => Contents::Batch(*header, bytes.clone()),
                _ => Contents::Discarded,
            },
        }
    }

    /// A message set of `size` bytes, read whole.
    pub(super) fn messages(records: Vec<EmbeddedRecord>, size: usize, discard: bool) -> Incoming {
        Incoming {
            record_count: i32::try_from(records.len()).unwrap_or(i32::MAX),
            size,
            claim: None,
            contents: if discard { Contents::Discarded } else { Contents::Messages(records) },
        }
    }
}

#[derive(Debug)]
struct Stored {
    base_offset: i64,
    /// That of the leader that appended it.
    leader_epoch: i32,
    append_time: Option<i64>,
    incoming: Incoming,
}

impl Stored {
    /// The offset after its last record.
    fn end(&self) -> i64 {
        self.base_offset + i64::from(self.incoming.record_count)
    }

    fn records(&self, out: &mut Vec<EmbeddedRecord>) {
        match &self.incoming.contents {
            Contents::Discarded => {}
            Contents::Batch(header, bytes) => {
                records::decode(header, bytes, self.base_offset, self.append_time, out)
                    .expect("batches are decoded once before they are stored");
            }
            Contents::Messages(messages) => {
                out.extend(messages.iter().cloned().map(|message| EmbeddedRecord {
                    offset: message.offset + self.base_offset,
                    timestamp: self.append_time.unwrap_or(message.timestamp),
                    ..message
                }))
            }
        }
    }
}

/// A partition. Leadership and log are one value under one lock, so that no batch is appended by a
/// broker that has just lost the lead.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// -1 for none.
    pub leader: i32,
    pub leader_epoch: i32,
    offset_next: i64,
    producers: ProducerStates,
    batches: Vec<Stored>,
}

impl Partition {
    pub(super) fn new(leader: i32) -> Partition {
        Partition { leader, ..Partition::default() }
    }

    /// Gives the lead to another broker, or to none (-1), in a new epoch.
    pub(super) fn lead(&mut self, leader: i32) {
        self.leader = leader;
        self.leader_epoch += 1;
    }

    /// Another leader, in its next epoch, lacks everything from the batch on that holds `offset`:
    /// an unclean election. Batches are told apart only where payloads are kept.
    pub(super) fn cut_off(&mut self, offset: i64) {
        self.batches.retain(|batch| batch.end() <= offset);
        self.offset_next = self.batches.last().map_or(0, Stored::end);
        self.leader_epoch += 1;
        self.producers.forget();
        for batch in &self.batches {
            if let Some(claim) = &batch.incoming.claim {
                self.producers.appended(claim, batch.base_offset);
            }
        }
    }

    /// What the leader remembers of producers.
    pub(super) fn producers(&mut self) -> &mut ProducerStates {
        &mut self.producers
    }

    /// The offset that the next record gets.
    pub(super) fn high_watermark(&self) -> i64 {
        self.offset_next
    }

    /// Appends what is valid, unless it is in the log already. `append_time` is given for topics
    /// with log append time.
    pub(super) fn append(
        &mut self,
        incoming: Incoming,
        append_time: Option<i64>,
    ) -> Result<Appended, Refusal> {
        if let Some(claim) = &incoming.claim
            && let Verdict::Duplicate { base_offset } = self.producers.check(claim)?
        {
            return Ok(Appended { base_offset, append_time: -1, duplicate: true });
        }
        let base_offset = self.offset_next;
        if let Some(claim) = &incoming.claim {
            self.producers.appended(claim, base_offset);
        }
        self.offset_next += i64::from(incoming.record_count);
        if !matches!(incoming.contents, Contents::Discarded) {
            let leader_epoch = self.leader_epoch;
            self.batches.push(Stored { base_offset, leader_epoch, append_time, incoming });
        }
        let append_time = append_time.unwrap_or(-1);
        Ok(Appended { base_offset, append_time, duplicate: false })
    }

    /// Everything in the log, decoded; empty when payloads are discarded.
    pub(super) fn records(&self) -> Vec<EmbeddedRecord> {
        let mut out = Vec::new();
        for batch in &self.batches {
            batch.records(&mut out);
        }
        out
    }
}

fn claim_of(header: &BatchHeader) -> Option<Claim> {
    (header.producer_id >= 0).then_some(Claim {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        sequence_first: header.base_sequence,
        records: header.record_count,
    })
}
