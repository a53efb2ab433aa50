//! Brokers of an age: what they speak, what they do about the rest, and message sets.

use std::net::TcpStream;
use std::time::Duration;

use bytes::Buf;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ProduceResponse};
use tidegate::embedded::{EmbeddedCluster, Fault, KafkaVersion};

use crate::client::{Client, LONG, batch};
use crate::sets::{
    Answer, GZIP, LZ4, Message, SNAPPY, compressed, messages, metadata_v0, plain, produce, receive,
    send, wrapper,
};
use crate::{metadata, values};

use KafkaVersion::{V0_8_2, V0_9, V0_10_0, V0_10_2, V0_11, V1_1, V2_0, V2_7, V3_9, V4_3};

/// Long enough to show that nothing comes, short enough to wait for.
const SHORT: Duration = Duration::from_millis(50);
const CORRUPT: i16 = 2;

fn broker_of(version: KafkaVersion) -> (EmbeddedCluster, Client) {
    let cluster = EmbeddedCluster::builder().topic("t", 2).kafka_version(version).start().unwrap();
    let client = Client::connect(cluster.address(1));
    (cluster, client)
}

/// Error code; API key, oldest and newest version of each API.
fn api_versions(client: &mut Client) -> (i16, Vec<(i16, i16, i16)>) {
    let response: ApiVersionsResponse =
        client.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).unwrap();
    let keys = response.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version));
    (response.error_code, keys.collect())
}

/// Whether nothing comes, while the connection stays open.
fn is_silent(client: &mut Client) -> bool {
    client.stream.set_read_timeout(Some(SHORT)).unwrap();
    let nothing = client.stream.peek(&mut [0; 1]);
    client.stream.set_read_timeout(Some(LONG)).unwrap();
    let late = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
    nothing.is_err_and(|error| late.contains(&error.kind()))
}

#[test]
fn every_age_advertises_its_own_versions() {
    // The newest of Produce, Fetch, ListOffsets, Metadata, OffsetCommit, OffsetFetch,
    // FindCoordinator, SaslHandshake, ApiVersions, CreateTopics, InitProducerId,
    // OffsetForLeaderEpoch, SaslAuthenticate.
    let tables: [(KafkaVersion, &[(i16, i16)]); 8] = [
        (V0_10_0, &[(0, 2), (3, 1), (17, 0), (18, 0)]),
        (V0_10_2, &[(0, 2), (3, 2), (17, 0), (18, 0), (19, 1)]),
        (
            V0_11,
            &[
                (0, 3),
                (1, 5),
                (2, 2),
                (3, 4),
                (8, 3),
                (9, 3),
                (10, 1),
                (17, 0),
                (18, 1),
                (19, 2),
                (22, 0),
            ],
        ),
        (
            V1_1,
            &[
                (0, 5),
                (1, 7),
                (2, 2),
                (3, 5),
                (8, 3),
                (9, 3),
                (10, 1),
                (17, 1),
                (18, 1),
                (19, 2),
                (22, 0),
                (36, 0),
            ],
        ),
        (
            V2_0,
            &[
                (0, 6),
                (1, 8),
                (2, 3),
                (3, 6),
                (8, 4),
                (9, 4),
                (10, 2),
                (17, 1),
                (18, 2),
                (19, 3),
                (22, 1),
                (36, 0),
            ],
        ),
        (
            V2_7,
            &[
                (0, 8),
                (1, 12),
                (2, 5),
                (3, 9),
                (8, 8),
                (9, 7),
                (10, 3),
                (17, 1),
                (18, 3),
                (19, 6),
                (22, 4),
                (23, 3),
                (36, 2),
            ],
        ),
        (
            V3_9,
            &[
                (0, 11),
                (1, 17),
                (2, 9),
                (3, 12),
                (8, 9),
                (9, 9),
                (10, 6),
                (17, 1),
                (18, 4),
                (19, 7),
                (22, 5),
                (23, 4),
                (36, 2),
            ],
        ),
        (
            V4_3,
            &[
                (0, 13),
                (1, 18),
                (2, 10),
                (3, 13),
                (8, 9),
                (9, 9),
                (10, 6),
                (17, 1),
                (18, 4),
                (19, 7),
                (22, 5),
                (23, 4),
                (36, 2),
            ],
        ),
    ];
    let oldest = |age, key| match (age, key) {
        (V4_3, 1) => 4,
        (V4_3, 2 | 9) => 1,
        (V4_3, 8) => 2,
        (V4_3, 19) | (_, 23) => 2,
        _ => 0,
    };
    for (age, newest) in tables {
        let (_cluster, mut client) = broker_of(age);
        let expected: Vec<_> =
            newest.iter().map(|&(key, newest)| (key, oldest(age, key), newest)).collect();
        assert_eq!(api_versions(&mut client), (0, expected), "Kafka {age}");
        // A version that it does not have: an answer in version 0, from 2.4 on with the range.
        client.send_bytes(18, 9, &[]);
        let mut body = client.receive_bytes().unwrap();
        assert_eq!((body.get_i16(), body.get_i32()), (35, i32::from(age >= V2_7)), "Kafka {age}");
        let own = newest.iter().find(|&&(key, _)| key == 18).unwrap().1;
        match age >= V2_7 {
            true => assert_eq!((body.get_i16(), body.get_i16(), body.get_i16()), (18, 0, own)),
            false => assert!(body.is_empty(), "Kafka {age}"),
        }
        assert!(body.is_empty());
        assert_eq!(api_versions(&mut client).0, 0, "the connection goes on");
        // One version above the newest.
        let (key, newest) = *newest.iter().find(|&&(key, _)| key == 3).unwrap();
        client.send_bytes(key, newest + 1, &[255; 4]);
        assert!(client.is_closed(), "Kafka {age}");
    }
}

