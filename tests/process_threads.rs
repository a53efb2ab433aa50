//! Threads, pinning and descriptors, in a process of their own: what is there while a producer
//! runs, and that nothing is left when it has closed.

#![cfg(target_os = "linux")]

#[path = "support/brokers.rs"]
mod brokers;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate::{Acks, EventLoops, Producer};

use brokers::Brokers;

const LONG: Duration = Duration::from_secs(60);

/// In the flags of a thread: it has ended, and only the kernel is still busy with it. Joining a
/// thread does not wait for that.
const PF_EXITING: u64 = 4;

fn is_exiting(task: &Path) -> bool {
    let Ok(stat) = fs::read_to_string(task.join("stat")) else { return true };
    // The name, in parentheses, may contain anything; the flags are the seventh field after it.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let flags = fields.split_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.expect("the kernel tells a thread's flags") & PF_EXITING != 0
}

/// Names of this process's threads that the library started, and where each may run.
fn threads() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end between the listing and the reading.
        let task = task.unwrap().path();
        let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        if field("Name:").starts_with("tidegate") && !is_exiting(&task) {
            found.push((field("Name:"), field("Cpus_allowed_list:")));
        }
    }
    found.sort();
    found
}

fn loops() -> Vec<(String, String)> {
    threads().into_iter().filter(|(name, _)| name.starts_with("tidegate-loop-")).collect()
}

/// What every descriptor of this process is.
fn descriptors() -> BTreeSet<(String, String)> {
    let list = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    list.filter_map(|path| {
        let target = fs::read_link(&path).ok()?.display().to_string();
        // The listing itself.
        (!target.contains("/fd")).then(|| (path.display().to_string(), target))
    })
    .collect()
}

fn allowed_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap().into_iter().map(|core| core.id).collect()
}

fn send(producer: &Producer) {
    let topic = producer.topic("t").unwrap();
    let deliveries: Vec<_> = (0..3_000)
        .map(|n| {
            let record = tidegate::Record::new().value("v").partition(n % 6);
            // The topic may not be known yet.
            topic.send_record(record).unwrap()
        })
        .collect();
    deliveries.into_iter().for_each(|delivery| drop(delivery.wait().unwrap()));
}

/// Threads that are detached end a moment later.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "{what}: {:?} {:?}", threads(), descriptors());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn serves_brokers() {
    brokers::serve();
}

/// One test: the counts are those of the whole process.
#[test]
fn c42_threads_are_named_pinned_and_ended() {
    let mut cluster = Brokers::start("serves_brokers", 3, 6, false);
    // Made once and kept by the process, whoever uses them first.
    drop(Producer::builder("127.0.0.1:1").build().unwrap());
    eventually("nothing is left of it", || threads().is_empty());
    let before = descriptors();

    let cores = allowed_cores();
    // Not in the order in which they would be chosen.
    let given: Vec<usize> = cores.iter().rev().copied().collect();
    let event_loops = EventLoops::per_broker().pinned_to(given.clone());
    let producer =
        Producer::builder(&cluster.bootstrap_servers).event_loops(event_loops).build().unwrap();
    send(&producer);
    let expected: Vec<_> = (0..3)
        .map(|n| (format!("tidegate-loop-{n}"), given[n % given.len()].to_string()))
        .collect();
    assert_eq!(loops(), expected, "one loop per broker, named and pinned");
    for (name, _) in threads() {
        let known = ["tidegate-loop-", "tidegate-meta", "tidegate-stash", "tidegate-dns"];
        assert!(known.iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
    assert!(descriptors().len() > before.len());
    producer.close(LONG).wait().unwrap();
    assert_eq!(loops(), [], "close() returns when the loops have ended");
    eventually("no thread is left", || threads().is_empty());
    eventually("no descriptor is left", || descriptors() == before);

    the_settings_of_the_builder(&cluster, &cores);
    loops_that_producers_share(&cluster);
    a_dropped_producer(&cluster);
    a_producer_that_reached_nobody();
    eventually("no thread is left", || threads().is_empty());
    eventually("no descriptor is left", || descriptors() == before);
    eventually("no connection is left", || cluster.connections_open() == 0);
}

fn the_settings_of_the_builder(cluster: &Brokers, cores: &[usize]) {
    let builder = || Producer::builder(&cluster.bootstrap_servers);
    let first = cores[0];
    let producer = builder().configure(|c| c.cores = Some(vec![first])).build().unwrap();
    send(&producer);
    assert!(!loops().is_empty() && loops().len() <= cores.len());
    assert!(loops().iter().all(|(_, allowed)| *allowed == first.to_string()), "{:?}", loops());
    producer.close(LONG).wait().unwrap();

    let everywhere = own_cores();
    let producer = builder().configure(|c| c.pinning = false).build().unwrap();
    send(&producer);
    assert!(loops().iter().all(|(_, allowed)| *allowed == everywhere), "{:?}", loops());
    producer.close(LONG).wait().unwrap();

    // By default there are no more loops than cores, and one core at least stays free.
    let producer = builder().build().unwrap();
    send(&producer);
    assert!(loops().len() <= cores.len());
    let pinned: BTreeSet<_> =
        loops().into_iter().map(|(_, allowed)| allowed).filter(|a| *a != everywhere).collect();
    assert!(pinned.len() < cores.len(), "{pinned:?} of {cores:?}");
    producer.close(LONG).wait().unwrap();
    assert_eq!(loops(), []);
}

fn own_cores() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

fn loops_that_producers_share(cluster: &Brokers) {
    let shared = EventLoops::shared(2).unpinned();
    let build = || {
        let builder = Producer::builder(&cluster.bootstrap_servers);
        builder.event_loops(shared.clone()).build().unwrap()
    };
    let producers = [build(), build(), build()];
    producers.iter().for_each(send);
    assert_eq!(loops().len(), 2);
    let [first, second, third] = producers;
    first.close(LONG).wait().unwrap();
    drop(second);
    send(&third);
    assert_eq!(loops().len(), 2);
    third.close(LONG).wait().unwrap();
    drop((third, first));
    drop(shared);
    eventually("the loops end with the last handle", || loops().is_empty());
}

fn a_dropped_producer(cluster: &Brokers) {
    let producer = Producer::builder(&cluster.bootstrap_servers).acks(Acks::None).build().unwrap();
    let topic = producer.topic("t").unwrap();
    send(&producer);
    drop(producer);
    assert_eq!(loops(), []);
    // The topic, and a delivery, may be kept.
    assert!(topic.send((), "late").is_err());
}

fn a_producer_that_reached_nobody() {
    let producer = Producer::builder("127.0.0.1:1,no-such-host.invalid:9092").build().unwrap();
    let delivery = producer.topic("t").unwrap().send((), "v").unwrap();
    producer.close(Duration::from_millis(50)).wait().unwrap_err();
    delivery.wait().unwrap_err();
}
