//! The way of a record past the application's interceptors.

use std::sync::Arc;

use super::admission::How;
use super::callbacks::Callbacks;
use super::delivery::Delivery;
use super::sending::Sender;
use super::topic::{Topic, destination_of};
use crate::engine::policy::{InterceptedRecord, Interceptor, OnOutcome, RecordOutcome};
use crate::engine::protocol::PartitionId;
use crate::engine::protocol::records::RecordParts;
use crate::error::SendErrorKind;
use crate::{logging as log, user_code};

/// The interceptors of one producer, in their order.
pub(super) struct Interceptors(pub Vec<Arc<dyn Interceptor>>);

/// A record that all interceptors have seen.
pub(super) struct Seen<'a> {
    pub record: InterceptedRecord<'a>,
    pub watchers: Vec<OnOutcome>,
}

impl Interceptors {
    /// `untouched` makes the record as it was given to `send`.
    fn see<'a>(&self, untouched: impl Fn() -> InterceptedRecord<'a>) -> Seen<'a> {
        let mut watchers = Vec::new();
        let mut record = untouched();
        for (index, interceptor) in self.0.iter().enumerate() {
            // What the record goes back to if this interceptor panics. The first one's, and so the
            // only one's in most producers, can be made again and needs no copy.
            let before = (index > 0).then(|| record.copy());
            match user_code::call(|| interceptor.on_send(&mut record)) {
                Ok(watcher) => watchers.extend(watcher),
                Err(_) => {
                    log::error!("topic {}: an interceptor panicked", record.topic());
                    record = before.unwrap_or_else(&untouched);
                }
            }
        }
        Seen { record, watchers }
    }
}

/// Calls those who watch a record once its outcome is known.
pub(super) fn watch(
    callbacks: &Arc<Callbacks>,
    watchers: Vec<OnOutcome>,
    sent: Result<&Delivery, &SendErrorKind>,
) {
    if watchers.is_empty() {
        return;
    }
    match sent {
        Ok(delivery) => callbacks.watch(delivery, watchers),
        Err(kind) => tell(watchers, RecordOutcome::Refused(kind)),
    }
}

/// Calls them now.
pub(super) fn tell(watchers: Vec<OnOutcome>, outcome: RecordOutcome<'_>) {
    let _inside = user_code::enter();
    for watcher in watchers {
        if user_code::call(|| watcher(&outcome)).is_err() {
            log::error!("an interceptor that was told of a record's outcome panicked");
        }
    }
}

impl Topic {
    /// Shows a record to the interceptors.
    pub(super) fn intercept<'a>(
        &'a self,
        partition: Option<PartitionId>,
        timestamp: Option<i64>,
        parts: &RecordParts<'a>,
    ) -> Seen<'a> {
        let untouched = || InterceptedRecord::new(self.name(), parts, timestamp, partition);
        self.shared.interceptors.see(untouched)
    }

    /// [`Topic::send_whole_way`] where there are interceptors. What they see is copied if they
    /// change it; a record whose partition the caller had found is hashed anew, as its key may
    /// differ.
    #[cold]
    #[inline(never)]
    pub(super) fn send_intercepted(
        &self,
        sender: Sender<'_>,
        partition: Option<PartitionId>,
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        let Seen { record, watchers } = self.intercept(partition, timestamp, parts);
        let headers = record.encoded_headers();
        let sent = checked(&record).and_then(|(partition, timestamp)| {
            self.send_plain(sender, (partition, None), timestamp, &record.parts(&headers))
        });
        watch(&self.shared.callbacks, watchers, sent.as_ref());
        sent
    }

    /// The same for a task.
    pub(super) async fn send_intercepted_async(
        &self,
        how: How,
        partition: Option<PartitionId>,
        timestamp: Option<i64>,
        parts: &RecordParts<'_>,
    ) -> Result<Delivery, SendErrorKind> {
        let Seen { record, watchers } = self.intercept(partition, timestamp, parts);
        // A task that is dropped while it waits has sent nothing: nobody hears of it.
        let headers = record.encoded_headers();
        let sent = match checked(&record) {
            Err(kind) => Err(kind),
            Ok((partition, timestamp)) => {
                let parts = record.parts(&headers);
                self.send_plain_async(how, (partition, None), timestamp, &parts).await
            }
        };
        watch(&self.shared.callbacks, watchers, sent.as_ref());
        sent
    }
}

/// The partition and the timestamp that a record has after all.
pub(super) fn checked(
    record: &InterceptedRecord<'_>,
) -> Result<(Option<PartitionId>, Option<i64>), SendErrorKind> {
    destination_of(record.partition(), record.timestamp_ms())
}
