//! A producer that runs out of file descriptors, and one whose brokers refuse it: in a process of
//! its own each, as limits and processor time are counted by process. The process is this test
//! binary, run again for one test under another limit; its brokers and the proxy in front of them
//! stay here.

#![cfg(target_os = "linux")]

#[path = "support/client_process.rs"]
mod client_process;
#[path = "support/proxy/mod.rs"]
mod proxy;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use tidegate::embedded::EmbeddedCluster;
use tidegate::{BuildError, Delivery, Producer, ProducerBuilder, Record};

use client_process::ask;
use proxy::Proxy;

const LONG: Duration = Duration::from_secs(30);

/// Runs a test of this binary in a process with at most so many descriptors, behind a proxy that
/// refuses and listens again when it asks for that.
fn run(test: &str, descriptors: u32) {
    let cluster = EmbeddedCluster::builder().topic("t", 2).start().unwrap();
    let proxy = Proxy::to(cluster.address(1));
    cluster.advertise(1, proxy.address());
    let limit = format!("ulimit -n {descriptors};");
    client_process::run(test, &limit, &proxy.address().to_string(), |asks| match asks {
        "refuse" => {
            proxy.refuse();
            proxy.cut_all();
        }
        "listen" => proxy.listen(),
        other => panic!("what is {other}?"),
    });
}

/// Nothing in any other process than a child.
fn builder() -> Option<ProducerBuilder> {
    let bootstrap = client_process::bootstrap()?;
    Some(Producer::builder(&bootstrap).configure(|config| config.pinning = false))
}

fn to(partition: i32, value: &str) -> Record<'_> {
    Record::new().value(value).partition(partition)
}

fn acked(mut delivery: Delivery) {
    delivery.wait_timeout(LONG).expect("every delivery resolves").unwrap();
}

/// Tells what processor time this process took: opened while there are descriptors.
struct Meter(File);

impl Meter {
    fn new() -> Meter {
        Meter(File::open("/proc/self/stat").unwrap())
    }

    /// So far, to a hundredth of a second.
    fn processor_time(&self) -> Duration {
        let mut stat = [0; 1_024];
        let length = self.0.read_at(&mut stat, 0).unwrap();
        let stat = std::str::from_utf8(&stat[..length]).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    /// The share of a core that this process takes in the next two seconds.
    fn share_of_a_core(&self) -> f64 {
        let (start, before) = (Instant::now(), self.processor_time());
        std::thread::sleep(Duration::from_secs(2));
        (self.processor_time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
    }
}

/// Every descriptor there is, until there were `least` at once.
fn all_descriptors(least: usize) -> Vec<File> {
    let (mut taken, start) = (Vec::new(), Instant::now());
    while taken.len() < least {
        assert!(start.elapsed() < LONG, "{} descriptors", taken.len());
        taken.extend(std::iter::from_fn(|| File::open("/dev/null").ok()));
    }
    taken
}

/// The error of a delivery that waits for a connection.
fn lost(mut delivery: Delivery) -> String {
    let outcome = delivery.wait_timeout(LONG).expect("every delivery resolves");
    outcome.expect_err("there is no connection to send it by").to_string()
}

#[test]
fn f23_out_of_descriptors_is_waited_out() {
    run("child_without_descriptors", 64);
}

#[test]
fn child_without_descriptors() {
    let Some(builder) = builder() else { return };
    let meter = Meter::new();
    let taken = all_descriptors(1);
    match builder.clone().build() {
        Err(error @ BuildError::System { .. }) => println!("{error}"),
        other => panic!("{:?}", other.map(drop)),
    }
    drop(taken);

    let producer = builder
        .request_timeout(Duration::from_millis(500))
        .delivery_timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    (0..2).for_each(|partition| acked(topic.send_record(to(partition, "warm")).unwrap()));
    let taken = all_descriptors(1);
    ask("refuse");
    // Those of the two connections as well, at a moment when neither is tried again.
    let waiting = topic.send_record(to(0, "lost")).unwrap();
    let more = all_descriptors(2);
    ask("listen");
    drop(lost(waiting));
    let delivery = topic.send_record(to(1, "lost too")).unwrap();
    let share = meter.share_of_a_core();
    println!("out of descriptors: {:.1} % of a core", 100.0 * share);
    assert!(share < 0.05, "{share}");
    let error = lost(delivery);
    assert!(error.contains("Too many open files") && error.contains("broker 1 at"), "{error}");
    drop((taken, more));
    (0..2).for_each(|partition| acked(topic.send_record(to(partition, "after")).unwrap()));
}

#[test]
fn f23_refused_by_every_broker_costs_next_to_nothing() {
    run("child_that_is_refused", 1_024);
}

#[test]
fn child_that_is_refused() {
    let Some(builder) = builder() else { return };
    let meter = Meter::new();
    let producer = builder.build().unwrap();
    let topic = producer.topic("t").unwrap();
    (0..2).for_each(|partition| acked(topic.send_record(to(partition, "warm")).unwrap()));
    ask("refuse");
    let waiting: Vec<_> =
        (0..10_000).map(|n| topic.send_record(to(n % 2, "waits")).unwrap()).collect();
    let share = meter.share_of_a_core();
    println!("refused by every broker: {:.1} % of a core", 100.0 * share);
    assert!(share < 0.05, "{share}");
    ask("listen");
    waiting.into_iter().for_each(acked);
}
