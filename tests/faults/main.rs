//! Faults on the way to brokers, and brokers that are broken or hostile: what a user sees of them.
//! Names begin with the number of the fault (`f14_…`) or of the rule (`c26_…`).
//!
//! Embedded brokers stand behind proxies that know Kafka's frames (`support/proxy`), and advertise
//! them.

mod brokers;
mod clusters;
mod cuts;
mod handshakes;
mod limits;
// What names lead to can be set with the feature `internals` only.
#[cfg(feature = "internals")]
mod names;
mod recovery;
mod slow;
mod stage;
mod wire;

#[path = "../support/proxy/mod.rs"]
mod proxy;

use std::time::{Duration, Instant};

use tidegate::{
    Certainty, Delivery, DeliveryError, Producer, ProducerBuilder, Record, RecordMetadata, Topic,
};

use proxy::{Act, Direction, Frame, Proxy, Random, Seen, Welcome, api, rewrite};
use stage::{Sent, Stage, quick, send};

/// Longer than anything that works takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(30);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What became of a delivery, which must not take for ever.
fn outcome(mut delivery: Delivery) -> Result<RecordMetadata, DeliveryError> {
    delivery.wait_timeout(2 * LONG).expect("every delivery resolves")
}

fn acked(delivery: Delivery) -> RecordMetadata {
    outcome(delivery).unwrap()
}

fn failed(delivery: Delivery) -> DeliveryError {
    outcome(delivery).expect_err("this delivery must fail")
}

fn to(partition: i32, value: &str) -> Record<'_> {
    Record::new().value(value).partition(partition)
}

/// Sends to each partition and waits for it, so that topic and leaders are known afterwards.
fn warm(topic: &Topic, partitions: i32) {
    for partition in 0..partitions {
        acked(topic.send_record(to(partition, &format!("warm {partition}"))).unwrap());
    }
}
