//! A lane comes to another cluster.

use super::doubt::Proved;
use super::head::LaneHead;
use crate::engine::protocol::{ProducerIdentity, TopicId};
use crate::engine::sync::WakeList;
use crate::error::DeliveryErrorCause;

impl LaneHead {
    /// Takes the cluster, by the producer's count of them. Nothing that another one knew of the
    /// lane counts here; `ids` producer ids were given there, and the same id here is somebody
    /// else's.
    pub fn belong_to_cluster(&mut self, cluster: u64, ids: u64) {
        if cluster == self.cluster {
            return;
        }
        self.cluster = cluster;
        self.lead_by(None);
        self.topic_id = TopicId::ZERO;
        self.unnumbered_until = 0;
        self.starts_over = Some(ids);
    }

    /// Which of the producer's clusters the partition is at.
    pub fn cluster(&self) -> u64 {
        self.cluster
    }

    /// Begins anew at another cluster, if the lane came to one and nothing of it is in flight at
    /// the old one any more. What may be in a log there fails with `cause`; the rest is numbered
    /// again, under a new producer id.
    pub fn start_over_if_settled(&mut self, cause: &DeliveryErrorCause, wakes: &mut WakeList) {
        let Some(ids) = self.starts_over.filter(|_| self.in_flight == 0) else { return };
        self.starts_over = None;
        if planted!(CarriesProducerIdAlong) {
            return;
        }
        let mut waiting = std::mem::take(&mut self.retries);
        for mut batch in waiting.drain(..) {
            if batch.state.unanswered {
                self.fail_waiting(batch, cause, wakes);
            } else {
                batch.set_number(ProducerIdentity::NONE, -1);
                batch.state.refused_by = None;
                self.retries.push_back(batch);
            }
        }
        self.sequencer.start_over(ids);
        self.proved = Proved::nothing();
        self.failed_in_doubt = false;
        self.gap_at = None;
        self.proving_leader = true;
        self.suspect = false;
        self.backoff_until = 0;
    }
}
