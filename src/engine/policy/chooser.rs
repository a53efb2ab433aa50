//! A topic's partitioner as the send path calls it.

use std::sync::Arc;

use super::{DefaultPartitioner, Moment, PartitionRequest, PartitionView, Partitioner, Partitions};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::{logging as log, user_code};

/// A topic's partitioner. The default one is called directly, and is trusted not to panic; a user's
/// is behind a pointer and a guard.
pub enum Chooser {
    /// The default.
    Default(DefaultPartitioner),
    /// The user's own.
    Own(Arc<dyn Partitioner>),
}

/// The user's partitioner panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionerPanicked;

impl Chooser {
    /// Whether it is the user's code.
    #[inline]
    pub fn is_own(&self) -> bool {
        matches!(self, Chooser::Own(_))
    }

    /// The default partitioner, for a caller that knows how it chooses.
    #[inline]
    pub fn as_default(&self) -> Option<&DefaultPartitioner> {
        match self {
            Chooser::Default(partitioner) => Some(partitioner),
            Chooser::Own(_) => None,
        }
    }

    /// The partition of a record that is sent at `moment`. Where the caller has no use for the time
    /// itself and gives `None`, a user's partitioner is told what `clock` says; the default one
    /// needs it only for records without key. A record that was sent before has no time. A user's
    /// partitioner may answer with any number: the caller checks that there is such a partition.
    ///
    /// # Errors
    /// `PartitionerPanicked`, which costs this record only.
    #[inline]
    pub fn partition<V: PartitionView>(
        &self,
        topic: &str,
        parts: &RecordParts<'_>,
        view: &V,
        moment: Option<Moment>,
        clock: impl FnOnce() -> Option<Moment>,
    ) -> Result<PartitionId, PartitionerPanicked> {
        match self {
            Chooser::Default(partitioner) => {
                Ok(PartitionId(partitioner.choose(parts.key, view, moment)))
            }
            Chooser::Own(partitioner) => {
                let partitions = Partitions::new(view);
                let request = PartitionRequest::new(topic, parts.key, parts.value, partitions)
                    .with_headers(parts.headers)
                    .at(moment.or_else(clock));
                let chosen = user_code::call(|| partitioner.partition(&request));
                chosen.map(PartitionId).map_err(|_| PartitionerPanicked)
            }
        }
    }

    /// A record was appended. A user's hook is called outside of any lock; the default partitioner
    /// only counts, and may be called with a stash locked.
    #[inline]
    pub fn on_appended(
        &self,
        topic: &str,
        partition: PartitionId,
        bytes: usize,
        batch_size: usize,
    ) {
        match self {
            Chooser::Default(partitioner) => {
                partitioner.count_appended(partition.0, bytes, batch_size);
            }
            Chooser::Own(partitioner) => {
                let hook = || partitioner.on_appended(partition.0, bytes, batch_size);
                // A hook that panics has lost nothing but its own count.
                if user_code::call(hook).is_err() {
                    log::error!("topic {topic}: the partitioner panicked after an append");
                }
            }
        }
    }
}

impl From<Arc<dyn Partitioner>> for Chooser {
    fn from(partitioner: Arc<dyn Partitioner>) -> Self {
        Chooser::Own(partitioner)
    }
}
