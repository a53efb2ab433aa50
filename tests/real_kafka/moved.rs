//! Leaders that move while the client cannot hear of it in the usual way.

use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Acks, Delivery, Producer};

use crate::extent;
use crate::kafka::{Kafka, unique_topic, wait_until};

const LIMIT: Duration = Duration::from_secs(120);

/// Under acks=0 a broker that does not lead any more closes the connection, and says nothing else.
pub fn f40_acks_0_and_a_moved_leader(kafka: &Kafka) {
    const BURST: u32 = 10;
    const EVERY: Duration = Duration::from_millis(10);
    // 1,000 a second: a fault that nobody notices loses nearly all of them.
    let after = extent::pick(6_000, 38_000);
    let lost_max = extent::pick(after / 3, after / 10);
    let cluster = kafka.shared_three();
    let topic = unique_topic("moved");
    cluster.create_topic(&topic, 1, 2, &[("min.insync.replicas", "1")]);
    let producer = Producer::builder(&cluster.bootstrap_servers()).acks(Acks::None).build();
    let producer = producer.expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let send = |count: u32| {
        let mut due = Instant::now();
        let mut sent: Vec<Delivery> = Vec::new();
        for number in 0..count {
            sent.push(handle.send((), "moved").expect("there is room"));
            if number % BURST == 0 {
                due += EVERY;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        sent.into_iter().filter_map(|delivery| delivery.wait().ok()).count()
    };
    let before = send(1_000);
    let replicas = cluster.partition(&topic, 0).replicas;
    let leader = cluster.leader(&topic, 0).expect("a created topic has leaders");
    let to = replicas.into_iter().find(|&id| id != leader).expect("there are two");
    let acked = thread::scope(|scope| {
        let sender = scope.spawn(|| send(after));
        thread::sleep(Duration::from_millis(500));
        cluster.move_leader(&topic, 0, to);
        sender.join().expect("the sender does not panic")
    });
    producer.close(LIMIT).wait().expect("everything is resolved");
    let mut read = 0;
    // The broker may be reading the last requests still.
    wait_until(Duration::from_secs(10), || {
        let last = std::mem::replace(&mut read, cluster.read_back_each(&topic, |_| {}));
        last == read
    });
    let told = (before + acked) as u64;
    println!("f40: {told} told delivered, {read} in the log, {} lost", told - read);
    assert!(told - read < u64::from(lost_max), "{read} of {told} are in the log");
}
