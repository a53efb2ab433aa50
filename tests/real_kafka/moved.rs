//! Leaders that move while the client cannot hear of it in the usual way.

use std::collections::HashSet;
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Acks, Delivery, Producer, Topic};

use crate::extent;
use crate::kafka::{Cluster, ClusterConfig, Kafka, unique_topic, wait_until};
use crate::logger;
use crate::proxy::{Proxy, api};
use crate::streams::patient;

const LIMIT: Duration = Duration::from_secs(120);
/// Ten times what it may take until records flow again.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// How long records may go to a broker that has closed their connection. To ask for metadata a
/// second late is too late. Up to 30 ms were seen as a rule, on two cores with three busy loops
/// beside 70, with seven 160.
const LATE_MAX: Duration = Duration::from_millis(600);

/// Under acks=0 a broker that does not lead any more closes the connection, and says nothing else.
/// What it took before it heard that it does not lead is lost as well, which is the broker's doing:
/// 30 to 100 ms as a rule, 2.5 s on a busy machine.
pub fn f40_acks_0_and_a_moved_leader(kafka: &Kafka) {
    let after = extent::pick(6_000, 38_000);
    let cluster = kafka.shared_three();
    let topic = unique_topic("moved");
    cluster.create_topic(&topic, 1, 2, &[("min.insync.replicas", "1")]);
    let producer = Producer::builder(&cluster.bootstrap_servers()).acks(Acks::None).build();
    let producer = producer.expect("the settings work");
    let handle = producer.topic(&topic).expect("a legal name");
    let mut told = send_paced(&handle, 0..1_000);
    let replicas = cluster.partition(&topic, 0).replicas;
    let leader = cluster.leader(&topic, 0).expect("a created topic has leaders");
    let to = replicas.into_iter().find(|&id| id != leader).expect("there are two");
    let moved_at = thread::scope(|scope| {
        let sender = scope.spawn(|| send_paced(&handle, 1_000..1_000 + after));
        thread::sleep(Duration::from_millis(500));
        cluster.move_leader(&topic, 0, to);
        let moved_at = Instant::now();
        told.extend(sender.join().expect("the sender does not panic"));
        moved_at
    });
    producer.close(LIMIT).wait().expect("everything is resolved");
    let mut read = HashSet::new();
    // The broker may be reading the last requests still.
    wait_until(Duration::from_secs(10), || {
        let last = std::mem::take(&mut read);
        cluster.read_back_each(&topic, |record| {
            read.insert(number_of(record.value));
        });
        last.len() == read.len()
    });
    let left = format!("broker {leader} at {}", cluster.address(leader));
    let closed_at = logger::warned_at(&["acks=0 may be lost", &left]);
    let closed_at = closed_at.unwrap_or_else(|| panic!("no word of what {left} may have lost"));
    // By then each broker has heard of it, whatever the producer has noticed.
    let heard_at = closed_at.min(moved_at);
    let lost: Vec<Instant> =
        told.iter().filter(|(number, _)| !read.contains(number)).map(|&(_, at)| at).collect();
    let late = lost.iter().filter(|&&at| at >= heard_at).count();
    let (of, lost) = (told.len(), lost.len());
    println!("f40: of {of} told delivered {lost} lost, {late} since the broker closed");
    assert!((late as u128) < LATE_MAX.as_millis(), "{late} of {lost} lost are the producer's");
}

/// Sends these numbers, one a millisecond. Returns those that were told delivered, and when each
/// was sent.
fn send_paced(handle: &Topic, numbers: Range<u32>) -> Vec<(u32, Instant)> {
    const BURST: u32 = 10;
    const EVERY: Duration = Duration::from_millis(BURST as u64);
    let mut due = Instant::now();
    let mut sent: Vec<(u32, Instant, Delivery)> = Vec::new();
    for number in numbers {
        let at = Instant::now();
        sent.push((number, at, handle.send((), number.to_be_bytes()).expect("there is room")));
        if number % BURST == 0 {
            due += EVERY;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    let told = |(number, at, delivery): (u32, Instant, Delivery)| {
        delivery.wait().ok().map(|_| (number, at))
    };
    sent.into_iter().filter_map(told).collect()
}

fn number_of(value: Option<&[u8]>) -> u32 {
    let bytes = value.and_then(|value| value.try_into().ok());
    u32::from_be_bytes(bytes.expect("each value is a number"))
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

/// The broker that metadata is asked of is cut off from the controller: it answers with an old
/// picture, and so names a leader that is dead.
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
