//! Property tests of what consumers ask for, records and offsets, as those in `round_trip` are.

use kafka_protocol::messages as peer;
use peer::fetch_response::{
    AbortedTransaction as PeerAborted, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch,
    PartitionData, SnapshotId,
};
use peer::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate::internals::protocol::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchTopic, FetchedPartition, FoundOffset,
    ListOffsetsRequest, OffsetQuestion,
};

use super::round_trip::{CASES, peer_decode, peer_encode, str_bytes, text, versions};
use super::*;

type Wanted = Vec<(String, Vec<FetchPartition>)>;

fn wanted() -> impl Strategy<Value = Wanted> {
    let partition = any::<(i32, i32, i64, i32, i32)>().prop_map(|n| FetchPartition {
        partition: PartitionId(n.0),
        leader_epoch: n.1,
        offset: n.2,
        last_epoch: n.3,
        max_bytes: n.4,
    });
    vec((text(), vec(partition, 0..4)), 0..4)
}

fn partition_data() -> impl Strategy<Value = PartitionData> {
    let numbers = any::<(i32, i16, i64, i64, i64, i32)>();
    let aborted = option::of(vec(any::<(i64, i64)>(), 0..3));
    let diverging = option::of((0..i32::MAX, 0..i64::MAX));
    let leader = option::of((0..i32::MAX, any::<i32>()));
    let snapshot = option::of((0..i64::MAX, 0..i32::MAX));
    let records = option::of(vec(any::<u8>(), 0..300));
    (numbers, aborted, diverging, leader, snapshot, records).prop_map(
        |(n, aborted, diverging, leader, snapshot, records)| {
            let aborted = aborted.map(|aborted| {
                let aborted = aborted.into_iter().map(|(producer, first)| {
                    PeerAborted::default()
                        .with_producer_id(producer.into())
                        .with_first_offset(first)
                });
                aborted.collect()
            });
            let diverging = diverging.map_or(EpochEndOffset::default(), |(epoch, end)| {
                EpochEndOffset::default().with_epoch(epoch).with_end_offset(end)
            });
            let leader = leader.map_or(LeaderIdAndEpoch::default(), |(id, epoch)| {
                LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch)
            });
            let snapshot = snapshot.map_or(SnapshotId::default(), |(end, epoch)| {
                SnapshotId::default().with_end_offset(end).with_epoch(epoch)
            });
            PartitionData::default()
                .with_partition_index(n.0)
                .with_error_code(n.1)
                .with_high_watermark(n.2)
                .with_last_stable_offset(n.3)
                .with_log_start_offset(n.4)
                .with_preferred_read_replica(n.5.into())
                .with_aborted_transactions(aborted)
                .with_diverging_epoch(diverging)
                .with_current_leader(leader)
                .with_snapshot_id(snapshot)
                .with_records(records.map(Into::into))
        },
    )
}

fn fetch_response() -> impl Strategy<Value = peer::FetchResponse> {
    let topic = (text(), vec(partition_data(), 0..4)).prop_map(|(name, partitions)| {
        FetchableTopicResponse::default()
            .with_topic(str_bytes(&name).into())
            .with_partitions(partitions)
    });
    (vec(topic, 0..4), any::<(i32, i16, i32)>()).prop_map(|(topics, n)| {
        peer::FetchResponse::default()
            .with_throttle_time_ms(n.0)
            .with_error_code(n.1)
            .with_session_id(n.2)
            .with_responses(topics)
    })
}

/// What `version` cannot carry is taken out: the peer refuses to encode it, or leaves it out.
fn fetch_response_of(version: i16, mut response: peer::FetchResponse) -> peer::FetchResponse {
    if version < 7 {
        (response.error_code, response.session_id) = (0, 0);
    }
    for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < 5 {
            partition.log_start_offset = -1;
        }
        if version < 11 {
            partition.preferred_read_replica = (-1).into();
        }
        if version < 12 {
            partition.diverging_epoch = EpochEndOffset::default();
            partition.current_leader = LeaderIdAndEpoch::default();
            partition.snapshot_id = SnapshotId::default();
        }
    }
    response
}

fn fetched_partition(theirs: &PartitionData) -> FetchedPartition {
    let aborted = theirs.aborted_transactions.iter().flatten().map(|it| AbortedTransaction {
        producer_id: it.producer_id.0,
        first_offset: it.first_offset,
    });
    let (diverging, leader) = (&theirs.diverging_epoch, &theirs.current_leader);
    FetchedPartition {
        partition: PartitionId(theirs.partition_index),
        error: ErrorCode(theirs.error_code),
        high_watermark: theirs.high_watermark,
        last_stable_offset: theirs.last_stable_offset,
        log_start_offset: theirs.log_start_offset,
        aborted: aborted.collect(),
        diverging: (diverging.epoch >= 0).then_some((diverging.epoch, diverging.end_offset)),
        current_leader: (leader.leader_id.0 >= 0)
            .then_some((BrokerId(leader.leader_id.0), leader.leader_epoch)),
        records: theirs.records.clone().unwrap_or_default(),
    }
}

