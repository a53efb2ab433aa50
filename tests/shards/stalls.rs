//! Brokers that have not taken a ready batch for so long that senders pass them over.

use super::*;

const TIMEOUT: u64 = 100 * MS;

fn settings(availability_timeout: Option<u64>) -> Settings {
    Settings { availability_timeout, ..Settings::default() }
}

#[test]
fn a_broker_that_takes_no_ready_batch_is_not_available_until_it_takes_one() {
    let mut world = ready(&settings(Some(TIMEOUT)));
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.moods.insert(1, Mood::Mute);
    // Two part-filled batches leave. They are answered late, but no batch waits.
    send_many(&mut world, &mut sent, 2, 10 * MS);
    world.run_for(SECOND);
    assert!(world.is_available(0));
    // The third one waits for an answer. Nothing but the time wakes the shard.
    send_many(&mut world, &mut sent, 1, TIMEOUT - MS);
    assert!(world.is_available(0));
    world.run_for(2 * MS);
    assert!(!world.is_available(0));
    world.model.moods.insert(1, Mood::Well);
    world.cut(1);
    world.run_for(SECOND);
    assert!(world.is_available(0));
    assert_exactly_once(&world, &sent);
}

/// It is busy all the time, and something waits for it all the time.
#[test]
fn a_broker_that_takes_one_batch_after_the_other_is_available() {
    let mut world = ready(&Settings { batch_size: 256, ..settings(Some(TIMEOUT)) });
    world.slow.insert(1, TIMEOUT / 2);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 2_000, 0);
    for _ in 0..200 {
        world.run_for(10 * MS);
        assert!(world.is_available(0));
    }
    world.run_for(10 * SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn a_broker_that_is_gone_is_not_available_and_the_next_leader_is() {
    let mut world = ready(&settings(Some(TIMEOUT)));
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.kill(1);
    send_many(&mut world, &mut sent, 1, TIMEOUT + 10 * MS);
    assert!(!world.is_available(0));
    world.model.move_leader(0, 2);
    world.run_for(2 * SECOND);
    assert!(world.is_available(0));
    assert_exactly_once(&world, &sent);
}

#[test]
fn without_a_timeout_a_broker_that_takes_nothing_is_waited_for() {
    let mut world = ready(&settings(None));
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.moods.insert(1, Mood::Mute);
    send_many(&mut world, &mut sent, 10, 10 * MS);
    world.run_for(5 * SECOND);
    assert!(world.is_available(0));
}
