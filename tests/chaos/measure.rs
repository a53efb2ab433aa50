//! How fast records flow again, printed: `--measure`, all parts or the one that is named.
//!
//! Two moments count as when the brokers can serve again: when each partition's leader itself says
//! that it leads, as its metadata shows, and when a plain client that does nothing but try got a
//! record acknowledged in a partition of the same brokers. The second is later: the followers have
//! to find the new leader, too.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::blackhole;
use crate::failover::{self, spread, wait_served};
use crate::kafka::{self, wait_until};
use crate::probe::Probe;
use crate::proxied;
use crate::stage::{self, LIMIT, PARTITIONS, Stage};
use crate::streams::Streams;

const KILLS: usize = 10;
const OUTAGES: usize = 5;
const SHORT_CONNECTIONS: Duration = Duration::from_secs(120);
const IDLE: Duration = Duration::from_secs(20);

/// A part: its name and what it prints.
type Part = (&'static str, fn(&Stage));

const PARTS: &[Part] = &[
    ("kills", kills),
    ("outages", outages),
    ("connections", connections),
    ("idle", idle),
    ("blackhole", blackhole::measure),
];

/// Runs the parts that have this name, or all.
pub fn run(part: Option<&str>) -> Result<(), String> {
    let kafka = kafka::availability()?;
    let mut done = 0;
    for (name, measure) in PARTS.iter().filter(|(name, _)| part.is_none_or(|part| part == *name)) {
        println!("== {name}");
        measure(&Stage::alone(&kafka));
        done += 1;
    }
    stage::clear();
    kafka.stop_shared();
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    (done > 0).then_some(()).ok_or_else(|| format!("the parts are {names:?}"))
}

/// A topic of which only a [`Probe`] knows, led as the others are.
fn probe_topic(stage: &Stage) -> String {
    let topic = stage.topic("probe", PARTITIONS);
    spread(&stage.cluster, &topic, 0);
    topic
}

fn kills(stage: &Stage) {
    let cluster = &stage.cluster;
    let producer = stage.producer(|builder| builder);
    let (topic, streams) = stage.streams(&producer, "killed");
    let probed = probe_topic(stage);
    let probe = Probe::start(cluster, &probed, PARTITIONS);
    let (mut by_metadata, mut by_probe) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        for name in [&topic, &probed] {
            cluster.wait_in_sync(name);
            spread(cluster, name, round);
            for partition in 0..PARTITIONS {
                let preferred = (partition + round as i32) % 3 + 1;
                cluster.wait_for_leader(name, partition, |leader| leader == preferred);
            }
        }
        streams.all_go_on(2_000, LIMIT, "before the kill");
        probe.reset();
        let killed = round as i32 % 3 + 1;
        let failover = failover::kill_leader(cluster, &streams, &topic, killed);
        let late = failover.led.iter().map(|&partition| {
            let own = streams.gap_end(partition as usize);
            own.saturating_duration_since(probe.pause_end(partition, failover.served[&partition]))
        });
        let late = late.max().unwrap_or_default();
        println!(
            "kill {round}: broker {killed}, elected after {:.3?}, gap {:.3?}, acknowledged {:.3?} \
             after the new leaders were there, {late:.3?} after a plain client was",
            failover.elected, failover.gap, failover.recovery
        );
        by_metadata.push(failover.recovery);
        by_probe.push(late);
        cluster.restart(killed);
    }
    drop(probe);
    println!("{:?}", streams.finish(cluster));
    print("kill -9, after the new leaders", by_metadata);
    print("kill -9, after a plain client", by_probe);
    stage::close(&producer);
}

