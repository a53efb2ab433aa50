//! Every metric that a monitoring system is told: its name, what it means, where its value is.
//!
//! The tables here are the only place with these. What writes them out in some form is an
//! [`Exposition`]: the page for Prometheus, the facade `metrics`, a registry of
//! `prometheus-client`.

use std::fmt;
use std::time::Duration;

use crate::engine::batch::{BrokerMetrics, Metrics, TopicMetrics};
use crate::engine::meter::{Histogram, RecordCounts};

/// Times are told in buckets that end at 2^6 to 2^26 microseconds: 64 µs to 67 s.
const TIME_BITS: std::ops::RangeInclusive<u32> = 6..=26;

/// Sizes are told in buckets that end before 2^0 to 2^24.
const SIZE_BITS: std::ops::RangeInclusive<u32> = 0..=24;

/// What kind of numbers a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A sum that only grows. Its name ends in `_total`.
    Counter,
    /// A number of the moment.
    Gauge,
    /// A distribution of microseconds, told in seconds.
    Times,
    /// A distribution of whole numbers.
    Sizes,
}

/// A metric, of which there may be a value for each topic or broker.
pub(super) struct Family {
    pub name: String,
    pub help: &'static str,
    pub kind: Kind,
}

/// A label's name and value.
pub(super) type Label = (&'static str, String);

/// One value of a metric.
pub(super) struct Sample<'a> {
    pub labels: &'a [Label],
    pub value: Value<'a>,
}

/// The value.
pub(super) enum Value<'a> {
    Whole(u64),
    Seconds(f64),
    Distribution(&'a Histogram),
}

/// Where metrics are written to.
pub(super) trait Exposition {
    /// A metric and all its values.
    fn family(
        &mut self,
        family: &Family,
        samples: &mut dyn Iterator<Item = Sample<'_>>,
    ) -> fmt::Result;
}

/// A row of a table: a metric of something that is a `T`.
struct Row<T> {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// `None`: there is no value now.
    read: fn(&T) -> Option<Value<'_>>,
}

const fn row<T>(
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: fn(&T) -> Option<Value<'_>>,
) -> Row<T> {
    Row { name, help, kind, read }
}

fn whole<'a>(number: u64) -> Option<Value<'a>> {
    Some(Value::Whole(number))
}

fn bytes<'a>(number: usize) -> Option<Value<'a>> {
    whole(number as u64)
}

fn seconds<'a>(time: Duration) -> Option<Value<'a>> {
    Some(Value::Seconds(time.as_secs_f64()))
}

fn distribution(histogram: &Histogram) -> Option<Value<'_>> {
    Some(Value::Distribution(histogram))
}

use Kind::{Counter, Gauge, Sizes, Times};

/// Of the producer as a whole, beside the sums of [`RECORDS`].
const PRODUCER: &[Row<Metrics>] = &[
    row("memory_capacity_bytes", "Buffer memory.", Gauge, |it| bytes(it.memory_capacity)),
    row("memory_free_bytes", "Buffer memory that is not taken.", Gauge, |it| bytes(it.memory_free)),
    row("metadata_age_seconds", "Age of the last answer about leaders.", Gauge, |it| {
        it.metadata_age.and_then(seconds)
    }),
    row("unread_failures_total", "Failed records nobody looked at.", Counter, |it| {
        whole(it.failed.unread)
    }),
    row("fallback_records_total", "Records that the fallback was called with.", Counter, |it| {
        whole(it.fallback_records)
    }),
    row("maybe_written_failures_total", "Failed records that may be in the log.", Counter, |it| {
        whole(it.failed.maybe_written)
    }),
];

/// Of records: for each topic or partition, and with `producer_` before the name for the whole
/// producer, those topics included that are not in use any more.
const RECORDS: &[Row<RecordCounts>] = &[
    row("records_total", "Records in closed batches.", Counter, |it| whole(it.records)),
    row("record_bytes_total", "Bytes of closed batches, uncompressed.", Counter, |it| {
        whole(it.bytes)
    }),
    row("batches_total", "Batches that were closed.", Counter, |it| whole(it.batches)),
    row("acked_records_total", "Records that are in the log.", Counter, |it| {
        whole(it.acked_records)
    }),
    row("acked_bytes_total", "Bytes of batches that are in the log, as sent.", Counter, |it| {
        whole(it.acked_bytes)
    }),
    row("acked_batches_total", "Batches that are in the log.", Counter, |it| {
        whole(it.acked_batches)
    }),
    row("failed_records_total", "Records that failed.", Counter, |it| whole(it.failed_records)),
    row("retries_total", "Batches that were sent again.", Counter, |it| whole(it.retries)),
    row("dropped_records_total", "Records that the backoff strategy dropped.", Counter, |it| {
        whole(it.dropped_records)
    }),
];

