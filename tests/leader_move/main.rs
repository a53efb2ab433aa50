//! Two shards and the metadata machine through a leader move, on a virtual clock. Whatever a test
//! does here, `World` also checks in passing that the batches of a partition are with one broker at
//! a time, and that nobody spins.

mod model;
mod world;

use model::Mood;
use tidegate::batch::{CellHandle, ShardId};
use tidegate::{Certainty, DeliveryErrorCause};
use world::{Event, MS, SECOND, Settings, World};

/// Sends so many records, named by their order, one every `gap`.
fn send_many(world: &mut World, sent: &mut Vec<CellHandle>, count: usize, gap: u64) {
    for _ in 0..count {
        sent.push(world.send(0, &format!("r{}", sent.len())));
        if gap > 0 {
            world.run_for(gap);
        }
    }
}

/// Each record is in the log once, in the order of the sends, and where its delivery says.
fn assert_exactly_once(world: &World, sent: &[CellHandle]) {
    let expected: Vec<_> = (0..sent.len()).map(|index| format!("r{index}")).collect();
    assert_eq!(world.model.partitions[&0].log, expected);
    for (index, handle) in sent.iter().enumerate() {
        assert_eq!(handle.offset(), Some(index as i64), "{:?}", handle.error());
    }
}

fn received_by(broker: i32) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Received(received) if received.broker == broker)
}

/// Partition 0 starts at broker 1, on shard 0; broker 2 is on shard 1.
fn ready(settings: &Settings) -> World {
    let world = World::ready(settings);
    assert_eq!(world.lane(0).owner(), ShardId(0));
    world
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
    let moves = world.events.iter().filter(|(_, event)| matches!(event, Event::LaneSent { .. }));
    let moves: Vec<_> = moves.collect();
    assert!(matches!(moves[..], [(_, Event::LaneSent { from: 0, to: 1 })]), "{moves:?}");
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
    let moves = world.events.iter().filter(|(_, event)| matches!(event, Event::LaneSent { .. }));
    let moves: Vec<_> = moves.collect();
    assert!(matches!(moves[..], [(_, Event::LaneSent { from: 0, to: 1 })]), "{moves:?}");
    world.run_for(SECOND);
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
    let attempts = |world: &World| {
        let to_dead = |event: &Event| matches!(event, Event::Refused { broker: 1 });
        world.events.iter().filter(|(_, event)| to_dead(event)).count()
    };
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
        let attempts =
            |world: &World| count(world, |event| matches!(event, Event::Refused { broker: 1 }));
        let before = attempts(&world);
        assert!(before > 0);
        send_many(&mut world, &mut sent, 10, SECOND);
        assert_eq!(attempts(&world), before, "{shards} shards, in trouble: {in_trouble}");
        assert_exactly_once(&world, &sent);
    }
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

/// How often something happened.
fn count(world: &World, is_it: impl Fn(&Event) -> bool) -> usize {
    world.events.iter().filter(|(_, event)| is_it(event)).count()
}

const NOT_ENOUGH_REPLICAS: i16 = 19;

#[test]
fn a_refused_batch_waits_100_ms_the_first_time() {
    let mut world = ready(&Settings::default());
    let mut sent = Vec::new();
    send_many(&mut world, &mut sent, 1, 10 * MS);
    world.model.partitions.get_mut(&0).expect("it is there").refuses_once =
        Some(NOT_ENOUGH_REPLICAS);
    send_many(&mut world, &mut sent, 1, 0);
    world.run_for(SECOND);
    let attempts: Vec<_> = world.events.iter().filter(|(_, event)| received_by(1)(event)).collect();
    let [_, (first, _), (second, _)] = attempts[..] else { panic!("{attempts:?}") };
    let wait = (second - first) / MS;
    assert!((80..=125).contains(&wait), "{wait} ms");
    assert_exactly_once(&world, &sent);
}

/// One broker leads eight partitions, and lacks followers for all of them. To each of them so many
/// records were sent, some to a batch.
fn without_followers(records: i32) -> (World, Vec<CellHandle>) {
    let settings =
        Settings { shards: 1, brokers: 1, partitions: 8, batch_size: 128, ..Settings::default() };
    let mut world = World::ready(&settings);
    // The window opens with the first acknowledgement.
    let _first: Vec<_> = (0..8).map(|partition| world.send(partition, "first")).collect();
    world.run_for(SECOND);
    lack_followers(&mut world, 0..8);
    let sent = (0..8 * records).map(|n| world.send(n % 8, &format!("r{n}"))).collect();
    (world, sent)
}

fn lack_followers(world: &mut World, partitions: std::ops::Range<i32>) {
    for (index, partition) in &mut world.model.partitions {
        partition.refuses = partitions.contains(index).then_some(NOT_ENOUGH_REPLICAS);
    }
}

#[test]
fn while_followers_are_missing_one_lane_of_a_broker_tries_often() {
    let (mut world, _sent) = without_followers(1);
    world.run_for(20 * SECOND);
    let tries = |partition| {
        count(&world, |event| matches!(event, Event::Received(r) if r.partition == partition))
    };
    let mut tries: Vec<_> = (0..8).map(tries).collect();
    tries.sort_unstable();
    // 100 ms and a round trip for one of them (they may take turns), up to 1 s for the others.
    let total: usize = tries.iter().sum();
    assert!((150 + 7 * 15..260 + 7 * 30).contains(&total), "{tries:?}");
}

