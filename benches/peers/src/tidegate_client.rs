//! tidegate, at its defaults: a `Delivery` per record, each resolved and dropped in order.

use std::collections::VecDeque;
use std::error::Error;

use tidegate::{Delivery, Producer, ProducerConfig, Record, SendError, Topic};

use crate::measure::{Measured, Stopwatch};
use crate::settings::{BUFFER_BYTES, Random, Settings, Spread, TOPIC};

/// Sends between two looks at the oldest deliveries.
const LOOK_EVERY: u64 = 256;

pub fn run(settings: &Settings, bootstrap: &str) -> Result<Measured, Box<dyn Error>> {
    let mut properties = vec![
        ("bootstrap.servers".to_owned(), bootstrap.to_owned()),
        ("buffer.memory".to_owned(), BUFFER_BYTES.to_string()),
    ];
    properties.extend(settings.encryption());
    properties.extend(settings.set_tidegate.iter().cloned());
    let producer = Producer::from_config(ProducerConfig::from_properties(properties)?)?;
    let topic = producer.topic(TOPIC)?;
    for partition in 0..settings.partitions as i32 {
        topic.send_record(Record::new().value("warm-up").partition(partition))?.wait()?;
    }
    let stopwatch = Stopwatch::start();
    let (acked, errors) = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..settings.threads)
            .map(|index| {
                let topic = topic.clone();
                scope.spawn(move || send(settings, &topic, index))
            })
            .collect();
        let mine = send(settings, &topic, 0);
        threads.into_iter().fold(mine, |sum, thread| {
            let (acked, errors) = thread.join().expect("a sending thread does not panic");
            (sum.0 + acked, sum.1 + errors)
        })
    });
    Ok(stopwatch.stop(acked, errors))
}

/// Sends one thread's share; returns acknowledged and failed records.
fn send(settings: &Settings, topic: &Topic, index: usize) -> (u64, u64) {
    let value = settings.value();
    let value = value.as_slice();
    let mut random = Random::new(index as u64 + 1);
    let partitions = settings.partitions as u32;
    let mut backlog = Backlog::new(settings.backlog);
    let records = settings.share(index);
    match settings.spread {
        Spread::Sticky => backlog.fill(records, || topic.send((), value)),
        Spread::Random => backlog.fill(records, || {
            let partition = random.below(partitions) as i32;
            topic.send_record(Record::new().value(value).partition(partition))
        }),
    }
    backlog.finish()
}

/// Deliveries in the order of their records.
struct Backlog {
    deliveries: VecDeque<Delivery>,
    max: usize,
    acked: u64,
    errors: u64,
}

impl Backlog {
    fn new(max: usize) -> Self {
        Backlog { deliveries: VecDeque::with_capacity(max), max, acked: 0, errors: 0 }
    }

    fn fill(&mut self, records: u64, mut send: impl FnMut() -> Result<Delivery, SendError>) {
        for n in 0..records {
            match send() {
                Ok(delivery) => self.deliveries.push_back(delivery),
                Err(_) => self.errors += 1,
            }
            if n % LOOK_EVERY == 0 || self.deliveries.len() == self.max {
                self.take_resolved();
            }
        }
    }

    fn take_resolved(&mut self) {
        while let Some(oldest) = self.deliveries.front_mut() {
            match oldest.try_take() {
                Some(outcome) => self.count(outcome.is_ok()),
                None if self.deliveries.len() < self.max => return,
                None => self.wait_for_oldest(),
            }
        }
    }

    fn count(&mut self, ok: bool) {
        match ok {
            true => self.acked += 1,
            false => self.errors += 1,
        }
        self.deliveries.pop_front();
    }

    fn wait_for_oldest(&mut self) {
        if let Some(oldest) = self.deliveries.pop_front() {
            match oldest.wait() {
                Ok(_) => self.acked += 1,
                Err(_) => self.errors += 1,
            }
        }
    }

    fn finish(mut self) -> (u64, u64) {
        while !self.deliveries.is_empty() {
            self.wait_for_oldest();
            self.take_resolved();
        }
        (self.acked, self.errors)
    }
}
