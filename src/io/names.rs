//! Which names are being looked up, who waits for the answers, and what the last good ones were.
//! Pure: the resolver's threads ask and answer, and each connection that waits keeps a deadline of
//! its own.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use crate::problem::Problem;

/// What a look-up ended with: every address of the name, their ports 0, or why there is none.
pub(super) type Resolved = Result<Vec<SocketAddr>, Problem>;

/// Names that are remembered. One more makes those forgotten that nobody waits for: brokers with
/// ever new names must not add up.
const NAMES_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Nobody asks.
    None,
    /// No thread is free for it yet.
    Queued,
    /// A thread waits for the answer.
    Asked,
}

struct Name<W> {
    question: Question,
    /// The last answer that held an address.
    good: Vec<SocketAddr>,
    /// Those who wait, while their tickets live.
    waiting: Vec<(Weak<()>, W)>,
}

/// What asking for a name gives at once.
pub(super) struct Asked {
    /// Dropped, it says that nobody waits for the answer any more.
    pub(super) ticket: Arc<()>,
    /// The last good answer, empty if there is none.
    pub(super) known: Vec<SocketAddr>,
}

/// See the module. `W` is whatever an answer is given to.
pub(super) struct Names<W> {
    names: HashMap<Arc<str>, Name<W>>,
    queue: VecDeque<Arc<str>>,
}

impl<W> Default for Names<W> {
    fn default() -> Self {
        Names { names: HashMap::new(), queue: VecDeque::new() }
    }
}

impl<W> Names<W> {
    /// Somebody wants a name's addresses. If a question for it is open its answer is shared.
    pub(super) fn ask(&mut self, host: &str, waiter: W) -> Asked {
        if self.names.len() >= NAMES_MAX && !self.names.contains_key(host) {
            self.names.retain(|_, name| name.question != Question::None);
        }
        let host: Arc<str> = match self.names.get_key_value(host) {
            Some((host, _)) => host.clone(),
            None => host.into(),
        };
        let fresh = Name { question: Question::None, good: Vec::new(), waiting: Vec::new() };
        let name = self.names.entry(host.clone()).or_insert(fresh);
        // A name that hangs is given up and asked for again for as long as it hangs.
        name.waiting.retain(|(ticket, _)| ticket.strong_count() > 0);
        let ticket = Arc::new(());
        name.waiting.push((Arc::downgrade(&ticket), waiter));
        if name.question == Question::None {
            name.question = Question::Queued;
            self.queue.push_back(host);
        }
        Asked { ticket, known: name.good.clone() }
    }

    /// Names for which no thread was free so far.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The next name to be looked up, by a thread that is free.
    pub(super) fn take(&mut self) -> Option<Arc<str>> {
        loop {
            let host = self.queue.pop_front()?;
            let Some(name) = self.names.get_mut(&host) else { continue };
            name.waiting.retain(|(ticket, _)| ticket.strong_count() > 0);
            if name.waiting.is_empty() {
                // Given up while all threads were stuck.
                name.question = Question::None;
                continue;
            }
            name.question = Question::Asked;
            return Some(host);
        }
    }

    /// The look-up of a name has ended. Returns those who wait for that.
    pub(super) fn answered(&mut self, host: &str, result: &Resolved) -> Vec<W> {
        let Some(name) = self.names.get_mut(host) else { return Vec::new() };
        name.question = Question::None;
        if let Ok(addresses) = result {
            name.good.clone_from(addresses);
        }
        let waiting = std::mem::take(&mut name.waiting);
        let alive = waiting.into_iter().filter(|(ticket, _)| ticket.strong_count() > 0);
        alive.map(|(_, waiter)| waiter).collect()
    }

    /// No thread can be had: every question that is queued ends. Returns who waited for one.
    pub(super) fn give_up_queued(&mut self) -> Vec<W> {
        let queued: Vec<_> = self.queue.drain(..).collect();
        let mut waiting = Vec::new();
        for host in queued {
            if let Some(name) = self.names.get_mut(&host) {
                name.question = Question::None;
                waiting.extend(name.waiting.drain(..).map(|(_, waiter)| waiter));
            }
        }
        waiting
    }

