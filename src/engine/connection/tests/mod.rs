//! A connection against hand-made bytes.

mod clusters;
mod handshakes;
mod logins;
mod progress;
mod throttles;

use std::io::IoSlice;
use std::sync::Arc;

use super::*;
use crate::engine::cluster::BrokerAddress;
use crate::engine::protocol::{ApiKey, ErrorCode};

const MS: u64 = 1_000_000;
const TIMEOUT: u64 = 30_000 * MS;
const HANDSHAKE_TIMEOUT: u64 = 10_000 * MS;
/// The first version whose throttle time the client pauses for.
const PRODUCE_VERSION: i16 = 6;

fn config() -> Arc<ConnectionConfig> {
    Arc::new(ConnectionConfig {
        client_id: "me".into(),
        request_timeout: TIMEOUT,
        handshake_timeout: HANDSHAKE_TIMEOUT,
        throttle_max: 10_000 * MS,
        response_bytes_max: 1 << 16,
        sasl_mechanism: None,
        is_tls: false,
        is_proxied: false,
        peers: Arc::default(),
    })
}

fn peer() -> BrokerAddress {
    BrokerAddress { host: "kafka".into(), port: 9092 }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// ApiVersions v4: ApiVersions 0–4 and Produce 3.
fn api_versions(correlation: i32) -> Vec<u8> {
    let mut body = correlation.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.push(3);
    body.extend([0, 0, 0, 3, 0, 3, 0]);
    body.extend([0, 18, 0, 0, 0, 4, 0]);
    body.extend([0, 0, 0, 0, 0]);
    frame(&body)
}

/// ApiVersions v0 with an error: ApiVersions 0–`max` only.
fn api_versions_v0(correlation: i32, error: ErrorCode, max: i16) -> Vec<u8> {
    let mut body = correlation.to_be_bytes().to_vec();
    body.extend(error.0.to_be_bytes());
    body.extend([0, 0, 0, 2]);
    body.extend([0, 0, 0, 3, 0, 3]);
    body.extend([0, 18, 0, 0]);
    body.extend(max.to_be_bytes());
    frame(&body)
}

/// Produce v3 of no partitions.
fn produced(correlation: i32, throttle_ms: i32) -> Vec<u8> {
    let mut body = correlation.to_be_bytes().to_vec();
    body.extend([0, 0, 0, 0]);
    body.extend(throttle_ms.to_be_bytes());
    frame(&body)
}

/// All bytes that wait to be written, taken.
fn take_written(connection: &mut Connection, now: u64) -> (Vec<u8>, Vec<Request>) {
    let mut bytes = Vec::new();
    {
        let mut slices = [IoSlice::new(&[]); 32];
        let used = connection.slices(&mut slices);
        slices[..used].iter().for_each(|slice| bytes.extend_from_slice(slice));
    }
    let mut settled = Vec::new();
    connection.handle_written(now, bytes.len(), &mut settled);
    (bytes, settled)
}

fn feed(connection: &mut Connection, now: u64, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let space = connection.space();
        let part = space.len().min(bytes.len());
        space[..part].copy_from_slice(&bytes[..part]);
        connection.handle_filled(now, part);
        bytes = &bytes[part..];
    }
}

/// A frame with bytes behind its message.
fn with_surplus(whole: Vec<u8>, bytes: usize) -> Vec<u8> {
    frame(&[&whole[4..], &vec![0xee; bytes]].concat())
}

fn connected(now: u64) -> Connection {
    let mut connection = Connection::new(config(), peer(), now);
    take_written(&mut connection, now);
    feed(&mut connection, now, &api_versions(0));
    assert!(matches!(connection.poll_response(now), Ok(Some(Incoming::Ready))));
    connection
}

/// A Produce request without batches, of `len` bytes.
fn produce(connection: &mut Connection, acks: i16, len: usize) -> Request {
    let mut request = connection.new_request();
    request.kind = RequestKind::Produce { acks };
    request.version = PRODUCE_VERSION;
    request.correlation = connection.next_correlation();
    request.framing = vec![acks as u8; len];
    request.wire_len = len;
    request
}

fn send(connection: &mut Connection, now: u64, acks: i16) -> i32 {
    let request = produce(connection, acks, 100);
    let correlation = request.correlation;
    connection.send(now, request);
    correlation
}

