//! One broker of three of which the client hears nothing any more, while the brokers themselves
//! are well: what the partitions of the other two take all the same.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::{Delivery, Producer, Record, Topic};

use crate::failover::spread;
use crate::kafka::wait_until;
use crate::proxy::{Act, Proxy, Welcome};
use crate::stage::{self, LIMIT, PARTITIONS, Stage};
use crate::streams::Pace;

/// The broker that falls silent.
const SILENT: i32 = 2;
const WARM_UP: Duration = Duration::from_secs(3);
const SPAN: Duration = Duration::from_secs(10);
const VALUE: [u8; 100] = [7; 100];
/// Deliveries of which a sender does not know the outcome; more than the pool has room for.
const HELD_MAX: usize = 400_000;

const COLLECT: Duration = Duration::from_millis(20);
const POOL: usize = 16 << 20;

/// Records that each partition acknowledged.
type Counts = BTreeMap<i32, u64>;

pub fn measure(stage: &Stage) {
    let paced = Some(Pace { records: 100, every: Duration::from_millis(10) });
    for (what, pace) in [("10,000/s each", paced), ("as fast as they can", None)] {
        without_key(stage, what, pace);
        one_for_each_broker(stage, what, pace);
    }
}

fn fall_silent(proxy: &Proxy) {
    proxy.welcome(Welcome::Silent);
    proxy.script(|_| Act::Mute);
}

fn heal(proxy: &Proxy) {
    proxy.welcome(Welcome::Forward);
    proxy.clear();
    proxy.cut_all();
}

fn without_key(stage: &Stage, what: &str, pace: Option<Pace>) {
    let senders = [None, None, None];
    let (before, during) = run(stage, &senders, pace);
    let all = |counts: &Counts| counts.values().sum::<u64>() as f64 / SPAN.as_secs_f64();
    let others = |counts: &Counts| all(counts) - silent_share(counts);
    println!(
        "three senders without key, {what}: {:.0}/s before ({:.0} of them to the others), {:.0}/s \
         to the others during: {:.0} % of theirs, {:.0} % of all",
        all(&before),
        others(&before),
        others(&during),
        100.0 * others(&during) / others(&before),
        100.0 * others(&during) / all(&before)
    );
}

fn one_for_each_broker(stage: &Stage, what: &str, pace: Option<Pace>) {
    // Partition n is led by broker n + 1.
    let senders = [Some(0), Some(1), Some(2)];
    let (before, during) = run(stage, &senders, pace);
    for partition in 0..3 {
        let rate = |counts: &Counts| {
            counts.get(&partition).copied().unwrap_or(0) as f64 / SPAN.as_secs_f64()
        };
        println!(
            "a sender for each broker, {what}: broker {}: {:.0}/s before, {:.0}/s during: {:.0} %",
            partition + 1,
            rate(&before),
            rate(&during),
            100.0 * rate(&during) / rate(&before)
        );
    }
}

/// Records a second of the broker that falls silent.
fn silent_share(counts: &Counts) -> f64 {
    let led = counts.iter().filter(|(partition, _)| *partition % 3 + 1 == SILENT);
    led.map(|(_, count)| *count as f64).sum::<f64>() / SPAN.as_secs_f64()
}

/// What was acknowledged in a span before the broker falls silent, and in one after.
fn run(stage: &Stage, senders: &[Option<i32>], pace: Option<Pace>) -> (Counts, Counts) {
    let topic = stage.topic("blackhole", PARTITIONS);
    spread(&stage.cluster, &topic, 0);
    stage.cluster.wait_in_sync(&topic);
    let producer = stage.proxied_producer(|builder| builder.buffer_memory(POOL));
    let handle = producer.topic(&topic).expect("a legal name");
    let proxy = &stage.proxies[SILENT as usize - 1];
    let stop = AtomicBool::new(false);
    let counts = Mutex::new(Counts::new());
    let mut spans = Vec::new();
    thread::scope(|scope| {
        for &partition in senders {
            let (handle, stop, counts) = (&handle, &stop, &counts);
            scope.spawn(move || send(handle, partition, pace, stop, counts));
        }
        let mut span = |silent: bool| {
            if silent {
                fall_silent(proxy);
                // Until then a third of the records without key goes there.
                assert!(wait_until(LIMIT, || !is_writable(&producer)), "it takes everything");
            }
            thread::sleep(WARM_UP);
            counts.lock().expect("no holder panics").clear();
            thread::sleep(SPAN);
            spans.push(std::mem::take(&mut *counts.lock().expect("no holder panics")));
            print_levels(&producer);
        };
        span(false);
        span(true);
        stop.store(true, Ordering::Relaxed);
        heal(proxy);
    });
    stage::close(&producer);
    let during = spans.pop().expect("there were two spans");
    (spans.pop().expect("there were two spans"), during)
}

fn is_writable(producer: &Producer) -> bool {
    producer.broker_levels().iter().all(|level| level.broker != SILENT || level.writable)
}

fn print_levels(producer: &Producer) {
    for level in producer.broker_levels() {
        println!(
            "  broker {}: {} KiB queued, low {} high {} KiB, {}",
            level.broker,
            level.charged / 1024,
            level.low / 1024,
            level.high / 1024,
            if level.writable { "writable" } else { "not writable" }
        );
    }
}

/// Sends until told to stop, and counts what is acknowledged, in whatever order.
fn send(
    topic: &Topic,
    partition: Option<i32>,
    pace: Option<Pace>,
    stop: &AtomicBool,
    counts: &Mutex<Counts>,
) {
    let mut held: Vec<Delivery> = Vec::new();
    let (mut due, mut collected) = (Instant::now(), Instant::now());
    let burst = pace.map_or(1_000, |pace| pace.records);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..burst {
            let mut record = Record::new().value(&VALUE);
            if let Some(partition) = partition {
                record = record.partition(partition);
            }
            held.push(topic.send_record(record).expect("parked until there is room"));
        }
        if collected.elapsed() >= COLLECT {
            collect(&mut held, counts);
            collected = Instant::now();
        }
        if let Some(pace) = pace {
            due = (due + pace.every).max(Instant::now() - Duration::from_millis(100));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        assert!(held.len() < HELD_MAX, "{} unresolved", held.len());
    }
    for delivery in held {
        delivery.wait().expect("acknowledged after the silence");
    }
}

fn collect(held: &mut Vec<Delivery>, counts: &Mutex<Counts>) {
    let mut own = Counts::new();
    held.retain_mut(|delivery| match delivery.try_take() {
        None => true,
        Some(outcome) => {
            let at = outcome.expect("nothing expires");
            *own.entry(at.partition()).or_default() += 1;
            false
        }
    });
    let mut counts = counts.lock().expect("no holder panics");
    for (partition, count) in own {
        *counts.entry(partition).or_default() += count;
    }
}
