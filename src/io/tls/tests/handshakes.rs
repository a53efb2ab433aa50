//! Connections that come about, and those that must not.

use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion};

use super::super::TlsClient;
use super::certificates::{Authority, Issued};
use super::pair::{Server, connect};
use crate::config::{TlsConfig, TlsVersion};
use crate::problem::{Problem, ProblemKind};

fn client(config: TlsConfig) -> Arc<TlsClient> {
    TlsClient::new(&config).expect("the configuration is good")
}

fn trusting(authority: &Authority) -> TlsConfig {
    TlsConfig::new().truststore_pem(authority.pem())
}

/// The problem that a connection to `host` has.
fn problem(config: TlsConfig, host: &str, server: &Server<'_>) -> String {
    let result = connect(&client(config), host, &server.start());
    let problem = result.err().expect("the connection must not come about");
    assert_eq!(problem.kind(), ProblemKind::Tls, "{problem}");
    problem.to_string()
}

#[test]
fn a_broker_is_known_by_its_names_and_addresses() {
    let authority = Authority::new("Kafka CA");
    let broker =
        authority.issue("broker", &["broker-1.example.org", "*.pool.org", "10.0.0.7", "::1"]);
    let server = Server::with(&broker).start();
    let tls = client(trusting(&authority));
    for (host, sni) in [
        ("broker-1.example.org", Some("broker-1.example.org")),
        ("broker-1.example.org.", Some("broker-1.example.org")),
        ("BROKER-1.example.org", Some("broker-1.example.org")),
        ("a.pool.org", Some("a.pool.org")),
        ("10.0.0.7", None),
        ("::1", None),
        ("::1%eth0", None),
    ] {
        let pair = connect(&tls, host, &server).expect(host);
        assert_eq!(pair.server.server_name(), sni, "{host}");
    }
    let config = trusting(&authority);
    let text = problem(config, "10.0.0.8", &Server::with(&broker));
    assert!(text.contains("not for \"10.0.0.8\"") && text.contains("10.0.0.7"), "{text}");
}

#[test]
fn a_host_that_no_certificate_can_be_for_is_said() {
    let authority = Authority::new("Kafka CA");
    let tls = client(trusting(&authority));
    for host in ["käfka", "", "a b", "-"] {
        let problem = tls.connect(host).expect_err("no certificate can be for it");
        assert_eq!(problem.kind(), ProblemKind::Tls);
        assert!(problem.to_string().contains("no certificate can be for"), "{problem}");
    }
}

#[test]
fn a_stranger_is_refused_with_the_setting_that_names_its_authority() {
    let (ours, theirs) = (Authority::new("Kafka CA"), Authority::new("Other CA"));
    let broker = theirs.issue("broker", &["kafka"]);
    let text = problem(trusting(&ours), "kafka", &Server::with(&broker));
    assert!(text.contains("CN=Other CA") && text.contains("ssl.truststore.location"), "{text}");
    let broker = Issued::by_itself("lonely", &["kafka"]);
    let text = problem(trusting(&ours), "kafka", &Server::with(&broker));
    assert!(text.contains("signed by itself (CN=lonely)"), "{text}");
    // As development clusters have it: the broker's own certificate is the one that is trusted.
    let config = TlsConfig::new().truststore_pem(broker.chain_pem());
    connect(&client(config), "kafka", &Server::with(&broker).start()).expect("it is trusted");
}

#[test]
fn a_wrong_host_name_is_refused_unless_names_are_not_verified() {
    let authority = Authority::new("Kafka CA");
    let broker = authority.issue("broker", &["kafka-1", "kafka-2"]);
    let server = Server::with(&broker);
    let text = problem(trusting(&authority), "kafka-3", &server);
    assert!(text.contains("not for \"kafka-3\": it is for kafka-1, kafka-2;"), "{text}");
    assert!(text.contains("ssl.endpoint.identification.algorithm"), "{text}");
    let nameless = authority.issue("kafka-3", &[]);
    let text = problem(trusting(&authority), "kafka-3", &Server::with(&nameless));
    assert!(text.contains("no subjectAltName"), "{text}");
    let config = trusting(&authority).verify_host_name(false);
    connect(&client(config.clone()), "kafka-3", &server.start()).expect("names do not matter");
    // The chain does.
    let stranger = Authority::new("Other CA").issue("broker", &["kafka-3"]);
    let text = problem(config, "kafka-3", &Server::with(&stranger));
    assert!(text.contains("CN=Other CA"), "{text}");
}

