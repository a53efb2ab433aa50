//! What a producer remembers of the addresses that it shook hands with, across connections: above
//! all in which version each is asked for ApiVersions.
//!
//! A broker that does not know the version asked for answers UNSUPPORTED_VERSION, and is asked
//! again on the same connection. Other peers (proxies, services with the protocol of Kafka) answer
//! INVALID_REQUEST, reset or close the connection, or say nothing. An address that does so twice in
//! a row is asked with the next lower version, until that has stood for [`STEP_KEPT`]. A restarting
//! broker closes connections too, so an address that ever answered is never asked below what it
//! answered.
//!
//! Kafka before 0.10 does not know ApiVersions at all. Such a broker is used only where the user
//! has said of which release it is: see [`Steps`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::config::BrokerVersion;
use crate::engine::cluster::BrokerAddress;
use crate::engine::protocol::ApiKey;
use crate::locking::lock;
use crate::problem::Problem;

/// The versions of ApiVersions to ask with, one after the other. The highest but one is the first
/// with the client's name, the next the last without; every broker that knows ApiVersions at all
/// knows 0.
const STEPS: [i16; 4] = [4, 3, 2, 0];
const _: () = assert!(STEPS[0] == ApiKey::ApiVersions.versions().max);
const _: () = assert!(STEPS[STEPS.len() - 1] == ApiKey::ApiVersions.versions().min);

/// Not to ask, but to assume what was configured.
const ASSUMED: i16 = -1;

/// So many refusals in a row are taken for one of the version: a single one may be a restart.
const REFUSALS_PER_STEP: u32 = 2;

/// How long an address is taken for an old broker before it is asked again, in nanoseconds: an
/// hour. Kafka 0.9 answers with ten seconds of silence.
const ASSUMED_KEPT: u64 = 3_600_000_000_000;

/// What the peers of a producer are asked, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steps {
    /// The versions of ApiVersions, from the highest on.
    #[default]
    Asked,
    /// ApiVersions in the version that every broker speaks which knows it at all. One that does not
    /// answer is taken for a broker of this release.
    AskedOrAssumed(BrokerVersion),
    /// Nothing: every broker is of this release.
    Assumed(BrokerVersion),
}

impl Steps {
    fn versions(self) -> &'static [i16] {
        match self {
            Steps::Asked => &STEPS,
            Steps::AskedOrAssumed(_) => &[0, ASSUMED],
            Steps::Assumed(_) => &[ASSUMED],
        }
    }

    /// Which release brokers are taken for that do not answer.
    fn release(self) -> Option<BrokerVersion> {
        match self {
            Steps::Asked => None,
            Steps::AskedOrAssumed(release) | Steps::Assumed(release) => Some(release),
        }
    }
}

/// How long an address is asked with a lower version before the highest is tried again, in
/// nanoseconds: five minutes. What stood before the broker may be gone, and its failed attempts
/// must be rare.
const STEP_KEPT: u64 = 300_000_000_000;

/// Addresses that are remembered; for a further one, the one that was not used for longest is
/// forgotten. Brokers that come with ever new addresses must not add up.
const ADDRESSES_MAX: usize = 1_024;

/// How one address took its handshakes.
#[derive(Clone, Copy, Debug, Default)]
struct Handshakes {
    /// Index into the versions of [`Steps`].
    step: usize,
    /// When `step` was last changed; nanoseconds, monotonic.
    stepped_at: u64,
    /// In a row, with the version of `step`.
    refusals: u32,
    /// The highest version that it answered.
    answered: Option<i16>,
    /// It answered something after a handshake.
    worked: bool,
    /// It was warned of bytes behind its responses.
    surplus_told: bool,
    used_at: u64,
}

impl Handshakes {
    fn version(&mut self, now: u64, steps: Steps) -> i16 {
        let versions = steps.versions();
        let kept = if versions[self.step] == ASSUMED { ASSUMED_KEPT } else { STEP_KEPT };
        if self.step > 0 && now.saturating_sub(self.stepped_at) >= kept {
            (self.step, self.refusals) = (0, 0);
        }
        versions[self.step]
    }

