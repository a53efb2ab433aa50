//! The pool: one mutex around free lists, accounts and waiters, touched once per segment.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::account::{AccountId, AccountKind, AccountTable, Ledger, LevelObserver, Levels};
use super::arena::{Arena, Region};
use super::free_list::{CHUNK_BYTES, Class, FreeLists, PAGE_BYTES, page_ceil};
use super::loom::{Mutex, MutexGuard};
use super::options::{BufferPoolOptions, PoolError};
use super::scratch::Scratch;
use super::segment::Segment;
use super::ticket::WaitTicket;
use super::waiters::{Waiters, Wakes};

/// Segments that [`BufferPool::release_all`] returns under one lock.
#[cfg(feature = "internals")]
const RELEASES_PER_LOCK: usize = 32;

/// All buffered bytes of a producer: one mapping of a fixed size, handed out in segments.
///
/// A handle that is cheap to clone. The mapping goes when the last handle, segment, ticket and
/// scratch are gone. Admission is in two steps: a sender asks [`is_writable`](Self::is_writable)
/// before its record, then takes; the level may be overshot by one record for each sender, the
/// pool's size never.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<PoolShared>,
}

/// What all handles share. Reading needs no lock except for `state`.
pub(super) struct PoolShared {
    pub(super) arena: Arena,
    pub(super) table: AccountTable,
    #[cfg(feature = "internals")]
    report: super::options::PoolReport,
    /// Padded: the fields above are read for every record.
    state: CachePadded<Mutex<State>>,
}

pub(super) struct State {
    lists: FreeLists,
    pub(super) ledger: Ledger,
    pub(super) waiters: Waiters,
    scratch_bytes: usize,
    takes_refused: u64,
}

/// A pool's state at one moment. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg(feature = "internals")]
pub struct PoolStats {
    /// Size of the pool.
    pub capacity: usize,
    /// Not in any segment or scratch.
    pub free: usize,
    /// Of the free bytes, those that only waiters can take; may exceed `free`.
    pub pledged: usize,
    /// In scratches.
    pub scratch: usize,
    /// Waiters not yet admitted.
    pub waiting: usize,
    /// Free blocks of 4, 16 and 64 KiB.
    pub blocks_free: [usize; 3],
    /// Takes that found no room, since the pool was built.
    pub takes_refused: u64,
}

impl BufferPool {
    /// Maps the memory and sets every table up; nothing on the paths of segments allocates later.
    ///
    /// # Errors
    /// [`PoolError`] for options that cannot work, and if the system refuses the mapping. Huge
    /// pages, populating and locking are best effort: see `report`.
    pub fn new(options: &BufferPoolOptions) -> Result<BufferPool, PoolError> {
        let (arena, map, report) = Arena::map(options)?;
        let (table, ledger) = Ledger::new(options, arena.bytes())?;
        let state = State {
            lists: FreeLists::new(map),
            ledger,
            waiters: Waiters::new(options.accounts_max),
            scratch_bytes: 0,
            takes_refused: 0,
        };
        let state = CachePadded::new(Mutex::new(state));
        #[cfg(not(feature = "internals"))]
        drop(report);
        let shared = PoolShared {
            arena,
            table,
            #[cfg(feature = "internals")]
            report,
            state,
        };
        Ok(BufferPool { shared: Arc::new(shared) })
    }

    /// What the system made of the options.
    #[cfg(feature = "internals")]
    pub fn report(&self) -> &super::options::PoolReport {
        &self.shared.report
    }

    /// Sets who hears of it when an account stops being writable or is writable again, with the
    /// bytes charged to it and its high watermark. It is called under the pool's lock: it must be
    /// quick and leave the pool alone. Only the first call counts.
    pub fn set_level_observer(&self, observer: LevelObserver) {
        self.shared.table.set_observer(observer);
    }

    /// Opens an account, one for each broker. [`AccountId::LEADERLESS`] and [`AccountId::STASH`]
    /// are open from the start; producers that share a pool may open more of these kinds.
    ///
    /// # Errors
    /// [`PoolError::NoAccountLeft`] when `accounts_max` are in use.
    pub fn open_account(&self, kind: AccountKind) -> Result<AccountId, PoolError> {
        self.shared.lock().ledger.open(&self.shared.table, kind)
    }

