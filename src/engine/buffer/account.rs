//! Who holds how much, and the levels above which a holder is asked to wait.
//!
//! [`AccountTable`] is what any thread reads without a lock; it is written only under the pool's
//! mutex, together with the [`Ledger`] behind it, so relaxed atomics are enough: a reader that must
//! be certain registers as a waiter, which takes the mutex and tests again.

use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

use super::loom::{AtomicBool, AtomicU64, AtomicUsize, Relaxed};
use super::options::{BufferPoolOptions, PoolError};

/// One account of a pool: a broker's, or one of the fixed two. Ids are used again once an account
/// was closed and nothing is charged to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(u16);

impl AccountId {
    /// Bytes of lanes that have no leader. Always open.
    pub const LEADERLESS: AccountId = AccountId(0);
    /// Bytes of records whose topic is not known yet, up to a limit that [`AccountKind::Stash`]
    /// tells. Always open.
    pub const STASH: AccountId = AccountId(1);

    #[inline]
    /// The id as a number, for an atomic to hold.
    pub fn to_raw(self) -> u16 {
        self.0
    }

    /// The id that [`AccountId::to_raw`] gave.
    pub fn from_raw(raw: u16) -> AccountId {
        AccountId(raw)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What an account is for, which decides its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// One broker's lanes. How many of these are open decides the default high watermark.
    Broker,
    /// Lanes without a leader, of one producer. Levels as a broker's.
    Leaderless,
    /// Records of unknown topics, of one producer. Takes are refused beyond a quarter of the pool,
    /// or beyond `stash_bytes_min` where that is more. Segments that are recharged to it (lanes
    /// whose leader denies the topic) count, and may bring it above the limit.
    Stash,
}

/// An account's state at one moment. Sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Bytes of segments taken for the account and not returned.
    pub charged: usize,
    /// The account stops being writable when `charged` is above this.
    pub high: usize,
    /// It is writable again when `charged` is below this, or 0.
    pub low: usize,
    /// Whether senders are admitted.
    pub writable: bool,
    /// How many times it stopped being writable since it was opened.
    pub times_unwritable: u64,
    /// How many times it became writable again.
    pub times_writable: u64,
    /// Records that senders dropped because it was not writable, since it was opened.
    pub dropped_records: u64,
}

/// Marks a level that follows the pool's free bytes.
const DYNAMIC: usize = usize::MAX;

struct Account {
    writable: AtomicBool,
    /// The broker has not taken a ready batch for too long.
    stalled: AtomicBool,
    charged: AtomicUsize,
    high_fixed: AtomicUsize,
    low_fixed: AtomicUsize,
    times_unwritable: AtomicU64,
    times_writable: AtomicU64,
    dropped_records: AtomicU64,
}

/// The lock-free face of the accounts.
pub(super) struct AccountTable {
    accounts: Box<[CachePadded<Account>]>,
    /// Written at every take and release, so apart from the rest.
    gauges: CachePadded<Gauges>,
    observer: OnceLock<LevelObserver>,
}

/// Hears that an account stopped being writable (`false`) or is writable again, with the bytes
/// charged to it and its high watermark.
pub type LevelObserver = Box<dyn Fn(AccountId, bool, (usize, usize)) + Send + Sync>;

struct Gauges {
    free: AtomicUsize,
    /// Default high watermark as a multiple of the free bytes.
    factor: AtomicUsize,
    /// Waiters not yet admitted.
    waiting: AtomicUsize,
}

impl AccountTable {
    #[inline]
    pub(super) fn is_writable(&self, id: AccountId) -> bool {
        self.accounts[id.index()].writable.load(Relaxed)
    }

    #[inline]
    pub(super) fn is_stalled(&self, id: AccountId) -> bool {
        self.accounts[id.index()].stalled.load(Relaxed)
    }

    pub(super) fn set_stalled(&self, id: AccountId, stalled: bool) {
        self.accounts[id.index()].stalled.store(stalled, Relaxed);
    }

    /// What is charged, in thousandths of the high watermark; 1,000 at it and above.
    pub(super) fn load(&self, id: AccountId) -> u32 {
        let (charged, high) = (self.charged(id), self.high(id));
        if charged >= high {
            return if charged == 0 { 0 } else { 1_000 };
        }
        // Charged bytes are less than 2^44, so the product fits.
        (charged * 1_000 / high) as u32
    }

    #[inline]
    pub(super) fn has_waiters(&self) -> bool {
        self.gauges.waiting.load(Relaxed) > 0
    }

    #[inline]
    pub(super) fn free(&self) -> usize {
        self.gauges.free.load(Relaxed)
    }

    #[inline]
    pub(super) fn charged(&self, id: AccountId) -> usize {
        self.accounts[id.index()].charged.load(Relaxed)
    }

    #[inline]
    pub(super) fn under_pressure(&self, id: AccountId) -> bool {
        self.has_waiters() || self.charged(id) > self.high(id) / 4 * 3
    }

