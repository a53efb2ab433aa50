//! The producer id: when to ask for one, and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{BrokerAddress, ChannelId, MetadataConfig, MetadataMachine};
use crate::engine::protocol::{BrokerId, ErrorCode, InitProducerIdResponse, ProducerIdentity};
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

/// The longest pause before an id that was refused for good is asked for again, in nanoseconds: ten
/// seconds. Records flow again at most so long after the permission was given.
const DENIED_PAUSE_MAX: u64 = 10_000_000_000;

/// How long a producer goes on without an id before the broker that is connected by then is asked
/// again, in nanoseconds: a minute. It may have been upgraded. Asking costs nothing: the broker has
/// said with the connection's first answer whether it knows the question.
const ASKED_AGAIN_AFTER: u64 = 60_000_000_000;

/// What a refused id means, for the person who has to mend it.
const DENIED: &str = "an idempotent producer needs a producer id: allow the operation \
    IdempotentWrite on the cluster (before Kafka 2.8) or Write on a topic, or set \
    enable_idempotence (enable.idempotence) to false";

/// The same where brokers do not know of producer ids.
const LACKING: &str = "an idempotent producer needs InitProducerId, which no broker speaks (Kafka \
    0.11): set enable_idempotence (enable.idempotence) to false";

/// The producer id, and the question for it.
#[derive(Debug, Default)]
pub(super) struct IdentityQuestion {
    wanted: bool,
    retry_at: u64,
    identity: Option<ProducerIdentity>,
    /// Connections lost in a row over the question.
    failures: u32,
    /// Producer ids received so far.
    ordinal: u64,
    /// Those up to this were given by earlier clusters.
    floor: u64,
    /// Times in a row that an id was refused for good.
    refusals: u32,
    denied: Option<DeliveryErrorCause>,
    /// No broker gives an id, and none is required.
    done_without: bool,
    /// Since that was found, a broker has said that it can give one.
    is_possible: bool,
    /// Brokers that cannot give one: they do not speak InitProducerId.
    lacking: BTreeSet<BrokerAddress>,
    problem: Option<Problem>,
}

fn too_old() -> Problem {
    Problem::new(ProblemKind::BrokerTooOld, LACKING)
}

impl IdentityQuestion {
    /// No id yet, and whether one is needed.
    pub(super) fn new(wanted: bool) -> Self {
        IdentityQuestion { wanted, ..IdentityQuestion::default() }
    }

    /// When to ask, if at all.
    pub(super) fn asks_at(&self) -> Option<u64> {
        self.wanted.then_some(self.retry_at)
    }

    /// A lane used up its producer id's epochs.
    pub(super) fn handle_used_up(&mut self, used_up: ProducerIdentity) {
        if self.identity.is_some_and(|identity| identity.id == used_up.id) {
            self.identity = None;
            self.wanted = true;
        }
    }

    /// A broker says that it can give an id. If the producer does without, because all said that
    /// they cannot, all are asked again, now. It goes on without meanwhile.
    pub(super) fn handle_possible(&mut self, now: u64) {
        // Every connection of a loop says so once it is ready. After the first one all brokers are
        // being asked already; to begin anew each time would ask some of them again and again.
        if self.done_without && !self.is_possible {
            self.is_possible = true;
            self.lacking.clear();
            // If brokers hang up over the question, the pauses that grow with it stay.
            if self.failures == 0 {
                self.retry_at = now;
            }
        }
    }

    /// Ids of the old cluster are void: another one is needed, if one was.
    pub(super) fn start_over(&mut self, wanted: bool) {
        let (ordinal, floor) = (self.ordinal, self.ordinal);
        *self = IdentityQuestion { wanted, ordinal, floor, ..IdentityQuestion::default() };
    }

    /// How many of the ids were those of earlier clusters.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// A producer id arrived, or an error instead.
    pub(super) fn handle_response(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        random: u64,
        response: &InitProducerIdResponse,
    ) {
        self.problem = None;
        self.failures = 0;
        self.lacking.clear();
        if response.error == ErrorCode::NONE {
            (self.denied, self.refusals) = (None, 0);
            (self.done_without, self.is_possible) = (false, false);
            self.identity = Some(response.identity);
            self.ordinal += 1;
            self.wanted = false;
            return;
        }
        if matches!(
            response.error,
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        ) {
            let message = Some(DENIED.into());
            let cause = DeliveryErrorCause::Broker { code: response.error, message };
            self.deny(now, config, random, cause);
        } else {
            (self.denied, self.refusals) = (None, 0);
            self.retry_at = now + config.reconnect_backoff.lengthen(config.interval_min, random);
        }
        self.problem = Some(Problem::from(response.error).at("InitProducerId"));
    }

