//! What changed from one picture of the cluster to the next, for who listens.

use std::sync::Arc;

use crate::engine::cluster::{ClusterSnapshot, TopicView};
use crate::engine::event::{Event, EventHub};

/// Tells of brokers, topics, partitions and leaders that are others now than before. A topic that
/// is not `in_use` any more is not followed, which says nothing of whether it exists.
pub(super) fn publish_changes(
    before: &ClusterSnapshot,
    now: &ClusterSnapshot,
    events: &EventHub,
    in_use: impl Fn(&str) -> bool,
) {
    if !events.is_listened_to() {
        return;
    }
    if before.cluster != now.cluster {
        let (old, new) = (before.cluster_id.clone(), now.cluster_id.clone());
        events.publish(|| Event::ClusterChanged { before: old, now: new });
    }
    for id in before.brokers.keys().filter(|id| !now.brokers.contains_key(id)) {
        events.publish(|| Event::BrokerGone { broker: id.0 });
    }
    for (id, address) in &now.brokers {
        if before.brokers.get(id) != Some(address) {
            let address = address.to_string();
            events.publish(|| Event::BrokerFound { broker: id.0, address });
        }
    }
    for (name, view) in now.changed_since(before) {
        match (before.topics.get(name), view) {
            (_, None) if in_use(name) => {
                events.publish(|| Event::TopicGone { topic: name.clone() });
            }
            (_, None) => {}
            // At another cluster, where its partitions are not known yet.
            (_, Some(new)) if new.count == 0 => {}
            (old, Some(new)) => publish_topic(name, old.map(|old| &**old), new, events),
        }
    }
}

fn publish_topic(name: &Arc<str>, old: Option<&TopicView>, new: &TopicView, events: &EventHub) {
    let known = old.map_or(0, |old| old.count);
    let topic = || name.clone();
    if known == 0 && new.count > 0 {
        let partitions = new.count;
        return events.publish(|| Event::TopicFound { topic: topic(), partitions });
    }
    if known != new.count {
        let (before, now) = (known, new.count);
        events.publish(|| Event::PartitionsChanged { topic: topic(), before, now });
    }
    let leaders = old.map_or(&[][..], |old| &old.partitions);
    let both = leaders.iter().zip(&new.partitions).take(new.count.max(0) as usize);
    for (index, (old, new)) in both.enumerate() {
        if old.leader != new.leader {
            events.publish(|| Event::LeaderMoved {
                topic: topic(),
                partition: index as i32,
                before: old.leader.map(|id| id.0),
                now: new.leader.map(|id| id.0),
            });
        }
    }
}
