//! Configurations as they are found in the wild, and what is said of broken ones.

use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::engine::policy::sasl::SaslPeer;

const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";
const OAUTH: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";

fn parse(text: &str) -> JaasConfig {
    JaasConfig::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The value of the option `x`, written like this.
fn value(written: &str) -> String {
    let config = parse(&format!("module required x={written};"));
    let value = config.option("x").expect("it is there");
    String::from_utf8(value.expose().to_vec()).expect("it is text")
}

fn refused(text: &str) -> String {
    let error = JaasConfig::parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
    assert_eq!(error.kind(), SaslErrorKind::Credentials);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter"), "{shown}");
    error.to_string()
}

/// What the mechanism sends first.
fn first(mechanism: &dyn SaslMechanism) -> String {
    let peer = SaslPeer::new("kafka", 9093, SystemTime::UNIX_EPOCH);
    let mut exchange = mechanism.begin(&peer).expect("the credentials are good");
    let sent = exchange.next(None).expect("it begins").expect("it sends something");
    String::from_utf8(sent).expect("it is text")
}

#[test]
fn a_configuration_over_several_lines_with_comments_is_read() {
    let text = format!(
        "/* the shop's */ {PLAIN}\n\tREQUIRED // of course\r\n  username=\"a\"\n  \
         / also a comment; \"\n password = \"b\\\"c\" serviceName=kafka ;\n// the end"
    );
    let config = parse(&text);
    assert_eq!(config.module(), PLAIN);
    let option = |name| config.option(name).map(Secret::expose);
    assert_eq!(option("username"), Some(&b"a"[..]));
    assert_eq!(option("password"), Some(&b"b\"c"[..]));
    assert_eq!(option("serviceName"), Some(&b"kafka"[..]));
    assert_eq!(option("other"), None);
    let shown = format!("{config:?}");
    assert_eq!(shown, format!("JaasConfig {{ module: \"{PLAIN}\", .. }}"));
    let mechanism = config.mechanism("PLAIN").expect("all is there");
    assert_eq!(first(&*mechanism), "\0a\0b\"c");
}

#[test]
fn every_control_flag_is_taken_in_any_case() {
    for flag in ["required", "Requisite", "SUFFICIENT", "optional"] {
        assert_eq!(parse(&format!("\"module\" {flag};")).module(), "module");
    }
}

#[test]
fn values_are_read_as_java_reads_them() {
    assert_eq!(value("abc"), "abc");
    assert_eq!(value(r"a\nb\c"), r"a\nb\c");
    assert_eq!(value("a,b:c@d#e{f}"), "a,b:c@d#e{f}");
    assert_eq!(value("pässword"), "pässword");
    assert_eq!(value("\"\""), "");
    assert_eq!(value("'it is \"so\"'"), "it is \"so\"");
    assert_eq!(value("\"it's // so; = /* it */\""), "it's // so; = /* it */");
    assert_eq!(value(r#""\a\b\f\n\r\t\v\\\"\'\q\ä""#), "\x07\x08\x0c\n\r\t\x0b\\\"'qä");
    assert_eq!(value(r#""\0\7\101\1018\377\477\48""#), "\0\x07AA8\u{ff}'7\x048");
    // A comment may follow a value directly, as a slash is no part of a word.
    assert_eq!(value("abc/def\n"), "abc");
    // Of several, the last one counts.
    assert_eq!(value("a x=b"), "b");
}

#[test]
fn broken_configurations_are_refused_with_a_place_and_no_value() {
    let cases = [
        ("", "names no login module"),
        ("  // nothing\n", "names no login module"),
        ("; required;", "class is expected"),
        ("hunter2", "control flag"),
        ("module password=hunter2;", "line 1, column 8: a control flag"),
        ("module required", "semicolon at the end is missing"),
        ("module required\n password=\"hunter2\"", "line 2, column 20: the semicolon"),
        ("module required password=hunter/2;", "begins a comment: quote"),
        ("module required password=my hunter2;", "name=\"value\""),
        ("module required password=hunter=2;", "an option's name is expected"),
        ("module required password;", "name=\"value\""),
        ("module required password=;", "name=\"value\""),
        ("module required ==hunter2;", "an option's name is expected"),
        ("module required password=\u{85}hunter2;", "name=\"value\""),
        ("module required\npassword=\"hunter2;\nx=y;", "line 2, column 10: a quote is not closed"),
        ("module required password='hunter2\\", "a quote is not closed"),
        ("module required /* password=hunter2;", "column 17: a comment"),
        ("module required x=y; module required hunter=2;", "one login module"),
        ("module required password=hunter;2;", "one login module"),
        ("module required x=y;;", "one login module"),
    ];
    for (text, words) in cases {
        let told = refused(text);
        assert!(told.contains(words), "{text}: {told}");
    }
    assert!(refused(&" ".repeat(CONFIG_BYTES_MAX + 1)).contains("at most"));
    assert!(refused(&format!("m required {};", "hunter=2 ".repeat(101))).contains("options"));
}

#[test]
fn scram_and_delegation_tokens_are_configured() {
    let scram = |options: &str| parse(&format!("{SCRAM} required {options};"));
    let config = scram("username='a=b' password=hunter2");
    for name in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mechanism = config.mechanism(name).expect("all is there");
        assert_eq!(mechanism.name(), name);
        let sent = first(&*mechanism);
        assert!(sent.starts_with("n,,n=a=3Db,r=") && !sent.contains("tokenauth"), "{sent}");
        assert!(!format!("{mechanism:?}").contains("hunter2"));
    }
    let config = scram("username=id password=hmac tokenauth=TRUE");
    let mechanism = config.mechanism("SCRAM-SHA-256").expect("all is there");
    assert!(first(&*mechanism).ends_with(",tokenauth=true"));
    let config = scram("username=id password=hmac tokenauth=false");
    let mechanism = config.mechanism("SCRAM-SHA-256").expect("all is there");
    assert!(!first(&*mechanism).contains("tokenauth"));
}

#[test]
fn a_shaded_module_is_known() {
    let config = parse(&format!("kafkashaded.{PLAIN} required username=a password=b;"));
    config.mechanism("PLAIN").expect("it is Kafka's own");
    let config = parse(&format!("not{PLAIN} required username=a password=b;"));
    config.mechanism("PLAIN").expect_err("it is another");
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    let cases = [
        (PLAIN, "SCRAM-SHA-256", "username=a password=hunter2", "does not serve"),
        (SCRAM, "PLAIN", "username=a password=hunter2", "does not serve"),
        (SCRAM, "GSSAPI", "username=a password=hunter2", "does not serve"),
        ("com.sun.Krb5LoginModule", "GSSAPI", "keyTab=hunter2", "supported are PLAIN"),
        (PLAIN, "PLAIN", "password=hunter2", "option username is missing"),
        (PLAIN, "PLAIN", "username=a", "option password is missing"),
        (SCRAM, "SCRAM-SHA-512", "username=\"\" password=hunter2", "option username is missing"),
        (PLAIN, "PLAIN", "username=\"a\\0\" password=hunter2", "NUL"),
        (OAUTH, "OAUTHBEARER", "clientSecret=hunter2", "set sasl.oauthbearer.token.endpoint.url"),
        (OAUTH, "PLAIN", "clientSecret=hunter2", "set sasl.oauthbearer.token.endpoint.url"),
        (OAUTH, "OAUTHBEARER", "unsecuredLoginStringClaim_sub=hunter2", "unsecured tokens"),
    ];
    for (module, mechanism, options, words) in cases {
        let config = parse(&format!("{module} required {options};"));
        let error = config.mechanism(mechanism).expect_err(words);
        assert_eq!(error.kind(), SaslErrorKind::Credentials);
        let shown = format!("{error} {error:?} {config:?}");
        assert!(shown.contains(words) && !shown.contains("hunter"), "{shown}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        any in ".{0,60}",
        likely in r#"m required( |=|;|"|'|\\|/|\*|\n|a|7|ü|x="y"){0,20}"#,
    ) {
        for text in [any, likely] {
            if let Ok(config) = JaasConfig::parse(&text) {
                let _ = config.mechanism("PLAIN");
            }
        }
    }

    /// Any value in quotes comes back, if quotes, backslashes and ends of lines are escaped.
    #[test]
    fn quoted_values_come_back(text in "\\PC{0,40}") {
        let written = text.replace('\\', "\\\\").replace('"', "\\\"");
        prop_assert_eq!(value(&format!("\"{written}\"")), text);
    }
}
