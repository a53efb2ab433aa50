//! Drives real shards, real lanes and the real metadata machine against the model, on a clock that
//! jumps from one event to the next. No thread, no socket, no real time.

#[path = "drive.rs"]
mod drive;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidegate::internals::batch::{
    AccumulatorConfig, CellHandle, LaneTail, RecordAccumulator, Refusal, ShardId, TopicLanes,
    TopicSettings, take_room,
};
use tidegate::internals::buffer::{AccountId, BufferPool, BufferPoolOptions};
use tidegate::internals::cluster::{
    BrokerAddress, ChannelId, MetadataConfig, MetadataMachine, MetadataQuery, Want,
};
use tidegate::internals::connection::ConnectionConfig;
use tidegate::internals::protocol::records::RecordParts;
use tidegate::internals::protocol::{
    ErrorCode, InitProducerIdResponse, MetadataResponse, PartitionId, ProducerIdentity,
};
use tidegate::internals::shard::{
    Control, LoopLoad, PortTable, Publisher, PublisherLimits, ReconnectBackoff, Shard, ShardConfig,
    ShardHost, ShardParts, ShardPort, Token,
};
use tidegate::internals::sync::Mailbox;
use tidegate::{
    ClusterChange, DeliveryErrorCause, ExponentialRetry, PartitionRequest, PartitionView,
    Partitioner,
};

use crate::model::{Model, Mood, Received, TOPIC};
use crate::virtual_clock::{NoWaker, VirtualClock};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;
/// From a request's last byte to its response's first.
const LATENCY: u64 = 2 * MS;
/// Turns without the clock moving: more means that somebody asks to be called for nothing.
const TURNS_AT_ONCE_MAX: u32 = 1_000;

/// Timers of lanes that are there, and of some that have left.
const TIMERS_MAX: usize = 200;

/// Every shard is there from the start, and nothing is stashed.
struct AllThere;

impl ShardHost for AllThere {
    fn start_shard(&mut self, shard: ShardId) -> std::io::Result<()> {
        unreachable!("{shard:?} is there already");
    }

    fn drain_stash(&mut self, topic: Arc<TopicLanes>) {
        unreachable!("nothing is stashed for {}", topic.name);
    }
}

/// One connection, between a shard and a broker.
struct Wire {
    broker: i32,
    /// What the client wrote and the broker did not take yet: less than a whole frame.
    inbound: Vec<u8>,
    outbound: VecDeque<(u64, Vec<u8>)>,
    /// Requests that came so far: their correlation ids count them.
    requests: i32,
    /// Partitions in requests that are not answered.
    unanswered: VecDeque<Vec<i32>>,
}

/// Something that happened, and when.
#[derive(Clone, Debug)]
pub enum Event {
    Received(Received),
    LaneSent { from: usize, to: usize },
    Refused { broker: i32 },
    Hinted,
    Closed { broker: i32 },
}

/// A question of the metadata machine, with its answer on the way.
enum Answer {
    Metadata(MetadataResponse),
    Identity(InitProducerIdResponse),
}

/// A producer with `shards` shards, and its cluster.
pub struct World {
    clock: VirtualClock,
    pub model: Model,
    /// Brokers that answer later than others, and after how long.
    pub slow: BTreeMap<i32, u64>,
    pub events: Vec<(u64, Event)>,
    /// The length of the longest request that held more than one batch.
    pub longest_shared: usize,
    accumulator: Arc<RecordAccumulator>,
    topic: Arc<TopicLanes>,
    ports: Arc<PortTable>,
    shards: Vec<Shard>,
    wires: BTreeMap<(usize, usize, u32), Wire>,
    /// Connections that are gone, and the shards that had them.
    gone: Vec<(usize, Token)>,
    pub machine: MetadataMachine,
    answer: Option<(u64, Answer)>,
    channel: ChannelId,
    is_connected: bool,
    /// Questions of the metadata machine go unanswered.
    pub metadata_is_silent: bool,
    gives_identity: bool,
    /// A record that is sent, once, when a lane is between two shards.
    pub sent_while_a_lane_moves: Option<String>,
    /// Its delivery.
    pub sent_meanwhile: Option<CellHandle>,
    /// Lanes reach their new shards before the views by which they moved.
    pub lanes_come_first: bool,
    /// The shard that has its turn asked for something.
    acted: bool,
    publisher: Publisher,
    published: (u64, Option<ProducerIdentity>),
    acks: i16,
}

