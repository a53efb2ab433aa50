//! When another cluster's id is believed, and what follows from it.

use super::tests::{cluster_machine, metadata, topic};
use super::*;
use crate::config::ClusterChange;
use crate::engine::protocol::{
    ErrorCode, InitProducerIdResponse, MetadataResponse, ProducerIdentity, TopicId,
};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const ONE: ChannelId = ChannelId::FIRST;

/// What a broker of a cluster says: "t" is there, with another id in each, led by broker 1.
fn said_by(cluster: &str, brokers: &[i32]) -> MetadataResponse {
    let mut t = topic("t", &[(0, Some(1), 5)]);
    t.id = TopicId([cluster.len() as u8; 16]);
    let cluster_id = Some(cluster.to_owned()).filter(|id| !id.is_empty());
    MetadataResponse { cluster_id, ..metadata(brokers, vec![t]) }
}

/// Who is connected to next, and asked.
fn connect(machine: &mut MetadataMachine, now: u64) -> (ChannelId, String) {
    assert_eq!(machine.poll_close(now), None);
    let (id, address) = machine.poll_connect(now).expect("it has somewhere to go");
    machine.handle_ready(id);
    assert!(machine.poll_query(id, now).is_some());
    (id, address.host.to_string())
}

/// Connected to "boot", of cluster "one", with a producer id; broker 1 is the only one known.
fn at_one(on_cluster_change: ClusterChange) -> MetadataMachine {
    let mut machine = cluster_machine(&["boot"], on_cluster_change);
    machine.handle_wanted(0, "t".into(), Want::Record);
    connect(&mut machine, 0);
    machine.handle_metadata(ONE, 0, &said_by("one", &[1]));
    assert_eq!(machine.poll_query(ONE, 0), Some(MetadataQuery::InitProducerId));
    machine.handle_identity(ONE, 0, &producer_id());
    assert_eq!(machine.snapshot().cluster_id.as_deref(), Some("one"));
    machine
}

/// Both clusters count from the same number.
fn producer_id() -> InitProducerIdResponse {
    let identity = ProducerIdentity { id: 1_000, epoch: 0 };
    InitProducerIdResponse { throttle_time_ms: 0, error: ErrorCode::NONE, identity }
}

/// Cluster "other" answers, by whatever address, until `end`. Returns when it was believed.
fn only_the_other_answers(machine: &mut MetadataMachine, mut now: u64, end: u64) -> Option<u64> {
    while now < end {
        while let Some((id, address)) = machine.poll_connect(now) {
            if &*address.host == "boot" {
                machine.handle_ready(id);
                assert!(machine.poll_query(id, now).is_some());
                machine.handle_metadata(id, now, &said_by("other", &[1]));
                if machine.snapshot().cluster == 1 || machine.changed_to().is_some() {
                    return Some(now);
                }
                assert_eq!(machine.poll_close(now), Some(id), "it is of no use");
            } else {
                machine.handle_down(id, now, "refused".into());
            }
        }
        now = machine.poll_timeout(now).expect("it goes on").max(now + MS);
    }
    None
}

#[test]
fn c48_f41_another_cluster_is_believed_when_no_known_broker_answers() {
    let mut machine = at_one(ClusterChange::Follow);
    let lost = 10 * SECOND;
    machine.handle_refresh_wanted();
    machine.handle_down(ONE, lost, "gone".into());
    let believed = only_the_other_answers(&mut machine, lost, lost + 10 * SECOND);
    let took = believed.expect("it is believed") - lost;
    assert!((100 * MS..2 * SECOND).contains(&took), "{} ms", took / MS);
    let snapshot = machine.snapshot().clone();
    assert_eq!(snapshot.cluster_id.as_deref(), Some("other"));
    assert_eq!(snapshot.topics["t"].id, TopicId([5; 16]), "nothing of the old one is left");
    // Its producer ids are void, and another is asked for.
    assert_eq!((machine.identity(), machine.identity_floor()), (None, 1));
    let now = lost + took;
    let id = ChannelId::ALL.into_iter().find(|&id| machine.is_idle(id)).expect("it is connected");
    assert_eq!(machine.poll_query(id, now), Some(MetadataQuery::InitProducerId));
    machine.handle_identity(id, now, &producer_id());
    assert_eq!((machine.identity_ordinal(), machine.identity_floor()), (2, 1));
    // What the old one's brokers say from now on is foreign.
    machine.handle_refresh_wanted();
    assert!(machine.poll_query(id, now + SECOND).is_some());
    machine.handle_metadata(id, now + SECOND, &said_by("one", &[1]));
    assert_eq!(machine.snapshot().cluster_id.as_deref(), Some("other"));
}

