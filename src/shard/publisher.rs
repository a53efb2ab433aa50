//! What the metadata thread does for shards: it gives brokers a shard, topics their lanes, and
//! every shard a view of the cluster.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::port::{Control, PortTable};
use super::view::{Placement, View};
use crate::batch::{Destination, RecordAccumulator, ShardId, TopicLanes};
use crate::buffer::AccountKind;
use crate::cluster::{ClusterSnapshot, MetadataMachine};
use crate::error::DeliveryErrorCause;
use crate::logging as log;
use crate::protocol::BrokerId;
use crate::sync::WakeList;

/// What a [`Publisher`] needs done by somebody who has threads.
pub trait ShardHost {
    /// Starts a shard: when this returns, its port is in the table.
    fn start_shard(&mut self, shard: ShardId) -> io::Result<()>;
    /// The topic's lanes are there: what is stashed for it goes to them.
    fn drain_stash(&mut self, topic: Arc<TopicLanes>);
}

/// Places brokers on shards, makes lanes for partitions, and publishes views. Fed with the metadata
/// machine's news, by its driver.
pub struct Publisher {
    accumulator: Arc<RecordAccumulator>,
    ports: Arc<PortTable>,
    shards_max: usize,
    brokers_max: usize,
    placements: BTreeMap<BrokerId, Placement>,
    published: Option<Arc<View>>,
}

impl Publisher {
    /// One that has published nothing. Brokers are spread over `shards_max` shards, of which number
    /// 0 is there already; brokers above `brokers_max` are left out.
    pub fn new(
        accumulator: Arc<RecordAccumulator>,
        ports: Arc<PortTable>,
        shards_max: usize,
        brokers_max: usize,
    ) -> Self {
        let placements = BTreeMap::new();
        Publisher { accumulator, ports, shards_max, brokers_max, placements, published: None }
    }

    /// A record waits for the topic.
    pub fn handle_wanted(
        &mut self,
        now: u64,
        name: Arc<str>,
        machine: &mut MetadataMachine,
        host: &mut dyn ShardHost,
    ) {
        // A topic that is known and yet has no lanes found their limit reached: again, if need be.
        if let Some(topic) = self.accumulator.known_topic(&name)
            && let Some(view) = self.published.clone()
        {
            self.grow(&topic, &view.snapshot, host);
        }
        machine.handle_wanted(now, name);
        self.fail_stashes_at_foreign_cluster(machine);
    }

    /// Publishes what changed, to every shard, and makes lanes for new partitions.
    pub fn publish(&mut self, machine: &mut MetadataMachine, host: &mut dyn ShardHost) {
        let snapshot = machine.take_snapshot();
        let identity = machine.identity();
        let problem = machine.last_problem();
        let changed = self.published.as_ref().is_none_or(|view| {
            // Shards name the problem while it keeps them from numbering batches; else it is enough
            // that they know of one.
            view.identity != identity
                || view.identity_denied.as_ref() != machine.identity_denied()
                || view.changed_to.as_ref() != machine.changed_to()
                || view.last_problem.is_some() != problem.is_some()
                || identity.is_none() && view.last_problem.as_ref() != problem
        });
        if snapshot.is_none() && !changed {
            return;
        }
        let snapshot = machine.snapshot().clone();
        self.place(&snapshot, host);
        let view = Arc::new(View {
            generation: self.published.as_ref().map_or(0, |view| view.generation) + 1,
            snapshot: snapshot.clone(),
            placements: self.placements.clone(),
            identity,
            identity_ordinal: machine.identity_ordinal(),
            identity_floor: machine.identity_floor(),
            changed_to: machine.changed_to().cloned(),
            identity_denied: machine.identity_denied().cloned(),
            last_problem: machine.last_problem().cloned(),
        });
        if let Some(before) = &self.published {
            warn_of_another_cluster(before, &view);
        }
        self.published = Some(view.clone());
        for port in self.ports.iter() {
            port.send(Control::View(view.clone()));
        }
        for topic in self.accumulator.topics() {
            self.grow(&topic, &snapshot, host);
        }
        self.fail_stashes_at_foreign_cluster(machine);
    }

