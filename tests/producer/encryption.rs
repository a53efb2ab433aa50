//! TLS on the embedded broker: who is trusted, what a user sees when something is not, and what
//! encryption must not change.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::embedded::{EmbeddedClusterBuilder, EmbeddedTls, Fault};
use tidegate::{Acks, Certainty, Compression, ProblemKind, Scram, TlsConfig};

use super::*;

fn encrypted(tls: EmbeddedTls) -> EmbeddedClusterBuilder {
    EmbeddedCluster::builder().brokers(2).topic("t", 4).tls(tls)
}

/// Trusts the cluster, and nobody else.
fn trusting(cluster: &EmbeddedCluster) -> TlsConfig {
    TlsConfig::new().truststore_pem(cluster.authority_pem())
}

/// What a record meets whose producer gets no connection.
fn refused(cluster: &EmbeddedCluster, tls: TlsConfig) -> DeliveryError {
    let builder = builder(cluster).tls(tls).request_timeout(secs(1)).delivery_timeout(secs(2));
    let producer = builder.build().unwrap();
    let error = failed(producer.topic("t").unwrap().send("k", "v").unwrap());
    assert_eq!(error.certainty(), Certainty::NotWritten);
    error
}

fn assert_is_about(error: &DeliveryError, words: &[&str]) {
    let told = error.to_string();
    assert_eq!(error.problem().map(|problem| problem.kind()), Some(ProblemKind::Tls), "{told}");
    for words in words {
        assert!(told.contains(words), "{words:?} is not in {told:?}");
    }
}

#[test]
fn records_of_every_size_arrive_as_they_were_sent() {
    for tls in [EmbeddedTls::new(), EmbeddedTls::new().only_1_2()] {
        let cluster = encrypted(tls).start().unwrap();
        let producer = patient(&cluster).tls(trusting(&cluster)).build().unwrap();
        let topic = producer.topic("t").unwrap();
        let value = |n: usize| {
            let size = [0, 1, 100, 16_383, 16_384, 16_385, 70_000, 900_000][n % 8];
            (0..size).map(|at| (at * 7 + n) as u8).collect::<Vec<u8>>()
        };
        let send = |n: usize| {
            let value = value(n);
            let record = Record::new().value(&value[..]).partition((n % 4) as i32);
            topic.send_record(record).unwrap()
        };
        let deliveries: Vec<_> = (0..64).map(send).collect();
        for delivery in deliveries {
            acked(delivery);
        }
        close(&producer);
        for partition in 0..4 {
            let records = cluster.records("t", partition as i32);
            assert_eq!(records.len(), 16);
            for (at, record) in records.iter().enumerate() {
                let sent = value(4 * at + partition);
                assert!(record.value.as_deref() == Some(&sent[..]), "{partition}: {at}");
            }
        }
    }
}

#[test]
fn encryption_goes_with_logins_compression_and_any_acks() {
    let cluster = encrypted(EmbeddedTls::new()).user("alice", "alice-secret").start().unwrap();
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let producer = patient(&cluster)
            .tls(trusting(&cluster))
            .sasl(Scram::sha_512("alice", "alice-secret"))
            .compression(Compression::lz4())
            .acks(acks)
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        warm(&topic, 4);
        let many = (0..2_000).map(|n| topic.send_record(to(n % 4, &"x".repeat(500))).unwrap());
        for delivery in many.collect::<Vec<_>>() {
            acked(delivery);
        }
        close(&producer);
    }
    // What resolves with acks=0 was handed to the kernel: it is there once the broker has read it.
    let all =
        |cluster: &EmbeddedCluster| (0..4).map(|p| cluster.high_watermark("t", p)).sum::<i64>();
    eventually("every record is in the log", || all(&cluster) == 3 * 2_004);
}

#[test]
fn f30_an_authority_that_is_not_trusted_is_told_with_the_setting_to_change() {
    let (cluster, other) = (encrypted(EmbeddedTls::new()), encrypted(EmbeddedTls::new()));
    let (cluster, other) = (cluster.start().unwrap(), other.start().unwrap());
    // One of the same name, as test authorities that were made anew have it.
    let error = refused(&cluster, trusting(&other));
    assert_is_about(&error, &["made anew under the same name", "ssl.truststore.location"]);
    // Those of the system, who do not know it.
    let error = refused(&cluster, TlsConfig::new());
    assert_is_about(&error, &["tidegate embedded authority", "ssl.truststore"]);
}

