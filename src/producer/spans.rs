//! Spans of the crate `tracing` for records (feature `tracing`).

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::engine::policy::{InterceptedRecord, Interceptor, OnOutcome, RecordOutcome};

/// An [`Interceptor`] with a span of the crate `tracing` for each record: from `send` until the
/// outcome is known, within the span that the sending code is in. Feature `tracing`.
///
/// The span is called `tidegate.send` and has the level INFO. Its fields have the names of
/// OpenTelemetry's conventions for messaging: `messaging.system` (`kafka`),
/// `messaging.operation.type` (`send`), `messaging.destination.name` (the topic), and with the
/// outcome `messaging.destination.partition.id`, `messaging.kafka.offset`, or `error.type` (the
/// error's words). `otel.kind` is `producer`. It never has keys or values.
///
/// A record whose span no subscriber wants costs a look at the subscriber and what an interceptor
/// costs. No header is written: that needs to know how the application's traces are propagated, and
/// is a line in an interceptor of its own.
///
/// ```
/// # fn main() -> Result<(), tidegate::BuildError> {
/// use tidegate::{Producer, TraceRecords};
///
/// let producer = Producer::builder("localhost:9092").interceptor(TraceRecords::new()).build()?;
/// # producer.close(std::time::Duration::ZERO);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceRecords(());

impl TraceRecords {
    /// Has a span for each record.
    pub fn new() -> Self {
        TraceRecords(())
    }
}

impl Interceptor for TraceRecords {
    fn on_send(&self, record: &mut InterceptedRecord<'_>) -> Option<OnOutcome> {
        let span = info_span!(
            "tidegate.send",
            otel.kind = "producer",
            messaging.system = "kafka",
            messaging.operation.r#type = "send",
            messaging.destination.name = record.topic(),
            messaging.destination.partition.id = Empty,
            messaging.kafka.offset = Empty,
            error.r#type = Empty,
        );
        if span.is_disabled() {
            return None;
        }
        // The span ends with the closure, which holds it.
        Some(Box::new(move |outcome| note(&span, outcome)))
    }
}

fn note(span: &Span, outcome: &RecordOutcome<'_>) {
    match outcome {
        RecordOutcome::Acknowledged { partition, offset, .. } => {
            span.record("messaging.destination.partition.id", partition);
            if let Some(offset) = offset {
                span.record("messaging.kafka.offset", offset);
            }
        }
        RecordOutcome::Failed(error) => {
            span.record("error.type", display(error));
        }
        RecordOutcome::Refused(kind) => {
            span.record("error.type", display(kind));
        }
    }
}
