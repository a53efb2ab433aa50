//! The real client: lanes, shards, the metadata machine and its publisher.

use std::sync::Arc;
use std::time::Duration;

use tidegate::internals::batch::{
    AccumulatorConfig, CellHandle, FallbackQueue, RecordAccumulator, Refusal, ShardId, TopicLanes,
    TopicSettings, drain_stash, take_room,
};
use tidegate::internals::buffer::{AccountId, BufferPool, BufferPoolOptions, ScratchSlot, Segment};
use tidegate::internals::cluster::{BrokerAddress, MetadataConfig, MetadataMachine, Want};
use tidegate::internals::connection::ConnectionConfig;
use tidegate::internals::protocol::PartitionId;
use tidegate::internals::protocol::records::RecordParts;
use tidegate::internals::shard::{
    PortTable, Publisher, PublisherLimits, ReconnectBackoff, Shard, ShardConfig, ShardHost,
    ShardParts, ShardPort,
};
use tidegate::internals::sync::Mailbox;
use tidegate::{ClusterChange, Compression, ExponentialRetry, PartitionRequest, Partitioner};

use super::cluster::{PORT, host, name};
use super::plan::{MS, Plan};
use super::virtual_clock::{NoWaker, VirtualClock};

/// Every shard is there from the start; stashes are emptied in the next turn.
#[derive(Default)]
pub struct Host {
    pub draining: Vec<Arc<TopicLanes>>,
}

impl ShardHost for Host {
    fn start_shard(&mut self, shard: ShardId) -> std::io::Result<()> {
        unreachable!("{shard:?} is there already");
    }

    fn drain_stash(&mut self, topic: Arc<TopicLanes>) {
        self.draining.push(topic);
    }
}

pub struct Client {
    pub clock: VirtualClock,
    pub accumulator: Arc<RecordAccumulator>,
    pub topics: Vec<Arc<TopicLanes>>,
    pub ports: Arc<PortTable>,
    pub shards: Vec<Shard>,
    pub machine: MetadataMachine,
    pub publisher: Publisher,
    pub host: Host,
    /// Gets the records that fail, in every other run.
    pub fallback: Option<Arc<FallbackQueue>>,
    spare: Vec<Segment>,
}

