//! When a second broker is asked, and which one is kept.

use super::tests::{LIMIT, machine, metadata, topic};
use super::*;
use crate::engine::protocol::ErrorCode;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const ONE: ChannelId = ChannelId::FIRST;
const TWO: ChannelId = ChannelId::SECOND;

/// Connected to "boot", which has answered: "t" is led by broker 1 of three.
fn informed() -> MetadataMachine {
    let mut machine = machine(&["boot"], false);
    machine.handle_wanted(0, "t".into(), Want::Record);
    assert_eq!(machine.poll_connect(0).expect("it has somewhere to go").0, ONE);
    machine.handle_ready(ONE);
    assert!(machine.poll_query(ONE, 0).is_some());
    answer(&mut machine, ONE, 0, 1);
    machine
}

/// A broker says that so far the leader's epoch is this.
fn answer(machine: &mut MetadataMachine, id: ChannelId, now: u64, epoch: i32) {
    let partitions = [(0, Some(1), epoch)];
    machine.handle_metadata(id, now, &metadata(&[1, 2, 3], vec![topic("t", &partitions)]));
}

/// Lanes are in trouble, and the broker is asked.
fn ask(machine: &mut MetadataMachine, id: ChannelId, now: u64) {
    machine.handle_refresh_wanted();
    assert!(machine.poll_query(id, now).is_some(), "at {} ms", now / MS);
}

#[test]
fn c51_f44_a_broker_that_hangs_is_asked_beside_another_after_a_second() {
    let mut machine = informed();
    let start = 10 * SECOND;
    ask(&mut machine, ONE, start);
    assert_eq!(machine.poll_connect(start + SECOND - 1), None);
    assert_eq!(machine.poll_timeout(start), Some(start + SECOND));
    let (id, address) = machine.poll_connect(start + SECOND).expect("another");
    assert_eq!(id, TWO);
    assert_ne!(&*address.host, "boot");
    machine.handle_ready(TWO);
    assert!(machine.poll_query(TWO, start + SECOND).is_some(), "it is asked the same");
    assert_eq!(machine.poll_close(start + SECOND), None, "the first is kept meanwhile");
    answer(&mut machine, TWO, start + SECOND + MS, 2);
    assert_eq!(machine.poll_close(start + SECOND + MS), Some(ONE));
    assert_eq!(machine.poll_close(start + SECOND + MS), None);
    // From now on the second is the one that is asked, and has a second as well.
    let later = start + 20 * SECOND;
    ask(&mut machine, TWO, later);
    assert_eq!(machine.poll_query(ONE, later), None);
    assert_eq!(machine.poll_connect(later + SECOND).expect("another").0, ONE);
}

#[test]
fn c51_an_attempt_to_connect_that_hangs_has_one_beside_it_too() {
    let mut machine = machine(&["a", "b"], false);
    let (id, first) = machine.poll_connect(0).expect("it has somewhere to go");
    assert_eq!((id, machine.poll_timeout(0)), (ONE, Some(SECOND)));
    let (id, second) = machine.poll_connect(SECOND).expect("another");
    assert_eq!(id, TWO);
    assert_ne!(first, second);
    assert_eq!(machine.poll_connect(SECOND), None, "two at the most");
    machine.handle_ready(TWO);
    assert!(machine.poll_query(TWO, SECOND).is_some());
    answer(&mut machine, TWO, SECOND, 1);
    assert_eq!(machine.poll_close(SECOND), Some(ONE));
}

#[test]
fn c51_a_slow_link_loses_no_answer_and_is_not_asked_twice_each_time() {
    let mut machine = informed();
    let (mut now, mut seconds) = (10 * SECOND, 0);
    for round in 0..10 {
        ask(&mut machine, ONE, now);
        // Every broker takes 5 s.
        let answers_at = now + 5 * SECOND;
        while let Some(at) = machine.poll_timeout(now).filter(|&at| at < answers_at) {
            now = at.max(now);
            if machine.poll_close(now).is_none() {
                let (id, _) = machine.poll_connect(now).expect("what is due is due");
                assert_eq!(id, TWO, "the first is kept");
                seconds += 1;
                machine.handle_ready(TWO);
                assert!(machine.poll_query(TWO, now).is_some());
            }
        }
        now = answers_at;
        answer(&mut machine, ONE, now, 2 + round);
        if machine.poll_close(now) == Some(TWO) {
            assert!(round < 2, "later it is known to be slow");
        }
        now += SECOND;
    }
    assert!(seconds <= 3, "{seconds} second connections");
}

