//! What the metadata thread does for shards: it gives brokers a shard, topics their lanes, and
//! every shard a view of the cluster.

use std::io;
use std::sync::Arc;

use super::changes::publish_changes;
use super::idle::IdleTopics;
use super::placements::Placements;
use super::port::{Control, PortTable};
use super::view::View;
use crate::engine::batch::{
    Destination, LaneId, LaneTail, RecordAccumulator, ShardId, TopicLanes, TopicState,
};
use crate::engine::buffer::AccountId;
use crate::engine::cluster::{Arrived, MetadataMachine, TopicView, UnknownTopic, Want};
use crate::engine::sync::WakeList;
use crate::error::DeliveryErrorCause;
use crate::logging as log;

/// What a [`Publisher`] needs done by somebody who has threads.
pub trait ShardHost {
    /// Starts a shard: when this returns, its port is in the table.
    fn start_shard(&mut self, shard: ShardId) -> io::Result<()>;
    /// The topic's lanes are there: what is stashed for it goes to them.
    fn drain_stash(&mut self, topic: Arc<TopicLanes>);
}

/// How many brokers and shards there may be, and for how long topics are followed unused.
#[derive(Clone, Copy, Debug)]
pub struct PublisherLimits {
    /// Brokers are spread over so many shards, of which number 0 is there already.
    pub shards_max: usize,
    /// Brokers at the most, those included that are just gone.
    pub brokers_max: usize,
    /// A topic that nothing was sent to for this long is not asked about any more (nanoseconds).
    pub topic_idle_max: u64,
}

/// Places brokers on shards, makes lanes for partitions, and publishes views. Fed with the metadata
/// machine's news, by its driver.
pub struct Publisher {
    accumulator: Arc<RecordAccumulator>,
    ports: Arc<PortTable>,
    placements: Placements,
    idle: IdleTopics,
    published: Option<Arc<View>>,
}

impl Publisher {
    /// One that has published nothing.
    pub fn new(
        accumulator: Arc<RecordAccumulator>,
        ports: Arc<PortTable>,
        limits: PublisherLimits,
    ) -> Self {
        let (shards_max, brokers_max) = (limits.shards_max, limits.brokers_max);
        let placements =
            Placements::new(accumulator.clone(), ports.clone(), shards_max, brokers_max);
        let idle = IdleTopics::new(limits.topic_idle_max);
        Publisher { accumulator, ports, placements, idle, published: None }
    }

    /// A topic is to be asked about.
    pub fn handle_wanted(
        &mut self,
        now: u64,
        name: Arc<str>,
        why: Want,
        machine: &mut MetadataMachine,
        host: &mut dyn ShardHost,
    ) {
        if self.want(now, name.clone(), why, machine)
            && let Some(view) = self.published.clone()
        {
            // True: the topic is known. Metadata came while the sender stashed its record, which
            // nothing else would move. (Lanes may also be missing because of `lanes_max`.)
            self.grow(&name, &view, host);
        }
        self.fail_stashes_at_foreign_cluster(machine);
    }

    /// Has the machine ask about a topic, within the time that its records have. Returns whether
    /// enough is known of it.
    fn want(&self, now: u64, name: Arc<str>, why: Want, machine: &mut MetadataMachine) -> bool {
        let is_known = machine.handle_wanted(now, name.clone(), why);
        if let Some(topic) = self.accumulator.known_topic(&name) {
            machine.set_delivery_timeout(&name, topic.settings.delivery_timeout);
            if topic.settings.create.is_some() {
                machine.set_creatable(&name);
            }
        }
        is_known
    }

    /// When [`Publisher::publish`] has something to do although the machine has no news.
    pub fn poll_timeout(&self) -> Option<u64> {
        [self.placements.poll_timeout(), self.idle.poll_timeout()].into_iter().flatten().min()
    }