fn error(connection: &mut Connection, now: u64) -> String {
    match connection.poll_response(now) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it should be given up"),
    }
}

#[test]
fn c30_the_handshake_asks_for_versions_first_and_then_knows_them() {
    let mut connection = Connection::new(config(), peer(), 0);
    assert!(connection.wants_write() && !connection.is_ready());
    let (bytes, _) = take_written(&mut connection, 0);
    assert_eq!(bytes[..12], [0, 0, 0, bytes.len() as u8 - 4, 0, 18, 0, 4, 0, 0, 0, 0]);
    // The client id, no tags; then who asks, in which version, no tags.
    let version = env!("CARGO_PKG_VERSION");
    let body =
        [b"\0\x02me\0\x09tidegate", &[version.len() as u8 + 1][..], version.as_bytes(), &[0]];
    assert_eq!(bytes[12..], body.concat());
    feed(&mut connection, 5, &api_versions(0));
    assert!(matches!(connection.poll_response(5), Ok(Some(Incoming::Ready))));
    assert!(connection.is_ready());
    assert_eq!(connection.version(ApiKey::Produce), Some(3));
    assert_eq!(connection.version(ApiKey::Metadata), None, "the broker does not have it");
    assert_eq!((connection.in_flight(), connection.poll_timeout()), (0, None));
    assert!(!connection.has_answered(), "a handshake alone is of no use");
}

#[test]
fn c30_unsupported_version_is_asked_again_with_a_version_the_broker_has() {
    for (known, expected) in [(0, 0), (2, 2), (4, 3)] {
        let mut connection = Connection::new(config(), peer(), 0);
        take_written(&mut connection, 0);
        let refusal = api_versions_v0(0, ErrorCode::UNSUPPORTED_VERSION, known);
        feed(&mut connection, 0, &refusal);
        assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Pending))));
        let (bytes, _) = take_written(&mut connection, 0);
        assert_eq!(bytes[4..12], [0, 18, 0, expected, 0, 0, 0, 1]);
        if expected == 0 {
            feed(&mut connection, 0, &api_versions_v0(1, ErrorCode::NONE, 0));
            assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Ready))));
            assert_eq!(connection.version(ApiKey::Produce), Some(3));
        }
    }
}

#[test]
fn a_broker_that_goes_on_refusing_is_given_up() {
    let mut connection = Connection::new(config(), peer(), 0);
    for correlation in 0..10 {
        take_written(&mut connection, 0);
        let refusal = api_versions_v0(correlation, ErrorCode::UNSUPPORTED_VERSION, 4);
        feed(&mut connection, 0, &refusal);
        match connection.poll_response(0) {
            Ok(Some(Incoming::Pending)) => {}
            Err(error) => {
                assert!(error.message().contains("UNSUPPORTED_VERSION"), "{error}");
                return;
            }
            Ok(_) => panic!("that is no handshake"),
        }
    }
    panic!("it must end");
}

#[test]
fn responses_may_come_byte_by_byte() {
    let mut connection = Connection::new(config(), peer(), 0);
    take_written(&mut connection, 0);
    let bytes = api_versions(0);
    for (index, &byte) in bytes.iter().enumerate() {
        assert!(!connection.is_ready());
        feed(&mut connection, 0, &[byte]);
        let polled = connection.poll_response(0).map(|incoming| incoming.is_some());
        assert_eq!(polled, Ok(index + 1 == bytes.len()));
    }
    let correlations = [send(&mut connection, 0, -1), send(&mut connection, 0, -1)];
    take_written(&mut connection, 0);
    let both: Vec<u8> = correlations.iter().flat_map(|&id| produced(id, 0)).collect();
    let mut answered = Vec::new();
    for byte in both {
        feed(&mut connection, 0, &[byte]);
        if let Some(Incoming::Produce(request, _)) = connection.poll_response(0).expect("valid") {
            answered.push(request.correlation);
        }
    }
    assert_eq!(answered, correlations);
    assert!(connection.has_answered());
}

#[test]
fn c26_a_wrong_correlation_id_closes_and_leaves_the_request_unsettled() {
    let mut connection = connected(0);
    let id = send(&mut connection, 0, -1);
    take_written(&mut connection, 0);
    feed(&mut connection, 0, &produced(id + 1, 0));
    let message = error(&mut connection, 0);
    assert!(message.contains("where") && message.contains(&id.to_string()), "{message}");
    let unsettled: Vec<_> = connection.into_unsettled().collect();
    assert_eq!((unsettled.len(), unsettled[0].is_written()), (1, true));
}

