//! One attempt to reach a broker by its name or address: which of its addresses is tried when, and
//! what is said when none is of use. Pure; [`Socket`](super::socket::Socket) opens what this names.
//!
//! Addresses are tried in the order of the [`AddressBook`]. While one does not answer the next is
//! tried beside it (RFC 8305), and the first to connect is taken. It then has to answer ApiVersions
//! before its time is up: a peer that accepts and says nothing is no broker.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::address_book::{AddressBook, Endpoint, Gate, Route};
use super::resolver::Resolved;
use crate::engine::cluster::BrokerAddress;
use crate::problem::{Problem, ProblemKind};

const MS: u64 = 1_000_000;

/// An address that has not answered for so long gets company by the next (RFC 8305, section 8).
const BESIDE_AFTER: u64 = 250 * MS;

/// Addresses tried at a time. A name with more of them that do not answer has to wait.
const BESIDE_MAX: usize = 8;

/// Where the last attempt failed, its name's addresses may have changed: for so long a fresh answer
/// is waited for, before the last good one is used. Name servers that work answer within it.
const FRESH_ANSWER_PATIENCE: u64 = 250 * MS;

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Open a connection to this address, and report with [`Dial::handle_failed`] or
    /// [`Dial::handle_connected`].
    Open(SocketAddr),
    /// Close the one that was opened: it did not answer in time.
    Close(SocketAddr),
    /// Nothing before [`Dial::deadline`].
    Wait,
    /// It is of no use: why.
    Failed(Problem),
    /// Another connection of the producer found the addresses wanting a moment ago, or is trying
    /// them: nothing was tried.
    Postponed {
        /// When to try.
        until: u64,
        /// What that connection met there.
        problem: Problem,
    },
}

struct Pending {
    address: SocketAddr,
    since: u64,
    until: u64,
}

/// A look-up whose answer is waited for.
struct Lookup {
    /// The name's last good answer, empty if there is none or it is in use.
    known: Vec<SocketAddr>,
    /// Until then a fresh answer is better than the known one.
    fresh_until: u64,
    /// Until then there must be one.
    until: u64,
    since: u64,
}

/// See the module.
pub(super) struct Dial {
    /// Whom to connect to, and the broker behind it if that is a proxy.
    route: Route,
    /// The target is an address itself: texts need not name it again.
    is_literal: bool,
    lookup: Option<Lookup>,
    /// To be tried.
    waiting: VecDeque<SocketAddr>,
    pending: Vec<Pending>,
    /// Tried or not, each address that has had its turn, and what is wrong with it.
    problems: Vec<(SocketAddr, Problem)>,
    /// Why there is no, or no newer, list of addresses.
    lookup_problem: Option<Problem>,
    /// When the next address is tried beside those that do not answer.
    beside_at: u64,
    /// The first time at which an address may be tried that was not, while none was.
    postponed_until: Option<u64>,
}

impl Dial {
    /// An attempt that fails at once, for this reason.
    pub(super) fn refused(target: BrokerAddress, problem: Problem) -> Self {
        Dial { lookup_problem: Some(problem), ..Dial::new((target, None)) }
    }

    /// An attempt at an address.
    pub(super) fn literal(route: Route, address: SocketAddr) -> Self {
        let mut dial = Dial::new(route);
        (dial.is_literal, dial.waiting) = (true, VecDeque::from([address]));
        dial
    }

    /// An attempt at a name that is being looked up. `known` is its last good answer, which is used
    /// at once if the last attempt went well, and soon if it did not.
    pub(super) fn named(
        now: u64,
        route: Route,
        known: Vec<SocketAddr>,
        timeout: u64,
        book: &AddressBook,
    ) -> Self {
        let mut dial = Dial::new(route);
        let fresh_until = now.saturating_add(FRESH_ANSWER_PATIENCE.min(timeout));
        let until = now.saturating_add(timeout);
        dial.lookup = Some(Lookup { known, fresh_until, until, since: now });
        if book.is_good(&dial.route) {
            dial.use_known(book);
        }
        dial
    }

