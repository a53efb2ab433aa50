//! Records that were accepted and will certainly never be written, for handing them back.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use super::batch::Link;
use super::{Batch, LaneHead, LaneTail, batch_error};
use crate::engine::protocol::compression::{Codec, decompress};
use crate::engine::protocol::records::{
    BATCH_HEADER_LEN, BatchHeader, Header, Records, records_of_message_set,
};
use crate::engine::sync::WakeList;
use crate::error::{Certainty, DeliveryError, DeliveryErrorCause};
use crate::locking::lock;

/// A record that was accepted and will never be written:
/// [`Producer::close_handing_back`](crate::Producer::close_handing_back). It borrows from buffer
/// memory.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use std::{sync::mpsc, time::Duration};
/// # cluster.pause_broker(1);
/// # let producer = Producer::builder(&cluster.bootstrap_servers()).build()?;
/// drop(producer.topic("orders")?.send("customer-42", "paid")?); // no broker answers
/// let (values, unsent) = mpsc::channel();
/// let close = producer.close_handing_back(Duration::ZERO, move |record| {
///     drop(values.send(record.value().map(<[u8]>::to_vec)));
/// });
/// assert!(close.wait().is_err());
/// assert_eq!(unsent.recv()?, Some(b"paid".to_vec()));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct UnsentRecord<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Vec<Header<'a>>,
    pub(super) timestamp: i64,
    pub(super) partition: Option<i32>,
    pub(super) error: &'a DeliveryError,
}

impl<'a> UnsentRecord<'a> {
    /// Its topic.
    pub fn topic(&self) -> &str {
        self.error.topic()
    }

    /// The partition that it was for; `None` if the topic was not known and the record names none.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// Its key; `None` for a null key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Its value; `None` for a null value.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Its headers, in order.
    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// Its timestamp, in milliseconds since the Unix epoch: the one that it was given, or the time
    /// of sending.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp
    }

    /// What its delivery failed with. Its certainty is always
    /// [`Certainty::NotWritten`].
    pub fn error(&self) -> &'a DeliveryError {
        self.error
    }
}

impl std::fmt::Debug for UnsentRecord<'_> {
    /// Lengths only: the bytes may be confidential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::engine::protocol::records::Length;
        f.debug_struct("UnsentRecord")
            .field("topic", &self.topic())
            .field("partition", &self.partition)
            .field("key", &Length(self.key))
            .field("value", &Length(self.value))
            .field("headers", &self.headers)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// Where shards leave the batches that they fail when a producer closes.
#[derive(Default)]
pub struct Unsent(Mutex<Vec<UnsentBatch>>);

/// A failed batch of which some records are certainly not in the log.
pub struct UnsentBatch {
    partition: i32,
    base_timestamp: i64,
    records: UnsentRecords,
    error: DeliveryError,
}

/// Where the records are.
enum UnsentRecords {
    /// In the batch, which keeps its memory.
    Batch {
        batch: Box<Batch>,
        /// Whether the batch, or its present piece, is certainly not in the log.
        is_certain: bool,
        /// The pieces behind the present one that are certainly not: where they begin, and how many
        /// records they have.
        behind: Option<(usize, u32)>,
    },
    /// So many records, copied from a batch whose memory a request in flight owns.
    Copied(Vec<u8>, u32),
}

impl Unsent {
    fn push(&self, batch: UnsentBatch) {
        // One push, or one take.
        lock(&self.0).push(batch);
    }

    /// Copies what waits behind the present piece of a batch in flight, if it is certainly in no
    /// log.
    pub fn copy_behind(&self, lane: &LaneTail, batch: &Batch, cause: &DeliveryErrorCause) {
        let Some((at, records)) = batch.pieces_never_sent() else { return };
        let Some(plain) = batch.memory().get(at..).map(<[u8]>::to_vec) else { return };
        self.push(UnsentBatch {
            partition: lane.partition.0,
            base_timestamp: batch.base_timestamp,
            error: batch_error(lane, batch, cause.clone(), Certainty::NotWritten),
            records: UnsentRecords::Copied(plain, records),
        });
    }

