//! Tests of lanes and batches on a clock that only the test moves.

mod bytes;
mod doubts;
mod heads;
mod lanes;
mod pieces;
mod stashes;
mod undelivered;

use std::cell::Cell as StdCell;
use std::sync::Arc;

use super::*;
use crate::engine::buffer::{AccountId, AccountKind, BufferPool, BufferPoolOptions, Segment};
use crate::engine::policy::Partitioner;
use crate::engine::protocol::records::{RecordBatchReader, RecordParts};
use crate::engine::protocol::{BrokerId, ProducerIdentity};
use crate::engine::sync::WakeList;

pub(super) const MS: u64 = 1_000_000;
pub(super) const DELIVERY_TIMEOUT: u64 = 120_000 * MS;
pub(super) const RULES: DrainRules = DrainRules {
    idempotent: true,
    in_flight_max: 5,
    producer_id_idle_max: 900_000 * MS,
    connection: 0,
};
pub(super) const ANY_ERROR: DeliveryErrorCause = DeliveryErrorCause::Dropped;

/// A clock that stands still until the test sets it.
#[derive(Default)]
pub(super) struct ManualClock(StdCell<u64>);

impl MonotonicClock for ManualClock {
    fn monotonic(&self) -> u64 {
        self.0.get()
    }
}

/// A producer's memory and lanes, without shards.
pub(super) struct Bench {
    pub accumulator: Arc<RecordAccumulator>,
    pub account: AccountId,
    pub clock: ManualClock,
}

impl Bench {
    pub fn new(pool_bytes: usize, batch_size: usize) -> Bench {
        Bench::with(pool_bytes, TopicSettings { batch_size, ..TopicSettings::default() })
    }

    pub fn with(pool_bytes: usize, settings: TopicSettings) -> Bench {
        let options = BufferPoolOptions { bytes: pool_bytes, ..Default::default() };
        let pool = BufferPool::new(&options).expect("the system gives a test some memory");
        let account = pool.open_account(AccountKind::Broker).expect("there is room for one");
        let topics = TopicSettings { delivery_timeout: DELIVERY_TIMEOUT, ..settings };
        let config = AccumulatorConfig {
            topics: Arc::new(topics),
            lanes_max: 100,
            leaderless_account: account,
        };
        let accumulator = RecordAccumulator::new(config, pool);
        Bench { accumulator, account, clock: ManualClock::default() }
    }

    pub fn pool(&self) -> &BufferPool {
        &self.accumulator.pool
    }

    pub fn context(&self) -> AppendContext<'_> {
        self.accumulator.append_context(&self.accumulator.config.topics, &self.clock)
    }

    pub fn set_now(&self, now: u64) {
        self.clock.0.set(now);
    }

    /// A topic of so many partitions, and its lanes' heads.
    #[expect(clippy::vec_box, reason = "heads live in boxes")]
    pub fn topic(&self, name: &str, partitions: i32) -> (Arc<TopicLanes>, Vec<Box<LaneHead>>) {
        let first: Arc<dyn Partitioner> =
            Arc::new(|_: &crate::engine::policy::PartitionRequest<'_>| 0);
        let topic = self.accumulator.topic(name, || first);
        let heads = self.grow(&topic, partitions);
        (topic, heads)
    }

    #[expect(clippy::vec_box, reason = "heads live in boxes")]
    pub fn grow(&self, topic: &TopicLanes, partitions: i32) -> Vec<Box<LaneHead>> {
        let heads = self.accumulator.new_lanes(topic, partitions as usize, |_| ShardId(0));
        assert_eq!(topic.lane_count() + heads.len(), partitions as usize, "lanes_max");
        topic.grow(heads.iter().map(|head| head.tail.clone()));
        topic.set_partitions(partitions);
        heads
    }

    /// One lane, with leader 1 in epoch 1 and a producer id.
    pub fn led_head(&self) -> Box<LaneHead> {
        let mut head = self.topic("t", 1).1.remove(0);
        head.lead_by(leader(1, 1));
        head.offer_identity(identity(7, 0), 1);
        head
    }

    /// Appends as a sender does: takes room with no lock held and tries again.
    pub fn append(&self, lane: &LaneTail, value: &[u8]) -> Result<CellHandle, Refusal> {
        let parts = RecordParts { key: None, value: Some(value), headers: &[] };
        self.append_parts(lane, 0, &parts)
    }

    pub fn append_parts(
        &self,
        lane: &LaneTail,
        timestamp: i64,
        parts: &RecordParts<'_>,
    ) -> Result<CellHandle, Refusal> {
        let mut spare: Vec<Segment> = Vec::new();
        loop {
            match lane.append(&self.context(), timestamp, parts, &mut spare).result {
                Err(Refusal::NeedRoom(need)) => {
                    spare.clear();
                    if !take_room(self.pool(), lane.account(), need, &mut spare) {
                        return Err(Refusal::NeedRoom(need));
                    }
                }
                result => return result,
            }
        }
    }

    /// Appends one record as a batch of its own.
    pub fn sealed(&self, lane: &LaneTail, value: &[u8]) -> CellHandle {
        let handle = self.append(lane, value).expect("the pool has room");
        assert!(lane.try_seal());
        handle
    }

    /// Lets go of a head, then sees to it that nothing is left in use.
    pub fn assert_all_free(&self) {
        self.pool().assert_all_free();
    }
}

pub(super) fn leader(broker: i32, epoch: i32) -> Option<Leader> {
    Some(Leader { broker: BrokerId(broker), epoch })
}

pub(super) fn identity(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id, epoch }
}

/// Drains one batch, which must be there, and notes whom it is sent to.
pub(super) fn drain(head: &mut LaneHead) -> Box<Batch> {
    assert_eq!(head.drainable(0, RULES), Drainable::Now);
    let mut batch = head.drain(RULES).expect("drainable() said so");
    batch.state.broker = head.leader.map(|leader| leader.broker);
    batch
}

pub(super) fn ack(head: &mut LaneHead, batch: Box<Batch>, offset: i64) {
    head.settle_acked(0, batch, (Some(offset), None), &mut WakeList::default());
}

/// The whole batch as it goes over the wire.
pub(super) fn wire(batch: &mut Batch) -> Vec<u8> {
    batch.write_header();
    batch.wire_slices().flatten().copied().collect()
}

/// The values of a batch, read back with its CRC checked.
pub(super) fn values(batch: &mut Batch) -> Vec<Vec<u8>> {
    let bytes = wire(batch);
    let (reader, rest) = RecordBatchReader::read(&bytes, 1 << 24).expect("the batch can be read");
    assert!(rest.is_empty());
    let records = reader.records().map(|record| record.expect("each record can be read"));
    records.map(|record| record.value.unwrap_or_default().to_vec()).collect()
}
