use super::*;

#[test]
fn the_question_is_a_form_and_the_secret_is_in_the_header() {
    let settings = Oidc::new("https://id.example/token", "shop:1", "a b+c")
        .scope("kafka read")
        .parameter("audience", "https://kafka/");
    let url = Url::parse(&settings.endpoint).expect("a URL");
    let endpoint = |settings| Endpoint { settings, url: url.clone(), tls: None };
    let asks = endpoint(settings.clone());
    let request = asks.request();
    let expected =
        "grant_type=client_credentials&scope=kafka%20read&audience=https%3A%2F%2Fkafka%2F";
    assert_eq!(request.body.as_str(), expected);
    let basic = |request: &Request<'_>| {
        let (_, value) = &request.headers[0];
        let pair = STANDARD.decode(value.strip_prefix("Basic ").expect("it is one"));
        String::from_utf8(pair.expect("base64")).expect("text")
    };
    assert_eq!(basic(&request), "shop:1:a b+c");
    let encoded = endpoint(settings.url_encode(true));
    assert_eq!(basic(&encoded.request()), "shop%3A1:a%20b%2Bc");
}

#[test]
fn a_lifetime_is_what_was_told_or_else_what_the_jwt_says() {
    let jwt = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    for (token, expiry) in [
        (jwt(r#"{"exp": 1700000000, "sub": "shop"}"#), at(1_700_000_000)),
        (jwt(r#"{"exp": 1700000000.9}"#), at(1_700_000_000)),
        (jwt(r#"{"exp": -1}"#), None),
        (jwt(r#"{"sub": "shop"}"#), None),
        (jwt("[]"), None),
        ("opaque".to_owned(), None),
        ("a.b".to_owned(), None),
        ("a.!.c".to_owned(), None),
    ] {
        assert_eq!(expiry_of_jwt(&token), expiry, "{token}");
    }
    let told = with(&jwt(r#"{"exp": 1}"#), Some(Duration::from_secs(60)), &[]);
    assert!(format!("{told:?}").contains("After(60s)"), "{told:?}");
}

#[test]
fn a_token_file_is_read_anew_and_its_absence_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let provider = InFile(TokenFile::new(&path).extension("logicalCluster", "lkc-1"));
    let error = provider.token().expect_err("there is none").to_string();
    assert!(error.contains("token file") && error.contains("token"), "{error}");
    std::fs::write(&path, "first\n").expect("it is written");
    let first = provider.token().expect("there is one");
    assert!(format!("{first:?}").contains("logicalCluster"));
    std::fs::write(&path, vec![b'x'; FILE_BYTES_MAX as usize + 1]).expect("it is written");
    let error = provider.token().expect_err("too long").to_string();
    assert!(error.contains("bytes"), "{error}");
}

#[test]
fn settings_that_cannot_work_are_found_at_once_and_hold_no_secret() {
    for (settings, part) in [
        (Oidc::new("id.example", "shop", "hunter2"), "no URL"),
        (Oidc::new("https://a:hunter2@id.example", "shop", "hunter2"), "no URL"),
        (Oidc::new("https://id.example", "", "hunter2"), "id"),
        (Oidc::new("https://id.example", "shop", ""), "secret"),
        (Oidc::new("https://id.example", "shop", b"hunter2\xff".to_vec()), "no text"),
    ] {
        let error = mechanism(&settings).expect_err("it cannot work").to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
