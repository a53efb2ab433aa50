//! OAUTHBEARER with an identity provider: tokens that are fetched over HTTPS, or read from a file.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate::{Certainty, Oidc, ProblemKind, ProducerConfig, TlsConfig, TokenFile};

use super::token_endpoint::TokenEndpoint;
use super::*;

/// Takes tokens that begin with "open", for so long.
fn guarded(brokers: usize, good_for: Duration) -> EmbeddedCluster {
    let check = move |token: &str| token.starts_with("open").then_some(good_for);
    EmbeddedCluster::builder().brokers(brokers).topic("t", 3).check_tokens(check).start().unwrap()
}

fn login(endpoint: &TokenEndpoint) -> Oidc {
    let tls = TlsConfig::new().truststore_pem(endpoint.ca_pem());
    Oidc::new(endpoint.url(), "shop", "hunter2").tls(tls)
}

fn refused(builder: ProducerBuilder) -> String {
    let producer = builder.request_timeout(secs(1)).delivery_timeout(secs(2)).build().unwrap();
    let error = failed(producer.topic("t").unwrap().send("k", "v").unwrap());
    assert_eq!(error.certainty(), Certainty::NotWritten);
    let told = error.to_string();
    let kind = error.problem().map(|problem| problem.kind());
    assert_eq!(kind, Some(ProblemKind::Authentication), "{told}");
    assert!(!told.contains("hunter2") && !told.contains("aHVudGVyMg"), "a secret is told: {told}");
    told
}

#[test]
fn one_token_serves_all_connections_until_most_of_its_lifetime_has_passed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let endpoint = TokenEndpoint::start(move |question| {
        count.fetch_add(1, Ordering::SeqCst);
        assert!(question.head.starts_with("POST /oauth/token HTTP/1.1\r\n"), "{}", question.head);
        // shop:hunter2
        assert!(question.head.contains("Authorization: Basic c2hvcDpodW50ZXIy\r\n"));
        assert_eq!(question.body, "grant_type=client_credentials&scope=kafka");
        (200, r#"{"access_token": "open-1", "token_type": "Bearer", "expires_in": 3600}"#.into())
    });
    let cluster = guarded(3, FAR);
    let producer = builder(&cluster).sasl(login(&endpoint).scope("kafka")).build().unwrap();
    warm(&producer.topic("t").unwrap(), 3);
    close(&producer);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn c32_another_token_is_fetched_before_the_last_one_ends() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let endpoint = TokenEndpoint::start(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        (200, format!(r#"{{"access_token": "open-{number}", "expires_in": 1}}"#))
    });
    let cluster = guarded(1, secs(1));
    let producer = patient(&cluster).sasl(login(&endpoint)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    eventually("several tokens were fetched, on the same connection", || {
        acked(topic.send("k", "v").unwrap());
        asked.load(Ordering::SeqCst) >= 3
    });
    close(&producer);
}

#[test]
fn what_keeps_a_token_away_is_told_without_a_secret() {
    let cluster = guarded(1, FAR);
    let with = |login: Oidc| builder(&cluster).sasl(login);
    let no = r#"{"error": "invalid_client", "error_description": "no such\r\nclient"}"#;
    let echo = r#"{"error": "shop:hunter2", "error_description": "Basic c2hvcDpodW50ZXIy"}"#;
    for (status, body, words) in [
        (401, no, ["status 401", "invalid_client: no such"]),
        (400, echo, ["repeats the question", "status 400"]),
        (503, "<html>hunter2</html>", ["status 503", "token endpoint localhost"]),
        (200, "open-sesame", ["no JSON object", "token endpoint"]),
        (200, r#"{"token": "open"}"#, ["no access_token", "token endpoint"]),
        (200, r#"{"access_token": "closed"}"#, ["invalid_token", "issuer"]),
    ] {
        let endpoint = TokenEndpoint::start(move |_| (status, body.to_owned()));
        let told = refused(with(login(&endpoint)));
        for word in words {
            assert!(told.contains(word), "{word:?} is not in {told:?}");
        }
    }
    let endpoint = TokenEndpoint::start(|_| (200, r#"{"access_token": "open"}"#.to_owned()));
    // The system trusts another authority.
    let told = refused(with(Oidc::new(endpoint.url(), "shop", "hunter2")));
    assert!(told.contains("not trusted") && told.contains("https.ca.location"), "{told}");
    let other = endpoint.url().replace("localhost", "127.0.0.1");
    let tls = TlsConfig::new().truststore_pem(endpoint.ca_pem());
    let told = refused(with(Oidc::new(other, "shop", "hunter2").tls(tls)));
    assert!(told.contains("127.0.0.1") && told.contains("localhost"), "{told}");
    let url = endpoint.url();
    drop(endpoint);
    let told = refused(with(Oidc::new(url, "shop", "hunter2")));
    assert!(told.contains("cannot connect"), "{told}");
}

#[test]
fn properties_of_java_and_of_librdkafka_say_where_tokens_come_from() {
    let endpoint = TokenEndpoint::start(|question| {
        assert!(question.head.contains("Basic c2hvcDpodW50ZXIy"), "{}", question.head);
        assert!(question.body.ends_with("&scope=kafka"), "{}", question.body);
        (200, r#"{"access_token": "open", "expires_in": 3600}"#.to_owned())
    });
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, endpoint.ca_pem()).unwrap();
    let cluster = guarded(1, FAR);
    let jaas = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                clientId='shop' clientSecret='hunter2' scope='kafka' extension_pool='p';";
    let handler = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler";
    let java: &[(&str, &str)] =
        &[("sasl.jaas.config", jaas), ("sasl.login.callback.handler.class", handler)];
    let kafka_4_1: &[(&str, &str)] = &[
        ("sasl.oauthbearer.client.credentials.client.id", "shop"),
        ("sasl.oauthbearer.client.credentials.client.secret", "hunter2"),
        ("sasl.oauthbearer.scope", "kafka"),
        ("sasl.login.read.timeout.ms", "5000"),
    ];
    let librdkafka: &[(&str, &str)] = &[
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.client.id", "shop"),
        ("sasl.oauthbearer.client.secret", "hunter2"),
        ("sasl.oauthbearer.scope", "kafka"),
        ("sasl.oauthbearer.extensions", "pool=p, cluster=c"),
    ];
    for own in [java, kafka_4_1, librdkafka] {
        let (url, ca) = (endpoint.url(), ca.to_str().unwrap().to_owned());
        let mut all = BTreeMap::from([
            ("bootstrap.servers", cluster.bootstrap_servers()),
            ("security.protocol", "SASL_PLAINTEXT".to_owned()),
            ("sasl.mechanism", "OAUTHBEARER".to_owned()),
            ("sasl.oauthbearer.token.endpoint.url", url),
            ("https.ca.location", ca),
        ]);
        all.extend(own.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let config = ProducerConfig::from_properties(all).unwrap();
        let producer = ProducerBuilder::from_config(config).build().unwrap();
        warm(&producer.topic("t").unwrap(), 3);
        close(&producer);
    }
}

#[test]
fn a_token_in_a_file_is_read_for_the_next_login() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "closed\n").unwrap();
    let cluster = guarded(1, FAR);
    assert!(refused(builder(&cluster).sasl(TokenFile::new(&path))).contains("invalid_token"));
    let producer = patient(&cluster).sasl(TokenFile::new(&path)).build().unwrap();
    let delivery = producer.topic("t").unwrap().send("k", "v").unwrap();
    std::fs::write(&path, "open\n").unwrap();
    acked(delivery);
    close(&producer);
}
