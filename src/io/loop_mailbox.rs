//! How other threads reach an event loop.

use std::sync::RwLock;

use mio::Poll;

use super::seat::Seat;
use super::socket::SocketNews;
use crate::engine::connection::LoginAnswer;
use crate::engine::shard::Token;
use crate::engine::sync::{Mailbox, WakeLoop};
use crate::locking::ignore_poison;
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

/// An event loop's own mailbox. Its shards' are beside it.
pub(super) type LoopMailbox = Mailbox<LoopMessage>;

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
        *ignore_poison(self.0.write()) = None;
    }
}

impl WakeLoop for PollWaker {
    fn wake(&self) {
        if let Some(waker) = &*ignore_poison(self.0.read())
            && let Err(error) = waker.wake()
        {
            log::error!("an event loop could not be woken: {error}");
        }
    }
}