fn check_fetch_request(version: i16, ours: &FetchRequest<'_>) {
    let bytes = encoded(|out| ours.encode(version, out));
    let theirs: peer::FetchRequest = peer_decode(&bytes, version);
    assert_eq!(theirs.replica_id.0, -1);
    assert_eq!((theirs.session_id, theirs.session_epoch), (0, -1));
    assert!(theirs.cluster_id.is_none() && theirs.forgotten_topics_data.is_empty());
    assert_eq!(theirs.rack_id.as_str(), "");
    assert_eq!((theirs.max_wait_ms, theirs.min_bytes), (ours.max_wait_ms, ours.min_bytes));
    assert_eq!(theirs.max_bytes, ours.max_bytes);
    assert_eq!(theirs.isolation_level, i8::from(ours.read_committed));
    assert_eq!(theirs.topics.len(), ours.topics.len());
    for (theirs, ours) in theirs.topics.iter().zip(ours.topics) {
        assert_eq!(theirs.topic.as_str(), ours.name);
        assert!(theirs.partitions.iter().all(|it| it.log_start_offset == -1));
        let read = theirs.partitions.iter().map(|it| FetchPartition {
            partition: PartitionId(it.partition),
            leader_epoch: it.current_leader_epoch,
            offset: it.fetch_offset,
            last_epoch: it.last_fetched_epoch,
            max_bytes: it.partition_max_bytes,
        });
        let expected = ours.partitions.iter().map(|it| FetchPartition {
            leader_epoch: if version >= 9 { it.leader_epoch } else { -1 },
            last_epoch: if version >= 12 { it.last_epoch } else { -1 },
            ..*it
        });
        assert!(read.eq(expected), "v{version}: {theirs:?} of {ours:?}");
    }
}

fn check_list_offsets_request(version: i16, ours: &ListOffsetsRequest<'_>) {
    let bytes = encoded(|out| ours.encode(version, out));
    let theirs: peer::ListOffsetsRequest = peer_decode(&bytes, version);
    assert_eq!(theirs.replica_id.0, -1);
    assert_eq!(theirs.isolation_level, i8::from(ours.read_committed && version >= 2));
    assert_eq!(theirs.topics.len(), ours.topics.len());
    for (theirs, (name, questions)) in theirs.topics.iter().zip(ours.topics) {
        assert_eq!(theirs.name.as_str(), *name);
        let read = theirs.partitions.iter().map(|it| OffsetQuestion {
            partition: PartitionId(it.partition_index),
            leader_epoch: it.current_leader_epoch,
            time: it.timestamp,
        });
        let expected = questions.iter().map(|it| OffsetQuestion {
            leader_epoch: if version >= 4 { it.leader_epoch } else { -1 },
            ..*it
        });
        assert!(read.eq(expected), "v{version}: {theirs:?} of {questions:?}");
    }
}

type Found = Vec<(String, Vec<FoundOffset>)>;

fn found() -> impl Strategy<Value = Found> {
    let offset = any::<(i32, i16, i64, i64, i32)>().prop_map(|n| FoundOffset {
        partition: PartitionId(n.0),
        error: ErrorCode(n.1),
        time: n.2,
        offset: n.3,
        leader_epoch: n.4,
    });
    vec((text(), vec(offset, 0..4)), 0..4)
}

fn to_peer(response: &ListOffsetsResponse) -> peer::ListOffsetsResponse {
    let partition = |found: &FoundOffset| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(found.partition.0)
            .with_error_code(found.error.0)
            .with_timestamp(found.time)
            .with_offset(found.offset)
            .with_leader_epoch(found.leader_epoch)
    };
    let topics = response.topics.iter().map(|(name, found)| {
        ListOffsetsTopicResponse::default()
            .with_name(str_bytes(name).into())
            .with_partitions(found.iter().map(partition).collect())
    });
    peer::ListOffsetsResponse::default()
        .with_throttle_time_ms(response.throttle_time_ms)
        .with_topics(topics.collect())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(CASES)
    })]

    #[test]
    fn fetches_both_ways(
        topics in wanted(),
        (max_wait_ms, min_bytes, max_bytes) in any::<(i32, i32, i32)>(),
        read_committed in any::<bool>(),
        response in fetch_response(),
    ) {
        let lent = topics.iter().map(|(name, partitions)| {
            FetchTopic { name, partitions: partitions.clone() }
        });
        let topics: Vec<_> = lent.collect();
        let request =
            FetchRequest { max_wait_ms, min_bytes, max_bytes, read_committed, topics: &topics };
        for version in versions(ApiKey::Fetch) {
            check_fetch_request(version, &request);
            let theirs = fetch_response_of(version, response.clone());
            let topics = theirs.responses.iter().map(|topic| {
                let partitions = topic.partitions.iter().map(fetched_partition);
                (topic.topic.to_string(), partitions.collect())
            });
            let expected = FetchResponse {
                throttle_time_ms: theirs.throttle_time_ms,
                error: ErrorCode(theirs.error_code),
                topics: topics.collect(),
            };
            let bytes = peer_encode(&theirs, version);
            prop_assert_eq!(FetchResponse::decode(version, &bytes), Ok(expected));
        }
    }

    #[test]
    fn offsets_both_ways(
        questions in vec((text(), vec(any::<(i32, i32, i64)>(), 0..4)), 0..4),
        read_committed in any::<bool>(),
        throttle_time_ms in any::<i32>(),
        topics in found(),
    ) {
        let question = |&(partition, leader_epoch, time): &(i32, i32, i64)| {
            OffsetQuestion { partition: PartitionId(partition), leader_epoch, time }
        };
        let questions = questions.iter().map(|(name, partitions)| {
            (name.as_str(), partitions.iter().map(question).collect())
        });
        let questions: Vec<_> = questions.collect();
        let request = ListOffsetsRequest { read_committed, topics: &questions };
        for version in versions(ApiKey::ListOffsets) {
            check_list_offsets_request(version, &request);
            let mut expected = ListOffsetsResponse { throttle_time_ms, topics: topics.clone() };
            if version < 2 {
                expected.throttle_time_ms = 0;
            }
            if version < 4 {
                let found = expected.topics.iter_mut().flat_map(|(_, found)| found);
                found.for_each(|found| found.leader_epoch = -1);
            }
            let bytes = peer_encode(&to_peer(&expected), version);
            prop_assert_eq!(ListOffsetsResponse::decode(version, &bytes), Ok(expected));
        }
    }
}
