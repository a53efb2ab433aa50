//! A lane goes from one leader to another.

use super::*;

/// One lane has moved, from shard 0 to shard 1.
fn assert_moved_once(world: &World) {
    let moves = world.events.iter().filter(|(_, event)| matches!(event, Event::LaneSent { .. }));
    let moves: Vec<_> = moves.collect();
    assert!(matches!(moves[..], [(_, Event::LaneSent { from: 0, to: 1 })]), "{moves:?}");
}

#[test]
fn records_sent_before_during_and_after_a_move_arrive_once_and_in_order() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 50, MS / 3);
    world.model.move_leader(0, 2);
    send_many(&mut world, &mut sent, 50, MS / 3);
    world.run_for(2 * SECOND);
    assert_eq!(world.lane(0).owner(), ShardId(1), "the new leader's shard owns the lane");
    send_many(&mut world, &mut sent, 50, MS / 3);
    world.run_for(SECOND);
    assert_exactly_once(&world, &sent);
    assert_moved_once(&world);
    assert_eq!(world.lane_counts(), [0, 1]);
    drop(sent);
    world.finish();
}

#[test]
fn a_lane_that_is_ahead_of_its_new_shards_view_stays_there() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    // Nothing is in flight when the view arrives: the lane leaves at once.
    send_many(&mut world, &mut sent, 5, 10 * MS);
    world.lanes_come_first = true;
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    send_many(&mut world, &mut sent, 5, 10 * MS);
    assert_moved_once(&world);
    world.run_for(SECOND);
    assert_exactly_once(&world, &sent);
}

/// A loop that was busy finds as many views as there were changes: each would move lanes to where
/// they have long left.
#[test]
fn of_the_views_that_a_shard_finds_in_a_turn_only_the_last_counts() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    for leader in [2, 1].repeat(10) {
        world.model.move_leader(0, leader);
        world.refresh_metadata_alone();
    }
    // A lane comes between two views, and goes by the later one too.
    world.model.add_partitions(2);
    world.refresh_metadata_alone();
    world.model.move_leader(1, 1);
    world.refresh_metadata_alone();
    send_many(&mut world, &mut sent, 1, 0);
    let of_new = world.send(1, "the new partition's");
    world.run_for(SECOND);
    let moves = world.events.iter().filter(|(_, event)| matches!(event, Event::LaneSent { .. }));
    let moves: Vec<_> = moves.collect();
    assert!(matches!(moves[..], [(_, Event::LaneSent { from: 1, to: 0 })]), "{moves:?}");
    assert_eq!((world.lane_counts(), of_new.offset()), (vec![2, 0], Some(0)));
    assert_exactly_once(&world, &sent);
}

/// The same, for brokers that have led a partition in between.
#[test]
fn only_the_last_of_several_leaders_that_a_shard_hears_of_at_once_is_connected_to() {
    let mut world = ready(&Settings { shards: 1, brokers: 10, ..Settings::default() });
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    for leader in 2..=10 {
        world.model.move_leader(0, leader);
        world.refresh_metadata_alone();
    }
    send_many(&mut world, &mut sent, 1, 0);
    world.run_for(SECOND);
    let connected: Vec<_> = (1..=10).filter(|&id| world.connection_to(id).is_some()).collect();
    assert_eq!(connected, [1, 10]);
    assert_exactly_once(&world, &sent);
}

#[test]
fn a_lane_that_was_posted_to_its_old_owner_while_it_moved_is_posted_again() {
    for lanes_come_first in [false, true] {
        let mut world = ready(&Settings::default());
        let mut sent = Vec::new();
        send_many(&mut world, &mut sent, 1, 10 * MS);
        world.lanes_come_first = lanes_come_first;
        world.sent_while_a_lane_moves = Some("r1".to_owned());
        world.model.move_leader(0, 2);
        world.machine.handle_refresh_wanted();
        world.run_for(SECOND);
        sent.push(world.sent_meanwhile.take().expect("the lane moved"));
        let moved = world.when(|event| matches!(event, Event::LaneSent { .. }));
        let arrived = world.when(received_by(2));
        let took = arrived.zip(moved).map(|(arrived, moved)| arrived - moved);
        assert!(took.is_some_and(|took| took < 5 * MS), "a handshake, no more: {took:?}");
        // Nothing but its post tells the new owner of this one.
        send_many(&mut world, &mut sent, 1, 20 * MS);
        assert_exactly_once(&world, &sent);
    }
}

