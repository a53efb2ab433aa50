//! The producer's brokers turn out to be of another cluster: nothing of the old one is used there.

use super::broker::Connectivity;
use super::shard::Shard;
use crate::engine::batch::LaneId;
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

impl Shard {
    /// Broker ids mean other brokers from now on. What is in flight on the connections to the old
    /// ones settles first; nothing more is sent on them.
    pub(super) fn leave_cluster(&mut self, now: u64) {
        let cluster = self.view.snapshot.cluster;
        for index in 0..self.brokers.capacity() {
            let Some(broker) = self.brokers.get_mut(index) else { continue };
            broker.cluster = cluster;
            // An attempt that is under way checks whom it has reached when it is there.
            broker.is_left = matches!(broker.connectivity, Connectivity::Up(_));
            self.close_if_left(now, index);
        }
    }

    /// Closes a connection that is only open for what is in flight on it, once that has settled.
    pub(super) fn close_if_left(&mut self, now: u64, index: usize) {
        let broker = &self.brokers[index];
        let is_settled = broker.connection().is_none_or(|connection| connection.in_flight() == 0);
        if broker.is_left && is_settled {
            let text = "its cluster was left for another";
            self.close(now, index, &Problem::new(ProblemKind::OtherCluster, text));
        }
    }

    /// A lane that came to another cluster begins anew there, once nothing of it is in flight at
    /// the old one. What may have been written there fails: were it sent again, it could be in two
    /// logs.
    pub(super) fn start_over_if_settled(&mut self, id: LaneId) {
        let cause = DeliveryErrorCause::ClusterChanged {
            found: self.view.snapshot.cluster_id.clone().unwrap_or_default(),
        };
        if let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) {
            entry.head.start_over_if_settled(&cause, &mut self.wakes);
        }
    }
}
