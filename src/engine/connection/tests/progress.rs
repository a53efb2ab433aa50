//! Requests that leave slowly, or not at all.

use super::*;

/// A quarter of a request's time.
const CHECK: u64 = TIMEOUT / 4;

/// A connection with requests of 100 bytes in flight, all taken by the socket at time 0.
fn written(requests: usize) -> (Connection, Vec<i32>) {
    let mut connection = connected(0);
    let ids = (0..requests).map(|_| send(&mut connection, 0, -1)).collect();
    take_written(&mut connection, 0);
    (connection, ids)
}

#[test]
fn c67_a_request_that_leaves_slowly_is_not_given_up() {
    let (mut connection, ids) = written(2);
    // Ten bytes in a quarter of the timeout: each request takes two and a half timeouts.
    for n in 1..=20 {
        let now = n * CHECK;
        assert_eq!(connection.poll_unsent(), Some(now));
        connection.handle_unsent(now, 200 - n as usize * 10);
        assert_eq!(connection.handle_timeout(now), Ok(()), "{n}");
        if n == 12 {
            assert_eq!(connection.poll_timeout(), Some(10 * CHECK + TIMEOUT), "it left then");
            feed(&mut connection, now, &produced(ids[0], 0));
            assert!(matches!(connection.poll_response(now), Ok(Some(Incoming::Produce(..)))));
        }
    }
    // Now the second has left, too, and is answered or given up.
    assert_eq!(connection.poll_timeout(), Some(20 * CHECK + TIMEOUT));
    connection.handle_unsent(21 * CHECK, 0);
    assert!(connection.handle_timeout(20 * CHECK + TIMEOUT).is_err());
}

#[test]
fn c67_a_request_of_which_nothing_leaves_is_given_up() {
    let (mut connection, _) = written(1);
    for n in 1..4 {
        connection.handle_unsent(n * CHECK, 100);
        assert_eq!(connection.handle_timeout(n * CHECK), Ok(()));
    }
    connection.handle_unsent(TIMEOUT, 100);
    assert!(connection.handle_timeout(TIMEOUT).is_err());
    // It had begun, and then stopped.
    let (mut connection, _) = written(1);
    connection.handle_unsent(CHECK, 50);
    for n in 2..5 {
        connection.handle_unsent(n * CHECK, 50);
        assert_eq!(connection.handle_timeout(n * CHECK), Ok(()));
    }
    connection.handle_unsent(CHECK + TIMEOUT, 50);
    assert!(connection.handle_timeout(CHECK + TIMEOUT).is_err());
}

#[test]
fn c24_a_request_that_left_at_once_has_its_timeout_and_no_more() {
    let (mut connection, _) = written(1);
    for n in 1..4 {
        connection.handle_unsent(n * CHECK, 0);
    }
    assert_eq!(connection.poll_timeout(), Some(TIMEOUT));
    assert!(connection.handle_timeout(TIMEOUT).is_err());
}

#[test]
fn c67_what_the_socket_takes_slowly_is_progress_too() {
    let mut connection = connected(0);
    send(&mut connection, 0, -1);
    for n in 1..=10 {
        connection.handle_written(n * TIMEOUT / 2, 10, &mut Vec::new());
        assert_eq!(connection.handle_timeout(n * TIMEOUT / 2), Ok(()));
    }
    assert_eq!(connection.poll_timeout(), Some(6 * TIMEOUT));
}

#[test]
fn a_connection_that_is_answered_never_asks_what_has_left() {
    let mut connection = connected(0);
    assert_eq!(connection.poll_unsent(), None);
    let mut ahead = send(&mut connection, 0, -1);
    for n in 1..100 {
        let now = n * (CHECK - 1);
        let next = send(&mut connection, now, -1);
        take_written(&mut connection, now);
        assert!(connection.poll_unsent() > Some(now));
        feed(&mut connection, now, &produced(ahead, 0));
        assert!(matches!(connection.poll_response(now), Ok(Some(Incoming::Produce(..)))));
        ahead = next;
    }
}
