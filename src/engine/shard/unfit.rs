//! Brokers that are too old for what is to be sent. No retry mends that, so what waits for such a
//! broker fails at once, and its connection stays: another one would mostly find the same.

use super::broker::Queued;
use super::shard::Shard;
use crate::engine::protocol::ApiKey;
use crate::engine::protocol::compression::Codec;
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

/// The first version of Produce that takes zstd (KIP-110, Kafka 2.1).
const VERSION_ZSTD_MIN: i16 = 7;

/// After so long on its connection such a broker is asked anew what it speaks, in nanoseconds: ten
/// seconds. What stands behind an address may change without a close.
const ASKED_ANEW_AFTER: u64 = 10_000_000_000;

impl Shard {
    /// The version of Produce to speak to a broker. `None` if it takes none of what this producer
    /// sends: then everything that was queued for it has failed.
    pub(super) fn produce_version(&mut self, now: u64, index: usize) -> Option<i16> {
        let connection = self.brokers[index].connection()?;
        let version = connection.version(ApiKey::Produce);
        // Nothing was sent since the handshake.
        let is_old = connection.idle_at(ASKED_ANEW_AFTER) <= now;
        let problem = match version {
            None => "it speaks no version of Produce with today's record batches (v3, Kafka 0.11)",
            Some(version)
                if version < VERSION_ZSTD_MIN && self.config.compression.codec() == Codec::Zstd =>
            {
                "it takes no zstd (Produce v7, Kafka 2.1): set another compression.type"
            }
            _ => return version,
        };
        let problem = Problem::new(ProblemKind::BrokerTooOld, problem);
        self.fail_queued(now, index, &DeliveryErrorCause::BrokerTooOld(problem.clone()));
        if is_old {
            self.close(now, index, &problem);
        }
        None
    }

    /// Fails what waits in the lanes that are queued for a broker.
    fn fail_queued(&mut self, now: u64, index: usize, cause: &DeliveryErrorCause) {
        let broker = &mut self.brokers[index];
        let full: Vec<_> = broker.full.drain(..).chain(broker.suspect.drain(..)).collect();
        let part_filled: Vec<_> = broker.part_filled.drain(..).collect();
        for &queued in &full {
            if let Some(entry) = self.visiting(queued) {
                entry.in_full = false;
            }
        }
        for &queued in &part_filled {
            if let Some(entry) = self.visiting(queued) {
                entry.in_part_filled = false;
            }
        }
        for Queued { lane, visit } in full.into_iter().chain(part_filled) {
            if let Some(Some(entry)) = self.lanes.get_mut(lane.0 as usize)
                && entry.visit == visit
            {
                // A sender that holds the lane seals it, and posts.
                entry.head.tail.try_seal();
                entry.head.fail_all(cause, &mut self.wakes);
                self.examine(now, lane);
            }
        }
    }
}
