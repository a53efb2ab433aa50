//! What a run was like in numbers: totals, intervals, and latencies over time.

use hdrhistogram::Histogram;

/// The longest latency that is told apart from longer ones, in microseconds: an hour.
const LATENCY_MAX: u64 = 3_600_000_000;
/// Decimal digits to which latencies are kept: in all, and in a point of the plots.
const DIGITS: u8 = 3;
const DIGITS_OF_POINT: u8 = 2;
/// Points of a plot at the most: when there are more, each two become one.
const POINTS_MAX: usize = 512;
/// What a point stands for at first, in nanoseconds.
const POINT_NANOS: u64 = 100_000_000;

/// The nanoseconds in a second, and in a microsecond.
pub(super) const SECOND: u64 = 1_000_000_000;
const MICROSECOND: u64 = 1_000;
/// Bytes of the MB in which Kafka's tool counts.
const MEGABYTE: f64 = 1024.0 * 1024.0;

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, digits).expect("the bounds are in order")
}

/// Records, bytes and latencies of a time.
pub(super) struct Summary {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// In microseconds.
    pub(super) latencies: Histogram<u64>,
    sum_micros: u64,
    max_micros: u64,
}

impl Summary {
    fn new(digits: u8) -> Summary {
        let latencies = histogram(digits);
        Summary { records: 0, bytes: 0, latencies, sum_micros: 0, max_micros: 0 }
    }

    fn add(&mut self, bytes: usize, nanos: u64) {
        let micros = nanos / MICROSECOND;
        self.records += 1;
        self.bytes += bytes as u64;
        self.latencies.saturating_record(micros);
        self.sum_micros = self.sum_micros.saturating_add(micros);
        self.max_micros = self.max_micros.max(micros);
    }

    fn merge(&mut self, other: &Summary) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
        self.max_micros = self.max_micros.max(other.max_micros);
        // Both have the same bounds and digits.
        let _ = self.latencies.add(&other.latencies);
    }

    pub(super) fn average_ms(&self) -> f64 {
        self.sum_micros as f64 / 1_000.0 / self.records.max(1) as f64
    }

    pub(super) fn max_ms(&self) -> f64 {
        self.max_micros as f64 / 1_000.0
    }

    /// The latency in milliseconds that so many of a hundred records did not exceed.
    pub(super) fn percentile_ms(&self, percent: f64) -> f64 {
        let micros = self.latencies.value_at_percentile(percent).min(self.max_micros);
        micros as f64 / 1_000.0
    }

    /// Records and MB a second, of a time of so many nanoseconds.
    pub(super) fn rates(&self, nanos: u64) -> (f64, f64) {
        let seconds = nanos.max(1) as f64 / SECOND as f64;
        (self.records as f64 / seconds, self.bytes as f64 / MEGABYTE / seconds)
    }

    /// The line of Kafka's tool at the end. `kind` is nothing or ` steady state`.
    pub(super) fn line(&self, kind: &str, nanos: u64) -> String {
        let (records, megabytes) = self.rates(nanos);
        // Kafka's tool has whole milliseconds.
        let [p50, p95, p99, p999] =
            [50.0, 95.0, 99.0, 99.9].map(|percent| self.percentile_ms(percent).round());
        format!(
            "{}{kind} records sent, {records:.6} records/sec ({megabytes:.2} MB/sec), {:.2} ms avg \
             latency, {:.2} ms max latency, {p50} ms 50th, {p95} ms 95th, {p99} ms 99th, {p999} ms \
             99.9th.",
            self.records,
            self.average_ms(),
            self.max_ms(),
        )
    }

    /// The line of Kafka's tool for an interval.
    fn interval_line(&self, nanos: u64) -> String {
        let (records, megabytes) = self.rates(nanos);
        format!(
            "{} records sent, {records:.1} records/sec ({megabytes:.2} MB/sec), {:.1} ms avg \
             latency, {:.1} ms max latency.",
            self.records,
            self.average_ms(),
            self.max_ms(),
        )
    }
}

/// What the plots show, over time.
pub(super) struct Points {
    /// What each stands for, in nanoseconds.
    pub(super) each: u64,
    pub(super) points: Vec<Summary>,
}

impl Points {
    fn add(&mut self, at: u64, bytes: usize, nanos: u64) {
        while at / self.each >= POINTS_MAX as u64 {
            self.halve();
        }
        let index = (at / self.each) as usize;
        while self.points.len() <= index {
            self.points.push(Summary::new(DIGITS_OF_POINT));
        }
        self.points[index].add(bytes, nanos);
    }

