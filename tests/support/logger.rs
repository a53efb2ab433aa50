//! Shows what the producer logs, with `TIDEGATE_LOG=1` in the environment.

use std::sync::OnceLock;
use std::time::Instant;

use log::{LevelFilter, Log, Metadata, Record};

struct ToStderr(OnceLock<Instant>);

static LOGGER: ToStderr = ToStderr(OnceLock::new());

/// Installs the logger if it was asked for.
pub fn install() {
    if std::env::var("TIDEGATE_LOG").is_ok_and(|set| set == "1") {
        LOGGER.0.get_or_init(Instant::now);
        log::set_logger(&LOGGER).expect("no other logger is set in this process");
        log::set_max_level(LevelFilter::Debug);
    }
}

impl Log for ToStderr {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let at = self.0.get().map_or(0.0, |start| start.elapsed().as_secs_f64());
        eprintln!("{at:9.3} {} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}
