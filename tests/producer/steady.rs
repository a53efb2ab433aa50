//! Many partitions, little memory: nobody waits for linger, and large records are not starved.

use super::*;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Random keys over far more partitions than there is memory for open batches.
fn nobody_waits_for_linger(brokers: usize) {
    const PARTITIONS: i32 = 3_000;
    let cluster = EmbeddedCluster::builder()
        .brokers(brokers)
        .topic("t", PARTITIONS)
        .discard_payloads(true)
        .start()
        .unwrap();
    let producer = builder(&cluster).linger(secs(10)).buffer_memory(8 << 20).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let first = topic.send((), "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(first);
    let start = Instant::now();
    let mut state = 1_234_567;
    let mut longest = Duration::ZERO;
    let mut deliveries = Vec::new();
    for _ in 0..60_000 {
        let key = random(&mut state).to_be_bytes();
        let before = Instant::now();
        deliveries.push(topic.send(&key, &[0_u8; 100]).unwrap());
        longest = longest.max(before.elapsed());
    }
    assert!(longest < secs(5), "one send was held for {longest:?}");
    producer.flush().wait().unwrap();
    let took = start.elapsed();
    assert!(took < secs(9), "60,000 records took {took:?}");
    deliveries.into_iter().for_each(|delivery| drop(acked(delivery)));
    close(&producer);
}

#[test]
fn nobody_waits_for_linger_on_one_broker() {
    nobody_waits_for_linger(1);
}

#[test]
fn nobody_waits_for_linger_on_three_brokers() {
    nobody_waits_for_linger(3);
}

#[test]
fn large_records_get_through_a_full_pool() {
    let cluster = cluster(1, 4);
    let producer = builder(&cluster).buffer_memory(4 << 20).linger(secs(10)).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let first = topic.send((), "warm").unwrap();
    producer.flush().wait().unwrap();
    acked(first);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut state = 99;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let key = random(&mut state).to_be_bytes();
                    drop(topic.send(&key, &[0_u8; 100]).unwrap());
                }
            });
        }
        let big = vec![7_u8; 900 * 1_024];
        let start = Instant::now();
        for n in 0..20_u32 {
            let deliveries: Vec<_> =
                (0..2).map(|_| topic.send(&n.to_be_bytes(), &big).unwrap()).collect();
            assert!(start.elapsed() < LONG, "large records are starved");
            drop(deliveries);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    close(&producer);
    let large = |record: &&EmbeddedRecord| record.value.as_ref().unwrap().len() > 900_000;
    let count: usize = (0..4).map(|p| cluster.records("t", p).iter().filter(large).count()).sum();
    assert_eq!(count, 40);
}

#[test]
fn a_pool_of_the_least_size_works() {
    let cluster = cluster(3, 12);
    let producer = builder(&cluster).buffer_memory(2 << 20).build().unwrap();
    let topic = producer.topic("t").unwrap();
    let big = vec![7_u8; 1_000_000];
    for n in 0..30_u32 {
        drop(topic.send(&n.to_be_bytes(), &big).unwrap());
        for m in 0..100_u32 {
            drop(topic.send(&m.to_be_bytes(), "small").unwrap());
        }
    }
    close(&producer);
    let stored: i64 = (0..12).map(|p| cluster.high_watermark("t", p)).sum();
    assert_eq!(stored, 30 * 101);
}