#[test]
fn versions_are_written_as_kafka_writes_them() {
    let all = [V0_8_2, V0_9, V0_10_0, V0_10_2, V0_11, V1_1, V2_0, V2_7, V3_9, V4_3];
    let words = ["0.8.2", "0.9", "0.10.0", "0.10.2", "0.11", "1.1", "2.0", "2.7", "3.9", "4.3"];
    assert_eq!(all.map(|age| age.to_string()), words);
    assert!(all.is_sorted());
}

#[test]
fn kafka_0_8_2_closes_on_what_it_does_not_know() {
    let (cluster, _client) = broker_of(V0_8_2);
    for (api_key, version) in [(18, 0), (17, 0), (0, 3), (22, 0), (3, 4)] {
        let mut client = Client::connect(cluster.address(1));
        client.send_bytes(api_key, version, &[255; 16]);
        assert!(client.is_closed(), "API {api_key} version {version}");
    }
    // A null list of topics came with Metadata 1.
    let mut client = Client::connect(cluster.address(1));
    client.send_bytes(3, 1, &[255; 4]);
    assert!(client.is_closed());
    assert_eq!(cluster.stats().responses(), 0);
}

#[test]
fn kafka_0_9_never_answers_what_it_does_not_know_and_stays_open() {
    let (cluster, mut client) = broker_of(V0_9);
    for (api_key, version) in [(18, 0), (17, 0), (0, 3), (22, 0), (3, 1)] {
        client.send_bytes(api_key, version, &[255; 16]);
    }
    assert!(cluster.wait_until(LONG, |stats| stats.requests() == 5));
    assert!(is_silent(&mut client));
    // The next answer is the one to the next request.
    assert_eq!(produce(&mut client, 1, &plain(0, &["a"])), (0, 0));
    assert_eq!(values(&cluster, 0), ["a"]);
}

#[test]
fn brokers_before_0_10_answer_in_the_version_they_know() {
    for (age, newest) in [(V0_8_2, 0), (V0_9, 1)] {
        let (cluster, mut client) = broker_of(age);
        for (version, offset) in [(0, 0), (1, 1), (2, 2)] {
            send(&mut client, version, -1, 0, &plain(0, &["a"]));
            let answer = receive(&mut client, version.min(newest)).unwrap();
            assert_eq!((answer.code, answer.base_offset), (0, offset), "Kafka {age}");
        }
        for version in 0..=3 {
            client.send_bytes(3, version, &[0, 0, 0, 1, 0, 1, b't']);
            let (brokers, topics) = metadata_v0(client.receive_bytes().unwrap());
            assert_eq!((brokers, topics), (vec![1], vec![(0, "t".into(), 2)]), "Kafka {age}");
        }
        let stats = cluster.stats();
        assert_eq!(stats.broker(1).api_versions[&(0, 2)], 1, "counted as it was sent");
    }
}

