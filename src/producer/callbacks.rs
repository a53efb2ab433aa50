//! Calling the application when a record's outcome is known.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use super::delivery::{Delivery, RecordMetadata};
use crate::error::DeliveryError;
use crate::io::{Job, JobThread};
use crate::logging as log;
use crate::user_code;

/// What the application gave to be called.
type Callback = Box<dyn FnOnce(Result<RecordMetadata, DeliveryError>) + Send>;

/// A partition, or the topic where the record had none yet.
type Place = (Arc<str>, Option<i32>);

/// The callbacks of one producer.
///
/// Those of a partition stand in a line. Only the first of a line is registered with its record;
/// when that is resolved, the thread calls it and all behind it that are resolved too. So callbacks
/// are called in the order in which they were given, also where one was given for a record that had
/// just been resolved.
pub(super) struct Callbacks {
    thread: Arc<JobThread>,
    lines: Mutex<HashMap<Place, VecDeque<(Delivery, Callback)>>>,
    outstanding: AtomicUsize,
    outstanding_max: usize,
}

/// Callbacks of one line that are called before other lines get their turn.
const CALLS_PER_TURN: usize = 1_024;

/// A line whose first record may be resolved.
struct Turn {
    place: Place,
    callbacks: Arc<Callbacks>,
}

impl Callbacks {
    pub(super) fn new(outstanding_max: usize) -> Arc<Self> {
        Arc::new(Callbacks {
            thread: Arc::new(JobThread::new("tidegate-call")),
            lines: Mutex::default(),
            outstanding: AtomicUsize::new(0),
            outstanding_max,
        })
    }

    pub(super) fn thread(&self) -> &JobThread {
        &self.thread
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, VecDeque<(Delivery, Callback)>>> {
        // No code of the application's runs under it.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a callback into its line, and has the thread look if it is the first there.
    fn add(self: &Arc<Self>, place: Place, delivery: Delivery, callback: Callback) {
        let mut lines = self.lock();
        let line = lines.entry(place.clone()).or_default();
        line.push_back((delivery, callback));
        let is_first = line.len() == 1;
        drop(lines);
        if is_first {
            self.thread.push(Arc::new(Turn { place, callbacks: self.clone() }));
        }
    }

    /// The next callback of a line and its outcome. `None` where the line is empty, or its first
    /// record is not resolved: `waker` is called when it may be.
    fn next(
        &self,
        place: &Place,
        waker: &Waker,
    ) -> Option<(Callback, Result<RecordMetadata, DeliveryError>)> {
        let mut lines = self.lock();
        let line = lines.get_mut(place)?;
        let (delivery, _) = line.front_mut()?;
        if delivery.poll_handle(&mut Context::from_waker(waker)).is_pending() {
            return None;
        }
        let (mut delivery, callback) = line.pop_front()?;
        if line.is_empty() {
            lines.remove(place);
        }
        drop(lines);
        let outcome = delivery.try_take().expect("its outcome is known, and nobody took it");
        Some((callback, outcome))
    }
}

impl Job for Turn {
    fn run(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        for _ in 0..CALLS_PER_TURN {
            let Some((callback, outcome)) = self.callbacks.next(&self.place, &waker) else {
                return;
            };
            let inside = user_code::enter();
            if user_code::call(|| callback(outcome)).is_err() {
                log::error!("a callback for a record panicked");
            }
            drop(inside);
            self.callbacks.outstanding.fetch_sub(1, Ordering::Relaxed);
        }
        self.wake();
    }
}

impl Wake for Turn {
    /// On an event loop, mostly: has the thread look.
    fn wake(self: Arc<Self>) {
        let thread = self.callbacks.thread.clone();
        thread.push(self);
    }
}

/// A delivery whose outcome nobody will be called with: [`Delivery::on_complete`] hands it back.
pub struct CallbackRefused {
    /// The delivery. Its record is sent all the same.
    pub delivery: Delivery,
    reason: &'static str,
}

impl fmt::Debug for CallbackRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackRefused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl fmt::Display for CallbackRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for CallbackRefused {}

impl Delivery {
    /// Calls `callback` with the outcome, on a thread of the producer's own.
    ///
    /// One thread calls all callbacks of a producer, one after the other. Those of one partition
    /// come in the order of the records, where one thread sends the records and gives the
    /// callbacks; but a record that was sent before its topic was known may come after later ones.
    /// A callback must not wait for records of this producer: such calls are errors
    /// there. A panic is logged, and costs nothing else. A close waits for the callbacks of what it
    /// has resolved, as long as its timeout allows. Once the producer is closed, the callback is
    /// called before this returns.
    ///
    /// ```no_run
    /// # fn example(orders: tidegate::Topic) -> Result<(), Box<dyn std::error::Error>> {
    /// orders.send("customer-42", "paid")?.on_complete(|outcome| match outcome {
    ///     Ok(at) => println!("{at}"),
    ///     Err(error) => eprintln!("{error}"),
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallbackRefused`], with the delivery in it: `tidegate.callbacks.max` callbacks (a million
    /// by default) were given and have not returned; or the system starts no thread; or the
    /// producer is that of a parent process.
    pub fn on_complete<F>(self, callback: F) -> Result<(), CallbackRefused>
    where
        F: FnOnce(Result<RecordMetadata, DeliveryError>) + Send + 'static,
    {
        let refuse = |delivery, reason| Err(CallbackRefused { delivery, reason });
        if self.handle().is_inherited() {
            return refuse(self, "the producer is that of the parent process");
        }
        let Some(shared) = self.producer() else {
            // The producer is gone, and everything was resolved before.
            self.call_now(callback);
            return Ok(());
        };
        let callbacks = &shared.callbacks;
        if callbacks.outstanding.fetch_add(1, Ordering::Relaxed) >= callbacks.outstanding_max {
            callbacks.outstanding.fetch_sub(1, Ordering::Relaxed);
            return refuse(self, "tidegate.callbacks.max callbacks have not returned");
        }
        match callbacks.thread.start() {
            Ok(true) => {
                let context = self.handle().context();
                let place = (context.topic.clone(), context.partition.map(|partition| partition.0));
                callbacks.add(place, self, Box::new(callback));
                Ok(())
            }
            Ok(false) => {
                callbacks.outstanding.fetch_sub(1, Ordering::Relaxed);
                self.call_now(callback);
                Ok(())
            }
            Err(_) => {
                callbacks.outstanding.fetch_sub(1, Ordering::Relaxed);
                refuse(self, "the system starts no thread for callbacks")
            }
        }
    }

    /// The thread that calls back has ended, behind the loops: the outcome is known.
    fn call_now(mut self, callback: impl FnOnce(Result<RecordMetadata, DeliveryError>)) {
        if let Some(outcome) = self.try_take() {
            callback(outcome);
        }
    }
}
