//! Processor time of a whole process that only waits: next to none, whatever it waits for.

#![cfg(target_os = "linux")]

#[path = "support/brokers.rs"]
mod brokers;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use brokers::Brokers;
use tidegate::{
    Consumer, Delivery, EventLoops, Producer, ProducerBuilder, Record, StartAt, WaitStrategy,
};

/// How long each kind of waiting is watched.
const WINDOW: Duration = Duration::from_secs(2);
/// As long as it may be.
const FLOOR: Duration = Duration::from_millis(100);
const FAR: Duration = Duration::from_secs(600);

#[test]
fn serves_brokers() {
    brokers::serve();
}

/// Processor time that this process has used, which the system counts in hundredths of a second.
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name, in parentheses, may contain anything; the times are fields after it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// The part of a core that the process uses while it waits, in percent.
fn percent_while_waiting() -> u128 {
    let (before, start) = (used(), Instant::now());
    std::thread::sleep(WINDOW);
    100 * (used() - before).as_micros() / start.elapsed().as_micros()
}

fn builder(servers: &str) -> ProducerBuilder {
    Producer::builder(servers)
        .request_timeout(FAR)
        .delivery_timeout(2 * FAR)
        .configure(|config| config.pinning = false)
}

fn send(producer: &Producer, partition: i32, value: &str) -> Delivery {
    let topic = producer.topic("t").unwrap();
    topic.send_record(Record::new().value(value).partition(partition)).unwrap()
}

fn close_without_waiting(producer: &Producer) {
    let _ = producer.close(Duration::ZERO).wait();
}

/// One test, because what it measures is the process's.
#[test]
fn f23_a_producer_that_waits_takes_no_processor_time() {
    let mut brokers = Brokers::start("serves_brokers", 1, 8, false);
    let servers = brokers.bootstrap_servers.clone();
    nothing_to_do(&servers);
    nobody_to_do_it_for(&servers);
    full_window(&servers, &mut brokers);
    silent_brokers(&servers, &mut brokers);
    refusing_brokers();
    consumers(brokers);
}

/// Consumers at the ends of their partitions, with a full queue, with partitions that have failed
/// and a topic that nobody knows; with silent brokers, and with brokers that are gone.
fn consumers(mut brokers: Brokers) {
    let producer = builder(&brokers.bootstrap_servers).build().unwrap();
    let value = "v".repeat(1_000);
    let sent: Vec<_> = (0..400).map(|n| send(&producer, n % 8, &value)).collect();
    sent.into_iter().for_each(|delivery| drop(delivery.wait().unwrap()));
    producer.close(FAR).wait().unwrap();
    let start = |topic: &str, start: StartAt| {
        let consumer = Consumer::builder(&brokers.bootstrap_servers).topic(topic, start);
        let consumer = consumer.configure(|config| {
            config.fetch_max_bytes = 20_000;
            config.max_partition_fetch_bytes = 10_000;
            config.queue_max_bytes = 100_000;
        });
        consumer.build().unwrap()
    };
    let at_end = start("t", StartAt::Latest);
    let full = start("t", StartAt::Earliest);
    let failed = start("t", StartAt::Offset(1 << 40));
    let unknown = start("misspelt", StartAt::Earliest);
    let errors = (0..8).map(|_| failed.poll(FAR).unwrap().unwrap_err());
    assert_eq!(errors.count(), 8);
    assert!(unknown.poll(Duration::from_millis(100)).is_none());
    let begin = Instant::now();
    while at_end.lag() != Some(0) {
        assert!(begin.elapsed() < FAR, "the ends are never known");
        std::thread::sleep(Duration::from_millis(10));
    }
    let percent = percent_while_waiting();
    assert!(percent < 5, "consumers with nothing to do: {percent} %");
    brokers.pause();
    let percent = percent_while_waiting();
    assert!(percent < 5, "consumers with silent brokers: {percent} %");
    brokers.resume();
    // What waited in the full queue is there, and so is the rest.
    let mut records = 0;
    while records < 400 {
        records += full.poll(FAR).unwrap().unwrap().records().count();
    }
    drop(brokers);
    let percent = percent_while_waiting();
    assert!(percent < 5, "consumers whose brokers are gone: {percent} %");
    drop((at_end, full, failed, unknown));
}