#[test]
fn metadata_0_lists_all_topics_for_an_empty_list() {
    for age in [V0_8_2, V0_9, V0_10_0, V2_0, V4_3] {
        let cluster = EmbeddedCluster::builder().brokers(2).kafka_version(age).start().unwrap();
        let mut client = Client::connect(cluster.address(2));
        let mut ask = |body: &[u8]| {
            client.send_bytes(3, 0, body);
            metadata_v0(client.receive_bytes().unwrap())
        };
        let brokers = if age == V0_8_2 { vec![] } else { vec![1, 2] };
        assert_eq!(ask(&[0; 4]), (brokers.clone(), vec![]), "Kafka {age}");
        let unknown = vec![(3, "t".to_owned(), 0)];
        assert_eq!(ask(&[0, 0, 0, 1, 0, 1, b't']), (brokers, unknown), "Kafka {age}");
        cluster.create_topic("t", 3);
        cluster.create_topic("u", 1);
        let topics = vec![(0, "t".to_owned(), 3), (0, "u".to_owned(), 1)];
        assert_eq!(ask(&[0; 4]), (vec![1, 2], topics), "Kafka {age}");
    }
}

#[test]
fn a_topic_that_is_created_has_no_leader_yet_at_brokers_with_zookeeper() {
    for (age, code) in [(V0_8_2, 5), (V0_9, 5), (V2_7, 5), (V3_9, 3), (V4_3, 3)] {
        let cluster =
            EmbeddedCluster::builder().auto_create_topics(true).kafka_version(age).start().unwrap();
        let mut client = Client::connect(cluster.address(1));
        let mut ask = || {
            client.send_bytes(3, 0, &[0, 0, 0, 1, 0, 1, b't']);
            metadata_v0(client.receive_bytes().unwrap())
        };
        let brokers = if age == V0_8_2 { vec![] } else { vec![1] };
        assert_eq!(ask(), (brokers, vec![(code, "t".into(), 0)]), "Kafka {age}");
        assert_eq!(ask(), (vec![1], vec![(0, "t".into(), 1)]), "Kafka {age}");
    }
}

#[test]
fn sets_of_both_formats_are_read_back_plain_and_compressed() {
    for magic in [0, 1] {
        let (cluster, mut client) = broker_of(V0_10_2);
        let inner = [
            Message::new(magic, 0, Some("k"), Some("v")),
            Message::new(magic, 1, None, None),
            Message::new(magic, 2, Some(""), Some("")),
        ];
        let set: Vec<u8> = inner.iter().flat_map(Message::bytes).collect();
        let mut next = 0;
        for version in [0, 1, 2] {
            let wrapped = [GZIP, SNAPPY, LZ4].map(|codec| wrapper(codec, &inner).bytes());
            for set in [std::slice::from_ref(&set), &wrapped[..]].concat() {
                assert_eq!(produce(&mut client, version, &set), (0, next));
                next += 3;
            }
        }
        let records = cluster.records("t", 0);
        assert_eq!((records.len(), cluster.high_watermark("t", 0)), (36, 36));
        for (at, record) in records.iter().enumerate() {
            assert_eq!(record.offset, at as i64);
            let inner = &inner[at % 3];
            assert_eq!(record.key.as_deref(), inner.key.as_deref());
            assert_eq!(record.value.as_deref(), inner.value.as_deref());
            let timestamp = if magic == 0 { -1 } else { inner.timestamp };
            assert_eq!(record.timestamp, timestamp);
            assert!(record.headers.is_empty());
            assert_eq!((record.producer_id, record.producer_epoch, record.sequence), (-1, -1, -1));
        }
        let stats = cluster.stats();
        assert_eq!((stats.batches(), stats.records(), stats.duplicates()), (12, 36, 0));
    }
}