/// What a topic or a partition has not delivered yet.
struct Unresolved {
    batches: u64,
    open_for: Option<Duration>,
}

/// Of what waits: for each topic or partition.
const UNRESOLVED: &[Row<Unresolved>] = &[
    row("unresolved_batches", "Batches that are neither in the log nor failed.", Gauge, |it| {
        whole(it.batches)
    }),
    row("open_batch_age_seconds", "Age of the oldest batch that is not closed.", Gauge, |it| {
        seconds(it.open_for.unwrap_or_default())
    }),
];

/// A value of a label, and the metric's value there.
type Part = (&'static str, fn(&Metrics) -> u64);

/// A metric of the whole producer that has a value for each value of a label.
struct Split {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    parts: &'static [Part],
}

const SPLITS: &[Split] = &[
    Split {
        name: "failed_records_by_cause_total",
        help: "Records that failed, by cause.",
        label: "cause",
        parts: &[
            ("timed_out", |it| it.failed.timed_out),
            ("refused", |it| it.failed.refused),
            ("disconnected", |it| it.failed.disconnected),
            ("unknown_topic", |it| it.failed.unknown_topic),
            ("closed", |it| it.failed.closed),
            ("other", |it| it.failed.other),
        ],
    },
    Split {
        name: "dropped_records_by_scope_total",
        help: "Records that the backoff strategy dropped, by what was full.",
        label: "scope",
        parts: &[
            ("broker", |it| it.dropped.broker),
            ("pool", |it| it.dropped.pool),
            ("stash", |it| it.dropped.stash),
            ("leaderless", |it| it.dropped.leaderless),
        ],
    },
];

/// Of each broker.
const BROKERS: &[Row<BrokerMetrics>] = &[
    row("broker_connected", "Whether the connection is ready.", Gauge, |it| {
        whole(u64::from(it.is_connected))
    }),
    row(
        "broker_writable",
        "1 if the broker takes records; 0 from above the high watermark until below the low one.",
        Gauge,
        |it| whole(u64::from(it.writable)),
    ),
    row("broker_charged_bytes", "Bytes that wait or are in flight.", Gauge, |it| bytes(it.charged)),
    row("broker_high_watermark_bytes", "The high watermark.", Gauge, |it| bytes(it.high)),
    row("broker_low_watermark_bytes", "The low watermark.", Gauge, |it| bytes(it.low)),
    row("broker_requests_in_flight", "Produce requests in flight.", Gauge, |it| {
        whole(it.in_flight)
    }),
    row("broker_requests_total", "Produce requests.", Counter, |it| whole(it.requests)),
    row("broker_request_bytes_total", "Their bytes.", Counter, |it| whole(it.request_bytes)),
    row("broker_request_records_total", "Their records.", Counter, |it| whole(it.request_records)),
    row("broker_responses_total", "Those that were answered.", Counter, |it| whole(it.responses)),
    row("broker_connects_total", "Connections made.", Counter, |it| whole(it.connects)),
    row("broker_connection_failures_total", "Connections lost or not made.", Counter, |it| {
        whole(it.connection_failures)
    }),
    row("broker_plain_bytes_total", "Bytes before compression.", Counter, |it| {
        whole(it.plain_bytes)
    }),
    row("broker_packed_bytes_total", "Bytes after compression.", Counter, |it| {
        whole(it.packed_bytes)
    }),
    row("broker_throttles_total", "Answers that asked for a pause.", Counter, |it| {
        whole(it.throttles)
    }),
    row("broker_dropped_records_total", "Records dropped while it was full.", Counter, |it| {
        whole(it.dropped_records)
    }),
    row("broker_throttle_seconds_total", "Pauses that brokers asked for.", Counter, |it| {
        seconds(it.throttle_time)
    }),
    row("broker_request_latency_seconds", "From request to answer.", Times, |it| {
        distribution(&it.request_latency_us)
    }),
    row("broker_queue_time_seconds", "From a batch's first record to its request.", Times, |it| {
        distribution(&it.queue_time_us)
    }),
    row("broker_batch_bytes", "Bytes of a batch as sent.", Sizes, |it| {
        distribution(&it.batch_bytes)
    }),
    row("broker_batch_records", "Records of a batch.", Sizes, |it| distribution(&it.batch_records)),
];

/// Something of a producer that has values, and its labels.
type Place<T> = (Vec<Label>, T);

/// Writes the metrics of some producers. The label `client_id` tells those of one from those of
/// another. Records are told for each topic, or if `by_partition` for each partition.
pub(super) fn expose(
    producers: &[&Metrics],
    by_partition: bool,
    out: &mut dyn Exposition,
) -> fmt::Result {
    let (mut wholes, mut brokers) = (Vec::new(), Vec::new());
    let (mut records, mut unresolved) = (Vec::new(), Vec::new());
    for metrics in producers {
        let own = vec![("client_id", metrics.client_id.to_string())];
        brokers.extend(metrics.brokers.iter().map(|broker| {
            let labels = with_label(&own, "broker", broker.broker.to_string());
            (labels, broker)
        }));
        for topic in &metrics.topics {
            let labels = with_label(&own, "topic", topic.topic.to_string());
            if by_partition {
                add_partitions(&labels, topic, &mut records, &mut unresolved);
            } else {
                unresolved.push((labels.clone(), unresolved_of(topic)));
                records.push((labels, topic.records));
            }
        }
        wholes.push((own, *metrics));
    }
    rows(PRODUCER, "", &wholes, |it| *it, out)?;
    rows(RECORDS, "producer_", &wholes, |it| &it.records, out)?;
    SPLITS.iter().try_for_each(|split| parts(split, &wholes, out))?;
    rows(RECORDS, "", &records, |it| it, out)?;
    rows(UNRESOLVED, "", &unresolved, |it| it, out)?;
    rows(BROKERS, "", &brokers, |it| *it, out)
}

fn with_label(labels: &[Label], name: &'static str, value: String) -> Vec<Label> {
    labels.iter().cloned().chain([(name, value)]).collect()
}

fn add_partitions(
    labels: &[Label],
    topic: &TopicMetrics,
    records: &mut Vec<Place<RecordCounts>>,
    unresolved: &mut Vec<Place<Unresolved>>,
) {
    let mut in_partitions = RecordCounts::default();
    for partition in &topic.partitions {
        let labels = with_label(labels, "partition", partition.partition.to_string());
        in_partitions += partition.records;
        let (batches, open_for) = (partition.unresolved_batches, partition.open_for);
        unresolved.push((labels.clone(), Unresolved { batches, open_for }));
        records.push((labels, partition.records));
    }
    // What failed or was dropped before it had a partition, so that the sums are right.
    let rest = RecordCounts {
        failed_records: topic.records.failed_records.saturating_sub(in_partitions.failed_records),
        dropped_records: topic
            .records
            .dropped_records
            .saturating_sub(in_partitions.dropped_records),
        ..RecordCounts::default()
    };
    if rest != RecordCounts::default() {
        records.push((with_label(labels, "partition", String::new()), rest));
    }
}

fn unresolved_of(topic: &TopicMetrics) -> Unresolved {
    let partitions = topic.partitions.iter();
    Unresolved {
        batches: partitions.clone().map(|it| it.unresolved_batches).sum(),
        open_for: partitions.filter_map(|it| it.open_for).max(),
    }
}

/// Every metric of a table, with a value for each place.
fn rows<P, T>(
    table: &[Row<T>],
    prefix: &str,
    places: &[Place<P>],
    of: impl Fn(&P) -> &T,
    out: &mut dyn Exposition,
) -> fmt::Result {
    for row in table {
        let family = family(prefix, row.name, row.help, row.kind);
        let mut samples = places.iter().filter_map(|(labels, place)| {
            (row.read)(of(place)).map(|value| Sample { labels, value })
        });
        out.family(&family, &mut samples)?;
    }
    Ok(())
}

fn parts(split: &Split, producers: &[Place<&Metrics>], out: &mut dyn Exposition) -> fmt::Result {
    let family = family("", split.name, split.help, Counter);
    let labelled: Vec<Place<u64>> = producers
        .iter()
        .flat_map(|(labels, metrics)| {
            split.parts.iter().map(move |(part, read)| {
                (with_label(labels, split.label, (*part).to_owned()), read(metrics))
            })
        })
        .collect();
    let mut samples =
        labelled.iter().map(|(labels, number)| Sample { labels, value: Value::Whole(*number) });
    out.family(&family, &mut samples)
}

fn family(prefix: &str, name: &str, help: &'static str, kind: Kind) -> Family {
    Family { name: format!("tidegate_{prefix}{name}"), help, kind }
}

/// A distribution in the buckets that monitoring systems are told: where each ends, in seconds or
/// as a whole number, and how many values are in it. The last one has no end.
pub(super) fn told_buckets(histogram: &Histogram, is_time: bool) -> Vec<(f64, u64)> {
    let mut buckets = histogram.buckets().peekable();
    let mut told = Vec::with_capacity(SIZE_BITS.count() + 1);
    for bits in if is_time { TIME_BITS } else { SIZE_BITS } {
        let bound = 1_u64 << bits;
        let mut in_it = 0;
        // A bucket's largest value is one below a power of two where the bucket ends there.
        while let Some((_, count)) = buckets.next_if(|(upper, _)| *upper < bound) {
            in_it += count;
        }
        // Times are whole microseconds, cut off: below the bound. Sizes are whole: up to the
        // number before it.
        told.push((if is_time { bound as f64 / 1e6 } else { (bound - 1) as f64 }, in_it));
    }
    told.push((f64::INFINITY, buckets.map(|(_, count)| count).sum()));
    told
}