    fn handle_refused(&mut self, now: u64, version: i16, steps: Steps, enough: u32) {
        let versions = steps.versions();
        // News of a connection that was made before the last step says nothing of the next.
        if versions[self.step] != version {
            return;
        }
        self.refusals = self.refusals.saturating_add(1);
        if version == ASSUMED {
            if self.refusals >= enough {
                // It may be no old broker after all: it is asked again.
                (self.step, self.refusals) = (0, 0);
            }
            return;
        }
        let next = versions.get(self.step + 1);
        let may_step = next.is_some_and(|&next| self.answered.is_none_or(|known| next >= known));
        if self.refusals >= enough && may_step {
            (self.step, self.stepped_at, self.refusals) = (self.step + 1, now, 0);
        }
    }

    fn handle_answered(&mut self, version: i16, steps: Steps) {
        self.refusals = 0;
        if steps.versions()[self.step] == ASSUMED {
            // It answers after all: another connection has had more patience.
            self.step = 0;
        }
        self.answered = self.answered.max(Some(version));
    }
}

/// See the module. One for all connections of a producer.
#[derive(Debug, Default)]
pub struct Peers {
    steps: Steps,
    addresses: Mutex<HashMap<BrokerAddress, Handshakes>>,
}

/// How to begin with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// Ask ApiVersions in this version.
    Ask(i16),
    /// Take it for an old broker.
    Assume,
}

impl Beginning {
    /// The version that was asked with. Of a peer that was not asked it is the number that stands
    /// for that in [`Steps::versions`].
    pub(super) fn version(self) -> i16 {
        match self {
            Beginning::Ask(version) => version,
            Beginning::Assume => ASSUMED,
        }
    }
}

impl Peers {
    /// Nothing is known of any peer yet.
    pub fn new(steps: Steps) -> Self {
        Peers { steps, addresses: Mutex::default() }
    }

    /// How to begin with the peer at this address.
    pub(super) fn beginning(&self, now: u64, address: &BrokerAddress) -> Beginning {
        let version = self.of(now, address, |peer| peer.version(now, self.steps));
        if version == ASSUMED { Beginning::Assume } else { Beginning::Ask(version) }
    }

    /// Whether a peer that does not answer ApiVersions is taken for an old broker.
    pub(super) fn may_assume(&self) -> bool {
        self.steps != Steps::Asked
    }

    /// Whether the peer at this address ever answered ApiVersions.
    pub(super) fn has_told_versions(&self, now: u64, address: &BrokerAddress) -> bool {
        self.of(now, address, |peer| peer.answered.is_some())
    }

    /// A problem with a peer that is taken for an old broker, or will be.
    pub(super) fn in_words_of_assumption(&self, problem: Problem) -> Problem {
        let Some(release) = self.steps.release() else { return problem };
        problem.in_words(format_args!(
            "{problem} (a broker that does not answer ApiVersions is taken for Kafka {release}, as \
             broker_version_fallback (broker.version.fallback) says)"
        ))
    }

    /// It did not answer what it was asked with this version. Where a broker of Kafka 0.9 is
    /// expected, once is enough: that is how it answers, and each time costs seconds.
    pub(super) fn handle_silence(&self, now: u64, address: &BrokerAddress, version: i16) {
        let enough = if self.may_assume() { 1 } else { REFUSALS_PER_STEP };
        let steps = self.steps;
        self.of(now, address, |peer| peer.handle_refused(now, version, steps, enough));
    }

    /// The peer at this address was taken for an old broker, and has answered nothing.
    pub(super) fn handle_assumed_wrongly(&self, now: u64, address: &BrokerAddress) {
        self.handle_refused(now, address, ASSUMED);
    }

