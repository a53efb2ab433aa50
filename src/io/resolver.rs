//! Looks names up on threads of its own, side by side, so that a name server that hangs for one
//! name stalls no loop and no other name.
//!
//! A look-up of the system cannot be cancelled. A thread that hangs in one is left to it and counts
//! against the limit; it ends when the system answers, also after its producer has closed.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::helper_threads::HelperThreads;
pub(super) use super::names::Resolved;
use super::names::{Asked, Names};
use crate::engine::cluster::BrokerAddress;
use crate::engine::sync::Generation;
use crate::locking::lock;
use crate::problem::{Problem, ProblemKind};

/// Threads of one producer that look names up. Names that hang beyond these keep others from being
/// looked up; a thread costs a stack. A cluster's brokers seldom hang by more names than a few.
const LOOKUPS_MAX: usize = 8;

type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;
type Reply = Box<dyn FnOnce(Resolved) + Send>;

/// The resolver of one producer. Its threads start with the names that need them, and end when it
/// is dropped, those that hang when the system has answered.
pub(super) struct Resolver {
    shared: Arc<Shared>,
    threads: HelperThreads,
    born: Generation,
}

struct Shared {
    names: Mutex<Names<Reply>>,
    lookup: Box<Lookup>,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::with_lookup(look_up)
    }
}

fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    #[cfg(feature = "internals")]
    if let Some(answer) = planted(host) {
        return answer().map(|found| found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect());
    }
    Ok((host, 0).to_socket_addrs()?.collect())
}

/// What a test says in the place of a name server; it may hang.
#[cfg(feature = "internals")]
pub type NameAnswer = dyn Fn() -> io::Result<Vec<IpAddr>> + Send + Sync;

#[cfg(feature = "internals")]
static PLANTED: Mutex<Vec<(String, Arc<NameAnswer>)>> = Mutex::new(Vec::new());

/// For tests: from now on this is asked for a host's addresses, not the system.
#[cfg(feature = "internals")]
pub fn answer_name(host: &str, answer: Arc<NameAnswer>) {
    let mut planted = lock(&PLANTED);
    planted.retain(|(other, _)| other != host);
    planted.push((host.to_owned(), answer));
}

#[cfg(feature = "internals")]
fn planted(host: &str) -> Option<Arc<NameAnswer>> {
    let planted = lock(&PLANTED);
    planted.iter().find(|(other, _)| other == host).map(|(_, answer)| answer.clone())
}

