//! Logins and TLS at brokers of the ZooKeeper era.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tidegate::{BrokerVersion, Plain, ProblemKind, Producer, ProducerBuilder, Scram, TlsConfig};

use super::certificates::Authority;
use super::refusals::{Case, judge_patiently};
use super::stage::{
    LOCAL_NAMES, PASSWORD, PLAIN, SASL, SASL_TLS, SCRAM_256, SCRAM_512, TLS, USER, login,
    login_module, takes_logins, text, write,
};
use super::ways;
use crate::extent;
use crate::kafka::{Cluster, ClusterConfig, Kafka, Release, V0_9, V0_10, V0_11, V1_1, V2_0, V2_8};

const KEY_STORE_PASSWORD: &str = "changeit";
const MECHANISMS: [&str; 3] = [PLAIN, SCRAM_256, SCRAM_512];

/// A protocol's name, which is all that listeners have for a name before 0.10.2.
const SSL: &str = "SSL";

pub fn kafka_0_10_takes_logins(kafka: &Kafka) {
    take_bare_tokens(kafka, &V0_10);
}

pub fn kafka_0_11_takes_logins(kafka: &Kafka) {
    take_bare_tokens(kafka, &V0_11);
}

/// Brokers before 1.0 take bare tokens after their handshake, and refuse without a word.
fn take_bare_tokens(kafka: &Kafka, release: &'static Release) {
    let folder = tempfile::tempdir().expect("a folder");
    let jaas = folder.path().join("jaas.conf");
    // These brokers have one context for all listeners.
    let modules: String = [PLAIN, SCRAM_256].map(login_module).join("\n");
    write(&jaas, &format!("KafkaServer {{\n{modules}\n}};\n"));
    let config = ClusterConfig::single()
        .release(release)
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
    assert_refused("bare tokens, wrong password with PLAIN", wrong, words);
    let wrong = to(&cluster, SASL).sasl(Scram::sha_256(USER, "wrong-secret"));
    assert_refused("bare tokens, wrong password with SCRAM", wrong, words);
}

/// Kafka 0.9 takes TLS, and no login that this client has.
pub fn kafka_0_9_takes_tls(kafka: &Kafka) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let config = ClusterConfig::single().release(&V0_9).listener(SSL, "SSL");
    let cluster = kafka.start(&shows_certificate(config, &authority, folder.path()));
    let way = |asks| {
        let tls = TlsConfig::new().truststore_pem(authority.pem());
        let builder = to(&cluster, SSL).tls(tls).broker_version_fallback(BrokerVersion::V0_9);
        (format!("TLS, asked: {asks}"), builder.api_version_request(asks))
    };
    ways::carry(&cluster, vec![way(false), way(true)], records());
}

/// Kafka 1.1 has sessions without end, no TLS 1.3, and key stores of Java's only.
pub fn kafka_1_1_takes_logins_and_tls(kafka: &Kafka) {
    take_logins_and_tls(kafka, &V1_1);
}

/// Kafka 2.0 as 1.1.
pub fn kafka_2_0_takes_logins_and_tls(kafka: &Kafka) {
    take_logins_and_tls(kafka, &V2_0);
}

/// Kafka 2.8 has TLS 1.3.
pub fn kafka_2_8_takes_logins_and_tls(kafka: &Kafka) {
    take_logins_and_tls(kafka, &V2_8);
}

fn take_logins_and_tls(kafka: &Kafka, release: &'static Release) {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let config = ClusterConfig::single()
        .release(release)
        .listener(SASL, "SASL_PLAINTEXT")
        .listener(SASL_TLS, "SASL_SSL")
        .listener(TLS, "SSL")
        .scram_user(SCRAM_256, USER, PASSWORD)
        .scram_user(SCRAM_512, USER, PASSWORD);
    let config = shows_certificate(config, &authority, folder.path());
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
    assert_refused("wrong password", wrong, &["the broker refused the login (PLAIN)"]);
}

/// Has a broker show a certificate, from a key store that lies in the folder.
fn shows_certificate(config: ClusterConfig, authority: &Authority, folder: &Path) -> ClusterConfig {
    let key_store = folder.join("broker.p12");
    let identity = authority.broker(&LOCAL_NAMES);
    let bytes = authority.key_store_pkcs12(&identity, KEY_STORE_PASSWORD);
    fs::write(&key_store, bytes).expect("the folder takes files");
    config
        .property("ssl.keystore.type", "PKCS12")
        .property("ssl.keystore.location", &text(&key_store))
        .property("ssl.keystore.password", KEY_STORE_PASSWORD)
        .property("ssl.key.password", KEY_STORE_PASSWORD)
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
