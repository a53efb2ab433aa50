//! Shards and the metadata machine against a model of a cluster, on a virtual clock: leader moves
//! above all. Whatever a test does here, `World` also checks in passing that the batches of a
//! partition are with one broker at a time, that the requests of a connection are numbered, that
//! timers are few, and that nobody spins.

#[path = "../support/answers.rs"]
mod answers;
mod connections;
mod expiry;
mod followers;
mod model;
mod moves;
mod packing;
mod stalls;
#[path = "../support/virtual_clock.rs"]
mod virtual_clock;
mod world;

use model::Mood;
use tidegate::internals::batch::{CellHandle, ShardId};
use tidegate::{Certainty, DeliveryErrorCause};
use world::{Event, MS, SECOND, Settings, World};

const NOT_ENOUGH_REPLICAS: i16 = 19;
const REQUEST_TIMED_OUT: i16 = 7;

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

/// How often something happened.
fn count(world: &World, is_it: impl Fn(&Event) -> bool) -> usize {
    world.events.iter().filter(|(_, event)| is_it(event)).count()
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

fn certainties(handles: &[CellHandle]) -> Vec<Option<Certainty>> {
    handles.iter().map(|handle| handle.error().map(|error| error.certainty())).collect()
}