#[test]
fn snappy_in_xerials_framing_is_taken_too() {
    let (cluster, mut client) = broker_of(V0_8_2);
    let framed = wrapper(SNAPPY, &messages(0, &["a", "b"])).with(|message| {
        let block = message.value.take().unwrap();
        let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
        let size = (block.len() as u32).to_be_bytes();
        message.value = Some([&header[..], &size, &block].concat());
    });
    assert_eq!(produce(&mut client, 0, &framed.bytes()), (0, 0));
    assert_eq!(values(&cluster, 0), ["a", "b"]);
}

#[test]
fn each_flaw_of_a_set_is_refused() {
    let (cluster, mut client) = broker_of(V0_10_2);
    for magic in [0, 1] {
        let good = messages(magic, &["a", "b"]);
        let one = || Message::new(magic, 0, None, Some("a"));
        let cut = |bytes: Vec<u8>, n: usize| bytes[..bytes.len() - n].to_vec();
        let altered = |at: usize, to: u8| {
            let mut bytes = plain(magic, &["a", "b"]);
            bytes[at] = to;
            bytes
        };
        let wrapped = |change: fn(&mut Message)| wrapper(GZIP, &good).with(change).bytes();
        let around = |inner: &[Message]| wrapper(GZIP, inner).bytes();
        let cases = [
            ("empty", vec![]),
            ("cut short", cut(plain(magic, &["a", "b"]), 1)),
            ("bytes after the last", [plain(magic, &["a"]), vec![0; 5]].concat()),
            ("a size of 0", altered(11, 0)),
            ("a negative size", altered(8, 255)),
            ("a size that is too small", altered(11, 14)),
            ("the CRC", altered(12, !plain(magic, &["a", "b"])[12])),
            ("a magic that is not", one().with(|m| m.magic = 3).bytes()),
            ("attributes that are not", one().with(|m| m.attributes = 0x10).bytes()),
            ("two formats", [plain(0, &["a"]), plain(1, &["b"])].concat()),
            ("two compressed", [around(&good), around(&good)].concat()),
            ("plain and compressed", [plain(magic, &["a"]), around(&good)].concat()),
            ("a key around", wrapped(|m| m.key = Some(vec![]))),
            ("null inside", wrapped(|m| m.value = None)),
            ("nothing inside", wrapped(|m| m.value = Some(compressed(GZIP, b"", false)))),
            ("not gzip", wrapped(|m| m.value = Some(b"not gzip".to_vec()))),
            ("another codec", wrapped(|m| m.attributes = 5)),
            ("inner offsets", around(&[good[1].clone(), good[0].clone()])),
            ("inner offsets all 0", around(&[good[0].clone(), good[0].clone()])),
            ("compressed twice", around(&[wrapper(GZIP, &good[..1])])),
            (
                "another format inside",
                wrapped(|m| {
                    let other = plain(1 - m.magic, &["a", "b"]);
                    m.value = Some(compressed(GZIP, &other, false));
                }),
            ),
        ];
        for (what, set) in cases {
            assert_eq!(produce(&mut client, 2, &set), (CORRUPT, -1), "magic {magic}: {what}");
        }
        assert_eq!(produce(&mut client, 2, &around(&good)).0, 0, "the one without flaw");
    }
    assert_eq!(cluster.high_watermark("t", 0), 4);
    assert_eq!(cluster.stats().broker(1).errors, 42);
}

#[test]
fn a_set_that_is_cut_short_or_altered_anywhere_is_refused() {
    let (cluster, mut client) = broker_of(V0_10_2);
    let good = wrapper(GZIP, &messages(1, &["a", "b"])).bytes();
    for end in 0..good.len() {
        assert_eq!(produce(&mut client, 2, &good[..end]), (CORRUPT, -1), "{end} bytes");
    }
    for at in 0..good.len() {
        let mut altered = good.clone();
        altered[at] ^= 1;
        assert_eq!(produce(&mut client, 2, &altered), (CORRUPT, -1), "byte {at}");
    }
    assert_eq!(cluster.stats().batches(), 0);
    assert_eq!(produce(&mut client, 2, &good), (0, 0));
}

