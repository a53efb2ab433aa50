//! Answers that contradict what is known of a topic, where brokers tell no topic ids (before 2.8).
//!
//! An answer with fewer partitions or a lower leader epoch than is known comes from a broker that
//! lags behind, or is about a topic that was deleted and created again. Believing the first would
//! send records to old leaders; never believing the second would send none to the new topic. So
//! such an answer is believed when another broker says the same, or one says so for a while.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::snapshot::Answer;
use super::{BrokerAddress, TopicView};
use crate::engine::protocol::TopicMetadata;

/// So many answers of one broker in a row must say the same.
const ANSWERS_MIN: u32 = 3;

/// And for so long, in nanoseconds: while leaders move, lanes in trouble ask ten times a second,
/// and a broker that lags behind its controller catches up within this.
const STANDS_FOR: u64 = 5_000_000_000;

/// One topic that a broker tells otherwise than it is known.
#[derive(Debug)]
struct Doubt {
    /// Who said so first.
    peer: Option<BrokerAddress>,
    since: u64,
    answers: u32,
}

/// Topics that some broker tells otherwise than they are known.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    topics: BTreeMap<Arc<str>, Doubt>,
}

impl Doubts {
    /// Whether the topic that an answer describes is to be taken for another one than the `known`.
    pub(super) fn believes(
        &mut self,
        name: &str,
        known: &TopicView,
        told: &TopicMetadata,
        answer: &Answer<'_>,
    ) -> bool {
        // Where ids are known they tell whether it is another topic.
        if !known.id.is_zero() || !told.id.is_zero() || !contradicts(known, told) {
            self.topics.remove(name);
            return false;
        }
        let Some(doubt) = self.topics.get_mut(name) else {
            let peer = answer.peer.cloned();
            let doubt = Doubt { peer, since: answer.now, answers: 1 };
            self.topics.insert(name.into(), doubt);
            return false;
        };
        doubt.answers += 1;
        let second = doubt.peer.is_some() && answer.peer != doubt.peer.as_ref();
        let stands = doubt.answers >= ANSWERS_MIN && answer.now >= doubt.since + STANDS_FOR;
        let believes = second || stands;
        if believes {
            self.topics.remove(name);
        }
        believes
    }

    /// The topic is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.topics.remove(name);
    }
}

/// Whether an answer tells fewer partitions than are known, or a lower epoch of one.
fn contradicts(known: &TopicView, told: &TopicMetadata) -> bool {
    let highest = told.partitions.iter().map(|partition| partition.partition.0).max();
    let count = highest.map_or(0, |highest| i64::from(highest) + 1);
    count < i64::from(known.count)
        || told.partitions.iter().any(|partition| {
            let index = partition.partition.index();
            let before = known.partitions.get(index).map_or(-1, |known| known.epoch);
            partition.leader_epoch >= 0 && partition.leader_epoch < before
        })
}
