//! What may differ from topic to topic.

use std::sync::Arc;

use super::FallbackQueue;
use crate::config::NewTopic;
use crate::engine::policy::STAY_MS_MIN;
use crate::engine::protocol::compression::Compression;

/// Acknowledgements of all replicas in sync, as on the wire.
pub const ACKS_ALL: i16 = -1;

/// The settings of one topic. A topic and its lanes share one value, and it never changes. Times in
/// nanoseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Acknowledgements: 0, 1 or -1 (all).
    pub acks: i16,
    /// Batches carry identity and sequences.
    pub idempotent: bool,
    /// How long a part-filled batch waits for more.
    pub linger: u64,
    /// A batch is full at this length.
    pub batch_size: usize,
    /// From a batch's first record until its deliveries fail.
    pub delivery_timeout: u64,
    /// How batches are compressed: as the first of these that their broker takes.
    pub compressions: Vec<Compression>,
    /// What the topic is created with if it does not exist.
    pub create: Option<Arc<NewTopic>>,
    /// Where records go that fail, if the application wants them.
    pub fallback: Option<Arc<FallbackQueue>>,
    /// What a close leaves is kept in files.
    pub spills: bool,
}

impl TopicSettings {
    /// How long a sender of records without key stays with a partition, in milliseconds: as long as
    /// a batch may linger, since records that could have left together are not spread.
    pub fn stay_ms(&self) -> u32 {
        u32::try_from(self.linger / 1_000_000).unwrap_or(u32::MAX).max(STAY_MS_MIN)
    }
}

impl Default for TopicSettings {
    fn default() -> Self {
        TopicSettings {
            acks: ACKS_ALL,
            idempotent: true,
            linger: 0,
            batch_size: 256 * 1_024,
            delivery_timeout: 120_000_000_000,
            compressions: vec![Compression::None],
            create: None,
            fallback: None,
            spills: false,
        }
    }
}
