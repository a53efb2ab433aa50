//! Producer ids: used up, refused for a while, denied, or unknown to brokers.

use super::tests::{machine, metadata, query};
use super::*;
use crate::config::ClusterChange;
use crate::engine::protocol::{
    BrokerId, ErrorCode, InitProducerIdResponse, MetadataResponse, ProducerIdentity,
};
use crate::error::DeliveryErrorCause;

const MS: u64 = 1_000_000;
const FIRST: ChannelId = ChannelId::FIRST;

fn identity(id: i64, error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        throttle_time_ms: 0,
        error,
        identity: ProducerIdentity { id, epoch: 0 },
    }
}

/// A machine that has metadata of these brokers, on a connection to the first.
fn knows_brokers(ids: &[i32]) -> (MetadataMachine, BrokerAddress) {
    let mut machine = machine(&["a"], true);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert!(machine.poll_query(FIRST, 0).is_some());
    machine.handle_metadata(FIRST, 0, &metadata(ids, Vec::new()));
    let first = machine.snapshot().brokers[&BrokerId(ids[0])].clone();
    (machine, first)
}

/// The channel is connected anew: metadata comes first there, and then an id is asked for.
fn connect_and_ask(machine: &mut MetadataMachine, now: u64, ids: &[i32]) -> BrokerAddress {
    let peer = machine.poll_connect(now).expect("others are there").1;
    machine.handle_ready(FIRST);
    assert!(matches!(machine.poll_query(FIRST, now), Some(MetadataQuery::Metadata(_))));
    machine.handle_metadata(FIRST, now, &metadata(ids, Vec::new()));
    assert_eq!(machine.poll_query(FIRST, now), Some(MetadataQuery::InitProducerId));
    peer
}

#[test]
fn c66_a_denied_producer_id_is_asked_for_with_growing_pauses() {
    let (mut machine, _) = knows_brokers(&[1]);
    let mut asked = 0;
    for now in (0..20_000).map(|tick| tick * MS) {
        if machine.poll_query(FIRST, now) == Some(MetadataQuery::InitProducerId) {
            asked += 1;
            machine.handle_identity(
                FIRST,
                now,
                &identity(-1, ErrorCode::CLUSTER_AUTHORIZATION_FAILED),
            );
            let denied = machine.identity_denied().expect("it was refused").to_string();
            assert!(denied.contains("IdempotentWrite") && denied.contains("enable.idempotence"));
        }
    }
    assert!((5..=10).contains(&asked), "{asked} times in 20 s");
}

#[test]
fn c66_a_producer_id_that_no_broker_can_give_is_denied_when_all_were_asked() {
    let (mut machine, first) = knows_brokers(&[1, 2, 3]);
    let (mut now, mut peer, mut visited) = (0, first, Vec::new());
    assert_eq!(machine.poll_query(FIRST, now), Some(MetadataQuery::InitProducerId));
    loop {
        visited.push(peer.clone());
        if !machine.handle_identity_lacking(FIRST, now, peer) {
            break;
        }
        assert!(machine.identity_denied().is_none(), "others may have it");
        machine.handle_down(FIRST, now, "it lacks that".into());
        now += 1_000 * MS;
        peer = connect_and_ask(&mut machine, now, &[1, 2, 3]);
    }
    visited.sort();
    visited.dedup();
    assert_eq!(visited.len(), 3, "each once");
    assert!(matches!(machine.identity_denied(), Some(DeliveryErrorCause::BrokerTooOld(_))));
    // It is not asked for again at once, and goes on as soon as one has been upgraded.
    assert_eq!(machine.poll_query(FIRST, now), None);
    now += 20_000 * MS;
    assert_eq!(machine.poll_query(FIRST, now), Some(MetadataQuery::InitProducerId));
    machine.handle_identity(FIRST, now, &identity(7, ErrorCode::NONE));
    assert!(machine.identity_denied().is_none() && machine.identity().is_some());
}

