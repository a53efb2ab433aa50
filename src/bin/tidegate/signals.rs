//! SIGINT and SIGTERM ask a command to end; it looks for that often enough.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// How often a command that waits for something else looks whether it should end.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The status of a process that a second SIGINT ends at once: 128 and the signal's number, as
/// shells count.
const INTERRUPTED: i32 = 130;

/// The same for SIGTERM.
const TERMINATED: i32 = 143;

/// Whether the command was asked to end.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Watches for SIGINT and SIGTERM. A second one ends the process at once.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn on_signals() -> Result<Stop, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = || -> io::Result<()> {
            // In this order: the first signal finds the flag unset, and sets it.
            flag::register_conditional_shutdown(SIGINT, INTERRUPTED, stop.clone())?;
            flag::register_conditional_shutdown(SIGTERM, TERMINATED, stop.clone())?;
            flag::register(SIGINT, stop.clone())?;
            flag::register(SIGTERM, stop.clone()).map(drop)
        };
        match watch() {
            Ok(()) => Ok(Stop(stop)),
            Err(error) => {
                Err(Failure::failed(format_args!("signals cannot be watched for: {error}")))
            }
        }
    }

    /// Whether it is time to end.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Asks for the end from within.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