#[test]
fn a_compressed_message_of_magic_1_sums_up_what_is_in_it() {
    let (cluster, mut client) = broker_of(V0_10_0);
    let mut inner = messages(1, &["a", "b", "c"]);
    inner[0].timestamp = 9_000;
    let good = wrapper(SNAPPY, &inner);
    assert_eq!((good.offset, good.timestamp), (2, 9_000));
    let mut refused =
        |change: fn(&mut Message)| produce(&mut client, 2, &good.clone().with(change).bytes()).0;
    assert_eq!(refused(|m| m.offset = 0), CORRUPT);
    assert_eq!(refused(|m| m.offset = 3), CORRUPT);
    assert_eq!(refused(|m| m.timestamp = 1_002), CORRUPT);
    assert_eq!(refused(|m| m.timestamp = -1), CORRUPT);
    // The bit for log append time is the broker's to set: INVALID_TIMESTAMP.
    assert_eq!(refused(|m| m.attributes |= 8), 32);
    assert_eq!(produce(&mut client, 2, &good.bytes()), (0, 0));
    assert_eq!(cluster.records("t", 0)[0].timestamp, 9_000);
    // Magic 0 has no such rule.
    let old = wrapper(SNAPPY, &messages(0, &["a", "b"])).with(|m| m.offset = 0);
    assert_eq!(produce(&mut client, 2, &old.bytes()), (0, 3));
    // Timestamps that are not known.
    inner.iter_mut().for_each(|message| message.timestamp = -1);
    assert_eq!(produce(&mut client, 2, &wrapper(SNAPPY, &inner).bytes()), (0, 5));
    assert_eq!(produce(&mut client, 2, &inner[0].clone().with(|m| m.timestamp = -2).bytes()).0, 2);
}

#[test]
fn lz4_in_magic_0_has_kafkas_old_header_checksum_and_in_magic_1_the_right_one() {
    for (age, magics) in [(V0_8_2, &[0][..]), (V0_10_0, &[0, 1][..]), (V3_9, &[0, 1][..])] {
        let (_cluster, mut client) = broker_of(age);
        for &magic in magics {
            let good = wrapper(LZ4, &messages(magic, &["a", "b"]));
            let inner = plain(magic, &["a", "b"]);
            let wrong = good.clone().with(|m| m.value = Some(compressed(LZ4, &inner, magic == 1)));
            send(&mut client, 0, -1, 0, &wrong.bytes());
            assert_eq!(receive(&mut client, 0).unwrap().code, CORRUPT, "Kafka {age}");
            send(&mut client, 0, -1, 0, &good.bytes());
            assert_eq!(receive(&mut client, 0).unwrap().code, 0, "Kafka {age}");
        }
    }
}

#[test]
fn each_format_keeps_to_its_versions() {
    // Magic 1 at brokers before 0.10.
    for age in [V0_8_2, V0_9] {
        let (_cluster, mut client) = broker_of(age);
        send(&mut client, 0, -1, 0, &plain(1, &["a"]));
        assert_eq!(receive(&mut client, 0).unwrap().code, CORRUPT, "Kafka {age}");
        send(&mut client, 0, -1, 0, &wrapper(GZIP, &messages(1, &["a"])).bytes());
        assert_eq!(receive(&mut client, 0).unwrap().code, CORRUPT, "Kafka {age}");
    }
    for age in [V0_11, V1_1, V2_0, V2_7, V3_9] {
        let (cluster, mut client) = broker_of(age);
        for magic in [0, 1] {
            let set = batch(None, &["a"]).altered(false, |bytes| *bytes = plain(magic, &["a"]));
            assert_eq!(client.produce(3, &set).error_code, 87, "Kafka {age}");
            assert_eq!(produce(&mut client, 2, &set.bytes).0, 0, "Kafka {age}");
        }
        let new = batch(None, &["b"]);
        assert_eq!(produce(&mut client, 2, &new.bytes), (CORRUPT, -1), "Kafka {age}");
        assert_eq!(client.produce(3, &new).error_code, 0, "Kafka {age}");
        assert_eq!(values(&cluster, 0), ["a", "a", "b"]);
    }
    // What says zstd is UNSUPPORTED_COMPRESSION_TYPE.
    let (_cluster, mut client) = broker_of(V2_7);
    for magic in [0, 1] {
        let zstd = wrapper(GZIP, &messages(magic, &["a"])).with(|m| m.attributes = 4);
        assert_eq!(produce(&mut client, 2, &zstd.bytes()).0, 76);
    }
}

