//! One run: the real client against the model, on a clock that jumps from event to event. No
//! thread, no socket, no real time.

use std::collections::{BTreeMap, BTreeSet};

use tidegate::Certainty;
use tidegate::internals::protocol::{
    InitProducerIdResponse, MetadataResponse, PartitionId, TopicId,
};
use tidegate::internals::shard::{Control, Shard};

use super::client::Client;
use super::cluster::Cluster;
use super::events::{Event, Queue};
use super::network::Wire;
use super::oracle::{Content, Oracle, Sent};
use super::plan::{Ending, Load, MS, Plan};
use super::rng::Rng;

/// When the load begins: topics are known by then.
const WARM: u64 = 80 * MS;
/// Turns without the clock moving: more means that somebody asks to be called for nothing.
const TURNS_AT_ONCE_MAX: u32 = 2_000;
/// How long the client may take until records flow again after everything was healed.
const RECOVERY_MAX: u64 = 3_000 * MS;

/// An answer on its way to the metadata machine.
pub enum Answer {
    Metadata(MetadataResponse),
    Identity(InitProducerIdResponse),
}

/// One of the metadata channel's connections, or the attempt at it.
#[derive(Default)]
pub struct Link {
    /// Which of all attempts; 0 is none.
    pub generation: u64,
    pub broker: Option<usize>,
    pub answer: Option<Answer>,
}

/// The metadata channel.
#[derive(Default)]
pub struct Channel {
    /// Counts attempts and connections.
    pub generation: u64,
    /// By the machine's ids.
    pub links: [Link; 2],
    /// How many faults keep it silent.
    pub silent: u32,
    /// Producer ids given so far.
    pub identities: i64,
    /// The newest leader epoch that the machine was told, by topic and partition.
    pub told: BTreeMap<(usize, TopicId, usize), i32>,
    /// The port that the machine was told last, and since when, by broker.
    pub addresses: BTreeMap<usize, (u16, u64)>,
}

pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub queue: Queue,
    pub cluster: Cluster,
    pub client: Client,
    pub oracle: Oracle,
    pub wires: Vec<Wire>,
    /// By shard and its broker's place: the wire and its generation.
    pub open: BTreeMap<(usize, usize), (u32, usize)>,
    /// Wires whose broker works at a request.
    pub busy: BTreeSet<usize>,
    pub channel: Channel,
    pub trace: bool,
    /// When everything was healed, nanoseconds.
    pub healed_at: Option<u64>,
    /// Shards that something happened to since their last turn.
    pub touched: Vec<bool>,
    value: Vec<u8>,
}

impl World {
    pub fn new(plan: Plan, trace: bool) -> World {
        let mut rng = Rng::new(plan.seed, 2);
        let cluster = Cluster::new(&plan, &mut rng);
        let client = Client::new(&plan);
        let mut queue = Queue::default();
        for (index, load) in plan.loads.iter().enumerate() {
            queue.push(WARM + load.at, Event::Load(index));
        }
        for (index, (at, _)) in plan.faults.iter().enumerate() {
            queue.push(WARM + at, Event::Fault(index));
        }
        let shards = plan.shards;
        World {
            plan,
            rng,
            queue,
            cluster,
            client,
            oracle: Oracle::default(),
            wires: Vec::new(),
            open: BTreeMap::new(),
            busy: BTreeSet::new(),
            channel: Channel::default(),
            trace,
            healed_at: None,
            touched: vec![true; shards],
            value: Vec::new(),
        }
    }

    pub fn now(&self) -> u64 {
        self.queue.now
    }

    /// The whole run, and what must be true of it. Panics where it is not.
    pub fn run(&mut self) {
        let ends_at = WARM + self.plan.ends_at;
        self.run_until(ends_at);
        match self.plan.ending {
            Ending::Heal => self.end_healed(),
            Ending::FailAll => {
                let cause = tidegate::DeliveryErrorCause::Closed { last: None };
                for port in self.client.ports.clone().iter() {
                    port.send(Control::FailAll(cause.clone(), None));
                }
                self.run_until(self.now() + MS);
                assert_eq!(self.oracle.unresolved(), 0, "what was failed is resolved");
                self.settle_cluster();
            }
            Ending::Drop => {
                self.drop_shards();
                assert_eq!(self.oracle.unresolved(), 0, "what was dropped is resolved");
                self.settle_cluster();
            }
        }
        self.trace_outcomes();
        self.oracle.check(&self.cluster, &self.plan);
        if self.plan.ending == Ending::Heal {
            let well_since = self.healed_at.expect("it ended so") + RECOVERY_MAX;
            self.oracle.check_recovery(well_since);
        }
        self.drop_shards();
        self.call_fallback();
        let has_fallback = self.client.fallback.is_some();
        self.oracle.check_given(&self.cluster, &self.plan, has_fallback);
        self.client.accumulator.pool.assert_all_free();
    }

    fn end_healed(&mut self) {
        self.heal();
        let settings = &self.plan.settings;
        let bound = settings.delivery_timeout + 2 * settings.request_timeout + 200 * MS;
        self.run_while(bound, |world| world.oracle.unresolved() > 0 || !world.is_settled());
        assert_eq!(self.oracle.unresolved(), 0, "everything resolves once all is well");
        self.client.assert_idle();
        self.probe();
    }