    /// Publishes what changed, to every shard, and makes lanes for new partitions.
    pub fn publish(&mut self, now: u64, machine: &mut MetadataMachine, host: &mut dyn ShardHost) {
        let unused = self.idle.look(now, &self.accumulator, machine);
        self.give_up(&unused);
        self.accumulator.set_refreshes(machine.refreshes());
        let news = machine.take_snapshot().is_some();
        let snapshot = machine.snapshot().clone();
        let generation = self.published.as_ref().map_or(0, |view| view.generation) + 1;
        if news || self.placements.is_due(now) {
            self.placements.update(now, &snapshot, generation, host);
        }
        let identity = machine.identity();
        let problem = machine.last_problem();
        let (placements, left_out) = (self.placements.placed(), self.placements.left_out());
        let changed = self.published.as_ref().is_none_or(|view| {
            // Errors of batches that time out name the problem. Without a producer id each new
            // problem is published, because batches time out for it. With one, only the change
            // between "a problem" and "no problem" is.
            view.identity != identity
                || view.identity_denied.as_ref() != machine.identity_denied()
                || view.without_identity != machine.is_without_identity()
                || view.changed_to.as_ref() != machine.changed_to()
                || view.last_problem.is_some() != problem.is_some()
                || identity.is_none() && view.last_problem.as_ref() != problem
                || !Arc::ptr_eq(&view.placements, placements)
                || !Arc::ptr_eq(&view.left_out, left_out)
        });
        let arrived = machine.take_arrived();
        if news || changed {
            let view = Arc::new(View {
                generation,
                snapshot,
                placements: placements.clone(),
                left_out: left_out.clone(),
                identity,
                identity_ordinal: machine.identity_ordinal(),
                identity_floor: machine.identity_floor(),
                changed_to: machine.changed_to().cloned(),
                identity_denied: machine.identity_denied().cloned(),
                without_identity: machine.is_without_identity(),
                last_problem: machine.last_problem().cloned(),
            });
            let before = self.published.replace(view.clone());
            if let Some(before) = &before {
                view.warn_of_changes(before);
            }
            let before = before.map(|view| view.snapshot.clone()).unwrap_or_default();
            // First: who listens hears of a broker before of the connection to it.
            let accumulator = &self.accumulator;
            publish_changes(&before, &view.snapshot, &accumulator.failures.events, |topic| {
                accumulator.known_topic(topic).is_some()
            });
            for port in self.ports.iter() {
                port.send(Control::View(view.clone()));
            }
            for (name, _) in view.snapshot.changed_since(&before) {
                self.grow(name, &view, host);
            }
        }
        if let Some(view) = self.published.clone() {
            for Arrived { topic: name, asked_at } in arrived {
                if self.note_answer(now, asked_at, &name) {
                    self.grow(&name, &view, host);
                } else {
                    self.want(now, name, Want::Partition, machine);
                }
            }
        }
        self.fail_stashes_at_foreign_cluster(machine);
    }

    /// Where the user has set `tidegate.cluster.change=fail` and the brokers turn out to be of
    /// another cluster: fails what is stashed, because its topics will never be known.
    fn fail_stashes_at_foreign_cluster(&self, machine: &MetadataMachine) {
        let Some(clusters) = machine.changed_to() else { return };
        let cause = DeliveryErrorCause::ClusterChanged { found: clusters.found.clone() };
        for topic in self.accumulator.topics() {
            self.fail_stash(&topic, u64::MAX, &cause);
        }
    }

    /// Fails what waits for topics that stayed unknown for too long, and warns of those that
    /// may. The driver calls this before [`Publisher::publish`]: it sends the senders of a deleted
    /// topic back to the stash first. When shards then read the view they fail what its lanes hold,
    /// and a sender that still appended to one would have its record failed with them.
    pub fn fail_unknown(&mut self, now: u64, machine: &mut MetadataMachine) {
        let suspicious = machine.poll_suspicious(now);
        if !suspicious.is_empty() {
            log::warn!("{}", unknown_line(&suspicious, machine.auto_create()));
        }
        for UnknownTopic { topic: name, came_before, cause } in machine.poll_unknown(now) {
            let Some(topic) = self.accumulator.known_topic(&name) else { continue };
            log::warn!("topic {name}: {cause}");
            if cause.is_topic_missing() {
                topic.set_unknown(&topic.lock_stash());
            }
            self.fail_stash(&topic, came_before, &cause);
            // What came later waits on, with a limit of its own.
            let waits_since = {
                let stash = topic.lock_stash();
                // Records on disk do not fail: from their own time on the limit would be over at
                // once, and each answer of a broker would be told to the log.
                if stash.is_spilled() { Some(now) } else { stash.oldest_at() }
            };
            if let Some(waits_since) = waits_since {
                self.want(waits_since.min(now), name, Want::Record, machine);
            }
        }
    }

