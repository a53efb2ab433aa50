//! Fetch, ListOffsets and OffsetForLeaderEpoch.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::RecordBatchDecoder;
use tidegate::embedded::{EmbeddedCluster, Fault, KafkaVersion};

use crate::client::{Client, LONG, batch};
use crate::{one_broker, sets};

const NEWEST: i16 = 12;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Asks for partition 0 of "t" from this offset on.
fn asks(offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_partition_max_bytes(1 << 20)
}

fn request(topic_id: [u8; 16], partition: FetchPartition) -> FetchRequest {
    let topic = FetchTopic::default()
        .with_topic(name("t"))
        .with_topic_id(topic_id.to_vec().try_into().unwrap())
        .with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn send(client: &mut Client, version: i16, request: FetchRequest) -> FetchResponse {
    let mut request = request;
    if version >= 13 {
        request.topics[0].topic = name("");
    }
    client.call(ApiKey::Fetch, version, &request).expect("a response")
}

fn fetch(client: &mut Client, partition: FetchPartition) -> PartitionData {
    let mut response = send(client, NEWEST, request([0; 16], partition));
    response.responses.remove(0).partitions.remove(0)
}

/// Offset, leader's epoch and value of every record.
fn records(data: &PartitionData) -> Vec<(i64, i32, String)> {
    let mut bytes = data.records.clone().unwrap_or_default();
    let mut out = Vec::new();
    while !bytes.is_empty() {
        for record in RecordBatchDecoder::decode(&mut bytes).expect("whole batches").records {
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            out.push((record.offset, record.partition_leader_epoch, value));
        }
    }
    out
}

fn values(data: &PartitionData) -> Vec<String> {
    records(data).into_iter().map(|record| record.2).collect()
}

#[test]
fn every_version_gets_what_was_produced_from_any_offset() {
    let (cluster, mut client) = one_broker();
    let id = cluster.topic_id("t").unwrap();
    client.produce(9, &batch(None, &["a", "b"]));
    client.produce(9, &batch(None, &["c"]));
    for version in 4..=18 {
        let response = send(&mut client, version, request(id, asks(0)));
        let data = &response.responses[0].partitions[0];
        assert_eq!((data.error_code, data.high_watermark), (0, 3), "version {version}");
        assert_eq!(values(data), ["a", "b", "c"], "version {version}");
    }
    // A batch comes whole, also from an offset within it; behind the end there is nothing yet.
    assert_eq!(values(&fetch(&mut client, asks(1))), ["a", "b", "c"]);
    assert_eq!(records(&fetch(&mut client, asks(2))), [(2, 0, "c".to_owned())]);
    assert!(values(&fetch(&mut client, asks(3))).is_empty());
    for beside in [-1, 4] {
        assert_eq!(fetch(&mut client, asks(beside)).error_code, 1, "offset {beside}");
    }
    assert_eq!(fetch(&mut client, asks(0).with_partition(2)).error_code, 3);
    let response = send(&mut client, 13, request([7; 16], asks(0)));
    assert_eq!(response.responses[0].partitions[0].error_code, 100);
}

#[test]
fn a_fetch_waits_for_as_much_as_it_wants() {
    let (cluster, mut client) = one_broker();
    let wait = |ms| request([0; 16], asks(0)).with_max_wait_ms(ms);
    let start = Instant::now();
    let nothing = send(&mut client, NEWEST, wait(50));
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(values(&nothing.responses[0].partitions[0]).is_empty());

    client.send(ApiKey::Fetch, NEWEST, &wait(LONG.as_millis() as i32));
    let mut producer = Client::connect(cluster.address(1));
    producer.produce(9, &batch(None, &["late"]));
    let response: FetchResponse = client.receive(NEWEST).expect("long before the wait is over");
    assert_eq!(values(&response.responses[0].partitions[0]), ["late"]);
    // What is wrong is told at once.
    let elsewhere = request([0; 16], asks(9)).with_max_wait_ms(LONG.as_millis() as i32);
    let start = Instant::now();
    assert_eq!(send(&mut client, NEWEST, elsewhere).responses[0].partitions[0].error_code, 1);
    assert!(start.elapsed() < LONG / 2);
    // A broker that is stopped does not wait on.
    client.send(ApiKey::Fetch, NEWEST, &request([0; 16], asks(1)).with_max_wait_ms(60_000));
    cluster.stop_broker(1);
    assert!(client.is_closed());
    assert!(start.elapsed() < LONG / 2);
}

#[test]
fn limits_cut_the_last_batch_and_never_the_first() {
    let (_cluster, mut client) = one_broker();
    client.produce(9, &batch(None, &["first"]));
    client.produce(9, &batch(None, &["second"]));
    let len = |data: &PartitionData| data.records.as_ref().map_or(0, Bytes::len);
    let both = len(&fetch(&mut client, asks(0)));
    let one = len(&fetch(&mut client, asks(1)));
    assert_eq!(len(&fetch(&mut client, asks(0).with_partition_max_bytes(1))), both - one);
    let cut = fetch(&mut client, asks(0).with_partition_max_bytes(both as i32 - 1));
    assert_eq!(len(&cut), both - 1, "Kafka cuts its log where the limit is");
    // The second partition of a request gets what the first has left.
    let mut request = request([0; 16], asks(0)).with_max_bytes(1);
    request.topics[0].partitions.push(asks(0).with_partition(1));
    client.produce(9, &batch(None, &["other"]).to("t", 1));
    let response = send(&mut client, NEWEST, request);
    let partitions = &response.responses[0].partitions;
    assert_eq!((len(&partitions[0]), len(&partitions[1])), (both - one, 0));
}

#[test]
fn leaders_and_their_epochs_are_judged_and_told() {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    let mut old = Client::connect(cluster.address(1));
    assert!(cluster.move_leader("t", 0, 1));
    old.produce(9, &batch(None, &["a"]));
    old.produce(9, &batch(None, &["lost"]));
    assert!(cluster.move_leader("t", 0, 2));
    let mut new = Client::connect(cluster.address(2));
    new.produce(9, &batch(None, &["b"]));

    let refused = fetch(&mut old, asks(0));
    let hint = (refused.current_leader.leader_id.0, refused.current_leader.leader_epoch);
    assert_eq!((refused.error_code, hint), (6, (2, 2)));
    for version in 4..=18 {
        let id = cluster.topic_id("t").unwrap();
        let response = send(&mut old, version, request(id, asks(0)));
        assert_eq!(response.responses[0].partitions[0].error_code, 6, "version {version}");
    }
    let response = send(&mut old, 16, request(cluster.topic_id("t").unwrap(), asks(0)));
    assert_eq!(response.node_endpoints[0].port, i32::from(cluster.address(2).port()));
    let believes = |epoch| asks(0).with_current_leader_epoch(epoch);
    assert_eq!(fetch(&mut new, believes(1)).error_code, 74);
    assert_eq!(fetch(&mut new, believes(3)).error_code, 75);
    let all = ["a", "lost", "b"].map(str::to_owned);
    let read = records(&fetch(&mut new, believes(2)));
    assert_eq!(read.iter().map(|it| it.1).collect::<Vec<_>>(), [1, 1, 2], "who wrote it");
    assert_eq!(read.into_iter().map(|it| it.2).collect::<Vec<_>>(), all);

    // An unclean election: who has read the second record must go back.
    assert!(cluster.cut_off("t", 0, 1));
    let data = fetch(&mut new, asks(1).with_last_fetched_epoch(2));
    let told = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
    assert_eq!((data.error_code, told), (0, (1, 1)));
    let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![
        OffsetForLeaderPartition::default().with_current_leader_epoch(-1).with_leader_epoch(2),
    ]);
    let request = OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    for version in 2..=4 {
        let response: OffsetForLeaderEpochResponse =
            new.call(ApiKey::OffsetForLeaderEpoch, version, &request).unwrap();
        let end = &response.topics[0].partitions[0];
        assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, 1, 1));
    }
}

