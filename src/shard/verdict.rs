//! What an error code in a Produce response means for its batch.

use crate::protocol::ErrorCode;

/// What becomes of a batch whose partition was answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in the log.
    Written,
    /// It is in the log already, at an offset that the broker no longer knows.
    Duplicate,
    /// The leader is elsewhere: ask for metadata, send again, no backoff once a newer epoch is
    /// known. With acks=all it may have been written all the same, by a leader that was deposed
    /// before it could answer.
    WrongLeader,
    /// A passing trouble of the partition: send again after a backoff.
    Retry {
        /// The broker may have appended the batch nevertheless.
        written: bool,
    },
    /// The sequence is not the next one the broker expects.
    OutOfOrder,
    /// The broker has forgotten the producer: begin a new epoch, send again.
    UnknownProducer,
    /// The broker knows a later epoch of the producer: begin a new one, send again.
    StaleEpoch,
    /// It is longer than the topic allows: split it, send the parts.
    TooLarge,
    /// No retry can mend it.
    Fail {
        /// Nothing says that the broker did not append the batch first.
        written: bool,
    },
}

impl Verdict {
    /// Whether the batch is not sent again as it is.
    pub(super) fn ends_batch(self) -> bool {
        !matches!(
            self,
            Verdict::Written | Verdict::Duplicate | Verdict::WrongLeader | Verdict::Retry { .. }
        )
    }
}

pub(super) fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Written,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER if planted!(DuplicateIsFailure) => {
            Verdict::Fail { written: false }
        }
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Verdict::Duplicate,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::KAFKA_STORAGE_ERROR => Verdict::WrongLeader,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Verdict::OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::UnknownProducer,
        ErrorCode::INVALID_PRODUCER_EPOCH => Verdict::StaleEpoch,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Verdict::TooLarge,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::NETWORK_EXCEPTION => Verdict::Retry { written: true },
        code if code.is_retriable() => Verdict::Retry { written: false },
        code => Verdict::Fail {
            // A broker that failed may have done so at any point; a code that is not known may say
            // the same.
            written: code == ErrorCode::UNKNOWN_SERVER_ERROR || !code.is_known(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_some_errors_leave_it_open_whether_the_batch_was_written() {
        for code in [ErrorCode::REQUEST_TIMED_OUT, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND] {
            assert_eq!(verdict(code), Verdict::Retry { written: true });
        }
        assert_eq!(verdict(ErrorCode::NOT_ENOUGH_REPLICAS), Verdict::Retry { written: false });
    }

    #[test]
    fn what_no_retry_can_mend_fails() {
        for code in [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::INVALID_RECORD] {
            assert_eq!(verdict(code), Verdict::Fail { written: false }, "{code}");
        }
        for code in [ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode(9_999)] {
            assert_eq!(verdict(code), Verdict::Fail { written: true }, "{code}");
        }
    }
}
