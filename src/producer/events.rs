//! Listening to what happens to a producer.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::producer::Producer;
use crate::engine::event::{Event, EventRing};
use crate::engine::sync::{Generation, wait_until};
use crate::io::{Job, JobThread, ThreadDeadline, is_own_thread};
use crate::locking::lock;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};
use crate::user_code;

/// The events of a producer from the moment of [`Producer::events`] on. An iterator, which waits
/// for the next event and ends when the producer has closed.
///
/// It holds at most `tidegate.events.max` events (1,024 by default). What finds no room is counted
/// and told as [`Event::Missed`]: a listener never holds the producer up. Dropping it ends it.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 3).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// # use std::time::Duration;
/// let events = producer.events()?;
/// producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// producer.close(Duration::from_secs(10)).wait()?;
/// // They end with the producer.
/// let told: Vec<String> = events.map(|event| event.to_string()).collect();
/// assert!(told.contains(&"topic orders has 3 partitions".to_owned()));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Events {
    ring: Arc<EventRing>,
    born: Generation,
}

impl Producer {
    /// What happens to the producer from now on: brokers found and lost, connections, leaders that
    /// move, topics and partitions, throttles, watermarks, failed records.
    ///
    /// ```no_run
    /// # fn example(producer: tidegate::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// let events = producer.events()?;
    /// std::thread::spawn(move || {
    ///     for event in events {
    ///         println!("{event}"); // orders-3 is led by broker 2, before by broker 1
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The first listener starts a thread of the producer's own, which hands events out; without
    /// one, nothing is kept.
    ///
    /// # Errors
    /// The system starts no thread ([`ProblemKind::System`]); in a fork's child, always: the
    /// producer is the parent's.
    pub fn events(&self) -> Result<Events, Problem> {
        self.check_listening()?;
        let ring = self.running().events.listen().map_err(no_thread)?;
        Ok(Events { ring, born: Generation::current() })
    }

    /// Calls `callback` with everything that happens from now on, one event after the other, on the
    /// thread that calls [`Delivery::on_complete`](crate::Delivery::on_complete)'s closures too. It
    /// must not wait for records of this producer: such calls are errors there. While it does not
    /// return, events queue up as in [`Events`], and other closures wait. A panic is logged, and it
    /// is called with the next event all the same.
    ///
    /// A closure that holds a clone of the producer keeps it from being dropped: give it a
    /// [`Topic`](crate::Topic), or close the producer explicitly.
    ///
    /// ```no_run
    /// # use tidegate::Event;
    /// # fn example(producer: tidegate::Producer) -> Result<(), Box<dyn std::error::Error>> {
    /// producer.on_event(|event| {
    ///     if let Event::Failed { error, records } = event {
    ///         eprintln!("{records} records: {error}");
    ///     }
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`Producer::events`].
    pub fn on_event(&self, callback: impl FnMut(&Event) + Send + 'static) -> Result<(), Problem> {
        self.check_listening()?;
        let ring = self.running().events.listen().map_err(no_thread)?;
        let thread = self.shared().callbacks.thread().clone();
        if thread.start().map_err(no_thread)? {
            let called = Arc::new(Called { ring, callback: Mutex::new(Some(callback)), thread });
            called.wake();
        }
        Ok(())
    }

    fn check_listening(&self) -> Result<(), Problem> {
        if self.shared().born.is_current() {
            return Ok(());
        }
        let text = "this process is a fork of the one that built the producer: build one here";
        Err(Problem::new(ProblemKind::System, text))
    }
}

/// Events of one call in a row, before other closures get their turn.
const CALLS_PER_TURN: usize = 256;

/// A closure that is called with events.
struct Called<F> {
    ring: Arc<EventRing>,
    /// `None` once nothing more happens.
    callback: Mutex<Option<F>>,
    thread: Arc<JobThread>,
}

impl<F: FnMut(&Event) + Send + 'static> Wake for Called<F> {
    /// On the thread that hands events out: has the other one look.
    fn wake(self: Arc<Self>) {
        let thread = self.thread.clone();
        thread.push(self);
    }
}

impl<F: FnMut(&Event) + Send + 'static> Job for Called<F> {
    fn run(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut slot = lock(&self.callback);
        let Some(callback) = slot.as_mut() else { return };
        for _ in 0..CALLS_PER_TURN {
            match self.ring.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Pending => return,
                Poll::Ready(Some(event)) => {
                    let inside = user_code::enter();
                    if user_code::call(|| callback(&event)).is_err() {
                        log::error!("a callback for events panicked; the next event goes on");
                    }
                    drop(inside);
                }
                Poll::Ready(None) => {
                    // What the closure holds is the application's, and may panic when dropped.
                    let ended = slot.take();
                    let inside = user_code::enter();
                    let _ = user_code::call(|| drop(ended));
                    drop(inside);
                    return;
                }
            }
        }
        drop(slot);
        self.wake();
    }
}

fn no_thread(error: std::io::Error) -> Problem {
    Problem::from(error).at("a thread for events")
}

impl Events {
    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.poll_next(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }

    /// The next event; `None` if there is none within `timeout`, or none will come any more.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Event> {
        let timeout = if is_own_thread() { Duration::ZERO } else { timeout };
        let deadline = ThreadDeadline::after(Some(timeout));
        wait_until(|context| self.poll_next(context), |parker| deadline.park(parker)).flatten()
    }

    /// The next event, for a task; `None` once the producer has closed.
    pub async fn next_event(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// What a `Stream` does: the next event, or the promise to call the waker. `None` once the
    /// producer has closed.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if !self.born.is_current() {
            // The thread that hands events out is the parent's.
            return Poll::Ready(None);
        }
        self.ring.poll_next(context)
    }
}

impl Iterator for Events {
    type Item = Event;

    /// Waits for the next event. On a thread of the producer's own (in a waker) it does not wait.
    fn next(&mut self) -> Option<Event> {
        if is_own_thread() {
            return self.try_next();
        }
        let deadline = ThreadDeadline::after(None);
        wait_until(|context| self.poll_next(context), |parker| deadline.park(parker)).flatten()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
