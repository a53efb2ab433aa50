//! The records of a fetch response, cut into batches.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use super::Fetched;
use crate::engine::protocol::FetchedPartition;
use crate::engine::protocol::records::{BATCH_HEADER_LEN, BatchHeader, MessageRun, Records};
use crate::error::ConsumeErrorCause;
use crate::problem::{Problem, ProblemKind};

/// Where a batch of any format has its length, which does not count what is before it.
const LENGTH_AT: usize = 8;
/// Bytes before what the length counts.
const LOG_OVERHEAD: usize = 12;
/// Where a batch, and a message of a set, says of which format it is.
const MAGIC_AT: usize = 16;
/// The format of record batches.
const MAGIC: u8 = 2;

/// The type of a mark that ends a transaction, in a control record's key behind its version.
const ABORT: [u8; 2] = [0, 0];

/// A batch as it was fetched: neither its checksum nor its records were looked at.
#[derive(Clone)]
pub struct FetchedBatch {
    /// What its header says. Messages of before Kafka 0.11 have none: this is that of a batch with
    /// the last of them alone.
    pub header: BatchHeader,
    /// Header and records, perhaps compressed; or such messages.
    pub bytes: Bytes,
    /// They are messages of before Kafka 0.11.
    pub is_messages: bool,
    /// Its records before this offset were not asked for.
    pub from: i64,
}

impl FetchedBatch {
    /// The offset after its last record, whether that is still there or was compacted away.
    pub fn next_offset(&self) -> i64 {
        end_of(&self.header)
    }
}

// What users wrote is shown as lengths.
impl fmt::Debug for FetchedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchedBatch")
            .field("header", &self.header)
            .field("bytes", &self.bytes.len())
            .field("from", &self.from)
            .finish()
    }
}

fn end_of(header: &BatchHeader) -> i64 {
    header.base_offset.saturating_add(i64::from(header.last_offset_delta)).saturating_add(1)
}

/// What an answer has for the consumer.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub fetched: Vec<Fetched>,
    /// Where to go on.
    pub next: i64,
    /// The leader's epoch of the last batch, -1 where that has none.
    pub last_epoch: Option<i32>,
    /// There were bytes, and not one whole batch: the limit was too low for it.
    pub is_too_short: bool,
}

/// Cuts an answer's records into batches. Those before `offset` are left out, as are marks of
/// transactions and, if `aborted` names them, records of aborted ones. A batch of more than
/// `batch_max` bytes is not taken.
pub(super) fn cut(data: &FetchedPartition, offset: i64, batch_max: usize) -> Cut {
    let mut cut = Cut { next: offset, ..Cut::default() };
    let mut transactions = Transactions::new(data);
    let mut rest = data.records.clone();
    let mut passed = false;
    let mut whole = 0;
    loop {
        let batch = match next_batch(&mut rest, batch_max) {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err((next, problem)) => {
                let cause = ConsumeErrorCause::Unreadable { offset: cut.next, next, problem };
                cut.fetched.push(Fetched::Failed(cause));
                return cut;
            }
        };
        whole += 1;
        let end = end_of(&batch.header);
        // A broker answers with the batch that holds the offset. One that is wholly before it has
        // been handed out already.
        if end <= cut.next {
            continue;
        }
        let is_wanted = transactions.let_pass(&batch);
        let from = std::mem::replace(&mut cut.next, end);
        cut.last_epoch = Some(batch.header.partition_leader_epoch);
        passed = !is_wanted || batch.header.record_count == 0;
        if !passed {
            cut.fetched.push(Fetched::Batch(FetchedBatch { from, ..batch }));
        }
    }
    if passed {
        cut.fetched.push(Fetched::Passed(cut.next));
    }
    cut.is_too_short = whole == 0 && !data.records.is_empty();
    let kept: usize = cut.fetched.iter().map(bytes_of).sum();
    if kept < data.records.len() / 2 {
        // What is left out would be kept with what is not.
        for fetched in &mut cut.fetched {
            if let Fetched::Batch(batch) = fetched {
                batch.bytes = Bytes::copy_from_slice(&batch.bytes);
            }
        }
    }
    cut
}

fn bytes_of(fetched: &Fetched) -> usize {
    match fetched {
        Fetched::Batch(batch) => batch.bytes.len(),
        _ => 0,
    }
}

