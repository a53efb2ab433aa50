//! When metadata is asked for, of whom, and what is believed.

use std::sync::Arc;

use super::*;
use crate::config::ClusterChange;
use crate::engine::protocol::{
    BrokerId, BrokerMetadata, ErrorCode, MetadataResponse, PartitionId, PartitionMetadata, TopicId,
    TopicMetadata,
};
use crate::error::DeliveryErrorCause;
use crate::problem::Problem;

const MS: u64 = 1_000_000;
const FIRST: ChannelId = ChannelId::FIRST;
pub(crate) const LIMIT: u64 = 30_000 * MS;
const AGE: u64 = 300_000 * MS;

pub(crate) fn machine(bootstrap: &[&str], idempotent: bool) -> MetadataMachine {
    MetadataMachine::new(config(bootstrap, idempotent), 42)
}

/// One that needs a producer id, and what it does about another cluster.
pub(super) fn cluster_machine(bootstrap: &[&str], change: ClusterChange) -> MetadataMachine {
    let config = MetadataConfig { on_cluster_change: change, ..config(bootstrap, true) };
    MetadataMachine::new(config, 42)
}

fn config(bootstrap: &[&str], idempotent: bool) -> MetadataConfig {
    let address = |host: &&str| BrokerAddress { host: (*host).into(), port: 9092 };
    MetadataConfig {
        bootstrap: bootstrap.iter().map(address).collect(),
        age_max: AGE,
        interval_min: 100 * MS,
        leaderless_interval_max: 1_000 * MS,
        topic_unknown_max: LIMIT,
        delivery_timeout: 4 * LIMIT,
        reconnect_backoff: ReconnectBackoff {
            first: 50 * MS,
            longest: 200 * MS,
            quick: 0,
            jitter_percent: 0,
        },
        auto_create: false,
        on_cluster_change: ClusterChange::Follow,
        cluster_change_hold: 100_000_000,
        idempotent,
        idempotence_required: idempotent,
    }
}

pub(crate) fn topic(name: &str, partitions: &[(i32, Option<i32>, i32)]) -> TopicMetadata {
    let partition = |&(index, leader, epoch): &(i32, Option<i32>, i32)| PartitionMetadata {
        error: ErrorCode::NONE,
        partition: PartitionId(index),
        leader: leader.map(BrokerId),
        leader_epoch: epoch,
        replicas: Vec::new(),
        isr: Vec::new(),
    };
    TopicMetadata {
        error: ErrorCode::NONE,
        name: Some(name.to_owned()),
        id: TopicId([1; 16]),
        is_internal: false,
        partitions: partitions.iter().map(partition).collect(),
    }
}

pub(crate) fn metadata(brokers: &[i32], topics: Vec<TopicMetadata>) -> MetadataResponse {
    let broker = |&id: &i32| BrokerMetadata {
        id: BrokerId(id),
        host: format!("broker{id}"),
        port: 9092,
        rack: None,
    };
    let brokers = brokers.iter().map(broker).collect();
    MetadataResponse { brokers, topics, ..Default::default() }
}

pub(super) fn query(names: &[&str]) -> Option<MetadataQuery> {
    asks(names, false)
}

fn asks(names: &[&str], may_create: bool) -> Option<MetadataQuery> {
    let topics = names.iter().map(|&name| name.into()).collect();
    Some(MetadataQuery::Metadata(TopicQuestion { topics, may_create }))
}

/// A machine that is connected and has the topic "t" with these partitions.
fn informed(partitions: &[(i32, Option<i32>, i32)]) -> MetadataMachine {
    let mut machine = machine(&["boot"], false);
    machine.handle_wanted(0, "t".into(), Want::Record);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, 0), query(&["t"]));
    machine.handle_metadata(FIRST, 0, &metadata(&[1, 2], vec![topic("t", partitions)]));
    machine
}

