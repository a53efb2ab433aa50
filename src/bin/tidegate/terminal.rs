//! The standard error as a person sees it: messages of the client's log, and a line of progress
//! that they do not tear.

use std::fmt;
use std::io::{IsTerminal, Write, stderr};
use std::sync::{Mutex, PoisonError};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use log::{LevelFilter, Log, Metadata, Record};

/// The line of progress on the screen, if there is one.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes a line to the standard error, above the line of progress.
pub(crate) fn say(line: impl fmt::Display) {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // `eprintln` would panic where nobody reads any more, as in `|& head`.
    let write = || drop(writeln!(stderr(), "{line}"));
    match shown {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// How much of the client's log is shown: `-q` nothing, else warnings, and with each `-v` more.
pub(crate) fn show_log(quiet: bool, verbose: u8) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::Off,
        (false, 0) => LevelFilter::Warn,
        (false, 1) => LevelFilter::Info,
        (false, 2) => LevelFilter::Debug,
        (false, _) => LevelFilter::Trace,
    };
    static LOGGER: Logger = Logger;
    // The only logger of the process: nothing else sets one.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tidegate")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            say(format_args!("{level}: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

fn rate(state: &ProgressState, text: &mut dyn fmt::Write) {
    // There is nobody to tell that a line of progress could not be written.
    let _ = write!(text, "{}/s", HumanCount(state.per_sec() as u64));
}

/// A line of progress on the standard error, where that is a terminal; nothing otherwise. It goes
/// when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar up to `total`, or a counter where the total is not known.
    pub(crate) fn begin(total: Option<u64>, wanted: bool) -> Progress {
        if !wanted || !stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{bar:32} {percent:>3}%  {human_pos}/{human_len}  {rate}  {eta} left",
            ),
            None => (
                ProgressBar::new_spinner(),
                "{spinner} {human_pos} records acknowledged  {rate}  {elapsed}",
            ),
        };
        let bar = match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style.with_key("rate", rate)),
            Err(_) => bar,
        };
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Progress(bar)
    }

    /// Lets `print` write to the standard output, which may be the same terminal.
    pub(crate) fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }

    /// Takes the line from the screen.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
        SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// So many are done.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