#[test]
fn any_broker_will_do_where_certificates_are_not_verified() {
    let broker = Issued::by_itself("anyone", &[]);
    for versions in [[TlsVersion::Tls12], [TlsVersion::Tls13]] {
        let config = TlsConfig::new().verify_certificates(false).protocols(&versions);
        connect(&client(config), "kafka", &Server::with(&broker).start()).expect("it will do");
    }
}

#[test]
fn dates_and_this_machines_clock_are_told() {
    let authority = Authority::new("Kafka CA");
    let old = authority.issue_with("broker", &["kafka"], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 2, 28);
        params.not_after = rcgen::date_time_ymd(2020, 2, 29);
    });
    let text = problem(trusting(&authority), "kafka", &Server::with(&old));
    assert!(text.contains("valid until 2020-02-29 00:00:00 UTC"), "{text}");
    assert!(text.contains("this machine's clock says 20"), "{text}");
    let new = authority.issue_with("broker", &["kafka"], |params| {
        params.not_before = rcgen::date_time_ymd(2999, 12, 31);
        params.not_after = rcgen::date_time_ymd(3000, 12, 31);
    });
    let text = problem(trusting(&authority), "kafka", &Server::with(&new));
    assert!(text.contains("it will be from 2999-12-31 00:00:00 UTC"), "{text}");
}

#[test]
fn a_certificate_for_something_else_is_refused() {
    let authority = Authority::new("Kafka CA");
    let client_only = authority.issue_with("broker", &["kafka"], |params| {
        params.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::ClientAuth);
    });
    let text = problem(trusting(&authority), "kafka", &Server::with(&client_only));
    assert!(text.contains("serverAuth"), "{text}");
    let is_ca = authority.issue_with("broker", &["kafka"], |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let text = problem(trusting(&authority), "kafka", &Server::with(&is_ca));
    assert!(text.contains("CA:TRUE"), "{text}");
}

#[test]
fn a_certificate_of_the_first_version_is_refused_with_what_makes_a_better_one() {
    let pem = include_str!("../../../../tests/fixtures/tls/version-1.pem");
    let key = include_str!("../../../../tests/fixtures/tls/client-key.pem");
    let provider = super::super::provider::provider(&TlsConfig::new()).expect("there is one");
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("both versions")
        .with_no_client_auth();
    let key = super::super::pem::private_key(key, None).expect("a good key");
    let key = provider.key_provider.load_private_key(key).expect("a good key");
    let chain = super::super::pem::certificates(pem).expect("a certificate");
    let certified = rustls::sign::CertifiedKey::new(chain, key);
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    let server = Arc::new(server.with_cert_resolver(Arc::new(resolver)));
    let tls = client(trusting(&Authority::new("Kafka CA")));
    let problem = connect(&tls, "kafka", &server).err().expect("it names no host");
    assert!(problem.to_string().contains("X.509 version 1"), "{problem}");
    assert!(problem.to_string().contains("-extfile"), "{problem}");
}

#[test]
fn a_client_shows_its_certificate_to_a_broker_that_asks() {
    let (brokers, clients) = (Authority::new("Broker CA"), Authority::new("Client CA"));
    let broker = brokers.issue("broker", &["kafka"]);
    let user = clients.issue("orders", &[]);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let server = Server { clients: Some(&clients), versions, ..Server::with(&broker) };
        let config = trusting(&brokers).keystore_pem(user.key_pem(), user.chain_pem());
        let tls = client(config);
        assert!(tls.has_certificate());
        let pair = connect(&tls, "kafka", &server.start()).expect("it is known");
        assert_eq!(pair.server.peer_certificates(), Some(&user.chain()[..]));
    }
}