#[test]
fn c48_two_names_on_two_clusters_do_not_make_it_flap() {
    let mut machine = at_one(ClusterChange::Follow);
    for round in 1..20 {
        let now = round * 100 * SECOND;
        machine.handle_refresh_wanted();
        machine.handle_down(ONE, now, "gone".into());
        machine.handle_down(ChannelId::SECOND, now, "gone".into());
        // The broker is away for a moment, and the name leads elsewhere.
        for at in [now, now + 200 * MS] {
            while let Some((id, address)) = machine.poll_connect(at) {
                if &*address.host == "boot" {
                    machine.handle_ready(id);
                    assert!(machine.poll_query(id, at).is_some());
                    machine.handle_metadata(id, at, &said_by("other", &[1]));
                    assert_eq!(machine.poll_close(at), Some(id));
                } else if at == now {
                    machine.handle_down(id, at, "refused".into());
                } else {
                    machine.handle_ready(id);
                    assert!(machine.poll_query(id, at).is_some());
                    machine.handle_metadata(id, at, &said_by("one", &[1]));
                    break;
                }
            }
        }
        assert_eq!(machine.snapshot().cluster, 0, "round {round}");
        assert_eq!(machine.last_problem(), None, "round {round}");
    }
}

#[test]
fn c48_an_empty_id_is_no_evidence() {
    let mut machine = at_one(ClusterChange::Follow);
    for (round, id) in (1..).zip(["", "one", ""]) {
        let now = round * 100 * SECOND;
        machine.handle_refresh_wanted();
        assert!(machine.poll_query(ONE, now).is_some());
        machine.handle_metadata(ONE, now, &said_by(id, &[1]));
        assert_eq!(machine.poll_close(now), None);
        assert_eq!(machine.snapshot().cluster_id.as_deref(), Some("one"));
    }
}

#[test]
fn c48_by_setting_it_does_not_go_on_there() {
    let mut machine = at_one(ClusterChange::Fail);
    let lost = 10 * SECOND;
    machine.handle_refresh_wanted();
    machine.handle_down(ONE, lost, "gone".into());
    let found = only_the_other_answers(&mut machine, lost, lost + 10 * SECOND);
    let now = found.expect("it is found");
    let clusters = ForeignCluster { known: "one".into(), found: "other".into() };
    assert_eq!(machine.changed_to(), Some(&clusters));
    assert_eq!(machine.snapshot().cluster, 0);
    // The old one comes back.
    while let Some(id) = machine.poll_close(now) {
        assert!(ChannelId::ALL.contains(&id));
    }
    let later = now + SECOND;
    let (id, host) = connect(&mut machine, later);
    assert_eq!(host, "broker1", "known brokers are asked first");
    machine.handle_metadata(id, later, &said_by("one", &[1]));
    assert_eq!(machine.changed_to(), None);
}

#[test]
fn c48_no_producer_id_is_taken_from_an_address_that_has_not_shown_its_cluster() {
    let mut machine = at_one(ClusterChange::Fail);
    // A lane used up its epochs, and the connection is lost at the same moment. "boot" is another
    // cluster's address by now.
    machine.handle_identity_wanted(producer_id().identity);
    machine.handle_down(ONE, SECOND, "reset".into());
    let mut now = SECOND;
    let mut asked = 0;
    while now < 10 * SECOND {
        now += 10 * MS;
        let Some((id, _)) = machine.poll_connect(now) else { continue };
        machine.handle_ready(id);
        match machine.poll_query(id, now).expect("it has questions") {
            MetadataQuery::InitProducerId => panic!("a foreign broker was asked for an id"),
            MetadataQuery::Metadata(_) => asked += 1,
        }
        machine.handle_metadata(id, now, &said_by("other", &[1]));
        assert_eq!(machine.poll_close(now), Some(id), "it is of no use");
    }
    assert!(asked > 1 && machine.identity().is_none());
}

#[test]
fn c48_an_error_in_the_place_of_metadata_shows_no_cluster() {
    let mut machine = at_one(ClusterChange::Fail);
    machine.handle_identity_wanted(producer_id().identity);
    machine.handle_down(ONE, SECOND, "reset".into());
    let now = 2 * SECOND;
    connect(&mut machine, now);
    let refused = MetadataResponse { error: ErrorCode::UNKNOWN_SERVER_ERROR, ..said_by("", &[]) };
    machine.handle_metadata(ONE, now, &refused);
    assert!(!matches!(machine.poll_query(ONE, now + SECOND), Some(MetadataQuery::InitProducerId)));
}
