//! Which leader is asked for which offset, and what becomes of the answers.

use super::*;
use crate::engine::fetch::tests::{ABLE, MS, ONE, TWO, config, snapshot};
use crate::engine::fetch::{Abilities, FetchConfig, Question};

const CALL: CallId = CallId(7);
const LED: [(i32, Option<i32>, i32); 2] = [(0, Some(1), 5), (1, Some(1), 6)];

/// A fetcher that reads partition 0 of "t", and is connected to the leader of both, 1.
fn fetcher() -> Fetcher {
    let mut fetcher = Fetcher::new(FetchConfig { retry_backoff: 100 * MS, ..config() }, 7);
    fetcher.want("t".into(), Some(vec![PartitionId(0)]), StartAt::Offset(0));
    fetcher.handle_snapshot(&snapshot(&LED));
    assert_eq!(fetcher.poll_connect(0), Some(ONE));
    fetcher.handle_ready(ONE, ABLE);
    fetcher
}

fn look_up(fetcher: &mut Fetcher, call: CallId, partition: i32, at: StartAt) -> bool {
    let it = ("t".into(), PartitionId(partition));
    fetcher.look_up(0, call, it, at, 1_000 * MS, &snapshot(&LED))
}

/// The partition, epoch and time that a broker is asked for, if it is.
fn asked(fetcher: &mut Fetcher, now: u64, id: BrokerId) -> Option<(i32, i32, i64)> {
    match fetcher.poll_question(now, id, 0)? {
        Question::Offsets(topics) => {
            let [it] = topics[0].1[..] else { panic!("it asks for one: {topics:?}") };
            Some((it.partition.0, it.leader_epoch, it.time))
        }
        Question::Records(..) => None,
    }
}

fn answer(partition: i32, error: ErrorCode, offset: i64) -> ListOffsetsResponse {
    let partition = PartitionId(partition);
    let found = FoundOffset { partition, error, time: -1, offset, leader_epoch: 5 };
    ListOffsetsResponse { topics: vec![("t".to_owned(), vec![found])], ..Default::default() }
}