    /// Brokers answered a question about a topic. Records that are stashed although the topic is
    /// ready name a partition that was not known. Lets them be moved, which fails those whose
    /// partition still does not exist. For one second after this, records for partitions that are
    /// not known do not cause another question. Returns false if a record came after the question,
    /// so that brokers must be asked once more; true otherwise, also if nothing is stashed.
    fn note_answer(&self, now: u64, asked_at: u64, name: &str) -> bool {
        let Some(topic) = self.accumulator.known_topic(name) else { return true };
        let mut stash = topic.lock_stash();
        if topic.state() != TopicState::Ready || stash.is_empty() {
            return true;
        }
        let takes = stash.takes_answer(asked_at);
        if takes {
            stash.note_answer(now);
            topic.set_draining(&stash);
        }
        takes
    }

    /// Makes lanes for the partitions of a topic that are new, and lets its senders go to them.
    /// What waits for a partition of a topic that is ready goes on if the topic has grown, or an
    /// answer came for it: see [`Publisher::note_answer`].
    fn grow(&self, name: &str, view: &View, host: &mut dyn ShardHost) {
        let Some(topic) = self.accumulator.known_topic(name) else { return };
        let Some(known) = view.snapshot.topics.get(name) else { return };
        if known.count == 0 {
            // At another cluster, where its partitions are not known yet.
            return;
        }
        // `partitions` also holds those of an earlier topic of this name; `count` is what exists
        // now.
        if known.partitions.len() > topic.lane_count() {
            self.add_lanes(&topic, known, view);
        }
        let stash = topic.lock_stash();
        let ready = topic.state() == TopicState::Ready;
        if ready && known.count == topic.partitions() {
            return;
        }
        topic.set_known(&stash, known.count);
        let draining = !stash.is_empty();
        drop(stash);
        if draining {
            host.drain_stash(topic);
        } else {
            // Who waits for room in the stash with this topic's first record no longer has to.
            self.accumulator.pool.dismiss(AccountId::STASH);
        }
    }

    fn add_lanes(&self, topic: &TopicLanes, known: &TopicView, view: &View) {
        let owner = |partition: crate::engine::protocol::PartitionId| {
            let leader = known.partitions.get(partition.index()).and_then(|p| p.leader);
            let placement = leader.and_then(|leader| view.placements.get(&leader));
            placement.map_or(ShardId(0), |placement| placement.shard)
        };
        let partitions = known.partitions.len();
        let missing = partitions - topic.lane_count();
        if self.accumulator.lanes_left() < missing {
            // Topics that nobody has a handle to need not wait until they count as unused.
            let unheld = self.accumulator.forget_topics(|_| true);
            self.give_up(&unheld);
        }
        let heads = self.accumulator.new_lanes(topic, partitions, owner);
        let lanes: Vec<_> = heads.iter().map(|head| head.tail.clone()).collect();
        if topic.lane_count() + lanes.len() < partitions {
            let lanes_max = self.accumulator.config.lanes_max;
            log::error!("topic {}: lanes_max = {lanes_max} is reached", topic.name);
        }
        for mut head in heads {
            // A shard takes new lanes before it applies the view that it found in the same turn
            // (`Shard::begin_turn`). Without `seen` it would apply an older view to the lane, which
            // does not name it.
            head.seen = view.generation;
            let port = self.ports.port(head.tail.owner());
            port.expect("placements name shards that exist").send(Control::Lane(head));
        }
        topic.grow(lanes);
    }

    /// Has shards drop the lanes that nobody can send to any more.
    fn give_up(&self, lanes: &[Arc<LaneTail>]) {
        if lanes.is_empty() {
            return;
        }
        let ids: Arc<[LaneId]> = lanes.iter().map(|lane| lane.id).collect();
        for port in self.ports.iter() {
            port.send(Control::GivenUp(ids.clone()));
        }
    }

