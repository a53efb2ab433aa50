//! Which warnings are news.

/// A problem that stays the same is a warning so often, in nanoseconds.
const WARNING_INTERVAL: u64 = 10_000_000_000;

/// What was warned of: a cluster that is away is tried several times a second, and each time the
/// same happens.
#[derive(Default)]
pub(super) struct Warnings {
    /// One for each bootstrap server, at the most.
    recent: Vec<(String, u64)>,
}

impl Warnings {
    /// Whether `text` is worth a warning: it was not one within [`WARNING_INTERVAL`].
    pub(super) fn is_due(&mut self, now: u64, text: &str) -> bool {
        self.recent.retain(|(_, at)| now.saturating_sub(*at) < WARNING_INTERVAL);
        if self.recent.iter().any(|(recent, _)| recent == text) {
            return false;
        }
        self.recent.push((text.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
