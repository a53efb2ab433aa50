//! Tests of configurations in property names.

use std::collections::HashMap;
use std::time::Duration;

use super::super::producer_config::{Acks, ClusterChange};
use super::*;
use crate::WaitStrategy;
use crate::config::BrokerVersion;
use crate::engine::policy::{Backoff, Pressure};
use crate::engine::protocol::compression::Compression;
use crate::error::PressureScope;

fn one(name: &str, value: &str) -> Result<ProducerConfig, BuildError> {
    ProducerConfig::from_properties([(name, value)])
}

fn read(text: &str) -> ProducerConfig {
    ProducerConfig::from_properties_text(text).expect("the properties are good")
}

#[test]
fn a_file_in_kafkas_names_sets_every_field() {
    let config = read(
        "bootstrap.servers=a:1, b:2,\\\n  [::1]:3\n\
         client.id = orders\nacks=1\nenable.idempotence=false\nretries=7\n\
         max.in.flight.requests.per.connection=9\nlinger.ms=5\nbatch.size=16384\n\
         buffer.memory=33554432\nmax.request.size=2097152\nrequest.timeout.ms=1000\n\
         delivery.timeout.ms=2000\nmax.block.ms=3000\nretry.backoff.ms=10\n\
         retry.backoff.max.ms=20\nreconnect.backoff.ms=30\nreconnect.backoff.max.ms=40\n\
         socket.connection.setup.timeout.ms=50\nsocket.connection.setup.timeout.max.ms=60\n\
         connections.max.idle.ms=-1\nmetadata.max.age.ms=70\nmetadata.max.idle.ms=8000\n\
         send.buffer.bytes=131072\nreceive.buffer.bytes=-1\ncompression.zstd.level=-5\n\
         compression.type=zstd\nkey.serializer=org.apache.kafka.X\nvalue.serializer=Y\n\
         partitioner.class=\nclient.dns.lookup=use_all_dns_ips\nsecurity.protocol=plaintext\n",
    );
    let millis = Duration::from_millis;
    assert_eq!(config.bootstrap_servers, ["a:1", "b:2", "[::1]:3"]);
    assert_eq!((config.client_id.as_str(), config.acks), ("orders", Acks::Leader));
    assert_eq!((config.enable_idempotence, config.retries), (Some(false), 7));
    assert_eq!((config.max_in_flight, config.linger), (9, millis(5)));
    assert_eq!((config.batch_size, config.buffer_memory), (16_384, 33_554_432));
    assert_eq!((config.max_request_size, config.request_timeout), (2_097_152, millis(1_000)));
    assert_eq!((config.delivery_timeout, config.max_block), (millis(2_000), millis(3_000)));
    assert_eq!((config.retry_backoff, config.retry_backoff_max), (millis(10), millis(20)));
    assert_eq!((config.reconnect_backoff, config.reconnect_backoff_max), (millis(30), millis(40)));
    assert_eq!(config.connection_setup_timeout, millis(50));
    assert_eq!(config.connection_setup_timeout_max, millis(60));
    assert!(config.connections_max_idle > Duration::from_secs(300 * 24 * 3_600));
    assert_eq!((config.metadata_max_age, config.metadata_max_idle), (millis(70), millis(8_000)));
    assert_eq!((config.send_buffer, config.receive_buffer), (Some(131_072), None));
    assert_eq!(config.compression, Compression::Zstd { level: -5 });
}