#[test]
fn c15_a_leader_hint_is_applied_at_once() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.hints = true;
    world.metadata_is_silent = true;
    world.model.move_leader(0, 2);
    let moved_at = world.now();
    send_many(&mut world, &mut sent, 3, 0);
    world.run_for(SECOND);
    assert!(world.when(|event| matches!(event, Event::Hinted)).is_some());
    let arrived = world.when(received_by(2)).expect("the hint was followed");
    // One round trip to the old leader, one for the handshake with the new one; no backoff.
    assert!(arrived - moved_at < 10 * MS, "{} ms", (arrived - moved_at) / MS);
    assert_exactly_once(&world, &sent);
}

#[test]
fn without_a_hint_metadata_finds_the_leader_within_the_refresh_interval() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.move_leader(0, 2);
    let moved_at = world.now();
    send_many(&mut world, &mut sent, 1, 0);
    world.run_for(SECOND);
    let arrived = world.when(received_by(2)).expect("it arrived");
    assert!(arrived - moved_at < 150 * MS, "{} ms", (arrived - moved_at) / MS);
    assert_exactly_once(&world, &sent);
}

fn through_a_broken_leader(mood: Mood) {
    let settings = Settings { request_timeout: 5 * SECOND, ..Settings::default() };
    let mut world = ready(&settings);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 5, 5 * MS);
    world.model.moods.insert(1, mood);
    let asked_at = world.now();
    send_many(&mut world, &mut sent, 20, MS);
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(4 * SECOND);
    assert_eq!(world.when(received_by(2)), None, "the old leader may still append");
    assert!(sent[5].try_outcome().is_none());
    // Senders go on meanwhile, to the owner that still has the lane.
    send_many(&mut world, &mut sent, 5, MS);
    world.run_for(3 * SECOND);
    let arrived = world.when(received_by(2)).expect("it goes on at the new leader");
    let held = arrived - asked_at;
    assert!(held >= settings.request_timeout);
    assert!(held < settings.request_timeout + 100 * MS, "held for {} ms", held / MS);
    let closed = world.when(|event| matches!(event, Event::Closed { broker: 1 }));
    assert!(closed.is_some_and(|closed| closed <= arrived));
    assert_exactly_once(&world, &sent);
    drop(sent);
    world.finish();
}

#[test]
fn c17_a_hung_old_leader_holds_its_lane_for_the_request_timeout_at_most() {
    through_a_broken_leader(Mood::Hung);
}

#[test]
fn c11_what_a_mute_old_leader_appended_is_not_doubled_at_the_new_one() {
    through_a_broken_leader(Mood::Mute);
}

#[test]
fn an_id_that_reaches_a_shard_without_the_lane_is_dropped() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    assert_eq!(world.lane(0).owner(), ShardId(1));
    // A sender that read the old owner just before the lane left.
    world.post_to(0, 0);
    world.run_for(SECOND);
    send_many(&mut world, &mut sent, 3, MS);
    world.post_to(0, 0);
    send_many(&mut world, &mut sent, 3, MS);
    world.run_for(SECOND);
    assert_eq!(world.lane_counts(), [0, 1]);
    assert_exactly_once(&world, &sent);
}

#[test]
fn leaders_that_swing_lose_double_and_reorder_nothing() {
    for hints in [false, true] {
        let mut world = ready(&Settings { batch_size: 512, ..Settings::default() });
        world.model.hints = hints;
        let mut sent = Vec::new();
        for round in 0..40 {
            send_many(&mut world, &mut sent, 25, MS / 2);
            world.model.move_leader(0, 1 + (round + 1) % 2);
            if round % 3 == 0 {
                world.machine.handle_refresh_wanted();
            }
            if round % 5 == 0 {
                world.cut(1 + round % 2);
            }
        }
        world.run_for(5 * SECOND);
        assert_exactly_once(&world, &sent);
        drop(sent);
        world.finish();
    }
}

#[test]
fn a_move_between_brokers_of_one_shard_waits_for_the_old_leader_too() {
    let mut world = World::ready(&Settings { shards: 1, ..Settings::default() });
    let mut sent = Vec::new();
    for round in 0..20 {
        send_many(&mut world, &mut sent, 20, MS / 2);
        world.model.move_leader(0, 1 + (round + 1) % 2);
        world.machine.handle_refresh_wanted();
    }
    world.run_for(5 * SECOND);
    assert_exactly_once(&world, &sent);
}