    fn new(route: Route) -> Self {
        Dial {
            route,
            is_literal: false,
            lookup: None,
            waiting: VecDeque::new(),
            pending: Vec::new(),
            problems: Vec::new(),
            lookup_problem: None,
            beside_at: 0,
            postponed_until: Some(u64::MAX),
        }
    }

    /// The broker that is to be reached through the target, if that is a proxy.
    pub(super) fn beyond(&self) -> Option<&BrokerAddress> {
        self.route.1.as_ref()
    }

    /// Whom to connect to, and the broker behind it.
    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    /// A problem on the way to the proxy, if there is one.
    fn of_proxy(&self, problem: Problem) -> Problem {
        match &self.route {
            (_, None) => problem,
            (proxy, Some(_)) => problem.at(format_args!("SOCKS5 proxy {proxy}")),
        }
    }

    /// An address of the target as the book knows it: that of a proxy may be of use for one broker
    /// and of none for another.
    pub(super) fn endpoint(&self, address: SocketAddr) -> Endpoint {
        (address, self.route.1.clone())
    }

    pub(super) fn target(&self) -> &BrokerAddress {
        &self.route.0
    }

    /// Whether the target is an address itself.
    pub(super) fn is_literal(&self) -> bool {
        self.is_literal
    }

    /// The look-up has ended. Of its addresses those are still tried that have not had their turn;
    /// others that the last good answer held are not.
    pub(super) fn handle_resolved(&mut self, result: Resolved, book: &AddressBook) {
        let Some(lookup) = self.lookup.take() else { return };
        match result {
            Ok(addresses) => self.wait_for(addresses, book),
            Err(problem) => {
                self.lookup_problem = Some(self.of_proxy(problem));
                self.wait_for(lookup.known, book);
            }
        }
    }

    fn use_known(&mut self, book: &AddressBook) {
        let known = self.lookup.as_mut().map(|lookup| std::mem::take(&mut lookup.known));
        self.wait_for(known.unwrap_or_default(), book);
    }

    fn wait_for(&mut self, mut addresses: Vec<SocketAddr>, book: &AddressBook) {
        if addresses.is_empty() {
            return;
        }
        addresses.iter_mut().for_each(|address| address.set_port(self.route.0.port));
        book.order(&self.route, &mut addresses);
        self.waiting.clear();
        for address in addresses {
            let had_its_turn = self.problems.iter().any(|(tried, _)| *tried == address)
                || self.pending.iter().any(|pending| pending.address == address);
            if !had_its_turn && !self.waiting.contains(&address) {
                self.waiting.push_back(address);
            }
        }
    }

    /// What to do now. To be called until it says [`Step::Wait`] or that it is of no use.
    pub(super) fn poll(&mut self, now: u64, book: &mut AddressBook) -> Step {
        if let Some(at) = self.pending.iter().position(|pending| pending.until <= now) {
            let Pending { address, since, until } = self.pending.remove(at);
            let time = Duration::from_nanos(until - since).as_secs_f64();
            let text = format_args!("no answer within {time:.1} s");
            let problem = self.of_proxy(Problem::new(ProblemKind::TimedOut, text));
            self.fail(now, address, problem, book);
            return Step::Close(address);
        }
        if self.lookup.as_ref().is_some_and(|lookup| lookup.fresh_until <= now) {
            self.use_known(book);
        }
        while let Some(&address) = self.waiting.front()
            && self.pending.len() < BESIDE_MAX
            && (self.pending.is_empty() || self.beside_at <= now)
        {
            self.waiting.pop_front();
            match book.try_address(now, &self.endpoint(address)) {
                Gate::Open { timeout } => {
                    let until = now.saturating_add(timeout);
                    self.pending.push(Pending { address, since: now, until });
                    self.beside_at = now.saturating_add(BESIDE_AFTER);
                    self.postponed_until = None;
                    return Step::Open(address);
                }
                Gate::Shut { problem, until } => {
                    self.problems.push((address, problem));
                    self.postponed_until = self.postponed_until.map(|at| at.min(until));
                }
            }
        }
        if !self.pending.is_empty() || self.waits_for_names(now) {
            return Step::Wait;
        }
        let problem = self.problem();
        match self.postponed_until {
            Some(until) if !self.problems.is_empty() => Step::Postponed { until, problem },
            _ => Step::Failed(problem),
        }
    }