    /// The user does not want to go on at the cluster that answers: no topic will be known.
    fn fail_stashes_at_foreign_cluster(&self, machine: &MetadataMachine) {
        let Some(clusters) = machine.changed_to() else { return };
        let cause = DeliveryErrorCause::ClusterChanged { found: clusters.found.clone() };
        for topic in self.accumulator.topics() {
            self.fail_stash(&topic, u64::MAX, &cause);
        }
    }

    /// Fails what waits for topics that stayed unknown for too long, and warns of those that may.
    pub fn fail_unknown(&mut self, now: u64, machine: &mut MetadataMachine) {
        let suspicious = machine.poll_suspicious(now);
        if !suspicious.is_empty() {
            log::warn!("{}", unknown_line(&suspicious, machine.auto_create()));
        }
        for unknown in machine.poll_unknown(now) {
            if let Some(topic) = self.accumulator.known_topic(&unknown.topic) {
                log::warn!("topic {}: {}", unknown.topic, unknown.cause);
                self.fail_stash(&topic, unknown.came_before, &unknown.cause);
                // What came later waits on, with a limit of its own.
                let oldest_at = topic.lock_stash().oldest_at();
                if let Some(oldest_at) = oldest_at {
                    machine.handle_wanted(oldest_at.min(now), unknown.topic);
                }
            }
        }
    }

    /// Gives every new broker a shard and an account.
    fn place(&mut self, snapshot: &ClusterSnapshot, host: &mut dyn ShardHost) {
        for (&id, address) in &snapshot.brokers {
            if let Some(placement) = self.placements.get_mut(&id) {
                placement.address = address.clone();
                continue;
            }
            if self.placements.len() >= self.brokers_max {
                log::error!("broker {id} is left out: brokers_max is reached");
                continue;
            }
            let account = match self.accumulator.pool.open_account(AccountKind::Broker) {
                Ok(account) => account,
                Err(error) => {
                    log::error!("broker {id} is left out: {error}");
                    continue;
                }
            };
            self.accumulator.add_broker(id, account);
            let shard = self.shard_for(self.placements.len(), host);
            let placement = Placement { shard, account, address: address.clone() };
            self.placements.insert(id, placement);
        }
    }

    /// The shard for the broker that is the `ordinal`th to be seen.
    fn shard_for(&self, ordinal: usize, host: &mut dyn ShardHost) -> ShardId {
        let shard = ShardId((ordinal % self.shards_max) as u16);
        if self.ports.port(shard).is_some() {
            return shard;
        }
        match host.start_shard(shard) {
            Ok(()) => shard,
            Err(error) => {
                log::warn!("no further event loop ({error}): brokers share those there are");
                ShardId(0)
            }
        }
    }

    /// Makes lanes for the partitions of `topic` that are new, and lets its senders go to them.
    fn grow(&self, topic: &TopicLanes, snapshot: &ClusterSnapshot, host: &mut dyn ShardHost) {
        let Some(known) = snapshot.topics.get(&topic.name) else { return };
        let partitions = known.partitions.len() as u32;
        if partitions > topic.lane_count() {
            let owner = |partition| {
                let leader = snapshot.partition(&topic.name, partition).and_then(|p| p.leader);
                let placement = leader.and_then(|leader| self.placements.get(&leader));
                placement.map_or(ShardId(0), |placement| placement.shard)
            };
            match self.accumulator.new_lanes(topic, partitions, owner) {
                Ok(halves) => {
                    let lanes: Vec<_> = halves.iter().map(|half| half.lane.clone()).collect();
                    for half in halves {
                        let port = self.ports.port(half.lane.owner());
                        port.expect("placements name shards that exist").send(Control::Lane(half));
                    }
                    topic.grow(lanes);
                }
                Err(limit) => {
                    log::error!("topic {}: lanes_max = {} is reached", topic.name, limit.lanes_max);
                    if topic.lane_count() == 0 {
                        let lanes_max = limit.lanes_max;
                        let cause = DeliveryErrorCause::TooManyLanes { lanes_max };
                        self.fail_stash(topic, u64::MAX, &cause);
                        return;
                    }
                }
            }
        }
        topic.set_partitions(known.count);
        let stash = topic.lock_stash();
        topic.set_known(&stash);
        let draining = !stash.is_empty();
        drop(stash);
        if draining && let Some(topic) = self.accumulator.known_topic(&topic.name) {
            host.drain_stash(topic);
        }
    }

