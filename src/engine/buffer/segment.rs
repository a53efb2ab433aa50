//! What a pool hands out to encode into.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::account::AccountId;
use super::arena::Region;
use super::free_list::Class;
use super::pool::PoolShared;

/// A piece of the pool that one holder owns: 4, 16 or 64 KiB.
///
/// Dereferences to all of its bytes. Fresh from the system they are zero, recycled they hold what
/// the last owner wrote: nobody may read beyond what was written since the take.
///
/// Dropping it returns the memory, takes the charge back from the account it was taken for, and may
/// call the wakers of waiters that are admitted by it: so drop no segment with a lock held that a
/// waker could want. It keeps the mapping alive.
pub struct Segment {
    pub(super) pool: Arc<PoolShared>,
    /// Empty once it was released in advance of the drop.
    pub(super) region: Region,
    pub(super) account: AccountId,
}

/// Batches hold a list of these.
const _: () = assert!(size_of::<Segment>() <= 24 && size_of::<Option<Segment>>() <= 24);

impl Segment {
    /// Its size class.
    #[inline]
    pub fn class(&self) -> Class {
        Class::within(self.region.pages())
    }

    /// The account it is charged to, whatever became of its lane since.
    #[inline]
    #[cfg(feature = "internals")]
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Charges it to another account. May call wakers, as dropping it may.
    pub fn charge_to(&mut self, account: AccountId) {
        if account != self.account && self.region.pages() > 0 {
            self.pool.recharge(self.region.bytes(), self.account, account);
            self.account = account;
        }
    }

    /// Keeps the smallest class that holds the first `bytes` bytes, and returns the rest of the
    /// memory and of its charge. (5 KiB used of 64: keeps 16.) Does nothing if there is no smaller
    /// such class.
    pub fn truncate_to(&mut self, bytes: usize) {
        let Some(class) = Class::for_bytes(bytes) else { return };
        if class < self.class() {
            let surplus = self.region.split_off(class.pages());
            self.pool.release(surplus, self.account);
        }
    }
}

impl Deref for Segment {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.pool.arena.slice(&self.region)
    }
}

impl DerefMut for Segment {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pool.arena.slice_mut(&mut self.region)
    }
}

impl Drop for Segment {
    #[inline]
    fn drop(&mut self) {
        if self.region.pages() > 0 {
            self.pool.release(self.region.take(), self.account);
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("bytes", &self.region.bytes())
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}
