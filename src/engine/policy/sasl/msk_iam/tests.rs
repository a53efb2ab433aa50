use std::time::Duration;

use super::*;

const HOST: &str = "b-1.shop.abc123.c2.kafka.eu-west-1.amazonaws.com";

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn key() -> AwsCredentials {
    AwsCredentials::new("AKIDEXAMPLE", "hunter2")
}

fn begin_at(
    host: &str,
    provider: impl AwsCredentialsProvider + 'static,
) -> Result<Box<dyn SaslExchange>, SaslError> {
    MskIam::new(Arc::new(provider)).begin(&SaslPeer::new(host, 9098, now()))
}

fn begin(provider: impl AwsCredentialsProvider + 'static) -> Box<dyn SaslExchange> {
    begin_at(HOST, provider).expect("the credentials are good")
}

fn refused(provider: impl AwsCredentialsProvider + 'static) -> SaslError {
    begin_at(HOST, provider).err().expect("nothing can be signed")
}

fn message(mechanism: &MskIam, host: &str) -> serde_json::Value {
    let begun = mechanism.begin(&SaslPeer::new(host, 9098, now()));
    let first = begun.expect("it begins").next(None).expect("it begins").expect("a message");
    serde_json::from_slice(&first).expect("it is JSON")
}

#[test]
fn a_brokers_answer_with_a_version_ends_the_login() {
    let mut exchange = begin(key());
    assert!(exchange.next(None).expect("it begins").is_some());
    let answer = br#"{"version":"2020_10_22","request-id":"6b3a"}"#;
    assert_eq!(exchange.next(Some(answer)).expect("the broker accepts"), None);
    assert!(exchange.next(Some(answer)).is_err(), "a login completes once");
}

#[test]
fn an_answer_that_proves_nothing_is_refused() {
    let long = format!(r#"{{"version":"{}"}}"#, "1".repeat(ANSWER_BYTES_MAX));
    for answer in
        ["", "ok", "[]", "{}", r#"{"version":""}"#, r#"{"version":1}"#, "\u{0}", "{", &long]
    {
        let mut exchange = begin(key());
        exchange.next(None).expect("it begins");
        let error = exchange.next(Some(answer.as_bytes())).expect_err(answer);
        assert_eq!(error.kind(), SaslErrorKind::Protocol);
        assert!(exchange.next(Some(b"{\"version\":\"1\"}")).is_err(), "nothing continues");
    }
    let mut exchange = begin(key());
    assert!(exchange.next(Some(b"{\"version\":\"1\"}")).is_err(), "the client is first");
}

#[test]
fn what_cannot_be_signed_with_is_told_and_not_shown() {
    for (credentials, words) in [
        (AwsCredentials::new("", "hunter2"), "id is empty"),
        (AwsCredentials::new("AKIDEXAMPLE", ""), "secret of the access key is empty"),
        (AwsCredentials::new("AKID EXAMPLE", "hunter2"), "id holds"),
        (AwsCredentials::new("AKID/EXAMPLE", "hunter2"), "id holds"),
        (AwsCredentials::new("AKID\"", "hunter2"), "id holds"),
        (key().session_token(""), "session token is empty"),
        (key().session_token("hunter2\n"), "session token holds"),
        (key().session_token(b"hunter2\xff".to_vec()), "session token holds"),
        (key().expires_at(now()), "have expired"),
    ] {
        let shown = format!("{credentials:?}");
        let error = refused(credentials);
        assert_eq!(error.kind(), SaslErrorKind::Credentials);
        let told = format!("{error} {error:?} {shown}");
        assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
    }
    begin(key().expires_at(now() + Duration::from_secs(1)));
}

#[test]
fn an_applications_words_are_told_as_its_own_and_tidegates_as_they_are() {
    let error = refused(|| Err("the vault is sealed".into()));
    let words = "the application's provider of credentials of AWS failed: the vault is sealed";
    assert_eq!(error.message(), words);
    let long = "no credentials ".repeat(100);
    let told = SaslError::new(SaslErrorKind::Credentials, &long);
    assert_eq!(refused(move || Err(told.clone().into())).message(), long);
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let mechanism = MskIam::new(Arc::new(key().session_token("hunter2")));
    assert_eq!(mechanism.name(), "AWS_MSK_IAM");
    let shown = format!("{mechanism:?} {mechanism:#?} {:?}", key().session_token("hunter2"));
    assert!(!shown.contains("hunter2"), "{shown}");
    let first = message(&mechanism, HOST).to_string();
    assert!(first.contains("x-amz-security-token"), "{first}");
    let without = message(&MskIam::new(Arc::new(key())), HOST).to_string();
    assert!(!without.contains("hunter2") && !without.contains("token"), "{without}");
}

#[test]
fn the_region_is_in_the_names_that_aws_gives() {
    for (host, expected) in [
        (HOST, Some("eu-west-1")),
        ("boot-x1.c3.kafka-serverless.us-east-1.amazonaws.com", Some("us-east-1")),
        ("B-1.SHOP.abc.c2.kafka.us-gov-west-1.AmazonAWS.com.", Some("us-gov-west-1")),
        ("b-1.shop.abc.c2.kafka.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("vpce-0a1b-us-east-1a.vpce-svc-2c3d.us-east-1.vpce.amazonaws.com", Some("us-east-1")),
        ("b-1.us-west-2.abc.c2.kafka.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("b-1.shop.abc.c2.kafka.eusc-de-east-1.amazonaws.eu", Some("eusc-de-east-1")),
        ("kafka.eu-west-1.shop.example", None),
        ("amazonaws.com", None),
        (".amazonaws.com", None),
        ("kafka.eu-west-1.amazonaws.com.evil.example", None),
        ("10.0.0.1", None),
        ("ü.amazonaws.com", None),
    ] {
        assert_eq!(region::of_host(host), expected, "{host}");
    }
}

#[test]
fn a_given_region_comes_first_and_the_surroundings_last() {
    let of = |mechanism: &MskIam, host: &str| {
        let message = message(mechanism, host);
        let credential = message["x-amz-credential"].as_str().expect("it is text");
        credential.split('/').nth(2).expect("it has five parts").to_owned()
    };
    let plain = MskIam::new(Arc::new(key())).region_otherwise(Some("us-west-2".into()));
    assert_eq!(of(&plain, HOST), "eu-west-1");
    assert_eq!(of(&plain, "kafka.example"), "us-west-2");
    let given = plain.region(Some("eu-north-1".into()));
    assert_eq!(of(&given, HOST), "eu-north-1");
    let error = begin_at("kafka.example", key()).err().expect("no region is known");
    assert!(error.message().contains("kafka.example") && error.message().contains("AWS_REGION"));
    let wrong = MskIam::new(Arc::new(key())).region(Some("eu west".into()));
    let error = wrong.begin(&SaslPeer::new(HOST, 9098, now())).err().expect("it is no region");
    assert!(error.message().contains("like eu-west-1"), "{error}");
}

#[test]
fn a_host_that_would_break_out_of_the_message_is_refused() {
    for host in ["a\"b.eu-west-1.amazonaws.com", "a\nb.eu-west-1.amazonaws.com"] {
        let error = begin_at(host, key()).err().expect("it cannot be signed");
        assert!(error.message().contains("host name"), "{error}");
    }
}

#[test]
fn a_clock_that_stands_wrong_is_told() {
    let mechanism = MskIam::new(Arc::new(key()));
    let early = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    let error = mechanism.begin(&SaslPeer::new(HOST, 9098, early)).err().expect("it is too early");
    assert!(error.message().contains("clock"), "{error}");
}