fn offset(client: &mut Client, version: i16, time: i64) -> ListOffsetsPartitionResponse {
    let partition =
        ListOffsetsPartition::default().with_timestamp(time).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let response: ListOffsetsResponse =
        client.call(ApiKey::ListOffsets, version, &request).expect("a response");
    response.topics[0].partitions[0].clone()
}

#[test]
fn offsets_are_found_by_their_time() {
    const NOON: i64 = 1_700_000_000_000;
    let (_cluster, mut client) = one_broker();
    assert_eq!(offset(&mut client, 1, -2).offset, 0);
    assert_eq!(offset(&mut client, 1, NOON).offset, -1, "nothing is there");
    // One millisecond apart.
    client.produce(9, &batch(None, &["a", "b", "c"]));
    for version in 1..=10 {
        let mut at = |time| {
            let found = offset(&mut client, version, time);
            (found.error_code, found.offset, found.timestamp)
        };
        assert_eq!(at(-1), (0, 3, -1), "version {version}");
        assert_eq!(at(-2), (0, 0, -1));
        assert_eq!(at(NOON + 1), (0, 1, NOON + 1));
        assert_eq!(at(NOON - 1), (0, 0, NOON));
        assert_eq!(at(NOON + 3), (0, -1, -1));
    }
    assert_eq!(offset(&mut client, 7, -3).offset, 2, "the newest record");
}

