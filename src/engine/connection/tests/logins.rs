//! Logins on a virtual clock: their steps, their sessions, and what they may not do to others.

use zeroize::Zeroizing;

use super::*;
use crate::engine::policy::{SaslError, SaslExchange};
use crate::problem::{Problem, ProblemKind};

struct Silent;

impl SaslExchange for Silent {
    fn next(&mut self, _challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        unreachable!("the test computes what it answers")
    }
}

/// An exchange of the application's own, whose destructor panics.
struct Rude;

impl SaslExchange for Rude {
    fn next(&mut self, _challenge: Option<&[u8]>) -> Result<Option<Vec<u8>>, SaslError> {
        unreachable!("the test computes what it answers")
    }
}

impl Drop for Rude {
    fn drop(&mut self) {
        panic!("a panic that belongs to the test");
    }
}

/// ApiVersions v4: Produce 6, SaslHandshake 1, ApiVersions 4, SaslAuthenticate 1.
fn api_versions_with_logins(correlation: i32) -> Vec<u8> {
    let mut body = correlation.to_be_bytes().to_vec();
    body.extend([0, 0, 5]);
    for (key, version) in [(0, 6), (17, 1), (18, 4), (36, 1)] {
        body.extend([0, key, 0, 0, 0, version, 0]);
    }
    body.extend([0, 0, 0, 0, 0]);
    frame(&body)
}

fn handshake(correlation: i32, error: i16) -> Vec<u8> {
    let body = [&correlation.to_be_bytes()[..], &error.to_be_bytes(), &[0, 0, 0, 0]].concat();
    frame(&body)
}

fn authenticated(correlation: i32, lifetime_ms: i64) -> Vec<u8> {
    let head = [&correlation.to_be_bytes()[..], &[0, 0, 0xff, 0xff, 0, 0, 0, 0]].concat();
    frame(&[&head[..], &lifetime_ms.to_be_bytes()].concat())
}

fn answer(token: Option<&[u8]>) -> LoginAnswer {
    let token = token.map(|token| Zeroizing::new(token.to_vec()));
    let exchange = Some(HeldExchange::new(Box::new(Silent)));
    LoginAnswer { exchange, refusal: None, token: Ok(token) }
}

/// The steps of one login, from SaslHandshake's request on, which is in `correlation`.
fn log_in(connection: &mut Connection, now: u64, correlation: i32, lifetime_ms: i64) -> Incoming {
    take_written(connection, now);
    feed(connection, now, &handshake(correlation, 0));
    assert!(matches!(connection.poll_response(now), Ok(Some(Incoming::Pending))));
    let task = connection.poll_login().expect("the first token is to be computed");
    assert!(task.exchange.is_none() && task.challenge.is_none() && task.is_wanted());
    let sent = connection.handle_login(now, answer(Some(b"token")));
    assert!(matches!(sent, Ok(Incoming::Pending)));
    let (bytes, _) = take_written(connection, now);
    assert!(bytes.ends_with(b"\0\0\0\x05token"));
    feed(connection, now, &authenticated(correlation + 1, lifetime_ms));
    assert!(matches!(connection.poll_response(now), Ok(Some(Incoming::Pending))));
    let task = connection.poll_login().expect("the last answer is to be judged");
    assert_eq!(task.challenge.as_deref(), Some(&b""[..]));
    connection.handle_login(now, answer(None)).expect("the login is complete")
}

/// A connection that has logged in at `now`.
fn logged_in(now: u64, lifetime_ms: i64) -> Connection {
    let config = ConnectionConfig { sasl_mechanism: Some("PLAIN".into()), ..(*config()).clone() };
    let mut connection = Connection::new(Arc::new(config), peer(), now);
    take_written(&mut connection, now);
    feed(&mut connection, now, &api_versions_with_logins(0));
    assert!(matches!(connection.poll_response(now), Ok(Some(Incoming::Pending))));
    assert!(connection.has_versions() && !connection.is_ready());
    assert!(matches!(log_in(&mut connection, now, 1, lifetime_ms), Incoming::Ready));
    connection
}

#[test]
fn a_login_comes_between_the_versions_and_the_first_request() {
    let connection = logged_in(0, 0);
    assert!(connection.is_ready() && connection.may_send(0) && connection.is_idle());
    assert_eq!(connection.poll_timeout(), None, "the session has no end");
}

#[test]
fn c32_f31_a_session_in_use_is_renewed_before_it_ends_and_nothing_is_sent_meanwhile() {
    let mut connection = logged_in(0, 10_000);
    assert_eq!(connection.poll_timeout(), None, "nothing was sent: it may stay as it is");
    let id = send(&mut connection, MS, -1);
    take_written(&mut connection, MS);
    feed(&mut connection, 2 * MS, &produced(id, 0));
    assert!(matches!(connection.poll_response(2 * MS), Ok(Some(Incoming::Produce(..)))));
    let due = connection.poll_timeout().expect("the session ends");
    assert!((8_500 * MS..=9_500 * MS).contains(&due), "{due}");
    assert_eq!(connection.handle_timeout(due - 1), Ok(()));
    assert!(connection.may_send(due - 1));
    assert_eq!(connection.handle_timeout(due), Ok(()));
    assert!(!connection.may_send(due) && connection.logs_in() && !connection.is_idle());
    let next = id + 1;
    assert!(matches!(log_in(&mut connection, due, next, 10_000), Incoming::Pending));
    assert!(connection.may_send(due) && connection.is_idle());
}

