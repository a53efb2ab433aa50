//! How other threads reach the metadata loop.

use std::sync::Arc;

use crossbeam_queue::SegQueue;

use super::loop_mailbox::PollWaker;
use super::socket::SocketNews;
use crate::engine::cluster::{LeaderHint, Want};
use crate::engine::connection::LoginAnswer;
use crate::engine::protocol::ProducerIdentity;
use crate::engine::shard::WakeLoop;
use crate::engine::sync::Doorbell;

/// What the metadata loop is told.
pub(super) enum Message {
    Wanted(Arc<str>, Want),
    Refresh,
    Hint(LeaderHint),
    NewIdentity(ProducerIdentity),
    /// A broker says that it can give a producer id, which no broker could.
    AskIdentity,
    /// Records failed and nobody looked: the log is to tell.
    Unread,
    Socket {
        /// Which attempt to connect.
        attempt: u64,
        news: SocketNews,
    },
    Login {
        attempt: u64,
        answer: LoginAnswer,
    },
    Stop,
}

/// How other threads reach the metadata loop.
pub struct MetadataMailbox {
    pub(super) messages: SegQueue<Message>,
    pub(super) bell: Doorbell,
    pub(super) waker: PollWaker,
}

impl MetadataMailbox {
    /// An empty one, of the loop that `waker` wakes.
    pub(super) fn new(waker: PollWaker) -> Arc<Self> {
        Arc::new(MetadataMailbox { messages: SegQueue::new(), bell: Doorbell::new(), waker })
    }

    pub(super) fn send(&self, message: Message) {
        self.messages.push(message);
        if self.bell.ring() {
            self.waker.wake();
        }
    }

    /// This topic is to be asked about, because of `why`.
    pub(crate) fn want(&self, topic: Arc<str>, why: Want) {
        self.send(Message::Wanted(topic, why));
    }

    pub(super) fn tell_unread(&self) {
        self.send(Message::Unread);
    }

    pub(super) fn refresh(&self) {
        self.send(Message::Refresh);
    }

    pub(super) fn hint(&self, hint: LeaderHint) {
        self.send(Message::Hint(hint));
    }

    pub(super) fn new_identity(&self, used_up: ProducerIdentity) {
        self.send(Message::NewIdentity(used_up));
    }

    pub(super) fn ask_identity(&self) {
        self.send(Message::AskIdentity);
    }
}