fn refused(found: Option<(CallId, Found)>) -> Problem {
    match found {
        Some((CALL, Err(ConsumeErrorCause::Refused(problem)))) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_leader_is_asked_before_it_is_for_records_and_its_answer_is_the_calls() {
    for (at, time, offset, found) in [
        (StartAt::Earliest, TIME_EARLIEST, 3, Some(3)),
        (StartAt::Latest, TIME_LATEST, 9, Some(9)),
        (StartAt::Time(77), 77, 5, Some(5)),
        (StartAt::Time(-5), 0, 5, Some(5)),
        (StartAt::Time(i64::MAX), i64::MAX, -1, None),
    ] {
        let mut fetcher = fetcher();
        // A partition that is not read, of a topic that is.
        assert!(!look_up(&mut fetcher, CALL, 1, at));
        assert_eq!(asked(&mut fetcher, 0, ONE), Some((1, 6, time)));
        assert_eq!(fetcher.poll_question(0, ONE, 0), None, "one question at a time");
        assert_eq!(fetcher.poll_found(0), None);
        fetcher.handle_offsets(0, ONE, &answer(1, ErrorCode::NONE, offset));
        assert_eq!(fetcher.poll_found(0), Some((CALL, Ok(found))));
        assert!(matches!(fetcher.poll_question(0, ONE, 0), Some(Question::Records(..))));
    }
    let mut fetcher = fetcher();
    look_up(&mut fetcher, CALL, 0, StartAt::Offset(12));
    assert_eq!(fetcher.poll_found(0), Some((CALL, Ok(Some(12)))));
}

#[test]
fn a_partition_is_named_once_in_a_question() {
    let mut fetcher = fetcher();
    look_up(&mut fetcher, CallId(1), 0, StartAt::Earliest);
    look_up(&mut fetcher, CallId(2), 0, StartAt::Latest);
    assert_eq!(asked(&mut fetcher, 0, ONE), Some((0, 5, TIME_EARLIEST)));
    fetcher.handle_offsets(0, ONE, &answer(0, ErrorCode::NONE, 3));
    assert_eq!(fetcher.poll_found(0), Some((CallId(1), Ok(Some(3)))));
    assert_eq!(fetcher.poll_found(0), None, "it was not asked yet");
    assert_eq!(asked(&mut fetcher, 0, ONE), Some((0, 5, TIME_LATEST)));
}

#[test]
fn errors_of_the_moment_are_waited_out_and_moved_leaders_followed() {
    let mut fetcher = fetcher();
    look_up(&mut fetcher, CALL, 0, StartAt::Latest);
    asked(&mut fetcher, 0, ONE).expect("it is asked");
    fetcher.handle_offsets(0, ONE, &answer(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1));
    assert!(fetcher.take_refresh_wanted());
    assert_eq!(asked(&mut fetcher, 99 * MS, ONE), None);
    fetcher.handle_snapshot(&snapshot(&[(0, Some(2), 6)]));
    assert_eq!(fetcher.poll_connect(0), Some(TWO));
    fetcher.handle_ready(TWO, ABLE);
    assert_eq!(asked(&mut fetcher, 0, TWO), Some((0, 6, TIME_LATEST)), "at once");
    // Its connection is lost, and with it the answer.
    fetcher.handle_down(0, TWO);
    assert_eq!(fetcher.poll_connect(50 * MS), Some(TWO));
    fetcher.handle_ready(TWO, ABLE);
    assert_eq!(asked(&mut fetcher, 50 * MS, TWO), Some((0, 6, TIME_LATEST)));
    // Nor is an answer one that names no offset, or another partition.
    fetcher.handle_offsets(50 * MS, TWO, &answer(0, ErrorCode::NONE, -1));
    assert_eq!(asked(&mut fetcher, 150 * MS, TWO), Some((0, 6, TIME_LATEST)));
    fetcher.handle_offsets(150 * MS, TWO, &answer(4, ErrorCode::NONE, 9));
    assert_eq!(fetcher.poll_found(150 * MS), None);
    assert_eq!(asked(&mut fetcher, 250 * MS, TWO), Some((0, 6, TIME_LATEST)));
    fetcher.handle_offsets(250 * MS, TWO, &answer(0, ErrorCode::NONE, 9));
    assert_eq!(fetcher.poll_found(250 * MS), Some((CALL, Ok(Some(9)))));
}

#[test]
fn an_answer_of_a_leader_from_before_is_worth_nothing() {
    let mut fetcher = fetcher();
    look_up(&mut fetcher, CALL, 0, StartAt::Latest);
    asked(&mut fetcher, 0, ONE).expect("it is asked");
    fetcher.handle_snapshot(&snapshot(&[(0, Some(2), 6)]));
    fetcher.handle_offsets(0, ONE, &answer(0, ErrorCode::NONE, 9));
    assert_eq!(fetcher.poll_found(0), None);
}

#[test]
fn a_call_ends_when_its_time_is_over_and_says_what_stood_in_the_way() {
    let mut fetcher = fetcher();
    fetcher.handle_snapshot(&snapshot(&[(0, None, 7)]));
    let it = ("t".into(), PartitionId(0));
    let unled = snapshot(&[(0, None, 7)]);
    fetcher.look_up(0, CALL, it, StartAt::Latest, 1_000 * MS, &unled);
    assert_eq!(fetcher.poll_timeout(0), Some(1_000 * MS));
    assert_eq!(fetcher.poll_found(1_000 * MS - 1), None);
    let after = std::time::Duration::from_secs(1);
    let Some((CALL, Err(ConsumeErrorCause::TimedOut { after: told, problem: Some(problem) }))) =
        fetcher.poll_found(1_000 * MS)
    else {
        panic!("it ends, with a reason")
    };
    assert_eq!((told, problem.kind()), (after, ProblemKind::NoLeader));
    // One whose leader cannot be reached.
    fetcher.handle_snapshot(&snapshot(&LED));
    look_up(&mut fetcher, CALL, 0, StartAt::Latest);
    let gone = Problem::new(ProblemKind::Refused, "nothing listens");
    fetcher.blame(Some(ONE), &gone);
    let problem = Some(gone);
    let cause = ConsumeErrorCause::TimedOut { after, problem };
    assert_eq!(fetcher.poll_found(1_000 * MS), Some((CALL, Err(cause))));
    assert_eq!(fetcher.poll_timeout(1_000 * MS), None, "nothing is left of it");
}

#[test]
fn what_asking_again_does_not_mend_is_told() {
    let mut fetcher = fetcher();
    look_up(&mut fetcher, CALL, 0, StartAt::Latest);
    asked(&mut fetcher, 0, ONE).expect("it is asked");
    fetcher.handle_offsets(0, ONE, &answer(0, ErrorCode::TOPIC_AUTHORIZATION_FAILED, -1));
    let problem = refused(fetcher.poll_found(0));
    assert_eq!(problem.kind(), ProblemKind::Broker(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert!(look_up(&mut fetcher, CALL, 2, StartAt::Latest), "metadata is to be asked for");
    assert!(refused(fetcher.poll_found(0)).message().contains("2 partitions"));
    // A topic that becomes known, and is smaller than that.
    look_up(&mut fetcher, CALL, 1, StartAt::Latest);
    fetcher.handle_snapshot(&snapshot(&LED[..1]));
    assert!(refused(fetcher.poll_found(0)).message().contains("1 partitions"));
    let other = ("other".into(), PartitionId(0));
    fetcher.look_up(0, CALL, other, StartAt::Latest, MS, &snapshot(&LED));
    assert_eq!(fetcher.poll_found(0), Some((CALL, Err(ConsumeErrorCause::NotRead))));
    look_up(&mut fetcher, CALL, 0, StartAt::Latest);
    let cause = ConsumeErrorCause::Topic(None);
    fetcher.fail_topic("t", &cause);
    assert_eq!(fetcher.poll_found(0), Some((CALL, Err(cause))));
    look_up(&mut fetcher, CALL, 0, StartAt::Latest);
    fetcher.handle_lacking(ONE, &Problem::new(ProblemKind::BrokerTooOld, "no ListOffsets"));
    assert_eq!(refused(fetcher.poll_found(0)).kind(), ProblemKind::BrokerTooOld);
}

#[test]
fn an_old_broker_is_asked_for_ends_and_not_for_times() {
    let mut fetcher = fetcher();
    fetcher.handle_ready(ONE, Abilities::of_versions(2, 0));
    look_up(&mut fetcher, CallId(1), 0, StartAt::Latest);
    look_up(&mut fetcher, CALL, 1, StartAt::Time(5));
    assert_eq!(asked(&mut fetcher, 0, ONE), Some((0, 5, TIME_LATEST)));
    assert!(refused(fetcher.poll_found(0)).message().contains("0.10.1"));
}