    /// Makes one of each two. Histograms add up, so percentiles stay what they are.
    fn halve(&mut self) {
        let mut halved: Vec<Summary> = Vec::with_capacity(POINTS_MAX);
        for (index, point) in self.points.drain(..).enumerate() {
            match halved.last_mut() {
                Some(last) if index % 2 == 1 => last.merge(&point),
                _ => halved.push(point),
            }
        }
        self.points = halved;
        self.each *= 2;
    }
}

/// Everything that is counted of a run.
pub(super) struct Numbers {
    pub(super) total: Summary,
    /// Without the first records.
    pub(super) steady: Option<Steady>,
    pub(super) points: Points,
    /// When the last acknowledgement came, in nanoseconds.
    pub(super) ended: u64,
    pub(super) failed: u64,
    interval: Summary,
    interval_begun: u64,
    interval_nanos: u64,
}

/// The records after the first so many.
pub(super) struct Steady {
    pub(super) summary: Summary,
    warmup: u64,
    /// When the first of them was sent.
    pub(super) begun: u64,
}

impl Numbers {
    pub(super) fn new(warmup: u64, interval_nanos: u64) -> Numbers {
        let summary = || Summary::new(DIGITS);
        let steady = (warmup > 0).then(|| Steady { summary: summary(), warmup, begun: u64::MAX });
        Numbers {
            total: summary(),
            steady,
            points: Points { each: POINT_NANOS, points: Vec::new() },
            ended: 0,
            failed: 0,
            interval: summary(),
            interval_begun: 0,
            interval_nanos,
        }
    }

    /// Record number `index` is acknowledged; its latency was from `begun` to `at`.
    pub(super) fn acknowledged(&mut self, index: u64, begun: u64, at: u64, bytes: usize) {
        let nanos = at.saturating_sub(begun);
        self.total.add(bytes, nanos);
        self.interval.add(bytes, nanos);
        self.points.add(at, bytes, nanos);
        if let Some(steady) = &mut self.steady
            && index >= steady.warmup
        {
            steady.summary.add(bytes, nanos);
            steady.begun = steady.begun.min(begun);
        }
        self.ended = self.ended.max(at);
    }

    /// The line for the interval that ended by `now`, if one did.
    pub(super) fn poll_line(&mut self, now: u64) -> Option<String> {
        let nanos = now.saturating_sub(self.interval_begun);
        if nanos < self.interval_nanos {
            return None;
        }
        let line = self.interval.interval_line(nanos);
        self.interval = Summary::new(DIGITS);
        self.interval_begun = now;
        Some(line)
    }

    /// The last lines.
    pub(super) fn summary_lines(&self) -> Vec<String> {
        let mut lines = vec![self.total.line("", self.ended)];
        if let Some(steady) = self.steady.as_ref().filter(|steady| steady.summary.records > 0) {
            let nanos = self.ended.saturating_sub(steady.begun);
            lines.push(steady.summary.line(" steady state", nanos));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_line_has_the_form_of_kafkas_tool() {
        let mut numbers = Numbers::new(2, SECOND);
        for index in 0..4 {
            let begun = index * SECOND / 4;
            numbers.acknowledged(index, begun, begun + (index + 1) * 2_000_000, 524_288);
        }
        numbers.ended = SECOND;
        assert_eq!(
            numbers.summary_lines(),
            [
                "4 records sent, 4.000000 records/sec (2.00 MB/sec), 5.00 ms avg latency, 8.00 ms \
                 max latency, 4 ms 50th, 8 ms 95th, 8 ms 99th, 8 ms 99.9th.",
                "2 steady state records sent, 4.000000 records/sec (2.00 MB/sec), 7.00 ms avg \
                 latency, 8.00 ms max latency, 6 ms 50th, 8 ms 95th, 8 ms 99th, 8 ms 99.9th.",
            ]
        );
        let line = numbers.poll_line(SECOND).expect("a second is over");
        let told = "4 records sent, 4.0 records/sec (2.00 MB/sec), 5.0 ms avg latency, 8.0 ms max";
        assert!(line.starts_with(told), "{line}");
        assert_eq!(numbers.poll_line(SECOND + 1), None);
    }

    #[test]
    fn points_stay_few_and_lose_no_record() {
        let mut numbers = Numbers::new(0, SECOND);
        let mut records = 0;
        for at in (0..10_000 * SECOND).step_by((7 * SECOND) as usize) {
            numbers.acknowledged(records, at, at + records, 1);
            records += 1;
        }
        let points = &numbers.points;
        assert!(points.points.len() <= POINTS_MAX, "{}", points.points.len());
        assert_eq!(points.points.iter().map(|point| point.records).sum::<u64>(), records);
        let covered = points.each * points.points.len() as u64;
        assert!(covered > 9_990 * SECOND && covered < 10_100 * SECOND, "{covered}");
    }
}