#[test]
fn c32_f31_an_idle_session_that_is_over_is_renewed_before_the_next_request() {
    let mut connection = logged_in(0, 10_000);
    assert_eq!((connection.poll_timeout(), connection.handle_timeout(20_000 * MS)), (None, Ok(())));
    assert!(!connection.wants_write());
    connection.renew_login(20_000 * MS);
    assert!(connection.wants_write() && !connection.may_send(20_000 * MS));
}

/// The clock stands still while the machine sleeps, and the broker's does not.
#[test]
fn f31_a_session_ends_while_the_machine_sleeps() {
    let mut connection = logged_in(0, 10_000);
    connection.renew_login(MS);
    assert!(!connection.logs_in());
    connection.handle_suspended(9_600 * MS);
    connection.renew_login(MS);
    assert!(connection.logs_in());
}

/// A timer that is due and cannot be acted on would keep the loop awake.
#[test]
fn a_login_that_falls_due_during_a_throttle_waits_for_its_end() {
    let mut connection = logged_in(0, 10_000);
    let id = send(&mut connection, 5_000 * MS, -1);
    take_written(&mut connection, 5_000 * MS);
    feed(&mut connection, 5_001 * MS, &produced(id, 9_000));
    assert!(connection.poll_response(5_001 * MS).is_ok());
    assert_eq!(connection.poll_timeout(), Some(14_001 * MS));
    assert_eq!(connection.handle_timeout(14_001 * MS), Ok(()));
    assert!(connection.logs_in());
}

#[test]
fn credentials_that_never_come_end_the_connection_in_time() {
    let mut connection = logged_in(0, 10_000);
    connection.renew_login(20_000 * MS);
    take_written(&mut connection, 20_000 * MS);
    feed(&mut connection, 20_000 * MS, &handshake(3, 0));
    assert!(connection.poll_response(20_000 * MS).is_ok());
    let task = connection.poll_login().expect("a token is to be computed");
    assert_eq!(connection.poll_timeout(), Some(20_000 * MS + TIMEOUT));
    let problem = connection.handle_timeout(20_000 * MS + TIMEOUT).expect_err("it is over");
    assert_eq!(problem.kind(), ProblemKind::Authentication);
    drop(connection);
    assert!(!task.is_wanted(), "nobody would take the answer");
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let mut connection = logged_in(0, 0);
    assert!(connection.handle_login(0, answer(Some(b"token"))).is_err());
    assert!(!connection.wants_write());
    let mut without = connected(0);
    assert!(matches!(without.handle_login(0, answer(None)), Ok(Incoming::Pending)));
}

#[test]
fn c43_a_panic_in_the_destructor_of_a_login_stays_inside() {
    let mut connection = logged_in(0, 10_000);
    connection.renew_login(20_000 * MS);
    take_written(&mut connection, 20_000 * MS);
    feed(&mut connection, 20_000 * MS, &handshake(3, 0));
    assert!(connection.poll_response(20_000 * MS).is_ok());
    let exchange = Some(HeldExchange::new(Box::new(Rude)));
    let token = Ok(Some(Zeroizing::new(b"token".to_vec())));
    let rude = LoginAnswer { exchange, refusal: None, token };
    assert!(connection.handle_login(20_000 * MS, rude).is_ok());
    drop(connection);
}

/// What a stranger sends before the login takes no more memory than a handshake needs.
#[test]
fn frames_are_short_until_the_peer_has_shown_who_it_is() {
    let config = ConnectionConfig { response_bytes_max: 16 << 20, ..(*config()).clone() };
    let mut stranger = Connection::new(Arc::new(config), peer(), 0);
    take_written(&mut stranger, 0);
    feed(&mut stranger, 0, &(2_u32 << 20).to_be_bytes());
    let problem = stranger.poll_response(0).map(|_| ()).expect_err("two MiB are too much");
    assert!(problem.to_string().contains("1048576"), "{problem}");
}

/// Requests that get no response stay until the transport has written them, and progress counts.
#[test]
fn what_a_transport_keeps_back_settles_when_it_is_written() {
    let mut connection = connected(0);
    send(&mut connection, 0, 0);
    let wire = 100;
    connection.handle_taken(0, wire);
    assert_eq!((connection.in_flight(), connection.unwritten()), (1, 0));
    assert_eq!(connection.poll_timeout(), Some(TIMEOUT));
    // Half of it is still in the kernel, but the other half has arrived.
    connection.handle_unsent(TIMEOUT / 2, wire / 2);
    assert_eq!(connection.poll_timeout(), Some(TIMEOUT / 2 + TIMEOUT));
    let mut settled = Vec::new();
    connection.handle_flushed(TIMEOUT, &mut settled);
    assert_eq!((settled.len(), connection.in_flight()), (1, 0));
    send(&mut connection, TIMEOUT, 0);
    connection.handle_taken(TIMEOUT, wire);
    let lost: Vec<_> = connection.into_unsettled().collect();
    assert!(lost.len() == 1 && lost[0].is_written(), "it may have arrived");
}

#[test]
fn a_refusal_is_told_with_what_the_mechanism_knows_of_it() {
    let mut connection = logged_in(0, 10_000);
    connection.renew_login(20_000 * MS);
    take_written(&mut connection, 20_000 * MS);
    feed(&mut connection, 20_000 * MS, &handshake(3, 34));
    let problem: Problem = connection.poll_response(20_000 * MS).map(|_| ()).expect_err("refused");
    assert!(problem.to_string().contains("no further login"), "{problem}");
}
