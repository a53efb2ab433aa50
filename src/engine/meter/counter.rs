//! A number that one thread changes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that grows.
///
/// [`Counter::add`] costs a load and a store: it is for the one thread that has the lane or the
/// broker now. A lane changes its shard by a message, which orders the one writer's stores before
/// the next one's. Where several threads count at once, they use [`Counter::add_shared`].
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One that has counted nothing.
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// By the only writer.
    #[inline]
    pub fn add(&self, number: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(number), Relaxed);
    }

    /// By one of several writers.
    #[inline]
    pub fn add_shared(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    /// By the only writer: another value, of something that does not only grow.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The present value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