/// The same, where the broker that was asked is the only one.
fn informed_by_the_only_one(partitions: &[(i32, Option<i32>, i32)]) -> MetadataMachine {
    let mut machine = machine(&["broker1"], false);
    machine.handle_wanted(0, "t".into(), Want::Record);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, 0), query(&["t"]));
    machine.handle_metadata(FIRST, 0, &metadata(&[1], vec![topic("t", partitions)]));
    machine
}

fn leader_of(machine: &MetadataMachine, partition: i32) -> (Option<i32>, i32) {
    let view = machine.snapshot().partition("t", PartitionId(partition)).expect("it is known");
    (view.leader.map(|leader| leader.0), view.epoch)
}

#[test]
fn every_bootstrap_address_is_tried_before_the_first_wait() {
    let mut machine = machine(&["a", "b", "c"], false);
    let mut now = 0;
    for wait in [50, 100, 200, 200] {
        let mut tried = Vec::new();
        for _ in 0..3 {
            tried.push(machine.poll_connect(now).expect("one is left").1.host);
            assert_eq!(machine.poll_connect(now), None, "one at a time");
            machine.handle_down(FIRST, now, "refused".into());
        }
        tried.sort();
        assert_eq!(tried, ["a", "b", "c"].map(Arc::<str>::from));
        assert_eq!(machine.poll_connect(now), None);
        assert_eq!(machine.poll_timeout(now), Some(now + wait * MS));
        now += wait * MS;
    }
    assert_eq!(machine.last_problem().map(Problem::message), Some("refused"));
}

#[test]
fn c23_a_lost_broker_is_replaced_by_a_known_one_and_then_by_the_bootstrap_list() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    machine.handle_refresh_wanted();
    machine.handle_down(FIRST, 200 * MS, "gone".into());
    let mut tried = Vec::new();
    while let Some((_, address)) = machine.poll_connect(200 * MS) {
        tried.push(address.host.to_string());
        machine.handle_down(FIRST, 200 * MS, "refused".into());
    }
    assert_eq!(tried.len(), 3);
    assert!(tried[..2].iter().all(|host| host.starts_with("broker")), "{tried:?}");
    assert_eq!(tried[2], "boot");
}

#[test]
fn a_peer_that_only_shakes_hands_is_not_asked_in_a_hot_loop() {
    let mut machine = machine(&["a"], false);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert!(machine.poll_query(FIRST, 0).is_some());
    machine.handle_down(FIRST, 0, "closed".into());
    assert_eq!(machine.poll_connect(0), None);
    assert_eq!(machine.poll_timeout(0), Some(50 * MS));
    machine.poll_connect(50 * MS).expect("after the wait");
    machine.handle_ready(FIRST);
    assert!(machine.poll_query(FIRST, 50 * MS).is_some(), "the lost question is asked again");
    machine.handle_metadata(FIRST, 50 * MS, &metadata(&[1], Vec::new()));
    machine.handle_refresh_wanted();
    machine.handle_down(FIRST, 60 * MS, "closed".into());
    assert!(machine.poll_connect(150 * MS).is_some(), "it answered: no wait");
}

#[test]
fn asks_by_age_on_demand_and_not_more_often_than_the_interval() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    assert_eq!(machine.poll_timeout(0), Some(AGE));
    assert_eq!(machine.poll_query(FIRST, AGE - 1), None);
    assert_eq!(machine.poll_query(FIRST, AGE), query(&["t"]));
    assert_eq!(machine.poll_query(FIRST, AGE), None, "one at a time");
    machine.handle_metadata(FIRST, AGE, &metadata(&[1, 2], Vec::new()));
    machine.handle_refresh_wanted();
    assert_eq!(machine.poll_query(FIRST, AGE + 99 * MS), None);
    assert_eq!(machine.poll_timeout(AGE), Some(AGE + 100 * MS));
    assert!(machine.poll_query(FIRST, AGE + 100 * MS).is_some());
    // What is wanted while a question is on its way is asked after it.
    machine.handle_wanted(AGE + 150 * MS, "new".into(), Want::Record);
    machine.handle_metadata(FIRST, AGE + 160 * MS, &metadata(&[1, 2], Vec::new()));
    assert_eq!(machine.poll_query(FIRST, AGE + 200 * MS), query(&["new"]), "alone");
}

