//! A whole shard with one broker: records, connections, answers and time, all as the bytes say.
//! Whatever a broker answers, every delivery resolves, and all memory comes back.

use std::io::IoSlice;
use std::sync::Arc;

use tidegate::internals::batch::{
    AccumulatorConfig, CellHandle, MonotonicClock, RecordAccumulator, Refusal, ShardId, TopicLanes,
    TopicSettings, take_room,
};
use tidegate::internals::buffer::{AccountId, AccountKind, BufferPool, BufferPoolOptions};
use tidegate::internals::cluster::{BrokerAddress, ClusterSnapshot, PartitionView, TopicView};
use tidegate::internals::connection::ConnectionConfig;
use tidegate::internals::protocol::records::RecordParts;
use tidegate::internals::protocol::{BrokerId, PartitionId, ProducerIdentity, TopicId};
use tidegate::internals::shard::{
    Action, Control, Driver, Placement, PortTable, ReconnectBackoff, Shard, ShardConfig,
    ShardParts, ShardPort, Token, View, turn,
};
use tidegate::internals::sync::{Mailbox, WakeLoop};
use tidegate::{ExponentialRetry, PartitionRequest, Partitioner};

use super::input::Input;
use super::memory::bounded;

const MS: u64 = 1_000_000;
const DELIVERY_TIMEOUT: u64 = 120_000 * MS;
const REQUEST_TIMEOUT: u64 = 30_000 * MS;
const PARTITIONS: usize = 3;
const TOPIC: &str = "t";
const BROKER: BrokerId = BrokerId(1);
const SENDS_MAX: usize = 200;

/// ApiVersions v4 of a broker that speaks Produce 5 and nothing else.
const HANDSHAKE: &[u8] = &[0, 0, 2, 0, 0, 0, 5, 0, 5, 0, 0, 0, 0, 0, 0];

/// Errors that mean something to a producer, and success.
const CODES: [i16; 16] = [0, 0, 0, 1, 3, 6, 7, 10, 19, 20, 45, 46, 47, 59, 74, 90];

struct NoWaker;

impl WakeLoop for NoWaker {
    fn wake(&self) {}
}

struct At(u64);

impl MonotonicClock for At {
    fn monotonic(&self) -> u64 {
        self.0
    }
}

struct Driven {
    accumulator: Arc<RecordAccumulator>,
    topic: Arc<TopicLanes>,
    ports: Arc<PortTable>,
    shard: Shard,
    now: u64,
    /// Asked for and not yet made.
    connecting: Option<Token>,
    connected: Option<Token>,
    /// Correlation id of the next answer on this connection.
    answers: i32,
    handles: Vec<CellHandle>,
}

pub fn shard(bytes: &[u8]) {
    // Tables for lanes, accounts and cells, and the connection's buffers.
    bounded(bytes.len() * 512 + (4 << 20), || {
        let mut driven = Driven::new();
        let mut input = Input(bytes);
        while !input.0.is_empty() {
            driven.step(&mut input);
            driven.turn();
        }
        driven.finish();
    });
}

impl Driver for Driven {
    fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    /// The socket takes nothing within a turn: the input says when it does, and how much.
    fn write(&mut self, _now: u64, _token: Token) -> bool {
        false
    }

    fn act(&mut self, _now: u64, action: Action) {
        self.act_on(action);
    }
}

