//! The topics that records wait for, and when the wait for one is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{BrokerAddress, ClusterSnapshot, MetadataConfig};
use crate::error::DeliveryErrorCause;
use crate::protocol::{ErrorCode, MetadataResponse};

/// A topic whose stash must fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTopic {
    /// The topic.
    pub topic: Arc<str>,
    /// Only what came before this time (nanoseconds, monotonic).
    pub came_before: u64,
    /// Why.
    pub cause: DeliveryErrorCause,
}

#[derive(Debug)]
struct Wanted {
    /// Something waits for it since then.
    waiting_since: Option<u64>,
    /// It was asked for at least once.
    asked: bool,
    /// Since when brokers say that there is no such topic.
    unknown_since: Option<u64>,
    /// What the last response said about it.
    error: ErrorCode,
    /// The first broker that said so, as long as no other one has confirmed it.
    said_by: Option<BrokerAddress>,
    /// The log was told that it is unknown.
    warned: bool,
}

/// So long beyond its limit a topic is not called unknown before a second broker said so too, in
/// nanoseconds: others may be down.
const SECOND_OPINION_MAX: u64 = 2_000_000_000;

/// A topic that stays unknown for so long, in nanoseconds, is worth a warning, long before what
/// waits for it fails: its name may be misspelt. One that was just created is known sooner.
const WARNING_AFTER: u64 = 1_000_000_000;

/// When, and why, what waits for a topic fails.
enum Due {
    /// A broker says that it will never be there for this client.
    Now,
    /// Brokers say that it does not exist.
    Unknown(u64),
    /// No broker has said anything of it.
    Unanswered(u64),
}

impl Wanted {
    /// When the log is to hear that it is unknown, if it is to.
    fn warning_at(&self) -> Option<u64> {
        let is_unknown =
            matches!(self.error, ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let since = self.waiting_since?.max(self.unknown_since?);
        (is_unknown && !self.warned).then(|| since.saturating_add(WARNING_AFTER))
    }

    /// `None` while nothing waits for it.
    fn due(&self, config: &MetadataConfig) -> Option<Due> {
        let since = self.waiting_since?;
        if matches!(
            self.error,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::INVALID_TOPIC_EXCEPTION
        ) {
            return Some(Due::Now);
        }
        let unanswered = since.saturating_add(config.delivery_timeout);
        let unknown = self
            .unknown_since
            .map(|unknown| since.max(unknown).saturating_add(config.topic_unknown_max))
            .map(|at| at.saturating_add(self.said_by.as_ref().map_or(0, |_| SECOND_OPINION_MAX)));
        Some(match unknown {
            Some(at) if at <= unanswered => Due::Unknown(at),
            _ => Due::Unanswered(unanswered),
        })
    }
}

/// Every topic that was asked for.
#[derive(Debug, Default)]
pub(super) struct WantedTopics {
    topics: BTreeMap<Arc<str>, Wanted>,
}

impl WantedTopics {
    /// A record waits for this topic. Returns whether brokers must be asked.
    pub(super) fn want(&mut self, now: u64, topic: Arc<str>, known: bool) -> bool {
        let entry = self.topics.entry(topic).or_insert(Wanted {
            waiting_since: None,
            asked: false,
            unknown_since: None,
            error: ErrorCode::NONE,
            said_by: None,
            warned: false,
        });
        if !known {
            entry.waiting_since.get_or_insert(now);
        }
        !known
    }

    /// Whether it is among them.
    pub(super) fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// Whether a record waits for a topic that no broker was asked about.
    pub(super) fn has_unasked(&self) -> bool {
        self.topics.values().any(|wanted| wanted.waiting_since.is_some() && !wanted.asked)
    }

    /// Whether a record waits for any.
    pub(super) fn has_waiting(&self) -> bool {
        self.topics.values().any(|wanted| wanted.waiting_since.is_some())
    }

    /// The topics to ask about now.
    pub(super) fn ask(&mut self) -> Vec<Arc<str>> {
        self.topics.values_mut().for_each(|wanted| wanted.asked = true);
        self.topics.keys().cloned().collect()
    }