    /// Has records fail at once, and the next question wait longer each time: only a person can
    /// mend a permission or a broker's age, so asking often would be of no use.
    fn deny(&mut self, now: u64, config: &MetadataConfig, random: u64, cause: DeliveryErrorCause) {
        let doubled = config.interval_min.saturating_mul(1 << self.refusals.min(16));
        self.refusals += 1;
        (self.denied, self.done_without) = (Some(cause), false);
        let wait = doubled.min(DENIED_PAUSE_MAX).max(config.interval_min);
        self.retry_at = now + config.reconnect_backoff.lengthen(wait, random);
    }

    /// The broker that is connected does not speak InitProducerId. Returns whether another one is
    /// to be asked; else all of `brokers` were, and agree.
    pub(super) fn handle_lacking(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        random: u64,
        peer: BrokerAddress,
        brokers: &BTreeMap<BrokerId, BrokerAddress>,
    ) -> bool {
        let is_second_time = !self.lacking.insert(peer);
        let all = brokers.values().all(|broker| self.lacking.contains(broker));
        // Those that cannot be reached are not waited for, and once it is decided each broker that
        // is asked anyway may change it.
        let was_decided = self.done_without && !self.is_possible;
        let is_decided = all && !brokers.is_empty() || is_second_time || was_decided;
        if !is_decided {
            // No pause: each broker is asked once before all are asked again.
            (self.problem, self.retry_at) = (Some(too_old()), now);
            return true;
        }
        // All are asked again, for one may have been upgraded.
        self.lacking.clear();
        (self.failures, self.is_possible) = (0, false);
        if !config.idempotence_required {
            self.done_without = true;
            self.retry_at = now + config.reconnect_backoff.lengthen(ASKED_AGAIN_AFTER, random);
            return false;
        }
        self.problem = Some(too_old());
        self.deny(now, config, random, DeliveryErrorCause::BrokerTooOld(too_old()));
        false
    }

    /// Whether the broker at this address has said that it cannot give a producer id.
    pub(super) fn is_lacking(&self, broker: &BrokerAddress) -> bool {
        self.lacking.contains(broker)
    }

    /// The connection was lost over the question. The broker may hang up over the next one too, so
    /// pauses grow: otherwise there would be a storm of connections.
    pub(super) fn handle_lost(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        random: u64,
        problem: Problem,
    ) {
        self.problem = Some(problem);
        let doubled = config.interval_min.saturating_mul(1 << self.failures.min(16));
        let wait = doubled.min(config.reconnect_backoff.longest).max(config.interval_min);
        self.failures += 1;
        self.retry_at = now + config.reconnect_backoff.lengthen(wait, random);
    }

    /// The producer id, once there is one.
    pub(super) fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    /// Which of the producer ids that it was given the present one is, from 1 on.
    pub(super) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Whether no broker gives an id, and none is required.
    pub(super) fn is_done_without(&self) -> bool {
        self.done_without
    }

    /// Why the producer may not have an id, if brokers said so. It is asked for again.
    pub(super) fn denied(&self) -> Option<&DeliveryErrorCause> {
        self.denied.as_ref()
    }

    /// What went wrong with the last question.
    pub(super) fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }
}

/// What is asked and told about the producer id.
impl MetadataMachine {
    /// A lane used up its producer id's epochs.
    pub fn handle_identity_wanted(&mut self, used_up: ProducerIdentity) {
        self.identity.handle_used_up(used_up);
    }

    /// A broker says that it can give a producer id.
    pub fn handle_identity_possible(&mut self, now: u64) {
        self.identity.handle_possible(now);
    }

    /// How many of the producer ids that it was given were those of earlier clusters.
    pub fn identity_floor(&self) -> u64 {
        self.identity.floor()
    }

    /// A producer id arrived, or an error instead.
    pub fn handle_identity(&mut self, id: ChannelId, now: u64, response: &InitProducerIdResponse) {
        self.handle_answer(now, id);
        let random = self.random.draw();
        self.identity.handle_response(now, &self.config, random, response);
    }

    /// The broker at the other end of a channel, at `peer`, speaks no InitProducerId, which was to
    /// be asked. Returns whether to leave it for another one.
    pub fn handle_identity_lacking(
        &mut self,
        id: ChannelId,
        now: u64,
        peer: BrokerAddress,
    ) -> bool {
        let channel = self.channel_mut(id);
        (channel.in_flight, channel.owes_since) = (None, None);
        let random = self.random.draw();
        let brokers = &self.snapshot.brokers;
        self.identity.handle_lacking(now, &self.config, random, peer, brokers)
    }

    /// The producer id, once there is one.
    pub fn identity(&self) -> Option<ProducerIdentity> {
        self.identity.identity()
    }

    /// Which of the producer ids that it was given the present one is, from 1 on.
    pub fn identity_ordinal(&self) -> u64 {
        self.identity.ordinal()
    }

    /// Whether no broker gives an id, and the producer does without.
    pub fn is_without_identity(&self) -> bool {
        self.identity.is_done_without()
    }

    /// Why the producer may not have an id, if a broker said so. It is asked for again.
    pub fn identity_denied(&self) -> Option<&DeliveryErrorCause> {
        self.identity.denied()
    }
}
