//! Tests of the properties of logins.

use proptest::prelude::*;

use super::super::{ProducerConfig, security::SecurityProtocol};
use crate::error::BuildError;

const JAAS: &str = "sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule \\\n  \
                    required username=\"alice\" password=\"hunter2\";\n";

fn read(text: &str) -> Result<ProducerConfig, BuildError> {
    ProducerConfig::from_properties_text(&format!("bootstrap.servers=a:1\n{text}"))
}

/// The mechanism that a configuration comes to, which must be good.
fn mechanism(text: &str) -> Option<String> {
    let config = read(text).expect("the properties are good");
    config.validate().expect("the configuration is good");
    config.sasl.map(|login| login.mechanism_name().to_owned())
}

fn refused(text: &str) -> String {
    let built = read(text).and_then(|config| config.validate().map(|()| config));
    let error = built.map(|_| ()).expect_err("they cannot be used").to_string();
    assert!(!error.contains("hunter"), "a secret is told: {error}");
    error
}

#[test]
fn a_file_as_java_programs_have_it_logs_in() {
    let text = format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n{JAAS}");
    assert_eq!(mechanism(&text).as_deref(), Some("SCRAM-SHA-512"));
    let config = read(&text).expect("the properties are good");
    assert_eq!(config.security_protocol, Some(SecurityProtocol::SaslPlaintext));
    assert!(config.tls.is_none());
    let shown = format!("{config:?}");
    assert!(shown.contains("SCRAM-SHA-512") && !shown.contains("hunter"), "{shown}");
}

#[test]
fn a_file_as_librdkafkas_users_have_it_logs_in() {
    for name in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let text = format!(
            "security.protocol=sasl_plaintext\nsasl.mechanisms={name}\nsasl.username=alice\n\
             sasl.password=hunter2\n"
        );
        assert_eq!(mechanism(&text).as_deref(), Some(name));
    }
}

#[cfg(feature = "tls")]
#[test]
fn sasl_ssl_is_both() {
    let text = format!("{JAAS}sasl.mechanism=SCRAM-SHA-256\nsecurity.protocol=SASL_SSL\n");
    assert_eq!(mechanism(&text).as_deref(), Some("SCRAM-SHA-256"));
    assert!(read(&text).expect("the properties are good").tls.is_some());
}

#[test]
fn a_login_that_is_not_turned_on_is_an_error_unless_plaintext_is_asked_for() {
    let login = format!("sasl.mechanism=SCRAM-SHA-256\n{JAAS}");
    let words = refused(&login);
    assert!(words.contains("security.protocol to SASL_SSL or SASL_PLAINTEXT"), "{words}");
    assert_eq!(mechanism(&format!("security.protocol=PLAINTEXT\n{login}")), None);
}

#[test]
fn what_is_missing_is_named() {
    let on = "security.protocol=SASL_PLAINTEXT\n";
    for (text, parts) in [
        ("", ["security.protocol = SASL_PLAINTEXT", "sasl.mechanism"]),
        ("sasl.username=a\nsasl.password=hunter2", ["sasl.mechanism is not given", "PLAIN"]),
        ("sasl.mechanism=PLAIN", ["sasl.jaas.config", "sasl.username"]),
        ("sasl.mechanism=PLAIN\nsasl.username=a", ["sasl.username", "sasl.password"]),
        ("sasl.mechanism=GSSAPI\nsasl.username=a", ["GSSAPI", "SCRAM-SHA-256"]),
        ("sasl.mechanism=OAUTHBEARER", ["needs a login", "ProducerConfig::sasl"]),
        ("sasl.mechanism=PLAIN\nsasl.jaas.config=a hunter2 b;", ["sasl.jaas.config", "flag"]),
        ("sasl.mechanism=PLAIN\nsasl.login.class=org.X", ["Java classes", "in code"]),
        ("sasl.kerberos.service.name=kafka", ["Kerberos", "sasl.kerberos"]),
        ("sasl.oauthbearer.jwks.endpoint.url=x", ["a broker's", "jwks"]),
        ("sasl.oauthbearer.grant.type=jwt_bearer", ["client_credentials", "in code"]),
        ("sasl.oauthbearer.extensions=a", ["key=value", "commas"]),
        ("sasl.oauthbearer.jwt.retriever.class=org.X", ["Java classes", "in code"]),
        ("sasl.mechanism=PLAIN\nsasl.login.callback.handler.class=x", ["Java classes", "in code"]),
    ] {
        let words = refused(&format!("{on}{text}"));
        for part in parts {
            assert!(words.contains(part), "{part:?} is not in {words:?}");
        }
    }
    let both = format!("{on}sasl.mechanism=SCRAM-SHA-256\n{JAAS}sasl.username=alice\n");
    assert!(refused(&both).contains("leave one of them out"));
}

#[test]
fn the_protocol_holds_what_code_sets() {
    let mut config = read("security.protocol=PLAINTEXT").expect("the properties are good");
    config.sasl = Some(crate::Plain::new("alice", "hunter2").into());
    let words = config.validate().expect_err("they contradict each other").to_string();
    assert!(words.contains("leaves the login out"), "{words}");
    config.security_protocol = Some(SecurityProtocol::SaslSsl);
    let words = config.validate().expect_err("there is no TLS").to_string();
    assert!(words.contains("SASL_SSL needs TLS"), "{words}");
    config.security_protocol = None;
    assert_eq!(config.validate(), Ok(()));
}