#[test]
fn a_connection_that_is_closed_while_idle_makes_the_machine_look_whether_anyone_is_left() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    assert_eq!(machine.poll_timeout(1_000 * MS), Some(AGE));
    machine.handle_down(FIRST, 1_000 * MS, "closed".into());
    // Whatever closes connections after each answer makes it ask every 5 s, not all the time.
    assert_eq!(machine.poll_timeout(1_000 * MS), Some(5_000 * MS));
    assert_eq!(machine.poll_connect(4_999 * MS), None);
    let mut now = 5_000 * MS;
    machine.poll_connect(now).expect("the answer is old enough");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, now), query(&["t"]));
    machine.handle_metadata(FIRST, now, &metadata(&[1, 2], Vec::new()));
    assert_eq!(machine.poll_timeout(now), Some(now + AGE), "someone was there");
    now += 60_000 * MS;
    machine.handle_down(FIRST, now, "closed".into());
    assert!(machine.poll_timeout(now).is_some_and(|at| at <= now), "the answer is old: at once");
    // Nobody is there: it goes on until somebody answers.
    for _ in 0..3 {
        machine.poll_connect(now).expect("one is left");
        machine.handle_down(FIRST, now, "refused".into());
    }
    let next = machine.poll_timeout(now).expect("it tries again");
    assert!(now < next && next <= now + 200 * MS, "{} ms", (next - now) / MS);
    assert_eq!(machine.last_problem().map(Problem::message), Some("refused"));
}

#[test]
fn a_partition_without_leader_is_asked_about_every_100_ms() {
    let mut machine = informed_by_the_only_one(&[(0, Some(1), 1), (1, None, 3)]);
    for round in 1..5 {
        let now = round * 100 * MS;
        assert_eq!(machine.poll_timeout(now), Some(now));
        assert!(machine.poll_query(FIRST, now).is_some());
        machine.handle_metadata(FIRST, now, &metadata(&[1], Vec::new()));
    }
    let led = topic("t", &[(1, Some(1), 4)]);
    machine.handle_metadata(FIRST, 500 * MS, &metadata(&[1], vec![led]));
    assert_eq!(machine.poll_timeout(500 * MS), Some(500 * MS + AGE));
}

#[test]
fn c18_an_unknown_topic_fails_after_its_limit_and_not_before() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    machine.handle_wanted(10, "ghost".into(), Want::Record);
    let mut ghost = topic("ghost", &[]);
    ghost.error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    machine.handle_metadata(FIRST, 10, &metadata(&[1], vec![ghost]));
    assert_eq!(machine.poll_unknown(LIMIT + 9), []);
    let failed = machine.poll_unknown(LIMIT + 10);
    let [UnknownTopic { topic, came_before, cause }] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!((&**topic, *came_before), ("ghost", 11));
    let DeliveryErrorCause::UnknownTopic { last: Some(last), .. } = cause else {
        panic!("{cause:?}");
    };
    assert!(last.message().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{last}");
    assert_eq!(machine.poll_unknown(2 * LIMIT), [], "told once");
}

#[test]
fn a_topic_that_may_not_be_seen_fails_at_once() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    machine.handle_wanted(10, "secret".into(), Want::Record);
    let mut secret = topic("secret", &[]);
    secret.error = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    machine.handle_metadata(FIRST, 20, &metadata(&[1], vec![secret]));
    let failed = machine.poll_unknown(20);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].came_before, u64::MAX);
    let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    assert_eq!(failed[0].cause, DeliveryErrorCause::Broker { code, message: None });
}