    fn fail_stash(&self, topic: &TopicLanes, came_before: u64, cause: &DeliveryErrorCause) {
        let destination = Destination { topic: topic.name.clone(), partition: None };
        let mut wakes = WakeList::new();
        let failed = topic.lock_stash().fail(came_before, &destination, cause, &mut wakes);
        topic.failed_in_stash.add_shared(failed.records as u64);
        topic.give_back(failed);
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
        "asking did not create it, though allow_auto_create_topics \
         (tidegate.allow.auto.create.topics) is true: brokers may have \
         auto.create.topics.enable=false"
    } else {
        "asking does not create it: allow_auto_create_topics (tidegate.allow.auto.create.topics) \
         is false"
    };
    format!(
        "{topics} {}{more} {is} unknown to the cluster: check {names}, or create what is missing; \
         {why}; records wait for topic_unknown_max (tidegate.topic.unknown.max.ms), then fail",
        shown.join(", ")
    )
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::batch::AccumulatorConfig;
    use crate::engine::buffer::{AccountId, BufferPool, BufferPoolOptions};
    use crate::engine::cluster::ChannelId;
    use crate::engine::cluster::tests::{machine, metadata, topic};
    use crate::engine::policy::{Chooser, DefaultPartitioner};
    use crate::engine::protocol::{BrokerId, ErrorCode, InitProducerIdResponse, ProducerIdentity};
    use crate::engine::shard::ShardPort;
    use crate::engine::sync::{Mailbox, WakeLoop};
    use crate::problem::Problem;

