//! What a seed stands for: a configuration, a load, and faults.

use tidegate::Compression;

use super::partition::{BROKERS_MAX, Injected, code};
use super::rng::Rng;

pub const MS: u64 = 1_000_000;

/// The highest version of Produce that brokers have, as often as it is here.
const PRODUCE_MAX: [i16; 8] = [3, 7, 9, 12, 12, 12, 13, 13];

/// Something that goes wrong. Brokers, topics and partitions by their index.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is gone for so long, and its connections with it.
    Kill { broker: usize, time: u64 },
    /// It does nothing for so long; what it received meanwhile it does afterwards.
    Pause { broker: usize, time: u64 },
    /// It fetches nothing from leaders for so long, and hears of no other leaders.
    Lag { broker: usize, time: u64 },
    /// From now on, for good, it answers metadata with the picture of this moment.
    Isolate { broker: usize },
    /// The addresses belong to another cluster from now on: other logs, the same topics.
    ChangeCluster,
    /// It refuses connections for so long.
    Refuse { broker: usize, time: u64 },
    /// All its connections are cut.
    Cut { broker: usize },
    /// What is written on its connections, or by it, goes nowhere.
    Swallow { broker: usize, requests: bool },
    /// The partition's leader changes to another replica in sync.
    Move { topic: usize, partition: usize },
    /// The next batches are answered with an error.
    Errors { topic: usize, partition: usize, injected: Vec<Injected> },
    /// The topic is deleted, and made again.
    Recreate { topic: usize },
    /// Retention deletes what is committed.
    Delete { topic: usize, partition: usize },
    /// The topic is unknown to metadata for so long.
    Unknown { topic: usize, time: u64 },
    /// The topic gets another partition.
    Grow { topic: usize },
    /// So many responses leave partitions out, name them twice, or name others.
    Odd { broker: usize, count: u32 },
    /// So many responses ask for quiet.
    Throttle { broker: usize, count: u32 },
    /// It listens at another address; the old one goes on answering for so long.
    Readdress { broker: usize, time: u64 },
    /// Metadata and producer ids go unanswered for so long.
    Silence { time: u64 },
    /// It stops in good order, and starts again after so long: of each producer it remembers the
    /// last batch only.
    Restart { broker: usize, time: u64 },
    /// The partition's leader changes to a replica that lacks what was committed, if there is one.
    Truncate { topic: usize, partition: usize },
}

/// Records sent at one time to one partition.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub at: u64,
    pub topic: usize,
    pub partition: usize,
    pub records: u32,
    pub bytes: usize,
}

/// How the network treats bytes.
#[derive(Clone, Debug)]
pub struct Net {
    pub latency: (u64, u64),
    /// Of a hundred writes, how many are taken in part, or arrive in pieces.
    pub split: u64,
    /// Of a hundred connections, how many are cut at a random byte of what is sent or received.
    pub cut: u64,
    pub cut_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub acks: i16,
    pub idempotent: bool,
    pub in_flight: usize,
    pub linger: u64,
    pub producer_id_idle_max: u64,
    pub batch_size: usize,
    pub request_bytes_max: usize,
    pub pool_bytes: usize,
    pub request_timeout: u64,
    pub broker_timeout_ms: i32,
    pub delivery_timeout: u64,
    pub retry_backoff_ms: u64,
    pub compression: Compression,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub partitions: usize,
    pub replicas: usize,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All faults are healed, and everything resolves.
    Heal,
    /// Everything unresolved is failed at that moment, as by a close whose timeout has passed.
    FailAll,
    /// The shards are dropped as they are.
    Drop,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub brokers: usize,
    pub shards: usize,
    pub min_isr: usize,
    pub topics: Vec<Topic>,
    pub settings: Settings,
    pub net: Net,
    pub loads: Vec<Load>,
    pub faults: Vec<(u64, Fault)>,
    pub ends_at: u64,
    pub ending: Ending,
    /// Produce versions up to this.
    pub produce_max: i16,
    /// Leaders forget producers of which retention has left nothing.
    pub forgets: bool,
    /// NOT_LEADER names the leader.
    pub hints: bool,
    /// A duplicate is answered with DUPLICATE_SEQUENCE_NUMBER instead of its offset.
    pub tells_duplicates: bool,
    /// The epoch of the first producer id.
    pub first_epoch: i16,
    /// The sequence that producer ids begin with.
    pub first_sequence: i32,
    /// Partitions refuse longer batches.
    pub bytes_max: usize,
    /// Records that a broker refuses, one of so many; 0 for none.
    pub poison: u32,
    /// Brokers close connections over longer requests.
    pub request_max: usize,
    /// Brokers forget a producer that has written nothing to a partition for longer than this.
    pub producer_expiry: u64,
    /// Brokers tell their cluster's id, and it changes.
    pub changes_cluster: bool,
}

impl Plan {
    /// Batches of a producer that brokers remember.
    pub fn batches_remembered(&self) -> usize {
        if self.produce_max < 5 { 1 } else { 5 }
    }

