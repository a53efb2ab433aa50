//! What the loops of a producer do when the machine was asleep. No test can suspend the machine:
//! the sleep is planted. In a process of its own, because the plant is for the whole process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate::embedded::{ClusterStats, EmbeddedCluster};
use tidegate::internals::planted;
use tidegate::{
    BrokerReport, Consumer, Delivery, EventLoops, Producer, ProducerBuilder, Record, StartAt,
};

const LONG: Duration = Duration::from_secs(60);
/// Longer than any connection may be idle, and than every other limit.
const ASLEEP: Duration = Duration::from_secs(3_600);

const METADATA: i16 = 3;

/// One machine, one sleep at a time.
fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Partition 0 of `t` is led by broker 1, partition 1 by broker 2.
fn two_brokers(partitions: i32) -> EmbeddedCluster {
    let cluster = EmbeddedCluster::builder().brokers(2).topic("t", partitions).start().unwrap();
    for partition in [0, 1] {
        if cluster.leader("t", partition) != Some(partition + 1) {
            assert!(cluster.move_leader("t", partition, partition + 1));
        }
    }
    cluster
}

/// Its metadata channel begins at `broker`, and asks nothing only because time has passed.
fn builder(cluster: &EmbeddedCluster, broker: i32) -> ProducerBuilder {
    Producer::builder(&cluster.address(broker).to_string())
        .event_loops(EventLoops::shared(1).unpinned())
        .request_timeout(LONG)
        .configure(|config| config.metadata_max_age = ASLEEP)
}

fn send(producer: &Producer, partition: i32) -> Delivery {
    let topic = producer.topic("t").unwrap();
    topic.send_record(Record::new().value("v").partition(partition)).unwrap()
}

fn acknowledged(mut delivery: Delivery) {
    drop(delivery.wait_timeout(LONG).expect("resolved in time").expect("acknowledged"));
}

/// Connections to a broker that have come and are gone.
fn closed(stats: &ClusterStats, broker: i32) -> u64 {
    let broker = stats.broker(broker);
    broker.connections_accepted - broker.connections_open
}

/// A producer with topic `t` known, whose metadata channel is the only connection to broker 1 and
/// wakes once a second, without a cause to ask anything.
fn with_idle_channel(cluster: &EmbeddedCluster) -> Producer {
    let producer = builder(cluster, 1)
        .configure(|config| config.metrics_log_interval = Some(Duration::from_secs(1)))
        .build()
        .unwrap();
    acknowledged(send(&producer, 1));
    let stats = cluster.stats();
    assert_eq!((closed(&stats, 1), stats.broker(1).connections_open), (0, 1));
    producer
}

#[test]
fn after_a_short_suspend_metadata_is_asked_over_the_present_connection() {
    let _machine = machine();
    let cluster = two_brokers(2);
    let producer = with_idle_channel(&cluster);
    let asked = cluster.stats().requests_of(METADATA) + 1;
    planted::sleep_for(ASLEEP / 60);
    let asks = cluster.wait_until(LONG, |stats| stats.requests_of(METADATA) >= asked);
    assert!(asks && closed(&cluster.stats(), 1) == 0, "{:?}", cluster.stats());
    producer.close(LONG).wait().unwrap();
}

#[test]
fn after_a_long_suspend_the_metadata_channel_connects_anew_and_asks() {
    let _machine = machine();
    let cluster = two_brokers(2);
    let producer = with_idle_channel(&cluster);
    let asked = cluster.stats().requests_of(METADATA) + 1;
    planted::sleep_for(ASLEEP);
    let anew = cluster
        .wait_until(LONG, |stats| closed(stats, 1) > 0 && stats.requests_of(METADATA) >= asked);
    assert!(anew, "{:?}", cluster.stats());
    producer.close(LONG).wait().unwrap();
}

