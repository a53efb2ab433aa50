//! What a run was like, for people and for programs.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tidegate::{Histogram, Metrics};

use super::numbers::{Numbers, SECOND, Summary};
use super::options::Options;

/// The percentiles of reports.
pub(super) const PERCENTILES: [f64; 6] = [50.0, 90.0, 95.0, 99.0, 99.9, 99.99];
/// Nanoseconds in a millisecond.
const MILLISECOND: u64 = 1_000_000;

/// A run that has ended.
pub(super) struct Run<'a> {
    pub(super) numbers: &'a Numbers,
    /// What was asked for, as names and values.
    pub(super) settings: Vec<(&'static str, String)>,
    /// Seconds since the Unix epoch.
    pub(super) ended_at: u64,
    pub(super) batches: Batches,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        options: &Options,
        numbers: &'a Numbers,
        client: Vec<(&'static str, String)>,
        batches: Batches,
    ) -> Run<'a> {
        let payload = match (&options.record_size, &options.payload_file) {
            (Some(bytes), _) => format!("{bytes} bytes"),
            (None, Some(file)) => format!("from {}", file.display()),
            (None, None) => "numbers".to_owned(),
        };
        let throughput = match options.limit() {
            Some(limit) => format!("{limit} records/s"),
            None => "as fast as possible".to_owned(),
        };
        let mut settings = vec![
            ("topic", options.topic.clone()),
            ("records", options.num_records.to_string()),
            ("values", payload),
            ("throughput", throughput),
        ];
        settings.extend(client);
        let given = options.shown_properties();
        if !given.is_empty() {
            settings.push(("properties given", given.join(" ")));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Run { numbers, settings, ended_at: since.as_secs(), batches }
    }

    /// What the summary line of Kafka's tool, in whole milliseconds, does not tell.
    pub(super) fn detail_lines(&self) -> Vec<String> {
        let total = &self.numbers.total;
        let each = PERCENTILES.map(|p| format!("{} {p}th", milliseconds(total.percentile_ms(p))));
        vec![format!("latency: {}, {} max", each.join(", "), milliseconds(total.max_ms()))]
    }

    /// All numbers, times in milliseconds.
    pub(super) fn json(&self) -> String {
        let numbers = self.numbers;
        let settings: Map<String, Value> =
            self.settings.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let steady = numbers
            .steady
            .as_ref()
            .map(|steady| summary(&steady.summary, numbers.ended.saturating_sub(steady.begun)));
        let each = numbers.points.each;
        let points = numbers.points.points.iter().enumerate();
        let timeline: Vec<Value> = points
            .map(|(index, point)| {
                json!({
                    "begin_ms": index as u64 * each / MILLISECOND,
                    "records": point.records,
                    "bytes": point.bytes,
                    "latency_ms": latency(point),
                })
            })
            .collect();
        let document = json!({
            "client": concat!("tidegate ", env!("CARGO_PKG_VERSION")),
            "ended_at_unix": self.ended_at,
            "settings": settings,
            "acknowledged": summary(&numbers.total, numbers.ended),
            "steady_state": steady,
            "failed": numbers.failed,
            "batch_bytes": sizes(&self.batches.bytes),
            "batch_records": sizes(&self.batches.records),
            "interval_ms": each / MILLISECOND,
            "timeline": timeline,
        });
        format!("{document:#}\n")
    }
}

fn summary(summary: &Summary, nanos: u64) -> Value {
    let (records, megabytes) = summary.rates(nanos);
    json!({
        "records": summary.records,
        "bytes": summary.bytes,
        "seconds": nanos as f64 / SECOND as f64,
        "records_per_second": records,
        "megabytes_per_second": megabytes,
        "latency_ms": latency(summary),
    })
}

/// `null` where there was no record.
fn latency(summary: &Summary) -> Value {
    if summary.records == 0 {
        return Value::Null;
    }
    let mut latency = Map::new();
    latency.insert("avg".to_owned(), json!(summary.average_ms()));
    latency.insert("max".to_owned(), json!(summary.max_ms()));
    for percent in PERCENTILES {
        latency.insert(format!("p{percent}"), json!(summary.percentile_ms(percent)));
    }
    Value::Object(latency)
}

/// A time for people: three digits, in the unit that suits it.
pub(super) fn milliseconds(ms: f64) -> String {
    match ms {
        ..1.0 => format!("{:.0} µs", ms * 1_000.0),
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1_000.0),
    }
}

/// The sizes of the batches that were sent, in bytes and in records.
#[derive(Default)]
pub(super) struct Batches {
    pub(super) bytes: Histogram,
    pub(super) records: Histogram,
}

impl Batches {
    pub(super) fn of(metrics: &Metrics) -> Batches {
        let mut batches = Batches::default();
        for broker in &metrics.brokers {
            batches.bytes += &broker.batch_bytes;
            batches.records += &broker.batch_records;
        }
        batches
    }
}

fn sizes(histogram: &Histogram) -> Value {
    json!({
        "mean": histogram.mean(),
        "p50": histogram.quantile(0.5),
        "p99": histogram.quantile(0.99),
        "max": histogram.max(),
    })
}

/// All that the client counts, in the form of Kafka's tool: a name, a colon, a value.
pub(super) fn lines(metrics: &Metrics) -> Vec<String> {
    let page = metrics.prometheus().to_string();
    // Of distributions their sum and count: the rest is in the report.
    let told = page.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    told.filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| format!("{name} : {value}"))
        .collect()
}
