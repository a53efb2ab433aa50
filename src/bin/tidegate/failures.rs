//! What failed of many things: the first ones are told one by one, all are counted.

use std::fmt;

use crate::terminal::say;

/// So many are told; further ones are counted.
const TOLD_MAX: u64 = 10;

/// The number of failures, and how many of them have been told.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u64,
    /// What was last told, which need not be said in full again.
    last: String,
}

impl Failures {
    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// One more: what failed, and why.
    pub(crate) fn add(&mut self, what: impl fmt::Display, why: impl fmt::Display) {
        self.count += 1;
        if self.count > TOLD_MAX {
            if self.count == TOLD_MAX + 1 {
                say("tidegate: further failures are only counted");
            }
            return;
        }
        let why = why.to_string();
        if why == self.last {
            say(format_args!("tidegate: {what}: the same"));
        } else {
            say(format_args!("tidegate: {what}: {why}"));
            self.last = why;
        }
    }
}
