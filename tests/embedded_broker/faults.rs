//! Scripted faults.

use std::time::{Duration, Instant};

use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProduceResponse,
};
use tidegate::embedded::{EmbeddedCluster, Fault};

use crate::client::{Client, LONG, batch};
use crate::{metadata, one_broker, values};

#[test]
fn errors_come_in_order_as_often_as_scripted() {
    let (cluster, mut client) = one_broker();
    cluster.script([
        Fault::produce_error("t", 0, 19).times(2).message("too few"),
        Fault::produce_error("t", 0, 6).leader_hint(4, 9),
        Fault::produce_error("t", 1, 7).after_append(),
    ]);
    assert_eq!(cluster.faults_left(), 4);
    let mut codes = Vec::new();
    for _ in 0..2 {
        let response = client.produce(10, &batch(None, &["a"]));
        assert_eq!(response.error_message.unwrap().as_str(), "too few");
        codes.push(response.error_code);
    }
    let hinted = client.produce(10, &batch(None, &["a"]));
    assert_eq!((hinted.error_code, hinted.current_leader.leader_epoch), (6, 9));
    assert_eq!(client.produce(10, &batch(None, &["a"])).error_code, 0);
    let appended = client.produce(10, &batch(Some((7, 0, 0)), &["b"]).to("t", 1));
    assert_eq!((appended.error_code, appended.base_offset), (7, -1));
    let again = client.produce(10, &batch(Some((7, 0, 0)), &["b"]).to("t", 1));
    assert_eq!((again.error_code, again.base_offset), (0, 0));
    assert_eq!(codes, [19, 19]);
    assert_eq!((values(&cluster, 0), values(&cluster, 1)), (vec!["a".into()], vec!["b".into()]));
    assert_eq!((cluster.faults_left(), cluster.stats().broker(1).errors), (0, 4));
}

#[test]
fn partitions_are_left_out_and_records_blamed() {
    let (cluster, mut client) = one_broker();
    cluster.script(Fault::omit_partition().partition("t", 1));
    cluster.script(Fault::record_errors([0, 2]).message("bad one").partition("t", 0));
    client.send_produce(9, -1, &[batch(None, &["a"]).to("t", 1), batch(None, &["b", "c", "d"])]);
    let response: ProduceResponse = client.receive(9).unwrap();
    assert!(response.responses[0].partition_responses.is_empty());
    let blamed = &response.responses[1].partition_responses[0];
    assert_eq!(blamed.error_code, 87);
    let indices: Vec<_> = blamed.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(indices, [0, 2]);
    let message = blamed.record_errors[1].batch_index_error_message.as_ref();
    assert_eq!(message.unwrap().as_str(), "bad one");
    assert_eq!(cluster.stats().records(), 0);
}

#[test]
fn connections_close_before_and_after_the_append() {
    let (cluster, mut client) = one_broker();
    cluster.script(Fault::close_before_response());
    client.send_produce(9, -1, &[batch(None, &["lost"])]);
    assert!(client.is_closed());
    cluster.script(Fault::close_after_append().partition("t", 1));
    let mut client = Client::connect(cluster.address(1));
    assert_eq!(client.produce(9, &batch(None, &["other partition"])).error_code, 0);
    client.send_produce(9, -1, &[batch(None, &["written"]).to("t", 1)]);
    assert!(client.is_closed());
    assert_eq!((cluster.high_watermark("t", 0), cluster.high_watermark("t", 1)), (1, 1));

    cluster.script(Fault::close_on_accept(2));
    for _ in 0..2 {
        assert!(Client::connect(cluster.address(1)).is_closed());
    }
    let mut client = Client::connect(cluster.address(1));
    assert_eq!(client.produce(9, &batch(None, &["a"])).error_code, 0);
}

#[test]
fn silence_swallows_one_request() {
    let (cluster, mut client) = one_broker();
    cluster.script([Fault::silence(), Fault::silence().after_append()]);
    client.send_produce(9, -1, &[batch(None, &["swallowed"])]);
    client.send_produce(9, -1, &[batch(None, &["written"])]);
    assert!(cluster.wait_until(LONG, |stats| stats.records() == 1));
    assert_eq!(client.produce(9, &batch(None, &["a"])).base_offset, 1);
    assert_eq!(cluster.stats().broker(1).produce_requests, 3);
}

#[test]
fn a_delay_holds_up_its_connection_and_no_other() {
    let (cluster, mut client) = one_broker();
    let delay = Duration::from_millis(80);
    cluster.script(Fault::delay(delay).partition("t", 1));
    let start = Instant::now();
    client.send_produce(9, -1, &[batch(None, &["slow"]).to("t", 1)]);
    assert!(cluster.wait_until(LONG, |stats| stats.requests() == 1));
    let mut other = Client::connect(cluster.address(1));
    assert_eq!(other.produce(9, &batch(None, &["a"])).error_code, 0);
    client.receive::<ProduceResponse>(9).unwrap();
    assert!(start.elapsed() >= delay);
    // A cluster does not wait for its delays when it is dropped.
    cluster.script(Fault::delay(Duration::from_secs(3600)));
    client.send_produce(9, -1, &[batch(None, &["slow"])]);
    assert!(cluster.wait_until(LONG, |stats| stats.requests() == 3));
    drop(cluster);
    assert!(client.is_closed());
}

#[test]
fn faults_of_other_requests() {
    let (cluster, mut client) = one_broker();
    cluster.script([
        Fault::metadata_error("t", 5),
        Fault::init_producer_id_error(15),
        Fault::throttle(250),
        Fault::silence().api(3),
    ]);
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let response: InitProducerIdResponse =
        client.call(ApiKey::InitProducerId, 4, &request).unwrap();
    assert_eq!((response.error_code, response.producer_id.0), (15, -1));
    client.send_produce(9, -1, &[batch(None, &["a"])]);
    assert_eq!(client.receive::<ProduceResponse>(9).unwrap().throttle_time_ms, 250);
    client.send_produce(9, -1, &[batch(None, &["a"])]);
    assert_eq!(client.receive::<ProduceResponse>(9).unwrap().throttle_time_ms, 0);
    let request = kafka_protocol::messages::MetadataRequest::default();
    client.send(ApiKey::Metadata, 12, &request);
    assert_eq!(metadata(&mut client, 12, Some("t")).topics[0].error_code, 5);
    assert_eq!(metadata(&mut client, 12, Some("t")).topics[0].error_code, 0);
    assert_eq!(cluster.faults_left(), 0);
}

#[test]
fn faults_keep_to_their_broker() {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    cluster.script(Fault::produce_error_anywhere(7).broker(2).times(9));
    let mut first = Client::connect(cluster.address(1));
    let mut second = Client::connect(cluster.address(2));
    assert_eq!(first.produce(9, &batch(None, &["a"])).error_code, 0);
    assert_eq!(second.produce(9, &batch(None, &["a"]).to("t", 1)).error_code, 7);
    cluster.clear_faults();
    assert_eq!(second.produce(9, &batch(None, &["a"]).to("t", 1)).error_code, 0);
}
