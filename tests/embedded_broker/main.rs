//! The embedded cluster, driven by a raw client that shares no code with tidegate's own.

mod ages;
mod client;
mod faults;
mod reads;
mod sets;

use std::io::Write;
use std::net::TcpStream;

use client::{Batch, Client, LONG, batch};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
    MetadataRequest, MetadataResponse, ProduceResponse, TopicName,
    metadata_request::MetadataRequestTopic,
};
use kafka_protocol::protocol::StrBytes;
use tidegate::embedded::EmbeddedCluster;

fn one_broker() -> (EmbeddedCluster, Client) {
    let cluster = EmbeddedCluster::builder().topic("t", 2).start().unwrap();
    let client = Client::connect(cluster.address(1));
    (cluster, client)
}

fn values(cluster: &EmbeddedCluster, partition: i32) -> Vec<String> {
    let value = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = cluster.records("t", partition);
    records.into_iter().map(|record| value(record.value.unwrap())).collect()
}

fn metadata(client: &mut Client, version: i16, topic: Option<&str>) -> MetadataResponse {
    let name = |topic: &str| Some(TopicName(StrBytes::from_string(topic.to_owned())));
    let asked = |topic| MetadataRequestTopic::default().with_name(name(topic));
    let request = MetadataRequest::default().with_topics(topic.map(|t| vec![asked(t)]));
    client.call(ApiKey::Metadata, version, &request).unwrap()
}

#[test]
fn every_produce_version_appends() {
    let (cluster, mut client) = one_broker();
    let topic_id = cluster.topic_id("t").unwrap();
    for version in 3..=13 {
        let batch = Batch { topic_id, ..batch(None, &["a", "b"]) };
        let response = client.produce(version, &batch);
        assert_eq!((response.error_code, response.base_offset), (0, i64::from(version - 3) * 2));
        assert_eq!((response.log_append_time_ms, response.current_leader.leader_id.0), (-1, -1));
    }
    assert_eq!(cluster.high_watermark("t", 0), 22);
    let record = &cluster.records("t", 0)[21];
    assert_eq!((record.offset, record.timestamp), (21, 1_700_000_000_001));
    assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
    assert_eq!(record.value.as_deref(), Some(&b"b"[..]));
    assert_eq!(record.headers, [("h".to_owned(), None)]);
    assert_eq!((record.producer_id, record.sequence), (-1, -1));
    assert!(cluster.wait_until(LONG, |stats| stats.responses() == 11));
    let stats = cluster.stats();
    assert_eq!((stats.records(), stats.batches(), stats.requests_of(0)), (22, 11, 11));
    assert_eq!(stats.broker(1).api_versions[&(0, 13)], 1);
}

#[test]
fn discarding_brokers_count_the_same_and_keep_the_rules() {
    let cluster = EmbeddedCluster::builder().topic("t", 2).discard_payloads(true).start().unwrap();
    let mut client = Client::connect(cluster.address(1));
    let topic_id = cluster.topic_id("t").unwrap();
    for version in 3..=13 {
        let sequence = i32::from(version - 3) * 2;
        let batch = Batch { topic_id, ..batch(Some((9, 0, sequence)), &["a", "b"]) };
        let response = client.produce(version, &batch);
        assert_eq!((response.error_code, response.base_offset), (0, i64::from(sequence)));
        let again = client.produce(version, &batch);
        assert_eq!((again.error_code, again.base_offset), (0, i64::from(sequence)), "duplicate");
    }
    assert_eq!(client.produce(9, &batch(Some((9, 0, 90)), &["a"])).error_code, 45);
    assert_eq!(client.produce(9, &batch(None, &["a"]).to("t", 2)).error_code, 3);
    // A batch that is larger than what the broker reads at once, and another in the same request.
    let large: &'static str = "v".repeat(900_000).leak();
    client.send_produce(9, -1, &[batch(None, &[large]), batch(None, &["x"]).to("t", 1)]);
    let response: ProduceResponse = client.receive(9).unwrap();
    let offsets: Vec<_> =
        response.responses.iter().map(|t| t.partition_responses[0].base_offset).collect();
    assert_eq!(offsets, [22, 0]);
    assert!(cluster.records("t", 0).is_empty());
    assert_eq!(cluster.high_watermark("t", 0), 23);
    let stats = cluster.stats();
    assert_eq!((stats.records(), stats.duplicates(), stats.broker(1).errors), (24, 11, 2));
    // What is not a produce request goes the usual way.
    assert_eq!(metadata(&mut client, 12, None).topics.len(), 1);
}

