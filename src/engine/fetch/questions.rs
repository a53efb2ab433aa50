//! What a broker is asked.

use std::sync::Arc;

use super::fetcher::{Edge, Fetcher, Link, Position, Slot, SlotId, TOO_OLD_FOR_TIMES};
use crate::engine::protocol::{
    BrokerId, FetchPartition, OffsetQuestion, TIME_EARLIEST, TIME_LATEST,
};
use crate::error::ConsumeErrorCause;
use crate::problem::{Problem, ProblemKind};

/// A partition is asked for so many bytes at the least where each has its own bound, so that small
/// messages come in some number.
const PARTITION_BYTES_MIN: usize = 16 << 10;

/// What to ask a broker. Topics follow the order of the consumer's list, from another place each
/// time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Records: of how many bytes at the most, and of which partitions.
    Records(usize, Vec<(Arc<str>, Vec<FetchPartition>)>),
    /// Offsets.
    Offsets(Vec<(Arc<str>, Vec<OffsetQuestion>)>),
}

/// A question, and what stands behind it.
struct Chosen {
    asked: Vec<SlotId>,
    /// The first that there was no room for.
    left_out: Option<SlotId>,
    /// Bytes that the answer may have.
    reserved: usize,
    question: Question,
}

impl Fetcher {
    /// What to ask a broker now, while so many bytes wait for the consumer. First what calls want
    /// to know, then where partitions begin, then for records.
    pub fn poll_question(&mut self, now: u64, id: BrokerId, queued: usize) -> Option<Question> {
        let broker = self.brokers.get(&id)?;
        if broker.link != Link::Ready || broker.asked.is_some() {
            return None;
        }
        if let Some(topics) = self.lookups.question(now, id, broker.abilities.finds_times) {
            self.brokers.get_mut(&id)?.asked = Some(Vec::new());
            return Some(Question::Offsets(topics));
        }
        let ready = |slot: &Slot| {
            let is_led = slot.leader.is_some_and(|leader| leader.broker == id);
            let is_known = !matches!(slot.position, Position::Committed { .. });
            is_led && is_known && slot.is_active() && !slot.is_asked && slot.retry_at <= now
        };
        let count = self.slots.len();
        let turn = (broker.turn + 1) % count.max(1);
        let order = (turn..count).chain(0..turn).filter(|&at| ready(&self.slots[at]));
        let mut order: Vec<SlotId> = order.map(SlotId).collect();
        if let Some(&alone) = order.iter().find(|slot| self.slots[slot.0].is_alone) {
            order = vec![alone];
        }
        let abilities = broker.abilities;
        if !abilities.finds_times {
            order.retain(|&slot| !self.fail_time(slot));
        }
        let question = match self.offsets(&order) {
            None => self.records(&order, queued, abilities.bounds_answers),
            offsets => offsets,
        };
        let Chosen { asked, left_out, reserved, question } = question?;
        for slot in &asked {
            self.slots[slot.0].is_asked = true;
        }
        let asked = asked.iter().map(|&slot| (slot, self.slots[slot.0].asked())).collect();
        let broker = self.brokers.get_mut(&id)?;
        // The next question begins with the first that had no room in this one.
        let turn = left_out.map_or(turn, |slot| (slot.0 + count - 1) % count);
        (broker.asked, broker.reserved, broker.turn) = (Some(asked), reserved, turn);
        Some(question)
    }

    /// Whether the partition begins at a time. It fails.
    fn fail_time(&mut self, id: SlotId) -> bool {
        if !matches!(self.slots[id.0].position, Position::FindTime { .. }) {
            return false;
        }
        let problem = Problem::new(ProblemKind::BrokerTooOld, TOO_OLD_FOR_TIMES);
        self.fail(id, ConsumeErrorCause::Refused(problem));
        true
    }

    fn offsets(&self, order: &[SlotId]) -> Option<Chosen> {
        let mut asked = Vec::new();
        let mut topics = Vec::new();
        for &id in order {
            let slot = &self.slots[id.0];
            let time = match slot.position {
                Position::At { .. } | Position::Committed { .. } => continue,
                Position::Find(Edge::Earliest) => TIME_EARLIEST,
                Position::Find(Edge::Latest) | Position::FindTime { end: None, .. } => TIME_LATEST,
                Position::FindTime { time, .. } => time,
            };
            let leader_epoch = slot.leader.map_or(-1, |leader| leader.epoch);
            let question = OffsetQuestion { partition: slot.partition, leader_epoch, time };
            push(&mut topics, &slot.topic, question);
            asked.push(id);
        }
        let question = Question::Offsets(topics);
        (!asked.is_empty()).then_some(Chosen { asked, left_out: None, reserved: 0, question })
    }

    fn records(&mut self, order: &[SlotId], queued: usize, bounds_answers: bool) -> Option<Chosen> {
        // Half of the room is shared out, so that no broker has to wait for the answers of others.
        let leads = |id: &BrokerId| {
            let led = |slot: &Slot| slot.leader.is_some_and(|leader| leader.broker == *id);
            self.slots.iter().any(|slot| slot.is_active() && led(slot))
        };
        let ready = self.brokers.iter().filter(|(id, it)| it.link == Link::Ready && leads(id));
        let each = self.config.queue_max_bytes / 2 / ready.count().max(1);
        let share = self.config.max_bytes.min(each).max(1);
        let reserved: usize = self.brokers.values().map(|broker| broker.reserved).sum();
        let is_full = queued + reserved + share > self.config.queue_max_bytes;
        self.lacks_room |= is_full && !order.is_empty();
        if is_full {
            return None;
        }
        let mut asked = Vec::new();
        let mut topics = Vec::new();
        let (mut most, mut left_out) = (0, None);
        for &id in order {
            let slot = &self.slots[id.0];
            let Position::At { offset, last_epoch } = slot.position else { continue };
            let mut max_bytes = slot.max_bytes;
            if !bounds_answers {
                // A partition whose first message was cut off gets what that needs.
                let was_cut_off = max_bytes > self.config.partition_max_bytes;
                if !was_cut_off {
                    max_bytes = max_bytes.min((share / order.len()).max(PARTITION_BYTES_MIN));
                }
                if most + max_bytes > share && !asked.is_empty() {
                    left_out = left_out.or(Some(id));
                    continue;
                }
            }
            most += max_bytes;
            let question = FetchPartition {
                partition: slot.partition,
                leader_epoch: slot.leader.map_or(-1, |leader| leader.epoch),
                offset,
                last_epoch,
                max_bytes: max_bytes.try_into().unwrap_or(i32::MAX),
            };
            push(&mut topics, &slot.topic, question);
            asked.push(id);
        }
        let reserved = if bounds_answers { share } else { most.max(share) };
        (!asked.is_empty()).then_some(Chosen {
            asked,
            left_out,
            reserved,
            question: Question::Records(share, topics),
        })
    }
}

/// Adds a question to those about its topic, if it is the last of them.
fn push<T>(topics: &mut Vec<(Arc<str>, Vec<T>)>, topic: &Arc<str>, question: T) {
    match topics.last_mut() {
        Some((last, questions)) if *last == *topic => questions.push(question),
        _ => topics.push((topic.clone(), vec![question])),
    }
}
