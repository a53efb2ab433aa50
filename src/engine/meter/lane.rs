//! What is counted for each partition.

use super::Counter;

/// The counters of one lane. Bytes are those of record batches, their headers of 61 bytes included.
#[derive(Debug, Default)]
pub struct LaneMeter {
    /// Records in batches that were sealed. Counted under the lane's `open` lock.
    pub records: Counter,
    /// Bytes of those batches, before compression.
    pub bytes: Counter,
    /// Those batches.
    pub batches: Counter,
    /// Records that are in the log. Counted by the lane's owner, as all that follow.
    pub acked_records: Counter,
    /// Bytes of their batches as they were sent.
    pub acked_bytes: Counter,
    /// Their batches.
    pub acked_batches: Counter,
    /// Records that failed.
    pub failed_records: Counter,
    /// Attempts to send a batch beyond its first.
    pub retries: Counter,
    /// Records that the backoff strategy dropped. Counted by whoever sent them.
    pub dropped_records: Counter,
}