    const MS: u64 = 1_000_000;
    const FIRST: ChannelId = ChannelId::FIRST;
    const IDLE_MAX: u64 = 300_000 * MS;

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
            topics: Arc::default(),
            lanes_max: 4,
            leaderless_account: AccountId::LEADERLESS,
        };
        let accumulator = RecordAccumulator::new(config, pool);
        let first: Arc<dyn crate::Partitioner> = Arc::new(|_: &crate::PartitionRequest<'_>| 0);
        let topic = accumulator.topic("t", || first);
        let ports = PortTable::new(1);
        let port = ShardPort::new(16, Mailbox::new(Arc::default(), Arc::new(NoWaker)));
        ports.set(ShardId(0), port.clone());
        let mut machine = machine(&["boot"], true);
        machine.handle_wanted(0, "t".into(), Want::Record);
        let limits = PublisherLimits { shards_max: 1, brokers_max: 16, topic_idle_max: IDLE_MAX };
        let publisher = Publisher::new(accumulator, ports, limits);
        Bench { machine, publisher, port, topic }
    }

    impl Bench {
        /// The view that the shard was sent, if there was one, and how many lanes.
        fn publish(&mut self) -> (Option<Arc<View>>, usize) {
            self.publisher.publish(0, &mut self.machine, &mut OneShard);
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

        /// The view that is published at this time, if there is one.
        fn publish_at(&mut self, now: u64) -> Option<Arc<View>> {
            let before = self.publisher.published.as_ref().map_or(0, |view| view.generation);
            self.publisher.publish(now, &mut self.machine, &mut OneShard);
            self.publisher.published.clone().filter(|view| view.generation > before)
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
        assert_eq!(
            (view.generation, view.last_problem.as_ref().map(Problem::message)),
            (2, Some("refused"))
        );
        assert!(bench.publish().0.is_none());
        bench.machine.poll_connect(50 * MS).expect("again");
        bench.machine.handle_down(FIRST, 50 * MS, "reset".into());
        let view = bench.publish().0.expect("another problem");
        assert_eq!(view.last_problem.as_ref().map(Problem::message), Some("reset"));

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
        assert!(words.contains("IdempotentWrite") && words.contains("enable.idempotence"));
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
        // The others are known all the same: keys are hashed over all.
        assert_eq!((view.is_some(), lanes, bench.topic.partitions()), (true, 0, 9));
        assert_eq!(bench.topic.lane_count(), 4);
    }

    #[test]
    fn f49_thousands_of_brokers_come_and_go_in_the_places_of_a_few() {
        const BROKERS: i32 = 5_000;
        let mut bench = bench();
        bench.connect(0);
        for id in 1..=BROKERS {
            let now = id as u64 * 1_000 * MS;
            bench.machine.handle_refresh_wanted();
            bench.machine.poll_query(FIRST, now).expect("it asks");
            let led = topic("t", &[(0, Some(id), id)]);
            bench.machine.handle_metadata(FIRST, now, &metadata(&[id], vec![led]));
            let view = bench.publish_at(now).expect("a broker is new");
            assert!(view.left_out.is_empty(), "{:?}", view.left_out);
            assert!(view.placements.contains_key(&BrokerId(id)));
            assert!(view.placements.len() <= 16);
            bench.port.set_applied(view.generation);
        }
        assert!(bench.publisher.accumulator.brokers().len() <= 16);
        // Nobody new comes: those that are gone leave after a while.
        let later = (BROKERS as u64 + 40) * 1_000 * MS;
        assert!(bench.publisher.poll_timeout().is_some_and(|at| at <= later));
        let view = bench.publish_at(later).expect("they are in the view no longer");
        assert_eq!(view.placements.keys().copied().collect::<Vec<_>>(), [BrokerId(BROKERS)]);
        let levels = bench.publisher.accumulator.brokers();
        assert_eq!(levels.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [BrokerId(BROKERS)]);
    }

    #[test]
    fn c59_a_broker_for_which_there_is_no_place_is_left_out_with_the_limits_name() {
        let mut bench = bench();
        bench.connect(0);
        bench.machine.poll_query(FIRST, 0).expect("it asks");
        let brokers: Vec<_> = (1..=17).collect();
        let led = topic("t", &[(0, Some(17), 1)]);
        bench.machine.handle_metadata(FIRST, 0, &metadata(&brokers, vec![led.clone()]));
        let view = bench.publish_at(0).expect("a cluster");
        let why = &view.left_out[&BrokerId(17)];
        assert!(
            why.message().contains("broker 17") && why.message().contains("brokers_max = 16"),
            "{why}"
        );
        bench.port.set_applied(view.generation);
        // Another one leaves: its place is the left out one's, as soon as no shard needs it.
        let mut now = 1_000 * MS;
        bench.machine.handle_refresh_wanted();
        bench.machine.poll_query(FIRST, now).expect("it asks");
        bench.machine.handle_metadata(FIRST, now, &metadata(&brokers[1..], vec![led]));
        while let Some(view) = bench.publish_at(now) {
            bench.port.set_applied(view.generation);
            now = bench.publisher.poll_timeout().expect("it is looked at again");
        }
        let view = bench.publisher.published.clone().expect("a view");
        assert!(view.left_out.is_empty() && view.placements.contains_key(&BrokerId(17)));
    }

    #[test]
    fn c59_a_topic_that_nobody_has_a_handle_to_goes_with_its_lanes_after_a_while() {
        let mut bench = bench();
        bench.connect(0);
        bench.answer_metadata(0, 2);
        assert!(bench.publish_at(0).is_some());
        let Bench { publisher, machine, topic, .. } = &mut bench;
        let accumulator = publisher.accumulator.clone();
        assert_eq!((topic.partitions(), accumulator.lanes().len()), (2, 2));
        let mut look = |now: u64| publisher.publish(now, machine, &mut OneShard);
        // While there is a handle only its metadata is not asked about any more.
        for round in 0..20 {
            look(round * IDLE_MAX / 4);
        }
        assert_eq!(topic.state(), TopicState::Unknown, "the next record asks for it");
        assert!(accumulator.known_topic("t").is_some());
        *topic = accumulator.topic("other", || Chooser::Default(DefaultPartitioner::new()));
        (20..24).for_each(|round| look(round * IDLE_MAX / 4));
        assert!(accumulator.known_topic("t").is_none() && accumulator.lanes().is_empty());
        assert!(machine.snapshot().topics.is_empty());
        // The shard is told, drops the heads, and their ids are used again.
        let mut heads = Vec::new();
        let mut told = 0;
        while let Some(message) = bench.port.pop_control() {
            match message {
                Control::Lane(head) => heads.push(head),
                Control::GivenUp(ids) => {
                    told = ids.len();
                    heads.clear();
                }
                _ => {}
            }
        }
        assert_eq!((told, heads.len()), (2, 0));
        let again = accumulator.new_lanes(&bench.topic, 3, |_| ShardId(0));
        let mut ids: Vec<_> = again.iter().map(|head| head.tail.id.0).collect();
        ids.sort_unstable();
        assert_eq!(ids, [0, 1, 2]);
    }
}