    pub fn new(seed: u64) -> Plan {
        let rng = &mut Rng::new(seed, 1);
        let brokers = rng.range(3, BROKERS_MAX as u64) as usize;
        let mut settings = settings(rng);
        let topics = (0..rng.range(1, 2)).map(|_| Topic {
            partitions: rng.range(1, 4) as usize,
            replicas: rng.range(2, 3) as usize,
        });
        let mut topics: Vec<_> = topics.collect();
        // One partition that never rests, and acknowledgements that get lost.
        let is_busy = rng.percent(10);
        if is_busy {
            topics.truncate(1);
            topics[0].partitions = 1;
            (settings.batch_size, settings.in_flight) = (200, 5);
        }
        let mut ends_at = rng.range(100, 1_000) * MS;
        let mut loads = loads(rng, &topics, ends_at);
        // Long silences, each followed by a burst of several batches.
        let is_quiet = !is_busy && rng.percent(10);
        if is_quiet {
            (settings.delivery_timeout, settings.producer_id_idle_max) = (60 * MS, 100 * MS);
            (settings.batch_size, settings.in_flight) = (200, 5);
            settings.request_timeout = settings.request_timeout.min(60 * MS);
            for (index, load) in loads.iter_mut().enumerate() {
                load.at = (index / 4) as u64 * 300 * MS + rng.range(0, 2 * MS);
                (load.records, load.bytes) = (rng.range(5, 20) as u32, 150);
                (load.topic, load.partition) = (0, 0);
            }
            loads.sort_by_key(|load| load.at);
            ends_at = loads.last().map_or(ends_at, |load| load.at + 200 * MS);
        }
        if is_busy {
            loads.iter_mut().for_each(|load| load.records = rng.range(5, 30) as u32);
        }
        // A few runs without any fault, and some in which only little goes wrong at a time.
        let count = rng.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 10]);
        let faults = (0..count).map(|_| {
            // Half of them while something that was just sent is on its way.
            let load: &Load = &loads[rng.below(loads.len())];
            let soon = load.at + rng.range(0, 6 * MS);
            let at = if rng.percent(50) { soon } else { rng.range(20 * MS, ends_at) };
            (at, fault(rng, brokers, &topics))
        });
        let mut faults: Vec<_> = faults.collect();
        if is_busy {
            let lost = Injected { code: code::REQUEST_TIMED_OUT, appends: true };
            for _ in 0..rng.range(2, 8) {
                let at = rng.range(0, ends_at);
                let error = Fault::Errors { topic: 0, partition: 0, injected: vec![lost] };
                let restarts = rng.percent(50);
                let cuts = (0..brokers).map(|broker| match restarts {
                    true => Fault::Restart { broker, time: MS },
                    false => Fault::Cut { broker },
                });
                let soon = at + rng.range(0, 10 * MS);
                faults.push((at, error));
                faults.extend(cuts.map(|cut| (soon, cut)));
            }
        }
        if is_quiet {
            // Nothing that could arrive after its producer was forgotten, but refusals.
            let refused = Injected { code: code::NOT_ENOUGH_REPLICAS, appends: false };
            let error = Fault::Errors { topic: 0, partition: 0, injected: vec![refused] };
            let bursts = loads.iter().step_by(4);
            faults = bursts.map(|load| (load.at.saturating_sub(MS), error.clone())).collect();
        }
        // Of its own numbers: what the other faults of a seed are stays as it was.
        let apart = &mut Rng::new(seed, 3);
        if apart.percent(15) && !is_quiet {
            let at = apart.range(0, ends_at / 2);
            faults.push((at, Fault::Isolate { broker: apart.below(brokers) }));
        }
        let is_narrow = rng.percent(10);
        if is_narrow {
            // Many batches wait for one request.
            loads.iter_mut().for_each(|load| load.at = load.at / (100 * MS) * 100 * MS);
            loads.iter_mut().for_each(|load| load.records += 4);
        }
        let changes_cluster = apart.percent(8);
        if changes_cluster {
            faults.push((apart.range(20 * MS, ends_at), Fault::ChangeCluster));
        }
        let cut = if rng.percent(40) && !is_quiet { rng.pick(&[5, 20, 60, 90]) } else { 0 };
        let net = Net {
            latency: rng.pick(&[(MS / 10, MS / 5), (MS / 2, 2 * MS), (MS / 10, 8 * MS)]),
            split: rng.pick(&[0, 0, 10, 50]),
            cut,
            cut_bytes: rng.pick(&[300, 2_000, 8_000]),
        };
        Plan {
            seed,
            brokers,
            shards: rng.range(1, 3) as usize,
            min_isr: rng.range(1, 2) as usize,
            topics,
            net,
            loads,
            faults,
            ends_at,
            ending: if rng.percent(80) {
                Ending::Heal
            } else {
                rng.pick(&[Ending::FailAll, Ending::Drop])
            },
            // Brokers remember one batch of a producer, or five.
            produce_max: if is_busy { rng.pick(&[3, 13]) } else { rng.pick(&PRODUCE_MAX) },
            forgets: rng.percent(30),
            hints: rng.percent(50),
            tells_duplicates: rng.percent(30),
            first_epoch: if rng.percent(10) { i16::MAX - 1 } else { 0 },
            first_sequence: if rng.percent(20) { i32::MAX - rng.below(20) as i32 } else { 0 },
            bytes_max: if rng.percent(10) { settings.batch_size / 2 } else { usize::MAX },
            changes_cluster,
            poison: if rng.percent(10) { 20 } else { 0 },
            // A single batch gets through.
            request_max: if is_narrow { 2 * settings.batch_size + 200 } else { usize::MAX },
            // Long after the last record that could be sent again has expired.
            producer_expiry: if is_quiet { 3 * settings.delivery_timeout } else { u64::MAX },
            settings,
        }
    }

    /// Whether records of a partition must be in the log in the order they were sent. Without
    /// sequences a request that arrives late, after it was given up, does so behind others.
    pub fn keeps_order(&self) -> bool {
        self.settings.idempotent
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let idempotent = rng.percent(85);
    let acks = if idempotent { -1 } else { rng.pick(&[-1, 1, 1, 0]) };
    let request_timeout = rng.range(30, 300) * MS;
    let compression =
        if rng.percent(15) { Compression::Lz4 { level: 9 } } else { Compression::None };
    Settings {
        acks,
        idempotent,
        in_flight: rng.pick(&[1, 2, 3, 5, 5, 5]),
        linger: if rng.percent(60) { 0 } else { rng.range(1, 10) * MS },
        producer_id_idle_max: 900_000 * MS,
        request_bytes_max: 1 << 20,
        batch_size: rng.pick(&[200, 400, 1_000, 4_000]),
        pool_bytes: rng.pick(&[256 << 10, 512 << 10, 1 << 20]),
        request_timeout,
        broker_timeout_ms: (request_timeout / MS) as i32 / rng.range(1, 4) as i32,
        delivery_timeout: rng.pick(&[60, 200, 600, 2_000, 2_000, 8_000]) * MS,
        retry_backoff_ms: rng.pick(&[2, 20, 100]),
        compression,
    }
}

