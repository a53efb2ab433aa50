//! How other threads reach the metadata loop.

use std::sync::Arc;

use super::loop_mailbox::PollWaker;
use super::socket::SocketNews;
use crate::config::NewTopic;
use crate::engine::cluster::{LeaderHint, Want};
use crate::engine::connection::LoginAnswer;
use crate::engine::protocol::ProducerIdentity;
use crate::engine::sync::Mailbox;
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
    /// Once the loop has ended, what somebody waits for is dropped, which tells them.
    pub(super) messages: Mailbox<Message>,
}

impl MetadataMailbox {
    /// An empty one, of the loop that `waker` wakes.
    pub(super) fn new(waker: Arc<PollWaker>) -> Arc<Self> {
        Arc::new(MetadataMailbox { messages: Mailbox::new(Arc::default(), waker) })
    }

    pub(super) fn send(&self, message: Message) {
        self.messages.send(message);
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
