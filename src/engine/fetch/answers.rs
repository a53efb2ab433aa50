//! What becomes of partitions after an answer.

use std::collections::HashMap;

use super::Fetched;
use super::batches::cut;
use super::fetcher::{Asked, Fetcher, Position, SlotId, position_of};
use crate::config::{OffsetReset, StartAt};
use crate::engine::protocol::{
    BrokerId, ErrorCode, FetchResponse, FetchedPartition, FoundOffset, ListOffsetsResponse,
    PartitionId,
};
use crate::error::ConsumeErrorCause;
use crate::logging as log;
use crate::problem::{Problem, ProblemKind};

/// The errors that asking again does not mend. What else goes wrong at a broker, also what it calls
/// unknown, is over some time.
pub(super) const FINAL: [ErrorCode; 6] = [
    ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode::INVALID_TOPIC_EXCEPTION,
    ErrorCode::INVALID_REQUEST,
    ErrorCode::UNSUPPORTED_VERSION,
    ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
];

impl Fetcher {
    /// A broker answered a question for records.
    pub fn handle_records(&mut self, now: u64, broker: BrokerId, response: &FetchResponse) {
        let asked = self.take_asked(broker);
        self.handle_answer(broker);
        let retry_at = now.saturating_add(self.config.retry_backoff);
        if response.error != ErrorCode::NONE {
            for (slot, _) in asked {
                self.slots[slot.0].retry_at = retry_at;
            }
            return;
        }
        for (slot, answer) in self.match_up(asked, &response.topics, |it| it.partition) {
            match answer {
                Some(answer) => self.take_records(retry_at, slot, answer),
                // The broker left it out.
                None => self.slots[slot.0].retry_at = retry_at,
            }
        }
    }

    /// A broker answered a question for offsets.
    pub fn handle_offsets(&mut self, now: u64, broker: BrokerId, response: &ListOffsetsResponse) {
        let asked = self.take_asked(broker);
        self.handle_answer(broker);
        let retry_at = now.saturating_add(self.config.retry_backoff);
        for (slot, answer) in self.match_up(asked, &response.topics, |it| it.partition) {
            match answer {
                Some(answer) => self.take_offset(retry_at, slot, *answer),
                None => self.slots[slot.0].retry_at = retry_at,
            }
        }
        self.take_found(retry_at, broker, response);
    }

