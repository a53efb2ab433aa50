//! Answers that tell of a throttle.

use super::*;

#[test]
fn c31_a_throttle_is_obeyed_bounded_and_no_timeout() {
    let mut connection = connected(0);
    let first = send(&mut connection, 0, -1);
    send(&mut connection, 0, -1);
    take_written(&mut connection, 0);
    feed(&mut connection, MS, &produced(first, 4_000));
    assert!(connection.poll_response(MS).is_ok());
    assert_eq!(connection.throttled_until(), 4_001 * MS);
    assert_eq!(connection.poll_timeout(), Some(TIMEOUT + 4_000 * MS), "it is the broker's wish");
    assert_eq!(connection.handle_timeout(TIMEOUT), Ok(()));
    assert_eq!(connection.throttled_until(), 0, "over");
    let mut greedy = connected(0);
    let id = send(&mut greedy, 0, -1);
    take_written(&mut greedy, 0);
    feed(&mut greedy, 0, &produced(id, i32::MAX));
    assert!(greedy.poll_response(0).is_ok());
    assert_eq!(greedy.throttled_until(), config().throttle_max);
}

#[test]
fn c31_whatever_the_broker_answers_may_throttle() {
    let body = |correlation: i32, throttle_ms: i32, rest: &[u8]| {
        let mut body = correlation.to_be_bytes().to_vec();
        body.push(0);
        body.extend(throttle_ms.to_be_bytes());
        body.extend(rest);
        frame(&body)
    };
    // No brokers, no cluster id, controller 0, no topics, no tags.
    let metadata = (RequestKind::Metadata, 9, &[1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0][..]);
    // No error, id 7, epoch 0, no tags.
    let identity = [0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0];
    let identity = (RequestKind::InitProducerId, 2, &identity[..]);
    for (kind, version, rest) in [metadata, identity] {
        let mut connection = connected(0);
        connection.send_simple(0, kind, version, |_, _| {});
        take_written(&mut connection, 0);
        feed(&mut connection, MS, &body(1, 250, rest));
        let answer = connection.poll_response(MS);
        let known = match kind {
            RequestKind::Metadata => matches!(answer, Ok(Some(Incoming::Metadata(_)))),
            _ => matches!(answer, Ok(Some(Incoming::InitProducerId(_)))),
        };
        assert!(known, "{kind:?}");
        assert_eq!(connection.throttled_until(), 251 * MS, "{kind:?}");
    }
    let mut connection = Connection::new(config(), peer(), 0);
    take_written(&mut connection, 0);
    let mut versions = api_versions(0);
    let throttle = versions.len() - 5;
    versions[throttle..throttle + 4].copy_from_slice(&250_i32.to_be_bytes());
    feed(&mut connection, MS, &versions);
    assert!(matches!(connection.poll_response(MS), Ok(Some(Incoming::Ready))));
    assert_eq!(connection.throttled_until(), 251 * MS);
}

#[test]
fn c31_after_a_throttle_requests_go_one_at_a_time() {
    let mut connection = connected(0);
    assert_eq!(connection.window(), usize::MAX);
    let mut answer = |throttle_ms: i32| {
        let id = send(&mut connection, 0, -1);
        take_written(&mut connection, 0);
        feed(&mut connection, 0, &produced(id, throttle_ms));
        assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Produce(..)))));
        connection.window()
    };
    assert_eq!(answer(0), usize::MAX);
    // Each answer without a throttle makes room for one more request.
    assert_eq!([answer(7), answer(0), answer(0), answer(0)], [1, 2, 3, 4]);
    assert_eq!([answer(0), answer(1)], [5, 1]);
}

#[test]
fn c63_a_throttle_that_the_broker_has_slept_itself_is_not_obeyed_again() {
    let firsts = [
        (RequestKind::Produce { acks: -1 }, 6),
        (RequestKind::Metadata, 6),
        (RequestKind::InitProducerId, 1),
    ];
    for (kind, first) in firsts {
        for version in [first - 1, first] {
            let mut connection = connected(0);
            connection.send_simple(0, kind, version, |_, _| {});
            let behind = send(&mut connection, 0, -1);
            take_written(&mut connection, 0);
            let throttle = 250_i32.to_be_bytes();
            let body = match kind {
                // No partitions; the throttle time comes last.
                RequestKind::Produce { .. } => [&[0; 4][..], &throttle].concat(),
                // No brokers, no cluster id, controller 0, no topics.
                RequestKind::Metadata => {
                    [&throttle[..], &[0; 4], &[255, 255], &[0; 4], &[0; 4]].concat()
                }
                // No error, producer id, epoch.
                _ => [&throttle[..], &[0; 2], &[0; 8], &[0; 2]].concat(),
            };
            feed(&mut connection, MS, &frame(&[&1_i32.to_be_bytes()[..], &body].concat()));
            assert!(matches!(connection.poll_response(MS), Ok(Some(_))), "{kind:?} v{version}");
            let until = if version < first { 0 } else { 251 * MS };
            assert_eq!(connection.throttled_until(), until, "{kind:?} v{version}");
            // Either way the broker did not read what was behind it, and is over its quota.
            assert_eq!(connection.poll_timeout(), Some(TIMEOUT + 250 * MS));
            assert_eq!((connection.window(), behind), (1, 2));
        }
    }
}
