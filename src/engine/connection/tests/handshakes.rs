//! Peers that do not answer ApiVersions as they should, from one connection to the next.

use super::*;
use crate::problem::{Problem, ProblemKind};

/// A connection whose ApiVersions request was written, and the version that it asked with.
fn asked(config: &Arc<ConnectionConfig>, now: u64) -> (Connection, u8) {
    let mut connection = Connection::new(config.clone(), peer(), now);
    let (bytes, _) = take_written(&mut connection, now);
    (connection, bytes[7])
}

#[test]
fn c64_a_close_or_a_refusal_twice_in_a_row_is_a_step_down() {
    let config = config();
    let mut versions = Vec::new();
    for n in 0..8 {
        let (mut connection, version) = asked(&config, 0);
        versions.push(version);
        if n % 2 == 0 {
            let words = connection.handle_lost(0, "closed".into());
            assert_eq!(words.message().contains("older than 0.10?"), version == 0, "{words}");
        } else {
            feed(&mut connection, 0, &api_versions_v0(0, ErrorCode::INVALID_REQUEST, 0));
            assert!(error(&mut connection, 0).contains("INVALID_REQUEST"));
        }
    }
    assert_eq!(versions, [4, 4, 3, 3, 2, 2, 0, 0]);
}

#[test]
fn c64_silence_has_a_shorter_timeout_where_nobody_ever_answered() {
    let config = config();
    let (mut connection, _) = asked(&config, 0);
    assert_eq!(connection.poll_timeout(), Some(HANDSHAKE_TIMEOUT));
    assert_eq!(connection.handle_timeout(HANDSHAKE_TIMEOUT - 1), Ok(()));
    assert!(connection.handle_timeout(HANDSHAKE_TIMEOUT).is_err());
    let (mut connection, version) = asked(&config, 0);
    assert_eq!(version, 4, "once is nothing");
    assert!(connection.handle_timeout(HANDSHAKE_TIMEOUT).is_err());
    let (mut connection, version) = asked(&config, 0);
    assert_eq!(version, 3);
    feed(&mut connection, 0, &api_versions_v0(0, ErrorCode::UNSUPPORTED_VERSION, 2));
    assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Pending))));
    let (connection, version) = asked(&config, 0);
    assert_eq!((version, connection.poll_timeout()), (3, Some(TIMEOUT)), "it may be busy");
}

#[test]
fn c64_what_ends_a_connection_otherwise_is_no_refusal() {
    let config = config();
    for _ in 0..3 {
        // Nothing was asked yet.
        Connection::new(config.clone(), peer(), 0).handle_lost(0, "reset".into());
        // It speaks something else.
        let (mut connection, version) = asked(&config, 0);
        feed(&mut connection, 0, b"HTTP/1.1 400 Bad Request");
        error(&mut connection, 0);
        assert_eq!(version, 4);
    }
    // It was answered before.
    for _ in 0..3 {
        let (mut connection, version) = asked(&config, 0);
        feed(&mut connection, 0, &api_versions(0));
        assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Ready))));
        assert_eq!(connection.handle_lost(0, "closed".into()).message(), "closed");
        // A broker that comes up again closes connections, too.
        asked(&config, 0).0.handle_lost(0, "closed".into());
        assert_eq!(version, 4);
    }
}

#[test]
fn a_certificate_that_is_refused_is_no_refusal_of_a_version() {
    let config = config();
    for _ in 0..4 {
        let mut connection = Connection::new(config.clone(), peer(), 0);
        let (bytes, _) = take_written(&mut connection, 0);
        assert_eq!(bytes[6..8], [0, 4], "it is asked with the highest version again");
        let problem = Problem::new(ProblemKind::Tls, "the broker refuses this certificate");
        assert_eq!(connection.handle_lost(0, problem.clone()), problem);
    }
}

/// A listener that wants a login closes on the first request; so does a broker that restarts.
#[test]
fn a_login_is_asked_about_only_where_nothing_ever_worked() {
    let config = config();
    let closed = || Problem::new(ProblemKind::Closed, "closed");
    let lost = |answers: bool| {
        let mut connection = Connection::new(config.clone(), peer(), 0);
        take_written(&mut connection, 0);
        feed(&mut connection, 0, &api_versions(0));
        assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Ready))));
        let id = send(&mut connection, 0, -1);
        take_written(&mut connection, 0);
        if answers {
            feed(&mut connection, 0, &produced(id, 0));
            assert!(connection.poll_response(0).is_ok());
        }
        connection.handle_lost(0, closed()).to_string()
    };
    assert!(lost(false).contains("does this listener want a login (SASL)?"));
    assert_eq!(lost(true), "closed");
    assert_eq!(lost(false), "closed", "it has worked before");
}