#[test]
fn c51_f44_a_broker_whose_answers_change_nothing_is_left_for_one_that_knows_more() {
    let mut machine = informed();
    let mut now = 10 * SECOND;
    for _ in 0..2 {
        assert_eq!(machine.poll_connect(now), None);
        ask(&mut machine, ONE, now);
        answer(&mut machine, ONE, now + MS, 1);
        now += 100 * MS;
    }
    let (id, address) = machine.poll_connect(now).expect("another");
    assert_eq!(id, TWO);
    assert_ne!(&*address.host, "boot");
    // The first goes on meanwhile: the others may be worse.
    ask(&mut machine, ONE, now);
    answer(&mut machine, ONE, now, 1);
    assert_eq!(machine.poll_close(now), None);
    machine.handle_ready(TWO);
    assert!(machine.poll_query(TWO, now).is_some());
    answer(&mut machine, TWO, now + MS, 2);
    assert_eq!(machine.poll_close(now + MS), Some(ONE));
    assert_eq!(machine.snapshot().topics["t"].partitions[0].epoch, 2);
}

/// With a short `metadata.max.age.ms`, or where records go to new topics all the time, most answers
/// are to questions that nobody in trouble asked.
#[test]
fn c51_f44_other_questions_in_between_do_not_keep_the_client_at_a_broker_of_no_help() {
    let mut machine = informed();
    let mut now = 10 * SECOND;
    let others = ["a", "b", "c"];
    for name in others {
        machine.handle_wanted(now, name.into(), Want::Record);
        assert!(machine.poll_query(ONE, now).is_some());
        let news = vec![topic(name, &[(0, Some(1), 1)])];
        machine.handle_metadata(ONE, now, &metadata(&[1, 2, 3], news));
        now += SECOND;
    }
    assert_eq!(machine.poll_connect(now), None, "all is well");
    for (round, name) in others.into_iter().enumerate().take(2) {
        assert_eq!(machine.poll_connect(now), None, "in round {round}");
        ask(&mut machine, ONE, now);
        answer(&mut machine, ONE, now, 1);
        if round == 0 {
            // Every topic is asked about, as with a short `metadata.max.age.ms`.
            now += SECOND;
            machine.refresh_wanted = true;
            assert!(machine.poll_query(ONE, now).is_some());
            answer(&mut machine, ONE, now, 1);
            // A new one is asked about, and is there.
            let name = format!("another {name}");
            machine.handle_wanted(now, name.as_str().into(), Want::Record);
            assert!(machine.poll_query(ONE, now + SECOND).is_some());
            let news = vec![topic(&name, &[(0, Some(1), 1)])];
            machine.handle_metadata(ONE, now + SECOND, &metadata(&[1, 2, 3], news));
            now += 2 * SECOND;
        }
    }
    assert!(machine.poll_connect(now).is_some(), "another broker");
}

#[test]
fn c51_while_no_broker_knows_better_they_are_left_ever_more_seldom() {
    let mut machine = informed();
    let (mut now, mut present, mut answers) = (10 * SECOND, ONE, Vec::new());
    for _ in 0..5 {
        let mut count = 0;
        loop {
            ask(&mut machine, present, now);
            answer(&mut machine, present, now, 1);
            count += 1;
            now += 100 * MS;
            if let Some((id, _)) = machine.poll_connect(now) {
                machine.handle_ready(id);
                assert!(machine.poll_query(id, now).is_some());
                answer(&mut machine, id, now, 1);
                assert_eq!(machine.poll_close(now), Some(present));
                (present, now) = (id, now + 100 * MS);
                break;
            }
        }
        answers.push(count);
    }
    assert_eq!(answers, [2, 3, 7, 15, 31], "with the one by which it became the present one");
    // News, and the next trouble finds it impatient again.
    ask(&mut machine, present, now);
    answer(&mut machine, present, now, 2);
    for _ in 0..2 {
        now += 100 * MS;
        assert_eq!(machine.poll_connect(now), None);
        ask(&mut machine, present, now);
        answer(&mut machine, present, now, 2);
    }
    assert!(machine.poll_connect(now).is_some());
}

