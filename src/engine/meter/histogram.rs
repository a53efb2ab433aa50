//! Distributions of times and sizes, in buckets of about 12 % width.
//!
//! A bucket's width is an eighth of the power of two that it begins in, so a quantile is told
//! within an eighth. Written with one relaxed load and store for each of three numbers, by one
//! thread.

use std::fmt;
use std::ops::AddAssign;

use super::Counter;

/// Buckets of one power of two.
const PER_OCTAVE: u64 = 8;

/// `PER_OCTAVE` as a power of two.
const OCTAVE_BITS: u32 = PER_OCTAVE.trailing_zeros();

/// Values from here on are counted in the last bucket: 2^40 microseconds are twelve days.
const VALUE_BITS_MAX: u32 = 40;

/// Values below [`PER_OCTAVE`] have a bucket each, then each octave has [`PER_OCTAVE`] of them.
const BUCKETS: usize = ((VALUE_BITS_MAX - OCTAVE_BITS + 1) as usize) * PER_OCTAVE as usize;

/// Where a value is counted.
#[inline]
fn bucket_of(value: u64) -> usize {
    if value < PER_OCTAVE {
        return value as usize;
    }
    let octave = value.ilog2() - OCTAVE_BITS;
    let place = (value >> octave) - PER_OCTAVE;
    let bucket = (u64::from(octave) + 1) * PER_OCTAVE + place;
    (bucket as usize).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (octave, place) = (bucket as u64 / PER_OCTAVE, bucket as u64 % PER_OCTAVE);
    match octave {
        0 => place,
        _ => ((PER_OCTAVE + place + 1) << (octave - 1)) - 1,
    }
}

/// A distribution in the making: one thread writes, any thread takes a [`Histogram`] of it.
/// 2.4 KiB.
pub struct HistogramRecorder {
    counts: Box<[Counter; BUCKETS]>,
    sum: Counter,
    max: Counter,
}

impl HistogramRecorder {
    /// By the only writer: counts a value.
    #[inline]
    pub fn record(&self, value: u64) {
        self.counts[bucket_of(value)].add(1);
        self.sum.add(value);
        if value > self.max.get() {
            self.max.set(value);
        }
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Histogram {
        let counts: Vec<u64> = self.counts.iter().map(Counter::get).collect();
        let used = counts.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        Histogram { counts: counts[..used].into(), sum: self.sum.get(), max: self.max.get() }
    }
}

impl Default for HistogramRecorder {
    fn default() -> Self {
        let counts = Box::new([const { Counter::new() }; BUCKETS]);
        HistogramRecorder { counts, sum: Counter::default(), max: Counter::default() }
    }
}

/// A distribution of times in microseconds, or of sizes in bytes or records, since the producer was
/// built. Values are told within an eighth.
///
/// ```
/// # #[cfg(feature = "embedded")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// producer.topic("orders")?.send("key", "value")?.wait()?;
/// let latency = &producer.metrics().brokers[0].request_latency_us;
/// assert_eq!(latency.count(), 1);
/// println!("{} us at the median, {} us at most", latency.quantile(0.5), latency.max());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "embedded"))]
/// # fn main() {}
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Without the empty buckets at the end.
    counts: Box<[u64]>,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the values.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The greatest value, exact.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean; 0 where nothing was counted.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count()).unwrap_or(0)
    }

    /// The value that this share of the values is not above (0.99 for the 99th percentile), up to
    /// an eighth too large and never above [`Histogram::max`]; 0 where nothing was counted. A share
    /// below 0 counts as 0, one above 1 as 1.
    pub fn quantile(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = ((count as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        for (bucket, &in_it) in self.counts.iter().enumerate() {
            below += in_it;
            if below >= rank {
                return upper_bound(bucket).min(self.max);
            }
        }
        0
    }

    /// The values that were counted since `before`, an earlier snapshot of the same distribution.
    /// Where `before` is of another one (the broker was gone meanwhile), all values. The greatest
    /// one is then told as the others are, within an eighth.
    ///
    /// ```
    /// # fn example(producer: &tidegate::Producer, before: &tidegate::Metrics) {
    /// let now = producer.metrics();
    /// let latest = now.brokers[0].request_latency_us.since(&before.brokers[0].request_latency_us);
    /// println!("p99 since then: {} us", latest.quantile(0.99));
    /// # }
    /// ```
    pub fn since(&self, before: &Histogram) -> Histogram {
        let earlier = |bucket: usize| before.counts.get(bucket).copied().unwrap_or(0);
        let is_later = before.counts.len() <= self.counts.len()
            && before.sum <= self.sum
            && self.counts.iter().enumerate().all(|(bucket, &now)| earlier(bucket) <= now);
        if !is_later {
            return self.clone();
        }
        let counts = self.counts.iter().enumerate().map(|(bucket, now)| now - earlier(bucket));
        let mut counts: Vec<u64> = counts.collect();
        let used = counts.iter().rposition(|&count| count > 0).map_or(0, |last| last + 1);
        counts.truncate(used);
        let max = used.checked_sub(1).map_or(0, |last| upper_bound(last).min(self.max));
        Histogram { counts: counts.into(), sum: self.sum - before.sum, max }
    }

    /// Each bucket that is not empty: its largest value, and how many values are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, &count)| (upper_bound(bucket), count))
    }
}

