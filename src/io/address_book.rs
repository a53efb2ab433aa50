//! What a producer's event loops and its metadata channel know together of the addresses that they
//! connect to: where a name's next attempt begins, which addresses fail, and when one of those may
//! be tried again. Pure: time comes in as an argument, in nanoseconds.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::socket_options::SocketOptions;
use crate::config::{ReconnectBackoff, ReconnectWaits};
use crate::engine::cluster::BrokerAddress;
use crate::engine::random::Random;
use crate::problem::{Problem, ProblemKind};

/// Names, and addresses that fail, of which something is remembered. One more replaces the one that
/// was used least lately: brokers with ever new addresses must not add up.
const ENTRIES_MAX: usize = 1_024;

/// The waits after a peer that was reached and would not have this client: a login or a certificate
/// was refused, or is not trusted. Trying again seldom helps before somebody has changed something,
/// and each attempt is noted in the broker's log. In nanoseconds; `reconnect_backoff` and
/// `reconnect_backoff_max` count where they are longer.
const REFUSED_FIRST: u64 = 1_000_000_000;
const REFUSED_LONGEST: u64 = 10_000_000_000;

/// An address, and the broker that is reached through it if that is a proxy's.
pub(super) type Endpoint = (SocketAddr, Option<BrokerAddress>);

/// A name that is connected to, and the broker that is reached through it if that is a proxy's.
pub(super) type Route = (BrokerAddress, Option<BrokerAddress>);

/// Settings of an [`AddressBook`].
#[derive(Clone, Copy, Debug)]
pub(super) struct BookSettings {
    /// How long an address may take to connect and to answer ApiVersions, before jitter.
    pub(super) setup_timeout: u64,
    /// To what that grows while the address fails; at least `setup_timeout` counts.
    pub(super) setup_timeout_max: u64,
    /// When an address that failed is tried again.
    pub(super) reconnect: ReconnectBackoff,
}

impl From<&SocketOptions> for BookSettings {
    fn from(options: &SocketOptions) -> Self {
        BookSettings {
            setup_timeout: options.setup_timeout,
            setup_timeout_max: options.setup_timeout_max,
            reconnect: options.reconnect,
        }
    }
}

/// Where a name's attempts begin.
struct Host {
    /// The address that last completed a handshake, unless it has failed since.
    good: Option<SocketAddr>,
    /// The address that failed last.
    failed: Option<SocketAddr>,
    used_at: u64,
}

/// An address that has failed since it was last of use.
struct Failing {
    waits: ReconnectWaits,
    retry_at: u64,
    problem: Problem,
    /// Somebody tries it, until then at the latest.
    tried_until: u64,
    used_at: u64,
}

/// Whether an address may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes: it has to connect and to answer within so many nanoseconds.
    Open {
        /// See above.
        timeout: u64,
    },
    /// No: another connection of the producer's has just failed there, or is trying.
    Shut {
        /// What was wrong the last time.
        problem: Problem,
        /// When to ask again, spread as the waits of other clients are.
        until: u64,
    },
}

/// See the module.
pub(super) struct AddressBook {
    settings: BookSettings,
    hosts: HashMap<Route, Host>,
    failing: HashMap<Endpoint, Failing>,
    random: Random,
}

impl AddressBook {
    pub(super) fn new(settings: BookSettings, random: u64) -> Self {
        let (hosts, failing) = (HashMap::new(), HashMap::new());
        AddressBook { settings, hosts, failing, random: Random::new(random) }
    }

    /// Whether the last attempt to reach it ended well: then its addresses are believed to hold.
    pub(super) fn is_good(&self, target: &Route) -> bool {
        self.hosts.get(target).is_some_and(|host| host.good.is_some())
    }

