//! Topics come and go: what is asked about them, how often, and what is believed.

use std::sync::Arc;

use super::tests::{LIMIT, machine, metadata, topic};
use super::*;
use crate::engine::protocol::{BrokerId, ErrorCode, PartitionId, TopicId, TopicMetadata};
use crate::error::DeliveryErrorCause;
use crate::problem::{Problem, ProblemKind};

const FIRST: ChannelId = ChannelId::FIRST;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const AGE: u64 = 300 * SECOND;

fn unknown(name: &str) -> TopicMetadata {
    let error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    TopicMetadata { error, ..topic(name, &[]) }
}

/// As brokers before 2.8 tell of a topic.
fn without_id(partitions: &[(i32, Option<i32>, i32)]) -> TopicMetadata {
    TopicMetadata { id: TopicId::ZERO, ..topic("t", partitions) }
}

fn connect(machine: &mut MetadataMachine, now: u64) {
    machine.poll_connect(now).expect("it has somewhere to go");
    machine.handle_ready(FIRST);
}

/// The topics that are asked about, and whether they may be created.
fn asked(machine: &mut MetadataMachine, now: u64) -> Option<(Vec<String>, bool)> {
    match machine.poll_query(FIRST, now)? {
        MetadataQuery::Metadata(question) => {
            let names = question.topics.iter().map(|name| name.to_string());
            Some((names.collect(), question.may_create))
        }
        MetadataQuery::InitProducerId => panic!("no id is needed"),
    }
}

/// A machine that knows these topics, with one partition each.
fn knows(names: &[&str], auto_create: bool) -> MetadataMachine {
    let mut machine = machine(&["broker1"], false);
    machine.set_auto_create(auto_create);
    for &name in names {
        machine.handle_wanted(0, name.into(), Want::Record);
    }
    connect(&mut machine, 0);
    assert_eq!(asked(&mut machine, 0).expect("it asks").0.len(), names.len());
    let topics = names.iter().map(|name| topic(name, &[(0, Some(1), 1)])).collect();
    machine.handle_metadata(FIRST, 0, &metadata(&[1], topics));
    machine.take_arrived();
    machine.take_snapshot();
    machine
}

