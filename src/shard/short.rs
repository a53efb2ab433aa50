//! Lanes whose leader has too few followers in sync: NOT_ENOUGH_REPLICAS.
//!
//! Only another attempt tells when the followers are back, and an attempt carries a whole batch. So
//! the waits of a lane grow, but at each broker one lane at a time is tried again after a first
//! wait. Whichever lane is acknowledged first brings news for the others of its broker: their waits
//! end as if they had been first ones.

use std::time::Duration;

use super::shard::Shard;
use crate::batch::LaneId;
use crate::protocol::BrokerId;

/// A lane that was refused for lack of followers, and has not been acknowledged since.
#[derive(Clone, Copy)]
pub(super) struct Short {
    /// Who refused it.
    broker: BrokerId,
    /// When it did so last, in nanoseconds, monotonic.
    refused_at: u64,
    /// Waits since the last news.
    waits: u32,
}

impl Short {
    /// Whether this broker refused it.
    pub(super) fn is_of(&self, broker: Option<BrokerId>) -> bool {
        broker == Some(self.broker)
    }
}

impl Shard {
    /// The lane was refused for lack of followers: how long it waits.
    pub(super) fn wait_for_followers(&mut self, now: u64, id: LaneId) -> Duration {
        let lanes_max = self.lanes.len();
        let leader = self.lane_mut(id).and_then(|entry| entry.half.leader);
        let index = leader.and_then(|leader| self.broker_index(leader.broker));
        let (Some(index), Some(Some(entry))) = (index, self.lanes.get_mut(id.0 as usize)) else {
            return self.retry_backoff(0);
        };
        let broker = &mut self.brokers[index];
        let tries_for_all = broker.tried_until <= now;
        let before = entry.short.filter(|short| short.broker == broker.id);
        let waits = before.filter(|_| !tries_for_all).map_or(0, |short| short.waits);
        entry.short = Some(Short { broker: broker.id, refused_at: now, waits: waits + 1 });
        if before.is_none() {
            if broker.short.len() > lanes_max {
                // Lanes that came and went are in it several times.
                broker.short.sort_unstable();
                broker.short.dedup();
            }
            broker.short.push(id);
        }
        let wait = self.retry_backoff(waits);
        if tries_for_all {
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            self.brokers[index].tried_until = now.saturating_add(nanos);
        }
        wait
    }

    /// A lane that had been short of followers was acknowledged, by the broker that refused it.
    pub(super) fn followers_are_back(&mut self, now: u64, short: Short) {
        let Some(index) = self.broker_index(short.broker) else { return };
        let first = u64::try_from(self.retry_backoff(0).as_nanos()).unwrap_or(u64::MAX);
        let mut lanes = std::mem::take(&mut self.brokers[index].short);
        for &id in &lanes {
            let Some(entry) = self.lane_mut(id) else { continue };
            let same = |other: &Short| other.broker == short.broker;
            if let Some(Short { refused_at, .. }) = entry.short.filter(same) {
                entry.short = None;
                let until = refused_at.saturating_add(first);
                entry.half.backoff_until = entry.half.backoff_until.min(until);
                self.examine(now, id);
            }
        }
        lanes.clear();
        let fresh = &mut self.brokers[index].short;
        if fresh.is_empty() {
            *fresh = lanes;
        }
    }
}