    /// How long the answer to the handshake may take, in nanoseconds: a peer that answered before
    /// has the time of any request. Of another one silence may be the way to refuse, so it has
    /// `first`, and longer each time once no lower version is left to ask with.
    pub(super) fn patience(
        &self,
        now: u64,
        address: &BrokerAddress,
        first: u64,
        longest: u64,
    ) -> u64 {
        self.of(now, address, |peer| match peer.answered {
            Some(_) => longest,
            None if peer.step + 1 < self.steps.versions().len() => first.min(longest),
            None => first.saturating_mul(1 << peer.refusals.min(16)).min(longest),
        })
    }

    /// It answered INVALID_REQUEST or closed, when it was asked with this version.
    pub(super) fn handle_refused(&self, now: u64, address: &BrokerAddress, version: i16) {
        let (steps, enough) = (self.steps, REFUSALS_PER_STEP);
        self.of(now, address, |peer| peer.handle_refused(now, version, steps, enough));
    }

    /// It answered what was asked with this version, be it with UNSUPPORTED_VERSION.
    pub(super) fn handle_answered(&self, now: u64, address: &BrokerAddress, version: i16) {
        self.of(now, address, |peer| peer.handle_answered(version, self.steps));
    }

    /// It answered a request after the handshake.
    pub(super) fn handle_worked(&self, now: u64, address: &BrokerAddress) {
        self.of(now, address, |peer| (peer.worked, peer.refusals) = (true, 0));
    }

    /// Whether it ever did.
    pub(super) fn has_worked(&self, now: u64, address: &BrokerAddress) -> bool {
        self.of(now, address, |peer| peer.worked)
    }

    /// Its response had bytes left over. Whether that is to be told, which it is once.
    pub(super) fn handle_surplus(&self, now: u64, address: &BrokerAddress) -> bool {
        self.of(now, address, |peer| !std::mem::replace(&mut peer.surplus_told, true))
    }

