//! Kafka's error codes, as of Kafka 4.3, and what a client may conclude from each.

use std::fmt;

/// An error code of Kafka's protocol, 0 for none, -1 for an unknown server error.
///
/// A code that this client does not know (a newer broker's) keeps its number, is called `UNKNOWN`,
/// and is neither retriable nor a reason to refresh the metadata.
///
/// ```
/// use tidegate::ErrorCode;
///
/// let code = ErrorCode(6);
/// assert_eq!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
/// assert_eq!(code.name(), "NOT_LEADER_OR_FOLLOWER");
/// assert!(code.is_retriable() && code.invalidates_metadata());
/// assert!(!ErrorCode::MESSAGE_TOO_LARGE.is_retriable());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

/// What a client does about a code, as Kafka's exception classes say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Success.
    None,
    /// Neither of the two below.
    Permanent,
    /// `RetriableException`: the same request may succeed later.
    Retriable,
    /// `InvalidMetadataException`, which is retriable too: what the client believes about leaders,
    /// topics or ids is out of date.
    Stale,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:literal $name:ident $kind:ident,)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: ErrorCode = ErrorCode($code);)*

            /// Every code of Kafka 4.3, ascending.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode($code),)*];

            /// Kafka's name of the code, `NOT_LEADER_OR_FOLLOWER` say; `UNKNOWN` where it has none.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }

            /// Whether it is one of Kafka 4.3's codes.
            pub fn is_known(self) -> bool {
                Self::ALL.contains(&self)
            }

            fn kind(self) -> Kind {
                match self.0 {
                    $($code => error_codes!(@ $kind),)*
                    _ => Kind::Permanent,
                }
            }
        }
    };
    (@ none) => { Kind::None };
    (@ permanent) => { Kind::Permanent };
    (@ retriable) => { Kind::Retriable };
    (@ stale) => { Kind::Stale };
}