    /// Whether nothing can be done before the look-up has ended.
    fn waits_for_names(&mut self, now: u64) -> bool {
        let Some(lookup) = &self.lookup else { return false };
        if now < lookup.names_until(!self.problems.is_empty()) {
            return true;
        }
        if self.problems.is_empty() {
            let time = Duration::from_nanos(lookup.until - lookup.since).as_secs_f64();
            let text = format_args!("no address within {time:.1} s");
            self.lookup_problem = Some(self.of_proxy(Problem::new(ProblemKind::Dns, text)));
        }
        self.lookup = None;
        false
    }

    /// The connection could not be opened, or failed before it was made.
    pub(super) fn handle_failed(
        &mut self,
        now: u64,
        address: SocketAddr,
        problem: Problem,
        book: &mut AddressBook,
    ) {
        self.pending.retain(|pending| pending.address != address);
        let problem = self.of_proxy(problem);
        self.fail(now, address, problem, book);
    }

    fn fail(&mut self, now: u64, address: SocketAddr, problem: Problem, book: &mut AddressBook) {
        book.failed(now, &self.route, &self.endpoint(address), &problem);
        self.problems.push((address, problem));
    }

    /// The first connection is made: nothing else is tried. Returns when it must have completed its
    /// handshake.
    pub(super) fn handle_connected(&mut self, address: SocketAddr, book: &mut AddressBook) -> u64 {
        let mut until = u64::MAX;
        for pending in self.pending.drain(..) {
            if pending.address == address {
                until = pending.until;
            } else {
                book.left(&(pending.address, self.route.1.clone()));
            }
        }
        self.waiting.clear();
        self.lookup = None;
        until
    }

    /// Nobody wants it any more.
    pub(super) fn give_up(&mut self, book: &mut AddressBook) {
        let beyond = &self.route.1;
        self.pending.drain(..).for_each(|it| book.left(&(it.address, beyond.clone())));
    }

    /// When to call [`Dial::poll`] again.
    pub(super) fn deadline(&self) -> u64 {
        let mut at = self.pending.iter().map(|pending| pending.until).min().unwrap_or(u64::MAX);
        if !self.waiting.is_empty() && self.pending.len() < BESIDE_MAX {
            at = at.min(if self.pending.is_empty() { 0 } else { self.beside_at });
        }
        if let Some(lookup) = &self.lookup {
            if !lookup.known.is_empty() {
                at = at.min(lookup.fresh_until);
            }
            if self.pending.is_empty() && self.waiting.is_empty() {
                at = at.min(lookup.names_until(!self.problems.is_empty()));
            }
        }
        at
    }

    /// The problem of one address, which is named unless the target is one itself.
    pub(super) fn problem_at(&self, address: SocketAddr, problem: &Problem) -> Problem {
        if self.is_literal { problem.clone() } else { problem.at(address) }
    }

    /// What is wrong with all addresses, of the kind that says most.
    fn problem(&self) -> Problem {
        let addresses =
            self.problems.iter().map(|(address, problem)| self.problem_at(*address, problem));
        let all: Vec<_> = self.lookup_problem.iter().cloned().chain(addresses).collect();
        let Some(telling) = all.iter().rev().max_by_key(|problem| problem.weight()) else {
            return Problem::new(ProblemKind::Dns, "no address");
        };
        let texts: Vec<_> = all.iter().map(Problem::to_string).collect();
        telling.in_words(texts.join("; "))
    }
}

