//! Known topics that are asked about more often than others, because a partition has no leader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::wanted::asks_again_at;
use super::{ClusterSnapshot, MetadataConfig};

/// Topics with partitions that nobody leads.
#[derive(Debug, Default)]
pub(super) struct TroubledTopics {
    leaderless: BTreeSet<Arc<str>>,
    /// When a partition was last seen to lose its leader, if some have none.
    since: Option<u64>,
    /// When they were asked about last.
    asked_at: Option<u64>,
    /// Topics that were created again with fewer partitions, and since when they lack some.
    lacking: BTreeMap<Arc<str>, u64>,
}

impl TroubledTopics {
    /// A topic was described, as `snapshot` has it now.
    pub(super) fn handle_changed(&mut self, now: u64, name: &str, snapshot: &ClusterSnapshot) {
        self.handle_leaders(name, snapshot);
        match snapshot.topics.get_key_value(name).filter(|(_, view)| view.has_lacking()) {
            Some((name, _)) if !self.lacking.contains_key(name) => {
                self.lacking.insert(name.clone(), now);
            }
            Some(_) => {}
            None => {
                self.lacking.remove(name);
            }
        }
    }

    /// Leaders of a topic may have changed.
    pub(super) fn handle_leaders(&mut self, name: &str, snapshot: &ClusterSnapshot) {
        match snapshot.topics.get_key_value(name).filter(|(_, view)| view.has_leaderless()) {
            Some((name, _)) => {
                self.leaderless.insert(name.clone());
            }
            None => {
                self.leaderless.remove(name);
            }
        }
    }

    /// Metadata arrived; with `lost`, a partition has lost its leader.
    pub(super) fn handle_answer(&mut self, now: u64, lost: bool) {
        if lost {
            self.since = Some(now);
        }
        self.since = (!self.leaderless.is_empty()).then(|| self.since.unwrap_or(now));
    }

    /// The topic is not asked about any longer.
    pub(super) fn forget(&mut self, name: &str) {
        self.leaderless.remove(name);
        self.lacking.remove(name);
    }

    /// Whether there are such topics.
    pub(super) fn has_leaderless(&self) -> bool {
        !self.leaderless.is_empty()
    }

    /// Every topic was asked about, or those without leader were.
    pub(super) fn handle_asked(&mut self, now: u64) {
        self.asked_at = Some(now);
    }

    /// When leaders are to be asked for.
    pub(super) fn asks_at(&self, config: &MetadataConfig, spread: u64) -> Option<u64> {
        if self.leaderless.is_empty() {
            return None;
        }
        Some(asks_again_at(config, self.since?, self.asked_at?, spread))
    }

    /// The topics to ask about.
    pub(super) fn ask(&mut self, now: u64) -> Vec<Arc<str>> {
        self.asked_at = Some(now);
        self.leaderless.iter().cloned().collect()
    }

    /// Topics whose lacking partitions are not waited for any longer.
    pub(super) fn poll_lacking(&mut self, now: u64, config: &MetadataConfig) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        self.lacking.retain(|name, since| {
            let waits = since.saturating_add(config.topic_unknown_max) > now;
            if !waits {
                due.push(name.clone());
            }
            waits
        });
        due
    }

    /// When [`TroubledTopics::poll_lacking`] has something to say next.
    pub(super) fn poll_timeout(&self, config: &MetadataConfig) -> Option<u64> {
        let since = self.lacking.values().min()?;
        Some(since.saturating_add(config.topic_unknown_max))
    }
}