error_codes! {
    /// The broker failed in a way it has no code for.
    -1 UNKNOWN_SERVER_ERROR permanent,
    /// No error.
    0 NONE none,
    /// The offset asked for is not in the partition's log.
    1 OFFSET_OUT_OF_RANGE permanent,
    /// A record batch failed its CRC or is malformed on arrival.
    2 CORRUPT_MESSAGE retriable,
    /// The broker does not host the partition, or the topic does not exist.
    3 UNKNOWN_TOPIC_OR_PARTITION stale,
    /// A fetch asked for an impossible number of bytes.
    4 INVALID_FETCH_SIZE permanent,
    /// The partition has no leader at the moment.
    5 LEADER_NOT_AVAILABLE stale,
    /// The broker is not the partition's leader (or follower) any more.
    6 NOT_LEADER_OR_FOLLOWER stale,
    /// The broker gave up waiting: with acks=all the records may be in the log.
    7 REQUEST_TIMED_OUT retriable,
    /// A broker that the request needs is not alive.
    8 BROKER_NOT_AVAILABLE permanent,
    /// The replica that the request needs is not there.
    9 REPLICA_NOT_AVAILABLE stale,
    /// A record batch is over the topic's `max.message.bytes`.
    10 MESSAGE_TOO_LARGE permanent,
    /// The request carries the epoch of an earlier controller.
    11 STALE_CONTROLLER_EPOCH permanent,
    /// The metadata string of a committed offset is too long.
    12 OFFSET_METADATA_TOO_LARGE permanent,
    /// The connection was lost before a response came; brokers do not send it.
    13 NETWORK_EXCEPTION stale,
    /// The coordinator is still loading its state.
    14 COORDINATOR_LOAD_IN_PROGRESS retriable,
    /// There is no coordinator yet.
    15 COORDINATOR_NOT_AVAILABLE retriable,
    /// The broker is not the coordinator.
    16 NOT_COORDINATOR retriable,
    /// The topic's name is illegal, or the topic must not be written to by clients.
    17 INVALID_TOPIC_EXCEPTION permanent,
    /// The batch is larger than a log segment.
    18 RECORD_LIST_TOO_LARGE permanent,
    /// Fewer replicas in sync than `min.insync.replicas`: nothing was written.
    19 NOT_ENOUGH_REPLICAS retriable,
    /// Written by the leader, but then too few replicas were in sync.
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable,
    /// `acks` is not 0, 1 or -1.
    21 INVALID_REQUIRED_ACKS permanent,
    /// The group's generation has passed.
    22 ILLEGAL_GENERATION permanent,
    /// The member's group protocols do not fit the group.
    23 INCONSISTENT_GROUP_PROTOCOL permanent,
    /// The group id is invalid.
    24 INVALID_GROUP_ID permanent,
    /// The coordinator does not know the member.
    25 UNKNOWN_MEMBER_ID permanent,
    /// The session timeout is outside the broker's limits.
    26 INVALID_SESSION_TIMEOUT permanent,
    /// The group is rebalancing.
    27 REBALANCE_IN_PROGRESS permanent,
    /// The offset commit is too large.
    28 INVALID_COMMIT_OFFSET_SIZE permanent,
    /// The principal may not use the topic.
    29 TOPIC_AUTHORIZATION_FAILED permanent,
    /// The principal may not use the group.
    30 GROUP_AUTHORIZATION_FAILED permanent,
    /// The principal may not do this to the cluster.
    31 CLUSTER_AUTHORIZATION_FAILED permanent,
    /// A record's timestamp is outside the topic's limits.
    32 INVALID_TIMESTAMP permanent,
    /// The broker does not offer the SASL mechanism.
    33 UNSUPPORTED_SASL_MECHANISM permanent,
    /// The request does not fit the state of the SASL exchange.
    34 ILLEGAL_SASL_STATE permanent,
    /// The broker does not speak the version of the request.
    35 UNSUPPORTED_VERSION permanent,
    /// The topic exists already.
    36 TOPIC_ALREADY_EXISTS permanent,
    /// The number of partitions is below 1.
    37 INVALID_PARTITIONS permanent,
    /// The replication factor is below 1 or above the number of brokers.
    38 INVALID_REPLICATION_FACTOR permanent,
    /// The replica assignment is invalid.
    39 INVALID_REPLICA_ASSIGNMENT permanent,
    /// The configuration is invalid.
    40 INVALID_CONFIG permanent,
    /// The broker is not the active controller.
    41 NOT_CONTROLLER retriable,
    /// The request is malformed or breaks a rule of its API.
    42 INVALID_REQUEST permanent,
    /// The topic's record format cannot do what was asked.
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT permanent,
    /// A policy of the broker forbids it.
    44 POLICY_VIOLATION permanent,
    /// A batch's sequence leaves a gap behind the last one written.
    45 OUT_OF_ORDER_SEQUENCE_NUMBER permanent,
    /// A batch that was written before; the original was acknowledged or lost its response.
    46 DUPLICATE_SEQUENCE_NUMBER permanent,
    /// The producer's epoch is older than the one the broker knows.
    47 INVALID_PRODUCER_EPOCH permanent,
    /// The transaction is not in a state that allows it.
    48 INVALID_TXN_STATE permanent,
    /// The producer id does not belong to the transactional id.
    49 INVALID_PRODUCER_ID_MAPPING permanent,
    /// The transaction timeout is over `transaction.max.timeout.ms`.
    50 INVALID_TRANSACTION_TIMEOUT permanent,
    /// Another operation on the same transaction is running.
    51 CONCURRENT_TRANSACTIONS retriable,
    /// The transaction marker came from an earlier coordinator.
    52 TRANSACTION_COORDINATOR_FENCED permanent,
    /// The principal may not use the transactional id.
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED permanent,
    /// The broker has its security features switched off.
    54 SECURITY_DISABLED permanent,
    /// The broker did not try, because another part of the request failed.
    55 OPERATION_NOT_ATTEMPTED permanent,
    /// The disk of the partition's log failed; another replica may take over.
    56 KAFKA_STORAGE_ERROR stale,
    /// The log directory is not configured.
    57 LOG_DIR_NOT_FOUND permanent,
    /// The SASL credentials were refused.
    58 SASL_AUTHENTICATION_FAILED permanent,
    /// The broker has forgotten the producer's state for the partition.
    59 UNKNOWN_PRODUCER_ID permanent,
    /// The partition is being reassigned.
    60 REASSIGNMENT_IN_PROGRESS permanent,
    /// Delegation tokens are switched off.
    61 DELEGATION_TOKEN_AUTH_DISABLED permanent,
    /// The delegation token is unknown.
    62 DELEGATION_TOKEN_NOT_FOUND permanent,
    /// The principal does not own the delegation token.
    63 DELEGATION_TOKEN_OWNER_MISMATCH permanent,
    /// Delegation tokens are not allowed over this kind of connection.
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED permanent,
    /// The principal may not use delegation tokens.
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED permanent,
    /// The delegation token has expired.
    66 DELEGATION_TOKEN_EXPIRED permanent,
    /// The principal's type is not supported.
    67 INVALID_PRINCIPAL_TYPE permanent,
    /// The group still has members.
    68 NON_EMPTY_GROUP permanent,
    /// The group does not exist.
    69 GROUP_ID_NOT_FOUND permanent,
    /// The fetch session is unknown.
    70 FETCH_SESSION_ID_NOT_FOUND retriable,
    /// The fetch session's epoch is wrong.
    71 INVALID_FETCH_SESSION_EPOCH retriable,
    /// The leader has no listener of the name the client came in by.
    72 LISTENER_NOT_FOUND stale,
    /// Deleting topics is switched off.
    73 TOPIC_DELETION_DISABLED permanent,
    /// The leader epoch of the request is older than the broker's.
    74 FENCED_LEADER_EPOCH stale,
    /// The leader epoch of the request is newer than the broker's.
    75 UNKNOWN_LEADER_EPOCH retriable,
    /// The compression is not supported by the request's version or the broker.
    76 UNSUPPORTED_COMPRESSION_TYPE permanent,
    /// The broker that sent the request has restarted since.
    77 STALE_BROKER_EPOCH permanent,
    /// The new leader's high watermark has not caught up yet.
    78 OFFSET_NOT_AVAILABLE retriable,
    /// The member must ask for a member id first.
    79 MEMBER_ID_REQUIRED permanent,
    /// The preferred leader is not available.
    80 PREFERRED_LEADER_NOT_AVAILABLE stale,
    /// The group is full.
    81 GROUP_MAX_SIZE_REACHED permanent,
    /// Another member uses the same group instance id.
    82 FENCED_INSTANCE_ID permanent,
    /// No replica may become leader.
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE stale,
    /// The partition has the wanted leader already.
    84 ELECTION_NOT_NEEDED stale,
    /// No reassignment is running.
    85 NO_REASSIGNMENT_IN_PROGRESS permanent,
    /// The group still subscribes to the topic.
    86 GROUP_SUBSCRIBED_TO_TOPIC permanent,
    /// A record breaks a rule of the topic: a missing key, say, or an old format.
    87 INVALID_RECORD permanent,
    /// Offsets of open transactions have to be resolved first.
    88 UNSTABLE_OFFSET_COMMIT retriable,
    /// Over a quota; to be tried again later.
    89 THROTTLING_QUOTA_EXCEEDED retriable,
    /// A newer producer took over the transactional id.
    90 PRODUCER_FENCED permanent,
    /// The resource does not exist.
    91 RESOURCE_NOT_FOUND permanent,
    /// The resource is named twice.
    92 DUPLICATE_RESOURCE permanent,
    /// The new credential is not good enough.
    93 UNACCEPTABLE_CREDENTIAL permanent,
    /// The set of raft voters does not match.
    94 INCONSISTENT_VOTER_SET permanent,
    /// The feature's version is invalid.
    95 INVALID_UPDATE_VERSION permanent,
    /// The feature could not be updated.
    96 FEATURE_UPDATE_FAILED permanent,
    /// A forwarded principal could not be read.
    97 PRINCIPAL_DESERIALIZATION_FAILURE permanent,
    /// The snapshot does not exist.
    98 SNAPSHOT_NOT_FOUND permanent,
    /// The position is outside the snapshot.
    99 POSITION_OUT_OF_RANGE permanent,
    /// The broker knows no topic of this id: deleted, recreated or not yet heard of.
    100 UNKNOWN_TOPIC_ID stale,
    /// The broker id is in use.
    101 DUPLICATE_BROKER_REGISTRATION permanent,
    /// The broker id is not registered.
    102 BROKER_ID_NOT_REGISTERED permanent,
    /// The topic id is not the one of the log: the topic was recreated.
    103 INCONSISTENT_TOPIC_ID stale,
    /// The cluster id is another one.
    104 INCONSISTENT_CLUSTER_ID permanent,
    /// The transactional id is unknown.
    105 TRANSACTIONAL_ID_NOT_FOUND permanent,
    /// The fetch session mixed names and ids of a topic.
    106 FETCH_SESSION_TOPIC_ID_ERROR retriable,
    /// A replica is not fit for the set of those in sync.
    107 INELIGIBLE_REPLICA permanent,
    /// A new leader was elected meanwhile.
    108 NEW_LEADER_ELECTED permanent,
    /// The offset has moved to tiered storage.
    109 OFFSET_MOVED_TO_TIERED_STORAGE permanent,
    /// The member's epoch was fenced.
    110 FENCED_MEMBER_EPOCH permanent,
    /// The group instance id has not been released yet.
    111 UNRELEASED_INSTANCE_ID permanent,
    /// The assignor is not supported.
    112 UNSUPPORTED_ASSIGNOR permanent,
    /// The member's epoch is out of date.
    113 STALE_MEMBER_EPOCH permanent,
    /// The endpoint is of the other kind: broker or controller.
    114 MISMATCHED_ENDPOINT_TYPE permanent,
    /// The kind of endpoint is not supported.
    115 UNSUPPORTED_ENDPOINT_TYPE permanent,
    /// The controller's id is unknown.
    116 UNKNOWN_CONTROLLER_ID permanent,
    /// The telemetry subscription is unknown or out of date.
    117 UNKNOWN_SUBSCRIPTION_ID permanent,
    /// The telemetry is too large.
    118 TELEMETRY_TOO_LARGE permanent,
    /// The registration is invalid.
    119 INVALID_REGISTRATION permanent,
    /// The transaction has failed; the producer may abort it and go on.
    120 TRANSACTION_ABORTABLE permanent,
    /// The record of the share group is in the wrong state.
    121 INVALID_RECORD_STATE permanent,
    /// The share session is unknown.
    122 SHARE_SESSION_NOT_FOUND retriable,
    /// The share session's epoch is wrong.
    123 INVALID_SHARE_SESSION_EPOCH retriable,
    /// The share group's state epoch was fenced.
    124 FENCED_STATE_EPOCH permanent,
    /// The raft voter's key does not match.
    125 INVALID_VOTER_KEY permanent,
    /// The raft voter is one already.
    126 DUPLICATE_VOTER permanent,
    /// The raft voter is unknown.
    127 VOTER_NOT_FOUND permanent,
    /// The regular expression is invalid.
    128 INVALID_REGULAR_EXPRESSION permanent,
    /// The client's metadata is too old: it has to start from the bootstrap list again.
    129 REBOOTSTRAP_REQUIRED permanent,
    /// The streams topology is invalid.
    130 STREAMS_INVALID_TOPOLOGY permanent,
    /// The streams topology's epoch is invalid.
    131 STREAMS_INVALID_TOPOLOGY_EPOCH permanent,
    /// The streams topology's epoch is out of date.
    132 STREAMS_TOPOLOGY_FENCED permanent,
    /// The broker has no room for another share session.
    133 SHARE_SESSION_LIMIT_REACHED retriable,
}

