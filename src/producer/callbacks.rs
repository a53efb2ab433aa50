//! Calling the application when a record's outcome is known.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Wake, Waker};

use super::delivery::{Delivery, RecordMetadata};
use super::intercepted::tell;
use crate::engine::policy::{OnOutcome, RecordOutcome};
use crate::error::DeliveryError;
use crate::io::{Job, JobThread};
use crate::locking::lock;
use crate::logging as log;
use crate::user_code;

/// What the application gave to be called.
enum Callback {
    /// For the delivery, which it got.
    Completion(Completion),
    /// For interceptors, beside whoever has the record's delivery.
    Watchers(Vec<OnOutcome>),
}

/// What is called with a delivery's outcome.
type Completion = Box<dyn FnOnce(Result<RecordMetadata, DeliveryError>) + Send>;

/// Which line a callback stands in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// That of a partition.
    Partition(Arc<str>, i32),
    /// One of its own: the record had no partition yet, and must not wait for those before it,
    /// whose partitions may have no leader.
    Alone(u64),
}

/// The callbacks of one producer.
///
/// Those of a partition stand in a line. Only the first of a line is registered with its record;
/// when that is resolved, the thread calls it and all behind it that are resolved too. So callbacks
/// are called in the order in which they were given, also where one was given for a record that had
/// just been resolved.
pub(super) struct Callbacks {
    thread: Arc<JobThread>,
    lines: Mutex<Lines>,
    outstanding: AtomicUsize,
    outstanding_max: usize,
    /// The log was told already that interceptors do not hear of some records.
    is_warned: AtomicBool,
}

#[derive(Default)]
struct Lines {
    waiting: HashMap<Place, VecDeque<Given>>,
    /// Names lines of one callback.
    alone: u64,
    /// Flushes begun so far. A callback belongs to the flush that comes next.
    flushes: u64,
    /// Callbacks that have not returned, by that number.
    unreturned: BTreeMap<u64, usize>,
}

/// A callback that was given.
struct Given {
    delivery: Delivery,
    callback: Callback,
    flush: u64,
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
            is_warned: AtomicBool::new(false),
        })
    }

    pub(super) fn thread(&self) -> &Arc<JobThread> {
        &self.thread
    }

    /// How many have not returned.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        // No code of the application's runs under it.
        lock(&self.lines)
    }

    /// A flush begins: callbacks that were given before it have a number up to the one returned.
    /// `None`: all of them have returned.
    pub(super) fn begin_flush(&self) -> Option<u64> {
        if self.outstanding.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut lines = self.lock();
        let flush = lines.flushes;
        lines.flushes += 1;
        Some(flush)
    }

    /// Whether the callbacks have returned that were given before this flush.
    pub(super) fn have_returned(&self, flush: u64) -> bool {
        self.lock().unreturned.first_key_value().is_none_or(|(&oldest, _)| oldest > flush)
    }

    /// Has interceptors called with the outcome of a record, whatever becomes of its delivery.
    pub(super) fn watch(self: &Arc<Self>, delivery: &Delivery, watchers: Vec<OnOutcome>) {
        let is_too_many = self.outstanding.fetch_add(1, Ordering::SeqCst) >= self.outstanding_max;
        let started = if is_too_many { Err(()) } else { self.thread.start().map_err(drop) };
        match started {
            Ok(true) => return self.add(delivery.watcher(), Callback::Watchers(watchers)),
            // The producer was closed meanwhile, and everything is resolved.
            Ok(false) => {
                self.outstanding.fetch_sub(1, Ordering::SeqCst);
                return tell_watchers(delivery.watcher(), watchers);
            }
            Err(()) => {}
        }
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "interceptors are not told of the outcomes of some records: \
                 callbacks_max (tidegate.callbacks.max) callbacks have not returned, or the system \
                 starts no thread for them; this is said once"
            );
        }
    }

    /// Puts a callback into its line, and has the thread look if it is the first there.
    fn add(self: &Arc<Self>, mut delivery: Delivery, callback: Callback) {
        // A waker that the application registered is dropped here, and not under the lock.
        let _ = delivery.poll_handle(&mut Context::from_waker(Waker::noop()));
        let context = delivery.handle().context();
        let (topic, partition) = (context.topic.clone(), context.partition);
        let mut lines = self.lock();
        lines.alone += 1;
        let place = match partition {
            Some(partition) => Place::Partition(topic, partition.0),
            None => Place::Alone(lines.alone),
        };
        let flush = lines.flushes;
        *lines.unreturned.entry(flush).or_insert(0) += 1;
        let line = lines.waiting.entry(place.clone()).or_default();
        line.push_back(Given { delivery, callback, flush });
        let is_first = line.len() == 1;
        drop(lines);
        if is_first {
            self.thread.push(Arc::new(Turn { place, callbacks: self.clone() }));
        }
    }

    /// The next of a line, whose outcome is known. `None` where the line is empty, or its first
    /// record is not resolved: `waker` is called when it may be.
    fn next(&self, place: &Place, waker: &Waker) -> Option<Given> {
        let mut lines = self.lock();
        let line = lines.waiting.get_mut(place)?;
        let first = line.front_mut()?;
        if first.delivery.poll_handle(&mut Context::from_waker(waker)).is_pending() {
            return None;
        }
        let given = line.pop_front();
        if line.is_empty() {
            lines.waiting.remove(place);
        }
        given
    }

    /// A callback has returned. Returns whether a flush may wait for that.
    fn returned(&self, flush: u64) -> bool {
        let mut lines = self.lock();
        let is_last = match lines.unreturned.get_mut(&flush) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => lines.unreturned.remove(&flush).is_some(),
        };
        let is_waited_for = is_last && flush < lines.flushes;
        drop(lines);
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
        is_waited_for
    }
}