impl Lookup {
    /// Until when an answer is waited for, with something else tried in vain or not.
    fn names_until(&self, tried: bool) -> u64 {
        if tried { self.fresh_until } else { self.until }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address_book::tests::settings;
    use super::*;

    const SECOND: u64 = 1_000 * MS;

    fn target() -> BrokerAddress {
        BrokerAddress { host: "kafka".into(), port: 9 }
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 9))
    }

    /// Addresses as a look-up gives them.
    fn found(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|&last| SocketAddr::from(([10, 0, 0, last], 0))).collect()
    }

    struct Bench {
        book: AddressBook,
        dial: Dial,
        now: u64,
    }

    impl Bench {
        fn named(known: &[u8]) -> Bench {
            let book = AddressBook::new(settings(), 1);
            let dial = Dial::named(0, (target(), None), found(known), 10 * SECOND, &book);
            Bench { book, dial, now: 0 }
        }

        /// Another attempt, of the same book.
        fn again(&mut self, known: &[u8]) {
            self.dial =
                Dial::named(self.now, (target(), None), found(known), 10 * SECOND, &self.book);
        }

        fn resolved(&mut self, last: &[u8]) {
            self.dial.handle_resolved(Ok(found(last)), &self.book);
        }

        fn poll(&mut self) -> Step {
            self.dial.poll(self.now, &mut self.book)
        }

        fn opens(&mut self, last: u8) {
            assert_eq!(self.poll(), Step::Open(address(last)));
        }

        fn waits_until(&mut self, at: u64) {
            assert_eq!(self.poll(), Step::Wait);
            assert_eq!(self.dial.deadline(), at);
            self.now = at;
        }

        fn refuses(&mut self, last: u8) {
            self.dial.handle_failed(self.now, address(last), "refused".into(), &mut self.book);
        }

        fn completes(&mut self, last: u8) {
            self.dial.handle_connected(address(last), &mut self.book);
            self.book.succeeded(self.now, &(target(), None), &(address(last), None));
        }
    }

    #[test]
    fn c52_the_next_address_is_tried_beside_one_that_does_not_answer() {
        let mut bench = Bench::named(&[]);
        bench.resolved(&[1, 2, 3]);
        bench.opens(1);
        bench.waits_until(BESIDE_AFTER);
        bench.opens(2);
        bench.waits_until(2 * BESIDE_AFTER);
        // One that is refused is followed at once by the next.
        bench.opens(3);
        bench.refuses(3);
        bench.completes(2);
        // The next attempt begins there, though the first was never found wanting.
        bench.again(&[1, 2, 3]);
        bench.opens(2);
        // All of them refuse: one text names each.
        bench.refuses(2);
        bench.now += SECOND;
        bench.opens(3);
        bench.refuses(3);
        bench.opens(1);
        bench.refuses(1);
        bench.resolved(&[1, 2, 3]);
        let all = "10.0.0.2:9: refused; 10.0.0.3:9: refused; 10.0.0.1:9: refused";
        assert_eq!(bench.poll(), Step::Failed(all.into()));
    }

    #[test]
    fn c52_f45_an_address_whose_time_is_up_is_closed_and_the_next_attempt_begins_behind_it() {
        let mut bench = Bench::named(&[]);
        bench.resolved(&[1, 2]);
        bench.opens(1);
        let until = bench.dial.handle_connected(address(1), &mut bench.book);
        assert!((8 * SECOND..=12 * SECOND).contains(&until), "the handshake is part of it");
        // What the socket says of a peer that accepts and then is silent, closes, speaks TLS.
        bench.book.failed(until, &(target(), None), &(address(1), None), &"silent".into());
        bench.now = until + 50 * MS;
        bench.again(&[1, 2]);
        assert_eq!(bench.poll(), Step::Wait);
        bench.resolved(&[1, 2]);
        bench.opens(2);
    }

    #[test]
    fn c53_a_last_good_answer_is_used_at_once_and_a_fresh_one_beside_it() {
        let mut bench = Bench::named(&[]);
        bench.resolved(&[1]);
        bench.opens(1);
        bench.completes(1);
        bench.again(&[1]);
        bench.opens(1);
        // The broker has moved: its old address swallows everything.
        bench.resolved(&[7]);
        bench.waits_until(bench.now + BESIDE_AFTER);
        bench.opens(7);
        bench.completes(7);
        // It refuses at once, before the fresh answer is there, which is waited for.
        bench.again(&[7]);
        bench.opens(7);
        bench.refuses(7);
        bench.waits_until(bench.now + FRESH_ANSWER_PATIENCE);
        bench.resolved(&[8]);
        bench.opens(8);
    }

    #[test]
    fn c53_after_a_failure_a_fresh_answer_is_waited_for_but_not_for_long() {
        let mut bench = Bench::named(&[1]);
        bench.waits_until(FRESH_ANSWER_PATIENCE);
        bench.opens(1);
        bench.refuses(1);
        assert_eq!(bench.poll(), Step::Failed("10.0.0.1:9: refused".into()));
        // An error in the place of an answer does as well.
        let mut bench = Bench::named(&[1]);
        bench.dial.handle_resolved(Err("kafka cannot be resolved: no".into()), &bench.book);
        bench.opens(1);
        bench.refuses(1);
        let both = "kafka cannot be resolved: no; 10.0.0.1:9: refused";
        assert_eq!(bench.poll(), Step::Failed(both.into()));
    }

    #[test]
    fn of_several_addresses_the_kind_that_says_most_is_told() {
        let mut bench = Bench::named(&[]);
        bench.resolved(&[1, 2]);
        for (last, kind) in [(1, ProblemKind::Refused), (2, ProblemKind::Unreachable)] {
            bench.opens(last);
            let problem = Problem::new(kind, "no");
            bench.dial.handle_failed(bench.now, address(last), problem, &mut bench.book);
        }
        let both = Problem::new(ProblemKind::Refused, "10.0.0.1:9: no; 10.0.0.2:9: no");
        assert_eq!(bench.poll(), Step::Failed(both));
    }

    #[test]
    fn c53_a_name_without_an_answer_fails_at_its_deadline() {
        let mut bench = Bench::named(&[]);
        bench.waits_until(10 * SECOND);
        let problem = Problem::new(ProblemKind::Dns, "no address within 10.0 s");
        assert_eq!(bench.poll(), Step::Failed(problem));
        // What comes later says nothing any more.
        bench.resolved(&[1]);
        assert!(matches!(bench.poll(), Step::Failed(_)));
    }

    #[test]
    fn all_addresses_of_a_large_name_get_their_turn() {
        let mut bench = Bench::named(&[]);
        let many: Vec<u8> = (1..=20).collect();
        bench.resolved(&many);
        for last in 1..=BESIDE_MAX as u8 {
            bench.opens(last);
            bench.now += BESIDE_AFTER;
        }
        let first = bench.dial.pending[0].until;
        bench.now = bench.dial.deadline();
        assert!(bench.now <= first, "no further one before one of them gives up");
        let Step::Close(_) = bench.poll() else { panic!("its time is up") };
        bench.opens(1 + BESIDE_MAX as u8);
        bench.dial.give_up(&mut bench.book);
        assert!(bench.dial.pending.is_empty());
    }

    #[test]
    fn c65_an_address_that_somebody_else_found_wanting_is_not_tried() {
        let mut bench = Bench::named(&[]);
        bench.book.failed(0, &(target(), None), &(address(1), None), &"refused".into());
        bench.dial = Dial::literal((target(), None), address(1));
        // Told once, and without the address: whoever shows it names the target.
        let Step::Postponed { until, problem } = bench.poll() else { panic!("nothing is tried") };
        assert_eq!(problem.message(), "refused");
        assert!((40 * MS..=60 * MS).contains(&until), "{until}");
        bench.now = SECOND;
        bench.dial = Dial::literal((target(), None), address(1));
        bench.opens(1);
    }
}