#[test]
fn c51_second_brokers_that_cannot_be_reached_are_no_storm_and_cost_the_first_nothing() {
    let mut machine = informed();
    let start = 10 * SECOND;
    ask(&mut machine, ONE, start);
    let (mut now, mut tried) = (start, 0);
    while now < start + 30 * SECOND {
        assert_eq!(machine.poll_close(now), None);
        while let Some((id, _)) = machine.poll_connect(now) {
            assert_eq!(id, TWO);
            tried += 1;
            machine.handle_down(id, now, "refused".into());
        }
        now = machine.poll_timeout(now).expect("it goes on").max(now + 1);
    }
    // Three brokers, after 1, 2, 4, 8 and 16 s.
    assert!((9..=18).contains(&tried), "{tried}");
    assert_eq!(machine.last_problem(), None, "the first has not failed");
    answer(&mut machine, ONE, now, 2);
    assert_eq!(machine.snapshot().topics["t"].partitions[0].epoch, 2);
}

#[test]
fn c51_a_topic_is_called_unknown_when_two_brokers_say_so() {
    let unknown = || {
        let mut ghost = topic("ghost", &[]);
        ghost.error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        metadata(&[1, 2, 3], vec![ghost])
    };
    for asks_another in [true, false] {
        let mut machine = informed();
        let start = 10 * SECOND;
        machine.handle_wanted(start, "ghost".into(), Want::Record);
        for round in 0..3 {
            assert!(machine.poll_query(ONE, start + round * 100 * MS).is_some());
            machine.handle_metadata(ONE, start + round * 100 * MS, &unknown());
        }
        let now = start + 300 * MS;
        let (id, _) = machine.poll_connect(now).expect("another is asked");
        if asks_another {
            machine.handle_ready(id);
            assert!(machine.poll_query(id, now).is_some());
            machine.handle_metadata(id, now, &unknown());
            assert_eq!(machine.poll_unknown(start + LIMIT).len(), 1);
        } else {
            machine.handle_down(id, now, "refused".into());
            assert_eq!(machine.poll_unknown(start + LIMIT), []);
            assert_eq!(machine.poll_unknown(start + LIMIT + 2 * SECOND).len(), 1);
        }
    }
}

#[test]
fn c51_topics_that_come_one_after_the_other_wear_no_brokers_welcome_out() {
    let mut machine = informed();
    let mut now = 10 * SECOND;
    for number in 0..200 {
        let name = format!("new {number}");
        machine.handle_wanted(now, name.as_str().into(), Want::Record);
        // It is created meanwhile, so the first answer does not have it.
        for partitions in [&[][..], &[(0, Some(1), 1)]] {
            assert!(machine.poll_query(ONE, now).is_some(), "{name}");
            let mut told = topic(&name, partitions);
            if partitions.is_empty() {
                told.error = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            }
            machine.handle_metadata(ONE, now, &metadata(&[1, 2, 3], vec![told]));
            assert_eq!(machine.poll_connect(now), None, "{name}");
            now += SECOND;
        }
    }
    // The broker is cut off: it is left as soon as ever.
    for _ in 0..2 {
        assert_eq!(machine.poll_connect(now), None);
        ask(&mut machine, ONE, now);
        answer(&mut machine, ONE, now, 1);
        now += 100 * MS;
    }
    assert!(machine.poll_connect(now).is_some(), "another broker");
}

#[test]
fn c51_troubles_far_apart_are_not_the_same_one() {
    let mut machine = informed();
    for day in 1..20 {
        let now = day * 86_400 * SECOND;
        ask(&mut machine, ONE, now);
        answer(&mut machine, ONE, now, 1);
        assert_eq!(machine.poll_connect(now), None, "on day {day}");
    }
}
