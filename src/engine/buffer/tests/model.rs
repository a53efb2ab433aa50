//! Random sequences against a model that only adds up what is held.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::*;
use super::{KIB, broker, pool};

#[derive(Clone, Debug)]
enum Step {
    Take { account: usize, class: usize },
    TakeBytes { account: usize, bytes: usize },
    Release { which: usize },
    Truncate { which: usize, bytes: usize },
    Wait { account: usize, bytes: usize },
    TakeByTicket { which: usize },
    DropTicket { which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4usize, 0..3usize).prop_map(|(account, class)| Step::Take { account, class }),
        2 => (0..4usize, 0..150 * KIB).prop_map(|(account, bytes)| Step::TakeBytes {
            account,
            bytes
        }),
        4 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => (any::<usize>(), 0..70 * KIB).prop_map(|(which, bytes)| Step::Truncate {
            which,
            bytes
        }),
        2 => (0..4usize, 0..150 * KIB).prop_map(|(account, bytes)| Step::Wait { account, bytes }),
        2 => any::<usize>().prop_map(|which| Step::TakeByTicket { which }),
        1 => any::<usize>().prop_map(|which| Step::DropTicket { which }),
    ];
    proptest::collection::vec(step, 0..if cfg!(miri) { 30 } else { 250 })
}

/// What the pool must look like: plain sums over what is held.
struct Model {
    pool: BufferPool,
    accounts: [AccountId; 4],
    writable: HashMap<AccountId, bool>,
    /// With the byte that each was filled with.
    held: Vec<(Segment, u8)>,
    /// In the order of their registration, with account and bytes asked for.
    tickets: Vec<(WaitTicket, AccountId, usize)>,
    stamp: u8,
}

impl Model {
    fn new() -> Model {
        let pool = pool(4);
        let accounts = [AccountId::LEADERLESS, AccountId::STASH, broker(&pool), broker(&pool)];
        let writable = accounts.iter().map(|&account| (account, true)).collect();
        Model { pool, accounts, writable, held: Vec::new(), tickets: Vec::new(), stamp: 0 }
    }

    fn hold(&mut self, segments: Vec<Segment>) {
        for mut segment in segments {
            self.stamp = self.stamp.wrapping_add(1);
            let end = segment.len() - 1;
            (segment[0], segment[end / 2], segment[end]) = (self.stamp, self.stamp, self.stamp);
            self.held.push((segment, self.stamp));
        }
    }

    fn charged(&self, account: AccountId) -> usize {
        self.held.iter().filter(|(s, _)| s.account() == account).map(|(s, _)| s.len()).sum()
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Take { account, class } => {
                let taken = self.pool.take_one(self.accounts[account], Class::ALL[class]);
                self.hold(taken.into_iter().collect());
            }
            Step::TakeBytes { account, bytes } => self.take_bytes(self.accounts[account], bytes),
            Step::Release { which } if !self.held.is_empty() => {
                let which = which % self.held.len();
                drop(self.held.swap_remove(which));
            }
            Step::Truncate { which, bytes } if !self.held.is_empty() => {
                let which = which % self.held.len();
                let (segment, stamp) = &mut self.held[which];
                segment.truncate_to(bytes);
                let end = segment.len() - 1;
                (segment[end / 2], segment[end]) = (*stamp, *stamp);
            }
            Step::Wait { account, bytes } => {
                let account = self.accounts[account];
                if let Ok(ticket) = self.pool.wait(account, bytes) {
                    let pages = bytes.next_multiple_of(PAGE_BYTES);
                    self.tickets.push((ticket, account, pages));
                }
            }
            Step::TakeByTicket { which } if !self.tickets.is_empty() => {
                let which = which % self.tickets.len();
                let (mut ticket, account, bytes) = self.tickets.remove(which);
                let fits = account != AccountId::STASH
                    || self.charged(account) + bytes <= self.pool.capacity() / 4;
                let mut taken = Vec::new();
                let ready = ticket.is_ready();
                assert_eq!(
                    ticket.take_bytes(bytes, &mut taken),
                    (ready && fits) || (!ready && bytes == 0)
                );
                self.hold(taken);
            }
            Step::DropTicket { which } if !self.tickets.is_empty() => {
                let which = which % self.tickets.len();
                drop(self.tickets.remove(which));
            }
            _ => {}
        }
    }

    fn take_bytes(&mut self, account: AccountId, bytes: usize) {
        let pages = bytes.next_multiple_of(PAGE_BYTES);
        let stats = self.pool.stats();
        let fits = pages <= stats.free.saturating_sub(stats.pledged)
            && (account != AccountId::STASH || self.charged(account) + pages <= stats.capacity / 4);
        let mut taken = Vec::new();
        assert_eq!(self.pool.take_bytes(account, bytes, &mut taken), fits);
        assert_eq!(
            taken.iter().map(|segment| segment.len()).sum::<usize>(),
            if fits { pages } else { 0 }
        );
        self.hold(taken);
    }

    fn check(&mut self) {
        let held: usize = self.held.iter().map(|(segment, _)| segment.len()).sum();
        assert_eq!(self.pool.free_bytes(), self.pool.capacity() - held);
        for (segment, stamp) in &self.held {
            let end = segment.len() - 1;
            let marks = [segment[0], segment[end / 2], segment[end]];
            assert_eq!(marks, [*stamp; 3], "two segments share bytes");
        }
        for account in self.accounts {
            let levels = self.pool.levels(account);
            assert_eq!(levels.charged, self.charged(account), "accounting is exact");
            let was = self.writable.insert(account, levels.writable).expect("known");
            match (was, levels.writable) {
                (_, true) if levels.charged == 0 => {}
                (true, false) if account == AccountId::STASH => {}
                (true, false) => assert!(levels.charged > levels.high),
                (false, true) => assert!(levels.charged < levels.low),
                (false, false) => assert!(
                    levels.charged > 0
                        && (account == AccountId::STASH || levels.charged >= levels.low)
                ),
                (true, true) => {}
            }
        }
        self.check_line();
    }

    /// Admission is first come, first served, and no byte is kept that could admit someone.
    fn check_line(&self) {
        let stats = self.pool.stats();
        let (mut kept, mut asked) = (0, 0);
        for (ticket, account, bytes) in &self.tickets {
            match (ticket.is_ready(), self.pool.is_writable(*account)) {
                (true, _) => kept += bytes,
                (false, true) => asked += bytes,
                (false, false) => {}
            }
        }
        assert!(kept <= stats.free, "what was promised is there");
        assert_eq!(stats.pledged, kept + asked);
        let head = self
            .tickets
            .iter()
            .find(|(ticket, account, _)| !ticket.is_ready() && self.pool.is_writable(*account));
        if let Some((.., bytes)) = head {
            assert!(*bytes > stats.free - kept, "the head could be admitted");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_pool_agrees_with_a_model(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            model.check();
        }
        model.tickets.clear();
        model.held.clear();
        model.pool.assert_all_free();
        prop_assert!(model.accounts.iter().all(|&account| model.pool.is_writable(account)));
    }
}