#[test]
fn c16_older_epochs_are_ignored_and_c13_nothing_known_vanishes() {
    let mut machine = informed(&[(0, Some(1), 5), (1, Some(2), 5)]);
    let stale = topic("t", &[(0, Some(2), 4), (1, Some(1), 6)]);
    machine.handle_metadata(FIRST, 1, &metadata(&[1, 2], vec![stale]));
    assert_eq!((leader_of(&machine, 0), leader_of(&machine, 1)), ((Some(1), 5), (Some(1), 6)));
    let mut gone = topic("t", &[]);
    gone.error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    machine.handle_metadata(FIRST, 2, &metadata(&[1, 2], vec![gone]));
    machine.handle_metadata(FIRST, 3, &metadata(&[], vec![topic("t", &[(0, Some(1), 7)])]));
    assert_eq!((leader_of(&machine, 0), leader_of(&machine, 1)), ((Some(1), 7), (Some(1), 6)));
    assert_eq!(machine.snapshot().brokers.len(), 2);
}

#[test]
fn c19_a_recreated_topic_starts_over_even_if_a_broker_between_tells_no_id() {
    let mut machine = informed(&[(0, Some(1), 50)]);
    let mut without_id = topic("t", &[(0, Some(1), 50)]);
    without_id.id = TopicId::ZERO;
    machine.handle_metadata(FIRST, 1, &metadata(&[1, 2], vec![without_id]));
    let mut recreated = topic("t", &[(0, Some(2), 0)]);
    recreated.id = TopicId([2; 16]);
    machine.handle_metadata(FIRST, 2, &metadata(&[1, 2], vec![recreated]));
    assert_eq!(leader_of(&machine, 0), (Some(2), 0));
}

#[test]
fn c19_the_topic_that_was_replaced_does_not_come_back() {
    let mut machine = informed(&[(0, Some(1), 50)]);
    let of_id = |id: u8, leader: i32, epoch: i32| {
        let mut topic = topic("t", &[(0, Some(leader), epoch)]);
        topic.id = TopicId([id; 16]);
        metadata(&[1, 2], vec![topic])
    };
    machine.handle_metadata(FIRST, 1, &of_id(2, 2, 0));
    machine.handle_metadata(FIRST, 2, &of_id(3, 1, 4));
    // A broker that is cut off from the others still tells of the one that was deleted.
    machine.handle_metadata(FIRST, 3, &of_id(2, 2, 9));
    assert_eq!(leader_of(&machine, 0), (Some(1), 4));
    assert_eq!(machine.snapshot().topics["t"].id, TopicId([3; 16]));
}

#[test]
fn c15_a_hint_counts_if_it_is_newer_and_says_where() {
    let mut machine = informed(&[(0, Some(1), 5)]);
    let before = machine.take_snapshot().expect("there is news");
    let mut hint = LeaderHint {
        topic: "t".into(),
        topic_id: TopicId::ZERO,
        partition: PartitionId(0),
        leader: BrokerId(9),
        epoch: 6,
        address: None,
    };
    machine.handle_hint(&hint);
    assert!(machine.take_snapshot().is_none(), "nobody knows where 9 is");
    hint.address = Some(BrokerAddress { host: "nine".into(), port: 1 });
    machine.handle_hint(&hint);
    let after = machine.take_snapshot().expect("there is news");
    assert!(after.generation > before.generation);
    assert_eq!(leader_of(&machine, 0), (Some(9), 6));
    assert_eq!(after.brokers[&BrokerId(9)].to_string(), "nine:1");
    for (epoch, partition) in [(6, 0), (5, 0), (7, 1), (7, -1)] {
        machine.handle_hint(&LeaderHint {
            leader: BrokerId(1),
            epoch,
            partition: PartitionId(partition),
            ..hint.clone()
        });
        assert!(machine.take_snapshot().is_none(), "epoch {epoch} of partition {partition}");
    }
}

