//! What a producer logs while its cluster is away. Alone in its process: there is one logger.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use tidegate::Producer;

/// Nothing listens there.
const AWAY: &str = "127.0.0.1:1";

#[derive(Default)]
struct Counts {
    warnings: AtomicU64,
    others: AtomicU64,
}

static COUNTS: Counts = Counts { warnings: AtomicU64::new(0), others: AtomicU64::new(0) };

impl Log for Counts {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.args().to_string().contains(AWAY) {
            let loud = record.level() <= Level::Warn;
            let count = if loud { &self.warnings } else { &self.others };
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_cluster_that_is_away_is_not_a_warning_each_time() {
    log::set_logger(&COUNTS).expect("no other logger is set in this process");
    log::set_max_level(LevelFilter::Debug);
    let begun = Instant::now();
    let producer = Producer::builder(AWAY)
        .configure(|config| {
            config.pinning = false;
            config.reconnect_backoff = Duration::from_millis(1);
            config.reconnect_backoff_max = Duration::from_millis(1);
        })
        .build()
        .expect("no broker is needed for that");
    while COUNTS.others.load(Ordering::SeqCst) < 10 {
        assert!(begun.elapsed() < Duration::from_secs(60), "attempts go on, and can be seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    let warnings = COUNTS.warnings.load(Ordering::SeqCst);
    // One, and one more for each 10 s that a slow machine takes.
    let most = 1 + begun.elapsed().as_secs() / 10;
    assert!((1..=most).contains(&warnings), "{warnings} warnings");
    let _ = producer.close(Duration::ZERO).wait();
}
