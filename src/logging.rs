//! Logging that survives the application's logger: one that panics costs its line, not the thread
//! that wrote it, and one that never returns shows in the thread's whereabouts.
//!
//! Files that log have `use crate::logging as log;` and write `log::warn!(…)` as usual. A panic of
//! the logger in the middle of a turn would leave half of the turn undone.

pub(crate) use ::log::Level;

/// Writes one line, if its level is on.
pub(crate) fn write(write: &dyn Fn()) {
    let _inside = crate::user_code::enter();
    // There is nowhere to tell of it.
    let _ = crate::user_code::call(write);
}

macro_rules! log_at {
    ($level:expr, $($arg:tt)+) => {{
        let level = $level;
        if level <= ::log::max_level() {
            $crate::logging::write(&|| ::log::log!(level, $($arg)+));
        }
    }};
}

macro_rules! log_error {
    ($($arg:tt)+) => { $crate::logging::log!($crate::logging::Level::Error, $($arg)+) };
}

macro_rules! log_warn {
    ($($arg:tt)+) => { $crate::logging::log!($crate::logging::Level::Warn, $($arg)+) };
}

macro_rules! log_info {
    ($($arg:tt)+) => { $crate::logging::log!($crate::logging::Level::Info, $($arg)+) };
}

macro_rules! log_debug {
    ($($arg:tt)+) => { $crate::logging::log!($crate::logging::Level::Debug, $($arg)+) };
}

pub(crate) use log_at as log;
pub(crate) use log_debug as debug;
pub(crate) use log_error as error;
pub(crate) use log_info as info;
pub(crate) use log_warn as warn;