#[test]
fn c19_a_hint_about_a_deleted_topic_says_nothing_of_its_successor() {
    let mut machine = informed(&[(0, Some(1), 5)]);
    let mut hint = LeaderHint {
        topic: "t".into(),
        topic_id: machine.snapshot().topics["t"].id,
        partition: PartitionId(0),
        leader: BrokerId(2),
        epoch: 9,
        address: None,
    };
    assert!(!hint.topic_id.is_zero());
    let mut recreated = topic("t", &[(0, Some(1), 0)]);
    recreated.id = TopicId([2; 16]);
    machine.handle_metadata(FIRST, 1, &metadata(&[1, 2], vec![recreated]));
    machine.handle_hint(&hint);
    assert_eq!(leader_of(&machine, 0), (Some(1), 0));
    hint.topic_id = TopicId([2; 16]);
    machine.handle_hint(&hint);
    assert_eq!(leader_of(&machine, 0), (Some(2), 9));
}

#[test]
fn c19_partitions_that_a_recreated_topic_lacks_are_asked_for() {
    let mut machine = informed(&[(0, Some(1), 5), (1, Some(2), 5)]);
    let mut recreated = topic("t", &[(0, Some(1), 0)]);
    recreated.id = TopicId([2; 16]);
    machine.handle_refresh_wanted();
    machine.poll_query(FIRST, 100 * MS).expect("it is time");
    machine.handle_metadata(FIRST, 100 * MS, &metadata(&[1, 2], vec![recreated.clone()]));
    assert_eq!(leader_of(&machine, 1), (None, -1));
    assert_eq!(machine.snapshot().topics["t"].count, 1);
    assert_eq!(machine.poll_query(FIRST, 200 * MS), query(&["t"]));
    let mut grown = topic("t", &[(0, Some(1), 0), (1, Some(1), 0)]);
    grown.id = recreated.id;
    machine.handle_metadata(FIRST, 200 * MS, &metadata(&[1, 2], vec![grown]));
    assert_eq!(leader_of(&machine, 1), (Some(1), 0));
    assert_eq!(machine.snapshot().topics["t"].count, 2);
    assert_eq!(machine.poll_query(FIRST, 10_000 * MS), None);
}

#[test]
fn a_missing_leader_is_asked_for_the_more_seldom_the_longer_it_is_missing() {
    let mut machine = informed_by_the_only_one(&[(0, None, 5)]);
    let (mut now, mut waits) = (0, Vec::new());
    while now < 15_000 * MS {
        let next = machine.poll_timeout(now).expect("it goes on asking");
        waits.push(next - now);
        now = next;
        assert_eq!(machine.poll_query(FIRST, now), query(&["t"]));
        machine.handle_metadata(FIRST, now, &metadata(&[1], vec![topic("t", &[(0, None, 5)])]));
    }
    assert_eq!(waits[..10], [100 * MS; 10]);
    assert!(waits.is_sorted(), "{waits:?}");
    assert_eq!(waits.last(), Some(&(1_000 * MS)));
    // The next loss of a leader begins anew, also while this one is missing still.
    now += 1_000 * MS;
    machine.handle_refresh_wanted();
    assert_eq!(machine.poll_query(FIRST, now), query(&["t"]));
    let both = topic("t", &[(0, None, 5), (1, None, 5)]);
    machine.handle_metadata(FIRST, now, &metadata(&[1], vec![both]));
    assert_eq!(machine.poll_timeout(now), Some(now + 100 * MS));
    for leader in [Some(1), None] {
        now += 1_000 * MS;
        machine.handle_refresh_wanted();
        assert_eq!(machine.poll_query(FIRST, now), query(&["t"]));
        machine.handle_metadata(FIRST, now, &metadata(&[1], vec![topic("t", &[(0, leader, 6)])]));
    }
    assert_eq!(machine.poll_timeout(now), Some(now + 100 * MS));
}

