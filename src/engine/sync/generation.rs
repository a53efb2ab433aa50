//! Which process of a family of forks this is.
//!
//! A fork's child has the parent's memory and none of its threads: the parent's handles wait there
//! for nobody, and a lock that another thread held at that moment stays locked. So everything that
//! has threads or locks notes the generation that it was born in, and is left alone in a later one:
//! refused where an error can be told, leaked where it is dropped.

use std::sync::atomic::{AtomicU32, Ordering};

/// A process and its forks counted down: the first is 0, its children are 1, theirs 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u32);

static CURRENT: AtomicU32 = AtomicU32::new(0);

impl Generation {
    /// This process's.
    #[inline]
    pub fn current() -> Self {
        // Only a fork's child changes it, in its single thread and before that goes on.
        Generation(CURRENT.load(Ordering::Relaxed))
    }

    /// Whether what was born then belongs to this process: one load and a comparison.
    #[inline]
    pub fn is_current(self) -> bool {
        self == Self::current()
    }

    /// By the handler that runs in a fork's child.
    pub fn advance() {
        CURRENT.fetch_add(1, Ordering::Relaxed);
    }
}