/// What the manual tells to paste.
#[cfg(all(feature = "oidc", feature = "aws-msk-iam"))]
#[test]
fn every_configuration_of_the_manual_is_good() {
    let page = include_str!("../../manual/connecting.md");
    let blocks: Vec<&str> = page.split("```properties\n").skip(1).collect();
    assert!(blocks.len() >= 9, "{} blocks", blocks.len());
    for block in blocks {
        let text = block.split("```").next().unwrap_or_default();
        let config = ProducerConfig::from_properties_text(text).expect(text);
        config.validate().expect(text);
        let protocol = config.security_protocol.unwrap_or_default();
        assert_eq!(config.tls.is_some(), protocol.has_tls(), "{text}");
        assert_eq!(config.sasl.is_some(), protocol.has_sasl(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_secret_is_told(
        secret in "hunter[a-z0-9 \"';=\\\\]{0,20}",
        name in prop::sample::select(vec!["sasl.jaas.config", "sasl.password"]),
    ) {
        let pairs = [
            ("bootstrap.servers", "a:1"),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            (name, secret.as_str()),
        ];
        let built = ProducerConfig::from_properties(pairs);
        let shown = format!("{built:?}");
        prop_assert!(!shown.contains("hunter"), "{}", shown);
    }
}

#[cfg(feature = "oidc")]
#[test]
fn a_token_endpoint_needs_a_client_unless_it_is_a_file() {
    let on = "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
              sasl.oauthbearer.token.endpoint.url=";
    let words = refused(&format!("{on}https://id.example/token"));
    assert!(words.contains("client.id") && words.contains("clientId"), "{words}");
    let words = refused(&format!("{on}https://id.example/token\n{JAAS}"));
    assert!(words.contains("OAuthBearerLoginModule"), "{words}");
    let file = read(&format!("{on}file:///run/token\n")).expect("it is enough");
    match file.sasl {
        Some(super::super::Login::TokenFile(file)) => {
            assert_eq!(file.path, std::path::Path::new("/run/token"));
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(feature = "oidc")]
#[test]
fn what_java_programs_say_of_a_token_endpoint_has_its_effect_or_is_refused() {
    let url = "https://id.example/token";
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required";
    let with = |options: &str, more: &str| {
        format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
             sasl.oauthbearer.token.endpoint.url={url}\n\
             sasl.jaas.config={module} clientId='a' clientSecret='b' {options};\n{more}\n"
        )
    };
    let oidc = |text: &str| match read(text).expect("it is good").sasl {
        Some(super::super::Login::Oidc(oidc)) => oidc,
        other => panic!("{other:?}"),
    };
    let trusts = oidc(&with("ssl.truststore.location='/ca.pem'", ""));
    assert_eq!(trusts.tls.files(), [std::path::Path::new("/ca.pem")]);
    let twice = with("extension_pool='p' extension_pool='q'", "sasl.oauthbearer.extensions=pool=o");
    assert_eq!(oidc(&twice).extensions, [("pool".to_owned(), "q".to_owned())]);
    let limits = oidc(&with("", "sasl.login.connect.timeout.ms=0\nhttps.ca.location=probe"));
    assert_eq!(limits.connect_timeout, std::time::Duration::MAX);
    assert!(limits.tls.files().is_empty());
    assert!(refused(&with("audience='x'", "")).contains("audience"));
    assert!(refused(&with("", "sasl.username=a")).contains("sasl.username"));
    let id = "sasl.oauthbearer.client.credentials.client.id=a";
    for (mechanism, word) in
        [("OAUTHBEARER", "token.endpoint.url"), ("PLAIN", "sasl.mechanism = OAUTHBEARER")]
    {
        let text = format!("security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\n{id}\n");
        assert!(refused(&text).contains(word), "{}", refused(&text));
    }
}

#[cfg(not(feature = "oidc"))]
#[test]
fn what_this_build_has_not_is_named_with_its_feature() {
    let on = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=";
    let oidc = format!("{on}OAUTHBEARER\nsasl.oauthbearer.token.endpoint.url=https://id.example");
    assert!(refused(&oidc).contains("\"oidc\""));
    assert!(refused(&format!("{on}AWS_MSK_IAM\n")).contains("\"aws-msk-iam\""));
}

#[cfg(feature = "aws-msk-iam")]
#[test]
fn a_login_with_iam_is_what_java_programs_write() {
    let module = "software.amazon.msk.auth.iam.IAMLoginModule required";
    let handler = "software.amazon.msk.auth.iam.IAMClientCallbackHandler";
    let text = |options: &str| {
        format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=AWS_MSK_IAM\n\
             sasl.jaas.config={module} {options};\nsasl.client.callback.handler.class={handler}\n"
        )
    };
    assert_eq!(mechanism(&text("")).as_deref(), Some("AWS_MSK_IAM"));
    let config = read(&text("awsProfileName='shop'")).expect("a profile");
    assert!(format!("{:?}", config.sasl).contains("shop"));
    assert!(refused(&text("awsRoleArn='arn:aws:iam::1:role/x'")).contains("awsProfileName"));
}