    /// Why a name has no answer yet, in words.
    pub(super) fn why(&self, host: &str) -> String {
        if self.names.get(host).is_none_or(|name| name.question != Question::Queued) {
            return format!("no name server has answered for {host}");
        }
        let asked = self.names.iter().filter(|(_, name)| name.question == Question::Asked);
        let mut asked: Vec<&str> = asked.map(|(host, _)| &**host).collect();
        asked.sort_unstable();
        format!("{host} could not be asked for: all look-ups hang ({})", asked.join(", "))
    }

    /// Nobody waits any more.
    pub(super) fn forget_waiting(&mut self) {
        self.queue.clear();
        self.names.values_mut().for_each(|name| name.waiting.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::ProblemKind;

    fn answer(last: u8) -> Resolved {
        Ok(vec![SocketAddr::from(([10, 0, 0, last], 0))])
    }

    #[test]
    fn c53_one_question_is_open_for_a_name_and_all_who_wait_share_its_answer() {
        let mut names = Names::default();
        let first = names.ask("a", 1);
        assert_eq!(names.take().as_deref(), Some("a"));
        let second = names.ask("a", 2);
        assert_eq!((names.queued(), first.known, second.known), (0, vec![], vec![]));
        assert_eq!(names.answered("a", &answer(1)), [1, 2]);
        // The next one has the last good answer at once, and a question of its own.
        let third = names.ask("a", 3);
        assert_eq!((third.known, names.queued()), (answer(1).unwrap(), 1));
        assert_eq!(names.take().as_deref(), Some("a"));
        // What is no answer takes the last good one from nobody.
        assert_eq!(names.answered("a", &Err(Problem::new(ProblemKind::Dns, "no"))), [3]);
        assert_eq!(names.ask("a", 4).known, answer(1).unwrap());
    }

    #[test]
    fn c53_a_name_that_hangs_keeps_no_other_waiting_and_collects_nobody() {
        let mut names = Names::default();
        let hung = names.ask("hangs", 1);
        assert_eq!(names.take().as_deref(), Some("hangs"));
        let well = names.ask("well", 2);
        assert_eq!(names.take().as_deref(), Some("well"));
        assert_eq!(names.answered("well", &answer(2)), [2]);
        drop((hung, well));
        let mut ticket = None;
        for waiter in 10..1_000 {
            ticket = Some(names.ask("hangs", waiter).ticket);
        }
        assert_eq!((names.queued(), names.names["hangs"].waiting.len()), (0, 2));
        assert_eq!(names.answered("hangs", &answer(3)), [999]);
        drop(ticket);
    }

    #[test]
    fn c53_a_name_that_no_thread_is_free_for_says_which_hang() {
        let mut names = Names::default();
        let _first = (names.ask("b", 1), names.take());
        let _second = (names.ask("a", 2), names.take());
        let third = names.ask("c", 3);
        assert_eq!(names.why("a"), "no name server has answered for a");
        assert_eq!(names.why("c"), "c could not be asked for: all look-ups hang (a, b)");
        // Given up meanwhile, it is not asked for when a thread is free.
        drop(third);
        assert_eq!(names.take(), None);
        let again = names.ask("c", 4);
        assert_eq!(names.take().as_deref(), Some("c"));
        drop(again);
    }

    #[test]
    fn names_do_not_add_up() {
        let mut names = Names::default();
        let kept = names.ask("kept", 0);
        assert_eq!(names.take().as_deref(), Some("kept"));
        for n in 0..5_000 {
            let host = format!("broker-{n}");
            let asked = names.ask(&host, n);
            assert_eq!(names.take().as_deref(), Some(&*host));
            assert_eq!(names.answered(&host, &answer(1)), [n]);
            drop(asked);
        }
        assert!(names.names.len() <= NAMES_MAX && names.names.contains_key("kept"));
        drop(kept);
    }
}
