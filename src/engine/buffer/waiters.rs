//! Those who wait for an account to become writable and for room in the pool: one FIFO.
//!
//! A waiter's bytes are *pledged* to it while only the pool keeps it waiting, and from its
//! admission until its ticket took them or is dropped. Who does not wait can take only what is not
//! pledged. So freed bytes gather for the first in line until it is satisfied, and a stream of
//! small takes cannot starve a large record. A waiter whose account is not writable pledges
//! nothing and holds up nobody.

use std::task::Waker;

use super::account::AccountId;
use crate::{logging as log, user_code};

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Vacant,
    /// In the FIFO.
    Waiting,
    /// Out of the FIFO, its `bytes` kept for it.
    Admitted,
}

struct Slot {
    stage: Stage,
    account: AccountId,
    /// Waiting: what it asked for. Admitted: what of that it did not take yet.
    bytes: usize,
    waker: Option<Waker>,
    next: u32,
    previous: u32,
}

#[derive(Clone, Copy)]
struct Queued {
    writable: bool,
    /// Tickets of the account, admitted or not.
    tickets: usize,
    /// Those of them that wait.
    waiting: usize,
    /// Those that wait for no bytes, only for the account.
    waiting_empty: usize,
    /// Sum of what they wait for.
    bytes: usize,
}

/// Wakers collected under the pool's mutex, called without it. Bounded: who fills it comes back.
#[derive(Default)]
pub(super) struct Wakes {
    wakers: [Option<Waker>; Wakes::MAX],
    len: usize,
}

impl Wakes {
    const MAX: usize = 16;

    fn is_full(&self) -> bool {
        self.len == Wakes::MAX
    }

    fn push(&mut self, waker: Option<Waker>) {
        if waker.is_some() {
            self.wakers[self.len] = waker;
            self.len += 1;
        }
    }

    /// Calls them. A waker that panics harms neither the others nor the caller, which may be a
    /// segment's drop.
    pub(super) fn wake(self) {
        for waker in self.wakers.into_iter().flatten() {
            let _inside = user_code::enter();
            if user_code::call(|| waker.wake()).is_err() {
                log::error!("the waker of a task that awaits room panicked");
            }
        }
    }
}

/// The FIFO, and the sums over it that keep takes and releases from walking it.
pub(super) struct Waiters {
    /// Grows to the largest number of tickets there ever was at one time.
    slots: Vec<Slot>,
    /// First vacant slot, linked by `next`.
    vacant: u32,
    head: u32,
    tail: u32,
    accounts: Box<[Queued]>,
    waiting: usize,
    /// Waiting, in a writable account.
    eligible: usize,
    /// Of those, waiting for no bytes.
    eligible_empty: usize,
    /// Bytes of the admitted. Never more than the pool's free bytes.
    admitted_bytes: usize,
    /// Bytes of the eligible.
    eligible_bytes: usize,
}

impl Waiters {
    pub(super) fn new(accounts_max: usize) -> Waiters {
        let queued = Queued { writable: true, tickets: 0, waiting: 0, waiting_empty: 0, bytes: 0 };
        Waiters {
            slots: Vec::with_capacity(64),
            vacant: NIL,
            head: NIL,
            tail: NIL,
            accounts: vec![queued; accounts_max].into_boxed_slice(),
            waiting: 0,
            eligible: 0,
            eligible_empty: 0,
            admitted_bytes: 0,
            eligible_bytes: 0,
        }
    }

    /// Bytes that only ticket holders can take.
    #[inline]
    pub(super) fn pledged(&self) -> usize {
        self.admitted_bytes + self.eligible_bytes
    }

