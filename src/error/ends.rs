//! What `flush` and `close` report.

use std::time::Duration;

use super::words::last_cause;
use crate::problem::Problem;

/// `flush` could not wait.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use std::sync::mpsc;
/// use tidegate::FlushError;
///
/// let (outcomes, received) = mpsc::channel();
/// let again = producer.clone();
/// producer.topic("orders")?.send("customer-42", "paid")?.on_complete(move |_| {
///     // A callback runs on a thread of the producer, which must not wait for itself.
///     drop(outcomes.send(again.flush().wait()));
/// })?;
/// assert_eq!(received.recv()?, Err(FlushError::OwnThread));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// Called on one of the producer's own threads, where waiting would stop the loop it waits for.
    #[error("flush was called on a thread of the producer itself, where it would wait for ever")]
    OwnThread,
    /// The process was forked: the child has none of the producer's threads.
    #[error("this process is a fork of the one that built the producer: build a new one here")]
    Forked,
}

/// `close` could not deliver everything.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::time::Duration;
/// # use tidegate::CloseError;
/// # cluster.pause_broker(1);
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// drop(producer.topic("orders")?.send("customer-42", "paid")?);
/// match producer.close(Duration::ZERO).wait() {
///     Err(CloseError::TimedOut { .. }) => println!("some records were not acknowledged"),
///     outcome => outcome?,
/// }
/// # assert_eq!(producer.failed_records().closed, 1);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The timeout passed; every remaining delivery was resolved with
    /// [`DeliveryErrorCause::Closed`](crate::DeliveryErrorCause::Closed).
    #[error(
        "the timeout of {timeout:?} passed before every record was acknowledged; the rest were \
         failed{}",
        last_cause(last)
    )]
    TimedOut {
        /// The timeout that was given.
        timeout: Duration,
        /// What stood in the way, if anything is known to.
        #[source]
        last: Option<Problem>,
    },
    /// Threads of the producer have not returned from code of the application's (a waker, a
    /// callback, a fallback, a partitioner, a logger) and were left behind; they end if they ever
    /// do. Records that a stuck event loop holds resolve then, and not before.
    #[error(
        "{} did not return from code of the application's (a waker, a callback, a fallback, a \
         partitioner, a logger) within the timeout of {timeout:?}, and was left behind",
        threads.join(", ")
    )]
    Stuck {
        /// The threads' names, such as `tidegate-loop-0`.
        threads: Vec<String>,
        /// The timeout that was given.
        timeout: Duration,
    },
    /// Called on one of the producer's own threads.
    #[error("close was called on a thread of the producer itself, where it would wait for ever")]
    OwnThread,
    /// The process was forked: the child has none of the producer's threads.
    #[error("this process is a fork of the one that built the producer: build a new one here")]
    Forked,
}
