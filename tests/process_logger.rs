//! A logger that panics on the producer's threads, and one that never returns. In a process of its
//! own, because there is one logger in a process.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Log, Metadata, Record};
use tidegate::embedded::EmbeddedCluster;
use tidegate::{CloseError, Delivery, DeliveryErrorCause, EventLoops, Producer, SendErrorKind};

const LONG: Duration = Duration::from_secs(60);

/// What the logger does on threads of the producer's.
const PANIC: u8 = 1;
const STALL_META: u8 = 2;
/// The first event loop that logs.
const STALL_LOOP: u8 = 3;
const NOTHING: u8 = 4;

struct Rude {
    mode: AtomicU8,
    panics: AtomicUsize,
    /// The thread that stands still in it.
    stalled: Mutex<Option<String>>,
    changed: Condvar,
}

static LOGGER: Rude = Rude {
    mode: AtomicU8::new(PANIC),
    panics: AtomicUsize::new(0),
    stalled: Mutex::new(None),
    changed: Condvar::new(),
};

impl Log for Rude {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &Record<'_>) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        match self.mode.load(Ordering::SeqCst) {
            PANIC if name.starts_with("tidegate-") => {
                self.panics.fetch_add(1, Ordering::SeqCst);
                // Without the hook, which would print every one of them.
                std::panic::resume_unwind(Box::new("a logger that panics"));
            }
            STALL_META if name == "tidegate-meta" => self.stall(STALL_META, name),
            STALL_LOOP if name.starts_with("tidegate-loop-") => self.stall(STALL_LOOP, name),
            _ => {}
        }
    }

    fn flush(&self) {}
}

impl Rude {
    /// Keeps the first thread that comes here for good.
    fn stall(&self, mode: u8, name: &str) {
        let order = Ordering::SeqCst;
        if self.mode.compare_exchange(mode, NOTHING, order, order).is_err() {
            return;
        }
        *self.stalled.lock().unwrap() = Some(name.to_owned());
        self.changed.notify_all();
        loop {
            std::thread::park();
        }
    }

    /// The name of the thread that stands still, once there is one.
    fn await_stalled(&self) -> String {
        let stalled = self.stalled.lock().unwrap();
        let (mut stalled, waited) =
            self.changed.wait_timeout_while(stalled, LONG, |stalled| stalled.is_none()).unwrap();
        assert!(!waited.timed_out(), "the thread logs");
        stalled.take().expect("it was waited for")
    }
}

/// The only logger, for one test at a time.
fn install() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // The second time it is there.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Debug);
    guard
}

/// A close ends at its timeout and 100 ms; ten times as much here, on a machine that is shared.
fn closes_stuck(producer: &Producer, thread: &str) {
    let start = Instant::now();
    let timeout = Duration::from_millis(200);
    let closed = producer.close(timeout).wait();
    let threads = vec![thread.to_owned()];
    assert_eq!(closed, Err(CloseError::Stuck { threads, timeout }));
    let took = start.elapsed();
    assert!(took < timeout + 10 * Duration::from_millis(100), "{took:?}");
}

fn acked(mut delivery: Delivery) {
    delivery.wait_timeout(LONG).expect("every delivery resolves").expect("it is written");
}

#[test]
fn c42_f51_a_logger_that_panics_or_never_returns_costs_its_lines_only() {
    let _alone = install();
    LOGGER.mode.store(PANIC, Ordering::SeqCst);
    let cluster = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    // The first address is one where nobody listens: a warning.
    let bootstrap = format!("127.0.0.1:1,{}", cluster.bootstrap_servers());
    let producer = Producer::builder(&bootstrap)
        .delivery_timeout(Duration::from_secs(10))
        .configure(|config| {
            config.pinning = false;
            config.request_timeout = Duration::from_secs(5);
            config.topic_unknown_max = Duration::from_secs(1);
            config.allow_auto_create_topics = false;
        })
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    acked(topic.send((), "v").unwrap());
    for _ in 0..3 {
        cluster.stop_broker(1);
        let waits = topic.send((), "v").unwrap();
        cluster.restart_broker(1).unwrap();
        acked(waits);
    }
    // Stashes have their deadlines all the same.
    let mut unknown = producer.topic("unknown").unwrap().send((), "v").unwrap();
    let error = unknown.wait_timeout(LONG).expect("it resolves").unwrap_err();
    assert!(matches!(error.cause(), DeliveryErrorCause::UnknownTopic { .. }), "{error}");
    assert!(LOGGER.panics.load(Ordering::SeqCst) > 10, "it had something to log");

    LOGGER.mode.store(STALL_META, Ordering::SeqCst);
    cluster.stop_broker(1);
    let _asks = producer.topic("another").unwrap().send((), "v").unwrap();
    let stalled = LOGGER.await_stalled();
    assert_eq!(stalled, "tidegate-meta");
    closes_stuck(&producer, &stalled);
}

#[test]
fn c42_f51_a_logger_that_never_returns_on_a_loop_holds_up_the_brokers_of_that_loop_only() {
    let _alone = install();
    LOGGER.mode.store(NOTHING, Ordering::SeqCst);
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    let loops = EventLoops::shared(2).unpinned();
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .buffer_memory(8 << 20)
        .event_loops(loops.clone())
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    let send = |partition| {
        topic.send_record(tidegate::Record::new().value(&[7; 1_000]).partition(partition))
    };
    (0..2).for_each(|partition| acked(send(partition).unwrap()));

    LOGGER.mode.store(STALL_LOOP, Ordering::SeqCst);
    // Its loop has that to log, or that it cannot connect.
    cluster.stop_broker(1);
    drop(send(0).unwrap());
    let stalled = LOGGER.await_stalled();
    // What the other loop has to do is done.
    for _ in 0..100 {
        acked(send(1).unwrap());
    }
    std::thread::scope(|scope| {
        // Room comes to an end some time, and then it is parked.
        let sender = scope.spawn(|| {
            loop {
                if let Err(error) = send(0) {
                    break error;
                }
            }
        });
        let begun = Instant::now();
        while producer.broker_levels().iter().all(|levels| levels.writable) {
            assert!(begun.elapsed() < LONG, "nobody makes room");
            std::thread::yield_now();
        }
        acked(send(1).unwrap());
        closes_stuck(&producer, &stalled);
        let error = sender.join().unwrap();
        assert!(matches!(error.kind(), SendErrorKind::Closed), "{error}");
    });
    // Neither waits for the loop for ever.
    drop((topic, producer, loops));
}