impl ErrorCode {
    /// Whether this is no error at all.
    pub fn is_none(self) -> bool {
        self.kind() == Kind::None
    }

    /// Whether the same request may succeed later, by the rule of Kafka's own clients: the code's
    /// exception is a `RetriableException`.
    pub fn is_retriable(self) -> bool {
        matches!(self.kind(), Kind::Retriable | Kind::Stale)
    }

    /// Whether the code shows that the client's metadata is out of date, by the rule of Kafka's own
    /// clients: the code's exception is an `InvalidMetadataException`.
    pub fn invalidates_metadata(self) -> bool {
        self.kind() == Kind::Stale
    }
}

/// Prints `NOT_LEADER_OR_FOLLOWER (6)`.
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_name_and_number() {
        assert_eq!(ErrorCode::NOT_LEADER_OR_FOLLOWER.to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
        assert_eq!(ErrorCode(-1).to_string(), "UNKNOWN_SERVER_ERROR (-1)");
        assert_eq!(ErrorCode(9999).to_string(), "UNKNOWN (9999)");
    }

    #[test]
    fn codes_are_known_or_not() {
        assert!(ErrorCode::ALL.iter().all(|code| code.is_known()));
        assert!(!ErrorCode(9_999).is_known() && !ErrorCode(-2).is_known());
    }

    #[test]
    fn an_unknown_code_is_an_error_that_no_retry_is_spent_on() {
        let unknown = ErrorCode(9999);
        assert!(!unknown.is_none());
        assert!(!unknown.is_retriable());
        assert!(!unknown.invalidates_metadata());
    }

    #[test]
    fn codes_are_dense_and_ascending() {
        let numbers: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.0).collect();
        assert_eq!(numbers, (-1..=133).collect::<Vec<i16>>());
    }
}