    fn of<R>(
        &self,
        now: u64,
        address: &BrokerAddress,
        visit: impl FnOnce(&mut Handshakes) -> R,
    ) -> R {
        let mut peers = self.lock();
        if !peers.contains_key(address) && peers.len() == ADDRESSES_MAX {
            let oldest = peers.iter().min_by_key(|(_, peer)| peer.used_at);
            if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                peers.remove(&oldest);
            }
        }
        let peer = peers.entry(address.clone()).or_default();
        peer.used_at = now;
        visit(peer)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<BrokerAddress, Handshakes>> {
        lock(&self.addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> BrokerAddress {
        BrokerAddress { host: "kafka".into(), port }
    }

    fn begun_with(peers: &Peers, now: u64, broker: &BrokerAddress) -> i16 {
        peers.beginning(now, broker).version()
    }

    #[test]
    fn c64_nothing_is_assumed_of_a_peer_unless_the_user_has_said_what() {
        let release = BrokerVersion::V0_9;
        let (peers, broker) = (Peers::new(Steps::AskedOrAssumed(release)), address(1));
        let closes = |peers: &Peers| peers.handle_refused(0, &broker, 0);
        let begins = |now| peers.beginning(now, &broker);
        assert_eq!(begins(0), Beginning::Ask(0));
        closes(&peers);
        assert_eq!(begins(0), Beginning::Ask(0), "it may have been restarted");
        closes(&peers);
        assert_eq!(begins(0), Beginning::Assume);
        assert_eq!(begins(ASSUMED_KEPT), Beginning::Ask(0), "it may have been upgraded");

        // Kafka 0.9 says nothing.
        peers.handle_silence(0, &broker, 0);
        assert_eq!(begins(0), Beginning::Assume);
        peers.handle_assumed_wrongly(0, &broker);
        peers.handle_worked(0, &broker);
        peers.handle_assumed_wrongly(0, &broker);
        assert_eq!(begins(0), Beginning::Assume, "it answered in between");
        peers.handle_assumed_wrongly(0, &broker);
        assert_eq!(begins(0), Beginning::Ask(0), "it answered nothing");

        peers.handle_answered(0, &broker, 0);
        for _ in 0..10 {
            closes(&peers);
        }
        assert_eq!(begins(0), Beginning::Ask(0), "it is no old broker");

        let late = address(2);
        peers.handle_silence(0, &late, 0);
        assert_eq!(peers.beginning(0, &late), Beginning::Assume);
        peers.handle_answered(0, &late, 0);
        assert_eq!(peers.beginning(0, &late), Beginning::Ask(0), "one connection was answered");

        let unasked = Peers::new(Steps::Assumed(release));
        for _ in 0..10 {
            unasked.handle_assumed_wrongly(0, &broker);
        }
        assert_eq!(unasked.beginning(0, &broker), Beginning::Assume);
    }

    #[test]
    fn c64_two_refusals_in_a_row_are_a_step_down() {
        let (peers, broker, other) = (Peers::default(), address(1), address(2));
        for version in [4, 4, 3, 3, 2, 2, 0, 0, 0, 0] {
            assert_eq!(begun_with(&peers, 0, &broker), version);
            peers.handle_refused(0, &broker, version);
        }
        assert_eq!(begun_with(&peers, 0, &other), 4, "each address for itself");
        // One refusal and an answer are no step, however often.
        for _ in 0..10 {
            peers.handle_refused(0, &other, 4);
            peers.handle_answered(0, &other, 4);
        }
        assert_eq!(begun_with(&peers, 0, &other), 4);
    }

    #[test]
    fn c64_late_news_of_a_higher_version_is_none_of_the_lower() {
        let (peers, broker) = (Peers::default(), address(1));
        for _ in 0..5 {
            peers.handle_refused(0, &broker, 4);
        }
        assert_eq!(begun_with(&peers, 0, &broker), 3);
    }

    #[test]
    fn c64_a_restart_takes_no_address_below_its_answer() {
        for (index, answered) in STEPS.into_iter().enumerate() {
            let (peers, broker) = (Peers::default(), address(1));
            for _ in 0..2 * index {
                peers.handle_refused(0, &broker, begun_with(&peers, 0, &broker));
            }
            peers.handle_answered(0, &broker, answered);
            for _ in 0..10 {
                peers.handle_refused(0, &broker, begun_with(&peers, 0, &broker));
            }
            assert_eq!(begun_with(&peers, 0, &broker), answered);
        }
    }

    #[test]
    fn c64_a_step_down_is_forgotten_after_some_minutes() {
        let (peers, broker) = (Peers::default(), address(1));
        for now in [10, 20] {
            peers.handle_refused(now, &broker, 4);
        }
        assert_eq!(begun_with(&peers, 20 + STEP_KEPT - 1, &broker), 3);
        assert_eq!(begun_with(&peers, 20 + STEP_KEPT, &broker), 4);
    }

    #[test]
    fn c64_silence_is_waited_for_longer_where_nothing_else_is_left() {
        let (peers, broker) = (Peers::default(), address(1));
        let patience = |peers: &Peers| peers.patience(0, &broker, 10, 60);
        for _ in 0..6 {
            assert_eq!(patience(&peers), 10);
            peers.handle_refused(0, &broker, begun_with(&peers, 0, &broker));
        }
        let mut waits = Vec::new();
        for _ in 0..4 {
            waits.push(patience(&peers));
            peers.handle_refused(0, &broker, 0);
        }
        assert_eq!(waits, [10, 20, 40, 60]);
        peers.handle_answered(0, &broker, 0);
        assert_eq!(patience(&peers), 60, "that it speaks Kafka's protocol is known");
    }

    #[test]
    fn addresses_do_not_add_up() {
        let peers = Peers::default();
        for port in 0..5_000 {
            begun_with(&peers, u64::from(port) + 1, &address(port));
            begun_with(&peers, u64::from(port) + 1, &address(0));
        }
        let kept = peers.lock();
        assert_eq!(kept.len(), ADDRESSES_MAX);
        assert!(kept.contains_key(&address(0)) && kept.contains_key(&address(4_999)));
    }
}
