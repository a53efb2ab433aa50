//! Golden bytes of what consumers ask for: records and offsets.

use tidegate::internals::protocol::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchTopic, FetchedPartition, FoundOffset,
    ListOffsetsRequest, OffsetQuestion, TIME_EARLIEST, TIME_LATEST,
};

use super::*;

fn wanted(
    partition: i32,
    leader_epoch: i32,
    offset: i64,
    last_epoch: i32,
    max_bytes: i32,
) -> FetchPartition {
    let partition = PartitionId(partition);
    FetchPartition { partition, leader_epoch, offset, last_epoch, max_bytes }
}

#[test]
fn fetch_request() {
    let topics = [
        FetchTopic {
            name: "orders",
            partitions: vec![
                wanted(7, 42, 0x0102_0304_0506_0708, 41, 1 << 20),
                wanted(0, 9, 5, 8, 77),
            ],
        },
        FetchTopic {
            name: "täglich",
            partitions: vec![wanted(1, 3, 0x1112_1314_1516_1718, 2, i32::MAX)],
        },
    ];
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1024,
        max_bytes: 50 << 20,
        read_committed: true,
        topics: &topics,
    };
    for (version, bytes) in golden_of(ApiKey::Fetch, "FetchRequest") {
        assert_eq!(encoded(|out| request.encode(version, out)), bytes, "v{version}");
    }
    let plain = FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 300,
        read_committed: false,
        topics: &[FetchTopic { name: "t", partitions: vec![wanted(0, -1, 0, -1, 200)] }],
    };
    for (version, bytes) in golden_of(ApiKey::Fetch, "FetchRequest.plain") {
        assert_eq!(encoded(|out| plain.encode(version, out)), bytes, "plain v{version}");
    }
}

fn fetched_expected(version: i16) -> Vec<(String, Vec<FetchedPartition>)> {
    let stable = |offset| if version >= 4 { offset } else { -1 };
    let start = |offset| if version >= 5 { offset } else { -1 };
    // Where the leader is and where logs part are tagged fields.
    let leader = |id, epoch| (version >= 12).then_some((BrokerId(id), epoch));
    let aborted = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
    let read = FetchedPartition {
        partition: PartitionId(7),
        error: ErrorCode::NONE,
        high_watermark: 0x0102_0304_0506_0708,
        last_stable_offset: stable(0x0102_0304_0506_0701),
        log_start_offset: start(12_345),
        aborted: match version {
            ..4 => Vec::new(),
            4.. => vec![aborted(0x1112_1314_1516_1718, 0x2122_2324_2526_2728), aborted(8, 9)],
        },
        diverging: None,
        current_leader: None,
        records: vec![0x5a; 200].into(),
    };
    let moved = FetchedPartition {
        partition: PartitionId(0),
        error: ErrorCode::NOT_LEADER_OR_FOLLOWER,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        current_leader: leader(3, 43),
        ..FetchedPartition::default()
    };
    let diverging = FetchedPartition {
        partition: PartitionId(1),
        error: ErrorCode::KAFKA_STORAGE_ERROR,
        high_watermark: 500,
        last_stable_offset: stable(400),
        log_start_offset: start(300),
        diverging: (version >= 12).then_some((41, 0x3132_3334_3536_3738)),
        current_leader: leader(4, 44),
        ..FetchedPartition::default()
    };
    vec![("orders".to_owned(), vec![read, moved]), ("täglich".to_owned(), vec![diverging])]
}

#[test]
fn fetch_response() {
    let error_of = |version, error| if version >= 7 { error } else { ErrorCode::NONE };
    let throttle_of = |version, ms| if version >= 1 { ms } else { 0 };
    for (version, bytes) in golden_of(ApiKey::Fetch, "FetchResponse") {
        let expected = FetchResponse {
            throttle_time_ms: throttle_of(version, 498),
            error: error_of(version, ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            topics: fetched_expected(version),
        };
        assert_eq!(FetchResponse::decode(version, &bytes), Ok(expected), "v{version}");
        assert_no_other_length_decodes(&bytes, |b| FetchResponse::decode(version, b).ok());
    }
    for (version, bytes) in golden_of(ApiKey::Fetch, "FetchResponse.error") {
        let expected = FetchResponse {
            throttle_time_ms: throttle_of(version, 17),
            error: error_of(version, ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
            topics: vec![],
        };
        assert_eq!(FetchResponse::decode(version, &bytes), Ok(expected), "error v{version}");
        assert_no_other_length_decodes(&bytes, |b| FetchResponse::decode(version, b).ok());
    }
}

#[test]
fn list_offsets_request() {
    let sought = |partition, leader_epoch, time| OffsetQuestion {
        partition: PartitionId(partition),
        leader_epoch,
        time,
    };
    let topics = [
        ("orders", vec![sought(7, 42, 1_760_000_000_000), sought(0, 9, TIME_LATEST)]),
        ("täglich", vec![sought(1, 3, TIME_EARLIEST)]),
    ];
    let request = ListOffsetsRequest { read_committed: true, topics: &topics };
    for (version, bytes) in golden_of(ApiKey::ListOffsets, "ListOffsetsRequest") {
        assert_eq!(encoded(|out| request.encode(version, out)), bytes, "v{version}");
    }
    let topics = [("t", vec![sought(0, -1, 0)])];
    let plain = ListOffsetsRequest { read_committed: false, topics: &topics };
    for (version, bytes) in golden_of(ApiKey::ListOffsets, "ListOffsetsRequest.plain") {
        assert_eq!(encoded(|out| plain.encode(version, out)), bytes, "plain v{version}");
    }
}

#[test]
fn list_offsets_response() {
    for (version, bytes) in golden_of(ApiKey::ListOffsets, "ListOffsetsResponse") {
        let found = |partition, error, time, offset, epoch| FoundOffset {
            partition: PartitionId(partition),
            error,
            time,
            offset,
            leader_epoch: if version >= 4 { epoch } else { -1 },
        };
        let none = ErrorCode::NONE;
        let time = if version >= 1 { 1_760_000_000_000 } else { -1 };
        let orders = vec![
            found(7, none, time, 0x0102_0304_0506_0708, 42),
            found(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1, -1, -1),
        ];
        let daily = vec![found(1, none, -1, 12_345, 0)];
        let expected = ListOffsetsResponse {
            throttle_time_ms: if version >= 2 { 498 } else { 0 },
            topics: vec![("orders".to_owned(), orders), ("täglich".to_owned(), daily)],
        };
        assert_eq!(ListOffsetsResponse::decode(version, &bytes), Ok(expected), "v{version}");
        assert_no_other_length_decodes(&bytes, |b| ListOffsetsResponse::decode(version, b).ok());
    }
}