    /// Whether [`admit`](Self::admit) could find someone.
    #[inline]
    pub(super) fn any_eligible(&self) -> bool {
        self.eligible > 0
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Tickets of an account, admitted or not.
    #[inline]
    pub(super) fn tickets(&self, account: AccountId) -> usize {
        self.accounts[account.index()].tickets
    }

    /// An account became writable or stopped being so: its waiters pledge, or no longer do.
    pub(super) fn set_writable(&mut self, account: AccountId, writable: bool) {
        let queued = &mut self.accounts[account.index()];
        assert!(queued.writable != writable, "only a change is reported");
        queued.writable = writable;
        if writable {
            self.eligible += queued.waiting;
            self.eligible_empty += queued.waiting_empty;
            self.eligible_bytes += queued.bytes;
        } else {
            self.eligible -= queued.waiting;
            self.eligible_empty -= queued.waiting_empty;
            self.eligible_bytes -= queued.bytes;
        }
    }

    /// Appends a waiter; returns its slot.
    pub(super) fn register(&mut self, account: AccountId, bytes: usize) -> u32 {
        let tail = self.tail;
        let slot =
            Slot { stage: Stage::Waiting, account, bytes, waker: None, next: NIL, previous: tail };
        let at = if self.vacant == NIL {
            self.slots.push(slot);
            (self.slots.len() - 1) as u32
        } else {
            let at = self.vacant;
            self.vacant = std::mem::replace(&mut self.slots[at as usize], slot).next;
            at
        };
        match tail {
            NIL => self.head = at,
            _ => self.slots[tail as usize].next = at,
        }
        self.tail = at;
        self.accounts[account.index()].tickets += 1;
        self.count(at, true);
        at
    }

    /// Admits from the front whoever can be, collecting their wakers. True if `wakes` was full
    /// before the end: call again.
    pub(super) fn admit(&mut self, bytes_free: usize, wakes: &mut Wakes) -> bool {
        let mut room = bytes_free.saturating_sub(self.admitted_bytes);
        let mut unseen = self.eligible;
        let mut at = self.head;
        while unseen > 0 && at != NIL {
            let Slot { account, bytes, next, .. } = self.slots[at as usize];
            if self.accounts[account.index()].writable {
                unseen -= 1;
                if bytes <= room {
                    if wakes.is_full() {
                        return true;
                    }
                    room -= bytes;
                    self.admit_one(at, bytes, wakes);
                } else {
                    // All that is left is kept for this one.
                    room = 0;
                }
            }
            if room == 0 && self.eligible_empty == 0 {
                break;
            }
            at = next;
        }
        false
    }

    /// Admits up to `count` waiters from the front, whatever their account and the pool, with
    /// nothing kept for them. Returns how many are left of `count`.
    pub(super) fn dismiss(&mut self, mut count: usize, wakes: &mut Wakes) -> usize {
        while count > 0 && self.head != NIL && !wakes.is_full() {
            self.admit_one(self.head, 0, wakes);
            count -= 1;
        }
        if self.head == NIL { 0 } else { count }
    }

    /// The same for up to `count` waiters of one account.
    pub(super) fn dismiss_of(
        &mut self,
        account: AccountId,
        mut count: usize,
        wakes: &mut Wakes,
    ) -> usize {
        let mut at = self.head;
        while count > 0 && at != NIL && !wakes.is_full() {
            let Slot { account: its, next, .. } = self.slots[at as usize];
            if its == account {
                self.admit_one(at, 0, wakes);
                count -= 1;
            }
            at = next;
        }
        if at == NIL { 0 } else { count }
    }

    /// Those of an account that wait.
    pub(super) fn waiting_of(&self, account: AccountId) -> usize {
        self.accounts[account.index()].waiting
    }

    /// Ends a ticket. What was kept for it is free to others: admit again.
    /// Returns its waker, to be dropped without the lock.
    pub(super) fn unregister(&mut self, at: u32) -> Option<Waker> {
        match self.slots[at as usize].stage {
            Stage::Waiting => self.unlink(at),
            Stage::Admitted => self.admitted_bytes -= self.slots[at as usize].bytes,
            Stage::Vacant => unreachable!("a ticket owns its slot until it is dropped"),
        }
        let slot = &mut self.slots[at as usize];
        slot.stage = Stage::Vacant;
        slot.next = std::mem::replace(&mut self.vacant, at);
        self.accounts[slot.account.index()].tickets -= 1;
        slot.waker.take()
    }

    pub(super) fn is_admitted(&self, at: u32) -> bool {
        self.slots[at as usize].stage == Stage::Admitted
    }

    /// Bytes kept for an admitted ticket; `None` while it waits.
    pub(super) fn kept(&self, at: u32) -> Option<usize> {
        let slot = &self.slots[at as usize];
        (slot.stage == Stage::Admitted).then_some(slot.bytes)
    }

    /// An admitted ticket took `bytes`, of what was kept for it first.
    pub(super) fn spend(&mut self, at: u32, bytes: usize) {
        let slot = &mut self.slots[at as usize];
        let spent = bytes.min(slot.bytes);
        slot.bytes -= spent;
        self.admitted_bytes -= spent;
    }

    /// Stores the waker of a waiting ticket; returns the one to drop without the lock.
    pub(super) fn set_waker(&mut self, at: u32, waker: Waker) -> Option<Waker> {
        let known = &mut self.slots[at as usize].waker;
        if known.as_ref().is_some_and(|known| known.will_wake(&waker)) {
            return Some(waker);
        }
        known.replace(waker)
    }

    fn admit_one(&mut self, at: u32, kept: usize, wakes: &mut Wakes) {
        self.unlink(at);
        let slot = &mut self.slots[at as usize];
        slot.stage = Stage::Admitted;
        slot.bytes = kept;
        self.admitted_bytes += kept;
        wakes.push(slot.waker.take());
    }

    fn unlink(&mut self, at: u32) {
        self.count(at, false);
        let Slot { next, previous, .. } = self.slots[at as usize];
        match previous {
            NIL => self.head = next,
            _ => self.slots[previous as usize].next = next,
        }
        match next {
            NIL => self.tail = previous,
            _ => self.slots[next as usize].previous = previous,
        }
    }

    /// Adds a waiting slot to the sums, or takes it out.
    fn count(&mut self, at: u32, adds: bool) {
        let slot = &self.slots[at as usize];
        let queued = &mut self.accounts[slot.account.index()];
        let empty = usize::from(slot.bytes == 0);
        let apply = |sum: &mut usize, by: usize| {
            if adds {
                *sum += by;
            } else {
                *sum -= by;
            }
        };
        apply(&mut self.waiting, 1);
        apply(&mut queued.waiting, 1);
        apply(&mut queued.waiting_empty, empty);
        apply(&mut queued.bytes, slot.bytes);
        if queued.writable {
            apply(&mut self.eligible, 1);
            apply(&mut self.eligible_empty, empty);
            apply(&mut self.eligible_bytes, slot.bytes);
        }
    }
}
