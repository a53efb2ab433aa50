//! Producer ids that are denied, or that brokers know nothing of.

use super::tests::{machine, metadata};
use super::*;
use crate::engine::protocol::{BrokerId, ErrorCode, InitProducerIdResponse, ProducerIdentity};
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
            assert!(denied.contains("IdempotentWrite") && denied.contains("enable_idempotence"));
        }
    }
    assert!((5..=10).contains(&asked), "{asked} times in 20 s");
}

#[test]
fn c66_a_producer_id_that_no_broker_can_give_is_denied_when_all_were_asked() {
    let (mut machine, first) = knows_brokers(&[1, 2, 3]);
    let (mut now, mut peer, mut visited) = (0, first, Vec::new());
    loop {
        assert_eq!(machine.poll_query(FIRST, now), Some(MetadataQuery::InitProducerId));
        visited.push(peer.clone());
        if !machine.handle_identity_lacking(FIRST, now, peer) {
            break;
        }
        assert!(machine.identity_denied().is_none(), "others may have it");
        machine.handle_down(FIRST, now, "it lacks that".into());
        now += 1_000 * MS;
        peer = machine.poll_connect(now).expect("others are there").1;
        machine.handle_ready(FIRST);
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
