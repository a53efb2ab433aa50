//! Whether the brokers that answer are of the cluster that the producer knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{BrokerAddress, ClusterSnapshot};

/// The ids of two clusters: the one that is known, and the one that answers in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCluster {
    /// The one that the producer knows.
    pub known: Arc<str>,
    /// The one that answers.
    pub found: Arc<str>,
}

/// Answers of another cluster than the known one, as long as they are not believed.
#[derive(Debug)]
struct Seen {
    id: Arc<str>,
    since: u64,
    /// Brokers of the known cluster that were not found to be gone since, or to be of the other.
    unasked: BTreeSet<BrokerAddress>,
    /// The known brokers are being gone through.
    searched: bool,
}

/// Collects what speaks for another cluster.
///
/// A name may lead to another cluster for a moment, and two bootstrap names may lead to two. So
/// another id is believed only when every known broker was tried since it was first heard, and none
/// of them answered with the known one.
#[derive(Debug, Default)]
pub(super) struct ForeignWatch {
    seen: Option<Seen>,
}

impl ForeignWatch {
    /// Metadata arrived. Returns the answer's cluster id if it is another than the known one.
    pub(super) fn foreign_id(
        &mut self,
        snapshot: &ClusterSnapshot,
        answered: Option<&str>,
    ) -> Option<Arc<str>> {
        // A broker that tells no id proves nothing.
        let answered = answered.filter(|id| !id.is_empty())?;
        let known = snapshot.cluster_id.as_deref()?;
        if answered == known {
            self.seen = None;
            return None;
        }
        Some(answered.into())
    }

    /// A broker answered with another cluster's id. Returns whether that is believed now, as it is
    /// after `hold` nanoseconds at the earliest.
    pub(super) fn handle_foreign(
        &mut self,
        now: u64,
        hold: u64,
        id: &Arc<str>,
        address: Option<&BrokerAddress>,
        snapshot: &ClusterSnapshot,
    ) -> bool {
        let seen = self.seen.get_or_insert_with(|| Seen {
            id: id.clone(),
            since: now,
            unasked: snapshot.brokers.values().cloned().collect(),
            searched: false,
        });
        if seen.id != *id {
            (seen.id, seen.since) = (id.clone(), now);
        }
        if let Some(address) = address {
            seen.unasked.remove(address);
        }
        seen.unasked.is_empty() && seen.since.saturating_add(hold) <= now
    }

    /// A broker could not be reached, or was lost.
    pub(super) fn handle_down(&mut self, address: Option<&BrokerAddress>) {
        if let (Some(seen), Some(address)) = (&mut self.seen, address) {
            seen.unasked.remove(address);
        }
    }

    /// The other cluster is the known one from now on.
    pub(super) fn clear(&mut self) {
        self.seen = None;
    }

    /// Whether another cluster was heard before as well. The first time, the search begins anew,
    /// with the known brokers.
    pub(super) fn is_heard_again(&mut self) -> bool {
        let again = |seen: &mut Seen| std::mem::replace(&mut seen.searched, true);
        self.seen.as_mut().is_some_and(again)
    }
}
