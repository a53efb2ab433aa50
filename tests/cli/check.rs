//! `tidegate check` and `tidegate metadata`.

use std::process::Output;

use tidegate::embedded::{EmbeddedCluster, EmbeddedTls};

use super::{cluster, run, told};

/// What was told, and the lines of the steps.
fn check(servers: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let soon = "socket.connection.setup.timeout.ms=5000";
    let base = ["check", "-b", servers, "-X", soon];
    let output: Output = run(&[&base[..], more].concat(), b"");
    told(&output)
}

/// The step that failed, by what stands after the server.
fn failed(out: &str) -> Vec<&str> {
    let lines = out.lines().filter(|line| line.starts_with("FAIL"));
    lines.map(|line| line.split(": ").nth(1).expect("a step")).collect()
}

/// Nothing listens there, whatever ports other tests take.
fn closed_port() -> String {
    "127.0.0.1:1".to_owned()
}

#[test]
fn a_cluster_that_is_well_passes_every_step() {
    let cluster =
        EmbeddedCluster::builder().brokers(2).topic("orders", 3).start().expect("brokers start");
    let (status, out, error) = check(&cluster.bootstrap_servers(), &["-t", "orders", "--send"]);
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    for step in ["connect", "ask for versions", "ask for metadata: brokers: 2, topics: 1"] {
        assert!(out.contains(step), "{step}: {out}");
    }
    for id in 1..=2 {
        assert!(out.contains(&format!("broker {id} advertises {}", cluster.address(id))), "{out}");
    }
    assert!(out.contains("topic orders: partitions with a leader: all 3"), "{out}");
    assert!(out.contains("send a record: orders-"), "{out}");
    let records: usize = (0..3).map(|partition| cluster.records("orders", partition).len()).sum();
    assert_eq!(records, 1);
}

#[test]
fn a_wrong_port_and_a_name_without_address_fail_at_their_steps() {
    let port = closed_port();
    let (status, out, error) = check(&port, &[]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["connect"]), "{out}");
    assert!(error.contains(&port) && error.contains("refused"), "{error}");
    let (status, out, error) = check("no-such-host.invalid:9092", &[]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["resolve the name"]), "{out}");
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

#[test]
fn the_next_bootstrap_server_is_tried_and_the_first_is_told() {
    let cluster = cluster("orders", 1);
    let servers = format!("{},{}", closed_port(), cluster.bootstrap_servers());
    let (status, out, error) = check(&servers, &[]);
    assert_eq!((status, failed(&out), error.as_str()), (Some(0), vec!["connect"], ""), "{out}");
}

#[test]
fn a_wrong_password_fails_at_the_login_and_is_not_shown() {
    let cluster = EmbeddedCluster::builder().user("alice", "the-right-one").start();
    let cluster = cluster.expect("brokers start");
    let servers = cluster.bootstrap_servers();
    let login = |password: &str| {
        let password = format!("sasl.password={password}");
        let protocol = "security.protocol=SASL_PLAINTEXT";
        let mechanism = "sasl.mechanism=SCRAM-SHA-256";
        let user = "sasl.username=alice";
        check(&servers, &["-X", protocol, "-X", mechanism, "-X", user, "-X", &password])
    };
    let (status, out, error) = login("the-right-one");
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("log in: logged in with SCRAM-SHA-256"), "{out}");
    let (status, out, error) = login("a-wrong-one");
    assert_eq!((status, failed(&out)), (Some(1), vec!["log in"]), "{out}");
    assert!(!out.contains("wrong-one") && !error.contains("wrong-one"), "{out}{error}");
}

