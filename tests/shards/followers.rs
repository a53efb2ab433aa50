//! Refused for lack of followers: who tries again, and when.

use super::*;

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
