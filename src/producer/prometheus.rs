//! Metrics in the text format of Prometheus.

use std::fmt;

use crate::engine::batch::{BrokerMetrics, Metrics, TopicMetrics};
use crate::engine::meter::{Histogram, RecordCounts};

/// Times are told in buckets that end at 2^6 to 2^26 microseconds: 64 µs to 67 s.
const TIME_BITS: std::ops::RangeInclusive<u32> = 6..=26;

/// Sizes are told in buckets that end before 2^0 to 2^24.
const SIZE_BITS: std::ops::RangeInclusive<u32> = 0..=24;

type Read = fn(&RecordCounts) -> u64;

/// What is told of records: for each topic or partition, and for the whole producer.
const RECORDS: &[(&str, &str, Read)] = &[
    ("records_total", "Records in closed batches.", |it| it.records),
    ("record_bytes_total", "Bytes of those batches, uncompressed.", |it| it.bytes),
    ("batches_total", "Those batches.", |it| it.batches),
    ("acked_records_total", "Records that are in the log.", |it| it.acked_records),
    ("acked_bytes_total", "Bytes of their batches as sent.", |it| it.acked_bytes),
    ("acked_batches_total", "Their batches.", |it| it.acked_batches),
    ("failed_records_total", "Records that failed.", |it| it.failed_records),
    ("retries_total", "Batches that were sent again.", |it| it.retries),
    ("dropped_records_total", "Records that the backoff strategy dropped.", |it| {
        it.dropped_records
    }),
];

/// Metrics as a page that Prometheus scrapes (text format 0.0.4): [`Metrics::prometheus`].
pub struct PrometheusText<'a> {
    metrics: &'a Metrics,
    with_partitions: bool,
}

impl Metrics {
    /// The metrics as a page for Prometheus, to be served with the content type
    /// `text/plain; version=0.0.4`. Counters end in `_total`; times are in seconds. Records are
    /// told for each topic; [`PrometheusText::with_partitions`] tells them for each partition.
    ///
    /// ```no_run
    /// # fn example(producer: &tidegate::Producer) -> String {
    /// producer.metrics().prometheus().to_string()
    /// # }
    /// ```
    pub fn prometheus(&self) -> PrometheusText<'_> {
        PrometheusText { metrics: self, with_partitions: false }
    }
}

