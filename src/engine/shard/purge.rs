//! Failing what waits, and what is in flight, because the application says so.

use std::collections::HashMap;
use std::sync::Arc;

use super::broker::Broker;
use super::port::PurgeOrder;
use super::shard::Shard;
use crate::engine::batch::{LaneId, LaneTail, Unsent};
use crate::engine::connection::InFlightBatch;
use crate::error::DeliveryErrorCause;

impl Shard {
    /// Fails everything unresolved: the close's timeout has passed. What is certainly in no log is
    /// left with `unsent`, if somebody wants it.
    pub(super) fn fail_all(&mut self, cause: DeliveryErrorCause, unsent: Option<Arc<Unsent>>) {
        for index in 0..self.brokers.capacity() {
            if let Some(unsent) = &unsent {
                self.leave_behind(index, unsent, &cause);
            }
            self.fail_in_flight(index, u64::MAX, |_, _| Some(cause.clone()));
            if unsent.is_some() {
                self.forget_behind(index);
            }
        }
        for index in 0..self.lanes.len() {
            let cause = self.completed(&cause, LaneId(index as u32));
            if let Some(Some(entry)) = self.lanes.get_mut(index) {
                entry.head.tail.seal(true);
                entry.head.fail_all_or_leave(unsent.as_deref(), &cause, &mut self.wakes);
            }
        }
        self.failing = Some((cause, unsent));
    }

    /// Of batches in flight that were split, copies what waits behind the present piece.
    fn leave_behind(&mut self, index: usize, unsent: &Unsent, cause: &DeliveryErrorCause) {
        let connection = self.brokers.get_mut(index).and_then(Broker::connection_mut);
        for InFlightBatch { lane, batch, .. } in
            connection.into_iter().flat_map(|it| it.batches_mut())
        {
            if let Some(Some(entry)) = self.lanes.get(lane.0 as usize) {
                unsent.copy_behind(&entry.head.tail, batch, cause);
            }
        }
    }

    /// What [`Shard::leave_behind`] has left to the close does not go to the fallback too.
    fn forget_behind(&mut self, index: usize) {
        let connection = self.brokers.get_mut(index).and_then(Broker::connection_mut);
        for it in connection.into_iter().flat_map(|it| it.batches_mut()) {
            it.batch.leave_behind_to_close();
        }
    }

    /// Fails what waits, and what is in flight if that is asked for. Its requests go on: nothing
    /// that a broker may still carry out can be taken back, so those records may be written.
    pub(super) fn purge(&mut self, now: u64, purge: &PurgeOrder) {
        let cause = DeliveryErrorCause::Purged;
        let below: HashMap<LaneId, &(Arc<LaneTail>, u64)> =
            purge.below.iter().map(|entry| (entry.0.id, entry)).collect();
        // An id may have been given to another lane since.
        let limit = |lane: &LaneTail| {
            let (meant, number) = below.get(&lane.id)?;
            std::ptr::eq(&**meant, lane).then_some(*number)
        };
        if purge.in_flight {
            for index in 0..self.brokers.capacity() {
                self.fail_in_flight(index, u64::MAX, |lane, batch| {
                    limit(lane).filter(|&limit| batch.number < limit).map(|_| cause.clone())
                });
            }
        }
        for id in below.keys() {
            let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) else { continue };
            let Some(limit) = limit(&entry.head.tail) else { continue };
            entry.head.fail_below(limit, &cause, &mut self.wakes);
            self.examine(now, *id);
        }
    }
}