#[test]
fn sequences_are_checked_as_kafka_does() {
    let (cluster, mut client) = one_broker();
    let mut send = |epoch, sequence, values: &[&'static str]| {
        let response = client.produce(9, &batch(Some((7, epoch, sequence)), values));
        (response.error_code, response.base_offset)
    };
    assert_eq!(send(0, 0, &["a", "b"]), (0, 0));
    assert_eq!(send(0, 2, &["c"]), (0, 2));
    assert_eq!(send(0, 0, &["a", "b"]), (0, 0), "a duplicate has its first offset");
    assert_eq!(send(0, 4, &["gap"]), (45, -1));
    assert_eq!(send(1, 1, &["new epoch not at 0"]), (45, -1));
    assert_eq!(send(1, 0, &["d"]), (0, 3));
    assert_eq!(send(0, 3, &["old epoch"]), (47, -1));
    assert_eq!(values(&cluster, 0), ["a", "b", "c", "d"]);
    let last = &cluster.records("t", 0)[3];
    assert_eq!((last.producer_id, last.producer_epoch, last.sequence), (7, 1, 0));
    assert_eq!(cluster.stats().duplicates(), 1);
}

#[test]
fn malformed_batches_are_refused() {
    let (cluster, mut client) = one_broker();
    let good = || batch(Some((7, 0, 0)), &["some value", "other"]);
    let set = |at: usize, bytes: &'static [u8]| {
        move |batch: &mut Vec<u8>| batch[at..at + bytes.len()].copy_from_slice(bytes)
    };
    let cases = [
        ("payload", 2, good().altered(false, |b| *b.last_mut().unwrap() ^= 1)),
        ("crc", 2, good().altered(false, |b| b[17] ^= 1)),
        ("magic", 87, good().altered(true, set(16, &[1]))),
        ("base offset", 87, good().altered(true, set(7, &[1]))),
        ("count", 87, good().altered(true, set(60, &[3]))),
        ("count and delta", 87, good().altered(true, |b| (b[60], b[26]) = (3, 2))),
        ("no record", 87, good().altered(true, |b| b[23..27].fill(255))),
        ("sequence", 87, good().altered(true, set(53, &[255; 4]))),
        ("control", 87, good().altered(true, set(22, &[0x20]))),
        ("codec", 87, good().altered(true, set(22, &[5]))),
        ("not gzip", 2, good().altered(true, set(22, &[1]))),
        ("record length", 87, good().altered(true, |b| b[61] += 2)),
        ("two batches", 87, good().altered(false, |b| b.extend(b.clone()))),
        ("cut short", 87, good().altered(false, |b| b.truncate(70))),
        ("shorter than a header", 87, good().altered(false, |b| b.truncate(30))),
        ("empty", 87, good().altered(false, Vec::clear)),
    ];
    for (what, code, batch) in cases {
        assert_eq!(client.produce(9, &batch).error_code, code, "{what}");
    }
    assert_eq!(cluster.high_watermark("t", 0), 0);
    assert_eq!(client.produce(9, &good()).error_code, 0);
    let zstd = batch(None, &["z"]).altered(true, set(22, &[4]));
    assert_eq!(client.produce(6, &zstd).error_code, 76);
}

