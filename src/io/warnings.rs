//! Which warnings are news, and when they are given.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::batch::Failures;
use crate::logging as log;

/// A problem that stays the same is a warning so often, in nanoseconds.
const WARNING_INTERVAL: u64 = 10_000_000_000;

/// What was warned of: a cluster that is away is tried several times a second, and each time the
/// same happens.
#[derive(Default)]
pub(super) struct Warnings {
    /// One for each bootstrap server, at the most.
    recent: Vec<(String, u64)>,
    /// When the first one was given since all was well.
    since: Option<u64>,
}

impl Warnings {
    /// Whether `text` is worth a warning: it was not one within [`WARNING_INTERVAL`].
    pub(super) fn is_due(&mut self, now: u64, text: &str) -> bool {
        self.recent.retain(|(_, at)| now.saturating_sub(*at) < WARNING_INTERVAL);
        if self.recent.iter().any(|(recent, _)| recent == text) {
            return false;
        }
        self.recent.push((text.to_owned(), now));
        self.since.get_or_insert(now);
        true
    }

    /// All is well: how long it was not, if there was a warning since it last was.
    pub(super) fn end(&mut self, now: u64) -> Option<Duration> {
        let since = self.since.take()?;
        Some(Duration::from_millis(now.saturating_sub(since) / 1_000_000))
    }
}

/// What fails together is told of together: so long after the first, in nanoseconds.
const REPORT_DELAY: u64 = 250_000_000;

/// Tells the log, from time to time, of records that failed and that nobody looked at.
pub(super) struct UnreadReports {
    failures: Arc<Failures>,
    due: Option<u64>,
    /// When the last one was given.
    told_at: Option<u64>,
}

impl UnreadReports {
    pub(super) fn new(failures: Arc<Failures>) -> Self {
        UnreadReports { failures, due: None, told_at: None }
    }

    /// There is something to be told.
    pub(super) fn handle_news(&mut self, now: u64) {
        let allowed = self.told_at.map_or(0, |at| at + WARNING_INTERVAL);
        self.due.get_or_insert(allowed.max(now + REPORT_DELAY));
    }

    /// When to call [`UnreadReports::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.due
    }

    /// Tells what there is, if it is time to.
    pub(super) fn handle_timeout(&mut self, now: u64) {
        if self.due.is_some_and(|due| due <= now) {
            (self.due, self.told_at) = (None, Some(now));
            self.tell();
        }
    }

    /// Tells what there is: by [`UnreadReports::handle_timeout`], and before the producer ends.
    pub(super) fn tell(&self) {
        for line in self.failures.take_unread().lines() {
            log::warn!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unread_failures_are_told_soon_and_then_seldom() {
        let mut reports = UnreadReports::new(Arc::default());
        assert_eq!(reports.poll_timeout(), None);
        reports.handle_news(5);
        reports.handle_news(9);
        assert_eq!(reports.poll_timeout(), Some(5 + REPORT_DELAY));
        reports.handle_timeout(4 + REPORT_DELAY);
        assert!(reports.due.is_some());
        let told_at = 7 + REPORT_DELAY;
        reports.handle_timeout(told_at);
        assert_eq!(reports.poll_timeout(), None);
        reports.handle_news(told_at + 1);
        assert_eq!(reports.poll_timeout(), Some(told_at + WARNING_INTERVAL));
        let later = told_at + 3 * WARNING_INTERVAL;
        reports.handle_timeout(later);
        reports.handle_news(later + 2 * WARNING_INTERVAL);
        assert_eq!(reports.poll_timeout(), Some(later + 2 * WARNING_INTERVAL + REPORT_DELAY));
    }

    #[test]
    fn the_same_problem_is_a_warning_now_and_then_only() {
        let mut warnings = Warnings::default();
        let interval = WARNING_INTERVAL;
        assert!(warnings.is_due(5, "a:1: refused"));
        // Two bootstrap servers take turns.
        assert!(warnings.is_due(6, "b:1: refused"));
        assert!(!warnings.is_due(7, "a:1: refused") && !warnings.is_due(8, "b:1: refused"));
        assert!(warnings.is_due(9, "a:1: timed out"), "that is news");
        assert!(!warnings.is_due(interval + 4, "a:1: refused"));
        assert!(warnings.is_due(interval + 5, "a:1: refused"));
        assert!(!warnings.is_due(interval + 5, "b:1: refused"));
        assert!(warnings.is_due(3 * interval, "b:1: refused"));
        assert_eq!(warnings.recent.len(), 1, "old ones are forgotten");
        let lasted = Duration::from_millis(3 * interval / 1_000_000);
        assert_eq!(warnings.end(3 * interval + 5), Some(lasted));
        assert_eq!(warnings.end(3 * interval + 6), None, "said once");
    }
}