    /// Closes an account. It is writable from now on, so its waiters are admitted as far as the
    /// pool has room; segments charged to it go on being charged to it, and its id is used again
    /// after the last of them and the last ticket.
    ///
    /// # Panics
    /// If it is not open, or one of the two fixed ones.
    pub fn close_account(&self, account: AccountId) {
        let mut state = self.shared.lock();
        let State { ledger, waiters, .. } = &mut *state;
        if ledger.close(&self.shared.table, account) {
            waiters.set_writable(account, true);
        }
        ledger.retire(&self.shared.table, account, waiters.tickets(account));
        self.shared.settle(state);
    }

    /// Whether senders are admitted to an account: one relaxed load.
    #[inline]
    pub fn is_writable(&self, account: AccountId) -> bool {
        self.shared.table.is_writable(account)
    }

    /// An account's level in thousandths of its high watermark; 1,000 at it and above. A few
    /// relaxed loads, which need not fit together.
    pub fn load(&self, account: AccountId) -> u32 {
        self.shared.table.load(account)
    }

    /// Whether the account's broker takes no batches, as its shard said last: one relaxed load.
    #[inline]
    pub fn is_stalled(&self, account: AccountId) -> bool {
        self.shared.table.is_stalled(account)
    }

    /// By the broker's shard: see [`BufferPool::is_stalled`].
    pub fn set_stalled(&self, account: AccountId, stalled: bool) {
        self.shared.table.set_stalled(account, stalled);
    }

