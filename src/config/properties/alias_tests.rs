//! Tests of names that other clients have for the same things, and of the names in errors.

use std::time::Duration;

use super::super::producer_config::{Acks, ProducerConfig};
use crate::engine::protocol::compression::Compression;
use crate::error::BuildError;

fn read(text: &str) -> ProducerConfig {
    ProducerConfig::from_properties_text(text).expect("the properties are good")
}

/// What is wrong with properties, when they are read or when they are checked.
fn refused(text: &str) -> String {
    let text = format!("bootstrap.servers=a:1\n{text}");
    let config = ProducerConfig::from_properties_text(&text);
    let checked = config.and_then(|config| config.validate());
    checked.expect_err("they cannot be used").to_string()
}

#[test]
fn librdkafkas_names_set_the_same_fields() {
    let config = read(
        "metadata.broker.list=a:1,b:2\nmessage.max.bytes=2000000\nmax.in.flight=3\n\
         topic.metadata.refresh.interval.ms=-1\ntopic.metadata.refresh.fast.interval.ms=250\n\
         topic.metadata.propagation.max.ms=9000\nallow.auto.create.topics=true\n\
         socket.timeout.ms=1000\nsocket.send.buffer.bytes=0\nsocket.receive.buffer.bytes=4096\n\
         socket.keepalive.enable=false\nqueue.buffering.max.kbytes=1048576\n\
         queue.buffering.max.ms=0.5\nmessage.send.max.retries=7\nrequest.required.acks=1\n\
         message.timeout.ms=300000\ncompression.codec=zstd\ncompression.level=9\n",
    );
    let millis = Duration::from_millis;
    assert_eq!(config.bootstrap_servers, ["a:1", "b:2"]);
    assert_eq!((config.max_request_size, config.max_in_flight), (2_000_000, 3));
    assert!(config.metadata_max_age > Duration::from_secs(300 * 24 * 3_600));
    assert_eq!(config.metadata_min_refresh, millis(250));
    assert_eq!((config.topic_unknown_max, config.allow_auto_create_topics), (millis(9_000), true));
    assert_eq!(config.request_timeout, millis(1_000));
    assert_eq!((config.send_buffer, config.receive_buffer), (None, Some(4_096)));
    assert_eq!((config.tcp_keepalive, config.buffer_memory), (None, 1 << 30));
    assert_eq!((config.linger, config.retries), (Duration::from_micros(500), 7));
    assert_eq!((config.acks, config.delivery_timeout), (Acks::Leader, millis(300_000)));
    assert_eq!(config.compression, Compression::Zstd { level: 9 });
    assert!(read("socket.keepalive.enable=true").tcp_keepalive.is_some());
    assert_eq!(read("linger.ms=1.5").linger, Duration::from_micros(1_500));
    assert_eq!(read("compression.codec=inherit").compression, Compression::None);
}

#[test]
fn krackles_names_set_the_same_fields() {
    let config = read(
        "metadata.broker.list=a:1\nmessage.buffer.size=1048576\nqueue.enqueue.timeout.ms=-1\n\
         compression.codec=gzip\ngzip.compression.level=9\nkafka.security.protocol=plaintext\n\
         num.buffers=4\nuse.shared.buffers=true\nmetrics.to.console.interval.ms=60000\n",
    );
    assert_eq!(config.batch_size, 1 << 20);
    assert!(config.max_block > Duration::from_secs(300 * 24 * 3_600));
    assert_eq!(config.compression, Compression::Gzip { level: 9 });
    assert_eq!(config.validate(), Ok(()));
}

/// What most programs with librdkafka set, whose default for a request is longer.
#[test]
fn a_message_timeout_bounds_requests_as_it_does_in_librdkafka() {
    let config = read("bootstrap.servers=a:1\nmessage.timeout.ms=5000\nlinger.ms=100");
    assert_eq!(config.delivery_timeout, Duration::from_secs(5));
    assert_eq!(config.request_timeout, Duration::from_millis(4_900));
    assert_eq!(config.validate(), Ok(()));
    // The lesser of the two counts there, also where both are given. By Kafka's name both are
    // Java's.
    let config = read("bootstrap.servers=a:1\nmessage.timeout.ms=5000\nsocket.timeout.ms=60000");
    assert_eq!(config.request_timeout, Duration::from_secs(5));
    assert_eq!(config.validate(), Ok(()));
    assert!(refused("delivery.timeout.ms=5000").contains("request.timeout.ms"));
    assert!(refused("message.timeout.ms=0").contains("for ever"));
}

#[test]
fn two_names_of_one_thing_must_agree() {
    for (first, second) in [
        ("linger.ms=5", "queue.buffering.max.ms=6"),
        ("buffer.memory=67108864", "queue.buffering.max.kbytes=65537"),
        ("bootstrap.servers=a:1", "metadata.broker.list=b:1"),
        ("acks=all", "request.required.acks=1"),
        ("compression.type=lz4", "compression.codec=gzip"),
        ("sasl.mechanism=PLAIN", "sasl.mechanisms=SCRAM-SHA-256"),
        ("ssl.truststore.location=/a", "ssl.ca.location=/b"),
        ("tidegate.tcp.keepalive.ms=5", "socket.keepalive.enable=false"),
        ("compression.type=gzip\ncompression.gzip.level=3", "compression.level=4"),
    ] {
        for text in [format!("{first}\n{second}"), format!("{second}\n{first}")] {
            let error = ProducerConfig::from_properties_text(&text).map(drop);
            let Err(BuildError::Conflict(words)) = error else { panic!("{text}: {error:?}") };
            for line in [first.lines().last().unwrap_or_default(), second] {
                let (name, value) = line.split_once('=').expect("it is a property");
                assert!(words.contains(&format!("{name} = {value}")), "{words}");
            }
            assert!(words.contains("leave one of them out"), "{words}");
        }
    }
    for same in [
        "tidegate.tcp.keepalive.ms=60000\nsocket.keepalive.enable=true",
        "socket.keepalive.enable=true\ntidegate.tcp.keepalive.ms=60000",
        "linger.ms=5\nqueue.buffering.max.ms=5.0",
        "buffer.memory=67108864\nqueue.buffering.max.kbytes=65536",
        "acks=all\nrequest.required.acks=-1",
        "linger.ms=4\nqueue.buffering.max.ms=5\nlinger.ms=5",
        "compression.type=gzip\ncompression.gzip.level=4\ncompression.level=4",
        "compression.type=gzip\ncompression.gzip.level=4\ncompression.level=-1",
    ] {
        read(same);
    }
}

