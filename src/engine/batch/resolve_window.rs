//! Which batches of a lane are resolved, in a lane that may resolve them out of order.

use std::collections::VecDeque;

/// The lowest unresolved batch number, and the resolved ones above it.
#[derive(Debug, Default)]
pub struct ResolveWindow {
    /// Every number below is resolved.
    below: u64,
    /// Whether `below + index` is resolved; the first entry never is.
    above: VecDeque<bool>,
}

impl ResolveWindow {
    /// Every batch with a smaller number is resolved.
    pub fn below(&self) -> u64 {
        self.below
    }

    /// Marks one batch. Returns whether `below` moved. A number is marked once.
    pub fn mark(&mut self, number: u64) -> bool {
        assert!(number >= self.below, "a batch resolves once");
        let index = (number - self.below) as usize;
        if self.above.len() <= index {
            self.above.resize(index + 1, false);
        }
        assert!(!self.above[index], "a batch resolves once");
        self.above[index] = true;
        let before = self.below;
        while self.above.front() == Some(&true) {
            self.above.pop_front();
            self.below += 1;
        }
        self.below != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_past_every_resolved_number_and_not_further() {
        let mut window = ResolveWindow::default();
        assert!(!window.mark(1));
        assert!(!window.mark(3));
        assert_eq!(window.below(), 0);
        assert!(window.mark(0));
        assert_eq!(window.below(), 2);
        assert!(window.mark(2));
        assert_eq!(window.below(), 4);
    }

    #[test]
    #[should_panic(expected = "resolves once")]
    fn a_second_resolution_is_a_bug() {
        let mut window = ResolveWindow::default();
        window.mark(0);
        window.mark(0);
    }
}
