//! Whom the machine asks for what, and what becomes of the answers.

use super::*;
use crate::engine::fetch::tests::{MS, ONE, TWO, snapshot};
use crate::engine::protocol::KeptOffset;

const SECOND: u64 = 1_000 * MS;
const BACKOFF: u64 = 100 * MS;

fn coordinator() -> Coordinator {
    Coordinator::new(Some("g".into()), BACKOFF, 0)
}

fn two() -> std::sync::Arc<ClusterSnapshot> {
    snapshot(&[(0, Some(1), 5)])
}

fn of(partition: i32) -> TopicPartition {
    ("t".into(), PartitionId(partition))
}

fn commit(offset: i64) -> GroupCall {
    GroupCall::Commit([(of(0), offset)].into())
}

/// The broker that is connected to.
fn connect(it: &mut Coordinator, now: u64) -> Option<BrokerId> {
    it.poll_connect(now, &two()).map(|chosen| chosen.0)
}

fn found(error: ErrorCode, broker: BrokerId) -> FindCoordinatorResponse {
    let (throttle_time_ms, host, port) = (0, "found".to_owned(), 9092);
    FindCoordinatorResponse { throttle_time_ms, error, broker, host, port }
}

fn kept(error: ErrorCode) -> OffsetCommitResponse {
    let topics = vec![("t".to_owned(), vec![(PartitionId(0), error)])];
    OffsetCommitResponse { topics, ..Default::default() }
}

fn fetched(partition: i32, error: ErrorCode, offset: i64) -> KeptOffset {
    KeptOffset { partition: PartitionId(partition), error, offset, leader_epoch: 5 }
}

fn asks_to_commit(it: &mut Coordinator, now: u64) -> Option<i64> {
    match it.poll_question(now)? {
        GroupQuestion::Commit(topics) => Some(topics[0].1[0].1),
        other => panic!("{other:?}"),
    }
}

/// One that is connected to its coordinator, 1, and has begun these calls.
fn at_its_coordinator(calls: impl IntoIterator<Item = GroupCall>) -> Coordinator {
    let mut it = coordinator();
    for (id, call) in calls.into_iter().enumerate() {
        it.begin(0, CallId(id as u64), call, SECOND);
    }
    assert_eq!(connect(&mut it, 0), Some(ONE));
    it.handle_ready();
    assert_eq!(it.poll_question(0), Some(GroupQuestion::Find));
    it.handle_found(0, &found(ErrorCode::NONE, ONE));
    assert!(!it.poll_close(), "it is there already");
    it
}

#[test]
fn the_coordinator_is_found_and_connected_to_and_asked() {
    let mut it = coordinator();
    assert_eq!(connect(&mut it, 0), None, "nobody wants anything");
    it.begin(0, CallId(1), commit(7), SECOND);
    assert_eq!(connect(&mut it, 0), Some(ONE));
    assert_eq!((connect(&mut it, 0), it.poll_question(0)), (None, None));
    it.handle_ready();
    assert_eq!(it.poll_question(0), Some(GroupQuestion::Find));
    assert_eq!(it.poll_question(0), None, "one question at a time");
    it.handle_found(0, &found(ErrorCode::NONE, TWO));
    assert!(it.poll_close() && !it.poll_close(), "it is elsewhere");
    let (id, address) = it.poll_connect(0, &two()).expect("at once");
    assert_eq!((id, &*address.host), (TWO, "found"));
    it.handle_ready();
    assert_eq!(asks_to_commit(&mut it, 0), Some(7));
    assert_eq!(it.poll_over(0), None);
    it.handle_committed(0, &kept(ErrorCode::NONE));
    assert_eq!(it.poll_over(0), Some((CallId(1), Ok(None))));
    assert!(it.is_idle());
    // The next call goes the same way, without asking who it is.
    it.begin(0, CallId(2), commit(8), SECOND);
    assert_eq!(asks_to_commit(&mut it, 0), Some(8));
}

#[test]
fn calls_are_asked_in_their_order_and_questions_together() {
    let committed = |partition| GroupCall::Committed(of(partition));
    let calls = [committed(1), committed(0), committed(1), commit(3), committed(0)];
    let mut it = at_its_coordinator(calls);
    let first = vec![("t".into(), vec![PartitionId(0), PartitionId(1)])];
    assert_eq!(it.poll_question(0), Some(GroupQuestion::Fetch(first)));
    let none = ErrorCode::NONE;
    let answer = vec![fetched(0, none, -1), fetched(1, none, 9)];
    let topics = vec![("t".to_owned(), answer)];
    it.handle_fetched(0, &OffsetFetchResponse { topics, ..Default::default() });
    assert_eq!(it.poll_over(0), Some((CallId(0), Ok(Some((9, 5))))));
    assert_eq!(it.poll_over(0), Some((CallId(1), Ok(None))));
    assert_eq!(it.poll_over(0), Some((CallId(2), Ok(Some((9, 5))))));
    assert_eq!(asks_to_commit(&mut it, 0), Some(3));
    it.handle_committed(0, &kept(none));
    assert!(matches!(it.poll_question(0), Some(GroupQuestion::Fetch(_))));
}

