//! What an error code in a Produce response means for its batch.

use crate::engine::protocol::ErrorCode;

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
    WrongLeader {
        /// It may have been written with acks=1, too: the broker had begun to append it.
        written: bool,
    },
    /// A passing trouble of the partition: send again after a backoff.
    Retry {
        /// The broker may have appended the batch nevertheless.
        written: bool,
    },
    /// The broker could not make sense of it: bytes were damaged on the way, or, before Kafka 2.4,
    /// a record has no key and the topic is compacted. Send again, a few times.
    Corrupt,
    /// The sequence is not the next one the broker expects.
    OutOfOrder,
    /// The broker has forgotten the producer: begin a new epoch, send again.
    UnknownProducer,
    /// The broker knows a later epoch of the producer: begin a new one, send again.
    StaleEpoch,
    /// The topic keeps an old message format, which takes no identity: send again without.
    OldMessageFormat,
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
            Verdict::Written
                | Verdict::Duplicate
                | Verdict::WrongLeader { .. }
                | Verdict::Retry { .. }
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
        // Java's family of codes that ask for metadata, and the one that says that the client knows
        // more than the broker.
        code if code.invalidates_metadata() || code == ErrorCode::UNKNOWN_LEADER_EPOCH => {
            // The disk may have failed after the append, and the network after the request.
            let in_doubt = [ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NETWORK_EXCEPTION];
            Verdict::WrongLeader { written: in_doubt.contains(&code) }
        }
        ErrorCode::CORRUPT_MESSAGE => Verdict::Corrupt,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Verdict::OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID => Verdict::UnknownProducer,
        ErrorCode::INVALID_PRODUCER_EPOCH => Verdict::StaleEpoch,
        ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT => Verdict::OldMessageFormat,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Verdict::TooLarge,
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            Verdict::Retry { written: true }
        }
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
    fn c15_every_code_that_invalidates_metadata_asks_for_it() {
        let asks = |code: &&ErrorCode| matches!(verdict(**code), Verdict::WrongLeader { .. });
        let asking: Vec<_> = ErrorCode::ALL.iter().filter(asks).collect();
        for code in ErrorCode::ALL {
            let expected = code.invalidates_metadata() || *code == ErrorCode::UNKNOWN_LEADER_EPOCH;
            assert_eq!(asking.contains(&code), expected, "{code}");
        }
        for code in [
            ErrorCode::LISTENER_NOT_FOUND,
            ErrorCode::INCONSISTENT_TOPIC_ID,
            ErrorCode::NETWORK_EXCEPTION,
        ] {
            assert!(asking.contains(&&code), "{code}");
        }
    }

    #[test]
    fn c11_a_failed_disk_leaves_it_open_whether_the_batch_was_written() {
        let code = ErrorCode::KAFKA_STORAGE_ERROR;
        assert_eq!(verdict(code), Verdict::WrongLeader { written: true });
        let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
        assert_eq!(verdict(code), Verdict::WrongLeader { written: false });
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
