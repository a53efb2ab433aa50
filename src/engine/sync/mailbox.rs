//! Messages from any thread to a loop that sleeps while there are none, and ends some day.

use std::sync::Arc;

use super::Doorbell;
use super::loom::{AtomicBool, Ordering, SegQueue, fence};

/// Wakes a loop's thread.
pub trait WakeLoop: Send + Sync {
    /// Ends the thread's sleep; if it does not sleep, its next sleep ends at once.
    fn wake(&self);
}

/// Messages for one loop, from any number of threads. The queue has no bound, and allocates: it is
/// for what is rare.
///
/// The loop pops messages until there is none. How it sleeps says [`Doorbell`]: a loop looks, after
/// [`prepare_to_sleep`](Self::prepare_to_sleep), into all of its mailboxes and whatever else it
/// serves. It may have several mailboxes, with one doorbell: see [`beside`](Self::beside).
///
/// A loop that ends calls [`end`](Self::end). A message that comes later, or at the same time, is
/// dropped, by its sender or by the loop: whoever waits for what is in it learns so from its drop.
pub struct Mailbox<T> {
    messages: SegQueue<T>,
    ended: AtomicBool,
    bell: Arc<Doorbell>,
    waker: Arc<dyn WakeLoop>,
}

impl<T> Mailbox<T> {
    /// An empty one, of the loop that `bell` and `waker` belong to.
    pub fn new(bell: Arc<Doorbell>, waker: Arc<dyn WakeLoop>) -> Self {
        Mailbox { messages: SegQueue::new(), ended: AtomicBool::new(false), bell, waker }
    }

    /// Another one of the same loop, empty. Each ends for itself.
    pub fn beside<U>(&self) -> Mailbox<U> {
        Mailbox::new(self.bell.clone(), self.waker.clone())
    }

    /// Adds a message, and wakes the loop if it sleeps. Drops the message once the loop has ended.
    pub fn send(&self, message: T) {
        self.messages.push(message);
        // With the fence in `end`: either this sees the flag, or `end` sees the message. Without
        // them both could miss the other, and the message would never be dropped.
        fence(Ordering::SeqCst);
        if self.has_ended() {
            self.discard();
        } else {
            self.ring();
        }
    }

    /// Wakes the loop if it sleeps, because of something that is in no mailbox. The caller has put
    /// it where the loop looks before it sleeps.
    #[inline]
    pub fn ring(&self) {
        if self.bell.ring() {
            self.waker.wake();
        }
    }

    /// By the loop: the oldest message.
    pub fn pop(&self) -> Option<T> {
        self.messages.pop()
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// By the loop: it is about to sleep, and looks into all that it serves after this call.
    pub fn prepare_to_sleep(&self) {
        self.bell.prepare_to_sleep();
    }

    /// By the loop: it is up again, woken or not.
    pub fn awake(&self) {
        self.bell.awake();
    }

    /// By the loop, or in place of one that panicked: it takes no more messages. Drops those that
    /// were sent; those that are still to come are dropped by their senders.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        // See `send`.
        fence(Ordering::SeqCst);
        self.discard();
    }

    /// Whether the loop takes no more messages.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn discard(&self) {
        while self.messages.pop().is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it was called.
    #[derive(Default)]
    struct CountingWaker(AtomicUsize);

    impl WakeLoop for CountingWaker {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn mailbox<T>() -> (Mailbox<T>, Arc<CountingWaker>) {
        let waker = Arc::new(CountingWaker::default());
        (Mailbox::new(Arc::default(), waker.clone()), waker)
    }

    #[test]
    fn messages_come_out_in_the_order_of_their_sending() {
        let (mailbox, _) = mailbox();
        assert!(mailbox.is_empty());
        (0..3).for_each(|message| mailbox.send(message));
        assert!(!mailbox.is_empty());
        let popped: Vec<_> = std::iter::from_fn(|| mailbox.pop()).collect();
        assert_eq!(popped, [0, 1, 2]);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn the_first_of_several_mailboxes_that_gets_something_wakes_the_loop() {
        let (own, waker) = mailbox();
        let other = own.beside();
        let wakes = || waker.0.load(Ordering::Relaxed);
        own.send(1);
        assert_eq!(wakes(), 0, "it does not sleep");
        let actions: [&dyn Fn(); 3] = [&|| own.send(2), &|| other.send("three"), &|| other.ring()];
        for (index, act) in actions.iter().enumerate() {
            own.prepare_to_sleep();
            act();
            assert_eq!(wakes(), index + 1);
            act();
            assert_eq!(wakes(), index + 1, "it was woken already");
        }
        own.prepare_to_sleep();
        own.awake();
        other.send("four");
        assert_eq!(wakes(), 3, "it is up by itself");
    }

    #[test]
    fn what_is_sent_before_and_after_the_end_is_dropped_once() {
        let (mailbox, waker) = mailbox();
        let other = mailbox.beside();
        let (before, after) = (Arc::new(()), Arc::new(()));
        mailbox.send(before.clone());
        assert_eq!(Arc::strong_count(&before), 2);
        mailbox.end();
        assert!(mailbox.has_ended());
        mailbox.prepare_to_sleep();
        mailbox.send(after.clone());
        assert_eq!([before, after].each_ref().map(Arc::strong_count), [1; 2]);
        assert!(mailbox.pop().is_none());
        assert_eq!(waker.0.load(Ordering::Relaxed), 0, "nobody is there to be woken");
        // The loop goes on for its other mailboxes.
        assert!(!other.has_ended());
        other.send(());
        assert_eq!(waker.0.load(Ordering::Relaxed), 1);
        assert_eq!(other.pop(), Some(()));
    }
}