impl Client {
    pub fn new(plan: &Plan) -> Client {
        let options = BufferPoolOptions { bytes: plan.settings.pool_bytes, ..Default::default() };
        let options = BufferPoolOptions { accounts_max: 16, ..options };
        let pool = BufferPool::new(&options).expect("the system gives a test some memory");
        let fallback = (plan.seed % 2 == 1).then(|| FallbackQueue::new(0));
        let topics = Arc::new(topic_settings(plan, fallback.clone()));
        let config =
            AccumulatorConfig { topics, lanes_max: 64, leaderless_account: AccountId::LEADERLESS };
        let accumulator = RecordAccumulator::new(config, pool);
        let ports = PortTable::new(plan.shards);
        let config = Arc::new(shard_config(plan));
        let shards = (0..plan.shards).map(|index| {
            let id = ShardId(index as u16);
            let control = Mailbox::new(Arc::default(), Arc::new(NoWaker));
            ports.set(id, ShardPort::new(64, control));
            Shard::new(id, shard_parts(plan, config.clone(), &accumulator.pool, index))
        });
        let shards = shards.collect();
        let mut machine = MetadataMachine::new(metadata_config(plan), plan.seed);
        let topics = (0..plan.topics.len()).map(|index| {
            let to_zero: Arc<dyn Partitioner> = Arc::new(|_: &PartitionRequest<'_>| 0);
            machine.handle_wanted(0, name(index).into(), Want::Record);
            accumulator.topic(&name(index), || to_zero)
        });
        let limits =
            PublisherLimits { shards_max: plan.shards, brokers_max: 16, topic_idle_max: u64::MAX };
        Client {
            clock: VirtualClock::default(),
            topics: topics.collect(),
            publisher: Publisher::new(accumulator.clone(), ports.clone(), limits),
            accumulator,
            ports,
            shards,
            machine,
            host: Host::default(),
            fallback,
            spare: Vec::new(),
        }
    }

    /// Sends one record as `Topic::send` does; `None` if there is no room.
    pub fn send(&mut self, topic: usize, partition: usize, value: &[u8]) -> Option<CellHandle> {
        let parts = RecordParts { key: None, value: Some(value), headers: &[] };
        let context = self.accumulator.append_context(&self.accumulator.config.topics, &self.clock);
        self.spare.clear();
        let lane = self.topics[topic].lane(PartitionId::from_index(partition))?;
        let mut post = false;
        let issued = lane.append_plain(0, None, Some(value), &mut post);
        if post {
            self.ports.post(lane);
        }
        if let Some(issued) = issued {
            return Some(issued.into_handle(0));
        }
        loop {
            let appended = lane.append(&context, 0, &parts, &mut self.spare);
            if appended.post {
                self.ports.post(lane);
            }
            match appended.result {
                Ok(handle) => return Some(handle),
                Err(Refusal::NeedRoom(need)) => {
                    self.spare.clear();
                    let pool = &self.accumulator.pool;
                    if !take_room(pool, lane.account(), need, &mut self.spare) {
                        return None;
                    }
                }
                Err(Refusal::Closed) => panic!("nobody closed the lane"),
            }
        }
    }

    /// What the stash thread does.
    pub fn drain_stashes(&mut self) {
        for topic in std::mem::take(&mut self.host.draining) {
            let context =
                self.accumulator.append_context(&self.accumulator.config.topics, &self.clock);
            let ports = &self.ports;
            let budget = (usize::MAX, &mut self.spare);
            let post = &mut |lane: &tidegate::internals::batch::LaneTail| ports.post(lane);
            let mut wakes = tidegate::internals::sync::WakeList::default();
            drain_stash(&self.accumulator, &topic, &context, budget, post, &mut wakes);
            wakes.wake_all();
        }
    }

    /// Nothing is left: every batch is resolved, and every byte of the pool is free.
    pub fn assert_idle(&self) {
        for lane in self.accumulator.lanes() {
            let (opened, _) = lane.seal(false);
            assert_eq!(lane.resolved(), opened, "batches below this number are resolved");
        }
        let stats = self.accumulator.pool.stats();
        assert_eq!(stats.free + stats.scratch, stats.capacity, "segments are in use");
        for (broker, account) in self.accumulator.brokers() {
            let charged = self.accumulator.pool.levels(account).charged;
            assert_eq!(charged, 0, "bytes are charged to broker {broker}");
        }
    }
}

fn metadata_config(plan: &Plan) -> MetadataConfig {
    let bootstrap = (0..2).map(|broker| BrokerAddress { host: host(broker).into(), port: PORT });
    MetadataConfig {
        bootstrap: bootstrap.collect(),
        age_max: 5_000 * MS,
        interval_min: 20 * MS,
        leaderless_interval_max: 200 * MS,
        topic_unknown_max: 10_000 * MS,
        delivery_timeout: 120_000 * MS,
        reconnect_backoff: ReconnectBackoff {
            first: 5 * MS,
            longest: 50 * MS,
            quick: 0,
            jitter_percent: 20,
        },
        auto_create: true,
        on_cluster_change: ClusterChange::Follow,
        cluster_change_hold: 100_000_000,
        idempotent: plan.settings.idempotent,
        idempotence_required: false,
    }
}

fn topic_settings(plan: &Plan, fallback: Option<Arc<FallbackQueue>>) -> TopicSettings {
    let settings = &plan.settings;
    TopicSettings {
        acks: settings.acks,
        idempotent: settings.idempotent,
        linger: settings.linger,
        batch_size: settings.batch_size,
        delivery_timeout: settings.delivery_timeout,
        compressions: vec![settings.compression],
        create: None,
        fallback,
        spills: false,
    }
}

fn shard_config(plan: &Plan) -> ShardConfig {
    let settings = &plan.settings;
    let connection = ConnectionConfig {
        client_id: "simulated".into(),
        request_timeout: settings.request_timeout,
        handshake_timeout: settings.request_timeout,
        throttle_max: 120_000 * MS,
        response_bytes_max: 1 << 20,
        sasl_mechanism: None,
        is_tls: false,
        is_proxied: false,
        peers: Arc::default(),
    };
    ShardConfig {
        idempotent: settings.idempotent,
        idempotence_required: false,
        in_flight_max: settings.in_flight,
        producer_id_idle_max: settings.producer_id_idle_max,
        topic_unknown_max: 10_000 * MS,
        request_timeout_ms: settings.broker_timeout_ms,
        part_filled_floor: Some(MS / 10),
        availability_timeout: None,
        request_bytes: settings.request_bytes_max,
        request_bytes_max: settings.request_bytes_max,
        retries: u32::MAX,
        tries_for_all: true,
        reconnect_backoff: ReconnectBackoff {
            first: 5 * MS,
            longest: 40 * MS,
            quick: 0,
            jitter_percent: 20,
        },
        idle_max: 540_000 * MS,
        connection: Arc::new(connection),
    }
}

fn shard_parts(
    plan: &Plan,
    config: Arc<ShardConfig>,
    pool: &BufferPool,
    index: usize,
) -> ShardParts {
    let first = Duration::from_millis(plan.settings.retry_backoff_ms);
    let backoff = ExponentialRetry::new(first, first * 4);
    let compresses = plan.settings.compression != Compression::None;
    let carve = || {
        let scratch = pool.carve_scratch(1 << 14);
        ScratchSlot::new(scratch.expect("the pool is fresh and larger"))
    };
    ShardParts {
        config,
        retry_policy: Arc::new(backoff),
        pool: pool.clone(),
        scratch: compresses.then(carve),
        random: plan.seed.rotate_left(index as u32),
    }
}