fn loads(rng: &mut Rng, topics: &[Topic], ends_at: u64) -> Vec<Load> {
    let mut loads: Vec<_> = (0..rng.range(5, 50))
        .map(|_| {
            let topic = rng.below(topics.len());
            Load {
                at: rng.range(0, ends_at),
                topic,
                partition: rng.below(topics[topic].partitions),
                records: if rng.percent(70) { 1 } else { rng.range(2, 20) as u32 },
                bytes: rng.pick(&[20, 20, 60, 150]),
            }
        })
        .collect();
    loads.sort_by_key(|load| load.at);
    loads
}

fn fault(rng: &mut Rng, brokers: usize, topics: &[Topic]) -> Fault {
    let broker = rng.below(brokers);
    let topic = rng.below(topics.len());
    let partition = rng.below(topics[topic].partitions);
    let time = rng.pick(&[3, 20, 80, 300]) * MS;
    match rng.below(21) {
        0 => Fault::Kill { broker, time },
        1 | 2 => Fault::Pause { broker, time },
        3 => Fault::Lag { broker, time },
        4 => Fault::Refuse { broker, time },
        5 => Fault::Cut { broker },
        6 => Fault::Swallow { broker, requests: rng.percent(50) },
        7..=9 => Fault::Move { topic, partition },
        10 | 11 => Fault::Errors { topic, partition, injected: errors(rng) },
        12 => Fault::Unknown { topic, time },
        13 => Fault::Grow { topic },
        14 if rng.percent(50) => Fault::Odd { broker, count: rng.range(1, 4) as u32 },
        14 => Fault::Throttle { broker, count: rng.range(1, 3) as u32 },
        15 if rng.percent(40) => Fault::Recreate { topic },
        16 => Fault::Delete { topic, partition },
        // Mostly it outlasts the run: there is much that could go to the old address.
        17 => Fault::Readdress { broker, time: rng.pick(&[time, 5_000 * MS]) },
        18 => Fault::Restart { broker, time: rng.pick(&[2, 5, 20]) * MS },
        19 => Fault::Truncate { topic, partition },
        _ => Fault::Silence { time },
    }
}

fn errors(rng: &mut Rng) -> Vec<Injected> {
    const CHOICE: [Injected; 10] = [
        Injected { code: code::NOT_ENOUGH_REPLICAS, appends: false },
        Injected { code: code::NOT_ENOUGH_REPLICAS, appends: false },
        Injected { code: code::NOT_ENOUGH_REPLICAS_AFTER_APPEND, appends: true },
        Injected { code: code::REQUEST_TIMED_OUT, appends: true },
        Injected { code: code::REQUEST_TIMED_OUT, appends: true },
        Injected { code: code::NETWORK_EXCEPTION, appends: false },
        Injected { code: code::KAFKA_STORAGE_ERROR, appends: false },
        Injected { code: code::UNKNOWN_TOPIC_OR_PARTITION, appends: false },
        Injected { code: code::MESSAGE_TOO_LARGE, appends: false },
        Injected { code: code::TOPIC_AUTHORIZATION_FAILED, appends: false },
    ];
    (0..rng.range(1, 4)).map(|_| rng.pick(&CHOICE)).collect()
}