#[test]
fn tls_on_one_side_only_is_told_at_its_step() {
    let plain = cluster("orders", 1);
    let (status, out, _) = check(&plain.bootstrap_servers(), &["-X", "security.protocol=SSL"]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["TLS handshake"]), "{out}");
    let encrypted = EmbeddedCluster::builder().tls(EmbeddedTls::new()).start();
    let encrypted = encrypted.expect("brokers start");
    let servers = encrypted.bootstrap_servers();
    let (status, out, error) = check(&servers, &[]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["ask for versions"]), "{out}");
    assert!(error.contains("TLS"), "{error}");
    // With the authority, it tells the certificate.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, encrypted.authority_pem()).expect("it is written");
    let trust = format!("ssl.truststore.location={}", file.display());
    let more = ["-X", "security.protocol=SSL", "-X", "ssl.truststore.type=PEM", "-X", &trust];
    let (status, out, error) = check(&servers, &more);
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("TLS handshake: TLSv1_3 with TLS13_"), "{out}");
    assert!(out.contains("its certificate ends in"), "{out}");
    let (status, out, _) = check(&servers, &["-X", "security.protocol=SSL"]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["TLS handshake"]), "{out}");
}

#[test]
fn a_broker_that_advertises_an_address_of_no_use_is_named() {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("orders", 2).start();
    let cluster = cluster.expect("brokers start");
    let nowhere = closed_port();
    cluster.advertise(2, nowhere.parse().expect("an address"));
    let first = cluster.address(1).to_string();
    let (status, out, error) = check(&first, &[]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["connect"]), "{out}");
    let words = format!("broker 2 advertises {nowhere}, which cannot be connected to");
    assert!(error.contains(&words) && error.contains("advertised.listeners"), "{error}");
}

#[test]
fn a_missing_topic_and_one_without_leader_are_told() {
    let cluster = cluster("orders", 2);
    let servers = cluster.bootstrap_servers();
    let (status, out, error) = check(&servers, &["-t", "order", "--send"]);
    assert_eq!(status, Some(1), "{out}");
    assert!(error.contains("there is no topic order"), "{error}");
    assert!(cluster.set_leaderless("orders", 1));
    let (status, out, error) = check(&servers, &["-t", "orders"]);
    assert_eq!(status, Some(1), "{out}");
    assert!(error.contains("no broker leads partition 1"), "{error}");
}

#[test]
fn old_brokers_are_described_where_the_settings_name_them() {
    let version = tidegate::embedded::KafkaVersion::V0_8_2;
    let cluster = EmbeddedCluster::builder().kafka_version(version).topic("orders", 1).start();
    let cluster = cluster.expect("brokers start");
    let servers = cluster.bootstrap_servers();
    let (status, out, _) = check(&servers, &[]);
    assert_eq!((status, failed(&out)), (Some(1), vec!["ask for versions"]), "{out}");
    let more = ["-X", "broker.version.fallback=0.8.2", "-X", "api.version.request=false"];
    let (status, out, error) = check(&servers, &more);
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("taken for an old broker"), "{out}");
}

#[test]
fn metadata_is_a_table_and_as_json_the_whole_cluster() {
    let cluster =
        EmbeddedCluster::builder().brokers(2).topic("orders", 3).topic("other", 1).start();
    let cluster = cluster.expect("brokers start");
    let servers = cluster.bootstrap_servers();
    let (status, out, error) = told(&run(&["metadata", "-b", &servers], b""));
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("TOPIC") && out.contains(&cluster.address(2).to_string()), "{out}");
    let arguments = ["metadata", "-b", &servers, "--json", "-t", "orders"];
    let (status, out, error) = told(&run(&arguments, b""));
    assert_eq!((status, error.as_str()), (Some(0), ""), "{out}");
    let described: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(described["cluster_id"], "tidegate-embedded");
    assert_eq!(described["brokers"][1]["port"], cluster.address(2).port());
    assert_eq!(described["topics"].as_array().map(Vec::len), Some(1));
    for partition in 0..3 {
        let found = &described["topics"][0]["partitions"][partition as usize];
        assert_eq!(found["partition"], partition);
        assert_eq!(found["leader"], cluster.leader("orders", partition).expect("it has one"));
    }
    let (status, _, error) = told(&run(&["metadata", "-b", &servers, "-t", "absent"], b""));
    assert_eq!(status, Some(1));
    assert!(error.contains("absent"), "{error}");
}