impl AddAssign<&Histogram> for Histogram {
    /// The values of both.
    fn add_assign(&mut self, other: &Histogram) {
        if other.counts.len() > self.counts.len() {
            let mut counts = self.counts.to_vec();
            counts.resize(other.counts.len(), 0);
            self.counts = counts.into();
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("median", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .field("max", &self.max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap_and_are_an_eighth_wide() {
        let mut below = 0;
        for bucket in 0..BUCKETS {
            let upper = upper_bound(bucket);
            assert_eq!(bucket_of(below), bucket);
            assert_eq!(bucket_of(upper), bucket);
            assert!(upper - below <= below / PER_OCTAVE, "{below}..={upper}");
            below = upper + 1;
        }
        assert_eq!(below, 1 << VALUE_BITS_MAX);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_told_within_an_eighth() {
        let recorder = HistogramRecorder::default();
        assert_eq!(recorder.snapshot().quantile(0.99), 0);
        for value in 1..=1_000 {
            recorder.record(value);
        }
        let histogram = recorder.snapshot();
        assert_eq!((histogram.count(), histogram.sum()), (1_000, 500_500));
        assert_eq!((histogram.max(), histogram.mean()), (1_000, 500));
        for (share, value) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let told = histogram.quantile(share);
            assert!(told >= value && told <= value + value / 8, "{share}: {told}");
        }
    }

    #[test]
    fn what_came_since_an_earlier_snapshot_is_a_distribution_of_its_own() {
        let recorder = HistogramRecorder::default();
        recorder.record(70_000);
        recorder.record(5);
        let before = recorder.snapshot();
        assert_eq!(before.since(&before), Histogram::default());
        recorder.record(5);
        recorder.record(900);
        let now = recorder.snapshot();
        let since = now.since(&before);
        assert_eq!((since.count(), since.sum(), since.quantile(0.5)), (2, 905, 5));
        assert!((900..=900 + 900 / 8).contains(&since.max()), "{since:?}");
        assert_eq!(now.since(&Histogram::default()), now);
        // Of a broker that came back, whose meter began anew.
        assert_eq!(before.since(&now), before);
    }

    #[test]
    fn two_distributions_add_up() {
        let (few, many) = (HistogramRecorder::default(), HistogramRecorder::default());
        few.record(3);
        (0..10).for_each(|_| many.record(70_000));
        let mut sum = few.snapshot();
        sum += &many.snapshot();
        assert_eq!((sum.count(), sum.max(), sum.sum()), (11, 70_000, 700_003));
        assert_eq!(sum.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [1, 10]);
    }
}
