//! Lanes whose leader has too few followers in sync: NOT_ENOUGH_REPLICAS.
//!
//! Only another attempt tells when the followers are back, and an attempt carries a whole batch. If
//! every lane were tried often, refused batches would fill the network; if every lane waited longer
//! each time, records would wait on after the followers are back. So each lane's waits grow as the
//! retry policy says; but at each broker one lane at a time waits only as long as after a first
//! refusal, and is tried on behalf of all. The first acknowledgement of any refused lane shortens
//! the waits of that broker's other lanes to the same.

use super::shard::Shard;
use crate::engine::batch::LaneId;
use crate::engine::protocol::BrokerId;

/// A lane that was refused for lack of followers, and has not been acknowledged since.
#[derive(Clone, Copy)]
pub(super) struct UnderMinIsr {
    /// Who refused it.
    broker: BrokerId,
    /// When it did so last, in nanoseconds, monotonic.
    refused_at: u64,
    /// Waits so far, each longer than the last. After an attempt on behalf of all they begin anew.
    waits: u32,
}

impl Shard {
    /// `broker` refused the lane for lack of followers: how long the lane waits, in nanoseconds.
    /// Zero if the lane waits already: the refused attempt was sent before that wait began, so it
    /// tells nothing new of the followers. Zero as well if it went to an earlier leader.
    pub(super) fn wait_for_followers(&mut self, now: u64, id: LaneId, broker: BrokerId) -> u64 {
        let lanes_max = 2 * self.lanes.len();
        let index = self.broker_index(broker);
        let (Some(index), Some(Some(entry))) = (index, self.lanes.get_mut(id.0 as usize)) else {
            return self.retry_backoff(0);
        };
        let before = entry.under_min_isr.filter(|state| state.broker == broker);
        if entry.head.is_settling() || before.is_some() && entry.head.backoff_until > now {
            return 0;
        }
        let refusing = &mut self.brokers[index];
        let tries_for_all = refusing.tried_until <= now;
        let waits = before.filter(|_| !tries_for_all).map_or(0, |state| state.waits);
        entry.under_min_isr = Some(UnderMinIsr { broker, refused_at: now, waits: waits + 1 });
        if before.is_none() {
            if refusing.under_min_isr.len() > lanes_max {
                // Lanes that came and went are in it several times.
                refusing.under_min_isr.sort_unstable();
                refusing.under_min_isr.dedup();
            }
            refusing.under_min_isr.push(id);
        }
        let wait = self.retry_backoff(waits);
        if tries_for_all {
            self.brokers[index].tried_until = now.saturating_add(wait);
        }
        wait
    }

    /// Notes that a lane was acknowledged by `broker`, if that is the one that had refused it.
    pub(super) fn end_under_min_isr(&mut self, now: u64, id: LaneId, broker: Option<BrokerId>) {
        let Some(entry) = self.lane_mut(id) else { return };
        let Some(state) = entry.under_min_isr.take_if(|state| Some(state.broker) == broker) else {
            return;
        };
        entry.head.backoff_until = entry.head.backoff_until.min(now);
        self.followers_are_back(now, state);
    }

    /// A lane that had been short of followers was acknowledged.
    fn followers_are_back(&mut self, now: u64, state: UnderMinIsr) {
        let Some(index) = self.broker_index(state.broker) else { return };
        let first = self.retry_backoff(0);
        for id in std::mem::take(&mut self.brokers[index].under_min_isr) {
            let Some(entry) = self.lane_mut(id) else { continue };
            let same = |other: &UnderMinIsr| other.broker == state.broker;
            if let Some(UnderMinIsr { refused_at, .. }) = entry.under_min_isr.filter(same) {
                entry.under_min_isr = None;
                let until = refused_at.saturating_add(first);
                entry.head.backoff_until = entry.head.backoff_until.min(until);
                self.examine(now, id);
            }
        }
    }
}