#[test]
fn a_level_must_be_one_of_the_codec_that_is_used() {
    let words = refused("compression.codec=gzip\ncompression.level=12");
    assert!(words.starts_with("compression.level = 12") && words.contains("1 to 9"), "{words}");
    let lz4 = read("compression.codec=lz4\ncompression.level=12").compression;
    assert_eq!(lz4, Compression::Lz4 { level: 12 });
    assert_eq!(read("compression.level=5").compression, Compression::None);
}

#[test]
fn errors_name_what_the_user_wrote_also_when_they_are_found_later() {
    for (text, part) in [
        ("max.in.flight=0", "max.in.flight = 0"),
        ("max.in.flight.requests.per.connection=0", "max.in.flight.requests.per.connection = 0"),
        ("queue.buffering.max.kbytes=1", "queue.buffering.max.kbytes = 1024 bytes is too small"),
        ("request.required.acks=1\nenable.idempotence=true", "needs request.required.acks=all"),
        ("message.send.max.retries=0\nenable.idempotence=true", "message.send.max.retries over 0"),
        ("message.max.bytes=0", "message.max.bytes = 0"),
        ("tidegate.low.watermark=5", "needs tidegate.high.watermark"),
        ("metadata.max.idle.ms=1", "metadata.max.idle.ms = 1ms"),
        // What is not given has the name of Kafka.
        ("delivery.timeout.ms=10", "linger.ms + request.timeout.ms"),
        ("connections.max.idle.ms=0", "-1 for never"),
        ("api.version.request=false", "needs broker.version.fallback"),
    ] {
        let words = refused(text);
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn what_code_changes_is_named_as_in_code() {
    let mut config = read("bootstrap.servers=a:1\nmax.in.flight=3\nlinger.ms=2");
    config.max_in_flight = 0;
    let words = config.validate().expect_err("it is none").to_string();
    assert!(words.starts_with("max_in_flight = 0"), "{words}");
    config.max_in_flight = 3;
    config.lanes_max = 0;
    let words = config.validate().expect_err("it is none").to_string();
    assert!(words.starts_with("lanes_max = 0"), "{words}");
}

/// librdkafka has two limits each where this client has one, and files that write out its defaults.
#[test]
fn what_librdkafka_has_two_of_is_no_contradiction() {
    let config = read(
        "request.timeout.ms=30000\nsocket.timeout.ms=60000\nmetadata.max.age.ms=900000\n\
         topic.metadata.refresh.interval.ms=300000",
    );
    assert_eq!(config.request_timeout, Duration::from_secs(60));
    assert_eq!(config.metadata_max_age, Duration::from_secs(300));
    let config = read("topic.metadata.refresh.interval.ms=7000");
    assert_eq!(config.metadata_max_age, Duration::from_secs(7));
}

/// What Confluent Cloud's console gives for a Java client, with its registry.
#[test]
fn a_file_that_a_consumer_shares_is_read() {
    let config = read(
        "bootstrap.servers=pkc.example:9092\nsecurity.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username='k' password='s';\nclient.dns.lookup=use_all_dns_ips\n\
         session.timeout.ms=45000\nacks=all\nclient.id=ccloud-java-client\ngroup.id=g\n\
         schema.registry.url=https://psrc.example\nbasic.auth.credentials.source=USER_INFO\n\
         basic.auth.user.info=k:s\nkey.deserializer=x.StringDeserializer",
    );
    assert!(config.sasl.is_some());
    assert_eq!(config.delivery_timeout, Duration::from_secs(120));
    // A slip in a name that means something is still one.
    assert!(refused("fetch.min.byte=1\nlinger.m=5").contains("linger.ms"));
}

#[test]
fn a_line_of_a_key_whose_line_before_lacks_its_backslash_is_not_shown() {
    let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbVzOGKnyZkWsGdrq";
    let text = format!("ssl.keystore.key=-----BEGIN PRIVATE KEY-----\n{key}\n");
    let error = ProducerConfig::from_properties_text(&text).expect_err("it is no property");
    let words = format!("{error} {error:?}");
    assert!(!words.contains("MIGH") && words.contains("backslash"), "{words}");
}

#[test]
fn krackles_switches_mean_what_they_do_there() {
    let config = read("metrics.to.console=false\nmetrics.to.console.interval.ms=60000");
    assert_eq!(config.metrics_log_interval, None);
    let config = read("metrics.to.console=true");
    assert_eq!(config.metrics_log_interval, Some(Duration::from_secs(60)));
    assert!(read("partitions.rotate=random").partitioner.is_some());
    assert!(refused("partitions.rotate=false").contains("true or random"));
}
