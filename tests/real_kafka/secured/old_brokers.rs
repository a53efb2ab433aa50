//! Logins and TLS at brokers of the ZooKeeper era.

use std::fs;
use std::time::Duration;

use tidegate::{Plain, ProblemKind, Producer, ProducerBuilder, Scram, TlsConfig};

use super::certificates::Authority;
use super::refusals::{Case, judge_patiently};
use super::stage::{
    LOCAL_NAMES, PASSWORD, PLAIN, SASL, SASL_TLS, SCRAM_256, SCRAM_512, TLS, USER, login,
    login_module, takes_logins, text, write,
};
use super::ways;
use crate::extent;
use crate::kafka::{Cluster, ClusterConfig, Kafka, V0_11, V2_0};

const KEY_STORE_PASSWORD: &str = "changeit";
const MECHANISMS: [&str; 3] = [PLAIN, SCRAM_256, SCRAM_512];

/// Kafka 0.11 takes bare tokens after its handshake, and refuses without a word.
pub fn before_1_0_take_logins(kafka: &Kafka) {
    let folder = tempfile::tempdir().expect("a folder");
    let jaas = folder.path().join("jaas.conf");
    // These brokers have one context for all listeners.
    let modules: String = [PLAIN, SCRAM_256].map(login_module).join("\n");
    write(&jaas, &format!("KafkaServer {{\n{modules}\n}};\n"));
    let config = ClusterConfig::single()
        .release(&V0_11)
        .listener(SASL, "SASL_PLAINTEXT")
        .scram_user(SCRAM_256, USER, PASSWORD)
        .scram_user(SCRAM_512, USER, PASSWORD)
        .property("sasl.enabled.mechanisms", &MECHANISMS.join(","))
        .java_option(format!("-Djava.security.auth.login.config={}", text(&jaas)));
    let cluster = kafka.start(&config);
    let way = |mechanism: &str| {
        let builder = to(&cluster, SASL).sasl(log_in(mechanism));
        (mechanism.to_owned(), builder)
    };
    ways::carry(&cluster, MECHANISMS.map(way).into(), records());
    let words = &["wrong credentials?"];
    let wrong = to(&cluster, SASL).sasl(Plain::new(USER, "wrong-secret"));
    assert_refused("0.11, wrong password with PLAIN", wrong, words);
    let wrong = to(&cluster, SASL).sasl(Scram::sha_256(USER, "wrong-secret"));
    assert_refused("0.11, wrong password with SCRAM", wrong, words);
}

/// Kafka 2.0 has sessions without end, no TLS 1.3, and key stores of Java's only.
pub fn before_2_2_take_logins_and_tls(kafka: &Kafka) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let key_store = folder.path().join("broker.p12");
    let identity = authority.broker(&LOCAL_NAMES);
    let bytes = authority.key_store_pkcs12(&identity, KEY_STORE_PASSWORD);
    fs::write(&key_store, bytes).expect("the folder takes files");
    let config = ClusterConfig::single()
        .release(&V2_0)
        .listener(SASL, "SASL_PLAINTEXT")
        .listener(SASL_TLS, "SASL_SSL")
        .listener(TLS, "SSL")
        .scram_user(SCRAM_256, USER, PASSWORD)
        .scram_user(SCRAM_512, USER, PASSWORD)
        .property("ssl.keystore.type", "PKCS12")
        .property("ssl.keystore.location", &text(&key_store))
        .property("ssl.keystore.password", KEY_STORE_PASSWORD)
        .property("ssl.key.password", KEY_STORE_PASSWORD);
    let config = takes_logins(config, SASL, &MECHANISMS);
    let cluster = kafka.start(&takes_logins(config, SASL_TLS, &MECHANISMS));
    let tls = || TlsConfig::new().truststore_pem(authority.pem());
    let mut ways = vec![(TLS.to_owned(), to(&cluster, TLS).tls(tls()))];
    for mechanism in MECHANISMS {
        let way = |listener| format!("{mechanism} at {listener}");
        ways.push((way(SASL), to(&cluster, SASL).sasl(log_in(mechanism))));
        let builder = to(&cluster, SASL_TLS).tls(tls());
        ways.push((way(SASL_TLS), builder.sasl(log_in(mechanism))));
    }
    ways::carry(&cluster, ways, records());
    let wrong = to(&cluster, SASL_TLS).tls(tls()).sasl(Plain::new(USER, "wrong-secret"));
    assert_refused("2.0, wrong password", wrong, &["the broker refused the login (PLAIN)"]);
}

fn assert_refused(what: &'static str, builder: ProducerBuilder, words: &'static [&'static str]) {
    let case = Case { what, builder, kind: ProblemKind::Authentication, words };
    let problems = judge_patiently(case, "any");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn records() -> u64 {
    extent::pick(2_000, 100_000)
}

fn to(cluster: &Cluster, listener: &str) -> ProducerBuilder {
    Producer::builder(&cluster.listener_address(listener).to_string())
}

fn log_in(mechanism: &str) -> std::sync::Arc<dyn tidegate::SaslMechanism> {
    // None of them has tokens.
    login(mechanism, Duration::ZERO)
}