impl Driven {
    fn new() -> Driven {
        let options = BufferPoolOptions { bytes: 1 << 20, accounts_max: 4, ..Default::default() };
        let pool = BufferPool::new(&options).expect("the system gives a test some memory");
        let account = pool.open_account(AccountKind::Broker).expect("one is left");
        let topics = Arc::new(TopicSettings {
            batch_size: 1_000,
            delivery_timeout: DELIVERY_TIMEOUT,
            ..TopicSettings::default()
        });
        let config = AccumulatorConfig {
            topics,
            lanes_max: PARTITIONS,
            leaderless_account: AccountId::LEADERLESS,
        };
        let shard = Shard::new(ShardId(0), parts(&pool));
        let accumulator = RecordAccumulator::new(config, pool);
        let first: Arc<dyn Partitioner> = Arc::new(|_: &PartitionRequest<'_>| 0);
        let topic = accumulator.topic(TOPIC, || first);
        let ports = PortTable::new(1);
        let port = ShardPort::new(PARTITIONS, Mailbox::new(Arc::default(), Arc::new(NoWaker)));
        port.send(Control::View(Arc::new(view(account))));
        let heads = accumulator.new_lanes(&topic, PARTITIONS, |_| ShardId(0));
        topic.grow(heads.iter().map(|head| head.tail.clone()));
        topic.set_partitions(PARTITIONS as i32);
        heads.into_iter().for_each(|head| port.send(Control::Lane(head)));
        ports.set(ShardId(0), port);
        let (connecting, connected) = (None, None);
        let handles = Vec::new();
        let now = MS;
        let mut driven = Driven {
            accumulator,
            topic,
            ports,
            shard,
            now,
            connecting,
            connected,
            answers: 0,
            handles,
        };
        driven.turn();
        driven
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 | 1 => self.send(input.byte()),
            2 => self.connect(),
            3 => self.down(),
            4 => self.write(usize::from(input.byte())),
            5 | 6 => self.write(usize::MAX),
            7 => self.feed(input.bytes()),
            8 => self.answer(input.bytes()),
            9 => self.answer(HANDSHAKE),
            10 => self.answer_produce(input),
            _ => self.now += u64::from(input.byte()) << (input.byte() % 8 * 4),
        }
    }

    fn send(&mut self, what: u8) {
        if self.handles.len() == SENDS_MAX {
            return;
        }
        let partition = PartitionId::from_index(usize::from(what) % PARTITIONS);
        let lane = self.topic.lane(partition).expect("it is there");
        let value = [what; 400];
        let value = Some(&value[..usize::from(what)]);
        let mut post = false;
        let issued = lane.append_plain(0, None, value, &mut post);
        if post {
            self.ports.post(lane);
        }
        if let Some(issued) = issued {
            return self.handles.push(issued.into_handle(0));
        }
        let parts = RecordParts { key: None, value, headers: &[] };
        let clock = At(self.now);
        let context = self.accumulator.append_context(&self.accumulator.config.topics, &clock);
        let mut spare = Vec::new();
        loop {
            let appended = lane.append(&context, 0, &parts, &mut spare);
            if appended.post {
                self.ports.post(lane);
            }
            match appended.result {
                Ok(handle) => return self.handles.push(handle),
                Err(Refusal::NeedRoom(need)) => {
                    spare.clear();
                    if !take_room(&self.accumulator.pool, lane.account(), need, &mut spare) {
                        return;
                    }
                }
                Err(Refusal::Closed) => panic!("nobody closed it"),
            }
        }
    }

    fn connect(&mut self) {
        if let Some(token) = self.connecting.take() {
            self.shard.handle_connected(self.now, token);
            (self.connected, self.answers) = (Some(token), 0);
        }
    }

    fn down(&mut self) {
        let token = self.connecting.take().or_else(|| self.connected.take());
        if let Some(token) = token {
            self.shard.handle_down(self.now, token, "it is the input's wish".into());
        }
    }

    fn write(&mut self, bytes_max: usize) {
        let Some(token) = self.connected else { return };
        let mut slices = [IoSlice::new(&[]); 32];
        let used = self.shard.slices(token, &mut slices);
        let offered: usize = slices[..used].iter().map(|slice| slice.len()).sum();
        self.shard.handle_written(self.now, token, offered.min(bytes_max));
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(token) = self.connected
            && !bytes.is_empty()
        {
            let Some(space) = self.shard.space(token) else { return };
            let taken = space.len().min(bytes.len());
            assert!(taken > 0, "there is always room");
            space[..taken].copy_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            self.shard.handle_filled(self.now, token, taken);
            self.act();
        }
    }

    fn answer(&mut self, body: &[u8]) {
        let mut frame = (body.len() as u32 + 4).to_be_bytes().to_vec();
        frame.extend(self.answers.to_be_bytes());
        frame.extend(body);
        self.answers += 1;
        self.feed(&frame);
    }

    /// A well-formed Produce response v5, about whatever the input names.
    fn answer_produce(&mut self, input: &mut Input<'_>) {
        let count = input.byte() % 6;
        let mut body = 1_i32.to_be_bytes().to_vec();
        body.extend([0, TOPIC.len() as u8]);
        body.extend(TOPIC.as_bytes());
        body.extend(i32::from(count).to_be_bytes());
        for _ in 0..count {
            body.extend((i32::from(input.byte() % 5) - 1).to_be_bytes());
            body.extend(CODES[usize::from(input.byte()) % CODES.len()].to_be_bytes());
            body.extend((i64::from(input.byte()) - 1).to_be_bytes());
            body.extend((-1_i64).to_be_bytes());
            body.extend((i64::from(input.byte()) - 1).to_be_bytes());
        }
        body.extend(0_i32.to_be_bytes());
        self.answer(&body);
    }

