//! The producer id: when to ask for one, and what came of it.

use std::sync::Arc;

use super::MetadataConfig;
use crate::protocol::{ErrorCode, InitProducerIdResponse, ProducerIdentity};

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
    denied: Option<ErrorCode>,
    problem: Option<Arc<str>>,
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
        self.denied = None;
        self.problem = None;
        self.failures = 0;
        if response.error == ErrorCode::NONE {
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
            self.denied = Some(response.error);
        }
        self.problem = Some(format!("InitProducerId: {}", response.error).into());
        self.retry_at = now + config.reconnect_backoff.lengthen(config.interval_min, random);
    }

    /// The connection was lost over the question. What made this broker hang up may do so again:
    /// the pauses grow, so that there is no storm of connections.
    pub(super) fn handle_lost(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        random: u64,
        problem: Arc<str>,
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

    /// Why the producer may not have an id, if a broker said so. It is asked for again.
    pub(super) fn denied(&self) -> Option<ErrorCode> {
        self.denied
    }

    /// What went wrong with the last question, in words.
    pub(super) fn problem(&self) -> Option<&Arc<str>> {
        self.problem.as_ref()
    }
}