impl Job for Turn {
    fn run(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        for _ in 0..CALLS_PER_TURN {
            let Some(given) = self.callbacks.next(&self.place, &waker) else { return };
            let Given { mut delivery, callback, flush } = given;
            let producer = delivery.producer();
            match callback {
                Callback::Completion(callback) => {
                    let outcome = delivery.try_take();
                    call(callback, outcome.expect("its outcome is known, and nobody took it"));
                }
                Callback::Watchers(watchers) => tell_watchers(delivery, watchers),
            }
            if self.callbacks.returned(flush)
                && let Some(producer) = producer
            {
                producer.accumulator.flush.notify();
            }
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

/// Calls interceptors with an outcome that is known.
fn tell_watchers(delivery: Delivery, watchers: Vec<OnOutcome>) {
    match &delivery.watched() {
        Some(Ok(metadata)) => tell(watchers, acknowledged(metadata)),
        Some(Err(error)) => tell(watchers, RecordOutcome::Failed(error)),
        None => {}
    }
}

fn acknowledged(metadata: &RecordMetadata) -> RecordOutcome<'_> {
    RecordOutcome::Acknowledged {
        topic: metadata.topic(),
        partition: metadata.partition(),
        offset: metadata.offset(),
        timestamp: metadata.timestamp(),
    }
}

fn call(callback: Completion, outcome: Result<RecordMetadata, DeliveryError>) {
    let _inside = user_code::enter();
    if user_code::call(|| callback(outcome)).is_err() {
        log::error!("a callback for a record panicked");
    }
}

/// A delivery whose outcome nobody will be called with: [`Delivery::on_complete`] hands it back.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # cluster.pause_broker(1);
/// let producer = Producer::builder(&cluster.bootstrap_servers())
///     .configure(|config| config.callbacks_max = 1)
///     .build()?;
/// let orders = producer.topic("orders")?;
/// // No broker has answered when the second one is given.
/// orders.send("customer-42", "first")?.on_complete(|_| println!("done"))?;
/// let refused = orders.send("customer-42", "second")?.on_complete(|_| println!("done"));
/// # cluster.resume_broker(1);
/// if let Err(refused) = refused {
///     assert_eq!(refused.delivery.wait()?.offset(), Some(1)); // the record is sent all the same
/// }
/// # assert_eq!(cluster.high_watermark("orders", 0), 2);
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// A callback must not wait for records of this producer: such calls are errors there. A panic
    /// is logged, and costs nothing else.
    ///
    /// [`Producer::flush`](crate::Producer::flush) waits for the callbacks too that were given
    /// before it, and a close for all of them, as long as its timeout allows. Once the producer is
    /// closed, the callback is called before this returns.
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
    /// producer is that of a parent process. The callback is dropped then.
    ///
    /// # Panics
    /// If the outcome was taken before.
    pub fn on_complete<F>(self, callback: F) -> Result<(), CallbackRefused>
    where
        F: FnOnce(Result<RecordMetadata, DeliveryError>) + Send + 'static,
    {
        let refuse = |delivery, reason| Err(CallbackRefused { delivery, reason });
        if self.handle().is_inherited() {
            return refuse(self, "the producer is that of the parent process");
        }
        let callback: Completion = Box::new(callback);
        let Some(shared) = self.producer() else {
            // The producer is gone, and everything was resolved before.
            return self.call_now(callback);
        };
        let callbacks = &shared.callbacks;
        let give_back = || callbacks.outstanding.fetch_sub(1, Ordering::SeqCst);
        if callbacks.outstanding.fetch_add(1, Ordering::SeqCst) >= callbacks.outstanding_max {
            give_back();
            return refuse(self, "tidegate.callbacks.max callbacks have not returned");
        }
        match callbacks.thread.start() {
            Ok(true) => {
                callbacks.add(self, Callback::Completion(callback));
                Ok(())
            }
            Ok(false) => {
                give_back();
                self.call_now(callback)
            }
            Err(_) => {
                give_back();
                refuse(self, "the system starts no thread for callbacks")
            }
        }
    }

    /// The thread that calls back has ended, behind the loops: the outcome is known, unless a loop
    /// was left behind.
    fn call_now(mut self, callback: Completion) -> Result<(), CallbackRefused> {
        match self.try_take() {
            Some(outcome) => {
                call(callback, outcome);
                Ok(())
            }
            None => {
                let reason = "the producer was closed while one of its threads was held up";
                Err(CallbackRefused { delivery: self, reason })
            }
        }
    }
}