    /// A target's addresses in the order of an attempt: the one that last completed a handshake
    /// first, else the one behind the one that failed last.
    pub(super) fn order(&self, target: &Route, addresses: &mut [SocketAddr]) {
        let Some(host) = self.hosts.get(target) else { return };
        let position = |wanted: SocketAddr| addresses.iter().position(|&it| it == wanted);
        let begin = match host.good.and_then(position) {
            Some(good) => good,
            None => host.failed.and_then(position).map_or(0, |failed| failed + 1),
        };
        let begin = begin % addresses.len().max(1);
        addresses.rotate_left(begin);
    }

    /// Whether an address may be tried now; if it may, whoever asked tries it, and must say what
    /// came of it: [`succeeded`](Self::succeeded), [`failed`](Self::failed) or
    /// [`left`](Self::left). An address that does not fail is tried by as many as want it.
    pub(super) fn try_address(&mut self, now: u64, address: &Endpoint) -> Gate {
        let random = self.random.draw();
        let timeout = self.setup_timeout(address, random);
        let reconnect = self.settings.reconnect;
        let Some(failing) = self.failing.get_mut(address) else { return Gate::Open { timeout } };
        failing.used_at = now;
        if now < failing.retry_at || now < failing.tried_until {
            let (problem, wait) = (failing.problem.clone(), failing.waits.wait());
            let until = if now < failing.retry_at {
                let longer = reconnect.vary(wait, random) - reconnect.shortest(wait);
                failing.retry_at.saturating_add(longer)
            } else {
                now.saturating_add(reconnect.vary(wait, random))
            };
            return Gate::Shut { problem, until };
        }
        failing.tried_until = now.saturating_add(timeout);
        Gate::Open { timeout }
    }

    /// KIP-601: the timeout doubles with each failure in a row, and is spread.
    fn setup_timeout(&self, address: &Endpoint, random: u64) -> u64 {
        let failures = self.failing.get(address).map_or(0, |failing| failing.waits.failures());
        let first = self.settings.setup_timeout;
        let grown = first.saturating_mul(1 << failures.min(16));
        let timeout = grown.min(self.settings.setup_timeout_max.max(first));
        self.settings.reconnect.vary(timeout, random)
    }

    /// A handshake was completed: the target's next attempt begins with this address.
    pub(super) fn succeeded(&mut self, now: u64, target: &Route, address: &Endpoint) {
        self.failing.remove(address);
        let host = self.host(now, target);
        (host.good, host.failed) = (Some(address.0), None);
    }

    /// No connection came about, or the peer did not complete its handshake.
    pub(super) fn failed(
        &mut self,
        now: u64,
        target: &Route,
        address: &Endpoint,
        problem: &Problem,
    ) {
        let host = self.host(now, target);
        host.good = host.good.filter(|&good| good != address.0);
        host.failed = Some(address.0);
        let reconnect = waits_after(problem, self.settings.reconnect);
        if !self.failing.contains_key(address) {
            make_room(&mut self.failing, |failing| failing.used_at);
        }
        let failing = self.failing.entry(address.clone()).or_insert_with(|| Failing {
            waits: ReconnectWaits::default(),
            retry_at: 0,
            problem: problem.clone(),
            tried_until: 0,
            used_at: now,
        });
        failing.problem = problem.clone();
        (failing.tried_until, failing.used_at) = (0, now);
        // Two that tried at the same time, before anyone knew, count once.
        if failing.retry_at <= now {
            // Those who want it spread their waits around this one: nobody is early for them.
            let wait = reconnect.shortest(failing.waits.fail(now, &reconnect));
            failing.retry_at = now.saturating_add(wait);
        }
    }

    /// Whoever tried the address does not any more, and has nothing to say against it.
    pub(super) fn left(&mut self, address: &Endpoint) {
        if let Some(failing) = self.failing.get_mut(address) {
            failing.tried_until = 0;
        }
    }

    fn host(&mut self, now: u64, target: &Route) -> &mut Host {
        if !self.hosts.contains_key(target) {
            make_room(&mut self.hosts, |host| host.used_at);
        }
        let fresh = Host { good: None, failed: None, used_at: now };
        let host = self.hosts.entry(target.clone()).or_insert(fresh);
        host.used_at = now;
        host
    }
}