    /// Records flow again on every partition.
    fn probe(&mut self) {
        let mut missing: BTreeSet<_> = self.cluster.all().into_iter().collect();
        missing.retain(|&(topic, partition)| {
            self.client.topics[topic].lane(PartitionId::from_index(partition)).is_some()
        });
        let end = self.now() + RECOVERY_MAX;
        while !missing.is_empty() {
            assert!(self.now() < end, "nothing gets through to {missing:?} though all is well");
            let first = self.oracle.sent.len();
            for &(topic, partition) in &missing {
                self.load(Load { at: 0, topic, partition, records: 1, bytes: 10 });
            }
            let bound = self.plan.settings.delivery_timeout + 100 * MS;
            self.run_while(bound, |world| world.oracle.unresolved() > 0);
            for sent in &self.oracle.sent[first..] {
                if sent.handle.error().is_none() {
                    missing.remove(&(sent.topic, sent.partition));
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let stats = self.client.accumulator.pool.stats();
        stats.free + stats.scratch == stats.capacity
    }

    /// What is still on its way arrives.
    fn settle_cluster(&mut self) {
        self.heal();
        self.run_until(self.now() + 300 * MS);
    }

    fn drop_shards(&mut self) {
        self.client.shards.clear();
        for port in self.client.ports.iter() {
            port.close();
        }
        self.wires.iter_mut().for_each(|wire| wire.client_open = false);
        self.open.clear();
    }

    pub fn run_while(&mut self, bound: u64, condition: impl Fn(&World) -> bool) {
        let end = self.now() + bound;
        while self.now() < end && condition(self) {
            self.run_until((self.now() + 10 * MS).min(end));
        }
    }

    /// Lets everything happen that happens until then.
    pub fn run_until(&mut self, end: u64) {
        let mut turns = 0;
        loop {
            let again = self.turn();
            let next = if again { self.now() } else { self.next_at() };
            turns = if next <= self.now() { turns + 1 } else { 0 };
            assert!(turns < TURNS_AT_ONCE_MAX, "something asks to be called for nothing");
            if next > end {
                self.set_now(end);
                return;
            }
            self.set_now(next.max(self.now()));
        }
    }

    fn set_now(&mut self, now: u64) {
        self.queue.now = now;
        self.client.clock.0.set(now);
    }

    fn next_at(&self) -> u64 {
        if self.client.ports.iter().any(|port| port.has_news()) && !self.client.shards.is_empty() {
            return self.now();
        }
        let shards = self.client.shards.iter().filter_map(Shard::poll_timeout);
        let machine = self.client.machine.poll_timeout(self.now());
        shards.chain(machine).chain(self.queue.next_at()).min().unwrap_or(u64::MAX)
    }

    /// Everybody has a turn at the present time. Returns whether somebody wants another.
    fn turn(&mut self) -> bool {
        while let Some(event) = self.queue.pop_due() {
            self.handle(event);
        }
        self.drive_metadata();
        self.client.drain_stashes();
        let mut more = false;
        for index in 0..self.client.shards.len() {
            more |= self.drive_shard(index);
        }
        self.call_fallback();
        self.oracle.check_deadlines(self.queue.now);
        more
    }

    /// What the thread does that calls the fallback.
    fn call_fallback(&mut self) {
        let Some(queue) = self.client.fallback.clone() else { return };
        queue.begin_look();
        while let Some((undelivered, _)) = queue.take() {
            undelivered.for_each(&mut |record| {
                let mut topics = self.client.topics.iter();
                let topic = topics.position(|topic| *topic.name == *record.topic());
                let topic = topic.expect("it is one of the plan's");
                let partition = record.partition().expect("it was in a lane") as usize;
                let value = record.value().expect("no null was sent");
                let id = Content::read(value, topic, partition);
                self.oracle.note_given(id, record.error());
            });
        }
    }

    pub fn load(&mut self, load: Load) {
        for _ in 0..load.records {
            let id = self.oracle.sent.len() as u32;
            Content::write(id, load.topic, load.partition, load.bytes, &mut self.value);
            let Some(handle) = self.client.send(load.topic, load.partition, &self.value) else {
                continue;
            };
            let deadline = self.now() + self.plan.settings.delivery_timeout;
            let (topic, partition) = (load.topic, load.partition);
            self.oracle.sent.push(Sent {
                topic,
                partition,
                deadline,
                handle,
                resolved: false,
                given: 0,
            });
            if self.trace {
                self.note(format_args!("record {id} is sent to {topic}/{partition}"));
            }
        }
    }

    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        println!("{:>12.3} ms  {what}", self.now() as f64 / MS as f64);
    }

    pub fn trace_outcomes(&self) {
        if !self.trace {
            return;
        }
        for (id, sent) in self.oracle.sent.iter().enumerate() {
            let outcome = match (sent.handle.offset(), sent.handle.error()) {
                (_, Some(error)) if error.certainty() == Certainty::NotWritten => "not written",
                (_, Some(_)) => "unknown",
                (Some(_), _) => "acknowledged",
                (None, _) => "acknowledged without offset, or unresolved",
            };
            let offset = sent.handle.offset().unwrap_or(-1);
            println!("record {id} of {}/{}: {outcome} {offset}", sent.topic, sent.partition);
        }
        for (topic, partition) in self.cluster.all() {
            println!("log of {topic}/{partition}:");
            for entry in &self.cluster.topics[topic].partitions[partition].log {
                println!("  {entry:?}");
            }
        }
    }
}