#[test]
fn lies_are_not_believed() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    let lies = vec![
        topic("t", &[(0, Some(77), 2), (i32::MAX, Some(1), 1), (-1, Some(1), 1)]),
        topic("far", &[(1_000_000, Some(1), 1)]),
    ];
    let mut response = metadata(&[1, 2, -5], lies);
    response.brokers.push(BrokerMetadata {
        id: BrokerId(3),
        host: String::new(),
        port: 1,
        rack: None,
    });
    machine.handle_metadata(FIRST, 1, &response);
    assert_eq!(leader_of(&machine, 0), (None, 2), "a leader nobody can reach is none");
    let snapshot = machine.snapshot();
    assert_eq!(snapshot.topics["t"].partitions.len(), 1);
    assert!(!snapshot.topics.contains_key("far"), "a topic without partitions is not known");
    let brokers: Vec<_> = snapshot.brokers.keys().map(|id| id.0).collect();
    assert_eq!(brokers, [1, 2]);
}

#[test]
fn what_changes_nothing_is_not_published() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    assert!(machine.take_snapshot().is_some());
    machine.handle_metadata(FIRST, 1, &metadata(&[1, 2], vec![topic("t", &[(0, Some(1), 1)])]));
    assert!(machine.take_snapshot().is_none());
}

#[test]
fn c23_rebootstrap_required_goes_back_to_the_bootstrap_list() {
    let mut machine = machine(&["seed"], false);
    machine.poll_connect(0).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, 0), query(&[]));
    machine.handle_metadata(FIRST, 0, &metadata(&[1, 2, 3], Vec::new()));
    assert!(machine.wants_rebootstrap().is_none());
    // Later the broker belongs to the cluster no longer.
    assert_eq!(machine.poll_query(FIRST, AGE), query(&[]));
    let error = ErrorCode::REBOOTSTRAP_REQUIRED;
    machine.handle_metadata(FIRST, AGE, &MetadataResponse { error, ..Default::default() });
    assert!(machine.wants_rebootstrap().is_some());
    machine.handle_down(FIRST, AGE, "closed for it".into());
    let later = AGE + 100 * MS;
    let (_, next) = machine.poll_connect(later).expect("the list");
    assert_eq!(&*next.host, "seed", "and none of the brokers that were known");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, later), query(&[]));
    machine.handle_metadata(FIRST, later, &metadata(&[7], Vec::new()));
    assert!(machine.wants_rebootstrap().is_none());
    assert!(machine.last_problem().is_none());
}

#[test]
fn f26_topics_that_nobody_wants_are_not_kept() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    let invented = |n: usize| topic(&format!("invented {n}"), &[(0, None, 1)]);
    for round in 0..10 {
        let topics = (0..100).map(|n| invented(100 * round + n)).collect();
        machine.handle_metadata(FIRST, MS, &metadata(&[1, 2], topics));
    }
    assert_eq!(machine.snapshot().topics.len(), 1);
    assert_eq!(machine.poll_timeout(MS), Some(MS + AGE), "their leaders are nobody's concern");
    assert_eq!(leader_of(&machine, 0), (Some(1), 1));
}

#[test]
fn c18_while_nobody_can_be_asked_a_topic_is_not_called_unknown() {
    let mut machine = machine(&["a"], false);
    machine.handle_wanted(10, "t".into(), Want::Record);
    machine.poll_connect(10).expect("it has somewhere to go");
    machine.handle_down(FIRST, 20, "refused".into());
    assert_eq!(machine.poll_unknown(10 + 2 * LIMIT), []);
    let timeout = 4 * LIMIT;
    assert_eq!(machine.poll_unknown(10 + timeout - 1), []);
    let failed = machine.poll_unknown(10 + timeout);
    let [UnknownTopic { came_before: 11, cause, .. }] = &failed[..] else { panic!("{failed:?}") };
    let DeliveryErrorCause::TimedOut { last: Some(last), .. } = cause else { panic!("{cause:?}") };
    assert!(last.message().contains("refused"), "{last}");

    // The limit begins with the first answer that says so.
    machine.handle_wanted(timeout, "t".into(), Want::Record);
    machine.poll_connect(2 * timeout).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
    assert_eq!(machine.poll_query(FIRST, 2 * timeout), query(&["t"]));
}