fn outages(stage: &Stage) {
    let cluster = &stage.cluster;
    let producer = stage.producer(|builder| builder);
    let (topic, streams) = stage.streams(&producer, "outages");
    let probed = probe_topic(stage);
    let probe = Probe::start(cluster, &probed, PARTITIONS);
    let ids = cluster.broker_ids();
    let all: Vec<i32> = (0..PARTITIONS).collect();
    let (mut by_metadata, mut by_probe) = (Vec::new(), Vec::new());
    for round in 0..OUTAGES {
        streams.reset_gaps();
        probe.reset();
        ids.iter().for_each(|&id| cluster.kill(id));
        cluster.restart_all(&ids);
        let [served] = wait_served(cluster, [&topic], &all, &ids, 2);
        streams.all_go_on(2_000, LIMIT, "after the outage");
        let late = |since: &dyn Fn(i32) -> Instant| {
            let late = all.iter().map(|&partition| {
                streams.gap_end(partition as usize).saturating_duration_since(since(partition))
            });
            late.max().unwrap_or_default()
        };
        by_metadata.push(late(&|partition| served[&partition]));
        by_probe.push(late(&|partition| probe.pause_end(partition, served[&partition])));
        println!(
            "outage {round}: gap {:.3?}, acknowledged {:.3?} after the leaders had followers, \
             {:.3?} after a plain client was",
            streams.longest_gap(),
            by_metadata[round],
            by_probe[round]
        );
        cluster.wait_in_sync(&topic);
        cluster.wait_in_sync(&probed);
    }
    drop(probe);
    println!("{:?}", streams.finish(cluster));
    print("outage, after the leaders had followers", by_metadata);
    print("outage, after a plain client", by_probe);
    stage::close(&producer);
}

fn connections(stage: &Stage) {
    let producer = stage.proxied_producer(|builder| builder);
    let (_, streams) = stage.streams(&producer, "connections");
    streams.reset_gaps();
    proxied::disturb(stage);
    let end = Instant::now() + SHORT_CONNECTIONS;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        thread::sleep(left.min(Duration::from_secs(10)));
        println!(
            "longest gap so far {:.3?} overall, {:.3?} in one partition",
            streams.overall_gap(),
            streams.longest_gap()
        );
    }
    proxied::calm(stage);
    println!("{:?}", streams.finish(&stage.cluster));
    stage::close(&producer);
}

/// What the client takes while its senders are parked and no broker says a word.
fn idle(stage: &Stage) {
    let cluster = &stage.cluster;
    let ids = cluster.broker_ids();
    let producer = stage.producer(|builder| builder.buffer_memory(4 << 20));
    let (_, streams) = stage.streams(&producer, "idle");
    let parked = |streams: &Streams| {
        let sent = || (0..streams.len()).map(|stream| streams.sent(stream)).sum::<u64>();
        assert!(wait_until(LIMIT, || {
            let before = sent();
            thread::sleep(Duration::from_millis(500));
            sent() == before
        }));
    };
    ids.iter().for_each(|&id| cluster.stop(id));
    parked(&streams);
    print_cpu("stopped (SIGSTOP)");
    ids.iter().for_each(|&id| cluster.cont(id));
    streams.all_go_on(2_000, LIMIT, "after they were stopped");
    ids.iter().for_each(|&id| cluster.kill(id));
    parked(&streams);
    print_cpu("killed (connections are refused)");
    cluster.restart_all(&ids);
    println!("{:?}", streams.finish(cluster));
    stage::close(&producer);
}

fn print_cpu(what: &str) {
    let (start, before) = (Instant::now(), cpu_by_thread());
    thread::sleep(IDLE);
    let after = cpu_by_thread();
    let mut took: BTreeMap<&str, f64> = BTreeMap::new();
    for (id, (name, ticks)) in &after {
        let used = ticks - before.get(id).map_or(0, |(_, ticks)| *ticks);
        *took.entry(name).or_default() += used as f64 / start.elapsed().as_secs_f64();
    }
    // A tick is a hundredth of a second.
    let all: f64 = took.values().sum();
    took.retain(|_, percent| *percent > 0.0);
    println!("brokers {what}: {all:.2} % of a core, by the threads' names {took:.2?}");
}

/// Names and clock ticks of this process's threads.
fn cpu_by_thread() -> BTreeMap<u64, (String, u64)> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
    let read = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let (id, name) = head.split_once(" (")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?;
        Some((id.parse().ok()?, (name.to_owned(), ticks)))
    };
    tasks.flatten().filter_map(read).collect()
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let median = times[times.len() / 2];
    let worst = times[times.len() - 1];
    println!("{what}: median {median:.3?}, worst of {} {worst:.3?}", times.len());
}