#[test]
fn own_names_set_own_fields() {
    let config = read(
        "tidegate.request.bytes.max=1000\ntidegate.producer.id.idle.max.ms=9\n\
         tidegate.metadata.min.refresh.ms=1\n\
         tidegate.topic.unknown.max.ms=2\ntidegate.allow.auto.create.topics=TRUE\n\
         tidegate.tcp.keepalive.ms=0\ntidegate.close.on.drop.ms=3\ntidegate.lanes.max=4\n\
         tidegate.brokers.max=5\ntidegate.high.watermark=7\ntidegate.low.watermark=6\n\
         tidegate.part.filled.floor.us=50\ntidegate.cores=0,2-4\ntidegate.pinning=false\n\
         tidegate.loop.wait=50\n\
         tidegate.backoff.strategy=drop\ntidegate.cluster.change=fail\n",
    );
    let millis = Duration::from_millis;
    assert_eq!((config.request_bytes_max, config.metadata_min_refresh), (Some(1_000), millis(1)));
    assert_eq!(config.producer_id_idle_max, millis(9));
    assert_eq!((config.topic_unknown_max, config.allow_auto_create_topics), (millis(2), true));
    assert_eq!(config.on_cluster_change, ClusterChange::Fail);
    assert_eq!((config.tcp_keepalive, config.on_drop), (None, crate::OnDrop::Wait(millis(3))));
    assert_eq!((config.lanes_max, config.brokers_max), (4, 5));
    assert_eq!((config.high_watermark, config.low_watermark), (Some(7), Some(6)));
    assert_eq!(config.part_filled_floor, Some(Duration::from_micros(50)));
    assert_eq!((config.cores.as_deref(), config.pinning), (Some(&[0, 2, 3, 4][..]), false));
    assert_eq!(config.wait_strategy, WaitStrategy::SpinThenBlock(Duration::from_micros(50)));
    let pressure = Pressure::new(PressureScope::Pool, 1);
    assert_eq!(config.backoff_in_effect().decide(&pressure), Backoff::Drop);
    let parking = read("max.block.ms=9\ntidegate.backoff.strategy=park");
    let park = Backoff::Park { at_most: millis(9) };
    assert_eq!(parking.backoff_in_effect().decide(&pressure), park);
}

#[test]
fn a_map_works_in_any_order() {
    let map = HashMap::from([
        ("compression.lz4.level", "4"),
        ("compression.type", "lz4"),
        ("bootstrap.servers", "kafka:9092"),
    ]);
    let config = ProducerConfig::from_properties(map).expect("the properties are good");
    assert_eq!(config.compression, Compression::Lz4 { level: 4 });
    assert_eq!(config.validate(), Ok(()));
    let default_level = one("compression.type", "gzip").map(|config| config.compression);
    assert_eq!(default_level, Ok(Compression::Gzip { level: 6 }));
}

#[test]
fn a_default_delivery_timeout_gives_way_and_a_given_one_does_not() {
    let raised = read("bootstrap.servers=a:1\nrequest.timeout.ms=200000\nlinger.ms=5");
    assert_eq!(raised.delivery_timeout, Duration::from_millis(200_005));
    assert_eq!(raised.validate(), Ok(()));
    let given = read("bootstrap.servers=a:1\nrequest.timeout.ms=9\ndelivery.timeout.ms=8");
    assert!(matches!(given.validate(), Err(BuildError::Conflict(_))));
}

#[test]
fn a_misspelt_name_is_an_error_with_the_nearest() {
    for (name, expected) in [
        ("bootstrap.server", "bootstrap.servers"),
        ("boostrap.servers", "bootstrap.servers"),
        ("bootstrap_servers", "bootstrap.servers"),
        ("Linger.MS", "linger.ms"),
        ("linger.sm", "linger.ms"),
        ("ack", "acks"),
        ("partitioner.clas", "partitioner.class"),
        ("max.inflight.requests.per.connection", "max.in.flight.requests.per.connection"),
        ("allow.auto.create.topic", "allow.auto.create.topics"),
        ("tidegate.high.watermarks", "tidegate.high.watermark"),
    ] {
        let name = name.to_owned();
        let error = one(&name, "1").expect_err(&name);
        assert_eq!(error, BuildError::UnknownProperty { name, nearest: Some(expected.to_owned()) });
    }
    for (name, expected) in [
        ("linger", "linger.ms"),
        ("max_in_flight", "max.in.flight.requests.per.connection"),
        ("on_drop", "tidegate.close.on.drop.ms"),
        ("compression", "compression.type"),
        ("strategy", "tidegate.backoff.strategy"),
        ("backoff", "tidegate.backoff.strategy"),
        ("topic_unknown_max", "tidegate.topic.unknown.max.ms"),
        ("tidegate.keepalive", "tidegate.tcp.keepalive.ms"),
    ] {
        let name = name.to_owned();
        let error = one(&name, "1").expect_err(&name);
        assert_eq!(error, BuildError::UnknownProperty { name, nearest: Some(expected.to_owned()) });
    }
    for name in ["", "x", "ms", "max", "colour.of.the.sky", &"a".repeat(100_000)] {
        let error = one(name, "1").expect_err(name);
        let nothing_near = matches!(error, BuildError::UnknownProperty { nearest: None, .. });
        assert!(nothing_near, "{error:?}");
    }
}