#[test]
fn a_topic_that_is_new_is_asked_for_at_once() {
    let mut machine = informed(&[(0, Some(1), 1)]);
    let now = 10 * MS;
    machine.handle_wanted(now, "new".into(), Want::Record);
    assert_eq!(machine.poll_timeout(now).map(|at| at <= now), Some(true));
    assert_eq!(machine.poll_query(FIRST, now), query(&["new"]), "alone, whatever the interval");
    let mut unknown = topic("new", &[]);
    unknown.error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    machine.handle_metadata(FIRST, now, &metadata(&[1], vec![unknown]));
    assert_eq!(machine.poll_query(FIRST, now), None, "the second time it keeps to the interval");
}

/// When each of a hundred machines whose broker refuses everybody tries it for the `nth` time.
fn dials(nth: usize) -> Vec<u64> {
    let second = 1_000 * MS;
    let reconnect_backoff = ReconnectBackoff {
        first: 50 * MS,
        longest: second,
        quick: 30 * second,
        jitter_percent: crate::config::JITTER_PERCENT,
    };
    let config = MetadataConfig { reconnect_backoff, ..machine(&["boot"], false).config().clone() };
    let dial = |seed: u64| {
        let mut machine = MetadataMachine::new(config.clone(), seed.wrapping_mul(0x9E37_79B9));
        let mut now = 0;
        for _ in 1..nth {
            machine.poll_connect(now).expect("it is time");
            machine.handle_down(FIRST, now, "refused".into());
            now = machine.poll_timeout(now).expect("it is tried again");
        }
        now
    };
    (1..=100).map(dial).collect()
}

#[test]
fn c65_f52_clients_that_lost_the_same_broker_come_back_spread() {
    // No tenth of the wait sees more than a third of them.
    let densest = |times: &[u64], wait: u64| {
        let count =
            |from: u64| times.iter().filter(move |&&at| (from..from + wait / 10).contains(&at));
        times.iter().map(|&from| count(from).count()).max().expect("there are some")
    };
    let second = dials(2);
    assert!(second.iter().all(|at| (40 * MS..=60 * MS).contains(at)), "{second:?}");
    assert!(densest(&second, 50 * MS) < 45, "{second:?}");
    let tenth = dials(10);
    assert!(densest(&tenth, 200 * MS) < 34, "{tenth:?}");
    // Half a minute later each waits a second.
    let (one, next) = (dials(200), dials(201));
    for (one, next) in one.iter().zip(&next) {
        assert!(*one > 30_000 * MS && (800 * MS..=1_200 * MS).contains(&(next - one)));
    }
    assert!(densest(&next, 1_000 * MS) < 34, "{next:?}");
}

#[test]
fn c65_what_another_connection_found_wanting_is_passed_over_until_it_may_be_tried() {
    let mut machine = machine(&["a", "b"], false);
    let dial =
        |machine: &mut MetadataMachine, now| machine.poll_connect(now).map(|(_, it)| it.host);
    let first = dial(&mut machine, 0).expect("it has somewhere to go");
    machine.handle_postponed(FIRST, 0, 70 * MS, "refused".into());
    let second = dial(&mut machine, 0).expect("the other one is tried at once");
    assert_ne!(first, second);
    machine.handle_postponed(FIRST, 0, 80 * MS, "refused".into());
    assert_eq!(machine.last_problem().map(Problem::message), Some("refused"));
    assert_eq!((dial(&mut machine, 79 * MS), machine.poll_timeout(0)), (None, Some(80 * MS)));
    assert!(dial(&mut machine, 80 * MS).is_some());
}