    /// Whether anyone waits for room: one relaxed load.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.shared.table.has_waiters()
    }

    /// Whether loops should ignore linger: the account is above three quarters of its high
    /// watermark, or someone waits for room. A few relaxed loads.
    #[inline]
    pub fn under_pressure(&self, account: AccountId) -> bool {
        self.shared.table.under_pressure(account)
    }

    /// An account's bytes, levels and transitions.
    pub fn levels(&self, account: AccountId) -> Levels {
        let _consistent = self.shared.lock();
        self.shared.table.levels(account)
    }

    /// So many records were dropped because the account was not writable.
    pub fn count_dropped(&self, account: AccountId, records: u64) {
        self.shared.table.count_dropped(account, records);
    }

    /// Takes one segment of exactly `class`, if there is room that is not pledged to waiters.
    #[inline]
    #[cfg(feature = "internals")]
    pub fn take_one(&self, account: AccountId, class: Class) -> Option<Segment> {
        self.take(account, class.bytes(), class)
    }

    /// Takes one segment of at least `bytes_min`: of `preferred` or, if there is no room for that,
    /// of the largest smaller class that will do. `None` if none will. Never waits.
    ///
    /// # Panics
    /// If `preferred` does not hold `bytes_min`.
    #[inline]
    pub fn take(&self, account: AccountId, bytes_min: usize, preferred: Class) -> Option<Segment> {
        self.shared.take(account, bytes_min, preferred, Taker::Anyone).map(|region| Segment {
            pool: Arc::clone(&self.shared),
            region,
            account,
        })
    }

    /// Takes segments that hold `bytes` together, appended to `out` largest first, or none at all.
    /// Succeeds whenever that many bytes, rounded up to pages, are free and not pledged to waiters.
    /// Never waits.
    pub fn take_bytes(&self, account: AccountId, bytes: usize, out: &mut Vec<Segment>) -> bool {
        PoolShared::take_bytes(&self.shared, account, bytes, Taker::Anyone, out)
    }

    /// Returns segments, many under one lock. Wakes the waiters this admits.
    #[cfg(feature = "internals")]
    pub fn release_all(&self, segments: impl IntoIterator<Item = Segment>) {
        let mut segments = segments.into_iter().fuse();
        loop {
            // Collected first: the iterator is not the pool's code, so it runs without the lock.
            let mut some: [Option<Segment>; RELEASES_PER_LOCK] =
                std::array::from_fn(|_| segments.next());
            if some[0].is_none() {
                return;
            }
            let mut state = self.shared.lock();
            for segment in some.iter_mut().map_while(Option::as_mut) {
                // One of another pool returns there by its drop, below.
                if Arc::ptr_eq(&segment.pool, &self.shared) && segment.region.pages() > 0 {
                    let region = segment.region.take();
                    state.release(&self.shared.table, region, segment.account);
                }
            }
            self.shared.settle(state);
        }
    }

    /// Takes a place in the line for room: until `account` is writable and `bytes` of the pool can
    /// be kept for the ticket (0: only until it is writable). Whoever waits registers first, then
    /// tests its own conditions again (closed, another leader), then sleeps on the ticket.
    ///
    /// # Errors
    /// [`PoolError::NeverFits`] if not even the empty pool could give that much to that account.
    pub fn wait(&self, account: AccountId, bytes: usize) -> Result<WaitTicket, PoolError> {
        let bytes = page_ceil(bytes);
        let mut state = self.shared.lock();
        let max = self.capacity() - state.scratch_bytes;
        let max = max.min(state.ledger.cap(account));
        if bytes > max {
            return Err(PoolError::NeverFits { bytes, max });
        }
        let slot = state.waiters.register(account, bytes);
        self.shared.admit(state);
        Ok(WaitTicket { pool: Arc::clone(&self.shared), slot, account })
    }

    /// Makes every ticket ready that waits now, with nothing kept for it: for close, whose flag
    /// must be set before. Waiters that should go on waiting register again.
    pub fn wake_all(&self) {
        let mut state = self.shared.lock();
        let mut left = state.waiters.waiting();
        while left > 0 {
            let mut wakes = Wakes::default();
            left = state.waiters.dismiss(left, &mut wakes);
            self.shared.table.set_waiting(state.waiters.waiting());
            drop(state);
            wakes.wake();
            state = self.shared.lock();
        }
    }

    /// Makes every ticket of `account` ready that waits now, with nothing kept for it: what they
    /// wait for has another account since, or none. Waiters that should go on waiting register
    /// again.
    pub fn dismiss(&self, account: AccountId) {
        if self.shared.table.waiting() == 0 {
            return;
        }
        let mut state = self.shared.lock();
        let mut left = state.waiters.waiting_of(account);
        while left > 0 {
            let mut wakes = Wakes::default();
            left = state.waiters.dismiss_of(account, left, &mut wakes);
            self.shared.table.set_waiting(state.waiters.waiting());
            drop(state);
            wakes.wake();
            state = self.shared.lock();
        }
        // What they had pledged is for those behind them.
        self.shared.admit(state);
    }

    /// Admits whoever can be: after takes that woke nobody, [`BufferPool::take_quietly`].
    pub fn admit_waiting(&self) {
        if self.shared.table.waiting() > 0 {
            self.shared.admit(self.shared.lock());
        }
    }

    /// As [`BufferPool::take`] or else [`BufferPool::take_bytes`], and wakes nobody, which is code
    /// of the application's: for callers that hold a lock. They call [`BufferPool::admit_waiting`]
    /// when they no longer do.
    pub fn take_quietly(
        &self,
        account: AccountId,
        bytes: usize,
        preferred: Class,
        out: &mut Vec<Segment>,
    ) -> bool {
        let this = &self.shared;
        if bytes <= preferred.bytes()
            && let Some(region) = this.take(account, bytes, preferred, Taker::Quiet)
        {
            out.push(Segment { pool: Arc::clone(this), region, account });
            return true;
        }
        PoolShared::take_bytes(this, account, bytes, Taker::Quiet, out)
    }

    /// Takes a contiguous region, in whole chunks, out of the pool until it is dropped. Looks
    /// through the whole pool: for the start of a loop, not for traffic.
    ///
    /// # Errors
    /// [`PoolError::NoScratch`] if there is no such run of free bytes, or waiters need them.
    pub fn carve_scratch(&self, bytes: usize) -> Result<Scratch, PoolError> {
        let mut state = self.shared.lock();
        let chunks = bytes.div_ceil(CHUNK_BYTES).max(1);
        let refused = PoolError::NoScratch {
            bytes: chunks.saturating_mul(CHUNK_BYTES),
            free: state.lists.bytes_free(),
        };
        if bytes > state.lists.bytes_free().saturating_sub(state.waiters.pledged()) {
            return Err(refused);
        }
        // Not more than there are free, so the number fits.
        let region = state.lists.take_run(chunks as u32).ok_or(refused)?;
        state.scratch_bytes += region.bytes();
        self.shared.table.set_free(state.lists.bytes_free());
        drop(state);
        Ok(Scratch { pool: Arc::clone(&self.shared), region })
    }

    /// Bytes of the whole pool.
    pub fn capacity(&self) -> usize {
        self.shared.arena.bytes()
    }

    /// Bytes in no segment and no scratch: one relaxed load.
    pub fn free_bytes(&self) -> usize {
        self.shared.table.free()
    }

    /// The pool's state now.
    #[cfg(feature = "internals")]
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.lock();
        PoolStats {
            capacity: self.capacity(),
            free: state.lists.bytes_free(),
            pledged: state.waiters.pledged(),
            scratch: state.scratch_bytes,
            waiting: state.waiters.waiting(),
            blocks_free: state.lists.blocks_free(),
            takes_refused: state.takes_refused,
        }
    }

    /// For tests: every byte came back and all of it merged again.
    ///
    /// # Panics
    /// If not.
    #[cfg(feature = "internals")]
    pub fn assert_all_free(&self) {
        let stats = self.stats();
        assert_eq!(stats.free, stats.capacity, "bytes are still taken");
        assert_eq!(stats.blocks_free, [0, 0, stats.capacity / CHUNK_BYTES], "blocks not merged");
        assert_eq!((stats.pledged, stats.waiting), (0, 0), "someone still waits");
        assert_eq!(stats.scratch, 0, "scratches are still out");
    }
}

