//! Tests of the properties of TLS.

use proptest::prelude::*;

use super::super::ProducerConfig;
use crate::error::BuildError;

fn read(text: &str) -> Result<ProducerConfig, BuildError> {
    ProducerConfig::from_properties_text(text)
}

fn tls(text: &str) -> String {
    let config = read(&format!("security.protocol=SSL\n{text}")).expect("the properties are good");
    format!("{:?}", config.tls.expect("TLS is asked for"))
}

fn refused(text: &str) -> String {
    read(text).expect_err("they cannot be used").to_string()
}

#[test]
fn ssl_alone_trusts_this_machines_authorities_and_plaintext_is_no_tls() {
    let debug = tls("");
    assert!(debug.contains("truststore: None") && debug.contains("keystore: None"), "{debug}");
    assert!(debug.contains("verify_host_name: true"), "{debug}");
    assert!(debug.contains("[Tls12, Tls13]"), "{debug}");
    for text in ["", "security.protocol=plaintext"] {
        assert!(read(text).expect("good").tls.is_none());
    }
    assert!(read("security.protocol=ssl").expect("any case will do").tls.is_some());
}

#[test]
fn a_file_in_kafkas_names_sets_tls_up() {
    let debug = tls("ssl.truststore.location=/t.p12\nssl.truststore.type=PKCS12\n\
         ssl.truststore.password=hunter1\nssl.keystore.location=/k.jks\nssl.keystore.type=JKS\n\
         ssl.keystore.password=hunter2\nssl.key.password=hunter3\n\
         ssl.endpoint.identification.algorithm=\nssl.protocol=TLSv1.3\n\
         ssl.enabled.protocols=TLSv1.3\nssl.keymanager.algorithm=SunX509\nssl.provider=\n\
         ssl.trustmanager.algorithm=PKIX\nssl.cipher.suites=TLS_AES_128_GCM_SHA256,RC4-SHA\n");
    for part in [
        "truststore: \"/t.p12\"",
        "keystore: Some(\"/k.jks\")",
        "verify_host_name: false",
        "protocols: [Tls13]",
        "cipher_suites: Some([\"TLS_AES_128_GCM_SHA256\", \"RC4-SHA\"])",
    ] {
        assert!(debug.contains(part), "{part}: {debug}");
    }
    assert!(!debug.contains("hunter"), "{debug}");
    let text = "ssl.keystore.key=KEY\nssl.keystore.certificate.chain=C\nssl.keystore.type=PEM\n\
                ssl.truststore.certificates=T\nssl.endpoint.identification.algorithm=HTTPS\n";
    let debug = tls(text);
    for part in ["truststore: (PEM text)", "key: (PEM text)", "certificates: (PEM text)"] {
        assert!(debug.contains(part), "{part}: {debug}");
    }
    assert!(debug.contains("verify_host_name: true"), "{debug}");
}

#[test]
fn librdkafkas_names_set_the_same() {
    let debug = tls("ssl.ca.location=/ca.pem\nssl.certificate.location=/c.pem\n\
         ssl.key.location=/k.pem\nenable.ssl.certificate.verification=false\n\
         ssl.endpoint.identification.algorithm=none\n\
         ssl.cipher.suites=ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384\n");
    for part in [
        "truststore: \"/ca.pem\"",
        "certificates: \"/c.pem\"",
        "key: \"/k.pem\"",
        "verify_certificates: false",
        "verify_host_name: false",
        "[\"ECDHE-RSA-AES128-GCM-SHA256\", \"ECDHE-RSA-AES256-GCM-SHA384\"]",
    ] {
        assert!(debug.contains(part), "{part}: {debug}");
    }
    let debug = tls("ssl.ca.pem=T\nssl.certificate.pem=C\nssl.key.pem=K\n");
    assert_eq!(debug.matches("(PEM text)").count(), 3, "{debug}");
}