#[test]
fn the_log_of_brokers_that_keep_nothing_begins_at_its_end() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).discard_payloads(true).start().unwrap();
    let mut client = Client::connect(cluster.address(1));
    client.produce(9, &batch(None, &["a", "b"]));
    assert_eq!(offset(&mut client, 7, -2).offset, 2);
    let data = fetch(&mut client, asks(0));
    assert_eq!(data.error_code, 1, "as if the log were cleaned");
    assert_eq!(
        (fetch(&mut client, asks(2)).log_start_offset, fetch(&mut client, asks(2)).error_code),
        (2, 0)
    );
}

#[test]
fn log_append_time_is_in_what_is_read() {
    let cluster = EmbeddedCluster::builder().topic_with_log_append_time("t", 1).start().unwrap();
    let mut client = Client::connect(cluster.address(1));
    let appended = client.produce(9, &batch(None, &["a"])).log_append_time_ms;
    let mut bytes = fetch(&mut client, asks(0)).records.unwrap();
    // The decoder checks the CRC.
    let record = RecordBatchDecoder::decode(&mut bytes).unwrap().records.remove(0);
    assert_eq!(record.timestamp_type, kafka_protocol::records::TimestampType::LogAppend);
    assert_eq!(cluster.records("t", 0)[0].timestamp, appended);
    assert_eq!(offset(&mut client, 7, appended).offset, 0);
}

#[test]
fn message_sets_are_read_as_batches() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).kafka_version(KafkaVersion::V2_7);
    let cluster = cluster.start().unwrap();
    let mut client = Client::connect(cluster.address(1));
    for magic in [0, 1] {
        sets::produce(&mut client, 2, &sets::plain(magic, &["a", "b"]));
    }
    client.produce(8, &batch(None, &["c"]));
    let data = fetch(&mut client, asks(0));
    assert_eq!(values(&data), ["a", "b", "a", "b", "c"]);
    assert_eq!(records(&data).iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn faults_happen_to_readers_too() {
    let (cluster, mut client) = one_broker();
    client.produce(9, &batch(None, &["a"]));
    cluster.script([Fault::fetch_error("t", 0, 6).times(2)]);
    assert_eq!(fetch(&mut client, asks(0)).error_code, 6);
    assert_eq!(offset(&mut client, 7, -1).error_code, 6);
    assert_eq!(values(&fetch(&mut client, asks(0))), ["a"]);
    cluster.script([Fault::close_before_response().api(1)]);
    client.send(ApiKey::Fetch, NEWEST, &request([0; 16], asks(0)));
    assert!(client.is_closed());
}

#[test]
fn a_session_is_neither_given_nor_known() {
    let (_cluster, mut client) = one_broker();
    let mut wanted = request([0; 16], asks(0)).with_session_epoch(0);
    assert_eq!(send(&mut client, NEWEST, wanted.clone()).session_id, 0);
    wanted = wanted.with_session_id(5).with_session_epoch(1);
    assert_eq!(send(&mut client, NEWEST, wanted).error_code, 70);
}

#[test]
fn counts_that_no_request_holds_cost_the_connection_and_no_memory() {
    let (cluster, mut client) = one_broker();
    let lie = |body: &mut Vec<u8>| body.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    for (key, version, fixed) in [(1, 4, 17), (2, 1, 4), (23, 2, 0)] {
        let mut body = vec![0; fixed];
        lie(&mut body);
        client.send_bytes(key, version, &body);
        assert!(client.is_closed(), "{key}");
        client = Client::connect(cluster.address(1));
    }
}