    /// Finds the answer for each partition that was asked about and still stands as it did then.
    fn match_up<'a, T>(
        &self,
        asked: Vec<(SlotId, Asked)>,
        topics: &'a [(impl AsRef<str>, Vec<T>)],
        index: impl Fn(&T) -> PartitionId,
    ) -> Vec<(SlotId, Option<&'a T>)> {
        // By name and index: an answer may be about thousands of partitions.
        let answers: HashMap<_, _> = topics
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |it| (topic.as_ref(), it)))
            .map(|(topic, it)| ((topic, index(it)), it))
            .collect();
        let current = asked.into_iter().filter(|(id, asked)| self.slots[id.0].asked() == *asked);
        let answer = |(id, _): (SlotId, Asked)| {
            let slot = &self.slots[id.0];
            (id, answers.get(&(&*slot.topic, slot.partition)).copied())
        };
        current.map(answer).collect()
    }

    fn take_records(&mut self, retry_at: u64, id: SlotId, answer: &FetchedPartition) {
        let Position::At { offset, .. } = self.slots[id.0].position else { return };
        match answer.error {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let cause = ConsumeErrorCause::OffsetOutOfRange { offset };
                return self.reset(id, None, retry_at, cause);
            }
            ErrorCode::CORRUPT_MESSAGE => {
                let problem = Problem::from(answer.error);
                let cause = ConsumeErrorCause::Unreadable { offset, next: None, problem };
                return self.fail(id, cause);
            }
            error => return self.take_error(retry_at, id, error),
        }
        if let Some((_, end)) = answer.diverging {
            let end = end.min(offset);
            let cause = ConsumeErrorCause::Truncated { offset, end };
            return self.reset(id, Some(end), retry_at, cause);
        }
        self.ends.push_back((id, answer.high_watermark, answer.log_start_offset));
        let cut = cut(answer, offset, self.config.batch_max_bytes);
        let slot = &mut self.slots[id.0];
        slot.is_alone = false;
        if cut.is_too_short {
            if slot.max_bytes < self.config.batch_max_bytes {
                slot.max_bytes = (2 * slot.max_bytes).min(self.config.batch_max_bytes);
                return;
            }
            let text = "the broker cuts it off, although it was asked for more than that";
            let problem = Problem::new(ProblemKind::Protocol, text);
            return self.fail(id, ConsumeErrorCause::Unreadable { offset, next: None, problem });
        }
        if cut.next > offset {
            slot.max_bytes = self.config.partition_max_bytes;
            slot.told_reset = false;
        } else if !answer.records.is_empty() {
            // All of it was handed out before: a broker that goes on so must not be asked all the
            // time.
            slot.retry_at = retry_at;
        }
        if let Position::At { offset, last_epoch } = &mut slot.position {
            *offset = cut.next;
            *last_epoch = cut.last_epoch.unwrap_or(*last_epoch);
        }
        for fetched in cut.fetched {
            match fetched {
                Fetched::Failed(cause) => self.fail(id, cause),
                fetched => {
                    let generation = self.slots[id.0].generation;
                    self.fetched.push_back((id, generation, fetched));
                }
            }
        }
    }

    fn take_offset(&mut self, retry_at: u64, id: SlotId, answer: FoundOffset) {
        if answer.error != ErrorCode::NONE {
            return self.take_error(retry_at, id, answer.error);
        }
        let slot = &mut self.slots[id.0];
        let offset = match (slot.position, answer.offset) {
            (Position::At { .. } | Position::Committed { .. }, _) => return,
            // No record is so new: one that was written since the end was asked for is.
            (Position::FindTime { end: Some(end), .. }, -1) => end,
            (_, ..0) => {
                slot.retry_at = retry_at;
                return;
            }
            (Position::FindTime { time, end: None }, end) => {
                slot.position = Position::FindTime { time, end: Some(end) };
                return;
            }
            (_, offset) => offset,
        };
        slot.position = Position::At { offset, last_epoch: -1 };
        let generation = slot.generation;
        self.fetched.push_back((id, generation, Fetched::Passed(offset)));
    }

    /// An error of one partition.
    fn take_error(&mut self, retry_at: u64, id: SlotId, error: ErrorCode) {
        if error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
            self.denied.push(self.slots[id.0].topic.clone());
        }
        if FINAL.contains(&error) {
            return self.fail(id, ConsumeErrorCause::Refused(Problem::from(error)));
        }
        self.slots[id.0].retry_at = retry_at;
        self.refresh_wanted |= error.invalidates_metadata();
    }

    /// The log does not have what is to be read next: goes on elsewhere if that is allowed, not
    /// before `retry_at`, or tells. `end` is where the log ends that the consumer has read beyond.
    pub(super) fn reset(
        &mut self,
        id: SlotId,
        end: Option<i64>,
        retry_at: u64,
        cause: ConsumeErrorCause,
    ) {
        let start = match (self.config.reset, end) {
            (OffsetReset::None, _) => return self.fail(id, cause),
            (_, Some(end)) => StartAt::Offset(end),
            (OffsetReset::Earliest, None) => StartAt::Earliest,
            (OffsetReset::Latest, None) => StartAt::Latest,
        };
        let slot = &mut self.slots[id.0];
        let (topic, partition) = (&slot.topic, slot.partition);
        let is_news = !std::mem::replace(&mut slot.told_reset, true);
        let level = if is_news { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{topic}-{partition}: {cause}; going on at {start:?}");
        (slot.position, slot.retry_at) = (position_of(start), retry_at);
        if let StartAt::Offset(offset) = start {
            let generation = slot.generation;
            self.fetched.push_back((id, generation, Fetched::Passed(offset)));
        }
    }
}
