//! Brokers that are too old for what is to be sent. No retry mends that, so what waits for such a
//! broker fails at once, and its connection stays: another one would mostly find the same.

use super::broker::{Broker, Queued};
use super::shard::Shard;
use crate::engine::batch::{LaneId, TopicSettings};
use crate::engine::protocol::compression::{Codec, Compression};
use crate::engine::protocol::records::RecordFormat;
use crate::engine::protocol::{ApiKey, VERSION_BATCHES_MIN, VERSION_FIVE_REMEMBERED_MIN};
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

/// The first version of Produce that takes zstd (KIP-110, Kafka 2.1).
const VERSION_ZSTD_MIN: i16 = 7;

/// After so long on its connection such a broker is asked anew what it speaks, in nanoseconds: ten
/// seconds. What stands behind an address may change without a close.
const ASKED_ANEW_AFTER: u64 = 10_000_000_000;

/// Which release a broker is of whose newest version of Produce this is, before Kafka 0.11.
fn release_of(version: i16) -> &'static str {
    match version {
        ..2 => "0.8 or 0.9",
        2.. => "0.10",
    }
}

/// What a broker's version of Produce says of it. One that has not told is taken for a modern one.
impl Broker {
    /// How batches are sent to it.
    pub(super) fn format(&self) -> RecordFormat {
        self.produce_version.map_or(RecordFormat::Batch, RecordFormat::of_produce)
    }

    /// Whether it remembers only the last batch of a producer for finding duplicates, as Kafka 0.11
    /// does.
    pub(super) fn remembers_one_batch(&self) -> bool {
        self.produce_version.is_some_and(|version| version < VERSION_FIVE_REMEMBERED_MIN)
    }

    /// Whether it takes batches that are compressed so.
    pub(super) fn takes(&self, codec: Codec) -> bool {
        codec != Codec::Zstd
            || self.produce_version.is_none_or(|version| version >= VERSION_ZSTD_MIN)
    }

    /// How batches for it are compressed; `None` if it takes nothing of what is configured.
    pub(super) fn compression(&self, settings: &TopicSettings) -> Option<Compression> {
        settings.compressions.iter().find(|compression| self.takes(compression.codec())).copied()
    }
}

impl Shard {
    /// The version of Produce to speak to a broker. `None` if it takes none of what this producer
    /// sends: then everything that was queued for it has failed.
    pub(super) fn produce_version(&mut self, now: u64, index: usize) -> Option<i16> {
        let connection = self.brokers[index].connection()?;
        let version = connection.version(ApiKey::Produce);
        // Nothing was sent since the handshake.
        let is_old = connection.idle_at(ASKED_ANEW_AFTER) <= now;
        let problem = match version {
            None => "it speaks no version of Produce that this client speaks".to_owned(),
            Some(version) if version < VERSION_BATCHES_MIN && self.config.idempotence_required => {
                format!(
                    "it is of Kafka {} and knows no idempotence (Kafka 0.11), which \
                     enable_idempotence (enable.idempotence) = true asks for: set it to false, or \
                     leave it out",
                    release_of(version)
                )
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

    /// Fails what waits in a lane whose topic allows no compression that the broker takes. Returns
    /// whether it did.
    pub(super) fn fail_unfit(&mut self, id: LaneId, index: usize) -> bool {
        let Some(Some(entry)) = self.lanes.get_mut(id.0 as usize) else { return false };
        let broker = &mut self.brokers[index];
        if broker.compression(&entry.head.tail.settings).is_some() {
            return false;
        }
        let text = "it takes no zstd (Produce v7, Kafka 2.1): set another compression \
                    (compression.type), or a list of them: zstd,lz4";
        let problem = Problem::new(ProblemKind::BrokerTooOld, text);
        let cause = DeliveryErrorCause::BrokerTooOld(problem.clone());
        broker.unfit = Some(problem);
        // A sender that holds the lane seals it, and posts.
        entry.head.tail.try_seal();
        entry.head.fail_all(&cause, &mut self.wakes);
        self.turned_away += 1;
        true
    }

    /// Closes the connection to a broker that was unfit for a topic, once nothing is in flight and
    /// its answer to what it speaks is old: another broker may be there by now. Returns whether it
    /// did.
    pub(super) fn close_unfit(&mut self, now: u64, index: usize) -> bool {
        let Some(problem) = self.brokers[index].unfit.take() else { return false };
        let is_old = self.brokers[index].connection().is_some_and(|connection| {
            connection.in_flight() == 0 && connection.idle_at(ASKED_ANEW_AFTER) <= now
        });
        if is_old {
            self.close(now, index, &problem);
        }
        is_old
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