#[test]
fn c26_surplus_bytes_within_the_frame_are_ignored() {
    let config = config();
    for surplus in [1, 2, 1_000] {
        let mut connection = Connection::new(config.clone(), peer(), 0);
        take_written(&mut connection, 0);
        feed(&mut connection, 0, &with_surplus(api_versions(0), surplus));
        assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Ready))));
        for _ in 0..2 {
            let id = send(&mut connection, 0, -1);
            take_written(&mut connection, 0);
            feed(&mut connection, 0, &with_surplus(produced(id, 250), surplus));
            let answer = connection.poll_response(0);
            let Ok(Some(Incoming::Produce(request, response))) = answer else {
                panic!("it is readable");
            };
            assert_eq!((request.correlation, response.throttle_time_ms), (id, 250));
        }
    }
    assert!(!config.peers.handle_surplus(0, &peer()), "it was told, and is not told again");
}

#[test]
fn c26_what_is_cut_short_closes() {
    let mut connection = connected(0);
    let id = send(&mut connection, 0, -1);
    take_written(&mut connection, 0);
    let mut bytes = produced(id, 0);
    bytes.pop();
    bytes[3] -= 1;
    feed(&mut connection, 0, &bytes);
    assert!(error(&mut connection, 0).contains("unreadable"));
    assert_eq!(connection.into_unsettled().count(), 1);
}

#[test]
fn an_answer_to_what_was_not_asked_closes() {
    let mut idle = connected(0);
    feed(&mut idle, 0, &produced(1, 0));
    assert!(error(&mut idle, 0).contains("not asked"));
    // Nor may it come before the request was wholly written.
    let mut early = connected(0);
    let id = send(&mut early, 0, -1);
    early.handle_written(0, 99, &mut Vec::new());
    feed(&mut early, 0, &produced(id, 0));
    assert!(error(&mut early, 0).contains("not asked"));
    let unsettled: Vec<_> = early.into_unsettled().collect();
    assert!(!unsettled[0].is_written());
}

#[test]
fn c29_acks_0_settles_with_its_last_byte_and_a_stray_reply_is_dropped() {
    let mut connection = connected(0);
    let silent = send(&mut connection, 0, 0);
    let asked = send(&mut connection, 0, -1);
    let mut settled = Vec::new();
    connection.handle_written(0, 99, &mut settled);
    assert!(settled.is_empty());
    connection.handle_written(0, 1 + 40, &mut settled);
    let correlations: Vec<_> = settled.iter().map(|request| request.correlation).collect();
    assert_eq!((correlations, connection.in_flight()), (vec![silent], 1));
    connection.handle_written(0, 60, &mut settled);
    assert_eq!((settled.len(), connection.unwritten()), (1, 0));
    feed(&mut connection, 0, &produced(silent, 0));
    feed(&mut connection, 0, &produced(asked, 0));
    let Ok(Some(Incoming::Produce(request, _))) = connection.poll_response(0) else {
        panic!("the stray reply is passed over");
    };
    assert_eq!(request.correlation, asked);
    // So are those to several, in whatever order.
    let silent = [0; 3].map(|acks| send(&mut connection, 0, acks));
    assert_eq!(take_written(&mut connection, 0).1.len(), 3);
    for id in [silent[1], silent[0], silent[2]] {
        feed(&mut connection, 0, &produced(id, 0));
        assert!(matches!(connection.poll_response(0), Ok(None)));
    }
    let [silent, ..] = silent;
    // Once only: a second one is an answer to nothing.
    feed(&mut connection, 0, &produced(silent, 0));
    assert!(error(&mut connection, 0).contains("not asked"));
}

#[test]
fn acks_0_for_months_leaves_nothing_behind() {
    let mut connection = connected(0);
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(send(&mut connection, 0, 0));
        assert_eq!(take_written(&mut connection, 0).1.len(), 1);
    }
    feed(&mut connection, 0, &produced(silent[999], 0));
    assert!(matches!(connection.poll_response(0), Ok(None)), "of the latest ones it is known");
    feed(&mut connection, 0, &produced(silent[0], 0));
    assert!(error(&mut connection, 0).contains("not asked"), "the first one is forgotten");
}

