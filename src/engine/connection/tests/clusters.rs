//! Before a connection is ready its broker is asked for its cluster.

use super::*;

/// ApiVersions v4: ApiVersions 0–4, Produce 3 and Metadata 0–`max`.
fn with_metadata(max: u8) -> Vec<u8> {
    let mut body = 0_i32.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.push(4);
    body.extend([0, 0, 0, 3, 0, 3, 0]);
    body.extend([0, 3, 0, 0, 0, max, 0]);
    body.extend([0, 18, 0, 0, 0, 4, 0]);
    body.extend([0, 0, 0, 0, 0]);
    frame(&body)
}

/// Metadata v2 of no broker and no topic, of this cluster.
fn metadata(cluster: Option<&str>) -> Vec<u8> {
    let mut body = 1_i32.to_be_bytes().to_vec();
    body.extend(0_i32.to_be_bytes());
    body.extend(cluster.map_or(-1, |id| id.len() as i16).to_be_bytes());
    body.extend(cluster.unwrap_or_default().as_bytes());
    body.extend((-1_i32).to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    frame(&body)
}

fn asked(cluster: Option<&str>, metadata_max: u8) -> (Connection, Option<Incoming>) {
    let mut connection = Connection::new(config(), peer(), 0).of_cluster(cluster.map(Arc::from));
    take_written(&mut connection, 0);
    feed(&mut connection, 0, &with_metadata(metadata_max));
    let incoming = connection.poll_response(0).expect("a good response");
    (connection, incoming)
}

#[test]
fn c48_a_broker_of_another_cluster_is_not_spoken_to() {
    for (told, is_right) in
        [(Some("mine"), true), (Some("other"), false), (Some(""), true), (None, true)]
    {
        let (mut connection, incoming) = asked(Some("mine"), 2);
        assert!(matches!(incoming, Some(Incoming::Pending)) && !connection.is_ready());
        let (bytes, _) = take_written(&mut connection, 0);
        // Metadata v2, the second request; no topics.
        assert_eq!(bytes[4..12], [0, 3, 0, 2, 0, 0, 0, 1]);
        assert_eq!(bytes[bytes.len() - 4..], [0; 4]);
        feed(&mut connection, 0, &metadata(told));
        if is_right {
            assert!(matches!(connection.poll_response(0), Ok(Some(Incoming::Ready))), "{told:?}");
            assert!(connection.is_ready() && !connection.has_answered());
        } else {
            let problem = error(&mut connection, 0);
            assert!(problem.contains("other") && problem.contains("mine"), "{problem}");
            assert!(!connection.is_ready());
        }
    }
}

#[test]
fn c48_where_no_cluster_is_known_or_none_is_told_nothing_is_asked() {
    for (cluster, metadata_max) in [(None, 2), (Some("mine"), 1)] {
        let (connection, incoming) = asked(cluster, metadata_max);
        assert!(matches!(incoming, Some(Incoming::Ready)));
        assert!(connection.is_ready() && !connection.wants_write());
    }
}