#[test]
fn f30_a_certificate_for_another_name_is_told_with_the_names_that_it_has() {
    let tls = EmbeddedTls::new().names(&["kafka.example"]);
    let cluster = encrypted(tls).start().unwrap();
    let error = refused(&cluster, trusting(&cluster));
    assert_is_about(&error, &["127.0.0.1", "kafka.example"]);
    // Whoever knows what they do can do without.
    let tls = trusting(&cluster).verify_host_name(false);
    let producer = patient(&cluster).tls(tls).build().unwrap();
    warm(&producer.topic("t").unwrap(), 4);
    close(&producer);
}

#[test]
fn f30_certificates_of_another_time_are_told_with_their_dates() {
    let old = encrypted(EmbeddedTls::new().valid(2001, 2002)).start().unwrap();
    assert_is_about(&refused(&old, trusting(&old)), &["2002", "expired"]);
    let coming = encrypted(EmbeddedTls::new().valid(2098, 2099)).start().unwrap();
    assert_is_about(&refused(&coming, trusting(&coming)), &["2098", "clock"]);
}

/// With TLS 1.3 a broker refuses a client's certificate after the client's handshake is complete.
#[test]
fn a_broker_that_wants_a_client_certificate_gets_one_or_says_so() {
    for tls in [EmbeddedTls::new(), EmbeddedTls::new().only_1_2()] {
        let cluster = encrypted(tls.client_certificates()).start().unwrap();
        let (key, chain) = cluster.client_identity_pem("alice").unwrap();
        let tls = trusting(&cluster).keystore_pem(key, chain);
        let producer = patient(&cluster).tls(tls).build().unwrap();
        warm(&producer.topic("t").unwrap(), 4);
        close(&producer);

        assert_is_about(&refused(&cluster, trusting(&cluster)), &["ssl.keystore"]);
        let other = encrypted(EmbeddedTls::new()).start().unwrap();
        let (key, chain) = other.client_identity_pem("mallory").unwrap();
        let error = refused(&cluster, trusting(&cluster).keystore_pem(key, chain));
        assert_is_about(&error, &["this client's certificate"]);
    }
}

#[test]
fn a_listener_without_tls_is_recognised() {
    let cluster = cluster(1, 1);
    let told = refused(&cluster, TlsConfig::new()).to_string();
    assert!(
        told.contains("one without TLS (security.protocol=PLAINTEXT or SASL_PLAINTEXT)?"),
        "{told}"
    );
}

#[test]
fn a_listener_with_tls_is_recognised_by_a_client_without() {
    let cluster = encrypted(EmbeddedTls::new()).start().unwrap();
    let builder = builder(&cluster).request_timeout(secs(1)).delivery_timeout(secs(2));
    let producer = builder.build().unwrap();
    let error = failed(producer.topic("t").unwrap().send("k", "v").unwrap());
    assert!(error.to_string().contains("TLS"), "{error}");
    let kind = error.problem().map(|problem| problem.kind());
    assert_eq!(kind, Some(ProblemKind::NotKafka), "{error}");
}

#[test]
fn a_certificate_is_for_the_host_that_is_named_wherever_that_is_reached() {
    let tls = EmbeddedTls::new().names(&["kafka.example", "127.0.0.1"]);
    let cluster = encrypted(tls).start().unwrap();
    let address = cluster.address(1);
    let map = move |place: &tidegate::BrokerPlace<'_>| {
        let named = place.host.ends_with(".example");
        named.then(|| (address.ip().to_string(), address.port()))
    };
    let connect = |name: &str| {
        Producer::builder(&format!("{name}:9093"))
            .configure(|config| config.pinning = false)
            .address_map(map)
            .tls(trusting(&cluster))
    };
    let producer = connect("kafka.example").build().unwrap();
    warm(&producer.topic("t").unwrap(), 4);
    close(&producer);
    let other = connect("other.example").request_timeout(secs(1)).delivery_timeout(secs(2));
    let other = other.build().unwrap();
    let error = failed(other.topic("t").unwrap().send("k", "v").unwrap());
    assert_is_about(&error, &["other.example", "kafka.example"]);
    close(&other);
}

