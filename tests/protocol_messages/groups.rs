//! The messages about offsets that are kept for a group: golden bytes, and the `kafka-protocol`
//! crate.

use kafka_protocol::messages as peer;
use peer::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use peer::offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate::internals::protocol::{
    FindCoordinatorRequest, FindCoordinatorResponse, KeptOffset, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::round_trip::{CASES, peer_decode, peer_encode, str_bytes, text, versions};
use super::*;

const GROUP: &str = "grüppe";

#[test]
fn offset_commit() {
    let topics = [
        ("orders", vec![(PartitionId(7), 0x0102_0304_0506_0708), (PartitionId(0), 0)]),
        ("täglich", vec![(PartitionId(1), 12_345)]),
    ];
    let request = OffsetCommitRequest { group: GROUP, topics: &topics };
    for (version, bytes) in golden_of(ApiKey::OffsetCommit, "OffsetCommitRequest") {
        assert_eq!(encoded(|out| request.encode(version, out)), bytes, "v{version}");
    }
    for (version, bytes) in golden_of(ApiKey::OffsetCommit, "OffsetCommitResponse") {
        let orders =
            vec![(PartitionId(7), ErrorCode::NONE), (PartitionId(0), ErrorCode::NOT_COORDINATOR)];
        let expected = OffsetCommitResponse {
            throttle_time_ms: if version >= 3 { 498 } else { 0 },
            topics: vec![
                ("orders".to_owned(), orders),
                ("täglich".to_owned(), vec![(PartitionId(1), ErrorCode::NONE)]),
            ],
        };
        assert_eq!(OffsetCommitResponse::decode(version, &bytes), Ok(expected), "v{version}");
        assert_no_other_length_decodes(&bytes, |b| OffsetCommitResponse::decode(version, b).ok());
    }
}

#[test]
fn offset_fetch() {
    let topics =
        [("orders", vec![PartitionId(7), PartitionId(0)]), ("täglich", vec![PartitionId(1)])];
    let request = OffsetFetchRequest { group: GROUP, topics: &topics };
    for (version, bytes) in golden_of(ApiKey::OffsetFetch, "OffsetFetchRequest") {
        assert_eq!(encoded(|out| request.encode(version, out)), bytes, "v{version}");
    }
    for (version, bytes) in golden_of(ApiKey::OffsetFetch, "OffsetFetchResponse") {
        let kept = |partition, error, offset, epoch| KeptOffset {
            partition: PartitionId(partition),
            error,
            offset,
            leader_epoch: if version >= 5 { epoch } else { -1 },
        };
        let none = ErrorCode::NONE;
        let orders = vec![kept(7, none, 0x0102_0304_0506_0708, 42), kept(0, none, -1, -1)];
        let daily = vec![kept(1, ErrorCode::UNSTABLE_OFFSET_COMMIT, -1, -1)];
        let loads = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
        let expected = OffsetFetchResponse {
            throttle_time_ms: if version >= 3 { 498 } else { 0 },
            error: if version >= 2 { loads } else { none },
            topics: vec![("orders".to_owned(), orders), ("täglich".to_owned(), daily)],
        };
        assert_eq!(OffsetFetchResponse::decode(version, &bytes), Ok(expected), "v{version}");
        assert_no_other_length_decodes(&bytes, |b| OffsetFetchResponse::decode(version, b).ok());
    }
}

#[test]
fn find_coordinator() {
    let request = FindCoordinatorRequest { group: GROUP };
    for (version, bytes) in golden_of(ApiKey::FindCoordinator, "FindCoordinatorRequest") {
        assert_eq!(encoded(|out| request.encode(version, out)), bytes, "v{version}");
    }
    let decode = FindCoordinatorResponse::decode;
    for (name, error, broker, host, port) in [
        ("FindCoordinatorResponse", ErrorCode::NONE, 3, "broker-3.example", 65_535),
        ("FindCoordinatorResponse.none", ErrorCode::COORDINATOR_NOT_AVAILABLE, -1, "", 0),
    ] {
        for (version, bytes) in golden_of(ApiKey::FindCoordinator, name) {
            let expected = FindCoordinatorResponse {
                throttle_time_ms: if version >= 1 { 498 } else { 0 },
                error,
                broker: BrokerId(broker),
                host: host.to_owned(),
                port,
            };
            assert_eq!(decode(version, &bytes), Ok(expected), "v{version}");
            assert_no_other_length_decodes(&bytes, |b| decode(version, b).ok());
        }
    }
    let nobody = peer_encode(&peer::FindCoordinatorResponse::default(), 4);
    let told = decode(4, &nobody).expect("it can be read");
    assert_eq!(told.error, ErrorCode::COORDINATOR_NOT_AVAILABLE);
}

type Topics<T> = Vec<(String, Vec<T>)>;

fn topics<T: std::fmt::Debug>(each: impl Strategy<Value = T>) -> impl Strategy<Value = Topics<T>> {
    vec((text(), vec(each, 0..4)), 0..4)
}

fn check_requests(group: &str, topics: &Topics<(i32, i64)>) {
    let lent: Vec<_> = topics
        .iter()
        .map(|(name, each)| {
            (name.as_str(), each.iter().map(|it| (PartitionId(it.0), it.1)).collect())
        })
        .collect();
    let request = OffsetCommitRequest { group, topics: &lent };
    for version in versions(ApiKey::OffsetCommit) {
        let bytes = encoded(|out| request.encode(version, out));
        let theirs: peer::OffsetCommitRequest = peer_decode(&bytes, version);
        assert_eq!(theirs.group_id.as_str(), group);
        assert_eq!(theirs.generation_id_or_member_epoch, -1);
        assert!(theirs.member_id.is_empty() && theirs.group_instance_id.is_none());
        assert_eq!(theirs.retention_time_ms, -1);
        let read = theirs.topics.iter().map(|topic| {
            let each = topic.partitions.iter();
            let each = each.map(|it| {
                assert_eq!(it.committed_leader_epoch, -1);
                assert_eq!(it.committed_metadata.as_deref(), Some(""));
                (it.partition_index, it.committed_offset)
            });
            (topic.name.to_string(), each.collect())
        });
        assert_eq!(read.collect::<Topics<_>>(), *topics, "v{version}");
    }
    let lent: Vec<_> = topics
        .iter()
        .map(|(name, each)| (name.as_str(), each.iter().map(|it| PartitionId(it.0)).collect()))
        .collect();
    let request = OffsetFetchRequest { group, topics: &lent };
    for version in versions(ApiKey::OffsetFetch) {
        let bytes = encoded(|out| request.encode(version, out));
        let theirs: peer::OffsetFetchRequest = peer_decode(&bytes, version);
        assert_eq!(theirs.group_id.as_str(), group);
        assert_eq!(theirs.require_stable, version >= 7);
        let read = theirs
            .topics
            .into_iter()
            .flatten()
            .map(|topic| (topic.name.to_string(), topic.partition_indexes));
        let expected = topics
            .iter()
            .map(|(name, each)| (name.clone(), each.iter().map(|it| it.0).collect::<Vec<_>>()));
        assert!(read.eq(expected), "v{version}");
    }
    for version in versions(ApiKey::FindCoordinator) {
        let bytes = encoded(|out| FindCoordinatorRequest { group }.encode(version, out));
        let theirs: peer::FindCoordinatorRequest = peer_decode(&bytes, version);
        let key = if version >= 4 { &theirs.coordinator_keys[0] } else { &theirs.key };
        assert_eq!((key.as_str(), theirs.key_type), (group, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn kept_offsets_both_ways(
        group in text(),
        wanted in topics(any::<(i32, i64)>()),
        throttle_time_ms in any::<i32>(),
        error in any::<i16>(),
        committed in topics(any::<(i32, i16)>()),
        kept in topics((any::<(i32, i16, i64, i32)>(), option::of(text()))),
    ) {
        check_requests(&group, &wanted);
        let theirs = committed.iter().map(|(name, each)| {
            let each = each.iter().map(|it| {
                OffsetCommitResponsePartition::default()
                    .with_partition_index(it.0)
                    .with_error_code(it.1)
            });
            OffsetCommitResponseTopic::default()
                .with_name(str_bytes(name).into())
                .with_partitions(each.collect())
        });
        let theirs = theirs.collect::<Vec<_>>();
        for version in versions(ApiKey::OffsetCommit) {
            let throttle_time_ms = if version >= 3 { throttle_time_ms } else { 0 };
            let theirs = peer::OffsetCommitResponse::default()
                .with_throttle_time_ms(throttle_time_ms)
                .with_topics(theirs.clone());
            let topics = committed.iter().map(|(name, each)| {
                let each = each.iter().map(|it| (PartitionId(it.0), ErrorCode(it.1)));
                (name.clone(), each.collect())
            });
            let expected = OffsetCommitResponse { throttle_time_ms, topics: topics.collect() };
            let bytes = peer_encode(&theirs, version);
            prop_assert_eq!(OffsetCommitResponse::decode(version, &bytes), Ok(expected));
        }
        for version in versions(ApiKey::OffsetFetch) {
            let epoch = |epoch| if version >= 5 { epoch } else { -1 };
            let error = if version >= 2 { error } else { 0 };
            let throttle_time_ms = if version >= 3 { throttle_time_ms } else { 0 };
            let theirs = kept.iter().map(|(name, each)| {
                let each = each.iter().map(|(it, metadata)| {
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(it.0)
                        .with_error_code(it.1)
                        .with_committed_offset(it.2)
                        .with_committed_leader_epoch(epoch(it.3))
                        .with_metadata(metadata.as_deref().map(str_bytes))
                });
                OffsetFetchResponseTopic::default()
                    .with_name(str_bytes(name).into())
                    .with_partitions(each.collect())
            });
            let theirs = peer::OffsetFetchResponse::default()
                .with_throttle_time_ms(throttle_time_ms)
                .with_error_code(error)
                .with_topics(theirs.collect());
            let topics = kept.iter().map(|(name, each)| {
                let each = each.iter().map(|(it, _)| KeptOffset {
                    partition: PartitionId(it.0),
                    error: ErrorCode(it.1),
                    offset: it.2,
                    leader_epoch: epoch(it.3),
                });
                (name.clone(), each.collect())
            });
            let error = ErrorCode(error);
            let expected =
                OffsetFetchResponse { throttle_time_ms, error, topics: topics.collect() };
            let bytes = peer_encode(&theirs, version);
            prop_assert_eq!(OffsetFetchResponse::decode(version, &bytes), Ok(expected));
        }
    }
}