fn waits_after(problem: &Problem, reconnect: ReconnectBackoff) -> ReconnectBackoff {
    match problem.kind() {
        ProblemKind::Authentication | ProblemKind::Tls => ReconnectBackoff {
            first: reconnect.first.max(REFUSED_FIRST),
            longest: reconnect.longest.max(REFUSED_LONGEST),
            quick: 0,
            ..reconnect
        },
        _ => reconnect,
    }
}

/// Makes room for one more entry.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    entries: &mut HashMap<K, V>,
    used_at: impl Fn(&V) -> u64,
) {
    if entries.len() < ENTRIES_MAX {
        return;
    }
    let oldest = entries.iter().min_by_key(|(_, entry)| used_at(entry));
    if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
        entries.remove(&oldest);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    pub(in super::super) fn settings() -> BookSettings {
        let reconnect = ReconnectBackoff {
            first: 50 * MS,
            longest: SECOND,
            quick: 30 * SECOND,
            jitter_percent: 20,
        };
        BookSettings { setup_timeout: 10 * SECOND, setup_timeout_max: 30 * SECOND, reconnect }
    }

    fn target(host: &str) -> Route {
        (BrokerAddress { host: host.into(), port: 9 }, None)
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 9))
    }

    /// The same without a proxy.
    fn direct(last: u8) -> Endpoint {
        (address(last), None)
    }

    fn order(book: &AddressBook, host: &str) -> Vec<u8> {
        let mut addresses = [1, 2, 3].map(address);
        book.order(&target(host), &mut addresses);
        let last = |address: &SocketAddr| match address {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("the test has none"),
        };
        addresses.iter().map(last).collect()
    }

    #[test]
    fn c52_an_attempt_begins_with_the_address_that_was_good_or_behind_the_one_that_failed() {
        let mut book = AddressBook::new(settings(), 1);
        assert_eq!((order(&book, "a"), book.is_good(&target("a"))), (vec![1, 2, 3], false));
        book.failed(0, &target("a"), &direct(1), &"silent".into());
        assert_eq!(order(&book, "a"), [2, 3, 1]);
        book.succeeded(1, &target("a"), &direct(3));
        assert_eq!((order(&book, "a"), book.is_good(&target("a"))), (vec![3, 1, 2], true));
        // Another one failed beside it.
        book.failed(2, &target("a"), &direct(1), &"silent".into());
        assert_eq!(order(&book, "a"), [3, 1, 2]);
        book.failed(3, &target("a"), &direct(3), &"silent".into());
        assert_eq!((order(&book, "a"), book.is_good(&target("a"))), (vec![1, 2, 3], false));
        assert_eq!(order(&book, "b"), [1, 2, 3], "another name is another matter");
        book.order(&target("a"), &mut []);
    }

    #[test]
    fn c65_an_address_that_fails_is_tried_by_one_at_a_time_and_not_within_its_backoff() {
        let mut book = AddressBook::new(settings(), 1);
        let (a, one) = (target("a"), direct(1));
        // Before anyone knows, as many try it as want it.
        assert!(matches!(book.try_address(0, &one), Gate::Open { .. }));
        assert!(matches!(book.try_address(0, &one), Gate::Open { .. }));
        book.failed(MS, &a, &one, &"refused".into());
        book.failed(2 * MS, &a, &one, &"refused".into());
        let shut = |book: &mut AddressBook, now: u64| match book.try_address(now, &one) {
            Gate::Shut { problem, until } => (problem.to_string(), until),
            Gate::Open { .. } => panic!("it may not be tried at {} ms", now / MS),
        };
        for now in [3 * MS, 40 * MS] {
            let (problem, until) = shut(&mut book, now);
            assert_eq!(problem, "refused");
            assert!((41 * MS..=61 * MS).contains(&until), "as if it had failed itself: {until}");
        }
        // Counted once: 40 ms is the shortest wait that 50 ms with jitter can be.
        assert!(matches!(book.try_address(41 * MS, &one), Gate::Open { .. }));
        let (_, until) = shut(&mut book, 60 * MS);
        assert!((100 * MS..=120 * MS).contains(&until), "somebody is at it: {until}");
        book.failed(60 * MS, &a, &one, &"silent".into());
        assert_eq!(shut(&mut book, 139 * MS).0, "silent");
        assert!(matches!(book.try_address(140 * MS, &one), Gate::Open { .. }));
        book.left(&one);
        assert!(matches!(book.try_address(141 * MS, &one), Gate::Open { .. }));
        book.succeeded(142 * MS, &a, &one);
        assert!(matches!(book.try_address(142 * MS, &one), Gate::Open { .. }));
        assert!(matches!(book.try_address(142 * MS, &one), Gate::Open { .. }));
    }

    #[test]
    fn setup_timeouts_double_with_the_failures_of_an_address_and_are_spread() {
        let mut book = AddressBook::new(settings(), 1);
        let mut now = 0;
        let mut seen = Vec::new();
        for expected in [10, 20, 30, 30] {
            now += 10 * SECOND;
            let Gate::Open { timeout } = book.try_address(now, &direct(1)) else {
                panic!("it is time")
            };
            let range = expected * 800 * MS..=expected * 1_200 * MS;
            assert!(range.contains(&timeout), "{timeout} is not {expected} s");
            seen.push(timeout / MS % 1_000);
            book.failed(now, &target("a"), &direct(1), &"silent".into());
        }
        assert!(seen.iter().any(|&ms| ms != seen[0]), "they are spread: {seen:?}");
        let Gate::Open { timeout } = book.try_address(now, &direct(2)) else { panic!("it is new") };
        assert!(timeout <= 12 * SECOND, "it is the address that counts");
        now += 10 * SECOND;
        book.succeeded(now, &target("a"), &direct(1));
        let Gate::Open { timeout } = book.try_address(now, &direct(1)) else {
            panic!("it is well")
        };
        assert!(timeout <= 12 * SECOND, "it begins anew");
    }

    /// Trying a refused login or certificate again helps nobody, and each try is in the broker's
    /// log.
    #[test]
    fn f31_who_is_refused_comes_back_ever_more_seldom() {
        for kind in [ProblemKind::Authentication, ProblemKind::Tls] {
            let mut book = AddressBook::new(settings(), 1);
            let (mut now, mut waits) = (SECOND, Vec::new());
            for _ in 0..6 {
                book.failed(now, &target("a"), &direct(1), &Problem::new(kind, "refused"));
                let begun = now;
                while let Gate::Shut { until, .. } = book.try_address(now, &direct(1)) {
                    now = until;
                }
                waits.push((now - begun) / MS);
            }
            let expected = [1_000, 2_000, 4_000, 8_000, 10_000, 10_000];
            for (wait, expected) in waits.iter().zip(expected) {
                // The shortest is 20 % less; and whoever was told to wait spreads itself.
                let range = expected * 8 / 10..=expected * 12 / 10;
                assert!(range.contains(wait), "{waits:?}");
            }
        }
    }

    #[test]
    fn a_longest_setup_timeout_below_the_first_one_has_no_effect() {
        let settings = BookSettings { setup_timeout_max: SECOND, ..settings() };
        let mut book = AddressBook::new(settings, 1);
        let Gate::Open { timeout } = book.try_address(0, &direct(1)) else { panic!("it is new") };
        assert!(timeout >= 8 * SECOND);
    }

    #[test]
    fn entries_do_not_add_up() {
        let mut book = AddressBook::new(settings(), 1);
        for n in 0..5_000_u32 {
            let address = SocketAddr::from((std::net::Ipv4Addr::from_bits(n), 9));
            book.failed(u64::from(n), &target(&n.to_string()), &(address, None), &"refused".into());
        }
        assert_eq!((book.hosts.len(), book.failing.len()), (ENTRIES_MAX, ENTRIES_MAX));
        assert!(book.hosts.contains_key(&target("4999")), "the oldest go first");
    }
}