#[test]
fn acks_0_behind_a_request_that_waits_for_its_answer() {
    let mut connection = connected(0);
    let asked = send(&mut connection, 0, -1);
    send(&mut connection, 0, 0);
    let last = send(&mut connection, 0, -1);
    let (bytes, settled) = take_written(&mut connection, 0);
    assert_eq!((bytes.len(), settled.len(), connection.in_flight()), (300, 1, 2));
    for id in [asked, last] {
        feed(&mut connection, 0, &produced(id, 0));
        let answer = connection.poll_response(0);
        assert!(matches!(answer, Ok(Some(Incoming::Produce(r, _))) if r.correlation == id));
    }
}

#[test]
fn a_write_cut_anywhere_goes_on_where_it_was() {
    let mut connection = connected(0);
    for fill in [1, 2, 3] {
        let mut request = produce(&mut connection, -1, 50);
        request.framing.fill(fill);
        connection.send(0, request);
    }
    let mut written = Vec::new();
    while connection.wants_write() {
        let mut bytes = Vec::new();
        let mut slices = [IoSlice::new(&[]); 2];
        let used = connection.slices(&mut slices);
        slices[..used].iter().for_each(|slice| bytes.extend_from_slice(slice));
        bytes.truncate(7);
        written.extend_from_slice(&bytes);
        connection.handle_written(0, bytes.len(), &mut Vec::new());
    }
    assert_eq!(written, [[1; 50], [2; 50], [3; 50]].concat());
}

#[test]
fn what_is_sent_written_and_received_is_activity() {
    let mut connection = connected(5);
    assert_eq!(connection.idle_at(0), 5);
    let id = send(&mut connection, 10, -1);
    assert_eq!((connection.idle_at(0), connection.last_sent()), (10, 10));
    take_written(&mut connection, 20);
    assert_eq!((connection.idle_at(0), connection.last_sent()), (20, 10));
    feed(&mut connection, 30, &produced(id, 0));
    assert_eq!((connection.idle_at(0), connection.last_sent()), (30, 10));
}

#[test]
fn c24_a_request_that_is_not_answered_in_time_fails_all_in_flight() {
    let mut connection = connected(0);
    send(&mut connection, 10, -1);
    take_written(&mut connection, 10);
    send(&mut connection, 20, -1);
    assert_eq!(connection.poll_timeout(), Some(10 + TIMEOUT));
    assert_eq!(connection.handle_timeout(9 + TIMEOUT), Ok(()));
    let error = connection.handle_timeout(10 + TIMEOUT).expect_err("it is due");
    assert!(error.message().contains("request_timeout"), "{error}");
    let written: Vec<_> = connection.into_unsettled().map(|request| request.is_written()).collect();
    assert_eq!(written, [true, false], "the second was certainly not carried out");
}

#[test]
fn c27_an_oversized_frame_closes_before_memory_is_taken() {
    for size in [(1 << 16) + 1, u32::MAX, 0x1503_0300] {
        let mut connection = connected(0);
        send(&mut connection, 0, -1);
        take_written(&mut connection, 0);
        feed(&mut connection, 0, &size.to_be_bytes());
        assert!(!error(&mut connection, 0).is_empty());
        assert!(connection.space().len() <= 1 << 16);
    }
}

#[test]
fn a_request_is_used_again_with_its_memory() {
    let mut connection = connected(0);
    let request = produce(&mut connection, -1, 1_000);
    connection.recycle(request);
    let request = connection.new_request();
    assert!(request.framing.is_empty() && request.framing.capacity() >= 1_000);
    assert_eq!((request.written(), request.wire_len), (0, 0));
}

#[test]
fn a_long_question_for_metadata_gives_its_memory_back_and_other_long_requests_keep_it() {
    let capacity_after = |kind| {
        let mut request = Request::new();
        (request.kind, request.framing) = (kind, vec![0; 1 << 20]);
        request.clear();
        request.framing.capacity()
    };
    assert!(capacity_after(RequestKind::Metadata) < 1 << 16);
    for kind in [RequestKind::Produce { acks: -1 }, RequestKind::Fetch] {
        assert!(capacity_after(kind) >= 1 << 20, "{kind:?}");
    }
}
