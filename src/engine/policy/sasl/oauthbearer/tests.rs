//! OAUTHBEARER as an application and a broker see it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0aW0ifQ.c2VjcmV0";

const START: SystemTime = SystemTime::UNIX_EPOCH;

const MINUTE: Duration = Duration::from_secs(60);

fn begin(mechanism: &OAuthBearer, now: SystemTime) -> Result<Box<dyn SaslExchange>, SaslError> {
    mechanism.begin(&SaslPeer::new("kafka", 9093, now))
}

fn first(mechanism: &OAuthBearer, now: SystemTime) -> String {
    let mut exchange = begin(mechanism, now).expect("there is a token");
    let sent = exchange.next(None).expect("it begins").expect("it sends the token");
    String::from_utf8(sent).expect("it is text")
}

/// A mechanism whose provider gives this token every time.
fn always(token: OAuthToken) -> OAuthBearer {
    OAuthBearer::new(move || Ok(token.clone()))
}

/// A mechanism whose tokens are numbered from 1, live for 100 s, and fail while `down`.
fn numbered() -> (OAuthBearer, Arc<AtomicU32>, Arc<Mutex<bool>>) {
    let (count, down) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(false)));
    let (counted, is_down) = (count.clone(), down.clone());
    let mechanism = OAuthBearer::new(move || {
        let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
        if *is_down.lock().expect("nobody panics with it") {
            return Err("the identity provider is down".into());
        }
        Ok(OAuthToken::new(format!("token{number}")).lifetime(Duration::from_secs(100)))
    });
    (mechanism, count, down)
}

fn at(seconds: u64) -> SystemTime {
    START + Duration::from_secs(seconds)
}

#[test]
fn the_message_is_that_of_rfc_7628_and_an_empty_answer_ends() {
    let token = OAuthToken::new(TOKEN).expires_at(START + MINUTE);
    let mechanism = always(token.extension("logicalCluster", "lkc-1").extension("x", "a b=c,d"));
    assert_eq!(mechanism.name(), "OAUTHBEARER");
    let mut exchange = begin(&mechanism, START).expect("there is a token");
    let sent = exchange.next(None).expect("it begins").expect("it sends the token");
    let expected =
        format!("n,,\x01auth=Bearer {TOKEN}\x01logicalCluster=lkc-1\x01x=a b=c,d\x01\x01");
    assert_eq!(String::from_utf8(sent), Ok(expected));
    assert_eq!(exchange.next(Some(b"")).expect("the broker accepts"), None);
    assert!(exchange.next(Some(b"")).is_err(), "a login completes once");
    let plain = always(OAuthToken::new("a"));
    assert_eq!(first(&plain, START), "n,,\x01auth=Bearer a\x01\x01");
}

