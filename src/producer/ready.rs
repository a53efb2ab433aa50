//! Waiting until a topic takes records, without a record at hand.

use std::future::poll_fn;
use std::task::Poll;

use super::admission::TaskTicket;
use super::topic::Topic;
use crate::engine::batch::TopicState;
use crate::engine::buffer::AccountId;
use crate::engine::protocol::PartitionId;
use crate::error::{SendError, SendErrorKind};

/// Room that a waiting task stands in line for: the smallest segment. A record may need more, and
/// then waits for that.
const ROOM: usize = 4 * 1_024;

impl Topic {
    /// Resolves when the topic takes a record: some partition's broker is below its watermark and
    /// there is buffer memory; or, while the topic is not known, there is room in the stash. For a
    /// task that fetches its next record only when it can be sent.
    ///
    /// It waits in the line of [`Topic::send_async`] and of parked threads, first in, first out, at
    /// all brokers of the topic at once: one that stands still does not hold it up. It reserves
    /// nothing once it has resolved, so that another sender may be quicker: follow it with
    /// `send_async`, or with [`Topic::try_send`] and what to do if that is refused. The backoff
    /// strategy is not asked. A future that is dropped leaves its place to the next; one that was
    /// polled has to be polled on, or dropped: room is kept for it when its turn comes.
    ///
    /// ```no_run
    /// # async fn forward(topic: &tidegate::Topic, next: impl AsyncFn() -> Option<Vec<u8>>)
    /// # -> Result<(), tidegate::SendError> {
    /// loop {
    ///     topic.ready().await?;
    ///     let Some(value) = next().await else { return Ok(()) };
    ///     drop(topic.send_async((), value).await?);
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SendErrorKind::Closed`] and [`SendErrorKind::Forked`]; [`SendErrorKind::TooManyLanes`]
    /// where the producer has none of the topic's partitions, and may have no more.
    pub async fn ready(&self) -> Result<(), SendError> {
        self.await_room().await.map_err(|kind| SendError::new(self.lanes.name.clone(), kind))
    }

    async fn await_room(&self) -> Result<(), SendErrorKind> {
        let accumulator = &self.shared.accumulator;
        let pool = &accumulator.pool;
        loop {
            if !self.shared.born.is_current() {
                return Err(SendErrorKind::Forked);
            }
            if accumulator.is_closed() {
                return Err(SendErrorKind::Closed);
            }
            // Nobody stands in line, so nobody is passed over.
            if !pool.has_waiters() && self.is_writable() && pool.free_bytes() >= ROOM {
                return Ok(());
            }
            let accounts = self.accounts();
            if accounts.is_empty() {
                // The producer has as many partitions as it may, and none of this topic.
                return Err(self.no_lane(PartitionId(0)));
            }
            let mut tickets = Vec::new();
            // Where only memory is short it is so for all accounts: one place in the line will do.
            let mut stands_for_memory = false;
            for account in accounts {
                let for_level = !pool.is_writable(account);
                if for_level || !std::mem::replace(&mut stands_for_memory, true) {
                    // Smaller than any record that a producer must take: it always fits.
                    let ticket = pool.wait(account, if for_level { 0 } else { ROOM });
                    let ticket = ticket.ok().map(TaskTicket::new);
                    tickets.extend(ticket.map(|it| (account, for_level, it)));
                }
            }
            // Registered first, then tested: close() wakes whoever it finds, and a leader that was
            // found meanwhile has left the account.
            if accumulator.is_closed() {
                return Err(SendErrorKind::Closed);
            }
            self.shared.ports.ring_all();
            let (account, for_level) = poll_fn(|context| {
                let ready = tickets.iter_mut().find_map(|(account, for_level, ticket)| {
                    ticket.poll(context).is_ready().then_some((*account, *for_level))
                });
                ready.map_or(Poll::Pending, Poll::Ready)
            })
            .await;
            drop(tickets);
            // A ticket ends as well when what it stands for has gone to another account, and in a
            // fork's child.
            let is_current = self.shared.born.is_current();
            // The level is low again, and memory may be short: then the next turn stands for that.
            let has_memory = !for_level || pool.free_bytes() >= ROOM;
            if is_current && has_memory && !accumulator.is_closed() && self.may_take(account) {
                return Ok(());
            }
        }
    }

    /// Whether records of this topic are charged to this account, and it takes some.
    fn may_take(&self, account: AccountId) -> bool {
        let pool = &self.shared.accumulator.pool;
        self.accounts().contains(&account) && pool.is_writable(account)
    }

    /// What records of this topic may be charged to, each once.
    fn accounts(&self) -> Vec<AccountId> {
        if self.lanes.state() != TopicState::Ready {
            return vec![AccountId::STASH];
        }
        let mut accounts = Vec::new();
        for lane in self.lanes.lanes() {
            if !accounts.contains(&lane.account()) {
                accounts.push(lane.account());
            }
        }
        accounts
    }
}
