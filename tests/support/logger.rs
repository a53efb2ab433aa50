//! Shows what the producer logs, with `TIDEGATE_LOG=1` in the environment, and keeps its warnings
//! for tests that ask for them.

// `chaos` asks for none.
#![allow(dead_code, unreachable_pub)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Logger {
    /// Lines are shown, with the time since then.
    shown_since: OnceLock<Instant>,
    keeps_warnings: AtomicBool,
    warnings: Mutex<Vec<(Instant, String)>>,
}

static LOGGER: Logger = Logger {
    shown_since: OnceLock::new(),
    keeps_warnings: AtomicBool::new(false),
    warnings: Mutex::new(Vec::new()),
};

/// Installs the logger if it was asked for.
pub fn install() {
    if std::env::var("TIDEGATE_LOG").is_ok_and(|set| set == "1") {
        LOGGER.shown_since.get_or_init(Instant::now);
        set(LevelFilter::Debug);
    }
}

/// The same, and keeps warnings also if it was not. Lines that are less than a warning cost
/// nothing then: tests that measure are not disturbed.
pub fn install_and_keep_warnings() {
    LOGGER.keeps_warnings.store(true, Ordering::Relaxed);
    install();
    if LOGGER.shown_since.get().is_none() {
        set(LevelFilter::Warn);
    }
}

/// When the first warning came that has all the words, of any producer in the process.
pub fn warned_at(words: &[&str]) -> Option<Instant> {
    let warnings = LOGGER.warnings.lock().unwrap_or_else(PoisonError::into_inner);
    let has_them = |(_, line): &&(Instant, String)| words.iter().all(|word| line.contains(word));
    warnings.iter().find(has_them).map(|&(at, _)| at)
}

fn set(level: LevelFilter) {
    log::set_logger(&LOGGER).expect("no other logger is set in this process");
    log::set_max_level(level);
}

impl Log for Logger {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() == Level::Warn && self.keeps_warnings.load(Ordering::Relaxed) {
            let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
            warnings.push((Instant::now(), record.args().to_string()));
        }
        if let Some(start) = self.shown_since.get() {
            let at = start.elapsed().as_secs_f64();
            eprintln!("{at:9.3} {} {}: {}", record.level(), record.target(), record.args());
        }
    }

    fn flush(&self) {}
}