#[test]
fn when_the_followers_are_back_no_lane_waits_long() {
    // One record, and a window full of batches that are all refused at once.
    for records in [1, 60] {
        for downtime in [50 * MS, 150 * MS, 300 * MS, SECOND, 7 * SECOND, 20 * SECOND] {
            let (mut world, sent) = without_followers(records);
            world.run_for(downtime);
            lack_followers(&mut world, 0..0);
            world.run_for(250 * MS);
            let waiting = sent.iter().filter(|handle| handle.offset().is_none()).count();
            assert_eq!(waiting, 0, "{records} records, after {} ms", downtime / MS);
        }
    }
}

#[test]
fn followers_that_come_back_one_by_one_are_noticed_one_by_one() {
    let (mut world, sent) = without_followers(1);
    world.run_for(5 * SECOND);
    for first in 1..=8 {
        lack_followers(&mut world, first..8);
        world.run_for(SECOND / 2);
        let acked = sent.iter().filter(|handle| handle.offset().is_some()).count();
        // Whichever of the others tries for all may have to learn first that it is not its turn.
        assert!(acked + 1 >= first as usize, "{acked} of {first}");
    }
    world.run_for(150 * MS);
    assert!(sent.iter().all(|handle| handle.offset().is_some()));
}

const REQUEST_TIMED_OUT: i16 = 7;

/// A lane that was short of followers is so no longer once its leader refuses it for another
/// reason: then what others learn of the followers does not end its wait.
#[test]
fn news_of_followers_ends_no_wait_for_another_reason() {
    let settings = Settings { shards: 1, brokers: 1, partitions: 2, ..Settings::default() };
    let mut world = World::ready(&settings);
    lack_followers(&mut world, 0..2);
    let sent = [world.send(0, "r"), world.send(1, "r")];
    world.run_for(50 * MS);
    let attempts = |world: &World| -> Vec<u64> {
        let is_it = |event: &Event| matches!(event, Event::Received(r) if r.partition == 0);
        world.events.iter().filter(|(_, event)| is_it(event)).map(|(at, _)| *at).collect()
    };
    assert_eq!(attempts(&world).len(), 1);
    world.model.partitions.get_mut(&0).expect("it is there").refuses = Some(REQUEST_TIMED_OUT);
    // Until it waits for about 1 s each time; then from a refusal on.
    world.run_for(10 * SECOND);
    let before = attempts(&world).len();
    while attempts(&world).len() == before {
        world.run_for(MS);
    }
    world.model.partitions.get_mut(&1).expect("it is there").refuses = None;
    world.run_for(5 * SECOND);
    assert!(sent[1].offset().is_some(), "its followers are back");
    let attempts = attempts(&world);
    let waits: Vec<_> = attempts[before..].windows(2).map(|at| (at[1] - at[0]) / MS).collect();
    assert!(waits.len() >= 3 && waits.iter().all(|&wait| wait >= 700), "{waits:?} ms");
}

#[test]
fn followers_of_a_new_leader_are_no_news_of_those_of_the_old_one() {
    let settings = Settings { shards: 1, partitions: 32, ..Settings::default() };
    let mut world = World::ready(&settings);
    // Those of broker 1, until they wait for about 1 s each time.
    for partition in world.model.partitions.values_mut().filter(|p| p.leader == 1) {
        partition.refuses = Some(NOT_ENOUGH_REPLICAS);
    }
    let waiting: Vec<_> = (0..16).map(|index| world.send(2 * index, "r")).collect();
    world.run_for(20 * SECOND);
    world.model.move_leader(0, 2);
    world.model.partitions.get_mut(&0).expect("it is there").refuses = None;
    world.machine.handle_refresh_wanted();
    let mut before = 0;
    while waiting[0].offset().is_none() {
        before = count(&world, received_by(1));
        world.run_for(MS);
    }
    world.run_for(20 * MS);
    // It takes turns among 15 lanes for 1 s, and one that tries for all.
    let attempts = count(&world, received_by(1)) - before;
    assert!(attempts <= 5, "{attempts} of 15 lanes tried at once");
}

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
        // The limit is one of batches; a little stands around them.
        assert!((1..=4_500).contains(&world.longest_shared), "{} bytes", world.longest_shared);
    }
}

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

/// When each record reached its broker, in nanoseconds after `start`.
fn arrivals(world: &World, start: u64) -> Vec<u64> {
    let arrived = |(at, event): &(u64, Event)| match event {
        Event::Received(received) if *at >= start => {
            Some(std::iter::repeat_n(*at - start, received.values.len()))
        }
        _ => None,
    };
    world.events.iter().filter_map(arrived).flatten().collect()
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

fn certainties(handles: &[CellHandle]) -> Vec<Option<Certainty>> {
    handles.iter().map(|handle| handle.error().map(|error| error.certainty())).collect()
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
        assert_eq!(*error.cause(), DeliveryErrorCause::Closed);
        assert_eq!(error.certainty(), Certainty::NotWritten);
    }
    assert_eq!(world.when(received_by(2)), None, "what was reported as failed is not sent");
    drop((sent, late));
    world.finish();
}