#[test]
fn senders_see_which_brokers_level_counts_and_whether_there_is_a_leader() {
    let mut world = ready(&Settings::default());
    let before = world.lane(0).account();
    assert!(world.lane(0).has_leader());
    world.model.move_leader(0, 2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    let after = world.lane(0).account();
    assert_ne!(after, before);
    world.model.move_leader(0, -1);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    // What it holds is counted where it was.
    assert_eq!((world.lane(0).account(), world.lane(0).has_leader()), (after, false));
}

#[test]
fn c19_a_recreated_topic_is_followed_though_its_epochs_start_over() {
    let mut world = ready(&Settings::default());
    let mut before = Vec::new();
    for _ in 0..6 {
        send_many(&mut world, &mut before, 1, 10 * MS);
        world.model.move_leader(0, 1);
    }
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    world.model.recreate(2);
    world.machine.handle_refresh_wanted();
    world.run_for(SECOND);
    assert_eq!(world.lane(0).owner(), ShardId(1));
    let after = world.send(0, "after");
    world.run_for(SECOND);
    assert_eq!(world.model.partitions[&0].log, ["after"]);
    assert_eq!(after.offset(), Some(0));
}

#[test]
fn c17_acknowledgements_of_the_old_leader_do_not_open_the_new_one() {
    for (shards, idempotent) in [(1, true), (1, false), (2, true), (2, false)] {
        let settings = Settings { shards, idempotent, batch_size: 256, ..Settings::default() };
        let mut world = World::ready(&settings);
        let mut sent = Vec::new();
        send_many(&mut world, &mut sent, 1, 10 * MS);
        // Broker 1 has appended several batches when the move is known, and tells of it later.
        world.slow.insert(1, 20 * MS);
        send_many(&mut world, &mut sent, 60, MS / 10);
        world.model.move_leader(0, 2);
        world.machine.handle_refresh_wanted();
        send_many(&mut world, &mut sent, 60, MS);
        world.run_for(SECOND);
        assert!(world.when(received_by(2)).is_some());
        assert_exactly_once(&world, &sent);
    }
}

/// A broker's only error under acks=0 is that it closes the connection.
#[test]
fn c47_f40_without_acknowledgements_a_moved_leader_costs_what_was_on_the_way() {
    let settings = Settings { acks: 0, idempotent: false, ..Settings::default() };
    let mut world = ready(&settings);
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 20, 50 * MS);
    for round in 0..6 {
        world.model.move_leader(0, 2 - round % 2);
        let moved_at = world.now();
        send_many(&mut world, &mut sent, 20, 50 * MS);
        let refused = |event: &Event| match event {
            Event::Received(received) => received.error != 0,
            _ => false,
        };
        let late = world.events.iter().filter(|(at, event)| *at > moved_at && refused(event));
        assert_eq!(late.count(), 0, "the second record goes to the new leader");
    }
    world.run_for(SECOND);
    assert!(sent.iter().all(|handle| handle.error().is_none()));
    assert_eq!(world.model.partitions[&0].log.len(), sent.len() - 6);
}

/// Where a lane waited twice in its broker's queue, each request that met it the second time took
/// no further lane along.
#[test]
fn a_lane_that_was_elsewhere_and_is_back_does_not_cut_requests_short() {
    let settings = Settings {
        shards: 1,
        brokers: 2,
        partitions: 6,
        batch_size: 256,
        // Such a lane sends several batches at once to a leader that has not proved itself.
        idempotent: false,
        ..Settings::default()
    };
    let mut world = World::ready(&settings);
    let first: Vec<_> = [0, 2, 4].map(|partition| world.send(partition, "first")).into();
    world.run_for(SECOND);
    assert!(first.iter().all(|handle| handle.offset().is_some()));
    // Connections are made, and no handshake is answered: lanes wait in the queues.
    for broker in [1, 2] {
        world.model.moods.insert(broker, Mood::Hung);
        world.cut(broker);
    }
    let value = "v".repeat(150);
    let sent: Vec<_> = (0..30).map(|n| world.send(2 * (n % 3), &value)).collect();
    world.run_for(SECOND);
    for leader in [2, 1] {
        world.model.move_leader(0, leader);
        world.machine.handle_refresh_wanted();
        world.run_for(SECOND);
    }
    let start = world.now();
    world.model.moods.insert(1, Mood::Well);
    world.cut(1);
    world.run_for(SECOND);
    assert!(sent.iter().all(|handle| handle.offset().is_some()));
    let partitions = world.events.iter().filter_map(|(at, event)| match event {
        Event::Received(received) if *at >= start => Some(received.partition),
        _ => None,
    });
    let partitions: Vec<_> = partitions.collect();
    // All but the last, part-filled batches.
    let alone = partitions[..24].windows(2).filter(|pair| *pair == [0, 0]).count();
    assert_eq!(alone, 0, "{partitions:?}");
}
