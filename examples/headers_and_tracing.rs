//! A trace header on every record, and the time until its outcome, with no Kafka at hand:
//!
//! ```text
//! cargo run --release --example headers_and_tracing
//! ```
//!
//! Starts a broker within this process. An interceptor gives each record a `traceparent` header, as
//! W3C's Trace Context has it, and measures how long the record takes to be acknowledged; the code
//! that sends knows nothing of it. A record that has such a header keeps it. Then the records are
//! read back.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{InterceptedRecord, Interceptor, OnOutcome, Producer, Record, RecordOutcome};

#[path = "support/flags.rs"]
mod flags;

use flags::Flags;

const USAGE: &str = "\
headers_and_tracing [--count N]

  --count N  how many records to send; default 1000";

const TOPIC: &str = "orders";
const TRACEPARENT: &str = "traceparent";
/// The header of a record that belongs to a trace which began elsewhere.
const FROM_ELSEWHERE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TIMEOUT: Duration = Duration::from_secs(10);

/// One record's trace, once its outcome is known.
struct Span {
    traceparent: String,
    took: Duration,
    outcome: String,
}

/// Begins a trace for each record that is in none.
#[derive(Default)]
struct Tracing {
    /// Numbers the traces. A service would ask its tracing library, which makes random ids.
    traces: AtomicU64,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Interceptor for Tracing {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) -> Option<OnOutcome> {
        let given = record.headers().find(|(name, _)| *name == TRACEPARENT);
        let given = given.map(|(_, value)| value.unwrap_or_default().to_vec());
        let traceparent = match given {
            Some(value) => String::from_utf8_lossy(&value).into_owned(),
            None => {
                let trace = self.traces.fetch_add(1, Ordering::Relaxed) + 1;
                let traceparent = format!("00-{trace:032x}-{trace:016x}-01");
                record.add_header(TRACEPARENT, &traceparent);
                traceparent
            }
        };
        let (spans, began) = (self.spans.clone(), Instant::now());
        Some(Box::new(move |outcome: &RecordOutcome<'_>| {
            let span = Span { traceparent, took: began.elapsed(), outcome: format!("{outcome:?}") };
            spans.lock().unwrap_or_else(PoisonError::into_inner).push(span);
        }))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::from_arguments(&["--count"], USAGE)?;
    let count: u32 = flags.number("--count")?.unwrap_or(1_000);
    let cluster = EmbeddedCluster::builder().brokers(1).topic(TOPIC, 1).start()?;
    let tracing = Tracing::default();
    let spans = tracing.spans.clone();
    let producer = Producer::builder(&cluster.bootstrap_servers()).interceptor(tracing).build()?;
    let orders = producer.topic(TOPIC)?;

    let record = Record::new().key("customer-42").value("paid").header(TRACEPARENT, FROM_ELSEWHERE);
    drop(orders.send_record(record)?);
    for n in 0..count {
        let value = format!("order {n}");
        drop(orders.send_record(Record::new().value(value).header("source", "till 3"))?);
    }
    // The close waits for the outcomes to be told.
    producer.close(TIMEOUT).wait()?;

    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    for span in spans.iter().take(3) {
        println!("{}: {} after {:.1?}", span.traceparent, span.outcome, span.took);
    }
    assert_eq!(spans.len(), count as usize + 1, "each record's outcome was told once");
    assert!(spans.iter().all(|span| span.outcome.starts_with("acknowledged")));
    spans.sort_by_key(|span| span.took);
    let (median, longest) = (&spans[spans.len() / 2], &spans[spans.len() - 1]);
    println!(
        "{} records: {:.1?} at the median, {:.1?} at most",
        spans.len(),
        median.took,
        longest.took
    );
    read_back(&cluster, count as usize + 1);
    Ok(())
}

/// What a consumer finds.
fn read_back(cluster: &EmbeddedCluster, count: usize) {
    let records = cluster.records(TOPIC, 0);
    let mut traces = BTreeSet::new();
    for record in &records {
        let of_trace = record.headers.iter().filter(|(name, _)| name == TRACEPARENT);
        let values: Vec<_> = of_trace.filter_map(|(_, value)| value.as_deref()).collect();
        assert_eq!(values.len(), 1, "the record at {} has one trace", record.offset);
        traces.insert(values[0].to_vec());
    }
    assert_eq!((records.len(), traces.len()), (count, count), "no two records share a trace");
    assert!(traces.contains(FROM_ELSEWHERE.as_bytes()), "a trace from elsewhere goes on");
    println!("read back: {} records, each with a trace of its own", records.len());
    for (name, value) in &records[count - 1].headers {
        let value = String::from_utf8_lossy(value.as_deref().unwrap_or_default());
        println!("  the last one has {name}: {value}");
    }
}