impl PrometheusText<'_> {
    /// Tells records for each partition, with the label `partition`, instead of for each topic:
    /// nine lines for each partition.
    pub fn with_partitions(self) -> Self {
        PrometheusText { with_partitions: true, ..self }
    }

    fn records(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        for &(name, help, read) in RECORDS {
            page.family(name, help, "counter")?;
            for topic in &self.metrics.topics {
                self.topic(page, name, topic, read)?;
            }
        }
        Ok(())
    }

    fn topic(
        &self,
        page: &mut Page<'_, '_>,
        name: &str,
        topic: &TopicMetrics,
        read: fn(&RecordCounts) -> u64,
    ) -> fmt::Result {
        let label = format!("topic=\"{}\"", topic.topic);
        if !self.with_partitions {
            return page.value(name, &label, read(&topic.records));
        }
        let mut rest = read(&topic.records);
        for partition in &topic.partitions {
            let number = read(&partition.records);
            rest = rest.saturating_sub(number);
            let label = format!("{label},partition=\"{}\"", partition.partition);
            page.value(name, &label, number)?;
        }
        // What failed or was dropped before it had a partition, so that the sum is right.
        if rest > 0 { page.value(name, &format!("{label},partition=\"\""), rest) } else { Ok(()) }
    }

    fn brokers(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        type Read = fn(&BrokerMetrics) -> u64;
        let families: [(&str, &str, &str, Read); 11] = [
            ("broker_connected", "Whether the connection is ready.", "gauge", |it| {
                u64::from(it.is_connected)
            }),
            ("broker_writable", "Whether it is below its watermark.", "gauge", |it| {
                u64::from(it.writable)
            }),
            ("broker_charged_bytes", "Bytes that wait or are in flight.", "gauge", |it| {
                it.charged as u64
            }),
            ("broker_high_watermark_bytes", "The high watermark.", "gauge", |it| it.high as u64),
            ("broker_requests_in_flight", "Produce requests in flight.", "gauge", |it| {
                it.in_flight
            }),
            ("broker_requests_total", "Produce requests.", "counter", |it| it.requests),
            ("broker_request_bytes_total", "Their bytes.", "counter", |it| it.request_bytes),
            ("broker_connects_total", "Connections made.", "counter", |it| it.connects),
            (
                "broker_connection_failures_total",
                "Connections lost or not made.",
                "counter",
                |it| it.connection_failures,
            ),
            ("broker_plain_bytes_total", "Bytes before compression.", "counter", |it| {
                it.plain_bytes
            }),
            ("broker_packed_bytes_total", "Bytes after compression.", "counter", |it| {
                it.packed_bytes
            }),
        ];
        for (name, help, kind, read) in families {
            page.family(name, help, kind)?;
            for broker in &self.metrics.brokers {
                page.value(name, &broker_label(broker), read(broker))?;
            }
        }
        page.family("broker_throttle_seconds_total", "Pauses that brokers asked for.", "counter")?;
        for broker in &self.metrics.brokers {
            let seconds = broker.throttle_time.as_secs_f64();
            page.value("broker_throttle_seconds_total", &broker_label(broker), seconds)?;
        }
        Ok(())
    }

    fn distributions(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        type Read = fn(&BrokerMetrics) -> &Histogram;
        let families: [(&str, &str, bool, Read); 4] = [
            ("broker_request_latency_seconds", "From request to answer.", true, |it| {
                &it.request_latency_us
            }),
            (
                "broker_queue_time_seconds",
                "From a batch's first record to its request.",
                true,
                |it| &it.queue_time_us,
            ),
            ("broker_batch_bytes", "Bytes of a batch as sent.", false, |it| &it.batch_bytes),
            ("broker_batch_records", "Records of a batch.", false, |it| &it.batch_records),
        ];
        for (name, help, is_time, read) in families {
            page.family(name, help, "histogram")?;
            for broker in &self.metrics.brokers {
                page.histogram(name, &broker_label(broker), read(broker), is_time)?;
            }
        }
        Ok(())
    }

    fn totals(&self, page: &mut Page<'_, '_>) -> fmt::Result {
        let metrics = self.metrics;
        page.family("memory_capacity_bytes", "Buffer memory.", "gauge")?;
        page.value("memory_capacity_bytes", "", metrics.memory_capacity)?;
        page.family("memory_free_bytes", "Buffer memory that is not taken.", "gauge")?;
        page.value("memory_free_bytes", "", metrics.memory_free)?;
        if let Some(age) = metrics.metadata_age {
            page.family("metadata_age_seconds", "Age of the last answer about leaders.", "gauge")?;
            page.value("metadata_age_seconds", "", age.as_secs_f64())?;
        }
        // With those of topics that are not in use any more, whose own lines are gone.
        for &(name, help, read) in RECORDS {
            let name = format!("producer_{name}");
            page.family(&name, help, "counter")?;
            page.value(&name, "", read(&metrics.records))?;
        }
        let failed = &metrics.failed;
        let name = "failed_records_by_cause_total";
        page.family(name, "Records that failed, by cause.", "counter")?;
        for (cause, number) in [
            ("timed_out", failed.timed_out),
            ("refused", failed.refused),
            ("disconnected", failed.disconnected),
            ("unknown_topic", failed.unknown_topic),
            ("closed", failed.closed),
            ("other", failed.other),
        ] {
            page.value(name, &format!("cause=\"{cause}\""), number)?;
        }
        page.family("unread_failures_total", "Failed records nobody looked at.", "counter")?;
        page.value("unread_failures_total", "", failed.unread)
    }
}

impl fmt::Display for PrometheusText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = &mut Page(f);
        self.totals(page)?;
        self.records(page)?;
        self.brokers(page)?;
        self.distributions(page)
    }
}

/// Topic names need no escaping: Kafka allows letters, digits, dots, dashes and underscores.
fn broker_label(broker: &BrokerMetrics) -> String {
    format!("broker=\"{}\"", broker.broker)
}

struct Page<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Page<'_, '_> {
    fn family(&mut self, name: &str, help: &str, kind: &str) -> fmt::Result {
        writeln!(self.0, "# HELP tidegate_{name} {help}\n# TYPE tidegate_{name} {kind}")
    }

    fn value(&mut self, name: &str, labels: &str, value: impl fmt::Display) -> fmt::Result {
        match labels {
            "" => writeln!(self.0, "tidegate_{name} {value}"),
            _ => writeln!(self.0, "tidegate_{name}{{{labels}}} {value}"),
        }
    }

    fn histogram(
        &mut self,
        name: &str,
        label: &str,
        histogram: &Histogram,
        is_time: bool,
    ) -> fmt::Result {
        let mut buckets = histogram.buckets().peekable();
        let mut below = 0;
        for bits in if is_time { TIME_BITS } else { SIZE_BITS } {
            let bound = 1_u64 << bits;
            // A bucket's largest value is one below a power of two where the bucket ends there.
            while let Some((_, count)) = buckets.next_if(|(upper, _)| *upper < bound) {
                below += count;
            }
            // Times are whole microseconds, cut off: below the bound. Sizes are whole: up to the
            // number before it.
            let le = if is_time { bound as f64 / 1e6 } else { (bound - 1) as f64 };
            self.value(&format!("{name}_bucket"), &format!("{label},le=\"{le}\""), below)?;
        }
        let count = histogram.count();
        self.value(&format!("{name}_bucket"), &format!("{label},le=\"+Inf\""), count)?;
        match is_time {
            true => self.value(&format!("{name}_sum"), label, histogram.sum() as f64 / 1e6)?,
            false => self.value(&format!("{name}_sum"), label, histogram.sum())?,
        }
        self.value(&format!("{name}_count"), label, count)
    }
}
