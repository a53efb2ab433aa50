//! Ever new brokers and ever new topics: what a process that sends to them holds stays the same.
//!
//! The process is this test binary, run again for one test, so that it has nothing but a producer;
//! brokers and the proxy in front of them stay here. It asks for what is to come and go by lines on
//! its standard output.

#![cfg(target_os = "linux")]

#[path = "support/client_process.rs"]
mod client_process;
#[path = "support/heap.rs"]
mod heap;
#[path = "support/proxy/mod.rs"]
mod proxy;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{BrokerId, MetadataResponse, ProduceResponse};
use tidegate::embedded::EmbeddedCluster;
use tidegate::{Delivery, DeliveryErrorCause, Producer, ProducerBuilder, Record};

use client_process::{ask, run};
use proxy::{Act, Proxy, api, rewrite};

const LONG: Duration = Duration::from_secs(60);
const NOT_LEADER_OR_FOLLOWER: i16 = 6;

/// Nothing in any other process than a child.
fn builder() -> Option<ProducerBuilder> {
    let bootstrap = client_process::bootstrap()?;
    Some(Producer::builder(&bootstrap).delivery_timeout(LONG).configure(|config| {
        config.pinning = false;
        (config.retry_backoff, config.retry_backoff_max) = (millis(1), millis(10));
        (config.reconnect_backoff, config.reconnect_backoff_max) = (millis(1), millis(10));
        config.metadata_min_refresh = millis(1);
    }))
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn acked(mut delivery: Delivery) {
    delivery.wait_timeout(2 * LONG).expect("every delivery resolves").unwrap();
}

/// The topic of this delivery was deleted before.
fn without_topic(mut delivery: Delivery) {
    let outcome = delivery.wait_timeout(2 * LONG).expect("every delivery resolves");
    let error = outcome.unwrap_err();
    assert!(matches!(error.cause(), DeliveryErrorCause::UnknownTopic { .. }), "{error}");
}

/// The process is looked at when the first of so many parts has come and gone, and at the end. The
/// tables that remember what 1,024 addresses did are full from the first look on.
const PARTS: i32 = 5;

/// Bytes that the heap may grow by from then on. Queues keep the room that they once needed, which
/// makes 30 KiB more or less, and a metadata connection beside the present one takes 36 KiB. It is
/// 26 bytes for each further broker and 33 for each further topic: one address or one topic's name
/// that stays with each of them takes more.
const HEAP_SLACK: u64 = 128 << 10;

/// Threads and descriptors may be so many more: a metadata connection beside the present one, a
/// thread that looks up a name.
const SLACK: usize = 2;

/// Of a core. A producer with nothing to do takes less than one per cent.
const PERCENT_MAX: f64 = 10.0;

/// What the process holds while nothing is sent.
#[derive(Debug)]
struct Held {
    heap: u64,
    threads: usize,
    descriptors: usize,
    percent_of_a_core: f64,
}

impl Held {
    /// Watches the process for a second, and looks what it holds then.
    fn now(after: i32) -> Held {
        let (before, start) = (processor_time(), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let used = (processor_time() - before).as_secs_f64();
        let entries = |path| std::fs::read_dir(path).unwrap().count();
        let held = Held {
            percent_of_a_core: 100.0 * used / start.elapsed().as_secs_f64(),
            heap: heap::live(),
            threads: entries("/proc/self/task"),
            descriptors: entries("/proc/self/fd"),
        };
        println!("after {after}: {held:?}");
        held
    }

    fn is_no_more_than(&self, early: &Held) {
        assert!(self.heap <= early.heap + HEAP_SLACK, "{early:?}, later {self:?}");
        assert!(self.threads <= early.threads + SLACK, "{early:?}, later {self:?}");
        assert!(self.descriptors <= early.descriptors + SLACK, "{early:?}, later {self:?}");
        for held in [early, self] {
            assert!(held.percent_of_a_core < PERCENT_MAX, "{held:?}");
        }
    }
}

/// Of this process, to a hundredth of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Brokers that are the cluster at one time, a partition for each.
const TOGETHER: i32 = 4;
/// How often others take their places.
const GENERATIONS: i32 = 1_600;
/// Where the broker with the id 0 is. Each has an address of the loopback network.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);
/// Those that left keep their places for 30 seconds, far longer than the test takes, unless others
/// need them. With so few, they do.
const BROKERS_MAX: i32 = 4 * TOGETHER;
/// The brokers of one in so many generations close their connections before they go, the others
/// leave them open. None of the former has a place when the process is looked at.
const SHUTS_DOWN_EVERY: i32 = 2 * BROKERS_MAX / TOGETHER;

#[test]
fn c59_f49_ever_new_brokers_leave_nothing_behind() {
    let cluster = EmbeddedCluster::builder().topic("t", TOGETHER).start().unwrap();
    // It listens on every address of the loopback network.
    let proxy = Proxy::at(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    proxy.forward_to(cluster.address(1));
    let port = proxy.address().port();
    let generation = Arc::new(AtomicI32::new(0));
    let present = generation.clone();
    proxy.script(move |frame| {
        let present = present.load(Ordering::SeqCst);
        if frame.answers(api::METADATA) {
            rewrite::rewritten(frame, |response| is_of_generation(response, present, port))
        } else if frame.answers(api::PRODUCE)
            && generation_at(frame.address).is_some_and(|it| it < present)
        {
            // The batch was appended all the same: for its next leader it is a duplicate.
            rewrite::produce(frame, is_of_no_leader)
        } else {
            Act::Pass
        }
    });
    run("child_of_ever_new_brokers", "", &format!("127.0.0.1:{port}"), |asks| match asks {
        "others" => drop(generation.fetch_add(1, Ordering::SeqCst)),
        "shut down" => {
            let present = generation.load(Ordering::SeqCst);
            proxy.end_those(|address| generation_at(address).is_none_or(|it| it == present));
        }
        other => panic!("what is {other}?"),
    });
    assert_eq!(cluster.stats().records(), (GENERATIONS * TOGETHER) as u64);
    let connections = proxy.seen().accepted;
    assert!(connections >= (GENERATIONS * TOGETHER) as u64, "{connections} connections");
}

/// The brokers of this generation are the cluster, each with an id and an address that none before
/// it had; each leads a partition.
fn is_of_generation(response: &mut MetadataResponse, generation: i32, port: u16) {
    let id = |index: i32| BrokerId(generation * TOGETHER + index);
    let one = response.brokers[0].clone().with_port(i32::from(port));
    response.brokers.clear();
    for index in 0..TOGETHER {
        let host = (FIRST_ADDRESS.to_bits() + id(index).0 as u32).into();
        let host = Ipv4Addr::to_string(&host);
        response.brokers.push(one.clone().with_node_id(id(index)).with_host(host.into()));
    }
    response.controller_id = id(0);
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.leader_id = id(partition.partition_index);
        partition.leader_epoch = generation;
        partition.replica_nodes = vec![partition.leader_id];
        partition.isr_nodes = vec![partition.leader_id];
    }
}

/// The generation that a broker at this address is of; `None` if it is only to begin with.
fn generation_at(address: SocketAddr) -> Option<i32> {
    let SocketAddr::V4(address) = address else { return None };
    let id = address.ip().to_bits().checked_sub(FIRST_ADDRESS.to_bits())?;
    Some(id as i32 / TOGETHER)
}

fn is_of_no_leader(response: &mut ProduceResponse) {
    for partition in response.responses.iter_mut().flat_map(|it| &mut it.partition_responses) {
        (partition.error_code, partition.base_offset) = (NOT_LEADER_OR_FOLLOWER, -1);
    }
}

#[test]
fn child_of_ever_new_brokers() {
    let Some(builder) = builder() else { return };
    let producer =
        builder.configure(|config| config.brokers_max = BROKERS_MAX as usize).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let send =
        |partition| topic.send_record(Record::new().value("v").partition(partition)).unwrap();
    let come_and_go = |generations: std::ops::RangeInclusive<i32>| {
        for generation in generations {
            if generation % SHUTS_DOWN_EVERY == SHUTS_DOWN_EVERY / 2 {
                ask("shut down");
            }
            ask("others");
            // The old leaders refuse these records, so that the producer asks who leads now.
            let sent: Vec<_> = (0..TOGETHER).map(send).collect();
            sent.into_iter().for_each(acked);
        }
    };
    let first = GENERATIONS / PARTS;
    come_and_go(1..=first);
    let early = Held::now(first * TOGETHER);
    come_and_go(first + 1..=GENERATIONS);
    Held::now(GENERATIONS * TOGETHER).is_no_more_than(&early);
}

const TOPICS: i32 = 5_000;

#[test]
fn c59_f49_ever_new_topics_leave_nothing_behind() {
    let cluster = EmbeddedCluster::builder().start().unwrap();
    run("child_of_ever_new_topics", "", &cluster.bootstrap_servers(), |asks| {
        let done = match asks.split_once(' ') {
            Some(("create", name)) => cluster.create_topic(name, 1),
            Some(("delete", name)) => cluster.delete_topic(name),
            _ => panic!("what is {asks}?"),
        };
        assert!(done, "{asks}");
    });
    assert_eq!(cluster.stats().records(), TOPICS as u64);
}

#[test]
fn child_of_ever_new_topics() {
    let Some(builder) = builder() else { return };
    let builder = builder.configure(|config| {
        // The least that may be set.
        config.metadata_max_idle = Duration::from_secs(5);
        config.topic_unknown_max = millis(20);
        // Else the tables would grow with the topics of five seconds, more on a faster machine.
        config.lanes_max = 256;
    });
    let producer = builder.build().unwrap();
    let come_and_go = |topics: std::ops::RangeInclusive<i32>| {
        let mut denied = Vec::new();
        for n in topics {
            // So long that keeping it would show in the heap.
            let name = format!("topic-{n:0>100}");
            ask(&format!("create {name}"));
            let topic = producer.topic(&name).unwrap();
            acked(topic.send((), "v").unwrap());
            ask(&format!("delete {name}"));
            if n % 10 == 0 {
                // Its broker refuses this record, and says that there is no such topic.
                denied.push(topic.send((), "late").unwrap());
            }
            drop(topic);
            if n % 100 == 0 {
                denied.drain(..).for_each(without_topic);
            }
        }
        let start = Instant::now();
        while !producer.metrics().topics.is_empty() {
            assert!(start.elapsed() < LONG, "topics that nobody uses are kept");
            std::thread::sleep(millis(10));
        }
    };
    let first = TOPICS / PARTS;
    come_and_go(1..=first);
    let early = Held::now(first);
    come_and_go(first + 1..=TOPICS);
    Held::now(TOPICS).is_no_more_than(&early);
}