/// When an id has come that brokers take so long to give, and how often one was asked for.
fn id_that_takes(millis: u64, ids: &[i32]) -> Option<(u64, u32)> {
    let (mut machine, _) = knows_brokers(ids);
    let mut owed: Vec<(ChannelId, u64, MetadataQuery)> = Vec::new();
    let mut asked = 0;
    for now in (0..120_000).map(|tick| tick * MS) {
        while let Some(id) = machine.poll_close(now) {
            owed.retain(|(channel, ..)| *channel != id);
        }
        if let Some((id, _)) = machine.poll_connect(now) {
            machine.handle_ready(id);
        }
        for id in ChannelId::ALL {
            let Some(query) = machine.poll_query(id, now) else { continue };
            let is_id = query == MetadataQuery::InitProducerId;
            asked += u32::from(is_id);
            owed.push((id, now + if is_id { millis } else { 20 } * MS, query));
        }
        while let Some(at) = owed.iter().position(|(_, at, _)| *at <= now) {
            let (id, _, query) = owed.remove(at);
            if query == MetadataQuery::InitProducerId {
                machine.handle_identity(id, now, &identity(7, ErrorCode::NONE));
                return Some((now / MS, asked));
            }
            machine.handle_metadata(id, now, &metadata(ids, Vec::new()));
        }
    }
    None
}

#[test]
fn c51_a_producer_id_that_takes_its_time_is_waited_for() {
    for millis in [100, 900, 1_100, 1_500, 3_000, 10_000] {
        for ids in [&[1][..], &[1, 2, 3]] {
            let (came, asked) = id_that_takes(millis, ids).expect("it comes");
            assert!(came <= millis + 100 && asked <= 20, "{millis}, {ids:?}: {came}, {asked}");
        }
    }
}

#[test]
fn an_identity_that_is_refused_does_not_keep_metadata_from_being_asked() {
    let mut machine = machine(&["a"], true);
    machine.handle_wanted(0, "t".into(), Want::Record);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, 0), query(&["t"]), "metadata comes first");
    machine.handle_metadata(FIRST, 0, &metadata(&[1], Vec::new()));
    let mut asked = (0, 0);
    for tick in 0..100 {
        let now = tick * 10 * MS;
        match machine.poll_query(FIRST, now) {
            Some(MetadataQuery::InitProducerId) => {
                asked.0 += 1;
                let refused = identity(-1, ErrorCode::COORDINATOR_NOT_AVAILABLE);
                machine.handle_identity(FIRST, now, &refused);
            }
            Some(MetadataQuery::Metadata(_)) => {
                asked.1 += 1;
                machine.handle_metadata(FIRST, now, &metadata(&[1], Vec::new()));
            }
            None => {}
        }
    }
    assert!(asked.0 >= 9 && asked.1 >= 9, "{asked:?}");
    assert!(asked.0 <= 11 && asked.1 <= 11, "{asked:?}");
    assert!(
        machine.last_problem().is_some_and(|p| p.message().contains("COORDINATOR_NOT_AVAILABLE"))
    );
}

#[test]
fn c02_a_used_up_identity_is_replaced_once() {
    let mut machine = machine(&["a"], true);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert!(machine.poll_query(FIRST, 0).is_some());
    machine.handle_metadata(FIRST, 0, &metadata(&[1], Vec::new()));
    assert_eq!(machine.poll_query(FIRST, 0), Some(MetadataQuery::InitProducerId));
    machine.handle_identity(FIRST, 0, &identity(7, ErrorCode::NONE));
    let first = machine.identity().expect("it was granted");
    machine.handle_identity_wanted(ProducerIdentity { id: 6, epoch: i16::MAX });
    assert_eq!(machine.identity(), Some(first), "that one was replaced before");
    machine.handle_identity_wanted(ProducerIdentity { id: 7, epoch: i16::MAX });
    assert_eq!(machine.identity(), None);
    assert_eq!(machine.poll_query(FIRST, 1), Some(MetadataQuery::InitProducerId));
    machine.handle_identity(FIRST, 1, &identity(8, ErrorCode::NONE));
    assert_eq!(machine.identity().map(|identity| identity.id), Some(8));
}

