//! How long to wait before somebody who could not be reached is connected to again.

/// While reconnecting is quick no wait is longer than this: a broker that restarts within half a
/// minute is used within a fifth of a second of its being back. In nanoseconds.
const QUICK_WAIT_MAX: u64 = 200_000_000;

/// Of a wait's length, by how many hundredths it is varied (KIP-580): clients that lost the same
/// broker must not come back in step.
pub const JITTER_PERCENT: u64 = 20;

/// The waits between attempts to connect. Times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconnectBackoff {
    /// The first wait; each further one is twice as long.
    pub first: u64,
    /// The longest wait, before jitter.
    pub longest: u64,
    /// For so long after the first failure no wait is longer than 200 ms (or than `first`, if that
    /// is more).
    pub quick: u64,
    /// By how many hundredths waits are shorter or longer, at random: `JITTER_PERCENT`, or 0
    /// where a test looks at times.
    pub jitter_percent: u64,
}

impl ReconnectBackoff {
    /// The time, shorter or longer at random.
    pub fn vary(&self, time: u64, random: u64) -> u64 {
        let shortest = self.shortest(time);
        let range = (time - shortest).saturating_mul(2);
        shortest.saturating_add(random % range.saturating_add(1))
    }

    /// The time, longer at random: for what may not come earlier.
    pub fn lengthen(&self, time: u64, random: u64) -> u64 {
        let range = time - self.shortest(time);
        time.saturating_add(random % range.saturating_add(1))
    }

    /// The shortest time that [`vary`](Self::vary) makes of it.
    pub fn shortest(&self, time: u64) -> u64 {
        time - time / 100 * self.jitter_percent.min(100)
    }
}

/// Where somebody who cannot be reached stands in a [`ReconnectBackoff`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReconnectWaits {
    /// When the first of the failures in a row was.
    since: Option<u64>,
    wait: u64,
    failures: u32,
}

impl ReconnectWaits {
    /// Counts another failure. Returns the wait that follows, before jitter.
    pub fn fail(&mut self, now: u64, backoff: &ReconnectBackoff) -> u64 {
        let since = *self.since.get_or_insert(now);
        let grown = if self.failures == 0 { backoff.first } else { self.wait.saturating_mul(2) };
        let is_quick = now.saturating_sub(since) < backoff.quick;
        let quick_max = backoff.longest.min(QUICK_WAIT_MAX.max(backoff.first));
        self.failures = self.failures.saturating_add(1);
        self.wait = grown.min(if is_quick { quick_max } else { backoff.longest });
        self.wait
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The present wait, before jitter; 0 without a failure.
    pub fn wait(&self) -> u64 {
        self.wait
    }

    /// It was reached: the next failure is a first one.
    pub fn reset(&mut self) {
        *self = ReconnectWaits::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;
    const BACKOFF: ReconnectBackoff = ReconnectBackoff {
        first: 50 * MS,
        longest: SECOND,
        quick: 30 * SECOND,
        jitter_percent: 20,
    };

    /// The times of the attempts within `time`, each of which fails at once, without jitter.
    fn attempts(backoff: &ReconnectBackoff, time: u64) -> Vec<u64> {
        let (mut waits, mut now, mut attempts) = (ReconnectWaits::default(), 7, Vec::new());
        while now < 7 + time {
            attempts.push(now - 7);
            now += waits.fail(now, backoff);
        }
        attempts
    }

    #[test]
    fn c65_waits_are_short_for_half_a_minute_and_grow_to_the_longest_then() {
        let attempts = attempts(&BACKOFF, 60 * SECOND);
        assert_eq!(attempts[..5], [0, 50, 150, 350, 550].map(|ms| ms * MS));
        let gap_at = |time: u64| {
            let next = attempts.iter().position(|&at| at > time).expect("there are later ones");
            attempts[next] - attempts[next - 1]
        };
        assert_eq!(gap_at(20 * SECOND), 200 * MS);
        assert_eq!(gap_at(29 * SECOND), 200 * MS);
        assert_eq!(gap_at(32 * SECOND), SECOND);
        assert_eq!(gap_at(58 * SECOND), SECOND);
    }

    #[test]
    fn without_a_quick_time_waits_double_as_in_java() {
        let java = ReconnectBackoff { quick: 0, ..BACKOFF };
        let expected = [0, 50, 150, 350, 750, 1_550, 2_550, 3_550];
        assert_eq!(attempts(&java, 4 * SECOND), expected.map(|ms| ms * MS));
    }

    #[test]
    fn waits_that_are_set_are_kept_whatever_the_quick_time_says() {
        let short = ReconnectBackoff { longest: 60 * MS, ..BACKOFF };
        assert_eq!(attempts(&short, 200 * MS), [0, 50, 110, 170].map(|ms| ms * MS));
        let long = ReconnectBackoff { first: SECOND, longest: 8 * SECOND, ..BACKOFF };
        assert_eq!(attempts(&long, 3 * SECOND), [0, SECOND, 2 * SECOND]);
        let never =
            ReconnectBackoff { first: u64::MAX, longest: u64::MAX, quick: u64::MAX, ..BACKOFF };
        let mut waits = ReconnectWaits::default();
        assert_eq!([waits.fail(1, &never), waits.fail(2, &never)], [u64::MAX; 2]);
    }

    #[test]
    fn c65_jitter_is_a_fifth_to_either_side() {
        let vary = |time, random| BACKOFF.vary(time, random);
        assert_eq!([vary(100, 0), vary(100, 40), vary(0, u64::MAX)], [80, 120, 0]);
        let lengthen = |time, random| BACKOFF.lengthen(time, random);
        assert_eq!([lengthen(100, 0), lengthen(100, 20), lengthen(0, u64::MAX)], [100, 120, 0]);
        let times: Vec<u64> = (0..1_000).map(|n| vary(SECOND, n * 1_234_567_891)).collect();
        let (least, most) = (800 * MS, 1_200 * MS);
        assert!(times.iter().all(|time| (least..=most).contains(time)));
        let tenths: std::collections::BTreeSet<_> =
            times.iter().map(|time| time / (40 * MS)).collect();
        assert!(tenths.len() >= 10, "they are spread: {tenths:?}");
        assert!(vary(u64::MAX, u64::MAX) >= BACKOFF.shortest(u64::MAX));
        let exact = ReconnectBackoff { jitter_percent: 0, ..BACKOFF };
        assert_eq!([exact.vary(100, 7), exact.lengthen(100, 7)], [100, 100]);
    }
}
