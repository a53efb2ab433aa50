//! Connections that break, and brokers that are gone.

use super::*;

/// How often somebody tried to connect to broker 1 when it was dead.
fn attempts(world: &World) -> usize {
    count(world, |event| matches!(event, Event::Refused { broker: 1 }))
}

#[test]
fn a_lost_connection_retries_what_was_in_flight_in_order() {
    let mut world = ready(&Settings { batch_size: 256, ..Settings::default() });
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    for mood in [Mood::Hung, Mood::Mute, Mood::Hung] {
        world.model.moods.insert(1, mood);
        send_many(&mut world, &mut sent, 100, MS / 10);
        world.model.moods.insert(1, Mood::Well);
        world.cut(1);
        send_many(&mut world, &mut sent, 20, MS / 10);
    }
    world.run_for(2 * SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn the_old_leader_dies_and_the_lane_moves_while_the_connection_is_in_backoff() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.moods.insert(1, Mood::Mute);
    send_many(&mut world, &mut sent, 10, MS);
    world.model.move_leader(0, 2);
    let died_at = world.now();
    world.kill(1);
    world.run_for(SECOND);
    let arrived = world.when(received_by(2)).expect("it goes on at the new leader");
    assert!(arrived - died_at < 120 * MS, "{} ms", (arrived - died_at) / MS);
    assert_exactly_once(&world, &sent);
    // The dead broker is not wanted any more, so nobody keeps connecting to it.
    let before = attempts(&world);
    send_many(&mut world, &mut sent, 10, 100 * MS);
    world.run_for(10 * SECOND);
    assert_eq!(attempts(&world), before);
    assert_exactly_once(&world, &sent);
}

/// As above, for a lane that was in trouble before, and for one whose batch was not sealed yet.
#[test]
fn nobody_connects_to_a_dead_broker_for_a_lane_that_moved_away() {
    for (shards, in_trouble) in [(1, true), (1, false), (2, true), (2, false)] {
        let mut world = ready(&Settings { shards, ..Settings::default() });
        let mut sent = Vec::new();
        send_many(&mut world, &mut sent, 1, 10 * MS);
        let trouble = in_trouble.then_some(REQUEST_TIMED_OUT);
        world.model.partitions.get_mut(&0).expect("it is there").refuses = trouble;
        if in_trouble {
            send_many(&mut world, &mut sent, 1, 10 * MS);
        }
        world.kill(1);
        if !in_trouble {
            send_many(&mut world, &mut sent, 1, 0);
        }
        world.run_for(2 * SECOND);
        world.model.partitions.get_mut(&0).expect("it is there").refuses = None;
        world.model.move_leader(0, 2);
        world.run_for(2 * SECOND);
        assert_exactly_once(&world, &sent);
        let before = attempts(&world);
        assert!(before > 0);
        send_many(&mut world, &mut sent, 10, SECOND);
        assert_eq!(attempts(&world), before, "{shards} shards, in trouble: {in_trouble}");
        assert_exactly_once(&world, &sent);
    }
}

/// Whether a lane's batches need an identity shows with its leader's connection: that is made for a
/// lane with records, and for no other.
#[test]
fn c66_a_lane_without_identity_connects_its_leader_while_it_has_records() {
    let settings = Settings { gives_identity: false, ..Settings::default() };
    let mut world = ready(&settings);
    assert_eq!(world.connection_to(1), None, "nothing waits for it");
    let delivery = world.send(0, "x");
    world.run_for(SECOND);
    assert!(world.connection_to(1).is_some(), "it may be too old for an identity");
    assert!(delivery.try_outcome().is_none(), "it is not: the record waits");

    let mut world = ready(&settings);
    world.kill(1);
    let _delivery = world.send(0, "x");
    world.run_for(2 * SECOND);
    let before = attempts(&world);
    assert!(before > 1, "it is tried again: {before}");
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(2 * SECOND);
    let before = attempts(&world);
    world.run_for(10 * SECOND);
    assert_eq!(attempts(&world), before, "no lane with records is led by it any more");
}

#[test]
fn late_news_of_an_old_connection_is_none_of_the_new_one() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.cut(1);
    send_many(&mut world, &mut sent, 1, 100 * MS);
    assert_eq!(sent[1].offset(), Some(1));
    let start = world.now();
    send_many(&mut world, &mut sent, 1, MS);
    world.cut_again();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    assert_eq!(arrivals(&world, start), [0, MS], "nothing is sent again");
    assert_exactly_once(&world, &sent);
}