#[test]
fn a_coordinator_that_is_lost_or_moved_is_found_again() {
    let mut it = at_its_coordinator([commit(7)]);
    assert_eq!(asks_to_commit(&mut it, 0), Some(7));
    it.handle_committed(0, &kept(ErrorCode::NOT_COORDINATOR));
    assert_eq!((it.poll_question(0), it.poll_timeout(0)), (None, Some(BACKOFF)));
    assert_eq!(it.poll_question(BACKOFF), Some(GroupQuestion::Find), "on the same connection");
    it.handle_found(BACKOFF, &found(ErrorCode::COORDINATOR_NOT_AVAILABLE, BrokerId(-1)));
    assert_eq!(it.poll_question(2 * BACKOFF), Some(GroupQuestion::Find));
    it.handle_found(2 * BACKOFF, &found(ErrorCode::NONE, ONE));
    assert_eq!(asks_to_commit(&mut it, 2 * BACKOFF), Some(7));
    // The coordinator loads its offsets: it stays the coordinator.
    it.handle_committed(2 * BACKOFF, &kept(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    assert_eq!(asks_to_commit(&mut it, 3 * BACKOFF), Some(7));
    // The connection is lost, and others are asked in turn.
    let lost = Problem::new(ProblemKind::Reset, "lost");
    it.handle_down(3 * BACKOFF, &lost);
    assert_eq!(connect(&mut it, 4 * BACKOFF - 1), None);
    let first = connect(&mut it, 4 * BACKOFF).expect("a broker");
    it.handle_down(4 * BACKOFF, &lost);
    let second = connect(&mut it, 5 * BACKOFF).expect("a broker");
    assert_ne!(first, second);
    it.handle_ready();
    assert_eq!(it.poll_question(5 * BACKOFF), Some(GroupQuestion::Find));
    // An answer that leaves the partition out is none.
    it.handle_found(5 * BACKOFF, &found(ErrorCode::NONE, second));
    assert_eq!(asks_to_commit(&mut it, 5 * BACKOFF), Some(7));
    it.handle_committed(5 * BACKOFF, &OffsetCommitResponse::default());
    assert_eq!(it.poll_over(5 * BACKOFF), None);
    let (id, outcome) = it.poll_over(SECOND).expect("its time is over");
    let Err(ConsumeErrorCause::TimedOut { problem: Some(problem), .. }) = outcome else {
        panic!("{outcome:?}")
    };
    let last = ProblemKind::Broker(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!((id, problem.kind()), (CallId(0), last));
    assert_eq!(it.poll_timeout(SECOND), None);
}

#[test]
fn what_asking_again_does_not_mend_is_told() {
    for code in IN_USE {
        let mut it = at_its_coordinator([commit(7)]);
        asks_to_commit(&mut it, 0).expect("it asks");
        it.handle_committed(0, &kept(code));
        let Some((CallId(0), Err(ConsumeErrorCause::GroupInUse(problem)))) = it.poll_over(0) else {
            panic!("{code}")
        };
        assert!(problem.message().starts_with("t-0: "), "{problem}");
    }
    let refuses = |outcome| match outcome {
        Some((_, Err(ConsumeErrorCause::Refused(problem)))) => problem.kind(),
        other => panic!("{other:?}"),
    };
    let denied = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    let mut it = at_its_coordinator([GroupCall::Committed(of(0))]);
    it.poll_question(0).expect("it asks");
    it.handle_fetched(0, &OffsetFetchResponse { error: denied, ..Default::default() });
    assert_eq!(refuses(it.poll_over(0)), ProblemKind::Broker(denied));
    // As the broker says that is asked who the coordinator is.
    let mut it = coordinator();
    it.begin(0, CallId(0), commit(7), SECOND);
    it.begin(0, CallId(1), commit(8), SECOND);
    connect(&mut it, 0);
    it.handle_ready();
    it.poll_question(0);
    it.handle_found(0, &found(denied, BrokerId(-1)));
    assert_eq!(refuses(it.poll_over(0)), ProblemKind::Broker(denied));
    assert_eq!(refuses(it.poll_over(0)), ProblemKind::Broker(denied));
    // Of a partition alone: the others have their answers.
    let denied = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    let mut it = at_its_coordinator([0, 1].map(|index| GroupCall::Committed(of(index))));
    it.poll_question(0);
    let answer = vec![fetched(0, denied, -1), fetched(1, ErrorCode::NONE, 4)];
    let topics = vec![("t".to_owned(), answer)];
    it.handle_fetched(0, &OffsetFetchResponse { topics, ..Default::default() });
    assert_eq!(refuses(it.poll_over(0)), ProblemKind::Broker(denied));
    assert_eq!(it.poll_over(0), Some((CallId(1), Ok(Some((4, 5))))));
}

#[test]
fn without_a_group_and_without_the_apis_calls_end_at_once() {
    let mut it = Coordinator::new(None, BACKOFF, 0);
    it.begin(0, CallId(0), commit(7), SECOND);
    assert_eq!(it.poll_over(0), Some((CallId(0), Err(ConsumeErrorCause::NoGroup))));
    let mut it = at_its_coordinator([commit(7)]);
    it.handle_lacking(&Problem::new(ProblemKind::BrokerTooOld, "no OffsetCommit"));
    assert!(matches!(it.poll_over(0), Some((_, Err(ConsumeErrorCause::Refused(_))))));
}