#[test]
fn produce_0_to_2_closes_at_4_3_and_at_a_broker_of_no_age() {
    let of_no_age = EmbeddedCluster::builder().topic("t", 1).start().unwrap();
    for cluster in [broker_of(V4_3).0, of_no_age] {
        for version in 0..=2 {
            let mut client = Client::connect(cluster.address(1));
            send(&mut client, version, -1, 0, &plain(1, &["a"]));
            assert!(client.is_closed());
        }
        assert_eq!(cluster.high_watermark("t", 0), 0);
    }
}

#[test]
fn the_size_of_each_message_is_limited_and_not_that_of_the_set() {
    for (age, magic, overhead) in [(V0_8_2, 0, 26), (V0_11, 1, 34)] {
        let builder = EmbeddedCluster::builder().topic("t", 1).kafka_version(age);
        let cluster = builder.message_bytes_max(200).start().unwrap();
        let mut client = Client::connect(cluster.address(1));
        let mut code = |set: &[u8]| {
            send(&mut client, 0, -1, 0, set);
            receive(&mut client, 0).unwrap().code
        };
        let largest = "v".repeat(200 - overhead);
        assert_eq!(plain(magic, &[&largest]).len(), 200);
        assert_eq!(code(&plain(magic, &[&largest, &largest, &largest])), 0, "Kafka {age}");
        assert_eq!(code(&plain(magic, &["a", &format!("{largest}v")])), 10, "Kafka {age}");
        // Of what is compressed the message around it counts.
        let inner = messages(magic, &["v".repeat(2_000).as_str()]);
        assert_eq!(code(&wrapper(GZIP, &inner).bytes()), 0, "Kafka {age}");
        assert_eq!(cluster.high_watermark("t", 0), 4);
    }
}

#[test]
fn log_append_time_is_told_from_version_2_on() {
    let start = |age| {
        let builder = EmbeddedCluster::builder().topic_with_log_append_time("t", 1);
        let cluster = builder.kafka_version(age).start().unwrap();
        let client = Client::connect(cluster.address(1));
        (cluster, client)
    };
    let (cluster, mut client) = start(V0_10_0);
    for magic in [0, 1] {
        send(&mut client, 2, -1, 0, &plain(magic, &["a"]));
        let time = receive(&mut client, 2).unwrap().append_time.unwrap();
        assert!(time > 1_700_000_000_000);
        assert_eq!(cluster.records("t", 0).last().unwrap().timestamp, time);
    }
    let (_cluster, mut client) = broker_of(V0_10_0);
    send(&mut client, 2, 1, 0, &plain(1, &["a"]));
    let (append_time, throttle_ms) = (Some(-1), Some(0));
    let answer = Answer { code: 0, base_offset: 0, append_time, throttle_ms };
    assert_eq!(receive(&mut client, 2).unwrap(), answer);
    // Brokers before 0.10 know no timestamps.
    let (cluster, mut client) = start(V0_9);
    send(&mut client, 1, -1, 0, &plain(0, &["a"]));
    assert_eq!(receive(&mut client, 1).unwrap().code, 0);
    assert_eq!(cluster.records("t", 0)[0].timestamp, -1);
}

#[test]
fn acks_leaders_and_topics_are_judged_as_ever() {
    let (cluster, mut client) = broker_of(V0_10_2);
    send(&mut client, 2, 0, 0, &plain(1, &["not answered"]));
    assert_eq!(produce(&mut client, 2, &plain(1, &["a"])), (0, 1));
    send(&mut client, 2, 2, 0, &plain(1, &["a"]));
    assert_eq!(receive(&mut client, 2).unwrap().code, 21);
    send(&mut client, 2, -1, 7, &plain(1, &["a"]));
    assert_eq!(receive(&mut client, 2).unwrap().code, 3);
    cluster.set_leaderless("t", 0);
    assert_eq!(produce(&mut client, 2, &plain(1, &["a"])), (6, -1));
    send(&mut client, 2, 0, 0, &plain(1, &["a"]));
    assert!(client.is_closed(), "an error under acks=0");
    assert_eq!(values(&cluster, 0), ["not answered", "a"]);
}