#[test]
fn compressed_batches_are_read_back() {
    use std::io::Write;
    let (cluster, mut client) = one_broker();
    let plain = batch(None, &["one", "two"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain.bytes[61..]).unwrap();
    let payload = gzip.finish().unwrap();
    let gzip = plain.altered(true, |b| {
        b.truncate(61);
        b[22] = 1;
        b.extend(&payload);
        let length = (b.len() - 12) as i32;
        b[8..12].copy_from_slice(&length.to_be_bytes());
    });
    assert_eq!(client.produce(9, &gzip).error_code, 0);
    assert_eq!(values(&cluster, 0), ["one", "two"]);
}

#[test]
fn unknown_topics_sizes_and_acks_are_refused() {
    let cluster = EmbeddedCluster::builder().topic("t", 1).message_bytes_max(200).start().unwrap();
    let mut client = Client::connect(cluster.address(1));
    assert_eq!(client.produce(9, &batch(None, &["a"]).to("none", 0)).error_code, 3);
    assert_eq!(client.produce(9, &batch(None, &["a"]).to("t", 1)).error_code, 3);
    assert_eq!(
        client.produce(13, &Batch { topic_id: [1; 16], ..batch(None, &["a"]) }).error_code,
        100
    );
    let long: &'static str = "v".repeat(200).leak();
    assert_eq!(client.produce(9, &batch(None, &[long])).error_code, 10);
    client.send_produce(9, 2, &[batch(None, &["a"])]);
    let response: ProduceResponse = client.receive(9).unwrap();
    assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
    client.send_produce(9, -1, &[batch(None, &["a"]), batch(None, &["b"])]);
    let response: ProduceResponse = client.receive(9).unwrap();
    assert_eq!(response.responses[1].partition_responses[0].error_code, 42);
    assert_eq!(values(&cluster, 0), ["a"]);
}

#[test]
fn acks_0_is_not_answered_and_errors_close() {
    let (cluster, mut client) = one_broker();
    client.send_produce(9, 0, &[batch(None, &["a"])]);
    // The next response is that of the next request.
    assert_eq!(client.produce(9, &batch(None, &["b"])).base_offset, 1);
    client.send_produce(9, 0, &[batch(None, &["c"]).to("none", 0)]);
    assert!(client.is_closed());
    assert_eq!(values(&cluster, 0), ["a", "b"]);
}

#[test]
fn only_the_leader_appends_and_others_point_to_it() {
    let cluster = EmbeddedCluster::builder().brokers(3).topic("t", 3).start().unwrap();
    assert_eq!((0..3).map(|p| cluster.leader("t", p).unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    let mut old = Client::connect(cluster.address(1));
    assert_eq!(old.produce(9, &batch(Some((7, 0, 0)), &["a"])).error_code, 0);
    assert!(cluster.move_leader("t", 0, 2));

    old.send_produce(10, -1, &[batch(Some((7, 0, 1)), &["b"])]);
    let response: ProduceResponse = old.receive(10).unwrap();
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 6);
    assert_eq!(
        (partition.current_leader.leader_id.0, partition.current_leader.leader_epoch),
        (2, 1)
    );
    let endpoint = &response.node_endpoints[0];
    assert_eq!((endpoint.node_id.0, endpoint.port as u16), (2, cluster.address(2).port()));
    assert_eq!(old.produce(9, &batch(Some((7, 0, 1)), &["b"])).error_code, 6, "without hint");

    // The log and the producer's state are where the lead is.
    let mut new = Client::connect(cluster.address(2));
    assert_eq!(new.produce(9, &batch(Some((7, 0, 0)), &["a"])).base_offset, 0);
    assert_eq!(new.produce(9, &batch(Some((7, 0, 1)), &["b"])).base_offset, 1);
    cluster.set_leaderless("t", 0);
    assert_eq!(cluster.leader("t", 0), None);
    assert_eq!(new.produce(9, &batch(Some((7, 0, 2)), &["c"])).error_code, 6);
    let described = metadata(&mut new, 12, Some("t"));
    let partition = &described.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (5, -1, 2));
}

#[test]
fn metadata_in_every_version() {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 3).start().unwrap();
    let mut client = Client::connect(cluster.address(2));
    for version in 1..=13 {
        let response = metadata(&mut client, version, None);
        assert_eq!(response.brokers.len(), 2);
        assert_eq!(response.brokers[1].port as u16, cluster.address(2).port());
        let partitions = &response.topics[0].partitions;
        assert_eq!(partitions.len(), 3);
        assert_eq!((partitions[1].partition_index, partitions[1].leader_id.0), (1, 2));
        assert_eq!(metadata(&mut client, version, Some("none")).topics[0].error_code, 3);
        assert_eq!(metadata(&mut client, version, Some("no/name")).topics[0].error_code, 17);
    }
    let old_id = cluster.topic_id("t").unwrap();
    assert!(cluster.delete_topic("t") && cluster.create_topic("t", 1));
    let by_id = |id: [u8; 16]| {
        let topic = MetadataRequestTopic::default()
            .with_topic_id(id.to_vec().try_into().unwrap())
            .with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let request = by_id(cluster.topic_id("t").unwrap());
    let response: MetadataResponse = client.call(ApiKey::Metadata, 12, &request).unwrap();
    assert_eq!(response.topics[0].name.as_ref().unwrap().as_str(), "t");
    let response: MetadataResponse = client.call(ApiKey::Metadata, 12, &by_id(old_id)).unwrap();
    assert_eq!(response.topics[0].error_code, 100);
    assert!(cluster.add_partitions("t", 4));
    assert_eq!(metadata(&mut client, 12, Some("t")).topics[0].partitions.len(), 4);
}

#[test]
fn topics_are_created_when_asked_for() {
    let cluster = EmbeddedCluster::builder()
        .auto_create_topics(true)
        .default_partitions(4)
        .topic_with_log_append_time("t", 1)
        .start()
        .unwrap();
    let mut client = Client::connect(cluster.address(1));
    assert_eq!(metadata(&mut client, 12, Some("new")).topics[0].error_code, 3);
    assert_eq!(metadata(&mut client, 12, Some("new")).topics[0].partitions.len(), 4);
    let response = client.produce(9, &batch(None, &["a"]));
    assert!(response.log_append_time_ms > 1_700_000_000_000);
    assert_eq!(cluster.records("t", 0)[0].timestamp, response.log_append_time_ms);
}

#[test]
fn api_versions_and_their_limits() {
    let (cluster, mut client) = one_broker();
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("raw"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    for version in 0..=4 {
        let request = if version < 3 { ApiVersionsRequest::default() } else { request.clone() };
        let response: ApiVersionsResponse =
            client.call(ApiKey::ApiVersions, version, &request).unwrap();
        let keys: Vec<_> =
            response.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
        let records = [(0, 3, 13), (1, 4, 18), (2, 1, 10)];
        let cluster =
            [(3, 0, 13), (8, 2, 9), (9, 1, 9), (10, 0, 6), (17, 0, 1), (18, 0, 4), (19, 2, 7)];
        let producers_and_leaders = [(22, 0, 5), (23, 2, 4), (36, 0, 2)];
        assert_eq!(keys, [&records[..], &cluster, &producers_and_leaders].concat());
    }
    let nameless: ApiVersionsResponse =
        client.call(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default()).unwrap();
    assert_eq!(nameless.error_code, 42);

    cluster.limit_api(18, 0, 2);
    cluster.limit_api(0, 3, 8);
    client.send(ApiKey::ApiVersions, 3, &request);
    let response: ApiVersionsResponse = client.receive(0).unwrap();
    assert_eq!((response.error_code, response.api_keys[0].max_version), (35, 2));
    client.send_produce(9, -1, &[batch(None, &["a"])]);
    assert!(client.is_closed());
}

#[test]
fn producer_ids_are_never_given_twice() {
    let (_cluster, mut client) = one_broker();
    let mut ids = Vec::new();
    for version in 0..=5 {
        let request = InitProducerIdRequest::default();
        let request = request.with_transactional_id(None).with_transaction_timeout_ms(1);
        let response: InitProducerIdResponse =
            client.call(ApiKey::InitProducerId, version, &request).unwrap();
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        ids.push(response.producer_id.0);
    }
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

#[test]
fn hostile_frames_cost_the_connection_only() {
    let (cluster, mut client) = one_broker();
    let frames: [&[u8]; 5] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff; 4],
        // Produce v3 with 2^31 - 1 topics.
        &[
            0, 0, 0, 22, 0, 0, 0, 3, 0, 0, 0, 1, 255, 255, 255, 255, 0, 1, 0, 0, 0, 1, 0x7f, 255,
            255, 255,
        ],
        // Metadata v1 with 2^31 - 1 topics.
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 255, 255, 0x7f, 255, 255, 255],
        // An API that does not exist.
        &[0, 0, 0, 10, 0, 99, 0, 1, 0, 0, 0, 1, 255, 255],
    ];
    for frame in frames {
        let mut hostile = Client::connect(cluster.address(1));
        hostile.stream.write_all(frame).unwrap();
        assert!(hostile.is_closed(), "{frame:?}");
    }
    assert_eq!(client.produce(9, &batch(None, &["a"])).error_code, 0);
}