/// Takes the next whole batch; `None` if there is none, or its end was cut off. An error also has
/// the offset after the batch, if that is known.
fn next_batch(
    rest: &mut Bytes,
    batch_max: usize,
) -> Result<Option<FetchedBatch>, (Option<i64>, Problem)> {
    let wrong = |text: &str| Err((None, Problem::new(ProblemKind::Protocol, text)));
    let Some(&magic) = rest.get(MAGIC_AT) else { return Ok(None) };
    let length = rest[LENGTH_AT..LENGTH_AT + 4].first_chunk();
    let length = length.map_or(-1, |length| i32::from_be_bytes(*length));
    let Ok(length) = usize::try_from(length) else { return wrong("a batch of negative length") };
    let size = LOG_OVERHEAD + length;
    if size > batch_max {
        let front = rest.first_chunk::<BATCH_HEADER_LEN>();
        let next = match magic {
            0 | 1 => offset_behind_message(rest),
            _ => front.and_then(|front| BatchHeader::read(front).ok()).map(|it| end_of(&it.0)),
        };
        let text = format_args!("the batch is {size} bytes long: raise batch_max_bytes");
        return Err((next, Problem::new(ProblemKind::Protocol, text)));
    }
    if rest.len() < size {
        return Ok(None);
    }
    match magic {
        0 | 1 => return next_messages(rest).map(Some),
        MAGIC => {}
        _ => {
            let text = format_args!("its format, of magic {magic}, is newer than this client");
            return Err((None, Problem::new(ProblemKind::Protocol, text)));
        }
    }
    let bytes = rest.split_to(size);
    let Some(front) = bytes.first_chunk::<BATCH_HEADER_LEN>() else {
        return wrong("a batch that is shorter than its header");
    };
    match BatchHeader::read(front) {
        Err(error) => Err((None, Problem::new(ProblemKind::Protocol, error))),
        Ok((header, _)) if header.last_offset_delta < 0 || header.base_offset < 0 => {
            wrong("a batch whose offsets are negative")
        }
        Ok((header, _)) => Ok(Some(FetchedBatch { header, bytes, is_messages: false, from: 0 })),
    }
}

/// The offset behind the message at the front.
fn offset_behind_message(bytes: &[u8]) -> Option<i64> {
    let offset = i64::from_be_bytes(*bytes.first_chunk()?);
    offset.checked_add(1).filter(|&next| next > 0)
}

/// Takes the messages of before Kafka 0.11 that `rest` begins with, the first of them whole, as far
/// as they are one batch.
fn next_messages(rest: &mut Bytes) -> Result<FetchedBatch, (Option<i64>, Problem)> {
    let run = MessageRun::at_front(rest);
    let run = run.map_err(|error| {
        (offset_behind_message(rest), Problem::new(ProblemKind::Protocol, error))
    })?;
    if run.last_offset < 0 {
        let text = "a message whose offset is negative";
        return Err((None, Problem::new(ProblemKind::Protocol, text)));
    }
    let header = BatchHeader {
        base_offset: run.last_offset,
        last_offset_delta: 0,
        record_count: 1,
        ..BatchHeader::default()
    };
    Ok(FetchedBatch { header, bytes: rest.split_to(run.len), is_messages: true, from: 0 })
}

/// Which producers' records belong to an aborted transaction, batch by batch.
struct Transactions {
    /// Producer ids by the first offset of their transaction, the last first.
    to_come: Vec<(i64, i64)>,
    aborted: BTreeSet<i64>,
}

impl Transactions {
    fn new(data: &FetchedPartition) -> Self {
        let aborted = data.aborted.iter().map(|it| (it.first_offset, it.producer_id));
        let mut to_come: Vec<_> = aborted.collect();
        to_come.sort_unstable_by(|one, other| other.cmp(one));
        Transactions { to_come, aborted: BTreeSet::new() }
    }

    /// Whether the batch has records for a consumer.
    fn let_pass(&mut self, batch: &FetchedBatch) -> bool {
        let header = &batch.header;
        while let Some((_, producer)) = self.to_come.pop_if(|it| it.0 < end_of(header)) {
            self.aborted.insert(producer);
        }
        if header.control {
            if is_abort(batch) {
                self.aborted.remove(&header.producer.id);
            }
            return false;
        }
        !(header.transactional && self.aborted.contains(&header.producer.id))
    }
}

/// Whether it is the mark behind an aborted transaction.
fn is_abort(batch: &FetchedBatch) -> bool {
    let records = &batch.bytes[BATCH_HEADER_LEN..];
    let mark = Records::of_plain(&batch.header, records).next().and_then(Result::ok);
    mark.and_then(|mark| mark.key).and_then(|key| key.get(2..4)).is_some_and(|it| it == ABORT)
}