    fn turn(&mut self) {
        let port = self.ports.port(ShardId(0)).expect("it was set").clone();
        turn(self.now, &port, self);
    }

    fn act(&mut self) {
        while let Some(action) = self.shard.poll_action() {
            self.act_on(action);
        }
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::Connect { token, .. } => {
                assert!(self.connecting.is_none() && self.connected.is_none(), "one each");
                self.connecting = Some(token);
            }
            Action::Close { token, .. } => {
                assert_eq!(self.connected.take(), Some(token), "it closes what is open");
            }
            Action::Login { .. } => panic!("no login is configured"),
            Action::SendLane { .. } => panic!("there is no other shard"),
            Action::RefreshMetadata
            | Action::WantTopic(_)
            | Action::Hint(_)
            | Action::NewIdentity(_)
            | Action::AskIdentity => {}
        }
    }

    /// The broker is gone for good.
    fn finish(mut self) {
        let end = self.now + DELIVERY_TIMEOUT + REQUEST_TIMEOUT;
        for turns in 0.. {
            self.down();
            self.turn();
            let next = self.shard.poll_timeout().unwrap_or(end);
            if self.now >= end || turns == 100_000 {
                break;
            }
            self.now = next.clamp(self.now + 1, end);
        }
        let open = self.handles.iter().filter(|handle| handle.try_outcome().is_none()).count();
        assert_eq!(open, 0, "{open} of {} deliveries never resolved", self.handles.len());
        let Driven { accumulator, shard, ports, .. } = self;
        drop((shard, ports));
        accumulator.pool.assert_all_free();
    }
}

fn view(account: AccountId) -> View {
    let address = BrokerAddress { host: "b".into(), port: 9092 };
    let partition = PartitionView { leader: Some(BROKER), epoch: 0 };
    let topic = TopicView {
        id: TopicId::ZERO,
        incarnation: 1,
        partitions: vec![partition; PARTITIONS],
        replaced: TopicId::ZERO,
        count: PARTITIONS as i32,
    };
    let snapshot = ClusterSnapshot {
        generation: 1,
        cluster: 0,
        cluster_id: None,
        brokers: [(BROKER, address.clone())].into(),
        topics: [(TOPIC.into(), Arc::new(topic))].into(),
    };
    let placement = Placement { shard: ShardId(0), account, address };
    View {
        generation: 1,
        snapshot: Arc::new(snapshot),
        placements: Arc::new([(BROKER, placement)].into()),
        left_out: Arc::default(),
        identity: Some(ProducerIdentity { id: 7, epoch: 0 }),
        identity_ordinal: 1,
        identity_floor: 0,
        changed_to: None,
        identity_denied: None,
        without_identity: false,
        last_problem: None,
    }
}

fn parts(pool: &BufferPool) -> ShardParts {
    let connection = ConnectionConfig {
        client_id: "fuzz".into(),
        request_timeout: REQUEST_TIMEOUT,
        handshake_timeout: REQUEST_TIMEOUT,
        throttle_max: 1_000 * MS,
        response_bytes_max: 1 << 16,
        sasl_mechanism: None,
        is_tls: false,
        is_proxied: false,
        peers: Arc::default(),
    };
    let config = ShardConfig {
        idempotent: true,
        idempotence_required: false,
        in_flight_max: 5,
        producer_id_idle_max: 900_000_000_000,
        topic_unknown_max: DELIVERY_TIMEOUT,
        request_timeout_ms: (REQUEST_TIMEOUT / MS) as i32,
        part_filled_floor: Some(MS / 10),
        availability_timeout: None,
        request_bytes: 1 << 20,
        request_bytes_max: 8 << 20,
        retries: u32::MAX,
        tries_for_all: true,
        reconnect_backoff: ReconnectBackoff {
            first: 50 * MS,
            longest: 200 * MS,
            quick: 0,
            jitter_percent: 0,
        },
        idle_max: 540_000 * MS,
        connection: Arc::new(connection),
    };
    ShardParts {
        config: Arc::new(config),
        retry_policy: Arc::new(ExponentialRetry::default()),
        pool: pool.clone(),
        scratch: None,
        random: 1,
    }
}