#[test]
fn a_brokers_error_is_acknowledged_and_then_told() {
    let mechanism = always(OAuthToken::new(TOKEN));
    let mut exchange = begin(&mechanism, START).expect("there is a token");
    exchange.next(None).expect("it begins");
    let answer = exchange.next(Some(br#"{"status":"invalid_token","scope":"kafka"}"#));
    assert_eq!(answer.expect("the error is acknowledged").as_deref(), Some(&b"\x01"[..]));
    let error = exchange.next(Some(b"")).expect_err("the broker has refused the token");
    assert_eq!(error.kind(), SaslErrorKind::Refused);
    assert!(error.to_string().contains("status \"invalid_token\""), "{error}");
    assert!(exchange.next(Some(b"")).is_err(), "nothing continues after an error");
}

#[test]
fn an_answer_that_says_little_too_much_or_the_token_is_not_repeated() {
    let long = format!(r#"{{"x":"{}","status":"late"}}"#, "y".repeat(ANSWER_BYTES_MAX));
    let repeated = format!(r#"{{"status":"no {TOKEN}"}}"#);
    for answer in ["no", "{}", "\u{1}", &long, &repeated] {
        let mut exchange = begin(&always(OAuthToken::new(TOKEN)), START).expect("there is one");
        exchange.next(None).expect("it begins");
        exchange.next(Some(answer.as_bytes())).expect("the error is acknowledged");
        let error = exchange.next(None).expect_err("the broker has refused the token");
        assert_eq!(error.kind(), SaslErrorKind::Refused);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(TOKEN) && !shown.contains("late"), "{shown}");
    }
}

#[test]
fn malformed_tokens_and_extensions_are_refused_without_showing_them() {
    let token = || OAuthToken::new("hunter2");
    let malformed = [
        OAuthToken::new(""),
        OAuthToken::new("="),
        OAuthToken::new("hunter2\n"),
        OAuthToken::new("Bearer hunter2"),
        OAuthToken::new("hunter2\x01auth=x"),
        OAuthToken::new("hunter=2"),
        token().extension("auth", "hunter3"),
        token().extension("", "hunter3"),
        token().extension("a1", "hunter3"),
        token().extension("a", ""),
        token().extension("a", "hunter3\x01"),
        token().extension("a", "hünter3"),
        token().extension("a", "hunter3").extension("a", "hunter4"),
    ];
    for token in malformed {
        let shown = format!("{token:?} {token:#?}");
        assert!(!shown.contains("hunter"), "{shown}");
        let error = begin(&always(token), START).err().expect(&shown);
        assert_eq!(error.kind(), SaslErrorKind::Credentials, "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
    }
    let padded = OAuthToken::new("a-._~+/Z9==").extension("a", " \t\r\n~");
    first(&always(padded), START);
}

#[test]
fn a_token_serves_until_a_share_of_its_lifetime_has_passed() {
    let (mechanism, count, _) = numbered();
    assert!(first(&mechanism, at(0)).contains("token1\x01"));
    assert!(first(&mechanism, at(79)).contains("token1\x01"));
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert!(first(&mechanism, at(80)).contains("token2\x01"));
    assert!(first(&mechanism, at(159)).contains("token2\x01"));
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn a_token_without_lifetime_is_fetched_for_every_login() {
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let mechanism = OAuthBearer::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(OAuthToken::new(TOKEN))
    });
    for _ in 0..3 {
        begin(&mechanism, START).expect("there is a token");
    }
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

#[test]
fn an_expired_token_is_refused() {
    let expired = [
        OAuthToken::new(TOKEN).expires_at(START + MINUTE),
        OAuthToken::new(TOKEN).lifetime(Duration::ZERO),
    ];
    for token in expired {
        let error = begin(&always(token), START + MINUTE).err().expect("it has expired");
        assert_eq!(error.kind(), SaslErrorKind::Credentials);
        assert!(error.to_string().contains("expired"), "{error}");
    }
    let endless = always(OAuthToken::new(TOKEN).lifetime(Duration::MAX));
    begin(&endless, START).expect("it is valid");
}

#[test]
fn the_last_token_serves_while_no_other_is_to_be_had() {
    let (mechanism, count, down) = numbered();
    first(&mechanism, at(0));
    *down.lock().expect("nobody panics with it") = true;
    assert!(first(&mechanism, at(99)).contains("token1\x01"));
    let error = begin(&mechanism, at(100)).err().expect("the token has expired");
    assert_eq!(error.kind(), SaslErrorKind::Credentials);
    assert!(error.to_string().contains("the identity provider is down"), "{error}");
    assert_eq!(count.load(Ordering::Relaxed), 3);
    *down.lock().expect("nobody panics with it") = false;
    assert!(first(&mechanism, at(101)).contains("token4\x01"));
}

#[test]
fn a_refused_token_is_not_presented_again() {
    let (mechanism, count, _) = numbered();
    let refuse = |exchange: &mut dyn SaslExchange| {
        exchange.next(None).expect("it begins");
        exchange.next(Some(br#"{"status":"invalid_token"}"#)).expect("it is acknowledged");
    };
    let mut exchange = begin(&mechanism, at(0)).expect("there is a token");
    let mut late = begin(&mechanism, at(0)).expect("there is the same token");
    refuse(&mut *exchange);
    assert!(first(&mechanism, at(1)).contains("token2\x01"));
    // A late refusal of the first token does not concern the second.
    refuse(&mut *late);
    assert!(first(&mechanism, at(2)).contains("token2\x01"));
    assert_eq!(count.load(Ordering::Relaxed), 2);
}

#[test]
fn one_login_fetches_and_the_others_use_its_token_or_its_failure() {
    for fails in [false, true] {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let kept = Arc::new(OnceLock::<Arc<Kept<Arc<OAuthToken>>>>::new());
        let seen = kept.clone();
        let mechanism = OAuthBearer::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            // Until the others have seen that there is no token.
            while seen.get().is_none_or(|kept| kept.arrivals.count.load(Ordering::SeqCst) < 4) {
                std::thread::yield_now();
            }
            if fails { Err("down".into()) } else { Ok(OAuthToken::new(TOKEN).lifetime(MINUTE)) }
        });
        assert!(kept.set(mechanism.kept.clone()).is_ok());
        let results: Vec<bool> = std::thread::scope(|scope| {
            let log_in = || begin(&mechanism, START).is_ok();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(log_in)).collect();
            threads.into_iter().map(|thread| thread.join().expect("none panics")).collect()
        });
        assert_eq!(results, [!fails; 4]);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_provider_that_panics_costs_that_login_only() {
    let count = AtomicU32::new(0);
    let mechanism = OAuthBearer::new(move || match count.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("a bug of the provider"),
        _ => Ok(OAuthToken::new(TOKEN)),
    });
    let begun =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| begin(&mechanism, START).is_ok()));
    assert!(begun.is_err());
    first(&mechanism, START);
    assert_eq!(format!("{mechanism:?}"), "OAuthBearer(TokenProvider)");
}

#[test]
fn messages_out_of_turn_are_refused() {
    let mechanism = always(OAuthToken::new(TOKEN));
    let mut exchange = begin(&mechanism, START).expect("there is a token");
    let error = exchange.next(Some(b"who?")).expect_err("the client begins");
    assert_eq!(error.kind(), SaslErrorKind::Protocol);
    let mut exchange = begin(&mechanism, START).expect("there is a token");
    exchange.next(None).expect("it begins");
    let error = exchange.next(None).expect_err("it has begun");
    assert_eq!(error.kind(), SaslErrorKind::Protocol);
}

proptest! {
    #[test]
    fn no_answer_of_a_broker_makes_it_panic(answer in prop::collection::vec(any::<u8>(), 1..100)) {
        let mut exchange = begin(&always(OAuthToken::new(TOKEN)), START).expect("there is one");
        exchange.next(None).expect("it begins");
        exchange.next(Some(&answer)).expect("the error is acknowledged");
        prop_assert!(exchange.next(Some(b"")).is_err());
    }
}
