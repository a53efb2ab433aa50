//! Random numbers for jitter and for spreading load: quick to make, and no secret.

use std::hash::{BuildHasher, RandomState};

/// A generator of random numbers: xorshift, with 64 bits of state.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Two generators with the same seed give the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(state_of(seed))
    }

    /// The next number, of all that 64 bits hold but 0.
    pub fn draw(&mut self) -> u64 {
        self.0 = step(self.0);
        self.0
    }
}

/// A seed that differs from call to call and from process to process.
pub(crate) fn seed() -> u64 {
    // A fork's child goes on with the parent's random keys: its id tells the two apart.
    RandomState::new().hash_one(std::process::id())
}

/// The state that a seed begins with, for [`step`].
pub fn state_of(seed: u64) -> u64 {
    // 0 is the one state that xorshift never leaves.
    seed | 1
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

/// A number that looks random for each `n`, neighbours included: for a counter that several threads
/// share, where a state would be drawn from twice. The last step of SplitMix64.
#[inline]
pub fn scatter(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A number from 0 and below `range`, which is positive, out of 64 random bits.
#[inline]
pub fn below(random: u64, range: i32) -> i32 {
    // The upper half scaled down: no division, and no bias that would matter.
    (((random >> 32) * range as u64) >> 32) as i32
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

    #[test]
    fn neighbours_are_scattered_evenly() {
        let mut shares = [0_u32; 12];
        for n in 0..12_000 {
            shares[below(scatter(n), 12) as usize] += 1;
        }
        // 1,000 expected; the standard deviation is about 30.
        assert!(shares.iter().all(|share| (850..1_150).contains(share)), "{shares:?}");
        assert_eq!((below(u64::MAX, 7), below(0, 7)), (6, 0));
    }
}