    fn fail_stash(&self, topic: &TopicLanes, came_before: u64, cause: &DeliveryErrorCause) {
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let mut wakes = WakeList::new();
        let failed = topic.lock_stash().fail(came_before, &destination, cause, &mut wakes);
        drop(failed);
        wakes.wake_all();
        if wakes.take_flushers() {
            self.accumulator.flush.notify();
        }
    }
}

/// Names of unknown topics in one warning.
const NAMES_MAX: usize = 5;

/// What the log says of topics that stay unknown.
fn unknown_line(topics: &[Arc<str>], auto_create: bool) -> String {
    let shown: Vec<String> =
        topics.iter().take(NAMES_MAX).map(|name| format!("\"{name}\"")).collect();
    let more = match topics.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (topics, is, names) = if topics.len() == 1 {
        ("topic", "is", "its name")
    } else {
        ("topics", "are", "the names")
    };
    let why = if auto_create {
        "asking did not create it, though tidegate.allow.auto.create.topics is true: brokers may \
         have auto.create.topics.enable=false"
    } else {
        "asking does not create it (tidegate.allow.auto.create.topics is false)"
    };
    format!(
        "{topics} {}{more} {is} unknown to the cluster: check {names}, or create what is missing; \
         {why}; records wait for tidegate.topic.unknown.max.ms, then fail",
        shown.join(", ")
    )
}