#[test]
fn a_refused_producer_id_does_not_keep_topics_from_being_asked_for() {
    let mut machine = MetadataMachine::new(
        MetadataConfig {
            bootstrap: vec![BrokerAddress { host: "host".into(), port: 9092 }],
            age_max: 1_000_000,
            interval_min: 100,
            leaderless_interval_max: 1_000,
            topic_unknown_max: 100_000,
            delivery_timeout: 400_000,
            reconnect_backoff: ReconnectBackoff {
                first: 50,
                longest: 200,
                quick: 0,
                jitter_percent: 0,
            },
            auto_create: false,
            on_cluster_change: ClusterChange::Follow,
            cluster_change_hold: 100_000_000,
            idempotent: true,
            idempotence_required: true,
        },
        1,
    );
    assert!(machine.poll_connect(0).is_some());
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, 0), query(&[]), "lanes need leaders first");
    machine.handle_metadata(FIRST, 1, &MetadataResponse::default());
    machine.handle_wanted(1, "orders".into(), Want::Record);
    let refused = InitProducerIdResponse {
        throttle_time_ms: 0,
        error: ErrorCode::COORDINATOR_NOT_AVAILABLE,
        identity: ProducerIdentity::NONE,
    };
    let mut asked = Vec::new();
    for now in 1..1_000 {
        match machine.poll_query(FIRST, now) {
            Some(MetadataQuery::InitProducerId) => {
                asked.push("id");
                machine.handle_identity(FIRST, now, &refused);
            }
            Some(MetadataQuery::Metadata(topics)) => {
                asked.push("topics");
                assert_eq!(topics.topics.len(), 1);
                machine.handle_metadata(FIRST, now, &MetadataResponse::default());
            }
            None => {}
        }
    }
    let topics = asked.iter().filter(|asked| **asked == "topics").count();
    let ids = asked.len() - topics;
    assert!((8..=10).contains(&topics) && (8..=10).contains(&ids), "{asked:?}");
}

#[test]
fn c66_a_producer_does_without_an_id_that_no_broker_can_give_unless_one_is_required() {
    let (mut machine, first) = knows_brokers(&[1, 2]);
    machine.config.idempotence_required = false;
    assert_eq!(machine.poll_query(FIRST, 0), Some(MetadataQuery::InitProducerId));
    assert!(machine.handle_identity_lacking(FIRST, 0, first), "another may have it");
    assert!(!machine.is_without_identity());
    machine.handle_down(FIRST, 0, "it lacks that".into());
    let now = 1_000 * MS;
    let second = connect_and_ask(&mut machine, now, &[1, 2]);
    assert!(!machine.handle_identity_lacking(FIRST, now, second), "both lack it");
    assert!(machine.is_without_identity() && machine.identity_denied().is_none());
    // Upgraded.
    let now = 400_000 * MS;
    while machine.poll_query(FIRST, now) != Some(MetadataQuery::InitProducerId) {
        machine.handle_metadata(FIRST, now, &metadata(&[1, 2], Vec::new()));
    }
    machine.handle_identity(FIRST, now, &identity(7, ErrorCode::NONE));
    assert!(!machine.is_without_identity());
}

#[test]
fn c66_a_broker_that_says_that_it_can_give_an_id_is_asked_for_it() {
    let (mut machine, first) = knows_brokers(&[1]);
    machine.config.idempotence_required = false;
    assert_eq!(machine.poll_query(FIRST, 0), Some(MetadataQuery::InitProducerId));
    assert!(!machine.handle_identity_lacking(FIRST, 0, first), "there is no other");
    assert!(machine.is_without_identity());
    // On a shard's connection to it.
    machine.handle_identity_possible(1);
    assert!(machine.is_without_identity(), "records do not wait for the answer");
    assert_eq!(machine.poll_query(FIRST, 1), Some(MetadataQuery::InitProducerId));
    machine.handle_identity(FIRST, 1, &identity(7, ErrorCode::NONE));
    assert!(!machine.is_without_identity() && machine.identity().is_some());
}

#[test]
fn c64_a_broker_that_is_taken_for_an_old_one_shows_that_with_metadata_before_an_id_is_asked_for() {
    let (mut machine, _) = knows_brokers(&[1]);
    machine.handle_down(FIRST, 0, "restarted".into());
    let now = 1_000 * MS;
    machine.poll_connect(now).expect("it is tried again");
    machine.handle_ready(FIRST);
    assert!(matches!(machine.poll_query(FIRST, now), Some(MetadataQuery::Metadata(_))));
    machine.handle_metadata(FIRST, now, &metadata(&[1], Vec::new()));
    assert_eq!(machine.poll_query(FIRST, now), Some(MetadataQuery::InitProducerId));
}

#[test]
fn c66_a_broker_that_cannot_be_reached_does_not_hold_up_the_decision() {
    let (mut machine, first) = knows_brokers(&[1, 2]);
    machine.config.idempotence_required = false;
    assert!(machine.handle_identity_lacking(FIRST, 0, first.clone()), "the other may have it");
    assert!(!machine.handle_identity_lacking(FIRST, 0, first.clone()), "it was not to be had");
    assert!(machine.is_without_identity());
    assert!(!machine.handle_identity_lacking(FIRST, 0, first), "no other one is asked for it");
}