/// The next connection uses what is on the disk, without a restart.
#[test]
fn f30_a_truststore_that_changes_is_used_by_the_next_connection() {
    let cluster = encrypted(EmbeddedTls::new()).start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, cluster.authority_pem()).unwrap();
    let tls = TlsConfig::new().truststore_file(&path);
    let producer = patient(&cluster).tls(tls).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 4);
    cluster.renew_certificates().unwrap();
    fs::write(&path, cluster.authority_pem()).unwrap();
    for broker in cluster.broker_ids() {
        cluster.restart_broker(broker).unwrap();
    }
    warm(&topic, 4);
    close(&producer);
}

/// What a connection had taken may have reached the broker, also if it was still encrypted here.
#[test]
fn a_connection_that_breaks_in_the_middle_doubles_and_loses_nothing() {
    let cluster = encrypted(EmbeddedTls::new()).start().unwrap();
    let producer = patient(&cluster).tls(trusting(&cluster)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 4);
    for _ in 0..10 {
        cluster.script(Fault::close_after_append());
        cluster.script(Fault::close_before_response());
        let sent = (0..400).map(|n| topic.send_record(to(n % 4, &"y".repeat(2_000))).unwrap());
        for delivery in sent.collect::<Vec<_>>() {
            acked(delivery);
        }
    }
    close(&producer);
    let all: i64 = (0..4).map(|partition| cluster.high_watermark("t", partition)).sum();
    assert_eq!(all, 4 + 10 * 400);
}

/// Passes bytes between clients and a broker one by one, and cuts the first connections off after
/// ever more bytes of the broker's.
struct Strait {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Strait {
    fn open(broker: std::net::SocketAddr, cuts: usize, step: usize) -> Strait {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (client, broker) = (client.unwrap(), TcpStream::connect(broker).unwrap());
                let limit = if number < cuts { number * step } else { usize::MAX };
                let back = (broker.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || relay(client, broker, usize::MAX));
                std::thread::spawn(move || relay(back.0, back.1, limit));
            }
        });
        Strait { address, connections }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, limit: usize) {
    let (mut byte, mut passed) = ([0], 0);
    to.set_nodelay(true).unwrap();
    while passed < limit && from.read(&mut byte).is_ok_and(|read| read == 1) {
        if to.write_all(&byte).is_err() {
            break;
        }
        passed += 1;
    }
    for stream in [from, to] {
        // Either side may have ended it already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Wherever a handshake is cut off, and in whatever pieces its bytes come, the records go through
/// in the end, each once.
#[test]
fn a_handshake_that_is_cut_off_at_any_place_is_followed_by_another() {
    const CUTS: usize = 60;
    for tls in [EmbeddedTls::new(), EmbeddedTls::new().only_1_2()] {
        let cluster = EmbeddedCluster::builder().topic("t", 1).tls(tls).start().unwrap();
        // A handshake is some 700 bytes of the broker's long, and then comes ApiVersions.
        let strait = Strait::open(cluster.address(1), CUTS, 23);
        cluster.advertise(1, strait.address);
        let quick = |config: &mut tidegate::ProducerConfig| {
            config.pinning = false;
            (config.reconnect_backoff, config.reconnect_backoff_max) = (millis(1), millis(1));
        };
        let producer = Producer::builder(&strait.address.to_string())
            .configure(quick)
            .request_timeout(FAR)
            .delivery_timeout(2 * FAR)
            .tls(trusting(&cluster))
            .build()
            .unwrap();
        let topic = producer.topic("t").unwrap();
        let sent: Vec<_> = (0..20).map(|_| topic.send("k", "v".repeat(300)).unwrap()).collect();
        for delivery in sent {
            acked(delivery);
        }
        close(&producer);
        let connections = strait.connections.load(Ordering::SeqCst);
        assert!(connections >= CUTS / 3, "only {connections}");
        assert_eq!(cluster.high_watermark("t", 0), 20);
    }
}