#[test]
fn a_broker_that_closes_on_every_request_is_not_hammered() {
    let mut world = ready(&Settings::default());
    world.model.moods.insert(1, Mood::Closing);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 3, 0);
    world.run_for(SECOND);
    let closed = count(&world, |event| matches!(event, Event::Closed { broker: 1 }));
    assert!((5..=25).contains(&closed), "{closed} times");
    world.model.moods.insert(1, Mood::Well);
    world.run_for(SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn c22_a_partition_that_responses_leave_out_is_retried_with_a_backoff() {
    let mut world = ready(&Settings::default());
    world.model.moods.insert(1, Mood::Forgetful);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 3, 0);
    world.run_for(2 * SECOND);
    let attempts = count(&world, received_by(1));
    assert!((3..=10).contains(&attempts), "{attempts} attempts");
    world.model.moods.insert(1, Mood::Well);
    world.run_for(2 * SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn a_connection_that_was_idle_for_too_long_in_a_suspend_is_not_used_again() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.run_for(SECOND);
    let first = world.connection_to(1).expect("it is connected");
    // Of the 540 s that it may be idle. A sign of life forgets them.
    for _ in 0..3 {
        world.suspend(300 * SECOND);
        send_many(&mut world, &mut sent, 1, SECOND);
        assert_eq!(world.connection_to(1), Some(first));
    }
    // Two in a row add up.
    world.suspend(300 * SECOND);
    world.run_for(SECOND);
    assert_eq!(world.connection_to(1), Some(first));
    world.suspend(300 * SECOND);
    world.run_for(SECOND);
    assert_eq!(world.connection_to(1), None);
    send_many(&mut world, &mut sent, 1, SECOND);
    let second = world.connection_to(1).expect("it is connected");
    // A record that is there already at the awakening does not go out on the old one.
    world.suspend(600 * SECOND);
    send_many(&mut world, &mut sent, 1, SECOND);
    assert!(world.connection_to(1).is_some_and(|third| third > second));
    assert_exactly_once(&world, &sent);
}

#[test]
fn deadlines_and_requests_in_flight_do_not_move_by_a_suspend() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    let first = world.connection_to(1).expect("it is connected");
    world.model.moods.insert(1, Mood::Hung);
    send_many(&mut world, &mut sent, 5, MS);
    // Far beyond every timeout: what is in flight is left alone, and nothing expires.
    world.suspend(10_000 * SECOND);
    world.run_for(100 * MS);
    assert_eq!(world.connection_to(1), Some(first));
    world.model.moods.insert(1, Mood::Well);
    world.run_for(60 * SECOND);
    assert_exactly_once(&world, &sent);
}

/// A broker that is gone for good must not keep a socket: where node ids are generated there are
/// ever new ones.
#[test]
fn c59_the_connection_to_a_broker_that_left_the_cluster_is_closed_once_nothing_is_in_flight() {
    let mut world = ready(&Settings { request_timeout: 120 * SECOND, ..Settings::default() });
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    send_many(&mut world, &mut sent, 1, 10 * MS);
    assert!(sent[1].offset().is_some() && world.connection_to(2).is_some());
    // The broker leaves while one record is on its way to it.
    world.slow = [(2, 50 * SECOND)].into();
    send_many(&mut world, &mut sent, 1, 0);
    world.run_for(MS);
    world.model.move_leader(0, 1);
    world.model.moods.remove(&2);
    world.machine.handle_refresh_wanted();
    let closed = |world: &World| count(world, |it| matches!(it, Event::Closed { broker: 2 }));
    world.run_for(45 * SECOND);
    assert_eq!((closed(&world), sent[2].try_outcome().is_some()), (0, false));
    world.run_for(10 * SECOND);
    assert_eq!((closed(&world), world.connection_to(2)), (1, None));
    send_many(&mut world, &mut sent, 1, 10 * MS);
    assert_exactly_once(&world, &sent);
    assert!(world.connection_to(1).is_some());
}
