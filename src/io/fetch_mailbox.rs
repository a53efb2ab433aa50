//! A consumer's thread from outside: how it is started, told and ended.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mio::Poll;

use super::fetch_calls::FetchCall;
use super::fetch_loop::{FetchLoop, FetchParts};
use super::links::LinkNews;
use super::loop_mailbox::PollWaker;
use super::threads::{OwnThread, Watch};
use crate::config::StartAt;
use crate::engine::fetch::SlotId;
use crate::engine::sync::Mailbox;
use crate::locking::lock;
use crate::logging as log;

/// What a consumer's thread is told.
pub(super) enum Message {
    Link(LinkNews),
    Seek(SlotId, StartAt),
    Pause(SlotId, bool),
    /// The consumer could not read a batch of this partition. The number says how often the
    /// partition had been sought when that was fetched: if it was sought since, it goes on.
    Fail(SlotId, u32),
    /// The application asks for something, within a time.
    Call(FetchCall, Duration),
    /// The consumer has taken something.
    Room,
    Stop,
}

/// A consumer's running thread.
pub struct FetchHandle {
    mailbox: Arc<Mailbox<Message>>,
    thread: Mutex<Option<OwnThread>>,
}

impl FetchHandle {
    /// Starts the thread.
    pub fn start(parts: FetchParts) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(PollWaker::new(&poll)?);
        let mailbox = Arc::new(Mailbox::new(Arc::default(), waker.clone()));
        let queue = parts.queue.clone();
        let mut fetch_loop = FetchLoop::new(parts, poll, mailbox.clone());
        let ended = mailbox.clone();
        let thread = OwnThread::spawn("tidegate-fetch", move || {
            if catch_unwind(AssertUnwindSafe(|| fetch_loop.run())).is_err() {
                log::error!("a consumer's thread panicked: nothing more is read");
            }
            queue.end();
            ended.end();
            waker.close();
        })?;
        Ok(FetchHandle { mailbox, thread: Mutex::new(Some(thread)) })
    }

    /// Reads a partition from elsewhere.
    pub fn seek(&self, slot: SlotId, start: StartAt) {
        self.mailbox.send(Message::Seek(slot, start));
    }

    /// Asks for nothing of a partition, or goes on.
    pub fn set_paused(&self, slot: SlotId, paused: bool) {
        self.mailbox.send(Message::Pause(slot, paused));
    }

    /// The consumer could not read a batch of this partition, which was fetched when the partition
    /// had been sought so often.
    pub fn fail(&self, slot: SlotId, generation: u32) {
        self.mailbox.send(Message::Fail(slot, generation));
    }

    /// Has brokers answer a call, within this time.
    pub fn call(&self, call: FetchCall, timeout: Duration) {
        self.mailbox.send(Message::Call(call, timeout));
    }

    /// There is room in the queue.
    pub fn tell_room(&self) {
        self.mailbox.send(Message::Room);
    }

    /// Ends the thread, and waits for that, unless it is the calling one: a waker that it calls may
    /// own the consumer.
    pub fn stop(&self, watch: &mut Watch) {
        self.mailbox.send(Message::Stop);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            thread.join_in_time(watch);
        }
    }
}