impl std::fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferPool")
            .field("capacity", &self.capacity())
            .field("free", &self.free_bytes())
            .finish_non_exhaustive()
    }
}

/// Who takes memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    Anyone,
    /// One who holds a lock, so that nobody may be woken.
    Quiet,
    /// The one whose wait in this slot is over.
    Ticket(u32),
}

impl Taker {
    fn ticket(self) -> Option<u32> {
        match self {
            Taker::Ticket(slot) => Some(slot),
            Taker::Anyone | Taker::Quiet => None,
        }
    }
}

impl PoolShared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody's code but the pool's own runs under this mutex. If one of its assertions fails
        // there, the page map still rules out a page with two owners, and those who hold segments
        // must be able to return them.
        crate::locking::ignore_poison(self.state.lock())
    }

    #[inline]
    pub(super) fn take(
        &self,
        account: AccountId,
        bytes_min: usize,
        preferred: Class,
        taker: Taker,
    ) -> Option<Region> {
        assert!(bytes_min <= preferred.bytes(), "the preferred class must do");
        let mut state = self.lock();
        let room = state.room(&self.table, account, taker.ticket());
        let mut class = preferred;
        loop {
            if class.bytes() <= room
                && let Some(region) = state.lists.take(class)
            {
                self.taken(state, account, class.bytes(), taker);
                return Some(region);
            }
            match class.smaller() {
                Some(smaller) if smaller.bytes() >= bytes_min => class = smaller,
                _ => break,
            }
        }
        self.refused(state, account, class.bytes(), taker);
        None
    }

    pub(super) fn take_bytes(
        this: &Arc<PoolShared>,
        account: AccountId,
        bytes: usize,
        taker: Taker,
        out: &mut Vec<Segment>,
    ) -> bool {
        let bytes = page_ceil(bytes);
        let mut state = this.lock();
        if bytes > state.room(&this.table, account, taker.ticket()) {
            this.refused(state, account, bytes, taker);
            return false;
        }
        // Whole chunks and at most 3 + 3 for the rest, unless the pool is fragmented.
        out.reserve(bytes / CHUNK_BYTES + 6);
        let mut pages = (bytes / PAGE_BYTES) as u32;
        while pages > 0 {
            let mut class = Class::within(pages);
            let region = loop {
                match state.lists.take(class) {
                    Some(region) => break region,
                    None => {
                        class = class.smaller().expect("free bytes have at least single pages");
                    }
                }
            };
            pages -= region.pages();
            out.push(Segment { pool: Arc::clone(this), region, account });
        }
        this.taken(state, account, bytes, taker);
        true
    }

    /// Books a take.
    #[inline]
    fn taken(
        &self,
        mut state: MutexGuard<'_, State>,
        account: AccountId,
        bytes: usize,
        taker: Taker,
    ) {
        self.table.set_free(state.lists.bytes_free());
        if let Some(slot) = taker.ticket() {
            state.waiters.spend(slot, bytes);
        }
        if state.ledger.charge(&self.table, account, bytes) {
            self.blocked(state, account, taker);
        }
    }

    /// Books a take that found no room.
    #[cold]
    fn refused(
        &self,
        mut state: MutexGuard<'_, State>,
        account: AccountId,
        bytes: usize,
        taker: Taker,
    ) {
        state.takes_refused += 1;
        let over_cap =
            bytes > state.ledger.cap(account).saturating_sub(self.table.charged(account));
        if over_cap && state.ledger.block(&self.table, account) {
            self.blocked(state, account, taker);
        }
    }

    /// An account stopped being writable: what its waiters pledged goes to those behind them.
    #[cold]
    fn blocked(&self, mut state: MutexGuard<'_, State>, account: AccountId, taker: Taker) {
        state.waiters.set_writable(account, false);
        if taker != Taker::Quiet {
            self.admit(state);
        }
    }

    /// Returns memory and charge, and admits whoever can be.
    #[inline]
    pub(super) fn release(&self, region: Region, account: AccountId) {
        let mut state = self.lock();
        state.release(&self.table, region, account);
        self.settle(state);
    }

    /// Moves the charge for `bytes` from one account to another, whatever the other's cap.
    pub(super) fn recharge(&self, bytes: usize, from: AccountId, to: AccountId) {
        let mut state = self.lock();
        let State { ledger, waiters, .. } = &mut *state;
        ledger.discharge(&self.table, from, bytes);
        ledger.retire(&self.table, from, waiters.tickets(from));
        if ledger.charge(&self.table, to, bytes) {
            waiters.set_writable(to, false);
        }
        self.settle(state);
    }

    pub(super) fn release_scratch(&self, region: Region) {
        let mut state = self.lock();
        state.scratch_bytes -= region.bytes();
        state.lists.release(region);
        self.settle(state);
    }

    /// After any release: publishes the free bytes, makes accounts writable, admits waiters.
    #[inline]
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let State { lists, ledger, waiters, .. } = &mut *state;
        self.table.set_free(lists.bytes_free());
        if ledger.any_unwritable() {
            ledger.reopen(&self.table, |account| waiters.set_writable(account, true));
        }
        if waiters.any_eligible() {
            self.admit(state);
        }
    }

    /// Admits from the front whoever can be, and wakes them without the lock.
    #[cold]
    pub(super) fn admit<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        loop {
            let mut wakes = Wakes::default();
            let State { lists, waiters, .. } = &mut *state;
            let more = waiters.admit(lists.bytes_free(), &mut wakes);
            self.table.set_waiting(waiters.waiting());
            drop(state);
            wakes.wake();
            if !more {
                return;
            }
            state = self.lock();
        }
    }
}

impl State {
    /// Bytes that may be taken for an account, by a ticket or by one who does not wait.
    #[inline]
    fn room(&self, table: &AccountTable, account: AccountId, ticket: Option<u32>) -> usize {
        let (free, pledged) = (self.lists.bytes_free(), self.waiters.pledged());
        let of_pool = match ticket {
            None => free.saturating_sub(pledged),
            Some(slot) => match self.waiters.kept(slot) {
                Some(kept) => free.saturating_sub(pledged - kept).max(kept),
                None => 0,
            },
        };
        of_pool.min(self.ledger.cap(account).saturating_sub(table.charged(account)))
    }

    #[inline]
    fn release(&mut self, table: &AccountTable, region: Region, account: AccountId) {
        let bytes = region.bytes();
        self.lists.release(region);
        self.ledger.discharge(table, account, bytes);
        self.ledger.retire(table, account, self.waiters.tickets(account));
    }
}