    /// Metadata arrived, and `snapshot` is what is known with it. `asked` is whom it is from, if
    /// there are others to ask.
    pub(super) fn handle_metadata(
        &mut self,
        now: u64,
        response: &MetadataResponse,
        snapshot: &ClusterSnapshot,
        asked: Option<BrokerAddress>,
    ) {
        for topic in &response.topics {
            let Some(wanted) = topic.name.as_deref().and_then(|name| self.topics.get_mut(name))
            else {
                continue;
            };
            (wanted.error, wanted.asked) = (topic.error, true);
        }
        for (name, wanted) in &mut self.topics {
            if snapshot.topics.contains_key(name) {
                (wanted.waiting_since, wanted.unknown_since) = (None, None);
                (wanted.said_by, wanted.warned) = (None, false);
            } else if wanted.asked {
                if wanted.unknown_since.is_none() {
                    wanted.said_by.clone_from(&asked);
                } else if wanted.said_by != asked {
                    wanted.said_by = None;
                }
                wanted.unknown_since.get_or_insert(now);
            }
        }
    }

    /// The cluster is another one, of which nothing was asked but what `snapshot` shows.
    pub(super) fn start_over(&mut self, now: u64, snapshot: &ClusterSnapshot) {
        for (name, wanted) in &mut self.topics {
            (wanted.unknown_since, wanted.said_by) = (None, None);
            wanted.error = ErrorCode::NONE;
            if !snapshot.topics.contains_key(name) {
                wanted.waiting_since.get_or_insert(now);
            }
        }
    }

    /// Topics whose stash must fail now. `problem` is what is wrong with the metadata channel.
    pub(super) fn poll_unknown(
        &mut self,
        now: u64,
        config: &MetadataConfig,
        problem: Option<&Arc<str>>,
    ) -> Vec<UnknownTopic> {
        let mut failed = Vec::new();
        for (topic, wanted) in &mut self.topics {
            let Some(due) = wanted.due(config) else { continue };
            let last = match wanted.error {
                ErrorCode::NONE => problem.cloned(),
                error => Some(error.to_string().into()),
            };
            let (cause, limit) = match due {
                Due::Now => {
                    (DeliveryErrorCause::Broker { code: wanted.error, message: None }, None)
                }
                Due::Unknown(at) if at <= now => {
                    let after = Duration::from_nanos(config.topic_unknown_max);
                    let cause = DeliveryErrorCause::UnknownTopic { after, last };
                    (cause, Some(config.topic_unknown_max))
                }
                Due::Unanswered(at) if at <= now => {
                    let after = Duration::from_nanos(config.delivery_timeout);
                    let cause = DeliveryErrorCause::TimedOut { after, last };
                    (cause, Some(config.delivery_timeout))
                }
                _ => continue,
            };
            let came_before = limit.map_or(u64::MAX, |limit| now.saturating_sub(limit) + 1);
            failed.push(UnknownTopic { topic: topic.clone(), came_before, cause });
            wanted.waiting_since = None;
            wanted.error = ErrorCode::NONE;
        }
        failed
    }

    /// Topics that records wait for and that brokers have called unknown for a while, each once.
    pub(super) fn poll_suspicious(&mut self, now: u64) -> Vec<Arc<str>> {
        let due = self.topics.iter_mut().filter_map(|(topic, wanted)| {
            let is_due = wanted.warning_at().is_some_and(|at| at <= now);
            wanted.warned |= is_due;
            is_due.then(|| topic.clone())
        });
        due.collect()
    }

    /// When [`WantedTopics::poll_unknown`] or [`WantedTopics::poll_suspicious`] has something to
    /// say next.
    pub(super) fn poll_timeout(&self, now: u64, config: &MetadataConfig) -> Option<u64> {
        let due = |wanted: &Wanted| match wanted.due(config)? {
            Due::Now => Some(now),
            Due::Unknown(at) | Due::Unanswered(at) => Some(at),
        };
        let warnings = self.topics.values().filter_map(Wanted::warning_at);
        self.topics.values().filter_map(due).chain(warnings).min()
    }
}