#[test]
fn a_paused_broker_answers_when_it_goes_on() {
    let (cluster, mut client) = one_broker();
    assert_eq!(client.produce(9, &batch(None, &["a"])).error_code, 0);
    cluster.pause_broker(1);
    client.send_produce(9, -1, &[batch(None, &["b"])]);
    // The system accepts for it; nothing is read.
    let mut other = Client::connect(cluster.address(1));
    other.send_produce(9, -1, &[batch(None, &["c"])]);
    client.stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
    assert!(client.receive::<ProduceResponse>(9).is_err(), "an answer while paused");
    assert_eq!(cluster.stats().requests(), 1);
    assert_eq!(cluster.high_watermark("t", 0), 1);
    client.stream.set_read_timeout(Some(LONG)).unwrap();
    cluster.resume_broker(1);
    assert!(client.receive::<ProduceResponse>(9).is_ok());
    assert!(other.receive::<ProduceResponse>(9).is_ok());
    assert_eq!(cluster.high_watermark("t", 0), 3);
}

#[test]
fn a_broker_stops_fails_over_and_comes_back_on_its_port() {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    let address = cluster.address(1);
    let mut client = Client::connect(address);
    let mut other = Client::connect(cluster.address(2));
    assert_eq!(client.produce(9, &batch(None, &["a"])).error_code, 0);
    cluster.stop_broker(1);
    assert!(client.is_closed());
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(cluster.leader("t", 0), Some(1), "nobody noticed yet");
    assert_eq!(metadata(&mut other, 12, None).brokers.len(), 2);
    cluster.fail_over(1);
    assert_eq!((cluster.leader("t", 0), cluster.leader_epoch("t", 0)), (Some(2), Some(1)));
    assert_eq!((cluster.leader("t", 1), cluster.leader_epoch("t", 1)), (Some(2), Some(0)));
    assert_eq!(metadata(&mut other, 12, None).brokers.len(), 1);
    assert_eq!(other.produce(9, &batch(None, &["b"])).base_offset, 1);

    cluster.restart_broker(1).unwrap();
    cluster.move_leader("t", 0, 1);
    let mut client = Client::connect(address);
    assert_eq!(client.produce(9, &batch(None, &["c"])).base_offset, 2);
    assert_eq!(values(&cluster, 0), ["a", "b", "c"]);
    assert_eq!(metadata(&mut other, 12, None).brokers.len(), 2);
}

#[test]
fn dropping_the_cluster_ends_everything() {
    let (cluster, mut client) = one_broker();
    let address = cluster.address(1);
    let mut paused = Client::connect(address);
    assert!(cluster.wait_until(LONG, |stats| stats.connections_open() == 2));
    cluster.pause_broker(1);
    paused.send_produce(9, -1, &[batch(None, &["a"])]);
    drop(cluster);
    assert!(client.is_closed() && paused.is_closed());
    assert!(TcpStream::connect(address).is_err());
}