#[test]
fn after_a_long_suspend_the_next_record_goes_over_a_new_connection() {
    let _machine = machine();
    let cluster = two_brokers(2);
    let producer = builder(&cluster, 1).build().unwrap();
    acknowledged(send(&producer, 1));
    acknowledged(send(&producer, 1));
    assert_eq!(closed(&cluster.stats(), 2), 0);

    suspend_until_noticed(&producer);
    assert!(cluster.wait_until(LONG, |stats| closed(stats, 2) > 0), "the old one stays open");
    producer.close(LONG).wait().unwrap();
}

#[test]
fn a_suspend_moves_no_deadline() {
    let _machine = machine();
    let cluster = two_brokers(3);
    assert!(cluster.set_leaderless("t", 2));
    let producer = builder(&cluster, 2).build().unwrap();
    [0, 1].into_iter().for_each(|partition| acknowledged(send(&producer, partition)));

    // In flight, without a leader, of a topic that nobody knows.
    cluster.pause_broker(1);
    let later = producer.topic("later").unwrap();
    let mut waiting =
        [send(&producer, 0), send(&producer, 2), later.send((), "v").expect("there is room")];
    assert!(wait_until(|| broker(&producer, 1).requests_in_flight == 1), "{}", producer.report());

    suspend_until_noticed(&producer);
    // The metadata channel asks about the leaderless partition and the unknown topic again and
    // again.
    let asked = cluster.stats().requests_of(METADATA) + 2;
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(METADATA) >= asked));
    for delivery in &mut waiting {
        assert!(delivery.try_take().is_none(), "nothing is resolved by a sleep");
    }

    cluster.resume_broker(1);
    assert!(cluster.move_leader("t", 2, 2));
    assert!(cluster.create_topic("later", 1));
    waiting.into_iter().for_each(acknowledged);
    assert_eq!(cluster.stats().duplicates(), 0, "what is in flight is left alone");
    producer.close(LONG).wait().unwrap();
}

/// A fetch is on its way, and its answer was lost with the connection, which nobody told of.
#[test]
fn after_a_long_suspend_a_consumer_reads_over_new_connections() {
    let _machine = machine();
    let cluster = two_brokers(2);
    let producer = builder(&cluster, 1).build().unwrap();
    let consumer = Consumer::builder(&cluster.address(1).to_string())
        .topic("t", StartAt::Earliest)
        .client(|client| {
            (client.request_timeout, client.metadata_max_age) = (2 * LONG, ASLEEP);
        })
        .build()
        .unwrap();
    let read = |partition: i32| {
        acknowledged(send(&producer, partition));
        let batch = consumer.poll(LONG).expect("it comes in time").expect("it can be read");
        assert_eq!((batch.partition(), batch.records().count()), (partition, 1));
    };
    [1, 0].into_iter().for_each(read);
    let before = cluster.stats();

    // Shorter than a request may take: metadata is asked for, and the connections stay.
    let asked = before.requests_of(METADATA);
    planted::sleep_for(LONG);
    assert!(cluster.wait_until(LONG, |stats| stats.requests_of(METADATA) > asked));
    assert_eq!(closed(&cluster.stats(), 2), closed(&before, 2));
    planted::sleep_for(3 * LONG);
    let gone = cluster.wait_until(LONG, |stats| closed(stats, 2) > closed(&before, 2));
    assert!(gone, "{:?}", cluster.stats());
    [1, 0].into_iter().for_each(read);
    producer.close(LONG).wait().unwrap();
}

/// Suspends until a record to broker 2 goes over a new connection: a loop looks for a sleep only
/// once it has waited, and one that is at work just then sends over the old one.
fn suspend_until_noticed(producer: &Producer) {
    let noticed = wait_until(|| {
        let start = Instant::now();
        planted::sleep_for(ASLEEP);
        acknowledged(send(producer, 1));
        broker(producer, 2).state_for <= start.elapsed()
    });
    assert!(noticed, "records go over the old connection: {}", producer.report());
}

/// What the producer's loop says of a broker.
fn broker(producer: &Producer, id: i32) -> BrokerReport {
    let report = producer.report();
    let found = report.brokers.iter().find(|broker| broker.broker == id);
    found.unwrap_or_else(|| panic!("no broker {id}: {report}")).clone()
}

fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < LONG {
        if holds() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}