    #[inline]
    fn high(&self, id: AccountId) -> usize {
        match self.accounts[id.index()].high_fixed.load(Relaxed) {
            DYNAMIC => self.free().saturating_mul(self.gauges.factor.load(Relaxed)),
            fixed => fixed,
        }
    }

    #[inline]
    fn low(&self, id: AccountId, high: usize) -> usize {
        match self.accounts[id.index()].low_fixed.load(Relaxed) {
            DYNAMIC => high / 2,
            // A dynamic high can sink below a fixed low, which must not undo the hysteresis.
            fixed => fixed.min(high),
        }
    }

    /// Consistent when the pool's mutex is held.
    pub(super) fn levels(&self, id: AccountId) -> Levels {
        let account = &self.accounts[id.index()];
        let high = self.high(id);
        Levels {
            charged: self.charged(id),
            high,
            low: self.low(id, high),
            writable: self.is_writable(id),
            times_unwritable: account.times_unwritable.load(Relaxed),
            times_writable: account.times_writable.load(Relaxed),
            dropped_records: account.dropped_records.load(Relaxed),
        }
    }

    pub(super) fn count_dropped(&self, id: AccountId, records: u64) {
        self.accounts[id.index()].dropped_records.fetch_add(records, Relaxed);
    }

    pub(super) fn set_observer(&self, observer: LevelObserver) {
        let _ = self.observer.set(observer);
    }

    pub(super) fn set_free(&self, bytes: usize) {
        self.gauges.free.store(bytes, Relaxed);
    }

    /// As it was set last.
    pub(super) fn waiting(&self) -> usize {
        self.gauges.waiting.load(Relaxed)
    }

    pub(super) fn set_waiting(&self, waiters: usize) {
        self.gauges.waiting.store(waiters, Relaxed);
    }

