//! Deadlines, and what goes on after them.

use super::*;

/// The lane waits for the connection because of the batch that expires. What is left to send then
/// is a part-filled one.
#[test]
fn what_stands_behind_an_expired_batch_leaves_with_the_next_connection() {
    let settings = Settings { request_timeout: 5 * SECOND, ..Settings::default() };
    let mut world = ready(&settings);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.moods.insert(1, Mood::Hung);
    let lost = world.send(0, "lost");
    world.run_for(119 * SECOND);
    assert!(lost.try_outcome().is_none());
    send_many(&mut world, &mut sent, 1, 2 * SECOND);
    assert_eq!(certainties(&[lost]), [Some(Certainty::Unknown)]);
    world.model.moods.insert(1, Mood::Well);
    // The handshake that hangs, and one more.
    world.run_for(6 * SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn c46_each_batch_in_flight_at_a_broker_that_hangs_expires_in_its_own_time() {
    let settings = Settings { request_timeout: 300 * SECOND, ..Settings::default() };
    let mut world = ready(&settings);
    let _first = world.send(0, "first");
    world.run_for(SECOND);
    world.model.moods.insert(1, Mood::Hung);
    let mut sent = Vec::new();
    // Part-filled batches go while fewer than two requests are in flight.
    for _ in 0..2 {
        sent.push((world.now(), world.send(0, "r")));
        world.run_for(7 * SECOND);
    }
    let mut ages = Vec::new();
    for (at, handle) in &sent {
        while handle.error().is_none() {
            world.run_for(100 * MS);
            assert!(world.now() - at < 300 * SECOND, "it does not expire");
        }
        ages.push((world.now() - at) / SECOND);
    }
    assert_eq!(ages[0], ages[1], "seconds");
    let handles: Vec<_> = sent.into_iter().map(|(_, handle)| handle).collect();
    assert_eq!(certainties(&handles), [Some(Certainty::Unknown); 2]);
}

#[test]
fn c46_without_any_broker_every_delivery_fails_in_time_as_not_written() {
    let mut world = ready(&Settings::default());
    world.kill(1);
    world.kill(2);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 20, SECOND);
    world.run_for(99 * SECOND);
    assert!(sent.iter().all(|handle| handle.try_outcome().is_none()));
    world.run_for(21 * SECOND);
    assert_eq!(certainties(&sent), [Some(Certainty::NotWritten); 20]);
    drop(sent);
    world.finish();
}

/// One deadline after the other passes: each sets the timer for the next, and no other. (The world
/// counts timers.)
#[test]
fn c46_batches_that_wait_expire_each_in_its_own_time() {
    let mut world = ready(&Settings { batch_size: 1, ..Settings::default() });
    (1..=2).for_each(|broker| world.kill(broker));
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 10, SECOND);
    world.run_for(110 * SECOND);
    for expired in 0..10 {
        let failed = sent.iter().filter(|handle| handle.error().is_some()).count();
        assert!((expired..=expired + 1).contains(&failed), "{failed} of {expired}");
        world.run_for(SECOND);
    }
    assert_eq!(certainties(&sent), [Some(Certainty::NotWritten); 10]);
}

#[test]
fn c09_after_an_expiry_in_flight_the_lane_goes_on_in_a_new_epoch() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 2, 10 * MS);
    world.model.moods.insert(1, Mood::Mute);
    let lost = [world.send(0, "r2")];
    world.run_for(121 * SECOND);
    assert_eq!(certainties(&lost), [Some(Certainty::Unknown)]);
    world.model.moods.insert(1, Mood::Well);
    world.run_for(31 * SECOND);
    // It was written after all, as the error said it might; what follows comes behind it, once.
    sent.extend(lost);
    send_many(&mut world, &mut sent, 10, MS);
    world.run_for(SECOND);
    let expected: Vec<_> = (0..sent.len()).map(|index| format!("r{index}")).collect();
    assert_eq!(world.model.partitions[&0].log, expected);
    assert!(sent[3..].iter().all(|handle| handle.offset().is_some()));
    drop(sent);
    world.finish();
}

/// The lane is between two shards when the close's timeout ends: the new owner had been told to
/// fail everything before it had the lane.
#[test]
fn a_lane_that_arrives_after_everything_was_failed_fails_too() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.kill(1);
    let late = [world.send(0, "late"), world.send(0, "later")];
    world.run_for(10 * MS);
    world.fail_all(1);
    world.run_for(MS);
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    assert_eq!(world.lane_counts(), [0, 1]);
    for handle in &late {
        let error = handle.error().expect("it has failed");
        assert!(matches!(*error.cause(), DeliveryErrorCause::Closed { .. }));
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert_eq!(world.when(received_by(2)), None, "what was reported as failed is not sent");
    drop((sent, late));
    world.finish();
}

/// One broker is gone, another hangs: what is in flight at the one that hangs is not told of the
/// other, though a lane that moves there is due in the same moment.
#[test]
fn what_expires_in_flight_names_the_problem_of_its_own_broker() {
    let settings = Settings {
        shards: 1,
        brokers: 3,
        partitions: 3,
        request_timeout: 200 * SECOND,
        ..Settings::default()
    };
    let mut world = World::ready(&settings);
    let first: Vec<_> = (0..3).map(|partition| world.send(partition, "first")).collect();
    world.run_for(SECOND);
    assert!(first.iter().all(|handle| handle.offset().is_some()));
    world.model.moods.extend([(1, Mood::Hung), (2, Mood::Hung)]);
    let sent = [world.send(0, "r"), world.send(1, "r")];
    world.run_for(SECOND);
    world.kill(3);
    world.model.move_leader(0, 3);
    world.machine.handle_refresh_wanted();
    world.run_for(120 * SECOND);
    for handle in sent {
        let error = handle.error().expect("it is due").to_string();
        assert!(!error.contains("broker 3 at"), "{error}");
    }
}