#[test]
fn tls_that_is_set_up_and_not_turned_on_is_refused() {
    for text in [
        "ssl.truststore.location=/ca.pem",
        "ssl.key.password=hunter2",
        "ssl.endpoint.identification.algorithm=",
        "enable.ssl.certificate.verification=true",
    ] {
        let words = refused(text);
        let name = text.split('=').next().unwrap_or_default();
        assert!(
            words.contains(name) && words.contains("security.protocol to SSL or SASL_SSL"),
            "{words}"
        );
        assert!(words.contains("unencrypted") && !words.contains("hunter"), "{words}");
        let explicit = format!("{text}\nsecurity.protocol=PLAINTEXT");
        assert!(read(&explicit).expect("that is what was asked for").tls.is_none());
    }
    // What says nothing, as templates have it, asks for nothing.
    let empty = "ssl.truststore.location=\nssl.keystore.type=JKS\nssl.provider=\nssl.key.password=";
    assert!(read(empty).expect("nothing is asked for").tls.is_none());
}

#[test]
fn older_versions_are_dropped_beside_newer_ones_and_refused_alone() {
    assert!(tls("ssl.enabled.protocols=TLSv1.2,TLSv1.3,TLSv1.1").contains("[Tls12, Tls13]"));
    assert!(tls("ssl.enabled.protocols=SSLv3, tlsv1.2").contains("[Tls12]"));
    for (text, part) in [
        ("ssl.enabled.protocols=TLSv1,TLSv1.1", "broken"),
        ("ssl.enabled.protocols=", "name TLSv1.2"),
        ("ssl.enabled.protocols=TLSv1.2,TLSv1.4", "TLSv1.4 is no version"),
        ("ssl.protocol=TLSv1.1", "TLS 1.2 and 1.3"),
    ] {
        let words = refused(text);
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn what_names_java_classes_is_refused_unless_it_says_nothing() {
    for name in [
        "ssl.provider",
        "ssl.keymanager.algorithm",
        "ssl.trustmanager.algorithm",
        "ssl.secure.random.implementation",
        "ssl.engine.factory.class",
    ] {
        let words = refused(&format!("{name}=org.example.Mine"));
        assert!(words.contains(name) && words.contains("Java"), "{words}");
        assert!(read(&format!("{name}=")).is_ok(), "{name}");
    }
}

#[test]
fn bad_values_are_refused_with_what_they_may_be() {
    for (text, part) in [
        ("security.protocol=TLS", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
        ("ssl.truststore.type=BKS", "PEM, PKCS12 or JKS"),
        ("ssl.endpoint.identification.algorithm=ldaps", "https, or empty"),
        ("enable.ssl.certificate.verification=maybe", "true or false"),
        ("ssl.truststore.locaton=/x", "did you mean \"ssl.truststore.location\"?"),
    ] {
        let words = refused(text);
        assert!(words.contains(part), "{words}");
    }
}

#[test]
#[cfg(feature = "tls")]
fn the_same_thing_given_twice_is_refused_when_the_producer_is_built() {
    let start = "bootstrap.servers=SSL://a:1\nsecurity.protocol=SSL\n";
    let both = "ssl.truststore.location=/x\nssl.truststore.certificates=y\n";
    let config = read(&format!("{start}{both}")).expect("it can be read");
    let words = config.validate().expect_err("which one?").to_string();
    assert!(words.contains("ssl.truststore.certificates") && words.contains("twice"), "{words}");
    assert_eq!(read(start).map(|config| config.validate()), Ok(Ok(())));
}

proptest! {
    /// Neither a value nor its neighbours show in an error: a password may stand at any of them.
    #[test]
    fn no_password_is_in_an_error(
        name in prop::sample::select(vec!["ssl.key.password", "ssl.keystore.password",
            "ssl.truststore.password", "ssl.keystore.key", "ssl.key.pem", "ssl.key.passwrd"]),
        secret in "[a-z]{24}",
        protocol in prop::sample::select(vec!["", "SSL", "PLAINTEXT", "SASL_SSL", "TLS"]),
    ) {
        let pairs = [(name, secret.as_str()), ("security.protocol", protocol)];
        let result = ProducerConfig::from_properties(pairs);
        let words = match &result {
            Ok(config) => format!("{config:?} {:?}", config.validate()),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!words.contains(&secret), "{words}");
    }
}