/// Once for each change: where the records go is the user's concern.
fn warn_of_another_cluster(before: &View, after: &View) {
    let name = |view: &View| view.snapshot.cluster_id.clone().unwrap_or_default();
    if before.snapshot.cluster != after.snapshot.cluster {
        log::warn!(
            "the brokers are of another cluster: {} instead of {}; records go there from now on, \
             and what may have been written to the old one fails",
            name(after),
            name(before)
        );
    }
    if let (None, Some(clusters)) = (&before.changed_to, &after.changed_to) {
        log::warn!(
            "the brokers are of another cluster: {} instead of {}; records fail until the old one \
             is back (tidegate.cluster.change = fail)",
            clusters.found,
            clusters.known
        );
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::batch::AccumulatorConfig;
    use crate::buffer::{AccountId, BufferPool, BufferPoolOptions};
    use crate::cluster::ChannelId;
    use crate::cluster::tests::{machine, metadata, topic};
    use crate::protocol::{ErrorCode, InitProducerIdResponse, ProducerIdentity};
    use crate::shard::{ShardPort, WakeLoop};
    use crate::sync::Doorbell;

    const MS: u64 = 1_000_000;
    const FIRST: ChannelId = ChannelId::FIRST;

    struct NoWaker;

    impl WakeLoop for NoWaker {
        fn wake(&self) {}
    }

    /// One shard, and nothing is stashed.
    struct OneShard;

    impl ShardHost for OneShard {
        fn start_shard(&mut self, shard: ShardId) -> io::Result<()> {
            unreachable!("{shard:?}: one is all there may be");
        }

        fn drain_stash(&mut self, topic: Arc<TopicLanes>) {
            unreachable!("nothing is stashed for {}", topic.name);
        }
    }

    struct Bench {
        machine: MetadataMachine,
        publisher: Publisher,
        port: Arc<ShardPort>,
        topic: Arc<TopicLanes>,
    }

    fn bench() -> Bench {
        let options = BufferPoolOptions { bytes: 1 << 20, ..Default::default() };
        let pool = BufferPool::new(&options).expect("the system gives a test some memory");
        let config = AccumulatorConfig {
            batch_size: 1 << 14,
            delivery_timeout: 120_000 * MS,
            lanes_max: 4,
            leaderless_account: AccountId::LEADERLESS,
            stash_account: AccountId::STASH,
        };
        let accumulator = RecordAccumulator::new(config, pool);
        let first: Arc<dyn crate::Partitioner> = Arc::new(|_: &crate::PartitionRequest<'_>| 0);
        let topic = accumulator.topic("t", || first);
        let ports = PortTable::new(1);
        let port = ShardPort::new(16, Arc::new(Doorbell::new()), Arc::new(NoWaker));
        ports.set(ShardId(0), port.clone());
        let mut machine = machine(&["boot"], true);
        machine.handle_wanted(0, "t".into());
        let publisher = Publisher::new(accumulator, ports, 1, 16);
        Bench { machine, publisher, port, topic }
    }

    impl Bench {
        /// The view that the shard was sent, if there was one, and how many lanes.
        fn publish(&mut self) -> (Option<Arc<View>>, usize) {
            self.publisher.publish(&mut self.machine, &mut OneShard);
            let (mut views, mut lanes) = (Vec::new(), 0);
            while let Some(message) = self.port.pop_control() {
                match message {
                    Control::View(view) => views.push(view),
                    Control::Lane(_) => lanes += 1,
                    _ => panic!("nothing else is published"),
                }
            }
            assert!(views.len() <= 1);
            (views.pop(), lanes)
        }

        fn connect(&mut self, now: u64) {
            self.machine.poll_connect(now).expect("it has somewhere to go");
            self.machine.handle_ready(FIRST);
        }

        fn answer_metadata(&mut self, now: u64, partitions: i32) {
            self.machine.handle_refresh_wanted();
            self.machine.poll_query(FIRST, now).expect("it asks");
            let partitions: Vec<_> = (0..partitions).map(|index| (index, Some(1), 1)).collect();
            let response = metadata(&[1], vec![topic("t", &partitions)]);
            self.machine.handle_metadata(FIRST, now, &response);
        }

        fn answer_identity(&mut self, now: u64, error: ErrorCode) {
            self.machine.poll_query(FIRST, now).expect("it asks");
            let identity = ProducerIdentity { id: 7, epoch: 0 };
            let response = InitProducerIdResponse { throttle_time_ms: 0, error, identity };
            self.machine.handle_identity(FIRST, now, &response);
        }
    }

    #[test]
    fn a_view_is_published_when_something_in_it_changed_and_only_then() {
        let mut bench = bench();
        let (view, _) = bench.publish();
        assert_eq!(view.expect("the first").generation, 1);
        assert!(bench.publish().0.is_none(), "nothing new");

        // A problem; another one, while it keeps shards from numbering batches.
        bench.machine.poll_connect(0).expect("it has somewhere to go");
        bench.machine.handle_down(FIRST, 0, "refused".into());
        let view = bench.publish().0.expect("a problem");
        assert_eq!((view.generation, view.last_problem.as_deref()), (2, Some("refused")));
        assert!(bench.publish().0.is_none());
        bench.machine.poll_connect(50 * MS).expect("again");
        bench.machine.handle_down(FIRST, 50 * MS, "reset".into());
        let view = bench.publish().0.expect("another problem");
        assert_eq!(view.last_problem.as_deref(), Some("reset"));

        bench.connect(1_000 * MS);
        bench.answer_metadata(1_000 * MS, 2);
        let (view, lanes) = bench.publish();
        let view = view.expect("a cluster");
        assert_eq!((lanes, bench.topic.partitions(), view.placements.len()), (2, 2, 1));
        assert_eq!((view.identity, view.identity_denied.is_none()), (None, true));
        assert!(bench.publish().0.is_none());

        bench.answer_identity(1_000 * MS, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        let view = bench.publish().0.expect("a refusal");
        let Some(DeliveryErrorCause::Broker { code, message: Some(words) }) = &view.identity_denied
        else {
            panic!("{:?}", view.identity_denied);
        };
        assert_eq!(*code, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        assert!(words.contains("IdempotentWrite") && words.contains("enable_idempotence"));
        assert!(bench.publish().0.is_none());
        bench.answer_identity(2_000 * MS, ErrorCode::NONE);
        let view = bench.publish().0.expect("a producer id");
        assert!(view.identity.is_some_and(|id| id.id == 7) && view.identity_denied.is_none());
        assert_eq!(view.identity_ordinal, 1);
        let generation = view.generation;

        // Growth, as far as there may be lanes.
        bench.answer_metadata(3_000 * MS, 4);
        let (view, lanes) = bench.publish();
        assert_eq!((view.expect("growth").generation, lanes), (generation + 1, 2));
        bench.answer_metadata(4_000 * MS, 9);
        let (view, lanes) = bench.publish();
        assert_eq!((view.is_some(), lanes, bench.topic.partitions()), (true, 0, 4));
    }
}