#[test]
fn a_broker_that_refuses_this_client_is_named_as_the_one_that_refuses() {
    let (brokers, clients) = (Authority::new("Broker CA"), Authority::new("Client CA"));
    let broker = brokers.issue("broker", &["kafka"]);
    let foreign = Authority::new("Other CA").issue("orders", &[]);
    let expired = clients.issue_with("orders", &[], |params| {
        params.not_after = rcgen::date_time_ymd(2020, 2, 29);
    });
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let server = Server { clients: Some(&clients), versions, ..Server::with(&broker) };
        let text = problem(trusting(&brokers), "kafka", &server);
        assert!(text.contains("set ssl.keystore.location"), "{text}");
        for (user, part) in [(&foreign, "ssl.truststore.location"), (&expired, "expired")] {
            let config = trusting(&brokers).keystore_pem(user.key_pem(), user.chain_pem());
            let text = problem(config, "kafka", &server);
            assert!(text.contains("broker refused this client's certificate"), "{text}");
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn versions_and_suites_without_an_overlap_are_told_with_their_settings() {
    let authority = Authority::new("Kafka CA");
    let broker = authority.issue("broker", &["kafka"]);
    let versions = &[&rustls::version::TLS12][..];
    let old = Server { versions, ..Server::with(&broker) };
    let config = trusting(&authority).protocols(&[TlsVersion::Tls13]);
    let text = problem(config, "kafka", &old);
    assert!(text.contains("ssl.enabled.protocols"), "{text}");
    let suites = &["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"][..];
    let narrow = Server { versions, suites, ..Server::with(&broker) };
    let config = trusting(&authority).cipher_suites(["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
    let text = problem(config, "kafka", &narrow);
    assert!(text.contains("ssl.cipher.suites"), "{text}");
    let config = trusting(&authority).protocols(&[TlsVersion::Tls12]);
    let pair = connect(&client(config), "kafka", &narrow.start()).expect("they overlap");
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
}

#[test]
fn sessions_are_resumed_from_one_connection_to_the_next() {
    let authority = Authority::new("Kafka CA");
    let broker = authority.issue("broker", &["kafka"]);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let server = Server { versions, ..Server::with(&broker) }.start();
        let tls = client(trusting(&authority));
        let first = connect(&tls, "kafka", &server).expect("a connection");
        assert_eq!(first.client.handshake_kind(), Some(HandshakeKind::Full));
        for _ in 0..3 {
            let next = connect(&tls, "kafka", &server).expect("a connection");
            assert_eq!(next.client.handshake_kind(), Some(HandshakeKind::Resumed));
        }
    }
}

#[test]
fn a_configuration_of_rustls_is_used_as_it_is() {
    let authority = Authority::new("Kafka CA");
    let broker = authority.issue("broker", &["kafka"]);
    let provider = super::super::provider::provider(&TlsConfig::new()).expect("there is one");
    let given = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("both versions");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).expect("a certificate");
    let given = Arc::new(given.with_root_certificates(roots).with_no_client_auth());
    let tls = client(TlsConfig::new().client_config(given.clone()));
    let server = Server::with(&broker);
    connect(&tls, "kafka", &server.start()).expect("it trusts the authority");
    // Its own verifier does not tell who issued: the words do without.
    let stranger = Authority::new("Other CA").issue("broker", &["kafka"]);
    let result = connect(&tls, "kafka", &Server::with(&stranger).start());
    let text = result.err().as_ref().map(Problem::to_string).unwrap_or_default();
    assert!(text.contains("authority that is not trusted"), "{text}");
    let mixed = TlsConfig::new().client_config(given).verify_host_name(false);
    let error = TlsClient::new(&mixed).expect_err("they contradict each other").to_string();
    assert!(error.contains("client_config"), "{error}");
}

#[test]
fn the_machines_own_authorities_do_not_know_a_private_one() {
    let broker = Authority::new("Kafka CA").issue("broker", &["kafka"]);
    match TlsClient::new(&TlsConfig::new()) {
        Ok(tls) => {
            let result = connect(&tls, "kafka", &Server::with(&broker).start());
            let problem = result.err().expect("the authority is not trusted");
            assert!(problem.to_string().contains("CN=Kafka CA"), "{problem}");
        }
        // A bare machine has none.
        Err(error) => assert!(error.to_string().contains("ca-certificates"), "{error}"),
    }
}