    fn set_writable(&self, id: AccountId, writable: bool) {
        let account = &self.accounts[id.index()];
        account.writable.store(writable, Relaxed);
        let times = if writable { &account.times_writable } else { &account.times_unwritable };
        times.fetch_add(1, Relaxed);
        if let Some(observer) = self.observer.get() {
            observer(id, writable, (self.charged(id), self.high(id)));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Vacant,
    Open,
    /// Closed, with bytes still charged or tickets alive. Always writable: nobody waits for a
    /// broker that is gone.
    Closing,
}

#[derive(Clone, Copy)]
struct Entry {
    stage: Stage,
    kind: AccountKind,
    /// The most it may ever hold.
    cap: usize,
}

/// The locked side of the accounts.
pub(super) struct Ledger {
    entries: Box<[Entry]>,
    /// Accounts that are not writable, in no order; room for all of them.
    unwritable: Vec<AccountId>,
    /// Ids to give out, the lowest last.
    vacant: Vec<AccountId>,
    brokers: usize,
    closing: usize,
    stash_cap: usize,
    high_fixed: usize,
    low_fixed: usize,
}

impl Ledger {
    /// The table and the ledger of a pool of `capacity` bytes, with the two fixed accounts open.
    pub(super) fn new(
        options: &BufferPoolOptions,
        capacity: usize,
    ) -> Result<(AccountTable, Ledger), PoolError> {
        let accounts_max = options.accounts_max;
        let (Ok(ids), 3..) = (u16::try_from(accounts_max), accounts_max) else {
            return Err(PoolError::AccountsMax { accounts_max });
        };
        if let (Some(low), Some(high)) = (options.low, options.high)
            && low > high
        {
            return Err(PoolError::LevelsCrossed { low, high });
        }
        let account = || {
            CachePadded::new(Account {
                writable: AtomicBool::new(true),
                stalled: AtomicBool::new(false),
                charged: AtomicUsize::new(0),
                high_fixed: AtomicUsize::new(DYNAMIC),
                low_fixed: AtomicUsize::new(DYNAMIC),
                times_unwritable: AtomicU64::new(0),
                times_writable: AtomicU64::new(0),
                dropped_records: AtomicU64::new(0),
            })
        };
        let table = AccountTable {
            accounts: (0..ids).map(|_| account()).collect(),
            observer: OnceLock::new(),
            gauges: CachePadded::new(Gauges {
                free: AtomicUsize::new(capacity),
                factor: AtomicUsize::new(8),
                waiting: AtomicUsize::new(0),
            }),
        };
        let entry = Entry { stage: Stage::Vacant, kind: AccountKind::Broker, cap: usize::MAX };
        let mut ledger = Ledger {
            entries: vec![entry; accounts_max].into_boxed_slice(),
            unwritable: Vec::with_capacity(accounts_max),
            vacant: (0..ids).rev().map(AccountId).collect(),
            brokers: 0,
            closing: 0,
            stash_cap: (capacity / 4).max(options.stash_bytes_min).min(capacity),
            high_fixed: options.high.unwrap_or(DYNAMIC),
            low_fixed: options.low.unwrap_or(DYNAMIC),
        };
        let leaderless = ledger.open(&table, AccountKind::Leaderless)?;
        let stash = ledger.open(&table, AccountKind::Stash)?;
        debug_assert_eq!((leaderless, stash), (AccountId::LEADERLESS, AccountId::STASH));
        Ok((table, ledger))
    }

    pub(super) fn open(
        &mut self,
        table: &AccountTable,
        kind: AccountKind,
    ) -> Result<AccountId, PoolError> {
        let accounts_max = self.entries.len();
        let id = self.vacant.pop().ok_or(PoolError::NoAccountLeft { accounts_max })?;
        let stash = kind == AccountKind::Stash;
        let cap = if stash { self.stash_cap } else { usize::MAX };
        self.entries[id.index()] = Entry { stage: Stage::Open, kind, cap };
        let account = &table.accounts[id.index()];
        account.high_fixed.store(if stash { cap } else { self.high_fixed }, Relaxed);
        account.low_fixed.store(if stash { DYNAMIC } else { self.low_fixed }, Relaxed);
        account.times_unwritable.store(0, Relaxed);
        account.times_writable.store(0, Relaxed);
        account.dropped_records.store(0, Relaxed);
        account.stalled.store(false, Relaxed);
        if kind == AccountKind::Broker {
            self.brokers += 1;
            self.set_factor(table);
        }
        Ok(id)
    }

    /// Closes an account: it is writable from now on, and vacant after [`retire`](Self::retire).
    /// Returns whether that made it writable.
    pub(super) fn close(&mut self, table: &AccountTable, id: AccountId) -> bool {
        let entry = &mut self.entries[id.index()];
        assert!(
            entry.stage == Stage::Open && id != AccountId::LEADERLESS && id != AccountId::STASH,
            "only an open account that open_account made is closed"
        );
        entry.stage = Stage::Closing;
        self.closing += 1;
        if entry.kind == AccountKind::Broker {
            self.brokers -= 1;
            self.set_factor(table);
        }
        let Some(at) = self.unwritable.iter().position(|&other| other == id) else {
            return false;
        };
        self.unwritable.swap_remove(at);
        table.set_writable(id, true);
        true
    }

    /// Makes a closed account vacant once nothing is charged to it and no ticket names it.
    #[inline]
    pub(super) fn retire(&mut self, table: &AccountTable, id: AccountId, tickets: usize) {
        if self.closing > 0
            && self.entries[id.index()].stage == Stage::Closing
            && table.charged(id) == 0
            && tickets == 0
        {
            self.entries[id.index()].stage = Stage::Vacant;
            self.closing -= 1;
            self.vacant.push(id);
        }
    }

    /// The most an account may hold, whatever is free.
    #[inline]
    pub(super) fn cap(&self, id: AccountId) -> usize {
        self.entries[id.index()].cap
    }

    /// Charges bytes that were just taken (the table's free bytes are already without them).
    /// Returns whether the account stopped being writable.
    #[inline]
    pub(super) fn charge(&mut self, table: &AccountTable, id: AccountId, bytes: usize) -> bool {
        let charged = table.charged(id) + bytes;
        table.accounts[id.index()].charged.store(charged, Relaxed);
        charged > table.high(id) && self.block(table, id)
    }

    /// A take was refused because of the account's cap: senders wait as if it were above its high
    /// watermark. Returns whether it stopped being writable.
    #[cold]
    pub(super) fn block(&mut self, table: &AccountTable, id: AccountId) -> bool {
        let blocks = table.is_writable(id)
            && table.charged(id) > 0
            && self.entries[id.index()].stage == Stage::Open;
        if blocks {
            self.unwritable.push(id);
            table.set_writable(id, false);
        }
        blocks
    }

    /// Takes a charge back.
    #[inline]
    pub(super) fn discharge(&mut self, table: &AccountTable, id: AccountId, bytes: usize) {
        let charged = table.charged(id).checked_sub(bytes);
        let charged = charged.expect("a segment's bytes are charged from its take to its release");
        table.accounts[id.index()].charged.store(charged, Relaxed);
    }

    #[inline]
    pub(super) fn any_unwritable(&self) -> bool {
        !self.unwritable.is_empty()
    }

    /// Makes every account writable that is below its low watermark now, telling each.
    pub(super) fn reopen(&mut self, table: &AccountTable, mut reopened: impl FnMut(AccountId)) {
        self.unwritable.retain(|&id| {
            let charged = table.charged(id);
            let opens = charged == 0 || charged < table.low(id, table.high(id));
            if opens {
                table.set_writable(id, true);
                reopened(id);
            }
            !opens
        });
    }

    fn set_factor(&self, table: &AccountTable) {
        table.gauges.factor.store(if self.brokers <= 1 { 8 } else { 2 }, Relaxed);
    }
}
