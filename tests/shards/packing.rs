//! What goes into a request, and when it leaves.

use tidegate::internals::shard::LoopLoad;

use super::*;

#[test]
fn a_batch_over_the_limit_of_a_request_is_sent_all_the_same() {
    let settings = Settings { batch_size: 256, request_bytes_max: 100, ..Settings::default() };
    let mut world = ready(&settings);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 200, 0);
    world.run_for(SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn part_filled_batches_make_no_request_longer_than_its_limit() {
    for batch_size in [2_000, 1 << 14] {
        let settings = Settings {
            shards: 1,
            brokers: 1,
            partitions: 8,
            batch_size,
            request_bytes_max: 4_000,
            ..Settings::default()
        };
        let mut world = World::ready(&settings);
        let value = "v".repeat(900);
        let mut sent = Vec::new();
        for _ in 0..50 {
            // More than the connection takes: batches fill while it is busy.
            sent.extend((0..8).map(|partition| world.send(partition, &value)));
            world.run_for(MS);
        }
        world.run_for(SECOND);
        assert!(sent.iter().all(|handle| handle.offset().is_some()));
        assert!((1..=4_000).contains(&world.longest_shared), "{} bytes", world.longest_shared);
    }
}

#[test]
fn part_filled_batches_keep_their_distance_and_are_two_in_flight() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    let start = world.now();
    // One every 30 µs: the first goes at once, those of the next 100 µs together, and what is there
    // when the first is answered, 2 ms later.
    send_many(&mut world, &mut sent, 10, 30 * MS / 1_000);
    world.run_for(SECOND);
    let mut expected = vec![0];
    expected.extend([MS / 10; 3]);
    expected.extend([2 * MS; 6]);
    assert_eq!(arrivals(&world, start), expected);
    assert_exactly_once(&world, &sent);
}

#[test]
fn without_a_setting_part_filled_batches_keep_a_distance_on_a_busy_loop_only() {
    let settings = Settings { part_filled_floor: None, ..Settings::default() };
    for (asleep_percent, expected) in [(60, MS / 50), (30, 5 * MS / 100), (0, MS / 10)] {
        let mut world = ready(&settings);
        let mut load = LoopLoad::default();
        // Nanoseconds: turns of 10 µs.
        (1..=10_000).for_each(|turn| load.observe(10_000 * turn, 100 * asleep_percent));
        world.set_load(load);
        let mut sent = Vec::new();
        send_many(&mut world, &mut sent, 1, 10 * MS);
        let start = world.now();
        // One every 20 µs: the second leaves when the distance is kept.
        send_many(&mut world, &mut sent, 9, MS / 50);
        world.run_for(SECOND);
        let second = arrivals(&world, start).into_iter().find(|&at| at > 0);
        let second = second.expect("it arrives");
        assert!(second.abs_diff(expected) < 1_000, "{asleep_percent} %: {second}");
        assert_exactly_once(&world, &sent);
    }
}

/// Two lanes, each with one record in a part-filled batch: one of them behind a full one. The full
/// one leaves in the request that takes the part-filled batches along.
#[test]
fn a_part_filled_batch_behind_a_full_one_leaves_by_itself() {
    let settings =
        Settings { shards: 1, brokers: 1, partitions: 2, batch_size: 256, ..Settings::default() };
    let mut world = World::ready(&settings);
    // A leader that has not proved itself gets one batch at a time.
    for proved in [false, true] {
        let start = world.now();
        let mut sent = vec![world.send(0, "part-filled")];
        while !world.lane(1).has_sealed() {
            sent.push(world.send(1, "fills a batch and begins the next"));
        }
        // Answers take longer.
        world.run_for(MS);
        assert_eq!(arrivals(&world, start).len() == sent.len(), proved);
        world.run_for(20 * MS);
        assert!(sent.iter().all(|handle| handle.offset().is_some()));
    }
}

