//! Calls of the application's that a consumer's thread has brokers answer: which are under way, and
//! whom to tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::client_parts::nanos;
use crate::config::StartAt;
use crate::engine::cluster::{ClusterSnapshot, Want};
use crate::engine::fetch::{CallId, Fetcher};
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
}

/// The calls that are under way.
#[derive(Default)]
pub(super) struct FetchCalls {
    next: u64,
    lookups: BTreeMap<CallId, Tell<Option<i64>>>,
}

impl FetchCalls {
    /// Begins a call. Returns a topic to ask for metadata about, with the reason.
    pub(super) fn begin(
        &mut self,
        now: u64,
        call: FetchCall,
        timeout: Duration,
        fetcher: &mut Fetcher,
        snapshot: &ClusterSnapshot,
    ) -> Option<(Arc<str>, Want)> {
        let id = CallId(self.next);
        self.next += 1;
        match call {
            FetchCall::Find { topic, partition, at, tell } => {
                self.lookups.insert(id, tell);
                let it = (topic.clone(), partition);
                let is_missing = fetcher.look_up(now, id, it, at, nanos(timeout), snapshot);
                is_missing.then_some((topic, Want::Partition))
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
    }
}