/// Loops that spin do so for producers only.
fn nobody_to_do_it_for(servers: &str) {
    let loops = EventLoops::shared(1).unpinned().waiting(WaitStrategy::Spin);
    let producer = builder(servers).event_loops(loops.clone()).build().unwrap();
    send(&producer, 0, "v").wait().unwrap();
    producer.close(FAR).wait().unwrap();
    drop(producer);
    let percent = percent_while_waiting();
    assert!(percent < 5, "spinning for nobody: {percent} %");
    drop(loops);
}

fn nothing_to_do(servers: &str) {
    let strategies = [
        (WaitStrategy::Block, 0..5),
        (WaitStrategy::SpinThenBlock(Duration::from_micros(200)), 0..5),
        // A core of its own, or as much of one as other programs leave.
        (WaitStrategy::Spin, 20..150),
    ];
    for (strategy, expected) in strategies {
        let builder = builder(servers).configure(|config| config.wait_strategy = strategy);
        let producer = builder.build().unwrap();
        send(&producer, 0, "v").wait().unwrap();
        let percent = percent_while_waiting();
        assert!(expected.contains(&percent), "{strategy:?}, idle: {percent} %");
        // What comes now is seen all the same.
        send(&producer, 0, "v").wait().unwrap();
        producer.close(FAR).wait().unwrap();
    }
}

/// A part-filled batch is held back, first by the floor and then by the full window: when the floor
/// has passed there is still nothing to do.
fn full_window(servers: &str, brokers: &mut Brokers) {
    let producer = builder(servers)
        .configure(|config| {
            config.max_in_flight = 1;
            config.part_filled_floor = Some(FLOOR);
            config.batch_size = 16 * 1_024;
        })
        .build()
        .unwrap();
    for partition in 0..3 {
        send(&producer, partition, "v").wait().unwrap();
    }
    brokers.pause();
    let held_back = send(&producer, 1, "v");
    // As large as a batch: it does not wait for the floor.
    let full = send(&producer, 2, &"v".repeat(20_000));
    let percent = percent_while_waiting();
    assert!(percent < 5, "with a full window: {percent} %");
    brokers.resume();
    for delivery in [held_back, full] {
        delivery.wait().unwrap();
    }
    producer.close(FAR).wait().unwrap();
}

fn silent_brokers(servers: &str, brokers: &mut Brokers) {
    let producer = builder(servers).build().unwrap();
    let fresh = builder(servers).build().unwrap();
    send(&producer, 0, "v").wait().unwrap();
    brokers.pause();
    let mut deliveries: Vec<_> = (0..1_000).map(|n| send(&producer, n % 8, "v")).collect();
    // This one has not reached anybody yet: its records are in a stash.
    deliveries.extend((0..1_000).map(|n| send(&fresh, n % 8, "v")));
    let percent = percent_while_waiting();
    assert!(percent < 5, "with silent brokers: {percent} %");
    brokers.resume();
    deliveries.into_iter().for_each(|delivery| drop(delivery.wait().unwrap()));
    producer.close(FAR).wait().unwrap();
    fresh.close(FAR).wait().unwrap();
}

/// Those that it knew, and those of a producer that has reached nobody yet.
fn refusing_brokers() {
    let brokers = Brokers::start("serves_brokers", 3, 8, false);
    let producer = builder(&brokers.bootstrap_servers).build().unwrap();
    for partition in 0..8 {
        send(&producer, partition, "v").wait().unwrap();
    }
    drop(brokers);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let fresh = builder(&nobody).build().unwrap();
    let deliveries: Vec<_> =
        (0..8).flat_map(|n| [send(&producer, n, "v"), send(&fresh, n, "v")]).collect();
    let percent = percent_while_waiting();
    assert!(percent < 5, "with brokers that refuse connections: {percent} %");
    drop(deliveries);
    close_without_waiting(&producer);
    close_without_waiting(&fresh);
}
