//! Random numbers for jitter and for spreading load: quick to make, and no secret.

/// A generator of random numbers: xorshift, with 64 bits of state.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Two generators with the same seed give the same numbers.
    pub fn new(seed: u64) -> Self {
        // 0 is the one state that xorshift never leaves.
        Random(seed | 1)
    }

    /// The next number, of all that 64 bits hold but 0.
    pub fn draw(&mut self) -> u64 {
        self.0 = step(self.0);
        self.0
    }
}

/// The state that follows `state`, which is the next number as well; for a state that is kept in an
/// atomic.
#[inline]
pub fn step(mut state: u64) -> u64 {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    state
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_and_the_same_seed_gives_the_same() {
        for seed in [0, 1, u64::MAX] {
            let (mut one, mut other) = (Random::new(seed), Random::new(seed));
            let numbers: std::collections::BTreeSet<_> = (0..1_000).map(|_| one.draw()).collect();
            assert_eq!(numbers.len(), 1_000);
            assert!((0..1_000).all(|_| numbers.contains(&other.draw())));
        }
    }
}
