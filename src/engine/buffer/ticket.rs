//! A place in the line for room.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::account::AccountId;
use super::free_list::Class;
use super::pool::{PoolShared, State, Taker};
use super::segment::Segment;

/// A place in the line for room in a pool; see [`BufferPool::wait`](super::BufferPool::wait).
///
/// Once ready, its bytes are kept for it until it takes them or is dropped, which passes what is
/// left to the next in line. So a ticket is dropped at every end of a wait: woken, timed out or
/// cancelled.
pub struct WaitTicket {
    pub(super) pool: Arc<PoolShared>,
    pub(super) slot: u32,
    pub(super) account: AccountId,
}

impl WaitTicket {
    /// What is waited for is charged to it.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Whether the wait is over.
    pub fn is_ready(&self) -> bool {
        self.pool.lock().waiters.is_admitted(self.slot)
    }

    /// Ready when the wait is over; else the task's waker (the last one polled with) is called when
    /// it is. Threads pass a waker that unparks them, and mind their own deadline.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned, and the replaced one dropped, without the lock: both are the executor's code.
        let waker = cx.waker().clone();
        let mut state = self.pool.lock();
        let (replaced, poll) = if state.waiters.is_admitted(self.slot) {
            (Some(waker), Poll::Ready(()))
        } else {
            (state.waiters.set_waker(self.slot, waker), Poll::Pending)
        };
        drop(state);
        drop(replaced);
        poll
    }

    /// As [`BufferPool::take`](super::BufferPool::take), of the bytes kept for this ticket and of
    /// what is free to all. Nothing before it is ready. (What is kept may be in pieces:
    /// `take_bytes` always gets it.)
    pub fn take(&mut self, bytes_min: usize, preferred: Class) -> Option<Segment> {
        let region =
            self.pool.take(self.account, bytes_min, preferred, Taker::Ticket(self.slot))?;
        Some(Segment { pool: Arc::clone(&self.pool), region, account: self.account })
    }

    /// As [`BufferPool::take_bytes`](super::BufferPool::take_bytes), of the bytes kept for this
    /// ticket and of what is free to all. Nothing before it is ready.
    pub fn take_bytes(&mut self, bytes: usize, out: &mut Vec<Segment>) -> bool {
        PoolShared::take_bytes(&self.pool, self.account, bytes, Taker::Ticket(self.slot), out)
    }
}

impl Drop for WaitTicket {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let State { ledger, waiters, .. } = &mut *state;
        let waker = waiters.unregister(self.slot);
        ledger.retire(&self.pool.table, self.account, waiters.tickets(self.account));
        self.pool.admit(state);
        drop(waker);
    }
}

impl std::fmt::Debug for WaitTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WaitTicket")
            .field("account", &self.account)
            .field("ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}