#[test]
fn faults_happen_to_old_requests_too() {
    let (cluster, mut client) = broker_of(V0_9);
    let set = plain(0, &["a"]);
    cluster.script([
        Fault::produce_error("t", 0, 7).after_append(),
        Fault::throttle(20),
        Fault::silence(),
        Fault::close_before_response(),
    ]);
    // The fault of the request comes first, that of the partition in the same request.
    send(&mut client, 1, -1, 0, &set);
    let answer = receive(&mut client, 1).unwrap();
    assert_eq!((answer.code, answer.throttle_ms), (7, Some(20)));
    assert_eq!(cluster.high_watermark("t", 0), 1);
    send(&mut client, 1, -1, 0, &set);
    assert!(is_silent(&mut client));
    send(&mut client, 1, -1, 0, &set);
    assert!(client.is_closed());
    assert_eq!((cluster.faults_left(), cluster.high_watermark("t", 0)), (0, 1));

    let mut client = Client::connect(cluster.address(1));
    cluster.script(Fault::metadata_error("t", 5));
    client.send_bytes(3, 0, &[0; 4]);
    assert_eq!(metadata_v0(client.receive_bytes().unwrap()).1, [(5, "t".into(), 0)]);
    cluster.pause_broker(1);
    send(&mut client, 1, -1, 0, &set);
    assert!(is_silent(&mut client));
    cluster.resume_broker(1);
    assert_eq!(receive(&mut client, 1).unwrap().base_offset, 1);
}

#[test]
fn malformed_old_requests_cost_the_connection() {
    // Topics, partitions and bytes that are not there, a negative count, a byte too many.
    let head = [0, 1, 0, 0, 0, 1];
    let topic = [0, 0, 0, 1, 0, 1, b't'];
    let bodies: [&[&[u8]]; 6] = [
        &[&head, &[0x7f, 255, 255, 255]],
        &[&head, &[255; 4]],
        &[&head, &topic, &[0x7f, 255, 255, 255]],
        &[&head, &topic, &[0, 0, 0, 1, 0, 0, 0, 0, 0x7f, 255, 255, 255]],
        &[&head, &topic, &[0, 0, 0, 1, 0, 0, 0, 0, 255, 255, 255, 254]],
        &[&head, &[0, 0, 0, 0], &[1]],
    ];
    for body in bodies {
        for age in [V0_8_2, V0_9, V0_10_0] {
            let (_cluster, mut client) = broker_of(age);
            client.send_bytes(0, 0, &body.concat());
            match age {
                V0_9 => assert!(is_silent(&mut client), "{body:?}"),
                _ => assert!(client.is_closed(), "Kafka {age}: {body:?}"),
            }
        }
    }
    // Null in place of a set is the partition's error.
    let (_cluster, mut client) = broker_of(V0_10_0);
    let null = [0, 0, 0, 1, 0, 0, 0, 0, 255, 255, 255, 255];
    client.send_bytes(0, 0, &[&head[..], &topic, &null].concat());
    assert_eq!(receive(&mut client, 0).unwrap().code, CORRUPT);
}

#[test]
fn brokers_that_discard_payloads_still_judge_sets() {
    let builder = EmbeddedCluster::builder().topic("t", 2).kafka_version(V1_1);
    let cluster = builder.discard_payloads(true).start().unwrap();
    let mut client = Client::connect(cluster.address(1));
    assert_eq!(produce(&mut client, 2, &wrapper(GZIP, &messages(1, &["a", "b"])).bytes()), (0, 0));
    assert_eq!(produce(&mut client, 2, &plain(1, &["c"])), (0, 2));
    let flawed = messages(1, &["a"])[0].clone().with(|m| m.magic = 3);
    assert_eq!(produce(&mut client, 2, &flawed.bytes()).0, CORRUPT);
    assert_eq!(client.produce(5, &batch(None, &["d"])).base_offset, 3);
    assert!(cluster.records("t", 0).is_empty());
    assert_eq!((cluster.high_watermark("t", 0), cluster.stats().records()), (4, 4));
}