/// What a test may want otherwise.
pub struct Settings {
    pub shards: usize,
    pub brokers: i32,
    pub partitions: i32,
    pub request_timeout: u64,
    pub batch_size: usize,
    pub request_bytes_max: usize,
    pub idempotent: bool,
    /// Brokers answer the question for a producer id.
    pub gives_identity: bool,
    pub acks: i16,
    /// Nanoseconds.
    pub linger: u64,
    /// Nanoseconds.
    pub part_filled_floor: Option<u64>,
    /// Nanoseconds.
    pub availability_timeout: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            shards: 2,
            brokers: 2,
            partitions: 1,
            request_timeout: 30 * SECOND,
            batch_size: 1 << 14,
            request_bytes_max: 8 << 20,
            idempotent: true,
            gives_identity: true,
            acks: -1,
            linger: 0,
            part_filled_floor: Some(MS / 10),
            availability_timeout: None,
        }
    }
}

impl World {
    pub fn new(settings: &Settings) -> World {
        let options = BufferPoolOptions { bytes: 16 << 20, ..Default::default() };
        let pool = BufferPool::new(&options).expect("the system gives a test some memory");
        let topics = Arc::new(TopicSettings {
            acks: settings.acks,
            idempotent: settings.idempotent,
            linger: settings.linger,
            batch_size: settings.batch_size,
            ..TopicSettings::default()
        });
        let config =
            AccumulatorConfig { topics, lanes_max: 64, leaderless_account: AccountId::LEADERLESS };
        let accumulator = RecordAccumulator::new(config, pool);
        let to_zero: Arc<dyn Partitioner> = Arc::new(|_: &PartitionRequest<'_>| 0);
        let topic = accumulator.topic(TOPIC, || to_zero);
        let ports = PortTable::new(settings.shards);
        let shards = (0..settings.shards).map(|index| {
            let id = ShardId(index as u16);
            let control = Mailbox::new(Arc::default(), Arc::new(NoWaker));
            ports.set(id, ShardPort::new(64, control));
            Shard::new(id, shard_parts(settings, &accumulator.pool))
        });
        let limits = PublisherLimits {
            shards_max: settings.shards,
            brokers_max: 16,
            topic_idle_max: u64::MAX,
        };
        let publisher = Publisher::new(accumulator.clone(), ports.clone(), limits);
        let mut machine = MetadataMachine::new(metadata_config(), 1);
        machine.handle_wanted(0, TOPIC.into(), Want::Record);
        World {
            clock: VirtualClock::default(),
            model: Model::new(settings.brokers, settings.partitions),
            slow: BTreeMap::new(),
            events: Vec::new(),
            longest_shared: 0,
            shards: shards.collect(),
            accumulator,
            topic,
            ports,
            wires: BTreeMap::new(),
            gone: Vec::new(),
            machine,
            publisher,
            answer: None,
            channel: ChannelId::FIRST,
            is_connected: false,
            metadata_is_silent: false,
            gives_identity: settings.gives_identity,
            lanes_come_first: false,
            acted: false,
            sent_while_a_lane_moves: None,
            sent_meanwhile: None,
            published: (0, None),
            acks: settings.acks,
        }
    }

    /// A world in which the lanes are there and have their leaders.
    pub fn ready(settings: &Settings) -> World {
        let mut world = World::new(settings);
        world.run_for(SECOND);
        assert_eq!(world.topic.partitions(), settings.partitions);
        world
    }

    pub fn now(&self) -> u64 {
        self.clock.0.get()
    }

    pub fn lane(&self, partition: i32) -> &Arc<LaneTail> {
        self.topic.lane(PartitionId(partition)).expect("the topic is known")
    }

    /// Whether senders that may choose would choose it.
    pub fn is_available(&self, partition: i32) -> bool {
        self.topic.is_available(partition)
    }

    /// Sends one record as `Topic::send` does.
    pub fn send(&self, partition: i32, value: &str) -> CellHandle {
        self.append(partition, value, |lane| self.ports.post(lane))
    }

    fn append(&self, partition: i32, value: &str, post: impl Fn(&LaneTail)) -> CellHandle {
        let lane = self.lane(partition);
        let mut must_post = false;
        let issued = lane.append_plain(0, None, Some(value.as_bytes()), &mut must_post);
        if must_post {
            post(lane);
        }
        if let Some(issued) = issued {
            return issued.into_handle(0);
        }
        let parts = RecordParts { key: None, value: Some(value.as_bytes()), headers: &[] };
        let context = self.accumulator.append_context(&self.accumulator.config.topics, &self.clock);
        let mut spare = Vec::new();
        loop {
            let appended = lane.append(&context, 0, &parts, &mut spare);
            if appended.post {
                post(lane);
            }
            match appended.result {
                Ok(handle) => return handle,
                Err(Refusal::NeedRoom(need)) => {
                    spare.clear();
                    let pool = &self.accumulator.pool;
                    assert!(take_room(pool, lane.account(), need, &mut spare));
                }
                Err(Refusal::Closed) => panic!("nobody closed the lane"),
            }
        }
    }

    /// Posts a lane's id to a shard that need not be its owner.
    pub fn post_to(&self, shard: u16, partition: i32) {
        let port = self.ports.port(ShardId(shard)).expect("the shard exists");
        port.post(self.lane(partition));
    }

    /// Lets everything happen that happens within `time`.
    pub fn run_for(&mut self, time: u64) {
        let end = self.now() + time;
        let mut turns = 0;
        loop {
            self.turn();
            let next = self.next_event().unwrap_or(u64::MAX).max(self.now());
            turns = if next == self.now() { turns + 1 } else { 0 };
            assert!(turns < TURNS_AT_ONCE_MAX, "something asks to be called for nothing");
            if next > end {
                self.clock.0.set(end);
                return;
            }
            self.clock.0.set(next);
        }
    }

    /// When the first occurrence of an event was.
    pub fn when(&self, is_it: impl Fn(&Event) -> bool) -> Option<u64> {
        self.events.iter().find(|(_, event)| is_it(event)).map(|(at, _)| *at)
    }

    fn note(&mut self, event: Event) {
        self.events.push((self.now(), event));
    }

    fn next_event(&self) -> Option<u64> {
        let unpublished = self.picture() != self.published;
        if unpublished || self.ports.iter().any(|port| port.has_news()) {
            return Some(self.now());
        }
        let shards = self.shards.iter().filter_map(Shard::poll_timeout);
        let answers = self.wires.values().filter_map(|wire| Some(wire.outbound.front()?.0));
        let machine = self.machine.poll_timeout(self.now());
        let answer = self.answer.as_ref().map(|(at, _)| *at);
        let answer = [answer, self.publisher.poll_timeout()].into_iter().flatten().min();
        shards.chain(answers).chain(machine).chain(answer).min()
    }

    /// Everybody has a turn at the present time.
    fn turn(&mut self) {
        self.drive_metadata();
        for index in 0..self.shards.len() {
            self.drive_shard(index);
        }
    }

    fn drive_metadata(&mut self) {
        let now = self.now();
        if let Some((_, answer)) = self.answer.take_if(|(at, _)| *at <= now) {
            match answer {
                Answer::Metadata(response) => {
                    self.machine.handle_metadata(self.channel, now, &response);
                }
                Answer::Identity(response) => {
                    self.machine.handle_identity(self.channel, now, &response);
                }
            }
        }
        if self.machine.poll_close(now).is_some() {
            self.answer = None;
        }
        // The broker that answers is never left alone: all say the same. A second is refused.
        while let Some((id, _)) = self.machine.poll_connect(now) {
            if self.is_connected {
                self.machine.handle_down(id, now, "one is enough".into());
            } else {
                (self.is_connected, self.channel) = (true, id);
                self.machine.handle_ready(id);
            }
        }
        if let Some(query) = self.machine.poll_query(self.channel, now)
            && !self.metadata_is_silent
        {
            let answer = match query {
                MetadataQuery::Metadata(_) => Answer::Metadata(self.model.metadata()),
                MetadataQuery::InitProducerId => Answer::Identity(InitProducerIdResponse {
                    throttle_time_ms: 0,
                    error: match self.gives_identity {
                        true => ErrorCode::NONE,
                        false => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                    },
                    identity: ProducerIdentity { id: 77, epoch: 0 },
                }),
            };
            self.answer = Some((now + LATENCY, answer));
        }
        self.published = self.picture();
        self.publisher.fail_unknown(now, &mut self.machine);
        self.publisher.publish(now, &mut self.machine, &mut AllThere);
    }

    /// The metadata thread learns what the cluster says now, and publishes it. No shard has a turn:
    /// its loop is busy with something else.
    pub fn refresh_metadata_alone(&mut self) {
        let (from, end) = (self.machine.snapshot().generation, self.now() + SECOND);
        self.machine.handle_refresh_wanted();
        while self.machine.snapshot().generation == from {
            assert!(self.now() < end, "the cluster said nothing new");
            self.clock.0.set(self.now() + MS);
            self.drive_metadata();
        }
    }

    /// What a view is made of: news is published when it changes.
    fn picture(&self) -> (u64, Option<ProducerIdentity>) {
        (self.machine.snapshot().generation, self.machine.identity())
    }

    /// The broker closes every connection that it has, and refuses others.
    pub fn kill(&mut self, broker: i32) {
        self.model.moods.insert(broker, Mood::Dead);
        self.cut(broker);
    }

    /// The broker closes every connection that it has.
    pub fn cut(&mut self, broker: i32) {
        let now = self.now();
        let keys = self.wires.iter().filter(|(_, wire)| wire.broker == broker);
        let keys: Vec<_> = keys.map(|(key, _)| *key).collect();
        for key in keys {
            self.wires.remove(&key);
            let token = Token { broker: key.1, generation: key.2 };
            self.shards[key.0].handle_down(now, token, "the broker closed the connection".into());
            self.gone.push((key.0, token));
        }
    }

    /// The loops that drive the shards have been as busy as this for a while.
    pub fn set_load(&mut self, load: LoopLoad) {
        self.shards.iter_mut().for_each(|shard| shard.set_load(load));
    }

    /// The machine was asleep: the clock of this world, which is monotonic, did not go on.
    pub fn suspend(&mut self, span: u64) {
        let now = self.now();
        self.shards.iter_mut().for_each(|shard| shard.handle_suspended(now, span));
    }

    /// Which of its connections to a broker the producer has, counted from the first.
    pub fn connection_to(&self, broker: i32) -> Option<u32> {
        let wire = self.wires.iter().find(|(_, wire)| wire.broker == broker);
        wire.map(|((_, _, generation), _)| *generation)
    }

    /// Late news of connections that were cut before.
    pub fn cut_again(&mut self) {
        let now = self.now();
        for (shard, token) in std::mem::take(&mut self.gone) {
            self.shards[shard].handle_down(now, token, "the connection was reset".into());
        }
    }

    /// A close whose timeout is over reaches one of the shards.
    pub fn fail_all(&self, shard: u16) {
        let port = self.ports.port(ShardId(shard)).expect("the shard exists");
        port.send(Control::FailAll(DeliveryErrorCause::Closed { last: None }, None));
    }

    /// Lanes that each shard owns.
    pub fn lane_counts(&self) -> Vec<usize> {
        self.shards.iter().map(Shard::lane_count).collect()
    }

    /// Ends the producer; afterwards nothing of the pool is in use.
    pub fn finish(self) {
        let pool = self.accumulator.pool.clone();
        drop(self);
        pool.assert_all_free();
    }
}

fn metadata_config() -> MetadataConfig {
    MetadataConfig {
        bootstrap: vec![BrokerAddress { host: "10.0.0.1".into(), port: 9092 }],
        age_max: 300 * SECOND,
        interval_min: 100 * MS,
        leaderless_interval_max: 1_000 * MS,
        topic_unknown_max: 30 * SECOND,
        delivery_timeout: 120 * SECOND,
        reconnect_backoff: ReconnectBackoff {
            first: 50 * MS,
            longest: 200 * MS,
            quick: 0,
            jitter_percent: 0,
        },
        auto_create: true,
        on_cluster_change: ClusterChange::Follow,
        cluster_change_hold: 100_000_000,
        idempotent: true,
        idempotence_required: false,
    }
}

fn shard_parts(settings: &Settings, pool: &BufferPool) -> ShardParts {
    let connection = ConnectionConfig {
        client_id: "simulated".into(),
        request_timeout: settings.request_timeout,
        handshake_timeout: settings.request_timeout,
        throttle_max: 120 * SECOND,
        response_bytes_max: 1 << 20,
        sasl_mechanism: None,
        is_tls: false,
        is_proxied: false,
        peers: Arc::default(),
    };
    let config = ShardConfig {
        idempotent: settings.idempotent,
        idempotence_required: false,
        in_flight_max: 5,
        producer_id_idle_max: 900 * SECOND,
        topic_unknown_max: 30 * SECOND,
        request_timeout_ms: (settings.request_timeout / MS) as i32,
        part_filled_floor: settings.part_filled_floor,
        availability_timeout: settings.availability_timeout,
        request_bytes: settings.request_bytes_max.min(1 << 20),
        request_bytes_max: settings.request_bytes_max,
        retries: u32::MAX,
        tries_for_all: true,
        reconnect_backoff: ReconnectBackoff {
            first: 50 * MS,
            longest: 200 * MS,
            quick: 0,
            jitter_percent: 0,
        },
        idle_max: 540 * SECOND,
        connection: Arc::new(connection),
    };
    let backoff = ExponentialRetry::new(Duration::from_millis(100), Duration::from_secs(1));
    ShardParts {
        config: Arc::new(config),
        retry_policy: Arc::new(backoff),
        pool: pool.clone(),
        scratch: None,
        random: 1,
    }
}