    /// What was left here so far: in the order of the records for each partition.
    pub fn take(&self) -> Vec<UnsentBatch> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl UnsentBatch {
    /// Calls `each` with every record, in order.
    pub fn for_each(&self, each: &mut dyn FnMut(&UnsentRecord<'_>)) {
        match &self.records {
            UnsentRecords::Copied(plain, records) => self.read(plain, *records, each),
            UnsentRecords::Batch { batch, is_certain, behind } => {
                let memory = batch.memory();
                if *is_certain && let Some(plain) = plain_records(batch, &memory) {
                    self.read(&plain, batch.records(), each);
                }
                if let Some((at, records)) = *behind
                    && let Some(plain) = memory.get(at..)
                {
                    self.read(plain, records, each);
                }
            }
        }
    }

    fn read(&self, plain: &[u8], records: u32, each: &mut dyn FnMut(&UnsentRecord<'_>)) {
        let base_timestamp = self.base_timestamp;
        let header = BatchHeader { base_timestamp, record_count: records, ..Default::default() };
        for record in Records::of_plain(&header, plain).take(records as usize).flatten() {
            each(&UnsentRecord {
                key: record.key,
                value: record.value,
                headers: record.headers.collect(),
                timestamp: record.timestamp,
                partition: Some(self.partition),
                error: &self.error,
            });
        }
    }
}

/// The records of the batch or of its present piece, as they were encoded. `None` where the bytes
/// are not what was compressed, which only a bug could do.
fn plain_records<'m>(batch: &Batch, memory: &'m [u8]) -> Option<Cow<'m, [u8]>> {
    let payload = memory.get(BATCH_HEADER_LEN..batch.len)?;
    if batch.codec == Codec::None {
        return Some(payload.into());
    }
    let plain = decompress(batch.codec, payload, i32::MAX as usize).ok()?;
    match batch.packed_as.is_message_set() {
        true => {
            records_of_message_set(&plain, batch.packed_as, batch.base_timestamp).map(Cow::from)
        }
        false => Some(plain.into()),
    }
}

impl Batch {
    /// Its bytes in one piece, those behind the present piece included.
    fn memory(&self) -> Vec<u8> {
        match self.pieces.as_ref().and_then(|pieces| pieces.unpacked.as_deref()) {
            Some(scratch) => scratch.to_vec(),
            None => self.links.iter().flat_map(Link::bytes).copied().collect(),
        }
    }
}

impl LaneHead {
    /// Fails all sealed batches and retries. What is certainly in no log is left in `unsent`, if
    /// somebody wants it.
    pub fn fail_all_or_leave(
        &mut self,
        unsent: Option<&Unsent>,
        cause: &DeliveryErrorCause,
        wakes: &mut WakeList,
    ) {
        match unsent {
            Some(unsent) => self.fail_all_into(unsent, cause, wakes),
            None => {
                self.fail_all(cause, wakes);
            }
        }
    }

    /// Fails all sealed batches and retries, and leaves those in `unsent` that are certainly not in
    /// the log. The memory of those is released with them.
    fn fail_all_into(&mut self, unsent: &Unsent, cause: &DeliveryErrorCause, wakes: &mut WakeList) {
        let tail: Arc<LaneTail> = self.tail.clone();
        while let Some(mut batch) = self.retries.pop_front().or_else(|| tail.pop_sealed()) {
            let is_certain = batch.certainty() == Certainty::NotWritten;
            let behind = batch.pieces_never_sent();
            let number = batch.number;
            let is_failed = self.fail_waiting_unmarked(&mut batch, cause, wakes);
            if is_certain || behind.is_some() {
                unsent.push(UnsentBatch {
                    partition: tail.partition.0,
                    base_timestamp: batch.base_timestamp,
                    error: batch_error(&tail, &batch, cause.clone(), Certainty::NotWritten),
                    records: UnsentRecords::Batch { batch, is_certain, behind },
                });
            }
            // Last: who waits for the close takes what is there once all is resolved.
            if is_failed {
                self.mark_resolved(number, wakes);
            }
        }
    }

    /// Fails what was sent before a purge: the batches with smaller numbers.
    pub fn fail_below(&mut self, number: u64, cause: &DeliveryErrorCause, wakes: &mut WakeList) {
        while let Some(at) = self.retries.iter().position(|batch| batch.number < number) {
            if let Some(mut batch) = self.retries.remove(at) {
                self.fail_waiting(&mut batch, cause, wakes);
            }
        }
        while let Some(mut batch) = self.tail.pop_sealed_below(number) {
            self.fail_waiting(&mut batch, cause, wakes);
        }
    }
}
