//! A logger that panics on the producer's threads, and one that never returns. In a process of its
//! own, because there is one logger in a process.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use log::{Log, Metadata, Record};
use tidegate::embedded::EmbeddedCluster;
use tidegate::{CloseError, Delivery, DeliveryErrorCause, Producer};

const LONG: Duration = Duration::from_secs(60);

/// What the logger does on threads of the producer's.
const PANIC: u8 = 1;
const STALL_META: u8 = 2;

struct Rude {
    mode: AtomicU8,
    panics: AtomicUsize,
    stalled: Mutex<bool>,
    changed: Condvar,
}

static LOGGER: Rude = Rude {
    mode: AtomicU8::new(PANIC),
    panics: AtomicUsize::new(0),
    stalled: Mutex::new(false),
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
            STALL_META if name == "tidegate-meta" => {
                *self.stalled.lock().unwrap() = true;
                self.changed.notify_all();
                loop {
                    std::thread::park();
                }
            }
            _ => {}
        }
    }

    fn flush(&self) {}
}

fn acked(mut delivery: Delivery) {
    delivery.wait_timeout(LONG).expect("every delivery resolves").expect("it is written");
}

#[test]
fn c42_f51_a_logger_that_panics_or_never_returns_costs_its_lines_only() {
    log::set_logger(&LOGGER).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
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
    let stalled = LOGGER.stalled.lock().unwrap();
    let waited = LOGGER.changed.wait_timeout_while(stalled, LONG, |stalled| !*stalled).unwrap();
    assert!(!waited.1.timed_out(), "the metadata thread logs");
    drop(waited);
    let start = Instant::now();
    let timeout = Duration::from_millis(200);
    let closed = producer.close(timeout).wait();
    let threads = vec!["tidegate-meta".to_owned()];
    assert_eq!(closed, Err(CloseError::Stuck { threads, timeout }));
    let took = start.elapsed();
    assert!(took < timeout + 10 * Duration::from_millis(100), "{took:?}");
}
