//! librdkafka as most Rust programs that care for speed use it: `rdkafka`'s `ThreadedProducer`,
//! which polls on a thread of its own.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};

use crate::measure::{Measured, Stopwatch};
use crate::native::properties;
use crate::settings::{Random, Settings, Spread, TOPIC};

/// How long a thread sleeps when the queue is full, or for the last reports.
const PAUSE: Duration = Duration::from_micros(500);

#[derive(Clone, Default)]
struct Reports(Arc<(AtomicU64, AtomicU64)>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let (acked, errors) = &*self.0;
        match result {
            Ok(_) => acked.fetch_add(1, Ordering::Release),
            Err(_) => errors.fetch_add(1, Ordering::Release),
        };
    }
}

impl Reports {
    fn counts(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::Acquire), self.0.1.load(Ordering::Acquire))
    }

    fn wait_for(&self, sum: u64) {
        while self.counts().0 + self.counts().1 < sum {
            std::thread::sleep(PAUSE);
        }
    }
}

pub fn run(settings: &Settings, bootstrap: &str) -> Result<Measured, Box<dyn Error>> {
    let mut config = ClientConfig::new();
    for (name, value) in properties(settings, bootstrap) {
        config.set(name, value);
    }
    let reports = Reports::default();
    let producer: ThreadedProducer<Reports> = config.create_with_context(reports.clone())?;
    for partition in 0..settings.partitions {
        send(&producer, partition, b"warm-up");
    }
    let warm = settings.partitions as u64;
    reports.wait_for(warm);
    let stopwatch = Stopwatch::start();
    let refused: u64 = std::thread::scope(|scope| {
        let producer = &producer;
        let others: Vec<_> = (1..settings.threads)
            .map(|index| scope.spawn(move || send_share(settings, producer, index)))
            .collect();
        let mine = send_share(settings, producer, 0);
        others
            .into_iter()
            .fold(mine, |sum, thread| sum + thread.join().expect("a sending thread does not panic"))
    });
    reports.wait_for(warm + settings.records - refused);
    let (acked, errors) = reports.counts();
    Ok(stopwatch.stop(acked - warm, errors + refused))
}

fn send_share(settings: &Settings, producer: &ThreadedProducer<Reports>, index: usize) -> u64 {
    let value = settings.value();
    let mut random = Random::new(index as u64 + 1);
    let partitions = settings.partitions as u32;
    let mut refused = 0;
    for n in 0..settings.share(index) {
        let partition = match settings.spread {
            Spread::Sticky => (n / settings.call as u64 + index as u64) as u32 % partitions,
            Spread::Random => random.below(partitions),
        };
        refused += u64::from(!send(producer, partition as i32, &value));
    }
    refused
}

/// Returns whether the record was taken; sleeps while the queue is full.
fn send(producer: &ThreadedProducer<Reports>, partition: i32, value: &[u8]) -> bool {
    let mut record = BaseRecord::<(), [u8]>::to(TOPIC).payload(value).partition(partition);
    loop {
        match producer.send(record) {
            Ok(()) => return true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(PAUSE);
            }
            Err(_) => return false,
        }
    }
}
