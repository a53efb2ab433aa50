//! Peers that take ApiVersions in some versions only, and refuse others in ways of their own.

use super::*;

/// What becomes of ApiVersions in a version that the peer does not like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    InvalidRequest,
    Reset,
    Silence,
}

/// The proxy refuses ApiVersions above `newest`.
fn refuse_above(proxy: &Proxy, newest: i16, refusal: Refusal) {
    proxy.script(move |frame| {
        if frame.api_key != api::API_VERSIONS || frame.version <= newest {
            return Act::Pass;
        }
        match (frame.direction, refusal) {
            (Direction::Request, Refusal::Silence) => Act::Mute,
            (Direction::Response, Refusal::InvalidRequest) => {
                // In the layout of v0, INVALID_REQUEST and no ranges.
                let correlation = frame.correlation.to_be_bytes();
                Act::Replace([&[0, 0, 0, 10][..], &correlation, &[0, 42, 0, 0, 0, 0]].concat())
            }
            (Direction::Response, Refusal::Reset) => Act::CutAt(0),
            _ => Act::Pass,
        }
    });
}

#[test]
fn c64_refused_versions_of_api_versions_are_followed_by_older_ones() {
    for refusal in [Refusal::InvalidRequest, Refusal::Reset, Refusal::Silence] {
        for newest in [3, 2, 0] {
            let stage = Stage::new(1, 1);
            refuse_above(stage.proxy(1), newest, refusal);
            let builder = stage.builder().delivery_timeout(LONG).request_timeout(LONG / 2);
            let timeout = if refusal == Refusal::Silence { millis(300) } else { LONG };
            let producer = builder
                .configure(|c| {
                    (c.connection_setup_timeout, c.connection_setup_timeout_max) =
                        (timeout, timeout);
                })
                .build()
                .unwrap();
            let topic = producer.topic("t").unwrap();
            let sent = (0..10).map(|n| send(&topic, 0, format!("{refusal:?} {n}"))).collect();
            stage.judge_all_acked(sent);
        }
    }
}

#[test]
fn c64_a_peer_that_refuses_every_version_may_be_older_than_0_10() {
    for refusal in [Refusal::Reset, Refusal::Silence] {
        let stage = Stage::new(1, 1);
        refuse_above(stage.proxy(1), -1, refusal);
        let builder = stage.builder().delivery_timeout(secs(8)).request_timeout(secs(5));
        let producer = builder
            .configure(|c| {
                (c.connection_setup_timeout, c.connection_setup_timeout_max) =
                    (millis(100), millis(100));
            })
            .build()
            .unwrap();
        let error = failed(producer.topic("t").unwrap().send((), "x").unwrap());
        let text = error.to_string();
        assert!(text.contains("a broker older than 0.10?"), "{refusal:?}: {text}");
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
}

#[test]
fn c26_bytes_that_are_left_over_in_a_frame_are_ignored() {
    let stage = Stage::new(1, 1);
    let mut surplus = 0;
    stage.proxy(1).script(move |frame| {
        if frame.direction == Direction::Request {
            return Act::Pass;
        }
        surplus = surplus % 100 + 1;
        let mut bytes = [frame.bytes, &vec![0xee; surplus]].concat();
        let size = (bytes.len() - 4) as i32;
        bytes[..4].copy_from_slice(&size.to_be_bytes());
        Act::Replace(bytes)
    });
    let producer = stage.producer();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let accepted = stage.proxy(1).seen().accepted;
    let sent = (0..50).map(|n| send(&topic, 0, n.to_string())).collect();
    stage.judge_all_acked(sent);
    assert_eq!(stage.proxy(1).seen().accepted, accepted, "no connection was given up");
}
