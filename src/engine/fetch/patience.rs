//! How long a call of the application's is tried, and what stood in its way last.

use std::time::Duration;

use crate::error::ConsumeErrorCause;
use crate::problem::Problem;

/// See the module. Times in nanoseconds.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// When the call is given up.
    pub deadline: u64,
    timeout: u64,
    /// What stood in its way last.
    pub problem: Option<Problem>,
}

impl Patience {
    pub(super) fn new(now: u64, timeout: u64) -> Self {
        Patience { deadline: now.saturating_add(timeout), timeout, problem: None }
    }

    /// What a call that was given up says. `otherwise` is said where nothing else is known.
    pub(super) fn timed_out(&self, otherwise: Option<Problem>) -> ConsumeErrorCause {
        let after = Duration::from_nanos(self.timeout);
        ConsumeErrorCause::TimedOut { after, problem: self.problem.clone().or(otherwise) }
    }
}