impl Resolver {
    /// One that looks names up with this function.
    pub(super) fn with_lookup(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared { names: Mutex::default(), lookup: Box::new(lookup) });
        let threads = HelperThreads::new("tidegate-dns", LOOKUPS_MAX);
        Resolver { shared, threads, born: Generation::current() }
    }

    /// The address itself, if it is no name.
    pub(super) fn literal(address: &BrokerAddress) -> Option<SocketAddr> {
        let ip: IpAddr = address.host.parse().ok()?;
        Some(SocketAddr::new(ip, address.port))
    }

    /// Has a name looked up. `reply` is called once, on one of the resolver's threads, unless the
    /// ticket that this returns was dropped before; on the calling thread if no other can be had.
    pub(super) fn ask(&self, host: &str, reply: impl FnOnce(Resolved) + Send + 'static) -> Asked {
        let mut names = self.shared.lock();
        let queued = names.queued();
        let asked = names.ask(host, Box::new(reply));
        let is_queued = names.queued() > queued;
        drop(names);
        let shared = self.shared.clone();
        if is_queued && let Err(error) = self.threads.run(move || shared.look_next_up()) {
            let given_up = self.shared.lock().give_up_queued();
            let text = format!("{host} cannot be resolved: no thread for it: {error}");
            let problem = Problem::told_by(ProblemKind::System, text, error);
            given_up.into_iter().for_each(|reply| reply(Err(problem.clone())));
        }
        asked
    }

    /// Why a name has no answer yet, in words.
    pub(super) fn why(&self, host: &str) -> String {
        self.shared.lock().why(host)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        if !self.born.is_current() {
            // In a fork's child: another thread may have held the lock at the fork, and none is
            // there to be ended.
            return;
        }
        self.shared.lock().forget_waiting();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Names<Reply>> {
        lock(&self.names)
    }

    /// Looks up the name that has waited for longest, if any is left that somebody waits for.
    fn look_next_up(&self) {
        let Some(host) = self.lock().take() else { return };
        let result = self.look_up(&host);
        let waiting = self.lock().answered(&host, &result);
        waiting.into_iter().for_each(|reply| reply(result.clone()));
    }

    fn look_up(&self, host: &str) -> Resolved {
        let found = catch_unwind(AssertUnwindSafe(|| (self.lookup)(host)))
            .unwrap_or_else(|_| Err(io::Error::other("the look-up panicked")))
            .map_err(|error| {
                let text = format!("{host} cannot be resolved: {error}");
                Problem::told_by(ProblemKind::Dns, text, error)
            })?;
        if found.is_empty() {
            return Err(Problem::new(ProblemKind::Dns, format_args!("{host} has no address")));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A resolver whose names that begin with "hang" are answered when the sender is dropped.
    fn resolver() -> (Resolver, Sender<()>) {
        let (hold, held) = channel::<()>();
        let held = Mutex::new(held);
        let resolver = Resolver::with_lookup(move |host| {
            if host.starts_with("hang") {
                // They wait here one behind the other, and all of them until the sender is gone.
                let _ = lock(&held).recv();
            }
            Ok(vec![SocketAddr::from(([10, 0, 0, host.len() as u8], 0))])
        });
        (resolver, hold)
    }

    fn ask(resolver: &Resolver, host: &str) -> (Asked, Receiver<Resolved>) {
        let (sender, receiver) = channel();
        let reply = move |result| drop(sender.send(result));
        (resolver.ask(host, reply), receiver)
    }

    fn counts(resolver: &Resolver) -> (usize, usize) {
        (resolver.threads.count(), resolver.shared.lock().queued())
    }

    #[test]
    fn c53_f46_a_name_that_hangs_holds_up_no_other() {
        let (resolver, hold) = resolver();
        let (_asked, hung) = ask(&resolver, "hangs");
        for host in ["a", "bb", "ccc"] {
            let (_asked, answer) = ask(&resolver, host);
            let answer = answer.recv_timeout(LONG).expect("it does not wait for the other");
            assert_eq!(answer.unwrap()[0].ip(), IpAddr::from([10, 0, 0, host.len() as u8]));
        }
        assert!(hung.try_recv().is_err());
        drop(hold);
        assert!(hung.recv_timeout(LONG).expect("it is answered in the end").is_ok());
    }

    #[test]
    fn c53_names_that_hang_take_a_bounded_number_of_threads() {
        let (resolver, hold) = resolver();
        let asked: Vec<_> =
            (0..3 * LOOKUPS_MAX).map(|n| ask(&resolver, &format!("hangs-{n}"))).collect();
        assert_eq!(counts(&resolver).0, LOOKUPS_MAX);
        let (late, answer) = ask(&resolver, "late");
        assert!(resolver.why("late").contains("all look-ups hang"), "{}", resolver.why("late"));
        assert!(answer.try_recv().is_err());
        drop(hold);
        assert!(answer.recv_timeout(LONG).expect("threads are free again").is_ok());
        drop((asked, late));
    }

    #[test]
    fn a_lookup_that_panics_is_a_problem_of_its_name() {
        let resolver = Resolver::with_lookup(|_| panic!("this panic is part of the test"));
        let (_asked, answer) = ask(&resolver, "a");
        let problem = answer.recv_timeout(LONG).expect("it is answered").unwrap_err();
        assert_eq!(problem.message(), "a cannot be resolved: the look-up panicked");
    }

    #[test]
    fn threads_end_with_the_resolver() {
        let (resolver, hold) = resolver();
        let (_asked, answer) = ask(&resolver, "a");
        answer.recv_timeout(LONG).expect("it is answered").unwrap();
        let (_hung, _) = ask(&resolver, "hangs");
        let shared = Arc::downgrade(&resolver.shared);
        drop(resolver);
        drop(hold);
        while shared.upgrade().is_some() {
            std::thread::yield_now();
        }
    }
}
