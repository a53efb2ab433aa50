//! Leaders that move while the client cannot hear of it in the usual way.

use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Acks, Delivery, Producer};

use crate::extent;
use crate::kafka::{Cluster, ClusterConfig, Kafka, unique_topic, wait_until};
use crate::proxy::{Proxy, api};
use crate::streams::patient;

const LIMIT: Duration = Duration::from_secs(120);
/// Ten times what it may take until records flow again.
const RECOVERY_MAX: Duration = Duration::from_secs(20);

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

/// The broker that metadata is asked of stands still, and so nobody hears of another's death.
pub fn f44_metadata_broker_stopped(kafka: &Kafka) {
    let proxies = [Proxy::start(), Proxy::start(), Proxy::start()];
    let ports = proxies.each_ref().map(|proxy| proxy.address().port());
    let cluster = kafka.start(&ClusterConfig::three().behind(&ports));
    for (id, proxy) in (1..).zip(&proxies) {
        proxy.forward_to(cluster.proxied_address(id));
    }
    let topic = unique_topic("hung");
    cluster.create_topic(&topic, 1, 2, &[("min.insync.replicas", "1")]);
    let addresses = proxies.each_ref().map(|proxy| proxy.address().to_string());
    let producer = patient(Producer::builder(&addresses.join(",")))
        .configure(|config| config.metadata_max_age = Duration::from_millis(200))
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    handle.send((), "first").expect("there is room").wait().expect("acknowledged");
    let asked = asked_for_metadata(&proxies);
    let others: Vec<i32> = cluster.broker_ids().into_iter().filter(|&id| id != asked).collect();
    cluster.reassign(&topic, 0, &others);
    cluster.move_leader(&topic, 0, others[0]);
    handle.send((), "second").expect("there is room").wait().expect("acknowledged");
    assert_eq!(asked_for_metadata(&proxies), asked, "the metadata channel stays where it is");

    cluster.stop(asked);
    cluster.kill(others[0]);
    let mut waits = handle.send((), "third").expect("there is room");
    cluster.wait_for_leader(&topic, 0, |leader| leader == others[1]);
    let start = Instant::now();
    let outcome = waits.wait_timeout(LIMIT).expect("resolved within the limit");
    let took = start.elapsed();
    println!(
        "f44: acknowledged {took:.2?} after the election, beside a metadata broker that hangs"
    );
    outcome.expect("the new leader acknowledges");
    assert!(took < RECOVERY_MAX, "{took:?}");
    cluster.cont(asked);
    end(&producer, &cluster);
}

/// The broker that metadata is asked of is cut off from the controller: it answers with the picture
/// that it had, and so names a leader that is dead.
pub fn f44_metadata_broker_isolated(kafka: &Kafka) {
    const ISOLATED: i32 = 3;
    let proxies = [Proxy::start(), Proxy::start(), Proxy::start()];
    let ports = proxies.each_ref().map(|proxy| proxy.address().port());
    let cluster = kafka.start(&ClusterConfig::three().behind(&ports));
    for (id, proxy) in (1..).zip(&proxies) {
        proxy.forward_to(cluster.proxied_address(id));
    }
    let to_controller = Proxy::to(cluster.controller_address());
    cluster.move_controller_for(ISOLATED, to_controller.address());
    let topic = unique_topic("isolated");
    cluster.create_topic(&topic, 1, 2, &[("min.insync.replicas", "1")]);
    cluster.reassign(&topic, 0, &[1, 2]);
    cluster.move_leader(&topic, 0, 1);
    // The only one that it can begin with.
    let first = proxies[ISOLATED as usize - 1].address().to_string();
    let producer = patient(Producer::builder(&first))
        .configure(|config| config.metadata_max_age = Duration::from_millis(200))
        .build()
        .expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    handle.send((), "first").expect("there is room").wait().expect("acknowledged");
    assert_eq!(asked_for_metadata(&proxies), ISOLATED);

    to_controller.refuse();
    to_controller.cut_all();
    cluster.kill(1);
    let mut waits = handle.send((), "second").expect("there is room");
    assert!(wait_until(LIMIT, || cluster.leader(&topic, 0) == Some(2)));
    let start = Instant::now();
    let outcome = waits.wait_timeout(LIMIT).expect("resolved within the limit");
    let took = start.elapsed();
    outcome.expect("the new leader acknowledges");
    let old = cluster.leader_told_by(ISOLATED, &topic, 0);
    println!("f44: acknowledged {took:.2?} after the election, {ISOLATED} still names {old:?}");
    assert_eq!(old, Some(1), "the picture of the isolated broker is old");
    assert!(took < RECOVERY_MAX, "{took:?}");
    to_controller.listen();
    end(&producer, &cluster);
    // Dropped while the broker uses it.
    drop(to_controller);
}

fn end(producer: &Producer, cluster: &Cluster) {
    producer.close(LIMIT).wait().expect("everything is resolved");
    cluster.wait_ready();
}

/// The broker that metadata is asked of, again and again.
#[track_caller]
fn asked_for_metadata(proxies: &[Proxy; 3]) -> i32 {
    let counts = || proxies.each_ref().map(|proxy| proxy.seen().requests_of(api::METADATA));
    let before = counts();
    let mut asked = None;
    assert!(wait_until(LIMIT, || {
        asked = (0..3).find(|&index| counts()[index] >= before[index] + 3);
        asked.is_some()
    }));
    asked.map(|index| index as i32 + 1).expect("the wait ends only when there is one")
}
