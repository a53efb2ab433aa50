//! What a producer warns of. Alone in its process: there is one logger.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use tidegate::embedded::EmbeddedCluster;
use tidegate::{Acks, Producer, ProducerConfig};

/// Nothing listens there.
const AWAY: &str = "127.0.0.1:1";

#[derive(Default)]
struct Counts {
    warnings: AtomicU64,
    others: AtomicU64,
    /// Warnings about settings.
    settings: Mutex<Vec<String>>,
    /// Warnings about records that nobody confirmed.
    unconfirmed: Mutex<Vec<String>>,
}

static COUNTS: Counts = Counts {
    warnings: AtomicU64::new(0),
    others: AtomicU64::new(0),
    settings: Mutex::new(Vec::new()),
    unconfirmed: Mutex::new(Vec::new()),
};

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        log::set_logger(&COUNTS).expect("no other logger is set in this process");
        log::set_max_level(LevelFilter::Debug);
    });
}

impl Log for Counts {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        if text.contains("no effect") && record.level() == Level::Warn {
            self.settings.lock().expect("nobody panics here").push(text);
        } else if text.contains("acks=0 may be lost") && record.level() == Level::Warn {
            self.unconfirmed.lock().expect("nobody panics here").push(text);
        } else if text.contains(AWAY) {
            let loud = record.level() <= Level::Warn;
            let count = if loud { &self.warnings } else { &self.others };
            count.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_cluster_that_is_away_is_not_a_warning_each_time() {
    install();
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

#[test]
fn properties_without_effect_are_named() {
    const WITHOUT: [(&str, &str); 2] =
        [("compression.lz4.level", "9"), ("metadata.max.idle.ms", "60000")];
    install();
    ProducerConfig::from_properties([("linger.ms", "5"), ("compression.gzip.level", "1")])
        .expect("good properties");
    assert_eq!(*COUNTS.settings.lock().expect("nobody panics there"), [""; 0]);
    ProducerConfig::from_properties(WITHOUT).expect("good properties");
    let warned = COUNTS.settings.lock().expect("nobody panics there");
    let names: Vec<&str> = warned.iter().filter_map(|text| text.split(' ').next()).collect();
    assert_eq!(names, WITHOUT.map(|(name, _)| name), "{warned:?}");
}

#[test]
fn f40_a_leader_that_moved_is_found_without_acknowledgements_and_a_warning_says_what_is_lost() {
    install();
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 1).start().expect("a cluster");
    let producer = Producer::builder(&cluster.bootstrap_servers())
        .acks(Acks::None)
        .configure(|config| config.pinning = false)
        .build()
        .expect("a producer");
    let topic = producer.topic("t").expect("a topic");
    let send = |count: usize| {
        for _ in 0..count {
            let delivery = topic.send((), "v").expect("there is room");
            delivery.wait().expect("written is delivered");
            // The load: 20 records a second.
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    send(5);
    assert!(cluster.move_leader("t", 0, 2));
    send(20);
    let there = cluster.records("t", 0).len();
    // On the way when the leader moved: one, and a few more on a machine that is busy.
    assert!((15..=24).contains(&there), "{there} of 25 are there");
    let warned = COUNTS.unconfirmed.lock().expect("nobody panics there").clone();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("broker 1 at 127.0.0.1:"), "{warned:?}");
    let _ = producer.close(Duration::from_secs(10)).wait();
}
