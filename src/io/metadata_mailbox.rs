//! How other threads reach the metadata loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_queue::SegQueue;

use super::loop_mailbox::PollWaker;
use super::socket::SocketNews;
use crate::config::NewTopic;
use crate::engine::cluster::{LeaderHint, Want};
use crate::engine::connection::LoginAnswer;
use crate::engine::protocol::ProducerIdentity;
use crate::engine::shard::WakeLoop;
use crate::engine::sync::Doorbell;
use crate::error::CreateTopicErrorKind;
use crate::problem::Problem;

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
    /// The application wants a topic, and is told what becomes of it.
    CreateTopic(Arc<str>, Arc<NewTopic>, TellCreation),
    /// What became of a topic that the producer wanted, in this round.
    Created(Arc<str>, u64, Result<(), Problem>),
    /// The application has had a topic created, or found it there.
    TopicThere(Arc<str>),
    /// The topics that the producer wanted in this round are settled.
    CreationOver(u64),
    Stop,
}

/// Tells the application what became of a topic.
pub(super) type TellCreation = Box<dyn Fn(Result<(), CreateTopicErrorKind>) + Send + Sync>;

/// How other threads reach the metadata loop.
pub struct MetadataMailbox {
    pub(super) messages: SegQueue<Message>,
    pub(super) bell: Doorbell,
    pub(super) waker: PollWaker,
    /// The loop takes no more messages.
    is_over: AtomicBool,
}

impl MetadataMailbox {
    /// An empty one, of the loop that `waker` wakes.
    pub(super) fn new(waker: PollWaker) -> Arc<Self> {
        Arc::new(MetadataMailbox {
            messages: SegQueue::new(),
            bell: Doorbell::new(),
            waker,
            is_over: AtomicBool::new(false),
        })
    }

    pub(super) fn send(&self, message: Message) {
        self.messages.push(message);
        if self.bell.ring() {
            self.waker.wake();
        }
        if self.is_over.load(Ordering::SeqCst) {
            self.drop_messages();
        }
    }

    /// The loop has ended. What somebody waits for is dropped, which tells them.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.drop_messages();
    }

    fn drop_messages(&self) {
        while self.messages.pop().is_some() {}
    }

    /// The cluster is to create a topic; `tell` is called, or dropped when the producer ends.
    pub(crate) fn create_topic(
        &self,
        name: Arc<str>,
        topic: Arc<NewTopic>,
        tell: impl Fn(Result<(), CreateTopicErrorKind>) + Send + Sync + 'static,
    ) {
        self.send(Message::CreateTopic(name, topic, Box::new(tell)));
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