#[test]
fn bad_values_name_the_property_and_its_range() {
    for (name, value, part) in [
        ("acks", "2", "0, 1, all or -1"),
        ("tidegate.cluster.change", "ignore", "follow or fail"),
        ("linger.ms", "5ms", "as in 5 or 0.5"),
        ("linger.ms", "-1", "number of milliseconds from 0"),
        ("linger.ms", "1e3", "as in 5 or 0.5"),
        ("max.block.ms", "-1", "whole number from 0"),
        ("retries", "2147483648", "2147483647"),
        ("enable.idempotence", "yes", "true or false"),
        ("compression.type", "brotli", "none, gzip, snappy, lz4 or zstd"),
        ("compression.gzip.level", "0", "1 to 9"),
        ("compression.lz4.level", "18", "17"),
        ("compression.zstd.level", "23", "22"),
        ("send.buffer.bytes", "0", "-1"),
        ("tidegate.loop.wait", "sleep", "block, spin or a number"),
        ("tidegate.cores", "0,x", "0,2-5"),
        ("tidegate.cores", "0-99999999", "0,2-5"),
        ("tidegate.backoff.strategy", "wait", "park, drop, reject, fallback or spill"),
        ("client.dns.lookup", "resolve_canonical_bootstrap_servers_only", "use_all_dns_ips"),
        ("partitioner.class", "org.example.Mine", "in code"),
    ] {
        let error = one(name, value).expect_err(name);
        let named = matches!(&error, BuildError::InvalidSetting { name: n, value: v, .. }
            if *n == name && v == value);
        let text = error.to_string();
        assert!(named && text.contains(part), "{text}");
    }
}

#[test]
fn what_kafka_knows_and_this_client_cannot_do_is_said() {
    for (name, part) in [
        ("sasl.kerberos.kinit.cmd", "Kerberos"),
        ("transactional.id", "transactions"),
        ("interceptor.classes", "Java"),
        ("source.orders.linger.ms", "single topic"),
    ] {
        let text = one(name, "x").expect_err(name).to_string();
        assert!(text.contains(name) && text.contains(part), "{text}");
    }
}

#[test]
fn files_are_read() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("producer.properties");
    std::fs::write(&path, "# brokers\nbootstrap.servers=kafka:9092\n").expect("it is writable");
    let config = ProducerConfig::from_properties_file(&path).expect("the file is good");
    assert_eq!(config.bootstrap_servers, ["kafka:9092"]);
    let missing = ProducerConfig::from_properties_file(directory.path().join("none"));
    assert!(matches!(missing, Err(BuildError::System { what: "the properties file", .. })));
}

#[test]
fn no_name_is_listed_twice() {
    let mut names: Vec<&str> = all_properties().map(|property| property.name).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_list_of_codecs_is_an_order_of_preference() {
    let config = ProducerConfig::from_properties([
        ("bootstrap.servers", "k:1"),
        ("compression.type", "snappy, gzip,none"),
        ("compression.gzip.level", "9"),
    ]);
    let config = config.unwrap();
    assert_eq!(config.compression, Compression::Snappy);
    let fallback = [Compression::Gzip { level: 9 }, Compression::None];
    assert_eq!(config.compression_fallback, fallback);
    for wrong in ["", "gzip,", "gzip,lzma", "gzip;lz4"] {
        let config = [("bootstrap.servers", "k:1"), ("compression.type", wrong)];
        assert!(ProducerConfig::from_properties(config).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_version_that_old_brokers_are_taken_for_is_read() {
    let fallback = |version, asks| {
        ProducerConfig::from_properties([
            ("bootstrap.servers", "k:1"),
            ("broker.version.fallback", version),
            ("api.version.request", asks),
        ])
        .map(|config| (config.broker_version_fallback, config.api_version_request))
    };
    assert_eq!(fallback("0.9.0.1", "false"), Ok((Some(BrokerVersion::V0_9), false)));
    assert_eq!(fallback("0.8.2", "true"), Ok((Some(BrokerVersion::V0_8), true)));
    assert_eq!(fallback("0.10.0", "true"), Ok((None, true)));
    assert!(fallback("nine", "true").unwrap_err().to_string().contains("0.9.0"));
}
