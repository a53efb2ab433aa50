//! Topics that nothing is sent to: after a while they are not asked about any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::batch::{LaneTail, RecordAccumulator, TopicLanes, TopicState};
use crate::engine::cluster::MetadataMachine;

/// Topics are looked at so many times within the time after which they count as unused.
const LOOKS: u64 = 4;

/// A topic as it was when it was looked at last.
struct Use {
    /// Batches that its lanes have opened.
    opened: u64,
    /// Nothing was sent since then.
    since: u64,
    /// Senders go to its stash, from where it is asked for again.
    stashes: bool,
}

/// Which topics were used, and when. By looking now and then: a sender notes nothing.
pub(super) struct IdleTopics {
    idle_max: u64,
    next_look: u64,
    uses: BTreeMap<Arc<str>, Use>,
}

impl IdleTopics {
    /// A topic counts as unused after `idle_max` nanoseconds without a record.
    pub(super) fn new(idle_max: u64) -> Self {
        IdleTopics { idle_max, next_look: 0, uses: BTreeMap::new() }
    }

    /// When to look next.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        Some(self.next_look)
    }

    /// Looks for topics that were not used, if it is time. Returns the lanes of those that are
    /// given up.
    ///
    /// At first the topic's senders are sent to the stash: the next record asks for the topic, as
    /// if it were new. Only a look later is it not asked about any more, so that the lane of a
    /// sender which was about to append all the same has a leader that is followed. If nobody has a
    /// handle to it then either, all of it goes.
    pub(super) fn look(
        &mut self,
        now: u64,
        accumulator: &RecordAccumulator,
        machine: &mut MetadataMachine,
    ) -> Vec<Arc<LaneTail>> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.saturating_add((self.idle_max / LOOKS).max(1));
        let mut unused = BTreeSet::new();
        let topics = accumulator.topics_by_name();
        self.uses.retain(|name, _| topics.contains_key(name));
        for (name, topic) in &topics {
            let (opened, open) = work_of(topic);
            let entry = self.uses.entry(name.clone());
            let last = entry.or_insert(Use { opened, since: now, stashes: false });
            if open || opened != last.opened {
                *last = Use { opened, since: now, stashes: false };
            } else if last.stashes && topic.state() == TopicState::Unknown {
                machine.handle_unused(name);
                unused.insert(name.clone());
            } else if now >= last.since.saturating_add(self.idle_max) {
                let stash = topic.lock_stash();
                if stash.is_empty() {
                    topic.set_unknown(&stash);
                    last.stashes = true;
                }
            }
        }
        // The handles to the topics that were looked at must not pass for those of a user.
        drop(topics);
        let lanes = accumulator.forget_topics(|name| unused.contains(name));
        let snapshot = machine.snapshot().clone();
        for name in snapshot.topics.keys() {
            if accumulator.known_topic(name).is_none() {
                machine.forget(name);
            }
        }
        lanes
    }
}

/// How many batches a topic's lanes have opened, and whether anything of it is unresolved.
fn work_of(topic: &TopicLanes) -> (u64, bool) {
    let mut open = !topic.lock_stash().is_empty();
    let mut opened = 0;
    for lane in topic.lanes() {
        let batches = lane.opened();
        opened += batches;
        open |= lane.resolved() < batches;
    }
    (opened, open)
}
