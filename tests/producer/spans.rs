//! Spans of the crate `tracing`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate::{DropRecords, TraceRecords};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// What a subscriber was told of one span.
#[derive(Clone, Debug, Default)]
struct Told {
    name: String,
    fields: BTreeMap<String, String>,
    is_closed: bool,
}

/// Keeps what it is told of spans.
#[derive(Clone, Default)]
struct Spans(Arc<(Mutex<BTreeMap<u64, Told>>, AtomicU64)>);

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Spans {
    fn change(&self, id: &Id, change: impl FnOnce(&mut Told)) {
        change(self.0.0.lock().unwrap().entry(id.into_u64()).or_default());
    }

    fn closed(&self) -> Vec<Told> {
        let all = self.0.0.lock().unwrap();
        all.values().filter(|told| told.is_closed).cloned().collect()
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = Id::from_u64(1 + self.0.1.fetch_add(1, Ordering::Relaxed));
        self.change(&id, |told| {
            told.name = span.metadata().name().to_owned();
            span.record(told);
        });
        id
    }

    fn record(&self, id: &Id, values: &Values<'_>) {
        self.change(id, |told| values.record(told));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.change(&id, |told| told.is_closed = true);
        true
    }
}

#[test]
fn each_record_has_a_span_until_its_outcome_is_known() {
    let cluster = cluster(1, 1);
    let builder = patient(&cluster).interceptor(TraceRecords::new());
    let producer = builder.buffer_memory(4 << 20).backoff(DropRecords).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let spans = Spans::default();
    tracing::subscriber::with_default(spans.clone(), || {
        acked(topic.send("secret", "value").unwrap());
        cluster.pause_broker(1);
        let value = "x".repeat(100_000);
        while producer.dropped_records() == 0 {
            drop(topic.send((), &value).unwrap());
        }
    });
    cluster.resume_broker(1);
    producer.flush().wait().unwrap();
    // Without a subscriber nothing is told.
    acked(topic.send("k", "v").unwrap());
    close(&producer);
    let closed = spans.closed();
    assert!(closed.iter().all(|told| told.name == "tidegate.send"));
    let of = |told: &Told, field: &str| told.fields.get(field).cloned().unwrap_or_default();
    let first = &closed[0];
    assert_eq!(of(first, "messaging.destination.name"), "\"t\"");
    assert_eq!(of(first, "messaging.destination.partition.id"), "0");
    assert_eq!(of(first, "messaging.kafka.offset"), "0");
    let dropped = closed.iter().filter(|told| of(told, "error.type").contains("dropped")).count();
    assert_eq!(dropped, 1);
    let stored = cluster.high_watermark("t", 0);
    assert_eq!(closed.len() as i64, stored, "the dropped one, and all but the last");
    assert!(!format!("{closed:?}").contains("secret"));
}