#[test]
fn sets_leave_the_state_of_producers_alone() {
    let (cluster, mut client) = broker_of(V1_1);
    assert_eq!(client.produce(3, &batch(Some((7, 0, 0)), &["a"])).base_offset, 0);
    for offset in 1..=6 {
        assert_eq!(produce(&mut client, 2, &plain(1, &["set"])), (0, offset));
    }
    let again = client.produce(3, &batch(Some((7, 0, 0)), &["a"]));
    assert_eq!((again.error_code, again.base_offset), (0, 0), "still the last of its producer");
    assert_eq!(client.produce(3, &batch(Some((7, 0, 1)), &["b"])).base_offset, 7);
    // An unclean election cuts between sets as between batches.
    assert!(cluster.cut_off("t", 0, 3));
    assert_eq!(values(&cluster, 0), ["a", "set", "set"]);
    assert_eq!(client.produce(3, &batch(Some((7, 0, 1)), &["b"])).base_offset, 3);
}

#[test]
fn a_broker_is_upgraded_and_keeps_its_log() {
    let builder = EmbeddedCluster::builder().brokers(2).topic("t", 2);
    let cluster = builder.kafka_version(V0_8_2).start().unwrap();
    let address = cluster.address(1);
    let mut client = Client::connect(address);
    let mut other = Client::connect(cluster.address(2));
    assert_eq!(produce(&mut client, 0, &plain(0, &["old"])), (0, 0));
    other.send_bytes(3, 0, &[0; 4]);
    other.receive_bytes().unwrap();

    cluster.set_kafka_version(1, V0_10_2).unwrap();
    assert!(client.is_closed(), "as by a restart");
    assert_eq!(cluster.address(1), address);
    assert_eq!((cluster.leader("t", 0), cluster.leader_epoch("t", 0)), (Some(1), Some(0)));
    let mut client = Client::connect(address);
    assert_eq!(api_versions(&mut client).1[0], (0, 0, 2));
    assert_eq!(produce(&mut client, 2, &plain(1, &["newer"])), (0, 1));
    // The other broker is what it was, and its connections are open.
    other.send_bytes(3, 1, &[0; 4]);
    assert_eq!(metadata_v0(other.receive_bytes().unwrap()).0, [1, 2]);
    other.send_bytes(18, 0, &[]);
    assert!(other.is_closed());

    cluster.set_kafka_version(1, V4_3).unwrap();
    let mut client = Client::connect(address);
    assert_eq!(client.produce(9, &batch(Some((7, 0, 0)), &["new"])).base_offset, 2);
    assert_eq!(metadata(&mut client, 12, None).brokers.len(), 2);
    // And back: a downgrade works the same way.
    cluster.set_kafka_version(1, V0_11).unwrap();
    let mut client = Client::connect(address);
    let again = client.produce(3, &batch(Some((7, 0, 0)), &["new"]));
    assert_eq!((again.error_code, again.base_offset), (0, 2), "its producers are remembered");
    assert_eq!(values(&cluster, 0), ["old", "newer", "new"]);
    client.send_produce(9, -1, &[batch(None, &["too new"])]);
    assert!(client.receive::<ProduceResponse>(9).is_err());
}

#[test]
fn a_stopped_broker_comes_back_as_the_version_it_was_given() {
    let (cluster, mut client) = broker_of(V0_8_2);
    cluster.stop_broker(1);
    assert!(client.is_closed());
    cluster.set_kafka_version(1, V3_9).unwrap();
    assert!(TcpStream::connect(cluster.address(1)).is_err(), "it stays stopped");
    cluster.restart_broker(1).unwrap();
    let mut client = Client::connect(cluster.address(1));
    assert_eq!(api_versions(&mut client).1[0], (0, 0, 11));
}

#[test]
fn limits_of_an_api_hold_over_an_upgrade() {
    let (cluster, mut client) = broker_of(V2_0);
    cluster.limit_api(0, 3, 5);
    cluster.limit_api(22, 1, 0);
    let (_, keys) = api_versions(&mut client);
    assert_eq!((keys[0], keys.iter().any(|key| key.0 == 22)), ((0, 3, 5), false));
    cluster.set_kafka_version(1, V2_7).unwrap();
    let mut client = Client::connect(cluster.address(1));
    let (_, keys) = api_versions(&mut client);
    assert_eq!((keys[0], keys.iter().any(|key| key.0 == 22)), ((0, 3, 5), false));
    assert_eq!(keys[3], (3, 0, 9));
    send(&mut client, 2, -1, 0, &plain(1, &["a"]));
    assert!(client.is_closed());
}
