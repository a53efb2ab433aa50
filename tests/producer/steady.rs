//! Many partitions, little memory, many handles: nobody waits for linger, large records are not
//! starved, and what the user keeps holds nothing up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate::{BackoffStrategy, ParkSender, Pressure, RejectRecords};

use super::*;

const MIB: usize = 1 << 20;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Makes the topic known although batches linger for ever.
fn warm_flushed(producer: &Producer, topic: &Topic) {
    let first = topic.send((), "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(first);
}

/// Random keys over 5,000 partitions: there is room for less than two small segments for each, and
/// no batch gets full. A batch that lingered would hold its memory for ten minutes.
fn nobody_waits_for_linger(brokers: usize) {
    const PARTITIONS: i32 = 5_000;
    const ROUNDS: usize = 20;
    const RECORDS: usize = 60_000;
    /// Of a busy machine; linger is far longer.
    const STALL_MAX: Duration = Duration::from_secs(5);
    let cluster = EmbeddedCluster::builder()
        .brokers(brokers)
        .topic("t", PARTITIONS)
        .discard_payloads(true)
        .start()
        .unwrap();
    let producer = lingering(&cluster).buffer_memory(32 * MIB).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm_flushed(&producer, &topic);
    let mut state = 1_234_567;
    let mut deliveries = Vec::new();
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..RECORDS {
            let key = random(&mut state).to_be_bytes();
            deliveries.push(topic.send(key, &[0_u8; 100]).unwrap());
        }
        rounds.push(start.elapsed());
        assert!(start.elapsed() < LONG, "the senders wait for linger: {rounds:.2?}");
    }
    println!("{brokers} brokers, {RECORDS} records in {rounds:.2?}");
    rounds.sort_unstable();
    let (median, slowest) = (rounds[ROUNDS / 2], rounds[ROUNDS - 1]);
    assert!(slowest <= median * 10 + STALL_MAX, "not a steady rate: {rounds:.2?}");
    let stored = cluster.stats().records();
    assert!(stored > (ROUNDS * RECORDS / 2) as u64, "{stored} have left without linger or flush");
    let start = Instant::now();
    producer.flush().wait().unwrap();
    assert!(start.elapsed() < LONG, "flush waited {:?}", start.elapsed());
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
    assert_eq!(cluster.stats().records(), (ROUNDS * RECORDS) as u64 + 1);
}

#[test]
fn c45_nobody_waits_for_linger_on_one_broker() {
    nobody_waits_for_linger(1);
}

#[test]
fn c45_nobody_waits_for_linger_on_three_brokers() {
    nobody_waits_for_linger(3);
}

#[test]
fn large_records_get_through_a_full_pool() {
    const LARGE: usize = 900 * 1_024;
    let cluster = cluster(1, 4);
    let parked = Arc::new(AtomicU64::new(0));
    let count = parked.clone();
    let strategy = move |pressure: &Pressure| {
        count.fetch_add(1, Ordering::Relaxed);
        ParkSender::for_at_most(FAR).decide(pressure)
    };
    let producer = lingering(&cluster).buffer_memory(4 * MIB).backoff(strategy).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm_flushed(&producer, &topic);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut state = 99;
                while !stop.load(Ordering::Relaxed) {
                    let key = random(&mut state).to_be_bytes();
                    drop(topic.send(key, &[0_u8; 100]).unwrap());
                }
            });
        }
        eventually("the pool is full", || parked.load(Ordering::Relaxed) > 0);
        let large = vec![7_u8; LARGE];
        let start = Instant::now();
        for n in 0..40_u32 {
            acked(topic.send(n.to_be_bytes(), &large).unwrap());
            assert!(start.elapsed() < LONG, "large records are starved");
        }
        stop.store(true, Ordering::Relaxed);
    });
    close(&producer);
    let is_large = |record: &&EmbeddedRecord| record.value.as_ref().unwrap().len() == LARGE;
    let count: usize =
        (0..4).map(|p| cluster.records("t", p).iter().filter(is_large).count()).sum();
    assert_eq!(count, 40);
}

/// Handles are no memory of the pool's: senders go on however many of them the user keeps.
#[test]
fn five_million_deliveries_may_be_held() {
    const EACH: usize = 2_500_000;
    assert!(size_of::<Delivery>() <= 24, "{} bytes", size_of::<Delivery>());
    let cluster = EmbeddedCluster::builder().topic("t", 12).discard_payloads(true).start().unwrap();
    let producer = patient(&cluster).buffer_memory(8 * MIB).build().unwrap();
    let topic = producer.topic("t").unwrap();
    warm(&topic, 1);
    let held: Vec<Vec<Delivery>> = std::thread::scope(|scope| {
        let send = || {
            let mut held = Vec::with_capacity(EACH);
            let mut fifths = Vec::new();
            for _ in 0..5 {
                let start = Instant::now();
                held.extend((0..EACH / 5).map(|_| topic.send((), [7_u8; 10]).unwrap()));
                fifths.push(start.elapsed());
                assert!(start.elapsed() < LONG, "sending stops: {fifths:.2?}");
            }
            println!("{EACH} records, by fifths: {fifths:.2?}");
            held
        };
        let senders = [scope.spawn(send), scope.spawn(send)];
        senders.map(|sender| sender.join().unwrap()).into()
    });
    producer.flush().wait().unwrap();
    assert_eq!(producer.memory().free, producer.memory().capacity, "handles hold no segment");
    for mut delivery in held.into_iter().flatten() {
        delivery.try_take().expect("flush waits for each").unwrap();
    }
    close(&producer);
    assert_eq!(cluster.stats().records(), 2 * EACH as u64 + 1);
}

#[test]
fn a_pool_of_the_least_size_works() {
    let cluster = cluster(3, 12);
    let producer = builder(&cluster).buffer_memory(2 << 20).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let big = vec![7_u8; 1_000_000];
    for n in 0..30_u32 {
        drop(topic.send(n.to_be_bytes(), &big).unwrap());
        for m in 0..100_u32 {
            drop(topic.send(m.to_be_bytes(), "small").unwrap());
        }
    }
    close(&producer);
    let stored: i64 = (0..12).map(|p| cluster.high_watermark("t", p)).sum();
    assert_eq!(stored, 30 * 101);
}

/// A record that lingers for a broker with room must not keep those of one without it lingering.
#[test]
fn c45_a_broker_short_of_memory_waits_for_nobody_elses_linger() {
    let cluster = cluster(2, 2);
    let (quiet, busy) = if cluster.leader("t", 0) == Some(1) { (0, 1) } else { (1, 0) };
    let producer = builder(&cluster)
        .linger(Duration::from_secs(30))
        .event_loops(EventLoops::shared(1).unpinned())
        .watermarks(16 << 10, 64 << 10)
        .backoff(RejectRecords)
        .build()
        .unwrap();
    let topic = producer.topic("t").unwrap();
    eventually("the topic is known", || topic.partitions() == 2);
    let send =
        |partition: i32| topic.send_record(Record::new().value(&[7; 1_000]).partition(partition));
    let start = Instant::now();
    let first = send(quiet).unwrap();
    let mut taken = 0;
    while taken < 1_000 {
        assert!(start.elapsed() < Duration::from_secs(25), "{taken} records were taken");
        match send(busy) {
            Ok(_) => taken += 1,
            // Until the broker has acknowledged some.
            Err(_) => std::thread::yield_now(),
        }
    }
    drop(first);
    close(&producer);
}
