//! What a consumer's brokers were asked, and will answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::engine::sync::{Generation, OneShot, wait_until};
use crate::error::{ConsumeError, ConsumeErrorCause};
use crate::io::{Tell, ThreadDeadline, is_own_thread};

/// A call ends on the consumer's thread when its time is over. Where code of the application's
/// holds that thread up, [`ConsumerAnswer::wait`] gives up so much later by itself.
const GRACE: Duration = Duration::from_secs(1);

/// What brokers answer a call of a [`Consumer`](crate::Consumer)'s: a future, for any runtime, that
/// threads can [`wait`](Self::wait) for. The call has begun when this is returned, polled or not,
/// and dropping it takes nothing back.
///
/// It resolves within the call's own time limit; when the consumer is dropped, or its thread ends,
/// it resolves to an error that says so. It borrows nothing of the consumer.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let servers = cluster.bootstrap_servers();
/// # let producer = Producer::builder(&servers).build()?;
/// # producer.topic("orders")?.send("customer-42", "1 hat")?.wait()?;
/// # use std::time::Duration;
/// use tidegate::{Consumer, ConsumerAnswer, StartAt};
///
/// let consumer = Consumer::builder(&servers).topic("orders", StartAt::Earliest).build()?;
/// let within = Duration::from_secs(10);
/// // Both are asked at once.
/// let first: ConsumerAnswer<Option<i64>> =
///     consumer.find_offset("orders", 0, StartAt::Earliest, within);
/// let end = consumer.find_offset("orders", 0, StartAt::Latest, within);
/// assert_eq!((first.wait()?, end.wait()?), (Some(0), Some(1)));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the call begins at once, but only waiting tells its answer"]
pub struct ConsumerAnswer<T> {
    about: About,
    timeout: Duration,
    outcome: Arc<OneShot<Result<T, ConsumeError>>>,
    born: Generation,
}

/// What an error of the call names.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub topic: Arc<str>,
    pub partition: Option<i32>,
}

impl About {
    fn error(&self, cause: ConsumeErrorCause) -> ConsumeError {
        ConsumeError { topic: self.topic.clone(), partition: self.partition, cause }
    }
}

/// Sets the outcome; that the consumer's thread is gone, if it is dropped before.
struct Teller<T: Clone> {
    about: About,
    outcome: Arc<OneShot<Result<T, ConsumeError>>>,
}

impl<T: Clone> Teller<T> {
    fn tell(&self, outcome: Result<T, ConsumeErrorCause>) {
        self.outcome.set(outcome.map_err(|cause| self.about.error(cause)));
    }
}

impl<T: Clone> Drop for Teller<T> {
    fn drop(&mut self) {
        self.tell(Err(ConsumeErrorCause::ThreadPanicked));
    }
}

impl<T: Clone + Send + 'static> ConsumerAnswer<T> {
    /// A call's answer, and what tells it.
    pub(super) fn new(about: About, timeout: Duration) -> (Self, Tell<T>) {
        let outcome = Arc::new(OneShot::default());
        let teller = Teller { about: about.clone(), outcome: outcome.clone() };
        let born = Generation::current();
        let tell = Box::new(move |outcome| teller.tell(outcome));
        (ConsumerAnswer { about, timeout, outcome, born }, tell)
    }

    /// Blocks the calling thread until the answer is there, or the call's time is over.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn wait(mut self) -> Result<T, ConsumeError> {
        let about = self.about.clone();
        let timeout = self.timeout;
        let mut poll = |context: &mut Context<'_>| Pin::new(&mut self).poll(context);
        if is_own_thread() {
            return match poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => Err(about.error(ConsumeErrorCause::OwnThread)),
            };
        }
        let deadline = ThreadDeadline::after(timeout.checked_add(GRACE));
        wait_until(poll, |parker| deadline.park(parker)).unwrap_or_else(|| {
            Err(about.error(ConsumeErrorCause::TimedOut { after: timeout, problem: None }))
        })
    }
}

impl<T: Clone> Future for ConsumerAnswer<T> {
    type Output = Result<T, ConsumeError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.born.is_current() {
            return Poll::Ready(Err(self.about.error(ConsumeErrorCause::Forked)));
        }
        self.outcome.poll(context)
    }
}

impl<T> fmt::Debug for ConsumerAnswer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerAnswer").field("about", &self.about).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::as_own_thread;

    fn answer() -> (ConsumerAnswer<u8>, Tell<u8>) {
        let about = About { topic: "t".into(), partition: Some(1) };
        ConsumerAnswer::new(about, Duration::from_secs(60))
    }

    #[test]
    fn a_call_that_nobody_can_answer_any_more_ends() {
        let (answer, tell) = answer();
        drop(tell);
        let error = answer.wait().unwrap_err();
        assert_eq!((error.topic(), error.partition()), ("t", Some(1)));
        assert_eq!(*error.cause(), ConsumeErrorCause::ThreadPanicked);
    }

    #[test]
    fn a_thread_of_the_librarys_does_not_wait_for_itself() {
        let (pending, _tell) = answer();
        let told = as_own_thread(|| pending.wait()).unwrap_err();
        assert_eq!(*told.cause(), ConsumeErrorCause::OwnThread);
        let (answered, tell) = answer();
        tell(Ok(7));
        assert_eq!(as_own_thread(|| answered.wait()), Ok(7), "it need not wait");
    }
}
