//! How other threads reach an event loop.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_queue::SegQueue;
use mio::Poll;

use super::seat::Seat;
use super::socket::SocketNews;
use crate::engine::connection::LoginAnswer;
use crate::engine::shard::{Token, WakeLoop};
use crate::engine::sync::Doorbell;
use crate::logging as log;

/// The waker's events carry it, and no socket's do.
const WAKE_TOKEN: mio::Token = mio::Token(usize::MAX);

/// Whom a message from another thread is for.
#[derive(Clone, Copy)]
pub(super) struct SocketAddress {
    pub seat: usize,
    /// Which shard had that seat.
    pub serial: u64,
    pub token: Token,
}

/// A message to the thread itself, not to one of its shards.
pub(super) enum LoopMessage {
    /// A new shard. If the message is dropped instead of taken, the shard ends.
    Add(Box<Seat>),
    /// For a socket of a shard's.
    Socket {
        address: SocketAddress,
        news: SocketNews,
    },
    /// For a connection of a shard's.
    Login {
        address: SocketAddress,
        answer: LoginAnswer,
    },
    Stop,
}

/// Wakes a poll. Topics and producers that an application keeps after close still hold it, so the
/// loop takes the descriptor along when it ends.
pub(super) struct PollWaker(RwLock<Option<mio::Waker>>);

impl PollWaker {
    pub(super) fn new(poll: &Poll) -> std::io::Result<Self> {
        let waker = mio::Waker::new(poll.registry(), WAKE_TOKEN)?;
        Ok(PollWaker(RwLock::new(Some(waker))))
    }

    /// The loop has ended: closes the descriptor.
    pub(super) fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl WakeLoop for PollWaker {
    fn wake(&self) {
        if let Some(waker) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && let Err(error) = waker.wake()
        {
            log::error!("an event loop could not be woken: {error}");
        }
    }
}

/// What other threads see of a loop.
pub(super) struct LoopShared {
    pub inbox: SegQueue<LoopMessage>,
    pub bell: Arc<Doorbell>,
    pub waker: Arc<PollWaker>,
    /// The loop has ended and takes no messages any more.
    ended: AtomicBool,
}

impl LoopShared {
    pub(super) fn new(bell: Arc<Doorbell>, waker: Arc<PollWaker>) -> Arc<Self> {
        let (inbox, ended) = (SegQueue::new(), AtomicBool::new(false));
        Arc::new(LoopShared { inbox, bell, waker, ended })
    }

    /// Once the loop has ended the message is dropped, which ends a shard that it holds.
    pub(super) fn send(&self, message: LoopMessage) {
        self.inbox.push(message);
        // Either this sees the flag, or `end` sees the message.
        fence(Ordering::SeqCst);
        if self.has_ended() {
            self.discard();
        } else if self.bell.ring() {
            self.waker.wake();
        }
    }

    /// By the loop, at its end: drops the messages that were sent to it, now and from now on.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.discard();
    }

    fn discard(&self) {
        while self.inbox.pop().is_some() {}
    }

    /// Whether the loop runs no more: it was stopped, or it panicked.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
