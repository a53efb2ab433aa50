//! Calls of the application's that a consumer's thread has brokers answer: which are under way, and
//! whom to tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::client_parts::nanos;
use crate::config::StartAt;
use crate::engine::cluster::{ClusterSnapshot, Want};
use crate::engine::fetch::{CallId, Coordinator, Fetcher, GroupCall, SlotId, TopicPartition};
use crate::engine::protocol::PartitionId;
use crate::error::ConsumeErrorCause;

/// Tells the application what became of its call, once.
pub type Tell<T> = Box<dyn FnOnce(Result<T, ConsumeErrorCause>) + Send>;

/// A call of the application's. Dropping it drops what would tell of it, which tells that.
pub enum FetchCall {
    /// Which offset a partition has there; `None` where no record is so new.
    Find {
        /// The topic.
        topic: Arc<str>,
        /// Its partition.
        partition: PartitionId,
        /// Where.
        at: StartAt,
        /// Hears the answer.
        tell: Tell<Option<i64>>,
    },
    /// Has offsets kept for the consumer's group.
    Commit {
        /// The offsets, by partition: those that are read next.
        offsets: BTreeMap<TopicPartition, i64>,
        /// Hears when they are kept.
        tell: Tell<()>,
    },
    /// Which offset of a partition is kept for the group; `None` where none is.
    Committed {
        /// The partition.
        of: TopicPartition,
        /// Hears the answer.
        tell: Tell<Option<i64>>,
    },
}

/// Who waits for the coordinator.
enum Waits {
    Commit(Tell<()>),
    Committed(Tell<Option<i64>>),
    /// A partition that begins there, and how often it was sought.
    Slot(SlotId, u32),
}

/// A partition waits for its group's coordinator as it waits for its leader: as long as it takes.
const FOREVER: u64 = u64::MAX;

/// The calls that are under way.
#[derive(Default)]
pub(super) struct FetchCalls {
    next: u64,
    lookups: BTreeMap<CallId, Tell<Option<i64>>>,
    of_group: BTreeMap<CallId, Waits>,
}

impl FetchCalls {
    /// Begins a call. Returns a topic to ask for metadata about, with the reason.
    pub(super) fn begin(
        &mut self,
        now: u64,
        call: FetchCall,
        timeout: Duration,
        (fetcher, coordinator): (&mut Fetcher, &mut Coordinator),
        snapshot: &ClusterSnapshot,
    ) -> Option<(Arc<str>, Want)> {
        let id = self.id();
        match call {
            FetchCall::Commit { offsets, tell } => {
                self.of_group.insert(id, Waits::Commit(tell));
                coordinator.begin(now, id, GroupCall::Commit(offsets), nanos(timeout));
                None
            }
            FetchCall::Committed { of, tell } => {
                self.of_group.insert(id, Waits::Committed(tell));
                coordinator.begin(now, id, GroupCall::Committed(of), nanos(timeout));
                None
            }
            FetchCall::Find { topic, partition, at, tell } => {
                self.lookups.insert(id, tell);
                let it = (topic.clone(), partition);
                let is_missing = fetcher.look_up(now, id, it, at, nanos(timeout), snapshot);
                is_missing.then_some((topic, Want::Partition))
            }
        }
    }

    fn id(&mut self) -> CallId {
        self.next += 1;
        CallId(self.next)
    }

    /// Has the coordinator asked for the partitions that begin at its offsets.
    pub(super) fn begin_slots(
        &mut self,
        now: u64,
        fetcher: &mut Fetcher,
        coordinator: &mut Coordinator,
    ) {
        while let Some((slot, generation)) = fetcher.poll_uncommitted() {
            let id = self.id();
            self.of_group.insert(id, Waits::Slot(slot, generation));
            let (topic, partition, _) = fetcher.slot(slot);
            let call = GroupCall::Committed((topic.clone(), partition));
            coordinator.begin(now, id, call, FOREVER);
        }
    }

    /// Tells of what the coordinator has answered, or could not.
    pub(super) fn tell_group(
        &mut self,
        now: u64,
        coordinator: &mut Coordinator,
        fetcher: &mut Fetcher,
    ) {
        while let Some((id, outcome)) = coordinator.poll_over(now) {
            match self.of_group.remove(&id) {
                Some(Waits::Commit(tell)) => tell(outcome.map(drop)),
                Some(Waits::Committed(tell)) => {
                    tell(outcome.map(|kept| kept.map(|(offset, _)| offset)));
                }
                Some(Waits::Slot(slot, generation)) => {
                    fetcher.handle_committed(slot, generation, outcome);
                }
                None => {}
            }
        }
    }

    /// Tells of the calls that are over.
    pub(super) fn tell(&mut self, now: u64, fetcher: &mut Fetcher) {
        while let Some((id, found)) = fetcher.poll_found(now) {
            if let Some(tell) = self.lookups.remove(&id) {
                tell(found);
            }
        }
    }

    /// The consumer was dropped: tells every call so.
    pub(super) fn drop_all(&mut self) {
        for (_, tell) in std::mem::take(&mut self.lookups) {
            tell(Err(ConsumeErrorCause::Dropped));
        }
        for (_, waits) in std::mem::take(&mut self.of_group) {
            match waits {
                Waits::Commit(tell) => tell(Err(ConsumeErrorCause::Dropped)),
                Waits::Committed(tell) => tell(Err(ConsumeErrorCause::Dropped)),
                Waits::Slot(..) => {}
            }
        }
    }
}