#[test]
fn c19_an_answer_that_was_given_before_a_topic_was_created_again_changes_nothing() {
    let mut machine = knows(&["t"], false);
    let id = |id: u8, epoch| TopicMetadata {
        id: TopicId([id; 16]),
        ..topic("t", &[(0, Some(1), epoch)])
    };
    machine.handle_metadata(FIRST, 10, &metadata(&[1, 2], vec![id(2, 0)]));
    let new = machine.snapshot().topics["t"].clone();
    machine.handle_metadata(FIRST, 20, &metadata(&[1, 2], vec![id(1, 1)]));
    assert!(Arc::ptr_eq(&machine.snapshot().topics["t"], &new));
    machine.handle_metadata(FIRST, 30, &metadata(&[1, 2], vec![id(3, 0)]));
    assert_eq!(machine.snapshot().topics["t"].id, TopicId([3; 16]));
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn c62_a_topic_may_be_created_only_while_a_record_waits_for_it() {
    let mut machine = knows(&["a"], true);
    machine.handle_wanted(10, "handle".into(), Want::Handle);
    assert_eq!(asked(&mut machine, 10), Some((strings(&["handle"]), false)));
    machine.handle_metadata(FIRST, 10, &metadata(&[1], vec![unknown("handle")]));
    // Nothing waits: it is not asked about again, neither now nor with the others.
    assert_eq!(asked(&mut machine, 60 * SECOND), None);
    assert_eq!(asked(&mut machine, AGE), Some((strings(&["a"]), false)), "known ones, never");
    machine.handle_metadata(FIRST, AGE, &metadata(&[1], vec![topic("a", &[(0, Some(1), 1)])]));
    machine.handle_wanted(AGE + 1, "record".into(), Want::Record);
    machine.handle_wanted(AGE + 2, "other".into(), Want::Handle);
    assert_eq!(asked(&mut machine, AGE + 2), Some((strings(&["record"]), true)));
    machine.handle_metadata(FIRST, AGE + 3, &metadata(&[1], vec![unknown("record")]));
    assert_eq!(asked(&mut machine, AGE + 3), Some((strings(&["other"]), false)));
}

#[test]
fn c62_a_record_that_comes_after_the_handle_asks_again_with_permission() {
    for auto_create in [true, false] {
        let mut machine = knows(&[], auto_create);
        machine.handle_wanted(10, "t".into(), Want::Handle);
        assert_eq!(asked(&mut machine, 10), Some((strings(&["t"]), false)));
        machine.handle_wanted(20, "t".into(), Want::Record);
        machine.handle_metadata(FIRST, 30, &metadata(&[1], vec![unknown("t")]));
        let now = if auto_create { 30 } else { 10 + 100 * MS };
        assert_eq!(asked(&mut machine, now), Some((strings(&["t"]), auto_create)));
    }
}

#[test]
fn c59_a_name_that_never_existed_is_forgotten_once_nothing_waits_for_it() {
    let mut machine = knows(&["a"], false);
    machine.handle_wanted(10, "ghost".into(), Want::Record);
    let (mut now, mut questions) = (10, 0);
    while now < LIMIT + 10 {
        if let Some(question) = asked(&mut machine, now) {
            assert_eq!(question, (strings(&["ghost"]), false));
            machine.handle_metadata(FIRST, now, &metadata(&[1], vec![unknown("ghost")]));
            questions += 1;
        }
        assert!(machine.poll_suspicious(now).len() <= 1);
        now = machine.poll_timeout(now).expect("it is asked about again").max(now + 1);
        assert_eq!(machine.poll_unknown(now).len(), usize::from(now >= LIMIT + 10));
    }
    assert!(questions < 60, "the more seldom the longer it is unknown: {questions}");
    assert_eq!(machine.poll_timeout(now), Some(AGE));
    assert_eq!(asked(&mut machine, AGE), Some((strings(&["a"]), false)));
}

#[test]
fn f54_a_topic_that_stays_unknown_is_gone_and_c13_one_that_comes_back_goes_on() {
    for back in [false, true] {
        let mut machine = knows(&["a", "b"], false);
        let before = machine.snapshot().topics["a"].clone();
        machine.handle_refresh_wanted();
        assert!(asked(&mut machine, 100 * MS).is_some());
        let others = topic("b", &[(0, Some(1), 1)]);
        let both = vec![unknown("a"), others];
        machine.handle_metadata(FIRST, 100 * MS, &metadata(&[1], both));
        // It is asked about alone, until its time is over.
        let mut now = 100 * MS;
        while let Some(at) = machine.poll_timeout(now).filter(|&at| at < 100 * MS + LIMIT) {
            now = at;
            assert_eq!(asked(&mut machine, now), Some((strings(&["a"]), false)));
            assert_eq!(machine.poll_unknown(now), []);
            let last = back && now > 20 * SECOND;
            let answer = if last { topic("a", &[(0, Some(1), 1)]) } else { unknown("a") };
            machine.handle_metadata(FIRST, now, &metadata(&[1], vec![answer]));
        }
        let unknown = machine.poll_unknown(100 * MS + LIMIT);
        if back {
            assert_eq!(unknown, []);
            assert!(Arc::ptr_eq(&machine.snapshot().topics["a"], &before), "nothing has changed");
            continue;
        }
        let [UnknownTopic { topic, cause, .. }] = &unknown[..] else { panic!("{unknown:?}") };
        assert_eq!(&**topic, "a");
        assert!(matches!(cause, DeliveryErrorCause::UnknownTopic { .. }), "{cause:?}");
        let snapshot = machine.take_snapshot().expect("that is news");
        assert_eq!(snapshot.topics.keys().map(|name| &**name).collect::<Vec<_>>(), ["b"]);
        assert_eq!(asked(&mut machine, AGE + SECOND), Some((strings(&["b"]), false)));
    }
}

#[test]
fn c62_a_deleted_topic_is_created_again_only_if_a_record_waits_in_its_lane() {
    let mut machine = knows(&["a"], true);
    machine.handle_refresh_wanted();
    assert_eq!(asked(&mut machine, 100 * MS), Some((strings(&["a"]), false)));
    machine.handle_metadata(FIRST, 100 * MS, &metadata(&[1, 2], vec![unknown("a")]));
    assert_eq!(asked(&mut machine, 200 * MS), Some((strings(&["a"]), false)));
    machine.handle_metadata(FIRST, 200 * MS, &metadata(&[1, 2], vec![unknown("a")]));
    machine.handle_wanted(210 * MS, "a".into(), Want::Lane);
    assert_eq!(asked(&mut machine, 300 * MS), Some((strings(&["a"]), true)));
}

#[test]
fn c59_a_topic_that_is_not_used_is_not_asked_about_until_it_is_wanted_again() {
    let mut machine = knows(&["a", "b"], false);
    machine.handle_unused(&"a".into());
    assert_eq!(asked(&mut machine, AGE), Some((strings(&["b"]), false)));
    machine.handle_metadata(FIRST, AGE, &metadata(&[1, 2], vec![topic("b", &[(0, Some(1), 1)])]));
    assert!(machine.snapshot().topics.contains_key("a"), "its lanes keep what they know");
    assert!(!machine.handle_wanted(AGE + 1, "a".into(), Want::Record));
    assert_eq!(asked(&mut machine, AGE + 1), Some((strings(&["a"]), false)));
    machine.handle_metadata(
        FIRST,
        AGE + 2,
        &metadata(&[1, 2], vec![topic("a", &[(0, Some(1), 1)])]),
    );
    let asked_at = AGE + 1;
    let arrived = Arrived { topic: "a".into(), asked_at };
    assert_eq!(machine.take_arrived(), [arrived], "although nothing has changed");
    machine.handle_refresh_wanted();
    assert_eq!(asked(&mut machine, 2 * AGE), Some((strings(&["a", "b"]), false)));
}

#[test]
fn c60_a_partition_that_is_not_known_is_asked_for_although_its_topic_is() {
    let mut machine = knows(&["a", "b"], false);
    assert!(machine.handle_wanted(10, "a".into(), Want::Record), "that is known");
    // A question is on its way already: its answer may be older than the partition.
    machine.handle_refresh_wanted();
    assert!(asked(&mut machine, 100 * MS).is_some());
    assert!(!machine.handle_wanted(101 * MS, "a".into(), Want::Partition));
    let old = || vec![topic("a", &[(0, Some(1), 1)])];
    machine.handle_metadata(FIRST, 102 * MS, &metadata(&[1, 2], old()));
    assert!(machine.take_arrived().is_empty());
    assert_eq!(asked(&mut machine, 102 * MS), Some((strings(&["a"]), false)));
    machine.handle_metadata(FIRST, 103 * MS, &metadata(&[1, 2], old()));
    let arrived = Arrived { topic: "a".into(), asked_at: 102 * MS };
    assert_eq!(machine.take_arrived(), [arrived], "and that is the answer, whatever it says");
}

#[test]
fn c60_what_waits_for_a_partition_fails_in_the_end_if_nobody_answers() {
    let mut machine = knows(&["a"], false);
    machine.handle_wanted(10, "a".into(), Want::Partition);
    machine.handle_down(FIRST, 20, "gone".into());
    assert_eq!(machine.poll_unknown(10 + 4 * LIMIT - 1), []);
    let failed = machine.poll_unknown(10 + 4 * LIMIT);
    assert!(matches!(
        &failed[..],
        [UnknownTopic { cause: DeliveryErrorCause::TimedOut { .. }, .. }]
    ));
    assert!(machine.snapshot().topics.contains_key("a"), "nobody says that it is gone");
}

fn told(machine: &mut MetadataMachine, now: u64, partitions: &[(i32, Option<i32>, i32)]) {
    machine.handle_metadata(FIRST, now, &metadata(&[1, 2], vec![without_id(partitions)]));
}

/// Known to have four partitions in epoch 5, by brokers that tell no ids.
fn without_ids() -> MetadataMachine {
    let mut machine = machine(&["boot"], false);
    machine.handle_wanted(0, "t".into(), Want::Record);
    connect(&mut machine, 0);
    machine.poll_query(FIRST, 0).expect("it asks");
    told(&mut machine, 0, &[0, 1, 2, 3].map(|index| (index, Some(1), 5)));
    machine
}

fn seen(machine: &MetadataMachine) -> (i32, i32) {
    let view = &machine.snapshot().topics["t"];
    (view.count, view.partitions[0].epoch)
}

#[test]
fn c58_fewer_partitions_or_a_lower_epoch_are_believed_when_they_have_stood_for_a_while() {
    for partitions in [&[(0, Some(2), 5)][..], &[0, 1, 2, 3].map(|index| (index, Some(2), 0))] {
        let mut machine = without_ids();
        let first = machine.snapshot().topics["t"].incarnation;
        let expected = (partitions.len() as i32, partitions[0].2);
        for (now, believed) in
            [(1, false), (2, false), (3, false), (4_999, false), (5_001, true), (6_000, true)]
        {
            told(&mut machine, now * MS, partitions);
            let now_seen = seen(&machine);
            assert_eq!(now_seen, if believed { expected } else { (4, 5) }, "after {now} ms");
        }
        let leader = machine.snapshot().partition("t", PartitionId(0)).and_then(|p| p.leader);
        assert_eq!(leader, Some(BrokerId(2)));
        // Sequences start over by this.
        assert_ne!(machine.snapshot().topics["t"].incarnation, first);
    }
}

#[test]
fn c58_a_broker_that_lags_behind_is_not_believed() {
    let mut machine = without_ids();
    for round in 0..100 {
        told(&mut machine, 2 * round * SECOND, &[(0, Some(2), 4)]);
        // It has caught up, or another one answers.
        let now = (2 * round + 1) * SECOND;
        told(&mut machine, now, &[0, 1, 2, 3].map(|index| (index, Some(1), 5)));
        assert_eq!(seen(&machine), (4, 5));
    }
}

#[test]
fn c58_a_second_broker_that_says_the_same_is_believed_at_once() {
    let mut machine = without_ids();
    told(&mut machine, 1, &[(0, Some(2), 0)]);
    assert_eq!(seen(&machine), (4, 5));
    machine.handle_refresh_wanted();
    machine.handle_down(FIRST, 100 * MS, "closed".into());
    // From the bootstrap server to one of the brokers.
    connect(&mut machine, 100 * MS);
    told(&mut machine, 101 * MS, &[(0, Some(2), 0)]);
    assert_eq!(seen(&machine), (1, 0));
}

#[test]
fn c58_a_topic_that_was_gone_is_another_one_where_nobody_tells_ids() {
    let mut machine = without_ids();
    let first = machine.snapshot().topics["t"].incarnation;
    let gone = TopicMetadata { id: TopicId::ZERO, ..unknown("t") };
    machine.handle_metadata(FIRST, 1, &metadata(&[1, 2], vec![gone]));
    // The other broker may say otherwise, but is not asked here.
    assert_eq!(machine.poll_unknown(1 + LIMIT + 2 * SECOND).len(), 1);
    machine.handle_wanted(2 * LIMIT, "t".into(), Want::Record);
    machine.handle_refresh_wanted();
    machine.poll_query(FIRST, 2 * LIMIT).expect("it asks");
    told(&mut machine, 2 * LIMIT, &[(0, Some(1), 0)]);
    assert_eq!(seen(&machine), (1, 0));
    assert_ne!(machine.snapshot().topics["t"].incarnation, first);
}

#[test]
fn c17_what_an_absent_broker_led_has_no_leader_although_only_other_topics_are_described() {
    let mut machine = knows(&["a", "b"], false);
    machine.handle_wanted(10, "c".into(), Want::Record);
    assert_eq!(asked(&mut machine, 10), Some((strings(&["c"]), false)));
    machine.handle_metadata(FIRST, 20, &metadata(&[2], vec![topic("c", &[(0, Some(2), 1)])]));
    let leader = |name| machine.snapshot().partition(name, PartitionId(0)).expect("known").leader;
    assert_eq!(["a", "b", "c"].map(leader), [None, None, Some(BrokerId(2))]);
    assert_eq!(asked(&mut machine, 110 * MS), Some((strings(&["a", "b"]), false)), "who leads now");
}

#[test]
fn c59_partitions_that_a_recreated_topic_lacks_are_forgotten_after_a_while() {
    let mut machine = machine(&["boot"], false);
    machine.handle_wanted(0, "t".into(), Want::Record);
    connect(&mut machine, 0);
    machine.poll_query(FIRST, 0).expect("it asks");
    let before = topic("t", &[(0, Some(1), 1), (1, Some(1), 1)]);
    machine.handle_metadata(FIRST, 0, &metadata(&[1], vec![before]));
    let after = TopicMetadata { id: TopicId([2; 16]), ..topic("t", &[(0, Some(1), 0)]) };
    machine.handle_metadata(FIRST, 10, &metadata(&[1], vec![after]));
    let partitions = |machine: &MetadataMachine| machine.snapshot().topics["t"].partitions.len();
    assert_eq!(machine.poll_unknown(10 + LIMIT - 1), []);
    assert_eq!(partitions(&machine), 2, "a broker may not have heard of all");
    assert_eq!(machine.poll_unknown(10 + LIMIT), []);
    assert_eq!(partitions(&machine), 1);
    assert_eq!(
        machine.poll_timeout(10 + LIMIT),
        Some(10 + AGE),
        "nobody is asked about them any more"
    );
}

#[test]
fn f50_topics_that_become_known_one_by_one_are_asked_about_once_each() {
    const TOPICS: usize = 5_000;
    let mut machine = knows(&[], false);
    let mut names_sent = 0;
    for n in 0..TOPICS {
        let name = format!("topic-{n}");
        let now = n as u64 * MS;
        machine.handle_wanted(now, name.as_str().into(), Want::Record);
        let (names, _) = asked(&mut machine, now).expect("it asks at once");
        names_sent += names.len();
        let described = names.iter().map(|name| topic(name, &[(0, Some(1), 1)])).collect();
        machine.handle_metadata(FIRST, now, &metadata(&[1, 2], described));
        let arrived = machine.take_arrived();
        assert_eq!(arrived.len(), 1);
        let (before, after) = (machine.snapshot().clone(), machine.take_snapshot());
        assert_eq!(before.topics.len(), after.expect("news").topics.len());
    }
    assert_eq!(names_sent, TOPICS);
}

#[test]
fn an_answer_about_all_topics_is_a_refresh_with_news_or_without() {
    let mut machine = knows(&["t"], false);
    let before = machine.refreshes();
    let same = || vec![topic("t", &[(0, Some(1), 1)])];
    for refreshes in 1..=3 {
        machine.handle_metadata(FIRST, 10 * MS, &metadata(&[1], same()));
        assert_eq!(machine.refreshes(), before + refreshes);
    }
    // What is asked about alone leaves the others as they are.
    machine.handle_wanted(500 * MS, "new".into(), Want::Record);
    assert_eq!(asked(&mut machine, 1_000 * MS), Some((vec!["new".to_owned()], false)));
    let answer = metadata(&[1], vec![topic("new", &[(0, Some(1), 1)])]);
    machine.handle_metadata(FIRST, 1_001 * MS, &answer);
    assert_eq!(machine.refreshes(), before + 3);
}

/// A machine that may create the topic `new`, for which a record waits since `at`, and which a
/// broker called unknown then.
fn creates(at: u64) -> MetadataMachine {
    let mut machine = knows(&["a"], true);
    machine.handle_wanted(at, "new".into(), Want::Record);
    machine.set_creatable("new");
    assert_eq!(machine.poll_creatable(at).1, [], "no broker has said that it is not there");
    // The client creates it: brokers must not, with settings of their own.
    assert_eq!(asked(&mut machine, at), Some((strings(&["new"]), false)));
    machine.handle_metadata(FIRST, at, &metadata(&[1], vec![unknown("new")]));
    machine
}

#[test]
fn a_topic_is_created_once_and_then_asked_about_at_once() {
    let mut machine = creates(10);
    assert!(machine.poll_timeout(10).is_some_and(|at| at <= 10));
    assert_eq!(machine.poll_creatable(10).1, ["new".into()]);
    // While the cluster creates it, it is neither asked for twice nor given up as unknown. Another
    // topic waits until a broker has called it unknown.
    machine.handle_wanted(10, "other".into(), Want::Record);
    machine.set_creatable("other");
    assert_eq!(machine.poll_creatable(LIMIT).1, []);
    assert_eq!(machine.poll_unknown(10 + 2 * LIMIT), []);
    machine.handle_created("new", 1, Ok(()));
    machine.handle_creation_over(1);
    assert_eq!(asked(&mut machine, 20), Some((strings(&["new", "other"]), false)));
    // A broker that has not heard of it is asked again, and the cluster is not.
    machine.handle_metadata(FIRST, 20, &metadata(&[1], vec![unknown("new"), unknown("other")]));
    assert_eq!(machine.poll_creatable(10 * SECOND).1, ["other".into()]);
    machine.handle_metadata(FIRST, 30, &metadata(&[1], vec![topic("new", &[(0, Some(1), 1)])]));
    assert!(machine.take_arrived().iter().any(|arrived| &*arrived.topic == "new"));
}

#[test]
fn what_waits_for_a_topic_that_is_refused_fails_and_the_next_attempt_is_a_second_later() {
    let mut machine = creates(10);
    assert_eq!(machine.poll_creatable(10).1, ["new".into()]);
    let refusal = || Problem::new(ProblemKind::Broker(ErrorCode(44)), "not like this");
    machine.handle_created("new", 1, Err(refusal()));
    machine.handle_creation_over(1);
    let failed = machine.poll_unknown(20);
    let [UnknownTopic { topic, came_before, cause }] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!((&**topic, *came_before), ("new", u64::MAX));
    assert_eq!(*cause, DeliveryErrorCause::TopicNotCreated(refusal()));
    // Another record comes.
    machine.handle_wanted(30, "new".into(), Want::Record);
    machine.set_creatable("new");
    assert!(asked(&mut machine, SECOND).is_some());
    machine.handle_metadata(FIRST, SECOND, &metadata(&[1], vec![unknown("new")]));
    assert_eq!(machine.poll_creatable(SECOND).1, []);
    assert_eq!(machine.poll_creatable(SECOND + 10).1, ["new".into()]);
}

#[test]
fn no_topic_is_created_for_a_handle_or_for_lanes_of_a_deleted_one() {
    let mut machine = knows(&["a"], false);
    for (name, why) in [("handle", Want::Handle), ("a", Want::Lane)] {
        machine.handle_wanted(10, name.into(), why);
        machine.set_creatable(name);
    }
    while asked(&mut machine, SECOND).is_some() {
        let missing = vec![unknown("handle"), unknown("a")];
        machine.handle_metadata(FIRST, SECOND, &metadata(&[1], missing));
        assert_eq!(machine.poll_creatable(SECOND).1, []);
    }
}