/// While full batches of other lanes take the whole window, a lone record waits for its turn, and
/// not until they are through.
#[test]
fn a_lone_record_has_its_turn_beside_lanes_that_saturate_the_broker() {
    let settings = Settings {
        shards: 1,
        brokers: 1,
        partitions: 8,
        batch_size: 256,
        request_bytes_max: 2_000,
        ..Settings::default()
    };
    let mut world = World::ready(&settings);
    let first: Vec<_> = (0..8).map(|partition| world.send(partition, "first")).collect();
    world.run_for(SECOND);
    assert!(first.iter().all(|handle| handle.offset().is_some()));
    let value = "v".repeat(300);
    let mut sent = Vec::new();
    let mut busy = 0..1_000;
    // One request after the other, so that they are not answered all at once either.
    for _ in 0..5 {
        sent.extend(busy.by_ref().take(5).map(|n| world.send(n % 7, &value)));
        world.run_for(MS / 3);
    }
    let start = world.now();
    sent.extend(busy.map(|n| world.send(n % 7, &value)));
    let lone = world.send(7, "lone");
    world.run_for(5 * SECOND);
    assert_eq!(lone.offset(), Some(1));
    let events = world.events.iter().filter(|(at, _)| *at >= start);
    let before = events.take_while(
        |(_, event)| !matches!(event, Event::Received(received) if received.partition == 7),
    );
    // Each request has up to seven full batches.
    let before = before.count();
    assert!(before <= 7 * 16, "{before} of {} batches went before it", sent.len());
}

#[test]
fn while_a_batch_lingers_its_connection_is_made_already() {
    let mut world = ready(&Settings { linger: SECOND, ..Settings::default() });
    world.kill(1);
    let sent = world.send(0, "r0");
    world.run_for(SECOND / 2);
    assert!(world.when(|event| matches!(event, Event::Refused { broker: 1 })).is_some());
    world.run_for(SECOND);
    assert!(sent.try_outcome().is_none());
}

#[test]
fn a_batch_lingers_from_its_first_record_on_at_whatever_broker() {
    let mut world = ready(&Settings { linger: SECOND, shards: 1, ..Settings::default() });
    let mut sent = Vec::new();
    let start = world.now();
    send_many(&mut world, &mut sent, 3, SECOND / 4);
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    // And 2 ms of a handshake, if it was not made before.
    let arrived = arrivals(&world, start);
    assert_eq!(arrived.len(), 3);
    assert!(arrived.iter().all(|at| (SECOND..SECOND + 5 * MS).contains(at)), "{arrived:?}");
    assert_exactly_once(&world, &sent);
}

/// Its queue at a broker names a lane twice when the lane went and came back before its turn. What
/// a request has of a lane is one batch all the same: the model sees to it.
#[test]
fn a_lane_that_came_back_has_one_batch_in_a_request() {
    let settings = Settings {
        shards: 1,
        partitions: 4,
        batch_size: 256,
        idempotent: false,
        ..Settings::default()
    };
    let mut world = World::ready(&settings);
    let long = |name: &str| format!("{name}{:300}", "");
    let _warm: Vec<_> = (0..4).map(|partition| world.send(partition, "warm")).collect();
    world.run_for(SECOND);
    // Other lanes have both brokers' whole windows.
    world.slow = [(1, 500 * MS), (2, 500 * MS)].into();
    let others: Vec<_> = (0..10).map(|n| world.send(2 + n % 2, &long("other"))).collect();
    world.run_for(MS);
    let sent: Vec<_> = (0..4).map(|n| world.send(0, &long(&format!("r{n}")))).collect();
    for leader in [2, 1] {
        world.model.move_leader(0, leader);
        world.machine.handle_refresh_wanted();
        world.run_for(200 * MS);
    }
    assert!(others.iter().all(|handle| handle.try_outcome().is_none()), "no turn until now");
    world.run_for(5 * SECOND);
    let offsets: Vec<_> = sent.iter().map(CellHandle::offset).collect();
    assert_eq!(offsets, [Some(1), Some(2), Some(3), Some(4)]);
    let attempts = count(&world, |event| matches!(event, Event::Received(r) if r.partition == 0));
    assert_eq!(attempts, 5, "each once");
}
